//! Services that stand for others: which of them a client gets depends on a proof in its name, URL or request (P-10, P-15;
//! ADR 15). The tables only say that there must be one; what it must be, and what follows from it, stands here.

use crate::model::{Binding, DnsAnswer, LabelRule, Network, Otherwise, Service, Signed, Unauthorised};
use redirector_core::table::{
    ILL_FORMED_ABSENT, ILL_FORMED_EMPTY, ILL_FORMED_REFUSED, ILL_FORMED_SERVICE, NONE, SERVICE_PROOF,
    Service as ServiceRecord,
};
use std::collections::{BTreeMap, HashMap};

/// Variable of a pattern's label that is a tag.
pub const TAG_LABEL: &str = "tag";
/// Most labels of a sealed codepoint.
pub const SEALED_LABELS: usize = 3;

/// What is examined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asks {
    /// The tag that is the label of this number, over the name or host: its grade.
    Grade(usize),
    /// That the client is authorised: by the tag that is the label of this number, or by a token that comes with a URL.
    Access {
        /// Where the name or host has a label for it.
        place: Option<usize>,
        /// Name of the parameter that is a token; `None`: a name, with which none can come.
        parameter: Option<String>,
    },
    /// The labels before the one for sealed names, which must open to a codepoint of the zone.
    Seal,
}

/// A service that stands for others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProofSpec {
    /// What is examined.
    pub asks: Asks,
    /// Keys that count: indices into the network's.
    pub keys: Vec<usize>,
    /// Service that a good proof leads to, which may ask for another one; [`NONE`]: the one that what was sealed names.
    pub good: u32,
    /// What another one leads to.
    pub bad: Bad,
    /// Of names, and of what is sealed: the zone.
    pub zone: Option<usize>,
}

/// What a client gets whose proof is missing or good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bad {
    /// A refusal.
    Refused,
    /// The answer of something that has no records.
    Empty,
    /// This service.
    Service(u32),
    /// This service, whose port is one that servers ignore; whoever asks for addresses alone is refused.
    Port(u32),
}

/// A service with another port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Twin {
    pub(crate) service: usize,
    pub(crate) port: u16,
    /// Its HTTPS records, if the service has any.
    pub(crate) binding: Option<Binding>,
}

/// All of them, and which rules lead to which. Their service numbers follow those of the network's services: first those
/// with other ports, then those that stand for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proofs {
    pub(crate) twins: Vec<Twin>,
    pub(crate) list: Vec<ProofSpec>,
    first: u32,
    numbers: BTreeMap<ProofSpec, u32>,
    /// By zone and grammar.
    names: HashMap<(usize, usize), u32>,
    /// By URL rule.
    urls: HashMap<usize, u32>,
    /// By zone: its sealed names.
    sealed: HashMap<usize, u32>,
}

/// Place of a pattern's tag.
pub fn tag_place(labels: &[LabelRule]) -> Option<usize> {
    labels.iter().position(|rule| matches!(rule, LabelRule::Free(name) if name == TAG_LABEL))
}

/// What a rule says about the name or URL that is asked for.
#[derive(Debug, Clone, Copy)]
struct Asked<'n> {
    labels: &'n [LabelRule],
    signed: Option<&'n Signed>,
    service: usize,
    /// Of a name: its zone. `None`: a URL.
    zone: Option<usize>,
}

impl Proofs {
    /// The network has been checked.
    pub(crate) fn new(network: &Network) -> Self {
        let twins = twins(&network.services);
        let first = (network.services.len() + twins.len()) as u32;
        let mut proofs = Self { twins, first, ..Self::default() };
        let names = Names::new(network);
        for (number, zone) in network.zones.iter().enumerate() {
            for (index, grammar) in zone.grammars.iter().enumerate() {
                let (labels, signed, service) =
                    (&grammar.labels[..], grammar.signed.as_ref(), grammar.service);
                let entry = proofs.entry(&names, Asked { labels, signed, service, zone: Some(number) });
                proofs.names.insert((number, index), entry);
            }
            if let Some(sealed) = &zone.sealed {
                let (keys, bad) = (names.keys(&sealed.keys), names.bad(&sealed.otherwise));
                let spec = ProofSpec { asks: Asks::Seal, keys, good: NONE, bad, zone: Some(number) };
                let entry = proofs.push(spec);
                proofs.sealed.insert(number, entry);
            }
        }
        for (index, rule) in network.urls.iter().enumerate() {
            let (labels, signed, service) = (&rule.host[..], rule.signed.as_ref(), rule.service);
            let entry = proofs.entry(&names, Asked { labels, signed, service, zone: None });
            proofs.urls.insert(index, entry);
        }
        proofs
    }

    fn push(&mut self, spec: ProofSpec) -> u32 {
        let next = self.first + self.list.len() as u32;
        *self.numbers.entry(spec.clone()).or_insert_with(|| {
            self.list.push(spec);
            next
        })
    }

    /// The service that a rule leads to: its own, or what stands for it.
    fn entry(&mut self, names: &Names<'_>, asked: Asked<'_>) -> u32 {
        let place = tag_place(asked.labels);
        let good = self.authorised(names, asked, if asked.signed.is_some() { None } else { place });
        match (asked.signed, place) {
            (Some(signed), Some(place)) => self.push(ProofSpec {
                asks: Asks::Grade(place),
                keys: names.keys(&signed.keys),
                good,
                bad: names.bad(&signed.otherwise),
                zone: asked.zone,
            }),
            _ => good,
        }
    }

