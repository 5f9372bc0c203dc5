//! What the compiler refuses, and that it says where and what would be right (invariant 4).

mod common;

use common::*;
use redirector_plan::compile::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::{
    DnsAnswer, Grammar, LabelRule, Locations, Network, Outcome, TargetState, UrlRule,
};

/// Every refusal of a network as text.
fn texts(network: &Network) -> Vec<String> {
    refusals(network).iter().map(ToString::to_string).collect()
}

fn assert_refused(change: impl FnOnce(&mut Network), want: &str) {
    let mut network = small();
    change(&mut network);
    let texts = texts(&network);
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert!(texts[0].starts_with(want), "{}", texts[0]);
}

fn free(count: usize) -> Vec<LabelRule> {
    vec![LabelRule::Free("x".into()); count]
}

#[test]
fn dangling_references_are_refused() {
    assert_refused(|n| n.vips[0].cdn = 1, "box.toml:700:1: vip \"acme\": it names CDN number 1 of 1");
    assert_refused(
        |n| n.pools[0].members[0].0 = 4,
        "box.toml:300:1: pool \"fra\": it names target number 4 of 4",
    );
    assert_refused(
        |n| n.coverages[0].tiers[1].pools[0].0 = 2,
        "box.toml:400:1: tier 2 of coverage \"eu\": it names pool number 2 of 2",
    );
    assert_refused(
        |n| n.coverages[0].tiers[0].region = Some(2),
        "box.toml:400:1: tier 1 of coverage \"eu\": it names region number 2 of 2",
    );
    assert_refused(
        |n| n.services[1].coverage = 1,
        "box.toml:600:1: service \"web\": it names coverage number 1 of 1",
    );
    assert_refused(
        |n| n.services[1].fallback = vec![9],
        "box.toml:600:1: service \"web\": it names target number 9",
    );
    assert_refused(
        |n| n.zones[0].grammars[0].service = 2,
        "box.toml:900:1: zone \"cdn.acme.net\": it names service number 2 of 2",
    );
    assert_refused(|n| n.urls[0].service = 2, "box.toml:1000:1: URL rule: it names service number 2 of 2");
    assert_refused(|n| n.default_region = Some(2), "default region: it names region number 2 of 2");
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert_refused(
        |n| n.pools[1].members[0].1 = 0,
        "box.toml:300:1: pool \"par\": weight or share 0; use 1 to 65535",
    );
    assert_refused(
        |n| n.coverages[0].tiers[2].pools[1].1 = 65_536,
        "box.toml:400:1: tier 3 of coverage \"eu\": weight or share 65536",
    );
    assert_refused(
        |n| n.services[0].answers = 5,
        "box.toml:600:1: service \"tv\": 5 addresses per answer; use 1 to 4",
    );
    assert_refused(
        |n| n.services[0].ttl = 1 << 31,
        "box.toml:600:1: service \"tv\": a TTL of 2147483648 seconds",
    );
    assert_refused(
        |n| n.coverages[0].tiers[0].ttl = Some(u32::MAX),
        "box.toml:400:1: tier 1 of coverage \"eu\": a TTL",
    );
    assert_refused(|n| n.zones[0].ns_ttl = u32::MAX, "box.toml:800:1: zone \"cdn.acme.net\": a TTL");
}

/// What is beyond a table is refused by name, with the limit.
#[test]
fn more_than_tables_hold_is_refused_by_name() {
    use redirector_plan::model::{Region, Service, Target};
    fn many<T: Clone>(list: &mut Vec<T>, count: usize) {
        list.resize(count, list[0].clone());
    }
    assert_refused(
        |n| many::<Region>(&mut n.regions, 65_535),
        "regions: there are 65535; configure at most 65534",
    );
    assert_refused(
        |n| many::<Target>(&mut n.targets, 65_537),
        "targets: there are 65537; configure at most 65536",
    );
    assert_refused(
        |n| many::<Service>(&mut n.services, (1 << 20) + 1),
        "services: there are 1048577; configure at most 1048576",
    );
    assert_refused(|n| many::<String>(&mut n.cdns, 65_537), "CDNs: there are 65537; configure at most 65536");
    assert_refused(
        |n| many(&mut n.coverages[0].tiers[2].pools, 4097),
        "box.toml:400:1: tier 3 of coverage \"eu\": 4097 pools; use at most 4096",
    );
}

#[test]
fn vip_addresses_that_cannot_be_are_refused() {
    let mapped = "::ffff:10.0.0.1".parse().expect("address");
    assert_refused(
        |n| n.vips[0].ipv6.push(mapped),
        "box.toml:700:1: vip \"acme\": 0.0.0.0, :: and IPv4-mapped",
    );
    assert_refused(
        |n| n.vips.push(vip("b", 0, "203.0.113.2", "2001:db8:a::1")),
        "box.toml:700:1: vip \"b\": 2001:db8:a::1 is also an address of vip \"acme\"",
    );
    assert_refused(
        |n| {
            n.vips[0].ipv4.clear();
            n.vips[0].ipv6.clear();
        },
        "box.toml:700:1: vip \"acme\": it has no address",
    );
    let many =
        |n: &mut Network| n.vips[0].ipv4 = (0..256).map(|low| [198, 51, 100, low as u8].into()).collect();
    assert_refused(many, "VIP addresses: 257 addresses do not fit");
}

