//! CDSR, the box's side: read a request, find the URL's rule, answer in place (docs/cdsr-protocol.md; P-16 to P-21).
//!
//! With `FULL` everything is answered; without, extensions, preferences, long server lists and errors are punted.

mod slow;

pub use slow::{extensions, url_hash};

use super::{Action, Asked, Message, Scratch, Trace, text, word_of};
use crate::decide::{FAST_ENDPOINTS, FAST_EXCLUDED, MAX_EXCLUDED, Query, decide, look_ahead};
use crate::hash::{Keys, Slot, fold_case};
use crate::limit::{self, Class, Limits, Unlimited};
use crate::lookup::{self, FAST_LABELS, Labels, MAX_LABELS, Scheme};
use crate::outcome;
use crate::table::{
    CHOOSE_CONTENT, MAX_PATH_SEGMENTS, NONE, NameEntry, OUTCOME_ADDRESS, SERVICE_HAS_IPV4, SERVICE_HAS_IPV6,
    SERVICE_OUTCOMES, SERVICE_PORT, SERVICE_PROOF, SPACE_URL, Service, Tables, VipEntry,
};
use crate::tail::MAX_TAIL;
use crate::verdict::{MAX_ENDPOINTS, Reason, Verdict};
use crate::verifier::{less, phase};

/// UDP port.
pub const PORT: u16 = 2554;
/// First bytes of every message.
pub const MAGIC: u16 = 0x4344;
/// The version this is.
pub const VERSION: u8 = 1;
/// Message kind of a request.
pub const RESOLVE: u8 = 0x01;
/// Bit of a message kind that marks replies.
pub const REPLY: u8 = 0x80;
/// Bytes before the server list of a request.
pub const REQUEST_HEADER: usize = 24;
/// Bytes of a server list entry.
pub const SERVER_ENTRY: usize = 20;
/// Bytes before the endpoints of a reply: no request may be shorter.
pub const REPLY_HEADER: usize = 28;
/// Bytes of an endpoint.
pub const ENDPOINT: usize = 24;
/// Shortest URL.
pub const MIN_URL: usize = 8;
/// Longest URL.
pub const MAX_URL: usize = 1024;
/// Seconds that a "not mine" holds.
pub const NOT_MINE_LIFETIME: u32 = 60;
/// Milliseconds a client waits when nothing is usable.
pub const RETRY_DELAY: u32 = 1000;

/// Reply status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Endpoints follow.
    Handled = 0,
    /// No rule for this URL here.
    NotMine = 1,
    /// Nothing usable now.
    RetryLater = 2,
    /// Refused by policy.
    Denied = 3,
    /// Use what the URL's scheme says.
    UseLegacy = 4,
    /// The request breaks the protocol.
    BadRequest = 5,
    /// The request's version is unknown here.
    BadVersion = 6,
}

const SERVER_FAILED: u8 = 1;
const SERVER_PREFERRED: u8 = 2;
const CRITICAL: u16 = 0x8000;

const SCOPE_URL: u32 = 0;
const SCOPE_HOST: u32 = 1;
const SCOPE_PREFIX: u32 = 2;
const FLAG_MORE: u32 = 1;

/// Words of host text the fast path scans.
const FAST_HOST_WORDS: usize = 24;
/// Words of path text the fast path scans.
const FAST_PATH_WORDS: usize = 24;
const FULL_WORDS: usize = MAX_URL;

/// Where a URL's parts lie in a message.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UrlPlace {
    /// First byte of the URL; at least 8.
    pub start: usize,
    /// Byte behind the URL.
    pub end: usize,
    /// First byte of the host.
    pub host: usize,
    /// Byte behind the host.
    pub host_end: usize,
    /// [`Scheme`], as a number: the verifier knows no range of an enum that comes from memory.
    pub scheme: u32,
}

