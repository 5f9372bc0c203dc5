//! A small network in which every feature of names, URLs, choices and tiers occurs, for tests that compare answers.

use redirector_plan::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::image::TableImage;
use redirector_plan::model::{
    Binding, ChooseBy, Coverage, DnsAnswer, Grammar, LabelRule, Locations, NameServer, Network, Origin,
    Otherwise, Outcome, Pool, Region, Schemes, Service, Speaks, Target, TargetState, Tier, UrlRule, Vip,
    Zone,
};
use redirector_plan::peering::Peering;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A VIP of `acme`, which has most of the names.
pub const ACME: [&str; 2] = ["203.0.113.1", "2001:db8:a::1"];
/// A VIP of `beta`, which has one zone.
pub const BETA: [&str; 2] = ["203.0.113.2", "2001:db8:a::2"];
/// A VIP of `acme` without IPv6.
pub const IPV4_ONLY: &str = "203.0.113.3";
/// A VIP of `acme` that speaks HTTP alone.
pub const HTTP_ONLY: [&str; 2] = ["203.0.113.4", "2001:db8:a::4"];
/// Name of the box, which answers to NSID carry.
pub const BOX_NAME: &str = "box-1.example";
/// A client in region `de`, where the service `one` is at target 0 alone.
pub const CLIENT: [&str; 2] = ["10.1.2.3", "2001:db8:100::3"];

/// Targets whose only family is IPv4, or IPv6.
const IPV4_TARGETS: [usize; 2] = [46, 47];
const IPV6_TARGETS: [usize; 2] = [48, 49];
/// Sites that SRV answers name; ten targets from the first on stand at one each.
const SITES: usize = 10;
/// Targets that are down.
const DOWN: [usize; 12] = [3, 21, 22, 23, 40, 41, 42, 43, 44, 45, 50, 51];
/// Targets with less than their full share.
const LOADED: [(usize, u16); 3] = [(1, 128), (9, 10), (12, 0)];

/// Names of pools and their targets. `wide` has more than one record holds, `vast` more than 64.
const POOLS: [(&str, std::ops::Range<usize>); 18] = [
    ("pair", 0..2),
    ("single", 2..3),
    ("eight", 2..10),
    ("wide", 10..40),
    ("dead", 40..46),
    ("four", 46..48),
    ("six", 48..50),
    ("also-dead", 50..52),
    ("last", 52..54),
    ("vast", 54..134),
    ("one", 0..1),
    ("alias", 134..135),
    ("long-alias", 135..136),
    ("referral", 136..137),
    ("long-referral", 137..138),
    ("site-5", 5..6),
    ("site-3", 3..5),
    ("sites", 2..10),
];

/// Another name that clients are sent to.
pub const ALIAS: &str = "edge.partner.example";
/// Name servers that clients are referred to: the first two by one target, all by another. The first lies in a zone of
/// the network, the fourth has a long name.
pub const NAME_SERVERS: [(&str, &str, &str); 4] = [
    ("ns1.partner.cdn.acme.net", "192.0.2.201", "2001:db8:2::1"),
    ("ns2.partner.example", "192.0.2.202", "2001:db8:2::2"),
    ("ns3.partner.example", "", "2001:db8:2::3"),
    (
        "ns4.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy.partner.example",
        "192.0.2.204",
        "",
    ),
];

/// SRV answers; site `s<n>` has number n.
fn sites() -> Locations {
    let numbers = (0..SITES as u32).map(|site| (format!("s{site}"), site)).collect();
    Locations { media: 'q', port: 554, domain: "cdn.acme.net".into(), sites: numbers }
}

/// The longest name there can be: 255 bytes on the wire.
#[must_use]
pub fn long_alias() -> String {
    let label = "x".repeat(63);
    [&label[..], &label, &label, &label[..61]].join(".")
}

