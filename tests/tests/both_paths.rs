//! The box in the lab on both of its paths: what the XDP program leaves to the kernel and the sockets is answered
//! alike, everything is counted where it was answered, and `explain` tells of both.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::Path,
    time::Duration,
};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
};
use redirector_tests::{
    lab::{
        Asker, Daemon, Lab, Protocol,
        config::{SERVER_NAME, VIP_NAME, configuration},
        topology::{BOX, Family, ROUTER, node},
        wait_for,
    },
    program,
    questions::{DnsQuery, Edns, PADDING, rr},
    require_lab,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
const CLIENT: &str = "c-fr";
const SERVER: &str = "s-fr";

/// A box with its fast path.
fn start(lab: &Lab) -> Asker<'_> {
    let asker = start_as(lab, &program("redirector"), &configuration(BOX));
    assert_ne!(asker.daemon.stats().unwrap()["xdp"], "off", "{}", asker.daemon.log());
    asker
}

/// A box whose clients in France are sent to the server there.
fn start_as<'l>(lab: &'l Lab, redirector: &Path, configuration: &str) -> Asker<'l> {
    let daemon = Daemon::start(lab, BOX, redirector, configuration, &[]).unwrap();
    let asker = Asker { lab, daemon, cdsr: program("cdsr") };
    for family in Family::ALL {
        let near = [node(SERVER).own.of(family)];
        wait_for("answers", LIMIT, || (asker.dns(node(CLIENT), family).ok()? == near).then_some(()))
            .unwrap_or_else(|error| panic!("{error:#}; {}", asker.daemon.log()));
    }
    asker
}

fn vip(family: Family) -> IpAddr {
    node(BOX).vip.unwrap().of(family)
}

/// A counter of one path.
fn counted(stats: &Value, path: &str, kind: &str, name: &str) -> u64 {
    stats[path][kind][name].as_u64().unwrap_or(0)
}

/// How a datagram is sent: socket options with level, name and value.
type Form = &'static [(libc::c_int, libc::c_int, &'static [u8])];

const PLAIN: Form = &[];
/// Four NOPs (RFC 791 section 3.1).
const PADDING_IPV4: Form = &[(libc::IPPROTO_IP, libc::IP_OPTIONS, &[1, 1, 1, 1])];
/// Room for the addresses of two routers.
const RECORD_ROUTE: Form = &[(libc::IPPROTO_IP, libc::IP_OPTIONS, &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])];
/// Headers of eight bytes with padding alone (RFC 8200 section 4.2); the kernel fills in what follows.
const PADDING_IPV6: Form = &[(libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &[0, 0, 1, 4, 0, 0, 0, 0])];
/// An option for experiments, which receivers that do not know it skip (RFC 4727 section 3.4).
const DESTINATION_OPTION: Form = &[(libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &[0, 0, 0x1e, 4, 0, 0, 0, 0])];
const TWO_HEADERS: Form = &[
    (libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS, &[0, 0, 1, 4, 0, 0, 0, 0]),
    (libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &[0, 0, 1, 4, 0, 0, 0, 0]),
];
const NO_CHECKSUM: Form = &[(libc::SOL_SOCKET, libc::SO_NO_CHECK, &[1, 0, 0, 0])];

/// Sends a query from the client in this form and gives the reply.
fn ask(lab: &Lab, family: Family, form: Form, query: &[u8]) -> Vec<u8> {
    let any: SocketAddr = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    lab.within(CLIENT, || {
        let socket = UdpSocket::bind(any).unwrap();
        for (level, name, value) in form {
            let length = value.len() as libc::socklen_t;
            // SAFETY: the kernel reads `length` bytes of a value that outlives the call.
            let set =
                unsafe { libc::setsockopt(socket.as_raw_fd(), *level, *name, value.as_ptr().cast(), length) };
            assert_eq!(set, 0, "option {name}: {}", std::io::Error::last_os_error());
        }
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.send_to(query, (vip(family), 53)).unwrap();
        let mut reply = vec![0; 4096];
        let length = socket.recv(&mut reply).unwrap_or_else(|error| panic!("{family:?} {form:?}: {error}"));
        reply.truncate(length);
        reply
    })
    .unwrap()
}

