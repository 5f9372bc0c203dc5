//! Keys, what names and services ask for, optional labels, and what mistakes in them are answered with.

use super::*;
use redirector_plan::model::{Authorised, Otherwise, Sealed, Signed, Unauthorised};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NAMES: &str = "names = [{ labels = \"{object}.web.{customer}\", service = \"web\" }]";

/// A directory with a key file of this content and mode.
fn directory(content: &str, mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    dir
}

const KEY: &str = "[[key]]\nname = \"k1\"\nid = 1\nfile = \"secret\"\n";

fn parse_in(dir: &tempfile::TempDir, text: &str) -> Result<Config, ConfigErrors> {
    parse("test.toml", text.to_owned(), dir.path(), Errors::Refuse)
}

/// The small configuration with a key and this in place of its names and service.
fn with(names: &str, service: &str) -> String {
    SMALL.replacen(NAMES, names, 1) + service + KEY
}

fn read(names: &str, service: &str) -> Network {
    let dir = directory(SECRET, 0o600);
    parse_in(&dir, &with(names, service)).unwrap_or_else(|errors| panic!("{errors}")).network
}

/// The findings, without place.
fn wrong(text: &str, dir: &tempfile::TempDir) -> Vec<String> {
    let errors =
        parse_in(dir, text).map_or_else(|errors| errors.iter().cloned().collect(), |config| config.warnings);
    assert!(errors.iter().all(|finding| finding.origin.line > 0 && finding.help.is_some()), "{errors:?}");
    errors.iter().map(|finding| finding.message.clone()).collect()
}

#[test]
fn a_key_has_a_number_a_secret_a_use_and_a_time() {
    let key = read(NAMES, "").keys.remove(0);
    assert_eq!((&*key.name, key.id, key.signs, key.from, key.until), ("k1", 1, true, 0, u64::MAX));
    assert_eq!(key.secret[31], 0x1f);
    assert!(!format!("{key:?}").contains("31"), "a key's secret is not shown");
    let dir = directory(&format!("  {}\n", SECRET.to_uppercase()), 0o400);
    let text = with(NAMES, "") + "use = \"verify\"\nvalid = { from = 2026-01-01, until = \"2999-12-31\" }\n";
    let key = parse_in(&dir, &text).unwrap().network.keys.remove(0);
    assert_eq!((key.signs, key.from, key.until), (false, 1_767_225_600, 32_503_680_000));
}

#[test]
fn key_files_that_others_can_read_or_that_hold_no_secret_are_refused() {
    let text = with(NAMES, "");
    for mode in [0o640, 0o604, 0o660] {
        let found = wrong(&text, &directory(SECRET, mode));
        assert!(found.len() == 1 && found[0].contains(&format!("(mode {mode:03o})")), "{found:?}");
    }
    for content in ["", &SECRET[1..], &format!("{SECRET}00"), &SECRET.replace('f', "g")] {
        let found = wrong(&text, &directory(content, 0o600));
        assert!(found.len() == 1 && found[0].contains("does not hold 64 hexadecimal digits"), "{found:?}");
    }
    let found = wrong(&text.replace("\"secret\"", "\"nowhere\""), &directory(SECRET, 0o600));
    assert!(found.len() == 1 && found[0].contains("cannot read the key in"), "{found:?}");
}

#[test]
fn keys_have_numbers_of_their_own_and_those_that_are_over_are_told() {
    let dir = directory(SECRET, 0o600);
    let found = wrong(&(with(NAMES, "") + &KEY.replace("k1", "k2")), &dir);
    assert!(found.len() == 1 && found[0].contains("key 1 is `k1` on line"), "{found:?}");
    let found = wrong(&(with(NAMES, "") + "valid = { until = 2020-01-01 }\n"), &dir);
    assert_eq!(found, ["this key does not count any more"]);
    let found = wrong(&(with(NAMES, "") + "valid = { from = 2027-01-01, until = 2026-01-01 }\n"), &dir);
    assert!(found.contains(&"it ends before it begins".to_owned()), "{found:?}");
}