/// What targets behind the servers are.
fn outcome(number: usize) -> Outcome {
    let servers = |count: usize| {
        let server = |(name, ipv4, ipv6): &(&str, &str, &str)| NameServer {
            name: (*name).into(),
            ipv4: ipv4.parse().ok(),
            ipv6: ipv6.parse().ok(),
        };
        Outcome::Delegation(NAME_SERVERS[..count].iter().map(server).collect())
    };
    match number {
        134 => Outcome::Name(ALIAS.into()),
        135 => Outcome::Name(long_alias()),
        136 => servers(2),
        137 => servers(4),
        _ => Outcome::Server,
    }
}

/// The network, and its targets' states: some are down, some have part of their share.
#[must_use]
pub fn rich() -> (Network, Vec<TargetState>) {
    let targets: Vec<Target> = (0..138).map(target).collect();
    let mut states = vec![TargetState::default(); targets.len()];
    DOWN.iter().for_each(|number| states[*number].up = false);
    LOADED.iter().for_each(|(number, factor)| states[*number].factor = *factor);
    let network = Network {
        key: *b"a key for tests!",
        box_name: BOX_NAME.into(),
        cdns: vec!["acme".into(), "beta".into()],
        vips: vips(),
        regions: regions(),
        default_region: None,
        targets,
        pools: POOLS.iter().map(|(name, members)| pool(name, members.clone())).collect(),
        coverages: coverages(),
        services: services(),
        zones: zones(),
        urls: urls(),
        peering: Peering::default(),
        keys: Vec::new(),
    };
    (network, states)
}

/// Tables of a network.
///
/// # Panics
/// If it is refused.
#[must_use]
pub fn image(network: &Network, states: &[TargetState]) -> TableImage {
    let mut slots = CounterSlots::new(1 << 20, 1 << 16, 1 << 16);
    compile(network, states, 1, &mut slots).expect("a network that compiles").image
}

fn origin(line: usize) -> Origin {
    Origin { file: "rich.toml".into(), line: line as u32, column: 1 }
}

fn vips() -> Vec<Vip> {
    let answers = Speaks { dns: true, cdsr: true, http: true, rtsp: true };
    let vip = |name: &str, cdn, addresses: &[&str], speaks| Vip {
        name: name.into(),
        cdn,
        ipv4: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        ipv6: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        speaks,
        origin: origin(1),
    };
    vec![
        vip("acme", 0, &ACME, answers),
        vip("beta", 1, &BETA, answers),
        vip("acme4", 0, &[IPV4_ONLY], answers),
        vip("quiet", 0, &HTTP_ONLY, Speaks { dns: false, cdsr: false, ..answers }),
    ]
}

fn regions() -> Vec<Region> {
    let region = |name: &str, prefixes: &[&str]| Region {
        name: name.into(),
        prefixes: prefixes.iter().map(|prefix| prefix.parse().expect("a prefix")).collect(),
        origin: origin(100),
    };
    vec![
        region("de", &["10.1.0.0/16", "192.168.0.0/17", "2001:db8:100::/40", "2a00::/12"]),
        region(
            "fr",
            &["10.2.0.0/16", "10.1.7.0/24", "10.1.9.9/32", "2001:db8:200::/40", "2001:db8:100:7::/64"],
        ),
        region("uk", &["10.3.0.0/20", "100.64.0.0/10", "2001:db8:300::/48", "2001:db8:100:7::9/128"]),
    ]
}

fn target(number: usize) -> Target {
    let outcome = outcome(number);
    let server = outcome == Outcome::Server;
    let v4 = (server && !IPV6_TARGETS.contains(&number)).then(|| Ipv4Addr::new(192, 0, 2, number as u8));
    let v6 = (server && !IPV4_TARGETS.contains(&number))
        .then(|| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number as u16));
    Target {
        name: format!("t{number:03}"),
        site: if number < SITES { format!("s{number}") } else { "lab".into() },
        ipv4: v4,
        ipv6: v6,
        host: None,
        outcome,
        http_port: 8080,
        https_port: 8443,
        rtsp_port: 8554,
        network: 64_000 + number as u16,
        origin: origin(200),
    }
}

