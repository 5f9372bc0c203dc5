//! How warm objects and servers are, and what follows from it: objects that many ask for get further servers, and
//! servers that get more than their share may give some of it up (P-11, P-12).
//!
//! Pure: what was counted comes in, and what the tables are to know comes out. Nothing here is needed for two boxes to
//! agree about the rest: what they differ in is how many of an object's servers they use, never which.

use redirector_plan::model::Affinity;
use redirector_plan::objects::{MAX_OBJECTS, Object};
use std::collections::BTreeMap;

/// Most objects with several servers at one time; the rest of the table is for what is published.
pub const MAX_HOT: usize = MAX_OBJECTS / 2;
/// A server is given up when the others could do with so much of what each is taken for.
const CALM: f64 = 0.7;
/// Spans of time that it has to be so.
const CALM_SPANS: u32 = 10;
/// Of a falling rate, the part that each span forgets.
const FORGOTTEN: f64 = 0.3;
/// Requests that a tier must have got in one span for shares to be measured by them.
const MEASURABLE: f64 = 1000.0;
/// What a target keeps shrinks to no less in one span.
const LEAST_STEP: f64 = 0.5;
/// A target below so much of its bound keeps more again.
const RELAXED: f64 = 0.9;
/// How much more in one span.
const GROWTH: f64 = 1.03;
/// No less of a target's share is ever kept: one that keeps nothing cannot be measured.
const LEAST_KEPT: f64 = 0.02;

/// Requests for an object in one span of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// [`object_hash`](redirector_core::decide::object_hash) of it.
    pub hash: u64,
    /// Number of its service.
    pub service: u32,
    /// How many.
    pub requests: f64,
}

/// Objects that many ask for, and how many servers share their clients.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Widths(BTreeMap<u64, Hot>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Hot {
    service: u32,
    /// Requests in a second: the highest lately.
    rate: f64,
    width: u8,
    /// For how many spans it would have done with one server less.
    calm: u32,
}

impl Widths {
    /// Takes in what was asked for in `seconds`. An object gets as many servers as its rate needs at once, and gives
    /// them up one by one, each after it has not needed it for a while. Tells whether an object's width changed.
    pub fn tick(
        &mut self,
        seconds: f64,
        asked: &[Asked],
        affinity: impl Fn(u32) -> Option<Affinity>,
    ) -> bool {
        let mut now: BTreeMap<u64, (u32, f64)> = BTreeMap::new();
        for one in asked {
            now.entry(one.hash).or_insert((one.service, 0.0)).1 += one.requests / seconds;
        }
        let mut changed = false;
        self.0.retain(|hash, hot| {
            let rate = now.remove(hash).map_or(0.0, |(_, rate)| rate);
            hot.rate = rate.max(hot.rate * (1.0 - FORGOTTEN) + rate * FORGOTTEN);
            let before = hot.width;
            match affinity(hot.service).and_then(|affinity| Some((affinity.widen_at?, affinity.at_most))) {
                Some((widen_at, at_most)) => hot.settle(f64::from(widen_at), at_most),
                None => hot.width = 1,
            }
            changed |= hot.width != before;
            hot.width > 1
        });
        let mut new: Vec<(u64, Hot)> = Vec::new();
        for (hash, (service, rate)) in now {
            let Some(Affinity { widen_at: Some(widen_at), at_most, .. }) = affinity(service) else {
                continue;
            };
            let mut hot = Hot { service, rate, width: 1, calm: 0 };
            hot.settle(f64::from(widen_at), at_most);
            if hot.width > 1 {
                new.push((hash, hot));
            }
        }
        // The warmest first, if there is no room for all.
        new.sort_by(|(a, one), (b, other)| other.rate.total_cmp(&one.rate).then(a.cmp(b)));
        new.truncate(MAX_HOT.saturating_sub(self.0.len()));
        changed |= !new.is_empty();
        self.0.extend(new);
        changed
    }

    /// As the tables are to have them.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        self.0.iter().map(|(hash, hot)| Object { hash: *hash, targets: Vec::new(), width: hot.width })
    }

    /// How many objects have several servers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Hot {
    fn settle(&mut self, widen_at: f64, at_most: u8) {
        let needed = (self.rate / widen_at).ceil().clamp(1.0, f64::from(at_most)) as u8;
        if needed > self.width || self.width > at_most {
            (self.width, self.calm) = (needed, 0);
        } else if self.rate < CALM * widen_at * f64::from(self.width - 1) {
            self.calm += 1;
            if self.calm >= CALM_SPANS {
                (self.width, self.calm) = (self.width - 1, 0);
            }
        } else {
            self.calm = 0;
        }
    }
}

/// A tier whose targets may not get more than a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounded {
    /// Targets that get its clients, and the part that each should, 1 in all.
    pub shares: Vec<(u16, f64)>,
    /// How many times its share a target may get.
    pub bound: f64,
}

/// What targets keep of their shares, because they got more.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept(BTreeMap<u16, f64>);

