//! The command line without a running box.

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CONFIGURATION: &str = r#"
[box]
name = "test"
management = "127.0.0.1"
xdp = "off"

[fleet]
key = "5eed5eed5eed5eed5eed5eed5eed5eed"

[[vip]]
cdn = "acme"
addresses = ["203.0.113.1", "2001:db8:a::1"]

[[vip]]
cdn = "other"
addresses = ["203.0.113.2"]
speaks = ["dns"]

[[region]]
name = "fr"
prefixes = ["192.0.2.0/24"]

[[region]]
name = "fr-campus"
prefixes = ["192.0.2.64/26"]

[[target]]
name = "dual"
site = "par"
addresses = ["198.51.100.1", "2001:db8:1::1"]

[[target]]
name = "v6-only"
addresses = ["2001:db8:1::2"]

[[target]]
name = "far"
addresses = ["198.51.100.9"]

[[pool]]
name = "near"
targets = ["dual", "v6-only"]

[[pool]]
name = "far"
targets = ["far"]

[[coverage]]
name = "all"
tiers = [{ region = "fr", pools = ["near"] }, { region = "*", pools = ["far"] }]

[[service]]
name = "web"
cdn = "acme"
coverage = "all"
ttl = "30s"
urls = ["http://{object}.web.acme.net/live/*"]

[[zone]]
suffix = "acme.net"
cdn = "acme"
names = [{ labels = "{object}.web", service = "web" }]
"#;

fn redirector(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("redirector").expect("built");
    command.args(args);
    command
}

/// A configuration file; the directory is removed with the value.
fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("box.toml");
    fs::write(&path, text).expect("written");
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Standard output of `explain --config`.
fn explain(question: &[&str]) -> String {
    let (_dir, path) = file(CONFIGURATION);
    let args = [&["explain", "--config", text(&path)], question].concat();
    let output = redirector(&args).assert().success().get_output().stdout.clone();
    String::from_utf8(output).expect("UTF-8")
}

fn explain_json(question: &[&str]) -> Value {
    serde_json::from_str(&explain(&[question, &["--json"]].concat())).expect("JSON")
}

fn place_of(text: &str) -> u64 {
    1 + CONFIGURATION.lines().position(|line| line.contains(text)).expect("in the file") as u64
}

#[test]
fn check_takes_a_good_configuration_and_changes_nothing() {
    let (dir, path) = file(CONFIGURATION);
    redirector(&["check", "--config", text(&path)]).assert().success();
    assert_eq!(fs::read_dir(dir.path()).expect("directory").count(), 1);
}

#[test]
fn check_tells_every_error_with_its_place_and_exits_with_1() {
    let (_dir, path) = file(&CONFIGURATION.replace("\"near\"]", "\"naer\"]").replace("30s", "soon"));
    let assert = redirector(&["check", "--config", text(&path)]).assert().code(1);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    for expected in ["naer", "did you mean `near`", "soon", "box.toml", "2 errors"] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}

#[test]
fn check_tells_what_only_the_compiler_refuses() {
    let addresses: Vec<String> = (0..300).map(|n| format!("\"203.1.{}.{}\"", n / 250, n % 250 + 1)).collect();
    let (_dir, path) = file(&CONFIGURATION.replace("\"203.0.113.2\"", &addresses.join(", ")));
    let assert = redirector(&["check", "--config", text(&path)]).assert().code(1);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(said.contains("VIP addresses") && said.contains("at most 256"), "{said}");
}

#[test]
fn an_unreadable_configuration_is_an_error_of_every_command() {
    let commands: [&[&str]; 4] =
        [&["check"], &["run", "--no-xdp"], &["dump"], &["explain", "--client", "192.0.2.1", "--name", "a"]];
    for command in commands {
        let dir = tempfile::tempdir().expect("directory");
        let state = dir.path().join("state");
        let mut args = [command, &["--config", "/nonexistent/box.toml"]].concat();
        if command[0] == "run" {
            args.extend(["--state", text(&state)]);
        }
        let assert = redirector(&args).assert().code(1);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains("/nonexistent/box.toml") && said.contains("cannot read"), "{args:?}: {said}");
    }
}

#[test]
fn commands_without_a_box_say_how_to_name_one() {
    for command in [&["stats"][..], &["reload"], &["status"], &["weight", "dual", "0"], &["dump"]] {
        let args = [command, &["--socket", "/nonexistent/control.sock"]].concat();
        let assert = redirector(&args).assert().code(1);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains("/nonexistent/control.sock") && said.contains("--socket"), "{said}");
    }
}

