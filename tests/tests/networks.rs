//! One box for two content networks (P-1): each has its own VIPs, names, servers and counters; other addresses of the
//! box are left alone, and its management address serves no client. And two boxes of one network, which answer alike.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use redirector_tests::{
    lab::{
        Daemon, Lab,
        config::configuration,
        topology::{Addresses, BOX, Family, ROUTER, RTSP_PORT, node},
    },
    program,
    questions::{CdsrReply, CdsrRequest, DnsQuery, rr},
    require_lab,
};
use serde_json::Value;

const CLIENT: &str = "c-fr";
/// Both networks answer for hosts beneath this; only the first for the other.
const SHARED: &str = "page.shared.example";
const OWN: &str = "page.own.example";
/// VIPs of the second network, and an address of the box that nothing is configured for.
const BETA: Addresses = Addresses {
    v4: std::net::Ipv4Addr::new(203, 0, 113, 9),
    v6: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 9),
};
const NOTHING: Addresses = Addresses {
    v4: std::net::Ipv4Addr::new(203, 0, 113, 8),
    v6: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 8),
};

/// Two networks, of which the first sends everybody to `s-fr`, the second to `s-de`.
fn two_networks() -> String {
    let text = configuration(BOX);
    let cut = text.find("# Of the tiers").expect("the lab's policy");
    let policy = |cdn: &str, pool: &str, zones: &[&str]| {
        let zone = |name: &&str| {
            format!(
                "[[zone]]\nsuffix = \"{name}\"\ncdn = \"{cdn}\"\nnames = [{{ labels = \"{{any}}\", service = \"{cdn}\" }}]\n"
            )
        };
        let urls: Vec<String> =
            zones.iter().map(|name| format!("\"http|rtsp://{{any}}.{name}/*\"")).collect();
        format!(
            "[[coverage]]\nname = \"{cdn}\"\ntiers = [{{ region = \"*\", pools = [\"{pool}\"] }}]\n\
             [[service]]\nname = \"{cdn}\"\ncdn = \"{cdn}\"\ncoverage = \"{cdn}\"\nurls = [{}]\n{}",
            urls.join(", "),
            zones.iter().map(zone).collect::<String>()
        )
    };
    format!(
        "{}[[vip]]\ncdn = \"beta\"\naddresses = [\"{}\", \"{}\"]\n{}{}",
        &text[..cut],
        BETA.v4,
        BETA.v6,
        policy("acme", "fr", &["shared.example", "own.example"]),
        policy("beta", "de", &["shared.example"])
    )
}

/// Gives the box further addresses, as anycast ones: on its loopback, with a route.
fn add_addresses(lab: &Lab, more: &[Addresses]) {
    for addresses in more {
        for family in Family::ALL {
            let (address, own) = (addresses.of(family).to_string(), node(BOX).own.of(family).to_string());
            lab.exec(BOX, ["ip", "addr", "add", &address, "dev", "lo"]).run().unwrap();
            lab.exec(ROUTER, ["ip", "route", "add", &address, "via", &own]).run().unwrap();
        }
    }
}

/// The answer to a datagram; `None` if the port is refused.
fn datagram(lab: &Lab, to: SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
    lab.within(CLIENT, || {
        let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect(to).unwrap();
        socket.send(message).unwrap();
        let mut reply = [0; 2048];
        match socket.recv(&mut reply) {
            Ok(length) => Some(reply[..length].to_vec()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
            Err(error) => panic!("{to}: {error}"),
        }
    })
    .unwrap()
}

/// The head of the answer to a request; `None` if the port is refused.
fn request(lab: &Lab, to: SocketAddr, text: &str) -> Option<String> {
    lab.within(CLIENT, || {
        let mut stream = match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return None,
            Err(error) => panic!("{to}: {error}"),
        };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        Some(String::from_utf8(head).unwrap())
    })
    .unwrap()
}

