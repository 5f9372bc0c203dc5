//! From a name or URL to its service: suffix, then the rules of that suffix (P-6).

use crate::hash::{Keys, Slot};
use crate::table::{
    MAX_CODEPOINT_LABELS, MAX_PATH_SEGMENTS, MAX_SHAPES, NAME_PARTIAL, NONE, NameEntry, SPACE_DNS,
    SPACE_PATH, Tables, VipEntry, Zone,
};
use crate::verifier::{equal, forget};

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
        let (mut place, mut found) = (0, 0);
        for (index, entry) in bucket.entries.iter().enumerate() {
            let here = equal(entry.fingerprint, slot.fingerprint);
            place |= here & index as u64;
            found |= here;
        }
        if found != 0 {
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
#[inline(always)]
pub fn rule<T: Tables>(
    tables: &T,
    labels: &Labels,
    count: usize,
    space: u32,
    number: u32,
    zone: &Zone,
) -> NameEntry {
    let mut best = NameEntry { order: u16::MAX, ..NameEntry::default() };
    let Some(meta) = tables.meta() else { return best };
    for shape in &zone.shapes[..MAX_SHAPES] {
        // Shapes of fewer labels come first, and unused ones have more than any name.
        if shape.labels as usize > count {
            break;
        }
        if (shape.labels as usize) < count {
            continue;
        }
        let slot = codepoint_slot(&meta.keys, space, number, (shape.labels, shape.keyed), |i| labels.hash(i));
        if let Some(entry) = find(slot, meta.name_mask, |index| tables.name_bucket(index))
            && (best.fingerprint == 0 || entry.order < best.order)
        {
            best = *entry;
        }
        best.fingerprint = forget(best.fingerprint as usize, slot.find) as u64;
    }
    best
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
