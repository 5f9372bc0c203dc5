//! What is true now: the current generation and the facts it was made from.

pub mod agreements;
pub mod disk;
mod divert;
pub mod facts;
pub mod forces;
pub mod live;
pub mod quota;
pub mod records;

use crate::config::Config;
use crate::dataplane::{CounterRoom, LiveTables};
use arc_swap::ArcSwap;
use redirector_names::Key;
use redirector_plan::compile::Compiled;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::Region;
use std::sync::Arc;

/// One immutable state of everything decisions depend on; only health and load move on within it.
#[derive(Debug)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// What the operator wrote.
    pub config: Config,
    /// What the compiler made of it. Of its image only what leads back to the configuration is kept (see
    /// [`Generation::new`]): `tables` are the live ones.
    pub compiled: Compiled,
    /// The tables that both paths read.
    pub tables: Arc<LiveTables>,
    /// The configuration's keys for names and tokens, in its order.
    pub keys: Vec<Key>,
}

impl Generation {
    /// Of a published image. The tables that nobody reads any more are dropped: they are as large as the live ones.
    pub fn new(config: Config, mut compiled: Compiled, tables: Arc<LiveTables>) -> Self {
        let image = &mut compiled.image;
        (image.names, image.suffixes, image.records) = Default::default();
        (image.ipv4_root, image.ipv4_pages, image.ipv6_root, image.ipv6_nodes) = Default::default();
        let keys = config.network.keys.iter().map(|key| Key::new(key.id, &key.secret)).collect();
        Self { number: compiled.image.meta.generation, config, compiled, tables, keys }
    }
}

impl Generation {
    /// The region behind a number in tables and verdicts, if it is that of clients in one.
    pub fn region(&self, number: u32) -> Option<&Region> {
        let class = self.compiled.classes.get(number as usize)?;
        self.config.network.regions.get((class.region as usize).checked_sub(1)?)
    }
}

/// The current generation, replaced as a whole.
pub type Current = Arc<ArcSwap<Generation>>;

/// Counter slots of a box that has no history.
pub fn new_slots() -> CounterSlots {
    let CounterRoom { services, regions, targets } = CounterRoom::default();
    CounterSlots::new(services, regions, targets)
}
