//! Counter slots: which element of the shared counter arrays counts a service, region, target or VIP.
//!
//! Counters outlive generations, so a name keeps its slot, and a slot that once counted something never counts
//! something else. Slots are no part of answers: boxes with different histories have different ones.

use redirector_core::table::VIP_SLOTS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Gives out counter slots. Slot 0 of each kind counts what has no name ("none") and is never given out; `None` says
/// that no slot is left.
pub trait CounterIds {
    /// Slot of a service.
    fn service(&mut self, name: &str) -> Option<u32>;
    /// Slot of a region.
    fn region(&mut self, name: &str) -> Option<u32>;
    /// Slot of a target.
    fn target(&mut self, name: &str) -> Option<u32>;
    /// Slot of a VIP; below [`VIP_SLOTS`].
    fn vip(&mut self, name: &str) -> Option<u32>;
}

/// Slots by name, to be kept on disk between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterSlots {
    services: Slots,
    regions: Slots,
    targets: Slots,
    vips: Slots,
}

/// One kind's slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Slots {
    /// Elements of the counter array; slots are below this.
    capacity: u32,
    by_name: BTreeMap<String, u32>,
}

impl CounterSlots {
    /// No slots in use; the capacities are the lengths of the counter arrays, slot 0 included.
    pub fn new(services: u32, regions: u32, targets: u32) -> Self {
        let slots = |capacity| Slots { capacity, by_name: BTreeMap::new() };
        Self {
            services: slots(services),
            regions: slots(regions),
            targets: slots(targets),
            vips: slots(VIP_SLOTS),
        }
    }

    /// Slot of a target; 0 if it never had one.
    pub fn target_slot(&self, name: &str) -> u32 {
        self.targets.by_name.get(name).copied().unwrap_or(0)
    }

    /// Names and slots of services, regions, targets and VIPs, for reports.
    pub fn names(&self) -> [&BTreeMap<String, u32>; 4] {
        [&self.services, &self.regions, &self.targets, &self.vips].map(|slots| &slots.by_name)
    }
}

impl Slots {
    fn slot(&mut self, name: &str) -> Option<u32> {
        if let Some(slot) = self.by_name.get(name) {
            return Some(*slot);
        }
        // Names are never removed, so their number is also the highest slot in use.
        let slot = self.by_name.len() as u32 + 1;
        (slot < self.capacity).then(|| {
            self.by_name.insert(name.to_owned(), slot);
            slot
        })
    }
}

impl CounterIds for CounterSlots {
    fn service(&mut self, name: &str) -> Option<u32> {
        self.services.slot(name)
    }
    fn region(&mut self, name: &str) -> Option<u32> {
        self.regions.slot(name)
    }
    fn target(&mut self, name: &str) -> Option<u32> {
        self.targets.slot(name)
    }
    fn vip(&mut self, name: &str) -> Option<u32> {
        self.vips.slot(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_slot_and_slot_zero_is_never_given() {
        let mut ids = CounterSlots::new(3, 2, 2);
        assert_eq!(ids.service("web"), Some(1));
        assert_eq!(ids.service("tv"), Some(2));
        assert_eq!(ids.service("news"), None, "capacity 3 is slots 0, 1, 2");
        assert_eq!(ids.service("web"), Some(1));
        assert_eq!((ids.region("fr"), ids.region("de")), (Some(1), None));
        assert_eq!((ids.target("web"), ids.target("tv")), (Some(1), None));
        assert_eq!((ids.vip("web"), ids.vip("tv"), ids.vip("web")), (Some(1), Some(2), Some(1)));
    }

    #[test]
    fn slots_survive_being_written_down() {
        let mut ids = CounterSlots::new(8, 8, 8);
        ids.service("web");
        ids.service("tv");
        let text = serde_json::to_string(&ids).expect("serialises");
        let mut back: CounterSlots = serde_json::from_str(&text).expect("parses");
        assert_eq!(back, ids);
        assert_eq!((back.service("news"), back.service("tv")), (Some(3), Some(2)));
    }
}
