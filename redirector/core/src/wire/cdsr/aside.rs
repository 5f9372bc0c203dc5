//! What few requests need, for programs that have it in functions of their own ([`Aside`]): results are numbers.

use super::find::scan_host;
use super::{Step, Stop, Work, before_servers};
use crate::lookup::MAX_LABELS;
use crate::table::Tables;
use crate::verdict::{Reason, Verdict};
#[cfg(doc)]
use crate::wire::Aside;
use crate::wire::{Message, Scratch};

/// From [`Aside::Host`]: more labels than the fast path takes. What else is no number of labels is an error.
const LONG: u64 = 1 << 32;
const BAD: u64 = LONG + 1;

/// [`Aside::Host`].
#[inline(always)]
pub(in crate::wire) fn scan<M: Message, T: Tables>(message: &M, tables: &T, scratch: &mut Scratch) -> u64 {
    let Some(meta) = tables.meta() else { return BAD };
    let Scratch { labels, cdsr: Work { place, located, .. }, .. } = scratch;
    match scan_host::<M, false>(message, &meta.keys, place.host, located.end, labels) {
        Ok(count) => count as u64,
        Err(Stop { punt: Reason::PuntLabels, .. }) => LONG,
        Err(_) => BAD,
    }
}

/// Labels, from [`Aside::Host`].
#[inline(always)]
pub(super) fn count(number: u64) -> Step<usize> {
    match number {
        LONG => Err(Stop::LONG),
        count if count > MAX_LABELS as u64 => Err(Stop::BAD),
        count => Ok(count as usize),
    }
}

/// From [`Aside::Outcome`]: the reason to punt is not the verdict's but one of these.
const PROOF: u64 = 1 << 32;
const CHOICE: u64 = PROOF + 1;
const TABLE: u64 = PROOF + 2;
const VERDICT: u64 = PROOF + 3;

/// [`Aside::Outcome`]: what [`before_servers`] gives, as a number.
#[inline(always)]
pub(in crate::wire) fn outcome<T: Tables>(tables: &T, scratch: &mut Scratch) -> u64 {
    let Scratch { query, verdict, trace, cdsr: work, .. } = scratch;
    let Some(service) = tables.service(work.located.service) else { return TABLE };
    match before_servers::<T, false>(service, tables, query, verdict, trace, work) {
        Ok(number) => number as u64,
        Err(Stop { punt: Reason::PuntProof, .. }) => PROOF,
        Err(Stop { punt: Reason::PuntTable, .. }) => TABLE,
        Err(Stop { punt, .. }) if punt != verdict.reason => CHOICE,
        Err(_) => VERDICT,
    }
}

/// From [`Aside::Outcome`]: the service, or why there is none.
#[inline(always)]
pub(super) fn step(number: u64, verdict: &Verdict) -> Step<u32> {
    match number {
        PROOF => Err(Stop::PROOF),
        CHOICE => Err(Stop::CHOICE),
        TABLE => Err(Stop::TABLE),
        VERDICT => Err(Stop { reason: verdict.reason, punt: verdict.reason, status: None }),
        number => Ok(number as u32),
    }
}
