//! Net time of the XDP program per packet, by the kernel's program test-run: `cargo xtask bench fastpath`.
//!
//! Each case has a ring of prepared frames ([`workload`]), which the feeder writes into the packet one after the other
//! ([`feeder`]). What is measured counts only if it was right: before the clock runs, every frame of the ring goes
//! through the same chain once, and its reply must be the slow path's; afterwards the program's own counters must
//! have counted every run, for a reason that belongs to the case.

mod feeder;
mod report;
mod ring;
mod workload;

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, Map, MapData};
use clap::Parser;
use feeder::{Feeder, Program};
use redirector::dataplane::{BpfDataplane, Dataplane as _, LiveTables};
use redirector_core::limit::{Rate, Rates};
use redirector_plan::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::TargetState;
use redirector_plan::reference::{Scale, reference};
use redirector_tests::agreement::{self, Action};
use redirector_tests::slow::AtTime;
use report::{Measurement, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use workload::{CASES, Case, Keys, Workload};

/// `bpf(2)`'s `XDP_TX`.
const XDP_TX: u32 = 3;

#[derive(Parser)]
struct Options {
    /// Write the figures here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Small tables and few rounds.
    #[arg(long)]
    quick: bool,
    /// `cargo bench` says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long a case is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    /// Packets of one round for each program; a multiple of every ring's length.
    packets: u32,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let effort = if options.quick {
        Effort { rounds: 3, packets: 1 << 17 }
    } else {
        Effort { rounds: 9, packets: 1 << 18 }
    };
    let pins = Pins::mount()?;
    let mut rows = measure("small", Scale::SMALL, &[Keys::Hot], &pins.0, effort)?;
    if !options.quick {
        rows.extend(measure("full", Scale::FULL, &[Keys::Hot, Keys::Random], &pins.0, effort)?);
    }
    print!("{}", report::markdown(&rows, effort.rounds));
    if let Some(file) = &options.json {
        let text = report::json(&rows);
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// A folder with a BPF file system, gone with this process: it lies in a mount namespace of its own.
struct Pins(tempfile::TempDir);

impl Pins {
    fn mount() -> Result<Self> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("a mount namespace (as root?)")?;
        let dir = tempfile::tempdir()?;
        // The first keeps the second from spreading to the rest of the machine.
        run(Command::new("mount").args(["--make-rprivate", "/"]))?;
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(dir.path()))?;
        Ok(Self(dir))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.0.path())) {
            eprintln!("{error:#}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Measures all cases over one size of tables.
fn measure(
    size: &'static str,
    scale: Scale,
    keys: &[Keys],
    pins: &tempfile::TempDir,
    effort: Effort,
) -> Result<Vec<Row>> {
    let network = reference(scale);
    let states = vec![TargetState::default(); network.targets.len()];
    let mut slots = CounterSlots::new(1 << 18, 1 << 16, 1 << 16);
    let mut compiled = compile(&network, &states, 1, &mut slots)
        .map_err(|refusals| anyhow::anyhow!("the reference network was refused: {refusals:?}"))?;
    let mut dataplane = BpfDataplane::new(&pins.path().join(size), Vec::new(), Vec::new(), None)?;
    // Limits that are looked at for each packet and never reached.
    let rate = Rate::new(10_000_000, 1_000_000_000);
    compiled.image.meta.limits = Rates { of: [rate; 4], all_punts: rate, slip: 2, reserved: 0 };
    let tables = dataplane.publish(&compiled.image)?;
    drop(compiled);
    stop_clock(&pins.path().join(size).join("counters/CLOCK"))?;
    let mut rows = Vec::new();
    for keys in keys {
        let mut workload = Workload::new(&network, *keys);
        for case in CASES {
            let frames = workload.ring(case, &tables.read())?;
            let measurement = one(case, &frames, &dataplane, &tables, effort)
                .with_context(|| format!("{}, {} keys, {size} tables", case.name, keys.name()))?;
            let row = Row { case, keys: *keys, services: scale.services, measurement };
            eprintln!("{}", row.line());
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Sets the program's clock to 0, where the slow path's stands, too, so that both give the same cookies.
fn stop_clock(pin: &Path) -> Result<()> {
    let mut clock: Array<MapData, u64> = Map::Array(MapData::from_pin(pin)?).try_into()?;
    Ok(clock.set(0, 0, 0)?)
}

/// Measures one case, after having shown that its answers are right, and shows that every packet was counted.
fn one(
    case: &Case,
    frames: &[Vec<u8>],
    dataplane: &BpfDataplane,
    tables: &LiveTables,
    effort: Effort,
) -> Result<Measurement> {
    let before = dataplane.counters()?.reasons;
    let mut feeder = Feeder::load(frames)?;
    let program = dataplane.program_fd()?.context("no program is published")?;
    feeder.put(Program::Other(program))?;
    verify(case, frames, &feeder, tables)?;
    let expected = case.action.code();
    let mut measurement = Measurement::default();
    // Once more than is noted: caches and the branch predictor begin cold.
    for round in 0..=effort.rounds {
        let wrapper = feeder.time(Program::Nothing, effort.packets, feeder::XDP_DROP)?;
        let reflector = feeder.time(Program::Reflector, effort.packets, XDP_TX)?;
        let total = feeder.time(Program::Other(program), effort.packets, expected)?;
        if round > 0 {
            measurement.note(wrapper, reflector, total);
        }
    }
    let runs = frames.len() as u64 + (effort.rounds as u64 + 1) * u64::from(effort.packets);
    check_counters(case, &before, &dataplane.counters()?.reasons, runs)?;
    Ok(measurement)
}

/// Feeds every frame once and compares what becomes of it with the slow path, byte for byte.
fn verify(case: &Case, frames: &[Vec<u8>], feeder: &Feeder, tables: &LiveTables) -> Result<()> {
    for (number, frame) in frames.iter().enumerate() {
        let (code, after) = feeder.once()?;
        let action = Action::from_code(code);
        agreement::judge(&AtTime(&tables.read(), 0), frame, action, &after)
            .map_err(|fault| anyhow::anyhow!("frame {number}: {fault}"))?;
        ensure!(action == case.action, "frame {number}: {action:?} instead of {:?}", case.action);
    }
    Ok(())
}

fn check_counters(
    case: &Case,
    before: &BTreeMap<u16, u64>,
    after: &BTreeMap<u16, u64>,
    runs: u64,
) -> Result<()> {
    let mut counted = 0;
    for (code, count) in after {
        let new = count - before.get(code).unwrap_or(&0);
        if new > 0 && !case.reasons.iter().any(|reason| *reason as u16 == *code) {
            bail!("{new} packets were counted for reason {code}, which does not belong to this case");
        }
        counted += new;
    }
    ensure!(counted == runs, "{runs} packets, but {counted} were counted");
    Ok(())
}
