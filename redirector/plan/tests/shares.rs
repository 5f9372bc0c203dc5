//! Share groups and their records: exact shares, and who moves when a target fails.

mod common;

use common::*;
use proptest::prelude::*;
use redirector_core::table::{NONE, ShareRecord, TIER_FALLBACK};
use redirector_core::verdict::{Reason, Verdict};
use redirector_plan::Compiled;
use redirector_plan::compile::compile;
use redirector_plan::model::{Network, Pool, TargetState, Tier};
use redirector_plan::shares::{GroupSpec, Member, TierSpec, records, relocate};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const DEAD: TargetState = TargetState { up: false, factor: 256, round_trip: None };
const FULL: TargetState = TargetState { up: true, factor: 256, round_trip: None };

/// One coverage for everybody over these pools and tiers, with as many targets as they need.
fn with_tiers(pools: Vec<Pool>, tiers: Vec<Tier>) -> Network {
    let targets =
        pools.iter().flat_map(|pool| &pool.members).map(|(target, _)| target + 1).max().unwrap_or(0);
    Network {
        targets: (0..targets).map(target).collect(),
        pools,
        coverages: vec![coverage("all", tiers)],
        regions: vec![],
        zones: vec![],
        urls: vec![],
        ..small()
    }
}

fn one_pool(weights: &[u32]) -> Network {
    let members: Vec<(usize, u32)> = weights.iter().copied().enumerate().collect();
    with_tiers(vec![pool("p", &members)], vec![tier(None, &[(0, 1)])])
}

fn client(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n).into()
}

/// Target of each of many clients.
fn assignments(network: &Network, states: &[TargetState], clients: u32) -> Vec<u32> {
    let image = compiled_with(network, states).image;
    let first = |verdict: Verdict| if verdict.count > 0 { verdict.targets[0] } else { NONE };
    (0..clients).map(|n| first(verdict(&image, 0, client(n), false, 1))).collect()
}

fn spec(weights: &[u64]) -> GroupSpec {
    let spot = |target: usize| (target as u32).wrapping_mul(0x9e37_79b9);
    let member = |(target, weight): (usize, &u64)| Member {
        target: target as u16,
        weight: *weight,
        spot: spot(target),
    };
    let members = weights.iter().enumerate().map(member).collect();
    let tier = TierSpec { number: 0, ttl: NONE, within: None, members, behind: None };
    GroupSpec { tiers: vec![tier], spills: false }
}

/// Share of every target that is up.
fn shares(block: &[ShareRecord]) -> BTreeMap<u16, f64> {
    let mut found = BTreeMap::new();
    leaves(block, 0, 1.0, &mut found);
    found.retain(|_, (_, down)| !*down);
    let sum: f64 = found.values().map(|(kept, _)| kept).sum();
    found.into_iter().map(|(target, (kept, _))| (target, kept / sum)).collect()
}

fn is_near(found: &BTreeMap<u16, f64>, wanted: &[f64]) -> bool {
    found.len() == wanted.len() && found.values().zip(wanted).all(|(a, b)| (a - b).abs() < b / 65536.0)
}

/// Targets of a record that take clients, in its order.
fn takers(record: &ShareRecord) -> Vec<u16> {
    let takes = |entry: &usize| (record.used & !record.down) >> entry & 1 == 1;
    (0..8).filter(takes).map(|entry| record.refs[entry]).collect()
}

#[test]
fn pool_shares_and_weights_multiply_into_exact_shares() {
    let pools = vec![pool("a", &[(0, 1), (1, 1)]), pool("b", &[(2, 3), (3, 1)])];
    let network = with_tiers(pools, vec![tier(None, &[(0, 3), (1, 1)])]);
    let compiled = compiled(&network);
    let found = shares(&compiled.image.records[..1]);
    assert!(is_near(&found, &[3.0 / 8.0, 3.0 / 8.0, 3.0 / 16.0, 1.0 / 16.0]), "{found:?}");
    assert_eq!(compiled.groups.len(), 1, "both families and all regions share it");
}

