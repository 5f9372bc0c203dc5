//! Bounds on what clients can make the slow path hold.

use super::read::Section;
use super::units;
use std::time::Duration;

/// Bounds of the slow path, so that no client can make it hold memory or sockets without end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// HTTP connections open at once; more are closed when they are accepted.
    pub http_connections: usize,
    /// RTSP connections open at once.
    pub rtsp_connections: usize,
    /// DNS connections (TCP) open at once.
    pub dns_connections: usize,
    /// Time from the first byte of a request to the end of its header.
    pub header_timeout: Duration,
    /// Time a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Longest request header, in bytes.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http_connections: 4096,
            rtsp_connections: 1024,
            dns_connections: 1024,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            header_bytes: 16_384,
        }
    }
}

const KEYS: &[&str] = &[
    "http_connections",
    "rtsp_connections",
    "dns_connections",
    "header_timeout",
    "idle_timeout",
    "header_bytes",
];

/// Reads `[limits]`; `None` if there is an error.
pub(super) fn read_limits(root: &Section<'_>) -> Option<Limits> {
    let default = Limits::default();
    if root.get("limits").is_none() {
        return Some(default);
    }
    let section = root.table("limits", KEYS, "")?;
    let count = |key, default, low, high| match section.get(key) {
        None => Some(default),
        Some(value) => value.integer(low..=high).and_then(|count| usize::try_from(count).ok()),
    };
    let time = |key, default| match section.get(key) {
        None => Some(default),
        Some(value) => units::duration(&value, Duration::from_millis(100)..=Duration::from_secs(600)),
    };
    let http_connections = count("http_connections", default.http_connections, 1, 1_000_000);
    let rtsp_connections = count("rtsp_connections", default.rtsp_connections, 1, 1_000_000);
    let dns_connections = count("dns_connections", default.dns_connections, 1, 1_000_000);
    let header_timeout = time("header_timeout", default.header_timeout);
    let idle_timeout = time("idle_timeout", default.idle_timeout);
    let header_bytes = count("header_bytes", default.header_bytes, 1024, 1 << 20);
    Some(Limits {
        http_connections: http_connections?,
        rtsp_connections: rtsp_connections?,
        dns_connections: dns_connections?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        header_bytes: header_bytes?,
    })
}
