//! The stub: a URL goes in, servers to use come out.

use crate::dns::Resolver;
use crate::error::Error;
use crate::exchange::{self, Answer, Failure, Timers};
use crate::memory::{Memory, Outcome, Reach};
use crate::order::{Family, Preferences, arrange};
use crate::prefixes::{PrefixListError, Watched};
use crate::random;
use crate::url::{Host, Url};
use crate::wire::{
    Endpoint, FailureKind, Families, MAX_SERVERS, Opinion, Reply, Request, Scope, ServerEntry, Status,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A redirector's wish to be left alone is bounded: no less, lest it be a flood, and no more, lest it be a trap.
const SHORTEST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// How often one resolution asks for replacements of failed servers.
const ROUNDS: u32 = 3;

/// How a stub works. The default suits most programs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Ask this redirector about every URL and find out nothing by oneself.
    pub server: Option<SocketAddr>,
    /// File with the prefixes of addresses that speak CDSR. It is followed when it changes.
    pub prefixes: Option<PathBuf>,
    /// Name servers to ask; empty is the system's way.
    pub dns: Vec<SocketAddr>,
    /// Address families of endpoints.
    pub families: Families,
    /// Endpoints wanted, 1 to 8; 0 leaves it to the redirector (4).
    pub max_endpoints: u8,
    /// Least length of requests in bytes, at most 1232.
    pub min_request: usize,
    /// What the client would rather use.
    pub preferences: Preferences,
    /// Shows that the client may have what it asks for; sent with every request, so it is for programs that ask on one
    /// authority's behalf. At most 128 bytes are sent.
    pub token: Option<String>,
    /// Timers.
    pub timers: Timers,
    /// Answers that are remembered; further ones push out those that end first.
    pub memory: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: None,
            prefixes: None,
            dns: Vec::new(),
            families: Families::default(),
            max_endpoints: 0,
            min_request: 0,
            preferences: Preferences::default(),
            token: None,
            timers: Timers::default(),
            memory: 256,
        }
    }
}

/// How it is known that an address speaks CDSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// From [`Config::server`].
    Configured,
    /// From the prefix list.
    PrefixList,
    /// From the host's TXT record.
    Record,
    /// From the redirector's reply about a host beside this one.
    Hint,
}

/// A usable answer.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) redirector: SocketAddr,
    pub(crate) learned: Learned,
    pub(crate) attempts: u32,
    pub(crate) reply: Reply,
}

/// Resolves URLs. Clones share what they remember; all methods may be called from any thread.
#[derive(Debug, Clone)]
pub struct Stub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    resolver: Resolver,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    memory: Memory,
    prefixes: Option<Watched>,
    prefix_problem: Option<PrefixListError>,
}

/// Whom to ask about a URL.
struct Place {
    redirectors: Vec<SocketAddr>,
    addresses: Vec<IpAddr>,
    learned: Learned,
}

