//! A box that ends and comes back, on purpose or not: its fast path goes on answering in between (A-7).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::signal::{Signal, kill};
use redirector_tests::{
    lab::{
        Daemon, Lab,
        config::configuration,
        during,
        topology::{BOX, Family, node},
        wait_for,
    },
    program, require_lab,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

fn start<'l>(lab: &'l Lab, configuration: &str) -> Daemon<'l> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), configuration, &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn vip() -> SocketAddr {
    SocketAddr::new(node(BOX).vip.unwrap().of(Family::V4), 53)
}

fn address(server: &str) -> IpAddr {
    node(server).own.of(Family::V4)
}

fn counted(daemon: &Daemon<'_>, path: &str, reason: &str) -> u64 {
    let stats: Value = daemon.stats().unwrap();
    stats[path]["reasons"][reason].as_u64().unwrap_or(0)
}

#[test]
fn a_killed_box_and_a_restarted_one_lose_no_answer_of_the_fast_path() {
    let Some(lab) = require_lab() else { return };
    let old = configuration(BOX);
    // Another server and another TTL: old and new answers have nothing in common.
    let new = old.replace(r#"{ region = "fr", pools = ["fr"] }"#, r#"{ region = "fr", pools = ["deep"] }"#);
    let new = new.replace("dns = \"server\"", "dns = \"server\"\nttl = \"7s\"");
    let mut daemon = start(&lab, &old);
    let pause = || std::thread::sleep(Duration::from_millis(700));
    for (how, next) in
        [(Signal::SIGKILL, &old), (Signal::SIGTERM, &old), (Signal::SIGKILL, &new), (Signal::SIGTERM, &old)]
    {
        let answered = counted(&daemon, "fast", "first-tier");
        let (traffic, next) = during(&lab, vip(), || {
            pause();
            kill(daemon.pid(), how).unwrap();
            pause();
            let next = start(&lab, next);
            pause();
            next
        })
        .unwrap();
        assert_eq!(traffic.lost, 0, "{} of {} lost after {how}: {}", traffic.lost, traffic.sent, next.log());
        assert!(traffic.sent > 200, "only {} queries", traffic.sent);
        let seen: HashSet<(IpAddr, u32)> = traffic.answers.iter().map(|(answer, _)| *answer).collect();
        assert!(seen.is_subset(&HashSet::from([(address("s-fr"), 0), (address("s-deep"), 7)])), "{seen:?}");
        let counts = counted(&next, "fast", "first-tier") - answered;
        assert!(counts >= u64::from(traffic.sent), "{counts} of {} were counted", traffic.sent);
        println!("{how}: {} queries, none lost", traffic.sent);
        daemon = next;
    }
}

#[test]
fn a_box_without_its_daemon_leaves_everything_to_the_kernel_after_its_age() {
    let Some(lab) = require_lab() else { return };
    let short = configuration(BOX).replace("[fleet]", "max_age = \"3s\"\n\n[fleet]");
    let daemon = start(&lab, &short);
    // One that lives is never too old.
    std::thread::sleep(Duration::from_secs(4));
    let (alive, ()) = during(&lab, vip(), || std::thread::sleep(Duration::from_millis(300))).unwrap();
    assert_eq!(alive.lost, 0);
    kill(daemon.pid(), Signal::SIGKILL).unwrap();
    let silent = wait_for("silence", LIMIT, || {
        let (traffic, ()) = during(&lab, vip(), || std::thread::sleep(Duration::from_millis(100))).unwrap();
        traffic.answers.is_empty().then_some(())
    });
    silent.unwrap();
    let daemon = start(&lab, &short);
    let (back, ()) = during(&lab, vip(), || std::thread::sleep(Duration::from_millis(300))).unwrap();
    assert_eq!(back.lost, 0, "{}", daemon.log());
    assert!(counted(&daemon, "fast", "punt-stale") > 0);
}

#[test]
fn a_box_that_is_to_be_quiet_is_detached() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &configuration(BOX));
    let refused = daemon.control("detach", &[]).unwrap().output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("is running"));
    let detach = daemon.control("detach", &[]).unwrap();
    daemon.stop().unwrap();
    let answered =
        || during(&lab, vip(), || std::thread::sleep(Duration::from_millis(100))).unwrap().0.answers.len();
    assert!(answered() > 0, "the fast path goes on");
    detach.run().unwrap();
    assert_eq!(answered(), 0);
    let by_sockets = Daemon::start(&lab, BOX, &program("redirector"), &configuration(BOX), &[]).unwrap();
    drop(by_sockets);
    assert!(answered() > 0, "killed, and the fast path goes on");
    let quiet = Daemon::start(&lab, BOX, &program("redirector"), &configuration(BOX), &["--no-xdp"]).unwrap();
    assert!(answered() > 0);
    assert_eq!(counted(&quiet, "fast", "first-tier"), 0, "a box on sockets alone detaches what it finds");
}

#[test]
fn an_interface_that_vanishes_and_comes_back_is_attached_to_again() {
    let Some(lab) = require_lab() else { return };
    let ip = |words: &str| lab.exec(BOX, ["ip"].into_iter().chain(words.split(' '))).run().unwrap();
    ip("link add eth9.1 type veth peer name eth8");
    let both = configuration(BOX).replace("[\"eth0\"]", "[\"eth0\", \"eth9.1\"]");
    let daemon = start(&lab, &both);
    let attached = || ip("link show dev eth9.1").contains("xdp");
    assert!(attached());
    let (traffic, ()) = during(&lab, vip(), || {
        ip("link del eth9.1");
        // More than once: that it is gone is remembered.
        daemon.reload().unwrap();
        daemon.reload().unwrap();
        wait_for("the message", LIMIT, || {
            daemon.log().contains("interface eth9.1 has vanished").then_some(())
        })
        .unwrap();
        ip("link add eth9.1 type veth peer name eth8");
        wait_for("the program", LIMIT, || attached().then_some(())).unwrap();
    })
    .unwrap();
    assert_eq!(traffic.lost, 0, "the other interface is not concerned: {}", daemon.log());
}
