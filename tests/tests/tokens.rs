//! Sealed names, services for those who are authorised, and names that fit no rule, by all protocols and real clients
//! (P-6, P-10, P-15).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::IpAddr;

use redirector_names::{Key, Purpose, Scope, longest_codepoint, seal, sign_name, sign_url};
use redirector_tests::{
    lab::{
        AnswerPath, Client, Daemon, Lab, Protocol, Resolver, RootServer, Software,
        config::configuration,
        keys,
        topology::{BOX, Family, WEB_PORT, node},
    },
    program, require_commands, require_lab,
};
use serde_json::Value;

const NEAR: &str = "s-fr";
const DEEP: &str = "s-deep";

fn key(id: u8) -> Key {
    Key::new(id, &keys::secret(id))
}

fn start<'l>(lab: &'l Lab, policy: &str) -> Daemon<'l> {
    let keys = keys::keys(lab.dir(), &[(1, "sign")]).unwrap();
    let daemon = Daemon::start(lab, BOX, &program("redirector"), &format!("{policy}{keys}"), &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn vip() -> IpAddr {
    node(BOX).vip.unwrap().v4.into()
}

fn server(name: &str) -> IpAddr {
    node(name).own.v4.into()
}

/// A client that has the VIP's address for a host.
fn client<'l>(lab: &'l Lab, host: &str) -> Client<'l> {
    lab.client("c-fr", Family::V4).holding(host, vip()).unwrap()
}

#[track_caller]
fn assert_all(lab: &Lab, host: &str, expected: &str, why: &str) {
    for protocol in Protocol::ALL {
        let found = client(lab, host).find(protocol, &program("cdsr"), vip(), host);
        assert_eq!(
            found.map_err(|error| format!("{error:#}")),
            Ok(vec![server(expected)]),
            "{why}: {host} by {protocol:?}"
        );
    }
}

fn dig(lab: &Lab, name: &str, kind: &str) -> redirector_tests::lab::DnsReport {
    // Padded, because behind a frame of a veth there may be no room to grow, and the daemon would answer.
    lab.client("c-fr", Family::V4).dig(vip(), &["+nocookie", "+padding=96", name, kind]).unwrap()
}

/// The first endpoint that `cdsr` is told, or the outcome without one.
fn endpoint(lab: &Lab, url: &str, more: &[&str]) -> Result<(IpAddr, u64), String> {
    let (program, vip) = (program("cdsr"), vip().to_string());
    let words = [&[program.to_str().unwrap(), "resolve", url, "--server", &vip, "--json"], more].concat();
    let output = lab.client("c-fr", Family::V4).command(&words).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &report["endpoints"][0];
    match (first["address"].as_str(), first["port"].as_u64()) {
        (Some(address), Some(port)) => Ok((address.parse().unwrap(), port)),
        _ => Err(report["outcome"].as_str().unwrap_or_default().to_owned()),
    }
}

/// Where `curl` is sent to for a URL, or the status without that.
fn location(lab: &Lab, host: &str, url: &str) -> Result<String, String> {
    let words =
        ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}", url];
    let report = client(lab, host).command(&words).run().unwrap();
    let (status, location) = report.split_once(' ').unwrap();
    if location.is_empty() { Err(status.to_owned()) } else { Ok(location.trim().to_owned()) }
}

/// The lab's configuration with a zone's keys, names and services added.
fn policy(zone: &str, names: &str, services: &str) -> String {
    let far = "\n[[coverage]]\nname = \"far\"\ntiers = [{ region = \"*\", pools = [\"deep\"] }]\n";
    configuration(BOX).replace("names = [\n", &format!("{zone}\nnames = [\n{names}")) + far + services
}

fn sealing() -> String {
    let names = "{ labels = \"{object}.{tag}.gold\", service = \"gold\", signed = {} },\n";
    let gold = "[[service]]\nname = \"gold\"\ncoverage = \"far\"\nurls = [{ url = \
                \"http|rtsp://{object}.{tag}.gold.cdn.acme.net/*\", signed = {} }]\n";
    let web = configuration(BOX);
    assert!(web.contains("urls = [\"http://{object}.web.{customer}.cdn.acme.net/*\"]"));
    policy("sealed = { label = \"x\" }", names, gold)
        .replace("[\"http://{object}.web.", "[\"http|rtsp://{object}.web.")
}

