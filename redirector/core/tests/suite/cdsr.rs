//! CDSR answers of the appliance (docs/cdsr-protocol.md); the client's crate reads the same from its own side.

use redirector_core::verdict::Reason;
use redirector_core::wire::{Action, cdsr};
use redirector_tests::invariants::{self, IMAGE, flow};
use redirector_tests::questions::{CdsrReply, CdsrRequest, Opinion};
use redirector_tests::slow;
use std::net::IpAddr;

const HANDLED: u8 = 0;
const NOT_MINE: u8 = 1;
const RETRY_LATER: u8 = 2;
const BAD_REQUEST: u8 = 5;

fn ask_by(v6: bool, request: &CdsrRequest<'_>) -> CdsrReply {
    let message = request.encode();
    invariants::cdsr_request(&message);
    let outcome = slow::answer(&*IMAGE, &flow(v6, cdsr::PORT), &message).expect("CDSR is spoken here");
    CdsrReply::read(outcome.reply().expect("a reply")).expect("a sound reply")
}

fn ask(url: &str) -> CdsrReply {
    ask_by(false, &CdsrRequest::new(url))
}

fn fast(request: &CdsrRequest<'_>) -> (Action, Reason) {
    let outcome = slow::respond::<_, false>(&*IMAGE, &flow(false, cdsr::PORT), &request.encode());
    outcome.map(|outcome| (outcome.action, outcome.trace.reason)).expect("CDSR is spoken here")
}

/// Scope and length of the prefix.
fn hint(url: &str) -> (u8, usize) {
    let reply = ask(url);
    assert_eq!(reply.status, HANDLED, "{url}");
    (reply.scope, reply.prefix.into())
}

#[test]
fn hint_covers_no_url_that_another_rule_holds_for() {
    const URL: (u8, usize) = (0, 0);
    const HOST: (u8, usize) = (1, 0);
    let prefix = |text: &str| (2, text.len());
    for (url, want) in [
        // The host has no rules for paths.
        ("http://one.acme.net/any/path", HOST),
        ("rtsp://any.tv.cdn.acme.net/", HOST),
        // Rules for paths exist, and this URL has none of them.
        ("http://abc.web.cdn.acme.net/x/y", URL),
        ("http://abc.web.cdn.acme.net/", URL),
        // `/live/hd` is another service.
        ("http://abc.web.cdn.acme.net/live/x", URL),
        ("https://abc.web.cdn.acme.net/live/x/y/z", URL),
        // Chosen by content: every URL by itself.
        ("http://abc.web.cdn.acme.net/live/hd/x", URL),
        ("http://a.thing.objects.cdn.acme.net/x", URL),
        // No rule goes deeper.
        ("http://abc.web.cdn.acme.net/archive/a/b/c/d", prefix("http://abc.web.cdn.acme.net/archive/a/b/c/")),
        // Not a prefix of `/only/thistle`, which is another's.
        ("http://paths.acme.net/only/this", URL),
        ("http://paths.acme.net/only/this?x/", URL),
        ("http://paths.acme.net/only/this/", prefix("http://paths.acme.net/only/this/")),
        ("http://paths.acme.net/only/this/x", prefix("http://paths.acme.net/only/this/")),
        ("http://paths.acme.net:8080/only/this/x", prefix("http://paths.acme.net:8080/only/this/")),
    ] {
        assert_eq!(hint(url), want, "{url}");
    }
}

#[test]
fn handled_suffix_is_that_of_the_rule() {
    for (url, suffix) in [
        ("http://abc.web.cdn.acme.net/", "web.cdn.acme.net"),
        ("rtsp://a.thing.objects.cdn.acme.net/", "objects.cdn.acme.net"),
        ("http://one.acme.net/", "one.acme.net"),
    ] {
        assert_eq!(usize::from(ask(url).suffix), suffix.len(), "{url}");
    }
}

