//! Names and URLs through the production look-ups against naive matchers.

mod common;

use common::*;
use proptest::prelude::*;
use redirector_core::lookup::{Scheme, is_partial};
use redirector_core::table::NONE;
use redirector_core::tail::Tail;
use redirector_plan::compile::compile;
use redirector_plan::model::{Grammar, LabelRule, Network, UrlRule, Zone};
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    NotOurs,
    Nothing,
    Partial,
    Service(u32),
}

fn fits(rule: &LabelRule, label: &str) -> bool {
    match rule {
        LabelRule::Fixed(value) => value == label,
        LabelRule::Free(_) => true,
        LabelRule::OneOf(_, values) => values.iter().any(|value| value == label),
    }
}

fn all_fit(rules: &[LabelRule], labels: &[String]) -> bool {
    rules.len() == labels.len() && rules.iter().zip(labels).all(|(rule, label)| fits(rule, label))
}

/// The first grammar that matches; else whether a longer name could.
fn naive_meaning(zones: &[Zone], cdn: usize, name: &str) -> Meaning {
    let labels = dotted(name);
    let of_cdn = || zones.iter().filter(|zone| zone.cdn == cdn);
    let around = of_cdn().filter(|zone| labels.ends_with(&zone.suffix));
    let Some(zone) = around.max_by_key(|zone| zone.suffix.len()) else { return Meaning::NotOurs };
    let codepoint = &labels[..labels.len() - zone.suffix.len()];
    if let Some(grammar) = zone.grammars.iter().find(|grammar| all_fit(&grammar.labels, codepoint)) {
        return Meaning::Service(grammar.service as u32);
    }
    let beneath = |grammar: &Grammar| {
        let from = grammar.labels.len().checked_sub(codepoint.len()).filter(|from| *from > 0);
        from.is_some_and(|from| all_fit(&grammar.labels[from..], codepoint))
    };
    let below_here = |inner: &Zone| inner.suffix.len() > labels.len() && inner.suffix.ends_with(&labels);
    let partial = zone.grammars.iter().any(beneath) || of_cdn().any(below_here);
    if partial && !codepoint.is_empty() { Meaning::Partial } else { Meaning::Nothing }
}

fn table_meaning(
    compiled: &redirector_plan::Compiled,
    network: &Network,
    vip: IpAddr,
    name: &str,
) -> Meaning {
    let Some((zone, entry)) = dns_rule(&compiled.image, vip, name) else { return Meaning::NotOurs };
    match entry {
        None => Meaning::Nothing,
        Some(entry) if is_partial(&entry) => Meaning::Partial,
        Some(entry) => {
            let labels = dotted(name);
            let count = labels.len() - compiled.image.zones[zone as usize].suffix_labels as usize;
            let codepoint: Vec<&str> = labels[..count].iter().map(String::as_str).collect();
            let grammar = compiled.grammar(network, zone, entry.order, &codepoint).expect("has an origin");
            assert_eq!(grammar.service as u32, entry.value, "provenance of {name}");
            Meaning::Service(entry.value)
        }
    }
}

fn any_label() -> impl Strategy<Value = LabelRule> {
    let value = prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        value.clone().prop_map(|value| LabelRule::Fixed(value.into())),
        Just(LabelRule::Free("x".into())),
        prop::collection::btree_set(value, 1..3)
            .prop_map(|values| LabelRule::OneOf("s".into(), values.into_iter().map(str::to_owned).collect())),
    ]
}

fn any_grammar() -> impl Strategy<Value = Grammar> {
    (prop::collection::vec(any_label(), 0..4), 0usize..3).prop_map(|(labels, service)| Grammar {
        labels,
        service,
        signed: None,
        origin: at(1),
    })
}

