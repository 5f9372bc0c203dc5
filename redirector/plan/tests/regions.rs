//! Region tables against a linear scan over the prefixes.

mod common;

use common::*;
use ipnet::IpNet;
use proptest::prelude::*;
use redirector_core::decide::Client;
use redirector_core::table::{IPV6_ROOT_BITS, REGION_LINK};
use redirector_plan::image::TableImage;
use redirector_plan::model::{Network, Region};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Region number by longest match, as the model's documentation says.
fn naive_region(network: &Network, address: IpAddr) -> u32 {
    let all = network.regions.iter().enumerate();
    let covering = all.flat_map(|(index, region)| {
        let around = region.prefixes.iter().filter(|prefix| prefix.contains(&address));
        around.map(move |prefix| (prefix.prefix_len(), index as u32 + 1))
    });
    let default = network.default_region.map_or(0, |index| index as u32 + 1);
    covering.max().map_or(default, |(_, region)| region)
}

/// Length of the widest prefix with one region around an address, read as `REGION_LINK` documents the tables.
fn scope(image: &TableImage, address: IpAddr) -> u32 {
    let Client { high, low, v6 } = Client::new(address);
    let v6 = v6 != 0;
    let bits = |from: u32, count: u32| {
        let all = if v6 { (high as u128) << 64 | low as u128 } else { (low as u128) << 96 };
        (all << from >> (128 - count)) as usize
    };
    let (root, mut at) = if v6 { (&image.ipv6_root, IPV6_ROOT_BITS) } else { (&image.ipv4_root, 16) };
    let mut entry = root[bits(0, at) / 16].words[bits(0, at) % 16];
    while entry & REGION_LINK != 0 {
        let page = (entry & !REGION_LINK) as usize;
        (entry, at) = match v6 {
            false => (image.ipv4_pages[page].words[bits(at, 8)], at + 8),
            true => (image.ipv6_nodes[page].words[bits(at, 6)], at + 6),
        };
    }
    entry >> 16
}

/// First addresses of all places where the region may change, for one family.
fn edges(network: &Network, v6: bool) -> Vec<IpAddr> {
    let prefixes = network.regions.iter().flat_map(|region| &region.prefixes);
    let of_family = prefixes.filter(|prefix| prefix.addr().is_ipv6() == v6);
    of_family.flat_map(|prefix| [Some(prefix.network()), next(prefix.broadcast())]).flatten().collect()
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// Shortest length whose prefix around the address has one region everywhere: the region is constant between edges, so
/// it is enough to look at the prefix's first address and the edges inside.
fn naive_scope(network: &Network, edges: &[IpAddr], address: IpAddr) -> u32 {
    let region = naive_region(network, address);
    let bits = if address.is_ipv6() { 128 } else { 32 };
    let uniform = |length: &u8| {
        let block = IpNet::new(address, *length).expect("length fits").trunc();
        let inside = edges.iter().filter(|edge| block.contains(*edge));
        inside.chain([&block.network()]).all(|inside| naive_region(network, *inside) == region)
    };
    (0..=bits).find(uniform).expect("a single address is uniform") as u32
}

fn assert_like_naive(network: &Network, image: &TableImage, probes: impl IntoIterator<Item = IpAddr>) {
    let edges = [edges(network, false), edges(network, true)];
    for probe in probes {
        assert_eq!(region_number(image, probe), naive_region(network, probe), "region of {probe}");
        let widest = naive_scope(network, &edges[probe.is_ipv6() as usize], probe);
        assert_eq!(scope(image, probe), widest, "scope of {probe}");
    }
}

/// Addresses at and next to all edges.
fn probes(network: &Network) -> Vec<IpAddr> {
    let edges = [false, true].into_iter().flat_map(|v6| edges(network, v6));
    let around = edges.flat_map(|edge| [Some(edge), previous(edge), next(edge)]);
    around
        .flatten()
        .filter(|address| !matches!(address.to_canonical(), IpAddr::V4(_)) || address.is_ipv4())
        .collect()
}

fn only_regions(regions: Vec<Region>, default_region: Option<usize>) -> Network {
    Network { regions, default_region, key: [3; 16], ..Network::default() }
}

/// Prefixes crowded together, so that they nest, touch and share pages: few address bits vary.
fn any_prefix() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
        let crowded = 0x0a01_0000 | bits & 0x0403_0707;
        IpNet::from(ipnet::Ipv4Net::new(crowded.into(), length).expect("length fits")).trunc()
    });
    let v6 = (any::<u128>(), 0u8..=128).prop_map(|(bits, length)| {
        let varying = 0x0000_1001_0030_0000_0c00_0000_0000_0003u128;
        let crowded = 0x2001_0db8_0000_0000_0000_0000_0000_0000 | bits & varying;
        IpNet::from(ipnet::Ipv6Net::new(crowded.into(), length).expect("length fits")).trunc()
    });
    prop_oneof![v4, v6]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn longest_match_and_scope_equal_a_linear_scan(
        owned in prop::collection::btree_map(any_prefix(), 0usize..4, 0..40),
        default_region in prop::option::of(0usize..4),
        extra in prop::collection::vec(any::<(u32, u128)>(), 20),
    ) {
        let mut regions: Vec<Region> = (0..4).map(|n| region_of(&format!("r{n}"), &[])).collect();
        for (prefix, region) in owned {
            regions[region].prefixes.push(prefix);
        }
        let network = only_regions(regions, default_region);
        let image = compiled(&network).image;
        let random = extra.into_iter().flat_map(|(v4, v6)| {
            let v6 = 0x2001_0db8 << 96 | v6 & 0x0000_1001_0030_ffff_0c00_0000_ffff_0003;
            [IpAddr::V4((0x0a00_0000 | v4 & 0x07ff_ffff).into()), IpAddr::V6(v6.into())]
        });
        assert_like_naive(&network, &image, probes(&network).into_iter().chain(random));
    }
}

