//! One box in the lab, asked by real clients over real networks.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use redirector_tests::{
    lab::{
        Asker, Daemon, Lab, Protocol,
        config::{SERVER_NAME, VIP_NAME, configuration},
        during,
        topology::{BOX, Family, RTSP_PORT, Role, WEB_PORT, node, with_role},
        wait_for,
    },
    program,
    questions::{DnsQuery, rr},
    require_lab,
};

const MOVE_LIMIT: Duration = Duration::from_secs(20);

fn asker<'a>(lab: &'a Lab, options: &[&str]) -> Asker<'a> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), &configuration(BOX), options).unwrap();
    Asker { lab, daemon, cdsr: program("cdsr") }
}

/// Waits until DNS answers name the server expected for a client.
fn settle(asker: &Asker<'_>, client: &str, server: &str) {
    for family in Family::ALL {
        let expected = [node(server).own.of(family)];
        wait_for("answers", MOVE_LIMIT, || (asker.dns(node(client), family).ok()? == expected).then_some(()))
            .unwrap_or_else(|error| panic!("{error:#}; {}", asker.daemon.log()));
    }
}

/// Asks by every protocol and family, and expects each client's server.
fn expect_all(asker: &Asker<'_>, expected: impl Fn(&str) -> &'static str) {
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                let row = asker.ask(client, family, protocol, node(expected(client.name))).unwrap();
                assert!(row.met(), "{row:?}\n{}", asker.daemon.log());
            }
        }
    }
}

#[test]
fn dig_cdsr_curl_and_ffprobe_get_their_nearest_server_and_another_when_it_dies() {
    let Some(lab) = require_lab() else { return };
    let asker = asker(&lab, &[]);
    assert_ne!(asker.daemon.stats().unwrap()["xdp"], "off", "{}", asker.daemon.log());
    settle(&asker, "c-fr", "s-fr");
    settle(&asker, "c-de", "s-de");
    expect_all(&asker, |client| if client == "c-fr" { "s-fr" } else { "s-de" });
    lab.stop_servers("s-fr").unwrap();
    settle(&asker, "c-fr", "s-de");
    expect_all(&asker, |_| "s-de");
}

