//! What is booked, in memory: readings of counters become sums, by account and by part of time.

use super::rows::CHUNK;
use super::{Account, Roster};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Over how long a rate is measured that can be a peak.
const WINDOW: u64 = 1_000_000_000;
/// Windows in the last minute.
const MINUTE: usize = 60;
/// Records of closed buckets that wait for the store; the oldest are lost when there are more: 16 MB.
const MAX_WAITING: usize = 400_000;
/// The wall clock may go as much slower or faster than the other one between two readings.
const DRIFT: u64 = 5_000;

/// A set of counters of the fast path: another one has counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterSet {
    /// The kernel's number of the map.
    pub map: u32,
    /// The kernel's run.
    pub boot: String,
}

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Milliseconds since 1970. It may jump.
    pub wall: u64,
    /// Nanoseconds since the machine started. It does not jump.
    pub steady: u64,
}

/// What all counters said at one moment, by slot.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// When.
    pub clock: Clock,
    /// The kernel's run.
    pub boot: String,
    /// Of the fast path: which set, whether this process made it, and counts. `None`: there is none.
    pub fast: Option<(CounterSet, bool, Vec<u64>)>,
    /// Of the slow path since this process started.
    pub slow: Vec<u64>,
    /// Number of this process's run among all runs.
    pub run: u64,
}

/// One account as it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Last reading of the fast path's counter.
    pub fast: u64,
    /// Last reading of the slow path's counter.
    pub slow: u64,
    /// Requests booked since accounts are kept.
    pub requests: u64,
    /// Bytes that edges reported since accounts are kept.
    pub bytes: u64,
    /// Requests that edges reported since accounts are kept.
    pub edge_requests: u64,
    /// Requests booked in the bucket at hand.
    pub bucket: u64,
    /// Most requests in a second of that bucket, in thousandths.
    pub peak: u64,
    /// When that was: seconds since 1970.
    pub peak_at: u64,
}

/// One account in a bucket that is closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// Requests booked.
    pub requests: u64,
    /// Most requests in a second, in thousandths.
    pub peak: u64,
    /// When that was: seconds since 1970.
    pub peak_at: u64,
    /// The agreement's price when the bucket ended, in millionths.
    pub price: u64,
}

impl Record {
    /// With what was booked in the same part of time before the clock was put back.
    pub(super) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        if other.peak > self.peak {
            (self.peak, self.peak_at) = (other.peak, other.peak_at);
        }
    }
}

/// A part of time for which is booked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bucket {
    /// Its begin: seconds since 1970.
    pub start: u64,
    /// Its length in seconds.
    pub length: u32,
}

impl Bucket {
    /// That of a moment in milliseconds since 1970.
    pub fn of(wall: u64, length: u32) -> Self {
        let second = wall / 1000;
        Self { start: second - second % u64::from(length.max(1)), length }
    }

    /// The second after its last.
    pub fn end(self) -> u64 {
        self.start + u64::from(self.length)
    }
}

/// What the store says of all accounts together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Form of the store.
    pub format: u32,
    /// Made with the store; nothing else has it.
    pub store: String,
    /// When accounts began: seconds since 1970.
    pub began: u64,
    /// Number of the last transaction.
    pub sequence: u64,
    /// Number of the last run that wrote.
    pub run: u64,
    /// The fast path's counters that readings are of.
    pub fast: Option<CounterSet>,
    /// When the last reading was.
    pub read: Clock,
    /// The kernel's run then.
    pub boot: String,
    /// The bucket at hand.
    pub bucket: Bucket,
    /// Bytes of closed buckets.
    pub history: u64,
    /// Records of buckets that were lost before they could be written.
    pub lost: u64,
    /// Buckets before this moment (seconds since 1970) were removed.
    pub removed_until: u64,
}

/// A closed bucket that waits for the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// Which.
    pub bucket: Bucket,
    /// Accounts with something in it, by number.
    pub records: Vec<(u32, Record)>,
}

/// What is worth telling of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The fast path's counters are others than before: they count from 0.
    OtherCounters,
    /// A counter was less than before.
    Shrunk(String),
    /// The clock jumped by so many milliseconds.
    Jumped(i64),
    /// So many records of closed buckets were lost.
    Lost(usize),
}

/// All accounts, as the store will have them.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What the store says of all together.
    pub head: Head,
    /// By number.
    pub accounts: Vec<Account>,
    /// By number.
    pub live: Vec<Live>,
    by_name: HashMap<String, u32>,
    /// By number: where it is counted.
    slots: Vec<Option<u32>>,
    /// Accounts from this number on are not in the store.
    pub(super) new_from: usize,
    /// Accounts in the store of which something else is known now.
    pub(super) renamed: BTreeSet<u32>,
    /// Rows of live accounts that changed.
    pub(super) changed: BTreeSet<u32>,
    /// What waits for the store, in the order of closing.
    pub(super) closed: VecDeque<Closed>,
    /// So many of them the store may have, if the transaction that failed was made after all.
    uncertain: usize,
    /// Whether no readings were ever taken.
    is_new: bool,
    window: Window,
}

