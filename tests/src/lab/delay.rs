//! A longer way to a server: what the router sends there passes through this process, which keeps it for a while. The
//! kernel's own means for that (netem) are not on every machine; TUN interfaces are.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    Lab,
    command::Cmd,
    topology::{ROUTER, node},
};

/// Name of the interfaces: at the router with a dash and the server's name, in the server alone.
const INTERFACE: &str = "far";
/// Longest packet.
const MTU: usize = 1500;
/// How often the reading thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A longer way from everybody to a server, until the value is dropped. The way back is as before.
#[derive(Debug)]
pub struct Delay<'l> {
    lab: &'l Lab,
    interface: String,
    millis: Arc<AtomicU64>,
    /// Dropped first: the threads end when it is gone.
    alive: Option<Arc<()>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl<'l> Delay<'l> {
    /// Delays every packet to the server of that name.
    ///
    /// # Errors
    /// If the interfaces cannot be made.
    ///
    /// # Panics
    /// If the lab has no node of that name.
    pub fn new(lab: &'l Lab, server: &str, delay: Duration) -> Result<Self> {
        let interface = format!("{INTERFACE}-{server}");
        let near = lab.within(ROUTER, || tun(&interface))??;
        let far = lab.within(server, || tun(INTERFACE))??;
        ip(lab, server, &["link", "set", INTERFACE, "up"])?;
        ip(lab, ROUTER, &["link", "set", &interface, "up"])?;
        let own = node(server).own;
        for address in [own.v4.to_string(), own.v6.to_string()] {
            ip(lab, ROUTER, &["route", "add", &address, "dev", &interface])?;
        }
        let (alive, millis) = (Arc::new(()), Arc::new(AtomicU64::new(0)));
        let (sender, kept) = mpsc::channel::<(Instant, Vec<u8>)>();
        let (lives, length) = (Arc::downgrade(&alive), Arc::clone(&millis));
        let reading = thread::spawn(move || {
            while lives.upgrade().is_some() {
                let Some(packet) = next_packet(&near) else { continue };
                let due = Instant::now() + Duration::from_millis(length.load(Relaxed));
                if sender.send((due, packet)).is_err() {
                    return;
                }
            }
        });
        let writing = thread::spawn(move || {
            for (due, packet) in kept {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // A packet that the server's kernel does not want is lost, as on any way.
                let _ = (&far).write(&packet);
            }
        });
        let this = Self { lab, interface, millis, alive: Some(alive), threads: vec![reading, writing] };
        this.set(delay);
        Ok(this)
    }

    /// Changes the delay of packets that come from now on.
    pub fn set(&self, delay: Duration) {
        self.millis.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Drop for Delay<'_> {
    fn drop(&mut self) {
        drop(self.alive.take());
        for thread in self.threads.drain(..) {
            // A panic of theirs has been told on stderr.
            let _ = thread.join();
        }
        // The interfaces went with their files.
        let gone = ip(self.lab, ROUTER, &["link", "show", &self.interface]).is_err();
        debug_assert!(gone, "{} stays", self.interface);
    }
}

/// Makes a TUN interface in this thread's namespace; it lives as long as the file.
fn tun(name: &str) -> Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun").context("/dev/net/tun")?;
    // SAFETY: plain numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives through the call, and the kernel reads and writes an `ifreq`.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Errno::result(result).with_context(|| format!("the interface {name}"))?;
    Ok(file)
}

/// The next packet, if there is one within [`LOOK`].
fn next_packet(tun: &File) -> Option<Vec<u8>> {
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    let mut wait = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
    if poll(&mut wait, timeout).unwrap_or(0) == 0 {
        return None;
    }
    let mut packet = vec![0; MTU];
    let mut tun = tun;
    match tun.read(&mut packet) {
        Ok(length) => packet.truncate(length),
        Err(error) if error.kind() == ErrorKind::Interrupted => return None,
        Err(error) => panic!("reading a TUN interface: {error}"),
    }
    Some(packet)
}

fn ip(lab: &Lab, name: &str, words: &[&str]) -> Result<String> {
    Cmd::new("ip").args(["-n", &lab.namespace(name)]).args(words).run()
}
