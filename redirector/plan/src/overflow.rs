//! Load and quality of targets to the part of its clients that each takes, by the terms of the tier (P-8, P-12).
//!
//! [`Valve`] is the controller: what is known of a target, its age, and the time go in, and a part in 1/256 comes out.
//! It holds what it did last and nothing else, so whoever simulates it sees what a box does (ADR 21).

use crate::model::{Network, Pool};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Most different terms of tiers.
pub const MAX_TERMS: usize = 8;
/// All of a target's clients.
pub const ALL: u16 = 256;

/// Milliseconds after a step down before which nothing that is told can show what came of it.
const SETTLE: u64 = 500;
/// Milliseconds that a valve stays as it is after it was closed further.
const HOLD: u64 = 3_000;
/// Milliseconds that quality has to be good before a target is used again.
const GOOD_FOR: u64 = 10_000;
/// Least part that is not none.
const LEAST: f64 = 1.0 / 256.0;
/// What a valve that was shut opens to first.
const AJAR: f64 = 1.0 / 16.0;
/// Growth in a second: of the part, and at least of the whole.
const GROWTH: (f64, f64) = (0.1, 1.0 / 64.0);
/// How far a load that lags is seen to go on as it went between the last two reports, in times between them.
const TREND: f64 = 1.5;
/// Smaller corrections are noise: as a part of what it is.
const NOISE: f64 = 0.03;
/// A valve that is shut opens again below this part of the load at which it begins to close.
const REOPEN: f64 = 0.9;
/// A round trip is good again below this part of the limit, loss below the other.
const GOOD: (f64, f64) = (0.8, 0.5);
/// A load is good again this much below the limit.
const GOOD_LOAD: f64 = 0.1;

/// How much a target can serve; load is the part of it that is in use, in the unit where that is most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Bits in a second.
    pub bits: Option<u64>,
    /// Connections at one time.
    pub connections: Option<u64>,
    /// Requests in a second.
    pub requests: Option<u64>,
}

impl Capacity {
    /// Whether nothing is told.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// When a tier is left although its targets are up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Terms {
    /// Percent of a target's capacity above which a growing part of its clients goes elsewhere.
    pub above: u8,
    /// Percent at which it gets no new ones.
    pub full: u8,
    /// Written by the operator: also the last tier is left when it is full, for the fallback or "retry later".
    pub strict: bool,
    /// Quality below which a target of the tier is not used.
    pub unless: Option<Unless>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { above: 90, full: 100, strict: false, unless: None }
    }
}

/// Measurements beyond which a target of a tier is not used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unless {
    /// Longest round trip in microseconds.
    pub round_trip: Option<u32>,
    /// Most lost probes in percent.
    pub loss: Option<u8>,
    /// Most load in percent.
    pub load: Option<u8>,
}

impl Terms {
    /// Whether they can ever matter for a tier; `limited`: it has a target with a capacity.
    fn matter(&self, limited: bool) -> bool {
        self.unless.is_some() || limited
    }
}

/// The terms that tiers of a network have, each once; a tier whose terms cannot matter has none. What they are numbered
/// by in [`crate::model::TargetState::open`].
pub fn terms(network: &Network) -> Vec<Terms> {
    let found: BTreeSet<Terms> = numbers(network).into_keys().map(|(terms, _)| terms).collect();
    found.into_iter().collect()
}

/// The number of each distinct terms together with the pools that they hold for.
pub(crate) type Numbers<'n> = HashMap<(Terms, &'n [(usize, u32)]), u8>;

/// The number of each tier's terms, by the terms and the pools. Tiers whose terms cannot matter are missing.
pub(crate) fn numbers(network: &Network) -> Numbers<'_> {
    let is_limited =
        |target: usize| network.targets.get(target).is_some_and(|one| !one.capacity.is_unknown());
    let pool_is_limited = |pool: &Pool| pool.members.iter().any(|(target, _)| is_limited(*target));
    let limited: Vec<bool> = network.pools.iter().map(pool_is_limited).collect();
    let mut found = HashMap::new();
    for tier in network.coverages.iter().flat_map(|coverage| &coverage.tiers) {
        let key = (tier.terms, tier.pools.as_slice());
        let limited = tier.pools.iter().any(|(pool, _)| limited.get(*pool) == Some(&true));
        if tier.terms.matter(limited) {
            found.insert(key, 0);
        }
    }
    let order: BTreeSet<Terms> = found.keys().map(|(terms, _)| *terms).collect();
    for ((terms, _), number) in &mut found {
        // More than there can be are refused.
        *number = order.range(..*terms).count().min(MAX_TERMS - 1) as u8;
    }
    found
}

