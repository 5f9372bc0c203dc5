//! DNS answers, read by another library (RFC 1034, 1035, 2308, 8482; design: DNS semantics). Each question is put to
//! both paths: where the fast path answers, it answers the same.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{RData, Record, RecordType};
use redirector_core::table::Tables;
use redirector_core::verdict::Reason;
use redirector_tests::frames::Flow;
use redirector_tests::invariants::{self, IMAGE};
use redirector_tests::networks::{ACME, BETA, CLIENT, HTTP_ONLY, IPV4_ONLY};
use redirector_tests::questions::{COOKIE, DnsQuery, Edns, NSID, RD, rr};
use redirector_tests::slow::{self, DNS_PORT};
use std::net::{IpAddr, SocketAddr};

/// Zone of most names.
const ZONE: &str = "cdn.acme.net.";

/// The slow path's answer to a client at a VIP, and why.
pub(crate) fn answer(client: &str, vip: &str, query: &[u8]) -> (Message, Reason) {
    let address = |text: &str, port| SocketAddr::new(text.parse().expect("an address"), port);
    let flow =
        redirector_tests::frames::Flow { client: address(client, 40_000), vip: address(vip, DNS_PORT) };
    let outcome = slow::answer(&*IMAGE, &flow, query).expect("DNS is spoken here");
    invariants::dns_message(query);
    (invariants::decode(outcome.reply().expect("a reply")), outcome.trace.reason)
}

/// The same for the client of region `de` at the VIP of `acme`.
pub(crate) fn ask(name: &str, qtype: u16) -> (Message, Reason) {
    answer(CLIENT[0], ACME[0], &DnsQuery::new(name, qtype).encode())
}

/// The answer of both paths to a query, which must be the same.
#[track_caller]
pub(crate) fn both<T: Tables>(tables: &T, flow: &Flow, query: &[u8]) -> Message {
    let slow = slow::answer(tables, flow, query).expect("DNS is spoken here");
    let fast = slow::respond::<T, false>(tables, flow, query).expect("DNS is spoken here");
    assert_eq!(fast.reply(), slow.reply(), "the fast path: {:?}", fast.trace.reason);
    assert_eq!(fast.trace.reason, slow.trace.reason);
    invariants::decode(slow.reply().expect("a reply"))
}

/// Data of an option in an answer.
pub(crate) fn option_of(message: &Message, code: u16) -> Option<Vec<u8>> {
    let options = message.edns.as_ref()?.options();
    let option = options.get(EdnsCode::from(code))?;
    Some(Vec::try_from(option).expect("an option that can be written"))
}

pub(crate) fn addresses(records: &[Record]) -> Vec<IpAddr> {
    let address = |record: &Record| match &record.data {
        RData::A(a) => a.0.into(),
        RData::AAAA(aaaa) => aaaa.0.into(),
        other => panic!("{other:?}"),
    };
    records.iter().map(address).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The authority section holds the zone's SOA, as negative answers need it (RFC 2308 section 3).
#[track_caller]
fn assert_negative(message: &Message, code: ResponseCode, zone: &str) {
    assert_eq!(message.metadata.response_code, code);
    assert!(message.metadata.authoritative && message.answers.is_empty());
    let [soa] = &message.authorities[..] else { panic!("{:?}", message.authorities) };
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), (zone, 60));
    assert_soa(soa, zone);
}

#[track_caller]
fn assert_soa(record: &Record, zone: &str) {
    let RData::SOA(soa) = &record.data else { panic!("{record:?}") };
    assert_eq!(soa.mname.to_ascii(), format!("ns1.{zone}"));
    assert_eq!(soa.rname.to_ascii(), format!("hostmaster.{zone}"));
    assert_eq!((soa.serial, soa.minimum), (7, 60));
    assert!(soa.refresh > soa.retry && soa.expire > soa.refresh, "{soa:?}");
}

