//! DNS messages that are no good questions: an error or silence, never an answer.

use crate::dns::answer;
use hickory_proto::op::{Message, ResponseCode};
use redirector_core::verdict::Reason;
use redirector_core::wire::Action;
use redirector_tests::invariants::{self, IMAGE, flow};
use redirector_tests::networks::{ACME, CLIENT};
use redirector_tests::questions::{DnsQuery, Edns, QR, dns_header, rr};
use redirector_tests::slow::{self, DNS_PORT};

const NAME: &str = "x.one.cdn.acme.net";

fn ask(query: &[u8]) -> (Message, Reason) {
    answer(CLIENT[0], ACME[0], query)
}

/// A header with these counts before a sound question.
fn counted(counts: [u16; 4]) -> Vec<u8> {
    [dns_header(9, 0x0100, counts), DnsQuery::new(NAME, rr::A).question()].concat()
}

/// FORMERR of a header alone: what could not be read is not repeated.
#[track_caller]
fn assert_formerr(query: &[u8]) {
    let (message, reason) = ask(query);
    assert_eq!((message.metadata.response_code, reason), (ResponseCode::FormErr, Reason::DnsFormErr));
    assert!(message.queries.is_empty() && message.edns.is_none());
}

fn is_silent(query: &[u8]) -> bool {
    invariants::dns_message(query);
    let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), query).expect("DNS is spoken here");
    outcome.action == Action::Ignore
}

#[test]
fn questions_other_than_one_are_formerr() {
    for count in [0, 2, 3, 256, 65_535] {
        assert_formerr(&counted([count, 0, 0, 0]));
    }
    assert_formerr(&dns_header(9, 0, [0; 4]));
    let two = [counted([2, 0, 0, 0]), DnsQuery::new(NAME, rr::AAAA).question()].concat();
    assert_formerr(&two);
}

#[test]
fn records_where_a_query_has_none_are_formerr() {
    for counts in [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 256, 0, 0], [1, 0, 0, 256]] {
        assert_formerr(&counted(counts));
    }
}

#[test]
fn compression_in_the_question_is_formerr() {
    for name in [&b"\xc0\x0c"[..], b"\x01x\xc0\x0c", b"\x01x\xc0\x00", b"\x40abc\0", b"\x80\0"] {
        let question = [name, &[0, 1, 0, 1]].concat();
        assert_formerr(&[dns_header(9, 0, [1, 0, 0, 0]), question].concat());
    }
}

#[test]
fn trailing_garbage_is_formerr() {
    for tail in [&b"\0"[..], b"garbage", &[0; 100]] {
        assert_formerr(&[&DnsQuery::new(NAME, rr::A).encode(), tail].concat());
        assert_formerr(&[&DnsQuery::new(NAME, rr::A).edns(Edns::new(false)).encode(), tail].concat());
    }
}

#[test]
fn messages_cut_at_any_length_are_formerr_or_ignored() {
    let whole = DnsQuery::new(NAME, rr::A).edns(Edns::new(true).option(10, &[7; 8])).encode();
    for length in 0..whole.len() {
        match length {
            0..12 => assert!(is_silent(&whole[..length]), "{length} bytes"),
            _ => assert_formerr(&whole[..length]),
        }
    }
    assert_eq!(ask(&whole).0.answers.len(), 1);
}

#[test]
fn replies_are_never_answered() {
    for flags in [QR, QR | 0x0100, QR | 0x8583, 0xffff] {
        assert!(is_silent(&DnsQuery { flags, ..DnsQuery::new(NAME, rr::A) }.encode()), "{flags:04x}");
    }
    // Nor are our own, whatever they say.
    for query in
        [DnsQuery::new(NAME, rr::A), DnsQuery::new("no.such.cdn.acme.net", rr::A), DnsQuery::new("", rr::NS)]
    {
        let outcome =
            slow::answer(&*IMAGE, &flow(false, DNS_PORT), &query.encode()).expect("DNS is spoken here");
        assert!(is_silent(outcome.reply().expect("a reply")));
    }
}

#[test]
fn other_operations_are_not_implemented() {
    for operation in 1..16 {
        let query = DnsQuery { flags: operation << 11, ..DnsQuery::new(NAME, rr::A) }.encode();
        let (message, reason) = ask(&query);
        assert_eq!((message.metadata.response_code, reason), (ResponseCode::NotImp, Reason::DnsNotImp));
        assert_eq!(u8::from(message.metadata.op_code), operation as u8, "the operation is repeated");
        assert!(message.queries.is_empty());
    }
}
