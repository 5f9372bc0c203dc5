//! Content peering: whose servers serve whom, by all protocols, and how agreements end and fill up (P-29, P-31).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, TcpStream},
    time::Duration,
};

use redirector_tests::{
    lab::{
        Daemon, Lab,
        config::configuration,
        topology::{BOX, Family, RTSP_PORT, node},
    },
    program, require_lab,
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
        ["agreement:as500-one", "agreement:as400-one", "agreement:as500-two", "network:as500"].map(booked),
        [4, 4, 0, 0],
        "{after}"
    );
}
