//! Questions about a network, of every kind that clients ask, and some that nobody should: the same on every run.

use crate::frames::{Flow, Form};
use crate::questions::{
    COOKIE, CdsrReply, CdsrRequest, DnsQuery, Edns, NSID, Opinion, PADDING, RD, rr, server_cookie,
};
use crate::slow;
use ipnet::IpNet;
use redirector_core::hash::splitmix;
use redirector_core::table::Tables;
use redirector_core::wire::cdsr;
use redirector_plan::model::{LabelRule, Network, UrlRule, Vip};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A or AAAA of a name that has a rule.
    Address {
        /// AAAA.
        v6: bool,
    },
    /// HTTPS (65) of a name that has a rule.
    Https,
    /// SRV of a name that names a bucket and perhaps a client.
    Srv,
    /// Another type of a name that has a rule.
    OtherType,
    /// A name with labels left out or changed.
    Stray,
    /// With EDNS, and options that nobody uses.
    Edns,
    /// On behalf of a client's network.
    Subnet,
    /// With a cookie: good, old, forged, or the client's part alone.
    Cookie,
    /// With several options, in any order.
    Combined,
    /// With an EDNS version that does not exist.
    BadVersion,
    /// In letters of random case.
    MixedCase,
    /// What only the slow path answers.
    SlowDns,
    /// A URL of which the host alone counts.
    CdsrHost {
        /// By IPv6.
        v6: bool,
    },
    /// A URL whose path has a rule of its own.
    CdsrPath,
    /// A request too short for four endpoints.
    CdsrShort,
    /// With failed servers.
    CdsrExcluded,
    /// What only the slow path answers.
    SlowCdsr,
    /// In a VLAN.
    Tagged {
        /// In a VLAN of a provider's VLAN.
        two: bool,
    },
    /// With IP options that the fast path passes over.
    Options {
        /// Extension headers of IPv6.
        v6: bool,
    },
    /// One of the others with some bytes changed.
    Damaged,
}

/// EtherTypes of tags (IEEE 802.1Q, 802.1ad).
pub const TAG_TYPES: [u16; 2] = [0x8100, 0x88a8];
/// IPv4 options that the fast path passes over (RFC 791 section 3.1, RFC 2113).
pub const OPTIONS: [&[u8]; 5] = [&[1; 4], &[0; 4], &[0x94, 4, 0, 0], &[1, 1, 1, 0, 0x94, 4, 0, 0], &[1; 40]];
/// Padding of six bytes in an IPv6 extension header, in the two ways there are (RFC 8200 section 4.2).
const PADDED: [&[u8]; 2] = [&[0, 0, 1, 4, 0, 0, 0, 0], &[0; 8]];
/// Chains of IPv6 extension headers: type and bytes.
type Extensions = &'static [(u8, &'static [u8])];
/// Those that the fast path passes over.
pub const EXTENSIONS: [Extensions; 4] = [
    &[(HOP_BY_HOP, PADDED[0])],
    &[(DESTINATION_OPTIONS, PADDED[0])],
    &[(DESTINATION_OPTIONS, PADDED[1])],
    &[(HOP_BY_HOP, PADDED[1]), (DESTINATION_OPTIONS, PADDED[0])],
];
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;

/// One question.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about.
    pub kind: Kind,
    /// Who asks whom.
    pub flow: Flow,
    /// The message.
    pub payload: Vec<u8>,
    /// The frame that carries it.
    pub frame: Vec<u8>,
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        splitmix(self.0)
    }

    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }
}

/// Endless cases about a network; `tables` are asked for servers that are worth failing.
#[derive(Debug)]
pub struct Generator<'n, T> {
    network: &'n Network,
    tables: &'n T,
    random: Random,
}

impl<'n, T: Tables> Generator<'n, T> {
    /// Cases that depend on nothing but these.
    pub fn new(network: &'n Network, tables: &'n T, seed: u64) -> Self {
        Self { network, tables, random: Random::new(seed) }
    }

