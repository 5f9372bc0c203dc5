//! Who serves a provider's content: the rule of P-29 in the tables, clients' networks, and agreements that fill up.

mod common;

use common::*;
use ipnet::IpNet;
use redirector_core::table::{SERVICE_OUTCOMES, SERVICE_PROVIDED};
use redirector_core::verdict::Verdict;
use redirector_plan::Compiled;
use redirector_plan::explain::{AccountRemoval, accounts};
use redirector_plan::model::{LabelRule, Network, Outcome, Target, TargetState};
use redirector_plan::peering::{
    Agreement, Carries, ClientNetwork, Consent, Hours, Lapse, Peering, Provided, Provider, Terms, agreements,
    settle, split,
};
use redirector_plan::shares::records;
use std::net::{IpAddr, Ipv4Addr};

const DOWN: TargetState = TargetState { up: false, factor: 256, round_trip: None };

/// Services of the small network.
const TV: usize = 0;
const WEB: usize = 1;
/// What leads to the second backbone, behind the four servers.
const OUTSIDE: usize = 4;
/// Clients in region `de`: of the box's owner, and of the partner.
const OWN: [&str; 2] = ["10.1.2.3", "2001:db8:100::3"];
const PARTNERS: [&str; 2] = ["10.1.64.3", "2001:db8:101::3"];

fn network(name: &str, prefixes: &[&str]) -> ClientNetwork {
    let prefixes = prefixes.iter().map(|prefix| prefix.parse::<IpNet>().expect("prefix")).collect();
    ClientNetwork { name: name.into(), prefixes, origin: at(1100) }
}

fn provider(name: &str, customers: &[&str], services: &[&str], primary: &[&str]) -> Provider {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    Provider {
        name: name.into(),
        customers: owned(customers),
        services: owned(services),
        primary: owned(primary),
        outside: Some(OUTSIDE),
        origin: at(1200),
    }
}

fn agreement(name: &str, network: usize, with: &str) -> Agreement {
    Agreement {
        name: name.into(),
        network,
        with: with.into(),
        owner: None,
        carries: Carries::default(),
        order: 0,
        price: 0,
        terms: Terms::default(),
        origin: at(1300),
    }
}

/// The small network of `as500` with `as400` as a partner, whose prefixes lie in both regions. `tv` is content of a
/// provider of backbone `two`, and names of `web` whose customer is `abc` of one of backbone `one`.
fn peered(agreements: Vec<Agreement>) -> Network {
    let mut network = small();
    let outside = Outcome::Name("edge.two.example".into());
    network.targets.push(Target { ipv4: None, ipv6: None, outcome: outside, ..target(OUTSIDE) });
    network.peering = Peering {
        networks: vec![
            self::network("as500", &[]),
            self::network("as400", &["10.1.64.0/18", "10.2.64.0/18", "2001:db8:101::/48"]),
        ],
        providers: vec![provider("abc", &["abc"], &[], &["one"]), provider("nbc", &[], &["tv"], &["two"])],
        agreements,
        ..Peering::default()
    };
    split(&mut network);
    settle(&mut network);
    network
}

/// The target of an agreement for the provider of `tv`.
fn target_of(network: &Network, agreement: usize) -> usize {
    network.peering.agreement_target(agreement, 1).expect("it is about that provider")
}

fn named(network: &Network, service: &str) -> usize {
    network.services.iter().position(|known| known.name == service).expect("a service")
}

/// Names of the target that tells who serves a client.
fn account(compiled: &Compiled, network: &Network, service: usize, client: &str) -> String {
    let record = compiled.image.services[service];
    let both = SERVICE_OUTCOMES | SERVICE_PROVIDED;
    assert_eq!(record.flags & both, both, "chooses who serves");
    let client: IpAddr = client.parse().expect("an address");
    let verdict = verdict(&compiled.image, record.outcomes, client, false, 1);
    network.targets[verdict.targets[0] as usize].name.clone()
}

