//! The XDP program: entry, the one bounds check, maps. What a packet's answer is, `redirector-core` decides.
#![no_std]
#![no_main]
// For the inline assembly in `packet.rs`, which the BPF target has only as an unstable feature.
#![feature(asm_experimental_arch)]

mod maps;
mod packet;
mod sampling;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::{macros::xdp, programs::XdpContext};
use core::arch::asm;
use redirector_core::wire::frame::{Exit, Frame, aside, process};
use redirector_core::wire::{Aside, Cursor, Word};

/// Answers CDSR and DNS in place, and hands everything else to the network stack untouched.
#[xdp]
pub fn redirector(ctx: XdpContext) -> u32 {
    let (Some(cpu), Some(tables)) = (maps::cpu(), maps::Maps::new()) else { return xdp_action::XDP_PASS };
    let frame = packet::XdpFrame::new(&ctx);
    cpu.sampling.begin(&frame);
    let exit = process(&mut Whole(frame), &tables, &mut maps::CpuLimits, &mut cpu.room);
    maps::count(&cpu.room.scratch.trace, cpu.room.scratch.verdict.object);
    cpu.sampling.end(exit, &cpu.room, &tables);
    match exit {
        Exit::Pass => xdp_action::XDP_PASS,
        Exit::Punt => xdp_action::XDP_PASS,
        Exit::Drop => xdp_action::XDP_DROP,
        Exit::Transmit => xdp_action::XDP_TX,
        Exit::Abort => xdp_action::XDP_ABORTED,
    }
}

/// Does what few packets need, in functions of their own: the verifier proves each by itself, whatever led there.
#[inline(always)]
fn apart(ctx: *mut xdp_md, work: Aside) -> u64 {
    // SAFETY: no instruction. Of an argument that a function does not use LLVM would have callers pass nothing, and the
    // verifier wants it from them.
    unsafe { asm!("/* {0} */", in(reg) ctx, options(nomem, nostack, preserves_flags)) };
    let (Some(cpu), Some(tables)) = (maps::cpu(), maps::Maps::new()) else { return u64::MAX };
    let mut frame = packet::XdpFrame::new(&XdpContext::new(ctx));
    aside(&mut frame, &tables, &mut maps::CpuLimits, &mut cpu.room, work)
}

/// [`Aside::Name`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aside_name(ctx: *mut xdp_md) -> u64 {
    apart(ctx, Aside::Name)
}

/// [`Aside::Service`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aside_service(ctx: *mut xdp_md) -> u64 {
    apart(ctx, Aside::Service)
}

/// [`Aside::Host`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aside_host(ctx: *mut xdp_md) -> u64 {
    apart(ctx, Aside::Host)
}

/// [`Aside::Shapes`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aside_shapes(ctx: *mut xdp_md) -> u64 {
    apart(ctx, Aside::Shapes)
}

/// [`Aside::Outcome`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aside_outcome(ctx: *mut xdp_md) -> u64 {
    apart(ctx, Aside::Outcome)
}

/// The packet, of which rare work is done apart.
struct Whole(packet::XdpFrame);

impl Frame for Whole {
    const ASIDE: bool = true;
    #[inline(always)]
    fn aside(&mut self, work: Aside) -> u64 {
        let ctx = self.0.context();
        match work {
            Aside::Name => aside_name(ctx),
            Aside::Service => aside_service(ctx),
            Aside::Host => aside_host(ctx),
            Aside::Shapes => aside_shapes(ctx),
            Aside::Outcome => aside_outcome(ctx),
        }
    }
    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<&[u8; N]> {
        self.0.head()
    }
    #[inline(always)]
    fn head_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.0.head_mut()
    }
    #[inline(always)]
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.0.block(at)
    }
    #[inline(always)]
    fn block_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.0.block_mut(at)
    }
    #[inline(always)]
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        self.0.load(at)
    }
    #[inline(always)]
    fn cursor(&self, at: usize) -> Option<impl Cursor> {
        self.0.cursor(at)
    }
    #[inline(always)]
    fn store<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        self.0.store(at, value)
    }
    #[inline(always)]
    fn resize(&mut self, len: usize) -> Option<()> {
        self.0.resize(len)
    }
    #[inline(always)]
    fn cut_front(&mut self, bytes: usize) -> Option<()> {
        self.0.cut_front(bytes)
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
