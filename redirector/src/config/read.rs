//! Reading values out of parsed TOML: every mismatch becomes a finding with its place, and reading goes on, so that
//! one run tells everything that is wrong.

use super::error::{ConfigError, Severity, Source};
use super::suggest;
use redirector_plan::model::Origin;
use std::cell::{Cell, RefCell};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// The findings of one load.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: RefCell<Vec<ConfigError>>,
    errors: Cell<usize>,
    /// The service that is being read.
    service: RefCell<Option<String>>,
    /// The agreement that is being read.
    agreement: RefCell<Option<String>>,
}

impl Findings {
    pub(super) fn push(&self, mut finding: ConfigError) {
        if finding.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        finding.service.clone_from(&self.service.borrow());
        finding.agreement.clone_from(&self.agreement.borrow());
        self.list.borrow_mut().push(finding);
    }

    /// What `read` answers, and whether it found an error.
    fn watch<T>(&self, read: impl FnOnce() -> T) -> (T, bool) {
        let before = self.errors.get();
        let result = read();
        (result, self.errors.get() > before)
    }

    /// The same; what it finds is marked as standing in a service.
    pub(super) fn within_service<T>(&self, name: &str, read: impl FnOnce() -> T) -> (T, bool) {
        self.service.replace(Some(name.to_owned()).filter(|name| !name.is_empty()));
        let watched = self.watch(read);
        self.service.replace(None);
        watched
    }

    /// The same for an agreement.
    pub(super) fn within_agreement<T>(&self, name: &str, read: impl FnOnce() -> T) -> (T, bool) {
        self.agreement.replace(Some(name.to_owned()).filter(|name| !name.is_empty()));
        let watched = self.watch(read);
        self.agreement.replace(None);
        watched
    }

    /// An error at `span` of `source`.
    pub(super) fn error(&self, source: &Arc<Source>, span: Range<usize>, message: String, help: String) {
        self.push(ConfigError::at(Severity::Error, source, span, message, Some(help)));
    }

    /// Everything that was found.
    pub(super) fn into_list(self) -> Vec<ConfigError> {
        self.list.into_inner()
    }
}

/// The configuration file and what was found in it so far.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) source: Arc<Source>,
    pub(super) findings: Findings,
}

impl Document {
    pub(super) fn new(name: &str, text: String) -> Self {
        Self { source: Source::new(name, text), findings: Findings::default() }
    }
}

/// A place in the document that findings can be attached to.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    doc: &'a Document,
    span: Range<usize>,
}

impl Place<'_> {
    /// Line and column.
    pub(super) fn origin(&self) -> Origin {
        self.doc.source.origin(self.span.start)
    }

    /// The line alone, for texts that refer to it.
    pub(super) fn line(&self) -> u32 {
        self.origin().line
    }

    /// Bytes of the document.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The one that is written first, then the other.
    pub(super) fn in_order(self, other: Self) -> (Self, Self) {
        if self.span.start <= other.span.start { (self, other) } else { (other, self) }
    }

    /// Reports an error here.
    pub(super) fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.doc.findings.error(&self.doc.source, self.span.clone(), message.into(), help.into());
    }

    /// Reports a warning here.
    pub(super) fn warning(&self, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), Some(help.into()));
        let finding = ConfigError::at(Severity::Warning, &self.doc.source, self.span.clone(), message, help);
        self.doc.findings.push(finding);
    }
}

/// A value and the key it stands under.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    key: &'static str,
    raw: &'a DeValue<'a>,
    pub(super) place: Place<'a>,
}

impl<'a> Value<'a> {
    fn new(doc: &'a Document, key: &'static str, raw: &'a Spanned<DeValue<'a>>) -> Self {
        Self { key, raw: raw.get_ref(), place: Place { doc, span: raw.span() } }
    }

    fn mismatch(&self, wanted: &str, example: &str) {
        let article = match self.raw {
            DeValue::Integer(_) | DeValue::Array(_) => "an",
            _ => "a",
        };
        let message = format!("`{}` must be {wanted}, this is {article} {}", self.key, self.raw.type_str());
        self.place.error(message, format!("for example: {} = {example}", self.key));
    }

