//! SRV records that name the servers of a service (RFC 2782): `_http._tcp.NAME` gets those that A and AAAA of NAME would
//! give, each with its port and under a name of its own. Slow path only.

use super::{
    AA, Body, ENDPOINTS, NOERROR, Plan, SERVFAIL, TARGETS, TC, TRUNCATED, TYPE_A, TYPE_AAAA, TYPE_ANY,
    TYPE_SRV, Work, find, names,
};
use crate::decide::{FAST_ENDPOINTS, decide};
use crate::lookup::Labels;
use crate::table::{
    Meta, NONE, OUTCOME_NAME, SERVICE_DNS_VIP, SERVICE_HAS_IPV4, SERVICE_PORT, SERVICE_SRV, Service, Tables,
    Target, WireName, Zone,
};
use crate::verdict::{Reason, Verdict};
use crate::wire::dns::write::{Address, write_address};
use crate::wire::{Asked, Message, Scratch};

/// First labels of names that ask for servers, by URL scheme.
const SERVICES: [&[u8]; 3] = [b"_http", b"_https", b"_rtsp"];
/// Bytes of a record before its data, and of priority, weight and port.
const RECORD_HEAD: usize = 12;
const FIXED: usize = 6;
/// Bytes of an A and an AAAA record.
const ADDRESSES: [usize; 2] = [16, 28];

/// Takes the labels of service and protocol off a name that has them: what is chosen is what the rest would get. Notes
/// the scheme whose ports are told.
pub(super) fn strip(meta: &Meta, labels: &mut Labels, codepoint: &mut usize, plan: &mut Plan) {
    let first = labels.hash(0);
    let scheme = SERVICES.iter().position(|service| meta.keys.text(service, true) == first);
    plan.scheme = scheme.unwrap_or(0) as u32 + 1;
    labels.hashes.copy_within(2.., 0);
    *codepoint = codepoint.saturating_sub(2);
}

/// The addresses of a target, for a name that is its own. Its reason is that of the zone's own records.
pub(super) fn own_name<T: Tables>(number: u32, zone: &Zone, tables: &T, scratch: &mut Scratch) -> Option<()> {
    let Scratch { trace, verdict, dns: Work { head, plan, options, .. }, .. } = scratch;
    let target = tables.target(number)?;
    let has_v4 = target.ipv4 != 0;
    let v6 = match head.qtype {
        TYPE_A => false,
        TYPE_AAAA => true,
        TYPE_ANY => !has_v4,
        _ => {
            plan.body = find::negative(trace, Reason::NoDataType, NOERROR);
            return Some(());
        }
    };
    if !if v6 { target.ipv6[0] | target.ipv6[1] != 0 } else { has_v4 } {
        plan.body = find::negative(trace, Reason::NoDataFamily, NOERROR);
        return Some(());
    }
    // The same for everybody.
    options.subnet.scope = 0;
    verdict.begin(zone.ns_ttl);
    (verdict.targets[0], verdict.count) = (number, 1);
    trace.reason = Reason::ZoneRecord;
    plan.body = Body::new(TARGETS, v6 as u32);
    Some(())
}

/// Whether a service has no servers that could be named; it is answered then.
pub(super) fn is_without(service: &Service, scratch: &mut Scratch) -> bool {
    let without = service.flags & (SERVICE_DNS_VIP | SERVICE_SRV) != 0;
    if without {
        scratch.dns.options.subnet.scope = 0;
        scratch.dns.plan.body = find::negative(&mut scratch.trace, Reason::NoDataType, NOERROR);
    }
    without
}

