//! DNS zones and their grammars to the suffix table, zone records and name entries (P-5, P-6).
//!
//! A grammar becomes one name entry per combination of its fixed labels; free labels take no part in the key. Every
//! proper right-hand part of a grammar's labels becomes a partial entry, so that an empty non-terminal is told from a
//! name that cannot exist.

use crate::entries::{Entries, Entry, MAX_NAME_ENTRIES};
use crate::model::{Grammar, LabelRule, Network, Origin, Sealed, Zone};
use crate::proofs::{Proofs, SEALED_LABELS, ill_formed};
use crate::refusal::Refusal;
use crate::tails;
use redirector_core::hash::{Keys, Slot};
use redirector_core::lookup::codepoint_slot;
use redirector_core::table::{
    MAX_CODEPOINT_LABELS, MAX_SHAPES, NAME_PARTIAL, NameBucket, SPACE_DNS, Shape, Zone as ZoneRecord,
};
use redirector_core::tail::Tail;
use std::collections::HashMap;

/// Label of generated name-server names, directly beneath a suffix.
pub const NS_LABEL: &str = "ns1";
/// Leftmost label of discovery records (P-19).
pub const CDSR_LABEL: &str = "_cdsr";
/// Longest suffix in labels: VIP entries have a bit for each length.
pub const MAX_SUFFIX_LABELS: usize = 31;
/// Places that full rules of a zone can have; the last one is for partial names.
const MAX_PLACES: usize = u16::MAX as usize;

/// Tables of names, and what leads back from them to the rules.
pub(crate) struct NameTables {
    pub(crate) suffixes: Vec<NameBucket>,
    pub(crate) zones: Vec<ZoneRecord>,
    pub(crate) names: Vec<NameBucket>,
    /// Per CDN: bit n set if a suffix of n labels exists.
    pub(crate) dns_depths: Vec<u32>,
    pub(crate) url_depths: Vec<u32>,
    /// Per CDN: what most names, and most hosts of URLs, end in.
    pub(crate) name_tails: Vec<Tail>,
    pub(crate) host_tails: Vec<Tail>,
    pub(crate) sources: Vec<ZoneSource>,
}

/// What a zone record was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ZoneSource {
    /// The DNS zone of the same number; the first grammar of each order number.
    Dns { first: Vec<usize> },
    /// URL rules (indices) that share a host suffix and scheme.
    Url { rules: Vec<usize> },
}

/// Tables under construction, shared by DNS zones and URL rules.
pub(crate) struct Names<'n> {
    pub(crate) network: &'n Network,
    pub(crate) keys: Keys,
    pub(crate) suffixes: Entries,
    pub(crate) zones: Vec<ZoneRecord>,
    pub(crate) names: Entries,
    pub(crate) sources: Vec<ZoneSource>,
    pub(crate) proofs: &'n Proofs,
    pub(crate) refusals: &'n mut Vec<Refusal>,
}

/// Builds the tables of all names.
pub(crate) fn build(
    network: &Network,
    keys: &Keys,
    proofs: &Proofs,
    refusals: &mut Vec<Refusal>,
) -> NameTables {
    let mut names = Names {
        network,
        keys: *keys,
        suffixes: Entries::default(),
        zones: Vec::new(),
        names: Entries::default(),
        sources: Vec::new(),
        proofs,
        refusals,
    };
    let mut dns_depths = vec![0; network.cdns.len()];
    let enclosed = names.enclosed_zones();
    for (number, zone) in network.zones.iter().enumerate() {
        if names.add_suffix(SPACE_DNS, zone.cdn, &zone.suffix, number, &zone.origin) {
            dns_depths[zone.cdn] |= 1 << zone.suffix.len();
        }
        let record = names.zone(number, zone, &enclosed[number]);
        names.zones.push(record);
    }
    let cdns = network.cdns.len();
    let name_tails = tails::of_zones(&network.zones, &enclosed, cdns);
    let (url_depths, hosts) = crate::urls::build(&mut names);
    let host_tails = hosts.tails(cdns);
    let Names { suffixes, mut zones, names, sources, refusals, .. } = names;
    if zones.is_empty() {
        zones.push(ZoneRecord { shapes: Shapes::default().packed().0, ..Default::default() });
    }
    let suffixes = suffixes.into_table("suffixes", refusals);
    let names = names.into_table("names and URLs", refusals);
    NameTables { suffixes, zones, names, dns_depths, url_depths, name_tails, host_tails, sources }
}

