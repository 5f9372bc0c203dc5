//! DNS zones and their name grammars (P-5, P-6).

use super::index::Index;
use super::names::{self, Labels};
use super::network::{LONGEST_TTL, read_cdn};
use super::patterns::{self, Ordered};
use super::proofs;
use super::read::{Place, Section, Text, Value};
use super::units;
use redirector_core::table::MAX_CODEPOINT_LABELS;
use redirector_plan::model::{Grammar, LabelRule, Sealed, Service, Zone};
use redirector_plan::proofs::SEALED_LABELS;
use redirector_plan::{CDSR_LABEL, NS_LABEL};
use std::collections::BTreeMap;
use std::time::Duration;

/// SOA serial unless written; nobody transfers these zones, so it need not change.
const SERIAL: u32 = 1;
/// Unless written: long enough to damp repeated misses, short enough that a new name is soon found.
const NEGATIVE_TTL: u32 = 60;
/// Longest negative TTL: RFC 2308, section 5, advises one to three hours and calls more than a day a problem.
const LONGEST_NEGATIVE_TTL: Duration = Duration::from_secs(86_400);
/// TTL of NS records and VIP addresses unless written: they are as stable as the configuration.
const NS_TTL: u32 = 3600;

const NAMES: &str = "[{ labels = \"{object}.web.{customer}\", service = \"web\" }]";

/// What zones refer to.
pub(super) struct References<'r> {
    pub(super) cdns: &'r [String],
    pub(super) services: &'r [Service],
    pub(super) index: &'r Index,
    /// By service: whether it can answer with something else than servers.
    pub(super) outcomes: &'r [bool],
    pub(super) labels: &'r Labels,
    pub(super) proofs: proofs::References<'r>,
}

/// Reads the `[[zone]]` tables, sorted by suffix and CDN.
pub(super) fn read_zones(root: &Section<'_>, references: &References<'_>) -> Vec<Zone> {
    const KEYS: &[&str] =
        &["suffix", "cdn", "serial", "negative_ttl", "ns_ttl", "sealed", "ill_formed", "names"];
    let sections = root.tables("zone", KEYS);
    let mut zones: BTreeMap<(Vec<String>, usize), (Zone, Vec<Place<'_>>)> = BTreeMap::new();
    for section in sections {
        let Some((zone, places)) = section.read(|| read_zone(&section, references)) else { continue };
        let key = (zone.suffix.clone(), zone.cdn);
        if let Some((first, _)) = zones.get(&key) {
            let message =
                format!("`{}` is already the zone on line {}", zone.suffix.join("."), first.origin.line);
            section.place.error(message, "put all its names into one zone");
            continue;
        }
        zones.insert(key, (zone, places));
    }
    for (outer, places) in zones.values() {
        for (inner, _) in zones.values().filter(|(inner, _)| inner.cdn == outer.cdn) {
            check_nesting(outer, places, inner);
        }
    }
    zones.into_values().map(|(zone, _)| zone).collect()
}

fn read_zone<'a>(section: &Section<'a>, references: &References<'_>) -> Option<(Zone, Vec<Place<'a>>)> {
    let suffix =
        section.require("suffix", "\"cdn.acme.net\"").and_then(|value| value.word("\"cdn.acme.net\""));
    let suffix = suffix.and_then(|text| names::fixed_labels(&text));
    let cdn = read_cdn(section, references.cdns);
    let serial = match section.get("serial") {
        None => Some(SERIAL),
        Some(value) => value.integer(0..=u64::from(u32::MAX)).and_then(|serial| u32::try_from(serial).ok()),
    };
    let ttl = |key, default, longest| match section.get(key) {
        None => Some(default),
        Some(value) => units::seconds(&value, longest),
    };
    let negative_ttl = ttl("negative_ttl", NEGATIVE_TTL, LONGEST_NEGATIVE_TTL);
    let ns_ttl = ttl("ns_ttl", NS_TTL, LONGEST_TTL);
    let sealed = references.proofs.sealed(section);
    let ill_formed = references.proofs.ill_formed(section);
    let list = section.require("names", NAMES)?.nonempty_list(NAMES)?;
    let suffix = suffix?;
    let read: Vec<_> =
        list.iter().filter_map(|value| read_grammars(value, &suffix, cdn, references)).flatten().collect();
    let sealed = sealed?;
    check_sealed(&read, sealed.as_ref());
    check_order(&read, references.services);
    // A name of a service that was refused is left out with it.
    let (grammars, places) = read.into_iter().unzip();
    let zone = Zone {
        suffix,
        cdn: cdn?,
        serial: serial?,
        negative_ttl: negative_ttl?,
        ns_ttl: ns_ttl?,
        grammars,
        sealed,
        ill_formed: ill_formed?,
        origin: section.place.origin(),
    };
    Some((zone, places))
}

