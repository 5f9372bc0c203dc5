//! Small networks, and questions asked of compiled tables through the production readers.
#![allow(dead_code)] // Each test binary uses its part.

use redirector_core::decide::{Client, Query, decide, region};
use redirector_core::hash::Keys;
use redirector_core::lookup::{self, Labels, MAX_LABELS, Scheme};
use redirector_core::table::{NONE, NameEntry, SPACE_DNS, Tables};
use redirector_core::verdict::Verdict;
use redirector_plan::compile::{Compiled, compile};
use redirector_plan::counters::CounterSlots;
use redirector_plan::image::TableImage;
use redirector_plan::model::*;
use redirector_plan::peering::Peering;
use redirector_plan::refusal::Refusal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The place of line `line` of the test's imaginary file.
pub(crate) fn at(line: u32) -> Origin {
    Origin { file: "box.toml".into(), line, column: 1 }
}

pub(crate) fn region_of(name: &str, prefixes: &[&str]) -> Region {
    let prefixes = prefixes.iter().map(|prefix| prefix.parse().expect("prefix")).collect();
    Region { name: name.into(), prefixes, origin: at(100) }
}

/// Target number `n` (below 256): dual-stack unless said otherwise by the caller.
pub(crate) fn target(n: usize) -> Target {
    Target {
        name: format!("t{n:03}"),
        site: "lab".into(),
        ipv4: Some(Ipv4Addr::new(192, 0, (n >> 8) as u8, n as u8)),
        ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n as u16)),
        host: None,
        outcome: Outcome::default(),
        http_port: 80,
        https_port: 443,
        rtsp_port: 554,
        network: 0,
        origin: at(200 + n as u32),
    }
}

pub(crate) fn pool(name: &str, members: &[(usize, u32)]) -> Pool {
    Pool { name: name.into(), members: members.to_vec(), origin: at(300) }
}

pub(crate) fn tier(region: Option<usize>, pools: &[(usize, u32)]) -> Tier {
    Tier { region, pools: pools.to_vec(), ttl: None, within: None, origin: at(400) }
}

pub(crate) fn coverage(name: &str, tiers: Vec<Tier>) -> Coverage {
    Coverage { name: name.into(), tiers, origin: at(500) }
}

pub(crate) fn service(name: &str, coverage: usize) -> Service {
    Service {
        name: name.into(),
        class: String::new(),
        cdn: 0,
        coverage,
        ttl: 0,
        hint_lifetime: 30,
        choose_by: ChooseBy::Client,
        dns: DnsAnswer::Server,
        https: None,
        srv: None,
        answers: 1,
        policy_class: 0,
        fallback: vec![],
        authorised: None,
        location: None,
        origin: at(600),
    }
}

pub(crate) fn vip(name: &str, cdn: usize, ipv4: &str, ipv6: &str) -> Vip {
    Vip {
        name: name.into(),
        cdn,
        ipv4: vec![ipv4.parse().expect("IPv4")],
        ipv6: vec![ipv6.parse().expect("IPv6")],
        speaks: Speaks { dns: true, cdsr: true, http: true, rtsp: false },
        origin: at(700),
    }
}

pub(crate) fn zone(suffix: &str, grammars: Vec<Grammar>) -> Zone {
    Zone {
        suffix: dotted(suffix),
        cdn: 0,
        serial: 7,
        negative_ttl: 60,
        ns_ttl: 3600,
        grammars,
        sealed: None,
        ill_formed: None,
        origin: at(800),
    }
}

/// A grammar in the operator's notation; `{a|b}` is one of several values, `{name}` is free.
pub(crate) fn grammar(labels: &str, service: usize) -> Grammar {
    Grammar { labels: rules(labels), service, signed: None, origin: at(900) }
}

/// `http://{customer}.cdn.acme.net/live`; the suffix are the fixed labels at the end.
pub(crate) fn url(pattern: &str, service: usize) -> UrlRule {
    let (scheme, rest) = pattern.split_once("://").expect("scheme");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut host = rules(host);
    let fixed = host.iter().rev().take_while(|rule| matches!(rule, LabelRule::Fixed(_))).count();
    let suffix = host.split_off(host.len() - fixed);
    UrlRule {
        schemes: Schemes { http: scheme == "http", https: scheme == "https", rtsp: scheme == "rtsp" },
        host,
        suffix: dotted(&suffix.iter().map(label_text).collect::<Vec<_>>().join(".")),
        path: path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect(),
        service,
        signed: None,
        origin: at(1000),
    }
}

fn label_text(rule: &LabelRule) -> String {
    match rule {
        LabelRule::Fixed(value) => value.clone(),
        LabelRule::Free(_) | LabelRule::OneOf(..) => unreachable!("suffix labels are fixed"),
    }
}

pub(crate) fn dotted(name: &str) -> Vec<String> {
    name.split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

fn rules(labels: &str) -> Vec<LabelRule> {
    let rule = |label: String| match label.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(values) if values.contains('|') => {
            LabelRule::OneOf("set".into(), values.split('|').map(str::to_owned).collect())
        }
        Some(name) => LabelRule::Free(name.into()),
        None => LabelRule::Fixed(label),
    };
    dotted(labels).into_iter().map(rule).collect()
}

