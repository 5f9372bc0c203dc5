//! Client prefixes to the IPv4 and IPv6 region tables: longest match by two or a few dependent loads.
//!
//! Nested prefixes are flattened into runs of addresses with one region each; neighbours of the same region become one
//! run. The tables are filled from the runs, so a page or node exists only where regions differ within it, and equal
//! pages or nodes are stored once. Both families are handled as 128-bit addresses, IPv4 in the upper 32 bits.

use crate::model::{Network, Origin};
use crate::refusal::Refusal;
use ipnet::IpNet;
use redirector_core::hash::splitmix;
use redirector_core::table::{IPV6_ROOT_BITS, Node64, Page256, REGION_LINK, Words16};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most regions: numbers are 16 bits wide, 0 stands for none and the region count must fit, too.
pub const MAX_REGIONS: usize = 65534;
/// Most pages of the IPv4 table (256 MiB). Prefixes up to /24 never need more than 65536.
pub const MAX_IPV4_PAGES: usize = 1 << 18;
/// Most nodes of the IPv6 table (512 MiB).
pub const MAX_IPV6_NODES: usize = 1 << 21;

const IPV4_ROOT_BITS: u32 = 16;

/// What the region tables tell of a client: where it is, and which network it belongs to. Classes are numbered as regions
/// are; behind them come those of clients of other networks than the box's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    /// Region number: index + 1, or 0 for clients without region.
    pub region: u32,
    /// Index into the networks of [`crate::peering::Peering`].
    pub network: u32,
}

/// The region tables of an image.
pub(crate) struct RegionTables {
    /// By number in the tables.
    pub(crate) classes: Vec<Class>,
    pub(crate) ipv4_root: Vec<Words16>,
    pub(crate) ipv4_pages: Vec<Page256>,
    pub(crate) ipv6_root: Vec<Words16>,
    pub(crate) ipv6_nodes: Vec<Node64>,
}

/// Builds both tables. Region numbers are index + 1; 0 is no region.
pub(crate) fn build(network: &Network, refusals: &mut Vec<Refusal>) -> RegionTables {
    let background = network.default_region.map_or(0, |index| index as u32 + 1);
    let regions = network.regions.iter().map(|region| (&region.name, &region.prefixes, &region.origin));
    let regions = Sets { kind: "region", first: 1, list: regions.collect() };
    let networks = network.peering.networks.iter();
    let networks = networks.map(|network| (&network.name, &network.prefixes, &network.origin));
    let networks = Sets { kind: "network", first: 0, list: networks.collect() };
    let (in_regions, in_networks) = (regions.sorted_prefixes(), networks.sorted_prefixes());
    for (sets, sorted) in [(&regions, &in_regions), (&networks, &in_networks)] {
        sets.refuse_repeats(&sorted[0], false, refusals);
        sets.refuse_repeats(&sorted[1], true, refusals);
    }
    let mut classes = Classes::new(network.regions.len());
    let [v4, v6] = [0, 1].map(|family| {
        classes.combine(&runs(&in_regions[family], background), &runs(&in_networks[family], 0))
    });
    let classes = classes.list;
    if classes.len() > MAX_REGIONS + 1 {
        refusals.push(Refusal::of_network(
            "networks",
            format!("{} combinations of regions and networks, more than {MAX_REGIONS}", classes.len() - 1),
            "merge regions, or leave networks out whose clients need no rule of their own",
        ));
    }
    let (ipv4_root, pages) = trie::<256>(&v4, IPV4_ROOT_BITS, MAX_IPV4_PAGES);
    let (ipv6_root, nodes) = trie::<64>(&v6, IPV6_ROOT_BITS, MAX_IPV6_NODES);
    if pages.len() > MAX_IPV4_PAGES {
        refusals.push(too_scattered("IPv4", "/24", MAX_IPV4_PAGES));
    }
    if nodes.len() > MAX_IPV6_NODES {
        refusals.push(too_scattered("IPv6", "/48", MAX_IPV6_NODES));
    }
    RegionTables {
        classes,
        ipv4_root: pack_words(&ipv4_root, 0),
        ipv4_pages: at_least_one(pages).into_iter().map(|words| Page256 { words }).collect(),
        ipv6_root: pack_words(&ipv6_root, 0),
        ipv6_nodes: at_least_one(nodes).into_iter().map(|words| Node64 { words }).collect(),
    }
}

