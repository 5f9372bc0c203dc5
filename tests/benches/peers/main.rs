//! CPU time of an answer, compared with other name servers over the same wire: `cargo xtask bench peers`.
//!
//! All are asked the same by the same sender ([`wire`]), one after the other in every round. Before a peer is measured,
//! each question is asked once from a socket and its answer looked at ([`questions`]).

#[path = "../shared/ends.rs"]
mod ends;
#[path = "../shared/options.rs"]
mod options;
#[path = "../shared/ours.rs"]
mod ours;
mod questions;
mod report;
#[path = "../shared/ring.rs"]
mod ring;
mod server;
mod wire;
#[path = "../fastpath/workload.rs"]
#[expect(dead_code, reason = "the benchmark of the fast path has more cases")]
mod workload;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use ours::Ours;
use questions::{Asked, Question, Ring};
use redirector_plan::model::Network;
use redirector_plan::reference::{Scale, reference};
use redirector_tests::bpffs::Bpffs;
use redirector_tests::slow::{self, AtTime};
use report::{Row, Sample};
use server::{Running, Server, Software};
use std::net::IpAddr;
use std::time::Duration;
use wire::{BURST, Behind, Run, Wire};

/// How long a peer is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    /// Queries of one round to a program in the kernel.
    packets: u32,
    /// How long a round of a server takes.
    time: Duration,
}

const FULL: Effort = Effort { rounds: 7, packets: 1 << 21, time: Duration::from_secs(1) };
const QUICK: Effort = Effort { rounds: 3, packets: 1 << 18, time: Duration::from_millis(200) };

/// What all peers are asked.
const PLAIN: &[&str] = &["DNS A"];
/// What those in the kernel are asked as well, in equal parts.
const MIX: &[&str] =
    &["DNS A", "DNS A, EDNS and server cookie", "DNS A, EDNS and client subnet", "DNS AAAA over IPv6"];

/// Paces at which a server is tried, from slow to fast.
const PACES: [u32; 19] = [512, 256, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32, 24, 16, 8, 4, 2, 1];
/// How long a try takes at least.
const TRY: Duration = Duration::from_millis(200);
/// Less than a run of the sender takes.
const RUN: Duration = Duration::from_nanos(20);
/// Largest share of queries that may be lost at a server's pace.
const LOSS: f64 = 0.01;

fn main() -> Result<()> {
    let options = options::Options::parse();
    let effort = if options.quick { QUICK } else { FULL };
    let reference = reference(Scale::SMALL);
    let vip = &reference.vips[0];
    let network = ends::Network::build(&[IpAddr::from(vip.ipv4[0]), IpAddr::from(vip.ipv6[0])], 1)?;
    let bpffs = Bpffs::mount()?;
    let ours = Ours::publish(&reference, &bpffs.path().join("peers"))?;
    let mut rows = in_kernel_and_servers(&reference, &network, &ours, effort)?;
    rows.extend(in_kernel(&reference, &network, &ours, effort)?);
    options.tell(&report::markdown(&rows), &report::json(&rows))
}

impl Ours {
    fn program(&self) -> Result<Behind<'_>> {
        Ok(Behind::Program(self.dataplane.program_fd()?.context("no program is published")?))
    }

    /// Whether a reply is the slow path's.
    fn judge(&self, question: &Question, reply: &[u8]) -> Result<()> {
        let outcome = slow::answer(&AtTime(&self.tables.read(), 0), &question.flow, &question.payload);
        let outcome = outcome.context("nobody listens there")?;
        ensure!(outcome.reply() == Some(reply), "the slow path's answer is {:02x?}", outcome.message);
        Ok(())
    }
}

/// A server at the pace that it can take.
struct Paced {
    server: Server,
    pace: u32,
    queries: u32,
}

/// Asks the same of all peers.
fn in_kernel_and_servers(
    network: &Network,
    wires: &ends::Network,
    ours: &Ours,
    effort: Effort,
) -> Result<Vec<Row>> {
    let ring = Ring::new(network, PLAIN, &ours.tables.read())?;
    let asked = Asked::of(network, &ring.questions)?;
    let mut wire = Wire::attach(wires, &ring.frames)?;
    let folder = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for software in Software::ALL {
        let server = Server::new(software, folder.path(), &asked)?;
        let paced = paced(&mut wire, server, &asked, &ring.questions, effort);
        servers.push(paced.with_context(|| software.name())?);
    }
    let mut rows = kernel_rows("A", &mut wire, ours, &ring.questions)?;
    rows.extend(servers.iter().map(|paced| Row::new(paced.server.software.name(), "A")));
    for _ in 0..effort.rounds {
        kernel_round(&mut rows, &mut wire, ours, effort)?;
        for (row, paced) in rows.iter_mut().skip(KERNEL_PEERS).zip(&servers) {
            let running = started(&mut wire, &paced.server, &asked, &ring.questions)?;
            let sample = sample(&mut wire, Behind::Sockets, paced.queries, paced.pace, Some(&running));
            row.note(sample.with_context(|| row.peer.to_owned())?);
        }
    }
    Ok(rows)
}

