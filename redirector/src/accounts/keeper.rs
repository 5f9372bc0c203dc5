//! Keeps the accounts: a thread of its own reads the counters twice a second and writes what was added.
//!
//! Nothing that answers clients waits for it. While the store cannot be written, what is booked waits in memory, and the
//! counters go on by themselves; it is tried again and again. A store that is damaged is put aside, and a new one begins.

use super::ledger::{Clock, CounterSet, Ledger, Notice, Reading};
use super::query::{self, Answer, Question};
use super::store::{Bounds, Store, StoreError, fresh_id, put_aside};
use super::{FILE, Roster};
use crate::config::AccountTerms;
use crate::dataplane::TargetCounters;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io, thread};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// How often counters are read and what was added is written: so often that no more than a second is lost.
const TICK: Duration = Duration::from_millis(500);
/// How long a store that failed is left alone; it doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Questions that wait.
const QUESTIONS: usize = 64;
/// After the clock has jumped, nothing is removed for its age for so long.
const DISTRUST: Duration = Duration::from_secs(86_400);
/// Clock jumps that are worth distrust, in milliseconds.
const JUMP: u64 = 60_000;

/// What is counted, and how.
pub trait Source: Send + 'static {
    /// Number of the current generation.
    fn generation(&self) -> u64;
    /// Its accounts.
    fn roster(&self) -> Roster;
    /// How accounts are kept by it.
    fn terms(&self) -> AccountTerms;
    /// Counters of the fast path.
    ///
    /// # Errors
    /// If they cannot be had.
    fn fast(&self) -> io::Result<Option<Arc<TargetCounters>>>;
    /// Counts of the slow path, by slot.
    fn slow(&self) -> Vec<u64>;
}

/// How the keeping of accounts is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Why nothing is written; `None`: all is well.
    pub problem: Option<String>,
    /// Since when: seconds since 1970.
    pub since: Option<u64>,
    /// Where stores that were damaged lie.
    pub aside: Vec<String>,
    /// When the accounts of the store began: seconds since 1970.
    pub began: u64,
    /// Transactions so far.
    pub transactions: u64,
    /// Accounts.
    pub accounts: usize,
    /// Bytes of closed buckets.
    pub history: u64,
    /// Bytes of the store's file.
    pub file: u64,
    /// Records of closed buckets that wait in memory.
    pub waiting: usize,
    /// Records of closed buckets that were lost because the store could not be written for too long.
    pub lost: u64,
    /// Buckets before this (seconds since 1970) were removed to keep the store within its size; 0: none.
    pub removed_until: u64,
    /// Microseconds that the last reading, booking and writing took.
    pub last_tick: u64,
}

enum Ask {
    Question(Box<Question>, oneshot::Sender<Result<Answer, String>>),
    End,
}

/// The thread that keeps accounts.
#[derive(Debug)]
pub struct Keeper {
    asks: SyncSender<Ask>,
    condition: Arc<Mutex<Condition>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Begins to keep accounts in the state directory.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn start(state: &Path, source: impl Source) -> io::Result<Self> {
        let (asks, receiver) = sync_channel(QUESTIONS);
        let condition = Arc::new(Mutex::new(Condition::default()));
        let mut work = Work {
            path: state.join(FILE),
            source,
            store: None,
            ledger: None,
            condition: Arc::clone(&condition),
            retry: (Instant::now(), RETRY.0),
            generation: None,
            boot: boot(),
            run: 0,
            slots: 0,
            counters: None,
            distrust: None,
            unread: false,
        };
        let thread = thread::Builder::new().name("accounts".into()).spawn(move || work.run(&receiver))?;
        Ok(Self { asks, condition, thread: Mutex::new(Some(thread)) })
    }

    /// How it is doing.
    pub fn condition(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks or tells something.
    ///
    /// # Errors
    /// Why it cannot be answered.
    pub async fn ask(&self, question: Question) -> Result<Answer, String> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask::Question(Box::new(question), answer);
        self.asks.try_send(ask).map_err(|_| "the accounts are busy: ask again".to_owned())?;
        answered.await.map_err(|_| "accounts are not kept any more".to_owned())?
    }

