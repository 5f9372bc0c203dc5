//! What the name means: a service's targets, the VIP, the zone's own records, or nothing.

use super::{
    BINDING, Body, CLASS_CH, CLASS_IN, DISCOVERED, Head, IDENTITY, NEGATIVE, NOERROR, NS, NXDOMAIN, REFUSED,
    SERVFAIL, SOA, TARGETS, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_HTTPS, TYPE_NS, TYPE_SOA, TYPE_SVCB, TYPE_TXT,
    VIP, Work, edns, outcome, srv,
};
use crate::decide::{Query, decide, region_entry};
use crate::hash::{Keys, Slot};
use crate::lookup::{self, FAST_LABELS, Labels, MAX_LABELS};
use crate::table::{
    CHOOSE_CONTENT, ILL_FORMED_ABSENT, ILL_FORMED_EMPTY, ILL_FORMED_SERVICE, NONE, SERVICE_BINDING,
    SERVICE_DNS_VIP, SERVICE_HAS_IPV4, SERVICE_HAS_IPV6, SERVICE_OUTCOMES, SERVICE_PROOF, SERVICE_SRV,
    SPACE_DNS, Service, Tables, Zone,
};
use crate::verdict::Reason;
use crate::verifier::phase;
use crate::wire::{self, ADMITTED, Asked, Message, Proof, Scratch, Trace};

/// Finds what the name means: the reply's body, or the service to choose targets for. `None`: punt, for the reason
/// noted.
#[inline(always)]
pub(super) fn rule<T: Tables, const FULL: bool>(
    asked: &Asked<'_>,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<()> {
    let Scratch {
        labels, trace, proof, dns: Work { head, plan, zone: number, codepoint, service, .. }, ..
    } = scratch;
    (plan.vip, plan.body) = (asked.vip.vip as u32, Body::default());
    if FULL && asks_who_answers(head, labels, tables) {
        trace.reason = Reason::BoxName;
        plan.body = Body::new(IDENTITY, tables.meta()?.box_name_length);
        return Some(());
    }
    if head.qclass != CLASS_IN {
        trace.reason = if FULL { Reason::DnsRefused } else { Reason::PuntType };
        plan.body = Body::empty(REFUSED);
        return FULL.then_some(());
    }
    let meta = tables.meta()?;
    if head.zone == NONE && !find_zone::<T, FULL>(asked, tables, labels, head)? {
        trace.reason = if FULL { Reason::NotOurZone } else { Reason::PuntNotOurZone };
        plan.body = Body::empty(REFUSED);
        return FULL.then_some(());
    }
    phase();
    let (found, count) = (head.zone, head.labels);
    let zone = tables.zone(found)?;
    (*number, *codepoint) = (found, count);
    plan.suffix_at = head.suffix;
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
        let mut unknown = entry.fingerprint == 0;
        if unknown && count != 0 && zone.ill_formed >= ILL_FORMED_SERVICE {
            (*service, unknown) = (zone.ill_formed - ILL_FORMED_SERVICE, false);
        }
        if unknown {
            ill_formed(zone, count, trace)
        } else if lookup::is_partial(&entry) {
            negative(trace, Reason::NoDataPartial, NOERROR)
        } else if FULL {
            admitted(tables, proof, service, trace)?
        } else {
            Body::default()
        }
    };
    Some(())
}

/// Whether a question is for the name of the server that answers it (RFC 4892 section 2): `id.server`, or as it was first
/// called, `hostname.bind`.
fn asks_who_answers<T: Tables>(head: &Head, labels: &Labels, tables: &T) -> bool {
    let Some(meta) = tables.meta() else { return false };
    let is = |name: [&str; 2]| (0..2).all(|n| labels.hash(n) == meta.keys.text(name[n].as_bytes(), true));
    head.qclass == CLASS_CH
        && (head.qtype == TYPE_TXT || head.qtype == TYPE_ANY)
        && head.labels == 2
        && (is(["id", "server"]) || is(["hostname", "bind"]))
}

#[inline(always)]
pub(super) fn negative(trace: &mut Trace, reason: Reason, rcode: u16) -> Body {
    trace.reason = reason;
    Body::new(NEGATIVE, rcode as u32)
}

