//! Tiers that leave clients to those behind them while their targets are loaded (P-8, P-12).

mod common;

use common::*;
use redirector_core::table::{NONE, SPILL};
use redirector_core::verdict::Reason;
use redirector_plan::model::{Network, TargetState, Tier};
use redirector_plan::overflow::{Capacity, MAX_TERMS, Terms, Unless, terms};
use redirector_plan::shares::records;
use std::net::{IpAddr, Ipv4Addr};

const CLIENTS: u32 = 20_000;

/// Two pools, the first of `near` targets and the second of `far`, as two tiers; every target has a capacity.
fn two_tiers(near: usize, far: usize, strict: bool) -> Network {
    let members = |from: usize, to: usize| (from..to).map(|target| (target, 1)).collect::<Vec<_>>();
    let pools = vec![pool("deep", &members(near, near + far)), pool("near", &members(0, near))];
    let terms = Terms { strict, ..Terms::default() };
    let tier = |pool, ttl| Tier { terms, ttl, ..tier(None, &[(pool, 1)]) };
    let capacity = Capacity { requests: Some(1000), ..Capacity::default() };
    let target = |number| redirector_plan::model::Target { capacity, ..target(number) };
    Network {
        targets: (0..near + far).map(target).collect(),
        pools,
        coverages: vec![coverage("all", vec![tier(1, Some(5)), tier(0, Some(60))])],
        regions: vec![],
        zones: vec![],
        urls: vec![],
        ..small()
    }
}

fn client(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n).into()
}

/// Target, TTL and reason of each client.
fn answers(network: &Network, states: &[TargetState]) -> Vec<(u32, u32, Reason)> {
    let image = compiled_with(network, states).image;
    let one = |n| {
        let verdict = verdict(&image, 0, client(n), false, 1);
        let target = if verdict.count > 0 { verdict.targets[0] } else { NONE };
        (target, verdict.ttl, verdict.reason)
    };
    (0..CLIENTS).map(one).collect()
}

/// All up; the targets of `range` take `part`/256 of their clients by the first terms.
fn open(network: &Network, range: std::ops::Range<usize>, part: u16) -> Vec<TargetState> {
    let mut states = all_up(network);
    for state in &mut states[range] {
        state.open = [part; MAX_TERMS];
    }
    states
}

fn part_of(answers: &[(u32, u32, Reason)], far: u32) -> f64 {
    answers.iter().filter(|(target, ..)| *target >= far && *target != NONE).count() as f64 / CLIENTS as f64
}

#[test]
fn a_growing_part_goes_to_the_next_tier_and_nobody_else_moves() {
    let network = two_tiers(4, 3, false);
    let calm = answers(&network, &all_up(&network));
    assert_eq!(part_of(&calm, 4), 0.0);
    let (mut before, mut open_before) = (calm, 256);
    for (part, expected) in [(230, 0.01), (192, 0.0625), (128, 0.25), (64, 0.5625), (0, 1.0)] {
        let now = answers(&network, &open(&network, 0..4, part));
        let gone = part_of(&now, 4);
        assert!((gone - expected).abs() < 0.015, "{part}/256 open: {gone} instead of {expected}");
        let moved = before.iter().zip(&now).filter(|(was, is)| was.0 != is.0).count() as f64 / CLIENTS as f64;
        // As many as have to, and those whose own server gave them up and who found another one in the tier: of these
        // some are given up a second time.
        let shed = f64::from(open_before - part) / 256.0;
        let grown = part_of(&now, 4) - part_of(&before, 4);
        assert!(moved <= grown.max(2.0 * shed) + 0.02, "{part}/256 open moves {moved}");
        for (target, ttl, reason) in &now {
            let expected = if *target < 4 { (5, Reason::FirstTier) } else { (60, Reason::LaterTier) };
            assert_eq!((*ttl, *reason), expected, "target {target}");
        }
        (before, open_before) = (now, part);
    }
}

#[test]
fn one_loaded_target_among_many_burdens_its_neighbours_first() {
    let network = two_tiers(8, 2, false);
    let calm = answers(&network, &all_up(&network));
    let now = answers(&network, &open(&network, 0..1, 0));
    let gone = part_of(&now, 8);
    assert!((gone - 1.0 / 64.0).abs() < 0.01, "{gone} of the clients left the tier");
    assert!(now.iter().all(|(target, ..)| *target != 0));
    let moved = calm.iter().zip(&now).filter(|(was, is)| was.0 != is.0).count() as f64 / CLIENTS as f64;
    assert!((moved - 1.0 / 8.0).abs() < 0.04, "{moved} moved");
}

#[test]
fn tiers_of_many_targets_spill_as_well_and_the_chain_goes_on_behind() {
    for (near, far) in [(3, 12), (20, 4), (20, 20), (40, 3), (64, 64), (200, 30)] {
        let network = two_tiers(near, far, false);
        let now = answers(&network, &open(&network, 0..near, 128));
        let gone = part_of(&now, near as u32);
        assert!((gone - 0.25).abs() < 0.03, "{near} and {far} targets: {gone}");
        assert!(
            now.iter().all(|(target, ..)| *target != NONE),
            "{near} and {far} targets: nobody is left out"
        );
        let compiled = compiled_with(&network, &open(&network, 0..near, 128));
        let spec = &compiled.groups[0];
        let block = records(spec, &open(&network, 0..near, 128)).expect("records");
        assert!(
            block.len() <= spec.block_size(),
            "{} records in room for {}",
            block.len(),
            spec.block_size()
        );
        assert_eq!(block[0].branch, SPILL);
        let closed = answers(&network, &open(&network, 0..near, 0));
        assert!(closed.iter().all(|(target, ..)| *target >= near as u32), "{near} and {far} targets");
    }
}

