//! The XDP program itself, asked through the kernel's program test-run.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[allow(dead_code)] // Each user takes its part.
#[path = "../vectors/reader.rs"]
mod reader;

#[path = "kernel/limits.rs"]
mod limits;

use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use reader::Vector;
use redirector::dataplane::{BpfDataplane, Dataplane, LiveTables};
use redirector_core::verdict::Reason;
use redirector_core::wire::cdsr;
use redirector_plan::image::TableImage;
use redirector_plan::model::TargetState;
use redirector_plan::reference::{Scale, reference};
use redirector_tests::agreement::{Action, FastPath, Report, compare, judge};
use redirector_tests::bpffs::Bpffs;
use redirector_tests::generate::{Case, Generator};
use redirector_tests::invariants::flow;
use redirector_tests::slow::AtTime;
use redirector_tests::{networks, require_root_and_bpf, slow};
use std::fs;
use std::sync::Arc;

/// The program in the kernel over an image's tables.
struct Kernel {
    dataplane: BpfDataplane,
    bpffs: Bpffs,
}

impl Kernel {
    /// `None` where programs cannot be loaded, after having said so.
    fn start() -> Option<Self> {
        require_root_and_bpf()?;
        let bpffs = Bpffs::mount().unwrap();
        let dataplane = BpfDataplane::new(&bpffs.path().join("redirector"), vec![], vec![], None).unwrap();
        Some(Self { dataplane, bpffs })
    }

    /// Publishes an image; the program's clock stands at 0 then.
    fn publish(&mut self, image: &TableImage) -> Arc<LiveTables> {
        let tables = self.dataplane.publish(image).unwrap();
        let clock = MapData::from_pin(self.bpffs.path().join("redirector/counters/CLOCK")).unwrap();
        let mut clock: Array<_, u64> = Map::Array(clock).try_into().unwrap();
        clock.set(0, 0, 0).unwrap();
        tables
    }
}

impl FastPath for Kernel {
    fn run(&mut self, frame: &[u8]) -> (Action, Vec<u8>) {
        // The kernel makes no packet of less than an Ethernet header.
        if frame.len() < 14 {
            return (Action::Pass, frame.to_vec());
        }
        let run = self.dataplane.test_run(frame).unwrap().unwrap();
        (Action::from_code(run.action), run.frame)
    }
}

/// Compares the program with the slow path over `cases` questions about a network.
fn agree(kernel: &mut Kernel, image: &TableImage, cases: impl Iterator<Item = Case>) -> Report {
    let tables = kernel.publish(image);
    compare(kernel, &AtTime(&tables.read(), 0), cases)
}

/// A-2, invariant 1: 100 000 questions, and of each class that the fast path is for it answers at least 99 %.
#[test]
fn kernel_and_slow_path_agree_byte_for_byte_over_100_000_queries() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    let mut report = agree(&mut kernel, &image, Generator::new(&rich, &image, 1).take(80_000));
    let small = reference(Scale::SMALL);
    let image = networks::image(&small, &vec![TargetState::default(); small.targets.len()]);
    report.add(agree(&mut kernel, &image, Generator::new(&small, &image, 2).take(31_000)));
    println!("{report}");
    assert!(report.cases() >= 100_000);
    assert_eq!(report.faults(200), Vec::<String>::new());
}

/// the network that one box must hold, in the kernel's tables, answered from as the slow path answers.
#[test]
fn a_network_of_full_size_is_held_and_answered_from() {
    let Some(mut kernel) = Kernel::start() else { return };
    let full = reference(Scale::FULL);
    let prefixes = |v6| {
        let all = full.regions.iter().flat_map(|region| &region.prefixes);
        all.filter(|prefix| prefix.addr().is_ipv6() == v6).count()
    };
    assert!(prefixes(false) >= 1_000_000 && prefixes(true) >= 250_000);
    assert!(full.services.len() >= 100_000 && full.targets.len() >= 10_000 && full.vips.len() >= 64);
    let image = networks::image(&full, &vec![TargetState::default(); full.targets.len()]);
    let report = agree(&mut kernel, &image, Generator::new(&full, &image, 7).take(20_000));
    println!("{report}");
    // Some classes have no case here: every service has usable servers of both families.
    assert_eq!(report.faults(0), Vec::<String>::new());
}

