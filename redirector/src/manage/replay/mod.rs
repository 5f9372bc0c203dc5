//! What would change for clients: the decisions of a log, made once more by the production code with another
//! configuration.
//!
//! Decisions are taken in the order of the log, in portions that all CPUs work on. Between portions the tables follow what
//! the log says of targets' health, and agreements begin and end by the time of the log.

mod ask;
mod report;
mod tally;

pub use ask::Outcome;
pub use report::{Load, Loss, Move, ReplayReport};

use super::view::View;
use crate::journal::{Decision, Entry, Kind, Names, Reader, SlotNames};
use crate::state::facts;
use crate::state::live::Live;
use ask::Asker;
use redirector_core::table::NONE;
use redirector_core::verdict::Reason;
use redirector_plan::model::TargetState;
use redirector_plan::peering::ServedFor;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::num::NonZero;
use std::path::Path;
use std::thread;
use tally::{Interner, Tally};

/// Decisions in memory at one time.
const PORTION: usize = 32_768;
const MICROS: u64 = 1_000_000;

/// What a decision was, or would be, with names as numbers of one interner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    reason: Reason,
    /// Whom the client is sent to first; [`NONE`]: nobody.
    target: u32,
    account: u32,
    service: u32,
}

/// A configuration that decisions are made by, and the health that they are made with.
struct Candidate {
    view: View,
    live: Live,
    states: Vec<TargetState>,
    /// Names of targets and services, by their numbers.
    targets: Vec<u32>,
    services: Vec<u32>,
    by_name: HashMap<u32, usize>,
}

impl Candidate {
    fn new(view: View, names: &mut Interner) -> Result<Self, String> {
        let generation = &view.generation;
        let live = Live::new(&generation.compiled, &generation.tables).map_err(|error| error.to_string())?;
        let network = &generation.config.network;
        let targets: Vec<u32> = network.targets.iter().map(|target| names.number(&target.name)).collect();
        // As logs name them: by what counts them.
        let slots = SlotNames::of(&view.slots);
        let service = |record: &redirector_core::table::Service| {
            slots.get(Kind::Service, record.counter).map_or(NONE, |name| names.number(name))
        };
        let services = generation.compiled.image.services.iter().map(service).collect();
        let by_name = targets.iter().enumerate().map(|(index, name)| (*name, index)).collect();
        let states = view.states();
        Ok(Self { live, states, targets, services, by_name, view })
    }

    /// Targets are as the log says of this time, in seconds since 1970.
    fn follow(&mut self, time: u64, health: &HashMap<u32, (bool, u16)>) -> Result<(), String> {
        let Self { view, live, states, by_name, .. } = self;
        let network = &view.generation.config.network;
        for fact in &mut view.facts {
            (fact.up, fact.factor) = (true, facts::FULL);
        }
        // Whether an agreement holds is the configuration's to say; how full it was, the log's.
        view.book.apply(network, &mut view.facts, time);
        for (name, (up, factor)) in health {
            let Some(index) = by_name.get(name) else { continue };
            let fact = &mut view.facts[*index];
            fact.factor = *factor;
            let account = network.peering.account_of(*index);
            fact.up &= *up || matches!(account, Some(ServedFor::Agreement { .. }));
        }
        view.generation.tables.set_clock(time);
        let now = view.states();
        let changed: Vec<usize> = (0..now.len()).filter(|index| now[*index] != states[*index]).collect();
        *states = now;
        if changed.is_empty() {
            return Ok(());
        }
        let generation = &view.generation;
        if live.follow(&generation.compiled, &generation.tables, &changed, states).is_ok() {
            return Ok(());
        }
        // More changed than there is room for: tables anew, as a box makes a new generation.
        view.rebuild(states)?;
        let generation = &view.generation;
        *live = Live::new(&generation.compiled, &generation.tables).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// What the decision would be; `None` if it cannot be made again.
    fn decide(&self, asker: &mut Asker, decision: &Decision) -> Option<Side> {
        let outcome = asker.ask(&self.view, decision)?;
        let name = |list: &[u32], number: u32| list.get(number as usize).copied().unwrap_or(NONE);
        Some(Side {
            reason: outcome.reason,
            target: name(&self.targets, outcome.target),
            account: name(&self.targets, outcome.account),
            service: name(&self.services, outcome.service),
        })
    }
}

/// A decision of a log, with the names of its file.
struct Recorded {
    decision: Decision,
    before: Side,
}

/// Replays logs. `against` is what decisions are compared with instead of what is recorded.
///
/// # Errors
/// What cannot be read, or made of the configurations.
pub fn replay(logs: &[impl AsRef<Path>], new: View, against: Option<View>) -> Result<ReplayReport, String> {
    let mut names = Interner::default();
    let new = Candidate::new(new, &mut names)?;
    let against = against.map(|view| Candidate::new(view, &mut names)).transpose()?;
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut replay = Replay {
        new,
        against,
        names,
        health: HashMap::new(),
        followed: None,
        portion: Vec::with_capacity(PORTION),
        askers: (0..threads).map(|_| Asker::default()).collect(),
        tally: Tally::default(),
        damage: Vec::new(),
        lost: BTreeMap::new(),
    };
    for log in logs {
        replay.file(log.as_ref())?;
    }
    replay.work()?;
    Ok(replay.report())
}

struct Replay {
    new: Candidate,
    against: Option<Candidate>,
    names: Interner,
    /// Of the file at hand: targets that are not well, by name.
    health: HashMap<u32, (bool, u16)>,
    /// The minute that tables are of; `None` if they must follow in any case.
    followed: Option<u64>,
    portion: Vec<Recorded>,
    askers: Vec<Asker>,
    tally: Tally,
    damage: Vec<String>,
    lost: BTreeMap<crate::journal::Cause, u64>,
}

impl Replay {
    fn file(&mut self, path: &Path) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut reader = Reader::open(path).map_err(told)?;
        // Each file tells of every target that is not well.
        self.work()?;
        self.health.clear();
        self.followed = None;
        let mut slots = HashMap::new();
        loop {
            let entry = match reader.next().map_err(told)? {
                None => return Ok(()),
                Some(Ok(entry)) => entry,
                Some(Err(damage)) => {
                    self.damage.push(format!("{}: {damage}", path.display()));
                    return Ok(());
                }
            };
            self.take(entry, &reader, &mut slots)?;
        }
    }

