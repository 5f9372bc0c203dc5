//! Labels, patterns of labels, and names (P-5, P-6).

use super::read::{Section, Text, Value};
use redirector_plan::model::LabelRule;
use std::collections::BTreeMap;
use std::ops::Range;

/// Longest label (RFC 1035, section 2.3.4).
const LABEL_LENGTH: usize = 63;
/// Longest name, counted as in messages: a length byte before each label and a zero at the end (same section).
const NAME_LENGTH: usize = 255;
/// Most optional labels of a pattern: each doubles the patterns that it stands for.
const MAX_OPTIONAL: usize = 3;
/// Most labels of a name that the tables can hold.
const NAME_LABELS: usize = 16;

/// The lower-case form of a label that a name can have; `Err` says what is wrong.
fn parse_label(label: &str) -> Result<String, (String, String)> {
    let wrong = |message: String, help: &str| Err((message, help.to_owned()));
    if label.is_empty() {
        return wrong("a label is empty".to_owned(), "leave one of the two dots out");
    }
    if !label.is_ascii() {
        return wrong(format!("`{label}` is not ASCII"), "write the label in its xn-- form");
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
    if let Some(character) = label.chars().find(|c| !allowed(c)) {
        return wrong(
            format!("{character:?} cannot stand in the label `{}`", label.escape_debug()),
            "letters, digits, `-` and `_` can; a variable is a whole label, for example {object}",
        );
    }
    if label.len() > LABEL_LENGTH {
        return wrong(format!("this label has {} characters", label.len()), "labels have at most 63");
    }
    Ok(label.to_ascii_lowercase())
}

/// The parts of `text` between dots that are not within braces, with their byte ranges in it.
fn split_labels(text: &str) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '.' if depth == 0 => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(start..text.len());
    parts
}

/// Fixed labels only, such as a zone's suffix or a host name: lower-case, leftmost first. A final dot is allowed.
pub(super) fn fixed_labels(text: &Text<'_>) -> Option<Vec<String>> {
    let name = text.text.strip_suffix('.').unwrap_or(text.text);
    let mut labels = Vec::new();
    let mut sound = true;
    for range in split_labels(name) {
        match parse_label(&name[range.clone()]) {
            Ok(label) => labels.push(label),
            Err((message, help)) => {
                text.part(range).error(message, help);
                sound = false;
            }
        }
    }
    (sound && check_size(text, labels.iter().map(String::len))).then_some(labels)
}

/// A host name, lower-case and without a final dot.
pub(super) fn host_name(text: &Text<'_>) -> Option<String> {
    Some(fixed_labels(text)?.join("."))
}

/// Whether names with labels of (at least) these lengths can exist; reports it if not.
pub(super) fn check_size(text: &Text<'_>, lengths: impl Iterator<Item = usize> + Clone) -> bool {
    let (labels, length) = (lengths.clone().count(), lengths.map(|length| length + 1).sum::<usize>() + 1);
    if labels > NAME_LABELS {
        text.place.error(
            format!("this makes names of {labels} labels"),
            format!("names have at most {NAME_LABELS}, the suffix included"),
        );
    } else if length > NAME_LENGTH {
        let message = format!("this makes names of at least {length} bytes");
        text.place.error(message, format!("names have at most {NAME_LENGTH} bytes, the suffix included"));
    }
    labels <= NAME_LABELS && length <= NAME_LENGTH
}

/// Length of the shortest label that a rule admits.
pub(super) fn shortest(rule: &LabelRule) -> usize {
    match rule {
        LabelRule::Fixed(label) => label.len(),
        LabelRule::Free(_) => 1,
        LabelRule::OneOf(_, values) => values.iter().map(String::len).min().unwrap_or(1),
    }
}

/// Values that label variables are restricted to: the table `[labels]`.
#[derive(Debug, Default)]
pub(super) struct Labels {
    /// `None` for a list that was not understood.
    restricted: BTreeMap<String, Option<Vec<String>>>,
}

impl Labels {
    /// Reads `[labels]`: variable = list of values.
    pub(super) fn read(root: &Section<'_>) -> Self {
        let entries = root.get("labels").and_then(|value| value.entries("{ customer = [\"abc\", \"nbc\"] }"));
        let mut labels = Self::default();
        for (name, value) in entries.unwrap_or_default() {
            if let Some(why) = bad_variable(name.text) {
                name.place.error(why, VARIABLE_FORM);
            }
            labels.restricted.insert(name.text.to_owned(), value_list(&value));
        }
        labels
    }

    /// A pattern such as `{object}.{size?}.web.{customer}`; `@` alone is no label at all. Gives what it is with and
    /// without each optional label. `None` if there is an error.
    pub(super) fn patterns(&self, text: &Text<'_>) -> Option<Vec<Vec<LabelRule>>> {
        match text.text {
            "@" => Some(vec![Vec::new()]),
            _ => self.rules(text, 0..text.text.len()),
        }
    }

