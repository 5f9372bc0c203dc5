//! `redirector account`: what was booked for whom (P-30).

use super::client::ask;
use crate::accounts::FILE;
use crate::accounts::query::{self, Answer, COLUMNS, Filter, Question, Row, Sum, csv_line};
use crate::accounts::store::{Store, StoreError};
use crate::config::terms;
use crate::manage::control::Request;
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows all accounts, with what was ever booked to them and what is going on now.
    List {
        #[command(flatten)]
        which: Filter,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what was booked in each part of time, for people.
    Show {
        #[command(flatten)]
        which: Filter,
        #[command(flatten)]
        span: Span,
    },
    /// Writes what was booked in each part of time, for programs.
    Export {
        #[command(flatten)]
        which: Filter,
        #[command(flatten)]
        span: Span,
        /// In which form.
        #[arg(long, value_enum, default_value = "csv")]
        format: Format,
    },
}

/// A part of time.
#[derive(Debug, Args)]
pub(super) struct Span {
    /// Date or time (UTC) from which on.
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// Date or time until which; a date is included.
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
}

/// Form of an export.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values (RFC 4180), with a line of column names.
    Csv,
    /// One JSON object a line, with the columns' names.
    Json,
}

/// Who is asked.
#[derive(Debug, Args)]
pub(super) struct From {
    #[command(flatten)]
    socket: super::SocketArgs,
    /// Reads the accounts in this state directory, of a box that does not run.
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    state: Option<PathBuf>,
}

/// A running box, or the store of one that has ended.
enum Books {
    Running(PathBuf),
    Store(Box<(Store, crate::accounts::ledger::Ledger)>),
}

impl Books {
    fn open(from: From) -> Result<Self> {
        let Some(state) = from.state else { return Ok(Self::Running(from.socket.socket)) };
        let store = match Store::open_to_read(&state.join(FILE)) {
            Err(error @ StoreError::InUse(_)) => {
                bail!("{error}; ask the running box: leave --state out, or name its --socket")
            }
            opened => opened?,
        };
        let ledger = store.load()?.context("there are no accounts in it")?;
        Ok(Self::Store(Box::new((store, ledger))))
    }

    fn ask(&self, question: Question) -> Result<Answer> {
        match self {
            Self::Running(socket) => Ok(serde_json::from_value(ask(socket, &Request::Account(question))?)?),
            Self::Store(held) => query::answer(&held.1, Some(&held.0), &question).map_err(anyhow::Error::msg),
        }
    }

    /// All rows, a page after the other.
    fn rows(&self, which: &Filter, span: &Span, mut each: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        let instant = |text: &Option<String>, ends| {
            text.as_ref().map(|text| terms::instant(text, ends)).transpose().map_err(anyhow::Error::msg)
        };
        let from = instant(&span.from, false)?.unwrap_or(0);
        let until = instant(&span.until, true)?.unwrap_or(u64::MAX);
        let mut after = None;
        loop {
            let question = Question::Buckets { which: which.clone(), from, until, after };
            let Answer::Rows(rows, more) = self.ask(question)? else { bail!("the box gave another answer") };
            rows.iter().try_for_each(&mut each)?;
            after = Some(match more {
                Some(place) => place,
                None => return Ok(()),
            });
        }
    }
}

pub(super) fn run(from: From, command: Command) -> Result<ExitCode> {
    let books = Books::open(from)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match command {
        Command::List { which, json } => {
            let Answer::Accounts(sums) = books.ask(Question::List { which })? else {
                bail!("the box gave another answer")
            };
            match json {
                true => writeln!(out, "{}", serde_json::to_string_pretty(&sums)?)?,
                false => sums.iter().try_for_each(|sum| writeln!(out, "{}", line(sum)))?,
            }
        }
        Command::Show { which, span } => books.rows(&which, &span, |row| {
            let Row { from, account, requests, peak_requests_per_s, .. } = row;
            let name = &account.name;
            writeln!(out, "{from}  {name:<40} {requests:>14} requests, peak {peak_requests_per_s:.1}/s")?;
            Ok(())
        })?,
        Command::Export { which, span, format: Format::Csv } => {
            write!(out, "{}", csv_line(COLUMNS))?;
            books.rows(&which, &span, |row| Ok(write!(out, "{}", csv_line(row.fields()))?))?;
        }
        Command::Export { which, span, format: Format::Json } => {
            books.rows(&which, &span, |row| Ok(writeln!(out, "{}", row.json())?))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn line(sum: &Sum) -> String {
    let Sum { account, requests, requests_per_s, .. } = sum;
    format!("{:<40} {requests:>14} requests, {requests_per_s:.1} a second in the last minute", account.name)
}