    /// A string; `example` shows what one looks like under this key, in TOML.
    pub(super) fn text(&self, example: &str) -> Option<Text<'a>> {
        if let DeValue::String(text) = self.raw {
            return Some(Text { text, place: self.place.clone() });
        }
        self.mismatch("a string", example);
        None
    }

    /// A string with at least one character that is not a blank.
    pub(super) fn word(&self, example: &str) -> Option<Text<'a>> {
        let text = self.text(example)?;
        if !text.text.trim().is_empty() {
            return Some(text);
        }
        self.place
            .error(format!("`{}` is empty", self.key), format!("for example: {} = {example}", self.key));
        None
    }

    /// An integer within `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.raw else {
            self.mismatch("an integer", &range.start().to_string());
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("{integer} is out of range for `{}`", self.key);
            self.place.error(message, format!("it can be {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A TCP or UDP port.
    pub(super) fn port(&self) -> Option<u16> {
        self.integer(1..=u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(boolean) = self.raw {
            return Some(*boolean);
        }
        self.mismatch("true or false", "true");
        None
    }

    /// The elements of an array; `example` shows one, in TOML.
    pub(super) fn list(&self, example: &str) -> Option<Vec<Value<'a>>> {
        if let DeValue::Array(array) = self.raw {
            return Some(array.iter().map(|raw| Value::new(self.place.doc, self.key, raw)).collect());
        }
        self.mismatch("a list", example);
        None
    }

    /// The elements of an array that must have some.
    pub(super) fn nonempty_list(&self, example: &str) -> Option<Vec<Value<'a>>> {
        let list = self.list(example)?;
        if !list.is_empty() {
            return Some(list);
        }
        self.place
            .error(format!("`{}` is empty", self.key), format!("for example: {} = {example}", self.key));
        None
    }

    /// The string if it is one; anything else is for somebody else to report.
    pub(super) fn string(&self) -> Option<String> {
        self.raw.as_str().map(str::to_owned)
    }

    /// The text of a string, number, date or time, as it would stand in a string.
    pub(super) fn scalar(&self, example: &str) -> Option<Text<'a>> {
        let text = match self.raw {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
                self.place.doc.source.text().get(self.place.span.clone()).unwrap_or_default()
            }
            _ => {
                self.mismatch("a text, number or date", example);
                return None;
            }
        };
        Some(Text { text, place: self.place.clone() })
    }

    /// Whether it is a table with this key.
    pub(super) fn has(&self, key: &str) -> bool {
        matches!(self.raw, DeValue::Table(table) if table.contains_key(key))
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.raw, DeValue::Table(_))
    }

    /// A table whose keys are fixed: others are reported.
    pub(super) fn section(&self, keys: &'static [&'static str], example: &str) -> Option<Section<'a>> {
        let DeValue::Table(table) = self.raw else {
            self.mismatch("a table", example);
            return None;
        };
        let section = Section { name: self.key, keys, table, place: self.place.clone() };
        Some(section.checked())
    }

    /// A table whose keys the operator chooses.
    pub(super) fn entries(&self, example: &str) -> Option<Vec<(Text<'a>, Value<'a>)>> {
        let DeValue::Table(table) = self.raw else {
            self.mismatch("a table", example);
            return None;
        };
        let doc = self.place.doc;
        let name = |key: &'a Spanned<DeString<'a>>| Text {
            text: key.get_ref(),
            place: Place { doc, span: key.span() },
        };
        Some(table.iter().map(|(key, raw)| (name(key), Value::new(doc, self.key, raw))).collect())
    }
}

/// A string and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) place: Place<'a>,
}

impl<'a> Text<'a> {
    /// The place of a part of the string (a byte range of it); the whole string where escapes make the part
    /// unfindable.
    pub(super) fn part(&self, range: Range<usize>) -> Place<'a> {
        let Place { doc, span } = &self.place;
        let written = doc.source.text().get(span.clone()).unwrap_or_default();
        let start = span.start + 1;
        let plain = written.get(1..written.len().saturating_sub(1)) == Some(self.text);
        let span = if plain { start + range.start..start + range.end } else { span.clone() };
        Place { doc, span }
    }
}

/// A table with fixed keys.
#[derive(Debug)]
pub(super) struct Section<'a> {
    name: &'static str,
    keys: &'static [&'static str],
    table: &'a DeTable<'a>,
    pub(super) place: Place<'a>,
}

impl<'a> Section<'a> {
    /// Reports keys that the table does not have.
    fn check_keys(&self) {
        let Self { name, keys, table, place } = self;
        for key in table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref())) {
            let word = key.get_ref().as_ref();
            let message = match *name {
                "" => format!("`{word}` is not a table of this configuration"),
                _ => format!("`{word}` is not a key of `{name}`"),
            };
            let help = suggest::help(word, keys.iter().copied(), "leave it out");
            Place { doc: place.doc, span: key.span() }.error(message, help);
        }
    }

    fn checked(self) -> Self {
        self.check_keys();
        self
    }

    /// What `read` makes of the table, unless that or the table's keys have an error.
    pub(super) fn read<T>(&self, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let (result, wrong) = self.place.doc.findings.watch(|| {
            self.check_keys();
            read()
        });
        result.filter(|_| !wrong)
    }

    /// The document's outermost table.
    pub(super) fn root(
        doc: &'a Document,
        table: &'a Spanned<DeTable<'a>>,
        keys: &'static [&'static str],
    ) -> Self {
        Self { name: "", keys, table: table.get_ref(), place: Place { doc, span: 0..0 } }.checked()
    }

    /// The value of a key, if it is written.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        debug_assert!(self.keys.contains(&key), "{key} is not declared for {}", self.name);
        self.table.get(key).map(|raw| Value::new(self.place.doc, key, raw))
    }

    /// The value of a key that must be written; `example` shows one, in TOML.
    pub(super) fn require(&self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.place
                .error(format!("this `{}` has no `{key}`", self.name), format!("add {key} = {example}"));
        }
        value
    }

    /// The table `[key]`; `content` says what to write there if it is missing.
    pub(super) fn table(
        &self,
        key: &'static str,
        keys: &'static [&'static str],
        content: &str,
    ) -> Option<Section<'a>> {
        let value = self.get(key);
        if let Some(table) = value.as_ref().filter(|value| value.is_table()) {
            return table.section(keys, content);
        }
        match value {
            Some(other) => other.place.error(format!("`{key}` is one table"), format!("write [{key}], once")),
            None => self.place.error(format!("there is no [{key}]"), format!("add [{key}] with {content}")),
        }
        None
    }

    /// The tables under a key: `[[key]]`; none if there is no such key. Their keys are checked by [`Self::read`].
    pub(super) fn tables(&self, key: &'static str, keys: &'static [&'static str]) -> Vec<Section<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        if value.is_table() {
            value.place.error(format!("`{key}` is a list of tables"), format!("write [[{key}]]"));
        }
        let elements =
            if value.is_table() { Some(vec![value]) } else { value.list(&format!("[], or [[{key}]]")) };
        let table = |value: Value<'a>| match value.raw {
            DeValue::Table(table) => Some(Section { name: key, keys, table, place: value.place }),
            _ => {
                value.mismatch("a list of tables", &format!("[], or [[{key}]]"));
                None
            }
        };
        elements.unwrap_or_default().into_iter().filter_map(table).collect()
    }
}
