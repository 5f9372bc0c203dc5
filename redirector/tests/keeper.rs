//! The thread that keeps accounts: reports of edges are booked once, and collectors get each batch once (P-30).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use redirector::accounts::batches::Served;
use redirector::accounts::billing::{Billing, Unit, month};
use redirector::accounts::deliver::{Office, serve};
use redirector::accounts::keeper::{Keeper, Source};
use redirector::accounts::query::{Answer, Filter, Question, Row, Sum};
use redirector::accounts::reports::Report;
use redirector::accounts::{Account, Kind, Roster};
use redirector::config::{AccountTerms, Clients, CollectorTerms, CollectorUrl};
use redirector::dataplane::TargetCounters;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(120);

fn account(name: &str, agreement: Option<&str>, provider: &str, cdn: &str) -> Account {
    Account {
        name: name.into(),
        kind: if agreement.is_some() { Kind::Agreement } else { Kind::Network },
        agreement: agreement.map(str::to_owned),
        provider: Some(provider.into()),
        cdn: Some(cdn.into()),
        network: Some("ours".into()),
        price: 2_000_000,
        ..Account::default()
    }
}

/// A box whose counters the test sets.
#[derive(Clone, Default)]
struct Counted {
    slow: Arc<Mutex<Vec<u64>>>,
    terms: Arc<Mutex<AccountTerms>>,
    served: Arc<Mutex<Vec<Served>>>,
}

