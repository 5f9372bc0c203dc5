//! Names that answers and redirects lead to: none may lead nowhere, or back (P-4).

use super::read::Text;
use redirector_plan::model::{Coverage, DnsAnswer, Grammar, LabelRule, Outcome, Pool, Service, Target, Zone};
use std::collections::BTreeSet;

/// What is configured.
pub(super) struct Known<'k> {
    pub(super) zones: &'k [Zone],
    pub(super) services: &'k [Service],
    pub(super) coverages: &'k [Coverage],
    pub(super) pools: &'k [Pool],
    pub(super) targets: &'k [Target],
}

impl Known<'_> {
    /// Reports hosts and names (with the target that is one) that lead back or nowhere, and name servers that nobody
    /// knows the addresses of.
    pub(super) fn check(&self, hosts: &[Text<'_>], aliases: &[(String, Text<'_>)], unaddressed: &[Text<'_>]) {
        for host in hosts {
            self.check_host(
                host,
                "give the server a name outside the zones answered here, or leave `host` out",
            );
        }
        for (target, alias) in aliases {
            self.check_host(
                alias,
                "name something outside the zones answered here, or a name of another service",
            );
            self.check_loop(target, alias);
        }
        for server in unaddressed.iter().filter(|server| service_of(self.zones, server.text).is_some()) {
            let message =
                "this name lies in a zone answered here, so resolvers learn its addresses here alone";
            server.place.error(message, "give its `addresses`");
        }
    }

    /// Reports a name that leads to a VIP, or nowhere.
    fn check_host(&self, host: &Text<'_>, help: &str) {
        match service_of(self.zones, host.text) {
            Some(Some(service)) if self.services[service].dns == DnsAnswer::Vip => {
                let name = &self.services[service].name;
                let message =
                    format!("service `{name}` answers this name with the VIP: clients would come back here");
                host.place.error(message, help);
            }
            Some(None) => {
                host.place.error("this name is in a zone answered here, and no pattern matches it", help)
            }
            _ => {}
        }
    }

    /// Reports a name from which further names lead back to it.
    fn check_loop(&self, target: &str, alias: &Text<'_>) {
        let Some(Some(first)) = service_of(self.zones, alias.text) else { return };
        let (mut seen, mut next) = (BTreeSet::from([first]), vec![first]);
        while let Some(service) = next.pop() {
            for other in self.names_of(&self.services[service]) {
                if other.name == target {
                    let name = &self.services[service].name;
                    let message = format!(
                        "this name leads back here: service `{name}` can answer with target `{target}`"
                    );
                    alias.place.error(message, "take the target out of that service's coverage and fallback");
                    return;
                }
                if let Outcome::Name(name) = &other.outcome
                    && let Some(Some(service)) = service_of(self.zones, name)
                    && seen.insert(service)
                {
                    next.push(service);
                }
            }
        }
    }

    /// Targets of a service that are names.
    fn names_of(&self, service: &Service) -> impl Iterator<Item = &Target> {
        let tiers = self.coverages.get(service.coverage).map_or(&[][..], |coverage| &coverage.tiers);
        let pools = tiers.iter().flat_map(|tier| &tier.pools).filter_map(|(pool, _)| self.pools.get(*pool));
        let members = pools.flat_map(|pool| pool.members.iter().map(|(target, _)| *target));
        let all = members.chain(service.fallback.iter().copied());
        all.filter_map(|target| self.targets.get(target))
            .filter(|target| matches!(target.outcome, Outcome::Name(_)))
    }
}

/// The service of a host name, if the name is in one of the zones: `Some(None)` is a name there that does not exist.
fn service_of(zones: &[Zone], host: &str) -> Option<Option<usize>> {
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let ends = |zone: &&Zone| {
        let start = labels.len().checked_sub(zone.suffix.len());
        start.is_some_and(|start| labels[start..].iter().eq(zone.suffix.iter()))
    };
    let zone = zones.iter().filter(ends).max_by_key(|zone| zone.suffix.len())?;
    let codepoint = &labels[..labels.len() - zone.suffix.len()];
    let admits = |(rule, label): (&LabelRule, &&str)| match rule {
        LabelRule::Fixed(fixed) => fixed == label,
        LabelRule::Free(_) => true,
        LabelRule::OneOf(_, values) => values.iter().any(|value| value == label),
    };
    let matching = |grammar: &&Grammar| {
        grammar.labels.len() == codepoint.len() && grammar.labels.iter().zip(codepoint).all(admits)
    };
    Some(zone.grammars.iter().find(matching).map(|grammar| grammar.service))
}
