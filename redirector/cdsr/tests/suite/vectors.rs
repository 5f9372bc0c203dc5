//! The client's half of the protocol against the vectors of docs/cdsr-protocol.md, appendix A.

use crate::reader::Vector;
use cdsr::Url;
use cdsr::wire::{
    Endpoint, FailureKind, Families, Opinion, Reply, ReplyError, Request, Scope, ServerEntry, Status,
};
use std::net::IpAddr;
use std::time::Duration;

fn families(text: &str) -> Families {
    match text {
        "request" => Families::SameAsRequest,
        "4" => Families::V4,
        "6" => Families::V6,
        "46" => Families::Both,
        other => panic!("families {other}"),
    }
}

fn server(text: &str) -> ServerEntry {
    let words: Vec<&str> = text.split(' ').collect();
    let opinion = match words[1..] {
        ["preferred"] => Opinion::Preferred,
        ["failed", "unspecified"] => Opinion::Failed(FailureKind::Unspecified),
        ["failed", "time-out"] => Opinion::Failed(FailureKind::TimedOut),
        ["failed", "refused"] => Opinion::Failed(FailureKind::Refused),
        ["failed", "error-answer"] => Opinion::Failed(FailureKind::ErrorAnswer),
        ["failed", "too-slow"] => Opinion::Failed(FailureKind::TooSlow),
        _ => panic!("server {text}"),
    };
    ServerEntry { server: words[0].parse().expect(text), opinion }
}

#[test]
fn requests_are_encoded_as_in_the_vectors() {
    let mut compared = 0;
    for vector in Vector::all("request-").iter().filter(|v| v.get("encoding") == Some("canonical")) {
        let url: Url = vector.text("url").parse().expect(&vector.name);
        assert_eq!(url.host_str(), vector.text("host"), "{}", vector.name);
        let servers: Vec<ServerEntry> = vector.list("server").into_iter().map(server).collect();
        let request = Request {
            nonce: u64::from_str_radix(vector.text("nonce"), 16).expect("a nonce"),
            families: families(vector.text("families")),
            max_endpoints: vector.number("max-endpoints").try_into().expect("a byte"),
            url: &url,
            servers: &servers,
            token: None,
            min_len: 0,
        };
        assert_eq!(hex(&request.encode()), hex(&vector.request()), "{}", vector.name);
        compared += 1;
    }
    assert!(compared >= 10, "only {compared} canonical vectors");
}

#[test]
fn replies_are_read_or_ignored_as_in_the_vectors() {
    for vector in Vector::all("reply-") {
        let asked = vector.request();
        // Vectors are well formed here: where the URL stands is section 5.
        let url_at = 24 + 20 * usize::from(asked[18]);
        let url_len = usize::from(u16::from_be_bytes([asked[14], asked[15]]));
        let url = std::str::from_utf8(&asked[url_at..url_at + url_len]).expect(&vector.name);
        let url: Url = url.parse().expect(&vector.name);
        let request = Request {
            nonce: u64::from_be_bytes(*asked[4..].first_chunk().expect("a nonce")),
            families: [Families::SameAsRequest, Families::V4, Families::V6, Families::Both]
                [usize::from(asked[12])],
            max_endpoints: asked[13],
            url: &url,
            servers: &[],
            token: None,
            min_len: 0,
        };
        let redirector: IpAddr = vector.get("asked").unwrap_or("203.0.113.1").parse().expect(&vector.name);
        let read = Reply::decode(&vector.bytes("reply"), &request, asked.len(), redirector);
        assert_eq!(read, expected(&vector, &url), "{}: {}", vector.name, vector.text("description"));
    }
}

/// What the vector says that a client makes of the reply.
fn expected(vector: &Vector, url: &Url) -> Result<Reply, ReplyError> {
    let reply = vector.bytes("reply");
    match vector.text("client") {
        "accept" => {}
        "ignore truncated" => return Err(ReplyError::Truncated),
        "ignore longer-than-request" => return Err(ReplyError::LongerThanRequest),
        "ignore magic" => return Err(ReplyError::Magic),
        "ignore version" => return Err(ReplyError::Version(reply[2])),
        "ignore kind" => return Err(ReplyError::Kind(reply[3])),
        "ignore nonce" => return Err(ReplyError::Nonce),
        other => panic!("{}: client: {other}", vector.name),
    }
    Ok(Reply {
        status: match vector.text("status") {
            "handled" => Status::Handled,
            "not-mine" => Status::NotMine,
            "retry-later" => Status::RetryLater(Duration::from_millis(vector.number("delay"))),
            "denied" => Status::Denied,
            "use-legacy" => Status::UseLegacy,
            "bad-request" => Status::BadRequest,
            "version" => Status::VersionNotSupported,
            other => panic!("{}: status {other}", vector.name),
        },
        reason: vector.number("reason").try_into().expect("a reason"),
        lifetime: Duration::from_secs(vector.number("lifetime")),
        scope: match vector.get("scope").unwrap_or("url").split_once(' ') {
            Some(("prefix", prefix)) => {
                assert!(url.as_str().starts_with(prefix), "{}", vector.name);
                Scope::Prefix(prefix.len().try_into().expect("a length"))
            }
            None if vector.get("scope") == Some("host") => Scope::Host,
            _ => Scope::Url,
        },
        more: vector.get("more") == Some("yes"),
        handled_suffix: vector.get("suffix").map(str::to_owned),
        endpoints: vector.list("endpoint").into_iter().map(endpoint).collect(),
    })
}

fn endpoint(text: &str) -> Endpoint {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |i: usize| words[i].parse::<u16>().expect(text);
    let byte = |i: usize| u8::try_from(number(i)).expect(text);
    Endpoint {
        server: words[0].parse().expect(text),
        order: byte(1),
        share: byte(2),
        network: number(3),
        class: byte(4),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
