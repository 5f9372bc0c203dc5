//! Copies made and load spread by ways of choosing servers for objects that are asked for as by Zipf's law, and what
//! moves when servers change (P-11). The choice is the production planner's and [`decide`]'s, widening and bounds are
//! [`crate::state::heat`]'s; only clients, objects and time are made up.

use crate::state::heat::{Asked, Bounded, Kept, Widths};
use crate::state::new_slots;
use redirector_core::decide::{Client, Query, decide, object_hash};
use redirector_core::hash::splitmix;
use redirector_core::table::Tables;
use redirector_core::verdict::Verdict;
use redirector_plan::compile::{Compiled, compile};
use redirector_plan::model::{
    Affinity, ChooseBy, Coverage, DnsAnswer, Network, Origin, Outcome, Pool, Service, Target, TargetState,
    Tier,
};
use redirector_plan::objects::Object;
use redirector_plan::overflow::{Capacity, Terms};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Workload {
    /// Servers with equal shares, 2 to 64.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub servers: u32,
    /// Objects.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub objects: u32,
    /// Exponent of Zipf's law: the object of rank n is asked for in proportion to 1/n to the power of this.
    #[arg(long, default_value_t = 0.9)]
    pub zipf: f64,
    /// Requests in a second.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Seconds; the first quarter is not counted for loads.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(4..=100_000))]
    pub seconds: u32,
    /// Networks of clients.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub clients: u32,
    /// Requests in a second for an object that a further server is taken for.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub widen_at: u32,
    /// Most servers of one object, 1 to 8.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub at_most: u8,
    /// How many times its share a server may get, in percent.
    #[arg(long, default_value_t = 125, value_parser = clap::value_parser!(u16).range(105..=1000))]
    pub bound: u16,
}

/// A way to choose servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// What it is called.
    pub name: String,
    /// Pairs of an object and a server that it was asked of: each is a copy that the server had to fetch.
    pub copies: u64,
    /// The same for each object that was asked for.
    pub copies_per_object: f64,
    /// Requests that found their object at the server, in percent of all.
    pub hits: f64,
    /// The busiest server's load in any second, in parts of its share.
    pub busiest: f64,
    /// The busiest server's load over all seconds, in parts of its share.
    pub busiest_on_average: f64,
    /// Objects with several servers at the end.
    pub wide: usize,
}

/// A change of servers, and what moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// What changes.
    pub change: String,
    /// The part of the shares that changes hands, in percent.
    pub shifted: f64,
    /// The part of objects that are asked of another server than before, in percent.
    pub moved: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was simulated.
    pub workload: Workload,
    /// Objects that were asked for.
    pub asked: u64,
    /// Ways to choose servers.
    pub ways: Vec<Way>,
    /// Changes of servers, where content chooses.
    pub moves: Vec<Move>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { servers, objects, zipf, rate, seconds, clients, widen_at, at_most, bound } =
            self.workload;
        writeln!(
            f,
            "{servers} servers, {objects} objects by Zipf {zipf}, {rate} requests/s for {seconds} s from {clients} networks"
        )?;
        writeln!(
            f,
            "widened at {widen_at} requests/s to {at_most} servers at most; bound {bound} % of the share"
        )?;
        writeln!(f, "{} objects were asked for", self.asked)?;
        writeln!(
            f,
            "\n{:<30} {:>9} {:>11} {:>8} {:>9} {:>9} {:>6}",
            "chosen by", "copies", "per object", "hits", "busiest", "average", "wide"
        )?;
        for way in &self.ways {
            let Way { name, copies, copies_per_object, hits, busiest, busiest_on_average, wide } = way;
            writeln!(
                f,
                "{name:<30} {copies:>9} {copies_per_object:>11.2} {hits:>6.2} % {busiest:>9.2} {busiest_on_average:>9.2} {wide:>6}"
            )?;
        }
        writeln!(f, "\n{:<42} {:>10} {:>10}", "change", "of shares", "of objects")?;
        for Move { change, shifted, moved } in &self.moves {
            writeln!(f, "{change:<42} {shifted:>8.2} % {moved:>8.2} %")?;
        }
        Ok(())
    }
}

