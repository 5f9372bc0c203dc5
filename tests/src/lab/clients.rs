//! Other people's programs at a client, and what they report.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    Lab,
    command::Cmd,
    network,
    topology::{Family, Node, Role, with_role},
};

/// Seconds that any one program may take.
const TIME_LIMIT: &str = "20";

/// Order of addresses in which IPv4 comes first; without it IPv6 does (RFC 6724).
const PREFER_IPV4: &str = "precedence ::ffff:0:0/96 100\n";

/// Programs at one client that speak one family: they resolve names at the box over it, prefer its addresses, and are
/// told to use it where they have an option for that.
#[derive(Debug)]
pub struct Client<'a> {
    lab: &'a Lab,
    node: &'static Node,
    family: Family,
}

/// What `dig` reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dig {
    /// Response code, as `NOERROR`.
    pub status: String,
    /// Header flags, as `aa`.
    pub flags: Vec<String>,
    /// Records of the answer section: name, TTL in seconds, type, data.
    pub answers: Vec<(String, u32, String, String)>,
}

impl Dig {
    /// The addresses in the answer section.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.answers.iter().filter_map(|(_, _, _, data)| data.parse().ok()).collect()
    }
}

/// What `curl` reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curl {
    /// Status of the last response.
    pub status: u16,
    /// Content of the last response.
    pub body: String,
    /// URL that was fetched last.
    pub url: String,
    /// Address that was connected to last.
    pub address: IpAddr,
    /// Redirects that were followed.
    pub redirects: u32,
}

/// What `ffprobe` reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Width and height of the video in pixels.
    pub picture: (u32, u32),
    /// What was connected to, in order: with a redirect, the VIP and then the server.
    pub connected: Vec<SocketAddr>,
}

impl Probe {
    /// The server whose video has this size.
    #[must_use]
    pub fn server(&self) -> Option<&'static Node> {
        with_role(Role::Server).find(|server| server.picture == Some(self.picture))
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(lab: &'a Lab, node: &'static Node, family: Family) -> Self {
        Self { lab, node, family }
    }

