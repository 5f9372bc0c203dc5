//! What the client reads: URLs of programs, replies of redirectors, answers of name servers.

use cdsr::answer::{Answer, system_servers};
use cdsr::wire::{MAX_DATAGRAM, MAX_ENDPOINTS, Request};
use cdsr::{Families, Reply, Scope, Status, Url};
use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, RData};
use redirector::front::url::{Url as FrontUrl, decide_url};
use redirector_core::lookup::Scheme;
use redirector_core::table::{CHOOSE_SPREAD, Tables as _};
use redirector_core::verdict::Reason;
use redirector_core::wire::cdsr::PORT;
use redirector_core::wire::{Proof, REFUSED};
use redirector_tests::frames::Flow;
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::questions::{CdsrReply, DnsQuery, rr};
use redirector_tests::slow;
use std::net::IpAddr;

/// Any text as the URL of a program: refused with a reason that can be shown, or asked for in a request that the
/// redirector does not call malformed, and answered with a reply that the client takes whole, and with the servers that
/// the HTTP and RTSP listeners would choose (P-25).
///
/// # Panics
/// If not.
pub fn client_url(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let url: Url = match text.parse() {
        Ok(url) => url,
        Err(error) => return assert!(!error.to_string().contains(char::is_control), "{error}"),
    };
    assert_eq!(url.as_str().parse::<Url>().as_ref(), Ok(&url), "read otherwise the second time");
    for (v6, families) in
        [(false, Families::SameAsRequest), (true, Families::SameAsRequest), (true, Families::Both)]
    {
        let flow = flow(v6, PORT);
        let max_endpoints = url.as_str().len() as u8 % (MAX_ENDPOINTS + 1);
        let request =
            Request { nonce: 1, families, max_endpoints, url: &url, servers: &[], token: None, min_len: 0 };
        let reply = ask(&flow, &request);
        if families == Families::SameAsRequest {
            same_as_connections(&flow, &url, &reply);
        }
    }
}

pub(crate) fn url_is_one(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Url>().is_ok())
}

/// The redirector's reply, which both readers take.
fn ask(flow: &Flow, request: &Request<'_>) -> CdsrReply {
    let datagram = request.encode();
    assert!(datagram.len() <= MAX_DATAGRAM);
    let outcome = slow::answer(&*IMAGE, flow, &datagram).expect("CDSR is spoken here");
    let bytes = outcome.reply().expect("an answer");
    let strict = CdsrReply::read(bytes).unwrap_or_else(|rule| panic!("{rule}: {bytes:02x?}"));
    assert_ne!(strict.status, 5, "{} is malformed", request.url);
    let reply = Reply::decode(bytes, request, datagram.len(), flow.vip.ip()).expect("a reply");
    assert_eq!(reply.endpoints.len(), strict.endpoints.len(), "the client leaves endpoints out");
    assert_eq!(matches!(reply.status, Status::Handled), strict.status == 0);
    strict
}

/// The listeners' choice for the same URL begins with the same server.
fn same_as_connections(flow: &Flow, url: &Url, reply: &CdsrReply) {
    let Some((scheme, rest)) = url.as_str().split_once("://") else { return };
    let known = [Scheme::Http, Scheme::Https, Scheme::Rtsp].into_iter().find(|known| known.name() == scheme);
    let Some(scheme) = known else { return };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let vip = slow::vip(&*IMAGE, flow.vip.ip()).expect("a VIP");
    let front = FrontUrl::new(scheme, authority, path).expect("an authority");
    let decision = match decide_url(&*IMAGE, &vip, flow.client, &front, 4, |_| Proof::denied(REFUSED)) {
        Ok(decision) => decision,
        Err(error) => return assert_ne!(reply.status, 0, "{url} is answered by CDSR alone: {error:?}"),
    };
    let service = IMAGE.service(decision.service).expect("a service");
    let comparable = decision.v6 == flow.client.is_ipv6() && service.choose_by != CHOOSE_SPREAD;
    if !comparable || decision.verdict.reason == Reason::NoDataFamily {
        return;
    }
    let chosen = &decision.verdict.targets[..decision.verdict.count as usize];
    let addresses = chosen.iter().map(|number| {
        let target = IMAGE.target(*number).expect("a target");
        if decision.v6 { redirector_ipv6(target.ipv6) } else { redirector_ipv4(target.ipv4) }
    });
    let common = reply.endpoints.len().min(chosen.len());
    assert_eq!(reply.endpoints.is_empty(), chosen.is_empty(), "{url}");
    assert!(
        addresses.take(common).eq(reply.endpoints.iter().take(common).map(|endpoint| endpoint.address)),
        "{url}"
    );
}

/// Addresses as tables hold them.
fn redirector_ipv4(word: u32) -> IpAddr {
    IpAddr::from(word.to_ne_bytes())
}

fn redirector_ipv6(words: [u64; 2]) -> IpAddr {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&words[0].to_ne_bytes());
    octets[8..].copy_from_slice(&words[1].to_ne_bytes());
    IpAddr::from(octets)
}

/// Bytes of a reply's header that a client checks first: magic, version, kind and nonce.
const REPLY_START: [u8; 12] = *b"CD\x01\x81\0\0\0\0\0\0\0\x07";