impl Names<'_> {
    /// Enters a suffix; `false` if it was refused.
    pub(crate) fn add_suffix(
        &mut self,
        space: u32,
        cdn: usize,
        suffix: &[String],
        number: usize,
        origin: &Origin,
    ) -> bool {
        let what = || format!("suffix {:?}", suffix.join("."));
        if suffix.is_empty() || suffix.len() > MAX_SUFFIX_LABELS {
            let why = format!("it has {} labels", suffix.len());
            let remedy = format!("use 1 to {MAX_SUFFIX_LABELS} labels");
            self.refusals.push(Refusal::new(what(), origin, why, remedy));
            return false;
        }
        let start = Slot::start(&self.keys, space, cdn as u32);
        let push = |slot: Slot, label: &String| slot.push(&self.keys, self.keys.text(label.as_bytes(), true));
        let slot = suffix.iter().rev().fold(start, push);
        let entry = Entry { slot, value: number as u32, order: 0, flags: 0, rule: number };
        let Some(held) = self.suffixes.add(entry) else { return true };
        let (other, remedy) = match &self.sources[held.rule] {
            ZoneSource::Dns { .. } => {
                (&self.network.zones[held.rule].origin, "write all its names in one zone")
            }
            // Rules are put together letter by letter before.
            ZoneSource::Url { rules } => (&self.network.urls[rules[0]].origin, "write both in small letters"),
        };
        self.refusals.push(Refusal::new(
            what(),
            origin,
            format!("the suffix is also defined at {other}"),
            remedy,
        ));
        false
    }

    /// For each zone, the codepoints under which zones of the same CDN begin, as lists of labels.
    fn enclosed_zones(&mut self) -> Vec<Vec<Vec<LabelRule>>> {
        let zones = &self.network.zones;
        let mut enclosed = vec![Vec::new(); zones.len()];
        let by_suffix: HashMap<(usize, &[String]), usize> =
            zones.iter().enumerate().map(|(number, zone)| ((zone.cdn, &zone.suffix[..]), number)).collect();
        for zone in zones {
            let outer = (1..zone.suffix.len())
                .find_map(|cut| Some((cut, *by_suffix.get(&(zone.cdn, &zone.suffix[cut..]))?)));
            let Some((cut, outer)) = outer else { continue };
            if cut == 1 && zone.suffix[0] == NS_LABEL {
                self.refusals.push(reserved(
                    &format!("zone {:?}", zone.suffix.join(".")),
                    NS_LABEL,
                    &zone.origin,
                ));
            }
            enclosed[outer].push(zone.suffix[..cut].iter().cloned().map(LabelRule::Fixed).collect());
        }
        enclosed
    }

    fn zone(&mut self, number: usize, zone: &Zone, enclosed: &[Vec<LabelRule>]) -> ZoneRecord {
        let mut shapes = Shapes::default();
        let mut first = Vec::new();
        let mut previous = None;
        if let Some(sealed) = &zone.sealed {
            // Before all others: the first place has no grammar.
            first.push(0);
            self.sealed_names(number, zone, sealed, &mut shapes);
        }
        for (index, grammar) in zone.grammars.iter().enumerate() {
            if !self.accepts(zone, grammar) {
                continue;
            }
            // Two rules of one shape never match the same name, so neighbours of one shape can share a place.
            let shape = shape_of(&grammar.labels);
            if previous.replace(shape) != Some(shape) {
                first.push(index);
            }
            let order = first.len() - 1;
            if order == MAX_PLACES {
                let why = format!("its grammars change their form more than {MAX_PLACES} times");
                let remedy = "put grammars of the same form next to each other";
                self.refuse_zone(zone, &grammar.origin, why, remedy);
                break;
            }
            self.full_names(number, zone, index, order as u16);
            self.partial_names(number, &grammar.labels, index);
            if !(shapes.add(shape) && grammar_parts(&grammar.labels).all(|part| shapes.add(shape_of(part)))) {
                self.refuse_shapes(&zone_title(zone), &grammar.origin);
                break;
            }
        }
        for labels in enclosed {
            self.partial_names(number, labels, usize::MAX);
            if !grammar_parts(labels).all(|part| shapes.add(shape_of(part))) {
                self.refuse_shapes(&zone_title(zone), &zone.origin);
            }
        }
        self.sources.push(ZoneSource::Dns { first });
        let (shapes, shape_count) = shapes.packed();
        ZoneRecord {
            shapes,
            shape_count,
            suffix_labels: zone.suffix.len() as u32,
            serial: zone.serial,
            negative_ttl: zone.negative_ttl,
            ns_ttl: zone.ns_ttl,
            ill_formed: ill_formed(self.network, zone.ill_formed.as_ref()),
            reserved: Default::default(),
        }
    }

    /// Enters the zone's sealed names, of each number of labels.
    fn sealed_names(&mut self, number: usize, zone: &Zone, sealed: &Sealed, shapes: &mut Shapes) {
        let Some(value) = self.proofs.of_sealed(number) else { return };
        let mut fits = true;
        for labels in (1..=SEALED_LABELS).map(|count| sealed_pattern(count, sealed)) {
            for slot in self.slots(SPACE_DNS, number, &labels) {
                self.names.add_new(Entry { slot, value, order: 0, flags: 0, rule: usize::MAX });
            }
            fits &= shapes.add(shape_of(&labels));
        }
        let label = sealed_pattern(0, sealed);
        for slot in self.slots(SPACE_DNS, number, &label) {
            self.names.add(Entry { slot, value: 0, order: u16::MAX, flags: NAME_PARTIAL, rule: usize::MAX });
        }
        if !(fits && shapes.add(shape_of(&label))) {
            self.refuse_shapes(&zone_title(zone), &zone.origin);
        }
    }

    fn refuse_zone(&mut self, zone: &Zone, origin: &Origin, why: String, remedy: &str) {
        self.refusals.push(Refusal::new(zone_title(zone), origin, why, remedy));
    }

    pub(crate) fn refuse_shapes(&mut self, what: &str, origin: &Origin) {
        self.refusals.push(Refusal::new(
            what,
            origin,
            format!("its rules and their right-hand parts have more than {MAX_SHAPES} forms (number of labels, and which of them are free)"),
            "use fewer forms, or a suffix of its own for some",
        ));
    }

    /// Checks what makes a grammar impossible whatever else the zone holds.
    fn accepts(&mut self, zone: &Zone, grammar: &Grammar) -> bool {
        let what = format!("name {:?} in {}", written(&grammar.labels), zone_title(zone));
        if !self.accepts_labels(&what, &grammar.labels, &grammar.origin) {
            return false;
        }
        let takes = |label: &str| grammar.labels.first().is_some_and(|rule| values(rule).any(|v| v == label));
        for (label, reserved_here) in [(NS_LABEL, grammar.labels.len() == 1), (CDSR_LABEL, true)] {
            if reserved_here && takes(label) {
                self.refusals.push(reserved(&what, label, &grammar.origin));
                return false;
            }
        }
        true
    }

    /// Number of labels, and number of names they stand for.
    pub(crate) fn accepts_labels(&mut self, what: &str, labels: &[LabelRule], origin: &Origin) -> bool {
        if labels.len() > MAX_CODEPOINT_LABELS {
            let why =
                format!("{} labels before the suffix are more than {MAX_CODEPOINT_LABELS}", labels.len());
            self.refusals.push(Refusal::new(what, origin, why, "use fewer labels, or a longer suffix"));
            return false;
        }
        // All combinations of the labels and of each right-hand part of them.
        let (mut count, mut all) = (1usize, 0usize);
        for rule in labels.iter().rev() {
            count = count.saturating_mul(alternatives(rule));
            all = all.saturating_add(count);
        }
        if count == 0 {
            let why = "a label has no permitted value";
            self.refusals.push(Refusal::new(what, origin, why, "list at least one value"));
            return false;
        }
        if self.names.lacks_room(all) {
            let why = format!("with it, there are more than {MAX_NAME_ENTRIES} names");
            self.refusals.push(Refusal::new(what, origin, why, "make labels free, or list fewer values"));
            return false;
        }
        true
    }

    /// Enters a grammar's names. A name that an earlier grammar has stays with that one (P-6); a grammar that gets none
    /// of its names is refused.
    fn full_names(&mut self, number: usize, zone: &Zone, index: usize, order: u16) {
        let grammar = &zone.grammars[index];
        let service = self.proofs.of_name(number, index);
        let (mut owner, mut useful) = (None, false);
        for slot in self.slots(SPACE_DNS, number, &grammar.labels) {
            let entry = Entry { slot, value: service, order, flags: 0, rule: index };
            match self.names.add(entry) {
                Some(held) if held.flags & NAME_PARTIAL != 0 => *held = entry,
                Some(held) if held.value != service => {
                    owner = owner.or(Some(held.rule));
                    continue;
                }
                _ => {}
            }
            useful = true;
        }
        if let (Some(owner), false) = (owner, useful) {
            // Sealed names are no grammar.
            let owner = zone.grammars.get(owner).map_or(&zone.origin, |grammar| &grammar.origin);
            self.refusals.push(Refusal::new(
                format!("name {:?} in {}", written(&grammar.labels), zone_title(zone)),
                &grammar.origin,
                format!("all its names belong to an earlier rule ({owner})"),
                "give each name to one service",
            ));
        }
    }

    fn partial_names(&mut self, number: usize, labels: &[LabelRule], rule: usize) {
        for part in grammar_parts(labels) {
            for slot in self.slots(SPACE_DNS, number, part) {
                let flags = NAME_PARTIAL;
                // A name that is already there is a full name or the same partial one.
                self.names.add(Entry { slot, value: 0, order: u16::MAX, flags, rule });
            }
        }
    }

    /// Keys of all names that labels stand for.
    pub(crate) fn slots(&self, space: u32, number: usize, labels: &[LabelRule]) -> Vec<Slot> {
        let shape = shape_of(labels);
        let key = |hashes: &[u64]| codepoint_slot(&self.keys, space, number as u32, shape, |at| hashes[at]);
        combinations(&self.keys, labels).iter().map(|hashes| key(hashes)).collect()
    }
}

