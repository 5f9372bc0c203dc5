//! The smallest XDP program, as an object file that `ip link set … xdpdrv object` takes.
//!
//! A veth delivers what the other end sent by `XDP_TX` only if it runs an XDP program itself, so the router's end of
//! a box's link gets one that passes everything.

use anyhow::Result;
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

/// Name of the section to load.
pub(super) const SECTION: &str = "xdp";

/// `r0 = XDP_PASS; exit`, in the encoding of RFC 9669.
const PROGRAM: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// The bytes of the ELF file.
pub(super) fn object_file() -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let section = object.add_section(Vec::new(), SECTION.into(), SectionKind::Text);
    object.append_section_data(section, &PROGRAM, 8);
    object.add_symbol(Symbol {
        name: b"xdp_pass".to_vec(),
        value: 0,
        size: PROGRAM.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    Ok(object.write()?)
}
