//! Rate limits of the program in the kernel: whom they hit, what they share, what survives a new generation.

use super::Kernel;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use redirector::dataplane::{BpfDataplane, Dataplane as _};
use redirector_core::limit::{Rate, Rates};
use redirector_core::verdict::Reason;
use redirector_core::wire::cdsr;
use redirector_plan::image::TableImage;
use redirector_tests::agreement::Action;
use redirector_tests::frames::{Datagram, Flow};
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::networks::rich;
use redirector_tests::questions::{COOKIE, CdsrReply, CdsrRequest, DnsQuery, Edns, rr, server_cookie};
use redirector_tests::slow::DNS_PORT;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Tables that let each prefix have `burst` of every class at once, and nearly nothing more while a test lasts.
fn limited(burst: u32, slip: u32) -> TableImage {
    let rate = Rate { interval: u32::MAX / burst, tolerance: u32::MAX / burst * (burst - 1) };
    let mut image = IMAGE.clone();
    image.meta.limits = Rates { of: [rate; 4], all_punts: Rate::default(), slip, reserved: 0 };
    image
}

/// The most that of a used-up burst of 20 has come back since then.
fn back(since: Instant) -> usize {
    let interval = Duration::from_nanos(u64::from(u32::MAX / 20));
    2 + (since.elapsed().as_nanos() / interval.as_nanos()) as usize
}

/// Runs what follows on this CPU.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

fn frame(client: &str, port: u16, payload: &[u8]) -> Vec<u8> {
    Flow { client: SocketAddr::new(client.parse().unwrap(), 40_000), ..flow(client.contains(':'), port) }
        .frame(payload)
}

fn query() -> Vec<u8> {
    DnsQuery::new("x.one.cdn.acme.net", rr::A).encode()
}

/// What became of frames.
#[derive(Debug, Default)]
struct Fates {
    /// Answered or passed on.
    served: usize,
    /// Payloads of replies that stand in for an answer.
    less: Vec<Vec<u8>>,
    dropped: usize,
}

/// Sends a frame again and again, on this CPU.
fn send(kernel: &Kernel, frame: &[u8], times: usize) -> Fates {
    let mut fates = Fates::default();
    for _ in 0..times {
        let run = kernel.dataplane.receive(frame).unwrap().expect("a program");
        match Action::from_code(run.action) {
            Action::Pass => fates.served += 1,
            Action::Drop => fates.dropped += 1,
            Action::Abort => panic!("aborted"),
            Action::Transmit => {
                let reply = Datagram::read(&run.frame).expect("UDP");
                assert_eq!(reply.fault, None);
                // TC, or status 2 of CDSR.
                let less = if reply.source.port() == DNS_PORT {
                    reply.payload[2] & 2 != 0
                } else {
                    CdsrReply::read(&reply.payload).unwrap().status == 2
                };
                if less { fates.less.push(reply.payload) } else { fates.served += 1 }
            }
        }
    }
    fates
}

fn counted(kernel: &Kernel, reason: Reason) -> usize {
    let reasons = kernel.dataplane.counters().unwrap().reasons;
    reasons.get(&(reason as u16)).copied().unwrap_or(0) as usize
}

/// of a flood from one prefix the burst is answered, a share of the rest is told so as configured, and the other
/// prefix gets every answer, in each class.
#[test]
fn a_flooding_prefix_is_limited_and_another_one_is_not() {
    let Some(mut kernel) = Kernel::start() else { return };
    kernel.publish(&limited(20, 4));
    stay_on(0);
    let cdsr = CdsrRequest::new("http://one.acme.net/").encode();
    let absent = DnsQuery::new("no.such.name.cdn.acme.net", rr::A).encode();
    let punted = DnsQuery::new("cdn.acme.net", rr::SOA).encode();
    for (what, port, message, less, dropped) in [
        ("answers", DNS_PORT, &query(), Reason::LimitSlip, Reason::LimitDrop),
        ("errors", DNS_PORT, &absent, Reason::LimitSlip, Reason::LimitDrop),
        ("CDSR", cdsr::PORT, &cdsr, Reason::LimitCdsr, Reason::LimitCdsrDrop),
        ("punts", DNS_PORT, &punted, Reason::LimitPuntSlip, Reason::LimitPunt),
    ] {
        for [flooding, other] in [["10.1.2.3", "10.1.9.1"], ["2a00:1:2:300::1", "2a00:1:2:200::1"]] {
            let before = [less, dropped].map(|reason| counted(&kernel, reason));
            let fates = send(&kernel, &frame(flooding, port, message), 4020);
            assert!((20..=21).contains(&fates.served), "{what}: {} served", fates.served);
            // A quarter of 4000, give or take five standard deviations.
            let slipped = fates.less.len();
            assert!((860..=1140).contains(&slipped), "{what}: {slipped} slipped");
            assert!(fates.less.iter().all(|reply| reply.len() <= message.len()), "{what}: longer than asked");
            let rise = [less, dropped].map(|reason| counted(&kernel, reason));
            assert_eq!([rise[0] - before[0], rise[1] - before[1]], [slipped, fates.dropped], "{what}");
            assert_eq!(send(&kernel, &frame(other, port, message), 20).served, 20, "{what} of {other}");
        }
    }
}

