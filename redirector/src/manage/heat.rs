//! Watches how warm objects and servers are, and has the tables follow (P-11, P-12).

use super::agent::{Agent, Inner};
use crate::state::Generation;
use crate::state::facts::{self, Fact};
use crate::state::heat::{Asked, Bounded, Kept, Widths};
use redirector_core::table::SPILL;
use redirector_plan::model::{Affinity, TargetState};
use redirector_plan::shares::{GroupSpec, records};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tracing::error;

/// The span of time that is counted.
const SPAN: Duration = Duration::from_secs(1);

/// What was found so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Warmth {
    pub(super) widths: Widths,
    kept: Kept,
    /// What targets had answered when it was looked last, by counter slot.
    answered: HashMap<u32, u64>,
    looked: Option<Instant>,
}

impl Agent {
    pub(super) async fn keep_heat(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SPAN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.current.load().config.network.services.iter().any(|service| service.affinity.is_some()) {
                continue;
            }
            let agent = Arc::clone(&self);
            if let Err(panic) = spawn_blocking(move || agent.follow_heat()).await {
                error!("the heat of objects is not followed: {panic}");
            }
        }
    }

    /// Takes in what was asked for since it was looked last.
    fn follow_heat(&self) {
        let current = self.current.load_full();
        let mut guard = self.inner();
        let inner = &mut *guard;
        let now = Instant::now();
        let seconds = inner.warmth.looked.replace(now).map_or(SPAN, |looked| now - looked).as_secs_f64();
        let asked = self.asked(&current, inner);
        let services = &current.config.network.services;
        let affinity = |number: u32| -> Option<Affinity> {
            services.get(number as usize).and_then(|service| service.affinity)
        };
        if inner.warmth.widths.tick(seconds.max(0.1), &asked, affinity) {
            self.settle_objects(inner);
        }
        self.follow_bounds(&current, inner);
    }

    /// Requests for objects that lead, of both paths.
    fn asked(&self, current: &Generation, inner: &mut Inner) -> Vec<Asked> {
        let services = &current.compiled.image.services;
        let written = current.config.network.services.len();
        let numbers: HashMap<u32, u32> = services
            .iter()
            .take(written)
            .zip(0..)
            .map(|(service, number)| (service.counter, number))
            .collect();
        let fast = inner.dataplane.heat().into_iter();
        let fast = fast.map(|heat| (heat.hash, heat.service, heat.requests()));
        let slow = self.shared.counters.take_heat().into_iter();
        let one = |(hash, slot, requests): (u64, u32, u32)| {
            Some(Asked { hash, service: *numbers.get(&slot)?, requests: requests.into() })
        };
        fast.chain(slow).filter_map(one).collect()
    }

    /// Has targets that got more than they may shed some of it.
    fn follow_bounds(&self, current: &Generation, inner: &mut Inner) {
        let tiers = bounded(current, &inner.facts);
        let targets: BTreeSet<u16> =
            tiers.iter().flat_map(|tier| tier.shares.iter().map(|(target, _)| *target)).collect();
        let image = &current.compiled.image;
        let slots: Vec<u32> =
            targets.iter().map(|target| image.targets[usize::from(*target)].counter).collect();
        let Ok(fast) = inner.dataplane.target_counts(&slots) else { return };
        let mut got: HashMap<u16, f64> = HashMap::new();
        for ((target, slot), fast) in targets.iter().zip(&slots).zip(fast) {
            let sum = fast + self.shared.counters.target(*slot);
            // A target that was not looked at before has no span to count.
            let before = inner.warmth.answered.insert(*slot, sum).unwrap_or(sum);
            got.insert(*target, sum.saturating_sub(before) as f64);
        }
        if !inner.warmth.kept.tick(&tiers, |target| got.get(&target).copied().unwrap_or(0.0)) {
            return;
        }
        let kept = &inner.warmth.kept;
        let mut changed = Vec::new();
        for (target, fact) in inner.facts.iter_mut().enumerate() {
            let now = kept.factor(target as u16);
            if std::mem::replace(&mut fact.kept, now) != now {
                changed.push(target);
            }
        }
        self.follow(inner, &changed);
    }
}

/// The tiers that are in use somewhere for a service with a bound, and what their targets should get.
fn bounded(current: &Generation, facts: &[Fact]) -> Vec<Bounded> {
    let compiled = &current.compiled;
    let network = &current.config.network;
    // As they would be without what is shed.
    let states: Vec<TargetState> =
        facts.iter().map(|fact| Fact { kept: facts::FULL, ..fact.clone() }.state()).collect();
    let mut seen: BTreeSet<(usize, u16)> = BTreeSet::new();
    let mut tiers = Vec::new();
    for service in &network.services {
        let Some(bound) = service.affinity.and_then(|affinity| affinity.bound) else { continue };
        for region in 0..compiled.image.meta.regions {
            for v6 in [false, true] {
                let Some(spec) = compiled.cell_group(service.coverage, region, v6) else { continue };
                // Equal groups are one.
                if seen.insert((std::ptr::from_ref(spec) as usize, bound)) {
                    tiers.extend(in_use(spec, &states, f64::from(bound) / 100.0));
                }
            }
        }
    }
    tiers
}

fn in_use(spec: &GroupSpec, states: &[TargetState], bound: f64) -> Option<Bounded> {
    let block = records(spec, states)?;
    let root = block.first()?;
    // While tiers leave clients to each other, their loads say what is too much.
    let number = (root.branch != SPILL).then_some(root.tier)?;
    let tier = spec.tiers.iter().find(|tier| tier.number == number)?;
    let reach = tier.reach(states);
    let weight = |target: u16, weight: u64| {
        let state = states.get(usize::from(target)).copied().unwrap_or_default();
        let is_near = reach.is_none_or(|reach| state.round_trip.is_some_and(|away| away <= reach));
        if state.up && is_near { weight as f64 * f64::from(state.factor) } else { 0.0 }
    };
    let weights: Vec<(u16, f64)> =
        tier.members.iter().map(|member| (member.target, weight(member.target, member.weight))).collect();
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let shares = weights.into_iter().map(|(target, weight)| (target, weight / sum)).collect();
    (sum > 0.0).then_some(Bounded { shares, bound })
}