#[test]
fn primary_then_agreement_then_outside_by_the_clients_network() {
    let mut network = peered(vec![agreement("as400-two", 1, "two"), agreement("as500-one", 0, "one")]);
    let web_of_abc = named(&network, "web@abc");
    let all = |network: &Network| {
        let compiled = compiled(network);
        let ask = |service, client| account(&compiled, network, service, client);
        [(TV, OWN), (TV, PARTNERS), (web_of_abc, OWN), (web_of_abc, PARTNERS)].map(|(service, clients)| {
            let [v4, v6] = clients.map(|client| ask(service, client));
            assert_eq!(v4, v6);
            v4
        })
    };
    let outside = network.targets[OUTSIDE].name.clone();
    assert_eq!(all(&network), [&*outside, "agreement:as400-two@nbc", "agreement:as500-one@abc", &*outside]);
    // The partner is a primary CDN of its own: no agreement is asked for.
    network.peering.providers[1].primary.push("as400".into());
    settle(&mut network);
    assert_eq!(all(&network)[1], "network:as400@nbc");
}

#[test]
fn agreements_carry_what_they_say_and_are_used_by_order_and_price() {
    let with = |name: &str, change: fn(&mut Agreement)| {
        let mut made = agreement(name, 0, "two");
        change(&mut made);
        made
    };
    let mut network = peered(vec![
        with("a-dear", |one| one.price = 3_000_000),
        with("b-other-class", |one| one.carries.classes = vec!["film".into()]),
        with("c-other-provider", |one| one.carries.providers = vec!["abc".into()]),
        with("d-other-service", |one| one.carries.services = vec!["web".into()]),
        with("e-cheap", |one| one.price = 1),
        with("f-first", |one| (one.order, one.carries.classes) = (0, vec!["live".into()])),
        with("g-last", |one| one.order = 1),
        agreement("h-with-another", 0, "one"),
    ]);
    network.services[TV].class = "live".into();
    let provided = Provided { service: TV, written: TV, provider: 1 };
    let names = |network: &Network| -> Vec<String> {
        let used = agreements(network, &provided, 0);
        used.into_iter().map(|one| network.peering.agreements[one].name.clone()).collect()
    };
    assert_eq!(names(&network), ["f-first", "e-cheap", "a-dear", "g-last"]);
    assert!(agreements(&network, &provided, 1).is_empty(), "they are another network's");
    network.services[TV].class = "film".into();
    assert_eq!(names(&network), ["b-other-class", "e-cheap", "a-dear", "g-last"]);
}

/// Networks and regions nest in any way, each with the longest match.
#[test]
fn networks_refine_regions_and_change_nothing_else() {
    let network = peered(vec![]);
    let (plain, refined) = (compiled(&small()), compiled(&network));
    let class = |client: &str| {
        let number = region_number(&refined.image, client.parse().expect("an address"));
        refined.classes[number as usize]
    };
    let at = |client: &str| (class(client).region, class(client).network);
    let cases = [
        ("10.1.2.3", (1, 0)),
        ("10.1.64.3", (1, 1)),
        ("10.2.2.3", (2, 0)),
        ("10.2.127.255", (2, 1)),
        ("10.1.7.9", (2, 0)),
        ("2001:db8:101::3", (1, 1)),
        ("2001:db8:102::3", (1, 0)),
        ("192.0.2.1", (0, 0)),
    ];
    for (client, expected) in cases {
        assert_eq!(at(client), expected, "{client}");
        // What is nobody's content is served as without networks.
        let client: IpAddr = client.parse().expect("an address");
        let unprovided = named(&network, "web");
        let (before, after) = (
            verdict(&plain.image, WEB as u32, client, false, 1),
            verdict(&refined.image, unprovided as u32, client, false, 1),
        );
        assert_eq!(before.targets[0], after.targets[0]);
        assert_eq!(region_number(&plain.image, client), class(&client.to_string()).region);
    }
    assert_eq!(refined.classes.len(), 5, "two regions and none, and two of them with the partner");
}

