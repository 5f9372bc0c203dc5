//! DNS cookies (RFC 7873, RFC 9018). Both paths are asked; the cookies expected are computed by another implementation.

use crate::dns::{both, option_of};
use hickory_proto::op::ResponseCode;
use redirector_core::verdict::Reason;
use redirector_core::wire::{Action, Asked, Buffer, Message as _, Scratch, dns};
use redirector_plan::image::TableImage;
use redirector_tests::frames::Flow;
use redirector_tests::invariants::{self, IMAGE, flow};
use redirector_tests::networks::rich;
use redirector_tests::questions::{COOKIE, DnsQuery, Edns, dns_header, rr, server_cookie};
use redirector_tests::slow::{self, AtTime, DNS_PORT};

const NAME: &str = "x.one.cdn.acme.net";
const CLIENT_COOKIE: [u8; 8] = *b"a client";
/// Some moment; those of the other century prove that seconds are counted modulo 2^32.
const MOMENTS: [u32; 3] = [1_795_000_000, 100, u32::MAX - 100];

fn query(cookie: &[u8]) -> Vec<u8> {
    DnsQuery::new(NAME, rr::A).edns(Edns::new(false).option(COOKIE, cookie)).encode()
}

/// The server cookie that a client gets at a moment.
fn made(flow: &Flow, seconds: u32) -> [u8; 16] {
    server_cookie(rich().0.key, CLIENT_COOKIE, seconds, flow.client.ip())
}

/// The server cookie in the answer to a query with this one, asked at a moment.
#[track_caller]
fn answered(flow: &Flow, server: &[u8], now: u32) -> Vec<u8> {
    let tables = AtTime(&*IMAGE, now);
    let reply = both(&tables, flow, &query(&[&CLIENT_COOKIE, server].concat()));
    assert_eq!(reply.answers.len(), 1, "a cookie, good or bad, changes no answer");
    let cookie = option_of(&reply, COOKIE).expect("a cookie");
    assert_eq!(cookie[..8], CLIENT_COOKIE);
    cookie[8..].to_vec()
}

#[test]
fn client_that_sends_its_cookie_gets_a_server_cookie() {
    for flow in [flow(false, DNS_PORT), flow(true, DNS_PORT)] {
        for now in MOMENTS {
            assert_eq!(answered(&flow, b"", now), made(&flow, now));
        }
    }
}

/// RFC 9018 section 4.3: an hour old at most, five minutes ahead at most, new after half an hour.
#[test]
fn good_cookie_is_given_back_until_it_is_half_an_hour_old() {
    for flow in [flow(false, DNS_PORT), flow(true, DNS_PORT)] {
        for now in MOMENTS {
            for age in [-300i32, -1, 0, 1, 1800] {
                let cookie = made(&flow, now.wrapping_sub(age as u32));
                assert_eq!(answered(&flow, &cookie, now), cookie, "{age} s old");
            }
            for age in [i32::MIN, -301, 1801, 3600, 3601, i32::MAX] {
                let cookie = made(&flow, now.wrapping_sub(age as u32));
                assert_eq!(answered(&flow, &cookie, now), made(&flow, now), "{age} s old");
            }
        }
    }
}

#[test]
fn forged_and_foreign_cookies_are_answered_with_a_good_one() {
    let (here, now) = (flow(false, DNS_PORT), MOMENTS[0]);
    let good = made(&here, now);
    for place in 0..16 {
        let mut forged = good;
        forged[place] ^= 1;
        assert_eq!(answered(&here, &forged, now), good, "byte {place} changed");
    }
    for foreign in [&[1; 8][..], &[1; 15], &[1; 17], &[1; 32]] {
        assert_eq!(answered(&here, foreign, now), good, "{} bytes", foreign.len());
    }
    let mut there = here;
    there.client.set_ip([10, 1, 2, 4].into());
    assert_eq!(answered(&there, &good, now), made(&there, now), "another client's");
}

/// RFC 9018 section 4.2: a server must not insist on zeros in the reserved bytes, but hash what they are.
#[test]
fn reserved_bytes_are_part_of_what_is_hashed() {
    let here = flow(false, DNS_PORT);
    let (now, mut secret) = (1_559_727_985, IMAGE.clone());
    let half = |hex: u64| hex.swap_bytes();
    secret.meta.cookie_secret = [half(0xe5e9_73e5_a6b2_a43f), half(0x48e7_dc84_9e37_bfcf)];
    let there = Flow { client: "203.0.113.203:5".parse().expect("an address"), ..here };
    // Appendix A.3, within the half hour in which it is given back.
    let cookie = [0xfc93_fc62_807d_db86u64, 0x01ab_cdef_5cf7_8f71, 0xa314_227b_6679_ebf5]
        .map(u64::to_be_bytes)
        .concat();
    let reply = both(&AtTime(&secret, now), &there, &query(&cookie));
    assert_eq!(option_of(&reply, COOKIE), Some(cookie));
}

