//! The query's header and question.

use super::{HEADER, Head, NO_EDNS, NOERROR, NOTIMP, OPCODE, QR, Refusal, edns};
use crate::hash::{Keys, fold_case};
use crate::lookup::{FAST_LABELS, Labels, MAX_LABELS};
use crate::table::NONE;
use crate::tail::{MAX_TAIL, Tail};
use crate::verdict::Reason;
use crate::verifier::{equal, forget, phase};
use crate::wire::{Message, text, word_of};

/// Words that the fast path searches for a name's end.
const MAX_NAME_WORDS: usize = 16;

#[inline(always)]
pub(super) fn head<M: Message, const FULL: bool>(
    message: &M,
    keys: &Keys,
    tail: &Tail,
    labels: &mut Labels,
    head: &mut Head,
    options: &mut edns::Options,
) -> Result<(), Refusal> {
    let silent =
        Refusal { reason: Reason::NotARequest, punt: Reason::PuntDnsForm, rcode: NOERROR, question: false };
    let Some(first) = message.block::<HEADER>(0) else { return Err(silent) };
    let (Some(id_flags), Some(counts), Some(more_counts)) = (
        word_of::<u32, HEADER>(first, 0),
        word_of::<u32, HEADER>(first, 4),
        word_of::<u32, HEADER>(first, 8),
    ) else {
        return Err(silent);
    };
    *head = Head {
        id_flags,
        counts,
        more_counts,
        end: HEADER,
        edns: NO_EDNS,
        zone: NONE,
        suffix: NONE as usize,
        ..Head::default()
    };
    if head.flags() & QR != 0 {
        return Err(silent);
    }
    if head.flags() & OPCODE != 0 {
        return Err(Refusal {
            reason: Reason::DnsNotImp,
            punt: Reason::PuntDnsForm,
            rcode: NOTIMP,
            question: false,
        });
    }
    let sections = u32::from_be(more_counts);
    if FULL && counts == 0 && sections >> 16 == 0 {
        edns::read::<M, FULL>(message, head, options, sections as usize)?;
        return if options.asks_for_cookie() { Ok(()) } else { Err(Refusal::FORM) };
    }
    if u32::from_be(counts) != 1 << 16 || sections >> 16 != 0 {
        return Err(Refusal::FORM);
    }
    if !FULL {
        // Of the number itself the verifier must not learn what it is: it would follow two ways to the end.
        find_tail(message, tail, forget(sections as usize, keys.seed) == 0, head);
        phase();
    }
    (head.labels, head.end) = match read_name::<M, FULL>(message, keys, head.suffix, labels) {
        Ok(name) => name,
        Err(reason) => return Err(Refusal { punt: reason, ..Refusal::FORM }),
    };
    phase();
    if !FULL && head.end == head.suffix + 1 {
        (head.end, head.zone) = (head.suffix + tail.length as usize, tail.zones[0]);
    }
    phase();
    let Some(question) = message.load::<u32>(head.end) else { return Err(Refusal::FORM) };
    head.end = head.end.wrapping_add(4);
    let question = u32::from_be(question);
    (head.qtype, head.qclass) = ((question >> 16) as u16, question as u16);
    edns::read::<M, FULL>(message, head, options, sections as usize & 0xffff)
}

/// Notes where the suffix begins, if what seems to be the name ends in `tail`: reading the name tells whether it does.
/// Without other sections, the question ends the message.
#[inline(always)]
fn find_tail<M: Message>(message: &M, tail: &Tail, alone: bool, head: &mut Head) {
    head.end = if alone { message.len() - 4 } else { behind_zero(message, tail.length as usize) };
    phase();
    let end = head.end;
    if (MAX_TAIL..=HEADER + 255).contains(&end)
        && let Some(bytes) = message.block::<MAX_TAIL>(end - MAX_TAIL)
        && tail.ends(bytes)
        && tail.zones[0] != NONE
    {
        head.suffix = end.wrapping_sub(tail.length as usize);
    }
}

/// Behind the first zero of the message, as far as it can be the root label behind so many bytes of a name; 0 without one.
#[inline(always)]
fn behind_zero<M: Message>(message: &M, behind: usize) -> usize {
    let mut at = forget(HEADER.wrapping_add(behind).wrapping_sub(1), behind as u64);
    // Places are eight apart whatever the words hold: the CPU need not wait for one to load the next.
    for _ in 0..MAX_NAME_WORDS {
        let Some(word) = message.load(at).map(u64::from_le) else { return 0 };
        let stop = text::first_zero(word);
        if stop != 0 {
            return at.wrapping_add(text::bytes_before(stop)).wrapping_add(1);
        }
        at = forget(at.wrapping_add(8), word);
    }
    0
}

/// Hashes the question's labels up to the root label, or to the place `suffix`; gives their number, and the place behind
/// that length octet.
///
/// One loop over words instead of a loop of loops: the kernel's verifier follows every path through it.
#[inline(always)]
fn read_name<M: Message, const FULL: bool>(
    message: &M,
    keys: &Keys,
    suffix: usize,
    labels: &mut Labels,
) -> Result<(usize, usize), Reason> {
    let limit = if FULL { MAX_LABELS - 1 } else { FAST_LABELS };
    let rounds = if FULL { 256 } else { 48 };
    let mut length = message.load::<u8>(HEADER).ok_or(Reason::PuntDnsForm)? as usize;
    if length == 0 {
        return Ok((0, HEADER + 1));
    }
    // Of what is unknown before the first round the verifier takes every later one for a part.
    let (mut at, mut left, mut count) = (forget(HEADER + 1, keys.seed), length, forget(0, keys.seed));
    let mut hash = keys.seed;
    labels.offsets[0] = HEADER as u16;
    for _ in 0..rounds {
        if length > 63 || at + left > HEADER + 254 {
            return Err(Reason::PuntDnsForm);
        }
        // What stands behind the message's end does not matter: if it seems to be a root label, there is no question
        // behind that.
        let word = match message.load(at) {
            Some(word) => u64::from_le(word),
            None => text::word_at(message, at, message.len().wrapping_sub(at)).ok_or(Reason::PuntDnsForm)?.0,
        };
        if left >= 8 {
            hash = keys.step(hash, fold_case(word));
            (at, left) = (at + 8, forget(left - 8, hash));
            continue;
        }
        let bits = 8 * left as u64;
        let rest = word & !(u64::MAX << bits);
        labels.hashes[count & (MAX_LABELS - 1)] = keys.last(hash, fold_case(rest), length);
        (at, count) = (at + left + 1, forget(count + 1, word));
        // What follows a label is the next one's length. The suffix counts as the end: the verifier wants one way out.
        length = (word >> bits) as usize & 0xff;
        if !FULL {
            length &= !equal((at - 1) as u64, suffix as u64) as usize;
        }
        if length == 0 {
            return Ok((count, at));
        }
        if count >= limit {
            return Err(Reason::PuntLabels);
        }
        labels.offsets[count & (MAX_LABELS - 1)] = (at - 1) as u16;
        (left, hash) = (length, keys.seed);
    }
    Err(Reason::PuntLabels)
}
