//! Drain and force states at run time: said and taken back through the control socket, kept on disk before they hold,
//! and let go when their time is over.

use super::agent::Agent;
use super::view::View;
use crate::config::terms::{instant, show_instant};
use crate::config::{self, is_pattern, name_fits};
use crate::state::agreements::unix_now;
use crate::state::disk::StateDir;
use crate::state::forces::{Force, Forces, Kind, State, names};
use redirector_plan::model::Network;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// How often it is looked what has ended: much less than the second within which it must have let go.
const TICK: Duration = Duration::from_millis(100);
/// Longest reason in characters.
const MAX_REASON: usize = 200;

/// What is to be done about drain and force states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// Shows all.
    List,
    /// Says something.
    Say {
        /// Of what.
        #[serde(flatten)]
        whom: Whom,
        /// What.
        force: Force,
        /// Why.
        reason: String,
        /// For how long, as `2h`.
        #[serde(default, rename = "for")]
        duration: Option<String>,
        /// Until when: a date, or a date and time.
        #[serde(default)]
        until: Option<String>,
    },
    /// Takes back what was said.
    Release {
        /// Of what.
        #[serde(flatten)]
        whom: Whom,
    },
}

/// Of what something is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Whom {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its name, or a pattern in which `*` is any text and `?` any one character; the box needs none.
    pub name: Option<String>,
}

/// A state, for reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// What is said.
    #[serde(flatten)]
    pub state: State,
    /// How many names of the configuration it is said of.
    pub matches: usize,
}

impl Forced {
    fn new(state: &State, network: &Network) -> Self {
        Self { state: state.clone(), matches: state.matching(network) }
    }

    /// Of all states at one moment.
    pub fn all(network: &Network, forces: &Forces) -> Vec<Self> {
        forces.states().iter().map(|state| Self::new(state, network)).collect()
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, matches } = self;
        write!(f, "{state}")?;
        match matches {
            0 => write!(f, "; matches nothing in the configuration"),
            1 if !is_pattern(&state.name) => Ok(()),
            some => write!(f, "; matches {some}"),
        }
    }
}

/// Whether a VIP is to be announced, for whoever does so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipReport {
    /// Its name.
    pub name: String,
    /// Whether clients shall come here.
    pub announce: bool,
    /// What operators say of it, or of the box.
    pub said: Option<State>,
}

impl VipReport {
    /// Of all VIPs; what is said of a VIP goes before what is said of the box.
    pub fn all(view: &View) -> Vec<Self> {
        let network = &view.generation.config.network;
        let of_box = view.forces.over(Kind::Box, &network.box_name);
        let report = |name: &str| {
            let said = view.forces.over(Kind::Vip, name).or(of_box);
            let announce = said.is_none_or(|said| said.force == Force::Up);
            Self { name: name.to_owned(), announce, said: said.map(|said| State::clone(said)) }
        };
        names(Kind::Vip, network).map(report).collect()
    }
}

impl fmt::Display for VipReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let announce = if self.announce { "to be announced" } else { "not to be announced" };
        write!(f, "vip {}: {announce}", self.name)?;
        self.said.iter().try_for_each(|said| write!(f, ": {said}"))
    }
}

/// How the box is, in a word.
pub fn box_state(view: &View) -> &'static str {
    let said = view.forces.over(Kind::Box, &view.generation.config.network.box_name);
    match said.map(|said| said.force) {
        Some(Force::Drained) => "drained",
        Some(Force::Down) => "down",
        Some(Force::Up) => "ready",
        None if view.refused.is_empty() => "ready",
        None => "degraded",
    }
}

/// What was said in earlier runs and has not ended; or nothing, and why it is not known.
pub(super) fn load(disk: &StateDir) -> (Forces, Option<String>) {
    match disk.load_forces() {
        Ok(mut forces) => {
            forces.expire(unix_now());
            for state in forces.states() {
                info!("{} {} is {state}", state.kind, state.name);
            }
            (forces, None)
        }
        Err(problem) => {
            let lost = format!("drain and force states of earlier runs are not known: {problem}");
            error!("{lost}");
            (Forces::default(), Some(lost))
        }
    }
}

impl Agent {
    /// Shows or changes drain and force states. What changes is on disk and in effect when this returns. `by` is the
    /// user who asks.
    ///
    /// # Errors
    /// What is wrong with it; nothing changes then.
    pub fn force(&self, action: &Action, by: u32) -> Result<Vec<Forced>, String> {
        match action {
            Action::List => {
                let inner = self.inner();
                Ok(Forced::all(&self.current.load().config.network, &inner.forces))
            }
            Action::Say { whom, force, reason, duration, until } => {
                let now = unix_now();
                let until = end(now, duration.as_deref(), until.as_deref())?;
                let reason = checked_reason(reason)?;
                self.change_forces(|forces, network| {
                    let name = whom.known(network)?;
                    check_effect(whom.kind, &name, *force, network)?;
                    let (kind, force) = (whom.kind, *force);
                    let state = State { kind, name, force, reason, by, since: now, until };
                    info!("{kind} {} is {state}", state.name);
                    forces.say(state.clone());
                    Ok(vec![Arc::new(state)])
                })
            }
            Action::Release { whom } => self.change_forces(|forces, network| {
                let name = whom.named(network)?;
                let released = forces.release(whom.kind, &name);
                if released.is_empty() {
                    return Err(nothing_to_release(forces, whom.kind, &name));
                }
                for state in &released {
                    info!("{} {} is released by uid {by}; it was {state}", state.kind, state.name);
                }
                Ok(released)
            }),
        }
    }

