//! A network in namespaces: clients in two regions, a router, redirector boxes, and content servers.
//!
//! ```text
//!   c-fr ─┐        ┌─ box, box2      (VIPs 203.0.113.1 and .2, 2001:db8:a::1 and ::2)
//!         ├── rt ──┤
//!   c-de ─┘        └─ s-fr, s-de, s-deep
//! ```
//!
//! [`topology`] has the addresses. A [`Lab`] made by a test disappears with the value; several may exist at once, as
//! each has a prefix of its own for the names of its namespaces. What a killed process left behind is removed when
//! its prefix is used again. [`Client`] runs other people's programs as a client would, [`Daemon`]
//! runs the redirector in a box, and [`Asker`] checks that a client finds its server through it.

mod ask;
mod clients;
mod command;
pub mod config;
mod daemon;
mod delay;
mod dns_report;
pub mod keys;
mod network;
mod resolvers;
mod servers;
pub mod topology;
mod traffic;
mod wait;
mod xdp_pass;

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    panic,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

pub use ask::{AnswerPath, Asker, Protocol, Risen, Row};
pub use clients::{Client, Curl, Playback, Probe};
pub use command::{Cmd, quoted};
pub use daemon::Daemon;
pub use delay::Delay;
pub use dns_report::{DnsReport, Record};
pub use resolvers::{PARTNER_NAME, PARTNER_SERVER, PartnerServer, Resolver, RootServer, Software};
pub use traffic::{Traffic, during};
pub use wait::wait_for;

use topology::{Family, Node, Role, names, node, with_role};

/// The programs that a lab is made of and that its clients run.
pub const PROGRAMS: [&str; 8] =
    ["ip", "ethtool", "nginx", "dig", "kdig", "curl", "ffprobe", "gst-launch-1.0"];

/// Where labs keep their files.
const RUN_DIR: &str = "/run/redirector-lab";
/// Where `ip netns exec` looks for files to lay over `/etc`, in folders named like the namespaces.
const ETC_NETNS: &str = "/etc/netns";
/// Prefix of the lab that stands on its own.
const STANDING_PREFIX: &str = "rd-";
/// A file in the standing lab's folder that tells that it is complete.
const UP: &str = "up";
/// How many labs of tests may exist at a time.
const SLOTS: usize = 64;
/// How long processes may take to disappear after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A running lab. Its servers serve; the boxes are empty.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    dir: PathBuf,
    /// Held while the lab belongs to this process; a lab without it stays when the value is dropped.
    lock: Option<File>,
}

impl Lab {
    /// A lab for a test, with a prefix that no other process uses; it is removed when the value is dropped.
    ///
    /// # Errors
    /// Without root, or if a program of the lab is missing or fails.
    pub fn start() -> Result<Self> {
        for slot in 0..SLOTS {
            if let Some(lab) = Self::claim(&format!("rd{slot}-"))? {
                return lab.raised();
            }
        }
        bail!("{SLOTS} labs are in use, see {RUN_DIR}")
    }

    /// A lab with a prefix of its own that is removed when the value is dropped, or by [`remove`](Self::remove).
    ///
    /// # Errors
    /// As for [`start`](Self::start), or if a running process has a lab of that prefix.
    pub fn start_as(prefix: &str) -> Result<Self> {
        match Self::claim(prefix)? {
            Some(lab) => lab.raised(),
            None => bail!("a running process has the lab `{prefix}`: wait for it to end, or stop it"),
        }
    }

    /// The lab that stands after this process has ended, until [`take_down`](Self::take_down).
    ///
    /// # Errors
    /// As for [`start`](Self::start), or if it stands already.
    pub fn stand() -> Result<Self> {
        if Self::standing().is_some() {
            bail!("the lab is up already; `cargo xtask lab down` removes it");
        }
        let mut lab = Self::start_as(STANDING_PREFIX)?;
        let mark = lab.dir.join(UP);
        fs::write(&mark, "").with_context(|| mark.display().to_string())?;
        lab.lock = None;
        Ok(lab)
    }

    /// The lab that [`stand`](Self::stand) made, if it is there.
    #[must_use]
    pub fn standing() -> Option<Self> {
        let dir = run_dir(STANDING_PREFIX);
        dir.join(UP).is_file().then(|| Self { prefix: STANDING_PREFIX.into(), dir, lock: None })
    }

    /// Removes the standing lab or what is left of it; nothing happens if there is none.
    ///
    /// # Errors
    /// If something of it cannot be removed.
    pub fn take_down() -> Result<()> {
        match Self::claim(STANDING_PREFIX)? {
            Some(_removed_by_claiming) => Ok(()),
            None => bail!("the lab is being built by another process"),
        }
    }

    /// Takes possession of a prefix and removes whatever is there; `None` if another process has it.
    fn claim(prefix: &str) -> Result<Option<Self>> {
        ensure!(geteuid().is_root(), "network namespaces need root");
        fs::create_dir_all(RUN_DIR).context(RUN_DIR)?;
        let dir = run_dir(prefix);
        let path = dir.with_extension("lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| path.display().to_string()),
        }
        let lab = Self { prefix: prefix.into(), dir, lock: Some(lock) };
        lab.remove()?;
        Ok(Some(lab))
    }

