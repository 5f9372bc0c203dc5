//! The stub against a redirector that behaves well, badly, or not at all.

use crate::common::{Mock, ReplyBuilder, SERVER_1, SERVER_2, SERVER_3, Send, ip, server_list};
use cdsr::{Config, Error, FailureKind, Learned, Preferences, Scope, Status, Stub, Timers};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const URL: &str = "rtsp://any.cdn.example/news.rm";

/// Short waits, for redirectors that do not answer.
fn impatient(mock: &Mock) -> Config {
    let timers = Timers {
        first: Duration::from_millis(60),
        longest: Duration::from_millis(240),
        total: Duration::from_secs(2),
        ..Timers::default()
    };
    Config { timers, ..config(mock) }
}

fn config(mock: &Mock) -> Config {
    Config { server: Some(mock.address), ..Config::default() }
}

fn stub(mock: &Mock) -> Stub {
    Stub::new(config(mock)).expect("a stub")
}

fn servers(resolution: &cdsr::Resolution) -> Vec<String> {
    resolution.endpoints().iter().map(|e| e.server.to_string()).collect()
}

#[test]
fn one_datagram_is_answered_by_one() {
    let mock =
        Mock::replying(|q| ReplyBuilder { suffix: 11, ..ReplyBuilder::handled(q, &[SERVER_1, SERVER_2]) });
    let resolution = stub(&mock).resolve(URL).expect("a resolution");
    assert_eq!(servers(&resolution), [SERVER_1, SERVER_2]);
    assert_eq!(resolution.current().server, SERVER_1.parse().expect("an address"));
    assert_eq!((resolution.attempts(), mock.requests().len()), (1, 1));
    assert_eq!(resolution.redirector(), mock.address);
    assert_eq!(resolution.learned(), Learned::Configured);
    assert_eq!(resolution.reply().handled_suffix.as_deref(), Some("cdn.example"));
    assert_eq!(resolution.reply().scope, Scope::Url);
    assert_eq!(resolution.reply().lifetime, Duration::from_secs(60));
    assert!(mock.requests()[0].len() >= 28 + 4 * 24, "no room for four endpoints");
}

#[test]
fn lost_datagrams_are_repeated_unchanged() {
    let mock = Mock::new(|n, q| match n {
        0 | 1 => vec![],
        _ => vec![Send::Reply(ReplyBuilder::handled(q, &[SERVER_1]).encode())],
    });
    let stub = Stub::new(impatient(&mock)).expect("a stub");
    let resolution = stub.resolve(URL).expect("a resolution");
    assert!(resolution.attempts() >= 3, "{}", resolution.attempts());
    let requests = mock.requests();
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[0], requests[2]);
}

#[test]
fn nonces_of_transactions_differ() {
    let mock = Mock::replying(|q| ReplyBuilder { value: 0, ..ReplyBuilder::handled(q, &[SERVER_1]) });
    let stub = stub(&mock);
    for _ in 0..8 {
        stub.resolve(URL).expect("a resolution");
    }
    let nonces: std::collections::HashSet<Vec<u8>> =
        mock.requests().iter().map(|q| q[4..12].to_vec()).collect();
    assert_eq!(nonces.len(), 8);
}

#[test]
fn late_reply_to_an_earlier_datagram_counts() {
    let mock = Mock::new(|n, q| match n {
        0 => vec![Send::Late(Duration::from_millis(100), ReplyBuilder::handled(q, &[SERVER_1]).encode())],
        _ => vec![],
    });
    let stub = Stub::new(impatient(&mock)).expect("a stub");
    let resolution = stub.resolve(URL).expect("a resolution");
    assert!(resolution.attempts() >= 2, "{}", resolution.attempts());
}

