//! Bounds on what clients can make the slow path hold.

use super::read::Section;
use super::units;
use redirector_core::limit::{Class, Rate, Rates};
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
    /// Bounds on what is answered by datagram.
    #[serde(default)]
    pub rates: RateLimits,
}

/// Rates of datagrams: for each client prefix (/24 or /56) and CPU, unless said otherwise. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RateLimits {
    /// DNS answers with records that were asked for.
    pub answers_per_second: u32,
    /// Other DNS answers.
    pub errors_per_second: u32,
    /// CDSR replies.
    pub cdsr_per_second: u32,
    /// Packets that the fast path leaves to the slow path.
    pub punts_per_second: u32,
    /// The same, for all prefixes together on one CPU.
    pub punts_total_per_second: u32,
    /// One in so many that are over a limit is told so instead of being dropped; 0: none.
    pub slip: u32,
    /// What a rate makes in this time may come at once.
    pub burst: Duration,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            answers_per_second: 4000,
            errors_per_second: 1000,
            cdsr_per_second: 1000,
            punts_per_second: 500,
            punts_total_per_second: 20_000,
            slip: 2,
            burst: Duration::from_secs(1),
        }
    }
}

impl RateLimits {
    /// As packets are compared with them.
    pub fn rates(&self) -> Rates {
        let burst = u32::try_from(self.burst.as_nanos()).unwrap_or(u32::MAX);
        let rate = |per_second| Rate::new(per_second, burst);
        let mut of = [Rate::default(); 4];
        of[Class::Answers as usize] = rate(self.answers_per_second);
        of[Class::Errors as usize] = rate(self.errors_per_second);
        of[Class::Cdsr as usize] = rate(self.cdsr_per_second);
        of[Class::Punts as usize] = rate(self.punts_per_second);
        Rates { of, all_punts: self.all_punts(burst), slip: self.slip, reserved: 0 }
    }

    /// The rate of all punts together: of a burst no more at once than sockets hold. What they do not hold is lost, while
    /// DNS over the limit can come by TCP.
    fn all_punts(&self, burst: u32) -> Rate {
        let rate = Rate::new(self.punts_total_per_second, burst);
        let held = rate.interval.saturating_mul(AT_ONCE).max(CLOCK_STEPS);
        Rate::new(self.punts_total_per_second, burst.min(held))
    }
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
            rates: RateLimits::default(),
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
    "answers_per_second",
    "errors_per_second",
    "cdsr_per_second",
    "punts_per_second",
    "punts_total_per_second",
    "slip",
    "burst",
];

/// Highest rate that can be written: 0.1 µs from one to the next.
const MAX_RATE: u64 = 10_000_000;
/// The kernel's coarse clock may take steps of 10 ms, and what comes in one step must fit. The longest fits 32 bits of
/// nanoseconds.
const BURST: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(4);

/// Punts at once that sockets hold.
const AT_ONCE: u32 = 256;
/// What comes in two steps of that clock, in nanoseconds, must fit in any case.
const CLOCK_STEPS: u32 = 20_000_000;

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
    let rates = read_rates(&section);
    Some(Limits {
        http_connections: http_connections?,
        rtsp_connections: rtsp_connections?,
        dns_connections: dns_connections?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        header_bytes: header_bytes?,
        rates: rates?,
    })
}

/// The rates in `[limits]`.
fn read_rates(section: &Section<'_>) -> Option<RateLimits> {
    let default = RateLimits::default();
    let count = |key, default, high| match section.get(key) {
        None => Some(default),
        Some(value) => value.integer(0..=high).and_then(|count| u32::try_from(count).ok()),
    };
    let answers = count("answers_per_second", default.answers_per_second, MAX_RATE);
    let errors = count("errors_per_second", default.errors_per_second, MAX_RATE);
    let cdsr = count("cdsr_per_second", default.cdsr_per_second, MAX_RATE);
    let punts = count("punts_per_second", default.punts_per_second, MAX_RATE);
    let punts_total = count("punts_total_per_second", default.punts_total_per_second, MAX_RATE);
    let slip = count("slip", default.slip, 1000);
    let burst = match section.get("burst") {
        None => Some(default.burst),
        Some(value) => units::duration(&value, BURST),
    };
    Some(RateLimits {
        answers_per_second: answers?,
        errors_per_second: errors?,
        cdsr_per_second: cdsr?,
        punts_per_second: punts?,
        punts_total_per_second: punts_total?,
        slip: slip?,
        burst: burst?,
    })
}