/// what the XDP program hands on reaches the sockets whole and gets the very same answer.
#[test]
fn packets_that_the_fast_path_leaves_alone_get_the_same_answer_from_the_sockets() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab);
    let query = DnsQuery::new(SERVER_NAME, rr::A).edns(Edns::new(false));
    // More than fits into one packet of any of the lab's links.
    let padded = query.clone().edns(Edns::new(false).option(PADDING, &[0; 2500])).encode();
    let plain = query.encode();
    for (family, form, query, reason) in [
        (Family::V4, RECORD_ROUTE, &plain, "punt-ip-options"),
        (Family::V6, DESTINATION_OPTION, &plain, "punt-not-udp"),
        (Family::V4, PLAIN, &padded, "punt-fragment"),
        (Family::V6, PLAIN, &padded, "punt-not-udp"),
    ] {
        let by_fast_path = ask(&lab, family, PLAIN, &plain);
        let before = asker.daemon.stats().unwrap();
        assert_eq!(ask(&lab, family, form, query), by_fast_path, "{reason}");
        let after = asker.daemon.stats().unwrap();
        let rose =
            |path, name| counted(&after, path, "reasons", name) - counted(&before, path, "reasons", name);
        assert!(rose("fast", reason) >= 1, "{family:?} {reason}: {after}");
        assert_eq!((rose("fast", "first-tier"), rose("slow", "first-tier")), (0, 1), "{family:?} {reason}");
    }
}

/// packets of rare forms that the fast path answers itself, as it answers plain ones.
#[test]
fn padded_headers_and_missing_checksums_are_answered_by_the_fast_path() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab);
    // Longer than the reply: behind a frame on a veth there may be no room to grow.
    let edns = Edns::new(false).option(PADDING, &[0; 40]);
    let query = DnsQuery::new(SERVER_NAME, rr::A).edns(edns).encode();
    let first_tier = |path| {
        let stats = asker.daemon.stats().unwrap();
        counted(&stats, path, "reasons", "first-tier")
    };
    for (family, form) in [
        (Family::V4, PADDING_IPV4),
        (Family::V6, PADDING_IPV6),
        (Family::V6, TWO_HEADERS),
        (Family::V4, NO_CHECKSUM),
    ] {
        let plain = ask(&lab, family, PLAIN, &query);
        let before = [first_tier("fast"), first_tier("slow")];
        assert_eq!(ask(&lab, family, form, &query), plain, "{form:?}");
        assert_eq!([first_tier("fast"), first_tier("slow")], [before[0] + 1, before[1]], "{form:?}");
    }
}

/// Sends an echo request from the client and waits for the reply.
fn ping(lab: &Lab, family: Family) {
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    // The checksum is right for ICMP; for ICMPv6 the kernel makes it.
    let (request, reply_at, reply) = match family {
        Family::V4 => ([8, 0, 0xf7, 0xfd, 0, 1, 0, 1], 20, [0, 0, 0xff, 0xfd, 0, 1, 0, 1]),
        Family::V6 => ([128, 0, 0, 0, 0, 1, 0, 1], 0, [129, 0, 0, 0, 0, 1, 0, 1]),
    };
    lab.within(CLIENT, || {
        let raw = socket(domain, SockType::Raw, SockFlag::empty(), protocol).unwrap();
        let socket = UdpSocket::from(raw);
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.send_to(&request, (vip(family), 0)).unwrap();
        let mut bytes = [0; 256];
        loop {
            let length =
                socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{family:?}: no echo: {error}"));
            let mut message = bytes[..length].get(reply_at..).unwrap_or_default().to_vec();
            if family == Family::V6 && message.len() >= 4 {
                message[2..4].fill(0);
            }
            if message == reply {
                return;
            }
        }
    })
    .unwrap();
}

/// with the program attached, the kernel still answers what is its own.
#[test]
fn arp_nd_icmp_and_tcp_reach_the_kernel() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab);
    let neighbours = || lab.exec(ROUTER, ["ip", "neigh", "show", "dev", BOX]).run().unwrap();
    for family in Family::ALL {
        let before = asker.daemon.stats().unwrap();
        lab.exec(ROUTER, ["ip", "neigh", "flush", "dev", BOX]).run().unwrap();
        ping(&lab, family);
        let own = node(BOX).own.of(family).to_string();
        assert!(neighbours().contains(&own), "resolved anew by ARP or ND: {}", neighbours());
        let answer =
            lab.client(CLIENT, family).dig(vip(family), &[SERVER_NAME, family.record_type(), "+tcp"]);
        assert_eq!(answer.unwrap().addresses(), [node(SERVER).own.of(family)]);
        let after = asker.daemon.stats().unwrap();
        let rose =
            |name| counted(&after, "fast", "reasons", name) - counted(&before, "fast", "reasons", name);
        // The echo request, SYN, its acknowledgement and the query; what ends the connection may come later.
        assert!(rose("punt-not-udp") >= 4, "{after}");
        assert!(family == Family::V6 || rose("pass-ethertype") >= 1, "{after}");
    }
}