    fn take(
        &mut self,
        entry: Entry,
        reader: &Reader<File>,
        slots: &mut HashMap<(Kind, u32), u32>,
    ) -> Result<(), String> {
        match entry {
            Entry::Decision(decision) => self.decision(decision, reader.names(), slots),
            Entry::Health { target, up, factor, .. } => {
                self.work()?;
                let name = self.name(reader.names(), slots, Kind::Target, target);
                match (up, factor) {
                    (true, facts::FULL) => self.health.remove(&name),
                    _ => self.health.insert(name, (up, factor)),
                };
                self.followed = None;
                Ok(())
            }
            Entry::Lost { cause, count, .. } => {
                *self.lost.entry(cause).or_default() += count;
                Ok(())
            }
            Entry::Begin { .. } | Entry::Name { .. } => Ok(()),
        }
    }

    fn name(&mut self, names: &Names, slots: &mut HashMap<(Kind, u32), u32>, kind: Kind, slot: u32) -> u32 {
        if slot == NONE {
            return NONE;
        }
        if let Some(number) = slots.get(&(kind, slot)) {
            return *number;
        }
        let Some(name) = names.get(kind, slot) else { return self.names.number(&format!("slot {slot}")) };
        let number = self.names.number(name);
        slots.insert((kind, slot), number);
        number
    }

    fn decision(
        &mut self,
        decision: Decision,
        names: &Names,
        slots: &mut HashMap<(Kind, u32), u32>,
    ) -> Result<(), String> {
        let chosen = decision.chosen;
        let first = chosen.targets().first().copied().unwrap_or(NONE);
        let before = Side {
            reason: decision.reason,
            target: self.name(names, slots, Kind::Target, first),
            account: self.name(names, slots, Kind::Target, chosen.account),
            service: self.name(names, slots, Kind::Service, chosen.service),
        };
        // Agreements begin and end with minutes, and so do loads.
        let minute = decision.time / MICROS / 60;
        if self.followed.is_none_or(|followed| followed < minute) {
            self.work()?;
            self.follow(minute * 60)?;
        }
        self.portion.push(Recorded { decision, before });
        if self.portion.len() < PORTION { Ok(()) } else { self.work() }
    }

    fn follow(&mut self, time: u64) -> Result<(), String> {
        self.new.follow(time, &self.health)?;
        if let Some(against) = &mut self.against {
            against.follow(time, &self.health)?;
        }
        self.followed = Some(time / 60);
        Ok(())
    }

    /// Decides what waits.
    fn work(&mut self) -> Result<(), String> {
        if self.portion.is_empty() {
            return Ok(());
        }
        let (new, against) = (&self.new, self.against.as_ref());
        let part = self.portion.len().div_ceil(self.askers.len());
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let parts = self.portion.chunks(part).zip(&mut self.askers);
            let at_work: Vec<_> = parts
                .map(|(part, asker)| scope.spawn(move || Tally::of(part, new, against, asker)))
                .collect();
            at_work.into_iter().map(|one| one.join()).collect::<Result<_, _>>()
        })
        .map_err(|_| "a thread of the replay has panicked".to_owned())?;
        tallies.into_iter().for_each(|tally| self.tally.merge(tally));
        self.portion.clear();
        Ok(())
    }
}