    fn kind(&mut self) -> Kind {
        let v6 = self.random.below(2) == 1;
        match self.random.below(54) {
            0..=7 => Kind::Address { v6 },
            8..=9 => Kind::Https,
            10..=11 => Kind::OtherType,
            12..=16 => Kind::Stray,
            17..=19 => Kind::Edns,
            20..=21 => Kind::MixedCase,
            22..=23 => Kind::SlowDns,
            24..=29 => Kind::CdsrHost { v6 },
            30..=32 => Kind::CdsrPath,
            33 => Kind::CdsrShort,
            34..=36 => Kind::CdsrExcluded,
            37 => Kind::SlowCdsr,
            38..=39 => Kind::Tagged { two: v6 },
            40..=41 => Kind::Options { v6 },
            42..=44 => Kind::Subnet,
            45..=46 => Kind::Cookie,
            47..=48 => Kind::Combined,
            49 => Kind::BadVersion,
            50..=51 => Kind::Srv,
            _ => Kind::Damaged,
        }
    }

    /// A client, a VIP that speaks the port's protocol and has addresses of the family, and the VIP's CDN.
    fn flow(&mut self, port: u16, v6: Option<bool>) -> (Flow, usize) {
        let v6 = v6.unwrap_or_else(|| self.random.below(2) == 1);
        let fits = |vip: &&Vip| {
            let speaks = if port == cdsr::PORT { vip.speaks.cdsr } else { vip.speaks.dns };
            speaks && if v6 { !vip.ipv6.is_empty() } else { !vip.ipv4.is_empty() }
        };
        let vips: Vec<&Vip> = self.network.vips.iter().filter(fits).collect();
        let vip = *self.random.pick(&vips);
        let address: IpAddr = if v6 { vip.ipv6[0].into() } else { vip.ipv4[0].into() };
        let client = loop {
            let client = self.client(v6);
            if is_client(client) {
                break client;
            }
        };
        let client_port = 1 + self.random.below(65_535) as u16;
        let flow = Flow { client: SocketAddr::new(client, client_port), vip: SocketAddr::new(address, port) };
        (flow, vip.cdn)
    }

    /// Any address, or one within a region's prefix.
    fn client(&mut self, v6: bool) -> IpAddr {
        let bits = u128::from(self.random.bits()) << 64 | u128::from(self.random.bits());
        let region = self.random.pick(&self.network.regions);
        let prefix = *self.random.pick(&region.prefixes);
        let known = self.random.below(4) > 0;
        match prefix {
            IpNet::V4(prefix) if known && !v6 => {
                Ipv4Addr::from_bits(prefix.network().to_bits() | bits as u32 & prefix.hostmask().to_bits())
                    .into()
            }
            IpNet::V6(prefix) if known && v6 => {
                Ipv6Addr::from_bits(prefix.network().to_bits() | bits & prefix.hostmask().to_bits()).into()
            }
            _ if v6 => Ipv6Addr::from_bits(bits).into(),
            _ => Ipv4Addr::from_bits(bits as u32).into(),
        }
    }

    /// Labels that a rule's pattern stands for.
    fn labels(&mut self, rules: &[LabelRule]) -> Vec<String> {
        let one = |rule: &LabelRule| match rule {
            LabelRule::Fixed(value) => value.clone(),
            LabelRule::OneOf(_, values) => self.random.pick(values).clone(),
            LabelRule::Free(_) => self.word(20),
        };
        rules.iter().map(one).collect()
    }

    fn word(&mut self, longest: usize) -> String {
        let length = 1 + self.random.below(longest);
        (0..length)
            .map(|_| char::from(*self.random.pick(b"abcdefghijklmnopqrstuvwxyz0123456789-_")))
            .collect()
    }

    /// A name of the CDN that has a rule.
    fn name(&mut self, cdn: usize) -> Vec<String> {
        let zones: Vec<_> = self.network.zones.iter().filter(|zone| zone.cdn == cdn).collect();
        let zone = *self.random.pick(&zones);
        let grammar = self.random.pick(&zone.grammars);
        let mut labels = self.labels(&grammar.labels);
        labels.extend(zone.suffix.iter().cloned());
        labels
    }

    /// A name in or beside the CDN's names.
    fn stray_name(&mut self, cdn: usize) -> Vec<String> {
        let mut labels = self.name(cdn);
        let depth = labels.len();
        match self.random.below(4) {
            0 => drop(labels.drain(..self.random.below(depth - 1))),
            1 => labels.insert(0, self.word(8)),
            2 => labels[self.random.below(depth.saturating_sub(3).max(1))] = self.word(63),
            _ => {
                labels.remove(self.random.below(depth.saturating_sub(3).max(1)));
            }
        }
        labels
    }