    /// Builds everything in a claimed lab.
    fn raised(self) -> Result<Self> {
        fs::create_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
        network::build(&self)?;
        for client in with_role(Role::Client) {
            let dir = self.etc_dir(client.name);
            fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
            fs::write(dir.join("resolv.conf"), network::resolv_conf(&Family::ALL))?;
        }
        clients::write_resolver_files(&self)?;
        for each in with_role(Role::Box) {
            let bpffs = self.bpffs(each.name);
            fs::create_dir_all(&bpffs).with_context(|| bpffs.display().to_string())?;
            Cmd::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpffs).run()?;
        }
        with_role(Role::Server).try_for_each(|server| servers::start(&self, server))?;
        with_role(Role::Server).try_for_each(|server| servers::wait_until_listening(&self, server))?;
        Ok(self)
    }

    /// Removes the lab's processes, namespaces and files. Dropping an owned lab does this, too.
    ///
    /// # Errors
    /// If something of it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        for name in names() {
            if self.namespace_path(name).exists() {
                self.kill_processes(name)?;
                Cmd::new("ip").args(["netns", "del", &self.namespace(name)]).run()?;
            }
            remove_dir(&self.etc_dir(name))?;
        }
        // Only if it is empty: others may have namespaces with files of their own.
        let _ = fs::remove_dir(ETC_NETNS);
        for each in with_role(Role::Box) {
            let bpffs = self.bpffs(each.name);
            if Cmd::new("mountpoint").arg("-q").arg(&bpffs).output()?.status.success() {
                Cmd::new("umount").arg(&bpffs).run()?;
            }
        }
        remove_dir(&self.dir)
    }

    /// Folder for the lab's files: a box's or server's are in a folder of its name.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The network namespace of a node, as `ip netns` knows it.
    #[must_use]
    pub fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn namespace_path(&self, name: &str) -> PathBuf {
        Path::new("/run/netns").join(self.namespace(name))
    }

    /// The folder of a node there.
    fn etc_dir(&self, name: &str) -> PathBuf {
        Path::new(ETC_NETNS).join(self.namespace(name))
    }

    /// A box's BPF file system, kept outside its processes so that pins survive them.
    fn bpffs(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("bpf")
    }

    /// A command line (program and arguments) to be run at a node. In a box, `/sys/fs/bpf` is the box's own.
    #[must_use]
    pub fn exec<A: AsRef<OsStr>>(&self, name: &str, command: impl IntoIterator<Item = A>) -> Cmd {
        if with_role(Role::Box).any(|each| each.name == name) {
            return self.exec_with(name, &[(&self.bpffs(name), "/sys/fs/bpf")], command);
        }
        self.plain_exec(name, command)
    }

    /// As [`exec`](Self::exec), with files or folders laid over others for this one command.
    fn exec_with<A: AsRef<OsStr>>(
        &self,
        name: &str,
        overlays: &[(&Path, &str)],
        command: impl IntoIterator<Item = A>,
    ) -> Cmd {
        // `ip netns exec` gives every command a mount namespace of its own.
        let script =
            r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@""#;
        let mut shell = self.plain_exec(name, ["sh", "-c", script, "sh"]);
        for (from, to) in overlays {
            shell = shell.arg(from).arg(to);
        }
        shell.arg("--").args(command)
    }

    fn plain_exec<A: AsRef<OsStr>>(&self, name: &str, command: impl IntoIterator<Item = A>) -> Cmd {
        Cmd::new("ip").args(["netns", "exec", &self.namespace(name)]).args(command)
    }

    /// Calls `action` in the network namespace of a node, on a thread of its own.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn within<T: Send>(&self, name: &str, action: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.namespace_path(name);
        let namespace = File::open(&path).with_context(|| path.display().to_string())?;
        let entered = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).with_context(|| path.display().to_string())?;
            Ok(action())
        };
        thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Other people's programs at a client, speaking one family only.
    ///
    /// # Panics
    /// If `name` is not a node of the lab.
    #[must_use]
    pub fn client(&self, name: &str, family: Family) -> Client<'_> {
        Client::new(self, node(name), family)
    }

    /// Starts the web and RTSP server of a node again after [`stop_servers`](Self::stop_servers).
    ///
    /// # Errors
    /// If they do not listen in time.
    ///
    /// # Panics
    /// If `name` is not a node of the lab.
    pub fn start_servers(&self, name: &str) -> Result<()> {
        let server: &Node = node(name);
        servers::start(self, server)?;
        servers::wait_until_listening(self, server)
    }

    /// Kills the web and RTSP server of a node: its ports refuse connections from now on.
    ///
    /// # Errors
    /// If they do not end in time.
    pub fn stop_servers(&self, name: &str) -> Result<()> {
        self.kill_processes(name)
    }

    /// Kills every process in a node's namespace.
    fn kill_processes(&self, name: &str) -> Result<()> {
        let namespace = self.namespace(name);
        let mut failure = None;
        wait_for(&format!("end of the processes in {namespace}"), KILL_LIMIT, || {
            let pids = match Cmd::new("ip").args(["netns", "pids", &namespace]).run() {
                Ok(pids) => pids,
                Err(error) => {
                    failure = Some(error);
                    return Some(());
                }
            };
            for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                // One that has ended meanwhile is what is wanted.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            pids.is_empty().then_some(())
        })?;
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(error) = self.remove()
        {
            eprintln!("the lab `{}` was not removed: {error:#}", self.prefix);
        }
    }
}

/// The folder of the lab with that prefix.
fn run_dir(prefix: &str) -> PathBuf {
    Path::new(RUN_DIR).join(prefix.trim_end_matches('-'))
}

fn remove_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    Ok(())
}
