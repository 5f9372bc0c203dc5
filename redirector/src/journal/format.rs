//! The decision log's bytes (docs/operations.md): entries one behind the other, each with its length before it and its
//! checksum behind it. Names stand in a file once, before the first entry that needs them, so each file can be read alone.

use super::decision::{Asked, Chosen, Decision, PathTaken, Spoken};
use redirector_core::table::NONE;
use redirector_core::verdict::{MAX_ENDPOINTS, Reason};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// First bytes of a file; the last one is the form's number.
pub(super) const MAGIC: [u8; 8] = *b"RDECIDE\x01";
/// Longest entry without length and checksum: longer ones are damage.
pub(super) const MAX_ENTRY: usize = 16 << 10;
/// Bytes of a message or URL that are kept.
const MAX_ASKED: usize = 4096;

/// What a counter slot counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A service.
    Service = 0,
    /// A region.
    Region = 1,
    /// A target, or what stands for an agreement.
    Target = 2,
    /// A VIP.
    Vip = 3,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Service, Self::Region, Self::Target, Self::Vip];
}

/// Why decisions are missing from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Cause {
    /// The fast path's ring was full.
    Ring = 0,
    /// The log's queue was full.
    Queue = 1,
    /// They could not be written.
    Disk = 2,
}

impl Cause {
    /// Every cause, by its number.
    pub const ALL: [Self; 3] = [Self::Ring, Self::Queue, Self::Disk];
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "the fast path's ring was full",
            Self::Queue => "the log's queue was full",
            Self::Disk => "they could not be written",
        })
    }
}

/// An entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The first one.
    Begin {
        /// When, in microseconds since 1970.
        time: u64,
        /// Name of the box.
        box_name: Box<str>,
    },
    /// What a slot is called in this file.
    Name {
        /// What it is.
        kind: Kind,
        /// Its slot.
        slot: u32,
        /// Its name.
        name: Box<str>,
    },
    /// A decision.
    Decision(Decision),
    /// Decisions that are not in the log.
    Lost {
        /// When this was noticed.
        time: u64,
        /// Why.
        cause: Cause,
        /// How many, each counted once whatever it stands for.
        count: u64,
    },
    /// How a target is from now on. At a file's begin, each target is up and takes its whole share.
    Health {
        /// When.
        time: u64,
        /// Its slot.
        target: u32,
        /// It can be chosen.
        up: bool,
        /// Load factor in 1/256.
        factor: u16,
    },
}

/// Writes entries; one for each file.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Time of the entry before.
    time: u64,
    payload: Vec<u8>,
}

impl Encoder {
    /// Appends an entry.
    pub(super) fn put(&mut self, entry: &Entry, to: &mut Vec<u8>) {
        self.payload.clear();
        match entry {
            Entry::Begin { time, box_name } => {
                self.payload.push(0);
                self.time(*time);
                bytes(&mut self.payload, box_name.as_bytes());
            }
            Entry::Name { kind, slot, name } => {
                self.payload.extend([1, *kind as u8]);
                number(&mut self.payload, (*slot).into());
                bytes(&mut self.payload, name.as_bytes());
            }
            Entry::Decision(decision) => {
                self.payload.push(2);
                self.decision(decision);
            }
            Entry::Lost { time, cause, count } => {
                self.payload.push(3);
                self.time(*time);
                self.payload.push(*cause as u8);
                number(&mut self.payload, *count);
            }
            Entry::Health { time, target, up, factor } => {
                self.payload.push(4);
                self.time(*time);
                number(&mut self.payload, (*target).into());
                self.payload.push(u8::from(*up));
                number(&mut self.payload, (*factor).into());
            }
        }
        number(to, self.payload.len() as u64);
        to.extend(&self.payload);
        to.extend(crc32fast::hash(&self.payload).to_le_bytes());
    }

    /// As the distance from the time before, which is short, with the sign in the lowest bit.
    fn time(&mut self, time: u64) {
        let distance = time.wrapping_sub(self.time) as i64;
        number(&mut self.payload, (distance << 1 ^ distance >> 63) as u64);
        self.time = time;
    }

    fn decision(&mut self, decision: &Decision) {
        let Decision { time, generation, epoch, one_in, path, spoken, reason, client, vip, asked, chosen } =
            decision;
        self.time(*time);
        let to = &mut self.payload;
        number(to, *generation);
        number(to, (*epoch).into());
        number(to, (*one_in).into());
        to.extend([*path as u8, *spoken as u8]);
        number(to, (*reason as u16).into());
        address(to, client.ip());
        number(to, client.port().into());
        address(to, *vip);
        match asked {
            Asked::Message { bytes: message, length } => {
                to.push(0);
                number(to, (*length).into());
                bytes(to, &message[..message.len().min(MAX_ASKED)]);
            }
            Asked::Url(url) => {
                to.push(1);
                bytes(to, &url.as_bytes()[..url.len().min(MAX_ASKED)]);
            }
            Asked::Nothing => to.push(2),
        }
        for slot in [chosen.vip, chosen.service, chosen.region, chosen.account] {
            number(to, u64::from(slot.wrapping_add(1)));
        }
        to.push(chosen.count);
        chosen.targets().iter().for_each(|slot| number(to, u64::from(slot.wrapping_add(1))));
    }
}