impl Source for Counted {
    fn generation(&self) -> u64 {
        1
    }
    fn roster(&self) -> Roster {
        let accounts = [
            account("agreement:a@nbc", Some("a"), "nbc", "two"),
            account("agreement:a@abc", Some("a"), "abc", "two"),
            account("network:ours@local", None, "local", "ours"),
            Account::of_target("par-1"),
        ];
        Roster { generation: 1, accounts: (1..).zip(accounts.map(Ok)).collect() }
    }
    fn terms(&self) -> AccountTerms {
        self.terms.lock().unwrap().clone()
    }
    fn fast(&self) -> io::Result<Option<Arc<TargetCounters>>> {
        Ok(None)
    }
    fn slow(&self) -> Vec<u64> {
        self.slow.lock().unwrap().clone()
    }
    fn box_name(&self) -> String {
        "fra1".into()
    }
    fn served(&self) -> (Vec<Served>, u64) {
        (std::mem::take(&mut *self.served.lock().unwrap()), 0)
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn start(dir: &Path, counted: &Counted) -> Keeper {
    Keeper::start(dir, counted.clone()).unwrap()
}

fn ask(keeper: &Keeper, question: Question) -> Result<Answer, String> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(keeper.ask(question))
}

fn rows(keeper: &Keeper) -> Vec<Row> {
    let question = Question::Buckets { which: Filter::default(), from: 0, until: u64::MAX, after: None };
    let Answer::Rows(rows, None) = ask(keeper, question).unwrap() else { panic!("rows") };
    rows
}

fn sums(keeper: &Keeper) -> Vec<Sum> {
    let Answer::Accounts(sums) = ask(keeper, Question::List { which: Filter::default() }).unwrap() else {
        panic!("sums")
    };
    sums
}

fn report(keeper: &Keeper, reports: &[Report]) -> Result<(usize, usize), String> {
    match ask(keeper, Question::Report { reports: reports.to_vec() })? {
        Answer::Booked { booked, repeated } => Ok((booked, repeated)),
        other => panic!("{other:?}"),
    }
}

fn of_edge(edge: &str, id: &str, (from, until): (u64, u64), bytes: u64) -> Report {
    Report {
        edge: edge.into(),
        id: id.into(),
        agreement: Some("a".into()),
        provider: Some("nbc".into()),
        target: Some("par-1".into()),
        from: from.to_string(),
        until: until.to_string(),
        bytes,
        requests: 7,
    }
}

#[test]
fn reports_of_edges_are_booked_once_and_for_the_time_that_they_are_about() {
    let (dir, counted) = (tempfile::tempdir().unwrap(), Counted::default());
    let keeper = start(dir.path(), &counted);
    // Two hours ago, over the end of an hour, by two edges at once.
    let hour = unix() / 3600 * 3600 - 7200;
    let first = of_edge("e1", "1", (hour - 60, hour + 60), 1_200_000);
    let second = of_edge("e2", "1", (hour, hour + 60), 1_500_000);
    assert_eq!(report(&keeper, &[first.clone(), second.clone()]), Ok((2, 0)));
    assert_eq!(report(&keeper, &[first.clone(), second.clone(), first.clone()]), Ok((0, 3)));
    let check = |keeper: &Keeper| {
        let rows = rows(keeper);
        let of = |name: &str| -> Vec<(u64, u64, u64)> {
            let of = rows.iter().filter(|row| row.account.name == name);
            of.map(|row| (row.bytes, row.edge_requests, row.peak_bits_per_s)).collect()
        };
        // In the second hour both edges served at once.
        let expected = [(600_000, 3, 80_000), (2_100_000, 11, 280_000)];
        assert_eq!((of("agreement:a@nbc"), of("par-1")), (expected.to_vec(), expected.to_vec()), "{rows:?}");
        let sum = sums(keeper).into_iter().find(|sum| sum.account.name == "par-1").unwrap();
        assert_eq!((sum.bytes, sum.edge_requests), (2_700_000, 14));
    };
    check(&keeper);
    // In a later run, too.
    keeper.end();
    drop(keeper);
    let keeper = start(dir.path(), &counted);
    wait(|| ask(&keeper, Question::List { which: Filter::default() }).is_ok());
    assert_eq!(report(&keeper, &[second, first]), Ok((0, 2)));
    check(&keeper);
}

#[test]
fn reports_that_cannot_be_are_refused_with_the_reason_and_nothing_of_them_is_booked() {
    let (dir, counted) = (tempfile::tempdir().unwrap(), Counted::default());
    let keeper = start(dir.path(), &counted);
    let now = unix();
    let good = || of_edge("e1", "1", (now - 600, now - 300), 1000);
    let bad: [(Report, &str); 14] = [
        (Report { from: (now - 300).to_string(), ..good() }, "it ends before it begins"),
        (Report { until: (now + 3600).to_string(), ..good() }, "s from now: is the edge's clock right?"),
        (Report { from: (now - 100_000).to_string(), ..good() }, "report at most a day at once"),
        (Report { from: "0".into(), until: "60".into(), ..good() }, "it is older than 31 days"),
        (Report { from: "yesterday".into(), ..good() }, "`yesterday` is not a date"),
        (Report { bytes: u64::MAX, ..good() }, "more than any edge serves"),
        (Report { edge: String::new(), ..good() }, "`edge` has 1 to 63 bytes"),
        (Report { id: "a\nb".into(), ..good() }, "`id` has 1 to 128 bytes"),
        (Report { agreement: Some("b".into()), ..good() }, "there is no agreement `b` about `nbc`"),
        (Report { provider: None, ..good() }, "it is for several accounts: agreement:a@nbc, agreement:a@abc"),
        (Report { agreement: None, ..good() }, "no network serves `nbc` as its primary CDN"),
        (Report { target: Some("par-2".into()), ..good() }, "there is no target `par-2`"),
        (Report { target: Some("agreement:a@nbc".into()), ..good() }, "there is no target"),
        (
            Report { agreement: None, provider: None, target: None, ..good() },
            "say for what it is: --agreement, --provider or --target",
        ),
    ];
    for (wrong, why) in bad {
        let refused = report(&keeper, &[of_edge("e9", "9", (now - 60, now), 5), wrong.clone()]).unwrap_err();
        assert!(refused.contains(why), "{wrong:?}: {refused}");
    }
    assert!(sums(&keeper).iter().all(|sum| sum.bytes == 0), "all or none");
    assert_eq!(report(&keeper, &[good()]), Ok((1, 0)));
    let other = report(&keeper, &[Report { bytes: 1001, ..good() }]).unwrap_err();
    assert!(other.contains("another report had this id"), "{other}");
    assert_eq!(
        report(
            &keeper,
            &[Report { agreement: None, provider: Some("local".into()), edge: "e3".into(), ..good() }]
        ),
        Ok((1, 0))
    );
}

#[test]
fn a_month_is_billed_by_what_edges_reported() {
    let (dir, counted) = (tempfile::tempdir().unwrap(), Counted::default());
    let keeper = start(dir.path(), &counted);
    let hour = unix() / 3600 * 3600 - 7200;
    report(&keeper, &[of_edge("e1", "1", (hour, hour + 3600), 3_500_000_000)]).unwrap();
    let mut billing = Billing::new(Unit::Bytes);
    rows(&keeper).iter().filter(|row| row.account.kind == Kind::Agreement).for_each(|row| billing.add(row));
    let (begin, end) = month("2027-01").unwrap();
    let [bill] = &billing.bills(end - begin)[..] else { panic!("one bill") };
    assert_eq!((bill.bytes, bill.amount, bill.parts), (3_500_000_000, 7_000_000, 744));
}

fn wait(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "it takes too long");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A collector for tests: it takes each batch once, by its key, and fails in every way in turn.
#[derive(Default)]
struct Collector {
    taken: Mutex<BTreeMap<u64, Value>>,
    keys: Mutex<BTreeSet<String>>,
    asked: AtomicU32,
    /// It takes nothing.
    shut: AtomicU32,
}

impl Collector {
    fn listen(self: &Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let collector = Arc::clone(self);
        thread::spawn(move || listener.incoming().for_each(|stream| collector.serve(stream.unwrap())));
        port
    }