    /// Books what was counted until now, writes it, and ends.
    pub fn end(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // An error says that the thread has ended already.
        let _ = self.asks.send(Ask::End);
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            error!("the thread that keeps accounts had failed");
        }
    }
}

struct Work<S> {
    path: PathBuf,
    source: S,
    store: Option<Store>,
    /// `None` before the store could be opened.
    ledger: Option<Ledger>,
    condition: Arc<Mutex<Condition>>,
    /// When the store is tried again, and how long after that.
    retry: (Instant, Duration),
    generation: Option<u64>,
    boot: String,
    /// Number of this run.
    run: u64,
    /// Slots in use.
    slots: u32,
    /// Counters of the fast path, in that generation.
    counters: Option<Arc<TargetCounters>>,
    /// When the clock jumped last.
    distrust: Option<Instant>,
    /// Counters could not be read lately.
    unread: bool,
}

impl<S: Source> Work<S> {
    fn run(&mut self, asks: &Receiver<Ask>) {
        let mut next = Instant::now();
        loop {
            self.tick();
            next = (next + TICK).max(Instant::now());
            loop {
                let ask = asks.recv_timeout(next.saturating_duration_since(Instant::now()));
                match ask {
                    Ok(Ask::Question(question, answer)) => {
                        // Who asked may have gone.
                        let _ = answer.send(self.answer(&question));
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Ok(Ask::End) | Err(RecvTimeoutError::Disconnected) => {
                        self.tick();
                        return;
                    }
                }
            }
        }
    }

    fn tick(&mut self) {
        let began = Instant::now();
        if self.store.is_none() && began >= self.retry.0 {
            self.open();
        }
        if let Some(reading) = self.ledger.is_some().then(|| self.read()) {
            match reading {
                Ok(reading) => {
                    self.unread = false;
                    self.book(&reading);
                    self.write();
                }
                Err(problem) if !self.unread => {
                    error!("what is to be booked cannot be read: {problem}");
                    self.unread = true;
                }
                Err(_) => {}
            }
        }
        self.tell(began.elapsed());
    }

    /// Opens the store, or a new one in place of a damaged one.
    fn open(&mut self) {
        let opened = Store::open(&self.path).and_then(|store| Ok((store.load()?, store)));
        match opened {
            Ok((found, store)) => self.opened(found, store),
            Err(problem @ StoreError::Damaged { .. }) => self.begin_anew(&problem.to_string()),
            Err(problem) => self.fail(&problem),
        }
    }

    fn opened(&mut self, found: Option<Ledger>, store: Store) {
        match (&mut self.ledger, found) {
            (Some(ledger), found) => {
                let name = fresh_id();
                if ledger.resume(found.as_ref(), name).is_err() {
                    drop(store);
                    return self.begin_anew("it is not the store that was written until now");
                }
                info!("accounts are written again");
            }
            (none, Some(found)) => *none = Some(found),
            (none, None) => {
                info!("accounts begin: {}", self.path.display());
                *none = Some(Ledger::new(fresh_id(), now()));
            }
        }
        if let (Some(ledger), 0) = (&self.ledger, self.run) {
            self.run = ledger.head.run + 1;
        }
        (self.store, self.retry.1, self.generation) = (Some(store), RETRY.0, None);
    }

    fn begin_anew(&mut self, why: &str) {
        match put_aside(&self.path) {
            Ok(aside) => {
                let aside = aside.display().to_string();
                error!("accounts: {why}; it is put aside as {aside}, and a new store begins");
                self.condition().aside.push(aside);
                self.retry.0 = Instant::now();
                match Store::open(&self.path) {
                    Ok(store) => self.opened(None, store),
                    Err(problem) => self.fail(&problem),
                }
            }
            Err(problem) => {
                let problem = format!("{why}, and cannot be put aside: {problem}");
                self.fail(&StoreError::Refused { path: self.path.clone(), why: problem });
            }
        }
    }

    /// What could not be written waits.
    fn fail(&mut self, problem: &StoreError) {
        let text = problem.to_string();
        self.store = None;
        self.retry = (Instant::now() + self.retry.1, (self.retry.1 * 2).min(RETRY.1));
        let mut condition = self.condition();
        if condition.problem.as_ref() != Some(&text) {
            error!("accounts are not written: {text}; it is tried again, and what is booked waits in memory");
        }
        condition.problem = Some(text);
        condition.since.get_or_insert(now().wall / 1000);
    }

    fn condition(&self) -> std::sync::MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&mut self) -> io::Result<Reading> {
        let generation = self.source.generation();
        if let Some(ledger) = self.ledger.as_mut().filter(|_| self.generation != Some(generation)) {
            let roster = self.source.roster();
            self.slots = roster.accounts.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
            ledger.enrol(&roster);
            self.counters = self.source.fast()?;
            self.generation = Some(roster.generation);
        }
        let fast = self.counters.as_ref().map(|counters| {
            let set = CounterSet { map: counters.id, boot: self.boot.clone() };
            Ok::<_, io::Error>((set, counters.is_made_here, counters.read(self.slots)?))
        });
        let fast = fast.transpose()?;
        let slow = self.source.slow();
        Ok(Reading { clock: now(), boot: self.boot.clone(), fast, slow, run: self.run })
    }

