//! `redirector object`: where objects are, as agents outside say (P-11).

use super::client::ask;
use crate::manage::control::Request;
use crate::manage::objects::{Action, Published};
use anyhow::Result;
use clap::Subcommand;
use std::path::Path;
use std::process::ExitCode;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Says that objects are at servers: their clients are sent there, at once, and until it ends or is withdrawn. Says
    /// it anew where it was said before.
    Publish {
        /// Names as DNS asks for them, and URLs as other protocols do.
        #[arg(required = true)]
        objects: Vec<String>,
        /// Servers that all of them are at.
        #[arg(long, value_name = "TARGET", required = true, value_delimiter = ',', num_args = 1..)]
        at: Vec<String>,
        /// Ends by itself after this time, as 90s, 30m, 2h or 1d; without this and --until it holds until it is withdrawn.
        #[arg(long = "for", value_name = "TIME", conflicts_with = "until")]
        duration: Option<String>,
        /// Ends by itself at this time, as 2027-12-31 or 2027-12-31T18:00:00Z.
        #[arg(long, value_name = "DATE")]
        until: Option<String>,
    },
    /// Shows what is published.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Takes back what was published: the servers of the objects' services are used again.
    Withdraw {
        /// Names and URLs as they were published.
        #[arg(required = true)]
        objects: Vec<String>,
    },
}

pub(super) fn run(socket: &Path, command: Command) -> Result<ExitCode> {
    let (action, json, withdrawn) = match command {
        Command::Publish { objects, at, duration, until } => {
            (Action::Publish { objects, at, duration, until }, false, false)
        }
        Command::List { json } => (Action::List, json, false),
        Command::Withdraw { objects } => (Action::Withdraw { objects }, false, true),
    };
    let answer = ask(socket, &Request::Object(action))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<Published> = serde_json::from_value(answer)?;
    for one in all {
        match withdrawn {
            true => println!("{} is withdrawn", one.publication.object),
            false => println!("{one}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}
