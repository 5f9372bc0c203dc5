//! Drain and force states: what operators say of targets, pools, regions, VIPs and the box, over everything else.
//!
//! A state is kept by the name or pattern that it was said of, not by what that meant then: a target that is added later
//! and fits the pattern has the state, too, and a name that vanishes has it again when it is back.

use super::facts::Fact;
use crate::config::terms::show_instant;
use crate::config::{is_pattern, name_fits};
use redirector_plan::divert::{Diversions, Instead};
use redirector_plan::model::{Network, Outcome};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What kind of thing a state is said of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A server, or another target of the configuration.
    Target,
    /// All targets of a pool.
    Pool,
    /// The clients of a region.
    Region,
    /// An anycast address group.
    Vip,
    /// This box.
    Box,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target => "target",
            Self::Pool => "pool",
            Self::Region => "region",
            Self::Vip => "vip",
            Self::Box => "box",
        })
    }
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// Gets no new clients.
    Drained,
    /// As failed.
    Down,
    /// As well, whatever health checks and load say.
    Up,
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "drained",
            Self::Down => "forced down",
            Self::Up => "forced up",
        })
    }
}

/// One state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What it is said of.
    pub kind: Kind,
    /// A name, or a pattern in which `*` is any text and `?` any one character.
    pub name: String,
    /// What is said.
    pub force: Force,
    /// Why.
    pub reason: String,
    /// User number of who said it.
    pub by: u32,
    /// When, in seconds since 1970.
    pub since: u64,
    /// When it ends by itself, in seconds since 1970; `None`: when it is released.
    pub until: Option<u64>,
}

impl State {
    /// Whether it is said of this.
    pub fn is_of(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && name_fits(&self.name, name)
    }

    /// Of several that are said of one thing, the greatest decides: a name goes before a pattern, and what was said
    /// last before what was said earlier.
    fn rank(&self, place: usize) -> (bool, usize) {
        (!is_pattern(&self.name), place)
    }

    /// Things of a kind have this name in the configuration.
    pub fn matching(&self, network: &Network) -> usize {
        names(self.kind, network).filter(|name| name_fits(&self.name, name)).count()
    }
}

/// `drained until … because "…" (by uid 0 at …)`
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, force, reason, by, since, until } = self;
        write!(f, "{force}")?;
        match until {
            Some(until) => write!(f, " until {}", show_instant(*until))?,
            None => f.write_str(" until released")?,
        }
        write!(f, " because \"{reason}\" ({kind} {name}, by uid {by} at {})", show_instant(*since))
    }
}

/// The names that things of a kind have in a configuration.
pub fn names(kind: Kind, network: &Network) -> Box<dyn Iterator<Item = &str> + '_> {
    match kind {
        Kind::Target => {
            // Stand-ins for agreements and networks are no matter of this.
            let own = network.targets.iter().filter(|target| target.outcome != Outcome::OwnServers);
            Box::new(own.map(|target| target.name.as_str()))
        }
        Kind::Pool => Box::new(network.pools.iter().map(|pool| pool.name.as_str())),
        Kind::Region => Box::new(network.regions.iter().map(|region| region.name.as_str())),
        Kind::Vip => Box::new(network.vips.iter().map(|vip| vip.name.as_str())),
        Kind::Box => Box::new(std::iter::once(network.box_name.as_str())),
    }
}

/// All states of a box, in the order in which they were said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<State>", into = "Vec<State>")]
pub struct Forces(Vec<Arc<State>>);

impl From<Vec<State>> for Forces {
    fn from(states: Vec<State>) -> Self {
        Self(states.into_iter().map(Arc::new).collect())
    }
}

impl From<Forces> for Vec<State> {
    fn from(forces: Forces) -> Self {
        forces.0.into_iter().map(Arc::unwrap_or_clone).collect()
    }
}

impl Forces {
    /// In the order in which they were said.
    pub fn states(&self) -> &[Arc<State>] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says something, instead of what was said before of the same name or pattern.
    pub fn say(&mut self, state: State) {
        self.0.retain(|held| (held.kind, &held.name) != (state.kind, &state.name));
        self.0.push(Arc::new(state));
    }

    /// Takes back what was said of this name or pattern and, if it is a pattern, of all names that fit it.
    pub fn release(&mut self, kind: Kind, name: &str) -> Vec<Arc<State>> {
        self.take(|held| held.kind == kind && (held.name == name || name_fits(name, &held.name)))
    }

    /// Lets go what has ended.
    pub fn expire(&mut self, now: u64) -> Vec<Arc<State>> {
        self.take(|held| held.until.is_some_and(|until| until <= now))
    }

    fn take(&mut self, goes: impl Fn(&State) -> bool) -> Vec<Arc<State>> {
        self.0.extract_if(.., |held| goes(held)).collect()
    }

    /// What decides about something.
    pub fn over(&self, kind: Kind, name: &str) -> Option<&Arc<State>> {
        self.ranked(kind, name).map(|(_, state)| state)
    }

    fn ranked(&self, kind: Kind, name: &str) -> Option<((bool, usize), &Arc<State>)> {
        let said = self.0.iter().enumerate().filter(|(_, state)| state.is_of(kind, name));
        said.map(|(place, state)| (state.rank(place), state)).max_by_key(|(rank, _)| *rank)
    }

    /// The regions of a network whose clients are served otherwise.
    pub fn diversions(&self, network: &Network) -> Diversions {
        let diverted = |(number, region): (u32, &redirector_plan::model::Region)| {
            let instead = match self.over(Kind::Region, &region.name)?.force {
                Force::Drained => Instead::Elsewhere,
                Force::Down => Instead::Nobody,
                Force::Up => return None,
            };
            Some((number, instead))
        };
        (1..).zip(&network.regions).filter_map(diverted).collect()
    }

    /// Puts the states of targets and pools into the targets' facts; gives the targets that are used otherwise now.
    /// What is said of a target goes before what is said of its pools.
    pub fn apply(&self, network: &Network, facts: &mut [Fact]) -> Vec<usize> {
        let of_target = |target: &redirector_plan::model::Target| {
            let own =
                (target.outcome != Outcome::OwnServers).then(|| self.ranked(Kind::Target, &target.name));
            own.flatten().map(|(rank, state)| ((true, rank), state))
        };
        let mut decides: Vec<_> = network.targets.iter().map(of_target).collect();
        for pool in &network.pools {
            let Some((rank, state)) = self.ranked(Kind::Pool, &pool.name) else { continue };
            for (target, _) in &pool.members {
                let said = ((false, rank), state);
                if decides[*target].is_none_or(|(held, _)| held < said.0) {
                    decides[*target] = Some(said);
                }
            }
        }
        let mut changed = Vec::new();
        for (index, (fact, decides)) in facts.iter_mut().zip(decides).enumerate() {
            let before = fact.state();
            fact.force = decides.map(|(_, state)| Arc::clone(state));
            if fact.state() != before {
                changed.push(index);
            }
        }
        changed
    }
}
