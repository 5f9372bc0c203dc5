//! The flat tables that decisions read: `repr(C)` values, their sizes, and the trait through which they are read.
//!
//! `redirector-plan` writes them, BPF array maps or plain memory hold them, and both paths read them through
//! [`Tables`]. Integers are in host byte order unless a field says otherwise; addresses are in network order.

use crate::hash::Keys;
use crate::limit::Rates;
use crate::tail::Tail;

/// Changes with every change to a type in this file; a program refuses tables of another version.
pub const LAYOUT_VERSION: u32 = 9 + NEXT_LAYOUT as u32;
/// This is the layout that tests of upgrades are made with: as the other, but for the version and the size of a zone.
const NEXT_LAYOUT: bool = cfg!(feature = "next-layout");
/// Words of a zone that mean nothing.
const ZONE_FILLER: usize = if NEXT_LAYOUT { 26 } else { 10 };

/// Most VIP addresses of one box: 64 VIPs, both families.
pub const VIP_BUCKETS: u32 = 256;
/// Counter slots of VIPs, those of removed ones included.
pub const VIP_SLOTS: u32 = 1024;
/// Most labels before a suffix that a grammar can have.
pub const MAX_CODEPOINT_LABELS: usize = 12;
/// Most leading path segments that URL rules can have.
pub const MAX_PATH_SEGMENTS: usize = 4;
/// Most distinct shapes of a zone.
pub const MAX_SHAPES: usize = 16;
/// Entries of a share record.
pub const SHARE_ENTRIES: usize = 8;
/// Levels of share records: 8³ targets in one tier at most.
pub const SHARE_LEVELS: usize = 3;
/// Words that hold the box's name.
pub const BOX_NAME_WORDS: usize = 4;
/// No such index.
pub const NONE: u32 = u32::MAX;

/// A type that any bit pattern of its size is a value of, without padding: can live in a map.
///
/// # Safety
/// Implementers are `repr(C)`, have no padding, no pointers and no invalid bit patterns.
pub unsafe trait Pod: Copy + 'static {}

/// What is true of the whole generation.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// [`LAYOUT_VERSION`] of the writer.
    pub layout: u32,
    /// Regions including number 0, which stands for clients without region.
    pub regions: u32,
    /// Number of this generation.
    pub generation: u64,
    /// Hash keys.
    pub keys: Keys,
    /// Hash of the label `ns1` (generated name-server names).
    pub ns_label: u64,
    /// Hash of the label `_cdsr` (discovery, P-19).
    pub cdsr_label: u64,
    /// Buckets of the suffix table less one.
    pub suffix_mask: u32,
    /// Buckets of the name table less one.
    pub name_mask: u32,
    /// Secret of DNS cookies ([`crate::wire::dns::cookie::secret`]).
    pub cookie_secret: [u64; 2],
    /// The box's name, cut at its 32nd byte: eight bytes a word, the first one highest, 0 behind the end (RFC 5001).
    pub box_name: [u64; BOX_NAME_WORDS],
    /// Bytes of it.
    pub box_name_length: u32,
    /// Filler.
    pub reserved: u32,
    /// Rate limits of this box.
    pub limits: Rates,
}

/// A VIP address (P-1).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VipEntry {
    /// Network order; IPv4 as `::ffff:a.b.c.d`. All zero: empty.
    pub address: [u64; 2],
    /// Bit n set: a DNS suffix of n labels exists in this CDN.
    pub dns_depths: u32,
    /// The same for URL hosts.
    pub url_depths: u32,
    /// Index into the VIP list.
    pub vip: u16,
    /// CDN number: owner of suffixes.
    pub cdn: u16,
    /// Protocols: [`SPEAKS_DNS`] and others.
    pub speaks: u16,
    /// Counter slot, stable across generations and below [`VIP_SLOTS`].
    pub counter: u16,
}

impl VipEntry {
    /// Copies by whole words: of a plain assignment that is followed by reading a part, LLVM makes a call that copies
    /// byte by byte.
    #[inline(always)]
    pub fn copy_to(&self, other: &mut Self) {
        const WORDS: usize = size_of::<VipEntry>() / size_of::<u64>();
        let (from, to): (*const [u64; WORDS], *mut [u64; WORDS]) =
            ((&raw const *self).cast(), (&raw mut *other).cast());
        // SAFETY: both are as many words long and as aligned, without padding, and any bits are a value.
        unsafe {
            for word in 0..WORDS {
                (*to)[word] = core::ptr::read_volatile(&raw const (*from)[word]);
            }
        }
    }
}

