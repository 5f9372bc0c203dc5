//! Inputs changed a little: the same on every run, for tests that have no time for a fuzzer.

use redirector_tests::generate::Random;

/// Changes that one mutant has at most.
const CHANGES: usize = 4;
/// Longest mutant.
const LONGEST: usize = 16_384;
/// Bytes that mean something to one parser or another.
const BYTES: &[u8] = b"\0\x01\x3f\x40\x7f\x80\xc0\xff\n\r \t\"/:.,;=@#[]{}%\\0-9";

/// Makes mutants of one input.
#[derive(Debug)]
pub struct Mutants<'s> {
    seed: &'s [u8],
    others: &'s [Vec<u8>],
    words: &'s [Vec<u8>],
    random: Random,
}

impl<'s> Mutants<'s> {
    /// Of `seed`, with pieces of `others` and with `words`. `number` makes the mutants of one seed differ from another's.
    #[must_use]
    pub fn new(seed: &'s [u8], others: &'s [Vec<u8>], words: &'s [Vec<u8>], number: u64) -> Self {
        Self { seed, others, words, random: Random::new(number) }
    }

    /// A part of `bytes`, which may be empty.
    fn part(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.random.below(bytes.len() + 1);
        start..start + self.random.below(bytes.len() - start + 1).min(1 << self.random.below(8))
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let part = self.part(bytes);
        match self.random.below(8) {
            0 => bytes[part].iter_mut().take(1).for_each(|byte| *byte ^= 1 << self.random.below(8)),
            1 => bytes.insert(part.start, BYTES[self.random.below(BYTES.len())]),
            2 => {
                bytes[part].iter_mut().take(1).for_each(|byte| *byte = BYTES[self.random.below(BYTES.len())])
            }
            3 => drop(bytes.drain(part)),
            4 => bytes.truncate(part.end),
            5 => {
                let repeated = bytes[part.clone()].to_vec();
                bytes.splice(part.end..part.end, repeated);
            }
            6 if !self.words.is_empty() => {
                let words = self.words;
                let word = words[self.random.below(words.len())].iter().copied();
                bytes.splice(part, word);
            }
            _ => {
                let others = self.others;
                let other = &others[self.random.below(others.len())];
                let piece = self.part(other);
                bytes.splice(part, other[piece].iter().copied());
            }
        }
    }
}

impl Iterator for Mutants<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.seed.to_vec();
        for _ in 0..1 + self.random.below(CHANGES) {
            self.change(&mut bytes);
        }
        bytes.truncate(LONGEST);
        Some(bytes)
    }
}

/// The words of a dictionary in libFuzzer's form: a line each, in quotes, with escapes `\\`, `\"` and `\xNN`. Lines with
/// `#` are comments.
///
/// # Panics
/// If a line has another form.
#[must_use]
pub fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let lines = dictionary.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let word = |line: &str| {
        let quoted = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        unescaped(quoted.unwrap_or_else(|| panic!("not in quotes: {line}")))
    };
    lines.map(word).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.bytes());
        let (byte, length) = match escaped.as_bytes() {
            [byte @ (b'\\' | b'"'), ..] => (*byte, 1),
            [b'x', ..] => {
                let digits = escaped.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (digits.unwrap_or_else(|| panic!("two digits follow \\x: {text}")), 3)
            }
            _ => panic!("not an escape: {text}"),
        };
        bytes.push(byte);
        rest = &escaped[length..];
    }
    bytes.extend(rest.bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_dictionary_are_unescaped() {
        assert_eq!(words("# c\n\n\"a\\x00\\\"\"\n \"\\\\b\" \n"), [b"a\0\"".to_vec(), b"\\b".to_vec()]);
    }

    #[test]
    fn mutants_are_the_same_on_every_run_and_most_differ_from_their_seed() {
        let others = [b"others".to_vec()];
        let mutants = || Mutants::new(b"seed", &others, &[], 7).take(100).collect::<Vec<_>>();
        assert_eq!(mutants(), mutants());
        assert!(mutants().iter().filter(|mutant| mutant[..] != *b"seed").count() > 80);
    }
}
