//! `redirector diff`: what would change between two configurations.

use super::explain::load;
use crate::manage::diff::{DiffReport, diff as compare};
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;

/// Exit statuses as those of diff(1).
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

pub(super) fn diff(old: &Path, new: &Path, json: bool) -> ExitCode {
    let done = compared(old, new).and_then(|report| {
        match json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => print!("{report}"),
        }
        Ok(report.is_empty())
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERENT),
        Err(error) => {
            eprintln!("redirector: {error:#}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn compared(old: &Path, new: &Path) -> Result<DiffReport> {
    Ok(compare(&load(old)?, &load(new)?))
}
