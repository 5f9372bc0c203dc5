//! `redirector replay`: what another configuration would have decided.

use super::explain::load;
use super::log::expand;
use crate::manage::replay::replay as replay_logs;
use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn replay(logs: &[PathBuf], new: &Path, against: Option<&Path>, json: bool) -> Result<ExitCode> {
    let logs = expand(logs)?;
    let (new, against) = (load(new)?, against.map(load).transpose()?);
    let report = replay_logs(&logs, new, against).map_err(|problem| anyhow!(problem))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
