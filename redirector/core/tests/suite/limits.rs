//! Rate limits: buckets against a naive token bucket, whom a flood hits, and what becomes of frames over a limit.

use proptest::prelude::*;
use redirector_core::decide::Client;
use redirector_core::hash::Keys;
use redirector_core::limit::{Class, EPOCH_BITS, LINES, Rate, Rates, Work};
use redirector_core::table::{Meta, Tables as _};
use redirector_core::verdict::Reason;
use redirector_core::wire::cdsr;
use redirector_plan::image::TableImage;
use redirector_tests::agreement::{Action, FastPath as _, Native};
use redirector_tests::frames::{Datagram, ETHERNET, Flow};
use redirector_tests::generate::Random;
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::limited::Buckets;
use redirector_tests::questions::{CdsrReply, CdsrRequest, DnsQuery, Edns, rr};
use redirector_tests::slow::DNS_PORT;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const SECOND: u64 = 1_000_000_000;

fn meta(rate: Rate, secret: u8) -> Meta {
    let limits = Rates { of: [rate; 4], all_punts: rate, slip: 2, reserved: 0 };
    Meta { limits, keys: Keys::new([secret; 16]), ..IMAGE.meta }
}

fn v4(bits: u32) -> Client {
    Client::new(Ipv4Addr::from_bits(bits).into())
}

/// One message of a client at a time: whether it is within the limit.
fn admits(buckets: &mut Buckets, meta: &Meta, client: Client, now: u64, class: Class) -> bool {
    let mut work = Work::at(now);
    work.begin::<Buckets>(&client, &meta.keys);
    work.admits(buckets, meta, class)
}

/// So many tokens, in nanoseconds of the rate, and when they were counted.
struct TokenBucket {
    tokens: u64,
    at: u64,
}

impl TokenBucket {
    fn take(&mut self, rate: Rate, now: u64) -> bool {
        let full = u64::from(rate.tolerance) + u64::from(rate.interval);
        self.tokens = full.min(self.tokens + (now - self.at));
        self.at = now;
        let enough = self.tokens >= u64::from(rate.interval);
        if enough {
            self.tokens -= u64::from(rate.interval);
        }
        enough
    }
}

proptest! {
    #[test]
    fn one_client_is_limited_as_by_a_token_bucket(
        per_second in 1u32..2_000_000,
        burst in 50_000_000u32..4_000_000_000,
        scale in 1u64..40_000_000,
        steps in prop::collection::vec(0u64..1000, 1..2000),
    ) {
        let rate = Rate::new(per_second, burst);
        let meta = meta(rate, 7);
        let mut buckets = Buckets::new(1);
        // Long after the clock began, and at the start of an epoch: the test ends before the next one.
        let mut now = 40 << EPOCH_BITS;
        let mut naive = TokenBucket { tokens: u64::MAX / 2, at: now };
        for step in steps {
            now = (now + step * scale / 1000).min((41 << EPOCH_BITS) - 1);
            let want = naive.take(rate, now);
            prop_assert_eq!(admits(&mut buckets, &meta, v4(0x0a01_0203), now, Class::Answers), want);
        }
    }
}

#[test]
fn a_burst_and_then_the_rate_is_let_through_and_no_more() {
    let meta = meta(Rate::new(100, SECOND as u32 / 2), 1);
    let mut buckets = Buckets::new(1);
    let now = 3 << EPOCH_BITS;
    let mut asked =
        |now| (0..1000).filter(|_| admits(&mut buckets, &meta, v4(1 << 24), now, Class::Cdsr)).count();
    assert_eq!(asked(now), 50);
    assert_eq!(asked(now + SECOND / 10), 10);
    assert_eq!(asked(now + 10 * SECOND), 50, "no more than a burst is saved up");
}

