//! Coverages to share groups: who serves a region, tier by tier, with which share, as records of one cache line (P-12).
//!
//! A *spec* is what the configuration says and does not change with health or load; [`records`] turns it and the
//! targets' present states into records. Whoever compiles a generation and whoever follows health later call the same
//! function, so a box that saw a server die and one that started afterwards hold equal records (invariant 8).

use crate::model::{Network, Outcome, Pool, Target, TargetState, Tier};
use crate::outcomes::{coverages_with_outcomes, has_outcomes};
use crate::peering::{Provided, servers};
use crate::refusal::Refusal;
use crate::regions::Class;
use redirector_core::table::{NONE, SHARE_ENTRIES, ShareRecord, TIER_FALLBACK};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tree::Share;

mod tree;

/// Most targets of one tier: three levels of records.
pub const MAX_TIER_TARGETS: usize = SHARE_ENTRIES * SHARE_ENTRIES * SHARE_ENTRIES;
/// Most tiers that apply to one region: tier numbers are a byte, the last one means fallback.
pub const MAX_TIERS: usize = TIER_FALLBACK as usize;
/// Most cells: coverages × 2 families × regions (256 MiB).
pub const MAX_CELLS: usize = 1 << 26;

/// Weights count in 2^-36 of a share, so that the share of a pool divides among its members without visible error.
const WEIGHT_SCALE: u32 = 36;

/// A target and its share of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Index into the network's targets.
    pub target: u16,
    /// Relative to the tier's other members; never 0.
    pub weight: u64,
    /// Where among others it likes to stand: a hash of its name, so that it is the same whoever else there is.
    pub spot: u32,
}

/// One tier as it applies to a region and family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierSpec {
    /// Place among the tiers that apply to the region, 0 first; [`TIER_FALLBACK`] for a service's fallback.
    pub number: u8,
    /// Seconds; [`NONE`] takes the service's.
    pub ttl: u32,
    /// Microseconds that a target's round trip may be longer than the shortest; `None`: distance means nothing.
    pub within: Option<u32>,
    /// By target; at least one.
    pub members: Arc<[Member]>,
    /// The targets that the members lead to: without a usable one among them, none of the members is. `None`: they are
    /// what clients get.
    pub behind: Option<Arc<[Member]>>,
}

/// Everything a share group can ever answer, however health and load change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// In order of use; at least one. Tiers without a target of the family are left out.
    pub tiers: Vec<TierSpec>,
    /// Each tier is one target, and what its load factor takes from it goes to the tiers behind it.
    pub spills: bool,
}

impl Member {
    /// A target of a network with a weight.
    pub fn new(targets: &[Target], target: usize, weight: u64) -> Self {
        let spot = targets.get(target).map_or(0, |target| tree::spot(&target.name));
        Self { target: target as u16, weight, spot }
    }
}

impl GroupSpec {
    /// Most records a block of this group can have: those of all tiers.
    pub fn block_size(&self) -> usize {
        if self.spills {
            return tree::size(self.tiers.len());
        }
        let size =
            |tier: &TierSpec| tree::size(tier.members.len()) * if tier.within.is_some() { 2 } else { 1 };
        self.tiers.iter().map(size).sum()
    }
}

/// All of a group that spills; a part of it is never less than 1.
const WHOLE: u128 = 1 << 40;

impl GroupSpec {
    /// Of a group that spills: the targets that get clients, and how many of them. The last usable one takes all whom
    /// the others leave, whatever its factor.
    pub fn parts(&self, states: &[TargetState]) -> Vec<(u16, u128)> {
        let open = |tier: &TierSpec| {
            let member = tier.members.first()?;
            let is_open = !share(member, states).down && tier.leads_on(states);
            let factor = states.get(member.target as usize).map_or(256, |state| state.factor.min(256));
            is_open.then_some((member.target, factor))
        };
        let mut parts: Vec<(u16, u128)> = Vec::new();
        let mut left = WHOLE;
        for (target, factor) in self.tiers.iter().filter_map(open) {
            if left == 0 {
                break;
            }
            let weight = (left * u128::from(factor) / 256).max(1);
            left -= weight;
            parts.push((target, weight));
        }
        match (parts.last_mut(), self.tiers.last()) {
            (Some((_, last)), _) => *last += left,
            // What is not ours to give is not given because the provider's own servers are down.
            (None, Some(tier)) if tier.behind.is_none() => {
                parts.extend(tier.members.iter().map(|member| (member.target, WHOLE)));
            }
            (None, _) => {}
        }
        parts
    }
}

