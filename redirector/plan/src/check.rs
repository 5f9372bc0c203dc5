//! What must hold of a network before any table is built: references in range, lists not empty, numbers that the
//! tables have room for. Whoever reads configurations says most of this with more context; here it guards the compiler.

use crate::model::{
    Authorised, Coverage, DnsAnswer, LabelRule, Network, Origin, Otherwise, Pool, Sealed, Service, Signed,
    TargetState, Unauthorised, Vip,
};
use crate::proofs::tag_place;
use crate::refusal::Refusal;
use crate::regions::MAX_REGIONS;

/// Most targets: records name them with 16 bits.
pub const MAX_TARGETS: usize = 1 << 16;
/// Most services. Room for ten times A-8; 64 MiB of records.
pub const MAX_SERVICES: usize = 1 << 20;
/// Most CDNs: entries name them with 16 bits.
pub const MAX_CDNS: usize = 1 << 16;
/// Most pools of one tier: the sum of their shares stays below 2^64 in units of weight.
pub const MAX_TIER_POOLS: usize = 4096;
/// Longest TTL in seconds (RFC 2181 section 8).
pub const MAX_TTL: u32 = i32::MAX as u32;
/// Most addresses in one DNS answer (P-7).
pub const MAX_ANSWERS: u8 = 4;
/// Largest weight and share.
pub const MAX_WEIGHT: u32 = 65535;

/// Everything that is wrong by itself.
pub(crate) fn check(network: &Network, states: &[TargetState]) -> Vec<Refusal> {
    let mut check = Check { network, refusals: Vec::new() };
    check.sizes(states.len());
    if let Some(region) = network.default_region {
        check.index("default region", &Origin::default(), "region", region, network.regions.len());
    }
    network.vips.iter().for_each(|vip| check.vip(vip));
    network.pools.iter().for_each(|pool| check.pool(pool));
    network.coverages.iter().for_each(|coverage| check.coverage(coverage));
    network.services.iter().for_each(|service| check.service(service));
    check.names();
    check.refusals
}

struct Check<'n> {
    network: &'n Network,
    refusals: Vec<Refusal>,
}

