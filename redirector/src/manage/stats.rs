//! What was answered, how, and how the targets are, with the operator's names.

use super::agreements::AgreementReport;
use super::built::BuildReport;
use super::forces::Forced;
use super::view::View;
use crate::dataplane::{FastCounters, Mode};
use crate::state::forces::{Force, State};
use redirector_core::verdict::Reason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of counter slot 0, which counts what has no name.
const NO_NAME: &str = "none";

/// Counts since the box started, by the names that operators use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By reason name.
    pub reasons: BTreeMap<String, u64>,
    /// By service.
    pub services: BTreeMap<String, u64>,
    /// By client region.
    pub regions: BTreeMap<String, u64>,
    /// By the target named first in the answer.
    pub targets: BTreeMap<String, u64>,
    /// By VIP.
    pub vips: BTreeMap<String, u64>,
}

/// Health and load of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its name.
    pub name: String,
    /// Passing its checks, or not checked; it is used otherwise if that is `forced`.
    pub up: bool,
    /// Load factor in 1/256.
    pub factor: u16,
    /// Measured round trip in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// When it came up or went down, or became known: seconds since 1970.
    pub since: u64,
    /// What was wrong when it last went down.
    pub last_error: Option<String>,
    /// What operators say of it, over everything else.
    #[serde(default)]
    pub forced: Option<State>,
}

/// Everything that `redirector stats` tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Name of the box.
    pub name: String,
    /// Number of the current generation.
    pub generation: u64,
    /// Number of the last change of health or load within it.
    pub epoch: u32,
    /// How many of its changes had to wait for a free share record; 0 unless hundreds come within milliseconds.
    pub record_waits: u64,
    /// How the generation was built.
    pub built: BuildReport,
    /// `native`, `generic` or `off`.
    pub xdp: String,
    /// Why there is no fast path.
    pub xdp_reason: Option<String>,
    /// What of the configuration on disk is not in effect, one line for each finding.
    pub refused: Vec<String>,
    /// Answered, punted or passed by the XDP program.
    pub fast: Counts,
    /// Answered by sockets.
    pub slow: Counts,
    /// By name.
    pub targets: Vec<TargetReport>,
    /// By name.
    #[serde(default)]
    pub agreements: Vec<AgreementReport>,
    /// What operators say of targets, pools, regions, VIPs and the box.
    #[serde(default)]
    pub states: Vec<Forced>,
}

