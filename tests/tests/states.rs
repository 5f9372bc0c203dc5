//! What operators say over everything else: drained and forced targets, pools, regions, VIPs and boxes (A-14).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use redirector_tests::{
    lab::{
        Asker, Daemon, Lab, Protocol,
        config::{SERVER_NAME, configuration},
        topology::{BOX, Family, Role, node, with_role},
        wait_for,
    },
    program, require_lab,
};
use serde_json::Value;
use std::{
    fs,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long health may take to be noticed.
const LIMIT: Duration = Duration::from_secs(20);

fn start<'a>(lab: &'a Lab, configuration: &str) -> Asker<'a> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), configuration, &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    let asker = Asker { lab, daemon, cdsr: program("cdsr") };
    for (client, server) in [("c-fr", "s-fr"), ("c-de", "s-de")] {
        let first = wait_for("checks", LIMIT, || {
            let stats = asker.daemon.stats().ok()?;
            let target = stats["targets"].as_array()?.iter().find(|target| target["name"] == server)?;
            target["round_trip_ms"].is_number().then_some(())
        });
        first.unwrap_or_else(|error| panic!("{client}: {error:#}; {}", asker.daemon.log()));
    }
    asker
}

/// What a command says, or what it complains of.
fn tell(asker: &Asker<'_>, words: &[&str]) -> Result<String, String> {
    let command = asker.daemon.control(words[0], &words[1..]).unwrap();
    command.run().map_err(|error| format!("{error:#}"))
}

fn done(asker: &Asker<'_>, words: &[&str]) -> String {
    tell(asker, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn drain(asker: &Asker<'_>, kind: &str, name: &str) -> String {
    done(asker, &["drain", kind, name, "--reason", "new disks"])
}

fn states(asker: &Asker<'_>) -> Value {
    serde_json::from_str(&done(asker, &["states", "--json"])).unwrap()
}

/// The server that a client gets by DNS.
fn server(asker: &Asker<'_>, client: &str, family: Family) -> IpAddr {
    let answer = asker.dns(node(client), family).unwrap();
    let [address] = answer[..] else { panic!("{answer:?}") };
    address
}

/// Both clients get these servers at once by every protocol and family, datagrams from the fast path.
fn expect_all(asker: &Asker<'_>, of_france: &'static str, of_germany: &'static str) {
    for client in with_role(Role::Client) {
        let expected = node(if client.name == "c-fr" { of_france } else { of_germany });
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                let row = asker.ask(client, family, protocol, expected).unwrap();
                assert!(row.met(), "{row:?}\n{}", asker.daemon.log());
            }
        }
    }
}

fn explain(asker: &Asker<'_>) -> Value {
    let client = asker.lab.client("c-fr", Family::V4).address().to_string();
    let explain = asker.daemon.explain(&["--client", &client, "--name", SERVER_NAME]).unwrap();
    assert_eq!(explain["fast_path"]["outcome"], "answers", "{explain}");
    explain
}

fn candidate<'e>(explain: &'e Value, target: &str) -> &'e Value {
    let candidates = explain["candidates"].as_array().unwrap();
    candidates.iter().find(|one| one["target"] == target).unwrap_or_else(|| panic!("{explain}"))
}

fn target(asker: &Asker<'_>, name: &str) -> Value {
    let stats = asker.daemon.stats().unwrap();
    stats["targets"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
}

#[test]
fn a_drained_target_gets_no_clients_by_any_protocol_and_a_restart_keeps_it() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    expect_all(&asker, "s-fr", "s-de");
    let said = drain(&asker, "target", "s-fr");
    assert!(said.contains("target s-fr is drained until released because \"new disks\""), "{said}");
    // In effect when the command returns.
    expect_all(&asker, "s-de", "s-de");
    let explained = explain(&asker);
    let removed = candidate(&explained, "s-fr")["removed"].as_str().unwrap();
    assert!(
        removed.starts_with("drained until released because \"new disks\" (target s-fr, by uid 0 at "),
        "{removed}"
    );
    assert_eq!(explained["reason"], "later-tier");
    let report = target(&asker, "s-fr");
    assert_eq!((&report["up"], &report["forced"]["force"]), (&true.into(), &"drained".into()), "{report}");
    let text = done(&asker, &["stats"]);
    assert!(text.contains("targets: 2 up, 0 down, 1 drained, 0 forced up"), "{text}");
    let log = asker.daemon.log();
    assert!(log.contains("target s-fr is drained until released because \"new disks\""), "{log}");
    let before = states(&asker);
    // A reload is no release, nor is a restart: not even the first answers go there.
    asker.daemon.reload().unwrap();
    expect_all(&asker, "s-de", "s-de");
    let Asker { daemon, .. } = asker;
    daemon.stop().unwrap();
    let asker = start(&lab, &configuration(BOX));
    expect_all(&asker, "s-de", "s-de");
    assert_eq!(states(&asker), before);
    let said = done(&asker, &["release", "target", "s-fr"]);
    assert_eq!(said, "target s-fr is released\n");
    expect_all(&asker, "s-fr", "s-de");
}

