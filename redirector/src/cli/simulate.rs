//! `redirector simulate`: what a box makes of load, and of ways to choose servers, in a network that does not exist.

use crate::simulate::affinity::{self, Workload};
use crate::simulate::{Controller, HEAD, run, scenarios};
use anyhow::{Context as _, Result, anyhow};
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
    /// Copies made and load spread where an object's requests stay together, against plain weighted choice; and what
    /// moves when servers change.
    Affinity {
        #[command(flatten)]
        workload: Workload,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn simulate(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Load { json } => load(*json),
        Command::Affinity { workload, json } => affinity(*workload, *json),
    }
}

fn load(json: bool) -> Result<ExitCode> {
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
    if json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn affinity(workload: Workload, json: bool) -> Result<ExitCode> {
    let report = affinity::run(workload).map_err(|why| anyhow!("the network is refused: {why}"))?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{report}"),
    }
    Ok(ExitCode::SUCCESS)
}
