//! Where tables live and packets are answered: BPF maps with the XDP program, or plain memory without.

mod bpf;
mod counts;
mod hooks;
mod interface;
mod readers;
mod select;
mod tables;

pub use bpf::{BpfDataplane, CounterRoom};
pub use counts::TargetCounters;
pub use readers::Readers;
pub use select::{PINS, detach, start};
pub use tables::{LiveTables, Memory, Reading};

use redirector_plan::image::TableImage;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the fast path runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// In the network driver.
    Native,
    /// In the network stack: slower, works on every device.
    Generic,
    /// Not at all, for this reason: the slow path answers everything.
    Off(String),
}

/// Counts of the fast path since its counters were made, by stable slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FastCounters {
    /// By reason code.
    pub reasons: BTreeMap<u16, u64>,
    /// By VIP slot.
    pub vips: BTreeMap<u32, u64>,
    /// By service slot.
    pub services: BTreeMap<u32, u64>,
    /// By region slot.
    pub regions: BTreeMap<u32, u64>,
    /// By target slot.
    pub targets: BTreeMap<u32, u64>,
}

/// How long the parts of a publication took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishTimes {
    /// To make the maps and have the kernel check the program.
    pub load: Duration,
    /// To copy the tables.
    pub fill: Duration,
    /// To put the new program in the place of the old one, on all interfaces.
    pub switch: Duration,
}

/// What the XDP program makes of a frame in a test run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRun {
    /// XDP action: `XDP_ABORTED` 0, `XDP_DROP` 1, `XDP_PASS` 2, `XDP_TX` 3.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// What holds the tables that packets are answered from.
pub trait Dataplane: Send {
    /// Makes an image the current generation in one step, and gives the tables that the slow path reads from now on.
    ///
    /// # Errors
    /// What failed; the generation before stays current.
    fn publish(&mut self, image: &TableImage) -> io::Result<Arc<LiveTables>>;
    /// How long the last publication took.
    fn times(&self) -> PublishTimes;
    /// To be called about once a second while the box is well: the fast path goes on answering, on interfaces that have
    /// come back, too.
    ///
    /// # Errors
    /// If the fast path cannot be told; it leaves everything to the slow path after a while.
    fn tend(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// How the fast path runs.
    fn mode(&self) -> Mode;
    /// Counts of the fast path; empty if it is off.
    fn counters(&self) -> io::Result<FastCounters>;
    /// Counts of the fast path for some target slots.
    ///
    /// # Errors
    /// If they cannot be read.
    fn target_counts(&self, slots: &[u32]) -> io::Result<Vec<u64>> {
        Ok(vec![0; slots.len()])
    }
    /// The counters of targets themselves, to be read without this; `None` if the fast path is off.
    ///
    /// # Errors
    /// If they cannot be had.
    fn target_counters(&self) -> io::Result<Option<Arc<TargetCounters>>> {
        Ok(None)
    }
    /// Runs the current generation's program on a frame without sending or counting anything; `None` if it is off.
    fn test_run(&self, frame: &[u8]) -> io::Result<Option<TestRun>>;
}

/// No fast path: tables in plain memory.
#[derive(Debug)]
pub struct MemoryDataplane {
    reason: String,
    times: PublishTimes,
}

impl MemoryDataplane {
    /// `reason` tells the operator why there is no fast path.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), times: PublishTimes::default() }
    }
}

impl Dataplane for MemoryDataplane {
    fn publish(&mut self, image: &TableImage) -> io::Result<Arc<LiveTables>> {
        let began = Instant::now();
        let tables = LiveTables::build(image, |_, bytes| Memory::anonymous(bytes))?;
        self.times.fill = began.elapsed();
        Ok(Arc::new(tables))
    }
    fn times(&self) -> PublishTimes {
        self.times
    }
    fn mode(&self) -> Mode {
        Mode::Off(self.reason.clone())
    }
    fn counters(&self) -> io::Result<FastCounters> {
        Ok(FastCounters::default())
    }
    fn test_run(&self, _frame: &[u8]) -> io::Result<Option<TestRun>> {
        Ok(None)
    }
}
