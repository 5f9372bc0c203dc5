//! Views over bytes: what arrives is parsed and answered in place, through one trait for packets in the kernel and
//! buffers in userspace, so that there is no second parser.

pub mod cdsr;
pub mod dns;
pub mod frame;
pub mod text;

use crate::decide::Query;
use crate::limit;
use crate::lookup::Labels;
use crate::table::{NONE, SERVICE_PROVIDED, Service, VipEntry};
use crate::verdict::{Reason, Verdict};

/// An integer that is read from or written to a message as its bytes lie in memory.
pub trait Word: Copy {
    /// Sum of its 32-bit parts for the Internet checksum (RFC 1071), as if it began at an even place.
    fn sum(self) -> u64;
    /// All bits turned over: taking a word out of a ones' complement sum is adding this.
    fn complement(self) -> Self;
    /// From the first bytes of a slice; `None` if it is too short.
    fn read(bytes: &[u8]) -> Option<Self>;
    /// To the first bytes of a slice; `None` if it is too short.
    fn write(self, bytes: &mut [u8]) -> Option<()>;
}

macro_rules! word {
    ($ty:ty, $value:ident => $sum:expr) => {
        impl Word for $ty {
            #[inline(always)]
            fn sum(self) -> u64 {
                let $value = self;
                $sum
            }
            #[inline(always)]
            fn complement(self) -> Self {
                !self
            }
            #[inline(always)]
            fn read(bytes: &[u8]) -> Option<Self> {
                let bytes: &[u8; size_of::<Self>()] = bytes.first_chunk()?;
                // SAFETY: the bytes are there. The target's loads need no alignment, and from one that is told of none
                // LLVM makes a load for each byte.
                #[cfg(target_arch = "bpf")]
                return Some(unsafe { *bytes.as_ptr().cast() });
                #[cfg(not(target_arch = "bpf"))]
                Some(Self::from_ne_bytes(*bytes))
            }
            #[inline(always)]
            fn write(self, bytes: &mut [u8]) -> Option<()> {
                let bytes: &mut [u8; size_of::<Self>()] = bytes.first_chunk_mut()?;
                // SAFETY: as for `read`.
                #[cfg(target_arch = "bpf")]
                unsafe {
                    *bytes.as_mut_ptr().cast() = self;
                }
                #[cfg(not(target_arch = "bpf"))]
                {
                    *bytes = self.to_ne_bytes();
                }
                Some(())
            }
        }
    };
}
word!(u8, value => u16::from_ne_bytes([value, 0]) as u64);
word!(u16, value => value as u64);
word!(u32, value => value as u64);
word!(u64, value => (value & 0xffff_ffff) + (value >> 32));

/// A UDP payload (or a DNS message from TCP) that becomes its own reply.
pub trait Message {
    /// Bytes.
    fn len(&self) -> usize;
    /// Whether it holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Word at a place (for a byte: not the first place); `None` beyond the end.
    fn load<W: Word>(&self, at: usize) -> Option<W>;
    /// Makes the message `len` bytes long. The first `keep` bytes stay; the caller writes all others with `append`.
    /// On an error nothing has changed.
    fn begin_reply(&mut self, keep: usize, len: usize) -> Result<(), Reason>;
    /// The `N` bytes from a place on; `None` if the message has fewer.
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]>;
    /// Changes the first three words of what is kept.
    fn replace_head(&mut self, old: [u32; 3], new: [u32; 3]) -> Option<()>;
    /// Writes words behind the kept part; `BYTES` is how long they are together.
    fn append_words<const BYTES: usize, const WORDS: usize>(
        &mut self,
        at: usize,
        words: [u64; WORDS],
    ) -> Option<()>;
    /// Changes a kept word from `old` to `new`.
    fn replace<W: Word>(&mut self, at: usize, old: W, new: W) -> Option<()>;
    /// Writes a word behind the kept part.
    fn append<W: Word>(&mut self, at: usize, value: W) -> Option<()>;
}

/// Word at a fixed place of a block.
#[inline(always)]
pub(crate) fn word_of<W: Word, const N: usize>(block: &[u8; N], place: usize) -> Option<W> {
    W::read(block.get(place..)?)
}

/// Changes the word at a fixed place of a block.
#[inline(always)]
pub(crate) fn set_word<W: Word, const N: usize>(block: &mut [u8; N], place: usize, value: W) -> Option<()> {
    value.write(block.get_mut(place..)?)
}

/// Writes the first `count` bytes, at most eight, of `word` (first byte highest) at `at`, by one store of the eight bytes
/// that end there: those before them are written already.
#[inline(always)]
fn append_some<M: Message>(message: &mut M, at: usize, count: usize, word: u64) -> Option<()> {
    let place = at.wrapping_add(count).wrapping_sub(8);
    let before = u64::from_be(message.load(place)?);
    // Each shift twice by half: a number cannot be shifted by all of its bits.
    let (half, other) = ((4 * count) & 63, 32usize.wrapping_sub(4 * count) & 63);
    let kept = before >> half >> half << half << half;
    message.replace(place, kept.to_be(), (kept | word >> other >> other).to_be())
}

/// A message in a buffer whose end is the longest reply.
#[derive(Debug)]
pub struct Buffer<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl<'b> Buffer<'b> {
    /// The message is the first `len` bytes; replies may use all of `bytes`.
    pub fn new(bytes: &'b mut [u8], len: usize) -> Self {
        let len = len.min(bytes.len());
        Self { bytes, len }
    }
}

