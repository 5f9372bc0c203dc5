//! Messages of DNS and CDSR: answered by `redirector-core`, with the current generation's tables.

use super::listen::Datagram;
use super::proof::{self, Carried, Finding};
use super::{Shared, vip_entry};
use crate::dataplane::Reading;
use crate::state::Generation;
use redirector_core::decide::Client;
use redirector_core::limit::{Limits, Unlimited, Work};
use redirector_core::table::{SPEAKS_CDSR, SPEAKS_DNS};
use redirector_core::verdict::Reason;
use redirector_core::wire::{Action, Asked, Buffer, Message, Proof, Scratch, Trace, cdsr, dns};
use std::net::{IpAddr, SocketAddr};

/// Answers the message of a datagram in the first `len` of `bytes`, in place, and gives the answer's length; `None` if
/// there is none. Answers may use all of `bytes`, and need [`dns::MAX_REPLY`] at least. Senders of datagrams may be
/// anybody: there are rate limits.
pub(super) fn by_datagram(
    shared: &Shared,
    kind: Datagram,
    ends: (IpAddr, SocketAddr),
    scratch: &mut Scratch,
    bytes: &mut [u8],
    len: usize,
) -> Option<usize> {
    scratch.limit = Work::at(shared.buckets.now());
    let limits = &mut shared.buckets.of_one();
    respond(shared, (kind, dns::UDP_LIMIT.into()), ends, limits, scratch, bytes, len)
}

/// The same for a DNS message of a connection, whose client is where it says it is.
pub(super) fn by_stream(
    shared: &Shared,
    ends: (IpAddr, SocketAddr),
    scratch: &mut Scratch,
    bytes: &mut [u8],
    len: usize,
) -> Option<usize> {
    respond(shared, (Datagram::Dns, dns::MAX_REPLY), ends, &mut Unlimited, scratch, bytes, len)
}

/// `room` is what the way to the client carries.
fn respond<L: Limits>(
    shared: &Shared,
    (kind, room): (Datagram, usize),
    (vip, client): (IpAddr, SocketAddr),
    limits: &mut L,
    scratch: &mut Scratch,
    bytes: &mut [u8],
    len: usize,
) -> Option<usize> {
    let generation = shared.current.load();
    let tables = &generation.tables.read();
    let vip = vip_entry(tables, vip)?;
    let spoken = match kind {
        Datagram::Dns => SPEAKS_DNS,
        Datagram::Cdsr => SPEAKS_CDSR,
    };
    if vip.speaks & spoken == 0 {
        return None;
    }
    let asked = Asked { vip, client: Client::new(client.ip()), port: client.port(), room };
    let from = (&asked, client.ip());
    let (action, length, _) = answer(&generation, tables, kind, from, limits, scratch, (bytes, len));
    shared.counters.count(&scratch.trace, tables);
    (action == Action::Reply).then_some(length)
}

/// Has the core answer the message in the first `len` of `bytes`. If it asks for a proof to be examined, that is done, and
/// the core goes on with what it came to.
pub(crate) fn answer<L: Limits>(
    generation: &Generation,
    tables: &Reading<'_>,
    kind: Datagram,
    (asked, client): (&Asked<'_>, IpAddr),
    limits: &mut L,
    scratch: &mut Scratch,
    (bytes, len): (&mut [u8], usize),
) -> (Action, usize, Vec<Finding>) {
    let mut pass = |bytes: &mut [u8], scratch: &mut Scratch| {
        scratch.trace = Trace { vip: asked.vip.counter as u32, ..Trace::default() };
        let mut message = Buffer::new(bytes, len);
        let action = match kind {
            Datagram::Dns => {
                dns::respond_within::<_, _, _, true>(&mut message, asked, tables, limits, scratch)
            }
            Datagram::Cdsr => {
                cdsr::respond_within::<_, _, _, true>(&mut message, asked, tables, limits, scratch)
            }
        };
        (action, message.len())
    };
    scratch.proof = Proof::default();
    let (action, length) = pass(bytes, scratch);
    if action != Action::Punt || scratch.trace.reason != Reason::PuntProof {
        return (action, length, Vec::new());
    }
    let carried = match kind {
        Datagram::Dns => Carried::by_dns(&bytes[..len], client),
        Datagram::Cdsr => Carried::by_cdsr(&bytes[..len], &scratch.cdsr.url(), client),
    };
    // What the core could read can be read here.
    let Some(carried) = carried else { return (Action::Ignore, length, Vec::new()) };
    let examined = proof::examine(generation, tables, asked.vip, scratch.trace.service, carried);
    scratch.proof = examined.proof;
    let (action, length) = pass(bytes, scratch);
    (action, length, examined.findings)
}
