//! Why a network cannot be compiled: every problem with its place and remedy (A-10, invariant 4).

use crate::model::Origin;
use std::fmt;

/// One reason why tables were not built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The part that is refused, as the operator knows it: `zone "cdn.acme.net"`.
    pub what: String,
    /// Where it was written; no file if the problem has no one place.
    pub origin: Origin,
    /// What is wrong.
    pub why: String,
    /// What would be right.
    pub remedy: String,
}

impl Refusal {
    pub(crate) fn new(
        what: impl Into<String>,
        origin: &Origin,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), origin: origin.clone(), why: why.into(), remedy: remedy.into() }
    }

    /// For limits that the network as a whole exceeds.
    pub(crate) fn of_network(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(what, &Origin::default(), why, remedy)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origin.file.is_empty() {
            write!(f, "{}: ", self.origin)?;
        }
        write!(f, "{}: {}; {}", self.what, self.why, self.remedy)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_reads_as_place_part_problem_remedy() {
        let origin = Origin { file: "box.toml".into(), line: 7, column: 3 };
        let refusal = Refusal::new("pool \"a\"", &origin, "no members", "name at least one target");
        assert_eq!(refusal.to_string(), "box.toml:7:3: pool \"a\": no members; name at least one target");
        let whole = Refusal::of_network("regions", "too many", "merge some");
        assert_eq!(whole.to_string(), "regions: too many; merge some");
    }
}
