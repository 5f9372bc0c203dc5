//! `redirector simulate`: what a box makes of load in a network that does not exist.

use crate::simulate::{Controller, HEAD, run, scenarios};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Demand with a heavy tail, crowds, reports that are late, lost or stale, and a server that dies: how far load
    /// swings, how long servers are overloaded, how many clients move; beside it, plain thresholds.
    Load {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn simulate(command: &Command) -> Result<ExitCode> {
    let Command::Load { json } = command;
    let mut results = Vec::new();
    if !json {
        println!("{HEAD}");
    }
    for scenario in scenarios() {
        for controller in [Controller::Ours, Controller::Naive, Controller::Nobody] {
            let result = run(scenario, controller).context("no memory for the simulated tables")?;
            if !json {
                println!("{result}");
            }
            results.push(result);
        }
    }
    if *json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(ExitCode::SUCCESS)
}
