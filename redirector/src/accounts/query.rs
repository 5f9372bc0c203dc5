//! What accounts say, by account and by part of time, for people and programs.

use super::ledger::{Bucket, Ledger, Record};
use super::store::Store;
use super::{Account, Kind};
use crate::config::terms::{show_instant, show_price};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rows in one answer at most.
pub const PAGE: usize = 1000;

/// Which accounts are meant: those that have everything that is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(default)]
pub struct Filter {
    /// Those of an agreement.
    #[arg(long)]
    pub agreement: Option<String>,
    /// Those of a provider's content.
    #[arg(long)]
    pub provider: Option<String>,
    /// That of a target.
    #[arg(long)]
    pub target: Option<String>,
    /// Those that concern a primary CDN.
    #[arg(long)]
    pub cdn: Option<String>,
    /// Those of the clients of a network.
    #[arg(long)]
    pub network: Option<String>,
}

impl Filter {
    /// Whether an account is meant.
    pub fn fits(&self, account: &Account) -> bool {
        let same = |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
        same(&self.agreement, &account.agreement)
            && same(&self.provider, &account.provider)
            && same(&self.cdn, &account.cdn)
            && same(&self.network, &account.network)
            && self.target.as_ref().is_none_or(|name| account.kind == Kind::Target && *name == account.name)
    }
}

/// What is asked of the accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Question {
    /// All accounts, with what was ever booked to them.
    List {
        /// Which.
        #[serde(default)]
        which: Filter,
    },
    /// What was booked in parts of time.
    Buckets {
        /// Which accounts.
        #[serde(default)]
        which: Filter,
        /// Buckets that end after this, in seconds since 1970.
        #[serde(default)]
        from: u64,
        /// Buckets that begin before this.
        #[serde(default = "always")]
        until: u64,
        /// The last row that is known already.
        #[serde(default)]
        after: Option<Place>,
    },
}

fn always() -> u64 {
    u64::MAX
}

/// Place of a row among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Its bucket.
    pub bucket: Bucket,
    /// Number of its account.
    pub account: u32,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Accounts.
    Accounts(Vec<Sum>),
    /// Rows in order, and the place behind which there are more.
    Rows(Vec<Row>, Option<Place>),
}

/// One account with what was ever booked to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// Which.
    #[serde(flatten)]
    pub account: Account,
    /// Requests.
    pub requests: u64,
    /// Bytes that edges reported.
    pub bytes: u64,
    /// Requests that edges reported.
    pub edge_requests: u64,
    /// Requests in the last minute.
    pub last_minute: u64,
    /// Requests in a second of the last minute.
    pub requests_per_s: f64,
}

/// One account in one part of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its begin: date and time in UTC.
    pub from: String,
    /// The second after its last.
    pub until: String,
    /// Which account.
    #[serde(flatten)]
    pub account: Account,
    /// Requests booked.
    pub requests: u64,
    /// Most requests in a second.
    pub peak_requests_per_s: f64,
    /// When that was; empty: never.
    pub peak_requests_at: String,
    /// The price that was agreed, in millionths.
    pub agreed_price: u64,
    /// It is over: nothing but reports of edges will be added.
    pub complete: bool,
}

/// Names of the columns of CSV.
pub const COLUMNS: [&str; 15] = [
    "from",
    "until",
    "kind",
    "account",
    "agreement",
    "provider",
    "cdn",
    "network",
    "broker",
    "target",
    "requests",
    "peak_requests_per_s",
    "peak_requests_at",
    "price",
    "complete",
];

impl Row {
    /// Its fields, in the order of [`COLUMNS`].
    pub fn fields(&self) -> [String; COLUMNS.len()] {
        let account = &self.account;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let target = if account.kind == Kind::Target { account.name.clone() } else { String::new() };
        [
            self.from.clone(),
            self.until.clone(),
            account.kind.name().to_owned(),
            account.name.clone(),
            text(&account.agreement),
            text(&account.provider),
            text(&account.cdn),
            text(&account.network),
            text(&account.broker),
            target,
            self.requests.to_string(),
            format!("{:.3}", self.peak_requests_per_s),
            self.peak_requests_at.clone(),
            show_price(self.agreed_price),
            self.complete.to_string(),
        ]
    }

    /// As JSON, with the columns' names.
    pub fn json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        for (name, field) in COLUMNS.into_iter().zip(self.fields()) {
            let value = match name {
                "requests" => self.requests.into(),
                "peak_requests_per_s" => self.peak_requests_per_s.into(),
                "complete" => self.complete.into(),
                _ if field.is_empty() => serde_json::Value::Null,
                _ => field.into(),
            };
            object.insert(name.to_owned(), value);
        }
        object.into()
    }

    fn new(bucket: Bucket, account: &Account, record: Record, complete: bool) -> Self {
        let at = |second: u64| if second == 0 { String::new() } else { show_instant(second) };
        Self {
            from: show_instant(bucket.start),
            until: show_instant(bucket.end()),
            account: account.clone(),
            requests: record.requests,
            peak_requests_per_s: record.peak as f64 / 1000.0,
            peak_requests_at: at(if record.peak == 0 { 0 } else { record.peak_at }),
            agreed_price: record.price,
            complete,
        }
    }
}

