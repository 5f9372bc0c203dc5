//! Proofs in names, URLs and requests: tags, tokens and sealed names are examined here, outside of the core, which then
//! goes on with what they came to (P-10, P-15; ADR 15).

use super::url::{self, Url};
use crate::state::Generation;
use redirector_core::lookup::{self, Labels, MAX_LABELS, Scheme};
use redirector_core::table::{NONE, SERVICE_DNS_VIP, SERVICE_SRV, SPACE_DNS, Tables, VipEntry};
use redirector_core::wire::cdsr::{UrlPlace, extensions};
use redirector_core::wire::{self, Proof, dns};
use redirector_names::{Key, Purpose, Rejected, is_part, open, verify_name, verify_url};
use redirector_plan::proofs::{Asks, Bad, ProofSpec};
use std::fmt;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// CDSR extension that is a token (docs/cdsr-protocol.md section 12.3).
const TOKEN_EXTENSION: u16 = 1;
/// Proofs that can be asked for one after the other: a seal, a tag within it, a token.
const MOST: usize = 3;

/// What one proof came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was examined.
    pub(crate) what: &'static str,
    /// Name of its key, and what it says; or why it is good for nothing.
    pub(crate) outcome: Result<String, Rejected>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(key) => write!(f, "{}: good, by key {key}", self.what),
            Err(why) => write!(f, "{}: {why}", self.what),
        }
    }
}

/// What all proofs of a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Examined {
    /// For the core.
    pub(crate) proof: Proof,
    /// Path and query without a token, if they had one.
    pub(crate) path: Option<String>,
    /// One after the other.
    pub(crate) findings: Vec<Finding>,
}

/// What is asked for, by whom, and what a request carries beside it.
#[derive(Debug, Clone)]
pub(crate) struct Carried<'c> {
    client: IpAddr,
    /// Labels of the name or host, leftmost first, as they came.
    labels: Vec<String>,
    asked: Asked<'c>,
}

#[derive(Debug, Clone)]
enum Asked<'c> {
    /// A name, and whether addresses alone are asked for, with which no port can be told.
    Name { addresses: bool },
    /// A URL, and a token that came apart from it.
    Url { url: Url<'c>, token: Option<&'c str> },
}

impl<'c> Carried<'c> {
    /// By a DNS message, whose question has been read; `None` if it has none.
    pub(crate) fn by_dns(message: &[u8], client: IpAddr) -> Option<Self> {
        let mut labels = Vec::new();
        let mut rest = message.get(dns::HEADER..)?;
        loop {
            let (length, tail) = rest.split_first()?;
            if *length == 0 {
                let addresses = matches!(tail.first_chunk()?, [0, 1 | 28 | 255]);
                return Some(Self { client, labels, asked: Asked::Name { addresses } });
            }
            let (label, tail) = tail.split_at_checked((*length).into())?;
            labels.push(String::from_utf8_lossy(label).into_owned());
            rest = tail;
        }
    }

    /// By a URL.
    pub(crate) fn by_url(url: Url<'c>, token: Option<&'c str>, client: IpAddr) -> Self {
        let labels = match url.host.starts_with('[') {
            true => vec![url.host.to_owned()],
            false => url.host.split('.').map(str::to_owned).collect(),
        };
        Self { client, labels, asked: Asked::Url { url, token } }
    }

    /// By a CDSR request, which has been read.
    pub(crate) fn by_cdsr(message: &'c [u8], place: &UrlPlace, client: IpAddr) -> Option<Self> {
        let text = |from: usize, to: usize| std::str::from_utf8(message.get(from..to)?).ok();
        let known = [Scheme::Http, Scheme::Https, Scheme::Rtsp];
        let scheme = known.into_iter().find(|scheme| *scheme as u32 == place.scheme)?;
        let rest = text(place.host_end, place.end)?;
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let path = rest[authority..].split('#').next().unwrap_or_default();
        let url = Url::new(scheme, text(place.host, place.host_end + authority)?, path)?;
        let token = extensions(message, place.end).find(|(kind, _)| *kind == TOKEN_EXTENSION);
        let token = token.and_then(|(_, value)| std::str::from_utf8(value).ok());
        Some(Self::by_url(url, token, client))
    }
}

/// Examines what a request carries for service number `service`, which stands for others; it came to `vip`.
pub(crate) fn examine<T: Tables>(
    generation: &Generation,
    tables: &T,
    vip: &VipEntry,
    service: u32,
    carried: Carried<'_>,
) -> Examined {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let examined = Examined { proof: Proof::denied(wire::REFUSED), path: None, findings: Vec::new() };
    let mut examination =
        Examination { generation, tables, vip, now, carried, zone: None, sealed: false, examined };
    examination.examined.proof = examination.run(service);
    examination.examined
}

