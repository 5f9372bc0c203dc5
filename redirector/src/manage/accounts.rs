//! Accounts of a running box: what is counted where, and what is asked of them.

use super::agent::Agent;
use crate::accounts::Roster;
use crate::accounts::batches::Served;
use crate::accounts::clients::Heard;
use crate::accounts::deliver::{Office, serve};
use crate::accounts::keeper::{Condition, Keeper, Source};
use crate::accounts::query::Question;
use crate::config::{AccountTerms, CollectorTerms};
use crate::dataplane::TargetCounters;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often it is looked who is a collector.
const LOOK: Duration = Duration::from_secs(1);

/// The counters of a box, and who was served.
struct Counted(Weak<Agent>, Arc<Mutex<Heard>>);

impl Counted {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Sums are whole after any panic.
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

    fn box_name(&self) -> String {
        self.0.upgrade().map_or_else(String::new, |agent| agent.current.load().config.box_.name.clone())
    }

    fn listen(&self) {
        self.heard().listen();
    }

    fn served(&self) -> (Vec<Served>, u64) {
        let Some(agent) = self.0.upgrade() else { return (Vec::new(), 0) };
        let (noted, left_out) = self.heard().take();
        if noted.is_empty() {
            return (Vec::new(), left_out);
        }
        let services: HashSet<u32> = noted.keys().map(|led| led.service).collect();
        let targets: HashSet<u32> = noted.keys().flat_map(|led| [led.target, led.account]).collect();
        let inner = agent.inner();
        let [service_names, _, target_names, _] = inner.slots.names();
        let named = |names: &BTreeMap<String, u32>, wanted: &HashSet<u32>| -> HashMap<u32, String> {
            let wanted = names.iter().filter(|(_, slot)| wanted.contains(slot));
            wanted.map(|(name, slot)| (*slot, name.clone())).collect()
        };
        let (services, targets) = (named(service_names, &services), named(target_names, &targets));
        drop(inner);
        let name = |names: &HashMap<u32, String>, slot: u32| names.get(&slot).cloned().unwrap_or_default();
        let served = noted.into_iter().map(|(led, times)| Served {
            client: led.client,
            account: name(&targets, led.account),
            service: name(&services, led.service),
            target: name(&targets, led.target),
            first: times.first,
            last: times.last,
            requests: times.requests,
            told: times.told,
        });
        (served.collect(), left_out)
    }
}

/// The box, for those who deliver.
struct Delivering(Arc<Agent>);

impl Office for Delivering {
    fn keeper(&self) -> Option<&Keeper> {
        self.0.keeper.get()
    }

    fn collectors(&self) -> (Vec<CollectorTerms>, IpAddr) {
        let generation = self.0.current.load();
        (generation.config.accounts.collectors.clone(), generation.config.box_.management)
    }
}

impl Agent {
    /// Begins to keep accounts.
    pub(super) fn keep_accounts(self: &Arc<Self>) -> io::Result<()> {
        let counted = Counted(Arc::downgrade(self), Arc::clone(&self.inner().recording.heard));
        let keeper = Keeper::start(self.disk.path(), counted)?;
        // There is none: a box starts once.
        let _ = self.keeper.set(keeper);
        tokio::spawn(Arc::clone(self).deliver());
        Ok(())
    }

    /// Sees to it that each collector is served.
    async fn deliver(self: Arc<Self>) {
        let mut served: HashMap<String, JoinHandle<()>> = HashMap::new();
        loop {
            let collectors = self.current.load().config.accounts.collectors.clone();
            served.retain(|_, task| !task.is_finished());
            for CollectorTerms { name, .. } in collectors {
                let (agent, collector) = (Arc::clone(&self), name.clone());
                served.entry(name).or_insert_with(|| {
                    tokio::spawn(async move { serve(&Delivering(agent), &collector).await })
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks the accounts something.
    ///
    /// # Errors
    /// Why they do not answer.
    pub async fn accounts(&self, question: Question) -> Result<Value, String> {
        if let Question::Batch { .. } | Question::Delivered { .. } = question {
            return Err("batches are for collectors".to_owned());
        }
        let keeper = self.keeper.get().ok_or("the box is starting: ask again")?;
        serde_json::to_value(keeper.ask(question).await?).map_err(|error| error.to_string())
    }

    /// How the keeping of accounts is doing.
    pub fn accounts_condition(&self) -> Condition {
        self.keeper.get().map(Keeper::condition).unwrap_or_default()
    }
}
