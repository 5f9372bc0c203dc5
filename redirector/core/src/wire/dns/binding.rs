//! HTTPS and SVCB records (RFC 9460): how to reach a service, with the very addresses that A and AAAA would name.

use super::{AA, Body, FAST_ENDPOINTS, Plan, TC, TRUNCATED, names};
use crate::decide::{Query, decide};
use crate::table::{SERVICE_HAS_IPV4, SERVICE_HAS_IPV6, Service, Tables};
use crate::verdict::{Reason, Verdict};
use crate::wire::Message;

/// Bytes of a record before its data, and of priority and target name (the owner itself) in front of its parameters.
const RECORD_HEAD: usize = 12;
const FIXED: usize = 3;
/// Parameters (RFC 9460 section 14.3.2).
const IPV4_HINT: u32 = 4;
const IPV6_HINT: u32 = 6;

/// Notes whose addresses are told: those that the verdict, made for one family, names, and those of the other family.
/// `Err`: punt.
#[inline(always)]
pub(super) fn plan<T: Tables, const FULL: bool>(
    plan: &mut Plan,
    query: &mut Query,
    verdict: &mut Verdict,
    tables: &T,
) -> Result<(), Reason> {
    let service = tables.service(query.service).ok_or(Reason::PuntTable)?;
    let first = plan.body.value as usize & 1;
    let both = SERVICE_HAS_IPV4 | SERVICE_HAS_IPV6;
    plan.note(0, verdict);
    plan.note(1, verdict);
    plan.hints[first ^ 1].count = 0;
    if service.flags & both == both {
        if !FULL && !is_equal(service, verdict, tables).ok_or(Reason::PuntTable)? {
            return Err(Reason::PuntChoice);
        }
        if FULL {
            let ttl = verdict.ttl;
            query.family = 1;
            decide::<T, true>(query, service, tables, verdict);
            verdict.ttl = verdict.ttl.min(ttl);
        }
        plan.note(1, verdict);
    }
    let parameters = tables.wire_name(service.binding).ok_or(Reason::PuntTable)?.length as usize;
    let hints = |count: u32, size: usize| if count == 0 { 0 } else { 4 + (count as usize & 7) * size };
    plan.length =
        RECORD_HEAD + FIXED + parameters + hints(plan.hints[0].count, 4) + hints(plan.hints[1].count, 16);
    (plan.binding, plan.sections, plan.bits) = (service.binding, [1, 0, 0], AA);
    if plan.length > plan.room {
        (plan.sections, plan.length, plan.bits) = ([0; 3], 0, AA | TC);
        plan.body = Body::new(TRUNCATED, 0);
    }
    Ok(())
}

/// Whether both families are chosen from the same records, so that one choice is that of the other, too.
#[inline(always)]
fn is_equal<T: Tables>(service: &Service, verdict: &Verdict, tables: &T) -> Option<bool> {
    let regions = tables.meta()?.regions;
    let row = service.coverage.wrapping_mul(2);
    let group = |family: u32| {
        let cell = row.wrapping_add(family).wrapping_mul(regions).wrapping_add(verdict.region);
        tables.cell(cell)
    };
    Some(group(0)? == group(1)? && service.fallback[0] == service.fallback[1])
}

impl Plan {
    #[inline(always)]
    fn note(&mut self, family: usize, verdict: &Verdict) {
        let hints = &mut self.hints[family];
        hints.count = verdict.count & 7;
        hints.targets.copy_from_slice(&verdict.targets[..FAST_ENDPOINTS as usize]);
    }
}

/// Writes the record of the type that is asked for: the one service mode record, whose target name is its owner.
#[inline(always)]
pub(super) fn write<M: Message, T: Tables>(
    message: &mut M,
    at: &mut usize,
    qtype: u16,
    plan: &Plan,
    ttl: u32,
    tables: &T,
) -> Option<()> {
    let place = *at;
    let parameters = tables.wire_name(plan.binding)?;
    names::write_name(message, place + RECORD_HEAD + FIXED, parameters)?;
    let length = plan.length - RECORD_HEAD;
    names::head(message, place, qtype, ttl, length)?;
    // Priority 1, and "." for the owner.
    message.append(place + RECORD_HEAD, 1u16.to_be())?;
    message.append(place + RECORD_HEAD + 2, 0u8)?;
    let mut place = place + RECORD_HEAD + FIXED + parameters.length as usize;
    let [v4, v6] = &plan.hints;
    if v4.count != 0 {
        message.append(place, (IPV4_HINT << 16 | (v4.count * 4)).to_be())?;
        place += 4;
        for index in 0..FAST_ENDPOINTS as usize {
            if index < v4.count as usize {
                message.append(place, tables.target(v4.targets[index])?.ipv4)?;
                place += 4;
            }
        }
    }
    if v6.count != 0 {
        message.append(place, (IPV6_HINT << 16 | (v6.count * 16)).to_be())?;
        place += 4;
        for index in 0..FAST_ENDPOINTS as usize {
            if index < v6.count as usize {
                let address = tables.target(v6.targets[index])?.ipv6;
                message.append(place, address[0])?;
                message.append(place + 8, address[1])?;
                place += 16;
            }
        }
    }
    *at = place;
    Some(())
}
