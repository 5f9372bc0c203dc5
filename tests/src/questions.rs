//! Messages that clients send, right and wrong, put together byte by byte and without the code that reads them.

use redirector_plan::model::{Grammar, LabelRule, Zone};
use std::net::{IpAddr, Ipv4Addr};

/// Record types.
pub mod rr {
    #![allow(missing_docs)] // The names say it all.
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const HTTPS: u16 = 65;
    pub const TSIG: u16 = 250;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// Class IN.
pub const IN: u16 = 1;
/// Recursion desired.
pub const RD: u16 = 0x0100;
/// Reply.
pub const QR: u16 = 0x8000;

/// A name that a rule of a zone matches.
#[must_use]
pub fn name_of(zone: &Zone, grammar: &Grammar) -> String {
    let label = |rule: &LabelRule| match rule {
        LabelRule::Fixed(label) => label.clone(),
        LabelRule::OneOf(_, values) => values[0].clone(),
        LabelRule::Free(_) => "object".to_owned(),
    };
    let labels: Vec<String> = grammar.labels.iter().map(label).chain(zone.suffix.iter().cloned()).collect();
    labels.join(".")
}

/// A DNS query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsQuery<'n> {
    /// Message ID.
    pub id: u16,
    /// Second header word.
    pub flags: u16,
    /// Dotted, in the case to be sent; empty is the root.
    pub name: &'n str,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub class: u16,
    /// EDNS, if any.
    pub edns: Option<Edns>,
}

/// An OPT record (RFC 6891).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edns {
    /// UDP payload size.
    pub size: u16,
    /// Version; only 0 exists.
    pub version: u8,
    /// DO bit (RFC 3225).
    pub dnssec: bool,
    /// Options as they are sent.
    pub options: Vec<u8>,
}

impl Edns {
    /// Version 0 without options.
    #[must_use]
    pub fn new(dnssec: bool) -> Self {
        Self { size: 1232, version: 0, dnssec, options: Vec::new() }
    }

    /// Appends an option.
    #[must_use]
    pub fn option(mut self, code: u16, value: &[u8]) -> Self {
        self.options.extend(code.to_be_bytes());
        self.options.extend((value.len() as u16).to_be_bytes());
        self.options.extend(value);
        self
    }

    /// Appends a client subnet of the first `length` bits of an address.
    #[must_use]
    pub fn subnet(self, address: IpAddr, length: u8) -> Self {
        self.option(ECS, &subnet(address, length, 0))
    }

    /// The whole record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut record = vec![0];
        record.extend(rr::OPT.to_be_bytes());
        record.extend(self.size.to_be_bytes());
        record.extend([0, self.version, u8::from(self.dnssec) << 7, 0]);
        record.extend((self.options.len() as u16).to_be_bytes());
        record.extend(&self.options);
        record
    }
}

/// EDNS option: name server identifier (RFC 5001).
pub const NSID: u16 = 3;
/// EDNS option: client subnet (RFC 7871).
pub const ECS: u16 = 8;
/// EDNS option: cookie (RFC 7873).
pub const COOKIE: u16 = 10;
/// EDNS option: padding (RFC 7830).
pub const PADDING: u16 = 12;

/// Data of a client subnet option (RFC 7871 section 6).
///
/// # Panics
/// If the address has fewer bits.
#[must_use]
pub fn subnet(address: IpAddr, length: u8, scope: u8) -> Vec<u8> {
    let net = ipnet::IpNet::new(address, length).expect("a length that fits").network();
    let (family, octets) = match net {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    [&[0, family, length, scope], &octets[..usize::from(length).div_ceil(8)]].concat()
}

/// The server cookie that a fleet gives to a client (RFC 9018 section 4), as `docs/dns.md` says for its key: computed by
/// another implementation of SipHash.
#[must_use]
pub fn server_cookie(fleet_key: [u8; 16], client_cookie: [u8; 8], seconds: u32, sender: IpAddr) -> [u8; 16] {
    let half = |digit: u8| sip_hash(fleet_key, &[b"DNS cookie secret ", &[digit][..]].concat());
    let secret = [half(b'0'), half(b'1')].concat();
    let octets = match sender {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let stamp = [[1, 0, 0, 0], seconds.to_be_bytes()].concat();
    let text = [&client_cookie, &*stamp, &*octets].concat();
    let hash = sip_hash(secret.try_into().expect("16 bytes"), &text);
    [stamp, hash.to_vec()].concat().try_into().expect("16 bytes")
}

#[expect(deprecated, reason = "the standard library's only SipHash-2-4; not to be used for its own maps")]
fn sip_hash(key: [u8; 16], text: &[u8]) -> [u8; 8] {
    use std::hash::{Hasher as _, SipHasher};
    let (halves, _) = key.as_chunks::<8>();
    let mut hasher = SipHasher::new_with_keys(u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1]));
    hasher.write(text);
    hasher.finish().to_le_bytes()
}

impl<'n> DnsQuery<'n> {
    /// A plain question as resolvers ask it.
    #[must_use]
    pub fn new(name: &'n str, qtype: u16) -> Self {
        Self { id: 0x1d0a, flags: 0, name, qtype, class: IN, edns: None }
    }

    /// The same with EDNS.
    #[must_use]
    pub fn edns(self, edns: Edns) -> Self {
        Self { edns: Some(edns), ..self }
    }

