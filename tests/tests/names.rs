//! Signed names by all four protocols, as real clients ask for them (P-10).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path};

use redirector_names::{Key, Purpose, sign_name};
use redirector_tests::{
    lab::{
        AnswerPath, Daemon, Lab, Protocol,
        config::configuration,
        keys,
        topology::{BOX, Family, node},
    },
    program, require_lab,
};

const CLIENT: &str = "c-fr";
const NEAR: &str = "s-fr";
const DEEP: &str = "s-deep";

fn key(id: u8) -> Key {
    Key::new(id, &keys::secret(id))
}

/// The lab's configuration, and a service with the near servers for signed names alone; others go far away.
fn policy(dir: &Path, uses: &[(u8, &str)]) -> String {
    let names = r#"names = [
  { labels = "{object}.{tag}.gold.{customer}", service = "gold", signed = { otherwise = { service = "basic" } } },
  { labels = "{object}.{tag}.strict", service = "gold", signed = {} },
  { labels = "{object}.{tag}.void", service = "gold", signed = { otherwise = "empty" } },
"#;
    let services = r#"
[[coverage]]
name = "far"
tiers = [{ region = "*", pools = ["deep"] }]
[[service]]
name = "basic"
coverage = "far"
[[service]]
name = "gold"
coverage = "nearest"
urls = [
  { url = "http|rtsp://{object}.{tag}.gold.{customer}.cdn.acme.net/*", signed = { otherwise = { service = "basic" } } },
  { url = "http|rtsp://{object}.{tag}.strict.cdn.acme.net/*", signed = {} },
  { url = "http|rtsp://{object}.{tag}.void.cdn.acme.net/*", signed = { otherwise = "empty" } },
]
"#;
    configuration(BOX).replace("names = [\n", names) + services + &keys::keys(dir, uses).unwrap()
}

fn start<'l>(lab: &'l Lab, uses: &[(u8, &str)]) -> Daemon<'l> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), &policy(lab.dir(), uses), &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn vip(family: Family) -> IpAddr {
    node(BOX).vip.unwrap().of(family)
}

/// The server that a client gets for a name by a protocol, or why it gets none.
fn find(lab: &Lab, protocol: Protocol, name: &str) -> Result<Vec<IpAddr>, String> {
    let client = lab.client(CLIENT, Family::V4).holding(name, vip(Family::V4)).unwrap();
    client.find(protocol, &program("cdsr"), vip(Family::V4), name).map_err(|error| format!("{error:#}"))
}

#[track_caller]
fn assert_all(lab: &Lab, name: &str, server: &str, why: &str) {
    for protocol in Protocol::ALL {
        let expected: IpAddr = node(server).own.v4.into();
        assert_eq!(find(lab, protocol, name), Ok(vec![expected]), "{why}: {name} by {protocol:?}");
    }
}

fn signed(key: &Key, pattern: &str, expires: Option<u32>) -> String {
    sign_name(key, Purpose::Grade, pattern, expires).unwrap()
}

/// A name with one character of label `place` exchanged.
fn altered(name: &str, place: usize) -> String {
    let mut labels: Vec<String> = name.split('.').map(str::to_owned).collect();
    let last = if labels[place].ends_with('a') { "b" } else { "a" };
    labels[place].replace_range(1..2, last);
    labels.join(".")
}

#[test]
fn only_a_good_tag_raises_a_names_grade_by_any_protocol() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &[(1, "sign")]);
    let good = signed(&key(1), "film.*.gold.abc.cdn.acme.net", None);
    assert_all(&lab, &good, NEAR, "good");
    let mixed: String =
        good.chars().enumerate().map(|(n, c)| if n % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    assert_all(&lab, &mixed, NEAR, "0x20");
    assert_all(&lab, &signed(&key(1), "film.*.gold.abc.cdn.acme.net", Some(u32::MAX)), NEAR, "not over");
    for (name, why) in [
        (altered(&good, 1), "another tag"),
        (altered(&good, 0), "another object"),
        (altered(&good, 3), "another customer"),
        ("film.none.gold.abc.cdn.acme.net".to_owned(), "no tag"),
        (signed(&key(1), "film.*.gold.abc.cdn.acme.net", Some(1)), "over"),
        (signed(&key(2), "film.*.gold.abc.cdn.acme.net", None), "unknown key"),
        (sign_name(&key(1), Purpose::Access, "film.*.gold.abc.cdn.acme.net", None).unwrap(), "other purpose"),
    ] {
        assert_all(&lab, &name, DEEP, why);
    }
    let explained = |name: &str| daemon.explain(&["--client", "198.18.33.2", "--name", name]).unwrap();
    let told = explained(&good);
    assert_eq!(
        (&told["proofs"][0], &told["service"]["name"]),
        (&"tag: good, by key k1".into(), &"gold".into())
    );
    assert_eq!(told["fast_path"]["reason"], "punt-proof", "{told}");
    assert_eq!(explained(&altered(&good, 0))["proofs"][0], "tag: forged, or made for something else");
}

