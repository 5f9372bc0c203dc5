//! "Did you mean": the nearest known word to one that is not known.

/// The candidate nearest to `word`, if it is near enough to be a slip of the pen: at most a third of the letters
/// differ. Equal distances are settled by the alphabet, so that messages do not depend on the order of candidates.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (word, length) = (word.to_lowercase(), word.chars().count());
    let limit = (length / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Longest enumeration that a help text spells out.
const LISTED: usize = 24;

/// Help for an unknown word: the nearest candidate, else all of them if they are few.
pub fn help<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone, none: &str) -> String {
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut all: Vec<&str> = candidates.into_iter().collect();
    all.sort_unstable();
    match all.len() {
        0 => none.to_owned(),
        1..=LISTED => format!("it can be {}", alternatives(&all)),
        _ => format!("it can be {}, or one of {} others", all[..LISTED].join_quoted(), all.len() - LISTED),
    }
}

/// `` `a`, `b` or `c` ``
pub(super) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => format!("{} or `{last}`", first.join_quoted()),
    }
}

trait JoinQuoted {
    fn join_quoted(&self) -> String;
}

impl JoinQuoted for [&str] {
    fn join_quoted(&self) -> String {
        self.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["prefixes", "name", "default"];
        assert_eq!(nearest("prefxies", known), Some("prefixes"));
        assert_eq!(nearest("NAME", known), Some("name"));
        assert_eq!(nearest("capacity", known), None);
    }

    #[test]
    fn equal_distances_are_settled_by_the_alphabet() {
        assert_eq!(nearest("par-web-3", ["par-web-2", "par-web-1"]), Some("par-web-1"));
    }

    #[test]
    fn few_candidates_are_listed_and_many_are_counted() {
        assert_eq!(help("zzzz", ["b", "a", "c"], ""), "it can be `a`, `b` or `c`");
        let many: Vec<String> = (0..30).map(|n| format!("w{n:02}")).collect();
        assert!(help("zzzz", many.iter().map(String::as_str), "").ends_with("`w23`, or one of 6 others"));
        assert_eq!(help("zzzz", [], "write a [[region]] first"), "write a [[region]] first");
    }
}
