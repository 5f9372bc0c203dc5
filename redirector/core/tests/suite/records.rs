//! Answers that are names: CNAME and referrals, chosen before the type (ADR 13; RFC 1034 section 4.3.2, RFC 2181 section
//! 9, RFC 9471). Another library reads them, and the fast path gives the same wherever it answers.

use crate::dns::{addresses, answer, ask};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::{RData, Record, RecordType};
use redirector_core::verdict::Reason;
use redirector_core::wire::{cdsr, dns};
use redirector_tests::invariants::{self, IMAGE};
use redirector_tests::networks::{ACME, ALIAS, CLIENT, NAME_SERVERS, long_alias};
use redirector_tests::questions::{CdsrReply, CdsrRequest, DnsQuery, Edns, rr};
use redirector_tests::slow::{self, DNS_PORT};
use std::net::IpAddr;

const TYPES: [u16; 10] = [rr::A, rr::AAAA, rr::NS, rr::MX, rr::TXT, rr::SRV, rr::HTTPS, CNAME, rr::ANY, CAA];
const CNAME: u16 = 5;
const DS: u16 = 43;
const CAA: u16 = 257;
const SVCB: u16 = 64;

fn with_edns(name: &str, size: u16) -> Message {
    let edns = Edns { size, ..Edns::new(false) };
    answer(CLIENT[0], ACME[0], &DnsQuery::new(name, rr::A).edns(edns).encode()).0
}

/// ADR 13: names and delegations are no endpoints, and the legacy protocol leads there.
#[test]
fn cdsr_clients_are_told_to_use_the_legacy_protocol() {
    let ask = |url: &str| {
        let request = CdsrRequest { families: 1, ..CdsrRequest::new(url) };
        let outcome = slow::answer(&*IMAGE, &invariants::flow(false, cdsr::PORT), &request.encode());
        let outcome = outcome.expect("CDSR is spoken here");
        CdsrReply::read(outcome.reply().expect("a reply")).expect("a sound reply")
    };
    for url in ["http://alias.acme.net/x", "http://referral.acme.net/x"] {
        let reply = ask(url);
        assert_eq!((reply.status, reply.lifetime, reply.endpoints.len()), (4, 300, 0), "{url}");
    }
    assert_eq!(ask("http://one.acme.net/x").status, 0);
}

fn canonical(record: &Record) -> String {
    let RData::CNAME(name) = &record.data else { panic!("{record:?}") };
    name.0.to_ascii().trim_end_matches('.').to_owned()
}

#[test]
fn cname_answers_every_type_with_authority() {
    for qtype in TYPES {
        let (message, reason) = ask("Www.Alias.cdn.acme.net", qtype);
        assert_eq!((message.metadata.response_code, reason), (ResponseCode::NoError, Reason::FirstTier));
        assert!(message.metadata.authoritative && !message.metadata.truncation);
        let [record] = &message.answers[..] else { panic!("type {qtype}: {message:?}") };
        assert_eq!((canonical(record).as_str(), record.ttl), (ALIAS, 90), "type {qtype}");
        assert_eq!(record.name.to_ascii(), "Www.Alias.cdn.acme.net.");
        assert!(message.authorities.is_empty() && message.additionals.is_empty());
    }
}

/// The very bytes, by hand.
#[test]
fn cname_bytes_are_these() {
    let query = DnsQuery::new("w.alias.cdn.acme.net", rr::A);
    let flow = invariants::flow(false, DNS_PORT);
    let outcome = slow::answer(&*IMAGE, &flow, &query.encode()).expect("DNS is spoken here");
    let mut wanted = vec![0x1d, 0x0a, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    wanted.extend(query.question());
    wanted.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 90, 0, 22]);
    wanted.extend(b"\x04edge\x07partner\x07example\0");
    assert_eq!(outcome.reply(), Some(&wanted[..]));
}

