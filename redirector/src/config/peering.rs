//! Other networks, content providers, and the agreements about whose content is served to whom (P-29, P-31).

use super::aliases::Known;
use super::index::{Index, Named, written_name};
use super::prefixes::{self, Reader};
use super::read::{Document, Section, Text, Value};
use super::terms::{self, Capacity};
use redirector_plan::model::LabelRule;
use redirector_plan::model::{Network, Outcome, Service, Zone};
use redirector_plan::outcomes::{coverages_with_outcomes, has_outcomes};
use redirector_plan::peering::{
    self, Agreement, CUSTOMER, Carries, ClientNetwork, Consent, Peering, Provider, Terms,
};
use std::path::Path;

const PROVIDER: &[&str] = &["name", "customers", "services", "primary", "outside"];
const PEERING: &[&str] =
    &["name", "with", "network", "owner", "carries", "capacity", "hours", "price", "order", "valid", "state"];

/// What this refers to.
pub(super) struct References<'r> {
    pub(super) targets: &'r Index,
    pub(super) services: &'r Index,
    pub(super) known: &'r Known<'r>,
}

/// Reads `[network]`, `[[partner]]`, `[[provider]]`, `[[broker]]` and `[[peering]]`. An agreement with errors stays as it
/// was in the `last` network, if it was there.
pub(super) fn read_peering(
    doc: &Document,
    directory: &Path,
    root: &Section<'_>,
    references: &References<'_>,
    last: Option<&Network>,
) -> Option<Peering> {
    let networks = read_networks(doc, directory, root)?;
    let providers = read_providers(root, references, !networks.is_empty());
    let brokers = Named::sort("broker", root.tables("broker", &["name"]), written_name);
    let (brokers, broker_index) = brokers.read(|section, name| section.read(|| Some(name.to_owned())));
    let parties = Parties {
        networks: &networks,
        providers: &providers,
        services: references.services,
        service_list: references.known.services,
        brokers: &broker_index,
    };
    let agreements = read_agreements(doc, root, &parties, last);
    Some(Peering { networks, providers, agreements, brokers, ..Peering::default() })
}

/// `[network]` and the partners by name; none if neither is written.
fn read_networks(doc: &Document, directory: &Path, root: &Section<'_>) -> Option<Vec<ClientNetwork>> {
    let mut reader = Reader::new("network", doc, directory);
    let mut list = Vec::new();
    if let Some(value) = root.get("network") {
        let section = value.section(&["name", "clients"], "{ name = \"acme\" }")?;
        let name = section.require("name", "\"acme\"")?.word("\"acme\"")?.text;
        let prefixes = match section.get("clients") {
            None => Vec::new(),
            Some(value) => reader.read(name, &value)?,
        };
        list.push(ClientNetwork { name: name.to_owned(), prefixes, origin: section.place.origin() });
    }
    let sections = root.tables("partner", &["name", "clients"]);
    if let (Some(first), true) = (sections.first(), list.is_empty()) {
        first.place.error("there is no [network]", "add [network] with the `name` of the box's own network");
    }
    let named = Named::sort("partner", sections, written_name);
    let (partners, _) = named.read(|section, name| {
        section.read(|| {
            if list.iter().any(|known| known.name == name) {
                section.place.error(format!("`{name}` is the box's own network"), "name another one");
            }
            let value = section.require("clients", prefixes::EXAMPLE)?;
            let prefixes = reader.read(name, &value)?;
            Some(ClientNetwork { name: name.to_owned(), prefixes, origin: section.place.origin() })
        })
    });
    reader.check_repeats();
    list.extend(partners);
    Some(list)
}

/// A list of words; none if it is not written.
fn words<'a>(section: &Section<'a>, key: &'static str, example: &str) -> Option<Vec<Text<'a>>> {
    let Some(value) = section.get(key) else { return Some(Vec::new()) };
    let list = value.nonempty_list(example)?;
    let words: Vec<_> = list.iter().filter_map(|element| element.word(example)).collect();
    (words.len() == list.len()).then_some(words)
}

