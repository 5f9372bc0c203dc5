//! A whole network through the compiler and back through the readers.

mod common;

use common::*;
use redirector_core::lookup::{Scheme, is_partial};
use redirector_core::table::NONE;
use redirector_core::verdict::Reason;
use redirector_plan::compile::compile;
use redirector_plan::image::{TableImage, TableKind};
use std::net::IpAddr;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

#[test]
fn small_network_answers_names_urls_and_regions() {
    let image = compiled(&small()).image;
    assert_eq!(region_number(&image, ip("10.1.6.255")), 1);
    assert_eq!(region_number(&image, ip("10.1.7.1")), 2, "the nested prefix wins");
    assert_eq!(region_number(&image, ip("10.3.0.0")), 0);
    assert_eq!(region_number(&image, ip("2001:db8:2ff::1")), 2);

    let value = |name| {
        dns_rule(&image, VIP, name)
            .and_then(|(_, entry)| entry)
            .map(|entry| (entry.value, is_partial(&entry)))
    };
    assert_eq!(value("ad102.WEB.abc.cdn.acme.net"), Some((1, false)));
    assert_eq!(value("chan4.tv.cdn.acme.net"), Some((0, false)));
    assert_eq!(value("web.abc.cdn.acme.net"), Some((0, true)), "names beneath exist");
    assert_eq!(value("x.y.z.cdn.acme.net"), None);
    assert_eq!(dns_rule(&image, VIP, "a.tv.cdn.acme.org"), None);

    let service = |path| url_service(&image, VIP, Scheme::Http, "abc.cdn.acme.net", path);
    assert_eq!(service("/live/1"), Some(0));
    assert_eq!(service("/Live/1"), Some(1), "paths are case-sensitive");
    assert_eq!(service("/"), Some(1));
    assert_eq!(url_service(&image, VIP, Scheme::Https, "abc.cdn.acme.net", "/"), None);
}

#[test]
fn clients_get_their_regions_first_tier() {
    let image = compiled(&small()).image;
    for (client, reason, targets) in [
        ("10.1.0.1", Reason::FirstTier, [0, 1]),
        ("10.2.0.1", Reason::FirstTier, [2, 3]),
        ("2001:db8:101::1", Reason::FirstTier, [0, 1]),
    ] {
        for want_v6 in [false, true] {
            let verdict = verdict(&image, 1, ip(client), want_v6, 1);
            assert_eq!(verdict.reason, reason, "{client}");
            assert!(targets.contains(&verdict.targets[0]), "{client} got {:?}", verdict.targets);
        }
    }
    let elsewhere = verdict(&image, 1, ip("10.9.9.9"), false, 4);
    assert_eq!((elsewhere.reason, elsewhere.count, elsewhere.region), (Reason::FirstTier, 4, 0));
}

/// Targets that a client gets for a name.
fn answer(image: &TableImage, client: &str, name: &str) -> Vec<u32> {
    let (_, entry) = dns_rule(image, VIP, name).expect("is in the zone");
    let service = entry.expect("has a rule").value;
    let verdict = verdict(image, service, ip(client), false, 4);
    verdict.targets[..verdict.count as usize].to_vec()
}

/// P-8: `near` for some customers, `far` for all others of the same kind of name.
fn graded(near: usize, far: usize) -> TableImage {
    let mut network = small();
    network.coverages = vec![
        coverage("near", vec![tier(None, &[(near, 1)])]),
        coverage("far", vec![tier(None, &[(far, 1)])]),
    ];
    network.services = vec![service("premium", 0), service("economy", 1)];
    let grammars = vec![grammar("{object}.web.{gold|silver}", 0), grammar("{object}.web.{customer}", 1)];
    network.zones = vec![zone("cdn.acme.net", grammars)];
    network.urls.clear();
    compiled(&network).image
}

#[test]
fn grade_of_service_is_told_by_the_name_alone() {
    let image = graded(0, 1);
    for (name, targets) in [
        ("x.web.gold.cdn.acme.net", [0, 1]),
        ("x.WEB.Silver.cdn.acme.net", [0, 1]),
        ("x.web.bronze.cdn.acme.net", [2, 3]),
        ("gold.web.bronze.cdn.acme.net", [2, 3]),
    ] {
        for client in ["10.1.0.1", "10.9.9.9"] {
            let mut found = answer(&image, client, name);
            found.sort();
            assert_eq!(found, targets, "{name} for {client}");
        }
    }
}

#[test]
fn boxes_may_hold_different_policies_for_one_name() {
    let boxes = [graded(0, 1), graded(1, 0)];
    let of = |image| answer(image, "10.1.0.1", "x.web.gold.cdn.acme.net");
    let [mut one, mut other] = [of(&boxes[0]), of(&boxes[1])];
    one.sort();
    other.sort();
    assert_eq!([one, other], [[0, 1], [2, 3]]);
}

#[test]
fn every_table_has_a_value_even_for_an_empty_network() {
    let empty = redirector_plan::model::Network::default();
    for network in [empty, small()] {
        let image = compiled(&network).image;
        for kind in TableKind::ALL {
            assert!(image.len(*kind) > 0, "{}", kind.name());
            assert_eq!(image.bytes(*kind).len(), image.len(*kind) * kind.value_size());
        }
    }
}

#[test]
fn equal_input_gives_equal_bytes_whatever_was_compiled_before() {
    let network = small();
    let mut other = small();
    other.services[0].name = "an older service".into();
    other.regions[0].name = "an older region".into();
    other.targets[0].name = "an older target".into();
    let mut used = ids();
    compile(&other, &all_up(&other), 1, &mut used).expect("compiles");
    let fresh = compile(&network, &all_up(&network), 9, &mut ids()).expect("compiles").image;
    let mut later = compile(&network, &all_up(&network), 9, &mut used).expect("compiles").image;
    assert_ne!(fresh, later, "counter slots differ");
    // Counters are no part of answers; everything else is.
    later.region_counters = fresh.region_counters.clone();
    later.services.iter_mut().zip(&fresh.services).for_each(|(a, b)| a.counter = b.counter);
    later.targets.iter_mut().zip(&fresh.targets).for_each(|(a, b)| a.counter = b.counter);
    for kind in TableKind::ALL {
        assert_eq!(fresh.bytes(*kind), later.bytes(*kind), "{}", kind.name());
    }
}

#[test]
fn nothing_usable_is_no_record_and_fallback_is_taken() {
    let mut network = small();
    network.services[1].fallback = vec![3];
    network.pools[1].members.truncate(1);
    let mut states = all_up(&network);
    states.iter_mut().for_each(|state| state.up = false);
    states[3].up = true;
    let compiled = compiled_with(&network, &states);
    let web = verdict(&compiled.image, 1, ip("10.1.0.1"), false, 2);
    assert_eq!((web.reason, web.count, web.targets[0]), (Reason::Fallback, 1, 3));
    let tv = verdict(&compiled.image, 0, ip("10.1.0.1"), false, 2);
    assert_eq!((tv.reason, tv.count), (Reason::NothingUsable, 0));
    assert!(compiled.image.groups.iter().any(|group| group.record() == NONE));
}