fn http(host: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn rtsp(host: &str) -> String {
    format!("DESCRIBE rtsp://{host}/live RTSP/1.0\r\nCSeq: 7\r\n\r\n")
}

/// What a name server says: RCODE, and the addresses at the end of a reply of one record.
fn dns(lab: &Lab, vip: IpAddr, host: &str) -> (u8, Vec<u8>) {
    let kind = if vip.is_ipv4() { rr::A } else { rr::AAAA };
    let reply =
        datagram(lab, SocketAddr::new(vip, 53), &DnsQuery::new(host, kind).encode()).expect("an answer");
    let length = if vip.is_ipv4() { 4 } else { 16 };
    (reply[3] & 15, reply[reply.len() - length..].to_vec())
}

fn cdsr(lab: &Lab, vip: IpAddr, url: &str) -> CdsrReply {
    let message = CdsrRequest { max_endpoints: 1, ..CdsrRequest::new(url) }.encode();
    let reply = datagram(lab, SocketAddr::new(vip, 2554), &message).expect("an answer");
    CdsrReply::read(&reply).unwrap()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The same client asks for the same things, and gets what the network whose VIP it asks has.
fn each_network_has_its_own(lab: &Lab, vip: IpAddr, server: IpAddr) {
    assert_eq!(dns(lab, vip, SHARED), (0, octets(server)), "{vip}");
    let reply = cdsr(lab, vip, &format!("http://{SHARED}/x"));
    assert_eq!(reply.endpoints.iter().map(|end| end.address).collect::<Vec<_>>(), [server], "{vip}");
    let text = if server.is_ipv6() { format!("[{server}]") } else { server.to_string() };
    let head = request(lab, SocketAddr::new(vip, 80), &http(SHARED)).expect("HTTP is spoken");
    assert!(head.starts_with("HTTP/1.1 302") && head.contains(&format!("http://{text}/x")), "{vip}: {head}");
    let head = request(lab, SocketAddr::new(vip, 554), &rtsp(SHARED)).expect("RTSP is spoken");
    let location = format!("rtsp://{text}:{RTSP_PORT}/live");
    assert!(head.starts_with("RTSP/1.0 302") && head.contains(&location), "{vip}: {head}");
}

fn counted(stats: &Value, vip: &str) -> u64 {
    ["fast", "slow"].into_iter().filter_map(|path| stats[path]["vips"][vip].as_u64()).sum()
}

#[test]
fn each_vip_has_the_services_policy_and_counters_of_its_network() {
    let Some(lab) = require_lab() else { return };
    add_addresses(&lab, &[BETA, NOTHING]);
    let daemon = Daemon::start(&lab, BOX, &program("redirector"), &two_networks(), &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    let acme = node(BOX).vip.unwrap();
    for family in Family::ALL {
        let before = daemon.stats().unwrap();
        each_network_has_its_own(&lab, acme.of(family), node("s-fr").own.of(family));
        let between = daemon.stats().unwrap();
        assert!(counted(&between, "acme") >= counted(&before, "acme") + 4, "{between}");
        assert_eq!(counted(&between, "beta"), counted(&before, "beta"), "{between}");
        each_network_has_its_own(&lab, BETA.of(family), node("s-de").own.of(family));
        let after = daemon.stats().unwrap();
        assert!(counted(&after, "beta") >= counted(&between, "beta") + 4, "{after}");

        assert_eq!(dns(&lab, acme.of(family), OWN).0, 0);
        assert_eq!(dns(&lab, BETA.of(family), OWN).0, 5, "REFUSED: another network's zone");
        assert_eq!(cdsr(&lab, BETA.of(family), &format!("http://{OWN}/x")).status, 1, "not mine");
        for (port, text) in [(80, http(OWN)), (554, rtsp(OWN))] {
            let head = request(&lab, SocketAddr::new(BETA.of(family), port), &text).unwrap();
            assert!(head.contains(" 404 ") && !head.to_lowercase().contains("location"), "{head}");
        }
    }
}

#[test]
fn other_addresses_of_the_box_are_the_kernels_and_management_serves_no_client() {
    let Some(lab) = require_lab() else { return };
    add_addresses(&lab, &[BETA, NOTHING]);
    let daemon = Daemon::start(&lab, BOX, &program("redirector"), &two_networks(), &[]).unwrap();
    let queries = [
        (53, DnsQuery::new(SHARED, rr::A).encode()),
        (2554, CdsrRequest::new(&format!("http://{SHARED}/x")).encode()),
    ];
    let requests = [(53, String::new()), (80, http(SHARED)), (554, rtsp(SHARED))];
    let before = daemon.stats().unwrap();
    for addresses in [NOTHING, node(BOX).own] {
        for family in Family::ALL {
            let address = addresses.of(family);
            for (port, message) in &queries {
                assert_eq!(datagram(&lab, SocketAddr::new(address, *port), message), None, "{address}");
            }
            for (port, text) in &requests {
                assert_eq!(request(&lab, SocketAddr::new(address, *port), text), None, "{address}");
            }
        }
    }
    let after = daemon.stats().unwrap();
    let passed = |stats: &Value| stats["fast"]["reasons"]["not-vip"].as_u64().unwrap_or(0);
    assert!(passed(&after) >= passed(&before) + 20, "left alone by the fast path, too: {after}");
    assert_eq!([counted(&after, "acme"), counted(&after, "beta")], [0, 0], "{after}");
}

/// P-16: nothing is kept between packets, so it does not matter which box of an address a packet reaches, nor when.
#[test]
fn any_box_of_an_address_gives_the_same_bytes_at_any_time() {
    let Some(lab) = require_lab() else { return };
    let shared = node(BOX).vip.unwrap();
    // The other box has the first one's configuration but for [box], and answers at the same address.
    let text = configuration(BOX);
    let other = configuration("box2");
    let own_part = |text: &str| text.find("[fleet]").expect("[fleet]");
    let other = format!("{}{}", &other[..own_part(&other)], &text[own_part(&text)..]);
    for family in Family::ALL {
        lab.exec("box2", ["ip", "addr", "add", &shared.of(family).to_string(), "dev", "lo"]).run().unwrap();
    }
    let daemons = [(BOX, &text), ("box2", &other)]
        .map(|(name, text)| Daemon::start(&lab, name, &program("redirector"), text, &[]).unwrap());
    let urls = (0..40).map(|n| format!("http://o{n}.web.abc.cdn.acme.net/x{n}"));
    let messages: Vec<Vec<u8>> = urls
        .map(|url| CdsrRequest { max_endpoints: 4, length: 300, ..CdsrRequest::new(&url) }.encode())
        .collect();
    let ask = || -> Vec<Option<Vec<u8>>> {
        let each = |family: &Family| {
            let to = SocketAddr::new(shared.of(*family), 2554);
            messages.iter().map(move |message| (to, message))
        };
        Family::ALL.iter().flat_map(each).map(|(to, message)| datagram(&lab, to, message)).collect()
    };
    let first = ask();
    assert!(first.iter().all(|reply| CdsrReply::read(reply.as_ref().unwrap()).unwrap().endpoints.len() == 1));
    // Routing moves the address to the other box, in the midst of what for TCP would be connections.
    for family in Family::ALL {
        let (address, next) = (shared.of(family).to_string(), node("box2").own.of(family).to_string());
        lab.exec(ROUTER, ["ip", "route", "replace", &address, "via", &next]).run().unwrap();
    }
    assert!(ask() == first, "the other box");
    let asked = |daemon: &Daemon<'_>| counted(&daemon.stats().unwrap(), "acme");
    assert!(daemons.iter().all(|daemon| asked(daemon) >= first.len() as u64), "both were asked");
}
