//! Counts of the slow path, by the same slots as the fast path's.

use crate::dataplane::FastCounters;
use redirector_core::table::{NONE, Tables};
use redirector_core::verdict::REASON_SLOTS;
use redirector_core::wire::Trace;
use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most slots of one kind; higher ones are not counted.
const MAX_SLOTS: usize = 1 << 20;

/// One kind's counters. Slots are given out from the lowest on, so the list is as long as the highest in use.
#[derive(Debug, Default)]
struct Slots(RwLock<Vec<AtomicU64>>);

impl Slots {
    fn add(&self, slot: u32) {
        let slot = slot as usize;
        if slot >= MAX_SLOTS {
            return;
        }
        // Counters are whole after any panic: a poisoned lock means nothing here.
        let counters = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(counter) = counters.get(slot) {
            counter.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(counters);
        let mut counters = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if counters.len() <= slot {
            counters.resize_with(slot + 1, AtomicU64::default);
        }
        counters[slot].fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self, slot: u32) -> u64 {
        let counters = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        counters.get(slot as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counted(&self) -> BTreeMap<u32, u64> {
        let counters = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let values = counters.iter().map(|counter| counter.load(Ordering::Relaxed));
        (0u32..).zip(values).filter(|(_, count)| *count > 0).collect()
    }
}

/// What the slow path answered since it started: by reason, VIP, service, region and target, never by their product.
#[derive(Debug)]
pub struct SlowCounters {
    reasons: [AtomicU64; REASON_SLOTS as usize],
    vips: Slots,
    services: Slots,
    regions: Slots,
    targets: Slots,
}

impl Default for SlowCounters {
    fn default() -> Self {
        Self {
            reasons: [const { AtomicU64::new(0) }; REASON_SLOTS as usize],
            vips: Slots::default(),
            services: Slots::default(),
            regions: Slots::default(),
            targets: Slots::default(),
        }
    }
}

impl SlowCounters {
    /// Counts one message or request that was decided with `tables`.
    pub(super) fn count<T: Tables>(&self, trace: &Trace, tables: &T) {
        if let Some(counter) = self.reasons.get(trace.reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if trace.vip == NONE {
            return;
        }
        self.vips.add(trace.vip);
        if let Some(service) = tables.service(trace.service) {
            self.services.add(service.counter);
        }
        if trace.decided {
            if let Some(counters) = tables.region_counters(trace.region >> 4) {
                self.regions.add(counters.words[trace.region as usize & 15]);
            }
            if let Some(target) = tables.target(trace.target) {
                self.targets.add(target.counter);
                if let Some(account) = tables.target(trace.account) {
                    self.targets.add(account.counter);
                }
            }
        }
    }

    /// The count of a target's slot.
    pub fn target(&self, slot: u32) -> u64 {
        self.targets.get(slot)
    }

    /// The counts of all targets' slots.
    pub fn targets(&self) -> Vec<u64> {
        let counters = self.targets.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    /// The counts now, in the form of the fast path's; only what was counted is in it.
    pub fn snapshot(&self) -> FastCounters {
        let reasons = self.reasons.iter().map(|counter| counter.load(Ordering::Relaxed));
        FastCounters {
            reasons: (0u16..).zip(reasons).filter(|(_, count)| *count > 0).collect(),
            vips: self.vips.counted(),
            services: self.services.counted(),
            regions: self.regions.counted(),
            targets: self.targets.counted(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted_apart_and_out_of_range_ones_not_at_all() {
        let slots = Slots::default();
        for slot in [3, 0, 3, MAX_SLOTS as u32, NONE] {
            slots.add(slot);
        }
        assert_eq!(slots.counted(), BTreeMap::from([(0, 1), (3, 2)]));
    }
}
