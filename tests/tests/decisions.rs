//! The decision log of a box in the lab: written on both paths, replayed against other configurations, and no hindrance
//! when it cannot be written.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use redirector_tests::{
    lab::{
        Asker, Daemon, Lab, Protocol,
        config::configuration,
        topology::{BOX, Family, Role, node, with_role},
        wait_for,
    },
    program, require_lab,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);
/// What is written of the tiers of clients in France, and what would send them to Germany.
const FRANCE: &str = "{ region = \"fr\", pools = [\"fr\"] },";

/// The lab's configuration with a log of everything.
fn logging(directory: &Path) -> String {
    let log = format!(
        "[log]\ndecisions = {{ directory = \"{}\", sample = 1, file_size = \"64KiB\", total_size = \"1MiB\" }}\n\n",
        directory.display()
    );
    configuration(BOX).replace("[fleet]", &format!("{log}[fleet]"))
}

fn start<'l>(lab: &'l Lab, configuration: &str) -> Asker<'l> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), configuration, &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    let asker = Asker { lab, daemon, cdsr: program("cdsr") };
    for server in ["s-fr", "s-de", "s-deep"] {
        let checked = wait_for("checks", LIMIT, || {
            let stats = asker.daemon.stats().ok()?;
            let target = stats["targets"].as_array()?.iter().find(|target| target["name"] == server)?;
            target["round_trip_ms"].is_number().then_some(())
        });
        checked.unwrap_or_else(|error| panic!("{server}: {error:#}; {}", asker.daemon.log()));
    }
    asker
}

/// Every client asks by every protocol and family, and gets its region's server.
fn ask_all(asker: &Asker<'_>) {
    for client in with_role(Role::Client) {
        let expected = node(if client.name == "c-fr" { "s-fr" } else { "s-de" });
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                let row = asker.ask(client, family, protocol, expected).unwrap();
                assert!(row.met(), "{row:?}\n{}", asker.daemon.log());
            }
        }
    }
}

/// What a command of `redirector` prints, whatever its exit status, and that.
fn run(words: &[&str]) -> (String, i32) {
    let output = Command::new(program("redirector")).args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (text, output.status.code().unwrap())
}

