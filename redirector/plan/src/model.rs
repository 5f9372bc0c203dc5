//! What the operator wrote, validated and resolved to indices: the planner's input.
//!
//! Every list is sorted by name by whoever builds it, and references are indices into these lists, so that two
//! boxes with the same configuration build the same tables whatever the order in their files (invariant 8).

use crate::peering::Peering;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a statement stands, for errors and for `explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// File as the operator named it.
    pub file: String,
    /// 1-based line.
    pub line: u32,
    /// 1-based column.
    pub column: u32,
}

/// Everything decisions are made from, except the facts that change by themselves (health, load).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Secret for hash and choice keys, the same on all boxes of the fleet (invariant 8).
    pub key: [u8; 16],
    /// Name of this box, told to DNS clients that ask for it (RFC 5001): of all that stands here the one thing in which
    /// boxes of a fleet differ.
    #[serde(default)]
    pub box_name: String,
    /// Content networks that own VIPs; the index is the CDN's number in tables.
    pub cdns: Vec<String>,
    /// Anycast addresses, grouped as the operator grouped them.
    pub vips: Vec<Vip>,
    /// Client regions. Prefixes of different regions may nest (longest match wins) but never repeat.
    pub regions: Vec<Region>,
    /// Region used for clients that no prefix covers; `None` leaves such clients without region (default region).
    pub default_region: Option<usize>,
    /// Servers that clients can be sent to.
    pub targets: Vec<Target>,
    /// Named sets of targets.
    pub pools: Vec<Pool>,
    /// Tiers and shares per region, shared by services.
    pub coverages: Vec<Coverage>,
    /// What clients ask for.
    pub services: Vec<Service>,
    /// DNS suffixes and their name grammars.
    pub zones: Vec<Zone>,
    /// URL rules, from the services' `urls`.
    pub urls: Vec<UrlRule>,
    /// Other networks, providers, and the agreements about their content.
    #[serde(default)]
    pub peering: Peering,
    /// Keys of signed and sealed names and of tokens.
    #[serde(default)]
    pub keys: Vec<NameKey>,
}

/// A key that names and tokens are made and checked with (P-10, P-15).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameKey {
    /// Operator's name.
    pub name: String,
    /// The number that names and tokens carry.
    pub id: u8,
    /// The secret.
    pub secret: [u8; 32],
    /// New names are made with it.
    pub signs: bool,
    /// Unix time from which on it counts.
    pub from: u64,
    /// Unix time from which on it does not count any more.
    pub until: u64,
    /// Where it was written.
    pub origin: Origin,
}

/// Without what is secret.
impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, signs, from, until, .. } = self;
        write!(f, "NameKey {{ name: {name:?}, id: {id}, signs: {signs}, from: {from}, until: {until}, .. }}")
    }
}

/// What a client gets whose proof is missing or good for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// A refusal: REFUSED, "denied", 403.
    Refuse,
    /// The answer of something that has no records: NODATA, "not mine", 404.
    Empty,
    /// The service of this name.
    Service(String),
}

/// A service is for those who show that they are authorised (P-15).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorised {
    /// Names of the keys that count.
    pub keys: Vec<String>,
    /// Name of the query parameter, and beginning of the path segment, that is a token.
    pub parameter: String,
    /// What others get.
    pub otherwise: Unauthorised,
}

/// What a client gets that does not show that it is authorised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unauthorised {
    /// What anybody gets whose proof is bad.
    Like(Otherwise),
    /// The servers with this port, which they ignore.
    Port(u16),
}

/// Names of a zone, and hosts in it, whose codepoint is encrypted (P-10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Label between the sealed ones and the suffix, lower-case.
    pub label: String,
    /// Names of the keys that count.
    pub keys: Vec<String>,
    /// What names get that cannot be opened, or hold no name of the zone.
    pub otherwise: Otherwise,
}

/// Names of a rule are signed: the label that its variable `tag` stands for is a tag (P-10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Names of the keys that count.
    pub keys: Vec<String>,
    /// What names without a good tag get.
    pub otherwise: Otherwise,
}

/// An anycast service address group of one CDN (P-1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vip {
    /// Operator's name.
    pub name: String,
    /// Index into [`Network::cdns`].
    pub cdn: usize,
    /// IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// Protocols answered here.
    pub speaks: Speaks,
    /// Where it was written.
    pub origin: Origin,
}

/// Protocols of a VIP (P-25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaks {
    /// UDP and TCP 53.
    pub dns: bool,
    /// UDP 2554.
    pub cdsr: bool,
    /// TCP 80.
    pub http: bool,
    /// TCP 554.
    pub rtsp: bool,
}

/// A set of client prefixes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Operator's name.
    pub name: String,
    /// Client prefixes with host bits zero.
    pub prefixes: Vec<IpNet>,
    /// Where it was written.
    pub origin: Origin,
}

/// A server, at most one address of each family; or another outcome, which has no address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Operator's name.
    pub name: String,
    /// Site the server stands at; free text for reports.
    pub site: String,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Host name for redirects; without one the address is used.
    pub host: Option<String>,
    /// What clients get that are sent here.
    #[serde(default)]
    pub outcome: Outcome,
    /// Port for http URLs; 80 unless written.
    pub http_port: u16,
    /// Port for https URLs; 443 unless written.
    pub https_port: u16,
    /// Port for rtsp URLs; 554 unless written.
    pub rtsp_port: u16,
    /// Number of the network that runs it, as the operator counts networks; 0 is not told (P-17).
    pub network: u16,
    /// Where it was written.
    pub origin: Origin,
}

impl Target {
    /// Host that redirects name, if not the address.
    pub fn redirect_host(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Name(name) => Some(name),
            Outcome::Server | Outcome::Delegation(_) | Outcome::OwnServers => self.host.as_deref(),
        }
    }

    /// Its address of one family.
    pub fn address(&self, v6: bool) -> Option<IpAddr> {
        if v6 { self.ipv6.map(IpAddr::V6) } else { self.ipv4.map(IpAddr::V4) }
    }
}

/// What clients get that are sent to a target (ADR 13).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The server's addresses.
    #[default]
    Server,
    /// This name, lower-case and without a final dot: CNAME, or the host of a redirect.
    Name(String),
    /// A referral to these name servers, one to four.
    Delegation(Vec<NameServer>),
    /// A server of the service that chose this target: who serves is settled, and which server comes next.
    OwnServers,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::OwnServers => f.write_str("servers of the network"),
            Self::Name(name) => write!(f, "CNAME {name}"),
            Self::Delegation(servers) => {
                let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
                write!(f, "NS {}", names.join(", "))
            }
        }
    }
}

/// A name server of a delegation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameServer {
    /// Its name, lower-case and without a final dot.
    pub name: String,
    /// IPv4 address for the referral's glue.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address for the referral's glue.
    pub ipv6: Option<Ipv6Addr>,
}

/// Targets that serve the same things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Operator's name.
    pub name: String,
    /// Members: index into [`Network::targets`] and weight (1..=65535) within the pool.
    pub members: Vec<(usize, u32)>,
    /// Where it was written.
    pub origin: Origin,
}

/// Who serves which region, tier by tier (P-12).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Operator's name.
    pub name: String,
    /// In the order written. For a region, the tiers that name it or `*` apply in this order.
    pub tiers: Vec<Tier>,
    /// Where it was written.
    pub origin: Origin,
}

/// One step of a coverage: used when every earlier one that applies to the region has no usable target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tier {
    /// Index into [`Network::regions`]; `None` is every region and clients without one (`*`).
    pub region: Option<usize>,
    /// Pools (index) and their relative shares (1..=65535).
    pub pools: Vec<(usize, u32)>,
    /// TTL of answers from this tier in seconds (P-7); `None` takes the service's.
    pub ttl: Option<u32>,
    /// Microseconds: of its usable targets, those whose round trip is at most this much longer than the shortest get
    /// the clients (P-14). `None`: distance means nothing.
    pub within: Option<u32>,
    /// Where it was written.
    pub origin: Origin,
}

/// What the choice of a target depends on beside the shares: equal keys get equal targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChooseBy {
    /// The client's /24 or /48.
    ClientPrefix,
    /// The client's whole address.
    Client,
    /// What is asked for.
    Content,
    /// Query ID and source port, too: a resolver's clients are spread.
    Spread,
}

/// What an address query for a name of the service gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsAnswer {
    /// The address of the chosen server.
    Server,
    /// The VIP itself: clients redirect by HTTP, RTSP or CDSR then (P-25).
    Vip,
}

/// What a service's HTTPS and SVCB records say beside addresses (RFC 9460).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// Protocol identifiers beside `http/1.1`, which goes without saying: `h2`, `h3`.
    pub alpn: Vec<String>,
    /// 443 is not told.
    pub port: u16,
}

/// SRV answers that name sites (M-8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locations {
    /// Letter of the medium, behind the site's number: `q`.
    pub media: char,
    /// Port at the sites' servers.
    pub port: u16,
    /// Domain of the names in answers, lower-case: `a40.y5q.cdn.acme.net` for `cdn.acme.net`.
    pub domain: String,
    /// The number of each site that targets of the service stand at.
    pub sites: BTreeMap<String, u32>,
}

impl Locations {
    /// What stands behind the bucket in the name of site number `site`.
    pub fn name(&self, site: u32) -> String {
        format!("y{site}{}.{}", self.media, self.domain)
    }
}

/// A named thing that clients ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Operator's name; counters follow it across generations.
    pub name: String,
    /// Class of content that it is, for agreements that cover some classes; may be empty.
    #[serde(default)]
    pub class: String,
    /// Index into [`Network::cdns`].
    pub cdn: usize,
    /// Index into [`Network::coverages`].
    pub coverage: usize,
    /// Seconds; 0 unless written (P-7).
    pub ttl: u32,
    /// Seconds a CDSR client may use the answer (P-17).
    pub hint_lifetime: u32,
    /// Answer choice key.
    pub choose_by: ChooseBy,
    /// Form of DNS answers.
    pub dns: DnsAnswer,
    /// Its HTTPS and SVCB records, if it has any.
    #[serde(default)]
    pub https: Option<Binding>,
    /// SRV answers, if that is what its names are for.
    #[serde(default)]
    pub srv: Option<Locations>,
    /// Addresses in one DNS answer, 1..=4 (P-7).
    pub answers: u8,
    /// Number of the policy that its answers follow, told to CDSR clients; 0 is not told (P-17).
    pub policy_class: u8,
    /// Targets used when no tier has a usable one; empty means SERVFAIL or "retry later".
    pub fallback: Vec<usize>,
    /// Whom it is for, if not for everybody.
    #[serde(default)]
    pub authorised: Option<Authorised>,
    /// `Location` template: `{scheme}`, `{target}`, `{port}`, `{host}`, `{path}`; `None` is `{scheme}://{target}{path}`.
    pub location: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// A DNS suffix answered with authority (P-5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Lower-case labels, leftmost first: `["cdn", "acme", "net"]`.
    pub suffix: Vec<String>,
    /// Index into [`Network::cdns`]; only that CDN's VIPs answer for it.
    pub cdn: usize,
    /// SOA serial.
    pub serial: u32,
    /// Seconds resolvers may keep negative answers (SOA minimum and TTL).
    pub negative_ttl: u32,
    /// TTL of NS records, of the addresses of generated name-server names and of VIP answers.
    pub ns_ttl: u32,
    /// Name grammars in order; the first that matches wins (P-6).
    pub grammars: Vec<Grammar>,
    /// Its sealed names, if it has any.
    #[serde(default)]
    pub sealed: Option<Sealed>,
    /// What names and URL hosts beneath the suffix get that fit no rule; `None`: they do not exist (P-6).
    #[serde(default)]
    pub ill_formed: Option<Otherwise>,
    /// Where it was written.
    pub origin: Origin,
}

