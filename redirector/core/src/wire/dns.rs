//! DNS: parse a query, find its rule, answer in place (RFC 1035, 2308, 3596, 6891, 8482; design: DNS semantics).
//!
//! `respond` is the only author of DNS answers. With `FULL` it answers everything; without, it answers what the fast
//! path is for and punts the rest, and where it answers it gives the same bytes.

use super::{Action, Asked, Message, Scratch, Trace, text};
use crate::decide::{decide, look_ahead};
use crate::hash::{Keys, Slot, fold_case};
use crate::lookup::{self, FAST_LABELS, Labels, MAX_LABELS};
use crate::table::{
    CHOOSE_CONTENT, NONE, SERVICE_DNS_VIP, SERVICE_HAS_IPV4, SERVICE_HAS_IPV6, SPACE_DNS, Service, Tables,
    Zone,
};
use crate::verdict::{Reason, Verdict};
use crate::verifier::{forget, phase};

/// Bytes of a DNS header.
pub const HEADER: usize = 12;
/// UDP payload size we offer, and the largest answer over UDP (A-5, DNS flag day 2020).
pub const UDP_LIMIT: u16 = 1232;
/// Room a reply buffer needs: the longest question and the largest answer, all below 512 bytes.
pub const MAX_REPLY: usize = 512;

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_SOA: u16 = 6;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const TYPE_TSIG: u16 = 250;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const NOTAUTH: u16 = 9;
const BADVERS: u16 = 16;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
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
    /// Labels of the name.
    labels: usize,
    /// Place behind the question.
    end: usize,
    /// QTYPE.
    qtype: u16,
    /// EDNS: [`NO_EDNS`], or whether the DO bit is set.
    edns: u16,
}

const NO_EDNS: u16 = 2;

impl Head {
    fn flags(&self) -> u16 {
        u32::from_be(self.id_flags) as u16
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
}

/// A query's way from phase to phase.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    head: Head,
    plan: Plan,
    /// Zone and its number of labels before the suffix.
    zone: u32,
    codepoint: usize,
    service: u32,
}

/// Turns a query into its answer.
#[inline(always)]
pub fn respond<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    asked: &Asked<'_>,
    tables: &T,
    scratch: &mut Scratch,
) -> Action {
    let ahead = look_ahead::<T, FULL>(&asked.client, tables, &mut scratch.query);
    let (Some(meta), Some(())) = (tables.meta(), ahead) else {
        return scratch.trace.with(Reason::PuntTable, Action::Punt);
    };
    if let Err(refusal) =
        read_head::<M, FULL>(message, &meta.keys, &mut scratch.labels, &mut scratch.dns.head)
    {
        return refuse::<M, T, FULL>(message, refusal, tables, scratch);
    }
    phase();
    if find_rule::<T, FULL>(asked, tables, scratch).is_none() {
        return Action::Punt;
    }
    phase();
    if scratch.dns.plan.body.kind == UNDECIDED && choose::<T, FULL>(asked, tables, scratch).is_none() {
        return Action::Punt;
    }
    phase();
    write::<M, T, FULL>(message, tables, scratch)
}

/// Why a message is not a query that can be looked up.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// The slow path's reason, and the fast path's.
    reason: Reason,
    punt: Reason,
    rcode: u16,
    /// The question could be read and is repeated in the answer.
    question: bool,
}

impl Refusal {
    const FORM: Self =
        Self { reason: Reason::DnsFormErr, punt: Reason::PuntDnsForm, rcode: FORMERR, question: false };
}

