//! From a name or URL to its service: suffix, then the rules of that suffix (P-6).

use crate::hash::{Keys, Slot};
use crate::table::{
    MAX_CODEPOINT_LABELS, MAX_PATH_SEGMENTS, MAX_SHAPES, NAME_PARTIAL, NONE, NameEntry, SPACE_DNS,
    SPACE_PATH, Tables, VipEntry, Zone,
};
use crate::verifier::{differ, forget, phase};
use crate::wire::{Aside, Message};

/// Most labels a DNS name has (RFC 1035 section 2.3.4: 255 octets).
pub const MAX_LABELS: usize = 128;
/// Most labels the fast path takes.
pub const FAST_LABELS: usize = 16;

/// Label hashes of the name at hand. Lives outside the stack, which is 512 bytes in the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// Hash of each label, leftmost first.
    pub hashes: [u64; MAX_LABELS],
    /// Where each label begins in the message (its length byte).
    pub offsets: [u16; MAX_LABELS],
    /// Hashes of leading path segments of a URL.
    pub segments: [u64; MAX_PATH_SEGMENTS],
    /// Where each of these segments ends in the message, behind its slash; 0 if no slash closes it.
    pub segment_ends: [u16; MAX_PATH_SEGMENTS],
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            hashes: [0; MAX_LABELS],
            offsets: [0; MAX_LABELS],
            segments: [0; MAX_PATH_SEGMENTS],
            segment_ends: [0; MAX_PATH_SEGMENTS],
        }
    }
}

impl Labels {
    /// Hash of label `index`; indices wrap at the array's end.
    #[inline(always)]
    pub fn hash(&self, index: usize) -> u64 {
        self.hashes[index & (MAX_LABELS - 1)]
    }
}

/// VIP of an address (network order, IPv4-mapped), or `None`: not ours.
#[inline(always)]
pub fn vip<'t, T: Tables>(tables: &'t T, keys: &Keys, address: [u64; 2]) -> Option<&'t VipEntry> {
    let hash = keys.address(address);
    for index in [hash as u32, (hash >> 32) as u32] {
        let bucket = tables.vip_bucket(index & (crate::table::VIP_BUCKETS - 1))?;
        for entry in &bucket.entries {
            if entry.address[0] == address[0] && entry.address[1] == address[1] {
                return Some(entry);
            }
        }
    }
    None
}

/// IPv4 address (network order) as IPv4-mapped IPv6 address (network order).
#[inline(always)]
pub fn mapped(ipv4: u32) -> [u64; 2] {
    #[cfg(target_endian = "little")]
    return [0, (ipv4 as u64) << 32 | 0xffff_0000];
    #[cfg(target_endian = "big")]
    return [0, 0xffff_0000_0000 | ipv4 as u64];
}

/// Longest suffix of a name of `count` labels that is a zone of the CDN: its number, or [`NONE`]. `space` is
/// [`SPACE_DNS`] or a URL kind; `depths` is the VIP's bit set for it.
///
/// What is found is a plain number here and in the functions below: what an empty `Option` leaves undefined, LLVM
/// fills with whatever a register holds, and the verifier refuses arithmetic on pointers.
#[inline(always)]
pub fn suffix<T: Tables, const MAX: usize>(
    tables: &T,
    labels: &Labels,
    count: usize,
    space: u32,
    cdn: u16,
    depths: u32,
) -> u32 {
    let Some(meta) = tables.meta() else { return NONE };
    let mut slot = Slot::start(&meta.keys, space, cdn as u32);
    let mut found = NONE;
    // Bit 0 of what is left belongs to the depth at hand.
    let mut depths = depths >> 1;
    for index in 0..MAX {
        // No suffix is longer than 31 labels: there is no bit for it.
        if index >= count || depths == 0 {
            break;
        }
        slot = slot.push(&meta.keys, labels.hash(count - index - 1));
        if depths & 1 == 1 {
            if let Some(entry) = find(slot, meta.suffix_mask, |index| tables.suffix_bucket(index)) {
                found = entry.value;
            }
            found = forget(found as usize, slot.find) as u32;
        }
        depths >>= 1;
    }
    found
}

