//! Both paths asked the same: whatever the fast path answers, the slow path answers byte for byte (A-2, invariant 1),
//! and what it does not answer it leaves as it was.

use crate::frames::{Datagram, VecFrame};
use crate::generate::{Case, Kind};
use crate::slow;
use redirector_core::limit::{Limits, Unlimited};
use redirector_core::table::{
    OUTCOME_ADDRESS, OUTCOME_DELEGATION, SERVICE_HAS_IPV4, SERVICE_HAS_IPV6, SERVICE_SRV, Service, Tables,
    Target,
};
use redirector_core::verdict::Reason;
use redirector_core::wire::Trace;
use redirector_core::wire::frame::{Exit, Room, process};
use std::collections::BTreeMap;
use std::fmt;

/// What becomes of a frame, as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `XDP_PASS`: on to the kernel.
    Pass,
    /// `XDP_DROP`: over a limit.
    Drop,
    /// `XDP_TX`: back where it came from.
    Transmit,
    /// `XDP_ABORTED`, or whatever else it should never be.
    Abort,
}

impl Action {
    /// From the kernel's number.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Transmit,
            _ => Self::Abort,
        }
    }

    /// The kernel's number.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Abort => 0,
            Self::Drop => 1,
            Self::Pass => 2,
            Self::Transmit => 3,
        }
    }
}

/// Something that answers frames: core's code natively, or the program in the kernel.
pub trait FastPath {
    /// What becomes of a frame, and its bytes afterwards.
    fn run(&mut self, frame: &[u8]) -> (Action, Vec<u8>);
}

/// The fast path as native code.
#[derive(Debug)]
pub struct Native<'t, T, L = Unlimited> {
    tables: &'t T,
    limits: L,
    /// Not cleared between frames, as in the kernel.
    room: Box<Room>,
}

impl<'t, T: Tables> Native<'t, T> {
    /// Over these tables, without rate limits.
    pub fn new(tables: &'t T) -> Self {
        Self::within(tables, Unlimited)
    }
}

impl<'t, T: Tables, L: Limits> Native<'t, T, L> {
    /// Over these tables, with the buckets of their rate limits.
    pub fn within(tables: &'t T, limits: L) -> Self {
        Self { tables, limits, room: Box::default() }
    }

    /// Why the last frame fared as it did.
    pub fn reason(&self) -> Reason {
        self.trace().reason
    }

    /// What was decided about it.
    pub fn trace(&self) -> &Trace {
        &self.room.scratch.trace
    }
}

impl<T: Tables, L: Limits> FastPath for Native<'_, T, L> {
    fn run(&mut self, frame: &[u8]) -> (Action, Vec<u8>) {
        let mut frame = VecFrame::new(frame);
        let action = match process(&mut frame, self.tables, &mut self.limits, &mut self.room) {
            Exit::Pass | Exit::Punt => Action::Pass,
            Exit::Drop => Action::Drop,
            Exit::Transmit => Action::Transmit,
            Exit::Abort => Action::Abort,
        };
        (action, frame.into_bytes())
    }
}

/// Whether what became of `frame` is what the slow path would have made of it. Any bytes may be asked.
///
/// # Errors
/// How the two differ.
pub fn judge<T: Tables>(slow: &T, frame: &[u8], action: Action, after: &[u8]) -> Result<(), String> {
    match action {
        Action::Abort => Err("aborted".into()),
        Action::Drop => Err("dropped, where there are no limits".into()),
        Action::Pass if after == frame => Ok(()),
        Action::Pass => Err("passed on, but changed".into()),
        Action::Transmit => judge_reply(slow, frame, after),
    }
}

fn judge_reply<T: Tables>(slow: &T, frame: &[u8], after: &[u8]) -> Result<(), String> {
    let asked = Datagram::read(frame).ok_or("answered what is not whole UDP")?;
    let reply = Datagram::read(after).ok_or("the answer is not whole UDP")?;
    let outcome = slow::answer(slow, &asked.flow(), &asked.payload).ok_or("answered where nobody listens")?;
    let Some(want) = outcome.reply() else {
        return Err(format!("answered, but the slow path does not ({:?})", outcome.trace.reason));
    };
    if reply.payload != want {
        return Err(format!("another answer:\n fast {:02x?}\n slow {want:02x?}", reply.payload));
    }
    let turned = reply.source == asked.destination
        && reply.destination == asked.source
        && reply.macs == [asked.macs[1], asked.macs[0]]
        && reply.tags == asked.tags
        && reply.options == 0;
    if !turned {
        return Err(format!("not sent back: {reply:?}"));
    }
    // Six bits of the class are the query's, two tell of congestion on the way of that packet alone.
    if reply.ttl != 64 || reply.class != asked.class & 0xfc {
        return Err(format!("TTL {} and class {}", reply.ttl, reply.class));
    }
    // A wrong checksum in a question stays wrong in what is kept of it. Only Ethernet padding may end.
    match (reply.fault, asked.fault) {
        (Some(fault), None) => Err(fault),
        _ => Ok(()),
    }
}

