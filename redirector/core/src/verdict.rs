//! Outcomes and their stable reason codes.

use crate::table::NONE;

/// Most endpoints one verdict names.
pub const MAX_ENDPOINTS: usize = 8;

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal; )+) => {
        /// Why an answer was given, or why a packet went elsewhere. Numbers never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason { $( $(#[doc = $doc])+ $name = $code, )+ }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Reason] = &[ $( Reason::$name, )+ ];

            /// Stable name for metrics and logs.
            pub fn name(self) -> &'static str {
                match self { $( Reason::$name => $text, )+ }
            }
        }
    };
}

reasons! {
    /// Nothing was decided yet.
    Undecided = 0, "undecided";
    /// A server of the first tier that applies to the client's region.
    FirstTier = 1, "first-tier";
    /// A server of a later tier: the earlier ones have nothing usable.
    LaterTier = 2, "later-tier";
    /// A server of the service's fallback: no tier has anything usable.
    Fallback = 3, "fallback";
    /// The VIP's own address: the service is redirected by HTTP, RTSP or CDSR (P-25).
    VipAddress = 4, "vip-address";
    /// The name exists, the type asked for does not.
    NoDataType = 5, "nodata-type";
    /// Names beneath exist, this one has no records.
    NoDataPartial = 6, "nodata-partial";
    /// The service has no address of this family anywhere.
    NoDataFamily = 7, "nodata-family";
    /// No rule can match this name or one beneath it.
    NxDomain = 8, "nxdomain";
    /// No usable target, no fallback.
    NothingUsable = 9, "nothing-usable";
    /// Every usable target is on the client's failed list.
    AllExcluded = 10, "all-excluded";
    /// No zone of this VIP holds the name.
    NotOurZone = 11, "not-our-zone";
    /// No URL rule of this VIP holds the URL.
    NotOurUrl = 12, "not-our-url";
    /// The zone's own records: SOA, NS, name-server addresses.
    ZoneRecord = 13, "zone-record";
    /// Discovery record (P-19).
    CdsrRecord = 14, "cdsr-record";
    /// DNS message that cannot be parsed.
    DnsFormErr = 15, "dns-formerr";
    /// DNS operation other than a query.
    DnsNotImp = 16, "dns-notimp";
    /// EDNS version other than 0.
    DnsBadVers = 17, "dns-badvers";
    /// DNS class or zone transfer that is refused.
    DnsRefused = 18, "dns-refused";
    /// CDSR request that cannot be parsed.
    CdsrBadRequest = 19, "cdsr-bad-request";
    /// CDSR version other than 1.
    CdsrBadVersion = 20, "cdsr-bad-version";
    /// A reply or noise where a request should be: never answered.
    NotARequest = 21, "not-a-request";
    /// Redirecting this client again would go round in circles (P-4).
    Loop = 22, "loop";
    /// HTTP or RTSP itself: a method or version that no server is chosen for.
    Protocol = 23, "protocol";
    /// A request by HTTP or RTSP whose URL or host cannot be, or is too long.
    BadUrl = 24, "bad-url";
    /// A query for a DNS cookie, without question.
    DnsCookie = 25, "dns-cookie";
    /// The content provider's own CDN: neither is it ours, nor has this network an agreement that covers the client.
    Foreign = 26, "foreign";
    /// The name of the box that answers (RFC 4892).
    BoxName = 29, "box-name";
    /// The name or URL fits no rule of its suffix, which refuses such ones (P-6).
    IllFormed = 30, "ill-formed";
    /// No proof, or a bad one, where there must be one (P-10, P-15).
    Denied = 31, "denied";
    /// Not for a VIP: left alone.
    NotVip = 32, "not-vip";
    /// Not IPv4 or IPv6 (ARP and others), or behind more than two VLAN tags.
    PassEtherType = 33, "pass-ethertype";
    /// Too short for its headers.
    PuntShort = 34, "punt-short";
    /// IPv4 options that are more than padding.
    PuntIpOptions = 35, "punt-ip-options";
    /// A fragment.
    PuntFragment = 36, "punt-fragment";
    /// Not UDP (TCP, ICMP), or IPv6 extension headers that are more than padding.
    PuntNotUdp = 37, "punt-not-udp";
    /// Length fields disagree.
    PuntLength = 38, "punt-length";
    /// A UDP port without a fast-path protocol, or one this VIP does not speak.
    PuntPort = 39, "punt-port";
    /// A source that no client has (broadcast, multicast, loopback, port 0).
    PuntSource = 40, "punt-source";
    /// IPv6 UDP without checksum.
    PuntChecksum = 41, "punt-checksum";
    /// DNS message other than one plain question.
    PuntDnsForm = 42, "punt-dns-form";
    /// Name of more labels than the fast path takes.
    PuntLabels = 43, "punt-labels";
    /// More EDNS options, or other records, that the fast path leaves to the slow path.
    PuntEdns = 44, "punt-edns";
    /// Type or class that the slow path answers.
    PuntType = 45, "punt-type";
    /// Name in none of the VIP's zones.
    PuntNotOurZone = 46, "punt-not-our-zone";
    /// A zone's own records.
    PuntZoneRecord = 47, "punt-zone-record";
    /// CDSR form that the slow path answers: extensions, preferences, other schemes, malformed.
    PuntCdsrForm = 48, "punt-cdsr-form";
    /// Choice that needs more steps than the fast path has.
    PuntChoice = 49, "punt-choice";
    /// A table without the entry another table points at.
    PuntTable = 50, "punt-table";
    /// The frame could not be resized.
    PuntResize = 51, "punt-resize";
    /// Tables of another layout version, or none.
    PuntLayout = 52, "punt-layout";
    /// A write failed after the reply was begun: cannot happen, so it is counted.
    Internal = 53, "internal";
    /// The daemon has not been heard of for longer than the configured age.
    PuntStale = 54, "punt-stale";
    /// DNS answers over the client prefix's limit: this one was replaced by a truncated one.
    LimitSlip = 55, "limit-slip";
    /// DNS answers over the client prefix's limit: this one was dropped.
    LimitDrop = 56, "limit-drop";
    /// CDSR replies over the client prefix's limit: "retry later".
    LimitCdsr = 57, "limit-cdsr";
    /// CDSR replies over the client prefix's limit: dropped.
    LimitCdsrDrop = 58, "limit-cdsr-drop";
    /// Punts over the client prefix's budget: dropped.
    LimitPunt = 59, "limit-punt";
    /// Punts over the CPU's budget: dropped.
    LimitPuntAll = 60, "limit-punt-all";
    /// DNS punts over one of these budgets: this query was sent back as a truncated answer.
    LimitPuntSlip = 61, "limit-punt-slip";
    /// A name or URL with a tag, token or seal, or where there must be one: the slow path examines it.
    PuntProof = 62, "punt-proof";
}