impl Stub {
    /// A stub with nothing in its memory.
    ///
    /// # Errors
    /// The prefix list cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        let prefixes = config.prefixes.as_deref().map(Watched::open).transpose()?;
        let memory = Memory::new(config.memory);
        let resolver = Resolver::new(config.dns.clone());
        let state = Mutex::new(State { memory, prefixes, prefix_problem: None });
        Ok(Self { inner: Arc::new(Inner { config, resolver, state }) })
    }

    /// Servers for a URL, from memory if an answer that covers it has not ended.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::legacy_addresses`] tells whether the application can go on by itself.
    pub fn resolve(&self, url: &str) -> Result<Resolution, Error> {
        self.resolve_without(url, &[])
    }

    /// Like [`resolve`](Self::resolve), for an application that already knows of servers that fail it.
    ///
    /// # Errors
    /// As for [`resolve`](Self::resolve).
    pub fn resolve_without(
        &self,
        url: &str,
        failed: &[(SocketAddr, FailureKind)],
    ) -> Result<Resolution, Error> {
        let url: Url = url.parse()?;
        for (server, kind) in failed {
            self.note_failure(&url, *server, *kind);
        }
        let found = match self.recall(&url)? {
            Some(found) => found,
            None => self.ask(&url)?,
        };
        let endpoints = self.arranged(&url, &found.reply)?;
        Ok(Resolution { stub: self.clone(), url, found, endpoints, at: 0, failed: Vec::new(), rounds: 0 })
    }

    /// Why the last change of the prefix list's file was not followed; told once.
    pub fn take_prefix_problem(&self) -> Option<PrefixListError> {
        self.state().prefix_problem.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every method leaves the state usable at each step, so one that panicked did no harm.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_failure(&self, url: &Url, server: SocketAddr, kind: FailureKind) {
        let now = Instant::now();
        let until = now + self.inner.config.timers.failure;
        self.state().memory.note_failure(url, server, kind, until, now);
    }

    /// An answer from memory; `None` if a redirector must be asked.
    fn recall(&self, url: &Url) -> Result<Option<Found>, Error> {
        let now = Instant::now();
        let (end, outcome, failed) = {
            let state = self.state();
            let Some((end, outcome)) = state.memory.answer(url, now) else { return Ok(None) };
            (end, outcome.clone(), state.memory.failures(url, now))
        };
        match outcome {
            Outcome::Found(found) => {
                let usable = |e: &Endpoint| failed.iter().all(|f| f.server.ip() != e.server.ip());
                let some_left = found.reply.endpoints.iter().any(usable);
                Ok(some_left.then_some(Found { attempts: 0, ..found }))
            }
            Outcome::RetryLater => Err(Error::RetryLater { after: end - now }),
            Outcome::NotMine(reason) => {
                Err(Error::NotMine { redirector: None, reason, addresses: self.addresses(url)? })
            }
            Outcome::UseLegacy(reason) => Err(Error::UseLegacy { reason, addresses: self.addresses(url)? }),
            Outcome::Silence(redirectors) => {
                Err(Error::NoAnswer { redirectors, addresses: self.addresses(url)? })
            }
        }
    }

    /// Finds a redirector for the URL and asks it, until there is an answer or no time left.
    fn ask(&self, url: &Url) -> Result<Found, Error> {
        let config = &self.inner.config;
        let place = self.place(url)?;
        let deadline = Instant::now() + config.timers.total;
        let mut attempts = 0;
        loop {
            let servers = self.server_list(url);
            let request = Request {
                nonce: 0, // each redirector gets one of its own
                families: config.families,
                max_endpoints: config.max_endpoints,
                url,
                servers: &servers,
                token: config.token.as_deref(),
                min_len: config.min_request,
            };
            let answer = match exchange::ask(&place.redirectors, &request, &config.timers, deadline) {
                Ok(answer) => answer,
                Err(Failure::Silence) => return Err(self.silence(url, place)?),
                Err(Failure::Random(e)) => return Err(Error::Random(e)),
            };
            attempts += answer.attempts;
            let Status::RetryLater(delay) = answer.reply.status else {
                return self.conclude(url, place, Answer { attempts, ..answer });
            };
            let delay = random::scaled(delay.clamp(SHORTEST_DELAY, LONGEST_DELAY), 1.0, 1.25)?;
            // Servers that failed are not back within a transaction.
            let hopeless = servers.iter().any(|entry| entry.opinion != Opinion::Preferred);
            if hopeless || Instant::now() + delay >= deadline {
                self.learn(Reach::new(answer.reply.scope, url), Outcome::RetryLater, delay);
                return Err(Error::RetryLater { after: delay });
            }
            thread::sleep(delay);
        }
    }

    /// Turns a settled answer into a result and remembers it.
    fn conclude(&self, url: &Url, place: Place, answer: Answer) -> Result<Found, Error> {
        let Answer { redirector, reply, attempts } = answer;
        let Place { addresses, learned, .. } = place;
        let reach = Reach::new(reply.scope, url);
        let (reason, lifetime) = (reply.reason, reply.lifetime);
        match reply.status {
            Status::Handled if reply.endpoints.is_empty() => Err(Error::NoEndpoint { reason, addresses }),
            Status::Handled => {
                if let Some(suffix) = &reply.handled_suffix {
                    self.state().memory.note_suffix(suffix, redirector, lifetime, Instant::now());
                }
                let found = Found { redirector, learned, attempts, reply };
                // An answer that leaves out failed servers is good for as long as they are.
                let failures = self.state().memory.failures(url, Instant::now());
                let most = if failures.is_empty() { lifetime } else { self.inner.config.timers.failure };
                self.learn(reach, Outcome::Found(found.clone()), lifetime.min(most));
                Ok(found)
            }
            Status::NotMine => {
                self.learn(reach, Outcome::NotMine(reason), lifetime);
                Err(Error::NotMine { redirector: Some(redirector), reason, addresses })
            }
            Status::UseLegacy => {
                self.learn(reach, Outcome::UseLegacy(reason), lifetime);
                Err(Error::UseLegacy { reason, addresses })
            }
            Status::Denied => Err(Error::Denied { reason }),
            Status::RetryLater(after) => Err(Error::RetryLater { after }),
            Status::BadRequest => Err(Error::Refused { redirector, version: false, reason, addresses }),
            Status::VersionNotSupported => {
                Err(Error::Refused { redirector, version: true, reason, addresses })
            }
        }
    }

    /// Remembers that nobody answers for the URL's origin.
    fn silence(&self, url: &Url, place: Place) -> Result<Error, Error> {
        let Place { redirectors, addresses, .. } = place;
        let hold = random::scaled(self.inner.config.timers.silence, 0.75, 1.25)?;
        let reach = Reach::Origin(url.origin().to_owned());
        self.learn(reach, Outcome::Silence(redirectors.clone()), hold);
        Ok(Error::NoAnswer { redirectors, addresses })
    }

    fn learn(&self, reach: Reach, outcome: Outcome, lifetime: Duration) {
        self.state().memory.learn(reach, outcome, lifetime, Instant::now());
    }

    /// Failed servers first, since a request that does not name them brings them back; then preferred ones.
    fn server_list(&self, url: &Url) -> Vec<ServerEntry> {
        let mut servers = self.state().memory.failures(url, Instant::now());
        let failed = servers.len();
        for net in &self.inner.config.preferences.prefer {
            if net.prefix_len() == net.max_prefix_len() {
                let server = SocketAddr::new(net.addr(), 0);
                servers.push(ServerEntry { server, opinion: Opinion::Preferred });
            }
        }
        servers.truncate(MAX_SERVERS);
        // The last is the one most wanted (section 5.1).
        servers[failed..].reverse();
        servers
    }

    /// Which redirectors to ask about the URL.
    fn place(&self, url: &Url) -> Result<Place, Error> {
        if let Some(server) = self.inner.config.server {
            let addresses = match url.host() {
                Host::Address(address) => vec![address],
                Host::Name(_) => Vec::new(),
            };
            return Ok(Place { redirectors: vec![server], addresses, learned: Learned::Configured });
        }
        let addresses = self.addresses(url)?;
        let listed = self.listed(&addresses);
        if !listed.is_empty() {
            return Ok(Place { redirectors: listed, addresses, learned: Learned::PrefixList });
        }
        let Host::Name(host) = url.host() else { return Err(Error::NotCdsr { addresses }) };
        let hinted = self.state().memory.hinted(host, &addresses, Instant::now());
        if !hinted.is_empty() {
            return Ok(Place { redirectors: hinted, addresses, learned: Learned::Hint });
        }
        let Some(port) = self.recorded_port(host) else { return Err(Error::NotCdsr { addresses }) };
        let redirectors = addresses.iter().map(|a| SocketAddr::new(*a, port)).collect();
        Ok(Place { redirectors, addresses, learned: Learned::Record })
    }

    fn listed(&self, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(prefixes) = &mut state.prefixes else { return Vec::new() };
        if let Err(problem) = prefixes.refresh(Instant::now()) {
            state.prefix_problem = Some(problem);
        }
        prefixes.list().redirectors(addresses)
    }

    fn recorded_port(&self, host: &str) -> Option<u16> {
        if let Some(known) = self.state().memory.record(host, Instant::now()) {
            return known;
        }
        let (port, lifetime) = self.inner.resolver.cdsr_port(host);
        self.state().memory.note_record(host, port, lifetime, Instant::now());
        port
    }

    /// Addresses of the URL's host, those of a wanted family first. Nothing is looked up where the redirector is given.
    fn addresses(&self, url: &Url) -> Result<Vec<IpAddr>, Error> {
        let config = &self.inner.config;
        let host = match url.host() {
            Host::Address(address) => return Ok(vec![address]),
            Host::Name(_) if config.server.is_some() => return Ok(Vec::new()),
            Host::Name(host) => host,
        };
        let found = self.inner.resolver.addresses(host);
        let mut addresses = found.map_err(|source| Error::NoAddress { host: host.to_owned(), source })?;
        let wanted = match config.families {
            Families::V4 => Some(Family::V4),
            Families::V6 => Some(Family::V6),
            Families::SameAsRequest | Families::Both => config.preferences.family,
        };
        if let Some(wanted) = wanted {
            addresses.sort_by_key(|a| a.is_ipv4() != (wanted == Family::V4));
        }
        Ok(addresses)
    }

    fn arranged(&self, url: &Url, reply: &Reply) -> Result<Vec<Endpoint>, Error> {
        let failed = self.state().memory.failures(url, Instant::now());
        let failed: Vec<IpAddr> = failed.iter().map(|f| f.server.ip()).collect();
        let mut endpoints = reply.endpoints.clone();
        arrange(&mut endpoints, &self.inner.config.preferences, &failed, random::number)?;
        Ok(endpoints)
    }
}

