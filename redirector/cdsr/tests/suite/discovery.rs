//! How the stub finds out which addresses speak CDSR (section 11 of the protocol).

use crate::common::dns::NameServer;
use crate::common::{Mock, ReplyBuilder, SERVER_1, Send, own};
use cdsr::{Config, Error, Families, Learned, PrefixList, Stub};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const HOST: &str = "any.cdn.example";
const URL: &str = "http://any.cdn.example/x";

fn handled(_: usize, request: &[u8]) -> Vec<Send> {
    vec![Send::Reply(ReplyBuilder::handled(request, &[SERVER_1]).encode())]
}

fn config(dns: &NameServer) -> Config {
    Config { dns: vec![dns.address], ..Config::default() }
}

fn record(port: u16) -> String {
    format!("v=cdsr1 port={port}")
}

#[test]
fn txt_record_tells_that_the_hosts_addresses_speak_cdsr() {
    let mock = Mock::new(handled);
    let text = record(mock.address.port());
    let dns = NameServer::new(&[(HOST, "127.0.0.1")], &[("_cdsr.any.cdn.example", &text)], false);
    let stub = Stub::new(config(&dns)).expect("a stub");
    let resolution = stub.resolve(URL).expect("a resolution");
    assert_eq!(resolution.learned(), Learned::Record);
    assert_eq!(resolution.redirector(), mock.address);
    stub.resolve("http://any.cdn.example/y").expect("a resolution");
    assert_eq!(dns.txt_queries().len(), 1, "the record is remembered");
}

#[test]
fn truncated_dns_answers_are_fetched_over_tcp() {
    let mock = Mock::new(handled);
    let text = record(mock.address.port());
    let dns = NameServer::new(&[(HOST, "127.0.0.1")], &[("_cdsr.any.cdn.example", &text)], true);
    let resolution = Stub::new(config(&dns)).expect("a stub").resolve(URL).expect("a resolution");
    assert_eq!(resolution.redirector(), mock.address);
}

#[test]
fn host_without_record_is_legacy_at_its_addresses() {
    let addresses = [(HOST, "127.0.0.1"), (HOST, "127.0.0.2"), (HOST, "::1")];
    let dns = NameServer::new(&addresses, &[("_cdsr.any.cdn.example", "v=spf1 -all")], false);
    let config = Config { families: Families::V4, ..config(&dns) };
    let stub = Stub::new(config).expect("a stub");
    for _ in 0..2 {
        let error = stub.resolve(URL).expect_err("legacy");
        let wanted: [IpAddr; 3] = ["127.0.0.1", "127.0.0.2", "::1"].map(|a| a.parse().expect(a));
        assert!(matches!(&error, Error::NotCdsr { addresses } if *addresses == wanted), "{error:?}");
        assert_eq!(error.legacy_addresses(), Some(wanted.as_slice()));
    }
    assert_eq!(dns.txt_queries(), ["_cdsr.any.cdn.example"], "the absence is remembered");
}

#[test]
fn unknown_host_has_no_address() {
    let dns = NameServer::new(&[], &[], false);
    let error = Stub::new(config(&dns)).expect("a stub").resolve(URL).expect_err("no address");
    assert!(matches!(&error, Error::NoAddress { host, .. } if host == HOST), "{error:?}");
    assert!(dns.txt_queries().is_empty());
}

#[test]
fn handled_suffix_spares_the_record_of_a_sibling() {
    let mock = Mock::new(|_, q| {
        let reply = ReplyBuilder { suffix: 11, ..ReplyBuilder::handled(q, &[SERVER_1]) };
        vec![Send::Reply(reply.encode())]
    });
    let text = record(mock.address.port());
    let hosts = [(HOST, "127.0.0.1"), ("b.cdn.example", "127.0.0.1"), ("c.cdn.example", "127.0.0.9")];
    let dns = NameServer::new(&hosts, &[("_cdsr.any.cdn.example", &text)], false);
    let stub = Stub::new(config(&dns)).expect("a stub");
    stub.resolve(URL).expect("a resolution");
    let sibling = stub.resolve("http://b.cdn.example/").expect("a resolution");
    assert_eq!(sibling.learned(), Learned::Hint);
    assert_eq!(dns.txt_queries().len(), 1);
    // The hint says nothing about another address.
    assert!(matches!(stub.resolve("http://c.cdn.example/"), Err(Error::NotCdsr { .. })));
    assert_eq!(dns.txt_queries().len(), 2);
}

