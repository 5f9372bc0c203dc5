//! The feeder in the kernel: `redirector-ebpf/src/bin/bench-feeder.rs`, loaded for one ring of frames.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, TestRunResult, Xdp};
use aya::{Ebpf, EbpfLoader};
use std::env;

/// `bpf(2)`'s `XDP_DROP`.
pub(crate) const XDP_DROP: u32 = 1;
/// Longest frame of a ring.
const LONGEST: usize = 252;
/// Room for the longest reply.
const REPLY_ROOM: usize = 2048;

/// A frame as the feeder's map holds it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    len: u32,
    bytes: [u8; LONGEST],
}

// SAFETY: plain numbers without padding; every bit pattern is valid.
unsafe impl aya::Pod for Slot {}

/// What the feeder hands its frames to.
#[derive(Clone, Copy)]
pub(crate) enum Program<'p> {
    /// Drops them: the feeder's own cost.
    Nothing,
    /// Swaps addresses and ports.
    Reflector,
    /// What is measured.
    Other(&'p ProgramFd),
}

/// The feeder with its frames.
pub(crate) struct Feeder {
    object: Ebpf,
    under_test: ProgramArray<MapData>,
    /// What every test run begins with; overwritten by the feeder.
    packet: Vec<u8>,
}

impl Feeder {
    /// Loads it with a ring of frames, whose number must be a power of two.
    pub(crate) fn load(frames: &[Vec<u8>]) -> Result<Self> {
        ensure!(frames.len().is_power_of_two(), "a ring of {} frames", frames.len());
        let path = env::var_os("REDIRECTOR_BENCH_OBJECT")
            .context("REDIRECTOR_BENCH_OBJECT is not set: run `cargo xtask bench fastpath`")?;
        let mask = frames.len() as u32 - 1;
        let mut object = EbpfLoader::new()
            .map_max_entries("FRAMES", frames.len() as u32)
            .override_global("RING_MASK", &mask, true)
            .load_file(&path)
            .with_context(|| path.display().to_string())?;
        for name in ["feeder", "nothing", "reflector"] {
            let program: &mut Xdp = object.program_mut(name).context(name)?.try_into()?;
            program.load()?;
        }
        let mut ring: Array<_, Slot> = object.map_mut("FRAMES").context("FRAMES")?.try_into()?;
        for (index, frame) in (0u32..).zip(frames) {
            let mut slot = Slot { len: frame.len() as u32, bytes: [0; LONGEST] };
            let room = slot.bytes.get_mut(..frame.len()).context("a frame that is too long")?;
            room.copy_from_slice(frame);
            ring.set(index, slot, 0)?;
        }
        let under_test = object.take_map("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        Ok(Self { object, under_test, packet: vec![0; LONGEST] })
    }

    /// Puts a program behind the feeder.
    pub(crate) fn put(&mut self, program: Program<'_>) -> Result<()> {
        let own = |name| Ok::<_, anyhow::Error>(xdp(&self.object, name)?.fd()?);
        let fd = match program {
            Program::Nothing => own("nothing")?,
            Program::Reflector => own("reflector")?,
            Program::Other(fd) => fd,
        };
        Ok(self.under_test.set(0, fd, 0)?)
    }

    /// Feeds the next frame; gives what the program behind returned and what it made of the frame.
    pub(crate) fn once(&self) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; REPLY_ROOM];
        let result = self.test_run(TestRunOptions { data_out: Some(&mut out), ..TestRunOptions::new() })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// Feeds so many packets to a program, the last of which must be `expected`; gives nanoseconds for each.
    pub(crate) fn time(&mut self, program: Program<'_>, packets: u32, expected: u32) -> Result<u64> {
        self.put(program)?;
        let result = self.test_run(TestRunOptions { repeat: packets, ..TestRunOptions::new() })?;
        ensure!(
            result.return_value == expected,
            "the last packet's action is {} instead of {expected}",
            result.return_value
        );
        Ok(result.duration.as_nanos() as u64)
    }

    fn test_run(&self, options: TestRunOptions<'_>) -> Result<TestRunResult> {
        Ok(xdp(&self.object, "feeder")?
            .test_run(TestRunOptions { data_in: Some(&self.packet), ..options })?)
    }
}

fn xdp<'o>(object: &'o Ebpf, name: &str) -> Result<&'o Xdp> {
    Ok(object.program(name).with_context(|| name.to_owned())?.try_into()?)
}
