//! Targets that are no servers: other names and delegations, as tables hold them (ADR 13).

use crate::explain::matches;
use crate::model::{Binding, Coverage, DnsAnswer, Locations, Network, Outcome, Pool, Service, Target, Zone};
use crate::refusal::Refusal;
use crate::vips::{ipv4_word, ipv6_words};
use redirector_core::table::{
    MAX_NAME_SERVERS, NAME_WORDS, NO_SITE, OUTCOME_ADDRESS, OUTCOME_DELEGATION, OUTCOME_NAME,
    Target as TargetRecord, WireName,
};
use std::collections::HashMap;

/// Bytes of a record before its data, if its owner is a compression pointer.
const RECORD_HEAD: usize = 12;
/// Bytes of an A and an AAAA record.
const ADDRESS_RECORDS: [usize; 2] = [RECORD_HEAD + 4, RECORD_HEAD + 16];
/// Port of https, which need not be told.
const HTTPS_PORT: u16 = 443;
/// Longest parameters of HTTPS records: with eight addresses and the longest question, an answer fits into 512 bytes.
pub const MAX_PARAMETERS: usize = 96;
/// Longest name on the wire (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;

/// By coverage: whether one of its targets is no server.
pub fn coverages_with_outcomes(targets: &[Target], pools: &[Pool], coverages: &[Coverage]) -> Vec<bool> {
    let is_other =
        |target: usize| targets.get(target).is_some_and(|target| target.outcome != Outcome::Server);
    let pools: Vec<bool> =
        pools.iter().map(|pool| pool.members.iter().any(|(target, _)| is_other(*target))).collect();
    let has = |coverage: &Coverage| {
        coverage.tiers.iter().flat_map(|tier| &tier.pools).any(|(pool, _)| pools.get(*pool) == Some(&true))
    };
    coverages.iter().map(has).collect()
}

/// Whether a service can answer with something else than a server; `coverages` as by [`coverages_with_outcomes`].
pub fn has_outcomes(service: &Service, targets: &[Target], coverages: &[bool]) -> bool {
    let is_other =
        |target: &usize| targets.get(*target).is_some_and(|target| target.outcome != Outcome::Server);
    coverages.get(service.coverage) == Some(&true) || service.fallback.iter().any(is_other)
}

/// A name as messages have it; `None` if it cannot be one.
pub(crate) fn wire_name(name: &str) -> Option<WireName> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    wire_text(&bytes)
}

/// Text as the table holds it; `None` if it is too long.
fn wire_text(bytes: &[u8]) -> Option<WireName> {
    if bytes.len() > MAX_NAME {
        return None;
    }
    let mut words = [0; NAME_WORDS];
    let mut padded = vec![0; bytes.len().next_multiple_of(8) - bytes.len()];
    padded.extend(bytes);
    for (word, chunk) in words.iter_mut().zip(padded.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*chunk);
    }
    Some(WireName { words, length: bytes.len() as u16, ..WireName::default() })
}

/// Refuses targets whose names the tables cannot hold, and names at an apex.
pub(crate) fn check(network: &Network, refusals: &mut Vec<Refusal>) {
    for target in &network.targets {
        let what = format!("target {:?}", target.name);
        let mut refuse = |why: String, remedy: &str| {
            refusals.push(Refusal::new(what.clone(), &target.origin, why, remedy));
        };
        let names: Vec<&String> = match &target.outcome {
            Outcome::Server | Outcome::OwnServers => continue,
            Outcome::Name(name) => vec![name],
            Outcome::Delegation(servers) => servers.iter().map(|server| &server.name).collect(),
        };
        if names.is_empty() || names.len() > MAX_NAME_SERVERS {
            refuse(format!("{} name servers", names.len()), "name one to four");
        }
        for name in names.into_iter().filter(|name| wire_name(name).is_none()) {
            refuse(
                format!("{name:?} is not a domain name"),
                "use labels of 1 to 63 and names of at most 255 bytes",
            );
        }
        if target.ipv4.is_some() || target.ipv6.is_some() {
            refuse("it has an address and another outcome".into(), "leave one out");
        }
    }
    for service in &network.services {
        if service.https.as_ref().is_some_and(|binding| parameters(binding).is_none()) {
            refusals.push(Refusal::new(
                format!("service {:?}", service.name),
                &service.origin,
                format!("the parameters of its HTTPS records have more than {MAX_PARAMETERS} bytes, or an empty one"),
                "name fewer protocols",
            ));
        }
    }
    network.services.iter().for_each(|service| check_sites(network, service, refusals));
    let by_coverage = coverages_with_outcomes(&network.targets, &network.pools, &network.coverages);
    for zone in &network.zones {
        for grammar in zone.grammars.iter().filter(|grammar| grammar.labels.is_empty()) {
            let service = network.services.get(grammar.service);
            if service.is_some_and(|service| has_outcomes(service, &network.targets, &by_coverage)) {
                refusals.push(Refusal::new(
                    format!("name \"@\" in zone {:?}", zone.suffix.join(".")),
                    &grammar.origin,
                    "its service can answer with a CNAME or a delegation, which a zone's apex cannot have",
                    "give the apex a service of servers alone",
                ));
            }
        }
    }
}

