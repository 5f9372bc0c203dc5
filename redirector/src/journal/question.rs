//! What a message asked for, in words: for people and reports, of messages that the core has read.

use super::decision::{Asked, Decision, Spoken};
use ipnet::IpNet;
use redirector_core::wire::{cdsr, dns};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// EDNS: the record's type, and the option for a client's subnet (RFC 6891, RFC 7871).
const OPT: u16 = 41;
const SUBNET: u16 = 8;
/// Longest name in text.
const LONGEST: usize = 255;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// A name's records.
    Name {
        /// Lower-case, without a final dot.
        name: String,
        /// Number of the type.
        #[serde(rename = "type")]
        kind: u16,
    },
    /// A URL.
    Url(String),
    /// Nothing that can be told.
    Nothing,
}

impl Question {
    /// Of a decision.
    pub fn of(decision: &Decision) -> Self {
        match (&decision.asked, decision.spoken) {
            (Asked::Message { bytes, .. }, Spoken::Dns | Spoken::DnsTcp) => {
                name(bytes).map_or(Self::Nothing, |(name, kind, _)| Self::Name { name, kind })
            }
            (Asked::Message { bytes, .. }, _) => {
                let url = cdsr::url(bytes).map(|url| String::from_utf8_lossy(url).into_owned());
                url.map_or(Self::Nothing, Self::Url)
            }
            (Asked::Url(url), _) if !url.is_empty() => Self::Url(url.to_string()),
            _ => Self::Nothing,
        }
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name { name, kind } => match kind {
                1 => write!(f, "{name} A"),
                28 => write!(f, "{name} AAAA"),
                _ => write!(f, "{name} TYPE{kind}"),
            },
            Self::Url(url) => f.write_str(&url.escape_debug().to_string()),
            Self::Nothing => f.write_str("-"),
        }
    }
}

/// Name and type of a query's question, and where it ends.
fn name(message: &[u8]) -> Option<(String, u16, usize)> {
    let (mut text, mut at) = (String::new(), dns::HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if length > 63 || text.len() > LONGEST {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in message.get(at..at + length)? {
            match byte {
                // RFC 1035 section 5.1.
                b'.' | b'\\' => text.extend(['\\', char::from(*byte)]),
                b'!'..=b'~' => text.push(char::from(byte.to_ascii_lowercase())),
                _ => text.push_str(&format!("\\{byte:03}")),
            }
        }
        at += length;
    }
    let kind = message.get(at..at + 2)?;
    Some((text, u16::from_be_bytes([kind[0], kind[1]]), at + 4))
}

/// The network on whose behalf a query was asked, if it is told in the first record behind the question.
pub fn subnet(decision: &Decision) -> Option<IpNet> {
    let (Asked::Message { bytes, .. }, Spoken::Dns | Spoken::DnsTcp) = (&decision.asked, decision.spoken)
    else {
        return None;
    };
    let (_, _, end) = name(bytes)?;
    // The root's name, type, class, time to live, and the length of the options.
    let (head, mut rest) = bytes.get(end..)?.split_first_chunk::<11>()?;
    if head[0] != 0 || u16::from_be_bytes([head[1], head[2]]) != OPT {
        return None;
    }
    loop {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let (code, length) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        let (value, tail) = tail.split_at_checked(length.into())?;
        if code == SUBNET {
            return network(value);
        }
        rest = tail;
    }
}

fn network(option: &[u8]) -> Option<IpNet> {
    let ([family_high, family, length, _], address) = option.split_first_chunk::<4>()?;
    let mut octets = [0; 16];
    octets.get_mut(..address.len())?.copy_from_slice(address);
    let address = match (family_high, family) {
        (0, 1) => IpAddr::V4(Ipv4Addr::from(*octets.first_chunk::<4>()?)),
        (0, 2) => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return None,
    };
    IpNet::new(address, *length).ok()
}
