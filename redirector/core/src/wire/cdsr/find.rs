//! The rule that holds for a URL: host, suffix, path.

use super::{
    FAST_HOST_WORDS, FAST_PATH_WORDS, FULL_WORDS, Located, SCOPE_HOST, SCOPE_PREFIX, SCOPE_URL, Step, Stop,
    UrlPlace, aside, slow,
};
use crate::hash::{Keys, Slot};
use crate::lookup::{self, FAST_LABELS, Labels, MAX_LABELS, Search};
use crate::table::{CHOOSE_CONTENT, MAX_PATH_SEGMENTS, NONE, NameEntry, SPACE_URL, Tables, VipEntry};
use crate::tail::MAX_TAIL;
use crate::verifier::{less, phase};
use crate::wire::{Aside, Message, text};

/// Finds the rule for a URL that lies in a message, without a working room.
pub fn locate<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    place: &UrlPlace,
    vip: &VipEntry,
    tables: &T,
    labels: &mut Labels,
    located: &mut Located,
) -> Step<()> {
    find_url::<M, T, FULL>(message, place, vip, tables, labels, &mut Search::default(), located)
}

#[inline(always)]
pub(super) fn find_url<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    place: &UrlPlace,
    vip: &VipEntry,
    tables: &T,
    labels: &mut Labels,
    search: &mut Search,
    located: &mut Located,
) -> Step<()> {
    let keys = tables.meta().ok_or(Stop::TABLE)?.keys;
    let space = SPACE_URL + place.scheme;
    find_zone::<M, T, FULL>(message, &keys, place, vip, tables, labels, located)?;
    phase();
    let zone = tables.zone(located.zone).ok_or(Stop::TABLE)?;
    search.begin(located.codepoint, space, located.zone);
    lookup::find_rule(message, tables, labels, zone, search);
    (located.host.fingerprint, located.host.value) = (search.best.fingerprint, search.best.value);
    (located.host.order, located.host.flags) = (search.best.order, search.best.flags);
    phase();
    if located.host.fingerprint == 0 {
        return if FULL {
            slow::ill_formed(zone, message, place, tables, located)
        } else {
            Err(Stop::NOT_MINE)
        };
    }
    let paths = located.host.flags >> 1 != 0;
    located.segments =
        if paths { scan_path::<M, FULL>(message, &keys, place, deepest(&located.host), labels)? } else { 0 };
    phase();
    let (service, depth) = lookup::path(tables, labels, located.segments, &located.host);
    if service == NONE {
        return if FULL {
            slow::ill_formed(zone, message, place, tables, located)
        } else {
            Err(Stop::NOT_MINE)
        };
    }
    located.service = service;
    located.content = 0;
    (located.scope, located.prefix) = if !paths { (SCOPE_HOST, 0) } else { (SCOPE_URL, 0) };
    let end = labels.segment_ends[depth.wrapping_sub(1) & (MAX_PATH_SEGMENTS - 1)] as usize;
    // A deeper rule would hold for some of the URLs with this prefix; and `/live` is no prefix that tells it from
    // `/lively`.
    if depth > 0 && end > 0 && located.host.flags >> (depth + 1) == 0 {
        (located.scope, located.prefix) = (SCOPE_PREFIX, end.wrapping_sub(place.start) as u32 & 0xffff);
    }
    phase();
    if tables.service(located.service).ok_or(Stop::TABLE)?.choose_by == CHOOSE_CONTENT {
        (located.scope, located.prefix) = (SCOPE_URL, 0);
        located.content = content::<M, FULL>(message, &keys, place)?;
    }
    Ok(())
}

/// Finds the suffix that the host ends in, and the labels before it.
#[inline(always)]
fn find_zone<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    keys: &Keys,
    place: &UrlPlace,
    vip: &VipEntry,
    tables: &T,
    labels: &mut Labels,
    located: &mut Located,
) -> Step<()> {
    let tail = &tables.vip_info(vip.vip as u32).ok_or(Stop::TABLE)?.hosts;
    let mut end = place.host_end;
    let before = end.wrapping_sub(tail.length as usize);
    located.zone = NONE;
    if !FULL
        && let Some(bytes) = message.block::<MAX_TAIL>(end.wrapping_sub(MAX_TAIL))
        && tail.ends(bytes)
        && before > place.host
    {
        located.zone = tail.zones[place.scheme as usize & 3];
    }
    if located.zone != NONE {
        (located.suffix, end) = (tail.length as u32 - 1, before);
    }
    located.codepoint = 0;
    if located.zone != NONE
        && let Some(count) =
            text::short_host::<M, FAST_LABELS>(message, keys, place.host, end, |index, at, hash| {
                labels.hashes[index] = hash;
                labels.offsets[index] = at as u16;
            })
    {
        located.codepoint = count;
    }
    phase();
    if located.codepoint == 0 {
        located.end = end;
        located.codepoint = if M::ASIDE {
            aside::count(message.aside(Aside::Host))?
        } else {
            scan_host::<M, FULL>(message, keys, place.host, end, labels)?
        };
    }
    phase();
    if located.zone != NONE {
        return Ok(());
    }
    let (space, count) = (SPACE_URL + place.scheme, located.codepoint);
    located.zone = if FULL {
        lookup::suffix::<T, MAX_LABELS>(tables, labels, count, space, vip.cdn, vip.url_depths)
    } else {
        lookup::suffix::<T, FAST_LABELS>(tables, labels, count, space, vip.cdn, vip.url_depths)
    };
    if located.zone == NONE {
        return Err(Stop::NOT_MINE);
    }
    let zone = tables.zone(located.zone).ok_or(Stop::TABLE)?;
    located.codepoint = count - (zone.suffix_labels as usize).min(count);
    let suffix_at = labels.offsets[located.codepoint & (MAX_LABELS - 1)] as usize;
    located.suffix = place.host_end.wrapping_sub(suffix_at) as u32 & 0xff;
    Ok(())
}