/// Indices of the targets that a service can answer with.
fn targets_of<'n>(network: &'n Network, service: &'n Service) -> impl Iterator<Item = usize> {
    let tiers = network.coverages.get(service.coverage).map_or(&[][..], |coverage| &coverage.tiers);
    let pools = tiers.iter().flat_map(|tier| &tier.pools).filter_map(|(pool, _)| network.pools.get(*pool));
    let members = pools.flat_map(|pool| pool.members.iter().map(|(target, _)| *target));
    members.chain(service.fallback.iter().copied())
}

/// Whether a pattern matches a name; `None`: no zone of ours holds it.
fn is_answered(network: &Network, cdn: usize, name: &str) -> Option<bool> {
    let labels: Vec<&str> = name.split('.').collect();
    let cut = |zone: &Zone| labels.len().checked_sub(zone.suffix.len());
    let holds = |zone: &&Zone| {
        zone.cdn == cdn && cut(zone).is_some_and(|cut| labels[cut..].iter().eq(zone.suffix.iter()))
    };
    let zone = network.zones.iter().filter(holds).max_by_key(|zone| zone.suffix.len())?;
    let codepoint = &labels[..cut(zone)?];
    Some(zone.grammars.iter().any(|grammar| matches(&grammar.labels, codepoint)))
}

/// Refuses SRV answers that could not name a site.
fn check_sites(network: &Network, service: &Service, refusals: &mut Vec<Refusal>) {
    let Some(locations) = &service.srv else { return };
    let mut refuse = |why: String, remedy: &str| {
        refusals.push(Refusal::new(format!("service {:?}", service.name), &service.origin, why, remedy));
    };
    for number in locations.sites.values() {
        // A bucket of 16 bytes stands before it.
        if wire_name(&locations.name(*number)).is_none_or(|name| name.length > 238) {
            refuse(
                format!("{:?} is not a domain name", locations.name(*number)),
                "choose a shorter `domain`",
            );
        }
    }
    let unanswered = |number: &u32| {
        let name = format!("a0.{}", locations.name(*number));
        (is_answered(network, service.cdn, &name) == Some(false)).then_some(name)
    };
    if let Some(name) = locations.sites.values().find_map(unanswered) {
        let remedy = "add a pattern such as {bucket}.y5q for each site to the zone, with the site's servers";
        refuse(format!("its answers name {name:?} and the like, and no pattern matches it"), remedy);
    }
    if service.https.is_some() || service.dns == DnsAnswer::Vip {
        refuse(
            "its names have SRV records and no others".into(),
            "make a service of its own for other records",
        );
    }
    let nameless = |target: usize| {
        let target = network.targets.get(target)?;
        let known = target.outcome == Outcome::Server && locations.sites.contains_key(&target.site);
        (!known).then_some(&target.name)
    };
    if let Some(name) = targets_of(network, service).find_map(nameless) {
        refuse(
            format!("target {name:?} stands at a site without number, or is no server"),
            "give its `site` a number in the service's `srv`",
        );
    }
}

/// The parameters of HTTPS records, without addresses (RFC 9460 section 7); `None` if they cannot be.
fn parameters(binding: &Binding) -> Option<WireName> {
    let mut bytes = Vec::new();
    let mut ids = Vec::new();
    for id in &binding.alpn {
        ids.push(u8::try_from(id.len()).ok().filter(|length| *length > 0)?);
        ids.extend(id.bytes());
    }
    if !ids.is_empty() {
        bytes.extend([0, 1]);
        bytes.extend((ids.len() as u16).to_be_bytes());
        bytes.extend(ids);
    }
    if binding.port != HTTPS_PORT {
        bytes.extend([0, 3, 0, 2]);
        bytes.extend(binding.port.to_be_bytes());
    }
    if bytes.len() > MAX_PARAMETERS { None } else { wire_text(&bytes) }
}

/// Names of all targets and parameters of services, and each target's part of its record.
pub(crate) struct Names<'n> {
    network: &'n Network,
    bindings: HashMap<&'n Binding, u32>,
    /// All sites that SRV records name.
    sites: Vec<&'n str>,
    pub(crate) names: Vec<WireName>,
}

