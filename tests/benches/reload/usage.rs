//! What a daemon holds of the kernel's, and of memory.

use anyhow::{Context as _, Result};
use redirector_tests::lab::{Daemon, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long it may take until what the last generation held is given back.
const LIMIT: Duration = Duration::from_secs(10);

/// See the module's description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// File descriptors by what they are of: `bpf-map`, `bpf-prog`, `socket` and so on.
    pub(crate) descriptors: BTreeMap<String, usize>,
    /// Different BPF maps that are open, and bytes that the kernel counts for them.
    pub(crate) maps: usize,
    pub(crate) map_bytes: u64,
    /// Memory mappings of BPF maps.
    pub(crate) mappings: usize,
    /// The box's names on the BPF file system.
    pub(crate) pins: Vec<String>,
    /// Threads.
    pub(crate) threads: usize,
    /// Resident memory and its peak, of which what is shared with maps is a part.
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Usage {
    /// Once it holds no more than at the `first` time, or as it is after a while.
    pub(crate) fn settled(daemon: &Daemon<'_>, first: Option<&Self>) -> Result<Self> {
        let mut last = Self::of(daemon)?;
        let Some(first) = first else { return Ok(last) };
        // What is held longer is for the caller to judge.
        let _ = wait_for("what the last generation held", LIMIT, || {
            last = Self::of(daemon).ok()?;
            (last.kernel() == first.kernel()).then_some(())
        });
        Ok(last)
    }

    /// What has to be the same after every switch.
    pub(crate) fn kernel(&self) -> impl PartialEq + std::fmt::Debug {
        let of_maps = |(what, _): &(&String, &usize)| what.starts_with("bpf");
        let descriptors: Vec<(String, usize)> =
            self.descriptors.iter().filter(of_maps).map(|(what, count)| (what.clone(), *count)).collect();
        (descriptors, self.maps, self.mappings, self.pins.clone())
    }

    fn of(daemon: &Daemon<'_>) -> Result<Self> {
        let process = Path::new("/proc").join(daemon.pid().to_string());
        let mut usage = Self::default();
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(process.join("fd"))?.flatten() {
            let Ok(what) = fs::read_link(entry.path()) else { continue };
            let what = what.display().to_string();
            let what = what.trim_start_matches("anon_inode:").trim_matches(['[', ']']);
            let kind = what.split([':', '[']).next().unwrap_or_default().to_owned();
            if kind == "bpf-map" {
                let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name()))?;
                maps.insert(field(&info, "map_id:")?, field(&info, "memlock:")?);
            }
            *usage.descriptors.entry(kind).or_default() += 1;
        }
        (usage.maps, usage.map_bytes) = (maps.len(), maps.values().sum());
        let mappings = fs::read_to_string(process.join("maps"))?;
        usage.mappings = mappings.lines().filter(|line| line.contains("bpf-map")).count();
        let status = fs::read_to_string(process.join("status"))?;
        usage.threads = field(&status, "Threads:")? as usize;
        usage.resident = field(&status, "VmRSS:")? << 10;
        usage.peak = field(&status, "VmHWM:")? << 10;
        pins(&daemon.dir().join("bpf/redirector"), &mut usage.pins);
        usage.pins.sort();
        Ok(usage)
    }
}

fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
    let number = value.split_whitespace().next().context("empty")?;
    number.parse().with_context(|| format!("{name} {number}"))
}

fn pins(directory: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        names.push(entry.path().display().to_string());
        pins(&entry.path(), names);
    }
}