#[inline(always)]
fn find<'t>(
    slot: Slot,
    mask: u32,
    bucket: impl Fn(u32) -> Option<&'t crate::table::NameBucket>,
) -> Option<&'t NameEntry> {
    for index in slot.buckets(mask) {
        let bucket = bucket(index)?;
        // Where in its bucket an entry lies is anybody's guess: all places are compared, without a branch for each.
        let other = |place: usize| differ(bucket.entries[place].fingerprint, slot.fingerprint);
        let (first, second, third, fourth) = (other(0), other(1), other(2), other(3));
        if first + second + third + fourth != 4 {
            // One alone is not another: of the sum of all places its own is missing.
            let place = 6 - second - 2 * third - 3 * fourth;
            return bucket.entries.get(place as usize & 3);
        }
        // Nothing lies in its second bucket while there is room in its first, which fills from its first place on.
        if bucket.entries[3].fingerprint == 0 {
            return None;
        }
    }
    None
}

/// Key of a codepoint (the leftmost labels of the name) under one shape.
#[inline(always)]
pub fn codepoint_slot(
    keys: &Keys,
    space: u32,
    zone: u32,
    shape: (u16, u16),
    hash: impl Fn(usize) -> u64,
) -> Slot {
    let (labels, keyed) = shape;
    let start = Slot::start(keys, space, zone);
    let mut slot = start.push(keys, (labels as u64) << 16 | keyed as u64);
    for index in 0..MAX_CODEPOINT_LABELS {
        if keyed >> index == 0 {
            break;
        }
        // A free label counts as 0, without a branch that nobody could predict.
        slot = slot.push(keys, hash(index) & (keyed as u64 >> index & 1).wrapping_neg());
    }
    slot
}

/// The rule for the first `count` labels beneath a zone: the lowest order of all that match; partial names (which only
/// say that longer ones exist) come after every full rule. Without a match the result's fingerprint is 0.
pub fn rule<T: Tables>(
    tables: &T,
    labels: &Labels,
    count: usize,
    space: u32,
    number: u32,
    zone: &Zone,
) -> NameEntry {
    let mut search = Search::default();
    search.begin(count, space, number);
    search.first_shape(zone);
    search.go_on::<T, MAX_SHAPES>(tables, labels, zone);
    search.best
}

/// What [`find_rule`] looks for, and what it has found: in memory, of which the verifier knows nothing, so that one round of
/// the search is like the other.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Search {
    /// The best rule so far.
    pub(crate) best: NameEntry,
    /// Labels before the suffix.
    count: usize,
    /// Kind of key, and number of the zone.
    space: u32,
    zone: u32,
    /// Shape that comes next: an index.
    next: usize,
}

impl Search {
    /// For the rule of a name's first `count` labels.
    #[inline(always)]
    pub(crate) fn begin(&mut self, count: usize, space: u32, zone: u32) {
        (self.count, self.space, self.zone) = (count, space, zone);
        // Field by field: the order says that nothing is better.
        (self.best.fingerprint, self.best.value) = (0, 0);
        (self.best.order, self.best.flags) = (u16::MAX, 0);
    }

    /// Finds the first shape of so many labels.
    #[inline(always)]
    pub(crate) fn first_shape(&mut self, zone: &Zone) {
        let mut next = 0;
        for shape in &zone.shapes[..MAX_SHAPES] {
            // Shapes of fewer labels come first, and unused ones have more than any name.
            if shape.labels as usize >= self.count {
                break;
            }
            next += 1;
        }
        self.next = next;
        phase();
    }

    /// Goes on for at most `MOST` shapes; whether there are more.
    #[inline(always)]
    pub(crate) fn go_on<T: Tables, const MOST: usize>(
        &mut self,
        tables: &T,
        labels: &Labels,
        zone: &Zone,
    ) -> bool {
        let Some(meta) = tables.meta() else { return false };
        for _ in 0..MOST {
            phase();
            if !self.has_shape(zone) {
                return false;
            }
            let shape = &zone.shapes[self.next & (MAX_SHAPES - 1)];
            self.next = self.next.wrapping_add(1);
            let shape = (shape.labels, shape.keyed);
            let slot = codepoint_slot(&meta.keys, self.space, self.zone, shape, |i| labels.hash(i));
            if let Some(entry) = find(slot, meta.name_mask, |index| tables.name_bucket(index))
                && (self.best.fingerprint == 0 || entry.order < self.best.order)
            {
                // Of an assignment LLVM makes a call that copies byte by byte.
                (self.best.fingerprint, self.best.value) = (entry.fingerprint, entry.value);
                (self.best.order, self.best.flags) = (entry.order, entry.flags);
            }
        }
        phase();
        self.has_shape(zone)
    }