impl TierSpec {
    /// Whether some target is usable that its members lead to.
    pub fn leads_on(&self, states: &[TargetState]) -> bool {
        self.behind.as_ref().is_none_or(|behind| behind.iter().any(|member| !share(member, states).down))
    }

    /// Longest round trip in microseconds of targets that get clients while nearer ones are usable: the shortest of the
    /// usable targets, and what the tier allows beyond. `None`: distance means nothing, or nothing was measured.
    pub fn reach(&self, states: &[TargetState]) -> Option<u32> {
        let usable = self.members.iter().filter(|member| !share(member, states).down);
        let shortest = usable.filter_map(|member| round_trip(member.target, states)).min()?;
        Some(shortest.saturating_add(self.within?))
    }

    /// The members' shares, in the order in which they are used: those in reach, then the rest, who wait for clients to
    /// whom all of those have failed. Whoever is not meant keeps its place, marked down, so that its distance moves
    /// none but its own clients.
    fn rounds(&self, states: &[TargetState]) -> impl Iterator<Item = Vec<Share>> {
        let all: Vec<Share> = self.members.iter().map(|member| share(member, states)).collect();
        let part = |near: bool, reach: u32| {
            let marked = |share: &Share| {
                let is_near = round_trip(share.name, states).is_some_and(|measured| measured <= reach);
                Share { down: share.down || is_near != near, ..*share }
            };
            all.iter().map(marked).collect()
        };
        let rounds = match self.reach(states) {
            Some(reach) => vec![part(true, reach), part(false, reach)],
            None => vec![all],
        };
        rounds.into_iter().filter(|shares| !shares.iter().all(|share| share.down))
    }
}

fn round_trip(target: u16, states: &[TargetState]) -> Option<u32> {
    states.get(target as usize)?.round_trip
}

/// Records of a group under the targets' present states (missing states count as up): the tiers that have a usable
/// target, chained in order; `None` if no tier has. The first record is the first tier's root. A target that is down or
/// has factor 0 keeps its interval and is marked, so that only its own clients move; of one with a factor below 256 the
/// part moves that it no longer keeps. A tier that looks at distance has two roots: for its near targets, and for those
/// out of reach.
///
/// Record numbers count from the block's start until [`relocate`] is applied.
pub fn records(spec: &GroupSpec, states: &[TargetState]) -> Option<Vec<ShareRecord>> {
    if spec.spills {
        return spilling(spec, states);
    }
    let mut block: Vec<ShareRecord> = Vec::new();
    let mut last = None;
    let rounds = spec.tiers.iter().flat_map(|tier| tier.rounds(states).map(move |shares| (tier, shares)));
    for (tier, shares) in rounds {
        let root = block.len();
        let blank = ShareRecord { tier: tier.number, ttl: tier.ttl, ..Default::default() };
        block.push(blank);
        tree::fill(&mut block, root, &shares, blank);
        if let Some(last) = last.replace(root) {
            let before: &mut ShareRecord = &mut block[last];
            before.next = root as u32;
        }
    }
    (!block.is_empty()).then_some(block)
}

/// One record, or a tree, for tiers of which each leaves a part to those behind it.
fn spilling(spec: &GroupSpec, states: &[TargetState]) -> Option<Vec<ShareRecord>> {
    let members = || spec.tiers.iter().flat_map(|tier| tier.members.iter());
    let share = |(name, weight): (u16, u128)| {
        let spot = members().find(|member| member.target == name).map_or(0, |member| member.spot);
        Share { name, spot, weight, factor: 256, down: false }
    };
    let shares: Vec<Share> = spec.parts(states).into_iter().map(share).collect();
    if shares.is_empty() {
        return None;
    }
    let mut block = vec![ShareRecord::default()];
    tree::fill(&mut block, 0, &shares, ShareRecord::default());
    Some(block)
}

/// A member's share under the targets' present states.
fn share(member: &Member, states: &[TargetState]) -> Share {
    let factor = match states.get(member.target as usize) {
        None => 256,
        Some(state) if state.up => state.factor.min(256),
        Some(_) => 0,
    };
    let kept = if factor == 0 { 256 } else { factor };
    let weight = member.weight as u128;
    Share { name: member.target, spot: member.spot, weight, factor: kept, down: factor == 0 }
}

