//! Keyed 64-bit hashing of labels, URL segments and addresses.
//!
//! Built from multiply and shift only, because that is what a BPF program can do. The keys are the fleet's secret
//! (invariant 8): without them nobody can aim names at a table slot or clients at a server.

/// Hash keys as the tables carry them; `mul` values are odd.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Start value.
    pub seed: u64,
    /// First multiplier.
    pub mul_a: u64,
    /// Second multiplier.
    pub mul_b: u64,
    /// Start value of the fingerprint lane.
    pub seed_fp: u64,
}

impl Keys {
    /// Expands the fleet's 16-byte secret.
    pub fn new(secret: [u8; 16]) -> Self {
        let [a, b] = [0usize, 8].map(|at| {
            let mut half = [0u8; 8];
            half.copy_from_slice(&secret[at..at + 8]);
            u64::from_le_bytes(half)
        });
        let mut state = a ^ b.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15;
        let mut next = |salt: u64| {
            state = splitmix(state ^ salt);
            state
        };
        Self { seed: next(a), mul_a: next(b) | 1, mul_b: next(a) | 1, seed_fp: next(b) }
    }

    /// Absorbs one word. The upper bits of the result are mixed best.
    #[inline(always)]
    pub fn step(&self, hash: u64, word: u64) -> u64 {
        let h = (hash ^ word).wrapping_mul(self.mul_a);
        (h ^ h >> 32).wrapping_mul(self.mul_b)
    }

    /// Absorbs the last word of a label or segment of `len` bytes: the 0 to 7 bytes behind its last whole word. Its
    /// eighth byte takes the length, so that zero bytes at the end count and most labels are one step.
    #[inline(always)]
    pub fn last(&self, hash: u64, rest: u64, len: usize) -> u64 {
        self.step(hash, rest | (len as u64) << 56)
    }

    /// Hash of a whole label or path segment, for those who build tables. `fold` maps A–Z to a–z first.
    pub fn text(&self, text: &[u8], fold: bool) -> u64 {
        let fold = |word| if fold { fold_case(word) } else { word };
        let (words, rest) = text.as_chunks::<8>();
        let hash =
            words.iter().fold(self.seed, |hash, word| self.step(hash, fold(u64::from_le_bytes(*word))));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.last(hash, fold(u64::from_le_bytes(last)), text.len())
    }

    /// Digest of an address (network order), to find VIPs and to compare exclusions with targets.
    #[inline(always)]
    pub fn address(&self, address: [u64; 2]) -> u64 {
        // Neighbours differ in the last byte, the top of the second word, which one step alone spreads poorly: so that
        // word goes first. Both halves of the result choose buckets, so the lower one is mixed once more.
        let h = self.step(self.step(self.seed_fp, address[1]), address[0]);
        h ^ h >> 29
    }
}

/// A name's place in a table: `find` chooses the bucket, `fingerprint` tells whether the entry is the one meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Bucket choice: low half first bucket, high half second.
    pub find: u64,
    /// What an entry must equal. Never 0, which marks an empty entry.
    pub fingerprint: u64,
}

impl Slot {
    /// The start of a chain of label hashes within `space` (what kind of key) and `owner` (CDN, zone or rule).
    #[inline(always)]
    pub fn start(keys: &Keys, space: u32, owner: u32) -> Self {
        let word = (space as u64) << 32 | owner as u64;
        Self { find: keys.step(keys.seed, word), fingerprint: keys.step(keys.seed_fp, word) }
    }

    /// Appends one label's hash. One multiplication a lane is enough, because hashes of labels are mixed already.
    #[inline(always)]
    pub fn push(self, keys: &Keys, label: u64) -> Self {
        let lane = |hash: u64, mul: u64| {
            let h = hash.wrapping_add(label).wrapping_mul(mul);
            h ^ h >> 32
        };
        Self { find: lane(self.find, keys.mul_a), fingerprint: lane(self.fingerprint, keys.mul_b) | 1 }
    }

    /// The two buckets that may hold the entry in a table of `mask + 1` buckets.
    #[inline(always)]
    pub fn buckets(self, mask: u32) -> [u32; 2] {
        [self.find as u32 & mask, (self.find >> 32) as u32 & mask]
    }
}

/// Maps the ASCII letters A–Z of eight bytes to a–z and leaves every other byte alone (RFC 4343).
#[inline(always)]
pub fn fold_case(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * ONES);
    let above_z = low + (0x7f - b'Z' as u64) * ONES;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let upper = (from_a ^ above_z) & !word & (0x80 * ONES);
    word | upper >> 2
}

/// One round of splitmix64: a fixed mixer for values that need no key.
#[inline(always)]
pub fn splitmix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fold_case_changes_exactly_ascii_capitals() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut bytes = [b'@'; 8];
                bytes[place] = byte;
                let mut want = bytes;
                want[place] = byte.to_ascii_lowercase();
                assert_eq!(
                    fold_case(u64::from_le_bytes(bytes)),
                    u64::from_le_bytes(want),
                    "byte {byte} at {place}"
                );
            }
        }
    }

    #[test]
    fn text_hash_tells_length_case_and_key() {
        let keys = Keys::new(*b"0123456789abcdef");
        let other = Keys::new(*b"0123456789abcdeg");
        assert_eq!(keys.text(b"WeB", true), keys.text(b"web", true));
        assert_ne!(keys.text(b"WeB", false), keys.text(b"web", false));
        assert_ne!(keys.text(b"web", true), keys.text(b"web\0", true));
        assert_ne!(keys.text(b"web", true), other.text(b"web", true));
    }

    /// The VIP table takes its two buckets from the halves of the digest: if these moved together for neighbouring
    /// addresses, the second bucket would be no choice.
    #[test]
    fn halves_of_neighbours_digests_are_independent() {
        for secret in 0..100 {
            let keys = Keys::new([secret; 16]);
            for upper in [0, u64::from_ne_bytes([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1])] {
                let mut differences = [false; 256];
                for last in 0..=255u8 {
                    let lower = u64::from_ne_bytes([0, 0, 0xff, 0xff, 198, 51, 100, last]);
                    let digest = keys.address([upper, lower]);
                    differences[((digest ^ digest >> 32) & 255) as usize] = true;
                }
                let count = differences.iter().filter(|seen| **seen).count();
                // 162 are expected of independent halves.
                assert!(count > 120, "{count} differences under key {secret}");
            }
        }
    }

    /// Flipping the top bit of one word and compensating in the next must not cancel out.
    #[test]
    fn known_difference_does_not_collide() {
        let keys = Keys::new([7; 16]);
        let top = 1u64 << 63;
        let base = keys.step(keys.step(keys.seed, 1), 2);
        for bits in [top, top | 1 << 31, top | 1 << 34, 1 << 31] {
            assert_ne!(keys.step(keys.step(keys.seed, 1 ^ top), 2 ^ bits), base);
        }
    }
}