#[inline(always)]
fn read_head<M: Message, const FULL: bool>(
    message: &M,
    keys: &Keys,
    labels: &mut Labels,
    head: &mut Head,
) -> Result<(), Refusal> {
    let silent =
        Refusal { reason: Reason::NotARequest, punt: Reason::PuntDnsForm, rcode: NOERROR, question: false };
    let (Some(id_flags), Some(counts), Some(more_counts)) =
        (message.load::<u32>(0), message.load::<u32>(4), message.load::<u32>(8))
    else {
        return Err(silent);
    };
    *head = Head { id_flags, counts, more_counts, labels: 0, end: HEADER, qtype: 0, edns: NO_EDNS };
    if head.flags() & QR != 0 {
        return Err(silent);
    }
    if head.flags() & OPCODE != 0 {
        return Err(Refusal {
            reason: Reason::DnsNotImp,
            punt: Reason::PuntDnsForm,
            rcode: NOTIMP,
            question: false,
        });
    }
    let sections = u32::from_be(more_counts);
    if u32::from_be(counts) != 1 << 16 || sections >> 16 != 0 {
        return Err(Refusal::FORM);
    }
    let (count, end) = match read_name::<M, FULL>(message, keys, labels) {
        Ok(name) => name,
        Err(reason) => return Err(Refusal { punt: reason, ..Refusal::FORM }),
    };
    head.labels = count;
    head.end = end + 4;
    let Some(question) = message.load::<u32>(end) else { return Err(Refusal::FORM) };
    let question = u32::from_be(question);
    head.qtype = (question >> 16) as u16;
    read_additional::<M, FULL>(message, head, sections as usize & 0xffff)?;
    if question as u16 != CLASS_IN {
        return Err(Refusal {
            reason: Reason::DnsRefused,
            punt: Reason::PuntType,
            rcode: REFUSED,
            question: true,
        });
    }
    Ok(())
}

/// Hashes the question's labels; gives their number and the place behind the root label.
///
/// One loop over words instead of a loop of loops: the kernel's verifier follows every path through it.
#[inline(always)]
fn read_name<M: Message, const FULL: bool>(
    message: &M,
    keys: &Keys,
    labels: &mut Labels,
) -> Result<(usize, usize), Reason> {
    let limit = if FULL { MAX_LABELS - 1 } else { FAST_LABELS };
    let rounds = if FULL { 256 } else { 48 };
    let mut length = message.load::<u8>(HEADER).ok_or(Reason::PuntDnsForm)? as usize;
    if length == 0 {
        return Ok((0, HEADER + 1));
    }
    let (mut at, mut left, mut count) = (HEADER + 1, length, 0usize);
    let mut hash = keys.seed;
    labels.offsets[0] = HEADER as u16;
    for _ in 0..rounds {
        (at, left) = (forget(at, hash), forget(left, hash));
        (length, count) = (forget(length, hash), forget(count, hash));
        if length > 63 || at + left > HEADER + 254 {
            return Err(Reason::PuntDnsForm);
        }
        // Zeros stand behind the message's end: what seems to be a root label there has no question behind it.
        let (word, _) =
            text::word_at(message, at, message.len().wrapping_sub(at)).ok_or(Reason::PuntDnsForm)?;
        if left >= 8 {
            hash = keys.step(hash, fold_case(word));
            (at, left) = (at + 8, left - 8);
            continue;
        }
        let bits = 8 * left as u64;
        let rest = word & !(u64::MAX << bits);
        labels.hashes[count & (MAX_LABELS - 1)] = keys.last(hash, fold_case(rest), length);
        (at, count) = (at + left + 1, count + 1);
        // What follows a label is the next one's length.
        length = (word >> bits) as usize & 0xff;
        if length == 0 {
            return Ok((count, at));
        }
        if count >= limit {
            return Err(Reason::PuntLabels);
        }
        labels.offsets[count & (MAX_LABELS - 1)] = (at - 1) as u16;
        (left, hash) = (length, keys.seed);
    }
    Err(Reason::PuntLabels)
}