#[test]
fn sealed_names_lead_where_what_is_in_them_does() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &sealing());
    let sealed = |codepoint: &str| seal(&key(1), codepoint, "x.cdn.acme.net").unwrap();
    let name = sealed("index.web.abc");
    assert!(!name.contains("web") && name.split('.').next().unwrap().len() == 61, "{name}");
    assert_all(&lab, &name, NEAR, "one label");
    assert_all(&lab, &name.to_uppercase(), NEAR, "0x20");
    let long = sealed(&format!("{}.web.a-customer-with-a-name", "object-of-many-words".repeat(3)));
    assert_eq!(long.split('.').count(), 4 + 3, "{long}");
    assert_all(&lab, &long, NEAR, "three labels");
    let inner = sign_name(&key(1), Purpose::Grade, "film.*.gold", None);
    assert!(inner.is_ok(), "a pattern for names is one for codepoints");
    let full = sign_name(&key(1), Purpose::Grade, "film.*.gold.cdn.acme.net", None).unwrap();
    assert_all(&lab, &sealed(full.trim_end_matches(".cdn.acme.net")), DEEP, "signed and sealed");
    let explained = daemon.explain(&["--client", "198.18.33.2", "--name", &name]).unwrap();
    assert_eq!(explained["proofs"][0], "seal: good, by key k1: index.web.abc");
    assert_eq!(explained["fast_path"]["reason"], "punt-proof");
}

#[test]
fn sealed_names_that_say_nothing_are_refused_and_their_parts_are_not() {
    let Some(lab) = require_lab() else { return };
    let _daemon = start(&lab, &sealing());
    let sealed = |codepoint: &str| seal(&key(1), codepoint, "x.cdn.acme.net").unwrap();
    let long = sealed("object-of-many-words.web.a-customer-with-a-name");
    let mut altered = long.clone();
    altered.replace_range(5..6, if &long[5..6] == "a" { "b" } else { "a" });
    for (name, why) in [
        (altered, "altered"),
        (seal(&key(2), "index.web.abc", "x.cdn.acme.net").unwrap(), "another key"),
        (sealed("a.b.c.d.e"), "no name of the zone"),
        (sealed("web.abc"), "a part of a name"),
        (sealed("film.tabc.gold"), "a bad tag within"),
        ("hello.x.cdn.acme.net".to_owned(), "no seal"),
    ] {
        let report = dig(&lab, &name, "A");
        assert_eq!((&*report.status, report.answers.len()), ("REFUSED", 0), "{why}: {name}");
        assert_eq!(endpoint(&lab, &format!("http://{name}/"), &[]), Err("denied".into()), "{why}");
        assert_eq!(location(&lab, &name, &format!("http://{name}/")), Err("403".into()), "{why}");
    }
    let (_, part) = long.split_once('.').unwrap();
    let report = dig(&lab, part, "A");
    assert_eq!((&*report.status, report.answers.len()), ("NOERROR", 0), "{part}");
}

/// Resolvers ask for a sealed name label by label, and get its server.
#[test]
fn resolvers_that_minimise_names_find_sealed_and_signed_ones() {
    let programs = Software::ALL.map(Software::program);
    let Some(lab) = require_commands(&programs).then(require_lab).flatten() else { return };
    let _daemon = start(&lab, &sealing());
    let root = RootServer::start(&lab, DEEP).unwrap();
    let codepoint = format!("{}.web.customer", "a".repeat(63));
    assert!(codepoint.len() <= longest_codepoint("x.cdn.acme.net"));
    let sealed = seal(&key(1), &codepoint, "x.cdn.acme.net").unwrap();
    let signed = sign_name(&key(1), Purpose::Grade, "film.*.gold.cdn.acme.net", None).unwrap();
    for software in Software::ALL {
        let resolver = Resolver::start(&root, "c-fr", software, Family::V4).unwrap();
        let asker = lab.client("c-fr", Family::V4);
        for (name, expected) in [(&sealed, NEAR), (&signed, DEEP)] {
            let report = resolver.ask(&asker, &[name, "A"]).unwrap();
            assert_eq!(
                (&*report.status, report.addresses()),
                ("NOERROR", vec![server(expected)]),
                "{software:?} {name}"
            );
        }
    }
}