#[test]
fn nested_prefixes_at_page_boundaries_win_and_end_where_they_should() {
    let network = only_regions(
        vec![
            region_of("a", &["10.0.0.0/8", "2001:db8::/32"]),
            region_of("b", &["10.1.0.0/16", "10.2.0.0/24", "10.3.0.0/25", "10.4.0.1/32", "2001:db8::/33"]),
            region_of("c", &["10.1.255.255/32", "10.2.0.0/32", "255.255.255.255/32", "2001:db8::/128"]),
            region_of("d", &["0.0.0.0/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]),
        ],
        None,
    );
    let image = compiled(&network).image;
    assert_like_naive(&network, &image, probes(&network));
}

#[test]
fn default_region_holds_everywhere_without_prefix() {
    let network = only_regions(vec![region_of("a", &["10.0.0.0/8"]), region_of("rest", &[])], Some(1));
    let image = compiled(&network).image;
    for (address, want) in [("9.255.255.255", 2), ("10.0.0.0", 1), ("11.0.0.0", 2), ("2001:db8::1", 2)] {
        assert_eq!(region_number(&image, address.parse().expect("address")), want, "{address}");
    }
    assert_eq!(scope(&image, "2001:db8::1".parse().expect("address")), 0, "all of IPv6 is one region");
}

#[test]
fn adjacent_prefixes_of_one_region_need_no_page_and_share_their_scope() {
    let halves = ["10.1.0.0/17", "10.1.128.0/17", "10.0.0.0/16", "10.1.2.3/32"];
    let network = only_regions(vec![region_of("a", &halves)], None);
    let image = compiled(&network).image;
    assert_eq!(image.ipv4_pages.len(), 1, "only the page that must exist");
    assert_eq!(image.ipv4_pages[0].words, [0; 256]);
    let inside = "10.1.2.3".parse().expect("address");
    assert_eq!((region_number(&image, inside), scope(&image, inside)), (1, 15));
}

#[test]
fn equal_pages_are_stored_once() {
    let same: Vec<String> = (0..64).map(|n| format!("10.{n}.7.0/24")).collect();
    let same: Vec<&str> = same.iter().map(String::as_str).collect();
    let image = compiled(&only_regions(vec![region_of("a", &same)], None)).image;
    assert_eq!(image.ipv4_pages.len(), 1);
}

#[test]
fn order_of_prefixes_does_not_change_a_byte() {
    let mut network = small();
    let straight = compiled(&network);
    network.regions.iter_mut().for_each(|region| region.prefixes.reverse());
    assert_eq!(compiled(&network), straight);
}

#[test]
fn prefixes_of_two_regions_are_refused_with_both_places() {
    let regions = vec![region_of("a", &["10.1.0.0/16", "10.0.0.0/8"]), region_of("b", &["10.1.0.0/16"])];
    let mut network = only_regions(regions, None);
    network.regions[1].origin.line = 101;
    let text = |network: &Network| {
        let refused = refusals(network);
        assert_eq!(refused.len(), 1, "{refused:#?}");
        refused[0].to_string()
    };
    let want =
        "box.toml:101:1: region \"b\": 10.1.0.0/16 also belongs to region \"a\" (box.toml:100:1); give";
    assert!(text(&network).starts_with(want), "{}", text(&network));

    let all: Vec<IpNet> =
        (0..=65_535u32).map(|n| IpNet::new(Ipv4Addr::from(n << 16).into(), 16).expect("fits")).collect();
    network.regions[0].prefixes.clone_from(&all);
    network.regions[1].prefixes = all;
    let want = "region \"b\": 0.0.0.0/16 (and 65535 more) also belongs to region \"a\"";
    assert!(text(&network).contains(want), "{}", text(&network));

    network.regions[0].prefixes = vec!["2001:db8::/32".parse().expect("prefix"); 2];
    network.regions[1].prefixes.clear();
    assert_eq!(compiled(&network).image.meta.regions, 3, "twice in one region says the same twice");
}

#[test]
fn more_regions_than_numbers_are_refused() {
    let many =
        |count: usize| only_regions((0..count).map(|n| region_of(&n.to_string(), &[])).collect(), None);
    assert!(refusals(&many(65535))[0].to_string().starts_with("regions: there are 65535"));
    let mut most = many(65534);
    most.regions[65533].prefixes.push("10.0.0.0/8".parse().expect("prefix"));
    let mut ids = redirector_plan::counters::CounterSlots::new(1, 65535, 1);
    let compiled = redirector_plan::compile(&most, &[], 1, &mut ids).expect("compiles");
    assert_eq!(region_number(&compiled.image, "10.0.0.1".parse().expect("address")), 65534);
}
