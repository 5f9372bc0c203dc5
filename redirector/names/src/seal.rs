//! Sealed names: the codepoint, encrypted.

use crate::error::{NameError, Rejected};
use crate::key::Key;
use crate::name;
use aes_siv::KeyInit as _;
use aes_siv::siv::Aes128Siv;
use data_encoding::BASE32_DNSSEC;

/// Bytes in the leftmost label (61 characters), and in each other one (63).
const FIRST: usize = 38;
const FURTHER: usize = 39;
/// Characters of a label that is not the leftmost one.
const FULL_LABEL: usize = 63;
/// Bytes before the text: the key's number, and the synthetic initialisation vector.
const HEAD: usize = 1 + 16;
/// Labels that a sealed codepoint has at most.
pub(crate) const MAX_LABELS: usize = 3;
/// Longest name as text.
const NAME: usize = 253;

/// What a sealed name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Number of the key.
    pub key: u8,
    /// The codepoint, lower-case.
    pub codepoint: String,
}

/// Bytes of text that so many labels have room for.
fn room(labels: usize) -> usize {
    FIRST + (labels - 1) * FURTHER - HEAD
}

/// Bytes of the longest codepoint that can be sealed for a name that ends in `.` and `parent`.
pub fn longest_codepoint(parent: &str) -> usize {
    let length = |labels: usize| (labels - 1) * (FULL_LABEL + 1) + 61 + 1 + parent.len();
    (1..=MAX_LABELS).rev().find(|labels| length(*labels) <= NAME).map_or(0, room)
}

/// Whether a label is a sealed name's, and not the leftmost one: the name that begins with it is a part of one.
pub fn is_part(label: &str) -> bool {
    label.len() == FULL_LABEL
}

/// Seals a codepoint (`index.web.abc`): gives the name that ends in `.` and `parent` (`x.cdn.acme.net`: the zone's label
/// for sealed names, and its suffix). Equal codepoints give equal names.
///
/// # Errors
/// If either is no name, or both together are too long.
pub fn seal(key: &Key, codepoint: &str, parent: &str) -> Result<String, NameError> {
    let text = name::labels(codepoint, None)?.join(".");
    let parent = name::labels(parent, None)?.join(".");
    let longest = longest_codepoint(&parent);
    if text.len() > longest {
        return Err(NameError::TooLong { bytes: text.len(), room: longest });
    }
    let count = (1..MAX_LABELS).find(|count| text.len() <= room(*count)).unwrap_or(MAX_LABELS);
    let mut padded = text.into_bytes();
    padded.resize(room(count), 0);
    let sealed = Aes128Siv::new(&key.seal.into())
        .encrypt([&[key.id()], parent.as_bytes()], &padded)
        .map_err(|_| NameError::Name("the codepoint cannot be encrypted".to_owned()))?;
    let bytes = [&[key.id()], &sealed[..]].concat();
    let (first, rest) = bytes.split_at(FIRST);
    let labels = std::iter::once(first).chain(rest.chunks(FURTHER)).map(|part| BASE32_DNSSEC.encode(part));
    name::check_length(format!("{}.{parent}", labels.collect::<Vec<_>>().join(".")))
}

/// Opens the labels in front of `parent`, in whatever case they came; `key` gives those that count.
///
/// # Errors
/// Why they say nothing.
pub fn open<'k>(
    key: impl FnOnce(u8) -> Option<&'k Key>,
    labels: &[&str],
    parent: &str,
) -> Result<Opened, Rejected> {
    let mut bytes = Vec::with_capacity(FIRST + labels.len() * FURTHER);
    for (index, label) in labels.iter().enumerate() {
        let decoded = BASE32_DNSSEC.decode(label.as_bytes()).map_err(|_| Rejected::Malformed)?;
        if decoded.len() != if index == 0 { FIRST } else { FURTHER } {
            return Err(Rejected::Malformed);
        }
        bytes.extend(decoded);
    }
    let (id, sealed) = bytes.split_first().ok_or(Rejected::Malformed)?;
    let key = key(*id).ok_or(Rejected::UnknownKey(*id))?;
    let parent = parent.to_ascii_lowercase();
    let padded = Aes128Siv::new(&key.seal.into())
        .decrypt([&[*id], parent.as_bytes()], sealed)
        .map_err(|_| Rejected::Forged)?;
    let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
    let text = std::str::from_utf8(&padded[..end]).map_err(|_| Rejected::Malformed)?;
    let codepoint = name::labels(text, None).map_err(|_| Rejected::Malformed)?.join(".");
    Ok(Opened { key: *id, codepoint })
}