#[test]
fn three_tiers_fill_up_one_after_the_other() {
    let mut network = two_tiers(2, 2, false);
    let capacity = network.targets[0].capacity;
    network.targets.push(redirector_plan::model::Target { capacity, ..target(4) });
    network.pools.push(pool("peers", &[(4, 1)]));
    let last = Tier { terms: network.coverages[0].tiers[0].terms, ..tier(None, &[(2, 1)]) };
    network.coverages[0].tiers.push(last);
    let mut states = open(&network, 0..4, 128);
    let now = answers(&network, &states);
    let counts = [0..2, 2..4, 4..5].map(|range: std::ops::Range<u32>| {
        now.iter().filter(|(target, ..)| range.contains(target)).count() as f64 / CLIENTS as f64
    });
    for (count, expected) in counts.iter().zip([0.75, 0.1875, 0.0625]) {
        assert!((count - expected).abs() < 0.015, "{counts:?}");
    }
    // The first gives up more: where the second gives clients up, too, at most twice as many move as have to.
    for state in &mut states[..2] {
        state.open = [96; MAX_TERMS];
    }
    let after = answers(&network, &states);
    let moved = now.iter().zip(&after).filter(|(was, is)| was.0 != is.0).count() as f64 / CLIENTS as f64;
    let left = part_of(&after, 2) - part_of(&now, 2);
    assert!(left > 0.1 && moved <= 2.0 * left, "{moved} moved for {left}");
}

#[test]
fn the_last_tier_serves_however_loaded_it_is_unless_the_operator_says_otherwise() {
    let lenient = two_tiers(2, 2, false);
    let now = answers(&lenient, &open(&lenient, 0..4, 0));
    assert!(now.iter().all(|(target, ..)| (2..4).contains(target)), "the last tier takes them");
    let strict = two_tiers(2, 2, true);
    let now = answers(&strict, &open(&strict, 0..4, 0));
    assert!(now.iter().all(|(target, _, reason)| (*target, *reason) == (NONE, Reason::NothingUsable)));
    // A last tier that is down is none.
    let mut states = open(&lenient, 0..4, 0);
    states[2].up = false;
    states[3].up = false;
    let now = answers(&lenient, &states);
    assert!(now.iter().all(|(target, ..)| *target < 2), "those before it are the last ones then");
}

#[test]
fn dead_targets_are_no_reason_to_leave_a_tier() {
    let network = two_tiers(4, 2, false);
    let mut states = open(&network, 0..4, 256);
    states[0].up = false;
    states[1].factor = 0;
    let now = answers(&network, &states);
    assert_eq!(part_of(&now, 4), 0.0);
    states[2].open = [128; MAX_TERMS];
    let gone = part_of(&answers(&network, &states), 4);
    assert!((gone - 0.0625).abs() < 0.015, "half of one of two: {gone}");
}

#[test]
fn terms_of_the_tier_decide_and_others_mean_nothing() {
    // Premium and ordinary service by the same servers (P-8).
    let mut network = two_tiers(2, 2, false);
    let ordinary = Terms { above: 60, full: 80, strict: true, unless: None };
    let mut other = network.coverages[0].clone();
    other.name = "ordinary".into();
    other.tiers.iter_mut().for_each(|tier| tier.terms = ordinary);
    network.coverages.push(other);
    network.services[1].coverage = 1;
    let numbered = terms(&network);
    assert_eq!(numbered, [ordinary, Terms::default()]);
    let mut states = all_up(&network);
    for state in &mut states[..2] {
        state.open[0] = 0;
    }
    let image = compiled_with(&network, &states).image;
    for n in 0..1000 {
        let premium = verdict(&image, 0, client(n), false, 1);
        let ordinary = verdict(&image, 1, client(n), false, 1);
        assert!(premium.targets[0] < 2 && ordinary.targets[0] >= 2);
    }
}

#[test]
fn without_capacity_and_conditions_nothing_changes_in_the_tables() {
    let mut network = two_tiers(4, 3, true);
    network.targets.iter_mut().for_each(|target| target.capacity = Capacity::default());
    assert!(terms(&network).is_empty());
    let compiled = compiled(&network);
    assert_eq!(compiled.image.records[0].branch, 0);
    network.coverages[0].tiers[0].terms.unless = Some(Unless { loss: Some(5), ..Unless::default() });
    assert_eq!(terms(&network).len(), 1, "quality needs no capacity");
}

#[test]
fn more_terms_than_there_is_room_for_are_refused() {
    let mut network = two_tiers(1, 1, false);
    let tiers = (1..=MAX_TERMS as u8 + 1)
        .map(|above| Tier { terms: Terms { above, ..Terms::default() }, ..tier(None, &[(0, 1)]) });
    network.coverages[0].tiers = tiers.collect();
    let refusals = refusals(&network);
    assert!(refusals.iter().any(|one| one.to_string().contains("9 different")), "{refusals:?}");
}