#[test]
fn every_permitted_number_of_vip_addresses_fits() {
    let mut network = small();
    network.vips[0].ipv4 = (0..255).map(|low| [198, 51, 100, low as u8].into()).collect();
    for key in 0..50 {
        network.key = [key; 16];
        let image = compiled(&network).image;
        for address in &network.vips[0].ipv4 {
            assert_eq!(vip_entry(&image, (*address).into()).vip, 0);
        }
    }
}

#[test]
fn grammars_that_tables_cannot_hold_are_refused() {
    let with = |labels: Vec<LabelRule>| {
        move |n: &mut Network| {
            n.zones[0].grammars.push(Grammar { labels, service: 0, signed: None, origin: at(9) })
        }
    };
    let name = |labels: &str| format!("box.toml:9:1: name {labels:?} in zone \"cdn.acme.net\": ");
    let fixed = |label: &str| LabelRule::Fixed(label.into());
    let set =
        |values: &[&str]| LabelRule::OneOf("s".into(), values.iter().map(|v| (*v).to_owned()).collect());

    assert_refused(with(vec![fixed("ns1")]), &(name("ns1") + "the label \"ns1\" is reserved"));
    assert_refused(with(vec![set(&["a", "ns1"])]), &(name("{s}") + "the label \"ns1\" is reserved"));
    assert_refused(
        with(vec![fixed("_cdsr"), fixed("a")]),
        &(name("_cdsr.a") + "the label \"_cdsr\" is reserved"),
    );
    assert_refused(with(vec![set(&[])]), &(name("{s}") + "a label has no permitted value"));
    let long = free(13);
    assert_refused(
        with(long),
        &(name(&["{x}"; 13].join(".")) + "13 labels before the suffix are more than 12"),
    );

    let many: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let wide = vec![LabelRule::OneOf("n".into(), many); 2];
    assert_refused(with(wide), &(name("{n}.{n}") + "with it, there are more than 2097152 names"));

    compiled(&{
        let mut network = small();
        with(vec![fixed("a"), fixed("ns1")])(&mut network);
        network
    });
}

#[test]
fn zone_of_too_many_forms_is_refused() {
    let forms = |n: &mut Network| {
        n.zones[0].grammars.clear();
        for bits in 0..17u32 {
            let label = |place: u32| match bits >> place & 1 {
                1 => LabelRule::Fixed(format!("f{bits}")),
                _ => LabelRule::Free("x".into()),
            };
            let labels = (0..5).map(label).collect();
            n.zones[0].grammars.push(Grammar { labels, service: 0, signed: None, origin: at(1 + bits) });
        }
    };
    assert_refused(forms, "box.toml:");
    let mut network = small();
    forms(&mut network);
    let text = &texts(&network)[0];
    assert!(
        text.contains("zone \"cdn.acme.net\": its rules and their right-hand parts have more than 16 forms"),
        "{text}"
    );
}

#[test]
fn grammar_without_a_name_of_its_own_is_refused_with_both_places() {
    let mut second = grammar("{object}.web.{customer}", 0);
    second.origin = at(33);
    assert_refused(
        |n| n.zones[0].grammars.push(second.clone()),
        "box.toml:33:1: name \"{object}.web.{customer}\" in zone \"cdn.acme.net\": all its names belong to an earlier rule (box.toml:900:1)",
    );
    let mut network = small();
    second.service = 1;
    network.zones[0].grammars.push(second);
    compiled(&network);
}

#[test]
fn zones_that_clash_are_refused() {
    assert_refused(
        |n| {
            n.zones.push(zone("cdn.acme.net", vec![]));
            n.zones[1].origin = at(44);
        },
        "box.toml:44:1: suffix \"cdn.acme.net\": the suffix is also defined at box.toml:800:1",
    );
    assert_refused(
        |n| n.zones.push(zone("ns1.cdn.acme.net", vec![])),
        "box.toml:800:1: zone \"ns1.cdn.acme.net\": the label \"ns1\" is reserved",
    );
    assert_refused(|n| n.zones.push(zone("", vec![])), "box.toml:800:1: suffix \"\": it has 0 labels");
    let deep = vec!["a"; 32].join(".");
    assert_refused(
        |n| n.zones.push(zone(&deep, vec![])),
        &format!("box.toml:800:1: suffix {deep:?}: it has 32 labels"),
    );
}

#[test]
fn urls_of_two_services_are_refused_with_both_places() {
    let mut rule = url("http://{other}.cdn.acme.net/live", 1);
    rule.origin = at(55);
    assert_refused(
        |n| n.urls.push(rule),
        "box.toml:55:1: URL \"http://{other}.cdn.acme.net/live/*\": URLs it covers already belong to another service (box.toml:1000:1)",
    );
    assert_refused(
        |n| n.urls.push(url("http://cdn.acme.net/1/2/3/4/5", 0)),
        "box.toml:1000:1: URL \"http://cdn.acme.net/1/2/3/4/5/*\": 5 path segments are more than 4",
    );
}

