//! What would change: `diff`, `replay` and `explain --time` on configurations (A-11, P-35).

use redirector::config::{DecisionLog, Errors, load, parse};
use redirector::journal::{
    Asked, Chosen, Decision, Entry, Files, Kind, PathTaken, Spoken, Wanted, files, written,
};
use redirector::manage::diff::{DiffReport, diff};
use redirector::manage::explain::{Explanation, Question, Wanted as WantedOf, explain};
use redirector::manage::replay::{ReplayReport, replay};
use redirector::manage::view::View;
use redirector_core::table::NONE;
use redirector_core::verdict::Reason;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// Two regions, each with a server of its own and the other one's behind it.
const CONFIGURATION: &str = r#"
[box]
name = "test"
management = "127.0.0.1"
xdp = "off"
[fleet]
key = "5eed5eed5eed5eed5eed5eed5eed5eed"
[[vip]]
cdn = "acme"
addresses = ["203.0.113.1"]
[[region]]
name = "fr"
prefixes = ["10.1.0.0/16", "10.3.0.0/16"]
[[region]]
name = "de"
prefixes = ["10.2.0.0/16"]
[[target]]
name = "fr-1"
addresses = ["198.51.100.1"]
[[target]]
name = "fr-2"
addresses = ["198.51.100.2"]
[[target]]
name = "de-1"
addresses = ["198.51.100.3"]
[[pool]]
name = "fr"
targets = ["fr-1", "fr-2"]
[[pool]]
name = "de"
targets = ["de-1"]
[[coverage]]
name = "all"
tiers = [
  { region = "fr", pools = ["fr"] },
  { region = "de", pools = ["de"] },
  { region = "*", pools = ["de"] },
]
[[service]]
name = "web"
coverage = "all"
urls = ["http://{object}.acme.net/*"]
[[zone]]
suffix = "acme.net"
names = [
  { labels = "{object}", service = "web" },
]
"#;

fn view(text: &str) -> View {
    let config = parse("test.toml", text.to_owned(), Path::new(""), Errors::Refuse);
    View::alone(config.unwrap_or_else(|errors| panic!("{}", errors.report(false)))).expect("compiles")
}

fn compare(text: &str) -> DiffReport {
    diff(&view(CONFIGURATION), &view(text))
}

#[test]
fn equal_configurations_do_not_differ_whatever_the_order_and_the_lines() {
    assert!(compare(CONFIGURATION).is_empty());
    let moved = CONFIGURATION
        .replace("[[region]]\nname = \"de\"\nprefixes = [\"10.2.0.0/16\"]\n", "# A comment.\n")
        + "[[region]]\nname = \"de\"\nprefixes = [\"10.2.0.0/16\"]\n";
    let report = compare(&moved);
    assert!(report.is_empty(), "{report}");
    assert_eq!(report.to_string(), "nothing changes\n");
    assert!(report.shares.compared > 0, "services and regions were compared");
}

#[test]
fn what_is_added_removed_and_changed_is_told_by_kind_and_name() {
    let text = CONFIGURATION
        .replace("addresses = [\"198.51.100.3\"]", "addresses = [\"198.51.100.4\"]")
        .replace("key = \"5eed5eed", "key = \"5eed5eee")
        .replace("{ labels = \"{object}\", service = \"web\" },", "{ labels = \"www\", service = \"web\" },");
    let report = compare(&text);
    let part =
        |kind: &str| report.parts.iter().find(|part| part.kind == kind).unwrap_or_else(|| panic!("{report}"));
    assert_eq!(part("target").changed[0].name, "de-1");
    let (before, after) = &part("target").changed[0].fields["ipv4"];
    assert_eq!((before, after), (&"198.51.100.3".into(), &"198.51.100.4".into()));
    assert_eq!(
        (&part("name").removed[..], &part("name").added[..]),
        (&["{object}.acme.net".to_owned()][..], &["www.acme.net".to_owned()][..])
    );
    let told = report.to_string();
    assert!(told.contains("another key") && !told.contains("5eed"), "secrets are not told: {told}");
    assert_eq!(report.parts.len(), 3, "{report}");
    // The key of all choices: half of the clients of two servers choose the other one.
    let fr = report.shares.changes.iter().find(|change| change.region == "fr").expect("changed");
    assert!((40.0..60.0).contains(&fr.moved), "{report}");
    assert!(report.shares.changes.iter().all(|change| change.region == "fr"), "{report}");
}

