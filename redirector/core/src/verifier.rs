//! Help for the kernel's verifier, which follows every path through a program.

/// Gives `value` back unchanged, but hides from the verifier everything it has learnt about it.
///
/// The verifier goes once more through all code behind a point for every set of ranges it arrives there with. A loop
/// whose variables differ from round to round multiplies these sets beyond its limit; variables of which it knows
/// nothing are all the same to it. Mixing in `noise` (any number it knows nothing about) and out again costs two
/// instructions.
#[inline(always)]
pub fn forget(value: usize, noise: u64) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: arithmetic on a register; `value ^ noise ^ noise` is `value`.
        unsafe {
            core::arch::asm!("{0} ^= {1}", "{0} ^= {1}", inout(reg) value, in(reg) noise,
                options(pure, nomem, nostack, preserves_flags));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = noise;
        value
    }
}

/// Makes the compiler write to memory what belongs there and read it anew afterwards. Placed between the phases of a
/// message's work: the verifier knows nothing about what it reads from a map, so each phase is followed once and not
/// once for every way through the one before.
#[inline(always)]
pub fn phase() {
    #[cfg(target_arch = "bpf")]
    // SAFETY: no instruction at all; without `nomem` it may touch any memory as far as the compiler knows.
    unsafe {
        core::arch::asm!("", options(nostack, preserves_flags));
    }
}

/// 1 if `a` is below `b`, else 0; both are below 2^63. BPF can compare only by a branch, and branches on hashes are
/// wrong half of the time: this is a subtraction, hidden from LLVM, which would make a comparison of it.
#[inline(always)]
pub fn less(a: u64, b: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut difference = a;
        // SAFETY: arithmetic on registers.
        unsafe {
            core::arch::asm!("{0} -= {1}", "{0} >>= 63", inout(reg) difference, in(reg) b,
                options(pure, nomem, nostack, preserves_flags));
        }
        difference
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        (a < b) as u64
    }
}

/// All ones if `a` equals `b`, else 0; without a branch, see [`less`].
#[inline(always)]
pub fn equal(a: u64, b: u64) -> u64 {
    let difference = a ^ b;
    #[cfg(target_arch = "bpf")]
    {
        let mut mask = difference;
        // SAFETY: arithmetic on registers.
        unsafe {
            core::arch::asm!("{0} = -{0}", "{0} |= {1}", "{0} s>>= 63", inout(reg) mask, in(reg) difference,
                options(pure, nomem, nostack, preserves_flags));
        }
        !mask
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        ((difference == 0) as u64).wrapping_neg()
    }
}