#[test]
fn longest_path_rule_wins_and_segments_are_whole_and_exact() {
    let lifetime_of = |url: &str| {
        let message = CdsrRequest::new(url).encode();
        let outcome = slow::answer(&*IMAGE, &flow(false, cdsr::PORT), &message).expect("CDSR is spoken here");
        outcome.trace.service
    };
    let base = "http://abc.web.cdn.acme.net";
    let [web, tv, object] = ["/x", "/live/x", "/live/hd/x"].map(|path| lifetime_of(&format!("{base}{path}")));
    assert!(web != tv && tv != object && web != object);
    for (path, service) in [
        ("", web),
        ("/", web),
        ("?/live/x", web),
        ("/?/live/x", web),
        ("/liv", web),
        ("/lives/x", web),
        ("/x?/live/x", web),
        ("/Live/x", web),
        ("//live/x", web),
        ("/live", tv),
        ("/live?x/", tv),
        ("/live#x", tv),
        ("/live?/hd/", tv),
        ("/live/", tv),
        ("/live/?hd", tv),
        ("/live/HD/x", tv),
        ("/live/hd", object),
        ("/live/hd?x", object),
        ("/live/hd/", object),
        ("/live/hd/x/y/z", object),
        (":8080/live/hd/x", object),
    ] {
        assert_eq!(lifetime_of(&format!("{base}{path}")), service, "{path}");
        assert_eq!(lifetime_of(&format!("HTTP://ABC.Web.CDN.acme.NET{path}")), service, "{path}");
    }
    assert_eq!(ask("http://paths.acme.net/only/that").status, NOT_MINE, "no rule for the host alone");
}

#[test]
fn endpoints_are_of_the_family_wanted_and_carry_the_schemes_port() {
    for (families, v6, want_v6) in [
        (0, false, false),
        (0, true, true),
        (1, true, false),
        (2, false, true),
        (3, false, false),
        (3, true, true),
    ] {
        for (url, port) in [
            ("http://a.x.objects.cdn.acme.net/", 8080),
            ("https://a.x.objects.cdn.acme.net/", 8443),
            ("rtsp://a.x.objects.cdn.acme.net/", 8554),
        ] {
            let reply = ask_by(v6, &CdsrRequest { families, ..CdsrRequest::new(url) });
            assert_eq!((reply.endpoints.len(), reply.lifetime, reply.more), (4, 300, false));
            assert!(
                reply.endpoints.iter().all(|end| end.address.is_ipv6() == want_v6 && end.port == port),
                "{reply:?}"
            );
        }
    }
    // A family that the service has nowhere: handled, and nobody to name. If both will do, the other.
    for (families, count) in [(2, 0), (3, 2), (1, 2)] {
        let reply = ask(&format!("http://four.acme.net/?{families}"));
        assert_eq!(reply.endpoints.len(), 2);
        let reply = ask_by(true, &CdsrRequest { families, ..CdsrRequest::new("http://four.acme.net/") });
        assert_eq!((reply.status, reply.endpoints.len()), (HANDLED, count), "{families}");
    }
}

#[test]
fn endpoints_tell_order_share_network_and_policy_class() {
    let url = "http://abc.web.cdn.acme.net/";
    let reply = ask_by(false, &CdsrRequest { max_endpoints: 8, length: 400, ..CdsrRequest::new(url) });
    assert_eq!(reply.endpoints.len(), 2, "{reply:?}");
    for (place, endpoint) in reply.endpoints.iter().enumerate() {
        let IpAddr::V4(address) = endpoint.address else { panic!("{endpoint:?}") };
        assert_eq!(endpoint.order, place.min(1) as u8, "the choice, then its alternatives");
        assert_eq!(endpoint.network, 64_000 + u16::from(address.octets()[3]), "that of the target");
        assert_eq!(usize::from(endpoint.policy_class), "web".len(), "that of the service");
        // Two servers of equal weight and load.
        assert_eq!(endpoint.share, reply.endpoints[0].share, "{endpoint:?}");
    }
}

