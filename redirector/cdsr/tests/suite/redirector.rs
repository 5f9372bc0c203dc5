//! The client and the appliance's own code, face to face: two implementations of one document.

use crate::common::{Mock, Send, ip};
use crate::reader::Vector;
use cdsr::wire::{FailureKind, Opinion, Request, ServerEntry};
use cdsr::{Config, Error, Families, Preferences, Reply, Scope, Status, Stub, Url};
use proptest::prelude::*;
use redirector_core::decide::Client;
use redirector_core::lookup;
use redirector_core::wire::{Action, Asked, Buffer, Message, Scratch, cdsr as redirector};
use redirector_plan::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::image::TableImage;
use redirector_plan::model::{
    ChooseBy, Coverage, DnsAnswer, LabelRule, Network, Origin, Outcome, Pool, Schemes, Service, Speaks,
    Target, TargetState, Tier, UrlRule, Vip,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::Duration;

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7));
const TARGETS: u8 = 5;

/// `http://{any}.cdn.acme.net/` and the same for RTSP, `…/live/` as a service of its own, and the VIP as a literal host; five
/// targets for everybody.
static IMAGE: LazyLock<TableImage> = LazyLock::new(|| {
    let target = |n: u8| Target {
        name: format!("t{n}"),
        site: "lab".into(),
        ipv4: Some(Ipv4Addr::new(192, 0, 2, n)),
        ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n.into())),
        host: None,
        outcome: Outcome::default(),
        http_port: 8080,
        https_port: 8443,
        rtsp_port: 8554,
        network: 0,
        origin: Origin::default(),
    };
    let service = |name: &str| Service {
        name: name.into(),
        class: String::new(),
        cdn: 0,
        coverage: 0,
        ttl: 0,
        hint_lifetime: 300,
        choose_by: ChooseBy::Client,
        dns: DnsAnswer::Server,
        https: None,
        srv: None,
        answers: 1,
        policy_class: 0,
        fallback: vec![],
        authorised: None,
        location: None,
        origin: Origin::default(),
    };
    let url = |host: &[LabelRule], suffix: &str, path: &[&str], service| UrlRule {
        schemes: Schemes { http: path.is_empty(), https: false, rtsp: true },
        host: host.to_vec(),
        suffix: suffix.split('.').map(str::to_owned).collect(),
        path: path.iter().map(ToString::to_string).collect(),
        service,
        signed: None,
        origin: Origin::default(),
    };
    let any = [LabelRule::Free("any".into())];
    let members = (0..usize::from(TARGETS)).map(|n| (n, 1)).collect();
    let tier = Tier { region: None, pools: vec![(0, 1)], ttl: None, within: None, origin: Origin::default() };
    let network = Network {
        key: [7; 16],
        cdns: vec!["acme".into()],
        vips: vec![Vip {
            name: "acme".into(),
            cdn: 0,
            ipv4: vec![Ipv4Addr::new(203, 0, 113, 1)],
            ipv6: vec!["2001:db8:a::1".parse().expect("an address")],
            speaks: Speaks { dns: true, cdsr: true, http: true, rtsp: true },
            origin: Origin::default(),
        }],
        targets: (1..=TARGETS).map(target).collect(),
        pools: vec![Pool { name: "all".into(), members, origin: Origin::default() }],
        coverages: vec![Coverage { name: "all".into(), tiers: vec![tier], origin: Origin::default() }],
        services: vec![service("live"), service("web")],
        urls: vec![
            url(&[], "203.0.113.1", &[], 1),
            url(&any, "cdn.acme.net", &[], 1),
            url(&any, "cdn.acme.net", &["live"], 0),
        ],
        ..Network::default()
    };
    let states = vec![TargetState::default(); TARGETS.into()];
    compile(&network, &states, 1, &mut CounterSlots::new(16, 16, 16)).expect("a network").image
});