#[test]
fn a_prefix_shares_its_budget_and_classes_do_not() {
    let meta = meta(Rate::new(1, 50_000_000), 1);
    let mut buckets = Buckets::new(1);
    let mut ask = |address: &str, class| {
        admits(&mut buckets, &meta, Client::new(address.parse().unwrap()), 5 << EPOCH_BITS, class)
    };
    assert!(ask("192.0.2.1", Class::Answers));
    assert!(!ask("192.0.2.255", Class::Answers), "one /24");
    assert!(ask("192.0.3.1", Class::Answers), "another /24");
    assert!(ask("2001:db8:0:100::1", Class::Answers));
    assert!(!ask("2001:db8:0:1ff:ffff::", Class::Answers), "one /56");
    assert!(ask("2001:db8:0:200::1", Class::Answers), "another /56");
    assert!(
        ask("192.0.2.1", Class::Errors) && ask("192.0.2.1", Class::Cdsr) && ask("192.0.2.1", Class::Punts)
    );
}

#[test]
fn without_a_rate_there_is_no_limit() {
    let meta = meta(Rate::new(0, 1_000_000_000), 1);
    let mut buckets = Buckets::new(1);
    assert!((0..100_000).all(|_| admits(&mut buckets, &meta, v4(9 << 24), SECOND, Class::Answers)));
}

/// Lets `flooding` prefixes use up their budgets, and gives the innocent ones of `asked` that are refused for it.
fn hit(buckets: &mut Buckets, meta: &Meta, now: u64, flooding: u32, asked: u32) -> Vec<u32> {
    for prefix in 0..flooding {
        while admits(buckets, meta, v4(0x0b00_0000 + (prefix << 8)), now, Class::Answers) {}
    }
    let refused = |prefix: &u32| !admits(buckets, meta, v4(0x6400_0000 + (prefix << 8)), now, Class::Answers);
    (0..asked).filter(refused).collect()
}

/// Docs state these shares (docs/performance.md).
#[test]
fn few_innocent_prefixes_share_the_buckets_of_a_flood() {
    for (flooding, most) in [(1, 0.0001), (100, 0.0004), (1000, 0.0025), (10_000, 0.035)] {
        let mut refused = 0;
        for secret in 0..5 {
            let meta = meta(Rate::new(10, SECOND as u32), secret);
            refused += hit(&mut Buckets::new(1), &meta, 9 << EPOCH_BITS, flooding, 20_000).len();
        }
        let share = refused as f64 / 100_000.0;
        println!("{flooding} flooding prefixes: {:.3} % of the others", share * 100.0);
        assert!(share <= most, "{flooding} flooding prefixes hit {share} of the others");
    }
}

#[test]
fn no_innocent_prefix_shares_a_floods_buckets_for_ever() {
    let meta = meta(Rate::new(10, SECOND as u32), 3);
    let mut epochs =
        (20..24u64).map(|epoch| hit(&mut Buckets::new(1), &meta, epoch << EPOCH_BITS, 20_000, 50_000));
    let first = epochs.next().unwrap();
    assert!(first.len() > 1000, "{} are hit", first.len());
    let lasting = epochs.fold(first.clone(), |still, next| {
        still.into_iter().filter(|prefix| next.binary_search(prefix).is_ok()).collect()
    });
    // With buckets of their own each time, some 3 % of 3 % of 3 % of them.
    assert!(
        lasting.len() * 100 < first.len(),
        "{} of {} are hit again and again",
        lasting.len(),
        first.len()
    );
}

#[test]
fn a_flood_from_everywhere_uses_up_no_budget() {
    // Ten million a second from all addresses, on one CPU.
    let meta = meta(Rate::new(200, SECOND as u32), 5);
    let mut buckets = Buckets::new(1);
    let mut random = Random::new(11);
    let start = 12 << EPOCH_BITS;
    let refused = (0..10_000_000u64)
        .filter(|number| {
            let client = v4(random.bits() as u32);
            !admits(&mut buckets, &meta, client, start + number * 100, Class::Errors)
        })
        .count();
    assert_eq!(refused, 0);
}

