//! What the fast path tells the daemon of one decision in so many: a record of a ring buffer.
//!
//! It begins with [`Told`], and behind it lie the frame's first bytes as it came in: what a decision was made of can be
//! read again later by the same code.

use crate::table::NONE;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Words of a frame that are kept: all of any query, and of any request but for its padding.
pub const FRAME_WORDS: usize = 64;
/// Bytes of a frame that are kept. A power of two less one word, so that a mask bounds the place of the last word.
pub const FRAME_KEPT: usize = FRAME_WORDS * 8 - 8;
/// Targets that are told: the fast path answers with no more.
pub const TARGETS_TOLD: usize = 4;

/// A decision, as numbers of the tables and slots of the counters, which outlive a generation.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When, in nanoseconds of the monotonic clock.
    pub time: u64,
    /// Generation that decided.
    pub generation: u64,
    /// This stands for so many decisions, on average.
    pub one_in: u32,
    /// Load epoch of the share group that was used.
    pub epoch: u32,
    /// [`crate::verdict::Reason`].
    pub reason: u32,
    /// Bytes of the frame as it came in.
    pub length: u32,
    /// Bytes of it that follow.
    pub kept: u32,
    /// Where its IP header begins.
    pub ip: u32,
    /// Bytes of IPv4 options or IPv6 extension headers.
    pub options: u32,
    /// 1 for IPv6.
    pub v6: u32,
    /// Counter slot of the VIP.
    pub vip: u32,
    /// Counter slot of the service, or [`NONE`].
    pub service: u32,
    /// Counter slot of the client's region, or [`NONE`].
    pub region: u32,
    /// Counter slot of the target that tells on whose account the client is served, or [`NONE`].
    pub account: u32,
    /// Number of the service within the generation, or [`NONE`].
    pub service_number: u32,
    /// Entries of `targets` in use.
    pub count: u32,
    /// Counter slots of the targets chosen, best first.
    pub targets: [u32; TARGETS_TOLD],
}

/// Words of a [`Told`].
const TOLD_WORDS: usize = size_of::<Told>() / 4;
const _: () = assert!(size_of::<Told>() == 88);

impl Default for Told {
    fn default() -> Self {
        Self {
            time: 0,
            generation: 0,
            one_in: 1,
            epoch: 0,
            reason: 0,
            length: 0,
            kept: 0,
            ip: 0,
            options: 0,
            v6: 0,
            vip: NONE,
            service: NONE,
            region: NONE,
            account: NONE,
            service_number: NONE,
            count: 0,
            targets: [NONE; TARGETS_TOLD],
        }
    }
}

/// A record with room for the longest frame that is kept.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What was decided.
    pub told: Told,
    /// The frame's first bytes, as they lie in memory.
    pub frame: [u64; FRAME_WORDS],
}

impl Default for Sample {
    fn default() -> Self {
        Self { told: Told::default(), frame: [0; FRAME_WORDS] }
    }
}

/// A record as it was read from the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'r> {
    /// What was decided.
    pub told: Told,
    /// The frame's first bytes.
    pub frame: &'r [u8],
    /// Who asked.
    pub client: SocketAddr,
    /// Which VIP address.
    pub vip: SocketAddr,
    /// What: the first bytes of the UDP payload.
    pub message: &'r [u8],
    /// Bytes of the whole UDP payload.
    pub message_length: usize,
}

/// Reads a record; `None` if it is none.
pub fn read(bytes: &[u8]) -> Option<Read<'_>> {
    let (head, frame) = bytes.split_at_checked(size_of::<Told>())?;
    let told = told(head)?;
    let frame = frame.get(..told.kept as usize)?;
    let (ip, options) = (told.ip as usize, told.options as usize);
    let (client, vip, header) = if told.v6 != 0 {
        let address = |at: usize| {
            let octets: [u8; 16] = *frame.get(ip.checked_add(at)?..)?.first_chunk()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        };
        (address(8)?, address(24)?, 40)
    } else {
        let address = |at: usize| {
            let octets: [u8; 4] = *frame.get(ip.checked_add(at)?..)?.first_chunk()?;
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        };
        (address(12)?, address(16)?, 20)
    };
    let udp = ip.checked_add(header)?.checked_add(options)?;
    let word = |at: usize| {
        let bytes: [u8; 2] = *frame.get(udp.checked_add(at)?..)?.first_chunk()?;
        Some(u16::from_be_bytes(bytes))
    };
    let (from, to, length) = (word(0)?, word(2)?, word(4)? as usize);
    let message_length = length.checked_sub(8)?;
    let message = frame.get(udp.checked_add(8)?..)?;
    let message = message.get(..message_length).unwrap_or(message);
    let (client, vip) = (SocketAddr::new(client, from), SocketAddr::new(vip, to));
    Some(Read { told, frame, client, vip, message, message_length })
}

/// The words of a record's first part, in the order of its fields.
fn told(bytes: &[u8]) -> Option<Told> {
    let mut words = [0; TOLD_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    let long = |at: usize| {
        let bytes: [u8; 8] = *bytes.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(bytes))
    };
    let [_, _, _, _, one_in, epoch, reason, length, kept, ip, options, v6, vip, service, region, account, ..] =
        words;
    let [.., service_number, count, first, second, third, fourth] = words;
    Some(Told {
        time: long(0)?,
        generation: long(8)?,
        one_in,
        epoch,
        reason,
        length,
        kept,
        ip,
        options,
        v6,
        vip,
        service,
        region,
        account,
        service_number,
        count,
        targets: [first, second, third, fourth],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the kernel hands it over.
    fn record(told: Told, frame: &[u8]) -> std::vec::Vec<u8> {
        // SAFETY: `Told` is `repr(C)`, of integers without padding, as its size shows.
        let head: [u8; size_of::<Told>()] = unsafe { core::mem::transmute(told) };
        [&head[..], frame].concat()
    }

    #[test]
    fn what_is_told_is_read_field_by_field() {
        let mut frame = [0u8; 14 + 20 + 4 + 8 + 5];
        frame[14 + 12..14 + 20].copy_from_slice(&[192, 0, 2, 1, 198, 51, 100, 2]);
        frame[38..46].copy_from_slice(&[0x9c, 0x40, 0, 53, 0, 13, 0, 0]);
        frame[46..].copy_from_slice(b"hello");
        let told = Told {
            time: 1,
            generation: 2,
            one_in: 3,
            epoch: 4,
            reason: 5,
            length: frame.len() as u32,
            kept: frame.len() as u32,
            ip: 14,
            options: 4,
            v6: 0,
            vip: 9,
            service: 10,
            region: 11,
            account: 12,
            service_number: 13,
            count: 2,
            targets: [15, 16, 17, 18],
        };
        let bytes = record(told, &frame);
        let read = read(&bytes).expect("a record");
        assert_eq!(read.told, told);
        assert_eq!(read.client, "192.0.2.1:40000".parse().expect("address"));
        assert_eq!(read.vip, "198.51.100.2:53".parse().expect("address"));
        assert_eq!((read.message, read.message_length), (&b"hello"[..], 5));
    }

    #[test]
    fn what_is_cut_off_is_none_wherever_it_ends() {
        let told = Told { kept: 60, ip: 14, v6: 1, ..Told::default() };
        let bytes = record(told, &[0xff; 60]);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), None, "{end}");
        }
        let far = record(Told { kept: 4, ip: u32::MAX, options: u32::MAX, ..Told::default() }, &[0; 4]);
        assert_eq!(read(&far), None);
    }
}