#[test]
fn request_gets_as_many_endpoints_as_it_wants_and_has_room_for() {
    let url = "http://a.x.objects.cdn.acme.net/";
    let most = CdsrRequest { max_endpoints: 8, length: 400, ..CdsrRequest::new(url) };
    // Those of the service's servers that this URL belongs to.
    let all = ask_by(false, &most).endpoints.len();
    assert!((4..8).contains(&all), "{all}");
    for wanted in 0..=255 {
        for length in [56, 75, 76, 99, 100, 124, 219, 220, 400] {
            let request = CdsrRequest { max_endpoints: wanted, length, ..CdsrRequest::new(url) };
            let (wanted, room) = (if wanted == 0 { 4 } else { wanted.min(8).into() }, (length - 28) / 24);
            let reply = ask_by(false, &request);
            assert_eq!(reply.endpoints.len(), wanted.min(room).min(all), "{wanted} wanted, {length} bytes");
            assert_eq!(reply.more, room < wanted && all >= room, "{wanted} wanted, {length} bytes");
        }
    }
}

#[test]
fn nothing_usable_is_retry_later_and_foreign_urls_are_not_mine() {
    let reply = ask("http://nothing.acme.net/");
    assert_eq!(
        (reply.status, reply.lifetime, reply.reason),
        (RETRY_LATER, 1000, Reason::NothingUsable as u16)
    );
    for url in [
        "http://www.acme.org/",
        "http://cdn.acme.net/",
        "rtsp://four.acme.net/",
        "https://one.acme.net/",
        "ftp://one.acme.net/",
        "http://a.b.web.cdn.acme.net/",
        "http://o.cdn.beta.example/x/y",
        "http://203.0.113.9/",
    ] {
        let reply = ask(url);
        assert_eq!(
            (reply.status, reply.lifetime, reply.reason),
            (NOT_MINE, 60, Reason::NotOurUrl as u16),
            "{url}"
        );
    }
}

#[test]
fn vip_is_a_host_literally() {
    assert_eq!(ask("http://203.0.113.1/live/1.m3u8").status, HANDLED);
    assert_eq!(ask("rtsp://203.0.113.1/").status, HANDLED);
    assert_eq!(ask_by(true, &CdsrRequest::new("http://[2001:db8:a::1]/x")).status, HANDLED);
}

#[test]
fn hosts_that_cannot_be_are_bad_requests() {
    let long = format!("http://{}.acme.net/", "x".repeat(64));
    for url in ["http://a..acme.net/", "http://.acme.net/", "http://user@one.acme.net/", &long] {
        assert_eq!(ask(url).status, BAD_REQUEST, "{url}");
    }
    // A dot at the end is the root.
    assert_eq!(ask("http://one.acme.net./").status, HANDLED);
}

#[test]
fn fast_path_leaves_long_and_rare_forms_to_the_slow_path() {
    let sound = CdsrRequest::new("http://abc.web.cdn.acme.net/live/x");
    assert_eq!(fast(&sound), (Action::Reply, Reason::FirstTier));
    let failed = |count: u8| (0..count).map(|n| ([198, 51, 100, n].into(), Opinion::Failed)).collect();
    assert_eq!(fast(&CdsrRequest { servers: failed(4), ..sound.clone() }).0, Action::Reply);
    let long_path = format!("http://abc.web.cdn.acme.net/{}", "x".repeat(200));
    let long_host = format!("http://{}cdn.acme.net/", "x.".repeat(15));
    for (what, request) in [
        ("five failed servers", CdsrRequest { servers: failed(5), ..sound.clone() }),
        (
            "a preferred server",
            CdsrRequest { servers: vec![([192, 0, 2, 1].into(), Opinion::Preferred)], ..sound.clone() },
        ),
        ("five endpoints", CdsrRequest { max_endpoints: 5, length: 300, ..sound.clone() }),
        ("an extension", CdsrRequest { extensions: vec![0, 1, 0, 0], ..sound.clone() }),
        (
            "a port before the path",
            CdsrRequest { url: "http://abc.web.cdn.acme.net:80/live/x", ..sound.clone() },
        ),
        ("another scheme", CdsrRequest { url: "gopher://abc.web.cdn.acme.net/", ..sound.clone() }),
        ("a long path", CdsrRequest { url: &long_path, ..sound.clone() }),
        ("many labels", CdsrRequest { url: &long_host, ..sound.clone() }),
        ("a bad request", CdsrRequest { families: 4, ..sound.clone() }),
    ] {
        assert_eq!(fast(&request).0, Action::Punt, "{what}");
        invariants::cdsr_request(&request.encode());
    }
}