    fn serve(&self, mut stream: TcpStream) {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst) % 5;
        if turn == 0 || self.shut.load(Ordering::SeqCst) == 1 {
            // Closed before anything is read.
            return;
        }
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if let Some(value) = lower.strip_prefix("idempotency-key:") {
                key = value.trim().trim_matches('"').to_owned();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        if turn == 1 {
            stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nbusy\n").unwrap();
            return;
        }
        let batch: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(batch["key"].as_str().unwrap(), key);
        let sequence = batch["sequence"].as_u64().unwrap();
        if self.keys.lock().unwrap().insert(key) {
            let mut taken = self.taken.lock().unwrap();
            assert!(taken.keys().all(|earlier| *earlier < sequence), "in order");
            assert!(taken.insert(sequence, batch).is_none(), "another batch of this number");
        }
        if turn == 2 {
            // Taken, and nobody is told.
            return;
        }
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").unwrap();
    }

    fn sum(&self, field: &str, account: &str) -> u64 {
        let taken = self.taken.lock().unwrap();
        let parts = taken.values().flat_map(|batch| batch["accounts"].as_array().unwrap());
        parts.filter(|part| part["account"] == account).map(|part| part[field].as_u64().unwrap()).sum()
    }
}

struct Delivering(Arc<Keeper>, Counted);

impl Office for Delivering {
    fn keeper(&self) -> Option<&Keeper> {
        Some(&self.0)
    }
    fn collectors(&self) -> (Vec<CollectorTerms>, IpAddr) {
        (self.1.terms().collectors, "127.0.0.1".parse().unwrap())
    }
}

fn deliver(keeper: &Arc<Keeper>, counted: &Counted) {
    let delivering = Delivering(Arc::clone(keeper), counted.clone());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(&delivering, "two"));
    });
}

fn collecting(port: u16, outbox: u64) -> Counted {
    let counted = Counted::default();
    let url = CollectorUrl { host: "127.0.0.1".into(), port, path: "/accounts".into() };
    let two = CollectorTerms {
        name: "two".into(),
        url,
        cdn: Some("two".into()),
        provider: None,
        clients: Clients::Prefix,
    };
    *counted.terms.lock().unwrap() = AccountTerms {
        tell: Duration::from_secs(1),
        outbox,
        collectors: vec![two],
        ..AccountTerms::default()
    };
    counted
}