    fn dns(&mut self, kind: Kind) -> Case {
        let (flow, cdn) = self.flow(slow::DNS_PORT, None);
        let name = if kind == Kind::Stray { self.stray_name(cdn) } else { self.name(cdn) };
        let mut name = name.join(".");
        if kind == Kind::Srv {
            name = self.srv_name();
        }
        if kind == Kind::MixedCase {
            name = self.random_case(&name);
        }
        let qtype = match kind {
            Kind::Address { v6 } => [rr::A, rr::AAAA][usize::from(v6)],
            Kind::Https => rr::HTTPS,
            Kind::Srv => rr::SRV,
            Kind::OtherType => *self.random.pick(&[rr::MX, rr::TXT, rr::SRV, 0, 127]),
            _ => *self.random.pick(&[rr::A, rr::AAAA]),
        };
        let flags = *self.random.pick(&[0, RD, RD | 0x10, 0x20]);
        let edns = self.edns(kind, &flow);
        let query = DnsQuery { id: self.random.bits() as u16, flags, edns, ..DnsQuery::new(&name, qtype) };
        self.case(kind, flow, query.encode())
    }

    /// A name under which sites are asked for, of the rich network: some malformed, some with addresses of IPv6.
    fn srv_name(&mut self) -> String {
        let bucket = match self.random.below(8) {
            0 => self.word(20),
            _ => format!("a{}", self.random.below(100_000)),
        };
        let number = match self.random.below(8) {
            0 => String::new(),
            1 => format!("-{}", self.random.bits()),
            2 => format!("-{}", u128::from(self.random.bits()) << 64 | u128::from(self.random.bits())),
            3 => format!("-{}", self.word(9)),
            4 => "-".to_owned(),
            _ => format!("-{}", 0x0a01_0000 + self.random.below(1 << 18)),
        };
        format!("_{bucket}{number}._tcp.srv.cdn.acme.net")
    }

    fn random_case(&mut self, name: &str) -> String {
        let fold = |c: char| if self.random.below(2) == 0 { c.to_ascii_uppercase() } else { c };
        name.chars().map(fold).collect()
    }

    /// EDNS as resolvers send it, for the kinds of question that have it.
    fn edns(&mut self, kind: Kind, flow: &Flow) -> Option<Edns> {
        let edns = Edns { size: self.random.bits() as u16, ..Edns::new(self.random.below(2) == 0) };
        Some(match kind {
            Kind::Edns => match self.random.below(3) {
                0 => edns,
                1 => edns.option(PADDING, &vec![0; self.random.below(64)]),
                _ => edns.option(65_001, b"local"),
            },
            Kind::Subnet => self.subnet(edns),
            Kind::Cookie => self.cookie(edns, flow),
            Kind::Combined => self.combined(edns, flow),
            Kind::BadVersion => Edns { version: 1 + self.random.below(255) as u8, ..edns },
            _ => return None,
        })
    }

    fn subnet(&mut self, edns: Edns) -> Edns {
        let v6 = self.random.below(2) == 1;
        let address = self.client(v6);
        let lengths: &[usize] = if v6 { &[48, 56, 64, 128] } else { &[16, 24, 24, 32] };
        let any = self.random.below(if v6 { 129 } else { 33 });
        let length = if self.random.below(3) == 0 { any } else { *self.random.pick(lengths) };
        edns.subnet(address, length as u8)
    }

    fn cookie(&mut self, edns: Edns, flow: &Flow) -> Edns {
        let client = self.random.bits().to_be_bytes();
        // Of any age up to an hour and a bit, and from a bit of the future.
        let moment = 400u32.wrapping_sub(self.random.below(4400) as u32);
        let seconds = self.tables.unix_seconds().wrapping_add(moment);
        let mut server = server_cookie(self.network.key, client, seconds, flow.client.ip()).to_vec();
        match self.random.below(6) {
            0 => server.clear(),
            1 => server[self.random.below(16)] ^= 1 << self.random.below(8),
            2 => server = vec![7; 8 + self.random.below(25)],
            _ => {}
        }
        edns.option(COOKIE, &[&client, &*server].concat())
    }

    fn combined(&mut self, mut edns: Edns, flow: &Flow) -> Edns {
        let mut left = vec![0, 1, 2, 3];
        for _ in 0..1 + self.random.below(4) {
            edns = match left.swap_remove(self.random.below(left.len())) {
                0 => self.subnet(edns),
                1 => self.cookie(edns, flow),
                2 => edns.option(NSID, b""),
                _ => edns.option(PADDING, &[0; 3]),
            };
        }
        edns
    }

