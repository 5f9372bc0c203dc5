//! Network and target states to the tables of a generation, or the reasons why not (invariant 4).
//!
//! Pure: equal input gives equal bytes, and nothing in an answer depends on what a box compiled before (invariant 8).

use crate::check::check;
use crate::counters::CounterIds;
use crate::image::TableImage;
use crate::model::{ChooseBy, DnsAnswer, Network, Service, Target, TargetState};
use crate::names::{self, CDSR_LABEL, NS_LABEL, ZoneSource};
use crate::outcomes;
use crate::peering;
use crate::proofs::{ProofSpec, Proofs, Twin};
use crate::refusal::Refusal;
use crate::regions::{self, Class, pack_words};
use crate::shares::{self, GroupSpec, Kind, Shares, TierSpec, records, relocate};
use crate::vips::{self, ipv4_word, ipv6_words};
use redirector_core::hash::Keys;
use redirector_core::limit::Rates;
use redirector_core::lookup::mapped;
use redirector_core::table::{
    BOX_NAME_WORDS, CHOOSE_CLIENT, CHOOSE_CLIENT_PREFIX, CHOOSE_CONTENT, CHOOSE_SPREAD, GroupPointer,
    LAYOUT_VERSION, Meta, NONE, SERVICE_BINDING, SERVICE_DNS_VIP, SERVICE_HAS_IPV4, SERVICE_HAS_IPV6,
    SERVICE_OUTCOMES, SERVICE_PORT, SERVICE_PROVIDED, SERVICE_SRV, Service as ServiceRecord, ShareRecord,
    Target as TargetRecord,
};
use redirector_core::wire::dns::cookie::secret;
use std::collections::BTreeMap;

/// Most records of an image (1 GiB).
pub const MAX_RECORDS: usize = 1 << 24;

/// A generation and what is needed to follow health and load, and to explain it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The tables.
    pub image: TableImage,
    /// By share group number.
    pub groups: Vec<GroupSpec>,
    /// By target number: the groups that can answer with it, ascending.
    pub target_groups: Vec<Vec<u32>>,
    /// Records in use, from the front; the rest are room for later ones.
    pub records_used: u32,
    /// By zone number: the rules it was made from.
    pub(crate) sources: Vec<ZoneSource>,
    /// By coverage: the number under which its targets of every kind stand in the cells.
    pub(crate) outcomes: Vec<Option<u32>>,
    /// By service whose content is a provider's: the number under which stands who may serve it.
    pub(crate) provided: BTreeMap<usize, u32>,
    /// What region numbers in tables and verdicts mean.
    pub classes: Vec<Class>,
    /// What services that ask for proofs stand for.
    pub(crate) proofs: Proofs,
}

impl Compiled {
    /// What a service with [`redirector_core::table::SERVICE_PROOF`] stands for.
    pub fn proof(&self, service: u32) -> Option<&ProofSpec> {
        self.proofs.get(service)
    }

    /// Index of the network's service that a service number of the tables means, or stands for.
    pub fn written(&self, network: &Network, service: u32) -> Option<usize> {
        self.proofs.written(service, network.services.len())
    }

    /// The port that is told for a service instead of its servers' own.
    pub fn other_port(&self, service: u32) -> Option<u16> {
        let record = self.image.services.get(service as usize)?;
        (record.flags & SERVICE_PORT != 0).then_some(record.port)
    }
}

/// Records of an image whose groups need `needed` records at most at one time: room for every group's block to be
/// written anew twice while readers may still look at the one before, and in small images for thousands of changes
/// before the first is forgotten.
pub fn record_capacity(needed: usize) -> usize {
    needed * 3 + 8192
}