#[test]
fn shares_that_move_are_told_by_region_and_in_all() {
    // A third server in France: a third of the clients there move, to it.
    let text =
        CONFIGURATION.replace("targets = [\"fr-1\", \"fr-2\"]", "targets = [\"fr-1\", \"fr-2\", \"de-1\"]");
    let shares = compare(&text).shares;
    let [change] = &shares.changes[..] else { panic!("{:?}", shares.changes) };
    assert_eq!(
        (&*change.region, change.family, &change.services[..]),
        ("fr", "ipv4", &["web".to_owned()][..])
    );
    let close = |percent: f64, to: f64| (percent - to).abs() < 4.0;
    assert!(close(change.before["fr-1"], 50.0) && close(change.after["fr-1"], 33.3), "{change:?}");
    assert!(close(change.after["de-1"], 33.3) && !change.before.contains_key("de-1"), "{change:?}");
    // Intervals of the hashes: fr-1 keeps its own but for a third of them, and so on.
    assert!((30.0..55.0).contains(&change.moved), "{change:?}");
    // One of fr, de, and no region by IPv4 and IPv6; two prefixes of five, where no region counts as one.
    assert!((shares.moved_by_region - change.moved / 4.0).abs() < 0.01, "{shares:?}");
    assert!((shares.moved_by_prefix - change.moved / 2.5).abs() < 0.01, "{shares:?}");
    // A region is drained of its servers.
    let text = CONFIGURATION.replace("  { region = \"fr\", pools = [\"fr\"] },\n", "");
    let shares = compare(&text).shares;
    assert_eq!((shares.changes[0].moved, shares.changes[0].after["de-1"]), (100.0, 100.0));
}

#[test]
fn prefixes_that_change_their_region_are_counted() {
    let text = CONFIGURATION
        .replace("\"10.1.0.0/16\", \"10.3.0.0/16\"", "\"10.1.0.0/16\"")
        .replace("\"10.2.0.0/16\"", "\"10.2.0.0/16\", \"10.3.0.0/16\", \"10.9.0.0/16\"");
    let report = compare(&text);
    let moved: Vec<(&str, &str, u64, &str)> =
        report.prefixes.iter().map(|one| (&*one.from, &*one.to, one.prefixes, &*one.example)).collect();
    assert_eq!(moved, [("-", "de", 1, "10.9.0.0/16"), ("fr", "de", 1, "10.3.0.0/16")]);
}

/// When logs of tests begin, in microseconds since 1970.
const TIME: u64 = 1_900_000_000_000_000;

/// Where logs of tests are written.
struct Logged {
    dir: tempfile::TempDir,
    files: Files,
    time: u64,
}

/// Slots of the names that the log's decisions have.
const SLOTS: [(Kind, u32, &str); 6] = [
    (Kind::Vip, 1, "acme"),
    (Kind::Service, 1, "web"),
    (Kind::Region, 1, "fr"),
    (Kind::Target, 1, "fr-1"),
    (Kind::Target, 2, "fr-2"),
    (Kind::Target, 3, "de-1"),
];

impl Logged {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let wanted = Wanted { fast: 1, slow: 1 };
        let (file_size, file_age) = (64 << 20, Duration::from_secs(3600));
        let log = DecisionLog {
            directory: dir.path().to_owned(),
            wanted,
            file_size,
            file_age,
            total_size: 1 << 30,
        };
        let mut files = Files::new(log, "box".to_owned());
        files.begin(TIME).expect("begun");
        for (kind, slot, name) in SLOTS {
            files.put(&Entry::Name { kind, slot, name: name.into() });
        }
        Self { dir, files, time: TIME }
    }

    /// A client asked for a name and got this target.
    fn decision(&mut self, client: [u8; 4], target: u32, reason: Reason, one_in: u32) {
        self.time += 1000;
        let mut chosen = Chosen { vip: 1, service: 1, region: 1, account: NONE, ..Chosen::default() };
        (chosen.count, chosen.targets[0]) = (1, target);
        let mut message = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(b"\x03www\x04acme\x03net\x00\x00\x01\x00\x01");
        self.files.put(&Entry::Decision(Decision {
            time: self.time,
            generation: 1,
            epoch: 0,
            one_in,
            path: PathTaken::Fast,
            spoken: Spoken::Dns,
            reason,
            client: SocketAddr::new(IpAddr::V4(Ipv4Addr::from(client)), 5353),
            vip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
            asked: Asked::Message { length: message.len() as u32, bytes: message.into() },
            chosen,
        }));
    }

    fn replay(mut self, text: &str, against: Option<&str>) -> ReplayReport {
        self.files.close().expect("written");
        let logs: Vec<PathBuf> = files(self.dir.path()).expect("files");
        replay(&logs, view(text), against.map(view)).expect("replayed")
    }
}

