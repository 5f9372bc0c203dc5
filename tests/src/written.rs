//! Networks written as an operator would write them, for tests that read them again.

use redirector_plan::model::{
    Binding, ChooseBy, Coverage, DnsAnswer, Grammar, LabelRule, Locations, NameServer, Network, Outcome,
    Pool, Region, Schemes, Service, Target, Tier, UrlRule, Vip, Zone,
};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

fn list<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| format!("{:?}", value.to_string())).collect();
    format!("[{}]", values.join(", "))
}

fn labels(rules: &[LabelRule]) -> String {
    let one = |rule: &LabelRule| match rule {
        LabelRule::Fixed(label) => label.clone(),
        LabelRule::Free(name) => format!("{{{name}}}"),
        LabelRule::OneOf(name, values) => format!("{{{name}:{}}}", values.join("|")),
    };
    rules.iter().map(one).collect::<Vec<_>>().join(".")
}

fn vip(network: &Network, vip: &Vip) -> String {
    let Vip { name, cdn, ipv4, ipv6, speaks, .. } = vip;
    let addresses = ipv4.iter().map(ToString::to_string).chain(ipv6.iter().map(ToString::to_string));
    let protocols =
        [("dns", speaks.dns), ("cdsr", speaks.cdsr), ("http", speaks.http), ("rtsp", speaks.rtsp)];
    let protocols = protocols.into_iter().filter_map(|(name, spoken)| spoken.then_some(name));
    format!(
        "[[vip]]\nname = {name:?}\ncdn = {:?}\naddresses = {}\nspeaks = {}\n",
        network.cdns[*cdn],
        list(addresses),
        list(protocols)
    )
}

fn region(network: &Network, number: usize, region: &Region) -> String {
    let mut text = format!("[[region]]\nname = {:?}\n", region.name);
    if network.default_region == Some(number) {
        text.push_str("default = true\n");
    }
    if !region.prefixes.is_empty() {
        let _ = writeln!(text, "prefixes = {}", list(&region.prefixes)); // a String takes everything
    }
    text
}

fn target(target: &Target) -> String {
    let Target { name, site, ipv4, ipv6, host, outcome, http_port, https_port, rtsp_port, network, .. } =
        target;
    let addresses = |ipv4: &Option<Ipv4Addr>, ipv6: &Option<Ipv6Addr>| {
        let both = ipv4.iter().map(ToString::to_string).chain(ipv6.iter().map(ToString::to_string));
        format!("addresses = {}", list(both))
    };
    let ports = format!("ports = {{ http = {http_port}, https = {https_port}, rtsp = {rtsp_port} }}");
    let (outcome, ports) = match outcome {
        Outcome::Server => (addresses(ipv4, ipv6), ports),
        Outcome::Name(name) => (format!("cname = {name:?}"), ports),
        Outcome::OwnServers => unreachable!("nobody writes it"),
        Outcome::Delegation(servers) => {
            let server = |server: &NameServer| match (server.ipv4, server.ipv6) {
                (None, None) => format!("{{ name = {:?} }}", server.name),
                (v4, v6) => format!("{{ name = {:?}, {} }}", server.name, addresses(&v4, &v6)),
            };
            (format!("ns = [{}]", servers.iter().map(server).collect::<Vec<_>>().join(", ")), String::new())
        }
    };
    let host = host.iter().map(|host| format!("host = {host:?}\n")).collect::<String>();
    format!("[[target]]\nname = {name:?}\nsite = {site:?}\n{outcome}\n{host}{ports}\nnetwork = {network}\n")
}

fn pool(network: &Network, pool: &Pool) -> String {
    let member = |(target, weight): &(usize, u32)| {
        format!("{{ target = {:?}, weight = {weight} }}", network.targets[*target].name)
    };
    let members: Vec<String> = pool.members.iter().map(member).collect();
    format!("[[pool]]\nname = {:?}\ntargets = [{}]\n", pool.name, members.join(", "))
}

fn coverage(network: &Network, coverage: &Coverage) -> String {
    let tier = |tier: &Tier| {
        let region = tier.region.map_or("*", |region| network.regions[region].name.as_str());
        let share = |(pool, share): &(usize, u32)| {
            format!("{{ pool = {:?}, share = {share} }}", network.pools[*pool].name)
        };
        let pools: Vec<String> = tier.pools.iter().map(share).collect();
        let ttl = tier.ttl.map(|ttl| format!(", ttl = \"{ttl}s\"")).unwrap_or_default();
        let within =
            tier.within.map(|micros| format!(", within = \"{}ms\"", micros / 1000)).unwrap_or_default();
        format!("{{ region = {region:?}, pools = [{}]{ttl}{within} }}", pools.join(", "))
    };
    let tiers: Vec<String> = coverage.tiers.iter().map(tier).collect();
    format!("[[coverage]]\nname = {:?}\ntiers = [{}]\n", coverage.name, tiers.join(", "))
}

