//! A million decisions, written by the production writer, replayed against another configuration:
//! `cargo xtask bench replay`.

#[path = "../shared/options.rs"]
mod options;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use nix::libc;
use redirector::config::DecisionLog;
use redirector::journal::{Asked, Chosen, Decision, Entry, Files, Kind, PathTaken, Spoken, Wanted, files};
use redirector_core::table::NONE;
use redirector_core::verdict::Reason;
use redirector_tests::program;
use redirector_tests::questions::{DnsQuery, rr};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a replay of a million decisions may take.
const SECONDS: f64 = 10.0;
const MIB: f64 = 500.0;
/// Clients' networks are /24s of this many regions.
const REGIONS: u32 = 250;
const NETWORKS: u32 = 200;
/// Servers of each region.
const SERVERS: u32 = 8;
const SERVICES: u32 = 40;

fn main() -> Result<()> {
    let options = options::Options::parse();
    let decisions = if options.quick { 50_000 } else { 1_000_000 };
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("new.toml");
    std::fs::write(&config, configuration())?;
    let (bytes, writing) = write(dir.path(), decisions)?;
    let measured = replay(dir.path(), &config)?;
    let Measured { seconds, mib, report } = &measured;
    ensure!(report["decisions"] == decisions, "{report:#}");
    let moved = report["moved"].as_u64().context("moved")?;
    // Every decision was recorded with the first server of its region: an eighth stays there.
    ensure!(moved > decisions / 2 && moved < decisions, "{moved} of {decisions} move");
    if !options.quick {
        ensure!(*seconds < SECONDS && *mib < MIB, "{seconds:.1} s and {mib:.0} MiB");
    }
    let markdown = format!(
        "{decisions} decisions, {} bytes each, written in {:.2} s; replayed in {seconds:.2} s with {mib:.0} MiB\n",
        bytes / decisions,
        writing.as_secs_f64()
    );
    let json = json!({
        "decisions": decisions, "bytes": bytes, "written_s": writing.as_secs_f64(), "replayed_s": seconds,
        "peak_mib": mib, "moved": moved,
    });
    options.tell(&markdown, &format!("{json:#}\n"))
}

/// Each region has servers of its own, and all names lead to them.
fn configuration() -> String {
    let mut text = "[box]\nname = \"b\"\nmanagement = \"127.0.0.1\"\nxdp = \"off\"\n[fleet]\n\
                    key = \"5eed5eed5eed5eed5eed5eed5eed5eed\"\n[[vip]]\ncdn = \"acme\"\naddresses = [\"203.0.113.1\"]\n"
        .to_owned();
    let mut tiers = String::new();
    for region in 0..REGIONS {
        let prefixes: Vec<String> =
            (0..NETWORKS).map(|network| format!("\"{}/24\"", client(region, network, 0))).collect();
        let _ = writeln!(text, "[[region]]\nname = \"r{region}\"\nprefixes = [{}]", prefixes.join(", "));
        for server in 0..SERVERS {
            let address = Ipv4Addr::from(0x0a00_0000 + region * SERVERS + server);
            let _ = writeln!(text, "[[target]]\nname = \"r{region}-{server}\"\naddresses = [\"{address}\"]");
        }
        let members: Vec<String> = (0..SERVERS).map(|server| format!("\"r{region}-{server}\"")).collect();
        let _ = writeln!(text, "[[pool]]\nname = \"r{region}\"\ntargets = [{}]", members.join(", "));
        let _ = writeln!(tiers, "  {{ region = \"r{region}\", pools = [\"r{region}\"] }},");
    }
    let _ = writeln!(text, "[[coverage]]\nname = \"all\"\ntiers = [\n{tiers}]");
    let mut names = String::new();
    for service in 0..SERVICES {
        let _ = writeln!(text, "[[service]]\nname = \"s{service}\"\ncoverage = \"all\"");
        let _ = writeln!(names, "  {{ labels = \"{{object}}.s{service}\", service = \"s{service}\" }},");
    }
    text + &format!("[[zone]]\nsuffix = \"acme.net\"\nnames = [\n{names}]\n")
}