/// A service with its own port for those who are authorised, in each of the ways in which others are kept out.
fn guarded(otherwise: &str) -> String {
    let names = "{ labels = \"{object}.{tag}.film\", service = \"film\" },\n\
                 { labels = \"{object}.film\", service = \"film\" },\n";
    let services = format!(
        "[[service]]\nname = \"decoy\"\ncoverage = \"far\"\n\
         [[service]]\nname = \"film\"\ncoverage = \"nearest\"\nhttps = {{ port = 8080 }}\n\
         authorised = {{ keys = [\"k1\"], otherwise = {otherwise} }}\n\
         urls = [\"http|rtsp://{{object}}.film.cdn.acme.net/hd/*\", \"http|rtsp://{{object}}.{{tag}}.film.cdn.acme.net/*\"]\n"
    );
    policy("", names, &services)
}

/// Where the lab's servers really listen for http: the scheme's own port.
const WEB: u64 = WEB_PORT as u64;

#[test]
fn a_tag_in_the_name_authorises_by_any_protocol() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &guarded("{ service = \"decoy\" }"));
    let tagged = |purpose| sign_name(&key(1), purpose, "a.*.film.cdn.acme.net", None).unwrap();
    assert_all(&lab, &tagged(Purpose::Access), NEAR, "authorised");
    assert_all(&lab, &tagged(Purpose::Grade), DEEP, "a tag for another purpose");
    assert_all(&lab, "a.tabc.film.cdn.acme.net", DEEP, "no tag");
    let (report, risen) = daemon.counted(|| dig(&lab, "a.film.cdn.acme.net", "A")).unwrap();
    assert_eq!(report.addresses(), [server(DEEP)], "a name without a label for a tag");
    let slow = risen.iter().any(|risen| risen.path == AnswerPath::Slow && risen.is_answer());
    assert!(!slow, "the fast path knows what those get who cannot be authorised: {risen:?}");
}

#[test]
fn a_token_with_a_url_authorises_beneath_its_path_for_its_network_until_it_ends() {
    let Some(lab) = require_lab() else { return };
    let _daemon = start(&lab, &guarded("\"refuse\""));
    let host = "a.film.cdn.acme.net";
    let here = lab.client("c-fr", Family::V4).address();
    let token = |id: u8, segments, client, expires| {
        sign_url(&key(id), host, "/hd/live/1.ts", &Scope { segments, client, expires }).unwrap()
    };
    let url = format!("http://{host}/hd/live/2.ts");
    let sent = format!("http://{}/hd/live/2.ts", server(NEAR));
    for token in [
        token(1, 0, None, None),
        token(1, 2, Some((here, 24)), Some(u32::MAX)),
        token(1, 2, Some((here, 32)), None),
    ] {
        assert_eq!(location(&lab, host, &format!("{url}?token={token}")), Ok(sent.clone()), "in the query");
        let within = format!("http://{host}/hd/token={token}/live/2.ts");
        assert_eq!(location(&lab, host, &within), Ok(sent.clone()), "in the path");
        let expected = Ok((server(NEAR), WEB));
        assert_eq!(endpoint(&lab, &format!("{url}?token={token}"), &[]), expected, "by CDSR in the URL");
        assert_eq!(endpoint(&lab, &url, &["--token", &token]), expected, "by CDSR with the request");
        let rtsp = format!("rtsp://{host}/hd/live/2.ts?token={token}");
        let refused = format!("{:#}", client(&lab, host).ffprobe(&rtsp).unwrap_err());
        assert!(!refused.contains("403"), "RTSP goes on to the server: {refused}");
    }
    let other = sign_url(&key(1), host, "/hd/vod/", &Scope { segments: 2, ..Scope::default() }).unwrap();
    for (token, why) in [
        (other, "another path"),
        (token(1, 2, Some(("192.0.2.0".parse().unwrap(), 24)), None), "another network"),
        (token(1, 2, None, Some(1)), "over"),
        (token(2, 2, None, None), "another key"),
        ("tabc".to_owned(), "no token"),
    ] {
        let with = format!("{url}?token={token}");
        assert_eq!(location(&lab, host, &with), Err("403".into()), "{why}");
        assert_eq!(endpoint(&lab, &with, &[]), Err("denied".into()), "{why}");
        assert_eq!(endpoint(&lab, &url, &["--token", &token]), Err("denied".into()), "{why}");
        let rtsp =
            client(&lab, host).ffprobe(&format!("rtsp://{host}/hd/live/2.ts?token={token}")).unwrap_err();
        assert!(format!("{rtsp:#}").contains("403"), "{why}: {rtsp:#}");
    }
    let report = dig(&lab, host, "A");
    assert_eq!((&*report.status, report.answers.len()), ("REFUSED", 0), "by DNS no token can come along");
}

