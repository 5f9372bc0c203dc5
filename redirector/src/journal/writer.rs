//! Writes the decision log, on a thread of its own. Whatever the disk does, answers go on.

use super::decision::{Decision, now};
use super::files::{FileCounts, Files, PATIENCE};
use super::format::{Cause, Entry, Kind};
use super::hub::{Hub, Subscription};
use crate::config::DecisionLog;
use redirector_core::table::NONE;
use redirector_plan::counters::CounterSlots;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, mem, thread};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// Decisions that wait to be written; more are lost.
const QUEUE: usize = 16_384;
/// How often what waits is written, so that a reader sees it.
const FLUSH: Duration = Duration::from_millis(500);

/// How a target is: it can be chosen, and its load factor.
pub type Health = (bool, u16);
/// What is not written of targets' health, because it is what there is at a file's begin.
const WELL: Health = (true, 256);

/// Names of counter slots.
#[derive(Debug, Default)]
pub struct SlotNames([Vec<Box<str>>; 4]);

impl SlotNames {
    /// By slot.
    pub fn of(slots: &CounterSlots) -> Self {
        let by_slot = |names: &BTreeMap<String, u32>| {
            let mut by_slot = vec![Box::<str>::default(); names.len() + 1];
            for (name, slot) in names {
                if let Some(place) = by_slot.get_mut(*slot as usize) {
                    *place = name.as_str().into();
                }
            }
            by_slot
        };
        Self(slots.names().map(by_slot))
    }

    /// A slot's name, if it has one.
    pub fn get(&self, kind: Kind, slot: u32) -> Option<&str> {
        let name = self.0[kind as usize].get(slot as usize)?;
        (!name.is_empty()).then_some(name)
    }
}

/// What the log says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogReport {
    /// Where its files are.
    pub directory: String,
    /// What became of them.
    pub files: FileCounts,
    /// Decisions that waited too long to be written.
    pub queue_full: u64,
    /// Why nothing can be written now.
    pub problem: Option<String>,
}

/// What the writer is told beside decisions.
enum Order {
    /// Names of slots from now on.
    Names(Arc<SlotNames>),
    /// Health of targets, by slot.
    Health(BTreeMap<u32, Health>),
    /// The fast path's ring has lost so many in all.
    RingLost(u64),
    /// What is there is written, and then it ends.
    End,
}

/// A log that is being written.
#[derive(Debug)]
pub struct Journal {
    log: DecisionLog,
    orders: mpsc::UnboundedSender<Order>,
    report: Arc<Mutex<LogReport>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Begins to write what `hub` tells.
    ///
    /// # Errors
    /// If there can be no thread. A directory that cannot be written to is no error: [`Self::report`] tells.
    pub fn start(hub: &Arc<Hub>, log: DecisionLog, box_name: &str, slots: &CounterSlots) -> io::Result<Self> {
        let decisions = hub.subscribe("log", log.wanted, QUEUE);
        let (orders, receiver) = mpsc::unbounded_channel();
        let directory = log.directory.display().to_string();
        let report = Arc::new(Mutex::new(LogReport { directory, ..LogReport::default() }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let writer = Writer {
            files: Files::new(log.clone(), box_name.to_owned()),
            names: Arc::new(SlotNames::of(slots)),
            named: HashSet::new(),
            health: BTreeMap::new(),
            lost: Lost::default(),
            next_try: Instant::now(),
            problem: None,
            report: Arc::clone(&report),
        };
        let thread = thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || runtime.block_on(writer.run(decisions, receiver)))?;
        Ok(Self { log, orders, report, thread: Some(thread) })
    }

    /// How it was configured.
    pub fn log(&self) -> &DecisionLog {
        &self.log
    }

    /// Slots have these names from now on. To be called before anybody uses new ones.
    pub fn names(&self, slots: &CounterSlots) {
        self.order(Order::Names(Arc::new(SlotNames::of(slots))));
    }

    /// Targets are so from now on, by counter slot; those that are not named are well.
    pub fn health(&self, health: BTreeMap<u32, Health>) {
        self.order(Order::Health(health));
    }

    /// The fast path's ring has lost so many decisions in all.
    pub fn ring_lost(&self, count: u64) {
        self.order(Order::RingLost(count));
    }

    /// What it says of itself.
    pub fn report(&self) -> LogReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn order(&self, order: Order) {
        // Its end of the channel is there as long as the thread, which ends by order or not at all.
        let _ = self.orders.send(order);
    }
}

impl Drop for Journal {
    /// Writes what is there.
    fn drop(&mut self) {
        self.order(Order::End);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the decision log was not written to its end");
        }
    }
}

/// Decisions that were lost, as far as the log says so: in all, and of them told.
#[derive(Debug, Default)]
struct Lost([(u64, u64); Cause::ALL.len()]);

impl Lost {
    fn set(&mut self, cause: Cause, count: u64) {
        self.0[cause as usize].0 = count;
    }

    /// What was lost since the log last said so.
    fn take(&mut self) -> impl Iterator<Item = (Cause, u64)> {
        let untold = |(count, told): &mut (u64, u64)| count.saturating_sub(mem::replace(told, *count));
        Cause::ALL.into_iter().zip(self.0.each_mut().map(untold)).filter(|(_, count)| *count > 0)
    }
}

