//! Views over bytes: what arrives is parsed and answered in place, through one trait for packets in the kernel and
//! buffers in userspace, so that there is no second parser.

pub mod cdsr;
pub mod dns;
pub mod frame;
pub mod text;

use crate::decide::Query;
use crate::lookup::Labels;
use crate::table::{NONE, VipEntry};
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
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_ne_bytes(*bytes.first_chunk()?))
            }
            fn write(self, bytes: &mut [u8]) -> Option<()> {
                *bytes.first_chunk_mut()? = self.to_ne_bytes();
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
    /// Changes a kept word from `old` to `new`.
    fn replace<W: Word>(&mut self, at: usize, old: W, new: W) -> Option<()>;
    /// Writes a word behind the kept part.
    fn append<W: Word>(&mut self, at: usize, value: W) -> Option<()>;
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
    /// A DNS query's way.
    pub dns: dns::Work,
    /// A CDSR request's way.
    pub cdsr: cdsr::Work,
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
