//! The XDP program: entry, the one bounds check, maps. What a packet's answer is, `redirector-core` decides.
#![no_std]
#![no_main]
// For the inline assembly in `packet.rs`, which the BPF target has only as an unstable feature.
#![feature(asm_experimental_arch)]

mod maps;
mod packet;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use redirector_core::wire::frame::{Exit, process};

/// Answers CDSR and DNS in place, and hands everything else to the network stack untouched.
#[xdp]
pub fn redirector(ctx: XdpContext) -> u32 {
    let (Some(room), Some(tables)) = (maps::room(), maps::Maps::new()) else { return xdp_action::XDP_PASS };
    let exit = process(&mut packet::XdpFrame::new(&ctx), &tables, &mut maps::CpuLimits, room);
    maps::count(&room.scratch.trace);
    match exit {
        Exit::Pass => xdp_action::XDP_PASS,
        Exit::Punt => xdp_action::XDP_PASS,
        Exit::Drop => xdp_action::XDP_DROP,
        Exit::Transmit => xdp_action::XDP_TX,
        Exit::Abort => xdp_action::XDP_ABORTED,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
