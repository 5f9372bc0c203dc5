//! `redirector log`: reads the decision log.

use crate::journal::{Damage, Decision, Entry, Names, Reader, Shown, files, moment};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use redirector_core::verdict::Reason;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What is done with a decision log.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows what is in a log. Exit status 1: a file is damaged; what stands before is shown.
    Show {
        /// Files, or directories with them.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        which: Which,
    },
    /// Shows what is written to a log from now on, until it is interrupted.
    Follow {
        /// Directory of the log.
        #[arg(default_value = "/var/log/redirector", value_name = "DIR")]
        directory: PathBuf,
        #[command(flatten)]
        which: Which,
    },
}

/// Which decisions are shown, and how.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Of these clients alone: an address or a prefix.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    client: Option<IpNet>,
    /// With this reason alone.
    #[arg(long, value_parser = reason)]
    reason: Option<Reason>,
    /// Of this service alone.
    #[arg(long)]
    service: Option<String>,
    /// Of clients that were sent to this target alone.
    #[arg(long)]
    target: Option<String>,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| "an address, or a prefix as 198.51.100.0/24".to_owned())
}

fn reason(text: &str) -> Result<Reason, String> {
    let found = Reason::ALL.iter().find(|reason| reason.name() == text);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

impl Which {
    fn wants(&self, decision: &Decision) -> bool {
        self.client.is_none_or(|prefix| prefix.contains(&decision.client.ip()))
            && self.reason.is_none_or(|reason| reason == decision.reason)
    }

    fn wants_shown(&self, shown: &Shown) -> bool {
        self.service.as_ref().is_none_or(|wanted| shown.service.as_ref() == Some(wanted))
            && self.target.as_ref().is_none_or(|wanted| shown.targets.contains(wanted))
    }

    fn show(&self, entry: &Entry, names: &Names, out: &mut impl Write) -> io::Result<()> {
        match entry {
            Entry::Decision(decision) if self.wants(decision) => {
                let shown = Shown::of(decision, names);
                match self.wants_shown(&shown) {
                    true if self.json => writeln!(out, "{}", serde_json::to_string(&shown)?),
                    true => writeln!(out, "{shown}"),
                    false => Ok(()),
                }
            }
            Entry::Lost { time, cause, count } if !self.json => {
                writeln!(out, "{} {count} decisions are missing: {cause}", moment(*time))
            }
            Entry::Lost { time, cause, count } => {
                let lost = serde_json::json!({ "time": time, "lost": count, "cause": cause });
                writeln!(out, "{lost}")
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn run(command: Command) -> Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout());
    let done = match command {
        Command::Show { files, which } => show(&files, &which, &mut out),
        Command::Follow { directory, which } => follow(&directory, &which, &mut out),
    };
    let flushed = out.flush().map_err(anyhow::Error::from);
    match done.and_then(|code| flushed.map(|()| code)) {
        // Whoever reads this has seen enough.
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) =>
        {
            Ok(ExitCode::SUCCESS)
        }
        other => other,
    }
}

/// The files that are named, in the order of time where a directory is.
pub(super) fn expand(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut expanded = Vec::new();
    for path in named {
        match path.is_dir() {
            true => expanded.extend(files(path).with_context(|| path.display().to_string())?),
            false => expanded.push(path.clone()),
        }
    }
    if expanded.is_empty() {
        bail!(
            "there is no log file in {}",
            named.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }
    Ok(expanded)
}

fn show(named: &[PathBuf], which: &Which, out: &mut BufWriter<Stdout>) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for path in expand(named)? {
        let mut reader = open(&path)?;
        if let Some(damage) = show_rest(&mut reader, &path, which, out)? {
            out.flush()?;
            eprintln!("redirector: {}: {damage}", path.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn open(path: &Path) -> Result<Reader<File>> {
    Reader::open(path).with_context(|| path.display().to_string())
}

/// Shows what a file holds from here on; gives what stands in the way of reading on.
fn show_rest(
    reader: &mut Reader<File>,
    path: &Path,
    which: &Which,
    out: &mut BufWriter<Stdout>,
) -> Result<Option<Damage>> {
    loop {
        match reader.next().with_context(|| path.display().to_string())? {
            None => return Ok(None),
            Some(Err(damage)) => return Ok(Some(damage)),
            Some(Ok(entry)) => which.show(&entry, reader.names(), out)?,
        }
    }
}

fn follow(directory: &Path, which: &Which, out: &mut BufWriter<Stdout>) -> Result<ExitCode> {
    let mut followed: Option<(PathBuf, Reader<File>)> = None;
    let mut told = None;
    loop {
        let known = files(directory).with_context(|| directory.display().to_string())?;
        let next = match &followed {
            // What was written before is not shown.
            None => known.last(),
            Some((path, _)) => known.iter().find(|file| *file > path),
        };
        if followed.is_none()
            && let Some(path) = next
        {
            let mut reader = open(path)?;
            while let Some(Ok(_)) = reader.next()? {}
            followed = Some((path.clone(), reader));
            continue;
        }
        if let Some((path, reader)) = &mut followed {
            // Half an entry at the end is the writer at work.
            let damage =
                show_rest(reader, path, which, out)?.filter(|damage| !damage.cut_off || next.is_some());
            if damage.is_some() && told != damage {
                damage.iter().for_each(|damage| eprintln!("redirector: {}: {damage}", path.display()));
                told = damage;
            }
        }
        out.flush()?;
        match next {
            // The file before has been read to its end, since the next one was there already.
            Some(path) => followed = Some((path.clone(), open(path)?)),
            None => thread::sleep(LOOK),
        }
    }
}
