//! Share records of the current generation: which are in use, and which may be written.
//!
//! A reader may still look at a block after no pointer names it any more. Such blocks rest until nobody can: until all
//! readers in this process who had begun are done, and an RCU grace period has passed, so that no run of the XDP program
//! that could have seen them is left. A thread of its own waits for that, as a grace period takes many milliseconds.

use crate::dataplane::Readers;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long whoever finds no free block waits for those that rest.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether readers are done; they need microseconds.
const POLL: Duration = Duration::from_millis(1);

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
    shared: Arc<Shared>,
}

/// What the thread works on, too.
#[derive(Debug)]
struct Shared {
    pool: Mutex<Pool>,
    /// Some block rests, or the thread is to end.
    retired: Condvar,
    /// Blocks that rested are free, or never will be.
    freed: Condvar,
    readers: Arc<Readers>,
    barrier: fn() -> io::Result<()>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Free runs by first record; neighbours are merged.
    free: BTreeMap<u32, u32>,
    /// The same by length, then by first record.
    by_length: BTreeSet<(u32, u32)>,
    /// Blocks that readers may still look at, and for which nobody waits yet.
    resting: Vec<Block>,
    /// Other blocks rest, too, and the thread waits for the end of that.
    reclaiming: bool,
    /// The kernel's number for why nothing that rests is ever free again.
    broken: Option<i32>,
    /// Nobody takes records any more.
    ended: bool,
    waits: u64,
}