fn url(rule: &UrlRule) -> String {
    let Schemes { http, https, rtsp } = rule.schemes;
    let schemes = [("http", http), ("https", https), ("rtsp", rtsp)];
    let schemes: Vec<&str> = schemes.into_iter().filter_map(|(name, has)| has.then_some(name)).collect();
    let host: Vec<String> =
        [labels(&rule.host), rule.suffix.join(".")].into_iter().filter(|part| !part.is_empty()).collect();
    let path: String = rule.path.iter().map(|segment| format!("/{segment}")).collect();
    format!("{}://{}{path}/*", schemes.join("|"), host.join("."))
}

fn service(network: &Network, service: &Service, urls: &[String]) -> String {
    let Service { name, ttl, hint_lifetime, answers, policy_class, location, .. } = service;
    let choose_by = match service.choose_by {
        ChooseBy::ClientPrefix => "client-prefix",
        ChooseBy::Client => "client",
        ChooseBy::Content => "content",
        ChooseBy::Spread => "spread",
    };
    let dns = match service.dns {
        DnsAnswer::Server => "server",
        DnsAnswer::Vip => "vip",
    };
    let mut text = format!(
        "[[service]]\nname = {name:?}\ncdn = {:?}\ncoverage = {:?}\nttl = \"{ttl}s\"\nhint_lifetime = \"{hint_lifetime}s\"\n\
         choose_by = {choose_by:?}\ndns = {dns:?}\nanswers = {answers}\npolicy_class = {policy_class}\nfallback = {}\nurls = {}\n",
        network.cdns[service.cdn],
        network.coverages[service.coverage].name,
        list(service.fallback.iter().map(|target| &network.targets[*target].name)),
        list(urls),
    );
    if let Some(Locations { media, port, domain, sites }) = &service.srv {
        let sites: Vec<String> = sites.iter().map(|(site, number)| format!("{site:?} = {number}")).collect();
        let sites = sites.join(", ");
        let _ = writeln!(
            text,
            "srv = {{ media = \"{media}\", port = {port}, domain = {domain:?}, sites = {{ {sites} }} }}"
        ); // as above
    }
    if let Some(location) = location {
        let _ = writeln!(text, "location = {location:?}"); // as above
    }
    if let Some(Binding { alpn, port }) = &service.https {
        let _ = writeln!(text, "https = {{ alpn = {}, port = {port} }}", list(alpn)); // as above
    }
    text
}

fn zone(network: &Network, zone: &Zone) -> String {
    let name = |grammar: &Grammar| {
        let labels = if grammar.labels.is_empty() { "@".to_owned() } else { labels(&grammar.labels) };
        format!("{{ labels = {labels:?}, service = {:?} }}", network.services[grammar.service].name)
    };
    let names: Vec<String> = zone.grammars.iter().map(name).collect();
    format!(
        "[[zone]]\nsuffix = {:?}\ncdn = {:?}\nserial = {}\nnegative_ttl = \"{}s\"\nns_ttl = \"{}s\"\nnames = [{}]\n",
        zone.suffix.join("."),
        network.cdns[zone.cdn],
        zone.serial,
        zone.negative_ttl,
        zone.ns_ttl,
        names.join(",\n")
    )
}

/// The tables of a configuration with this network, each a text of its own; `interface` has the fast path, if it is given.
#[must_use]
pub fn tables(network: &Network, interface: Option<&str>) -> Vec<String> {
    let key: String = network.key.iter().map(|byte| format!("{byte:02x}")).collect();
    let fast_path = match interface {
        Some(interface) => format!("interfaces = [{interface:?}]"),
        None => "xdp = \"off\"".to_owned(),
    };
    let mut tables = vec![
        format!("[box]\nname = {:?}\nmanagement = \"198.18.0.5\"\n{fast_path}\n", network.box_name),
        format!("[fleet]\nkey = \"{key}\"\n"),
    ];
    tables.extend(network.vips.iter().map(|one| vip(network, one)));
    tables.extend(network.regions.iter().enumerate().map(|(number, one)| region(network, number, one)));
    tables.extend(network.targets.iter().map(target));
    tables.extend(network.pools.iter().map(|one| pool(network, one)));
    tables.extend(network.coverages.iter().map(|one| coverage(network, one)));
    let mut urls = vec![Vec::new(); network.services.len()];
    for rule in &network.urls {
        urls[rule.service].push(url(rule));
    }
    tables.extend(network.services.iter().zip(&urls).map(|(one, urls)| service(network, one, urls)));
    tables.extend(network.zones.iter().map(|one| zone(network, one)));
    tables
}
