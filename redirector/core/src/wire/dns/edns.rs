//! EDNS: the OPT record of queries and answers (RFC 6891).

use super::{BADVERS, Head, NO_EDNS, NOTAUTH, Refusal, TYPE_OPT, TYPE_TSIG, UDP_LIMIT};
use crate::lookup::MAX_LABELS;
use crate::verdict::Reason;
use crate::wire::Message;

/// Reads the additional section: EDNS or nothing in the fast path, and nothing may follow it.
#[inline(always)]
pub(super) fn read<M: Message, const FULL: bool>(
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

/// EDNS (RFC 6891 section 6.1.2) with our payload size, the query's DO bit (RFC 3225) and the upper RCODE bits.
#[inline(always)]
pub(super) fn write<M: Message>(message: &mut M, at: usize, dnssec: u16, rcode: u16) -> Option<()> {
    let flags = (dnssec as u64) << 7;
    let word = (TYPE_OPT as u64) << 40 | (UDP_LIMIT as u64) << 24 | ((rcode >> 4) as u64) << 16 | flags;
    message.append(at, word.to_be())?;
    message.append(at + 8, 0u16)?;
    message.append(at + 10, 0u8)
}
