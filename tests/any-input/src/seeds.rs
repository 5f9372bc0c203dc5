//! The inputs that fuzz targets begin with: `tests/corpora/TARGET/`, made by `cargo xtask fuzz --seeds` from the test
//! vectors, the generators of questions and the examples. Files named `found-…` are inputs that broke something once;
//! they stay.

#[allow(dead_code)] // Other users take other parts.
#[path = "../../vectors/reader.rs"]
mod reader;

use crate::made;
use crate::network::{TEXT, VIEW};
use reader::Vector;
use redirector::state::disk::LastGood;
use redirector_tests::generate::{Case, Generator, Random};
use redirector_tests::invariants::IMAGE;
use redirector_tests::networks::rich;
use redirector_tests::questions::{DnsQuery, Edns, rr};
use redirector_tests::slow::DNS_PORT;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What names of inputs that broke something begin with.
pub const FOUND: &str = "found-";
/// Cases of the generators that become seeds.
const CASES: usize = 24;

/// Where the inputs of all targets are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpora")
}

/// The inputs of a target that are kept, by name.
///
/// # Errors
/// If they cannot be read.
pub fn kept(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(folder().join(target))? {
        let entry = entry?;
        seeds.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    seeds.sort_unstable();
    Ok(seeds)
}

/// Words that the target's inputs are made of; none if there is no dictionary.
///
/// # Panics
/// If the dictionary is malformed.
#[must_use]
pub fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(folder().join(format!("{target}.dict")));
    crate::mutants::words(&text.unwrap_or_default())
}

