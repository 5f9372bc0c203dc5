//! The sites of a service in order of preference, for clients that choose among them (M-8).
//!
//! The order is that of the tiers: the first that has somebody usable is best, each further one a contender, and what
//! stands in one tier is equally good. Several servers of a site count once.

use crate::decide::{Query, choice_key, enter_tier, region, stand, usable};
use crate::table::{GroupPointer, NO_SITE, NONE, SHARE_ENTRIES, SHARE_LEVELS, Service, ShareRecord, Tables};
use crate::verdict::{Reason, Verdict};
use crate::verifier::phase;

/// Most sites of one answer.
pub const MAX_SITES: usize = 4;
/// Tiers that the fast path looks at; longer chains are punted if they are needed.
const FAST_TIERS: usize = 4;
/// Tiers that there can be.
const MAX_TIERS: usize = 256;

/// Sites, best first. Their targets stand at the same places in the verdict.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Ranking {
    /// Numbers of sites.
    pub sites: [u16; MAX_SITES],
    /// Rank of each, 1 first; equals share one.
    pub ranks: [u16; MAX_SITES],
    /// Rank that sites get now.
    rank: u32,
}

/// Ranks sites for a client. `None`: the tables contradict themselves. What the fast path cannot do comes back as
/// [`Reason::PuntChoice`].
#[inline(always)]
pub fn rank<T: Tables, const FULL: bool>(
    query: &Query,
    service: &Service,
    tables: &T,
    verdict: &mut Verdict,
    ranking: &mut Ranking,
) -> Option<()> {
    verdict.begin(service.ttl);
    let meta = tables.meta()?;
    verdict.region = if FULL { region(&query.client, tables)? } else { query.region };
    let row = service.coverage.wrapping_mul(2).wrapping_add(query.family & 1);
    let cell = row.wrapping_mul(meta.regions).wrapping_add(verdict.region);
    let mut group = tables.cell(cell)?;
    let mut pointer = if group == NONE { GroupPointer::new(NONE, 0) } else { tables.group(group)? };
    if pointer.record() == NONE && service.fallback[query.family as usize & 1] != NONE {
        group = service.fallback[query.family as usize & 1];
        pointer = tables.group(group)?;
    }
    (verdict.group, verdict.epoch) = (group, pointer.epoch());
    verdict.reason = Reason::NothingUsable;
    if pointer.record() == NONE {
        return Some(());
    }
    let hash = choice_key(query, service, &meta.keys);
    ranking.rank = 0;
    let mut next = pointer.record();
    enter_tier(tables.record(next)?, service, hash, verdict);
    for tier in 0..if FULL { MAX_TIERS } else { FAST_TIERS + 1 } {
        phase();
        if next == NONE || verdict.count >= query.want {
            return Some(());
        }
        let record = tables.record(next)?;
        if !FULL && (record.branch != 0 || tier == FAST_TIERS) {
            verdict.reason = Reason::PuntChoice;
            return Some(());
        }
        ranking.rank += 1;
        let before = verdict.count;
        if FULL {
            add_tree(record, query.want, tables, verdict, ranking, 1)?;
        } else {
            add_leaf(record, query.want, tables, verdict, ranking)?;
        }
        if verdict.count == before {
            ranking.rank -= 1;
        }
        next = record.next;
    }
    Some(())
}

/// The sites of a branch's leaves. Slow path only.
fn add_tree<T: Tables>(
    record: &ShareRecord,
    want: u32,
    tables: &T,
    verdict: &mut Verdict,
    ranking: &mut Ranking,
    level: usize,
) -> Option<()> {
    if record.branch == 0 {
        return add_leaf(record, want, tables, verdict, ranking);
    }
    for entry in (0..SHARE_ENTRIES).filter(|entry| usable(record) >> entry & 1 == 1) {
        let child = tables.record(record.base.wrapping_add(record.refs[entry] as u32))?;
        if level < SHARE_LEVELS {
            add_tree(child, want, tables, verdict, ranking, level + 1)?;
        }
    }
    Some(())
}

/// The sites of a leaf's usable targets that are not in the list. Clients begin where their hash leads, so that a tier
/// of more sites than an answer has shares its clients among them.
#[inline(always)]
fn add_leaf<T: Tables>(
    record: &ShareRecord,
    want: u32,
    tables: &T,
    verdict: &mut Verdict,
    ranking: &mut Ranking,
) -> Option<()> {
    stand(record, &mut verdict.pick);
    for turn in 0..SHARE_ENTRIES as u32 {
        phase();
        if verdict.count >= want {
            break;
        }
        let entry = verdict.pick.entry.wrapping_add(turn) as usize & (SHARE_ENTRIES - 1);
        if usable(record) >> entry & 1 == 0 {
            continue;
        }
        let number = record.refs[entry] as u32;
        let site = tables.target(number)?.site;
        let mut known = site == NO_SITE;
        for (place, held) in ranking.sites.iter().enumerate() {
            known |= (place as u32) < verdict.count && *held == site;
        }
        if known {
            continue;
        }
        let place = verdict.count as usize & (MAX_SITES - 1);
        (ranking.sites[place], ranking.ranks[place]) = (site, ranking.rank as u16);
        verdict.targets[place] = number;
        verdict.count += 1;
    }
    Some(())
}
