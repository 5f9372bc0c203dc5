//! A comparison as text for people.

use super::{DiffReport, ShareChange};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Lines of one kind that are shown; JSON has all.
const SOME: usize = 50;

impl fmt::Display for DiffReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing changes");
        }
        for part in &self.parts {
            let added = part.added.iter().map(|name| format!("+ {} {name}", part.kind));
            let removed = part.removed.iter().map(|name| format!("- {} {name}", part.kind));
            let changed = part.changed.iter().map(|one| {
                let field = |(name, (before, after)): (&String, &(Value, Value))| match name.as_str() {
                    "secret" | "key" => format!("\n      another {name}"),
                    _ => format!("\n      {name}: {} -> {}", short(before), short(after)),
                };
                let fields: String = one.fields.iter().map(field).collect();
                format!("~ {} {}{fields}", part.kind, one.name)
            });
            lines(f, added.chain(removed).chain(changed).collect())?;
        }
        if !self.prefixes.is_empty() {
            writeln!(f, "\nprefixes that change their region:")?;
            let line = |one: &super::PrefixMove| {
                format!("  {:>9}  {} -> {}, as {}", one.prefixes, one.from, one.to, one.example)
            };
            lines(f, self.prefixes.iter().map(line).collect())?;
        }
        let shares = &self.shares;
        writeln!(
            f,
            "\nclients that get another target, all targets up: {:.2} % (services and regions counted alike), {:.2} % \
             (regions by their prefixes)",
            shares.moved_by_region, shares.moved_by_prefix
        )?;
        lines(f, shares.changes.iter().map(change).collect())
    }
}

fn change(change: &ShareChange) -> String {
    let ShareChange { services, region, family, moved, before, after } = change;
    let of = match services.as_slice() {
        [one] => format!("service {one}"),
        [first, rest @ ..] => format!("services {first} and {} more", rest.len()),
        [] => String::new(),
    };
    format!("  {moved:>6.2} %  {of}, region {region}, {family}: {} -> {}", parts(before), parts(after))
}

fn parts(parts: &BTreeMap<String, f64>) -> String {
    let part = |(name, percent): (&String, &f64)| format!("{name} {percent:.1} %");
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn lines(f: &mut fmt::Formatter<'_>, lines: Vec<String>) -> fmt::Result {
    lines.iter().take(SOME).try_for_each(|line| writeln!(f, "{line}"))?;
    match lines.len().saturating_sub(SOME) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more; --json has all"),
    }
}
