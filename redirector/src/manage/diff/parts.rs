//! What is written in two configurations, by names: places in files and order do not count.

use crate::config::Config;
use redirector_plan::model::{LabelRule, Network, Outcome, Tier};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

/// Something that is in both, and not the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// What differs, before and after.
    pub fields: BTreeMap<String, (Value, Value)>,
}

/// Differences of one kind of things.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartDiff {
    /// What they are.
    pub kind: &'static str,
    /// Names of what is new.
    pub added: Vec<String>,
    /// Names of what is gone.
    pub removed: Vec<String>,
    /// What is other than it was.
    pub changed: Vec<Changed>,
}

/// Things of one kind, by name.
type Things = BTreeMap<String, Value>;

/// Every difference, kind by kind.
pub(super) fn compare(old: &Config, new: &Config) -> Vec<PartDiff> {
    // Of secrets is told that they differ, and nothing else: by hashes that nobody can make twice.
    let hasher = RandomState::new();
    let (old, new) = (things(old, &hasher), things(new, &hasher));
    let kinds = old.into_iter().zip(new);
    kinds.filter_map(|((kind, old), (_, new))| difference(kind, old, new)).collect()
}

fn difference(kind: &'static str, mut old: Things, new: Things) -> Option<PartDiff> {
    let mut part = PartDiff { kind, added: Vec::new(), removed: Vec::new(), changed: Vec::new() };
    for (name, after) in new {
        match old.remove(&name) {
            None => part.added.push(name),
            Some(before) if before != after => {
                part.changed.push(Changed { name, fields: fields(&before, &after) });
            }
            Some(_) => {}
        }
    }
    part.removed = old.into_keys().collect();
    let same = part.added.is_empty() && part.removed.is_empty() && part.changed.is_empty();
    (!same).then_some(part)
}

/// Fields that differ; a thing without fields is one by itself.
fn fields(before: &Value, after: &Value) -> BTreeMap<String, (Value, Value)> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return [("is".to_owned(), (before.clone(), after.clone()))].into();
    };
    let names = old.keys().chain(new.keys());
    let field = |name: &String| {
        let get = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
        (name.clone(), (get(old), get(new)))
    };
    names.map(field).filter(|(_, (before, after))| before != after).collect()
}

/// As JSON, without what it is called and where it stands.
fn plain(thing: &impl Serialize, over: Value) -> Value {
    let mut value = serde_json::to_value(thing).unwrap_or_default();
    if let (Value::Object(fields), Value::Object(over)) = (&mut value, over) {
        fields.remove("name");
        fields.remove("origin");
        fields.extend(over);
        fields.retain(|_, value| !value.is_null());
    }
    value
}

fn things(config: &Config, hasher: &RandomState) -> Vec<(&'static str, Things)> {
    let network = &config.network;
    let secret = |secret: &[u8]| json!(hasher.hash_one(secret));
    let cdn = |index: usize| network.cdns.get(index);
    let key = |key: &redirector_plan::model::NameKey| {
        (key.name.clone(), plain(key, json!({ "secret": secret(&key.secret) })))
    };
    let vip =
        |vip: &redirector_plan::model::Vip| (vip.name.clone(), plain(vip, json!({ "cdn": cdn(vip.cdn) })));
    let region = |(index, region): (usize, &redirector_plan::model::Region)| {
        let default = network.default_region == Some(index);
        let prefixes: Vec<String> = region.prefixes.iter().map(ToString::to_string).collect();
        // As many as there may be, their number and whether they are the same is what is told.
        let same = hasher.hash_one(&prefixes) >> 40;
        let listed = json!({ "count": prefixes.len(), "version": same });
        (region.name.clone(), json!({ "prefixes": listed, "default": default }))
    };
    vec![
        ("box", [(config.box_.name.clone(), plain(&config.box_, json!({})))].into()),
        ("fleet", [("fleet".to_owned(), json!({ "key": secret(&network.key) }))].into()),
        ("limits", [("limits".to_owned(), plain(&config.limits, json!({})))].into()),
        ("log", [("log".to_owned(), plain(&config.log, json!({})))].into()),
        ("key", network.keys.iter().map(key).collect()),
        ("vip", network.vips.iter().map(vip).collect()),
        ("region", network.regions.iter().enumerate().map(region).collect()),
        ("target", targets(config)),
        ("pool", pools(network)),
        ("coverage", coverages(network)),
        ("service", services(network)),
        ("zone", zones(network)),
        ("name", names(network)),
        ("url", urls(network)),
        ("network", networks(network)),
        ("provider", providers(network)),
        ("broker", network.peering.brokers.iter().map(|name| (name.clone(), Value::Null)).collect()),
        ("agreement", agreements(network)),
    ]
}

fn target_name(network: &Network, index: usize) -> &str {
    network.targets.get(index).map_or("?", |target| target.name.as_str())
}

