//! `redirector load`: tells a box how loaded targets are (P-22).

use super::client::ask;
use crate::feed::load::Told;
use crate::manage::control::Request;
use crate::manage::load::{Batch, Taken};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reports in one request: the longest ones fit into it.
const REPORTS: usize = 128;

/// What is told: of one target by options, or of many by a file.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    one: Option<Told>,
    /// Reports of many targets: a JSON list of objects with the keys `target`, `bandwidth`, `connections`, `requests`,
    /// `for` and `at`; `-` is the standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "Told")]
    json: Option<PathBuf>,
}

pub(super) fn load(socket: &Path, told: LoadArgs) -> Result<ExitCode> {
    let reports = match (told.one, told.json) {
        (Some(one), None) => vec![one],
        (None, Some(path)) => read(&path)?,
        _ => bail!("name a target and its load, or a file by --json"),
    };
    let mut all = Taken::default();
    for part in reports.chunks(REPORTS) {
        let answer = ask(socket, &Request::Load(Batch { reports: part.to_vec() }))?;
        let Taken { taken, refused } = serde_json::from_value(answer)?;
        all.taken += taken;
        all.refused.extend(refused);
    }
    println!("{} taken", all.taken);
    all.refused.iter().for_each(|problem| eprintln!("redirector: {problem}"));
    Ok(if all.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> Result<Vec<Told>> {
    let name = path.display();
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("the standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    }
    serde_json::from_str(&text).with_context(|| {
        format!("{name}: not a list of reports, as [{{\"target\": \"par-1\", \"bandwidth\": \"3 Gbit/s\"}}]")
    })
}
