//! BPF file systems for tests and benchmarks.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Command;

/// A folder with a BPF file system of its own, gone with the value.
#[derive(Debug)]
pub struct Bpffs(tempfile::TempDir);

impl Bpffs {
    /// Mounts one.
    ///
    /// # Errors
    /// Without root.
    pub fn mount() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(dir.path()).status();
        let status = mounted.context("mount")?;
        ensure!(status.success(), "mount -t bpf: {status}");
        Ok(Self(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Without this the temporary directory cannot be removed either, which then says so.
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