/// Makes a block's record numbers absolute: its first record will be number `first`.
pub fn relocate(block: &mut [ShareRecord], first: u32) {
    for record in block {
        if record.branch == 1 {
            record.base += first;
        }
        if record.next != NONE {
            record.next += first;
        }
    }
}

/// What a group's targets must be able to answer. The first two are numbered as in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With an IPv4 address.
    Ipv4,
    /// With an IPv6 address.
    Ipv6,
    /// With anything: what kind of answer it is comes first (ADR 13).
    Any,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv6, Self::Any];

    /// The family of addresses.
    pub fn family(v6: bool) -> Self {
        if v6 { Self::Ipv6 } else { Self::Ipv4 }
    }

    fn fits(self, target: &Target) -> bool {
        match self {
            Self::Ipv4 => target.ipv4.is_some(),
            Self::Ipv6 => target.ipv6.is_some(),
            Self::Any => true,
        }
    }
}

/// Cells and groups of a network.
#[derive(Default)]
pub(crate) struct Shares {
    /// Group by (coverage × 2 + family) × regions + region; [`NONE`] where no tier applies. Behind the network's
    /// coverages come those of `outcomes`, whose families are alike.
    pub(crate) cells: Vec<u32>,
    pub(crate) groups: Vec<GroupSpec>,
    /// Each service's fallback, by [`Kind`].
    pub(crate) fallbacks: Vec<[u32; 3]>,
    /// By coverage: the number under which its targets of every kind stand, if a service chooses among them.
    pub(crate) outcomes: Vec<Option<u32>>,
    /// By coverage: whether one of its targets is no server.
    with_outcomes: Vec<bool>,
    /// By service whose content is a provider's: the number under which stands who may serve it.
    pub(crate) provided: BTreeMap<usize, u32>,
    /// By target that is a provider's own server: the number under which it stands alone.
    pub(crate) outside: BTreeMap<usize, u32>,
    /// Whether each coverage has a target of IPv4 and IPv6 anywhere.
    pub(crate) families: Vec<[bool; 2]>,
}

impl Shares {
    /// For a service whose answers are not all servers, or not all ours to give: the number under which stands what it
    /// chooses first.
    pub(crate) fn chooses_outcome(&self, network: &Network, index: usize) -> Option<u32> {
        if let Some(number) = self.provided.get(&index) {
            return Some(*number);
        }
        let service = &network.services[index];
        let number = self.outcomes[service.coverage]?;
        has_outcomes(service, &network.targets, &self.with_outcomes).then_some(number)
    }
}

/// Builds cells and groups; groups are numbered by first use in the order of the cells, then of the services.
pub(crate) fn build(network: &Network, classes: &[Class], refusals: &mut Vec<Refusal>) -> Shares {
    let regions = classes.len();
    let with_outcomes = coverages_with_outcomes(&network.targets, &network.pools, &network.coverages);
    let outcomes = outcome_coverages(network, &with_outcomes);
    let first = network.coverages.len() + outcomes.iter().flatten().count();
    let (rows, provided) = provided_rows(network, first as u32);
    let outside = outside_rows(network, (first + rows.len()) as u32);
    let count = first + rows.len() + outside.len();
    if count.saturating_mul(2 * regions) > MAX_CELLS {
        refusals.push(Refusal::of_network(
            "coverages",
            format!("{count} coverages × {regions} regions × 2 are more than {MAX_CELLS} cells"),
            "share coverages among services, or merge regions",
        ));
        return Shares::default();
    }
    let mut builder = Builder::new(network, classes);
    for coverage in 0..network.coverages.len() {
        builder.coverage(coverage, [Kind::Ipv4, Kind::Ipv6], refusals);
    }
    for coverage in (0..network.coverages.len()).filter(|coverage| outcomes[*coverage].is_some()) {
        builder.coverage(coverage, [Kind::Any; 2], refusals);
    }
    for row in &rows {
        builder.provided(row, refusals);
    }
    for target in outside.keys() {
        builder.outside(*target);
    }
    builder.services(refusals);
    Shares { outside, outcomes, with_outcomes, provided, ..builder.shares }
}

