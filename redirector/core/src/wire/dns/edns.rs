//! EDNS: the OPT record of queries and answers (RFC 6891), and its options.

use super::subnet::Subnet;
use super::{BADVERS, Head, NO_EDNS, NOTAUTH, Refusal, TYPE_OPT, TYPE_TSIG, UDP_LIMIT, cookie};
use crate::lookup::MAX_LABELS;
use crate::table::{BOX_NAME_WORDS, Meta, Tables};
use crate::verdict::Reason;
use crate::verifier::{forget, phase};
use crate::wire::{Asked, Message, append_some};

/// Option codes: name server identifier (RFC 5001), client subnet (RFC 7871), cookie (RFC 7873).
const OPTION_NSID: u64 = 3;
pub(super) const OPTION_SUBNET: u64 = 8;
const OPTION_COOKIE: u64 = 10;
/// Options whose places are noted: those with codes below this.
const NOTED: usize = 16;
/// Options that the fast path reads.
const FAST_OPTIONS: usize = 4;
/// Options that the slow path reads.
const MAX_OPTIONS: usize = 512;
/// Bytes of a cookie option with both cookies.
const COOKIE_LENGTH: usize = 28;

/// Bits of [`Options::has`].
const NSID: u32 = 1;
const SUBNET: u32 = 2;
const COOKIE: u32 = 4;
/// The cookie's server part is a good one of ours.
pub(super) const VALID_COOKIE: u32 = 8;

/// What a query's options ask for, and what the answer's will say. Without options only `has` and `length` mean
/// something.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    /// [`NSID`] and others: what was found and, after [`take`], what the answer has.
    pub(super) has: u32,
    /// Bytes of the answer's options.
    pub(super) length: u32,
    /// By code: where the option's data begin (upper half) and how many bytes they are; 0: there is none.
    places: [u32; NOTED],
    /// The client's network.
    pub(super) subnet: Subnet,
    /// The answer's cookie as it lies in memory: the client's, and the server's two words.
    pub(super) cookie: [u64; 3],
}

impl Options {
    /// The answer is for the network that an option names, not for the sender.
    #[inline(always)]
    pub(super) fn is_for_subnet(&self) -> bool {
        self.has & SUBNET != 0 && self.subnet.is_given()
    }

    /// Scope of the answer's client subnet.
    pub(super) fn scope(&self) -> Option<u8> {
        (self.has & SUBNET != 0).then_some(self.subnet.scope as u8)
    }

    /// There is a cookie option.
    #[inline(always)]
    pub(super) fn asks_for_cookie(&self) -> bool {
        self.has & COOKIE != 0
    }

    /// Its server cookie is a good one, or there is none.
    #[inline(always)]
    pub(super) fn has_no_bad_cookie(&self) -> bool {
        self.has & VALID_COOKIE != 0 || split(self.places[OPTION_COOKIE as usize]).1 == 8
    }
}

/// Place and size of an option's data.
#[inline(always)]
pub(super) fn split(place: u32) -> (usize, usize) {
    ((place >> 16) as usize, (place & 0xffff) as usize)
}