    #[inline(always)]
    fn has_shape(&self, zone: &Zone) -> bool {
        self.next < MAX_SHAPES && zone.shapes[self.next & (MAX_SHAPES - 1)].labels as usize == self.count
    }
}

/// Shapes of one number of labels that are tried at once; of more, others are tried apart.
const FEW_SHAPES: usize = 3;

/// [`rule`], left in the search, for the paths of messages.
#[inline(always)]
pub(crate) fn find_rule<M: Message, T: Tables>(
    message: &mut M,
    tables: &T,
    labels: &Labels,
    zone: &Zone,
    search: &mut Search,
) {
    search.first_shape(zone);
    if !M::ASIDE {
        search.go_on::<T, MAX_SHAPES>(tables, labels, zone);
    } else if search.go_on::<T, FEW_SHAPES>(tables, labels, zone) {
        message.aside(Aside::Shapes);
    }
    phase();
}

/// [`Aside::Shapes`].
#[inline(always)]
pub(crate) fn shapes_aside<T: Tables>(tables: &T, labels: &Labels, search: &mut Search) -> u64 {
    if let Some(zone) = tables.zone(search.zone) {
        search.go_on::<T, MAX_SHAPES>(tables, labels, zone);
    }
    0
}

/// Service of a URL whose host's rule is `host` and whose path begins with the first `segments` of `labels.segments`,
/// and how many segments its rule has: the longest rule wins. [`NONE`]: the host has rules, but none for this path.
#[inline(always)]
pub fn path<T: Tables>(tables: &T, labels: &Labels, segments: usize, host: &NameEntry) -> (u32, usize) {
    // Bit 0: a rule for the whole host, whose service is the entry's value.
    let mut service = if host.flags & 1 == 1 { host.value } else { NONE };
    let mut length = 0;
    let Some(meta) = tables.meta() else { return (NONE, 0) };
    if host.flags >> 1 == 0 {
        return (service, 0);
    }
    let mut slot =
        Slot { find: host.fingerprint, fingerprint: host.fingerprint }.push(&meta.keys, SPACE_PATH as u64);
    for depth in 1..=MAX_PATH_SEGMENTS {
        if depth > segments || host.flags >> depth == 0 {
            break;
        }
        slot = slot.push(&meta.keys, labels.segments[depth - 1]);
        if host.flags >> depth & 1 == 1
            && let Some(entry) = find(slot, meta.name_mask, |index| tables.name_bucket(index))
        {
            (service, length) = (entry.value, depth);
        }
        (service, length) = (forget(service as usize, slot.find) as u32, forget(length, slot.find));
    }
    (service, length)
}

/// The service that an entry of the name table leads every question about its name to, if it does.
pub fn service(entry: &NameEntry) -> Option<u32> {
    (entry.fingerprint != 0 && entry.flags == 0).then_some(entry.value)
}

/// Whether an entry of the name table only says that names beneath it exist.
#[inline(always)]
pub fn is_partial(entry: &NameEntry) -> bool {
    entry.flags & NAME_PARTIAL != 0
}

/// URL schemes by their number in key spaces (`SPACE_URL` + scheme).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Scheme {
    /// `http`
    #[default]
    Http = 0,
    /// `https`
    Https = 1,
    /// `rtsp`
    Rtsp = 2,
}

impl Scheme {
    /// Its key space.
    #[inline(always)]
    pub fn space(self) -> u32 {
        crate::table::SPACE_URL + self as u32
    }
    /// As written in URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Rtsp => "rtsp",
        }
    }
    /// Port when a URL names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Rtsp => 554,
        }
    }
}

/// The DNS key space, for symmetry with [`Scheme::space`].
pub const DNS: u32 = SPACE_DNS;