/// Servers for one URL, in the order in which to try them.
#[derive(Debug, Clone)]
pub struct Resolution {
    stub: Stub,
    url: Url,
    found: Found,
    /// Never empty.
    endpoints: Vec<Endpoint>,
    at: usize,
    failed: Vec<IpAddr>,
    rounds: u32,
}

impl Resolution {
    /// The endpoint to use now.
    pub fn current(&self) -> Endpoint {
        self.endpoints[self.at]
    }

    /// All endpoints of the last answer, in the order of trial.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The URL asked for, in the form it was sent.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Who answered.
    pub fn redirector(&self) -> SocketAddr {
        self.found.redirector
    }

    /// How the redirector was found.
    pub fn learned(&self) -> Learned {
        self.found.learned
    }

    /// Datagrams sent for the answer; 0 if it came from memory.
    pub fn attempts(&self) -> u32 {
        self.found.attempts
    }

    /// The answer as received: reason, lifetime, scope and hints.
    pub fn reply(&self) -> &Reply {
        &self.found.reply
    }

    /// The beginning that all URLs of the answer's scope have in common.
    pub fn covers(&self) -> &str {
        match self.found.reply.scope {
            Scope::Url => self.url.as_str(),
            Scope::Host => self.url.origin(),
            Scope::Prefix(len) => &self.url.as_str()[..usize::from(len)],
        }
    }