/// The servers of clients in 64 networks, all in one tier.
fn spread(asker: &Asker<'_>) -> Vec<IpAddr> {
    let client = asker.lab.client("c-fr", Family::V4);
    let vip = node(BOX).vip.unwrap().v4.into();
    let ask = |n: u8| {
        let subnet = format!("+subnet=203.0.{n}.0/24");
        let report = client.dig(vip, &["+nocookie", &subnet, SERVER_NAME, "A"]).unwrap();
        report.addresses()[0]
    };
    (0..64).map(ask).collect()
}

#[test]
fn only_the_clients_of_a_drained_target_move_and_they_come_back() {
    let Some(lab) = require_lab() else { return };
    let tiers = r#"{ region = "*", pools = ["deep"] }"#;
    let one = configuration(BOX).replace(tiers, r#"{ region = "*", pools = ["fr", "de", "deep"] }"#);
    let asker = start(&lab, &one);
    let before = spread(&asker);
    let drained = IpAddr::from(node("s-de").own.v4);
    drain(&asker, "target", "s-d?");
    let after = spread(&asker);
    assert!(before.contains(&drained), "{before:?}");
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(was == is, *was != drained, "{was} became {is}");
    }
    done(&asker, &["release", "target", "s-*"]);
    assert_eq!(spread(&asker), before);
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn a_state_ends_by_itself_within_a_second_and_for_good() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    let (french, german) = (IpAddr::from(node("s-fr").own.v4), IpAddr::from(node("s-de").own.v4));
    done(&asker, &["drain", "target", "s-fr", "--reason", "new disks", "--for", "4s"]);
    assert_eq!(server(&asker, "c-fr", Family::V4), german);
    let until = Duration::from_secs(states(&asker)[0]["until"].as_u64().unwrap());
    let back = wait_for("the end of the state", LIMIT, || {
        let asked = now();
        (server(&asker, "c-fr", Family::V4) == french).then_some((asked, now()))
    });
    let (asked, answered) = back.unwrap();
    assert!(answered >= until && asked < until + Duration::from_secs(1), "{asked:?} instead of {until:?}");
    assert_eq!(states(&asker).as_array().unwrap().len(), 0);
    assert!(asker.daemon.log().contains("target s-fr is released, its time is over"));
    // What ends while no box runs has ended when one runs again.
    done(&asker, &["drain", "target", "s-fr", "--reason", "new disks", "--for", "1s"]);
    let until = Duration::from_secs(states(&asker)[0]["until"].as_u64().unwrap());
    let Asker { daemon, .. } = asker;
    daemon.stop().unwrap();
    wait_for("the end of the state", LIMIT, || (now() >= until).then_some(())).unwrap();
    let asker = start(&lab, &configuration(BOX));
    assert_eq!(server(&asker, "c-fr", Family::V4), french);
    assert_eq!(states(&asker).as_array().unwrap().len(), 0);
}

