//! Shares to records of one cache line, and trees of them.
//!
//! A hash chooses one of two sides, again and again, until one target is left; each side has its part by what is
//! configured, and so a change of one target's share shifts a part of a few splits and no boundary between others. A
//! target stands where its name puts it, so that one more or less leaves most of the others where they are. A load
//! factor changes no split, only what a target keeps of the hashes that come to it: what it sheds moves, and nobody
//! else. What rounding takes from splits, which are 16 bits, the kept parts give back (P-11, P-12).

use redirector_core::hash::splitmix;
use redirector_core::table::{SHARE_ENTRIES, ShareRecord};
use std::cmp::Reverse;

/// All of a split, and all that a target can keep.
const WHOLE: f64 = 65536.0;
/// Targets of a leaf beneath a branch, at least: so many servers the fast path answers with.
const LEAST: usize = 4;

/// A target's place in a tier.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// Number of the target.
    pub name: u16,
    /// See [`spot`].
    pub spot: u32,
    /// Configured, relative to the others; not 0.
    pub weight: u128,
    /// Of its weight, 1/256: 1 to 256.
    pub factor: u16,
    /// Takes no clients, but keeps its place.
    pub down: bool,
}

/// Where among others a target with this name likes to stand: the bits say on which side, from the uppermost on.
pub(super) fn spot(name: &str) -> u32 {
    (name.bytes().fold(0, |hash, byte| splitmix(hash ^ u64::from(byte))) >> 32) as u32
}

/// A target in its place, and what comes to it.
#[derive(Clone, Copy)]
struct Leaf {
    share: Share,
    weight: f64,
    /// The part of all hashes that is led to it.
    room: f64,
    /// Of these it keeps so many 2^-16: 1 to 2^16.
    keep: f64,
}

/// Targets of a record or tree by place.
type Places = [Option<Leaf>];

/// Writes the record at `at` for `shares`, of which there is at least one, and those beneath it at the block's end.
pub(super) fn fill(block: &mut Vec<ShareRecord>, at: usize, shares: &[Share], blank: ShareRecord) {
    let mut places = places(shares);
    lead(&mut places, 1.0);
    keep(&mut places);
    write(block, at, &places, 1.0, blank);
}

/// Records of a tree of so many targets.
pub(super) fn size(targets: usize) -> usize {
    match room(targets) / SHARE_ENTRIES {
        1 => 1,
        leaves if leaves <= SHARE_ENTRIES => 1 + leaves,
        leaves => 1 + SHARE_ENTRIES + leaves,
    }
}

/// Places for so many targets: twice as many when they are full, so that splits above stay as they are.
fn room(targets: usize) -> usize {
    targets.next_power_of_two().max(SHARE_ENTRIES)
}

/// The entries of a record, and the places behind each: a place each, if it is a leaf. Entries of a branch with fewer than
/// eight children are as far apart as can be, so that the last splits lead all to the left.
fn entries<T>(places: &[T]) -> impl Iterator<Item = (usize, &[T])> {
    let children = if places.len() == SHARE_ENTRIES {
        SHARE_ENTRIES
    } else {
        (places.len() / SHARE_ENTRIES).min(SHARE_ENTRIES)
    };
    let parts = places.chunks(places.len() / children);
    parts.enumerate().map(move |(child, part)| (child * SHARE_ENTRIES / children, part))
}

fn places(shares: &[Share]) -> Vec<Option<Leaf>> {
    let mut places = vec![None; room(shares.len())];
    let leaf = |share: &Share| Leaf { share: *share, weight: share.weight as f64, room: 0.0, keep: WHOLE };
    settle(shares.iter().map(leaf).collect(), &mut places, 0);
    places
}

/// Puts everybody on its side, as long as there is room, and enough for each leaf to have alternatives for clients that
/// want some; who has to go to the other one is always the same.
fn settle(mut leaves: Vec<Leaf>, places: &mut Places, depth: u32) {
    if places.len() == 1 {
        places[0] = leaves.pop();
        return;
    }
    let is_left = |leaf: &Leaf| leaf.share.spot << depth & 1 << 31 == 0;
    let urge = |leaf: &Leaf| (splitmix(u64::from(leaf.share.spot) << 8 | u64::from(depth)), leaf.share.name);
    leaves.sort_unstable_by_key(|leaf| (Reverse(is_left(leaf)), urge(leaf)));
    let (left, right) = places.split_at_mut(places.len() / 2);
    let wanted = leaves.iter().filter(|leaf| is_left(leaf)).count();
    let least = |side: &Places| side.len() / SHARE_ENTRIES * LEAST;
    let most = left.len().min(leaves.len().saturating_sub(least(right)));
    let here = wanted.clamp(leaves.len().saturating_sub(right.len()).max(least(left)), most);
    if here > wanted {
        // Those who leave the right side are the last of it, as those who leave the left one are.
        leaves[wanted..].reverse();
    }
    let others = leaves.split_off(here);
    settle(leaves, left, depth + 1);
    settle(others, right, depth + 1);
}

