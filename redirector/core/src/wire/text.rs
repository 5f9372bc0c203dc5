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

/// Bit 7 of the first byte that is zero; 0 if none is.
#[inline(always)]
pub(super) fn first_zero(word: u64) -> u64 {
    let found = matches(word, 0);
    found & found.wrapping_neg()
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
/// `ROUNDS` bounds the loop: at most that many words of up to eight bytes, then `more`.
#[inline(always)]
pub fn host<M: Message, const ROUNDS: usize>(
    message: &M,
    keys: &Keys,
    cut: Cut,
    mut piece: impl FnMut(usize, usize, u64),
) -> Option<Scan> {
    if cut.start >= cut.end {
        return Some(Scan { count: 0, bad: false, more: false });
    }
    let mut scan = Scan { count: 0, bad: false, more: true };
    // `done`: bytes of the label in the words before.
    let (mut at, mut done, mut hash, mut wrong) = (cut.start, 0, keys.seed, 0u64);
    for _ in 0..ROUNDS {
        (at, scan.count) = (forget(at, hash), forget(scan.count, hash));
        let left = cut.end.wrapping_sub(at);
        let word = word_from(message, at, left)?;
        let stop = first_stop(matches(word, b'.'), left);
        let text = word & before(stop);
        // `/` is `?` without 0x10.
        wrong |= matches(text | (0x10 * ONES), b'?') | matches(text, b'@');
        if stop == 0 {
            hash = keys.step(hash, fold_case(text));
            (at, done) = (at + 8, forget(done + 8, hash));
            continue;
        }
        if scan.count >= cut.limit {
            break;
        }
        let rest = bytes_before(stop);
        let length = done + rest;
        // Labels have 1 to 63 bytes.
        wrong |= length.wrapping_sub(1) as u64 >> 6 | (length as u64 >> 6);
        piece(scan.count, at.wrapping_sub(done), keys.last(hash, fold_case(text), length));
        scan.count += 1;
        at += rest + 1;
        if at >= cut.end {
            scan.more = false;
            break;
        }
        (done, hash) = (0, keys.seed);
    }
    scan.bad = wrong != 0;
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
    let mut scan = Scan { count: 0, bad: false, more: true };
    let (mut at, mut start) = (cut.start, cut.start);
    let mut hash = keys.seed;
    for _ in 0..ROUNDS {
        (at, start) = (forget(at, hash), forget(start, hash));
        scan.count = forget(scan.count, hash);
        if (at >= cut.end && at == start) || scan.count >= cut.limit {
            scan.more = false;
            break;
        }
        let left = cut.end.wrapping_sub(at);
        let word = word_from(message, at, left)?;
        // `/` is `?` without 0x10.
        let stop = first_stop(matches(word | (0x10 * ONES), b'?') | matches(word, b'#'), left);
        let text = word & before(stop);
        if stop == 0 {
            hash = keys.step(hash, text);
            at += 8;
            continue;
        }
        let length = bytes_before(stop);
        at += length;
        let slash = at < cut.end && word >> (8 * (length as u64 & 7)) & 0xff == b'/' as u64;
        piece(scan.count, if slash { at + 1 } else { 0 }, keys.last(hash, text, at.wrapping_sub(start)));
        scan.count += 1;
        at = if slash { at + 1 } else { cut.end };
        (start, hash) = (at, keys.seed);
    }
    Some(scan)
}

/// Hash of all bytes from `start` to `end`, in at most `ROUNDS` words; `None` if there are more. `FOLD` maps A–Z to a–z
/// first.
#[inline(always)]
pub fn all<M: Message, const ROUNDS: usize, const FOLD: bool>(
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
        let word = if FOLD { fold_case(word) } else { word };
        at += taken;
        if taken == 8 {
            hash = keys.step(hash, word);
        }
        if at >= end {
            let rest = if taken < 8 { word } else { 0 };
            hash = keys.last(hash, rest, at.wrapping_sub(start));
        }
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

/// Eight bytes from `at` on, first byte lowest, of which `left` belong to the text: what the others are does not matter.
#[inline(always)]
fn word_from<M: Message>(message: &M, at: usize, left: usize) -> Option<u64> {
    match message.load(at) {
        Some(word) => Some(u64::from_le(word)),
        None if left == 0 => Some(0),
        None => word_at(message, at, left).map(|(word, _)| word),
    }
}

/// Bit 7 of the byte that ends a part: the first delimiter of `found` ([`matches`]), or the byte behind the `left` ones of
/// the text. 0 if all eight bytes belong to the part.
#[inline(always)]
fn first_stop(found: u64, left: usize) -> u64 {
    // How many are left nobody can guess: no branch.
    let is_last = (left.wrapping_sub(8) as i64 >> 63) as u64;
    let end = 0x80 << (8 * (left as u64 & 7)) & is_last;
    let stops = found | end;
    stops & stops.wrapping_neg()
}

/// All bits of the bytes before a stop; all ones without one.
#[inline(always)]
fn before(stop: u64) -> u64 {
    (stop >> 7).wrapping_sub(1)
}

/// Number of bytes before a stop.
#[inline(always)]
pub(super) fn bytes_before(stop: u64) -> usize {
    ((before(stop) & ONES).wrapping_mul(ONES) >> 56) as usize
}
