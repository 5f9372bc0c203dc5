//! Pools, coverages and services: who serves what to whom.

use super::addresses::choice;
use super::checks::Check;
use super::index::{Index, Named, read_named, written_name};
use super::kept::last_good;
use super::names::{self, Labels};
use super::proofs;
use super::read::{Document, Place, Section, Text, Value};
use super::units;
use super::urls::{self, Urls, read_urls};
use redirector_plan::model::{
    Binding, ChooseBy, Coverage, DnsAnswer, Locations, Network, Pool, Service, Tier,
};
use redirector_plan::outcomes::MAX_PARAMETERS;
use redirector_plan::{MAX_ANSWERS, MAX_WEIGHT};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest TTL: a week, beyond which resolvers cut anyway.
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(7 * 86_400);
/// Longest time a CDSR client may keep an answer.
const LONGEST_HINT: Duration = Duration::from_secs(86_400);
/// Longest difference of round trips that a tier can allow: as long as the longest probe.
const LONGEST_DISTANCE: Duration = Duration::from_secs(60);
/// Unless written: long enough for a session's objects, short enough to follow failures without a report.
const HINT_LIFETIME: u32 = 30;

/// Whether a name is a pattern, as [`name_fits`] reads it.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Whether `name` fits a name or pattern in which `*` is any text and `?` any one character.
pub fn name_fits(pattern: &str, name: &str) -> bool {
    matches(pattern.as_bytes(), name.as_bytes())
}

/// As [`name_fits`], byte by byte.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if the text after the last `*` does not fit: the `*`, and one more character for it.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, taken)) = retry else { return false };
                retry = Some((star, taken + 1));
                p = star + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The targets that a name or a pattern means, by name; the second is whether it was a pattern.
fn select<'t>(text: &Text<'t>, targets: &'t Index) -> Option<(Vec<(&'t str, usize)>, bool)> {
    if !is_pattern(text.text) {
        return Some((vec![(text.text, targets.resolve(text)?)], false));
    }
    let matching = |(name, _): &(&str, Option<usize>)| name_fits(text.text, name);
    let mut found = targets.iter().filter(matching).peekable();
    if found.peek().is_none() {
        let message = format!("no target's name matches `{}`", text.text);
        text.place.error(message, "`*` is any text, `?` any one character");
        return None;
    }
    Some((found.filter_map(|(name, index)| Some((name, index?))).collect(), true))
}

/// A weight or a share; 1 unless written.
fn weight(section: &Section<'_>, key: &'static str) -> Option<u32> {
    match section.get(key) {
        None => Some(1),
        Some(value) => value.integer(1..=u64::from(MAX_WEIGHT)).and_then(|weight| u32::try_from(weight).ok()),
    }
}

/// Reads the `[[pool]]` tables.
pub(super) fn read_pools(root: &Section<'_>, targets: &Index) -> (Vec<Pool>, Index) {
    read_named("pool", root.tables("pool", &["name", "targets"]), written_name, |section, name| {
        let example = "[\"par-web-*\"], or [{ target = \"par-web-1\", weight = 3 }]";
        let list = section.require("targets", example)?.nonempty_list(example)?;
        let mut picks: Vec<Pick<'_>> =
            list.iter().filter_map(|element| read_pick(element, targets)).collect();
        // A target's own name counts more than a pattern that matches it, in whatever order they stand.
        picks.sort_by_key(|pick| pick.by_pattern);
        let mut members: BTreeMap<usize, (u32, &Pick<'_>)> = BTreeMap::new();
        for pick in &picks {
            for (target_name, target) in &pick.targets {
                let (weight, first) = *members.entry(*target).or_insert((pick.weight, pick));
                if weight != pick.weight && first.by_pattern == pick.by_pattern {
                    let line = first.place.line();
                    let message = format!("this gives `{target_name}` another weight than line {line} does");
                    pick.place.error(message, "write the weight once, beside the target's own name");
                    break;
                }
            }
        }
        let members = members.into_iter().map(|(target, (weight, _))| (target, weight)).collect();
        Some(Pool { name: name.to_owned(), members, origin: section.place.origin() })
    })
}

/// What one element of a pool's `targets` means.
struct Pick<'a> {
    targets: Vec<(&'a str, usize)>,
    weight: u32,
    by_pattern: bool,
    place: Place<'a>,
}

fn read_pick<'a>(element: &Value<'a>, targets: &'a Index) -> Option<Pick<'a>> {
    let (text, weight) = if element.is_table() {
        let section = element.section(&["target", "weight"], "{ target = \"par-web-1\", weight = 3 }")?;
        let weight = weight(&section, "weight");
        (section.require("target", "\"par-web-1\"")?.word("\"par-web-1\"")?, weight?)
    } else {
        (element.word("[\"par-web-*\"]")?, 1)
    };
    let (targets, by_pattern) = select(&text, targets)?;
    Some(Pick { targets, weight, by_pattern, place: text.place })
}

/// What coverages refer to, and know of it.
pub(super) struct Servers<'s> {
    pub(super) regions: &'s Index,
    pub(super) pools: &'s Index,
    pub(super) pool_list: &'s [Pool],
    pub(super) checks: &'s [Option<Check>],
}

