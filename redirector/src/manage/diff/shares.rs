//! Who gets which share of whose clients: the production choice is asked by two configurations' tables for hashes that lie
//! evenly over all there are.

use super::region_of;
use crate::dataplane::Reading;
use crate::front::url::choose;
use crate::manage::view::View;
use ipnet::IpNet;
use redirector_core::table::{
    CHOOSE_CONTENT, GroupPointer, Meta, NONE, NameBucket, Node64, Page256, Service, ShareRecord, Tables,
    Target, VipBucket, VipInfo, WireName, Words16, Zone,
};
use redirector_core::wire::cdsr::Located;
use redirector_plan::model::{ChooseBy, Network};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Choices that are asked for in all, about; and for one region and service, at least and at most.
const CHOICES: usize = 20_000_000;
const LEAST: usize = 32;
const MOST: usize = 1024;
/// Addresses that are in no region, unless somebody has put them there.
const NOWHERE: [&str; 6] =
    ["192.0.2.77", "198.51.100.77", "203.0.113.77", "100.64.0.77", "2001:db8:ffff::77", "100::77"];
/// Spreads numbers over all hashes.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Clients of a region who get other targets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShareChange {
    /// Services that this is true of.
    pub services: Vec<String>,
    /// Where the clients are: a region, `network NAME`, or `-`.
    pub region: String,
    /// `ipv4` or `ipv6`, of the clients.
    pub family: &'static str,
    /// Percent of the clients that get another target.
    pub moved: f64,
    /// Percent of the clients that each target gets, before.
    pub before: BTreeMap<String, f64>,
    /// After.
    pub after: BTreeMap<String, f64>,
}

/// All of that.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Most moved first.
    pub changes: Vec<ShareChange>,
    /// Services and regions that were compared.
    pub compared: u64,
    /// Percent of clients that move, over all services and regions, each counted alike.
    pub moved_by_region: f64,
    /// The same, regions counted by their prefixes.
    pub moved_by_prefix: f64,
    /// Choices that were asked for each: shares are exact to about one in the root of this.
    pub choices: usize,
}

/// Where clients are, and how much they count.
struct Place {
    region: String,
    client: IpAddr,
    prefixes: u64,
}

/// Services of both that are alike in everything that shares depend on.
struct Alike {
    names: Vec<String>,
    old: usize,
    new: usize,
    /// Another part of a client counts for its choice: all choose anew.
    anew: bool,
}

pub(super) fn compare(old: &View, new: &View) -> Shares {
    let (services, places) = (services(old, new), places(old, new));
    let pairs = services.len() * places.len();
    let choices = (CHOICES / pairs.max(1)).clamp(LEAST, MOST);
    let mut shares = Shares { choices, ..Shares::default() };
    let (old_tables, new_tables) = (ByContent::new(old), ByContent::new(new));
    let (mut regions, mut prefixes, mut all_prefixes) = (0.0, 0.0, 0.0);
    for alike in &services {
        for place in &places {
            let sides = [(old, &old_tables, alike.old, false), (new, &new_tables, alike.new, alike.anew)];
            let [before, after] = sides.map(|(view, tables, service, anew)| {
                (0..choices as u64)
                    .map(|place_of| target(view, tables, service, place.client, hash(place_of, anew)))
                    .collect::<Vec<_>>()
            });
            let differ = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            let moved = differ as f64 / choices as f64;
            let weight = place.prefixes as f64 * alike.names.len() as f64;
            shares.compared += alike.names.len() as u64;
            regions += moved * alike.names.len() as f64;
            (prefixes, all_prefixes) = (prefixes + moved * weight, all_prefixes + weight);
            if differ > 0 {
                shares.changes.push(ShareChange {
                    services: alike.names.clone(),
                    region: place.region.clone(),
                    family: if place.client.is_ipv4() { "ipv4" } else { "ipv6" },
                    moved: 100.0 * moved,
                    before: parts(&before),
                    after: parts(&after),
                });
            }
        }
    }
    shares.moved_by_region = 100.0 * regions / (shares.compared as f64).max(1.0);
    shares.moved_by_prefix = 100.0 * prefixes / f64::max(all_prefixes, 1.0);
    shares.changes.sort_by(|a, b| {
        b.moved
            .total_cmp(&a.moved)
            .then_with(|| (&a.services, &a.region, a.family).cmp(&(&b.services, &b.region, b.family)))
    });
    shares
}

fn hash(place: u64, anew: bool) -> u64 {
    let hash = (place + 1).wrapping_mul(GOLDEN);
    if anew { !hash.rotate_left(31) } else { hash }
}

fn parts(targets: &[&str]) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::<String, f64>::new();
    let one = 100.0 / targets.len().max(1) as f64;
    for target in targets {
        *counts.entry((*target).to_owned()).or_default() += one;
    }
    counts
}

/// Whom a client is sent to; `-`: nobody.
fn target<'v>(
    view: &'v View,
    tables: &ByContent<'_>,
    service: usize,
    client: IpAddr,
    content: u64,
) -> &'v str {
    let mut located = Located::default();
    (located.service, located.content) = (service as u32, content);
    let decided = choose(tables, SocketAddr::new(client, 40_000), &located, 1);
    let chosen =
        decided.filter(|decided| decided.verdict.count > 0).map(|decided| decided.verdict.targets[0]);
    let targets = &view.generation.config.network.targets;
    chosen.and_then(|number| targets.get(number as usize)).map_or("-", |target| target.name.as_str())
}

