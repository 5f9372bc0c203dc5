//! What a choice depends on, and what happens to clients whose servers failed (P-18, P-22).

use crate::dns::answer;
use hickory_proto::rr::RData;
use redirector_core::table::{NONE, TIER_FALLBACK};
use redirector_core::verdict::Reason;
use redirector_core::wire::{Action, cdsr};
use redirector_plan::image::TableImage;
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::networks::{ACME, BETA};
use redirector_tests::questions::{CdsrReply, CdsrRequest, DnsQuery, Opinion, rr};
use redirector_tests::slow::{self, Outcome};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

fn first_address(client: &str, vip: &str, name: &str, id: u16) -> Ipv4Addr {
    let query = DnsQuery { id, ..DnsQuery::new(name, rr::A) };
    match answer(client, vip, &query.encode()).0.answers[0].data {
        RData::A(a) => a.0,
        ref other => panic!("{other:?}"),
    }
}

/// Distinct first answers.
fn different(answers: impl IntoIterator<Item = Ipv4Addr>) -> usize {
    answers.into_iter().collect::<BTreeSet<_>>().len()
}

#[test]
fn clients_of_one_prefix_get_equal_answers_and_others_are_spread() {
    let name = "x.web.abc.cdn.acme.net";
    let within = (0..50).map(|n| first_address(&format!("198.51.100.{n}"), ACME[0], name, n));
    assert_eq!(different(within), 1, "one /24");
    let within6 = (0..50).map(|n| first_address(&format!("2001:db8:900:{n:x}::{n:x}"), ACME[1], name, n));
    assert_eq!(different(within6), 1, "one /48");
    let across = (0..50).map(|n| first_address(&format!("198.51.{n}.1"), ACME[0], name, 1));
    assert!(different(across) > 1, "many /24");
    let across6 = (0..50).map(|n| first_address(&format!("2001:db8:9{n:02}::1"), ACME[1], name, 1));
    assert!(different(across6) > 1, "many /48");
}

#[test]
fn choice_by_client_depends_on_the_whole_address_alone() {
    let name = |n| format!("x.c{n}.tv.cdn.acme.net");
    let one = (0..50).map(|n| first_address("198.51.100.7", ACME[0], &name(n), n));
    assert_eq!(different(one), 1);
    let many = (0..50).map(|n| first_address(&format!("198.51.100.{n}"), ACME[0], &name(0), 1));
    assert!(different(many) > 3);
}

#[test]
fn choice_by_content_depends_on_the_name_alone() {
    let name = |n| format!("a.b.c{n}.object.deep.acme.net");
    let one = (0..50).map(|n| first_address(&format!("198.51.{n}.{n}"), ACME[0], &name(0), n));
    assert_eq!(different(one), 1);
    let many = (0..50).map(|n| first_address("198.51.100.7", ACME[0], &name(n), 1));
    assert!(different(many) > 3);
    // Another CDN's service of the same kind.
    assert!(
        different((0..50).map(|n| first_address(
            "198.51.100.7",
            BETA[0],
            &format!("o{n}.x.cdn.beta.example"),
            1
        ))) > 1
    );
}

#[test]
fn choice_that_spreads_depends_on_the_query() {
    let spread = |id| first_address("198.51.100.7", ACME[0], "x.web.other.cdn.acme.net", id);
    assert!(different((0..50).map(spread)) > 3, "one client's queries");
    assert_eq!(different([spread(7), spread(7)]), 1, "the same query again");
}

/// The answer to a request that names these servers as failed.
fn without(url: &str, failed: &BTreeSet<IpAddr>) -> CdsrReply {
    let servers = failed.iter().map(|address| (*address, Opinion::Failed)).collect();
    let request = CdsrRequest { max_endpoints: 1, length: 300, servers, ..CdsrRequest::new(url) }.encode();
    redirector_tests::invariants::cdsr_request(&request);
    let outcome = slow::answer(&*IMAGE, &flow(false, cdsr::PORT), &request).expect("CDSR is spoken here");
    CdsrReply::read(outcome.reply().expect("a reply")).expect("a sound reply")
}

#[test]
fn client_whose_servers_fail_is_led_through_its_tier_then_the_next_then_told_to_wait() {
    let (mut failed, mut reasons) = (BTreeSet::new(), Vec::new());
    // Region `de` has servers 0 and 1, then everybody's 2 and 4 to 9; 3 is down.
    let last = loop {
        let reply = without("http://abc.web.cdn.acme.net/x", &failed);
        let Some(endpoint) = reply.endpoints.first() else { break reply };
        reasons.push(reply.reason);
        assert!(failed.insert(endpoint.address), "{} again", endpoint.address);
        if failed.len() == 8 {
            // No more fit into a request. A service with one server in this region and one for everybody.
            break without(
                "http://one.acme.net/",
                &["192.0.2.0", "192.0.2.2"].map(|ip| ip.parse().unwrap()).into(),
            );
        }
    };
    let [first, later] = [Reason::FirstTier, Reason::LaterTier].map(|reason| reason as u16);
    assert_eq!(reasons, [first, first, later, later, later, later, later, later]);
    assert_eq!((last.status, last.reason), (2, Reason::AllExcluded as u16));
}

#[test]
fn client_whose_fallback_failed_is_told_to_wait() {
    let mut failed = BTreeSet::new();
    for _ in 0..2 {
        let reply = without("http://fallback.acme.net/", &failed);
        assert_eq!(reply.reason, Reason::Fallback as u16);
        assert!(failed.insert(reply.endpoints[0].address));
    }
    let reply = without("http://fallback.acme.net/", &failed);
    assert_eq!((reply.status, reply.reason), (2, Reason::AllExcluded as u16));
}

/// Tables never look like this; if a bug made them so, packets must still come to an end.
#[test]
fn tables_that_contradict_themselves_never_cause_a_loop() {
    type Change = fn(&mut TableImage);
    let changes: [Change; 5] = [
        |image| image.records.iter_mut().for_each(|record| record.tier = TIER_FALLBACK - 1),
        |image| image.records.iter_mut().enumerate().for_each(|(n, record)| record.next = n as u32),
        |image| {
            image
                .records
                .iter_mut()
                .for_each(|record| (record.branch, record.base, record.refs) = (1, 0, [0; 8]))
        },
        |image| image.records.iter_mut().for_each(|record| record.thresholds = [0; 8]),
        |image| image.records.iter_mut().for_each(|record| record.next = NONE - 1),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut image = IMAGE.clone();
        change(&mut image);
        for url in ["http://fallback.acme.net/", "http://abc.web.cdn.acme.net/x", "http://vast.acme.net/"] {
            let known = slow::answer(&*IMAGE, &flow(false, cdsr::PORT), &CdsrRequest::new(url).encode());
            let known =
                CdsrReply::read(known.expect("CDSR").reply().expect("a reply")).expect("a sound reply");
            let servers =
                known.endpoints.iter().map(|endpoint| (endpoint.address, Opinion::Failed)).collect();
            let request = CdsrRequest { servers, length: 300, ..CdsrRequest::new(url) }.encode();
            let outcome =
                slow::answer(&image, &flow(false, cdsr::PORT), &request).expect("CDSR is spoken here");
            let Outcome { action, trace, .. } = outcome;
            let noticed = trace.reason == Reason::PuntTable;
            assert!(action == Action::Reply || noticed, "change {number}, {url}: {:?}", trace.reason);
        }
    }
}
