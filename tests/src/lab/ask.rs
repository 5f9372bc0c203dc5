//! One question by one client, and who answered it how: for the demo and for the tests of what the demo shows.
//!
//! The box's part in it is read from its counters: `redirector stats --json` has, for each of `fast` and `slow`, the
//! object `reasons` with a count by reason name, and `xdp`, which is `off` without a fast path.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Daemon, Lab,
    config::{SERVER_NAME, VIP_NAME},
    topology::{BOX, Family, NODES, Node, RTSP_PATH, node},
};

/// A protocol by which a client finds its server, and the program that speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `cdsr resolve`
    Cdsr,
    /// `dig`
    Dns,
    /// `curl --location`
    Http,
    /// `ffprobe`
    Rtsp,
}

impl Protocol {
    /// In the order of reports.
    pub const ALL: [Self; 4] = [Self::Cdsr, Self::Dns, Self::Http, Self::Rtsp];

    /// Name of the protocol and the client program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cdsr => "CDSR (cdsr resolve)",
            Self::Dns => "DNS  (dig)",
            Self::Http => "HTTP (curl -L)",
            Self::Rtsp => "RTSP (ffprobe)",
        }
    }

    /// Where the choice of the server is answered if the fast path is attached.
    fn path(self) -> AnswerPath {
        match self {
            Self::Cdsr | Self::Dns => AnswerPath::Fast,
            Self::Http | Self::Rtsp => AnswerPath::Slow,
        }
    }
}

/// Which part of the box answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerPath {
    /// The XDP program.
    Fast,
    /// The daemon's sockets.
    Slow,
}

impl AnswerPath {
    const ALL: [Self; 2] = [Self::Fast, Self::Slow];

    /// What operators call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "XDP",
            Self::Slow => "sockets",
        }
    }

    /// Its key in `redirector stats --json`.
    fn key(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
        }
    }
}

/// An expectation and what came of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who asked.
    pub client: &'static Node,
    /// Over which family.
    pub family: Family,
    /// By which protocol.
    pub protocol: Protocol,
    /// The server that it should get.
    pub expected: &'static Node,
    /// The servers' addresses that the client was given; in words if it was not.
    pub answer: Result<Vec<IpAddr>, String>,
    /// Reasons that the box counted for it, by the path that answered.
    pub reasons: Vec<(AnswerPath, String)>,
    /// Whether the box has a fast path.
    fast: bool,
}

impl Row {
    /// Whether the client got the server that it should, from the part of the box that it should.
    #[must_use]
    pub fn met(&self) -> bool {
        let expected = self.expected.own.of(self.family);
        let path = if self.fast { self.protocol.path() } else { AnswerPath::Slow };
        self.answer.as_deref() == Ok(&[expected])
            && self.decision().is_some_and(|(answered, _)| *answered == path)
    }

    /// The reason for the server, apart from answers that lead to the VIP itself, and which path gave it.
    #[must_use]
    pub fn decision(&self) -> Option<&(AnswerPath, String)> {
        self.reasons.iter().find(|(_, reason)| reason.ends_with("-tier") || reason == "fallback")
    }
}

/// Asks for clients, and watches the box's counters meanwhile.
#[derive(Debug)]
pub struct Asker<'a> {
    /// Where the clients are.
    pub lab: &'a Lab,
    /// The redirector in [`BOX`], with the configuration of [`super::config`].
    pub daemon: Daemon<'a>,
    /// The program `cdsr`.
    pub cdsr: PathBuf,
}

