//! Bytes as choices.

use arbitrary::Unstructured;

/// Choices that bytes make, one after the other. When they have run out, the first alternative is taken each time.
#[derive(Debug)]
pub(crate) struct Choices<'d>(Unstructured<'d>);

impl<'d> Choices<'d> {
    pub(crate) fn new(data: &'d [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// Less than `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.int_in_range(0..=bound - 1).unwrap_or(0)
    }

    /// One of a list that is not empty.
    pub(crate) fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }

    /// True once in `times`, and not when the bytes have run out.
    pub(crate) fn seldom(&mut self, times: usize) -> bool {
        self.below(times) + 1 == times
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// At most `most` bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1).min(self.0.len());
        self.0.bytes(length).unwrap_or_default().to_vec()
    }

    /// A text of 1 to `most` characters of names.
    pub(crate) fn word(&mut self, most: usize) -> String {
        let length = 1 + self.below(most);
        (0..length).map(|_| char::from(*self.pick(b"abcxyz019-_AZ"))).collect()
    }
}