/// Two regions, four targets in two pools, one coverage, services `tv` (0) and `web` (1), one zone.
pub(crate) fn small() -> Network {
    Network {
        box_name: "box".into(),
        key: *b"0123456789abcdef",
        cdns: vec!["acme".into()],
        vips: vec![vip("acme", 0, "203.0.113.1", "2001:db8:a::1")],
        regions: vec![
            region_of("de", &["10.1.0.0/16", "2001:db8:100::/40"]),
            region_of("fr", &["10.2.0.0/16", "10.1.7.0/24", "2001:db8:200::/40"]),
        ],
        default_region: None,
        targets: (0..4).map(target).collect(),
        pools: vec![pool("fra", &[(0, 1), (1, 1)]), pool("par", &[(2, 3), (3, 1)])],
        coverages: vec![coverage(
            "eu",
            vec![tier(Some(1), &[(1, 1)]), tier(Some(0), &[(0, 1)]), tier(None, &[(0, 1), (1, 1)])],
        )],
        services: vec![service("tv", 0), service("web", 0)],
        zones: vec![zone(
            "cdn.acme.net",
            vec![grammar("{object}.web.{customer}", 1), grammar("{channel}.tv", 0)],
        )],
        urls: vec![url("http://{customer}.cdn.acme.net/live", 0), url("http://{customer}.cdn.acme.net", 1)],
        peering: Peering::default(),
        keys: Vec::new(),
    }
}

pub(crate) fn all_up(network: &Network) -> Vec<TargetState> {
    vec![TargetState::default(); network.targets.len()]
}

pub(crate) fn compiled(network: &Network) -> Compiled {
    compiled_with(network, &all_up(network))
}

pub(crate) fn compiled_with(network: &Network, states: &[TargetState]) -> Compiled {
    compile(network, states, 1, &mut ids()).expect("compiles")
}

pub(crate) fn refusals(network: &Network) -> Vec<Refusal> {
    compile(network, &all_up(network), 1, &mut ids()).expect_err("is refused")
}

pub(crate) fn ids() -> CounterSlots {
    CounterSlots::new(1 << 20, 1 << 16, 1 << 16)
}

/// Region entry's region number of an address.
pub(crate) fn region_number(image: &TableImage, address: IpAddr) -> u32 {
    region(&Client::new(address), image).expect("tables are consistent")
}

/// Label hashes of a dotted name.
pub(crate) fn labels(keys: &Keys, name: &str) -> (Labels, usize) {
    let mut labels = Labels::default();
    let texts = dotted(name);
    assert!(texts.len() <= MAX_LABELS);
    for (place, text) in texts.iter().enumerate() {
        labels.hashes[place] = keys.text(text.as_bytes(), true);
    }
    (labels, texts.len())
}

/// Zone and rule of a DNS name on VIP 0.
pub(crate) fn dns_rule(image: &TableImage, vip: IpAddr, name: &str) -> Option<(u32, Option<NameEntry>)> {
    let (labels, count) = labels(&image.meta.keys, name);
    let vip = vip_entry(image, vip);
    let number = lookup::suffix::<_, MAX_LABELS>(image, &labels, count, SPACE_DNS, vip.cdn, vip.dns_depths);
    if number == NONE {
        return None;
    }
    let zone = image.zone(number).expect("zone exists");
    let left = count - zone.suffix_labels as usize;
    let entry = lookup::rule(image, &labels, left, SPACE_DNS, number, zone);
    Some((number, (entry.fingerprint != 0).then_some(entry)))
}

/// Service of a URL on a VIP.
pub(crate) fn url_service(
    image: &TableImage,
    vip: IpAddr,
    scheme: Scheme,
    host: &str,
    path: &str,
) -> Option<u32> {
    let (mut labels, count) = labels(&image.meta.keys, host);
    let mut segments = 0;
    for segment in path.split('/').filter(|segment| !segment.is_empty()).take(labels.segments.len()) {
        labels.segments[segments] = image.meta.keys.text(segment.as_bytes(), false);
        segments += 1;
    }
    let vip = vip_entry(image, vip);
    let space = scheme.space();
    let number = lookup::suffix::<_, MAX_LABELS>(image, &labels, count, space, vip.cdn, vip.url_depths);
    if number == NONE {
        return None;
    }
    let zone = image.zone(number).expect("zone exists");
    let left = count - zone.suffix_labels as usize;
    let host = lookup::rule(image, &labels, left, space, number, zone);
    if host.fingerprint == 0 {
        return None;
    }
    let (service, _) = lookup::path(image, &labels, segments, &host);
    (service != NONE).then_some(service)
}

pub(crate) fn vip_entry(image: &TableImage, address: IpAddr) -> redirector_core::table::VipEntry {
    let words = match address {
        IpAddr::V4(v4) => lookup::mapped(redirector_plan::ipv4_word(v4)),
        IpAddr::V6(v6) => redirector_plan::ipv6_words(v6),
    };
    *lookup::vip(image, &image.meta.keys, words).expect("VIP")
}

/// Decision for a client of a service; `want` addresses of the family.
pub(crate) fn verdict(image: &TableImage, service: u32, client: IpAddr, want_v6: bool, want: u32) -> Verdict {
    verdict_without(image, service, client, want_v6, want, &[])
}

/// The same for a client that reports these targets as failed.
pub(crate) fn verdict_without(
    image: &TableImage,
    service: u32,
    client: IpAddr,
    want_v6: bool,
    want: u32,
    failed: &[u32],
) -> Verdict {
    let mut excluded = [0; 8];
    for (slot, target) in excluded.iter_mut().zip(failed) {
        *slot = image.target(*target).expect("target").digests[want_v6 as usize];
    }
    let query = Query {
        client: Client::new(client),
        service,
        family: want_v6 as u32,
        want,
        excluded,
        ..Query::default()
    };
    let mut verdict = Verdict::default();
    decide::<_, true>(&query, image.service(service).expect("service"), image, &mut verdict);
    verdict
}