impl Records {
    /// The records from `used` to `capacity` are free. `readers` are those of the tables that they lie in.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn new(used: u32, capacity: u32, readers: &Arc<Readers>) -> io::Result<Self> {
        Self::with_barrier(used, capacity, readers, rcu_barrier)
    }

    fn with_barrier(
        used: u32,
        capacity: u32,
        readers: &Arc<Readers>,
        barrier: fn() -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut pool = Pool::default();
        if used < capacity {
            pool.put(used, capacity - used);
        }
        let shared = Arc::new(Shared {
            pool: Mutex::new(pool),
            retired: Condvar::new(),
            freed: Condvar::new(),
            readers: Arc::clone(readers),
            barrier,
        });
        let thread = Arc::clone(&shared);
        thread::Builder::new().name("reclaim".to_owned()).spawn(move || thread.reclaim())?;
        Ok(Self { shared })
    }

    /// A free run of `len` records; `None` if there is none. Waits for blocks that rest, at most [`PATIENCE`], only if
    /// there is no other.
    ///
    /// # Errors
    /// If the kernel gives no grace period: then nothing that rests is ever free again.
    pub fn take(&self, len: u32) -> io::Result<Option<Block>> {
        let mut pool = self.shared.pool();
        if let Some(block) = pool.best_fit(len) {
            return Ok(Some(block));
        }
        let began = Instant::now();
        pool.waits += u64::from(pool.is_anything_resting());
        while pool.is_anything_resting() {
            if let Some(number) = pool.broken {
                return Err(io::Error::from_raw_os_error(number));
            }
            let Some(left) = PATIENCE.checked_sub(began.elapsed()) else { break };
            (pool, _) = self.shared.freed.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner);
            if let Some(block) = pool.best_fit(len) {
                tracing::warn!("a change of health or load waited {:?} for a free record", began.elapsed());
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// A block that no pointer names any more.
    pub fn retire(&self, block: Block) {
        self.shared.pool().resting.push(block);
        self.shared.retired.notify_one();
    }

    /// How often [`Records::take`] had to wait.
    pub fn waits(&self) -> u64 {
        self.shared.pool().waits
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.shared.pool().ended = true;
        self.shared.retired.notify_one();
    }
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing that can panic leaves the pool half changed.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what rests, until nobody takes records any more or the kernel gives no grace period.
    fn reclaim(&self) {
        while let Some(blocks) = self.next_batch() {
            let rested = self.wait_for_readers();
            let mut pool = self.pool();
            pool.reclaiming = false;
            match rested {
                Ok(()) => blocks.into_iter().for_each(|block| pool.free(block)),
                Err(error) => {
                    pool.broken = Some(error.raw_os_error().unwrap_or(libc::EIO));
                    pool.resting.extend(blocks);
                }
            }
            let broken = pool.broken.is_some();
            drop(pool);
            self.freed.notify_all();
            if broken {
                return;
            }
        }
    }

    /// Blocks that rest; `None` at the end.
    fn next_batch(&self) -> Option<Vec<Block>> {
        let mut pool = self.pool();
        while !pool.ended && pool.resting.is_empty() {
            pool = self.retired.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        if pool.ended {
            return None;
        }
        pool.reclaiming = true;
        Some(std::mem::take(&mut pool.resting))
    }

    /// Returns when all readers, in the kernel and here, are done who had begun when this was called.
    fn wait_for_readers(&self) -> io::Result<()> {
        let mut phase = self.readers.end_phase();
        (self.barrier)()?;
        while !phase.is_over() && !self.pool().ended {
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Pool {
    fn is_anything_resting(&self) -> bool {
        self.reclaiming || !self.resting.is_empty()
    }

    /// The front of the shortest run that suffices.
    fn best_fit(&mut self, len: u32) -> Option<Block> {
        let (room, first) = *self.by_length.range((len, 0)..).next()?;
        self.remove(first);
        if room > len {
            self.put(first + len, room - len);
        }
        Some(Block { first, len })
    }

    fn free(&mut self, Block { mut first, mut len }: Block) {
        if let Some(after) = self.remove(first + len) {
            len += after;
        }
        if let Some((&before, &room)) = self.free.range(..first).next_back()
            && before + room == first
        {
            self.remove(before);
            (first, len) = (before, room + len);
        }
        self.put(first, len);
    }

    fn put(&mut self, first: u32, len: u32) {
        self.free.insert(first, len);
        self.by_length.insert((len, first));
    }

    fn remove(&mut self, first: u32) -> Option<u32> {
        let len = self.free.remove(&first)?;
        self.by_length.remove(&(len, first));
        Some(len)
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
    use crate::dataplane::{Dataplane, LiveTables, MemoryDataplane};
    use redirector_plan::compile::compile;
    use redirector_plan::model::Network;

    fn tables() -> Arc<LiveTables> {
        let compiled =
            compile(&Network::default(), &[], 1, &mut crate::state::new_slots()).expect("compiles");
        MemoryDataplane::new("test").publish(&compiled.image).expect("memory")
    }

    fn records(used: u32, capacity: u32) -> Records {
        Records::new(used, capacity, &Arc::default()).expect("a thread")
    }

    fn take(records: &Records, len: u32) -> Option<Block> {
        records.take(len).expect("membarrier works")
    }

    #[test]
    fn a_replaced_block_is_not_given_out_while_a_reader_may_look_at_it() {
        let tables = tables();
        let records = Records::new(10, 14, tables.readers()).expect("a thread");
        assert_eq!(take(&records, 4), Some(Block { first: 10, len: 4 }));
        assert_eq!(take(&records, 1), None);
        assert_eq!(records.waits(), 0, "nothing rests that could be waited for");
        let reader = tables.read();
        records.retire(Block { first: 2, len: 3 });
        let began = Instant::now();
        assert_eq!(take(&records, 3), None);
        assert!(began.elapsed() >= PATIENCE);
        // Whoever begins now cannot have found the block.
        let later = tables.read();
        drop(reader);
        assert_eq!(take(&records, 3), Some(Block { first: 2, len: 3 }));
        assert_eq!(records.waits(), 2);
        drop(later);
    }

    #[test]
    fn a_replaced_block_is_not_given_out_before_the_kernels_grace_period() {
        static PASSED: Mutex<bool> = Mutex::new(false);
        let barrier = || {
            thread::sleep(Duration::from_millis(200));
            *PASSED.lock().expect("nobody panics with it") = true;
            Ok(())
        };
        let records = Records::with_barrier(4, 4, &Arc::default(), barrier).expect("a thread");
        records.retire(Block { first: 0, len: 4 });
        assert_eq!(take(&records, 4), Some(Block { first: 0, len: 4 }));
        assert!(*PASSED.lock().expect("nobody panics with it"));
    }

    #[test]
    fn freed_neighbours_are_one_run_again() {
        let records = records(0, 9);
        let blocks: Vec<Block> = (0..3).filter_map(|_| take(&records, 3)).collect();
        for place in [0, 2, 1] {
            records.retire(blocks[place]);
        }
        assert_eq!(take(&records, 9), Some(Block { first: 0, len: 9 }));
    }

    #[test]
    fn without_a_kernel_barrier_nothing_is_reused() {
        let refuses = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
        let records = Records::with_barrier(3, 3, &Arc::default(), refuses).expect("a thread");
        records.retire(Block { first: 0, len: 3 });
        assert_eq!(records.take(1).expect_err("refused").raw_os_error(), Some(libc::ENOSYS));
        assert!(records.take(1).is_err(), "the block still rests");
    }

    #[test]
    fn the_thread_ends_with_the_records() {
        let records = records(0, 9);
        let shared = Arc::downgrade(&records.shared);
        drop(records);
        let deadline = Instant::now() + Duration::from_secs(10);
        while shared.upgrade().is_some() {
            assert!(Instant::now() < deadline, "the thread goes on");
            thread::sleep(POLL);
        }
    }
}
