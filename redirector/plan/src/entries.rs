//! Entries of the suffix and name tables on their way into buckets.

use crate::buckets;
use crate::refusal::Refusal;
use redirector_core::hash::Slot;
use redirector_core::table::{NameBucket, NameEntry};
use std::collections::HashMap;

/// Most entries of a name table; at two a bucket it takes 64 MiB.
pub const MAX_NAME_ENTRIES: usize = 1 << 21;

/// Entries a bucket holds on average at most.
const MEAN_LOAD: usize = 2;
const BUCKET_ENTRIES: usize = 4;

/// An entry with the rule it stems from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    pub(crate) value: u32,
    pub(crate) order: u16,
    pub(crate) flags: u16,
    /// Index of the rule in whatever list it was made from.
    pub(crate) rule: usize,
}

/// A set of entries by key.
#[derive(Default)]
pub(crate) struct Entries {
    list: Vec<Entry>,
    by_fingerprint: HashMap<u64, usize>,
    /// Two different keys have the same fingerprint: readers could not tell them apart.
    collided: bool,
}

impl Entries {
    /// The entry of the same key, or `None` after adding this one.
    pub(crate) fn add(&mut self, entry: Entry) -> Option<&mut Entry> {
        let next = self.list.len();
        let held = *self.by_fingerprint.entry(entry.slot.fingerprint).or_insert(next);
        if held == next {
            self.list.push(entry);
            return None;
        }
        let held = &mut self.list[held];
        if held.slot.find != entry.slot.find {
            self.collided = true;
        }
        Some(held)
    }

    /// Adds an entry whose key is known to be new.
    pub(crate) fn add_new(&mut self, entry: Entry) {
        if self.add(entry).is_some() {
            self.collided = true;
        }
    }

    /// Whether another `count` entries exceed the table's limit.
    pub(crate) fn lacks_room(&self, count: usize) -> bool {
        self.list.len().saturating_add(count) > MAX_NAME_ENTRIES
    }

    /// The finished table: a power of two of buckets.
    pub(crate) fn into_table(self, what: &str, refusals: &mut Vec<Refusal>) -> Vec<NameBucket> {
        if self.collided {
            refusals.push(Refusal::of_network(
                what,
                "two different names have the same 64-bit fingerprint under this key",
                "change the fleet's key",
            ));
        }
        let mut count = self.list.len().div_ceil(MEAN_LOAD).next_power_of_two();
        // Twice the buckets are plenty; a third attempt can only fail on equal keys, which `add` keeps out.
        for _ in 0..3 {
            let choices: Vec<[u32; 2]> =
                self.list.iter().map(|entry| entry.slot.buckets(count as u32 - 1)).collect();
            if let Some(held) = buckets::place(&choices, count, BUCKET_ENTRIES) {
                return held.chunks_exact(BUCKET_ENTRIES).map(|places| self.bucket(places)).collect();
            }
            count *= 2;
        }
        refusals.push(Refusal::of_network(
            what,
            format!("{} names do not fit {count} buckets", self.list.len()),
            "change the fleet's key",
        ));
        vec![NameBucket::default()]
    }

    fn bucket(&self, places: &[Option<usize>]) -> NameBucket {
        let entry = |item: usize| {
            let Entry { slot, value, order, flags, .. } = self.list[item];
            NameEntry { fingerprint: slot.fingerprint, value, order, flags }
        };
        NameBucket { entries: std::array::from_fn(|n| places[n].map(entry).unwrap_or_default()) }
    }
}
