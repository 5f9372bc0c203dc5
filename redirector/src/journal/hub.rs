//! Who gets to hear of decisions: subscribers, each with a bounded queue of its own.

use super::decision::{Decision, PathTaken};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use tokio::sync::mpsc;

/// How many decisions a subscriber wants to hear of: one in so many, picked at random; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Wanted {
    /// Of the fast path. A change reaches the fast path with the next generation.
    pub fast: u32,
    /// Of the slow path.
    pub slow: u32,
}

/// A decision as a subscriber gets it.
#[derive(Debug, Clone)]
pub struct Told {
    /// What was decided.
    pub decision: Arc<Decision>,
    /// It stands for so many, on average.
    pub one_in: u32,
}

/// What a subscriber did not get for want of room in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its name.
    pub subscriber: &'static str,
    /// Decisions, each counted once whatever it stands for.
    pub decisions: u64,
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    name: &'static str,
    wanted: Wanted,
    queue: mpsc::Sender<Told>,
    lost: Arc<AtomicU64>,
}

impl Subscriber {
    fn wants(&self, path: PathTaken) -> u32 {
        match path {
            PathTaken::Fast => self.wanted.fast,
            PathTaken::Slow => self.wanted.slow,
        }
    }
}

/// Hands decisions on to those who want to hear of them.
#[derive(Debug, Default)]
pub struct Hub {
    subscribers: RwLock<Vec<Subscriber>>,
    /// The most that any of them wants: see [`Wanted`].
    fast: AtomicU32,
    slow: AtomicU32,
    numbers: AtomicU64,
}

impl Hub {
    /// Subscribes; at most `room` decisions wait to be taken, and what comes beyond is lost and counted.
    pub fn subscribe(self: &Arc<Self>, name: &'static str, wanted: Wanted, room: usize) -> Subscription {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (queue, receiver) = mpsc::channel(room.max(1));
        let lost = Arc::<AtomicU64>::default();
        let mut subscribers = self.write();
        subscribers.push(Subscriber { number, name, wanted, queue, lost: Arc::clone(&lost) });
        self.note_rates(&subscribers);
        Subscription { hub: Arc::downgrade(self), number, receiver, lost }
    }

    /// One in so many decisions of the fast path is to be told; 0: none.
    pub fn fast(&self) -> u32 {
        self.fast.load(Ordering::Relaxed)
    }

    /// Whether the decision at hand of the slow path is to be told, and how many it stands for then.
    pub fn takes_slow(&self) -> Option<u32> {
        let one_in = self.slow.load(Ordering::Relaxed);
        (one_in == 1 || one_in > 1 && rand::random_range(0..one_in) == 0).then_some(one_in)
    }

    /// Tells everybody who wants to hear of it. Never waits.
    pub fn tell(&self, decision: Decision) {
        let decision = Arc::new(decision);
        for subscriber in self.read().iter() {
            let (wanted, one_in) = (subscriber.wants(decision.path), decision.one_in.max(1));
            // More are told than this one wants, for another's sake: it gets its part of them.
            let thinned = wanted > one_in && rand::random_range(0..wanted) >= one_in;
            if wanted == 0 || thinned {
                continue;
            }
            let told = Told { decision: Arc::clone(&decision), one_in: wanted.max(one_in) };
            if subscriber.queue.try_send(told).is_err() {
                subscriber.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What each present subscriber has lost.
    pub fn lost(&self) -> Vec<Lost> {
        let lost =
            |one: &Subscriber| Lost { subscriber: one.name, decisions: one.lost.load(Ordering::Relaxed) };
        self.read().iter().map(lost).collect()
    }

    fn note_rates(&self, subscribers: &[Subscriber]) {
        let most = |path| subscribers.iter().map(|one| one.wants(path)).filter(|one_in| *one_in > 0).min();
        self.fast.store(most(PathTaken::Fast).unwrap_or(0), Ordering::Relaxed);
        self.slow.store(most(PathTaken::Slow).unwrap_or(0), Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Subscriber>> {
        // The list is whole after any panic.
        self.subscribers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Subscriber>> {
        self.subscribers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscriber's end; dropped, it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    hub: Weak<Hub>,
    number: u64,
    receiver: mpsc::Receiver<Told>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// The next decision; `None` when the hub is gone.
    pub async fn next(&mut self) -> Option<Told> {
        self.receiver.recv().await
    }

    /// The next decision if there is one by now.
    pub fn try_next(&mut self) -> Option<Told> {
        self.receiver.try_recv().ok()
    }

    /// Decisions that found no room so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            let mut subscribers = hub.write();
            subscribers.retain(|one| one.number != self.number);
            hub.note_rates(&subscribers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::{Asked, Chosen, Spoken};
    use super::*;
    use redirector_core::verdict::Reason;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    fn decision(path: PathTaken, one_in: u32) -> Decision {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Decision {
            time: 0,
            generation: 1,
            epoch: 0,
            one_in,
            path,
            spoken: Spoken::Dns,
            reason: Reason::FirstTier,
            client: SocketAddr::new(address, 1),
            vip: address,
            asked: Asked::Nothing,
            chosen: Chosen::default(),
        }
    }

    #[test]
    fn the_most_that_anybody_wants_is_what_is_told() {
        let hub = Arc::new(Hub::default());
        assert_eq!((hub.fast(), hub.takes_slow()), (0, None));
        let first = hub.subscribe("first", Wanted { fast: 1000, slow: 0 }, 1);
        let second = hub.subscribe("second", Wanted { fast: 100, slow: 1 }, 1);
        assert_eq!((hub.fast(), hub.takes_slow()), (100, Some(1)));
        drop(second);
        assert_eq!((hub.fast(), hub.takes_slow()), (1000, None));
        drop(first);
        assert_eq!(hub.fast(), 0);
    }

    #[test]
    fn a_full_queue_loses_what_comes_and_counts_it_and_others_lose_nothing() {
        let hub = Arc::new(Hub::default());
        let all = Wanted { fast: 1, slow: 1 };
        let (mut small, mut large) = (hub.subscribe("small", all, 2), hub.subscribe("large", all, 10));
        (0..5).for_each(|_| hub.tell(decision(PathTaken::Slow, 1)));
        assert_eq!((small.lost(), large.lost()), (3, 0));
        let lost = Lost { subscriber: "small", decisions: 3 };
        assert!(hub.lost().contains(&lost), "{:?}", hub.lost());
        let taken = |one: &mut Subscription| std::iter::from_fn(|| one.try_next()).count();
        assert_eq!((taken(&mut small), taken(&mut large)), (2, 5));
    }

    #[test]
    fn who_wants_less_than_is_told_gets_its_part_with_its_weight() {
        let hub = Arc::new(Hub::default());
        let mut some = hub.subscribe("some", Wanted { fast: 50, slow: 0 }, 100_000);
        let mut all = hub.subscribe("all", Wanted { fast: 10, slow: 0 }, 100_000);
        (0..50_000).for_each(|_| hub.tell(decision(PathTaken::Fast, 10)));
        hub.tell(decision(PathTaken::Slow, 1));
        let got: Vec<Told> = std::iter::from_fn(|| some.try_next()).collect();
        // One in five: 10 000, and 450 are five standard deviations.
        assert!((9_550..10_450).contains(&got.len()), "{}", got.len());
        assert!(got.iter().all(|told| told.one_in == 50 && told.decision.path == PathTaken::Fast));
        let got: Vec<Told> = std::iter::from_fn(|| all.try_next()).collect();
        assert!(got.len() == 50_000 && got.iter().all(|told| told.one_in == 10));
    }
}
