//! What a replay tells.

use super::Replay;
use super::tally::{Interner, Minutes};
use crate::config::terms::show_instant;
use crate::journal::Cause;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Lines of one kind that are shown unless others are asked for.
const SOME: usize = 20;
/// From so much more than before on, a target is told of that has no capacity.
const GROWS: f64 = 1.25;

/// Requests that go from one to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// From here; `-`: nobody.
    pub from: String,
    /// To there.
    pub to: String,
    /// Requests, by what each decision stands for.
    pub requests: u64,
}

/// Requests that a target gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// Its name.
    pub target: String,
    /// Requests before and after.
    pub before: u64,
    /// After.
    pub after: u64,
    /// Requests a second in its busiest minute, before.
    pub peak_before: f64,
    /// After.
    pub peak_after: f64,
}

/// A question that gets an answer no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Name and type, or URL.
    pub asked: String,
    /// Why.
    pub reason: String,
    /// Requests.
    pub requests: u64,
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Decisions in the logs.
    pub decisions: u64,
    /// Requests that they stand for.
    pub requests: u64,
    /// Decisions that could not be made again: the log does not have all of the question, or it was over a limit.
    pub skipped: u64,
    /// Seconds since 1970 of the first one and the last one.
    pub first: Option<u64>,
    /// The last one.
    pub last: Option<u64>,
    /// Clients, or networks on whose behalf was asked.
    pub clients: u64,
    /// Those of them that would be sent to somebody else at least once.
    pub moved_clients: u64,
    /// Decisions that lead to somebody else.
    pub moved: u64,
    /// Requests that they stand for.
    pub moved_requests: u64,
    /// From whom to whom, most first.
    pub moves: Vec<Move>,
    /// What targets get, those that grow most first.
    pub loads: Vec<Load>,
    /// On whose account, most first.
    pub accounts: Vec<Move>,
    /// By which service, most first.
    pub services: Vec<Move>,
    /// With which reason, most first.
    pub reasons: Vec<Move>,
    /// What gets an answer no more, most first.
    pub stopped: Vec<Loss>,
    /// Requests for other things that get an answer no more.
    pub stopped_others: u64,
    /// What decisions are compared with.
    pub against: &'static str,
    /// How health was taken.
    pub health: &'static str,
    /// Files that could not be read to their end.
    pub damage: Vec<String>,
    /// Decisions that are missing from the logs, by cause.
    pub lost: BTreeMap<Cause, u64>,
}

impl Replay {
    pub(super) fn report(self) -> ReplayReport {
        let Self { tally, names, .. } = self;
        let mut stopped: Vec<Loss> = tally
            .stopped
            .into_iter()
            .map(|((question, reason), requests)| Loss {
                asked: question.to_string(),
                reason: reason.name().to_owned(),
                requests,
            })
            .collect();
        stopped.sort_by(|a, b| (b.requests, &a.asked).cmp(&(a.requests, &b.asked)));
        let reason = |((from, to), requests): ((redirector_core::verdict::Reason, _), u64)| {
            let to: redirector_core::verdict::Reason = to;
            Move { from: from.name().to_owned(), to: to.name().to_owned(), requests }
        };
        ReplayReport {
            decisions: tally.decisions,
            requests: tally.requests,
            skipped: tally.skipped,
            first: tally.first,
            last: tally.last,
            clients: tally.clients.len() as u64,
            moved_clients: tally.moved_clients.len() as u64,
            moved: tally.moved,
            moved_requests: tally.moved_requests,
            moves: moves(tally.moves, &names),
            loads: loads(&tally.loads, &names),
            accounts: moves(tally.accounts, &names),
            services: moves(tally.services, &names),
            reasons: sorted(tally.reasons.into_iter().map(reason).collect()),
            stopped,
            stopped_others: tally.stopped_others,
            against: if self.against.is_some() { "the other configuration" } else { "what was recorded" },
            health: "as the logs tell of it, minute by minute; agreements by the configuration's terms at that time; \
                     what no log tells of is up",
            damage: self.damage,
            lost: self.lost,
        }
    }
}

