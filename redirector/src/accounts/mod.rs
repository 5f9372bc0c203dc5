//! Accounts: what was served for whom, kept for settlement (P-30, P-31).
//!
//! What is counted stands in counters that go on by themselves: the fast path's outlive the daemon, the slow path's its
//! generations. Twice a second the [`keeper`] reads them; the [`ledger`] books what was added since the reading before,
//! and the [`store`] writes both, readings and sums, in one transaction. So however the daemon ends, nothing is booked
//! twice, and what the next one finds in the counters beyond the last reading is booked then.

pub mod keeper;
pub mod ledger;
pub mod query;
mod rows;
pub mod store;

use redirector_plan::counters::CounterSlots;
use redirector_plan::model::Network;
use redirector_plan::peering::ServedFor;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Name of the store in the state directory.
pub const FILE: &str = "accounts.redb";

/// What kind of account something is booked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Content of a provider, served by an agreement with its primary CDN.
    Agreement,
    /// Content of a provider, served by a primary CDN of its own.
    Network,
    /// Content of a provider, left to its own CDN.
    Outside,
    /// A target, whatever was asked for.
    #[default]
    Target,
}

impl Kind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::Network => "network",
            Self::Outside => "outside",
            Self::Target => "target",
        }
    }
}

/// What something is booked to. Each request that a server answers for a provider's content is booked to one account
/// of an agreement or network, and to that of the server's target beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Name of the target that is counted; no other account has it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The agreement.
    pub agreement: Option<String>,
    /// The provider whose content it is.
    pub provider: Option<String>,
    /// The primary CDN that the agreement is with, or that serves.
    pub cdn: Option<String>,
    /// The network whose servers serve.
    pub network: Option<String>,
    /// The broker that owns the agreement.
    pub broker: Option<String>,
    /// The agreement's price in millionths.
    pub price: u64,
}

impl Account {
    /// Of a name of which nothing else is known.
    pub fn of_target(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// All accounts of a generation, and where each is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Number of the generation.
    pub generation: u64,
    /// Counter slot and account; those that only earlier generations had are known by their names alone.
    pub accounts: Vec<(u32, Result<Account, String>)>,
}

impl Roster {
    /// Of a network whose targets are counted in these slots.
    pub fn new(generation: u64, network: &Network, slots: &CounterSlots) -> Self {
        let mut outside: HashMap<usize, Option<&str>> = HashMap::new();
        for provider in &network.peering.providers {
            let Some(target) = provider.outside else { continue };
            // What several providers share, or what serves others, too, is not any one's.
            let known = outside.entry(target).or_insert(Some(&provider.name));
            if *known != Some(&provider.name) {
                *known = None;
            }
        }
        let pooled = network.pools.iter().flat_map(|pool| &pool.members).map(|(target, _)| *target);
        let fallbacks = network.services.iter().flat_map(|service| service.fallback.iter().copied());
        pooled.chain(fallbacks).for_each(|target| {
            outside.remove(&target);
        });
        let mut current: HashMap<&str, Account> = HashMap::new();
        for (index, target) in network.targets.iter().enumerate() {
            let mut account = Account::of_target(&target.name);
            if let Some(served) = network.peering.account_of(index) {
                account.served(network, served);
            } else if let Some(Some(provider)) = outside.get(&index) {
                (account.kind, account.provider) = (Kind::Outside, Some((*provider).to_owned()));
            }
            current.insert(&target.name, account);
        }
        let [_, _, names, _] = slots.names();
        let known = |(name, slot): (&String, &u32)| {
            (*slot, current.get(name.as_str()).cloned().ok_or_else(|| name.clone()))
        };
        Self { generation, accounts: names.iter().map(known).collect() }
    }
}

impl Account {
    fn served(&mut self, network: &Network, served: ServedFor) {
        let peering = &network.peering;
        match served {
            ServedFor::Agreement { agreement, provider } => {
                let agreement = &peering.agreements[agreement];
                self.kind = Kind::Agreement;
                self.agreement = Some(agreement.name.clone());
                self.provider = Some(peering.providers[provider].name.clone());
                self.cdn = Some(agreement.with.clone());
                self.network = Some(peering.networks[agreement.network].name.clone());
                self.broker.clone_from(&agreement.owner);
                self.price = agreement.price;
            }
            ServedFor::Own { network, provider } => {
                let network = &peering.networks[network].name;
                self.kind = Kind::Network;
                self.provider = Some(peering.providers[provider].name.clone());
                self.cdn = Some(network.clone());
                self.network = Some(network.clone());
            }
        }
    }
}
