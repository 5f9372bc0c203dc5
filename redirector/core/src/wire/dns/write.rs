//! The reply, written into the query's place.

use super::{
    AA, BINDING, CLASS_CH, COPIED, DELEGATION, DISCOVERED, DISCOVERY, IDENTITY, LOCATIONS, NAME, NEGATIVE,
    NO_EDNS, NOERROR, NS, Plan, QR, SOA, SOA_EXPIRE, SOA_LENGTH, SOA_REFRESH, SOA_RETRY, TARGETS, TRUNCATED,
    TYPE_A, TYPE_AAAA, TYPE_SOA, TYPE_TXT, VIP, Work, binding, edns, names, srv,
};
use crate::table::Tables;
use crate::verdict::{Reason, Verdict};
use crate::wire::{Action, Message, Scratch};

/// Writes the reply into the message.
#[inline(always)]
pub(super) fn reply<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    tables: &T,
    scratch: &mut Scratch,
) -> Action {
    let Scratch { query, verdict, trace, dns: Work { head, options, plan, asking, .. }, .. } = scratch;
    let chosen = verdict.count as usize & 7;
    let record = if plan.body.value == 0 { 16 } else { 28 };
    let (rcode, bits, answers, authority, additional, length) = match plan.body.kind {
        TARGETS => (NOERROR, AA, chosen, 0, 0, chosen * record),
        VIP => (NOERROR, AA, 1, 0, 0, record),
        NEGATIVE => (plan.body.value as u16, AA, 0, 1, 0, SOA_LENGTH),
        SOA => (NOERROR, AA, 1, 0, 0, SOA_LENGTH),
        NS if FULL => {
            let info = tables.vip_info(plan.vip);
            let both = info.map_or([false; 2], |info| [info.ipv4 != 0, info.ipv6[0] | info.ipv6[1] != 0]);
            let glue = both[0] as usize * 16 + both[1] as usize * 28;
            (NOERROR, AA, 1, 0, both[0] as usize + both[1] as usize, 18 + glue)
        }
        DISCOVERED if FULL => (NOERROR, AA, 1, 0, 0, 12 + DISCOVERY.len()),
        IDENTITY if FULL => (NOERROR, AA, 1, 0, 0, 13 + plan.body.value as usize),
        NAME | DELEGATION | TRUNCATED | LOCATIONS => {
            // Four name servers have eight addresses.
            let [answers, authority, additional] = plan.sections.map(|count| count as usize & 15);
            (NOERROR, plan.bits, answers, authority, additional, plan.length)
        }
        BINDING => {
            if let Err(reason) = binding::plan::<T, FULL>(plan, query, verdict, tables) {
                return trace.with(reason, Action::Punt);
            }
            (NOERROR, plan.bits, plan.sections[0] as usize & 7, 0, 0, plan.length)
        }
        _ => (plan.body.value as u16, 0, 0, 0, 0, 0),
    };
    let edns = head.edns != NO_EDNS;
    if let Err(reason) = message.begin_reply(head.end, head.end + length + head.opt_length(options)) {
        return trace.with(reason, Action::Punt);
    }
    let flags = (head.flags() & COPIED) | QR | bits | (rcode & 15);
    let additional = additional + edns as usize;
    let fixed = [
        (head.id_flags, u32::from_be(head.id_flags) & 0xffff_0000 | flags as u32),
        (head.counts, u32::from_be(head.counts) | answers as u32),
        (head.more_counts, (authority as u32) << 16 | additional as u32),
    ];
    let mut done = message.replace_head(fixed.map(|(old, _)| old), fixed.map(|(_, new)| new.to_be()));
    let mut at = head.end;
    done = done.and_then(|()| match plan.body.kind {
        LOCATIONS => {
            srv::write::<M, T, FULL>(message, &mut at, head.qtype, plan, asking, verdict.ttl, tables)
        }
        _ => records::<M, T, FULL>(message, head.qtype, plan, verdict, tables, &mut at),
    });
    if edns {
        done = done.and_then(|()| edns::write(message, at, head.edns, rcode, options, tables));
    }
    match done {
        Some(()) => Action::Reply,
        None => trace.with(Reason::Internal, Action::Ignore),
    }
}

