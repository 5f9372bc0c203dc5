//! Health checks: probes of targets, and when their outcomes change what is believed of them.
//!
//! Every address that a target is answered with is probed, and one bad address makes a probe bad: a target that is up
//! for half of its clients only is not up.

use super::probe::probe;
use crate::config::Check;
use rand::RngExt;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Most probes under way at one time; more wait for their turn.
const MAX_PROBES: usize = 256;
/// Part of the interval by which probes are moved at random, so that boxes do not probe in step.
const JITTER: f64 = 0.1;

/// What is probed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Every address that clients are given.
    pub addresses: Vec<IpAddr>,
    /// Where probes come from if the family allows it: the box's management address (P-1).
    pub source: IpAddr,
    /// The configured check.
    pub check: Check,
}

/// Round trip to the target, the longest if it has several addresses. `Err` tells what was wrong.
pub type Outcome = Result<Duration, String>;

/// A change of what is believed of a target: whether it is up, or how far away it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What [`Prober::watch`] returned for it.
    pub watch: WatchId,
    /// Up and how far away, or down and why.
    pub outcome: Outcome,
}

/// Names one target's series of probes; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(u64);

/// Probes under way. Dropping it ends them all.
#[derive(Debug)]
pub struct Prober {
    permits: Arc<Semaphore>,
    reports: mpsc::Sender<Report>,
    next: u64,
    running: BTreeMap<WatchId, AbortHandle>,
}

