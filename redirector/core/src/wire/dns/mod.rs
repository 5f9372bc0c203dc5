//! DNS: parse a query, find its rule, answer in place (RFC 1035, 2308, 3596, 6891, 8482; design: DNS semantics).
//!
//! `respond` is the only author of DNS answers. With `FULL` it answers everything; without, it answers what the fast
//! path is for and punts the rest, and where it answers it gives the same bytes.

mod binding;
pub mod cookie;
mod edns;
mod find;
mod names;
mod outcome;
mod read;
mod srv;
mod subnet;
mod write;

pub use find::codepoint_hash;

use super::{Action, Asked, Message, Scratch};
use crate::decide::{FAST_ENDPOINTS, look_ahead};
use crate::limit::{self, Class, Limits, Unlimited};
use crate::table::{Meta, Tables};
use crate::verdict::Reason;
use crate::verifier::phase;

/// Bytes of a DNS header.
pub const HEADER: usize = 12;
/// UDP payload size we offer, and the largest answer over UDP (A-5, DNS flag day 2020).
pub const UDP_LIMIT: u16 = 1232;
/// What every client can take over UDP (RFC 1035 section 2.3.4).
const UDP_LEAST: u16 = 512;
/// Room a reply buffer needs, and the largest answer over TCP: a referral to four name servers with the longest names.
pub const MAX_REPLY: usize = 2048;
/// Name servers of a delegation that the fast path writes; more are punted.
const FAST_NAME_SERVERS: u8 = 2;

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
const TYPE_OPT: u16 = 41;
const TYPE_DS: u16 = 43;
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;
const TYPE_TSIG: u16 = 250;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_CH: u16 = 3;

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const NOTAUTH: u16 = 9;
const BADVERS: u16 = 16;
const BADCOOKIE: u16 = 23;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
/// Copied from the query: recursion desired, checking disabled.
const COPIED: u16 = 0x0110;

const SOA_REFRESH: u32 = 3600;
const SOA_RETRY: u32 = 600;
const SOA_EXPIRE: u32 = 86400;
const SOA_LENGTH: usize = 51;
const OPT_LENGTH: usize = 11;
const DISCOVERY: &[u8] = b"\x11v=cdsr1 port=2554";

/// A query's fixed parts and where its question ends.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    /// First four bytes: ID and flags.
    id_flags: u32,
    /// QDCOUNT and ANCOUNT.
    counts: u32,
    /// NSCOUNT and ARCOUNT.
    more_counts: u32,
    /// Labels of the name; if its zone is known, those before the suffix.
    labels: usize,
    /// Where its suffix begins, if that seems to be the [`Tail`]; else beyond every message.
    suffix: usize,
    /// Number of its zone, once that is known; until then [`NONE`].
    zone: u32,
    /// Place behind the question.
    end: usize,
    /// QTYPE.
    qtype: u16,
    /// QCLASS.
    qclass: u16,
    /// EDNS: [`NO_EDNS`], or whether the DO bit is set.
    edns: u16,
    /// UDP payload size that EDNS offers.
    payload: u16,
}

const NO_EDNS: u16 = 2;

impl Head {
    fn flags(&self) -> u16 {
        u32::from_be(self.id_flags) as u16
    }

    /// Longest reply that the client takes: over UDP, what it offers, within our own bounds.
    #[inline(always)]
    fn room(&self, asked: &Asked<'_>) -> usize {
        if asked.room > UDP_LIMIT as usize {
            asked.room
        } else if self.edns == NO_EDNS {
            UDP_LEAST as usize
        } else {
            self.payload.clamp(UDP_LEAST, UDP_LIMIT) as usize
        }
    }

    /// Bytes of the reply's OPT record.
    #[inline(always)]
    fn opt_length(&self, options: &edns::Options) -> usize {
        if self.edns == NO_EDNS { 0 } else { OPT_LENGTH + (options.length as usize & 127) }
    }
}

/// What the answer section or its absence is. Numbers throughout: what an enum leaves undefined, LLVM fills with
/// whatever a register holds, and the verifier refuses arithmetic on pointers.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Body {
    /// [`UNDECIDED`] and others.
    kind: u32,
    /// RCODE, or address family (0 IPv4, 1 IPv6).
    value: u32,
}

