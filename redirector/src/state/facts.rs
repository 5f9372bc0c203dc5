//! What is known of each target beside its configuration: health and load, with ages.

use super::forces::{Force, State};
use crate::config::Config;
use crate::feed::health::{Outcome, Subject, WatchId};
use redirector_plan::model::TargetState;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Factor of a target that gets its full share.
pub const FULL: u16 = 256;

/// What is known of one target.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Target's name.
    pub name: String,
    /// Passing its checks, or not checked.
    pub up: bool,
    /// Load factor in 1/256.
    pub factor: u16,
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
            round_trip: None,
            since,
            last_error: None,
            subject,
            watch: None,
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

    /// The part that decisions depend on.
    pub fn state(&self) -> TargetState {
        let micros = |round_trip: Duration| u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        let (up, factor) = match self.force.as_ref().map(|said| said.force) {
            None => (self.up, self.factor),
            Some(Force::Up) => (true, FULL),
            Some(Force::Down | Force::Drained) => (false, self.factor),
        };
        TargetState { up, factor, round_trip: self.round_trip.map(micros) }
    }
}

/// States of all targets, in their order.
pub fn states(facts: &[Fact]) -> Vec<TargetState> {
    facts.iter().map(Fact::state).collect()
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
