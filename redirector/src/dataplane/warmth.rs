//! Reading which objects the fast path is asked for most (P-11).

use super::bpf::told;
use super::tables::Memory;
use aya::maps::Map;
use redirector_core::heat::Heat;
use std::io;
use std::os::fd::AsFd;

/// The slots of all CPUs, as the program writes them.
#[derive(Debug)]
pub(super) struct Warmth {
    memory: Memory,
    slots: usize,
    /// Seconds before this one were told.
    next: u32,
}

impl Warmth {
    /// Of a program's map.
    pub(super) fn new(map: Option<&Map>) -> io::Result<Self> {
        let Some(Map::Array(data)) = map else {
            return Err(io::Error::other("the program lacks the slots for the heat of objects"));
        };
        let entries = data.info().map_err(|err| told("HEAT", err))?.max_entries();
        let slots = entries as usize;
        let memory = Memory::of_array(data.fd().as_fd(), slots * size_of::<Heat>());
        Ok(Self { memory: memory.map_err(|err| told("HEAT", err))?, slots, next: 0 })
    }

    /// The slots of the last second that is over and was not told yet; `now` is what the program takes the time to be.
    pub(super) fn read(&mut self, now: u32) -> Vec<Heat> {
        let is_over = |heat: &Heat| heat.count > 0 && heat.second >= self.next && heat.second < now;
        let all: Vec<Heat> =
            (0..self.slots).filter_map(|slot| self.memory.value(slot)).filter(is_over).collect();
        let Some(last) = all.iter().map(|heat| heat.second).max() else { return Vec::new() };
        self.next = last + 1;
        all.into_iter().filter(|heat| heat.second == last).collect()
    }
}