#[test]
fn address_queries_get_the_server_of_the_clients_region() {
    for (client, vip, qtype, server) in [
        (CLIENT[0], ACME[0], rr::A, "192.0.2.0"),
        (CLIENT[1], ACME[1], rr::A, "192.0.2.0"),
        (CLIENT[0], ACME[0], rr::AAAA, "2001:db8:1::"),
        (CLIENT[1], ACME[1], rr::AAAA, "2001:db8:1::"),
        ("10.9.9.9", ACME[0], rr::A, "192.0.2.2"),
        ("2001:db8:900::1", ACME[1], rr::AAAA, "2001:db8:1::2"),
    ] {
        let (message, reason) = answer(client, vip, &DnsQuery::new("x.one.cdn.acme.net", qtype).encode());
        assert_eq!((message.metadata.response_code, reason), (ResponseCode::NoError, Reason::FirstTier));
        assert!(message.metadata.authoritative);
        assert_eq!(addresses(&message.answers), [ip(server)], "{client} {qtype}");
        assert_eq!(
            (message.answers[0].ttl, message.answers[0].name.to_ascii()),
            (600, "x.one.cdn.acme.net.".into())
        );
        assert!(message.authorities.is_empty() && message.additionals.is_empty());
    }
}

#[test]
fn name_never_configured_resolves_by_rule_on_first_sight() {
    for object in ["ad102", "_", "0", "xn--bcher-kva", &"o".repeat(63)] {
        let (message, _) = ask(&format!("{object}.web.abc.cdn.acme.net"), rr::A);
        assert_eq!(message.answers.len(), 1, "{object}");
    }
}

/// P-6: the same suffix, client and customer; the label for the kind of application leads to servers of that kind.
#[test]
fn application_type_in_a_name_picks_the_kind_of_server() {
    let web = [0, 1].map(|n| ip(&format!("192.0.2.{n}")));
    let tv: Vec<IpAddr> = (10..40).map(|n| ip(&format!("192.0.2.{n}"))).collect();
    for object in ["ad102", "chan4", "news"] {
        let of = |name: String| addresses(&ask(&name, rr::A).0.answers);
        let (page, channel) =
            (of(format!("{object}.web.abc.cdn.acme.net")), of(format!("{object}.abc.tv.cdn.acme.net")));
        assert!(!page.is_empty() && page.iter().all(|server| web.contains(server)), "{page:?}");
        assert!(!channel.is_empty() && channel.iter().all(|server| tv.contains(server)), "{channel:?}");
    }
}

/// Invariant 6: nothing that is asked makes an answer longer than its question and a fixed length, which is reached.
#[test]
fn reply_over_udp_is_at_most_its_question_and_211_bytes() {
    let label = "x".repeat(63);
    let long = [&*label, &label, &label, "object.deep.acme.net"].join(".");
    let names =
        [&*long, "a.b.c.object.deep.acme.net", "x.one.cdn.acme.net", "cdn.acme.net", "ns1.cdn.acme.net"];
    let others = ["no.such.cdn.acme.net", "_cdsr.one.cdn.acme.net", "x.vip.cdn.acme.net", "www.acme.org", ""];
    let client = CLIENT[1].parse().expect("an address");
    let everything = Edns::new(true).option(COOKIE, &[7; 24]).subnet(client, 128).option(NSID, b"");
    let mut image = IMAGE.clone();
    (image.meta.box_name, image.meta.box_name_length) = ([u64::from_be_bytes(*b"box name"); 4], 32);
    let mut longest = 0;
    for qtype in 0..=260 {
        for name in names.iter().chain(&others) {
            for edns in [None, Some(Edns::new(true)), Some(everything.clone())] {
                let query = DnsQuery { edns, ..DnsQuery::new(name, qtype) };
                let flow = invariants::flow(true, DNS_PORT);
                let outcome = slow::answer(&image, &flow, &query.encode()).expect("DNS is spoken here");
                let reply = outcome.reply().expect("a reply").len();
                longest = longest.max(reply.saturating_sub(12 + query.question().len()));
            }
        }
    }
    assert_eq!(longest, invariants::BEHIND_QUESTION);
}

#[test]
fn ttl_is_the_resolutions_else_the_services() {
    // Tier `de` of the coverage says 17, that of everybody else nothing; the service says 0.
    let ttl = |client| {
        answer(client, ACME[0], &DnsQuery::new("x.web.abc.cdn.acme.net", rr::A).encode()).0.answers[0].ttl
    };
    assert_eq!([ttl(CLIENT[0]), ttl("10.9.9.9")], [17, 0]);
    assert_eq!(ask("x.vast.cdn.acme.net", rr::A).0.answers[0].ttl, 70_000);
}

