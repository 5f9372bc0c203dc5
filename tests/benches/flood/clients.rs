//! The clients: what they ask, at a calm pace, and what becomes of it.
//!
//! Their queries go among the flood's frames, one for each; the replies reach real sockets. A truncated answer sends a
//! client to TCP, from the same address.

use crate::ends::stay_on;
use crate::floods::{address, prefixes};
use crate::messages::{Message, Names};
use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use redirector_tests::generate::Random;
use redirector_tests::questions::CdsrReply;
use redirector_tests::slow::DNS_PORT;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// What clients ask, by the order of their ports.
pub(crate) const KINDS: [(&str, Message); 5] = [
    ("DNS A", Message::A),
    ("DNS A, server cookie", Message::ServerCookie),
    ("CDSR", Message::Cdsr),
    ("DNS, slow path", Message::Soa),
    ("CDSR, slow path", Message::PuntedCdsr),
];
/// Kinds from this one on are answered by the daemon.
pub(crate) const SLOW: usize = 3;
/// Their /24, which take turns.
const PREFIXES: usize = 64;
/// Queries of all clients together, in a second.
pub(crate) const PACE: usize = 2000;
/// Port of the first kind.
const FIRST_PORT: u16 = 40_000;
/// The CPU of clients and daemon.
pub(crate) const CPU: usize = 1;
/// Connections at a time.
const WORKERS: usize = 8;
/// How long a connection or an answer over it may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the end is looked for.
const TICK: u8 = 10;

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fate {
    /// Nothing came.
    #[default]
    Silence,
    /// The answer.
    Answer,
    /// A truncated one, and nothing by TCP.
    Truncated,
    /// A truncated one, and then the answer by TCP.
    ByTcp,
    /// CDSR: to be asked again later.
    Later,
    /// Another answer than there should be.
    Wrong,
}

/// One query.
struct Query {
    kind: usize,
    client: Ipv4Addr,
    vip: SocketAddr,
    payload: Vec<u8>,
}

/// All of one period.
pub(crate) struct Clients {
    /// Upper 24 bits of the addresses.
    pub(crate) prefixes: Vec<u32>,
    queries: Vec<Query>,
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Clients {
    /// So many queries, at most 65536, of all kinds in turn.
    pub(crate) fn new(names: &Names, count: usize) -> Result<Self> {
        ensure!(count <= 1 << 16, "{count} queries cannot all have numbers");
        let mut random = Random::new(5);
        let prefixes = prefixes(&mut random, PREFIXES, &[]);
        let (mut queries, mut frames) = (Vec::new(), Vec::new());
        for number in 0..count {
            let kind = number % KINDS.len();
            let client = address(prefixes[number / KINDS.len() % PREFIXES], &mut random);
            let message = KINDS[kind].1;
            let payload = names.message(message, number as u16, client, &mut random);
            let flow = names.flow(SocketAddr::new(client.into(), FIRST_PORT + kind as u16), message);
            frames.push(flow.frame(&payload));
            queries.push(Query { kind, client, vip: flow.vip, payload });
        }
        Ok(Self { prefixes, queries, frames })
    }

    /// Has sockets take the replies until `end`; gives what became of each query, with its kind.
    pub(crate) fn listen(&self, end: &AtomicBool) -> Result<Vec<(usize, Fate)>> {
        stay_on(CPU)?;
        let sockets = (0..KINDS.len() as u16).map(|kind| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, FIRST_PORT + kind))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let sockets: Vec<UdpSocket> = sockets.collect::<Result<_>>()?;
        let fates = Mutex::new(vec![Fate::default(); self.queries.len()]);
        let (refused, queue) = mpsc::channel::<usize>();
        let queue = Mutex::new(queue);
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    while let Ok(number) = next() {
                        if self.queries.get(number).is_some_and(|query| query.by_tcp().unwrap_or(false)) {
                            note(&fates, number, Fate::ByTcp);
                        }
                    }
                });
            }
            while !end.load(Ordering::Relaxed) {
                let mut waiting: Vec<PollFd<'_>> =
                    sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
                poll(&mut waiting, PollTimeout::from(TICK))?;
                for (kind, socket) in sockets.iter().enumerate() {
                    self.take(kind, socket, &fates, &refused);
                }
            }
            // The workers end with the queue.
            drop(refused);
            anyhow::Ok(())
        })?;
        let fates = fates.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(self.queries.iter().zip(fates).map(|(query, fate)| (query.kind, fate)).collect())
    }

    /// Takes what has come to a socket.
    fn take(&self, kind: usize, socket: &UdpSocket, fates: &Mutex<Vec<Fate>>, refused: &mpsc::Sender<usize>) {
        let mut reply = [0; 2048];
        while let Ok(length) = socket.recv(&mut reply) {
            let (number, fate) = read(KINDS[kind].1, &reply[..length]).unwrap_or((0, Fate::Wrong));
            note(fates, number, fate);
            if fate == Fate::Truncated {
                // Those who take them live as long as this loop.
                let _ = refused.send(number);
            }
        }
    }
}

fn note(fates: &Mutex<Vec<Fate>>, number: usize, fate: Fate) {
    if let Some(noted) = fates.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
        *noted = fate;
    }
}

/// Number and meaning of a reply.
fn read(message: Message, reply: &[u8]) -> Option<(usize, Fate)> {
    if message.port() == DNS_PORT {
        let number = u16::from_be_bytes([*reply.first()?, *reply.get(1)?]);
        let (flags, rcode, answers) = (*reply.get(2)?, *reply.get(3)? & 15, *reply.get(7)?);
        let fate = match (flags & 2 != 0, rcode, answers) {
            (true, ..) => Fate::Truncated,
            (false, 0, 1..) => Fate::Answer,
            _ => Fate::Wrong,
        };
        return Some((number.into(), fate));
    }
    let reply = CdsrReply::read(reply).ok()?;
    let fate = match (reply.status, reply.endpoints.len()) {
        (0, 1..) => Fate::Answer,
        (2, _) => Fate::Later,
        _ => Fate::Wrong,
    };
    Some((reply.nonce as usize, fate))
}

impl Query {
    /// Asks by TCP; whether the answer came.
    fn by_tcp(&self) -> Result<bool> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(self.client.into(), 0).into())?;
        socket.connect_timeout(&self.vip.into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = u16::try_from(self.payload.len()).context("a long query")?;
        stream.write_all(&[&length.to_be_bytes()[..], &self.payload].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply)?;
        Ok(read(KINDS[self.kind].1, &reply).is_some_and(|(_, fate)| fate == Fate::Answer))
    }
}
