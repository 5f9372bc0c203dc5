//! Why a client gets what it gets: the production code asked on the client's behalf, and its numbers led back to what
//! the operator wrote (A-11, invariant 7).

use super::packet;
use super::view::View;
use crate::dataplane::{Mode, TestRun};
use crate::front::Datagram;
use crate::front::message::answer;
use crate::front::proof::{Carried, Examined, Finding, examine};
use crate::front::url::{Url, decide_url};
use crate::state::facts::FULL;
use crate::state::forces::{self, Force};
use ipnet::IpNet;
use redirector_core::decide::{Client, FAST_ENDPOINTS};
use redirector_core::limit::Unlimited;
use redirector_core::lookup::{self, Labels, MAX_LABELS, Scheme, mapped};
use redirector_core::table::{
    MAX_PATH_SEGMENTS, NONE, OUTCOME_ADDRESS, SERVICE_DNS_VIP, SPACE_DNS, SPEAKS_CDSR, SPEAKS_DNS,
    SPEAKS_HTTP, SPEAKS_RTSP, Tables, VipEntry,
};
use redirector_core::verdict::{Reason, Verdict};
use redirector_core::wire::{Action, Asked, Scratch, Trace, dns, frame};
use redirector_plan::explain::{Account, AccountRemoval, Removal, accounts, candidates, fallback_candidates};
use redirector_plan::model::{ChooseBy, Origin, Outcome, Region};
use redirector_plan::shares::Kind;
use redirector_plan::{ipv4_word, ipv6_words};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Port that the client asks from.
const CLIENT_PORT: u16 = 40_000;
/// `XDP_TX`: the program has answered.
const XDP_TX: u32 = 3;

/// How something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// By name.
    #[value(skip)]
    Dns,
    /// By URL, for endpoints.
    Cdsr,
    /// By URL, for a redirect.
    Http,
    /// By URL, for a redirect.
    Rtsp,
}

impl Protocol {
    fn spoken(self) -> u16 {
        match self {
            Self::Dns => SPEAKS_DNS,
            Self::Cdsr => SPEAKS_CDSR,
            Self::Http => SPEAKS_HTTP,
            Self::Rtsp => SPEAKS_RTSP,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "DNS",
            Self::Cdsr => "CDSR",
            Self::Http => "HTTP",
            Self::Rtsp => "RTSP",
        })
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// A name's records.
    Name {
        /// Domain name.
        name: String,
        /// `A`, `AAAA` and so on; by default that of the client's family.
        record_type: Option<String>,
    },
    /// A URL.
    Url {
        /// Absolute.
        url: String,
        /// CDSR, HTTP or RTSP; by default CDSR if a VIP of the client's family speaks it, else what the scheme says.
        protocol: Option<Protocol>,
    },
}

/// A client's question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who asks.
    pub client: IpAddr,
    /// On behalf of which network (EDNS client subnet); with names alone.
    #[serde(default)]
    pub ecs: Option<IpNet>,
    /// What.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// Asked there; by default at the first VIP address that speaks the protocol and knows the name.
    pub vip: Option<IpAddr>,
}

/// A part of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
}

/// A target that the configuration names for the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateReport {
    /// Place of its tier, 0 first; `None` is the service's fallback.
    pub tier: Option<u8>,
    /// Where the tier was written.
    pub origin: Origin,
    /// Its name.
    pub target: String,
    /// Pools that it is in.
    pub pools: Vec<String>,
    /// Its configured share of the tier's clients in percent.
    pub share: f64,
    /// Passing its checks.
    pub up: bool,
    /// Load factor in 1/256.
    pub factor: u16,
    /// Measured round trip in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// What takes it out of the choice.
    pub removed: Option<String>,
    /// What operators say of it, over health and load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<String>,
}

/// Somebody on whose account a provider's content can be served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountReport {
    /// `agreement:NAME`, `network:NAME` for a primary CDN's own servers, or the target that leads to the provider's CDN.
    pub target: String,
    /// Where it was written.
    pub origin: Origin,
    /// The part of clients like this one that it gets, in percent.
    pub share: f64,
    /// Why it gets none, or not all that it could.
    pub note: Option<String>,
    /// The client is served on it.
    pub chosen: bool,
}