/// The rule that holds for a URL.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Located {
    /// Service number.
    pub service: u32,
    /// Content key (0 unless the service chooses by content).
    pub content: u64,
    /// Hint scope.
    scope: u32,
    /// Bytes of the URL that the prefix scope covers.
    prefix: u32,
    /// Bytes of the host that make the suffix handled here.
    suffix: u32,
    /// Zone number of the host's suffix.
    zone: u32,
    /// Labels before the suffix.
    codepoint: usize,
    /// The host's rule.
    host: NameEntry,
    /// Leading path segments that were read.
    segments: usize,
}

/// Outcome of reading or locating: goes on, or ends here.
type Step<T> = Result<T, Stop>;

/// Why there is no answer with endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Reason in the slow path's answer.
    pub reason: Reason,
    /// Reason for the fast path to punt.
    pub punt: Reason,
    /// Status of the answer; `None` is silence.
    pub status: Option<Status>,
}

impl Stop {
    const NOT_A_REQUEST: Self =
        Self { reason: Reason::NotARequest, punt: Reason::PuntCdsrForm, status: None };
    const BAD: Self =
        Self { reason: Reason::CdsrBadRequest, punt: Reason::PuntCdsrForm, status: Some(Status::BadRequest) };
    const VERSION: Self =
        Self { reason: Reason::CdsrBadVersion, punt: Reason::PuntCdsrForm, status: Some(Status::BadVersion) };
    const NOT_MINE: Self =
        Self { reason: Reason::NotOurUrl, punt: Reason::PuntCdsrForm, status: Some(Status::NotMine) };
    const TABLE: Self = Self { reason: Reason::PuntTable, punt: Reason::PuntTable, status: None };
    const CHOICE: Self = Self { reason: Reason::PuntChoice, punt: Reason::PuntChoice, status: None };
    const LONG: Self = Self { punt: Reason::PuntLabels, ..Self::BAD };
    const PROOF: Self = Self { reason: Reason::PuntProof, punt: Reason::PuntProof, status: None };
}

/// A request's way from phase to phase; its server list goes into the query.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    place: UrlPlace,
    located: Located,
    families: u32,
    /// Entries of the server list.
    servers: usize,
    /// Endpoints asked for, and how many of them fit.
    asked_for: u32,
    fits: u32,
    answer: Answer,
}

/// What the reply says.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Answer {
    status: u32,
    lifetime: u32,
    endpoints: u32,
    /// A rule was found: the hints mean something.
    located: bool,
    more: bool,
    policy_class: u32,
    /// Port of all endpoints; 0: each server's own.
    port: u32,
}

impl Work {
    /// Where the request's URL lies.
    pub fn url(&self) -> UrlPlace {
        self.place
    }
}

/// Turns a request into its reply, however many there are.
#[inline(always)]
pub fn respond<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    asked: &Asked<'_>,
    tables: &T,
    scratch: &mut Scratch,
) -> Action {
    respond_within::<M, T, Unlimited, FULL>(message, asked, tables, &mut Unlimited, scratch)
}

/// Turns a request into its reply, within the client's limit. The time must stand in the scratch's `limit`.
#[inline(always)]
pub fn respond_within<M: Message, T: Tables, L: Limits, const FULL: bool>(
    message: &mut M,
    asked: &Asked<'_>,
    tables: &T,
    limits: &mut L,
    scratch: &mut Scratch,
) -> Action {
    let Some(meta) = tables.meta() else { return scratch.trace.with(Reason::PuntTable, Action::Punt) };
    scratch.limit.begin::<L>(&asked.client, &meta.keys);
    let end = match answer::<M, T, FULL>(message, asked, tables, scratch) {
        Ok(()) => None,
        Err(stop) if !FULL || stop.reason == Reason::PuntProof => {
            return scratch.trace.with(stop.punt, Action::Punt);
        }
        Err(Stop { reason, status: None, .. }) => return scratch.trace.with(reason, Action::Ignore),
        Err(Stop { reason, status: Some(status), .. }) => Some((reason, status)),
    };
    if let Some((reason, status)) = end {
        scratch.trace.reason = reason;
        scratch.cdsr.answer = Answer::of(status);
    }
    phase();
    if !scratch.limit.admits(limits, meta, Class::Cdsr) {
        if !limit::slips(limits, meta) {
            scratch.trace.over_limit(Reason::LimitCdsrDrop);
            return Action::Drop;
        }
        scratch.trace.over_limit(Reason::LimitCdsr);
        scratch.cdsr.answer = Answer::of(Status::RetryLater);
    }
    phase();
    write::<M, T, FULL>(message, tables, scratch)
}

