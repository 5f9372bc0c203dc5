//! A daemon that is given one configuration after another while it is asked at full rate: by test-runs of whatever
//! program is attached, and by datagrams over its interface.

use crate::usage::Usage;
use crate::watch::{Probe, Progress};
use anyhow::{Context as _, Result, bail, ensure};
use redirector_core::wire::Action;
use redirector_plan::image::TableImage;
use redirector_plan::model::{Network, TargetState};
use redirector_plan::reference::{Scale, reference};
use redirector_tests::attached::Attached;
use redirector_tests::frames::{Datagram, Flow};
use redirector_tests::generate::Generator;
use redirector_tests::lab::config::NO_LIMITS;
use redirector_tests::lab::topology::{BOX, Family, node};
use redirector_tests::lab::{Cmd, Daemon, Lab};
use redirector_tests::questions::{DnsQuery, name_of, rr};
use redirector_tests::slow::AtTime;
use redirector_tests::{networks, program, slow, written};
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// `bpf(2)`'s action for a frame that is sent back.
const XDP_TX: u32 = 3;
/// Queries that are tried for each kind of traffic.
const TRIED: usize = 6000;
/// Queries in flight over the interface.
const WINDOW: usize = 32;
/// How long an answer may take; without one the query counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// The client that asks over the interface.
const CLIENT: &str = "c-fr";

/// What was seen of a run of switches.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What the daemon says of each generation, the first included: see `redirector stats`.
    pub(crate) built: Vec<Value>,
    /// From the request to the acknowledgement of each reload.
    pub(crate) reloads: Vec<Duration>,
    /// What the daemon holds after the start and after each switch.
    pub(crate) usage: Vec<Usage>,
    /// Answers that were looked at: of test-runs, and over the interface.
    pub(crate) answers: [u64; 2],
    /// How often test-runs met a new program.
    pub(crate) replaced: u64,
    /// Queries over the interface without an answer.
    pub(crate) lost: u64,
    /// Answers of neither configuration, or of one that did not hold.
    pub(crate) wrong: Vec<String>,
    /// How long it took over all.
    pub(crate) elapsed: Duration,
}

/// Two configurations, and queries that every one of them answers otherwise.
pub(crate) struct Switches {
    texts: [String; 2],
    /// From any client to any service.
    anywhere: Vec<Probe>,
    /// From the lab's client to the lab's VIP.
    over_the_wire: Vec<Probe>,
    vips: Vec<String>,
}

impl Switches {
    /// The reference network, and the same with another coverage and TTL for each service.
    pub(crate) fn new(scale: Scale) -> Result<Self> {
        let mut network = reference(scale);
        let compiled = |network: &Network| {
            networks::image(network, &vec![TargetState::default(); network.targets.len()])
        };
        let text = |network: &Network| written::tables(network, Some("eth0")).concat() + NO_LIMITS;
        let (one, first) = (compiled(&network), text(&network));
        let mut anywhere: Vec<Probe> = Generator::new(&network, &one, 9)
            .take(TRIED)
            .map(|case| Probe::new(case.flow, case.payload))
            .collect();
        let mut over_the_wire: Vec<Probe> = queries_of_the_lab(&network)?;
        let vips = network.vips.iter().flat_map(|vip| {
            let v4 = vip.ipv4.iter().map(|address| format!("addr replace {address} dev lo\n"));
            v4.chain(vip.ipv6.iter().map(|address| format!("addr replace {address} dev lo\n")))
        });
        let vips = vips.collect();
        let coverages = network.coverages.len();
        for (number, service) in network.services.iter_mut().enumerate() {
            service.coverage = (service.coverage + 1) % coverages;
            service.ttl = 100 + (number % 3) as u32;
        }
        let (other, second) = (compiled(&network), text(&network));
        for probes in [&mut anywhere, &mut over_the_wire] {
            for image in [&one, &other] {
                probes.retain_mut(|probe| answer_by_the_fast_path(image, probe));
            }
            probes.retain(Probe::tells_states_apart);
            ensure!(probes.len() >= 100, "only {} queries tell the configurations apart", probes.len());
        }
        Ok(Self { texts: [first, second], anywhere, over_the_wire, vips })
    }