/// One line of CSV (RFC 4180), with its end.
pub fn csv_line<T: AsRef<str>>(fields: impl IntoIterator<Item = T>) -> String {
    let mut line = String::new();
    for (place, field) in fields.into_iter().enumerate() {
        let field = field.as_ref();
        if place > 0 {
            line.push(',');
        }
        if field.contains(['"', ',', '\n', '\r']) {
            // Writing to a string does not fail.
            let _ = write!(line, "\"{}\"", field.replace('"', "\"\""));
        } else {
            line.push_str(field);
        }
    }
    line.push_str("\r\n");
    line
}

/// Answers a question by what is in memory and in the store.
///
/// # Errors
/// If the store cannot be read.
pub fn answer(ledger: &Ledger, store: Option<&Store>, question: &Question) -> Result<Answer, String> {
    match question {
        Question::List { which } => Ok(Answer::Accounts(list(ledger, which))),
        Question::Buckets { which, from, until, after } => {
            let store = store.ok_or("the store cannot be read now; `redirector status` says why")?;
            let mut page = Page { ledger, which, after: *after, rows: Vec::new(), more: None };
            page.fill(store, *from, *until)?;
            Ok(Answer::Rows(page.rows, page.more))
        }
    }
}

fn list(ledger: &Ledger, which: &Filter) -> Vec<Sum> {
    let (length, minute) = ledger.last_minute();
    let accounts = (0u32..).zip(&ledger.accounts).filter(|(_, account)| which.fits(account));
    let sum = |(number, account): (u32, &Account)| {
        let live = ledger.live[number as usize];
        let last_minute = minute.get(&number).copied().unwrap_or(0);
        let rate = last_minute as f64 / length.as_secs_f64();
        Sum {
            account: account.clone(),
            requests: live.requests,
            bytes: live.bytes,
            edge_requests: live.edge_requests,
            last_minute,
            requests_per_s: if length.is_zero() { 0.0 } else { rate },
        }
    };
    accounts.map(sum).collect()
}

/// A page of rows while it is filled.
struct Page<'l> {
    ledger: &'l Ledger,
    which: &'l Filter,
    after: Option<Place>,
    rows: Vec<Row>,
    more: Option<Place>,
}

impl Page<'_> {
    fn fill(&mut self, store: &Store, from: u64, until: u64) -> Result<(), String> {
        let first = self.after.map_or_else(Bucket::default, |place| place.bucket);
        let mut waiting = self.waiting();
        waiting.retain(|bucket, _| *bucket >= first && bucket.end() > from && bucket.start < until);
        let read = store.buckets(from, until, first, |closed| {
            while let Some(earlier) = waiting.first_entry().filter(|entry| *entry.key() < closed.bucket) {
                let (bucket, records) = earlier.remove_entry();
                if !self.add(bucket, records) {
                    return false;
                }
            }
            let mut records: BTreeMap<u32, Record> = closed.records.into_iter().collect();
            for (number, record) in waiting.remove(&closed.bucket).into_iter().flatten() {
                records.entry(number).or_default().merge(record);
            }
            self.add(closed.bucket, records)
        });
        read.map_err(|error| error.to_string())?;
        while let (None, Some((bucket, records))) = (self.more, waiting.pop_first()) {
            self.add(bucket, records);
        }
        Ok(())
    }

    /// What the store does not have yet: the bucket at hand, and those that wait.
    fn waiting(&self) -> BTreeMap<Bucket, BTreeMap<u32, Record>> {
        let mut waiting: BTreeMap<Bucket, BTreeMap<u32, Record>> = BTreeMap::new();
        for closed in &self.ledger.closed {
            for (number, record) in &closed.records {
                waiting.entry(closed.bucket).or_default().entry(*number).or_default().merge(*record);
            }
        }
        for (number, live) in (0u32..).zip(&self.ledger.live).filter(|(_, live)| live.bucket > 0) {
            let price = self.ledger.accounts[number as usize].price;
            let record = Record { requests: live.bucket, peak: live.peak, peak_at: live.peak_at, price };
            let known = waiting.entry(self.ledger.head.bucket).or_default().entry(number);
            known.or_insert(Record { price, ..Record::default() }).merge(record);
        }
        waiting
    }

    /// Adds rows; whether there is room for more.
    fn add(&mut self, bucket: Bucket, records: impl IntoIterator<Item = (u32, Record)>) -> bool {
        let complete = bucket != self.ledger.head.bucket;
        for (number, record) in records {
            let place = Place { bucket, account: number };
            let Some(account) = self.ledger.accounts.get(number as usize) else { continue };
            if self.after.is_some_and(|after| place <= after) || !self.which.fits(account) {
                continue;
            }
            self.rows.push(Row::new(bucket, account, record, complete));
            if self.rows.len() == PAGE {
                self.more = Some(place);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_quotes_and_ends_of_lines_are_quoted() {
        assert_eq!(csv_line(["a", "b,c", "d\"e", "f\ng", ""]), "a,\"b,c\",\"d\"\"e\",\"f\ng\",\r\n");
    }
}
