//! URL rules to host suffixes, host entries and path entries (P-17, P-26).
//!
//! Of the rules whose host matches a URL, those with the most specific host pattern that have a matching path decide;
//! among them, the longest path. Host patterns are compared label by label from the right: the first label that only
//! one of them fixes makes that one more specific. So the order in which rules are written means nothing.
//!
//! Readers look at the paths of one host entry only. Therefore a host entry also gets the paths of patterns that fix
//! some of its labels and no others, as far as none of its own paths covers them.

use crate::entries::{Entry, MAX_NAME_ENTRIES};
use crate::model::{LabelRule, Network, Origin, Schemes, UrlRule, Zone};
use crate::names::{Names, Shapes, ZoneSource, combinations, sealed_pattern, shape_of, written};
use crate::proofs::{SEALED_LABELS, ill_formed};
use crate::refusal::Refusal;
use crate::tails::HostSuffixes;
use redirector_core::hash::{Keys, Slot};
use redirector_core::lookup::{Scheme, codepoint_slot};
use redirector_core::table::{MAX_PATH_SEGMENTS, NONE, SPACE_PATH, Zone as ZoneRecord};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Scheme, CDN and suffix labels from the right.
type Suffix<'n> = (Scheme, usize, Vec<&'n str>);

/// Adds all URL rules; answers each CDN's bit set of suffix lengths, the union over schemes, and its suffixes.
pub(crate) fn build(names: &mut Names) -> (Vec<u32>, HostSuffixes) {
    let network = names.network;
    let (mut depths, mut suffixes) = (vec![0; network.cdns.len()], HostSuffixes::default());
    for ((scheme, cdn, reversed), rules) in
        rules_by_suffix(network, |rule| network.services[rule.service].cdn)
    {
        let number = names.zones.len();
        let suffix: Vec<String> = reversed.iter().rev().map(|label| (*label).to_owned()).collect();
        let zones = Within::new(network, cdn, &suffix);
        let origin = rules.first().map(|rule| &network.urls[*rule].origin).or(zones.origin());
        if names.add_suffix(scheme.space(), cdn, &suffix, number, origin.unwrap_or(&Origin::default())) {
            depths[cdn] |= 1 << suffix.len();
            suffixes.add(cdn, &suffix, scheme, number, rules.len());
        }
        let ill_formed = zones.ill_formed(names);
        let shapes = HostZone::new(names, scheme, number, suffix.len()).build(&rules, &zones);
        let (shapes, shape_count) = shapes.packed();
        let suffix_labels = suffix.len() as u32;
        names.zones.push(ZoneRecord { shapes, shape_count, suffix_labels, ill_formed, ..Default::default() });
        names.sources.push(ZoneSource::Url { rules });
    }
    (depths, suffixes)
}

/// The DNS zones of a network whose names are hosts beneath a suffix.
struct Within<'n> {
    suffix: usize,
    zones: Vec<(usize, &'n Zone)>,
}

impl<'n> Within<'n> {
    fn new(network: &'n Network, cdn: usize, suffix: &[String]) -> Self {
        let within = |(_, zone): &(usize, &Zone)| zone.cdn == cdn && zone.suffix.ends_with(suffix);
        Self { suffix: suffix.len(), zones: network.zones.iter().enumerate().filter(within).collect() }
    }

    fn origin(&self) -> Option<&'n Origin> {
        self.zones.first().map(|(_, zone)| &zone.origin)
    }

    /// What hosts get that fit no rule. All are looked up together, so zones within each other must agree.
    fn ill_formed(&self, names: &mut Names<'_>) -> u32 {
        let outer = self.zones.iter().find(|(_, zone)| zone.suffix.len() == self.suffix);
        let outer = outer.and_then(|(_, zone)| zone.ill_formed.as_ref());
        for (_, zone) in self.zones.iter().filter(|(_, zone)| zone.ill_formed.as_ref() != outer) {
            let title = format!("zone {:?}", zone.suffix.join("."));
            names.refusals.push(Refusal::new(
                title,
                &zone.origin,
                "URLs of its hosts are looked up with those of a shorter suffix, whose `ill_formed` is another",
                "give both zones the same `ill_formed`, or write no URL rule for the shorter suffix",
            ));
        }
        ill_formed(names.network, outer)
    }
}

