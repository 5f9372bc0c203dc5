//! Name server identifier (RFC 5001), and options beside each other.

use crate::dns::{both, option_of};
use redirector_core::verdict::Reason;
use redirector_core::wire::Action;
use redirector_tests::invariants::{self, IMAGE, flow};
use redirector_tests::networks::{BOX_NAME, CLIENT, image, rich};
use redirector_tests::questions::{COOKIE, DnsQuery, ECS, Edns, NSID, PADDING, rr, subnet};
use redirector_tests::slow::{self, DNS_PORT};

const NAME: &str = "x.one.cdn.acme.net";

#[test]
fn query_with_nsid_gets_the_name_of_the_box() {
    for v6 in [false, true] {
        for name in [NAME, "no.such.cdn.acme.net", "web.abc.cdn.acme.net"] {
            let query = DnsQuery::new(name, rr::A).edns(Edns::new(false).option(NSID, b""));
            let reply = both(&*IMAGE, &flow(v6, DNS_PORT), &query.encode());
            assert_eq!(option_of(&reply, NSID), Some(BOX_NAME.into()));
        }
    }
    let query = DnsQuery::new(NAME, rr::A).edns(Edns::new(false)).encode();
    assert_eq!(option_of(&both(&*IMAGE, &flow(false, DNS_PORT), &query), NSID), None);
}

#[test]
fn names_of_any_length_are_told_up_to_their_32nd_byte() {
    let (mut network, states) = rich();
    for length in 0..40 {
        network.box_name = "0123456789abcdefghijklmnopqrstuvwxyz.,;:"[..length].to_owned();
        let image = image(&network, &states);
        let query = DnsQuery::new(NAME, rr::AAAA).edns(Edns::new(false).option(NSID, b"")).encode();
        let reply = both(&image, &flow(true, DNS_PORT), &query);
        assert_eq!(option_of(&reply, NSID), Some(network.box_name.as_bytes()[..length.min(32)].to_vec()));
    }
}

/// RFC 4892: class CHAOS, on the slow path.
#[test]
fn id_server_is_the_name_of_the_box() {
    let ask = |name: &str, qtype| {
        let query = DnsQuery { class: 3, ..DnsQuery::new(name, qtype) }.encode();
        let fast = slow::respond::<_, false>(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS");
        assert_eq!(fast.action, Action::Punt);
        invariants::dns_message(&query);
        let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS");
        let reply = outcome.reply().expect("a reply").to_vec();
        (outcome.trace.reason, reply[query.len()..].to_vec())
    };
    let mut record =
        vec![0xc0, 12, 0, 16, 0, 3, 0, 0, 0, 0, 0, BOX_NAME.len() as u8 + 1, BOX_NAME.len() as u8];
    record.extend(BOX_NAME.bytes());
    for name in ["id.server", "ID.Server", "hostname.bind"] {
        for qtype in [rr::TXT, rr::ANY] {
            assert_eq!(ask(name, qtype), (Reason::BoxName, record.clone()), "{name}");
        }
    }
    for (name, qtype) in
        [("id.server", rr::A), ("server", rr::TXT), ("x.id.server", rr::TXT), ("id.bind", rr::TXT)]
    {
        assert_eq!(ask(name, qtype), (Reason::DnsRefused, vec![]), "{name}");
    }
}

/// All that a query can ask for, in whatever order: the answer has its options in one order.
#[test]
fn options_in_any_order_are_answered_in_one() {
    let client = CLIENT[0].parse().expect("an address");
    let each: [&dyn Fn(Edns) -> Edns; 4] = [
        &|edns| edns.subnet(client, 21),
        &|edns| edns.option(COOKIE, b"a client"),
        &|edns| edns.option(NSID, b""),
        &|edns| edns.option(PADDING, &[0; 5]),
    ];
    for order in 0..256 {
        let places = [order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6];
        let sorted = |mut places: [usize; 4]| {
            places.sort_unstable();
            places
        };
        if sorted(places) != [0, 1, 2, 3] {
            continue;
        }
        let edns = places.iter().fold(Edns::new(true), |edns, place| each[*place](edns));
        let query = DnsQuery::new(NAME, rr::A).edns(edns).encode();
        let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS is spoken here");
        let bytes = outcome.reply().expect("a reply");
        let reply = both(&*IMAGE, &flow(false, DNS_PORT), &query);
        let cookie = option_of(&reply, COOKIE).expect("a cookie");
        let want = Edns::new(true)
            .option(ECS, &subnet(client, 21, 22))
            .option(COOKIE, &cookie)
            .option(NSID, BOX_NAME.as_bytes())
            .encode();
        assert!(bytes.ends_with(&want), "{bytes:02x?} instead of {want:02x?}");
    }
}

#[test]
fn of_an_option_that_is_there_twice_the_last_one_counts() {
    let edns = Edns::new(false).option(COOKIE, b"client 1").option(COOKIE, b"client 2");
    let reply = both(&*IMAGE, &flow(false, DNS_PORT), &DnsQuery::new(NAME, rr::A).edns(edns).encode());
    assert_eq!(option_of(&reply, COOKIE).expect("a cookie")[..8], *b"client 2");
}

#[test]
fn options_beyond_the_fourth_are_for_the_slow_path_which_reads_them() {
    let edns = (0..4).fold(Edns::new(false), |edns, code| edns.option(100 + code, b"")).option(NSID, b"");
    let query = DnsQuery::new(NAME, rr::A).edns(edns).encode();
    let slow = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS is spoken here");
    let reply = invariants::decode(slow.reply().expect("a reply"));
    assert_eq!(option_of(&reply, NSID), Some(BOX_NAME.into()));
    let fast = slow::respond::<_, false>(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS");
    assert_eq!((fast.action, fast.trace.reason), (Action::Punt, Reason::PuntEdns));
}