/// Finds the zone of a name whose last bytes did not tell it; `false` if it lies in none.
#[inline(always)]
fn find_zone<T: Tables, const FULL: bool>(
    asked: &Asked<'_>,
    tables: &T,
    labels: &Labels,
    head: &mut Head,
) -> Option<bool> {
    let (cdn, depths) = (asked.vip.cdn, asked.vip.dns_depths);
    head.zone = if FULL {
        lookup::suffix::<T, MAX_LABELS>(tables, labels, head.labels, SPACE_DNS, cdn, depths)
    } else {
        lookup::suffix::<T, FAST_LABELS>(tables, labels, head.labels, SPACE_DNS, cdn, depths)
    };
    if head.zone == NONE {
        return Some(false);
    }
    let suffix = tables.zone(head.zone)?.suffix_labels as usize;
    head.labels -= suffix.min(head.labels);
    head.suffix = labels.offsets[head.labels & (MAX_LABELS - 1)] as usize;
    Some(true)
}

/// A name that fits no rule, and has no service for that.
#[inline(always)]
fn ill_formed(zone: &Zone, count: usize, trace: &mut Trace) -> Body {
    if count == 0 {
        negative(trace, Reason::NoDataType, NOERROR)
    } else if zone.ill_formed == ILL_FORMED_ABSENT {
        negative(trace, Reason::NxDomain, NXDOMAIN)
    } else if zone.ill_formed == ILL_FORMED_EMPTY {
        negative(trace, Reason::IllFormed, NOERROR)
    } else {
        trace.reason = Reason::IllFormed;
        Body::empty(REFUSED)
    }
}

