//! Content peering: which network a client belongs to, whose content it asks for, and who serves it (P-29, P-31).
//!
//! A provider's services choose first *who* serves: the network's own servers, those servers on account of an agreement,
//! or the provider's own CDN. That choice is among targets like any other (ADR 13, ADR 15): every agreement is a target
//! behind those that the operator wrote, and one that is full, expired, out of hours or withdrawn is a target that takes
//! no clients. [`split`] gives each provider's names to services of their own, [`settle`] makes the targets.

use crate::model::{Grammar, LabelRule, Network, Origin, Outcome, Service, Target, UrlRule};
use crate::refusal::Refusal;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The variable of names and URLs whose values are providers' customers.
pub const CUSTOMER: &str = "customer";

/// What the operator wrote of other networks, and what was made of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Peering {
    /// Networks whose clients come here. The first owns the box: its clients are all whom no other one's prefixes
    /// cover. Empty: there are no providers.
    pub networks: Vec<ClientNetwork>,
    /// By name.
    pub providers: Vec<Provider>,
    /// Names of the entities that agreements are made through (P-31).
    pub brokers: Vec<String>,
    /// By name.
    pub agreements: Vec<Agreement>,
    /// Services whose content is a provider's, by service.
    pub provided: Vec<Provided>,
    /// Targets that the operator wrote; those of agreements and networks stand behind them.
    pub written_targets: usize,
}

/// A network that clients belong to, and the CDN of the same name that serves them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientNetwork {
    /// Operator's name.
    pub name: String,
    /// Client prefixes with host bits zero. They may nest in those of other networks, and in regions.
    pub prefixes: Vec<IpNet>,
    /// Where it was written.
    pub origin: Origin,
}

/// A content provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provider {
    /// Operator's name.
    pub name: String,
    /// Values of [`CUSTOMER`] in names and URLs that are this provider; empty: every name of its services.
    pub customers: Vec<String>,
    /// Services, by name; empty: all.
    pub services: Vec<String>,
    /// Names of its primary CDNs.
    pub primary: Vec<String>,
    /// Index into [`Network::targets`]: what leads to its own CDN.
    pub outside: Option<usize>,
    /// Where it was written.
    pub origin: Origin,
}

/// A service whose content is a provider's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provided {
    /// Index into [`Network::services`].
    pub service: usize,
    /// The service as the operator wrote it: the same, or the one that this is the provider's part of.
    pub written: usize,
    /// Index into [`Peering::providers`].
    pub provider: usize,
}

/// By which one network's servers serve content whose primary CDN is another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Operator's name.
    pub name: String,
    /// Index into [`Peering::networks`]: whose servers serve its clients.
    pub network: usize,
    /// The CDN that it is made with.
    pub with: String,
    /// The broker that owns it, if one does (P-31).
    pub owner: Option<String>,
    /// What it covers.
    pub carries: Carries,
    /// Of several that cover the same thing, the lowest comes first.
    pub order: u32,
    /// Millionths of whatever the operator counts in; equal orders go by price.
    pub price: u64,
    /// When it holds, and how much.
    pub terms: Terms,
    /// Where it was written.
    pub origin: Origin,
}

/// What an agreement covers; an empty list is everything of the CDN's providers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carries {
    /// Providers, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<String>,
    /// Services, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Classes of services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// What of an agreement changes who is served without changing what it covers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Whether both sides want it.
    #[serde(default)]
    pub state: Consent,
    /// Requests in a second, of all boxes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Bits in a second, of all boxes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u64>,
    /// Times of day (UTC) at which it holds; empty is always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
    /// Seconds since 1970 from which it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Seconds since 1970 at which it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// Whether both sides want an agreement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// It holds.
    #[default]
    Accepted,
    /// One side has proposed it.
    Offered,
    /// One side has taken it back.
    Withdrawn,
}

impl fmt::Display for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Offered => "offered",
            Self::Withdrawn => "withdrawn",
        })
    }
}

