//! Programs of the benchmark alone: what feeds another XDP program with frames, and what that is compared with.
//!
//! `BPF_PROG_TEST_RUN` repeats a program on the frame that the run before left behind, so a program that answers would
//! see its own reply. The feeder therefore writes the next of many prepared frames before it tail-calls the program
//! under test; its own cost, measured with [`nothing`] in that place, is subtracted. It is a binary of its own so that
//! nothing of it is in the object that boxes run.
//!
//! `bench peers` has the same frames go over a pair of virtual Ethernet interfaces: [`sender`] makes them at one end, in
//! a test-run with live frames; [`hook`] runs the program under test at the other; [`counter`] counts what comes back.
//! What `bench flood` has instead is in [`flood`].
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[path = "../flood.rs"]
mod flood;
#[path = "../packet.rs"]
mod packet;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_xdp_store_bytes;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::programs::XdpContext;
use core::ptr::{read_volatile, write_volatile};
use packet::XdpFrame;
use redirector_core::wire::frame::Frame as _;

/// Longest frame of the ring.
const LONGEST: u32 = 252;

/// A prepared frame: four cache lines.
#[repr(C)]
pub struct Slot {
    len: u32,
    bytes: [u8; LONGEST as usize],
}

/// The ring of frames: a power of two.
#[map]
static FRAMES: Array<Slot> = Array::with_max_entries(1, 0);
/// Number of frames fed so far.
#[map]
static FED: Array<u32> = Array::with_max_entries(1, 0);
/// The program under test, at index 0.
#[map]
static UNDER_TEST: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Length of the ring less one; the loader sets it.
#[unsafe(no_mangle)]
static RING_MASK: u32 = 0;

/// For [`sender`]: runs in a cycle, of which the first [`BURST`] send a frame.
#[map]
static CYCLE: Array<u32> = Array::with_max_entries(1, 0);
/// Runs of the current cycle so far.
#[map]
static PHASE: Array<u32> = Array::with_max_entries(1, 0);
/// For [`sender`]: whether frames are sent, or only made. 0 or 1.
#[map]
static SEND: Array<u32> = Array::with_max_entries(1, 0);
/// For [`counter`]: whether replies go on to whoever listens, instead of ending here. 0 or 1.
#[map]
static LISTEN: Array<u32> = Array::with_max_entries(1, 0);
/// Frames from the DNS port: answers, then others.
#[map]
static REPLIES: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// Frames that are sent one after the other: what an interface's batches are made of.
const BURST: u32 = 16;
/// UDP port of DNS.
const DNS_PORT: u16 = 53;
const UDP: u8 = 17;

