//! The prefix list: which addresses are anycast addresses that speak CDSR (P-19, section 11.1 of the protocol).

use crate::wire::PORT;
use ipnet::IpNet;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// A file is not looked at more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Prefixes of addresses that speak CDSR.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixList {
    prefixes: Vec<IpNet>,
}

impl PrefixList {
    /// Reads one prefix or address a line; `#` begins a comment. `path` is for messages only.
    ///
    /// # Errors
    /// The first line that is neither.
    pub fn parse(path: &Path, text: &str) -> Result<Self, PrefixListError> {
        let mut prefixes = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let entry = line.split('#').next().unwrap_or("").trim();
            if !entry.is_empty() {
                let problem = |problem| PrefixListError { path: path.to_owned(), line: number, problem };
                prefixes.push(prefix(entry).map_err(problem)?);
            }
        }
        Ok(Self { prefixes })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is longer than 4 MiB, is not UTF-8, or [`parse`](Self::parse) fails.
    pub fn load(path: &Path) -> Result<Self, PrefixListError> {
        let unreadable =
            |e| PrefixListError { path: path.to_owned(), line: 0, problem: Problem::Unreadable(e) };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE {
            return Err(PrefixListError { path: path.to_owned(), line: 0, problem: Problem::TooLong });
        }
        Self::parse(path, &text)
    }

    /// Whether the address speaks CDSR.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|p| p.contains(&address))
    }

    /// Those of `addresses` that speak CDSR, as socket addresses.
    pub(crate) fn redirectors(&self, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        addresses.iter().filter(|a| self.contains(**a)).map(|a| SocketAddr::new(*a, PORT)).collect()
    }
}

fn prefix(entry: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = entry.parse().map_err(|_| Problem::NotAPrefix(entry.to_owned()))?;
    if net.trunc() != net {
        return Err(Problem::HostBits(net));
    }
    Ok(net)
}

/// Why a prefix list cannot be used.
#[derive(Debug)]
pub struct PrefixListError {
    /// The file.
    pub path: PathBuf,
    /// Line from 1; 0 if it is about the whole file.
    pub line: u32,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a prefix list.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// Not readable, or not UTF-8.
    Unreadable(io::Error),
    /// Longer than 4 MiB.
    TooLong,
    /// Neither a prefix nor an address.
    NotAPrefix(String),
    /// Bits are set beyond the prefix length.
    HostBits(IpNet),
}

impl std::error::Error for PrefixListError {}

impl fmt::Display for PrefixListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        match &self.problem {
            Problem::Unreadable(e) => write!(f, ": {e}"),
            Problem::TooLong => write!(f, ": longer than {MAX_FILE} bytes"),
            Problem::NotAPrefix(entry) => {
                write!(f, ": {entry:?} is not a prefix; write for example 203.0.113.0/24 or 2001:db8:a::1")
            }
            Problem::HostBits(net) => {
                write!(f, ": {net} has bits set beyond /{}; write {} instead", net.prefix_len(), net.trunc())
            }
        }
    }
}

/// A prefix list that follows its file. A file that turns bad does not replace the list that was good.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    list: PrefixList,
    seen: Option<(SystemTime, u64)>,
    looked: Instant,
}

impl Watched {
    pub(crate) fn open(path: &Path) -> Result<Self, PrefixListError> {
        let seen = fs::metadata(path).ok().and_then(stamp);
        Ok(Self { path: path.to_owned(), list: PrefixList::load(path)?, seen, looked: Instant::now() })
    }

    pub(crate) fn list(&self) -> &PrefixList {
        &self.list
    }

    /// Reads the file again if it changed.
    ///
    /// # Errors
    /// It changed into one that cannot be used; told once for each change, and the old list stays.
    pub(crate) fn refresh(&mut self, now: Instant) -> Result<(), PrefixListError> {
        if now.duration_since(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.looked = now;
        // Taken before reading: a change in between is seen the next time.
        let stamp = fs::metadata(&self.path).ok().and_then(stamp);
        if stamp != self.seen {
            self.seen = stamp;
            self.list = PrefixList::load(&self.path)?;
        }
        Ok(())
    }
}

fn stamp(metadata: Metadata) -> Option<(SystemTime, u64)> {
    Some((metadata.modified().ok()?, metadata.len()))
}