/// Builds the tables of `generation`. `states` has one entry per target; `ids` gives counter slots.
///
/// # Errors
/// Every reason why the network cannot be compiled; nothing is ever left out silently.
pub fn compile(
    network: &Network,
    states: &[TargetState],
    generation: u64,
    ids: &mut impl CounterIds,
) -> Result<Compiled, Vec<Refusal>> {
    let mut refusals = check(network, states);
    outcomes::check(network, &mut refusals);
    peering::check(network, &mut refusals);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let keys = Keys::new(network.key);
    let regions = regions::build(network, &mut refusals);
    let proofs = Proofs::new(network);
    let names = names::build(network, &keys, &proofs, &mut refusals);
    let (mut vips, vip_info) = vips::build(network, &keys, &names, &mut refusals);
    let shares = shares::build(network, &regions.classes, &mut refusals);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let arena = place_records(&shares.groups, states).map_err(|refusal| vec![refusal])?;
    // Last, so that a refused network takes no slots.
    let slots = CounterNumbers::take(network, ids).map_err(|refusal| vec![refusal])?;
    vips::count(&mut vips, &slots.vips);
    let (box_name, box_name_length) = name_words(&network.box_name);
    let mut names_of_targets = outcomes::Names::new(network);
    let targets = target_records(network, &keys, &slots.targets, &mut names_of_targets);
    let region_counters: Vec<u32> =
        regions.classes.iter().map(|class| slots.regions[class.region as usize]).collect();
    let services = service_records(network, &keys, &shares, &proofs, &slots.services, &mut names_of_targets);
    let image = TableImage {
        meta: Meta {
            layout: LAYOUT_VERSION,
            regions: regions.classes.len() as u32,
            generation,
            keys,
            ns_label: keys.text(NS_LABEL.as_bytes(), true),
            cdsr_label: keys.text(CDSR_LABEL.as_bytes(), true),
            suffix_mask: names.suffixes.len() as u32 - 1,
            name_mask: names.names.len() as u32 - 1,
            cookie_secret: secret(network.key),
            box_name,
            box_name_length,
            reserved: 0,
            limits: Rates::default(),
        },
        vips,
        vip_info,
        suffixes: names.suffixes,
        zones: names.zones,
        names: names.names,
        services,
        ipv4_root: regions.ipv4_root,
        ipv4_pages: regions.ipv4_pages,
        ipv6_root: regions.ipv6_root,
        ipv6_nodes: regions.ipv6_nodes,
        region_counters: pack_words(&region_counters, 0),
        cells: pack_words(&shares.cells, NONE),
        groups: arena.pointers,
        records: arena.records,
        targets,
        wire_names: or_one(names_of_targets.names),
    };
    let target_groups = target_groups(network.targets.len(), &shares.groups);
    Ok(Compiled {
        image,
        groups: shares.groups,
        target_groups,
        records_used: arena.used,
        sources: names.sources,
        outcomes: shares.outcomes,
        provided: shares.provided,
        classes: regions.classes,
        proofs,
    })
}

/// A box's name as tables hold it, cut to its first bytes if it is longer, and how many they are.
fn name_words(name: &str) -> ([u64; BOX_NAME_WORDS], u32) {
    let mut bytes = [[0; 8]; BOX_NAME_WORDS];
    let room = bytes.as_flattened_mut();
    let length = name.len().min(room.len());
    room[..length].copy_from_slice(&name.as_bytes()[..length]);
    (bytes.map(u64::from_be_bytes), length as u32)
}

/// Records of all groups and the pointers to them.
struct Arena {
    pointers: Vec<GroupPointer>,
    records: Vec<ShareRecord>,
    used: u32,
}

/// Groups must be within the limits that [`shares::build`] checks.
fn place_records(groups: &[GroupSpec], states: &[TargetState]) -> Result<Arena, Refusal> {
    let capacity = record_capacity(groups.iter().map(GroupSpec::block_size).sum());
    if capacity > MAX_RECORDS {
        return Err(Refusal::of_network(
            "coverages",
            format!("{} share groups need {capacity} records, more than {MAX_RECORDS}", groups.len()),
            "let regions share tiers",
        ));
    }
    let mut arena = Arena { pointers: Vec::new(), records: Vec::with_capacity(capacity), used: 0 };
    for group in groups {
        let first = arena.records.len() as u32;
        let pointer = match records(group, states) {
            Some(mut block) => {
                relocate(&mut block, first);
                arena.records.extend(block);
                first
            }
            None => NONE,
        };
        arena.pointers.push(GroupPointer::new(pointer, 0));
    }
    if arena.pointers.is_empty() {
        arena.pointers.push(GroupPointer::new(NONE, 0));
    }
    arena.used = arena.records.len() as u32;
    arena.records.resize(capacity, ShareRecord::default());
    Ok(arena)
}