/// Cases of one class and how many of them the fast path answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub cases: usize,
    /// Answered by the fast path.
    pub transmitted: usize,
}

impl Tally {
    /// Share of answers in percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        self.transmitted as f64 * 100.0 / self.cases.max(1) as f64
    }
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Report {
    /// By class.
    pub classes: BTreeMap<Class, Tally>,
    /// How the paths differed, and in which case.
    pub disagreements: Vec<String>,
}

/// A class of questions, by what they ask and what they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// For people.
    pub name: &'static str,
    /// The fast path is for these.
    pub supported: bool,
}

/// Classes that the fast path must answer.
pub const SUPPORTED: [&str; 31] = [
    "dns-a",
    "dns-aaaa",
    "dns-vip",
    "dns-servfail",
    "dns-nodata-family",
    "dns-https-nodata",
    "dns-https",
    "dns-srv",
    "dns-nodata",
    "dns-partial",
    "dns-nxdomain",
    "dns-edns",
    "dns-subnet",
    "dns-cookie",
    "dns-options",
    "dns-badvers",
    "dns-mixed-case",
    "dns-cname",
    "dns-referral",
    "cdsr-legacy",
    "cdsr-v4",
    "cdsr-v6",
    "cdsr-path",
    "cdsr-short",
    "cdsr-excluded",
    "cdsr-no-family",
    "cdsr-retry",
    "one-tag",
    "two-tags",
    "ipv4-options",
    "ipv6-extensions",
];

impl Class {
    /// Class of a case by what the slow path makes of it.
    pub fn of<T: Tables>(case: &Case, tables: &T) -> Self {
        let trace = slow::answer(tables, &case.flow, &case.payload).map(|outcome| outcome.trace);
        let reason = trace.map_or(Reason::PuntPort, |trace| trace.reason);
        let target = trace.filter(|trace| trace.decided).and_then(|trace| tables.target(trace.target));
        let name = if trace.is_some_and(|trace| has_inner_branch(tables, trace.group)) {
            "(over 64 targets)"
        } else if case.kind == Kind::Https && trace.is_some_and(|trace| has_two_choices(tables, &trace)) {
            "(https of two choices)"
        } else if case.kind == Kind::Https && trace.is_some_and(|trace| has_sites(tables, &trace)) {
            "(https of sites)"
        } else if let Some(name) = target.and_then(|target| Self::other_outcome(case.kind, target)) {
            name
        } else {
            Self::name(case.kind, reason, &case.payload)
        };
        Self { name, supported: SUPPORTED.contains(&name) }
    }

    /// A name or a delegation instead of servers.
    fn other_outcome(kind: Kind, target: &Target) -> Option<&'static str> {
        Some(match (target.outcome, kind) {
            (OUTCOME_ADDRESS, _) | (_, Kind::Damaged | Kind::SlowDns | Kind::SlowCdsr) => return None,
            (OUTCOME_DELEGATION, _) if target.servers > 2 => "(over 2 name servers)",
            (_, Kind::Tagged { .. } | Kind::Options { .. } | Kind::Stray) => "(outcomes in odd frames)",
            (_, Kind::CdsrHost { .. } | Kind::CdsrPath | Kind::CdsrShort | Kind::CdsrExcluded) => {
                "cdsr-legacy"
            }
            (OUTCOME_DELEGATION, _) => "dns-referral",
            (..) => "dns-cname",
        })
    }

    fn name(kind: Kind, reason: Reason, payload: &[u8]) -> &'static str {
        let named = matches!(reason, Reason::FirstTier | Reason::LaterTier | Reason::Fallback);
        match (kind, reason) {
            (Kind::Edns, _) if named => "dns-edns",
            (Kind::Subnet, _) if named => "dns-subnet",
            (Kind::Cookie, _) if named => "dns-cookie",
            (Kind::Combined, _) if named => "dns-options",
            (Kind::BadVersion, Reason::DnsBadVers) => "dns-badvers",
            (Kind::MixedCase, _) if named => "dns-mixed-case",
            (Kind::Address { v6: false }, _) if named => "dns-a",
            (Kind::Address { v6: true }, _) if named => "dns-aaaa",
            (Kind::Address { .. }, Reason::VipAddress) => "dns-vip",
            (Kind::Address { .. }, Reason::NothingUsable) => "dns-servfail",
            (Kind::Address { .. }, Reason::NoDataFamily) => "dns-nodata-family",
            (Kind::Https, Reason::NoDataType) => "dns-https-nodata",
            (Kind::Https, _) if named => "dns-https",
            (Kind::Srv, _) if named && is_short(payload) => "dns-srv",
            (Kind::OtherType, Reason::NoDataType) => "dns-nodata",
            (Kind::Stray, Reason::NoDataPartial) => "dns-partial",
            (Kind::Stray, Reason::NxDomain) => "dns-nxdomain",
            (Kind::CdsrHost { v6: false }, _) if named => "cdsr-v4",
            (Kind::CdsrHost { v6: true }, _) if named => "cdsr-v6",
            (Kind::CdsrPath, _) if named => "cdsr-path",
            (Kind::CdsrShort, _) if named => "cdsr-short",
            (Kind::CdsrExcluded, _) if named => "cdsr-excluded",
            (Kind::CdsrHost { .. } | Kind::CdsrPath, Reason::NoDataFamily) => "cdsr-no-family",
            (Kind::CdsrHost { .. } | Kind::CdsrPath, Reason::NothingUsable) => "cdsr-retry",
            (Kind::Tagged { two: false }, _) if named => "one-tag",
            (Kind::Tagged { two: true }, _) if named => "two-tags",
            (Kind::Options { v6: false }, _) if named => "ipv4-options",
            (Kind::Options { v6: true }, _) if named => "ipv6-extensions",
            (Kind::SlowDns | Kind::SlowCdsr, _) => "(for the slow path)",
            (Kind::Damaged, _) => "(damaged)",
            _ => "(others)",
        }
    }
}