/// The names that a list of references has; unknown ones are reported.
fn resolved(list: &[Text<'_>], index: &Index) -> Option<Vec<String>> {
    let known = list.iter().filter(|text| index.resolve(text).is_some()).count();
    (known == list.len()).then(|| list.iter().map(|text| text.text.to_owned()).collect())
}

fn read_providers(root: &Section<'_>, references: &References<'_>, has_network: bool) -> Vec<Provider> {
    let sections = root.tables("provider", PROVIDER);
    if let (Some(first), false) = (sections.first(), has_network) {
        first.place.error("there is no [network]", "add [network] with the `name` of the box's own network");
    }
    let mut claimed: Vec<(String, String)> = Vec::new();
    let (list, _) = Named::sort("provider", sections, written_name).read(|section, name| {
        section.read(|| {
            let customers = words(section, "customers", "[\"abc\"]")?;
            let services = resolved(&words(section, "services", "[\"web\"]")?, references.services)?;
            if customers.is_empty() && services.is_empty() {
                let help = "add customers = [\"abc\"], the values of {customer} in names, or services = […]";
                section.place.error("nothing says what this provider's content is", help);
            }
            for customer in &customers {
                check_customer(customer, &services, references);
            }
            for key in claims(&customers, &services) {
                if let Some((_, other)) = claimed.iter().find(|(known, _)| *known == key) {
                    let message = format!("{key} is provider `{other}`'s already");
                    section.place.error(message, "give content to one provider");
                }
                claimed.push((key, name.to_owned()));
            }
            let primary = section.require("primary", "[\"acme\"]")?;
            let primary = primary.nonempty_list("[\"acme\"]")?;
            let primary: Option<Vec<String>> =
                primary.iter().map(|cdn| Some(cdn.word("\"acme\"")?.text.to_owned())).collect();
            let outside = match section.get("outside") {
                None => None,
                Some(value) => Some(read_outside(&value, references)?),
            };
            let customers = customers.iter().map(|text| text.text.to_ascii_lowercase()).collect();
            let origin = section.place.origin();
            Some(Provider { name: name.to_owned(), customers, services, primary: primary?, outside, origin })
        })
    });
    list
}

/// What a provider says is its own, for comparison with others.
fn claims(customers: &[Text<'_>], services: &[String]) -> Vec<String> {
    let of = |service: &str| match service {
        "" => String::new(),
        service => format!(" of service `{service}`"),
    };
    let services: Vec<&str> = match services {
        [] => vec![""],
        services => services.iter().map(String::as_str).collect(),
    };
    let each = services.iter().flat_map(|service| match customers {
        [] => vec![format!("the content{}", of(service))],
        customers => {
            let one =
                |text: &Text<'_>| format!("customer `{}`{}", text.text.to_ascii_lowercase(), of(service));
            customers.iter().map(one).collect()
        }
    });
    each.collect()
}

/// Reports a customer whom no name can have.
fn check_customer(customer: &Text<'_>, services: &[String], references: &References<'_>) {
    let value = customer.text.to_ascii_lowercase();
    let takes = |rule: &LabelRule| match rule {
        LabelRule::Free(name) => name == CUSTOMER,
        LabelRule::OneOf(name, values) => name == CUSTOMER && values.contains(&value),
        LabelRule::Fixed(_) => false,
    };
    let of_provider = |service: usize| {
        let name = references.known.services.get(service).map(|service| &service.name);
        services.is_empty() || name.is_some_and(|name| services.contains(name))
    };
    let grammars = references.known.zones.iter().flat_map(|zone| &zone.grammars);
    if !grammars.clone().any(|one| of_provider(one.service) && one.labels.iter().any(takes)) {
        customer.place.warning(
            format!("no name has `{value}` where its pattern says {{{CUSTOMER}}}"),
            "write {customer} in the patterns of zones, and list the value in [labels] if that lists any",
        );
    }
}

/// The target that leads to a provider's own CDN: nothing that is answered here (P-4).
fn read_outside(value: &Value<'_>, references: &References<'_>) -> Option<usize> {
    let text = value.word("\"bcast-edge\"")?;
    let index = references.targets.resolve(&text)?;
    let target = &references.known.targets[index];
    match &target.outcome {
        Outcome::Name(name) if is_ours(references.known.zones, name) => {
            let message = format!("target `{}` is `{name}`, in a zone that is answered here", target.name);
            text.place.error(message, "name a target that leads to another network's CDN");
            None
        }
        Outcome::Name(_) | Outcome::Server => Some(index),
        Outcome::Delegation(_) | Outcome::OwnServers => {
            let message =
                format!("target `{}` is a delegation, where nobody can be redirected to", target.name);
            let help = "name a target with the provider's CDN as `cname`, or with its `addresses`";
            text.place.error(message, help);
            None
        }
    }
}

fn is_ours(zones: &[Zone], name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    zones.iter().any(|zone| {
        let start = labels.len().checked_sub(zone.suffix.len());
        start.is_some_and(|start| labels[start..].iter().eq(zone.suffix.iter()))
    })
}

/// Who agreements are about.
struct Parties<'p> {
    networks: &'p [ClientNetwork],
    providers: &'p [Provider],
    services: &'p Index,
    service_list: &'p [Service],
    brokers: &'p Index,
}

fn read_agreements(
    doc: &Document,
    root: &Section<'_>,
    parties: &Parties<'_>,
    last: Option<&Network>,
) -> Vec<Agreement> {
    let sections = root.tables("peering", PEERING);
    if let (Some(first), true) = (sections.first(), parties.networks.is_empty()) {
        first.place.error("there is no [network]", "add [network] with the `name` of the box's own network");
        return Vec::new();
    }
    let named = Named::sort("peering", sections, |section| match section.get("name") {
        Some(name) => name.word("\"bcast-web\""),
        None => section.require("with", "\"bcast\"")?.word("\"bcast\""),
    });
    let (list, _) = named.read(|section, name| {
        let read = || section.read(|| read_agreement(section, name, parties));
        let (agreement, wrong) = doc.findings.within_agreement(name, read);
        if !wrong {
            return agreement;
        }
        doc.findings.within_agreement(name, || kept(last?, name, section, parties)).0
    });
    list
}

/// The last good state of an agreement, in terms of the network that is being read.
fn kept(last: &Network, name: &str, section: &Section<'_>, parties: &Parties<'_>) -> Option<Agreement> {
    let agreement = last.peering.agreements.iter().find(|known| known.name == name)?;
    let owner = &last.peering.networks[agreement.network].name;
    let network = parties.networks.iter().position(|known| known.name == *owner);
    let carries = &agreement.carries;
    let all = |list: &[String], known: &dyn Fn(&str) -> bool| list.iter().all(|name| known(name));
    let providers = |name: &str| parties.providers.iter().any(|known| known.name == name);
    let services = |name: &str| parties.services.find(name).is_some();
    match network {
        Some(network) if all(&carries.providers, &providers) && all(&carries.services, &services) => {
            Some(Agreement { network, ..agreement.clone() })
        }
        _ => {
            let message = format!("`{name}` has errors and cannot stay as it was: what it covers is gone");
            section.place.error(message, "mend the agreement, or leave it out");
            None
        }
    }
}

fn read_agreement(section: &Section<'_>, name: &str, parties: &Parties<'_>) -> Option<Agreement> {
    let with = section.require("with", "\"bcast\"").and_then(|value| value.word("\"bcast\""));
    let network = match section.get("network") {
        None => Some(0),
        Some(value) => read_network(&value, parties.networks),
    };
    let owner = match section.get("owner") {
        None => Some(None),
        Some(value) => value.word("\"exchange\"").and_then(|text| {
            parties.brokers.resolve(&text)?;
            Some(Some(text.text.to_owned()))
        }),
    };
    let carries = read_carries(section, parties);
    let terms = read_terms(section);
    let price = match section.get("price") {
        None => Some(0),
        Some(value) => told(&value.scalar("0.012")?, terms::price),
    };
    let order = section.get("order").map_or(Some(0), |value| value.integer(0..=u64::from(u32::MAX)));
    let with = with?;
    let network = network?;
    if parties.networks[network].name == with.text {
        with.place.error(
            format!("`{}` cannot have an agreement with itself", with.text),
            "name the other network's CDN",
        );
    }
    if !parties.providers.iter().any(|provider| provider.primary.iter().any(|cdn| cdn == with.text)) {
        let message = format!("no provider has `{}` as a primary CDN", with.text);
        with.place.warning(message, "agreements are about other CDNs' providers: add one, or mend the name");
    }
    Some(Agreement {
        name: name.to_owned(),
        network,
        with: with.text.to_owned(),
        owner: owner?,
        carries: carries?,
        order: order.and_then(|order| u32::try_from(order).ok())?,
        price: price?,
        terms: terms?,
        origin: section.place.origin(),
    })
}

fn read_network(value: &Value<'_>, networks: &[ClientNetwork]) -> Option<usize> {
    let text = value.word("\"acme\"")?;
    let found = networks.iter().position(|known| known.name == text.text);
    if found.is_none() {
        let known = networks.iter().map(|network| network.name.as_str());
        let help = super::suggest::help(text.text, known, "it is [network] or a [[partner]]");
        text.place.error(format!("there is no network `{}`", text.text), help);
    }
    found
}

fn read_carries(section: &Section<'_>, parties: &Parties<'_>) -> Option<Carries> {
    const EXAMPLE: &str = "{ providers = [\"nbc\"], services = [\"web\"] }";
    let Some(value) = section.get("carries") else { return Some(Carries::default()) };
    let section = value.section(&["providers", "services", "classes"], EXAMPLE)?;
    let (providers, classes) =
        (words(&section, "providers", "[\"nbc\"]")?, words(&section, "classes", "[\"video\"]")?);
    let services = resolved(&words(&section, "services", "[\"web\"]")?, parties.services);
    let names = |list: &[Text<'_>]| list.iter().map(|text| text.text.to_owned()).collect();
    let mut sound = true;
    for (list, kind, known) in [
        (&providers, "provider", parties.providers.iter().map(|one| &*one.name).collect::<Vec<_>>()),
        (&classes, "service of class", parties.service_list.iter().map(|one| &*one.class).collect()),
    ] {
        for text in list.iter().filter(|text| !known.contains(&text.text)) {
            let help = super::suggest::help(text.text, known.iter().copied(), "leave it out");
            text.place.error(format!("there is no {kind} `{}`", text.text), help);
            sound = false;
        }
    }
    sound.then_some(())?;
    Some(Carries { providers: names(&providers), services: services?, classes: names(&classes) })
}

fn read_terms(section: &Section<'_>) -> Option<Terms> {
    let mut terms = Terms::default();
    if let Some(value) = section.get("capacity") {
        let example = "\"2 Gbit/s\", or [\"500 requests/s\", \"2 Gbit/s\"]";
        let written = if value.string().is_some() { vec![value] } else { value.nonempty_list(example)? };
        for value in written {
            match told(&value.word(example)?, terms::capacity)? {
                Capacity::Requests(requests) => terms.requests = Some(requests),
                Capacity::Bits(bits) => terms.bits = Some(bits),
            }
        }
    }
    for text in words(section, "hours", "[\"18:00-24:00\"]")? {
        terms.hours.push(told(&text, terms::hours)?);
    }
    (terms.from, terms.until) = read_validity(section)?;
    if let Some(value) = section.get("state") {
        let states = [
            ("accepted", Consent::Accepted),
            ("offered", Consent::Offered),
            ("withdrawn", Consent::Withdrawn),
        ];
        terms.state = super::addresses::choice(&value, &states)?;
    }
    Some(terms)
}

/// `valid`: first second, and the one after the last, in seconds since 1970.
pub(super) fn read_validity(section: &Section<'_>) -> Option<(Option<u64>, Option<u64>)> {
    const VALID: &str = "{ from = 2027-01-01, until = 2027-12-31 }";
    let Some(value) = section.get("valid") else { return Some((None, None)) };
    let section = value.section(&["from", "until"], VALID)?;
    let read = |key, ends| match section.get(key) {
        None => Some(None),
        Some(value) => told(&value.scalar("2027-12-31")?, |text| terms::instant(text, ends)).map(Some),
    };
    let (from, until) = (read("from", false)?, read("until", true)?);
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        value.place.error("it ends before it begins", format!("for example valid = {VALID}"));
    }
    Some((from, until))
}

/// What `parse` makes of a text; why it makes nothing of it is reported.
fn told<T>(text: &Text<'_>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
    match parse(text.text) {
        Ok(value) => Some(value),
        Err(problem) => {
            let (message, help) = problem.split_once(": ").unwrap_or((&problem, "see docs/configuration.md"));
            text.place.error(message, help);
            None
        }
    }
}

/// Gives providers their services and agreements their targets. Reports services that cannot be a provider's.
pub(super) fn settle(root: &Section<'_>, network: &mut Network) {
    peering::split(network);
    peering::settle(network);
    let by_coverage = coverages_with_outcomes(&network.targets, &network.pools, &network.coverages);
    let sections = root.tables("provider", PROVIDER);
    for section in &sections {
        let Some(name) = section.get("name").and_then(|name| name.string()) else { continue };
        let Some(provider) = network.peering.providers.iter().position(|one| one.name == name) else {
            continue;
        };
        for provided in network.peering.provided.iter().filter(|one| one.provider == provider) {
            let service = &network.services[provided.service];
            let written = &network.services[provided.written].name;
            if has_outcomes(service, &network.targets, &by_coverage) {
                section.place.error(
                    format!(
                        "service `{written}` can answer with a `cname` or `ns` target by its own coverage"
                    ),
                    "make that target the provider's `outside`, and give the service servers alone",
                );
            }
            if service.srv.is_some() {
                let message = format!("service `{written}` answers SRV queries with sites");
                section.place.error(message, "leave it out of the provider's `services`");
            }
        }
        let networks = &network.peering.networks;
        let lacking =
            networks.iter().find(|one| !peering::is_primary(&network.peering.providers[provider], one));
        if let (Some(lacking), None) = (lacking, section.get("outside")) {
            section.place.error(
                format!(
                    "`{}` is none of this provider's primary CDNs, and it has no `outside`",
                    lacking.name
                ),
                "name a target that leads to the provider's own CDN: without an agreement, clients go there",
            );
        }
        apexes(section, network, provider);
    }
}

/// Reports names of a provider at a zone's apex: it cannot be another name (RFC 1034 section 3.6.2).
fn apexes(section: &Section<'_>, network: &Network, provider: usize) {
    let peering = &network.peering;
    let outside = peering.providers[provider].outside.map(|target| &network.targets[target].outcome);
    if !matches!(outside, Some(Outcome::Name(_))) {
        return;
    }
    for zone in &network.zones {
        let is_of = |service: usize| peering.provided(service).is_some_and(|one| one.provider == provider);
        if zone.grammars.iter().any(|one| one.labels.is_empty() && is_of(one.service)) {
            section.place.error(
                format!(
                    "`@` of zone `{}` is this provider's, and an apex cannot be a `cname`",
                    zone.suffix.join(".")
                ),
                "give `@` a service that is nobody's, or the provider an `outside` with addresses",
            );
        }
    }
}