#[test]
fn names_and_urls_ask_for_tags_zones_for_seals_and_services_for_authority() {
    let names = "sealed = { label = \"X\" }\nill_formed = \"empty\"\n\
                 names = [{ labels = \"{object}.{tag}\", service = \"web\", signed = {} }]";
    let service = "authorised = { parameter = \"t\", otherwise = { port = 9 } }\n";
    let network = read(names, service);
    let keys = vec!["k1".to_owned()];
    let zone = &network.zones[0];
    assert_eq!(zone.grammars[0].signed, Some(Signed { keys: keys.clone(), otherwise: Otherwise::Refuse }));
    let sealed = Sealed { label: "x".into(), keys: keys.clone(), otherwise: Otherwise::Refuse };
    assert_eq!((&zone.sealed, &zone.ill_formed), (&Some(sealed), &Some(Otherwise::Empty)));
    let otherwise = Unauthorised::Port(9);
    let authorised = Authorised { keys, parameter: "t".into(), otherwise };
    assert_eq!(network.services[0].authorised, Some(authorised));
    let urls =
        "urls = [{ url = \"http://{tag}.a.net/*\", signed = { otherwise = { service = \"web\" } } }]\n";
    let text =
        with(NAMES, "").replacen("urls = [\"http://{object}.web.{customer}.cdn.acme.net/*\"]\n", urls, 1);
    let network = parse_in(&directory(SECRET, 0o600), &text).unwrap().network;
    let otherwise = network.urls[0].signed.as_ref().map(|signed| &signed.otherwise);
    assert_eq!(otherwise, Some(&Otherwise::Service("web".into())));
}

#[test]
fn what_is_asked_for_and_cannot_be_is_told() {
    let dir = directory(SECRET, 0o600);
    let signed = |what: &str| {
        format!("names = [{{ labels = \"{{o}}.{{tag}}\", service = \"web\", signed = {what} }}]")
    };
    for (names, service, expected) in [
        (
            "names = [{ labels = \"{o}.web\", service = \"web\", signed = {} }]",
            "",
            "the pattern has no label for the tag",
        ),
        (
            "names = [{ labels = \"{o}.{tag?}\", service = \"web\", signed = {} }]",
            "",
            "the pattern has no label for the tag",
        ),
        (&signed("{ keys = [\"k2\"] }"), "", "there is no key `k2`"),
        (&signed("{ otherwise = { service = \"wep\" } }"), "", "there is no service `wep`"),
        (&signed("{ otherwise = \"drop\" }"), "", "`drop` is not known here"),
        (
            &format!("sealed = {{ label = \"a.b\" }}\n{NAMES}"),
            "",
            "sealed names have one label before the suffix",
        ),
        (
            "sealed = { label = \"web\" }\nnames = [{ labels = \"{o}.web\", service = \"web\" }]",
            "",
            "names that end in `web` are sealed",
        ),
        (NAMES, "authorised = { parameter = \"a=b\" }\n", "'=' cannot stand in a parameter"),
        (NAMES, "authorised = { otherwise = { port = 0 } }\n", "0 is out of range for `port`"),
    ] {
        let found = wrong(&with(names, service), &dir);
        assert!(found.iter().any(|message| message == expected), "{names} {service}: {found:?}");
    }
    let found = wrong(&SMALL.replacen(NAMES, &signed("{}"), 1), &dir);
    assert_eq!(found, ["there is no [[key]] yet"]);
}

#[test]
fn optional_labels_make_patterns_with_and_without_them() {
    let names = |labels: &str| format!("names = [{{ labels = \"{labels}\", service = \"web\" }}]");
    let made = |labels: &str| -> Vec<String> {
        let network = read(&names(labels), "");
        let text = |rule: &LabelRule| match rule {
            LabelRule::Fixed(label) => label.clone(),
            LabelRule::Free(name) => format!("{{{name}}}"),
            LabelRule::OneOf(name, values) => format!("{{{name}:{}}}", values.join("|")),
        };
        let written = |labels: &Vec<LabelRule>| labels.iter().map(text).collect::<Vec<_>>().join(".");
        network.zones[0].grammars.iter().map(|grammar| written(&grammar.labels)).collect()
    };
    assert_eq!(made("{o}.{size?:hd|sd}.web"), ["{o}.{size:hd|sd}.web", "{o}.web"]);
    assert_eq!(made("a?.{o}.b?"), ["a.{o}.b", "{o}.b", "a.{o}", "{o}"].map(str::to_owned).to_vec());
    let dir = directory(SECRET, 0o600);
    for (labels, expected) in [
        ("{a?}.{b?}", "2 of 2 labels are optional"),
        ("a?.b?.c?.d?.e", "4 of 5 labels are optional"),
        ("{a?}.{b?}.c", "no name gets here: the pattern on line"),
    ] {
        let found = wrong(&with(&names(labels), ""), &dir);
        assert!(found.iter().any(|message| message.starts_with(expected)), "{labels}: {found:?}");
    }
    let urls = with(NAMES, "").replacen("http://{object}.web.", "http://{object}.{size?}.web.", 1);
    assert_eq!(parse_in(&dir, &urls).unwrap().network.urls.len(), 2);
}
