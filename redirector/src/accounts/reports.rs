//! What edges report: bytes and requests of a part of time, for an account. A report is booked once, however often it
//! comes, and for the time that it is about, however late it comes.

use super::ledger::{Bucket, Ledger};
use super::{Account, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest part of time of one report, in seconds.
const LONGEST: u64 = 86_400;
/// A report that ends longer ago is refused: it is not known any more whether it came before.
pub const LATE: u64 = 31 * 86_400;
/// An edge's clock may be ahead by so many seconds.
const AHEAD: u64 = 60;
/// More bits in a second no edge serves: a petabit.
const MOST_BITS: u128 = 1_000_000_000_000_000;
/// Seconds of the shortest time over which bits are measured.
pub(super) const MINUTE: u64 = 60;

/// What an edge served for an account in a part of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Report {
    /// Name of the edge that served.
    #[arg(long)]
    pub edge: String,
    /// The report's name among all of this edge: one that comes again is counted once.
    #[arg(long)]
    pub id: String,
    /// The agreement that it was served by.
    #[arg(long)]
    #[serde(default)]
    pub agreement: Option<String>,
    /// The provider whose content it was.
    #[arg(long)]
    #[serde(default)]
    pub provider: Option<String>,
    /// The target that served.
    #[arg(long)]
    #[serde(default)]
    pub target: Option<String>,
    /// Begin: date or time (UTC), or seconds since 1970.
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// The second after the last.
    #[arg(long, value_name = "TIME")]
    pub until: String,
    /// Bytes that were sent to clients.
    #[arg(long)]
    pub bytes: u64,
    /// Requests that were served.
    #[arg(long, default_value_t = 0)]
    #[serde(default)]
    pub requests: u64,
}

/// A report that can be booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What stands for edge and name.
    pub key: u128,
    /// What stands for everything else: another report of the same name has another one.
    pub content: u64,
    /// Accounts that it is for, by number.
    pub accounts: Vec<u32>,
    /// First second.
    pub from: u64,
    /// The second after the last.
    pub until: u64,
    /// Bytes.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
}

/// What edges reported for one account in one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    /// Bytes.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
    /// Most bits in a second, over a minute.
    pub peak: u64,
    /// Begin of that minute: seconds since 1970.
    pub peak_at: u64,
}

impl Reported {
    /// With what else was reported.
    pub(super) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.requests = self.requests.saturating_add(other.requests);
        if other.peak > self.peak {
            (self.peak, self.peak_at) = (other.peak, other.peak_at);
        }
    }
}

