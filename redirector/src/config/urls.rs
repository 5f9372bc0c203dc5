//! URL rules and `Location` templates of services (P-17, P-23, P-26).

use super::names::{self, Labels};
use super::patterns;
use super::proofs;
use super::read::{Place, Text, Value};
use redirector_core::table::{MAX_CODEPOINT_LABELS, MAX_PATH_SEGMENTS};
use redirector_plan::model::{LabelRule, Schemes, Service, Signed, UrlRule, Zone};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

const EXAMPLE: &str = "http://{customer}.cdn.acme.net/live/*";

/// A URL rule of a service.
#[derive(Debug)]
pub(super) struct UrlPattern<'a> {
    schemes: Schemes,
    /// All labels of the host, leftmost first; a literal address has fixed labels only.
    host: Vec<LabelRule>,
    path: Vec<String>,
    signed: Option<Signed>,
    place: Place<'a>,
}

impl UrlPattern<'_> {
    fn into_rule(mut self, service: usize, zones: &Zones<'_>) -> UrlRule {
        let fixed = |rule: &&LabelRule| matches!(rule, LabelRule::Fixed(_));
        let tail = self.host.iter().rev().take_while(fixed).count();
        let tail = self.host.split_off(self.host.len() - tail).into_iter().filter_map(|rule| match rule {
            LabelRule::Fixed(label) => Some(label),
            LabelRule::Free(_) | LabelRule::OneOf(..) => None,
        });
        let mut suffix: Vec<String> = tail.collect();
        // One zone has the hosts of many services: its suffix serves them all.
        if let Some(start) = (0..suffix.len()).rev().find(|start| zones.contains(&suffix[*start..])) {
            self.host.extend(suffix.drain(..start).map(LabelRule::Fixed));
        }
        let Self { schemes, host, path, signed, place } = self;
        UrlRule { schemes, host, suffix, path, service, signed, origin: place.origin() }
    }
}

/// The URL rules of one service.
#[derive(Debug)]
pub(super) enum Urls<'a> {
    /// As written.
    Written(Vec<UrlPattern<'a>>),
    /// Of a service that stays as it was.
    Kept(Vec<UrlRule>),
}

/// Suffixes of one CDN's zones.
type Zones<'z> = BTreeSet<&'z [String]>;

/// Reads a service's `urls`; `None` if one of them has an error.
pub(super) fn read_urls<'a>(
    value: &Value<'a>,
    labels: &Labels,
    proofs: &proofs::References<'_>,
) -> Option<Vec<UrlPattern<'a>>> {
    let list = value.list(&format!("[\"{EXAMPLE}\"]"))?;
    let read: Vec<_> = list.iter().filter_map(|element| read_element(element, labels, proofs)).collect();
    (read.len() == list.len()).then(|| read.into_iter().flatten().collect())
}

/// A rule, or a table with a rule and what it asks for: one pattern for each choice of its optional labels.
fn read_element<'a>(
    element: &Value<'a>,
    labels: &Labels,
    proofs: &proofs::References<'_>,
) -> Option<Vec<UrlPattern<'a>>> {
    if !element.is_table() {
        return read_url(&element.text(&format!("[\"{EXAMPLE}\"]"))?, labels);
    }
    let section = element.section(&["url", "signed"], &format!("{{ url = \"{EXAMPLE}\" }}"))?;
    let text = section.require("url", &format!("\"{EXAMPLE}\""))?.word(&format!("\"{EXAMPLE}\""))?;
    let patterns = read_url(&text, labels);
    let hosts: Vec<_> = patterns.iter().flatten().map(|pattern| pattern.host.clone()).collect();
    let signed = proofs.signed(&section, &hosts)?;
    let with = |pattern| UrlPattern { signed: signed.clone(), ..pattern };
    Some(patterns?.into_iter().map(with).collect())
}

fn read_url<'a>(text: &Text<'a>, labels: &Labels) -> Option<Vec<UrlPattern<'a>>> {
    let Some(scheme_end) = text.text.find("://") else {
        text.place.error(format!("`{}` is not a URL rule", text.text), format!("for example \"{EXAMPLE}\""));
        return None;
    };
    let schemes = read_schemes(text, 0..scheme_end);
    let host_start = scheme_end + "://".len();
    let host_end = text.text[host_start..].find('/').map_or(text.text.len(), |slash| host_start + slash);
    let host = read_host(text, host_start..host_end, labels);
    let path = read_path(text, host_end);
    let (schemes, path, place) = (schemes?, path?, &text.place);
    let pattern = |host| UrlPattern { schemes, host, path: path.clone(), signed: None, place: place.clone() };
    Some(host?.into_iter().map(pattern).collect())
}