/// Refuses more different terms than there is room for.
pub(crate) fn check(network: &Network, refusals: &mut Vec<Refusal>) {
    let count = terms(network).len();
    if count > MAX_TERMS {
        refusals.push(Refusal::of_network(
            "coverages",
            format!("tiers have {count} different `overflow` and `unless`, more than {MAX_TERMS}"),
            "give tiers the same ones",
        ));
    }
}

/// What is known of a target at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// Part of its capacity that is in use; more than 1 is possible. `None`: not known.
    pub load: Option<f64>,
    /// When that was true, in milliseconds. What was acted on is not acted on again.
    pub at: u64,
    /// It was told by somebody who counts sessions: it follows late what is decided about clients.
    pub lags: bool,
    /// Microseconds.
    pub round_trip: Option<u32>,
    /// Part of recent probes that were lost.
    pub loss: Option<f64>,
}

/// Why a target gets fewer clients of a tier than its share, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Its load is above `above`, or was a moment ago.
    Load,
    /// Its round trip is above that of `unless`.
    RoundTrip,
    /// More probes are lost than `unless` allows.
    Loss,
    /// Its load is above that of `unless`.
    UnlessLoad,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "load",
            Self::RoundTrip => "its round trip, by `unless`",
            Self::Loss => "lost probes, by `unless`",
            Self::UnlessLoad => "load, by `unless`",
        })
    }
}

/// How much of its clients a target takes under some terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Valve {
    /// 0 to 1.
    part: f64,
    /// What the part grows to, little by little.
    aim: f64,
    /// The evidence that was acted on last.
    acted: Option<u64>,
    /// When it was last closed further.
    closed: Option<u64>,
    /// When it was looked at last.
    seen: Option<u64>,
    /// The last load that was told and when, and the one before it.
    latest: Option<(u64, f64)>,
    before: Option<f64>,
    /// By the evidence that was acted on last the target was full.
    full: bool,
    /// What is wrong with its quality, and since when it looks good again.
    poor: Option<(Limit, Option<u64>)>,
}

impl Default for Valve {
    fn default() -> Self {
        let (acted, closed, seen, latest, before, poor) = (None, None, None, None, None, None);
        Self { part: 1.0, aim: 1.0, acted, closed, seen, latest, before, full: false, poor }
    }
}

impl Valve {
    /// The part in 1/256: 256 is all, 0 none.
    pub fn part(&self) -> u16 {
        if self.poor.is_some() {
            return 0;
        }
        // Within 0..=256.
        (self.part * f64::from(ALL)).round() as u16
    }

    /// Why it is not wide open.
    pub fn limit(&self) -> Option<Limit> {
        let by_load = || (self.part() < ALL).then_some(Limit::Load);
        self.poor.map(|(limit, _)| limit).or_else(by_load)
    }

    /// Takes in what is known at `now`, in milliseconds of any one clock.
    pub fn step(&mut self, now: u64, terms: &Terms, evidence: &Evidence) {
        let seen = self.seen.replace(now).unwrap_or(now);
        self.judge(now, terms.unless.as_ref(), evidence);
        if self.poor.is_some() {
            return;
        }
        match evidence.load {
            None => self.aim = 1.0,
            Some(load) => self.aim_by(now, terms, evidence, load),
        }
        let held = self.closed.is_some_and(|closed| now.saturating_sub(closed) < HOLD);
        if self.part < self.aim && !held {
            let seconds = now.saturating_sub(seen).min(2_000) as f64 / 1000.0;
            let step = (self.part * GROWTH.0).max(GROWTH.1) * seconds;
            self.part = (self.part + step).min(self.aim);
        }
    }

    /// Acts on a load: at once if the part is to shrink, and else by what it may grow to. What was true before the part
    /// shrank last tells nothing of what came of that.
    fn aim_by(&mut self, now: u64, terms: &Terms, evidence: &Evidence, load: f64) {
        if self.latest.is_none_or(|(at, _)| evidence.at > at) {
            self.before = self.latest.replace((evidence.at, load)).map(|(_, load)| load);
        }
        let is_news = self.acted.is_none_or(|acted| evidence.at > acted);
        let is_after = self.closed.is_none_or(|closed| evidence.at >= closed + SETTLE);
        if !is_news || !is_after {
            return;
        }
        // Where load lags behind what is decided, what it is about to be counts.
        let trend = self.before.filter(|_| evidence.lags).map_or(0.0, |before| TREND * (load - before));
        let ahead = (load + trend).clamp(0.0, 1.5 * load);
        let wanted = self.wanted(load, ahead, terms);
        let full = f64::from(terms.full) / 100.0;
        (self.acted, self.full) = (Some(evidence.at), load >= full);
        if wanted < self.part * (1.0 - NOISE) || (wanted == 0.0 && self.part > 0.0) {
            (self.part, self.aim, self.closed) = (wanted, wanted, Some(now));
        } else {
            self.aim = if wanted > self.part * (1.0 + NOISE) { wanted } else { self.part };
        }
    }

