//! What the integration tests share: finding the built artefacts, and refusing to run where they cannot.
//!
//! A test that needs something of the machine asks for it first:
//!
//! ```no_run
//! let Some(object) = redirector_tests::require_root_and_bpf() else { return };
//! ```
//!
//! A missing capability is a skip that names its reason. With `CI=true` in the environment it is a failure,
//! because a suite that skipped its way to green proves nothing.

pub mod agreement;
pub mod attached;
pub mod bpffs;
pub mod frames;
pub mod generate;
pub mod invariants;
pub mod lab;
pub mod limited;
pub mod networks;
pub mod questions;
pub mod slow;
pub mod written;

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    thread,
};

/// Bits of `CapEff` in `/proc/self/status`, from `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// For a test that makes network namespaces and loads BPF programs: the path of the compiled XDP object
/// (`REDIRECTOR_BPF_OBJECT`), or `None` after having reported the skip.
///
/// # Panics
/// With `CI=true`, if something is missing.
#[must_use]
pub fn require_root_and_bpf() -> Option<PathBuf> {
    if !require_root() {
        return None;
    }
    match bpf_object() {
        Ok(object) => Some(object),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// For a test that makes network namespaces: whether this process may, after having reported the skip if not.
///
/// # Panics
/// With `CI=true`, if it may not.
#[must_use]
pub fn require_root() -> bool {
    let effective = effective_capabilities();
    let missing: Vec<&str> = [(CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")]
        .into_iter()
        .filter(|(bit, _)| effective >> bit & 1 == 0)
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("lacks {}: run as root", missing.join(" and ")));
    false
}

/// For a test that drives other people's programs: whether all `commands` are installed, after having reported
/// the skip if not.
///
/// # Panics
/// With `CI=true`, if one is missing.
#[must_use]
pub fn require_commands(commands: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = commands
        .iter()
        .copied()
        .filter(|command| !env::split_paths(&path).any(|dir| dir.join(command).is_file()))
        .collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("{} not installed: run `cargo xtask setup`", missing.join(", ")));
    false
}

/// For a test that needs a network with clients and servers: a lab of its own, or `None` after having reported the
/// skip.
///
/// # Panics
/// With `CI=true`, if something is missing; and if the lab cannot be built.
#[must_use]
pub fn require_lab() -> Option<lab::Lab> {
    let possible = require_root() && require_commands(&lab::PROGRAMS);
    possible.then(|| lab::Lab::start().unwrap_or_else(|error| panic!("{error:#}")))
}

/// The path of one of the workspace's own programs (`redirector`, `cdsr`), as `cargo xtask build` made it.
///
/// # Panics
/// If it was not built: that is a mistake in how the tests were started, not a missing capability.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let dir = env::var_os("REDIRECTOR_BIN_DIR").map_or_else(default_bin_dir, PathBuf::from);
    let program = dir.join(name);
    assert!(program.is_file(), "{} is not there: start the tests by `cargo xtask test`", program.display());
    program
}

/// The path of a daemon whose tables have another layout, as that of some later version will have.
///
/// # Panics
/// If it was not built: that is a mistake in how the tests were started, not a missing capability.
#[must_use]
pub fn next_daemon() -> PathBuf {
    let dir = env::var_os("REDIRECTOR_NEXT_BIN_DIR").map_or_else(default_next_dir, PathBuf::from);
    let program = dir.join("redirector");
    assert!(program.is_file(), "{} is not there: start the tests by `cargo xtask test`", program.display());
    program
}

fn default_next_dir() -> PathBuf {
    default_bin_dir().with_file_name("next")
}

/// The folder above `deps/`, where cargo puts both this test and the programs of the same profile.
fn default_bin_dir() -> PathBuf {
    let exe = env::current_exe().expect("the path of the running test");
    exe.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_path_buf)
}

fn bpf_object() -> Result<PathBuf, String> {
    let remedy = "start the tests by `cargo xtask test`";
    let object = env::var_os("REDIRECTOR_BPF_OBJECT")
        .map(PathBuf::from)
        .ok_or_else(|| format!("REDIRECTOR_BPF_OBJECT is not set: {remedy}"))?;
    if object.is_file() {
        Ok(object)
    } else {
        Err(format!("REDIRECTOR_BPF_OBJECT={} is not there: {remedy}", object.display()))
    }
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// Reports that the running test was skipped: on stderr, and in the file that `cargo xtask test` prints at its
/// end, because test runners hide what a passing test says.
fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("?").to_owned();
    assert!(env::var("CI").as_deref() != Ok("true"), "{test} must run where CI=true, but: {reason}");
    let line = format!("SKIPPED {test}: {reason}\n");
    eprint!("{line}");
    if let Some(log) = env::var_os("REDIRECTOR_SKIP_LOG") {
        let written = fs::OpenOptions::new().create(true).append(true).open(&log);
        written.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skip log can be written");
    }
}
