//! Why a client gets what it gets: from the tables' numbers back to what the operator wrote (invariant 7, A-11).
//!
//! The tables decide; nothing here does. Which tier is in use comes from [`crate::shares::records`], which also wrote
//! the tables, and rules are found by the zone and order number of the entry that a look-up returned.

use crate::compile::Compiled;
use crate::model::{Grammar, LabelRule, Network, Origin, Outcome, TargetState, Tier, UrlRule};
use crate::names::{ZoneSource, values};
use crate::shares::{GroupSpec, Kind, TierSpec, records};
use redirector_core::table::{NONE, TIER_FALLBACK};
use serde::Serialize;
use std::fmt;

/// A target that the configuration names for a client, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Place of its tier among those that apply to the region, 0 first; 255 is the service's fallback.
    pub tier: u8,
    /// Where the tier, or the service with the fallback, was written.
    pub tier_origin: Origin,
    /// Index into the network's targets.
    pub target: usize,
    /// Its name.
    pub name: String,
    /// Pools of the tier that it is in.
    pub pools: Vec<String>,
    /// Its configured share of the tier's clients in percent; 0 if it cannot serve the family.
    pub share: f64,
    /// Passing its health checks.
    pub up: bool,
    /// Load factor in 1/256.
    pub factor: u16,
    /// Measured round trip in microseconds.
    pub round_trip: Option<u32>,
    /// What takes it out of the choice; `None`: clients are sent there.
    pub removed: Option<Removal>,
}

/// Why a candidate gets no clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Removal {
    /// It is no server, and the client was found to get one.
    NotServer,
    /// It has no IPv4 address.
    NoIpv4Address,
    /// It has no IPv6 address.
    NoIpv6Address,
    /// It fails its health checks.
    Down,
    /// Its load factor is 0.
    Overloaded,
    /// Nearer targets of its tier are usable.
    TooFar {
        /// Its round trip in microseconds; `None`: not measured, which counts as farthest.
        round_trip: Option<u32>,
        /// The longest that gets clients.
        reach: u32,
    },
    /// Its tier is not reached.
    NotReached {
        /// Its own tier.
        tier: u8,
        /// The tier before it that has usable targets.
        used: u8,
    },
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServer => f.write_str("no server, and by its shares this client gets one"),
            Self::NoIpv4Address => f.write_str("no IPv4 address"),
            Self::NoIpv6Address => f.write_str("no IPv6 address"),
            Self::Down => f.write_str("down"),
            Self::Overloaded => f.write_str("overloaded: its load factor is 0"),
            Self::TooFar { round_trip: Some(measured), reach } => {
                let millis = |micros: &u32| f64::from(*micros) / 1000.0;
                let (measured, reach) = (millis(measured), millis(reach));
                write!(f, "too far: {measured:.1} ms, and targets within {reach:.1} ms are usable")
            }
            Self::TooFar { round_trip: None, .. } => {
                f.write_str("too far: not measured, and targets that are measured are usable")
            }
            Self::NotReached { tier: TIER_FALLBACK, used } => {
                write!(f, "fallback not reached: tier {used} has usable targets")
            }
            Self::NotReached { tier, used } => {
                write!(f, "tier {tier} not reached: tier {used} has usable targets")
            }
        }
    }
}

/// Every target of every tier of a coverage that applies to a region (number as in verdicts, 0 is none), tier by tier.
pub fn candidates(
    compiled: &Compiled,
    network: &Network,
    coverage: usize,
    region: u32,
    kind: Kind,
    states: &[TargetState],
) -> Vec<Candidate> {
    let spec = compiled.kind_group(coverage, region, kind);
    let used = spec.and_then(|spec| tier_in_use(spec, states));
    let class = compiled.classes.get(region as usize);
    let index = class.and_then(|class| (class.region as usize).checked_sub(1));
    let tiers = network.coverages.get(coverage).map_or(&[][..], |coverage| &coverage.tiers);
    let applying = tiers.iter().filter(|tier| tier.region.is_none() || tier.region == index);
    let mut found = Vec::new();
    for (place, tier) in applying.enumerate() {
        let spec = spec.and_then(|spec| spec.tiers.iter().find(|spec| spec.number as usize == place));
        let context =
            Context { network, number: place as u8, origin: &tier.origin, spec, used, kind, states };
        found.extend(
            tier_targets(network, tier).into_iter().map(|(target, pools)| context.candidate(target, pools)),
        );
    }
    found
}

