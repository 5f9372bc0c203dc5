//! The reference network of tests and benchmarks: synthetic, of any size up to A-8, and the same on every run.
//!
//! Prefixes have the lengths, the nesting and the clustering of public routing tables; names are
//! `{object}.web.cNNNNNN.cdnK.example.net` and, for every ninth service, `{channel}.cNNNNNN.tv.cdnK.example.net`.

use crate::model::{
    ChooseBy, Coverage, DnsAnswer, Grammar, LabelRule, Network, Origin, Outcome, Pool, Region, Schemes,
    Service, Speaks, Target, Tier, UrlRule, Vip, Zone,
};
use crate::peering::Peering;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How big the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// IPv4 client prefixes, some millions at most: the populated blocks hold ten million /24.
    pub ipv4_prefixes: usize,
    /// IPv6 client prefixes.
    pub ipv6_prefixes: usize,
    /// Regions that they are spread over, 1 to 65534.
    pub regions: usize,
    /// Coverages, at least 1.
    pub coverages: usize,
    /// Services, each with one name grammar and one URL rule.
    pub services: usize,
    /// Targets, at least 1.
    pub targets: usize,
    /// VIPs, each with an IPv4 and an IPv6 address, 1 to 254.
    pub vips: usize,
}

impl Scale {
    /// What one box must hold.
    pub const FULL: Self = Self {
        ipv4_prefixes: 1_000_000,
        ipv6_prefixes: 250_000,
        regions: 1000,
        coverages: 500,
        services: 100_000,
        targets: 10_000,
        vips: 64,
    };

    /// A thousand names and a few regions.
    pub const SMALL: Self = Self {
        ipv4_prefixes: 2000,
        ipv6_prefixes: 500,
        regions: 8,
        coverages: 4,
        services: 1000,
        targets: 40,
        vips: 2,
    };
}

/// VIPs of one CDN.
const VIPS_PER_CDN: usize = 4;
/// Targets of one pool.
const POOL_SIZE: usize = 8;
/// Regions that a coverage names; the others share its `*` tiers.
const NAMED_REGIONS: usize = 64;
/// Of so many services one is a TV channel.
const TV_EVERY: usize = 9;

/// Length and weight of IPv4 prefixes, after the global routing table, with some longer ones as operators add.
const IPV4_LENGTHS: [(u8, u64); 19] = [
    (8, 1),
    (10, 3),
    (11, 8),
    (12, 25),
    (13, 50),
    (14, 100),
    (15, 170),
    (16, 1150),
    (17, 720),
    (18, 1200),
    (19, 2200),
    (20, 3900),
    (21, 4800),
    (22, 10_200),
    (23, 9500),
    (24, 60_000),
    (26, 300),
    (28, 200),
    (32, 300),
];

/// The same for IPv6 prefixes.
const IPV6_LENGTHS: [(u8, u64); 14] = [
    (20, 1),
    (28, 100),
    (29, 2500),
    (30, 300),
    (32, 11_000),
    (33, 1500),
    (36, 4500),
    (40, 9500),
    (42, 3000),
    (44, 10_500),
    (46, 4200),
    (48, 47_000),
    (56, 1000),
    (64, 500),
];

/// /16 blocks of IPv4 that hold prefixes; the others are empty.
const IPV4_BLOCKS: u64 = 40_000;
/// Registry blocks that IPv6 allocations come from: the upper 32 bits.
const IPV6_REGISTRIES: [u32; 6] =
    [0x2001_0000, 0x2400_0000, 0x2600_0000, 0x2800_0000, 0x2a00_0000, 0x2c00_0000];

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// An index of a list with `len` entries, which is not empty.
    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Less than `bound`, small numbers more often: half of the draws are in the first quarter.
    fn skewed(&mut self, bound: u64) -> u64 {
        let draw = self.below(1 << 32);
        ((u128::from(draw) * u128::from(draw) * u128::from(bound)) >> 64) as u64
    }

    fn length(&mut self, lengths: &[(u8, u64)]) -> u8 {
        let mut draw = self.below(lengths.iter().map(|(_, weight)| weight).sum());
        for (length, weight) in lengths {
            if draw < *weight {
                return *length;
            }
            draw -= weight;
        }
        lengths[0].0
    }
}

