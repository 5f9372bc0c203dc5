//! What a change of health takes to packets: `cargo xtask bench change`.

mod full;
#[path = "../shared/options.rs"]
mod options;
mod report;
mod small;
mod storm;
mod watch;

use anyhow::{Result, ensure};
use clap::Parser as _;
use redirector_tests::bpffs::Bpffs;
use storm::{Pace, Storm};

/// What 99 of 100 changes may take to reach answers, in microseconds.
const LONGEST: u64 = 5000;

fn main() -> Result<()> {
    let options = options::Options::parse();
    let changes = if options.quick { 1000 } else { 10_000 };
    let mut rows = Vec::new();
    let mut measure = |name: &'static str, storm: &Storm, changes: u64, pace: Pace| {
        let bpffs = Bpffs::mount()?;
        let report = storm.run(bpffs.path(), changes, pace)?;
        ensure!(report.wrong.is_empty(), "{name}: wrong answers: {:#?}", report.wrong);
        for latencies in &report.latencies {
            let p99 = report::figures(latencies).map_or(0, |[_, p99, _]| p99);
            ensure!(p99 < LONGEST, "{name}: {p99} us at 99 % from a change to the first answer with it");
        }
        rows.push(report::Row { name, report });
        anyhow::Ok(())
    };
    let small = small::storm()?;
    measure("134 targets, one change after the other", &small, changes, Pace::Seen)?;
    measure("134 targets, all at once", &small, 10 * changes, Pace::AtOnce)?;
    if !options.quick {
        measure("10 000 targets, one change after the other", &full::storm()?, 2000, Pace::Seen)?;
    }
    options.tell(&report::markdown(&rows), &report::json(&rows))
}