fn read_schemes(text: &Text<'_>, part: Range<usize>) -> Option<Schemes> {
    let mut schemes = Schemes { http: false, https: false, rtsp: false };
    for scheme in text.text[part.clone()].split('|') {
        let known = match scheme {
            "http" => &mut schemes.http,
            "https" => &mut schemes.https,
            "rtsp" => &mut schemes.rtsp,
            _ => {
                let message = format!("`{scheme}` is not a scheme of URL rules");
                text.part(part).error(message, "write http, https or rtsp, or several: http|https://…");
                return None;
            }
        };
        if std::mem::replace(known, true) {
            text.part(part).error(format!("`{scheme}` is listed twice"), "leave one out");
            return None;
        }
    }
    Some(schemes)
}

/// The host: labels and variables, or a literal address.
fn read_host(text: &Text<'_>, part: Range<usize>, labels: &Labels) -> Option<Vec<Vec<LabelRule>>> {
    let host = &text.text[part.clone()];
    let fixed = |label: &str| LabelRule::Fixed(label.to_owned());
    if let Some(literal) = host.strip_prefix('[') {
        let address = literal.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        if address.is_none() {
            let message = format!("`{host}` is not an IPv6 address in brackets");
            text.part(part).error(
                message,
                "for example http://[2001:db8::1]/*; rules hold for every port, so write none",
            );
        }
        return address.map(|address| vec![vec![fixed(&format!("[{address}]"))]]);
    }
    if host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
        text.part(part).error("an IPv6 address in a URL stands in brackets", format!("write [{host}]"));
        return None;
    }
    let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some((bare, _)) = bare {
        text.part(part).error("a URL rule has no port: it holds for every port", format!("write {bare}"));
        return None;
    }
    if host.contains('@') {
        text.part(part).error("a URL rule has no user or password", "leave out what stands before the host");
        return None;
    }
    let patterns = labels.rules(text, part.clone())?;
    let sound = patterns.iter().all(|rules| check_host(rules, text, part.clone()));
    sound.then_some(patterns)
}

/// Whether a pattern is one that a host can have; reports it if not.
fn check_host(rules: &[LabelRule], text: &Text<'_>, part: Range<usize>) -> bool {
    let tail = rules.iter().rev().take_while(|rule| matches!(rule, LabelRule::Fixed(_))).count();
    if tail == 0 {
        let help = "for example {customer}.cdn.acme.net";
        text.part(part).error("the host's last label must be fixed", help);
        return false;
    }
    if rules.len() - tail > MAX_CODEPOINT_LABELS {
        let message = format!("{} labels up to the last variable", rules.len() - tail);
        text.part(part).error(message, format!("there can be {MAX_CODEPOINT_LABELS}"));
        return false;
    }
    names::check_size(text, rules.iter().map(names::shortest))
}

/// The leading segments of a path that ends in `/*`.
fn read_path(text: &Text<'_>, start: usize) -> Option<Vec<String>> {
    let path = &text.text[start..];
    let place = text.part(start..text.text.len());
    let Some(leading) = path.strip_suffix("/*") else {
        let end = path.trim_end_matches(['*', '/']);
        place.error("a URL rule holds for everything beneath a path", format!("end it in {end}/*"));
        return None;
    };
    let segments: Vec<String> = leading.split('/').skip(1).map(str::to_owned).collect();
    if segments.len() > MAX_PATH_SEGMENTS {
        let message = format!("this path has {} segments", segments.len());
        place.error(message, format!("rules can have {MAX_PATH_SEGMENTS}: write the leading ones"));
        return None;
    }
    for segment in &segments {
        let wrong = |c: char| !c.is_ascii_graphic() || "*{}?#\\\"<>^`|".contains(c);
        if segment.is_empty() || segment == "." || segment == ".." {
            let message = match segment.as_str() {
                "" => "a path segment is empty".to_owned(),
                dots => format!("`{dots}` is not a segment of rules: clients resolve it before they ask"),
            };
            place.error(message, "for example /live/*");
            return None;
        }
        if let Some(c) = segment.chars().find(|c| wrong(*c)) {
            let message = format!("{c:?} cannot stand in a path segment of a rule");
            place.error(
                message,
                "`*` stands at the end alone; other characters are written as clients send them, as %XX",
            );
            return None;
        }
    }
    Some(segments)
}