static VIEW: LazyLock<View> = LazyLock::new(|| view(CONFIGURATION));

/// What a box with this configuration answers the client.
fn answer(client: [u8; 4]) -> u32 {
    let wanted = WantedOf::Name { name: "www.acme.net".into(), record_type: None };
    let client = IpAddr::V4(Ipv4Addr::from(client));
    let question = Question { client, ecs: None, wanted, vip: None, time: None };
    let told = explain(&VIEW, &question, |_| Ok(None)).expect("explained");
    SLOTS.iter().find(|(_, _, name)| *name == told.winners[0].target).expect("a target").1
}

#[test]
fn a_replay_moves_exactly_those_whose_answer_changes_weighted_by_what_they_stand_for() {
    let mut log = Logged::new();
    let mut expected = (0, 0);
    for client in 0..100u8 {
        let address = [10, 1, client, 1];
        let target = answer(address);
        log.decision(address, target, Reason::FirstTier, 1000);
        if target == 1 {
            expected = (expected.0 + 1, expected.1 + 1000);
        }
        log.decision([10, 2, client, 1], 3, Reason::FirstTier, 1);
    }
    assert!((20..80).contains(&expected.0), "both servers of France have clients");
    // Without fr-1, its clients go to fr-2, and nobody else moves.
    let text = CONFIGURATION.replace("targets = [\"fr-1\", \"fr-2\"]", "targets = [\"fr-2\"]");
    let report = log.replay(&text, None);
    assert_eq!((report.decisions, report.requests, report.skipped), (200, 100_100, 0));
    assert_eq!((report.moved, report.moved_requests), expected);
    assert_eq!((report.clients, report.moved_clients), (200, expected.0));
    let [one] = &report.moves[..] else { panic!("{report}") };
    assert_eq!((&*one.from, &*one.to, one.requests), ("fr-1", "fr-2", expected.1));
    let load = report.loads.iter().find(|load| load.target == "fr-2").expect("a load");
    assert_eq!((load.before, load.after), (100_000 - expected.1, 100_000), "{report}");
    let told = report.to_string();
    assert!(told.contains("fr-1 -> fr-2") && told.contains("times as much"), "{told}");
}

#[test]
fn a_replay_of_the_same_configuration_moves_nobody_and_of_two_compares_them() {
    let logged = || {
        let mut log = Logged::new();
        (0..50u8).for_each(|client| {
            let address = [10, 1, client, 1];
            log.decision(address, answer(address), Reason::FirstTier, 10);
        });
        log
    };
    let same = logged().replay(CONFIGURATION, None);
    assert_eq!((same.moved, same.reasons.len(), same.accounts.len()), (0, 0, 0), "{same}");
    // What is recorded plays no part if another configuration is given to compare with.
    let other = CONFIGURATION.replace("  { region = \"fr\", pools = [\"fr\"] },\n", "");
    let both = logged().replay(&other, Some(&other));
    assert_eq!((both.moved, both.decisions), (0, 50), "{both}");
    let against = logged().replay(&other, Some(CONFIGURATION));
    assert_eq!((against.moved, against.moved_requests), (50, 500), "{against}");
    assert!(against.moves.iter().all(|one| one.to == "de-1"), "{against}");
    let gone = CONFIGURATION.replace("labels = \"{object}\"", "labels = \"{object}.other\"");
    let gone = logged().replay(&gone, None);
    let [one] = &gone.stopped[..] else { panic!("{gone}") };
    assert_eq!((&*one.asked, &*one.reason, one.requests), ("www.acme.net A", "nxdomain", 500));
}