/// VIP answers DNS.
pub const SPEAKS_DNS: u16 = 1;
/// VIP answers CDSR.
pub const SPEAKS_CDSR: u16 = 2;
/// VIP answers HTTP.
pub const SPEAKS_HTTP: u16 = 4;
/// VIP answers RTSP.
pub const SPEAKS_RTSP: u16 = 8;

/// Two VIP entries, a cache line and a half apart at most.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VipBucket {
    /// Unordered.
    pub entries: [VipEntry; 2],
}

/// The addresses that answers naming a VIP carry, and what names at it end in.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VipInfo {
    /// First IPv6 address, network order; zero if none.
    pub ipv6: [u64; 2],
    /// First IPv4 address, network order; zero if none.
    pub ipv4: u32,
    /// Filler.
    pub reserved: u32,
    /// The suffix of most rules for names.
    pub names: Tail,
    /// The suffix of most rules for hosts of URLs.
    pub hosts: Tail,
    /// Filler.
    pub filler: [u64; 3],
}

/// One entry of the suffix or name table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NameEntry {
    /// [`crate::hash::Slot::fingerprint`]; 0 is empty.
    pub fingerprint: u64,
    /// Zone index (suffix table) or service index (name table).
    pub value: u32,
    /// Place of the rule in its zone's list: the lowest match wins. Neighbours of one shape, of which no name matches
    /// two, share a place.
    pub order: u16,
    /// [`NAME_PARTIAL`], or for URL hosts a bit set of path depths with rules (bit n: n segments).
    pub flags: u16,
}

/// The entry says that names below exist, not that the name itself has a meaning (empty non-terminal).
pub const NAME_PARTIAL: u16 = 1 << 15;

/// One cache line of a name table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NameBucket {
    /// In use from the first on. Names have two buckets, and no name lies in its second that had room in its first.
    pub entries: [NameEntry; 4],
}

/// Which labels of a codepoint take part in a name's key.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Labels before the suffix.
    pub labels: u16,
    /// Bit n set: the n-th label from the left takes part; the others are free.
    pub keyed: u16,
}

/// A suffix: DNS zone, or host suffix of URL rules.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Zone {
    /// Shapes in use, by `labels`; unused ones have `labels` = `u16::MAX`.
    pub shapes: [Shape; MAX_SHAPES],
    /// Labels of the suffix.
    pub suffix_labels: u32,
    /// Number of shapes in use.
    pub shape_count: u32,
    /// SOA serial.
    pub serial: u32,
    /// Seconds.
    pub negative_ttl: u32,
    /// Seconds: NS records, their addresses, answers naming the VIP.
    pub ns_ttl: u32,
    /// What names and hosts get that fit no rule: [`ILL_FORMED_ABSENT`] and others.
    pub ill_formed: u32,
    /// Filler.
    pub reserved: [u32; ZONE_FILLER],
}

/// Names that fit no rule do not exist.
pub const ILL_FORMED_ABSENT: u32 = 0;
/// They are refused.
pub const ILL_FORMED_REFUSED: u32 = 1;
/// They have no records.
pub const ILL_FORMED_EMPTY: u32 = 2;
/// They have the service whose number this is less than what stands here.
pub const ILL_FORMED_SERVICE: u32 = 3;

/// Kinds of keys in the name and suffix tables; the value of the URL kinds less [`SPACE_URL`] is the scheme.
pub const SPACE_DNS: u32 = 0;
/// First URL kind: `http`; `https` and `rtsp` follow.
pub const SPACE_URL: u32 = 1;
/// A path rule beneath a URL host.
pub const SPACE_PATH: u32 = 8;

