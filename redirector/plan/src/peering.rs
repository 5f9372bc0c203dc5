//! Content peering: which network a client belongs to, whose content it asks for, and who serves it (P-29, P-31).
//!
//! A provider's services choose first *who* serves: the network's own servers, those servers on account of an agreement,
//! or the provider's own CDN. That choice is among targets like any other (ADR 13, ADR 15): every agreement is a target for
//! each provider that it covers, behind those that the operator wrote, and one that is full, expired, out of hours or withdrawn is a target that takes
//! no clients. [`split`] gives each provider's names to services of their own, [`settle`] makes the targets.

use crate::model::{
    Grammar, LabelRule, Network, Origin, Otherwise, Outcome, Service, Signed, Target, UrlRule,
};
use crate::refusal::Refusal;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// Targets that the operator wrote; those of accounts stand behind them.
    pub written_targets: usize,
    /// On whose account servers serve: each is a target behind the written ones, in this order.
    #[serde(default)]
    pub accounts: Vec<ServedFor>,
}

/// On whose account a network's servers serve a provider's content: an agreement's, or without any where that network
/// is a primary CDN of the provider. Agreements come first, in their order, and under each the providers in theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ServedFor {
    /// By an agreement.
    Agreement {
        /// Index into [`Peering::agreements`].
        agreement: usize,
        /// Index into [`Peering::providers`].
        provider: usize,
    },
    /// By a primary CDN of its own.
    Own {
        /// Index into [`Peering::networks`].
        network: usize,
        /// Index into [`Peering::providers`].
        provider: usize,
    },
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

impl Peering {
    /// The target of an account, if there is one.
    fn target_of(&self, account: ServedFor) -> Option<usize> {
        Some(self.written_targets + self.accounts.binary_search(&account).ok()?)
    }

    /// The target that stands for the servers, booked to an agreement, for a provider's content.
    pub fn agreement_target(&self, agreement: usize, provider: usize) -> Option<usize> {
        self.target_of(ServedFor::Agreement { agreement, provider })
    }

    /// All targets of an agreement, one for each provider that it covers.
    pub fn agreement_targets(&self, agreement: usize) -> std::ops::Range<usize> {
        let before = |agreement: usize| {
            let first = ServedFor::Agreement { agreement, provider: 0 };
            self.written_targets + self.accounts.partition_point(|account| *account < first)
        };
        before(agreement)..before(agreement + 1)
    }

    /// The account of a target.
    pub fn account_of(&self, target: usize) -> Option<ServedFor> {
        self.accounts.get(target.checked_sub(self.written_targets)?).copied()
    }

    /// The target that stands for a network's own servers, for a provider's content.
    pub fn own_target(&self, network: usize, provider: usize) -> Option<usize> {
        self.target_of(ServedFor::Own { network, provider })
    }