#[test]
fn several_addresses_are_answered_where_configured_and_differ() {
    for (name, count) in
        [("a.b.tv.cdn.acme.net", 3), ("a.b.c.object.deep.acme.net", 4), ("a.web.abc.cdn.acme.net", 1)]
    {
        for qtype in [rr::A, rr::AAAA] {
            let mut found = addresses(&ask(name, qtype).0.answers);
            found.sort();
            found.dedup();
            assert_eq!(found.len(), count, "{name}");
        }
    }
}

#[test]
fn absent_types_of_a_name_are_nodata_and_so_is_https() {
    for qtype in [rr::HTTPS, rr::MX, rr::TXT, rr::SRV, 0, 127] {
        let (message, reason) = ask("x.one.cdn.acme.net", qtype);
        assert_negative(&message, ResponseCode::NoError, ZONE);
        assert_eq!(reason, Reason::NoDataType, "{qtype}");
    }
}

#[test]
fn family_that_no_server_of_the_service_has_is_nodata() {
    for (name, qtype) in [("x.four.cdn.acme.net", rr::AAAA), ("x.six.cdn.acme.net", rr::A)] {
        let (message, reason) = ask(name, qtype);
        assert_negative(&message, ResponseCode::NoError, ZONE);
        assert_eq!(reason, Reason::NoDataFamily, "{name}");
    }
    assert_eq!(ask("x.four.cdn.acme.net", rr::A).0.answers.len(), 2);
    assert_eq!(ask("x.six.cdn.acme.net", rr::AAAA).0.answers.len(), 2);
}

#[test]
fn any_gets_one_rrset() {
    for (name, kind) in [
        ("x.one.cdn.acme.net", RecordType::A),
        ("x.six.cdn.acme.net", RecordType::AAAA),
        ("x.vip.cdn.acme.net", RecordType::A),
    ] {
        let (message, _) = ask(name, rr::ANY);
        assert!(!message.answers.is_empty());
        assert!(
            message.answers.iter().all(|record| record.record_type() == kind),
            "{name}: {:?}",
            message.answers
        );
    }
}

#[test]
fn names_that_no_rule_can_match_beneath_are_nxdomain() {
    for name in [
        "nothing.here.cdn.acme.net",
        "a.b.c.one.cdn.acme.net",
        "x.y.z.cdn.acme.net",
        "_cdsr.no.such.cdn.acme.net",
    ] {
        for qtype in [rr::A, rr::AAAA, rr::HTTPS, rr::ANY] {
            let (message, reason) = ask(name, qtype);
            assert_negative(&message, ResponseCode::NXDomain, ZONE);
            assert_eq!(reason, Reason::NxDomain, "{name}");
        }
    }
}

#[test]
fn names_with_others_beneath_are_nodata_for_every_type() {
    for (name, zone) in [
        ("web.abc.cdn.acme.net", ZONE),
        ("abc.cdn.acme.net", ZONE),
        ("any.tv.cdn.acme.net", ZONE),
        ("tv.cdn.acme.net", ZONE),
        // A zone of ours begins further down.
        ("eu.cdn.acme.net", ZONE),
        ("srv.any.deep.acme.net", "deep.acme.net."),
        ("r.far.deep.acme.net", "deep.acme.net."),
        ("far.deep.acme.net", "deep.acme.net."),
    ] {
        for qtype in [rr::A, rr::AAAA, rr::HTTPS, rr::TXT] {
            let (message, reason) = ask(name, qtype);
            assert_negative(&message, ResponseCode::NoError, zone);
            assert_eq!(reason, Reason::NoDataPartial, "{name}");
        }
    }
}

