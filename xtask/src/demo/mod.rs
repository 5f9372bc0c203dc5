//! `cargo xtask demo`: real clients in two regions find their nearest servers through the redirector, before and after
//! one of the servers dies.

mod report;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use redirector_tests::lab::{
    Asker, Daemon, Lab, Protocol, Row,
    config::{VIP_NAME, configuration},
    topology::{BOX, Family, Node, Role, node, with_role},
    wait_for,
};

use crate::{
    build::{self, Profile},
    setup::{self, Purpose},
    signals,
};

/// How long answers may take to follow a server's death or its first good health check.
const MOVE_LIMIT: Duration = Duration::from_secs(20);

/// The server that dies, and the client that it is nearest to.
const VICTIM: &str = "s-fr";
const BEREFT: &str = "c-fr";

/// Which server a client should get: its region's, or after that one's death the neighbour's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    After,
}

impl Phase {
    fn expected(self, client: &Node) -> &'static Node {
        match (self, client.name) {
            (Self::Before, BEREFT) => node(VICTIM),
            _ => node("s-de"),
        }
    }
}

pub(crate) fn run() -> Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root: run this command as root");
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Demo])?;
    let artifacts = build::all(Profile::Release)?;
    signals::outlive()?;
    // The daemon ends and the lab goes with this block, whatever happens in it.
    let rows = {
        let lab = Lab::start_as("rddemo-")?;
        let asker = Asker {
            lab: &lab,
            daemon: Daemon::start(&lab, BOX, &artifacts.program("redirector"), &configuration(BOX), &[])?,
            cdsr: artifacts.program("cdsr"),
        };
        play(&asker)?
    };
    let met = rows.iter().filter(|row| row.met()).count();
    println!("demo: {met} of {} expectations met", rows.len());
    Ok(if met == rows.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The whole play; gives every expectation and what came of it.
fn play(asker: &Asker<'_>) -> Result<Vec<Row>> {
    println!("\n{}", report::introduction());
    let waited = settle(asker, Phase::Before)?;
    println!("Answers are by health checks {waited}. Each client asks:");
    let mut rows = ask_all(asker, Phase::Before)?;
    print!("{}", report::table(&rows));

    println!("\nThe servers of {VICTIM} (web and RTSP) are killed.");
    asker.lab.stop_servers(VICTIM)?;
    let waited = settle(asker, Phase::After)?;
    println!("Answers have moved {waited}. Each client asks again:");
    let after = ask_all(asker, Phase::After)?;
    print!("{}", report::table(&after));

    let client = node(BEREFT).own.v4.to_string();
    let url = format!("http://{VIP_NAME}/");
    println!("\nWhy is {BEREFT} sent there? redirector explain --client {client} --url {url}");
    let explain = asker.daemon.control("explain", &["--client", &client, "--url", &url])?;
    for line in explain.run()?.lines() {
        println!("  {line}");
    }
    println!();
    rows.extend(after);
    if rows.iter().any(|row| !row.met()) {
        println!("Log of the redirector:\n{}", asker.daemon.log());
    }
    Ok(rows)
}

fn ask_all(asker: &Asker<'_>, phase: Phase) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                signals::check()?;
                rows.push(asker.ask(client, family, protocol, phase.expected(client))?);
            }
        }
    }
    Ok(rows)
}

/// Waits until DNS answers are as they should be in `phase`; tells how long that took, or what is still wrong.
fn settle(asker: &Asker<'_>, phase: Phase) -> Result<String> {
    let start = Instant::now();
    let mut wrong = String::new();
    let settled = wait_for("answers", MOVE_LIMIT, || {
        if let Err(interrupted) = signals::check() {
            return Some(Err(interrupted));
        }
        match first_wrong(asker, phase) {
            None => Some(Ok(())),
            Some(text) => {
                wrong = text;
                None
            }
        }
    });
    match settled {
        Ok(result) => result.map(|()| format!("after {} ms", start.elapsed().as_millis())),
        Err(_late) => Ok(format!("NOT within {} s: {wrong}", MOVE_LIMIT.as_secs())),
    }
}

/// The first client whose DNS answer is not the one for `phase`.
fn first_wrong(asker: &Asker<'_>, phase: Phase) -> Option<String> {
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            let expected = phase.expected(client).own.of(family);
            match asker.dns(client, family) {
                Ok(addresses) if addresses == [expected] => {}
                Ok(addresses) => return Some(format!("{} got {addresses:?}, not {expected}", client.name)),
                Err(error) => return Some(format!("{error:#}")),
            }
        }
    }
    None
}
