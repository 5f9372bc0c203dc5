//! Rate limits of the slow path's datagrams: those of the fast path, for the box instead of each CPU.

use redirector_core::limit::{Limits, Line, STRIDE};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The buckets, shared by all sockets.
pub(super) struct Buckets {
    lines: Mutex<Vec<Line>>,
    begun: Instant,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { lines: Mutex::new(vec![Line::default(); STRIDE as usize]), begun: Instant::now() }
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets").finish_non_exhaustive()
    }
}

impl Buckets {
    /// For one message.
    pub(super) fn of_one(&self) -> OfOne<'_> {
        OfOne { lines: &self.lines, held: None }
    }

    /// Nanoseconds of the clock that the buckets go by.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The buckets as one message sees them: from the first look on nobody else changes them, and until its reply is written
/// nothing is waited for.
pub(super) struct OfOne<'b> {
    lines: &'b Mutex<Vec<Line>>,
    held: Option<MutexGuard<'b, Vec<Line>>>,
}

impl Limits for OfOne<'_> {
    fn line(&mut self, index: u32) -> Option<&mut Line> {
        // A bucket is one number, so none is ever half changed.
        let lock = || self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        self.held.get_or_insert_with(lock).get_mut(index as usize)
    }
    fn random(&mut self) -> u32 {
        // Each state has other keys of SipHash.
        RandomState::new().hash_one(()) as u32
    }
}