/// Numbers for the servers that providers' own CDNs are.
fn outside_rows(network: &Network, first: u32) -> BTreeMap<usize, u32> {
    let providers = network.peering.providers.iter();
    let is_server = |target: &usize| network.targets[*target].outcome == Outcome::Server;
    let targets: BTreeSet<usize> =
        providers.filter_map(|provider| provider.outside).filter(is_server).collect();
    targets.into_iter().zip(first..).collect()
}

/// Who may serve, for the clients of each network; and the coverage of the servers.
#[derive(PartialEq, Eq, Hash, Clone)]
struct ProvidedRow {
    coverage: usize,
    /// By network.
    targets: Vec<Vec<usize>>,
}

/// What providers' services choose among, each once, and the number of each service's; `first` is that of the first.
fn provided_rows(network: &Network, first: u32) -> (Vec<ProvidedRow>, BTreeMap<usize, u32>) {
    let (mut rows, mut numbers) = (Vec::new(), HashMap::new());
    let mut number = |provided: &Provided| {
        let networks = 0..network.peering.networks.len();
        let targets = networks.map(|one| servers(network, provided, one)).collect();
        let row = ProvidedRow { coverage: network.services[provided.service].coverage, targets };
        let next = first + rows.len() as u32;
        let number = *numbers.entry(row.clone()).or_insert(next);
        if number == next {
            rows.push(row);
        }
        (provided.service, number)
    };
    let provided = network.peering.provided.iter().map(&mut number).collect();
    (rows, provided)
}

/// Numbers for the coverages that services choose from whose answers are not all servers.
fn outcome_coverages(network: &Network, with_outcomes: &[bool]) -> Vec<Option<u32>> {
    let mut numbers = vec![None; with_outcomes.len()];
    for service in network.services.iter().filter(|one| has_outcomes(one, &network.targets, with_outcomes)) {
        numbers[service.coverage] = Some(0);
    }
    for (number, held) in (with_outcomes.len() as u32..).zip(numbers.iter_mut().flatten()) {
        *held = number;
    }
    numbers
}

/// What makes groups equal: number, TTL, distance and members of each tier, and the members behind them.
type GroupKey = Vec<(u8, u32, Option<u32>, u32, Option<u32>)>;
/// Members of a tier, if it has any, and their number among all distinct lists.
type Interned = Option<(u32, Arc<[Member]>)>;

struct Builder<'n> {
    network: &'n Network,
    classes: &'n [Class],
    /// Per kind and pool: members that fit and their part of the pool.
    pools: [Vec<Vec<Member>>; 3],
    by_pools: [HashMap<&'n [(usize, u32)], Interned>; 3],
    by_members: HashMap<Arc<[Member]>, u32>,
    /// Whether it spills, too.
    by_key: HashMap<(bool, GroupKey), u32>,
    shares: Shares,
}

impl<'n> Builder<'n> {
    fn new(network: &'n Network, classes: &'n [Class]) -> Self {
        let pools = Kind::ALL
            .map(|kind| network.pools.iter().map(|pool| pool_members(network, pool, kind)).collect());
        Self {
            network,
            classes,
            pools,
            by_pools: Default::default(),
            by_members: HashMap::new(),
            by_key: HashMap::new(),
            shares: Shares::default(),
        }
    }

    /// Adds a coverage's cells, one row for each of `kinds`.
    fn coverage(&mut self, index: usize, kinds: [Kind; 2], refusals: &mut Vec<Refusal>) {
        let network = self.network;
        let coverage = &network.coverages[index];
        let mut tiers_of: HashMap<usize, Vec<usize>> = HashMap::new();
        for region in coverage.tiers.iter().filter_map(|tier| tier.region) {
            tiers_of.entry(region).or_default();
        }
        let mut everywhere = Vec::new();
        for (number, tier) in coverage.tiers.iter().enumerate() {
            match tier.region {
                Some(region) => tiers_of.entry(region).or_default().push(number),
                None => {
                    everywhere.push(number);
                    tiers_of.values_mut().for_each(|numbers| numbers.push(number));
                }
            }
        }
        if tiers_of.values().chain([&everywhere]).any(|numbers| numbers.len() > MAX_TIERS) {
            refusals.push(Refusal::new(
                format!("coverage {:?}", coverage.name),
                &coverage.origin,
                format!("more than {MAX_TIERS} tiers apply to one region"),
                "merge tiers",
            ));
            return;
        }
        let mut families = [false; 2];
        for (kind, has) in kinds.into_iter().zip(&mut families) {
            let lists: Vec<Interned> =
                coverage.tiers.iter().map(|tier| self.tier_members(tier, kind, refusals)).collect();
            *has = lists.iter().any(Option::is_some);
            let elsewhere = self.group(&coverage.tiers, &everywhere, &lists);
            for class in self.classes {
                let numbers = (class.region as usize).checked_sub(1).and_then(|region| tiers_of.get(&region));
                let group = match numbers {
                    Some(numbers) => self.group(&coverage.tiers, numbers, &lists),
                    None => elsewhere,
                };
                self.shares.cells.push(group);
            }
        }
        self.shares.families.push(families);
    }

