//! One bad part does not freeze the others (A-10).

use super::*;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// The small configuration with a second service, and a second name and region to see changes by.
fn two_services() -> String {
    let tv = "[[service]]\nname = \"tv\"\ncoverage = \"web-eu\"\nttl = \"7s\"\nfallback = [\"par-web-1\"]\n\
              urls = [\"rtsp://{channel}.tv.cdn.acme.net/*\"]\n";
    let names = r#"service = "web" }, { labels = "{channel}.tv", service = "tv" }]"#;
    format!("{}{tv}", SMALL.replace(r#"service = "web" }]"#, names))
}

fn reload(text: &str, last: Option<&Config>) -> Result<Config, ConfigErrors> {
    let last = last.map(Config::last_good);
    parse("test.toml", text.to_owned(), Path::new(""), Errors::Keep { last, more: &[] })
}

fn service<'n>(network: &'n Network, name: &str) -> Option<&'n redirector_plan::model::Service> {
    network.services.iter().find(|service| service.name == name)
}

fn part(kind: &str, name: &str) -> Part {
    Part { kind: kind.to_owned(), name: name.to_owned() }
}

/// What became of parts, by their names.
fn fates(config: &Config) -> Vec<(String, Fate)> {
    config.kept.iter().map(|(part, fate)| (part.to_string(), *fate)).collect()
}

#[test]
fn a_service_with_errors_stays_as_it_was_and_the_rest_is_taken() {
    let last = parse_text(&two_services()).unwrap();
    // Another target comes first, so that all indices of the last network are wrong in the new one.
    let target = "[[target]]\nname = \"a-new-one\"\naddresses = [\"198.51.100.30\"]\n";
    let text = format!("{}{target}", two_services().replace("ttl = \"7s\"", "ttl = \"8\""));
    let text = text.replace("coverage = \"web-eu\"\nurls", "coverage = \"web-eu\"\nttl = \"9s\"\nurls");

    assert!(parse_text(&text).is_err());
    let config = reload(&text, Some(&last)).unwrap();
    let tv = service(&config.network, "tv").unwrap();
    assert_eq!(tv.ttl, 7);
    assert_eq!(config.network.targets[tv.fallback[0]].name, "par-web-1");
    assert_eq!(service(&config.network, "web").unwrap().ttl, 9);
    assert_eq!(config.network.zones[0].grammars.len(), 2);
    let urls: Vec<_> =
        config.network.urls.iter().map(|rule| config.network.services[rule.service].name.as_str()).collect();
    assert_eq!(urls, ["tv", "web"]);
    assert_eq!(config.refused.len(), 1);
    assert_eq!(config.refused[0].part, Some(part("service", "tv")));
    assert_eq!(fates(&config), [("service `tv`".to_owned(), Fate::AsItWas)]);
    // Where it was written is told, and that this is not the file as it is now.
    assert_eq!(tv.origin.file, "test.toml (last good state)");
    assert_eq!(tv.origin.line, service(&last.network, "tv").unwrap().origin.line);
    // What stays as it was once is what stays as it was twice.
    let again = reload(&text, Some(&config)).unwrap();
    assert_eq!((&again.network, &again.parts), (&config.network, &config.parts));
}

#[test]
fn an_unknown_key_makes_a_service_stay_as_it_was() {
    let last = parse_text(&two_services()).unwrap();
    let text = two_services().replace("ttl = \"7s\"", "ttl = \"8s\"\nclasses = {}");
    let config = reload(&text, Some(&last)).unwrap();
    assert_eq!(service(&config.network, "tv").unwrap().ttl, 7);
}

#[test]
fn a_new_service_with_errors_is_left_out_with_its_names() {
    let last = parse_text(SMALL).unwrap();
    let text = two_services().replace("ttl = \"7s\"", "ttl = \"8\"");
    for last in [Some(&last), None] {
        let config = reload(&text, last).unwrap();
        assert_eq!(config.network.services.len(), 1);
        assert_eq!(config.network.zones[0].grammars.len(), 1);
        assert_eq!(config.refused.len(), 1);
        assert_eq!(fates(&config), [("service `tv`".to_owned(), Fate::LeftOut)]);
    }
}

