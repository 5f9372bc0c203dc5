//! The feeder in the kernel: `redirector-ebpf/src/bin/bench-feeder.rs`, loaded for one ring of frames.

use crate::ring;
use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, TestRunResult};

/// `bpf(2)`'s `XDP_DROP`.
pub(crate) const XDP_DROP: u32 = 1;
/// Room for the longest reply.
const REPLY_ROOM: usize = 2048;

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
        let mut object = ring::load(&["feeder", "nothing", "reflector"], frames.len(), &[])?;
        ring::fill(&mut object, "FRAMES", frames)?;
        let under_test = object.take_map("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        Ok(Self { object, under_test, packet: vec![0; ring::LONGEST] })
    }

    /// Puts a program behind the feeder.
    pub(crate) fn put(&mut self, program: Program<'_>) -> Result<()> {
        let own = |name| Ok::<_, anyhow::Error>(ring::program(&self.object, name)?.fd()?);
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
        Ok(ring::program(&self.object, "feeder")?
            .test_run(TestRunOptions { data_in: Some(&self.packet), ..options })?)
    }
}
