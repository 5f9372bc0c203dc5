//! EDNS client subnet (RFC 7871): on whose behalf a resolver asks, and for whom else the answer holds.

use super::Refusal;
use super::edns::{OPTION_SUBNET, split};
use crate::decide::Client;
use crate::table::{CHOOSE_CLIENT, CHOOSE_CLIENT_PREFIX};
use crate::wire::{Message, append_some, text};

/// Address families (RFC 7871 section 6), and 0: senders that hide their clients leave it out.
const FAMILY_NONE: u32 = 0;
const FAMILY_IPV4: u32 = 1;
const FAMILY_IPV6: u32 = 2;

/// A client's network.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Subnet {
    /// First byte highest; 0 behind the prefix.
    address: [u64; 2],
    family: u32,
    /// Length of the prefix.
    source: u32,
    /// Length of the widest prefix for which the answer is the same.
    pub(super) scope: u32,
    filler: u32,
}

impl Subnet {
    /// Reads the option (RFC 7871 sections 6 and 7.2.1).
    #[inline(always)]
    pub(super) fn read<M: Message>(&mut self, message: &M, place: u32) -> Result<(), Refusal> {
        let (at, size) = split(place);
        let head = message.load::<u32>(at).map(u32::from_be).ok_or(Refusal::OPTION)?;
        let (family, source) = (head >> 16, head >> 8 & 0xff);
        let longest = match family {
            FAMILY_NONE => 0,
            FAMILY_IPV4 => 32,
            FAMILY_IPV6 => 128,
            _ => return Err(Refusal::OPTION),
        };
        *self = Self { address: [0; 2], family, source, scope: 0, filler: 0 };
        let bytes = self.bytes();
        // The last eight bits are the scope, which no query has.
        if source > longest || size != 4 + bytes || head & 0xff != 0 {
            return Err(Refusal::OPTION);
        }
        if bytes == 0 {
            return Ok(());
        }
        let (first, _) = text::word_at(message, at + 4, bytes).ok_or(Refusal::OPTION)?;
        self.address[0] = first.swap_bytes();
        if bytes > 8 {
            let (second, _) = text::word_at(message, at + 12, bytes - 8).ok_or(Refusal::OPTION)?;
            self.address[1] = second.swap_bytes();
        }
        // There is nothing behind the prefix but what fills its last byte.
        let last = message.load::<u8>(at + 3 + bytes).ok_or(Refusal::OPTION)? as u32;
        let spare = source.wrapping_neg() & 7;
        if last & ((1 << spare) - 1) != 0 { Err(Refusal::OPTION) } else { Ok(()) }
    }

    /// Bytes of the address.
    #[inline(always)]
    fn bytes(&self) -> usize {
        ((self.source + 7) >> 3) as usize & 31
    }

    /// Bytes of the option.
    #[inline(always)]
    pub(super) fn length(&self) -> u32 {
        8 + self.bytes() as u32
    }

    /// Whether it tells anything; if not, the answer is for the sender.
    #[inline(always)]
    pub(super) fn is_given(&self) -> bool {
        self.source != 0
    }

    /// The network's first address, which is asked for.
    #[inline(always)]
    pub(super) fn client(&self) -> Client {
        let [high, low] = self.address;
        if self.family == FAMILY_IPV6 {
            Client { high, low, v6: 1 }
        } else {
            Client { high: 0, low: high >> 32, v6: 0 }
        }
    }

    /// Notes for whom else the answer holds: the widest prefix in which all addresses share region (`region` is the
    /// length of the widest one with one region) and choice key. A service that chooses by the client's whole address
    /// has seen no more of it than the prefix. Of several choices the narrowest counts.
    #[inline(always)]
    pub(super) fn note_scope(&mut self, region: u32, choose_by: u8) {
        let key = match choose_by {
            CHOOSE_CLIENT_PREFIX if self.family == FAMILY_IPV6 => 48,
            CHOOSE_CLIENT_PREFIX => 24,
            CHOOSE_CLIENT => self.source,
            _ => 0,
        };
        let scope = if region > key { region } else { key };
        self.scope = if scope > self.scope { scope } else { self.scope };
    }

    /// Writes the option and gives the place behind it: the query's with the scope (RFC 7871 section 7.2.1).
    #[inline(always)]
    pub(super) fn write<M: Message>(&self, message: &mut M, at: usize) -> Option<usize> {
        let bytes = self.bytes();
        let size = 4 + bytes as u64;
        let ends = (self.source as u64) << 8 | self.scope as u64 & 0xff;
        let head = OPTION_SUBNET << 48 | size << 32 | (self.family as u64) << 16 | ends;
        message.append(at, head.to_be())?;
        if bytes > 8 {
            message.append(at + 8, self.address[0].to_be())?;
            append_some(message, at + 16, bytes - 8, self.address[1])?;
        } else {
            append_some(message, at + 8, bytes, self.address[0])?;
        }
        Some(at + 8 + bytes)
    }
}
