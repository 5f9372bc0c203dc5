//! The XDP program and its maps: loaded anew for every generation, and put in place of the one before in one step.

use super::hooks::Hooks;
use super::tables::unix_seconds;
use super::{Dataplane, FastCounters, LiveTables, Memory, Mode, PublishTimes, TargetCounters, TestRun};
use aya::maps::{Array, Map, MapData, MapType, PerCpuArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramError, ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use redirector_core::limit::{Line, STRIDE};
use redirector_core::table::{NONE, VIP_SLOTS};
use redirector_core::verdict::REASON_SLOTS;
use redirector_plan::image::{TableImage, TableKind};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

/// The program that this build carries; empty if it was built without.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirector.bpf.o"));
/// Name of the program in the object.
const PROGRAM: &str = "redirector";
/// The first kernel that has all that the program uses: `bpf_ktime_get_coarse_ns` is the latest of it.
const OLDEST_KERNEL: &str = "5.11";
/// How lines begin that end what the verifier says, and tell what it did instead of what it found.
const VERIFIER_FIGURES: [&str; 4] = ["verification time", "stack depth", "processed ", "mark_read"];
/// Room for the longest frame of a test run.
const FRAME_ROOM: usize = 4096;

/// Lengths of the counter arrays: what a box holds at most, slot 0 included.
#[derive(Debug, Clone, Copy)]
pub struct CounterRoom {
    /// Services.
    pub services: u32,
    /// Regions.
    pub regions: u32,
    /// Targets.
    pub targets: u32,
}

impl Default for CounterRoom {
    fn default() -> Self {
        Self { services: 131_072, regions: 65_536, targets: 16_384 }
    }
}

impl CounterRoom {
    /// Grows to hold every slot that an image names.
    fn extend(&mut self, image: &TableImage) {
        let end = |slots: &mut dyn Iterator<Item = u32>| slots.max().map_or(1, |slot| slot + 1);
        // What stands for services that a sealed name will tell has no slot of its own.
        let services = image.services.iter().map(|service| service.counter).filter(|slot| *slot != NONE);
        self.services = self.services.max(end(&mut { services }));
        self.regions =
            self.regions.max(end(&mut image.region_counters.iter().flat_map(|counters| counters.words)));
        self.targets = self.targets.max(end(&mut image.targets.iter().map(|target| target.counter)));
    }
}

/// Counter arrays shared by all generations, by map name.
const COUNTERS: [&str; 5] = ["COUNT_REASON", "COUNT_VIP", "COUNT_SERVICE", "COUNT_REGION", COUNT_TARGET];
/// Those of targets.
const COUNT_TARGET: &str = "COUNT_TARGET";

/// Until when the program answers, shared like the counters: nanoseconds of the monotonic clock.
const ALIVE: &str = "ALIVE";
/// The daemon's clock for the program, shared like the counters: seconds since 1970.
const CLOCK: &str = "CLOCK";
/// Buckets of the rate limits, shared like the counters: [`STRIDE`] lines for each possible CPU.
const LIMITS: &str = "LIMITS";
/// Where they are pinned.
const COUNTERS_DIR: &str = "counters";
/// Where links are pinned.
const LINKS_DIR: &str = "links";
/// Where tables are pinned: with the number of the process behind it, and of the instance.
const TABLES_DIR: &str = "tables-";

/// One loaded instance of the program.
struct Instance {
    /// Owns the program and its maps.
    live: Ebpf,
    /// The same tables with counters of its own, for test runs: asking counts nothing.
    shadow: Ebpf,
}

/// Tables in BPF maps, answered from by XDP on some interfaces.
pub struct BpfDataplane {
    directory: PathBuf,
    hooks: Hooks,
    /// How long the program goes on answering when nobody tends it; `None`: for ever.
    max_age: Option<Duration>,
    room: CounterRoom,
    /// Slots that some generation used: no others are read.
    used: CounterRoom,
    /// The compiled program.
    object: Cow<'static, [u8]>,
    current: Option<Instance>,
    instances: u64,
    times: PublishTimes,
    /// Counters of targets were not there before this process made them.
    made_counters: bool,
}

impl BpfDataplane {
    /// Whether this build carries the program at all.
    pub fn is_built_in() -> bool {
        !OBJECT.is_empty()
    }

    /// Prepares `directory`, which must lie on a BPF file system. `modes` are tried in order when attaching. Nothing
    /// is attached before the first image is published. Without interfaces only test runs are possible. The program
    /// stays attached when the value is dropped, and goes on answering for `max_age` after it was last tended.
    ///
    /// # Errors
    /// Without a program in this build, or if the directory cannot be made.
    pub fn new(
        directory: &Path,
        interfaces: Vec<String>,
        modes: Vec<XdpMode>,
        max_age: Option<Duration>,
    ) -> io::Result<Self> {
        if !Self::is_built_in() {
            return Err(io::Error::other(
                "this build carries no XDP program: build with `cargo xtask build`",
            ));
        }
        fs::create_dir_all(directory)
            .map_err(|err| told(format!("{} (a mounted bpf file system?)", directory.display()), err))?;
        unpin_dead(directory);
        Ok(Self {
            directory: directory.to_owned(),
            hooks: Hooks::new(directory.join(LINKS_DIR), interfaces, modes),
            max_age,
            room: CounterRoom::default(),
            used: CounterRoom { services: 1, regions: 1, targets: 1 },
            object: Cow::Borrowed(OBJECT),
            current: None,
            instances: 0,
            times: PublishTimes::default(),
            made_counters: false,
        })
    }

    /// The current generation's program, which counts what it does: to tail-call it where frames are sent by other
    /// means than an interface. `None` before the first image.
    ///
    /// # Errors
    /// If the kernel does not hold the program.
    pub fn program_fd(&self) -> io::Result<Option<&ProgramFd>> {
        let Some(current) = &self.current else { return Ok(None) };
        loaded(&current.live)?.fd().map(Some).map_err(|err| told("the XDP program", chain(&err)))
    }

    /// Takes another compiled program than the one that this build carries, from the next publication on.
    pub fn set_object(&mut self, object: Vec<u8>) {
        self.object = Cow::Owned(object);
    }

    /// Runs the current generation's program on a frame as if it had come in at an interface on this CPU: counted, and
    /// within the rate limits. `None` before the first image.
    ///
    /// # Errors
    /// As [`Dataplane::test_run`].
    pub fn receive(&self, frame: &[u8]) -> io::Result<Option<TestRun>> {
        self.current.as_ref().map(|current| run(&current.live, frame)).transpose()
    }

    /// Begins to count from 0 at the next publication, if nothing was published yet.
    ///
    /// # Errors
    /// If the counters of before stay pinned.
    pub fn drop_counters(&self) -> io::Result<()> {
        for name in COUNTERS {
            let path = self.directory.join(COUNTERS_DIR).join(name);
            match fs::remove_file(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(told(path.display(), err)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Detaches every program that a box with this directory attached, running or not.
    ///
    /// # Errors
    /// Which pin stays.
    pub fn detach_all(directory: &Path) -> io::Result<()> {
        Hooks::detach_all(&directory.join(LINKS_DIR))
    }

    fn loader<'a>(&'a self, image: &TableImage, pins: &Path) -> EbpfLoader<'a> {
        let mut loader = EbpfLoader::new();
        for kind in TableKind::ALL {
            loader.map_max_entries(kind.name(), image.len(*kind) as u32);
            loader.map_pin_path(kind.name(), pins.join(kind.name()));
        }
        for name in [ALIVE, CLOCK] {
            loader.map_pin_path(name, self.directory.join(COUNTERS_DIR).join(name));
        }
        loader.map_max_entries("COUNT_SERVICE", self.room.services);
        loader.map_max_entries("COUNT_REGION", self.room.regions);
        loader.map_max_entries(COUNT_TARGET, self.room.targets);
        loader
    }

    /// Loads two instances over the same fresh tables: one to attach, one for test runs.
    fn load(&mut self, image: &TableImage, pins: &Path) -> io::Result<(Instance, LiveTables)> {
        let began = Instant::now();
        fs::create_dir_all(pins).map_err(|err| told(pins.display(), err))?;
        let counters = self.directory.join(COUNTERS_DIR);
        fs::create_dir_all(&counters).map_err(|err| told(counters.display(), err))?;
        self.drop_unfitting()?;
        self.made_counters |= !counters.join(COUNT_TARGET).exists();
        let mut loader = self.loader(image, pins);
        for name in COUNTERS {
            loader.map_pin_path(name, counters.join(name));
        }
        // The instance for test runs has no buckets: nobody's budget is spent on asking.
        loader.map_max_entries(LIMITS, limit_lines()?);
        loader.map_pin_path(LIMITS, counters.join(LIMITS));
        let made = |err: EbpfError| told("loading the XDP program", chain(&err));
        let mut live = loader.load(&self.object).map_err(made)?;
        let mut shadow = self.loader(image, pins).load(&self.object).map_err(made)?;
        let filling = Instant::now();
        let tables = LiveTables::build(image, |kind, bytes| {
            let map = live.map(kind.name()).ok_or_else(|| io::Error::other("the program lacks a table"))?;
            Memory::of_array(map_data(map)?.fd().as_fd(), bytes).map_err(|err| told(kind.name(), err))
        })?;
        let fill = filling.elapsed();
        for instance in [&mut live, &mut shadow] {
            program(instance)?.load().map_err(refusal)?;
        }
        self.times = PublishTimes { load: began.elapsed() - fill, fill, switch: Duration::ZERO };
        Ok((Instance { live, shadow }, tables))
    }

    /// Lets the program go on for `max_age` from now, and tells it the time.
    fn keep_alive(&self, live: &mut Ebpf) -> io::Result<()> {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
        let end = self.max_age.and_then(|age| Duration::from(now).checked_add(age));
        let end = end.map_or(u64::MAX, |end| u64::try_from(end.as_nanos()).unwrap_or(u64::MAX));
        set(live, CLOCK, unix_seconds().into())?;
        set(live, ALIVE, end)
    }

    /// Takes away what lies under the names of shared maps and has another shape: another version kept it so, or
    /// somebody else put it there.
    fn drop_unfitting(&self) -> io::Result<()> {
        let lengths = [REASON_SLOTS, VIP_SLOTS, self.room.services, self.room.regions, self.room.targets];
        let word = size_of::<u64>() as u32;
        let counters = COUNTERS.into_iter().zip(lengths);
        let counters = counters.map(|(name, length)| (name, MapType::PerCpuArray, word, length));
        let words = [ALIVE, CLOCK].map(|name| (name, MapType::Array, word, 1));
        let limits = (LIMITS, MapType::Array, size_of::<Line>() as u32, limit_lines()?);
        for (name, kind, size, length) in counters.chain(words).chain([limits]) {
            let path = self.directory.join(COUNTERS_DIR).join(name);
            if path.exists() && !is_map_of(&path, kind, size, length) {
                tracing::warn!("{name} begins anew: what is pinned as {} has another shape", path.display());
                fs::remove_file(&path).map_err(|err| told(path.display(), err))?;
            }
        }
        Ok(())
    }
}

impl Dataplane for BpfDataplane {
    fn publish(&mut self, image: &TableImage) -> io::Result<Arc<LiveTables>> {
        self.instances += 1;
        let pins = self.directory.join(format!("{TABLES_DIR}{}-{}", std::process::id(), self.instances));
        let loaded = self.load(image, &pins);
        // The two programs hold the tables from now on; names are for bringing them together.
        unpin(&pins);
        let (mut instance, tables) = loaded?;
        self.keep_alive(&mut instance.live)?;
        let switching = Instant::now();
        self.hooks.put(&mut instance.live, self.current.as_mut().map(|old| &mut old.live))?;
        self.times.switch = switching.elapsed();
        self.current = Some(instance);
        self.used.extend(image);
        Ok(Arc::new(tables))
    }

    fn times(&self) -> PublishTimes {
        self.times
    }

    fn tend(&mut self) -> io::Result<()> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let tended = self.keep_alive(&mut current.live);
        for interface in self.hooks.tend(&mut current.live) {
            tracing::info!("interface {interface} is back, and so is the program");
        }
        self.current = Some(current);
        tended
    }

    fn mode(&self) -> Mode {
        let attached = &self.hooks.attached;
        // The slowest of all is what the operator should hear of.
        match (self.current.is_some(), attached.iter().any(|hook| hook.mode == XdpMode::Skb)) {
            (false, _) => Mode::Off("no tables published yet".to_owned()),
            _ if attached.is_empty() => Mode::Off("no interface configured".to_owned()),
            (_, true) => Mode::Generic,
            (_, false) => Mode::Native,
        }
    }

    fn counters(&self) -> io::Result<FastCounters> {
        let Some(current) = &self.current else { return Ok(FastCounters::default()) };
        let read = |name: &str, len: u32| sums(&current.live, name, len);
        Ok(FastCounters {
            reasons: read("COUNT_REASON", REASON_SLOTS)?.into_iter().map(|(k, n)| (k as u16, n)).collect(),
            vips: read("COUNT_VIP", VIP_SLOTS)?,
            services: read("COUNT_SERVICE", self.used.services)?,
            regions: read("COUNT_REGION", self.used.regions)?,
            targets: read(COUNT_TARGET, self.used.targets)?,
        })
    }

    fn target_counts(&self, slots: &[u32]) -> io::Result<Vec<u64>> {
        let Some(current) = &self.current else { return Ok(vec![0; slots.len()]) };
        let counters = counters(&current.live, COUNT_TARGET)?;
        slots.iter().map(|slot| sum(&counters, COUNT_TARGET, *slot)).collect()
    }

    fn target_counters(&self) -> io::Result<Option<Arc<TargetCounters>>> {
        let Some(current) = &self.current else { return Ok(None) };
        let map = current.live.map(COUNT_TARGET).ok_or_else(|| told(COUNT_TARGET, "not in the program"))?;
        let Map::PerCpuArray(data) = map else { return Err(told(COUNT_TARGET, "not counters of each CPU")) };
        let info = data.info().map_err(|err| told(COUNT_TARGET, chain(&err)))?;
        let counters =
            TargetCounters::new(data.fd().as_fd(), info.id(), info.max_entries(), self.made_counters)?;
        Ok(Some(Arc::new(counters)))
    }

    fn test_run(&self, frame: &[u8]) -> io::Result<Option<TestRun>> {
        self.current.as_ref().map(|current| run(&current.shadow, frame)).transpose()
    }
}

/// Sets the one value of an array.
fn set(ebpf: &mut Ebpf, name: &str, value: u64) -> io::Result<()> {
    let map =
        ebpf.map_mut(name).ok_or_else(|| io::Error::other(format!("the program lacks the map {name}")))?;
    let mut array: Array<&mut MapData, u64> = map.try_into().map_err(|err| told(name, chain(&err)))?;
    array.set(0, value, 0).map_err(|err| told(name, chain(&err)))
}

/// Whether what is pinned is a map of this kind with so many values of so many bytes.
fn is_map_of(path: &Path, kind: MapType, size: u32, length: u32) -> bool {
    let info = MapData::from_pin(path).and_then(|map| map.info());
    info.is_ok_and(|info| {
        let sizes = (info.key_size(), info.value_size(), info.max_entries());
        info.map_type().is_ok_and(|found| found == kind) && sizes == (size_of::<u32>() as u32, size, length)
    })
}

/// What an instance's program makes of a frame.
fn run(instance: &Ebpf, frame: &[u8]) -> io::Result<TestRun> {
    let mut out = vec![0; FRAME_ROOM];
    let result = loaded(instance)?
        .test_run(TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() })
        .map_err(|err| told("test run", chain(&err)))?;
    out.truncate(result.data_size_out as usize);
    Ok(TestRun { action: result.return_value, frame: out })
}

/// Lines of buckets that the rate limits of all CPUs take.
fn limit_lines() -> io::Result<u32> {
    let cpus = aya::util::nr_cpus().map_err(|(path, err)| told(path, err))?;
    u32::try_from(cpus)
        .ok()
        .and_then(|cpus| cpus.checked_mul(STRIDE))
        .ok_or_else(|| io::Error::other(format!("rate limits for {cpus} CPUs")))
}

/// Sums over all CPUs of the counters that are not 0.
fn sums(ebpf: &Ebpf, name: &str, len: u32) -> io::Result<BTreeMap<u32, u64>> {
    let array = counters(ebpf, name)?;
    let mut counts = BTreeMap::new();
    for index in 0..len.min(array.len()) {
        let total = sum(&array, name, index)?;
        if total != 0 {
            counts.insert(index, total);
        }
    }
    Ok(counts)
}

fn counters<'e>(ebpf: &'e Ebpf, name: &str) -> io::Result<PerCpuArray<&'e MapData, u64>> {
    let map = ebpf.map(name).ok_or_else(|| io::Error::other(format!("no counters {name}")))?;
    map.try_into().map_err(|err| told(name, chain(&err)))
}

