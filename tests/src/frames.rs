//! Ethernet frames in memory: what the fast path runs on without a kernel, and UDP frames written and read by another
//! library, so that headers and checksums are judged by code that is not ours.

use etherparse::{
    Ipv4Header, Ipv6Extensions, LinkExtHeader, NetHeaders, PacketBuilder, PacketHeaders, PayloadSlice,
    TransportHeader,
};
use redirector_core::wire::Word;
use redirector_core::wire::frame::Frame;
use std::net::{IpAddr, SocketAddr};

/// The box's MAC address.
pub const BOX_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The MAC address that clients' frames come from.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc];
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// What fresh bytes of a longer frame hold: a driver's pages are not clean.
const DIRT: u8 = 0xa5;

/// A frame as a driver would hand it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VecFrame {
    bytes: Vec<u8>,
    room: usize,
}

impl VecFrame {
    /// A copy of `bytes` with as much room behind them as drivers have.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self::with_room(bytes, 2048)
    }

    /// A frame that can grow to `room` bytes.
    #[must_use]
    pub fn with_room(bytes: &[u8], room: usize) -> Self {
        Self { bytes: bytes.to_vec(), room }
    }

    /// The frame's bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Frame for VecFrame {
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.bytes.get(at..)?.first_chunk()
    }
    fn block_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(at..)?.first_chunk_mut()
    }
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        W::read(self.bytes.get(at..)?)
    }
    fn store<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        value.write(self.bytes.get_mut(at..)?)
    }
    fn resize(&mut self, len: usize) -> Option<()> {
        (len <= self.room).then(|| self.bytes.resize(len, DIRT))
    }
    fn cut_front(&mut self, bytes: usize) -> Option<()> {
        (bytes + ETHERNET <= self.bytes.len()).then(|| drop(self.bytes.drain(..bytes)))
    }
}

/// Who asks whom; both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Address and port of the client.
    pub client: SocketAddr,
    /// Address and port at the box.
    pub vip: SocketAddr,
}

impl Flow {
    /// A frame that carries `payload` from the client to the VIP.
    ///
    /// # Panics
    /// If the families differ or the payload does not fit a datagram.
    #[must_use]
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        self.frame_with_ttl(payload, 57)
    }

    /// The same with a TTL or hop limit.
    ///
    /// # Panics
    /// As [`Self::frame`].
    #[must_use]
    pub fn frame_with_ttl(&self, payload: &[u8], ttl: u8) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, BOX_MAC);
        let ip = match (self.client.ip(), self.vip.ip()) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => ethernet.ipv4(client.octets(), vip.octets(), ttl),
            (IpAddr::V6(client), IpAddr::V6(vip)) => ethernet.ipv6(client.octets(), vip.octets(), ttl),
            other => panic!("two families: {other:?}"),
        };
        let udp = ip.udp(self.client.port(), self.vip.port());
        let mut frame = Vec::with_capacity(udp.size(payload.len()));
        udp.write(&mut frame, payload).expect("a payload that fits");
        frame
    }
}

/// What stands around a datagram beside plain Ethernet and IP headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Form<'f> {
    /// VLAN tags, outer one first: EtherType and tag control information.
    pub tags: &'f [[u16; 2]],
    /// Type of service or traffic class.
    pub class: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: &'f [u8],
    /// IPv6 extension headers: type and bytes, of which the first becomes the next one's type.
    pub extensions: &'f [(u8, &'f [u8])],
}

impl Form<'_> {
    /// A plain frame in this form; options are for frames of their IP version alone.
    #[must_use]
    pub fn of(&self, plain: &[u8]) -> Vec<u8> {
        let (ethernet, ip) = plain.split_at(ETHERNET);
        let ip = if ethernet[12] == 8 { self.ipv4(ip) } else { self.ipv6(ip) };
        let tags = self.tags.iter().flatten().flat_map(|word| word.to_be_bytes());
        ethernet[..12].iter().copied().chain(tags).chain(ethernet[12..].iter().copied()).chain(ip).collect()
    }

    fn ipv4(&self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        packet.splice(20..20, self.options.iter().copied());
        packet[0] += (self.options.len() / 4) as u8;
        packet[1] = self.class;
        lengthen(&mut packet, 2, self.options.len());
        let sum = Ipv4Header::from_slice(&packet).expect("an IPv4 header").0.calc_header_checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn ipv6(&self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        packet[0] = packet[0] & 0xf0 | self.class >> 4;
        packet[1] = packet[1] & 0x0f | self.class << 4;
        let (mut next_at, mut at) = (6, 40);
        for (kind, bytes) in self.extensions {
            packet.splice(at..at, bytes.iter().copied());
            packet[at] = packet[next_at];
            packet[next_at] = *kind;
            lengthen(&mut packet, 4, bytes.len());
            (next_at, at) = (at, at + bytes.len());
        }
        packet
    }
}