fn target_groups(targets: usize, groups: &[GroupSpec]) -> Vec<Vec<u32>> {
    let mut index: Vec<Vec<u32>> = vec![Vec::new(); targets];
    for (number, group) in groups.iter().enumerate() {
        let number = number as u32;
        let members = |tier: &TierSpec| {
            let behind = tier.behind.clone();
            tier.members
                .iter()
                .copied()
                .chain(behind.iter().flat_map(|one| one.iter().copied()))
                .collect::<Vec<_>>()
        };
        for member in group.tiers.iter().flat_map(members) {
            let held = &mut index[member.target as usize];
            // Several tiers can name one target.
            if held.last() != Some(&number) {
                held.push(number);
            }
        }
    }
    index
}

/// Counter slots by index; of regions by region number.
#[derive(Default)]
struct CounterNumbers {
    services: Vec<u32>,
    regions: Vec<u32>,
    targets: Vec<u32>,
    vips: Vec<u32>,
}

impl CounterNumbers {
    fn take(network: &Network, ids: &mut impl CounterIds) -> Result<Self, Refusal> {
        let full = |kind: &str, name: &str| {
            Refusal::of_network(
                format!("{kind} {name:?}"),
                "no counter slot is left for it (slots of removed names are never given to others)",
                "raise the number of counter slots",
            )
        };
        let mut slots = Self { regions: vec![0], ..Self::default() };
        for service in &network.services {
            slots.services.push(ids.service(&service.name).ok_or_else(|| full("service", &service.name))?);
        }
        for region in &network.regions {
            slots.regions.push(ids.region(&region.name).ok_or_else(|| full("region", &region.name))?);
        }
        for target in &network.targets {
            slots.targets.push(ids.target(&target.name).ok_or_else(|| full("target", &target.name))?);
        }
        for vip in &network.vips {
            slots.vips.push(ids.vip(&vip.name).ok_or_else(|| full("vip", &vip.name))?);
        }
        Ok(slots)
    }
}

fn service_records<'n>(
    network: &'n Network,
    keys: &Keys,
    shares: &Shares,
    proofs: &'n Proofs,
    counters: &[u32],
    names: &mut outcomes::Names<'n>,
) -> Vec<ServiceRecord> {
    let mut outcomes = (network.services.len() + proofs.twins.len() + proofs.list.len()) as u32..;
    let record = |(index, service): (usize, &'n Service)| {
        let [v4, v6, _] = shares.fallbacks[index];
        let fallback = [v4, v6];
        let has = |family: usize| shares.families[service.coverage][family] || fallback[family] != NONE;
        let chooses = shares.chooses_outcome(network, index);
        let provided = shares.provided.contains_key(&index);
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        ServiceRecord {
            salt: keys.text(service.name.as_bytes(), false),
            coverage: service.coverage as u32,
            ttl: service.ttl,
            hint_lifetime: service.hint_lifetime,
            counter: counters[index],
            fallback,
            choose_by: choose_by(service.choose_by),
            answers: service.answers,
            flags: flag(has(0), SERVICE_HAS_IPV4)
                | flag(has(1), SERVICE_HAS_IPV6)
                | flag(service.dns == DnsAnswer::Vip, SERVICE_DNS_VIP)
                | flag(chooses.is_some(), SERVICE_OUTCOMES)
                | flag(provided, SERVICE_PROVIDED)
                | flag(service.https.is_some(), SERVICE_BINDING)
                | flag(service.srv.is_some(), SERVICE_SRV),
            network: service.cdn as u16,
            policy_class: service.policy_class,
            filler: 0,
            outcomes: chooses.and_then(|_| outcomes.next()).unwrap_or(NONE),
            binding: service.https.as_ref().map_or(NONE, |binding| names.binding(binding)),
            sites: service.srv.as_ref().map_or(NONE, |locations| names.sites(locations)),
            port: service.srv.as_ref().map_or(0, |locations| locations.port),
            gap: 0,
            outside: NONE,
            reserved: Default::default(),
        }
    };
    let mut records: Vec<ServiceRecord> = network.services.iter().enumerate().map(record).collect();
    for Twin { service, port, binding } in &proofs.twins {
        let binding = binding.as_ref().map_or(NONE, |binding| names.binding(binding));
        let record = records[*service];
        records.push(ServiceRecord { flags: record.flags | SERVICE_PORT, port: *port, binding, ..record });
    }
    records.extend(proofs.records(counters));
    for (index, service) in network.services.iter().enumerate() {
        if let Some(coverage) = shares.chooses_outcome(network, index) {
            // Whom a provider's clients may go to is no matter of servers that are all down.
            let last = if shares.provided.contains_key(&index) {
                NONE
            } else {
                shares.fallbacks[index][Kind::Any as usize]
            };
            let record = outcome_record(service, keys, coverage, last);
            records.push(ServiceRecord { counter: counters[index], ..record });
        }
    }
    add_outside(network, shares, &mut records);
    or_one(records)
}

