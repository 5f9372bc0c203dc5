//! What a stub remembers: answers and how far they reach, servers that failed, what was found out about hosts. Every list
//! is bounded and every entry ends.

use crate::stub::Found;
use crate::url::Url;
use crate::wire::{FailureKind, MAX_SERVERS, Opinion, Scope, ServerEntry};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// No answer is used for longer than this, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);
/// Failed servers remembered, over all hosts.
const FAILURES: usize = 64;

/// A bounded list of entries with an end. Looking up is linear: the lists are short, and what is looked for is not always
/// a key.
#[derive(Debug)]
pub(crate) struct Expiring<T> {
    entries: Vec<(Instant, T)>,
    limit: usize,
}

impl<T> Expiring<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit }
    }

    /// Adds an entry in place of those that `replaces` matches; when full, at the cost of the one that would end first. An
    /// entry that has already ended only replaces.
    pub(crate) fn insert(&mut self, now: Instant, until: Instant, entry: T, replaces: impl Fn(&T) -> bool) {
        self.entries.retain(|(end, old)| *end > now && !replaces(old));
        if until <= now {
            return;
        }
        if self.entries.len() >= self.limit {
            let first = self.entries.iter().enumerate().min_by_key(|(_, (end, _))| *end);
            let Some((index, _)) = first else { return };
            self.entries.remove(index);
        }
        self.entries.push((until, entry));
    }

    /// Entries that have not ended and their ends, the latest addition first.
    pub(crate) fn live(&self, now: Instant) -> impl Iterator<Item = (Instant, &T)> {
        self.entries.iter().rev().filter(move |(end, _)| *end > now).map(|(end, entry)| (*end, entry))
    }
}

/// What was learned about a set of URLs.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// These serve them.
    Found(Found),
    /// The redirector does not handle them; its reason.
    NotMine(u16),
    /// It wants them to use their own protocol; its reason.
    UseLegacy(u16),
    /// It must not be asked about them before the entry ends.
    RetryLater,
    /// Nobody answers for them.
    Silence(Vec<SocketAddr>),
}

/// A set of URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    Url(String),
    Origin(String),
    Prefix(String),
}

impl Reach {
    pub(crate) fn new(scope: Scope, url: &Url) -> Self {
        match scope {
            Scope::Url => Self::Url(url.as_str().to_owned()),
            Scope::Host => Self::Origin(url.origin().to_owned()),
            Scope::Prefix(len) => Self::Prefix(url.as_str()[..usize::from(len)].to_owned()),
        }
    }

    /// Whether the URL belongs to it, and how closely: an answer for the very URL beats one for a prefix, the longer the
    /// better, and any prefix is longer than the origin.
    fn closeness(&self, url: &Url) -> Option<usize> {
        match self {
            Self::Url(text) => (text == url.as_str()).then_some(usize::MAX),
            Self::Prefix(text) => url.as_str().starts_with(text.as_str()).then_some(text.len()),
            Self::Origin(text) => (text == url.origin()).then_some(text.len()),
        }
    }
}

#[derive(Debug)]
struct FailureNote {
    origin: String,
    server: SocketAddr,
    kind: FailureKind,
}

/// The redirector handles hosts under a suffix.
#[derive(Debug)]
struct SuffixNote {
    suffix: String,
    redirector: SocketAddr,
}

/// What a host's TXT record said.
#[derive(Debug)]
struct RecordNote {
    host: String,
    port: Option<u16>,
}

/// Everything that a stub remembers.
#[derive(Debug)]
pub(crate) struct Memory {
    answers: Expiring<(Reach, Outcome)>,
    failures: Expiring<FailureNote>,
    suffixes: Expiring<SuffixNote>,
    records: Expiring<RecordNote>,
}