/// Sealed names of so many labels.
pub(crate) fn sealed_pattern(labels: usize, sealed: &Sealed) -> Vec<LabelRule> {
    let free = (0..labels).map(|_| LabelRule::Free("sealed".to_owned()));
    free.chain([LabelRule::Fixed(sealed.label.clone())]).collect()
}

/// Label hashes of every combination of permitted values; 0 for free labels.
pub(crate) fn combinations(keys: &Keys, labels: &[LabelRule]) -> Vec<Vec<u64>> {
    let mut all = vec![Vec::with_capacity(labels.len())];
    for rule in labels {
        let mut hashes: Vec<u64> = values(rule).map(|value| keys.text(value.as_bytes(), true)).collect();
        if let LabelRule::Free(_) = rule {
            hashes.push(0);
        }
        let longer = |held: &Vec<u64>, hash: u64| held.iter().copied().chain([hash]).collect();
        all = match hashes[..] {
            [hash] => {
                all.iter_mut().for_each(|held| held.push(hash));
                all
            }
            _ => all.iter().flat_map(|held| hashes.iter().map(|hash| longer(held, *hash))).collect(),
        };
    }
    all
}

/// Values a label must have one of; none for free labels.
pub(crate) fn values(rule: &LabelRule) -> impl Iterator<Item = &str> {
    let (one, many) = match rule {
        LabelRule::Fixed(value) => (Some(value), &[][..]),
        LabelRule::Free(_) => (None, &[][..]),
        LabelRule::OneOf(_, values) => (None, &values[..]),
    };
    one.into_iter().chain(many).map(String::as_str)
}

