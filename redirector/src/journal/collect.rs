//! Takes what the fast path tells out of its ring, on a thread of its own, and hands it to the hub.

use super::decision::Decision;
use super::hub::Hub;
use crate::dataplane::Ring;
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

/// How long the thread waits for the ring at most before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(200);
/// Records taken between two looks at whether the thread is to end: more than the ring holds.
const AT_ONCE: usize = 16_384;
/// Wait after an error of the ring.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the ring of the current generation's program. The ring outlives generations and daemons: what was told while
/// nobody read is read by the next one.
#[derive(Debug)]
pub struct Collector {
    hub: Arc<Hub>,
    /// Records that could not be read.
    unreadable: Arc<AtomicU64>,
    at_work: Option<Work>,
}

#[derive(Debug)]
struct Work {
    ring: u32,
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Collector {
    /// Nothing is read yet.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub, unreadable: Arc::default(), at_work: None }
    }

    /// Reads this ring from now on; `None`: none. The one before is read to its end if it was another. To be called after
    /// the program that writes to it was put in place.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn follow(&mut self, ring: Option<Ring>) -> io::Result<()> {
        let same = |work: &Work| ring.as_ref().is_some_and(|ring| ring.id() == work.ring);
        if self.at_work.as_ref().is_some_and(same) {
            return Ok(());
        }
        self.stop();
        let Some(ring) = ring else { return Ok(()) };
        let (hub, unreadable) = (Arc::clone(&self.hub), Arc::clone(&self.unreadable));
        let (id, end) = (ring.id(), Arc::<AtomicBool>::default());
        let ended = Arc::clone(&end);
        let thread = thread::Builder::new()
            .name("decisions".to_owned())
            .spawn(move || collect(ring, &hub, &unreadable, &ended))?;
        self.at_work = Some(Work { ring: id, end, thread });
        Ok(())
    }

    /// Records that could not be read: none, unless another program wrote them.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Reads what is there, and ends.
    pub fn stop(&mut self) {
        let Some(work) = self.at_work.take() else { return };
        work.end.store(true, Ordering::Release);
        if work.thread.join().is_err() {
            tracing::error!("the fast path's decisions were not read to their end");
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

fn collect(mut ring: Ring, hub: &Hub, unreadable: &AtomicU64, end: &AtomicBool) {
    loop {
        // Before the ring is looked at: what was told until then is read.
        let last = end.load(Ordering::Acquire);
        let offset = offset();
        ring.drain(AT_ONCE, |record| match Decision::of_sample(record, offset) {
            Some(decision) => hub.tell(decision),
            None => drop(unreadable.fetch_add(1, Ordering::Relaxed)),
        });
        if last {
            return;
        }
        if let Err(error) = ring.wait(PATIENCE) {
            tracing::error!("cannot wait for decisions of the fast path: {error}");
            thread::sleep(PAUSE);
        }
    }
}

/// From the fast path's clock to the time since 1970.
fn offset() -> Duration {
    let now = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    now(ClockId::CLOCK_REALTIME).saturating_sub(now(ClockId::CLOCK_MONOTONIC))
}