/// Zones of two CDNs that nest in one another.
fn any_zones() -> impl Strategy<Value = Vec<Zone>> {
    let suffix = prop::sample::select(vec!["z", "a.z", "b.a.z", "c.b.a.z", "y"]);
    let grammars = prop::collection::vec(any_grammar(), 0..5);
    prop::collection::btree_map((suffix, 0usize..2), grammars, 1..5).prop_map(|zones| {
        let build = |((suffix, cdn), grammars)| Zone { cdn, ..zone(suffix, grammars) };
        zones.into_iter().map(build).collect()
    })
}

fn network() -> Network {
    Network {
        cdns: vec!["acme".into(), "beta".into()],
        vips: vec![
            vip("acme", 0, "203.0.113.1", "2001:db8:a::1"),
            vip("beta", 1, "203.0.113.2", "2001:db8:a::2"),
        ],
        services: vec![service("s0", 0), service("s1", 0), service("s2", 0)],
        urls: vec![],
        zones: vec![],
        ..small()
    }
}

fn any_name(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d", "z", "y"]), 1..most)
        .prop_map(|labels| labels.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn names_mean_what_the_first_matching_grammar_says(
        zones in any_zones(),
        names in prop::collection::vec(any_name(6), 60),
    ) {
        let network = Network { zones, ..network() };
        let compiled = match compile(&network, &all_up(&network), 1, &mut ids()) {
            Ok(compiled) => compiled,
            Err(refusals) => {
                // A grammar that earlier ones leave nothing to.
                prop_assert!(refusals.iter().all(|refusal| refusal.why.starts_with("all its names")), "{refusals:?}");
                return Err(TestCaseError::reject("refused"));
            }
        };
        for (cdn, address) in [(0, "203.0.113.1"), (1, "2001:db8:a::2")] {
            let vip = address.parse().expect("address");
            for name in names.iter().flat_map(|name| [name.clone(), format!("{name}.z"), format!("{name}.a.z")]) {
                let want = naive_meaning(&network.zones, cdn, &name);
                prop_assert_eq!(table_meaning(&compiled, &network, vip, &name), want, "{} of cdn {}", name, cdn);
            }
        }
    }
}

/// Rules from the host's right end: whether each label is fixed, whichever part of the host it stands in.
fn mask(rule: &UrlRule) -> Vec<bool> {
    let host = rule.host.iter().map(|label| !matches!(label, LabelRule::Free(_)));
    let mut mask: Vec<bool> = host.chain(rule.suffix.iter().map(|_| true)).collect();
    mask.reverse();
    mask
}

/// Of the rules whose host matches: the most specific host pattern with a matching path, then the longest path. Patterns
/// that the most specific one does not refine are not asked.
fn naive_url<'n>(network: &'n Network, scheme: Scheme, host: &str, path: &str) -> Option<&'n UrlRule> {
    let host = dotted(host);
    let path: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let has_scheme = |rule: &UrlRule| match scheme {
        Scheme::Http => rule.schemes.http,
        Scheme::Https => rule.schemes.https,
        Scheme::Rtsp => rule.schemes.rtsp,
    };
    let host_fits = |rule: &UrlRule| {
        let cut = host.len().checked_sub(rule.suffix.len());
        cut.is_some_and(|cut| rule.suffix == host[cut..] && all_fit(&rule.host, &host[..cut]))
    };
    let matching: Vec<&UrlRule> =
        network.urls.iter().filter(|rule| has_scheme(rule) && host_fits(rule)).collect();
    let top = matching.iter().map(|rule| mask(rule)).max()?;
    let refines = |rule: &UrlRule| mask(rule).iter().zip(&top).all(|(fixed, top)| !fixed || *top);
    let serving = matching.into_iter().filter(|rule| refines(rule) && path.starts_with(&rule.path));
    serving.min_by_key(|rule| (Reverse(mask(rule)), Reverse(rule.path.len())))
}

