//! What messages of name servers say, and the system's list of name servers.

use crate::wire::PORT;
use domain::base::Message;
use domain::base::iana::Rcode;
use domain::rdata::{A, Aaaa, Txt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Name servers taken from the system's configuration, as by its own resolver.
const SYSTEM_SERVERS: usize = 3;

/// The answer to a question.
#[derive(Debug, Clone)]
pub struct Answer(Message<Vec<u8>>);

impl Answer {
    /// Reads a message; `None` if it is not the answer to `question`, and may be a forgery.
    pub fn read(bytes: Vec<u8>, question: &[u8]) -> Option<Self> {
        let answer = Message::from_octets(bytes).ok()?;
        let question = Message::from_octets(question).ok()?;
        answer.is_answer(&question).then_some(Self(answer))
    }

    /// Whether there is more than fits a datagram.
    pub fn is_truncated(&self) -> bool {
        self.0.header().tc()
    }

    /// Whether it says yes or no.
    ///
    /// # Errors
    /// What it says instead.
    pub fn settles(&self) -> Result<(), Rcode> {
        match self.0.header().rcode() {
            Rcode::NOERROR | Rcode::NXDOMAIN => Ok(()),
            other => Err(other),
        }
    }

    /// Addresses of the answer section.
    ///
    /// # Errors
    /// There is no such section.
    pub fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let records = self.0.answer().map_err(io::Error::other)?;
        let v6 = records.limit_to_in::<Aaaa>().flatten().map(|r| IpAddr::V6(r.data().addr()));
        let v4 = records.limit_to_in::<A>().flatten().map(|r| IpAddr::V4(r.data().addr()));
        Ok(v6.chain(v4).collect())
    }

    /// The port of the first usable CDSR attribute, and how long it holds.
    pub fn attribute(&self) -> Option<(u16, Duration)> {
        self.0.answer().ok()?.limit_to_in::<Txt<_>>().flatten().find_map(|record| {
            let port = attribute(&record.data().text::<Vec<u8>>())?;
            Some((port, Duration::from_secs(u64::from(record.ttl().as_secs()))))
        })
    }
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
pub fn system_servers(resolv_conf: &str) -> Vec<SocketAddr> {
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
