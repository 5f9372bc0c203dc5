//! The files of a decision log: one is written, and the oldest go when all together are too large.

use super::format::{Encoder, Entry, MAGIC, MAX_ENTRY, peek};
use crate::config::DecisionLog;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How files are called: this, the time of their begin in microseconds since 1970, and [`SUFFIX`]. So names are in the
/// order of time.
const PREFIX: &str = "decisions-";
const SUFFIX: &str = ".rdlog";
/// Bytes that wait in memory to be written.
const BUFFER: usize = 64 << 10;

/// The files of a log, oldest first.
///
/// # Errors
/// If the directory cannot be read.
pub fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let time = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        if time.is_some_and(|time| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit())) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What became of the files so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileCounts {
    /// Decisions that were written.
    pub written: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Files that were removed because all together were too large.
    pub removed_files: u64,
    /// Decisions in them.
    pub removed_decisions: u64,
    /// Decisions that could not be written.
    pub failed: u64,
}

/// The file that is written.
#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    begun: Instant,
    /// Bytes in the file.
    bytes: u64,
    encoder: Encoder,
}

/// Writes a log's files. What cannot be written is counted, and tried anew with the next file.
#[derive(Debug)]
pub struct Files {
    log: DecisionLog,
    box_name: String,
    open: Option<Open>,
    /// Entries that are not written yet, and how many decisions are among them.
    buffer: Vec<u8>,
    decisions: u64,
    /// What became of the files.
    pub counts: FileCounts,
}

impl Files {
    /// Nothing is touched yet.
    pub fn new(log: DecisionLog, box_name: String) -> Self {
        let counts = FileCounts::default();
        Self { log, box_name, open: None, buffer: Vec::new(), decisions: 0, counts }
    }

    /// How the log is configured.
    pub fn log(&self) -> &DecisionLog {
        &self.log
    }

    /// Whether entries can be put.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Begins a file; `now` is in microseconds since 1970. Makes room for it first.
    ///
    /// # Errors
    /// What cannot be done, and where.
    pub fn begin(&mut self, now: u64) -> io::Result<()> {
        self.open = None;
        let directory = &self.log.directory;
        fs::create_dir_all(directory).map_err(|error| at(directory, error))?;
        self.make_room()?;
        let directory = &self.log.directory;
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o640);
        // Two files of one microsecond: a clock that was set back, or one that stands.
        let mut tried = (0..1000).map(|more| {
            let path = directory.join(format!("{PREFIX}{:020}{SUFFIX}", now.saturating_add(more)));
            options.open(&path).map(|file| (file, path.clone())).map_err(|error| at(&path, error))
        });
        let opened =
            tried.find(|tried| !matches!(tried, Err(error) if error.kind() == io::ErrorKind::AlreadyExists));
        let (file, path) =
            opened.unwrap_or_else(|| Err(at(directory, io::ErrorKind::AlreadyExists.into())))?;
        let encoder = Encoder::default();
        self.open = Some(Open { file, path, begun: Instant::now(), bytes: 0, encoder });
        (self.buffer, self.decisions) = (MAGIC.to_vec(), 0);
        self.put(&Entry::Begin { time: now, box_name: self.box_name.as_str().into() });
        Ok(())
    }

    /// Whether the file is as large or old as it may become.
    pub fn is_full(&self) -> bool {
        let full = |open: &Open| {
            let bytes = open.bytes + self.buffer.len() as u64;
            bytes + MAX_ENTRY as u64 > self.log.file_size || open.begun.elapsed() >= self.log.file_age
        };
        self.open.as_ref().is_some_and(full)
    }

    /// Puts an entry behind the others; [`Self::flush`] writes it. Without a file, a decision is counted as failed.
    pub fn put(&mut self, entry: &Entry) {
        let is_decision = u64::from(matches!(entry, Entry::Decision(_)));
        match &mut self.open {
            Some(open) => {
                open.encoder.put(entry, &mut self.buffer);
                self.decisions += is_decision;
            }
            None => self.counts.failed += is_decision,
        }
    }

    /// Whether anything waits to be written.
    pub fn waits(&self) -> bool {
        self.open.is_some() && !self.buffer.is_empty()
    }

    /// Whether so much waits that it should be written.
    pub fn wants_flush(&self) -> bool {
        self.buffer.len() >= BUFFER
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// If it cannot be written: it is lost and counted, the file is closed, and what it held stays.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = open.file.write_all(&self.buffer);
        if let Err(error) = written {
            let error = at(&open.path, error);
            // Half an entry would end the file for readers. If that fails, too, they are told where it breaks off.
            let _ = open.file.set_len(open.bytes);
            if open.bytes == 0 {
                let _ = fs::remove_file(&open.path);
            }
            self.counts.failed += self.decisions;
            (self.open, self.decisions) = (None, 0);
            self.buffer.clear();
            return Err(error);
        }
        open.bytes += self.buffer.len() as u64;
        self.counts.bytes += self.buffer.len() as u64;
        self.counts.written += self.decisions;
        self.decisions = 0;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what waits, to the disk, too.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        match self.open.take() {
            Some(open) => open.file.sync_data().map_err(|error| at(&open.path, error)),
            None => Ok(()),
        }
    }

    /// Removes the oldest files until there is room for another one.
    fn make_room(&mut self) -> io::Result<()> {
        let directory = &self.log.directory;
        let files = files(directory).map_err(|error| at(directory, error))?;
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |data| data.len());
        let mut total: u64 = files.iter().map(size).sum();
        for path in &files {
            if total + self.log.file_size <= self.log.total_size {
                break;
            }
            let (bytes, decisions) = (size(path), decisions(path));
            fs::remove_file(path).map_err(|error| at(path, error))?;
            total -= bytes;
            self.counts.removed_files += 1;
            self.counts.removed_decisions += decisions;
        }
        Ok(())
    }
}