/// Adds to a length field.
fn lengthen(packet: &mut [u8], at: usize, by: usize) {
    let length = u16::from_be_bytes([packet[at], packet[at + 1]]) + by as u16;
    packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// A UDP datagram as another library reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Destination and source MAC address.
    pub macs: [[u8; 6]; 2],
    /// VLAN tags, outer one first: EtherType and tag control information.
    pub tags: Vec<[u16; 2]>,
    /// Bytes of IPv4 options or IPv6 extension headers.
    pub options: usize,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub class: u8,
    /// UDP checksum; 0 is none.
    pub checksum: u16,
    /// What is wrong with checksums and lengths, if anything.
    pub fault: Option<String>,
    /// The message.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Reads a frame; `None` if it is not UDP in IPv4 or IPv6, whole and without security headers.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let packet = PacketHeaders::from_ethernet_slice(frame).ok()?;
        let ethernet = packet.link.as_ref()?.clone().ethernet2()?;
        let (TransportHeader::Udp(udp), PayloadSlice::Udp(payload)) = (packet.transport?, packet.payload)
        else {
            return None;
        };
        let is_tag = |ext: &LinkExtHeader| matches!(ext, LinkExtHeader::Vlan(_));
        if !packet.link_exts.iter().all(is_tag) {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let tags = (0..packet.link_exts.len()).map(|tag| [word(12 + 4 * tag), word(14 + 4 * tag)]).collect();
        let ip_at = ETHERNET + 4 * packet.link_exts.len();
        let (source, destination, ttl, class, used, options, sum, header_fault) = match packet.net? {
            NetHeaders::Ipv4(ip, extensions) if extensions.is_empty() => (
                IpAddr::from(ip.source),
                IpAddr::from(ip.destination),
                ip.time_to_live,
                ip.dscp.value() << 2 | ip.ecn.value(),
                ip.total_len as usize,
                ip.options.len(),
                udp.calc_checksum_ipv4_raw(ip.source, ip.destination, payload).ok()?,
                (ip.header_checksum != ip.calc_header_checksum()).then(|| "IPv4 header checksum".to_owned()),
            ),
            NetHeaders::Ipv6(ip, extensions) if is_open(&extensions) => (
                IpAddr::from(ip.source),
                IpAddr::from(ip.destination),
                ip.hop_limit,
                ip.traffic_class,
                40 + ip.payload_length as usize,
                extensions.header_len(),
                udp.calc_checksum_ipv6_raw(ip.source, ip.destination, payload).ok()?,
                (udp.checksum == 0).then(|| "IPv6 without UDP checksum".to_owned()),
            ),
            _ => return None,
        };
        let sum_fault = (udp.checksum != 0 && udp.checksum != sum)
            .then(|| format!("UDP checksum {:04x} instead of {sum:04x}", udp.checksum));
        let length_fault = (ip_at + used != frame.len())
            .then(|| format!("a frame of {} bytes for an IP packet of {used}", frame.len()));
        Some(Self {
            macs: [ethernet.destination, ethernet.source],
            tags,
            options,
            source: SocketAddr::new(source, udp.source_port),
            destination: SocketAddr::new(destination, udp.destination_port),
            ttl,
            class,
            checksum: udp.checksum,
            fault: header_fault.or(sum_fault).or(length_fault),
            payload: payload.to_vec(),
        })
    }

    /// Who asked whom, if this is a question.
    #[must_use]
    pub fn flow(&self) -> Flow {
        Flow { client: self.source, vip: self.destination }
    }
}

/// Neither a fragment nor authenticated nor routed.
fn is_open(extensions: &Ipv6Extensions) -> bool {
    extensions.fragment.is_none() && extensions.auth.is_none() && extensions.routing.is_none()
}