struct Examination<'e, T> {
    generation: &'e Generation,
    tables: &'e T,
    vip: &'e VipEntry,
    /// Unix time.
    now: u64,
    /// Without what was examined already.
    carried: Carried<'e>,
    /// Of a name: its zone.
    zone: Option<usize>,
    /// The name was opened: what it says does not stand in the message.
    sealed: bool,
    examined: Examined,
}

impl<T: Tables> Examination<'_, T> {
    fn run(&mut self, mut service: u32) -> Proof {
        for _ in 0..MOST {
            let generation = self.generation;
            let Some(spec) = generation.compiled.proof(service) else { return self.admitted(service) };
            self.zone = self.zone.or(spec.zone);
            if spec.asks == Asks::Seal && self.is_part(spec) {
                return Proof::denied(wire::PARTIAL);
            }
            let good = match &spec.asks {
                Asks::Grade(place) => self.tag(spec, *place, Purpose::Grade).then_some(spec.good),
                Asks::Access { place, parameter } => {
                    self.access(spec, *place, parameter.as_deref()).then_some(spec.good)
                }
                Asks::Seal => self.unseal(spec),
            };
            service = match (good, spec.bad) {
                (Some(good), _) => good,
                (None, Bad::Service(other)) => other,
                (None, Bad::Port(other)) if !self.wants_address_of(other) => other,
                (None, Bad::Refused | Bad::Port(_)) => return Proof::denied(wire::REFUSED),
                (None, Bad::Empty) => return Proof::denied(wire::EMPTY),
            };
        }
        self.admitted(service)
    }

    /// A service without further proofs.
    fn admitted(&self, service: u32) -> Proof {
        let flags = self.tables.service(service).map_or(0, |record| record.flags);
        // The bucket that is asked for stands in the message, and there it is sealed.
        let unreadable = self.sealed && flags & SERVICE_SRV != 0;
        if unreadable || self.generation.compiled.proof(service).is_some() {
            return Proof::denied(wire::REFUSED);
        }
        Proof::admitted(service, self.content())
    }

    /// Whether addresses are asked for and servers' are what the service answers with.
    fn wants_address_of(&self, service: u32) -> bool {
        let by_vip = self.tables.service(service).is_some_and(|record| record.flags & SERVICE_DNS_VIP != 0);
        matches!(self.carried.asked, Asked::Name { addresses: true }) && !by_vip
    }

    fn note(&mut self, what: &'static str, outcome: Result<String, Rejected>) -> bool {
        let good = outcome.is_ok();
        self.examined.findings.push(Finding { what, outcome });
        good
    }

    /// Examines the tag that is a label, which takes no part in anything else.
    fn tag(&mut self, spec: &ProofSpec, place: usize, purpose: Purpose) -> bool {
        let labels: Vec<&str> = self.carried.labels.iter().map(String::as_str).collect();
        let checked = verify_name(|id| self.key(spec, id), purpose, &labels, place, self.now);
        if place < labels.len() {
            self.carried.labels.remove(place);
        }
        self.note("tag", checked.map(|tag| self.name_of(tag.key)))
    }

    /// Examines whether the client is authorised: by the host's label, or by a token with the URL.
    fn access(&mut self, spec: &ProofSpec, place: Option<usize>, parameter: Option<&str>) -> bool {
        let tagged = place.is_some_and(|place| self.tag(spec, place, Purpose::Access));
        let (Some(parameter), Asked::Url { url, token }) = (parameter, &self.carried.asked) else {
            return tagged || (place.is_none() && self.note("token", Err(Rejected::Missing)));
        };
        let (path, found) = without_token(url.path, parameter);
        let host = self.carried.labels.join(".");
        let checked = match token.map(str::to_owned).or(found) {
            None => Err(Rejected::Missing),
            Some(token) => {
                let key = |id: u8| self.key(spec, id);
                verify_url(key, &token, (&host, &path), self.carried.client, self.now)
            }
        };
        self.examined.path = Some(path).filter(|path| path != url.path);
        tagged || self.note("token", checked.map(|tag| self.name_of(tag.key)))
    }

    /// Whether the name is but the right-hand part of a sealed one, as resolvers ask for that minimise names.
    fn is_part(&self, spec: &ProofSpec) -> bool {
        let sealed = self.sealed_labels(spec).unwrap_or(0);
        sealed > 0 && is_part(&self.carried.labels[0]) && matches!(self.carried.asked, Asked::Name { .. })
    }

    /// How many labels stand before the one for sealed names.
    fn sealed_labels(&self, spec: &ProofSpec) -> Option<usize> {
        let zone = self.generation.config.network.zones.get(spec.zone?)?;
        self.carried.labels.len().checked_sub(zone.suffix.len() + 1)
    }

    /// Opens a sealed name: the service that its codepoint leads to.
    fn unseal(&mut self, spec: &ProofSpec) -> Option<u32> {
        let count = self.sealed_labels(spec)?;
        let (sealed, parent) = self.carried.labels.split_at(count);
        let labels: Vec<&str> = sealed.iter().map(String::as_str).collect();
        let opened = match open(|id| self.key(spec, id), &labels, &parent.join(".")) {
            Ok(opened) => opened,
            Err(why) => {
                self.note("seal", Err(why));
                return None;
            }
        };
        let inner = opened.codepoint.split('.').map(str::to_owned);
        self.carried.labels = inner.chain(parent[1..].iter().cloned()).collect();
        self.sealed = true;
        let key = self.name_of(opened.key);
        self.note("seal", Ok(format!("{key}: {}", opened.codepoint)));
        self.find(spec.zone?)
    }

    /// The service of the name or URL as it is now; `None` if there is none, or that is sealed once more.
    fn find(&self, zone: usize) -> Option<u32> {
        let service = match &self.carried.asked {
            Asked::Name { .. } => {
                let record = self.tables.zone(zone as u32)?;
                let labels = self.hashes()?;
                let count = self.carried.labels.len().checked_sub(record.suffix_labels as usize)?;
                let entry = lookup::rule(self.tables, &labels, count, SPACE_DNS, zone as u32, record);
                (entry.fingerprint != 0 && !lookup::is_partial(&entry)).then_some(entry.value)?
            }
            Asked::Url { url, .. } => {
                let host = self.carried.labels.join(".");
                url::service(self.tables, self.vip, &Url { host: &host, ..*url })?
            }
        };
        let again = self.generation.compiled.proof(service).is_some_and(|spec| spec.asks == Asks::Seal);
        (service != NONE && !again).then_some(service)
    }

    fn hashes(&self) -> Option<Labels> {
        let keys = &self.tables.meta()?.keys;
        let mut labels = Labels::default();
        for (place, label) in labels.hashes.iter_mut().zip(&self.carried.labels).take(MAX_LABELS) {
            *place = keys.text(label.as_bytes(), true);
        }
        Some(labels)
    }

    /// Hash of what is asked for, for services that choose by content.
    fn content(&self) -> u64 {
        let hash = || match &self.carried.asked {
            Asked::Name { .. } => {
                let suffix = self.generation.config.network.zones.get(self.zone?)?.suffix.len();
                let codepoint = self.carried.labels.len().saturating_sub(suffix);
                Some(dns::codepoint_hash(&self.tables.meta()?.keys, &self.hashes()?, codepoint))
            }
            Asked::Url { url, .. } => {
                let host = self.carried.labels.join(".");
                let path = self.examined.path.as_deref().unwrap_or(url.path);
                url::content(self.tables, &Url { host: &host, path, ..*url })
            }
        };
        hash().unwrap_or(0)
    }

    /// The key of a number, if it counts for this and at this time.
    fn key(&self, spec: &ProofSpec, id: u8) -> Option<&Key> {
        let network = &self.generation.config.network;
        let mut keys = spec.keys.iter().filter(|index| {
            network
                .keys
                .get(**index)
                .is_some_and(|key| key.id == id && (key.from..key.until).contains(&self.now))
        });
        self.generation.keys.get(*keys.next()?)
    }

    /// The operator's name of a key.
    fn name_of(&self, id: u8) -> String {
        let key = self.generation.config.network.keys.iter().find(|key| key.id == id);
        key.map_or_else(|| id.to_string(), |key| key.name.clone())
    }
}