#[test]
fn garbage_and_forgeries_are_passed_over() {
    let mock = Mock::new(|_, q| {
        let good = ReplyBuilder::handled(q, &[SERVER_1]);
        let forged = ReplyBuilder::handled(q, &[SERVER_2]);
        let wrong_nonce = ReplyBuilder { nonce: forged.nonce ^ 1, ..forged.clone() };
        let mut over_long = forged.encode();
        over_long.resize(q.len() + 1, 0);
        let mut truncated = forged.encode();
        truncated.pop();
        vec![
            Send::Reply(vec![]),
            Send::Reply(b"garbage".to_vec()),
            Send::Reply(q.to_vec()),
            Send::Reply(wrong_nonce.encode()),
            Send::Reply(over_long),
            Send::Reply(truncated),
            Send::Spoofed(forged.encode()),
            Send::Late(Duration::from_millis(20), good.encode()),
            Send::Late(Duration::from_millis(20), forged.encode()),
        ]
    });
    let resolution = stub(&mock).resolve(URL).expect("a resolution");
    assert_eq!(servers(&resolution), [SERVER_1]);
}

#[test]
fn forgeries_alone_are_no_answer() {
    let mock = Mock::new(|_, q| {
        let forged = ReplyBuilder::handled(q, &[SERVER_2]);
        let wrong_nonce = ReplyBuilder { nonce: 0, ..forged.clone() };
        vec![Send::Spoofed(forged.encode()), Send::Reply(wrong_nonce.encode())]
    });
    let stub = Stub::new(impatient(&mock)).expect("a stub");
    assert!(matches!(stub.resolve(URL), Err(Error::NoAnswer { .. })));
}