#[test]
fn apex_has_soa_ns_with_glue_and_the_addresses_of_its_rule() {
    let (soa, reason) = ask("cdn.acme.net", rr::SOA);
    let [record] = &soa.answers[..] else { panic!("{soa:?}") };
    assert_soa(record, ZONE);
    assert_eq!((reason, soa.metadata.authoritative), (Reason::ZoneRecord, true));

    let (ns, _) = ask("cdn.acme.net", rr::NS);
    let [record] = &ns.answers[..] else { panic!("{ns:?}") };
    let RData::NS(host) = &record.data else { panic!("{record:?}") };
    assert_eq!((host.0.to_ascii(), record.ttl), ("ns1.cdn.acme.net.".into(), 86_400));
    assert_eq!(addresses(&ns.additionals), [ip(ACME[0]), ip(ACME[1])]);
    assert!(ns.additionals.iter().all(|glue| glue.name.to_ascii() == "ns1.cdn.acme.net."));

    assert_eq!(ask("cdn.acme.net", rr::A).0.answers.len(), 1);
    assert_negative(&ask("cdn.acme.net", rr::TXT).0, ResponseCode::NoError, ZONE);
    // A zone without a rule for itself.
    assert_negative(&ask("deep.acme.net", rr::A).0, ResponseCode::NoError, "deep.acme.net.");
}

#[test]
fn name_server_is_the_vip() {
    for (vip, client) in [(ACME[0], CLIENT[0]), (ACME[1], CLIENT[1])] {
        for (qtype, address) in [(rr::A, ACME[0]), (rr::AAAA, ACME[1])] {
            let (message, reason) = answer(client, vip, &DnsQuery::new("ns1.cdn.acme.net", qtype).encode());
            assert_eq!((addresses(&message.answers), reason), (vec![ip(address)], Reason::ZoneRecord));
            assert_eq!(message.answers[0].ttl, 86_400);
        }
    }
    let query = DnsQuery::new("ns1.cdn.acme.net", rr::AAAA).encode();
    assert_negative(&answer(CLIENT[0], IPV4_ONLY, &query).0, ResponseCode::NoError, ZONE);
    let (ns, _) = answer(CLIENT[0], IPV4_ONLY, &DnsQuery::new("cdn.acme.net", rr::NS).encode());
    assert_eq!(addresses(&ns.additionals), [ip(IPV4_ONLY)]);
}

#[test]
fn services_that_redirect_by_other_protocols_get_the_vip_with_the_zones_ttl() {
    for (qtype, address) in [(rr::A, ACME[0]), (rr::AAAA, ACME[1])] {
        let (message, reason) = ask("x.vip.cdn.acme.net", qtype);
        assert_eq!((addresses(&message.answers), reason), (vec![ip(address)], Reason::VipAddress));
        assert_eq!(message.answers[0].ttl, 86_400);
    }
}

#[test]
fn discovery_record_exists_beneath_names_that_exist() {
    for name in ["_cdsr.x.one.cdn.acme.net", "_cdsr.one.cdn.acme.net", "_CDSR.cdn.acme.net"] {
        let (message, reason) = ask(name, rr::TXT);
        let [record] = &message.answers[..] else { panic!("{name}: {message:?}") };
        let RData::TXT(txt) = &record.data else { panic!("{record:?}") };
        assert_eq!(txt.txt_data.concat(), b"v=cdsr1 port=2554");
        assert_eq!((record.ttl, reason), (86_400, Reason::CdsrRecord), "{name}");
        assert_negative(&ask(name, rr::A).0, ResponseCode::NoError, ZONE);
    }
    assert_negative(&ask("_cdsr.no.such.cdn.acme.net", rr::TXT).0, ResponseCode::NXDomain, ZONE);
}

#[test]
fn other_peoples_names_classes_and_zone_transfers_are_refused() {
    let refused = |query: DnsQuery<'_>| {
        let (message, reason) = answer(CLIENT[0], ACME[0], &query.encode());
        assert_eq!(message.metadata.response_code, ResponseCode::Refused, "{query:?}");
        assert!(
            !message.metadata.authoritative && message.answers.is_empty() && message.authorities.is_empty()
        );
        assert_eq!(message.queries.len(), 1);
        reason
    };
    for name in ["", "net", "acme.net", "www.acme.org", "x.y.cdn.beta.example"] {
        assert_eq!(refused(DnsQuery::new(name, rr::A)), Reason::NotOurZone, "{name}");
    }
    for class in [3, 4, 254, 255] {
        assert_eq!(
            refused(DnsQuery { class, ..DnsQuery::new("x.one.cdn.acme.net", rr::A) }),
            Reason::DnsRefused
        );
    }
    for qtype in [251, rr::AXFR] {
        assert_eq!(refused(DnsQuery::new("cdn.acme.net", qtype)), Reason::DnsRefused);
    }
}

