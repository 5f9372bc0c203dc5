//! What would change between two configurations, without a log: what is written in them, which region each prefix is in,
//! and who gets which share of whose clients, found by the production code over both ones' tables.

mod parts;
mod shares;
mod text;

pub use parts::{Changed, PartDiff};
pub use shares::{ShareChange, Shares};

use super::view::View;
use redirector_core::decide::{Client, region};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Prefixes whose clients are in another region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrefixMove {
    /// Region before; `-`: none.
    pub from: String,
    /// Region after.
    pub to: String,
    /// How many of the prefixes that either configuration lists.
    pub prefixes: u64,
    /// The first of them.
    pub example: String,
}

/// Everything that `redirector diff` tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffReport {
    /// What is written, kind by kind; kinds without a difference are left out.
    pub parts: Vec<PartDiff>,
    /// Prefixes that change their region.
    pub prefixes: Vec<PrefixMove>,
    /// Who gets which share of whose clients.
    pub shares: Shares,
}

impl DiffReport {
    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.prefixes.is_empty() && self.shares.changes.is_empty()
    }
}

/// Compares what two boxes would do.
pub fn diff(old: &View, new: &View) -> DiffReport {
    DiffReport {
        parts: parts::compare(&old.generation.config, &new.generation.config),
        prefixes: prefixes(old, new),
        shares: shares::compare(old, new),
    }
}

/// Name of the region that a client is in; `-`: none.
fn region_of(view: &View, client: std::net::IpAddr) -> String {
    let number = region(&Client::new(client), &view.generation.tables.read()).unwrap_or(0);
    view.generation.region(number).map_or("-", |region| region.name.as_str()).to_owned()
}

fn prefixes(old: &View, new: &View) -> Vec<PrefixMove> {
    let listed = |view: &View| {
        let regions = view.generation.config.network.regions.iter();
        regions.flat_map(|region| region.prefixes.iter().copied()).collect::<BTreeSet<_>>()
    };
    let mut moves = BTreeMap::<(String, String), (u64, String)>::new();
    for prefix in listed(old).union(&listed(new)) {
        let (from, to) = (region_of(old, prefix.network()), region_of(new, prefix.network()));
        if from != to {
            moves.entry((from, to)).or_insert_with(|| (0, prefix.to_string())).0 += 1;
        }
    }
    let moved = |((from, to), (prefixes, example))| PrefixMove { from, to, prefixes, example };
    moves.into_iter().map(moved).collect()
}