#[test]
fn longest_cname_is_answered_whole_or_cut_off() {
    // 12 bytes of header, 29 of question, 12 and 255 of record.
    let name = "w.long-alias.cdn.acme.net";
    for message in [ask(name, rr::A).0, with_edns(name, 512), with_edns(name, 4096)] {
        assert_eq!(canonical(&message.answers[0]), long_alias());
    }
    let label = "o".repeat(63);
    let longer = [&label[..], "long-alias.cdn.acme.net"].join(".");
    assert_eq!(canonical(&ask(&longer, rr::A).0.answers[0]), long_alias(), "{}", longer.len());
}

fn name_servers(message: &Message) -> Vec<String> {
    let name = |record: &Record| match &record.data {
        RData::NS(name) => name.0.to_ascii().trim_end_matches('.').to_owned(),
        other => panic!("{other:?}"),
    };
    message.authorities.iter().map(name).collect()
}

/// Owner and address of each record, in order.
fn glue(message: &Message) -> Vec<(String, String)> {
    let address = |record: &Record| match &record.data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(aaaa) => aaaa.0.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |record: &Record| (record.name.to_ascii().trim_end_matches('.').to_owned(), address(record));
    message.additionals.iter().map(pair).collect()
}

/// All addresses of the first `count` name servers.
fn all_glue(count: usize) -> Vec<(String, String)> {
    let of = |(name, ipv4, ipv6): &(&str, &str, &str)| {
        [*ipv4, *ipv6].map(|address| (name.to_string(), address.to_string()))
    };
    NAME_SERVERS[..count].iter().flat_map(of).filter(|(_, address)| !address.is_empty()).collect()
}

#[test]
fn delegation_is_referred_to_for_every_type_without_authority() {
    for qtype in TYPES {
        let (message, reason) = ask("x.Referral.cdn.acme.net", qtype);
        assert_eq!((message.metadata.response_code, reason), (ResponseCode::NoError, Reason::FirstTier));
        assert!(
            !message.metadata.authoritative && !message.metadata.truncation && message.answers.is_empty()
        );
        assert_eq!(
            name_servers(&message),
            NAME_SERVERS[..2].iter().map(|server| server.0).collect::<Vec<_>>()
        );
        let owners = message.authorities.iter().map(|record| (record.name.to_ascii(), record.ttl));
        assert!(owners.eq([
            ("x.Referral.cdn.acme.net.".to_owned(), 600),
            ("x.Referral.cdn.acme.net.".to_owned(), 600)
        ]));
        assert_eq!(glue(&message), all_glue(2), "type {qtype}");
        assert!(message.additionals.iter().all(|record| record.ttl == 600));
    }
}

/// RFC 4035 section 3.1.4.1: the parent answers for the child's keys.
#[test]
fn keys_of_a_delegated_name_are_answered_by_the_parent() {
    let (message, reason) = ask("x.referral.cdn.acme.net", DS);
    assert_eq!(reason, Reason::NoDataType);
    assert!(message.metadata.authoritative && message.answers.is_empty());
    assert_eq!(message.authorities[0].record_type(), RecordType::SOA);
    // At a name that is no delegation, the type is one among others.
    assert_eq!(canonical(&ask("x.alias.cdn.acme.net", DS).0.answers[0]), ALIAS);
}

#[test]
fn glue_that_can_be_found_elsewhere_goes_first_and_what_is_needed_is_never_left_out() {
    let label = "o".repeat(63);
    let long = [&label[..], &label, &label, "long-referral.cdn.acme.net"].join(".");
    let whole = with_edns(&long, 1232);
    assert_eq!((name_servers(&whole).len(), glue(&whole)), (4, all_glue(4)));
    // Only the first server's addresses can be learnt nowhere else.
    let needed = &all_glue(1)[..];
    let level = |size| {
        let message = with_edns(&long, size);
        if message.metadata.truncation {
            assert!(message.authorities.is_empty() && message.additionals.is_empty());
            return 0;
        }
        assert_eq!(name_servers(&message).len(), 4);
        if glue(&message) == needed {
            1
        } else {
            assert_eq!(glue(&message), all_glue(4));
            2
        }
    };
    let mut levels: Vec<i32> = (512..=1232).map(level).collect();
    assert!(levels.is_sorted(), "more room, less answer");
    levels.dedup();
    assert_eq!(levels, [0, 1, 2]);
    // Without EDNS, 512 bytes must do.
    let (message, _) = ask(&long, rr::A);
    assert!(message.metadata.truncation && !message.metadata.authoritative);
}

