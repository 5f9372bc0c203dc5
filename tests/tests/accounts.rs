//! Accounts of a running box: killed at any moment it books nothing twice and loses at most a second (P-30, P-31).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use redirector_tests::{
    lab::{
        Daemon, Lab,
        config::configuration,
        topology::{BOX, Family, node},
        wait_for,
    },
    program,
    questions::{DnsQuery, Edns, PADDING, rr},
    require_lab,
};
use serde_json::Value;

/// Content of two providers under one agreement, and of one of the box's own network.
const PEERING: &str = r#"
[network]
name = "as500"
[[target]]
name = "one-edge"
cname = "edge.one.example"
[[target]]
name = "own-edge"
cname = "edge.as500.example"
[[provider]]
name = "abc"
customers = ["abc"]
primary = ["one"]
outside = "one-edge"
[[provider]]
name = "nbc"
customers = ["nbc"]
primary = ["one"]
outside = "one-edge"
[[provider]]
name = "local"
customers = ["local"]
primary = ["as500"]
outside = "own-edge"
[[peering]]
name = "both"
with = "one"
price = 0.25
"#;

/// Asked by DNS, which the fast path answers.
const FAST: &str = "agreement:both@nbc";
/// Asked by HTTP, which the daemon answers.
const SLOW: &str = "agreement:both@abc";
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What may be lost of the slow path's, and for how long the test's own clock may be late.
const LAST: Duration = Duration::from_millis(1000);

fn start<'l>(lab: &'l Lab, peering: &str) -> Daemon<'l> {
    let daemon =
        Daemon::start(lab, BOX, &program("redirector"), &(configuration(BOX) + peering), &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(node(BOX).vip.unwrap().of(Family::V4), port)
}

/// Asks by DNS until it is to stop; how many answers came.
fn ask_fast(stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.connect(vip(53)).unwrap();
    let (mut id, mut answered) = (0u16, 0);
    while !stop.load(Ordering::Relaxed) {
        id = id.wrapping_add(1);
        let edns = Edns::new(false).option(PADDING, &[0; 40]);
        let query = DnsQuery { id, ..DnsQuery::new("x.web.nbc.cdn.acme.net", rr::A).edns(edns) };
        socket.send(&query.encode()).unwrap();
        let mut reply = [0; 1500];
        answered += u64::from(socket.recv(&mut reply).is_ok());
        thread::sleep(Duration::from_micros(200));
    }
    answered
}

/// One request by HTTP, answered with a redirect. Each has a URL of its own: nobody is redirected in circles.
fn ask_slow() -> bool {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    let Ok(mut stream) = TcpStream::connect_timeout(&vip(80), Duration::from_secs(3)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
    let request = format!("GET /{number} HTTP/1.1\r\nHost: abc.cdn.acme.net\r\nConnection: close\r\n\r\n");
    let mut reply = Vec::new();
    stream.write_all(request.as_bytes()).is_ok() && {
        // An end by reset after the answer is as good.
        let _ = stream.read_to_end(&mut reply);
        reply.starts_with(b"HTTP/1.1 302")
    }
}

/// Asks by HTTP until it is to stop; when answers came.
fn ask_slowly(stop: &AtomicBool) -> Vec<Instant> {
    let mut answered = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if ask_slow() {
            answered.push(Instant::now());
        }
        thread::sleep(Duration::from_millis(2));
    }
    answered
}

fn export(daemon: &Daemon<'_>, words: &[&str]) -> Vec<Value> {
    let words = [&["export", "--format", "json"], words].concat();
    let text = daemon.control("account", &words).unwrap().run().unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn booked(rows: &[Value], account: &str) -> u64 {
    let of = rows.iter().filter(|row| row["account"] == account);
    of.map(|row| row["requests"].as_u64().unwrap()).sum()
}

/// What both paths' counters say now.
fn counted(daemon: &Daemon<'_>, account: &str) -> [u64; 2] {
    let stats = daemon.stats().unwrap();
    ["fast", "slow"].map(|path| stats[path]["targets"][account].as_u64().unwrap_or(0))
}

/// Booked is what the counters say, within the time of a reading.
fn settled(daemon: &Daemon<'_>, account: &str, expected: impl Fn(u64) -> bool) -> u64 {
    let mut last = 0;
    let found = wait_for("accounts", LIMIT, || {
        last = booked(&export(daemon, &[]), account);
        expected(last).then_some(last)
    });
    found.unwrap_or_else(|error| panic!("{account}: {last} booked: {error}; {}", daemon.log()))
}

/// SIGKILL, and its end.
fn kill_and_wait(daemon: Option<Daemon<'_>>) {
    kill(daemon.as_ref().unwrap().pid(), Signal::SIGKILL).unwrap();
    drop(daemon);
}

/// P-30, P-31: killed again and again, between readings and while it writes.
#[test]
fn killed_at_any_moment_nothing_is_booked_twice_and_at_most_the_last_second_is_lost() {
    let Some(lab) = require_lab() else { return };
    let mut daemon = Some(start(&lab, PEERING));
    let stop = AtomicBool::new(false);
    let mut killed = Vec::new();
    let (fast, slow) = thread::scope(|scope| {
        let fast = scope.spawn(|| lab.within("c-fr", || ask_fast(&stop)).unwrap());
        let slow = scope.spawn(|| lab.within("c-fr", || ask_slowly(&stop)).unwrap());
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Moments that have nothing to do with those of the readings.
            for millis in [300, 1710, 530, 2270, 90, 1130, 740, 1490] {
                thread::sleep(Duration::from_millis(millis));
                killed.push(Instant::now());
                kill_and_wait(daemon.take());
                daemon = Some(start(&lab, PEERING));
            }
            thread::sleep(Duration::from_millis(600));
        }));
        stop.store(true, Ordering::Relaxed);
        let both = (fast.join().unwrap(), slow.join().unwrap());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        both
    });
    let daemon = daemon.unwrap();
    // The fast path: what is booked is what its counters say, to the last request.
    let [counter, by_daemon] = counted(&daemon, FAST);
    assert!(counter >= fast && by_daemon == 0, "{counter} counted of {fast} answers, {by_daemon} slow");
    assert!(fast > 2000, "{fast} answers");
    assert_eq!(settled(&daemon, FAST, |booked| booked == counter), counter);
    // The slow path: all but the last second before each end, and not one more than were answered, or were under way
    // when it ended.
    let at_risk = |answered: &&Instant| {
        killed.iter().any(|killed| **answered <= *killed && killed.duration_since(**answered) < LAST)
    };
    let risked = slow.iter().filter(at_risk).count();
    let least = (slow.len() - risked) as u64;
    let booked = settled(&daemon, SLOW, |booked| booked >= least);
    let most = (slow.len() + killed.len()) as u64;
    assert!(booked <= most, "{booked} booked of {} answers", slow.len());
    assert!(least > 50 && risked > 20, "{} answers, {risked} at risk", slow.len());
    println!("fast {counter} of {counter}; slow {booked} of {}, {risked} at risk", slow.len());
    // The end that is asked for loses nothing.
    for _ in 0..50 {
        assert!(lab.within("c-fr", ask_slow).unwrap());
    }
    let file = daemon.dir().join("state");
    daemon.stop().unwrap();
    let rows = offline(&lab, &file);
    let of = |account: &str| -> u64 {
        rows.iter().filter(|row| row[3] == account).map(|row| row[10].parse::<u64>().unwrap()).sum()
    };
    assert_eq!((of(FAST), of(SLOW)), (counter, booked + 50));
    assert!(rows.iter().any(|row| row[3] == FAST && row[13] == "0.25" && row[5] == "nbc" && row[6] == "one"));
}