impl Asker<'_> {
    /// Asks once; a client that fails is part of the result.
    ///
    /// # Errors
    /// If the daemon does not give its counters.
    pub fn ask(
        &self,
        client: &'static Node,
        family: Family,
        protocol: Protocol,
        expected: &'static Node,
    ) -> Result<Row> {
        let before = self.daemon.stats()?;
        let answer = match protocol {
            Protocol::Cdsr => self.cdsr(client, family),
            Protocol::Dns => self.dns(client, family),
            Protocol::Http => self.http(client, family),
            Protocol::Rtsp => self.rtsp(client, family),
        };
        let after = self.daemon.stats()?;
        let answer = answer.map_err(|error| format!("{error:#}"));
        let fast = after["xdp"] != "off";
        Ok(Row { client, family, protocol, expected, answer, reasons: counted(&before, &after)?, fast })
    }

    fn cdsr(&self, client: &Node, family: Family) -> Result<Vec<IpAddr>> {
        let url = format!("http://{VIP_NAME}/");
        let report = self.lab.client(client.name, family).cdsr(&self.cdsr, vip(family)?, &url)?;
        ensure!(report["outcome"] == "handled", "{}: {}", report["outcome"], report["message"]);
        let endpoints = report["endpoints"].as_array().context("no endpoints")?;
        let address = |endpoint: &Value| endpoint["address"].as_str()?.parse().ok();
        endpoints.iter().map(|endpoint| address(endpoint).context("endpoint without address")).collect()
    }

    /// Asks the VIP by DNS.
    ///
    /// # Errors
    /// If there is no answer, or one that is an error.
    pub fn dns(&self, client: &Node, family: Family) -> Result<Vec<IpAddr>> {
        let client = self.lab.client(client.name, family);
        let answer = client.dig(vip(family)?, &[SERVER_NAME, family.record_type()])?;
        ensure!(answer.status == "NOERROR", "{}", answer.status);
        Ok(answer.addresses())
    }

    /// Fetches a page; the server names itself in it.
    fn http(&self, client: &Node, family: Family) -> Result<Vec<IpAddr>> {
        let page = self.lab.client(client.name, family).curl(&format!("http://{VIP_NAME}/"))?;
        ensure!(
            page.status == 200 && page.redirects == 1,
            "{} after {} redirects",
            page.status,
            page.redirects
        );
        by_itself(page.address, family, page.body.trim())
    }

    /// Plays a video; the server is known by its picture's size.
    fn rtsp(&self, client: &Node, family: Family) -> Result<Vec<IpAddr>> {
        let probe = self.lab.client(client.name, family).ffprobe(&format!("rtsp://{VIP_NAME}{RTSP_PATH}"))?;
        let [first, server] = &probe.connected[..] else {
            anyhow::bail!("connected to {:?}", probe.connected)
        };
        ensure!(first.ip() == vip(family)?, "connected to {first} first");
        let (width, height) = probe.picture;
        let named = probe.server().with_context(|| format!("nobody's picture: {width}x{height}"))?;
        by_itself(server.ip(), family, named.name)
    }
}

fn vip(family: Family) -> Result<IpAddr> {
    Ok(node(BOX).vip.context("the box has no VIP")?.of(family))
}

/// A server's address, if what came from there is that server's content.
fn by_itself(address: IpAddr, family: Family, name: &str) -> Result<Vec<IpAddr>> {
    let own = NODES.iter().find(|node| node.name == name);
    ensure!(own.is_some_and(|own| own.own.of(family) == address), "{address} gave the content of `{name}`");
    Ok(vec![address])
}

/// The reasons whose counters rose, apart from those of packets that the fast path left to the slow path.
fn counted(before: &Value, after: &Value) -> Result<Vec<(AnswerPath, String)>> {
    let mut risen = Vec::new();
    for path in AnswerPath::ALL {
        let (before, after) = (reasons(before, path)?, reasons(after, path)?);
        let rose = after.into_iter().filter(|(name, count)| *count > before.get(name).copied().unwrap_or(0));
        risen.extend(rose.filter(|(name, _)| !name.starts_with("punt-")).map(|(name, _)| (path, name)));
    }
    Ok(risen)
}

/// The counters of one path, by reason.
fn reasons(stats: &Value, path: AnswerPath) -> Result<BTreeMap<String, u64>> {
    let counters = stats[path.key()]["reasons"].as_object();
    let counters = counters.with_context(|| format!("stats have no `{}.reasons`: {stats}", path.key()))?;
    Ok(counters.iter().filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_rose_and_was_answered_counts() {
        let before = json!({"fast": {"reasons": {"first-tier": 1}}, "slow": {"reasons": {"nxdomain": 7}}});
        let after = json!({
            "fast": {"reasons": {"first-tier": 1, "vip-address": 1, "punt-not-udp": 9}},
            "slow": {"reasons": {"nxdomain": 7, "later-tier": 1}},
        });
        let expected = [(AnswerPath::Fast, "vip-address"), (AnswerPath::Slow, "later-tier")];
        assert_eq!(counted(&before, &after).unwrap(), expected.map(|(path, name)| (path, name.to_owned())));
    }

    #[test]
    fn an_expectation_is_met_by_the_right_server_and_path_alone() {
        let row = |answer: IpAddr, path| Row {
            client: node("c-fr"),
            family: Family::V4,
            protocol: Protocol::Dns,
            expected: node("s-fr"),
            answer: Ok(vec![answer]),
            reasons: vec![(path, "first-tier".into())],
            fast: true,
        };
        let (right, wrong) = (node("s-fr").own.v4.into(), node("s-de").own.v4.into());
        assert!(row(right, AnswerPath::Fast).met());
        assert!(!row(right, AnswerPath::Slow).met());
        assert!(!row(wrong, AnswerPath::Fast).met());
        assert!(Row { fast: false, ..row(right, AnswerPath::Slow) }.met());
    }
}
