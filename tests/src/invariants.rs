//! What must hold of any bytes whatever: the bodies of the fuzz targets, which ordinary tests run, too. Each panics with
//! what was broken.

use crate::agreement::{FastPath as _, Native, judge};
use crate::frames::Flow;
use crate::networks::{ACME, CLIENT, image, rich};
use crate::questions::CdsrReply;
use crate::slow::{self, DNS_PORT, Outcome};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use redirector_core::hash::Keys;
use redirector_core::lookup::MAX_LABELS;
use redirector_core::verdict::Reason;
use redirector_core::wire::dns::UDP_LIMIT;
use redirector_core::wire::text::{self, Cut, Scan};
use redirector_core::wire::{Action, Buffer, cdsr, dns};
use redirector_plan::image::TableImage;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

/// Tables of the rich network.
pub static IMAGE: LazyLock<TableImage> = LazyLock::new(|| {
    let (network, states) = rich();
    image(&network, &states)
});

/// Bytes of a DNS reply behind its question at most, unless names are answered: four AAAA records, and EDNS with a client subnet, a cookie and a
/// box's name.
pub const BEHIND_QUESTION: usize = 112 + 11 + 24 + 28 + 36;

/// From the client of region `de` to the VIP of `acme`, by IPv4 or IPv6.
///
/// # Panics
/// Never: the addresses are constants.
#[must_use]
pub fn flow(v6: bool, port: u16) -> Flow {
    let address = |texts: [&str; 2]| texts[usize::from(v6)].parse::<IpAddr>().expect("an address");
    Flow { client: SocketAddr::new(address(CLIENT), 40_000), vip: SocketAddr::new(address(ACME), port) }
}

/// Any bytes as a DNS message over UDP: silence or a reply that another library reads, of limited size and to this very
/// question; and the fast path either does the same or nothing.
///
/// # Panics
/// If not.
pub fn dns_message(message: &[u8]) {
    let flow = flow(message.len() % 2 == 1, DNS_PORT);
    let outcome = slow::answer(&*IMAGE, &flow, message).expect("DNS is spoken here");
    let silent = message.len() < dns::HEADER || message[2] & 0x80 != 0;
    assert_eq!(outcome.action, if silent { Action::Ignore } else { Action::Reply });
    has_reason(&outcome);
    match outcome.reply() {
        Some(reply) => dns_reply(message, reply),
        None => assert_eq!(outcome.message, message, "changed and not answered"),
    }
    fast_path_agrees(&flow, message, &outcome);
}

/// Every outcome of the slow path has a reason, which is that of an answer or of silence.
fn has_reason(outcome: &Outcome) {
    let reason = outcome.trace.reason;
    assert!(reason != Reason::Undecided && (reason as u32) < Reason::NotVip as u32, "{reason:?}");
    assert_eq!(reason == Reason::NotARequest, outcome.action == Action::Ignore, "{reason:?}");
}

fn dns_reply(query: &[u8], bytes: &[u8]) {
    let end = if bytes.len() > dns::HEADER { question_end(bytes) } else { dns::HEADER };
    let reply = decode(bytes);
    let most = if reply.edns.is_some() { dns::UDP_LIMIT.into() } else { 512 };
    assert!(bytes.len() <= most, "{} bytes", bytes.len());
    let meta = &reply.metadata;
    assert_eq!(meta.message_type, MessageType::Response);
    assert_eq!(meta.id, u16::from_be_bytes([query[0], query[1]]));
    assert_eq!(u8::from(meta.op_code), query[2] >> 3 & 15);
    assert_eq!(meta.recursion_desired, query[2] & 1 == 1);
    assert!(!meta.recursion_available && !meta.authentic_data);
    match reply.queries.len() {
        // Nothing, or EDNS with a cookie.
        0 => {
            assert!([12, 12 + 11 + 28, 12 + 11 + 28 + 24].contains(&bytes.len()), "records without question")
        }
        1 => {
            assert_eq!(bytes[dns::HEADER..end], query[dns::HEADER..end], "another question");
        }
        count => panic!("{count} questions"),
    }
    let counts = [reply.answers.len(), reply.authorities.len(), reply.additionals.len()];
    assert!(counts.into_iter().zip([4, 4, 8]).all(|(count, most)| count <= most), "{counts:?} records");
    assert!(!meta.truncation || counts == [0; 3], "cut off, but with records");
}

