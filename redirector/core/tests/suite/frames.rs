//! Frames through the fast path: headers and checksums of answers are judged by another library, and what
//! is not answered stays as it was, byte for byte.

use etherparse::{ArpHardwareId, EtherType, IpNumber, Ipv6FlowLabel, PacketBuilder};
use proptest::prelude::*;
use redirector_core::limit::Unlimited;
use redirector_core::verdict::Reason;
use redirector_core::wire::cdsr;
use redirector_core::wire::frame::{Exit, Room, process};
use redirector_tests::agreement::{Action, FastPath as _, Native, judge};
use redirector_tests::frames::{BOX_MAC, CLIENT_MAC, Datagram, ETHERNET, Flow, Form, VecFrame};
use redirector_tests::generate::{EXTENSIONS, OPTIONS, TAG_TYPES};
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::networks::HTTP_ONLY;
use redirector_tests::questions::{COOKIE, CdsrRequest, DnsQuery, Edns, rr};
use redirector_tests::slow::DNS_PORT;
use std::net::SocketAddr;

/// First byte of the UDP header.
fn udp_at(frame: &[u8]) -> usize {
    ETHERNET + if frame[12] == 8 { 20 } else { 40 }
}

fn dns_frame(v6: bool) -> Vec<u8> {
    flow(v6, DNS_PORT).frame(&DnsQuery::new("x.one.cdn.acme.net", rr::A).encode())
}

fn cdsr_frame(v6: bool) -> Vec<u8> {
    flow(v6, cdsr::PORT).frame(&CdsrRequest::new("http://abc.web.cdn.acme.net/live/x").encode())
}

/// The answer to a frame, which is right in every respect.
#[track_caller]
fn answered(frame: &[u8]) -> Datagram {
    let mut native = Native::new(&*IMAGE);
    let (action, after) = native.run(frame);
    assert_eq!(action, Action::Transmit, "{:?}", native.reason());
    judge(&*IMAGE, frame, action, &after).expect("the slow path's answer");
    Datagram::read(&after).expect("UDP")
}

/// The frame is passed on as it is, for this reason.
#[track_caller]
fn untouched(frame: &[u8], reason: Reason) {
    let mut native = Native::new(&*IMAGE);
    let (action, after) = native.run(frame);
    assert_eq!((action, native.reason()), (Action::Pass, reason));
    assert_eq!(after, frame);
}

/// Sets the IPv4 header checksum right after a change.
fn with_ipv4_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let length = usize::from(frame[ETHERNET] & 15) * 4;
    let words = frame[ETHERNET..ETHERNET + length].chunks_exact(2);
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn answers_go_back_with_right_checksums_whatever_the_length() {
    for v6 in [false, true] {
        for length in 1..=63 {
            let name = format!("{}.web.abc.cdn.acme.net", "n".repeat(length));
            for qtype in [rr::A, rr::AAAA, rr::HTTPS] {
                let plain = DnsQuery::new(&name, qtype);
                let cookies = (0..3).map(|n| Edns::new(n == 1).option(COOKIE, &vec![n as u8; 8 + n]));
                let queries = [plain.clone(), plain.clone().edns(Edns::new(false))].into_iter();
                for query in queries.chain(cookies.map(|edns| plain.clone().edns(edns))) {
                    answered(&flow(v6, DNS_PORT).frame(&query.encode()));
                }
            }
            let url = format!("http://one.acme.net/{}", "u".repeat(length));
            let request = CdsrRequest { length: 100 + length, ..CdsrRequest::new(&url) };
            answered(&flow(v6, cdsr::PORT).frame(&request.encode()));
        }
    }
}

proptest! {
    /// The checksum is carried on by differences: values that sum up to 0 or 0xffff are the hard ones.
    #[test]
    fn checksums_are_right_for_any_client_and_id(client: u32, port in 1u16.., id: u16, nonce: u64, flags in 0u16..0x40) {
        let client = 0x0100_0000 | client & 0x5fff_ffff;
        let source = SocketAddr::new(std::net::Ipv4Addr::from_bits(client).into(), port);
        prop_assume!(client >> 24 != 127);
        let query = DnsQuery { id, flags: flags << 4, ..DnsQuery::new("x.web.abc.cdn.acme.net", rr::A) };
        answered(&Flow { client: source, ..flow(false, DNS_PORT) }.frame(&query.encode()));
        let request = CdsrRequest { nonce, ..CdsrRequest::new("http://one.acme.net/") };
        answered(&Flow { client: source, ..flow(false, cdsr::PORT) }.frame(&request.encode()));
    }
}