/// What the appliance answers to a datagram of `client`, or nothing.
fn answer(datagram: &[u8], client: IpAddr) -> Option<Vec<u8>> {
    let address = match client {
        IpAddr::V4(_) => lookup::mapped(redirector_plan::ipv4_word(Ipv4Addr::new(203, 0, 113, 1))),
        IpAddr::V6(_) => redirector_plan::ipv6_words("2001:db8:a::1".parse().expect("an address")),
    };
    let vip = lookup::vip(&*IMAGE, &IMAGE.meta.keys, address).expect("the VIP");
    let asked = Asked { vip, client: Client::new(client), port: 40_000, room: 0 };
    let mut bytes = [0; 2048];
    bytes[..datagram.len()].copy_from_slice(datagram);
    let mut message = Buffer::new(&mut bytes, datagram.len());
    match redirector::respond::<_, _, true>(&mut message, &asked, &*IMAGE, &mut Scratch::default()) {
        Action::Reply => {
            let len = message.len();
            Some(bytes[..len].to_vec())
        }
        Action::Ignore => None,
        other => panic!("{other:?} by the slow path, without limits"),
    }
}

/// The appliance's answer as the client reads it.
fn converse(request: &Request<'_>, client: IpAddr) -> Reply {
    let datagram = request.encode();
    let reply = answer(&datagram, client).expect("an answer");
    let vip = if client.is_ipv4() { VIP } else { VIP6 };
    Reply::decode(&reply, request, datagram.len(), vip).expect("a reply to this request")
}

fn request(url: &Url) -> Request<'_> {
    let families = Families::SameAsRequest;
    Request {
        nonce: 0x1234_5678_9abc_def0,
        families,
        max_endpoints: 0,
        url,
        servers: &[],
        token: None,
        min_len: 0,
    }
}

fn url(text: &str) -> Url {
    text.parse().expect(text)
}

#[test]
fn redirector_reads_refuses_or_ignores_as_in_the_vectors() {
    for vector in Vector::all("re") {
        let datagram = vector.request();
        let what = format!("{}: {}", vector.name, vector.text("description"));
        let reply = answer(&datagram, CLIENT);
        let Some(reply) = reply else {
            assert_eq!(vector.text("redirector"), "silence", "{what}");
            continue;
        };
        assert!(reply.len() <= datagram.len(), "{what}: a longer reply");
        assert_eq!(reply[..4], *b"CD\x01\x81", "{what}");
        assert_eq!(reply[4..12], datagram[4..12], "{what}: another nonce");
        match vector.text("redirector") {
            // Handled, not mine, or every server excluded.
            "read" => assert!(reply[12] <= 2, "{what}: status {}", reply[12]),
            refused => {
                assert_eq!(format!("status {}", reply[12]), refused, "{what}");
                assert_eq!(reply.len(), 28, "{what}");
            }
        }
    }
}

#[test]
fn hints_reach_the_client_as_configured() {
    let reply = |text: &str| converse(&request(&url(text)), CLIENT);
    let live = reply("rtsp://any.cdn.acme.net/live/1");
    assert_eq!((live.status, live.scope), (Status::Handled, Scope::Prefix(29)));
    assert_eq!(live.handled_suffix.as_deref(), Some("cdn.acme.net"));
    assert_eq!(live.lifetime, Duration::from_secs(300));
    assert_eq!(reply("http://any.cdn.acme.net/x").scope, Scope::Host);
    let literal = reply("http://203.0.113.1/x");
    assert_eq!((literal.status, literal.handled_suffix), (Status::Handled, None));
    for other in ["http://any.cdn.acme.org/", "gopher://any.cdn.acme.net/", "https://any.cdn.acme.net/"] {
        assert_eq!(reply(other).status, Status::NotMine, "{other}");
    }
}

#[test]
fn endpoints_have_the_family_and_port_that_were_asked_for() {
    for (families, client, v6) in [
        (Families::SameAsRequest, CLIENT, false),
        (Families::SameAsRequest, CLIENT6, true),
        (Families::V4, CLIENT6, false),
        (Families::V6, CLIENT, true),
    ] {
        for (text, port) in [("http://any.cdn.acme.net/", 8080), ("rtsp://any.cdn.acme.net/", 8554)] {
            let reply = converse(&Request { families, ..request(&url(text)) }, client);
            assert_eq!(reply.endpoints.len(), 4, "{families:?} {text}");
            let right = reply.endpoints.iter().all(|e| e.server.is_ipv6() == v6 && e.server.port() == port);
            assert!(right, "{families:?} {text}: {:?}", reply.endpoints);
        }
    }
}