/// Reads a DNS message by another library, to its last byte.
///
/// # Panics
/// If it cannot be read, or bytes are left.
#[must_use]
pub fn decode(bytes: &[u8]) -> Message {
    let bytes = &*with_known_family(bytes);
    let mut decoder = BinDecoder::new(bytes);
    let message = Message::read(&mut decoder).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
    assert!(decoder.is_empty(), "bytes behind the last record: {bytes:02x?}");
    message
}

/// The library does not know the address family 0 of a client subnet that tells nothing: it gets IPv4 instead.
fn with_known_family(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let opt = [[0, 41], UDP_LIMIT.to_be_bytes()].concat();
    if let Some(at) = bytes.windows(4).rposition(|window| window == opt)
        && bytes.get(at + 10..).is_some_and(|rest| rest.starts_with(&[0, 8, 0, 4, 0, 0, 0, 0]))
    {
        bytes[at + 15] = 1;
    }
    bytes
}

/// Place behind the question, whose name is not compressed.
fn question_end(message: &[u8]) -> usize {
    let mut at = dns::HEADER;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

/// Any bytes as a CDSR request: silence or a sound reply that is not longer, with the request's nonce and none of the
/// servers that failed; and the fast path either does the same or nothing.
///
/// # Panics
/// If not.
pub fn cdsr_request(message: &[u8]) {
    let flow = flow(message.len() % 2 == 1, cdsr::PORT);
    let outcome = slow::answer(&*IMAGE, &flow, message).expect("CDSR is spoken here");
    let silent = message.len() < 28 || message[..2] != *b"CD" || message[3] & 0x80 != 0;
    assert_eq!(outcome.action, if silent { Action::Ignore } else { Action::Reply });
    has_reason(&outcome);
    match outcome.reply() {
        Some(reply) => cdsr_reply(message, reply),
        None => assert_eq!(outcome.message, message, "changed and not answered"),
    }
    fast_path_agrees(&flow, message, &outcome);
}

fn cdsr_reply(request: &[u8], bytes: &[u8]) {
    assert!(bytes.len() <= request.len(), "{} bytes for {}", bytes.len(), request.len());
    let reply = CdsrReply::read(bytes).unwrap_or_else(|what| panic!("{what}: {bytes:02x?}"));
    assert_eq!(bytes[4..12], request[4..12], "another nonce");
    assert_eq!(reply.status == 6, request[2] != 1, "status {} to version {}", reply.status, request[2]);
    assert!(u32::from(reply.prefix) <= 1024 && (reply.scope == 2) == (reply.prefix > 0));
    if reply.status != 0 {
        // "Use the legacy protocol" holds for as many URLs as endpoints would.
        let hinted = reply.status == 4 || reply.scope == 0;
        assert!(hinted && reply.suffix == 0 && !reply.more && reply.endpoints.is_empty(), "{reply:?}");
        return;
    }
    for server in request[24..].chunks_exact(20).take(request[18].into()).filter(|server| server[18] == 1) {
        let mut octets = [0; 16];
        octets.copy_from_slice(&server[..16]);
        let failed = IpAddr::from(octets).to_canonical();
        assert!(reply.endpoints.iter().all(|endpoint| endpoint.address != failed), "{failed} has failed");
    }
}

fn fast_path_agrees(flow: &Flow, message: &[u8], slow: &Outcome) {
    let fast = slow::respond::<_, false>(&*IMAGE, flow, message).expect("the same port");
    match fast.action {
        Action::Punt => assert_eq!(fast.message, message, "punted, but changed"),
        Action::Reply => {
            assert_eq!(Some(&*fast.message), slow.reply(), "the fast path answers something else")
        }
        Action::Ignore | Action::Drop => panic!("the fast path is silent: {:?}", fast.trace.reason),
    }
}

/// Any bytes as an Ethernet frame: untouched, or the slow path's answer.
///
/// # Panics
/// If not.
pub fn frame(bytes: &[u8]) {
    let (action, after) = Native::new(&*IMAGE).run(bytes);
    if let Err(difference) = judge(&*IMAGE, bytes, action, &after) {
        panic!("{difference}");
    }
}

/// Words that the scans may take: more than any text here has, and what the fast path allows.
const MANY: usize = 1024;
const FEW: usize = 24;

/// Any bytes as the host, path or rest of a URL: cut and hashed as by splitting at every delimiter. Scans that stop
/// early say so.
///
/// # Panics
/// If not.
pub fn url_text(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MANY)];
    let keys = IMAGE.meta.keys;
    // Texts begin at a message's eighth byte at the earliest.
    let mut message = [b"a/a.a/a.", bytes].concat();
    let end = message.len();
    let message = Buffer::new(&mut message, end);
    let cut = |limit| Cut { start: 8, end, limit };

    let host_by = |rounds: usize, limit| {
        let mut found = Vec::new();
        let note = |_, at, hash| found.push((at, hash));
        let scan = if rounds == MANY {
            text::host::<_, MANY>(&message, &keys, cut(limit), note)
        } else {
            text::host::<_, FEW>(&message, &keys, cut(limit), note)
        };
        (scan.expect("within the message"), found)
    };
    check_host(bytes, &keys, MAX_LABELS, host_by(MANY, MAX_LABELS));
    check_host(bytes, &keys, 16, host_by(FEW, 16));

    let mut found = Vec::new();
    let scan = text::path::<_, MANY>(&message, &keys, cut(4), |_, end, hash| found.push((end, hash)));
    assert_eq!(scan.map(|scan| scan.count), Some(found.len()));
    assert_eq!(found, path_segments(bytes, &keys));

    assert_eq!(text::all::<_, MANY, false>(&message, &keys, 8, end), Some(keys.text(bytes, false)));
    assert_eq!(text::all::<_, MANY, true>(&message, &keys, 8, end), Some(keys.text(bytes, true)));
    let few = text::all::<_, FEW, false>(&message, &keys, 8, end);
    assert_eq!(few, (bytes.len() <= FEW * 8).then(|| keys.text(bytes, false)));
}

