//! The load of a target: what was told of it, what this box sends there itself, how old that is, and what the
//! controller makes of it (P-12, P-22; ADR 21).
//!
//! A report counts in full for its lifetime. Then what it says is taken to fall evenly, to nothing in twice that time:
//! whoever goes silent comes back to its clients little by little, and what this box itself sends there counts on.

use redirector_plan::overflow::{ALL, Capacity, Evidence, MAX_TERMS, Terms, Valve};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a report counts in full unless it says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// In how many further lifetimes it loses all influence.
const FADE: f64 = 2.0;
/// Samples of a target's counter that are kept: for as long as reports are late.
const SAMPLES: usize = 60;
/// Requests that suffice to know a rate.
const ENOUGH: u64 = 200;
/// Longest time over which a rate is measured, in milliseconds.
const WINDOW: u64 = 5_000;

/// What the clock of a process says when it starts: later than any report counts.
const START: u64 = 3_600_000;

/// Milliseconds of the clock that load is measured by. It never goes back.
pub fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    START + BEGAN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// A unit in which load is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bits in a second.
    Bandwidth,
    /// Connections at one time.
    Connections,
    /// Requests in a second.
    Requests,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bandwidth, Self::Connections, Self::Requests];

    /// What a target can serve of it.
    pub fn of(self, capacity: &Capacity) -> Option<u64> {
        match self {
            Self::Bandwidth => capacity.bits,
            Self::Connections => capacity.connections,
            Self::Requests => capacity.requests,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bandwidth => "bandwidth",
            Self::Connections => "connections",
            Self::Requests => "requests",
        })
    }
}

/// What somebody tells of a target's load at one time. Times are milliseconds of the clock that [`TargetLoad`] is used with.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How much is in use, by unit.
    pub used: BTreeMap<Unit, u64>,
    /// When that was true.
    pub at: u64,
    /// How long it counts in full.
    pub lifetime: Duration,
}

/// A report of one unit, and what this box itself sent there in a second when it was made.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Told {
    used: u64,
    at: u64,
    lifetime: Duration,
    own: f64,
}

impl Told {
    /// Part of what it says that still counts.
    fn influence(&self, now: u64) -> f64 {
        let age = now.saturating_sub(self.at) as f64;
        let lifetime = self.lifetime.as_millis().max(1) as f64;
        (1.0 - (age / lifetime - 1.0) / FADE).clamp(0.0, 1.0)
    }
}

/// Load of a target in the unit where it is highest, for reports and explanations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Percent of the capacity.
    pub percent: f64,
    /// The unit.
    pub unit: Unit,
    /// Seconds since it was told or counted.
    pub age: f64,
    /// Part of what was told that still counts, 0 to 1.
    pub influence: f64,
    /// Requests a second that this box itself sends there.
    pub own: f64,
    /// When it was true.
    #[serde(skip)]
    at: u64,
}

/// What is known of a target's load, and what follows from it.
#[derive(Debug, Clone, Default)]
pub struct TargetLoad {
    capacity: Capacity,
    told: BTreeMap<Unit, Told>,
    /// When counters were read and what they said, the latest first.
    samples: VecDeque<(u64, u64)>,
    valves: BTreeMap<Terms, Valve>,
}

impl TargetLoad {
    /// Takes in how much the target can serve; what was told in units that it no longer has is forgotten.
    pub fn set_capacity(&mut self, capacity: Capacity) {
        self.capacity = capacity;
        self.told.retain(|unit, _| unit.of(&capacity).is_some());
        if capacity.is_unknown() {
            self.samples.clear();
        }
    }

    /// How much it can serve.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Whether what this box sends there has to be counted.
    pub fn wants_counts(&self) -> bool {
        self.capacity.requests.is_some()
    }

    /// Takes in what was told. What is older than what is known already changes nothing.
    ///
    /// # Errors
    /// If it speaks of a unit in which the target has no capacity; nothing is taken in then.
    pub fn report(&mut self, report: &Report) -> Result<(), String> {
        if self.capacity.is_unknown() {
            return Err("it has no capacity: give it a `capacity` in the configuration".to_owned());
        }
        if let Some(unit) = report.used.keys().find(|unit| unit.of(&self.capacity).is_none()) {
            return Err(format!("its capacity is not told in {unit}"));
        }
        // What was sent there when the report was made, and not now that it arrives.
        let own = self.own_at(report.at);
        for (unit, used) in &report.used {
            let told = Told { used: *used, at: report.at, lifetime: report.lifetime, own };
            if self.told.get(unit).is_none_or(|known| known.at < report.at) {
                self.told.insert(*unit, told);
            }
        }
        Ok(())
    }

