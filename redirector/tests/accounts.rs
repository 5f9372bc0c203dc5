//! What is booked is what was counted: however runs end, counters begin anew, and the clock goes (P-30, P-31).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use proptest::prelude::*;
use redirector::accounts::ledger::{Clock, CounterSet, Ledger, Notice, Reading};
use redirector::accounts::query::{self, Answer, Filter, Question, Row};
use redirector::accounts::store::{Bounds, Store, StoreError, fresh_id, put_aside};
use redirector::accounts::{Account, FILE, Kind, Roster};
use std::fs;
use std::path::{Path, PathBuf};

/// Targets of the box.
const TARGETS: usize = 70;
/// Length of a bucket in seconds.
const LENGTH: u32 = 3600;
const BOUNDS: Bounds = Bounds { keep: None, size: u64::MAX };
/// 2027-01-15T08:00:00Z.
const BEGIN: u64 = 1_800_000_000_000;

fn account(target: usize) -> Account {
    match target {
        0..=2 => Account {
            name: format!("agreement:a@p{target}"),
            kind: Kind::Agreement,
            agreement: Some("a".into()),
            provider: Some(format!("p{target}")),
            cdn: Some("two".into()),
            price: 12_000,
            ..Account::default()
        },
        _ => Account::of_target(&format!("t{target}")),
    }
}

fn roster(targets: usize) -> Roster {
    Roster { generation: 1, accounts: (0..targets).map(|one| (one as u32 + 1, Ok(account(one)))).collect() }
}

/// A box with its counters, and what was truly counted.
struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    ledger: Option<Ledger>,
    clock: Clock,
    map: u32,
    fast: Vec<u64>,
    slow: Vec<u64>,
    run: u64,
    /// What was counted, and is booked or has to be.
    truth: Vec<u64>,
    /// What of that the slow path's counters hold, and the store does not yet.
    at_risk: Vec<u64>,
    targets: usize,
}

impl World {
    fn new() -> Self {
        let empty = vec![0; TARGETS + 1];
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            store: None,
            ledger: None,
            clock: Clock { wall: BEGIN, steady: 1_000_000_000 },
            map: 7,
            fast: empty.clone(),
            slow: empty.clone(),
            run: 0,
            truth: empty.clone(),
            at_risk: empty,
            targets: TARGETS / 2,
        };
        world.start();
        world
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    fn start(&mut self) {
        let store = Store::open(&self.path()).unwrap();
        let ledger = store.load().unwrap().unwrap_or_else(|| Ledger::new(fresh_id(), self.clock));
        self.run = ledger.head.run + 1;
        (self.store, self.ledger) = (Some(store), Some(ledger));
        self.tick(true);
    }

    /// The process ends without a word.
    fn die(&mut self) {
        (self.store, self.ledger) = (None, None);
        for (truth, lost) in self.truth.iter_mut().zip(&mut self.at_risk) {
            *truth -= std::mem::take(lost);
        }
        self.slow.fill(0);
    }

    fn count(&mut self, target: usize, fast: u64, slow: u64) {
        let slot = target % self.targets + 1;
        self.fast[slot] += fast;
        self.slow[slot] += slow;
        self.truth[slot] += fast + slow;
        self.at_risk[slot] += slow;
    }

    fn tick(&mut self, commits: bool) -> Vec<Notice> {
        self.clock.wall += 500;
        self.clock.steady += 500_000_000;
        let ledger = self.ledger.as_mut().unwrap();
        ledger.enrol(&roster(self.targets));
        let set = CounterSet { map: self.map, boot: "boot".into() };
        let reading = Reading {
            clock: self.clock,
            boot: "boot".into(),
            fast: Some((set, true, self.fast.clone())),
            slow: self.slow.clone(),
            run: self.run,
        };
        let notices = ledger.take(&reading, LENGTH);
        if commits {
            self.store.as_ref().unwrap().commit(ledger, BOUNDS).unwrap();
            self.at_risk.fill(0);
        }
        notices
    }

