//! Content peering: whose servers serve whom, by all protocols, and how agreements end and fill up (P-29, P-31).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use redirector_tests::{
    lab::{
        Daemon, Lab,
        config::configuration,
        topology::{BOX, Family, RTSP_PORT, node},
        wait_for,
    },
    program,
    questions::{DnsQuery, Edns, PADDING, rr},
    require_lab,
};
use serde_json::Value;

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    /// A server of the network that it is a client of.
    Ours,
    /// The provider's own CDN, by name.
    Outside(String),
}

/// Figure 10 of the source: a box in AS 500, which is an affiliate of both backbones, and serves clients of AS 400,
/// which is an affiliate of the first alone.
const FIGURE_10: &str = r#"
[network]
name = "as500"
[[partner]]
name = "as400"
clients = ["198.18.49.0/24", "2001:db8:49::/48"]

[[target]]
name = "one-edge"
cname = "edge.one.example"
[[target]]
name = "two-edge"
cname = "edge.two.example"
[[target]]
name = "own-edge"
cname = "edge.as500.example"

[[provider]]
name = "abc"
customers = ["abc"]
primary = ["one"]
outside = "one-edge"
[[provider]]
name = "nbc"
customers = ["nbc"]
primary = ["two"]
outside = "two-edge"
[[provider]]
name = "local"
customers = ["local"]
primary = ["as500"]
outside = "own-edge"

[[broker]]
name = "exchange"

[[peering]]
name = "as500-one"
with = "one"
owner = "exchange"
[[peering]]
name = "as500-two"
with = "two"
[[peering]]
name = "as400-one"
network = "as400"
with = "one"
"#;

const PROVIDERS: [(&str, &str); 3] =
    [("abc", "edge.one.example"), ("nbc", "edge.two.example"), ("local", "edge.as500.example")];