#[test]
fn short_requests_get_fewer_endpoints_and_say_so() {
    let url = url("http://any.cdn.acme.net/");
    let full = request(&url).encode();
    for len in 24 + url.as_str().len()..=full.len() {
        let reply = answer(&full[..len], CLIENT).expect("an answer");
        assert!(reply.len() <= len);
        let fits = (len - 28) / 24;
        assert_eq!(usize::from(reply[13]), fits, "{len} bytes");
        assert_eq!(reply[21] & 1 == 1, fits < 4, "{len} bytes: the flag MORE");
    }
}

#[test]
fn preferred_server_is_named_first() {
    let url = url("http://any.cdn.acme.net/");
    for n in 1..=TARGETS {
        let wanted = format!("192.0.2.{n}:0").parse().expect("a server");
        let servers = [ServerEntry { server: wanted, opinion: Opinion::Preferred }];
        let reply = converse(&Request { servers: &servers, ..request(&url) }, CLIENT);
        assert_eq!(reply.endpoints[0].server.ip(), wanted.ip());
    }
}

#[test]
fn client_with_failing_servers_is_led_through_all_others() {
    let mock = Mock::new(|_, q| answer(q, CLIENT).map(Send::Reply).into_iter().collect());
    let config = Config { server: Some(mock.address), max_endpoints: 2, ..Config::default() };
    let mut resolution =
        Stub::new(config).expect("a stub").resolve("http://any.cdn.acme.net/").expect("a resolution");
    let mut used = vec![resolution.current().server.ip()];
    let end = loop {
        resolution.report_failure(resolution.current().server, FailureKind::TimedOut);
        match resolution.next_endpoint() {
            Ok(endpoint) => used.push(endpoint.server.ip()),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Error::RetryLater { .. }), "{end:?}");
    used.sort();
    assert_eq!(used, (1..=TARGETS).map(|n| ip(&format!("192.0.2.{n}:0"))).collect::<Vec<_>>());
}

#[test]
fn stubs_preference_reaches_the_decision() {
    let mock = Mock::new(|_, q| answer(q, CLIENT).map(Send::Reply).into_iter().collect());
    for n in 1..=TARGETS {
        let prefer = vec![format!("192.0.2.{n}/32").parse().expect("a prefix")];
        let preferences = Preferences { prefer, ..Preferences::default() };
        let config =
            Config { server: Some(mock.address), max_endpoints: 1, preferences, ..Config::default() };
        let resolution =
            Stub::new(config).expect("a stub").resolve("http://any.cdn.acme.net/").expect("a resolution");
        assert_eq!(resolution.current().server.ip(), ip(&format!("192.0.2.{n}:0")));
    }
}

proptest! {
    #[test]
    fn whatever_the_client_asks_is_understood(
        text in "(http|https|rtsp|x-y)://([a-z0-9-]{1,8}\\.){0,4}(acme|cdn\\.acme\\.net)(:[1-9][0-9]{0,3})?(/[!-\"$-~]{0,300})?",
        families in prop::sample::select(vec![Families::SameAsRequest, Families::V4, Families::V6, Families::Both]),
        max_endpoints: u8, min_len in 0usize..1300, nonce: u64, failed in prop::collection::vec(1u8..20, 0..10), v6: bool,
    ) {
        let Ok(url) = text.parse::<Url>() else { return Ok(()) };
        let servers: Vec<ServerEntry> = failed
            .iter()
            .map(|n| ServerEntry {
                server: (Ipv4Addr::new(192, 0, 2, *n), 80).into(),
                opinion: if n % 3 == 0 { Opinion::Preferred } else { Opinion::Failed(FailureKind::Refused) },
            })
            .collect();
        let request = Request { nonce, families, max_endpoints, url: &url, servers: &servers, token: None, min_len };
        let reply = converse(&request, if v6 { CLIENT6 } else { CLIENT });
        prop_assert!(matches!(reply.status, Status::Handled | Status::NotMine | Status::RetryLater(_)), "{reply:?}");
        let refused: Vec<IpAddr> = servers.iter().take(8)
            .filter(|s| s.opinion != Opinion::Preferred)
            .map(|s| s.server.ip())
            .collect();
        prop_assert!(reply.endpoints.iter().all(|e| !refused.contains(&e.server.ip())), "{reply:?}");
    }
}