#[test]
fn collectors_get_each_batch_once_in_order_whatever_fails() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Arc::new(Collector::default());
    let counted = collecting(collector.listen(), u64::MAX);
    let mut booked = 0;
    for run in 0..3 {
        counted.slow.lock().unwrap().clear();
        let keeper = Arc::new(start(dir.path(), &counted));
        // The collector is known from the first reading on.
        wait(|| keeper.condition().collectors.len() == 1);
        deliver(&keeper, &counted);
        for step in 1..=30u64 {
            *counted.slow.lock().unwrap() = vec![0, step * 10, step, step * 1000, step];
            if step == 10 {
                counted.served.lock().unwrap().push(Served {
                    client: "198.51.100.77".parse().unwrap(),
                    account: "agreement:a@nbc".into(),
                    service: "web@nbc".into(),
                    target: "par-1".into(),
                    first: 1_800_000_000,
                    last: 1_800_000_010,
                    requests: 3,
                    told: 3,
                });
                let now = unix();
                report(&keeper, &[of_edge("e", &run.to_string(), (now - 60, now), 5000)]).unwrap();
            }
            thread::sleep(Duration::from_millis(100));
        }
        booked += 300;
        // Ends while it delivers.
        keeper.end();
    }
    let keeper = Arc::new(start(dir.path(), &counted));
    deliver(&keeper, &counted);
    wait(|| collector.sum("requests", "agreement:a@nbc") == booked + 300);
    assert_eq!(collector.sum("requests", "agreement:a@abc"), booked / 10 + 30);
    assert_eq!(collector.sum("bytes", "agreement:a@nbc"), 15_000);
    assert_eq!(collector.sum("requests", "network:ours@local") + collector.sum("requests", "par-1"), 0);
    let taken = collector.taken.lock().unwrap().clone();
    let numbers: Vec<u64> = taken.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gap");
    assert!(numbers.len() >= 4, "{numbers:?}");
    let connections: Vec<&Value> =
        taken.values().flat_map(|batch| batch["connections"].as_array().unwrap()).collect();
    assert_eq!(connections.len(), 3, "{connections:?}");
    let one = connections[0];
    assert_eq!(
        (&one["client"], &one["service"], &one["target"]),
        (&"198.51.100.0/24".into(), &"web@nbc".into(), &"par-1".into())
    );
    assert_eq!(
        (&one["requests"], &one["provider"], &one["agreement"]),
        (&3.into(), &"nbc".into(), &"a".into())
    );
}

#[test]
fn what_waits_for_a_collector_is_bounded_and_losses_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Arc::new(Collector::default());
    collector.shut.store(1, Ordering::SeqCst);
    let counted = collecting(collector.listen(), 1200);
    let keeper = Arc::new(start(dir.path(), &counted));
    wait(|| keeper.condition().collectors.len() == 1);
    deliver(&keeper, &counted);
    let mut requests = 0;
    wait(|| {
        requests += 1;
        *counted.slow.lock().unwrap() = vec![0, requests];
        keeper.condition().collectors[0].lost >= 2
    });
    let condition = keeper.condition().collectors[0].clone();
    assert!(condition.bytes <= 1200 && condition.waiting >= 1, "{condition:?}");
    wait(|| keeper.condition().collectors[0].problem.is_some());
    collector.shut.store(0, Ordering::SeqCst);
    wait(|| keeper.condition().collectors[0].waiting == 0);
    let taken = collector.taken.lock().unwrap().clone();
    let (first, batch) = taken.iter().next().unwrap();
    assert!(*first > 2, "the oldest are gone: {batch}");
    assert!(taken.values().any(|batch| batch["lost"].as_u64().unwrap() >= 1), "{taken:?}");
}
