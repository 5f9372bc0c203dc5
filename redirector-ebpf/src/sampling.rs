//! One decision in so many is told to the daemon: what came in, and what became of it.
//!
//! Whether a frame is told is settled before it is looked at, because the answer is written over the question. It is kept
//! in this CPU's room until then: a reserved place in the ring would make the verifier follow the whole program twice.

use crate::packet::XdpFrame;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use core::slice;
use redirector_core::sample::{FRAME_KEPT, FRAME_WORDS, Sample, Told};
use redirector_core::table::{NONE, Tables};
use redirector_core::verifier::phase;
use redirector_core::wire::frame::{Exit, Frame as _, Room};

/// One decision in so many is told; 0: none. Each instance of the program has its own, which the loader sets.
#[map]
static SAMPLING: Array<u32> = Array::with_max_entries(1, 0);
/// What is told; shared by all instances. The loader sets its real size.
#[map]
static DECISIONS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// How many decisions were told, and how many found the ring full; shared by all instances.
#[map]
static COUNT_TOLD: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// Frames until the rate is looked up again while nothing is told.
const NEXT_LOOK: u64 = 1 << 32;

/// Which frames of one CPU are told.
#[repr(C)]
pub struct Sampling {
    /// Frames until the next one that is told. Below 1 before the first.
    left: i64,
    /// 1: the frame at hand is told.
    taken: u64,
    sample: Sample,
    /// The verifier takes a word to be stored up to here: see [`Self::take`].
    spare: u64,
}

impl Sampling {
    /// A frame has come in: keeps its first bytes if it is one that is told.
    #[inline(always)]
    pub fn begin(&mut self, frame: &XdpFrame) {
        self.left -= 1;
        if self.left < 1 {
            self.take(frame);
        }
        // The verifier goes on as if nothing had been kept.
        phase();
    }

    /// A frame is done with.
    #[inline(always)]
    pub fn end<T: Tables>(&mut self, exit: Exit, room: &Room, tables: &T) {
        if self.taken != 0 {
            self.taken = 0;
            // What is punted is told by whoever answers it.
            if let Exit::Transmit | Exit::Drop | Exit::Abort = exit {
                self.tell(room, tables);
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, frame: &XdpFrame) {
        let is_first = self.left < 0;
        let one_in = match SAMPLING.get(0) {
            Some(one_in) => *one_in,
            None => 0,
        };
        if one_in == 0 {
            self.left = NEXT_LOOK as i64;
            return;
        }
        // A random distance, of that many on average: a fixed one would beat with what comes at regular times.
        // SAFETY: draws a number.
        let random = unsafe { bpf_get_prandom_u32() } as u64;
        self.left = 1 + (random * (2 * one_in as u64 - 1) >> 32) as i64;
        if is_first && one_in > 1 {
            return;
        }
        let length = frame.len();
        for word in 0..FRAME_WORDS - 1 {
            let Some(bytes) = frame.load::<u64>(word * 8) else { break };
            self.sample.frame[word] = bytes;
        }
        let kept = if length < FRAME_KEPT { length } else { FRAME_KEPT };
        // The last bytes once more, as the word that ends with them.
        let place = kept.wrapping_sub(8) & (FRAME_WORDS * 8 - 1);
        if let Some(last) = frame.load::<u64>(place) {
            // SAFETY: the mask keeps the place within the frame's room or, by less than a word, in `spare`.
            unsafe { *self.sample.frame.as_mut_ptr().cast::<u8>().add(place).cast::<u64>() = last };
        }
        (self.sample.told.one_in, self.sample.told.length, self.sample.told.kept) =
            (one_in, length as u32, kept as u32);
        self.taken = 1;
    }

    #[inline(always)]
    fn tell<T: Tables>(&mut self, room: &Room, tables: &T) {
        let Sample { told, .. } = &mut self.sample;
        room.tell(tables, told);
        if told.vip == NONE {
            return;
        }
        let size = size_of::<Told>() + (told.kept as usize & (FRAME_WORDS * 8 - 1));
        let start: *const Sample = &self.sample;
        // SAFETY: the mask keeps so many bytes within the record.
        let record = unsafe { slice::from_raw_parts(start.cast::<u8>(), size) };
        let full = DECISIONS.output::<[u8]>(record, 0).is_err();
        if let Some(counter) = COUNT_TOLD.get_ptr_mut(full as u32) {
            // SAFETY: the value is this CPU's own.
            unsafe { *counter += 1 };
        }
    }
}
