//! Records that hold names: CNAME, and NS with the addresses of the name servers.

use super::write::{Address, write_address};
use super::{FAST_NAME_SERVERS, TYPE_CNAME, TYPE_NS};
use crate::table::{MAX_NAME_SERVERS, NAME_WORDS, Tables, Target, WireName};
use crate::verifier::forget;
use crate::wire::Message;

/// Points at the question's name.
const QUESTION: u16 = 0xc00c;
/// Bytes of a record before its data, if its owner is a pointer.
const RECORD_HEAD: usize = 12;

/// CNAME of the question's name (RFC 1035 section 3.3.1).
#[inline(always)]
pub(super) fn canonical<M: Message, T: Tables>(
    message: &mut M,
    at: &mut usize,
    target: &Target,
    ttl: u32,
    tables: &T,
) -> Option<()> {
    record(message, at, TYPE_CNAME, tables.wire_name(target.names)?, ttl)
}

/// NS records for the question's name, and addresses of these name servers: all, or with `needed` those alone that
/// resolvers cannot do without.
#[inline(always)]
pub(super) fn delegation<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    at: &mut usize,
    target: &Target,
    ttl: u32,
    needed: bool,
    tables: &T,
) -> Option<()> {
    let most = if FULL { MAX_NAME_SERVERS } else { FAST_NAME_SERVERS as usize };
    let mut name_at = *at + RECORD_HEAD;
    for number in 0..most {
        if number < target.servers as usize {
            record(message, at, TYPE_NS, tables.wire_name(target.names + number as u32)?, ttl)?;
        }
    }
    for number in 0..most {
        if number < target.servers as usize {
            let server = tables.wire_name(target.names + number as u32)?;
            let owner = 0xc000 | name_at as u16;
            name_at += RECORD_HEAD + server.length as usize;
            let wanted = !needed || server.needs_glue != 0;
            if wanted && server.ipv4 != 0 {
                write_address(message, at, owner, Address::V4(server.ipv4), ttl)?;
            }
            if wanted && server.ipv6[0] | server.ipv6[1] != 0 {
                write_address(message, at, owner, Address::V6(server.ipv6), ttl)?;
            }
        }
    }
    Some(())
}

/// A record of the question's name whose data is a name.
#[inline(always)]
fn record<M: Message>(message: &mut M, at: &mut usize, kind: u16, name: &WireName, ttl: u32) -> Option<()> {
    let length = name.length as usize;
    let place = *at;
    write_name(message, place + RECORD_HEAD, name)?;
    head(message, place, kind, ttl, length)?;
    *at = place + RECORD_HEAD + length;
    Some(())
}

/// What stands before the data of a record of the question's name.
#[inline(always)]
pub(super) fn head<M: Message>(message: &mut M, at: usize, kind: u16, ttl: u32, length: usize) -> Option<()> {
    let first = (QUESTION as u64) << 48 | (kind as u64) << 32 | 1 << 16 | (ttl >> 16) as u64;
    message.append(at, first.to_be())?;
    message.append(at + 8, (ttl << 16 | length as u32).to_be())
}

/// Writes a name. Up to seven zeros come to stand before it: what belongs there is written afterwards.
#[inline(always)]
pub(super) fn write_name<M: Message>(message: &mut M, at: usize, name: &WireName) -> Option<()> {
    let words = (name.length as usize + 7) >> 3;
    let mut place = at + name.length as usize - 8 * words;
    for word in 0..NAME_WORDS {
        if word >= words {
            break;
        }
        place = forget(place, name.words[word]);
        message.append(place, name.words[word])?;
        place += 8;
    }
    Some(())
}