struct Writer {
    files: Files,
    names: Arc<SlotNames>,
    /// What has its name in the present file.
    named: HashSet<(Kind, u32)>,
    health: BTreeMap<u32, Health>,
    lost: Lost,
    /// When a file is tried after a failure.
    next_try: Instant,
    problem: Option<io::Error>,
    report: Arc<Mutex<LogReport>>,
}

impl Writer {
    async fn run(mut self, mut decisions: Subscription, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut ticks = interval(FLUSH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.begin();
        loop {
            tokio::select! {
                biased;
                // What was ordered before a decision was made may be what names it.
                order = orders.recv() => match order {
                    Some(Order::Names(names)) => self.names = names,
                    Some(Order::Health(health)) => self.follow_health(health),
                    Some(Order::RingLost(count)) => self.lost.set(Cause::Ring, count),
                    Some(Order::End) | None => break,
                },
                _ = ticks.tick() => self.tick(decisions.lost()),
                told = decisions.next() => match told {
                    Some(told) => self.write(&told.decision, told.one_in),
                    None => break,
                },
            }
        }
        while let Some(told) = decisions.try_next() {
            self.write(&told.decision, told.one_in);
        }
        self.tick(decisions.lost());
        if let Err(error) = self.files.close() {
            self.fail(&error);
        }
        self.tell(decisions.lost());
    }

    /// Begins a file, if it is time to.
    fn begin(&mut self) {
        if Instant::now() < self.next_try {
            return;
        }
        let closed = self.files.close();
        if let Err(error) = closed.and_then(|()| self.files.begin(now())) {
            self.fail(&error);
        }
        self.named.clear();
        for (slot, health) in mem::take(&mut self.health) {
            self.put_health(slot, health);
            self.health.insert(slot, health);
        }
    }

    fn write(&mut self, decision: &Decision, one_in: u32) {
        if !self.files.is_open() || self.files.is_full() {
            self.begin();
        }
        let chosen = &decision.chosen;
        self.name(Kind::Vip, chosen.vip);
        self.name(Kind::Service, chosen.service);
        self.name(Kind::Region, chosen.region);
        self.name(Kind::Target, chosen.account);
        chosen.targets().iter().for_each(|slot| self.name(Kind::Target, *slot));
        self.files.put(&Entry::Decision(Decision { one_in, ..decision.clone() }));
        if self.files.wants_flush() {
            self.flush();
        }
    }

    /// Writes a slot's name if the file does not have it.
    fn name(&mut self, kind: Kind, slot: u32) {
        if slot == NONE || !self.files.is_open() || self.named.contains(&(kind, slot)) {
            return;
        }
        if let Some(name) = self.names.get(kind, slot) {
            self.files.put(&Entry::Name { kind, slot, name: name.into() });
            self.named.insert((kind, slot));
        }
    }

    fn follow_health(&mut self, health: BTreeMap<u32, Health>) {
        let well_again: Vec<u32> =
            self.health.keys().filter(|slot| !health.contains_key(slot)).copied().collect();
        well_again.into_iter().for_each(|slot| self.put_health(slot, WELL));
        for (slot, now) in &health {
            if self.health.get(slot) != Some(now) {
                self.put_health(*slot, *now);
            }
        }
        self.health = health;
    }

    fn put_health(&mut self, target: u32, (up, factor): Health) {
        self.name(Kind::Target, target);
        self.files.put(&Entry::Health { time: now(), target, up, factor });
    }

    fn tick(&mut self, queue_full: u64) {
        if !self.files.is_open() || self.files.is_full() {
            self.begin();
        }
        self.lost.set(Cause::Queue, queue_full);
        self.lost.set(Cause::Disk, self.files.counts.failed);
        if self.files.is_open() {
            let time = now();
            self.lost.take().for_each(|(cause, count)| self.files.put(&Entry::Lost { time, cause, count }));
        }
        self.flush();
        self.tell(queue_full);
    }

    fn flush(&mut self) {
        let writes = self.files.waits();
        match self.files.flush() {
            Err(error) => self.fail(&error),
            Ok(()) if writes && self.problem.take().is_some() => {
                let lost = self.files.counts.failed;
                tracing::info!("the decision log is written again; {lost} decisions are not in it");
            }
            Ok(()) => {}
        }
    }

    /// Notes that the disk does not take what is written. What is new about it is logged, and not every failure.
    fn fail(&mut self, error: &io::Error) {
        self.next_try = Instant::now() + PATIENCE;
        let known = self.problem.as_ref().map(io::Error::kind);
        if known != Some(error.kind()) {
            tracing::error!(
                "the decision log cannot be written: {error}; answers go on, and what is not written is counted"
            );
        }
        self.problem = Some(io::Error::new(error.kind(), error.to_string()));
    }

    fn tell(&self, queue_full: u64) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.files = self.files.counts;
        report.queue_full = queue_full;
        report.problem = self.problem.as_ref().map(ToString::to_string);
    }
}
