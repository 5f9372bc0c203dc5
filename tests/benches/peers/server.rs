//! Other people's name servers, with the names and clients of the workload.

use crate::ends::cpu_time;
use crate::questions::Asked;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use redirector_tests::lab::{Cmd, wait_for};
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

/// The CPU that a server has for itself.
const CPU: &str = "1";
/// How long a server may take to end when it is told to.
const END: Duration = Duration::from_secs(10);

/// A name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Software {
    Gdnsd,
    Knot,
    Nsd,
}

impl Software {
    /// In the order of the report.
    pub(crate) const ALL: [Self; 3] = [Self::Gdnsd, Self::Knot, Self::Nsd];

    /// As the report names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gdnsd => "gdnsd, geoip",
            Self::Knot => "knotd, geoip",
            Self::Nsd => "nsd, static",
        }
    }

    /// The address that it gives to clients of a region.
    pub(crate) fn address(self, region: usize) -> Ipv4Addr {
        match self {
            Self::Gdnsd | Self::Knot => of_region(region),
            Self::Nsd => of_region(0),
        }
    }

    /// What to do if it does not start.
    pub(crate) fn remedy(self) -> String {
        let packages = match self {
            Self::Gdnsd => "gdnsd",
            Self::Knot => "knot and knot-module-geoip",
            Self::Nsd => "nsd",
        };
        format!("if it is not installed: `cargo xtask setup peers` installs Debian's {packages}")
    }

    fn command(self, dir: &Path) -> Cmd {
        // Other work on the machine would have it lose queries; it makes an answer neither cheaper nor dearer.
        let preferred = Cmd::new("chrt").args(["--fifo", "1"]);
        let pinned = preferred.args(["taskset", "--cpu-list", CPU]);
        // So that none is left behind, whatever becomes of the benchmark.
        let bound = pinned.args(["setpriv", "--pdeathsig", "KILL"]);
        match self {
            Self::Gdnsd => bound.args(["gdnsd", "-c"]).arg(dir).arg("start"),
            Self::Knot => bound.args(["knotd", "-c"]).arg(dir.join("knot.conf")),
            Self::Nsd => bound.args(["nsd", "-d", "-c"]).arg(dir.join("nsd.conf")),
        }
    }

    /// Writes its configuration; every file is where one of them looks for it.
    fn configure(self, dir: &Path, asked: &Asked) -> Result<()> {
        for folder in ["run", "state", "zones", "geoip"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let (file, template, record) = match self {
            Self::Gdnsd => ("config", include_str!("gdnsd.conf"), "DYNA geoip!servers".to_owned()),
            Self::Knot => ("knot.conf", include_str!("knot.conf"), format!("A {}", of_region(0))),
            Self::Nsd => ("nsd.conf", include_str!("nsd.conf"), format!("A {}", of_region(0))),
        };
        fs::write(dir.join(file), fill(template, dir, asked))?;
        fs::write(dir.join("zones").join(&asked.zone), zone(asked, &record)?)?;
        match self {
            Self::Gdnsd => fs::write(dir.join("geoip/clients"), gdnsd_clients(asked)?)?,
            Self::Knot => fs::write(dir.join("clients"), knot_clients(asked)?)?,
            Self::Nsd => {}
        }
        Ok(())
    }
}

/// Addresses from a block for documentation: nobody connects to them.
fn of_region(region: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, region as u8 + 1)
}

fn fill(template: &str, dir: &Path, asked: &Asked) -> String {
    let list = |item: fn(usize) -> String| (0..asked.regions).map(item).collect::<Vec<_>>().join(", ");
    template
        .replace("@DIR@", &dir.display().to_string())
        .replace("@VIP@", &asked.vip.to_string())
        .replace("@ZONE@", &asked.zone)
        .replace("@DATACENTERS@", &list(|region| format!("r{region}")))
        .replace("@DCMAP@", &list(|region| format!("r{region} => {}", of_region(region))))
}

fn zone(asked: &Asked, record: &str) -> Result<String> {
    let mut text =
        format!("@ 3600 SOA ns1 hostmaster 1 3600 600 86400 60\n@ 3600 NS ns1\nns1 3600 A {}\n", asked.vip);
    for name in &asked.names {
        writeln!(text, "{name}. 20 {record}")?;
    }
    Ok(text)
}

fn gdnsd_clients(asked: &Asked) -> Result<String> {
    let mut text = String::new();
    for (net, region) in &asked.clients {
        writeln!(text, "{net} => r{region}")?;
    }
    Ok(text)
}

fn knot_clients(asked: &Asked) -> Result<String> {
    let mut text = String::new();
    for name in &asked.names {
        writeln!(text, "{name}:")?;
        for (net, region) in &asked.clients {
            writeln!(text, "  - net: {net}\n    A: {}", of_region(*region))?;
        }
    }
    Ok(text)
}

/// A configured server.
pub(crate) struct Server {
    pub(crate) software: Software,
    dir: PathBuf,
}

impl Server {
    /// Writes its configuration into a folder below `dir`.
    pub(crate) fn new(software: Software, dir: &Path, asked: &Asked) -> Result<Self> {
        let dir = dir.join(format!("{software:?}"));
        software.configure(&dir, asked).with_context(|| dir.display().to_string())?;
        Ok(Self { software, dir })
    }

    /// Starts it. Whoever calls waits until it answers.
    pub(crate) fn start(&self) -> Result<Running<'_>> {
        let log = self.dir.join("log");
        let child = self.software.command(&self.dir).spawn(&log)?;
        Ok(Running { server: self, child })
    }
}

/// A server's processes; they end with the value.
pub(crate) struct Running<'s> {
    server: &'s Server,
    child: Child,
}

impl Running<'_> {
    /// CPU time of all its processes so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        processes()?.into_iter().map(|pid| cpu_time(ClockId::pid_cpu_clock_id(pid)?)).sum()
    }

    /// Fails if it has ended: with what it said, and what helps if it is not installed.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        bail!("it ended: {status}\n{}{}", self.said(), self.server.software.remedy())
    }

    fn said(&self) -> String {
        fs::read_to_string(self.server.dir.join("log")).unwrap_or_default()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        }
        wait_for("the server's end", END, || match self.child.try_wait() {
            Ok(Some(_)) if processes().is_ok_and(|left| left.is_empty()) => Some(()),
            _ => None,
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error:#}", self.server.software.name());
            for pid in processes().unwrap_or_default() {
                // It may just have ended.
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// All other processes in the network namespace of this one: a server forks.
fn processes() -> Result<Vec<Pid>> {
    let own = fs::read_link("/proc/self/ns/net")?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let there = fs::read_link(entry.path().join("ns/net"));
        if pid.cast_unsigned() != std::process::id() && there.is_ok_and(|there| there == own) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