/// How many decisions a file holds, as far as it can be read.
fn decisions(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap_or_default();
    let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
    let mut count = 0;
    while let Ok((is_decision, taken)) = peek(rest) {
        count += u64::from(is_decision);
        rest = &rest[taken..];
    }
    count
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Wait after a failure before the next file is tried.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::hub::Wanted;
    use super::super::reader::Reader;
    use super::*;

    fn log(directory: &Path, file_size: u64, total_size: u64) -> DecisionLog {
        let wanted = Wanted { fast: 1, slow: 1 };
        let file_age = Duration::from_secs(3600);
        DecisionLog { directory: directory.to_owned(), wanted, file_size, file_age, total_size }
    }

    fn health(time: u64) -> Entry {
        Entry::Health { time, target: 1, up: true, factor: 1 }
    }

    #[test]
    fn all_files_together_stay_within_their_bound_and_the_newest_stay() {
        let dir = tempfile::tempdir().expect("directory");
        let (size, total) = (128 << 10, 400 << 10);
        let mut files_ = Files::new(log(dir.path(), size, total), "box".to_owned());
        let mut time = 0;
        for file in 0..20u64 {
            files_.begin(1000 + file).expect("begun");
            while !files_.is_full() {
                time += 1;
                files_.put(&health(time));
                if files_.wants_flush() {
                    files_.flush().expect("written");
                }
            }
            files_.close().expect("written");
            let sizes = files(dir.path()).expect("read");
            let sizes: u64 = sizes.iter().map(|path| fs::metadata(path).expect("there").len()).sum();
            assert!(sizes <= total, "{sizes} after {file}");
        }
        let left = files(dir.path()).expect("read");
        assert_eq!(left.len(), 3, "{left:?}");
        assert_eq!(files_.counts.removed_files, 17);
        let mut reader = Reader::open(left.last().expect("one")).expect("opened");
        let mut last = None;
        while let Some(entry) = reader.next().expect("readable") {
            last = Some(entry.expect("undamaged"));
        }
        assert_eq!(last, Some(health(time)));
    }

    #[test]
    fn an_unwritable_directory_is_told_by_its_name_and_loses_what_comes() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("a-file");
        fs::write(&path, "").expect("written");
        let mut files = Files::new(log(&path, 1 << 20, 1 << 30), "box".to_owned());
        let error = files.begin(1).expect_err("no directory").to_string();
        assert!(error.contains("a-file"), "{error}");
        assert!(!files.is_open());
        files.put(&health(1));
        assert!(files.flush().is_ok(), "nothing waits");
    }

    #[test]
    fn two_files_of_one_moment_are_two() {
        let dir = tempfile::tempdir().expect("directory");
        let mut files_ = Files::new(log(dir.path(), 1 << 20, 1 << 30), "box".to_owned());
        for _ in 0..3 {
            files_.begin(7).expect("begun");
            files_.close().expect("written");
        }
        assert_eq!(files(dir.path()).expect("read").len(), 3);
    }
}
