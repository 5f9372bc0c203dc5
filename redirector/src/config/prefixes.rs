//! Regions: client prefixes, inline or from files with one prefix a line.

use super::error::{ConfigError, Severity, Source, utf8};
use super::index::{Index, read_named, written_name};
use super::read::{Document, Place, Section, Text, Value};
use ipnet::IpNet;
use redirector_plan::model::Region;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Findings of one kind that are shown of a file or of all regions; more are only counted, since a wrong file easily
/// has a million of them.
const SHOWN: usize = 20;

pub(super) const EXAMPLE: &str = "[\"192.0.2.0/24\"], or { file = \"prefixes/fr.txt\" }";

/// Why a text is not a prefix, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAPrefix {
    message: String,
    help: String,
}

/// An address prefix with host bits zero.
pub(super) fn parse_prefix(text: &str) -> Result<IpNet, NotAPrefix> {
    let wrong = |message: String, help: String| Err(NotAPrefix { message, help });
    if let Ok(prefix) = text.parse::<IpNet>() {
        if let IpNet::V6(v6) = prefix
            && let (Some(v4), Some(length)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        {
            return wrong(format!("`{text}` is IPv4 in IPv6 form"), format!("write {v4}/{length}"));
        }
        if prefix.trunc() == prefix {
            return Ok(prefix);
        }
        let message = format!("`{text}` has bits set behind its /{}", prefix.prefix_len());
        return wrong(message, format!("the prefix is {}", prefix.trunc()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let host = IpNet::from(address);
        return wrong(
            format!("`{text}` is an address, not a prefix"),
            format!("write {host} for this host alone"),
        );
    }
    let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    let help = match text.split_once('/') {
        Some((address, _)) if address.parse::<std::net::Ipv4Addr>().is_ok() => {
            "IPv4 prefix lengths are 0 to 32"
        }
        Some((address, _)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            "IPv6 prefix lengths are 0 to 128"
        }
        _ => "for example 192.0.2.0/24 or 2001:db8::/32",
    };
    wrong(format!("`{shown}` is not a prefix"), help.to_owned())
}

/// A prefix and where it was written.
#[derive(Debug)]
struct Listed {
    prefix: IpNet,
    source: usize,
    span: Range<usize>,
}

/// The regions or networks being read, with the texts that prefixes came from.
pub(super) struct Reader<'a> {
    kind: &'static str,
    doc: &'a Document,
    directory: &'a Path,
    sources: Vec<Arc<Source>>,
    /// What was read so far, by name, whether or not the region or network has errors.
    listed: Vec<(String, Vec<Listed>)>,
}

impl<'a> Reader<'a> {
    /// Of `kind` things; `directory` is where relative file names start.
    pub(super) fn new(kind: &'static str, doc: &'a Document, directory: &'a Path) -> Self {
        Self { kind, doc, directory, sources: vec![Arc::clone(&doc.source)], listed: Vec::new() }
    }

    /// The prefixes of the thing with this name, sorted; `None` if there is nothing to go on with.
    pub(super) fn read(&mut self, name: &str, value: &Value<'_>) -> Option<Vec<IpNet>> {
        let listed = self.prefixes(value)?;
        let mut prefixes: Vec<IpNet> = listed.iter().map(|one| one.prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        self.listed.push((name.to_owned(), listed));
        Some(prefixes)
    }

    fn prefixes(&mut self, value: &Value<'_>) -> Option<Vec<Listed>> {
        if value.is_table() {
            let file = value.section(&["file"], EXAMPLE)?.require("file", "\"prefixes/fr.txt\"")?;
            return self.file(&file.word("\"prefixes/fr.txt\"")?);
        }
        let listed: Vec<Listed> = value
            .nonempty_list(EXAMPLE)?
            .iter()
            .filter_map(|element| element.text("\"192.0.2.0/24\""))
            .filter_map(|text| self.inline(&text))
            .collect();
        Some(listed)
    }

    fn inline(&self, text: &Text<'_>) -> Option<Listed> {
        match parse_prefix(text.text) {
            Ok(prefix) => Some(Listed { prefix, source: 0, span: text.place.span() }),
            Err(wrong) => {
                text.place.error(wrong.message, wrong.help);
                None
            }
        }
    }

    fn file(&mut self, file: &Text<'_>) -> Option<Vec<Listed>> {
        let path = self.directory.join(file.text);
        let text = match read_regular(&path) {
            Ok(text) => text,
            Err(reason) => {
                let message = format!("cannot read {}: {reason}", path.display());
                file.place.error(message, "the path is relative to the directory of the configuration");
                return None;
            }
        };
        let source = Source::new(&path.display().to_string(), text);
        self.sources.push(Arc::clone(&source));
        let listed = self.lines(&source, self.sources.len() - 1);
        if listed.is_empty() {
            file.place.error(
                format!("{} has no prefix", path.display()),
                format!("write one prefix a line, or leave the {} out", self.kind),
            );
        }
        Some(listed)
    }

    /// One prefix a line; `#` begins a comment.
    fn lines(&self, source: &Arc<Source>, number: usize) -> Vec<Listed> {
        let (mut listed, mut wrong) = (Vec::new(), Vec::new());
        let mut offset = 0;
        for line in source.text().split_inclusive('\n') {
            let code = line.split('#').next().unwrap_or_default();
            let word = code.trim();
            let start = offset + code.len() - code.trim_start().len();
            let span = start..start + word.len();
            offset += line.len();
            if word.is_empty() {
                continue;
            }
            match parse_prefix(word) {
                Ok(prefix) => listed.push(Listed { prefix, source: number, span }),
                Err(why) => wrong.push((span, why)),
            }
        }
        let (count, findings) = (wrong.len(), &self.doc.findings);
        for (n, (span, why)) in wrong.into_iter().take(SHOWN).enumerate() {
            let more = if n + 1 == SHOWN { and_more(count) } else { String::new() };
            findings.error(source, span, why.message + &more, why.help);
        }
        listed
    }

    /// Reports prefixes that stand in two of these things, and (as warnings) those that stand in one twice.
    pub(super) fn check_repeats(&self) {
        let kind = self.kind;
        let mut all: Vec<(&Listed, &str)> = Vec::new();
        for (region, listed) in &self.listed {
            all.extend(listed.iter().map(|one| (one, region.as_str())));
        }
        all.sort_unstable_by_key(|(l, _)| (l.prefix, l.source, l.span.start));
        let repeats = all.windows(2).filter(|pair| pair[0].0.prefix == pair[1].0.prefix);
        let (harmless, wrong): (Vec<_>, Vec<_>) = repeats.partition(|pair| pair[0].1 == pair[1].1);
        let counts = |n: usize, count| if n + 1 == SHOWN { and_more(count) } else { String::new() };
        for (n, pair) in wrong.iter().take(SHOWN).enumerate() {
            let [(first, region), (second, other)] = [pair[0], pair[1]];
            let message = format!("{} is in {kind} `{region}` and in {kind} `{other}`", first.prefix);
            self.report_repeat(Severity::Error, first, second, message + &counts(n, wrong.len()));
        }
        for (n, pair) in harmless.iter().take(SHOWN).enumerate() {
            let [(first, region), (second, _)] = [pair[0], pair[1]];
            let message = format!("{} stands twice in {kind} `{region}`", first.prefix);
            self.report_repeat(Severity::Warning, first, second, message + &counts(n, harmless.len()));
        }
    }

    fn report_repeat(&self, severity: Severity, first: &Listed, second: &Listed, message: String) {
        let place = self.sources[first.source].origin(first.span.start);
        let help = format!("it is also at {}:{}; leave it in one place", place.file, place.line);
        let (source, span) = (&self.sources[second.source], second.span.clone());
        self.doc.findings.push(ConfigError::at(severity, source, span, message, Some(help)));
    }
}

fn and_more(count: usize) -> String {
    match count - SHOWN {
        0 => String::new(),
        more => format!(" (and {more} more like this)"),
    }
}

/// The text of a regular file: a device or a pipe would never end.
fn read_regular(path: &Path) -> Result<String, String> {
    let attributes = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !attributes.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    utf8(std::fs::read(path).map_err(|error| error.to_string())?)
}

/// What [`read_regions`] found.
pub(super) struct Regions {
    pub(super) list: Vec<Region>,
    pub(super) index: Index,
    /// The region of clients that no prefix covers.
    pub(super) default: Option<usize>,
}

/// Reads the `[[region]]` tables; `directory` is where relative file names start.
pub(super) fn read_regions<'a>(doc: &'a Document, directory: &Path, root: &Section<'a>) -> Regions {
    let mut reader = Reader::new("region", doc, directory);
    let mut default: Option<(String, Place<'_>)> = None;
    let sections = root.tables("region", &["name", "prefixes", "default"]);
    let (list, index) = read_named("region", sections, written_name, |section, name| {
        let is_default = section.get("default").and_then(|value| Some((value.boolean()?, value)));
        if let Some((true, value)) = &is_default {
            default = Some(match default.take() {
                None => (name.to_owned(), value.place.clone()),
                Some((known, other)) => {
                    let (first, second) = other.in_order(value.place.clone());
                    let message = format!("the region on line {} is the default already", first.line());
                    second.error(message, "one region can have `default = true`");
                    (known, first)
                }
            });
        }
        let prefixes = match section.get("prefixes") {
            None if matches!(is_default, Some((true, _))) => Vec::new(),
            _ => reader.read(name, &section.require("prefixes", EXAMPLE)?)?,
        };
        Some(Region { name: name.to_owned(), prefixes, origin: section.place.origin() })
    });
    reader.check_repeats();
    let default = default.and_then(|(name, _)| list.iter().position(|region| region.name == name));
    Regions { list, index, default }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn help(text: &str) -> String {
        parse_prefix(text).unwrap_err().help
    }

    #[test]
    fn the_right_prefix_is_named() {
        assert_eq!(help("10.1.2.3/8"), "the prefix is 10.0.0.0/8");
        assert_eq!(help("2001:db8::1/32"), "the prefix is 2001:db8::/32");
        assert_eq!(help("2001:db8::1"), "write 2001:db8::1/128 for this host alone");
        assert_eq!(help("::ffff:192.0.2.0/120"), "write 192.0.2.0/24");
        assert_eq!(help("2001:db8::/129"), "IPv6 prefix lengths are 0 to 128");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(parse_prefix("\u{1b}[2J").unwrap_err().message, r"`\u{1b}[2J` is not a prefix");
    }

    proptest! {
        #[test]
        fn a_prefix_is_read_or_the_right_one_named(address: IpAddr, length in 0u8..=128) {
            prop_assume!(address.is_ipv6() || length <= 32);
            prop_assume!(address.to_canonical() == address);
            let right = IpNet::new_assert(address, length).trunc();
            prop_assert_eq!(parse_prefix(&right.to_string()), Ok(right));
            let written = format!("{address}/{length}");
            match parse_prefix(&written) {
                Ok(prefix) => prop_assert_eq!(prefix, right),
                Err(wrong) => prop_assert_eq!(wrong.help, format!("the prefix is {right}")),
            }
        }

        #[test]
        fn any_text_as_prefix_is_refused_or_read(text in "[0-9a-f:./ ]{0,24}|\\PC{0,24}") {
            if let Ok(prefix) = parse_prefix(&text) {
                prop_assert_eq!(prefix.trunc(), prefix);
            }
        }
    }
}
