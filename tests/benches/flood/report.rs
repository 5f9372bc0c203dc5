//! The figures, for people and for programs.

use crate::clients::{Fate, KINDS, SLOW};
use crate::floods::Flood;
use crate::resize::Resize;
use crate::wire::{FLOOD, Period, Stage, Stages};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sums over all periods of a kind.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    stages: Stages,
    /// What became of queries by kind.
    fates: [BTreeMap<&'static str, u64>; KINDS.len()],
    reasons: BTreeMap<String, u64>,
    overflows: u64,
    wall: Duration,
}

/// A flood, and what was seen without and with it.
pub(crate) struct Row {
    pub(crate) flood: &'static Flood,
    pub(crate) calm: Tally,
    pub(crate) flooded: Tally,
}

impl Row {
    pub(crate) fn new(flood: &'static Flood) -> Self {
        Self { flood, calm: Tally::default(), flooded: Tally::default() }
    }
}

fn name(fate: Fate) -> &'static str {
    match fate {
        Fate::Silence => "silence",
        Fate::Answer => "answer",
        Fate::Truncated => "truncated",
        Fate::ByTcp => "by_tcp",
        Fate::Later => "later",
        Fate::Wrong => "wrong",
    }
}

/// What became of the queries of one kind.
pub(crate) struct Losses {
    /// Made.
    pub(crate) sent: u64,
    /// Lost on the way to the program.
    pub(crate) on_the_wire: u64,
    /// Dropped by the program, for a limit.
    pub(crate) limited: u64,
    /// Lost between the program and the daemon's answer.
    pub(crate) behind: u64,
    /// Replies that were lost on the way back.
    pub(crate) back: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, period: Period) {
        for (sums, counts) in self.stages.iter_mut().zip(period.stages) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        for (kind, fate) in period.fates {
            *self.fates[kind].entry(name(fate)).or_default() += 1;
        }
        for (reason, count) in period.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.overflows += period.overflows;
        self.wall += period.wall;
    }

    fn stage(&self, stage: Stage, kind: usize) -> u64 {
        self.stages[stage as usize][kind]
    }

    fn fate(&self, kind: usize, fate: Fate) -> u64 {
        self.fates[kind].get(name(fate)).copied().unwrap_or(0)
    }

    fn reason(&self, reason: &str) -> u64 {
        self.reasons.get(reason).copied().unwrap_or(0)
    }

    /// Replies of any sort that clients of a kind got by datagram.
    fn got(&self, kind: usize) -> u64 {
        [Fate::Answer, Fate::Truncated, Fate::ByTcp, Fate::Later, Fate::Wrong]
            .map(|fate| self.fate(kind, fate))
            .iter()
            .sum()
    }

    /// Where a kind's queries and replies were lost.
    pub(crate) fn losses(&self, kind: usize) -> Losses {
        let [sent, entered, passed, returned] = [Stage::Sent, Stage::Entered, Stage::Passed, Stage::Returned]
            .map(|stage| self.stage(stage, kind));
        // What the program answers by itself does not pass.
        let short =
            [Fate::Truncated, Fate::ByTcp, Fate::Later].map(|fate| self.fate(kind, fate)).iter().sum();
        let by_program = if kind < SLOW { returned.saturating_sub(passed) } else { short };
        Losses {
            sent,
            on_the_wire: sent - entered,
            limited: entered.saturating_sub(passed + by_program),
            behind: (passed + by_program).saturating_sub(returned),
            back: returned.saturating_sub(self.got(kind)),
        }
    }

    /// Of the queries of a kind that reached the program, and whose replies were not lost on the way back, the share that
    /// was answered: by datagram, and by TCP.
    fn shares(&self, kind: usize) -> [f64; 2] {
        let entered = self.stage(Stage::Entered, kind) - self.losses(kind).back;
        [Fate::Answer, Fate::ByTcp].map(|fate| self.fate(kind, fate) as f64 / (entered as f64).max(1.0))
    }

    /// Of the queries of a kind that reached the program, the share that no limit dropped.
    pub(crate) fn spared(&self, kind: usize) -> f64 {
        let entered = self.stage(Stage::Entered, kind);
        1.0 - self.losses(kind).limited as f64 / (entered as f64).max(1.0)
    }

    /// The share that was answered either way.
    pub(crate) fn kept(&self, kind: usize) -> f64 {
        self.shares(kind).iter().sum()
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.wall.as_secs_f64()
    }

    /// Packets of the flood that reached the program, in a second.
    pub(crate) fn handled(&self) -> f64 {
        self.per_second(self.stage(Stage::Entered, FLOOD))
    }

    fn offered(&self) -> f64 {
        self.per_second(self.stage(Stage::Sent, FLOOD))
    }
}

