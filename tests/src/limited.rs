//! Rate limits in memory, for what is run natively.

use crate::generate::Random;
use redirector_core::limit::{Limits, Line, STRIDE};

/// The buckets of one CPU.
#[derive(Debug, Clone)]
pub struct Buckets {
    lines: Vec<Line>,
    random: Random,
}

impl Buckets {
    /// Empty ones, and chance that begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { lines: vec![Line::default(); STRIDE as usize], random: Random::new(seed) }
    }
}

impl Limits for Buckets {
    fn line(&mut self, index: u32) -> Option<&mut Line> {
        self.lines.get_mut(index as usize)
    }
    fn random(&mut self) -> u32 {
        self.random.bits() as u32
    }
}