impl Servers<'_> {
    /// Whether some target of a pool is not probed.
    fn unmeasured(&self, pool: usize) -> bool {
        let members = self.pool_list.get(pool).map_or(&[][..], |pool| &pool.members);
        members.iter().any(|(target, _)| self.checks.get(*target).is_some_and(Option::is_none))
    }
}

/// Reads the `[[coverage]]` tables.
pub(super) fn read_coverages(root: &Section<'_>, servers: &Servers<'_>) -> (Vec<Coverage>, Index) {
    read_named("coverage", root.tables("coverage", &["name", "tiers"]), written_name, |section, name| {
        let example = "[{ region = \"*\", pools = [\"par-web\"] }]";
        let written = section.require("tiers", example)?;
        let list = written.nonempty_list(example)?;
        let tiers: Vec<Tier> = list.iter().filter_map(|tier| read_tier(tier, servers)).collect();
        if tiers.len() < list.len() {
            return None;
        }
        if tiers.iter().all(|tier| tier.region.is_some()) {
            section.place.warning(
                format!("coverage `{name}` has no tier for every region: other clients get the fallback or an error"),
                "add { region = \"*\", pools = […] } as its last tier",
            );
        }
        Some(Coverage { name: name.to_owned(), tiers, origin: section.place.origin() })
    })
}

fn read_tier(value: &Value<'_>, servers: &Servers<'_>) -> Option<Tier> {
    let example = "{ region = \"fr\", pools = [{ pool = \"par-web\", share = 3 }, \"lyon-web\"] }";
    let section = value.section(&["region", "pools", "ttl", "within"], example)?;
    let region = section.require("region", "\"fr\", or \"*\" for every region").and_then(|value| {
        let text = value.word("\"fr\"")?;
        if text.text == "*" { Some(None) } else { servers.regions.resolve(&text).map(Some) }
    });
    let ttl = match section.get("ttl") {
        None => Some(None),
        Some(value) => units::seconds(&value, LONGEST_TTL).map(Some),
    };
    let within = match section.get("within") {
        None => Some(None),
        Some(value) => units::duration(&value, Duration::ZERO..=LONGEST_DISTANCE)
            .map(|within| u32::try_from(within.as_micros()).ok()),
    };
    let list = section.require("pools", "[\"par-web\"]")?.nonempty_list("[\"par-web\"]")?;
    let mut shares: Vec<(usize, u32)> = Vec::with_capacity(list.len());
    let mut sound = true;
    for element in &list {
        match read_share(element, servers.pools) {
            Some((pool, _)) if shares.iter().any(|(known, _)| *known == pool) => {
                element
                    .place
                    .error("this pool is in the tier already", "write it once, with the sum of the shares");
                sound = false;
            }
            Some(share) => shares.push(share),
            None => sound = false,
        }
    }
    shares.sort_unstable();
    sound.then_some(())?;
    if let Some(value) =
        section.get("within").filter(|_| shares.iter().any(|(pool, _)| servers.unmeasured(*pool)))
    {
        value.place.warning(
            "some of the tier's targets have no health check, so their distance is never measured",
            "give them a `check`; without one they get clients only if no measured target is usable",
        );
    }
    Some(Tier { region: region?, pools: shares, ttl: ttl?, within: within?, origin: section.place.origin() })
}

fn read_share(element: &Value<'_>, pools: &Index) -> Option<(usize, u32)> {
    if !element.is_table() {
        return Some((pools.resolve(&element.word("[\"par-web\"]")?)?, 1));
    }
    let section = element.section(&["pool", "share"], "{ pool = \"par-web\", share = 3 }")?;
    let share = weight(&section, "share");
    let pool = pools.resolve(&section.require("pool", "\"par-web\"")?.word("\"par-web\"")?);
    Some((pool?, share?))
}

/// What services refer to.
pub(super) struct References<'r> {
    pub(super) cdns: &'r [String],
    pub(super) coverages: &'r Index,
    pub(super) targets: &'r Index,
    pub(super) labels: &'r Labels,
    pub(super) keys: &'r Index,
}

/// What [`read_services`] found.
pub(super) struct Services<'a> {
    pub(super) list: Vec<Service>,
    pub(super) index: Index,
    /// The URL rules of each service, by index.
    pub(super) urls: Vec<Urls<'a>>,
    /// Names of all that are written.
    pub(super) names: BTreeSet<String>,
}

