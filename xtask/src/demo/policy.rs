//! `cargo xtask demo policy`: business rules between networks at work, asked about by real clients: peering, grades, signed
//! names, a full agreement, a drained target, a mistake in the configuration. What each client should get stands beside what it
//! gets, and `redirector explain` tells why.

use std::{
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use redirector_tests::lab::{
    Daemon, Lab, Protocol,
    config::configuration,
    keys,
    topology::{BOX, Family, Node, Role, node, with_role},
    wait_for,
};

use crate::{build::Artifacts, signals};

/// How long the first answers may take to know health, and anything else to be in effect.
const LIMIT: Duration = Duration::from_secs(20);
/// How soon a change of an agreement, or of what operators say, has to be in effect (P-29, A-14).
const AT_ONCE: Duration = Duration::from_secs(1);

/// Beside the lab's own configuration: content of a provider whose CDN is `bcast`, an agreement with that, and grades.
/// `s-deep` stands for the edge of `bcast`, and for the far and cheap servers of ordinary customers.
const POLICY: &str = r#"
# Acme runs this box. Its clients may be served content of bcast's providers, by the agreement.
[network]
name = "acme"

[[provider]]
name = "nbc"
customers = ["nbc"]
primary = ["bcast"]
outside = "s-deep"

[[peering]]
with = "bcast"
capacity = "1 Gbit/s"

# Premium customers get the near servers, ordinary ones the far ones: the name alone tells which they are.
[[coverage]]
name = "far"
tiers = [{ region = "*", pools = ["deep"] }]
[[service]]
name = "premium"
coverage = "nearest"
urls = [
  "http|rtsp://{object}.premium.cdn.acme.net/*",
  { url = "http|rtsp://{object}.{tag}.gold.cdn.acme.net/*", signed = { otherwise = { service = "ordinary" } } },
]
[[service]]
name = "ordinary"
coverage = "far"
urls = ["http|rtsp://{object}.ordinary.cdn.acme.net/*"]
"#;

/// In front of the names of the lab's zone.
const NAMES: &str = r#"names = [
  { labels = "{object}.premium", service = "premium" },
  { labels = "{object}.ordinary", service = "ordinary" },
  { labels = "{object}.{tag}.gold", service = "premium", signed = { otherwise = { service = "ordinary" } } },
"#;

fn policy(lab: &Lab) -> Result<String> {
    let lab_configuration = configuration(BOX).replace("names = [\n", NAMES);
    Ok(lab_configuration + POLICY + &keys::keys(lab.dir(), &[(1, "sign")])?)
}

pub(super) fn run(artifacts: &Artifacts) -> Result<ExitCode> {
    // The daemon ends and the lab goes with this block, whatever happens in it.
    let (met, count) = {
        let lab = Lab::start_as("rddemo-")?;
        let configuration = policy(&lab)?;
        let daemon = Daemon::start(&lab, BOX, &artifacts.program("redirector"), &configuration, &[])?;
        let mut play = Play {
            lab: &lab,
            daemon,
            cdsr: artifacts.program("cdsr"),
            redirector: artifacts.program("redirector"),
            configuration,
            met: 0,
            count: 0,
        };
        play.all()?;
        if play.met < play.count {
            println!("Log of the redirector:\n{}", play.daemon.log());
        }
        (play.met, play.count)
    };
    println!("demo: {met} of {count} expectations met");
    Ok(if met == count { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stage, and how the play goes.
struct Play<'a> {
    lab: &'a Lab,
    daemon: Daemon<'a>,
    cdsr: PathBuf,
    redirector: PathBuf,
    configuration: String,
    met: usize,
    count: usize,
}

impl Play<'_> {
    fn all(&mut self) -> Result<()> {
        println!(
            "\nClients c-fr and c-de of acme's network, servers s-fr and s-de near them, and s-deep far away, which is also\n\
             the edge of the CDN bcast. Each program asks over IPv4 and over IPv6."
        );
        self.settle()?;
        self.peering()?;
        self.grades()?;
        self.signed_names()?;
        self.full_agreement()?;
        self.drained_target()?;
        self.a_mistake()
    }

    /// Waits until health is known.
    fn settle(&mut self) -> Result<()> {
        let client = self.lab.client("c-fr", Family::V4);
        let near: IpAddr = node("s-fr").own.v4.into();
        let found = || {
            signals::check().map_or_else(
                |interrupted| Some(Err(interrupted)),
                |()| {
                    let found =
                        client.find(Protocol::Dns, &self.cdsr, vip(Family::V4), "x.premium.cdn.acme.net");
                    found.is_ok_and(|found| found == [near]).then_some(Ok(()))
                },
            )
        };
        wait_for("answers by health", LIMIT, found)?
    }

    fn peering(&mut self) -> Result<()> {
        println!(
            "\n1. Two CDNs peer. nbc's content is bcast's to serve; by the agreement, acme serves its own clients."
        );
        for client in with_role(Role::Client) {
            self.clients(client, "nbc.cdn.acme.net", "x.web.nbc.cdn.acme.net", near(client))?;
        }
        self.explain("x.web.nbc.cdn.acme.net", &["agreement:bcast", "chosen", "winner     s-fr"])?;
        println!("   The agreement is ended: `redirector agreement end bcast`.");
        self.control("agreement", &["end", "bcast"])?;
        for client in with_role(Role::Client) {
            self.clients(client, "nbc.cdn.acme.net", "x.web.nbc.cdn.acme.net", node("s-deep"))?;
        }
        self.explain("x.web.nbc.cdn.acme.net", &["withdrawn", "reason     foreign"])?;
        println!("   It is offered and accepted anew.");
        self.control("agreement", &["offer", "bcast", "--with", "bcast", "--capacity", "1 Gbit/s"])?;
        self.control("agreement", &["accept", "bcast"])?;
        self.clients(node("c-fr"), "nbc.cdn.acme.net", "x.web.nbc.cdn.acme.net", node("s-fr"))
    }

    fn grades(&mut self) -> Result<()> {
        println!("\n2. A premium customer gets the near server, an ordinary one the far one.");
        for client in with_role(Role::Client) {
            self.clients(client, "film.premium.cdn.acme.net", "film.premium.cdn.acme.net", near(client))?;
            self.clients(client, "film.ordinary.cdn.acme.net", "film.ordinary.cdn.acme.net", node("s-deep"))?;
        }
        self.explain("film.ordinary.cdn.acme.net", &["service    ordinary", "winner     s-deep"])
    }

    fn signed_names(&mut self) -> Result<()> {
        println!("\n3. A signed name raises the grade; a forged one does not.");
        let configuration = self.daemon.dir().join("redirector.toml");
        let command = [self.redirector.as_os_str(), "names".as_ref(), "sign".as_ref(), "--config".as_ref()];
        let command =
            command.into_iter().chain([configuration.as_os_str(), "film.*.gold.cdn.acme.net".as_ref()]);
        let signed = self.lab.exec(BOX, command).run()?.trim().to_owned();
        println!("   redirector names sign 'film.*.gold.cdn.acme.net' → {signed}");
        self.clients(node("c-fr"), &signed, &signed, node("s-fr"))?;
        self.explain(&signed, &["tag: good, by key k1", "service    premium", "winner     s-fr"])?;
        // Another object with the same tag.
        let forged = signed.replacen("film.", "game.", 1);
        println!("   With the tag of another name: {forged}");
        self.clients(node("c-fr"), &forged, &forged, node("s-deep"))?;
        self.explain(&forged, &["tag: forged", "service    ordinary", "winner     s-deep"])
    }

    fn full_agreement(&mut self) -> Result<()> {
        println!("\n4. An agreement fills up: edges report 1000 Gbit/s of the 1 Gbit/s that it has.");
        self.control("agreement", &["report", "bcast", "1000 Gbit/s"])?;
        self.within("it is full", AT_ONCE, |play| {
            let found = play.find(node("c-fr"), Family::V4, Protocol::Dns, "x.web.nbc.cdn.acme.net");
            found.is_ok_and(|found| found == node("s-deep").name)
        })?;
        self.clients(node("c-fr"), "nbc.cdn.acme.net", "x.web.nbc.cdn.acme.net", node("s-deep"))?;
        self.explain("x.web.nbc.cdn.acme.net", &["full", "reason     foreign"])?;
        println!("   Content that is nobody else's does not notice.");
        self.clients(node("c-fr"), "abc.cdn.acme.net", "x.web.abc.cdn.acme.net", node("s-fr"))
    }

    fn drained_target(&mut self) -> Result<()> {
        println!("\n5. s-fr is drained: `redirector drain target s-fr --reason \"new disks\" --for 2h`.");
        self.control("drain", &["target", "s-fr", "--reason", "new disks", "--for", "2h"])?;
        self.clients(node("c-fr"), "abc.cdn.acme.net", "x.web.abc.cdn.acme.net", node("s-de"))?;
        self.clients(node("c-de"), "abc.cdn.acme.net", "x.web.abc.cdn.acme.net", node("s-de"))?;
        self.explain("x.web.abc.cdn.acme.net", &["removed: drained", "new disks", "winner     s-de"])?;
        println!("   It is released.");
        self.control("release", &["target", "s-fr"])?;
        self.clients(node("c-fr"), "abc.cdn.acme.net", "x.web.abc.cdn.acme.net", node("s-fr"))
    }

    /// A-10: one bad part does not freeze the others.
    fn a_mistake(&mut self) -> Result<()> {
        println!("\n6. A reload with a mistake in one service, and something new in another.");
        let changed = self.configuration.replace("coverage = \"far\"\nurls", "coverage = \"fra\"\nurls");
        let changed = changed.replace("name = \"web\"\n", "name = \"web\"\nttl = \"77s\"\n");
        self.daemon.write_configuration(&changed)?;
        let said = self.daemon.reload()?;
        said.lines().for_each(|line| println!("     {line}"));
        self.expect("what the reload says", "stays as it was", || {
            Ok(if said.contains("service `ordinary` has errors and stays as it was") {
                "stays as it was"
            } else {
                "-"
            }
            .to_owned())
        });
        self.clients(
            node("c-fr"),
            "film.ordinary.cdn.acme.net",
            "film.ordinary.cdn.acme.net",
            node("s-deep"),
        )?;
        let ttl = self.daemon.explain(&[
            "--client",
            &node("c-fr").own.v4.to_string(),
            "--name",
            "x.web.abc.cdn.acme.net",
        ])?["ttl"]
            .to_string();
        self.expect("TTL of the other service, changed in the same reload", "77", || Ok(ttl.clone()));
        self.daemon.write_configuration(&self.configuration)?;
        self.daemon.reload()?;
        let refused = self.daemon.stats()?["refused"].to_string();
        self.expect("what is not in effect after it was mended", "[]", || Ok(refused.clone()));
        Ok(())
    }

    /// Asks by every protocol and family; `host` is asked for by URL, `name` by DNS.
    fn clients(
        &mut self,
        client: &'static Node,
        host: &str,
        name: &str,
        expected: &'static Node,
    ) -> Result<()> {
        for protocol in Protocol::ALL {
            for family in Family::ALL {
                signals::check()?;
                let asked = if protocol == Protocol::Dns { name } else { host };
                let found = self.find(client, family, protocol, asked);
                let what = format!(
                    "{} {:<5} {:<20} {}",
                    client.name,
                    family.name(),
                    protocol.name(),
                    shortened(asked)
                );
                self.expect(&what, expected.name, || found);
            }
        }
        Ok(())
    }

    /// The name of the server that a client gets.
    fn find(&self, client: &'static Node, family: Family, protocol: Protocol, asked: &str) -> Result<String> {
        let mut asking = self.lab.client(client.name, family);
        if matches!(protocol, Protocol::Http | Protocol::Rtsp) {
            // Whatever the name resolves to: they come to the VIP.
            asking = asking.holding(asked, vip(family))?;
        }
        let found = asking.find(protocol, &self.cdsr, vip(family), asked)?;
        let first = *found.first().context("no server")?;
        let server = with_role(Role::Server).find(|server| server.own.of(family) == first);
        Ok(server.map_or_else(|| first.to_string(), |server| server.name.to_owned()))
    }

    /// Prints what `redirector explain` tells about `c-fr` and a name; each of the texts has to be in it.
    fn explain(&mut self, name: &str, expected: &[&str]) -> Result<()> {
        let client = node("c-fr").own.v4.to_string();
        let question = ["--client", &client, "--name", name];
        let told = self.daemon.control("explain", &question)?.run()?;
        println!("   redirector explain --client {client} --name {name}");
        told.lines().for_each(|line| println!("     {line}"));
        for text in expected {
            let found = if told.contains(text) { *text } else { "-" };
            self.expect("explain tells", text, || Ok(found.to_owned()));
        }
        Ok(())
    }

    /// Waits for something that has to come true in time.
    fn within(&mut self, what: &str, limit: Duration, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let began = Instant::now();
        // Longer than it may take, to tell late from never.
        while !holds(self) && began.elapsed() < LIMIT {
            signals::check()?;
        }
        let (took, told) = (began.elapsed(), format!("{what} within {} ms", limit.as_millis()));
        let got = if took <= limit { "yes".to_owned() } else { format!("after {} ms", took.as_millis()) };
        self.expect(&told, "yes", || Ok(got));
        Ok(())
    }

    fn control(&self, command: &str, words: &[&str]) -> Result<()> {
        self.daemon.control(command, words)?.run().map(drop)
    }

    /// Notes and prints an expectation, and what came of it.
    fn expect(&mut self, what: &str, expected: &str, got: impl FnOnce() -> Result<String>) {
        let got = got().unwrap_or_else(|error| format!("{error:#}"));
        let met = got == expected;
        self.count += 1;
        self.met += usize::from(met);
        let verdict = if met { "ok".to_owned() } else { format!("WRONG, not {expected}") };
        println!("   {what:<76} {got:<24} {verdict}");
    }
}

fn vip(family: Family) -> IpAddr {
    node(BOX).vip.map_or(IpAddr::from([0, 0, 0, 0]), |vip| vip.of(family))
}

/// The server in a client's region.
fn near(client: &Node) -> &'static Node {
    node(if client.name == "c-fr" { "s-fr" } else { "s-de" })
}

/// A name that may have a long label in it.
fn shortened(name: &str) -> String {
    let label = |label: &str| match label.len() {
        0..20 => label.to_owned(),
        _ => format!("{}…", &label[..8]),
    };
    name.split('.').map(label).collect::<Vec<_>>().join(".")
}
