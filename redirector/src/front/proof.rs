//! Proofs in names, URLs and requests: tags are examined here, outside of the core, which then goes on with what they
//! came to (P-10, P-15; ADR 15).

use super::url::{self, Url};
use crate::state::Generation;
use redirector_core::lookup::{Labels, MAX_LABELS};
use redirector_core::table::Tables;
use redirector_core::wire::cdsr::UrlPlace;
use redirector_core::wire::{self, Proof, dns};
use redirector_names::{Key, Purpose, Rejected, verify_name};
use redirector_plan::proofs::{Asks, Bad, ProofSpec};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// What one proof came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was examined.
    pub(crate) what: &'static str,
    /// Name of its key, or why it is good for nothing.
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
    /// One after the other.
    pub(crate) findings: Vec<Finding>,
}

/// What is asked for, and what a request carries beside it.
#[derive(Debug, Clone)]
pub(crate) struct Carried<'c> {
    /// Labels of the name or host, leftmost first, as they came.
    labels: Vec<String>,
    /// What stands around the host; `None`: a name.
    url: Option<Url<'c>>,
}

impl<'c> Carried<'c> {
    /// By a DNS message, whose question has been read; `None` if it has none.
    pub(crate) fn by_dns(message: &[u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut rest = message.get(dns::HEADER..)?;
        loop {
            let (length, tail) = rest.split_first()?;
            if *length == 0 {
                return Some(Self { labels, url: None });
            }
            let (label, tail) = tail.split_at_checked((*length).into())?;
            labels.push(String::from_utf8_lossy(label).into_owned());
            rest = tail;
        }
    }

    /// By a URL.
    pub(crate) fn by_url(url: Url<'c>) -> Self {
        let labels = match url.host.starts_with('[') {
            true => vec![url.host.to_owned()],
            false => url.host.split('.').map(str::to_owned).collect(),
        };
        Self { labels, url: Some(url) }
    }

    /// By a CDSR request, which has been read.
    pub(crate) fn by_cdsr(message: &'c [u8], place: &UrlPlace) -> Option<Self> {
        let text = |from: usize, to: usize| std::str::from_utf8(message.get(from..to)?).ok();
        let host = text(place.host, place.host_end)?;
        let url = Url {
            scheme: url::scheme(place.scheme)?,
            host,
            port: None,
            path: text(place.host_end, place.end)?,
        };
        Some(Self::by_url(url))
    }

    /// Hash of what is asked for, for services that choose by content.
    fn content<T: Tables>(&self, generation: &Generation, tables: &T, spec: &ProofSpec) -> u64 {
        if let Some(url) = self.url {
            let host = self.labels.join(".");
            return url::content(tables, &Url { host: &host, ..url }).unwrap_or(0);
        }
        let zone = spec.zone.and_then(|zone| generation.config.network.zones.get(zone));
        let (Some(meta), Some(zone)) = (tables.meta(), zone) else { return 0 };
        let mut labels = Labels::default();
        for (place, label) in labels.hashes.iter_mut().zip(&self.labels).take(MAX_LABELS) {
            *place = meta.keys.text(label.as_bytes(), true);
        }
        dns::codepoint_hash(&meta.keys, &labels, self.labels.len().saturating_sub(zone.suffix.len()))
    }
}

/// Examines what a request for service number `service` carries: an entry of the tables that stands for others.
pub(crate) fn examine<T: Tables>(
    generation: &Generation,
    tables: &T,
    service: u32,
    mut carried: Carried<'_>,
) -> Examined {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Some(spec) = generation.compiled.proof(service) else {
        return Examined { proof: Proof::denied(wire::REFUSED), findings: Vec::new() };
    };
    let key = |id: u8| counting(generation, spec, id, now);
    let finding = match spec.asks {
        Asks::Tag(place) => {
            let labels: Vec<&str> = carried.labels.iter().map(String::as_str).collect();
            let checked = verify_name(key, Purpose::Grade, &labels, place, now);
            if place < carried.labels.len() {
                carried.labels.remove(place);
            }
            Finding { what: "tag", outcome: checked.map(|tag| name_of(generation, tag.key)) }
        }
    };
    let next = match (&finding.outcome, spec.bad) {
        (Ok(_), _) => Ok(spec.good),
        (Err(_), Bad::Service(service)) => Ok(service),
        (Err(_), Bad::Refused) => Err(wire::REFUSED),
        (Err(_), Bad::Empty) => Err(wire::EMPTY),
    };
    let proof = match next {
        Ok(service) => Proof::admitted(service, carried.content(generation, tables, spec)),
        Err(outcome) => Proof::denied(outcome),
    };
    Examined { proof, findings: vec![finding] }
}

/// The key of a number, if it counts for this and at this time.
fn counting<'g>(generation: &'g Generation, spec: &ProofSpec, id: u8, now: u64) -> Option<&'g Key> {
    let network = &generation.config.network;
    let keys =
        spec.keys.iter().filter_map(|index| Some((network.keys.get(*index)?, generation.keys.get(*index)?)));
    let mut counting = keys.filter(|(key, _)| key.id == id && (key.from..key.until).contains(&now));
    counting.next().map(|(_, key)| key)
}

/// The operator's name of a key.
fn name_of(generation: &Generation, id: u8) -> String {
    let key = generation.config.network.keys.iter().find(|key| key.id == id);
    key.map_or_else(|| id.to_string(), |key| key.name.clone())
}
