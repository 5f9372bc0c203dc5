//! Other people's programs at a client, and what they report.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Lab,
    command::Cmd,
    dns_report::DnsReport,
    network,
    topology::{Family, Node, Role, with_role},
};

/// Seconds that any one program may take.
const TIME_LIMIT: &str = "20";

/// Order of addresses in which IPv4 comes first; without it IPv6 does (RFC 6724).
const PREFER_IPV4: &str = "precedence ::ffff:0:0/96 100\n";

/// Names of files in a client's folder, and what they are laid over.
const RESOLVER_FILES: [(&str, &str); 2] =
    [("resolv.conf", "/etc/resolv.conf"), ("gai.conf", "/etc/gai.conf")];

/// Programs at one client that speak one family: they resolve names at the box over it, prefer its addresses, and are
/// told to use it where they have an option for that.
#[derive(Debug)]
pub struct Client<'a> {
    lab: &'a Lab,
    node: &'static Node,
    family: Family,
    /// Files that are laid over those of `/etc`.
    files: Vec<(PathBuf, &'static str)>,
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
        with_picture(self.picture)
    }
}

/// What `gst-launch-1.0` reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playback {
    /// Width and height of the video in pixels.
    pub picture: (u32, u32),
    /// Pictures that were received.
    pub buffers: usize,
}

impl Playback {
    /// The server whose video has this size.
    #[must_use]
    pub fn server(&self) -> Option<&'static Node> {
        with_picture(self.picture)
    }
}

fn with_picture(picture: (u32, u32)) -> Option<&'static Node> {
    with_role(Role::Server).find(|server| server.picture == Some(picture))
}

impl<'a> Client<'a> {
    pub(super) fn new(lab: &'a Lab, node: &'static Node, family: Family) -> Self {
        let dir = resolver_dir(lab, family);
        let files = RESOLVER_FILES.map(|(name, over)| (dir.join(name), over)).into();
        Self { lab, node, family, files }
    }