/// A file of these entries.
pub fn written(entries: &[Entry]) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::default(), MAGIC.to_vec());
    entries.iter().for_each(|entry| encoder.put(entry, &mut bytes));
    bytes
}

/// Seven bits a byte, lowest first.
fn number(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    number(to, bytes.len() as u64);
    to.extend(bytes);
}

fn address(to: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            to.push(4);
            to.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            to.push(6);
            to.extend(v6.octets());
        }
    }
}

/// Why there is no entry at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// The bytes end before it does.
    CutOff,
    /// It is none.
    Damaged(&'static str),
}

/// Reads entries; one for each file.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    time: u64,
}

impl Decoder {
    /// The entry that `from` begins with, and how many bytes it takes. After an error the decoder is as it was.
    ///
    /// # Errors
    /// If it is cut off or damaged.
    pub(super) fn next(&mut self, from: &[u8]) -> Result<(Entry, usize), Bad> {
        let (payload, taken) = frame(from)?;
        let before = self.time;
        let mut fields = Fields { rest: payload, time: &mut self.time };
        match fields.entry().filter(|_| fields.rest.is_empty()) {
            Some(entry) => Ok((entry, taken)),
            None => {
                self.time = before;
                Err(Bad::Damaged("an entry of another form"))
            }
        }
    }
}

/// What the entry that `from` begins with holds, and how many bytes it takes.
fn frame(from: &[u8]) -> Result<(&[u8], usize), Bad> {
    let mut rest = from;
    let length = match varint(&mut rest) {
        Some(length) => length,
        None if from.len() < 10 => return Err(Bad::CutOff),
        None => return Err(Bad::Damaged("a length that is none")),
    };
    let length = usize::try_from(length).ok().filter(|length| (1..=MAX_ENTRY).contains(length));
    let length = length.ok_or(Bad::Damaged("a length that no entry has"))?;
    let (payload, rest) = rest.split_at_checked(length).ok_or(Bad::CutOff)?;
    let (sum, rest) = rest.split_first_chunk().ok_or(Bad::CutOff)?;
    if u32::from_le_bytes(*sum) != crc32fast::hash(payload) {
        return Err(Bad::Damaged("a checksum that does not fit"));
    }
    Ok((payload, from.len() - rest.len()))
}

/// Whether the entry that `from` begins with is a decision, and how many bytes it takes.
///
/// # Errors
/// As [`Decoder::next`].
pub(super) fn peek(from: &[u8]) -> Result<(bool, usize), Bad> {
    frame(from).map(|(payload, taken)| (payload[0] == 2, taken))
}

struct Fields<'p> {
    rest: &'p [u8],
    time: &'p mut u64,
}

