//! SRV records by service names (RFC 2782): `_http._tcp.NAME` is answered with the servers that NAME would get.

use crate::dns::{addresses, answer, ask};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use redirector_core::verdict::Reason;
use redirector_core::wire::dns;
use redirector_tests::invariants::{self, IMAGE};
use redirector_tests::networks::{ACME, ALIAS, BETA, CLIENT, long_alias};
use redirector_tests::questions::{DnsQuery, Edns, rr};
use redirector_tests::slow::{self, DNS_PORT};
use std::collections::HashMap;
use std::net::IpAddr;

/// Priority, weight, port and target of each record.
fn records(message: &Message) -> Vec<(u16, u16, u16, String)> {
    let one = |record: &Record| match &record.data {
        RData::SRV(srv) => {
            (srv.priority, srv.weight, srv.port, srv.target.to_ascii().trim_end_matches('.').to_owned())
        }
        other => panic!("{other:?}"),
    };
    message.answers.iter().map(one).collect()
}

/// Addresses in the additional section, by owner.
fn additional(message: &Message) -> HashMap<String, Vec<IpAddr>> {
    let mut found: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for record in &message.additionals {
        let owner = record.name.to_ascii().trim_end_matches('.').to_owned();
        found.entry(owner).or_default().extend(addresses(std::slice::from_ref(record)));
    }
    found
}

fn srv(client: &str, name: &str) -> Message {
    answer(client, ACME[0], &DnsQuery::new(name, rr::SRV).edns(Edns::new(false)).encode()).0
}

/// The first record is the server that A and AAAA name, whatever the service chooses by; the others are those that
/// come next.
#[test]
fn servers_are_those_that_address_queries_get() {
    for name in ["x.web", "y.object", "a-longer-name.object", "z.web"] {
        for client in ["10.1.2.3", "10.2.3.4", "10.2.99.1", "198.51.100.77", "10.3.0.1"] {
            let of = |qtype| {
                addresses(
                    &answer(
                        client,
                        ACME[0],
                        &DnsQuery::new(&format!("{name}.files.acme.net"), qtype).encode(),
                    )
                    .0
                    .answers,
                )
            };
            let (v4, v6) = (of(rr::A), of(rr::AAAA));
            let message = srv(client, &format!("_http._tcp.{name}.files.acme.net"));
            let (found, told) = (records(&message), additional(&message));
            assert!(message.metadata.authoritative && !found.is_empty() && found.len() <= 4);
            let best: Vec<_> = found.iter().take_while(|(priority, ..)| *priority == 1).collect();
            assert_eq!(best.len(), v4.len(), "{name} for {client}");
            for (place, (_, weight, port, server)) in best.into_iter().enumerate() {
                assert_eq!(told[server], [v4[place], v6[place]], "{name} for {client}");
                assert!(*weight > 0 && *port == 8080);
            }
            let rest: Vec<u16> = found[v4.len()..].iter().map(|(priority, ..)| *priority).collect();
            assert!(rest.iter().copied().eq(2..2 + rest.len() as u16), "{found:?}");
            let mut names: Vec<&String> = found.iter().map(|(.., name)| name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), found.len(), "each server once");
        }
    }
}

#[test]
fn ports_are_those_of_the_urls_scheme() {
    for (service, port) in [("_http", 8080), ("_HTTPS", 8443), ("_rtsp", 8554)] {
        let message = srv("10.2.3.4", &format!("{service}._TCP.x.web.files.acme.net"));
        assert!(records(&message).iter().all(|(_, _, known, _)| *known == port), "{service}");
        assert_eq!(message.answers[0].ttl, 0);
    }
    // `eu` has a TTL of its own for clients of `de`, and one server there.
    assert_eq!(srv("10.1.2.3", "_http._tcp.x.web.files.acme.net").answers[0].ttl, 17);
}

