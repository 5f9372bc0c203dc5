//! Billing figures: what an account used in a month, and what that costs.

use super::Account;
use super::query::Row;
use crate::config::terms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a price is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A thousand requests that were booked.
    Requests,
    /// 10⁹ bytes that edges reported.
    Bytes,
    /// A million bits in a second, as edges reported: the 95th percentile of a month's parts of time.
    Bits,
}

/// What an account used in a month.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Which account.
    #[serde(flatten)]
    pub account: Account,
    /// Parts of time of the month that are over.
    pub parts: u64,
    /// Requests booked.
    pub requests: u64,
    /// Bytes that edges reported.
    pub bytes: u64,
    /// Most requests in a second, over a second.
    pub peak_requests_per_s: f64,
    /// Requests in a second, over a part of time: 95 of 100 parts had no more.
    pub p95_requests_per_s: f64,
    /// Most bits in a second, over a minute.
    pub peak_bits_per_s: u64,
    /// Bits in a second, over a part of time: 95 of 100 parts had no more.
    pub p95_bits_per_s: u64,
    /// Price × use, in millionths.
    pub amount: u128,
}

/// Names of the columns of CSV.
pub const COLUMNS: [&str; 17] = [
    "month",
    "kind",
    "account",
    "agreement",
    "provider",
    "cdn",
    "network",
    "broker",
    "parts",
    "requests",
    "bytes",
    "peak_requests_per_s",
    "p95_requests_per_s",
    "peak_bits_per_s",
    "p95_bits_per_s",
    "unit",
    "amount",
];

impl Unit {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "1000 requests",
            Self::Bytes => "GB",
            Self::Bits => "Mbit/s",
        }
    }

    /// Units of it that one price is for.
    fn size(self) -> u128 {
        match self {
            Self::Requests => 1000,
            Self::Bytes => 1_000_000_000,
            Self::Bits => 1_000_000,
        }
    }
}

/// First second of a month, `2027-03`, and of the next.
///
/// # Errors
/// If it is no month.
pub fn month(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("`{text}` is not a month: write 2027-03");
    let (year, number) = text.split_once('-').ok_or_else(wrong)?;
    let (year, number): (u32, u32) =
        (year.parse().map_err(|_| wrong())?, number.parse().map_err(|_| wrong())?);
    let next = if number == 12 { (year + 1, 1) } else { (year, number + 1) };
    let begin = |(year, number): (u32, u32)| terms::instant(&format!("{year:04}-{number:02}-01"), false);
    Ok((begin((year, number)).map_err(|_| wrong())?, begin(next).map_err(|_| wrong())?))
}

/// Rows of one month become bills.
#[derive(Debug)]
pub struct Billing {
    unit: Unit,
    by_name: BTreeMap<String, Use>,
}

#[derive(Debug, Default)]
struct Use {
    bill: Bill,
    /// Requests and bytes of each part that has some, and its length in seconds.
    parts: Vec<(u64, u64, u64)>,
    /// Price × units, before they are divided.
    priced: u128,
    price: u64,
}

impl Billing {
    /// Nothing yet.
    pub fn new(unit: Unit) -> Self {
        Self { unit, by_name: BTreeMap::new() }
    }

    /// Takes in what was booked in a part of the month. Parts come in the order of time.
    pub fn add(&mut self, row: &Row) {
        let seconds = |text: &str| terms::instant(text, false).unwrap_or(0);
        let length = seconds(&row.until).saturating_sub(seconds(&row.from)).max(1);
        let used = self.by_name.entry(row.account.name.clone()).or_default();
        let bill = &mut used.bill;
        bill.account = row.account.clone();
        bill.requests += row.requests;
        bill.bytes += row.bytes;
        bill.peak_requests_per_s = bill.peak_requests_per_s.max(row.peak_requests_per_s);
        bill.peak_bits_per_s = bill.peak_bits_per_s.max(row.peak_bits_per_s);
        used.parts.push((row.requests, row.bytes, length));
        let units = match self.unit {
            Unit::Requests => row.requests,
            Unit::Bytes => row.bytes,
            Unit::Bits => 0,
        };
        used.priced += u128::from(row.agreed_price) * u128::from(units);
        used.price = row.agreed_price;
    }

    /// The bills of a month that has lasted for `elapsed` seconds: the whole month, or until now.
    pub fn bills(self, elapsed: u64) -> Vec<Bill> {
        let unit = self.unit;
        self.by_name.into_values().map(|used| used.bill(unit, elapsed)).collect()
    }
}