#[test]
fn not_mine_at_one_address_is_asked_at_the_next() {
    let not_mine = |_: usize, q: &[u8]| vec![Send::Reply(ReplyBuilder::status(q, 1, 60).encode())];
    let first = Mock::new(not_mine);
    let port = first.address.port();
    let second = Mock::at(&format!("127.0.0.3:{port}"), handled);
    let text = record(port);
    let hosts = [(HOST, "127.0.0.1"), (HOST, "127.0.0.3")];
    let dns = NameServer::new(&hosts, &[("_cdsr.any.cdn.example", &text)], false);
    let resolution = Stub::new(config(&dns)).expect("a stub").resolve(URL).expect("a resolution");
    assert_eq!(resolution.redirector(), second.address);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    assert_ne!(first.requests()[0][4..12], second.requests()[0][4..12], "one nonce for two redirectors");
}

#[test]
fn silent_address_does_not_keep_the_next_from_answering() {
    let first = Mock::new(|_, _| vec![]);
    let port = first.address.port();
    let second = Mock::at(&format!("127.0.0.4:{port}"), handled);
    let text = record(port);
    let hosts = [(HOST, "127.0.0.1"), (HOST, "127.0.0.4")];
    let dns = NameServer::new(&hosts, &[("_cdsr.any.cdn.example", &text)], false);
    let resolution = Stub::new(config(&dns)).expect("a stub").resolve(URL).expect("a resolution");
    assert_eq!(resolution.redirector(), second.address);
    assert!(!first.requests().is_empty());
}

#[test]
fn listed_literal_is_asked_without_dns() {
    let mock = Mock::at(&format!("{}:2554", own(41)), handled);
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("prefixes");
    fs::write(&list, format!("# lab\n{}/31 # two of them\n", own(40))).expect("a list");
    let config = Config { prefixes: Some(list), ..Config::default() };
    let stub = Stub::new(config).expect("a stub");
    let resolution = stub.resolve(&format!("http://{}/x", own(41))).expect("a resolution");
    assert_eq!((resolution.learned(), resolution.redirector()), (Learned::PrefixList, mock.address));
    let error = stub.resolve(&format!("http://{}/x", own(42))).expect_err("not listed");
    let wanted = [own(42).parse::<IpAddr>().expect("an address")];
    assert_eq!(error.legacy_addresses(), Some(wanted.as_slice()));
}

#[test]
fn prefix_list_is_followed_and_a_bad_one_is_not() {
    let _mock = Mock::at(&format!("{}:2554", own(43)), |_, q| {
        let reply = ReplyBuilder { value: 0, ..ReplyBuilder::handled(q, &[SERVER_1]) };
        vec![Send::Reply(reply.encode())]
    });
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("prefixes");
    fs::write(&list, "192.0.2.0/24\n").expect("a list");
    let config = Config { prefixes: Some(list.clone()), ..Config::default() };
    let stub = Stub::new(config).expect("a stub");
    let url = &format!("http://{}/x", own(43));
    assert!(matches!(stub.resolve(url), Err(Error::NotCdsr { .. })));

    fs::write(&list, format!("192.0.2.0/24\n{}\n", own(43))).expect("a list");
    poll("the new list", || stub.resolve(url).is_ok());

    fs::write(&list, "192.0.2.0/24\n127.0.0.0/99\n\n").expect("a list");
    poll("the complaint", || {
        assert!(stub.resolve(url).is_ok(), "the good list is gone");
        stub.take_prefix_problem().is_some_and(|problem| problem.line == 2)
    });
    assert!(stub.take_prefix_problem().is_none(), "told twice");
}

fn poll(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn prefix_list_errors_name_the_line_and_the_remedy() {
    let parse = |text: &str| PrefixList::parse(Path::new("list"), text).map_err(|e| e.to_string());
    let error = |text: &str| parse(text).expect_err(text);
    assert!(
        error("192.0.2.0/24\nbanana\n").starts_with("list:2: \"banana\" is not a prefix; write for example")
    );
    assert_eq!(
        error("192.0.2.7/24"),
        "list:1: 192.0.2.7/24 has bits set beyond /24; write 192.0.2.0/24 instead"
    );
    assert!(error("2001:db8::/200").starts_with("list:1: \"2001:db8::/200\" is not a prefix"));
    assert!(PrefixList::load(Path::new("/nonexistent/list")).is_err());
    let list = parse("# all\n\n 203.0.113.0/24 # acme\n2001:db8:a::1\n").expect("a list");
    for (address, listed) in
        [("203.0.113.9", true), ("203.0.114.0", false), ("2001:db8:a::1", true), ("2001:db8:a::2", false)]
    {
        assert_eq!(list.contains(address.parse().expect(address)), listed, "{address}");
    }
}
