//! The suffix that most names at a VIP end in, recognised as a whole: its labels need not be cut, hashed and looked up one
//! by one. What is found is what [`crate::lookup::suffix`] finds, sooner.

use crate::hash::fold_case;
use crate::table::NONE;
use crate::wire::word_of;

/// Longest text.
pub const MAX_TAIL: usize = 24;
const WORDS: usize = MAX_TAIL / 8;

/// A suffix beneath which no other begins.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The text in small letters, as bytes lie in memory: the last of 24, zeros before it.
    pub words: [u64; WORDS],
    /// Which bytes those are.
    pub masks: [u64; WORDS],
    /// Bytes of the text.
    pub length: u64,
    /// Zone numbers, by URL scheme (DNS: the first); [`NONE`] where the suffix has no names.
    pub zones: [u32; 4],
}

impl Default for Tail {
    fn default() -> Self {
        Self { words: [0; WORDS], masks: [0; WORDS], length: 0, zones: [NONE; 4] }
    }
}

impl Tail {
    /// For hosts of URLs: a dot and the suffix. `None`: it is too long.
    pub fn of_hosts(suffix: &[u8], zones: [u32; 4]) -> Option<Self> {
        let mut text = [0; MAX_TAIL];
        *text.first_mut()? = b'.';
        text.get_mut(1..1 + suffix.len())?.copy_from_slice(suffix);
        Self::of(text.get(..1 + suffix.len())?, zones)
    }

    /// For names in DNS messages: the suffix as it stands in them, with its root label. `None`: it is too long.
    pub fn of_names(suffix: &[u8], zone: u32) -> Option<Self> {
        Self::of(suffix, [zone, NONE, NONE, NONE])
    }

    fn of(text: &[u8], zones: [u32; 4]) -> Option<Self> {
        let (mut bytes, mut mask) = ([0; MAX_TAIL], [0; MAX_TAIL]);
        let start = MAX_TAIL.checked_sub(text.len())?;
        bytes[start..].copy_from_slice(text);
        bytes.make_ascii_lowercase();
        mask[start..].fill(0xff);
        let words = |bytes: [u8; MAX_TAIL]| {
            core::array::from_fn(|n| u64::from_ne_bytes(core::array::from_fn(|byte| bytes[n * 8 + byte])))
        };
        Some(Self { words: words(bytes), masks: words(mask), length: text.len() as u64, zones })
    }

    /// Whether bytes end in the text, without regard to case.
    #[inline(always)]
    pub(crate) fn ends(&self, bytes: &[u8; MAX_TAIL]) -> bool {
        let mut differences = 0;
        for index in 0..WORDS {
            let Some(word) = word_of::<u64, MAX_TAIL>(bytes, index * 8) else { return false };
            differences |= fold_case(word & self.masks[index]) ^ self.words[index];
        }
        differences == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_end_in_a_text_whatever_their_case_and_nothing_else_does() {
        let tail = Tail::of_hosts(b"cdn.Acme.net", [7, NONE, 9, NONE]).unwrap();
        assert_eq!((tail.length, tail.zones), (13, [7, NONE, 9, NONE]));
        let ends = |text: &str| tail.ends(text.as_bytes().first_chunk().unwrap());
        assert!(!ends("a.long.enough.cdn.acme.n"));
        assert!(ends("ong.enoughx.CDN.aCMe.net"));
        let text = *b"ong.enoughx.cdn.acme.net";
        for (place, change) in
            (11..MAX_TAIL).flat_map(|place| [0x01, 0x20, 0x80].map(|change| (place, change)))
        {
            let mut bytes = text;
            bytes[place] ^= change;
            assert_eq!(tail.ends(&bytes), bytes[place].is_ascii_uppercase(), "{change:#x} at {place}");
        }
    }

    #[test]
    fn a_text_has_at_most_24_bytes() {
        assert!(Tail::of_hosts(&[b'a'; 23], [0; 4]).is_some());
        assert!(Tail::of_hosts(&[b'a'; 24], [0; 4]).is_none());
        assert!(Tail::of_names(&[b'a'; 24], 0).is_some());
        assert!(Tail::of_names(&[b'a'; 25], 0).is_none());
    }

    #[test]
    fn an_empty_tail_leads_nowhere() {
        assert!(Tail::default().zones.iter().all(|zone| *zone == NONE));
    }
}