fn any_url() -> impl Strategy<Value = UrlRule> {
    let suffix = prop::sample::select(vec!["z", "a.z", "b.a.z", "y"]);
    let segment = prop::sample::select(vec!["live", "hd", "A"]);
    let path = prop::collection::vec(segment, 0..4).prop_map(|path| path.join("/"));
    let scheme = prop::sample::select(vec!["http", "https"]);
    (scheme, prop::collection::vec(any_label(), 0..3), suffix, path, 0usize..2).prop_map(
        |(scheme, host, suffix, path, service)| UrlRule {
            host,
            ..url(&format!("{scheme}://{suffix}/{path}"), service)
        },
    )
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["live", "hd", "A", "a"]), 0..5)
        .prop_map(|path| path.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn urls_belong_to_the_most_specific_host_and_longest_path(
        urls in prop::collection::vec(any_url(), 1..7),
        asked in prop::collection::vec((any_name(5), any_path()), 60),
    ) {
        let network = Network { urls, ..network() };
        let compiled = match compile(&network, &all_up(&network), 1, &mut ids()) {
            Ok(compiled) => compiled,
            Err(refusals) => {
                prop_assert!(refusals.iter().all(|refusal| refusal.why.starts_with("URLs it covers")), "{refusals:?}");
                return Err(TestCaseError::reject("refused"));
            }
        };
        for (name, path) in &asked {
            for host in [name.clone(), format!("{name}.z"), format!("{name}.a.z")] {
                for scheme in [Scheme::Http, Scheme::Https, Scheme::Rtsp] {
                    let want = naive_url(&network, scheme, &host, path).map(|rule| rule.service as u32);
                    let got = url_service(&compiled.image, VIP, scheme, &host, path);
                    prop_assert_eq!(got, want, "{:?} {} {}", scheme, host, path);
                }
            }
        }
    }
}

#[test]
fn zone_inside_a_zone_leaves_no_nxdomain_on_the_way() {
    let zones = vec![
        zone("cdn.acme.net", vec![grammar("www", 0)]),
        zone("live.eu.cdn.acme.net", vec![grammar("{channel}", 1)]),
    ];
    let network = Network { zones, ..network() };
    let compiled = compiled(&network);
    let meaning = |name| table_meaning(&compiled, &network, VIP, name);
    assert_eq!(meaning("eu.cdn.acme.net"), Meaning::Partial);
    assert_eq!(meaning("us.cdn.acme.net"), Meaning::Nothing);
    assert_eq!(meaning("x.live.eu.cdn.acme.net"), Meaning::Service(1));
    assert_eq!(meaning("x.y.live.eu.cdn.acme.net"), Meaning::Nothing);
}

#[test]
fn the_suffix_of_most_rules_is_recognised_as_a_whole_unless_another_begins_beneath_it() {
    let zones = vec![
        zone("cdn.acme.net", vec![grammar("www", 0), grammar("a", 0), grammar("b", 0)]),
        zone("live.cdn.acme.net", vec![grammar("{channel}", 1)]),
        zone("tv.acme.net", vec![grammar("{channel}", 1), grammar("a.b", 1)]),
        zone("a-suffix-of-many-bytes.acme.net", vec![grammar("c", 0), grammar("d", 0), grammar("e", 0)]),
    ];
    let urls = vec![
        url("http://{x}.web.acme.net/", 0),
        url("http://{x}.web.acme.net/live", 0),
        url("rtsp://{x}.web.acme.net/", 1),
        url("https://one.acme.net/", 1),
    ];
    let compiled = compiled(&Network { zones, urls, ..network() });
    let info = &compiled.image.vip_info[0];
    assert_eq!(info.names, Tail::of_names(b"\x02tv\x04acme\x03net\0", 2).expect("it is short"));
    let web = info.hosts;
    let zones = &compiled.image.zones;
    assert_eq!(web, Tail::of_hosts(b"web.acme.net", web.zones).expect("it is short"));
    assert_eq!(web.zones.map(|zone| zone != NONE), [true, false, true, false]);
    assert!([0, 2].iter().all(|scheme| zones[web.zones[*scheme] as usize].suffix_labels == 3));
}

