//! The figures, for people and for programs.

use crate::switches::Report;
use crate::usage::Usage;
use redirector_plan::reference::Scale;
use serde_json::{Value, json};

/// Steps of building a generation, by their names in `redirector stats`.
const STEPS: [(&str, &str); 6] = [
    ("read", "read_ms"),
    ("wait for checks", "checks_ms"),
    ("compile", "compile_ms"),
    ("load", "load_ms"),
    ("fill", "fill_ms"),
    ("switch", "switch_ms"),
];

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A step's times over all generations, sorted.
fn times(report: &Report, step: &str) -> Vec<f64> {
    let mut times: Vec<f64> = report.built.iter().filter_map(|built| built[step].as_f64()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// A table of steps, one of what is held, and what was asked.
pub(crate) fn markdown(scale: &Scale, report: &Report) -> String {
    let mut text = format!(
        "{} services, {} IPv4 and {} IPv6 prefixes, {} targets, {} VIPs.\n\n\
         | step | median ms | longest ms |\n|---|--:|--:|\n",
        scale.services, scale.ipv4_prefixes, scale.ipv6_prefixes, scale.targets, scale.vips
    );
    let mut reloads: Vec<f64> = report.reloads.iter().map(|took| took.as_secs_f64() * 1000.0).collect();
    reloads.sort_by(f64::total_cmp);
    let steps = STEPS.map(|(name, step)| (name, times(report, step)));
    for (name, times) in steps.into_iter().chain([("reload, from request to answer", reloads)]) {
        if let Some(longest) = times.last() {
            text += &format!("| {name} | {:.1} | {longest:.1} |\n", times[times.len() / 2]);
        }
    }
    text += "\n| after switch | resident MiB | peak MiB | maps | map MiB |\n|--:|--:|--:|--:|--:|\n";
    for (number, usage) in report.usage.iter().enumerate() {
        let Usage { resident, peak, maps, map_bytes, .. } = usage;
        let [resident, peak, map_bytes] = [resident, peak, map_bytes].map(|bytes| mebibytes(*bytes));
        text += &format!("| {number} | {resident:.0} | {peak:.0} | {maps} | {map_bytes:.0} |\n");
    }
    let [tested, sent] = report.answers;
    let seconds = report.elapsed.as_secs_f64();
    text += &format!(
        "\nIn {seconds:.0} s {tested} answers of test-runs and {sent} over the interface ({:.0} and {:.0} a second): \
         {} wrong, {} lost, {} programs.\n",
        tested as f64 / seconds,
        sent as f64 / seconds,
        report.wrong.len(),
        report.lost,
        report.replaced + 1
    );
    text
}

/// One object.
pub(crate) fn json(scale: &Scale, report: &Report) -> String {
    let usage = |usage: &Usage| {
        json!({
            "resident_bytes": usage.resident,
            "peak_bytes": usage.peak,
            "maps": usage.maps,
            "map_bytes": usage.map_bytes,
            "map_mappings": usage.mappings,
            "threads": usage.threads,
            "descriptors": usage.descriptors,
            "pins": usage.pins.len(),
        })
    };
    let object = json!({
        "services": scale.services,
        "ipv4_prefixes": scale.ipv4_prefixes,
        "ipv6_prefixes": scale.ipv6_prefixes,
        "targets": scale.targets,
        "vips": scale.vips,
        "generations": report.built,
        "reload_ms": report.reloads.iter().map(|took| took.as_secs_f64() * 1000.0).collect::<Vec<_>>(),
        "usage": report.usage.iter().map(usage).collect::<Vec<Value>>(),
        "answers_by_test_run": report.answers[0],
        "answers_over_the_interface": report.answers[1],
        "programs": report.replaced + 1,
        "lost": report.lost,
        "wrong": report.wrong.len(),
        "seconds": report.elapsed.as_secs_f64(),
    });
    format!("{object:#}\n")
}
