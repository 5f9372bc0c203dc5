//! Loaded and bad servers: told load, grades that move first, tiers that fill up, and what clients hear when nobody is
//! left (P-8, P-12, P-18, P-22).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use redirector_tests::{
    lab::{
        Asker, Daemon, Delay, Lab, Protocol,
        config::{SERVER_NAME, VIP_NAME, configuration},
        topology::{BOX, Family, Role, node, with_role},
        wait_for,
    },
    program,
    questions::{CdsrReply, CdsrRequest, Opinion},
    require_lab,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// An overload that is told must move clients within this time.
const SECOND: Duration = Duration::from_secs(1);
/// A name of the ordinary service.
const ORDINARY: &str = "index.economy.abc.cdn.acme.net";

/// The lab's configuration, with a capacity for every server and thresholds of two grades: premium service stays near
/// until it is nearly full, ordinary service leaves earlier. The same servers serve both.
fn graded() -> String {
    let text = configuration(BOX);
    let text =
        text.replace("\ncheck = ", "\ncapacity = { bandwidth = \"1 Gbit/s\", connections = 1000 }\ncheck = ");
    let tiers = text.find("tiers = [").expect("tiers");
    let end = tiers + text[tiers..].find("\n]").expect("the end of the tiers");
    let coverage = |overflow: &str| {
        format!(
            "tiers = [\n  {{ region = \"*\", pools = [\"fr\"], overflow = {overflow} }},\n  \
             {{ region = \"*\", pools = [\"de\"], overflow = {overflow} }},\n  \
             {{ region = \"*\", pools = [\"deep\"], overflow = {overflow} }},\n]"
        )
    };
    let (premium, ordinary) = (coverage("{ above = 90, full = 98 }"), coverage("{ above = 60, full = 80 }"));
    let ordinary = format!(
        "\n\n[[coverage]]\nname = \"ordinary\"\n{ordinary}\n\n[[service]]\nname = \"economy\"\ncoverage = \"ordinary\"\n"
    );
    let text = format!("{}{premium}{ordinary}{}", &text[..tiers], &text[end + 2..]);
    text.replace(
        "names = [\n",
        "names = [\n  { labels = \"{object}.economy.{customer}\", service = \"economy\" },\n",
    )
}

fn start<'a>(lab: &'a Lab, configuration: &str) -> Asker<'a> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), configuration, &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    let asker = Asker { lab, daemon, cdsr: program("cdsr") };
    wait_for("checks", LIMIT, || {
        let stats = asker.daemon.stats().ok()?;
        let targets = stats["targets"].as_array()?;
        targets.iter().all(|target| target["up"] == true && target["round_trip_ms"].is_number()).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}; {}", asker.daemon.log()));
    asker
}

/// Tells a load in connections; a thousand are all that fit.
fn tell(asker: &Asker<'_>, target: &str, connections: u32, lifetime: &str) {
    let connections = connections.to_string();
    let words = [target, "--connections", &connections, "--for", lifetime];
    assert_eq!(asker.daemon.control("load", &words).unwrap().run().unwrap(), "1 taken\n");
}

/// Tells that a target is full until it takes nobody.
fn fill(asker: &Asker<'_>, target: &str) {
    let begun = Instant::now();
    wait_for("a full target", LIMIT, || {
        tell(asker, target, 1000, "60s");
        let loads = report(asker, target)["loads"].clone();
        let loads = loads.as_array().unwrap();
        (!loads.is_empty() && loads.iter().all(|load| load["open"] == 0)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}; {}", asker.daemon.log()));
    println!("{target} is closed after {} ms", begun.elapsed().as_millis());
}

fn report(asker: &Asker<'_>, target: &str) -> Value {
    let stats = asker.daemon.stats().unwrap();
    stats["targets"].as_array().unwrap().iter().find(|one| one["name"] == target).unwrap().clone()
}

/// The servers of clients in 64 networks by a name's service.
fn spread(asker: &Asker<'_>, name: &str) -> Vec<IpAddr> {
    let client = asker.lab.client("c-fr", Family::V4);
    let vip = node(BOX).vip.unwrap().v4.into();
    let ask = |n: u8| {
        let subnet = format!("+subnet=203.0.{n}.0/24");
        let report = client.dig(vip, &["+nocookie", "+padding=96", &subnet, name, "A"]).unwrap();
        report.addresses()[0]
    };
    (0..64).map(ask).collect()
}

fn count(servers: &[IpAddr], server: &str) -> usize {
    let own = IpAddr::from(node(server).own.v4);
    servers.iter().filter(|address| **address == own).count()
}

/// Every client gets this server by every protocol and family, datagrams from the fast path.
fn expect_all(asker: &Asker<'_>, server: &'static str) {
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                let row = asker.ask(client, family, protocol, node(server)).unwrap();
                assert!(row.met(), "{row:?}\n{}", asker.daemon.log());
            }
        }
    }
}

