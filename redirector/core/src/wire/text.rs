//! Host names and paths of URLs, cut at their delimiters and hashed eight bytes at a time.

use super::Message;
use crate::hash::{Keys, fold_case};

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
    let (mut at, mut start, mut hash) = (cut.start, cut.start, keys.seed);
    for _ in 0..ROUNDS {
        if at >= cut.end {
            break;
        }
        let (word, mut taken) = word_at(message, at, cut.end)?;
        let wrong = matches(word, b'/') | matches(word, b'?') | matches(word, b'@');
        let (word, length, delimiter) = until(word, taken, b'.');
        if wrong != 0 {
            scan.bad = true;
            break;
        }
        taken = length;
        if taken != 0 {
            hash = keys.step(hash, fold_case(word));
        }
        at += taken;
        if delimiter || at >= cut.end {
            let length = at - start;
            if length == 0 || length > 63 {
                scan.bad = true;
                break;
            }
            if scan.count >= cut.limit {
                scan.more = true;
                break;
            }
            piece(scan.count, start, keys.finish(hash, length));
            scan.count += 1;
            at += 1;
            start = at;
            hash = keys.seed;
        }
    }
    // Not at the end although nothing is wrong: the rounds ran out.
    scan.more |= at < cut.end && !scan.bad;
    Some(scan)
}

/// Cuts a path behind its first slash into segments, calling `piece(index, end, hash)` for each that a slash closes.
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
        if at >= cut.end || scan.count >= cut.limit {
            break;
        }
        let (word, taken) = word_at(message, at, cut.end)?;
        let (word, length, delimiter) = until(word, taken, b'/');
        if length != 0 {
            hash = keys.step(hash, word);
        }
        at += length;
        if delimiter {
            let closed = keys.finish(hash, at - start);
            at += 1;
            piece(scan.count, at, closed);
            scan.count += 1;
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
        if at >= end {
            break;
        }
        let (word, taken) = word_at(message, at, end)?;
        hash = keys.step(hash, word);
        at += taken;
    }
    if at < end { None } else { Some(keys.finish(hash, end.wrapping_sub(start))) }
}

/// Up to eight bytes at `at` (which lies before `end`), zero behind `end`, first byte lowest; and how many.
///
/// Fewer than eight are loaded as the last bytes of the eight that end at `end`: they lie within the message, because
/// a message's text never begins before its eighth byte.
#[inline(always)]
fn word_at<M: Message>(message: &M, at: usize, end: usize) -> Option<(u64, usize)> {
    let left = end.wrapping_sub(at);
    if left >= 8 {
        return Some((u64::from_le(message.load(at)?), 8));
    }
    let word = u64::from_le(message.load(end.wrapping_sub(8))?);
    Some((word >> ((64 - 8 * (left as u32 & 7)) & 63), left))
}

/// The bytes of `word` before the first `delimiter` among its first `taken`, how many, and whether there is one.
#[inline(always)]
fn until(word: u64, taken: usize, delimiter: u8) -> (u64, usize, bool) {
    let found = matches(word, delimiter);
    let lowest = found & found.wrapping_neg();
    if lowest == 0 {
        return (word, taken, false);
    }
    let before = (lowest >> 7).wrapping_sub(1);
    let length = ((before & ONES).wrapping_mul(ONES) >> 56) as usize;
    (word & before, length, true)
}