    /// The part at which load would come to lie on the line from all at `above` to none at `full`, if load followed the
    /// part at once. Where it does not, this comes closer step by step.
    fn wanted(&self, load: f64, ahead: f64, terms: &Terms) -> f64 {
        let (above, full) = (f64::from(terms.above) / 100.0, f64::from(terms.full) / 100.0);
        if self.part == 0.0 {
            return if load.max(ahead) < above * REOPEN { AJAR } else { 0.0 };
        }
        let fitting = (full / (full - above + ahead / self.part)).min(1.0);
        if load < full || !self.full {
            return fitting;
        }
        // It is full still: what a full server says of its load tells nothing of the demand.
        let halved = fitting.min(self.part / 2.0);
        if halved < LEAST { 0.0 } else { halved }
    }

    /// Whether quality allows the target to be used: at once no longer, and after a while of good quality again.
    fn judge(&mut self, now: u64, unless: Option<&Unless>, evidence: &Evidence) {
        let Some(unless) = unless else {
            self.poor = None;
            return;
        };
        if let Some(limit) = unless.broken(evidence, (1.0, 1.0), 0.0) {
            self.poor = Some((limit, None));
            return;
        }
        let Some((limit, since)) = self.poor else { return };
        let since = match unless.broken(evidence, GOOD, GOOD_LOAD) {
            Some(_) => None,
            None => Some(since.unwrap_or(now)),
        };
        self.poor = Some((limit, since));
        if since.is_some_and(|since| now.saturating_sub(since) >= GOOD_FOR) {
            (self.poor, self.part, self.aim) = (None, AJAR, AJAR);
        }
    }
}