fn explain(asker: &Asker<'_>, name: &str) -> (Value, String) {
    let client = asker.lab.client("c-fr", Family::V4).address().to_string();
    let question = ["--client", &client, "--name", name];
    let text = asker.daemon.control("explain", &question).unwrap().run().unwrap();
    (asker.daemon.explain(&question).unwrap(), text)
}

#[test]
fn a_premium_customer_keeps_the_near_server_and_ordinary_ones_are_moved_first() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &graded());
    let calm = spread(&asker, ORDINARY);
    assert_eq!((count(&calm, "s-fr"), count(&spread(&asker, SERVER_NAME), "s-fr")), (64, 64));

    // Between the thresholds of ordinary service a part of its clients leaves, and of premium service none.
    let told = Instant::now();
    tell(&asker, "s-fr", 700, "60s");
    let first = spread(&asker, ORDINARY);
    assert!(told.elapsed() < Duration::from_secs(20), "the clients themselves take long");
    wait_for("a part of the ordinary clients elsewhere", LIMIT, || {
        tell(&asker, "s-fr", 700, "60s");
        let near = count(&spread(&asker, ORDINARY), "s-fr");
        (10..58).contains(&near).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {first:?}; {}", asker.daemon.log()));
    let part = spread(&asker, ORDINARY);
    assert_eq!(count(&part, "s-fr") + count(&part, "s-de"), 64, "to the next tier and no farther");
    assert_eq!(count(&spread(&asker, SERVER_NAME), "s-fr"), 64);
    let (explained, text) = explain(&asker, ORDINARY);
    assert_eq!(explained["fast_path"]["outcome"], "answers", "{explained}");
    assert!(
        text.contains("load 70 % of connections") && text.contains("by load (above 60 %, full at 80 %)"),
        "{text}"
    );
    assert!(text.contains("% of the clients"), "{text}");

    // At what is full for ordinary service premium customers stay.
    wait_for("no ordinary client at the near server", LIMIT, || {
        tell(&asker, "s-fr", 850, "60s");
        (count(&spread(&asker, ORDINARY), "s-fr") == 0).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}; {}", asker.daemon.log()));
    assert_eq!(count(&spread(&asker, SERVER_NAME), "s-fr"), 64);
    let removed = explain(&asker, ORDINARY).1;
    assert!(removed.contains("removed: takes no clients by the tier's terms"), "{removed}");
    let stats = asker.daemon.control("stats", &[]).unwrap().run().unwrap();
    assert!(stats.contains("takes 0/256 by load (above 60 %, full at 80 %)"), "{stats}");

    // A stale report lets go of them, after its time and not at once.
    tell(&asker, "s-fr", 850, "1s");
    let (begun, mut counts) = (Instant::now(), Vec::new());
    wait_for("ordinary clients at the near server again", 3 * LIMIT, || {
        let near = count(&spread(&asker, ORDINARY), "s-fr");
        counts.push(near);
        (near == 64).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {counts:?}; {}", asker.daemon.log()));
    assert!(begun.elapsed() > Duration::from_secs(3), "too sudden: {counts:?}");
    assert!(counts.iter().any(|near| (1..64).contains(near)), "not little by little: {counts:?}");
    assert_eq!(spread(&asker, ORDINARY), calm, "the same clients as before");
}

#[test]
fn an_overload_that_is_told_moves_clients_within_a_second_by_all_protocols() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &graded());
    expect_all(&asker, "s-fr");
    let told = Instant::now();
    tell(&asker, "s-fr", 1000, "60s");
    let open = report(&asker, "s-fr")["loads"][0]["open"].as_u64().unwrap();
    assert!(told.elapsed() < SECOND && open < 256, "{open}/256 after {:?}", told.elapsed());
    // All local servers are full: clients go deeper into the network.
    fill(&asker, "s-fr");
    expect_all(&asker, "s-de");
    fill(&asker, "s-de");
    expect_all(&asker, "s-deep");
}

/// What RTSP at a VIP says to DESCRIBE.
fn describe(vip: IpAddr) -> String {
    let mut stream = TcpStream::connect((vip, 554)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "DESCRIBE rtsp://{VIP_NAME}/live RTSP/1.0\r\nCSeq: 1\r\n\r\n").unwrap();
    let mut told = Vec::new();
    while !told.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let length = stream.read(&mut part).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&told));
        told.extend(&part[..length]);
    }
    String::from_utf8(told).unwrap()
}