impl Answer {
    fn of(status: Status) -> Self {
        let lifetime = match status {
            Status::NotMine => NOT_MINE_LIFETIME,
            Status::RetryLater => RETRY_DELAY,
            _ => 0,
        };
        Self { status: status as u32, lifetime, ..Self::default() }
    }
}

#[inline(always)]
fn answer<M: Message, T: Tables, const FULL: bool>(
    message: &M,
    asked: &Asked<'_>,
    tables: &T,
    scratch: &mut Scratch,
) -> Step<()> {
    let Scratch { labels, query, verdict, trace, proof, cdsr: work, .. } = scratch;
    look_ahead::<T, FULL>(&asked.client, tables, query).ok_or(Stop::TABLE)?;
    let keys = &tables.meta().ok_or(Stop::TABLE)?.keys;
    read::<M, FULL>(message, work)?;
    phase();
    read_servers::<M, FULL>(message, keys, work.servers, query)?;
    phase();
    locate::<M, T, FULL>(message, &work.place, asked.vip, tables, labels, &mut work.located)?;
    phase();
    if FULL {
        slow::admit(tables, proof, &mut work.located, trace)?;
    }
    let number = work.located.service;
    let mut service = tables.service(number).ok_or(Stop::TABLE)?;
    trace.service = number;
    let mut outside = false;
    let mut v6 = family(work.families, asked.client.v6 != 0, service);
    let policy_class = service.policy_class as u32;
    work.answer =
        Answer { lifetime: service.hint_lifetime, located: true, policy_class, ..Answer::default() };
    if FULL && service.flags & SERVICE_PORT != 0 {
        work.answer.port = service.port as u32;
    }
    query.client = asked.client;
    query.service = number;
    query.content = work.located.content;
    query.spread = asked.port as u64;
    if service.flags & (SERVICE_OUTCOMES | SERVICE_PROOF) != 0 {
        let servers = before_servers::<T, FULL>(service, tables, query, verdict, trace, work)?;
        if servers == NONE {
            return Ok(());
        }
        if FULL && servers != number {
            (service, outside) = (tables.service(servers).ok_or(Stop::TABLE)?, true);
            v6 = family(work.families, asked.client.v6 != 0, service);
        }
    }
    if service.flags & if v6 { SERVICE_HAS_IPV6 } else { SERVICE_HAS_IPV4 } == 0 {
        trace.reason = Reason::NoDataFamily;
        return Ok(());
    }
    query.family = v6 as u32;
    query.want = work.asked_for.min(work.fits);
    phase();
    decide::<T, FULL>(query, service, tables, verdict);
    phase();
    if FULL && outside {
        verdict.become_foreign();
    }
    trace.verdict(number, verdict);
    if verdict.reason.is_punt() {
        return Err(Stop { reason: verdict.reason, punt: verdict.reason, status: None });
    }
    if verdict.reason == Reason::NothingUsable || (verdict.count == 0 && query.want > 0) {
        work.answer = Answer::of(Status::RetryLater);
        return Ok(());
    }
    work.answer.more = query.want < work.asked_for && verdict.count == query.want;
    work.answer.endpoints = verdict.count;
    Ok(())
}

