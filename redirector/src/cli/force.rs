//! `redirector drain`, `force`, `release` and `states`: what operators say over everything else.

use super::client::ask;
use crate::manage::control::Request;
use crate::manage::forces::{Action, Forced, Whom};
use crate::state::forces::Force;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::Path;
use std::process::ExitCode;

/// Why, and how long.
#[derive(Debug, Args)]
pub(super) struct Terms {
    /// Why: shown to everybody who asks why clients go elsewhere.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Ends by itself after this time, as 90s, 30m, 2h or 1d; without this and --until it holds until it is released.
    #[arg(long = "for", value_name = "TIME", conflicts_with = "until")]
    duration: Option<String>,
    /// Ends by itself at this time, as 2027-12-31 or 2027-12-31T18:00:00Z.
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
}

/// What to force something to.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Way {
    /// As well, whatever health checks and load say.
    Up,
    /// As failed.
    Down,
}

impl From<Way> for Force {
    fn from(way: Way) -> Self {
        match way {
            Way::Up => Self::Up,
            Way::Down => Self::Down,
        }
    }
}

pub(super) fn say(socket: &Path, force: Force, whom: Whom, terms: Terms) -> Result<ExitCode> {
    let Terms { reason, duration, until } = terms;
    show(socket, Action::Say { whom, force, reason, duration, until })
}

pub(super) fn release(socket: &Path, whom: Whom) -> Result<ExitCode> {
    let released = changed(socket, Action::Release { whom })?;
    released.iter().for_each(|said| println!("{} {} is released", said.state.kind, said.state.name));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn states(socket: &Path, json: bool) -> Result<ExitCode> {
    if json {
        let states = ask(socket, &Request::Force(Action::List))?;
        println!("{}", serde_json::to_string_pretty(&states)?);
        return Ok(ExitCode::SUCCESS);
    }
    show(socket, Action::List)
}

fn show(socket: &Path, action: Action) -> Result<ExitCode> {
    for said in changed(socket, action)? {
        println!("{} {} is {said}", said.state.kind, said.state.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn changed(socket: &Path, action: Action) -> Result<Vec<Forced>> {
    Ok(serde_json::from_value(ask(socket, &Request::Force(action))?)?)
}