    fn slow_dns(&mut self) -> Case {
        let (flow, cdn) = self.flow(slow::DNS_PORT, None);
        let mut labels = self.name(cdn);
        let zone = self.random.pick(&self.network.zones).suffix.clone();
        let (mut qtype, mut class, mut flags, mut edns) = (rr::A, 1, RD, None);
        match self.random.below(9) {
            0 => (labels, qtype) = (zone, rr::SOA),
            1 => (labels, qtype) = (zone, rr::NS),
            2 => {
                labels.insert(0, "_cdsr".into());
                qtype = rr::TXT;
            }
            3 => qtype = *self.random.pick(&[rr::ANY, rr::AXFR, 251]),
            4 => class = 3,
            5 => flags = 0x2800,
            6 => edns = Some((0..5).fold(Edns::new(true), |edns, code| edns.option(100 + code, b"five"))),
            7 => labels = vec!["ns1".into(), zone.join(".")],
            _ => labels = vec![self.word(10), "example".into()],
        }
        let name = labels.join(".");
        let query = DnsQuery { flags, class, edns, ..DnsQuery::new(&name, qtype) };
        self.case(Kind::SlowDns, flow, query.encode())
    }

    /// A URL of the CDN: of a rule for hosts or for a path.
    fn url(&mut self, cdn: usize, path: bool) -> Option<String> {
        let fits =
            |rule: &&UrlRule| self.network.services[rule.service].cdn == cdn && rule.path.is_empty() != path;
        let rules: Vec<_> = self.network.urls.iter().filter(fits).collect();
        if rules.is_empty() {
            return None;
        }
        let rule = *self.random.pick(&rules);
        let names = [(rule.schemes.http, "http"), (rule.schemes.https, "https"), (rule.schemes.rtsp, "rtsp")];
        let schemes: Vec<&str> = names.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
        let scheme = *self.random.pick(&schemes);
        let host: Vec<String> =
            self.labels(&rule.host).into_iter().chain(rule.suffix.iter().cloned()).collect();
        let tail = match self.random.below(4) {
            0 if !path => String::new(),
            1 => format!("/{}?{}=/{}#x", self.word(30), self.word(5), self.word(5)),
            _ => format!("/{}/{}.m3u8", self.word(30), self.word(40)),
        };
        let segments: String = rule.path.iter().map(|segment| format!("/{segment}")).collect();
        Some(format!("{scheme}://{}{segments}{tail}", host.join(".")))
    }

    fn cdsr(&mut self, kind: Kind) -> Case {
        let v6 = match kind {
            Kind::CdsrHost { v6 } => Some(v6),
            _ => None,
        };
        let (flow, url) = loop {
            let (flow, cdn) = self.flow(cdsr::PORT, v6);
            if let Some(url) = self.url(cdn, kind == Kind::CdsrPath) {
                break (flow, url);
            }
        };
        let mut request = CdsrRequest { nonce: self.random.bits(), ..CdsrRequest::new(&url) };
        request.families = *self.random.pick(&[0, 0, 1, 2, 3]);
        request.max_endpoints = self.random.below(5) as u8;
        request.length = 124 + self.random.below(300);
        match kind {
            Kind::CdsrShort => request.length = 52 + self.random.below(72),
            Kind::CdsrExcluded => {
                request.servers = self.failed_servers(&flow, &request);
                request.length += 20 * request.servers.len();
            }
            Kind::SlowCdsr => self.make_slow(&flow, &mut request),
            _ => {}
        }
        let payload = request.encode();
        self.case(kind, flow, payload)
    }

    /// Some of the servers that the client would get, and one that it would not. One is left.
    fn failed_servers(&mut self, flow: &Flow, request: &CdsrRequest<'_>) -> Vec<(IpAddr, Opinion)> {
        let known = self.servers(flow, request);
        let most = (1 + self.random.below(3)).min(known.len().saturating_sub(1));
        let other = IpAddr::from([198, 51, 100, 1]);
        let failed = known.into_iter().take(most).chain([other]);
        failed.map(|address| (address, Opinion::Failed)).collect()
    }

    /// Up to four servers that the client would get.
    fn servers(&self, flow: &Flow, request: &CdsrRequest<'_>) -> Vec<IpAddr> {
        let request = CdsrRequest { max_endpoints: 4, ..request.clone() };
        let outcome = slow::answer(self.tables, flow, &request.encode());
        let reply = outcome.and_then(|outcome| CdsrReply::read(outcome.reply()?).ok());
        reply.map_or_else(Vec::new, |reply| reply.endpoints.iter().map(|endpoint| endpoint.address).collect())
    }

