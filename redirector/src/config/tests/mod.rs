mod files;
mod kept;
mod keys;
mod naming;
mod network;
mod outcomes;
mod peering;
mod structure;
mod written;

use super::*;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::{LabelRule, TargetState};

/// A small configuration without a mistake.
const SMALL: &str = r#"
[box]
name = "fra1-r1"
management = "198.18.0.5"
interfaces = ["eth1"]

[fleet]
key = "000102030405060708090a0b0c0d0e0f"

[[vip]]
cdn = "acme"
addresses = ["203.0.113.1", "2001:db8:a::1"]

[[region]]
name = "fr"
prefixes = ["192.0.2.0/24", "2001:db8:f::/48"]

[[target]]
name = "par-web-1"
addresses = ["198.51.100.10", "2001:db8:1::10"]
check = { http = "/healthz" }

[[target]]
name = "fra-web-1"
addresses = ["198.51.100.20"]

[[pool]]
name = "par-web"
targets = ["par-web-*"]

[[pool]]
name = "fra-web"
targets = ["fra-web-*"]

[[coverage]]
name = "web-eu"
tiers = [
  { region = "fr", pools = [{ pool = "par-web", share = 3 }, "fra-web"] },
  { region = "*", pools = ["fra-web"] },
]

[[zone]]
suffix = "cdn.acme.net"
names = [{ labels = "{object}.web.{customer}", service = "web" }]

[[service]]
name = "web"
coverage = "web-eu"
urls = ["http://{object}.web.{customer}.cdn.acme.net/*"]
"#;

fn parse_text(text: &str) -> Result<Config, ConfigErrors> {
    parse("test.toml", text.to_owned(), Path::new(""), Errors::Refuse)
}

/// The findings, one a line, for the small configuration with each `(old, new)` applied; an empty `old` appends.
fn findings(changes: &[(&str, &str)]) -> Vec<String> {
    let mut text = SMALL.to_owned();
    for (old, new) in changes {
        if old.is_empty() {
            text.push_str(new);
        } else {
            assert!(text.contains(old), "{old} is not in the configuration");
            text = text.replacen(old, new, 1);
        }
    }
    match parse_text(&text) {
        Ok(config) => config.warnings.iter().map(ToString::to_string).collect(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_small_configuration_becomes_a_network() {
    let Config { box_, network, checks, limits, accounts, warnings, refused } = parse_text(SMALL).unwrap();
    assert_eq!(accounts, AccountTerms::default());
    assert_eq!((box_.name.as_str(), box_.xdp), ("fra1-r1", XdpMode::Auto));
    assert_eq!(box_.management, "198.18.0.5".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(box_.interfaces, ["eth1"]);
    assert_eq!(network.key[..3], [0, 1, 2]);
    assert_eq!(network.cdns, ["acme"]);
    assert_eq!(network.vips[0].name, "acme");
    assert_eq!(network.vips[0].ipv4, ["203.0.113.1".parse::<std::net::Ipv4Addr>().unwrap()]);
    assert_eq!(network.regions[0].prefixes.len(), 2);
    let targets: Vec<_> = network.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(targets, ["fra-web-1", "par-web-1"]);
    assert!(checks[0].is_none());
    assert_eq!(checks[1].as_ref().unwrap().fall, 3);
    assert_eq!(network.pools[0].members, [(0, 1)]);
    let tiers = &network.coverages[0].tiers;
    assert_eq!((tiers[0].region, tiers[0].pools.as_slice()), (Some(0), [(0, 1), (1, 3)].as_slice()));
    assert_eq!((tiers[1].region, tiers[1].pools.as_slice()), (None, [(0, 1)].as_slice()));
    assert_eq!(network.zones[0].suffix, ["cdn", "acme", "net"]);
    assert_eq!(network.zones[0].grammars[0].labels[1], LabelRule::Fixed("web".to_owned()));
    assert_eq!(network.urls[0].suffix, ["cdn", "acme", "net"]);
    assert_eq!(network.urls[0].host, network.zones[0].grammars[0].labels);
    assert_eq!(limits, Limits::default());
    assert!(warnings.is_empty() && refused.is_empty());
}

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/redirector.toml")
}

#[test]
fn the_example_loads_without_a_warning() {
    match load(&example()) {
        Ok(config) => assert!(config.warnings.is_empty(), "{:?}", config.warnings),
        Err(errors) => panic!("{}", errors.report(false)),
    }
}

#[test]
fn the_example_becomes_tables() {
    let network = load(&example()).unwrap().network;
    let states = vec![TargetState::default(); network.targets.len()];
    let mut slots = CounterSlots::new(64, 64, 64);
    if let Err(refusals) = redirector_plan::compile(&network, &states, 1, &mut slots) {
        panic!("{refusals:#?}");
    }
}
