//! What DNS tells about a host: its addresses, and whether they speak CDSR (section 11.2 of the protocol).

pub mod answer;

use crate::random;
use crate::wire::PORT;
use answer::{Answer, system_servers};
use domain::base::{MessageBuilder, Name, Rtype};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

/// Wait for one answer.
const WAIT: Duration = Duration::from_secs(1);
/// Queries for one question, over all name servers.
const TRIES: usize = 2;
/// UDP size offered by EDNS.
const UDP_SIZE: u16 = 1232;
/// How long the lack of a record is remembered.
const NEGATIVE: Duration = Duration::from_secs(60);

/// Where names are looked up.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    /// None: the system's way for addresses, the name servers of `/etc/resolv.conf` for the rest.
    servers: Vec<SocketAddr>,
}

impl Resolver {
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// Addresses of a host, in the order they were given.
    ///
    /// # Errors
    /// It has none, or nobody can tell.
    pub(crate) fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let given: Vec<IpAddr> = if self.servers.is_empty() {
            (host, PORT).to_socket_addrs()?.map(|a| a.ip()).collect()
        } else {
            self.queried_addresses(host)?
        };
        let mut addresses = Vec::new();
        for address in given {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no address record"));
        }
        Ok(addresses)
    }

    fn queried_addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let name = name(host)?;
        let mut addresses = Vec::new();
        for rtype in [Rtype::AAAA, Rtype::A] {
            addresses.extend(query(&self.servers, &name, rtype)?.addresses()?);
        }
        Ok(addresses)
    }

    /// The port at which the host's addresses speak CDSR, if its TXT record says so, and how long that holds.
    pub(crate) fn cdsr_port(&self, host: &str) -> (Option<u16>, Duration) {
        let system;
        let servers = if self.servers.is_empty() {
            system = system_servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
            &system
        } else {
            &self.servers
        };
        let found = name(&format!("_cdsr.{host}"))
            .and_then(|name| query(servers, &name, Rtype::TXT))
            .ok()
            .and_then(|answer| answer.attribute());
        found.map_or((None, NEGATIVE), |(port, ttl)| (Some(port), ttl))
    }
}

fn name(text: &str) -> io::Result<Name<Vec<u8>>> {
    Name::vec_from_str(text).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))
}

/// Asks one name server after the other for an answer that says yes or no.
fn query(servers: &[SocketAddr], name: &Name<Vec<u8>>, rtype: Rtype) -> io::Result<Answer> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for server in servers.iter().cycle().take(TRIES.max(servers.len())) {
        let until = Instant::now() + WAIT;
        let answer = question(name, rtype).and_then(|question| {
            let answer = over_udp(*server, &question, until)?;
            if answer.is_truncated() { over_tcp(*server, &question, until) } else { Ok(answer) }
        });
        match answer.map(|answer| answer.settles().map(|()| answer)) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(code)) => last = io::Error::other(format!("name server {server}: {code}")),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn question(name: &Name<Vec<u8>>, rtype: Rtype) -> io::Result<Vec<u8>> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(random::number()? as u16); // any 16 of its bits
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((name, rtype)).map_err(io::Error::other)?;
    let mut message = message.additional();
    message
        .opt(|opt| {
            opt.set_udp_payload_size(UDP_SIZE);
            Ok(())
        })
        .map_err(io::Error::other)?;
    Ok(message.finish())
}

fn over_udp(server: SocketAddr, question: &[u8], until: Instant) -> io::Result<Answer> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = vec![0; usize::from(UDP_SIZE)];
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        let len = socket.recv(&mut buffer)?;
        // Whatever is not the answer may be a forgery: the wait goes on.
        if let Some(answer) = Answer::read(buffer[..len].to_vec(), question) {
            return Ok(answer);
        }
    }
}

fn over_tcp(server: SocketAddr, question: &[u8], until: Instant) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.set_read_timeout(Some(left(until)?))?;
    // A question has a name, a type and EDNS: under 300 bytes.
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    Answer::read(answer, question)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the answer to the question"))
}

/// Time until `until`.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
