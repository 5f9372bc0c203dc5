//! Load of targets: told through the control socket, counted where this box itself sends clients, and acted on at once
//! and each half second (P-12, P-22).

use super::agent::{Agent, Inner};
use crate::feed::failures::Orders;
use crate::feed::load::Told;
use crate::state::facts::{Doubt, Fact};
use crate::state::load::{Level, now};
use redirector_plan::overflow::{ALL, Limit, Terms};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

/// How often load is looked at: well within the second in which an overload must be acted on.
const TICK: Duration = Duration::from_millis(500);

/// Milliseconds for which a target sheds clients by their word.
const SHED_FOR: u64 = 60_000;

/// What is told of the load of targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// One for each target, in any order.
    pub reports: Vec<Told>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// How many were taken.
    pub taken: usize,
    /// Why the others were not, one line for each.
    pub refused: Vec<String>,
}

/// Load of a target and what follows from it, for explanations and statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// What is known; `None`: nothing is.
    pub level: Option<Level>,
    /// Percent above which it gives clients up, and at which it takes no new ones; `None`: no tier asks.
    pub thresholds: Option<(u8, u8)>,
    /// Part of its clients in 1/256 that it takes.
    pub open: u16,
    /// Why not all.
    pub limit: Option<Limit>,
}

impl LoadReport {
    /// Of a target in tiers with these terms; `None`: nothing is known or follows.
    pub fn new(fact: &Fact, terms: Option<&Terms>) -> Option<Self> {
        let valve = terms.and_then(|terms| fact.load.valve(terms));
        let level = fact.load.level(now());
        let (open, limit) = valve.map_or((ALL, None), |valve| (valve.part(), valve.limit()));
        let thresholds = terms.map(|terms| (terms.above, terms.full));
        (level.is_some() || limit.is_some()).then_some(Self { level, thresholds, open, limit })
    }

    /// By all terms that something follows from, or once if there are none.
    pub fn all(fact: &Fact, terms: &[Terms]) -> Vec<Self> {
        let limited: Vec<Self> = terms
            .iter()
            .filter_map(|terms| Self::new(fact, Some(terms)))
            .filter(|report| report.limit.is_some())
            .collect();
        if limited.is_empty() { Self::new(fact, None).into_iter().collect() } else { limited }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.level {
            None => f.write_str("load not known")?,
            Some(Level { percent, unit, age, influence, own, .. }) => {
                write!(f, "load {percent:.0} % of {unit}, {age:.1} s old")?;
                if *influence > 0.0 && *influence < 1.0 {
                    write!(f, " and counting {:.0} %", 100.0 * influence)?;
                }
                if *own > 0.0 {
                    write!(f, ", {own:.0} requests/s from here")?;
                }
            }
        }
        let Some(limit) = self.limit else { return Ok(()) };
        write!(f, ", takes {}/256 by {limit}", self.open)?;
        match self.thresholds {
            Some((above, full)) if limit == Limit::Load => write!(f, " (above {above} %, full at {full} %)"),
            _ => Ok(()),
        }
    }
}

impl Agent {
    /// Takes in what is told of targets' load, and acts on it. What is wrong is refused, and hinders nothing else.
    pub fn tell_loads(&self, batch: &Batch) -> Taken {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut inner = self.inner();
        let (now, mut result) = (now(), Taken::default());
        let index: HashMap<String, usize> =
            inner.facts.iter().enumerate().map(|(index, fact)| (fact.name.clone(), index)).collect();
        let mut told = Vec::new();
        for one in &batch.reports {
            let taken = one.report(now, unix).and_then(|report| {
                let unknown = || "there is no such target; `redirector stats` lists them".to_owned();
                let target = *index.get(&one.target).ok_or_else(unknown)?;
                inner.facts[target].load.report(&report)?;
                Ok(target)
            });
            match taken {
                Ok(target) => told.push(target),
                Err(problem) => result.refused.push(format!("target {:?}: {problem}", one.target)),
            }
        }
        result.taken = told.len();
        told.sort_unstable();
        told.dedup();
        self.act(&mut inner, &told, now);
        result
    }

