//! Changes of configuration under full query rate: `cargo xtask bench reload`.

#[path = "../shared/options.rs"]
mod options;
mod report;
mod switches;
mod usage;
#[path = "../change/watch.rs"]
mod watch;

use anyhow::{Result, ensure};
use clap::Parser as _;
use redirector_plan::reference::Scale;
use redirector_tests::lab::Lab;
use switches::Switches;

/// Reloads of one run.
const SWITCHES: u64 = 10;

fn main() -> Result<()> {
    let options = options::Options::parse();
    let scale = if options.quick { Scale::SMALL } else { Scale::FULL };
    let switches = Switches::new(scale)?;
    let lab = Lab::start()?;
    let report = switches.run(&lab, SWITCHES)?;
    ensure!(report.wrong.is_empty(), "wrong answers: {:#?}", report.wrong);
    ensure!(report.lost == 0, "{} queries were lost", report.lost);
    options.tell(&report::markdown(&scale, &report), &report::json(&scale, &report))
}
