//! Messages put together from the test network's words, so that most of them mean something, and then damaged.

use crate::choices::Choices;
use crate::network::{TEXT, VIEW, VIP};
use ipnet::IpNet;
use redirector::manage::explain::{Protocol, Question, Wanted};
use redirector_plan::model::{LabelRule, Network};
use redirector_tests::networks::{ACME, rich};
use redirector_tests::questions::{
    COOKIE, CdsrRequest, DnsQuery, ECS, Edns, IN, Opinion, PADDING, QR, RD, rr,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

const TYPES: [u16; 17] = [
    rr::A,
    rr::AAAA,
    rr::HTTPS,
    rr::TXT,
    rr::NS,
    rr::SOA,
    rr::ANY,
    rr::MX,
    rr::SRV,
    rr::OPT,
    rr::TSIG,
    rr::AXFR,
    0,
    127,
    128,
    256,
    u16::MAX,
];
/// First bytes of labels that mean more than themselves, lengths that are none, and separators of URLs.
const BYTES: [u8; 12] = [0, 1, 4, 0x3f, 0x40, 0xc0, 0xff, b'.', b'/', b':', b'@', b'['];

/// Words of a network: labels of its zones, of its grammars and hosts, and segments of its URLs.
#[derive(Debug)]
struct Words {
    suffixes: Vec<Vec<String>>,
    hosts: Vec<Vec<String>>,
    labels: Vec<String>,
    segments: Vec<String>,
}

/// Of the network that messages are asked about.
static RICH: LazyLock<Words> = LazyLock::new(|| Words::of(&rich().0));
/// Of the one that connections and reports are about.
static SMALL: LazyLock<Words> = LazyLock::new(|| Words::of(&VIEW.generation.config.network));

impl Words {
    fn of(network: &Network) -> Self {
        let values = |rule: &LabelRule| match rule {
            LabelRule::Fixed(value) => vec![value.clone()],
            LabelRule::OneOf(_, values) => values.clone(),
            LabelRule::Free(_) => vec!["free".to_owned()],
        };
        let grammars = network.zones.iter().flat_map(|zone| &zone.grammars);
        let rules =
            grammars.flat_map(|grammar| &grammar.labels).chain(network.urls.iter().flat_map(|url| &url.host));
        let mut labels: Vec<String> = rules.flat_map(values).collect();
        labels.extend(["ns1", "_cdsr", "x"].map(str::to_owned));
        labels.sort_unstable();
        labels.dedup();
        let mut segments: Vec<String> = network.urls.iter().flat_map(|url| url.path.clone()).collect();
        segments.sort_unstable();
        segments.dedup();
        Self {
            suffixes: network.zones.iter().map(|zone| zone.suffix.clone()).collect(),
            hosts: network.urls.iter().map(|url| url.suffix.clone()).collect(),
            labels,
            segments,
        }
    }

    /// Labels in front of one of `suffixes`, mostly known ones; sometimes in capital letters.
    fn name(&self, choices: &mut Choices<'_>, suffixes: &[Vec<String>]) -> String {
        let mut labels = Vec::new();
        for _ in 0..choices.below(6) {
            let known = !choices.seldom(3);
            labels.push(if known { choices.pick(&self.labels).clone() } else { choices.word(66) });
        }
        if !choices.seldom(16) {
            labels.extend(choices.pick(suffixes).iter().cloned());
        }
        let name = labels.join(".");
        if choices.seldom(4) { name.to_uppercase() } else { name }
    }

    /// A URL of the network, or one that is beside it.
    fn url(&self, choices: &mut Choices<'_>) -> String {
        let scheme = *choices.pick(&["http", "https", "rtsp", "HTTP", "gopher", "x"]);
        let host = match choices.below(8) {
            0 => ACME[0].to_owned(),
            1 => format!("[{}]", ACME[1]),
            _ => self.name(choices, &self.hosts),
        };
        let port = *choices.pick(&["", "", ":80", ":8080", ":", ".", "@x"]);
        let mut url = format!("{scheme}://{host}{port}");
        for _ in 0..choices.below(6) {
            let known = !choices.seldom(3);
            url += "/";
            url += &if known { choices.pick(&self.segments).clone() } else { choices.word(90) };
        }
        url + *choices.pick(&["", "/", "?a=b", "#x", "//", "/?"])
    }
}

/// A DNS query.
pub(crate) fn dns_query(choices: &[u8]) -> Vec<u8> {
    let mut choices = Choices::new(choices);
    let name = RICH.name(&mut choices, &RICH.suffixes);
    let query = DnsQuery {
        id: choices.number() as u16,
        flags: *choices.pick(&[0, RD, RD | 0x10, 0x20, RD | 0x0200, 0x2800, QR]),
        qtype: *choices.pick(&TYPES),
        class: if choices.seldom(16) { choices.number() as u16 } else { IN },
        edns: choices.seldom(2).then(|| edns(&mut choices)),
        ..DnsQuery::new(&name, rr::A)
    };
    let mut message = query.encode();
    if choices.seldom(8) {
        message.extend(edns(&mut choices).encode());
    }
    damage(&mut choices, &mut message);
    message
}

fn edns(choices: &mut Choices<'_>) -> Edns {
    let version = if choices.seldom(8) { choices.number() as u8 } else { 0 };
    let mut edns = Edns { size: choices.number() as u16, version, ..Edns::new(choices.seldom(2)) };
    for _ in 0..choices.below(7) {
        let code = *choices.pick(&[ECS, COOKIE, PADDING, 0, 3, u16::MAX]);
        edns = edns.option(code, &choices.bytes(40));
    }
    edns
}

/// A CDSR request.
pub(crate) fn cdsr_request(choices: &[u8]) -> Vec<u8> {
    let mut choices = Choices::new(choices);
    let url = RICH.url(&mut choices);
    let servers = (0..choices.below(10)).map(|_| server(&mut choices)).collect();
    let request = CdsrRequest {
        nonce: choices.number(),
        families: choices.below(5) as u8,
        max_endpoints: choices.below(10) as u8,
        servers,
        extensions: if choices.seldom(4) { extensions(&mut choices) } else { Vec::new() },
        length: choices.below(1300),
        ..CdsrRequest::new(&url)
    };
    let mut message = request.encode();
    damage(&mut choices, &mut message);
    message
}

/// A URL of the network that messages are asked about, or one that is beside it.
pub(crate) fn url(choices: &[u8]) -> String {
    RICH.url(&mut Choices::new(choices))
}

/// A server that the network has, or another.
fn server(choices: &mut Choices<'_>) -> (IpAddr, Opinion) {
    let number = choices.below(140) as u16;
    let address = match choices.below(4) {
        0 => choices
            .number()
            .to_be_bytes()
            .first_chunk::<4>()
            .map_or(Ipv4Addr::UNSPECIFIED.into(), |b| (*b).into()),
        1 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number).into(),
        _ => Ipv4Addr::new(192, 0, 2, number as u8).into(),
    };
    (address, if choices.seldom(4) { Opinion::Preferred } else { Opinion::Failed })
}