    /// Group of the tiers `numbers`, made if it is new.
    fn group(&mut self, tiers: &[Tier], numbers: &[usize], lists: &[Interned]) -> u32 {
        let mut specs = Vec::new();
        let mut key = GroupKey::new();
        for (place, number) in numbers.iter().enumerate() {
            if let Some((list, members)) = &lists[*number] {
                let (place, tier) = (place as u8, &tiers[*number]);
                let (ttl, within) = (tier.ttl.unwrap_or(NONE), tier.within);
                key.push((place, ttl, within, *list, None));
                let members = members.clone();
                specs.push(TierSpec { number: place, ttl, within, members, behind: None });
            }
        }
        self.add_group(key, specs, false)
    }

    fn add_group(&mut self, key: GroupKey, tiers: Vec<TierSpec>, spills: bool) -> u32 {
        if tiers.is_empty() {
            return NONE;
        }
        let groups = &mut self.shares.groups;
        *self.by_key.entry((spills, key)).or_insert_with(|| {
            groups.push(GroupSpec { tiers, spills });
            groups.len() as u32 - 1
        })
    }

    /// Adds the cells of who may serve providers' content.
    fn provided(&mut self, row: &ProvidedRow, refusals: &mut Vec<Refusal>) {
        let network = self.network;
        let tiers = &network.coverages[row.coverage].tiers;
        let lists: Vec<Interned> =
            tiers.iter().map(|tier| self.tier_members(tier, Kind::Any, refusals)).collect();
        let mut cells = Vec::with_capacity(self.classes.len());
        let mut servers_of: HashMap<u32, Interned> = HashMap::new();
        for class in self.classes {
            let servers = servers_of.entry(class.region).or_insert_with(|| {
                let region = (class.region as usize).checked_sub(1);
                let applies = |tier: &Tier| tier.region.is_none() || tier.region == region;
                let applying = tiers.iter().zip(&lists).filter(|(tier, _)| applies(tier));
                let members = applying.filter_map(|(_, list)| list.as_ref());
                // Whether there is one, not how many clients it would get: so most regions share a group.
                let targets: BTreeSet<u16> =
                    members.flat_map(|(_, members)| members.iter().map(|member| member.target)).collect();
                self.intern(
                    targets
                        .into_iter()
                        .map(|target| Member::new(&network.targets, target.into(), 1))
                        .collect(),
                )
            });
            let servers = servers.clone();
            cells.push(self.provided_group(&row.targets[class.network as usize], servers));
        }
        // Either family: what kind of answer it is comes first.
        self.shares.cells.extend_from_slice(&cells);
        self.shares.cells.extend(cells);
    }

    /// Adds the cells of a provider's own server.
    fn outside(&mut self, target: usize) {
        for kind in [Kind::Ipv4, Kind::Ipv6] {
            let fits = kind.fits(&self.network.targets[target]);
            let member = Member::new(&self.network.targets, target, 1);
            let group = match self.intern(fits.then_some(member).into_iter().collect()) {
                Some((list, members)) => {
                    let key = vec![(0, NONE, None, list, None)];
                    let tier = TierSpec { number: 0, ttl: NONE, within: None, members, behind: None };
                    self.add_group(key, vec![tier], false)
                }
                None => NONE,
            };
            self.shares.cells.extend(std::iter::repeat_n(group, self.classes.len()));
        }
    }

