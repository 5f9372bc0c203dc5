//! The floods: what they send, from whose addresses, and what clients must keep meanwhile.

use crate::messages::{Message, Names};
use redirector_tests::generate::Random;
use std::net::{Ipv4Addr, SocketAddr};

/// Frames of a flood, which are sent over and over.
pub(crate) const FRAMES: usize = 4096;
/// Ports of floods: below those of any socket.
const PORTS: std::ops::Range<u16> = 1024..32_768;
/// Where the UDP checksum lies in a frame.
const UDP_CHECKSUM: std::ops::Range<usize> = 40..42;

/// Whose addresses a flood has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sources {
    /// Any that a client may have, drawn for each packet.
    Everywhere,
    /// Those that no client has (multicast), drawn for each packet.
    Nowhere,
    /// Of so many /24, none of which is a client's.
    Prefixes(usize),
    /// Of the clients' /24.
    Victims,
}

impl Sources {
    /// What the sending program is told.
    pub(crate) fn forged(self) -> u32 {
        match self {
            Self::Everywhere => 1,
            Self::Nowhere => 2,
            Self::Prefixes(_) | Self::Victims => 0,
        }
    }
}

/// One flood.
#[derive(Debug)]
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    message: Message,
    pub(crate) sources: Sources,
    /// For which kinds of queries something is promised.
    pub(crate) promised: [bool; 5],
}

/// To clients in other prefixes.
const OTHERS: [bool; 5] = [true; 5];
/// To clients in a prefix that is flooded: cookies, and other classes of limits.
const VICTIMS: [bool; 5] = [false, true, true, true, true];
/// During floods of punts: CDSR has no other way to the daemon.
const PUNTED: [bool; 5] = [true, true, true, true, false];

const fn flood(name: &'static str, message: Message, sources: Sources, promised: [bool; 5]) -> Flood {
    Flood { name, message, sources, promised }
}

/// In the order of the report.
pub(crate) const FLOODS: &[Flood] = &[
    flood("DNS A, from everywhere", Message::A, Sources::Everywhere, OTHERS),
    flood("DNS A, 1000 prefixes", Message::A, Sources::Prefixes(1000), OTHERS),
    flood("DNS A, 100 prefixes", Message::A, Sources::Prefixes(100), OTHERS),
    flood("DNS A, the clients' prefixes", Message::A, Sources::Victims, VICTIMS),
    flood("NXDOMAIN, from everywhere", Message::Absent, Sources::Everywhere, OTHERS),
    flood("NXDOMAIN, 1000 prefixes", Message::Absent, Sources::Prefixes(1000), OTHERS),
    flood("DNS punts, from everywhere", Message::Punted, Sources::Everywhere, PUNTED),
    flood("DNS punts, 1000 prefixes", Message::Punted, Sources::Prefixes(1000), PUNTED),
    flood("CDSR punts, from everywhere", Message::PuntedCdsr, Sources::Everywhere, PUNTED),
    flood("DNS A, from multicast addresses", Message::A, Sources::Nowhere, PUNTED),
    flood("CDSR, from everywhere", Message::Cdsr, Sources::Everywhere, OTHERS),
    flood("CDSR, 100 prefixes", Message::Cdsr, Sources::Prefixes(100), OTHERS),
];

impl Flood {
    /// Its frames; `victims` are the clients' /24.
    pub(crate) fn frames(&self, names: &Names, victims: &[u32]) -> Vec<Vec<u8>> {
        let mut random = Random::new(77);
        let prefixes = match self.sources {
            Sources::Prefixes(count) => prefixes(&mut random, count, victims),
            Sources::Everywhere | Sources::Nowhere | Sources::Victims => victims.to_vec(),
        };
        let frame = |index: usize| {
            let client = address(prefixes[index % prefixes.len()], &mut random);
            let port = PORTS.start + random.below(PORTS.len()) as u16;
            let payload = names.message(self.message, index as u16, client, &mut random);
            let mut frame = names.flow(SocketAddr::new(client.into(), port), self.message).frame(&payload);
            if self.sources.forged() != 0 {
                frame[UDP_CHECKSUM].fill(0);
            }
            frame
        };
        (0..FRAMES).map(frame).collect()
    }
}

/// Different /24 that clients may have, none of them among `others`: the upper 24 bits.
pub(crate) fn prefixes(random: &mut Random, count: usize, others: &[u32]) -> Vec<u32> {
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        // 1.0.0.0 to 99.255.255.255: neither loopback nor a VIP's or target's neighbourhood.
        let prefix = (1 << 16) + random.below(99 << 16) as u32;
        if !found.contains(&prefix) && !others.contains(&prefix) {
            found.push(prefix);
        }
    }
    found
}

/// An address of a /24.
pub(crate) fn address(prefix: u32, random: &mut Random) -> Ipv4Addr {
    Ipv4Addr::from_bits((prefix << 8) | (1 + random.below(254) as u32))
}