/// All 65536 IDs, so that every checksum occurs, 0 and 0xffff among them (RFC 768: 0 is sent as 0xffff).
#[test]
fn every_checksum_is_right() {
    let mut seen = [false; 1 << 16];
    for id in 0..=u16::MAX {
        let query = DnsQuery { id, ..DnsQuery::new("x.one.cdn.acme.net", rr::A) };
        seen[usize::from(answered(&flow(id % 2 == 0, DNS_PORT).frame(&query.encode())).checksum)] = true;
    }
    assert!(!seen[0], "a checksum of 0 means none");
    assert!(seen.iter().filter(|seen| **seen).count() > 30_000);
}

#[test]
fn headers_are_fresh_and_service_class_and_flow_label_kept() {
    let payload = DnsQuery::new("x.one.cdn.acme.net", rr::A).encode();
    for ttl in [1, 2, 64, 255] {
        assert_eq!(answered(&flow(false, DNS_PORT).frame_with_ttl(&payload, ttl)).ttl, 64);
        assert_eq!(answered(&flow(true, DNS_PORT).frame_with_ttl(&payload, ttl)).ttl, 64);
    }
    for class in 0..=u8::MAX {
        // The upper six bits are the service class; the others say what congestion the query met, and the reply none.
        let form = Form { class, ..Form::default() };
        assert_eq!(answered(&form.of(&dns_frame(false))).class, class & 0xfc);
        let mut frame = form.of(&dns_frame(true));
        frame[ETHERNET + 1] |= 0xa;
        assert_eq!(answered(&frame).class, class & 0xfc);
        assert_eq!(Native::new(&*IMAGE).run(&frame).1[ETHERNET + 1] & 15, 0xa);
    }
    let after = Native::new(&*IMAGE).run(&dns_frame(false)).1;
    assert_eq!(after[ETHERNET + 4..ETHERNET + 8], [0, 0, 0x40, 0], "an atomic datagram (RFC 6864)");
    assert_eq!([&after[..6], &after[6..12]], [&CLIENT_MAC, &BOX_MAC]);
}

#[test]
fn answers_grow_into_bytes_that_are_not_clean_and_shrink() {
    let short = CdsrRequest { length: 100, ..CdsrRequest::new("http://one.acme.net/") };
    let reply = answered(&flow(false, cdsr::PORT).frame(&short.encode()));
    assert_eq!(reply.payload.len(), 52);
    let query = DnsQuery::new("a.b.c.object.deep.acme.net", rr::AAAA);
    assert!(answered(&flow(true, DNS_PORT).frame(&query.encode())).payload.len() > query.encode().len());
    let padded = DnsQuery::new("x.one.cdn.acme.net", rr::A).edns(Edns::new(false).option(12, &[0; 40]));
    assert!(answered(&flow(true, DNS_PORT).frame(&padded.encode())).payload.len() < padded.encode().len());
}

#[test]
fn query_without_udp_checksum_is_answered_without_or_with_a_right_one() {
    let strip = |mut frame: Vec<u8>| {
        let at = udp_at(&frame) + 6;
        frame[at..at + 2].fill(0);
        frame
    };
    assert_eq!(
        answered(&strip(dns_frame(false))).checksum,
        0,
        "what is kept of the query is not vouched for"
    );
    assert_ne!(answered(&strip(cdsr_frame(false))).checksum, 0, "nothing is kept");
    untouched(&strip(dns_frame(true)), Reason::PuntChecksum);
    untouched(&strip(cdsr_frame(true)), Reason::PuntChecksum);
}

