//! What is asked of names before they count, and what those get that do not have it (P-10).

use super::index::Index;
use super::read::{Section, Value};
use redirector_plan::model::{LabelRule, Otherwise, Signed};
use redirector_plan::proofs::{TAG_LABEL, tag_place};
use std::collections::BTreeSet;

const SIGNED: &str = "{ keys = [\"2026\"], otherwise = \"refuse\" }";

/// What proofs refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct References<'r> {
    pub(super) keys: &'r Index,
    /// Names of all services that are written.
    pub(super) services: &'r BTreeSet<String>,
}

impl References<'_> {
    /// `signed` of a rule with this pattern; `Some(None)` if it is not written.
    pub(super) fn signed(
        &self,
        section: &Section<'_>,
        labels: Option<&[LabelRule]>,
    ) -> Option<Option<Signed>> {
        let Some(value) = section.get("signed") else { return Some(None) };
        if labels.is_some_and(|labels| tag_place(labels).is_none()) {
            value.place.error(
                "the pattern has no label for the tag",
                format!("write {{{TAG_LABEL}}} where it stands, for example {{object}}.{{{TAG_LABEL}}}.web"),
            );
            return None;
        }
        let signed = value.section(&["keys", "otherwise"], SIGNED)?;
        let keys = self.keys(&signed);
        let otherwise =
            signed.get("otherwise").map_or(Some(Otherwise::Refuse), |value| self.otherwise(&value));
        Some(Some(Signed { keys: keys?, otherwise: otherwise? }))
    }

    /// `keys`: names of keys; all of them if it is not written.
    fn keys(&self, section: &Section<'_>) -> Option<Vec<String>> {
        let Some(value) = section.get("keys") else {
            let all: Vec<String> = self.keys.iter().map(|(name, _)| name.to_owned()).collect();
            if all.is_empty() {
                section
                    .place
                    .error("there is no [[key]] yet", "add one: name, id, and the file of its secret");
            }
            return (!all.is_empty()).then_some(all);
        };
        let list = value.nonempty_list("[\"2026\"]")?;
        let mut names: Vec<String> = Vec::with_capacity(list.len());
        for element in &list {
            let text = element.word("\"2026\"")?;
            self.keys.resolve(&text)?;
            if !names.iter().any(|name| name == text.text) {
                names.push(text.text.to_owned());
            }
        }
        Some(names)
    }

    /// `"refuse"`, `"empty"`, or `{ service = "…" }`.
    fn otherwise(&self, value: &Value<'_>) -> Option<Otherwise> {
        if !value.is_table() {
            let forms = [("refuse", Otherwise::Refuse), ("empty", Otherwise::Empty)];
            return super::addresses::choice(value, &forms);
        }
        let section = value.section(&["service"], "{ service = \"basic\" }")?;
        let service = section.require("service", "\"basic\"")?.word("\"basic\"")?;
        if self.services.contains(service.text) {
            return Some(Otherwise::Service(service.text.to_owned()));
        }
        let help = super::suggest::help(service.text, self.services.iter().map(String::as_str), "add it");
        service.place.error(format!("there is no service `{}`", service.text), help);
        None
    }
}