/// Plans the reply that names servers, for a service that leads to some: those that addresses would be given of, and
/// behind them the next best, up to four.
pub(super) fn choose<T: Tables>(
    asked: &Asked<'_>,
    service: &Service,
    outside: bool,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<()> {
    let Scratch { labels, query, verdict, trace, proof, dns: work, .. } = scratch;
    let Work { head, options, plan, codepoint, service: number, .. } = work;
    if head.qtype != TYPE_SRV && head.qtype != TYPE_ANY {
        options.subnet.scope = 0;
        plan.body = find::negative(trace, Reason::NoDataType, NOERROR);
        return Some(());
    }
    query.service = *number;
    query.content = find::content::<T, true>(tables, labels, *codepoint, service, proof);
    query.family = (service.flags & SERVICE_HAS_IPV4 == 0) as u32;
    query.want = FAST_ENDPOINTS;
    find::for_whom(query, head, options, asked, tables, service.choose_by)?;
    decide::<T, true>(query, service, tables, verdict);
    if outside {
        verdict.become_foreign();
    }
    trace.verdict(*number, verdict);
    if verdict.reason.is_punt() {
        return None;
    }
    if verdict.count == 0 {
        plan.body = Body::empty(SERVFAIL);
        return Some(());
    }
    let room = head.room(asked) - head.end - head.opt_length(options);
    plan.endpoints(room, service, verdict, work.zone, tables)
}

/// Plans the reply that names the one name that a client is sent to instead of a server.
pub(super) fn one_name<T: Tables>(
    room: usize,
    service: &Service,
    verdict: &Verdict,
    tables: &T,
    work: &mut Work,
) -> Option<()> {
    work.plan.endpoints(room, service, verdict, work.zone, tables)
}

/// What SRV records call a target of the zone. `None`: the tables have no name for it.
fn name_of<T: Tables>(number: u32, servers: u32, tables: &T) -> Option<(&Target, &WireName)> {
    let target = tables.target(number)?;
    let name = match target.outcome {
        OUTCOME_NAME => target.names,
        _ if servers == NONE => return None,
        _ => servers.checked_add(number)?,
    };
    tables.wire_name(name).filter(|name| name.length > 0).map(|name| (target, name))
}

/// Bytes and number of the addresses that are told with a name: of the zone's own names alone.
fn glue(name: &WireName) -> (usize, u32) {
    let has = [name.ipv4 != 0, name.ipv6[0] | name.ipv6[1] != 0].map(|has| has && name.needs_glue != 0);
    let bytes = ADDRESSES.iter().zip(has).map(|(bytes, has)| if has { *bytes } else { 0 }).sum();
    (bytes, has.iter().filter(|has| **has).count() as u32)
}

impl Plan {
    /// Addresses are left out if there is no room for all of them: resolvers ask for them.
    fn endpoints<T: Tables>(
        &mut self,
        room: usize,
        service: &Service,
        verdict: &Verdict,
        zone: u32,
        tables: &T,
    ) -> Option<()> {
        self.servers = tables.zone(zone)?.servers;
        (self.port, self.best) = (0, service.answers as u32);
        if service.flags & SERVICE_PORT != 0 {
            self.port = service.port;
        }
        let (mut length, mut more, mut addresses) = (0, 0, 0);
        for number in verdict.targets.iter().take(verdict.count as usize) {
            let (_, name) = name_of(*number, self.servers, tables)?;
            let (bytes, count) = glue(name);
            length += RECORD_HEAD + FIXED + name.length as usize;
            (more, addresses) = (more + bytes, addresses + count);
        }
        if length + more > room {
            (more, addresses) = (0, 0);
        }
        (self.sections, self.length, self.bits) = ([verdict.count & 7, 0, addresses], length + more, AA);
        self.body = Body::new(ENDPOINTS, 0);
        if self.length > room {
            (self.sections, self.length, self.bits) = ([0; 3], 0, AA | TC);
            self.body = Body::new(TRUNCATED, 0);
        }
        Some(())
    }
}

/// Writes the records, best first, and the addresses behind them. Those that addresses would be given of have priority 1
/// and their shares as weights; each one behind them is a priority of its own.
pub(super) fn write<M: Message, T: Tables>(
    message: &mut M,
    at: &mut usize,
    plan: &Plan,
    verdict: &Verdict,
    tables: &T,
) -> Option<()> {
    let chosen = plan.sections[0] as usize;
    let mut places = [0; FAST_ENDPOINTS as usize];
    for (index, place) in places.iter_mut().enumerate().take(chosen) {
        let (target, name) = name_of(verdict.targets[index], plan.servers, tables)?;
        let start = *at;
        *place = start + RECORD_HEAD + FIXED;
        names::write_name(message, *place, name)?;
        names::head(message, start, TYPE_SRV, verdict.ttl, FIXED + name.length as usize)?;
        let priority = (index as u32 + 1).saturating_sub(plan.best) + 1;
        let weight = if priority == 1 { verdict.shares[index] as u32 } else { 0 };
        message.append(start + RECORD_HEAD, (priority << 16 | weight).to_be())?;
        let scheme = (plan.scheme as usize).saturating_sub(1);
        let port = if plan.port != 0 { plan.port } else { *target.ports.get(scheme)? };
        message.append(start + RECORD_HEAD + 4, port.to_be())?;
        *at = *place + name.length as usize;
    }
    if plan.sections[2] == 0 {
        return Some(());
    }
    for (index, place) in places.iter().enumerate().take(chosen) {
        let (_, name) = name_of(verdict.targets[index], plan.servers, tables)?;
        if name.needs_glue == 0 {
            continue;
        }
        let owner = 0xc000 | *place as u16;
        if name.ipv4 != 0 {
            write_address(message, at, owner, Address::V4(name.ipv4), plan.ns_ttl)?;
        }
        if name.ipv6[0] | name.ipv6[1] != 0 {
            write_address(message, at, owner, Address::V6(name.ipv6), plan.ns_ttl)?;
        }
    }
    Some(())
}
