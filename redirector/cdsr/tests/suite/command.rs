//! The command `cdsr resolve`: what it prints and how it ends.

use crate::common::dns::NameServer;
use crate::common::{Mock, ReplyBuilder, SERVER_1, SERVER_2, Send, ip, own, server_list};
use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::Value;
use std::fs;

const URL: &str = "rtsp://any.cdn.example/news.rm";

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

fn resolve(args: &[&str]) -> Outcome {
    let output = cargo_bin_cmd!("cdsr").arg("resolve").args(args).output();
    let output = output.expect("it ran");
    Outcome {
        code: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

fn ask(mock: &Mock, more: &[&str]) -> Outcome {
    resolve(&[&[URL, "--server", &mock.address.to_string()], more].concat())
}

fn two_servers(request: &[u8]) -> ReplyBuilder {
    ReplyBuilder {
        suffix: 11,
        value: 300,
        ..ReplyBuilder::handled(request, &[SERVER_1, SERVER_2]).host_scope()
    }
}

#[test]
fn handled_is_a_table_for_people() {
    let mock = Mock::replying(two_servers);
    let outcome = ask(&mock, &[]);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    for part in [
        format!("url         {URL}"),
        format!("redirector  {} (configured), 1 datagram, ", mock.address),
        "valid for   300 s, every URL at rtsp://any.cdn.example\n".to_owned(),
        "handles     every host under cdn.example\n".to_owned(),
        "    address                                  port order share network class\n".to_owned(),
        " 1  192.0.2.10                               8554     0     1       7     0\n".to_owned(),
        " 2  192.0.2.11                               8554     1     1       7     0\n".to_owned(),
    ] {
        assert!(outcome.out.contains(&part), "no {part:?} in\n{}", outcome.out);
    }
}

#[test]
fn handled_is_json_for_programs() {
    let mock = Mock::replying(two_servers);
    let mut json = ask(&mock, &["--json"]).json();
    let elapsed = json["elapsed_ms"].take();
    assert!(elapsed.as_f64().is_some_and(|ms| ms > 0.0), "{elapsed}");
    let wanted = serde_json::json!({
        "outcome": "handled", "url": URL, "redirector": mock.address.to_string(), "learned": "configured",
        "attempts": 1, "elapsed_ms": null, "reason": 1, "lifetime_s": 300, "scope": "host",
        "covers": "rtsp://any.cdn.example", "handled_suffix": "cdn.example", "more": false,
        "endpoints": [
            { "address": "192.0.2.10", "port": 8554, "order": 0, "share": 1, "network": 7, "class": 0 },
            { "address": "192.0.2.11", "port": 8554, "order": 1, "share": 1, "network": 7, "class": 0 },
        ],
    });
    assert_eq!(json, wanted);
}

#[test]
fn every_refusal_has_an_exit_code_and_an_outcome_of_its_own() {
    for (status, value, code, name) in [
        (1, 60, 3, "not-mine"),
        (2, 60_000, 4, "retry-later"),
        (3, 0, 5, "denied"),
        (4, 60, 6, "use-legacy"),
        (5, 0, 8, "bad-request"),
        (6, 0, 8, "version-not-supported"),
    ] {
        let mock =
            Mock::replying(move |q| ReplyBuilder { reason: 77, ..ReplyBuilder::status(q, status, value) });
        let outcome = ask(&mock, &["--json"]);
        let json = outcome.json();
        assert_eq!((outcome.code, json["outcome"].as_str()), (code, Some(name)));
        assert_eq!(json["reason"].as_u64(), (status != 2).then_some(77), "{name}");
        assert_eq!(json["retry_after_ms"].is_u64(), status == 2, "{name}");
        assert_eq!(json["legacy_addresses"].is_array(), !matches!(status, 2 | 3), "{name}");
        let keys =
            ["outcome", "url", "elapsed_ms", "message", "reason", "retry_after_ms", "legacy_addresses"];
        assert!(keys.iter().all(|key| json.get(key).is_some()), "{json}");
    }
    let mock = Mock::replying(|q| ReplyBuilder::handled(q, &[]));
    let outcome = ask(&mock, &["--json"]);
    assert_eq!((outcome.code, outcome.json()["outcome"].as_str()), (6, Some("no-endpoint")));
}

#[test]
fn no_answer_ends_after_the_given_time() {
    let mock = Mock::new(|_, _| vec![]);
    let outcome = ask(&mock, &["--timeout", "100"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (7, ""));
    assert_eq!(outcome.err, format!("cdsr: {URL}: no answer from {}\n", mock.address));
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let long = format!("http://a.example/{}", "x".repeat(1024));
    for (args, remedy) in [
        (vec!["any.cdn.example/x"], "write the whole URL"),
        (vec![&long], "the longest URL that CDSR carries has 1024"),
        (vec!["http://u:p@a.example/"], "remove what is before the '@'"),
        (vec!["http:///x"], "no host"),
        (vec!["http://a.example/\u{e9}"], "percent-encode it as %C3%A9"),
        (vec!["http://2001:db8::1/"], "write the address in brackets"),
        (vec!["http://a.example:99999/"], "a number from 1 to 65535"),
        (vec![URL, "--server", "banana"], "write an address"),
        (vec![URL, "--failed", "192.0.2.1:x"], "write an address"),
        (vec![URL, "--prefer", "192.0.2.1/33"], "write an address or prefix"),
        (vec![URL, "--count", "9"], "1..=8"),
        (vec![URL, "--pad", "1233"], "0..=1232"),
        (vec![URL, "--timeout", "0"], "1..=600000"),
        (vec![URL, "--prefixes", "/nonexistent/list"], "/nonexistent/list: No such file"),
        (vec![], "<URL>"),
    ] {
        let outcome = resolve(&args);
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{args:?}");
        assert!(outcome.err.contains(remedy), "{args:?}: no {remedy:?} in {}", outcome.err);
    }
}

#[test]
fn options_reach_the_request() {
    let mock = Mock::replying(two_servers);
    let outcome = ask(
        &mock,
        &[
            "--failed",
            SERVER_1,
            "--failed",
            "2001:db8::9",
            "--prefer",
            "192.0.2.7",
            "-4",
            "-6",
            "--count",
            "2",
            "--pad",
            "700",
        ],
    );
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let request = &mock.requests()[0];
    assert_eq!((request[12], request[13], request.len()), (3, 2, 700));
    let wanted = [(ip("[2001:db8::9]:0"), 1, 0), (ip(SERVER_1), 1, 0), (ip("192.0.2.7:0"), 2, 0)];
    assert_eq!(server_list(request), wanted);
    for (option, families) in [("-4", 1), ("-6", 2)] {
        ask(&mock, &[option]);
        assert_eq!(mock.requests().last().map(|q| q[12]), Some(families));
    }
}

#[test]
fn discovery_needs_no_server_option() {
    let mock = Mock::at(&format!("{}:2554", own(51)), |_, q| vec![Send::Reply(two_servers(q).encode())]);
    let dns = NameServer::new(
        &[("any.cdn.example", &own(51)), ("plain.example", &own(52))],
        &[("_cdsr.any.cdn.example", "v=cdsr1")],
        false,
    );
    let server = dns.address.to_string();
    let found = resolve(&[URL, "--dns", &server, "--json"]);
    assert_eq!((found.code, found.json()["learned"].as_str()), (0, Some("txt-record")));
    let plain = resolve(&["http://plain.example/", "--dns", &server]);
    assert_eq!((plain.code, plain.out.as_str()), (6, ""));
    let legacy = format!("cdsr: the URL's own protocol can be used at {}\n", own(52));
    assert!(plain.err.ends_with(&legacy), "{}", plain.err);
    let unknown = resolve(&["http://unknown.example/", "--dns", &server, "--json"]);
    assert_eq!((unknown.code, unknown.json()["outcome"].as_str()), (9, Some("no-address")));
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("prefixes");
    fs::write(&list, format!("{}/31\n", own(50))).expect("a list");
    let listed =
        resolve(&[&format!("rtsp://{}/x", own(51)), "--prefixes", list.to_str().expect("text"), "--json"]);
    assert_eq!((listed.code, listed.json()["learned"].as_str()), (0, Some("prefix-list")));
    assert_eq!(mock.requests().len(), 2);
}