/// Words sixteen to a value; the last value is filled up with `filler`, and there is at least one.
pub(crate) fn pack_words(words: &[u32], filler: u32) -> Vec<Words16> {
    let count = words.len().div_ceil(16).max(1);
    let word = |at: usize| words.get(at).copied().unwrap_or(filler);
    (0..count).map(|value| Words16 { words: std::array::from_fn(|n| word(value * 16 + n)) }).collect()
}

fn at_least_one<const N: usize>(mut nodes: Vec<[u32; N]>) -> Vec<[u32; N]> {
    if nodes.is_empty() {
        nodes.push([0; N]);
    }
    nodes
}

fn too_scattered(family: &str, length: &str, limit: usize) -> Refusal {
    Refusal::of_network(
        format!("{family} region prefixes"),
        format!("they differ in too many places: the table would have more than {limit} pages"),
        format!("use fewer prefixes longer than {length}"),
    )
}

/// A prefix with the number of its region or network. The derived order puts a prefix before those nested in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    start: u128,
    length: u8,
    number: u16,
}

impl Prefix {
    fn net(self, v6: bool) -> IpNet {
        let address = if v6 {
            IpAddr::V6(Ipv6Addr::from_bits(self.start))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits((self.start >> 96) as u32))
        };
        IpNet::new_assert(address, self.length)
    }
}

/// Sets of prefixes, of which the longest match counts: regions, or networks.
struct Sets<'n> {
    kind: &'static str,
    /// Number of the first set; the others follow.
    first: usize,
    list: Vec<(&'n String, &'n Vec<IpNet>, &'n Origin)>,
}

impl Sets<'_> {
    fn sorted_prefixes(&self) -> [Vec<Prefix>; 2] {
        let mut families = [Vec::new(), Vec::new()];
        for (index, (_, prefixes, _)) in self.list.iter().enumerate() {
            for prefix in *prefixes {
                let (family, start, length) = match prefix.trunc() {
                    IpNet::V4(net) => (0, (net.addr().to_bits() as u128) << 96, net.prefix_len()),
                    IpNet::V6(net) => (1, net.addr().to_bits(), net.prefix_len()),
                };
                families[family].push(Prefix { start, length, number: (self.first + index) as u16 });
            }
        }
        for family in &mut families {
            family.sort_unstable();
            family.dedup();
        }
        families
    }

    /// Refuses prefixes of several sets, once for each two.
    fn refuse_repeats(&self, sorted: &[Prefix], v6: bool, refusals: &mut Vec<Refusal>) {
        let mut repeats: BTreeMap<(u16, u16), Vec<Prefix>> = BTreeMap::new();
        for pair in sorted.windows(2) {
            if (pair[0].start, pair[0].length) == (pair[1].start, pair[1].length) {
                repeats.entry((pair[0].number, pair[1].number)).or_default().push(pair[1]);
            }
        }
        let kind = self.kind;
        for ((held, other), prefixes) in repeats {
            let [held, other] = [held, other].map(|number| self.list[number as usize - self.first]);
            let first = prefixes[0].net(v6);
            let more = prefixes.len() - 1;
            let which = if more == 0 { first.to_string() } else { format!("{first} (and {more} more)") };
            refusals.push(Refusal::new(
                format!("{kind} {:?}", other.0),
                other.2,
                format!("{which} also belongs to {kind} {:?} ({})", held.0, held.2),
                format!("give each prefix to one {kind}"),
            ));
        }
    }
}

/// Numbers for the classes that occur.
struct Classes {
    list: Vec<Class>,
    numbers: HashMap<Class, u32>,
}

impl Classes {
    /// Those of the box's owner.
    fn new(regions: usize) -> Self {
        let list = (0..=regions as u32).map(|region| Class { region, network: 0 }).collect();
        Self { list, numbers: HashMap::new() }
    }

    fn number(&mut self, region: u32, network: u32) -> u32 {
        if network == 0 {
            return region;
        }
        let class = Class { region, network };
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(class).or_insert(next);
        if number == next {
            self.list.push(class);
        }
        number
    }

    /// Runs of addresses of one region and network.
    fn combine(&mut self, regions: &[(u128, u32)], networks: &[(u128, u32)]) -> Vec<(u128, u32)> {
        let mut combined = Vec::with_capacity(regions.len() + networks.len());
        let (mut region, mut network) = (0, 0);
        let mut start = 0;
        loop {
            begin_run(&mut combined, start, self.number(regions[region].1, networks[network].1));
            let next = [regions.get(region + 1), networks.get(network + 1)];
            let Some(nearest) = next.iter().flatten().map(|(start, _)| *start).min() else { return combined };
            start = nearest;
            region += usize::from(next[0].is_some_and(|(start, _)| *start == nearest));
            network += usize::from(next[1].is_some_and(|(start, _)| *start == nearest));
        }
    }
}