#[test]
fn each_cdn_answers_for_its_own_names_at_its_own_vip() {
    let query = DnsQuery::new("o.x.cdn.beta.example", rr::A).encode();
    assert_eq!(answer(CLIENT[0], BETA[0], &query).0.answers.len(), 1);
    let query = DnsQuery::new("x.one.cdn.acme.net", rr::A).encode();
    assert_eq!(answer(CLIENT[0], BETA[0], &query).1, Reason::NotOurZone);
    let flow = redirector_tests::frames::Flow {
        client: SocketAddr::new(ip(CLIENT[0]), 1),
        vip: SocketAddr::new(ip(HTTP_ONLY[0]), DNS_PORT),
    };
    assert_eq!(slow::answer(&*IMAGE, &flow, &query), None, "a VIP that does not speak DNS");
}

#[test]
fn nothing_usable_is_servfail_and_never_negative() {
    for name in ["x.nothing.cdn.acme.net", "x.france.cdn.acme.net"] {
        let (message, reason) = ask(name, rr::A);
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail, "{name}");
        assert!(message.authorities.is_empty() && !message.metadata.authoritative);
        assert_eq!(reason, Reason::NothingUsable, "{name}");
    }
}

#[test]
fn dead_tiers_are_passed_over_and_the_fallback_comes_last() {
    let (later, reason) = ask("x.later.cdn.acme.net", rr::A);
    assert_eq!((reason, later.answers[0].ttl), (Reason::LaterTier, 5));
    let mut servers = addresses(&later.answers);
    servers.sort();
    assert_eq!(servers, [ip("192.0.2.52"), ip("192.0.2.53")]);
    let (fallback, reason) = ask("x.fallback.cdn.acme.net", rr::A);
    assert_eq!((reason, fallback.answers[0].ttl), (Reason::Fallback, 30));
    let mut servers = addresses(&fallback.answers);
    servers.sort();
    assert_eq!(servers, [ip("192.0.2.5"), ip("192.0.2.6")]);
}

#[test]
fn case_of_the_question_is_kept_and_means_nothing() {
    let (plain, _) = ask("x.one.cdn.acme.net", rr::A);
    for name in ["X.oNe.CdN.aCmE.nEt", "x.ONE.CDN.ACME.NET"] {
        let (message, _) = ask(name, rr::A);
        assert_eq!(message.queries[0].name().to_ascii(), format!("{name}."));
        assert_eq!(addresses(&message.answers), addresses(&plain.answers));
        let query = DnsQuery::new(name, rr::A);
        let flow = invariants::flow(false, DNS_PORT);
        let fast = slow::respond::<_, false>(&*IMAGE, &flow, &query.encode()).expect("DNS is spoken here");
        let reply = fast.reply().expect("the fast path answers");
        assert_eq!(reply[12..12 + query.question().len()], query.question());
    }
    // The letters next to A and Z have other bytes in either case, which must not be mixed up.
    for name in ["x.one.cdn.acm%.net", "x.one.cdn.acme.ne4", "x.[ne.cdn.acme.net", "x.{ne.cdn.acme.net"] {
        assert_eq!(ask(name, rr::A).0.answers.len(), 0, "{name}");
    }
}

#[test]
fn flags_are_those_of_an_authoritative_server() {
    for flags in [0, RD, RD | 0x0010, 0x0020, 0x0080, 0x0200, 0x0040, 0x000f, 0x05ff] {
        let query = DnsQuery { flags, ..DnsQuery::new("x.one.cdn.acme.net", rr::A) };
        let (message, _) = answer(CLIENT[0], ACME[0], &query.encode());
        let meta = &message.metadata;
        assert!(meta.authoritative && !meta.recursion_available && !meta.truncation && !meta.authentic_data);
        assert_eq!(meta.recursion_desired, flags & RD != 0, "{flags:04x}");
        assert_eq!((meta.response_code, message.answers.len()), (ResponseCode::NoError, 1), "{flags:04x}");
    }
}
