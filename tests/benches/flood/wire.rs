//! The wire between clients and box, with a flood on it, and how far everything came.

use crate::clients::{Clients, Fate, KINDS, PACE};
use crate::daemon::Daemon;
use crate::ends::{BOX, CLIENTS, Network, attach, send_here};
use crate::floods::{FRAMES, Flood};
use crate::messages::Names;
use crate::ring;
use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{SchedClassifier, TcAttachType};
use redirector_tests::lab::{Cmd, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Kinds of frames that are told apart; the last is the flood.
pub(crate) const COUNTED: usize = 8;
/// The flood's place among them.
pub(crate) const FLOOD: usize = COUNTED - 1;
/// Frames by whose time it is told how many fill a period: what a test-run takes to begin and end falls out.
const SHORT: u32 = 1 << 17;
const LONG: u32 = 1 << 20;
/// When nothing has come for so long, nothing more comes.
const QUIET: Duration = Duration::from_millis(400);
/// How long that may take.
const END: Duration = Duration::from_secs(10);

/// How far frames come; see `redirector-ebpf/src/flood.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Sent = 0,
    Entered = 1,
    Passed = 2,
    Returned = 3,
}

/// Frames by stage and kind.
pub(crate) type Stages = [[u64; COUNTED]; 4];

/// What the sender does, as the object's map holds it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Course {
    begun: u64,
    last: u64,
    due: u64,
    interval: u64,
    sent: u32,
    clients: u32,
    flood: u32,
    sources: u32,
}

// SAFETY: plain numbers without padding; every bit pattern is valid.
unsafe impl aya::Pod for Course {}

/// What came of one period.
pub(crate) struct Period {
    pub(crate) stages: Stages,
    /// What became of the clients' queries, with their kinds.
    pub(crate) fates: Vec<(usize, Fate)>,
    /// What the box has counted, by reason.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// Datagrams that found no room at the box's sockets.
    pub(crate) overflows: u64,
    /// From the first frame to the last.
    pub(crate) wall: Duration,
}

/// The programs at both ends.
pub(crate) struct Wire<'n> {
    network: &'n Network,
    object: Ebpf,
    stages: PerCpuArray<MapData, u64>,
    /// The kernel forgets what is in it with its last user.
    _under_test: ProgramArray<MapData>,
}