/// What stands in a record is resolved by the box: to the server's addresses, for everybody and for long.
#[test]
fn names_of_servers_resolve_to_their_addresses() {
    let message = srv("10.2.3.4", "_http._tcp.x.object.files.acme.net");
    let told = additional(&message);
    for (.., server) in records(&message) {
        assert!(server.ends_with(".servers.files.acme.net"), "{server}");
        for client in ["10.1.2.3", "198.51.100.1"] {
            let of = |qtype| answer(client, ACME[0], &DnsQuery::new(&server, qtype).encode()).0;
            let [v4, v6] = [rr::A, rr::AAAA].map(of);
            assert_eq!([addresses(&v4.answers), addresses(&v6.answers)].concat(), told[&server]);
            assert!(v4.answers.iter().chain(&v6.answers).all(|record| record.ttl == 86_400));
        }
        assert_eq!(ask(&server, rr::TXT).1, Reason::NoDataType);
        assert_eq!(addresses(&ask(&server, rr::ANY).0.answers).len(), 1);
    }
    // Of one family alone, in records as in names.
    let message = srv("10.2.3.4", "_http._tcp.x.six.files.acme.net");
    assert!(additional(&message).values().all(|found| found.len() == 1 && found[0].is_ipv6()));
    assert_eq!(ask(&records(&message)[0].3, rr::A).1, Reason::NoDataFamily);
    assert_eq!(additional(&srv("10.2.3.4", "_http._tcp.x.four.files.acme.net")).len(), 2);
}

#[test]
fn what_is_no_servers_name_does_not_exist_and_what_is_beneath_one_is_told() {
    assert_eq!(ask("t999.servers.files.acme.net", rr::A).1, Reason::NxDomain);
    // Another network's target.
    for (name, reason) in [
        ("servers.files.acme.net", Reason::NoDataPartial),
        ("_tcp.x.web.files.acme.net", Reason::NoDataPartial),
        ("t002.servers.files.acme.net", Reason::ZoneRecord),
    ] {
        assert_eq!(ask(name, rr::A).1, reason, "{name}");
    }
    let beta = answer(CLIENT[0], BETA[0], &DnsQuery::new("t002.servers.files.acme.net", rr::A).encode());
    assert_eq!(beta.1, Reason::NotOurZone);
}

#[test]
fn names_that_ask_for_servers_have_no_other_records() {
    for qtype in [rr::A, rr::AAAA, rr::TXT, rr::HTTPS] {
        let (message, reason) = ask("_http._tcp.x.web.files.acme.net", qtype);
        assert_eq!((message.answers.len(), message.authorities.len()), (0, 1), "type {qtype}");
        assert_eq!(reason, Reason::NoDataType);
    }
    let any = ask("_http._tcp.x.web.files.acme.net", rr::ANY).0;
    assert!(
        any.answers.iter().all(|record| record.record_type() == RecordType::SRV) && !any.answers.is_empty()
    );
}

/// A dead server is not named, the fallback is, and without one there is no answer that resolvers would keep.
#[test]
fn records_follow_tiers_and_fallbacks() {
    let later = srv("10.2.3.4", "_http._tcp.x.later.files.acme.net");
    assert!(records(&later).iter().all(|(.., name)| ["t052.", "t053."].iter().any(|n| name.starts_with(n))));
    assert_eq!(later.answers[0].ttl, 5);
    let (last, reason) = ask("_http._tcp.x.fallback.files.acme.net", rr::SRV);
    assert_eq!((records(&last).len(), reason), (2, Reason::Fallback));
    let (nothing, reason) = ask("_http._tcp.x.nothing.files.acme.net", rr::SRV);
    assert_eq!((nothing.metadata.response_code, reason), (ResponseCode::ServFail, Reason::NothingUsable));
}