    /// The address that servers see.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.node.own.of(self.family)
    }

    /// A command line at this client, ended after 20 s.
    ///
    /// # Errors
    /// If the resolver's configuration cannot be written.
    pub fn command(&self, command: &[&str]) -> Result<Cmd> {
        let dir = self.lab.dir().join(self.family.name());
        let preference = if self.family == Family::V4 { PREFER_IPV4 } else { "" };
        let resolver = network::resolv_conf(&[self.family]);
        let write = |name: &str, text: &str| -> Result<_> {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            Ok(path)
        };
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let (resolver, preference) = (write("resolv.conf", &resolver)?, write("gai.conf", preference)?);
        let overlays = [(resolver.as_path(), "/etc/resolv.conf"), (preference.as_path(), "/etc/gai.conf")];
        let limited = ["timeout", "--kill-after=1", TIME_LIMIT];
        Ok(self.lab.exec_with(self.node.name, &overlays, limited.iter().chain(command)))
    }

    /// Asks `server` with `dig`; `query` is what follows, as `["www.example.net", "A", "+tcp"]`.
    ///
    /// # Errors
    /// If there is no answer, or one that `dig` does not take.
    pub fn dig(&self, server: IpAddr, query: &[&str]) -> Result<Dig> {
        let server = format!("@{server}");
        // One question each time: what follows must not depend on a repetition.
        let options = ["dig", &server, "+tries=1", "+time=3", "+nocmd", "+noall", "+comments", "+answer"];
        let command = self.command(&[&options, query].concat())?;
        let line = command.to_string();
        parse_dig(&command.run()?).with_context(|| format!("report of `{line}`"))
    }

    /// Fetches `url` with `curl`, following redirects.
    ///
    /// # Errors
    /// If there is no complete response.
    pub fn curl(&self, url: &str) -> Result<Curl> {
        let family = match self.family {
            Family::V4 => "--ipv4",
            Family::V6 => "--ipv6",
        };
        let report = "\n%{json}";
        let options = ["curl", family, "--silent", "--show-error", "--location", "--write-out", report, url];
        let command = self.command(&options)?;
        let line = command.to_string();
        parse_curl(&command.run()?).with_context(|| format!("report of `{line}`"))
    }

    /// Plays the beginning of the video at `url` with `ffprobe`, by RTSP over TCP.
    ///
    /// # Errors
    /// If there is no video.
    pub fn ffprobe(&self, url: &str) -> Result<Probe> {
        // Twenty frames to estimate their rate would take two seconds.
        let transport =
            ["ffprobe", "-v", "verbose", "-hide_banner", "-rtsp_transport", "tcp", "-fpsprobesize", "0"];
        let report = ["-show_entries", "stream=width,height", "-of", "json", url];
        let command = self.command(&[&transport[..], &report].concat())?;
        let line = command.to_string();
        let output = command.output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` failed: {}\n{}", output.status, log.trim_end());
        parse_ffprobe(&String::from_utf8_lossy(&output.stdout), &log)
            .with_context(|| format!("report of `{line}`"))
    }

    /// Runs `cdsr resolve` (`program` is the path of `cdsr`) and gives its report, also of a failure.
    ///
    /// # Errors
    /// If it reports something other than JSON.
    pub fn cdsr(&self, program: &Path, vip: IpAddr, url: &str) -> Result<Value> {
        let program = program.display().to_string();
        let vip = vip.to_string();
        let command = self.command(&[&program, "resolve", url, "--server", &vip, "--json"])?;
        let line = command.to_string();
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("report of `{line}`\n{}", said.trim_end()))
    }
}

fn parse_dig(report: &str) -> Result<Dig> {
    let field = |before: &str, after: &str| {
        let (_, rest) = report.split_once(before)?;
        rest.split_once(after).map(|(field, _)| field.trim().to_owned())
    };
    let Some(status) = field("status: ", ",") else { bail!("no header in:\n{report}") };
    let flags = field(";; flags:", ";").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let lines = report.lines().filter(|line| !line.is_empty() && !line.starts_with(';'));
    let answers = lines.map(parse_record).collect::<Result<_>>()?;
    Ok(Dig { status, flags, answers })
}

/// `name TTL class type data…`
fn parse_record(line: &str) -> Result<(String, u32, String, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [name, ttl, _class, kind, data @ ..] = &fields[..] else { bail!("not a record: {line}") };
    let ttl = ttl.parse().with_context(|| format!("TTL in: {line}"))?;
    Ok(((*name).into(), ttl, (*kind).into(), data.join(" ")))
}

fn parse_curl(report: &str) -> Result<Curl> {
    let (body, report) = report.rsplit_once('\n').context("no report after the content")?;
    let report: Value = serde_json::from_str(report)?;
    let text = |key: &str| report[key].as_str().with_context(|| format!("no `{key}`"));
    let number = |key: &str| report[key].as_u64().with_context(|| format!("no `{key}`"));
    Ok(Curl {
        status: number("http_code")?.try_into()?,
        body: body.to_owned(),
        url: text("url_effective")?.to_owned(),
        address: text("remote_ip")?.parse()?,
        redirects: number("num_redirects")?.try_into()?,
    })
}

fn parse_ffprobe(report: &str, log: &str) -> Result<Probe> {
    let report: Value = serde_json::from_str(report)?;
    let size = |key: &str| report["streams"][0][key].as_u64().and_then(|size| u32::try_from(size).ok());
    let picture = size("width").zip(size("height")).context("no video stream")?;
    ensure!(picture.0 > 0 && picture.1 > 0, "the video has no size");
    let connected = log.lines().filter_map(|line| {
        let (address, port) = line.split_once("Successfully connected to ")?.1.split_once(" port ")?;
        Some(SocketAddr::new(address.parse().ok()?, port.trim().parse().ok()?))
    });
    Ok(Probe { picture, connected: connected.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_dig_is_read() {
        let report = ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n\
            ;; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0\n\n\
            ;; ANSWER SECTION:\na.example.net.\t\t30\tIN\tAAAA\t2001:db8::1\n";
        let dig = parse_dig(report).unwrap();
        assert_eq!((dig.status.as_str(), dig.flags.join(" ")), ("NOERROR", "qr aa rd".into()));
        assert_eq!(dig.addresses(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(dig.answers[0].1, 30);
    }

    #[test]
    fn a_report_without_an_answer_is_an_error() {
        assert!(parse_dig(";; communications error: timed out\n").is_err());
        assert!(parse_curl("only content").is_err());
        assert!(parse_ffprobe(r#"{"streams":[]}"#, "").is_err());
    }
}