/// A pattern for the labels before a suffix, and what a matching name means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grammar {
    /// Leftmost first; empty is the suffix itself.
    pub labels: Vec<LabelRule>,
    /// Index into [`Network::services`].
    pub service: usize,
    /// Whether its names are signed.
    #[serde(default)]
    pub signed: Option<Signed>,
    /// Where it was written.
    pub origin: Origin,
}

/// What one label may be (P-6).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LabelRule {
    /// Exactly this, lower-case.
    Fixed(String),
    /// Anything; the name is what operators call it (`object`).
    Free(String),
    /// One of these lower-case values; the first field is what operators call it (`customer`).
    OneOf(String, Vec<String>),
}

/// A URL pattern of a service (P-17, P-26): `http://{customer}.cdn.acme.net/live/*`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UrlRule {
    /// Schemes it holds for.
    pub schemes: Schemes,
    /// Labels before `suffix`, leftmost first.
    pub host: Vec<LabelRule>,
    /// The host's fixed rightmost labels, lower-case, leftmost first; a literal address is its dotted labels, an IPv6
    /// literal is the single label `[2001:db8::1]`.
    pub suffix: Vec<String>,
    /// Leading path segments that must match exactly (case-sensitive), at most 4; empty is every path. The longest wins.
    pub path: Vec<String>,
    /// Index into [`Network::services`].
    pub service: usize,
    /// Whether its hosts are signed.
    #[serde(default)]
    pub signed: Option<Signed>,
    /// Where it was written.
    pub origin: Origin,
}

/// URL schemes a rule covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schemes {
    /// `http`
    pub http: bool,
    /// `https`
    pub https: bool,
    /// `rtsp`
    pub rtsp: bool,
}

/// What changes by itself between reloads: one entry per target, in the order of [`Network::targets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// Passing its health checks, or not checked.
    pub up: bool,
    /// Load factor applied to its weight in 1/256: 256 is the full share, 0 takes no new clients (overloaded).
    pub factor: u16,
    /// Measured round trip from this box in microseconds (P-34); `None` if it was not measured.
    pub round_trip: Option<u32>,
}

impl Default for TargetState {
    fn default() -> Self {
        Self { up: true, factor: 256, round_trip: None }
    }
}
