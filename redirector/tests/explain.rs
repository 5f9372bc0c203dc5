//! `explain` compares the fast path with the slow path, and says so when they differ.

use redirector::config;
use redirector::dataplane::{Mode, TestRun};
use redirector::manage::explain::{FastPath, Question, Wanted, explain};
use redirector::manage::view::View;
use std::cell::RefCell;
use std::io::Write;

const CONFIGURATION: &str = r#"
[box]
name = "test"
management = "127.0.0.1"
xdp = "off"
[fleet]
key = "5eed5eed5eed5eed5eed5eed5eed5eed"
[[vip]]
cdn = "acme"
addresses = ["203.0.113.1"]
[[target]]
name = "one"
addresses = ["198.51.100.1"]
[[pool]]
name = "one"
targets = ["one"]
[[coverage]]
name = "all"
tiers = [{ region = "*", pools = ["one"] }]
[[service]]
name = "web"
coverage = "all"
[[zone]]
suffix = "acme.net"
names = [{ labels = "www", service = "web" }]
"#;

/// `XDP_PASS` and `XDP_TX`.
const PASS: u32 = 2;
const TX: u32 = 3;
/// Bytes of Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;

/// What is told of a fast path that does this with the query's frame.
fn told(fast_path: impl Fn(&[u8]) -> (u32, Vec<u8>)) -> FastPath {
    let run = |frame: &[u8]| {
        let (action, frame) = fast_path(frame);
        Ok(Some(TestRun { action, frame }))
    };
    explain(&view(CONFIGURATION), &question(None), run).expect("explained").fast_path
}

fn view(configuration: &str) -> View {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(configuration.as_bytes()).expect("written");
    let config = config::load(file.path()).unwrap_or_else(|errors| panic!("{errors:?}"));
    View { mode: Mode::Native, ..View::alone(config).expect("compiles") }
}

/// A resolver's question, on behalf of a network.
fn question(ecs: Option<&str>) -> Question {
    let wanted = Wanted::Name { name: "www.acme.net".into(), record_type: None };
    let client = "192.0.2.1".parse().expect("address");
    let ecs = ecs.map(|network| network.parse().expect("a prefix"));
    Question { client, ecs, wanted, vip: None }
}

/// The right answer's frame, as far as it is compared: its payload.
fn right(query: &[u8]) -> Vec<u8> {
    let mut frame = query.to_vec();
    let message = &mut frame[HEADERS..];
    // An answer with authority, with one record.
    message[2] |= 0x84;
    message[7] = 1;
    // The name as in the question, A, IN, TTL 0, the server's address.
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 198, 51, 100, 1];
    frame.extend(record);
    frame
}

#[test]
fn a_fast_path_with_the_slow_paths_bytes_answers() {
    assert_eq!(told(|query| (TX, right(query))), FastPath::Answers);
}

#[test]
fn a_fast_path_with_any_other_byte_differs() {
    let len = RefCell::new(0);
    told(|query| {
        *len.borrow_mut() = right(query).len();
        (TX, right(query))
    });
    for place in HEADERS..len.into_inner() {
        let changed = |query: &[u8]| {
            let mut frame = right(query);
            frame[place] ^= 1;
            (TX, frame)
        };
        assert_eq!(told(changed), FastPath::Differs, "byte {place}");
    }
    assert_eq!(told(|query| (TX, [&right(query)[..], &[0]].concat())), FastPath::Differs);
}

#[test]
fn a_fast_path_that_passes_a_query_on_punts() {
    assert!(matches!(told(|query| (PASS, query.to_vec())), FastPath::Punts { .. }));
}

#[test]
fn a_clients_network_decides_instead_of_the_resolver_and_the_scope_is_told() {
    let regions = "[[region]]\nname = \"here\"\nprefixes = [\"192.0.2.0/24\"]\n\
        [[region]]\nname = \"there\"\nprefixes = [\"10.1.0.0/16\", \"10.1.2.128/25\", \"2001:db8::/32\"]\n";
    let view = view(&format!("{CONFIGURATION}{regions}"));
    let asked = |ecs| explain(&view, &question(ecs), |_| Ok(None)).expect("explained");
    let region = |ecs| asked(ecs).region.map(|region| region.name);
    assert_eq!((region(None), asked(None).scope), (Some("here".into()), None));
    for (network, name, prefix, scope) in [
        ("10.1.2.0/24", "there", "10.1.0.0/16", 24),
        ("10.1.2.130/32", "there", "10.1.2.128/25", 24),
        ("2001:db8:5::/56", "there", "2001:db8::/32", 48),
        ("0.0.0.0/0", "here", "192.0.2.0/24", 0),
    ] {
        let told = asked(Some(network));
        let found = (told.region.as_ref().map(|region| &*region.name), told.prefix.as_deref(), told.scope);
        assert_eq!(found, (Some(name), Some(prefix), Some(scope)), "{network}");
        assert!(
            told.to_string().contains(&format!("on behalf of {network}; the answer holds in the /{scope} "))
        );
    }
    let url = Wanted::Url { url: "http://www.acme.net/".into(), protocol: None };
    let refused = explain(&view, &Question { wanted: url, ..question(Some("10.1.2.0/24")) }, |_| Ok(None));
    assert!(refused.expect_err("no network by URL").contains("ask for a name"));
}
