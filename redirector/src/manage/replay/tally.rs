//! Counts what a replay finds.

use super::ask::Asker;
use super::{Candidate, MICROS, Recorded, Side};
use crate::journal::{Question, subnet};
use redirector_core::table::NONE;
use redirector_core::verdict::Reason;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

/// Questions that are kept of those that get no answer any more; more are counted alone.
const QUESTIONS: usize = 10_000;

/// Names as numbers.
#[derive(Debug, Default)]
pub(super) struct Interner {
    numbers: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
}

impl Interner {
    /// A name's number.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.into(), number);
        self.names.push(name.into());
        number
    }

    /// The name of a number; `-` stands for nobody.
    pub(super) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("-", AsRef::as_ref)
    }
}

/// Requests before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Both {
    pub(super) before: u64,
    pub(super) after: u64,
}

/// The busiest minute of a target, each side for itself, and the one at hand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Minutes {
    minute: u64,
    now: Both,
    pub(super) peak: Both,
    pub(super) all: Both,
}

impl Minutes {
    fn add(&mut self, minute: u64, both: Both) {
        if self.minute != minute {
            (self.minute, self.now) = (minute, Both::default());
        }
        self.now.before += both.before;
        self.now.after += both.after;
        self.peak.before = self.peak.before.max(self.now.before);
        self.peak.after = self.peak.after.max(self.now.after);
        self.all.before += both.before;
        self.all.after += both.after;
    }
}

/// What was counted. Decisions are counted once each, requests by what each decision stands for.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) decisions: u64,
    pub(super) requests: u64,
    /// Not made again: the log does not have the question, or it was over a limit.
    pub(super) skipped: u64,
    pub(super) moved: u64,
    pub(super) moved_requests: u64,
    /// Hashes of clients, or of the networks on whose behalf was asked.
    pub(super) clients: HashSet<u64>,
    pub(super) moved_clients: HashSet<u64>,
    pub(super) moves: HashMap<(u32, u32), u64>,
    pub(super) accounts: HashMap<(u32, u32), u64>,
    pub(super) services: HashMap<(u32, u32), u64>,
    pub(super) reasons: HashMap<(Reason, Reason), u64>,
    /// Of this portion alone, by target and minute.
    minutes: HashMap<(u32, u64), Both>,
    pub(super) loads: HashMap<u32, Minutes>,
    pub(super) stopped: HashMap<(Question, Reason), u64>,
    /// Requests for questions that found no room in `stopped`.
    pub(super) stopped_others: u64,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
}

/// Whether somebody is told where to go, or that there is nothing of the type asked for.
fn resolves(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::FirstTier
            | Reason::LaterTier
            | Reason::Fallback
            | Reason::VipAddress
            | Reason::Foreign
            | Reason::AllExcluded
            | Reason::NoDataType
            | Reason::ZoneRecord
            | Reason::CdsrRecord
    )
}

/// Whether what became of a question says nothing of the configuration: it was over a limit, or went round in circles.
fn by_history(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::LimitSlip
            | Reason::LimitDrop
            | Reason::LimitCdsr
            | Reason::LimitCdsrDrop
            | Reason::LimitPunt
            | Reason::LimitPuntAll
            | Reason::LimitPuntSlip
            | Reason::Loop
    )
}

impl Tally {
    /// Of a part of a portion.
    pub(super) fn of(
        part: &[Recorded],
        new: &Candidate,
        against: Option<&Candidate>,
        asker: &mut Asker,
    ) -> Self {
        let mut tally = Self::default();
        for recorded in part {
            let before = match against {
                Some(against) => against.decide(asker, &recorded.decision),
                None => Some(recorded.before).filter(|before| !by_history(before.reason)),
            };
            let after = new.decide(asker, &recorded.decision);
            tally.add(recorded, before.zip(after));
        }
        tally
    }

    fn add(&mut self, recorded: &Recorded, sides: Option<(Side, Side)>) {
        let decision = &recorded.decision;
        let weight = u64::from(decision.one_in.max(1));
        self.decisions += 1;
        self.requests += weight;
        let time = decision.time / MICROS;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        let Some((before, after)) = sides else {
            self.skipped += 1;
            return;
        };
        let mut hasher = DefaultHasher::new();
        match subnet(decision) {
            Some(network) if network.prefix_len() > 0 => network.hash(&mut hasher),
            _ => decision.client.ip().hash(&mut hasher),
        }
        let client = hasher.finish();
        self.clients.insert(client);
        for (target, both) in [
            (before.target, Both { before: weight, after: 0 }),
            (after.target, Both { before: 0, after: weight }),
        ] {
            if target != NONE {
                let minute = self.minutes.entry((target, time / 60)).or_default();
                minute.before += both.before;
                minute.after += both.after;
            }
        }
        if before == after {
            return;
        }
        if before.target != after.target {
            self.moved += 1;
            self.moved_requests += weight;
            self.moved_clients.insert(client);
            *self.moves.entry((before.target, after.target)).or_default() += weight;
        }
        if before.account != after.account {
            *self.accounts.entry((before.account, after.account)).or_default() += weight;
        }
        if before.service != after.service {
            *self.services.entry((before.service, after.service)).or_default() += weight;
        }
        if before.reason != after.reason {
            *self.reasons.entry((before.reason, after.reason)).or_default() += weight;
        }
        if resolves(before.reason) && !resolves(after.reason) {
            self.stop(Question::of(decision), after.reason, weight);
        }
    }

    fn stop(&mut self, question: Question, reason: Reason, weight: u64) {
        let room = self.stopped.len() < QUESTIONS;
        match self.stopped.entry((question, reason)) {
            Entry::Occupied(mut known) => *known.get_mut() += weight,
            Entry::Vacant(fresh) if room => {
                fresh.insert(weight);
            }
            Entry::Vacant(_) => self.stopped_others += weight,
        }
    }

    /// Adds what another one counted later.
    pub(super) fn merge(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.requests += other.requests;
        self.skipped += other.skipped;
        self.moved += other.moved;
        self.moved_requests += other.moved_requests;
        self.clients.extend(other.clients);
        self.moved_clients.extend(other.moved_clients);
        merge(&mut self.moves, other.moves);
        merge(&mut self.accounts, other.accounts);
        merge(&mut self.services, other.services);
        merge(&mut self.reasons, other.reasons);
        let mut minutes: Vec<_> = other.minutes.into_iter().collect();
        minutes.sort_unstable_by_key(|((target, minute), _)| (*minute, *target));
        for ((target, minute), both) in minutes {
            self.loads.entry(target).or_default().add(minute, both);
        }
        self.stopped_others += other.stopped_others;
        for ((question, reason), weight) in other.stopped {
            self.stop(question, reason, weight);
        }
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }
}

fn merge<K: Eq + Hash>(all: &mut HashMap<K, u64>, more: HashMap<K, u64>) {
    for (key, count) in more {
        *all.entry(key).or_default() += count;
    }
}
