//! What the fast path tells of its decisions.

use super::Kernel;
use redirector::dataplane::Dataplane;
use redirector::journal::{Asked, Chosen, Decision, Spoken};
use redirector_core::decide::Client;
use redirector_core::table::Tables;
use redirector_core::verdict::Reason;
use redirector_core::wire::{Asked as Asked_, Buffer, Scratch, cdsr, dns};
use redirector_plan::image::TableImage;
use redirector_tests::agreement::Action;
use redirector_tests::generate::{Case, Generator};
use redirector_tests::slow::AtTime;
use redirector_tests::{networks, slow};
use std::time::Duration;

/// What there is in the ring.
fn told(kernel: &Kernel) -> Vec<Decision> {
    let mut ring = kernel.dataplane.ring().unwrap().expect("a ring");
    let mut told = Vec::new();
    ring.drain(usize::MAX, |record| {
        told.push(Decision::of_sample(record, Duration::ZERO).expect("a record"));
    });
    told
}

/// Questions, and an image to answer them from.
fn questions(count: usize) -> (TableImage, Vec<Case>) {
    let (network, states) = networks::rich();
    let image = networks::image(&network, &states);
    let cases = Generator::new(&network, &image, 5).take(count).collect();
    (image, cases)
}

/// What the slow path makes of it: the same functions, with the same tables.
fn decided<T: Tables>(tables: &T, case: &Case) -> (Reason, Chosen) {
    let vip = slow::vip(tables, case.flow.vip.ip()).expect("a VIP");
    let room = dns::UDP_LIMIT.into();
    let client = Client::new(case.flow.client.ip());
    let asked = Asked_ { vip: &vip, client, port: case.flow.client.port(), room };
    let mut bytes = case.payload.clone();
    bytes.resize(case.payload.len() + dns::MAX_REPLY, 0);
    let mut message = Buffer::new(&mut bytes, case.payload.len());
    let mut scratch = Box::<Scratch>::default();
    scratch.trace.vip = vip.counter as u32;
    match case.flow.vip.port() {
        slow::DNS_PORT => dns::respond::<_, T, true>(&mut message, &asked, tables, &mut scratch),
        _ => cdsr::respond::<_, T, true>(&mut message, &asked, tables, &mut scratch),
    };
    let targets = &scratch.verdict.targets[..scratch.verdict.count as usize];
    (scratch.trace.reason, Chosen::of(&scratch.trace, targets, tables))
}

fn receive(kernel: &Kernel, case: &Case) -> Action {
    Action::from_code(kernel.dataplane.receive(&case.frame).unwrap().unwrap().action)
}

#[test]
fn every_answer_is_told_with_its_question_and_what_is_punted_is_not() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (image, cases) = questions(5000);
    kernel.dataplane.set_sampling(1);
    let tables = kernel.publish(&image);
    let mut answered = 0;
    for case in &cases {
        let action = receive(&kernel, case);
        let told = told(&kernel);
        if action != Action::Transmit && action != Action::Drop {
            assert!(told.is_empty(), "{:?}: {told:?}", case.kind);
            continue;
        }
        answered += 1;
        let [decision] = &told[..] else { panic!("{:?}: {told:?}", case.kind) };
        assert_eq!(
            (decision.client, decision.vip),
            (case.flow.client, case.flow.vip.ip()),
            "{:?}",
            case.kind
        );
        let Asked::Message { bytes, length } = &decision.asked else { panic!("a message") };
        assert_eq!(*length as usize, case.payload.len());
        assert_eq!(**bytes, case.payload[..bytes.len()], "{:?}", case.kind);
        assert!(bytes.len() == case.payload.len() || case.payload.len() > 400, "{:?}", case.kind);
        let dns = case.flow.vip.port() == slow::DNS_PORT;
        assert_eq!(decision.spoken, if dns { Spoken::Dns } else { Spoken::Cdsr });
        assert_eq!((decision.generation, decision.one_in), (image.meta.generation, 1));
        let slow = decided(&AtTime(&tables.read(), 0), case);
        assert_eq!((decision.reason, decision.chosen), slow, "{:?}", case.kind);
    }
    assert!(answered > 2000, "{answered} of {} were answered", cases.len());
    let counts = kernel.dataplane.ring_counts().unwrap();
    assert_eq!((counts.told, counts.lost), (answered, 0));
}

#[test]
fn what_was_told_outlives_a_generation_and_asking_tells_nothing() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (image, cases) = questions(200);
    let case = cases.iter().find(|case| case.flow.vip.port() == cdsr::PORT).expect("a request");
    kernel.dataplane.set_sampling(1);
    kernel.publish(&image);
    (0..10).for_each(|_| {
        receive(&kernel, case);
    });
    // The shadow beside the program.
    (0..50).for_each(|_| drop(kernel.dataplane.test_run(&case.frame).unwrap()));
    kernel.publish(&image);
    (0..5).for_each(|_| {
        receive(&kernel, case);
    });
    assert_eq!(told(&kernel).len(), 10 + 5);
    kernel.dataplane.set_sampling(0);
    kernel.publish(&image);
    assert!(kernel.dataplane.ring().unwrap().is_none());
    (0..10).for_each(|_| {
        receive(&kernel, case);
    });
    assert_eq!(kernel.dataplane.ring_counts().unwrap().told, 15);
}

#[test]
fn one_in_so_many_is_told_at_random_and_a_full_ring_loses_what_comes_and_counts_it() {
    let Some(mut kernel) = Kernel::start() else { return };
    let (image, cases) = questions(200);
    let case = cases.iter().find(|case| receives_answer(&mut kernel, &image, case)).expect("an answer");
    let before = kernel.dataplane.ring_counts().unwrap();
    kernel.dataplane.set_sampling(10);
    kernel.publish(&image);
    let mut told_now = 0;
    for _ in 0..40 {
        for _ in 0..1000 {
            receive(&kernel, case);
        }
        // Before the ring is full.
        told_now += told(&kernel).len() as u64;
    }
    let counts = kernel.dataplane.ring_counts().unwrap();
    // 4000 expected; distances are even over 1 to 19, so the deviation is about 35.
    assert!((3800..4200).contains(&told_now), "{told_now}");
    assert_eq!((counts.told - before.told, counts.lost), (told_now, 0));
    kernel.dataplane.set_sampling(1);
    kernel.publish(&image);
    (0..40_000).for_each(|_| {
        receive(&kernel, case);
    });
    let after = kernel.dataplane.ring_counts().unwrap();
    assert_eq!(after.told + after.lost - counts.told - counts.lost, 40_000);
    assert!(after.lost > 10_000, "{after:?}: a mebibyte does not hold them all");
    let kept = told(&kernel);
    assert_eq!(kept.len() as u64, after.told - counts.told);
    assert!(kept.iter().all(|decision| decision.reason != Reason::Undecided && decision.one_in == 1));
}

fn receives_answer(kernel: &mut Kernel, image: &TableImage, case: &Case) -> bool {
    kernel.publish(image);
    receive(kernel, case) == Action::Transmit
}