/// Simulates.
///
/// # Errors
/// If the planner refuses the network, which says why.
pub fn run(workload: Workload) -> Result<Report, String> {
    let law = Law::new(workload.objects, workload.zipf);
    let affinity = |widen_at, bound| Affinity { widen_at, at_most: workload.at_most, bound };
    let (widen_at, bound) = (Some(workload.widen_at), Some(workload.bound));
    let ways = [
        ("shares, for each request", ChooseBy::Spread, None),
        ("client network", ChooseBy::ClientPrefix, None),
        ("content", ChooseBy::Content, Some(affinity(None, None))),
        ("content, hot objects widened", ChooseBy::Content, Some(affinity(widen_at, None))),
        ("content, widened and bounded", ChooseBy::Content, Some(affinity(widen_at, bound))),
    ];
    let mut report = Report { workload, asked: 0, ways: Vec::new(), moves: moves(workload)? };
    for (name, choose_by, affinity) in ways {
        let (asked, way) = try_way(name, workload, &law, choose_by, affinity)?;
        report.asked = asked;
        report.ways.push(way);
    }
    Ok(report)
}

/// Numbers that are the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        splitmix(self.0)
    }

    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Zipf's law: the sums of what objects are asked for.
struct Law(Vec<f64>);

impl Law {
    fn new(objects: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=objects).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, random: &mut Random) -> usize {
        let point = random.part() * self.0.last().copied().unwrap_or(1.0);
        self.0.partition_point(|sum| *sum <= point).min(self.0.len() - 1)
    }
}

fn network(weights: &[u32], choose_by: ChooseBy, affinity: Option<Affinity>) -> Network {
    let target = |number: usize| Target {
        name: format!("server-{number:02}"),
        site: String::new(),
        ipv4: Some(Ipv4Addr::new(192, 0, 2, number as u8)),
        ipv6: None,
        host: None,
        outcome: Outcome::default(),
        http_port: 80,
        https_port: 443,
        rtsp_port: 554,
        network: 0,
        capacity: Capacity::default(),
        origin: Origin::default(),
    };
    let members = weights.iter().copied().enumerate().filter(|(_, weight)| *weight > 0).collect();
    let tier = Tier {
        region: None,
        pools: vec![(0, 1)],
        ttl: None,
        within: None,
        terms: Terms::default(),
        origin: Origin::default(),
    };
    Network {
        key: *b"simulated choice",
        cdns: vec!["simulated".to_owned()],
        targets: (0..weights.len()).map(target).collect(),
        pools: vec![Pool { name: "servers".to_owned(), members, origin: Origin::default() }],
        coverages: vec![Coverage { name: "all".to_owned(), tiers: vec![tier], origin: Origin::default() }],
        services: vec![Service {
            name: "objects".to_owned(),
            class: String::new(),
            cdn: 0,
            coverage: 0,
            ttl: 0,
            hint_lifetime: 30,
            choose_by,
            affinity,
            dns: DnsAnswer::Server,
            https: None,
            srv: None,
            answers: 1,
            policy_class: 0,
            fallback: Vec::new(),
            authorised: None,
            location: None,
            origin: Origin::default(),
        }],
        ..Network::default()
    }
}

fn compiled(network: &Network, states: &[TargetState]) -> Result<Compiled, String> {
    let compiled = compile(network, states, 1, &mut new_slots());
    compiled.map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// Hash of an object as a service knows what is asked for.
fn content(object: usize) -> u64 {
    splitmix(object as u64 ^ 0x6f62_6a65_6374)
}

/// The server that a request gets.
fn server(compiled: &Compiled, object: usize, client: u32, spread: u64) -> Option<usize> {
    let image = &compiled.image;
    let query = Query {
        client: Client::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + (client << 8)))),
        content: content(object),
        spread,
        want: 1,
        ..Query::default()
    };
    let mut verdict = Verdict::default();
    decide::<_, true>(&query, image.service(0)?, image, &mut verdict);
    (verdict.count > 0).then_some(verdict.targets[0] as usize)
}