#[test]
fn a_force_state_is_over_health_and_over_load() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    let [french, german] = ["s-fr", "s-de"].map(|name| IpAddr::from(node(name).own.v4));
    done(&asker, &["force", "down", "target", "s-fr", "--reason", "burning"]);
    assert_eq!(server(&asker, "c-fr", Family::V4), german);
    // What the API says of its load is nothing against that.
    done(&asker, &["weight", "s-fr", "256"]);
    assert_eq!(server(&asker, "c-fr", Family::V4), german);
    done(&asker, &["force", "up", "target", "s-fr", "--reason", "not burning"]);
    assert_eq!(server(&asker, "c-fr", Family::V4), french);
    lab.stop_servers("s-fr").unwrap();
    wait_for("bad checks", LIMIT, || (target(&asker, "s-fr")["up"] == false).then_some(())).unwrap();
    done(&asker, &["weight", "s-fr", "0"]);
    assert_eq!(server(&asker, "c-fr", Family::V4), french);
    let explained = explain(&asker);
    let forced = candidate(&explained, "s-fr");
    let said = forced["forced"].as_str().unwrap();
    assert!(said.starts_with("forced up until released because \"not burning\""), "{said}");
    assert!(forced["removed"].is_null(), "{forced}");
    done(&asker, &["release", "target", "s-fr"]);
    assert_eq!(server(&asker, "c-fr", Family::V4), german);
    assert_eq!(candidate(&explain(&asker), "s-fr")["removed"], "down");
}

#[test]
fn a_pools_targets_are_drained_together_and_a_targets_own_state_goes_before() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    drain(&asker, "pool", "fr");
    expect_all(&asker, "s-de", "s-de");
    drain(&asker, "pool", "d?");
    expect_all(&asker, "s-deep", "s-deep");
    let removed = candidate(&explain(&asker), "s-de")["removed"].clone();
    assert!(removed.as_str().unwrap().contains("(pool d?, by uid 0"), "{removed}");
    done(&asker, &["force", "up", "target", "s-de", "--reason", "we need one"]);
    expect_all(&asker, "s-de", "s-de");
    done(&asker, &["release", "pool", "*"]);
    expect_all(&asker, "s-fr", "s-de");
}

#[test]
fn clients_of_a_drained_region_get_what_clients_of_no_region_get() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    expect_all(&asker, "s-fr", "s-de");
    drain(&asker, "region", "fr");
    expect_all(&asker, "s-deep", "s-de");
    let explained = explain(&asker);
    let said = explained["states"][0].as_str().unwrap();
    assert!(said.starts_with("region fr is drained until released because \"new disks\""), "{said}");
    assert_eq!(explained["candidates"].as_array().unwrap().len(), 1, "{explained}");
    assert!(candidate(&explained, "s-deep")["removed"].is_null(), "{explained}");
    asker.daemon.reload().unwrap();
    expect_all(&asker, "s-deep", "s-de");
    let Asker { daemon, .. } = asker;
    daemon.stop().unwrap();
    let asker = start(&lab, &configuration(BOX));
    expect_all(&asker, "s-deep", "s-de");
    // As if all its servers had failed: the services have no fallback.
    done(&asker, &["force", "down", "region", "fr", "--reason", "cut off"]);
    let client = lab.client("c-fr", Family::V4);
    let answer = client.dig(node(BOX).vip.unwrap().v4.into(), &["+nocookie", SERVER_NAME, "A"]).unwrap();
    assert_eq!(answer.status, "SERVFAIL");
    assert_eq!(explain(&asker)["reason"], "nothing-usable");
    let refused = tell(&asker, &["force", "up", "region", "fr", "--reason", "x"]).unwrap_err();
    assert!(refused.contains("a region has no health"), "{refused}");
    done(&asker, &["release", "region", "fr"]);
    expect_all(&asker, "s-fr", "s-de");
}

#[test]
fn a_drained_vip_or_box_goes_on_answering_and_says_that_it_is_not_to_be_announced() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    let name = asker.daemon.stats().unwrap()["name"].as_str().unwrap().to_owned();
    assert_eq!(done(&asker, &["status"]), "ready, generation 1\n");
    drain(&asker, "vip", "*");
    let status = done(&asker, &["status"]);
    assert!(status.contains(": not to be announced: drained until released"), "{status}");
    done(&asker, &["release", "vip", "*"]);
    done(&asker, &["drain", "box", "--reason", "new kernel"]);
    let status = asker.daemon.control("status", &[]).unwrap().output().unwrap();
    let text = String::from_utf8(status.stdout).unwrap();
    assert_eq!(status.status.code(), Some(1), "{text}");
    assert!(text.starts_with("drained, generation 1\n"), "{text}");
    assert!(text.contains(&format!("because \"new kernel\" (box {name}, by uid 0")), "{text}");
    expect_all(&asker, "s-fr", "s-de");
    let explained = explain(&asker);
    assert!(explained["states"][0].as_str().unwrap().starts_with("box "), "{explained}");
    // The narrower goes before the wider.
    done(&asker, &["force", "up", "vip", "*", "--reason", "the last one"]);
    let status = asker.daemon.control("status", &[]).unwrap().output().unwrap();
    assert!(String::from_utf8(status.stdout).unwrap().contains(": to be announced: forced up"));
    done(&asker, &["release", "box"]);
    assert_eq!(states(&asker).as_array().unwrap().len(), 1);
}

