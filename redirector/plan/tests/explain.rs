//! From tables back to the configuration: candidates and what removed them.

mod common;

use common::*;
use redirector_plan::explain::{Removal, candidates, fallback_candidates};
use redirector_plan::model::TargetState;
use redirector_plan::shares::Kind;

const DEAD: TargetState = TargetState { up: false, factor: 256, round_trip: None };

/// Tier, target, share in whole percent, what removed it.
fn lines(found: &[redirector_plan::explain::Candidate]) -> Vec<(u8, &str, i32, String)> {
    let removed = |removal: Option<Removal>| removal.map_or_else(String::new, |removal| removal.to_string());
    found.iter().map(|c| (c.tier, c.name.as_str(), c.share.round() as i32, removed(c.removed))).collect()
}

#[test]
fn every_candidate_is_listed_with_what_removed_it() {
    let mut network = small();
    network.targets[3].ipv6 = None;
    network.coverages[0].tiers[0].origin = at(41);
    let mut states = all_up(&network);
    states[2].factor = 0;
    let compiled = compiled_with(&network, &states);

    let france = candidates(&compiled, &network, 0, 2, Kind::Ipv4, &states);
    let later = "tier 1 not reached: tier 0 has usable targets";
    assert_eq!(
        lines(&france),
        [
            (0, "t002", 75, "overloaded: its load factor is 0".into()),
            (0, "t003", 25, String::new()),
            (1, "t000", 25, later.into()),
            (1, "t001", 25, later.into()),
            (1, "t002", 38, "overloaded: its load factor is 0".into()),
            (1, "t003", 13, later.into()),
        ]
    );
    assert_eq!((france[0].tier_origin.line, &france[0].pools[..]), (41, &["par".to_owned()][..]));

    let france_v6 = candidates(&compiled, &network, 0, 2, Kind::Ipv6, &states);
    assert_eq!(lines(&france_v6)[1], (0, "t003", 0, "no IPv6 address".into()));
    assert_eq!(france_v6[2].removed, None, "tier 0 has nothing usable for IPv6");

    let nowhere = candidates(&compiled, &network, 0, 0, Kind::Ipv4, &states);
    assert_eq!(nowhere.len(), 4, "only the tier for everybody");
    assert!(candidates(&compiled, &network, 9, 9, Kind::Ipv4, &states).is_empty());
}

#[test]
fn targets_out_of_reach_are_named_with_the_distances() {
    let mut network = small();
    network.coverages[0].tiers[2].within = Some(5000);
    let mut states = all_up(&network);
    for (target, millis) in [(0, 12), (1, 18), (2, 16)] {
        states[target].round_trip = Some(millis * 1000 + 400);
    }
    let compiled = compiled_with(&network, &states);
    let everybody = candidates(&compiled, &network, 0, 0, Kind::Ipv4, &states);
    assert_eq!(
        everybody.iter().map(|c| c.removed.map(|removal| removal.to_string())).collect::<Vec<_>>(),
        [
            None,
            Some("too far: 18.4 ms, and targets within 17.4 ms are usable".into()),
            None,
            Some("too far: not measured, and targets that are measured are usable".into()),
        ]
    );
}

#[test]
fn fallback_is_reached_when_no_tier_has_anything_usable() {
    let mut network = small();
    network.services[0].fallback = vec![3];
    network.pools[1].members.truncate(1);
    let mut states = all_up(&network);
    let compiled = compiled_with(&network, &states);
    let idle = fallback_candidates(&compiled, &network, 0, 1, Kind::Ipv4, &states);
    assert_eq!(lines(&idle), [(255, "t003", 100, "fallback not reached: tier 0 has usable targets".into())]);
    states[..3].fill(DEAD);
    let used = fallback_candidates(&compiled, &network, 0, 1, Kind::Ipv4, &states);
    assert_eq!(used[0].removed, None);
    let json = serde_json::to_value(&idle[0]).expect("serialises");
    assert_eq!(json["removed"]["why"], "not-reached");
    assert_eq!(json["name"], "t003");
}

#[test]
fn url_rule_is_found_from_what_the_lookup_returned() {
    let mut network = small();
    network.urls =
        vec![url("http://{customer}.cdn.acme.net", 1), url("http://{customer}.cdn.acme.net/live", 0)];
    network.urls[1].origin = at(77);
    let compiled = compiled(&network);
    // Zone 0 is the DNS zone, zone 1 the URL suffix.
    let host = ["ABC", "cdn", "acme", "net"];
    let rule = compiled.url_rule(&network, 1, 0, &host, &["live"]).expect("has a rule");
    assert_eq!(rule.origin.line, 77);
    assert_eq!(
        compiled.url_rule(&network, 1, 0, &host, &[]),
        None,
        "service 0 has no rule for the whole host"
    );
    assert_eq!(compiled.url_rule(&network, 0, 0, &host, &["live"]), None, "a DNS zone has no URL rules");
}