/// A target that the client is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Winner {
    /// Its name.
    pub target: String,
    /// Where it stands.
    pub site: String,
    /// The address that the client gets.
    pub address: Option<IpAddr>,
    /// What it gets instead of a server: another name, or a delegation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// What the fast path makes of the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum FastPath {
    /// It answers with the same bytes as the slow path.
    Answers,
    /// It leaves the question to the slow path.
    Punts {
        /// Name of the reason.
        reason: String,
    },
    /// It answers otherwise than the slow path: a defect, please report it.
    Differs,
    /// It is off.
    Off {
        /// Why.
        reason: String,
    },
    /// Connections are never its business.
    Never,
}

/// Everything that `redirector explain` tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The client, or the resolver that asks for it.
    pub client: IpAddr,
    /// The network that it asks for (EDNS client subnet).
    pub ecs: Option<IpNet>,
    /// Length of the widest prefix around that network in which the answer holds.
    pub scope: Option<u8>,
    /// What it asks for.
    pub asked: String,
    /// How.
    pub protocol: Protocol,
    /// Where.
    pub vip: IpAddr,
    /// The VIP that this is an address of.
    pub vip_part: Part,
    /// Zone or URL rule that holds.
    pub rule: Option<Part>,
    /// What the proofs came to that the rule asks for, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<String>,
    /// Service that it names.
    pub service: Option<Part>,
    /// Region that the client is in.
    pub region: Option<Part>,
    /// Prefix of the region that covers the client; `None` if it is there by default.
    pub prefix: Option<String>,
    /// Provider whose content it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Part>,
    /// Network that the client belongs to; told for providers' content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Part>,
    /// On whose account a provider's content can be served, in order of use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountReport>,
    /// What operators say of the client's region, the VIP and the box.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// Coverage of the service.
    pub coverage: Option<Part>,
    /// Every target that could serve, tier by tier.
    pub candidates: Vec<CandidateReport>,
    /// Where the client is sent, best first.
    pub winners: Vec<Winner>,
    /// The answer in the protocol's words.
    pub answer: String,
    /// Stable name of the reason.
    pub reason: String,
    /// Stable number of the reason.
    pub code: u16,
    /// Seconds that the answer may be kept.
    pub ttl: Option<u32>,
    /// Generation that answered.
    pub generation: u64,
    /// Load epoch of the group's last change.
    pub epoch: Option<u32>,
    /// Whether another query ID or port could get another target.
    pub spread: bool,
    /// What the fast path does.
    pub fast_path: FastPath,
}

/// What production code answered.
struct Answered {
    text: String,
    ttl: Option<u32>,
    scope: Option<u8>,
    trace: Trace,
    verdict: Verdict,
    v6: bool,
    fast_path: FastPath,
    findings: Vec<Finding>,
}

/// Explains the answer to a question with the tables and facts of `view`. `test_run` runs the fast path.
///
/// # Errors
/// If the question cannot be asked: what is wrong with it.
pub fn explain(
    view: &View,
    question: &Question,
    test_run: impl Fn(&[u8]) -> io::Result<Option<TestRun>>,
) -> Result<Explanation, String> {
    let asked = Target::new(view, question)?;
    if question.ecs.is_some() && asked.protocol() != Protocol::Dns {
        return Err("a client's network can be told by DNS alone: ask for a name".to_owned());
    }
    let (vip, entry) = choose_vip(view, question, &asked)?;
    let answered = match &asked {
        Target::Name(name, record_type) => {
            let query = packet::dns_query(name, *record_type, question.ecs);
            ask(view, question.client, vip, &entry, Protocol::Dns, &query, test_run)
        }
        Target::Url { text, protocol: Protocol::Cdsr, .. } => {
            let request = packet::cdsr_request(text)?;
            ask(view, question.client, vip, &entry, Protocol::Cdsr, &request, test_run)
        }
        Target::Url { parts, .. } => Ok(redirect(view, question.client, &entry, parts)),
    }?;
    Ok(report(view, question, &asked, (vip, &entry), answered))
}