impl Prober {
    /// Changes go to `reports`.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_PROBES)), reports, next: 0, running: BTreeMap::new() }
    }

    /// Probes each subject once. Those without an outcome within `limit` are missing.
    pub fn first_outcomes(
        &self,
        subjects: Vec<(usize, Subject)>,
        limit: Duration,
    ) -> impl Future<Output = BTreeMap<usize, Outcome>> + Send + use<> {
        let permits = Arc::clone(&self.permits);
        async move {
            let mut probes = JoinSet::new();
            for (index, subject) in subjects {
                let permits = Arc::clone(&permits);
                probes.spawn(async move { (index, probe_all(&subject, &permits).await) });
            }
            let deadline = Instant::now() + limit;
            let mut found = BTreeMap::new();
            while let Ok(Some(done)) = tokio::time::timeout_at(deadline, probes.join_next()).await {
                found.extend(done.ok());
            }
            found
        }
    }

    /// Probes a subject again and again until [`end`](Self::end), and reports when it changes from `up`, or while it is
    /// up its distance from `round_trip`.
    pub fn watch(&mut self, subject: Subject, up: bool, round_trip: Option<Duration>) -> WatchId {
        let id = WatchId(self.next);
        self.next += 1;
        let (permits, reports) = (Arc::clone(&self.permits), self.reports.clone());
        let task = tokio::spawn(async move {
            let mut belief = Belief { up, against: 0, rise: subject.check.rise, fall: subject.check.fall };
            let mut path = Path { told: round_trip, recent: VecDeque::new() };
            let mut next = Instant::now() + subject.check.every.mul_f64(rand::rng().random::<f64>());
            loop {
                sleep_until(next).await;
                next = Instant::now() + jittered(subject.check.every);
                let outcome = probe_all(&subject, &permits).await;
                let changed = belief.changes(outcome.is_ok());
                let moved = outcome.as_ref().is_ok_and(|round_trip| path.changes(*round_trip));
                let outcome = outcome.map(|round_trip| path.told.unwrap_or(round_trip));
                let news = changed || (moved && belief.up);
                if news && reports.send(Report { watch: id, outcome }).await.is_err() {
                    return;
                }
            }
        });
        self.running.insert(id, task.abort_handle());
        id
    }

    /// Ends a series of probes.
    pub fn end(&mut self, id: WatchId) {
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

fn jittered(every: Duration) -> Duration {
    every.mul_f64(1.0 + JITTER * (2.0 * rand::rng().random::<f64>() - 1.0))
}

/// Probes all addresses of a subject; the first bad one decides.
async fn probe_all(subject: &Subject, permits: &Semaphore) -> Outcome {
    let Ok(_permit) = permits.acquire().await else { return Err("the box is ending".to_owned()) };
    let Subject { addresses, source, check } = subject;
    let mut probes = JoinSet::new();
    for address in addresses.iter().copied() {
        let (kind, source, limit) = (check.probe.clone(), *source, check.timeout);
        probes.spawn(async move {
            let late = || Err(format!("{address}: no answer within {} ms", limit.as_millis()));
            timeout(limit, probe(&kind, address, source)).await.unwrap_or_else(|_| late())
        });
    }
    let mut longest = Duration::ZERO;
    while let Some(outcome) = probes.join_next().await {
        let round_trip = outcome.unwrap_or_else(|error| Err(format!("the probe failed: {error}")))?;
        longest = longest.max(round_trip);
    }
    Ok(longest)
}

/// How far away a target is: the median of recent round trips, so that a few slow ones mean nothing. What was told
/// stands until the median leaves it clearly: else clients would be moved by noise.
#[derive(Debug)]
struct Path {
    told: Option<Duration>,
    recent: VecDeque<Duration>,
}

impl Path {
    /// Round trips that the median is taken of.
    const RECENT: usize = 5;
    /// A change is clear if it is at least this part of what was told,
    const PART: u32 = 8;
    /// and at least this long: below it a path's length means nothing.
    const LEAST: Duration = Duration::from_micros(500);

    /// Takes a round trip in; tells whether the distance has changed clearly.
    fn changes(&mut self, round_trip: Duration) -> bool {
        self.recent.truncate(Self::RECENT - 1);
        self.recent.push_front(round_trip);
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted[sorted.len() / 2];
        let clear = self.told.is_none_or(|told| {
            let enough = self.recent.len() == Self::RECENT;
            enough && median.abs_diff(told) >= Self::LEAST.max(told / Self::PART)
        });
        if clear {
            self.told = Some(median);
        }
        clear
    }
}

/// What is believed of a target: changes only after enough outcomes in a row against it.
#[derive(Debug)]
struct Belief {
    up: bool,
    /// Outcomes in a row that speak against it.
    against: u32,
    rise: u32,
    fall: u32,
}

impl Belief {
    /// Takes an outcome in; tells whether the belief has changed.
    fn changes(&mut self, good: bool) -> bool {
        self.against = if good == self.up { 0 } else { self.against + 1 };
        let changed = self.against >= if self.up { self.fall } else { self.rise };
        if changed {
            (self.up, self.against) = (good, 0);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Probe;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn localhost() -> IpAddr {
        [127, 0, 0, 1].into()
    }

    fn subject(probe: Probe) -> Subject {
        let millis = Duration::from_millis;
        let check = Check { probe, every: millis(100), timeout: millis(100), rise: 1, fall: 2 };
        Subject { addresses: vec![localhost()], source: localhost(), check }
    }

    fn http(port: u16, status: Option<u16>) -> Subject {
        subject(Probe::Http { port, path: "/healthz".into(), host: None, status })
    }

    fn prober() -> (Prober, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(8);
        (Prober::new(sender), receiver)
    }

    async fn first(subject: Subject) -> Outcome {
        let outcomes = prober().0.first_outcomes(vec![(7, subject)], Duration::from_secs(5)).await;
        outcomes[&7].clone()
    }

    /// Answers every connection with `answer`.
    async fn server(answer: &'static str) -> (u16, JoinSet<()>) {
        let listener = TcpListener::bind((localhost(), 0)).await.expect("port");
        let port = listener.local_addr().expect("address").port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (port, tasks)
    }

    #[test]
    fn belief_changes_after_rise_or_fall_outcomes_in_a_row() {
        let mut belief = Belief { up: true, against: 0, rise: 2, fall: 3 };
        let changed: Vec<bool> = [false, false, true, false, false, false, true, false, true, true]
            .map(|good| belief.changes(good))
            .into();
        assert_eq!(changed, [false, false, false, false, false, true, false, false, false, true]);
        assert!(belief.up);
    }

    #[test]
    fn a_distance_changes_when_the_median_of_round_trips_leaves_it_clearly() {
        let mut path = Path { told: None, recent: VecDeque::new() };
        let mut told = |millis: &[u64]| -> Vec<Option<u128>> {
            let take = |millis: &u64| {
                let changed = path.changes(Duration::from_millis(*millis));
                changed.then(|| path.told.expect("told").as_millis())
            };
            millis.iter().map(take).collect()
        };
        assert_eq!(told(&[20]), [Some(20)], "the first is told at once");
        assert_eq!(
            told(&[22, 21, 900, 22, 18, 900, 20]),
            [None; 7],
            "noise and single slow ones mean nothing"
        );
        assert_eq!(told(&[40, 41, 40, 40]), [None, Some(40), None, None], "three of five, with the slow one");
        assert_eq!(told(&[10, 10, 10, 10]), [None, None, Some(10), None]);
    }

    #[tokio::test]
    async fn http_probes_want_the_expected_status() {
        let (port, _tasks) = server("HTTP/1.1 503 Sorry\r\n\r\n").await;
        let error = first(http(port, None)).await.expect_err("503 is not 2xx");
        assert!(error.contains("status 503 instead of 2xx"), "{error}");
        assert!(first(http(port, Some(503))).await.is_ok());
        let (port, _tasks) = server("HTTP/1.0 204\r\n\r\n").await;
        assert!(first(http(port, None)).await.is_ok());
        let (port, _tasks) = server("SSH-2.0-x\r\n").await;
        assert!(first(http(port, None)).await.is_err());
    }

    #[tokio::test]
    async fn tcp_probes_want_an_accepted_connection_on_every_address() {
        let (port, tasks) = server("").await;
        let good = subject(Probe::Tcp { port });
        assert!(first(good.clone()).await.is_ok());
        let half = Subject { addresses: vec![localhost(), [127, 0, 0, 9].into()], ..good.clone() };
        assert!(first(half).await.is_err(), "nobody listens on 127.0.0.9");
        drop(tasks);
        let deadline = Instant::now() + Duration::from_secs(5);
        while first(good.clone()).await.is_ok() {
            assert!(Instant::now() < deadline, "the port stays open");
        }
    }

    #[tokio::test]
    async fn silent_servers_are_down_after_the_timeout() {
        let listener = TcpListener::bind((localhost(), 0)).await.expect("port");
        let port = listener.local_addr().expect("address").port();
        let error = first(http(port, None)).await.expect_err("never answers");
        assert!(error.contains("no answer within 100 ms"), "{error}");
    }

    #[tokio::test]
    async fn a_watch_reports_changes_until_it_is_ended() {
        let (mut prober, mut reports) = prober();
        let (port, tasks) = server("HTTP/1.1 200 OK\r\n\r\n").await;
        let id = prober.watch(http(port, None), false, None);
        let report = reports.recv().await.expect("report");
        assert!(report.watch == id && report.outcome.is_ok());
        drop(tasks);
        let report = reports.recv().await.expect("report");
        assert!(report.watch == id && report.outcome.is_err());
        prober.end(id);
        drop(prober);
        assert_eq!(reports.recv().await, None, "all senders are gone with the probes");
    }
}