/// For a service that has others than servers: the number of the one that chooses among servers, or [`NONE`] if the client
/// gets none.
#[inline(always)]
fn before_servers<T: Tables, const FULL: bool>(
    service: &Service,
    tables: &T,
    query: &mut Query,
    verdict: &mut Verdict,
    trace: &mut Trace,
    work: &mut Work,
) -> Step<u32> {
    if !FULL && service.flags & SERVICE_PROOF != 0 {
        trace.service = NONE;
        return Err(Stop::PROOF);
    }
    let number = work.located.service;
    outcome::decide::<T, FULL>(query, service, tables, verdict).ok_or(Stop::TABLE)?;
    phase();
    if verdict.reason.is_punt() {
        trace.verdict(number, verdict);
        return Err(Stop { reason: verdict.reason, punt: verdict.reason, status: None });
    }
    if verdict.count == 0 {
        return Ok(number);
    }
    let target = tables.target(verdict.targets[0]).ok_or(Stop::TABLE)?;
    if target.outcome != OUTCOME_ADDRESS {
        // Another name or a delegation is no endpoint: the legacy protocol leads there.
        trace.outcome(number, service, verdict);
        work.answer.status = Status::UseLegacy as u32;
        work.located.suffix = 0;
        return Ok(NONE);
    }
    let servers = outcome::servers(number, service, target, verdict, trace);
    if FULL || servers == number { Ok(servers) } else { Err(Stop::CHOICE) }
}

/// Family of the endpoints: the one asked for; the datagram's if both will do and the service has it.
#[inline(always)]
fn family(families: u32, client_v6: bool, service: &Service) -> bool {
    let has_v4 = service.flags & SERVICE_HAS_IPV4 != 0;
    let has_v6 = service.flags & SERVICE_HAS_IPV6 != 0;
    match families {
        0 => client_v6,
        1 => false,
        2 => true,
        _ => (client_v6 && has_v6) || !has_v4,
    }
}

#[inline(always)]
fn read<M: Message, const FULL: bool>(message: &M, work: &mut Work) -> Step<()> {
    if message.len() < REPLY_HEADER {
        return Err(Stop::NOT_A_REQUEST);
    }
    let head = message.block::<REQUEST_HEADER>(0).ok_or(Stop::NOT_A_REQUEST)?;
    let word =
        |at: usize| word_of::<u32, REQUEST_HEADER>(head, at).map(u32::from_be).ok_or(Stop::NOT_A_REQUEST);
    let (first, wants, counts, lengths) = (word(0)?, word(12)?, word(16)?, word(20)?);
    let (families, url) = (wants >> 24, wants as usize & 0xffff);
    let (host_at, host_length) = ((counts >> 24) as usize, counts as usize >> 16 & 0xff);
    let (servers, extensions) = (counts as usize >> 8 & 0xff, lengths as usize >> 16);
    let start = REQUEST_HEADER + servers * SERVER_ENTRY;
    let end = start + url;
    let reserved = counts & 0xff | lengths & 0xffff;
    // What is wrong in the order of the answers to it; the fast path wants to know only whether anything is.
    let strange = first >> 16 ^ MAGIC as u32 | first & REPLY as u32;
    let version = first >> 8 & 0xff ^ VERSION as u32;
    let wrong = first & 0xff ^ RESOLVE as u32 | families >> 2 | reserved;
    let sizes = above(servers, MAX_EXCLUDED)
        | above(MIN_URL, url)
        | above(url, MAX_URL)
        | above(end + extensions, message.len())
        | above(1, host_length)
        | above(host_at + host_length, url);
    if !FULL {
        let punted = extensions | above(servers, FAST_EXCLUDED as usize);
        if (strange | version | wrong) as usize | sizes | punted != 0 {
            return Err(Stop::BAD);
        }
    } else if strange != 0 {
        return Err(Stop::NOT_A_REQUEST);
    } else if version != 0 {
        return Err(Stop::VERSION);
    } else if wrong != 0 || sizes != 0 {
        return Err(Stop::BAD);
    }
    let host = start + host_at;
    let scheme = scheme(message, start, host_at)?;
    work.place = UrlPlace { start, end, host, host_end: host + host_length, scheme: scheme as u32 };
    check_host_end(message, &work.place)?;
    if FULL {
        check_extensions(message, end, extensions)?;
    }
    (work.families, work.servers) = (families, servers);
    work.asked_for = match wants >> 16 & 0xff {
        0 => FAST_ENDPOINTS,
        some => some.min(MAX_ENDPOINTS as u32),
    };
    work.fits = endpoints_within(message.len() - REPLY_HEADER).min(MAX_ENDPOINTS as u32);
    Ok(())
}

