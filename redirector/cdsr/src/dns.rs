//! What DNS tells about a host: its addresses, and whether they speak CDSR (section 11.2 of the protocol).

use crate::random;
use crate::wire::PORT;
use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, Aaaa, Txt};
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
/// Name servers taken from the system's configuration, as by its own resolver.
const SYSTEM_SERVERS: usize = 3;

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
            let answer = query(&self.servers, &name, rtype)?;
            let records = answer.answer().map_err(io::Error::other)?;
            let v6 = records.limit_to::<Aaaa>().flatten().map(|r| IpAddr::V6(r.data().addr()));
            let v4 = records.limit_to::<A>().flatten().map(|r| IpAddr::V4(r.data().addr()));
            addresses.extend(v6.chain(v4));
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
            .and_then(|answer| attribute_of(&answer));
        found.map_or((None, NEGATIVE), |(port, ttl)| (Some(port), ttl))
    }
}

/// The first usable attribute of an answer.
fn attribute_of(answer: &Message<Vec<u8>>) -> Option<(u16, Duration)> {
    answer.answer().ok()?.limit_to::<Txt<_>>().flatten().find_map(|record| {
        let port = attribute(&record.data().text::<Vec<u8>>())?;
        Some((port, Duration::from_secs(u64::from(record.ttl().as_secs()))))
    })
}

/// The port of `v=cdsr1 port=2554`. Tags that are not known are passed over; the port is 2554 unless written.
fn attribute(text: &[u8]) -> Option<u16> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    if words.next() != Some("v=cdsr1") {
        return None;
    }
    match words.find_map(|word| word.strip_prefix("port=")) {
        Some(port) => port.parse().ok().filter(|p| *p != 0),
        None => Some(PORT),
    }
}

/// Name servers of a `resolv.conf`; without one, the system's resolver asks the local host.
fn system_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_ascii_whitespace().next())
        .filter_map(|address| Some(SocketAddr::new(address.parse().ok()?, 53)))
        .take(SYSTEM_SERVERS)
        .collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    servers
}

fn name(text: &str) -> io::Result<Name<Vec<u8>>> {
    Name::vec_from_str(text).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))
}

/// Asks one name server after the other for an answer that says yes or no.
fn query(servers: &[SocketAddr], name: &Name<Vec<u8>>, rtype: Rtype) -> io::Result<Message<Vec<u8>>> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for server in servers.iter().cycle().take(TRIES.max(servers.len())) {
        let until = Instant::now() + WAIT;
        let answer = question(name, rtype).and_then(|question| {
            let answer = over_udp(*server, &question, until)?;
            if answer.header().tc() { over_tcp(*server, &question, until) } else { Ok(answer) }
        });
        match answer {
            Ok(answer) if matches!(answer.header().rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) => {
                return Ok(answer);
            }
            Ok(answer) => {
                last = io::Error::other(format!("name server {server}: {}", answer.header().rcode()))
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn question(name: &Name<Vec<u8>>, rtype: Rtype) -> io::Result<Message<Vec<u8>>> {
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
    Ok(message.into_message())
}

fn over_udp(server: SocketAddr, question: &Message<Vec<u8>>, until: Instant) -> io::Result<Message<Vec<u8>>> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    socket.send(question.as_slice())?;
    let mut buffer = vec![0; usize::from(UDP_SIZE)];
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        let len = socket.recv(&mut buffer)?;
        // Whatever is not the answer may be a forgery: the wait goes on.
        if let Ok(answer) = Message::from_octets(buffer[..len].to_vec())
            && answer.is_answer(question)
        {
            return Ok(answer);
        }
    }
}

fn over_tcp(server: SocketAddr, question: &Message<Vec<u8>>, until: Instant) -> io::Result<Message<Vec<u8>>> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.set_read_timeout(Some(left(until)?))?;
    let slice = question.as_slice();
    // A question has a name, a type and EDNS: under 300 bytes.
    let mut framed = (slice.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(slice);
    stream.write_all(&framed)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    let answer = Message::from_octets(answer).map_err(io::Error::other)?;
    if !answer.is_answer(question) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "answer to another question"));
    }
    Ok(answer)
}

/// Time until `until`.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_is_read_with_and_without_port_and_with_unknown_tags() {
        assert_eq!(attribute(b"v=cdsr1 port=2554"), Some(2554));
        assert_eq!(attribute(b"v=cdsr1 color=red port=9"), Some(9));
        assert_eq!(attribute(b"v=cdsr1"), Some(2554));
        for other in
            ["v=cdsr2 port=1", "port=2554 v=cdsr1", "v=cdsr1 port=0", "v=cdsr1 port=x", "v=cdsr10", ""]
        {
            assert_eq!(attribute(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn name_servers_are_read_as_the_system_does() {
        let text = "# x\nsearch example\nnameserver 192.0.2.1\n nameserver 2001:db8::1\nnameserver x\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let servers: Vec<String> = system_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"]);
        assert_eq!(system_servers("").len(), 1);
    }
}
