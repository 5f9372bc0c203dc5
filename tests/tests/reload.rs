//! Ten changes of configuration under full query rate: nothing is wrong, mixed, lost or leaked.

#[path = "../benches/reload/switches.rs"]
mod switches;
#[path = "../benches/reload/usage.rs"]
mod usage;
#[path = "../benches/change/watch.rs"]
mod watch;

use redirector_plan::reference::Scale;
use redirector_tests::require_lab;
use switches::Switches;

const SWITCHES: usize = 10;
/// What resident memory may grow by from the first half of the switches to the last: what the allocator keeps differs
/// from one to the next.
const GROWTH: u64 = 16 << 20;

#[test]
fn ten_reloads_at_full_rate_answer_rightly_and_leak_nothing() {
    let Some(lab) = require_lab() else { return };
    let report = Switches::new(Scale::SMALL).unwrap().run(&lab, SWITCHES as u64).unwrap();
    println!("{report:#?}");
    assert_eq!(report.wrong, Vec::<String>::new());
    assert_eq!(report.lost, 0);
    assert!(report.answers.iter().all(|answers| *answers > 10_000), "{:?} answers", report.answers);
    assert_eq!(report.replaced, SWITCHES as u64, "each reload is another program");
    assert_eq!((report.built.len(), report.usage.len()), (SWITCHES + 1, SWITCHES + 1));
    for usage in &report.usage {
        assert_eq!(format!("{:?}", usage.kernel()), format!("{:?}", report.usage[0].kernel()));
    }
    let resident: Vec<u64> = report.usage.iter().map(|usage| usage.resident).collect();
    let (early, late) = resident.split_at(SWITCHES / 2);
    assert!(
        late[late.len() - 1] <= early.iter().max().unwrap() + GROWTH,
        "resident memory grew: {resident:?}"
    );
}
