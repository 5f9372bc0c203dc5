//! The small network, and the states that its targets go through.

use crate::storm::Storm;
use anyhow::Result;
use redirector_plan::model::TargetState;
use redirector_tests::frames::Flow;
use redirector_tests::questions::{CdsrRequest, DnsQuery, rr};
use redirector_tests::{networks, slow};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// States that the small network goes through.
const STATES: usize = 8;
/// What is asked for by CDSR.
const CDSR_URL: &str = "rtsp://abc.tv.cdn.acme.net/news";
/// Clients that ask in the small network.
const CLIENTS: u8 = 200;

/// Thirty targets in a tree of records, some up and some down, with other shares in each of eight states; asked by
/// DNS for three of them, and by CDSR.
///
/// # Errors
/// As [`Storm::new`].
pub(crate) fn storm() -> Result<Storm> {
    let (network, _) = networks::rich();
    let state = |state: usize, target: usize| TargetState {
        up: (target * 7 + state * 5) % 8 > 1,
        factor: [256, 200, 64][(target + state) % 3],
        round_trip: None,
    };
    let targets = network.targets.len();
    let states = (0..STATES).map(|number| (0..targets).map(|target| state(number, target)).collect());
    let queries = (1..=CLIENTS).flat_map(|client| {
        let client = SocketAddr::new(Ipv4Addr::new(10, 1, client, 7).into(), 40_000);
        let vip: IpAddr = networks::ACME[0].parse().expect("an address");
        let flow = |port| Flow { client, vip: SocketAddr::new(vip, port) };
        let dns = DnsQuery::new("news.abc.tv.cdn.acme.net", rr::A).encode();
        let cdsr = CdsrRequest { max_endpoints: 4, length: 160, ..CdsrRequest::new(CDSR_URL) };
        [(flow(slow::DNS_PORT), dns), (flow(redirector_core::wire::cdsr::PORT), cdsr.encode())]
    });
    Storm::new(network, states.collect(), queries)
}
