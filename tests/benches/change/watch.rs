//! Those who ask without a pause while somebody changes what is answered, and see to it that every answer is one of what
//! held while it was made.

use anyhow::Result;
use redirector_tests::frames::Flow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Wrong answers that are described.
const DESCRIBED: usize = 5;

/// A query, and its answer in each state.
pub(crate) struct Probe {
    pub(crate) flow: Flow,
    pub(crate) payload: Vec<u8>,
    pub(crate) frame: Vec<u8>,
    pub(crate) answers: Vec<Vec<u8>>,
}

impl Probe {
    /// A query whose answers are not known yet.
    pub(crate) fn new(flow: Flow, payload: Vec<u8>) -> Self {
        Self { frame: flow.frame(&payload), flow, payload, answers: Vec::new() }
    }

    /// Whether its answer is another one in every state than in the one before.
    pub(crate) fn tells_states_apart(&self) -> bool {
        let next = self.answers.iter().cycle().skip(1);
        self.answers.iter().zip(next).all(|(answer, next)| answer != next)
    }

    /// The answer after that many changes.
    fn after(&self, changes: u64) -> &[u8] {
        &self.answers[changes as usize % self.answers.len()]
    }
}

/// What those who change and those who ask know of each other.
#[derive(Default)]
pub(crate) struct Progress {
    /// Number of the last change that has begun, and of the last that is published.
    begun: AtomicU64,
    published: AtomicU64,
    ended: AtomicBool,
    pub(crate) sides: [Side; 2],
}

/// One who asks.
#[derive(Default)]
pub(crate) struct Side {
    /// Latest change of which an answer was seen, and when that was: nanoseconds since the start.
    pub(crate) seen: AtomicU64,
    pub(crate) seen_at: AtomicU64,
}

impl Progress {
    pub(crate) fn begin(&self, number: u64) {
        self.begun.store(number, Ordering::Release);
    }

    pub(crate) fn publish(&self, number: u64) {
        self.published.store(number, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// For whoever is about to ask: the earliest change that may be answered.
    pub(crate) fn earliest(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// For whoever has asked: the change that an answer is of; what is wrong if it is of none that held since `earliest`.
    pub(crate) fn judge(&self, probe: &Probe, earliest: u64, answer: &[u8]) -> Result<u64, String> {
        let latest = self.begun.load(Ordering::Acquire);
        let found = (earliest..=latest).rev().find(|number| probe.after(*number) == answer);
        found.ok_or_else(|| {
            let (flow, after) = (&probe.flow, probe.after(latest));
            format!("{flow:?} between changes {earliest} and {latest}: {answer:02x?}, and not {after:02x?}")
        })
    }

    /// Asks one path until the changes end. Gives the number of answers, and what was wrong with some.
    pub(crate) fn ask(
        &self,
        side: usize,
        start: Instant,
        probes: &[Probe],
        mut answer: impl FnMut(&Probe) -> Result<Vec<u8>>,
    ) -> (u64, Vec<String>) {
        let (mut answers, mut wrong) = (0, Vec::new());
        let side = &self.sides[side];
        for probe in probes.iter().cycle() {
            if self.has_ended() || wrong.len() >= DESCRIBED {
                break;
            }
            let earliest = self.earliest();
            let answered = answer(probe);
            let now = start.elapsed();
            answers += 1;
            let judged = answered.map_err(|error| format!("{error:#}"));
            match judged.and_then(|answer| self.judge(probe, earliest, &answer)) {
                Ok(number) if number > side.seen.load(Ordering::Relaxed) => {
                    side.seen_at.store(now.as_nanos() as u64, Ordering::Release);
                    side.seen.store(number, Ordering::Release);
                }
                Ok(_) => {}
                Err(fault) => wrong.push(fault),
            }
        }
        (answers, wrong)
    }
}