/// Not known yet: the targets of a service.
const UNDECIDED: u32 = 0;
/// Addresses of the verdict's targets.
const TARGETS: u32 = 1;
/// Address of the VIP.
const VIP: u32 = 2;
/// SOA in the authority section.
const NEGATIVE: u32 = 3;
/// No record.
const EMPTY: u32 = 4;
/// SOA as answer.
const SOA: u32 = 5;
/// NS as answer, with its addresses.
const NS: u32 = 6;
/// Discovery TXT.
const DISCOVERED: u32 = 7;
/// CNAME to the name that the verdict's target is.
const NAME: u32 = 8;
/// NS of the verdict's target in the authority section; value 0 with all their addresses, 1 with those that are needed.
const DELEGATION: u32 = 9;
/// Too long for UDP, or over a limit: the question alone (RFC 2181 section 9).
const TRUNCATED: u32 = 10;
/// HTTPS or SVCB with the addresses of the verdict's targets.
const BINDING: u32 = 11;
/// SRV, HTTPS or SVCB of the sites that were ranked.
const LOCATIONS: u32 = 12;
/// TXT with the box's name, which has `value` bytes.
const IDENTITY: u32 = 13;

impl Body {
    #[inline(always)]
    fn new(kind: u32, value: u32) -> Self {
        Self { kind, value }
    }
    #[inline(always)]
    fn empty(rcode: u16) -> Self {
        Self::new(EMPTY, rcode as u32)
    }
}

/// Everything a reply is built from.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    body: Body,
    /// Where the zone's name begins in the question.
    suffix_at: usize,
    /// VIP number.
    vip: u32,
    /// The zone's SOA serial.
    serial: u32,
    /// The zone's TTL for negative answers.
    negative_ttl: u32,
    /// The zone's TTL for its own records.
    ns_ttl: u32,
    /// Records of bodies from [`NAME`] on: in the answer, authority and additional sections.
    sections: [u32; 3],
    /// Bytes of these records.
    length: usize,
    /// AA and TC bits with them.
    bits: u16,
    /// What a [`BINDING`] may take.
    room: usize,
    /// Entry of the names' table with its parameters.
    binding: u32,
    /// Its targets by IPv4 and IPv6.
    hints: [Hints; 2],
    /// First entry of the names' table with the names of sites, and the port of SRV records.
    sites: u32,
    port: u16,
}

/// Targets whose addresses of one family are told.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Hints {
    targets: [u32; FAST_ENDPOINTS as usize],
    count: u32,
}

/// A query's way from phase to phase.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    head: Head,
    options: edns::Options,
    plan: Plan,
    asking: srv::Asking,
    /// Zone and its number of labels before the suffix.
    zone: u32,
    codepoint: usize,
    service: u32,
}

impl Work {
    /// Whether the query carried a server cookie that we gave to its sender (RFC 7873 section 5.2.5): its address is not
    /// forged.
    #[inline(always)]
    pub fn has_valid_cookie(&self) -> bool {
        self.options.has & edns::VALID_COOKIE != 0
    }

    /// Scope of the client subnet in the answer (RFC 7871), if it has one.
    pub fn subnet_scope(&self) -> Option<u8> {
        self.options.scope()
    }
}

/// Turns a query into its answer, however many there are.
#[inline(always)]
pub fn respond<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    asked: &Asked<'_>,
    tables: &T,
    scratch: &mut Scratch,
) -> Action {
    respond_within::<M, T, Unlimited, FULL>(message, asked, tables, &mut Unlimited, scratch)
}

/// Turns a query into its answer, within the client's limits; the scratch's `limit` tells the time.
#[inline(always)]
pub fn respond_within<M: Message, T: Tables, L: Limits, const FULL: bool>(
    message: &mut M,
    asked: &Asked<'_>,
    tables: &T,
    limits: &mut L,
    scratch: &mut Scratch,
) -> Action {
    let info = tables.vip_info(asked.vip.vip as u32);
    let ahead = look_ahead::<T, FULL>(&asked.client, tables, &mut scratch.query);
    let (Some(meta), Some(info), Some(())) = (tables.meta(), info, ahead) else {
        return scratch.trace.with(Reason::PuntTable, Action::Punt);
    };
    scratch.limit.begin::<L>(&asked.client, &meta.keys);
    'planned: {
        let Work { head, options, .. } = &mut scratch.dns;
        let labels = &mut scratch.labels;
        if let Err(refusal) = read::head::<M, FULL>(message, &meta.keys, &info.names, labels, head, options) {
            match refuse::<M, L, FULL>(message, refusal, meta, limits, scratch) {
                Some(action) => return action,
                None => break 'planned,
            }
        }
        phase();
        let Work { head, options, plan, .. } = &mut scratch.dns;
        if options.has != 0
            && let Err(refusal) = edns::take(message, asked, tables, options)
        {
            match refuse::<M, L, FULL>(message, refusal, meta, limits, scratch) {
                Some(action) => return action,
                None => break 'planned,
            }
        }
        if FULL && head.counts == 0 {
            // A question for a cookie alone, or whether the one sent is good (RFC 7873 section 5.4).
            scratch.trace.reason = Reason::DnsCookie;
            let rcode = if options.has_no_bad_cookie() { NOERROR } else { BADCOOKIE };
            *plan = Plan { body: Body::empty(rcode), ..Plan::default() };
            break 'planned;
        }
        phase();
        if find::rule::<T, FULL>(asked, tables, scratch).is_none() {
            return Action::Punt;
        }
        phase();
        if scratch.dns.plan.body.kind == UNDECIDED
            && find::targets::<M, T, FULL>(message, asked, tables, scratch).is_none()
        {
            return Action::Punt;
        }
    }
    phase();
    if !is_within(meta, limits, scratch) {
        return Action::Drop;
    }
    phase();
    write::reply::<M, T, FULL>(message, tables, scratch)
}