impl Message for Buffer<'_> {
    fn len(&self) -> usize {
        self.len
    }
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        W::read(self.bytes.get(at..self.len)?)
    }
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.bytes.get(at..self.len)?.first_chunk()
    }
    fn replace_head(&mut self, _old: [u32; 3], new: [u32; 3]) -> Option<()> {
        new.into_iter().enumerate().try_for_each(|(index, word)| self.append(index * 4, word))
    }
    fn append_words<const BYTES: usize, const WORDS: usize>(
        &mut self,
        at: usize,
        words: [u64; WORDS],
    ) -> Option<()> {
        words.into_iter().enumerate().try_for_each(|(index, word)| self.append(at + index * 8, word))
    }
    fn begin_reply(&mut self, _keep: usize, len: usize) -> Result<(), Reason> {
        if len > self.bytes.len() {
            return Err(Reason::PuntResize);
        }
        self.len = len;
        Ok(())
    }
    fn replace<W: Word>(&mut self, at: usize, _old: W, new: W) -> Option<()> {
        self.append(at, new)
    }
    fn append<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        value.write(self.bytes.get_mut(at..self.len)?)
    }
}

/// What a protocol made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is now the reply.
    Reply,
    /// It is unchanged and goes to the slow path.
    Punt,
    /// It must not be answered.
    Ignore,
    /// It is over a limit: neither answered nor handed on.
    Drop,
}

/// Room for one message's work. In the kernel it lies in a per-CPU map, because the stack has 512 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Scratch {
    /// Hashes of the name at hand.
    pub labels: Labels,
    /// The choice asked for.
    pub query: Query,
    /// The choice made.
    pub verdict: Verdict,
    /// What was decided on the way.
    pub trace: Trace,
    /// The client's rate limits.
    pub limit: limit::Work,
    /// What the proof came to that the message carries; whoever reads a message of another sets it anew.
    pub proof: Proof,
    /// A DNS query's way.
    pub dns: dns::Work,
    /// A CDSR request's way.
    pub cdsr: cdsr::Work,
}

/// What examining a proof came to. It is examined outside (ADR 15): a message for which there must be one is punted with
/// [`Reason::PuntProof`], on both paths, and goes through again with this.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// [`UNEXAMINED`] and others.
    pub outcome: u32,
    /// With [`ADMITTED`]: the service that the client gets.
    pub service: u32,
    /// With [`ADMITTED`]: hash of what is asked for, without tag or token and unsealed.
    pub content: u64,
}

/// Nobody has looked at the proof.
pub const UNEXAMINED: u32 = 0;
/// The client gets the service that the proof names.
pub const ADMITTED: u32 = 1;
/// It gets a refusal.
pub const REFUSED: u32 = 2;
/// It gets the answer of something that has no records.
pub const EMPTY: u32 = 3;
/// The name is a part of one that may be good: something is beneath it.
pub const PARTIAL: u32 = 4;

impl Proof {
    /// Leads to a service, for something with this hash.
    pub fn admitted(service: u32, content: u64) -> Self {
        Self { outcome: ADMITTED, service, content }
    }

    /// [`REFUSED`], [`EMPTY`] or [`PARTIAL`].
    pub fn denied(outcome: u32) -> Self {
        Self { outcome, ..Self::default() }
    }
}

/// Where a message came from and to.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'t> {
    /// The VIP address it arrived at.
    pub vip: &'t VipEntry,
    /// Who asks.
    pub client: crate::decide::Client,
    /// Client's port.
    pub port: u16,
    /// Longest reply that the way to the client carries: [`dns::UDP_LIMIT`], or [`dns::MAX_REPLY`] over TCP.
    pub room: usize,
}

/// What was decided on the way, for counters and logs.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Why.
    pub reason: Reason,
    /// The VIP's counter slot, or [`NONE`].
    pub vip: u32,
    /// Service number or [`NONE`].
    pub service: u32,
    /// Region number; meaningful if `decided`.
    pub region: u32,
    /// A choice of targets was made.
    pub decided: bool,
    /// Share group or [`NONE`].
    pub group: u32,
    /// First target or [`NONE`].
    pub target: u32,
    /// The target that tells on whose account a provider's content is served, or [`NONE`].
    pub account: u32,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            reason: Reason::PuntTable,
            vip: NONE,
            service: NONE,
            region: 0,
            decided: false,
            group: NONE,
            target: NONE,
            account: NONE,
        }
    }
}

impl Trace {
    /// Notes a reason and the action that goes with it.
    #[inline(always)]
    pub(crate) fn with(&mut self, reason: Reason, action: Action) -> Action {
        self.reason = reason;
        action
    }

    /// Notes that what was decided is not answered, for being over a limit: nobody was sent anywhere.
    #[inline(always)]
    pub(crate) fn over_limit(&mut self, reason: Reason) {
        (self.reason, self.service, self.decided) = (reason, NONE, false);
    }

    /// Notes a verdict that leads away from our servers.
    #[inline(always)]
    pub(crate) fn outcome(&mut self, number: u32, service: &Service, verdict: &mut Verdict) {
        if service.flags & SERVICE_PROVIDED != 0 {
            verdict.reason = Reason::Foreign;
        }
        self.verdict(number, verdict);
    }

    /// Notes a verdict.
    #[inline(always)]
    pub(crate) fn verdict(&mut self, service: u32, verdict: &Verdict) {
        self.reason = verdict.reason;
        self.service = service;
        self.region = verdict.region;
        self.decided = true;
        self.group = verdict.group;
        self.target = verdict.targets[0];
    }
}