/// What the limits did, by reason, as shares of the flood are told.
const LIMITS: [&str; 7] = [
    "limit-slip",
    "limit-drop",
    "limit-cdsr",
    "limit-cdsr-drop",
    "limit-punt",
    "limit-punt-all",
    "limit-punt-slip",
];

/// A table of floods, one of what clients kept, one of where the rest was lost, and one of resizing.
pub(crate) fn markdown(rows: &[Row], resizes: &[Resize]) -> String {
    let mut text =
        format!("| flood | offered/s | handled/s | passed/s | socket full/s | {} |\n", LIMITS.join(" | "));
    text += &format!("|---|{}\n", "--:|".repeat(4 + LIMITS.len()));
    for Row { flood, flooded, .. } in rows {
        let passed = flooded.per_second(flooded.stage(Stage::Passed, FLOOD));
        text += &format!(
            "| {} | {:.0} | {:.0} | {passed:.0} |",
            flood.name,
            flooded.offered(),
            flooded.handled()
        );
        text += &format!(" {:.0} |", flooded.per_second(flooded.overflows));
        for reason in LIMITS {
            text += &format!(" {:.0} |", flooded.per_second(flooded.reason(reason)));
        }
        text.push('\n');
    }
    text += "\n| % kept, of it by TCP | ";
    text += &KINDS.map(|(name, _)| name).join(" | ");
    text += &format!(" |\n|---|{}\n", "--:|".repeat(KINDS.len()));
    let calm = rows.iter().map(|row| ("without a flood", &row.calm)).take(1);
    for (name, tally) in calm.chain(rows.iter().map(|row| (row.flood.name, &row.flooded))) {
        text += &format!("| {name} |");
        for kind in 0..KINDS.len() {
            let [_, tcp] = tally.shares(kind);
            let tcp = if tcp > 0.0 { format!(" ({:.1})", tcp * 100.0) } else { String::new() };
            text += &format!(" {:.2}{tcp} |", tally.kept(kind) * 100.0);
        }
        text.push('\n');
    }
    text += "\n| flood | queries | sent | lost on the wire | dropped by limits | lost behind the program | replies lost |\n\
             |---|---|--:|--:|--:|--:|--:|\n";
    for Row { flood, flooded, .. } in rows {
        for (kind, (name, _)) in KINDS.iter().enumerate() {
            let Losses { sent, on_the_wire, limited, behind, back } = flooded.losses(kind);
            if on_the_wire + limited + behind + back > 0 {
                text += &format!(
                    "| {} | {name} | {sent} | {on_the_wire} | {limited} | {behind} | {back} |\n",
                    flood.name
                );
            }
        }
    }
    text += "\n| queries | bytes added | asked | punt-resize |\n|---|--:|--:|--:|\n";
    let tallies = || rows.iter().flat_map(|row| [&row.calm, &row.flooded]);
    let entered: u64 = tallies().map(|tally| tally.stages[Stage::Entered as usize].iter().sum::<u64>()).sum();
    let punted: u64 = tallies().map(|tally| tally.reason("punt-resize")).sum();
    text += &format!("| all above, in pages of their own | | {entered} | {punted} |\n");
    for Resize { name, added, asked, punted } in resizes {
        text += &format!(
            "| {name}, from sockets | {added} | {asked} | {:.1} % |\n",
            *punted as f64 * 100.0 / *asked as f64
        );
    }
    text
}

/// An object with lists.
pub(crate) fn json(rows: &[Row], resizes: &[Resize]) -> String {
    let kinds = |tally: &Tally| -> Vec<Value> {
        let kind = |(kind, (name, _)): (usize, &(&str, _))| {
            let Losses { sent, on_the_wire, limited, behind, back } = tally.losses(kind);
            let [datagram, tcp] = tally.shares(kind);
            json!({
                "queries": name,
                "sent": sent,
                "lost_on_the_wire": on_the_wire,
                "dropped_by_limits": limited,
                "lost_behind_the_program": behind,
                "replies_lost": back,
                "kept_by_datagram": datagram,
                "kept_by_tcp": tcp,
            })
        };
        KINDS.iter().enumerate().map(kind).collect()
    };
    let floods = rows.iter().map(|Row { flood, calm, flooded }| {
        json!({
            "flood": flood.name,
            "offered_per_second": flooded.offered(),
            "handled_per_second": flooded.handled(),
            "socket_full": flooded.overflows,
            "reasons": flooded.reasons,
            "reasons_without_flood": calm.reasons,
            "seconds": flooded.wall.as_secs_f64(),
            "without_flood": kinds(calm),
            "with_flood": kinds(flooded),
            "promised": flood.promised,
        })
    });
    let resizes = resizes.iter().map(|Resize { name, added, asked, punted }| {
        json!({ "queries": name, "bytes_added": added, "asked": asked, "punt_resize": punted })
    });
    let object = json!({ "floods": floods.collect::<Vec<_>>(), "resizes": resizes.collect::<Vec<_>>() });
    format!("{object:#}\n")
}
