//! A box on this machine's loopback, without XDP: its state, its control socket and its answers over time.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Output},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redirector_tests::{
    lab::wait_for,
    program,
    questions::{CdsrRequest, DnsQuery, rr},
    require_commands, require_root,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
/// Makes the VIPs of tests that run at one time in this process differ.
static NEXT: AtomicU8 = AtomicU8::new(1);

/// A folder with a configuration, and the box that runs with it.
struct Bench {
    dir: TempDir,
    vip: Ipv4Addr,
    child: Option<Child>,
}

impl Bench {
    fn new() -> Self {
        let process = std::process::id();
        let vip = Ipv4Addr::new(
            127,
            (process >> 8) as u8 | 128,
            process as u8,
            NEXT.fetch_add(1, Ordering::Relaxed),
        );
        Self { dir: tempfile::tempdir().unwrap(), vip, child: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a configuration in which target `a` is preferred and checked at `port`, and `b` is the second choice.
    fn configure(&self, port: u16, ttl: u32) {
        let text = format!(
            "[box]\nname = \"bench\"\nmanagement = \"127.0.0.1\"\nxdp = \"off\"\n\
             [fleet]\nkey = \"5eed5eed5eed5eed5eed5eed5eed5eed\"\n\
             [[vip]]\ncdn = \"acme\"\naddresses = [\"{}\"]\n\
             [[target]]\nname = \"a\"\naddresses = [\"127.0.0.1\"]\n\
             check = {{ tcp = {port}, every = \"100ms\", timeout = \"100ms\", rise = 1, fall = 2 }}\n\
             [[target]]\nname = \"b\"\naddresses = [\"127.0.0.2\"]\n\
             [[pool]]\nname = \"a\"\ntargets = [\"a\"]\n\
             [[pool]]\nname = \"b\"\ntargets = [\"b\"]\n\
             [[coverage]]\nname = \"all\"\n\
             tiers = [{{ region = \"*\", pools = [\"a\"] }}, {{ region = \"*\", pools = [\"b\"] }}]\n\
             [[service]]\nname = \"web\"\ncoverage = \"all\"\nttl = \"{ttl}s\"\n\
             [[zone]]\nsuffix = \"acme.net\"\nnames = [{{ labels = \"www\", service = \"web\" }}]\n",
            self.vip
        );
        self.write(&text);
    }

    fn write(&self, text: &str) {
        fs::write(self.path("box.toml"), text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("redirector"));
        command.arg(words[0]).arg("--socket").arg(self.path("control.sock")).args(&words[1..]);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Starts the box and waits until its control socket accepts.
    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["run"]);
        command.arg("--config").arg(self.path("box.toml")).arg("--state").arg(self.path("state")).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let socket = self.path("control.sock");
        let ready = wait_for("control socket", LIMIT, || UnixStream::connect(&socket).ok());
        assert!(ready.is_ok(), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    /// Ends the box by a signal; gives whether it ended well.
    fn end(&mut self, signal: Signal) -> bool {
        self.signal(signal);
        let mut child = self.child.take().unwrap();
        wait_for("end", LIMIT, || child.try_wait().unwrap()).unwrap().success()
    }

    fn ask(&self, request: &Value) -> Value {
        self.say(&format!("{request}\n"))
    }

    fn say(&self, text: &str) -> Value {
        let mut stream = UnixStream::connect(self.path("control.sock")).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn stats(&self) -> Value {
        self.ask(&json!({ "cmd": "stats" }))["ok"].clone()
    }

    fn generation(&self) -> u64 {
        self.stats()["generation"].as_u64().unwrap()
    }

    /// Address and TTL that DNS gives for the service's name.
    fn dns(&self) -> (IpAddr, u32) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let query = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x03www\x04acme\x03net\0\0\x01\0\x01";
        socket.send_to(query, (self.vip, 53)).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        // The only record is the last: TTL, length and address.
        let [.., t0, t1, t2, t3, 0, 4, a, b, c, d] = answer[..length] else {
            panic!("{:?}", &answer[..length])
        };
        (IpAddr::from([a, b, c, d]), u32::from_be_bytes([t0, t1, t2, t3]))
    }

    fn wait_for_answer(&self, address: [u8; 4]) {
        let found = wait_for("answer", LIMIT, || (self.dns().0 == IpAddr::from(address)).then_some(()));
        found.unwrap_or_else(|error| panic!("{error}: {}", self.log()));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that accepts connections while the listener is kept.
fn server() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];

#[test]
fn first_answers_know_the_first_checks_and_answers_follow_health() {
    if !require_root() {
        return;
    }
    let mut bench = Bench::new();
    let (listener, port) = server();
    drop(listener);
    bench.configure(port, 0);
    bench.start();
    assert_eq!(bench.dns().0, IpAddr::from(B), "the first answer already knows that `a` is down");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    bench.wait_for_answer(A);
    drop(listener);
    bench.wait_for_answer(B);
    let stats = bench.stats();
    assert_eq!((&stats["generation"], &stats["xdp"]), (&json!(1), &json!("off")));
    assert!(stats["epoch"].as_u64() >= Some(2), "health is followed within the generation: {stats}");
    assert!(stats["targets"][0]["last_error"].as_str().unwrap().contains("refused"), "{stats}");
    assert!(stats["slow"]["reasons"]["first-tier"].as_u64() >= Some(1), "{stats}");
    assert!(bench.end(Signal::SIGTERM), "{}", bench.log());
    assert!(!bench.path("control.sock").exists());
}

#[test]
fn a_refused_reload_tells_every_finding_and_the_answers_go_on() {
    if !require_root() {
        return;
    }
    let mut bench = Bench::new();
    let (_listener, port) = server();
    bench.configure(port, 7);
    bench.start();
    assert_eq!(bench.dns(), (A.into(), 7));
    let good = fs::read_to_string(bench.path("box.toml")).unwrap();
    bench.write(
        &good.replace("targets = [\"a\"]", "targets = [\"x\"]").replace("name = \"all\"", "nmae = \"all\""),
    );
    let output = bench.run(&["reload"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in ["box.toml:", "`x`", "nmae"] {
        assert!(text.contains(expected) && bench.log().contains(expected), "{expected}: {text}");
    }
    assert_eq!((bench.dns(), bench.generation()), ((A.into(), 7), 1));
    let status = bench.run(&["status"]);
    assert!(said(&status).contains("degraded") && !status.status.success(), "{}", said(&status));

    bench.configure(port, 9);
    let output = bench.run(&["reload"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!((bench.dns(), bench.generation()), ((A.into(), 9), 2));
    assert!(bench.run(&["status"]).status.success());

    bench.configure(port, 11);
    bench.signal(Signal::SIGHUP);
    wait_for("reload by SIGHUP", LIMIT, || (bench.generation() == 3).then_some(())).unwrap();
    assert_eq!(bench.dns(), (A.into(), 11));

    bench.write(&good.replace("targets = [\"a\"]", "targets = [\"y\"]"));
    bench.signal(Signal::SIGHUP);
    let refused = || said(&bench.run(&["status"])).contains("`y`").then_some(());
    wait_for("refusal after SIGHUP", LIMIT, refused).unwrap();
    assert_eq!((bench.dns(), bench.generation()), ((A.into(), 11), 3), "all or nothing");
}

#[test]
fn what_a_reload_cannot_change_is_told_until_it_is_as_before() {
    if !require_root() {
        return;
    }
    let (_server, port) = server();
    let mut bench = Bench::new();
    bench.configure(port, 1);
    bench.start();
    let written = fs::read_to_string(bench.path("box.toml")).unwrap();
    bench.write(&written.replace("xdp = \"off\"", "xdp = \"auto\"\ninterfaces = [\"lo\"]"));
    for _ in 0..2 {
        assert!(bench.run(&["reload"]).status.success(), "{}", bench.log());
        let status = bench.run(&["status"]);
        assert_eq!(status.status.code(), Some(1), "something is not in effect");
        assert!(said(&status).contains("restart it to change them"), "{}", said(&status));
    }
    bench.write(&written);
    assert!(bench.run(&["reload"]).status.success());
    assert!(bench.run(&["status"]).status.success());
}

#[test]
fn explain_says_the_same_offline_from_the_file_as_the_running_box() {
    if !require_root() {
        return;
    }
    let mut bench = Bench::new();
    let (_listener, port) = server();
    bench.configure(port, 7);
    bench.start();
    let file = bench.path("box.toml").display().to_string();
    let explained = |question: &[&str], by: &[&str]| {
        let mut command = Command::new(program("redirector"));
        let output = command.arg("explain").args(question).args(by).arg("--json").output().unwrap();
        let mut told: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        // What only a running box has: a number, a fast path or a reason for having none, and what it measured.
        for own in ["generation", "fast_path"] {
            assert!(!told[own].take().is_null(), "{own}");
        }
        for candidate in told["candidates"].as_array_mut().unwrap() {
            candidate["round_trip_ms"].take();
        }
        told
    };
    let socket = bench.path("control.sock").display().to_string();
    for question in [
        &["--client", "192.0.2.1", "--name", "www.acme.net"][..],
        &["--client", "192.0.2.1", "--name", "www.acme.net", "--type", "AAAA"],
        &["--client", "198.51.100.200", "--name", "nothing.acme.net"],
        &["--client", "192.0.2.1", "--url", "http://www.acme.net/x"],
    ] {
        let [running, offline] = ["--socket", "--config"]
            .map(|by| explained(question, &[by, if by == "--socket" { &socket } else { &file }]));
        assert_eq!(running, offline, "{question:?}");
    }
    let question = ["--client", "192.0.2.1", "--name", "www.acme.net"];
    let running = explained(&question, &["--socket", &socket]);
    assert_eq!((&running["winners"][0]["target"], &running["ttl"]), (&json!("a"), &json!(7)));
    // The running box tells of its own facts.
    assert!(bench.run(&["weight", "a", "0"]).status.success());
    let running = explained(&question, &["--socket", &socket]);
    assert_eq!(running["winners"][0]["target"], "b");
    assert!(running["candidates"][0]["removed"].as_str().unwrap().contains("overloaded"), "{running}");
}

#[test]
fn the_last_good_state_answers_when_the_configuration_is_unusable_and_generations_grow() {
    if !require_root() {
        return;
    }
    let mut bench = Bench::new();
    let (_listener, port) = server();
    bench.configure(port, 7);
    bench.start();
    assert!(bench.end(Signal::SIGINT));
    bench.write("[box\n");
    bench.start();
    assert_eq!((bench.dns(), bench.generation()), ((A.into(), 7), 2));
    assert!(bench.log().contains("last good state"), "{}", bench.log());
    let status = said(&bench.run(&["status"]));
    assert!(status.contains("degraded") && status.contains("box.toml:1:"), "{status}");
    assert!(
        bench.end(Signal::SIGKILL) || bench.path("control.sock").exists(),
        "killed: the socket file stays"
    );
    fs::remove_file(bench.path("box.toml")).unwrap();
    bench.start_over_stale_socket();
    assert_eq!((bench.dns(), bench.generation()), ((A.into(), 7), 3));
    bench.end(Signal::SIGTERM);

    // Without the state there is nothing to answer from.
    fs::write(bench.path("state/last-good.json"), "{\"format\":1").unwrap();
    let output = bench.run_once();
    assert!(!output.status.success() && said(&output).contains("last-good.json"), "{}", said(&output));
    // And with a good configuration a damaged state does no harm.
    bench.configure(port, 5);
    bench.start();
    assert_eq!(bench.dns(), (A.into(), 5));
    assert!(bench.log().contains("last-good.json"), "{}", bench.log());
}

impl Bench {
    /// As `start`, when a socket file lies there already: waits for an answer, not for the file.
    fn start_over_stale_socket(&mut self) {
        assert!(UnixStream::connect(self.path("control.sock")).is_err(), "nobody listens");
        self.start();
    }

    /// Runs a box that must end by itself.
    fn run_once(&self) -> Output {
        let mut command = self.command(&["run"]);
        command.arg("--config").arg(self.path("box.toml")).arg("--state").arg(self.path("state"));
        command.output().unwrap()
    }
}

#[test]
fn load_factors_move_clients_until_the_next_reload() {
    if !require_root() {
        return;
    }
    let mut bench = Bench::new();
    let (_listener, port) = server();
    bench.configure(port, 0);
    bench.start();
    assert_eq!(bench.dns().0, IpAddr::from(A));
    let output = bench.run(&["weight", "a", "0"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(bench.dns().0, IpAddr::from(B), "at once");
    assert_eq!(bench.generation(), 1);
    let unknown = bench.run(&["weight", "c", "0"]);
    assert!(!unknown.status.success() && said(&unknown).contains("\"c\""), "{}", said(&unknown));
    assert_eq!(bench.run(&["weight", "a", "257"]).status.code(), Some(2));
    assert!(bench.run(&["reload"]).status.success());
    assert_eq!(bench.dns().0, IpAddr::from(A));
}

#[test]
fn the_control_socket_refuses_nonsense_and_is_for_owner_and_group() {
    if !require_root() {
        return;
    }
    let mut bench = Bench::new();
    let (_listener, port) = server();
    bench.configure(port, 0);
    bench.start();
    let mode = fs::metadata(bench.path("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let long = format!("\"{}\"\n", "x".repeat(70_000));
    let requests =
        ["nonsense\n", "{\"cmd\":\"fly\"}\n", "{\"cmd\":\"weight\",\"target\":\"a\"}\n", "\n", &long];
    for request in requests {
        let answer = bench.say(request);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains("not a request") || error.contains("longer than"), "{answer}");
    }
    assert_eq!(bench.ask(&json!({ "cmd": "status" }))["ok"]["state"], "ready");
    let second = bench.run_once();
    assert!(!second.status.success() && said(&second).contains("another box"), "{}", said(&second));
    assert_eq!(bench.ask(&json!({ "cmd": "status" }))["ok"]["state"], "ready", "the first goes on");
}

#[test]
fn a_control_socket_path_that_is_something_else_is_left_alone() {
    if !require_root() {
        return;
    }
    let bench = Bench::new();
    bench.configure(server().1, 0);
    fs::write(bench.path("control.sock"), "precious").unwrap();
    let output = bench.run_once();
    assert!(!output.status.success() && said(&output).contains("not a socket"), "{}", said(&output));
    assert_eq!(fs::read_to_string(bench.path("control.sock")).unwrap(), "precious");
}

/// What a client got for a flood of one message.
#[derive(Debug)]
struct Flood {
    /// Replies that are no more than a hint to come by TCP or later.
    less: u64,
    /// Other replies.
    served: u64,
    /// How long it took: budgets grow with time.
    took: Duration,
}

impl Bench {
    /// How often the box counted one of these reasons.
    fn counted(&self, reasons: &[&str]) -> u64 {
        let stats = self.stats();
        let of = |reason: &&str| stats["slow"]["reasons"][reason].as_u64().unwrap_or(0);
        reasons.iter().map(of).sum()
    }

    /// Sends a message often, by few at a time: what sockets cannot hold the kernel drops. Everything is answered or
    /// dropped for one of these reasons: that of an answer, that of less, and that of nothing.
    fn flood(&self, from: [u8; 4], port: u16, message: &[u8], reasons: [&str; 3]) -> Flood {
        let begun = Instant::now();
        let socket = UdpSocket::bind((Ipv4Addr::from(from), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let counts = || reasons.map(|reason| self.counted(&[reason]));
        let before = counts();
        for burst in 1..=6 {
            (0..25).for_each(|_| assert!(socket.send_to(message, (self.vip, port)).is_ok()));
            let all = before.iter().sum::<u64>() + 25 * burst;
            let counted = || (self.counted(&reasons) == all).then_some(());
            wait_for("the flood's end", LIMIT, counted)
                .unwrap_or_else(|error| panic!("{error}: {}", self.stats()));
        }
        let after = counts();
        let rise: Vec<u64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
        let mut flood = Flood { less: 0, served: 0, took: begun.elapsed() };
        for _ in 0..rise[0] + rise[1] {
            let mut reply = [0; 512];
            let length = socket.recv(&mut reply).unwrap();
            assert!(length >= 12);
            // TC; or status 2 of CDSR.
            let is_less = if port == 53 { reply[2] & 2 != 0 } else { reply[12] == 2 };
            assert!(!is_less || length <= message.len(), "{length} bytes for {}", message.len());
            if is_less { flood.less += 1 } else { flood.served += 1 }
        }
        assert_eq!([flood.served, flood.less], rise[..2], "each reply is counted for its reason");
        assert!(rise[2] > 0, "nothing is dropped");
        flood
    }
}

/// without the fast path the sockets limit each prefix alike, and a client that is refused comes by TCP.
#[test]
fn sockets_limit_a_flooding_prefix_and_it_gets_its_answers_by_tcp() {
    if !require_root() || !require_commands(&["dig"]) {
        return;
    }
    let mut bench = Bench::new();
    let (_listener, port) = server();
    bench.configure(port, 7);
    let written = fs::read_to_string(bench.path("box.toml")).unwrap();
    let limits = |slip: u32| {
        format!(
            "{written}[limits]\nanswers_per_second = 2\nerrors_per_second = 2\ncdsr_per_second = 2\n\
             burst = \"4s\"\nslip = {slip}\n"
        )
    };
    bench.write(&limits(3));
    bench.start();
    assert_eq!(bench.stats()["xdp"], "off");
    let answered = DnsQuery::new("www.acme.net", rr::A).encode();
    let absent = DnsQuery::new("absent.acme.net", rr::A).encode();
    let cdsr = CdsrRequest::new("http://elsewhere.example/").encode();
    for (port, message, reasons) in [
        (53, &answered, ["first-tier", "limit-slip", "limit-drop"]),
        (53, &absent, ["nxdomain", "limit-slip", "limit-drop"]),
        (2554, &cdsr, ["not-our-url", "limit-cdsr", "limit-cdsr-drop"]),
    ] {
        let flood = bench.flood([127, 0, 1, 1], port, message, reasons);
        let most = 8 + 2 * (flood.took.as_secs() + 1);
        assert!((8..=most).contains(&flood.served), "{reasons:?}: {flood:?}");
        // A third of some 140.
        assert!((15..=85).contains(&flood.less), "{reasons:?}: {flood:?}");
        let refused = bench.counted(&reasons[1..]);
        let socket = UdpSocket::bind("127.0.2.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for _ in 0..8 {
            let mut reply = [0; 512];
            socket.send_to(message, (bench.vip, port)).unwrap();
            assert!(socket.recv(&mut reply).unwrap() >= 12, "another prefix");
        }
        assert_eq!(bench.counted(&reasons[1..]), refused, "another prefix has its whole budget");
    }

    bench.write(&limits(1));
    assert!(bench.run(&["reload"]).status.success(), "{}", bench.log());
    let socket = UdpSocket::bind("127.0.1.1:0").unwrap();
    // Two a second come back, of which `dig` may get one.
    let by_tcp = wait_for("a truncated answer", LIMIT, || {
        (0..10).for_each(|_| assert!(socket.send_to(&answered, (bench.vip, 53)).is_ok()));
        let server = format!("@{}", bench.vip);
        let output =
            Command::new("dig").args(["-b", "127.0.1.2", &server, "www.acme.net", "A"]).output().unwrap();
        let text = said(&output);
        assert!(output.status.success() && text.contains("\tA\t127.0.0.1"), "{text}");
        text.contains("retrying in TCP").then_some(text)
    });
    assert!(by_tcp.unwrap().contains("(TCP)"));
}
