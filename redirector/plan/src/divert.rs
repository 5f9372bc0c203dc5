//! Regions whose clients are served otherwise than the coverages say, for a while.
//!
//! What changes are cells of the tables, one 32-bit store each; groups and records stay.

use crate::compile::Compiled;
use crate::image::TableImage;
use crate::regions::Class;
use redirector_core::table::NONE;
use std::collections::BTreeMap;

/// Cells in one value of their table.
const WORDS: usize = 16;

/// Who serves clients of a region instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Whoever serves clients of no region: tiers for `*`.
    Elsewhere,
    /// No tier: the services' fallbacks alone.
    Nobody,
}

/// By region number: those who are served otherwise.
pub type Diversions = BTreeMap<u32, Instead>;

impl Compiled {
    /// The number of clients in no region who are of the same network as those of `number`, if there are any.
    pub fn elsewhere(&self, number: u32) -> Option<u32> {
        let network = self.classes.get(number as usize)?.network;
        let found = self.classes.iter().position(|class| *class == Class { region: 0, network })?;
        u32::try_from(found).ok()
    }

    /// The cells of a region's clients, by number, and the share groups in them; without `instead`, those that were
    /// compiled. Who may serve providers' content for clients whom nobody serves stays: it is no matter of servers.
    pub fn diverted(&self, region: u32, instead: Option<Instead>) -> Vec<(u32, u32)> {
        let regions = self.image.meta.regions;
        let rows = (self.image.cells.len() * WORDS) as u32 / regions.max(1);
        let provided = self.provided.values().min().map_or(u32::MAX, |first| first * 2);
        let classes = (0..).zip(&self.classes).filter(|(_, class)| class.region == region);
        let numbers: Vec<(u32, Option<u32>)> =
            classes.map(|(number, _)| (number, self.elsewhere(number))).collect();
        let cells = (0..rows).flat_map(|row| numbers.iter().map(move |numbers| (row, *numbers)));
        let group = |row: u32, number: u32| cell(&self.image, row * regions + number);
        let diverted = |(row, (number, elsewhere)): (u32, (u32, Option<u32>))| {
            let is_provided = row >= provided;
            let group = match (instead, elsewhere) {
                (Some(Instead::Nobody), _) if !is_provided => Some(NONE),
                (Some(Instead::Elsewhere), Some(elsewhere)) => group(row, elsewhere),
                (Some(Instead::Elsewhere), None) if !is_provided => group(row, 0),
                _ => group(row, number),
            };
            Some((row * regions + number, group?))
        };
        cells.filter_map(diverted).collect()
    }

    /// Calls `publish` with the image in which these regions' clients are served otherwise.
    pub fn with_diverted<T>(&mut self, diversions: &Diversions, publish: impl FnOnce(&TableImage) -> T) -> T {
        let cells = |instead: &dyn Fn(Instead) -> Option<Instead>| -> Vec<(u32, u32)> {
            diversions.iter().flat_map(|(region, how)| self.diverted(*region, instead(*how))).collect()
        };
        let (compiled, diverted) = (cells(&|_| None), cells(&Some));
        self.put(&diverted);
        let published = publish(&self.image);
        self.put(&compiled);
        published
    }

    fn put(&mut self, cells: &[(u32, u32)]) {
        for (number, group) in cells {
            let number = *number as usize;
            if let Some(words) = self.image.cells.get_mut(number / WORDS) {
                words.words[number % WORDS] = *group;
            }
        }
    }
}

fn cell(image: &TableImage, number: u32) -> Option<u32> {
    let number = number as usize;
    Some(image.cells.get(number / WORDS)?.words[number % WORDS])
}