/// Adds the services that choose among providers' own servers, and names them in those that lead there.
fn add_outside(network: &Network, shares: &Shares, records: &mut Vec<ServiceRecord>) {
    for provided in &network.peering.provided {
        let outside = network.peering.providers[provided.provider].outside;
        let Some((target, coverage)) =
            outside.and_then(|target| Some((target, *shares.outside.get(&target)?)))
        else {
            continue;
        };
        let flag = |has: bool, bit: u16| if has { bit } else { 0 };
        let target = &network.targets[target];
        let leading = records[provided.service];
        records[provided.service].outside = records.len() as u32;
        records.push(ServiceRecord {
            coverage,
            fallback: [NONE; 2],
            flags: flag(target.ipv4.is_some(), SERVICE_HAS_IPV4)
                | flag(target.ipv6.is_some(), SERVICE_HAS_IPV6),
            outcomes: NONE,
            binding: NONE,
            ..leading
        });
    }
}

/// The service that chooses for another one what kind of answer a client gets (ADR 13). Its salt is its own, so that the
/// choice among servers that may follow does not depend on this one; and the types of a name have questions of their
/// own, which must not spread.
fn outcome_record(service: &Service, keys: &Keys, coverage: u32, fallback: u32) -> ServiceRecord {
    ServiceRecord {
        salt: keys.text(format!("{} outcome", service.name).as_bytes(), false),
        coverage,
        ttl: service.ttl,
        hint_lifetime: service.hint_lifetime,
        fallback: [fallback; 2],
        choose_by: match service.choose_by {
            ChooseBy::Spread => CHOOSE_CLIENT,
            other => choose_by(other),
        },
        answers: 1,
        network: service.cdn as u16,
        policy_class: service.policy_class,
        outcomes: NONE,
        binding: NONE,
        sites: NONE,
        ..ServiceRecord::default()
    }
}

fn choose_by(written: ChooseBy) -> u8 {
    match written {
        ChooseBy::ClientPrefix => CHOOSE_CLIENT_PREFIX,
        ChooseBy::Client => CHOOSE_CLIENT,
        ChooseBy::Content => CHOOSE_CONTENT,
        ChooseBy::Spread => CHOOSE_SPREAD,
    }
}

fn target_records(
    network: &Network,
    keys: &Keys,
    counters: &[u32],
    names: &mut outcomes::Names<'_>,
) -> Vec<TargetRecord> {
    let record = |(target, counter): (&Target, &u32)| {
        let v4 = target.ipv4.map(ipv4_word);
        let v6 = target.ipv6.map(ipv6_words);
        TargetRecord {
            ipv6: v6.unwrap_or_default(),
            digests: [v4.map(mapped), v6].map(|address| address.map_or(0, |address| keys.address(address))),
            ipv4: v4.unwrap_or_default(),
            ports: [target.http_port, target.https_port, target.rtsp_port],
            network: target.network,
            counter: *counter,
            ..names.record(target)
        }
    };
    or_one(network.targets.iter().zip(counters).map(record).collect())
}

fn or_one<T: Default>(mut values: Vec<T>) -> Vec<T> {
    if values.is_empty() {
        values.push(T::default());
    }
    values
}
