//! Drain and force states: what operators say of targets, pools, regions, VIPs and the box, over everything else (A-14).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Errors, parse};
    use crate::state::facts::carry_over;
    use std::path::Path;

    /// Three targets in two pools.
    fn config() -> crate::config::Config {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let text = "[box]\nname = \"b\"\nmanagement = \"10.0.0.1\"\nxdp = \"off\"\n\
                    [[vip]]\ncdn = \"c\"\naddresses = [\"203.0.113.1\"]\n[fleet]\n\
                    key = \"5eed5eed5eed5eed5eed5eed5eed5eed\"\n\
                    [[target]]\nname = \"a-1\"\naddresses = [\"192.0.2.1\"]\n\
                    [[target]]\nname = \"a-2\"\naddresses = [\"192.0.2.2\"]\n\
                    [[target]]\nname = \"b-1\"\naddresses = [\"192.0.2.3\"]\n\
                    [[pool]]\nname = \"a\"\ntargets = [\"a-1\", \"a-2\"]\n\
                    [[pool]]\nname = \"all\"\ntargets = [\"a-1\", \"a-2\", \"b-1\"]\n";
        parse("test.toml", text.to_owned(), &path, Errors::Refuse).expect("a configuration")
    }

    fn said(kind: Kind, name: &str, force: Force) -> State {
        State { kind, name: name.into(), force, reason: "a test".into(), by: 7, since: 100, until: None }
    }

    /// What decides about each target, and which of them are used otherwise than before.
    fn applied(forces: &Forces, facts: &mut [Fact]) -> (Vec<Option<Force>>, Vec<usize>) {
        let changed = forces.apply(&config().network, facts);
        (facts.iter().map(|fact| fact.force.as_ref().map(|said| said.force)).collect(), changed)
    }

    #[test]
    fn names_go_before_patterns_targets_before_pools_and_later_before_earlier() {
        use Force::{Down, Drained, Up};
        let mut facts = carry_over(&config(), &[], false);
        let mut forces = Forces::default();
        forces.say(said(Kind::Pool, "all", Drained));
        assert_eq!(applied(&forces, &mut facts), (vec![Some(Drained); 3], vec![0, 1, 2]));
        forces.say(said(Kind::Pool, "a", Up));
        assert_eq!(applied(&forces, &mut facts).0, [Some(Up), Some(Up), Some(Drained)]);
        forces.say(said(Kind::Target, "a-1", Down));
        forces.say(said(Kind::Target, "*-1", Up));
        assert_eq!(applied(&forces, &mut facts), (vec![Some(Down), Some(Up), Some(Up)], vec![0, 2]));
        // What is said again takes the place of what was said before.
        forces.say(said(Kind::Pool, "all", Down));
        assert_eq!(applied(&forces, &mut facts), (vec![Some(Down), Some(Down), Some(Up)], vec![1]));
        assert_eq!(forces.states().len(), 4);
        assert_eq!(forces.release(Kind::Target, "*").len(), 2);
        assert_eq!(applied(&forces, &mut facts), (vec![Some(Down); 3], vec![2]));
        assert_eq!(forces.release(Kind::Target, "a-1").len(), 0);
        assert_eq!(forces.release(Kind::Pool, "*").len(), 2);
        assert_eq!(applied(&forces, &mut facts), (vec![None; 3], vec![0, 1, 2]));
    }

    #[test]
    fn forced_up_is_over_health_and_load_and_drained_takes_no_clients() {
        let mut facts = carry_over(&config(), &[], false);
        (facts[0].up, facts[1].factor) = (false, 0);
        let mut forces = Forces::default();
        forces.say(said(Kind::Target, "a-*", Force::Up));
        forces.say(said(Kind::Target, "b-1", Force::Drained));
        assert_eq!(applied(&forces, &mut facts).1, [0, 1, 2]);
        let states: Vec<(bool, u16)> =
            facts.iter().map(|fact| (fact.state().up, fact.state().factor)).collect();
        assert_eq!(states, [(true, 256), (true, 256), (false, 256)]);
        assert!(!facts[0].up && facts[2].up, "what the checks say is still known");
    }

    #[test]
    fn states_end_at_their_time_and_survive_being_written() {
        let mut forces = Forces::default();
        forces.say(State { until: Some(200), ..said(Kind::Vip, "v", Force::Drained) });
        forces.say(said(Kind::Region, "r", Force::Down));
        let text = serde_json::to_string(&forces).expect("JSON");
        let mut read: Forces = serde_json::from_str(&text).expect("states");
        assert_eq!(read, forces);
        assert!(read.expire(199).is_empty());
        let [ended] = &read.expire(200)[..] else { panic!("one ends") };
        assert_eq!(
            ended.to_string(),
            "drained until 1970-01-01T00:03:20Z because \"a test\" (vip v, by uid 7 at 1970-01-01T00:01:40Z)"
        );
        assert_eq!(read.states().len(), 1);
        assert!(read.over(Kind::Vip, "v").is_none() && read.over(Kind::Region, "r").is_some());
    }
}
