//! What is known of each target beside its configuration: health and load, with ages.

use super::forces::{Force, State};
use super::load::{Quality, TargetLoad, now};
use crate::config::Config;
use crate::feed::health::{Outcome, Probed, Subject, WatchId};
use redirector_plan::model::{Network, TargetState};
use redirector_plan::overflow::{ALL, MAX_TERMS, Terms};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Factor of a target that gets its full share.
pub const FULL: u16 = 256;

/// Part of a target's clients, in 1/256, that go elsewhere because many say that it failed them: a quarter, never more.
const SHED: u16 = 64;

/// Many clients say that a target failed them, and its checks do not see it (ADR 22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The clients' region.
    pub region: String,
    /// How many prefixes of clients say so.
    pub prefixes: usize,
    /// Until when it sheds clients, in milliseconds of the clock that load is measured by.
    pub until: u64,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, prefixes, until } = self;
        let left = until.saturating_sub(now()).div_ceil(1000);
        write!(
            f,
            "failed clients of {prefixes} prefixes in region {region}: sheds a quarter for {left} s more"
        )
    }
}

/// What is known of one target.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Target's name.
    pub name: String,
    /// Passing its checks, or not checked.
    pub up: bool,
    /// Load factor in 1/256.
    pub factor: u16,
    /// What it keeps of that, in 1/256, because it got more than its share may be (P-11).
    pub kept: u16,
    /// How far away it is; `None` before it was ever reached.
    pub round_trip: Option<Duration>,
    /// When it came up or went down, or became known.
    pub since: SystemTime,
    /// What was wrong when it last went down.
    pub last_error: Option<String>,
    /// What is probed; `None` if it is not checked.
    pub subject: Option<Subject>,
    /// Its probes; `None` before they have begun.
    pub watch: Option<WatchId>,
    /// What recent probes measured; `None` before the first.
    pub probed: Option<Probed>,
    /// What is known of its load.
    pub load: TargetLoad,
    /// The part of its clients in 1/256 that it takes, by number of a tier's terms.
    pub open: [u16; MAX_TERMS],
    /// What many clients say of it, for a while.
    pub doubt: Option<Doubt>,
    /// What operators say of it, over everything else.
    pub force: Option<Arc<State>>,
}

impl Fact {
    /// Nothing is known of a target yet; it is taken to be up.
    fn unknown(name: &str, subject: Option<Subject>) -> Self {
        let (name, since) = (name.to_owned(), SystemTime::now());
        Self {
            name,
            up: true,
            factor: FULL,
            kept: FULL,
            round_trip: None,
            since,
            last_error: None,
            subject,
            watch: None,
            probed: None,
            load: TargetLoad::default(),
            open: [ALL; MAX_TERMS],
            doubt: None,
            force: None,
        }
    }

    /// Takes a change or a first outcome in.
    pub fn learn(&mut self, outcome: Outcome) {
        if self.up != outcome.is_ok() {
            (self.up, self.since) = (outcome.is_ok(), SystemTime::now());
        }
        match outcome {
            Ok(round_trip) => self.round_trip = Some(round_trip),
            Err(error) => self.last_error = Some(error),
        }
    }

    /// The load factor, less what many clients' word takes from it, and what it sheds itself: never none for these alone.
    fn lessened(&self) -> u16 {
        let word = if self.doubt.is_some() { FULL - SHED } else { FULL };
        let part = |factor: u16, of: u16| (u32::from(factor) * u32::from(of) / u32::from(FULL)) as u16;
        part(part(self.factor, word), self.kept).max(self.factor.min(1))
    }

    /// What probes measured of it.
    pub fn quality(&self) -> Quality {
        let micros = |round_trip: Duration| u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        Quality { round_trip: self.round_trip.map(micros), loss: self.probed.map(|probed| probed.loss) }
    }

    /// Lets the controller act on its load and quality at a time; whether it takes another part of its clients since.
    pub fn step(&mut self, now: u64, terms: &[Terms]) -> bool {
        let open = self.load.step(now, terms, self.quality());
        std::mem::replace(&mut self.open, open) != open
    }

    /// The part that decisions depend on.
    pub fn state(&self) -> TargetState {
        let round_trip = self.quality().round_trip;
        let (up, factor, open) = match self.force.as_ref().map(|said| said.force) {
            None => (self.up, self.lessened(), self.open),
            Some(Force::Up) => (true, FULL, [ALL; MAX_TERMS]),
            Some(Force::Down | Force::Drained) => (false, self.factor, self.open),
        };
        TargetState { up, factor, round_trip, open }
    }
}

/// States of all targets, in their order.
pub fn states(facts: &[Fact]) -> Vec<TargetState> {
    facts.iter().map(Fact::state).collect()
}

/// Takes over what is known of the targets' load, as it holds for this network and the terms of its tiers.
pub fn settle_loads(facts: &mut [Fact], known: &[Fact], network: &Network, terms: &[Terms]) {
    let by_name: HashMap<&str, &Fact> = known.iter().map(|fact| (fact.name.as_str(), fact)).collect();
    for (fact, target) in facts.iter_mut().zip(&network.targets) {
        if let Some(known) = by_name.get(fact.name.as_str()) {
            fact.load = known.load.clone();
        }
        fact.load.set_capacity(target.capacity);
        fact.open = fact.load.open(terms);
    }
}

/// Facts for the targets of `config`: those of `known` for targets that are probed as before, unknown ones for others.
/// `keep_load` keeps the load factors, too.
pub fn carry_over(config: &Config, known: &[Fact], keep_load: bool) -> Vec<Fact> {
    let subjects = config.network.targets.iter().zip(&config.checks).map(|(target, check)| {
        let addresses = [false, true].into_iter().filter_map(|v6| target.address(v6)).collect();
        let source = config.box_.management;
        (&target.name, check.clone().map(|check| Subject { addresses, source, check }))
    });
    let by_name: HashMap<&str, &Fact> = known.iter().map(|fact| (fact.name.as_str(), fact)).collect();
    let find = |name: &str| by_name.get(name).copied();
    subjects
        .map(|(name, subject)| match find(name) {
            Some(fact) if fact.subject == subject => {
                Fact { factor: if keep_load { fact.factor } else { FULL }, ..fact.clone() }
            }
            _ => Fact::unknown(name, subject),
        })
        .collect()
}
