//! What is asked: rings of frames about the reference network.

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use redirector_core::table::Tables;
use redirector_core::verdict::Reason;
use redirector_plan::model::{LabelRule, Network, Service, UrlRule};
use redirector_tests::agreement::Action;
use redirector_tests::frames::Flow;
use redirector_tests::generate::Random;
use redirector_tests::questions::{COOKIE, CdsrRequest, DnsQuery, Edns, rr, server_cookie};
use redirector_tests::slow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Names and clients of the hot workload.
const HOT_NAMES: usize = 1000;
const HOT_CLIENTS: usize = 200;
/// Draws for one frame before a case counts as impossible.
const DRAWS: usize = 10_000;

/// Where no VIP is.
const ELSEWHERE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 7), Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 7));

/// Which names and clients are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// A thousand names and two hundred clients: what a CPU's caches hold.
    Hot,
    /// All names and clients, uniformly.
    Random,
}

impl Keys {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Random => "random",
        }
    }

    /// Frames in the ring.
    fn frames(self) -> usize {
        match self {
            Self::Hot => 4096,
            Self::Random => 65_536,
        }
    }
}

/// What an OPT record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    /// Nothing.
    Plain,
    /// A client's cookie, as dig sends it.
    ClientCookie,
    /// That and the server cookie that it got.
    ServerCookie,
    /// A client's network, /24.
    Subnet,
}

/// What a case sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// A plain DNS query of this type.
    Dns(u16),
    /// A DNS query for A with EDNS.
    DnsEdns(Extra),
    /// For a name that no rule matches.
    DnsMiss,
    /// For so many endpoints; 124 bytes fit four.
    Cdsr(u8),
    /// DNS to an address that is no VIP.
    Elsewhere,
}

/// A kind of packet, and what must become of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    message: Message,
    v6: bool,
    pub(crate) action: Action,
    /// Frames whose answer has another reason are not in the ring.
    pub(crate) reasons: &'static [Reason],
}

const HIT: &[Reason] = &[Reason::FirstTier, Reason::LaterTier, Reason::Fallback];

const fn answered(name: &'static str, message: Message, v6: bool, reasons: &'static [Reason]) -> Case {
    Case { name, message, v6, action: Action::Transmit, reasons }
}

/// All cases, in the order of the report.
pub(crate) const CASES: &[Case] = &[
    answered("DNS A", Message::Dns(rr::A), false, HIT),
    answered("DNS A, EDNS", Message::DnsEdns(Extra::Plain), false, HIT),
    answered("DNS A, EDNS and client cookie", Message::DnsEdns(Extra::ClientCookie), false, HIT),
    answered("DNS A, EDNS and server cookie", Message::DnsEdns(Extra::ServerCookie), false, HIT),
    answered("DNS A, EDNS and client subnet", Message::DnsEdns(Extra::Subnet), false, HIT),
    answered("DNS AAAA over IPv6", Message::Dns(rr::AAAA), true, HIT),
    answered("DNS NXDOMAIN", Message::DnsMiss, false, &[Reason::NxDomain]),
    answered("DNS HTTPS (65), NODATA", Message::Dns(rr::HTTPS), false, &[Reason::NoDataType]),
    answered("CDSR, 1 endpoint", Message::Cdsr(1), false, HIT),
    answered("CDSR, 4 endpoints", Message::Cdsr(4), false, HIT),
    answered("CDSR over IPv6, 1 endpoint", Message::Cdsr(1), true, HIT),
    answered("CDSR over IPv6, 4 endpoints", Message::Cdsr(4), true, HIT),
    Case {
        name: "not for a VIP",
        message: Message::Elsewhere,
        v6: false,
        action: Action::Pass,
        reasons: &[Reason::NotVip],
    },
];

/// The source of frames about one network.
pub(crate) struct Workload<'n> {
    network: &'n Network,
    keys: Keys,
    /// Rules to ask for.
    rules: Vec<&'n UrlRule>,
    /// Client prefixes by family; of the hot workload, clients.
    prefixes: [Vec<IpNet>; 2],
    random: Random,
}

impl<'n> Workload<'n> {
    pub(crate) fn new(network: &'n Network, keys: Keys) -> Self {
        let mut random = Random::new(20_261_121);
        let mut rules: Vec<&UrlRule> = network.urls.iter().collect();
        let all = network.regions.iter().flat_map(|region| region.prefixes.iter().copied());
        let (v4, v6) = all.partition(|prefix| matches!(prefix, IpNet::V4(_)));
        let mut prefixes: [Vec<IpNet>; 2] = [v4, v6];
        if keys == Keys::Hot {
            rules = (0..HOT_NAMES).map(|_| rules[random.below(rules.len())]).collect();
            for family in &mut prefixes {
                *family = (0..HOT_CLIENTS).map(|_| client(&mut random, family).into()).collect();
            }
        }
        Self { network, keys, rules, prefixes, random }
    }

    /// The frames of a case.
    ///
    /// # Errors
    /// If the network has no such frames.
    pub(crate) fn ring<T: Tables>(&mut self, case: &Case, tables: &T) -> Result<Vec<Vec<u8>>> {
        (0..self.keys.frames()).map(|_| self.frame(case, tables)).collect()
    }

