//! What outside agents publish of objects, and that clients follow it by every protocol (P-11).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use redirector_tests::{
    lab::{
        Daemon, Lab,
        config::{SERVER_NAME, configuration},
        topology::{BOX, Family, node},
        wait_for,
    },
    program, require_lab,
};
use serde_json::Value;
use std::{collections::BTreeSet, net::IpAddr, time::Duration};

/// How long something may take that is said to happen by itself.
const LIMIT: Duration = Duration::from_secs(10);
const URL: &str = "http://index.web.abc.cdn.acme.net/film/1.ts";

/// The lab's configuration, in which the service of [`SERVER_NAME`] keeps objects together.
fn together() -> String {
    let written = configuration(BOX);
    let service = "name = \"web\"\n";
    assert!(written.contains(service));
    written.replace(service, "name = \"web\"\nchoose_by = \"content\"\naffinity = {}\n")
}

fn start(lab: &Lab) -> Daemon<'_> {
    start_with(lab, &together())
}

fn start_with<'l>(lab: &'l Lab, configuration: &str) -> Daemon<'l> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), configuration, &[]).unwrap();
    let is_known = |target: &Value| target["round_trip_ms"].is_number();
    let checks = wait_for("checks", LIMIT, || {
        let stats = daemon.stats().ok()?;
        stats["targets"].as_array()?.iter().all(is_known).then_some(())
    });
    checks.unwrap_or_else(|error| panic!("{error:#}; {}", daemon.log()));
    daemon
}

fn tell(daemon: &Daemon<'_>, words: &[&str]) -> Result<String, String> {
    daemon.control(words[0], &words[1..]).unwrap().run().map_err(|error| format!("{error:#}"))
}

fn done(daemon: &Daemon<'_>, words: &[&str]) -> String {
    tell(daemon, words).unwrap_or_else(|error| panic!("{words:?}: {error}\n{}", daemon.log()))
}

/// What a client in region `fr` is sent to by DNS for a name.
fn by_dns(lab: &Lab, name: &str, family: Family) -> IpAddr {
    let client = lab.client("c-fr", family);
    let vip = node(BOX).vip.unwrap();
    let (address, kind) = match family {
        Family::V4 => (vip.v4.into(), "A"),
        Family::V6 => (vip.v6.into(), "AAAA"),
    };
    let report = client.dig(address, &["+nocookie", name, kind]).unwrap();
    let [address] = report.addresses()[..] else { panic!("{report:?}") };
    address
}

fn address(server: &str, family: Family) -> IpAddr {
    let own = node(server).own;
    match family {
        Family::V4 => own.v4.into(),
        Family::V6 => own.v6.into(),
    }
}

fn expect_dns(lab: &Lab, daemon: &Daemon<'_>, name: &str, server: &str) {
    for family in Family::ALL {
        assert_eq!(by_dns(lab, name, family), address(server, family), "{name}\n{}", daemon.log());
    }
}

fn explain(lab: &Lab, daemon: &Daemon<'_>, what: &[&str]) -> Value {
    let client = lab.client("c-fr", Family::V4).address().to_string();
    let explained = daemon.explain(&[&["--client", &client], what].concat()).unwrap();
    assert_ne!(explained["fast_path"]["outcome"], "differs", "{explained}");
    explained
}

fn winner(explained: &Value) -> &str {
    explained["winners"][0]["target"].as_str().unwrap_or_else(|| panic!("{explained}"))
}