    /// Notes that a server does not serve the client. Later resolutions of the same host avoid it for a while, and the
    /// redirector is told when it is asked next.
    pub fn report_failure(&mut self, server: SocketAddr, kind: FailureKind) {
        self.stub.note_failure(&self.url, server, kind);
        if !self.failed.contains(&server.ip()) {
            self.failed.push(server.ip());
        }
    }

    /// Moves on to the next endpoint that has not failed. The one left counts as failed, whether reported or not. When the
    /// list is used up, the redirector is asked again and told of the failed servers.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when the redirector names only servers that failed, or was asked three times; else as for
    /// [`Stub::resolve`].
    pub fn next_endpoint(&mut self) -> Result<Endpoint, Error> {
        let left = self.current().server;
        if !self.failed.contains(&left.ip()) {
            self.report_failure(left, FailureKind::Unspecified);
        }
        if !self.advance() {
            if self.rounds == ROUNDS {
                return Err(Error::Exhausted { failed: self.failed.clone() });
            }
            self.rounds += 1;
            let found = self.stub.ask(&self.url)?;
            self.endpoints = self.stub.arranged(&self.url, &found.reply)?;
            self.found = found;
            self.at = 0;
            if !self.advance() {
                return Err(Error::Exhausted { failed: self.failed.clone() });
            }
        }
        Ok(self.current())
    }

    /// Stands at the first endpoint, from the present one on, that has not failed; false if there is none.
    fn advance(&mut self) -> bool {
        let usable = |e: &Endpoint| !self.failed.contains(&e.server.ip());
        let found = self.endpoints[self.at..].iter().position(usable);
        self.at += found.unwrap_or(0);
        found.is_some()
    }
}
