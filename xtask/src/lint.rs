//! `cargo xtask lint`: everything that can be said about the sources without running them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{build, cmd::Cmd, project, setup, toolchain};

/// A longer file is doing more than one job. (Functions are measured by clippy: see clippy.toml.)
const MAX_LINES: usize = 800;

/// The manifests that cargo must be told about, besides the workspace's.
const OUTSIDE_WORKSPACE: [&str; 2] = ["redirector-ebpf/Cargo.toml", "tests/fuzz/Cargo.toml"];

pub(crate) fn run() -> Result<()> {
    setup::ensure(&[setup::Purpose::Build, setup::Purpose::Lint])?;
    // All of them, so that one run shows everything that is wrong.
    let checks: [fn() -> Result<()>; 6] = [check_sizes, format, ebpf, userspace, fuzz_targets, dependencies];
    let failures: Vec<_> = checks.iter().filter_map(|check| check().err()).collect();
    for failure in &failures {
        eprintln!("lint: {failure:#}");
    }
    ensure!(failures.is_empty(), "{} of {} checks failed", failures.len(), checks.len());
    println!("lint: {} of {} checks passed", checks.len(), checks.len());
    Ok(())
}

fn manifests() -> impl Iterator<Item = PathBuf> {
    let outside = OUTSIDE_WORKSPACE.iter().map(|manifest| project::root().join(manifest));
    outside.filter(|manifest| manifest.is_file()).chain([project::root().join("Cargo.toml")])
}

fn format() -> Result<()> {
    manifests().try_for_each(|manifest| {
        Cmd::cargo().args(["fmt", "--all", "--check", "--manifest-path"]).arg(manifest).run()
    })
}

/// Apart from userspace: another compiler, another target, and a panic handler that would clash.
fn ebpf() -> Result<()> {
    let toolchain = toolchain::find()?;
    let (cargo, subcommand) = match toolchain.clippy() {
        Some(clippy) => (Cmd::new(clippy), "clippy"),
        None => {
            eprintln!(
                "warning: there is no clippy beside {}: the XDP program is only built, with warnings as errors",
                toolchain.rustc.display()
            );
            (Cmd::cargo(), "build")
        }
    };
    build::for_ebpf(&toolchain, cargo)
        // Not by RUSTFLAGS, which would compile everything anew.
        .args([subcommand, "--release", "--locked", "-Zwarnings", "--config", "build.warnings='deny'"])
        .run()
}

fn userspace() -> Result<()> {
    let object = build::ebpf()?;
    Cmd::cargo()
        .args(["clippy", "--workspace", "--all-targets", "--locked"])
        .env("REDIRECTOR_BPF_OBJECT", object)
        .args(["--", "-D", "warnings"])
        .run()
}

/// Apart from the workspace: their lockfile is their own, and libFuzzer comes with them.
fn fuzz_targets() -> Result<()> {
    Cmd::cargo()
        .args(["clippy", "--manifest-path", "tests/fuzz/Cargo.toml", "--locked"])
        // Built without the XDP program, as they run.
        .env_remove("REDIRECTOR_BPF_OBJECT")
        .args(["--", "-D", "warnings"])
        .run()
}

/// Licences, bans and sources only: advisories change without a commit, and would break a good build.
fn dependencies() -> Result<()> {
    manifests().try_for_each(|manifest| {
        Cmd::cargo()
            // Without it, each manifest's own folder is searched for one.
            .args(["deny", "--config", "deny.toml", "--manifest-path"])
            .arg(manifest)
            .args(["check", "licenses", "bans", "sources"])
            .run()
    })
}

fn check_sizes() -> Result<()> {
    let long = too_long(project::root())?;
    ensure!(
        long.is_empty(),
        "files of more than {MAX_LINES} lines; split them by what they do:\n{}",
        long.join("\n")
    );
    Ok(())
}

/// The source files below `dir` that have too many lines.
fn too_long(dir: &Path) -> Result<Vec<String>> {
    let mut long = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" {
                long.append(&mut too_long(&path)?);
            }
        } else if is_source(&name) {
            let lines = fs::read(&path)?.iter().filter(|byte| **byte == b'\n').count();
            if lines > MAX_LINES {
                long.push(format!("  {}: {lines}", path.display()));
            }
        }
    }
    Ok(long)
}

fn is_source(name: &str) -> bool {
    [".rs", ".sh", ".py", ".js", ".c", ".h"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_source_file_over_the_limit_is_too_long() {
        let dir = std::env::temp_dir().join(format!("xtask-sizes-{}", std::process::id()));
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("fits.rs"), "\n".repeat(MAX_LINES)).unwrap();
        fs::write(dir.join("table.txt"), "\n".repeat(MAX_LINES + 1)).unwrap();
        fs::write(dir.join("sub/long.rs"), "\n".repeat(MAX_LINES + 1)).unwrap();
        let long = too_long(&dir).unwrap();
        assert_eq!(long, [format!("  {}: {}", dir.join("sub/long.rs").display(), MAX_LINES + 1)]);
        fs::remove_dir_all(dir).unwrap();
    }
}
