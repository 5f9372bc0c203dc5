//! Changes of health and load under full query rate on both paths.

#[path = "../benches/change/small.rs"]
mod small;
#[path = "../benches/change/storm.rs"]
mod storm;
#[path = "../benches/change/watch.rs"]
mod watch;

use redirector_tests::bpffs::Bpffs;
use redirector_tests::require_root_and_bpf;
use std::time::Duration;
use storm::{Pace, Report};

/// Longest that it may take to publish a change in 99 of 100 cases.
const PROMPT: Duration = Duration::from_millis(5);
/// The same for its first answer, where those who ask have to wait for a core, too.
const SEEN: Duration = Duration::from_millis(100);

fn p99(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() * 99 / 100]
}

fn assert_right(report: &Report) {
    assert_eq!(report.wrong, Vec::<String>::new());
    assert!(report.answers.iter().all(|answers| *answers > 5_000), "{:?} answers", report.answers);
}

/// From a target's change of state to the answers of the XDP program and of the slow path.
#[test]
fn a_health_change_reaches_packets_within_milliseconds() {
    if require_root_and_bpf().is_none() {
        return;
    }
    let bpffs = Bpffs::mount().unwrap();
    let report = small::storm().unwrap().run(bpffs.path(), 1000, Pace::Seen).unwrap();
    assert_right(&report);
    for (path, latencies) in ["kernel", "sockets"].into_iter().zip(&report.latencies) {
        println!("{path}: p99 {:?}", p99(latencies));
        assert_eq!(latencies.len(), 1000);
        assert!(p99(latencies) < SEEN, "{path}: {:?}", p99(latencies));
    }
    // No query that was sent later had another answer than the new one.
    assert!(p99(&report.publishing) < PROMPT, "{:?}", p99(&report.publishing));
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
    println!("{:?} answers, {} waits, p99 {:?}", report.answers, report.waits, p99(&report.publishing));
}
