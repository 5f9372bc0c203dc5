//! What was answered is counted, and told to those who want to hear of it: every answer of the slow path comes by
//! [`note`], once.

use super::Shared;
use crate::dataplane::Reading;
use crate::journal::{Asked, Chosen, Decision, PathTaken, Spoken, now};
use redirector_core::verdict::{MAX_ENDPOINTS, Verdict};
use redirector_core::wire::Trace;
use std::net::{IpAddr, SocketAddr};

/// What was decided.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decided {
    /// Why, for what, and for whom.
    pub(super) trace: Trace,
    /// Load epoch of the share group.
    pub(super) epoch: u32,
    count: usize,
    targets: [u32; MAX_ENDPOINTS],
}

impl Decided {
    /// The verdict holds if a choice was made.
    pub(super) fn of(trace: Trace, verdict: &Verdict) -> Self {
        let mut decided = Self { trace, epoch: 0, count: 0, targets: [0; MAX_ENDPOINTS] };
        if trace.decided {
            decided.epoch = verdict.epoch;
            (decided.targets, decided.count) = (verdict.targets, (verdict.count as usize).min(MAX_ENDPOINTS));
        }
        decided
    }

    /// Without a choice.
    pub(super) fn about(trace: Trace) -> Self {
        Self { trace, ..Self::default() }
    }

    /// Notes whom the client is sent to, best first.
    pub(super) fn chose(&mut self, targets: impl IntoIterator<Item = u32>) {
        self.count = 0;
        for (place, target) in self.targets.iter_mut().zip(targets) {
            *place = target;
            self.count += 1;
        }
        if self.count > 0 {
            self.trace.target = self.targets[0];
        }
    }
}

/// Counts an answer that was decided with `tables`. `telling` is given if others want to hear of it: how many it stands
/// for, how it was asked by whom and of which VIP address, and what for.
pub(super) fn note(
    shared: &Shared,
    generation: u64,
    tables: &Reading<'_>,
    decided: &Decided,
    telling: Option<(u32, (Spoken, SocketAddr, IpAddr), Asked)>,
) {
    shared.counters.count(&decided.trace, tables);
    let Some((one_in, (spoken, client, vip), asked)) = telling else { return };
    shared.hub.tell(Decision {
        time: now(),
        generation,
        epoch: decided.epoch,
        one_in,
        path: PathTaken::Slow,
        spoken,
        reason: decided.trace.reason,
        client,
        vip,
        asked,
        chosen: Chosen::of(&decided.trace, &decided.targets[..decided.count], tables),
    });
}