/// Reads the additional section: EDNS or nothing in the fast path, and nothing may follow it.
#[inline(always)]
fn read_additional<M: Message, const FULL: bool>(
    message: &M,
    head: &mut Head,
    records: usize,
) -> Result<(), Refusal> {
    let mut at = head.end;
    let mut tsig = false;
    for record in 0..records {
        if !FULL && record > 0 {
            return Err(Refusal::FORM);
        }
        let start = skip_owner::<M, FULL>(message, at).ok_or(Refusal::FORM)?;
        let (kind, ttl, length) = record_head(message, start).ok_or(Refusal::FORM)?;
        if kind == TYPE_OPT {
            if start != at + 1 || head.edns != NO_EDNS {
                return Err(Refusal::FORM);
            }
            head.edns = (ttl >> 15) as u16 & 1;
            if ttl >> 16 & 0xff != 0 {
                return Err(Refusal {
                    reason: Reason::DnsBadVers,
                    punt: Reason::PuntEdns,
                    rcode: BADVERS,
                    question: true,
                });
            }
            options::<M, FULL>(message, start + 10, length)?;
        } else if !FULL {
            return Err(Refusal { punt: Reason::PuntEdns, ..Refusal::FORM });
        }
        tsig |= kind == TYPE_TSIG;
        at = start + 10 + length;
    }
    if at != message.len() {
        return Err(Refusal::FORM);
    }
    if tsig {
        let (reason, punt) = (Reason::DnsRefused, Reason::PuntEdns);
        return Err(Refusal { reason, punt, rcode: NOTAUTH, question: true });
    }
    Ok(())
}

/// Place behind a record's owner name. The fast path takes the root only.
#[inline(always)]
fn skip_owner<M: Message, const FULL: bool>(message: &M, at: usize) -> Option<usize> {
    let mut at = at;
    for _ in 0..if FULL { MAX_LABELS } else { 1 } {
        match message.load::<u8>(at)? {
            0 => return Some(at + 1),
            length if FULL && length & 0xc0 == 0xc0 => return Some(at + 2),
            length if FULL && length < 64 => at += 1 + length as usize,
            _ => return None,
        }
    }
    None
}

/// Type, TTL and RDLENGTH of the record whose type field stands at `at`.
#[inline(always)]
fn record_head<M: Message>(message: &M, at: usize) -> Option<(u16, u32, usize)> {
    let first = u64::from_be(message.load(at)?);
    let length = u16::from_be(message.load(at + 8)?);
    Some(((first >> 48) as u16, first as u32, length as usize))
}

/// Checks that EDNS options fill their record exactly (RFC 6891 section 6.1.2). None is used.
#[inline(always)]
fn options<M: Message, const FULL: bool>(message: &M, start: usize, length: usize) -> Result<(), Refusal> {
    let end = start + length;
    if end > message.len() {
        return Err(Refusal::FORM);
    }
    let mut at = start;
    for _ in 0..if FULL { 512 } else { 4 } {
        if at == end {
            return Ok(());
        }
        if at + 4 > end {
            return Err(Refusal::FORM);
        }
        let option = message.load::<u32>(at).map(u32::from_be).ok_or(Refusal::FORM)?;
        at += 4 + (option as usize & 0xffff);
    }
    if at == end { Ok(()) } else { Err(Refusal { punt: Reason::PuntEdns, ..Refusal::FORM }) }
}

