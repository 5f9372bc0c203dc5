//! Rate limits by client prefix, of bounded memory and without locks (A-5, invariants 3 and 6).
//!
//! A bucket is one number: the time at which everything that was let through would have been asked for at the highest
//! rate (the virtual scheduling form of GCRA, ITU-T I.371). Buckets are found by a keyed hash of the client's prefix
//! and lie eight to a cache line. Prefixes that share a bucket share its rate; so each has two in its line, of which
//! the emptier one counts, and others after [`EPOCH_BITS`] of time. Nothing is ever searched, moved or cleared.

use crate::decide::Client;
use crate::hash::Keys;
use crate::table::Meta;

/// Cache lines of buckets that a CPU has: 2 MiB.
pub const LINES: u32 = 1 << 15;
/// Cache lines from one CPU's first to the next one's: the last holds what all prefixes share.
pub const STRIDE: u32 = LINES + 1;
/// Nanoseconds, as a power of two, after which prefixes get other buckets: 69 seconds. Who meets a flood's prefix in a
/// bucket meets it no longer than that.
pub const EPOCH_BITS: u32 = 36;

/// Eight buckets.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// Nanoseconds of the clock; not later than now: empty.
    pub buckets: [u64; 8],
}

/// What is limited, each by a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// DNS answers with records that were asked for.
    Answers = 0,
    /// Other DNS answers: a name or type that does not exist, and errors.
    Errors = 1,
    /// CDSR replies.
    Cdsr = 2,
    /// What the fast path leaves to the slow path.
    Punts = 3,
}

/// A rate in the form that packets are compared with.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Nanoseconds from one to the next at the highest rate; 0: no limit.
    pub interval: u32,
    /// Nanoseconds that a bucket may be ahead of the clock.
    pub tolerance: u32,
}

impl Rate {
    /// So many a second, and what `burst` nanoseconds of that make at once. 0 a second is no limit.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        if per_second == 0 {
            return Self { interval: 0, tolerance: 0 };
        }
        let interval = match 1_000_000_000 / per_second {
            0 => 1,
            some => some,
        };
        Self { interval, tolerance: burst.saturating_sub(interval) }
    }
}

/// The limits of a box; all zero: none.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// For each client prefix and CPU, by [`Class`].
    pub of: [Rate; 4],
    /// For all punts of a CPU together.
    pub all_punts: Rate,
    /// One in so many that are over a limit is told so instead of being dropped; 0: none.
    pub slip: u32,
    /// Filler.
    pub reserved: u32,
}

/// Where buckets lie.
pub trait Limits {
    /// Whether there are any at all.
    const ACTIVE: bool = true;
    /// A line of those that this CPU, or this table in userspace, has; `index` is below [`STRIDE`]. `None`: no limits.
    fn line(&mut self, index: u32) -> Option<&mut Line>;
    /// A number that no client can foresee.
    fn random(&mut self) -> u32;
}

/// No limits: connections, whose clients have shown their address, and explanations.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

impl Limits for Unlimited {
    const ACTIVE: bool = false;
    #[inline(always)]
    fn line(&mut self, _index: u32) -> Option<&mut Line> {
        None
    }
    #[inline(always)]
    fn random(&mut self) -> u32 {
        0
    }
}

/// When a message came, and where its client's buckets are.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Nanoseconds of the clock that the buckets go by.
    pub(crate) now: u64,
    /// Hash of prefix and epoch: line in the uppermost bits, choice of buckets in the lowest ones.
    place: u64,
}

impl Work {
    /// For a message that came at `now`, in nanoseconds of the clock that the buckets go by.
    pub fn at(now: u64) -> Self {
        Self { now, place: 0 }
    }

    /// Finds the client's buckets: those of its /24 or /56.
    ///
    /// The epoch enters between two multiplications: added before the first or behind the second, it would move
    /// prefixes that share a bucket together.
    #[inline(always)]
    pub fn begin<L: Limits>(&mut self, client: &Client, keys: &Keys) {
        if !L::ACTIVE {
            return;
        }
        let prefix = if client.v6 != 0 { client.high >> 8 | 1 << 56 } else { client.low >> 8 };
        let h = (prefix ^ keys.seed_fp).wrapping_mul(keys.mul_a);
        let epoch = (self.now >> EPOCH_BITS).wrapping_mul(keys.mul_b);
        let h = (h ^ h >> 32 ^ epoch).wrapping_mul(keys.mul_b);
        self.place = h ^ h >> 32;
    }

