//! One question by one client, and who answered it how: for the demo and for the tests of what the demo shows.
//!
//! The box's part in it is read from its counters: `redirector stats --json` has, for each of `fast` and `slow`, the
//! object `reasons` with a count by reason name, and `xdp`, which is `off` without a fast path.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Client, Daemon, Lab,
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

/// A counter that rose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Risen {
    /// Whose counter it is.
    pub path: AnswerPath,
    /// Name of the reason.
    pub reason: String,
    /// By how much.
    pub count: u64,
}

impl Risen {
    /// Whether the reason is that of an answer: not of a packet that the fast path left to the kernel or the slow path.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        !self.reason.starts_with("punt-") && !["not-vip", "pass-ethertype"].contains(&&*self.reason)
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
        let name = if protocol == Protocol::Dns { SERVER_NAME } else { VIP_NAME };
        let (vip, asking) = (vip(family)?, self.lab.client(client.name, family));
        let (answer, risen) = self.daemon.counted(|| asking.find(protocol, &self.cdsr, vip, name))?;
        let answer = answer.map_err(|error| format!("{error:#}"));
        let answers = risen.into_iter().filter(Risen::is_answer);
        let reasons = answers.map(|risen| (risen.path, risen.reason)).collect();
        let fast = self.daemon.stats()?["xdp"] != "off";
        Ok(Row { client, family, protocol, expected, answer, reasons, fast })
    }

    /// Asks the VIP by DNS.
    ///
    /// # Errors
    /// If there is no answer, or one that is an error.
    pub fn dns(&self, client: &Node, family: Family) -> Result<Vec<IpAddr>> {
        self.lab.client(client.name, family).find_by_dns(vip(family)?, SERVER_NAME)
    }
}

impl Daemon<'_> {
    /// What `action` gives, and the counters that rose meanwhile.
    ///
    /// # Errors
    /// If the daemon does not give its counters.
    pub fn counted<T>(&self, action: impl FnOnce() -> T) -> Result<(T, Vec<Risen>)> {
        let before = self.stats()?;
        let result = action();
        Ok((result, risen(&before, &self.stats()?)?))
    }
}

impl Client<'_> {
    /// The servers that this client gets for `host` from the box at `vip`: by DNS and CDSR as it is told, by HTTP and
    /// RTSP from the content that it is redirected to. For these two, `host` has to resolve to the VIP. `cdsr` is the
    /// path of that program.
    ///
    /// # Errors
    /// If it gets none, or something else than a server of the lab.
    pub fn find(&self, protocol: Protocol, cdsr: &Path, vip: IpAddr, host: &str) -> Result<Vec<IpAddr>> {
        match protocol {
            Protocol::Cdsr => self.find_by_cdsr(cdsr, vip, host),
            Protocol::Dns => self.find_by_dns(vip, host),
            Protocol::Http => self.find_by_http(host),
            Protocol::Rtsp => self.find_by_rtsp(vip, host),
        }
    }

    fn find_by_cdsr(&self, program: &Path, vip: IpAddr, host: &str) -> Result<Vec<IpAddr>> {
        let report = self.cdsr(program, vip, &format!("http://{host}/"))?;
        ensure!(report["outcome"] == "handled", "{}: {}", report["outcome"], report["message"]);
        let endpoints = report["endpoints"].as_array().context("no endpoints")?;
        let address = |endpoint: &Value| endpoint["address"].as_str()?.parse().ok();
        endpoints.iter().map(|endpoint| address(endpoint).context("endpoint without address")).collect()
    }

    fn find_by_dns(&self, vip: IpAddr, host: &str) -> Result<Vec<IpAddr>> {
        // Padded, because behind a frame of a veth there may be no room to grow, and the daemon would answer.
        let options = ["+nocookie", "+padding=96"];
        let answer = self.dig(vip, &[&options[..], &[host, self.family().record_type()]].concat())?;
        ensure!(answer.status == "NOERROR", "{}", answer.status);
        Ok(answer.addresses())
    }

    /// Fetches a page; the server names itself in it.
    fn find_by_http(&self, host: &str) -> Result<Vec<IpAddr>> {
        let page = self.curl(&format!("http://{host}/"))?;
        ensure!(
            page.status == 200 && page.redirects == 1,
            "{} after {} redirects",
            page.status,
            page.redirects
        );
        by_itself(page.address, self.family(), page.body.trim())
    }

    /// Plays a video; the server is known by its picture's size.
    fn find_by_rtsp(&self, vip: IpAddr, host: &str) -> Result<Vec<IpAddr>> {
        let probe = self.ffprobe(&format!("rtsp://{host}{RTSP_PATH}"))?;
        let [first, server] = &probe.connected[..] else {
            anyhow::bail!("connected to {:?}", probe.connected)
        };
        ensure!(first.ip() == vip, "connected to {first} first");
        let (width, height) = probe.picture;
        let named = probe.server().with_context(|| format!("nobody's picture: {width}x{height}"))?;
        by_itself(server.ip(), self.family(), named.name)
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

/// The counters that rose.
fn risen(before: &Value, after: &Value) -> Result<Vec<Risen>> {
    let mut risen = Vec::new();
    for path in AnswerPath::ALL {
        let (before, after) = (reasons(before, path)?, reasons(after, path)?);
        risen.extend(after.into_iter().filter_map(|(reason, count)| {
            let count = count.checked_sub(before.get(&reason).copied().unwrap_or(0))?;
            (count > 0).then_some(Risen { path, reason, count })
        }));
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
    fn what_rose_is_told_by_path_and_what_is_an_answer() {
        let before = json!({"fast": {"reasons": {"first-tier": 1}}, "slow": {"reasons": {"nxdomain": 7}}});
        let after = json!({
            "fast": {"reasons": {"first-tier": 1, "vip-address": 1, "punt-not-udp": 9, "not-vip": 1}},
            "slow": {"reasons": {"nxdomain": 7, "later-tier": 1}},
        });
        let risen = risen(&before, &after).unwrap();
        let shown = risen.iter().map(|risen| (risen.path, &*risen.reason, risen.count, risen.is_answer()));
        let expected = [
            (AnswerPath::Fast, "not-vip", 1, false),
            (AnswerPath::Fast, "punt-not-udp", 9, false),
            (AnswerPath::Fast, "vip-address", 1, true),
            (AnswerPath::Slow, "later-tier", 1, true),
        ];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
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