/// Answers what cannot be looked up: the slow path with an error, the fast path by punting.
#[inline(always)]
fn refuse<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    refusal: Refusal,
    tables: &T,
    scratch: &mut Scratch,
) -> Action {
    if !FULL {
        return scratch.trace.with(refusal.punt, Action::Punt);
    }
    scratch.trace.reason = refusal.reason;
    if refusal.reason == Reason::NotARequest {
        return Action::Ignore;
    }
    if !refusal.question {
        return header_only(message, refusal.rcode);
    }
    scratch.dns.plan = Plan { body: Body::empty(refusal.rcode), ..Plan::default() };
    write::<M, T, FULL>(message, tables, scratch)
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

/// Finds what the name means: the reply's body, or the service to choose targets for. `None`: punt, for the reason
/// noted.
#[inline(always)]
fn find_rule<T: Tables, const FULL: bool>(
    asked: &Asked<'_>,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<()> {
    let Scratch { labels, trace, dns: Work { head, plan, zone: number, codepoint, service }, .. } = scratch;
    *plan = Plan { vip: asked.vip.vip as u32, ..Plan::default() };
    let meta = tables.meta()?;
    let (cdn, depths) = (asked.vip.cdn, asked.vip.dns_depths);
    let found = if FULL {
        lookup::suffix::<T, MAX_LABELS>(tables, labels, head.labels, SPACE_DNS, cdn, depths)
    } else {
        lookup::suffix::<T, FAST_LABELS>(tables, labels, head.labels, SPACE_DNS, cdn, depths)
    };
    if found == NONE {
        trace.reason = if FULL { Reason::NotOurZone } else { Reason::PuntNotOurZone };
        plan.body = Body::empty(REFUSED);
        return FULL.then_some(());
    }
    *number = found;
    let zone = tables.zone(found)?;
    let count = head.labels - (zone.suffix_labels as usize).min(head.labels);
    *codepoint = count;
    plan.suffix_at = labels.offsets[count & (MAX_LABELS - 1)] as usize;
    (plan.serial, plan.negative_ttl, plan.ns_ttl) = (zone.serial, zone.negative_ttl, zone.ns_ttl);
    let discovery = count > 0 && labels.hash(0) == meta.cdsr_label;
    let own_record = count == 0 && (head.qtype == TYPE_SOA || head.qtype == TYPE_NS);
    if !FULL && (discovery || own_record || head.qtype >= 128) {
        trace.reason = if head.qtype >= 128 { Reason::PuntType } else { Reason::PuntZoneRecord };
        return None;
    }
    plan.body = if head.qtype >= 128 && head.qtype != TYPE_ANY && head.qtype < 256 {
        trace.reason = Reason::DnsRefused;
        Body::empty(REFUSED)
    } else if discovery {
        discover(tables, labels, count, found, zone, head.qtype, trace)
    } else if own_record {
        trace.reason = Reason::ZoneRecord;
        Body::new(if head.qtype == TYPE_SOA { SOA } else { NS }, 0)
    } else if count == 1 && labels.hash(0) == meta.ns_label {
        vip_body(head.qtype, asked, tables, trace, Reason::ZoneRecord)?
    } else {
        let entry = lookup::rule(tables, labels, count, SPACE_DNS, found, zone);
        *service = entry.value;
        if entry.fingerprint == 0 {
            if count == 0 {
                negative(trace, Reason::NoDataType, NOERROR)
            } else {
                negative(trace, Reason::NxDomain, NXDOMAIN)
            }
        } else if lookup::is_partial(&entry) {
            negative(trace, Reason::NoDataPartial, NOERROR)
        } else {
            Body::default()
        }
    };
    Some(())
}

#[inline(always)]
fn negative(trace: &mut Trace, reason: Reason, rcode: u16) -> Body {
    trace.reason = reason;
    Body::new(NEGATIVE, rcode as u32)
}

/// `_cdsr` beneath a name that has or leads to a rule (P-19). Slow path only.
fn discover<T: Tables>(
    tables: &T,
    labels: &Labels,
    count: usize,
    number: u32,
    zone: &Zone,
    qtype: u16,
    trace: &mut Trace,
) -> Body {
    let mut host = *labels;
    host.hashes.copy_within(1.., 0);
    let exists =
        count == 1 || lookup::rule(tables, &host, count - 1, SPACE_DNS, number, zone).fingerprint != 0;
    match (exists, qtype) {
        (false, _) => negative(trace, Reason::NxDomain, NXDOMAIN),
        (true, TYPE_TXT | TYPE_ANY) => {
            trace.reason = Reason::CdsrRecord;
            Body::new(DISCOVERED, 0)
        }
        (true, _) => negative(trace, Reason::NoDataType, NOERROR),
    }
}

/// A name with a rule: addresses, or why there are none. `None`: punt.
#[inline(always)]
fn choose<T: Tables, const FULL: bool>(asked: &Asked<'_>, tables: &T, scratch: &mut Scratch) -> Option<()> {
    let Scratch {
        labels,
        query,
        verdict,
        trace,
        dns: Work { head, plan, codepoint, service: number, .. },
        ..
    } = scratch;
    let service = tables.service(*number)?;
    trace.service = *number;
    if service.flags & SERVICE_DNS_VIP != 0 {
        plan.body = vip_body(head.qtype, asked, tables, trace, Reason::VipAddress)?;
        return Some(());
    }
    let has_v4 = service.flags & SERVICE_HAS_IPV4 != 0;
    let v6 = match head.qtype {
        TYPE_A => false,
        TYPE_AAAA => true,
        // One RRset is enough (RFC 8482 section 4.1).
        TYPE_ANY => !has_v4,
        _ => {
            plan.body = negative(trace, Reason::NoDataType, NOERROR);
            return Some(());
        }
    };
    if !if v6 { service.flags & SERVICE_HAS_IPV6 != 0 } else { has_v4 } {
        plan.body = negative(trace, Reason::NoDataFamily, NOERROR);
        return Some(());
    }
    plan.body = Body::new(TARGETS, v6 as u32);
    let id = u32::from_be(head.id_flags) >> 16;
    (query.client, query.service) = (asked.client, *number);
    query.content = content(tables, labels, *codepoint, service);
    query.spread = (id as u64) << 16 | asked.port as u64;
    (query.family, query.want) = (v6 as u32, service.answers as u32);
    // DNS has no way to name servers; the list ends at its first empty place.
    (query.excluded[0], query.preferred) = (0, 0);
    phase();
    decide::<T, FULL>(query, service, tables, verdict);
    trace.verdict(*number, verdict);
    if verdict.reason.is_punt() {
        return None;
    }
    if verdict.count == 0 {
        plan.body = Body::empty(SERVFAIL);
    }
    Some(())
}

/// Hash of the codepoint, for services that choose by content.
#[inline(always)]
fn content<T: Tables>(tables: &T, labels: &Labels, codepoint: usize, service: &Service) -> u64 {
    let Some(meta) = tables.meta() else { return 0 };
    if service.choose_by != CHOOSE_CONTENT {
        return 0;
    }
    let mut slot = Slot::start(&meta.keys, SPACE_DNS, 0);
    for index in 0..FAST_LABELS {
        if index >= codepoint {
            break;
        }
        slot = slot.push(&meta.keys, labels.hash(index));
    }
    slot.find
}

/// An answer that names the VIP: at which the query came, or the other family's of the same VIP.
#[inline(always)]
fn vip_body<T: Tables>(
    qtype: u16,
    asked: &Asked<'_>,
    tables: &T,
    trace: &mut Trace,
    reason: Reason,
) -> Option<Body> {
    let info = tables.vip_info(asked.vip.vip as u32)?;
    let has_v4 = info.ipv4 != 0;
    let v6 = match qtype {
        TYPE_A => false,
        TYPE_AAAA => true,
        TYPE_ANY => !has_v4,
        _ => return Some(negative(trace, Reason::NoDataType, NOERROR)),
    };
    let has = if v6 { info.ipv6[0] | info.ipv6[1] != 0 } else { has_v4 };
    if !has {
        return Some(negative(trace, Reason::NoDataFamily, NOERROR));
    }
    trace.reason = reason;
    Some(Body::new(VIP, v6 as u32))
}

/// Writes the reply into the message.
#[inline(always)]
fn write<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    tables: &T,
    scratch: &mut Scratch,
) -> Action {
    let Scratch { verdict, trace, dns: Work { head, plan, .. }, .. } = scratch;
    let records = verdict.count as usize & 7;
    let info = tables.vip_info(plan.vip);
    let both = info.map_or([false; 2], |info| [info.ipv4 != 0, info.ipv6[0] | info.ipv6[1] != 0]);
    let address = if plan.body.value == 0 { 16 } else { 28 };
    let (rcode, answers, authority, additional, length) = match plan.body.kind {
        TARGETS => (NOERROR, records, 0, 0, records * address),
        VIP => (NOERROR, 1, 0, 0, address),
        NEGATIVE => (plan.body.value as u16, 0, 1, 0, SOA_LENGTH),
        SOA => (NOERROR, 1, 0, 0, SOA_LENGTH),
        NS if FULL => {
            let glue = both[0] as usize * 16 + both[1] as usize * 28;
            (NOERROR, 1, 0, both[0] as usize + both[1] as usize, 18 + glue)
        }
        DISCOVERED if FULL => (NOERROR, 1, 0, 0, 12 + DISCOVERY.len()),
        _ => (plan.body.value as u16, 0, 0, 0, 0),
    };
    let edns = head.edns != NO_EDNS;
    let opt = if edns { OPT_LENGTH } else { 0 };
    if let Err(reason) = message.begin_reply(head.end, head.end + length + opt) {
        return trace.with(reason, Action::Punt);
    }
    let aa = if rcode == NOERROR || rcode == NXDOMAIN { AA } else { 0 };
    let flags = (head.flags() & COPIED) | QR | aa | (rcode & 15);
    let additional = additional + edns as usize;
    let fixed = [
        (head.id_flags, u32::from_be(head.id_flags) & 0xffff_0000 | flags as u32),
        (head.counts, 1 << 16 | answers as u32),
        (head.more_counts, (authority as u32) << 16 | additional as u32),
    ];
    let mut done = Some(());
    for (index, (old, new)) in fixed.into_iter().enumerate() {
        done = done.and(message.replace(index * 4, old, new.to_be()));
    }
    let mut at = head.end;
    done = done.and_then(|()| records_of::<M, T, FULL>(message, plan, verdict, tables, &mut at));
    if edns {
        done = done.and_then(|()| write_opt(message, at, head.edns, rcode));
    }
    match done {
        Some(()) => Action::Reply,
        None => trace.with(Reason::Internal, Action::Ignore),
    }
}

