//! What comes over connections: requests of clients, and answers of servers to health checks.

use crate::network::{SHARED, VIEW, VIP};
use redirector::feed::probe::status;
use redirector::front::Stream;
use redirector_plan::model::Target;
use redirector_tests::frames::Flow;
use redirector_tests::invariants::decode;
use redirector_tests::slow::{self, DNS_PORT};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};
use tokio::runtime::{Builder, Runtime};

/// Longest that a connection may go on after its client has ended.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes under way in each direction.
const ROOM: usize = 4096;
/// Redirects for one URL before they are taken for a loop (docs/operations.md), and some for a slow machine.
const REDIRECTS: usize = 24;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// A client of the region `here` that was never there before: what the box remembers of others does not matter.
fn fresh_client() -> SocketAddr {
    static CLIENTS: AtomicU64 = AtomicU64::new(0);
    let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
    let address = Ipv6Addr::from_bits(0x2001_0db8_0100_u128 << 80 | u128::from(number));
    SocketAddr::new(address.into(), 40_000)
}

/// What comes back to a client that sends these pieces one after the other and ends.
fn exchange<'p>(kind: Stream, pieces: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
    let (ours, theirs) = duplex(ROOM);
    let (mut read, mut write) = split(ours);
    let sending = async {
        for piece in pieces {
            // The box may have closed.
            if write.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    };
    let receiving = async {
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).await.expect("memory is read");
        bytes
    };
    let all =
        async { tokio::join!(SHARED.converse(kind, VIP, fresh_client(), theirs), sending, receiving).2 };
    RUNTIME.with(|runtime| {
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await });
        ended.expect("the connection ends when its client does")
    })
}

/// Length of the pieces that bytes are sent in: any, but the same for the same bytes.
fn piece(bytes: &[u8]) -> usize {
    1 + bytes.iter().fold(bytes.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()))
        % bytes.len().max(1)
}

/// Answers to bytes that come at once. The same bytes in pieces get the same answers, but for the last one to an HTTP
/// request that is not whole: a piece at its end may show that it is malformed or too long before the rest is there.
fn answers(kind: Stream, bytes: &[u8]) -> Vec<Answer> {
    let whole = exchange(kind, std::iter::once(bytes));
    let length = piece(bytes);
    let pieces = exchange(kind, bytes.chunks(length));
    let (whole, pieces) = (Answer::all(&whole), Answer::all(&pieces));
    let requests = |answers: &[Answer]| {
        answers.len() - usize::from(answers.last().is_some_and(Answer::is_of_the_parser))
    };
    let (settled, expected) = (&pieces[..requests(&pieces)], &whole[..requests(&whole)]);
    assert_eq!(settled, expected, "in pieces of {length} bytes the answers are others");
    whole
}

/// An answer of HTTP or RTSP.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    version: String,
    code: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// Reads answers one after the other, strictly.
    fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut answers = Vec::new();
        while !bytes.is_empty() {
            let (answer, length) = Self::first(bytes);
            answers.push(answer);
            bytes = &bytes[length..];
        }
        answers
    }

    fn first(bytes: &[u8]) -> (Self, usize) {
        let shown = String::from_utf8_lossy(bytes);
        let end =
            bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or_else(|| panic!("no end: {shown}"));
        let head = std::str::from_utf8(&bytes[..end]).unwrap_or_else(|_| panic!("not text: {shown}"));
        assert!(!head.replace("\r\n", "").contains(char::is_control), "control characters: {shown:?}");
        let mut lines = head.split("\r\n");
        let mut status = lines.next().unwrap_or_default().splitn(3, ' ');
        let version = status.next().unwrap_or_default().to_owned();
        let code =
            status.next().and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no code: {shown}"));
        assert!(["HTTP/1.0", "HTTP/1.1", "RTSP/1.0"].contains(&version.as_str()), "{shown}");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let fields: Vec<_> = lines.map(field).filter(|(name, _)| name != "date").collect();
        let length = fields
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().unwrap_or_else(|_| panic!("no length: {shown}")));
        // An answer to HEAD has a length and no body; no body of ours begins like an answer.
        let rest = &bytes[end + 4..];
        let bodiless = rest.is_empty() || rest.starts_with(b"HTTP/1.");
        let body =
            if bodiless { &[] } else { rest.get(..length).unwrap_or_else(|| panic!("cut off: {shown}")) };
        (Self { version, code, fields, body: body.to_vec() }, end + 4 + body.len())
    }

    /// Values of a field, whose name is given in small letters.
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is to what the HTTP parser takes for no request; the box answers requests with fields of its own.
    fn is_of_the_parser(&self) -> bool {
        self.version.starts_with("HTTP") && self.code >= 400 && self.values("cache-control").next().is_none()
    }

    fn is_redirect(&self) -> bool {
        matches!(self.code, 301..=308)
    }
}

/// Hosts of the network's servers, as redirects may name them.
static HOSTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let hosts = |target: &Target| {
        let addresses =
            [target.address(false), target.address(true)].into_iter().flatten().map(
                |address| match address {
                    IpAddr::V4(v4) => v4.to_string(),
                    IpAddr::V6(v6) => format!("[{v6}]"),
                },
            );
        addresses.chain(target.host.clone()).collect::<Vec<_>>()
    };
    VIEW.generation.config.network.targets.iter().flat_map(hosts).collect()
});

