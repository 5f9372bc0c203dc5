//! Our program over the reference network, as benchmarks run it.

use anyhow::Result;
use aya::maps::{Array, Map, MapData};
use redirector::dataplane::{BpfDataplane, Dataplane as _, LiveTables};
use redirector_core::limit::{Rate, Rates};
use redirector_plan::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::{Network, TargetState};
use std::path::Path;
use std::sync::Arc;

/// A rate limit that is kept account of, but which nothing reaches: all queries come from few prefixes.
const BOUNDLESS: Rate = Rate::new(1_000_000_000, 1_000_000_000);

/// The program with its tables, attached nowhere.
pub(crate) struct Ours {
    pub(crate) dataplane: BpfDataplane,
    pub(crate) tables: Arc<LiveTables>,
}

impl Ours {
    /// Publishes a network of which every target is up. `pins` lies on a BPF file system. The clock for cookies stands at
    /// 0, so that the slow path can be asked at the same moment.
    ///
    /// # Errors
    /// If the planner or the kernel refuses it.
    pub(crate) fn publish(network: &Network, pins: &Path) -> Result<Self> {
        let states = vec![TargetState::default(); network.targets.len()];
        let mut slots = CounterSlots::new(1 << 18, 1 << 16, 1 << 16);
        let mut compiled = compile(network, &states, 1, &mut slots)
            .map_err(|refusals| anyhow::anyhow!("the reference network was refused: {refusals:?}"))?;
        compiled.image.meta.limits = Rates { of: [BOUNDLESS; 4], all_punts: BOUNDLESS, slip: 2, reserved: 0 };
        let mut dataplane = BpfDataplane::new(pins, Vec::new(), Vec::new(), None)?;
        let tables = dataplane.publish(&compiled.image)?;
        let clock = MapData::from_pin(pins.join("counters/CLOCK"))?;
        Array::<_, u64>::try_from(Map::Array(clock))?.set(0, 0, 0)?;
        Ok(Self { dataplane, tables })
    }
}
