//! Following what operators say of regions within a generation: cells of the tables, each by one store.

use super::live::{Behind, Live};
use crate::dataplane::LiveTables;
use redirector_plan::compile::Compiled;
use redirector_plan::divert::Diversions;

impl Live {
    /// Of tables in which clients of these regions are served otherwise already.
    pub fn with_diverted(mut self, diversions: Diversions) -> Self {
        self.diversions = diversions;
        self
    }

    /// Makes the tables serve clients of these regions otherwise, and those of all others as was compiled.
    ///
    /// # Errors
    /// If the tables are not those of this generation.
    pub fn divert(
        &mut self,
        compiled: &Compiled,
        tables: &LiveTables,
        wanted: Diversions,
    ) -> Result<(), Behind> {
        if wanted == self.diversions {
            return Ok(());
        }
        self.epoch = self.epoch.wrapping_add(1);
        let held = std::mem::replace(&mut self.diversions, wanted);
        for region in held.keys().filter(|region| !self.diversions.contains_key(region)) {
            put(tables, compiled.diverted(*region, None))?;
        }
        for (region, instead) in &self.diversions {
            if held.get(region) != Some(instead) {
                put(tables, compiled.diverted(*region, Some(*instead)))?;
            }
        }
        Ok(())
    }
}

fn put(tables: &LiveTables, cells: Vec<(u32, u32)>) -> Result<(), Behind> {
    cells.into_iter().try_for_each(|(cell, group)| tables.put_cell(cell, group).ok_or(Behind::NoGroup(group)))
}