/// A part of each day: seconds of the day (UTC). One that ends before it begins goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// First second.
    pub from: u32,
    /// The second after the last; 86 400 is midnight.
    pub until: u32,
}

impl Hours {
    fn hold(self, second: u32) -> bool {
        let (after, before) = (second >= self.from, second < self.until);
        if self.from < self.until { after && before } else { after || before }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |second: u32| (second / 3600, second / 60 % 60);
        let (from, until) = (clock(self.from), clock(self.until));
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, until.0, until.1)
    }
}

/// Why an agreement does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lapse {
    /// It was proposed and is not accepted.
    Offered,
    /// It was taken back.
    Withdrawn,
    /// It begins later.
    NotYet,
    /// It is over.
    Expired,
    /// It does not hold at this time of day.
    OutOfHours,
}

impl fmt::Display for Lapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offered => "offered, not accepted",
            Self::Withdrawn => "withdrawn",
            Self::NotYet => "not valid yet",
            Self::Expired => "expired",
            Self::OutOfHours => "out of hours",
        })
    }
}

impl Terms {
    /// Why it does not hold at a time in seconds since 1970; `None`: it does.
    pub fn lapse(&self, now: u64) -> Option<Lapse> {
        let second = (now % 86_400) as u32;
        match self.state {
            Consent::Offered => Some(Lapse::Offered),
            Consent::Withdrawn => Some(Lapse::Withdrawn),
            Consent::Accepted if self.until.is_some_and(|until| now >= until) => Some(Lapse::Expired),
            Consent::Accepted if self.from.is_some_and(|from| now < from) => Some(Lapse::NotYet),
            Consent::Accepted => {
                let holds = self.hours.is_empty() || self.hours.iter().any(|hours| hours.hold(second));
                (!holds).then_some(Lapse::OutOfHours)
            }
        }
    }
}

impl Agreement {
    /// Name of the target that stands for the servers, booked to this agreement.
    pub fn stand_in(&self) -> String {
        format!("agreement:{}", self.name)
    }
}

impl Peering {
    /// The target of an agreement.
    pub fn agreement_target(&self, agreement: usize) -> usize {
        self.written_targets + agreement
    }

    /// The agreement of a target.
    pub fn agreement_of(&self, target: usize) -> Option<&Agreement> {
        self.agreements.get(target.checked_sub(self.written_targets)?)
    }

    /// The target that stands for a network's own servers.
    pub fn own_target(&self, network: usize) -> usize {
        self.written_targets + self.agreements.len() + network
    }

    /// The provider whose content a service is.
    pub fn provided(&self, service: usize) -> Option<&Provided> {
        self.provided.iter().find(|provided| provided.service == service)
    }

    /// The network of a client: the one with the longest prefix around its address, else the box's owner.
    pub fn network_of(&self, client: std::net::IpAddr) -> Option<(&ClientNetwork, Option<IpNet>)> {
        let covering = |network: &ClientNetwork| {
            let prefixes = network.prefixes.iter().filter(|prefix| prefix.contains(&client));
            prefixes.max_by_key(|prefix| prefix.prefix_len()).copied()
        };
        let found = self.networks.iter().filter_map(|network| Some((network, covering(network)?)));
        let longest = found.max_by_key(|(_, prefix)| prefix.prefix_len());
        longest
            .map(|(network, prefix)| (network, Some(prefix)))
            .or_else(|| Some((self.networks.first()?, None)))
    }
}

/// Whether a provider's content is to be served by a network's own servers without any agreement.
pub fn is_primary(provider: &Provider, network: &ClientNetwork) -> bool {
    provider.primary.contains(&network.name)
}