/// A hash that is the same in every run and version.
fn hash(parts: &[&[u8]], salt: u64) -> u64 {
    // FNV-1a over parts and their lengths, and a mixing at the end (SplitMix64): edges are trusted to report, so nobody
    // looks for collisions.
    let mut state = 0xcbf2_9ce4_8422_2325u64 ^ salt;
    let mut add = |byte: u8| {
        state ^= u64::from(byte);
        state = state.wrapping_mul(0x0000_0100_0000_01b3);
    };
    for part in parts {
        (part.len() as u64).to_le_bytes().into_iter().for_each(&mut add);
        part.iter().copied().for_each(&mut add);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

impl Report {
    /// What it says, if that is possible at `now` (seconds since 1970).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, ledger: &Ledger, now: u64) -> Result<Checked, String> {
        for (what, text, most) in [("edge", &self.edge, 63), ("id", &self.id, 128)] {
            if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
                return Err(format!("`{what}` has 1 to {most} bytes, without control characters"));
            }
        }
        let time = |text: &str| match text.parse::<u64>() {
            Ok(seconds) => Ok(seconds),
            Err(_) => crate::config::terms::instant(text, false),
        };
        let (from, until) = (time(&self.from)?, time(&self.until)?);
        if from >= until {
            return Err("it ends before it begins".to_owned());
        }
        if until > now + AHEAD {
            return Err(format!("it ends {} s from now: is the edge's clock right?", until - now));
        }
        if until - from > LONGEST {
            return Err(format!("it is about {} s: report at most a day at once", until - from));
        }
        if now.saturating_sub(until) > LATE {
            return Err(format!("it is older than {} days", LATE / 86_400));
        }
        if u128::from(self.bytes) * 8 > MOST_BITS * u128::from(until - from) {
            return Err(format!("{} bytes in {} s are more than any edge serves", self.bytes, until - from));
        }
        let accounts = self.accounts(ledger)?;
        let numbers = [from, until, self.bytes, self.requests].map(u64::to_le_bytes).concat();
        let names = accounts.iter().map(|number| &*ledger.accounts[*number as usize].name);
        let names = names.collect::<Vec<_>>().join("\n");
        let key = [self.edge.as_bytes(), self.id.as_bytes()];
        Ok(Checked {
            key: u128::from(hash(&key, 1)) << 64 | u128::from(hash(&key, 2)),
            content: hash(&[&numbers, names.as_bytes()], 3),
            accounts,
            from,
            until,
            bytes: self.bytes,
            requests: self.requests,
        })
    }

    /// Accounts that it is for: one of an agreement or network, and that of a target.
    fn accounts(&self, ledger: &Ledger) -> Result<Vec<u32>, String> {
        let numbered = || (0u32..).zip(&ledger.accounts);
        let mut accounts = Vec::new();
        if self.agreement.is_some() || self.provider.is_some() {
            let kind = if self.agreement.is_some() { Kind::Agreement } else { Kind::Network };
            let fits = |account: &&Account| {
                let same = |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
                account.kind == kind
                    && same(&self.agreement, &account.agreement)
                    && same(&self.provider, &account.provider)
            };
            let found: Vec<(u32, &Account)> = numbered().filter(|(_, account)| fits(account)).collect();
            match found[..] {
                [(number, _)] => accounts.push(number),
                [] => return Err(self.unknown(kind)),
                _ => {
                    let names: Vec<&str> = found.iter().map(|(_, account)| &*account.name).collect();
                    return Err(format!("it is for several accounts: {}; name one", names.join(", ")));
                }
            }
        }
        if let Some(target) = &self.target {
            let is_target = |account: &Account| matches!(account.kind, Kind::Target | Kind::Outside);
            let found = ledger.number(target).filter(|number| is_target(&ledger.accounts[*number as usize]));
            accounts.push(found.ok_or_else(|| format!("there is no target `{target}`"))?);
        }
        if accounts.is_empty() {
            return Err("say for what it is: --agreement, --provider or --target".to_owned());
        }
        Ok(accounts)
    }

    fn unknown(&self, kind: Kind) -> String {
        let provider = self.provider.as_deref().unwrap_or_default();
        match (&self.agreement, &self.provider) {
            (Some(agreement), Some(_)) => format!("there is no agreement `{agreement}` about `{provider}`"),
            (Some(agreement), None) => format!("there is no agreement `{agreement}`"),
            (None, _) => {
                format!("no {} serves `{provider}` as its primary CDN: name the agreement", kind.name())
            }
        }
    }
}

impl Checked {
    /// What falls to each minute that it touches: begin of the minute, bytes, requests. They add up to the whole.
    pub(super) fn minutes(&self) -> Vec<(u64, u64, u64)> {
        let length = u128::from(self.until - self.from);
        let until = |number: u64, second: u64| {
            // At most `number`.
            (u128::from(number) * u128::from(second - self.from) / length) as u64
        };
        let mut minutes = Vec::new();
        let mut begin = self.from;
        while begin < self.until {
            let minute = begin - begin % MINUTE;
            let end = self.until.min(minute + MINUTE);
            let share = |number: u64| until(number, end) - until(number, begin);
            minutes.push((minute, share(self.bytes), share(self.requests)));
            begin = end;
        }
        minutes
    }

    /// The same by bucket, with minutes in each.
    pub(super) fn buckets(&self, length: u32) -> BTreeMap<Bucket, Vec<(u64, u64, u64)>> {
        let mut buckets: BTreeMap<Bucket, Vec<(u64, u64, u64)>> = BTreeMap::new();
        for minute in self.minutes() {
            buckets.entry(Bucket::of(minute.0 * 1000, length)).or_default().push(minute);
        }
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_of_minutes_add_up_to_the_whole(
            from in 1_000_000u64..2_000_000, length in 1u64..=LONGEST, bytes in any::<u64>(), requests in any::<u64>(),
        ) {
            let until = from + length;
            let checked = Checked { key: 0, content: 0, accounts: vec![], from, until, bytes, requests };
            let minutes = checked.minutes();
            prop_assert_eq!(minutes.iter().map(|minute| u128::from(minute.1)).sum::<u128>(), u128::from(bytes));
            prop_assert_eq!(minutes.iter().map(|minute| u128::from(minute.2)).sum::<u128>(), u128::from(requests));
            prop_assert!(minutes.windows(2).all(|two| two[1].0 == two[0].0 + MINUTE));
            prop_assert!(minutes[0].0 <= from && minutes.last().is_some_and(|last| last.0 < until));
            let buckets = checked.buckets(3600);
            prop_assert_eq!(buckets.values().map(Vec::len).sum::<usize>(), minutes.len());
        }
    }
}
