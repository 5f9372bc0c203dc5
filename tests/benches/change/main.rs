//! What a change of health takes to packets: `cargo xtask bench change`.

mod full;
mod report;
mod small;
mod storm;
mod watch;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use redirector_tests::bpffs::Bpffs;
use std::path::PathBuf;
use storm::{Pace, Storm};

#[derive(Parser)]
struct Options {
    /// Write the figures here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Few changes of the small network alone.
    #[arg(long)]
    quick: bool,
    /// `cargo bench` says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let changes = if options.quick { 1000 } else { 10_000 };
    let mut rows = Vec::new();
    let mut measure = |name: &'static str, storm: &Storm, changes: u64, pace: Pace| {
        let bpffs = Bpffs::mount()?;
        let report = storm.run(bpffs.path(), changes, pace)?;
        ensure!(report.wrong.is_empty(), "{name}: wrong answers: {:#?}", report.wrong);
        rows.push(report::Row { name, report });
        anyhow::Ok(())
    };
    let small = small::storm()?;
    measure("134 targets, one change after the other", &small, changes, Pace::Seen)?;
    measure("134 targets, all at once", &small, 10 * changes, Pace::AtOnce)?;
    if !options.quick {
        measure("10 000 targets, one change after the other", &full::storm()?, 2000, Pace::Seen)?;
    }
    print!("{}", report::markdown(&rows));
    if let Some(file) = &options.json {
        std::fs::write(file, report::json(&rows)).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