#[test]
fn waits_grow_and_end_and_silence_is_remembered() {
    let mock = Mock::new(|_, _| vec![]);
    let stub = Stub::new(impatient(&mock)).expect("a stub");
    let start = Instant::now();
    let error = stub.resolve(URL).expect_err("no answer");
    let Error::NoAnswer { redirectors, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*redirectors, [mock.address]);
    assert!(error.legacy_addresses().is_some());
    // 60 + 120 + 240 + 240 ms, each within a quarter; four equal waits would be 300 ms at most.
    assert!(start.elapsed() >= Duration::from_millis(495), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(mock.requests().len(), 4);
    assert!(matches!(stub.resolve("rtsp://any.cdn.example/other"), Err(Error::NoAnswer { .. })));
    assert_eq!(mock.requests().len(), 4, "asked within the silence hold");
}

#[test]
fn silence_ends() {
    let mock = Mock::new(|n, q| match n {
        0..4 => vec![],
        _ => vec![Send::Reply(ReplyBuilder::handled(q, &[SERVER_1]).encode())],
    });
    let Config { timers, .. } = impatient(&mock);
    let timers = Timers { silence: Duration::from_millis(50), ..timers };
    let stub = Stub::new(Config { timers, ..config(&mock) }).expect("a stub");
    assert!(stub.resolve(URL).is_err());
    let deadline = Instant::now() + Duration::from_secs(5);
    while stub.resolve(URL).is_err() {
        assert!(Instant::now() < deadline, "still silent");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn closed_port_is_no_answer_at_once() {
    let closed = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("an address");
    let stub = Stub::new(Config { server: Some(closed), ..Config::default() }).expect("a stub");
    let start = Instant::now();
    assert!(matches!(stub.resolve(URL), Err(Error::NoAnswer { .. })));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn total_time_bounds_the_transaction() {
    let mock = Mock::new(|_, _| vec![]);
    let timers = Timers { total: Duration::from_millis(100), ..Timers::default() };
    let stub = Stub::new(Config { timers, ..config(&mock) }).expect("a stub");
    let start = Instant::now();
    assert!(stub.resolve(URL).is_err());
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(mock.requests().len() <= 2);
}

#[test]
fn short_delay_is_waited_for() {
    let mock = Mock::new(|n, q| match n {
        0 => vec![Send::Reply(ReplyBuilder::status(q, 2, 150).encode())],
        _ => vec![Send::Reply(ReplyBuilder::handled(q, &[SERVER_1]).encode())],
    });
    let resolution = stub(&mock).resolve(URL).expect("a resolution");
    assert_eq!(resolution.attempts(), 2);
    let times = mock.times();
    assert!(times[1] - times[0] >= Duration::from_millis(150));
}

#[test]
fn long_delay_is_told_and_kept() {
    let mock = Mock::replying(|q| ReplyBuilder::status(q, 2, u32::MAX).host_scope());
    let stub = stub(&mock);
    for url in [URL, "rtsp://any.cdn.example/other"] {
        let error = stub.resolve(url).expect_err("put off");
        let Error::RetryLater { after } = error else { panic!("{error:?}") };
        assert!(after <= Duration::from_secs(75), "{after:?} is more than the greatest delay");
        assert!(after > Duration::from_secs(55), "{after:?}");
        assert!(error.legacy_addresses().is_none());
    }
    assert_eq!(mock.requests().len(), 1);
}

#[test]
fn zero_delay_does_not_become_a_flood() {
    let mock = Mock::replying(|q| ReplyBuilder::status(q, 2, 0));
    let timers = Timers { total: Duration::from_millis(400), ..Timers::default() };
    let stub = Stub::new(Config { timers, ..config(&mock) }).expect("a stub");
    assert!(matches!(stub.resolve(URL), Err(Error::RetryLater { .. })));
    assert!(mock.requests().len() <= 8, "{} requests in 400 ms", mock.requests().len());
}

#[test]
fn statuses_become_errors_of_their_own() {
    for (status, legacy) in [(1, true), (3, false), (4, true), (5, true), (6, true)] {
        let mock = Mock::replying(move |q| ReplyBuilder { reason: 77, ..ReplyBuilder::status(q, status, 0) });
        let error = stub(&mock).resolve(URL).expect_err("no endpoints");
        let right = match (&error, status) {
            (Error::NotMine { reason, .. }, 1)
            | (Error::Denied { reason }, 3)
            | (Error::UseLegacy { reason, .. }, 4)
            | (Error::Refused { reason, version: false, .. }, 5)
            | (Error::Refused { reason, version: true, .. }, 6) => *reason == 77,
            _ => false,
        };
        assert!(right, "status {status}: {error:?}");
        assert_eq!(error.legacy_addresses().is_some(), legacy, "status {status}");
        assert_eq!(mock.requests().len(), 1, "status {status} was asked again");
    }
}

#[test]
fn handled_without_endpoints_is_legacy() {
    let mock = Mock::replying(|q| ReplyBuilder::handled(q, &[]));
    let error = stub(&mock).resolve(URL).expect_err("no endpoints");
    assert!(matches!(error, Error::NoEndpoint { .. }), "{error:?}");
    assert!(error.legacy_addresses().is_some());
}

#[test]
fn refusals_are_remembered_for_their_lifetime_and_scope() {
    for status in [1, 4] {
        let mock = Mock::replying(move |q| ReplyBuilder::status(q, status, 60).host_scope());
        let stub = stub(&mock);
        for url in [URL, "rtsp://any.cdn.example/other"] {
            assert!(stub.resolve(url).is_err());
        }
        assert_eq!(mock.requests().len(), 1);
        assert!(stub.resolve("rtsp://other.cdn.example/x").is_err());
        assert_eq!(mock.requests().len(), 2);
    }
}

#[test]
fn answers_are_used_within_their_scope_and_no_further() {
    let prefix = |q: &[u8]| ReplyBuilder { scope: 2, prefix: 28, ..ReplyBuilder::handled(q, &[SERVER_1]) };
    let mock = Mock::replying(prefix);
    let stub = stub(&mock);
    let first = stub.resolve("rtsp://any.cdn.example/live/1").expect("a resolution");
    assert_eq!(first.covers(), "rtsp://any.cdn.example/live/");
    let second = stub.resolve("rtsp://any.cdn.example/live/2").expect("a resolution");
    assert_eq!((second.attempts(), mock.requests().len()), (0, 1));
    stub.resolve("rtsp://any.cdn.example/vod/1").expect("a resolution");
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn lifetime_zero_is_for_this_use_only() {
    let mock = Mock::replying(|q| ReplyBuilder { value: 0, ..ReplyBuilder::handled(q, &[SERVER_1]) });
    let stub = stub(&mock);
    stub.resolve(URL).expect("a resolution");
    stub.resolve(URL).expect("a resolution");
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn clones_share_their_memory_across_threads() {
    let mock = Mock::replying(|q| ReplyBuilder::handled(q, &[SERVER_1]).host_scope());
    let stub = stub(&mock);
    stub.resolve(URL).expect("a resolution");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let stub = stub.clone();
            scope.spawn(move || assert_eq!(stub.resolve(URL).expect("a resolution").attempts(), 0));
        }
    });
    assert_eq!(mock.requests().len(), 1);
}

#[test]
fn failed_servers_are_named_and_replaced() {
    let mock = Mock::replying(|q| {
        let failed: Vec<_> = server_list(q).into_iter().map(|(address, ..)| address).collect();
        let left = [SERVER_1, SERVER_2, SERVER_3].into_iter().filter(|s| !failed.contains(&ip(s)));
        ReplyBuilder::handled(q, &left.take(2).collect::<Vec<_>>())
    });
    let mut resolution = stub(&mock).resolve(URL).expect("a resolution");
    assert_eq!(servers(&resolution), [SERVER_1, SERVER_2]);
    resolution.report_failure(resolution.current().server, FailureKind::Refused);
    assert_eq!(resolution.next_endpoint().expect("the next").server.to_string(), SERVER_2);
    assert_eq!(mock.requests().len(), 1, "asked although there was an endpoint left");
    assert_eq!(resolution.next_endpoint().expect("a new one").server.to_string(), SERVER_3);
    assert_eq!(mock.requests().len(), 2);
    assert_eq!(server_list(&mock.requests()[1]), [(ip(SERVER_2), 1, 0), (ip(SERVER_1), 1, 2)]);
}

#[test]
fn a_redirector_that_names_failed_servers_again_is_not_followed() {
    let mock = Mock::replying(|q| ReplyBuilder::handled(q, &[SERVER_1]));
    let mut resolution = stub(&mock).resolve(URL).expect("a resolution");
    let error = resolution.next_endpoint().expect_err("nothing left");
    assert!(matches!(&error, Error::Exhausted { failed } if *failed == [ip(SERVER_1)]), "{error:?}");
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn replacements_are_asked_for_three_times_at_most() {
    let mock = Mock::new(|n, q| {
        let server = format!("192.0.2.{}:80", 100 + n);
        vec![Send::Reply(ReplyBuilder::handled(q, &[server.as_str()]).encode())]
    });
    let mut resolution = stub(&mock).resolve(URL).expect("a resolution");
    for _ in 0..3 {
        resolution.next_endpoint().expect("a replacement");
    }
    assert!(matches!(resolution.next_endpoint(), Err(Error::Exhausted { .. })));
    assert_eq!(mock.requests().len(), 4);
}

#[test]
fn delay_for_lack_of_other_servers_is_told_at_once() {
    let mock = Mock::new(|n, q| match n {
        0 => vec![Send::Reply(ReplyBuilder::handled(q, &[SERVER_1]).encode())],
        _ => vec![Send::Reply(ReplyBuilder::status(q, 2, 100).encode())],
    });
    let mut resolution = stub(&mock).resolve(URL).expect("a resolution");
    assert!(matches!(resolution.next_endpoint(), Err(Error::RetryLater { .. })));
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn failures_outlast_the_resolution() {
    let mock = Mock::replying(|q| ReplyBuilder::handled(q, &[SERVER_1, SERVER_2]).host_scope());
    let stub = stub(&mock);
    let mut first = stub.resolve(URL).expect("a resolution");
    first.report_failure(first.current().server, FailureKind::TimedOut);
    let mut second = stub.resolve("rtsp://any.cdn.example/other").expect("a resolution");
    assert_eq!(servers(&second), [SERVER_2, SERVER_1]);
    assert_eq!(mock.requests().len(), 1, "the answer in memory has a server left");
    second.report_failure(second.current().server, FailureKind::TooSlow);
    stub.resolve(URL).expect("a resolution");
    assert_eq!(server_list(&mock.requests()[1]), [(ip(SERVER_2), 1, 4), (ip(SERVER_1), 1, 1)]);
    stub.resolve("rtsp://b.cdn.example/").expect("a resolution");
    assert!(server_list(&mock.requests()[2]).is_empty(), "another origin was told");
}

#[test]
fn answer_without_failed_servers_does_not_outlast_their_failure() {
    let mock = Mock::replying(|q| ReplyBuilder { value: 3600, ..ReplyBuilder::handled(q, &[SERVER_2]) });
    let timers = Timers { failure: Duration::from_millis(50), ..Timers::default() };
    let stub = Stub::new(Config { timers, ..config(&mock) }).expect("a stub");
    let failed = [(SERVER_1.parse().expect("an address"), FailureKind::Refused)];
    stub.resolve_without(URL, &failed).expect("a resolution");
    let deadline = Instant::now() + Duration::from_secs(5);
    while mock.requests().len() < 2 {
        assert!(Instant::now() < deadline, "the answer is used for its whole lifetime");
        std::thread::sleep(Duration::from_millis(5));
        stub.resolve(URL).expect("a resolution");
    }
    assert!(server_list(&mock.requests()[1]).is_empty());
}

#[test]
fn known_failures_and_preferences_are_in_the_request() {
    let mock = Mock::replying(|q| ReplyBuilder::handled(q, &[SERVER_1]));
    let prefer = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.0/24"].map(|net| net.parse().expect(net));
    let preferences = Preferences { prefer: prefer.to_vec(), ..Preferences::default() };
    let stub = Stub::new(Config { preferences, ..config(&mock) }).expect("a stub");
    let failed: SocketAddr = "198.51.100.1:80".parse().expect("an address");
    stub.resolve_without(URL, &[(failed, FailureKind::ErrorAnswer)]).expect("a resolution");
    // The most wanted comes last; a whole prefix cannot be said.
    let wanted = [(failed.ip(), 1, 3), (ip("192.0.2.2:0"), 2, 0), (ip("192.0.2.1:0"), 2, 0)];
    assert_eq!(server_list(&mock.requests()[0]), wanted);
}

#[test]
fn shares_spread_the_uses_of_one_answer() {
    let mock = Mock::replying(|q| {
        let mut reply = ReplyBuilder::handled(q, &[SERVER_1, SERVER_2]);
        for (endpoint, share) in reply.endpoints.iter_mut().zip([3, 1]) {
            (endpoint.1, endpoint.2) = (0, share);
        }
        reply
    });
    let stub = stub(&mock);
    let draws = 4000;
    let first = (0..draws).filter(|_| {
        let resolution = stub.resolve(URL).expect("a resolution");
        resolution.current().server.to_string() == SERVER_1
    });
    let first = first.count();
    assert_eq!(mock.requests().len(), 1);
    // Expected 3000, standard deviation 27: beyond eight of them is an error, not chance.
    assert!((2780..=3220).contains(&first), "{first} of {draws}");
}

#[test]
fn ipv6_is_asked_and_answered() {
    let mock = Mock::at("[::1]:0", |_, q| {
        vec![Send::Reply(ReplyBuilder::handled(q, &["[2001:db8:1::10]:80", SERVER_1]).encode())]
    });
    let resolution = stub(&mock).resolve("http://[2001:db8:a::1]/x").expect("a resolution");
    assert_eq!(servers(&resolution), ["[2001:db8:1::10]:80"]);
    assert_eq!(resolution.reply().status, Status::Handled);
}

#[test]
fn bad_urls_send_nothing() {
    let mock = Mock::new(|_, _| vec![]);
    let stub = stub(&mock);
    let long = format!("http://a.example/{}", "x".repeat(1024));
    for url in
        ["", "any.cdn.example/x", "http://u:p@a.example/", "http:///x", "http://a.example/\u{e9}", &long]
    {
        assert!(matches!(stub.resolve(url), Err(Error::Url(_))), "{url}");
    }
    assert!(mock.requests().is_empty());
}