/// 1 if `a` is more than `b`, else 0; without a branch, see [`less`].
#[inline(always)]
fn above(a: usize, b: usize) -> usize {
    less(b as u64, a as u64) as usize
}

/// Endpoints that fit so many bytes, without a division, of which the CPU makes more than of all the rest of a request.
#[inline(always)]
fn endpoints_within(bytes: usize) -> u32 {
    // 2731 / 65536 is a 24th and a bit, too little to count below 20 000.
    const { assert!(ENDPOINT == 24) };
    (bytes.min(MAX_ENDPOINTS * ENDPOINT) as u32 * 2731) >> 16
}

/// Scheme of the URL at `start`, whose host must follow it at once: no user information (RFC 3986 section 3.2.1).
#[inline(always)]
fn scheme<M: Message>(message: &M, start: usize, host_at: usize) -> Step<Scheme> {
    const SEVEN: u64 = 0x00ff_ffff_ffff_ffff;
    let word = fold_case(u64::from_le(message.load(start).ok_or(Stop::BAD)?));
    let (scheme, length) = if word & SEVEN == u64::from_le_bytes(*b"http://\0") {
        (Scheme::Http, 7)
    } else if word & SEVEN == u64::from_le_bytes(*b"rtsp://\0") {
        (Scheme::Rtsp, 7)
    } else if word == u64::from_le_bytes(*b"https://") {
        (Scheme::Https, 8)
    } else {
        return Err(Stop::NOT_MINE);
    };
    if host_at == length { Ok(scheme) } else { Err(Stop::BAD) }
}

/// The host must be followed by the URL's end or a delimiter: a lying length is refused.
#[inline(always)]
fn check_host_end<M: Message>(message: &M, place: &UrlPlace) -> Step<()> {
    if place.host_end == place.end {
        return Ok(());
    }
    match message.load::<u8>(place.host_end) {
        Some(b'/' | b':' | b'?' | b'#') => Ok(()),
        _ => Err(Stop::BAD),
    }
}

/// Extensions must fill their room; none is known, so a critical one is refused.
fn check_extensions<M: Message>(message: &M, start: usize, length: usize) -> Step<()> {
    let end = start + length;
    let mut at = start;
    while at < end {
        let word = message.load::<u32>(at).map(u32::from_be).ok_or(Stop::BAD)?;
        if (word >> 16) as u16 & CRITICAL != 0 {
            return Err(Stop::BAD);
        }
        at += 4 + (word as usize & 0xffff);
    }
    if at == end { Ok(()) } else { Err(Stop::BAD) }
}

#[inline(always)]
fn read_servers<M: Message, const FULL: bool>(
    message: &M,
    keys: &Keys,
    servers: usize,
    query: &mut Query,
) -> Step<()> {
    (query.excluded[0], query.preferred) = (0, 0);
    if servers == 0 {
        return Ok(());
    }
    query.excluded = [0; MAX_EXCLUDED];
    let mut failed = 0usize;
    for index in 0..if FULL { MAX_EXCLUDED } else { FAST_EXCLUDED as usize } {
        if index >= servers {
            break;
        }
        let at = REQUEST_HEADER + index * SERVER_ENTRY;
        let (Some(high), Some(low), Some(kind)) =
            (message.load::<u64>(at), message.load::<u64>(at + 8), message.load::<u32>(at + 16))
        else {
            return Err(Stop::BAD);
        };
        let digest = keys.address([high, low]);
        match (u32::from_be(kind) >> 8) as u8 {
            SERVER_FAILED => {
                query.excluded[failed & (MAX_EXCLUDED - 1)] = digest;
                failed += 1;
            }
            SERVER_PREFERRED if FULL => query.preferred = digest,
            _ => return Err(Stop::BAD),
        }
    }
    Ok(())
}

