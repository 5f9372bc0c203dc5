//! A box at one moment: what all reports are made from.

use super::built::BuildReport;
use crate::config::Config;
use crate::dataplane::{Dataplane, FastCounters, MemoryDataplane, Mode};
use crate::state::agreements::{Book, Decisions, unix_now};
use crate::state::facts::{self, Fact};
use crate::state::forces::Forces;
use crate::state::{Generation, new_slots};
use redirector_plan::compile::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::TargetState;
use redirector_plan::refusal::Refusal;
use std::sync::Arc;

/// The facts behind the current answers, as they are at one moment.
#[derive(Debug)]
pub struct View {
    /// The generation.
    pub generation: Arc<Generation>,
    /// Number of the last change of health or load within it.
    pub epoch: u32,
    /// How many of its changes had to wait for a free record.
    pub record_waits: u64,
    /// By target number.
    pub facts: Vec<Fact>,
    /// Agreements.
    pub book: Book,
    /// What operators say.
    pub forces: Forces,
    /// Names of counter slots.
    pub slots: CounterSlots,
    /// How the fast path runs.
    pub mode: Mode,
    /// Counts of the fast path.
    pub fast: FastCounters,
    /// Counts of the slow path.
    pub slow: FastCounters,
    /// What of the operator's configuration is not in effect, one line for each finding.
    pub refused: Vec<String>,
    /// How the generation was built.
    pub built: BuildReport,
}

impl View {
    /// Of a box that would start with this configuration now, with every server up.
    ///
    /// # Errors
    /// What the compiler refuses, one line for each finding, or that there is no memory for the tables.
    pub fn alone(config: Config) -> Result<Self, String> {
        let lines =
            |refusals: Vec<Refusal>| refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n");
        let mut slots = new_slots();
        let mut facts = facts::carry_over(&config, &[], false);
        let mut book = Book::new(Decisions::new());
        book.keep(&config.network);
        book.apply(&config.network, &mut facts, unix_now());
        let compiled = compile(&config.network, &facts::states(&facts), 0, &mut slots).map_err(lines)?;
        let mut dataplane = MemoryDataplane::new("no box was asked");
        let tables = dataplane.publish(&compiled.image).map_err(|error| error.to_string())?;
        Ok(Self {
            refused: Vec::new(),
            built: BuildReport::default(),
            generation: Arc::new(Generation::new(config, compiled, tables)),
            epoch: 0,
            record_waits: 0,
            facts,
            book,
            forces: Forces::default(),
            slots,
            mode: dataplane.mode(),
            fast: FastCounters::default(),
            slow: FastCounters::default(),
        })
    }

    /// States of all targets, in their order.
    pub fn states(&self) -> Vec<TargetState> {
        facts::states(&self.facts)
    }
}
