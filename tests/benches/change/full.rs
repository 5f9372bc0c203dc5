//! The network that a box must hold, of which eight targets go down and come back together.

use crate::storm::Storm;
use anyhow::{Context as _, Result};
use redirector_plan::model::{ChooseBy, Network, TargetState};
use redirector_plan::reference::{Scale, reference};
use redirector_tests::frames::Flow;
use redirector_tests::questions::{DnsQuery, name_of, rr};
use redirector_tests::slow;
use std::net::SocketAddr;

/// Targets that change at a time: the members of the first pool.
const CHANGED: usize = 8;
/// Services and clients of each that are tried.
const SERVICES: usize = 50;
const CLIENTS: usize = 50;

/// See the module's description.
pub(crate) fn storm() -> Result<Storm> {
    let network = reference(Scale::FULL);
    let all_up = vec![TargetState::default(); network.targets.len()];
    let mut some_down = all_up.clone();
    some_down.iter_mut().take(CHANGED).for_each(|state| state.up = false);
    let queries = queries(&network)?;
    Storm::new(network, vec![all_up, some_down], queries)
}

/// DNS queries of clients in regions to which the first pool is near.
fn queries(network: &Network) -> Result<Vec<(Flow, Vec<u8>)>> {
    let grammars = network.zones.iter().flat_map(|zone| zone.grammars.iter().map(move |one| (zone, one)));
    let asked = grammars.filter_map(|(zone, grammar)| {
        let service = &network.services[grammar.service];
        let near = network.coverages[service.coverage].tiers.iter();
        let region =
            near.filter(|tier| tier.pools.iter().any(|(pool, _)| *pool == 0)).find_map(|tier| tier.region);
        Some((zone, grammar, region.filter(|_| service.choose_by == ChooseBy::Client)?))
    });
    let mut queries = Vec::new();
    for (zone, grammar, region) in asked.take(SERVICES) {
        let vip = network.vips.iter().find(|vip| vip.cdn == zone.cdn).context("a CDN without VIP")?;
        let vip = SocketAddr::new(vip.ipv4[0].into(), slow::DNS_PORT);
        let payload = DnsQuery::new(&name_of(zone, grammar), rr::A).encode();
        let prefixes = network.regions[region].prefixes.iter().filter(|prefix| prefix.addr().is_ipv4());
        for prefix in prefixes.take(CLIENTS) {
            let client = SocketAddr::new(prefix.addr(), 40_000);
            queries.push((Flow { client, vip }, payload.clone()));
        }
    }
    Ok(queries)
}