fn start<'l>(lab: &'l Lab, peering: &str) -> Daemon<'l> {
    let configuration = configuration(BOX) + peering;
    let daemon = Daemon::start(lab, BOX, &program("redirector"), &configuration, &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn vip(family: Family) -> IpAddr {
    node(BOX).vip.unwrap().of(family)
}

fn outside(name: &str) -> Got {
    Got::Outside(name.trim_end_matches('.').to_owned())
}

fn server(client: &str, family: Family, address: IpAddr) -> Got {
    let near = node(if client == "c-fr" { "s-fr" } else { "s-de" });
    assert_eq!(address, near.own.of(family), "not the nearest server of {client}");
    Got::Ours
}

fn by_dns(lab: &Lab, client: &str, family: Family, customer: &str) -> Got {
    let name = format!("x.web.{customer}.cdn.acme.net");
    let report = lab
        .client(client, family)
        .dig(vip(family), &["+nocookie", "+padding=96", &name, family.record_type()]);
    let report = report.unwrap();
    let [answer] = &report.answers[..] else { panic!("{client} {customer}: {report:?}") };
    if answer.kind == "CNAME" {
        outside(&answer.data)
    } else {
        server(client, family, answer.data.parse().unwrap())
    }
}

fn by_cdsr(lab: &Lab, client: &str, family: Family, customer: &str) -> Got {
    let url = format!("http://x.web.{customer}.cdn.acme.net/");
    let report = lab.client(client, family).cdsr(&program("cdsr"), vip(family), &url).unwrap();
    match report["outcome"].as_str().unwrap() {
        "handled" => {
            let address = report["endpoints"][0]["address"].as_str().unwrap();
            server(client, family, address.parse().unwrap())
        }
        // Which leads to the very name by DNS and HTTP.
        outcome => {
            assert_eq!(outcome, "use-legacy", "{report}");
            by_dns(lab, client, family, customer)
        }
    }
}

/// The host of a redirect's location: a server's address, or a name.
fn redirected(client: &str, family: Family, location: &str) -> Got {
    let host = location.split("://").nth(1).unwrap().split('/').next().unwrap();
    let host = host.strip_suffix(&format!(":{RTSP_PORT}")).unwrap_or(host);
    match host.trim_matches(['[', ']']).parse() {
        Ok(address) => server(client, family, address),
        Err(_) => outside(host),
    }
}

fn by_http(lab: &Lab, client: &str, family: Family, customer: &str) -> Got {
    let url = format!("http://{customer}.cdn.acme.net/page");
    let command = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{redirect_url}", &url];
    redirected(client, family, &lab.client(client, family).command(&command).run().unwrap())
}

fn by_rtsp(lab: &Lab, client: &str, family: Family, customer: &str) -> Got {
    let location = lab.within(client, || {
        let mut stream = TcpStream::connect((vip(family), 554)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "DESCRIBE rtsp://{customer}.cdn.acme.net/live RTSP/1.0\r\nCSeq: 1\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix("Location: ").map(str::to_owned)).unwrap()
    });
    redirected(client, family, &location.unwrap())
}

type Asking = fn(&Lab, &str, Family, &str) -> Got;
const PROTOCOLS: [(&str, Asking); 4] =
    [("DNS", by_dns), ("CDSR", by_cdsr), ("HTTP", by_http), ("RTSP", by_rtsp)];

/// What a client gets of each provider; all protocols and families agree.
fn asked(lab: &Lab, client: &str) -> Vec<Got> {
    let each = PROVIDERS.iter().map(|(customer, _)| {
        let first = by_dns(lab, client, Family::V4, customer);
        for family in Family::ALL {
            for (protocol, ask) in PROTOCOLS {
                assert_eq!(
                    ask(lab, client, family, customer),
                    first,
                    "{client} {family:?} {customer} by {protocol}"
                );
            }
        }
        first
    });
    each.collect()
}

fn counted(stats: &Value, target: &str) -> u64 {
    ["fast", "slow"].iter().map(|path| stats[*path]["targets"][target].as_u64().unwrap_or(0)).sum()
}

/// P-29, P-31: each client of each network, each provider, each protocol; and each request is booked once.
#[test]
fn figure_10_every_client_gets_each_provider_as_its_network_has_agreed() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, FIGURE_10);
    let outside = PROVIDERS.map(|(_, name)| outside(name));
    // AS 500 has an agreement with both backbones, and is the primary CDN of the third provider.
    assert_eq!(asked(&lab, "c-fr"), [Got::Ours, Got::Ours, Got::Ours]);
    // AS 400 has one with the first.
    assert_eq!(asked(&lab, "c-de"), [Got::Ours, outside[1].clone(), outside[2].clone()]);
    let before = daemon.stats().unwrap();
    for (protocol, ask) in PROTOCOLS {
        ask(&lab, "c-fr", Family::V4, "abc");
        ask(&lab, "c-de", Family::V4, "abc");
        let _ = protocol;
    }
    let after = daemon.stats().unwrap();
    let booked = |name: &str| counted(&after, name) - counted(&before, name);
    assert_eq!(
        [
            "agreement:as500-one@abc",
            "agreement:as400-one@abc",
            "agreement:as500-two@nbc",
            "network:as500@local"
        ]
        .map(booked),
        [4, 4, 0, 0],
        "{after}"
    );
}

/// How soon a change of an agreement has to be in effect.
const IN_EFFECT: Duration = Duration::from_secs(1);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What the client in France gets of the second backbone's provider: servers of AS 500 as long as they have an agreement.
fn peered(lab: &Lab) -> bool {
    by_dns(lab, "c-fr", Family::V4, "nbc") == Got::Ours
}

fn agreement(daemon: &Daemon<'_>, words: &[&str]) -> Result<String, String> {
    daemon.control("agreement", words).unwrap().run().map_err(|error| format!("{error:#}"))
}

/// The agreement with this name, as `redirector stats` tells.
fn standing(daemon: &Daemon<'_>, name: &str) -> Value {
    let stats = daemon.stats().unwrap();
    let found = stats["agreements"].as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no agreement {name}: {stats}")).clone()
}

/// All protocols lead the client in France to this for the second backbone's provider.
fn all_agree(lab: &Lab, expected: &Got) {
    for family in Family::ALL {
        for (protocol, ask) in PROTOCOLS {
            assert_eq!(ask(lab, "c-fr", family, "nbc"), *expected, "{family:?} by {protocol}");
        }
    }
}

/// Seconds since 1970 as a date and time.
fn utc(seconds: u64) -> String {
    let (clock, days) = (seconds % 86_400, (seconds / 86_400) as i64);
    // From the test's own calendar: days of years, then of months.
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut rest) = (1970, days);
    while rest >= 365 + i64::from(is_leap(year)) {
        rest -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, rest + 1)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// P-29: an agreement begins and ends at its time, within a second and by itself, by all protocols.
