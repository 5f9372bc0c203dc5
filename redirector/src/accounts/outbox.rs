//! Batches for collectors, in the store until they are delivered.

use super::batches::Standing;
use super::ledger::Ledger;
use super::store::{Store, StoreError};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet};

/// By collector: how far it has come.
const COLLECTORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("collectors");
/// By collector and sequence number: what is to be sent.
const OUTBOX: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("outbox");

/// Writes new batches, removes what was delivered, and the oldest of what no longer fits into `room` bytes for each
/// collector. Gives how far all have come then.
pub(super) fn write(
    store: &Store,
    write: &WriteTransaction,
    ledger: &Ledger,
    room: u64,
) -> Result<BTreeMap<String, Standing>, StoreError> {
    let mut standings = ledger.standings.clone();
    let mut moved: BTreeSet<&str> = ledger.moved.iter().map(String::as_str).collect();
    if moved.is_empty() && ledger.batches.is_empty() && ledger.delivered.is_empty() {
        return Ok(standings);
    }
    let mut outbox = write.open_table(OUTBOX).map_err(|error| store.failed(error))?;
    for made in &ledger.batches {
        outbox
            .insert((made.collector.as_str(), made.sequence), made.text.as_slice())
            .map_err(|error| store.failed(error))?;
        moved.insert(&made.collector);
        if let Some(standing) = standings.get_mut(&made.collector) {
            standing.bytes += made.text.len() as u64;
        }
    }
    let mut remove = |collector: &str, sequence: u64, standing: &mut Standing| {
        let row = outbox.remove((collector, sequence)).map_err(|error| store.failed(error))?;
        let bytes = row.map_or(0, |row| row.value().len() as u64);
        standing.bytes = standing.bytes.saturating_sub(bytes);
        standing.first = standing.first.max(sequence + 1);
        Ok::<_, StoreError>(())
    };
    for (collector, sequence) in &ledger.delivered {
        let Some(standing) = standings.get_mut(collector) else { continue };
        remove(collector, *sequence, standing)?;
        moved.insert(collector);
    }
    for (collector, standing) in &mut standings {
        while standing.bytes > room && standing.first < standing.next {
            remove(collector, standing.first, standing)?;
            standing.lost += 1;
            moved.insert(ledger.standings.get_key_value(collector).map_or("", |(name, _)| name));
        }
    }
    drop(outbox);
    let mut table = write.open_table(COLLECTORS).map_err(|error| store.failed(error))?;
    for collector in moved {
        let Some(standing) = standings.get(collector) else { continue };
        let bytes = serde_json::to_vec(standing).map_err(|error| store.failed_to_write(error))?;
        table.insert(collector, bytes.as_slice()).map_err(|error| store.failed(error))?;
    }
    Ok(standings)
}

impl Store {
    /// How far all collectors have come.
    pub(super) fn standings(&self) -> Result<BTreeMap<String, Standing>, StoreError> {
        let read = self.database().begin_read().map_err(|error| self.failed(error))?;
        let Some(table) = self.table(&read, COLLECTORS)? else { return Ok(BTreeMap::new()) };
        let mut standings = BTreeMap::new();
        for row in table.iter().map_err(|error| self.failed(error))? {
            let (collector, bytes) = row.map_err(|error| self.failed(error))?;
            let standing = serde_json::from_slice(bytes.value())
                .map_err(|_| self.wrong("how far a collector has come"))?;
            standings.insert(collector.value().to_owned(), standing);
        }
        Ok(standings)
    }

    /// The first batch of a collector that is not delivered.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn first_batch(&self, collector: &str) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let read = self.database().begin_read().map_err(|error| self.failed(error))?;
        let Some(table) = self.table(&read, OUTBOX)? else { return Ok(None) };
        let rows = (collector, 0)..=(collector, u64::MAX);
        let first = table.range(rows).map_err(|error| self.failed(error))?.next();
        let first = first.transpose().map_err(|error| self.failed(error))?;
        Ok(first.map(|(key, text)| (key.value().1, text.value().to_vec())))
    }
}
