//! The suffix that most rules of a CDN are for, which is recognised as a whole ([`Tail`]).

use crate::model::Zone;
use redirector_core::lookup::Scheme;
use redirector_core::table::NONE;
use redirector_core::tail::Tail;
use std::collections::BTreeMap;

/// Host suffixes of URL rules: how many rules each has, and its zones by scheme.
#[derive(Default)]
pub(crate) struct HostSuffixes(BTreeMap<(usize, Vec<String>), (usize, [u32; 4])>);

impl HostSuffixes {
    pub(crate) fn add(&mut self, cdn: usize, suffix: &[String], scheme: Scheme, zone: usize, rules: usize) {
        let (count, zones) = self.0.entry((cdn, suffix.to_vec())).or_insert((0, [NONE; 4]));
        *count += rules;
        zones[scheme as usize] = zone as u32;
    }

    /// Each CDN's tail. Suffixes of one scheme and CDN never nest.
    pub(crate) fn tails(&self, cdns: usize) -> Vec<Tail> {
        most(
            cdns,
            self.0.iter().map(|((cdn, suffix), (rules, zones))| {
                (*cdn, *rules, Tail::of_hosts(suffix.join(".").as_bytes(), *zones))
            }),
        )
    }
}

/// Each CDN's tail of its DNS zones; `enclosed` tells of each zone which ones begin beneath it, where the longer suffix
/// would count.
pub(crate) fn of_zones<E>(zones: &[Zone], enclosed: &[Vec<E>], cdns: usize) -> Vec<Tail> {
    let alone = zones.iter().enumerate().filter(|(number, _)| enclosed[*number].is_empty());
    most(cdns, alone.map(|(number, zone)| (zone.cdn, zone.grammars.len(), of_zone(number, zone))))
}

fn of_zone(number: usize, zone: &Zone) -> Option<Tail> {
    let mut text = Vec::new();
    for label in &zone.suffix {
        text.push(u8::try_from(label.len()).ok()?);
        text.extend(label.bytes());
    }
    text.push(0);
    Tail::of_names(&text, number as u32)
}

/// Of each CDN's suffixes that have a tail, the one with most rules; the first of several.
fn most(cdns: usize, suffixes: impl Iterator<Item = (usize, usize, Option<Tail>)>) -> Vec<Tail> {
    let mut best = vec![(0, Tail::default()); cdns];
    for (cdn, rules, tail) in suffixes {
        if let Some(tail) = tail
            && rules > best[cdn].0
        {
            best[cdn] = (rules, tail);
        }
    }
    best.into_iter().map(|(_, tail)| tail).collect()
}
