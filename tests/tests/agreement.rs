//! The fast path against the slow path over generated and recorded questions (A-2, invariant 1), and proof that the
//! comparison finds differences. Here the fast path is native code; the kernel's program answers the same cases in a
//! test of its own.

#[allow(dead_code)] // Each user takes its part.
#[path = "../vectors/reader.rs"]
mod reader;

use reader::Vector;
use redirector_core::hash::fold_case;
use redirector_core::table::{CHOOSE_CLIENT, CHOOSE_CLIENT_PREFIX};
use redirector_core::wire::cdsr;
use redirector_plan::image::TableImage;
use redirector_plan::model::{Network, TargetState};
use redirector_plan::reference::{Scale, reference};
use redirector_tests::agreement::{Action, FastPath, Native, Report, compare, judge};
use redirector_tests::frames::{Datagram, ETHERNET, Flow, Form};
use redirector_tests::generate::Generator;
use redirector_tests::networks::{ACME, CLIENT, image, rich};
use std::net::SocketAddr;

/// Cases for each network.
const CASES: usize = 100_000;
/// Cases in which a mutant must be found: each of them differs in more than one case of a hundred.
const MUTANT_CASES: usize = 10_000;

fn rich_image() -> (Network, TableImage) {
    let (network, states) = rich();
    let image = image(&network, &states);
    (network, image)
}

fn reference_image() -> (Network, TableImage) {
    let network = reference(Scale::SMALL);
    let image = image(&network, &vec![TargetState::default(); network.targets.len()]);
    (network, image)
}

#[test]
fn fast_and_slow_path_agree_over_200_000_questions() {
    let mut all = Report::default();
    for (network, image) in [rich_image(), reference_image()] {
        let cases = Generator::new(&network, &image, 1).take(CASES);
        let report = compare(&mut Native::new(&image), &image, cases);
        println!("{report}\n");
        all.add(report);
    }
    println!("{all}");
    assert_eq!(all.cases(), 2 * CASES);
    let faults = all.faults(200);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Damaged frames of which any byte may be wrong, headers included.
#[test]
fn fast_and_slow_path_agree_about_frames_with_flipped_bits() {
    let (network, image) = rich_image();
    let mut fast = Native::new(&image);
    for (case, number) in Generator::new(&network, &image, 2).zip(0..20_000) {
        let mut frame = case.frame;
        let place = number % frame.len();
        frame[place] ^= 1 << (number % 8);
        let (action, after) = fast.run(&frame);
        if let Err(difference) = judge(&image, &frame, action, &after) {
            panic!("bit {} of byte {place}, {:?}: {difference}", number % 8, case.kind);
        }
    }
}

#[test]
fn fast_and_slow_path_agree_about_the_vectors_of_the_specification() {
    let (_, image) = rich_image();
    let mut fast = Native::new(&image);
    let mut answered = 0;
    for vector in Vector::all("re") {
        for family in 0..2 {
            let client = SocketAddr::new(CLIENT[family].parse().expect("an address"), 40_000);
            let vip = SocketAddr::new(ACME[family].parse().expect("an address"), cdsr::PORT);
            let frame = Flow { client, vip }.frame(&vector.request());
            let (action, after) = fast.run(&frame);
            answered += usize::from(action == Action::Transmit);
            if let Err(difference) = judge(&image, &frame, action, &after) {
                panic!("{}: {difference}", vector.name);
            }
        }
    }
    println!("{answered} answered by the fast path");
}

/// What a comparison of a mutated fast path with the true slow path finds, and the other way round.
fn differences(change: impl Fn(&mut TableImage)) -> [usize; 2] {
    let (network, image) = rich_image();
    let mut mutant = image.clone();
    change(&mut mutant);
    let cases = || Generator::new(&network, &image, 3).take(MUTANT_CASES);
    [
        compare(&mut Native::new(&mutant), &image, cases()).disagreements.len(),
        compare(&mut Native::new(&image), &mutant, cases()).disagreements.len(),
    ]
}

#[test]
fn mutants_of_either_sides_tables_are_found() {
    type Change = fn(&mut TableImage);
    let mutants: [(&str, Change); 12] = [
        ("a threshold", |image| image.records.iter_mut().for_each(|r| r.thresholds[1] ^= 1 << 29)),
        ("who is down", |image| image.records.iter_mut().for_each(|r| r.down ^= 1)),
        ("a tier's TTL", |image| image.records.iter_mut().for_each(|r| r.ttl = r.ttl.min(16))),
        ("a tier's number", |image| image.records.iter_mut().for_each(|r| r.tier ^= 1)),
        ("regions", |image| image.cells.iter_mut().for_each(|line| line.words.rotate_left(1))),
        ("a service's TTL", |image| image.services.iter_mut().for_each(|s| s.ttl += 1)),
        ("the choice key", |image| {
            let other = |by| if by == CHOOSE_CLIENT { CHOOSE_CLIENT_PREFIX } else { CHOOSE_CLIENT };
            image.services.iter_mut().for_each(|s| s.choose_by = other(s.choose_by));
        }),
        ("a service's salt", |image| image.services.iter_mut().for_each(|s| s.salt ^= 1)),
        ("an address", |image| image.targets.iter_mut().for_each(|t| t.ipv4 ^= 1)),
        ("a digest", |image| image.targets.iter_mut().for_each(|t| t.digests[0] ^= 1)),
        ("the negative TTL", |image| image.zones.iter_mut().for_each(|z| z.negative_ttl += 1)),
        ("the names", |image| {
            image.names.iter_mut().flat_map(|bucket| &mut bucket.entries).for_each(|entry| entry.value ^= 1);
        }),
    ];
    for (what, change) in mutants {
        let found = differences(change);
        println!("{what}: {found:?} of {MUTANT_CASES} cases");
        assert!(found.iter().all(|count| *count > 0), "a mutant of {what} was not found: {found:?}");
    }
    assert_eq!(differences(|_| ()), [0, 0], "no mutant at all");
}

/// A fast path that does something wrong to frames before or after the true one.
struct Mutant<'t> {
    native: Native<'t, TableImage>,
    before: fn(&mut Vec<u8>),
    after: fn(Action, &mut Vec<u8>) -> Action,
}