    /// The same for a part of a text that is no `@`.
    pub(super) fn rules(&self, text: &Text<'_>, part: Range<usize>) -> Option<Vec<Vec<LabelRule>>> {
        let mut optional = Vec::new();
        let rules = self.all_rules(text, part.clone(), &mut optional)?;
        if optional.len() > MAX_OPTIONAL || (optional.len() == rules.len() && !rules.is_empty()) {
            let message = format!("{} of {} labels are optional", optional.len(), rules.len());
            text.part(part).error(message, format!("at most {MAX_OPTIONAL} can be, and not all of them"));
            return None;
        }
        let mut all = vec![rules];
        // From the right, so that places to the left stay what they are.
        for place in optional.into_iter().rev() {
            let without = |rules: &Vec<LabelRule>| [&rules[..place], &rules[place + 1..]].concat();
            all = all.iter().flat_map(|rules| [rules.clone(), without(rules)]).collect();
        }
        Some(all)
    }

    /// Every label's rule, and the places of those that are optional.
    fn all_rules(
        &self,
        text: &Text<'_>,
        part: Range<usize>,
        optional: &mut Vec<usize>,
    ) -> Option<Vec<LabelRule>> {
        let written = &text.text[part.clone()];
        let mut rules: Vec<LabelRule> = Vec::new();
        let mut sound = true;
        for range in split_labels(written) {
            let place = text.part(part.start + range.start..part.start + range.end);
            let (label, is_optional) = without_mark(&written[range]);
            if is_optional {
                optional.push(rules.len());
            }
            let rule = match self.rule(&label) {
                Ok(rule) => rule,
                Err((message, help)) => {
                    place.error(message, help);
                    sound = false;
                    continue;
                }
            };
            // An unreadable [labels] entry was reported there.
            let Some(rule) = rule else {
                sound = false;
                continue;
            };
            if variable(&rule).is_some() && rules.iter().any(|other| variable(other) == variable(&rule)) {
                let name = variable(&rule).unwrap_or_default();
                place.error(format!("{{{name}}} stands twice"), "give each label a variable of its own");
                sound = false;
            }
            rules.push(rule);
        }
        sound.then_some(rules)
    }

    /// `Ok(None)` is a variable whose values in `[labels]` were not understood.
    fn rule(&self, label: &str) -> Result<Option<LabelRule>, (String, String)> {
        let Some(inner) = label.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return parse_label(label).map(|label| Some(LabelRule::Fixed(label)));
        };
        let (name, values) = match inner.split_once(':') {
            Some((name, values)) => (name, Some(values)),
            None => (inner, None),
        };
        if let Some(why) = bad_variable(name) {
            return Err((why, VARIABLE_FORM.to_owned()));
        }
        match (values, self.restricted.get(name)) {
            (None, None) => Ok(Some(LabelRule::Free(name.to_owned()))),
            (None, Some(values)) => {
                Ok(values.clone().map(|values| LabelRule::OneOf(name.to_owned(), values)))
            }
            (Some(_), Some(_)) => Err((
                format!("the values of {{{name}}} are listed in [labels] already"),
                format!("write {{{name}}}, or use another variable"),
            )),
            (Some(values), None) => {
                let values = values.split('|').map(parse_label).collect::<Result<Vec<_>, _>>()?;
                distinct(values).map(|values| Some(LabelRule::OneOf(name.to_owned(), values)))
            }
        }
    }
}

/// A label without the mark of one that is optional (`{size?}`, `{size?:sd|hd}`, `hd?`), and whether it had it.
fn without_mark(label: &str) -> (String, bool) {
    let variable = label.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let marked = match variable {
        Some(inner) => match inner.split_once(':') {
            Some((name, values)) => name.strip_suffix('?').map(|name| format!("{{{name}:{values}}}")),
            None => inner.strip_suffix('?').map(|name| format!("{{{name}}}")),
        },
        None => label.strip_suffix('?').map(str::to_owned),
    };
    let is_optional = marked.is_some();
    (marked.unwrap_or_else(|| label.to_owned()), is_optional)
}

/// Name of a rule's variable.
fn variable(rule: &LabelRule) -> Option<&str> {
    match rule {
        LabelRule::Fixed(_) => None,
        LabelRule::Free(name) | LabelRule::OneOf(name, _) => Some(name),
    }
}

const VARIABLE_FORM: &str =
    "a variable is a letter a-z, then letters, digits, `-` and `_`: {customer}, or {customer:abc|nbc}";

/// What is wrong with a variable's name, if anything.
fn bad_variable(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(allowed);
    (!good).then(|| format!("`{}` is not the name of a variable", name.escape_debug()))
}

/// The values of a `[labels]` entry, sorted; `None` if there is an error.
fn value_list(value: &Value<'_>) -> Option<Vec<String>> {
    let list = value.nonempty_list("{ customer = [\"abc\", \"nbc\"] }")?;
    let read = |element: &Value<'_>| {
        let text = element.text("[\"abc\", \"nbc\"]")?;
        parse_label(text.text).map_err(|(message, help)| text.place.error(message, help)).ok()
    };
    let values: Vec<String> = list.iter().filter_map(read).collect();
    if values.len() < list.len() {
        return None;
    }
    distinct(values).map_err(|(message, help)| value.place.error(message, help)).ok()
}

/// Sorted values, none twice.
fn distinct(mut values: Vec<String>) -> Result<Vec<String>, (String, String)> {
    values.sort_unstable();
    match values.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err((format!("the value `{}` is listed twice", pair[0]), "leave one out".to_owned())),
        None => Ok(values),
    }
}
