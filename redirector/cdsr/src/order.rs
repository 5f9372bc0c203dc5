//! The order in which a client tries endpoints: the redirector's order, then the client's own preferences, then chance
//! by share (sections 7 and 8 of the protocol).

use crate::wire::Endpoint;
use ipnet::IpNet;
use std::net::IpAddr;

/// What the client would rather use. The redirector's order comes first: preferences choose among endpoints of equal
/// order, except that what is to be avoided always comes last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Servers wanted if policy allows, the most wanted first. Single addresses are named in requests, too.
    pub prefer: Vec<IpNet>,
    /// Numbers of networks wanted.
    pub networks: Vec<u16>,
    /// Servers to use only when there is nothing else.
    pub avoid: Vec<IpNet>,
    /// Address family wanted.
    pub family: Option<Family>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Preferences {
    fn avoids(&self, address: IpAddr) -> bool {
        self.avoid.iter().any(|net| net.contains(&address))
    }

    /// How little the endpoint is wanted: 0 fulfils every wish.
    fn distance(&self, endpoint: &Endpoint) -> u8 {
        let address = endpoint.server.ip();
        let named = self.prefer.is_empty() || self.prefer.iter().any(|net| net.contains(&address));
        let network = self.networks.is_empty() || self.networks.contains(&endpoint.network);
        let family = self.family.is_none_or(|f| (f == Family::V4) == address.is_ipv4());
        // A named server outweighs a network, and that a family.
        u8::from(!named) << 2 | u8::from(!network) << 1 | u8::from(!family)
    }
}

/// Sorts `endpoints` into the order of trial. `failed` ones come last. `random` gives 64 random bits at each call.
///
/// Among endpoints that are equal in everything else, each comes first with a probability of its part of the shares.
///
/// # Errors
/// Those of `random`.
pub(crate) fn arrange<E>(
    endpoints: &mut [Endpoint],
    preferences: &Preferences,
    failed: &[IpAddr],
    mut random: impl FnMut() -> Result<u64, E>,
) -> Result<(), E> {
    let rank = |e: &Endpoint| {
        let address = e.server.ip();
        (failed.contains(&address), preferences.avoids(address), e.order, preferences.distance(e))
    };
    endpoints.sort_by_key(rank);
    for alternatives in endpoints.chunk_by_mut(|a, b| rank(a) == rank(b)) {
        shuffle(alternatives, &mut random)?;
    }
    Ok(())
}

/// Draws one after the other, each with its part of the shares that are left.
fn shuffle<E>(endpoints: &mut [Endpoint], random: &mut impl FnMut() -> Result<u64, E>) -> Result<(), E> {
    let mut rest = endpoints;
    while rest.len() > 1 {
        let total: u64 = rest.iter().map(|e| u64::from(e.share)).sum();
        // At most 8 × 255 in 2^64: the bias of `%` is far below what anybody can measure.
        let mut mark = random()? % total.max(1);
        let drawn = rest.iter().position(|e| match mark.checked_sub(u64::from(e.share)) {
            Some(left) => {
                mark = left;
                false
            }
            None => true,
        });
        rest.swap(0, drawn.unwrap_or(0));
        rest = &mut rest[1..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn endpoint(address: &str, order: u8, share: u8, network: u16) -> Endpoint {
        let server = format!("{address}:80").parse().expect("an endpoint");
        Endpoint { server, order, share, network, class: 0 }
    }

    /// SplitMix64.
    fn numbers(mut state: u64) -> impl FnMut() -> Result<u64, Infallible> {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            Ok(z ^ z >> 31)
        }
    }

    fn arranged(list: &[Endpoint], preferences: &Preferences, failed: &[IpAddr]) -> Vec<String> {
        let mut list = list.to_vec();
        let Ok(()) = arrange(&mut list, preferences, failed, numbers(1));
        list.iter().map(|e| e.server.ip().to_string()).collect()
    }

    #[test]
    fn order_comes_before_every_preference_but_avoidance() {
        let list =
            [endpoint("192.0.2.3", 2, 1, 0), endpoint("192.0.2.1", 0, 1, 0), endpoint("192.0.2.2", 1, 1, 0)];
        let preferences = Preferences {
            prefer: vec!["192.0.2.3/32".parse().expect("a prefix")],
            avoid: vec!["192.0.2.1/32".parse().expect("a prefix")],
            ..Preferences::default()
        };
        assert_eq!(arranged(&list, &Preferences::default(), &[]), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        assert_eq!(arranged(&list, &preferences, &[]), ["192.0.2.2", "192.0.2.3", "192.0.2.1"]);
    }

    #[test]
    fn failed_servers_come_last_even_behind_avoided_ones() {
        let list = [endpoint("192.0.2.1", 0, 255, 0), endpoint("192.0.2.2", 3, 1, 0)];
        let avoid =
            Preferences { avoid: vec!["192.0.2.2/32".parse().expect("a prefix")], ..Default::default() };
        let failed = ["192.0.2.1".parse().expect("an address")];
        assert_eq!(arranged(&list, &avoid, &failed), ["192.0.2.2", "192.0.2.1"]);
    }

    #[test]
    fn preferences_choose_among_equal_order() {
        let list = [
            endpoint("192.0.2.1", 0, 255, 7),
            endpoint("192.0.2.2", 0, 1, 9),
            endpoint("[2001:db8::3]", 0, 1, 7),
        ];
        let first = |p: Preferences| arranged(&list, &p, &[])[0].clone();
        let net = |n: &str| vec![n.parse().expect("a prefix")];
        assert_eq!(first(Preferences { prefer: net("192.0.2.2/32"), ..Default::default() }), "192.0.2.2");
        assert_eq!(first(Preferences { networks: vec![9], ..Default::default() }), "192.0.2.2");
        assert_eq!(first(Preferences { family: Some(Family::V6), ..Default::default() }), "2001:db8::3");
        let both =
            Preferences { prefer: net("192.0.2.2/32"), family: Some(Family::V6), ..Default::default() };
        assert_eq!(first(both), "192.0.2.2");
    }

    #[test]
    fn first_place_is_drawn_by_share() {
        let list = [endpoint("192.0.2.1", 0, 3, 0), endpoint("192.0.2.2", 0, 1, 0)];
        let mut random = numbers(7);
        let draws = 10_000;
        let mut first = 0;
        for _ in 0..draws {
            let mut list = list;
            let Ok(()) = arrange(&mut list, &Preferences::default(), &[], &mut random);
            first += u32::from(list[0].share == 3);
        }
        // Standard deviation is 43.
        assert!((7_300..=7_700).contains(&first), "{first} of {draws}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_order_is_kept(
            parts in prop::collection::vec((0u8..4, 0u8..=255, 0u16..3, any::<[u8; 4]>()), 0..9), seed: u64,
        ) {
            let mut list: Vec<Endpoint> = parts
                .iter()
                .map(|&(order, share, network, a)| Endpoint { server: (a, 1).into(), order, share, network, class: 0 })
                .collect();
            let before: std::collections::HashSet<Endpoint> = list.iter().copied().collect();
            let Ok(()) = arrange(&mut list, &Preferences::default(), &[], numbers(seed));
            prop_assert!(list.is_sorted_by_key(|e| e.order));
            prop_assert_eq!(list.len(), parts.len());
            prop_assert_eq!(list.iter().copied().collect::<std::collections::HashSet<_>>(), before);
        }
    }
}