fn shown(directory: &Path, options: &[&str]) -> Vec<Value> {
    let words = [&["log", "show", "--json", directory.to_str().unwrap()], options].concat();
    let (text, code) = run(&words);
    assert_eq!(code, 0, "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn replayed(log: &Path, configuration: &Path) -> Value {
    let words = ["replay", log.to_str().unwrap(), "--config", configuration.to_str().unwrap(), "--json"];
    let (text, code) = run(&words);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

/// Decisions by path, protocol, and the target that was chosen first, of those that chose one.
fn count(shown: &[Value], path: &str, protocol: &str, target: &str) -> usize {
    let is_it =
        |one: &&Value| one["path"] == path && one["protocol"] == protocol && one["targets"][0] == target;
    shown.iter().filter(is_it).count()
}

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn both_paths_are_logged_whole_and_a_replay_tells_exactly_who_would_move() {
    let Some(lab) = require_lab() else { return };
    let log = lab.dir().join("log");
    let text = logging(&log);
    let asker = start(&lab, &text);
    ask_all(&asker);
    let stats = asker.daemon.stats().unwrap();
    let dir = asker.daemon.dir();
    asker.daemon.stop().unwrap();
    let all = shown(&log, &[]);
    for target in ["s-fr", "s-de"] {
        for (path, protocol) in [("fast", "dns"), ("fast", "cdsr"), ("slow", "http"), ("slow", "rtsp")] {
            assert!(count(&all, path, protocol, target) >= 2, "{path} {protocol} {target}: {all:#?}");
        }
    }
    // Every answer that a path counted is in the log, once.
    for path in ["fast", "slow"] {
        let reasons = stats[path]["reasons"].as_object().unwrap();
        for reason in ["first-tier", "vip-address", "protocol"] {
            let counted = reasons.get(reason).and_then(Value::as_u64).unwrap_or(0);
            let logged = all.iter().filter(|one| one["path"] == path && one["reason"] == reason).count();
            assert_eq!(logged as u64, counted, "{path} {reason}");
        }
    }
    let first = all.iter().find(|one| one["protocol"] == "dns" && one["targets"][0] == "s-fr").unwrap();
    assert_eq!((&first["region"], &first["service"]), (&"fr".into(), &"web".into()), "{first}");
    assert_eq!((&first["vip"], &first["generation"]), (&"acme".into(), &stats["generation"]), "{first}");
    // What is asked for alone.
    let client = lab.client("c-fr", Family::V4).address().to_string();
    let some = shown(&log, &["--client", &client, "--reason", "first-tier"]);
    assert!(!some.is_empty() && some.len() < all.len());
    assert!(some.iter().all(|one| one["client"] == *client && one["targets"][0] == "s-fr"), "{some:#?}");

    let same = replayed(&log, &dir.join("redirector.toml"));
    assert_eq!((&same["moved"], &same["moves"]), (&0.into(), &Value::Array(vec![])), "{same:#}");
    assert_eq!(
        (&same["reasons"], &same["stopped"]),
        (&Value::Array(vec![]), &Value::Array(vec![])),
        "{same:#}"
    );
    assert_eq!(same["decisions"], all.len(), "{same:#}");
    let moved = all.iter().filter(|one| one["targets"][0] == "s-fr").count();
    let other = written(&dir, "other.toml", &text.replacen(FRANCE, "", 1));
    let other = replayed(&log, &other);
    assert_eq!(other["moved"], moved, "{other:#}");
    assert_eq!(other["moves"][0]["requests"], moved, "{other:#}");
    assert_eq!((&other["moves"][0]["from"], &other["moves"][0]["to"]), (&"s-fr".into(), &"s-de".into()));
    assert_eq!(other["moves"].as_array().unwrap().len(), 1, "{other:#}");
    // Two clients of France, one by each family, of four in all.
    assert_eq!((&other["clients"], &other["moved_clients"]), (&4.into(), &2.into()), "{other:#}");
    let gone = written(
        &dir,
        "gone.toml",
        &text.replace("  { labels = \"{object}.web.{customer}\", service = \"web\" },\n", ""),
    );
    let gone = replayed(&log, &gone);
    let stopped: Vec<&str> =
        gone["stopped"].as_array().unwrap().iter().filter_map(|one| one["asked"].as_str()).collect();
    assert!(stopped.iter().any(|asked| asked.starts_with("index.web.abc.cdn.acme.net A")), "{gone:#}");
}

#[test]
fn a_dead_server_is_dead_in_a_replay_too() {
    let Some(lab) = require_lab() else { return };
    let log = lab.dir().join("log");
    let asker = start(&lab, &logging(&log));
    lab.stop_servers("s-fr").unwrap();
    let down = wait_for("s-fr to be down", LIMIT, || {
        let stats = asker.daemon.stats().ok()?;
        let target = stats["targets"].as_array()?.iter().find(|target| target["name"] == "s-fr")?;
        (target["up"] == false).then_some(())
    });
    down.unwrap();
    for family in Family::ALL {
        assert_eq!(asker.dns(node("c-fr"), family).unwrap(), [node("s-de").own.of(family)]);
    }
    let dir = asker.daemon.dir();
    asker.daemon.stop().unwrap();
    lab.start_servers("s-fr").unwrap();
    let later = shown(&log, &["--reason", "later-tier", "--target", "s-de"]);
    assert!(later.len() >= 2, "{later:#?}");
    let same = replayed(&log, &dir.join("redirector.toml"));
    assert_eq!((&same["moved"], &same["reasons"]), (&0.into(), &Value::Array(vec![])), "{same:#}");
}

#[test]
fn what_was_told_while_no_daemon_ran_is_written_by_the_next_one() {
    let Some(lab) = require_lab() else { return };
    let log = lab.dir().join("log");
    let text = logging(&log);
    let asker = start(&lab, &text);
    let Asker { daemon, .. } = asker;
    daemon.stop().unwrap();
    let before = shown(&log, &["--target", "s-fr"]).len();
    let vip = node(BOX).vip.unwrap().of(Family::V4);
    let client = lab.client("c-fr", Family::V4);
    for _ in 0..5 {
        // Padded, because behind a frame of a veth there may be no room for the answer.
        let report =
            client.dig(vip, &["+nocookie", "+padding=96", "index.web.abc.cdn.acme.net", "A"]).unwrap();
        assert_eq!(report.addresses(), [node("s-fr").own.of(Family::V4)]);
    }
    assert_eq!(shown(&log, &["--target", "s-fr"]).len(), before, "nobody writes");
    let asker = start(&lab, &text);
    asker.daemon.stop().unwrap();
    let after = shown(&log, &["--target", "s-fr"]);
    assert!(after.len() >= before + 5, "{} and {before} before", after.len());
    let fast = after.iter().filter(|one| one["path"] == "fast" && one["service"] == "web").count();
    assert!(fast >= 5, "they have their names: {after:#?}");
}

/// A file system of some kibibytes.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, kib: u32) -> Self {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status().unwrap();
        assert!(mounted.success());
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn log_report(asker: &Asker<'_>) -> Value {
    asker.daemon.stats().unwrap()["recording"]["log"].clone()
}

#[test]
fn a_full_disk_is_told_answers_go_on_and_the_log_goes_on_when_there_is_room() {
    let Some(lab) = require_lab() else { return };
    let log = lab.dir().join("log");
    let _small = Small::mount(&log, 256);
    let filler = written(&log, "filler", &"x".repeat(256 << 10));
    let asker = start(&lab, &logging(&log));
    ask_all(&asker);
    let full = wait_for("a full disk", LIMIT, || {
        let report = log_report(&asker);
        (report["files"]["failed"].as_u64()? > 10 && report["problem"].is_string()).then_some(report)
    });
    let report = full.unwrap_or_else(|error| panic!("{error:#}: {}", log_report(&asker)));
    let problem = report["problem"].as_str().unwrap();
    assert!(
        problem.contains("No space left on device") && problem.contains(log.to_str().unwrap()),
        "{problem}"
    );
    let text = asker.daemon.control("stats", &[]).unwrap().run().unwrap();
    assert!(text.contains("the decision log cannot be written: "), "{text}");
    ask_all(&asker);
    fs::remove_file(filler).unwrap();
    let again = wait_for("room", LIMIT, || {
        let family = Family::V4;
        asker.dns(node("c-fr"), family).ok()?;
        let report = log_report(&asker);
        (report["problem"].is_null() && report["files"]["written"].as_u64()? > 0).then_some(())
    });
    again.unwrap_or_else(|error| panic!("{error:#}: {}\n{}", log_report(&asker), asker.daemon.log()));
    let said = asker.daemon.log();
    let complaints = said.matches("the decision log cannot be written").count();
    assert!((1..=3).contains(&complaints), "once, and not each second: {said}");
    assert!(said.contains("the decision log is written again"), "{said}");
    asker.daemon.stop().unwrap();
    let (all, _) = run(&["log", "show", log.to_str().unwrap()]);
    assert!(all.contains(" decisions are missing: they could not be written"), "{all}");
}

#[test]
fn a_directory_that_cannot_be_made_is_told_by_its_name_and_answers_go_on() {
    let Some(lab) = require_lab() else { return };
    fs::create_dir_all(lab.dir()).unwrap();
    let file = written(lab.dir(), "a-file", "");
    let asker = start(&lab, &logging(&file.join("log")));
    ask_all(&asker);
    let report = wait_for("losses", LIMIT, || {
        let report = log_report(&asker);
        (report["files"]["failed"].as_u64()? > 10).then_some(report)
    });
    let problem = report.unwrap()["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("a-file/log") && problem.contains("Not a directory"), "{problem}");
    assert!(asker.daemon.log().contains("the decision log cannot be written: "), "{}", asker.daemon.log());
}