#[test]
fn places_of_clients_spread_over_all_lines() {
    let keys = Keys::new([9; 16]);
    let mut counts = vec![0u32; LINES as usize];
    let mut marked = Buckets::new(1);
    let meta = Meta { keys, ..meta(Rate::new(1, 50_000_000), 0) };
    for prefix in 0..LINES * 8 {
        admits(&mut marked, &meta, v4(prefix << 8), 1, Class::Answers);
    }
    for line in 0..LINES {
        let line = redirector_core::limit::Limits::line(&mut marked, line).unwrap();
        counts[line.buckets.iter().filter(|bucket| **bucket != 0).count()] += 1;
    }
    // 16 marks thrown on 8 buckets: with even spreading hardly a line has less than four of them marked.
    assert!(counts[..4].iter().sum::<u32>() < LINES / 20, "{:?}", &counts[..9]);
}

/// Tables that let each prefix have `each` of every class, and all together `punts` punts: time stands still.
fn limited(each: u32, punts: u32, slip: u32) -> TableImage {
    let rate = |count: u32| Rate { interval: 1000, tolerance: 1000 * (count - 1) };
    let mut image = IMAGE.clone();
    image.meta.limits = Rates { of: [rate(each); 4], all_punts: rate(punts), slip, reserved: 0 };
    image
}

fn from(address: &str, port: u16) -> Flow {
    let client: IpAddr = address.parse().expect("an address");
    Flow { client: SocketAddr::new(client, 40_000), ..flow(client.is_ipv6(), port) }
}

/// What became of frames, by reason.
#[derive(Debug, Default)]
struct Fates {
    answered: usize,
    passed: usize,
    slipped: Vec<Vec<u8>>,
    dropped: usize,
    reasons: Vec<Reason>,
}

fn send(native: &mut Native<'_, TableImage, Buckets>, frame: &[u8], times: usize) -> Fates {
    let mut fates = Fates::default();
    for _ in 0..times {
        let (action, after) = native.run(frame);
        let reason = native.reason();
        match action {
            Action::Transmit if reason >= Reason::LimitSlip => fates.slipped.push(after),
            Action::Transmit => fates.answered += 1,
            Action::Pass => fates.passed += 1,
            Action::Drop => fates.dropped += 1,
            Action::Abort => panic!("aborted"),
        }
        if !fates.reasons.contains(&reason) {
            fates.reasons.push(reason);
        }
    }
    fates
}

fn queries() -> Vec<(&'static str, Vec<u8>)> {
    let name = "x.one.cdn.acme.net";
    vec![
        ("A", DnsQuery::new(name, rr::A).encode()),
        ("A with EDNS", DnsQuery::new(name, rr::A).edns(Edns::new(true).option(12, &[0; 7])).encode()),
        ("NODATA", DnsQuery::new(name, rr::HTTPS).encode()),
        ("NXDOMAIN", DnsQuery::new("no.such.name.cdn.acme.net", rr::A).encode()),
    ]
}

/// The truncated answer to a query: its header with other flags, its question, and EDNS if it had that.
fn check_truncated(query: &[u8], frame: &[u8]) {
    let reply = Datagram::read(frame).expect("UDP");
    assert_eq!(reply.fault, None);
    let reply = reply.payload;
    assert!(reply.len() <= query.len(), "{} bytes for {}", reply.len(), query.len());
    assert_eq!((&reply[..2], reply[2] & 0xfa, reply[3]), (&query[..2], 0x82, 0), "ID, QR and TC, RCODE");
    let edns = query[11];
    assert_eq!(reply[4..12], [0, 1, 0, 0, 0, 0, 0, edns]);
    let question = reply.len() - usize::from(edns) * 11;
    assert_eq!(reply[12..question], query[12..question]);
}

