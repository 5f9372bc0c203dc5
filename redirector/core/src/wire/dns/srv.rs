//! SRV records that name sites (RFC 2782; M-7, M-8), and HTTPS and SVCB records that do (RFC 9460; M-11): `_a40-287667665._tcp.srv.cdn.acme.net` asks for the sites of bucket
//! `a40` on behalf of the client 17.37.117.209, and gets `a40.y5q.cdn.acme.net` and others, best first.

use super::{
    AA, Body, HEADER, LOCATIONS, NOERROR, Plan, SERVFAIL, TC, TRUNCATED, TYPE_ANY, TYPE_HTTPS, TYPE_SRV,
    TYPE_SVCB, Work, find, names,
};
use crate::decide::{Client, region};
use crate::rank::{MAX_SITES, Ranking, rank};
use crate::table::{SERVICE_HAS_IPV4, SERVICE_HAS_IPV6, Service, Tables};
use crate::verdict::{Reason, Verdict};
use crate::verifier::phase;
use crate::wire::{Asked, Message, Scratch};

const RECORD_HEAD: usize = 12;
/// Priority, weight, port, and the length of the target's first label.
const FIXED: usize = 7;
/// Priority and that length, and the parameter with the port behind the target (RFC 9460 section 7.2).
const FIXED_BINDING: usize = 3;
const PORT: u32 = 3;
const PORT_LENGTH: usize = 6;
/// Longest bucket: two words.
const MAX_BUCKET: u32 = 16;
/// Digits of an IPv4 address as a number; longer numbers are IPv6 addresses, which the slow path reads.
const IPV4_DIGITS: u32 = 10;
/// Bytes of a label that the fast path reads: an underscore, a bucket, a hyphen and an IPv4 address.
const FAST_LABEL: usize = 28;
const MAX_LABEL: usize = 63;

/// What the first label says, while it is read and afterwards.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asking {
    /// The bucket's text, last byte lowest; zeros before it.
    bucket: [u64; 2],
    /// Bytes of it.
    length: u32,
    /// 1: behind the hyphen.
    behind: u32,
    /// The number, if it is one of `digits` digits and nothing else.
    number: u64,
    digits: u32,
    /// 1: it is none.
    bad: u32,
    /// Where reading goes on, and where the label ends.
    at: usize,
    end: usize,
    ranking: Ranking,
}