#[test]
fn when_nobody_is_left_clients_of_all_protocols_are_told_to_come_later() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &graded());
    for server in ["s-fr", "s-de", "s-deep"] {
        fill(&asker, server);
    }
    for family in Family::ALL {
        let (client, vip) = (asker.lab.client("c-fr", family), node(BOX).vip.unwrap().of(family));
        let answer = client.dig(vip, &[SERVER_NAME, family.record_type()]).unwrap();
        assert_eq!((&*answer.status, answer.addresses().len()), ("SERVFAIL", 0));
        let told = client.cdsr(&asker.cdsr, vip, &format!("http://{VIP_NAME}/")).unwrap();
        assert_eq!(told["outcome"], "retry-later", "{told}");
        let url = format!("http://{VIP_NAME}/");
        let told = client.command(&["curl", "-s", "-i", &url]).run().unwrap().to_lowercase();
        assert!(told.starts_with("http/1.1 503") && told.contains("\r\nretry-after: 1\r\n"), "{told}");
        let told = asker.lab.within("c-fr", || describe(vip)).unwrap();
        assert!(told.starts_with("RTSP/1.0 503") && told.contains("\r\nRetry-After: 1\r\n"), "{told}");
    }
}

/// The first server that a client is told by CDSR when these failed it; `preferred` makes the daemon answer.
fn told_by_cdsr(asker: &Asker<'_>, client: &str, failed: &[&str], preferred: Option<&str>) -> IpAddr {
    let vip = node(BOX).vip.unwrap().v4;
    let url = format!("http://{VIP_NAME}/");
    let own = |name: &str| IpAddr::from(node(name).own.v4);
    let failed = failed.iter().map(|name| (own(name), Opinion::Failed));
    let servers = failed.chain(preferred.map(|name| (own(name), Opinion::Preferred))).collect();
    let request = CdsrRequest { max_endpoints: 1, servers, length: 300, ..CdsrRequest::new(&url) }.encode();
    let reply = asker.lab.within(client, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.send_to(&request, (vip, 2554)).unwrap();
        let mut reply = vec![0; 2048];
        let length = socket.recv(&mut reply).unwrap();
        reply.truncate(length);
        reply
    });
    CdsrReply::read(&reply.unwrap()).unwrap().endpoints[0].address
}