fn targets(config: &Config) -> Things {
    let targets = config.network.targets.iter().enumerate();
    let written = targets.filter(|(_, target)| target.outcome != Outcome::OwnServers);
    written
        .map(|(index, target)| {
            let check = config.checks.get(index).cloned().flatten();
            (target.name.clone(), plain(target, json!({ "check": check })))
        })
        .collect()
}

fn pools(network: &Network) -> Things {
    let members = |pool: &redirector_plan::model::Pool| {
        let named = pool.members.iter().map(|(target, weight)| (target_name(network, *target), *weight));
        json!({ "members": named.collect::<BTreeMap<_, _>>() })
    };
    network.pools.iter().map(|pool| (pool.name.clone(), members(pool))).collect()
}

fn coverages(network: &Network) -> Things {
    let tier = |tier: &Tier| {
        let region = tier.region.map_or("*", |region| network.regions[region].name.as_str());
        let pools = tier.pools.iter().map(|(pool, share)| format!("{} x{share}", network.pools[*pool].name));
        let mut text = format!("{region}: {}", pools.collect::<Vec<_>>().join(", "));
        tier.ttl.iter().for_each(|ttl| text.push_str(&format!(", ttl {ttl} s")));
        tier.within.iter().for_each(|within| text.push_str(&format!(", within {within} us")));
        text
    };
    let tiers = |coverage: &redirector_plan::model::Coverage| json!({ "tiers": coverage.tiers.iter().map(tier).collect::<Vec<_>>() });
    network.coverages.iter().map(|coverage| (coverage.name.clone(), tiers(coverage))).collect()
}

fn services(network: &Network) -> Things {
    let service = |service: &redirector_plan::model::Service| {
        let fallback: Vec<&str> =
            service.fallback.iter().map(|target| target_name(network, *target)).collect();
        let over = json!({
            "cdn": network.cdns.get(service.cdn),
            "coverage": network.coverages.get(service.coverage).map(|coverage| &coverage.name),
            "fallback": fallback,
        });
        (service.name.clone(), plain(service, over))
    };
    network.services.iter().map(service).collect()
}

fn zones(network: &Network) -> Things {
    let zone = |zone: &redirector_plan::model::Zone| {
        let over = json!({ "cdn": network.cdns.get(zone.cdn), "grammars": null, "suffix": null });
        (zone.suffix.join("."), plain(zone, over))
    };
    network.zones.iter().map(zone).collect()
}

/// A label as operators write it.
fn label(rule: &LabelRule) -> String {
    match rule {
        LabelRule::Fixed(text) => text.clone(),
        LabelRule::Free(name) => format!("{{{name}}}"),
        LabelRule::OneOf(name, values) => format!("{{{name}={}}}", values.join("|")),
    }
}

fn pattern(labels: &[LabelRule], suffix: &[String]) -> String {
    labels.iter().map(label).chain(suffix.iter().cloned()).collect::<Vec<_>>().join(".")
}

fn names(network: &Network) -> Things {
    let mut names = Things::new();
    for zone in &network.zones {
        for (place, grammar) in zone.grammars.iter().enumerate() {
            let service = &network.services[grammar.service].name;
            let value = json!({ "service": service, "signed": grammar.signed, "place": place });
            names.insert(pattern(&grammar.labels, &zone.suffix), value);
        }
    }
    names
}

fn urls(network: &Network) -> Things {
    let rule = |rule: &redirector_plan::model::UrlRule| {
        let schemes =
            [(rule.schemes.http, "http"), (rule.schemes.https, "https"), (rule.schemes.rtsp, "rtsp")];
        let schemes: Vec<&str> = schemes.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
        let path: String = rule.path.iter().map(|segment| format!("/{segment}")).collect();
        let name = format!("{}://{}{path}/*", schemes.join("|"), pattern(&rule.host, &rule.suffix));
        (name, json!({ "service": network.services[rule.service].name, "signed": rule.signed }))
    };
    network.urls.iter().map(rule).collect()
}

fn networks(network: &Network) -> Things {
    let networks = network.peering.networks.iter();
    networks.map(|one| (one.name.clone(), plain(one, json!({})))).collect()
}

fn providers(network: &Network) -> Things {
    let provider = |one: &redirector_plan::peering::Provider| {
        let outside = one.outside.map(|target| target_name(network, target));
        (one.name.clone(), plain(one, json!({ "outside": outside })))
    };
    network.peering.providers.iter().map(provider).collect()
}

fn agreements(network: &Network) -> Things {
    let agreement = |one: &redirector_plan::peering::Agreement| {
        let of = network.peering.networks.get(one.network).map(|network| &network.name);
        (one.name.clone(), plain(one, json!({ "network": of })))
    };
    network.peering.agreements.iter().map(agreement).collect()
}