#[test]
fn those_who_are_not_authorised_get_a_port_that_servers_ignore() {
    let Some(lab) = require_lab() else { return };
    let _daemon = start(&lab, &guarded("{ port = 9 }"));
    let host = "a.film.cdn.acme.net";
    let url = format!("http://{host}/hd/live/2.ts");
    let token = sign_url(&key(1), host, "/", &Scope::default()).unwrap();
    assert_eq!(endpoint(&lab, &url, &[]), Ok((server(NEAR), 9)));
    assert_eq!(endpoint(&lab, &url, &["--token", &token]), Ok((server(NEAR), WEB)));
    assert_eq!(location(&lab, host, &url), Ok(format!("http://{}:9/hd/live/2.ts", server(NEAR))));
    let sent = Ok(format!("http://{}/hd/live/2.ts", server(NEAR)));
    assert_eq!(location(&lab, host, &format!("{url}?token={token}")), sent);
    let name = sign_name(&key(1), Purpose::Access, "a.*.film.cdn.acme.net", None).unwrap();
    let port = |name: &str| {
        let report = dig(&lab, name, "HTTPS");
        let [record] = &report.answers[..] else { panic!("{report:?}") };
        record.data.split(' ').find_map(|word| word.strip_prefix("port=")).unwrap().to_owned()
    };
    assert_eq!((port(&name), port(host)), ("8080".to_owned(), "9".to_owned()));
    assert_eq!(dig(&lab, &name, "A").addresses(), [server(NEAR)]);
    assert_eq!(dig(&lab, host, "A").status, "REFUSED", "an address tells no port");
}

/// SRV records have ports, too: the tag stands behind the labels that say what is asked for.
#[test]
fn srv_records_tell_the_port_to_those_who_are_authorised() {
    let Some(lab) = require_lab() else { return };
    let names = "{ labels = \"{bucket}._tcp.srv.{tag}\", service = \"sites\" },\n\
                 { labels = \"{bucket}.{site:y1q|y2q|y3q}\", service = \"at\" },\n";
    let sites = "[[service]]\nname = \"sites\"\ncoverage = \"nearest\"\n\
                 srv = { domain = \"cdn.acme.net\", sites = { fr = 1, de = 2, deep = 3 } }\n\
                 authorised = { otherwise = { port = 9 } }\n\
                 [[service]]\nname = \"at\"\ncoverage = \"nearest\"\n";
    let _daemon = start(&lab, &policy("", names, sites));
    let first = |name: &str| dig(&lab, name, "SRV").answers[0].data.clone();
    let tagged = sign_name(&key(1), Purpose::Access, "_a40._tcp.srv.*.cdn.acme.net", None).unwrap();
    assert_eq!(first(&tagged), "1 0 554 a40.y1q.cdn.acme.net.");
    assert_eq!(first("_a40._tcp.srv.tabc.cdn.acme.net"), "1 0 9 a40.y1q.cdn.acme.net.");
}

