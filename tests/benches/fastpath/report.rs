//! The figures, for people and for programs.

use crate::workload::{Case, Keys};
use serde_json::json;

/// Below this the kernel's whole nanoseconds say nothing about the reflector, which overlaps with the wrapper's waiting
/// for its next frame.
const LEAST_REFLECTOR: i64 = 4;

/// One case's figures over all rounds, in nanoseconds per packet.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    wrapper: Vec<i64>,
    /// Less the wrapper of the same round.
    reflector: Vec<i64>,
    /// Less the wrapper of the same round.
    net: Vec<i64>,
}

impl Measurement {
    /// Notes a round: what the feeder alone took, and with the reflector or the program behind it.
    pub(crate) fn note(&mut self, wrapper: u64, reflector: u64, total: u64) {
        let (wrapper, reflector, total) = (wrapper as i64, reflector as i64, total as i64);
        self.wrapper.push(wrapper);
        self.reflector.push(reflector - wrapper);
        self.net.push(total - wrapper);
    }
}

fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn range(values: &[i64]) -> (i64, i64) {
    (values.iter().min().copied().unwrap_or_default(), values.iter().max().copied().unwrap_or_default())
}

/// One line of the report.
pub(crate) struct Row {
    pub(crate) case: &'static Case,
    pub(crate) keys: Keys,
    /// Services of the tables.
    pub(crate) services: usize,
    pub(crate) measurement: Measurement,
}

impl Row {
    /// As a row of the table.
    pub(crate) fn line(&self) -> String {
        let Measurement { wrapper, reflector, net } = &self.measurement;
        let (min, max) = range(net);
        let ratio = match median(reflector) {
            some if some >= LEAST_REFLECTOR => format!("{:.0}", median(net) as f64 / some as f64),
            _ => "–".to_owned(),
        };
        format!(
            "| {} | {} | {} | {} | {min}–{max} | {ratio} | {} | {} |",
            self.case.name,
            self.services,
            self.keys.name(),
            median(net),
            median(reflector),
            median(wrapper),
        )
    }

    fn json(&self, name: &str, net: &[i64]) -> serde_json::Value {
        let (min, max) = range(net);
        json!({
            "name": name,
            "net_ns": median(net),
            "min": min,
            "max": max,
            "wrapper_ns": median(&self.measurement.wrapper),
            "keys": self.keys.name(),
            "table_size": self.services,
            "rounds": net.len(),
        })
    }
}

/// The table with what it was measured on.
pub(crate) fn markdown(rows: &[Row], rounds: usize) -> String {
    let mut text = format!(
        "{}\n\nNanoseconds per packet, medians of {rounds} interleaved rounds; net and reflector: less the wrapper of the same round.\n\n\
        | packet | services | keys | net | min–max | × reflector | reflector | wrapper |\n|---|--:|---|--:|--:|--:|--:|--:|\n",
        machine(),
    );
    for row in rows {
        text += &row.line();
        text.push('\n');
    }
    text
}

/// A list with one object for each row, and the reflector on each row's frames.
pub(crate) fn json(rows: &[Row]) -> String {
    let both = |row: &Row| {
        let reflector = format!("reflector: {}", row.case.name);
        [row.json(row.case.name, &row.measurement.net), row.json(&reflector, &row.measurement.reflector)]
    };
    let list: serde_json::Value = rows.iter().flat_map(both).collect();
    format!("{list:#}\n")
}

/// CPU, number of cores and kernel.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{}, {cores} cores, Linux {}", model.trim_start_matches(['\t', ' ', ':']), kernel.trim())
}