impl Check<'_> {
    fn refuse(&mut self, what: &str, origin: &Origin, why: impl Into<String>, remedy: impl Into<String>) {
        self.refusals.push(Refusal::new(what, origin, why, remedy));
    }

    fn sizes(&mut self, states: usize) {
        let Network { cdns, regions, targets, services, .. } = self.network;
        for (what, count, limit) in [
            ("CDNs", cdns.len(), MAX_CDNS),
            ("regions", regions.len(), MAX_REGIONS),
            ("targets", targets.len(), MAX_TARGETS),
            ("services", services.len(), MAX_SERVICES),
        ] {
            if count > limit {
                let remedy = format!("configure at most {limit}");
                self.refusals.push(Refusal::of_network(what, format!("there are {count}"), remedy));
            }
        }
        if states != targets.len() {
            let why = format!("{states} states for {} targets", targets.len());
            self.refusals.push(Refusal::of_network("target states", why, "give one state per target"));
        }
    }

    fn index(&mut self, what: &str, origin: &Origin, kind: &str, index: usize, count: usize) {
        if index >= count {
            self.refuse(
                what,
                origin,
                format!("it names {kind} number {index} of {count}"),
                "name one that exists",
            );
        }
    }

    fn weight(&mut self, what: &str, origin: &Origin, weight: u32) {
        if !(1..=MAX_WEIGHT).contains(&weight) {
            self.refuse(what, origin, format!("weight or share {weight}"), format!("use 1 to {MAX_WEIGHT}"));
        }
    }

    fn ttl(&mut self, what: &str, origin: &Origin, ttl: u32) {
        if ttl > MAX_TTL {
            self.refuse(
                what,
                origin,
                format!("a TTL of {ttl} seconds"),
                format!("use at most {MAX_TTL} (RFC 2181)"),
            );
        }
    }

    fn vip(&mut self, vip: &Vip) {
        let what = format!("vip {:?}", vip.name);
        self.index(&what, &vip.origin, "CDN", vip.cdn, self.network.cdns.len());
        if vip.ipv4.is_empty() && vip.ipv6.is_empty() {
            self.refuse(&what, &vip.origin, "it has no address", "give it at least one");
        }
        let unspecified =
            vip.ipv4.iter().any(|a| a.is_unspecified()) || vip.ipv6.iter().any(|a| a.is_unspecified());
        if unspecified || vip.ipv6.iter().any(|address| address.to_ipv4_mapped().is_some()) {
            let why = "0.0.0.0, :: and IPv4-mapped addresses (::ffff:0:0/96) cannot be anycast addresses";
            self.refuse(&what, &vip.origin, why, "use the plain address");
        }
    }

    fn pool(&mut self, pool: &Pool) {
        let what = format!("pool {:?}", pool.name);
        if pool.members.len() > MAX_TARGETS {
            self.refuse(
                &what,
                &pool.origin,
                "more members than there can be targets",
                "name each target once",
            );
        }
        for (target, weight) in &pool.members {
            self.index(&what, &pool.origin, "target", *target, self.network.targets.len());
            self.weight(&what, &pool.origin, *weight);
        }
    }

    fn coverage(&mut self, coverage: &Coverage) {
        for (number, tier) in coverage.tiers.iter().enumerate() {
            let what = format!("tier {} of coverage {:?}", number + 1, coverage.name);
            if let Some(region) = tier.region {
                self.index(&what, &tier.origin, "region", region, self.network.regions.len());
            }
            if tier.pools.len() > MAX_TIER_POOLS {
                let remedy = format!("use at most {MAX_TIER_POOLS}");
                self.refuse(&what, &tier.origin, format!("{} pools", tier.pools.len()), remedy);
            }
            for (pool, share) in &tier.pools {
                self.index(&what, &tier.origin, "pool", *pool, self.network.pools.len());
                self.weight(&what, &tier.origin, *share);
            }
            self.ttl(&what, &tier.origin, tier.ttl.unwrap_or(0));
        }
    }

    fn service(&mut self, service: &Service) {
        let what = format!("service {:?}", service.name);
        self.index(&what, &service.origin, "CDN", service.cdn, self.network.cdns.len());
        self.index(&what, &service.origin, "coverage", service.coverage, self.network.coverages.len());
        for target in &service.fallback {
            self.index(&what, &service.origin, "target", *target, self.network.targets.len());
        }
        if !(1..=MAX_ANSWERS).contains(&service.answers) {
            let why = format!("{} addresses per answer", service.answers);
            self.refuse(&what, &service.origin, why, format!("use 1 to {MAX_ANSWERS}"));
        }
        self.ttl(&what, &service.origin, service.ttl);
        if let Some(Authorised { keys, otherwise, .. }) = &service.authorised {
            let like = match otherwise {
                Unauthorised::Like(otherwise) => otherwise,
                Unauthorised::Port(_) => &Otherwise::Refuse,
            };
            self.keys(&what, &service.origin, keys, like);
        }
    }

    fn names(&mut self) {
        let services = self.network.services.len();
        for zone in &self.network.zones {
            let what = format!("zone {:?}", zone.suffix.join("."));
            self.index(&what, &zone.origin, "CDN", zone.cdn, self.network.cdns.len());
            self.ttl(&what, &zone.origin, zone.negative_ttl.max(zone.ns_ttl));
            zone.ill_formed.iter().for_each(|otherwise| self.otherwise(&what, &zone.origin, otherwise));
            if let Some(Sealed { keys, otherwise, .. }) = &zone.sealed {
                self.keys(&what, &zone.origin, keys, otherwise);
            }
            for grammar in &zone.grammars {
                self.index(&what, &grammar.origin, "service", grammar.service, services);
                self.signed(&what, &grammar.origin, &grammar.labels, grammar.signed.as_ref());
                let service = self.network.services.get(grammar.service);
                let authorised =
                    service.is_some_and(|one| one.authorised.is_some() && one.dns == DnsAnswer::Server);
                if authorised && grammar.signed.is_some() {
                    let why = "names that are signed lead to a service whose tags are tokens";
                    self.refuse(&what, &grammar.origin, why, "leave `signed` out: a token says more");
                }
            }
        }
        for rule in &self.network.urls {
            self.index("URL rule", &rule.origin, "service", rule.service, services);
            self.signed("URL rule", &rule.origin, &rule.host, rule.signed.as_ref());
        }
    }

    fn signed(&mut self, what: &str, origin: &Origin, labels: &[LabelRule], signed: Option<&Signed>) {
        let Some(Signed { keys, otherwise }) = signed else { return };
        if tag_place(labels).is_none() {
            self.refuse(what, origin, "signed names have no label for the tag", "write one label `{tag}`");
        }
        self.keys(what, origin, keys, otherwise);
    }

    fn keys(&mut self, what: &str, origin: &Origin, keys: &[String], otherwise: &Otherwise) {
        for key in keys.iter().filter(|name| !self.network.keys.iter().any(|key| key.name == **name)) {
            let why = format!("key {key:?} counts, and there is none");
            self.refusals.push(Refusal::new(what, origin, why, "keep the key, or name another one"));
        }
        self.otherwise(what, origin, otherwise);
    }

    fn otherwise(&mut self, what: &str, origin: &Origin, otherwise: &Otherwise) {
        if let Otherwise::Service(name) = otherwise
            && !self.network.services.iter().any(|service| service.name == *name)
        {
            let why = format!("others get service {name:?}, and there is none");
            self.refuse(what, origin, why, "name one that exists");
        }
        if let Otherwise::Service(name) = otherwise
            && self
                .network
                .services
                .iter()
                .any(|service| service.name == *name && service.authorised.is_some())
        {
            let why = format!("others get service {name:?}, which is for those who are authorised");
            self.refuse(what, origin, why, "name a service that is for everybody");
        }
    }
}