/// Reads the additional section: EDNS or nothing in the fast path, and nothing may follow it.
#[inline(always)]
pub(super) fn read<M: Message, const FULL: bool>(
    message: &M,
    head: &mut Head,
    found: &mut Options,
    records: usize,
) -> Result<(), Refusal> {
    (found.has, found.length) = (0, 0);
    let mut at = head.end;
    let mut tsig = false;
    for record in 0..records {
        if !FULL && record > 0 {
            return Err(Refusal::FORM);
        }
        let start = skip_owner::<M, FULL>(message, at).ok_or(Refusal::FORM)?;
        let (kind, class, ttl, length) = record_head(message, start).ok_or(Refusal::FORM)?;
        // What stands behind the message in its frame is none of it.
        if start + 10 + length > message.len() {
            return Err(Refusal::FORM);
        }
        if kind == TYPE_OPT {
            if start != at + 1 || head.edns != NO_EDNS {
                return Err(Refusal::FORM);
            }
            (head.edns, head.payload) = ((ttl >> 15) as u16 & 1, class);
            if ttl >> 16 & 0xff != 0 {
                return Err(Refusal {
                    reason: Reason::DnsBadVers,
                    punt: Reason::DnsBadVers,
                    rcode: BADVERS,
                    question: true,
                });
            }
            if length != 0 {
                options::<M, FULL>(message, start + 10, length, found)?;
            }
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

/// Type, class, TTL and RDLENGTH of the record whose type field stands at `at`.
#[inline(always)]
fn record_head<M: Message>(message: &M, at: usize) -> Option<(u16, u16, u32, usize)> {
    let first = u64::from_be(message.load(at)?);
    let length = u16::from_be(message.load(at + 8)?);
    Some(((first >> 48) as u16, (first >> 32) as u16, first as u32, length as usize))
}

/// Notes where options are. They must fill their record exactly (RFC 6891 section 6.1.2). Of several with one code the
/// last counts.
#[inline(always)]
fn options<M: Message, const FULL: bool>(
    message: &M,
    start: usize,
    length: usize,
    found: &mut Options,
) -> Result<(), Refusal> {
    let end = start + length;
    for code in [OPTION_NSID, OPTION_SUBNET, OPTION_COOKIE] {
        found.places[code as usize] = 0;
    }
    let mut at = start;
    for _ in 0..if FULL { MAX_OPTIONS } else { FAST_OPTIONS } {
        if at == end {
            break;
        }
        if at + 4 > end {
            return Err(Refusal::FORM);
        }
        let option = message.load::<u32>(at).map(u32::from_be).ok_or(Refusal::FORM)?;
        let (code, size) = split(option);
        if code < NOTED {
            found.places[code & (NOTED - 1)] = (at as u32 + 4) << 16 | size as u32;
        }
        at = forget(at + 4 + size, option as u64);
    }
    if at != end {
        return Err(Refusal { punt: Reason::PuntEdns, ..Refusal::FORM });
    }
    for (code, bit) in [(OPTION_NSID, NSID), (OPTION_SUBNET, SUBNET), (OPTION_COOKIE, COOKIE)] {
        found.has |= bit * (found.places[code as usize] != 0) as u32;
    }
    Ok(())
}

/// Reads the options that were found, and prepares the answer's.
#[inline(always)]
pub(super) fn take<M: Message, T: Tables>(
    message: &M,
    asked: &Asked<'_>,
    tables: &T,
    found: &mut Options,
) -> Result<(), Refusal> {
    if found.has & SUBNET != 0 {
        found.subnet.read(message, found.places[OPTION_SUBNET as usize])?;
        found.length += found.subnet.length();
    }
    phase();
    if found.has & COOKIE != 0 {
        cookie::read(message, found.places[OPTION_COOKIE as usize], &asked.client, tables, found)?;
        found.length += COOKIE_LENGTH as u32;
    }
    phase();
    if found.has & NSID != 0 {
        found.length += 4 + tables.meta().map_or(0, |meta| meta.box_name_length);
    }
    Ok(())
}

/// EDNS (RFC 6891 section 6.1.2) with our payload size, the query's DO bit (RFC 3225), the upper RCODE bits, and the
/// options that were asked for.
#[inline(always)]
pub(super) fn write<M: Message, T: Tables>(
    message: &mut M,
    at: usize,
    dnssec: u16,
    rcode: u16,
    options: &Options,
    tables: &T,
) -> Option<()> {
    let flags = (dnssec as u64) << 7;
    let word = (TYPE_OPT as u64) << 40 | (UDP_LIMIT as u64) << 24 | ((rcode >> 4) as u64) << 16 | flags;
    message.append(at, word.to_be())?;
    message.append(at + 8, 0u16)?;
    // A network takes 24 bytes at most, a cookie 28, the box's name 36.
    message.append(at + 10, options.length as u8)?;
    if options.length != 0 { write_options(message, at + 11, options, tables.meta()?) } else { Some(()) }
}

#[inline(always)]
fn write_options<M: Message>(message: &mut M, at: usize, options: &Options, meta: &Meta) -> Option<()> {
    let mut at = at;
    if options.has & SUBNET != 0 {
        at = options.subnet.write(message, at)?;
    }
    if options.has & COOKIE != 0 {
        at = forget(at, options.cookie[0]);
        let head = (OPTION_COOKIE as u32) << 16 | (COOKIE_LENGTH as u32 - 4);
        message.append(at, head.to_be())?;
        for (index, word) in options.cookie.into_iter().enumerate() {
            message.append(at + 4 + index * 8, word)?;
        }
        at += COOKIE_LENGTH;
    }
    if options.has & NSID != 0 {
        at = forget(at, meta.keys.seed);
        let length = meta.box_name_length as usize & 63;
        message.append(at, ((OPTION_NSID as u32) << 16 | length as u32).to_be())?;
        for (index, word) in meta.box_name.into_iter().enumerate() {
            let left = length.wrapping_sub(index * 8);
            if left == 0 || left > BOX_NAME_WORDS * 8 {
                break;
            }
            append_some(message, at + 4 + index * 8, if left < 8 { left } else { 8 }, word)?;
        }
    }
    Some(())
}