/// whoever shows by a cookie that its address is its own is answered while its prefix is over the limit, and takes
/// nothing from its neighbours' budget. Cookies that prove nothing do not help.
#[test]
fn a_good_server_cookie_passes_the_limit_and_others_do_not() {
    let Some(mut kernel) = Kernel::start() else { return };
    kernel.publish(&limited(20, 2));
    stay_on(0);
    let key = rich().0.key;
    for [client, neighbour] in [["10.1.2.3", "10.1.2.4"], ["2a00:1:2:300::1", "2a00:1:2:3ff::1"]] {
        let ask = |address: &str, server: &[u8]| {
            let edns = Edns::new(false).option(COOKIE, &[b"a client", server].concat());
            frame(address, DNS_PORT, &DnsQuery::new("x.one.cdn.acme.net", rr::A).edns(edns).encode())
        };
        // The program's clock stands at 0.
        let made = |seconds| server_cookie(key, *b"a client", seconds, client.parse().unwrap());
        let good = ask(client, &made(0));
        assert_eq!(send(&kernel, &good, 200).served, 200, "at first");
        let mut since = Instant::now();
        let spent = send(&kernel, &ask(neighbour, b""), 200).served;
        assert!((20..=20 + back(since)).contains(&spent), "the whole budget was left: {spent}");
        let mut forged = made(0);
        forged[15] ^= 1;
        for (what, frame) in [
            ("no EDNS", frame(client, DNS_PORT, &query())),
            ("no server cookie", ask(client, b"")),
            ("a forged one", ask(client, &forged)),
            ("one of another client", ask(neighbour, &made(0))),
            ("an old one", ask(client, &made(0u32.wrapping_sub(3601)))),
        ] {
            let before = [Reason::LimitSlip, Reason::LimitDrop].map(|reason| counted(&kernel, reason));
            let fates = send(&kernel, &frame, 200);
            assert!(fates.served <= back(since), "{what}: {} served", fates.served);
            since = Instant::now();
            assert!(!fates.less.is_empty() && fates.dropped > 0, "{what}: {fates:?}");
            let rise = [Reason::LimitSlip, Reason::LimitDrop].map(|reason| counted(&kernel, reason));
            assert_eq!(
                [rise[0] - before[0], rise[1] - before[1]],
                [fates.less.len(), fates.dropped],
                "{what}"
            );
            assert_eq!(send(&kernel, &good, 200).served, 200, "over the limit, beside {what}");
        }
    }
}

#[test]
fn each_cpu_has_buckets_of_its_own() {
    let Some(mut kernel) = Kernel::start() else { return };
    kernel.publish(&limited(20, 0));
    let frame = frame("10.1.2.3", DNS_PORT, &query());
    for cpu in 0..2 {
        stay_on(cpu);
        assert!((20..=21).contains(&send(&kernel, &frame, 100).served), "CPU {cpu}");
    }
    stay_on(0);
    assert!(send(&kernel, &frame, 100).served < 10, "CPU 0 again");
}

/// Invariant: a new generation has the buckets of the one before, and so has the next daemon. New rates hold at once.
/// Uses up a prefix's budget and asks again after a reload and after a restart. Gives what was asked; `None`: that took so
/// long that the budget was whole again, and nothing is shown.
fn budget_over_reload_and_restart(kernel: &mut Kernel, prefix: u8) -> Option<Vec<u8>> {
    let frame = frame(&format!("10.1.{prefix}.3"), DNS_PORT, &query());
    let directory = kernel.bpffs.path().join("redirector");
    let mut since = Instant::now();
    assert!(send(kernel, &frame, 100).served >= 20);
    for again in ["after a reload", "after a restart"] {
        if again == "after a restart" {
            kernel.dataplane = BpfDataplane::new(&directory, vec![], vec![], None).unwrap();
        }
        kernel.publish(&limited(20, 0));
        let served = send(kernel, &frame, 100).served;
        let back = back(since);
        if back >= 20 {
            return None;
        }
        assert!(served <= back, "{again}: {served} answers, though no more than {back} can have come back");
        since = Instant::now();
    }
    Some(frame)
}

#[test]
fn budgets_that_are_used_up_stay_so_over_reload_and_restart() {
    let Some(mut kernel) = Kernel::start() else { return };
    stay_on(0);
    kernel.publish(&limited(20, 0));
    let first = (1..=5).find_map(|try_| budget_over_reload_and_restart(&mut kernel, try_));
    let frame = first.expect("publishing twice took so long five times that the budget was whole again");
    let mut unlimited = limited(1, 0);
    unlimited.meta.limits = Rates::default();
    kernel.publish(&unlimited);
    assert_eq!(send(&kernel, &frame, 1000).served, 1000, "without limits");
}

#[test]
fn a_test_run_takes_from_no_budget() {
    let Some(mut kernel) = Kernel::start() else { return };
    stay_on(0);
    kernel.publish(&limited(20, 0));
    let frame = frame("10.1.2.3", DNS_PORT, &query());
    for _ in 0..100 {
        let run = kernel.dataplane.test_run(&frame).unwrap().expect("a program");
        assert_eq!(Action::from_code(run.action), Action::Transmit);
    }
    assert!((20..=21).contains(&send(&kernel, &frame, 100).served));
}

/// The slow path must get everything once nobody tends the fast path.
#[test]
fn a_program_that_nobody_tends_punts_without_limits() {
    let Some(mut kernel) = Kernel::start() else { return };
    stay_on(0);
    let directory = kernel.bpffs.path().join("redirector");
    kernel.dataplane = BpfDataplane::new(&directory, vec![], vec![], Some(Duration::ZERO)).unwrap();
    kernel.publish(&limited(20, 0));
    let frame = frame("10.1.2.3", DNS_PORT, &query());
    // The coarse clock moves on by steps.
    let limit = Instant::now() + Duration::from_secs(5);
    while counted(&kernel, Reason::PuntStale) == 0 {
        assert!(Instant::now() < limit, "the program goes on answering");
        send(&kernel, &frame, 1);
    }
    assert_eq!(send(&kernel, &frame, 1000).served, 1000);
    assert_eq!(counted(&kernel, Reason::PuntStale), 1001);
}