impl<'n> Names<'n> {
    /// None yet. The network must have passed [`check`].
    pub(crate) fn new(network: &'n Network) -> Self {
        let named = network.services.iter().filter_map(|service| service.srv.as_ref());
        let mut sites: Vec<&str> = named.flat_map(|srv| srv.sites.keys().map(String::as_str)).collect();
        sites.sort_unstable();
        sites.dedup();
        Self { network, bindings: HashMap::new(), sites, names: Vec::new() }
    }

    /// First of the entries with the names of a service's sites, one for each site that any service names.
    pub(crate) fn sites(&mut self, locations: &Locations) -> u32 {
        let first = self.names.len() as u32;
        let name = |site: &&str| {
            let number = locations.sites.get(*site)?;
            wire_name(&locations.name(*number))
        };
        let names: Vec<WireName> = self.sites.iter().map(|site| name(site).unwrap_or_default()).collect();
        self.names.extend(names);
        first
    }

    /// Number of a target's site.
    fn site(&self, target: &Target) -> u16 {
        self.sites.binary_search(&target.site.as_str()).map_or(NO_SITE, |site| site as u16)
    }

    /// Entry with the parameters of a service's HTTPS records.
    pub(crate) fn binding(&mut self, binding: &'n Binding) -> u32 {
        let names = &mut self.names;
        *self.bindings.entry(binding).or_insert_with(|| {
            names.push(parameters(binding).unwrap_or_default());
            names.len() as u32 - 1
        })
    }

    /// A target's record as far as its outcome goes.
    pub(crate) fn record(&mut self, target: &Target) -> TargetRecord {
        let names = self.names.len() as u32;
        match &target.outcome {
            // Who is meant by it is a server, and which one comes next.
            Outcome::Server | Outcome::OwnServers => {
                TargetRecord { outcome: OUTCOME_ADDRESS, site: self.site(target), ..TargetRecord::default() }
            }
            Outcome::Name(name) => {
                let length = self.push(wire_name(name).unwrap_or_default());
                TargetRecord {
                    names,
                    length,
                    outcome: OUTCOME_NAME,
                    site: NO_SITE,
                    ..TargetRecord::default()
                }
            }
            Outcome::Delegation(servers) => {
                let servers_count = servers.len() as u8;
                let mut record = TargetRecord {
                    names,
                    servers: servers_count,
                    outcome: OUTCOME_DELEGATION,
                    site: NO_SITE,
                    ..TargetRecord::default()
                };
                for server in servers {
                    let needed = self.is_ours(&server.name);
                    for (has, bytes) in
                        [server.ipv4.is_some(), server.ipv6.is_some()].into_iter().zip(ADDRESS_RECORDS)
                    {
                        for (part, counted) in [has, has && needed].into_iter().enumerate() {
                            record.glue[part] += u8::from(counted);
                            record.glue_length[part] += if counted { bytes as u16 } else { 0 };
                        }
                    }
                    record.length += self.push(WireName {
                        ipv4: server.ipv4.map_or(0, ipv4_word),
                        ipv6: server.ipv6.map_or([0; 2], ipv6_words),
                        needs_glue: needed as u16,
                        ..wire_name(&server.name).unwrap_or_default()
                    });
                }
                record
            }
        }
    }

    /// Adds a name and gives the bytes of a record that holds it.
    fn push(&mut self, name: WireName) -> u16 {
        self.names.push(name);
        RECORD_HEAD as u16 + name.length
    }

    /// Whether a name lies in a zone of ours: nobody else could tell its addresses.
    fn is_ours(&self, name: &str) -> bool {
        let labels: Vec<&str> = name.split('.').collect();
        self.network.zones.iter().any(|zone| {
            let start = labels.len().checked_sub(zone.suffix.len());
            start.is_some_and(|start| labels[start..].iter().eq(zone.suffix.iter()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_a_word_ends_and_zeros_stand_before_it() {
        for labels in ["a", "edge.partner.example", "1234567.x", "123456.x"] {
            let name = wire_name(labels).expect("a name");
            let bytes: Vec<u8> = name.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let mut wanted: Vec<u8> = labels
                .split('.')
                .flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat())
                .collect();
            wanted.push(0);
            let end = wanted.len().next_multiple_of(8);
            let start = end - wanted.len();
            assert_eq!((name.length as usize, &bytes[start..end]), (wanted.len(), &wanted[..]), "{labels}");
            assert!(start < 8 && bytes[..start].iter().chain(&bytes[end..]).all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_is_no_name_is_none() {
        let label = "x".repeat(63);
        let longest = [&label[..], &label, &label, &label[..61]].join(".");
        assert_eq!(wire_name(&longest).map(|name| name.length), Some(255));
        for wrong in ["", ".", "a..b", &"x".repeat(64), &format!("{longest}y"), &format!("{longest}.y")] {
            assert_eq!(wire_name(wrong), None, "{wrong:?}");
        }
    }
}
