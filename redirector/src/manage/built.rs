//! How the current generation was built: time of each step, size of the tables.

use crate::dataplane::PublishTimes;
use redirector_plan::image::{TableImage, TableKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Times in milliseconds; 0 for what was not done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildReport {
    /// To read the configuration and check it.
    pub read_ms: f64,
    /// To wait for the first outcomes of new health checks.
    pub checks_ms: f64,
    /// To plan and compile the tables.
    pub compile_ms: f64,
    /// To make the maps and have the kernel check the program.
    pub load_ms: f64,
    /// To copy the tables.
    pub fill_ms: f64,
    /// To put the new program in the place of the old one.
    pub switch_ms: f64,
    /// Bytes of the tables.
    pub table_bytes: u64,
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl BuildReport {
    /// Of tables that are not published yet.
    pub fn prepared(read: Duration, checks: Duration, compile: Duration) -> Self {
        Self {
            read_ms: millis(read),
            checks_ms: millis(checks),
            compile_ms: millis(compile),
            ..Self::default()
        }
    }

    /// Adds what their publication took.
    pub fn publish(&mut self, image: &TableImage, times: PublishTimes) {
        self.load_ms = millis(times.load);
        self.fill_ms = millis(times.fill);
        self.switch_ms = millis(times.switch);
        self.table_bytes = TableKind::ALL.iter().map(|kind| image.bytes(*kind).len() as u64).sum();
    }
}

/// For people.
impl fmt::Display for BuildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read_ms, checks_ms, compile_ms, load_ms, fill_ms, switch_ms, table_bytes } = self;
        write!(
            f,
            "built in {read_ms:.0} ms to read, {checks_ms:.0} to wait for checks, {compile_ms:.0} to compile, \
             {load_ms:.0} to load, {fill_ms:.0} to fill {:.1} MiB of tables, {switch_ms:.1} to switch",
            *table_bytes as f64 / f64::from(1 << 20)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_told_with_its_time() {
        let millis = Duration::from_millis;
        let mut built = BuildReport::prepared(millis(1), millis(2), millis(3));
        let times = PublishTimes { load: millis(4), fill: millis(5), switch: millis(6) };
        let network = redirector_plan::model::Network::default();
        let image = redirector_plan::compile(&network, &[], 1, &mut crate::state::new_slots());
        built.publish(&image.expect("compiles").image, times);
        let text = built.to_string();
        assert!(
            text.starts_with(
                "built in 1 ms to read, 2 to wait for checks, 3 to compile, 4 to load, 5 to fill "
            )
        );
        assert!(text.ends_with(" MiB of tables, 6.0 to switch"), "{text}");
        assert!(built.table_bytes > 1 << 20, "the roots of the region tables alone are that large");
    }
}
