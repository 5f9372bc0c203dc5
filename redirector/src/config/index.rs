//! Names of things and references to them.

use super::read::{Place, Section, Text};
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

    /// The index of the thing with this name, if there is one without errors.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied().flatten()
    }

    /// All names that were written, in order, with the indices of those that could be read.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        self.by_name.iter().map(|(name, index)| (name.as_str(), *index))
    }
}

/// Tables of one kind, sorted by name whatever their order in the file.
pub(super) struct Named<'a> {
    kind: &'static str,
    by_name: BTreeMap<&'a str, (Place<'a>, Section<'a>)>,
    /// Tables without a usable name, which are still read for their other errors.
    nameless: Vec<Section<'a>>,
    /// Names that cannot be used. References to them are not reported as well.
    refused: Vec<&'a str>,
}

impl<'a> Named<'a> {
    /// Sorts tables; `name_of` finds the name's text, and reports its absence.
    pub(super) fn sort(
        kind: &'static str,
        sections: Vec<Section<'a>>,
        name_of: impl Fn(&Section<'a>) -> Option<Text<'a>>,
    ) -> Self {
        let mut named = Self { kind, by_name: BTreeMap::new(), nameless: Vec::new(), refused: Vec::new() };
        for section in sections {
            let name = name_of(&section);
            let Some(Text { text, place }) = name.clone().filter(check_name) else {
                named.nameless.push(section);
                named.refused.extend(name.map(|name| name.text));
                continue;
            };
            if let Some((first, _)) = named.by_name.get(text) {
                let message = format!("`{text}` is already the name of the {kind} on line {}", first.line());
                place.error(message, format!("give every {kind} a `name` of its own"));
                continue;
            }
            named.by_name.insert(text, (place, section));
        }
        named
    }

    /// The names that are written, without those that cannot be used.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.by_name.keys().copied()
    }

    /// Makes things of the tables with `read`, which gets an empty name where there is none.
    pub(super) fn read<T>(self, mut read: impl FnMut(&Section<'a>, &str) -> Option<T>) -> (Vec<T>, Index) {
        for section in &self.nameless {
            read(section, "");
        }
        let mut things = Vec::with_capacity(self.by_name.len());
        let refused = self.refused.into_iter().map(|name| (name.to_owned(), None));
        let mut index = Index { kind: self.kind, by_name: refused.collect() };
        for (name, (_, section)) in self.by_name {
            let thing = read(&section, name);
            index.by_name.insert(name.to_owned(), thing.is_some().then_some(things.len()));
            things.extend(thing);
        }
        (things, index)
    }
}

/// Reads tables of one kind in the order of their names. Things with errors have a name and nothing else.
pub(super) fn read_named<'a, T>(
    kind: &'static str,
    sections: Vec<Section<'a>>,
    name_of: impl Fn(&Section<'a>) -> Option<Text<'a>>,
    mut read: impl FnMut(&Section<'a>, &str) -> Option<T>,
) -> (Vec<T>, Index) {
    Named::sort(kind, sections, name_of).read(|section, name| section.read(|| read(section, name)))
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
