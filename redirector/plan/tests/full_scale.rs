//! The reference network at the size one box must hold, compiled and asked.

mod common;

use common::*;
use ipnet::IpNet;
use redirector_core::lookup::{Scheme, is_partial};
use redirector_core::verdict::Reason;
use redirector_plan::model::{LabelRule, Network};
use redirector_plan::reference::{Scale, reference};
use std::net::IpAddr;

fn example(rules: &[LabelRule], suffix: &[String]) -> String {
    let label = |rule: &LabelRule| match rule {
        LabelRule::Fixed(value) => value.clone(),
        LabelRule::Free(_) => "anything-7".to_owned(),
        LabelRule::OneOf(_, values) => values[values.len() - 1].clone(),
    };
    let labels: Vec<String> = rules.iter().map(label).chain(suffix.iter().cloned()).collect();
    labels.join(".")
}

fn vip_of(network: &Network, cdn: usize) -> IpAddr {
    let vip = network.vips.iter().find(|vip| vip.cdn == cdn).expect("every CDN has a VIP");
    vip.ipv4[0].into()
}

/// By longest match over all prefixes.
fn naive_region(prefixes: &[(IpNet, u32)], address: IpAddr) -> u32 {
    let covering = prefixes.iter().filter(|(prefix, _)| prefix.contains(&address));
    covering.max_by_key(|(prefix, _)| prefix.prefix_len()).map_or(0, |(_, region)| *region)
}

#[test]
fn full_size_network_compiles_and_answers() {
    let network = reference(Scale::FULL);
    let image = compiled(&network).image;

    for zone in &network.zones {
        let vip = vip_of(&network, zone.cdn);
        for grammar in &zone.grammars {
            let name = example(&grammar.labels, &zone.suffix);
            let (_, entry) = dns_rule(&image, vip, &name).expect("is in a zone");
            let entry = entry.expect("has a rule");
            assert!(!is_partial(&entry) && entry.value as usize == grammar.service, "{name}");
        }
    }
    for rule in network.urls.iter().step_by(7) {
        let vip = vip_of(&network, network.services[rule.service].cdn);
        let host = example(&rule.host, &rule.suffix);
        let path = rule.path.join("/");
        let scheme = if rule.schemes.http { Scheme::Http } else { Scheme::Rtsp };
        assert_eq!(
            url_service(&image, vip, scheme, &host, &path),
            Some(rule.service as u32),
            "{host}/{path}"
        );
    }

    let all = network.regions.iter().enumerate();
    let prefixes: Vec<(IpNet, u32)> = all
        .flat_map(|(index, region)| region.prefixes.iter().map(move |prefix| (*prefix, index as u32 + 1)))
        .collect();
    assert!(prefixes.len() >= 1_250_000);
    for (prefix, _) in prefixes.iter().step_by(12_501) {
        for address in [prefix.network(), prefix.broadcast()] {
            assert_eq!(region_number(&image, address), naive_region(&prefixes, address), "{address}");
            for want_v6 in [false, true] {
                let reason = verdict(&image, 0, address, want_v6, 1).reason;
                assert!(matches!(reason, Reason::FirstTier | Reason::LaterTier), "{address}: {reason:?}");
            }
        }
    }
}