impl Unless {
    /// The first limit, as `parts` of round trip and loss and less by `load`, that a target is beyond.
    fn broken(&self, evidence: &Evidence, parts: (f64, f64), load: f64) -> Option<Limit> {
        let beyond = |measured: Option<f64>, limit: Option<f64>| {
            measured.zip(limit).is_some_and(|(measured, limit)| measured > limit)
        };
        let percent = |limit: u8| f64::from(limit) / 100.0;
        if beyond(evidence.round_trip.map(f64::from), self.round_trip.map(|limit| f64::from(limit) * parts.0))
        {
            return Some(Limit::RoundTrip);
        }
        if beyond(evidence.loss, self.loss.map(|limit| percent(limit) * parts.1)) {
            return Some(Limit::Loss);
        }
        beyond(evidence.load, self.load.map(|limit| percent(limit) - load)).then_some(Limit::UnlessLoad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { above: 80, full: 95, strict: true, unless: None };

    fn known(load: f64, at: u64) -> Evidence {
        Evidence { load: Some(load), at, ..Evidence::default() }
    }

    /// Steps each half second while load follows `demand` × part within `lag` seconds; the load and the part after each.
    fn run(valve: &mut Valve, demand: impl Fn(u64) -> f64, lag: f64, steps: u64) -> Vec<(f64, f64)> {
        let mut load = demand(0);
        (1..=steps)
            .map(|step| {
                let now = step * 500;
                let aim = demand(step) * f64::from(valve.part()) / 256.0;
                load += (aim - load) * (0.5 / lag).min(1.0);
                valve.step(now, &TERMS, &known(load, now));
                (load, f64::from(valve.part()) / 256.0)
            })
            .collect()
    }

    #[test]
    fn below_the_threshold_nothing_happens() {
        let mut valve = Valve::default();
        let told = run(&mut valve, |_| 0.79, 1.0, 200);
        assert!(told.iter().all(|(_, part)| *part == 1.0), "{told:?}");
        assert_eq!(valve.limit(), None);
    }

    #[test]
    fn between_the_thresholds_a_growing_part_goes_elsewhere() {
        let settled = |demand: f64| {
            let told = run(&mut Valve::default(), |_| demand, 0.5, 200);
            let (load, part) = told[150];
            let late = told[150..].iter().map(|(load, _)| *load);
            let (low, high) = (late.clone().fold(f64::MAX, f64::min), late.fold(0.0, f64::max));
            assert!(high - low < 0.02, "demand {demand} swings between {low} and {high}");
            (load, part)
        };
        let mut before = (0.8, 1.0);
        for demand in [0.85, 0.95, 1.2, 2.0, 5.0] {
            let (load, part) = settled(demand);
            assert!(load > before.0 - 0.01 && load < 0.95, "demand {demand}: load {load} after {before:?}");
            assert!(part < before.1, "demand {demand}: part {part} after {before:?}");
            before = (load, part);
        }
    }

    #[test]
    fn at_full_no_new_client_comes_and_later_they_come_back_little_by_little() {
        let mut valve = Valve::default();
        // Sessions stay whatever the part is: the server says that it is full.
        for second in 1..=10 {
            valve.step(second * 1000, &TERMS, &known(1.0, second * 1000));
        }
        assert_eq!((valve.part(), valve.limit()), (0, Some(Limit::Load)));
        // A little less than full is not enough to take clients again,
        for second in 11..=30 {
            valve.step(second * 1000, &TERMS, &known(0.75, second * 1000));
            assert_eq!(valve.part(), 0, "second {second}");
        }
        // and then they come slowly.
        let mut before = 0;
        for second in 31..=90 {
            valve.step(second * 1000, &TERMS, &known(0.3, second * 1000));
            assert!(
                valve.part() >= before && valve.part() - before <= 64,
                "from {before} to {}",
                valve.part()
            );
            before = valve.part();
        }
        assert_eq!(valve.part(), ALL);
    }

    #[test]
    fn an_overload_is_acted_on_at_the_first_word_of_it() {
        let mut valve = Valve::default();
        valve.step(1000, &TERMS, &known(0.5, 1000));
        valve.step(1500, &TERMS, &known(2.0, 1400));
        assert!(valve.part() <= 128, "{valve:?}");
    }

    #[test]
    fn one_report_is_acted_on_once() {
        let mut valve = Valve::default();
        valve.step(1000, &TERMS, &known(0.94, 900));
        let part = valve.part();
        assert!(part < ALL);
        for step in 3..9 {
            valve.step(step * 500, &TERMS, &known(0.94, 900));
        }
        assert_eq!(valve.part(), part, "what follows from it cannot be seen in it");
        valve.step(5000, &TERMS, &known(0.94, 4900));
        assert!(valve.part() < part);
    }

    #[test]
    fn a_lower_threshold_moves_its_clients_first() {
        let (ordinary, premium) = (Terms { above: 60, full: 80, ..TERMS }, TERMS);
        let (mut one, mut other) = (Valve::default(), Valve::default());
        for second in 1..=20 {
            one.step(second * 1000, &ordinary, &known(0.79, second * 1000));
            other.step(second * 1000, &premium, &known(0.79, second * 1000));
        }
        assert!(one.part() < 64 && other.part() == ALL, "{one:?} {other:?}");
    }

    #[test]
    fn quality_below_the_limit_closes_at_once_and_has_to_be_good_for_a_while() {
        let unless = Unless { round_trip: Some(80_000), loss: Some(10), load: None };
        let terms = Terms { unless: Some(unless), ..Terms::default() };
        let measured = |round_trip, loss| Evidence {
            round_trip: Some(round_trip),
            loss: Some(loss),
            ..Evidence::default()
        };
        let mut valve = Valve::default();
        valve.step(1000, &terms, &measured(79_000, 0.1));
        assert_eq!(valve.part(), ALL, "at the limits it is good");
        valve.step(2000, &terms, &measured(81_000, 0.0));
        assert_eq!((valve.part(), valve.limit()), (0, Some(Limit::RoundTrip)));
        // Hovering about the limit moves nobody to and fro.
        for second in 3..60 {
            valve.step(second * 1000, &terms, &measured(70_000 + second as u32 % 2 * 12_000, 0.0));
            assert_eq!(valve.part(), 0, "second {second}");
        }
        for second in 60..70 {
            valve.step(second * 1000, &terms, &measured(40_000, 0.0));
            assert_eq!(valve.part(), 0, "second {second}");
        }
        valve.step(70_000, &terms, &measured(40_000, 0.0));
        assert!((1..64).contains(&valve.part()), "a few at first: {valve:?}");
        for second in 71..120 {
            valve.step(second * 1000, &terms, &measured(40_000, 0.0));
        }
        assert_eq!(valve.part(), ALL);
        valve.step(120_000, &terms, &measured(40_000, 0.11));
        assert_eq!(valve.limit(), Some(Limit::Loss));
    }

    #[test]
    fn what_is_not_known_closes_nothing_and_lets_go_slowly() {
        let mut valve = Valve::default();
        for second in 1..=10 {
            valve.step(second * 1000, &TERMS, &known(1.0, second * 1000));
        }
        let mut seen = Vec::new();
        for second in 11..60 {
            valve.step(second * 1000, &TERMS, &Evidence { at: second * 1000, ..Evidence::default() });
            seen.push(valve.part());
        }
        assert!(seen.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] - pair[0] <= 64), "{seen:?}");
        assert_eq!(seen.last(), Some(&ALL));
    }
}