fn schemes(schemes: Schemes) -> impl Iterator<Item = Scheme> {
    let Schemes { http, https, rtsp } = schemes;
    [(http, Scheme::Http), (https, Scheme::Https), (rtsp, Scheme::Rtsp)]
        .into_iter()
        .filter_map(|(has, scheme)| has.then_some(scheme))
}

/// Groups rules by the shortest suffix among them that ends their host: suffixes of one scheme and CDN never nest, so a
/// reader's longest match cannot hide rules of a shorter suffix. In order of scheme, CDN and suffix. Zones that say what
/// ill-formed names get have groups, even without a rule.
fn rules_by_suffix(network: &Network, cdn: impl Fn(&UrlRule) -> usize) -> Vec<(Suffix<'_>, Vec<usize>)> {
    let mut groups: BTreeMap<_, (Scheme, Vec<usize>)> = BTreeMap::new();
    for zone in network.zones.iter().filter(|zone| zone.ill_formed.is_some()) {
        let reversed: Vec<&str> = zone.suffix.iter().rev().map(String::as_str).collect();
        for scheme in [Scheme::Http, Scheme::Https, Scheme::Rtsp] {
            groups.entry((scheme.space(), zone.cdn, reversed.clone())).or_insert((scheme, Vec::new()));
        }
    }
    for (index, rule) in network.urls.iter().enumerate() {
        let reversed: Vec<&str> = rule.suffix.iter().rev().map(String::as_str).collect();
        for scheme in schemes(rule.schemes) {
            let key = (scheme.space(), cdn(rule), reversed.clone());
            groups.entry(key).or_insert((scheme, Vec::new())).1.push(index);
        }
    }
    let mut outermost: Vec<(Suffix, Vec<usize>)> = Vec::new();
    for ((_, cdn, suffix), (scheme, rules)) in groups {
        match outermost.last_mut() {
            Some((held, members)) if (held.0, held.1) == (scheme, cdn) && suffix.starts_with(&held.2) => {
                members.extend(rules);
            }
            _ => outermost.push(((scheme, cdn, suffix), rules)),
        }
    }
    outermost
}

/// A host pattern's combination of fixed labels.
struct Host {
    slot: Slot,
    shape: (u16, u16),
    /// Label hashes; 0 where free.
    labels: Vec<u64>,
    /// Indices of rules, one for each path.
    rules: Vec<usize>,
}

/// What one host entry answers for: a host and the leading segments of a path.
type HostPath<'n> = (usize, &'n [String]);

/// The rules beneath one host suffix.
struct HostZone<'z, 'n> {
    names: &'z mut Names<'n>,
    scheme: Scheme,
    number: usize,
    suffix_labels: usize,
    hosts: Vec<Host>,
    by_slot: HashMap<Slot, usize>,
    by_path: HashMap<HostPath<'n>, usize>,
}

impl<'z, 'n> HostZone<'z, 'n> {
    fn new(names: &'z mut Names<'n>, scheme: Scheme, number: usize, suffix_labels: usize) -> Self {
        Self {
            names,
            scheme,
            number,
            suffix_labels,
            hosts: Vec::new(),
            by_slot: HashMap::new(),
            by_path: HashMap::new(),
        }
    }

