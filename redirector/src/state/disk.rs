//! The last good state on disk: what a box answers from when its configuration cannot be used.

use super::agreements::Decisions;
use super::forces::Forces;
use crate::config::{AccountTerms, BoxSettings, Check, Config, Limits};
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::Network;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the file in the state directory.
const FILE: &str = "last-good.json";
/// Name of the file with what was decided about agreements at run time.
const DECISIONS: &str = "agreements.json";
/// Name of the file with what operators said of targets and others.
const FORCES: &str = "states.json";
/// Form of the file; others are not read.
const FORMAT: u32 = 1;

/// Everything that the next run needs of this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastGood {
    format: u32,
    /// Number of the generation it was.
    pub generation: u64,
    /// Counter slots in use.
    pub slots: CounterSlots,
    box_: BoxSettings,
    network: Network,
    checks: Vec<Option<Check>>,
    limits: Limits,
    #[serde(default)]
    accounts: AccountTerms,
}

impl LastGood {
    /// What is to be kept of a generation.
    pub fn new(generation: u64, config: &Config, slots: &CounterSlots) -> Self {
        Self {
            format: FORMAT,
            generation,
            slots: slots.clone(),
            box_: config.box_.clone(),
            network: config.network.clone(),
            checks: config.checks.clone(),
            limits: config.limits.clone(),
            accounts: config.accounts.clone(),
        }
    }

    /// The same with other counter slots.
    pub fn with_slots(&self, slots: &CounterSlots) -> Self {
        Self { slots: slots.clone(), ..self.clone() }
    }

    /// Reads what was kept.
    ///
    /// # Errors
    /// If it is not what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let state: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("not a last good state, or a damaged one: {error}"))?;
        if state.format != FORMAT || state.checks.len() != state.network.targets.len() {
            return Err(format!("format {}; this program reads {FORMAT}", state.format));
        }
        Ok(state)
    }

    /// The network that it was.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The configuration that it was, without its warnings.
    pub fn config(&self) -> Config {
        let mut network = self.network.clone();
        // Another version may have had other accounts.
        redirector_plan::peering::settle(&mut network);
        let config = Config {
            box_: self.box_.clone(),
            network,
            checks: self.checks.clone(),
            limits: self.limits.clone(),
            accounts: self.accounts.clone(),
            warnings: Vec::new(),
            refused: Vec::new(),
        };
        config.with_stand_ins()
    }
}

/// Where the state is kept.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path).map_err(|error| at(path, error))?;
        Ok(Self(path.to_owned()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The last good state; `None` if none was ever kept.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub fn load(&self) -> io::Result<Option<LastGood>> {
        let path = self.0.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path, error)),
        };
        let corrupt = |why: String| at(&path, io::Error::new(io::ErrorKind::InvalidData, why));
        LastGood::parse(&bytes).map(Some).map_err(corrupt)
    }

    /// Replaces the last good state, whole or not at all. The file holds the fleet's key: only its owner may read it.
    ///
    /// # Errors
    /// If it cannot be written; the one before stays.
    pub fn save(&self, state: &LastGood) -> io::Result<()> {
        self.replace(FILE, &serde_json::to_vec(state)?)
    }

    /// What was decided about agreements at run time.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub fn load_decisions(&self) -> io::Result<Decisions> {
        Ok(self.read(DECISIONS)?.unwrap_or_default())
    }

    /// Replaces what was decided about agreements at run time, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written; what was there before stays.
    pub fn save_decisions(&self, decisions: &Decisions) -> io::Result<()> {
        self.replace(DECISIONS, &serde_json::to_vec(decisions)?)
    }

    /// What operators said of targets, pools, regions, VIPs and the box.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub fn load_forces(&self) -> io::Result<Forces> {
        Ok(self.read(FORCES)?.unwrap_or_default())
    }

    /// Replaces what operators said, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written; what was there before stays.
    pub fn save_forces(&self, forces: &Forces) -> io::Result<()> {
        self.replace(FORCES, &serde_json::to_vec(forces)?)
    }

    /// What a file holds; `None` if it is not there.
    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| at(&path, error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path, error)),
        }
    }

    /// Replaces a file, whole or not at all.
    fn replace(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        let temporary = self.0.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| at(&path, error))
    }
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::new_slots;
    use redirector_plan::counters::CounterIds;
    use std::os::unix::fs::PermissionsExt;

    fn good() -> (Config, CounterSlots) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/redirector.toml");
        let mut slots = new_slots();
        slots.service("web");
        (crate::config::load(&path).expect("the example is good"), slots)
    }

    #[test]
    fn what_was_saved_is_loaded_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().expect("directory");
        let state = StateDir::open(&dir.path().join("a/b")).expect("made");
        assert!(state.load().expect("no file is no error").is_none());
        let (config, slots) = good();
        state.save(&LastGood::new(7, &config, &slots)).expect("saved");
        let loaded = state.load().expect("readable").expect("there");
        assert_eq!((loaded.generation, &loaded.slots), (7, &slots));
        let back = loaded.config();
        assert_eq!((&back.network, &back.checks), (&config.network, &config.checks));
        assert_eq!((&back.box_, &back.limits), (&config.box_, &config.limits));
        let mode = fs::metadata(dir.path().join("a/b").join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("directory");
        let state = StateDir::open(dir.path()).expect("made");
        let (config, slots) = good();
        state.save(&LastGood::new(7, &config, &slots)).expect("saved");
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).expect("file");
        for damaged in [&text[..text.len() / 2], "", "{}", &text.replace("\"format\":1", "\"format\":2")] {
            fs::write(&path, damaged).expect("written");
            let error = state.load().expect_err("damaged").to_string();
            assert!(error.contains(FILE), "{error}");
        }
    }
}