/// Plans the reply of a service that answers with sites. `None`: punt, for the reason noted.
#[inline(always)]
pub(super) fn locate<M: Message, T: Tables, const FULL: bool>(
    message: &M,
    asked: &Asked<'_>,
    service: &Service,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<()> {
    let Scratch {
        query, verdict, trace, dns: Work { head, options, plan, asking, service: number, .. }, ..
    } = scratch;
    plan.body = find::negative(trace, Reason::NoDataType, NOERROR);
    if is_binding(head.qtype) {
        if !FULL {
            trace.reason = Reason::PuntType;
            return None;
        }
    } else if head.qtype != TYPE_SRV && head.qtype != TYPE_ANY {
        return Some(());
    }
    read::<M, FULL>(message, asking)?;
    phase();
    let long = asking.length > MAX_BUCKET || asking.at < asking.end || asking.digits > IPV4_DIGITS;
    if !FULL && long {
        trace.reason = Reason::PuntLabels;
        return None;
    }
    if asking.length == 0 || asking.length > MAX_BUCKET {
        return Some(());
    }
    find::for_whom(query, head, options, asked, tables, service.choose_by)?;
    if let Some(client) = client::<M, FULL>(message, asking) {
        query.client = client;
        query.region = region(&client, tables)?;
        options.subnet.scope = 0;
    }
    let has = |flag: u16| service.flags & flag != 0;
    let v6 = if query.client.v6 != 0 { has(SERVICE_HAS_IPV6) } else { !has(SERVICE_HAS_IPV4) };
    (query.service, query.content) = (*number, 0);
    (query.family, query.want) = (v6 as u32, service.answers as u32);
    phase();
    rank::<T, FULL>(query, service, tables, verdict, &mut asking.ranking)?;
    phase();
    trace.verdict(*number, verdict);
    if verdict.reason.is_punt() {
        return None;
    }
    if verdict.count == 0 {
        plan.body = Body::empty(SERVFAIL);
        return Some(());
    }
    let room = head.room(asked) - head.end - head.opt_length(options);
    let fixed = if FULL && is_binding(head.qtype) { FIXED_BINDING + PORT_LENGTH } else { FIXED };
    plan.locations(room, fixed, service, verdict, asking, tables)
}

/// Whether records of a type name sites by HTTPS or SVCB. Slow path only.
#[inline(always)]
fn is_binding(qtype: u16) -> bool {
    qtype == TYPE_HTTPS || qtype == TYPE_SVCB
}

/// Reads the first label: an underscore, which may be missing, the bucket, and behind a hyphen perhaps a number.
#[inline(always)]
fn read<M: Message, const FULL: bool>(message: &M, asking: &mut Asking) -> Option<()> {
    let length = message.load::<u8>(HEADER)? as usize & MAX_LABEL;
    *asking = Asking { at: HEADER + 1, end: HEADER + 1 + length, ..Asking::default() };
    if message.load::<u8>(HEADER + 1)? == b'_' {
        asking.at += 1;
    }
    for _ in 0..if FULL { MAX_LABEL } else { FAST_LABEL } {
        phase();
        if asking.at >= asking.end {
            break;
        }
        let byte = message.load::<u8>(asking.at)?;
        asking.at = asking.at.wrapping_add(1);
        if asking.behind != 0 {
            let digit = byte.wrapping_sub(b'0') as u64;
            asking.bad |= (digit > 9) as u32;
            asking.number = asking.number.wrapping_mul(10).wrapping_add(digit);
            asking.digits = asking.digits.wrapping_add(1);
        } else if byte == b'-' {
            asking.behind = 1;
        } else {
            let [high, low] = asking.bucket;
            asking.bucket = [high << 8 | low >> 56, low << 8 | byte as u64];
            asking.length = asking.length.wrapping_add(1);
        }
    }
    Some(())
}

/// The client that the label names; a malformed number names none.
#[inline(always)]
fn client<M: Message, const FULL: bool>(message: &M, asking: &Asking) -> Option<Client> {
    if asking.bad != 0 || asking.digits == 0 {
        return None;
    }
    if asking.digits > IPV4_DIGITS || asking.number > u32::MAX as u64 {
        return if FULL { long_client(message, asking) } else { None };
    }
    Some(Client { high: 0, low: asking.number, v6: 0 })
}

/// An IPv6 address as decimal number. Numbers that do not fit name none.
fn long_client<M: Message>(message: &M, asking: &Asking) -> Option<Client> {
    let mut number = 0u128;
    for at in asking.end - asking.digits as usize..asking.end {
        let digit = message.load::<u8>(at)?.wrapping_sub(b'0');
        number = number.checked_mul(10)?.checked_add(digit as u128)?;
    }
    Some(Client { high: (number >> 64) as u64, low: number as u64, v6: 1 })
}

impl Plan {
    #[inline(always)]
    fn locations<T: Tables>(
        &mut self,
        room: usize,
        fixed: usize,
        service: &Service,
        verdict: &Verdict,
        asking: &Asking,
        tables: &T,
    ) -> Option<()> {
        self.length = 0;
        for place in 0..MAX_SITES {
            if place < verdict.count as usize {
                let site =
                    tables.wire_name(service.sites.wrapping_add(asking.ranking.sites[place] as u32))?;
                self.length += RECORD_HEAD + fixed + asking.length as usize + site.length as usize;
            }
        }
        (self.sections, self.bits, self.body) = ([verdict.count & 7, 0, 0], AA, Body::new(LOCATIONS, 0));
        (self.sites, self.port) = (service.sites, service.port);
        if self.length > room {
            (self.sections, self.length, self.bits) = ([0; 3], 0, AA | TC);
            self.body = Body::new(TRUNCATED, 0);
        }
        Some(())
    }
}

/// Writes the records, best first. The bucket stands as the client wrote it.
#[inline(always)]
pub(super) fn write<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    at: &mut usize,
    qtype: u16,
    plan: &Plan,
    asking: &Asking,
    ttl: u32,
    tables: &T,
) -> Option<()> {
    let length = asking.length as usize & 31;
    let binding = FULL && is_binding(qtype);
    let fixed = if binding { FIXED_BINDING } else { FIXED };
    for place in 0..MAX_SITES {
        phase();
        if place >= plan.sections[0] as usize {
            break;
        }
        let site = tables.wire_name(plan.sites.wrapping_add(asking.ranking.sites[place] as u32))?;
        let (start, data) = (*at, fixed + length + site.length as usize);
        let bucket_end = start + RECORD_HEAD + fixed + length;
        // From the back: zeros before a text are overwritten by what belongs there.
        names::write_name(message, bucket_end, site)?;
        message.append(bucket_end - 16, asking.bucket[0].to_be())?;
        message.append(bucket_end - 8, asking.bucket[1].to_be())?;
        let rank = asking.ranking.ranks[place];
        *at = start + RECORD_HEAD + data;
        if binding {
            names::head(message, start, qtype, ttl, data + PORT_LENGTH)?;
            message.append(start + RECORD_HEAD, rank.to_be())?;
            message.append(*at, (PORT << 16 | 2).to_be())?;
            message.append(*at + 4, plan.port.to_be())?;
            *at += PORT_LENGTH;
        } else {
            names::head(message, start, TYPE_SRV, ttl, data)?;
            message.append(start + RECORD_HEAD, ((rank as u32) << 16).to_be())?;
            message.append(start + RECORD_HEAD + 4, plan.port.to_be())?;
        }
        message.append(start + RECORD_HEAD + fixed - 1, length as u8)?;
    }
    Some(())
}