    fn provided_group(&mut self, targets: &[usize], servers: Interned) -> u32 {
        let (mut key, mut specs) = (GroupKey::new(), Vec::new());
        for (place, target) in targets.iter().enumerate() {
            let number = place.min(MAX_TIERS - 1) as u8;
            let stands_for_servers = self.network.targets[*target].outcome == Outcome::OwnServers;
            let behind = if stands_for_servers {
                // Nobody there who could serve.
                let Some(servers) = &servers else { continue };
                Some(servers)
            } else {
                None
            };
            let member = Member::new(&self.network.targets, *target, 1);
            let Some((list, members)) = self.intern(vec![member]) else { continue };
            key.push((number, NONE, None, list, behind.map(|(list, _)| *list)));
            let behind = behind.map(|(_, members)| members.clone());
            specs.push(TierSpec { number, ttl: NONE, within: None, members, behind });
        }
        self.add_group(key, specs, true)
    }

    fn tier_members(&mut self, tier: &'n Tier, kind: Kind, refusals: &mut Vec<Refusal>) -> Interned {
        let family = kind as usize;
        if let Some(known) = self.by_pools[family].get(&tier.pools[..]) {
            return known.clone();
        }
        let mut members: Vec<Member> = Vec::new();
        for (pool, share) in &tier.pools {
            let scaled = |member: &Member| Member { weight: member.weight * *share as u64, ..*member };
            members.extend(self.pools[family][*pool].iter().map(scaled));
        }
        let interned = self.intern(members);
        if interned.as_ref().is_some_and(|(_, members)| members.len() > MAX_TIER_TARGETS) {
            refusals.push(Refusal::new(
                "tier",
                &tier.origin,
                format!("its pools have more than {MAX_TIER_TARGETS} targets"),
                "split it into tiers or regions with fewer targets each",
            ));
        }
        self.by_pools[family].insert(&tier.pools, interned.clone());
        interned
    }

    /// Brings a list of members into its one form: by target, each once, weights without common divisor.
    fn intern(&mut self, mut members: Vec<Member>) -> Interned {
        members.sort_unstable();
        members.dedup_by(|next, held| {
            let same = next.target == held.target;
            if same {
                held.weight += next.weight;
            }
            same
        });
        let divisor = members.iter().fold(0, |divisor, member| gcd(divisor, member.weight));
        members.iter_mut().for_each(|member| member.weight /= divisor);
        if members.is_empty() {
            return None;
        }
        let members: Arc<[Member]> = members.into();
        let next = self.by_members.len() as u32;
        let number = *self.by_members.entry(members.clone()).or_insert(next);
        Some((number, members))
    }

    fn services(&mut self, refusals: &mut Vec<Refusal>) {
        for service in &self.network.services {
            let groups = Kind::ALL.map(|kind| {
                let has = |target: &&usize| kind.fits(&self.network.targets[**target]);
                let member = |target: &usize| Member::new(&self.network.targets, *target, 1);
                let members: Vec<Member> = service.fallback.iter().filter(has).map(member).collect();
                let Some((list, members)) = self.intern(members) else { return NONE };
                if members.len() > MAX_TIER_TARGETS {
                    refusals.push(Refusal::new(
                        format!("service {:?}", service.name),
                        &service.origin,
                        format!("its fallback has more than {MAX_TIER_TARGETS} targets"),
                        "name fewer",
                    ));
                }
                let spec = TierSpec { number: TIER_FALLBACK, ttl: NONE, within: None, members, behind: None };
                self.add_group(vec![(TIER_FALLBACK, NONE, None, list, None)], vec![spec], false)
            });
            self.shares.fallbacks.push(groups);
        }
    }
}

/// Members that fit; weights are parts of the pool in 2^-36, so a pool's share is divided among those of its members
/// that can serve the family. What is no server keeps its part, which its clients have left with before.
fn pool_members(network: &Network, pool: &Pool, kind: Kind) -> Vec<Member> {
    let target = |member: &(usize, u32)| &network.targets[member.0];
    let able = || pool.members.iter().filter(|member| kind.fits(target(member)));
    let counted = pool
        .members
        .iter()
        .filter(|member| kind.fits(target(member)) || target(member).outcome != Outcome::Server);
    let total: u64 = counted.map(|(_, weight)| *weight as u64).sum();
    let part = |weight: u32| (((weight as u64) << WEIGHT_SCALE) + total / 2) / total;
    able().map(|(target, weight)| Member::new(&network.targets, *target, part(*weight))).collect()
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