#[test]
fn a_replay_takes_health_from_the_log_as_it_changes() {
    let mut log = Logged::new();
    let address = |client: u8| [10, 1, client, 1];
    let ours: Vec<u8> = (0..100).filter(|client| answer(address(*client)) == 1).collect();
    let health = |log: &mut Logged, up| {
        let entry = Entry::Health { time: log.time, target: 1, up, factor: 256 };
        log.files.put(&entry);
    };
    for client in &ours {
        log.decision(address(*client), 1, Reason::FirstTier, 1);
    }
    health(&mut log, false);
    for client in &ours {
        log.decision(address(*client), 2, Reason::FirstTier, 1);
    }
    health(&mut log, true);
    for client in &ours {
        log.decision(address(*client), 1, Reason::FirstTier, 1);
    }
    let report = log.replay(CONFIGURATION, None);
    assert_eq!((report.decisions, report.moved), (3 * ours.len() as u64, 0), "{report}");
}

#[test]
fn damaged_logs_are_replayed_up_to_the_damage_and_it_is_told() {
    let mut log = Logged::new();
    (0..50u8).for_each(|client| log.decision([10, 2, client, 1], 3, Reason::FirstTier, 1));
    log.files.close().expect("written");
    let path = files(log.dir.path()).expect("files").remove(0);
    let mut bytes = fs::read(&path).expect("readable");
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).expect("written");
    let nothing = log.dir.path().join("no-log");
    fs::write(&nothing, written(&[])).expect("written");
    let report = replay(&[path, nothing], view(CONFIGURATION), None).expect("replayed");
    assert!((20..50).contains(&report.decisions), "{report}");
    assert_eq!((report.moved, report.damage.len()), (0, 1), "{report}");
    assert!(report.damage[0].contains(": byte "), "{report}");
}

/// A network whose clients a provider's CDN has served for it in the evening, since 2027.
fn with_agreement() -> String {
    let more = r#"
[network]
name = "acme"
[[target]]
name = "outside"
cname = "edge.abc.example"
[[provider]]
name = "abc"
services = ["web"]
primary = ["abc-cdn"]
outside = "outside"
[[peering]]
name = "evening"
with = "abc-cdn"
hours = ["18:00-24:00"]
valid = { from = 2027-01-01 }
"#;
    CONFIGURATION.to_owned() + more
}

#[test]
fn an_explanation_of_another_time_takes_agreements_as_they_hold_then_and_shows_every_step() {
    let view = view(&with_agreement());
    let at = |time: u64| -> Explanation {
        let wanted = WantedOf::Name { name: "www.acme.net".into(), record_type: None };
        let client = "10.2.0.1".parse().expect("address");
        let question = Question { client, ecs: None, wanted, vip: None, time: Some(time) };
        explain(&view, &question, |_| Ok(None)).unwrap_or_else(|problem| panic!("{problem}"))
    };
    let day = |date: &str| redirector::config::terms::instant(date, false).expect("a time");
    // Noon, evening, and the evening before it began.
    for (time, winner, why) in [
        ("2027-02-01T12:00:00Z", "outside", "out of hours"),
        ("2027-02-01T19:00:00Z", "de-1", ""),
        ("2026-12-01T19:00:00Z", "outside", "not valid yet"),
    ] {
        let told = at(day(time));
        assert_eq!(told.winners[0].target, winner, "{told}");
        let stages: Vec<&str> = told.steps.iter().map(|step| step.stage.as_str()).collect();
        assert_eq!(
            stages,
            ["authorisation", "agreement", "network share", "site", "target", "answer"],
            "{told}"
        );
        let agreement = &told.steps[1];
        assert!(agreement.why.contains(why), "{time}: {agreement}");
        let text = told.to_string();
        assert!(
            text.contains(&format!("as of      {time}")) && text.contains("step 2     agreement"),
            "{text}"
        );
    }
    // Nothing of the view itself has changed.
    let states: BTreeMap<&str, bool> = view.facts.iter().map(|fact| (fact.name.as_str(), fact.up)).collect();
    assert!(states["de-1"]);
    assert!(load(Path::new("/nonexistent")).is_err());
}
