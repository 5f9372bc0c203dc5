//! Which objects are asked for most, counted where they are answered (P-11).
//!
//! Each CPU has so many slots for each of two seconds, and an object counts in one of them. A slot knows the object that
//! has most of its requests, if one has more than the others together (R. Boyer, J S. Moore: MJRTY, 1991). What belongs
//! to a second that is over begins anew with the first request of another one.

use crate::table::Pod;

/// Slots for one second: a power of two.
pub const HEAT_SLOTS: u32 = 1024;
/// Slots of one CPU: those of this second, and those of the one before.
pub const HEAT_LINES: u32 = 2 * HEAT_SLOTS;

/// One slot.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heat {
    /// [`object_hash`](crate::decide::object_hash) of the object that leads.
    pub hash: u64,
    /// Seconds since 1970 modulo 2^32.
    pub second: u32,
    /// Counter slot of its service.
    pub service: u32,
    /// By how many requests it leads.
    pub lead: u32,
    /// Requests for all objects of the slot.
    pub count: u32,
}

const _: () = assert!(size_of::<Heat>() == 24);
// SAFETY: repr(C), integers only, without padding as the assertion shows.
unsafe impl Pod for Heat {}

impl Heat {
    /// Where an object counts, among one CPU's slots.
    #[inline(always)]
    pub fn slot(hash: u64, second: u32) -> u32 {
        (second & 1) * HEAT_SLOTS + ((hash >> 28) as u32 & (HEAT_SLOTS - 1))
    }

    /// Counts a request.
    #[inline(always)]
    pub fn note(&mut self, second: u32, hash: u64, service: u32) {
        if self.second != second {
            (self.second, self.lead, self.count) = (second, 0, 0);
        }
        self.count = self.count.wrapping_add(1);
        if self.lead == 0 {
            (self.hash, self.service) = (hash, service);
        }
        let more = if self.hash == hash { 1 } else { u32::MAX };
        self.lead = self.lead.wrapping_add(more);
    }

    /// Requests for the object that leads, as far as they can be told: exactly, if it had the slot for itself. One that
    /// has less than half of it may have fewer.
    pub fn requests(&self) -> u32 {
        if self.lead.saturating_mul(2) >= self.count {
            self.lead + (self.count - self.lead) / 2
        } else {
            self.lead
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_that_has_most_requests_of_a_slot_is_known() {
        let mut heat = Heat::default();
        for n in 0..900u64 {
            heat.note(7, if n % 3 == 0 { n } else { 5 }, 1);
        }
        assert_eq!((heat.hash, heat.second, heat.count), (5, 7, 900));
        assert!((500..=700).contains(&heat.requests()), "{heat:?}: 600 are true");
    }

    #[test]
    fn an_object_alone_is_counted_exactly_and_a_new_second_begins_anew() {
        let mut heat = Heat::default();
        (0..50).for_each(|_| heat.note(7, 5, 1));
        assert_eq!(heat.requests(), 50);
        (0..3).for_each(|_| heat.note(9, 6, 2));
        assert_eq!(heat, Heat { hash: 6, second: 9, service: 2, lead: 3, count: 3 });
    }

    #[test]
    fn without_a_majority_nothing_is_made_up() {
        let mut heat = Heat::default();
        (0..1000u64).for_each(|n| heat.note(7, n, 1));
        assert!(heat.requests() <= 1, "{heat:?}");
    }
}