impl<'n> Wire<'n> {
    /// Attaches them, with the daemon's program at the end of the box.
    pub(crate) fn attach(network: &'n Network, daemon: &Daemon, clients: &Clients) -> Result<Self> {
        let programs = ["flooder", "gate", "returned"];
        let mut object = ring::load(&programs, FRAMES, &[("CLIENTS", clients.frames.len())])?;
        ring::fill(&mut object, "CLIENTS", &clients.frames)?;
        let mut under_test: ProgramArray<MapData> =
            object.take_map("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        under_test.set(0, &daemon.fast_path()?, 0)?;
        let stages = object.take_map("STAGES").context("STAGES")?.try_into()?;
        attach(&mut object, "gate", BOX)?;
        let passed: &mut SchedClassifier = object.program_mut("passed").context("passed")?.try_into()?;
        passed.load()?;
        passed.attach(BOX, TcAttachType::Ingress)?;
        network.clients.within(|| attach(&mut object, "returned", CLIENTS))?;
        network.clients.within(|| own_queues(CLIENTS))?;
        own_queues(BOX)?;
        Ok(Self { network, object, stages, _under_test: under_test })
    }

    /// Makes a flood ready, and gives how many of its frames can be sent in a second.
    pub(crate) fn aim(&mut self, flood: &Flood, names: &Names, clients: &Clients) -> Result<f64> {
        ring::fill(&mut self.object, "FRAMES", &flood.frames(names, &clients.prefixes))?;
        self.pace(Some(flood))
    }

    /// How many frames can be made in a second, and sent if there is a flood.
    pub(crate) fn pace(&mut self, flood: Option<&Flood>) -> Result<f64> {
        let mut times = [0.0; 2];
        for (time, frames) in times.iter_mut().zip([SHORT, LONG]) {
            self.course(flood, Duration::ZERO, 0)?;
            let started = Instant::now();
            self.send(frames)?;
            *time = started.elapsed().as_secs_f64();
        }
        self.settle()?;
        Ok(f64::from(LONG - SHORT) / (times[1] - times[0]).max(f64::EPSILON))
    }

    /// Begins anew.
    fn course(&mut self, flood: Option<&Flood>, interval: Duration, clients: u32) -> Result<()> {
        let mut course: Array<_, Course> = self.object.map_mut("COURSE").context("COURSE")?.try_into()?;
        let course_begun = Course {
            begun: 0,
            last: 0,
            due: 0,
            interval: interval.as_nanos() as u64,
            sent: 0,
            clients,
            flood: flood.is_some().into(),
            sources: flood.map_or(0, |flood| flood.sources.forged()),
        };
        Ok(course.set(0, course_begun, 0)?)
    }

    /// Makes so many frames: the clients' queries in even steps, among the flood that was made ready, or alone.
    pub(crate) fn period(
        &mut self,
        flood: Option<&Flood>,
        frames: u32,
        clients: &Clients,
        daemon: &Daemon,
    ) -> Result<Period> {
        let interval = Duration::from_secs(1) / PACE as u32;
        self.course(flood, interval, clients.frames.len() as u32)?;
        let (before, counted, full) = (self.stages()?, daemon.reasons()?, overflows()?);
        let end = AtomicBool::new(false);
        let fates = thread::scope(|scope| {
            let listening = scope.spawn(|| self.network.clients.within(|| clients.listen(&end)));
            let sent = self.send(frames).and_then(|()| self.settle());
            end.store(true, Ordering::Relaxed);
            let fates = listening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            sent.map(|()| fates)
        })?;
        let after = self.stages()?;
        let stages =
            std::array::from_fn(|stage| std::array::from_fn(|kind| after[stage][kind] - before[stage][kind]));
        let mut reasons = daemon.reasons()?;
        for (reason, count) in &mut reasons {
            *count -= counted.get(reason).copied().unwrap_or(0);
        }
        let course: Array<_, Course> = self.object.map("COURSE").context("COURSE")?.try_into()?;
        let Course { begun, last, sent, .. } = course.get(&0, 0)?;
        let fates = fates.into_iter().take(sent as usize).collect();
        let (overflows, wall) = (overflows()? - full, Duration::from_nanos(last - begun));
        Ok(Period { stages, fates, reasons, overflows, wall })
    }

    /// Makes so many frames.
    fn send(&self, frames: u32) -> Result<()> {
        let flooder = ring::program(&self.object, "flooder")?;
        self.network.clients.within(|| send_here(flooder, self.network.index, frames)).map(drop)
    }

    /// Waits until nothing more comes.
    fn settle(&self) -> Result<()> {
        let (mut last, mut since) = (self.stages()?, Instant::now());
        wait_for("the end of replies", END, || match self.stages() {
            Ok(now) if now == last => (since.elapsed() >= QUIET).then_some(Ok(())),
            Ok(now) => {
                (last, since) = (now, Instant::now());
                None
            }
            Err(error) => Some(Err(error)),
        })?
    }

    fn stages(&self) -> Result<Stages> {
        let mut stages = Stages::default();
        for (stage, kinds) in (0u32..).zip(&mut stages) {
            for (kind, count) in (0u32..).zip(kinds) {
                *count = self.stages.get(&(stage * COUNTED as u32 + kind), 0)?.iter().sum();
            }
        }
        Ok(stages)
    }
}

/// Datagrams that found no room at a socket of this network namespace so far.
fn overflows() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, counts) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names.split(' ').zip(counts.split(' ')).find(|(name, _)| *name == "RcvbufErrors");
    Ok(found.context("no RcvbufErrors")?.1.parse()?)
}

/// Has what sockets send from one CPU go by another queue than what programs send from the other, as a NIC's queues would
/// have it: so the flood and the clients' queries among it stay on one CPU.
fn own_queues(interface: &str) -> Result<()> {
    let script = "mount -t sysfs sysfs /sys && cd /sys/class/net/$0/queues && \
                  echo 1 > tx-0/xps_cpus && echo 2 > tx-1/xps_cpus";
    Cmd::new("unshare").args(["--mount", "sh", "-c", script, interface]).run().map(drop)
}

const _: () = assert!(KINDS.len() < COUNTED);