/// ADR 13: what kind of answer it is comes first. Instead of a CNAME stands a record that names where it leads.
#[test]
fn other_names_and_delegations_come_before_servers() {
    let alias = srv("10.2.3.4", "_rtsp._tcp.x.alias.files.acme.net");
    assert_eq!(records(&alias), [(1, 255, 8554, ALIAS.to_owned())]);
    assert!(alias.additionals.is_empty() && alias.answers[0].ttl == 90);
    assert_eq!(ask("_rtsp._tcp.x.alias.files.acme.net", rr::A).1, Reason::NoDataType);
    let referral = srv("10.2.3.4", "_http._tcp.x.referral.files.acme.net");
    assert!(!referral.metadata.authoritative && referral.answers.is_empty());
    assert_eq!(referral.authorities.len(), 2);
    // Each client's kind of answer is that of the name itself.
    let mut kinds = [0; 3];
    for client in 0..400u32 {
        let client = format!("10.9.{}.{}", client >> 8, client & 255);
        let of = |name: &str, qtype| answer(&client, ACME[0], &DnsQuery::new(name, qtype).encode()).0;
        let plain = of("x.mixed.files.acme.net", rr::A);
        let srv = of("_http._tcp.x.mixed.files.acme.net", rr::SRV);
        let kind = match plain.answers.first().map(Record::record_type) {
            Some(RecordType::CNAME) => 0,
            None if !plain.metadata.authoritative => 1,
            _ => 2,
        };
        kinds[kind] += 1;
        match kind {
            0 => assert_eq!(records(&srv)[0].3, ALIAS),
            1 => assert!(srv.answers.is_empty() && srv.authorities.len() == 2 && !srv.metadata.authoritative),
            _ => assert!(records(&srv).iter().all(|(.., name)| name.contains(".servers."))),
        }
    }
    assert!(kinds.iter().all(|count| *count > 20), "{kinds:?}");
}

/// Addresses are left out first; what does not fit then is cut off, and whole over TCP.
#[test]
fn what_does_not_fit_goes_without_addresses_or_by_tcp() {
    let label = "o".repeat(63);
    let long = format!("_http._tcp.{label}.object.files.acme.net");
    let level = |size| {
        let edns = Edns { size, ..Edns::new(false) };
        let message = answer("10.2.3.4", ACME[0], &DnsQuery::new(&long, rr::SRV).edns(edns).encode()).0;
        if message.metadata.truncation {
            assert!(message.answers.is_empty());
            return 0;
        }
        assert_eq!(records(&message).len(), 4);
        if message.additionals.is_empty() { 1 } else { 2 }
    };
    let mut levels: Vec<i32> = (512..=1232).map(level).collect();
    assert!(levels.is_sorted(), "more room, less answer");
    levels.dedup();
    assert_eq!(levels.last(), Some(&2));
    let name = format!("_http._tcp.{label}.long-alias.files.acme.net");
    let query = DnsQuery::new(&name, rr::SRV).encode();
    let flow = invariants::flow(false, DNS_PORT);
    let over_tcp = slow::respond_within::<_, true>(&*IMAGE, &flow, &query, dns::MAX_REPLY).expect("spoken");
    let message = invariants::decode(over_tcp.reply().expect("a reply"));
    assert_eq!(records(&message)[0].3, long_alias());
}

/// The very bytes, by hand.
#[test]
fn bytes_are_these() {
    let query = DnsQuery::new("_http._tcp.x.web.files.acme.net", rr::SRV);
    let outcome = slow::answer(&*IMAGE, &invariants::flow(false, DNS_PORT), &query.encode()).expect("spoken");
    let mut wanted = vec![0x1d, 0x0a, 0x84, 0, 0, 1, 0, 2, 0, 0, 0, 4];
    wanted.extend(query.question());
    let (mut names, mut glue) = (Vec::new(), Vec::new());
    for (priority, server) in [(1u8, "t000"), (2, "t001")] {
        let weight = if priority == 1 { outcome.reply().expect("a reply")[wanted.len() + 15] } else { 0 };
        wanted.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 17, 0, 35]);
        wanted.extend([0, priority, 0, weight, 0x1f, 0x90]);
        names.push(wanted.len());
        wanted.extend(b"\x04");
        wanted.extend(server.as_bytes());
        wanted.extend(b"\x07servers\x05files\x04acme\x03net\0");
        glue.push(server.as_bytes()[3] - b'0');
    }
    for (at, number) in names.into_iter().zip(glue) {
        wanted.extend([0xc0, at as u8, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4, 192, 0, 2, number]);
        wanted.extend([0xc0, at as u8, 0, 28, 0, 1, 0, 1, 0x51, 0x80, 0, 16]);
        wanted.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]);
    }
    assert_eq!(outcome.reply(), Some(&wanted[..]));
}
