//! Names of things and references to them.

use super::read::{Section, Text};
use super::suggest;
use std::collections::BTreeMap;

/// Longest name, so that it fits metric labels and tables for people.
const NAME_LENGTH: usize = 63;

/// The names of one kind of thing. Things that could not be read are still known by name, so that references to them
/// are not reported as a second error.
#[derive(Debug)]
pub(super) struct Index {
    kind: &'static str,
    by_name: BTreeMap<String, Option<usize>>,
}

impl Index {
    /// The index of the thing with this name; an unknown name is reported.
    pub(super) fn resolve(&self, name: &Text<'_>) -> Option<usize> {
        if let Some(found) = self.by_name.get(name.text) {
            return *found;
        }
        let none = format!("there is no [[{}]] yet: add it", self.kind);
        let help = suggest::help(name.text, self.by_name.keys().map(String::as_str), &none);
        name.place.error(format!("there is no {} `{}`", self.kind, name.text), help);
        None
    }

    /// All names that were written, in order, with the indices of those that could be read.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        self.by_name.iter().map(|(name, index)| (name.as_str(), *index))
    }
}

/// Reads things sorted by name, whatever their order in the file. `name_of` finds the name's text (and reports its
/// absence), `read` the rest.
pub(super) fn read_named<'a, T>(
    kind: &'static str,
    sections: Vec<Section<'a>>,
    name_of: impl Fn(&Section<'a>) -> Option<Text<'a>>,
    mut read: impl FnMut(&Section<'a>, &str) -> Option<T>,
) -> (Vec<T>, Index) {
    let mut by_name: BTreeMap<&str, (Text<'a>, Section<'a>)> = BTreeMap::new();
    let mut refused = Vec::new();
    for section in sections {
        let name = name_of(&section);
        let Some(name) = name.as_ref().filter(|name| check_name(name)) else {
            // Its other keys are still read for their errors, and references to a name that was refused are not
            // reported as well.
            read(&section, "");
            refused.extend(name.map(|name| name.text.to_owned()));
            continue;
        };
        if let Some((first, _)) = by_name.get(name.text) {
            let message =
                format!("`{}` is already the name of the {kind} on line {}", name.text, first.place.line());
            name.place.error(message, format!("give every {kind} a `name` of its own"));
            continue;
        }
        by_name.insert(name.text, (name.clone(), section));
    }
    let mut things = Vec::with_capacity(by_name.len());
    let mut index = Index { kind, by_name: refused.into_iter().map(|name| (name, None)).collect() };
    for (name, (_, section)) in by_name {
        let thing = read(&section, name);
        index.by_name.insert(name.to_owned(), thing.is_some().then_some(things.len()));
        things.extend(thing);
    }
    (things, index)
}

/// The name under the key `name`.
pub(super) fn written_name<'a>(section: &Section<'a>) -> Option<Text<'a>> {
    section.require("name", "\"…\"")?.word("\"par-web-1\"")
}

fn check_name(name: &Text<'_>) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some((at, wrong)) = name.text.char_indices().find(|(_, c)| !allowed(*c)) {
        let place = name.part(at..at + wrong.len_utf8());
        place.error(format!("{wrong:?} cannot stand in a name"), "letters a-z, digits, `-`, `_` and `.` can");
        return false;
    }
    if name.text.len() > NAME_LENGTH {
        let message = format!("this name has {} characters", name.text.len());
        name.place.error(message, format!("names have at most {NAME_LENGTH}"));
        return false;
    }
    true
}