#[test]
fn apex_grammar_and_names_of_other_cdns() {
    let zones = vec![zone("cdn.acme.net", vec![grammar("", 2), grammar("{x}", 1)])];
    let network = Network { zones, ..network() };
    let compiled = compiled(&network);
    assert_eq!(table_meaning(&compiled, &network, VIP, "cdn.acme.net"), Meaning::Service(2));
    let beta = "203.0.113.2".parse().expect("address");
    assert_eq!(table_meaning(&compiled, &network, beta, "cdn.acme.net"), Meaning::NotOurs);
    assert_eq!(table_meaning(&compiled, &network, VIP, "acme.net"), Meaning::NotOurs);
}

#[test]
fn grammars_of_one_form_may_outnumber_the_places() {
    let grammars =
        (0..70_000).map(|n| grammar(&format!("n{n}"), n % 3)).chain([grammar("{any}", 2)]).collect();
    let network = Network { zones: vec![zone("cdn.acme.net", grammars)], ..network() };
    let compiled = compiled(&network);
    for n in [0, 1, 65_534, 65_535, 69_999] {
        let meaning = table_meaning(&compiled, &network, VIP, &format!("n{n}.cdn.acme.net"));
        assert_eq!(meaning, Meaning::Service(n % 3));
    }
    assert_eq!(table_meaning(&compiled, &network, VIP, "other.cdn.acme.net"), Meaning::Service(2));
}

#[test]
fn literal_addresses_are_url_hosts() {
    let network =
        Network { urls: vec![url("http://203.0.113.1/a", 1), url("http://[2001:db8:a::1]", 2)], ..network() };
    let image = compiled(&network).image;
    assert_eq!(url_service(&image, VIP, Scheme::Http, "203.0.113.1", "a/b"), Some(1));
    assert_eq!(url_service(&image, VIP, Scheme::Http, "203.0.113.1", "b"), None);
    assert_eq!(url_service(&image, VIP, Scheme::Http, "[2001:db8:a::1]", ""), Some(2));
}

#[test]
fn one_host_may_have_a_path_for_each_of_100_000_services() {
    let services = (0..100_000).map(|n| service(&format!("s{n}"), 0)).collect();
    let urls = (0..100_000).map(|n| url(&format!("http://www.acme.net/s{n}/x"), n)).collect();
    let network = Network { services, urls, ..network() };
    let image = compiled(&network).image;
    for n in [0, 1, 50_000, 99_999] {
        assert_eq!(url_service(&image, VIP, Scheme::Http, "www.acme.net", &format!("s{n}/x/y")), Some(n));
    }
    assert_eq!(url_service(&image, VIP, Scheme::Http, "www.acme.net", "s1"), None);
}

#[test]
fn order_of_url_rules_and_zones_does_not_change_an_answer() {
    let urls = vec![
        url("http://{a}.z/live", 0),
        url("http://a.z", 1),
        url("http://b.z/live/hd", 2),
        url("http://y", 0),
    ];
    let zones = vec![zone("z", vec![grammar("{x}", 0)]), zone("a.z", vec![grammar("{x}", 1)])];
    let straight = Network { urls, zones, ..network() };
    let mut turned = straight.clone();
    turned.urls.reverse();
    turned.zones.reverse();
    let [one, other] = [&straight, &turned].map(compiled);
    for host in ["a.z", "b.z", "c.z", "b.a.z", "y", "z"] {
        for path in ["", "live", "live/hd", "x"] {
            let [a, b] = [&one, &other].map(|it| url_service(&it.image, VIP, Scheme::Http, host, path));
            assert_eq!(a, b, "{host}/{path}");
        }
        assert_eq!(table_meaning(&one, &straight, VIP, host), table_meaning(&other, &turned, VIP, host));
    }
}
