//! Following health and load within a generation: the second tier of change. Affected share groups get new records,
//! each published by one store, and everything else stays as it is.

use super::records::{Block, Records};
use crate::dataplane::LiveTables;
use redirector_core::table::{GroupPointer, NONE, Tables};
use redirector_plan::compile::Compiled;
use redirector_plan::model::TargetState;
use redirector_plan::shares::{records, relocate};
use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

/// Why tables could not follow: a new generation is needed.
#[derive(Debug, thiserror::Error)]
pub enum Behind {
    /// Every free record is in use or rests.
    #[error("no room for new share records")]
    NoRoom,
    /// The kernel gives no grace period.
    #[error("no share record can be used again: membarrier: {0}")]
    Barrier(#[from] io::Error),
    /// The tables are not those of this generation.
    #[error("share group {0} is not in the tables")]
    NoGroup(u32),
}

/// What is written where in one generation's tables.
#[derive(Debug)]
pub struct Live {
    records: Records,
    /// By group: its present block; `None` if it has no usable target.
    blocks: Vec<Option<Block>>,
    epoch: u32,
}

impl Live {
    /// The state of tables as they were compiled.
    pub fn new(compiled: &Compiled, tables: &LiveTables) -> Self {
        let pointers = compiled.image.groups.iter().map(|pointer| pointer.record());
        let starts: Vec<u32> = pointers.take(compiled.groups.len()).collect();
        let mut blocks = vec![None; starts.len()];
        let mut end = compiled.records_used;
        // Blocks lie in the order of their groups, so each ends where the next one begins.
        for (block, first) in blocks.iter_mut().zip(starts).rev().filter(|(_, first)| *first != NONE) {
            *block = Some(Block { first, len: end - first });
            end = first;
        }
        Self { records: Records::new(compiled.records_used, tables.record_capacity()), blocks, epoch: 0 }
    }

    /// Number of the last change; 0 if there was none.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Makes the tables follow changes of `targets`, whose states are now as in `states`. Gives the number of groups
    /// whose records changed.
    ///
    /// # Errors
    /// If a group could not be written; it and those after it are as they were.
    pub fn follow(
        &mut self,
        compiled: &Compiled,
        tables: &LiveTables,
        targets: &[usize],
        states: &[TargetState],
        now: Instant,
    ) -> Result<usize, Behind> {
        let groups = targets.iter().filter_map(|target| compiled.target_groups.get(*target)).flatten();
        let groups: BTreeSet<u32> = groups.copied().collect();
        let epoch = self.epoch.wrapping_add(1);
        let mut changed = 0;
        for group in groups {
            if self.rewrite(compiled, tables, group, states, epoch, now)? {
                self.epoch = epoch;
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// Publishes new records of a group if they differ from its present ones.
    fn rewrite(
        &mut self,
        compiled: &Compiled,
        tables: &LiveTables,
        group: u32,
        states: &[TargetState],
        epoch: u32,
        now: Instant,
    ) -> Result<bool, Behind> {
        let (Some(spec), Some(present)) =
            (compiled.groups.get(group as usize), self.blocks.get(group as usize).copied())
        else {
            return Err(Behind::NoGroup(group));
        };
        let next = match records(spec, states) {
            None if present.is_none() => return Ok(false),
            None => None,
            Some(mut block) => {
                if present.is_some_and(|present| holds(tables, present, &block)) {
                    return Ok(false);
                }
                let place = self.records.take(block.len() as u32, now)?.ok_or(Behind::NoRoom)?;
                relocate(&mut block, place.first);
                tables.write_records(place.first, &block).ok_or(Behind::NoRoom)?;
                Some(place)
            }
        };
        let first = next.map_or(NONE, |block| block.first);
        tables.point(group, GroupPointer::new(first, epoch)).ok_or(Behind::NoGroup(group))?;
        self.blocks[group as usize] = next;
        if let Some(replaced) = present {
            self.records.retire(replaced, now);
        }
        Ok(true)
    }
}

/// Whether `place` holds these records already.
fn holds(tables: &LiveTables, place: Block, block: &[redirector_core::table::ShareRecord]) -> bool {
    let mut block = block.to_vec();
    relocate(&mut block, place.first);
    block.len() == place.len as usize
        && (place.first..).zip(&block).all(|(index, record)| tables.record(index) == Some(record))
}