#[test]
fn a_part_cannot_stay_as_it_was_without_what_it_needs() {
    let last = parse_text(&two_services()).unwrap();
    let text = two_services().replace("ttl = \"7s\"", "ttl = \"8\"").replace("web-eu", "web-us");
    let errors = reload(&text, Some(&last)).unwrap_err();
    let found: Vec<_> = errors.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        found,
        [
            "`8` is not a duration",
            "service `tv` has errors and cannot stay as it was: there is no coverage `web-eu`"
        ]
    );
}

/// A configuration in which every kind of part occurs; its files lie in the directory.
fn whole(dir: &Path) -> String {
    fs::write(dir.join("fr.txt"), "192.0.2.0/24\n").unwrap();
    fs::write(dir.join("isp.txt"), "198.18.64.0/24\n").unwrap();
    key_file(dir, &"0123456789abcdef".repeat(4));
    let mut text = SMALL
        .replace("prefixes = [\"192.0.2.0/24\", \"2001:db8:f::/48\"]", "prefixes = { file = \"fr.txt\" }");
    text += "
[limits]
burst = \"1s\"
[labels]
size = [\"sd\", \"hd\"]
[network]
name = \"acme\"
[[partner]]
name = \"isp\"
clients = { file = \"isp.txt\" }
[[target]]
name = \"outside\"
cname = \"edge.bcast.example\"
[[provider]]
name = \"nbc\"
customers = [\"nbc\"]
primary = [\"bcast\"]
outside = \"outside\"
[[broker]]
name = \"exchange\"
[[peering]]
with = \"bcast\"
price = 3
[[key]]
name = \"2026\"
id = 1
file = \"2026.key\"
[[zone]]
suffix = \"live.acme.net\"
names = [{ labels = \"{channel}\", service = \"web\" }]
";
    text
}

fn key_file(dir: &Path, text: &str) {
    let path = dir.join("2026.key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Each kind of part: what is exchanged for a mistake in it, and what the mistake is.
const MISTAKES: [(&str, &str, &str, &str); 17] = [
    ("box", "name = \"fra1-r1\"", "nome = \"fra1-r1\"", "`nome` is not a key"),
    ("fleet", "key = \"0001", "key = \"zz01", "not hexadecimal"),
    ("limits", "burst = \"1s\"", "burst = \"1y\"", "`1y` is not a duration"),
    ("labels", "size = [\"sd\", \"hd\"]", "size = []", "is empty"),
    (
        "network",
        "[network]\nname = \"acme\"",
        "[network]\nname = \"acme\"\nclient = 3",
        "`client` is not a key",
    ),
    ("partner `isp`", "isp.txt", "ips.txt", "cannot read"),
    ("vip `acme`", "\"203.0.113.1\"", "\"203.0.113.1/32\"", "is not an IP address"),
    ("region `fr`", "fr.txt", "rf.txt", "cannot read"),
    ("target `par-web-1`", "198.51.100.10", "198.51.100.1O", "is not an IP address"),
    ("pool `par-web`", "\"par-web-*\"", "\"par-wbe-*\"", "no target's name matches"),
    ("coverage `web-eu`", "share = 3", "share = 0", "out of range"),
    ("service `web`", "coverage = \"web-eu\"", "coverage = \"web-us\"", "there is no coverage `web-us`"),
    ("zone `live.acme.net`", "{channel}\"", "{channel\"", "`{channel`"),
    ("provider `nbc`", "outside = \"outside\"", "outside = \"inside\"", "there is no target `inside`"),
    ("peering `bcast`", "price = 3", "price = \"dear\"", "dear"),
    ("key `2026`", "id = 1", "id = 1000", "out of range"),
    ("broker `exchange`", "name = \"exchange\"", "name = \"exchange\"\nurl = \"x\"", "`url` is not a key"),
];

/// Every kind of part with a mistake in it: that part stays as it was, and a change elsewhere is taken.
#[test]
fn every_kind_of_part_stays_as_it_was_when_it_has_errors() {
    let dir = tempfile::tempdir().unwrap();
    let good = whole(dir.path());
    let read = |text: &str, mode| parse("test.toml", text.to_owned(), dir.path(), mode);
    let last = read(&good, Errors::Refuse).unwrap();
    let keep = || Errors::Keep { last: Some(last.last_good()), more: &[] };
    for (name, right, wrong, told) in MISTAKES {
        assert!(good.contains(right), "{right}");
        // The same configuration with something new in it.
        let mut text = good.replacen(right, wrong, 1);
        text += "[[target]]\nname = \"a-new-one\"\naddresses = [\"198.51.100.77\"]\n";
        let checked = read(&text, Errors::Refuse).unwrap_err();
        assert!(checked.iter().any(|finding| finding.message.contains(told)), "{name}: {checked}");
        let config = read(&text, keep()).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let kept: Vec<String> = config.kept.keys().map(ToString::to_string).collect();
        let shown = if name.contains('`') { name.to_owned() } else { format!("[{name}]") };
        assert_eq!(kept, [shown], "{:?}", config.refused);
        assert!(config.refused.iter().all(|finding| finding.origin.line > 0), "{:?}", config.refused);
        let new = config.network.targets.iter().filter(|target| target.name == "a-new-one").count();
        assert_eq!(new, 1, "{name}");
        // But for that, it is what it would be without the mistake.
        let mut wanted = read(&text.replacen(wrong, right, 1), Errors::Refuse).unwrap();
        let mut got = config;
        for config in [&mut wanted, &mut got] {
            strip_origins(&mut config.network);
        }
        assert_eq!(got.network, wanted.network, "{name}");
        assert_eq!((got.box_, got.limits, got.checks), (wanted.box_, wanted.limits, wanted.checks), "{name}");
    }
}

/// Places differ, and nothing else may.
fn strip_origins(network: &mut Network) {
    let text = serde_json::to_string(network).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, none) in [("file", "".into()), ("line", 0.into()), ("column", 0.into())] {
                    if let Some(value) = map.get_mut(key) {
                        *value = none;
                    }
                }
                map.values_mut().for_each(strip);
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    *network = serde_json::from_value(value).unwrap();
}

/// Files that are named: what was in them when they were good is what counts.
#[test]
fn a_bad_file_leaves_its_part_with_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = whole(dir.path());
    let read = |mode| parse("test.toml", text.clone(), dir.path(), mode);
    let last = read(Errors::Refuse).unwrap();
    fs::write(dir.path().join("fr.txt"), "192.0.2.0/24\n192.0.2.0/33\n").unwrap();
    fs::write(dir.path().join("isp.txt"), b"\xff\xfe").unwrap();
    key_file(dir.path(), "no key");
    let found = read(Errors::Refuse).unwrap_err();
    assert_eq!(found.iter().filter(|finding| finding.severity == Severity::Error).count(), 3, "{found}");
    let config = read(Errors::Keep { last: Some(last.last_good()), more: &[] }).unwrap();
    let kept: Vec<String> = config.kept.keys().map(ToString::to_string).collect();
    assert_eq!(kept, ["key `2026`", "partner `isp`", "region `fr`"]);
    assert_eq!(config.network.regions[0].prefixes, last.network.regions[0].prefixes);
    assert_eq!(config.network.keys[0].secret, last.network.keys[0].secret);
    assert_eq!(config.network.peering.networks[1].prefixes, last.network.peering.networks[1].prefixes);
    let told: Vec<_> = config.refused.iter().map(|finding| finding.origin.file.rsplit('/').next()).collect();
    assert!(told.contains(&Some("fr.txt")) && told.contains(&Some("test.toml")), "{told:?}");
    // Gone altogether, and read again from a state that was kept over a restart.
    for file in ["fr.txt", "isp.txt", "2026.key"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    let state = crate::state::disk::LastGood::new(7, &config, &crate::state::new_slots());
    let state = crate::state::disk::LastGood::parse(&serde_json::to_vec(&state).unwrap()).unwrap();
    let again = read(Errors::Keep { last: Some(state.last_good()), more: &[] }).unwrap();
    assert_eq!((again.network, again.kept), (config.network, config.kept));
}

/// What leads to a part that is left out stays as it was, too.
#[test]
fn what_needs_a_new_part_with_errors_stays_as_it_was() {
    let last = parse_text(SMALL).unwrap();
    let text = SMALL.replace("targets = [\"fra-web-*\"]", "targets = [\"fra-web-*\", \"extra\"]")
        + "[[target]]\nname = \"extra\"\naddresses = [\"nowhere\"]\n";
    let config = reload(&text, Some(&last)).unwrap();
    let kept = [("pool `fra-web`".to_owned(), Fate::AsItWas), ("target `extra`".to_owned(), Fate::LeftOut)];
    assert_eq!(fates(&config), kept);
    assert_eq!(config.network.pools, {
        let mut pools = last.network.pools.clone();
        pools[0].origin.file += " (last good state)";
        pools
    });
    // Without anything to stay like, the whole is refused: nobody is served by halves.
    assert!(reload(&text, None).is_err());
}

/// Prefixes move from one region to another, and the one that loses them has an error: neither changes.
#[test]
fn what_contradicts_a_part_that_stays_as_it_was_stays_as_it_was() {
    let two = SMALL.replace(
        "[[target]]\nname = \"par",
        "[[region]]\nname = \"be\"\nprefixes = [\"198.18.0.0/24\"]\n[[target]]\nname = \"par",
    );
    let last = parse_text(&two).unwrap();
    let moved = two
        .replace("[\"192.0.2.0/24\", \"2001:db8:f::/48\"]", "[\"2001:db8:f::/40\"]")
        .replace("[\"198.18.0.0/24\"]", "[\"198.18.0.0/24\", \"192.0.2.0/24\"]");
    let config = reload(&moved, Some(&last)).unwrap();
    let kept: Vec<String> = config.kept.keys().map(ToString::to_string).collect();
    assert_eq!(kept, ["region `be`", "region `fr`"]);
    let told: Vec<String> = config.refused.iter().map(|finding| finding.message.clone()).collect();
    assert!(told.iter().any(|line| line.contains("192.0.2.0/24 is in region")), "{told:?}");
}

#[test]
fn what_stands_in_no_part_refuses_the_whole() {
    let last = parse_text(SMALL).unwrap();
    for (text, told) in [
        (SMALL.replace("[fleet]", "[flete]"), "`flete` is not a table"),
        (SMALL.replace("[fleet]\nkey = \"000102030405060708090a0b0c0d0e0f\"\n", ""), "there is no [fleet]"),
        (SMALL.replace("[box]", "[box"), "test.toml:2"),
    ] {
        let errors = reload(&text, Some(&last)).unwrap_err();
        assert!(errors.to_string().contains(told), "{errors}");
    }
}

#[test]
fn a_sound_configuration_does_not_depend_on_the_last_one() {
    let last = parse_text(&two_services()).unwrap();
    let config = reload(SMALL, Some(&last)).unwrap();
    assert_eq!(config.network, parse_text(SMALL).unwrap().network);
    assert!(config.refused.is_empty() && config.kept.is_empty());
}

/// What only the compiler finds is an error of the part that it stands in.
#[test]
fn what_the_compiler_refuses_leads_back_to_its_part() {
    let mut names = String::new();
    for free in 0..20 {
        let labels = ["{a}", "{b}", "{c}", "{d}", "{e}"].map(str::to_owned);
        let pattern: Vec<String> = labels
            .iter()
            .enumerate()
            .map(|(n, label)| if free >> n & 1 == 1 { label.clone() } else { format!("x{n}") })
            .collect();
        let _ = write!(names, ", {{ labels = \"{}\", service = \"web\" }}", pattern.join("."));
    }
    let last = parse_text(SMALL).unwrap();
    let text = SMALL.replace("service = \"web\" }]", &format!("service = \"web\" }}{names}]"));
    let config = parse_text(&text).unwrap();
    let states = vec![TargetState::default(); config.network.targets.len()];
    let refusals = redirector_plan::compile(&config.network, &states, 1, &mut CounterSlots::new(64, 64, 64))
        .unwrap_err();
    let part = config.part_at(&refusals[0].origin).cloned().expect("a part");
    assert_eq!(part.to_string(), "zone `cdn.acme.net`");
    let more: Vec<_> = refusals.iter().map(|refusal| ConfigError::of_part(part.clone(), refusal)).collect();
    let kept =
        parse("test.toml", text, Path::new(""), Errors::Keep { last: Some(last.last_good()), more: &more });
    let kept = kept.unwrap();
    assert_eq!(fates(&kept), [("zone `cdn.acme.net`".to_owned(), Fate::AsItWas)]);
    assert_eq!(kept.network.zones[0].grammars.len(), 1);
    assert!(kept.refused[0].to_string().contains("forms"), "{}", kept.refused[0]);
}
