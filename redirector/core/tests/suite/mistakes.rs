//! Mistakes that other in-kernel DNS responders were seen to make, one test each: what is sent and what must come back,
//! byte for byte, from both paths.

use redirector_core::verdict::Reason;
use redirector_tests::agreement::{Action, FastPath as _, Native, judge};
use redirector_tests::frames::ETHERNET;
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::slow::{self, DNS_PORT};

/// x.one.cdn.acme.net A IN
const QUESTION: &str = "0178036f6e650363646e0461636d65036e65740000010001";
/// A 192.0.2.0, kept for 600 seconds.
const RECORD: &str = "c00c00010001000002580004c0000200";
/// From 10.1.2.3, port 40000, to 203.0.113.1, port 53: Ethernet to UDP without checksum, for 36 bytes of query.
const HEADERS: &str = "0200000000010200000000020800\
    4500004000000000401132a80a010203cb007101\
    9c400035002c0000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("text"), 16).expect("hex")).collect()
}

/// Both paths answer the query so, over both IP versions.
#[track_caller]
fn answered(query: &str, reply: &str) {
    for v6 in [false, true] {
        let outcome = slow::answer(&*IMAGE, &flow(v6, DNS_PORT), &bytes(query)).expect("DNS is spoken here");
        assert_eq!(outcome.reply(), Some(&*bytes(reply)), "the slow path");
        let frame = flow(v6, DNS_PORT).frame(&bytes(query));
        let (action, after) = Native::new(&*IMAGE).run(&frame);
        assert_eq!((action, judge(&*IMAGE, &frame, action, &after)), (Action::Transmit, Ok(())));
        assert!(after.ends_with(&bytes(reply)), "the fast path: {after:02x?}");
    }
}

/// The fast path passes a frame on as it is.
#[track_caller]
fn untouched(frame: &[u8], reason: Reason) {
    let mut native = Native::new(&*IMAGE);
    assert_eq!((native.run(frame), native.reason()), ((Action::Pass, frame.to_vec()), reason));
}

#[test]
fn names_in_mixed_case_are_found_and_come_back_as_they_came() {
    let question = "0158036f4e450363646e0461434d65034e65740000010001";
    answered(
        &format!("abcd01000001000000000000{question}"),
        &format!("abcd85000001000100000000{question}{RECORD}"),
    );
}

#[test]
fn answer_in_a_vlan_stands_behind_the_tag() {
    let mut query = bytes(&format!("{HEADERS}abcd01000001000000000000{QUESTION}"));
    query.splice(12..12, bytes("8100a005"));
    let (action, reply) = Native::new(&*IMAGE).run(&query);
    assert_eq!(action, Action::Transmit);
    // Addresses turned round; length 80 with a fresh checksum; ports turned round.
    let want = "0200000000020200000000018100a0050800\
        45000050000040004011f297cb0071010a010203\
        00359c40003c0000abcd85000001000100000000";
    assert_eq!(reply, bytes(&format!("{want}{QUESTION}{RECORD}")));
}

#[test]
fn fragments_are_never_answered() {
    for offset in ["2000", "0001", "20b9", "1fff"] {
        let fragment = HEADERS.replace("4500004000000000", &format!("450000400000{offset}"));
        assert_ne!(fragment, HEADERS);
        untouched(&bytes(&format!("{fragment}abcd01000001000000000000{QUESTION}")), Reason::PuntFragment);
    }
}

#[test]
fn no_question_and_two_questions_are_malformed() {
    for (query, questions) in [
        ("abcd01000000000000000000".to_owned(), ""),
        (format!("abcd01000002000000000000{QUESTION}"), QUESTION),
    ] {
        let flow = flow(false, DNS_PORT);
        let message = bytes(&format!("{query}{questions}"));
        let outcome = slow::answer(&*IMAGE, &flow, &message).expect("DNS is spoken here");
        assert_eq!(outcome.reply(), Some(&*bytes("abcd81010000000000000000")));
        untouched(&flow.frame(&message), Reason::PuntDnsForm);
    }
}