/// Whether a name stands for sites.
fn has_sites<T: Tables>(tables: &T, trace: &Trace) -> bool {
    tables.service(trace.service).is_some_and(|service| service.flags & SERVICE_SRV != 0)
}

/// Whether a share group's records have three levels: the fast path chooses through two.
fn has_inner_branch<T: Tables>(tables: &T, group: u32) -> bool {
    let root = tables.group(group).and_then(|pointer| tables.record(pointer.record()));
    root.is_some_and(|root| {
        root.branch == 1 && tables.record(root.base).is_some_and(|child| child.branch == 1)
    })
}

/// Whether the first label of a question is one that the fast path reads: a bucket of at most 16 bytes, an IPv4 address.
fn is_short(payload: &[u8]) -> bool {
    let label = &payload[13..13 + usize::from(payload[12])];
    let mut parts = label.strip_prefix(b"_").unwrap_or(label).splitn(2, |byte| *byte == b'-');
    parts.next().is_some_and(|bucket| bucket.len() <= 16)
        && parts.next().is_none_or(|number| number.len() <= 10)
}

/// Whether the servers of both families are chosen from different records: HTTPS records name those of both.
fn has_two_choices<T: Tables>(tables: &T, trace: &Trace) -> bool {
    let service = tables.service(trace.service).filter(|_| trace.decided);
    let group = |service: &Service, family: u32| {
        let cell =
            (service.coverage * 2 + family) * tables.meta().map_or(0, |meta| meta.regions) + trace.region;
        tables.cell(cell)
    };
    let both = SERVICE_HAS_IPV4 | SERVICE_HAS_IPV6;
    service.is_some_and(|service| service.flags & both == both && group(service, 0) != group(service, 1))
}

impl Report {
    /// Cases asked.
    #[must_use]
    pub fn cases(&self) -> usize {
        self.classes.values().map(|tally| tally.cases).sum()
    }

    /// Adds another report's figures.
    pub fn add(&mut self, other: Self) {
        for (class, tally) in other.classes {
            let sum = self.classes.entry(class).or_default();
            sum.cases += tally.cases;
            sum.transmitted += tally.transmitted;
        }
        self.disagreements.extend(other.disagreements);
    }

    /// Everything that is wrong: differences, classes that did not occur `least` times, and supported classes of which
    /// the fast path left over 1 %.
    #[must_use]
    pub fn faults(&self, least: usize) -> Vec<String> {
        let class = |name| {
            let tally = self.classes.get(&Class { name, supported: true }).copied().unwrap_or_default();
            if tally.cases < least {
                return Some(format!("{name}: {} cases", tally.cases));
            }
            (tally.cases > 0 && tally.percent() < 99.0)
                .then(|| format!("{name}: {:.2} % answered", tally.percent()))
        };
        self.disagreements.iter().take(5).cloned().chain(SUPPORTED.into_iter().filter_map(class)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:<20} {:>8} {:>8} {:>8}", "class", "cases", "fast", "%")?;
        for (class, tally) in &self.classes {
            let Tally { cases, transmitted } = tally;
            writeln!(out, "{:<20} {cases:>8} {transmitted:>8} {:>8.2}", class.name, tally.percent())?;
        }
        write!(out, "{} cases, {} disagreements", self.cases(), self.disagreements.len())
    }
}

/// Asks both paths all cases.
pub fn compare<T: Tables>(
    fast: &mut impl FastPath,
    slow: &T,
    cases: impl IntoIterator<Item = Case>,
) -> Report {
    let mut report = Report::default();
    for case in cases {
        let (action, after) = fast.run(&case.frame);
        if let Err(difference) = judge(slow, &case.frame, action, &after) {
            report.disagreements.push(format!("{case:02x?}: {difference}"));
        }
        let tally = report.classes.entry(Class::of(&case, slow)).or_default();
        tally.cases += 1;
        tally.transmitted += usize::from(action == Action::Transmit);
    }
    report
}