#[test]
fn a_providers_names_become_services_of_their_own() {
    let mut network = small();
    network.targets.push(Target {
        outcome: Outcome::Name("edge.example".into()),
        ipv4: None,
        ipv6: None,
        ..target(OUTSIDE)
    });
    let listed = LabelRule::OneOf("customer".into(), vec!["abc".into(), "nbc".into(), "xyz".into()]);
    network.zones[0].grammars[1].labels = vec![listed, LabelRule::Fixed("tv".into())];
    network.peering = Peering {
        networks: vec![self::network("as500", &[])],
        providers: vec![
            provider("abc", &["abc"], &[], &["one"]),
            provider("nbc", &["nbc", "nbc-sports"], &["tv"], &["two"]),
        ],
        ..Peering::default()
    };
    split(&mut network);
    let grammars: Vec<(String, String)> = network.zones[0]
        .grammars
        .iter()
        .map(|one| {
            let label = |rule: &LabelRule| match rule {
                LabelRule::Fixed(label) => label.clone(),
                LabelRule::Free(name) => format!("{{{name}}}"),
                LabelRule::OneOf(_, values) => values.join("|"),
            };
            let labels: Vec<String> = one.labels.iter().map(label).collect();
            (labels.join("."), network.services[one.service].name.clone())
        })
        .collect();
    let expected = [
        ("{object}.web.abc", "web@abc"),
        ("{object}.web.{customer}", "web"),
        ("abc.tv", "tv@abc"),
        ("nbc.tv", "tv@nbc"),
        ("xyz.tv", "tv"),
    ];
    assert_eq!(grammars, expected.map(|(labels, service)| (labels.to_owned(), service.to_owned())));
    // URLs, too; and once more changes nothing, as when a service stays as it was.
    let urls = network.urls.len();
    assert_eq!(urls, 5, "each of the two rules has a part of `abc`, and the one of `tv` has one of `nbc`");
    let kept = |rule: &mut redirector_plan::model::UrlRule| {
        rule.service = network.peering.provided(rule.service).map_or(rule.service, |one| one.written);
    };
    let mut again = network.clone();
    again.urls.iter_mut().for_each(kept);
    again.services.truncate(2);
    again.zones[0].grammars.iter_mut().for_each(|one| one.service %= 2);
    split(&mut again);
    assert_eq!(again.urls.len(), urls);
}

/// Names of accounts of `tv` for an own client, and the parts of clients in percent.
fn shares(network: &Network, states: &[TargetState]) -> Vec<(String, f64, Option<AccountRemoval>)> {
    let compiled = compiled_with(network, states);
    let region = region_number(&compiled.image, OWN[0].parse().expect("an address"));
    let found = accounts(&compiled, TV, region, states);
    found.into_iter().map(|one| (network.targets[one.target].name.clone(), one.share, one.removed)).collect()
}

#[test]
fn a_full_agreement_takes_its_part_and_the_next_one_what_it_leaves() {
    let network = peered(vec![agreement("a", 0, "two"), agreement("b", 0, "two")]);
    let [a, b] = [0, 1].map(|one| target_of(&network, one));
    let outside = network.targets[OUTSIDE].name.clone();
    let mut states = all_up(&network);
    let full = |states: &mut Vec<TargetState>, target: usize, factor| states[target].factor = factor;
    let not_reached = Some(AccountRemoval::NotReached);
    let expect = |states: &[TargetState], expected: [(f64, Option<AccountRemoval>); 3]| {
        let names = ["agreement:a@nbc".to_owned(), "agreement:b@nbc".to_owned(), outside.clone()];
        let wanted: Vec<_> =
            names.into_iter().zip(expected).map(|(name, (share, why))| (name, share, why)).collect();
        assert_eq!(shares(&network, states), wanted);
    };
    expect(&states, [(100.0, None), (0.0, not_reached), (0.0, not_reached)]);
    full(&mut states, a, 64);
    expect(&states, [(25.0, None), (75.0, None), (0.0, not_reached)]);
    full(&mut states, b, 128);
    expect(&states, [(25.0, None), (37.5, None), (37.5, None)]);
    full(&mut states, a, 0);
    expect(&states, [(0.0, Some(AccountRemoval::Full)), (50.0, None), (50.0, None)]);
    states[b] = DOWN;
    expect(&states, [(0.0, Some(AccountRemoval::Full)), (0.0, Some(AccountRemoval::Lapsed)), (100.0, None)]);
}

