//! `cargo xtask build`: the XDP program, then the programs that embed it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{cmd::Cmd, project, setup, toolchain};

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Build as the tests do: quicker to build, slower to run, with overflow checks. (The XDP program is the same.)
    #[arg(long)]
    dev: bool,
}

/// How the userspace programs are compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    /// For the inner loop and the tests.
    Dev,
    /// For boxes, demos and benchmarks.
    Release,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// What a build made.
#[derive(Debug)]
pub(crate) struct Artifacts {
    /// The compiled XDP program, an ELF object with BTF.
    pub(crate) object: PathBuf,
    /// The folder with the programs `redirector` and `cdsr`.
    pub(crate) bin_dir: PathBuf,
}

impl Artifacts {
    /// The environment by which build scripts and tests find the artefacts. Every cargo invocation for the
    /// workspace gets it: a build with and one without would rebuild each other's work.
    pub(crate) fn envs(&self) -> [(&'static str, &PathBuf); 2] {
        [("REDIRECTOR_BPF_OBJECT", &self.object), ("REDIRECTOR_BIN_DIR", &self.bin_dir)]
    }

    /// The path of one of the built programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

pub(crate) fn run(args: &BuildArgs) -> Result<()> {
    setup::ensure(&[setup::Purpose::Build])?;
    let artifacts = all(if args.dev { Profile::Dev } else { Profile::Release })?;
    let size = std::fs::metadata(&artifacts.object)?.len();
    println!("built {} ({size} bytes)", artifacts.object.display());
    for name in ["redirector", "cdsr"] {
        println!("built {}", artifacts.program(name).display());
    }
    Ok(())
}

/// Builds the XDP program and then the workspace's programs with it inside.
pub(crate) fn all(profile: Profile) -> Result<Artifacts> {
    let artifacts = Artifacts { object: ebpf()?, bin_dir: project::target_dir().join(profile.folder()) };
    let release = (profile == Profile::Release).then_some("--release");
    Cmd::cargo()
        .args(["build", "--package", "redirector", "--package", "cdsr"])
        .args(release)
        .envs(artifacts.envs())
        .run()?;
    Ok(artifacts)
}

/// Builds the XDP program alone and gives the object's path.
pub(crate) fn ebpf() -> Result<PathBuf> {
    ebpf_object("redirector-ebpf")
}

/// Builds the programs that the benchmark runs beside the XDP program, and gives their object's path.
pub(crate) fn bench_feeder() -> Result<PathBuf> {
    ebpf_object("bench-feeder")
}

fn ebpf_object(bin: &str) -> Result<PathBuf> {
    for_ebpf(&toolchain::find()?, Cmd::cargo()).args(["build", "--release", "--bin", bin]).run()?;
    let object = ebpf_target_dir().join("bpfel-unknown-none/release").join(bin);
    object.metadata().with_context(|| format!("{bin} was built, but {} is not there", object.display()))?;
    Ok(object)
}

/// Sets a cargo up for `redirector-ebpf`, whose own `.cargo/config.toml` it reads because it runs there.
pub(crate) fn for_ebpf(toolchain: &toolchain::BpfToolchain, cargo: Cmd) -> Cmd {
    toolchain
        .configure(cargo)
        .dir(project::root().join("redirector-ebpf"))
        // Not the workspace's folder: two lockfiles, two compilers, and cargo would lock one against the other.
        .env("CARGO_TARGET_DIR", ebpf_target_dir())
}

fn ebpf_target_dir() -> PathBuf {
    project::target_dir().join("bpf")
}
