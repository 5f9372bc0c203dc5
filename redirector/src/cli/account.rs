//! `redirector account`: what was booked for whom (P-30).

use super::client::ask;
use crate::accounts::billing::{self, Bill, Billing, Unit};
use crate::accounts::query::{self, Answer, COLUMNS, Filter, Question, Row, Sum, csv_line};
use crate::accounts::reports::Report;
use crate::accounts::store::{Store, StoreError};
use crate::accounts::{FILE, Kind};
use crate::config::terms;
use crate::manage::control::Request;
use crate::state::agreements::unix_now;
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
    /// Writes what accounts of agreements and providers used in a month: peaks, 95th percentiles, price × use.
    Bill {
        #[command(flatten)]
        which: Filter,
        /// Which month, as 2027-03.
        #[arg(long, value_name = "MONTH")]
        month: String,
        /// What the agreements' prices are for.
        #[arg(long, value_enum, default_value = "gb")]
        price_per: PricePer,
        /// In which form.
        #[arg(long, value_enum, default_value = "csv")]
        format: Format,
    },
    /// Tells what an edge served for an agreement, provider or target. A report that comes again is counted once.
    Report {
        #[command(flatten)]
        report: Report,
    },
    /// Tells what edges served: one JSON object a line from a file or, with -, from standard input.
    Reports {
        /// The file.
        file: PathBuf,
    },
}

/// What a price is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PricePer {
    /// A thousand requests that were booked.
    #[value(name = "1000-requests")]
    Requests,
    /// 10⁹ bytes that edges reported.
    #[value(name = "gb")]
    Gigabyte,
    /// A million bits in a second, 95th percentile.
    #[value(name = "mbit/s")]
    Megabit,
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
            Self::Store(held) => {
                if let Question::Report { .. } = question {
                    bail!("reports go to a running box: leave --state out");
                }
                query::answer(&held.1, Some(&held.0), &question).map_err(anyhow::Error::msg)
            }
        }
    }

    /// All rows, a page after the other.
    fn rows(&self, which: &Filter, span: &Span, each: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        let instant = |text: &Option<String>, ends| {
            text.as_ref().map(|text| terms::instant(text, ends)).transpose().map_err(anyhow::Error::msg)
        };
        let from = instant(&span.from, false)?.unwrap_or(0);
        let until = instant(&span.until, true)?.unwrap_or(u64::MAX);
        self.rows_of(which, (from, until), each)
    }

    fn rows_of(
        &self,
        which: &Filter,
        (from, until): (u64, u64),
        mut each: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
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
            let Row { from, account, requests, peak_requests_per_s, bytes, .. } = row;
            let name = &account.name;
            writeln!(
                out,
                "{from}  {name:<40} {requests:>14} requests, peak {peak_requests_per_s:.1}/s, {bytes} bytes"
            )?;
            Ok(())
        })?,
        Command::Export { which, span, format: Format::Csv } => {
            write!(out, "{}", csv_line(COLUMNS))?;
            books.rows(&which, &span, |row| Ok(write!(out, "{}", csv_line(row.fields()))?))?;
        }
        Command::Export { which, span, format: Format::Json } => {
            books.rows(&which, &span, |row| Ok(writeln!(out, "{}", row.json())?))?;
        }
        Command::Bill { which, month, price_per, format } => {
            let unit = match price_per {
                PricePer::Requests => Unit::Requests,
                PricePer::Gigabyte => Unit::Bytes,
                PricePer::Megabit => Unit::Bits,
            };
            bill(&books, &which, (&month, unit, format), &mut out)?;
        }
        Command::Report { report } => {
            told(&books.ask(Question::Report { reports: vec![report] })?, &mut out)?
        }
        Command::Reports { file } => reports(&books, &file, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn bill(
    books: &Books,
    which: &Filter,
    (month, unit, format): (&str, Unit, Format),
    out: &mut impl Write,
) -> Result<()> {
    let (begin, end) = billing::month(month).map_err(anyhow::Error::msg)?;
    let mut billing = Billing::new(unit);
    let wanted = |row: &Row| row.complete && (row.account.kind != Kind::Target || which.target.is_some());
    books.rows_of(which, (begin, end), |row| {
        if wanted(row) {
            billing.add(row);
        }
        Ok(())
    })?;
    let elapsed = end.min(unix_now()).saturating_sub(begin);
    if let Format::Csv = format {
        write!(out, "{}", csv_line(billing::COLUMNS))?;
    }
    for bill in billing.bills(elapsed) {
        let Bill { ref account, .. } = bill;
        match format {
            Format::Csv => write!(out, "{}", csv_line(bill.fields(month, unit)))?,
            Format::Json => {
                let fields = bill.fields(month, unit);
                let pairs = billing::COLUMNS.into_iter().zip(fields);
                let object: serde_json::Map<String, serde_json::Value> =
                    pairs.map(|(name, field)| (name.to_owned(), number_or_text(name, field))).collect();
                debug_assert_eq!(object["account"], account.name);
                writeln!(out, "{}", serde_json::Value::from(object))?;
            }
        }
    }
    Ok(())
}

/// A field of JSON: numbers that programs reckon with, and texts. An amount is a text, because it is exact.
fn number_or_text(name: &str, field: String) -> serde_json::Value {
    let is_number = ["parts", "requests", "bytes"].contains(&name) || name.ends_with("_per_s");
    match field.parse::<serde_json::Number>() {
        Ok(number) if is_number => number.into(),
        _ if field.is_empty() => serde_json::Value::Null,
        _ => field.into(),
    }
}

/// Reports in one request, so that it stays shorter than a request can be.
const REPORTS: usize = 100;

fn reports(books: &Books, file: &std::path::Path, out: &mut impl Write) -> Result<()> {
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin())?,
        _ => std::fs::read_to_string(file).with_context(|| file.display().to_string())?,
    };
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}", file.display(), number + 1))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let all: Vec<Report> = lines.map(parse).collect::<Result<_>>()?;
    all.chunks(REPORTS)
        .try_for_each(|some| told(&books.ask(Question::Report { reports: some.to_vec() })?, out))
}

fn told(answer: &Answer, out: &mut impl Write) -> Result<()> {
    let Answer::Booked { booked, repeated } = answer else { bail!("the box gave another answer") };
    Ok(writeln!(out, "{booked} booked, {repeated} known already")?)
}

fn line(sum: &Sum) -> String {
    let Sum { account, requests, requests_per_s, bytes, .. } = sum;
    format!(
        "{:<40} {requests:>14} requests, {requests_per_s:.1} a second in the last minute, {bytes} bytes",
        account.name
    )
}
