//! Services that stand for others: which of them a client gets depends on a proof in its name, URL or request (P-10, P-15;
//! ADR 15). The tables only say that there must be one; what it must be, and what follows from it, stands here.

use crate::model::{Grammar, LabelRule, Network, Otherwise, Signed, UrlRule};
use redirector_core::table::{NONE, SERVICE_PROOF, Service as ServiceRecord};
use std::collections::HashMap;

/// Variable of a pattern's label that is a tag.
pub const TAG_LABEL: &str = "tag";

/// What is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The tag that is the label of this number, over the name or host.
    Tag(usize),
}

/// A service that stands for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofSpec {
    /// What is examined.
    pub asks: Asks,
    /// Keys that count: indices into the network's.
    pub keys: Vec<usize>,
    /// Service that a good proof leads to.
    pub good: u32,
    /// What another one leads to.
    pub bad: Bad,
    /// Of DNS names: their zone.
    pub zone: Option<usize>,
}

/// What a client gets whose proof is missing or good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// A refusal.
    Refused,
    /// The answer of something that has no records.
    Empty,
    /// This service.
    Service(u32),
}

/// All of them, and which rules lead to which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proofs {
    /// In the order of their service numbers, which follow those of the network's services.
    pub(crate) list: Vec<ProofSpec>,
    first: u32,
    /// By zone and grammar.
    names: HashMap<(usize, usize), u32>,
    /// By URL rule.
    urls: HashMap<usize, u32>,
}

/// Place of a pattern's tag.
pub fn tag_place(labels: &[LabelRule]) -> Option<usize> {
    labels.iter().position(|rule| matches!(rule, LabelRule::Free(name) if name == TAG_LABEL))
}

impl Proofs {
    /// The network has been checked.
    pub(crate) fn new(network: &Network) -> Self {
        let numbers = Numbers::new(network);
        let mut proofs = Self { first: network.services.len() as u32, ..Self::default() };
        for (zone, grammars) in network.zones.iter().map(|zone| &zone.grammars).enumerate() {
            for (index, Grammar { labels, service, signed, .. }) in grammars.iter().enumerate() {
                if let Some(spec) = numbers.signed(signed.as_ref(), labels, *service, Some(zone)) {
                    let number = proofs.push(spec);
                    proofs.names.insert((zone, index), number);
                }
            }
        }
        for (index, UrlRule { host, service, signed, .. }) in network.urls.iter().enumerate() {
            if let Some(spec) = numbers.signed(signed.as_ref(), host, *service, None) {
                let number = proofs.push(spec);
                proofs.urls.insert(index, number);
            }
        }
        proofs
    }

    fn push(&mut self, spec: ProofSpec) -> u32 {
        self.list.push(spec);
        self.first + self.list.len() as u32 - 1
    }

    /// Number of the service that a name's rule leads to first.
    pub(crate) fn of_name(&self, zone: usize, index: usize, grammar: &Grammar) -> u32 {
        self.names.get(&(zone, index)).copied().unwrap_or(grammar.service as u32)
    }

    /// Number of the service that a URL rule leads to first.
    pub(crate) fn of_url(&self, index: usize, rule: &UrlRule) -> u32 {
        self.urls.get(&index).copied().unwrap_or(rule.service as u32)
    }

    /// Their entries in the table of services. What is counted is counted for the service that a good proof leads to.
    pub(crate) fn records(&self, counters: &[u32]) -> impl Iterator<Item = ServiceRecord> {
        self.list.iter().map(|spec| ServiceRecord {
            flags: SERVICE_PROOF,
            counter: counters.get(spec.good as usize).copied().unwrap_or(NONE),
            fallback: [NONE; 2],
            outcomes: NONE,
            binding: NONE,
            sites: NONE,
            ..ServiceRecord::default()
        })
    }

    /// The one with this service number.
    pub(crate) fn get(&self, service: u32) -> Option<&ProofSpec> {
        self.list.get(service.checked_sub(self.first)? as usize)
    }
}

/// Keys and services by name.
struct Numbers<'n> {
    keys: HashMap<&'n str, usize>,
    services: HashMap<&'n str, u32>,
}

impl<'n> Numbers<'n> {
    fn new(network: &'n Network) -> Self {
        let keys = network.keys.iter().enumerate().map(|(index, key)| (key.name.as_str(), index));
        let services = network
            .services
            .iter()
            .enumerate()
            .map(|(number, service)| (service.name.as_str(), number as u32));
        Self { keys: keys.collect(), services: services.collect() }
    }

    fn signed(
        &self,
        signed: Option<&Signed>,
        labels: &[LabelRule],
        service: usize,
        zone: Option<usize>,
    ) -> Option<ProofSpec> {
        let (signed, place) = (signed?, tag_place(labels)?);
        Some(ProofSpec {
            asks: Asks::Tag(place),
            keys: signed.keys.iter().filter_map(|name| self.keys.get(name.as_str()).copied()).collect(),
            good: service as u32,
            bad: self.bad(&signed.otherwise),
            zone,
        })
    }

    fn bad(&self, otherwise: &Otherwise) -> Bad {
        match otherwise {
            Otherwise::Refuse => Bad::Refused,
            Otherwise::Empty => Bad::Empty,
            Otherwise::Service(name) => {
                self.services.get(name.as_str()).map_or(Bad::Refused, |n| Bad::Service(*n))
            }
        }
    }
}
