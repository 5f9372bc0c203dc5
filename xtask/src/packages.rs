//! Debian packages: which ones are needed for what, and installing those that are missing.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Once,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cmd::{self, Cmd},
    signals,
};

/// A C compiler to link with: some crates on the way to the XDP program's linker want one.
pub(crate) const BUILD: &[&str] = &["gcc", "libc6-dev"];

/// A C++ compiler, for libFuzzer.
pub(crate) const FUZZ: &[&str] = &["g++"];

/// Debian's Rust compiler with the source of `core`, the LLVM that it and bpf-linker share, what that LLVM is
/// linked with.
pub(crate) const BPF: &[&str] = &[
    "g++",
    "rustc-web",
    "rust-web-src",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "libxml2-dev",
];

/// The clippy of Debian's compiler, for the XDP program.
pub(crate) const BPF_LINT: &[&str] = &["rust-web-clippy"];

/// rustfmt and clippy for a cargo that came from Debian.
pub(crate) const LINT: &[&str] = &["rustfmt-web", "rust-web-clippy"];

/// What the tests drive: network namespaces, and other people's clients, resolvers and routing daemons.
pub(crate) const TEST: &[&str] = &[
    "iproute2",
    "ethtool",
    "iputils-ping",
    "bind9-dnsutils",
    "knot-dnsutils",
    "unbound",
    "knot-resolver",
    "curl",
    "gstreamer1.0-tools",
    "bird2",
];

/// The servers and players of the lab, which the demo shows and the tests use, too.
pub(crate) const DEMO: &[&str] = &[
    "nginx-light",
    "ffmpeg",
    "python3",
    "python3-gi",
    "gir1.2-gst-rtsp-server-1.0",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
];

/// The name servers that the fast path is compared with, and what joins them with their clients.
pub(crate) const PEERS: &[&str] =
    &["gdnsd", "knot", "knot-module-geoip", "nsd", "iproute2", "ethtool", "util-linux"];

/// Those of `packages` that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &str| {
        Cmd::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}", package])
            .read()
            .is_ok_and(|status| status == "installed")
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// Whether this machine has Debian's package manager.
pub(crate) fn available() -> bool {
    cmd::find_program("apt-get").is_some()
}

/// Installs those of `packages` that are missing. None of the daemons among them is started.
///
/// # Errors
/// If something is missing and this is not Debian, or not root, or apt fails. The error says what to do.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !available() {
        bail!("this is not Debian: install what its packages {list} hold by your own package manager");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: run `apt-get install --no-install-recommends {list}` as root");
    }
    update_once();
    let _guard = NoDaemons::enter().context("keeping packages from starting daemons")?;
    apt_get().args(["install", "--yes", "--no-install-recommends"]).args(missing).run()
}

/// A source that cannot be reached is a warning: the packages may be known, or come from another.
fn update_once() {
    static UPDATED: Once = Once::new();
    UPDATED.call_once(|| {
        if let Err(error) = apt_get().arg("update").run() {
            eprintln!("warning: {error:#}");
        }
    });
}

fn apt_get() -> Cmd {
    Cmd::new("apt-get").args(["-o", "DPkg::Lock::Timeout=300"]).env("DEBIAN_FRONTEND", "noninteractive")
}

/// What Debian's maintainer scripts ask before they start or stop a service; 101 is "forbidden".
const POLICY: &str = "/usr/sbin/policy-rc.d";
const REFUSE: &str = "#!/bin/sh\n# Written by `cargo xtask setup` while it installs packages.\nexit 101\n";

/// While it lives, package installation starts no daemons. The machine's own policy comes back when it is
/// dropped, also after Ctrl-C; after a crash, the next installation brings it back.
struct NoDaemons {
    policy: PathBuf,
    saved: PathBuf,
}

impl NoDaemons {
    fn enter() -> Result<Self> {
        signals::outlive()?;
        Self::replace(Path::new(POLICY))
    }

    fn replace(policy: &Path) -> Result<Self> {
        let guard = Self { policy: policy.to_owned(), saved: policy.with_extension("d.before-xtask") };
        // Ours is there only after a crash, and then the machine's own, if it had one, is the saved one.
        let ours = fs::read_to_string(policy).is_ok_and(|text| text == REFUSE);
        if !ours {
            absent_is_fine(fs::rename(policy, &guard.saved))?;
        }
        fs::write(policy, REFUSE)?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        let restored = fs::remove_file(&self.policy)
            .and_then(|()| absent_is_fine(fs::rename(&self.saved, &self.policy)));
        if let Err(error) = restored {
            eprintln!(
                "warning: {} is still the one that refuses to start daemons: {error}",
                self.policy.display()
            );
        }
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|err| if err.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(err) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn the_machines_own_daemon_policy_comes_back() {
        let dir = scratch("policy");
        let policy = dir.join("policy-rc.d");
        fs::write(&policy, "own").unwrap();
        let guard = NoDaemons::replace(&policy).unwrap();
        assert_eq!(fs::read_to_string(&policy).unwrap(), REFUSE);
        drop(guard);
        assert_eq!(fs::read_to_string(&policy).unwrap(), "own");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn no_daemon_policy_is_left_where_there_was_none() {
        let dir = scratch("no-policy");
        drop(NoDaemons::replace(&dir.join("policy-rc.d")).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_crash_between_does_not_lose_the_machines_own_daemon_policy() {
        let dir = scratch("policy-crash");
        let policy = dir.join("policy-rc.d");
        fs::write(&policy, "own").unwrap();
        std::mem::forget(NoDaemons::replace(&policy).unwrap());
        drop(NoDaemons::replace(&policy).unwrap());
        assert_eq!(fs::read_to_string(&policy).unwrap(), "own");
        fs::remove_dir_all(dir).unwrap();
    }
}