    fn rows(&self, which: &Filter) -> Vec<Row> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let question = Question::Buckets { which: which.clone(), from: 0, until: u64::MAX, after };
            let answer =
                query::answer(self.ledger.as_ref().unwrap(), self.store.as_ref(), &question).unwrap();
            let Answer::Rows(page, more) = answer else { panic!("{answer:?}") };
            rows.extend(page);
            let Some(place) = more else { return rows };
            after = Some(place);
        }
    }

    /// What is booked to each account, by sums and by buckets, is what was counted.
    fn check(&self) {
        let Answer::Accounts(sums) = query::answer(
            self.ledger.as_ref().unwrap(),
            self.store.as_ref(),
            &Question::List { which: Filter::default() },
        )
        .unwrap() else {
            panic!("no sums")
        };
        let rows = self.rows(&Filter::default());
        for target in 0..self.targets {
            let name = account(target).name;
            let sum = sums.iter().find(|sum| sum.account.name == name).unwrap().requests;
            let booked: u64 =
                rows.iter().filter(|row| row.account.name == name).map(|row| row.requests).sum();
            assert_eq!((sum, booked), (self.truth[target + 1], self.truth[target + 1]), "{name}");
        }
        let mut places: Vec<(&str, &str)> = rows.iter().map(|row| (&*row.from, &*row.account.name)).collect();
        let count = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), count, "a row for each account and part of time");
    }
}

/// What happens to a box.
#[derive(Debug, Clone)]
enum Event {
    Count(usize, u64, u64),
    Tick,
    /// Dies after it booked in memory and before it wrote.
    DieUnwritten,
    Die,
    /// Dies with its machine.
    Reboot,
    /// The fast path's counters were in another shape.
    OtherMap,
    Jump(i64),
    MoreTargets(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..TARGETS, 0u64..1000, 0u64..1000).prop_map(|(target, fast, slow)| Event::Count(target, fast, slow)),
        4 => Just(Event::Tick),
        1 => Just(Event::DieUnwritten),
        1 => Just(Event::Die),
        1 => Just(Event::Reboot),
        1 => Just(Event::OtherMap),
        2 => (-7200i64..100_000).prop_map(Event::Jump),
        1 => (0..TARGETS).prop_map(Event::MoreTargets),
    ]
}

fn run(events: Vec<Event>) -> World {
    let mut world = World::new();
    for event in events {
        match event {
            Event::Count(target, fast, slow) => world.count(target, fast, slow),
            Event::Tick => {
                world.tick(true);
            }
            Event::DieUnwritten => {
                world.tick(false);
                world.die();
                world.start();
            }
            Event::Die => {
                world.die();
                world.start();
            }
            Event::Reboot => {
                // What both paths counted since the last reading is lost with the machine.
                world.tick(true);
                world.die();
                (world.map, world.clock.steady) = (3, 1);
                world.fast.fill(0);
                world.start();
            }
            Event::OtherMap => {
                world.tick(true);
                world.map += 1;
                world.fast.fill(0);
            }
            Event::Jump(seconds) => world.clock.wall = world.clock.wall.saturating_add_signed(seconds * 1000),
            Event::MoreTargets(targets) => world.targets = world.targets.max(targets),
        }
    }
    world.tick(true);
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn what_is_booked_is_what_was_counted_whatever_happens(
        events in proptest::collection::vec(event(), 1..120)
    ) {
        let mut world = run(events);
        world.check();
        world.die();
        world.start();
        world.check();
    }
}

#[test]
fn peaks_are_of_a_second_and_prices_of_their_time() {
    let mut world = World::new();
    for second in 0..10u64 {
        world.count(0, if second == 4 { 900 } else { 100 }, 0);
        world.tick(true);
        world.tick(true);
    }
    let which = Filter { agreement: Some("a".into()), provider: Some("p0".into()), ..Filter::default() };
    let rows = world.rows(&which);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.requests, row.peak_requests_per_s, row.agreed_price), (1800, 900.0, 12_000));
    assert!(!row.complete);
    assert_eq!((&*row.from, &*row.until), ("2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z"));
    assert_eq!(row.peak_requests_at, "2027-01-15T08:00:05Z");
    // An hour later that is closed, and nothing of its peak goes on.
    world.clock.wall += 3_600_000;
    world.clock.steady += 3_600_000_000_000;
    world.count(0, 10, 0);
    world.tick(true);
    let rows = world.rows(&which);
    assert_eq!((rows.len(), rows[0].complete, rows[0].requests), (2, true, 1800));
    assert_eq!(rows[1].requests, 10);
}

#[test]
fn what_was_counted_before_accounts_were_kept_is_nobodys() {
    let mut world = World::new();
    world.die();
    fs::remove_file(world.path()).unwrap();
    world.fast[1] = 1_000_000;
    // Counters that this process did not make.
    let store = Store::open(&world.path()).unwrap();
    let mut ledger = Ledger::new(fresh_id(), world.clock);
    ledger.enrol(&roster(1));
    let set = CounterSet { map: world.map, boot: "boot".into() };
    let mut reading = Reading {
        clock: world.clock,
        boot: "boot".into(),
        fast: Some((set, false, world.fast.clone())),
        slow: vec![0, 5],
        run: 1,
    };
    ledger.take(&reading, LENGTH);
    assert_eq!(ledger.live[0].requests, 5, "what the slow path of this process answered is");
    reading.fast.as_mut().unwrap().2[1] += 3;
    ledger.take(&reading, LENGTH);
    assert_eq!(ledger.live[0].requests, 8);
    // Somebody sets the counter to a lower value.
    reading.fast.as_mut().unwrap().2[1] = 2;
    assert_eq!(ledger.take(&reading, LENGTH), [Notice::Shrunk("agreement:a@p0".into())]);
    assert_eq!(ledger.live[0].requests, 10);
    store.commit(&mut ledger, BOUNDS).unwrap();
}

