//! The compiled program as its object file holds it: instructions, what of them refers to what, and source lines.

use anyhow::{Context as _, Result, bail, ensure};
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _};
use object::{RelocationFlags, RelocationTarget, SymbolKind};
use std::collections::BTreeMap;

/// Section of the XDP program, and of functions that it calls.
const PROGRAM: &str = "xdp";
const FUNCTIONS: &str = ".text";
/// Relocations of 64-bit constants and of calls (`R_BPF_64_64`, `R_BPF_64_32`).
const CONSTANT: u32 = 1;
const CALL: u32 = 10;
/// Bytes of an instruction.
const SIZE: usize = 8;

/// One instruction (RFC 9669).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    pub(crate) to: u8,
    pub(crate) from: u8,
    pub(crate) offset: i16,
    pub(crate) value: i32,
}

impl Insn {
    fn decode(bytes: [u8; SIZE]) -> Self {
        let [code, registers, a, b, c, d, e, f] = bytes;
        Self {
            code,
            to: registers & 15,
            from: registers >> 4,
            offset: i16::from_le_bytes([a, b]),
            value: i32::from_le_bytes([c, d, e, f]),
        }
    }
}

/// A map as the object defines it.
#[derive(Debug, Clone)]
pub(crate) struct MapDefinition {
    pub(crate) name: String,
    pub(crate) is_per_cpu: bool,
    pub(crate) value_size: usize,
    pub(crate) entries: usize,
}

/// A place in the source text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// The program and what it calls, one behind the other.
pub(crate) struct Object {
    pub(crate) code: Vec<Insn>,
    pub(crate) maps: Vec<MapDefinition>,
    /// By the number of the instruction that loads its address: which map.
    pub(crate) map_of: BTreeMap<usize, usize>,
    /// By the number of the instruction that calls: the first one of the function.
    pub(crate) calls: BTreeMap<usize, usize>,
    /// Source line of each instruction, as far as it is known.
    pub(crate) lines: Vec<Option<Line>>,
}

impl Object {
    /// Reads an object file.
    ///
    /// # Errors
    /// What it lacks, or holds that a program here does not.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes)?;
        let mut object = Self {
            code: Vec::new(),
            maps: Vec::new(),
            map_of: BTreeMap::new(),
            calls: BTreeMap::new(),
            lines: Vec::new(),
        };
        let mut starts = BTreeMap::new();
        for name in [PROGRAM, FUNCTIONS] {
            starts.insert(name, object.code.len());
            let Some(section) = file.section_by_name(name) else { continue };
            let (words, _) = section.data()?.as_chunks::<SIZE>();
            object.code.extend(words.iter().copied().map(Insn::decode));
        }
        for (name, start) in &starts {
            object.relocate(&file, name, *start, starts[FUNCTIONS])?;
        }
        object.lines = lines(&file, &starts, object.code.len())?;
        Ok(object)
    }

    fn relocate(
        &mut self,
        file: &object::File<'_>,
        section: &str,
        start: usize,
        functions: usize,
    ) -> Result<()> {
        let Some(section) = file.section_by_name(section) else { return Ok(()) };
        for (place, relocation) in section.relocations() {
            let number = start + place as usize / SIZE;
            let RelocationTarget::Symbol(index) = relocation.target() else {
                bail!("a relocation to no symbol")
            };
            let symbol = file.symbol_by_index(index)?;
            match relocation.flags() {
                RelocationFlags::Elf { r_type: CONSTANT } => {
                    let map = self.map(file, &symbol)?;
                    self.map_of.insert(number, map);
                }
                RelocationFlags::Elf { r_type: CALL } => {
                    let beyond = match symbol.kind() {
                        SymbolKind::Section => i64::from(self.code[number].value) + 1,
                        _ => 0,
                    };
                    let target = functions as i64 + symbol.address() as i64 / SIZE as i64 + beyond;
                    self.calls.insert(number, usize::try_from(target)?);
                }
                flags => bail!("a relocation of the kind {flags:?}"),
            }
        }
        Ok(())
    }

    /// Number of the map that a symbol defines.
    fn map<'f>(&mut self, file: &object::File<'f>, symbol: &object::Symbol<'f, '_>) -> Result<usize> {
        let name = symbol.name()?.to_owned();
        if let Some(known) = self.maps.iter().position(|map| map.name == name) {
            return Ok(known);
        }
        let section = file.section_by_index(symbol.section_index().context("a map without section")?)?;
        ensure!(section.name()? == "maps", "{name} is no map");
        let definition =
            section.data()?.get(symbol.address() as usize..).context("a map beyond its section")?;
        let (words, _) = definition.as_chunks::<4>();
        let [kind, _key, value, entries] = *words.first_chunk().context("half a map")?;
        self.maps.push(MapDefinition {
            name,
            // `BPF_MAP_TYPE_PERCPU_ARRAY`
            is_per_cpu: u32::from_le_bytes(kind) == 6,
            value_size: u32::from_le_bytes(value) as usize,
            entries: u32::from_le_bytes(entries) as usize,
        });
        Ok(self.maps.len() - 1)
    }
}

/// Number at a place of a section.
fn word(bytes: &[u8], at: usize) -> Result<usize> {
    let word =
        bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).context("a section that is too short")?;
    Ok(u32::from_le_bytes(*word) as usize)
}

/// Source lines from the BTF of the object (Linux, Documentation/bpf/btf.rst).
fn lines(file: &object::File<'_>, starts: &BTreeMap<&str, usize>, count: usize) -> Result<Vec<Option<Line>>> {
    let section =
        |name: &str| file.section_by_name(name).with_context(|| format!("the object has no {name}"));
    let (btf, ext) = (section(".BTF")?.data()?, section(".BTF.ext")?.data()?);
    let strings = word(btf, 4)? + word(btf, 16)?;
    let text = |at: usize| -> Result<&str> {
        let bytes = btf.get(strings + at..).context("a string beyond the section")?;
        Ok(std::str::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap_or_default())?)
    };
    let mut at = word(ext, 4)? + word(ext, 16)?;
    let end = at + word(ext, 20)?;
    let record = word(ext, at)?;
    at += 4;
    let mut known = BTreeMap::new();
    while at < end {
        let (name, number) = (text(word(ext, at)?)?, word(ext, at + 4)?);
        at += 8;
        for _ in 0..number {
            if let Some(start) = starts.get(name) {
                let line = Line {
                    file: text(word(ext, at + 4)?)?.to_owned(),
                    line: word(ext, at + 12)? as u32 >> 10,
                };
                known.insert(start + word(ext, at)? / SIZE, line);
            }
            at += record;
        }
    }
    let mut last = None;
    Ok((0..count)
        .map(|number| {
            last = known.get(&number).cloned().or(last.take());
            last.clone()
        })
        .collect())
}
