//! Objects that are at servers of their own, or at several: what the tables make of them (P-11).

mod common;

use common::*;
use proptest::prelude::*;
use redirector_core::decide::{Client, Query, decide, object_hash};
use redirector_core::hash::Keys;
use redirector_core::table::Tables;
use redirector_core::verdict::{Reason, Verdict};
use redirector_plan::Compiled;
use redirector_plan::model::{Affinity, ChooseBy, Network, TargetState};
use redirector_plan::objects::{Full, MAX_OBJECTS, MAX_SETS, Object};
use redirector_plan::overflow::{ALL, MAX_TERMS};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const DEAD: TargetState = TargetState { up: false, factor: 256, round_trip: None, open: [ALL; MAX_TERMS] };

/// Eight targets in one pool for everybody; service 0 keeps objects together.
fn network() -> Network {
    let mut network = small();
    network.targets = (0..8).map(target).collect();
    network.targets[7].ipv6 = None;
    let members: Vec<(usize, u32)> = (0..8).map(|n| (n, 1)).collect();
    network.pools = vec![pool("p", &members)];
    network.coverages = vec![coverage("all", vec![tier(None, &[(0, 1)])])];
    network.services[0].choose_by = ChooseBy::Content;
    network.services[0].affinity = Some(Affinity { widen_at: None, at_most: 4, bound: None });
    network
}

/// Hash of an object of service 0.
fn hash(content: u64) -> u64 {
    let keys = Keys::new(small().key);
    object_hash(&keys, keys.text(b"tv", false), content)
}

fn at(content: u64, targets: &[u16]) -> Object {
    Object { hash: hash(content), targets: targets.to_vec(), width: targets.len() as u8 }
}

fn hot(content: u64, width: u8) -> Object {
    Object { hash: hash(content), targets: vec![], width }
}

fn client(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0001 + (n << 8)).into()
}

/// What both paths decide for an object.
fn ask(image: &impl Tables, content: u64, from: IpAddr, (v6, want): (bool, u32), failed: &[u32]) -> Verdict {
    let mut excluded = [0; 8];
    for (slot, target) in excluded.iter_mut().zip(failed) {
        *slot = image.target(*target).expect("target").digests[v6 as usize];
    }
    let query = Query {
        client: Client::new(from),
        service: 0,
        content,
        family: v6 as u32,
        want,
        excluded,
        ..Query::default()
    };
    let service = image.service(0).expect("service");
    let (mut slow, mut fast) = (Verdict::default(), Verdict::default());
    decide::<_, true>(&query, service, image, &mut slow);
    decide::<_, false>(&query, service, image, &mut fast);
    if fast.reason != Reason::PuntChoice {
        let said = |verdict: &Verdict| {
            (verdict.reason, verdict.group, verdict.targets[..verdict.count as usize].to_vec())
        };
        assert_eq!(said(&fast), said(&slow), "object {content} for {from}");
    }
    slow
}

fn server(image: &impl Tables, content: u64, from: IpAddr) -> u32 {
    let verdict = ask(image, content, from, (false, 1), &[]);
    assert_eq!(verdict.count, 1);
    verdict.targets[0]
}

/// Servers of many clients of an object.
fn servers(image: &impl Tables, content: u64) -> Vec<u32> {
    (0..2000).map(|n| server(image, content, client(n))).collect()
}

fn placed(objects: &[Object], states: &[TargetState]) -> Compiled {
    let mut compiled = compiled_with(&network(), states);
    assert_eq!(compiled.place_objects(objects, states), []);
    compiled
}

#[test]
fn clients_of_a_published_object_go_where_it_is_and_others_where_they_went() {
    let states = all_up(&network());
    let plain = compiled(&network());
    let own = server(&plain.image, 5, client(1));
    let elsewhere = (own as u16 + 1) % 7;
    let compiled = placed(&[at(5, &[elsewhere])], &states);
    let verdict = ask(&compiled.image, 5, client(1), (false, 1), &[]);
    assert_eq!((verdict.reason, verdict.targets[0]), (Reason::Published, elsewhere.into()));
    let v6 = ask(&compiled.image, 5, client(1), (true, 1), &[]);
    assert_eq!((v6.reason, v6.targets[0]), (Reason::Published, elsewhere.into()), "either family");
    for other in (0..2000).filter(|other| *other != 5) {
        let ask = |image| ask(image, other, client(1), (false, 1), &[]);
        assert_eq!(ask(&compiled.image), ask(&plain.image), "object {other}");
    }
}