/// What an element of `names` stands for: one grammar for each choice of its optional labels.
fn read_grammars<'a>(
    value: &Value<'a>,
    suffix: &[String],
    cdn: Option<usize>,
    references: &References<'_>,
) -> Option<Vec<(Grammar, Place<'a>)>> {
    let section = value
        .section(&["labels", "service", "signed"], "{ labels = \"{object}.web\", service = \"web\" }")?;
    let text =
        section.require("labels", "\"{object}.web.{customer}\"").and_then(|value| value.word("\"{object}\""));
    let labels = text.as_ref().and_then(|text| read_labels(text, suffix, references.labels));
    let signed = references.proofs.signed(&section, labels.as_deref().unwrap_or_default());
    let service = section.require("service", "\"web\"")?.word("\"web\"")?;
    let index = references.index.resolve(&service)?;
    if references.outcomes[index] && text.as_ref().is_some_and(|text| text.text == "@") {
        let message = format!(
            "service `{}` can answer with a `cname` or `ns` target, and a zone's apex cannot",
            service.text
        );
        service.place.error(message, "give `@` a service whose targets are servers alone");
        return None;
    }
    let owner = references.services[index].cdn;
    if cdn.is_some_and(|cdn| cdn != owner) {
        let message = format!("service `{}` belongs to `{}`", service.text, references.cdns[owner]);
        service.place.error(message, "a zone's names lead to services of the zone's own `cdn`");
        return None;
    }
    let origin = section.place.origin();
    let (signed, place) = (signed?, text?.place);
    let grammar = |labels: Vec<LabelRule>| {
        (Grammar { labels, service: index, signed: signed.clone(), origin: origin.clone() }, place.clone())
    };
    Some(labels?.into_iter().map(grammar).collect())
}

/// Reports patterns whose names belong to sealed ones.
fn check_sealed(grammars: &[(Grammar, Place<'_>)], sealed: Option<&Sealed>) {
    let Some(sealed) = sealed else { return };
    for (grammar, place) in grammars {
        let takes = grammar.labels.last().is_some_and(|rule| match rule {
            LabelRule::Fixed(label) => *label == sealed.label,
            LabelRule::OneOf(_, values) => values.contains(&sealed.label),
            LabelRule::Free(_) => false,
        });
        if takes && grammar.labels.len() <= SEALED_LABELS + 1 {
            let message = format!("names that end in `{}` are sealed", sealed.label);
            place.error(message, "use another label here, or for sealed names");
        }
    }
}

fn read_labels(text: &Text<'_>, suffix: &[String], labels: &Labels) -> Option<Vec<Vec<LabelRule>>> {
    let patterns = labels.patterns(text)?;
    let sound = patterns.iter().all(|rules| check_labels(rules, text, suffix));
    sound.then_some(patterns)
}

/// Whether a pattern is one that a zone can have; reports it if not.
fn check_labels(rules: &[LabelRule], text: &Text<'_>, suffix: &[String]) -> bool {
    if rules.len() > MAX_CODEPOINT_LABELS {
        let message = format!("this pattern has {} labels", rules.len());
        text.place.error(message, format!("patterns have at most {MAX_CODEPOINT_LABELS}"));
        return false;
    }
    let lengths = rules.iter().map(names::shortest).chain(suffix.iter().map(String::len));
    check_reserved(rules, text)
        && names::check_size(text, lengths)
        && patterns::check_count(rules, &text.place)
}

/// Reports a pattern that takes a name which the box answers by itself.
fn check_reserved(rules: &[LabelRule], text: &Text<'_>) -> bool {
    let takes = |label: &str| match rules.first() {
        Some(LabelRule::Fixed(fixed)) => fixed == label,
        Some(LabelRule::OneOf(_, values)) => values.iter().any(|value| value == label),
        Some(LabelRule::Free(_)) | None => false,
    };
    let (name, purpose) = match rules.len() {
        _ if takes(CDSR_LABEL) => (CDSR_LABEL, "tells clients that an address speaks CDSR"),
        1 if takes(NS_LABEL) => (NS_LABEL, "is the name of the zone's name server"),
        _ => return true,
    };
    text.place.error(format!("`{name}` {purpose}, and is answered without a pattern"), "use another label");
    false
}

/// Reports patterns that no name reaches because earlier ones take them all.
fn check_order(grammars: &[(Grammar, Place<'_>)], services: &[Service]) {
    let mut ordered = Ordered::default();
    for (grammar, place) in grammars {
        let Some(number) = ordered.push(&grammar.labels) else { continue };
        let (winner, first) = &grammars[number];
        let message = format!(
            "no name gets here: the pattern on line {} takes them for service `{}`",
            first.line(),
            services[winner.service].name
        );
        let help = if grammar.labels.len() == winner.labels.len()
            && patterns::expand(&grammar.labels) == patterns::expand(&winner.labels)
        {
            "leave one of the two out"
        } else {
            "put the more specific pattern first"
        };
        place.error(message, help);
    }
}

/// Reports patterns of `outer` all of whose names lie in `inner`: the longest suffix wins.
fn check_nesting(outer: &Zone, places: &[Place<'_>], inner: &Zone) {
    let Some(extra) = inner.suffix.strip_suffix(outer.suffix.as_slice()).filter(|extra| !extra.is_empty())
    else {
        return;
    };
    for (grammar, place) in outer.grammars.iter().zip(places) {
        let Some(start) = grammar.labels.len().checked_sub(extra.len()) else { continue };
        let inside =
            |(rule, label): (&LabelRule, &String)| matches!(rule, LabelRule::Fixed(fixed) if fixed == label);
        if grammar.labels[start..].iter().zip(extra).all(inside) {
            let message = format!(
                "these names belong to the zone `{}` on line {}",
                inner.suffix.join("."),
                inner.origin.line
            );
            place.error(message, "the longest suffix wins: move the pattern there");
        }
    }
}