impl Use {
    fn bill(mut self, unit: Unit, elapsed: u64) -> Bill {
        let length = self.parts.iter().map(|part| part.2).min().unwrap_or(1);
        // Parts in which nothing was booked have no row.
        let parts = (elapsed / length).max(self.parts.len() as u64);
        let percentile = |rates: &mut Vec<f64>| {
            rates.sort_by(|a, b| b.total_cmp(a));
            // The highest 5 of 100 are left out.
            rates.get((parts / 20) as usize).copied().unwrap_or(0.0)
        };
        let mut requests = self.parts.iter().map(|part| part.0 as f64 / part.2 as f64).collect();
        let mut bits = self.parts.iter().map(|part| part.1 as f64 * 8.0 / part.2 as f64).collect();
        self.bill.p95_requests_per_s = percentile(&mut requests);
        self.bill.p95_bits_per_s = percentile(&mut bits) as u64;
        self.bill.parts = parts;
        if unit == Unit::Bits {
            self.priced = u128::from(self.price) * u128::from(self.bill.p95_bits_per_s);
        }
        self.bill.amount = self.priced / unit.size();
        self.bill
    }
}

impl Bill {
    /// Its fields, in the order of [`COLUMNS`].
    pub fn fields(&self, month: &str, unit: Unit) -> [String; COLUMNS.len()] {
        let account = &self.account;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        [
            month.to_owned(),
            account.kind.name().to_owned(),
            account.name.clone(),
            text(&account.agreement),
            text(&account.provider),
            text(&account.cdn),
            text(&account.network),
            text(&account.broker),
            self.parts.to_string(),
            self.requests.to_string(),
            self.bytes.to_string(),
            format!("{:.3}", self.peak_requests_per_s),
            format!("{:.3}", self.p95_requests_per_s),
            self.peak_bits_per_s.to_string(),
            self.p95_bits_per_s.to_string(),
            unit.name().to_owned(),
            terms::show_price(u64::try_from(self.amount).unwrap_or(u64::MAX)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::terms::show_instant;

    fn row(part: u64, requests: u64, bytes: u64, price: u64) -> Row {
        let begin = month("2027-03").expect("a month").0 + part * 3600;
        Row {
            from: show_instant(begin),
            until: show_instant(begin + 3600),
            account: Account::of_target("a"),
            requests,
            bytes,
            agreed_price: price,
            peak_requests_per_s: requests as f64,
            peak_bits_per_s: bytes,
            ..Row::default()
        }
    }

    #[test]
    fn months_begin_and_end() {
        assert_eq!(month("1970-01"), Ok((0, 31 * 86_400)));
        assert_eq!(month("2027-12").map(|(begin, end)| end - begin), Ok(31 * 86_400));
        for wrong in ["", "2027", "2027-13", "2027-00", "march", "2027-3-1"] {
            assert!(month(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn use_is_priced_as_it_was_agreed_when_it_was_booked() {
        let bills = |unit| {
            let mut billing = Billing::new(unit);
            // 100 parts, of which five are far higher than the others, and the price doubles half-way.
            for part in 0..100 {
                let high = if part % 20 == 7 { 100 } else { 1 };
                billing.add(&row(
                    part,
                    3600 * high,
                    450_000_000 * (part + 1) * high,
                    if part < 50 { 1000 } else { 2000 },
                ));
            }
            let [bill] = &billing.bills(100 * 3600)[..] else { panic!("one bill") };
            bill.clone()
        };
        let bill = bills(Unit::Requests);
        assert_eq!((bill.parts, bill.requests), (100, 3600 * 595));
        assert_eq!((bill.peak_requests_per_s, bill.p95_requests_per_s), (360_000.0, 1.0));
        // 248 and 347 times 3.6 thousand requests, or the other way round.
        let first: u64 = (0..50).map(|part| if part % 20 == 7 { 100 } else { 1 }).sum();
        assert_eq!(bill.amount, u128::from(36 * (first * 1000 + (595 - first) * 2000) / 10));
        let bill = bills(Unit::Bits);
        assert_eq!(bill.p95_bits_per_s, 100_000_000, "the highest of the ordinary ones");
        assert_eq!(bill.amount, 100 * 2000);
    }

    #[test]
    fn parts_without_anything_count_for_the_percentile() {
        let mut billing = Billing::new(Unit::Bytes);
        for part in 0..4 {
            billing.add(&row(part * 10, 3600, 1_000_000_000, 500));
        }
        let bill = &billing.bills(100 * 3600)[0];
        assert_eq!((bill.p95_bits_per_s, bill.parts, bill.amount), (0, 100, 2000));
    }
}