    /// A client that holds an answer for `host`: it goes to `address` without asking.
    ///
    /// # Errors
    /// If the answer cannot be written down.
    pub fn holding(mut self, host: &str, address: IpAddr) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = resolver_dir(self.lab, self.family).join(format!("hosts-{number}"));
        fs::write(&path, format!("{address} {host}\n")).with_context(|| path.display().to_string())?;
        self.files.push((path, "/etc/hosts"));
        Ok(self)
    }

    /// The address that servers see.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.node.own.of(self.family)
    }

    /// The family that it speaks.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// A command line at this client, ended after 20 s.
    #[must_use]
    pub fn command(&self, command: &[&str]) -> Cmd {
        let overlays: Vec<(&Path, &str)> =
            self.files.iter().map(|(from, to)| (from.as_path(), *to)).collect();
        let limited = ["timeout", "--kill-after=1", TIME_LIMIT];
        self.lab.exec_with(self.node.name, &overlays, limited.iter().chain(command))
    }

    /// Asks `server` with `dig`; `query` is what follows, as `["www.example.net", "A", "+tcp"]`.
    ///
    /// # Errors
    /// If there is no answer, or one that `dig` does not take.
    pub fn dig(&self, server: IpAddr, query: &[&str]) -> Result<DnsReport> {
        // One question each time: what follows must not depend on a repetition.
        self.dns("dig", server, &["+tries=1", "+time=3", "+nocmd", "+noall", "+comments"], query)
    }

    /// Asks `server` with `kdig`, as [`Self::dig`]; names are sent in the case that they are given in.
    ///
    /// # Errors
    /// If there is no answer, or one that `kdig` does not take.
    pub fn kdig(&self, server: IpAddr, query: &[&str]) -> Result<DnsReport> {
        let once = ["+retry=0", "+time=3", "+noidn", "+noall", "+comments", "+header", "+opt"];
        self.dns("kdig", server, &once, query)
    }

    fn dns(&self, program: &str, server: IpAddr, options: &[&str], query: &[&str]) -> Result<DnsReport> {
        let server = format!("@{server}");
        let sections = ["+question", "+answer", "+authority", "+additional"];
        let command = self.command(&[&[program, &server], options, &sections, query].concat());
        let line = command.to_string();
        DnsReport::parse(&command.run()?).with_context(|| format!("report of `{line}`"))
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
        let command = self.command(&options);
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
        let command = self.command(&[&transport[..], &report].concat());
        let line = command.to_string();
        let output = command.output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` failed: {}\n{}", output.status, log.trim_end());
        parse_ffprobe(&String::from_utf8_lossy(&output.stdout), &log)
            .with_context(|| format!("report of `{line}`"))
    }

    /// Plays `buffers` pictures of the video at `url` with GStreamer, over the transports that it chooses from
    /// `protocols`, as `tcp` or `udp+tcp`.
    ///
    /// # Errors
    /// If there is no video.
    pub fn gstreamer(&self, url: &str, protocols: &str, buffers: u32) -> Result<Playback> {
        let (location, protocols) = (format!("location={url}"), format!("protocols={protocols}"));
        let buffers = format!("num-buffers={buffers}");
        let source = ["gst-launch-1.0", "--verbose", "rtspsrc", &location, &protocols, "latency=0"];
        let sink = ["!", "rtpjpegdepay", "!", "fakesink", "name=sink", "silent=false", &buffers];
        let command = self.command(&[&source[..], &sink].concat());
        let line = command.to_string();
        // Not its exit status: the lab's RTSP servers may hang up on the PAUSE that follows the last picture.
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        parse_gstreamer(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("report of `{line}`\n{}", said.trim_end()))
    }

    /// Runs `cdsr resolve` (`program` is the path of `cdsr`) and gives its report, also of a failure.
    ///
    /// # Errors
    /// If it reports something other than JSON.
    pub fn cdsr(&self, program: &Path, vip: IpAddr, url: &str) -> Result<Value> {
        let program = program.display().to_string();
        let vip = vip.to_string();
        let command = self.command(&[&program, "resolve", url, "--server", &vip, "--json"]);
        let line = command.to_string();
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("report of `{line}`\n{}", said.trim_end()))
    }
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

fn parse_gstreamer(report: &str) -> Result<Playback> {
    let sink = |line: &&str| line.contains("GstFakeSink:sink");
    let caps = report.lines().filter(sink).find(|line| line.contains("caps = ")).context("nothing came")?;
    let size = |key: &str| {
        let (_, size) = caps.split_once(&format!("{key}=(int)"))?;
        size.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let picture = size("width").zip(size("height")).with_context(|| format!("no size in: {caps}"))?;
    let buffers = report.lines().filter(sink).filter(|line| line.contains("last-message = chain ")).count();
    Ok(Playback { picture, buffers })
}

/// Where the files of [`RESOLVER_FILES`] are for clients of a family.
fn resolver_dir(lab: &Lab, family: Family) -> PathBuf {
    lab.dir().join(family.name())
}

/// Writes what clients of each family resolve names by.
pub(super) fn write_resolver_files(lab: &Lab) -> Result<()> {
    for family in Family::ALL {
        let dir = resolver_dir(lab, family);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let preference = if family == Family::V4 { PREFER_IPV4 } else { "" };
        let texts = [network::resolv_conf(&[family]), preference.to_owned()];
        for ((name, _), text) in RESOLVER_FILES.into_iter().zip(texts) {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_gstreamer_is_read() {
        let caps = "caps = image/jpeg, framerate=(fraction)10/1, width=(int)160, height=(int)120";
        let chain =
            "/GstPipeline:pipeline0/GstFakeSink:sink: last-message = chain   ******* (sink:sink) (4 bytes)";
        let report =
            format!("/GstPipeline:pipeline0/GstFakeSink:sink.GstPad:sink: {caps}\n{chain}\n{chain}\n");
        let playback = parse_gstreamer(&report).unwrap();
        assert_eq!((playback.picture, playback.buffers), ((160, 120), 2));
        assert_eq!(playback.server().map(|server| server.name), Some("s-fr"));
        assert!(parse_gstreamer("Setting pipeline to PLAYING ...\n").is_err());
    }

    #[test]
    fn a_report_without_an_answer_is_an_error() {
        assert!(parse_curl("only content").is_err());
        assert!(parse_ffprobe(r#"{"streams":[]}"#, "").is_err());
    }
}