impl Kept {
    /// Takes in what targets got in one span of time. One that is over its bound in a tier keeps less from now on, and
    /// more again when it is well below it. Tells whether something changed.
    pub fn tick(&mut self, tiers: &[Bounded], requests: impl Fn(u16) -> f64) -> bool {
        let mut worst: BTreeMap<u16, f64> = BTreeMap::new();
        for tier in tiers {
            let total: f64 = tier.shares.iter().map(|(target, _)| requests(*target)).sum();
            if total < MEASURABLE {
                continue;
            }
            for (target, share) in tier.shares.iter().filter(|(_, share)| *share > 0.0) {
                let filled = requests(*target) / total / (share * tier.bound);
                let held = worst.entry(*target).or_insert(filled);
                *held = held.max(filled);
            }
        }
        let before = self.0.clone();
        let is_bounded =
            |target: &u16| tiers.iter().any(|tier| tier.shares.iter().any(|(one, _)| one == target));
        self.0.retain(|target, _| is_bounded(target));
        for (target, filled) in worst {
            let kept = self.0.entry(target).or_insert(1.0);
            if filled > 1.0 {
                *kept = (*kept * (1.0 / filled).max(LEAST_STEP)).max(LEAST_KEPT);
            } else if filled < RELAXED {
                *kept = (*kept * GROWTH).min(1.0);
            }
        }
        self.0.retain(|_, kept| *kept < 1.0);
        self.0 != before
    }

    /// The load factor that a target keeps, in 1/256 of its share: 1 to 256.
    pub fn factor(&self, target: u16) -> u16 {
        self.0.get(&target).map_or(256, |kept| (kept * 256.0).round().clamp(1.0, 256.0) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affinity(_: u32) -> Option<Affinity> {
        Some(Affinity { widen_at: Some(100), at_most: 4, bound: None })
    }

    fn asked(rates: &[(u64, f64)]) -> Vec<Asked> {
        rates.iter().map(|(hash, requests)| Asked { hash: *hash, service: 0, requests: *requests }).collect()
    }

    fn widths(all: &Widths) -> Vec<(u64, u8)> {
        all.objects().map(|object| (object.hash, object.width)).collect()
    }

    #[test]
    fn objects_widen_at_once_and_shrink_one_by_one_after_a_while() {
        let mut all = Widths::default();
        assert!(!all.tick(1.0, &asked(&[(1, 99.0), (2, 100.0)]), affinity), "at the rate it is not over it");
        assert!(all.tick(1.0, &asked(&[(1, 250.0), (2, 101.0), (3, 9000.0)]), affinity));
        assert_eq!(widths(&all), [(1, 3), (2, 2), (3, 4)]);
        let mut history = Vec::new();
        for _ in 0..80 {
            all.tick(1.0, &asked(&[(3, 120.0)]), affinity);
            history.push(all.objects().find(|object| object.hash == 3).map_or(1, |object| object.width));
        }
        assert!(history.is_sorted_by(|a, b| a >= b), "{history:?}");
        assert_eq!(history.last(), Some(&2), "120 need two servers: one would be over its rate");
        assert!(history.iter().filter(|width| **width == 3).count() >= 10, "{history:?}");
        assert_eq!(widths(&all), [(3, 2)], "nobody asks for the others");
    }

    #[test]
    fn a_rate_at_the_threshold_does_not_make_an_object_swing() {
        let mut all = Widths::default();
        let mut changes = 0;
        for n in 0..1000 {
            let rate = if n % 2 == 0 { 105.0 } else { 85.0 };
            changes += u32::from(all.tick(1.0, &asked(&[(1, rate)]), affinity));
        }
        assert_eq!((changes, widths(&all)), (1, vec![(1, 2)]));
    }

    #[test]
    fn a_service_that_widens_no_longer_takes_its_objects_back() {
        let mut all = Widths::default();
        all.tick(1.0, &asked(&[(1, 1000.0)]), affinity);
        assert!(all.tick(1.0, &asked(&[(1, 1000.0)]), |_| None));
        assert!(all.is_empty());
    }

    #[test]
    fn there_is_room_for_the_warmest() {
        let mut all = Widths::default();
        let many: Vec<(u64, f64)> = (0..MAX_HOT as u64 + 10).map(|n| (n, 200.0 + n as f64)).collect();
        all.tick(1.0, &asked(&many), affinity);
        assert_eq!(all.len(), MAX_HOT);
        assert!(all.objects().all(|object| object.hash >= 10));
    }

    #[test]
    fn a_target_over_its_bound_sheds_until_it_is_not_and_gets_its_share_back() {
        let tier = Bounded { shares: vec![(0, 0.25), (1, 0.25), (2, 0.5)], bound: 1.25 };
        let mut kept = Kept::default();
        // Target 0 has warm objects: by its share it would get 40 of 100.
        let got = |kept: &Kept, warm: f64| {
            let own = warm * f64::from(kept.factor(0)) / 256.0;
            move |target: u16| 1e5 * if target == 0 { own } else { (1.0 - own) * f64::from(target) / 3.0 }
        };
        for _ in 0..20 {
            let requests = got(&kept, 0.4);
            kept.tick(std::slice::from_ref(&tier), requests);
        }
        let own = got(&kept, 0.4)(0);
        assert!((28_000.0..=31_500.0).contains(&own), "{own} of 100000");
        assert_eq!(kept.factor(1), 256);
        for _ in 0..60 {
            let requests = got(&kept, 0.25);
            kept.tick(std::slice::from_ref(&tier), requests);
        }
        assert_eq!(kept, Kept::default());
        assert!(!kept.tick(&[tier], |_| 3.0), "too few to tell");
    }
}