#[test]
fn wrong_udp_checksum_of_a_dns_query_stays_wrong() {
    for v6 in [false, true] {
        let mut frame = dns_frame(v6);
        let at = udp_at(&frame) + 6;
        frame[at] ^= 0x10;
        let (action, after) = Native::new(&*IMAGE).run(&frame);
        assert_eq!(action, Action::Transmit);
        assert!(Datagram::read(&after).expect("UDP").fault.expect("a fault").starts_with("UDP checksum"));
    }
}

#[test]
fn ethernet_padding_is_no_part_of_the_message() {
    for (v6, padding) in [(false, 1), (false, 46), (true, 7)] {
        for frame in [dns_frame(v6), cdsr_frame(v6)] {
            for fill in [0, 0xff] {
                let want = answered(&frame);
                let padded = [&frame[..], &vec![fill; padding]].concat();
                assert_eq!(answered(&padded), want);
            }
        }
    }
}

#[test]
fn frames_cut_anywhere_are_untouched() {
    for frame in [dns_frame(false), dns_frame(true), cdsr_frame(false), cdsr_frame(true)] {
        for length in 0..frame.len() {
            let (action, after) = Native::new(&*IMAGE).run(&frame[..length]);
            assert_eq!((action, &after[..]), (Action::Pass, &frame[..length]), "{length} bytes");
        }
    }
}

#[test]
fn lengths_that_disagree_are_untouched() {
    for v6 in [false, true] {
        for whole in [dns_frame(v6), cdsr_frame(v6)] {
            let udp = udp_at(&whole);
            let ip = if v6 { ETHERNET + 4 } else { ETHERNET + 2 };
            let change = |at: usize, by: i16| {
                let mut frame = whole.clone();
                let value = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add_signed(by);
                frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
                frame
            };
            for by in [-1, 1, 8, 100, -200] {
                untouched(&change(udp + 4, by), Reason::PuntLength);
                untouched(&change(ip, by), Reason::PuntLength);
            }
            // Both say more than the frame holds: whoever answered that could be made to send more than it got.
            for by in [1, 100, 1000] {
                let mut frame = change(udp + 4, by);
                frame[ip..ip + 2].copy_from_slice(&change(ip, by)[ip..ip + 2]);
                untouched(&frame, Reason::PuntLength);
            }
        }
    }
}

#[test]
fn fragments_of_ipv4_are_untouched() {
    for (offset, more) in [(0, true), (1, false), (185, true), (0x1fff, false)] {
        let mut frame = dns_frame(false);
        let word = (offset as u16 | u16::from(more) << 13).to_be_bytes();
        frame[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&word);
        untouched(&with_ipv4_checksum(frame), Reason::PuntFragment);
    }
    for flags in [0x40, 0x80] {
        let mut frame = dns_frame(false);
        frame[ETHERNET + 6] = flags;
        answered(&with_ipv4_checksum(frame));
    }
}

/// The answer to a frame in a form is that to the plain one, behind the same tags and without options.
#[track_caller]
fn answered_like_plain(form: &Form<'_>, plain: &[u8]) {
    let frame = form.of(plain);
    answered(&frame);
    let reply = |frame| Native::new(&*IMAGE).run(frame).1;
    let want = Form { tags: form.tags, ..Form::default() }.of(&reply(plain));
    assert_eq!(reply(&frame), want, "{form:x?}");
    // Ethernet padding behind it changes nothing.
    assert_eq!(reply(&[&frame[..], &[0xff; 18]].concat()), want);
    for length in 0..frame.len() {
        let (action, after) = Native::new(&*IMAGE).run(&frame[..length]);
        assert_eq!((action, &after[..]), (Action::Pass, &frame[..length]), "{length} bytes of {form:x?}");
    }
}

fn plain_frames() -> [Vec<u8>; 4] {
    [dns_frame(false), dns_frame(true), cdsr_frame(false), cdsr_frame(true)]
}

/// Priority, drop eligibility and number of the VLAN are kept, at the place where they were.
#[test]
fn frames_with_one_or_two_vlan_tags_are_answered_with_the_same_tags() {
    for plain in plain_frames() {
        for outer in TAG_TYPES {
            for control in [0, 1, 0x0fff, 0x2005, 0xf123] {
                let tagged = |tags: &[[u16; 2]]| {
                    answered_like_plain(&Form { tags, ..Form::default() }, &plain);
                };
                tagged(&[[outer, control]]);
                TAG_TYPES.iter().for_each(|inner| tagged(&[[outer, control], [*inner, 7]]));
            }
        }
    }
}