    /// Takes in how often this box has sent somebody there.
    pub fn count(&mut self, now: u64, count: u64) {
        // Counters of a daemon that came later can begin anew.
        if self.samples.front().is_some_and(|(_, before)| *before > count) {
            self.samples.clear();
        }
        self.samples.truncate(SAMPLES - 1);
        self.samples.push_front((now, count));
    }

    /// Requests a second that this box sends there.
    fn own(&self) -> f64 {
        self.own_at(u64::MAX)
    }

    /// Requests a second that it sent there at a time: over as short a while before as suffices to know it.
    fn own_at(&self, time: u64) -> f64 {
        let mut samples = self.samples.iter().skip_while(|(at, _)| *at > time);
        let Some((now, count)) = samples.next() else { return 0.0 };
        let mut rate = 0.0;
        for (at, before) in samples.take_while(|(at, _)| now.saturating_sub(*at) <= WINDOW) {
            let counted = count - before;
            rate = counted as f64 * 1000.0 / now.saturating_sub(*at).max(1) as f64;
            if counted >= ENOUGH {
                break;
            }
        }
        rate
    }

    /// The load at a time; `None`: nothing is known.
    pub fn level(&self, now: u64) -> Option<Level> {
        let levels = Unit::ALL.into_iter().filter_map(|unit| self.level_in(unit, now));
        levels.max_by(|a, b| a.percent.total_cmp(&b.percent))
    }

    fn level_in(&self, unit: Unit, now: u64) -> Option<Level> {
        let capacity = unit.of(&self.capacity)?;
        let told = self.told.get(&unit);
        let influence = told.map_or(0.0, |told| told.influence(now));
        let counts = unit == Unit::Requests;
        let (own, counted) = (self.own(), self.samples.front().filter(|_| counts).map(|(at, _)| *at));
        // What others send there is as it was told; what this box sends is as it is now.
        let used = match told {
            Some(told) if counts && counted.is_some() => {
                (told.used as f64 - told.own).max(0.0) * influence + own
            }
            Some(told) => told.used as f64 * influence,
            None => {
                counted?;
                own
            }
        };
        let faded = told.filter(|_| influence < 1.0).map(|_| now);
        let at = [told.map(|told| told.at), counted, faded].into_iter().flatten().max()?;
        let truth = told.map(|told| told.at).or(counted).unwrap_or(now);
        let age = now.saturating_sub(truth) as f64 / 1000.0;
        let percent = 100.0 * used / capacity as f64;
        Some(Level { percent, unit, age, influence, own, at })
    }

    /// Lets the controller act on what is known, by these terms; gives the parts that the target takes.
    pub fn step(&mut self, now: u64, terms: &[Terms], quality: Quality) -> [u16; MAX_TERMS] {
        let level = self.level(now);
        let evidence = Evidence {
            load: level.map(|level| level.percent / 100.0),
            at: level.map_or(now, |level| level.at),
            lags: level.is_some_and(|level| level.unit != Unit::Requests),
            round_trip: quality.round_trip,
            loss: quality.loss,
        };
        self.valves.retain(|known, _| terms.contains(known));
        for terms in terms {
            self.valves.entry(*terms).or_default().step(now, terms, &evidence);
        }
        self.open(terms)
    }

    /// The parts that the target takes by these terms.
    pub fn open(&self, terms: &[Terms]) -> [u16; MAX_TERMS] {
        let mut open = [ALL; MAX_TERMS];
        for (part, terms) in open.iter_mut().zip(terms) {
            *part = self.valves.get(terms).map_or(ALL, Valve::part);
        }
        open
    }

    /// How it stands with these terms; `None`: nothing was ever known.
    pub fn valve(&self, terms: &Terms) -> Option<&Valve> {
        self.valves.get(terms)
    }
}

