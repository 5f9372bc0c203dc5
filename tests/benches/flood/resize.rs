//! How often a frame from a socket cannot grow on a virtual Ethernet interface (`punt-resize`).

use crate::clients::CPU;
use crate::daemon::Daemon;
use crate::ends::{Network, stay_on};
use crate::messages::{Message, Names};
use anyhow::{Context as _, Result, ensure};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Who asks.
const CLIENT: Ipv4Addr = Ipv4Addr::new(11, 22, 33, 44);
/// Lengths of a label: all that there are.
const LETTERS: std::ops::RangeInclusive<usize> = 1..=63;
/// Queries of each length.
const TIMES: u16 = 4;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
const MESSAGES: [(&str, Message); 4] = [
    ("DNS A", Message::A),
    ("DNS A, EDNS", Message::Edns),
    ("DNS A, client cookie", Message::ClientCookie),
    ("DNS A, server cookie", Message::ServerCookie),
];

/// What was seen of one kind of query.
pub(crate) struct Resize {
    pub(crate) name: &'static str,
    /// Bytes that an answer is longer than its query.
    pub(crate) added: usize,
    pub(crate) asked: u64,
    /// Of them left to the daemon for want of room.
    pub(crate) punted: u64,
}

/// Asks from a socket with names of all lengths; every query must be answered.
pub(crate) fn measure(network: &Network, daemon: &Daemon, names: &Names) -> Result<Vec<Resize>> {
    let count = || Ok::<_, anyhow::Error>(daemon.reasons()?.get("punt-resize").copied().unwrap_or(0));
    let measured = MESSAGES.map(|(name, message)| {
        let before = count()?;
        let (asked, added) = network.clients.within(|| ask(names, message)).context(name)?;
        Ok(Resize { name, added, asked, punted: count()? - before })
    });
    measured.into_iter().collect()
}

/// Asks for names of all lengths: how many, and what an answer adds.
fn ask(names: &Names, message: Message) -> Result<(u64, usize)> {
    stay_on(CPU)?;
    let socket = UdpSocket::bind((CLIENT, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(names.flow(SocketAddr::new(CLIENT.into(), 0), message).vip)?;
    let (mut asked, mut added) = (0, 0);
    for id in 0..TIMES {
        for letters in LETTERS {
            let host = names.host(letters)?;
            let query = match message {
                Message::A => names.plain(&host, id),
                _ => names.edns(&host, message, id, CLIENT, *b"a client"),
            };
            socket.send(&query)?;
            let mut reply = [0; 2048];
            let length = socket.recv(&mut reply).with_context(|| format!("{letters} letters"))?;
            ensure!(
                reply[3] & 15 == 0 && reply[7] > 0,
                "an answer without records: {:02x?}",
                &reply[..length]
            );
            (asked, added) = (asked + 1, length - query.len());
        }
    }
    Ok((asked, added))
}
