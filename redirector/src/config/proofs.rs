//! What is asked of names before they count, and what those get that do not have it (P-10).

use super::index::Index;
use super::names;
use super::read::{Section, Value};
use redirector_plan::model::{Authorised, LabelRule, Otherwise, Sealed, Signed, Unauthorised};
use redirector_plan::proofs::{TAG_LABEL, tag_place};
use std::collections::BTreeSet;

const SIGNED: &str = "{ keys = [\"2026\"], otherwise = \"refuse\" }";
const AUTHORISED: &str = "{ keys = [\"2026\"], otherwise = { port = 9 } }";
const SEALED: &str = "{ label = \"x\", keys = [\"2026\"] }";

/// What proofs refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct References<'r> {
    pub(super) keys: &'r Index,
    /// Names of all services that are written.
    pub(super) services: &'r BTreeSet<String>,
}

impl References<'_> {
    /// `signed` of a rule with these patterns; `Some(None)` if it is not written.
    pub(super) fn signed(
        &self,
        section: &Section<'_>,
        patterns: &[Vec<LabelRule>],
    ) -> Option<Option<Signed>> {
        let Some(value) = section.get("signed") else { return Some(None) };
        if patterns.iter().any(|labels| tag_place(labels).is_none()) {
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

    /// `authorised` of a service; `Some(None)` if it is not written.
    pub(super) fn authorised(&self, section: &Section<'_>) -> Option<Option<Authorised>> {
        let Some(value) = section.get("authorised") else { return Some(None) };
        let section = value.section(&["keys", "parameter", "otherwise"], AUTHORISED)?;
        let keys = self.keys(&section);
        let parameter = match section.get("parameter") {
            None => Some("token".to_owned()),
            Some(value) => parameter(&value),
        };
        let refused = Unauthorised::Like(Otherwise::Refuse);
        let otherwise = section.get("otherwise").map_or(Some(refused), |value| self.unauthorised(&value));
        Some(Some(Authorised { keys: keys?, parameter: parameter?, otherwise: otherwise? }))
    }

    /// As [`Self::otherwise`], or `{ port = 9 }`.
    fn unauthorised(&self, value: &Value<'_>) -> Option<Unauthorised> {
        if value.has("port") {
            let port = value.section(&["port"], "{ port = 9 }")?.get("port")?.port()?;
            return Some(Unauthorised::Port(port));
        }
        self.otherwise(value).map(Unauthorised::Like)
    }

    /// `sealed` of a zone; `Some(None)` if it is not written.
    pub(super) fn sealed(&self, section: &Section<'_>) -> Option<Option<Sealed>> {
        let Some(value) = section.get("sealed") else { return Some(None) };
        let section = value.section(&["label", "keys", "otherwise"], SEALED)?;
        let label = section.require("label", "\"x\"")?.word("\"x\"")?;
        let label = match &names::fixed_labels(&label)?[..] {
            [only] => only.clone(),
            _ => {
                label
                    .place
                    .error("sealed names have one label before the suffix", "for example label = \"x\"");
                return None;
            }
        };
        let keys = self.keys(&section);
        let otherwise =
            section.get("otherwise").map_or(Some(Otherwise::Refuse), |value| self.otherwise(&value));
        Some(Some(Sealed { label, keys: keys?, otherwise: otherwise? }))
    }

    /// `ill_formed` of a zone; `Some(None)` if it is not written.
    pub(super) fn ill_formed(&self, section: &Section<'_>) -> Option<Option<Otherwise>> {
        section.get("ill_formed").map_or(Some(None), |value| self.otherwise(&value).map(Some))
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

/// Name of a query parameter.
fn parameter(value: &Value<'_>) -> Option<String> {
    let text = value.word("\"token\"")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some(c) = text.text.chars().find(|c| !allowed(*c)) {
        text.place
            .error(format!("{c:?} cannot stand in a parameter"), "letters, digits, `-`, `_` and `.` can");
        return None;
    }
    Some(text.text.to_owned())
}