#[test]
fn suffixes_of_urls_that_differ_in_case_alone_are_refused() {
    let rule = UrlRule { origin: at(66), ..url("http://{other}.CDN.acme.net", 0) };
    assert_refused(
        |n| n.urls.push(rule),
        "box.toml:1000:1: suffix \"cdn.acme.net\": the suffix is also defined at box.toml:66:1; write both in small letters",
    );
}

#[test]
fn host_patterns_whose_paths_multiply_beyond_the_table_are_refused() {
    let mut network = small();
    let paths = (0..2100).map(|n| url(&format!("http://{{customer}}.z/p{n}"), 0));
    let hosts = (0..1000).map(|n| url(&format!("http://h{n}.z/own"), 1));
    network.urls = paths.chain(hosts).collect();
    let texts = texts(&network);
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert!(texts[0].contains("with its paths, there are more than 2097152 names and URLs"), "{}", texts[0]);
}

#[test]
fn all_reasons_are_given_at_once() {
    let mut network = small();
    network.zones[0].grammars.push(grammar("ns1", 0));
    network.zones.push(zone("", vec![]));
    network.vips.push(vip("b", 0, "203.0.113.1", "2001:db8:a::2"));
    network.regions[1].prefixes.push("10.1.0.0/16".parse().expect("prefix"));
    assert_eq!(texts(&network).len(), 4);
}

#[test]
fn states_must_be_one_per_target() {
    let refused = compile(&small(), &[TargetState::default()], 1, &mut ids()).expect_err("is refused");
    assert_eq!(refused[0].to_string(), "target states: 1 states for 4 targets; give one state per target");
}

#[test]
fn refused_network_takes_no_counter_slots() {
    let mut network = small();
    network.zones.push(zone("", vec![]));
    let mut slots = ids();
    compile(&network, &all_up(&network), 1, &mut slots).expect_err("is refused");
    assert_eq!(slots, ids());
    let mut few = CounterSlots::new(2, 10, 10);
    let refused = compile(&small(), &all_up(&small()), 1, &mut few).expect_err("is refused");
    assert!(refused[0].to_string().starts_with("service \"web\": no counter slot is left"), "{}", refused[0]);
}

/// Some refusal of the changed network begins like this.
#[track_caller]
fn assert_some_refused(change: impl FnOnce(&mut Network), want: &str) {
    let mut network = small();
    change(&mut network);
    let texts = texts(&network);
    assert!(texts.iter().any(|text| text.starts_with(want)), "{texts:#?}");
}

#[test]
fn outcomes_that_no_answer_could_hold_are_refused() {
    let becomes = |network: &mut Network, outcome: Outcome| {
        let target = &mut network.targets[0];
        (target.ipv4, target.ipv6, target.outcome) = (None, None, outcome);
    };
    let name = |text: &str| Outcome::Name(text.into());
    assert_some_refused(
        |n| becomes(n, name("a..b")),
        "box.toml:200:1: target \"t000\": \"a..b\" is not a domain name",
    );
    assert_some_refused(
        |n| becomes(n, Outcome::Delegation(vec![])),
        "box.toml:200:1: target \"t000\": 0 name servers; name one to four",
    );
    assert_some_refused(
        |n| n.targets[0].outcome = name("edge.partner.example"),
        "box.toml:200:1: target \"t000\": it has an address and another outcome",
    );
    assert_some_refused(
        |n| {
            n.services.iter_mut().for_each(|service| service.fallback = vec![0]);
            becomes(n, name("edge.partner.example"));
            n.zones[0].grammars[0].labels.clear();
        },
        "box.toml:900:1: name \"@\" in zone \"cdn.acme.net\": its service can answer with a CNAME or a delegation",
    );
}

#[test]
fn srv_answers_that_could_not_name_a_site_are_refused() {
    let srv = |network: &mut Network, domain: &str, site: &str| {
        let sites = [(site.to_owned(), 5)].into();
        let locations = Locations { media: 'q', port: 554, domain: domain.into(), sites };
        network.services[1].srv = Some(locations);
    };
    let what = "box.toml:600:1: service \"web\": ";
    assert_some_refused(|n| srv(n, "other.example", "paris"), &format!("{what}target \"t00"));
    assert_some_refused(
        |n| srv(n, "cdn.acme.net", "lab"),
        &format!("{what}its answers name \"a0.y5q.cdn.acme.net\" and the like, and no pattern matches it"),
    );
    assert_some_refused(|n| srv(n, &"x".repeat(64), "lab"), &format!("{what}\"y5q.xxx"));
    assert_some_refused(
        |n| {
            srv(n, "other.example", "lab");
            n.services[1].dns = DnsAnswer::Vip;
        },
        &format!("{what}its names have SRV records and no others"),
    );
}