    /// The question section.
    ///
    /// # Panics
    /// If a label has over 255 bytes.
    #[must_use]
    pub fn question(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).expect("a label's length"));
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(self.qtype.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        bytes
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let counts = [1, 0, 0, u16::from(self.edns.is_some())];
        let mut bytes = dns_header(self.id, self.flags, counts);
        bytes.extend(self.question());
        bytes.extend(self.edns.iter().flat_map(Edns::encode));
        bytes
    }
}

/// A DNS header with the number of records that each section claims to have.
#[must_use]
pub fn dns_header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
}

/// What a client says about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// It failed.
    Failed = 1,
    /// It would be liked.
    Preferred = 2,
}

/// A CDSR request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdsrRequest<'u> {
    /// Echoed.
    pub nonce: u64,
    /// Bit 0 IPv4, bit 1 IPv6.
    pub families: u8,
    /// Endpoints wanted.
    pub max_endpoints: u8,
    /// The URL.
    pub url: &'u str,
    /// Server list.
    pub servers: Vec<(IpAddr, Opinion)>,
    /// Extensions as they are sent.
    pub extensions: Vec<u8>,
    /// Zero bytes are appended up to this length.
    pub length: usize,
}

impl<'u> CdsrRequest<'u> {
    /// A request for four endpoints of the datagram's family.
    #[must_use]
    pub fn new(url: &'u str) -> Self {
        Self {
            nonce: 0x0102_0304_0506_0708,
            families: 0,
            max_endpoints: 0,
            url,
            servers: Vec::new(),
            extensions: Vec::new(),
            length: 124,
        }
    }

    /// The message. The host is what stands between `://` and the next of `/ : ? #`, an IPv6 literal with its brackets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let host_at = self.url.find("://").map_or(0, |at| at + 3);
        let rest = &self.url[host_at..];
        let port_from = if rest.starts_with('[') { rest.find(']').unwrap_or(0) } else { 0 };
        let host_len = rest[port_from..].find(['/', ':', '?', '#']).map_or(rest.len(), |at| at + port_from);
        let mut bytes = vec![b'C', b'D', 1, 1];
        bytes.extend(self.nonce.to_be_bytes());
        bytes.extend([self.families, self.max_endpoints]);
        bytes.extend((self.url.len() as u16).to_be_bytes());
        bytes.extend([host_at as u8, host_len as u8, self.servers.len() as u8, 0]);
        bytes.extend((self.extensions.len() as u16).to_be_bytes());
        bytes.extend([0, 0]);
        for (address, opinion) in &self.servers {
            bytes.extend(mapped(*address));
            bytes.extend([0, 0, *opinion as u8, 0]);
        }
        bytes.extend(self.url.bytes());
        bytes.extend(&self.extensions);
        bytes.resize(bytes.len().max(self.length), 0);
        bytes
    }
}

/// An address as CDSR carries it.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A CDSR reply, read strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdsrReply {
    /// Echo.
    pub nonce: u64,
    /// Status number.
    pub status: u8,
    /// Reason code.
    pub reason: u16,
    /// Seconds or milliseconds.
    pub lifetime: u32,
    /// Hint scope.
    pub scope: u8,
    /// Endpoints were left out.
    pub more: bool,
    /// Bytes of the URL that the scope covers.
    pub prefix: u16,
    /// Bytes of the host that are handled here.
    pub suffix: u8,
    /// In the order of the reply.
    pub endpoints: Vec<CdsrEndpoint>,
}

/// An endpoint of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdsrEndpoint {
    /// Canonical: an IPv4-mapped one is IPv4.
    pub address: IpAddr,
    /// Where the URL's protocol is spoken.
    pub port: u16,
    /// 0 is first.
    pub order: u8,
    /// Among those of equal order.
    pub share: u8,
    /// Number of its network.
    pub network: u16,
    /// Number of the policy.
    pub policy_class: u8,
}

impl CdsrReply {
    /// Reads a reply; `Err` says which rule of the format it breaks.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let number = |at: usize, len: usize| -> u64 {
            bytes[at..at + len].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        if bytes.len() < 28 || bytes[..4] != *b"CD\x01\x81" {
            return Err("header");
        }
        let (status, count) = (bytes[12], bytes[13] as usize);
        if status > 6 || count > 8 || bytes.len() != 28 + 24 * count || (status != 0 && count > 0) {
            return Err("status or endpoint count");
        }
        if bytes[20] > 2 || bytes[21] > 1 || bytes[25..28] != [0; 3] {
            return Err("scope, flags or reserved bytes");
        }
        let endpoint = |n: usize| {
            let at = 28 + 24 * n;
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[at..at + 16]);
            let address = IpAddr::from(octets).to_canonical();
            let (port, order, share) = (number(at + 16, 2) as u16, bytes[at + 18], bytes[at + 19]);
            let (network, policy_class) = (number(at + 20, 2) as u16, bytes[at + 22]);
            CdsrEndpoint { address, port, order, share, network, policy_class }
        };
        let endpoints: Vec<_> = (0..count).map(endpoint).collect();
        let sound = |(n, endpoint): (usize, &CdsrEndpoint)| {
            usize::from(endpoint.order) == n.min(1)
                && endpoint.share > 0
                && endpoint.address != Ipv4Addr::UNSPECIFIED
        };
        if (0..count).any(|n| bytes[28 + 24 * n + 23] != 0) || !endpoints.iter().enumerate().all(sound) {
            return Err("an endpoint");
        }
        Ok(Self {
            nonce: number(4, 8),
            status,
            reason: number(14, 2) as u16,
            lifetime: number(16, 4) as u32,
            scope: bytes[20],
            more: bytes[21] == 1,
            prefix: number(22, 2) as u16,
            suffix: bytes[24],
            endpoints,
        })
    }
}