fn pool(name: &str, members: std::ops::Range<usize>) -> Pool {
    let members = members.map(|number| (number, 1 + number as u32 % 3)).collect();
    Pool { name: name.into(), members, origin: origin(300) }
}

/// A tier: region (`*` is every one), pools with shares, TTL.
fn tier(region: &str, pools: &[(&str, u32)], ttl: Option<u32>) -> Tier {
    let region = ["de", "fr", "uk"].iter().position(|name| *name == region);
    let index = |name: &str| POOLS.iter().position(|(pool, _)| *pool == name).expect("a pool");
    Tier {
        region,
        pools: pools.iter().map(|(pool, share)| (index(pool), *share)).collect(),
        ttl,
        within: None,
        origin: origin(400),
    }
}

const COVERAGES: [&str; 16] = [
    "eu",
    "wide",
    "vast",
    "dead-first",
    "dead",
    "four",
    "six",
    "france",
    "one",
    "alias",
    "long-alias",
    "referral",
    "long-referral",
    "mixed",
    "dead-alias",
    "sites",
];

fn coverages() -> Vec<Coverage> {
    let tiers = |name: &str| match name {
        "eu" => vec![
            tier("fr", &[("eight", 3), ("pair", 1)], None),
            tier("de", &[("pair", 1)], Some(17)),
            tier("*", &[("eight", 1)], None),
        ],
        "wide" => vec![tier("*", &[("wide", 1)], None)],
        "vast" => vec![tier("*", &[("vast", 1)], None)],
        "dead-first" => vec![
            tier("*", &[("dead", 1)], None),
            tier("*", &[("also-dead", 2), ("dead", 1)], None),
            tier("*", &[("last", 1)], Some(5)),
        ],
        "dead" => vec![tier("*", &[("dead", 1)], None)],
        "four" => vec![tier("*", &[("four", 1)], None)],
        "six" => vec![tier("*", &[("six", 1)], None)],
        "france" => vec![tier("fr", &[("pair", 1), ("six", 1)], None)],
        "one" => vec![tier("de", &[("one", 1)], None), tier("*", &[("single", 1)], None)],
        "alias" | "long-alias" | "referral" | "long-referral" => vec![tier("*", &[(name, 1)], None)],
        "mixed" => vec![
            tier("fr", &[("alias", 1), ("pair", 1), ("four", 2)], Some(33)),
            tier("*", &[("alias", 2), ("referral", 1), ("eight", 1), ("six", 1)], None),
        ],
        "sites" => vec![
            tier("de", &[("site-5", 1)], Some(11)),
            tier("de", &[("site-3", 1)], None),
            tier("fr", &[("site-3", 1)], None),
            tier("*", &[("sites", 1)], None),
        ],
        "dead-alias" => {
            vec![tier("*", &[("dead", 3), ("alias", 1)], Some(7)), tier("*", &[("last", 1)], None)]
        }
        other => panic!("{other}"),
    };
    COVERAGES
        .iter()
        .map(|name| Coverage { name: (*name).into(), tiers: tiers(name), origin: origin(500) })
        .collect()
}