/// Services that both have, those that are alike together.
fn services(old: &View, new: &View) -> Vec<Alike> {
    let (old, new) = (&old.generation.config.network, &new.generation.config.network);
    let by_name: BTreeMap<&str, usize> =
        new.services.iter().enumerate().map(|(index, service)| (service.name.as_str(), index)).collect();
    let mut groups = BTreeMap::<_, Alike>::new();
    for (index, service) in old.services.iter().enumerate() {
        let Some(other) = by_name.get(service.name.as_str()).copied() else { continue };
        let anew = service.choose_by != new.services[other].choose_by;
        let key = (likeness(old, index), likeness(new, other));
        let fresh = Alike { names: Vec::new(), old: index, new: other, anew };
        groups.entry(key).or_insert(fresh).names.push(service.name.clone());
    }
    groups.into_values().collect()
}

/// Everything of a service that its shares depend on.
fn likeness(network: &Network, index: usize) -> (usize, Vec<usize>, u8, Option<usize>, String) {
    let service = &network.services[index];
    let choose_by = match service.choose_by {
        ChooseBy::ClientPrefix => 0,
        ChooseBy::Client => 1,
        ChooseBy::Content => 2,
        ChooseBy::Spread => 3,
    };
    let provider = network.peering.provided(index).map(|provided| provided.provider);
    // Agreements may cover some services or classes alone.
    let covered =
        if provider.is_some() { format!("{} {}", service.name, service.class) } else { String::new() };
    (service.coverage, service.fallback.clone(), choose_by, provider, covered)
}

/// A client of each region and network, of each family that they have.
fn places(old: &View, new: &View) -> Vec<Place> {
    let mut places = Vec::new();
    let mut known = BTreeSet::new();
    for view in [old, new] {
        let network = &view.generation.config.network;
        for region in &network.regions {
            for v6 in [false, true] {
                let prefixes = region.prefixes.iter().filter(|prefix| prefix.network().is_ipv6() == v6);
                let within = |client: &IpAddr| region_of(view, *client) == region.name;
                let Some(client) = prefixes.clone().find_map(|prefix| addresses(*prefix).find(within)) else {
                    continue;
                };
                if known.insert((region.name.clone(), v6)) {
                    let prefixes = prefixes.count() as u64;
                    places.push(Place { region: region.name.clone(), client, prefixes });
                }
            }
        }
        for client_network in &network.peering.networks {
            for v6 in [false, true] {
                let name = format!("network {}", client_network.name);
                let prefixes =
                    client_network.prefixes.iter().filter(|prefix| prefix.network().is_ipv6() == v6);
                let Some(client) = prefixes.clone().next().map(IpNet::network) else { continue };
                if known.insert((name.clone(), v6)) {
                    places.push(Place { region: name, client, prefixes: prefixes.count() as u64 });
                }
            }
        }
    }
    for v6 in [false, true] {
        let nowhere = NOWHERE.iter().filter_map(|text| text.parse::<IpAddr>().ok());
        let mut nowhere = nowhere.filter(|client| client.is_ipv6() == v6);
        let client = nowhere.find(|client| region_of(old, *client) == "-" && region_of(new, *client) == "-");
        places.extend(client.map(|client| Place { region: "-".to_owned(), client, prefixes: 1 }));
    }
    places
}

/// Some addresses of a prefix, of which one may be in no region within it.
fn addresses(prefix: IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, last) = (prefix.network(), prefix.broadcast());
    let middle = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            IpAddr::V4((first.to_bits() + (last.to_bits() - first.to_bits()) / 2).into())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            IpAddr::V6((first.to_bits() + (last.to_bits() - first.to_bits()) / 2).into())
        }
        _ => first,
    };
    [first, middle, last].into_iter()
}

/// Tables in which every service chooses by a hash that the caller gives.
struct ByContent<'v> {
    tables: Reading<'v>,
    services: Vec<Service>,
}

impl<'v> ByContent<'v> {
    fn new(view: &'v View) -> Self {
        let by_content = |service: &Service| Service { choose_by: CHOOSE_CONTENT, ..*service };
        let services = view.generation.compiled.image.services.iter().map(by_content).collect();
        Self { tables: view.generation.tables.read(), services }
    }
}

macro_rules! delegate {
    ($($method:ident: $value:ty;)*) => { $(
        fn $method(&self, index: u32) -> Option<&$value> {
            self.tables.$method(index)
        }
    )* };
}

impl Tables for ByContent<'_> {
    fn unix_seconds(&self) -> u32 {
        self.tables.unix_seconds()
    }
    fn meta(&self) -> Option<&Meta> {
        self.tables.meta()
    }
    fn service(&self, index: u32) -> Option<&Service> {
        self.services.get(index as usize).filter(|_| index != NONE)
    }
    fn cell(&self, number: u32) -> Option<u32> {
        self.tables.cell(number)
    }
    fn group(&self, index: u32) -> Option<GroupPointer> {
        self.tables.group(index)
    }
    fn object(&self, _bucket: u32, _mark: u64) -> Option<u64> {
        // No object is meant by a hash of the caller's.
        Some(0)
    }
    delegate! {
        vip_bucket: VipBucket;
        vip_info: VipInfo;
        suffix_bucket: NameBucket;
        zone: Zone;
        name_bucket: NameBucket;
        ipv4_root: Words16;
        ipv4_page: Page256;
        ipv6_root: Words16;
        ipv6_node: Node64;
        region_counters: Words16;
        record: ShareRecord;
        target: Target;
        wire_name: WireName;
    }
}