    /// Starts a daemon and has it take so many configurations in turn.
    pub(crate) fn run(&self, lab: &Lab, switches: u64) -> Result<Report> {
        let addresses = Cmd::new("ip").args(["-n", &lab.namespace(BOX), "-batch", "-"]);
        addresses.input(self.vips.concat()).run()?;
        let daemon = Daemon::start(lab, BOX, &program("redirector"), &self.texts[0], &[])?;
        let started = daemon.stats()?;
        ensure!(started["xdp"] != "off", "no fast path: {}", daemon.log());
        let (progress, start) = (Progress::default(), Instant::now());
        let mut attached = Attached::open(&lab.dir().join(BOX).join("bpf/redirector/links/native/eth0"))?;
        let mut report = thread::scope(|scope| {
            let tested = scope.spawn(|| {
                progress.ask(0, start, &self.anywhere, |probe| {
                    let (action, after) = attached.run(&probe.frame)?;
                    ensure!(action == XDP_TX, "action {action}");
                    Ok(Datagram::read(&after).context("no datagram")?.payload)
                })
            });
            let sent = scope.spawn(|| lab.within(CLIENT, || self.send(&progress))?);
            let switched = self.switch(&daemon, &progress, switches);
            progress.end();
            let tested = tested.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let sent = sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let mut report = switched?;
            report.answers = [tested.0, sent.answers];
            (report.lost, report.wrong) = (sent.lost, tested.1);
            report.wrong.extend(sent.wrong);
            anyhow::Ok(report)
        })?;
        report.built.insert(0, started["built"].clone());
        report.replaced = attached.replaced;
        report.elapsed = start.elapsed();
        Ok(report)
    }

    fn switch(&self, daemon: &Daemon<'_>, progress: &Progress, switches: u64) -> Result<Report> {
        let mut report = Report { usage: vec![Usage::settled(daemon, None)?], ..Report::default() };
        for number in 1..=switches {
            daemon.write_configuration(&self.texts[number as usize % 2])?;
            progress.begin(number);
            let began = Instant::now();
            daemon.reload()?;
            report.reloads.push(began.elapsed());
            progress.publish(number);
            let usage = Usage::settled(daemon, report.usage.first())?;
            report.usage.push(usage);
            report.built.push(daemon.stats()?["built"].clone());
        }
        Ok(report)
    }

    /// Sends datagrams to the VIP until the switches end.
    fn send(&self, progress: &Progress) -> Result<Sent> {
        let flow = &self.over_the_wire[0].flow;
        let socket = UdpSocket::bind(flow.client)?;
        socket.connect(flow.vip)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut sent = Sent::default();
        for window in self.over_the_wire.chunks(WINDOW).cycle() {
            if progress.has_ended() || sent.wrong.len() >= WINDOW {
                return Ok(sent);
            }
            sent.exchange(&socket, window, progress)?;
        }
        bail!("no queries")
    }
}

/// What was seen over the interface.
#[derive(Debug, Default)]
struct Sent {
    answers: u64,
    lost: u64,
    wrong: Vec<String>,
}

impl Sent {
    /// Sends all queries of a window, and waits for all answers.
    fn exchange(&mut self, socket: &UdpSocket, window: &[Probe], progress: &Progress) -> Result<()> {
        let earliest = progress.earliest();
        for probe in window {
            socket.send(&probe.payload)?;
        }
        let mut reply = [0; 2048];
        let mut waiting: Vec<&Probe> = window.iter().collect();
        while !waiting.is_empty() {
            let Ok(length) = socket.recv(&mut reply) else {
                self.lost += waiting.len() as u64;
                return Ok(());
            };
            let reply = &reply[..length];
            // DNS messages begin with the query's number, which is another one for each of them.
            let place = waiting.iter().position(|probe| probe.payload[..2] == reply[..2]);
            let Some(place) = place else {
                self.wrong.push(format!("an answer to no query: {reply:02x?}"));
                continue;
            };
            self.answers += 1;
            self.wrong.extend(progress.judge(waiting.swap_remove(place), earliest, reply).err());
        }
        Ok(())
    }
}

/// Notes the answer over an image; false if it is not for the fast path, or has a cookie and with it the time in it.
fn answer_by_the_fast_path(image: &TableImage, probe: &mut Probe) -> bool {
    let [now, later] = [1_000_000, 1_000_000_000].map(|seconds| {
        slow::respond::<_, false>(&AtTime(image, seconds), &probe.flow, &probe.payload)
            .filter(|outcome| outcome.action == Action::Reply)
    });
    let same = now == later;
    now.filter(|_| same).map(|outcome| probe.answers.push(outcome.message)).is_some()
}

/// DNS queries to the lab's VIP from its client, each with a number of its own.
fn queries_of_the_lab(network: &Network) -> Result<Vec<Probe>> {
    let vip = node(BOX).vip.context("the box has a VIP")?.v4;
    let flow = Flow {
        client: SocketAddr::new(node(CLIENT).own.of(Family::V4), 40_000),
        vip: SocketAddr::new(vip.into(), slow::DNS_PORT),
    };
    let cdn = network.vips.iter().find(|known| known.ipv4.contains(&vip)).context("not the lab's VIP")?.cdn;
    let zones = network.zones.iter().filter(|zone| zone.cdn == cdn);
    let rules = zones.flat_map(|zone| zone.grammars.iter().map(move |grammar| (zone, grammar)));
    let queries = rules.take(TRIED).zip(0..).map(|((zone, grammar), id)| {
        let name = name_of(zone, grammar);
        let query = DnsQuery { id, ..DnsQuery::new(&name, rr::A) };
        Probe::new(flow, query.encode())
    });
    Ok(queries.collect())
}