    fn book(&mut self, reading: &Reading) {
        let Some(ledger) = &mut self.ledger else { return };
        let length = u32::try_from(self.source.terms().every.as_secs()).unwrap_or(3600);
        for notice in ledger.take(reading, length) {
            match notice {
                Notice::OtherCounters => info!("accounts: the fast path's counters have begun anew"),
                Notice::Shrunk(name) => {
                    warn!("accounts: the counter of {name} is less than it was: what it says was booked anew")
                }
                Notice::Jumped(millis) => {
                    if millis.unsigned_abs() > JUMP {
                        self.distrust = Some(Instant::now());
                    }
                    warn!("accounts: the clock jumped by {} s", millis as f64 / 1000.0);
                }
                Notice::Lost(records) => error!(
                    "accounts: {records} records of closed buckets are lost: the store could not be written for too long"
                ),
            }
        }
    }

    fn write(&mut self) {
        let (Some(store), Some(ledger)) = (&self.store, &mut self.ledger) else { return };
        if !ledger.has_changed() {
            return;
        }
        let terms = self.source.terms();
        let trusted = self.distrust.is_none_or(|jumped| jumped.elapsed() > DISTRUST);
        let bounds = Bounds { keep: trusted.then_some(terms.keep.as_secs()), size: terms.size };
        match store.commit(ledger, bounds) {
            Ok(()) => {
                let mut condition = self.condition();
                if condition.problem.take().is_some() {
                    info!("accounts: everything that waited is written");
                }
                condition.since = None;
            }
            Err(problem @ StoreError::Damaged { .. }) => {
                self.store = None;
                self.begin_anew(&problem.to_string());
            }
            Err(problem) => self.fail(&problem),
        }
    }

    fn tell(&self, took: Duration) {
        let mut condition = self.condition();
        condition.last_tick = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        condition.file = self.store.as_ref().map_or(0, Store::size);
        let Some(ledger) = &self.ledger else { return };
        condition.began = ledger.head.began;
        condition.transactions = ledger.head.sequence;
        condition.accounts = ledger.accounts.len();
        condition.history = ledger.head.history;
        condition.waiting = ledger.closed.iter().map(|closed| closed.records.len()).sum();
        condition.lost = ledger.head.lost;
        condition.removed_until = ledger.head.removed_until;
    }

    fn answer(&mut self, question: &Question) -> Result<Answer, String> {
        let unknown = || {
            let problem = self.condition().problem.clone().unwrap_or_default();
            format!("accounts cannot be read: {problem}")
        };
        let ledger = self.ledger.as_ref().ok_or_else(unknown)?;
        query::answer(ledger, self.store.as_ref(), question)
    }
}

/// Both clocks.
pub(super) fn now() -> Clock {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let steady = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from);
    Clock {
        wall: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        steady: u64::try_from(steady.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX),
    }
}

/// The kernel's run.
fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    boot.map_or_else(|_| fresh_id(), |id| id.trim().to_owned())
}
