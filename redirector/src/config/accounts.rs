//! How accounts are kept, `[accounts]`.

use super::read::Section;
use super::units;
use std::time::Duration;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// How accounts are kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccountTerms {
    /// Length of the parts of time that are booked apart.
    pub every: Duration,
    /// How long they are kept.
    pub keep: Duration,
    /// Most bytes of them.
    pub size: u64,
}

impl Default for AccountTerms {
    fn default() -> Self {
        Self { every: Duration::from_secs(3600), keep: 400 * DAY, size: 1 << 30 }
    }
}

const KEYS: &[&str] = &["every", "keep", "megabytes"];

/// Reads `[accounts]`, which may be left out.
pub(super) fn read_accounts(root: &Section<'_>) -> Option<AccountTerms> {
    let mut terms = AccountTerms::default();
    if root.get("accounts").is_none() {
        return Some(terms);
    }
    let section = root.table("accounts", KEYS, "")?;
    if let Some(value) = section.get("every") {
        terms.every = units::duration(&value, Duration::from_secs(60)..=DAY)?;
        let seconds = terms.every.as_secs();
        if terms.every.subsec_nanos() > 0 || !DAY.as_secs().is_multiple_of(seconds) {
            value.place.error("a day is no multiple of it", "for example \"5m\", \"1h\" or \"1d\"");
        }
    }
    if let Some(value) = section.get("keep") {
        terms.keep = units::duration(&value, DAY..=3660 * DAY)?;
    }
    if let Some(value) = section.get("megabytes") {
        terms.size = value.integer(1..=1 << 20)? << 20;
    }
    Some(terms)
}