/// On whose account a provider's content can be served, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// Index into the network's targets: an agreement, the network's own servers, or what leads to the provider's CDN.
    pub target: usize,
    /// The part of clients that it gets, in percent.
    pub share: f64,
    /// Why it gets none.
    pub removed: Option<AccountRemoval>,
}

/// Why an account gets no clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountRemoval {
    /// It does not hold.
    Lapsed,
    /// It is full.
    Full,
    /// No server that it leads to is usable.
    NoServer,
    /// Those before it take all.
    NotReached,
}

impl fmt::Display for AccountRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lapsed => "not in force",
            Self::Full => "full",
            Self::NoServer => "no server for the client's region is usable",
            Self::NotReached => "not reached: those before it take all",
        })
    }
}

/// The accounts of a provider's service for clients of a region number, in order of use; none for other services.
pub fn accounts(compiled: &Compiled, service: usize, region: u32, states: &[TargetState]) -> Vec<Account> {
    let row = compiled.provided.get(&service);
    let Some(spec) = row.and_then(|row| compiled.cell_group(*row as usize, region, false)) else {
        return Vec::new();
    };
    let parts = spec.parts(states);
    let total: u128 = parts.iter().map(|(_, weight)| weight).sum();
    let account = |tier: &TierSpec| {
        let target = tier.members.first()?.target;
        let part = parts.iter().find(|(name, _)| *name == target);
        let state = states.get(target as usize).copied().unwrap_or_default();
        let removed = match part {
            Some(_) => None,
            _ if !state.up => Some(AccountRemoval::Lapsed),
            _ if state.factor == 0 => Some(AccountRemoval::Full),
            _ if !tier.leads_on(states) => Some(AccountRemoval::NoServer),
            _ => Some(AccountRemoval::NotReached),
        };
        let share = part.map_or(0.0, |(_, weight)| 100.0 * *weight as f64 / total as f64);
        Some(Account { target: target.into(), share, removed })
    };
    spec.tiers.iter().filter_map(account).collect()
}

/// The targets of a service's fallback, which is reached if no tier of its coverage has a usable one.
pub fn fallback_candidates(
    compiled: &Compiled,
    network: &Network,
    service: usize,
    region: u32,
    kind: Kind,
    states: &[TargetState],
) -> Vec<Candidate> {
    let services = &compiled.image.services;
    let (Some(service), Some(record)) = (network.services.get(service), services.get(service)) else {
        return Vec::new();
    };
    let chooser = if kind == Kind::Any { services.get(record.outcomes as usize) } else { Some(record) };
    let group = chooser.map_or(NONE, |chooser| chooser.fallback[(kind == Kind::Ipv6) as usize]);
    let tiers = compiled.kind_group(service.coverage, region, kind);
    let spec = compiled.groups.get(group as usize);
    let used = tiers.and_then(|tiers| tier_in_use(tiers, states)).or_else(|| tier_in_use(spec?, states));
    let context = Context {
        network,
        number: TIER_FALLBACK,
        origin: &service.origin,
        spec: spec.and_then(|spec| spec.tiers.first()),
        used,
        kind,
        states,
    };
    service.fallback.iter().map(|target| context.candidate(*target, Vec::new())).collect()
}

fn tier_in_use(spec: &GroupSpec, states: &[TargetState]) -> Option<u8> {
    records(spec, states).map(|block| block[0].tier)
}

/// Targets of a tier in order, each once, with the names of its pools.
fn tier_targets(network: &Network, tier: &Tier) -> Vec<(usize, Vec<String>)> {
    let mut found = std::collections::BTreeMap::<usize, Vec<String>>::new();
    for (pool, _) in &tier.pools {
        let pool = &network.pools[*pool];
        for (target, _) in &pool.members {
            let pools = found.entry(*target).or_default();
            if pools.last() != Some(&pool.name) {
                pools.push(pool.name.clone());
            }
        }
    }
    found.into_iter().collect()
}

/// What the candidates of one tier have in common.
struct Context<'c> {
    network: &'c Network,
    number: u8,
    origin: &'c Origin,
    /// The tier as compiled for the family, if it has any target of it.
    spec: Option<&'c TierSpec>,
    /// The tier whose targets get the clients.
    used: Option<u8>,
    kind: Kind,
    states: &'c [TargetState],
}