#[test]
fn names_without_a_good_tag_are_refused_or_empty_where_that_is_written() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &[(1, "sign")]);
    assert_all(&lab, &signed(&key(1), "film.*.strict.cdn.acme.net", None), NEAR, "good");
    let client = lab.client(CLIENT, Family::V4);
    let dig = |name: &str| client.dig(vip(Family::V4), &[name, "A"]).unwrap();
    let (refused, risen) = daemon.counted(|| dig("film.tabc.strict.cdn.acme.net")).unwrap();
    assert_eq!((&*refused.status, refused.answers.len()), ("REFUSED", 0));
    let counted = |path, reason: &str| risen.iter().any(|risen| risen.path == path && risen.reason == reason);
    assert!(counted(AnswerPath::Fast, "punt-proof") && counted(AnswerPath::Slow, "denied"), "{risen:?}");
    let empty = dig("film.tabc.void.cdn.acme.net");
    assert_eq!((&*empty.status, empty.answers.len(), empty.authority.len()), ("NOERROR", 0, 1));
    for (name, http, cdsr) in
        [("a.b.strict.cdn.acme.net", 403, "denied"), ("a.b.void.cdn.acme.net", 404, "not-mine")]
    {
        let holding = lab.client(CLIENT, Family::V4).holding(name, vip(Family::V4)).unwrap();
        assert_eq!(holding.curl(&format!("http://{name}/")).unwrap().status, http);
        let report = holding.cdsr(&program("cdsr"), vip(Family::V4), &format!("http://{name}/")).unwrap();
        assert_eq!(report["outcome"], cdsr, "{report}");
        let rtsp = holding.ffprobe(&format!("rtsp://{name}/x")).unwrap_err();
        assert!(format!("{rtsp:#}").contains(&http.to_string()), "{rtsp:#}");
    }
    // Resolvers that minimise query names must get further.
    for part in ["strict.cdn.acme.net", "tabc.strict.cdn.acme.net"] {
        assert_eq!(dig(part).status, "NOERROR", "{part}");
    }
}

#[test]
fn keys_are_rotated_by_number_and_a_bad_key_file_changes_nothing() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &[(1, "sign")]);
    let pattern = "film.*.gold.abc.cdn.acme.net";
    let [old, new] = [1, 2].map(|id| signed(&key(id), pattern, None));
    daemon.write_configuration(&policy(lab.dir(), &[(1, "verify"), (2, "sign")])).unwrap();
    daemon.reload().unwrap();
    assert_all(&lab, &old, NEAR, "old key");
    assert_all(&lab, &new, NEAR, "new key");
    daemon.write_configuration(&policy(lab.dir(), &[(2, "sign")])).unwrap();
    daemon.reload().unwrap();
    assert_all(&lab, &old, DEEP, "key rotated away");
    let open = keys::key_file(lab.dir(), 1).unwrap();
    daemon.write_configuration(&policy(lab.dir(), &[(1, "sign"), (2, "sign")])).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = format!("{:#}", daemon.reload().unwrap_err());
    assert!(refused.contains("mode 644") && refused.contains("chmod 600"), "{refused}");
    assert_all(&lab, &new, NEAR, "the last good state goes on");
}

/// The command makes what the box takes, and tells what the box would say.
#[test]
fn names_made_by_the_command_are_good_at_the_box() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &[(1, "sign")]);
    let config = daemon.dir().join("redirector.toml");
    let run = |words: &[&str]| {
        let program = program("redirector");
        let all =
            [&[program.to_str().unwrap(), "names"], words, &["--config", config.to_str().unwrap()]].concat();
        lab.exec(BOX, all)
    };
    let name = run(&["sign", "film.*.gold.abc.cdn.acme.net", "--expires", "1h"]).run().unwrap();
    assert_all(&lab, name.trim(), NEAR, "made by the command");
    let report = run(&["verify", name.trim(), "--json"]).run().unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["good"], &report["key"]), (&true.into(), &"k1".into()));
    let bad = run(&["verify", &altered(name.trim(), 0)]).output().unwrap();
    assert!(!bad.status.success());
    assert_eq!(String::from_utf8_lossy(&bad.stdout).trim(), "tag: forged, or made for something else");
}
