//! Programs of `bench flood`: a flood with clients' queries among it, and how far those come.
//!
//! [`flooder`] sends at one end, in test-runs with live frames; [`gate`] counts at the other what reaches the program of
//! the box, and [`passed`] what that leaves to the kernel; [`returned`] counts the replies, and lets only those of clients
//! go on. Clients have UDP ports from [`FIRST_PORT`] on, one for each kind of query. A flood has lower ports than any socket.

use crate::packet::XdpFrame;
use crate::{Slot, UNDER_TEST, feed, put};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use redirector_core::wire::Word as _;
use redirector_core::wire::frame::Frame as _;

/// Port of the first kind of query.
const FIRST_PORT: u16 = 40_000;
/// Ports of sockets: Linux takes none below for connections, and a flood has lower ones.
const SOCKETS: u16 = 32_768;
/// Kinds that are told apart; the last is the flood.
const KINDS: u32 = 8;
const FLOOD: u32 = KINDS - 1;
/// What a classifier says if others decide (`TC_ACT_UNSPEC`).
const NEXT: i32 = -1;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// Places in a frame of IPv4 without options.
const CHECKSUM_AT: usize = 24;
const SOURCE_AT: usize = 26;
const SOURCE_PORT_AT: usize = 34;
const DESTINATION_PORT_AT: usize = 36;

/// What [`flooder`] does, and how far it is.
#[repr(C)]
pub struct Course {
    /// When it began, and when it was last at work, by the monotonic clock in nanoseconds; 0 before.
    begun: u64,
    last: u64,
    /// When the clients' next frame is due.
    due: u64,
    /// Nanoseconds from one to the next.
    interval: u64,
    /// Frames of clients that were sent, and how many there are.
    sent: u32,
    clients: u32,
    /// Whether there is a flood at all. 0 or 1.
    flood: u32,
    /// Whose addresses the flood has: see [`forge`].
    sources: u32,
}

#[map]
static COURSE: Array<Course> = Array::with_max_entries(1, 0);
/// The clients' frames, each of which is sent once.
#[map]
static CLIENTS: Array<Slot> = Array::with_max_entries(1, 0);
/// Frames by stage and kind.
#[map]
static STAGES: PerCpuArray<u64> = PerCpuArray::with_max_entries(4 * KINDS, 0);

/// How far a frame came, as the first index of [`STAGES`].
#[derive(Clone, Copy)]
enum Stage {
    /// It was made.
    Sent = 0,
    /// It is at the program of the box.
    Entered = 1,
    /// The program left it to the kernel.
    Passed = 2,
    /// It is a reply that came back.
    Returned = 3,
}

#[inline(always)]
fn count(stage: Stage, kind: u32) {
    if let Some(counter) = STAGES.get_ptr_mut(stage as u32 * KINDS + kind) {
        // SAFETY: valid, aligned, and this CPU's own.
        unsafe { *counter += 1 };
    }
}

/// Kind of a datagram by its port at the client.
#[inline(always)]
fn kind_of(port: u16) -> Option<u32> {
    match port {
        0..SOCKETS => Some(FLOOD),
        FIRST_PORT.. if ((port - FIRST_PORT) as u32) < FLOOD => Some((port - FIRST_PORT) as u32),
        _ => None,
    }
}

/// Sends the clients' next frame if it is due, else the flood's next one.
#[xdp]
pub fn flooder(ctx: XdpContext) -> u32 {
    match next(&ctx) {
        Some(true) => xdp_action::XDP_TX,
        Some(false) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_ABORTED,
    }
}

/// Whether a frame was made that is to be sent.
#[inline(always)]
fn next(ctx: &XdpContext) -> Option<bool> {
    let course = COURSE.get_ptr_mut(0)?;
    // SAFETY: valid and aligned; the benchmark runs one sender at a time, and changes the value between its runs.
    let course = unsafe { &mut *course };
    // Not the coarse clock: with each of its steps there are new budgets, and no client is that lucky all the time.
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_ns() };
    if course.begun == 0 {
        course.begun = now;
    }
    course.last = now;
    if course.sent < course.clients && now >= course.due {
        let slot = CLIENTS.get_ptr(course.sent)?;
        course.sent += 1;
        // From now on: what is late must not come in a bunch.
        course.due = now + course.interval;
        put(ctx, slot)?;
        let port = XdpFrame::new(ctx).load::<u16>(SOURCE_PORT_AT)?;
        count(Stage::Sent, kind_of(u16::from_be(port))?);
        return Some(true);
    }
    if course.flood == 0 {
        return Some(false);
    }
    feed(ctx)?;
    forge(&mut XdpFrame::new(ctx), course.sources)?;
    count(Stage::Sent, FLOOD);
    Some(true)
}

/// Gives a frame another source: 1, any address that a client may have; 2, one that no client has (multicast); 0 leaves
/// it. Its datagram must be without checksum.
#[inline(always)]
fn forge(frame: &mut XdpFrame, sources: u32) -> Option<()> {
    if sources == 0 {
        return Some(());
    }
    // SAFETY: draws a number.
    let random = unsafe { bpf_get_prandom_u32() };
    let first = match sources {
        // 1 to 223, without 127.
        1 => match 1 + (((random >> 24) * 223) >> 8) {
            127 => 128,
            first => first,
        },
        _ => 224 | random >> 24 & 15,
    };
    let new = (first << 24 | random & 0x00ff_ffff).to_be();
    let old: u32 = frame.load(SOURCE_AT)?;
    let sum: u16 = frame.load(CHECKSUM_AT)?;
    // RFC 1624 section 3.
    let total = sum.complement().sum() + old.complement().sum() + new.sum();
    let total = (total & 0xffff) + (total >> 16 & 0xffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    frame.store(CHECKSUM_AT, !(((total & 0xffff) + (total >> 16)) as u16))?;
    frame.store(SOURCE_AT, new)
}

/// Counts what arrives, and runs the program of the box on it.
#[xdp]
pub fn gate(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    if let (Some(UDP), Some(port)) = (protocol(&frame), frame.load::<u16>(SOURCE_PORT_AT))
        && let Some(kind) = kind_of(u16::from_be(port))
    {
        count(Stage::Entered, kind);
    }
    // SAFETY: a tail call does not come back, and nothing here waits to be dropped.
    unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// Counts what the program of the box has left to the kernel.
#[classifier]
pub fn passed(ctx: TcContext) -> i32 {
    if let (Ok(0x45), Ok(UDP), Ok(port)) =
        (ctx.load::<u8>(14), ctx.load::<u8>(23), ctx.load::<u16>(SOURCE_PORT_AT))
        && let Some(kind) = kind_of(u16::from_be(port))
    {
        count(Stage::Passed, kind);
    }
    NEXT
}

/// Counts what comes back, and lets through what is for sockets.
#[xdp]
pub fn returned(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let (Some(protocol @ (UDP | TCP)), Some(port)) =
        (protocol(&frame), frame.load::<u16>(DESTINATION_PORT_AT).map(u16::from_be))
    else {
        return xdp_action::XDP_DROP;
    };
    if protocol == UDP
        && let Some(kind) = kind_of(port)
    {
        count(Stage::Returned, kind);
    }
    if port < SOCKETS { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// Protocol of an IPv4 packet without options.
#[inline(always)]
fn protocol(frame: &XdpFrame) -> Option<u8> {
    let is_plain = frame.load::<u16>(12)? == 0x0800u16.to_be() && frame.load::<u8>(14)? == 0x45;
    if is_plain { frame.load(23) } else { None }
}