/// Whether the planned reply may be sent. If the client's limit is reached, a truncated one may, or none. Who showed by a
/// cookie that its address is its own has no limit (RFC 7873 section 5.2.5).
#[inline(always)]
fn is_within<L: Limits>(meta: &Meta, limits: &mut L, scratch: &mut Scratch) -> bool {
    let Scratch { limit, trace, dns: work, .. } = scratch;
    let kind = work.plan.body.kind;
    let class = if kind == NEGATIVE || kind == EMPTY { Class::Errors } else { Class::Answers };
    if work.has_valid_cookie() || limit.admits(limits, meta, class) {
        return true;
    }
    if !limit::slips(limits, meta) {
        trace.over_limit(Reason::LimitDrop);
        return false;
    }
    trace.over_limit(Reason::LimitSlip);
    let plan = &mut work.plan;
    plan.body = Body::new(TRUNCATED, 0);
    (plan.sections, plan.length, plan.bits) = ([0; 3], 0, TC);
    // Options would make it longer than the query.
    (work.options.has, work.options.length) = (0, 0);
    true
}

/// Sends a query of the fast path's that is over the budget for punts back as it is, with the truncation flag: who
/// asked can come by TCP. `None` if it is no query.
#[inline(always)]
pub(super) fn turn_away<M: Message>(message: &mut M) -> Option<()> {
    let len = message.len();
    let id_flags = message.load::<u32>(0)?;
    let flags = u32::from_be(id_flags) as u16;
    if len < HEADER || flags & (QR | OPCODE) != 0 {
        return None;
    }
    message.begin_reply(len, len).ok()?;
    let new = u32::from_be(id_flags) & 0xffff_0000 | (flags & COPIED | QR | TC) as u32;
    message.replace(0, id_flags, new.to_be())
}

/// Why a message is not a query that can be looked up.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// The slow path's reason, and the fast path's: the same if it answers, too.
    reason: Reason,
    punt: Reason,
    rcode: u16,
    /// The question could be read and is repeated in the answer.
    question: bool,
}

impl Refusal {
    /// What cannot be parsed.
    const FORM: Self =
        Self { reason: Reason::DnsFormErr, punt: Reason::PuntDnsForm, rcode: FORMERR, question: false };
    /// An EDNS option that cannot be.
    const OPTION: Self =
        Self { reason: Reason::DnsFormErr, punt: Reason::DnsFormErr, rcode: FORMERR, question: true };
}

/// Answers what cannot be looked up with an error alone, or leaves it to the slow path. `None`: the reply is planned.
#[inline(always)]
fn refuse<M: Message, L: Limits, const FULL: bool>(
    message: &mut M,
    refusal: Refusal,
    meta: &Meta,
    limits: &mut L,
    scratch: &mut Scratch,
) -> Option<Action> {
    scratch.trace.reason = if FULL { refusal.reason } else { refusal.punt };
    if !FULL && refusal.punt.is_punt() {
        return Some(Action::Punt);
    }
    if refusal.reason == Reason::NotARequest {
        return Some(Action::Ignore);
    }
    if !refusal.question {
        if !scratch.limit.admits(limits, meta, Class::Errors) {
            scratch.trace.over_limit(Reason::LimitDrop);
            return Some(Action::Drop);
        }
        return Some(header_only(message, refusal.rcode));
    }
    (scratch.dns.options.has, scratch.dns.options.length) = (0, 0);
    scratch.dns.plan = Plan { body: Body::empty(refusal.rcode), ..Plan::default() };
    None
}

/// An error without question: it could not be read (RFC 1035 section 4.1.1).
fn header_only<M: Message>(message: &mut M, rcode: u16) -> Action {
    let (Some(id_flags), Some(counts), Some(more)) =
        (message.load::<u32>(0), message.load::<u32>(4), message.load::<u32>(8))
    else {
        return Action::Ignore;
    };
    let id = u32::from_be(id_flags) >> 16;
    let flags = (u32::from_be(id_flags) as u16 & (OPCODE | COPIED)) | QR | rcode;
    let written = message.begin_reply(HEADER, HEADER).is_ok()
        && message.replace(0, id_flags, (id << 16 | flags as u32).to_be()).is_some()
        && message.replace(4, counts, 0u32).is_some()
        && message.replace(8, more, 0u32).is_some();
    if written { Action::Reply } else { Action::Ignore }
}