fn client(region: u32, network: u32, host: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x2000_0000 + ((region * NETWORKS + network) << 8) + host)
}

/// Writes the log, as the box's writer does; gives its bytes and how long that took.
fn write(directory: &Path, decisions: u64) -> Result<(u64, Duration)> {
    let wanted = Wanted { fast: 1, slow: 1 };
    let (file_size, file_age) = (64 << 20, Duration::from_secs(3600));
    let log =
        DecisionLog { directory: directory.to_owned(), wanted, file_size, file_age, total_size: 1 << 40 };
    let mut log = Files::new(log, "b".to_owned());
    let begun = Instant::now();
    let mut time = 1_900_000_000_000_000;
    let mut random = redirector_tests::generate::Random::new(11);
    for _ in 0..decisions {
        if !log.is_open() || log.is_full() {
            log.close()?;
            log.begin(time)?;
            names(&mut log);
        }
        let mut below = |count: u32| random.below(count as usize) as u32;
        let (region, network, host) = (below(REGIONS), below(NETWORKS), 1 + below(254));
        let (service, object) = (below(SERVICES), below(100_000));
        time += 100;
        let message = DnsQuery::new(&format!("object-{object}.s{service}.acme.net"), rr::A).encode();
        let mut chosen =
            Chosen { vip: 1, service: 1 + service, region: 1 + region, account: NONE, ..Chosen::default() };
        (chosen.count, chosen.targets[0]) = (1, 1 + region * SERVERS);
        log.put(&Entry::Decision(Decision {
            time,
            generation: 1,
            epoch: 0,
            one_in: 1000,
            path: PathTaken::Fast,
            spoken: Spoken::Dns,
            reason: Reason::FirstTier,
            client: SocketAddr::new(IpAddr::V4(client(region, network, host)), 5353),
            vip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
            asked: Asked::Message { length: message.len() as u32, bytes: message.into() },
            chosen,
        }));
        if log.wants_flush() {
            log.flush()?;
        }
    }
    log.close()?;
    ensure!(log.counts.written == decisions, "{:?}", log.counts);
    Ok((log.counts.bytes, begun.elapsed()))
}

fn names(log: &mut Files) {
    let mut name = |kind, slot, name: String| log.put(&Entry::Name { kind, slot, name: name.into() });
    name(Kind::Vip, 1, "acme".to_owned());
    (0..SERVICES).for_each(|service| name(Kind::Service, 1 + service, format!("s{service}")));
    for region in 0..REGIONS {
        name(Kind::Region, 1 + region, format!("r{region}"));
        name(Kind::Target, 1 + region * SERVERS, format!("r{region}-0"));
    }
}

struct Measured {
    seconds: f64,
    mib: f64,
    report: Value,
}

/// Runs the command, and reads from the kernel what it needed.
fn replay(directory: &Path, config: &Path) -> Result<Measured> {
    let logs = files(directory)?;
    let begun = Instant::now();
    let mut child = Command::new(program("redirector"))
        .arg("replay")
        .args(&logs)
        .arg("--config")
        .arg(config)
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut text = String::new();
    child.stdout.take().context("a pipe")?.read_to_string(&mut text)?;
    let seconds = begun.elapsed().as_secs_f64();
    if !child.wait()?.success() {
        bail!("replay failed: {text}");
    }
    Ok(Measured { seconds, mib: children_peak()?, report: serde_json::from_str(&text)? })
}

/// Peak of resident memory in MiB of the children that have ended: there is one.
fn children_peak() -> Result<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: fills in a structure of integers, for which zeroes are a value, too.
    let (failed, usage) = unsafe {
        let failed = libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        (failed, usage.assume_init())
    };
    ensure!(failed == 0, "getrusage: {}", std::io::Error::last_os_error());
    Ok(usage.ru_maxrss as f64 / 1024.0)
}
