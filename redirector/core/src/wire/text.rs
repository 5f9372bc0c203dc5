//! Host names and paths of URLs, cut at their delimiters and hashed eight bytes at a time.

use super::Message;
use crate::hash::{Keys, fold_case};
use crate::verifier::forget;

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x80 * ONES;

/// Bit 7 of every byte of `word` up to the first that equals `byte` is right; later bits may be set too much.
#[inline(always)]
fn matches(word: u64, byte: u8) -> u64 {
    let x = word ^ (ONES * byte as u64);
    x.wrapping_sub(ONES) & !x & TOPS
}

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Complete pieces.
    pub count: usize,
    /// The text broke a rule: empty piece, too many, too long, or a character that cannot stand there.
    pub bad: bool,
    /// More pieces than asked for.
    pub more: bool,
}

/// What pieces are to be cut and how.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
    /// Pieces wanted at most.
    pub limit: usize,
}

/// Cuts host text into labels, calling `piece(index, start, hash)` for each. Labels are hashed as DNS labels are.
///
/// `ROUNDS` bounds the loop: at most that many words of up to eight bytes, then `bad`.
#[inline(always)]
pub fn host<M: Message, const ROUNDS: usize>(
    message: &M,
    keys: &Keys,
    cut: Cut,
    mut piece: impl FnMut(usize, usize, u64),
) -> Option<Scan> {
    let mut scan = Scan { count: 0, bad: false, more: false };
    let (mut at, mut start, mut hash, mut wrong) = (cut.start, cut.start, keys.seed, 0u64);
    for _ in 0..ROUNDS {
        (at, start) = (forget(at, hash), forget(start, hash));
        scan.count = forget(scan.count, hash);
        if at >= cut.end {
            break;
        }
        let (word, taken) = word_at(message, at, cut.end.wrapping_sub(at))?;
        // `/` is `?` without 0x10.
        wrong |= matches(word | (0x10 * ONES), b'?') | matches(word, b'@');
        let part = until(word, taken, matches(word, b'.'));
        at += part.length;
        let length = at.wrapping_sub(start);
        let ends = part.delimiter || at >= cut.end;
        hash = absorb(keys, hash, fold_case(part.word), &part, length, ends);
        if ends {
            // Labels have 1 to 63 bytes.
            wrong |= length.wrapping_sub(1) as u64 >> 6 | (length as u64 >> 6);
            if scan.count >= cut.limit {
                scan.more = true;
                break;
            }
            piece(scan.count, start, hash);
            scan.count += 1;
            at += 1;
            start = at;
            hash = keys.seed;
        }
    }
    scan.bad = wrong != 0;
    // Not at the end although nothing stopped it: the rounds ran out.
    scan.more |= at < cut.end;
    Some(scan)
}

/// Cuts a path behind its first slash into segments, calling `piece(index, end, hash)` for each. `end` is the place
/// behind the slash that closes it; 0 for the last segment if the path's end or a `?` or `#` closes it.
#[inline(always)]
pub fn path<M: Message, const ROUNDS: usize>(
    message: &M,
    keys: &Keys,
    cut: Cut,
    mut piece: impl FnMut(usize, usize, u64),
) -> Option<Scan> {
    let mut scan = Scan { count: 0, bad: false, more: false };
    let (mut at, mut start, mut hash) = (cut.start, cut.start, keys.seed);
    for _ in 0..ROUNDS {
        (at, start) = (forget(at, hash), forget(start, hash));
        scan.count = forget(scan.count, hash);
        if at >= cut.end || scan.count >= cut.limit {
            break;
        }
        let (word, taken) = word_at(message, at, cut.end.wrapping_sub(at))?;
        let part = until(word, taken, matches(word, b'/') | matches(word, b'?') | matches(word, b'#'));
        at += part.length;
        let ends = part.delimiter || at >= cut.end;
        hash = absorb(keys, hash, part.word, &part, at.wrapping_sub(start), ends);
        if ends {
            let slash = part.next == b'/' as u64;
            piece(scan.count, if slash { at + 1 } else { 0 }, hash);
            scan.count += 1;
            at = if slash { at + 1 } else { cut.end };
            start = at;
            hash = keys.seed;
        }
    }
    scan.more = at < cut.end && scan.count < cut.limit;
    Some(scan)
}

/// Hash of all bytes from `start` to `end`, in at most `ROUNDS` words; `None` if there are more.
#[inline(always)]
pub fn all<M: Message, const ROUNDS: usize>(
    message: &M,
    keys: &Keys,
    start: usize,
    end: usize,
) -> Option<u64> {
    let (mut at, mut hash) = (start, keys.seed);
    for _ in 0..ROUNDS {
        at = forget(at, hash);
        if at >= end {
            break;
        }
        let (word, taken) = word_at(message, at, end.wrapping_sub(at))?;
        at += taken;
        let part = Part { word, length: taken, delimiter: false, next: 0 };
        hash = absorb(keys, hash, word, &part, at.wrapping_sub(start), at >= end);
    }
    if start >= end {
        return Some(keys.last(hash, 0, 0));
    }
    if at < end { None } else { Some(hash) }
}

/// The next up to eight of the `left` bytes from `at` on, first byte lowest and zero behind the last; and how many.
///
/// Fewer than eight are loaded as the last bytes of the eight that end where they end: that is within the message,
/// because no text begins before a message's eighth byte. Computed without branches: each would double the ways that
/// the verifier follows through a loop.
#[inline(always)]
pub(super) fn word_at<M: Message>(message: &M, at: usize, left: usize) -> Option<(u64, usize)> {
    let short = (left.wrapping_sub(8) as u64 >> 63).wrapping_neg();
    let missing = (8u64.wrapping_sub(left as u64) & short & 7) as usize;
    let word = u64::from_le(message.load(at.wrapping_sub(missing))?);
    Some((word >> (8 * missing), 8 - missing))
}

/// Takes the next part of a piece into its hash; `length` is that of the piece so far, and `ends` says that this is
/// all of it.
#[inline(always)]
fn absorb(keys: &Keys, hash: u64, word: u64, part: &Part, length: usize, ends: bool) -> u64 {
    if part.length < 8 {
        return keys.last(hash, word, length);
    }
    let hash = keys.step(hash, word);
    if ends { keys.last(hash, 0, length) } else { hash }
}

/// The bytes before a delimiter.
struct Part {
    word: u64,
    length: usize,
    delimiter: bool,
    /// The delimiter; meaningless without one.
    next: u64,
}

/// The bytes of `word` before the first delimiter, or its first `taken` if there is none. `found` is what [`matches`]
/// found of each delimiter.
#[inline(always)]
fn until(word: u64, taken: usize, found: u64) -> Part {
    let lowest = found & found.wrapping_neg();
    // All ones without a delimiter.
    let before = (lowest >> 7).wrapping_sub(1);
    let bytes = ((before & ONES).wrapping_mul(ONES) >> 56) as usize;
    let none = ((lowest as i64 | lowest.wrapping_neg() as i64) >> 63) as usize;
    let next = word >> (8 * (bytes as u64 & 7)) & 0xff;
    Part { word: word & before, length: bytes - ((8 - taken) & !none), delimiter: lowest != 0, next }
}
