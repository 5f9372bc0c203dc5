//! Files: the configuration and the prefix lists it names, the client's prefix list, the last good state.

use crate::made;
use crate::network::VIEW;
use cdsr::PrefixList;
use nix::sys::memfd::{MFdFlags, memfd_create};
use redirector::config::{self, Config, ConfigError, Errors, Severity};
use redirector::state::disk::LastGood;
use redirector::state::new_slots;
use redirector_plan::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::{Network, Region, TargetState};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// The configuration's name in findings.
const NAME: &str = "any.toml";

/// Where configurations find the prefix files of the example.
fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy"))
}

/// Any bytes as a configuration: everything that is wrong has a place in the file, says what would be right, and can be
/// shown on a terminal; what is taken is read alike twice.
///
/// # Panics
/// If not.
pub fn configuration(bytes: &[u8]) {
    let _ = checked(bytes);
}

/// The network that a box would take, which may keep services of the last one.
fn checked(bytes: &[u8]) -> Option<Network> {
    let read = |mode| config::parse(NAME, bytes, directory(), mode);
    let text = std::str::from_utf8(bytes).ok();
    let whole = read(Errors::Refuse);
    match &whole {
        Err(errors) => {
            assert!(
                errors.iter().any(|finding| finding.severity == Severity::Error),
                "refused without an error"
            );
            errors.iter().for_each(|finding| check_finding(text, finding));
            // Each takes as long as reading the file.
            errors.iter().take(2).for_each(check_report);
        }
        Ok(config) => {
            config.warnings.iter().for_each(|finding| check_finding(text, finding));
            let again =
                read(Errors::Refuse).unwrap_or_else(|errors| panic!("refused the second time: {errors}"));
            assert_eq!(config.network, again.network);
        }
    }
    // Services with errors may stay as they were.
    match read(Errors::KeepServices(Some(&VIEW.generation.config.network))) {
        Err(errors) => {
            errors.iter().for_each(|finding| check_finding(text, finding));
            None
        }
        Ok(Config { refused, network, .. }) => {
            assert_eq!(refused.is_empty(), whole.is_ok(), "{refused:?}");
            assert!(refused.iter().all(|finding| finding.service.is_some()));
            Some(network)
        }
    }
}

/// A configuration with words of it exchanged, left out or repeated: as any, and what is taken is compiled or refused.
///
/// # Panics
/// As [`configuration`], and if not.
pub fn configuration_made(choices: &[u8]) {
    let last = &VIEW.generation.config.network;
    if let Some(network) = checked(made::configuration(choices).as_bytes())
        && network != *last
    {
        compiles_or_says_why(&network, new_slots());
    }
}

pub(crate) fn configuration_is_good(bytes: &[u8]) -> bool {
    config::parse(NAME, bytes, directory(), Errors::Refuse).is_ok()
}

pub(crate) fn made_is_good(choices: &[u8]) -> bool {
    configuration_is_good(made::configuration(choices).as_bytes())
}

/// A finding in the configuration, or in a file that it names.
fn check_finding(text: Option<&str>, finding: &ConfigError) {
    let shown = finding.to_string();
    assert!(!finding.message.is_empty() && !shown.contains(char::is_control), "{shown:?}");
    assert!(finding.severity == Severity::Warning || finding.help.is_some(), "no remedy: {shown}");
    match text {
        Some(text) if finding.origin.file == NAME => check_place(text, finding),
        Some(_) => assert!(finding.origin.line > 0 && !finding.origin.file.is_empty(), "{shown}"),
        None => assert_eq!(finding.origin.line, 0, "a place in what is no text: {shown}"),
    }
}

/// The finding as text for people moves no cursor but to the next line.
fn check_report(finding: &ConfigError) {
    let report = finding.report(false);
    assert!(!report.contains(|c: char| c.is_control() && c != '\n'), "{report:?}");
    assert!(finding.report(true).len() >= report.len());
}

/// Line and column are those of a character of the text, or of its end.
fn check_place(text: &str, finding: &ConfigError) {
    let (line, column) = (finding.origin.line as usize, finding.origin.column as usize);
    let length = text.split('\n').nth(line.wrapping_sub(1)).map(|line| line.chars().count());
    assert!(length.is_some_and(|length| (1..=length + 1).contains(&column)), "beyond the file: {finding}");
}

