//! The daemon of the box: its fast path is attached in the driver of an interface without traffic, from where the
//! benchmark takes the program.

use crate::clients::CPU;
use crate::ends::ip;
use anyhow::{Context as _, Result, bail};
use aya::programs::{ProgramFd, loaded_programs};
use redirector_plan::model::Network;
use redirector_tests::attached::Attached;
use redirector_tests::bpffs::Bpffs;
use redirector_tests::lab::{Cmd, wait_for};
use redirector_tests::{program, written};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

/// The interface without traffic, and its other end.
const SPARE: [&str; 2] = ["spare", "spare-peer"];
/// How long the daemon may take to start.
const START: Duration = Duration::from_secs(30);

/// A running daemon; it ends with the value.
pub(crate) struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    bpffs: Bpffs,
}

impl Daemon {
    /// Starts it in the namespace of the box, with this network and the limits that hold unless others are written.
    pub(crate) fn start(network: &Network) -> Result<Self> {
        let [spare, peer] = SPARE;
        ip(format!(
            "link add {spare} type veth peer name {peer}\nlink set {spare} up\nlink set {peer} up\n"
        ))?;
        let (dir, bpffs) = (tempfile::tempdir()?, Bpffs::mount()?);
        let file = dir.path().join("redirector.toml");
        fs::write(&file, written::tables(network, Some(spare)).concat())?;
        // A mount namespace in which /sys is that of this network namespace, with pins of its own.
        let script = r#"mount -t sysfs sysfs /sys && mount --bind "$1" /sys/fs/bpf && shift && exec "$@""#;
        let child = Cmd::new("taskset")
            .args(["--cpu-list", &CPU.to_string()])
            // So that it is not left behind, whatever becomes of the benchmark.
            .args(["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", script, "sh"])
            .arg(bpffs.path())
            .arg(program("redirector"))
            .args(["run", "--config"])
            .arg(file)
            .arg("--state")
            .arg(dir.path().join("state"))
            .arg("--socket")
            .arg(dir.path().join("socket"))
            .spawn(&dir.path().join("log"))?;
        let mut daemon = Self { child, dir, bpffs };
        let ready = wait_for("control socket", START, || match daemon.child.try_wait() {
            Ok(None) => UnixStream::connect(daemon.socket()).ok().map(|_| true),
            _ => Some(false),
        });
        match ready {
            Ok(true) => Ok(daemon),
            Ok(false) => bail!("the daemon ended:\n{}", daemon.log()),
            Err(error) => Err(error.context(daemon.log())),
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The program that it has attached.
    pub(crate) fn fast_path(&self) -> Result<ProgramFd> {
        let pin = self.bpffs.path().join("redirector/links/native").join(SPARE[0]);
        let [_, number] = Attached::open(&pin).with_context(|| self.log())?.numbers()?;
        for info in loaded_programs() {
            let info = info?;
            if info.id() == number {
                return Ok(info.fd()?);
            }
        }
        bail!("program {number} is gone")
    }

    /// How often the fast path had each reason.
    pub(crate) fn reasons(&self) -> Result<BTreeMap<String, u64>> {
        let told =
            Cmd::new(program("redirector")).args(["stats", "--json", "--socket"]).arg(self.socket()).run()?;
        let told: Value = serde_json::from_str(&told)?;
        Ok(serde_json::from_value(told["fast"]["reasons"].clone())?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