#[test]
fn a_published_object_is_followed_by_every_protocol_until_it_ends_and_a_restart_keeps_it() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab);
    let other = "other.web.abc.cdn.acme.net";
    expect_dns(&lab, &daemon, SERVER_NAME, "s-fr");
    let said = done(&daemon, &["object", "publish", SERVER_NAME, URL, "--at", "s-deep", "--for", "1h"]);
    assert!(said.contains(&format!("{SERVER_NAME} is at s-deep until ")), "{said}");
    // In effect when the command returns, from the fast path, for this object alone.
    expect_dns(&lab, &daemon, SERVER_NAME, "s-deep");
    expect_dns(&lab, &daemon, other, "s-fr");
    let by_name = explain(&lab, &daemon, &["--name", SERVER_NAME]);
    assert_eq!((winner(&by_name), &by_name["reason"]), ("s-deep", &"published".into()), "{by_name}");
    assert_eq!(by_name["fast_path"]["outcome"], "answers", "{by_name}");
    let known = by_name["object"].as_str().unwrap();
    assert!(known.starts_with("published at s-deep until ") && known.contains("by uid 0"), "{known}");
    for protocol in ["cdsr", "http"] {
        let by_url = explain(&lab, &daemon, &["--url", URL, "--protocol", protocol]);
        assert_eq!((winner(&by_url), &by_url["reason"]), ("s-deep", &"published".into()), "{by_url}");
        let next = URL.replace("1.ts", "2.ts");
        let next = explain(&lab, &daemon, &["--url", &next, "--protocol", protocol]);
        assert_eq!((winner(&next), &next["object"]), ("s-fr", &Value::Null), "{next}");
    }
    // A reload is no end of it, nor is a restart.
    daemon.reload().unwrap();
    expect_dns(&lab, &daemon, SERVER_NAME, "s-deep");
    daemon.stop().unwrap();
    let daemon = start(&lab);
    expect_dns(&lab, &daemon, SERVER_NAME, "s-deep");
    let list = done(&daemon, &["object", "list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    let said = done(&daemon, &["object", "withdraw", SERVER_NAME]);
    assert_eq!(said, format!("{SERVER_NAME} is withdrawn\n"));
    expect_dns(&lab, &daemon, SERVER_NAME, "s-fr");
    // By itself.
    done(&daemon, &["object", "publish", SERVER_NAME, "--at", "s-de", "--for", "2s"]);
    expect_dns(&lab, &daemon, SERVER_NAME, "s-de");
    let end = wait_for("the end of a publication", LIMIT, || {
        (by_dns(&lab, SERVER_NAME, Family::V4) == address("s-fr", Family::V4)).then_some(())
    });
    end.unwrap_or_else(|error| panic!("{error:#}; {}", daemon.log()));
    assert!(daemon.log().contains("is withdrawn, its time is over"), "{}", daemon.log());
}

#[test]
fn a_dead_server_is_no_place_for_an_object_and_health_is_followed() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab);
    done(&daemon, &["object", "publish", SERVER_NAME, "--at", "s-deep,s-de"]);
    let first = by_dns(&lab, SERVER_NAME, Family::V4);
    let places = ["s-deep", "s-de"];
    assert!(places.iter().any(|server| address(server, Family::V4) == first), "{first}");
    done(&daemon, &["force", "down", "target", "s-deep", "--reason", "test"]);
    expect_dns(&lab, &daemon, SERVER_NAME, "s-de");
    done(&daemon, &["force", "down", "target", "s-de", "--reason", "test"]);
    expect_dns(&lab, &daemon, SERVER_NAME, "s-fr");
    done(&daemon, &["release", "target", "s-deep"]);
    expect_dns(&lab, &daemon, SERVER_NAME, "s-deep");
}

#[test]
fn what_cannot_be_published_is_refused_by_name() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab);
    let refused = |words: &[&str]| tell(&daemon, words).expect_err("is refused");
    let publish = |object: &str, at: &str| refused(&["object", "publish", object, "--at", at]);
    let said = publish("index.web.abc.cdn.acme.org", "s-fr");
    assert!(said.contains("no rule of this box holds for `index.web.abc.cdn.acme.org`"), "{said}");
    let said = publish("abc.cdn.acme.net", "s-fr");
    assert!(said.contains("service `media` does not keep objects together"), "{said}");
    let said = publish(SERVER_NAME, "s-frr");
    assert!(said.contains("no server `s-frr`") && said.contains("did you mean `s-fr`"), "{said}");
    let said = refused(&["object", "withdraw", SERVER_NAME]);
    assert!(said.contains("is not published"), "{said}");
    assert_eq!(done(&daemon, &["object", "list"]), "");
}

/// Servers of clients in 32 networks outside of all regions.
fn spread(lab: &Lab) -> BTreeSet<IpAddr> {
    let client = lab.client("c-fr", Family::V4);
    let vip = node(BOX).vip.unwrap().v4.into();
    let ask = |n: u8| {
        let subnet = format!("+subnet=203.0.{n}.0/24");
        let report = client.dig(vip, &["+nocookie", &subnet, SERVER_NAME, "A"]).unwrap();
        report.addresses()[0]
    };
    (0..32).map(ask).collect()
}

/// The heat is counted by the fast path, which answers all of this.
#[test]
fn a_hot_object_gets_a_second_server_and_gives_it_up_when_it_cools() {
    let Some(lab) = require_lab() else { return };
    let both = together()
        .replace("affinity = {}", "affinity = { widen_at = \"2 requests/s\", at_most = 2 }")
        .replace("{ region = \"*\", pools = [\"deep\"] }", "{ region = \"*\", pools = [\"fr\", \"de\"] }");
    let daemon = start_with(&lab, &both);
    let object = || explain(&lab, &daemon, &["--name", SERVER_NAME])["object"].clone();
    assert_eq!(object(), Value::Null);
    let hot = wait_for("a second server", LIMIT * 3, || {
        spread(&lab);
        (object() == "hot: 2 servers share its clients").then_some(())
    });
    hot.unwrap_or_else(|error| panic!("{error:#}; {}", daemon.log()));
    let servers = BTreeSet::from(["s-fr", "s-de"].map(|server| address(server, Family::V4)));
    assert_eq!(spread(&lab), servers);
    let explained = explain(&lab, &daemon, &["--name", SERVER_NAME]);
    assert_eq!(explained["fast_path"]["outcome"], "answers", "{explained}");
    let cool = wait_for("the end of it", LIMIT * 9, || (object() == Value::Null).then_some(()));
    cool.unwrap_or_else(|error| panic!("{error:#}; {}", daemon.log()));
    assert_eq!(spread(&lab).len(), 1);
}
