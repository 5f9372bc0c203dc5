//! Two network namespaces joined by a pair of virtual Ethernet interfaces: clients at one end, the box at the other.
//!
//! The kernel makes the clients' frames, in test-runs of a program on one CPU. What the box does in the kernel happens on
//! that CPU as well, in between, and so does what is done with its replies.

use crate::ring;
use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
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
use std::time::Duration;

/// The CPU of the clients and of the box's part in the kernel.
pub(crate) const CPU: usize = 0;
/// The interfaces.
pub(crate) const CLIENTS: &str = "clients";
pub(crate) const BOX: &str = "box";
/// Where the box sends its replies.
const GATEWAY: &str = "198.18.0.1";
/// Frames of one batch of a test-run, as an interface's driver takes them.
const BATCH: u32 = 64;

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

/// The clients' namespace; the box has that of the main thread.
pub(crate) struct Clients(File);

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
    pub(crate) fn within<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
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
    pub(crate) clients: Clients,
    /// Index of the clients' interface.
    pub(crate) index: u32,
}

impl Network {
    /// Builds it for a box with these VIPs; the interfaces have so many queues.
    pub(crate) fn build(vips: &[IpAddr], queues: usize) -> Result<Self> {
        let cpus = thread::available_parallelism()?.get();
        ensure!(cpus >= 2, "{cpus} CPU: clients and server take one each");
        let clients = Clients::new()?;
        let (clients_mac, box_mac) = (mac(CLIENT_MAC), mac(BOX_MAC));
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
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
        Ok(Self { clients, index })
    }
}

/// CPU time by a clock.
pub(crate) fn cpu_time(clock: ClockId) -> Result<Duration> {
    Ok(clock_gettime(clock)?.into())
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs lines of `ip`.
pub(crate) fn ip(lines: String) -> Result<()> {
    let done = Cmd::new("ip").args(["-batch", "-"]).input(lines.clone()).run();
    done.with_context(|| format!("the lines were:\n{lines}")).map(drop)
}

/// A program sees packets as the sender left them: with the checksum still to be filled in, unless this is off.
fn offloads_off(interface: &str) -> Result<()> {
    let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    Cmd::new("ethtool").args(["-K", interface]).args(off).run().map(drop)
}

/// Attaches one of an object's programs in the driver; it goes with the object.
pub(crate) fn attach(object: &mut Ebpf, name: &str, interface: &str) -> Result<()> {
    let program: &mut Xdp = object.program_mut(name).with_context(|| name.to_owned())?.try_into()?;
    program.attach(interface, XdpMode::Driver).with_context(|| format!("{name} at {interface}"))?;
    Ok(())
}

/// Runs the rest of this thread on a CPU.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

/// Runs the sender on its CPU; gives the CPU time that this took.
pub(crate) fn send_here(sender: &Xdp, interface: u32, repeat: u32) -> Result<Duration> {
    stay_on(CPU)?;
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