/// The agreements by which a network's servers may serve a provider's service, in order of use.
pub fn agreements(network: &Network, provided: &Provided, client_network: usize) -> Vec<usize> {
    let Peering { providers, agreements, .. } = &network.peering;
    let (provider, service) = (&providers[provided.provider], &network.services[provided.written]);
    let covers = |list: &[String], name: &str| list.is_empty() || list.iter().any(|known| known == name);
    let fits = |agreement: &Agreement| {
        agreement.network == client_network
            && provider.primary.contains(&agreement.with)
            && covers(&agreement.carries.providers, &provider.name)
            && covers(&agreement.carries.services, &service.name)
            && covers(&agreement.carries.classes, &service.class)
    };
    let mut found: Vec<usize> = (0..agreements.len()).filter(|one| fits(&agreements[*one])).collect();
    found.sort_by_key(|one| (agreements[*one].order, agreements[*one].price));
    found
}

/// The rule of P-29: targets for a client of a network that asks for a provider's content, in order of use.
pub fn servers(network: &Network, provided: &Provided, client_network: usize) -> Vec<usize> {
    let peering = &network.peering;
    let provider = &peering.providers[provided.provider];
    let mut targets: Vec<usize> = if is_primary(provider, &peering.networks[client_network]) {
        vec![peering.own_target(client_network)]
    } else {
        let agreements = agreements(network, provided, client_network);
        agreements.into_iter().map(|agreement| peering.agreement_target(agreement)).collect()
    };
    targets.extend(provider.outside);
    targets
}

/// Puts the targets of agreements and networks behind those that the operator wrote. Those of a run before are replaced.
pub fn settle(network: &mut Network) {
    let Network { targets, peering, .. } = network;
    if peering.networks.is_empty() {
        return;
    }
    targets.truncate(peering.written_targets);
    let agreements = peering.agreements.iter().map(|one| (one.stand_in(), &one.origin));
    let networks = peering.networks.iter().map(|one| (format!("network:{}", one.name), &one.origin));
    let made: Vec<Target> = agreements.chain(networks).map(|(name, origin)| stand_in(name, origin)).collect();
    targets.extend(made);
}

/// A target that stands for the servers of whatever service chooses it.
fn stand_in(name: String, origin: &Origin) -> Target {
    Target {
        name,
        site: String::new(),
        ipv4: None,
        ipv6: None,
        host: None,
        outcome: Outcome::OwnServers,
        http_port: 80,
        https_port: 443,
        rtsp_port: 554,
        network: 0,
        origin: origin.clone(),
    }
}

/// Gives each provider's names and URLs to services that are its own, and notes whose each service is. The written
/// targets must be complete.
pub fn split(network: &mut Network) {
    if network.peering.networks.is_empty() {
        return;
    }
    network.peering.written_targets = network.targets.len();
    let providers = std::mem::take(&mut network.peering.providers);
    let written = network.services.len();
    let mut provided = Vec::new();
    for service in 0..written {
        let claims = |provider: &&Provider| {
            provider.services.is_empty() || provider.services.contains(&network.services[service].name)
        };
        let whole = providers.iter().position(|one| one.customers.is_empty() && claims(&one));
        provided.extend(whole.map(|provider| Provided { service, written: service, provider }));
        let parts = (0..providers.len()).filter(|one| {
            let provider = &providers[*one];
            !provider.customers.is_empty() && claims(&provider)
        });
        for provider in parts.collect::<Vec<_>>() {
            let made = network.services.len();
            if take_names(network, service, made, &providers[provider].customers) {
                let part = &network.services[service];
                let name = format!("{}@{}", part.name, providers[provider].name);
                let part = Service { name, ..part.clone() };
                network.services.push(part);
                provided.push(Provided { service: made, written: service, provider });
            }
        }
    }
    provided.sort_by_key(|one| one.service);
    network.peering.provided = provided;
    network.peering.providers = providers;
}