#[test]
fn a_published_object_whose_servers_are_dead_failed_or_of_another_family_is_served_as_others() {
    let mut states = all_up(&network());
    states[3] = DEAD;
    let compiled = placed(&[at(5, &[3]), at(6, &[7]), at(7, &[1, 2])], &states);
    assert_eq!(ask(&compiled.image, 5, client(1), (false, 1), &[]).reason, Reason::FirstTier, "it is down");
    assert_eq!(ask(&compiled.image, 6, client(1), (false, 1), &[]).reason, Reason::Published);
    assert_eq!(ask(&compiled.image, 6, client(1), (true, 1), &[]).reason, Reason::FirstTier, "IPv4 alone");
    let failed = ask(&compiled.image, 7, client(1), (false, 1), &[1]);
    assert_eq!((failed.reason, failed.targets[0]), (Reason::Published, 2));
    let failed = ask(&compiled.image, 7, client(1), (false, 1), &[1, 2]);
    assert_eq!((failed.reason, failed.count), (Reason::FirstTier, 1));
    assert!(![1, 2].contains(&failed.targets[0]));
}

#[test]
fn an_object_at_several_servers_shares_its_clients_among_them() {
    let compiled = placed(&[at(5, &[1, 4, 6])], &all_up(&network()));
    let servers = servers(&compiled.image, 5);
    for target in [1, 4, 6] {
        let count = servers.iter().filter(|server| **server == target).count();
        assert!((500..850).contains(&count), "{count} of 2000 at {target}");
    }
    assert!(servers.iter().all(|server| [1, 4, 6].contains(server)));
    let verdict = ask(&compiled.image, 5, client(1), (false, 4), &[]);
    assert_eq!(verdict.count, 3, "who wants more gets the others, too");
    assert_eq!(verdict.targets[0], servers[1], "and begins with the same");
}

#[test]
fn an_object_widens_to_the_next_servers_in_its_own_order_and_shrinks_again() {
    let plain = compiled(&network());
    for content in 0..20 {
        let order = ask(&plain.image, content, client(1), (false, 4), &[]).targets;
        let mut before = BTreeSet::new();
        for width in 1..=4u8 {
            let compiled = placed(&[hot(content, width)], &all_up(&network()));
            let now: BTreeSet<u32> = servers(&compiled.image, content).into_iter().collect();
            let expected: BTreeSet<u32> = order[..width as usize].iter().copied().collect();
            assert_eq!(now, expected, "{width} servers of object {content}");
            assert!(now.is_superset(&before), "copies that are there are used");
            before = now;
        }
    }
}

#[test]
fn there_are_limits_and_they_are_named() {
    let mut compiled = compiled(&network());
    let many: Vec<Object> = (0..MAX_OBJECTS as u64 + 1).map(|content| hot(content, 2)).collect();
    let left = compiled.place_objects(&many, &all_up(&network()));
    assert_eq!(left, [(many[MAX_OBJECTS].clone(), Full::Objects)]);
    assert!(Full::Objects.to_string().contains(&MAX_OBJECTS.to_string()));
    // 8 targets make 255 sets: others are needed for as many as there is room for.
    let sets: BTreeSet<Vec<u16>> = (0..MAX_SETS as u16 + 1).map(|n| vec![n % 8, 100 + n]).collect();
    let objects: Vec<Object> = (0..).zip(&sets).map(|(content, set)| at(content, set)).collect();
    let left = compiled.place_objects(&objects, &all_up(&network()));
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].1, Full::Sets);
    // Those that are withdrawn make room.
    assert_eq!(compiled.place_objects(&objects[..3], &all_up(&network())), []);
    assert_eq!(compiled.place_objects(&objects[3..6], &all_up(&network())), []);
}

#[test]
fn without_a_service_that_keeps_objects_together_there_is_no_table() {
    let image = compiled(&small()).image;
    assert_eq!((image.objects.len(), image.meta.object_mask), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever was published and withdrawn before, the answers are those of a box that begins with the last.
    #[test]
    fn history_makes_no_difference(
        steps in prop::collection::vec(prop::collection::vec((0u64..40, 0u8..8, any::<bool>()), 0..30), 1..5),
    ) {
        let states = all_up(&network());
        let object = |(content, kind, is_hot): &(u64, u8, bool)| match is_hot {
            true => hot(*content, kind % 4 + 1),
            false => at(*content, &[u16::from(*kind % 3), u16::from(*kind % 3) + 2]),
        };
        let unique = |step: &Vec<(u64, u8, bool)>| {
            let mut seen = BTreeSet::new();
            step.iter().filter(|one| seen.insert(one.0)).map(object).collect::<Vec<Object>>()
        };
        let mut compiled = compiled(&network());
        for step in &steps {
            prop_assert_eq!(compiled.place_objects(&unique(step), &states), vec![]);
        }
        let last = unique(steps.last().expect("a step"));
        let fresh = placed(&last, &states);
        prop_assert_eq!(compiled.objects.len(), last.len());
        for content in 0..40 {
            for from in (0..5).map(client) {
                let ask = |image| {
                    let verdict = ask(image, content, from, (false, 1), &[]);
                    (verdict.reason, verdict.targets[0])
                };
                prop_assert_eq!(ask(&compiled.image), ask(&fresh.image));
            }
        }
    }
}