/// Asks what those in the kernel alone are asked.
fn in_kernel(network: &Network, wires: &ends::Network, ours: &Ours, effort: Effort) -> Result<Vec<Row>> {
    let ring = Ring::new(network, MIX, &ours.tables.read())?;
    let mut wire = Wire::attach(wires, &ring.frames)?;
    let mut rows = kernel_rows("mix", &mut wire, ours, &ring.questions)?;
    for _ in 0..effort.rounds {
        kernel_round(&mut rows, &mut wire, ours, effort)?;
    }
    Ok(rows)
}

/// What stands in the kernel comes first.
const KERNEL_PEERS: usize = 3;

/// Rows for those, after having looked at what they answer.
fn kernel_rows(
    workload: &'static str,
    wire: &mut Wire<'_>,
    ours: &Ours,
    questions: &[Question],
) -> Result<Vec<Row>> {
    wire.put(Behind::Reflector)?;
    questions::verify(wire, questions, |question, reply| {
        ensure!(reply == question.payload, "not what was sent");
        Ok(())
    })
    .context(report::REFLECTOR)?;
    wire.put(ours.program()?)?;
    questions::verify(wire, questions, |question, reply| ours.judge(question, reply))
        .context(report::OURS)?;
    Ok([report::DROP, report::REFLECTOR, report::OURS].map(|peer| Row::new(peer, workload)).into())
}

fn kernel_round(rows: &mut [Row], wire: &mut Wire<'_>, ours: &Ours, effort: Effort) -> Result<()> {
    for (row, behind) in rows.iter_mut().zip([Behind::Nothing, Behind::Reflector, ours.program()?]) {
        let sample = sample(wire, behind, effort.packets, 1, None);
        row.note(sample.with_context(|| row.peer.to_owned())?);
    }
    Ok(())
}

/// Starts a server, and looks at all its answers.
fn started<'s>(
    wire: &mut Wire<'_>,
    server: &'s Server,
    asked: &Asked,
    questions: &[Question],
) -> Result<Running<'s>> {
    wire.put(Behind::Sockets)?;
    let mut running = server.start().with_context(|| server.software.remedy())?;
    let first = questions.first().context("no questions")?;
    questions::wait_for_answer(wire, first, || running.check()).with_context(|| server.software.name())?;
    questions::verify(wire, questions, |question, reply| {
        let region = asked.region(question.flow.client.ip())?;
        questions::gives(question, reply, server.software.address(region))
    })
    .with_context(|| server.software.name())?;
    Ok(running)
}

/// Finds the fastest pace at which a server loses next to nothing.
fn paced(
    wire: &mut Wire<'_>,
    server: Server,
    asked: &Asked,
    questions: &[Question],
    effort: Effort,
) -> Result<Paced> {
    let running = started(wire, &server, asked, questions)?;
    let mut best = None;
    for pace in PACES {
        // More than a server's buffers hold.
        let queries = whole_bursts(TRY.as_secs_f64() / (RUN.as_secs_f64() * f64::from(pace)));
        let mut runs = [wire.send(queries, pace)?, wire.send(queries, pace)?];
        // Another process may have had the server's CPU for a moment.
        runs.sort_by_key(|run| run.answers);
        let run = runs[1];
        if loss(&run, run.answers) >= LOSS {
            break;
        }
        best = Some((pace, run));
    }
    let (pace, run) = best.context("it loses queries even at the slowest pace")?;
    let rate = run.answers as f64 / run.wall.as_secs_f64();
    let queries = whole_bursts(rate * effort.time.as_secs_f64());
    drop(running);
    Ok(Paced { server, pace, queries })
}

fn whole_bursts(queries: f64) -> u32 {
    (queries as u32).next_multiple_of(BURST)
}

fn loss(run: &Run, answers: u64) -> f64 {
    1.0 - answers as f64 / run.sent as f64
}

/// Sends queries to a peer; right before, as many are made for nobody.
fn sample(
    wire: &mut Wire<'_>,
    behind: Behind<'_>,
    queries: u32,
    pace: u32,
    server: Option<&Running<'_>>,
) -> Result<Sample> {
    wire.put(Behind::Nobody)?;
    let idle = wire.send(queries, pace)?;
    ensure!(idle.answers + idle.others == 0, "replies while nobody was asked");
    wire.put(behind)?;
    let spent = || server.map_or(Ok(Duration::ZERO), Running::cpu_time);
    let before = spent()?;
    let run = wire.send(queries, pace)?;
    let cpu = run.kernel + spent()?.saturating_sub(before);
    let (answers, strange) = match behind {
        // A frame that was turned around is still a query.
        Behind::Reflector => (run.others, run.answers),
        Behind::Nothing => (run.sent, run.answers + run.others),
        _ => (run.answers, run.others),
    };
    ensure!(strange == 0 && answers > 0, "{answers} answers and {strange} other replies");
    Ok(Sample {
        cost: (cpu.as_secs_f64() - idle.kernel.as_secs_f64()) * 1e9 / answers as f64,
        loss: loss(&run, answers),
        rate: answers as f64 / run.wall.as_secs_f64(),
    })
}