impl FastPath for Mutant<'_> {
    fn run(&mut self, frame: &[u8]) -> (Action, Vec<u8>) {
        let mut frame = frame.to_vec();
        (self.before)(&mut frame);
        let (action, mut after) = self.native.run(&frame);
        ((self.after)(action, &mut after), after)
    }
}

/// Sends a reply again with another payload and right checksums.
fn resend(frame: &mut Vec<u8>, change: impl Fn(&mut Vec<u8>)) {
    let Some(mut reply) = Datagram::read(frame) else { return };
    change(&mut reply.payload);
    let macs = frame[..12].to_vec();
    *frame = Flow { client: reply.source, vip: reply.destination }.frame_with_ttl(&reply.payload, 64);
    frame[..12].copy_from_slice(&macs);
    *frame = Form { tags: &reply.tags, class: reply.class, ..Form::default() }.of(frame);
}

/// One less TTL or hop limit.
fn age(frame: &mut [u8]) {
    let tags = 4 * Datagram::read(frame).map_or(0, |reply| reply.tags.len());
    let place = if frame[12 + tags] == 8 { ETHERNET + 8 } else { ETHERNET + 7 };
    frame[place + tags] -= 1;
}

fn lower_case(payload: &mut [u8]) {
    if payload.len() > 12 && payload[..2] != *b"CD" {
        for chunk in payload[12..].chunks_exact_mut(8) {
            let folded = fold_case(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
            chunk.copy_from_slice(&folded.to_le_bytes());
        }
    }
}

#[test]
fn mutants_of_the_fast_path_are_found() {
    fn nothing(_: &mut Vec<u8>) {}
    fn replies(action: Action, frame: &mut Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Action {
        if action == Action::Transmit {
            change(frame);
        }
        action
    }
    type Before = fn(&mut Vec<u8>);
    type After = fn(Action, &mut Vec<u8>) -> Action;
    let same: After = |action, _| action;
    let mutants: [(&str, Before, After); 11] = [
        ("the case of the name is lost", nothing, |a, f| replies(a, f, |f| resend(f, |p| lower_case(p)))),
        ("a reply's last byte", nothing, |a, f| {
            replies(a, f, |f| resend(f, |p| *p.last_mut().unwrap() ^= 1))
        }),
        ("a byte too many", nothing, |a, f| replies(a, f, |f| resend(f, |p| p.push(0)))),
        ("a byte without checksum", nothing, |a, f| replies(a, f, |f| *f.last_mut().unwrap() ^= 1)),
        ("Ethernet padding stays", nothing, |a, f| replies(a, f, |f| f.push(0))),
        ("MAC addresses", nothing, |a, f| replies(a, f, |f| f.swap(0, 5))),
        ("TTL", nothing, |a, f| replies(a, f, |f| age(f))),
        ("type of service", |f| f[ETHERNET + 1] ^= 0x10, same),
        ("punted, but changed", nothing, |a, f| {
            f[0] ^= u8::from(a == Action::Pass);
            a
        }),
        ("aborted", nothing, |a, _| if a == Action::Pass { Action::Abort } else { a }),
        ("sent back as it came", nothing, |_, _| Action::Transmit),
    ];
    let (network, image) = rich_image();
    for (what, before, after) in mutants {
        let mut mutant = Mutant { native: Native::new(&image), before, after };
        let cases = Generator::new(&network, &image, 4).take(MUTANT_CASES);
        let found = compare(&mut mutant, &image, cases).disagreements.len();
        println!("{what}: {found} of {MUTANT_CASES} cases");
        assert!(found > 0, "a mutant was not found: {what}");
    }
    // Resending without a change makes no difference: the mutants above are found for what they change.
    let harmless: After = |a, f| replies(a, f, |f| resend(f, |_| ()));
    let mut control = Mutant { native: Native::new(&image), before: nothing, after: harmless };
    let cases = Generator::new(&network, &image, 4).take(MUTANT_CASES);
    assert_eq!(compare(&mut control, &image, cases).disagreements, Vec::<String>::new());
}

/// A fast path that answers nothing agrees, and must be found for that.
#[test]
fn fast_path_that_leaves_everything_to_the_slow_path_is_found() {
    struct Idle;
    impl FastPath for Idle {
        fn run(&mut self, frame: &[u8]) -> (Action, Vec<u8>) {
            (Action::Pass, frame.to_vec())
        }
    }
    let (network, image) = rich_image();
    let report = compare(&mut Idle, &image, Generator::new(&network, &image, 5).take(MUTANT_CASES));
    assert_eq!(report.disagreements, Vec::<String>::new());
    assert_eq!(report.faults(1).len(), redirector_tests::agreement::SUPPORTED.len());
}
