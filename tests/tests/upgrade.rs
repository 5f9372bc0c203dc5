//! Another version of the box, with another layout of its tables, takes over from this one and back.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use nix::sys::signal::{Signal, kill};
use redirector_plan::image::TableKind;
use redirector_tests::attached::Attached;
use redirector_tests::lab::config::configuration;
use redirector_tests::lab::topology::{BOX, Family, node};
use redirector_tests::lab::{Daemon, Lab, during};
use redirector_tests::{next_daemon, program, require_lab};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn start<'l>(lab: &'l Lab, program: &Path) -> Daemon<'l> {
    let daemon = Daemon::start(lab, BOX, program, &configuration(BOX), &[]).unwrap();
    assert_eq!(daemon.stats().unwrap()["xdp"], "native", "{}", daemon.log());
    daemon
}

fn vip() -> SocketAddr {
    SocketAddr::new(node(BOX).vip.unwrap().of(Family::V4), 53)
}

fn pins(lab: &Lab) -> PathBuf {
    lab.dir().join(BOX).join("bpf/redirector")
}

/// What is attached to the box's interface.
#[derive(Debug)]
struct Seen {
    link: u32,
    program: u32,
    /// The program's maps by name: number and size of a value.
    maps: BTreeMap<String, (u32, u32)>,
    /// Layout of the tables, as the daemon says it.
    layout: String,
    answered: u64,
}

fn look(lab: &Lab, daemon: &Daemon<'_>) -> Seen {
    let pin = pins(lab).join("links/native/eth0");
    let [link, number] = Attached::open(&pin).unwrap().numbers().unwrap();
    let info = loaded_programs().flatten().find(|program| program.id() == number).unwrap();
    let maps = info.map_ids().unwrap().unwrap().into_iter().map(|id| {
        let map = MapInfo::from_id(id).unwrap();
        (map.name_as_str().unwrap().to_owned(), (id, map.value_size()))
    });
    let dump = daemon.control("dump", &[]).unwrap().run().unwrap();
    let layout = dump.split(", ").find_map(|part| part.strip_prefix("layout ")).unwrap().to_owned();
    let stats = daemon.stats().unwrap();
    let answered = stats["fast"]["reasons"]["first-tier"].as_u64().unwrap_or(0);
    Seen { link, program: number, maps: maps.collect(), layout, answered }
}

#[test]
fn another_table_layout_takes_over_and_back_without_losing_an_answer() {
    let Some(lab) = require_lab() else { return };
    let (this, next) = (program("redirector"), next_daemon());
    let mut daemon = start(&lab, &this);
    let mut before = look(&lab, &daemon);
    let pause = || std::thread::sleep(Duration::from_millis(500));
    for (how, version) in [
        (Signal::SIGTERM, &next),
        (Signal::SIGTERM, &this),
        (Signal::SIGKILL, &next),
        (Signal::SIGKILL, &this),
    ] {
        let (traffic, other) = during(&lab, vip(), || {
            pause();
            kill(daemon.pid(), how).unwrap();
            pause();
            let other = start(&lab, version);
            pause();
            other
        })
        .unwrap();
        let what = format!("{how}, then {}", version.display());
        assert_eq!(traffic.lost, 0, "{what}: {} of {} lost: {}", traffic.lost, traffic.sent, other.log());
        assert!(traffic.sent > 200, "{what}: only {} queries", traffic.sent);
        let answers: HashSet<_> = traffic.answers.iter().map(|(answer, _)| *answer).collect();
        assert_eq!(answers, HashSet::from([(node("s-fr").own.of(Family::V4), 0)]), "{what}");
        let after = look(&lab, &other);
        assert_ne!(after.layout, before.layout, "{what}");
        let size = |seen: &Seen| seen.maps["ZONES"].1;
        assert_ne!(size(&after), size(&before), "{what}: zones have another size");
        assert_eq!(after.link, before.link, "{what}: in the place of the one before");
        assert_ne!(after.program, before.program, "{what}");
        for kind in TableKind::ALL {
            assert_ne!(
                after.maps[kind.name()].0,
                before.maps[kind.name()].0,
                "{what}: {kind:?} is not taken over"
            );
        }
        for name in ["COUNT_REASON", "COUNT_SERVICE", "COUNT_TARGET", "ALIVE"] {
            assert_eq!(after.maps[name], before.maps[name], "{what}: {name} goes on");
        }
        assert!(after.answered >= before.answered + u64::from(traffic.sent), "{what}: counts go on");
        println!("{what}: {} queries, none lost", traffic.sent);
        (before, daemon) = (after, other);
    }
}

/// Whatever lies under the names of links and shared maps is replaced if it is something else, and that is said.
#[test]
fn what_others_pinned_under_the_boxs_names_is_replaced_by_name() {
    let Some(lab) = require_lab() else { return };
    let this = program("redirector");
    start(&lab, &this).stop().unwrap();
    let pins = pins(&lab);
    let (link, counters) = (pins.join("links/native/eth0"), pins.join("counters"));
    // Maps of other shapes.
    fs::rename(counters.join("COUNT_SERVICE"), counters.join("COUNT_REASON")).unwrap();
    fs::rename(counters.join("COUNT_VIP"), counters.join("ALIVE")).unwrap();
    fs::rename(counters.join("COUNT_REGION"), &link).unwrap();
    let daemon = start(&lab, &this);
    let log = daemon.log();
    for told in ["COUNT_REASON begins anew", "ALIVE begins anew", "eth0 is no link of an XDP program"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    let (traffic, ()) = during(&lab, vip(), || std::thread::sleep(Duration::from_millis(300))).unwrap();
    assert_eq!(traffic.lost, 0, "{}", daemon.log());
    assert!(look(&lab, &daemon).answered >= u64::from(traffic.sent), "{}", daemon.log());
}