impl Context<'_> {
    fn candidate(&self, target: usize, pools: Vec<String>) -> Candidate {
        let TargetState { up, factor, round_trip } = self.states.get(target).copied().unwrap_or_default();
        let reach = self.spec.and_then(|spec| spec.reach(self.states));
        let share = self.spec.and_then(|spec| {
            let member = spec.members.iter().find(|member| member.target as usize == target)?;
            let total: u128 = spec.members.iter().map(|member| member.weight as u128).sum();
            Some(100.0 * member.weight as f64 / total as f64)
        });
        let removed = match (share, self.used) {
            (None, _) if self.network.targets[target].outcome != Outcome::Server => Some(Removal::NotServer),
            (None, _) if self.kind == Kind::Ipv6 => Some(Removal::NoIpv6Address),
            (None, _) => Some(Removal::NoIpv4Address),
            _ if !up => Some(Removal::Down),
            _ if factor == 0 => Some(Removal::Overloaded),
            (_, Some(used)) if used != self.number => Some(Removal::NotReached { tier: self.number, used }),
            _ => reach
                .filter(|reach| round_trip.is_none_or(|round_trip| round_trip > *reach))
                .map(|reach| Removal::TooFar { round_trip, reach }),
        };
        Candidate {
            tier: self.number,
            tier_origin: self.origin.clone(),
            target,
            name: self.network.targets[target].name.clone(),
            pools,
            share: share.unwrap_or(0.0),
            up,
            factor,
            round_trip,
            removed,
        }
    }
}

impl Compiled {
    /// Share group of a coverage and region number for one kind of targets; `None` if no tier applies.
    fn kind_group(&self, coverage: usize, region: u32, kind: Kind) -> Option<&GroupSpec> {
        let coverage = match kind {
            Kind::Any => (*self.outcomes.get(coverage)?)? as usize,
            Kind::Ipv4 | Kind::Ipv6 => coverage,
        };
        self.cell_group(coverage, region, kind == Kind::Ipv6)
    }

    /// Share group of a coverage, region number and family; `None` if no tier applies.
    pub fn cell_group(&self, coverage: usize, region: u32, v6: bool) -> Option<&GroupSpec> {
        let regions = self.image.meta.regions as usize;
        if region as usize >= regions {
            return None;
        }
        let cell = (coverage * 2 + v6 as usize) * regions + region as usize;
        let group = self.image.cells.get(cell / 16)?.words[cell % 16];
        if group == NONE { None } else { self.groups.get(group as usize) }
    }

    /// The grammar behind a name entry: `zone` and `order` as the look-ups returned them, `codepoint` the labels
    /// before the suffix. `None` for partial names.
    pub fn grammar<'n>(
        &self,
        network: &'n Network,
        zone: u32,
        order: u16,
        codepoint: &[&str],
    ) -> Option<&'n Grammar> {
        let ZoneSource::Dns { first } = self.sources.get(zone as usize)? else { return None };
        let grammars = &network.zones.get(zone as usize)?.grammars;
        let from = *first.get(order as usize)?;
        let to = first.get(order as usize + 1).map_or(grammars.len(), |next| *next);
        grammars[from..to].iter().find(|grammar| matches(&grammar.labels, codepoint))
    }

    /// The rule that gave a URL its service: `zone` as the look-up returned it, the host's labels, and the leading path
    /// segments that the rule covers.
    pub fn url_rule<'n>(
        &self,
        network: &'n Network,
        zone: u32,
        service: u32,
        host: &[&str],
        path: &[&str],
    ) -> Option<&'n UrlRule> {
        let ZoneSource::Url { rules } = self.sources.get(zone as usize)? else { return None };
        let fits = |(index, rule): &(usize, &UrlRule)| {
            let Some(cut) = host.len().checked_sub(rule.suffix.len()) else { return false };
            self.proofs.of_url(*index) == service
                && rule.path.iter().map(String::as_str).eq(path.iter().copied())
                && rule.suffix.iter().zip(&host[cut..]).all(|(a, b)| a.eq_ignore_ascii_case(b))
                && matches(&rule.host, &host[..cut])
        };
        let (_, rule) = rules.iter().map(|index| (*index, &network.urls[*index])).find(fits)?;
        Some(rule)
    }
}

pub(crate) fn matches(rules: &[LabelRule], labels: &[&str]) -> bool {
    let fits = |(rule, label): (&LabelRule, &&str)| {
        matches!(rule, LabelRule::Free(_)) || values(rule).any(|value| value.eq_ignore_ascii_case(label))
    };
    rules.len() == labels.len() && rules.iter().zip(labels).all(fits)
}
