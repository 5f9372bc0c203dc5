//! EDNS client subnet (RFC 7871): for whom an answer is, and how widely it holds.

use crate::dns::{both, option_of};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use redirector_core::table::{CHOOSE_CLIENT, CHOOSE_CLIENT_PREFIX, CHOOSE_CONTENT, CHOOSE_SPREAD, Tables};
use redirector_core::verdict::Reason;
use redirector_core::wire::dns::UDP_LIMIT;
use redirector_plan::image::TableImage;
use redirector_tests::generate::Random;
use redirector_tests::invariants::{self, IMAGE, flow};
use redirector_tests::questions::{DnsQuery, ECS, Edns, rr, subnet};
use redirector_tests::slow::{self, DNS_PORT};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Its clients in region `de` get target 0, all others target 2.
const ONE: &str = "x.one.cdn.acme.net";

/// The rich network with every service choosing by one thing.
fn choosing_by(kind: u8) -> TableImage {
    let mut image = IMAGE.clone();
    image.services.iter_mut().for_each(|service| service.choose_by = kind);
    image
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What a resolver at 10.3.0.1 (region `uk`) gets on behalf of a network.
#[track_caller]
fn ask<T: Tables>(tables: &T, name: &str, qtype: u16, option: &[u8]) -> Message {
    let mut flow = flow(false, DNS_PORT);
    flow.client.set_ip(ip("10.3.0.1"));
    let edns = Edns::new(false).option(ECS, option);
    both(tables, &flow, &DnsQuery::new(name, qtype).edns(edns).encode())
}

/// The answer to a network: the option must be repeated; gives the servers and the scope.
#[track_caller]
fn served(tables: &TableImage, name: &str, network: &str) -> (Vec<IpAddr>, u8) {
    let (address, length) = network.split_once('/').expect("a prefix");
    let (address, length) = (ip(address), length.parse().expect("a length"));
    let reply = ask(tables, name, rr::A, &subnet(address, length, 0));
    let option = option_of(&reply, ECS).expect("the option is repeated");
    let scope = option[3];
    assert_eq!(option, subnet(address, length, scope), "{network}");
    let server = |data: &RData| match data {
        RData::A(a) => IpAddr::V4(a.0),
        other => panic!("{other:?}"),
    };
    (reply.answers.iter().map(|record| server(&record.data)).collect(), scope)
}

#[test]
fn answer_is_for_the_clients_network_and_not_for_the_resolver() {
    for (network, server) in [
        // Region de, and what lies in it but is not.
        ("10.1.2.0/24", "192.0.2.0"),
        ("10.1.2.3/32", "192.0.2.0"),
        ("10.1.0.0/16", "192.0.2.0"),
        ("10.1.7.0/24", "192.0.2.2"),
        ("192.168.0.0/20", "192.0.2.0"),
        ("192.168.128.0/20", "192.0.2.2"),
        ("2001:db8:100::/48", "192.0.2.0"),
        ("2001:db8:100:8::/64", "192.0.2.0"),
        ("2001:db8:100:7::/64", "192.0.2.2"),
        ("2a00::/12", "192.0.2.0"),
        ("2a00::1/128", "192.0.2.0"),
        ("2001:db8:200::/48", "192.0.2.2"),
        // No region.
        ("8.8.8.0/24", "192.0.2.2"),
        ("8.0.0.0/5", "192.0.2.2"),
    ] {
        assert_eq!(served(&IMAGE, ONE, network).0, [ip(server)], "{network}");
    }
}

/// By client prefix: the widest prefix of one region, but not wider than /24 or /48.
#[test]
fn scope_is_the_widest_prefix_of_one_region_and_one_choice() {
    let image = choosing_by(CHOOSE_CLIENT_PREFIX);
    for (network, scope) in [
        ("10.1.2.0/24", 24),
        ("10.1.0.0/16", 24),
        ("10.1.2.3/32", 24),
        // 10.1.9.9 is of another region.
        ("10.1.9.0/24", 29),
        ("10.1.9.9/32", 32),
        ("10.1.9.8/32", 32),
        ("8.8.8.0/24", 24),
        ("2001:db8:100::/40", 62),
        ("2001:db8:100:4::/64", 63),
        ("2001:db8:100:7::/64", 125),
        ("2001:db8:100:7::9/128", 128),
        ("2001:db8:200:1::/64", 48),
    ] {
        assert_eq!(served(&image, ONE, network).1, scope, "{network}");
    }
}

#[test]
fn scope_follows_what_the_service_chooses_by() {
    for (kind, scope) in
        [(CHOOSE_CLIENT_PREFIX, 24), (CHOOSE_CLIENT, 28), (CHOOSE_CONTENT, 16), (CHOOSE_SPREAD, 16)]
    {
        let image = choosing_by(kind);
        // Region fr has all of 10.2.0.0/16 and nothing beside it, and de nothing wider than 10.1.9.0/29.
        assert_eq!(served(&image, ONE, "10.2.3.16/28").1, scope, "choice {kind}");
        assert_eq!(served(&image, ONE, "10.1.9.0/24").1, 29, "choice {kind}");
    }
}

#[test]
fn length_0_is_answered_for_the_sender_with_scope_0() {
    for option in [&[0, 1, 0, 0][..], &[0, 2, 0, 0], &[0, 0, 0, 0]] {
        let edns = Edns::new(false).option(ECS, option);
        let query = DnsQuery::new(ONE, rr::A).edns(edns).encode();
        // The client of region de.
        let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS is spoken here");
        let bytes = outcome.reply().expect("a reply");
        assert!(bytes.ends_with(&Edns::new(false).option(ECS, option).encode()), "{bytes:02x?}");
        let reply = both(&*IMAGE, &flow(false, DNS_PORT), &query);
        assert_eq!(reply.answers[0].data.to_string(), "192.0.2.0");
    }
    assert_eq!(UDP_LIMIT, Edns::new(false).size, "both records are alike but for the option");
}

#[test]
fn answers_that_are_the_same_for_everybody_have_scope_0() {
    for (name, qtype) in [
        ("no.such.cdn.acme.net", rr::A),
        ("web.abc.cdn.acme.net", rr::A),
        (ONE, rr::HTTPS),
        ("x.four.cdn.acme.net", rr::AAAA),
        ("x.vip.cdn.acme.net", rr::A),
        ("ns1.cdn.acme.net", rr::A),
    ] {
        let reply = ask(&*IMAGE, name, qtype, &subnet(ip("10.1.9.0"), 24, 0));
        assert_eq!(option_of(&reply, ECS), Some(subnet(ip("10.1.9.0"), 24, 0)), "{name}");
    }
    for (name, qtype) in [("cdn.acme.net", rr::SOA), ("cdn.acme.net", rr::NS), ("www.acme.org", rr::A)] {
        let edns = Edns::new(false).subnet(ip("10.1.9.0"), 24);
        let query = DnsQuery::new(name, qtype).edns(edns).encode();
        let outcome = slow::answer(&*IMAGE, &flow(false, DNS_PORT), &query).expect("DNS is spoken here");
        let reply = invariants::decode(outcome.reply().expect("a reply"));
        assert_eq!(option_of(&reply, ECS), Some(subnet(ip("10.1.9.0"), 24, 0)), "{name}");
    }
}

/// In some regions there may be servers.
#[test]
fn lack_of_servers_has_the_scope_of_the_region() {
    let reply = ask(&*IMAGE, "x.france.cdn.acme.net", rr::A, &subnet(ip("10.1.9.0"), 24, 0));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(option_of(&reply, ECS), Some(subnet(ip("10.1.9.0"), 24, 29)));
}

/// Who asks for a network is asked for as if its first address had asked, whatever the names' services choose by.
#[test]
fn network_gets_what_its_first_address_would_get() {
    let mut random = Random::new(5);
    for _ in 0..20_000 {
        let bits = random.bits();
        let (address, longest): (IpAddr, u8) = if bits & 1 == 0 {
            (Ipv4Addr::from_bits(0x0a00_0000 | (bits >> 8) as u32 & 0x0007_ffff).into(), 32)
        } else {
            let low = u128::from(random.bits()) << 64 | u128::from(bits);
            (Ipv6Addr::from_bits(0x2001_0db8 << 96 | low & ((1 << 90) - 1)).into(), 128)
        };
        let length = random.below(usize::from(longest)) as u8 + 1;
        let first = ipnet::IpNet::new(address, length).expect("a length").network();
        // They choose by client prefix, client and content.
        let name = ["x.web.abc.cdn.acme.net", "x.abc.tv.cdn.acme.net", "a.b.c.object.deep.acme.net"]
            [random.below(3)];
        let Some(source) = is_client(first).then_some(first) else { continue };
        let mut own = flow(source.is_ipv6(), DNS_PORT);
        own.client.set_ip(source);
        let direct = both(&*IMAGE, &own, &DnsQuery::new(name, rr::A).edns(Edns::new(false)).encode());
        let mut resolver = own;
        resolver.client.set_ip(ip(if source.is_ipv6() { "2001:db8:300::1" } else { "10.3.0.1" }));
        let edns = Edns::new(false).subnet(source, length);
        let on_behalf = both(&*IMAGE, &resolver, &DnsQuery::new(name, rr::A).edns(edns).encode());
        assert_eq!(on_behalf.answers, direct.answers, "{source}/{length} {name}");
    }
}

fn is_client(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] != 0,
        IpAddr::V6(v6) => v6.to_bits() >> 112 == 0x2001,
    }
}

