//! `cargo xtask setup`: installs what is missing, and only that.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{
    cmd::{self, Cmd},
    packages, project, toolchain,
};

/// The bpf-linker that is known to work, and the major version of the LLVM that it is built against.
const BPF_LINKER: &str = "bpf-linker@0.13.0";
const LLVM: u32 = 22;

/// A nightly whose LLVM is `LLVM`: an unpinned one outruns the linker's.
const NIGHTLY: &str = "nightly-2026-05-19";

const CARGO_DENY: &str = "cargo-deny@0.20.2";
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";

#[derive(Args)]
pub(crate) struct SetupArgs {
    /// What this machine is to be able to do. Everything if nothing is named.
    purposes: Vec<Purpose>,
}

/// What a part of the tools is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Purpose {
    /// Compiling, the XDP program included.
    Build,
    /// rustfmt, clippy and cargo-deny.
    Lint,
    /// Clients that the tests drive.
    Test,
    /// Servers and players of the lab.
    Demo,
    /// Name servers that the fast path is compared with.
    Peers,
    /// Fuzzing.
    Fuzz,
}

pub(crate) fn run(args: &SetupArgs) -> Result<()> {
    let purposes = if args.purposes.is_empty() { Purpose::value_variants() } else { &args.purposes };
    ensure(purposes)?;
    let toolchain = toolchain::find()?;
    println!(
        "setup: the XDP program is built by {} and {}",
        toolchain.rustc.display(),
        toolchain.linker.display()
    );
    Ok(())
}

/// Makes sure that this machine can do `purposes`.
///
/// # Errors
/// If something is missing and cannot be installed: says what, and what would help.
pub(crate) fn ensure(purposes: &[Purpose]) -> Result<()> {
    for purpose in purposes {
        match purpose {
            Purpose::Build => build(),
            Purpose::Lint => lint(),
            Purpose::Test => packages::install(packages::TEST),
            Purpose::Demo => packages::install(packages::DEMO),
            Purpose::Peers => packages::install(packages::PEERS),
            Purpose::Fuzz => fuzz(),
        }
        .with_context(|| format!("setup for {purpose:?}"))?;
    }
    Ok(())
}

fn build() -> Result<()> {
    if cmd::find_program("cc").is_none() {
        packages::install(packages::BUILD)?;
    }
    if toolchain::find().is_ok() {
        return Ok(());
    }
    if packages::available()
        && let Err(error) = packages::install(packages::BPF)
    {
        eprintln!("warning: Debian's Rust compiler cannot be had: {error:#}");
    }
    if !toolchain::has_compiler() {
        Cmd::new("rustup")
            .args(["toolchain", "install", NIGHTLY, "--profile", "minimal"])
            .args(["--component", "rust-src", "--component", "clippy"])
            .run()
            .context(
                "no Rust compiler for the BPF target can be installed. Either add Debian's security archive to the \
                 package sources, as root, for rustc-web and rust-web-src, or let rustup reach \
                 static.rust-lang.org for a nightly with rust-src",
            )?;
    }
    if toolchain::find().is_err() {
        install_bpf_linker()?;
    }
    toolchain::find().map(drop)
}

/// Also when one is there: it was built against an LLVM older than the compiler's.
fn install_bpf_linker() -> Result<()> {
    cargo_install(BPF_LINKER)
        .args(["--force", "--no-default-features", "--features", &format!("llvm-{LLVM}")])
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"))
        .run()
        .with_context(|| {
            format!(
                "bpf-linker needs the development files of LLVM {LLVM} in /usr/lib/llvm-{LLVM}: install {}, or put a \
                 ready-made {BPF_LINKER} into PATH",
                packages::BPF.join(" ")
            )
        })
}

fn lint() -> Result<()> {
    let has = |tool: &str| Cmd::cargo().args([tool, "--version"]).succeeds();
    if !(has("fmt") && has("clippy")) {
        let by_rustup = cmd::find_program("rustup").is_some()
            && Cmd::new("rustup").args(["component", "add", "rustfmt", "clippy"]).run().is_ok();
        if !by_rustup {
            packages::install(packages::LINT)?;
        }
    }
    if let Ok(toolchain) = toolchain::find()
        && toolchain.is_debian()
        && toolchain.clippy().is_none()
        && let Err(error) = packages::install(packages::BPF_LINT)
    {
        eprintln!("warning: the XDP program cannot be linted: {error:#}");
    }
    if !has("deny") {
        cargo_install(CARGO_DENY).run()?;
    }
    cpp()
}

fn fuzz() -> Result<()> {
    if !Cmd::cargo().args(["fuzz", "--version"]).succeeds() {
        cargo_install(CARGO_FUZZ).run()?;
    }
    cpp()
}

/// libFuzzer is compiled with the fuzz targets.
fn cpp() -> Result<()> {
    if cmd::find_program("c++").is_some() { Ok(()) } else { packages::install(packages::FUZZ) }
}

/// The tools' build folder is kept apart from the project's, and for the next tool.
fn cargo_install(what: &str) -> Cmd {
    Cmd::cargo()
        .args(["install", what, "--locked"])
        .env("CARGO_TARGET_DIR", project::target_dir().join("tools"))
        .env_remove("RUSTC")
        .env_remove("RUSTFLAGS")
}
