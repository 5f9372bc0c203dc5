//! Recursive resolvers between clients and the box: they come to it by a delegation of its zone to the VIP (P-5).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use redirector_tests::{
    lab::{
        Client, Daemon, DnsReport, Lab, Resolver, RootServer, Software,
        config::{VIP_NAME, configuration},
        topology::{BOX, Family, Node, Role, node, with_role},
        wait_for,
    },
    program, require_commands, require_lab,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Time to live of the names that resolvers may keep; longer than a box takes to notice a server's death.
const TTL: Duration = Duration::from_secs(10);

fn require() -> Option<Lab> {
    require_commands(&Software::ALL.map(Software::program)).then(require_lab).flatten()
}

fn start<'a>(lab: &'a Lab, configuration: &str) -> Daemon<'a> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), configuration, &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

/// Every kind of resolver, in each region, over each family.
fn resolvers<'a>(root: &'a RootServer<'a>) -> Vec<Resolver<'a>> {
    let mut all = Vec::new();
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            let start = |software| Resolver::start(root, client.name, software, family).unwrap();
            all.extend(Software::ALL.map(start));
        }
    }
    all
}

/// The server that is nearest to a resolver, wherever its clients are.
fn nearest(resolver: &Resolver<'_>) -> &'static Node {
    node(if resolver.at.name == "c-fr" { "s-fr" } else { "s-de" })
}

/// A client of the resolver in the resolver's own region.
fn neighbour<'a>(lab: &'a Lab, resolver: &Resolver<'_>) -> Client<'a> {
    lab.client(resolver.at.name, resolver.family)
}

#[track_caller]
fn expect(report: &DnsReport, status: &str, addresses: &[IpAddr], what: &str) {
    assert_eq!((&*report.status, &report.addresses()[..]), (status, addresses), "{what}: {report:?}");
    assert!(report.flag("ra") && !report.flag("aa"), "{what} was not answered by a resolver: {report:?}");
}

#[test]
fn clients_of_a_resolver_get_the_server_that_is_nearest_to_it() {
    let Some(lab) = require() else { return };
    let daemon = start(&lab, &configuration(BOX));
    let root = RootServer::start(&lab, "s-deep").unwrap();
    for (number, resolver) in resolvers(&root).iter().enumerate() {
        let what = format!("{:?} at {} over {}", resolver.software, resolver.at.name, resolver.family.name());
        let own = nearest(resolver).own;
        // A customer that was never heard of. Unbound asks for one label more each time, and so for names between
        // those that have records.
        let customer = format!("Customer{number}.cdn.acme.net");
        let name = format!("index.web.{customer}");
        let ask = || resolver.ask(&neighbour(&lab, resolver), &[&name, "A"]).unwrap();
        let (report, risen) = daemon.counted(ask).unwrap();
        expect(&report, "NOERROR", &[own.v4.into()], &what);
        let between = risen.iter().any(|risen| risen.reason == "nodata-partial");
        assert!(
            between || resolver.software != Software::Unbound,
            "{what} asked for no name between: {risen:?}"
        );

        for client in with_role(Role::Client) {
            let client = lab.client(client.name, resolver.family);
            let ask = |name: &str, kind: &str| resolver.ask(&client, &[name, kind]).unwrap();
            let name = format!("iMage-{}.wEb.{customer}", client.address().is_ipv4());
            expect(&ask(&name, "A"), "NOERROR", &[own.v4.into()], &what);
            expect(&ask(&name, "AAAA"), "NOERROR", &[own.v6.into()], &what);
            expect(&ask(&name, "HTTPS"), "NOERROR", &[], &what);
            let vip = node(BOX).vip.unwrap();
            expect(&ask(VIP_NAME, "A"), "NOERROR", &[vip.v4.into()], &what);
            expect(&ask(VIP_NAME, "AAAA"), "NOERROR", &[vip.v6.into()], &what);
            let discovery = ask(&format!("_cdsr.{VIP_NAME}"), "TXT");
            assert_eq!(discovery.answers[0].data, "\"v=cdsr1 port=2554\"", "{what}");
            // Neither an empty name nor one that does not exist hides others.
            expect(&ask(&format!("web.{customer}"), "A"), "NOERROR", &[], &what);
            expect(&ask(&format!("tv.{customer}"), "A"), "NXDOMAIN", &[], &what);
            expect(&ask(&format!("x.y.web.{customer}"), "AAAA"), "NXDOMAIN", &[], &what);
            expect(&ask(&format!("y.web.{customer}"), "A"), "NOERROR", &[own.v4.into()], &what);
            expect(&ask("www.acme.net", "A"), "NXDOMAIN", &[], &what);
        }
    }
}

/// An answer that a client got from a resolver.
struct Sample {
    sent: Instant,
    received: Instant,
    address: IpAddr,
    ttl: u32,
}

fn sample(lab: &Lab, resolver: &Resolver<'_>, name: &str) -> Sample {
    let sent = Instant::now();
    let report = resolver.ask(&neighbour(lab, resolver), &[name, resolver.family.record_type()]).unwrap();
    let received = Instant::now();
    let [record] = &report.answers[..] else { panic!("{report:?}") };
    Sample { sent, received, address: record.data.parse().unwrap(), ttl: record.ttl }
}

/// Answers of one name by a resolver, from the first one on.
struct History<'a, 'l> {
    resolver: &'a Resolver<'l>,
    first: Sample,
}

impl History<'_, '_> {
    /// The next answer is the one that the resolver must give now; whether it is another than the first.
    fn judge(&self, next: &Sample, after: IpAddr) -> bool {
        let what = format!("{:?} at {}", self.resolver.software, self.resolver.at.name);
        // Resolvers count whole seconds.
        let slack = Duration::from_secs(1);
        let (age_at_most, age_at_least) = (next.received - self.first.sent, next.sent - self.first.received);
        if next.address == self.first.address {
            assert!(age_at_least <= TTL + slack, "{what} gave an answer of {age_at_least:?}");
            return false;
        }
        assert_eq!(next.address, after, "{what}");
        assert!(age_at_most + slack >= TTL, "{what} gave up an answer after {age_at_most:?}");
        true
    }
}

#[test]
fn resolvers_keep_answers_for_their_time_to_live_and_follow_a_servers_death_after_it() {
    let Some(lab) = require() else { return };
    // One service whose answers may be kept, and one whose answers may not.
    let policy = configuration(BOX)
        .replace("dns = \"server\"\n", &format!("dns = \"server\"\nttl = \"{}s\"\n", TTL.as_secs()))
        .replace(
            "names = [\n",
            "names = [\n  { labels = \"{object}.now.{customer}\", service = \"now\" },\n",
        )
        + "[[service]]\nname = \"now\"\ncoverage = \"nearest\"\n";
    let daemon = start(&lab, &policy);
    let root = RootServer::start(&lab, "s-deep").unwrap();
    let all = resolvers(&root);
    let (kept, now) = ("index.web.abc.cdn.acme.net", "index.now.abc.cdn.acme.net");
    for resolver in &all {
        let expected = nearest(resolver).own.of(resolver.family);
        let first = sample(&lab, resolver, now);
        assert_eq!((first.address, first.ttl), (expected, 0));
    }
    let first = |resolver| History { resolver, first: sample(&lab, resolver, kept) };
    let histories: Vec<History<'_, '_>> = all.iter().map(first).collect();
    for History { resolver, first } in &histories {
        let expected = nearest(resolver).own.of(resolver.family);
        assert_eq!((first.address, u64::from(first.ttl)), (expected, TTL.as_secs()));
        let (again, risen) = daemon.counted(|| sample(&lab, resolver, kept)).unwrap();
        assert_eq!(again.address, expected);
        assert!(!risen.iter().any(|risen| risen.is_answer()), "asked again: {risen:?}");
    }
    lab.stop_servers("s-fr").unwrap();
    let de = |resolver: &Resolver<'_>| node("s-de").own.of(resolver.family);
    for resolver in &all {
        let moved = || (sample(&lab, resolver, now).address == de(resolver)).then_some(());
        wait_for("answers that may not be kept", LIMIT, moved).unwrap();
    }
    let mut late: Vec<&History<'_, '_>> =
        histories.iter().filter(|history| nearest(history.resolver).name == "s-fr").collect();
    let youngest = late.iter().map(|history| history.first.received.elapsed()).min();
    assert!(youngest < Some(TTL / 2), "too slow to see answers kept: {youngest:?}");
    wait_for("answers that may be kept", TTL + LIMIT, || {
        late.retain(|history| !history.judge(&sample(&lab, history.resolver, kept), de(history.resolver)));
        late.is_empty().then_some(())
    })
    .unwrap();
    for History { resolver, .. } in &histories {
        assert_eq!(sample(&lab, resolver, kept).address, de(resolver));
    }
}

/// M-11: clients in two networks behind one resolver get the servers of their own regions, and the resolver's cache
/// gives each network its own answer without asking again.
#[test]
fn a_resolver_that_tells_its_clients_networks_keeps_an_answer_for_each() {
    let Some(lab) = require() else { return };
    let ttl = "dns = \"server\"\nttl = \"600s\"\n";
    let daemon = start(&lab, &configuration(BOX).replace("dns = \"server\"\n", ttl));
    let root = RootServer::start(&lab, "s-deep").unwrap();
    let name = "index.web.abc.cdn.acme.net";
    for (family, neighbour) in [(Family::V4, "198.18.33.77"), (Family::V6, "2001:db8:33::77")] {
        // Another client of the network of `c-fr`.
        lab.exec("c-fr", ["ip", "addr", "add", neighbour, "dev", "eth0"]).run().unwrap();
        for at in ["c-de", "box2"] {
            let resolver = Resolver::start(&root, at, Software::UnboundForNetworks, family).unwrap();
            let ask = |from: &str, options: &[&str], kind: &str| {
                let query = [options, &[name, kind]].concat();
                let ask = || resolver.ask(&lab.client(from, family), &query).unwrap();
                let (report, risen) = daemon.counted(ask).unwrap();
                assert_eq!((&*report.status, report.answers.len()), ("NOERROR", 1), "{report:?}");
                (report.addresses()[0], risen.iter().filter(|risen| risen.is_answer()).count() > 0)
            };
            for each in Family::ALL {
                let (kind, of) = (each.record_type(), |server: &str| node(server).own.of(each));
                assert_eq!(ask("c-fr", &[], kind), (of("s-fr"), true), "the first network is asked for");
                assert_eq!(ask("c-de", &[], kind), (of("s-de"), true), "so is the second");
                let third = ask("c-fr", &["-b", neighbour], kind);
                assert_eq!(
                    third,
                    (of("s-fr"), false),
                    "a third client in the first has its answer in the cache"
                );
                assert_eq!(ask("c-de", &[], kind), (of("s-de"), false));
                assert_eq!(ask("s-fr", &[], kind), (of("s-deep"), true), "a network without region");
                assert_eq!(ask("c-fr", &[], kind), (of("s-fr"), false), "and changes nothing for the others");
            }
        }
    }
}
