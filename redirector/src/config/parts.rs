//! The parts of a configuration: what has a name of its own, and so can stay as it was while the rest changes.
//!
//! What is kept of a good configuration is the text of each part. A part that has errors is replaced by its last good
//! text, and everything is read anew: so whether that is consistent with the rest is found by the same rules as ever.

use super::error::Source;
use redirector_plan::model::{Network, Origin};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// Tables of which there is one.
const SINGLE: [&str; 6] = ["box", "fleet", "limits", "labels", "network", "accounts"];
/// What stands behind a file's name where its last good state is meant.
const LAST_GOOD: &str = " (last good state)";

/// A part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The table's name in the file: `target`, `zone` and so on.
    pub kind: String,
    /// Its own name; empty for tables of which there is one.
    pub name: String,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.name {
            "" => write!(f, "[{}]", self.kind),
            name => write!(f, "{} `{name}`", self.kind),
        }
    }
}

/// What became of a part that has errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It stays as it was.
    AsItWas,
    /// It was not there before, and is left out.
    LeftOut,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsItWas => "stays as it was",
            Self::LeftOut => "is left out",
        })
    }
}

/// A part as it was written in a good configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    part: Part,
    /// Its table, in TOML's inline form.
    toml: String,
    origin: Origin,
}

/// All parts of a good configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(Vec<Written>);

impl Parts {
    /// Whether a part is among them.
    pub(super) fn has(&self, part: &Part) -> bool {
        self.get(part).is_some()
    }

    fn get(&self, part: &Part) -> Option<&Written> {
        self.0.binary_search_by(|known| known.part.cmp(part)).ok().map(|found| &self.0[found])
    }
}

/// What a configuration has to fall back on.
#[derive(Debug, Clone, Copy)]
pub struct LastGood<'l> {
    /// As it was written.
    pub parts: &'l Parts,
    /// What that came to; of it are the contents of files.
    pub network: &'l Network,
}

/// The text that a round of reading reads: the file's, and behind it the last good texts of parts that have errors now.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) source: Arc<Source>,
    /// Bytes of the file's.
    pub(super) written: usize,
    /// Blanks in place of the file's text, so that places in the two are told apart, and the texts of the parts.
    padded: String,
    parts: Vec<Part>,
}

impl Texts {
    pub(super) fn new(
        name: &str,
        text: &str,
        fates: &BTreeMap<Part, Fate>,
        last: Option<LastGood<'_>>,
    ) -> Self {
        let kept = fates.iter().filter(|(_, fate)| **fate == Fate::AsItWas);
        let kept: Vec<&Written> = kept.filter_map(|(part, _)| last?.parts.get(part)).collect();
        let (mut all, mut places) = (text.to_owned(), Vec::new());
        for (number, written) in kept.iter().enumerate() {
            all.push('\n');
            places.push((all.len(), last_good(&written.origin)));
            let _ = write!(all, "p{number} = {}", written.toml);
        }
        let padded = " ".repeat(text.len()) + &all[text.len()..];
        let parts = kept.into_iter().map(|written| written.part.clone()).collect();
        Self { source: Source::with_parts(name, all, places), written: text.len(), padded, parts }
    }

    /// The parts that take the places of others.
    pub(super) fn kept(&self) -> Vec<(&Part, Spanned<DeValue<'_>>)> {
        if self.parts.is_empty() {
            return Vec::new();
        }
        // What is written was written by `inline`.
        let (table, _) = DeTable::parse_recoverable(&self.padded);
        let mut table = table.into_inner();
        let value = |(number, part)| Some((part, table.remove(format!("p{number}").as_str())?));
        self.parts.iter().enumerate().filter_map(value).collect()
    }
}

fn last_good(origin: &Origin) -> Origin {
    Origin { file: format!("{}{LAST_GOOD}", origin.file), ..origin.clone() }
}

/// Replaces the parts that have errors, and takes out those that are left out.
pub(super) fn replace<'t>(
    table: &mut DeTable<'t>,
    fates: &BTreeMap<Part, Fate>,
    kept: Vec<(&Part, Spanned<DeValue<'t>>)>,
) {
    for (key, value) in table.iter_mut() {
        let kind = key.get_ref().as_ref();
        let DeValue::Array(array) = value.get_mut() else { continue };
        if SINGLE.contains(&kind) || !fates.keys().any(|part| part.kind == kind) {
            continue;
        }
        let elements = std::mem::replace(array, DeArray::new());
        let stays = |(number, element): &(usize, Spanned<DeValue<'_>>)| {
            !fates.contains_key(&part_of(kind, *number, element.get_ref()))
        };
        *array = elements.into_iter().enumerate().filter(stays).map(|(_, element)| element).collect();
    }
    for kind in SINGLE.into_iter().filter(|kind| fates.keys().any(|part| part.kind == *kind)) {
        table.remove(kind);
    }
    for (part, value) in kept {
        if part.name.is_empty() {
            table.insert(key(&part.kind, value.span()), value);
            continue;
        }
        let span = value.span();
        if !table.contains_key(part.kind.as_str()) {
            table.insert(key(&part.kind, span.clone()), Spanned::new(span, DeValue::Array(DeArray::new())));
        }
        if let Some(DeValue::Array(array)) = table.get_mut(part.kind.as_str()).map(Spanned::get_mut) {
            array.push(value);
        }
    }
}