/// Writes the records of the plan's body from `at` on.
#[inline(always)]
fn records<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    qtype: u16,
    plan: &Plan,
    verdict: &Verdict,
    tables: &T,
    at: &mut usize,
) -> Option<()> {
    let v6 = plan.body.value != 0;
    match plan.body.kind {
        TARGETS => {
            for index in 0..crate::decide::FAST_ENDPOINTS as usize {
                if index >= verdict.count as usize {
                    break;
                }
                let target = tables.target(verdict.targets[index])?;
                let address = if v6 { Address::V6(target.ipv6) } else { Address::V4(target.ipv4) };
                write_address(message, at, 0xc00c, address, verdict.ttl)?;
            }
        }
        VIP => {
            let info = tables.vip_info(plan.vip)?;
            let address = if v6 { Address::V6(info.ipv6) } else { Address::V4(info.ipv4) };
            write_address(message, at, 0xc00c, address, plan.ns_ttl)?;
        }
        NEGATIVE | SOA => soa(message, at, plan)?,
        NS if FULL => name_server(message, at, plan, tables)?,
        DISCOVERED if FULL => {
            message.append(*at, (0xc00c_0010_0001_0000 | (plan.ns_ttl >> 16) as u64).to_be())?;
            message.append(*at + 8, (plan.ns_ttl << 16 | DISCOVERY.len() as u32).to_be())?;
            for (index, byte) in DISCOVERY.iter().enumerate() {
                message.append(*at + 12 + index, *byte)?;
            }
            *at += 12 + DISCOVERY.len();
        }
        IDENTITY if FULL => identity(message, at, tables)?,
        BINDING => binding::write(message, at, qtype, plan, verdict.ttl, tables)?,
        NAME => {
            let target = tables.target(verdict.targets[0])?;
            names::canonical(message, at, target, verdict.ttl, tables)?;
        }
        DELEGATION => {
            let target = tables.target(verdict.targets[0])?;
            names::delegation::<M, T, FULL>(message, at, target, verdict.ttl, v6, tables)?;
        }
        _ => {}
    }
    Some(())
}

/// The box's name as TXT of class CHAOS, which nobody keeps (RFC 4892).
fn identity<M: Message, T: Tables>(message: &mut M, at: &mut usize, tables: &T) -> Option<()> {
    let meta = tables.meta()?;
    let length = meta.box_name_length;
    message
        .append(*at, (0xc00c_0000_0000_0000 | (TYPE_TXT as u64) << 32 | (CLASS_CH as u64) << 16).to_be())?;
    message.append(*at + 8, (length + 1).to_be())?;
    message.append(*at + 12, length as u8)?;
    let bytes = meta.box_name.iter().flat_map(|word| word.to_be_bytes());
    for (index, byte) in bytes.take(length as usize).enumerate() {
        message.append(*at + 13 + index, byte)?;
    }
    *at += 13 + length as usize;
    Some(())
}

/// An address in network order, as tables hold it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Address {
    V4(u32),
    V6([u64; 2]),
}

/// An A or AAAA record (RFC 1035 section 3.4.1, RFC 3596 section 2.2); `owner` is a compression pointer.
#[inline(always)]
pub(super) fn write_address<M: Message>(
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
            let tail = low << 48 | 4 << 32 | u32::from_be(bytes) as u64;
            message.append_words::<16, 2>(place, [head(TYPE_A).to_be(), tail.to_be()])?;
            *at = place + 16;
        }
        Address::V6(bytes) => {
            message.append(place, head(TYPE_AAAA).to_be())?;
            message.append(place + 8, ((low as u32) << 16 | 16).to_be())?;
            message.append_words::<16, 2>(place + 12, bytes)?;
            *at = place + 28;
        }
    }
    Some(())
}

/// The zone's SOA (RFC 1035 section 3.3.13, RFC 2308 section 3): name server `ns1`, mailbox `hostmaster`, both in the
/// zone.
#[inline(always)]
fn soa<M: Message>(message: &mut M, at: &mut usize, plan: &Plan) -> Option<()> {
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
fn name_server<M: Message, T: Tables>(
    message: &mut M,
    at: &mut usize,
    plan: &Plan,
    tables: &T,
) -> Option<()> {
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
