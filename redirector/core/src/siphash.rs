//! SipHash-2-4 (Aumasson, Bernstein: SipHash, a fast short-input PRF, 2012), for what others must be able to compute,
//! too: the cookies of RFC 9018.

/// A hash at work.
#[derive(Debug, Clone, Copy)]
pub struct SipHash {
    v: [u64; 4],
}

impl SipHash {
    /// Starts with a key: its two halves as little-endian numbers.
    #[inline(always)]
    pub fn new(key: [u64; 2]) -> Self {
        let v = [
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ];
        Self { v }
    }

    #[inline(always)]
    fn round(self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        d = d.rotate_left(21) ^ a;
        b = b.rotate_left(17) ^ c;
        Self { v: [a, b, c.rotate_left(32), d] }
    }

    /// Takes eight bytes in: a little-endian number.
    #[inline(always)]
    #[must_use]
    pub fn word(mut self, word: u64) -> Self {
        self.v[3] ^= word;
        self = self.round().round();
        self.v[0] ^= word;
        self
    }

    /// Ends with the 0 to 7 bytes `rest` (little-endian) of a text of `len` bytes. The hash's bytes are little-endian.
    #[inline(always)]
    #[must_use]
    pub fn finish(self, rest: u64, len: usize) -> u64 {
        let mut last = self.word(rest | (len as u64) << 56);
        last.v[2] ^= 0xff;
        let [a, b, c, d] = last.round().round().round().round().v;
        a ^ b ^ c ^ d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the paper's appendix A.
    #[test]
    fn hash_of_fifteen_bytes_is_that_of_the_papers_example() {
        let word = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
        let key = [word([0, 1, 2, 3, 4, 5, 6, 7]), word([8, 9, 10, 11, 12, 13, 14, 15])];
        let hash = SipHash::new(key).word(key[0]).finish(word([8, 9, 10, 11, 12, 13, 14, 0]), 15);
        assert_eq!(hash, 0xa129_ca61_49be_45e5);
    }
}