#[test]
fn without_xdp_the_same_clients_get_the_same_servers_and_the_box_says_so() {
    let Some(lab) = require_lab() else { return };
    let asker = asker(&lab, &["--no-xdp"]);
    let stats = asker.daemon.stats().unwrap();
    assert_eq!(stats["xdp"], "off");
    assert!(stats["xdp_reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{stats}");
    settle(&asker, "c-fr", "s-fr");
    settle(&asker, "c-de", "s-de");
    expect_all(&asker, |client| if client == "c-fr" { "s-fr" } else { "s-de" });
}

#[test]
fn reload_under_traffic_loses_nothing_and_no_old_answer_follows_the_acknowledgement() {
    let Some(lab) = require_lab() else { return };
    let asker = asker(&lab, &[]);
    settle(&asker, "c-fr", "s-fr");
    let vip = SocketAddr::new(node(BOX).vip.unwrap().of(Family::V4), 53);
    // Old and new answers are disjoint: everybody goes far away after the reload, with another TTL, which stands in
    // another table.
    let old = configuration(BOX);
    let new = old.replace(r#"{ region = "fr", pools = ["fr"] }"#, r#"{ region = "fr", pools = ["deep"] }"#);
    let new = new.replace("dns = \"server\"", "dns = \"server\"\nttl = \"7s\"");
    let answers = [("s-fr", 0), ("s-deep", 7)].map(|(server, ttl)| (node(server).own.of(Family::V4), ttl));

    let (control, ()) = during(&lab, vip, || std::thread::sleep(Duration::from_secs(2))).unwrap();
    assert_eq!(control.lost, 0, "the harness itself loses answers: {} of {}", control.lost, control.sent);

    let mut acknowledged = Vec::new();
    let reloads = || {
        for round in 0..6 {
            std::thread::sleep(Duration::from_millis(300));
            asker.daemon.write_configuration(if round % 2 == 0 { &new } else { &old }).unwrap();
            let started = Instant::now();
            asker.daemon.reload().unwrap();
            acknowledged.push((started, Instant::now(), answers[1 - round % 2]));
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    let (run, ()) = during(&lab, vip, reloads).unwrap();
    assert_eq!(run.lost, 0, "{} of {} lost", run.lost, run.sent);
    assert!(run.sent > 200, "only {} queries", run.sent);
    let seen: HashSet<(IpAddr, u32)> = run.answers.iter().map(|(answer, _)| *answer).collect();
    assert_eq!(seen, HashSet::from(answers), "each is wholly old or wholly new");
    for (index, (_, done, expected)) in acknowledged.iter().enumerate() {
        let until = acknowledged.get(index + 1).map(|(started, _, _)| *started);
        for (answer, sent) in &run.answers {
            if sent > done && until.is_none_or(|until| *sent < until) {
                assert_eq!(answer, expected, "an old answer after acknowledgement {index}");
            }
        }
    }
    println!("{} queries through 6 reloads, none lost", run.sent);
}

#[test]
fn a_broken_configuration_is_refused_with_place_and_remedy_and_answers_go_on() {
    let Some(lab) = require_lab() else { return };
    let asker = asker(&lab, &[]);
    settle(&asker, "c-fr", "s-fr");
    let good = configuration(BOX);
    for (broken, says) in [
        (good.replace("[[pool]]", "[[pol]]"), "pol"),
        (good.replace("pools = [\"deep\"]", "pools = [\"depp\"]"), "did you mean `deep`"),
        (good[..good.len() / 2].to_owned(), "redirector.toml"),
        (String::from_utf8_lossy(&[0xff, 0xfe, 0]).into_owned(), "redirector.toml"),
        (String::new(), "redirector.toml"),
    ] {
        asker.daemon.write_configuration(&broken).unwrap();
        let error = format!("{:#}", asker.daemon.reload().unwrap_err());
        assert!(error.contains(says), "{says:?} is not in: {error}");
        settle(&asker, "c-fr", "s-fr");
    }
    asker.daemon.write_configuration(&good).unwrap();
    asker.daemon.reload().unwrap();
    settle(&asker, "c-fr", "s-fr");
}

#[test]
fn garbage_on_every_port_leaves_the_box_answering() {
    let Some(lab) = require_lab() else { return };
    let asker = asker(&lab, &[]);
    settle(&asker, "c-fr", "s-fr");
    let vip = node(BOX).vip.unwrap();
    for family in Family::ALL {
        let address = vip.of(family);
        lab.within("c-fr", || throw_garbage(address)).unwrap();
    }
    settle(&asker, "c-fr", "s-fr");
    expect_all(&asker, |client| if client == "c-fr" { "s-fr" } else { "s-de" });
}

/// Truncations and mutations of good messages to the UDP ports, and noise to the TCP ports.
fn throw_garbage(vip: IpAddr) {
    use std::io::{Read as _, Write as _};
    let any: SocketAddr = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    let good = DnsQuery { id: 7, ..DnsQuery::new(SERVER_NAME, rr::A) }.encode();
    for port in [53, 2554] {
        for length in 0..good.len() {
            socket.send_to(&good[..length], (vip, port)).unwrap();
        }
        for place in 0..good.len() {
            for value in [0, 0xff, good[place] ^ 0x80] {
                let mut bad = good.clone();
                bad[place] = value;
                socket.send_to(&bad, (vip, port)).unwrap();
            }
        }
        socket.send_to(&[0x43; 1232], (vip, port)).unwrap();
    }
    for port in [53, 80, 554] {
        for noise in [
            &b"\0\0"[..],
            &[0xff; 4096],
            b"GET / HTTP/1.1\r\nHost:",
            b"DESCRIBE \xff\r\n\r\n",
            b"$\0\0\x04abcd",
        ] {
            let mut stream =
                std::net::TcpStream::connect_timeout(&SocketAddr::new(vip, port), Duration::from_secs(5))
                    .unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            // The box may close before everything is written or read: both are right.
            let _ = stream.write_all(noise);
            let _ = stream.read(&mut [0; 4096]);
        }
    }
}

/// P-4: two boxes whose only servers are each other end a client's redirects instead of keeping it for ever.
#[test]
fn two_boxes_that_point_at_each_other_end_the_loop() {
    let Some(lab) = require_lab() else { return };
    let pointing = |name: &str, other: &str| {
        let (own, others) = (configuration(name), node(other).vip.unwrap());
        let far = node("s-deep").own;
        let target =
            "check = { http = \"/healthz\", every = \"200ms\", timeout = \"200ms\", rise = 1, fall = 2 }\n";
        own.replace(
            &format!("\"{}\", \"{}\"", far.v4, far.v6),
            &format!("\"{}\", \"{}\"", others.v4, others.v6),
        )
        .replace(target, "")
        .replace("pools = [\"fr\"]", "pools = [\"deep\"]")
        .replace("pools = [\"de\"]", "pools = [\"deep\"]")
        .replace(&format!("http = {WEB_PORT}, rtsp = {RTSP_PORT}"), "http = 80, rtsp = 554")
        // Each box also serves URLs that name its own address, which is how the other one redirects to it.
        .replace(
            "[\"http|rtsp://{customer}.cdn.acme.net/*\"]",
            &format!(
                "[\"http|rtsp://{{customer}}.cdn.acme.net/*\", \"http|rtsp://{}/*\"]",
                node(name).vip.unwrap().v4
            ),
        )
    };
    let program = program("redirector");
    let boxes: Vec<Daemon<'_>> = [(BOX, "box2"), ("box2", BOX)]
        .map(|(name, other)| Daemon::start(&lab, name, &program, &pointing(name, other), &[]).unwrap())
        .into();
    let client = lab.client("c-fr", Family::V4);
    let page = client.curl(&format!("http://{VIP_NAME}/")).map(|page| (page.status, page.redirects));
    match page {
        Ok((status, redirects)) => assert!(status == 508 && redirects < 60, "{status} after {redirects}"),
        // curl gives up by itself after its own limit of redirects.
        Err(error) => assert!(error.to_string().contains("47"), "{error:#}"),
    }
    // A player follows for ever; the boxes end it.
    let error = client.ffprobe(&format!("rtsp://{VIP_NAME}/live")).map(drop).unwrap_err().to_string();
    assert!(!error.contains("timed out"), "{error}");
    drop(boxes);
}