/// Builds the network; everything in it follows from `scale`.
pub fn reference(scale: Scale) -> Network {
    let cdns: Vec<String> =
        (0..scale.vips.div_ceil(VIPS_PER_CDN)).map(|cdn| format!("cdn{cdn:02}")).collect();
    let targets: Vec<Target> = (0..scale.targets).map(target).collect();
    let pools = pools(scale);
    let coverages = coverages(scale, pools.len());
    let services: Vec<Service> =
        (0..scale.services).map(|number| service(scale, number, cdns.len())).collect();
    Network {
        key: *b"reference-key-16",
        box_name: "reference".into(),
        vips: (0..scale.vips).map(vip).collect(),
        regions: regions(scale),
        default_region: None,
        targets,
        pools,
        coverages,
        zones: cdns.iter().enumerate().map(|(cdn, name)| zone(cdn, name, &services)).collect(),
        urls: urls(&cdns, &services),
        peering: Peering::default(),
        keys: Vec::new(),
        services,
        cdns,
    }
}

fn vip(number: usize) -> Vip {
    let low = number as u8 + 1;
    Vip {
        name: format!("vip{number:03}"),
        cdn: number / VIPS_PER_CDN,
        ipv4: vec![Ipv4Addr::new(203, 0, 113, low)],
        ipv6: vec![Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, u16::from(low))],
        speaks: Speaks { dns: true, cdsr: true, http: true, rtsp: true },
        origin: Origin::default(),
    }
}

/// Every sixteenth target has IPv4 alone, every fourth a host name.
fn target(number: usize) -> Target {
    let low = number as u32;
    let name = format!("t{number:06}");
    Target {
        site: format!("s{:04}", number / POOL_SIZE),
        ipv4: Some(Ipv4Addr::from_bits(0x6440_0001 + low)),
        ipv6: (!number.is_multiple_of(16))
            .then(|| Ipv6Addr::from_bits(0x2001_0db8_0001_0000_0000_0000_0000_0001 + u128::from(low))),
        host: number.is_multiple_of(4).then(|| format!("{name}.example.com")),
        outcome: Outcome::default(),
        http_port: 80,
        https_port: 443,
        rtsp_port: 554,
        network: 0,
        origin: Origin::default(),
        name,
    }
}

fn pools(scale: Scale) -> Vec<Pool> {
    let count = scale.targets.div_ceil(POOL_SIZE);
    let member = |target: usize| (target, 1 + (target % 4) as u32);
    let pool = |number: usize| Pool {
        name: format!("p{number:05}"),
        members: (number * POOL_SIZE..scale.targets.min((number + 1) * POOL_SIZE)).map(member).collect(),
        origin: Origin::default(),
    };
    (0..count).map(pool).collect()
}

/// For each named region two near pools, then for everybody two others, then one more.
fn coverages(scale: Scale, pools: usize) -> Vec<Coverage> {
    let mut random = Random(3);
    let mut tier = |region: Option<usize>, count: usize| {
        let chosen: BTreeSet<usize> = (0..count).map(|_| random.index(pools)).collect();
        let pools = chosen.into_iter().map(|pool| (pool, 1 + random.below(4) as u32)).collect();
        Tier { region, pools, ttl: None, within: None, origin: Origin::default() }
    };
    let step = scale.regions.div_ceil(NAMED_REGIONS);
    let coverage = |number: usize| {
        let named = (number % step..scale.regions).step_by(step).map(|region| (Some(region), 2));
        let tiers = named.chain([(None, 2), (None, 1)]).map(|(region, count)| tier(region, count)).collect();
        Coverage { name: format!("v{number:04}"), tiers, origin: Origin::default() }
    };
    (0..scale.coverages).map(coverage).collect()
}

fn service(scale: Scale, number: usize, cdns: usize) -> Service {
    Service {
        name: format!("c{number:06}"),
        class: String::new(),
        cdn: number % cdns,
        coverage: number % scale.coverages,
        ttl: if number.is_multiple_of(2) { 0 } else { 20 },
        hint_lifetime: 30,
        choose_by: match number % 10 {
            0 => ChooseBy::Client,
            1 => ChooseBy::Content,
            2 => ChooseBy::Spread,
            _ => ChooseBy::ClientPrefix,
        },
        dns: if number % 63 == 62 { DnsAnswer::Vip } else { DnsAnswer::Server },
        https: None,
        srv: None,
        answers: 1 + (number % 4 == 1) as u8,
        policy_class: 0,
        fallback: if number % 10 == 9 { vec![number % scale.targets] } else { Vec::new() },
        authorised: None,
        location: None,
        origin: Origin::default(),
    }
}

fn suffix(cdn: &str) -> Vec<String> {
    [cdn, "example", "net"].map(str::to_owned).to_vec()
}