/// Every client in the scope gets the very answer, asked for alone, by whatever the service chooses.
#[test]
fn all_networks_in_the_scope_get_the_same_answer() {
    let images = [CHOOSE_CLIENT_PREFIX, CHOOSE_CONTENT].map(choosing_by);
    let mut random = Random::new(6);
    for round in 0..3_000 {
        let image = &images[round % 2];
        let bits = random.bits();
        let network = format!("{}/24", Ipv4Addr::from_bits(0x0a00_0000 | bits as u32 & 0x0003_ff00));
        let name = "x.web.abc.cdn.acme.net";
        let (servers, scope) = served(image, name, &network);
        let (first, _) = network.split_once('/').expect("a prefix");
        let around = ipnet::IpNet::new(ip(first), scope).expect("a scope");
        let IpAddr::V4(base) = around.network() else { panic!("IPv4") };
        let IpAddr::V4(spare) = around.hostmask() else { panic!("IPv4") };
        let inside = Ipv4Addr::from_bits(base.to_bits() | random.bits() as u32 & spare.to_bits());
        assert_eq!(served(image, name, &format!("{inside}/32")), (servers, scope), "{inside} in {around}");
    }
}

#[test]
fn malformed_subnets_are_formerr_from_both_paths() {
    let long = [&[0, 2, 128, 0][..], &[1; 17]].concat();
    for option in [
        &b""[..],
        &[0],
        &[0, 1, 24],
        // Too few and too many bytes of address.
        &[0, 1, 24, 0],
        &[0, 1, 24, 0, 10, 1],
        &[0, 1, 24, 0, 10, 1, 2, 0],
        &[0, 1, 0, 0, 0],
        &[0, 1, 32, 0, 10, 1, 2],
        &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 1, 0],
        &[0, 2, 128, 0, 0x20, 1],
        &long,
        // A prefix longer than addresses.
        &[0, 1, 33, 0, 10, 1, 2, 3, 0],
        &[0, 2, 129, 0],
        &[0, 1, 255, 0, 10],
        // Bits behind the prefix.
        &[0, 1, 23, 0, 10, 1, 3],
        &[0, 1, 1, 0, 0x40],
        &[0, 2, 57, 0, 0x20, 1, 0xd, 0xb8, 1, 0, 0, 0x40],
        // A scope in a query.
        &[0, 1, 24, 24, 10, 1, 2],
        &[0, 1, 0, 1],
        // Families that are none.
        &[0, 3, 24, 0, 10, 1, 2],
        &[0, 0, 8, 0, 10],
        &[1, 0, 0, 0],
        &[0xff, 0xff, 0, 0],
    ] {
        let reply = ask(&*IMAGE, ONE, rr::A, option);
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{option:x?}");
        assert_eq!((reply.queries.len(), option_of(&reply, ECS)), (1, None), "{option:x?}");
        assert!(reply.answers.is_empty() && reply.edns.is_some(), "{option:x?}");
    }
    let edns = Edns::new(false).option(ECS, b"");
    let outcome =
        slow::answer(&*IMAGE, &flow(false, DNS_PORT), &DnsQuery::new(ONE, rr::A).edns(edns).encode());
    assert_eq!(outcome.expect("DNS is spoken here").trace.reason, Reason::DnsFormErr);
}