/// Writes the records of the plan's body from `at` on.
#[inline(always)]
fn records_of<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    plan: &Plan,
    verdict: &Verdict,
    tables: &T,
    at: &mut usize,
) -> Option<()> {
    let v6 = plan.body.value != 0;
    match plan.body.kind {
        TARGETS => {
            for index in 0..crate::decide::FAST_ENDPOINTS as usize {
                if index < verdict.count as usize {
                    let target = tables.target(verdict.targets[index])?;
                    let address = if v6 { Address::V6(target.ipv6) } else { Address::V4(target.ipv4) };
                    write_address(message, at, 0xc00c, address, verdict.ttl)?;
                }
            }
        }
        VIP => {
            let info = tables.vip_info(plan.vip)?;
            let address = if v6 { Address::V6(info.ipv6) } else { Address::V4(info.ipv4) };
            write_address(message, at, 0xc00c, address, plan.ns_ttl)?;
        }
        NEGATIVE | SOA => write_soa(message, at, plan)?,
        NS if FULL => write_ns(message, at, plan, tables)?,
        DISCOVERED if FULL => {
            message.append(*at, (0xc00c_0010_0001_0000 | (plan.ns_ttl >> 16) as u64).to_be())?;
            message.append(*at + 8, (plan.ns_ttl << 16 | DISCOVERY.len() as u32).to_be())?;
            for (index, byte) in DISCOVERY.iter().enumerate() {
                message.append(*at + 12 + index, *byte)?;
            }
            *at += 12 + DISCOVERY.len();
        }
        _ => {}
    }
    Some(())
}