fn moves(counts: HashMap<(u32, u32), u64>, names: &Interner) -> Vec<Move> {
    let name = |number| names.name(number).to_owned();
    sorted(
        counts
            .into_iter()
            .map(|((from, to), requests)| Move { from: name(from), to: name(to), requests })
            .collect(),
    )
}

fn sorted(mut moves: Vec<Move>) -> Vec<Move> {
    moves.sort_by(|a, b| (b.requests, &a.from, &a.to).cmp(&(a.requests, &b.from, &b.to)));
    moves
}

fn loads(counted: &HashMap<u32, Minutes>, names: &Interner) -> Vec<Load> {
    let second = |minute: u64| minute as f64 / 60.0;
    let load = |(target, minutes): (&u32, &Minutes)| Load {
        target: names.name(*target).to_owned(),
        before: minutes.all.before,
        after: minutes.all.after,
        peak_before: second(minutes.peak.before),
        peak_after: second(minutes.peak.after),
    };
    let mut loads: Vec<Load> = counted.iter().map(load).collect();
    let growth = |load: &Load| load.after as i128 - load.before as i128;
    loads.sort_by(|a, b| (growth(b), &a.target).cmp(&(growth(a), &b.target)));
    loads
}

impl Load {
    /// How many times as much as before.
    fn growth(&self) -> f64 {
        if self.peak_before > 0.0 { self.peak_after / self.peak_before } else { f64::INFINITY }
    }

    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, before, after, peak_before, peak_after } = self;
        write!(
            f,
            "  {target:<28} {before:>12} -> {after:<12} peak {peak_before:.1} -> {peak_after:.1} a second"
        )?;
        match self.growth() {
            growth if growth.is_infinite() => writeln!(f, "  new"),
            growth if growth >= GROWS => writeln!(f, "  {growth:.1} times as much"),
            _ => writeln!(f),
        }
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        writeln!(
            f,
            "{} decisions, for {} requests; compared with {}",
            self.decisions, self.requests, self.against
        )?;
        if let (Some(first), Some(last)) = (self.first, self.last) {
            writeln!(f, "from {} to {}", show_instant(first), show_instant(last))?;
        }
        writeln!(f, "health: {}", self.health)?;
        if self.skipped > 0 {
            writeln!(
                f,
                "not made again, for want of the question or for being over a limit: {}",
                self.skipped
            )?;
        }
        self.lost
            .iter()
            .try_for_each(|(cause, count)| writeln!(f, "missing from the logs: {count}, because {cause}"))?;
        self.damage.iter().try_for_each(|damage| writeln!(f, "not read to its end: {damage}"))?;
        writeln!(
            f,
            "\nclients that move: {} of {} ({:.2} %)\nrequests that move: {} of {} ({:.2} %)",
            self.moved_clients,
            self.clients,
            percent(self.moved_clients, self.clients),
            self.moved_requests,
            self.requests,
            percent(self.moved_requests, self.requests)
        )?;
        for (what, moves) in [
            ("from target to target", &self.moves),
            ("on whose account", &self.accounts),
            ("service", &self.services),
            ("reason", &self.reasons),
        ] {
            list(f, what, moves, |one, f| writeln!(f, "  {:>12}  {} -> {}", one.requests, one.from, one.to))?;
        }
        let changed: Vec<&Load> = self.loads.iter().filter(|load| load.before != load.after).collect();
        list(f, "requests of targets", &changed, |load, f| load.line(f))?;
        list(f, "answered no more", &self.stopped, |one, f| {
            writeln!(f, "  {:>12}  {}: {}", one.requests, one.asked, one.reason)
        })?;
        match self.stopped_others {
            0 => Ok(()),
            some => writeln!(f, "  {some:>12}  for other things"),
        }
    }
}

/// A heading and its lines; nothing if there are none.
fn list<T>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    lines: &[T],
    line: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{what}:")?;
    lines.iter().take(SOME).try_for_each(|one| line(one, f))?;
    match lines.len().saturating_sub(SOME) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more; --json has all"),
    }
}
