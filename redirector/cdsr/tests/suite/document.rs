//! The protocol document against the code: an independent client is written from its numbers and its example.

use crate::reader::Vector;
use cdsr::Timers;
use cdsr::wire::{DEFAULT_ENDPOINTS, MAX_DATAGRAM, MAX_ENDPOINTS, MAX_SERVERS, MAX_URL, MIN_URL, PORT};
use redirector_core::verdict::Reason;
use redirector_core::wire::cdsr as redirector;
use std::fs;
use std::path::Path;
use std::time::Duration;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cdsr-protocol.md");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text from a heading to the next of the same or a higher level.
fn section(document: &str, heading: &str) -> String {
    let (_, text) = document.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("no {heading}"));
    let level = heading.split(' ').next().expect("a level").len();
    let is_next = |line: &&str| (2..=level).any(|n| line.starts_with(&format!("{} ", "#".repeat(n))));
    let lines: Vec<&str> = text.lines().skip(1).take_while(|line| !is_next(line)).collect();
    lines.join("\n")
}

/// Rows of a section's tables: their cells.
fn rows(section: &str) -> Vec<Vec<&str>> {
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// The second cell of the row that begins with `name`.
fn value<'s>(rows: &[Vec<&'s str>], name: &str) -> &'s str {
    let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row {name}"));
    row[1]
}

#[test]
fn timers_of_the_document_are_those_of_the_client() {
    let document = document();
    let section = section(&document, "## 10. Timers");
    let rows = rows(&section);
    let time = |name: &str| {
        let (number, unit) = value(&rows, name).split_once(' ').expect(name);
        let number: u64 = number.parse().expect(name);
        if unit == "ms" { Duration::from_millis(number) } else { Duration::from_secs(number) }
    };
    let documented = Timers {
        first: time("first wait"),
        longest: time("longest wait"),
        attempts: value(&rows, "datagrams").parse().expect("a number"),
        total: time("transaction"),
        silence: time("silence hold"),
        failure: time("failure hold"),
    };
    assert_eq!(documented, Timers::default());
}

#[test]
fn limits_of_the_document_are_those_of_client_and_redirector() {
    let document = document();
    let section = section(&document, "## 15. Limits");
    let rows = rows(&section);
    let begins = |name: &str, text: String| assert!(value(&rows, name).starts_with(&text), "{name}: {text}");
    begins("request and reply", format!("{MAX_DATAGRAM} bytes"));
    begins("URL", format!("{MIN_URL} to {MAX_URL} bytes"));
    begins("server list", format!("{MAX_SERVERS} entries"));
    begins("endpoints", MAX_ENDPOINTS.to_string());
    assert_eq!((redirector::MIN_URL, redirector::MAX_URL), (MIN_URL, MAX_URL));
    assert!(document.contains(&format!("port {PORT}")) && redirector::PORT == PORT);
    assert_eq!(usize::from(MAX_ENDPOINTS), redirector_core::verdict::MAX_ENDPOINTS);
    assert_eq!(u32::from(DEFAULT_ENDPOINTS), redirector_core::decide::FAST_ENDPOINTS);
}

#[test]
fn reason_codes_of_the_document_are_the_redirectors() {
    let document = document();
    let section = section(&document, "### 14.6. Reason codes");
    let codes: Vec<(u16, &str)> =
        rows(&section).iter().filter_map(|row| Some((row[0].parse().ok()?, row[1]))).collect();
    assert!(codes.len() >= 9, "{codes:?}");
    for (code, name) in codes {
        assert_eq!(Reason::from_code(code).map(Reason::name), Some(name), "{code}");
    }
}

/// Offset and bytes of each line of a dump.
fn dump(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        assert_eq!(words.next().and_then(|offset| offset.parse().ok()), Some(bytes.len()), "{line}");
        let is_hex = |word: &&str| {
            word.len().is_multiple_of(2) && word.bytes().all(|b| b"0123456789abcdef".contains(&b))
        };
        for word in words.take_while(is_hex) {
            let pairs = (0..word.len()).step_by(2).map(|at| &word[at..at + 2]);
            bytes.extend(pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")));
        }
    }
    bytes
}

#[test]
fn exchange_byte_by_byte_is_the_vector_that_it_names() {
    let document = document();
    let section = section(&document, "## Appendix B: an exchange, byte by byte");
    let block = section.split("```").nth(1).expect("a block");
    let (request, reply) = block.split_once("\nreply\n").expect("two messages");
    let request = request.trim_start().strip_prefix("request\n").expect("a request").trim_end();
    let vectors = Vector::all("reply-handled-host-scope");
    assert!(section.contains(&format!("{}.txt", vectors[0].name)));
    assert_eq!(dump(request), vectors[0].request());
    assert_eq!(dump(reply), vectors[0].bytes("reply"));
}

/// Every rule of section 12 has a case among the vectors, which client and redirector are tested against.
#[test]
fn extension_rules_have_their_vectors() {
    let told = |name: &str| {
        let vectors = Vector::all(name);
        vectors.into_iter().find(|vector| vector.name == name).expect(name).text("redirector").to_owned()
    };
    assert_eq!(told("request-extension"), "read", "unknown types are skipped");
    for name in ["critical", "critical-second", "header-cut", "overruns"] {
        assert_eq!(told(&format!("request-bad-extension-{name}")), "status 5", "{name}");
    }
    for name in ["0", "2", "2-shortest", "255"] {
        assert_eq!(told(&format!("request-bad-version-{name}")), "status 6", "{name}");
    }
    for name in [
        "reply-unknown-status",
        "reply-unknown-scope",
        "reply-unknown-flags-and-reserved",
        "reply-bytes-behind",
    ] {
        assert!(Vector::all(name)[0].get("client").is_some(), "{name}: what the client makes of it");
    }
}
