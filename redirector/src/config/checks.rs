//! Health checks of targets.

use super::read::{Section, Value};
use super::units;
use std::time::Duration;

/// How a target's health is found out. Each of its addresses is tried.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// Time from one probe's start to the next.
    pub every: Duration,
    /// Time for a whole probe, from the connection on; at most [`every`](Self::every).
    pub timeout: Duration,
    /// Good probes in a row that bring a target up.
    pub rise: u32,
    /// Bad probes in a row that take it down.
    pub fall: u32,
}

/// What a health check asks a target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Probe {
    /// `GET path HTTP/1.1`; good is an answer of the expected status.
    Http {
        /// TCP port.
        port: u16,
        /// Path and query.
        path: String,
        /// `Host` header; `None` sends the address.
        host: Option<String>,
        /// Expected status; `None` is any 2xx.
        status: Option<u16>,
    },
    /// Good is an accepted connection.
    Tcp {
        /// TCP port.
        port: u16,
    },
}

const EXAMPLE: &str = "{ http = \"/healthz\", every = \"2s\" }, or { tcp = 80 }";

/// Reads a `check` table of a target whose http port is `http_port`.
pub(super) fn read_check(value: &Value<'_>, http_port: u16) -> Option<Check> {
    const KEYS: &[&str] = &["http", "tcp", "port", "status", "host", "every", "timeout", "rise", "fall"];
    let section = value.section(KEYS, EXAMPLE)?;
    let probe = read_probe(&section, http_port);
    let (millis, seconds) = (Duration::from_millis, Duration::from_secs);
    let time = |key, default, range| match section.get(key) {
        None => Some(default),
        Some(value) => units::duration(&value, range),
    };
    let every = time("every", seconds(2), millis(100)..=seconds(3600));
    let timeout =
        time("timeout", every.map_or(seconds(1), |every| every.min(seconds(1))), millis(10)..=seconds(60));
    let count = |key, default| match section.get(key) {
        None => Some(default),
        Some(value) => value.integer(1..=100).and_then(|count| u32::try_from(count).ok()),
    };
    let (rise, fall) = (count("rise", 2), count("fall", 3));
    if let (Some(every), Some(timeout), Some(value)) = (every, timeout, section.get("timeout"))
        && timeout > every
    {
        let message = format!("a probe may take longer than `every`, {}", units::write_duration(every));
        value.place.error(message, "make `timeout` at most `every`");
        return None;
    }
    Some(Check { probe: probe?, every: every?, timeout: timeout?, rise: rise?, fall: fall? })
}

fn read_probe(section: &Section<'_>, http_port: u16) -> Option<Probe> {
    match (section.get("http"), section.get("tcp")) {
        (Some(path), None) => read_http(section, &path, http_port),
        (None, Some(port)) => {
            let foreign: Vec<_> =
                ["port", "status", "host"].into_iter().filter_map(|key| section.get(key)).collect();
            for value in &foreign {
                value.place.error(
                    "this belongs to http checks",
                    "leave it out, or write http = \"/…\" instead of tcp",
                );
            }
            let port = port.port()?;
            foreign.is_empty().then_some(Probe::Tcp { port })
        }
        (Some(_), Some(tcp)) => {
            tcp.place.error(
                "a check has `http` or `tcp`, not both",
                "leave one out; for the port of an http check write `port`",
            );
            None
        }
        (None, None) => {
            section
                .place
                .error("this check says neither `http` nor `tcp`", format!("for example: check = {EXAMPLE}"));
            None
        }
    }
}

fn read_http(section: &Section<'_>, path: &Value<'_>, http_port: u16) -> Option<Probe> {
    let path = path.text("\"/healthz\"")?;
    let port = match section.get("port") {
        None => Some(http_port),
        Some(value) => value.port(),
    };
    let status = match section.get("status") {
        None => Some(None),
        Some(value) => value.integer(100..=599).and_then(|status| u16::try_from(status).ok()).map(Some),
    };
    let host = match section.get("host") {
        None => Some(None),
        Some(value) => {
            value.word("\"www.example.net\"").and_then(|text| super::names::host_name(&text)).map(Some)
        }
    };
    if !path.text.starts_with('/') || !path.text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("`{}` is not the path of a request", path.text.escape_debug());
        path.place
            .error(message, "it begins with `/` and has no blanks; other characters are written as %XX");
        return None;
    }
    Some(Probe::Http { port: port?, path: path.text.to_owned(), host: host?, status: status? })
}
