//! Regions whose clients are served otherwise for a while: cells change, and everything else stays.

mod common;

use common::*;
use redirector_core::verdict::{Reason, Verdict};
use redirector_plan::divert::{Diversions, Instead};
use redirector_plan::image::TableImage;
use redirector_plan::model::Network;
use std::net::{IpAddr, Ipv4Addr};

const DE: u32 = 1;
const FR: u32 = 2;

/// As many regions as do not fill a value of the table, and a fallback of the second service alone.
fn network() -> Network {
    let mut network = small();
    network.services[1].fallback = vec![3];
    network
}

/// Answers for clients of each region and of none, by service and family.
fn answers(image: &TableImage) -> Vec<Verdict> {
    let clients = [[10, 1, 1, 1], [10, 2, 1, 1], [10, 9, 1, 1]].map(Ipv4Addr::from);
    let mut found = Vec::new();
    for client in clients {
        for service in 0..2 {
            found.extend([false, true].map(|v6| verdict(image, service, IpAddr::V4(client), v6, 1)));
        }
    }
    found
}

fn with(network: &Network, diversions: &[(u32, Instead)]) -> Vec<Verdict> {
    let mut compiled = compiled(network);
    let pristine = compiled.image.clone();
    let diversions: Diversions = diversions.iter().copied().collect();
    let found = compiled.with_diverted(&diversions, answers);
    assert!(compiled.image == pristine, "what was compiled is left as it was");
    found
}

#[test]
fn clients_of_a_drained_region_get_the_tiers_for_everybody_and_others_what_they_had() {
    let network = network();
    let before = with(&network, &[]);
    let after = with(&network, &[(FR, Instead::Elsewhere)]);
    assert_eq!(after[..4], before[..4], "Germany");
    assert_eq!(after[8..], before[8..], "no region");
    let group = |verdict: &Verdict| verdict.group;
    let groups = |verdicts: &[Verdict]| verdicts.iter().map(group).collect::<Vec<_>>();
    assert_eq!(groups(&after[4..8]), groups(&before[8..]));
    assert_ne!(groups(&before[4..8]), groups(&before[8..]));
    assert!(after[4..8].iter().all(|verdict| verdict.region == FR), "they are counted where they are");
}

#[test]
fn clients_of_a_region_that_is_forced_down_get_fallbacks_alone() {
    let after = with(&network(), &[(DE, Instead::Nobody)]);
    let reasons: Vec<Reason> = after[..4].iter().map(|verdict| verdict.reason).collect();
    assert_eq!(reasons, [Reason::NothingUsable, Reason::NothingUsable, Reason::Fallback, Reason::Fallback]);
    assert!(after[4..].iter().all(|verdict| verdict.reason == Reason::FirstTier));
}

#[test]
fn a_region_that_does_not_exist_changes_nothing() {
    let network = network();
    assert_eq!(with(&network, &[(9, Instead::Nobody)]), with(&network, &[]));
    assert!(compiled(&network).diverted(9, Some(Instead::Elsewhere)).is_empty());
}