/// Clients that are led to an agreement keep to it while it takes a smaller part, and the others get what comes next.
#[test]
fn when_an_agreement_takes_less_only_those_clients_move_whom_it_leaves() {
    let network = peered(vec![agreement("a", 0, "two")]);
    let target = target_of(&network, 0) as u32;
    let ask = |factor: u16| -> Vec<bool> {
        let mut states = all_up(&network);
        states[target as usize].factor = factor;
        let compiled = compiled_with(&network, &states);
        let choose = compiled.image.services[TV].outcomes;
        let client = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + n));
        let chosen = |verdict: Verdict| verdict.targets[0] == target;
        (0..4000).map(|n| chosen(verdict(&compiled.image, choose, client(n), false, 1))).collect()
    };
    let (half, quarter) = (ask(128), ask(64));
    let count = |taken: &[bool]| taken.iter().filter(|one| **one).count();
    assert!((1850..2150).contains(&count(&half)), "{}", count(&half));
    assert!((900..1100).contains(&count(&quarter)), "{}", count(&quarter));
    assert!(half.iter().zip(&quarter).all(|(half, quarter)| *half || !quarter));
}

#[test]
fn without_a_usable_server_for_the_client_its_network_counts_as_one_without_agreement() {
    let network = peered(vec![agreement("a", 0, "two")]);
    let mut states = all_up(&network);
    for server in 0..4 {
        assert_eq!(shares(&network, &states)[0].1, 100.0, "server {server} and those behind it are usable");
        states[server] = DOWN;
    }
    let found = shares(&network, &states);
    assert_eq!((found[0].1, found[0].2), (0.0, Some(AccountRemoval::NoServer)));
    assert_eq!(found[1].1, 100.0);
    // Following health gives the same: the group is one of those that the server's state matters to.
    let compiled = compiled(&network);
    let spills = |group: &u32| compiled.groups[*group as usize].spills;
    let group = compiled.target_groups[0].iter().copied().find(|group| spills(group)).expect("a group");
    assert_eq!(compiled.target_groups[target_of(&network, 0)], [group]);
    let block = records(&compiled.groups[group as usize], &states).expect("a record");
    let entry = block[0].used.trailing_zeros() as usize;
    assert_eq!((block[0].used.count_ones(), block[0].refs[entry]), (1, OUTSIDE as u16));
}

#[test]
fn terms_hold_from_their_begin_to_their_end_at_their_hours() {
    let day = 86_400;
    let terms = Terms {
        from: Some(10 * day),
        until: Some(20 * day),
        hours: vec![Hours { from: 82_800, until: 3600 }, Hours { from: 43_200, until: 46_800 }],
        ..Terms::default()
    };
    let cases = [
        (10 * day - 1, Some(Lapse::NotYet)),
        (10 * day, None),
        (10 * day + 3599, None),
        (10 * day + 3600, Some(Lapse::OutOfHours)),
        (10 * day + 43_200, None),
        (10 * day + 46_800, Some(Lapse::OutOfHours)),
        (20 * day - 1, None),
        (20 * day, Some(Lapse::Expired)),
    ];
    for (now, expected) in cases {
        assert_eq!(terms.lapse(now), expected, "{now}");
        for (state, lapse) in [(Consent::Offered, Lapse::Offered), (Consent::Withdrawn, Lapse::Withdrawn)] {
            assert_eq!(Terms { state, ..terms.clone() }.lapse(now), Some(lapse));
        }
    }
    assert_eq!(Terms::default().lapse(0), None);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut network = peered(vec![agreement("a", 7, "two")]);
    network.peering.providers[0].outside = None;
    let found: Vec<String> = refusals(&network).iter().map(ToString::to_string).collect();
    assert!(
        found.iter().any(|line| line.contains("peering \"a\": it names network number 7 of 2")),
        "{found:?}"
    );
    assert!(found.iter().any(|line| line.contains("provider \"abc\": it has no `outside`")), "{found:?}");
    // Every region with every network is a region of its own.
    let mut network = peered(vec![]);
    network.regions = (0..600u32)
        .map(|n| region_of(&format!("r{n:03}"), &[&format!("10.{}.{}.0/24", n >> 8, n & 255)]))
        .collect();
    let prefixes = |n: u32| -> Vec<String> {
        (0..600u32).map(|region| format!("10.{}.{}.{}/32", region >> 8, region & 255, n)).collect()
    };
    for n in 0..120 {
        let prefixes = prefixes(n);
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        network.peering.networks.push(self::network(&format!("n{n:03}"), &prefixes));
    }
    settle(&mut network);
    let found: Vec<String> = refusals(&network).iter().map(ToString::to_string).collect();
    assert!(
        found.iter().any(|line| line.contains("combinations of regions and networks, more than 65534")),
        "{found:?}"
    );
}