    fn build(mut self, rules: &[usize], zones: &Within<'_>) -> Shapes {
        let mut shapes = Shapes::default();
        self.add_sealed(zones, &mut shapes);
        for index in rules {
            let rule = &self.names.network.urls[*index];
            let fixed = &rule.suffix[..rule.suffix.len() - self.suffix_labels];
            let host: Vec<LabelRule> =
                rule.host.iter().cloned().chain(fixed.iter().cloned().map(LabelRule::Fixed)).collect();
            let what = title(rule);
            if rule.path.len() > MAX_PATH_SEGMENTS {
                let why = format!("{} path segments are more than {MAX_PATH_SEGMENTS}", rule.path.len());
                self.names.refusals.push(Refusal::new(
                    what,
                    &rule.origin,
                    why,
                    "end the path earlier with `*`",
                ));
            } else if self.names.accepts_labels(&what, &host, &rule.origin) {
                if !shapes.add(shape_of(&host)) {
                    self.names.refuse_shapes(&what, &rule.origin);
                    break;
                }
                self.add_rule(*index, &host);
            }
        }
        let ranked = rank(&shapes);
        self.emit_sealed(zones, &ranked);
        // The first host without room says so for all.
        let _ = (0..self.hosts.len()).all(|host| self.emit(host, &ranked));
        shapes
    }

    /// Host patterns of sealed names, and what they lead to first.
    fn sealed_hosts(&self, zones: &Within<'_>) -> Vec<(Vec<LabelRule>, u32)> {
        let mut hosts = Vec::new();
        for (number, zone) in &zones.zones {
            let (Some(sealed), Some(value)) = (&zone.sealed, self.names.proofs.of_sealed(*number)) else {
                continue;
            };
            let extra = zone.suffix[..zone.suffix.len() - self.suffix_labels].iter();
            let extra: Vec<LabelRule> = extra.cloned().map(LabelRule::Fixed).collect();
            let pattern = |count| [sealed_pattern(count, sealed), extra.clone()].concat();
            hosts.extend((1..=SEALED_LABELS).map(|count| (pattern(count), value)));
        }
        hosts
    }

    fn add_sealed(&mut self, zones: &Within<'_>, shapes: &mut Shapes) {
        for (labels, _) in self.sealed_hosts(zones) {
            if !shapes.add(shape_of(&labels)) {
                self.names
                    .refuse_shapes("hosts of sealed names", zones.origin().unwrap_or(&Origin::default()));
                return;
            }
        }
    }

    /// Enters hosts of sealed names, unless a URL rule has them.
    fn emit_sealed(&mut self, zones: &Within<'_>, ranked: &[(u16, u16)]) {
        for (labels, value) in self.sealed_hosts(zones) {
            let shape = shape_of(&labels);
            let order = ranked.iter().position(|ranked| *ranked == shape).unwrap_or(0) as u16;
            for hashes in combinations(&self.names.keys, &labels) {
                let slot = self.slot(shape, &hashes);
                if !self.by_slot.contains_key(&slot) {
                    self.names.names.add_new(Entry { slot, value, order, flags: 1, rule: usize::MAX });
                }
            }
        }
    }

    fn add_rule(&mut self, index: usize, labels: &[LabelRule]) {
        let shape = shape_of(labels);
        let urls = &self.names.network.urls;
        for hashes in combinations(&self.names.keys, labels) {
            let slot = self.slot(shape, &hashes);
            let next = self.hosts.len();
            let host = *self.by_slot.entry(slot).or_insert(next);
            if host == next {
                self.hosts.push(Host { slot, shape, labels: hashes, rules: Vec::new() });
            }
            let held = *self.by_path.entry((host, &urls[index].path)).or_insert(index);
            if held == index {
                self.hosts[host].rules.push(index);
            } else if self.entry(held) != self.entry(index) {
                self.names.refusals.push(Refusal::new(
                    title(&urls[index]),
                    &urls[index].origin,
                    format!("URLs it covers already belong to another service ({})", urls[held].origin),
                    "give each URL to one service",
                ));
                return;
            }
        }
    }

    /// Number of the service that a rule leads to first.
    fn entry(&self, rule: usize) -> u32 {
        self.names.proofs.of_url(rule)
    }