/// Path and query without the token, and the token: the value of the query's `parameter`, or what stands behind
/// `parameter=` in a segment of the path.
pub(crate) fn without_token(path: &str, parameter: &str) -> (String, Option<String>) {
    let value = |part: &str| Some(part.strip_prefix(parameter)?.strip_prefix('=')?.to_owned());
    let mut token = None;
    let mut others = |part: &&str| match value(part) {
        Some(found) if token.is_none() => {
            token = Some(found);
            false
        }
        _ => true,
    };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let path: Vec<&str> = path.split('/').filter(&mut others).collect();
    let query: Option<Vec<&str>> = query.map(|query| query.split('&').filter(&mut others).collect());
    let query = query.map(|parts| parts.join("&")).filter(|query| !query.is_empty());
    let path = path.join("/");
    (query.map_or(path.clone(), |query| format!("{path}?{query}")), token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_out_of_path_or_query_and_nothing_else_is() {
        let taken = |path| without_token(path, "token");
        let some = |path: &str, token: &str| (path.to_owned(), Some(token.to_owned()));
        assert_eq!(taken("/live/1?token=abc"), some("/live/1", "abc"));
        assert_eq!(taken("/live/1?a=b&token=abc&c"), some("/live/1?a=b&c", "abc"));
        assert_eq!(taken("/live/token=abc/1?a"), some("/live/1?a", "abc"));
        assert_eq!(taken("/token=abc/1?token=x"), some("/1?token=x", "abc"));
        for path in ["", "/", "/live/1?", "/live/1?Token=x", "/tokens=x/1?token", "/1?xtoken=1"] {
            assert_eq!(taken(path).1, None, "{path}");
        }
        assert_eq!(taken("/live/1?a=b").0, "/live/1?a=b");
    }
}