/// What is asked for, taken apart.
enum Target<'q> {
    Name(Vec<&'q str>, u16),
    Url { text: &'q str, parts: Url<'q>, protocol: Protocol },
}

impl<'q> Target<'q> {
    fn new(view: &View, question: &'q Question) -> Result<Self, String> {
        match &question.wanted {
            Wanted::Name { name, record_type } => {
                let default = if question.client.is_ipv4() { "A" } else { "AAAA" };
                let number = packet::record_type(record_type.as_deref().unwrap_or(default))?;
                Ok(Self::Name(packet::labels(name)?, number))
            }
            Wanted::Url { url, protocol } => {
                let bad = |why: &str| format!("`{url}` cannot be asked for: {why}");
                let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no `://`"))?;
                let scheme = [Scheme::Http, Scheme::Https, Scheme::Rtsp]
                    .into_iter()
                    .find(|known| known.name().eq_ignore_ascii_case(scheme))
                    .ok_or_else(|| bad("its scheme is not http, https or rtsp"))?;
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                let parts =
                    Url::new(scheme, authority, path).ok_or_else(|| bad("its host or port is malformed"))?;
                let protocol = protocol.unwrap_or_else(|| match scheme {
                    _ if vips(view, question, Protocol::Cdsr).next().is_some() => Protocol::Cdsr,
                    Scheme::Http | Scheme::Https => Protocol::Http,
                    Scheme::Rtsp => Protocol::Rtsp,
                });
                Ok(Self::Url { text: url, parts, protocol })
            }
        }
    }

    fn protocol(&self) -> Protocol {
        match self {
            Self::Name(..) => Protocol::Dns,
            Self::Url { protocol, .. } => *protocol,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Name(labels, number) => format!("{} TYPE{number}", labels.join(".")),
            Self::Url { text, .. } => (*text).to_owned(),
        }
    }

    /// Labels of the name or host, leftmost first; an IPv6 literal is one.
    fn labels(&self) -> Vec<&'q str> {
        match self {
            Self::Name(labels, _) => labels.clone(),
            Self::Url { parts, .. } if parts.host.starts_with('[') => vec![parts.host],
            Self::Url { parts, .. } => parts.host.split('.').collect(),
        }
    }
}

/// The VIP address that is asked, and its entry in the tables.
fn choose_vip(view: &View, question: &Question, asked: &Target<'_>) -> Result<(IpAddr, VipEntry), String> {
    let client = question.client;
    let entry = |address: IpAddr| vip_entry(&view.generation.tables.read(), address);
    let protocol = asked.protocol();
    if let Some(address) = question.vip {
        let entry = entry(address).ok_or_else(|| format!("{address} is not a VIP of this box"))?;
        if address.is_ipv4() != client.is_ipv4() {
            return Err(format!("{client} cannot ask {address}: they are of two address families"));
        }
        if entry.speaks & protocol.spoken() == 0 {
            return Err(format!("the VIP {address} does not speak {protocol}"));
        }
        return Ok((address, entry));
    }
    let able: Vec<(IpAddr, VipEntry)> = vips(view, question, protocol).collect();
    let knows = able.iter().find(|(_, entry)| find_rule(view, entry, asked).is_some());
    knows.or(able.first()).copied().ok_or_else(|| {
        let family = if client.is_ipv4() { "IPv4" } else { "IPv6" };
        format!("no VIP of this box has an {family} address and speaks {protocol}")
    })
}

/// VIP addresses that the client can ask by a protocol: the one that it asks, or all of its family.
fn vips(view: &View, question: &Question, protocol: Protocol) -> impl Iterator<Item = (IpAddr, VipEntry)> {
    let (client, asked) = (question.client, question.vip);
    let addresses = view.generation.config.network.vips.iter().flat_map(|vip| {
        let v4 = vip.ipv4.iter().copied().map(IpAddr::V4);
        v4.chain(vip.ipv6.iter().copied().map(IpAddr::V6))
    });
    addresses
        .filter(move |address| address.is_ipv4() == client.is_ipv4())
        .filter(move |address| asked.is_none_or(|asked| asked == *address))
        .filter_map(|address| Some((address, vip_entry(&view.generation.tables.read(), address)?)))
        .filter(move |(_, entry)| entry.speaks & protocol.spoken() != 0)
}