#[test]
fn what_is_cut_off_over_udp_is_whole_over_tcp() {
    let label = "o".repeat(63);
    let long = [&label[..], &label, &label, "long-referral.cdn.acme.net"].join(".");
    let query = DnsQuery::new(&long, rr::A).encode();
    let flow = invariants::flow(false, DNS_PORT);
    let over_tcp = slow::respond_within::<_, true>(&*IMAGE, &flow, &query, dns::MAX_REPLY).expect("spoken");
    let message = invariants::decode(over_tcp.reply().expect("a reply"));
    assert_eq!((name_servers(&message).len(), glue(&message)), (4, all_glue(4)));
}

/// What kind of answer it is.
fn kind(message: &Message) -> &'static str {
    match message.answers.first().map(Record::record_type) {
        Some(RecordType::CNAME) => "cname",
        Some(RecordType::A | RecordType::AAAA) => "address",
        None if !message.metadata.authoritative && !message.authorities.is_empty() => "referral",
        _ => "none",
    }
}

/// The shares of `mixed` outside of France: 2 to the name, 1 to the delegation, 2 to servers, of which half have IPv6
/// alone.
#[test]
fn outcomes_get_their_shares_and_all_types_of_a_name_agree() {
    let mut counts = std::collections::BTreeMap::<&str, u32>::new();
    for client in 0..4000u32 {
        let client = format!("10.9.{}.{}", client >> 8, client & 255);
        let of = |qtype, service: &str| {
            answer(&client, ACME[0], &DnsQuery::new(&format!("x.{service}.cdn.acme.net"), qtype).encode()).0
        };
        let [v4, v6, other] = [rr::A, rr::AAAA, rr::HTTPS].map(|qtype| of(qtype, "mixed"));
        let what = kind(&v4);
        assert_eq!(kind(&v6), what, "{client}");
        assert_eq!(kind(&other) == "none", what == "address", "{client}");
        *counts.entry(what).or_default() += 1;
        // Each question has an ID of its own; what kind of answer there is does not depend on it.
        let by_id = |id| {
            let query = DnsQuery { id, ..DnsQuery::new("x.mixed-spread.cdn.acme.net", rr::A) };
            kind(&answer(&client, ACME[0], &query.encode()).0)
        };
        assert_eq!(by_id(1), by_id(2));
    }
    let near = |what: &str, share: f64| {
        let (count, wanted) = (f64::from(counts[what]), 4000.0 * share);
        // Five standard deviations.
        assert!(
            (count - wanted).abs() < 5.0 * (wanted * (1.0 - share)).sqrt(),
            "{what}: {count} of {wanted}"
        );
    };
    near("cname", 0.4);
    near("referral", 0.2);
    near("address", 0.4);
}

#[test]
fn name_stands_in_for_servers_that_are_down() {
    let (message, reason) = ask("x.dead-alias.cdn.acme.net", rr::AAAA);
    assert_eq!((canonical(&message.answers[0]).as_str(), message.answers[0].ttl), (ALIAS, 7));
    assert_eq!(reason, Reason::FirstTier);
    let (message, reason) = ask("x.last-alias.cdn.acme.net", rr::TXT);
    assert_eq!((canonical(&message.answers[0]).as_str(), reason), (ALIAS, Reason::Fallback));
}

/// What an HTTPS record says: protocols, port, and addresses.
fn binding(message: &Message) -> (Vec<String>, Option<u16>, Vec<IpAddr>, Vec<IpAddr>) {
    let [record] = &message.answers[..] else { panic!("{message:?}") };
    let svcb = match &record.data {
        RData::HTTPS(https) => &https.0,
        RData::SVCB(svcb) => svcb,
        other => panic!("{other:?}"),
    };
    assert_eq!((svcb.svc_priority, svcb.target_name.to_ascii().as_str()), (1, "."));
    assert!(svcb.svc_params.is_sorted_by_key(|(key, _)| u16::from(*key)), "{svcb:?}");
    let mut said = (vec![], None, vec![], vec![]);
    for (_, value) in &svcb.svc_params {
        match value {
            SvcParamValue::Alpn(alpn) => said.0 = alpn.0.clone(),
            SvcParamValue::Port(port) => said.1 = Some(*port),
            SvcParamValue::Ipv4Hint(hint) => said.2 = hint.0.iter().map(|a| a.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hint) => said.3 = hint.0.iter().map(|aaaa| aaaa.0.into()).collect(),
            other => panic!("{other:?}"),
        }
    }
    said
}