/// an answer is counted once, by reason, service, region, target and VIP, on the path that gave it; redirects
/// have a line in the access log.
#[test]
fn both_paths_count_by_reason_service_region_target_and_vip() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab);
    let near = node(SERVER);
    for (protocol, path, service) in [
        (Protocol::Dns, "fast", "web"),
        (Protocol::Cdsr, "fast", "media"),
        (Protocol::Http, "slow", "media"),
        (Protocol::Rtsp, "slow", "media"),
    ] {
        let before = asker.daemon.stats().unwrap();
        let row = asker.ask(node(CLIENT), Family::V4, protocol, near).unwrap();
        assert!(row.met(), "{row:?}");
        let after = asker.daemon.stats().unwrap();
        let rose = |kind, name| counted(&after, path, kind, name) - counted(&before, path, kind, name);
        let found =
            [("reasons", "first-tier"), ("services", service), ("regions", "fr"), ("targets", SERVER)]
                .map(|(kind, name)| rose(kind, name));
        assert_eq!(found, [1; 4], "{}: {after}", protocol.name());
        assert!(rose("vips", "acme") >= 1, "{}: {after}", protocol.name());
        let other = if path == "fast" { "slow" } else { "fast" };
        let targets = |stats: &Value| counted(stats, other, "targets", SERVER);
        assert_eq!(targets(&after), targets(&before), "counted on one path alone: {}", protocol.name());
    }
    let log = asker.daemon.log();
    for (scheme, port) in [("http", String::new()), ("rtsp", ":8554".to_owned())] {
        let location = format!("location=\"{scheme}://{}{port}/", near.own.v4);
        let line = log.lines().find(|line| line.contains("access") && line.contains(&location));
        let line = line.unwrap_or_else(|| panic!("no {location} in\n{log}"));
        let client = format!("client={}:", node(CLIENT).own.v4);
        for part in [&*client, "status=302", "service=\"media\"", "reason=\"first-tier\""] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
}

/// what `explain` tells is what the client gets, and the XDP program gives the same bytes.
#[test]
fn explain_tells_what_clients_get_and_that_both_paths_agree() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab);
    let url = format!("http://{VIP_NAME}/x");
    for family in Family::ALL {
        let client = node(CLIENT).own.of(family).to_string();
        let near = node(SERVER).own.of(family).to_string();
        for (asked, fast) in [
            (&["--name", SERVER_NAME][..], "answers"),
            (&["--url", &url], "answers"),
            (&["--url", &url, "--protocol", "http"], "never"),
            (&["--name", "cdn.acme.net", "--type", "SOA"], "punts"),
        ] {
            let told = asker.daemon.explain(&[&["--client", &client], asked].concat()).unwrap();
            assert_eq!(told["fast_path"]["outcome"], fast, "{told}");
            if fast != "punts" {
                assert_eq!(
                    (&told["winners"][0]["target"], &told["winners"][0]["address"]),
                    (&SERVER.into(), &(*near).into())
                );
                assert_eq!(told["reason"], "first-tier");
            }
        }
    }
}

/// where the XDP program may not be loaded or cannot be attached, the box answers by sockets and says why; a
/// configuration that insists on it is refused.
#[test]
fn a_box_that_cannot_have_xdp_answers_by_sockets_and_says_why() {
    let Some(lab) = require_lab() else { return };
    let redirector = program("redirector");
    let weak = lab.dir().join("weak-redirector");
    let script = "#!/bin/sh\nexec setpriv --bounding-set=-bpf,-perfmon,-net_admin,-sys_admin";
    fs::write(&weak, format!("{script} {} \"$@\"\n", redirector.display())).unwrap();
    fs::set_permissions(&weak, fs::Permissions::from_mode(0o755)).unwrap();
    let good = configuration(BOX);
    let elsewhere = good.replace("interfaces = [\"eth0\"]", "interfaces = [\"eth9\"]");
    for (redirector, configuration, why) in [(&redirector, &elsewhere, "eth9"), (&weak, &good, "permitted")] {
        let asker = start_as(&lab, redirector, configuration);
        let stats = asker.daemon.stats().unwrap();
        assert_eq!(stats["xdp"], "off", "{stats}");
        assert!(stats["xdp_reason"].as_str().unwrap().contains(why), "{stats}");
        assert!(counted(&stats, "slow", "reasons", "first-tier") >= 1, "{stats}");
        assert!(asker.daemon.log().contains(why), "{}", asker.daemon.log());
        asker.daemon.stop().unwrap();
        let insisting = configuration.replace("interfaces", "xdp = \"native\"\ninterfaces");
        let error = Daemon::start(&lab, BOX, redirector, &insisting, &[]).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("xdp = \"auto\""), "{error}");
    }
}
