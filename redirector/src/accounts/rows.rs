//! How accounts lie in the store: numbers of fixed size where they change all the time, short ones where they stay.

use super::ledger::{Live, Record};

/// Accounts in one row of what changes all the time: a row is what a change of one of them writes.
pub(super) const CHUNK: u32 = 32;
/// Bytes of one account there.
const LIVE: usize = 64;

/// A row of accounts as they are now.
pub(super) fn write_live(accounts: &[Live]) -> Vec<u8> {
    let words = accounts.iter().flat_map(|live| {
        let Live { fast, slow, requests, bytes, edge_requests, bucket, peak, peak_at } = *live;
        [fast, slow, requests, bytes, edge_requests, bucket, peak, peak_at]
    });
    words.flat_map(u64::to_le_bytes).collect()
}

/// What [`write_live`] wrote; `None`: it is something else.
pub(super) fn read_live(row: &[u8]) -> Option<Vec<Live>> {
    let (accounts, rest) = row.as_chunks::<LIVE>();
    if !rest.is_empty() || accounts.len() > CHUNK as usize {
        return None;
    }
    let read = |bytes: &[u8; LIVE]| {
        let words = bytes.as_chunks::<8>().0;
        let [fast, slow, requests, bytes, edge_requests, bucket, peak, peak_at] =
            std::array::from_fn(|place| u64::from_le_bytes(words[place]));
        Live { fast, slow, requests, bytes, edge_requests, bucket, peak, peak_at }
    };
    Some(accounts.iter().map(read).collect())
}

fn put(row: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        row.push(number as u8 | 0x80);
        number >>= 7;
    }
    row.push(number as u8);
}

fn take(row: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0u64, 0);
    loop {
        let (byte, rest) = row.split_first()?;
        *row = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

/// A row of a closed bucket that begins at `start`: accounts by number, in rising order.
pub(super) fn write_records(start: u64, records: &[(u32, Record)]) -> Vec<u8> {
    let mut row = Vec::with_capacity(records.len() * 16);
    let mut last = 0;
    for (account, record) in records {
        let Record { requests, peak, peak_at, price } = *record;
        put(&mut row, u64::from(account - last));
        last = *account;
        for number in [requests, peak, peak_at.saturating_sub(start), price] {
            put(&mut row, number);
        }
    }
    row
}

/// What [`write_records`] wrote; `None`: it is something else.
pub(super) fn read_records(start: u64, mut row: &[u8]) -> Option<Vec<(u32, Record)>> {
    let mut records = Vec::new();
    let mut account = 0u32;
    while !row.is_empty() {
        account = account.checked_add(u32::try_from(take(&mut row)?).ok()?)?;
        let [requests, peak, peak_at, price] =
            [take(&mut row)?, take(&mut row)?, take(&mut row)?, take(&mut row)?];
        records.push((account, Record { requests, peak, peak_at: start.saturating_add(peak_at), price }));
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in proptest::collection::vec(any::<[u64; 8]>(), 0..=CHUNK as usize),
            start in 0u64..1 << 40,
        ) {
            let live = |[fast, slow, requests, bytes, edge_requests, bucket, peak, peak_at]: [u64; 8]| {
                Live { fast, slow, requests, bytes, edge_requests, bucket, peak, peak_at }
            };
            let accounts: Vec<Live> = numbers.iter().copied().map(live).collect();
            prop_assert_eq!(read_live(&write_live(&accounts)), Some(accounts));
            let record = |(index, numbers): (usize, &[u64; 8])| {
                let record = Record {
                    requests: numbers[0],
                    peak: numbers[1],
                    peak_at: start + (numbers[2] >> 24),
                    price: numbers[3],
                };
                (index as u32 * 3, record)
            };
            let records: Vec<(u32, Record)> = numbers.iter().enumerate().map(record).collect();
            prop_assert_eq!(read_records(start, &write_records(start, &records)), Some(records));
        }

        #[test]
        fn any_row_is_read_or_refused(row in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_live(&row), read_records(7, &row));
        }
    }
}