fn compiles_or_says_why(network: &Network, mut slots: CounterSlots) {
    let states = vec![TargetState::default(); network.targets.len()];
    if let Err(refusals) = compile(network, &states, 1, &mut slots) {
        assert!(!refusals.is_empty() && refusals.iter().all(|refusal| !refusal.to_string().is_empty()));
    }
}

/// A file in memory, by a path that anybody in this process can read.
struct MemoryFile(File);

impl MemoryFile {
    fn new() -> Self {
        Self(memfd_create("prefixes", MFdFlags::MFD_CLOEXEC).expect("a file in memory").into())
    }

    /// Replaces what is in it, and gives its path.
    fn write(&mut self, bytes: &[u8]) -> String {
        let file = &mut self.0;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(bytes)).expect("memory");
        format!("/proc/self/fd/{}", file.as_raw_fd())
    }
}

thread_local! {
    static FILE: std::cell::RefCell<MemoryFile> = std::cell::RefCell::new(MemoryFile::new());
}

/// A configuration that has little else than regions.
const REGIONS: &str = "
[box]
name = \"any\"
management = \"198.18.0.5\"
xdp = \"off\"
[fleet]
key = \"000102030405060708090a0b0c0d0e0f\"
[[vip]]
cdn = \"acme\"
addresses = [\"203.0.113.1\"]
[[region]]
name = \"here\"
prefixes = [\"10.0.0.0/8\", \"2001:db8:100::/40\"]
";

/// Reads a configuration with a region from a prefix file.
fn with_prefixes(bytes: &[u8]) -> (String, Result<Config, config::ConfigErrors>) {
    let path = FILE.with_borrow_mut(|file| file.write(bytes));
    let text = format!("{REGIONS}[[region]]\nname = \"listed\"\nprefixes = {{ file = \"{path}\" }}\n");
    let read = config::parse(NAME, text, Path::new(""), Errors::Refuse);
    (path, read)
}

/// Any bytes as a prefix file of a region and as the client's prefix list: what is wrong has its line; what the box takes
/// the client takes, too, and finds every prefix in it.
///
/// # Panics
/// If not.
pub fn prefix_file(bytes: &[u8]) {
    let (path, read) = with_prefixes(bytes);
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    let text = std::str::from_utf8(bytes);
    let client = text.map(|text| PrefixList::parse(Path::new("list"), text));
    match read {
        Ok(config) => {
            let region: &Region =
                config.network.regions.iter().find(|region| region.name == "listed").expect("listed");
            let list = client.expect("text").expect("what the box takes");
            for prefix in &region.prefixes {
                assert_eq!(prefix.trunc(), *prefix);
                assert!(list.contains(prefix.addr()), "the client does not find {prefix}");
            }
        }
        Err(errors) => {
            for finding in errors.iter() {
                let shown = finding.to_string();
                assert!(!shown.contains(char::is_control), "{shown:?}");
                let in_file = finding.origin.file == path;
                assert!(!in_file || (1..=lines).contains(&(finding.origin.line as usize)), "{shown}");
            }
        }
    }
    if let Ok(text) = text
        && let Err(error) = PrefixList::parse(Path::new("list"), text)
    {
        assert!((1..=lines).contains(&(error.line as usize)), "{error}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}

pub(crate) fn prefixes_are_good(bytes: &[u8]) -> bool {
    with_prefixes(bytes).1.is_ok()
}

/// Any bytes as the last good state: refused with the reason, or a configuration that is compiled or refused, and is the
/// same after being kept once more.
///
/// # Panics
/// If not.
pub fn state_file(bytes: &[u8]) {
    let state = match LastGood::parse(bytes) {
        Ok(state) => state,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    let config = state.config();
    compiles_or_says_why(&config.network, state.slots.clone());
    let kept = LastGood::new(state.generation, &config, &state.slots);
    let written = serde_json::to_vec(&kept).expect("JSON");
    let again = LastGood::parse(&written).unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(again.network(), state.network());
    assert_eq!((again.generation, &again.slots), (state.generation, &state.slots));
}

pub(crate) fn state_is_good(bytes: &[u8]) -> bool {
    LastGood::parse(bytes).is_ok()
}