/// Name, coverage, choice, TTL, answers.
const SERVICES: [(&str, &str, ChooseBy, u32, u8); 23] = [
    ("web", "eu", ChooseBy::ClientPrefix, 0, 1),
    ("tv", "wide", ChooseBy::Client, 20, 3),
    ("object", "wide", ChooseBy::Content, 300, 4),
    ("spread", "eu", ChooseBy::Spread, 0, 2),
    ("vip", "eu", ChooseBy::Client, 0, 1),
    ("vast", "vast", ChooseBy::Client, 70_000, 4),
    ("later", "dead-first", ChooseBy::ClientPrefix, 60, 2),
    ("fallback", "dead", ChooseBy::Client, 30, 2),
    ("nothing", "dead", ChooseBy::Client, 30, 1),
    ("four", "four", ChooseBy::Client, 10, 2),
    ("six", "six", ChooseBy::Client, 10, 2),
    ("france", "france", ChooseBy::Client, 10, 4),
    ("one", "one", ChooseBy::Client, 600, 1),
    ("beta", "eu", ChooseBy::Content, 10, 1),
    ("alias", "alias", ChooseBy::ClientPrefix, 90, 1),
    ("long-alias", "long-alias", ChooseBy::Client, 20, 1),
    ("referral", "referral", ChooseBy::Client, 600, 1),
    ("long-referral", "long-referral", ChooseBy::Client, 70_000, 1),
    ("mixed", "mixed", ChooseBy::Client, 30, 2),
    ("mixed-spread", "mixed", ChooseBy::Spread, 30, 1),
    ("dead-alias", "dead-alias", ChooseBy::Content, 30, 1),
    ("last-alias", "dead", ChooseBy::Client, 30, 1),
    ("sites", "sites", ChooseBy::Client, 40, 4),
];

fn services() -> Vec<Service> {
    let service = |(name, coverage, choose_by, ttl, answers): &(&str, &str, ChooseBy, u32, u8)| Service {
        name: (*name).into(),
        class: String::new(),
        cdn: usize::from(*name == "beta"),
        coverage: COVERAGES.iter().position(|known| known == coverage).expect("a coverage"),
        ttl: *ttl,
        hint_lifetime: 300,
        choose_by: *choose_by,
        dns: if *name == "vip" { DnsAnswer::Vip } else { DnsAnswer::Server },
        https: match *name {
            "web" | "tv" | "six" | "france" => {
                Some(Binding { alpn: vec!["h2".into(), "h3".into()], port: 8443 })
            }
            "four" => Some(Binding { alpn: vec![], port: 443 }),
            _ => None,
        },
        srv: (*name == "sites").then(sites),
        answers: *answers,
        policy_class: name.len() as u8,
        fallback: match *name {
            "fallback" => vec![5, 6],
            "last-alias" => vec![134],
            _ => vec![],
        },
        location: None,
        authorised: None,
        origin: origin(600),
    };
    SERVICES.iter().map(service).collect()
}

fn number_of(service: &str) -> usize {
    SERVICES.iter().position(|(name, ..)| *name == service).expect("a service")
}

/// Labels in the operator's notation; `{a|b}` is one of several values, `{name}` is free.
fn labels(text: &str) -> Vec<LabelRule> {
    let rule = |label: &str| match label.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(values) if values.contains('|') => {
            LabelRule::OneOf("set".into(), values.split('|').map(str::to_owned).collect())
        }
        Some(name) => LabelRule::Free(name.into()),
        None => LabelRule::Fixed(label.into()),
    };
    text.split('.').filter(|label| !label.is_empty()).map(rule).collect()
}

fn split(name: &str) -> Vec<String> {
    name.split('.').map(str::to_owned).collect()
}