/// First address of each run of addresses with one number, and that number; the first run begins at 0, neighbours
/// differ.
fn runs(sorted: &[Prefix], background: u32) -> Vec<(u128, u32)> {
    let mut runs = vec![(0, background)];
    // The prefixes around the current place, outermost first: last address and region.
    let mut open = vec![(u128::MAX, background)];
    for prefix in sorted {
        close_before(&mut open, prefix.start, &mut runs);
        begin_run(&mut runs, prefix.start, prefix.number as u32);
        let last = prefix.start | u128::MAX.checked_shr(prefix.length as u32).unwrap_or(0);
        open.push((last, prefix.number as u32));
    }
    while let Some((last, _)) = open.pop() {
        if let (Some(next), Some((_, region))) = (last.checked_add(1), open.last()) {
            begin_run(&mut runs, next, *region);
        }
    }
    runs
}

fn close_before(open: &mut Vec<(u128, u32)>, start: u128, runs: &mut Vec<(u128, u32)>) {
    while let [.., (_, outer), (last, _)] = open[..] {
        if last >= start {
            break;
        }
        begin_run(runs, last + 1, outer);
        open.pop();
    }
}

fn begin_run(runs: &mut Vec<(u128, u32)>, start: u128, region: u32) {
    if runs.last().is_some_and(|(held, _)| *held == start) {
        runs.pop();
    }
    if runs.last().is_none_or(|(_, held)| *held != region) {
        runs.push((start, region));
    }
}

/// Root of 2^`root_bits` entries and its nodes of `N` entries. Stops growing once it has more than `limit` nodes.
fn trie<const N: usize>(runs: &[(u128, u32)], root_bits: u32, limit: usize) -> (Vec<u32>, Vec<[u32; N]>) {
    let mut trie = Trie { runs, nodes: Vec::new(), seen: HashMap::new(), limit };
    let mut root = vec![0; 1 << root_bits];
    trie.fill(0, 128 - root_bits, 0, &mut root);
    (root, trie.nodes)
}

struct Trie<'r, const N: usize> {
    runs: &'r [(u128, u32)],
    nodes: Vec<[u32; N]>,
    /// Hash of a node's words to the first node with that hash.
    seen: HashMap<u64, u32>,
    limit: usize,
}

impl<const N: usize> Trie<'_, N> {
    /// Fills consecutive entries of 2^`shift` addresses each from `base` on; `run` is the run `base` lies in.
    fn fill(&mut self, base: u128, shift: u32, mut run: usize, entries: &mut [u32]) {
        for (child, entry) in entries.iter_mut().enumerate() {
            let start = base + ((child as u128) << shift);
            let last = start + ((1u128 << shift) - 1);
            while self.runs.get(run + 1).is_some_and(|(next, _)| *next <= start) {
                run += 1;
            }
            let differs = self.runs.get(run + 1).is_some_and(|(next, _)| *next <= last);
            *entry = if differs { self.link(start, shift, run) } else { self.leaf(start, run) };
        }
    }

    fn link(&mut self, start: u128, shift: u32, run: usize) -> u32 {
        if self.nodes.len() > self.limit {
            return 0;
        }
        let mut words = [0; N];
        self.fill(start, shift - N.ilog2(), run, &mut words);
        REGION_LINK | self.intern(words)
    }

    fn intern(&mut self, words: [u32; N]) -> u32 {
        let fold = |hash, pair: &[u32]| splitmix(hash ^ ((pair[0] as u64) << 32 | pair[1] as u64));
        let hash = words.chunks_exact(2).fold(0, fold);
        let number = self.nodes.len() as u32;
        let held = *self.seen.entry(hash).or_insert(number);
        if held != number && self.nodes[held as usize] == words {
            return held;
        }
        self.nodes.push(words);
        number
    }

    /// Region of a run with the length of the widest prefix around `address` that lies within the run.
    fn leaf(&self, address: u128, run: usize) -> u32 {
        let (start, region) = self.runs[run];
        let beyond = |other: u128| (address ^ other).leading_zeros() + 1;
        let below = start.checked_sub(1).map_or(0, beyond);
        let above = self.runs.get(run + 1).map_or(0, |(next, _)| beyond(*next));
        region | below.max(above) << 16
    }
}