#[test]
fn agreements_begin_and_expire_by_the_clock() {
    let Some(lab) = require_lab() else { return };
    let now = since_1970().as_secs();
    let (from, until) = (now + 6, now + 12);
    let valid = format!("valid = {{ from = {}, until = {} }}", utc(from), utc(until));
    let of_two = "with = \"two\"\n";
    let daemon = start(&lab, &FIGURE_10.replace(of_two, &format!("{of_two}{valid}\n")));
    let outside = outside("edge.two.example");
    assert_eq!(by_dns(&lab, "c-fr", Family::V4, "nbc"), outside);
    for (when, expected) in [(from, Got::Ours), (until, outside)] {
        let changed = wait_for("the time of the agreement", LIMIT, || {
            (by_dns(&lab, "c-fr", Family::V4, "nbc") == expected).then(since_1970)
        });
        let changed = changed.unwrap();
        let at = Duration::from_secs(when);
        assert!(changed >= at && changed < at + IN_EFFECT, "{changed:?} instead of {at:?}");
        all_agree(&lab, &expected);
    }
    let standing = standing(&daemon, "as500-two");
    assert_eq!(standing["lapse"], "expired", "{standing}");
    // The other agreement is not touched.
    assert_eq!(by_dns(&lab, "c-fr", Family::V4, "abc"), Got::Ours);
}

/// P-29, P-31: withdrawn, offered, accepted, out of hours and full, each in effect at once; and kept over a restart, until
/// the file says something else.
#[test]
fn agreements_are_ended_offered_accepted_and_changed_at_run_time() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, FIGURE_10);
    let outside = outside("edge.two.example");
    let asked = |words: &[&str]| {
        let began = Instant::now();
        let said = agreement(&daemon, words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert!(began.elapsed() < LIMIT);
        said
    };
    all_agree(&lab, &Got::Ours);
    // Withdrawn: in effect when the command returns.
    asked(&["end", "as500-two"]);
    all_agree(&lab, &outside);
    let client = lab.client("c-fr", Family::V4).address().to_string();
    let explain = daemon.explain(&["--client", &client, "--name", "x.web.nbc.cdn.acme.net"]).unwrap();
    assert_eq!((&explain["reason"], &explain["code"]), (&"foreign".into(), &26.into()), "{explain}");
    assert_eq!(explain["accounts"][0]["target"], "agreement:as500-two@nbc", "{explain}");
    assert_eq!(explain["accounts"][0]["note"], "withdrawn", "{explain}");
    assert_eq!(explain["accounts"][1]["chosen"], true, "{explain}");
    assert_eq!(
        (&explain["network"]["name"], &explain["fast_path"]["outcome"]),
        (&"as500".into(), &"answers".into())
    );
    // Offered anew: it does not hold before it is accepted.
    asked(&["offer", "as500-two", "--with", "two"]);
    assert!(!peered(&lab));
    asked(&["accept", "as500-two"]);
    all_agree(&lab, &Got::Ours);
    // At another time of day than now.
    let hour = since_1970().as_secs() / 3600 % 24;
    asked(&[
        "change",
        "as500-two",
        "--hours",
        &format!("{:02}:00-{:02}:00", (hour + 2) % 24, (hour + 3) % 24),
    ]);
    all_agree(&lab, &outside);
    asked(&["change", "as500-two", "--hours", "always"]);
    all_agree(&lab, &Got::Ours);
    // A new one through a broker, for other content: tables are made anew.
    asked(&[
        "offer",
        "as400-two",
        "--network",
        "as400",
        "--with",
        "two",
        "--providers",
        "nbc",
        "--as",
        "exchange",
    ]);
    assert_ne!(by_dns(&lab, "c-de", Family::V4, "nbc"), Got::Ours);
    let refused = agreement(&daemon, &["accept", "as400-two"]).unwrap_err();
    assert!(refused.contains("broker `exchange` owns `as400-two`: add --as exchange"), "{refused}");
    asked(&["accept", "as400-two", "--as", "exchange"]);
    assert_eq!(by_dns(&lab, "c-de", Family::V4, "nbc"), Got::Ours);
    // No capacity at all: full.
    asked(&["change", "as500-two", "--capacity", "0 requests/s"]);
    wait_for("a full agreement", IN_EFFECT, || (!peered(&lab)).then_some(())).unwrap();
    all_agree(&lab, &outside);
    daemon.stop().unwrap();
    // Kept for the next run.
    let daemon = start(&lab, FIGURE_10);
    assert_eq!(by_dns(&lab, "c-de", Family::V4, "nbc"), Got::Ours);
    wait_for("a full agreement", IN_EFFECT, || (!peered(&lab)).then_some(())).unwrap();
    // The file says something new of one of them: that decides about it from now on.
    let priced = FIGURE_10.replace("with = \"two\"\n", "with = \"two\"\nprice = 2\n");
    daemon.write_configuration(&(configuration(BOX) + &priced)).unwrap();
    daemon.reload().unwrap();
    assert!(peered(&lab), "{}", daemon.log());
    assert_eq!(standing(&daemon, "as500-two")["decided_at_run_time"], false);
    assert_eq!(by_dns(&lab, "c-de", Family::V4, "nbc"), Got::Ours);
}