/// A URL of a server of the network, in characters that URLs have.
fn check_location(url: &str) {
    assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url:?}");
    let (scheme, rest) = url.split_once("://").unwrap_or_else(|| panic!("not absolute: {url}"));
    assert!(["http", "https", "rtsp"].contains(&scheme), "{url}");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.is_empty() => host,
        _ => authority,
    };
    assert!(HOSTS.iter().any(|known| known == host), "sent to a stranger: {url}");
}

/// Redirects lead to servers of the network, and for one URL there is an end to them.
fn check_redirects(answers: &[Answer]) {
    let mut count = BTreeMap::<&str, usize>::new();
    for answer in answers {
        let locations: Vec<&str> = answer.values("location").collect();
        assert_eq!(locations.len(), usize::from(answer.is_redirect()), "{answer:?}");
        locations.iter().for_each(|location| check_location(location));
        for location in locations {
            *count.entry(location).or_default() += 1;
        }
    }
    assert!(count.values().all(|count| *count <= REDIRECTS), "no end of redirects: {count:?}");
}

/// Whether a request can end in the first bytes that a header may have.
fn header_fits(bytes: &[u8]) -> bool {
    // With room for what a parser may pass over before and after.
    let limit = VIEW.generation.config.limits.header_bytes + 64;
    bytes.len() <= limit || bytes[..limit].windows(3).any(|end| end.ends_with(b"\n\n") || end == b"\n\r\n")
}

/// Any bytes as requests over an HTTP connection: well-formed answers, the same in whatever pieces the bytes come;
/// redirects and links to servers of the network alone; none for a header that is too long.
///
/// # Panics
/// If not.
pub fn http_request(bytes: &[u8]) {
    let answers = answers(Stream::Http, bytes);
    check_redirects(&answers);
    for answer in &answers {
        assert!(answer.version.starts_with("HTTP/1."), "{answer:?}");
        for link in answer.values("link") {
            let (url, parameters) =
                link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("<URL>");
            check_location(url);
            let place = parameters.strip_prefix("; rel=duplicate; pri=").expect("a mirror");
            assert!(place.parse::<u8>().is_ok(), "{link}");
        }
        if answer.values("content-type").any(|kind| kind == "application/json") && !answer.body.is_empty() {
            let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            if let Some(location) = told["location"].as_str() {
                check_location(location);
            }
        }
    }
    assert!(
        header_fits(bytes) || !answers.first().is_some_and(Answer::is_redirect),
        "a header without limit"
    );
}

pub(crate) fn http_is_answered(bytes: &[u8]) -> bool {
    answers(Stream::Http, bytes).iter().any(|answer| (200..400).contains(&answer.code))
}

/// Any bytes as requests over an RTSP connection: as for HTTP, and every CSeq of an answer is one of a request.
///
/// # Panics
/// If not.
pub fn rtsp_request(bytes: &[u8]) {
    let answers = answers(Stream::Rtsp, bytes);
    check_redirects(&answers);
    for answer in &answers {
        assert_eq!(answer.version, "RTSP/1.0");
        for cseq in answer.values("cseq") {
            assert!(!cseq.is_empty() && cseq.bytes().all(|byte| byte.is_ascii_digit()), "{answer:?}");
            assert!(bytes.windows(cseq.len()).any(|part| part == cseq.as_bytes()), "nobody sent {cseq}");
        }
    }
    assert!(
        header_fits(bytes) || !answers.first().is_some_and(Answer::is_redirect),
        "a header without limit"
    );
}

pub(crate) fn rtsp_is_answered(bytes: &[u8]) -> bool {
    answers(Stream::Rtsp, bytes).iter().any(|answer| (200..400).contains(&answer.code))
}

/// Any bytes as DNS messages over a TCP connection: each gets the reply that it would get by itself, until the first
/// that gets none.
///
/// # Panics
/// If not.
pub fn dns_stream(bytes: &[u8]) {
    let whole = exchange(Stream::Dns, std::iter::once(bytes));
    let pieces = exchange(Stream::Dns, bytes.chunks(piece(bytes)));
    assert_eq!(whole, pieces, "in pieces the answers are others");
    let expected = replies(bytes);
    assert_eq!(whole, expected.concat());
    for reply in expected {
        let _ = decode(&reply[2..]);
    }
}

/// Replies to the messages of a stream, each with its length before it.
fn replies(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let flow = Flow { client: fresh_client(), vip: SocketAddr::new(VIP, DNS_PORT) };
    let mut replies = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let Some((message, rest)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else { break };
        let outcome =
            slow::answer(&VIEW.generation.tables.read(), &flow, message).expect("DNS is spoken here");
        let Some(reply) = outcome.reply() else { break };
        replies.push([&(reply.len() as u16).to_be_bytes()[..], reply].concat());
        bytes = rest;
    }
    replies
}

pub(crate) fn dns_is_answered(bytes: &[u8]) -> bool {
    replies(bytes).iter().any(|reply| matches!(reply[5] & 15, 0 | 3))
}

/// Any bytes as a server's answer to a health check: a status only from a whole status line of HTTP/1.
///
/// # Panics
/// If not.
pub fn probe_answer(bytes: &[u8]) {
    let Some(status) = status(bytes) else { return };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let mut words = text.trim_end_matches('\r').split(' ');
    assert!(
        bytes.contains(&b'\n') && words.next().is_some_and(|version| version.starts_with("HTTP/1.")),
        "{text}"
    );
    assert_eq!(words.next(), Some(format!("{status:03}").as_str()), "{text}");
}

pub(crate) fn has_status(bytes: &[u8]) -> bool {
    status(bytes).is_some()
}