#[test]
fn tagged_frames_that_are_not_for_the_fast_path_are_untouched() {
    let (tag, inner) = ([0x8100, 5], [0x88a8, 6]);
    for v6 in [false, true] {
        let other = SocketAddr::new(["198.18.0.5", "2001:db8:a::5"][usize::from(v6)].parse().unwrap(), 53);
        let other = Flow { vip: other, ..flow(v6, DNS_PORT) }.frame(b"not for a VIP");
        let elsewhere = flow(v6, 54).frame(b"a port of nobody's");
        for tags in [&[tag][..], &[inner, tag]] {
            let form = Form { tags, ..Form::default() };
            untouched(&form.of(&other), Reason::NotVip);
            untouched(&form.of(&elsewhere), Reason::PuntPort);
            // ARP, and EtherType 0x9100, which some switches use for what is 0x88a8 now.
            for kind in [[0x08, 0x06], [0x91, 0x00]] {
                let mut frame = form.of(&dns_frame(v6));
                let at = 12 + 4 * tags.len();
                frame[at..at + 2].copy_from_slice(&kind);
                untouched(&frame, Reason::PassEtherType);
            }
        }
        let three = Form { tags: &[inner, tag, tag], ..Form::default() };
        untouched(&three.of(&dns_frame(v6)), Reason::PassEtherType);
    }
}

#[test]
fn ip_options_that_change_nothing_are_passed_over() {
    let (one, two) = ([[0x8100, 5]], [[0x88a8, 6], [0x8100, 5]]);
    for tags in [&[][..], &one, &two] {
        for v6 in [false, true] {
            for plain in [dns_frame(v6), cdsr_frame(v6)] {
                let form = Form { tags, ..Form::default() };
                if v6 {
                    EXTENSIONS.iter().for_each(|extensions| {
                        answered_like_plain(&Form { extensions, ..form }, &plain);
                    });
                } else {
                    OPTIONS.iter().for_each(|options| {
                        answered_like_plain(&Form { options, ..form }, &plain);
                    });
                }
            }
        }
    }
}

/// The kernel may refuse these, or owe the sender a message: source routes, routes and times to note, options without
/// end or of wrong length.
#[test]
fn ip_options_that_mean_something_are_untouched() {
    for options in [
        &[131, 7, 4, 10, 0, 0, 1, 0][..],
        &[137, 7, 4, 10, 0, 0, 1, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[1, 1, 1, 1, 134, 6, 0, 0],
        &[0x94, 3, 0, 0],
        &[1, 1, 1, 7],
        &[2, 2, 2, 2],
    ] {
        for tags in [&[][..], &[[0x8100, 5]]] {
            let form = Form { tags, options, ..Form::default() };
            untouched(&form.of(&dns_frame(false)), Reason::PuntIpOptions);
        }
    }
    // Versions and lengths that are none, and options that leave no room for UDP.
    for (first, reason) in [
        (0x44, Reason::PuntLength),
        (0x40, Reason::PuntLength),
        (0x55, Reason::PuntLength),
        (0x46, Reason::PuntIpOptions),
    ] {
        let mut frame = dns_frame(false);
        frame[ETHERNET] = first;
        untouched(&frame, reason);
    }
}

/// The mistake of answering what only begins a datagram, in every form that a fragment can have.
#[test]
fn fragments_with_tags_and_options_are_untouched() {
    for tags in [&[][..], &[[0x8100, 5]], &[[0x88a8, 6], [0x8100, 5]]] {
        for options in [&[][..], &[1; 4]] {
            let mut plain = dns_frame(false);
            plain[ETHERNET + 6] = 0x20;
            untouched(&Form { tags, options, ..Form::default() }.of(&plain), Reason::PuntFragment);
        }
        let fragment: (u8, &[u8]) = (44, &[0, 0, 0, 1, 0, 0, 0, 9]);
        for extensions in [&[fragment][..], &[EXTENSIONS[0][0], fragment], &[EXTENSIONS[1][0], fragment]] {
            let form = Form { tags, extensions, ..Form::default() };
            untouched(&form.of(&dns_frame(true)), Reason::PuntNotUdp);
        }
    }
}

#[test]
fn arp_and_other_ethertypes_are_untouched() {
    let vip = [203, 0, 113, 1];
    let arp = etherparse::ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        etherparse::ArpOperation::REQUEST,
        &CLIENT_MAC,
        &[10, 1, 2, 3],
        &[0; 6],
        &vip,
    );
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, [255; 6]).arp(arp.expect("ARP")).write(&mut frame).expect("a frame");
    untouched(&frame, Reason::PassEtherType);
    untouched(&[&[0; 12], &[0x05, 0xdc][..], &[0; 60]].concat(), Reason::PassEtherType);
    untouched(b"", Reason::PassEtherType);
}

