//! What is told and written of decisions, beside the generations that make them.

use crate::accounts::clients::{Heard, Wish};
use crate::config::{Clients, Config};
use crate::dataplane::{Dataplane, RingCounts};
use crate::journal::{Collector, Health, Hub, Journal, LogReport, Lost};
use crate::state::facts::{FULL, Fact};
use redirector_plan::counters::CounterSlots;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::error;

/// The hub, what feeds it, and the log that is fed by it.
#[derive(Debug)]
pub(super) struct Recording {
    hub: Arc<Hub>,
    collector: Collector,
    journal: Option<Journal>,
    /// What the ring had lost when this began to look.
    lost_before: Option<u64>,
    /// Clients, for collectors of accounts.
    pub(super) heard: Arc<Mutex<Heard>>,
}

impl Recording {
    /// Nothing is told yet.
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        let collector = Collector::new(Arc::clone(&hub));
        Self { hub, collector, journal: None, lost_before: None, heard: Arc::default() }
    }

    /// Before a generation is published: the log is as its configuration says, and knows the names that it will need.
    /// Gives how much the fast path is to tell.
    pub(super) fn prepare(&mut self, config: &Config, slots: &CounterSlots) -> u32 {
        if self.journal.as_ref().map(Journal::log) != config.log.as_ref() {
            self.journal = None;
            let start = |log| Journal::start(&self.hub, log, &config.box_.name, slots);
            self.journal = config.log.clone().and_then(|log| {
                start(log).inspect_err(|error| error!("decisions are not logged: {error}")).ok()
            });
        } else if let Some(journal) = &self.journal {
            journal.names(slots);
        }
        let collectors = &config.accounts.collectors;
        let wish = Wish {
            one_in: config.accounts.one_in,
            whole: collectors.iter().any(|one| one.clients == Clients::Address),
        };
        let wanted = collectors.iter().any(|one| !one.clients.is_none());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.want(&self.hub, wanted.then_some(wish));
        drop(heard);
        self.hub.fast()
    }

    /// After a generation was published. A failure is logged: answers go on without.
    pub(super) fn follow(&mut self, dataplane: &dyn Dataplane) {
        if let Err(error) = dataplane.ring().and_then(|ring| self.collector.follow(ring)) {
            error!("decisions of the fast path are not told: {error}");
        }
    }

    /// Targets are so from now on.
    pub(super) fn health(&self, facts: &[Fact], slots: &CounterSlots) {
        let Some(journal) = &self.journal else { return };
        let health = |fact: &Fact| -> Option<(u32, Health)> {
            let state = fact.state();
            let well = state.up && state.factor == FULL;
            (!well).then(|| (slots.target_slot(&fact.name), (state.up, state.factor)))
        };
        journal.health(facts.iter().filter_map(health).collect());
    }

    /// To be called about once a second: what the ring lost is noted.
    pub(super) fn tend(&mut self, dataplane: &dyn Dataplane) {
        let (Some(journal), Ok(counts)) = (&self.journal, dataplane.ring_counts()) else { return };
        let before = *self.lost_before.get_or_insert(counts.lost);
        journal.ring_lost(counts.lost.saturating_sub(before));
    }

    /// What became of the decisions that were told.
    pub(super) fn report(&self, dataplane: &dyn Dataplane) -> RecordingReport {
        let RingCounts { told, lost } = dataplane.ring_counts().unwrap_or_default();
        let subscribers = self.hub.lost().into_iter();
        RecordingReport {
            one_in: self.hub.fast(),
            told,
            ring_full: lost,
            unreadable: self.collector.unreadable(),
            queues_full: subscribers
                .map(|Lost { subscriber, decisions }| (subscriber.to_owned(), decisions))
                .collect(),
            log: self.journal.as_ref().map(Journal::report),
        }
    }

    /// What was told is taken, written, and then this ends.
    pub(super) fn stop(&mut self) {
        self.collector.stop();
        self.journal = None;
    }
}

/// What became of the decisions that were told; each is counted once, whatever it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingReport {
    /// One decision of the fast path in so many is told; 0: none.
    pub one_in: u32,
    /// Decisions that the fast path told since its counters were made.
    pub told: u64,
    /// Those that it did not tell, because the ring was full.
    pub ring_full: u64,
    /// Records in the ring that were none.
    pub unreadable: u64,
    /// What subscribers did not take in time, by their names.
    pub queues_full: BTreeMap<String, u64>,
    /// The decision log, if there is one.
    pub log: Option<LogReport>,
}

/// For people; nothing if nothing is told.
impl fmt::Display for RecordingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.one_in > 0 {
            let Self { one_in, told, ring_full, unreadable, .. } = self;
            writeln!(
                f,
                "decisions of the fast path: 1 in {one_in} told, {told} in all; {ring_full} lost because the ring was \
                 full, {unreadable} unreadable"
            )?;
        }
        for (name, lost) in self.queues_full.iter().filter(|(_, lost)| **lost > 0) {
            writeln!(f, "decisions that {name} did not take in time: {lost}")?;
        }
        let Some(log) = &self.log else { return Ok(()) };
        let files = &log.files;
        writeln!(
            f,
            "decision log in {}: {} written ({} bytes), {} not written; {} files with {} removed",
            log.directory,
            files.written,
            files.bytes,
            files.failed,
            files.removed_files,
            files.removed_decisions
        )?;
        log.problem
            .iter()
            .try_for_each(|problem| writeln!(f, "the decision log cannot be written: {problem}"))
    }
}