/// Slots of the reason counters.
pub const REASON_SLOTS: u32 = 64;

impl Reason {
    /// The reason of a number.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u16 == code)
    }

    /// Whether the packet went on to the slow path instead of being answered.
    #[inline(always)]
    pub fn is_punt(self) -> bool {
        let code = self as u16;
        (code >= Self::PuntShort as u16 && code <= Self::PuntLayout as u16)
            || code == Self::PuntStale as u16
            || code == Self::PuntProof as u16
    }
}

/// What [`crate::decide::decide`] found.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// Client's region number; 0 is none.
    pub region: u32,
    /// Share group that was used; [`NONE`] if none.
    pub group: u32,
    /// Load epoch of that group's last change.
    pub epoch: u32,
    /// Seconds the answer may be kept.
    pub ttl: u32,
    /// Entries of `targets` in use.
    pub count: u32,
    /// Target numbers, best first.
    pub targets: [u32; MAX_ENDPOINTS],
    /// Share of each of them within its record, 1..=255.
    pub shares: [u8; MAX_ENDPOINTS],
    /// The choice at work: kept in memory, of which the verifier knows nothing, and not in registers.
    pub(crate) pick: Pick,
}

/// State of a choice among the entries of one share record.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pick {
    /// Hash that the next choice is made with.
    pub(crate) hash: u64,
    /// Bit set of entries that can still be chosen.
    pub(crate) free: u32,
    /// Entry chosen last; meaningful if its bit in `free` is set.
    pub(crate) entry: u32,
}

impl Verdict {
    /// Nothing chosen yet. What lies behind `count` in the lists keeps what it held: most choices are of one target,
    /// and the fast path's room is used for every packet.
    #[inline(always)]
    pub(crate) fn begin(&mut self, ttl: u32) {
        (self.reason, self.ttl, self.count) = (Reason::Undecided, ttl, 0);
        (self.region, self.group, self.epoch) = (0, NONE, 0);
        self.targets[0] = NONE;
    }

    /// Notes that what was chosen is a provider's own CDN.
    #[inline(always)]
    pub fn become_foreign(&mut self) {
        if self.count > 0 {
            self.reason = Reason::Foreign;
        }
    }

    /// No targets, for this reason.
    pub fn of(reason: Reason) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self {
            reason: Reason::Undecided,
            region: 0,
            group: NONE,
            epoch: 0,
            ttl: 0,
            count: 0,
            targets: [NONE; MAX_ENDPOINTS],
            shares: [0; MAX_ENDPOINTS],
            pick: Pick::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_codes_are_unique_and_fit_the_counters() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert!((*a as u32) < REASON_SLOTS);
            assert_eq!(Reason::from_code(*a as u16), Some(*a));
            assert!(Reason::ALL[i + 1..].iter().all(|b| a.name() != b.name()));
        }
    }
}