    /// Changes what is said: on disk first, then in the tables.
    fn change_forces(
        &self,
        change: impl FnOnce(&mut Forces, &Network) -> Result<Vec<Arc<State>>, String>,
    ) -> Result<Vec<Forced>, String> {
        let _one_at_a_time = self.saying.lock().unwrap_or_else(PoisonError::into_inner);
        let network = &self.current.load_full().config.network;
        let mut forces = self.inner().forces.clone();
        let changed = change(&mut forces, network)?;
        let kept = self.disk.save_forces(&forces);
        kept.map_err(|problem| format!("it cannot be kept, so nothing is changed: {problem}"))?;
        self.settle_forces(forces);
        Ok(changed.iter().map(|state| Forced::new(state, network)).collect())
    }

    /// Makes the tables follow what is said now.
    fn settle_forces(&self, forces: Forces) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        (inner.forces, inner.forces_lost) = (forces, None);
        let current = self.current.load();
        let network = &current.config.network;
        let changed = inner.forces.apply(network, &mut inner.facts);
        self.follow(inner, &changed);
        let diversions = inner.forces.diversions(network);
        let diverted = inner.live.divert(&current.compiled, &current.tables, diversions);
        self.note_follow(diverted.map(|()| 0));
    }

    /// Watches the clock.
    pub(super) async fn keep_forces(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = unix_now();
            let ends = |state: &Arc<State>| state.until.is_some_and(|until| until <= now);
            if !self.inner().forces.states().iter().any(ends) {
                continue;
            }
            let agent = Arc::clone(&self);
            if let Err(panic) = spawn_blocking(move || agent.let_go()).await {
                error!("drain and force states do not end: {panic}");
            }
        }
    }

    /// Lets go what has ended, whether or not that can be kept: it will have ended for the next run, too.
    fn let_go(&self) {
        let _one_at_a_time = self.saying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut forces = self.inner().forces.clone();
        for state in forces.expire(unix_now()) {
            info!("{} {} is released, its time is over; it was {state}", state.kind, state.name);
        }
        if let Err(problem) = self.disk.save_forces(&forces) {
            warn!("that drain and force states have ended is not kept: {problem}");
        }
        self.settle_forces(forces);
    }
}

impl Whom {
    /// The name or pattern that is meant.
    fn named(&self, network: &Network) -> Result<String, String> {
        match (&self.name, self.kind) {
            (Some(name), _) if !name.is_empty() => Ok(name.clone()),
            (None, Kind::Box) => Ok(network.box_name.clone()),
            (_, kind) => Err(format!("say which {kind}: a name, or a pattern such as \"par-*\"")),
        }
    }

    /// The same, and it is the name of something.
    fn known(&self, network: &Network) -> Result<String, String> {
        let (kind, name) = (self.kind, self.named(network)?);
        if names(kind, network).any(|known| name_fits(&name, known)) {
            return Ok(name);
        }
        if is_pattern(&name) {
            return Err(format!("no {kind}'s name matches `{name}`: `*` is any text, `?` any one character"));
        }
        if kind == Kind::Target && network.targets.iter().any(|target| target.name == name) {
            return Err(format!(
                "{name} stands for an agreement or network: `redirector agreement` is for those"
            ));
        }
        let known: Vec<&str> = names(kind, network).collect();
        let help = config::help(&name, known, &format!("the configuration has no {kind}"));
        Err(format!("there is no {kind} `{name}`; {help}"))
    }
}

/// When something ends that is said now.
fn end(now: u64, duration: Option<&str>, until: Option<&str>) -> Result<Option<u64>, String> {
    match (duration, until) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("say either for how long or until when".to_owned()),
        (Some(text), None) => {
            let wrong = |why: &str| format!("`{text}` is not a time to last: {why}");
            let duration = config::duration(text).map_err(|why| wrong(&why))?;
            let seconds = duration.as_millis().div_ceil(1000) as u64;
            let end = now.checked_add(seconds).filter(|_| seconds > 0);
            end.map(Some).ok_or_else(|| wrong("it has to end later than now"))
        }
        (None, Some(text)) => {
            let until = instant(text, true)?;
            let past =
                || format!("`{text}` is in the past: it is {} now; write a later time", show_instant(now));
            (until > now).then_some(Some(until)).ok_or_else(past)
        }
    }
}

fn checked_reason(reason: &str) -> Result<String, String> {
    let reason = reason.trim();
    let good = (1..=MAX_REASON).contains(&reason.chars().count()) && !reason.chars().any(char::is_control);
    good.then(|| reason.to_owned())
        .ok_or_else(|| format!("a reason is a line of 1 to {MAX_REASON} characters that others will read"))
}

/// Refuses what would change nothing.
fn check_effect(kind: Kind, name: &str, force: Force, network: &Network) -> Result<(), String> {
    if kind != Kind::Region {
        return Ok(());
    }
    if force == Force::Up {
        return Err("a region has no health: drain it, or force it down".to_owned());
    }
    let has_tiers = |index: usize| {
        let tiers = network.coverages.iter().flat_map(|coverage| &coverage.tiers);
        tiers.into_iter().any(|tier| tier.region == Some(index))
    };
    let mut meant = (0..).zip(&network.regions).filter(|(_, region)| name_fits(name, &region.name));
    if force == Force::Drained && !meant.any(|(index, _)| has_tiers(index)) {
        return Err(format!(
            "no tier is for region `{name}` alone, so its clients would go on as they are; \
             `redirector force down region` leaves them the fallbacks of services"
        ));
    }
    Ok(())
}

fn nothing_to_release(forces: &Forces, kind: Kind, name: &str) -> String {
    match forces.over(kind, name) {
        Some(state) => format!("{kind} {name} is {state}: release `{}`", state.name),
        None => format!("nothing is said of {kind} `{name}`; `redirector states` shows what is"),
    }
}
