//! `cargo xtask build`: the XDP program, then the programs that embed it.

use std::{
    fs,
    path::{Path, PathBuf},
};

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

/// Folder of the other version of the daemon.
const NEXT: &str = "next";

/// What a build made.
#[derive(Debug)]
pub(crate) struct Artifacts {
    /// The compiled XDP program, an ELF object with BTF.
    pub(crate) object: PathBuf,
    /// The folder with the programs `redirector` and `cdsr`.
    pub(crate) bin_dir: PathBuf,
    /// The folder with a `redirector` of another table layout, if tests are to be run.
    pub(crate) next_dir: PathBuf,
}

impl Artifacts {
    /// The environment by which build scripts and tests find the artefacts. Every cargo invocation for the
    /// workspace gets it: a build with and one without would rebuild each other's work.
    pub(crate) fn envs(&self) -> [(&'static str, &PathBuf); 3] {
        [
            ("REDIRECTOR_BPF_OBJECT", &self.object),
            ("REDIRECTOR_BIN_DIR", &self.bin_dir),
            ("REDIRECTOR_NEXT_BIN_DIR", &self.next_dir),
        ]
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
    let target = project::target_dir();
    let (bin_dir, next_dir) = (target.join(profile.folder()), target.join(NEXT));
    let artifacts = Artifacts { object: ebpf()?, bin_dir, next_dir };
    let release = (profile == Profile::Release).then_some("--release");
    Cmd::cargo()
        .args(["build", "--package", "redirector", "--package", "cdsr"])
        .args(release)
        .envs(artifacts.envs())
        .run()?;
    Ok(artifacts)
}

/// Builds what tests need: the programs, and a version of the daemon with another table layout to upgrade to.
pub(crate) fn for_tests() -> Result<Artifacts> {
    let target = project::target_dir();
    let next = target.join(NEXT);
    fs::create_dir_all(&next).with_context(|| next.display().to_string())?;
    // Both versions are built in the same folders, so that they share what they have in common: this one first, and
    // then the other takes its name there.
    let object = next.join("redirector-ebpf");
    let features = ["--features", "next-layout"];
    for_ebpf(&toolchain::find()?, Cmd::cargo())
        .args(["build", "--release", "--bin", "redirector-ebpf"])
        .args(features)
        .run()?;
    copy(&ebpf_object_path("redirector-ebpf"), &object)?;
    Cmd::cargo()
        .args(["build", "--package", "redirector", "--bin", "redirector"])
        .args(features)
        .env("REDIRECTOR_BPF_OBJECT", &object)
        .run()?;
    copy(&target.join(Profile::Dev.folder()).join("redirector"), &next.join("redirector"))?;
    all(Profile::Dev)
}

/// Copies a file unless the copy is the same already: its time tells cargo whether to build what is made of it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    if fs::read(to).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    // A running program cannot be written to, but replaced.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).with_context(|| to.display().to_string())
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
    let object = ebpf_object_path(bin);
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

fn ebpf_object_path(bin: &str) -> PathBuf {
    ebpf_target_dir().join("bpfel-unknown-none/release").join(bin)
}

fn ebpf_target_dir() -> PathBuf {
    project::target_dir().join("bpf")
}