    fn slot(&self, shape: (u16, u16), hashes: &[u64]) -> Slot {
        codepoint_slot(&self.names.keys, self.scheme.space(), self.number as u32, shape, |place| {
            hashes[place]
        })
    }

    /// Rules of a host with those it takes over from less specific patterns.
    fn effective_rules(&self, number: usize, ranked: &[(u16, u16)]) -> Vec<usize> {
        let urls = &self.names.network.urls;
        let host = &self.hosts[number];
        let (labels, keyed) = host.shape;
        let mut rules = host.rules.clone();
        let mut givers = vec![number];
        let wider =
            ranked.iter().filter(|shape| shape.0 == labels && shape.1 != keyed && shape.1 & !keyed == 0);
        for shape in wider {
            let Some(other) = self.by_slot.get(&self.slot(*shape, &host.labels)) else { continue };
            let has = |path: &[String]| givers.iter().any(|giver| self.by_path.contains_key(&(*giver, path)));
            let covered = |path: &[String]| (0..=path.len()).any(|end| has(&path[..end]));
            rules.extend(self.hosts[*other].rules.iter().filter(|rule| !covered(&urls[**rule].path)));
            givers.push(*other);
        }
        rules
    }

    /// Enters a host and its paths; `false` if there is no room for them.
    fn emit(&mut self, number: usize, ranked: &[(u16, u16)]) -> bool {
        let urls = &self.names.network.urls;
        let rules = self.effective_rules(number, ranked);
        if self.names.names.lacks_room(rules.len() + 1) {
            self.names.refusals.push(Refusal::new(
                title(&urls[rules[0]]),
                &urls[rules[0]].origin,
                format!("with its paths, there are more than {MAX_NAME_ENTRIES} names and URLs"),
                "use fewer paths beneath host patterns that overlap",
            ));
            return false;
        }
        let Host { slot, shape, .. } = self.hosts[number];
        let flags = rules.iter().fold(0, |flags, rule| flags | 1 << urls[*rule].path.len());
        let whole = rules.iter().find(|rule| urls[**rule].path.is_empty());
        let value = whole.map_or(NONE, |rule| self.entry(*rule));
        let order = ranked.iter().position(|ranked| *ranked == shape).unwrap_or(0) as u16;
        self.names.names.add_new(Entry { slot, value, order, flags, rule: rules[0] });
        for rule in rules.into_iter().filter(|rule| !urls[*rule].path.is_empty()) {
            let slot = path_slot(&self.names.keys, slot.fingerprint, &urls[rule].path);
            let value = self.entry(rule);
            self.names.names.add_new(Entry { slot, value, order: 0, flags: 0, rule });
        }
        true
    }
}

/// Key of a path beneath a host entry, as `lookup::path` walks it.
fn path_slot(keys: &Keys, host: u64, path: &[String]) -> Slot {
    let start = Slot { find: host, fingerprint: host }.push(keys, SPACE_PATH as u64);
    path.iter().fold(start, |slot, segment| slot.push(keys, keys.text(segment.as_bytes(), false)))
}

/// Shapes, most specific first among those of equally many labels: the n-th label from the left is bit n.
fn rank(shapes: &Shapes) -> Vec<(u16, u16)> {
    let mut ranked: Vec<_> = shapes.iter().collect();
    ranked.sort_unstable_by_key(|(labels, keyed)| (*labels, Reverse(*keyed)));
    ranked
}

fn title(rule: &UrlRule) -> String {
    let schemes: Vec<&str> = schemes(rule.schemes).map(Scheme::name).collect();
    let host = [written(&rule.host), rule.suffix.join(".")];
    let host: Vec<String> = host.into_iter().filter(|part| !part.is_empty()).collect();
    let path: String = rule.path.iter().map(|segment| format!("/{segment}")).collect();
    format!("URL \"{}://{}{path}/*\"", schemes.join("|"), host.join("."))
}
