//! The figures, for people and for programs.

use crate::storm::Report;
use serde_json::json;
use std::time::Duration;

/// One run.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) report: Report,
}

/// Median, 99th percentile and longest, in microseconds.
pub(crate) fn figures(durations: &[Duration]) -> Option<[u64; 3]> {
    let mut micros: Vec<u64> = durations.iter().map(|duration| duration.as_micros() as u64).collect();
    micros.sort_unstable();
    let last = micros.len().checked_sub(1)?;
    Some([micros[last / 2], micros[last * 99 / 100], micros[last]])
}

/// What was measured, with its name.
fn columns(report: &Report) -> [(&'static str, Option<[u64; 3]>); 3] {
    [
        ("publishing", figures(&report.publishing)),
        ("to the fast path", figures(&report.latencies[0])),
        ("to the slow path", figures(&report.latencies[1])),
    ]
}

/// A table.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = "Microseconds: median / 99 % / longest.\n\n\
        | changes | number | publishing | to the fast path | to the slow path | answers, fast and slow | waits |\n\
        |---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Row { name, report } in rows {
        let cells = columns(report).map(|(_, figures)| match figures {
            Some([median, p99, longest]) => format!("{median} / {p99} / {longest}"),
            None => "–".to_owned(),
        });
        let [fast, slow] = report.answers;
        text += &format!(
            "| {name} | {} | {} | {fast}, {slow} | {} |\n",
            report.publishing.len(),
            cells.join(" | "),
            report.waits
        );
    }
    text
}

/// A list with one object for each run.
pub(crate) fn json(rows: &[Row]) -> String {
    let one = |Row { name, report }: &Row| {
        let mut object = json!({
            "name": name,
            "changes": report.publishing.len(),
            "fast_answers": report.answers[0],
            "slow_answers": report.answers[1],
            "wrong": report.wrong.len(),
            "waits": report.waits,
        });
        for (name, figures) in columns(report) {
            if let Some([median, p99, longest]) = figures {
                object[format!("{name}, us")] = json!({ "median": median, "p99": p99, "max": longest });
            }
        }
        object
    };
    let list: serde_json::Value = rows.iter().map(one).collect();
    format!("{list:#}\n")
}
