//! What it costs that the program tells of its decisions: the same frames by programs that tell none and one in 1000,
//! one after the other in each round; and by an older object, if there is one to compare with.

use crate::feeder::{Feeder, Program, XDP_DROP};
use crate::ours::Ours;
use crate::workload::{CASES, Keys, Workload};
use crate::{Effort, report};
use anyhow::{Context as _, Result};
use redirector::dataplane::Dataplane as _;
use redirector_plan::reference::{Scale, reference};
use std::path::Path;

/// An object that is measured, too: the program before a change.
const BEFORE: &str = "REDIRECTOR_BENCH_BEFORE";
/// What is measured: the first cases by DNS and by CDSR.
const NAMES: [&str; 2] = ["DNS A", "CDSR, 1 endpoint"];

/// Lines of a table.
pub(crate) fn measure(pins: &Path, effort: Effort) -> Result<String> {
    let network = reference(Scale::SMALL);
    let mut programs = Vec::new();
    if let Some(path) = std::env::var_os(BEFORE) {
        let object = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let ours =
            Ours::publish_with(&network, &pins.join("before"), |dataplane| dataplane.set_object(object))?;
        programs.push(("before", ours));
    }
    for (name, one_in) in [("none told", 0), ("1 in 1000 told", 1000)] {
        let prepare = |dataplane: &mut redirector::dataplane::BpfDataplane| dataplane.set_sampling(one_in);
        programs.push((name, Ours::publish_with(&network, &pins.join(format!("told-{one_in}")), prepare)?));
    }
    let mut text = "\n| packet | program | net | min–max |\n|---|---|--:|--:|\n".to_owned();
    for case in CASES.iter().filter(|case| NAMES.contains(&case.name)) {
        let frames = Workload::new(&network, Keys::Hot).ring(case, &programs[0].1.tables.read())?;
        let mut feeder = Feeder::load(&frames)?;
        let mut net = vec![Vec::new(); programs.len()];
        for round in 0..=3 * effort.rounds {
            let wrapper = feeder.time(Program::Nothing, effort.packets, XDP_DROP)?;
            for ((_, ours), net) in programs.iter().zip(&mut net) {
                let program = ours.dataplane.program_fd()?.context("no program is published")?;
                let total = feeder.time(Program::Other(program), effort.packets, case.action.code())?;
                if round > 0 {
                    net.push(total as i64 - wrapper as i64);
                }
            }
        }
        for ((name, _), net) in programs.iter().zip(&net) {
            let (min, max) = report::range(net);
            text += &format!("| {} | {name} | {} | {min}–{max} |\n", case.name, report::median(net));
        }
    }
    Ok(text)
}