#[test]
fn ipv6_extension_headers_are_untouched() {
    let padded = [0, 0, 1, 4, 0, 0, 0, 0];
    let alert: &[u8] = &[0, 0, 5, 2, 0, 0, 1, 0];
    let long: &[u8] = &[0, 1, 1, 5, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0];
    let chains: [&[(u8, &[u8])]; 10] = [
        // Routing, fragment, ESP, authentication, mobility.
        &[(43, &padded)],
        &[(44, &padded)],
        &[(50, &padded)],
        &[(51, &padded)],
        &[(135, &padded)],
        // Hop-by-hop options anywhere but first, and more headers than have to be.
        &[(60, &padded), (0, &padded)],
        &[(60, &padded), (60, &padded)],
        &[(0, &padded), (60, &padded), (60, &padded)],
        // Options that mean something, and headers that are longer.
        &[(0, alert)],
        &[(60, long)],
    ];
    for extensions in chains {
        for tags in [&[][..], &[[0x8100, 5]]] {
            let form = Form { tags, extensions, ..Form::default() };
            untouched(&form.of(&dns_frame(true)), Reason::PuntNotUdp);
        }
    }
    // A header of another protocol behind one that is passed over: TCP, ICMPv6, none.
    for next in [6, 58, 59] {
        let mut plain = dns_frame(true);
        plain[ETHERNET + 6] = next;
        untouched(&Form { extensions: EXTENSIONS[0], ..Form::default() }.of(&plain), Reason::PuntNotUdp);
    }
}

#[test]
fn other_protocols_for_a_vip_are_untouched() {
    for v6 in [false, true] {
        let whole = flow(v6, DNS_PORT);
        let next = if v6 { ETHERNET + 6 } else { ETHERNET + 9 };
        for protocol in [1, 6, 58, 132] {
            let mut frame = whole.frame(&DnsQuery::new("x.one.cdn.acme.net", rr::A).encode());
            frame[next] = protocol;
            let frame = if v6 { frame } else { with_ipv4_checksum(frame) };
            untouched(&frame, Reason::PuntNotUdp);
        }
    }
    let mut syn = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, BOX_MAC)
        .ipv4([10, 1, 2, 3], [203, 0, 113, 1], 64)
        .tcp(40_000, 80, 1, 65_535)
        .syn()
        .write(&mut syn, &[])
        .expect("a frame");
    untouched(&syn, Reason::PuntNotUdp);
}

#[test]
fn sources_that_no_client_has_are_untouched() {
    let query = DnsQuery::new("x.one.cdn.acme.net", rr::A).encode();
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.1.2.3",
        "::10.1.2.3",
        "ff02::1",
        "ff0e::1",
    ] {
        let client = SocketAddr::new(source.parse().expect("an address"), 40_000);
        untouched(&Flow { client, ..flow(client.is_ipv6(), DNS_PORT) }.frame(&query), Reason::PuntSource);
    }
    for v6 in [false, true] {
        for port in [DNS_PORT, cdsr::PORT] {
            let Flow { mut client, vip } = flow(v6, port);
            client.set_port(0);
            untouched(&Flow { client, vip }.frame(&query), Reason::PuntSource);
        }
    }
}