/// Types, critical or not, with their values.
fn extensions(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..choices.below(4) {
        let value = choices.bytes(20);
        bytes.extend((choices.number() as u16).to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
    }
    bytes
}

/// Changes a few bytes, or none.
fn damage(choices: &mut Choices<'_>, message: &mut Vec<u8>) {
    let changes = if choices.seldom(3) { 1 + choices.below(3) } else { 0 };
    for _ in 0..changes {
        let place = choices.below(message.len());
        match choices.below(4) {
            0 => message[place] = *choices.pick(&BYTES),
            1 => message[place] ^= 1 << choices.below(8),
            2 => message.insert(place, *choices.pick(&BYTES)),
            _ => message.truncate(place.max(1)),
        }
    }
}

/// What an operator asks to be explained.
pub(crate) fn question(choices: &[u8]) -> Question {
    const TYPES: [&str; 12] =
        ["A", "AAAA", "TXT", "SOA", "NS", "ANY", "HTTPS", "TYPE65", "type250", "TYPE70000", "TYP", ""];
    let mut choices = Choices::new(choices);
    let wanted = if choices.seldom(2) {
        let protocols = [Protocol::Cdsr, Protocol::Http, Protocol::Rtsp, Protocol::Dns];
        let protocol = (!choices.seldom(4)).then(|| *choices.pick(&protocols));
        Wanted::Url { url: SMALL.url(&mut choices), protocol }
    } else {
        let record_type = choices.seldom(2).then(|| (*choices.pick(&TYPES)).to_owned());
        Wanted::Name { name: SMALL.name(&mut choices, &SMALL.suffixes), record_type }
    };
    let number = choices.number();
    let clients = [
        IpAddr::from([10, 0, 0, 1]),
        IpAddr::from([0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1]),
        IpAddr::from([192, 0, 2, 1]),
        Ipv4Addr::from_bits(number as u32).into(),
        Ipv6Addr::from_bits(u128::from(number)).into(),
        Ipv4Addr::from_bits(number as u32).to_ipv6_mapped().into(),
    ];
    let client = *choices.pick(&clients);
    let vip = choices.seldom(3).then(|| *choices.pick(&[VIP, IpAddr::from([203, 0, 113, 1]), client]));
    let length = choices.below(33) as u8;
    let ecs = choices.seldom(3).then(|| IpNet::new(*choices.pick(&clients), length).expect("a length"));
    Question { client, ecs, wanted, vip }
}

/// Values that are seldom right where they stand.
const VALUES: [&str; 20] = [
    "\"\"",
    "0",
    "-1",
    "18446744073709551615",
    "1e400",
    "true",
    "[]",
    "{}",
    "\"*\"",
    "\"0s\"",
    "\"9999999h\"",
    "\"\\u0000\\u001b[2J\"",
    "\"xn--a\"",
    "\"{a}.{b}\"",
    "\"2001:db8:a::1\"",
    "\"0.0.0.0/0\"",
    "\"http|rtsp://{x}.cdn.test/a/*/b\"",
    "\"https://[::]/*\"",
    "1979-05-27T07:32:00Z",
    "\n[[service]]\n",
];

/// The small network's configuration in other words.
pub(crate) fn configuration(choices: &[u8]) -> String {
    let mut choices = Choices::new(choices);
    let comment = |line: &&str| line.starts_with('#');
    let lines: Vec<&str> = TEXT.split_inclusive('\n').skip_while(comment).collect();
    let mut words = words(&lines.concat());
    for _ in 0..choices.below(4) {
        // What is neither blank nor punctuation.
        let places: Vec<usize> =
            (0..words.len()).filter(|place| words[*place].contains(char::is_alphanumeric)).collect();
        let place = *choices.pick(&places);
        let other = words[*choices.pick(&places)].clone();
        match choices.below(6) {
            0 => words[place] = other,
            1 => words.insert(place, other),
            2 => words[place] = (*choices.pick(&VALUES)).to_owned(),
            3 => drop(words.remove(place)),
            4 => {
                let digits = *choices.pick(&["9", "", "0", ":"]);
                words[place] = words[place].replace(|c: char| c.is_ascii_digit(), digits)
            }
            _ => {
                // A line is often a table or a whole value.
                let end = words[place..]
                    .iter()
                    .position(|word| word == "\n")
                    .map_or(words.len(), |at| place + at + 1);
                let line = words[place..end].to_vec();
                words.splice(place..place, line);
            }
        }
    }
    words.concat()
}

/// A TOML text cut into strings, words and single other characters.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            c if c.is_alphanumeric() => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        words.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    words
}
