//! Load as servers, edges and operators tell it: text to [`Report`]s (P-22). By whatever way it comes, it ends here.

use crate::config::terms::{self, Capacity};
use crate::config::{self};
use crate::state::load::{LIFETIME, Report, Unit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a report can count in full.
const LIFETIMES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// What is told of one target, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Name of the target.
    pub target: String,
    /// How much it sends, as "3 Gbit/s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "RATE")]
    pub bandwidth: Option<String>,
    /// How many connections are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "NUMBER")]
    pub connections: Option<u64>,
    /// How many requests it serves, as "4000 requests/s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "RATE")]
    pub requests: Option<String>,
    /// How long this counts in full, as 30s: after that it loses influence little by little.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[arg(long = "for", value_name = "TIME")]
    pub lifetime: Option<String>,
    /// When it was measured, in milliseconds since 1970; now unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "MILLISECONDS")]
    pub at: Option<u64>,
}

impl Told {
    /// As a report, on a clock that says `now` when it is `unix` milliseconds since 1970. What is of the future is of now:
    /// clocks differ.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn report(&self, now: u64, unix: u64) -> Result<Report, String> {
        let mut used = BTreeMap::new();
        if let Some(text) = &self.bandwidth {
            match terms::capacity(text)? {
                Capacity::Bits(bits) => used.insert(Unit::Bandwidth, bits),
                Capacity::Requests(_) => return Err(format!("`{text}` is no bandwidth: write \"3 Gbit/s\"")),
            };
        }
        if let Some(connections) = self.connections {
            used.insert(Unit::Connections, connections);
        }
        if let Some(text) = &self.requests {
            match terms::capacity(text)? {
                Capacity::Requests(requests) => used.insert(Unit::Requests, requests),
                Capacity::Bits(_) => {
                    return Err(format!("`{text}` are no requests: write \"400 requests/s\""));
                }
            };
        }
        if used.is_empty() {
            return Err("nothing is told of its load: bandwidth, connections or requests".to_owned());
        }
        let lifetime = match &self.lifetime {
            None => LIFETIME,
            Some(text) => config::duration(text)
                .ok()
                .filter(|lifetime| LIFETIMES.contains(lifetime))
                .ok_or_else(|| format!("`{text}` is no time that a report counts: write 1s to 1h, as 30s"))?,
        };
        let age = self.at.map_or(0, |at| unix.saturating_sub(at));
        let at = now.checked_sub(age).ok_or("it was measured too long ago to count")?;
        Ok(Report { used, at, lifetime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Result<Report, String> {
        let told: Told = serde_json::from_str(json).map_err(|error| error.to_string())?;
        told.report(100_000, 5_000_000)
    }

    #[test]
    fn a_report_tells_units_time_and_lifetime() {
        let report = told(
            r#"{"target": "t", "bandwidth": "3 Gbit/s", "connections": 900, "requests": "40 requests/s",
                "for": "10s", "at": 4998000}"#,
        )
        .expect("a report");
        let used = [(Unit::Bandwidth, 3_000_000_000), (Unit::Connections, 900), (Unit::Requests, 40)];
        assert_eq!(report.used, BTreeMap::from(used));
        assert_eq!((report.at, report.lifetime), (98_000, Duration::from_secs(10)));
        let report = told(r#"{"target": "t", "connections": 0, "at": 9000000}"#).expect("a report");
        assert_eq!((report.at, report.lifetime), (100_000, LIFETIME), "of the future is of now");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_would_be_right() {
        for (json, remedy) in [
            (r#"{"target": "t"}"#, "bandwidth, connections or requests"),
            (r#"{"target": "t", "bandwidth": "3"}"#, "Gbit/s"),
            (r#"{"target": "t", "bandwidth": "3 requests/s"}"#, "3 Gbit/s"),
            (r#"{"target": "t", "requests": "3 Gbit/s"}"#, "400 requests/s"),
            (r#"{"target": "t", "connections": -1}"#, "u64"),
            (r#"{"target": "t", "connections": 1, "for": "0s"}"#, "1s to 1h"),
            (r#"{"target": "t", "connections": 1, "for": "2d"}"#, "1s to 1h"),
            (r#"{"target": "t", "connections": 1, "at": 1}"#, "too long ago"),
            (r#"{"target": "t", "load": 1}"#, "unknown field"),
        ] {
            let error = told(json).expect_err(json);
            assert!(error.contains(remedy), "{json}: {error}");
        }
    }
}
