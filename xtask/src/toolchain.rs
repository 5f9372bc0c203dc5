//! The compiler and linker for the XDP program.
//!
//! The BPF target has no ready-made `core`: it takes a compiler whose `rust-src` is installed (Debian's, or a
//! nightly of rustup) and a `bpf-linker` whose LLVM reads that compiler's bitcode. Whether the two fit is tried
//! out, not guessed from version numbers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail, ensure};

use crate::{
    cmd::{self, Cmd},
    project,
};

/// Debian's compiler, whatever a rustup in `PATH` hides it by.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler and a linker that were seen to work together.
#[derive(Debug)]
pub(crate) struct BpfToolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) linker: PathBuf,
}

impl BpfToolchain {
    /// Makes a cargo command use this toolchain.
    pub(crate) fn configure(&self, cargo: Cmd) -> Cmd {
        cargo
            .env("RUSTC", &self.rustc)
            // `-Z build-std` is for nightly compilers otherwise.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            // Flags in the environment would replace those of redirector-ebpf/.cargo/config.toml.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
    }

    /// Whether the compiler is Debian's.
    pub(crate) fn is_debian(&self) -> bool {
        self.rustc == Path::new(DEBIAN_RUSTC)
    }

    /// The programs of clippy that belong to this compiler, if they are installed: the cargo subcommand.
    pub(crate) fn clippy(&self) -> Option<PathBuf> {
        let dir = self.rustc.parent()?;
        let complete = dir.join("clippy-driver").is_file();
        Some(dir.join("cargo-clippy")).filter(|path| complete && path.is_file())
    }
}

/// The first compiler that works with the installed `bpf-linker`.
///
/// # Errors
/// If there is none: says why each candidate is no good.
pub(crate) fn find() -> Result<BpfToolchain> {
    let linker = linker().ok_or_else(|| anyhow!("bpf-linker is not installed: run `cargo xtask setup`"))?;
    let mut reasons = Vec::new();
    for rustc in candidates() {
        match usable(&rustc).and_then(|()| links(&rustc, &linker)) {
            Ok(()) => return Ok(BpfToolchain { rustc, linker }),
            Err(reason) => reasons.push(format!("  {}: {reason:#}", rustc.display())),
        }
    }
    if reasons.is_empty() {
        reasons.push("  neither Debian's rustc nor a nightly of rustup is installed".to_owned());
    }
    bail!("no compiler for the XDP program (run `cargo xtask setup`):\n{}", reasons.join("\n"))
}

/// Whether there is a compiler that could build for BPF, whatever the linker.
pub(crate) fn has_compiler() -> bool {
    candidates().iter().any(|rustc| usable(rustc).is_ok())
}

/// A compiler for fuzz targets. It counts what they reach by options that are for nightly compilers otherwise.
#[derive(Debug)]
pub(crate) struct FuzzCompiler {
    pub(crate) rustc: PathBuf,
    /// Whether the address sanitizer's runtime came with it: Debian's has none.
    pub(crate) finds_bad_addresses: bool,
}

impl FuzzCompiler {
    /// Makes a cargo command use this compiler.
    pub(crate) fn configure(&self, cargo: Cmd) -> Cmd {
        cargo
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            // It would become part of the targets, and have them compiled anew.
            .env_remove("REDIRECTOR_BPF_OBJECT")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
    }
}

/// The first compiler that is new enough and has the address sanitizer, else the first that is new enough.
///
/// # Errors
/// If there is none.
pub(crate) fn for_fuzzing() -> Result<FuzzCompiler> {
    // The one that cargo uses by itself comes last: it need not be made for what only nightly compilers offer.
    let known = candidates().into_iter().chain([PathBuf::from("rustc")]);
    let mut compilers: Vec<FuzzCompiler> = known
        .filter(|rustc| new_enough(rustc).is_ok())
        .map(|rustc| FuzzCompiler { finds_bad_addresses: has_sanitizer(&rustc), rustc })
        .collect();
    // Stable: of equals, the first stays first.
    compilers.sort_by_key(|compiler| !compiler.finds_bad_addresses);
    compilers
        .into_iter()
        .next()
        .ok_or_else(|| anyhow!("no Rust compiler is new enough: run `cargo xtask setup`"))
}

fn has_sanitizer(rustc: &Path) -> bool {
    let Ok(folder) = Cmd::new(rustc).args(["--print", "target-libdir"]).read() else { return false };
    let files = fs::read_dir(folder.trim()).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.file_name().to_string_lossy().ends_with("_rt.asan.a"))
}

fn linker() -> Option<PathBuf> {
    cmd::find_program("bpf-linker")
}

/// Debian's compiler and all nightlies of rustup, installed or not fit.
fn candidates() -> Vec<PathBuf> {
    let debian = Some(PathBuf::from(DEBIAN_RUSTC)).filter(|rustc| rustc.is_file());
    let list = Cmd::new("rustup").args(["toolchain", "list", "--quiet"]).read().unwrap_or_default();
    let nightlies = list.lines().filter(|name| name.starts_with("nightly")).filter_map(|name| {
        let path = Cmd::new("rustup").args(["which", "rustc", "--toolchain", name]).read().ok()?;
        Some(PathBuf::from(path.trim()))
    });
    debian.into_iter().chain(nightlies).collect()
}

fn new_enough(rustc: &Path) -> Result<()> {
    let version = Cmd::new(rustc).arg("--version").read()?;
    let needed = env!("CARGO_PKG_RUST_VERSION");
    ensure!(minor_version(&version) >= minor_version(needed), "{} is older than {needed}", version.trim());
    Ok(())
}

/// Whether `rustc` is new enough and has the source of `core`.
fn usable(rustc: &Path) -> Result<()> {
    new_enough(rustc)?;
    let sysroot = Cmd::new(rustc).args(["--print", "sysroot"]).read()?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    ensure!(core.is_file(), "lacks the source of core (rust-src)");
    Ok(())
}

/// The 95 in `1.95` or `rustc 1.95.0 (…)`.
fn minor_version(version: &str) -> Option<u32> {
    version.split_once("1.")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Links a bitcode file of `rustc` into a BPF object. The file is compiled for the host, where the compiler
/// has a `core`: the point is whether the linker's LLVM is new enough for the compiler's.
fn links(rustc: &Path, linker: &Path) -> Result<()> {
    let dir = project::target_dir().join("bpf-probe");
    fs::create_dir_all(&dir)?;
    let path = |name: &str| dir.join(format!("{}-{name}", std::process::id()));
    let (source, bitcode, object) = (path("probe.rs"), path("probe.bc"), path("probe.o"));
    fs::write(
        &source,
        "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe(x: u64) -> u64 {\n    !x\n}\n",
    )?;
    let result = Cmd::new(rustc)
        .args(["--edition=2024", "--crate-type=lib", "--emit=llvm-bc", "-O", "-o"])
        .args([&bitcode, &source])
        .read()
        .and_then(|_| {
            Cmd::new(linker).args(["--target=bpfel", "--btf", "-o"]).args([&object, &bitcode]).read()
        })
        .map(drop);
    for file in [source, bitcode, object] {
        // One that was never made is as good as removed.
        drop(fs::remove_file(file));
    }
    result.map_err(|err| err.context("its output does not go through bpf-linker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_version_is_read_from_both_forms() {
        assert_eq!(
            minor_version("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"),
            Some(96)
        );
        assert_eq!(minor_version("1.95"), Some(95));
        assert!(minor_version("rustc 1.85.0-nightly") < minor_version(env!("CARGO_PKG_RUST_VERSION")));
        assert_eq!(minor_version("rustc"), None);
    }
}