/// The URL rules of all services, in an order that does not depend on the file's.
pub(super) fn rules(services: &[Service], urls: Vec<Urls<'_>>, zones: &[Zone]) -> Vec<UrlRule> {
    check_contradictions(services, &urls);
    let mut suffixes: BTreeMap<usize, Zones<'_>> = BTreeMap::new();
    for zone in zones {
        suffixes.entry(zone.cdn).or_default().insert(&zone.suffix);
    }
    let none = Zones::new();
    let of_service = |(service, urls): (usize, Urls<'_>)| {
        let zones = suffixes.get(&services[service].cdn).unwrap_or(&none);
        let mut rules: Vec<UrlRule> = match urls {
            Urls::Written(patterns) => {
                patterns.into_iter().map(|pattern| pattern.into_rule(service, zones)).collect()
            }
            Urls::Kept(rules) => rules.into_iter().map(|rule| UrlRule { service, ..rule }).collect(),
        };
        rules.sort_by_cached_key(|rule| {
            let Schemes { http, https, rtsp } = rule.schemes;
            (rule.suffix.clone(), patterns::sort_key(&rule.host), rule.path.clone(), (http, https, rtsp))
        });
        rules
    };
    urls.into_iter().enumerate().flat_map(of_service).collect()
}

/// Reports URLs that two rules of one CDN claim with equal right. Whether a service that stays as it was takes part in
/// that is left to the compiler.
fn check_contradictions(services: &[Service], urls: &[Urls<'_>]) {
    type Key<'k> = (usize, &'static str, Vec<Option<&'k str>>, &'k [String]);
    let mut claimed: BTreeMap<Key<'_>, (&str, &UrlPattern<'_>)> = BTreeMap::new();
    for (service, urls) in services.iter().zip(urls) {
        let Urls::Written(patterns) = urls else { continue };
        for pattern in patterns {
            if !patterns::check_count(&pattern.host, &pattern.place) {
                continue;
            }
            let Schemes { http, https, rtsp } = pattern.schemes;
            let schemes = [("http", http), ("https", https), ("rtsp", rtsp)];
            let mut earlier = None;
            for (scheme, _) in schemes.into_iter().filter(|(_, covered)| *covered) {
                for host in patterns::expand(&pattern.host) {
                    let key = (service.cdn, scheme, host, pattern.path.as_slice());
                    earlier = earlier.or(claimed.get(&key).copied());
                    claimed.entry(key).or_insert((&service.name, pattern));
                }
            }
            if let Some((owner, other)) = earlier {
                let (first, second) = other.place.clone().in_order(pattern.place.clone());
                let names = format!("services `{owner}` and `{}`", service.name);
                let message = match owner == service.name {
                    true => format!("this covers URLs that the rule on line {} covers", first.line()),
                    false => format!(
                        "{names} both have these URLs, by this rule and the one on line {}",
                        first.line()
                    ),
                };
                second
                    .error(message, "leave one rule out, or give one a longer path or a more specific host");
            }
        }
    }
}

/// Variables of `Location` templates.
const VARIABLES: [&str; 5] = ["scheme", "target", "port", "host", "path"];

/// Reads a `Location` template. It must lead to the chosen target, or clients could be sent back here (P-4).
pub(super) fn location(value: &Value<'_>) -> Option<String> {
    let text = value.word("\"{scheme}://{target}{path}\"")?;
    if let Some(c) = text.text.chars().find(|c| !c.is_ascii_graphic()) {
        text.place.error(format!("{c:?} cannot stand in a URL"), "write it as %XX");
        return None;
    }
    let mut rest = text.text;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        if !VARIABLES.contains(&name) {
            let help = super::suggest::help(name, VARIABLES, "");
            text.place.error(format!("`{name}` is not a variable of locations"), help);
            return None;
        }
        rest = tail;
    }
    let leads_to_target = ["{scheme}", "http", "https", "rtsp"].iter().any(|scheme| {
        let authority = text.text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://{target}"));
        authority.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '{']))
    });
    if !leads_to_target {
        text.place.error(
            "a location leads to the chosen target",
            "begin it with {scheme}://{target}, http://{target}, …",
        );
        return None;
    }
    Some(text.text.to_owned())
}
