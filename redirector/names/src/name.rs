//! Signed names: one label is a tag over all others.

use crate::error::{NameError, Rejected};
use crate::key::{Key, Purpose};
use crate::tag::Tag;

/// Longest label and name (RFC 1035 section 2.3.4); the name as text without a final dot.
const LABEL: usize = 63;
const NAME: usize = 253;
/// What stands for the tag in the text that is signed: no label of a name that is answered is that.
const PLACE: &str = "*";

/// Whether a label is one that names can be made with. On the wire it may hold anything, a dot among others.
fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !label.is_empty() && label.len() <= LABEL && label.bytes().all(allowed)
}

/// Checks a name as text and gives its labels in lower case. `place` may stand for one.
///
/// # Errors
/// What is wrong.
pub(crate) fn labels(name: &str, place: Option<&str>) -> Result<Vec<String>, NameError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels: Vec<String> = name.split('.').map(str::to_ascii_lowercase).collect();
    for label in &labels {
        if !is_label(label) && Some(label.as_str()) != place {
            let why = "labels are 1 to 63 letters, digits, `-` and `_`";
            return Err(NameError::Name(format!("`{}` is not a label: {why}", label.escape_debug())));
        }
    }
    Ok(labels)
}

/// Reports names that are too long.
pub(crate) fn check_length(name: String) -> Result<String, NameError> {
    if name.len() > NAME {
        return Err(NameError::Name(format!(
            "the name has {} characters, and names have at most {NAME}",
            name.len()
        )));
    }
    Ok(name)
}

/// The text that a tag in place of label `place` covers: the labels, lower-case, with `*` for the tag.
fn covered<S: AsRef<str>>(labels: &[S], place: usize) -> String {
    let label = |(index, label): (usize, &S)| match index == place {
        true => PLACE.to_owned(),
        false => label.as_ref().to_ascii_lowercase(),
    };
    labels.iter().enumerate().map(label).collect::<Vec<_>>().join(".")
}

/// Signs a name, in which the label `*` stands where the tag is to be.
///
/// # Errors
/// If there is not exactly one such label, or the name is none.
pub fn sign_name(key: &Key, purpose: Purpose, name: &str, expires: Option<u32>) -> Result<String, NameError> {
    let mut labels = labels(name, Some(PLACE))?;
    let places: Vec<usize> = (0..labels.len()).filter(|index| labels[*index] == PLACE).collect();
    let [place] = places[..] else { return Err(NameError::Place) };
    labels[place] = Tag::make(key, purpose, (expires, None, None), &[covered(&labels, place).as_bytes()]);
    check_length(labels.join("."))
}

/// Checks the tag that is label `place` of a name, in whatever case it came; `key` gives those that count.
///
/// # Errors
/// Why the tag is good for nothing.
pub fn verify_name<'k>(
    key: impl FnOnce(u8) -> Option<&'k Key>,
    purpose: Purpose,
    labels: &[&str],
    place: usize,
    now: u64,
) -> Result<Tag, Rejected> {
    let text = labels.get(place).ok_or(Rejected::Missing)?;
    let tag = Tag::parse(text).ok_or(Rejected::Malformed)?;
    if tag.path.is_some() || tag.client.is_some() || !labels.iter().all(|label| is_label(label)) {
        return Err(Rejected::Malformed);
    }
    tag.check(key, purpose, &[covered(labels, place).as_bytes()], now)?;
    Ok(tag)
}
