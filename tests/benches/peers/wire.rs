//! Two network namespaces joined by a pair of virtual Ethernet interfaces: clients at one end, the box at the other.
//!
//! The kernel makes the clients' frames, in test-runs of the program `sender` on one CPU. What the box does in the kernel
//! happens on that CPU as well, in between, and so does the counting of its replies.

use crate::ring;
use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use redirector_tests::frames::{BOX_MAC, CLIENT_MAC};
use redirector_tests::lab::Cmd;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The CPU of the clients and of the box's part in the kernel.
const CPU: usize = 0;
/// The interfaces.
const CLIENTS: &str = "clients";
const BOX: &str = "box";
/// Where the box sends its replies.
const GATEWAY: &str = "198.18.0.1";
/// Frames that `sender` sends one after the other.
pub(crate) const BURST: u32 = 16;
/// How many times as long as without pauses it takes to send at a pace that every server can follow.
const CALM: u32 = 1024;
/// Frames of one batch of a test-run, as an interface's driver takes them.
const BATCH: u32 = 64;
/// A reply that comes later than this after the one before counts as lost.
const PATIENCE: Duration = Duration::from_millis(50);

/// Addresses from anywhere may send and receive; nothing comes but what is measured.
const SETTINGS: [(&str, &str); 7] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/ip_nonlocal_bind", "1"),
    ("ipv6/ip_nonlocal_bind", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
];

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

/// The clients' namespace; the box has that of the main thread.
struct Clients(File);

impl Clients {
    /// Moves the main thread into a namespace for the box, and makes one for clients.
    fn new() -> Result<Self> {
        let fresh = || {
            unshare(CloneFlags::CLONE_NEWNET).context("a network namespace (as root?)")?;
            for (key, value) in SETTINGS {
                let path = Path::new("/proc/sys/net").join(key);
                fs::write(&path, value).with_context(|| path.display().to_string())?;
            }
            Ok(File::open("/proc/thread-self/ns/net")?)
        };
        fresh()?;
        joined(fresh).map(Self)
    }

    /// Runs `action` in a thread there.
    fn within<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        joined(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            action()
        })
    }
}

fn joined<T: Send>(action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(action).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Both namespaces.
pub(crate) struct Network {
    clients: Clients,
    /// Index of the clients' interface.
    index: u32,
    /// The kernel threads that take over when there is much to do for packets.
    helpers: Vec<Pid>,
}

impl Network {
    /// Builds it for a box with these VIPs.
    pub(crate) fn build(vips: &[IpAddr]) -> Result<Self> {
        let cpus = thread::available_parallelism()?.get();
        ensure!(cpus >= 2, "{cpus} CPU: clients and server take one each");
        let clients = Clients::new()?;
        let (clients_mac, box_mac) = (mac(CLIENT_MAC), mac(BOX_MAC));
        let queues = "numtxqueues 1 numrxqueues 1";
        let mut there = format!(
            "link add {CLIENTS} address {clients_mac} {queues} type veth peer name {BOX} address {box_mac} {queues} \
             netns {}\nlink set lo up\nlink set {CLIENTS} up\n\
             route add local 0.0.0.0/0 dev lo table main\n\
             route add local ::/0 dev lo table main\n",
            std::process::id()
        );
        let mut here = "link set lo up\n".to_owned();
        for vip in vips {
            there += &format!("route add {vip} dev {CLIENTS}\n");
            there += &format!("neigh add {vip} lladdr {box_mac} dev {CLIENTS} nud permanent\n");
            here += &format!("addr add {vip} dev lo\n");
        }
        here += &format!(
            "link set {BOX} up\nneigh add {GATEWAY} lladdr {clients_mac} dev {BOX} nud permanent\n\
             route add default via {GATEWAY} dev {BOX} onlink\n"
        );
        let index = clients.within(|| {
            ip(there)?;
            offloads_off(CLIENTS)?;
            Ok(if_nametoindex(CLIENTS)?)
        })?;
        ip(here)?;
        offloads_off(BOX)?;
        Ok(Self { clients, index, helpers: packet_threads()? })
    }

    /// CPU time of the kernel's packet threads so far.
    fn helped(&self) -> Result<Duration> {
        self.helpers.iter().map(|pid| cpu_time(ClockId::pid_cpu_clock_id(*pid)?)).sum()
    }
}

/// CPU time by a clock.
pub(crate) fn cpu_time(clock: ClockId) -> Result<Duration> {
    Ok(clock_gettime(clock)?.into())
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(lines: String) -> Result<()> {
    let done = Cmd::new("ip").args(["-batch", "-"]).input(lines.clone()).run();
    done.with_context(|| format!("the lines were:\n{lines}")).map(drop)
}

/// A program sees packets as the sender left them: with the checksum still to be filled in, unless this is off.
fn offloads_off(interface: &str) -> Result<()> {
    let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    Cmd::new("ethtool").args(["-K", interface]).args(off).run().map(drop)
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

/// The programs at both ends, with a ring of frames to send.
pub(crate) struct Wire<'n> {
    network: &'n Network,
    object: Ebpf,
    under_test: ProgramArray<MapData>,
    replies: PerCpuArray<MapData, u64>,
}

impl<'n> Wire<'n> {
    /// Attaches them; they go with the value.
    pub(crate) fn attach(network: &'n Network, frames: &[Vec<u8>]) -> Result<Self> {
        let programs = ["sender", "counter", "hook", "nothing", "reflector"];
        let mut object = ring::load(&programs, frames)?;
        let under_test = object.take_map("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        let replies = object.take_map("REPLIES").context("REPLIES")?.try_into()?;
        attach(&mut object, "hook", BOX)?;
        network.clients.within(|| attach(&mut object, "counter", CLIENTS))?;
        Ok(Self { network, object, under_test, replies })
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
        let (before, helped) = (self.replies()?, self.network.helped()?);
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
            kernel: own + self.network.helped()?.saturating_sub(helped),
        })
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

fn attach(object: &mut Ebpf, name: &str, interface: &str) -> Result<()> {
    let program: &mut Xdp = object.program_mut(name).with_context(|| name.to_owned())?.try_into()?;
    program.attach(interface, XdpMode::Driver).with_context(|| format!("{name} at {interface}"))?;
    Ok(())
}

/// Runs the sender on its CPU; gives the CPU time that this took.
fn send_here(sender: &Xdp, interface: u32, repeat: u32) -> Result<Duration> {
    let mut cpus = CpuSet::new();
    cpus.set(CPU)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let packet = [0; ring::LONGEST];
    // `struct xdp_md`: where the data begins and ends, no metadata, the interface and queue it comes from.
    let context = [0, packet.len() as u32, 0, interface, 0, 0].map(u32::to_ne_bytes).concat();
    let before = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    sender.test_run(TestRunOptions {
        data_in: Some(&packet),
        ctx_in: Some(&context),
        repeat,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::new()
    })?;
    Ok(cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before)
}
