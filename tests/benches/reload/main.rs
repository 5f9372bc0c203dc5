//! Changes of configuration under full query rate: `cargo xtask bench reload`.

mod report;
mod switches;
mod usage;
#[path = "../change/watch.rs"]
mod watch;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use redirector_plan::reference::Scale;
use redirector_tests::lab::Lab;
use std::path::PathBuf;
use switches::Switches;

/// Reloads of one run.
const SWITCHES: u64 = 10;

#[derive(Parser)]
struct Options {
    /// Write the figures here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The small network.
    #[arg(long)]
    quick: bool,
    /// `cargo bench` says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let scale = if options.quick { Scale::SMALL } else { Scale::FULL };
    let switches = Switches::new(scale)?;
    let lab = Lab::start()?;
    let report = switches.run(&lab, SWITCHES)?;
    ensure!(report.wrong.is_empty(), "wrong answers: {:#?}", report.wrong);
    ensure!(report.lost == 0, "{} queries were lost", report.lost);
    print!("{}", report::markdown(&scale, &report));
    if let Some(file) = &options.json {
        let text = report::json(&scale, &report);
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