#[test]
fn clock_jumps_are_noticed_and_nothing_else_is() {
    let mut world = World::new();
    assert_eq!(world.tick(true), []);
    world.clock.wall += 7_200_000;
    assert_eq!(world.tick(true), [Notice::Jumped(7_200_000)]);
    world.clock.wall -= 86_400_000;
    assert_eq!(world.tick(true), [Notice::Jumped(-86_400_000)]);
    assert_eq!(world.tick(true), []);
}

/// Buckets of many hours with all targets busy.
fn hours(world: &mut World, hours: u64, bounds: Bounds) {
    for _ in 0..hours {
        for target in 0..TARGETS {
            world.count(target, 1000 + target as u64, 0);
        }
        world.tick(false);
        world.clock.wall += 3_600_000;
        world.clock.steady += 3_600_000_000_000;
        world.tick(false);
        world.store.as_ref().unwrap().commit(world.ledger.as_mut().unwrap(), bounds).unwrap();
    }
}

#[test]
fn closed_buckets_are_kept_as_long_as_they_should_be_and_within_their_size() {
    let mut world = World::new();
    world.targets = TARGETS;
    hours(&mut world, 48, Bounds { keep: Some(86_400), size: u64::MAX });
    let which = Filter { agreement: Some("a".into()), ..Filter::default() };
    let (all, agreed) = (world.rows(&Filter::default()), world.rows(&which));
    let parts =
        |rows: &[Row]| rows.iter().map(|row| row.from.clone()).collect::<std::collections::BTreeSet<_>>();
    assert!((24..=25).contains(&parts(&all).len()), "{:?}", parts(&all));
    let head = &world.ledger.as_ref().unwrap().head;
    assert_eq!((parts(&all), head.removed_until), (parts(&agreed), 0));
    // Within a third of their size: targets go before agreements.
    let size = head.history / 3;
    hours(&mut world, 1, Bounds { keep: None, size });
    let head = &world.ledger.as_ref().unwrap().head;
    assert!(head.history <= size && head.removed_until > 0, "{head:?}");
    let (all, agreed) = (world.rows(&Filter::default()), world.rows(&which));
    assert!(parts(&agreed).len() >= 25, "agreements stay: {:?}", parts(&agreed));
    assert!(all.len() < TARGETS * 10, "{}", all.len());
}

/// The oldest bytes of a store, changed in every way that a disk or an operator can.
fn damages(path: &Path) -> Vec<Vec<u8>> {
    let whole = fs::read(path).unwrap();
    let mut damages = vec![whole[..whole.len() / 2].to_vec(), b"not a store".to_vec(), vec![0; 4096]];
    for start in [0usize, 64, 4096, 8192] {
        let mut changed = whole.clone();
        changed[start..].iter_mut().take(64).for_each(|byte| *byte ^= 0xff);
        damages.push(changed);
    }
    damages
}

#[test]
fn a_damaged_store_is_told_and_put_aside_whole() {
    let mut world = World::new();
    hours(&mut world, 3, BOUNDS);
    let path = world.path();
    (world.store, world.ledger) = (None, None);
    let whole = fs::read(&path).unwrap();
    let mut found = 0;
    for damaged in damages(&path) {
        fs::write(&path, &damaged).unwrap();
        match Store::open(&path).and_then(|store| store.load()) {
            Err(StoreError::Damaged { why, .. }) => {
                found += 1;
                assert!(!why.is_empty());
                let aside = put_aside(&path).unwrap();
                assert!(aside.to_string_lossy().contains(".damaged-"), "{aside:?}");
                assert!(!path.exists() && aside.exists());
            }
            // Bytes that are not used.
            Ok(Some(ledger)) => assert_eq!(ledger.accounts.len(), TARGETS / 2),
            other => panic!("{other:?}"),
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(found >= 4, "{found} of the damages were found");
}

#[test]
fn a_store_that_others_have_is_left_alone() {
    let world = World::new();
    let error = Store::open_to_read(&world.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    assert!(matches!(Store::open_to_read(Path::new("/nowhere/a")).unwrap_err(), StoreError::Refused { .. }));
}
