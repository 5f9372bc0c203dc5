//! Names of targets in zones, for SRV records (RFC 2782): `par-web-1.servers.cdn.acme.net`.
//!
//! A target's `host` is its name, if it has one. Else it has one in each zone that names it, made of its own name: so it
//! stays what it is while the configuration changes, and is the same on all boxes.

use crate::model::{Network, Outcome, Target, Zone};
use crate::outcomes::{targets_of, wire_name};
use crate::refusal::Refusal;
use crate::vips::{ipv4_word, ipv6_words};
use redirector_core::table::{WireName, Zone as ZoneRecord};
use std::collections::{BTreeSet, HashMap};

/// Label beneath which targets have names, unless another is written.
pub const SERVERS_LABEL: &str = "servers";
/// Most names of targets, in all zones together (270 MiB).
pub const MAX_SERVER_NAMES: usize = 1_000_000;

/// Names of targets, by zone.
#[derive(Debug)]
pub(crate) struct Servers {
    zones: Vec<Vec<(usize, Name)>>,
}

#[derive(Debug)]
enum Name {
    /// The label of a name in the zone.
    Own(String),
    /// The target's host.
    Host(String),
}

impl Servers {
    /// Names the targets that services of each zone's network can answer with, in zones that have such names.
    pub(crate) fn new(network: &Network, refusals: &mut Vec<Refusal>) -> Self {
        let named = |zone: &Zone| match &zone.servers {
            Some(_) => names(network, zone, refusals),
            None => Vec::new(),
        };
        let zones: Vec<_> = network.zones.iter().map(named).collect();
        let tables = zones.iter().filter(|names| !names.is_empty()).count();
        let count = tables.saturating_mul(network.targets.len());
        if count > MAX_SERVER_NAMES {
            refusals.push(Refusal::of_network(
                "zones with SRV records",
                format!(
                    "{tables} of them and {} targets are more than {MAX_SERVER_NAMES} names",
                    network.targets.len()
                ),
                "put names that ask for servers into fewer zones",
            ));
        }
        Self { zones }
    }

    /// Targets with a name of their own in a zone, and its label.
    pub(crate) fn own(&self, zone: usize) -> impl Iterator<Item = (usize, &str)> {
        self.zones.get(zone).into_iter().flatten().filter_map(|(target, name)| match name {
            Name::Own(label) => Some((*target, label.as_str())),
            Name::Host(_) => None,
        })
    }

    /// Adds the names to those of the tables, by target number, and tells the zones' records where they begin.
    pub(crate) fn add_names(&self, network: &Network, records: &mut [ZoneRecord], names: &mut Vec<WireName>) {
        for ((zone, record), named) in network.zones.iter().zip(records).zip(&self.zones) {
            if named.is_empty() {
                continue;
            }
            record.servers = names.len() as u32;
            let first = names.len();
            names.resize(first + network.targets.len(), WireName::default());
            for (target, name) in named {
                names[first + target] = written(&network.targets[*target], name, zone);
            }
        }
    }
}

fn written(target: &Target, name: &Name, zone: &Zone) -> WireName {
    match name {
        Name::Host(host) => wire_name(host).unwrap_or_default(),
        Name::Own(label) => WireName {
            ipv4: target.ipv4.map_or(0, ipv4_word),
            ipv6: target.ipv6.map_or([0; 2], ipv6_words),
            needs_glue: 1,
            ..wire_name(&own_name(label, zone)).unwrap_or_default()
        },
    }
}

/// A target's name in a zone that has such names.
fn own_name(label: &str, zone: &Zone) -> String {
    let beneath = zone.servers.as_deref().unwrap_or(SERVERS_LABEL);
    format!("{label}.{beneath}.{}", zone.suffix.join("."))
}

/// A target's name as a label of host names: letters, digits and hyphens.
pub fn label_of(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(letter).collect::<String>().trim_matches('-').to_owned()
}

fn names(network: &Network, zone: &Zone, refusals: &mut Vec<Refusal>) -> Vec<(usize, Name)> {
    let services = network.services.iter().filter(|service| service.cdn == zone.cdn);
    let targets: BTreeSet<usize> = services.flat_map(|service| targets_of(network, service)).collect();
    let outside = network.peering.providers.iter().filter_map(|provider| provider.outside);
    let servers = targets.into_iter().chain(outside).collect::<BTreeSet<usize>>();
    let is_server = |target: &Target| {
        target.outcome == Outcome::Server && (target.ipv4.is_some() || target.ipv6.is_some())
    };
    let mut holders: HashMap<String, usize> = HashMap::new();
    let mut names = Vec::new();
    for number in servers {
        let Some(target) = network.targets.get(number).filter(|target| is_server(target)) else { continue };
        if let Some(host) = &target.host {
            names.push((number, Name::Host(host.clone())));
            continue;
        }
        let label = label_of(&target.name);
        let mut refuse = |why: String, remedy: &str| {
            refusals.push(Refusal::new(format!("target {:?}", target.name), &target.origin, why, remedy));
        };
        if wire_name(&own_name(&label, zone)).is_none() {
            let why = format!(
                "its name in SRV records would be {:?}, which is no domain name",
                own_name(&label, zone)
            );
            refuse(why, "give it a `host`, or a name of letters, digits and hyphens");
        } else if let Some(other) = holders.insert(label.clone(), number) {
            let other = &network.targets[other];
            let why = format!(
                "its label in SRV records is {label:?}, as that of target {:?} ({})",
                other.name, other.origin
            );
            refuse(why, "give one of them a `host`, or another name");
        } else {
            names.push((number, Name::Own(label)));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_host_names() {
        for (name, label) in
            [("par-web-1", "par-web-1"), ("Par.Web_1", "par-web-1"), ("_edge.", "edge"), ("_._", "")]
        {
            assert_eq!(label_of(name), label);
        }
    }
}