/// A service.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// Mixed into choice keys: a hash of the name, so that it is the same on all boxes.
    pub salt: u64,
    /// Coverage number.
    pub coverage: u32,
    /// Seconds.
    pub ttl: u32,
    /// Seconds a CDSR answer holds.
    pub hint_lifetime: u32,
    /// Counter slot, stable across generations.
    pub counter: u32,
    /// Share group of the fallback for IPv4 and IPv6; [`NONE`] if there is none.
    pub fallback: [u32; 2],
    /// [`CHOOSE_CLIENT_PREFIX`] and others.
    pub choose_by: u8,
    /// Addresses in a DNS answer, 1..=4.
    pub answers: u8,
    /// [`SERVICE_HAS_IPV4`] and others.
    pub flags: u16,
    /// CDN number.
    pub network: u16,
    /// Number of the policy in CDSR endpoints; 0 is not told.
    pub policy_class: u8,
    /// Filler.
    pub filler: u8,
    /// With [`SERVICE_OUTCOMES`]: the service that chooses among targets of every kind (ADR 13).
    pub outcomes: u32,
    /// With [`SERVICE_BINDING`]: the entry of the names' table that holds the parameters of its HTTPS records.
    pub binding: u32,
    /// With [`SERVICE_SRV`]: first of the entries of the names' table that hold the names of sites, by [`Target::site`];
    /// one without a text is no site of the service.
    pub sites: u32,
    /// With [`SERVICE_SRV`] or [`SERVICE_PORT`]: port of its SRV records and endpoints, host order.
    pub port: u16,
    /// Filler.
    pub gap: u16,
    /// With [`SERVICE_PROVIDED`]: the service that chooses among the provider's own servers, if it has some and no name.
    pub outside: u32,
    /// Filler.
    pub reserved: [u16; 2],
}

/// Equal answers within a client's /24 or /48.
pub const CHOOSE_CLIENT_PREFIX: u8 = 0;
/// Equal answers for a client address.
pub const CHOOSE_CLIENT: u8 = 1;
/// Equal answers for a name or URL.
pub const CHOOSE_CONTENT: u8 = 2;
/// Query ID and source port mixed in.
pub const CHOOSE_SPREAD: u8 = 3;

/// Some target has an IPv4 address.
pub const SERVICE_HAS_IPV4: u16 = 1;
/// Some target has an IPv6 address.
pub const SERVICE_HAS_IPV6: u16 = 2;
/// DNS answers are the VIP's addresses.
pub const SERVICE_DNS_VIP: u16 = 4;
/// Some target is a name or a delegation: what kind of answer a client gets is chosen before the type asked for counts.
pub const SERVICE_OUTCOMES: u16 = 8;
/// Has HTTPS and SVCB records (RFC 9460).
pub const SERVICE_BINDING: u16 = 16;
/// Its content is a provider's: with [`SERVICE_OUTCOMES`], what is chosen first is who serves, and on whose account.
pub const SERVICE_PROVIDED: u16 = 64;
/// Answers SRV queries with its sites in order of preference, and nothing else (M-8).
pub const SERVICE_SRV: u16 = 32;
/// Stands for others: which of them a client gets depends on a proof in its name, URL or request, which the slow path
/// examines (P-10, P-15; ADR 15).
pub const SERVICE_PROOF: u16 = 128;
/// Its port is told instead of its servers' own: clients that are not authorised get nothing there (P-15).
pub const SERVICE_PORT: u16 = 256;

/// Sixteen words: BPF arrays round values up to 8 bytes, so words are packed a cache line a value.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words16 {
    /// The words.
    pub words: [u32; 16],
}

/// A node of the IPv6 trie: six bits.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node64 {
    /// Region entries, see [`REGION_LINK`].
    pub words: [u32; 64],
}

/// A page of the IPv4 table: eight bits.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page256 {
    /// Region entries, see [`REGION_LINK`].
    pub words: [u32; 256],
}

/// In a region entry: the other bits are the number of a page or node. Without it, the low 16 bits are the region and
/// bits 16..24 the length of the widest prefix around the address in which every address has that region.
pub const REGION_LINK: u32 = 1 << 31;
/// Bits the IPv6 root resolves; each node resolves six more.
pub const IPV6_ROOT_BITS: u32 = 20;

/// Current record of a share group, in one word so that one store publishes it (design: tiers of change).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupPointer {
    /// Low half: record number or [`NONE`]; high half: load epoch of its last change.
    pub word: u64,
}

impl GroupPointer {
    /// Packs record number and epoch.
    pub fn new(record: u32, epoch: u32) -> Self {
        Self { word: (epoch as u64) << 32 | record as u64 }
    }
    /// Record number; [`NONE`] if no target is usable.
    #[inline(always)]
    pub fn record(self) -> u32 {
        self.word as u32
    }
    /// Load epoch of the last change.
    #[inline(always)]
    pub fn epoch(self) -> u32 {
        (self.word >> 32) as u32
    }
}