impl Fields<'_> {
    fn entry(&mut self) -> Option<Entry> {
        match self.byte()? {
            0 => Some(Entry::Begin { time: self.time()?, box_name: self.text()? }),
            1 => {
                let kind = *Kind::ALL.get(usize::from(self.byte()?))?;
                Some(Entry::Name { kind, slot: self.small()?, name: self.text()? })
            }
            2 => self.decision().map(Entry::Decision),
            3 => {
                let time = self.time()?;
                let cause = *Cause::ALL.get(usize::from(self.byte()?))?;
                Some(Entry::Lost { time, cause, count: self.number()? })
            }
            4 => {
                let (time, target) = (self.time()?, self.small()?);
                let up = match self.byte()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                let factor = self.small().filter(|factor| *factor <= 256)? as u16;
                Some(Entry::Health { time, target, up, factor })
            }
            _ => None,
        }
    }

    fn decision(&mut self) -> Option<Decision> {
        let (time, generation) = (self.time()?, self.number()?);
        let (epoch, one_in) = (self.small()?, self.small()?);
        let path = match self.byte()? {
            0 => PathTaken::Fast,
            1 => PathTaken::Slow,
            _ => return None,
        };
        let spoken = *Spoken::ALL.get(usize::from(self.byte()?))?;
        let reason = Reason::from_code(u16::try_from(self.number()?).ok()?)?;
        let client = SocketAddr::new(self.address()?, u16::try_from(self.number()?).ok()?);
        let vip = self.address()?;
        let asked = match self.byte()? {
            0 => Asked::Message { length: self.small()?, bytes: self.bytes()?.into() },
            1 => Asked::Url(self.text()?),
            2 => Asked::Nothing,
            _ => return None,
        };
        let chosen = Chosen {
            vip: self.slot()?,
            service: self.slot()?,
            region: self.slot()?,
            account: self.slot()?,
            ..self.targets()?
        };
        Some(Decision { time, generation, epoch, one_in, path, spoken, reason, client, vip, asked, chosen })
    }

    /// What stands last in an entry.
    fn targets(&mut self) -> Option<Chosen> {
        let count = self.byte()?;
        let mut chosen = Chosen { count, ..Chosen::default() };
        if usize::from(count) > MAX_ENDPOINTS {
            return None;
        }
        for place in 0..usize::from(count) {
            chosen.targets[place] = self.slot()?;
        }
        Some(chosen)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        varint(&mut self.rest)
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A slot, or [`NONE`].
    fn slot(&mut self) -> Option<u32> {
        match self.number()? {
            0 => Some(NONE),
            more => u32::try_from(more - 1).ok().filter(|slot| *slot != NONE),
        }
    }

    fn time(&mut self) -> Option<u64> {
        let distance = self.number()?;
        let distance = (distance >> 1) as i64 ^ -((distance & 1) as i64);
        *self.time = self.time.wrapping_add(distance as u64);
        Some(*self.time)
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<Box<str>> {
        std::str::from_utf8(self.bytes()?).ok().map(Box::from)
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.byte()? {
            4 => {
                let (octets, rest) = self.rest.split_first_chunk::<4>()?;
                self.rest = rest;
                Some(IpAddr::V4(Ipv4Addr::from(*octets)))
            }
            6 => {
                let (octets, rest) = self.rest.split_first_chunk::<16>()?;
                self.rest = rest;
                Some(IpAddr::V6(Ipv6Addr::from(*octets)))
            }
            _ => None,
        }
    }
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in from.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds the highest bit alone.
        if place == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * place);
        if byte & 0x80 == 0 {
            *from = &from[place + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> Vec<Entry> {
        let client = "[2001:db8::1]:40000".parse().expect("address");
        let mut chosen = Chosen { vip: 1, service: 2, region: 0, account: NONE, ..Chosen::default() };
        (chosen.count, chosen.targets[0], chosen.targets[1]) = (2, 7, NONE - 1);
        let decision = Decision {
            time: 1_900_000_000_000_000,
            generation: u64::MAX,
            epoch: u32::MAX,
            one_in: 1000,
            path: PathTaken::Fast,
            spoken: Spoken::Cdsr,
            reason: Reason::LaterTier,
            client,
            vip: "203.0.113.1".parse().expect("address"),
            asked: Asked::Message { bytes: vec![0xff; 300].into(), length: 1000 },
            chosen,
        };
        let url = Decision {
            time: 1_899_999_999_999_999,
            asked: Asked::Url("http://a.net/é".into()),
            ..decision.clone()
        };
        let nothing = Decision { asked: Asked::Nothing, chosen: Chosen::default(), ..decision.clone() };
        vec![
            Entry::Begin { time: 5, box_name: "fra1-r1".into() },
            Entry::Name { kind: Kind::Vip, slot: 1, name: "acme".into() },
            Entry::Decision(decision),
            Entry::Decision(url),
            Entry::Lost { time: 9, cause: Cause::Disk, count: 1 << 40 },
            Entry::Health { time: 10, target: 7, up: false, factor: 256 },
            Entry::Decision(nothing),
        ]
    }

    fn written(entries: &[Entry]) -> Vec<u8> {
        super::written(entries).split_off(MAGIC.len())
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = written(&entries());
        let (mut decoder, mut rest) = (Decoder::default(), &bytes[..]);
        for entry in entries() {
            let (read, taken) = decoder.next(rest).expect("an entry");
            assert_eq!(read, entry);
            assert_eq!(peek(rest), Ok((matches!(entry, Entry::Decision(_)), taken)));
            rest = &rest[taken..];
        }
        assert_eq!(decoder.next(rest), Err(Bad::CutOff));
    }

    #[test]
    fn a_decision_of_an_ordinary_query_takes_few_bytes() {
        let entries = entries();
        let Entry::Decision(mut decision) = entries[2].clone() else { panic!("a decision") };
        decision.asked = Asked::Message { bytes: vec![0; 50].into(), length: 50 };
        (decision.generation, decision.epoch) = (1000, 1000);
        let later = Decision { time: decision.time + 100_000, ..decision.clone() };
        let first = written(&[Entry::Decision(decision.clone())]).len();
        let both = written(&[Entry::Decision(decision), Entry::Decision(later)]).len();
        assert!(both - first <= 110, "{}", both - first);
    }

    #[test]
    fn wherever_it_is_cut_the_entries_before_are_read_and_no_others() {
        let (bytes, entries) = (written(&entries()), entries());
        for end in 0..bytes.len() {
            let (mut decoder, mut rest, mut read) = (Decoder::default(), &bytes[..end], 0);
            let bad = loop {
                match decoder.next(rest) {
                    Ok((entry, taken)) => {
                        assert_eq!(entry, entries[read]);
                        (read, rest) = (read + 1, &rest[taken..]);
                    }
                    Err(bad) => break bad,
                }
            };
            assert_eq!(bad, Bad::CutOff, "{end}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let bytes = written(&entries()[2..3]);
        for place in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            assert!(Decoder::default().next(&damaged).is_err(), "{place}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_read_as_it_was_written(value: u64) {
            let mut bytes = Vec::new();
            number(&mut bytes, value);
            let mut rest = &bytes[..];
            prop_assert_eq!(varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
