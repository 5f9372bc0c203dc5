//! What edges reported, in the store: sums by bucket, minutes for peaks, and which reports have come.

use super::ledger::{Bucket, Head, Ledger};
use super::reports::{Checked, LATE, MINUTE, Reported};
use super::store::{Key, Store, StoreError};
use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};

/// By begin and length of a bucket, and account: what edges reported.
pub(super) const REPORTED: TableDefinition<'_, Key, (u64, u64, u64, u64)> = TableDefinition::new("reported");
/// By begin of a minute and account: bytes.
const MINUTES: TableDefinition<'_, (u64, u32), u64> = TableDefinition::new("minutes");
/// Reports that have come: what stands for their content, and when they are forgotten.
const REPORTS: TableDefinition<'_, u128, (u64, u64)> = TableDefinition::new("reports");
/// The same in the order of being forgotten.
const AGES: TableDefinition<'_, (u64, u128), ()> = TableDefinition::new("report ages");
/// Reports that are known at one time.
const MOST: u64 = 5_000_000;
/// Rows that one transaction removes.
const AT_ONCE: usize = 1000;
/// Bytes of a row of [`REPORTED`].
const ROW: u64 = 48;

/// Writes reports that were taken in, and forgets old ones.
pub(super) fn write(
    store: &Store,
    write: &WriteTransaction,
    ledger: &Ledger,
    head: &mut Head,
) -> Result<(), StoreError> {
    let failed = |error: redb::StorageError| store.failed(error);
    if !ledger.reports.is_empty() {
        let mut reported = write.open_table(REPORTED).map_err(|error| store.failed(error))?;
        let mut minutes = write.open_table(MINUTES).map_err(|error| store.failed(error))?;
        let mut reports = write.open_table(REPORTS).map_err(|error| store.failed(error))?;
        let mut ages = write.open_table(AGES).map_err(|error| store.failed(error))?;
        for report in &ledger.reports {
            let forgotten = report.until + LATE;
            reports.insert(report.key, (report.content, forgotten)).map_err(failed)?;
            ages.insert((forgotten, report.key), ()).map_err(failed)?;
            for account in &report.accounts {
                for (bucket, parts) in report.buckets(ledger.head.bucket.length) {
                    let mut sum = Reported::default();
                    for (minute, bytes, requests) in parts {
                        let key = (minute, *account);
                        let known = minutes.get(key).map_err(failed)?.map_or(0, |row| row.value());
                        let all = known.saturating_add(bytes);
                        minutes.insert(key, all).map_err(failed)?;
                        sum.add(Reported {
                            bytes,
                            requests,
                            peak: all.saturating_mul(8) / MINUTE,
                            peak_at: minute,
                        });
                    }
                    let key = (bucket.start, bucket.length, *account);
                    let known = reported.get(key).map_err(failed)?.map(|row| Reported::from(row.value()));
                    if known.is_none() {
                        head.history += ROW;
                    }
                    sum.add(known.unwrap_or_default());
                    reported.insert(key, <(u64, u64, u64, u64)>::from(sum)).map_err(failed)?;
                }
            }
        }
    }
    forget(store, write, head.read.wall / 1000)
}

/// Forgets reports that would be refused as too old, and minutes that no report can be about any more.
fn forget(store: &Store, write: &WriteTransaction, now: u64) -> Result<(), StoreError> {
    let failed = |error: redb::StorageError| store.failed(error);
    let mut ages = write.open_table(AGES).map_err(|error| store.failed(error))?;
    let mut reports = write.open_table(REPORTS).map_err(|error| store.failed(error))?;
    for _ in 0..AT_ONCE {
        let first = ages.first().map_err(failed)?.map(|(key, _)| key.value());
        let Some((forgotten, key)) = first.filter(|(forgotten, _)| *forgotten < now) else { break };
        ages.remove((forgotten, key)).map_err(failed)?;
        reports.remove(key).map_err(failed)?;
    }
    let mut minutes = write.open_table(MINUTES).map_err(|error| store.failed(error))?;
    let oldest = now.saturating_sub(LATE + 2 * 86_400);
    for _ in 0..AT_ONCE {
        let first = minutes.first().map_err(failed)?.map(|(key, _)| key.value());
        let Some(key) = first.filter(|(minute, _)| *minute < oldest) else { break };
        minutes.remove(key).map_err(failed)?;
    }
    Ok(())
}

/// Removes sums of buckets that end before `limit`, and the oldest while all closed buckets take more than `size` bytes.
pub(super) fn remove_old(
    store: &Store,
    write: &WriteTransaction,
    head: &mut Head,
    (limit, size): (u64, u64),
) -> Result<(), StoreError> {
    let mut table = write.open_table(REPORTED).map_err(|error| store.failed(error))?;
    for _ in 0..AT_ONCE {
        let first = table.first().map_err(|error| store.failed(error))?.map(|(key, _)| key.value());
        let Some((start, length, account)) = first else { break };
        if start + u64::from(length) > limit && head.history <= size {
            break;
        }
        table.remove((start, length, account)).map_err(|error| store.failed(error))?;
        head.history = head.history.saturating_sub(ROW);
    }
    Ok(())
}

impl Store {
    /// What is known of a report: what stands for its content; `None`: it has not come yet.
    ///
    /// # Errors
    /// If the store cannot be read, or knows as many reports as it can.
    pub(super) fn known(&self, report: &Checked) -> Result<Option<u64>, String> {
        let read = || -> Result<(Option<u64>, u64), StoreError> {
            let read = self.database().begin_read().map_err(|error| self.failed(error))?;
            let Some(table) = self.table(&read, REPORTS)? else { return Ok((None, 0)) };
            let found = table.get(report.key).map_err(|error| self.failed(error))?;
            Ok((found.map(|row| row.value().0), table.len().map_err(|error| self.failed(error))?))
        };
        match read().map_err(|error| error.to_string())? {
            (None, MOST..) => {
                Err(format!("{MOST} reports are known, the most there can be: report longer parts of time"))
            }
            (found, _) => Ok(found),
        }
    }

    /// What edges reported for a bucket, by account.
    pub(super) fn reported(
        &self,
        read: &ReadTransaction,
        bucket: Bucket,
    ) -> Result<Vec<(u32, Reported)>, StoreError> {
        let Some(table) = self.table(read, REPORTED)? else { return Ok(Vec::new()) };
        let rows = (bucket.start, bucket.length, 0)..=(bucket.start, bucket.length, u32::MAX);
        let rows = table.range(rows).map_err(|error| self.failed(error))?;
        let row = |row: Result<(redb::AccessGuard<'_, Key>, redb::AccessGuard<'_, _>), _>| {
            let (key, value) = row.map_err(|error: redb::StorageError| self.failed(error))?;
            let value: (u64, u64, u64, u64) = value.value();
            Ok((key.value().2, Reported::from(value)))
        };
        rows.map(row).collect()
    }
}

impl From<(u64, u64, u64, u64)> for Reported {
    fn from((bytes, requests, peak, peak_at): (u64, u64, u64, u64)) -> Self {
        Self { bytes, requests, peak, peak_at }
    }
}

impl From<Reported> for (u64, u64, u64, u64) {
    fn from(reported: Reported) -> Self {
        (reported.bytes, reported.requests, reported.peak, reported.peak_at)
    }
}