/// Who serves, and which share each: one cache line.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareRecord {
    /// Two halves. Upper ones, but for the first: a hash goes to the left of split n if the bits that it has for it are
    /// below this number. Split 1 is the first; behind split n come 2n on the left and 2n + 1 on the right, and behind
    /// the last splits the entries, as 8 to 15. Lower ones: entry n keeps so many 2^-16 of the hashes that come to it,
    /// less one; in a branch, those that all targets beneath it keep together.
    pub thresholds: [u32; SHARE_ENTRIES],
    /// Target numbers, or record numbers relative to `base`.
    pub refs: [u16; SHARE_ENTRIES],
    /// First child record; used if `branch` is 1.
    pub base: u32,
    /// Seconds; [`NONE`] takes the service's (P-7).
    pub ttl: u32,
    /// Bit n set: entry n is in use.
    pub used: u8,
    /// Bit n set: entry n keeps its place but takes no clients (dead or overloaded).
    pub down: u8,
    /// 1: `refs` name records; 0: targets.
    pub branch: u8,
    /// Tier this came from, 0 first; [`TIER_FALLBACK`] for a fallback.
    pub tier: u8,
    /// Of a root: the next tier's root, for clients that exclude everybody in this one (P-18); [`NONE`] at the end.
    pub next: u32,
}

/// [`ShareRecord::tier`] of a service's last resort.
pub const TIER_FALLBACK: u8 = 255;

impl Default for ShareRecord {
    fn default() -> Self {
        Self {
            thresholds: [0; SHARE_ENTRIES],
            refs: [0; SHARE_ENTRIES],
            base: 0,
            ttl: NONE,
            used: 0,
            down: 0,
            branch: 0,
            tier: 0,
            next: NONE,
        }
    }
}

impl ShareRecord {
    /// What an entry keeps of all hashes, in 2^-40; never 0.
    #[inline(always)]
    pub fn weight(&self, entry: usize) -> u64 {
        let entry = entry & (SHARE_ENTRIES - 1);
        let side = |node: usize, right: usize| {
            let left = (self.thresholds[node & (SHARE_ENTRIES - 1)] >> 16) as u64;
            // Of a split and what it leaves, without a branch.
            let other = (right as u64).wrapping_neg();
            (left ^ other).wrapping_add(other & ((1 << 16) + 1))
        };
        let part = side(1, entry >> 2) * side(2 | entry >> 2, entry >> 1 & 1);
        let part = ((part >> 8) * side(4 | entry >> 1, entry & 1)) >> 16;
        part * ((self.thresholds[entry] & 0xffff) as u64 + 1) + 1
    }
}

/// A server.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target {
    /// Network order; zero if it has none.
    pub ipv6: [u64; 2],
    /// [`Keys::address`] of the IPv4-mapped and the IPv6 address; 0 without one.
    pub digests: [u64; 2],
    /// Network order; zero if it has none.
    pub ipv4: u32,
    /// Ports for `http`, `https`, `rtsp`, host order.
    pub ports: [u16; 3],
    /// Number of its network in CDSR endpoints; 0 is not told.
    pub network: u16,
    /// Counter slot, stable across generations.
    pub counter: u32,
    /// First of its names; meaningful if it is no server ([`OUTCOME_ADDRESS`]).
    pub names: u32,
    /// Bytes that its records take behind the question: CNAME, or NS of all its name servers.
    pub length: u16,
    /// Bytes of the name servers' addresses as records: of all, and of those that resolvers cannot do without.
    pub glue_length: [u16; 2],
    /// Number of these records.
    pub glue: [u8; 2],
    /// Number of name servers; their names stand one behind the other.
    pub servers: u8,
    /// [`OUTCOME_ADDRESS`] and others.
    pub outcome: u8,
    /// Number of its site among those that SRV records name; [`NO_SITE`] for another.
    pub site: u16,
}

/// See [`Target::site`].
pub const NO_SITE: u16 = u16::MAX;

/// The target is a server.
pub const OUTCOME_ADDRESS: u8 = 0;
/// The target is another name (CNAME).
pub const OUTCOME_NAME: u8 = 1;
/// The target is name servers that know the answer (NS).
pub const OUTCOME_DELEGATION: u8 = 2;
/// Most name servers of one delegation.
pub const MAX_NAME_SERVERS: usize = 4;

