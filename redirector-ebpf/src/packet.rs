//! The one bounds check: every byte of a packet that the program touches goes through [`XdpFrame::pointer`].

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use core::arch::asm;
use core::ptr::NonNull;
use redirector_core::wire::Word;
use redirector_core::wire::frame::Frame;

/// No place in a frame lies beyond this: the verifier wants a constant bound.
const LAST_PLACE: usize = 2047;

/// The packet of one program run.
pub struct XdpFrame {
    ctx: *mut xdp_md,
}

impl XdpFrame {
    /// The packet that `ctx` holds.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { ctx: ctx.ctx }
    }

    /// Where the packet begins and ends now: resizing moves it.
    ///
    /// In assembly, because the fields are declared as `u32` while the kernel makes pointers of what is loaded from
    /// them: LLVM would mask a value that must not be masked.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let (data, end): (usize, usize);
        // SAFETY: loads the first two fields of `xdp_md`, which is valid while the program runs.
        unsafe {
            asm!("{0} = *(u32 *)({2} + 0)", "{1} = *(u32 *)({2} + 4)", out(reg) data, out(reg) end, in(reg) self.ctx,
                options(readonly, nostack, preserves_flags));
        }
        (data, end)
    }

    /// Pointer to the packet's start, if it has so many bytes. The verifier knows the places of constant offsets by
    /// itself.
    #[inline(always)]
    fn start(&self, bytes: usize) -> Option<NonNull<u8>> {
        let (mut start, end) = self.bounds();
        // SAFETY: see `pointer`.
        unsafe { asm!("{0} = {0}", inout(reg) start, options(pure, nomem, nostack, preserves_flags)) };
        // SAFETY: packets do not begin at 0.
        if start + bytes > end { None } else { Some(unsafe { NonNull::new_unchecked(start as *mut u8) }) }
    }

    /// Pointer to a `W` at `at`, if it lies within the packet.
    ///
    /// The verifier learns from `pointer + 2 > end`, but not from `pointer + 1 > end`, which LLVM turns into
    /// `pointer >= end`; so a single byte is checked together with the one before it.
    #[inline(always)]
    fn pointer<W>(&self, at: usize) -> Option<NonNull<W>> {
        let before = (size_of::<W>() == 1) as usize;
        let size = size_of::<W>() + before;
        let mut place = at.wrapping_sub(before);
        if place > LAST_PLACE {
            return None;
        }
        // SAFETY: empty assembly; it keeps LLVM from deriving the offset anew after the check, which would leave the
        // verifier with a pointer whose range it has not seen.
        unsafe { asm!("{0} = {0}", inout(reg) place, options(pure, nomem, nostack, preserves_flags)) };
        let (data, end) = self.bounds();
        let mut start = data + place;
        // SAFETY: as above: the very pointer that is checked is the one that is used.
        unsafe { asm!("{0} = {0}", inout(reg) start, options(pure, nomem, nostack, preserves_flags)) };
        if start + size > end {
            return None;
        }
        // SAFETY: packets do not begin at 0.
        Some(unsafe { NonNull::new_unchecked((start + before) as *mut W) })
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<&[u8; N]> {
        // SAFETY: within the packet by the check; nothing else refers to it while the frame is borrowed.
        self.start(N).map(|pointer| unsafe { pointer.cast().as_ref() })
    }

    #[inline(always)]
    fn head_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        // SAFETY: as above.
        self.start(N).map(|pointer| unsafe { pointer.cast().as_mut() })
    }

    #[inline(always)]
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        // SAFETY: as above.
        self.pointer(at).map(|pointer: NonNull<[u8; N]>| unsafe { pointer.as_ref() })
    }

    #[inline(always)]
    fn block_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        // SAFETY: as above.
        self.pointer(at).map(|mut pointer: NonNull<[u8; N]>| unsafe { pointer.as_mut() })
    }

    #[inline(always)]
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        // SAFETY: within the packet by the check. Unaligned access is one instruction on the CPUs that run this
        // (x86-64, arm64), and the BPF target has no alignment of its own; `read_unaligned` would load byte by byte.
        self.pointer(at).map(|pointer: NonNull<W>| unsafe { *pointer.as_ptr() })
    }

    #[inline(always)]
    fn store<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        // SAFETY: as for `load`; the packet is ours until the program ends.
        self.pointer(at).map(|pointer: NonNull<W>| unsafe { *pointer.as_ptr() = value })
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> Option<()> {
        // The program takes no frames in fragments, so this is all of the frame. (A helper would tell, too, but slowly.)
        let (data, end) = self.bounds();
        let now = end.wrapping_sub(data) as i32;
        // SAFETY: a helper call on the program's own context; pointers into the packet are made anew by every access.
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx, len as i32 - now) };
        if failed == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn cut_front(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: as for `resize`.
        let failed = unsafe { bpf_xdp_adjust_head(self.ctx, bytes as i32) };
        if failed == 0 { Some(()) } else { None }
    }
}