/// What probes measured of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    /// Microseconds.
    pub round_trip: Option<u32>,
    /// Part of recent probes that were lost.
    pub loss: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    fn target(capacity: Capacity) -> TargetLoad {
        let mut load = TargetLoad::default();
        load.set_capacity(capacity);
        load
    }

    fn streams() -> TargetLoad {
        target(Capacity { bits: Some(1000), connections: Some(100), requests: None })
    }

    fn told(unit: Unit, used: u64, at: u64) -> Report {
        Report { used: BTreeMap::from([(unit, used)]), at, lifetime: Duration::from_secs(10) }
    }

    fn percent(load: &TargetLoad, now: u64) -> f64 {
        load.level(now).map_or(f64::NAN, |level| level.percent.round())
    }

    #[test]
    fn the_fullest_unit_is_the_load() {
        let mut load = streams();
        assert_eq!(load.level(0), None, "nothing is known");
        load.report(&told(Unit::Bandwidth, 300, SECOND)).expect("bandwidth");
        load.report(&told(Unit::Connections, 80, SECOND)).expect("connections");
        let level = load.level(3 * SECOND).expect("told");
        assert_eq!((level.unit, level.percent, level.age), (Unit::Connections, 80.0, 2.0));
        let error = load.report(&told(Unit::Requests, 1, SECOND)).expect_err("no such capacity");
        assert!(error.contains("not told in requests"), "{error}");
        let error = TargetLoad::default().report(&told(Unit::Bandwidth, 1, 1)).expect_err("no capacity");
        assert!(error.contains("give it a `capacity`"), "{error}");
    }

    #[test]
    fn a_stale_report_loses_influence_evenly_and_never_suddenly() {
        let mut load = streams();
        load.report(&told(Unit::Bandwidth, 900, 0)).expect("bandwidth");
        let seen: Vec<f64> = (0..=40).map(|second| percent(&load, second * SECOND)).collect();
        assert!(seen[..=10].iter().all(|percent| *percent == 90.0), "in full for its lifetime: {seen:?}");
        assert_eq!((seen[20], seen[30], seen[40]), (45.0, 0.0, 0.0), "half, then nothing: {seen:?}");
        assert!(seen.windows(2).all(|pair| pair[0] - pair[1] <= 5.0), "no step is large: {seen:?}");
        assert_eq!(load.level(20 * SECOND).expect("told").influence, 0.5);
    }

    #[test]
    fn what_comes_late_does_not_replace_what_is_newer() {
        let mut load = streams();
        load.report(&told(Unit::Bandwidth, 500, 5 * SECOND)).expect("bandwidth");
        load.report(&told(Unit::Bandwidth, 900, 4 * SECOND)).expect("taken, and without effect");
        assert_eq!(percent(&load, 6 * SECOND), 50.0);
    }

    #[test]
    fn what_the_box_itself_sends_counts_beside_what_others_do() {
        let mut load = target(Capacity { requests: Some(1000), ..Capacity::default() });
        for second in 0..=2 {
            load.count(second * SECOND, second * 400);
        }
        assert_eq!(percent(&load, 2 * SECOND), 40.0, "without any report");
        // Others send 300 a second.
        load.report(&told(Unit::Requests, 700, 2 * SECOND)).expect("requests");
        assert_eq!(percent(&load, 2 * SECOND), 70.0);
        load.count(3 * SECOND, 800 + 600);
        assert_eq!(percent(&load, 3 * SECOND), 90.0, "this box sends 200 more since");
        for second in 4..=40 {
            load.count(second * SECOND, 1400 + (second - 3) * 600);
        }
        assert_eq!(percent(&load, 40 * SECOND), 60.0, "what others do is not known any more");
    }

    #[test]
    fn counters_that_begin_anew_are_no_load() {
        let mut load = target(Capacity { requests: Some(1000), ..Capacity::default() });
        load.count(0, 1_000_000);
        load.count(SECOND, 50);
        load.count(2 * SECOND, 350);
        assert_eq!(percent(&load, 2 * SECOND), 30.0);
    }

    #[test]
    fn a_capacity_that_changes_keeps_what_still_has_a_meaning() {
        let mut load = streams();
        load.report(&told(Unit::Bandwidth, 500, 0)).expect("bandwidth");
        load.report(&told(Unit::Connections, 90, 0)).expect("connections");
        load.set_capacity(Capacity { bits: Some(2000), ..Capacity::default() });
        assert_eq!(percent(&load, 0), 25.0);
    }
}