/// What a proof puts into the place of a service that asks for one; other services stay. Slow path only. `None`: the proof
/// is still to be examined.
fn admitted<T: Tables>(tables: &T, proof: &Proof, service: &mut u32, trace: &mut Trace) -> Option<Body> {
    if tables.service(*service)?.flags & SERVICE_PROOF == 0 {
        return Some(Body::default());
    }
    trace.service = *service;
    match proof.outcome {
        ADMITTED => {
            *service = proof.service;
            Some(Body::default())
        }
        wire::REFUSED => {
            trace.reason = Reason::Denied;
            Some(Body::empty(REFUSED))
        }
        wire::EMPTY => Some(negative(trace, Reason::Denied, NOERROR)),
        wire::PARTIAL => Some(negative(trace, Reason::NoDataPartial, NOERROR)),
        _ => {
            trace.reason = Reason::PuntProof;
            None
        }
    }
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
    let exists = count == 1
        || zone.ill_formed >= ILL_FORMED_SERVICE
        || lookup::rule(tables, &host, count - 1, SPACE_DNS, number, zone).fingerprint != 0;
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
pub(super) fn targets<M: Message, T: Tables, const FULL: bool>(
    message: &M,
    asked: &Asked<'_>,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<()> {
    let (mut service, mut outside) = (tables.service(scratch.dns.service)?, false);
    scratch.trace.service = scratch.dns.service;
    if service.flags & (SERVICE_DNS_VIP | SERVICE_OUTCOMES | SERVICE_SRV | SERVICE_PROOF) != 0 {
        let servers = before_servers::<M, T, FULL>(message, asked, service, tables, scratch)?;
        if servers == NONE {
            return Some(());
        }
        if FULL && servers != scratch.dns.service {
            (service, outside) = (tables.service(servers)?, true);
        }
    }
    let Scratch {
        labels,
        query,
        verdict,
        trace,
        proof,
        dns: Work { head, options, plan, codepoint, service: number, .. },
        ..
    } = scratch;
    let has_v4 = service.flags & SERVICE_HAS_IPV4 != 0;
    let mut kind = TARGETS;
    let v6 = match head.qtype {
        TYPE_A => false,
        TYPE_AAAA => true,
        // One RRset is enough (RFC 8482 section 4.1).
        TYPE_ANY => !has_v4,
        TYPE_HTTPS | TYPE_SVCB if service.flags & SERVICE_BINDING != 0 => {
            kind = BINDING;
            plan.room = head.room(asked) - head.end - head.opt_length(options);
            !has_v4
        }
        _ => {
            options.subnet.scope = 0;
            plan.body = negative(trace, Reason::NoDataType, NOERROR);
            return Some(());
        }
    };
    if !if v6 { service.flags & SERVICE_HAS_IPV6 != 0 } else { has_v4 } {
        options.subnet.scope = 0;
        plan.body = negative(trace, Reason::NoDataFamily, NOERROR);
        return Some(());
    }
    plan.body = Body::new(kind, v6 as u32);
    query.service = *number;
    query.content = content::<T, FULL>(tables, labels, *codepoint, service, proof);
    (query.family, query.want) = (v6 as u32, service.answers as u32);
    for_whom(query, head, options, asked, tables, service.choose_by)?;
    phase();
    decide::<T, FULL>(query, service, tables, verdict);
    if FULL && outside {
        verdict.become_foreign();
    }
    trace.verdict(*number, verdict);
    if verdict.reason.is_punt() {
        return None;
    }
    if verdict.count == 0 {
        plan.body = Body::empty(SERVFAIL);
    }
    Some(())
}

/// For a service that has others than servers: the number of the one that chooses among servers, or [`NONE`] if the reply
/// is planned. `None`: punt.
#[inline(always)]
fn before_servers<M: Message, T: Tables, const FULL: bool>(
    message: &M,
    asked: &Asked<'_>,
    service: &Service,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<u32> {
    if !FULL && service.flags & SERVICE_PROOF != 0 {
        (scratch.trace.reason, scratch.trace.service) = (Reason::PuntProof, NONE);
        return None;
    }
    if service.flags & SERVICE_SRV != 0 {
        return srv::locate::<M, T, FULL>(message, asked, service, tables, scratch).map(|()| NONE);
    }
    let Scratch { trace, dns: Work { head, plan, .. }, .. } = scratch;
    if service.flags & SERVICE_DNS_VIP != 0 {
        plan.body = vip_body(head.qtype, asked, tables, trace, Reason::VipAddress)?;
        return Some(NONE);
    }
    let servers = outcome::choose::<T, FULL>(asked, service, tables, scratch)?;
    if !FULL && servers != NONE && servers != scratch.dns.service {
        scratch.trace.reason = Reason::PuntChoice;
        return None;
    }
    Some(servers)
}

/// Notes whom a choice by `choose_by` is for: the network that an option names, else the sender. DNS has no way to name
/// servers; the list of failed ones ends at its first empty place. `None`: the tables contradict themselves.
#[inline(always)]
pub(super) fn for_whom<T: Tables>(
    query: &mut Query,
    head: &Head,
    options: &mut edns::Options,
    asked: &Asked<'_>,
    tables: &T,
    choose_by: u8,
) -> Option<()> {
    let id = u32::from_be(head.id_flags) >> 16;
    query.client = asked.client;
    query.spread = (id as u64) << 16 | asked.port as u64;
    (query.excluded[0], query.preferred) = (0, 0);
    if options.is_for_subnet() {
        query.client = options.subnet.client();
        let entry = region_entry(&query.client, tables)?;
        query.region = entry & 0xffff;
        options.subnet.note_scope(entry >> 16 & 0xff, choose_by);
    }
    Some(())
}

/// Hash of the codepoint, for services that choose by content.
#[inline(always)]
pub(super) fn content<T: Tables, const FULL: bool>(
    tables: &T,
    labels: &Labels,
    codepoint: usize,
    service: &Service,
    proof: &Proof,
) -> u64 {
    let Some(meta) = tables.meta() else { return 0 };
    if service.choose_by != CHOOSE_CONTENT {
        return 0;
    }
    if FULL && proof.outcome == ADMITTED {
        return proof.content;
    }
    codepoint_hash(&meta.keys, labels, codepoint)
}

/// Hash of a name's first `codepoint` labels, as services know it that choose by content.
#[inline(always)]
pub fn codepoint_hash(keys: &Keys, labels: &Labels, codepoint: usize) -> u64 {
    let mut slot = Slot::start(keys, SPACE_DNS, 0);
    for index in 0..FAST_LABELS {
        if index >= codepoint {
            break;
        }
        slot = slot.push(keys, labels.hash(index));
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
