//! What is written down of decisions: `[log]` (A-12).

use super::read::{Section, Value};
use super::units;
use crate::journal::Wanted;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The decision log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DecisionLog {
    /// Where its files are.
    pub directory: PathBuf,
    /// How much is written.
    pub wanted: Wanted,
    /// A file that is as large is followed by another, in bytes.
    pub file_size: u64,
    /// A file that is as old is followed by another.
    pub file_age: Duration,
    /// The oldest files go when all together are larger, in bytes.
    pub total_size: u64,
}

const EXAMPLE: &str = r#"{ directory = "/var/log/redirector" }"#;
/// One decision of the fast path in so many, unless written.
const SAMPLE: u64 = 1000;
/// Sizes, unless written.
const FILE_SIZE: u64 = 64 << 20;
const TOTAL_SIZE: u64 = 1 << 30;
/// A file's age, unless written.
const FILE_AGE: Duration = Duration::from_secs(3600);
/// Sizes that can be written.
const SIZES: RangeInclusive<u64> = 64 << 10..=1 << 50;
const AGES: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);

/// Reads `[log]`: what is to be written of decisions, if anything. The outer `None` says that there is an error.
pub(super) fn read_log(root: &Section<'_>) -> Option<Option<DecisionLog>> {
    if root.get("log").is_none() {
        return Some(None);
    }
    let section = root.table("log", &["decisions"], "")?;
    match section.get("decisions") {
        None => Some(None),
        Some(value) => read_decisions(&value).map(Some),
    }
}

fn read_decisions(value: &Value<'_>) -> Option<DecisionLog> {
    const KEYS: &[&str] = &["directory", "sample", "slow", "file_size", "file_age", "total_size"];
    let section = value.section(KEYS, EXAMPLE)?;
    let directory = section.require("directory", "\"/var/log/redirector\"");
    let directory = directory.and_then(|value| value.word("\"/var/log/redirector\""));
    let fast = section.get("sample").map_or(Some(SAMPLE), |value| value.integer(0..=1_000_000));
    let slow = section.get("slow").map_or(Some(1), |value| slow(&value));
    let size = |key, default| section.get(key).map_or(Some(default), |value| units::size(&value, SIZES));
    let (file_size, total_size) = (size("file_size", FILE_SIZE), size("total_size", TOTAL_SIZE));
    let age = section.get("file_age").map_or(Some(FILE_AGE), |value| units::duration(&value, AGES));
    let (file_size, total_size) = (file_size?, total_size?);
    if total_size < 2 * file_size {
        let place = section.get("total_size").or(section.get("file_size"))?.place;
        place.error(
            "all files together are smaller than two of them",
            format!("total_size is {total_size} bytes and file_size {file_size}: at least twice as much"),
        );
        return None;
    }
    let directory = directory?;
    let path = PathBuf::from(directory.text);
    if !path.is_absolute() {
        directory.place.error("the directory of the decision log is relative", "write it from the root: /…");
        return None;
    }
    let count = |count: Option<u64>| count.and_then(|count| u32::try_from(count).ok());
    let wanted = Wanted { fast: count(fast)?, slow: count(slow)? };
    Some(DecisionLog { directory: path, wanted, file_size, file_age: age?, total_size })
}

/// How much of the slow path is written: `"all"`, or one in so many; 0: none.
fn slow(value: &Value<'_>) -> Option<u64> {
    match value.string() {
        Some(text) if text == "all" => Some(1),
        Some(text) => {
            value.place.error(format!("`{text}` is not how much"), "write \"all\", or 10 for one in ten");
            None
        }
        None => value.integer(0..=1_000_000),
    }
}