#[test]
fn dns_over_the_limit_is_truncated_or_dropped_and_other_prefixes_are_answered() {
    let image = limited(10, 1000, 3);
    for (what, query) in queries() {
        for [flooding, other] in [["10.1.2.3", "10.1.3.3"], ["2a00:1:2:300::1", "2a00:1:2:200::1"]] {
            let mut native = Native::within(&image, Buckets::new(1));
            let fates = send(&mut native, &from(flooding, DNS_PORT).frame(&query), 3010);
            assert_eq!((fates.answered, fates.passed), (10, 0), "{what}");
            // A third of 3000, give or take five standard deviations.
            assert!((870..=1130).contains(&fates.slipped.len()), "{what}: {} slipped", fates.slipped.len());
            assert_eq!(fates.dropped, 3000 - fates.slipped.len());
            assert!(
                fates.reasons[1..]
                    .iter()
                    .all(|reason| [Reason::LimitSlip, Reason::LimitDrop].contains(reason))
            );
            fates.slipped.iter().for_each(|frame| check_truncated(&query, frame));
            let fates = send(&mut native, &from(other, DNS_PORT).frame(&query), 10);
            assert_eq!(fates.answered, 10, "{what}: another prefix");
        }
    }
}

#[test]
fn all_or_none_slip_as_configured() {
    let query = DnsQuery::new("x.one.cdn.acme.net", rr::A).encode();
    for (slip, slipped) in [(0, 0), (1, 100)] {
        let image = limited(1, 1, slip);
        let mut native = Native::within(&image, Buckets::new(1));
        let fates = send(&mut native, &from("10.1.2.3", DNS_PORT).frame(&query), 101);
        assert_eq!((fates.answered, fates.slipped.len(), fates.dropped), (1, slipped, 100 - slipped));
    }
}

#[test]
fn cdsr_over_the_limit_is_told_to_come_later_or_dropped() {
    let image = limited(10, 1000, 2);
    for length in [28 + 24, 200] {
        let request = CdsrRequest { length, ..CdsrRequest::new("http://one.acme.net/") }.encode();
        let mut native = Native::within(&image, Buckets::new(1));
        let fates = send(&mut native, &from("10.1.2.3", cdsr::PORT).frame(&request), 2010);
        assert_eq!((fates.answered, fates.passed), (10, 0));
        assert!((850..=1150).contains(&fates.slipped.len()), "{} slipped", fates.slipped.len());
        for frame in &fates.slipped {
            let reply = Datagram::read(frame).expect("UDP");
            assert_eq!(reply.fault, None);
            assert!(reply.payload.len() <= request.len());
            let reply = CdsrReply::read(&reply.payload).expect("a CDSR reply");
            assert_eq!((reply.status, reply.reason), (2, Reason::LimitCdsr as u16));
        }
        let fates = send(&mut native, &from("10.1.3.3", cdsr::PORT).frame(&request), 10);
        assert_eq!(fates.answered, 10, "another prefix");
    }
}

#[test]
fn punts_have_a_budget_for_each_prefix_and_dns_can_come_by_tcp() {
    let image = limited(10, 1000, 2);
    let query = DnsQuery::new("cdn.acme.net", rr::SOA).edns(Edns::new(false)).encode();
    let mut native = Native::within(&image, Buckets::new(1));
    let fates = send(&mut native, &from("10.1.2.3", DNS_PORT).frame(&query), 2010);
    assert_eq!((fates.answered, fates.passed), (0, 10));
    assert_eq!(fates.reasons[0], Reason::PuntZoneRecord);
    assert!((850..=1150).contains(&fates.slipped.len()), "{} slipped", fates.slipped.len());
    fates.slipped.iter().for_each(|frame| check_truncated(&query, frame));
    assert_eq!(send(&mut native, &from("10.1.3.3", DNS_PORT).frame(&query), 10).passed, 10);
    // What is no query must not be sent back: two boxes could do so for ever.
    let mut answer = query.clone();
    answer[2] |= 0x80;
    let fates = send(&mut native, &from("10.1.4.4", DNS_PORT).frame(&answer), 1000);
    assert_eq!((fates.passed, fates.slipped.len(), fates.dropped), (10, 0, 990));
    assert_eq!(fates.reasons[1..], [Reason::LimitPunt]);
    // Answers have a budget of their own.
    let query = DnsQuery::new("x.one.cdn.acme.net", rr::A).encode();
    assert_eq!(send(&mut native, &from("10.1.2.3", DNS_PORT).frame(&query), 10).answered, 10);
}