/// What is counted of one way.
struct Counts {
    /// By object: the servers that it was asked of, a bit each.
    copies: Vec<u64>,
    requests: u64,
    /// By server, of all seconds that count.
    load: Vec<u64>,
    busiest: f64,
}

fn try_way(
    name: &str,
    workload: Workload,
    law: &Law,
    choose_by: ChooseBy,
    affinity: Option<Affinity>,
) -> Result<(u64, Way), String> {
    let servers = workload.servers as usize;
    let network = network(&vec![1; servers], choose_by, affinity);
    let mut states = vec![TargetState::default(); servers];
    let (mut widths, mut kept) = (Widths::default(), Kept::default());
    let mut tables = compiled(&network, &states)?;
    let mut random = Random(7);
    let mut counts =
        Counts { copies: vec![0; law.0.len()], requests: 0, load: vec![0; servers], busiest: 0.0 };
    for second in 0..workload.seconds {
        let (asked, load) = one_second(workload, law, &tables, &mut random, &mut counts)?;
        if second >= workload.seconds / 4 {
            let most = load.iter().max().copied().unwrap_or(0);
            counts.busiest = counts.busiest.max(most as f64 * servers as f64 / f64::from(workload.rate));
            counts.load.iter_mut().zip(&load).for_each(|(sum, one)| *sum += one);
        }
        let Some(affinity) = affinity else { continue };
        let mut changed = widths.tick(1.0, &warm(&tables, &asked), |_| Some(affinity));
        if let Some(bound) = affinity.bound {
            let shares = (0..servers as u16).map(|target| (target, 1.0 / servers as f64)).collect();
            let tier = Bounded { shares, bound: f64::from(bound) / 100.0 };
            changed |= kept.tick(&[tier], |target| load[usize::from(target)] as f64);
            states.iter_mut().zip(0..).for_each(|(state, target)| state.factor = kept.factor(target));
        }
        if changed {
            tables = compiled(&network, &states)?;
            let objects: Vec<Object> = widths.objects().collect();
            tables.place_objects(&objects, &states);
        }
    }
    let asked = counts.copies.iter().filter(|servers| **servers != 0).count() as u64;
    let copies: u64 = counts.copies.iter().map(|servers| u64::from(servers.count_ones())).sum();
    let counted: u64 = counts.load.iter().sum();
    let most = counts.load.iter().max().copied().unwrap_or(0);
    let way = Way {
        name: name.to_owned(),
        copies,
        copies_per_object: copies as f64 / asked as f64,
        hits: 100.0 * (1.0 - copies as f64 / counts.requests as f64),
        busiest: counts.busiest,
        busiest_on_average: most as f64 * servers as f64 / counted as f64,
        wide: widths.len(),
    };
    Ok((asked, way))
}

/// Requests by object, and by server.
type Second = (Vec<u32>, Vec<u64>);

fn one_second(
    workload: Workload,
    law: &Law,
    tables: &Compiled,
    random: &mut Random,
    counts: &mut Counts,
) -> Result<Second, String> {
    let (mut asked, mut load) = (vec![0; law.0.len()], vec![0; counts.load.len()]);
    for _ in 0..workload.rate {
        let object = law.draw(random);
        let client = (random.next() % u64::from(workload.clients)) as u32;
        let server = server(tables, object, client, random.next()).ok_or("nobody serves the objects")?;
        asked[object] += 1;
        load[server] += 1;
        counts.copies[object] |= 1 << server;
        counts.requests += 1;
    }
    Ok((asked, load))
}

/// The objects that could be hot.
fn warm(tables: &Compiled, asked: &[u32]) -> Vec<Asked> {
    let image = &tables.image;
    let Some(service) = image.service(0) else { return Vec::new() };
    let hash = |object: usize| object_hash(&image.meta.keys, service.salt, content(object));
    let is_asked = |(_, requests): &(usize, &u32)| **requests > 1;
    let one = |(object, requests): (usize, &u32)| Asked {
        hash: hash(object),
        service: 0,
        requests: f64::from(*requests),
    };
    asked.iter().enumerate().filter(is_asked).map(one).collect()
}