/// `web` and `tv` have servers of both families, `four` and `six` of one, `france` of different ones for each.
#[test]
fn https_records_name_the_very_addresses_that_a_and_aaaa_would() {
    let names = [
        "x.web.abc.cdn.acme.net",
        "c.d.tv.cdn.acme.net",
        "x.four.cdn.acme.net",
        "x.six.cdn.acme.net",
        "x.france.cdn.acme.net",
    ];
    for name in names {
        for client in ["10.1.2.3", "10.2.3.4", "10.2.99.1"] {
            if name.contains("france") && client == "10.1.2.3" {
                continue;
            }
            let of = |qtype| answer(client, ACME[0], &DnsQuery::new(name, qtype).encode()).0;
            let (v4, v6) = (addresses(&of(rr::A).answers), addresses(&of(rr::AAAA).answers));
            for (qtype, kind) in [(rr::HTTPS, RecordType::HTTPS), (SVCB, RecordType::SVCB)] {
                let message = of(qtype);
                assert_eq!(message.answers[0].record_type(), kind);
                // Nothing is said that goes without saying.
                let (told, port) = match name.contains(".four.") {
                    true => (vec![], None),
                    false => (vec!["h2".to_owned(), "h3".to_owned()], Some(8443)),
                };
                assert_eq!(binding(&message), (told, port, v4.clone(), v6.clone()), "{name} for {client}");
            }
        }
    }
}

/// The very bytes, by hand.
#[test]
fn https_bytes_are_these() {
    let query = DnsQuery::new("x.six.cdn.acme.net", rr::HTTPS);
    let flow = invariants::flow(false, DNS_PORT);
    let outcome = slow::answer(&*IMAGE, &flow, &query.encode()).expect("DNS is spoken here");
    let mut wanted = vec![0x1d, 0x0a, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    wanted.extend(query.question());
    wanted.extend([0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 10, 0, 55, 0, 1, 0]);
    wanted.extend(b"\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x20\xfb\0\x06\0\x20");
    for address in addresses(&ask("x.six.cdn.acme.net", rr::AAAA).0.answers) {
        let IpAddr::V6(address) = address else { panic!("{address}") };
        wanted.extend(address.octets());
    }
    assert_eq!(outcome.reply(), Some(&wanted[..]));
}

/// Priority, weight, port and name of each SRV record.
fn locations(message: &Message) -> Vec<(u16, u16, u16, String)> {
    let one = |record: &Record| match &record.data {
        RData::SRV(srv) => (srv.priority, srv.weight, srv.port, srv.target.to_ascii()),
        other => panic!("{other:?}"),
    };
    message.answers.iter().map(one).collect()
}

fn srv(client: &str, label: &str) -> Message {
    let name = format!("{label}._tcp.srv.cdn.acme.net");
    answer(client, ACME[0], &DnsQuery::new(&name, rr::SRV).encode()).0
}

/// M-8: the best site, then contenders, equals share a rank. In region `de` site 5 is best, then 4 (3 is down), then the
/// others alike.
#[test]
fn sites_are_ranked_by_tier_and_equals_share_a_rank() {
    let message = srv("10.1.2.3", "_a40");
    let found = locations(&message);
    assert!(message.metadata.authoritative && message.answers.iter().all(|record| record.ttl == 11));
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|(_, weight, port, _)| (*weight, *port) == (0, 554)));
    let ranks: Vec<u16> = found.iter().map(|(rank, ..)| *rank).collect();
    assert_eq!(ranks, [1, 2, 3, 3]);
    assert_eq!((&*found[0].3, &*found[1].3), ("a40.y5q.cdn.acme.net.", "a40.y4q.cdn.acme.net."));
    let mut names: Vec<&String> = found.iter().map(|(.., name)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4, "each site once");
    for (.., name) in &found {
        assert_eq!(ask(name.trim_end_matches('.'), rr::A).0.answers.len(), 4, "{name} resolves");
    }
}