#[test]
fn a_failed_list_is_for_its_own_reply_alone_on_both_paths() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &graded());
    let [near, next] = ["s-fr", "s-de"].map(|name| IpAddr::from(node(name).own.v4));
    let epoch = || asker.daemon.stats().unwrap()["epoch"].clone();
    let before = epoch();
    for (path, preferred) in [("XDP", None), ("sockets", Some("s-deep"))] {
        let (told, risen) =
            asker.daemon.counted(|| told_by_cdsr(&asker, "c-fr", &["s-fr"], preferred)).unwrap();
        let answered: Vec<&str> =
            risen.iter().filter(|one| one.is_answer()).map(|one| one.path.name()).collect();
        assert_eq!(answered, [path], "{risen:?}");
        assert_eq!(told, next);
        for client in ["c-fr", "c-de"] {
            assert_eq!(told_by_cdsr(&asker, client, &[], preferred), near, "the same client, and another");
        }
    }
    assert_eq!(epoch(), before, "no record was written");
}

#[test]
fn many_forged_reports_take_no_server_out() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &graded());
    let near = IpAddr::from(node("s-fr").own.v4);
    let before = report(&asker, "s-fr");
    for _ in 0..500 {
        // To the daemon, which counts them.
        told_by_cdsr(&asker, "c-fr", &["s-fr"], Some("s-deep"));
    }
    assert_eq!(told_by_cdsr(&asker, "c-de", &[], None), near);
    let after = report(&asker, "s-fr");
    assert_eq!(
        (&after["up"], &after["doubted"], &after["since"]),
        (&true.into(), &Value::Null, &before["since"])
    );
}

#[test]
fn servers_are_used_unless_their_quality_drops() {
    let Some(lab) = require_lab() else { return };
    let text = graded().replace(
        "overflow = { above = 90, full = 98 } },\n  { region = \"*\", pools = [\"de\"]",
        "unless = { rtt = \"60ms\" } },\n  { region = \"*\", pools = [\"de\"]",
    );
    assert!(text.contains("unless"), "{text}");
    let path = Delay::new(&lab, "s-fr", Duration::from_millis(10)).unwrap();
    let asker = start(&lab, &text);
    let near = |server: &str| {
        wait_for("the servers by quality", LIMIT, || {
            (count(&spread(&asker, SERVER_NAME), server) == 64).then_some(())
        })
        .unwrap_or_else(|error| panic!("{server}: {error:#}; {}", asker.daemon.log()));
    };
    near("s-fr");
    path.set(Duration::from_millis(90));
    near("s-de");
    let (explained, text) = explain(&asker, SERVER_NAME);
    assert_eq!(explained["reason"], "later-tier");
    assert!(text.contains("takes 0/256 by its round trip, by `unless`"), "{text}");
    assert_eq!(count(&spread(&asker, ORDINARY), "s-fr"), 64, "other tiers ask nothing of it");
    path.set(Duration::from_millis(10));
    let better = Instant::now();
    wait_for("the near server again", 3 * LIMIT, || {
        (count(&spread(&asker, SERVER_NAME), "s-fr") == 64).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}; {}", asker.daemon.log()));
    assert!(better.elapsed() > Duration::from_secs(10), "it has to be good for a while");
}

#[test]
fn reports_that_cannot_be_are_refused_and_hinder_no_others() {
    let Some(lab) = require_lab() else { return };
    let asker = start(&lab, &graded());
    let file = asker.daemon.dir().join("loads.json");
    let reports = serde_json::json!([
        { "target": "s-fr", "bandwidth": "200 Mbit/s" },
        { "target": "s-xx", "connections": 3 },
        { "target": "s-de", "requests": "3 requests/s" },
        { "target": "s-deep", "connections": 400, "for": "10s" },
    ]);
    std::fs::write(&file, reports.to_string()).unwrap();
    let refused =
        asker.daemon.control("load", &["--json", file.to_str().unwrap()]).unwrap().run().unwrap_err();
    let refused = format!("{refused:#}");
    for part in ["target \"s-xx\": there is no such target", "\"s-de\": its capacity is not told in requests"]
    {
        assert!(refused.contains(part), "{refused}");
    }
    let percent = |target| report(&asker, target)["loads"][0]["level"]["percent"].as_f64();
    assert_eq!((percent("s-fr"), percent("s-de"), percent("s-deep")), (Some(20.0), None, Some(40.0)));
    // A reload keeps what was told.
    asker.daemon.reload().unwrap();
    assert_eq!(percent("s-fr"), Some(20.0));
}