/// Finds the rule for a URL that lies in a message.
#[inline(always)]
pub fn locate<M: Message, T: Tables, const FULL: bool>(
    message: &M,
    place: &UrlPlace,
    vip: &VipEntry,
    tables: &T,
    labels: &mut Labels,
    located: &mut Located,
) -> Step<()> {
    let keys = tables.meta().ok_or(Stop::TABLE)?.keys;
    let space = SPACE_URL + place.scheme;
    find_zone::<M, T, FULL>(message, &keys, place, vip, tables, labels, located)?;
    phase();
    let zone = tables.zone(located.zone).ok_or(Stop::TABLE)?;
    located.host = lookup::rule(tables, labels, located.codepoint, space, located.zone, zone);
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
    message: &M,
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
    located.codepoint = scan_host::<M, FULL>(message, keys, place.host, end, labels)?;
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
fn scan_host<M: Message, const FULL: bool>(
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
fn content<M: Message, const FULL: bool>(message: &M, keys: &Keys, place: &UrlPlace) -> Step<u64> {
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

/// Writes the reply: everything but the nonce is new.
#[inline(always)]
fn write<M: Message, T: Tables, const FULL: bool>(
    message: &mut M,
    tables: &T,
    scratch: &mut Scratch,
) -> Action {
    let Scratch { query, verdict, trace, cdsr: Work { place, located, answer, .. }, .. } = scratch;
    let Some(nonce) = message.load::<u64>(4) else { return trace.with(Reason::NotARequest, Action::Ignore) };
    let count = answer.endpoints as usize & 15;
    if let Err(reason) = message.begin_reply(0, REPLY_HEADER + count * ENDPOINT) {
        return trace.with(reason, Action::Punt);
    }
    let first = (MAGIC as u32) << 16 | (VERSION as u32) << 8 | (REPLY | RESOLVE) as u32;
    let (scope, prefix, suffix) =
        if answer.located { (located.scope, located.prefix, located.suffix) } else { (0, 0, 0) };
    let status = answer.status << 24 | (count as u32) << 16 | trace.reason as u32;
    let hint = scope << 24 | (answer.more as u32 * FLAG_MORE) << 16 | prefix;
    let nonce = u64::from_be(nonce);
    let words = [
        (first as u64) << 32 | nonce >> 32,
        nonce << 32 | status as u64,
        (answer.lifetime as u64) << 32 | hint as u64,
    ];
    let mut done = message.append_words::<24, 3>(0, words.map(u64::to_be));
    done = done.and(message.append(24, (suffix << 24).to_be()));
    for index in 0..MAX_ENDPOINTS {
        if index >= count {
            break;
        }
        let (scheme, v6, policy_class) = (place.scheme, query.family != 0, answer.policy_class);
        let port = if FULL { answer.port } else { 0 };
        let endpoint = Endpoint { index, scheme, v6, policy_class, port };
        done = done.and_then(|()| write_endpoint(message, verdict, endpoint, tables));
    }
    match done {
        Some(()) => Action::Reply,
        None => trace.with(Reason::Internal, Action::Ignore),
    }
}

/// Which endpoint is written, and what the verdict does not tell of it.
struct Endpoint {
    index: usize,
    scheme: u32,
    v6: bool,
    policy_class: u32,
    /// 0: the server's own.
    port: u32,
}

/// The first endpoint is the choice, and what every other protocol would answer. The others are alternatives to it, all
/// alike: when it fails, its clients spread by share or as they prefer.
#[inline(always)]
fn write_endpoint<M: Message, T: Tables>(
    message: &mut M,
    verdict: &Verdict,
    endpoint: Endpoint,
    tables: &T,
) -> Option<()> {
    let Endpoint { index, scheme, v6, policy_class, port: other } = endpoint;
    let target = tables.target(verdict.targets[index])?;
    let at = REPLY_HEADER + index * ENDPOINT;
    let address = if v6 { target.ipv6 } else { lookup::mapped(target.ipv4) };
    let port = match scheme {
        _ if other != 0 => other as u16,
        0 => target.ports[0],
        1 => target.ports[1],
        _ => target.ports[2],
    };
    let tail = (port as u64) << 48
        | (index.min(1) as u64) << 40
        | (verdict.shares[index] as u64) << 32
        | (target.network as u64) << 16
        | (policy_class as u64) << 8;
    message.append_words::<24, 3>(at, [address[0], address[1], tail.to_be()])
}
