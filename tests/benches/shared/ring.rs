//! The object of `redirector-ebpf/src/bin/bench-feeder.rs`, loaded for one ring of frames.

use anyhow::{Context as _, Result, ensure};
use aya::maps::Array;
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use std::env;

/// Longest frame of a ring.
pub(crate) const LONGEST: usize = 252;

/// A frame as the object's map holds it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    len: u32,
    bytes: [u8; LONGEST],
}

// SAFETY: plain numbers without padding; every bit pattern is valid.
unsafe impl aya::Pod for Slot {}

/// Loads these of its programs with a ring for so many frames, a power of two, and other maps of these sizes.
pub(crate) fn load(programs: &[&str], frames: usize, sizes: &[(&'static str, usize)]) -> Result<Ebpf> {
    ensure!(frames.is_power_of_two(), "a ring of {frames} frames");
    let path = env::var_os("REDIRECTOR_BENCH_OBJECT")
        .context("REDIRECTOR_BENCH_OBJECT is not set: run this by `cargo xtask bench`")?;
    let mask = frames as u32 - 1;
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("FRAMES", frames as u32).override_global("RING_MASK", &mask, true);
    for (map, size) in sizes {
        loader.map_max_entries(map, *size as u32);
    }
    let mut object = loader.load_file(&path).with_context(|| path.display().to_string())?;
    for name in programs {
        let program: &mut Xdp = object.program_mut(name).with_context(|| (*name).to_owned())?.try_into()?;
        program.load()?;
    }
    Ok(object)
}

/// Writes frames to the ring, or to another map like it.
pub(crate) fn fill(object: &mut Ebpf, map: &str, frames: &[Vec<u8>]) -> Result<()> {
    let mut ring: Array<_, Slot> = object.map_mut(map).with_context(|| map.to_owned())?.try_into()?;
    for (index, frame) in (0u32..).zip(frames) {
        let mut slot = Slot { len: frame.len() as u32, bytes: [0; LONGEST] };
        let room = slot.bytes.get_mut(..frame.len()).context("a frame that is too long")?;
        room.copy_from_slice(frame);
        ring.set(index, slot, 0)?;
    }
    Ok(())
}

/// One of the object's programs.
pub(crate) fn program<'o>(object: &'o Ebpf, name: &str) -> Result<&'o Xdp> {
    Ok(object.program(name).with_context(|| name.to_owned())?.try_into()?)
}
