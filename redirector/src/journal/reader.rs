//! Reads the files of a decision log: up to the first damage, which is told with its place.

use super::format::{Bad, Decoder, Entry, Kind, MAGIC, MAX_ENTRY};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes read at once; more than an entry takes.
const CHUNK: usize = 256 << 10;
const _: () = assert!(CHUNK > MAX_ENTRY + 16);

/// Where and why a file cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Bytes before it.
    pub offset: u64,
    /// What is there.
    pub what: String,
    /// The file ends within an entry: it may still be being written, or its writer was killed.
    pub cut_off: bool,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {}: {}", self.offset, self.what)
    }
}

/// A file's entries, one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// What was read of the source; entries before `at` were given.
    bytes: Vec<u8>,
    at: usize,
    /// Bytes of the file before `bytes`.
    before: u64,
    begun: bool,
    decoder: Decoder,
    names: Names,
}

/// What slots are called in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(HashMap<(Kind, u32), Box<str>>);

impl Names {
    /// A slot's name, if it was told.
    pub fn get(&self, kind: Kind, slot: u32) -> Option<&str> {
        self.0.get(&(kind, slot)).map(AsRef::as_ref)
    }
}

impl Reader<File> {
    /// Of a file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self::new)
    }
}

impl<R: Read> Reader<R> {
    /// Of bytes.
    pub fn new(source: R) -> Self {
        Self {
            source,
            bytes: Vec::new(),
            at: 0,
            before: 0,
            begun: false,
            decoder: Decoder::default(),
            names: Names::default(),
        }
    }

    /// What slots are called, as far as the file was read.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The next entry but for names, which are noted; `None` at the end. After damage it is the same damage again; after
    /// an entry that was cut off, the source is asked for more.
    ///
    /// # Errors
    /// The inner one: where the file cannot be read on, and why.
    ///
    /// # Errors
    /// If the source cannot be read.
    #[expect(clippy::should_implement_trait, reason = "errors of two kinds, which callers tell apart")]
    pub fn next(&mut self) -> io::Result<Option<Result<Entry, Damage>>> {
        loop {
            let bad = match self.entry() {
                Ok(Entry::Name { kind, slot, name }) => {
                    self.names.0.insert((kind, slot), name);
                    continue;
                }
                Ok(entry) => return Ok(Some(Ok(entry))),
                Err(bad) => bad,
            };
            if bad == Bad::CutOff && self.fill()? {
                continue;
            }
            let offset = self.before + self.at as u64;
            let what = match bad {
                Bad::CutOff if self.at == self.bytes.len() && self.begun => return Ok(None),
                Bad::CutOff => "the file ends within an entry".to_owned(),
                Bad::Damaged(what) => format!("{what}: the rest of the file is not read"),
            };
            return Ok(Some(Err(Damage { offset, what, cut_off: bad == Bad::CutOff })));
        }
    }

    fn entry(&mut self) -> Result<Entry, Bad> {
        let rest = &self.bytes[self.at..];
        if !self.begun {
            match rest.first_chunk() {
                None if MAGIC.starts_with(rest) => return Err(Bad::CutOff),
                Some(magic) if *magic == MAGIC => (self.begun, self.at) = (true, self.at + MAGIC.len()),
                _ => return Err(Bad::Damaged("no decision log of a form that this program knows")),
            }
        }
        let (entry, taken) = self.decoder.next(&self.bytes[self.at..])?;
        self.at += taken;
        Ok(entry)
    }

    /// Reads more; `false` if there is no more.
    fn fill(&mut self) -> io::Result<bool> {
        self.before += self.at as u64;
        self.bytes.drain(..self.at);
        self.at = 0;
        let kept = self.bytes.len();
        self.bytes.resize(kept + CHUNK, 0);
        let read = loop {
            match self.source.read(&mut self.bytes[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes.truncate(kept + read.as_ref().map_or(0, |read| *read));
        read.map(|read| read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Encoder;
    use super::*;

    fn file(entries: u64) -> Vec<u8> {
        let (mut encoder, mut bytes) = (Encoder::default(), MAGIC.to_vec());
        encoder.put(&Entry::Begin { time: 1, box_name: "box".into() }, &mut bytes);
        encoder.put(&Entry::Name { kind: Kind::Target, slot: 3, name: "fra-1".into() }, &mut bytes);
        for time in 0..entries {
            encoder.put(&Entry::Health { time, target: 3, up: true, factor: 0 }, &mut bytes);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (usize, Option<Damage>) {
        let (mut reader, mut count) = (Reader::new(bytes), 0);
        loop {
            match reader.next().expect("readable") {
                None => return (count, None),
                Some(Ok(_)) => count += 1,
                Some(Err(damage)) => return (count, Some(damage)),
            }
        }
    }

    #[test]
    fn a_whole_file_is_read_whatever_its_length_and_names_are_noted() {
        for entries in [0, 1, 100_000] {
            assert_eq!(read(&file(entries)), (entries as usize + 1, None));
        }
        let bytes = file(1);
        let mut reader = Reader::new(&bytes[..]);
        while reader.next().expect("readable").is_some() {}
        assert_eq!(reader.names().get(Kind::Target, 3), Some("fra-1"));
        assert_eq!(reader.names().get(Kind::Region, 3), None);
    }

    #[test]
    fn what_is_no_log_is_told_at_its_begin() {
        for bytes in [&b"[box]\nname = 1"[..], b"RDECIDE\x02aaaaaaaaaaaaa"] {
            let (count, damage) = read(bytes);
            assert_eq!((count, damage.map(|damage| (damage.offset, damage.cut_off))), (0, Some((0, false))));
        }
        assert_eq!(read(b"RDEC").1.map(|damage| damage.cut_off), Some(true));
        assert_eq!(read(b"").1.map(|damage| damage.cut_off), Some(true), "an empty file has not begun");
    }

    #[test]
    fn damage_is_told_with_its_place_and_what_stands_before_is_read() {
        let whole = file(1000);
        let place = file(500).len();
        let mut damaged = whole.clone();
        damaged[place + 3] ^= 0x10;
        let (count, damage) = read(&damaged);
        assert_eq!((count, damage.map(|damage| damage.offset)), (501, Some(place as u64)));
        let (count, damage) = read(&whole[..place + 3]);
        let damage = damage.expect("cut off");
        assert_eq!((count, damage.offset, damage.cut_off), (501, place as u64, true));
    }
}