    /// Lets the controller act on these targets.
    fn act(&self, inner: &mut Inner, targets: &[usize], now: u64) {
        let current = self.current.load();
        let terms = &current.compiled.terms;
        let mut changed = Vec::new();
        for index in targets {
            let fact = &mut inner.facts[*index];
            fact.probed = fact.watch.and_then(|watch| inner.prober.probed(watch));
            let before = fact.open;
            if !fact.step(now, terms) {
                continue;
            }
            changed.push(*index);
            for ((terms, before), after) in terms.iter().zip(before).zip(fact.open) {
                let why = fact.load.valve(terms).and_then(|valve| valve.limit());
                match (before, after, why) {
                    (256, 1.., Some(why)) => info!("target {} sheds clients: {why}", fact.name),
                    (1.., 0, Some(why)) => info!("target {} takes no new clients: {why}", fact.name),
                    (..256, 256, _) => info!("target {} takes all its clients again", fact.name),
                    _ => debug!("target {}: takes {after}/256 of its clients", fact.name),
                }
            }
        }
        if !changed.is_empty() {
            self.follow(inner, &changed);
        }
    }

    /// Looks at load again and again.
    pub(super) async fn keep_loads(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let agent = Arc::clone(&self);
            if let Err(panic) = spawn_blocking(move || agent.look_at_loads()).await {
                error!("load is not looked at: {panic}");
            }
        }
    }

    fn look_at_loads(&self) {
        let mut inner = self.inner();
        let now = now();
        let counted: Vec<usize> =
            (0..inner.facts.len()).filter(|index| inner.facts[*index].load.wants_counts()).collect();
        let slots: Vec<u32> =
            counted.iter().map(|index| inner.slots.target_slot(&inner.facts[*index].name)).collect();
        match inner.dataplane.target_counts(&slots) {
            Ok(counts) => {
                for ((index, slot), count) in counted.iter().zip(&slots).zip(counts) {
                    let count = count + self.shared.counters.target(*slot);
                    inner.facts[*index].load.count(now, count);
                }
            }
            Err(problem) => error!("what is sent to targets cannot be read: {problem}"),
        }
        let judged: Vec<usize> = (0..inner.facts.len())
            .filter(|index| {
                let fact = &inner.facts[*index];
                !fact.load.capacity().is_unknown() || fact.watch.is_some()
            })
            .collect();
        self.act(&mut inner, &judged, now);
        self.heed_clients(&mut inner, now);
    }

    /// Does what follows from clients' word of servers that failed them.
    fn heed_clients(&self, inner: &mut Inner, now: u64) {
        let Orders { probe, shed } = self.shared.failures().orders(now);
        let mut changed = Vec::new();
        for (index, fact) in inner.facts.iter_mut().enumerate() {
            if fact.doubt.as_ref().is_some_and(|doubt| doubt.until <= now) {
                info!("target {} gets back the clients that it shed by their word", fact.name);
                fact.doubt = None;
                changed.push(index);
            }
        }
        if !probe.is_empty() || !shed.is_empty() {
            let slots: HashMap<u32, usize> = (0..inner.facts.len())
                .map(|index| (inner.slots.target_slot(&inner.facts[index].name), index))
                .collect();
            let [_, regions, ..] = inner.slots.names();
            let region_of =
                |slot: u32| regions.iter().find(|(_, known)| **known == slot).map(|(name, _)| name);
            for watch in probe.iter().filter_map(|slot| inner.facts.get(*slots.get(slot)?)?.watch) {
                inner.prober.probe_soon(watch);
            }
            for ((target, region), prefixes) in shed {
                let Some(index) = slots.get(&target).copied() else { continue };
                let region = region_of(region).cloned().unwrap_or_else(|| "none".to_owned());
                let fact = &mut inner.facts[index];
                // One at a time: whatever more is said, no more is shed.
                if fact.doubt.is_none() {
                    let doubt = Doubt { region, prefixes, until: now + SHED_FOR };
                    warn!("target {} {doubt}", fact.name);
                    fact.doubt = Some(doubt);
                    changed.push(index);
                }
            }
        }
        if !changed.is_empty() {
            self.follow(inner, &changed);
        }
    }
}