    /// Name and origin of an account's target.
    fn stand_in(&self, account: ServedFor) -> (String, &Origin) {
        match account {
            ServedFor::Agreement { agreement, provider } => {
                let agreement = &self.agreements[agreement];
                let name = format!("agreement:{}@{}", agreement.name, self.providers[provider].name);
                (name, &agreement.origin)
            }
            ServedFor::Own { network, provider } => {
                let network = &self.networks[network];
                (format!("network:{}@{}", network.name, self.providers[provider].name), &network.origin)
            }
        }
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

fn covers(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|known| known == name)
}

impl Agreement {
    /// Whether it is about a provider's content at all.
    pub fn carries(&self, provider: &Provider) -> bool {
        provider.primary.contains(&self.with) && covers(&self.carries.providers, &provider.name)
    }
}

/// The agreements by which a network's servers may serve a provider's service, in order of use.
pub fn agreements(network: &Network, provided: &Provided, client_network: usize) -> Vec<usize> {
    let Peering { providers, agreements, .. } = &network.peering;
    let (provider, service) = (&providers[provided.provider], &network.services[provided.written]);
    let fits = |agreement: &Agreement| {
        agreement.network == client_network
            && agreement.carries(provider)
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
        peering.own_target(client_network, provided.provider).into_iter().collect()
    } else {
        let agreements = agreements(network, provided, client_network).into_iter();
        agreements.filter_map(|one| peering.agreement_target(one, provided.provider)).collect()
    };
    targets.extend(provider.outside);
    targets
}

/// Puts the targets of accounts behind those that the operator wrote. Those of a run before are replaced.
pub fn settle(network: &mut Network) {
    let Network { targets, peering, .. } = network;
    if peering.networks.is_empty() {
        return;
    }
    let mut accounts = Vec::new();
    for (agreement, one) in peering.agreements.iter().enumerate() {
        let carried =
            (0..peering.providers.len()).filter(|provider| one.carries(&peering.providers[*provider]));
        accounts.extend(carried.map(|provider| ServedFor::Agreement { agreement, provider }));
    }
    for (network, one) in peering.networks.iter().enumerate() {
        let own =
            (0..peering.providers.len()).filter(|provider| is_primary(&peering.providers[*provider], one));
        accounts.extend(own.map(|provider| ServedFor::Own { network, provider }));
    }
    peering.accounts = accounts;
    targets.truncate(peering.written_targets);
    let made = peering.accounts.iter().map(|account| peering.stand_in(*account));
    targets.extend(made.map(|(name, origin)| stand_in(name, origin)));
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
    let mut provided = Vec::new();
    for (number, service) in network.services.iter().enumerate() {
        let has_all = |one: &Provider| one.customers.is_empty() && one.services.contains(&service.name);
        let provider = providers.iter().position(has_all);
        provided.extend(provider.map(|provider| Provided { service: number, written: number, provider }));
    }
    let mut parts = Parts::new(&providers, &network.services);
    for zone in &mut network.zones {
        let mut divided = Vec::with_capacity(zone.grammars.len());
        for rule in std::mem::take(&mut zone.grammars) {
            for Part { service, labels, provider } in parts.divide(rule.service, &rule.labels) {
                let signed = parts.signed(rule.signed.as_ref(), provider);
                divided.push(Grammar { labels, service, signed, ..rule.clone() });
            }
        }
        zone.grammars = divided;
    }
    let mut urls = Vec::with_capacity(network.urls.len());
    for rule in std::mem::take(&mut network.urls) {
        for Part { service, labels, provider } in parts.divide(rule.service, &rule.host) {
            let signed = parts.signed(rule.signed.as_ref(), provider);
            urls.push(UrlRule { host: labels, service, signed, ..rule.clone() });
        }
    }
    // A service that stays as it was has its rules in parts already.
    let mut known = HashSet::new();
    let key = |rule: &UrlRule| {
        (rule.schemes, rule.host.clone(), rule.suffix.clone(), rule.path.clone(), rule.service)
    };
    network.urls = urls.into_iter().filter(|rule| known.insert(key(rule))).collect();
    let (made, of_providers) = (parts.made, parts.provided);
    network.services.extend(made);
    provided.extend(of_providers);
    provided.sort_by_key(|one| one.service);
    network.peering.provided = provided;
    network.peering.providers = providers;
}

/// A part of a rule.
struct Part {
    service: usize,
    labels: Vec<LabelRule>,
    /// Whose it is; `None`: what no provider has.
    provider: Option<usize>,
}

/// Services that are made of providers' parts of written ones.
struct Parts<'p> {
    providers: &'p [Provider],
    written: Vec<String>,
    /// Providers that name a customer.
    by_customer: HashMap<&'p str, Vec<usize>>,
    services: Vec<Service>,
    made: Vec<Service>,
    provided: Vec<Provided>,
    numbers: HashMap<(usize, usize), usize>,
}