/// An address in network order, as tables hold it.
#[derive(Debug, Clone, Copy)]
enum Address {
    V4(u32),
    V6([u64; 2]),
}

/// An A or AAAA record (RFC 1035 section 3.4.1, RFC 3596 section 2.2); `owner` is a compression pointer.
#[inline(always)]
fn write_address<M: Message>(
    message: &mut M,
    at: &mut usize,
    owner: u16,
    address: Address,
    ttl: u32,
) -> Option<()> {
    let head = |kind: u16| (owner as u64) << 48 | (kind as u64) << 32 | 1 << 16 | (ttl >> 16) as u64;
    let (low, place) = ((ttl & 0xffff) as u64, *at);
    match address {
        Address::V4(bytes) => {
            message.append(place, head(TYPE_A).to_be())?;
            message.append(place + 8, (low << 48 | 4 << 32 | u32::from_be(bytes) as u64).to_be())?;
            *at = place + 16;
        }
        Address::V6(bytes) => {
            message.append(place, head(TYPE_AAAA).to_be())?;
            message.append(place + 8, ((low as u32) << 16 | 16).to_be())?;
            message.append(place + 12, bytes[0])?;
            message.append(place + 20, bytes[1])?;
            *at = place + 28;
        }
    }
    Some(())
}

/// The zone's SOA (RFC 1035 section 3.3.13, RFC 2308 section 3): name server `ns1`, mailbox `hostmaster`, both in the
/// zone.
#[inline(always)]
fn write_soa<M: Message>(message: &mut M, at: &mut usize, plan: &Plan) -> Option<()> {
    let place = *at;
    let pointer = 0xc000 | plan.suffix_at as u64;
    let ttl = plan.negative_ttl as u64;
    let serial = plan.serial as u64;
    let (refresh, retry, expire) = (SOA_REFRESH as u64, SOA_RETRY as u64, SOA_EXPIRE as u64);
    let words = [
        pointer << 48 | (TYPE_SOA as u64) << 32 | 1 << 16 | ttl >> 16,
        (ttl & 0xffff) << 48 | 39 << 32 | u32::from_be_bytes(*b"\x03ns1") as u64,
        pointer << 48 | u64::from_be_bytes(*b"\0\0\x0ahostm"),
        u64::from_be_bytes(*b"aster\0\0\0") | pointer << 8 | serial >> 24,
        (serial & 0xff_ffff) << 40 | refresh << 8 | retry >> 24,
        (retry & 0xff_ffff) << 40 | expire << 8 | ttl >> 24,
    ];
    for (index, word) in words.into_iter().enumerate() {
        message.append(place + index * 8, word.to_be())?;
    }
    message.append(place + 48, ((ttl >> 8) as u16).to_be())?;
    message.append(place + 50, ttl as u8)?;
    *at = place + SOA_LENGTH;
    Some(())
}

