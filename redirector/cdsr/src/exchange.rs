//! One request, one reply: sending, waiting, sending again (section 10 of the protocol).

use crate::random;
use crate::wire::{MAX_DATAGRAM, Reply, Request, Status};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Timers of a transaction. The defaults are those of the protocol document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Wait for the reply to the first datagram; each further wait is twice the one before, up to [`longest`](Self::longest).
    pub first: Duration,
    /// Longest wait for one datagram.
    pub longest: Duration,
    /// Datagrams of one transaction, over all addresses.
    pub attempts: u32,
    /// Longest time from the first datagram to the result, pauses that the redirector asks for included. Name resolution
    /// comes before it.
    pub total: Duration,
    /// How long a host whose redirectors did not answer is left to its legacy protocol.
    pub silence: Duration,
    /// How long a server that failed is not chosen again while there are others.
    pub failure: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(2),
            attempts: 4,
            total: Duration::from_secs(4),
            silence: Duration::from_secs(60),
            failure: Duration::from_secs(60),
        }
    }
}

/// A reply and how it was come by.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) redirector: SocketAddr,
    pub(crate) reply: Reply,
    pub(crate) attempts: u32,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody answered in time.
    Silence,
    /// The system gave no randomness for a nonce.
    Random(io::Error),
}

impl From<getrandom::Error> for Failure {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error.into())
    }
}

/// A redirector's address within a transaction. It keeps its socket and nonce, so that a late reply to an earlier datagram
/// still counts.
struct Party {
    address: SocketAddr,
    nonce: u64,
    socket: UdpSocket,
}

impl Party {
    /// Connected, so that the kernel drops what comes from any other address or port.
    fn new(address: SocketAddr, nonce: u64) -> io::Result<Self> {
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(address)?;
        Ok(Self { address, nonce, socket })
    }

    /// Sends the request and waits until `deadline` for its reply; `Ok(None)` if none came.
    ///
    /// # Errors
    /// The address cannot be reached or refuses datagrams.
    fn ask(&self, request: &Request<'_>, deadline: Instant) -> io::Result<Option<Reply>> {
        let request = Request { nonce: self.nonce, ..*request };
        let datagram = request.encode();
        self.socket.send(&datagram)?;
        // One byte more than any reply may have shows an over-long one.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let len = match self.socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            // Garbage and forgeries are passed over; the wait for the true reply goes on.
            if let Ok(reply) = Reply::decode(&buffer[..len], &request, datagram.len(), self.address.ip()) {
                return Ok(Some(reply));
            }
        }
    }
}

/// Asks `redirectors` in turn until one gives an answer that settles the matter.
///
/// An address that cannot be reached is not asked again, nor is one that says "not mine" or does not understand; the last
/// such answer is the result if no other comes.
pub(crate) fn ask(
    redirectors: &[SocketAddr],
    request: &Request<'_>,
    timers: &Timers,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let mut parties = VecDeque::new();
    for address in redirectors {
        // A family without a route fails here.
        parties.extend(Party::new(*address, random::number()?));
    }
    let mut unhelpful = None;
    let mut wait = timers.first;
    for attempt in 1..=timers.attempts {
        let Some(party) = parties.pop_front() else { break };
        let until = deadline.min(Instant::now() + random::scaled(wait, 0.75, 1.25)?);
        match party.ask(request, until) {
            Ok(Some(reply)) => {
                let settled = !matches!(
                    reply.status,
                    Status::NotMine | Status::BadRequest | Status::VersionNotSupported
                );
                let redirector = party.address;
                let answer = Answer { redirector, reply, attempts: attempt };
                if settled {
                    return Ok(answer);
                }
                unhelpful = Some(answer);
            }
            Ok(None) => parties.push_back(party),
            Err(_unreachable) => {}
        }
        if Instant::now() >= deadline {
            break;
        }
        wait = (wait * 2).min(timers.longest);
    }
    unhelpful.ok_or(Failure::Silence)
}