#[test]
fn explain_leads_from_the_client_to_rule_candidates_winner_and_reason() {
    let told = explain_json(&["--client", "192.0.2.70", "--name", "x.web.acme.net"]);
    assert_eq!((&told["vip"], &told["vip_part"]["name"]), (&"203.0.113.1".into(), &"acme".into()));
    assert_eq!(told["rule"]["origin"]["line"], place_of("{object}.web\""));
    assert_eq!(told["service"]["name"], "web");
    assert_eq!((&told["region"]["name"], &told["prefix"]), (&"fr-campus".into(), &"192.0.2.64/26".into()));
    assert_eq!((&told["reason"], &told["code"], &told["ttl"]), (&"first-tier".into(), &1.into(), &30.into()));
    assert_eq!(told["winners"][0]["target"], "far", "the campus has no tier of its own");

    let told = explain_json(&["--client", "192.0.2.1", "--name", "x.web.acme.net", "--type", "A"]);
    assert_eq!((&told["region"]["name"], &told["prefix"]), (&"fr".into(), &"192.0.2.0/24".into()));
    let candidates = told["candidates"].as_array().expect("list");
    let removed: Vec<(&Value, Option<&str>)> =
        candidates.iter().map(|one| (&one["target"], one["removed"].as_str())).collect();
    assert_eq!(removed[0], (&"dual".into(), None));
    assert_eq!(removed[1], (&"v6-only".into(), Some("no IPv4 address")));
    assert_eq!(removed[2].0, "far");
    assert!(removed[2].1.is_some_and(|why| why.contains("not reached")), "{removed:?}");
    assert_eq!(candidates[0]["share"], 100.0);
    assert_eq!(
        (&told["winners"][0]["site"], &told["winners"][0]["address"]),
        (&"par".into(), &"198.51.100.1".into())
    );
    assert_eq!(told["fast_path"]["outcome"], "off");
}

#[test]
fn explain_knows_urls_over_cdsr_and_http() {
    let question = ["--client", "2001:db8:ffff::1", "--url", "http://a.web.acme.net/live/x"];
    let by_cdsr = explain_json(&question);
    assert_eq!(
        (&by_cdsr["answer"], &by_cdsr["vip"]),
        (&"retry later, in 1000 ms".into(), &"2001:db8:a::1".into())
    );
    assert_eq!(by_cdsr["reason"], "nothing-usable", "the far pool has no IPv6 address");
    assert_eq!(by_cdsr["rule"]["origin"]["line"], place_of("urls ="));
    let question = ["--client", "192.0.2.1", "--url", "http://a.web.acme.net/live/x", "--protocol", "http"];
    let by_http = explain_json(&question);
    assert_eq!((&by_http["answer"], &by_http["winners"][0]["target"]), (&"redirect".into(), &"dual".into()));
    assert_eq!(by_http["fast_path"]["outcome"], "never");
    let elsewhere = explain_json(&["--client", "192.0.2.1", "--url", "http://a.web.acme.net/other"]);
    assert_eq!((&elsewhere["answer"], &elsewhere["reason"]), (&"not mine".into(), &"not-our-url".into()));
    assert_eq!(elsewhere["winners"].as_array().map(Vec::len), Some(0));
}

#[test]
fn explain_tells_people_what_it_tells_programs() {
    let told = explain(&["--client", "192.0.2.1", "--name", "X.Web.Acme.Net"]);
    for expected in
        ["acme.net", "box.toml:", "tier 0", "removed: no IPv4 address", "first-tier (1)", "198.51.100.1"]
    {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    let told = explain(&["--client", "192.0.2.1", "--name", "nope.acme.net"]);
    assert!(told.contains("NXDOMAIN") && told.contains("nxdomain (8)"), "{told}");
}

#[test]
fn questions_that_cannot_be_asked_are_refused_with_the_reason() {
    let (_dir, path) = file(CONFIGURATION);
    let cases: [(&[&str], &str); 8] = [
        (&["--client", "192.0.2.1", "--name", "a..b"], "no domain name"),
        (&["--client", "192.0.2.1", "--name", "a", "--type", "B"], "no record type"),
        (&["--client", "192.0.2.1", "--url", "a.web.acme.net"], "no `://`"),
        (&["--client", "192.0.2.1", "--url", "ftp://a.web.acme.net/"], "scheme"),
        (&["--client", "192.0.2.1", "--name", "a", "--vip", "198.51.100.1"], "not a VIP"),
        (&["--client", "192.0.2.1", "--name", "a", "--vip", "2001:db8:a::1"], "two address families"),
        (&["--client", "192.0.2.1", "--url", "http://a/", "--vip", "203.0.113.2"], "does not speak HTTP"),
        (
            &["--client", "192.0.2.1", "--url", "http://a/", "--vip", "203.0.113.2", "--protocol", "cdsr"],
            "does not speak CDSR",
        ),
    ];
    for (question, expected) in cases {
        let args = [&["explain", "--config", text(&path)], question].concat();
        let assert = redirector(&args).assert().code(1);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains(expected), "{question:?}: {said}");
    }
    redirector(&["explain", "--config", text(&path), "--client", "192.0.2.1"]).assert().code(2);
}

#[test]
fn dump_reads_the_tables_back_with_the_operators_names() {
    let (_dir, path) = file(CONFIGURATION);
    let output =
        redirector(&["dump", "--config", text(&path)]).assert().success().get_output().stdout.clone();
    let told = String::from_utf8(output).expect("UTF-8");
    for expected in
        ["203.0.113.1", "acme.net: serial 1", "web: coverage all, TTL 30 s", "dual 50.00 %", "far 100.00 %"]
    {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
}
