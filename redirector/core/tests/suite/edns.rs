//! EDNS in questions and answers (RFC 6891, RFC 3225).

use crate::dns::answer;
use hickory_proto::op::ResponseCode;
use redirector_core::verdict::Reason;
use redirector_core::wire::{Action, dns::UDP_LIMIT};
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::networks::{ACME, CLIENT};
use redirector_tests::questions::{DnsQuery, Edns, PADDING, dns_header, rr};
use redirector_tests::slow::{self, DNS_PORT};

const NAME: &str = "x.one.cdn.acme.net";

fn ask(query: &[u8]) -> (hickory_proto::op::Message, Reason) {
    answer(CLIENT[0], ACME[0], query)
}

fn fast(query: &[u8]) -> (Action, Reason) {
    let outcome =
        slow::respond::<_, false>(&*IMAGE, &flow(false, DNS_PORT), query).expect("DNS is spoken here");
    (outcome.action, outcome.trace.reason)
}

/// A question with these records in the additional section.
fn with_additional(count: u16, records: &[u8]) -> Vec<u8> {
    let mut query = dns_header(9, 0, [1, 0, 0, count]);
    query.extend(DnsQuery::new(NAME, rr::A).question());
    query.extend(records);
    query
}

#[test]
fn query_with_edns_gets_edns_and_one_without_gets_none() {
    for name in
        [NAME, "no.such.cdn.acme.net", "web.abc.cdn.acme.net", "www.acme.org", "x.nothing.cdn.acme.net"]
    {
        assert!(ask(&DnsQuery::new(name, rr::A).encode()).0.edns.is_none(), "{name}");
        for dnssec in [false, true] {
            let query = DnsQuery::new(name, rr::A).edns(Edns::new(dnssec)).encode();
            let edns = ask(&query).0.edns.expect(name);
            assert_eq!((edns.version(), edns.max_payload()), (0, UDP_LIMIT));
            assert_eq!(edns.flags().dnssec_ok, dnssec, "{name}: DO is repeated (RFC 3225 section 3)");
            assert_eq!(edns.flags().z, 0);
            assert!(edns.options().as_ref().is_empty());
        }
    }
}

#[test]
fn payload_size_of_the_client_does_not_matter_to_answers_this_short() {
    for size in [0, 511, 512, 1232, 65_535] {
        let query =
            DnsQuery::new("a.b.c.object.deep.acme.net", rr::AAAA).edns(Edns { size, ..Edns::new(false) });
        let (message, _) = ask(&query.encode());
        assert_eq!((message.answers.len(), message.metadata.truncation), (4, false), "{size}");
    }
}

#[test]
fn options_that_nobody_uses_are_passed_over_by_both_paths() {
    let edns = || Edns::new(false);
    for edns in [
        edns().option(65_001, &[1; 8]),
        edns().option(0, b"").option(15, b"").option(16, b"x"),
        edns().option(4, b"").option(PADDING, &[0; 7]).option(65_001, b"x").option(12, b""),
    ] {
        let query = DnsQuery::new(NAME, rr::A).edns(edns).encode();
        let (message, _) = ask(&query);
        assert_eq!(message.answers.len(), 1);
        assert!(message.edns.expect("EDNS").options().as_ref().is_empty());
        assert_eq!(fast(&query), (Action::Reply, Reason::FirstTier));
    }
    let many = (0..40).fold(edns(), |edns, code| edns.option(100 + code, b"x"));
    let query = DnsQuery::new(NAME, rr::A).edns(many).encode();
    assert_eq!(ask(&query).0.answers.len(), 1, "forty options");
    assert_eq!(fast(&query), (Action::Punt, Reason::PuntEdns), "forty options are for the slow path");
}

#[test]
fn other_edns_versions_get_badvers_from_both_paths() {
    for version in [1, 2, 255] {
        // Options of another version may have another form.
        let edns = Edns { version, options: vec![0xff; 5], ..Edns::new(true) };
        let query = DnsQuery::new(NAME, rr::A).edns(edns).encode();
        let (message, reason) = ask(&query);
        // The decoder gives 16 its other name, BADSIG.
        assert_eq!((u16::from(message.metadata.response_code), reason), (16, Reason::DnsBadVers));
        let edns = message.edns.as_ref().expect("EDNS");
        assert_eq!((edns.version(), edns.max_payload()), (0, UDP_LIMIT), "the version that we speak");
        assert!(message.answers.is_empty() && message.authorities.is_empty() && message.queries.len() == 1);
        assert_eq!(fast(&query), (Action::Reply, Reason::DnsBadVers));
    }
}

#[test]
fn edns_that_breaks_its_form_is_formerr() {
    let edns = Edns::new(false).encode();
    let lying = |length: u8| [&edns[..edns.len() - 1], &[length]].concat();
    for (what, query) in [
        ("two OPT records", with_additional(2, &[&edns[..], &edns].concat())),
        ("an owner that is not the root", with_additional(1, &[&[1, b'x'], &edns[..]].concat())),
        ("a record too few", with_additional(2, &edns)),
        ("a record that is not counted", with_additional(0, &edns)),
        ("a length that says more", with_additional(1, &lying(1))),
        ("a length that says less", with_additional(1, &[&edns[..], &[0]].concat())),
        ("an option that overruns", with_additional(1, &[&lying(5)[..], &[0, 10, 0, 2, 7]].concat())),
        ("half an option", with_additional(1, &[&lying(3)[..], &[0, 10, 0]].concat())),
    ] {
        let (message, reason) = ask(&query);
        assert_eq!(
            (message.metadata.response_code, reason),
            (ResponseCode::FormErr, Reason::DnsFormErr),
            "{what}"
        );
        assert_eq!(fast(&query).0, Action::Punt, "{what}");
    }
}

#[test]
fn other_additional_records_are_read_over_and_signatures_refused() {
    let record = |kind: u16| {
        let fixed: Vec<u8> = [kind, 255, 0, 0, 3].into_iter().flat_map(u16::to_be_bytes).collect();
        [&b"\x03key\xc0\x0c"[..], &fixed, b"abc"].concat()
    };
    let edns = Edns::new(true).encode();
    let query = with_additional(2, &[&record(rr::TXT)[..], &edns].concat());
    let (message, _) = ask(&query);
    assert_eq!((message.answers.len(), message.edns.is_some()), (1, true));
    assert_eq!(fast(&query).0, Action::Punt);
    let (message, _) = ask(&with_additional(1, &record(rr::TSIG)));
    assert_eq!(message.metadata.response_code, ResponseCode::NotAuth);
}