/// Gives the names and URLs of `service` whose customer is one of `customers` to the service `made`; whether there are
/// any.
fn take_names(network: &mut Network, service: usize, made: usize, customers: &[String]) -> bool {
    let mut any = false;
    for zone in &mut network.zones {
        let grammars = std::mem::take(&mut zone.grammars);
        for grammar in grammars {
            if grammar.service != service {
                zone.grammars.push(grammar);
                continue;
            }
            let (taken, left) = part(&grammar.labels, customers);
            any |= taken.is_some();
            let of = |labels, service| Grammar { labels, service, ..grammar.clone() };
            zone.grammars.extend(taken.map(|labels| of(labels, made)));
            zone.grammars.extend(left.map(|labels| of(labels, service)));
        }
    }
    let urls = std::mem::take(&mut network.urls);
    for rule in urls {
        if rule.service != service {
            network.urls.push(rule);
            continue;
        }
        let (taken, left) = part(&rule.host, customers);
        any |= taken.is_some();
        let of = |host, service| UrlRule { host, service, ..rule.clone() };
        for rule in taken.map(|host| of(host, made)).into_iter().chain(left.map(|host| of(host, service))) {
            // A service that stays as it was has its rules in parts already.
            if !network.urls.iter().any(|known| same_urls(known, &rule)) {
                network.urls.push(rule);
            }
        }
    }
    any
}

fn same_urls(a: &UrlRule, b: &UrlRule) -> bool {
    (a.schemes, &a.host, &a.suffix, &a.path, a.service) == (b.schemes, &b.host, &b.suffix, &b.path, b.service)
}

/// The labels with the customers alone, and those without them; `None` where nothing is left.
fn part(labels: &[LabelRule], customers: &[String]) -> (Option<Vec<LabelRule>>, Option<Vec<LabelRule>>) {
    let is_customer = |rule: &LabelRule| match rule {
        LabelRule::Free(name) | LabelRule::OneOf(name, _) => name == CUSTOMER,
        LabelRule::Fixed(_) => false,
    };
    let Some(place) = labels.iter().position(is_customer) else { return (None, Some(labels.to_vec())) };
    let with = |values: Vec<String>| {
        let rule = LabelRule::OneOf(CUSTOMER.to_owned(), values);
        [&labels[..place], &[rule], &labels[place + 1..]].concat()
    };
    match &labels[place] {
        LabelRule::OneOf(_, values) => {
            let (taken, left): (Vec<_>, Vec<_>) =
                values.iter().cloned().partition(|value| customers.contains(value));
            let some = |values: Vec<String>| (!values.is_empty()).then(|| with(values));
            (some(taken), some(left))
        }
        _ => (Some(with(customers.to_vec())), Some(labels.to_vec())),
    }
}

/// What of this the tables cannot be made of.
pub(crate) fn check(network: &Network, refusals: &mut Vec<Refusal>) {
    let Peering { networks, providers, agreements, provided, written_targets, .. } = &network.peering;
    let mut refuse = |what: String, origin: &Origin, why: String, remedy: &str| {
        refusals.push(Refusal::new(what, origin, why, remedy));
    };
    let made = if networks.is_empty() { 0 } else { agreements.len() + networks.len() };
    if !networks.is_empty() && network.targets.len() != written_targets + made {
        let why =
            format!("{} targets for {made} agreements and networks", network.targets.len() - written_targets);
        refuse("agreements".into(), &Origin::default(), why, "settle the network");
    }
    for agreement in agreements.iter().filter(|agreement| agreement.network >= networks.len()) {
        let why = format!("it names network number {} of {}", agreement.network, networks.len());
        refuse(format!("peering {:?}", agreement.name), &agreement.origin, why, "name one that exists");
    }
    for one in provided {
        let (Some(service), Some(provider)) =
            (network.services.get(one.service), providers.get(one.provider))
        else {
            let why = format!("service {} or provider {} is not there", one.service, one.provider);
            refuse("providers".into(), &Origin::default(), why, "name those that exist");
            continue;
        };
        let what = format!("provider {:?}", provider.name);
        if service.srv.is_some() {
            let why = format!("service {:?} answers SRV queries with sites", service.name);
            refuse(what.clone(), &provider.origin, why, "leave it out of the provider's services");
        }
        if provider.outside.is_none() && networks.iter().any(|network| !is_primary(provider, network)) {
            let why = "it has no `outside`, and clients whose network has no agreement go there".to_owned();
            refuse(what, &provider.origin, why, "name a target that leads to the provider's own CDN");
        }
    }
}