/// What moves by changes of servers.
fn moves(workload: Workload) -> Result<Vec<Move>, String> {
    let servers = workload.servers as usize;
    let up = |count: usize| vec![TargetState::default(); count];
    let even = vec![100; servers];
    let with = |weight: u32| {
        let mut weights = even.clone();
        weights[servers / 2] = weight;
        weights
    };
    let state = |state: TargetState| {
        let mut states = up(servers);
        states[servers / 2] = state;
        states
    };
    let more = vec![100; servers + 1];
    let mut one_less = more.clone();
    one_less[servers] = 0;
    let shed = TargetState { factor: 205, ..TargetState::default() };
    let dead = TargetState { up: false, ..TargetState::default() };
    let changes = [
        ("one server's load factor falls to 205/256", &even, up(servers), &even, state(shed)),
        ("one server fails", &even, up(servers), &even, state(dead)),
        ("one server's weight falls by a fifth", &even, up(servers), &with(80), up(servers)),
        ("one server's weight is doubled", &even, up(servers), &with(200), up(servers)),
        ("a server is added", &one_less, up(servers + 1), &more, up(servers + 1)),
    ];
    let mut found = Vec::new();
    for (change, before, states, after, new_states) in changes {
        let old = placement(workload, before, &states)?;
        let new = placement(workload, after, &new_states)?;
        let differ = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        let (old, new) = (shares(before, &states), shares(after, &new_states));
        let shifted: f64 = old.iter().zip(&new).map(|(old, new)| (old - new).abs()).sum::<f64>() / 2.0;
        let moved = differ as f64 / f64::from(workload.objects);
        found.push(Move { change: change.to_owned(), shifted: 100.0 * shifted, moved: 100.0 * moved });
    }
    Ok(found)
}

/// The server of each object.
fn placement(workload: Workload, weights: &[u32], states: &[TargetState]) -> Result<Vec<usize>, String> {
    let tables = compiled(&network(weights, ChooseBy::Content, None), states)?;
    let server = |object| server(&tables, object, 1, 0).ok_or_else(|| "nobody serves the objects".to_owned());
    (0..workload.objects as usize).map(server).collect()
}

fn shares(weights: &[u32], states: &[TargetState]) -> Vec<f64> {
    let kept = |(weight, state): (&u32, &TargetState)| {
        f64::from(*weight) * if state.up { f64::from(state.factor) } else { 0.0 }
    };
    let all: Vec<f64> = weights.iter().zip(states).map(kept).collect();
    let sum: f64 = all.iter().sum();
    all.into_iter().map(|kept| kept / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Workload = Workload {
        servers: 8,
        objects: 2000,
        zipf: 1.1,
        rate: 4000,
        seconds: 40,
        clients: 500,
        widen_at: 100,
        at_most: 4,
        bound: 125,
    };

    #[test]
    fn content_makes_one_copy_and_widening_and_bounds_spread_its_load_for_few_more() {
        let report = run(SMALL).expect("simulates");
        let [shares, client, content, widened, bounded] = &report.ways[..] else { panic!("{report}") };
        assert!((content.copies_per_object - 1.0).abs() < 1e-9, "{report}");
        assert!(shares.copies > 4 * content.copies && client.copies > 4 * content.copies, "{report}");
        assert!(content.busiest_on_average > 1.5, "one hot object is a server's load: {report}");
        assert!(widened.busiest_on_average < content.busiest_on_average, "{report}");
        assert!(widened.wide > 0 && widened.copies < content.copies + content.copies / 10, "{report}");
        assert!(bounded.busiest_on_average <= 1.25 * 1.04, "{report}");
        assert!(bounded.copies < 3 * content.copies, "{report}");
        for Move { change, shifted, moved } in &report.moves {
            assert!(*moved < 2.6 * shifted + 1.0, "{change}: {report}");
        }
    }

    #[test]
    fn the_same_is_found_on_every_run() {
        let workload = Workload { seconds: 4, ..SMALL };
        assert_eq!(run(workload), run(workload));
    }
}
