//! What is wrong with a configuration, where, and what would be right.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use redirector_plan::model::Origin;
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that was read: the configuration itself or a prefix file.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    text: Arc<str>,
    shown: NamedSource<Arc<str>>,
    line_starts: Vec<usize>,
}

impl Source {
    /// `name` is the file as the operator named it.
    pub(super) fn new(name: &str, text: String) -> Arc<Self> {
        let text: Arc<str> = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let shown = NamedSource::new(name, harmless(&text).into());
        Arc::new(Self { name: name.to_owned(), text, shown, line_starts })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column, both from 1, the column in characters.
    pub(super) fn origin(&self, offset: usize) -> Origin {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let before = self.text.get(self.line_starts[line - 1]..offset).unwrap_or_default();
        Origin { file: self.name.clone(), line: count(line), column: count(before.chars().count() + 1) }
    }
}

/// A text in which nothing but line ends and tabs can move a terminal's cursor or worse, byte for byte in its place.
fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        '\r' => ' ',
        // The others above ASCII have two bytes.
        c if c.is_control() && c.is_ascii() => '?',
        c if c.is_control() => '¿',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// A line of text with control characters escaped: what is quoted from files goes to terminals and logs.
fn escaped(line: String) -> String {
    if !line.contains(char::is_control) {
        return line;
    }
    let escape = |c: char| if c.is_control() { c.escape_debug().collect() } else { String::from(c) };
    line.chars().map(escape).collect()
}

/// The text of a file; `Err` says where it is not text.
pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        format!("line {} is not UTF-8 text", good.split(|byte| *byte == b'\n').count())
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and probably does not do what was meant.
    Warning,
}

/// One finding. Serialises to `severity`, `file`, `line`, `column`, `message`, `help` and, where there is one, `service` or `agreement`.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigError {
    /// Error or warning.
    pub severity: Severity,
    /// Where; line and column are 0 when the file could not be read at all.
    #[serde(flatten)]
    pub origin: Origin,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The service it stands in, if it stands in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The agreement it stands in, if it stands in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<String>,
    #[serde(skip)]
    place: Option<(Arc<Source>, Range<usize>)>,
}

impl ConfigError {
    /// A finding at `span` (bytes) of `source`.
    pub(super) fn at(
        severity: Severity,
        source: &Arc<Source>,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Self {
        let origin = source.origin(span.start);
        let (message, help) = (escaped(message), help.map(escaped));
        let place = Some((Arc::clone(source), span));
        Self { severity, origin, message, help, service: None, agreement: None, place }
    }

    /// A file that could not be read.
    pub(super) fn unreadable(file: &str, message: String, help: String) -> Self {
        let origin = Origin { file: file.to_owned(), line: 0, column: 0 };
        let help = Some(help);
        Self { severity: Severity::Error, origin, message, help, service: None, agreement: None, place: None }
    }

    /// The finding with the line it is about and a caret, as text for people; `color` adds terminal colours.
    pub fn report(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        match GraphicalReportHandler::new_themed(theme).render_report(&mut text, &Shown(self)) {
            Ok(()) => text,
            Err(fmt::Error) => format!("{self}\n"),
        }
    }
}

/// One line in the form `file:line:column: what is wrong (what would be right)`, as compilers print it.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { file, line, column } = &self.origin;
        match line {
            0 => write!(f, "{file}: ")?,
            _ => write!(f, "{file}:{line}:{column}: ")?,
        }
        if self.severity == Severity::Warning {
            write!(f, "warning: ")?;
        }
        write!(f, "{}", self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A finding in the form that reports are made from: place and help apart from the message.
#[derive(Debug)]
struct Shown<'e>(&'e ConfigError);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.place {
            Some(_) => f.write_str(&self.0.message),
            None => write!(f, "{}: {}", self.0.origin.file, self.0.message),
        }
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.place.as_ref().map(|(source, _)| &source.shown as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.0.place.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, span.clone()))))
    }
}

/// Everything found in a configuration that cannot be used: at least one error, and the warnings, in the order of
/// files, lines and columns.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct ConfigErrors {
    findings: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn new(mut findings: Vec<ConfigError>) -> Self {
        findings.sort_by(|a, b| {
            let key = |e: &ConfigError| (e.origin.line, e.origin.column);
            a.origin.file.cmp(&b.origin.file).then(key(a).cmp(&key(b))).then(a.message.cmp(&b.message))
        });
        Self { findings }
    }

    /// The findings, by place.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.findings.iter()
    }

    /// All findings with source lines and carets, as text for people; `color` adds terminal colours.
    pub fn report(&self, color: bool) -> String {
        self.findings.iter().map(|finding| finding.report(color)).collect()
    }
}

/// One line for each finding.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, finding) in self.findings.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