impl Stats {
    /// Of a box at one moment.
    pub fn new(view: &View) -> Self {
        let (xdp, xdp_reason) = match &view.mode {
            Mode::Native => ("native", None),
            Mode::Generic => ("generic", None),
            Mode::Off(reason) => ("off", Some(reason.clone())),
        };
        let target = |fact: &crate::state::facts::Fact| TargetReport {
            name: fact.name.clone(),
            up: fact.up,
            factor: fact.factor,
            round_trip_ms: fact.round_trip.map(|round_trip| round_trip.as_secs_f64() * 1000.0),
            since: seconds(fact.since),
            last_error: fact.last_error.clone(),
            forced: fact.force.as_ref().map(|said| State::clone(said)),
        };
        Self {
            name: view.generation.config.box_.name.clone(),
            generation: view.generation.number,
            epoch: view.epoch,
            record_waits: view.record_waits,
            built: view.built,
            xdp: xdp.to_owned(),
            xdp_reason,
            refused: view.refused.clone(),
            fast: named(view, &view.fast),
            slow: named(view, &view.slow),
            targets: view.facts.iter().map(target).collect(),
            agreements: AgreementReport::all(&view.generation.config.network, &view.book),
            states: Forced::all(&view.generation.config.network, &view.forces),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

fn named(view: &View, counters: &FastCounters) -> Counts {
    let [services, regions, targets, vips] = view.slots.names();
    let by_slot = |names: &BTreeMap<String, u32>, counts: &BTreeMap<u32, u64>| {
        let names: BTreeMap<u32, &String> = names.iter().map(|(name, slot)| (*slot, name)).collect();
        let name = |slot: u32| match (slot, names.get(&slot)) {
            (_, Some(name)) => (*name).clone(),
            (0, None) => NO_NAME.to_owned(),
            (slot, None) => format!("slot {slot}"),
        };
        counts.iter().map(|(slot, count)| (name(*slot), *count)).collect()
    };
    let reason =
        |code: u16| Reason::from_code(code).map_or_else(|| format!("code {code}"), |r| r.name().into());
    Counts {
        reasons: counters.reasons.iter().map(|(code, count)| (reason(*code), *count)).collect(),
        services: by_slot(services, &counters.services),
        regions: by_slot(regions, &counters.regions),
        targets: by_slot(targets, &counters.targets),
        vips: by_slot(vips, &counters.vips),
    }
}

/// For people.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: generation {}, epoch {}", self.name, self.generation, self.epoch)?;
        writeln!(f, "{}", self.built)?;
        match &self.xdp_reason {
            Some(reason) => writeln!(f, "fast path: {} ({reason})", self.xdp)?,
            None => writeln!(f, "fast path: {}", self.xdp)?,
        }
        if self.record_waits > 0 {
            writeln!(f, "changes that waited for a free share record: {}", self.record_waits)?;
        }
        for finding in &self.refused {
            writeln!(f, "not in effect: {finding}")?;
        }
        writeln!(f, "\n{:<32} {:>14} {:>14}", "", "fast", "slow")?;
        for (kind, fast, slow) in [
            ("reason", &self.fast.reasons, &self.slow.reasons),
            ("service", &self.fast.services, &self.slow.services),
            ("region", &self.fast.regions, &self.slow.regions),
            ("target", &self.fast.targets, &self.slow.targets),
            ("vip", &self.fast.vips, &self.slow.vips),
        ] {
            let names: std::collections::BTreeSet<&String> = fast.keys().chain(slow.keys()).collect();
            for name in names {
                let count = |counts: &BTreeMap<String, u64>| counts.get(name).copied().unwrap_or(0);
                writeln!(f, "{:<32} {:>14} {:>14}", format!("{kind} {name}"), count(fast), count(slow))?;
            }
        }
        writeln!(f, "\n{}", self.summary())?;
        self.targets.iter().try_for_each(|target| writeln!(f, "{target}"))?;
        self.agreements.iter().try_for_each(|agreement| writeln!(f, "{agreement}"))?;
        self.states
            .iter()
            .try_for_each(|said| writeln!(f, "{} {} is {said}", said.state.kind, said.state.name))
    }
}

impl Stats {
    /// How many targets are used, and why others are not.
    fn summary(&self) -> String {
        let count = |words: &str| self.targets.iter().filter(|target| target.state() == words).count();
        let (up, forced_up) = (count("up"), count("FORCED UP"));
        let (down, forced_down) = (count("DOWN"), count("FORCED DOWN"));
        let drained = count("DRAINED");
        format!(
            "targets: {up} up, {down} down, {drained} drained, {forced_up} forced up, {forced_down} forced down"
        )
    }
}

impl TargetReport {
    /// How it is used, in words.
    fn state(&self) -> &'static str {
        match (self.forced.as_ref().map(|said| said.force), self.up) {
            (Some(Force::Drained), _) => "DRAINED",
            (Some(Force::Down), _) => "FORCED DOWN",
            (Some(Force::Up), _) => "FORCED UP",
            (None, true) => "up",
            (None, false) => "DOWN",
        }
    }
}

impl fmt::Display for TargetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = seconds(SystemTime::now());
        let state = self.state();
        let since = self.forced.as_ref().map_or(self.since, |said| said.since);
        let age = now.saturating_sub(since);
        write!(f, "target {:<24} {state:<5} for {age} s, load factor {}/256", self.name, self.factor)?;
        self.round_trip_ms.iter().try_for_each(|millis| write!(f, ", {millis:.1} ms away"))?;
        if self.forced.is_some() {
            write!(f, "; its checks say {}", if self.up { "up" } else { "down" })?;
        }
        self.last_error.iter().try_for_each(|error| write!(f, "; last went down: {error}"))
    }
}