fn alternatives(rule: &LabelRule) -> usize {
    match rule {
        LabelRule::Fixed(_) | LabelRule::Free(_) => 1,
        LabelRule::OneOf(_, values) => values.len(),
    }
}

/// Number of labels, and bit n set where the n-th takes part in the key.
pub(crate) fn shape_of(labels: &[LabelRule]) -> (u16, u16) {
    let keyed = |rule: &LabelRule| !matches!(rule, LabelRule::Free(_));
    let bits = labels.iter().enumerate().map(|(place, rule)| (keyed(rule) as u16) << place).sum();
    (labels.len() as u16, bits)
}

/// Proper right-hand parts, longest first, down to one label.
fn grammar_parts(labels: &[LabelRule]) -> impl Iterator<Item = &[LabelRule]> {
    (1..labels.len()).map(|from| &labels[from..])
}

/// Labels as the operator writes them: `{object}.web.{customer}`.
pub(crate) fn written(labels: &[LabelRule]) -> String {
    let one = |rule: &LabelRule| match rule {
        LabelRule::Fixed(value) => value.clone(),
        LabelRule::Free(name) | LabelRule::OneOf(name, _) => format!("{{{name}}}"),
    };
    labels.iter().map(one).collect::<Vec<_>>().join(".")
}

fn zone_title(zone: &Zone) -> String {
    format!("zone {:?}", zone.suffix.join("."))
}

fn reserved(what: &str, label: &str, origin: &Origin) -> Refusal {
    Refusal::new(what, origin, format!("the label {label:?} is reserved here"), "use another label")
}

/// The distinct shapes of a zone, in order of first use.
#[derive(Default)]
pub(crate) struct Shapes(Vec<(u16, u16)>);

impl Shapes {
    /// `false` if there are too many.
    pub(crate) fn add(&mut self, shape: (u16, u16)) -> bool {
        let known = self.0.contains(&shape);
        if !known && self.0.len() < MAX_SHAPES {
            self.0.push(shape);
            return true;
        }
        known
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().copied()
    }

    /// As a zone record has them, with their number.
    pub(crate) fn packed(&self) -> ([Shape; MAX_SHAPES], u32) {
        let mut by_labels = self.0.clone();
        by_labels.sort_by_key(|(labels, _)| *labels);
        let shape = |place: usize| match by_labels.get(place) {
            Some((labels, keyed)) => Shape { labels: *labels, keyed: *keyed },
            None => Shape { labels: u16::MAX, keyed: 0 },
        };
        (std::array::from_fn(shape), self.0.len() as u32)
    }
}