impl<'p> Parts<'p> {
    fn new(providers: &'p [Provider], services: &[Service]) -> Self {
        let mut by_customer: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, provider) in providers.iter().enumerate() {
            for customer in &provider.customers {
                by_customer.entry(customer).or_default().push(number);
            }
        }
        Self {
            providers,
            written: services.iter().map(|service| service.name.clone()).collect(),
            by_customer,
            services: services.to_vec(),
            made: Vec::new(),
            provided: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Whether a provider's customers are its own in this service.
    fn claims(&self, provider: usize, service: usize) -> bool {
        let Provider { customers, services, .. } = &self.providers[provider];
        !customers.is_empty() && (services.is_empty() || services.contains(&self.written[service]))
    }

    /// The service that is a provider's part of a written one.
    fn part(&mut self, service: usize, provider: usize) -> usize {
        let next = self.services.len() + self.made.len();
        let number = *self.numbers.entry((service, provider)).or_insert(next);
        if number == next {
            let name = self.name(service, provider);
            self.made.push(Service { name, ..self.services[service].clone() });
            self.provided.push(Provided { service: number, written: service, provider });
        }
        number
    }

    /// What names without a good tag get: if it is another service, a provider's part of that.
    fn signed(&mut self, signed: Option<&Signed>, provider: Option<usize>) -> Option<Signed> {
        let mut signed = signed?.clone();
        if let (Otherwise::Service(name), Some(provider)) = (&mut signed.otherwise, provider)
            && let Some(service) = self.written.iter().position(|written| written == name)
            && self.claims(provider, service)
        {
            self.part(service, provider);
            *name = self.name(service, provider);
        }
        Some(signed)
    }

    fn name(&self, service: usize, provider: usize) -> String {
        format!("{}@{}", self.written[service], self.providers[provider].name)
    }

    /// A pattern of a service in parts: those of providers, and what is left, which may be nothing.
    fn divide(&mut self, service: usize, labels: &[LabelRule]) -> Vec<Part> {
        let is_customer = |rule: &LabelRule| match rule {
            LabelRule::Free(name) | LabelRule::OneOf(name, _) => name == CUSTOMER,
            LabelRule::Fixed(_) => false,
        };
        let Some(place) = labels.iter().position(is_customer) else {
            return vec![Part { service, labels: labels.to_vec(), provider: None }];
        };
        let mut parts = Vec::new();
        let mut push = |service, rule: LabelRule, provider| {
            let labels = [&labels[..place], &[rule], &labels[place + 1..]].concat();
            parts.push(Part { service, labels, provider });
        };
        let one_of = |values| LabelRule::OneOf(CUSTOMER.to_owned(), values);
        let LabelRule::OneOf(_, values) = &labels[place] else {
            let claiming: Vec<usize> =
                (0..self.providers.len()).filter(|one| self.claims(*one, service)).collect();
            for provider in claiming {
                let customers = self.providers[provider].customers.clone();
                push(self.part(service, provider), one_of(customers), Some(provider));
            }
            push(service, labels[place].clone(), None);
            return parts;
        };
        let mut by_provider: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let mut left = Vec::new();
        for value in values {
            let claiming = self.by_customer.get(value.as_str()).into_iter().flatten();
            match claiming.copied().find(|one| self.claims(*one, service)) {
                Some(provider) => by_provider.entry(provider).or_default().push(value.clone()),
                None => left.push(value.clone()),
            }
        }
        for (provider, values) in by_provider {
            push(self.part(service, provider), one_of(values), Some(provider));
        }
        if !left.is_empty() {
            push(service, one_of(left), None);
        }
        parts
    }
}

/// What of this the tables cannot be made of.
pub(crate) fn check(network: &Network, refusals: &mut Vec<Refusal>) {
    let Peering { networks, providers, agreements, provided, written_targets, accounts, .. } =
        &network.peering;
    let mut refuse = |what: String, origin: &Origin, why: String, remedy: &str| {
        refusals.push(Refusal::new(what, origin, why, remedy));
    };
    let made = accounts.len();
    if !networks.is_empty() && network.targets.len() != written_targets + made {
        let held = network.targets.len().saturating_sub(*written_targets);
        let why = format!("{held} targets for {made} accounts of agreements and networks");
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
        let outside = provider.outside.and_then(|target| network.targets.get(target));
        let by_name = outside.is_some_and(|target| target.outcome != Outcome::Server);
        let mut grammars = network.zones.iter().flat_map(|zone| &zone.grammars);
        if by_name && grammars.any(|grammar| grammar.labels.is_empty() && grammar.service == one.service) {
            let why = "a zone's apex is its content, and cannot be another name".to_owned();
            refuse(
                what.clone(),
                &provider.origin,
                why,
                "give the apex another service, or the provider addresses",
            );
        }
        if provider.outside.is_none() && networks.iter().any(|network| !is_primary(provider, network)) {
            let why = "it has no `outside`, and clients whose network has no agreement go there".to_owned();
            refuse(what, &provider.origin, why, "name a target that leads to the provider's own CDN");
        }
    }
}