/// M-7: the client's address in the name counts, not the resolver's; 10.1.2.3 is 167838211, and 2001:db8:200::1 of region
/// `fr` a longer number.
#[test]
fn the_client_in_the_name_is_the_one_that_sites_are_ranked_for() {
    let of = |client, label: &str| locations(&srv(client, label));
    let [de, fr, nowhere] = ["10.1.2.3", "10.2.3.4", "198.51.100.1"].map(|client| of(client, "_a40"));
    assert!(de != fr && fr != nowhere && de != nowhere);
    assert_eq!(of("198.51.100.1", "_a40-167838211"), de);
    let v6 = u128::from("2001:db8:200::1".parse::<std::net::Ipv6Addr>().expect("an address"));
    assert_eq!(of("198.51.100.1", &format!("_a40-{v6}"))[0].3, fr[0].3);
    for malformed in ["_a40-", "_a40-x", "_a40-1x", "_a40-99999999999999999999999999999999999999999999"] {
        assert_eq!(of("198.51.100.1", malformed), nowhere, "{malformed}");
    }
    // The bucket is kept as it is written.
    assert_eq!(of("10.1.2.3", "_A40")[0].3, "A40.y5q.cdn.acme.net.");
    assert_eq!(of("10.1.2.3", "a-bucket-without-number")[0].3, "a.y5q.cdn.acme.net.");
}

/// M-11: today's records say what SRV says. What stands in them is one label after the other, the port, and no hints.
#[test]
fn https_and_svcb_records_name_the_same_sites_with_the_same_ranks() {
    for label in ["_a40", "_a40-167838211", "_a", "_abucketofsixteen"] {
        let name = format!("{label}._tcp.srv.cdn.acme.net");
        let wanted = locations(&srv("10.2.3.4", label));
        assert!(wanted.len() == 4 && wanted.is_sorted_by_key(|(rank, ..)| *rank), "{wanted:?}");
        for (qtype, kind) in [(rr::HTTPS, RecordType::HTTPS), (SVCB, RecordType::SVCB)] {
            let (message, _) = answer("10.2.3.4", ACME[0], &DnsQuery::new(&name, qtype).encode());
            let one = |record: &Record| {
                let svcb = match &record.data {
                    RData::HTTPS(https) => &https.0,
                    RData::SVCB(svcb) => svcb,
                    other => panic!("{other:?}"),
                };
                let [(_, SvcParamValue::Port(port))] = svcb.svc_params[..] else { panic!("{svcb:?}") };
                assert_eq!((record.record_type(), record.ttl), (kind, message.answers[0].ttl));
                (svcb.svc_priority, 0, port, svcb.target_name.to_ascii())
            };
            assert_eq!(message.answers.iter().map(one).collect::<Vec<_>>(), wanted, "{name}");
        }
    }
}

#[test]
fn names_for_srv_have_no_other_records_and_need_a_bucket() {
    for (name, qtype) in [
        ("_a40._tcp.srv.cdn.acme.net", rr::A),
        ("_a40._tcp.srv.cdn.acme.net", rr::TXT),
        ("_._tcp.srv.cdn.acme.net", rr::HTTPS),
        ("_._tcp.srv.cdn.acme.net", rr::SRV),
        ("_-1._tcp.srv.cdn.acme.net", rr::SRV),
        ("_abucketofmorethan16._tcp.srv.cdn.acme.net", rr::SRV),
    ] {
        let (message, reason) = ask(name, qtype);
        assert!(message.answers.is_empty() && message.authorities.len() == 1, "{name} {message:?}");
        assert_eq!(reason, Reason::NoDataType, "{name}");
    }
    for partial in ["_tcp.srv.cdn.acme.net", "srv.cdn.acme.net"] {
        assert_eq!(ask(partial, rr::SRV).1, Reason::NoDataPartial, "{partial}");
    }
}
