//! Traffic that goes on while something happens to the box.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{Lab, config::SERVER_NAME};
use crate::questions::{DnsQuery, rr};

/// How long an answer may take; without one the query counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a run of queries saw, one after another.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Queries.
    pub sent: u32,
    /// Queries without an answer.
    pub lost: u32,
    /// Address and TTL answered, and when the query for them was sent.
    pub answers: Vec<((IpAddr, u32), Instant)>,
}

/// Asks from the client in France for [`SERVER_NAME`], a new query as soon as the last is answered, while `action` runs.
///
/// # Errors
/// If an answer is not one address for that query, or the client's namespace cannot be entered.
pub fn during<T>(lab: &Lab, vip: SocketAddr, action: impl FnOnce() -> T) -> Result<(Traffic, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| lab.within("c-fr", || ask(vip, &stop))?);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
        // Before anything else: the scope waits for the thread, whatever happened.
        stop.store(true, Ordering::Relaxed);
        let traffic = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((traffic, done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    })
}

fn ask(vip: SocketAddr, stop: &AtomicBool) -> Result<Traffic> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut traffic = Traffic::default();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let id = traffic.sent as u16;
        socket.send_to(&DnsQuery { id, ..DnsQuery::new(SERVER_NAME, rr::A) }.encode(), vip)?;
        traffic.sent += 1;
        let mut reply = [0; 512];
        // A refused port shows as an error here, and is as good as silence.
        let Ok(length) = socket.recv(&mut reply) else {
            traffic.lost += 1;
            continue;
        };
        let reply = &reply[..length];
        ensure!(reply[..2] == id.to_be_bytes(), "an answer to another query: {reply:?}");
        ensure!(reply[3] & 15 == 0, "its RCODE is not 0: {reply:?}");
        // The only record is the last: TTL, length and address.
        let [.., t0, t1, t2, t3, 0, 4, a, b, c, d] = *reply else {
            anyhow::bail!("no address at its end: {reply:?}")
        };
        let answer = (IpAddr::from([a, b, c, d]), u32::from_be_bytes([t0, t1, t2, t3]));
        traffic.answers.push((answer, sent));
    }
    Ok(traffic)
}