/// Rates of the last minute.
#[derive(Debug, Default)]
struct Window {
    began: Option<u64>,
    base: Vec<u64>,
    /// Length in nanoseconds, and what was booked in it.
    past: VecDeque<(u64, Vec<(u32, u64)>)>,
}

impl Ledger {
    /// Accounts that begin now.
    pub fn new(store: String, clock: Clock) -> Self {
        let head = Head { format: super::store::FORMAT, store, began: clock.wall / 1000, ..Head::default() };
        Self { head, is_new: true, ..Self::default() }
    }

    /// What a store holds.
    pub(super) fn restore(head: Head, accounts: Vec<Account>, live: Vec<Live>) -> Self {
        let by_name =
            (0u32..).zip(&accounts).map(|(number, account)| (account.name.clone(), number)).collect();
        let slots = vec![None; accounts.len()];
        Self { head, new_from: accounts.len(), accounts, live, by_name, slots, ..Self::default() }
    }

    /// Number of an account.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Goes on with a store that was opened anew, and holds what `found` has; `None`: nothing, and everything is to be
    /// written. `Err`: it is not the store that was written, and was given something by others.
    pub(super) fn resume(&mut self, found: Option<&Self>, name: String) -> Result<(), ()> {
        let uncertain = std::mem::take(&mut self.uncertain);
        match found.map(|found| &found.head) {
            None => {
                (self.head.store, self.head.history, self.new_from) = (name, 0, 0);
                self.renamed.clear();
                self.changed = (0..self.chunks()).collect();
                Ok(())
            }
            Some(head) if head.store != self.head.store => Err(()),
            Some(head) if head.sequence == self.head.sequence => Ok(()),
            // The transaction whose outcome was uncertain has been made. To write the same once more changes nothing, but
            // for buckets, which are added.
            Some(head) if head.sequence == self.head.sequence + 1 => {
                self.closed.drain(..uncertain.min(self.closed.len()));
                (self.head.sequence, self.head.history) = (head.sequence, head.history);
                Ok(())
            }
            Some(_) => Err(()),
        }
    }

    /// A transaction with everything begins.
    pub(super) fn attempted(&mut self) {
        self.uncertain = self.closed.len();
    }

    fn chunks(&self) -> u32 {
        (self.live.len() as u32).div_ceil(CHUNK)
    }