fn vip_entry<T: Tables>(tables: &T, address: IpAddr) -> Option<VipEntry> {
    let words = match address {
        IpAddr::V4(v4) => mapped(ipv4_word(v4)),
        IpAddr::V6(v6) => ipv6_words(v6),
    };
    lookup::vip(tables, &tables.meta()?.keys, words).copied()
}

/// Asks by datagram: the slow path's answer, and the fast path's.
fn ask(
    view: &View,
    client: IpAddr,
    vip: IpAddr,
    entry: &VipEntry,
    protocol: Protocol,
    message: &[u8],
    test_run: impl Fn(&[u8]) -> io::Result<Option<TestRun>>,
) -> Result<Answered, String> {
    let tables = view.generation.tables.read();
    let mut bytes = message.to_vec();
    bytes.resize(message.len().max(dns::MAX_REPLY), 0);
    let mut scratch = Box::<Scratch>::default();
    let asked =
        Asked { vip: entry, client: Client::new(client), port: CLIENT_PORT, room: dns::UDP_LIMIT.into() };
    let kind = if protocol == Protocol::Dns { Datagram::Dns } else { Datagram::Cdsr };
    let given = (&mut bytes[..], message.len());
    let (action, length, findings) =
        answer(&view.generation, &tables, kind, (&asked, client), &mut Unlimited, &mut scratch, given);
    let reply = (action == Action::Reply).then(|| bytes[..length].to_vec());
    let frame = packet::frame(SocketAddr::new(client, CLIENT_PORT), vip, protocol == Protocol::Dns, message);
    let run = test_run(&frame).map_err(|error| error.to_string())?;
    let fast_path = match (&view.mode, run) {
        (Mode::Off(reason), _) => FastPath::Off { reason: reason.clone() },
        (_, None) => FastPath::Off { reason: "it cannot be run".to_owned() },
        (_, Some(run)) if run.action == XDP_TX => {
            let same = reply.as_deref() == Some(packet::payload(&run.frame, vip.is_ipv6()));
            if same { FastPath::Answers } else { FastPath::Differs }
        }
        (_, Some(_)) => FastPath::Punts { reason: punt_reason(view, frame).name().to_owned() },
    };
    let decided = scratch.trace.decided;
    let (text, ttl) = match (&reply, protocol) {
        (None, _) => ("no answer".to_owned(), None),
        (Some(reply), Protocol::Dns) => (rcode(reply), decided.then_some(scratch.verdict.ttl)),
        (Some(reply), _) => status(reply),
    };
    let v6 = scratch.query.family != 0;
    let scope = scratch.dns.subnet_scope().filter(|_| protocol == Protocol::Dns);
    let (trace, verdict) = (scratch.trace, scratch.verdict);
    Ok(Answered { text, ttl, scope, trace, verdict, v6, fast_path, findings })
}

/// Why the fast path leaves a frame alone: the program's own code, run here, says so without counting.
fn punt_reason(view: &View, bytes: Vec<u8>) -> Reason {
    let mut room = Box::<frame::Room>::default();
    frame::process(&mut packet::PlainFrame(bytes), &view.generation.tables.read(), &mut Unlimited, &mut room);
    room.scratch.trace.reason
}

/// Asks for a redirect.
fn redirect(view: &View, client: IpAddr, entry: &VipEntry, url: &Url<'_>) -> Answered {
    let mut trace = Trace { vip: entry.counter as u32, ..Trace::default() };
    let tables = &view.generation.tables.read();
    let mut findings = Vec::new();
    let client = SocketAddr::new(client, CLIENT_PORT);
    let decided = decide_url(tables, entry, client, url, FAST_ENDPOINTS, |service| {
        let carried = Carried::by_url(*url, None, client.ip());
        let Examined { proof, findings: found, .. } =
            examine(&view.generation, tables, entry, service, carried);
        findings = found;
        proof
    });
    let (text, verdict, v6) = match decided {
        Err(error) => {
            trace.reason = error.reason();
            ("no redirect".to_owned(), Verdict::default(), false)
        }
        Ok(decision) => {
            let verdict = decision.verdict;
            (trace.reason, trace.service, trace.region) = (verdict.reason, decision.service, verdict.region);
            trace.account = decision.account;
            trace.decided = decision.denied.is_none();
            let text = if verdict.count > 0 { "redirect" } else { "no redirect" };
            (text.to_owned(), verdict, decision.v6)
        }
    };
    Answered { text, ttl: None, scope: None, trace, verdict, v6, fast_path: FastPath::Never, findings }
}