/// One counter of all CPUs.
fn sum(counters: &PerCpuArray<&MapData, u64>, name: &str, index: u32) -> io::Result<u64> {
    Ok(counters.get(&index, 0).map_err(|err| told(name, chain(&err)))?.iter().sum())
}

fn map_data(map: &Map) -> io::Result<&MapData> {
    match map {
        Map::Array(data) => Ok(data),
        _ => Err(io::Error::other("a table is not a BPF array")),
    }
}

fn loaded(ebpf: &Ebpf) -> io::Result<&Xdp> {
    ebpf.program(PROGRAM)
        .ok_or_else(|| io::Error::other("the object lacks the program"))?
        .try_into()
        .map_err(|err| told("the object's program", chain(&err)))
}

pub(super) fn program(ebpf: &mut Ebpf) -> io::Result<&mut Xdp> {
    ebpf.program_mut(PROGRAM)
        .ok_or_else(|| io::Error::other("the object lacks the program"))?
        .try_into()
        .map_err(|err| told("the object's program", chain(&err)))
}

/// Removes the pins of boxes that were killed: no process of their number is there, or it is this one.
fn unpin_dead(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(TABLES_DIR)?.split_once('-'));
        let Some(owner) = owner.and_then(|(number, _)| number.parse::<u32>().ok()) else { continue };
        if owner == std::process::id() || !Path::new("/proc").join(owner.to_string()).exists() {
            unpin(&entry.path());
        }
    }
}