impl Memory {
    /// Keeps up to `limit` answers, and as many notes about hosts.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            answers: Expiring::new(limit),
            failures: Expiring::new(FAILURES),
            suffixes: Expiring::new(limit),
            records: Expiring::new(limit),
        }
    }

    /// The closest answer for the URL, and its end.
    pub(crate) fn answer(&self, url: &Url, now: Instant) -> Option<(Instant, &Outcome)> {
        let matching = self.answers.live(now).filter_map(|(end, (reach, outcome))| {
            reach.closeness(url).map(|closeness| (closeness, end, outcome))
        });
        matching.max_by_key(|(closeness, ..)| *closeness).map(|(_, end, outcome)| (end, outcome))
    }

    /// Keeps an outcome; one with no lifetime at all ends what was known before.
    pub(crate) fn learn(&mut self, reach: Reach, outcome: Outcome, lifetime: Duration, now: Instant) {
        let entry = (reach.clone(), outcome);
        self.answers.insert(now, now + lifetime.min(LONGEST), entry, |(old, _)| *old == reach);
    }

    pub(crate) fn note_failure(
        &mut self,
        url: &Url,
        server: SocketAddr,
        kind: FailureKind,
        until: Instant,
        now: Instant,
    ) {
        let origin = url.origin().to_owned();
        self.failures.insert(now, until, FailureNote { origin, server, kind }, |old| {
            old.origin == url.origin() && old.server.ip() == server.ip()
        });
    }

    /// Servers of the URL's origin that failed lately, as many as a request can name, the latest first. Failures stay with
    /// the origin: no other redirector is told which servers a client used.
    pub(crate) fn failures(&self, url: &Url, now: Instant) -> Vec<ServerEntry> {
        let own = self.failures.live(now).filter(|(_, note)| note.origin == url.origin());
        own.map(|(_, note)| ServerEntry { server: note.server, opinion: Opinion::Failed(note.kind) })
            .take(MAX_SERVERS)
            .collect()
    }

    pub(crate) fn note_suffix(
        &mut self,
        suffix: &str,
        redirector: SocketAddr,
        lifetime: Duration,
        now: Instant,
    ) {
        let note = SuffixNote { suffix: suffix.to_owned(), redirector };
        self.suffixes.insert(now, now + lifetime.min(LONGEST), note, |old| {
            old.suffix == suffix && old.redirector == redirector
        });
    }

    /// Those of the host's `addresses` that said that they handle it. A hint only ever tells how an address that DNS gave
    /// for the host may be talked to; it never supplies the address.
    pub(crate) fn hinted(&self, host: &str, addresses: &[IpAddr], now: Instant) -> Vec<SocketAddr> {
        let under = |suffix: &str| {
            host.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        self.suffixes
            .live(now)
            .filter(|(_, note)| under(&note.suffix) && addresses.contains(&note.redirector.ip()))
            .map(|(_, note)| note.redirector)
            .collect()
    }

    pub(crate) fn note_record(&mut self, host: &str, port: Option<u16>, lifetime: Duration, now: Instant) {
        let note = RecordNote { host: host.to_owned(), port };
        self.records.insert(now, now + lifetime.min(LONGEST), note, |old| old.host == host);
    }

    /// What is known of the host's record: its port, or that there is none.
    pub(crate) fn record(&self, host: &str, now: Instant) -> Option<Option<u16>> {
        self.records.live(now).find(|(_, note)| note.host == host).map(|(_, note)| note.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect(text)
    }

    fn known(memory: &Memory, text: &str, now: Instant) -> Option<u16> {
        match memory.answer(&url(text), now)?.1 {
            Outcome::NotMine(reason) => Some(*reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn closest_scope_answers_and_other_origins_get_nothing() {
        let (mut memory, now) = (Memory::new(8), Instant::now());
        let asked = url("http://a.example/live/x");
        for (scope, reason) in [(Scope::Url, 1), (Scope::Prefix(22), 2), (Scope::Host, 3)] {
            memory.learn(Reach::new(scope, &asked), Outcome::NotMine(reason), Duration::from_secs(9), now);
        }
        assert_eq!(known(&memory, "http://a.example/live/x", now), Some(1));
        assert_eq!(known(&memory, "http://a.example/live/y", now), Some(2));
        assert_eq!(known(&memory, "http://a.example/other", now), Some(3));
        for other in ["https://a.example/live/x", "http://a.example:81/live/x", "http://a.example.org/live/x"]
        {
            assert_eq!(known(&memory, other, now), None, "{other}");
        }
    }

    #[test]
    fn answers_end_with_their_lifetime_and_never_last_over_an_hour() {
        let (mut memory, now) = (Memory::new(8), Instant::now());
        let asked = url("http://a.example/");
        memory.learn(
            Reach::new(Scope::Url, &asked),
            Outcome::NotMine(1),
            Duration::from_secs(u64::from(u32::MAX)),
            now,
        );
        assert_eq!(known(&memory, asked.as_str(), now + LONGEST - Duration::from_millis(1)), Some(1));
        assert_eq!(known(&memory, asked.as_str(), now + LONGEST), None);
        memory.learn(Reach::new(Scope::Url, &asked), Outcome::NotMine(2), Duration::ZERO, now);
        assert_eq!(known(&memory, asked.as_str(), now), None);
    }

    #[test]
    fn a_full_list_gives_up_what_would_end_first() {
        let (mut list, now) = (Expiring::new(3), Instant::now());
        for (entry, seconds) in [("a", 5), ("b", 1), ("c", 9), ("d", 3)] {
            list.insert(now, now + Duration::from_secs(seconds), entry, |_| false);
        }
        assert_eq!(list.live(now).map(|(_, e)| *e).collect::<Vec<_>>(), ["d", "c", "a"]);
    }

    #[test]
    fn failures_are_told_to_their_own_origin_only_and_latest_first() {
        let (mut memory, now) = (Memory::new(8), Instant::now());
        let until = now + Duration::from_secs(60);
        let mine = url("http://a.example/x");
        for i in 0..10 {
            let server = SocketAddr::from(([192, 0, 2, i], 80));
            memory.note_failure(&mine, server, FailureKind::Refused, until, now);
        }
        let told = memory.failures(&url("http://a.example/y"), now);
        assert_eq!(told.len(), MAX_SERVERS);
        assert_eq!(told[0].server, SocketAddr::from(([192, 0, 2, 9], 80)));
        assert!(memory.failures(&url("http://b.example/x"), now).is_empty());
        assert!(memory.failures(&mine, until).is_empty());
    }

    #[test]
    fn a_suffix_hint_needs_the_address_from_dns_and_whole_labels() {
        let (mut memory, now) = (Memory::new(8), Instant::now());
        let vip = SocketAddr::from(([203, 0, 113, 1], 2554));
        memory.note_suffix("cdn.example", vip, Duration::from_secs(60), now);
        assert_eq!(memory.hinted("b.cdn.example", &[vip.ip()], now), [vip]);
        assert_eq!(memory.hinted("cdn.example", &[vip.ip()], now), [vip]);
        assert!(memory.hinted("evilcdn.example", &[vip.ip()], now).is_empty());
        assert!(memory.hinted("b.cdn.example", &["192.0.2.1".parse().expect("an address")], now).is_empty());
    }
}