#[test]
fn mistakes_are_refused_with_what_would_be_right_and_change_nothing() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    let reason = ["--reason", "x"];
    for (words, says) in [
        (&["drain", "target", "s-fx"][..], "there is no target `s-fx`; did you mean `s-fr`?"),
        (&["drain", "pool", "nearby"], "there is no pool `nearby`; it can be `de`, `deep` or `fr`"),
        (&["drain", "target", "x-*"], "no target's name matches `x-*`"),
        (&["drain", "region"], "say which region"),
        (&["drain", "box", "other"], "there is no box `other`"),
        (&["force", "up", "target", "s-fr", "--until", "2001-02-03"], "`2001-02-03` is in the past: it is "),
        (&["force", "up", "target", "s-fr", "--until", "soon"], "`soon` is not a date: write 2027-12-31"),
        (&["force", "up", "target", "s-fr", "--for", "2 hours"], "`2 hours` is not a time to last"),
        (&["force", "up", "target", "s-fr", "--for", "0s"], "later than now"),
    ] {
        let error = tell(&asker, &[words, &reason[..]].concat()).unwrap_err();
        assert!(error.contains(says), "{says:?} is not in: {error}");
    }
    let error = tell(&asker, &["release", "target", "s-fr"]).unwrap_err();
    assert!(error.contains("nothing is said of target `s-fr`"), "{error}");
    let error = tell(&asker, &["drain", "target", "s-fr", "--reason", " "]).unwrap_err();
    assert!(error.contains("a reason is a line of 1 to 200 characters"), "{error}");
    drain(&asker, "target", "s-fr*");
    let error = tell(&asker, &["release", "target", "s-fr"]).unwrap_err();
    assert!(error.contains("release `s-fr*`"), "{error}");
    // What cannot be kept does not hold.
    let before = states(&asker);
    let in_the_way = asker.daemon.dir().join("state/states.json.new");
    fs::create_dir(&in_the_way).unwrap();
    for words in [&["drain", "target", "s-de", "--reason", "x"][..], &["release", "target", "s-fr*"]] {
        let error = tell(&asker, words).unwrap_err();
        assert!(error.contains("nothing is changed") && error.contains("states.json"), "{error}");
    }
    assert_eq!(states(&asker), before);
    expect_all(&asker, "s-de", "s-de");
    fs::remove_dir(&in_the_way).unwrap();
    done(&asker, &["release", "target", "s-fr*"]);
    expect_all(&asker, "s-fr", "s-de");
}

#[test]
fn a_name_that_vanishes_keeps_its_state_and_a_damaged_file_is_told() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &configuration(BOX));
    drain(&asker, "target", "s-fr");
    let other = configuration(BOX).replace("\"s-fr\"", "\"s-fr-2\"");
    asker.daemon.write_configuration(&other).unwrap();
    asker.daemon.reload().unwrap();
    assert_eq!(states(&asker)[0]["matches"], 0);
    let text = done(&asker, &["states"]);
    assert!(text.contains("matches nothing in the configuration"), "{text}");
    expect_all(&asker, "s-fr", "s-de");
    asker.daemon.write_configuration(&configuration(BOX)).unwrap();
    asker.daemon.reload().unwrap();
    expect_all(&asker, "s-de", "s-de");
    let file = asker.daemon.dir().join("state/states.json");
    let Asker { daemon, .. } = asker;
    daemon.stop().unwrap();
    fs::write(&file, "[{").unwrap();
    let asker = start(&lab, &configuration(BOX));
    let refused = asker.daemon.stats().unwrap()["refused"].clone();
    let said = refused[0].as_str().unwrap();
    assert!(
        said.starts_with("drain and force states of earlier runs are not known: ")
            && said.contains("states.json"),
        "{said}"
    );
    drain(&asker, "target", "s-fr");
    assert_eq!(asker.daemon.stats().unwrap()["refused"].as_array().unwrap().len(), 0);
}