/// Removes a generation's pins; its maps live on while a program or mapping holds them.
fn unpin(pins: &Path) {
    if let Err(err) = fs::remove_dir_all(pins) {
        tracing::warn!(path = %pins.display(), %err, "pins of an old generation stay behind");
    }
}

pub(super) fn told(what: impl Display, err: impl Display) -> io::Error {
    io::Error::other(format!("{what}: {err}"))
}

/// Why the kernel does not take a program: of what its verifier says, which can be megabytes, the end tells.
fn refusal(err: ProgramError) -> io::Error {
    let why = match &err {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let said = |line: &&str| !VERIFIER_FIGURES.iter().any(|figure| line.starts_with(figure));
            let last = log.lines().map(str::trim).filter(|line| !line.is_empty()).rfind(said);
            format!("{io_error}; its verifier says {:?}", last.unwrap_or_default())
        }
        other => chain(other),
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    told(
        "the kernel refused the XDP program",
        format!(
            "{why}; this is Linux {}, and the program is made for {OLDEST_KERNEL} or later",
            release.trim()
        ),
    )
}

/// An error with its causes on one line, shortened: the verifier's log can have megabytes.
pub(super) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text = format!("{text}: {err}");
        cause = err.source();
    }
    match text.char_indices().nth(2000) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