/// Makes the packet the ring's next frame and runs the program under test on it.
#[xdp]
pub fn feeder(ctx: XdpContext) -> u32 {
    let Some(len) = feed(&ctx) else { return xdp_action::XDP_ABORTED };
    if len == 0 {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: a tail call does not come back, and nothing here waits to be dropped.
    unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// Bytes of the frame that was written.
#[inline(always)]
fn feed(ctx: &XdpContext) -> Option<u32> {
    let fed = FED.get_ptr_mut(0)?;
    // SAFETY: both are valid and aligned; the benchmark runs one feeder at a time. Volatile, because the loader
    // changes the mask behind the compiler's back.
    let (number, mask) = unsafe { (read_volatile(fed), read_volatile(&raw const RING_MASK)) };
    // SAFETY: as above.
    unsafe { write_volatile(fed, number.wrapping_add(1)) };
    put(ctx, FRAMES.get_ptr(number & mask)?)
}

/// Makes the packet this frame, and gives its length.
#[inline(always)]
fn put(ctx: &XdpContext, slot: *const Slot) -> Option<u32> {
    // SAFETY: valid, and not written while the feeder runs. Volatile, so that the verifier sees one load and its check.
    let len = unsafe { read_volatile(&raw const (*slot).len) };
    if len == 0 || len > LONGEST {
        return None;
    }
    XdpFrame::new(ctx).resize(len as usize)?;
    // SAFETY: the slot holds `len` bytes and more; the helper checks the packet's end.
    let failed =
        unsafe { bpf_xdp_store_bytes(ctx.ctx, 0, (&raw const (*slot).bytes).cast_mut().cast(), len) };
    (failed == 0).then_some(len)
}

/// Does nothing with a frame: under the feeder, the feeder's own cost.
#[xdp]
pub fn nothing(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Sends a frame back with addresses and ports swapped: the least that anything which answers must do.
#[xdp]
pub fn reflector(ctx: XdpContext) -> u32 {
    match reflect(&mut XdpFrame::new(&ctx)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn reflect(frame: &mut XdpFrame) -> Option<()> {
    swap::<u32>(frame, 0, 6)?;
    swap::<u16>(frame, 4, 10)?;
    let ports = match u16::from_be(frame.load(12)?) {
        0x0800 => {
            swap::<u32>(frame, 26, 30)?;
            34
        }
        0x86dd => {
            swap::<u64>(frame, 22, 38)?;
            swap::<u64>(frame, 30, 46)?;
            54
        }
        _ => return None,
    };
    swap::<u16>(frame, ports, ports + 2)
}

/// Swaps two words. Neither addresses nor ports change the checksums by that.
#[inline(always)]
fn swap<W: redirector_core::wire::Word>(frame: &mut XdpFrame, one: usize, other: usize) -> Option<()> {
    let (first, second): (W, W) = (frame.load(one)?, frame.load(other)?);
    frame.store(one, second)?;
    frame.store(other, first)
}

/// Sends the ring's next frame, or nothing in the rest of a cycle.
#[xdp]
pub fn sender(ctx: XdpContext) -> u32 {
    match is_turn() {
        Some(true) if feed(&ctx).is_some() => match SEND.get(0) {
            Some(1) => xdp_action::XDP_TX,
            _ => xdp_action::XDP_DROP,
        },
        Some(false) => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn is_turn() -> Option<bool> {
    let (cycle, phase) = (CYCLE.get(0)?, PHASE.get_ptr_mut(0)?);
    // SAFETY: valid and aligned; the benchmark runs one sender at a time.
    let now = unsafe { read_volatile(phase) };
    let next = if now + 1 < *cycle { now + 1 } else { 0 };
    // SAFETY: as above.
    unsafe { write_volatile(phase, next) };
    Some(now < BURST)
}

/// Runs the program under test on what arrives; without one, it is the kernel's.
#[xdp]
pub fn hook(ctx: XdpContext) -> u32 {
    // SAFETY: a tail call does not come back, and nothing here waits to be dropped.
    unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    xdp_action::XDP_PASS
}

/// Counts what the other end sends.
#[xdp]
pub fn counter(ctx: XdpContext) -> u32 {
    if let Some(index) = kind_of_reply(&XdpFrame::new(&ctx))
        && let Some(count) = REPLIES.get_ptr_mut(index)
    {
        // SAFETY: valid, aligned, and this CPU's own.
        unsafe { *count += 1 };
    }
    match LISTEN.get(0) {
        Some(0) => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

/// Index in [`REPLIES`], if it comes from the DNS port. An answer is a reply without error and with records.
#[inline(always)]
fn kind_of_reply(frame: &XdpFrame) -> Option<u32> {
    let udp = match u16::from_be(frame.load(12)?) {
        0x0800 if frame.load::<u8>(14)? == 0x45 && frame.load::<u8>(23)? == UDP => 34,
        0x86dd if frame.load::<u8>(20)? == UDP => 54,
        _ => return None,
    };
    if u16::from_be(frame.load(udp)?) != DNS_PORT {
        return None;
    }
    let flags = u16::from_be(frame.load(udp + 10)?);
    let answers = u16::from_be(frame.load(udp + 14)?);
    Some((flags & 0x800f != 0x8000 || answers == 0) as u32)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
