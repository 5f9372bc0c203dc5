//! An end to redirects that go round in circles (P-4): no player limits them.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Redirects at once for one client and URL.
const BURST: u32 = 20;
/// One more is allowed each time this has passed.
const INTERVAL: Duration = Duration::from_millis(500);
/// Buckets of the table.
const BUCKETS: usize = 1 << 14;
/// Entries of a bucket: 65536 in all.
const ENTRIES: usize = 4;

/// A client's redirects for one URL, as a token bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Which client and URL.
    tag: u64,
    /// When the bucket is full again, since the guard was made.
    full_at: Duration,
}

/// Counts redirects by client and URL, in bounded memory. Where a bucket of the table is full, the client that is
/// longest without redirects is forgotten.
#[derive(Debug)]
pub(super) struct LoopGuard {
    // Keyed at random: nobody can choose URLs that share a bucket. No answer but a refusal depends on it.
    hasher: RandomState,
    start: Instant,
    buckets: Box<[Mutex<[Entry; ENTRIES]>]>,
}

impl Default for LoopGuard {
    fn default() -> Self {
        let bucket = || Mutex::new([Entry::default(); ENTRIES]);
        Self {
            hasher: RandomState::new(),
            start: Instant::now(),
            buckets: std::iter::repeat_with(bucket).take(BUCKETS).collect(),
        }
    }
}

impl LoopGuard {
    /// Whether a client may be redirected for a URL once more.
    pub(super) fn allows(&self, client: IpAddr, url: &impl Hash) -> bool {
        self.allows_at(self.start.elapsed(), client, url)
    }

    fn allows_at(&self, now: Duration, client: IpAddr, url: &impl Hash) -> bool {
        let tag = self.hasher.hash_one((client, url));
        let bucket = &self.buckets[tag as usize % BUCKETS];
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = |bucket: &[Entry; ENTRIES]| (0..ENTRIES).min_by_key(|place| bucket[*place].full_at);
        let Some(place) = bucket.iter().position(|entry| entry.tag == tag).or_else(|| oldest(&bucket)) else {
            return true;
        };
        let entry = &mut bucket[place];
        if entry.tag != tag {
            *entry = Entry { tag, full_at: now };
        }
        let full_at = entry.full_at.max(now) + INTERVAL;
        let allowed = full_at - now <= INTERVAL * BURST;
        if allowed {
            entry.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_allowed_and_then_two_a_second() {
        let guard = LoopGuard::default();
        let allowed = |now, tries: u32| (0..tries).filter(|_| guard.allows_at(now, CLIENT, &"url")).count();
        assert_eq!(allowed(SECOND, 100), 20);
        assert_eq!(allowed(2 * SECOND, 100), 2, "refused ones cost nothing");
        assert_eq!(allowed(100 * SECOND, 100), 20, "a full bucket holds no more than the burst");
    }

    #[test]
    fn clients_and_urls_are_counted_apart() {
        let guard = LoopGuard::default();
        while guard.allows_at(SECOND, CLIENT, &"url") {}
        assert!(guard.allows_at(SECOND, CLIENT, &"other"));
        assert!(guard.allows_at(SECOND, Ipv4Addr::new(192, 0, 2, 2).into(), &"url"));
        assert!(!guard.allows_at(SECOND, CLIENT, &"url"));
    }

    #[test]
    fn one_that_goes_in_circles_is_not_forgotten_for_many_that_ask_once() {
        let guard = LoopGuard::default();
        while guard.allows_at(SECOND, CLIENT, &"url") {}
        for other in 0..20 * BUCKETS as u32 {
            assert!(guard.allows_at(SECOND, Ipv4Addr::from(other).into(), &"url"));
        }
        assert!(!guard.allows_at(SECOND, CLIENT, &"url"));
    }
}