/// The rows of an export from the state directory, read by Python's CSV.
fn offline(lab: &Lab, state: &std::path::Path) -> Vec<Vec<String>> {
    let file = lab.dir().join("accounts.csv");
    let exported = Command::new(program("redirector"))
        .args(["account", "--state", state.to_str().unwrap(), "export"])
        .output()
        .unwrap();
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    std::fs::write(&file, exported.stdout).unwrap();
    let script = "import csv, json, sys\n\
                  rows = list(csv.DictReader(open(sys.argv[1], newline='')))\n\
                  assert all(None not in row and None not in row.values() for row in rows)\n\
                  print(json.dumps([list(row.values()) for row in rows]))";
    let read = Command::new("python3").args(["-c", script, file.to_str().unwrap()]).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

/// P-31: each request is booked to one agreement or network, and to the provider whose content it is for.
#[test]
fn each_request_is_booked_to_one_agreement_and_provider_and_accounts_outlive_them() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, PEERING);
    let ask = |customer: &str, times: usize| {
        for _ in 0..times {
            let name = format!("x.web.{customer}.cdn.acme.net");
            let client = lab.client("c-fr", Family::V4);
            client.dig(vip(53).ip(), &["+nocookie", "+padding=96", &name, "A"]).unwrap();
        }
    };
    ask("nbc", 3);
    ask("abc", 2);
    ask("local", 4);
    let accounts = [FAST, SLOW, "network:as500@local"];
    let all = || {
        let rows = export(&daemon, &[]);
        accounts.map(|account| booked(&rows, account))
    };
    wait_for("accounts", LIMIT, || (all() == [3, 2, 4]).then_some(())).unwrap();
    let target: u64 =
        export(&daemon, &["--target", "s-fr"]).iter().map(|row| row["requests"].as_u64().unwrap()).sum();
    assert_eq!(target, 9, "the server's own account has all of them");
    let of_agreement = export(&daemon, &["--agreement", "both"]);
    assert_eq!((booked(&of_agreement, FAST), booked(&of_agreement, SLOW), of_agreement.len()), (3, 2, 2));
    // Without the agreement, clients go outside; the account stays.
    let ended = PEERING.replace("[[peering]]\nname = \"both\"\nwith = \"one\"\nprice = 0.25\n", "");
    daemon.write_configuration(&(configuration(BOX) + &ended)).unwrap();
    daemon.reload().unwrap();
    ask("nbc", 5);
    ask("local", 1);
    wait_for("accounts", LIMIT, || (all() == [3, 2, 5]).then_some(())).unwrap();
    // A provider more, and the agreement is back: names are what they were.
    let more = PEERING.replace(
        "[[peering]]",
        "[[provider]]\nname = \"aaa\"\ncustomers = [\"aaa\"]\nprimary = [\"one\"]\noutside = \"one-edge\"\n[[peering]]",
    );
    daemon.write_configuration(&(configuration(BOX) + &more)).unwrap();
    daemon.reload().unwrap();
    ask("nbc", 1);
    wait_for("accounts", LIMIT, || (all() == [4, 2, 5]).then_some(())).unwrap();
    let list = daemon.control("account", &["list", "--json", "--provider", "nbc"]).unwrap().run().unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(
        (&list[0]["requests"], &list[0]["agreement"], &list[0]["cdn"]),
        (&4.into(), &"both".into(), &"one".into())
    );
    assert!(list[0]["last_minute"].as_u64().unwrap() >= 1, "{list}");
}
