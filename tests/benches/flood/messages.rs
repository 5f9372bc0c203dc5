//! What clients and floods ask for: names and URLs of the reference network at its first VIP.

use anyhow::{Result, ensure};
use redirector_core::wire::cdsr;
use redirector_plan::model::{DnsAnswer, Grammar, Network, Zone};
use redirector_tests::frames::Flow;
use redirector_tests::generate::Random;
use redirector_tests::questions::{COOKIE, CdsrRequest, DnsQuery, Edns, name_of, rr, server_cookie};
use redirector_tests::slow::DNS_PORT;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

/// A type that the fast path leaves to the slow path (RFC 8659).
const CAA: u16 = 257;
/// An extension of CDSR that nobody knows and nobody has to, which the fast path leaves to the slow path.
const EXTENSION: [u8; 8] = [0, 1, 0, 4, b'e', b'a', b's', b'y'];

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// A plain query for a server's address.
    A,
    /// The same with EDNS.
    Edns,
    /// The same with a client's cookie, which asks for a server cookie.
    ClientCookie,
    /// The same with the server cookie of its sender.
    ServerCookie,
    /// A query for a name that does not exist, another one each time.
    Absent,
    /// A query for what only the slow path answers, with records: a zone's SOA.
    Soa,
    /// Queries that only the slow path answers: SOA, and a type for which there is nothing.
    Punted,
    /// A CDSR request.
    Cdsr,
    /// One in a form that only the slow path takes.
    PuntedCdsr,
}

impl Message {
    /// Port of its protocol at the box.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Cdsr | Self::PuntedCdsr => cdsr::PORT,
            _ => DNS_PORT,
        }
    }
}

/// What there is to ask for.
pub(crate) struct Names {
    key: [u8; 16],
    vip: Ipv4Addr,
    zone: String,
    /// Hosts that are answered with a server's address, and their URLs.
    hosts: Vec<(String, String)>,
}

impl Names {
    pub(crate) fn new(network: &Network) -> Result<Self> {
        let vip = &network.vips[0];
        let zones = network.zones.iter().filter(|zone| zone.cdn == vip.cdn);
        let names: Vec<(&Zone, &Grammar)> =
            zones.flat_map(|zone| zone.grammars.iter().map(move |grammar| (zone, grammar))).collect();
        let hosts: Vec<(String, String)> = names
            .iter()
            .filter(|(_, grammar)| network.services[grammar.service].dns == DnsAnswer::Server)
            .map(|(zone, grammar)| (name_of(zone, grammar), url(network, zone, grammar)))
            .collect();
        ensure!(!hosts.is_empty(), "no names at the first VIP");
        let zone = names[0].0.suffix.join(".");
        Ok(Self { key: network.key, vip: vip.ipv4[0], zone, hosts })
    }

    /// From a client to the VIP.
    pub(crate) fn flow(&self, client: SocketAddr, message: Message) -> Flow {
        Flow { client, vip: SocketAddr::new(self.vip.into(), message.port()) }
    }

    /// A message with this number, from this client.
    pub(crate) fn message(
        &self,
        message: Message,
        number: u16,
        client: Ipv4Addr,
        random: &mut Random,
    ) -> Vec<u8> {
        let (host, url) = &self.hosts[random.below(self.hosts.len())];
        let dns = |name: &str, qtype| DnsQuery { id: number, ..DnsQuery::new(name, qtype) }.encode();
        let cookie = random.bits().to_be_bytes();
        match message {
            Message::A => self.plain(host, number),
            Message::Edns | Message::ClientCookie | Message::ServerCookie => {
                self.edns(host, message, number, client, cookie)
            }
            Message::Absent => {
                dns(&format!("o.web.n{:010x}.{}", random.bits() & 0xff_ffff_ffff, self.zone), rr::A)
            }
            Message::Soa => dns(&self.zone, rr::SOA),
            Message::Punted if random.below(2) == 0 => dns(&self.zone, rr::SOA),
            Message::Punted => dns(host, CAA),
            Message::Cdsr => CdsrRequest { nonce: number.into(), ..CdsrRequest::new(url) }.encode(),
            Message::PuntedCdsr => {
                let extensions = EXTENSION.to_vec();
                CdsrRequest { nonce: number.into(), extensions, ..CdsrRequest::new(url) }.encode()
            }
        }
    }

    /// A query for A.
    pub(crate) fn plain(&self, host: &str, id: u16) -> Vec<u8> {
        DnsQuery { id, ..DnsQuery::new(host, rr::A) }.encode()
    }

    /// The same with EDNS.
    pub(crate) fn edns(
        &self,
        host: &str,
        message: Message,
        id: u16,
        client: Ipv4Addr,
        cookie: [u8; 8],
    ) -> Vec<u8> {
        let edns = Edns::new(false);
        let edns = match message {
            Message::ClientCookie => edns.option(COOKIE, &cookie),
            Message::ServerCookie => {
                let server = server_cookie(self.key, cookie, unix_seconds(), client.into());
                edns.option(COOKIE, &[&cookie[..], &server].concat())
            }
            _ => edns,
        };
        DnsQuery { id, ..DnsQuery::new(host, rr::A) }.edns(edns).encode()
    }

    /// A host of a rule that takes any first label, with one of so many letters.
    pub(crate) fn host(&self, letters: usize) -> Result<String> {
        let (host, _) = &self.hosts[0];
        let rest = host.split_once('.').map(|(_, rest)| rest);
        ensure!(rest.is_some_and(|rest| rest.starts_with("web.")), "{host} has no free label");
        Ok(format!("{}.{}", "o".repeat(letters), rest.unwrap_or_default()))
    }
}

fn url(network: &Network, zone: &Zone, grammar: &Grammar) -> String {
    let rule = &network.urls[grammar.service];
    let scheme = if rule.schemes.http { "http" } else { "rtsp" };
    let path: String = rule.path.iter().map(|segment| format!("/{segment}")).collect();
    format!("{scheme}://{}{path}/1.m3u8", name_of(zone, grammar))
}

fn unix_seconds() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()) as u32
}
