//! Who may still be looking at a share record that was replaced: readers in this process.
//!
//! A reader holds the phase in which it began. Whoever wants to write where readers may look ends the phase, and waits
//! until nobody holds it any more: all who began before are done then, and those who began later found the pointers as
//! they were by then. To enter costs what [`ArcSwap::load`] does, a few nanoseconds and no shared cache line.

use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;

/// What readers hold; each is another allocation.
#[derive(Debug, Default)]
pub(super) struct Phase(());

/// The readers of one generation's tables.
#[derive(Debug, Default)]
pub struct Readers(ArcSwap<Phase>);

impl Readers {
    /// A reader begins; it is done when it drops the phase.
    pub(super) fn enter(&self) -> Guard<Arc<Phase>> {
        self.0.load()
    }

    /// Ends the present phase.
    pub fn end_phase(&self) -> EndedPhase {
        EndedPhase(self.0.swap(Arc::default()))
    }
}

/// A phase in which no reader begins any more.
#[derive(Debug)]
pub struct EndedPhase(Arc<Phase>);

impl EndedPhase {
    /// Whether all of its readers are done; nothing of what they read happens after this says so.
    pub fn is_over(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_over_when_those_who_began_in_it_are_done_and_not_before() {
        let readers = Readers::default();
        let (first, second) = (readers.enter(), readers.enter());
        let mut ended = readers.end_phase();
        assert!(!ended.is_over());
        // Whoever begins later does not put the end off.
        let later = readers.enter();
        drop(first);
        assert!(!ended.is_over());
        drop(second);
        assert!(ended.is_over());
        let mut next = readers.end_phase();
        assert!(!next.is_over());
        drop(later);
        assert!(next.is_over());
        assert!(readers.end_phase().is_over(), "nobody began in it");
    }
}