    /// Takes one of a class from the client's budget; false if that is used up.
    #[inline(always)]
    pub fn admits<L: Limits>(&self, limits: &mut L, meta: &Meta, class: Class) -> bool {
        let rate = meta.limits.of[class as usize & 3];
        if !L::ACTIVE || rate.interval == 0 {
            return true;
        }
        let Some(line) = limits.line((self.place >> (64 - LINES.trailing_zeros())) as u32) else {
            return true;
        };
        let (first, second) = pair(self.place, class);
        take(line, first, second, rate, self.now)
    }

    /// Takes one punt from the CPU's budget; false if that is used up.
    #[inline(always)]
    pub fn admits_punt_of_all<L: Limits>(&self, limits: &mut L, meta: &Meta) -> bool {
        let rate = meta.limits.all_punts;
        if !L::ACTIVE || rate.interval == 0 {
            return true;
        }
        limits.line(LINES).is_none_or(|line| take(line, 0, 0, rate, self.now))
    }
}

/// The two buckets of a class within a line. Those of one prefix's classes are eight different ones, and another prefix
/// has the same two by a chance of one in 28, which is all pairs there are.
#[inline(always)]
fn pair(place: u64, class: Class) -> (usize, usize) {
    // Numbers that differ by `x` are pairs. The lower of each has the highest bit of `x` not set; so a number of two
    // bits tells them, with a zero put into that place.
    let x = 1 + (((place & 255) * 7) >> 8);
    let below = x >> 1 | x >> 2;
    let number = (place >> 8 ^ class as u64) & 3;
    let lower = number + (number & !below);
    (lower as usize, (lower ^ x) as usize)
}

/// Whether one that is over a limit is told so. By chance, so that nobody can choose whom the others are.
#[inline(always)]
pub fn slips<L: Limits>(limits: &mut L, meta: &Meta) -> bool {
    is_told(limits, meta, 1)
}

/// Whether one is told, of whom all are with `some` 0, and one in `slip` with `some` 1; none without `slip`.
#[inline(always)]
pub(crate) fn is_told<L: Limits>(limits: &mut L, meta: &Meta, some: u64) -> bool {
    let slip = meta.limits.slip as u64;
    // One comparison for both: without `slip` the right side is all ones.
    ((limits.random() as u64 * some * slip) | slip.wrapping_sub(1)) >> 32 == 0
}

/// Takes one from the emptier of two buckets. The fuller one is raised only as far as the emptier one comes.
#[inline(always)]
fn take(line: &mut Line, first: usize, second: usize, rate: Rate, now: u64) -> bool {
    let (first, second) = (first & 7, second & 7);
    let (a, b) = (line.buckets[first], line.buckets[second]);
    let emptier = if a < b { a } else { b };
    let start = if emptier < now { now } else { emptier };
    if start - now > rate.tolerance as u64 {
        return false;
    }
    let next = start + rate.interval as u64;
    if a < next {
        line.buckets[first] = next;
    }
    if b < next {
        line.buckets[second] = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn pairs_of_one_prefix_are_disjoint_and_all_pairs_are_used_alike() {
        let mut used = BTreeMap::new();
        for place in 0..1024 {
            let mut buckets = 0u32;
            for class in [Class::Answers, Class::Errors, Class::Cdsr, Class::Punts] {
                let (first, second) = pair(place, class);
                buckets |= 1 << first | 1 << second;
                *used.entry((first.min(second), first.max(second))).or_insert(0u32) += 1;
            }
            assert_eq!(buckets, 255, "place {place}");
        }
        assert_eq!(used.len(), 28);
        // 4096 over 28: 146; the seven parts of 256 are not quite equal.
        assert!(used.values().all(|count| (140..=150).contains(count)), "{used:?}");
    }
}