/// RCODE of a DNS answer in words.
fn rcode(reply: &[u8]) -> String {
    match reply.get(3).map_or(0, |byte| byte & 15) {
        0 => "NOERROR".to_owned(),
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE {other}"),
    }
}

/// Status of a CDSR reply in words, and how long it may be used.
fn status(reply: &[u8]) -> (String, Option<u32>) {
    let lifetime =
        reply.get(16..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
    match reply.get(12) {
        Some(0) => ("handled".to_owned(), lifetime),
        Some(1) => ("not mine".to_owned(), lifetime),
        Some(2) => (format!("retry later, in {} ms", lifetime.unwrap_or(0)), None),
        Some(3) => ("denied".to_owned(), None),
        Some(4) => ("use the legacy protocol".to_owned(), lifetime),
        Some(5) => ("bad request".to_owned(), None),
        _ => ("version not supported".to_owned(), None),
    }
}

/// The rule for a name or URL, as look-ups find it.
fn find_rule(view: &View, vip: &VipEntry, asked: &Target<'_>) -> Option<Part> {
    let generation = &view.generation;
    let tables = &generation.tables.read();
    let (network, compiled) = (&generation.config.network, &generation.compiled);
    let keys = &tables.meta()?.keys;
    let names = asked.labels();
    let mut labels = Box::<Labels>::default();
    for (place, name) in names.iter().enumerate().take(MAX_LABELS) {
        labels.hashes[place] = keys.text(name.as_bytes(), true);
    }
    let (space, depths) = match asked {
        Target::Name(..) => (SPACE_DNS, vip.dns_depths),
        Target::Url { parts, .. } => (parts.scheme.space(), vip.url_depths),
    };
    let number = lookup::suffix::<_, MAX_LABELS>(tables, &labels, names.len(), space, vip.cdn, depths);
    let zone = tables.zone(number).filter(|_| number != NONE)?;
    let count = names.len().checked_sub(zone.suffix_labels as usize)?;
    let entry = lookup::rule(tables, &labels, count, space, number, zone);
    let part = |name: String, origin: &Origin| Some(Part { name, origin: origin.clone() });
    match asked {
        Target::Name(..) => {
            let zone = network.zones.get(number as usize)?;
            let suffix = zone.suffix.join(".");
            let grammar = (entry.fingerprint != 0)
                .then(|| compiled.grammar(network, number, entry.order, &names[..count]))
                .flatten();
            match grammar {
                Some(grammar) => part(format!("a name of zone {suffix}"), &grammar.origin),
                None => part(format!("zone {suffix}"), &zone.origin),
            }
        }
        Target::Url { parts, .. } => {
            let segments = segments(parts.path);
            for (place, segment) in segments.iter().enumerate() {
                labels.segments[place] = keys.text(segment.as_bytes(), false);
            }
            let (service, depth) = lookup::path(tables, &labels, segments.len(), &entry);
            let rule = compiled.url_rule(network, number, service, &names, &segments[..depth])?;
            part(format!("a URL rule for {}", rule.suffix.join(".")), &rule.origin)
        }
    }
}

/// Leading path segments that a slash closes: those that rules can name.
fn segments(path: &str) -> Vec<&str> {
    let Some(path) = path.strip_prefix('/') else { return Vec::new() };
    let mut segments: Vec<&str> = path.split('/').collect();
    segments.pop();
    segments.truncate(MAX_PATH_SEGMENTS);
    segments
}

fn report(
    view: &View,
    question: &Question,
    asked: &Target<'_>,
    (vip, entry): (IpAddr, &VipEntry),
    answered: Answered,
) -> Explanation {
    let generation = &view.generation;
    let network = &generation.config.network;
    let part = |name: &str, origin: &Origin| Part { name: name.to_owned(), origin: origin.clone() };
    let Answered { text, ttl, scope, trace, verdict, v6, fast_path, findings } = answered;
    let client = served(question);
    let is_server = |target: &redirector_core::table::Target| target.outcome == OUTCOME_ADDRESS;
    let first = verdict.targets[..verdict.count as usize].first();
    let server = first.and_then(|target| generation.tables.read().target(*target).map(is_server));
    let kind = if server == Some(false) { Kind::Any } else { Kind::family(v6) };
    let written = generation.compiled.written(network, trace.service);
    let service = written.and_then(|written| network.services.get(written));
    let coverage = service.and_then(|service| network.coverages.get(service.coverage));
    let region = redirector_core::decide::region(&Client::new(client), &generation.tables.read());
    let region_number = region.unwrap_or(0);
    let region = generation.region(region_number);
    let vip_part = network.vips.get(entry.vip as usize);
    let provided = network.peering.provided(trace.service as usize);
    let provider = provided.map(|provided| &network.peering.providers[provided.provider]);
    let client_network = provider.and_then(|_| network.peering.network_of(client));
    Explanation {
        client: question.client,
        ecs: question.ecs,
        scope,
        asked: asked.text(),
        protocol: asked.protocol(),
        vip,
        vip_part: vip_part.map_or_else(|| part("?", &Origin::default()), |vip| part(&vip.name, &vip.origin)),
        rule: find_rule(view, entry, asked),
        proofs: findings.iter().map(ToString::to_string).collect(),
        service: service.map(|service| part(&service.name, &service.origin)),
        region: region.map(|region| part(&region.name, &region.origin)),
        prefix: region.and_then(|region| prefix(region, client)),
        provider: provider.map(|provider| part(&provider.name, &provider.origin)),
        network: client_network.map(|(network, _)| part(&network.name, &network.origin)),
        accounts: account_reports(view, &trace, first.copied(), region_number),
        states: states(view, region, vip_part),
        coverage: coverage.map(|coverage| part(&coverage.name, &coverage.origin)),
        candidates: candidate_reports(view, &trace, region_number, kind),
        winners: winners(view, &verdict, v6),
        answer: text,
        reason: trace.reason.name().to_owned(),
        code: trace.reason as u16,
        ttl,
        generation: generation.number,
        epoch: trace.decided.then_some(verdict.epoch),
        spread: service.is_some_and(|service| service.choose_by == ChooseBy::Spread),
        fast_path,
    }
}

/// What operators say of the client's region, the VIP and the box.
fn states(view: &View, region: Option<&Region>, vip: Option<&redirector_plan::model::Vip>) -> Vec<String> {
    let name = view.generation.config.network.box_name.as_str();
    let parts = [
        (forces::Kind::Region, region.map(|region| region.name.as_str())),
        (forces::Kind::Vip, vip.map(|vip| vip.name.as_str())),
        (forces::Kind::Box, Some(name)),
    ];
    let said = |(kind, name): (forces::Kind, Option<&str>)| {
        Some(format!("{kind} {} is {}", name?, view.forces.over(kind, name?)?))
    };
    parts.into_iter().filter_map(said).collect()
}

/// The region number as whose clients those of another one are served; `None`: no tier serves them.
fn served_as(view: &View, region: u32) -> Option<u32> {
    let name = view.generation.region(region).map(|region| region.name.as_str());
    match name.and_then(|name| view.forces.over(forces::Kind::Region, name)).map(|said| said.force) {
        Some(Force::Drained) => Some(view.generation.compiled.elsewhere(region).unwrap_or(0)),
        Some(Force::Down) => None,
        Some(Force::Up) | None => Some(region),
    }
}

/// Whom the answer is for: the first address of the network that is asked for, else who asks.
fn served(question: &Question) -> IpAddr {
    let network = question.ecs.filter(|network| network.prefix_len() > 0);
    network.map_or(question.client, |network| network.network())
}

/// The longest prefix of a region that covers the client.
fn prefix(region: &Region, client: IpAddr) -> Option<String> {
    let covering = region.prefixes.iter().filter(|prefix| prefix.contains(&client));
    covering.max_by_key(|prefix| prefix.prefix_len()).map(ToString::to_string)
}

/// On whose account a provider's content can be served; `first` is the target that was answered with.
fn account_reports(view: &View, trace: &Trace, first: Option<u32>, region: u32) -> Vec<AccountReport> {
    let generation = &view.generation;
    let network = &generation.config.network;
    let region = served_as(view, region).unwrap_or(region);
    let found = accounts(&generation.compiled, trace.service as usize, region, &view.states());
    let report = |account: Account| {
        let target = network.targets.get(account.target)?;
        let fact = view.facts.get(account.target);
        let lapse = fact.and_then(|fact| fact.last_error.clone());
        let part = fact.filter(|fact| fact.up && (1..FULL).contains(&fact.factor));
        let note = match (account.removed, part) {
            (Some(AccountRemoval::Lapsed), _) => lapse,
            (Some(removed), _) => Some(removed.to_string()),
            (None, Some(fact)) => Some(format!("full: takes {}/256", fact.factor)),
            (None, None) => None,
        };
        let number = account.target as u32;
        Some(AccountReport {
            target: target.name.clone(),
            origin: target.origin.clone(),
            share: account.share,
            note,
            chosen: trace.account == number || first == Some(number),
        })
    };
    found.into_iter().filter_map(report).collect()
}

fn candidate_reports(view: &View, trace: &Trace, region: u32, kind: Kind) -> Vec<CandidateReport> {
    let generation = &view.generation;
    let (network, compiled) = (&generation.config.network, &generation.compiled);
    let (number, Some(service)) = (trace.service as usize, network.services.get(trace.service as usize))
    else {
        return Vec::new();
    };
    let answered_with_vip =
        compiled.image.services.get(number).is_some_and(|record| record.flags & SERVICE_DNS_VIP != 0);
    if answered_with_vip && !trace.decided || trace.reason == Reason::Foreign {
        return Vec::new();
    }
    let states = view.states();
    let region = served_as(view, region);
    let tiers = region.map(|region| candidates(compiled, network, service.coverage, region, kind, &states));
    let tiers = tiers.unwrap_or_default();
    let region = region.unwrap_or(NONE);
    let fallback = fallback_candidates(compiled, network, number, region, kind, &states);
    let forced = |target: usize| Some(view.facts.get(target)?.force.as_ref()?.to_string());
    let report = |candidate: redirector_plan::explain::Candidate, tier: Option<u8>| CandidateReport {
        tier,
        origin: candidate.tier_origin,
        target: candidate.name,
        pools: candidate.pools,
        share: candidate.share,
        up: candidate.up,
        factor: candidate.factor,
        round_trip_ms: candidate.round_trip.map(|micros| f64::from(micros) / 1000.0),
        removed: candidate.removed.map(|removal| match forced(candidate.target) {
            Some(said) if removal == Removal::Down => said,
            _ => removal.to_string(),
        }),
        forced: forced(candidate.target),
    };
    let tiers = tiers.into_iter().map(|candidate| {
        let tier = candidate.tier;
        report(candidate, Some(tier))
    });
    tiers.chain(fallback.into_iter().map(|candidate| report(candidate, None))).collect()
}

fn winners(view: &View, verdict: &Verdict, v6: bool) -> Vec<Winner> {
    let (network, tables) = (&view.generation.config.network, view.generation.tables.read());
    let chosen = verdict.targets.iter().take(verdict.count as usize);
    chosen
        .filter_map(|number| Some((network.targets.get(*number as usize)?, tables.target(*number)?)))
        .map(|(target, record)| {
            // Of the tables, because that is what is answered.
            let v4 = IpAddr::V4(Ipv4Addr::from(record.ipv4.to_ne_bytes()));
            let [high, low] = record.ipv6.map(u64::to_ne_bytes);
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&high);
            octets[8..].copy_from_slice(&low);
            let address = if v6 { IpAddr::V6(Ipv6Addr::from(octets)) } else { v4 };
            let address = Some(address).filter(|address| !address.is_unspecified());
            let outcome = (target.outcome != Outcome::Server).then(|| target.outcome.to_string());
            Winner { target: target.name.clone(), site: target.site.clone(), address, outcome }
        })
        .collect()
}