#[test]
fn all_punts_together_have_a_budget() {
    let image = limited(10, 50, 0);
    let mut native = Native::within(&image, Buckets::new(1));
    let (mut passed, mut reasons) = (0, Vec::new());
    for third in 0..100 {
        // To a port where nobody listens, in fragments, and from sources that cannot be: all of it is a flood's.
        let fates = send(&mut native, &from(&format!("10.1.{third}.1"), 9).frame(&[0; 20]), 1);
        passed += fates.passed;
        reasons.extend(fates.reasons);
    }
    assert_eq!(passed, 50);
    assert!(reasons[50..].iter().all(|reason| *reason == Reason::LimitPuntAll), "{reasons:?}");
}

/// Whoever floods with punts from everywhere, a query from a prefix within its own budget is told to come by TCP, never
/// dropped; unless nobody is to be told.
#[test]
fn no_prefix_within_its_budget_loses_a_dns_query_to_punts_of_others() {
    let query = DnsQuery::new("cdn.acme.net", rr::SOA).encode();
    for (slip, told) in [(1, 950), (1000, 950), (0, 0)] {
        let image = limited(10, 50, slip);
        let mut native = Native::within(&image, Buckets::new(1));
        let (mut passed, mut slipped) = (0, 0);
        for host in 0..1000 {
            let client = format!("10.{}.{}.1", host / 250, host % 250);
            let fates = send(&mut native, &from(&client, DNS_PORT).frame(&query), 1);
            passed += fates.passed;
            slipped += fates.slipped.len();
            fates.slipped.iter().for_each(|frame| check_truncated(&query, frame));
        }
        assert_eq!((passed, slipped), (50, told), "slip {slip}");
    }
}

#[test]
fn every_kind_of_udp_punt_is_limited_and_tcp_and_icmp_are_not() {
    let image = limited(3, 1000, 0);
    let plain = from("10.1.2.3", DNS_PORT).frame(&DnsQuery::new("x.one.cdn.acme.net", rr::A).encode());
    let changed = |at: usize, value: u8| {
        let mut frame = plain.clone();
        frame[ETHERNET + at] = value;
        frame
    };
    let fates = |frame: &[u8]| send(&mut Native::within(&image, Buckets::new(1)), frame, 10);
    for (what, frame) in [
        ("a fragment", changed(6, 0x20)),
        ("a header length of 4 words", changed(0, 0x44)),
        ("a source of 127", changed(12, 127)),
        ("a length that lies", changed(3, 30)),
        ("SCTP", changed(9, 132)),
    ] {
        let fates = fates(&frame);
        assert_eq!((fates.passed, fates.dropped), (3, 7), "{what}: {:?}", fates.reasons);
    }
    for (what, frame) in [("TCP", changed(9, 6)), ("ICMP", changed(9, 1))] {
        let fates = fates(&frame);
        assert_eq!((fates.passed, &fates.reasons[..]), (10, &[Reason::PuntNotUdp][..]), "{what}");
    }
    // Not for a VIP: nobody's business here.
    assert_eq!(fates(&changed(19, 250)).passed, 10);
}

#[test]
fn what_is_over_a_limit_is_counted_for_no_service() {
    let image = limited(1, 1, 1);
    let mut native = Native::within(&image, Buckets::new(1));
    let frame = from("10.1.2.3", DNS_PORT).frame(&DnsQuery::new("x.one.cdn.acme.net", rr::A).encode());
    native.run(&frame);
    assert!(native.trace().decided);
    native.run(&frame);
    let trace = native.trace();
    assert_eq!((trace.reason, trace.decided), (Reason::LimitSlip, false));
    assert!(image.service(trace.service).is_none() && trace.vip != redirector_core::table::NONE);
}
