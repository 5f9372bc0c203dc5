//! Changes of health and load under full query rate on both paths.

#[path = "../benches/change/small.rs"]
mod small;
#[path = "../benches/change/storm.rs"]
mod storm;
#[path = "../benches/change/watch.rs"]
mod watch;

use redirector_tests::bpffs::Bpffs;
use redirector_tests::require_root_and_bpf;
use storm::{Pace, Report};

fn assert_right(report: &Report) {
    assert_eq!(report.wrong, Vec::<String>::new());
    assert!(report.answers.iter().all(|answers| *answers > 5_000), "{:?} answers", report.answers);
}

/// From a target's change of state to the answers of the XDP program and of the slow path: no change waits until nobody
/// looks at old records any more, and every query that begins after a change gets the new answer.
#[test]
fn a_health_change_waits_for_nobody_and_shows_in_every_later_answer() {
    if require_root_and_bpf().is_none() {
        return;
    }
    let bpffs = Bpffs::mount().unwrap();
    let report = small::storm().unwrap().run(bpffs.path(), 1000, Pace::Seen).unwrap();
    assert_right(&report);
    assert_eq!(report.latencies.each_ref().map(Vec::len), [1000; 2], "changes that were seen on each path");
    // A reader that the scheduler stops in the middle holds records longer than their spare room lasts.
    assert!(report.waits <= 10, "{} of 1000 changes waited for readers", report.waits);
}

/// More changes than there are records, so that each record is written many times while it is asked for without a
/// pause: every answer is one of a state that held while it was made.
#[test]
fn no_answer_is_of_a_record_that_is_being_written() {
    if require_root_and_bpf().is_none() {
        return;
    }
    let bpffs = Bpffs::mount().unwrap();
    let report = small::storm().unwrap().run(bpffs.path(), 20_000, Pace::AtOnce).unwrap();
    assert_right(&report);
    assert!(report.waits > 0, "changes came faster than records are free again, and that is counted");
}
