//! What is true now: the current generation and the facts it was made from.

use crate::config::Config;
use crate::dataplane::LiveTables;
use arc_swap::ArcSwap;
use redirector_plan::compile::Compiled;
use std::sync::Arc;

/// One immutable state of everything decisions depend on; only health and load move on within it.
#[derive(Debug)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// What the operator wrote.
    pub config: Config,
    /// What the compiler made of it. Its image's tables are not kept: `tables` are the live ones.
    pub compiled: Compiled,
    /// The tables that both paths read.
    pub tables: Arc<LiveTables>,
}

/// The current generation, replaced as a whole.
pub type Current = Arc<ArcSwap<Generation>>;
