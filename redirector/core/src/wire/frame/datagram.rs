//! The UDP payload of a frame as a message, and the checksum of what becomes of it.

use super::{Frame, Packet, UDP};
use crate::verdict::Reason;
use crate::verifier::{forget, phase};
use crate::wire::{Aside, Cursor, Message, Word, set_word, text, word_of};

/// Words of old payload behind the kept part that the fast path takes out of the checksum; longer ones are punted.
const TAIL_WORDS: usize = 12;

/// The UDP payload of a frame.
pub(super) struct Datagram<'f, F> {
    pub(super) frame: &'f mut F,
    pub(super) packet: &'f mut Packet,
}

impl<F: Frame> Datagram<'_, F> {
    /// Where a byte of the payload lies in the frame. Headers have even lengths, so parity is that of the payload.
    #[inline(always)]
    fn place(&self, at: usize) -> usize {
        self.packet.base + UDP + at
    }

    /// Takes the bytes from `keep` to the end out of the sums.
    #[inline(always)]
    fn forget_tail(&mut self, keep: usize) -> Result<(), Reason> {
        let mut left = self.packet.len.wrapping_sub(keep);
        if left > TAIL_WORDS * 8 {
            return if left > self.packet.len { Ok(()) } else { Err(Reason::PuntEdns) };
        }
        let mut sum = 0;
        if left >= 8 {
            let mut cursor = self.cursor(keep).ok_or(Reason::PuntShort)?;
            for _ in 0..TAIL_WORDS {
                let word =
                    cursor.block().and_then(|bytes| word_of::<u64, 8>(bytes, 0)).ok_or(Reason::PuntShort)?;
                sum += word.complement().sum();
                left = forget(left.wrapping_sub(8), word);
                #[expect(
                    clippy::manual_range_contains,
                    reason = "the verifier learns a bound from each comparison"
                )]
                if left < 8 || left > TAIL_WORDS * 8 {
                    break;
                }
                cursor.advance(8);
            }
        }
        if left != 0 {
            let at = self.packet.len.wrapping_sub(left);
            let (word, _) = text::word_at(self, at, left).ok_or(Reason::PuntShort)?;
            sum += (!word.to_le()).sum();
        }
        self.packet.sums.add(keep, sum);
        Ok(())
    }
}

impl<F: Frame> Message for Datagram<'_, F> {
    const ASIDE: bool = F::ASIDE;
    #[inline(always)]
    fn aside(&mut self, work: Aside) -> u64 {
        phase();
        let given = self.frame.aside(work);
        phase();
        given
    }
    #[inline(always)]
    fn len(&self) -> usize {
        self.packet.len
    }
    #[inline(always)]
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        self.frame.load(self.place(at))
    }
    #[inline(always)]
    fn cursor(&self, at: usize) -> Option<impl Cursor> {
        self.frame.cursor(self.place(at))
    }
    #[inline(always)]
    fn begin_reply(&mut self, keep: usize, len: usize) -> Result<(), Reason> {
        self.packet.sums.old_length = ((self.packet.len + UDP) as u16).to_be();
        self.packet.sums.rebuilt = (keep == 0) as u16;
        if keep != 0 && self.packet.checksum != 0 {
            self.forget_tail(keep)?;
        }
        self.frame.resize(self.place(len)).ok_or(Reason::PuntResize)?;
        self.packet.len = len;
        Ok(())
    }
    #[inline(always)]
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.frame.block(self.place(at))
    }
    #[inline(always)]
    fn replace_head(&mut self, old: [u32; 3], new: [u32; 3]) -> Option<()> {
        let sum = |words: [u32; 3]| words[0].sum() + words[1].sum() + words[2].sum();
        self.packet.sums.total += sum(old.map(Word::complement)) + sum(new);
        let head = self.frame.block_mut::<12>(self.place(0))?;
        set_word(head, 0, new[0])?;
        set_word(head, 4, new[1])?;
        set_word(head, 8, new[2])
    }
    #[inline(always)]
    fn append_words<const BYTES: usize, const WORDS: usize>(
        &mut self,
        at: usize,
        words: [u64; WORDS],
    ) -> Option<()> {
        const { assert!(BYTES == WORDS * size_of::<u64>()) };
        let room = self.frame.block_mut::<BYTES>(self.place(at))?;
        let mut sum = 0;
        for (index, word) in words.into_iter().enumerate() {
            sum += word.sum();
            set_word(room, index * 8, word)?;
        }
        self.packet.sums.add(at, sum);
        Some(())
    }
    #[inline(always)]
    fn append_block<const N: usize>(
        &mut self,
        at: usize,
        write: impl FnOnce(&mut [u8; N]) -> Option<u64>,
    ) -> Option<()> {
        let sum = write(self.frame.block_mut(self.place(at))?)?;
        self.packet.sums.add(at, sum);
        Some(())
    }
    #[inline(always)]
    fn replace<W: Word>(&mut self, at: usize, old: W, new: W) -> Option<()> {
        self.packet.sums.add(at, old.complement().sum());
        self.append(at, new)
    }
    #[inline(always)]
    fn append<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        self.packet.sums.add(at, value.sum());
        self.frame.store(self.place(at), value)
    }
}