const SERVICE: &[&str] = &[
    "name",
    "class",
    "cdn",
    "coverage",
    "ttl",
    "hint_lifetime",
    "choose_by",
    "dns",
    "https",
    "srv",
    "answers",
    "policy_class",
    "fallback",
    "authorised",
    "location",
    "urls",
];

/// Reads the `[[service]]` tables. A service with errors stays as it was in the `last` network, if it was there.
pub(super) fn read_services<'a>(
    doc: &Document,
    root: &Section<'a>,
    references: &References<'_>,
    last: Option<&Network>,
) -> Services<'a> {
    let named = Named::sort("service", root.tables("service", SERVICE), written_name);
    let names = named.names().map(str::to_owned).collect();
    let proofs = proofs::References { keys: references.keys, services: &names };
    let (read, index) = named.read(|section, name| {
        let read = || {
            let urls = section
                .get("urls")
                .map_or(Some(Vec::new()), |value| read_urls(&value, references.labels, &proofs));
            Some((read_service(section, name, references, &proofs)?, Urls::Written(urls?)))
        };
        let (service, wrong) = doc.findings.within_service(name, || section.read(read));
        // Without an error of its own, a service lacks something that is refused elsewhere.
        let Some(last) = last.filter(|_| wrong) else { return service };
        let (service, urls) = last_good(last, name, section, references)?;
        Some((service, Urls::Kept(urls)))
    });
    let (list, urls) = read.into_iter().unzip();
    Services { list, index, urls, names }
}

fn read_service(
    section: &Section<'_>,
    name: &str,
    references: &References<'_>,
    proofs: &proofs::References<'_>,
) -> Option<Service> {
    let cdn = read_cdn(section, references.cdns);
    let class = section
        .get("class")
        .map_or(Some(String::new()), |value| Some(value.word("\"video\"")?.text.to_owned()));
    let coverage = section.require("coverage", "\"web-eu\"").and_then(|value| value.word("\"web-eu\""));
    let coverage = coverage.and_then(|text| references.coverages.resolve(&text));
    let lifetime = |key, default, longest| match section.get(key) {
        None => Some(default),
        Some(value) => units::seconds(&value, longest),
    };
    let (ttl, hint_lifetime) =
        (lifetime("ttl", 0, LONGEST_TTL), lifetime("hint_lifetime", HINT_LIFETIME, LONGEST_HINT));
    let keys = [
        ("client-prefix", ChooseBy::ClientPrefix),
        ("client", ChooseBy::Client),
        ("content", ChooseBy::Content),
        ("spread", ChooseBy::Spread),
    ];
    let choose_by =
        section.get("choose_by").map_or(Some(ChooseBy::ClientPrefix), |value| choice(&value, &keys));
    let forms = [("server", DnsAnswer::Server), ("vip", DnsAnswer::Vip)];
    let dns = section.get("dns").map_or(Some(DnsAnswer::Server), |value| choice(&value, &forms));
    let https = match section.get("https") {
        None => Some(None),
        Some(value) => read_binding(&value),
    };
    if let (Some(Some(_)), Some(DnsAnswer::Vip), Some(value)) = (&https, dns, section.get("https")) {
        let help = "leave `https` out, or answer with the servers";
        value.place.error("names of this service are answered with the VIP, which speaks no https", help);
        return None;
    }
    let srv = match section.get("srv") {
        None => Some(None),
        Some(value) => read_locations(&value).map(Some),
    };
    // A client that chooses among sites wants more than one.
    let answers = if section.get("srv").is_some() { u64::from(MAX_ANSWERS) } else { 1 };
    let answers =
        section.get("answers").map_or(Some(answers), |value| value.integer(1..=u64::from(MAX_ANSWERS)));
    let policy_class =
        section.get("policy_class").map_or(Some(0), |value| value.integer(0..=u64::from(u8::MAX)));
    let fallback =
        section.get("fallback").map_or(Some(Vec::new()), |value| read_fallback(&value, references.targets));
    let authorised = proofs.authorised(section);
    let location = match section.get("location") {
        None => Some(None),
        Some(value) => urls::location(&value).map(Some),
    };
    Some(Service {
        name: name.to_owned(),
        class: class?,
        cdn: cdn?,
        coverage: coverage?,
        ttl: ttl?,
        hint_lifetime: hint_lifetime?,
        choose_by: choose_by?,
        dns: dns?,
        https: https?,
        srv: srv?,
        answers: answers.and_then(|answers| u8::try_from(answers).ok())?,
        policy_class: policy_class.and_then(|class| u8::try_from(class).ok())?,
        fallback: fallback?,
        authorised: authorised?,
        location: location?,
        origin: section.place.origin(),
    })
}