fn zones() -> Vec<Zone> {
    let zone = |suffix: &str, cdn, grammars: &[(&str, &str)]| Zone {
        suffix: split(suffix),
        cdn,
        serial: 7,
        negative_ttl: 60,
        ns_ttl: 86_400,
        grammars: grammars
            .iter()
            .map(|(text, service)| Grammar {
                labels: labels(text),
                service: number_of(service),
                signed: None,
                origin: origin(700),
            })
            .collect(),
        sealed: None,
        ill_formed: (suffix == "cdn.beta.example").then(|| Otherwise::Service("beta".into())),
        origin: origin(700),
    };
    vec![
        zone(
            "cdn.acme.net",
            0,
            &[
                ("", "web"),
                ("{object}.web.{abc|nbc|cbs}", "web"),
                ("{object}.web.{customer}", "spread"),
                ("{channel}.{customer}.tv", "tv"),
                ("{x}.vip", "vip"),
                ("{x}.{y}.vip", "vip"),
                ("{x}.{y}.{z}.vip", "vip"),
                ("{x}.vast", "vast"),
                ("{x}.later", "later"),
                ("{x}.fallback", "fallback"),
                ("{x}.nothing", "nothing"),
                ("{x}.{y}.nothing", "nothing"),
                ("{x}.{y}.{z}.nothing", "nothing"),
                ("{x}.four", "four"),
                ("{x}.{y}.four", "four"),
                ("{x}.six", "six"),
                ("{x}.{y}.six", "six"),
                ("{x}.{y}.{z}.six", "six"),
                ("{x}.france", "france"),
                ("{x}.one", "one"),
                ("{bucket}._tcp.srv", "sites"),
                ("{bucket}.{y0q|y1q|y2q|y3q|y4q|y5q|y6q|y7q|y8q|y9q}", "object"),
                ("{x}.alias", "alias"),
                ("{x}.long-alias", "long-alias"),
                ("{x}.referral", "referral"),
                ("{x}.long-referral", "long-referral"),
                ("{x}.{y}.{z}.long-referral", "long-referral"),
                ("{x}.mixed", "mixed"),
                ("{x}.mixed-spread", "mixed-spread"),
                ("{x}.dead-alias", "dead-alias"),
                ("{x}.last-alias", "last-alias"),
            ],
        ),
        zone(
            "deep.acme.net",
            0,
            &[("_tcp.srv.{object}", "tv"), ("{a}.{b}.{c}.object", "object"), ("w.v.u.t.s.r.far", "object")],
        ),
        zone("live.eu.deep.acme.net", 0, &[("{channel}", "tv")]),
        zone("cdn.beta.example", 1, &[("{object}.{x|y}", "beta")]),
    ]
}

fn urls() -> Vec<UrlRule> {
    let url = |schemes: &str, host: &str, suffix: &str, path: &str, service: &str| UrlRule {
        schemes: Schemes {
            http: schemes.contains('h'),
            https: schemes.contains('s'),
            rtsp: schemes.contains('r'),
        },
        host: labels(host),
        suffix: if suffix.starts_with('[') { vec![suffix.into()] } else { split(suffix) },
        path: path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect(),
        service: number_of(service),
        signed: None,
        origin: origin(800),
    };
    vec![
        url("hs", "{customer}", "web.cdn.acme.net", "", "web"),
        url("hs", "{customer}", "web.cdn.acme.net", "live", "tv"),
        url("hs", "{customer}", "web.cdn.acme.net", "live/hd", "object"),
        url("h", "{customer}", "web.cdn.acme.net", "archive/a/b/c", "vast"),
        url("r", "{customer}", "tv.cdn.acme.net", "", "tv"),
        url("hsr", "{a|b}.{object}", "objects.cdn.acme.net", "", "object"),
        url("h", "", "vast.acme.net", "", "vast"),
        url("h", "", "later.acme.net", "", "later"),
        url("h", "", "fallback.acme.net", "", "fallback"),
        url("h", "", "nothing.acme.net", "", "nothing"),
        url("h", "", "four.acme.net", "", "four"),
        url("h", "", "six.acme.net", "", "six"),
        url("h", "", "france.acme.net", "", "france"),
        url("hr", "", "one.acme.net", "", "one"),
        url("hr", "", "alias.acme.net", "", "alias"),
        url("h", "", "referral.acme.net", "", "referral"),
        url("h", "", "mixed.acme.net", "", "mixed"),
        url("h", "", "paths.acme.net", "only/this", "spread"),
        url("hr", "", ACME[0], "", "web"),
        url("h", "", "[2001:db8:a::1]", "", "web"),
        url("h", "{object}", "cdn.beta.example", "x", "beta"),
    ]
}