/// what real clients and a resolver sent, as it was recorded. All of it is for the fast path but a question about
/// the zone itself.
#[test]
fn kernel_and_slow_path_agree_about_recorded_queries() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    kernel.publish(&image);
    for vector in Vector::all_of("tests/vectors/recorded", "") {
        let port = if vector.get("port").is_some() { cdsr::PORT } else { slow::DNS_PORT };
        for v6 in [false, true] {
            let frame = flow(v6, port).frame(&vector.request());
            let (action, after) = kernel.run(&frame);
            let what = format!("{}, by IPv{}", vector.text("description"), if v6 { 6 } else { 4 });
            assert_eq!(judge(&image, &frame, action, &after), Ok(()), "{what}");
            let expected = if &*vector.name == "dig-soa" { Action::Pass } else { Action::Transmit };
            assert_eq!(action, expected, "{what}");
        }
    }
}

/// A change to tables.
type Mutation = fn(&mut TableImage);

/// The comparison notices a kernel that decides over other tables.
#[test]
fn a_kernel_with_mutated_tables_is_found_out() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    let mutants: [(&str, Mutation); 4] = [
        ("thresholds", |image| {
            for record in image.records.iter_mut().filter(|record| record.used.count_ones() > 1) {
                record.thresholds.iter_mut().for_each(|threshold| *threshold ^= 0x4000_0000);
            }
        }),
        ("times to live", |image| image.services.iter_mut().for_each(|service| service.ttl += 1)),
        ("addresses", |image| image.targets.iter_mut().for_each(|target| target.ipv4 ^= 0x100)),
        ("hash keys", |image| image.meta.keys.seed ^= 1),
    ];
    for (what, mutate) in mutants {
        let mut mutant = image.clone();
        mutate(&mut mutant);
        kernel.publish(&mutant);
        let report = compare(&mut kernel, &image, Generator::new(&rich, &image, 3).take(4_000));
        let found = !report.disagreements.is_empty() || !report.faults(1).is_empty();
        assert!(found, "other {what} were not noticed in {} cases", report.cases());
    }
}

/// Sent the whole image twice, the program answers as before; sent another, it answers by that one alone.
#[test]
fn publishing_twice_changes_nothing_and_another_image_changes_everything_at_once() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    let frames: Vec<Vec<u8>> =
        Generator::new(&rich, &image, 4).take(500).map(|case| case.frame.clone()).collect();
    let ask = |kernel: &mut Kernel| frames.iter().map(|frame| kernel.run(frame)).collect::<Vec<_>>();
    kernel.publish(&image);
    let first = ask(&mut kernel);
    kernel.publish(&image);
    assert!(ask(&mut kernel) == first);
    let mut other = image.clone();
    other.vips.iter_mut().for_each(|bucket| *bucket = Default::default());
    kernel.publish(&other);
    assert!(
        ask(&mut kernel)
            .iter()
            .zip(&frames)
            .all(|((action, after), before)| { *action == Action::Pass && after == before })
    );
    kernel.publish(&image);
    assert!(ask(&mut kernel) == first);
}

/// publishing writes nothing into a generation that packets may still be in: its tables, which the program that
/// was replaced reads to the end of a packet, answer as before, and the new program answers by the new ones alone.
#[test]
fn a_packet_sees_one_generation() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    let cases: Vec<Case> = Generator::new(&rich, &image, 6).take(2_000).collect();
    let answers = |tables: &LiveTables| -> Vec<_> {
        cases.iter().map(|case| slow::answer(&AtTime(&tables.read(), 0), &case.flow, &case.payload)).collect()
    };
    let first = kernel.publish(&image);
    let before = answers(&first);
    // Every table differs: another network, in which the same names, if it has them, lead elsewhere.
    let other = reference(Scale::SMALL);
    let other = networks::image(&other, &vec![TargetState::default(); other.targets.len()]);
    for replaced_by in [&other, &image, &other] {
        let now = kernel.publish(replaced_by);
        assert!(answers(&first) == before, "a generation changed after it was replaced");
        let report = compare(&mut kernel, &AtTime(&now.read(), 0), cases.iter().cloned());
        assert_eq!(report.disagreements, Vec::<String>::new());
    }
    assert!(answers(&kernel.publish(&other)) != before, "the networks differ");
}