/// Words of the longest name (RFC 1035 section 3.1: 255 octets).
pub const NAME_WORDS: usize = 32;

/// A name or other text as messages have it, and the addresses of the name server that has this name, if it is one's.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireName {
    /// Labels with their lengths, lower-case, up to the root. The text ends where one of the words ends, and zeros stand
    /// before it: so it is written word by word, before what stands in front of it.
    pub words: [u64; NAME_WORDS],
    /// Network order; zero if it has none.
    pub ipv6: [u64; 2],
    /// Network order; zero if it has none.
    pub ipv4: u32,
    /// Bytes of the text.
    pub length: u16,
    /// 1: resolvers cannot find its addresses elsewhere (RFC 9471).
    pub needs_glue: u16,
}

impl Default for WireName {
    fn default() -> Self {
        Self { words: [0; NAME_WORDS], ipv6: [0; 2], ipv4: 0, length: 0, needs_glue: 0 }
    }
}

const _: () = {
    assert!(size_of::<Meta>() == 176);
    assert!(size_of::<VipBucket>() == 64);
    assert!(size_of::<VipInfo>() == 192);
    assert!(size_of::<NameBucket>() == 64);
    assert!(size_of::<Zone>() == 88 + 4 * ZONE_FILLER);
    assert!(size_of::<Service>() == 64);
    assert!(size_of::<Words16>() == 64);
    assert!(size_of::<Node64>() == 256);
    assert!(size_of::<Page256>() == 1024);
    assert!(size_of::<GroupPointer>() == 8);
    assert!(size_of::<ShareRecord>() == 64);
    assert!(size_of::<Target>() == 64);
    assert!(size_of::<WireName>() == 280);
};

macro_rules! pod {
    ($($ty:ty),*) => { $(
        // SAFETY: repr(C), integers only; the size asserts above leave no room for padding.
        unsafe impl Pod for $ty {}
    )* };
}
pod!(
    Meta,
    VipBucket,
    VipInfo,
    NameBucket,
    Zone,
    Service,
    Words16,
    Node64,
    Page256,
    GroupPointer,
    ShareRecord,
    Target,
    WireName
);

/// The tables of one generation. Every method answers `None` beyond a table's end.
pub trait Tables {
    /// What time it is, and until when these tables may be answered from if nobody keeps them up to date:
    /// nanoseconds of one clock.
    #[inline(always)]
    fn now_and_end(&self) -> (u64, u64) {
        (0, u64::MAX)
    }
    /// Seconds since 1970 modulo 2^32, for cookies.
    fn unix_seconds(&self) -> u32;
    /// The generation's constants.
    fn meta(&self) -> Option<&Meta>;
    /// Bucket of the VIP table.
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket>;
    /// Addresses of a VIP.
    fn vip_info(&self, index: u32) -> Option<&VipInfo>;
    /// Bucket of the suffix table.
    fn suffix_bucket(&self, index: u32) -> Option<&NameBucket>;
    /// A suffix.
    fn zone(&self, index: u32) -> Option<&Zone>;
    /// Bucket of the name table.
    fn name_bucket(&self, index: u32) -> Option<&NameBucket>;
    /// A service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// IPv4 root: 16 entries a value, by the first 12 bits.
    fn ipv4_root(&self, index: u32) -> Option<&Words16>;
    /// IPv4 page.
    fn ipv4_page(&self, index: u32) -> Option<&Page256>;
    /// IPv6 root: 16 entries a value, by the first 16 bits.
    fn ipv6_root(&self, index: u32) -> Option<&Words16>;
    /// IPv6 node.
    fn ipv6_node(&self, index: u32) -> Option<&Node64>;
    /// Counter slots of regions, 16 a value.
    fn region_counters(&self, index: u32) -> Option<&Words16>;
    /// Share group of (coverage × 2 + family) × regions + region.
    fn cell(&self, number: u32) -> Option<u32>;
    /// Share group: the pointer's current value.
    fn group(&self, index: u32) -> Option<GroupPointer>;
    /// Share record.
    fn record(&self, index: u32) -> Option<&ShareRecord>;
    /// Target.
    fn target(&self, index: u32) -> Option<&Target>;
    /// Name of a target, or parameters of a service's HTTPS records.
    fn wire_name(&self, index: u32) -> Option<&WireName>;
}
