//! Accounts of a running box: what is counted where, and what is asked of them.

use super::agent::Agent;
use crate::accounts::Roster;
use crate::accounts::keeper::{Condition, Keeper, Source};
use crate::accounts::query::Question;
use crate::config::AccountTerms;
use crate::dataplane::TargetCounters;
use serde_json::Value;
use std::io;
use std::sync::{Arc, Weak};

/// The counters of a box.
struct Counted(Weak<Agent>);

impl Source for Counted {
    fn generation(&self) -> u64 {
        self.0.upgrade().map_or(0, |agent| agent.current.load().number)
    }

    fn roster(&self) -> Roster {
        let Some(agent) = self.0.upgrade() else { return Roster::default() };
        // No generation is published meanwhile.
        let inner = agent.inner();
        let generation = agent.current.load();
        Roster::new(generation.number, &generation.config.network, &inner.slots)
    }

    fn terms(&self) -> AccountTerms {
        self.0
            .upgrade()
            .map_or_else(AccountTerms::default, |agent| agent.current.load().config.accounts.clone())
    }

    fn fast(&self) -> io::Result<Option<Arc<TargetCounters>>> {
        self.0.upgrade().map_or(Ok(None), |agent| agent.inner().dataplane.target_counters())
    }

    fn slow(&self) -> Vec<u64> {
        self.0.upgrade().map_or_else(Vec::new, |agent| agent.shared.counters.targets())
    }
}

impl Agent {
    /// Begins to keep accounts.
    pub(super) fn keep_accounts(self: &Arc<Self>) -> io::Result<()> {
        let keeper = Keeper::start(self.disk.path(), Counted(Arc::downgrade(self)))?;
        // There is none: a box starts once.
        let _ = self.keeper.set(keeper);
        Ok(())
    }

    /// Asks the accounts something.
    ///
    /// # Errors
    /// Why they do not answer.
    pub async fn accounts(&self, question: Question) -> Result<Value, String> {
        let keeper = self.keeper.get().ok_or("the box is starting: ask again")?;
        serde_json::to_value(keeper.ask(question).await?).map_err(|error| error.to_string())
    }

    /// How the keeping of accounts is doing.
    pub fn accounts_condition(&self) -> Condition {
        self.keeper.get().map(Keeper::condition).unwrap_or_default()
    }
}
