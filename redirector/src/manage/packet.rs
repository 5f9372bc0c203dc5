//! Questions as messages and frames, for explanations: what clients would send.

use ipnet::IpNet;
use redirector_core::wire::Word;
use redirector_core::wire::cdsr::{
    ENDPOINT, MAGIC, MAX_URL, MIN_URL, PORT, REPLY_HEADER, REQUEST_HEADER, RESOLVE, VERSION,
};
use redirector_core::wire::frame::Frame;
use std::net::{IpAddr, SocketAddr};

/// DNS record types that can be asked for by name; others are written `TYPE65` (RFC 3597 section 5).
const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("HTTPS", 65),
    ("ANY", 255),
];
/// UDP port of DNS.
const DNS_PORT: u16 = 53;
/// Ethernet, and the parts before a UDP payload.
const ETHERNET: usize = 14;
const UDP: usize = 8;

/// Number of a DNS record type.
///
/// # Errors
/// What can be written.
pub(super) fn record_type(text: &str) -> Result<u16, String> {
    let known = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
    let numbered = || text.to_ascii_uppercase().strip_prefix("TYPE").and_then(|digits| digits.parse().ok());
    known.or_else(numbered).ok_or_else(|| {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        format!("`{text}` is no record type: write one of {}, or TYPE and a number", names.join(", "))
    })
}

/// Labels of a domain name, leftmost first.
///
/// # Errors
/// If it is longer than names can be (RFC 1035 section 2.3.4), or has an empty label.
pub(super) fn labels(name: &str) -> Result<Vec<&str>, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels: Vec<&str> = if name.is_empty() { Vec::new() } else { name.split('.').collect() };
    if labels.iter().any(|label| label.is_empty() || label.len() > 63) || name.len() > 253 {
        return Err(format!("`{name}` is no domain name: labels of 1 to 63 bytes, 253 in all"));
    }
    Ok(labels)
}

/// A query with ID 0, if need be on behalf of a client's network (RFC 7871 section 6).
pub(super) fn dns_query(labels: &[&str], record_type: u16, ecs: Option<IpNet>) -> Vec<u8> {
    let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(ecs.is_some())];
    for label in labels {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(record_type.to_be_bytes());
    query.extend([0, 1]);
    if let Some(network) = ecs {
        let (family, octets) = match network.network() {
            IpAddr::V4(v4) => (1, v4.octets().to_vec()),
            IpAddr::V6(v6) => (2, v6.octets().to_vec()),
        };
        let length = network.prefix_len();
        let octets = &octets[..usize::from(length).div_ceil(8)];
        let size = octets.len() as u8;
        // The OPT record: version 0, payload size 1232, this one option.
        query.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 8 + size]);
        query.extend([0, 8, 0, 4 + size, 0, family, length, 0]);
        query.extend(octets);
    }
    query
}

/// A request with nonce 0 for as many endpoints as the box gives unasked, padded so that they fit
/// (docs/cdsr-protocol.md).
///
/// # Errors
/// If the URL cannot stand in a request.
pub(super) fn cdsr_request(url: &str) -> Result<Vec<u8>, String> {
    let bad = |why: &str| format!("`{url}` is no URL for CDSR: {why}");
    if !(MIN_URL..=MAX_URL).contains(&url.len()) || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("8 to 1024 ASCII characters, blanks written as %20"));
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no `://`"))?;
    let host = host_of(rest);
    let (host_at, host_length) = (u8::try_from(scheme.len() + 3), u8::try_from(host.len()));
    let (Ok(host_at), Ok(host_length)) = (host_at, host_length) else {
        return Err(bad("scheme or host is too long"));
    };
    let mut request = vec![0; REQUEST_HEADER];
    request[..2].copy_from_slice(&MAGIC.to_be_bytes());
    (request[2], request[3]) = (VERSION, RESOLVE);
    request[14..16].copy_from_slice(&(url.len() as u16).to_be_bytes());
    (request[16], request[17]) = (host_at, host_length);
    request.extend(url.as_bytes());
    let room = REPLY_HEADER + redirector_core::decide::FAST_ENDPOINTS as usize * ENDPOINT;
    request.resize(request.len().max(room), 0);
    Ok(request)
}

/// The host of a URL's part behind `://`, without its port.
pub(super) fn host_of(rest: &str) -> &str {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind([':', ']']) {
        Some(place) if authority[place..].starts_with(':') => &authority[..place],
        _ => authority,
    }
}

/// The Ethernet frame with a UDP datagram for a port of the VIP; both addresses are of one family.
pub(super) fn frame(client: SocketAddr, vip: IpAddr, dns: bool, payload: &[u8]) -> Vec<u8> {
    let length = (UDP + payload.len()) as u16;
    let port = if dns { DNS_PORT } else { PORT };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let pseudo = match (client.ip(), vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            frame.extend(from.octets().into_iter().chain(to.octets()));
            let header = checksum(sum(&frame[ETHERNET..]));
            frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&header.to_be_bytes());
            sum(&frame[ETHERNET + 12..])
        }
        (from, to) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([17, 64]);
            for address in [from, to] {
                let v6 = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                frame.extend(v6.octets());
            }
            sum(&frame[ETHERNET + 8..])
        }
    };
    let start = frame.len();
    for word in [client.port(), port, length, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(payload);
    // 0 means that there is none (RFC 768).
    let udp = match checksum(pseudo + 17 + length as u32 + sum(&frame[start..])) {
        0 => 0xffff,
        some => some,
    };
    frame[start + 6..start + 8].copy_from_slice(&udp.to_be_bytes());
    frame
}

/// UDP payload of a frame of the form that [`frame`] makes.
pub(super) fn payload(frame: &[u8], v6: bool) -> &[u8] {
    frame.get(ETHERNET + if v6 { 40 } else { 20 } + UDP..).unwrap_or_default()
}

/// Sum of 16-bit words (RFC 1071); frames are too short for it to overflow.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| (pair[0] as u32) << 8 | pair.get(1).copied().unwrap_or(0) as u32).sum()
}

fn checksum(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame in plain memory.
pub(super) struct PlainFrame(pub(super) Vec<u8>);

impl Frame for PlainFrame {
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.0.get(at..)?.first_chunk()
    }
    fn block_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.0.get_mut(at..)?.first_chunk_mut()
    }
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        W::read(self.0.get(at..)?)
    }
    fn store<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        value.write(self.0.get_mut(at..)?)
    }
    fn resize(&mut self, len: usize) -> Option<()> {
        self.0.resize(len, 0);
        Some(())
    }
    fn cut_front(&mut self, bytes: usize) -> Option<()> {
        (bytes <= self.0.len()).then(|| drop(self.0.drain(..bytes)))
    }
}