#[test]
fn other_addresses_and_ports_are_untouched() {
    let query = DnsQuery::new("x.one.cdn.acme.net", rr::A).encode();
    for address in ["203.0.113.5", "198.18.0.5", "255.255.255.255", "2001:db8:a::5", "ff02::fb"] {
        let vip = SocketAddr::new(address.parse().expect("an address"), DNS_PORT);
        untouched(&Flow { vip, ..flow(vip.is_ipv6(), DNS_PORT) }.frame(&query), Reason::NotVip);
    }
    for v6 in [false, true] {
        for port in [0, 52, 54, 80, 2553, 2555, 5353, 65_535] {
            untouched(&flow(v6, port).frame(&query), Reason::PuntPort);
        }
        // A VIP that speaks neither DNS nor CDSR.
        let address = HTTP_ONLY[usize::from(v6)].parse().expect("an address");
        for port in [DNS_PORT, cdsr::PORT] {
            let vip = SocketAddr::new(address, port);
            untouched(&Flow { vip, ..flow(v6, port) }.frame(&query), Reason::PuntPort);
        }
    }
}

#[test]
fn what_the_fast_path_does_not_answer_is_untouched() {
    let name = "x.one.cdn.acme.net";
    for v6 in [false, true] {
        for (query, reason) in [
            (DnsQuery::new("cdn.acme.net", rr::SOA), Reason::PuntZoneRecord),
            (DnsQuery::new("_cdsr.one.cdn.acme.net", rr::TXT), Reason::PuntZoneRecord),
            (DnsQuery::new(name, rr::ANY), Reason::PuntType),
            (DnsQuery { class: 3, ..DnsQuery::new(name, rr::A) }, Reason::PuntType),
            (DnsQuery { flags: 0x8000, ..DnsQuery::new(name, rr::A) }, Reason::PuntDnsForm),
            (DnsQuery { flags: 0x2800, ..DnsQuery::new(name, rr::A) }, Reason::PuntDnsForm),
            (DnsQuery::new("www.acme.org", rr::A), Reason::PuntNotOurZone),
            (DnsQuery::new(name, rr::A).edns(Edns::new(false).option(12, &[0; 90])), Reason::PuntEdns),
            (DnsQuery::new("x.vast.cdn.acme.net", rr::A), Reason::PuntChoice),
        ] {
            untouched(&flow(v6, DNS_PORT).frame(&query.encode()), reason);
        }
        let request = CdsrRequest { extensions: vec![0; 4], ..CdsrRequest::new("http://one.acme.net/") };
        untouched(&flow(v6, cdsr::PORT).frame(&request.encode()), Reason::PuntCdsrForm);
    }
}

#[test]
fn frame_that_cannot_grow_is_untouched() {
    for v6 in [false, true] {
        let bytes = dns_frame(v6);
        let mut frame = VecFrame::with_room(&bytes, bytes.len());
        let mut room = Room::default();
        assert_eq!(process(&mut frame, &*IMAGE, &mut Unlimited, &mut room), Exit::Punt);
        assert_eq!(room.scratch.trace.reason, Reason::PuntResize);
        assert_eq!(frame.into_bytes(), bytes);
    }
}

#[test]
fn tables_of_another_layout_answer_nothing() {
    let mut image = IMAGE.clone();
    image.meta.layout += 1;
    for frame in [dns_frame(false), cdsr_frame(true)] {
        let mut native = Native::new(&image);
        assert_eq!(native.run(&frame), (Action::Pass, frame));
        assert_eq!(native.reason(), Reason::PuntLayout);
    }
}

/// The constants of headers that etherparse names, to be sure that the frames above are what they seem.
#[test]
fn frames_of_these_tests_are_plain_udp() {
    assert_eq!((IpNumber::UDP.0, Ipv6FlowLabel::ZERO.value()), (17, 0));
    for v6 in [false, true] {
        for frame in [dns_frame(v6), cdsr_frame(v6)] {
            let datagram = Datagram::read(&frame).expect("UDP");
            assert_eq!((datagram.fault, datagram.macs), (None, [BOX_MAC, CLIENT_MAC]));
        }
    }
}