/// The first four segments of a path by splitting it: where each ends and its hash.
fn path_segments(bytes: &[u8], keys: &Keys) -> Vec<(usize, u64)> {
    let path = bytes.split(|byte| b"?#".contains(byte)).next().unwrap_or_default();
    let mut at = 8;
    let segments = path.split_inclusive(|byte| *byte == b'/').map(|part| {
        at += part.len();
        match part.strip_suffix(b"/") {
            Some(segment) => (at, keys.text(segment, false)),
            None => (0, keys.text(part, false)),
        }
    });
    let mut segments: Vec<_> = segments.collect();
    // A query behind a slash ends an empty segment.
    if path.len() < bytes.len() && path.last().is_none_or(|byte| *byte == b'/') {
        segments.push((0, keys.text(b"", false)));
    }
    segments.truncate(4);
    segments
}

fn check_host(bytes: &[u8], keys: &Keys, limit: usize, (scan, found): (Scan, Vec<(usize, u64)>)) {
    let text = bytes.strip_suffix(b".").unwrap_or(bytes);
    let mut at = 8;
    let labels: Vec<(usize, &[u8])> = text
        .split(|byte| *byte == b'.')
        .map(|label| {
            at += label.len() + 1;
            (at - label.len() - 1, label)
        })
        .filter(|_| !bytes.is_empty())
        .collect();
    let wrong =
        |label: &[u8]| !(1..=63).contains(&label.len()) || label.iter().any(|byte| b"/?@".contains(byte));
    assert_eq!(scan.count, found.len());
    let hashed = labels.iter().map(|(at, label)| (*at, keys.text(label, true)));
    assert!(found.iter().copied().eq(hashed.take(found.len())), "labels are hashed otherwise");
    if !scan.more {
        assert_eq!(found.len(), labels.len(), "labels are left out");
        assert_eq!(scan.bad, labels.iter().any(|(_, label)| wrong(label)), "{bytes:02x?}");
    }
    let words: usize = labels.iter().map(|(_, label)| label.len() / 8 + 1).sum();
    assert!(!scan.more || labels.len() > limit || words > FEW, "stopped without need");
}
