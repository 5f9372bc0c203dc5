//! Where objects are, as agents outside say (P-11).
//!
//! A publication is kept by the name or URL that was published and by the names of the servers, not by what these meant
//! then: it holds in every generation that knows them.

use crate::config::terms::show_instant;
use redirector_plan::objects::{MAX_OBJECTS, MAX_WIDTH, Object};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most publications at one time; the rest of the table is for objects that widen by load.
pub const MAX_PUBLICATIONS: usize = MAX_OBJECTS / 2;

/// What was published of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The name that DNS asks for, or the URL.
    pub object: String,
    /// Names of the servers that it is at.
    pub at: Vec<String>,
    /// User number of who said it.
    pub by: u32,
    /// When, in seconds since 1970.
    pub since: u64,
    /// When it ends by itself, in seconds since 1970; `None`: when it is withdrawn.
    pub until: Option<u64>,
}

/// `at par-1, par-2 until … (by uid 0 at …)`
impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, by, since, until, .. } = self;
        write!(f, "at {}", at.join(", "))?;
        match until {
            Some(until) => write!(f, " until {}", show_instant(*until))?,
            None => f.write_str(" until withdrawn")?,
        }
        write!(f, " (by uid {by} at {})", show_instant(*since))
    }
}

/// All that is published, by object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Publication>", into = "Vec<Publication>")]
pub struct Publications(BTreeMap<String, Publication>);

impl From<Vec<Publication>> for Publications {
    fn from(list: Vec<Publication>) -> Self {
        Self(list.into_iter().map(|one| (one.object.clone(), one)).collect())
    }
}

impl From<Publications> for Vec<Publication> {
    fn from(all: Publications) -> Self {
        all.0.into_values().collect()
    }
}

impl Publications {
    /// By object.
    pub fn list(&self) -> impl Iterator<Item = &Publication> {
        self.0.values()
    }

    /// What was published of an object.
    pub fn of(&self, object: &str) -> Option<&Publication> {
        self.0.get(object)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one in, in the place of what was said of its object before.
    ///
    /// # Errors
    /// If there are too many.
    pub fn publish(&mut self, publication: Publication) -> Result<(), String> {
        if self.0.len() >= MAX_PUBLICATIONS && !self.0.contains_key(&publication.object) {
            return Err(format!(
                "{MAX_PUBLICATIONS} objects are published already; withdraw some, or publish for a shorter time"
            ));
        }
        self.0.insert(publication.object.clone(), publication);
        Ok(())
    }

    /// Takes one back.
    pub fn withdraw(&mut self, object: &str) -> Option<Publication> {
        self.0.remove(object)
    }

    /// Takes back what has ended.
    pub fn expire(&mut self, now: u64) -> Vec<Publication> {
        let has_ended = |one: &Publication| one.until.is_some_and(|until| until <= now);
        self.0.extract_if(.., |_, one| has_ended(one)).map(|(_, one)| one).collect()
    }

    /// What the tables are to know: of objects whose hash `resolve` finds, at targets that `number`
    /// knows. Others wait until the configuration knows them again. Two names of one object count as the first.
    pub fn objects(
        &self,
        resolve: impl Fn(&str) -> Option<u64>,
        number: impl Fn(&str) -> Option<u16>,
    ) -> Vec<Object> {
        let mut objects = BTreeMap::new();
        for Publication { object, at, .. } in self.0.values() {
            let mut targets: Vec<u16> = at.iter().filter_map(|name| number(name)).collect();
            targets.sort_unstable();
            targets.dedup();
            if let (Some(hash), false) = (resolve(object), targets.is_empty()) {
                let width = targets.len().min(MAX_WIDTH) as u8;
                objects.entry(hash).or_insert(Object { hash, targets, width });
            }
        }
        objects.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(object: &str, at: &[&str], until: Option<u64>) -> Publication {
        let at = at.iter().map(|name| (*name).to_owned()).collect();
        Publication { object: object.to_owned(), at, by: 0, since: 1, until }
    }

    #[test]
    fn what_is_published_last_counts_and_ends_at_its_time() {
        let mut all = Publications::default();
        all.publish(publication("a.net", &["t1"], Some(10))).expect("room");
        all.publish(publication("b.net", &["t1"], None)).expect("room");
        all.publish(publication("a.net", &["t3", "t2", "t2", "gone"], Some(20))).expect("room");
        assert_eq!(all.len(), 2);
        assert!(all.expire(19).is_empty());
        let number = |name: &str| name.strip_prefix('t')?.parse().ok();
        let resolve = |name: &str| (name == "a.net").then_some(7);
        let object = Object { hash: 7, targets: vec![2, 3], width: 2 };
        assert_eq!(all.objects(resolve, number), [object]);
        assert_eq!(all.expire(20).len(), 1);
        assert_eq!(all.list().map(|one| &*one.object).collect::<Vec<_>>(), ["b.net"]);
        let text = serde_json::to_string(&all).expect("text");
        assert_eq!(serde_json::from_str::<Publications>(&text).expect("reads"), all);
    }

    #[test]
    fn there_is_a_limit_and_it_is_named() {
        let mut all = Publications::default();
        for n in 0..MAX_PUBLICATIONS {
            all.publish(publication(&format!("o{n}.net"), &["t1"], None)).expect("room");
        }
        let refused = all.publish(publication("more.net", &["t1"], None)).expect_err("full");
        assert!(refused.contains(&MAX_PUBLICATIONS.to_string()), "{refused}");
        all.publish(publication("o7.net", &["t2"], None)).expect("it is known");
    }
}