    /// Whether there is anything that the store lacks.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
            || !self.closed.is_empty()
            || !self.renamed.is_empty()
            || self.new_from < self.accounts.len()
    }

    /// The store has everything.
    pub(super) fn written(&mut self, head: Head) {
        (self.head, self.uncertain) = (head, 0);
        self.new_from = self.accounts.len();
        self.renamed.clear();
        self.changed.clear();
        self.closed.clear();
    }

    /// Takes in which accounts there are. Those that are gone stay, and are counted where they were.
    pub fn enrol(&mut self, roster: &Roster) {
        for (slot, account) in &roster.accounts {
            let name = account.as_ref().map_or_else(|name| name, |account| &account.name);
            let number = match self.by_name.get(name) {
                Some(number) => *number,
                None => self.add(account.clone().unwrap_or_else(|name| Account::of_target(&name))),
            };
            let place = number as usize;
            self.slots[place] = Some(*slot);
            if let Ok(account) = account
                && self.accounts[place] != *account
            {
                self.accounts[place] = account.clone();
                self.renamed.insert(number);
            }
        }
    }

    fn add(&mut self, account: Account) -> u32 {
        let number = self.accounts.len() as u32;
        self.by_name.insert(account.name.clone(), number);
        self.accounts.push(account);
        self.live.push(Live::default());
        self.slots.push(None);
        self.changed.insert(number / CHUNK);
        number
    }

    /// Books what the counters say beyond the reading before, for the bucket of `length` seconds that it is now.
    pub fn take(&mut self, reading: &Reading, length: u32) -> Vec<Notice> {
        let mut notices = Vec::new();
        let bucket = Bucket::of(reading.clock.wall, length);
        if bucket != self.head.bucket {
            self.close(&mut notices);
            self.head.bucket = bucket;
        }
        self.notice_jump(reading, &mut notices);
        self.follow_counters(reading, &mut notices);
        let fast = reading.fast.as_ref().map(|(_, _, counts)| counts);
        for place in 0..self.live.len() {
            let Some(slot) = self.slots[place] else { continue };
            let live = &mut self.live[place];
            let count = |counts: &Vec<u64>| counts.get(slot as usize).copied().unwrap_or(0);
            let (fast, slow) = (fast.map_or(live.fast, count), count(&reading.slow));
            if (fast, slow) == (live.fast, live.slow) {
                continue;
            }
            let mut booked = 0;
            for (now, before) in [(fast, live.fast), (slow, live.slow)] {
                booked += now.checked_sub(before).unwrap_or_else(|| {
                    // Somebody has set it: what it says now was counted since.
                    notices.push(Notice::Shrunk(self.accounts[place].name.clone()));
                    now
                });
            }
            if self.is_new {
                // What an earlier program counted is nobody's claim. What this process counted is.
                booked =
                    slow + if reading.fast.as_ref().is_some_and(|(_, made, _)| *made) { fast } else { 0 };
            }
            (live.fast, live.slow) = (fast, slow);
            live.requests += booked;
            live.bucket += booked;
            self.changed.insert(place as u32 / CHUNK);
        }
        self.is_new = false;
        (self.head.read, self.head.run) = (reading.clock, reading.run);
        self.head.boot.clone_from(&reading.boot);
        self.measure(reading.clock);
        notices
    }

    fn notice_jump(&self, reading: &Reading, notices: &mut Vec<Notice>) {
        let Clock { wall, steady } = self.head.read;
        if wall == 0 || self.head.boot != reading.boot {
            return;
        }
        let passed = reading.clock.steady.saturating_sub(steady) / 1_000_000;
        let jump = reading.clock.wall.cast_signed() - (wall + passed).cast_signed();
        if jump.unsigned_abs() > DRIFT {
            notices.push(Notice::Jumped(jump));
        }
    }

    /// Readings of counters that are no more are forgotten: others count from 0.
    fn follow_counters(&mut self, reading: &Reading, notices: &mut Vec<Notice>) {
        let slow_anew = reading.run != self.head.run;
        let fast_anew = match (&reading.fast, &self.head.fast) {
            (Some((now, _, _)), before) => before.as_ref() != Some(now),
            (None, _) => false,
        };
        if fast_anew && self.head.fast.is_some() {
            notices.push(Notice::OtherCounters);
        }
        if slow_anew || fast_anew {
            for live in &mut self.live {
                live.slow = if slow_anew { 0 } else { live.slow };
                live.fast = if fast_anew { 0 } else { live.fast };
            }
            self.changed = (0..self.chunks()).collect();
        }
        if let Some((now, _, _)) = &reading.fast {
            self.head.fast = Some(now.clone());
        }
    }

    /// Ends the bucket at hand.
    fn close(&mut self, notices: &mut Vec<Notice>) {
        let bucket = self.head.bucket;
        let mut records = Vec::new();
        for (number, live) in (0u32..).zip(&mut self.live) {
            let Live { bucket: requests, peak, peak_at, .. } = *live;
            if requests == 0 {
                continue;
            }
            let price = self.accounts[number as usize].price;
            records.push((number, Record { requests, peak, peak_at, price }));
            (live.bucket, live.peak, live.peak_at) = (0, 0, 0);
            self.changed.insert(number / CHUNK);
        }
        if !records.is_empty() {
            self.closed.push_back(Closed { bucket, records });
        }
        let mut waiting: usize = self.closed.iter().map(|closed| closed.records.len()).sum();
        while waiting > MAX_WAITING
            && self.closed.len() > 1
            && let Some(oldest) = self.closed.pop_front()
        {
            waiting -= oldest.records.len();
            self.uncertain = self.uncertain.saturating_sub(1);
            self.head.lost += oldest.records.len() as u64;
            notices.push(Notice::Lost(oldest.records.len()));
        }
    }

    /// Measures rates once a second.
    fn measure(&mut self, clock: Clock) {
        let Some(began) = self.window.began else { return self.begin_window(clock.steady) };
        let length = clock.steady.saturating_sub(began);
        if length < WINDOW {
            return;
        }
        let mut booked = Vec::new();
        for (number, live) in (0u32..).zip(&mut self.live) {
            let added = live.requests - self.window.base.get(number as usize).copied().unwrap_or(0);
            if added == 0 {
                continue;
            }
            booked.push((number, added));
            let rate = u128::from(added) * 1_000_000_000_000 / u128::from(length);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            // Of a bucket that has just begun is only what was booked in it.
            if rate > live.peak && live.bucket > 0 {
                (live.peak, live.peak_at) = (rate, clock.wall / 1000);
                self.changed.insert(number / CHUNK);
            }
        }
        self.window.past.push_back((length, booked));
        if self.window.past.len() > MINUTE {
            self.window.past.pop_front();
        }
        self.begin_window(clock.steady);
    }

    fn begin_window(&mut self, steady: u64) {
        self.window.began = Some(steady);
        self.window.base.clear();
        self.window.base.extend(self.live.iter().map(|live| live.requests));
    }

    /// Requests of each account in the last minute, and how long that is: less than a minute after a start.
    pub fn last_minute(&self) -> (Duration, BTreeMap<u32, u64>) {
        let mut requests = BTreeMap::new();
        for (number, booked) in self.window.past.iter().flat_map(|(_, booked)| booked) {
            *requests.entry(*number).or_default() += booked;
        }
        (Duration::from_nanos(self.window.past.iter().map(|(length, _)| length).sum()), requests)
    }
}
