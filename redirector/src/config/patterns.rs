//! Which names a pattern of labels stands for, and whether two patterns stand for the same.

use super::read::Place;
use redirector_plan::model::LabelRule;
use std::collections::{BTreeMap, BTreeSet};

/// Most combinations of listed values in one pattern: each becomes an entry of the tables.
const COMBINATIONS: usize = 100_000;

/// Whether a pattern has a bearable number of combinations; reports it if not.
pub(super) fn check_count(rules: &[LabelRule], place: &Place<'_>) -> bool {
    let values = |rule: &LabelRule| match rule {
        LabelRule::OneOf(_, values) => values.len(),
        LabelRule::Fixed(_) | LabelRule::Free(_) => 1,
    };
    let count = rules.iter().map(values).try_fold(1_usize, usize::checked_mul);
    let good = count.is_some_and(|count| count <= COMBINATIONS);
    if !good {
        place.error(
            format!("the listed values make more than {COMBINATIONS} combinations"),
            "leave a variable free, or split the pattern",
        );
    }
    good
}

/// Every combination of listed values; `None` is a free label.
pub(super) fn expand(rules: &[LabelRule]) -> Vec<Vec<Option<&str>>> {
    let mut all: Vec<Vec<Option<&str>>> = vec![Vec::with_capacity(rules.len())];
    for rule in rules {
        match rule {
            LabelRule::Fixed(label) => all.iter_mut().for_each(|labels| labels.push(Some(label))),
            LabelRule::Free(_) => all.iter_mut().for_each(|labels| labels.push(None)),
            LabelRule::OneOf(_, values) => {
                let with = |labels: &Vec<_>, value| labels.iter().copied().chain([Some(value)]).collect();
                all = all
                    .iter()
                    .flat_map(|labels| values.iter().map(move |value| with(labels, value)))
                    .collect();
            }
        }
    }
    all
}

/// Orders patterns, whatever their variables are called.
pub(super) fn sort_key(rules: &[LabelRule]) -> Vec<(u8, Vec<String>)> {
    let key = |rule: &LabelRule| match rule {
        LabelRule::Fixed(label) => (0, vec![label.clone()]),
        LabelRule::OneOf(_, values) => (1, values.clone()),
        LabelRule::Free(_) => (2, Vec::new()),
    };
    rules.iter().map(key).collect()
}

/// Patterns in order, the first that matches winning: finds those that can never win.
#[derive(Debug, Default)]
pub(super) struct Ordered<'p> {
    /// For each combination, the number of the first pattern that has it.
    first: BTreeMap<Vec<Option<&'p str>>, usize>,
    /// Which positions are fixed, over all combinations.
    masks: BTreeSet<Vec<bool>>,
    count: usize,
}

impl<'p> Ordered<'p> {
    /// Adds a pattern. If earlier ones take all its names, the number of one of them.
    pub(super) fn push(&mut self, rules: &'p [LabelRule]) -> Option<usize> {
        let combinations = expand(rules);
        let mut winner = None;
        let mut dead = true;
        for labels in &combinations {
            match self.earlier(labels) {
                Some(number) => winner = winner.or(Some(number)),
                None => dead = false,
            }
        }
        for labels in combinations {
            self.masks.insert(labels.iter().map(Option::is_some).collect());
            self.first.entry(labels).or_insert(self.count);
        }
        self.count += 1;
        winner.filter(|_| dead)
    }

    /// The first pattern that takes every name of this combination.
    fn earlier(&self, labels: &[Option<&'p str>]) -> Option<usize> {
        let applies = |mask: &&Vec<bool>| {
            mask.len() == labels.len()
                && mask.iter().zip(labels).all(|(fixed, label)| !fixed || label.is_some())
        };
        let widened = |mask: &Vec<bool>| -> Vec<Option<&'p str>> {
            mask.iter().zip(labels).map(|(fixed, label)| label.filter(|_| *fixed)).collect()
        };
        self.masks.iter().filter(applies).filter_map(|mask| self.first.get(&widened(mask)).copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Vec<LabelRule> {
        let rule = |label: &str| match label.strip_prefix('?') {
            None => LabelRule::Fixed(label.to_owned()),
            Some("") => LabelRule::Free("x".to_owned()),
            Some(values) => LabelRule::OneOf("x".to_owned(), values.split('|').map(str::to_owned).collect()),
        };
        text.split('.').map(rule).collect()
    }

    fn pushed(texts: &[&str]) -> Vec<Option<usize>> {
        let patterns: Vec<_> = texts.iter().map(|text| pattern(text)).collect();
        let mut ordered = Ordered::default();
        patterns.iter().map(|pattern| ordered.push(pattern)).collect()
    }

    #[test]
    fn a_pattern_that_earlier_ones_cover_can_never_win() {
        assert_eq!(pushed(&["?.web", "?.web"]), [None, Some(0)]);
        assert_eq!(pushed(&["?.web", "a.web"]), [None, Some(0)]);
        assert_eq!(pushed(&["?.?a|b", "?.b"]), [None, Some(0)]);
        assert_eq!(pushed(&["?.a", "?.b", "x.?a|b"]), [None, None, Some(0)]);
        assert_eq!(pushed(&["a.?", "?.b", "a.b"]), [None, None, Some(0)]);
    }

    #[test]
    fn a_pattern_with_names_of_its_own_is_kept() {
        assert_eq!(pushed(&["a.web", "?.web"]), [None, None]);
        assert_eq!(pushed(&["?.a", "?.?a|b"]), [None, None]);
        assert_eq!(pushed(&["?.web", "?.?.web", "?"]), [None, None, None]);
    }

    #[test]
    fn combinations_are_all_made_once() {
        let rules = pattern("?a|b.web.?.?c|d");
        let all = expand(&rules);
        assert_eq!(all.len(), 4);
        assert!(all.contains(&vec![Some("b"), Some("web"), None, Some("c")]));
        assert_eq!(expand(&[]), [Vec::<Option<&str>>::new()]);
    }
}
