//! Keys of signed and sealed names and of tokens: `[[key]]` (P-10, P-15).

use super::index::{Index, read_named, written_name};
use super::peering::read_validity;
use super::read::{Section, Text};
use redirector_names::Key;
use redirector_plan::model::NameKey;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const KEYS: &[&str] = &["name", "id", "file", "use", "valid"];
/// Longest key file that is read.
const LONGEST: u64 = 4096;

/// What [`read_keys`] found.
pub(super) struct Keys {
    pub(super) list: Vec<NameKey>,
    pub(super) index: Index,
}

/// Reads the `[[key]]` tables; the files that they name are relative to `directory`.
pub(super) fn read_keys(root: &Section<'_>, directory: &Path) -> Keys {
    let mut held: Vec<(u8, String, u32)> = Vec::new();
    let (list, index) = read_named("key", root.tables("key", KEYS), written_name, |section, name| {
        let id = section.require("id", "1").and_then(|value| Some((value.integer(0..=255)?, value)));
        let secret = section.require("file", "\"keys/2026\"")?.word("\"keys/2026\"");
        let secret = secret.and_then(|file| read_secret(&file, directory));
        let uses = [("sign", true), ("verify", false)];
        let signs = section.get("use").map_or(Some(true), |value| super::addresses::choice(&value, &uses));
        let valid = read_validity(section);
        let (id, value) = id?;
        let id = u8::try_from(id).ok()?;
        if let Some((_, other, line)) = held.iter().find(|(known, ..)| *known == id) {
            let message = format!("key {id} is `{other}` on line {line} already");
            value.place.error(message, "give every key a number of its own; names and tokens carry it");
            return None;
        }
        held.push((id, name.to_owned(), section.place.line()));
        let (from, until) = valid?;
        let (from, until) = (from.unwrap_or(0), until.unwrap_or(u64::MAX));
        check_end(section, until);
        Some(NameKey {
            name: name.to_owned(),
            id,
            secret: secret?,
            signs: signs?,
            from,
            until,
            origin: section.place.origin(),
        })
    });
    Keys { list, index }
}

/// Warns of a key that is over.
fn check_end(section: &Section<'_>, until: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if let (Some(valid), true) = (section.get("valid"), until <= now) {
        valid.place.warning("this key does not count any more", "take it out, or write a later `until`");
    }
}

/// The secret in the file that a configuration names.
fn read_secret(file: &Text<'_>, directory: &Path) -> Option<[u8; 32]> {
    let read = key_file(&directory.join(file.text));
    read.map_err(|(message, help)| file.place.error(message, help)).ok()
}

/// The secret in a file that nobody but its owner can use.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn key_file(path: &Path) -> Result<[u8; 32], (String, String)> {
    let shown = path.display();
    let wrong = |message: String| Err((message, HOW.to_owned()));
    let bytes = fs::metadata(path).and_then(|meta| match meta.is_file() && meta.len() <= LONGEST {
        true => Ok((meta, fs::read(path)?)),
        false => Err(io::Error::other("it is no key file")),
    });
    let (meta, bytes) = match bytes {
        Ok(read) => read,
        Err(error) => return wrong(format!("cannot read the key in {shown}: {error}")),
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!("others than its owner can use the key in {shown} (mode {mode:03o})");
        return Err((message, format!("chmod 600 {shown}")));
    }
    match std::str::from_utf8(&bytes).ok().and_then(Key::parse_secret) {
        Some(secret) => Ok(secret),
        None => wrong(format!("{shown} does not hold 64 hexadecimal digits")),
    }
}

const HOW: &str = "make one with: (umask 077; openssl rand -hex 32 > FILE)";
