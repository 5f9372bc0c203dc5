//! The store on disk: one file, one transaction for everything that belongs together.
//!
//! What changes all the time (readings and sums) lies in rows of some accounts each, closed buckets in rows that are
//! written once. A store that is damaged is put aside under another name, and a new one begins.

use super::Account;
use super::ledger::{Bucket, Closed, Head, Ledger, Record};
use super::rows::{CHUNK, read_live, read_records, write_live, write_records};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable,
    ReadableTableMetadata as _, StorageError, TableDefinition, TableError, WriteTransaction,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// Form of the store; others are put aside.
pub(super) const FORMAT: u32 = 1;
/// Memory for what was read of it lately.
const CACHE: usize = 16 << 20;
/// Bytes that a row takes beside its value, about.
const ROW: u64 = 48;

/// Under one key: what is said of all accounts together.
const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
/// By account: what it is.
const ACCOUNTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("accounts");
/// By chunk: accounts as they are now.
const LIVE: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("live");
/// By begin and length of a bucket, and chunk: accounts of agreements and providers in closed buckets.
const HISTORY: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("history");
/// The same of targets.
const TARGETS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("targets");
/// The one key of [`HEAD`].
const ONLY: &str = "head";

/// Begin and length of a bucket, and chunk or account.
type Key = (u64, u32, u32);

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{0} is in use by another process: a running box, or a command that reads it")]
    InUse(PathBuf),
    /// It is not what was written.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refuses.
    #[error("{path}: {why}")]
    Refused {
        /// The store.
        path: PathBuf,
        /// What it says.
        why: String,
    },
}

/// How old and how large closed buckets may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Seconds; `None`: nothing is removed for its age now.
    pub keep: Option<u64>,
    /// Bytes.
    pub size: u64,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

