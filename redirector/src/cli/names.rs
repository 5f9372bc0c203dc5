//! `redirector names`: signed names made and checked on the command line.

use crate::config::{self, key_file};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use redirector_names::{Key, Purpose, Rejected, Tag, sign_name, verify_name};
use redirector_plan::model::NameKey;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is done with a name.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Signs a name, in which a label `*` stands where the tag is to be: index.*.web.abc.cdn.acme.net
    Sign {
        /// The name.
        name: String,
        /// From now on, after which the tag is good for nothing: 90s, 10m, 12h, 30d. Unless written, it never ends.
        #[arg(long, value_name = "DURATION", value_parser = config::duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        keys: Keys,
    },
    /// Tells whether the tag in a name is good. Exit status 1: it is not.
    Verify {
        /// The name.
        name: String,
        #[command(flatten)]
        keys: Keys,
    },
}

/// Where keys come from: a configuration, or one file.
#[derive(Debug, Args)]
pub(super) struct Keys {
    /// Configuration with the keys.
    #[arg(long, value_name = "FILE", required_unless_present = "key_file")]
    config: Option<PathBuf>,
    /// Which of its keys; to sign, unless written, the one for that which began last.
    #[arg(long, value_name = "NAME", requires = "config")]
    key: Option<String>,
    /// File with the secret of one key, on machines without the configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "config", requires = "key_id")]
    key_file: Option<PathBuf>,
    /// Number of that key.
    #[arg(long, value_name = "NUMBER", requires = "key_file")]
    key_id: Option<u8>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A key, and the moments between which it counts.
struct Held {
    name: String,
    key: Key,
    signs: bool,
    counts: std::ops::Range<u64>,
}

impl Held {
    fn new(key: NameKey) -> Self {
        let NameKey { name, id, secret, signs, from, until, .. } = key;
        Self { name, key: Key::new(id, &secret), signs, counts: from..until }
    }
}

impl Keys {
    /// All keys that may be meant.
    fn load(&self) -> Result<Vec<Held>> {
        if let (Some(file), Some(id)) = (&self.key_file, self.key_id) {
            let secret = key_file(file).map_err(|(message, help)| anyhow!("{message} ({help})"))?;
            let name = file.display().to_string();
            return Ok(vec![Held { name, key: Key::new(id, &secret), signs: true, counts: 0..u64::MAX }]);
        }
        let path = self.config.as_deref().context("which keys? write --config or --key-file")?;
        let keys = config::load(path)?.network.keys.into_iter().map(Held::new);
        let meant: Vec<Held> =
            keys.filter(|key| self.key.as_ref().is_none_or(|name| *name == key.name)).collect();
        if meant.is_empty() {
            bail!("there is no such key in {}", path.display());
        }
        Ok(meant)
    }

    /// The key that new names are made with.
    fn signing(&self) -> Result<Held> {
        let now = now();
        let able = self.load()?.into_iter().filter(|key| key.signs && key.counts.contains(&now));
        able.max_by_key(|key| key.counts.start)
            .context("none of the keys is for signing at this time: see `use`, `from` and `until`")
    }

    /// Prints a result: a line for people, or JSON.
    fn print(&self, line: &str, value: &Value) {
        if self.json { println!("{value}") } else { println!("{line}") }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Runs a command.
pub(super) fn names(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Sign { name, expires, keys } => sign(name, *expires, keys),
        Command::Verify { name, keys } => verify(name, keys),
    }
}

/// Unix time after which what is made now ends.
fn end(expires: Option<Duration>) -> Result<Option<u32>> {
    let end =
        |after: Duration| u32::try_from(now() + after.as_secs()).context("tags end before the year 2106");
    expires.map(end).transpose()
}

fn sign(name: &str, expires: Option<Duration>, keys: &Keys) -> Result<ExitCode> {
    let (held, expires) = (keys.signing()?, end(expires)?);
    let signed = sign_name(&held.key, Purpose::Grade, name, expires)?;
    keys.print(
        &signed,
        &json!({ "name": signed, "key": held.name, "id": held.key.id(), "expires": expires }),
    );
    Ok(ExitCode::SUCCESS)
}

fn verify(name: &str, keys: &Keys) -> Result<ExitCode> {
    let (held, now) = (keys.load()?, now());
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    let place = labels.iter().position(|label| Tag::parse(label).is_some());
    let counts = |id: u8| {
        held.iter().find(|held| held.key.id() == id && held.counts.contains(&now)).map(|held| &held.key)
    };
    let checked = match place {
        Some(place) => verify_name(counts, Purpose::Grade, &labels, place, now),
        None => Err(Rejected::Missing),
    };
    let key = |id: u8| held.iter().find(|held| held.key.id() == id).map_or("", |held| held.name.as_str());
    match checked {
        Ok(tag) => {
            let until = tag.expires.map_or("for ever".to_owned(), |at| format!("until Unix time {at}"));
            let line = format!("good {until}, by key {} ({})", key(tag.key), tag.key);
            keys.print(
                &line,
                &json!({ "good": true, "key": key(tag.key), "id": tag.key, "expires": tag.expires }),
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            keys.print(&format!("tag: {why}"), &json!({ "good": false, "why": why.to_string() }));
            Ok(ExitCode::FAILURE)
        }
    }
}