/// Writes what [`made`] makes of every target, and removes what it no longer makes.
///
/// # Errors
/// If that cannot be written.
pub fn write() -> io::Result<()> {
    for target in crate::TARGETS {
        let folder = folder().join(target.name);
        fs::create_dir_all(&folder)?;
        for (name, _) in kept(target.name)?.iter().filter(|(name, _)| !name.starts_with(FOUND)) {
            fs::remove_file(folder.join(name))?;
        }
        for (name, bytes) in made(target.name) {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

/// A target's seeds and their names; the same on every run.
///
/// # Panics
/// If there is no such target.
#[must_use]
pub fn made(target: &str) -> Vec<(String, Vec<u8>)> {
    let numbered = |list: Vec<Vec<u8>>| {
        (0..).zip(list).map(|(number, seed): (u32, _)| (format!("{number:02}"), seed)).collect()
    };
    match target {
        "dns_message" => numbered(cases(DNS_PORT).map(|case| case.payload).collect()),
        "dns_stream" => numbered(dns_streams()),
        "cdsr_request" => vectors("request-", Vector::request),
        "frame" => numbered(every_case().take(2 * CASES).map(|case| case.frame).collect()),
        "dns_message_made" | "cdsr_request_made" | "configuration_made" | "control_socket_made" => {
            numbered(choices())
        }
        "url_text" => numbered(
            urls().iter().map(|url| url.split_once("://").map_or(&**url, |(_, rest)| rest).into()).collect(),
        ),
        "proof" => numbered(crate::proofs::seeds()),
        "client_url" => numbered(urls().into_iter().map(String::into_bytes).collect()),
        "http_request" => numbered(parts(include_str!("seeds/http.txt"))),
        "rtsp_request" => numbered(parts(include_str!("seeds/rtsp.txt"))),
        "cdsr_reply" => vectors("reply-", |vector| vector.bytes("reply")),
        "client_dns" => numbered(answers()),
        "configuration" => vec![
            ("example.toml".into(), include_str!("../../../deploy/redirector.toml").into()),
            ("small.toml".into(), TEXT.into()),
        ],
        "prefix_file" => numbered(prefixes()),
        "control_socket" => {
            numbered([lines(include_str!("seeds/control.txt")), crate::control::answers()].concat())
        }
        "state_file" => vec![("small.json".into(), state())],
        "probe_answer" => numbered(parts(include_str!("seeds/probe.txt"))),
        other => panic!("no target {other}"),
    }
}

fn every_case() -> impl Iterator<Item = Case> {
    let (network, _) = rich();
    // The cases are few, and end before the network does.
    let cases: Vec<Case> = Generator::new(&network, &*IMAGE, 77).take(40 * CASES).collect();
    cases.into_iter()
}

fn cases(port: u16) -> impl Iterator<Item = Case> {
    every_case().filter(move |case| case.flow.vip.port() == port).take(CASES)
}

fn vectors(prefix: &str, bytes: impl Fn(&Vector) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
    Vector::all(prefix).iter().map(|vector| (vector.name.clone(), bytes(vector))).collect()
}

/// Choices at random.
fn choices() -> Vec<Vec<u8>> {
    let mut random = Random::new(78);
    let bytes = |random: &mut Random| (0..8 + random.below(120)).map(|_| random.bits() as u8).collect();
    // No choice at all is the first alternative each time.
    std::iter::once(Vec::new()).chain((0..CASES).map(|_| bytes(&mut random))).collect()
}

fn urls() -> Vec<String> {
    choices().iter().map(|bytes| made::url(bytes)).collect()
}

/// Names of the small network, one and several to a stream.
fn dns_streams() -> Vec<Vec<u8>> {
    let names =
        ["near.cdn.test", "x.pair.cdn.test", "cdn.test", "ns1.cdn.test", "_cdsr.near.cdn.test", "other.test"];
    let types = [rr::A, rr::AAAA, rr::SOA, rr::NS, rr::TXT, rr::ANY, rr::HTTPS];
    let framed = |(number, name): (usize, &str)| {
        let query = DnsQuery::new(name, types[number % types.len()]);
        let query = if number % 2 == 0 { query.edns(Edns::new(true)) } else { query };
        let message = query.encode();
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let mut streams: Vec<Vec<u8>> = names.into_iter().cycle().take(14).enumerate().map(framed).collect();
    streams.push(streams.concat());
    streams
}

/// The box's own answers to the client's questions, and others with the records that a client looks for.
fn answers() -> Vec<Vec<u8>> {
    let record = |kind: u16, data: &[u8]| {
        let mut record = vec![0xc0, 0x0c];
        record.extend(kind.to_be_bytes());
        record.extend([0, 1, 0, 0, 1, 44]);
        record.extend((data.len() as u16).to_be_bytes());
        record.extend(data);
        record
    };
    let text = |text: &[u8]| record(rr::TXT, &[&[text.len() as u8], text].concat());
    let (v4, v6) = (
        record(rr::A, &[192, 0, 2, 1]),
        record(rr::AAAA, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    );
    let alias = record(5, b"\x01a\xc0\x0c");
    // Flags, record counts, records: what follows the question is the target's to put together.
    let answer =
        |count: u8, records: &[&[u8]]| [&[0x81, 0x80, 0, count, 0, 0, 0, 0][..], &records.concat()].concat();
    vec![
        answer(1, &[&v4]),
        answer(1, &[&v6]),
        answer(3, &[&alias, &v4, &v4]),
        answer(3, &[&alias, &v6, &v6]),
        answer(1, &[&text(b"v=cdsr1 port=2554")]),
        answer(2, &[&text(b"v=spf1 -all"), &text(b"v=cdsr1")]),
        answer(1, &[&record(rr::TXT, b"\x07v=cdsr1\x0a port=00053")]),
        answer(0, &[]),
        vec![0x81, 0x83, 0, 0, 0, 0, 0, 0],
        vec![0x83, 0x80, 0, 0, 0, 0, 0, 0],
        b"# a comment\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example\nnameserver fe80::1%eth0\n".to_vec(),
    ]
}

fn prefixes() -> Vec<Vec<u8>> {
    let files = [
        "192.0.2.0/24\n2001:db8:f0::/48\n",
        "# comment\n\n 198.51.100.0/25 # half\r\n198.51.100.128/25",
        "0.0.0.0/0\n::/0\n",
        "203.0.113.7/32\n2001:db8::1/128\n192.0.2.0/24\n192.0.2.0/24\n",
        "192.0.2.1\n",
        "192.0.2.1/24\n2001:db8::1/64\n::ffff:192.0.2.0/120\n",
        "10.0.0.0/8\n",
        "10.0.0.0/33\n2001:db8::/129\nexample\n\u{1b}[2J\n",
    ];
    files.iter().map(|file| file.as_bytes().to_vec()).collect()
}

fn state() -> Vec<u8> {
    let state = LastGood::new(7, &VIEW.generation.config, &VIEW.slots);
    serde_json::to_vec(&state).unwrap_or_else(|error| panic!("{error}"))
}

/// A file's parts, which are divided by lines of `----`. Line ends become those of network protocols.
fn parts(file: &str) -> Vec<Vec<u8>> {
    file.split("----\n").map(|part| part.replace('\n', "\r\n").into_bytes()).collect()
}

fn lines(file: &str) -> Vec<Vec<u8>> {
    file.lines().map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_the_same_whenever_they_are_made() {
        for target in crate::TARGETS {
            assert!(made(target.name) == made(target.name), "{}", target.name);
        }
    }
}