/// Hashes the labels of a host, or of its part before the suffix.
#[inline(always)]
pub(super) fn scan_host<M: Message, const FULL: bool>(
    message: &M,
    keys: &Keys,
    start: usize,
    end: usize,
    labels: &mut Labels,
) -> Step<usize> {
    let limit = if FULL { MAX_LABELS } else { FAST_LABELS };
    let cut = text::Cut { start, end, limit };
    let note = |index: usize, at: usize, hash: u64| {
        labels.hashes[index & (MAX_LABELS - 1)] = hash;
        labels.offsets[index & (MAX_LABELS - 1)] = at as u16;
    };
    let scan = if FULL {
        text::host::<M, FULL_WORDS>(message, keys, cut, note)
    } else {
        text::host::<M, FAST_HOST_WORDS>(message, keys, cut, note)
    };
    match scan {
        None => Err(Stop::BAD),
        Some(scan) if scan.bad => Err(Stop::BAD),
        Some(scan) if scan.more => Err(Stop::LONG),
        Some(scan) => Ok(scan.count),
    }
}

/// Most segments of a path that a rule of this host looks at; it has one for paths.
#[inline(always)]
fn deepest(host: &NameEntry) -> usize {
    const { assert!(MAX_PATH_SEGMENTS == 4) };
    let depths = host.flags as u64;
    1 + (less(3, depths) + less(7, depths) + less(15, depths)) as usize
}

/// Leading path segments, at most `limit`.
#[inline(always)]
fn scan_path<M: Message, const FULL: bool>(
    message: &M,
    keys: &Keys,
    place: &UrlPlace,
    limit: usize,
    labels: &mut Labels,
) -> Step<usize> {
    let Some(slash) = path_start::<M, FULL>(message, place)? else { return Ok(0) };
    let cut = text::Cut { start: slash + 1, end: place.end, limit };
    let note = |index: usize, end: usize, hash: u64| {
        labels.segments[index & (MAX_PATH_SEGMENTS - 1)] = hash;
        labels.segment_ends[index & (MAX_PATH_SEGMENTS - 1)] = end as u16;
    };
    let scan = if FULL {
        text::path::<M, FULL_WORDS>(message, keys, cut, note)
    } else {
        text::path::<M, FAST_PATH_WORDS>(message, keys, cut, note)
    };
    match scan {
        None => Err(Stop::BAD),
        Some(scan) if scan.more => Err(Stop::LONG),
        Some(scan) => Ok(scan.count),
    }
}

/// The slash that begins the path, behind an optional port; `None`: no path.
#[inline(always)]
fn path_start<M: Message, const FULL: bool>(message: &M, place: &UrlPlace) -> Step<Option<usize>> {
    let mut at = place.host_end;
    for _ in 0..if FULL { 8 } else { 1 } {
        if at == place.end {
            return Ok(None);
        }
        match message.load::<u8>(at).ok_or(Stop::BAD)? {
            b'/' => return Ok(Some(at)),
            b'?' | b'#' => return Ok(None),
            b':' | b'0'..=b'9' => at += 1,
            _ => return Err(Stop::BAD),
        }
    }
    // In the fast path: a port stands before the path.
    Err(Stop::BAD)
}

/// Key of host and everything behind it, for services that choose by content.
#[inline(always)]
pub(super) fn content<M: Message, const FULL: bool>(message: &M, keys: &Keys, place: &UrlPlace) -> Step<u64> {
    let UrlPlace { host, host_end, end, .. } = *place;
    let (host, rest) = if FULL {
        (
            text::all::<M, FULL_WORDS, true>(message, keys, host, host_end),
            text::all::<M, FULL_WORDS, false>(message, keys, host_end, end),
        )
    } else {
        (
            text::all::<M, FAST_HOST_WORDS, true>(message, keys, host, host_end),
            text::all::<M, FAST_PATH_WORDS, false>(message, keys, host_end, end),
        )
    };
    let slot = Slot::start(keys, SPACE_URL, 0).push(keys, host.ok_or(Stop::LONG)?);
    Ok(slot.push(keys, rest.ok_or(Stop::LONG)?).find)
}
