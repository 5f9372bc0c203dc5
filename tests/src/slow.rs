//! The slow path without sockets: what production code answers to a UDP message, over any tables.

use crate::frames::Flow;
use redirector_core::decide::Client;
use redirector_core::lookup;
use redirector_core::table::{SPEAKS_CDSR, SPEAKS_DNS, Tables, VipEntry};
use redirector_core::wire::{Action, Asked, Buffer, Message as _, Scratch, Trace, cdsr, dns};
use std::net::IpAddr;

/// UDP port of DNS.
pub const DNS_PORT: u16 = 53;

/// What becomes of a message, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was made of it.
    pub action: Action,
    /// The reply; if there is none, the message as it is afterwards.
    pub message: Vec<u8>,
    /// What was decided on the way.
    pub trace: Trace,
}

impl Outcome {
    /// The reply, if there is one.
    #[must_use]
    pub fn reply(&self) -> Option<&[u8]> {
        (self.action == Action::Reply).then_some(&self.message)
    }
}

/// Hands every method of [`Tables`] that reads a table to a macro, for tables that stand before others.
#[macro_export]
macro_rules! each_table {
    ($then:ident) => {
        $then! {
            meta() -> &redirector_core::table::Meta;
            vip_bucket(index) -> &redirector_core::table::VipBucket;
            vip_info(index) -> &redirector_core::table::VipInfo;
            suffix_bucket(index) -> &redirector_core::table::NameBucket;
            zone(index) -> &redirector_core::table::Zone;
            name_bucket(index) -> &redirector_core::table::NameBucket;
            service(index) -> &redirector_core::table::Service;
            ipv4_root(index) -> &redirector_core::table::Words16;
            ipv4_page(index) -> &redirector_core::table::Page256;
            ipv6_root(index) -> &redirector_core::table::Words16;
            ipv6_node(index) -> &redirector_core::table::Node64;
            region_counters(index) -> &redirector_core::table::Words16;
            cell(index) -> u32;
            group(index) -> redirector_core::table::GroupPointer;
            record(index) -> &redirector_core::table::ShareRecord;
            target(index) -> &redirector_core::table::Target;
            wire_name(index) -> &redirector_core::table::WireName;
        }
    };
}

/// Tables whose clock stands at this moment (seconds since 1970), so that two paths can be asked at the same one.
#[derive(Debug)]
pub struct AtTime<'t, T>(pub &'t T, pub u32);

macro_rules! at_time {
    ($($name:ident($($index:ident)?) -> $value:ty;)+) => {
        impl<T: Tables> Tables for AtTime<'_, T> {
            fn unix_seconds(&self) -> u32 {
                self.1
            }
            $(fn $name(&self $(, $index: u32)?) -> Option<$value> {
                self.0.$name($($index)?)
            })+
        }
    };
}
each_table!(at_time);

/// The VIP entry of an address, if it is one.
pub fn vip<T: Tables>(tables: &T, address: IpAddr) -> Option<VipEntry> {
    let words = match address {
        IpAddr::V4(v4) => lookup::mapped(redirector_plan::ipv4_word(v4)),
        IpAddr::V6(v6) => redirector_plan::ipv6_words(v6),
    };
    lookup::vip(tables, &tables.meta()?.keys, words).copied()
}

/// What `FULL` (the slow path) or the fast path's functions make of a message at its port over UDP; `None` if nobody
/// listens there.
pub fn respond<T: Tables, const FULL: bool>(tables: &T, flow: &Flow, payload: &[u8]) -> Option<Outcome> {
    respond_within::<T, FULL>(tables, flow, payload, dns::UDP_LIMIT.into())
}

/// The same over something that carries replies of `room` bytes.
pub fn respond_within<T: Tables, const FULL: bool>(
    tables: &T,
    flow: &Flow,
    payload: &[u8],
    room: usize,
) -> Option<Outcome> {
    let vip = vip(tables, flow.vip.ip())?;
    let asked = Asked { vip: &vip, client: Client::new(flow.client.ip()), port: flow.client.port(), room };
    let mut bytes = payload.to_vec();
    bytes.resize(payload.len() + dns::MAX_REPLY, 0xa5);
    let mut message = Buffer::new(&mut bytes, payload.len());
    let mut scratch = Scratch::default();
    let action = match flow.vip.port() {
        DNS_PORT if vip.speaks & SPEAKS_DNS != 0 => {
            dns::respond::<_, T, FULL>(&mut message, &asked, tables, &mut scratch)
        }
        cdsr::PORT if vip.speaks & SPEAKS_CDSR != 0 => {
            cdsr::respond::<_, T, FULL>(&mut message, &asked, tables, &mut scratch)
        }
        _ => return None,
    };
    let len = message.len();
    bytes.truncate(len);
    Some(Outcome { action, message: bytes, trace: scratch.trace })
}

/// What the slow path makes of a message.
pub fn answer<T: Tables>(tables: &T, flow: &Flow, payload: &[u8]) -> Option<Outcome> {
    respond::<T, true>(tables, flow, payload)
}
