//! Share records of the current generation: which are in use, and which may be written.
//!
//! A reader may still look at a block after no pointer names it any more. Such blocks rest for [`GRACE`], and are free
//! only after an RCU grace period beyond it: no run of the XDP program that could have seen them is left then.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

/// How long a block rests after it was replaced: the slow path's readers need microseconds.
pub const GRACE: Duration = Duration::from_secs(1);

/// A run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First record.
    pub first: u32,
    /// Records; at least one.
    pub len: u32,
}

/// Gives out runs of records.
#[derive(Debug)]
pub struct Records {
    /// Free runs by first record; neighbours are merged.
    free: BTreeMap<u32, u32>,
    /// Blocks that rest, oldest first, with the time when they were replaced.
    resting: VecDeque<(Instant, Block)>,
    barrier: fn() -> io::Result<()>,
}

impl Records {
    /// The records from `used` to `capacity` are free.
    pub fn new(used: u32, capacity: u32) -> Self {
        let free = if used < capacity { BTreeMap::from([(used, capacity - used)]) } else { BTreeMap::new() };
        Self { free, resting: VecDeque::new(), barrier: rcu_barrier }
    }

    /// A free run of `len` records; `None` if there is none now.
    ///
    /// # Errors
    /// If the kernel gives no grace period: then nothing that rests is ever free again.
    pub fn take(&mut self, len: u32, now: Instant) -> io::Result<Option<Block>> {
        if let Some(block) = self.first_fit(len) {
            return Ok(Some(block));
        }
        self.reclaim(now)?;
        Ok(self.first_fit(len))
    }

    /// A block that no pointer names since `now`.
    pub fn retire(&mut self, block: Block, now: Instant) {
        self.resting.push_back((now, block));
    }

    fn first_fit(&mut self, len: u32) -> Option<Block> {
        let (&first, &room) = self.free.iter().find(|(_, room)| **room >= len)?;
        self.free.remove(&first);
        if room > len {
            self.free.insert(first + len, room - len);
        }
        Some(Block { first, len })
    }

    fn reclaim(&mut self, now: Instant) -> io::Result<()> {
        let rested = self.resting.iter().take_while(|(since, _)| now.duration_since(*since) >= GRACE).count();
        if rested > 0 {
            (self.barrier)()?;
        }
        for (_, block) in self.resting.drain(..rested).collect::<Vec<_>>() {
            self.free(block);
        }
        Ok(())
    }

    fn free(&mut self, Block { mut first, mut len }: Block) {
        if let Some(after) = self.free.remove(&(first + len)) {
            len += after;
        }
        if let Some((&before, &room)) = self.free.range(..first).next_back()
            && before + room == first
        {
            (first, len) = (before, room + len);
        }
        self.free.insert(first, len);
    }
}

/// Waits until every run of a BPF program that is under way now has ended: `MEMBARRIER_CMD_GLOBAL` is an RCU grace
/// period (membarrier(2)).
fn rcu_barrier() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: membarrier takes numbers only and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(records: &mut Records, len: u32, now: Instant) -> Option<Block> {
        records.take(len, now).expect("membarrier works")
    }

    #[test]
    fn a_replaced_block_is_not_given_out_before_its_grace_period() {
        let start = Instant::now();
        let mut records = Records::new(10, 14);
        let first = take(&mut records, 4, start);
        assert_eq!(first, Some(Block { first: 10, len: 4 }));
        assert_eq!(take(&mut records, 1, start), None);
        records.retire(Block { first: 2, len: 3 }, start);
        assert_eq!(take(&mut records, 3, start + GRACE - Duration::from_millis(1)), None);
        assert_eq!(take(&mut records, 3, start + GRACE), Some(Block { first: 2, len: 3 }));
    }

    #[test]
    fn freed_neighbours_are_one_run_again() {
        let start = Instant::now();
        let mut records = Records::new(0, 9);
        let blocks: Vec<Block> = (0..3).filter_map(|_| take(&mut records, 3, start)).collect();
        for place in [0, 2, 1] {
            records.retire(blocks[place], start);
        }
        assert_eq!(take(&mut records, 9, start + GRACE), Some(Block { first: 0, len: 9 }));
    }

    #[test]
    fn without_a_kernel_barrier_nothing_is_reused() {
        let start = Instant::now();
        let refuses = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
        let mut records = Records { barrier: refuses, ..Records::new(3, 3) };
        records.retire(Block { first: 0, len: 3 }, start);
        assert!(records.take(1, start + GRACE).is_err());
        assert!(records.take(1, start + GRACE).is_err(), "the block still rests");
    }
}
