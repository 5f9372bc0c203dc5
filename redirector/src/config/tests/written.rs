//! Networks written as TOML and read again: every field of the model can be expressed, and order means nothing.

use super::*;
use proptest::prelude::*;
use redirector_plan::model::Origin;
use redirector_plan::reference::{Scale, reference};
use writer::tables;

#[allow(unreachable_pub)] // It is a module of the crate of integration tests, too.
#[path = "../../../../tests/src/written.rs"]
mod writer;

/// The network that a text stands for, without the places where things were written.
fn read(text: &str) -> Network {
    match parse_text(text) {
        Ok(config) => without_origins(config.network),
        Err(errors) => panic!("{}", errors.iter().take(5).map(|e| e.report(false)).collect::<String>()),
    }
}

fn without_origins(mut network: Network) -> Network {
    let Network { vips, regions, targets, pools, coverages, services, zones, urls, .. } = &mut network;
    let tiers = coverages.iter_mut().flat_map(|coverage| {
        std::iter::once(&mut coverage.origin).chain(coverage.tiers.iter_mut().map(|tier| &mut tier.origin))
    });
    let grammars = zones.iter_mut().flat_map(|zone| {
        std::iter::once(&mut zone.origin).chain(zone.grammars.iter_mut().map(|grammar| &mut grammar.origin))
    });
    (vips.iter_mut().map(|one| &mut one.origin))
        .chain(regions.iter_mut().map(|one| &mut one.origin))
        .chain(targets.iter_mut().map(|one| &mut one.origin))
        .chain(pools.iter_mut().map(|one| &mut one.origin))
        .chain(services.iter_mut().map(|one| &mut one.origin))
        .chain(urls.iter_mut().map(|one| &mut one.origin))
        .chain(tiers)
        .chain(grammars)
        .for_each(|origin| *origin = Origin::default());
    network
}

#[test]
fn every_field_of_the_model_can_be_written() {
    let network = without_origins(load(&example()).unwrap().network);
    assert_eq!(read(&tables(&network, None).concat()), network);
}

#[test]
fn the_reference_network_written_and_read_is_the_same() {
    let network = reference(Scale::SMALL);
    // A difference in a whole network is too long to print.
    assert!(read(&tables(&network, None).concat()) == network);
}

#[test]
fn a_network_of_the_size_that_a_box_must_hold_loads() {
    let network = reference(Scale::FULL);
    assert!(read(&tables(&network, None).concat()) == network);
}

proptest! {
    #[test]
    fn the_order_of_tables_means_nothing(
        shuffled in Just(tables(&load(&example()).unwrap().network, None)).prop_shuffle()
    ) {
        let network = without_origins(load(&example()).unwrap().network);
        prop_assert_eq!(read(&shuffled.concat()), network);
    }
}
