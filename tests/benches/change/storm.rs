//! Changes of health, one after another, while both paths are asked without a pause: what a change takes to its first
//! answer, and whether any answer ever was another than that of a state that held while it was made.

use crate::watch::{Probe, Progress};
use anyhow::{Context as _, Result, ensure};
use redirector::dataplane::{BpfDataplane, Dataplane as _, LiveTables};
use redirector::state::live::Live;
use redirector_core::wire::Action;
use redirector_plan::compile;
use redirector_plan::compile::Compiled;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::{Network, TargetState};
use redirector_tests::frames::{Datagram, Flow};
use redirector_tests::slow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// `bpf(2)`'s action for a frame that is sent back.
const XDP_TX: u32 = 3;
/// How long a change may take to be seen before it counts as lost.
const LOST: Duration = Duration::from_secs(5);
/// How often the one who changes looks whether it was seen.
const POLL: Duration = Duration::from_micros(50);
/// Time between changes that are seen one after the other, at least.
const PAUSE: Duration = Duration::from_micros(200);

/// A network whose targets go through some states, again and again.
pub(crate) struct Storm {
    states: Vec<Vec<TargetState>>,
    probes: Vec<Probe>,
    compiled: Compiled,
}

/// How changes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each when the one before was seen on both paths.
    Seen,
    /// Each at once.
    AtOnce,
}

/// What was seen of a run of changes.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How long it took to publish each. Whoever asks later gets the new answer, or it is among the wrong ones.
    pub(crate) publishing: Vec<Duration>,
    /// From the beginning of each to the first answer of it: by the kernel, then by the slow path. For [`Pace::Seen`].
    /// Where there are fewer idle cores than paths, the time in which nobody asks is in it.
    pub(crate) latencies: [Vec<Duration>; 2],
    /// Answers that were looked at: of the kernel, then of the slow path.
    pub(crate) answers: [u64; 2],
    /// Answers of no state that held while they were made.
    pub(crate) wrong: Vec<String>,
    /// Changes that waited for a free record.
    pub(crate) waits: u64,
}

impl Storm {
    /// A storm over `states`, in which each of the queries changes its answer from every state to the next. Of `queries`,
    /// those are taken for which this is so.
    ///
    /// # Errors
    /// If the network is refused, or fewer than eight of the queries can be used.
    pub(crate) fn new(
        network: Network,
        states: Vec<Vec<TargetState>>,
        queries: impl IntoIterator<Item = (Flow, Vec<u8>)>,
    ) -> Result<Self> {
        let compile_in = |states: &Vec<TargetState>| {
            let mut slots = CounterSlots::new(1 << 20, 1 << 16, 1 << 16);
            compile(&network, states, 1, &mut slots).map_err(|refusals| anyhow::anyhow!("{refusals:?}"))
        };
        let mut probes: Vec<Probe> =
            queries.into_iter().map(|(flow, payload)| Probe::new(flow, payload)).collect();
        let mut first = None;
        for states in &states {
            let compiled = compile_in(states)?;
            // The fast path has to answer, and with that what it says is what the slow path says.
            probes.retain_mut(|probe| {
                let fast = slow::respond::<_, false>(&compiled.image, &probe.flow, &probe.payload);
                let reply = fast.filter(|outcome| outcome.action == Action::Reply);
                reply.map(|outcome| probe.answers.push(outcome.message)).is_some()
            });
            first.get_or_insert(compiled);
        }
        probes.retain(Probe::tells_states_apart);
        ensure!(probes.len() >= 8, "only {} queries change their answers with every change", probes.len());
        let compiled = first.context("no states")?;
        Ok(Self { states, probes, compiled })
    }

    /// Publishes the first state, and follows `changes` of them.
    ///
    /// # Errors
    /// If something fails, or a change is not seen at all.
    pub(crate) fn run(&self, pins: &Path, changes: u64, pace: Pace) -> Result<Report> {
        let mut dataplane = BpfDataplane::new(pins, Vec::new(), Vec::new(), None)?;
        let tables = dataplane.publish(&self.compiled.image)?;
        let mut live = Live::new(&self.compiled, &tables)?;
        let (progress, start) = (Progress::default(), Instant::now());
        let mut report = thread::scope(|scope| {
            let fast = scope.spawn(|| {
                progress.ask(0, start, &self.probes, |probe| {
                    let run = dataplane.test_run(&probe.frame)?.context("no program")?;
                    ensure!(run.action == XDP_TX, "action {}", run.action);
                    Ok(Datagram::read(&run.frame).context("no datagram")?.payload)
                })
            });
            let slow = scope.spawn(|| {
                progress.ask(1, start, &self.probes, |probe| {
                    let outcome = slow::answer(&tables.read(), &probe.flow, &probe.payload);
                    Ok(outcome.context("not for the box")?.message)
                })
            });
            let changed = self.change(&progress, &mut live, &tables, changes, pace, start);
            progress.end();
            let mut report = changed?;
            for (side, asked) in [fast, slow].into_iter().enumerate() {
                let (answers, wrong) = asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                report.answers[side] = answers;
                report.wrong.extend(wrong);
            }
            anyhow::Ok(report)
        })?;
        report.waits = live.waits();
        Ok(report)
    }

    /// Publishes change after change.
    fn change(
        &self,
        progress: &Progress,
        live: &mut Live,
        tables: &Arc<LiveTables>,
        changes: u64,
        pace: Pace,
        start: Instant,
    ) -> Result<Report> {
        let mut report = Report::default();
        for number in 1..=changes {
            let [before, after] = [number - 1, number].map(|number| self.states_of(number));
            let changed: Vec<usize> =
                (0..after.len()).filter(|target| before[*target] != after[*target]).collect();
            progress.begin(number);
            let began = Instant::now();
            live.follow(&self.compiled, tables, &changed, after)?;
            report.publishing.push(began.elapsed());
            progress.publish(number);
            if pace == Pace::AtOnce {
                continue;
            }
            // Thousands a second, and not as many as observers can see.
            thread::sleep(PAUSE);
            for (side, latencies) in progress.sides.iter().zip(&mut report.latencies) {
                while side.seen.load(Ordering::Acquire) < number {
                    ensure!(began.elapsed() < LOST, "change {number} reached no packet");
                    thread::sleep(POLL);
                }
                let seen = start + Duration::from_nanos(side.seen_at.load(Ordering::Acquire));
                latencies.push(seen.saturating_duration_since(began));
            }
        }
        Ok(report)
    }

    fn states_of(&self, number: u64) -> &[TargetState] {
        &self.states[number as usize % self.states.len()]
    }
}
