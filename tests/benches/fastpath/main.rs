//! Net time of the XDP program per packet, by the kernel's program test-run: `cargo xtask bench fastpath`.
//!
//! Each case has a ring of prepared frames ([`workload`]), which the feeder writes into the packet one after the other
//! ([`feeder`]). What is measured counts only if it was right: before the clock runs, every frame of the ring goes
//! through the same chain once, and its reply must be the slow path's; afterwards the program's own counters must
//! have counted every run, for a reason that belongs to the case.

mod feeder;
#[path = "../shared/options.rs"]
mod options;
#[path = "../shared/ours.rs"]
mod ours;
mod report;
#[path = "../shared/ring.rs"]
mod ring;
mod workload;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use feeder::{Feeder, Program};
use ours::Ours;
use redirector::dataplane::{BpfDataplane, Dataplane as _, LiveTables};
use redirector_plan::reference::{Scale, reference};
use redirector_tests::agreement::{self, Action};
use redirector_tests::bpffs::Bpffs;
use redirector_tests::slow::AtTime;
use report::{Measurement, Row};
use std::collections::BTreeMap;
use std::path::Path;
use workload::{CASES, Case, Keys, Workload};

/// `bpf(2)`'s `XDP_TX`.
const XDP_TX: u32 = 3;

/// How long a case is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    /// Packets of one round for each program; a multiple of every ring's length.
    packets: u32,
}

fn main() -> Result<()> {
    let options = options::Options::parse();
    let effort = if options.quick {
        Effort { rounds: 3, packets: 1 << 17 }
    } else {
        Effort { rounds: 9, packets: 1 << 18 }
    };
    let bpffs = Bpffs::mount()?;
    let mut rows = measure("small", Scale::SMALL, &[Keys::Hot], bpffs.path(), effort)?;
    if !options.quick {
        rows.extend(measure("full", Scale::FULL, &[Keys::Hot, Keys::Random], bpffs.path(), effort)?);
    }
    options.tell(&report::markdown(&rows, effort.rounds), &report::json(&rows))
}

/// Measures all cases over one size of tables.
fn measure(size: &'static str, scale: Scale, keys: &[Keys], pins: &Path, effort: Effort) -> Result<Vec<Row>> {
    let network = reference(scale);
    let Ours { dataplane, tables } = Ours::publish(&network, &pins.join(size))?;
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