    /// The same without regard to signatures.
    fn authorised(&mut self, names: &Names<'_>, asked: Asked<'_>, place: Option<usize>) -> u32 {
        let number = asked.service as u32;
        let service = &names.network.services[asked.service];
        let Some(authorised) = &service.authorised else { return number };
        let by_name = asked.zone.is_some();
        if by_name && service.dns == DnsAnswer::Vip {
            // Everybody may come here; who is redirected where is asked then.
            return number;
        }
        let bad = match &authorised.otherwise {
            Unauthorised::Like(otherwise) => names.bad(otherwise),
            Unauthorised::Port(port) => Bad::Port(self.twin(names, asked.service, *port)),
        };
        if let (true, None, Bad::Service(other)) = (by_name, place, bad) {
            return other;
        }
        let parameter = (!by_name).then(|| authorised.parameter.clone());
        let (asks, keys) = (Asks::Access { place, parameter }, names.keys(&authorised.keys));
        self.push(ProofSpec { asks, keys, good: number, bad, zone: asked.zone })
    }

    fn twin(&self, names: &Names<'_>, service: usize, port: u16) -> u32 {
        let place = self.twins.iter().position(|twin| (twin.service, twin.port) == (service, port));
        names.network.services.len() as u32 + place.unwrap_or(0) as u32
    }

    /// Number of the service that a name's rule leads to first.
    pub(crate) fn of_name(&self, zone: usize, index: usize) -> u32 {
        self.names.get(&(zone, index)).copied().unwrap_or(NONE)
    }

    /// Number of the service that a URL rule leads to first.
    pub(crate) fn of_url(&self, index: usize) -> u32 {
        self.urls.get(&index).copied().unwrap_or(NONE)
    }

    /// Number of the service that a zone's sealed names lead to first.
    pub(crate) fn of_sealed(&self, zone: usize) -> Option<u32> {
        self.sealed.get(&zone).copied()
    }

    /// Entries in the table of services of what stands for others. What is counted before it is known for whom is
    /// counted for the service that a good proof leads to.
    pub(crate) fn records(&self, counters: &[u32]) -> impl Iterator<Item = ServiceRecord> {
        self.list.iter().map(|spec| ServiceRecord {
            flags: SERVICE_PROOF,
            counter: self.written(spec.good, counters.len()).map_or(NONE, |service| counters[service]),
            fallback: [NONE; 2],
            outcomes: NONE,
            binding: NONE,
            sites: NONE,
            ..ServiceRecord::default()
        })
    }

    /// The network's service, of `services`, that a service number means, or stands for if its proof is good.
    pub(crate) fn written(&self, mut number: u32, services: usize) -> Option<usize> {
        while let Some(spec) = self.get(number) {
            // What is behind a proof comes before it in the list, or is none.
            number = if spec.good < number { spec.good } else { return None };
        }
        let service = number as usize;
        if service < services {
            return Some(service);
        }
        self.twins.get(service - services).map(|twin| twin.service)
    }

    /// The one with this service number.
    pub(crate) fn get(&self, service: u32) -> Option<&ProofSpec> {
        self.list.get(service.checked_sub(self.first)? as usize)
    }
}

fn twins(services: &[Service]) -> Vec<Twin> {
    let twin = |(index, service): (usize, &Service)| match service.authorised.as_ref()?.otherwise {
        Unauthorised::Port(port) => {
            let binding = service.https.as_ref().map(|binding| Binding { port, ..binding.clone() });
            Some(Twin { service: index, port, binding })
        }
        Unauthorised::Like(_) => None,
    };
    services.iter().enumerate().filter_map(twin).collect()
}

/// What names and hosts beneath a zone get that fit no rule, as tables have it.
pub(crate) fn ill_formed(network: &Network, otherwise: Option<&Otherwise>) -> u32 {
    let Some(otherwise) = otherwise else { return ILL_FORMED_ABSENT };
    match Names::new(network).bad(otherwise) {
        Bad::Service(service) | Bad::Port(service) => ILL_FORMED_SERVICE + service,
        Bad::Refused => ILL_FORMED_REFUSED,
        Bad::Empty => ILL_FORMED_EMPTY,
    }
}

/// Keys and services by name.
struct Names<'n> {
    network: &'n Network,
    keys: HashMap<&'n str, usize>,
    services: HashMap<&'n str, usize>,
}

impl<'n> Names<'n> {
    fn new(network: &'n Network) -> Self {
        let keys = network.keys.iter().enumerate().map(|(index, key)| (key.name.as_str(), index));
        let services =
            network.services.iter().enumerate().map(|(index, service)| (service.name.as_str(), index));
        Self { network, keys: keys.collect(), services: services.collect() }
    }

    fn keys(&self, names: &[String]) -> Vec<usize> {
        names.iter().filter_map(|name| self.keys.get(name.as_str()).copied()).collect()
    }

    /// A service that is for some alone takes nobody else's place.
    fn bad(&self, otherwise: &Otherwise) -> Bad {
        match otherwise {
            Otherwise::Refuse => Bad::Refused,
            Otherwise::Empty => Bad::Empty,
            Otherwise::Service(name) => match self.services.get(name.as_str()) {
                Some(service) if self.network.services[*service].authorised.is_none() => {
                    Bad::Service(*service as u32)
                }
                _ => Bad::Refused,
            },
        }
    }
}