/// Counts stand in network order, that of the additional section included.
#[test]
fn edns_record_is_counted_as_one_and_not_as_256() {
    answered(
        &format!("abcd00000001000000000001{QUESTION}0000291000000000000000"),
        &format!("abcd84000001000100000001{QUESTION}{RECORD}00002904d0000000000000"),
    );
    // A query that counts 256 records has none of them.
    let message = bytes(&format!("abcd00000001000000000100{QUESTION}0000291000000000000000"));
    let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &message).expect("DNS is spoken here");
    assert_eq!(outcome.reply(), Some(&*bytes("abcd80010000000000000000")));
}

#[test]
fn unknown_edns_version_is_badvers_and_not_an_answer() {
    answered(
        &format!("abcd01000001000000000001{QUESTION}0000290200000180000000"),
        &format!("abcd81000001000000000001{QUESTION}00002904d0010080000000"),
    );
}

#[test]
fn answers_are_authoritative_and_offer_no_recursion() {
    for (asked, told) in [("0000", "8400"), ("0100", "8500"), ("0110", "8510"), ("00a0", "8400")] {
        answered(
            &format!("abcd{asked}0001000000000000{QUESTION}"),
            &format!("abcd{told}0001000100000000{QUESTION}{RECORD}"),
        );
    }
}

#[test]
fn absent_names_and_types_are_told_by_their_code_and_a_soa() {
    // Zone at 20 and 18: negative TTL 60, ns1, hostmaster, serial 7.
    let soa = |zone: &str| {
        format!(
            "{zone}000600010000003c0027036e7331{zone}0a686f73746d6173746572{zone}\
             0000000700000e1000000258000151800000003c"
        )
    };
    let nothing = "026e6f04737563680363646e0461636d65036e65740000010001";
    answered(
        &format!("abcd00000001000000000000{nothing}"),
        &format!("abcd84030001000000010000{nothing}{}", soa("c014")),
    );
    let https = QUESTION.replace("0000010001", "0000410001");
    answered(
        &format!("abcd00000001000000000000{https}"),
        &format!("abcd84000001000000010000{https}{}", soa("c012")),
    );
}

#[test]
fn ethernet_padding_is_no_part_of_the_query() {
    let query = bytes(&format!("{HEADERS}abcd01000001000000000000{QUESTION}"));
    let bare = Native::new(&*IMAGE).run(&query);
    assert_eq!(bare.0, Action::Transmit);
    for padding in 1..64 {
        assert_eq!(Native::new(&*IMAGE).run(&[&query[..], &vec![0x55; padding]].concat()), bare);
    }
}

#[test]
fn question_for_the_root_without_edns_is_refused() {
    let message = bytes("abcd010000010000000000000000020001");
    let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &message).expect("DNS is spoken here");
    assert_eq!(outcome.reply(), Some(&*bytes("abcd810500010000000000000000020001")));
    untouched(&flow(false, DNS_PORT).frame(&message), Reason::PuntNotOurZone);
}

#[test]
fn what_is_not_dns_passes_up() {
    let query = bytes(&format!("{HEADERS}abcd01000001000000000000{QUESTION}"));
    for (place, value, reason) in [
        // ARP, TCP and ICMP, another port, another host.
        (13, 6, Reason::PassEtherType),
        (ETHERNET + 9, 6, Reason::PuntNotUdp),
        (ETHERNET + 9, 1, Reason::PuntNotUdp),
        (ETHERNET + 23, 54, Reason::PuntPort),
        (ETHERNET + 19, 9, Reason::NotVip),
    ] {
        let mut other = query.clone();
        other[place] = value;
        untouched(&other, reason);
    }
}

/// Without one, IPv6 datagrams are dropped on the way (RFC 8200 section 8.1).
#[test]
fn replies_over_ipv6_have_a_checksum() {
    let query = flow(true, DNS_PORT).frame(&bytes(&format!("abcd01000001000000000000{QUESTION}")));
    let (action, reply) = Native::new(&*IMAGE).run(&query);
    assert_eq!((action, judge(&*IMAGE, &query, action, &reply)), (Action::Transmit, Ok(())));
    assert_ne!(reply[ETHERNET + 46..ETHERNET + 48], [0, 0]);
    let mut without = query;
    without[ETHERNET + 46..ETHERNET + 48].fill(0);
    untouched(&without, Reason::PuntChecksum);
}