fn key<'t>(kind: &str, span: Range<usize>) -> Spanned<DeString<'t>> {
    Spanned::new(span, DeString::from(kind.to_owned()))
}

/// Places of parts in the text.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(Range<usize>, Part)>);

impl Places {
    pub(super) fn new(table: &DeTable<'_>) -> Self {
        let mut places = Vec::new();
        each(table, |part, value| places.push((hull(value), part)));
        places.sort_by_key(|(range, _)| range.start);
        Self(places)
    }

    /// The part that a place lies in.
    pub(super) fn find(&self, place: usize) -> Option<&Part> {
        let next = self.0.partition_point(|(range, _)| range.start <= place);
        let (range, part) = self.0.get(next.checked_sub(1)?)?;
        range.contains(&place).then_some(part)
    }

    /// First and last line of each part, and the file that it stands in.
    pub(super) fn lines(&self, source: &Source) -> Vec<(Origin, u32, Part)> {
        let lines = |(range, part): &(Range<usize>, Part)| {
            let (first, last) = (source.origin(range.start), source.origin(range.end.saturating_sub(1)));
            (first, last.line, part.clone())
        };
        self.0.iter().map(lines).collect()
    }
}

/// Calls `with` for each part of a configuration.
fn each<'t>(table: &DeTable<'t>, mut with: impl FnMut(Part, &Spanned<DeValue<'t>>)) {
    for (key, value) in table.iter() {
        let kind = key.get_ref().as_ref();
        match value.get_ref() {
            _ if SINGLE.contains(&kind) => with(Part { kind: kind.to_owned(), name: String::new() }, value),
            DeValue::Array(array) => {
                for (number, element) in array.iter().enumerate() {
                    with(part_of(kind, number, element.get_ref()), element);
                }
            }
            _ => {}
        }
    }
}

/// Element `number` of the tables of a kind. One without a name is named by its place.
fn part_of(kind: &str, number: usize, element: &DeValue<'_>) -> Part {
    let text = |key: &str| element.as_table()?.get(key)?.get_ref().as_str();
    let name = match kind {
        "zone" => text("suffix").map(|suffix| match text("cdn") {
            Some(cdn) => format!("{suffix} of {cdn}"),
            None => suffix.to_owned(),
        }),
        "vip" => text("name").or_else(|| text("cdn")).map(str::to_owned),
        "peering" => text("name").or_else(|| text("with")).map(str::to_owned),
        _ => text("name").map(str::to_owned),
    };
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("number {}", number + 1));
    Part { kind: kind.to_owned(), name }
}

/// From the first to the last byte of a value and all that is in it.
fn hull(value: &Spanned<DeValue<'_>>) -> Range<usize> {
    let mut range = value.span();
    let mut take = |other: Range<usize>| range = range.start.min(other.start)..range.end.max(other.end);
    match value.get_ref() {
        DeValue::Array(array) => array.iter().for_each(|element| take(hull(element))),
        DeValue::Table(table) => table.iter().for_each(|(key, value)| {
            take(key.span());
            take(hull(value));
        }),
        _ => {}
    }
    range
}

/// All parts of a good configuration, as they are written.
pub(super) fn all(table: &DeTable<'_>, source: &Source) -> Parts {
    let mut parts = Vec::new();
    each(table, |part, value| {
        let mut toml = String::new();
        inline(value.get_ref(), &mut toml);
        let mut origin = source.origin(hull(value).start);
        // What stays as it was once more is still what it was first.
        if let Some(file) = origin.file.strip_suffix(LAST_GOOD) {
            origin.file = file.to_owned();
        }
        parts.push(Written { part, toml, origin });
    });
    parts.sort_by(|a, b| a.part.cmp(&b.part));
    Parts(parts)
}

/// A value on one line.
fn inline(value: &DeValue<'_>, text: &mut String) {
    let separated = |text: &mut String, first: bool| text.push_str(if first { " " } else { ", " });
    // Writing to a string cannot fail.
    let _ = match value {
        DeValue::String(string) => {
            quoted(string, text);
            Ok(())
        }
        DeValue::Integer(integer) => write!(text, "{integer}"),
        DeValue::Float(float) => write!(text, "{float}"),
        DeValue::Boolean(boolean) => write!(text, "{boolean}"),
        DeValue::Datetime(datetime) => write!(text, "{datetime}"),
        DeValue::Array(array) => {
            text.push('[');
            for (number, element) in array.iter().enumerate() {
                separated(text, number == 0);
                inline(element.get_ref(), text);
            }
            write!(text, " ]")
        }
        DeValue::Table(table) => {
            text.push('{');
            for (number, (key, value)) in table.iter().enumerate() {
                separated(text, number == 0);
                quoted(key.get_ref(), text);
                text.push_str(" = ");
                inline(value.get_ref(), text);
            }
            write!(text, " }}")
        }
    };
}

fn quoted(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        // Writing to a string cannot fail.
        let _ = match c {
            '"' | '\\' => write!(text, "\\{c}"),
            c if c.is_control() => write!(text, "\\U{:08X}", u32::from(c)),
            c => write!(text, "{c}"),
        };
    }
    text.push('"');
}