/// `https`: `true` or a table. `None` if there is an error.
fn read_binding(value: &Value<'_>) -> Option<Option<Binding>> {
    const EXAMPLE: &str = "{ alpn = [\"h2\", \"h3\"], port = 8443 }";
    if !value.is_table() {
        let binding = Binding { alpn: vec!["h2".to_owned()], port: 443 };
        return value.boolean().map(|told| told.then_some(binding));
    }
    let section = value.section(&["alpn", "port"], EXAMPLE)?;
    let port = section.get("port").map_or(Some(443), |port| port.port());
    let mut alpn: Vec<String> = Vec::new();
    for element in section.get("alpn").map_or(Some(Vec::new()), |list| list.list(EXAMPLE))? {
        let id = element.word("\"h2\"")?;
        if id.text == "http/1.1" {
            id.place.error("`http/1.1` goes without saying", "leave it out (RFC 9460, section 9.1)");
            return None;
        }
        alpn.push(id.text.to_owned());
    }
    let length: usize = alpn.iter().map(|id| id.len() + 1).sum();
    if length > MAX_PARAMETERS - 10 {
        value.place.error(format!("these protocols take {length} bytes"), "name fewer");
        return None;
    }
    Some(Some(Binding { alpn, port: port? }))
}

/// `srv`: SRV answers that name sites.
fn read_locations(value: &Value<'_>) -> Option<Locations> {
    const EXAMPLE: &str =
        "{ domain = \"cdn.acme.net\", media = \"q\", port = 554, sites = { par = 5, fra = 3 } }";
    let section = value.section(&["domain", "media", "port", "sites"], EXAMPLE)?;
    let domain = section.require("domain", "\"cdn.acme.net\"")?.word("\"cdn.acme.net\"")?;
    let domain = names::host_name(&domain)?;
    let media = match section.get("media") {
        None => 'q',
        Some(value) => {
            let text = value.word("\"q\"")?;
            let [letter @ b'a'..=b'z'] = text.text.as_bytes() else {
                text.place.error(format!("`{}` is not a letter a-z", text.text), "for example media = \"q\"");
                return None;
            };
            char::from(*letter)
        }
    };
    let port = section.get("port").map_or(Some(554), |port| port.port())?;
    let mut sites: BTreeMap<String, u32> = BTreeMap::new();
    for (site, number) in section.require("sites", "{ par = 5, fra = 3 }")?.entries("{ par = 5, fra = 3 }")? {
        let value = u32::try_from(number.integer(0..=u64::from(u32::MAX))?).ok()?;
        if sites.values().any(|known| *known == value) {
            number
                .place
                .error(format!("two sites have the number {value}"), "give each site a number of its own");
            return None;
        }
        sites.insert(site.text.to_owned(), value);
    }
    Some(Locations { media, port, domain, sites })
}

/// The content network under `cdn`; it can be left out where all VIPs belong to one.
pub(super) fn read_cdn(section: &Section<'_>, cdns: &[String]) -> Option<usize> {
    match section.get("cdn") {
        // The absence of any VIP is reported once, elsewhere.
        None if cdns.len() < 2 => (!cdns.is_empty()).then_some(0),
        None => {
            section.require("cdn", &format!("\"{}\"; the VIPs belong to {} networks", cdns[0], cdns.len()));
            None
        }
        Some(value) => {
            let text = value.word("\"acme\"")?;
            let found = cdns.iter().position(|known| known == text.text);
            if found.is_none() {
                let known = cdns.iter().map(String::as_str);
                let help = super::suggest::help(text.text, known, "give a [[vip]] this `cdn`");
                text.place.error(format!("`{}` has no VIP", text.text), help);
            }
            found
        }
    }
}

/// Targets in the order written, those of a pattern by name.
fn read_fallback(value: &Value<'_>, targets: &Index) -> Option<Vec<usize>> {
    let mut fallback: Vec<usize> = Vec::new();
    let mut sound = true;
    for element in value.list("[\"par-web-1\"]")? {
        let selected = element.word("[\"par-web-1\"]").and_then(|text| select(&text, targets));
        sound &= selected.is_some();
        for (_, target) in selected.map(|(selected, _)| selected).unwrap_or_default() {
            if !fallback.contains(&target) {
                fallback.push(target);
            }
        }
    }
    sound.then_some(fallback)
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("par-web-*", "par-web-1", true),
            ("par-web-*", "par-web-", true),
            ("par-web-?", "par-web-12", false),
            ("*-web-*", "par-web-1", true),
            ("*web", "par-web-1", false),
            ("*", "", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    /// The obvious definition, exponential in the number of stars.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if naive(rest, name) => true,
            (Some((b'*', _)), Some((_, tail))) => naive(pattern, tail),
            (Some((c, rest)), Some((n, tail))) if *c == b'?' || c == n => naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_defined(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