/// The zone's NS and its addresses: `ns1` in the zone is the VIP (P-5).
fn write_ns<M: Message, T: Tables>(message: &mut M, at: &mut usize, plan: &Plan, tables: &T) -> Option<()> {
    let ttl = plan.ns_ttl;
    let place = *at;
    message.append(place, (0xc00c_0002_0001_0000 | (ttl >> 16) as u64).to_be())?;
    message.append(place + 8, ((ttl & 0xffff) << 16 | 6).to_be())?;
    message.append(place + 12, u32::from_be_bytes(*b"\x03ns1").to_be())?;
    message.append(place + 16, (0xc000 | plan.suffix_at as u16).to_be())?;
    *at = place + 18;
    let owner = 0xc000 | (place + 12) as u16;
    let info = tables.vip_info(plan.vip)?;
    if info.ipv4 != 0 {
        write_address(message, at, owner, Address::V4(info.ipv4), ttl)?;
    }
    if info.ipv6[0] | info.ipv6[1] != 0 {
        write_address(message, at, owner, Address::V6(info.ipv6), ttl)?;
    }
    Some(())
}

/// EDNS (RFC 6891 section 6.1.2) with our payload size, the query's DO bit (RFC 3225) and the upper RCODE bits.
#[inline(always)]
fn write_opt<M: Message>(message: &mut M, at: usize, dnssec: u16, rcode: u16) -> Option<()> {
    let flags = (dnssec as u64) << 7;
    let word = (TYPE_OPT as u64) << 40 | (UDP_LIMIT as u64) << 24 | ((rcode >> 4) as u64) << 16 | flags;
    message.append(at, word.to_be())?;
    message.append(at + 8, 0u16)?;
    message.append(at + 10, 0u8)
}