fn labels(number: usize, service: &Service) -> Vec<LabelRule> {
    let fixed = |label: &str| LabelRule::Fixed(label.to_owned());
    if number % TV_EVERY == TV_EVERY - 1 {
        vec![LabelRule::Free("channel".to_owned()), fixed(&service.name), fixed("tv")]
    } else {
        vec![LabelRule::Free("object".to_owned()), fixed("web"), fixed(&service.name)]
    }
}

fn zone(cdn: usize, name: &str, services: &[Service]) -> Zone {
    let own = services.iter().enumerate().filter(|(_, service)| service.cdn == cdn);
    let grammar = |(number, service): (usize, &Service)| Grammar {
        labels: labels(number, service),
        service: number,
        signed: None,
        origin: Origin::default(),
    };
    Zone {
        suffix: suffix(name),
        cdn,
        serial: 1,
        negative_ttl: 60,
        ns_ttl: 3600,
        grammars: own.map(grammar).collect(),
        sealed: None,
        ill_formed: None,
        origin: Origin::default(),
    }
}

/// One rule a service: rtsp for TV, http for the others, every second of them for one directory alone.
fn urls(cdns: &[String], services: &[Service]) -> Vec<UrlRule> {
    let rule = |(number, service): (usize, &Service)| {
        let tv = number % TV_EVERY == TV_EVERY - 1;
        UrlRule {
            schemes: Schemes { http: !tv, https: false, rtsp: tv },
            host: labels(number, service),
            suffix: suffix(&cdns[service.cdn]),
            path: if number.is_multiple_of(2) { vec!["live".to_owned()] } else { Vec::new() },
            service: number,
            signed: None,
            origin: Origin::default(),
        }
    };
    services.iter().enumerate().map(rule).collect()
}

fn regions(scale: Scale) -> Vec<Region> {
    let region = |number: usize| Region {
        name: format!("r{number:05}"),
        prefixes: Vec::new(),
        origin: Origin::default(),
    };
    let mut regions: Vec<Region> = (0..scale.regions).map(region).collect();
    let mut random = Random(1);
    let ipv4 = draw(scale.ipv4_prefixes, scale.regions, &mut random, |random, parent| {
        let length = random.length(&IPV4_LENGTHS);
        let address = match parent {
            Some(IpNet::V4(parent)) if parent.prefix_len() < length => {
                parent.network().to_bits() | (random.next() as u32 & parent.hostmask().to_bits())
            }
            _ => ipv4_block(random) << 16 | random.below(1 << 16) as u32,
        };
        Ipv4Net::new_assert(Ipv4Addr::from_bits(address), length).trunc().into()
    });
    let ipv6 = draw(scale.ipv6_prefixes, scale.regions, &mut random, |random, parent| {
        let length = random.length(&IPV6_LENGTHS);
        let low = u128::from(random.next()) << 64 | u128::from(random.next());
        let address = match parent {
            Some(IpNet::V6(parent)) if parent.prefix_len() < length => {
                parent.network().to_bits() | (low & parent.hostmask().to_bits())
            }
            _ => {
                let registry = IPV6_REGISTRIES[random.index(IPV6_REGISTRIES.len())];
                u128::from(registry | random.skewed(1 << 15) as u32) << 96 | low >> 32
            }
        };
        Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length).trunc().into()
    });
    for (prefix, region) in ipv4.into_iter().chain(ipv6) {
        regions[region].prefixes.push(prefix);
    }
    for region in &mut regions {
        region.prefixes.sort_unstable();
    }
    regions
}

/// Upper half of an address in one of the populated blocks, which lie in 1.0.0.0 to 222.255.255.255.
fn ipv4_block(random: &mut Random) -> u32 {
    let block = random.skewed(IPV4_BLOCKS);
    // 222 × 256 blocks; 30011 is prime to that, so that the populated ones are all over the space.
    256 + (block * 30_011 % (222 * 256)) as u32
}