    fn frame<T: Tables>(&mut self, case: &Case, tables: &T) -> Result<Vec<u8>> {
        for _ in 0..DRAWS {
            let rule = self.rules[self.random.below(self.rules.len())];
            let flow = self.flow(case, &self.network.services[rule.service]);
            let payload = self.payload(case.message, rule, flow.client.ip());
            let fits = match slow::answer(tables, &flow, &payload) {
                Some(outcome) => case.reasons.contains(&outcome.trace.reason),
                None => case.message == Message::Elsewhere,
            };
            if fits {
                return Ok(flow.frame(&payload));
            }
        }
        None.with_context(|| format!("no frame of {DRAWS} is a case of {}", case.name))
    }

    fn flow(&mut self, case: &Case, service: &Service) -> Flow {
        let client = client(&mut self.random, &self.prefixes[usize::from(case.v6)]);
        let own: Vec<_> = self.network.vips.iter().filter(|vip| vip.cdn == service.cdn).collect();
        let vip = own[self.random.below(own.len())];
        let address = match (case.message, case.v6) {
            (Message::Elsewhere, false) => ELSEWHERE.0.into(),
            (Message::Elsewhere, true) => ELSEWHERE.1.into(),
            (_, false) => IpAddr::from(vip.ipv4[0]),
            (_, true) => IpAddr::from(vip.ipv6[0]),
        };
        let port = if matches!(case.message, Message::Cdsr(_)) {
            redirector_core::wire::cdsr::PORT
        } else {
            slow::DNS_PORT
        };
        let source = 1024 + self.random.below(64_512) as u16;
        Flow { client: SocketAddr::new(client, source), vip: SocketAddr::new(address, port) }
    }

    fn payload(&mut self, message: Message, rule: &UrlRule, sender: IpAddr) -> Vec<u8> {
        let object = self.random.below(1000);
        let service = &self.network.services[rule.service].name;
        let host = host_name(rule, object, |label| label.to_owned());
        let id = self.random.bits() as u16;
        match message {
            Message::Dns(qtype) => query(id, &host, qtype).encode(),
            Message::Elsewhere => query(id, &host, rr::A).encode(),
            Message::DnsEdns(extra) => query(id, &host, rr::A).edns(self.edns(extra, sender)).encode(),
            Message::DnsMiss => {
                let absent =
                    |label: &str| if label == service { format!("no-{label}") } else { label.to_owned() };
                query(id, &host_name(rule, object, absent), rr::A).encode()
            }
            Message::Cdsr(max_endpoints) => {
                let scheme = if rule.schemes.http { "http" } else { "rtsp" };
                let path: String = rule.path.iter().map(|segment| format!("/{segment}")).collect();
                let url = format!("{scheme}://{host}{path}/{object}.m3u8");
                let nonce = self.random.bits();
                CdsrRequest { nonce, max_endpoints, ..CdsrRequest::new(&url) }.encode()
            }
        }
    }

    fn edns(&mut self, extra: Extra, sender: IpAddr) -> Edns {
        let cookie = self.random.bits().to_be_bytes();
        let edns = Edns::new(false);
        match extra {
            Extra::Plain => edns,
            Extra::ClientCookie => edns.option(COOKIE, &cookie),
            Extra::ServerCookie => {
                let server = server_cookie(self.network.key, cookie, 0, sender);
                edns.option(COOKIE, &[&cookie[..], &server].concat())
            }
            Extra::Subnet => edns.subnet(client(&mut self.random, &self.prefixes[0]), 24),
        }
    }
}

fn query(id: u16, name: &str, qtype: u16) -> DnsQuery<'_> {
    DnsQuery { id, flags: redirector_tests::questions::RD, ..DnsQuery::new(name, qtype) }
}

/// A host that a rule matches, with its fixed labels changed by `fixed`.
fn host_name(rule: &UrlRule, object: usize, fixed: impl Fn(&str) -> String) -> String {
    let labels = rule.host.iter().map(|label| match label {
        LabelRule::Fixed(label) => fixed(label),
        LabelRule::OneOf(_, values) => values[object % values.len()].clone(),
        LabelRule::Free(_) => format!("o{object}"),
    });
    labels.chain(rule.suffix.iter().cloned()).collect::<Vec<_>>().join(".")
}

/// An address of one of the prefixes.
fn client(random: &mut Random, prefixes: &[IpNet]) -> IpAddr {
    loop {
        let address: IpAddr = match prefixes[random.below(prefixes.len())] {
            IpNet::V4(net) => {
                Ipv4Addr::from_bits(net.network().to_bits() | random.bits() as u32 & net.hostmask().to_bits())
                    .into()
            }
            IpNet::V6(net) => {
                let host = u128::from(random.bits()) << 64 | u128::from(random.bits());
                Ipv6Addr::from_bits(net.network().to_bits() | host & net.hostmask().to_bits()).into()
            }
        };
        // 127.0.0.0/8 lies among the reference network's prefixes, but nobody asks from there.
        if !address.is_loopback() {
            return address;
        }
    }
}