/// Any bytes as a datagram from a redirector, and as the rest of one that repeats the request's nonce: what is taken
/// names no server that a client must not connect to, and holds for nothing beyond the URL's own host.
///
/// # Panics
/// If not.
pub fn cdsr_reply(datagram: &[u8]) {
    let url: Url = "http://any.cdn.example/live/1.m3u8".parse().expect("a URL");
    let mut answered = datagram.to_vec();
    answered.iter_mut().zip(REPLY_START).for_each(|(byte, expected)| *byte = expected);
    for (bytes, families) in
        [(datagram, Families::Both), (&answered, Families::Both), (&answered, Families::V6)]
    {
        let request = Request {
            nonce: 7,
            families,
            max_endpoints: 8,
            url: &url,
            servers: &[],
            token: None,
            min_len: 0,
        };
        let redirector = IpAddr::from([203, 0, 113, 1]);
        if let Ok(reply) = Reply::decode(bytes, &request, MAX_DATAGRAM, redirector) {
            check_reply(bytes, &request, &reply);
        }
    }
}

fn check_reply(bytes: &[u8], request: &Request<'_>, reply: &Reply) {
    let url = request.url;
    assert!(bytes.len() >= 28 + 24 * reply.endpoints.len(), "endpoints beyond the datagram");
    for endpoint in &reply.endpoints {
        let address = endpoint.server.ip();
        let reachable = !address.is_loopback() && !address.is_multicast() && !address.is_unspecified();
        assert!(reachable && endpoint.server.port() != 0 && endpoint.share != 0, "{endpoint:?}");
        assert!(request.families != Families::V6 || address.is_ipv6());
    }
    if let Scope::Prefix(length) = reply.scope {
        assert!(usize::from(length) > url.origin().len() && usize::from(length) <= url.as_str().len());
    }
    if let Some(suffix) = &reply.handled_suffix {
        assert!(url.host_str().ends_with(suffix) && suffix.contains('.') && reply.status == Status::Handled);
    }
    // Another reader, which is stricter, finds the same in it.
    if let Ok(strict) = CdsrReply::read(bytes) {
        assert_eq!((reply.reason, reply.more), (strict.reason, strict.more));
        assert_eq!(matches!(reply.status, Status::Handled), strict.status == 0);
        assert!(reply.endpoints.len() <= strict.endpoints.len());
    }
}

pub(crate) fn reply_is_one(datagram: &[u8]) -> bool {
    datagram.starts_with(&REPLY_START[..4]) && CdsrReply::read(datagram).is_ok()
}

/// What the client asks name servers for: the addresses of a host, and its CDSR attribute.
const QUESTIONS: [(&str, u16); 3] =
    [("any.cdn.example", rr::A), ("any.cdn.example", rr::AAAA), ("_cdsr.any.cdn.example", rr::TXT)];

/// Any bytes as an answer of a name server, as the records of an answer to the question asked, and as `resolv.conf`:
/// no address that the message does not hold, and no more of them than fit; a port that can be asked.
///
/// # Panics
/// If not.
pub fn client_dns(bytes: &[u8]) {
    for (name, qtype) in QUESTIONS {
        let question = DnsQuery::new(name, qtype).encode();
        for message in [bytes.to_vec(), answer(&question, bytes)] {
            if let Some(answer) = Answer::read(message.clone(), &question) {
                check_answer(&message, &answer);
            }
        }
    }
    let servers = system_servers(&String::from_utf8_lossy(bytes));
    assert!((1..=3).contains(&servers.len()) && servers.iter().all(|server| server.port() == 53));
}

/// An answer to `question` whose flags, record counts and records are `rest`.
pub(crate) fn answer(question: &[u8], rest: &[u8]) -> Vec<u8> {
    let (flags, rest) = rest.split_at(rest.len().min(2));
    let (counts, records) = rest.split_at(rest.len().min(6));
    let mut message = question.to_vec();
    message[2..2 + flags.len()].copy_from_slice(flags);
    message[2] |= 0x80;
    message[6..6 + counts.len()].copy_from_slice(counts);
    message.extend(records);
    message
}

fn check_answer(message: &[u8], answer: &Answer) {
    let _ = (answer.is_truncated(), answer.settles().is_ok());
    if let Some((port, _)) = answer.attribute() {
        assert_ne!(port, 0);
    }
    let Ok(addresses) = answer.addresses() else { return };
    // A record has a name, ten bytes and its address.
    assert!(
        addresses.len() * 15 <= message.len(),
        "{} addresses in {} bytes",
        addresses.len(),
        message.len()
    );
    let Ok(oracle) = Message::from_vec(message) else { return };
    let records = oracle.answers.iter().filter(|record| record.dns_class == DNSClass::IN);
    let mut expected: Vec<IpAddr> = records
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .collect();
    let mut found = addresses;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "another library reads other addresses");
}

pub(crate) fn dns_is_answer(bytes: &[u8]) -> bool {
    QUESTIONS.into_iter().any(|(name, qtype)| {
        let question = DnsQuery::new(name, qtype).encode();
        let read = |message| Answer::read(message, &question);
        let useful = |answer: Answer| {
            answer.attribute().is_some() || answer.addresses().is_ok_and(|all| !all.is_empty())
        };
        [bytes.to_vec(), self::answer(&question, bytes)].into_iter().filter_map(read).any(useful)
    })
}
