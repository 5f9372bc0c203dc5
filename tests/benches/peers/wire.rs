//! Queries over the wire, and what comes back: the programs at both ends.

use crate::ends::{BOX, CLIENTS, Network, attach, cpu_time, send_here};
use crate::ring;
use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::ProgramFd;
use nix::time::ClockId;
use nix::unistd::Pid;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Frames that `sender` sends one after the other.
pub(crate) const BURST: u32 = 16;
/// How many times as long as without pauses it takes to send at a pace that every server can follow.
const CALM: u32 = 1024;
/// A reply that comes later than this after the one before counts as lost.
const PATIENCE: Duration = Duration::from_millis(50);

/// What stands at the box's end.
#[derive(Clone, Copy)]
pub(crate) enum Behind<'p> {
    /// Nobody: frames are made, but not sent.
    Nobody,
    /// Drops all: what it costs to receive.
    Nothing,
    /// Swaps addresses and ports.
    Reflector,
    /// The program of a box.
    Program(&'p ProgramFd),
    /// The kernel, and a server's socket.
    Sockets,
}

/// What came of sending some frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Run {
    pub(crate) sent: u64,
    /// Replies without error and with records.
    pub(crate) answers: u64,
    /// Other replies.
    pub(crate) others: u64,
    /// How long it took.
    pub(crate) wall: Duration,
    /// CPU time of the sender with all that the kernel does for packets on its CPU.
    pub(crate) kernel: Duration,
}

/// The programs at both ends, with a ring of frames to send.
pub(crate) struct Wire<'n> {
    network: &'n Network,
    object: Ebpf,
    /// The kernel threads that take over when there is much to do for packets.
    helpers: Vec<Pid>,
    under_test: ProgramArray<MapData>,
    replies: PerCpuArray<MapData, u64>,
}

impl<'n> Wire<'n> {
    /// Attaches them; they go with the value.
    pub(crate) fn attach(network: &'n Network, frames: &[Vec<u8>]) -> Result<Self> {
        let programs = ["sender", "counter", "hook", "nothing", "reflector"];
        let mut object = ring::load(&programs, frames.len(), &[])?;
        ring::fill(&mut object, "FRAMES", frames)?;
        let under_test = object.take_map("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        let replies = object.take_map("REPLIES").context("REPLIES")?.try_into()?;
        attach(&mut object, "hook", BOX)?;
        network.clients.within(|| attach(&mut object, "counter", CLIENTS))?;
        Ok(Self { network, object, helpers: packet_threads()?, under_test, replies })
    }

    /// Puts something at the box's end.
    pub(crate) fn put(&mut self, behind: Behind<'_>) -> Result<()> {
        self.set("SEND", u32::from(!matches!(behind, Behind::Nobody)))?;
        match behind {
            Behind::Nobody => {}
            Behind::Nothing => self.under_test.set(0, ring::program(&self.object, "nothing")?.fd()?, 0)?,
            Behind::Reflector => {
                self.under_test.set(0, ring::program(&self.object, "reflector")?.fd()?, 0)?
            }
            Behind::Program(fd) => self.under_test.set(0, fd, 0)?,
            // There may be none.
            Behind::Sockets => drop(self.under_test.clear_index(&0)),
        }
        Ok(())
    }

    /// Lets replies through to the clients' sockets while `action` runs.
    pub(crate) fn listening<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.set("LISTEN", 1)?;
        let result = action(self);
        self.set("LISTEN", 0)?;
        result
    }

    /// Runs `action` in a thread among the clients.
    pub(crate) fn among_clients<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.network.clients.within(action)
    }

    /// Sends some of the ring's frames, from `first` on, at a pace that every server can follow.
    pub(crate) fn send_once(&mut self, first: u32, frames: u32) -> Result<Run> {
        self.set("FED", first)?;
        self.send(frames, CALM)
    }

    fn set(&mut self, map: &'static str, value: u32) -> Result<()> {
        let mut array: Array<_, u32> = self.object.map_mut(map).context(map)?.try_into()?;
        Ok(array.set(0, value, 0)?)
    }

    /// Sends so many frames, a multiple of [`BURST`], with pauses that make it `pace` times as long as without.
    pub(crate) fn send(&mut self, frames: u32, pace: u32) -> Result<Run> {
        ensure!(frames.is_multiple_of(BURST), "{frames} frames are no whole bursts");
        self.set("CYCLE", BURST * pace)?;
        self.set("PHASE", 0)?;
        let repeat = frames.checked_mul(pace).context("too many frames")?;
        let (before, helped) = (self.replies()?, self.helped()?);
        let started = Instant::now();
        let sender = ring::program(&self.object, "sender")?;
        let index = self.network.index;
        let own = self.among_clients(|| send_here(sender, index, repeat))?;
        let wall = started.elapsed();
        let after = self.settled(before, frames.into())?;
        Ok(Run {
            sent: frames.into(),
            answers: after[0] - before[0],
            others: after[1] - before[1],
            wall,
            kernel: own + self.helped()?.saturating_sub(helped),
        })
    }

    /// CPU time of the kernel's packet threads so far.
    fn helped(&self) -> Result<Duration> {
        self.helpers.iter().map(|pid| cpu_time(ClockId::pid_cpu_clock_id(*pid)?)).sum()
    }

    /// What has come back in all: answers and other replies.
    fn replies(&self) -> Result<[u64; 2]> {
        let sum = |kind| Ok::<_, anyhow::Error>(self.replies.get(&kind, 0)?.iter().sum());
        Ok([sum(0)?, sum(1)?])
    }

    /// The same, when everything is there or nothing more comes.
    fn settled(&self, before: [u64; 2], sent: u64) -> Result<[u64; 2]> {
        let (mut last, mut since) = (self.replies()?, Instant::now());
        while last.iter().sum::<u64>() < before.iter().sum::<u64>() + sent && since.elapsed() < PATIENCE {
            thread::yield_now();
            let now = self.replies()?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }
}

/// The kernel's threads `ksoftirqd/…`.
fn packet_threads() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("ksoftirqd/")
            && let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
        {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