#[test]
fn clients_are_spread_as_configured() {
    let network = one_pool(&[6, 3, 1]);
    let mut counts = [0u32; 3];
    for target in assignments(&network, &all_up(&network), 100_000) {
        counts[target as usize] += 1;
    }
    for (count, share) in counts.iter().zip([60_000i32, 30_000, 10_000]) {
        assert!((*count as i32 - share).abs() < 700, "{counts:?}");
    }
}

#[test]
fn choice_equals_a_naive_descent_over_exact_shares() {
    let weights = [5.0, 1.0, 1.0, 9.0, 3.0, 2.0, 2.0, 4.0];
    let network = one_pool(&weights.map(|weight| weight as u32));
    let compiled = compiled(&network);
    let (keys, salt) = (compiled.image.meta.keys, compiled.image.services[0].salt);
    let mut places = compiled.image.records[0].refs.map(usize::from).to_vec();
    let mut near = 0;
    for (n, got) in assignments(&network, &all_up(&network), 20_000).into_iter().enumerate() {
        let hash = keys.step(keys.step(keys.step(keys.seed, salt), 0), 0x0a00_0000 + n as u64);
        let mut left = places.clone();
        let mut is_near = false;
        for level in 1..=3 {
            let right = left.split_off(left.len() / 2);
            let sum = |side: &[usize]| side.iter().map(|target| weights[*target]).sum::<f64>();
            let wanted = sum(&left) / (sum(&left) + sum(&right));
            let point = (hash >> (64 - 16 * level) & 0xffff) as f64 / 65536.0;
            is_near |= (point - wanted).abs() < 2.0 / 65536.0;
            left = if point < wanted { left } else { right };
        }
        near += u32::from(is_near);
        // At the very edge the tables round, and by that little some keep less than all.
        let is_kept = hash & 0xffff < 0xffe0;
        assert!(is_near || !is_kept || got as usize == left[0], "client {n}");
    }
    assert!(near < 20, "{near} clients stand on an edge");
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn dead_target_moves_only_its_own_clients() {
    for count in [2, 8, 9, 20, 64, 65, 200] {
        let network = one_pool(&vec![1; count]);
        let mut states = all_up(&network);
        let before = assignments(&network, &states, 4000);
        let dead = count / 2;
        states[dead] = DEAD;
        let after = assignments(&network, &states, 4000);
        let mut moved = 0;
        for (n, (old, new)) in before.iter().zip(&after).enumerate() {
            assert_ne!(*new as usize, dead);
            if *old as usize == dead {
                moved += 1;
            } else {
                assert_eq!(old, new, "client {n} of {count} targets moved without need");
            }
        }
        assert!(moved > 0, "{count} targets: nobody was at the dead one");
    }
}

#[test]
fn clients_of_a_dead_target_spread_over_the_others_by_weight() {
    let network = one_pool(&[2, 1, 1]);
    let mut states = all_up(&network);
    let before = assignments(&network, &states, 60_000);
    states[0] = DEAD;
    let after = assignments(&network, &states, 60_000);
    let to =
        |target: u32| before.iter().zip(&after).filter(|(old, new)| **old == 0 && **new == target).count();
    let (one, two) = (to(1) as i64, to(2) as i64);
    assert!((one - two).abs() < 1000 && one + two > 29_000, "{one} and {two}");
}

/// Up, with this round trip in milliseconds.
fn away(millis: u32) -> TargetState {
    TargetState { round_trip: Some(millis * 1000), ..FULL }
}

#[test]
fn clients_go_to_the_nearest_usable_targets_where_distance_counts() {
    let members: Vec<(usize, u32)> = (0..4).map(|n| (n, 1)).collect();
    let by_distance = Tier { within: Some(5000), ..tier(None, &[(0, 1)]) };
    let network = with_tiers(vec![pool("p", &members)], vec![by_distance]);
    let used = |states: &[TargetState]| -> BTreeMap<u32, usize> {
        let mut used = BTreeMap::new();
        assignments(&network, states, 4000).into_iter().for_each(|n| *used.entry(n).or_default() += 1);
        used
    };
    let names = |states: &[TargetState]| used(states).into_keys().collect::<Vec<u32>>();
    let mut states = [away(20), away(25), away(26), FULL];
    let near = used(&states);
    assert_eq!(
        near.keys().copied().collect::<Vec<u32>>(),
        [0, 1],
        "25 ms is within 5 ms of 20 ms, 26 ms is not"
    );
    assert!(near.values().all(|count| (1800..2200).contains(count)), "equal weights: {near:?}");
    states[1].factor = 0;
    assert_eq!(names(&states), [0], "an overloaded one gets none, however near");
    states[0].up = false;
    assert_eq!(names(&states), [2], "distance counts among usable ones");
    states[2].up = false;
    assert_eq!(names(&states), [3], "one that was not measured is farthest");
    assert_eq!(names(&[FULL; 4]), [0, 1, 2, 3], "nothing is measured: all alike");
    let network = one_pool(&[1; 4]);
    let plain = assignments(&network, &[away(20), away(25), away(26), away(90)], 4000);
    assert_eq!(plain, assignments(&network, &[FULL; 4], 4000), "a tier that does not look at distance");
}

#[test]
fn a_target_that_moves_out_of_reach_moves_only_its_own_clients() {
    let members: Vec<(usize, u32)> = (0..20).map(|n| (n, 1)).collect();
    let by_distance = Tier { within: Some(5000), ..tier(None, &[(0, 1)]) };
    let network = with_tiers(vec![pool("p", &members)], vec![by_distance]);
    let mut states = vec![away(20); 20];
    let before = assignments(&network, &states, 4000);
    states[7] = away(80);
    let after = assignments(&network, &states, 4000);
    assert!(before.contains(&7) && !after.contains(&7));
    assert!(before.iter().zip(&after).all(|(old, new)| *old == 7 || old == new));
}

#[test]
fn targets_out_of_reach_wait_for_clients_whom_all_near_ones_failed() {
    let mut group = spec(&[1, 1, 1]);
    group.tiers[0].within = Some(5000);
    let block = records(&group, &[away(1), away(50), away(2)]).expect("usable");
    let sorted = |record: &ShareRecord| BTreeSet::from_iter(takers(record));
    assert_eq!((sorted(&block[0]), block[0].next), (BTreeSet::from([0, 2]), 1));
    assert_eq!((sorted(&block[1]), block[1].next, block[1].tier), (BTreeSet::from([1]), NONE, 0));
    assert_eq!(block[0].thresholds, block[1].thresholds, "everybody keeps its place");
    assert_eq!(group.block_size(), 2);
    let near = records(&group, &[away(1), away(3), away(2)]).expect("usable");
    assert_eq!((near.len(), near[0].down), (1, 0));
}

#[test]
fn dead_branch_moves_only_its_own_clients() {
    let network = one_pool(&[1; 20]);
    let mut states = all_up(&network);
    let before = assignments(&network, &states, 4000);
    let records = compiled(&network).image.records;
    assert_eq!(records[0].branch, 1);
    let dead = takers(&records[records[0].base as usize]);
    assert!(!dead.is_empty() && dead.len() < 9);
    dead.iter().for_each(|target| states[*target as usize] = DEAD);
    for (old, new) in before.iter().zip(assignments(&network, &states, 4000)) {
        assert!(!dead.contains(&(new as u16)));
        assert!(dead.contains(&(*old as u16)) || *old == new);
    }
}

#[test]
fn load_factor_is_what_a_target_keeps_and_zero_counts_as_down() {
    let half = TargetState { up: true, factor: 128, round_trip: None };
    let none = TargetState { up: true, factor: 0, round_trip: None };
    let splits = |block: &[ShareRecord]| block[0].thresholds.map(|threshold| threshold >> 16);
    let full = records(&spec(&[1, 1]), &[FULL, FULL]).expect("usable");
    let block = records(&spec(&[1, 1]), &[half, FULL]).expect("usable");
    assert_eq!(splits(&block), splits(&full), "nobody is led elsewhere");
    assert!(is_near(&shares(&block), &[1.0 / 3.0, 2.0 / 3.0]), "1/2 to 1");
    let block = records(&spec(&[1, 1]), &[none, FULL]).expect("usable");
    assert_eq!((block[0].thresholds, takers(&block[0])), (full[0].thresholds, vec![1]), "it keeps its place");
    assert_eq!(records(&spec(&[1, 1]), &[none, DEAD]), None);
}

#[test]
fn tier_without_usable_target_is_passed_over() {
    let pools = vec![pool("near", &[(0, 1), (1, 1)]), pool("far", &[(2, 1)])];
    let mut far = tier(None, &[(1, 1)]);
    far.ttl = Some(5);
    let network = with_tiers(pools, vec![tier(None, &[(0, 1)]), far]);
    let mut states = all_up(&network);
    let ask =
        |states: &[TargetState]| verdict(&compiled_with(&network, states).image, 0, client(1), false, 4);
    states[0] = DEAD;
    let near = ask(&states);
    assert_eq!((near.reason, near.count, near.targets[0], near.ttl), (Reason::FirstTier, 1, 1, 0));
    states[1].factor = 0;
    let far = ask(&states);
    assert_eq!((far.reason, far.count, far.targets[0], far.ttl), (Reason::LaterTier, 1, 2, 5));
    states[2] = DEAD;
    assert_eq!(ask(&states).reason, Reason::NothingUsable);
}

/// P-18: a client that reports everybody in its tier as failed gets the next tier, then the fallback, then nothing.
#[test]
fn client_that_excludes_a_whole_tier_gets_the_next_one() {
    let pools = vec![pool("near", &[(0, 1), (1, 1)]), pool("far", &[(2, 1)])];
    let mut network = with_tiers(pools, vec![tier(None, &[(0, 1)]), tier(None, &[(1, 1)])]);
    network.targets.push(target(3));
    network.services[0].fallback = vec![3];
    let image = compiled(&network).image;
    let answer = |failed: &[u32]| {
        let verdict = verdict_without(&image, 0, client(7), false, 1, failed);
        (verdict.reason, (verdict.count > 0).then_some(verdict.targets[0]))
    };
    let (reason, first) = answer(&[]);
    assert_eq!(reason, Reason::FirstTier);
    let first = first.expect("a near target");
    assert_eq!(answer(&[first]), (Reason::FirstTier, Some(1 - first)));
    assert_eq!(answer(&[0, 1]), (Reason::LaterTier, Some(2)));
    assert_eq!(answer(&[0, 1, 2]), (Reason::Fallback, Some(3)));
    assert_eq!(answer(&[0, 1, 2, 3]), (Reason::AllExcluded, None));
}

#[test]
fn tiny_weights_are_not_forgotten() {
    let block = records(&spec(&[1, 1 << 50, 1, 1]), &[FULL; 4]).expect("usable");
    let found = shares(&block);
    assert_eq!(found.len(), 4);
    assert!(found.values().all(|share| *share > 0.0) && found[&1] > 0.9999, "{found:?}");
}

#[test]
fn pools_share_is_divided_among_members_of_the_family() {
    let pools = vec![pool("a", &[(0, 1), (1, 1)]), pool("b", &[(2, 1), (3, 1)])];
    let mut network = with_tiers(pools, vec![tier(None, &[(0, 1), (1, 1)])]);
    network.targets[0].ipv6 = None;
    let compiled = compiled(&network);
    let weights = |v6| -> Vec<(u16, u64)> {
        let tier = &compiled.cell_group(0, 0, v6).expect("has tiers").tiers[0];
        tier.members.iter().map(|member| (member.target, member.weight)).collect()
    };
    assert_eq!(weights(false), [(0, 1), (1, 1), (2, 1), (3, 1)]);
    assert_eq!(weights(true), [(1, 2), (2, 1), (3, 1)]);
    assert_eq!(compiled.target_groups[0].len(), 1);
    assert_eq!(compiled.target_groups[1].len(), 2, "IPv4 and IPv6 have groups of their own now");
}

#[test]
fn order_of_pools_and_members_does_not_change_a_byte() {
    let pools = vec![pool("a", &[(0, 1), (1, 2), (4, 7)]), pool("b", &[(2, 3), (3, 1), (0, 4)])];
    let mut network = with_tiers(pools, vec![tier(None, &[(0, 3), (1, 5)])]);
    let straight = compiled(&network);
    network.pools.iter_mut().for_each(|pool| pool.members.reverse());
    network.coverages[0].tiers[0].pools.reverse();
    assert_eq!(compiled(&network), straight);
}

#[test]
fn equal_tiers_share_a_group_and_others_do_not() {
    let mut network = small();
    network.coverages.push(network.coverages[0].clone());
    let compiled_twice = compiled(&network);
    assert_eq!(compiled_twice.groups.len(), 3, "de, fr and elsewhere");
    network.coverages[1].tiers[0].ttl = Some(9);
    assert_eq!(compiled(&network).groups.len(), 4, "fr has another TTL in the second");
}

#[test]
fn region_that_no_tier_serves_has_no_group() {
    let mut network = small();
    network.coverages[0].tiers.retain(|tier| tier.region == Some(0));
    let compiled = compiled(&network);
    let groups = [0, 1, 2].map(|region| compiled.cell_group(0, region, false).is_some());
    assert_eq!(groups, [false, true, false]);
    let verdict = verdict(&compiled.image, 0, client(0x0002_0001), false, 1);
    assert_eq!((verdict.region, verdict.reason, verdict.group), (2, Reason::NothingUsable, NONE));
}

#[test]
fn tier_takes_512_targets_and_refuses_more_with_its_place() {
    let full = one_pool(&[1; 512]);
    let mut seen = vec![false; 512];
    assignments(&full, &all_up(&full), 20_000).iter().for_each(|target| seen[*target as usize] = true);
    assert!(seen.iter().all(|seen| *seen), "every target is reached");
    let over = one_pool(&[1; 513]);
    let refused = compile(&over, &all_up(&over), 1, &mut ids()).expect_err("is refused");
    assert!(refused[0].to_string().starts_with("box.toml:400:1: tier: its pools have more than 512 targets"));
}

#[test]
fn following_health_gives_the_records_of_a_fresh_start() {
    let network = small();
    let Compiled { image, groups, target_groups, .. } = compiled(&network);
    let mut states = all_up(&network);
    states[2] = DEAD;
    let fresh = compiled_with(&network, &states);
    let mut changed = 0;
    for (number, group) in groups.iter().enumerate() {
        let first = fresh.image.groups[number].record();
        let mut block = records(group, &states).expect("something is usable");
        relocate(&mut block, first);
        assert_eq!(fresh.image.records[first as usize..][..block.len()], block[..]);
        if image.records[image.groups[number].record() as usize] != block[0] {
            changed += 1;
            assert!(target_groups[2].contains(&(number as u32)), "group {number} is not listed");
        }
    }
    assert_eq!(changed, 2, "fr and elsewhere; de does not get to the tier with target 2");
}

/// What every target in a block keeps of all hashes, with its down bit. What a branch says that all targets beneath
/// keep, must be true.
fn leaves(block: &[ShareRecord], at: usize, part: f64, found: &mut BTreeMap<u16, (f64, bool)>) {
    let record = block[at];
    for entry in (0..8usize).filter(|entry| record.used >> entry & 1 == 1) {
        let mut room = part;
        for (node, is_right) in
            [(1, entry >> 2), (2 + (entry >> 2), entry >> 1 & 1), (4 + (entry >> 1), entry & 1)]
        {
            let left = f64::from(record.thresholds[node] >> 16) / 65536.0;
            room *= if is_right == 1 { 1.0 - left } else { left };
        }
        assert!(room > 0.0, "no hash comes to entry {entry}");
        let kept = room * f64::from((record.thresholds[entry] & 0xffff) + 1) / 65536.0;
        let weight = record.weight(entry) as f64 * 2f64.powi(-40);
        assert!(
            (weight * part - kept).abs() <= part * (2f64.powi(-23) + 1e-12),
            "{weight} is not {kept} of {part}"
        );
        let down = record.down >> entry & 1 == 1;
        if record.branch == 1 {
            let child = (record.base + record.refs[entry] as u32) as usize;
            let mut beneath = BTreeMap::new();
            leaves(block, child, room, &mut beneath);
            assert_eq!(down, beneath.values().all(|(_, down)| *down), "a branch is down with all beneath it");
            let sum: f64 = beneath.values().filter(|(_, down)| !*down).map(|(kept, _)| kept).sum();
            assert!(
                down || (sum - kept).abs() <= room / 65536.0,
                "a branch keeps what those beneath it keep"
            );
            found.extend(beneath);
        } else {
            assert_eq!(found.insert(record.refs[entry], (kept, down)), None, "each target once");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_member_has_its_share_and_state_in_the_tree(
        members in prop::collection::vec((1u64..1 << 52, any::<bool>(), 0u16..=256), 1..=512),
        first in 0u32..1 << 20,
    ) {
        let weights: Vec<u64> = members.iter().map(|(weight, ..)| *weight).collect();
        let states: Vec<TargetState> =
            members.iter().map(|(_, up, factor)| TargetState { up: *up, factor: *factor, round_trip: None }).collect();
        let spec = spec(&weights);
        let usable = |state: &TargetState| state.up && state.factor > 0;
        let Some(mut block) = records(&spec, &states) else {
            prop_assert!(!states.iter().any(usable));
            return Ok(());
        };
        prop_assert!(block.len() <= spec.block_size());
        let mut found = BTreeMap::new();
        leaves(&block, 0, 1.0, &mut found);
        prop_assert_eq!(found.len(), members.len());
        let wanted = |n: usize| weights[n] as f64 * if usable(&states[n]) { states[n].factor as f64 } else { 256.0 };
        let all: f64 = (0..members.len()).map(wanted).sum();
        let sum: f64 = found.values().map(|(kept, _)| kept).sum();
        let led: f64 = weights.iter().map(|weight| *weight as f64).sum();
        for (target, (kept, down)) in &found {
            let n = *target as usize;
            prop_assert_eq!(*down, !usable(&states[n]));
            let (share, wanted) = (kept / sum, wanted(n) / all);
            // Half of a step of what is kept, of what is led there: a step of a split at least, at every level.
            let room = (2.0 * weights[n] as f64 + 9.0 * led / 65536.0) * 256.0 / all;
            prop_assert!((share - wanted).abs() < room / 65536.0, "target {}: {} not {}", n, share, wanted);
        }
        let straight = block.clone();
        relocate(&mut block, first);
        for (moved, still) in block.iter().zip(&straight) {
            prop_assert_eq!(moved.base - still.base, if still.branch == 1 { first } else { 0 });
        }
    }
}

#[test]
fn fallback_is_its_own_tier() {
    let mut network = small();
    network.services[0].fallback = vec![1, 3];
    network.targets[3].ipv6 = None;
    let compiled = compiled(&network);
    let [v4, v6] = compiled.image.services[0].fallback.map(|group| &compiled.groups[group as usize].tiers[0]);
    assert_eq!((v4.number, v4.members.len(), v6.members.len()), (TIER_FALLBACK, 2, 1));
    assert_eq!(compiled.image.services[1].fallback, [NONE; 2]);
}