/// A test run counts nothing: the counters are those of packets alone.
#[test]
fn asking_by_test_run_counts_nothing() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    kernel.publish(&image);
    for case in Generator::new(&rich, &image, 5).take(50) {
        kernel.run(&case.frame);
    }
    assert_eq!(kernel.dataplane.counters().unwrap(), Default::default());
}

/// What boxes that were killed leave on the BPF file system, and what the next one does with it.
#[test]
fn pins_of_killed_boxes_go_and_counts_stay_only_while_their_slots_do() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    kernel.publish(&image);
    let directory = kernel.bpffs.path().join("redirector");
    let counted = MapData::from_pin(directory.join("counters/COUNT_REASON")).unwrap();
    let mut counted: PerCpuArray<_, u64> = Map::PerCpuArray(counted).try_into().unwrap();
    let everywhere = PerCpuValues::try_from(vec![5u64; nr_cpus().unwrap()]).unwrap();
    counted.set(Reason::FirstTier as u32, everywhere, 0).unwrap();
    // One of no process, as numbers go to 2^22 at most, and one of a process that runs.
    let [killed, running] = ["tables-4194305-7", "tables-1-7"].map(|name| directory.join(name));
    [&killed, &running].into_iter().for_each(|path| fs::create_dir(path).unwrap());

    let start = || BpfDataplane::new(&directory, vec![], vec![], None).unwrap();
    let reasons = |dataplane: &BpfDataplane| dataplane.counters().unwrap().reasons;
    let mut next = start();
    assert!(!killed.exists() && running.exists());
    next.publish(&image).unwrap();
    let first_tier = Reason::FirstTier as u16;
    assert_eq!(reasons(&next).get(&first_tier), Some(&(5 * nr_cpus().unwrap() as u64)), "counts go on");
    drop(next);
    let mut other = start();
    other.drop_counters().unwrap();
    other.publish(&image).unwrap();
    assert_eq!(reasons(&other).get(&first_tier), None, "slots were given out anew");
}

/// The program's object with every call of `helper` made one of a helper that no kernel has.
fn object_with_unknown_helper(object: &[u8], helper: u32) -> Vec<u8> {
    let call = |number: u32| [&[0x85, 0, 0, 0][..], &number.to_le_bytes()].concat();
    let (known, unknown) = (call(helper), call(9999));
    let mut calls = 0;
    let mut changed = object.to_vec();
    for instruction in changed.chunks_exact_mut(8).filter(|instruction| **instruction == *known) {
        instruction.copy_from_slice(&unknown);
        calls += 1;
    }
    assert!(calls > 0, "helper {helper} is not used");
    changed
}

/// As on a kernel that is older than the program, and after a damaged upgrade.
#[test]
fn a_program_that_the_kernel_refuses_is_told_and_the_last_good_one_goes_on() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (rich, states) = networks::rich();
    let image = networks::image(&rich, &states);
    kernel.publish(&image);
    let cases: Vec<Case> = Generator::new(&rich, &image, 8).take(500).collect();
    let ask = |kernel: &mut Kernel| cases.iter().map(|case| kernel.run(&case.frame)).collect::<Vec<_>>();
    let before = ask(&mut kernel);
    let pinned = |kernel: &Kernel| {
        let entries = fs::read_dir(kernel.bpffs.path().join("redirector")).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let pins = pinned(&kernel);
    let good = fs::read(require_root_and_bpf().unwrap()).unwrap();
    const KTIME_GET_COARSE_NS: u32 = 160;
    for (object, why) in [
        (object_with_unknown_helper(&good, KTIME_GET_COARSE_NS), "9999"),
        (good[..good.len() / 2].to_vec(), "loading the XDP program"),
        (Vec::new(), "loading the XDP program"),
    ] {
        kernel.dataplane.set_object(object);
        let refused = kernel.dataplane.publish(&image).expect_err("no program").to_string();
        assert!(refused.contains(why) && refused.len() < 1000, "{refused}");
        assert!(why != "9999" || refused.contains("made for 5.11 or later"), "{refused}");
        assert!(ask(&mut kernel) == before, "the last good program answers");
        assert_eq!(pinned(&kernel), pins, "nothing stays behind");
    }
    kernel.dataplane.set_object(good);
    kernel.publish(&image);
    assert!(ask(&mut kernel) == before);
}
