//! `redirector agreement`: agreements at run time (P-31).

use super::client::ask;
use crate::manage::agreements::{Action, AgreementReport, Wish};
use crate::manage::control::Request;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows all agreements: what they cover, whether they hold, and how full they are.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Proposes an agreement; it holds when it is accepted.
    Offer {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        wish: Wish,
    },
    /// Accepts an agreement that was offered: it holds from now on.
    Accept {
        #[command(flatten)]
        which: Which,
    },
    /// Changes an agreement; what is not told stays.
    Change {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        wish: Wish,
    },
    /// Ends an agreement at once.
    End {
        #[command(flatten)]
        which: Which,
    },
    /// Tells how much edges serve for an agreement, to keep it within its capacity.
    Report {
        /// Name of the agreement.
        name: String,
        /// As "1500 Mbit/s".
        rate: String,
    },
}

/// Which agreement is meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Name of the agreement.
    name: String,
    /// The broker that owns it, on whose behalf this is done.
    #[arg(long = "as", value_name = "BROKER")]
    broker: Option<String>,
}

pub(super) fn run(socket: &Path, command: Command) -> Result<ExitCode> {
    let json = matches!(command, Command::List { json: true });
    let list = matches!(command, Command::List { .. });
    let action = match command {
        Command::List { .. } => Action::List,
        Command::Offer { which: Which { name, broker }, wish } => Action::Offer { name, wish, broker },
        Command::Accept { which: Which { name, broker } } => Action::Accept { name, broker },
        Command::Change { which: Which { name, broker }, wish } => Action::Change { name, wish, broker },
        Command::End { which: Which { name, broker } } => Action::End { name, broker },
        Command::Report { name, rate } => Action::Report { name, rate },
    };
    let answer = ask(socket, &Request::Agreement(action))?;
    match (list, json) {
        (true, true) => println!("{}", serde_json::to_string_pretty(&answer)?),
        (true, false) => {
            let agreements: Vec<AgreementReport> = serde_json::from_value(answer)?;
            agreements.iter().for_each(|agreement| println!("{agreement}"));
        }
        _ => match answer["state"].as_str() {
            Some(state) => println!("{}: {state}", answer["agreement"].as_str().unwrap_or_default()),
            None => println!("{}: noted", answer["agreement"].as_str().unwrap_or_default()),
        },
    }
    Ok(ExitCode::SUCCESS)
}