fn weight(places: &Places) -> f64 {
    places.iter().flatten().map(|leaf| leaf.weight).sum()
}

/// The part of hashes, in 2^-16, that goes to the left one of two sides. The lesser side has no less than it should:
/// what is too much it does not keep, and the greater one will hardly miss it.
fn split(left: f64, right: f64) -> f64 {
    match (left > 0.0, right > 0.0) {
        (false, _) => 0.0,
        // All cannot be said: what is left over finds nobody and is drawn anew.
        (true, false) => WHOLE - 1.0,
        (true, true) if left < right => (WHOLE * left / (left + right)).ceil(),
        (true, true) => WHOLE - (WHOLE * right / (left + right)).ceil(),
    }
}

/// The splits of the record for these places.
fn splits(places: &Places) -> [u32; SHARE_ENTRIES] {
    // What stands behind each node; entries are the nodes from 8 on.
    let mut weights = [0.0; 2 * SHARE_ENTRIES];
    for (entry, part) in entries(places) {
        weights[SHARE_ENTRIES + entry] = weight(part);
    }
    let mut splits = [0; SHARE_ENTRIES];
    for node in (1..SHARE_ENTRIES).rev() {
        let (left, right) = (weights[2 * node], weights[2 * node + 1]);
        weights[node] = left + right;
        splits[node] = (split(left, right) as u32) << 16;
    }
    splits
}

/// The part of hashes that splits lead to an entry.
fn led(splits: &[u32; SHARE_ENTRIES], entry: usize) -> f64 {
    let way = [(1, entry >> 2), (2 + (entry >> 2), entry >> 1 & 1), (4 + (entry >> 1), entry & 1)];
    let side = |(node, is_right): (usize, usize)| {
        let left = f64::from(splits[node] >> 16) / WHOLE;
        if is_right == 1 { 1.0 - left } else { left }
    };
    way.into_iter().map(side).product()
}

/// Notes which part of the hashes that come to a record, which is `above` of all, comes to each of its places.
fn lead(places: &mut Places, above: f64) {
    let splits = splits(places);
    let parts: Vec<(usize, usize)> = entries(places).map(|(entry, part)| (entry, part.len())).collect();
    let mut rest = places;
    for (entry, length) in parts {
        let (part, others) = rest.split_at_mut(length);
        rest = others;
        let room = above * led(&splits, entry);
        match part {
            [place] => place.iter_mut().for_each(|leaf| leaf.room = room),
            _ if weight(part) > 0.0 => lead(part, room),
            _ => {}
        }
    }
}

/// All keep the same part of what is configured for them: the greatest for which everybody has room.
fn keep(places: &mut Places) {
    let rooms = places.iter().flatten().map(|leaf| leaf.room / leaf.weight);
    let least = rooms.fold(f64::INFINITY, f64::min);
    for leaf in places.iter_mut().flatten() {
        let wanted = WHOLE * least * leaf.weight / leaf.room * f64::from(leaf.share.factor) / 256.0;
        leaf.keep = wanted.round().clamp(1.0, WHOLE);
    }
}

/// Writes a record to which `above` of all hashes come, and those beneath it.
fn write(block: &mut Vec<ShareRecord>, at: usize, places: &Places, above: f64, blank: ShareRecord) {
    let splits = splits(places);
    let mut record = ShareRecord { thresholds: splits, ..blank };
    let used: Vec<(usize, &Places)> =
        entries(places).filter(|(_, part)| part.iter().any(Option::is_some)).collect();
    if places.len() > SHARE_ENTRIES {
        (record.base, record.branch) = (block.len() as u32, 1);
        block.resize(block.len() + used.len(), blank);
    }
    for (child, (entry, part)) in used.into_iter().enumerate() {
        let up = || part.iter().flatten().filter(|leaf| !leaf.share.down);
        let down = up().next().is_none();
        record.used |= 1 << entry;
        record.down |= (down as u8) << entry;
        let keep = match part {
            [Some(leaf)] => {
                record.refs[entry] = leaf.share.name;
                leaf.keep
            }
            _ => {
                let room = above * led(&splits, entry);
                record.refs[entry] = child as u16;
                write(block, record.base as usize + child, part, room, blank);
                let kept: f64 = up().map(|leaf| leaf.room * leaf.keep).sum();
                if down { WHOLE } else { (kept / room).round().clamp(1.0, WHOLE) }
            }
        };
        record.thresholds[entry] |= (keep - 1.0) as u32;
    }
    block[at] = record;
}