/// P-29, A-10: a mistake in one agreement leaves it as it was, and everything else is taken.
#[test]
fn an_agreement_with_errors_stays_as_it_was_and_the_rest_is_taken() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, FIGURE_10);
    let wrong = FIGURE_10
        .replace("with = \"two\"\n", "with = \"two\"\nhours = [\"25:00-26:00\"]\n")
        .replace("with = \"one\"\nowner", "with = \"one\"\nstate = \"withdrawn\"\nowner");
    daemon.write_configuration(&(configuration(BOX) + &wrong)).unwrap();
    let said = daemon.reload().unwrap();
    assert!(said.contains("`25:00-26:00` is not a part of a day"), "{said}");
    assert!(peered(&lab), "as it was");
    assert_ne!(by_dns(&lab, "c-fr", Family::V4, "abc"), Got::Ours, "what is right is taken");
    assert_eq!(by_dns(&lab, "c-de", Family::V4, "abc"), Got::Ours);
}

/// Asks once for each of so many client networks; how many were led to a server of ours.
fn ask_for_networks(lab: &Lab, networks: u16) -> u64 {
    lab.within("c-fr", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.connect((vip(Family::V4), 53)).unwrap();
        let ours = (0..networks).filter(|network| {
            let [high, low] = network.to_be_bytes();
            // Room for the longer answer.
            let edns =
                Edns::new(false).subnet(Ipv4Addr::new(10, high, low, 0).into(), 24).option(PADDING, &[0; 40]);
            let query =
                DnsQuery { id: *network, ..DnsQuery::new("x.web.nbc.cdn.acme.net", rr::A).edns(edns) };
            let query = query.encode();
            socket.send(&query).unwrap();
            let mut reply = [0; 1500];
            let length = socket.recv(&mut reply).unwrap();
            // The first record stands behind the question: a pointer to its name, then its type.
            let question_end = 12 + "x.web.nbc.cdn.acme.net".len() + 2 + 4;
            reply[..length][question_end + 3] == rr::A as u8
        });
        ours.count() as u64
    })
    .unwrap()
}

/// P-29: what is above an agreement's capacity goes outside within a second, the same clients all the time, and comes back
/// when there is room.
#[test]
fn a_full_agreement_counts_as_none_for_what_it_has_no_room_for() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(
        &lab,
        &FIGURE_10.replace("with = \"two\"\n", "with = \"two\"\ncapacity = \"200 requests/s\"\n"),
    );
    assert_eq!(ask_for_networks(&lab, 150), 150, "it is not full");
    let factor = || standing(&daemon, "as500-two")["factor"].as_u64().unwrap();
    assert_eq!(factor(), 256);
    // As fast as it goes: some thousands in a second.
    let began = Instant::now();
    while factor() == 256 {
        ask_for_networks(&lab, 300);
        assert!(began.elapsed() < Duration::from_secs(3), "{}", standing(&daemon, "as500-two"));
    }
    let mut rates = Vec::new();
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_secs(4) {
        let began = Instant::now();
        let ours = ask_for_networks(&lab, 500);
        rates.push(ours as f64 / began.elapsed().as_secs_f64());
    }
    let late = &rates[rates.len() / 2..];
    assert!(late.iter().all(|rate| *rate < 400.0), "200 a second are booked: {rates:?}");
    assert!(ask_for_networks(&lab, 500) < 500, "some go outside");
    let explained = standing(&daemon, "as500-two");
    assert_eq!(explained["lapse"], Value::Null, "{explained}");
    // Nobody asks any more: it opens again, step by step.
    wait_for("an open agreement", Duration::from_secs(60), || (factor() == 256).then_some(())).unwrap();
    assert_eq!(ask_for_networks(&lab, 150), 150);
}