/// A name that nothing else has, now or later.
pub fn fresh_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Store {
    /// Opens or makes the store, and looks at every byte of it.
    ///
    /// # Errors
    /// If it cannot be opened, or is damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open =
            || Database::builder().set_cache_size(CACHE).set_check_integrity_on_open(true).create(path);
        // What is damaged in ways that nobody thought of ends in a panic.
        let database = match catch_unwind(open) {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => return Err(StoreError::InUse(path.to_owned())),
            Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                return Err(refused(path, error));
            }
            Ok(Err(error)) => return Err(damaged(path, error)),
            Err(_) => return Err(damaged(path, "it cannot be read")),
        };
        Ok(Self { path: path.to_owned(), database })
    }

    /// Opens a store that no process writes, to read it. Nothing is changed.
    ///
    /// # Errors
    /// If it cannot be opened, or a box has it.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(refused(path, "there is no such file"));
        }
        Self::open(path)
    }

    /// What is in it; `None`: it is new.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub fn load(&self) -> Result<Option<Ledger>, StoreError> {
        self.guarded(|| {
            let read = self.database.begin_read().map_err(|error| self.failed(error))?;
            let Some(head) = self.table(&read, HEAD)? else { return Ok(None) };
            let Some(bytes) = head.get(ONLY).map_err(|error| self.failed(error))? else { return Ok(None) };
            let wrong = |what: &str| damaged(&self.path, format!("{what} is not what was written"));
            let head: Head = serde_json::from_slice(bytes.value()).map_err(|_| wrong("the head"))?;
            if head.format != FORMAT {
                return Err(damaged(&self.path, format!("its form is {}, not {FORMAT}", head.format)));
            }
            let (mut accounts, mut live) = (Vec::new(), Vec::new());
            if let Some(table) = self.table(&read, ACCOUNTS)? {
                for row in table.iter().map_err(|error| self.failed(error))? {
                    let (number, bytes) = row.map_err(|error| self.failed(error))?;
                    if number.value() as usize != accounts.len() {
                        return Err(wrong("the list of accounts"));
                    }
                    let account: Account =
                        serde_json::from_slice(bytes.value()).map_err(|_| wrong("an account"))?;
                    accounts.push(account);
                }
            }
            if let Some(table) = self.table(&read, LIVE)? {
                for row in table.iter().map_err(|error| self.failed(error))? {
                    let (number, bytes) = row.map_err(|error| self.failed(error))?;
                    let chunk = read_live(bytes.value()).ok_or_else(|| wrong("a row of accounts"))?;
                    if number.value() as usize * CHUNK as usize != live.len() {
                        return Err(wrong("the order of accounts"));
                    }
                    live.extend(chunk);
                }
            }
            if accounts.len() != live.len() {
                return Err(wrong("the number of accounts"));
            }
            Ok(Some(Ledger::restore(head, accounts, live)))
        })
    }

    /// Writes everything that changed, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written. Whether it was is uncertain then: [`Ledger::resume`] finds
    /// out from the store, opened anew.
    pub fn commit(&self, ledger: &mut Ledger, bounds: Bounds) -> Result<(), StoreError> {
        ledger.attempted();
        let head = self.guarded(|| {
            let write = self.database.begin_write().map_err(|error| self.failed(error))?;
            let mut head = ledger.head.clone();
            head.sequence += 1;
            self.write_accounts(&write, ledger)?;
            for closed in &ledger.closed {
                head.history += self.write_closed(&write, closed, &ledger.accounts)?;
            }
            self.remove_old(&write, &mut head, bounds)?;
            {
                let mut table = write.open_table(HEAD).map_err(|error| self.failed(error))?;
                let bytes = serde_json::to_vec(&head).map_err(|error| refused(&self.path, error))?;
                table.insert(ONLY, bytes.as_slice()).map_err(|error| self.failed(error))?;
            }
            write.commit().map_err(|error| self.failed(error))?;
            Ok(head)
        })?;
        ledger.written(head);
        Ok(())
    }

    fn write_accounts(&self, write: &WriteTransaction, ledger: &Ledger) -> Result<(), StoreError> {
        let mut accounts = write.open_table(ACCOUNTS).map_err(|error| self.failed(error))?;
        let new = ledger.new_from as u32..ledger.accounts.len() as u32;
        for number in new.chain(ledger.renamed.iter().copied()) {
            let bytes = serde_json::to_vec(&ledger.accounts[number as usize]);
            let bytes = bytes.map_err(|error| refused(&self.path, error))?;
            accounts.insert(number, bytes.as_slice()).map_err(|error| self.failed(error))?;
        }
        let mut live = write.open_table(LIVE).map_err(|error| self.failed(error))?;
        for chunk in &ledger.changed {
            let first = (*chunk * CHUNK) as usize;
            let last = ledger.live.len().min(first + CHUNK as usize);
            let row = write_live(&ledger.live[first..last]);
            live.insert(*chunk, row.as_slice()).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Adds a closed bucket; gives how many bytes longer the store is.
    fn write_closed(
        &self,
        write: &WriteTransaction,
        closed: &Closed,
        accounts: &[Account],
    ) -> Result<u64, StoreError> {
        let mut added = 0u64;
        for (definition, of_targets) in [(HISTORY, false), (TARGETS, true)] {
            let mut rows: BTreeMap<u32, Vec<(u32, Record)>> = BTreeMap::new();
            for (number, record) in &closed.records {
                if (accounts[*number as usize].kind == super::Kind::Target) == of_targets {
                    rows.entry(number / CHUNK).or_default().push((*number, *record));
                }
            }
            let mut table = write.open_table(definition).map_err(|error| self.failed(error))?;
            let Bucket { start, length } = closed.bucket;
            for (chunk, mut records) in rows {
                let key = (start, length, chunk);
                // There is one if the clock was put back.
                let known = table.get(key).map_err(|error| self.failed(error))?;
                let known = known.map(|row| row.value().to_vec());
                if let Some(row) = &known {
                    let before = read_records(start, row)
                        .ok_or_else(|| damaged(&self.path, "a closed bucket is not what was written"))?;
                    records = merged(before, records);
                } else {
                    added += ROW;
                }
                let row = write_records(start, &records);
                added = (added + row.len() as u64).saturating_sub(known.map_or(0, |row| row.len() as u64));
                table.insert(key, row.as_slice()).map_err(|error| self.failed(error))?;
            }
        }
        Ok(added)
    }

    /// Removes closed buckets that are too old, and then the oldest while there are too many: targets' before others.
    fn remove_old(
        &self,
        write: &WriteTransaction,
        head: &mut Head,
        bounds: Bounds,
    ) -> Result<(), StoreError> {
        let now = head.read.wall / 1000;
        let limit = bounds.keep.map_or(0, |keep| now.saturating_sub(keep));
        for definition in [TARGETS, HISTORY] {
            let mut table = write.open_table(definition).map_err(|error| self.failed(error))?;
            // Some at a time: a transaction that waits for thousands of rows keeps others waiting.
            for _ in 0..1000 {
                let Some(first) = table.first().map_err(|error| self.failed(error))? else { break };
                let (start, length, chunk) = first.0.value();
                let size = first.1.value().len() as u64 + ROW;
                drop(first);
                let end = Bucket { start, length }.end();
                if end > limit && head.history <= bounds.size {
                    break;
                }
                if end > limit {
                    head.removed_until = head.removed_until.max(end);
                }
                table.remove((start, length, chunk)).map_err(|error| self.failed(error))?;
                head.history = head.history.saturating_sub(size);
            }
        }
        Ok(())
    }

    /// Closed buckets that begin before `until` and end after `from`, from `after` on, one after the other until `each`
    /// says that it is enough.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn buckets(
        &self,
        from: u64,
        until: u64,
        after: Bucket,
        mut each: impl FnMut(Closed) -> bool,
    ) -> Result<(), StoreError> {
        self.guarded(|| {
            let read = self.database.begin_read().map_err(|error| self.failed(error))?;
            let mut next = after;
            loop {
                let mut closed: Option<Closed> = None;
                let first = (next.start, next.length, 0)..(until, 0, 0);
                let mut bucket = None;
                for definition in [HISTORY, TARGETS] {
                    let Some(table) = self.table(&read, definition)? else { continue };
                    let found = table.range(first.clone()).map_err(|error| self.failed(error))?.next();
                    let key = found.transpose().map_err(|error| self.failed(error))?;
                    let key = key.map(|(key, _)| key.value());
                    let key = key.map(|(start, length, _)| Bucket { start, length });
                    bucket = bucket.into_iter().chain(key).min();
                }
                let Some(bucket) = bucket else { return Ok(()) };
                next = Bucket { start: bucket.start, length: bucket.length + 1 };
                if bucket.end() <= from {
                    continue;
                }
                for definition in [HISTORY, TARGETS] {
                    let Some(table) = self.table(&read, definition)? else { continue };
                    let rows = (bucket.start, bucket.length, 0)..=(bucket.start, bucket.length, u32::MAX);
                    for row in table.range(rows).map_err(|error| self.failed(error))? {
                        let (_, bytes) = row.map_err(|error| self.failed(error))?;
                        let records = read_records(bucket.start, bytes.value());
                        let records = records
                            .ok_or_else(|| damaged(&self.path, "a closed bucket is not what was written"))?;
                        closed
                            .get_or_insert_with(|| Closed { bucket, ..Closed::default() })
                            .records
                            .extend(records);
                    }
                }
                let mut closed = closed.unwrap_or_else(|| Closed { bucket, ..Closed::default() });
                closed.records.sort_unstable_by_key(|(number, _)| *number);
                if !each(closed) {
                    return Ok(());
                }
            }
        })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// A table, if anything was ever put into it.
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        read: &ReadTransaction,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Option<redb::ReadOnlyTable<K, V>>, StoreError> {
        match read.open_table(definition) {
            Ok(table) if table.is_empty().map_err(|error| self.failed(error))? => Ok(None),
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Runs what reads or writes; what panics has met damage.
    fn guarded<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let outcome = catch_unwind(AssertUnwindSafe(run));
        outcome.unwrap_or_else(|_| Err(damaged(&self.path, "it cannot be read")))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Io(error) => refused(&self.path, error),
            redb::Error::PreviousIo => refused(&self.path, "an earlier error"),
            error => damaged(&self.path, error),
        }
    }
}

/// Records of both, in rising order.
fn merged(before: Vec<(u32, Record)>, added: Vec<(u32, Record)>) -> Vec<(u32, Record)> {
    let mut all: BTreeMap<u32, Record> = added.into_iter().collect();
    for (number, record) in before {
        all.entry(number).or_insert(Record { price: record.price, ..Record::default() }).merge(record);
    }
    all.into_iter().collect()
}

fn refused(path: &Path, why: impl ToString) -> StoreError {
    StoreError::Refused { path: path.to_owned(), why: why.to_string() }
}

fn damaged(path: &Path, why: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why: why.to_string() }
}

/// Puts a store that cannot be used aside, under a name that no file has; gives that.
///
/// # Errors
/// If it stays where it is.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for attempt in 0..100 {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{}", now + attempt));
        let aside = PathBuf::from(name);
        if !aside.exists() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("there are too many damaged stores beside it"))
}