/// Whether a query counts as one with a good cookie, for who limits rates.
fn is_valid(flow: &Flow, image: &TableImage, now: u32, cookie: &[u8]) -> bool {
    let tables = AtTime(image, now);
    let vip = slow::vip(image, flow.vip.ip()).expect("a VIP");
    let client = redirector_core::decide::Client::new(flow.client.ip());
    let asked = Asked { vip: &vip, client, port: 1, room: 512 };
    let message = query(cookie);
    let mut bytes = [&message[..], &[0; dns::MAX_REPLY]].concat();
    let mut buffer = Buffer::new(&mut bytes, message.len());
    let mut scratch = Scratch::default();
    assert_eq!(dns::respond::<_, _, true>(&mut buffer, &asked, &tables, &mut scratch), Action::Reply);
    assert!(buffer.len() > message.len());
    scratch.dns.has_valid_cookie()
}

#[test]
fn query_is_known_to_have_a_good_cookie_only_if_it_has() {
    let (here, now) = (flow(true, DNS_PORT), MOMENTS[0]);
    let valid = |cookie: &[u8]| is_valid(&here, &IMAGE, now, &[&CLIENT_COOKIE, cookie].concat());
    assert!(valid(&made(&here, now)) && valid(&made(&here, now - 3600)) && valid(&made(&here, now + 300)));
    assert!(!valid(b"") && !valid(&made(&here, now - 3601)) && !valid(&made(&here, now + 301)));
    assert!(!valid(&[0; 16]) && !valid(&[1; 9]));
}

#[test]
fn cookies_of_impossible_length_are_formerr_from_both_paths() {
    for length in (0..8).chain(9..16).chain(41..50) {
        let reply = both(&*IMAGE, &flow(false, DNS_PORT), &query(&vec![1; length]));
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{length} bytes");
        assert_eq!((reply.queries.len(), option_of(&reply, COOKIE)), (1, None));
    }
}

#[test]
fn every_kind_of_answer_carries_the_cookie() {
    for name in ["no.such.cdn.acme.net", "web.abc.cdn.acme.net", "x.nothing.cdn.acme.net", "ns1.cdn.acme.net"]
    {
        let query = DnsQuery::new(name, rr::A).edns(Edns::new(false).option(COOKIE, &CLIENT_COOKIE));
        assert!(
            option_of(&both(&*IMAGE, &flow(true, DNS_PORT), &query.encode()), COOKIE).is_some(),
            "{name}"
        );
    }
    for query in [
        DnsQuery::new("www.acme.org", rr::A),
        DnsQuery { class: 3, ..DnsQuery::new(NAME, rr::A) },
        DnsQuery::new("cdn.acme.net", rr::NS),
    ] {
        let query = query.edns(Edns::new(false).option(COOKIE, &CLIENT_COOKIE)).encode();
        let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS is spoken here");
        let reply = invariants::decode(outcome.reply().expect("a reply"));
        assert!(option_of(&reply, COOKIE).is_some(), "{reply:?}");
    }
}

/// RFC 7873 section 5.4.
#[test]
fn query_without_question_gets_a_cookie_or_is_told_that_its_own_is_bad() {
    let here = flow(false, DNS_PORT);
    let ask = |cookie: &[u8]| {
        let edns = Edns::new(false).option(COOKIE, cookie).encode();
        let query = [dns_header(9, 0, [0, 0, 0, 1]), edns].concat();
        let outcome = slow::answer(&AtTime(&*IMAGE, 5), &here, &query).expect("DNS is spoken here");
        assert_eq!(outcome.trace.reason, Reason::DnsCookie);
        let reply = invariants::decode(outcome.reply().expect("a reply"));
        assert!(reply.queries.is_empty() && reply.answers.is_empty() && !reply.metadata.authoritative);
        assert_eq!(option_of(&reply, COOKIE), Some([&CLIENT_COOKIE[..], &made(&here, 5)].concat()));
        u16::from(reply.metadata.response_code)
    };
    assert_eq!(ask(&CLIENT_COOKIE), 0);
    assert_eq!(ask(&[&CLIENT_COOKIE[..], &made(&here, 5)].concat()), 0);
    assert_eq!(ask(&[&CLIENT_COOKIE[..], &[1; 16]].concat()), 23);
}