    fn make_slow(&mut self, flow: &Flow, request: &mut CdsrRequest<'_>) {
        match self.random.below(5) {
            0 => request.servers = vec![([192, 0, 2, 10].into(), Opinion::Preferred)],
            1 => request.extensions = vec![0x40, 1, 0, 1, 7],
            2 => (request.max_endpoints, request.length) = (8, 300),
            3 => {
                let all = self.servers(flow, request);
                request.servers = all.into_iter().map(|address| (address, Opinion::Failed)).collect();
                request.length += 80;
            }
            _ => request.url = "gopher://nowhere.example/",
        }
    }

    /// A tag of any VLAN and priority.
    fn tag(&mut self) -> [u16; 2] {
        [*self.random.pick(&TAG_TYPES), self.random.bits() as u16]
    }

    /// A question of another kind in a form of its own.
    fn formed(&mut self, kind: Kind) -> Case {
        let v6 = self.random.below(2) == 1;
        let asked = *self.random.pick(&[Kind::Address { v6 }, Kind::Combined, Kind::CdsrHost { v6 }]);
        let case = self.next_of(asked);
        let (tags, class) = ([self.tag(), self.tag()], self.random.bits() as u8);
        let form = match kind {
            Kind::Tagged { two } => Form { tags: &tags[..1 + usize::from(two)], class, ..Form::default() },
            _ => Form {
                tags: &tags[..self.random.below(3)],
                class,
                options: self.random.pick::<&[u8]>(&OPTIONS),
                extensions: self.random.pick::<Extensions>(&EXTENSIONS),
            },
        };
        let kind = match kind {
            Kind::Options { .. } => Kind::Options { v6: case.flow.vip.is_ipv6() },
            _ => kind,
        };
        Case { kind, frame: form.of(&case.frame), ..case }
    }

    fn damaged(&mut self) -> Case {
        let whole =
            self.next_of(*self.random.clone().pick(&[Kind::Combined, Kind::CdsrExcluded, Kind::CdsrPath]));
        let Case { flow, mut payload, .. } = whole;
        for _ in 0..1 + self.random.below(3) {
            let place = self.random.below(payload.len());
            match self.random.below(4) {
                0 => payload.truncate(place.max(1)),
                1 => payload.insert(place, self.random.bits() as u8),
                2 => payload[place] = *self.random.pick(&[0, 1, 0x3f, 0x40, 0xc0, 0xff]),
                _ => payload[place] ^= 1 << self.random.below(8),
            }
        }
        let mut case = self.case(Kind::Damaged, flow, payload);
        if self.random.below(4) == 0 {
            let tags: Vec<_> = (0..1 + self.random.below(3)).map(|_| self.tag()).collect();
            case.frame = Form { tags: &tags, ..Form::default() }.of(&case.frame);
        }
        if self.random.below(4) == 0 {
            let place = self.random.below(case.frame.len());
            case.frame[place] ^= 1 << self.random.below(8);
        }
        case
    }

    fn case(&mut self, kind: Kind, flow: Flow, payload: Vec<u8>) -> Case {
        let mut frame = flow.frame(&payload);
        if self.random.below(8) == 0 {
            // Padding, as behind every short frame, but not of zero bytes.
            frame.extend(std::iter::repeat_n(0xee, 1 + self.random.below(20)));
        }
        Case { kind, flow, payload, frame }
    }

    fn next_of(&mut self, kind: Kind) -> Case {
        match kind {
            Kind::SlowDns => self.slow_dns(),
            Kind::CdsrHost { .. }
            | Kind::CdsrPath
            | Kind::CdsrShort
            | Kind::CdsrExcluded
            | Kind::SlowCdsr => self.cdsr(kind),
            Kind::Damaged => self.damaged(),
            Kind::Tagged { .. } | Kind::Options { .. } => self.formed(kind),
            _ => self.dns(kind),
        }
    }
}

impl<T: Tables> Iterator for Generator<'_, T> {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        let kind = self.kind();
        Some(self.next_of(kind))
    }
}

/// Whether a client can have this address; the fast path answers no other.
fn is_client(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => !v6.is_multicast() && v6.to_bits() >> 80 != 0,
    }
}
