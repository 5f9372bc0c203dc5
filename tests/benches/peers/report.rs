//! The figures, for people and for programs.

use serde_json::json;

/// What drops every query.
pub(crate) const DROP: &str = "drop";
pub(crate) const REFLECTOR: &str = "reflector";
pub(crate) const OURS: &str = "redirector";

/// A peer in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// CPU nanoseconds for an answer.
    pub(crate) cost: f64,
    /// Share of queries without an answer.
    pub(crate) loss: f64,
    /// Answers in a second.
    pub(crate) rate: f64,
}

/// A peer in all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    workload: &'static str,
    samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn new(peer: &'static str, workload: &'static str) -> Self {
        Self { peer, workload, samples: Vec::new() }
    }

    pub(crate) fn note(&mut self, sample: Sample) {
        eprintln!("{}, {}: {sample:.3?}", self.peer, self.workload);
        self.samples.push(sample);
    }

    fn sorted(&self, figure: fn(&Sample) -> f64) -> Vec<f64> {
        let mut all: Vec<f64> = self.samples.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn median(&self, figure: fn(&Sample) -> f64) -> f64 {
        let all = self.sorted(figure);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn cost(&self) -> f64 {
        self.median(|sample| sample.cost)
    }

    fn range(&self) -> (f64, f64) {
        let costs = self.sorted(|sample| sample.cost);
        let or_nothing = |end: Option<&f64>| end.copied().unwrap_or(f64::NAN);
        (or_nothing(costs.first()), or_nothing(costs.last()))
    }

    /// How many times the CPU time of a peer that was asked the same.
    fn ratio(&self, rows: &[Self], peer: &str) -> f64 {
        let other = rows.iter().find(|row| row.peer == peer && row.workload == self.workload);
        other.map_or(f64::NAN, |other| self.cost() / other.cost())
    }
}

/// The table.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let rounds = rows.first().map_or(0, |row| row.samples.len());
    let mut text = format!(
        "CPU nanoseconds for an answer, medians of {rounds} interleaved rounds.\n\n\
         | peer | queries | CPU ns | min–max | × reflector | × redirector | answers/s | lost |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n"
    );
    for row in rows {
        let (min, max) = row.range();
        text += &format!(
            "| {} | {} | {:.0} | {min:.0}–{max:.0} | {:.2} | {:.2} | {:.0} | {:.2} % |\n",
            row.peer,
            row.workload,
            row.cost(),
            row.ratio(rows, REFLECTOR),
            row.ratio(rows, OURS),
            row.median(|sample| sample.rate),
            row.median(|sample| sample.loss) * 100.0,
        );
    }
    text
}

/// A list with one object for each row.
pub(crate) fn json(rows: &[Row]) -> String {
    let object = |row: &Row| {
        let (min, max) = row.range();
        json!({
            "peer": row.peer,
            "queries": row.workload,
            "cpu_ns_per_answer": row.cost(),
            "ratio_to_reflector": row.ratio(rows, REFLECTOR),
            "ratio_to_ours": row.ratio(rows, OURS),
            "loss": row.median(|sample| sample.loss),
            "rate": row.median(|sample| sample.rate),
            "rounds": row.samples.len(),
            "min": min,
            "max": max,
        })
    };
    let list: serde_json::Value = rows.iter().map(object).collect();
    format!("{list:#}\n")
}
