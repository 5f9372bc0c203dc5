//! What the tiers of a group leave to those behind them: while the targets of one take less than all of its clients, a
//! growing part goes on to the next (P-12; ADR 21).
//!
//! A client whose target gives it up chooses once more in the same tier; whom the second gives up, too, goes on. So one
//! loaded target among many burdens its neighbours, and a tier whose targets are all loaded the tier behind it.

use super::{GroupSpec, Share, TierSpec, share};
use crate::model::TargetState;
use redirector_core::table::{SHARE_ENTRIES, SPILL, ShareRecord};

/// All clients of a group; a part of it that is not none is never less than 1.
pub(super) const WHOLE: u128 = 1 << 32;

/// Targets that are used together, in the order of use: a tier, or those of it that are in reach.
pub(super) struct Stage<'s> {
    pub(super) tier: &'s TierSpec,
    pub(super) shares: Vec<Share>,
    /// The part of its clients, of [`WHOLE`], that its targets take by the tier's terms.
    open: u128,
}

impl<'s> Stage<'s> {
    fn new(tier: &'s TierSpec, shares: Vec<Share>, terms: Option<u8>, states: &[TargetState]) -> Self {
        let (mut taken, mut all) = (0, 0);
        let Some(terms) = terms else { return Self { tier, shares, open: WHOLE } };
        for (member, place) in tier.members.iter().zip(&shares) {
            let Some(state) = states.get(member.target as usize) else { continue };
            // What checks, operators and distance say moves nobody to another tier while somebody is left in this one.
            let full = u128::from(member.weight) * u128::from(state.factor.min(256));
            let waits = place.down && state.factor_by(Some(terms)) > 0;
            if state.up && !waits {
                taken += full * u128::from(state.open[terms as usize % state.open.len()].min(256));
                all += full * 256;
            }
        }
        let open = (taken * WHOLE).checked_div(all).unwrap_or(WHOLE);
        Self { tier, shares, open }
    }
}

/// The stages of a group that have a usable target, in the order of use.
pub(super) fn stages<'s>(spec: &'s GroupSpec, states: &[TargetState]) -> Vec<Stage<'s>> {
    let mut found = Vec::new();
    for tier in &spec.tiers {
        let terms = spec.terms_in_use(tier, states);
        for shares in tier.rounds(states, terms) {
            found.push(Stage::new(tier, shares, terms, states));
        }
    }
    found
}

/// The part of the group's clients, of [`WHOLE`], that each stage gets; the last takes whom the others leave.
pub(super) fn parts(stages: &[Stage<'_>]) -> Vec<u128> {
    let mut left = WHOLE;
    let mut parts = Vec::with_capacity(stages.len());
    for (place, stage) in stages.iter().enumerate() {
        let closed = WHOLE - stage.open;
        let on = if place + 1 < stages.len() { left * closed / WHOLE * closed / WHOLE } else { 0 };
        parts.push(left - on);
        left = on;
    }
    parts
}

impl GroupSpec {
    /// By number of a tier: the part of the group's clients that its targets get, 0 to 1; tiers that get none are missing.
    pub fn portions(&self, states: &[TargetState]) -> Vec<(u8, f64)> {
        let stages = stages(self, states);
        let mut portions: Vec<(u8, f64)> = Vec::new();
        for (stage, part) in stages.iter().zip(parts(&stages)).filter(|(_, part)| *part > 0) {
            let part = part as f64 / WHOLE as f64;
            match portions.last_mut().filter(|(number, _)| *number == stage.tier.number) {
                Some((_, held)) => *held += part,
                None => portions.push((stage.tier.number, part)),
            }
        }
        portions
    }

    /// Whether a tier can ever leave clients to another stage.
    pub(super) fn can_spill(&self) -> bool {
        let bounded = |tier: &TierSpec| tier.terms.is_some();
        self.tiers.iter().any(bounded) && (self.tiers.len() > 1 || self.tiers[0].within.is_some())
    }

    /// The number of the terms by which targets of a tier are judged now. A loaded server is better than none: where
    /// nobody is left behind a tier, its targets are used whatever their load is, unless the operator says otherwise.
    pub fn terms_in_use(&self, tier: &TierSpec, states: &[TargetState]) -> Option<u8> {
        let any = |tier: &TierSpec, terms| tier.members.iter().any(|one| !share(one, states, terms).down);
        let last = || self.tiers.iter().rfind(|tier| any(tier, None)).map(|last| last.number);
        let forgive = !tier.strict && !any(tier, tier.terms) && last() == Some(tier.number);
        tier.terms.filter(|_| !forgive)
    }
}

/// Where each stage stands: an entry, and the split at which clients leave it for those behind it. So a part that grows
/// takes clients from the stages before it, and moves nobody between these.
const PLACES: [(usize, Option<usize>); 4] = [(0, Some(1)), (4, Some(3)), (6, Some(7)), (7, None)];

/// The record that clients begin at while stages leave `parts` to each other, for the stages' roots.
pub(super) fn root(block: &[ShareRecord], roots: &[usize], parts: &[u128]) -> ShareRecord {
    let mut stages: Vec<(usize, u128)> =
        roots.iter().copied().zip(parts.iter().copied()).filter(|(_, part)| *part > 0).collect();
    // More stages than places: the last ones wait until those before them are closed.
    let rest: u128 = stages.iter().skip(PLACES.len()).map(|(_, part)| part).sum();
    stages.truncate(PLACES.len());
    if let Some(last) = stages.last_mut() {
        last.1 += rest;
    }
    let ShareRecord { tier, ttl, .. } = block[roots[0]];
    let mut record =
        ShareRecord { tier, ttl, next: roots[0] as u32, branch: SPILL, used: u8::MAX, ..Default::default() };
    // All that come to an entry stay there; those of nobody's are the last stage's.
    record.thresholds = [0xffff; SHARE_ENTRIES];
    let mut left = WHOLE;
    for (number, (root, part)) in stages.iter().enumerate() {
        let (entry, split) = PLACES[number];
        record.refs[entry..].fill(*root as u16);
        let goes_on = number + 1 < stages.len();
        if let Some(split) = split {
            // A stage that is the last takes both sides, wherever the split is.
            let stays = if goes_on { ((part << 16) / left).clamp(1, 0xffff) as u32 } else { 0 };
            record.thresholds[split] |= stays << 16;
        }
        left -= (*part).min(left - 1);
    }
    record
}