/// `count` different prefixes with their regions. Half of them are drawn within an earlier one, and four fifths of
/// these belong to its region.
fn draw(
    count: usize,
    regions: usize,
    random: &mut Random,
    mut prefix: impl FnMut(&mut Random, Option<&IpNet>) -> IpNet,
) -> Vec<(IpNet, usize)> {
    let mut seen = BTreeSet::new();
    let mut drawn: Vec<(IpNet, usize)> = Vec::with_capacity(count);
    while drawn.len() < count {
        let parent = (random.below(2) == 0 && !drawn.is_empty()).then(|| drawn[random.index(drawn.len())]);
        let new = prefix(random, parent.as_ref().map(|(parent, _)| parent));
        if !seen.insert(new) {
            continue;
        }
        let region = match parent {
            // No region stays empty.
            _ if drawn.len() < regions => drawn.len(),
            Some((_, region)) if random.below(5) < 4 => region,
            _ => random.index(regions),
        };
        drawn.push((new, region));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted<'a>(names: impl IntoIterator<Item = &'a String>) -> bool {
        names.into_iter().is_sorted_by(|a, b| a < b)
    }

    fn check(scale: Scale) {
        let network = reference(scale);
        let all: Vec<IpNet> = network.regions.iter().flat_map(|region| region.prefixes.clone()).collect();
        let distinct: BTreeSet<IpNet> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len(), "a prefix is in two regions");
        assert!(all.iter().all(|prefix| prefix.trunc() == *prefix));
        assert_eq!(all.iter().filter(|prefix| matches!(prefix, IpNet::V4(_))).count(), scale.ipv4_prefixes);
        assert_eq!(all.iter().filter(|prefix| matches!(prefix, IpNet::V6(_))).count(), scale.ipv6_prefixes);
        assert!(network.regions.iter().all(|region| !region.prefixes.is_empty()));

        let Network { vips, regions, targets, pools, coverages, services, zones, urls, cdns, .. } = &network;
        assert_eq!((vips.len(), regions.len(), targets.len()), (scale.vips, scale.regions, scale.targets));
        assert_eq!((coverages.len(), services.len()), (scale.coverages, scale.services));
        assert!(sorted(cdns) && sorted(vips.iter().map(|vip| &vip.name)));
        assert!(sorted(regions.iter().map(|region| &region.name)));
        assert!(sorted(targets.iter().map(|target| &target.name)));
        assert!(sorted(pools.iter().map(|pool| &pool.name)));
        assert!(sorted(coverages.iter().map(|coverage| &coverage.name)));
        assert!(sorted(services.iter().map(|service| &service.name)));
        assert!(pools.iter().all(|pool| !pool.members.is_empty()));
        assert!(pools.iter().flat_map(|pool| &pool.members).all(|(target, _)| *target < targets.len()));
        for tier in coverages.iter().flat_map(|coverage| &coverage.tiers) {
            assert!(tier.region.is_none_or(|region| region < regions.len()));
            assert!(!tier.pools.is_empty() && tier.pools.iter().all(|(pool, _)| *pool < pools.len()));
        }
        assert_eq!(zones.iter().map(|zone| zone.grammars.len()).sum::<usize>(), scale.services);
        assert!(zones.iter().all(|zone| zone.grammars.iter().all(|g| services[g.service].cdn == zone.cdn)));
        assert_eq!(urls.len(), scale.services);
    }

    #[test]
    fn the_small_network_is_sound() {
        check(Scale::SMALL);
    }

    #[test]
    fn the_full_network_has_the_size_that_a_box_must_hold() {
        check(Scale::FULL);
    }

    #[test]
    fn the_network_is_the_same_on_every_run() {
        assert_eq!(reference(Scale::SMALL), reference(Scale::SMALL));
        // Written down from a run: figures of different days are comparable only while this holds.
        let prefixes = reference(Scale::SMALL).regions.swap_remove(0).prefixes;
        let ends = [prefixes.first(), prefixes.last()].map(|prefix| prefix.unwrap().to_string());
        assert_eq!(ends, ["1.102.192.0/20", "2c00:7f54:934b::/48"]);
    }

    #[test]
    fn prefixes_nest_and_most_are_as_long_as_in_routing_tables() {
        let scale = Scale { ipv4_prefixes: 50_000, ipv6_prefixes: 20_000, ..Scale::SMALL };
        let network = reference(scale);
        let all: BTreeSet<IpNet> =
            network.regions.iter().flat_map(|region| region.prefixes.clone()).collect();
        let share = |length: u8, v6: bool| {
            let of_family = all.iter().filter(|prefix| matches!(prefix, IpNet::V6(_)) == v6);
            let (hits, total) = of_family.fold((0, 0), |(hits, total), prefix| {
                (hits + usize::from(prefix.prefix_len() == length), total + 1)
            });
            hits * 100 / total
        };
        assert!((55..=70).contains(&share(24, false)), "{} % of IPv4 are /24", share(24, false));
        assert!((40..=60).contains(&share(48, true)), "{} % of IPv6 are /48", share(48, true));
        let nested = |prefix: &&IpNet| {
            std::iter::successors(prefix.supernet(), IpNet::supernet).any(|wider| all.contains(&wider))
        };
        let nested = all.iter().filter(nested).count() * 100 / all.len();
        assert!((20..=80).contains(&nested), "{nested} % lie within another");
    }
}
