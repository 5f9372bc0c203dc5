//! A box at a place without servers: it measures how far away the remote ones are, and its clients get the nearest that
//! are not overloaded (P-7, P-14).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use redirector_tests::{
    lab::{
        Asker, Daemon, Delay,
        config::{SERVER_NAME, configuration},
        topology::{BOX, Family, Role, node, with_role},
        wait_for,
    },
    program, require_lab,
};

const LIMIT: Duration = Duration::from_secs(20);
const MILLIS: Duration = Duration::from_millis(1);

/// All servers alike, for everybody: of those, the nearest by the box's measurements.
fn by_distance() -> String {
    let text = configuration(BOX);
    let tiers = text.find("tiers = [").expect("tiers");
    let end = tiers + text[tiers..].find("\n]").expect("the end of the tiers");
    let nearest = r#"tiers = [{ region = "*", pools = ["fr", "de", "deep"], within = "15ms" }"#;
    format!("{}{nearest}{}", &text[..tiers], &text[end..])
}

/// The servers that clients of many prefixes get, and what is said of those that nobody gets.
fn told(daemon: &Daemon<'_>) -> (BTreeSet<String>, String) {
    let (mut used, mut removed) = (BTreeSet::new(), String::new());
    for third in 0..40 {
        let client = format!("198.19.{third}.1");
        let told = daemon.explain(&["--client", &client, "--name", SERVER_NAME]).unwrap();
        assert_eq!(told["fast_path"]["outcome"], "answers", "{told}");
        used.insert(told["winners"][0]["target"].as_str().expect("a winner").to_owned());
        removed = told["candidates"].to_string();
    }
    (used, removed)
}

/// Waits until many clients get these servers and no others; then no client gets another by DNS.
fn expect(asker: &Asker<'_>, servers: &[&str]) -> String {
    let wanted: BTreeSet<String> = servers.iter().map(|name| (*name).to_owned()).collect();
    let mut last = None;
    let begun = Instant::now();
    let removed = wait_for("the servers in reach", LIMIT, || {
        let (used, removed) = told(&asker.daemon);
        let found = used == wanted;
        last = Some(format!("{used:?}: {removed}"));
        found.then_some(removed)
    });
    let removed = removed.unwrap_or_else(|error| panic!("{error:#}, {servers:?} wanted: {last:?}"));
    println!("{servers:?} after {} ms", begun.elapsed().as_millis());
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            let given = asker.dns(client, family).unwrap();
            let known = servers.iter().map(|name| node(name).own.of(family));
            assert!(given.len() == 1 && known.clone().any(|own| given[0] == own), "{given:?}");
        }
    }
    removed
}

#[test]
fn clients_get_the_nearest_remote_servers_that_are_not_overloaded() {
    let Some(lab) = require_lab() else { return };
    let far = Delay::new(&lab, "s-fr", 70 * MILLIS).unwrap();
    let _near = Delay::new(&lab, "s-de", 20 * MILLIS).unwrap();
    let _as_near = Delay::new(&lab, "s-deep", 25 * MILLIS).unwrap();
    let daemon = Daemon::start(&lab, BOX, &program("redirector"), &by_distance(), &[]).unwrap();
    let asker = Asker { lab: &lab, daemon, cdsr: program("cdsr") };
    assert_ne!(asker.daemon.stats().unwrap()["xdp"], "off", "{}", asker.daemon.log());

    let removed = expect(&asker, &["s-de", "s-deep"]);
    assert!(removed.contains("too far: 7"), "{removed}");
    let weight = |target: &str, factor: &str| {
        asker.daemon.control("weight", &[target, factor]).unwrap().run().unwrap();
    };
    weight("s-de", "0");
    let removed = expect(&asker, &["s-deep"]);
    assert!(removed.contains("overloaded"), "{removed}");
    weight("s-deep", "0");
    expect(&asker, &["s-fr"]);
    weight("s-de", "256");
    weight("s-deep", "256");
    expect(&asker, &["s-de", "s-deep"]);
    far.set(Duration::ZERO);
    expect(&asker, &["s-fr"]);
}
