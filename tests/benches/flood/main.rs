//! Which share of its answers a client keeps during a flood: `cargo xtask bench flood`.
//!
//! Clients at a calm pace and the flood share a queue, a CPU and with it the budgets of the rate limits ([`wire`]); behind
//! the program of the box runs its daemon ([`daemon`]). Each flood is preceded by the same time without one. Shares are
//! of what reached the program: what is lost on the wire is told apart.

mod clients;
mod daemon;
#[path = "../shared/ends.rs"]
mod ends;
mod floods;
mod messages;
#[path = "../shared/options.rs"]
mod options;
mod report;
mod resize;
#[path = "../shared/ring.rs"]
mod ring;
mod wire;

use anyhow::{Result, ensure};
use clap::Parser as _;
use clients::{Clients, KINDS, PACE};
use daemon::Daemon;
use floods::FLOODS;
use messages::Names;
use redirector_plan::reference::{Scale, reference};
use report::Row;
use std::net::IpAddr;
use std::time::Duration;
use wire::Wire;

/// Share of the promised queries that no limit may take: three of 64 prefixes may meet a flood's in their buckets.
const SPARED: f64 = 0.95;
/// Share of them that must be answered in the end; what the daemon and TCP do depends on what else the CPU has to do.
const KEPT: f64 = 0.8;
/// The same without a flood: less, and the machine shows nothing.
const CALM: f64 = 0.98;

/// How long it takes.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    /// With each flood, and before it without one.
    period: Duration,
}

const FULL: Effort = Effort { rounds: 5, period: Duration::from_secs(1) };
const QUICK: Effort = Effort { rounds: 1, period: Duration::from_secs(1) };

fn main() -> Result<()> {
    let options = options::Options::parse();
    let effort = if options.quick { QUICK } else { FULL };
    let reference = reference(Scale::SMALL);
    let vips: Vec<IpAddr> = reference.vips.iter().map(|vip| vip.ipv4[0].into()).collect();
    let ends = ends::Network::build(&vips, 2)?;
    let names = Names::new(&reference)?;
    let queries = PACE * effort.period.as_millis() as usize / 1000;
    let clients = Clients::new(&names, queries)?;
    let daemon = Daemon::start(&reference)?;
    let mut wire = Wire::attach(&ends, &daemon, &clients)?;
    let resizes = resize::measure(&ends, &daemon, &names)?;
    let mut rows: Vec<Row> = FLOODS.iter().map(Row::new).collect();
    let frames = |pace: f64| (pace * effort.period.as_secs_f64()) as u32;
    let idle = frames(wire.pace(None)?);
    for _ in 0..effort.rounds {
        for row in &mut rows {
            let flood = frames(wire.aim(row.flood, &names, &clients)?);
            row.calm.add(wire.period(None, idle, &clients, &daemon)?);
            row.flooded.add(wire.period(Some(row.flood), flood, &clients, &daemon)?);
        }
    }
    options.tell(&report::markdown(&rows, &resizes), &report::json(&rows, &resizes))?;
    rows.iter().try_for_each(judge)
}

/// Whether clients kept what is promised.
fn judge(row: &Row) -> Result<()> {
    let Row { flood, calm, flooded } = row;
    ensure!(flooded.handled() > 0.0, "{}: no flood reached the box", flood.name);
    for (kind, (queries, _)) in KINDS.iter().enumerate() {
        let about = || format!("{}: of {queries}", flood.name);
        ensure!(calm.kept(kind) >= CALM, "{} {:.4} were answered without a flood", about(), calm.kept(kind));
        if flood.promised[kind] {
            let (spared, kept) = (flooded.spared(kind), flooded.kept(kind));
            ensure!(spared >= SPARED, "{} limits let {spared:.4} pass, which must be {SPARED}", about());
            ensure!(kept >= KEPT, "{} {kept:.4} were answered, which must be {KEPT}", about());
        }
    }
    Ok(())
}