#[test]
fn names_that_fit_no_rule_get_what_is_written_and_labels_can_be_optional() {
    let Some(lab) = require_lab() else { return };
    let rules = "{ labels = \"{object}.{size?:sd|hd}.film\", service = \"film\" },\n";
    let film = "[[service]]\nname = \"film\"\ncoverage = \"nearest\"\n\
                urls = [\"http|rtsp://{object}.{size?:sd|hd}.film.cdn.acme.net/*\"]\n\
                [[service]]\nname = \"sorry\"\ncoverage = \"far\"\n";
    let daemon = start(&lab, &policy("ill_formed = { service = \"sorry\" }", rules, film));
    for host in ["a.film.cdn.acme.net", "a.hd.film.cdn.acme.net", "a.SD.film.cdn.acme.net"] {
        assert_all(&lab, host, NEAR, "with or without the size");
    }
    assert_all(&lab, "a.uhd.film.cdn.acme.net", DEEP, "a size that is none");
    assert_all(&lab, "a.b.c.d.e.cdn.acme.net", DEEP, "too many labels");
    let (_, risen) = daemon.counted(|| dig(&lab, "a.uhd.film.cdn.acme.net", "A")).unwrap();
    assert!(
        risen.iter().any(|risen| risen.path == AnswerPath::Fast && risen.reason != "punt-resize"),
        "{risen:?}"
    );
    assert_eq!(dig(&lab, "film.cdn.acme.net", "A").answers.len(), 1, "{{customer}} is a name, too");
    let url = "http://a.uhd.film.cdn.acme.net/";
    for (written, status, outcome, http) in
        [("\"refuse\"", "REFUSED", "denied", "403"), ("\"empty\"", "NOERROR", "not-mine", "404")]
    {
        let keys = keys::keys(lab.dir(), &[(1, "sign")]).unwrap();
        let text = policy(&format!("ill_formed = {written}"), rules, film) + &keys;
        daemon.write_configuration(&text).unwrap();
        daemon.reload().unwrap();
        let (report, risen) = daemon.counted(|| dig(&lab, "a.uhd.film.cdn.acme.net", "A")).unwrap();
        assert_eq!((&*report.status, report.answers.len()), (status, 0));
        assert!(risen.iter().any(|risen| risen.reason == "ill-formed"), "{risen:?}");
        assert_eq!(endpoint(&lab, url, &[]), Err(outcome.into()));
        assert_eq!(location(&lab, "a.uhd.film.cdn.acme.net", url), Err(http.into()));
        assert_all(&lab, "a.film.cdn.acme.net", NEAR, "well-formed");
    }
}

#[test]
fn what_the_command_seals_and_makes_tokens_of_is_good_at_the_box() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &sealing());
    let config = daemon.dir().join("redirector.toml");
    let program = program("redirector");
    let run = |words: &[&str]| {
        let all =
            [&[program.to_str().unwrap(), "names"], words, &["--config", config.to_str().unwrap()]].concat();
        lab.exec(BOX, all)
    };
    let sealed = run(&["seal", "index.web.abc.cdn.acme.net"]).run().unwrap();
    assert_all(&lab, sealed.trim(), NEAR, "sealed by the command");
    assert_eq!(run(&["open", sealed.trim()]).run().unwrap().trim(), "index.web.abc");
    let told = run(&["open", sealed.trim(), "--json"]).run().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["codepoint"], &told["key"], &told["id"]),
        (&"index.web.abc".into(), &"k1".into(), &1.into())
    );
    let bad = run(&["open", "hello.x.cdn.acme.net"]).output().unwrap();
    assert_eq!((bad.status.success(), &*String::from_utf8_lossy(&bad.stdout)), (false, "seal: malformed\n"));
    // On a machine with a key file and nothing else.
    let file = keys::key_file(lab.dir(), 1).unwrap();
    let alone = ["--key-file", file.to_str().unwrap(), "--key-id", "1", "--under", "x.cdn.acme.net"];
    let words = [&[program.to_str().unwrap(), "names", "seal", "index.web.abc"], &alone[..]].concat();
    assert_eq!(lab.exec(BOX, words).run().unwrap(), sealed);
    drop(daemon);

    let _daemon = start(&lab, &guarded("\"refuse\""));
    let url = "http://a.film.cdn.acme.net/hd/live/1.ts";
    let client = format!("{}/24", lab.client("c-fr", Family::V4).address());
    let token = run(&["token", url, "--client", &client, "--expires", "1h"]).run().unwrap();
    assert_eq!(endpoint(&lab, url, &["--token", token.trim()]), Ok((server(NEAR), WEB)));
    let here = client.trim_end_matches("/24");
    assert!(run(&["verify", url, "--token", token.trim(), "--client", here]).status().unwrap().success());
    let elsewhere = run(&["verify", url, "--token", token.trim(), "--client", "192.0.2.1"]).output().unwrap();
    assert!(!elsewhere.status.success());
    let name = run(&["sign", "a.*.film.cdn.acme.net", "--access"]).run().unwrap();
    assert_all(&lab, name.trim(), NEAR, "signed for access by the command");
}
