//! Agreements as they hold now: what the file says, what was decided at run time, and how full they are (P-29, P-31).
//!
//! What is decided at run time goes before the file, until the file says something else about the same agreement.

use super::facts::{FULL, Fact};
use super::quota::Governor;
use redirector_plan::model::{Network, Origin};
use redirector_plan::peering::{self, Agreement, Carries, Consent, Lapse, Terms};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::warn;

/// How long a report of edges counts.
const REPORT_AGE: Duration = Duration::from_secs(60);
/// What stands for a file in the origin of agreements that were made at run time.
pub const RUN_TIME: &str = "run time";

/// An agreement by names alone, to be kept and compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Name of the network whose clients are served by it.
    pub network: String,
    /// The CDN that it is made with.
    pub with: String,
    /// The broker that owns it.
    pub owner: Option<String>,
    /// What it covers.
    pub carries: Carries,
    /// Place among several.
    pub order: u32,
    /// Millionths.
    pub price: u64,
    /// When it holds, and how much.
    pub terms: Terms,
}

impl Recorded {
    /// Of an agreement of this network.
    pub fn of(network: &Network, agreement: &Agreement) -> Self {
        let Agreement { with, owner, carries, order, price, terms, .. } = agreement.clone();
        let owned = network.peering.networks.get(agreement.network);
        let network = owned.map(|network| network.name.clone()).unwrap_or_default();
        Self { network, with, owner, carries, order, price, terms }
    }

    /// In this network; `None` if that lacks the network of the agreement.
    fn agreement(&self, name: &str, network: &Network) -> Option<Agreement> {
        let Self { with, owner, carries, order, price, terms, .. } = self.clone();
        let index = network.peering.networks.iter().position(|known| known.name == self.network)?;
        let origin = Origin { file: RUN_TIME.to_owned(), line: 0, column: 0 };
        Some(Agreement {
            name: name.to_owned(),
            network: index,
            with,
            owner,
            carries,
            order,
            price,
            terms,
            origin,
        })
    }

    /// Whether two differ in nothing but their terms, which are followed without new tables.
    pub fn is_alike_but_for_terms(&self, other: &Self) -> bool {
        *self == Self { terms: self.terms.clone(), ..other.clone() }
    }
}

/// What was decided at run time about one agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What the file said of it then; `None`: nothing.
    over: Option<Recorded>,
    /// What holds instead.
    now: Recorded,
}

/// Decisions by the agreement's name, as they are kept between runs.
pub type Decisions = BTreeMap<String, Decision>;

/// How an agreement is doing.
#[derive(Debug, Clone, Default)]
struct Flow {
    requests: Governor,
    bits: Governor,
    /// When edges reported.
    reported: Option<Instant>,
    /// What was booked to it until the last sample.
    booked: u64,
}

/// All agreements of a box.
#[derive(Debug, Clone, Default)]
pub struct Book {
    decisions: Decisions,
    /// What the file says, by name.
    file: BTreeMap<String, Recorded>,
    /// What holds, in the order of the network's agreements.
    agreements: Vec<Agreement>,
    flows: BTreeMap<String, Flow>,
    /// Percent of each capacity that this box may use.
    quota: u64,
}

/// How one agreement is, for reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Why it does not hold; `None`: it does.
    pub lapse: Option<Lapse>,
    /// Part of its clients that it takes, in 1/256; less than all: it is full.
    pub factor: u16,
    /// Requests that were booked to it since counting began.
    pub booked: u64,
    /// Requests a second.
    pub rate: f64,
    /// Bits a second, as edges reported last.
    pub bits: f64,
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Book {
    /// With what was decided in earlier runs.
    pub fn new(decisions: Decisions) -> Self {
        Self { decisions, quota: 100, ..Self::default() }
    }

    /// What was decided at run time, to be kept.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// What holds, in the order of the network's agreements.
    pub fn agreements(&self) -> &[Agreement] {
        &self.agreements
    }

    /// Whether something else than the file decides about an agreement.
    pub fn is_decided(&self, name: &str) -> bool {
        self.decisions.contains_key(name)
    }

    /// Takes in a network as the file has it, and puts what was decided at run time into it. Gives the names of
    /// agreements about which the file says something new: it decides about them from now on.
    pub fn read(&mut self, network: &mut Network, quota: u8) -> Vec<String> {
        let recorded = |one: &Agreement| (one.name.clone(), Recorded::of(network, one));
        self.file = network.peering.agreements.iter().map(recorded).collect();
        let changed = |(name, decision): (&String, &Decision)| {
            (self.file.get(name) != decision.over.as_ref()).then(|| name.clone())
        };
        let dropped: Vec<String> = self.decisions.iter().filter_map(changed).collect();
        self.decisions.retain(|name, _| !dropped.contains(name));
        self.quota = u64::from(quota);
        self.put(network);
        dropped
    }

    /// Puts what was decided at run time into a network, and keeps what holds there.
    fn put(&mut self, network: &mut Network) {
        let mut by_name: BTreeMap<String, Agreement> =
            network.peering.agreements.iter().map(|one| (one.name.clone(), one.clone())).collect();
        for (name, decision) in &self.decisions {
            let Some(made) = decision.now.agreement(name, network) else {
                warn!(
                    "agreement {name} of run time is left out: there is no network {}",
                    decision.now.network
                );
                continue;
            };
            let origin = by_name.get(name).map_or(made.origin.clone(), |written| written.origin.clone());
            by_name.insert(name.clone(), Agreement { origin, ..made });
        }
        network.peering.agreements = by_name.into_values().collect();
        peering::settle(network);
        self.keep(network);
    }

    /// Puts what was decided at run time into a network that holds now.
    pub fn put_again(&mut self, network: &mut Network) {
        network.peering.agreements = self.written(network);
        self.put(network);
    }

    /// Undoes decisions; how full agreements are stays.
    pub fn go_back(&mut self, before: Self) {
        *self = Self { flows: std::mem::take(&mut self.flows), ..before };
    }

    /// Takes in a network that holds as it is.
    pub fn keep(&mut self, network: &Network) {
        self.agreements.clone_from(&network.peering.agreements);
        self.flows.retain(|name, _| self.agreements.iter().any(|one| one.name == *name));
    }

    /// The agreements of the file, without what was decided at run time.
    pub fn written(&self, network: &Network) -> Vec<Agreement> {
        let written = |one: &Agreement| match self.file.get(&one.name) {
            Some(recorded) => {
                Some(Agreement { origin: one.origin.clone(), ..recorded.agreement(&one.name, network)? })
            }
            None => None,
        };
        network.peering.agreements.iter().filter_map(written).collect()
    }

    /// Takes over how full agreements are.
    pub fn take_flows(&mut self, other: &Self) {
        self.flows = other.flows.clone();
        self.flows.retain(|name, _| self.agreements.iter().any(|one| one.name == *name));
    }

    /// Decides about an agreement; gives what it is now.
    pub fn decide(&mut self, name: &str, now: Recorded) {
        let over = self.file.get(name).cloned();
        if over.as_ref() == Some(&now) {
            self.decisions.remove(name);
        } else {
            self.decisions.insert(name.to_owned(), Decision { over, now: now.clone() });
        }
        for agreement in self.agreements.iter_mut().filter(|one| one.name == name) {
            agreement.terms = now.terms.clone();
        }
    }

    /// What this box may book in a second of a capacity.
    fn share(&self, capacity: Option<u64>) -> Option<u64> {
        capacity.map(|capacity| match capacity {
            0 => 0,
            some => (some.saturating_mul(self.quota) / 100).max(1),
        })
    }

    /// Takes in what was booked until now, in the order of the agreements.
    pub fn sample(&mut self, now: Instant, booked: &[u64]) {
        for (index, count) in booked.iter().enumerate().take(self.agreements.len()) {
            let limit = self.share(self.agreements[index].terms.requests);
            let flow = self.flows.entry(self.agreements[index].name.clone()).or_default();
            flow.requests.sample(now, *count, limit);
            flow.booked = *count;
            let is_old = |reported: Instant| now.saturating_duration_since(reported) > REPORT_AGE;
            if self.agreements[index].terms.bits.is_none() || flow.reported.is_none_or(is_old) {
                flow.bits = Governor::default();
            }
        }
    }

    /// Takes in how many bits a second edges served for an agreement.
    ///
    /// # Errors
    /// If there is no such agreement.
    pub fn report(&mut self, now: Instant, name: &str, bits: u64) -> Result<(), String> {
        let found = self.agreements.iter().find(|one| one.name == name);
        let agreement = found.ok_or_else(|| format!("there is no agreement {name:?}"))?;
        let limit = self.share(agreement.terms.bits);
        let flow = self.flows.entry(name.to_owned()).or_default();
        flow.bits.told(now, bits as f64, limit);
        flow.reported = Some(now);
        Ok(())
    }

    /// How an agreement is at a time in seconds since 1970.
    pub fn standing(&self, agreement: &Agreement, now: u64) -> Standing {
        let flow = self.flows.get(&agreement.name).cloned().unwrap_or_default();
        Standing {
            lapse: agreement.terms.lapse(now),
            factor: flow.requests.factor().min(flow.bits.factor()).min(FULL),
            booked: flow.booked,
            rate: flow.requests.rate(),
            bits: flow.bits.rate(),
        }
    }

    /// Puts the state of all agreements of a network into its targets' facts; gives the targets that changed.
    pub fn apply(&self, network: &Network, facts: &mut [Fact], now: u64) -> Vec<usize> {
        let mut changed = Vec::new();
        for (index, agreement) in self.agreements.iter().enumerate() {
            let Standing { lapse, factor, .. } = self.standing(agreement, now);
            let up = lapse.is_none();
            for target in network.peering.agreement_targets(index) {
                let Some(fact) = facts.get_mut(target) else { continue };
                if (fact.up, fact.factor) == (up, factor) {
                    continue;
                }
                if fact.up != up {
                    fact.since = SystemTime::now();
                }
                (fact.up, fact.factor) = (up, factor);
                fact.last_error = lapse.map(|lapse| lapse.to_string());
                changed.push(target);
            }
        }
        changed
    }

    /// Whether any agreement needs to be looked at.
    pub fn is_empty(&self) -> bool {
        self.agreements.is_empty()
    }
}

/// An agreement that a broker or the operator has proposed.
pub fn offered(recorded: Recorded) -> Recorded {
    Recorded { terms: Terms { state: Consent::Offered, ..recorded.terms }, ..recorded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Errors, parse};
    use std::path::Path;

    /// The example of the tests of front ends with two agreements of the box's network.
    fn network(price: u32) -> Network {
        let more = format!(
            "[network]\nname = \"acme\"\n[[peering]]\nname = \"a\"\nwith = \"one\"\nprice = {price}\n\
             [[peering]]\nname = \"b\"\nwith = \"two\"\ncapacity = \"1 Gbit/s\"\n\
             [[target]]\nname = \"edge\"\ncname = \"edge.example\"\n\
             [[provider]]\nname = \"p\"\ncustomers = [\"abc\"]\noutside = \"edge\"\n\
             primary = [\"one\", \"two\", \"three\"]\n"
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let text = std::fs::read_to_string(path.join("redirector.toml")).expect("the example");
        parse("test.toml", text + &more, &path, Errors::Refuse).expect("a configuration").network
    }

    fn withdrawn(book: &Book, network: &Network, name: &str) -> Recorded {
        let held = book.agreements().iter().find(|one| one.name == name).expect("an agreement");
        let recorded = Recorded::of(network, held);
        Recorded { terms: Terms { state: Consent::Withdrawn, ..recorded.terms.clone() }, ..recorded }
    }

    fn states(book: &Book) -> Vec<(&str, Consent, u64)> {
        book.agreements().iter().map(|one| (&*one.name, one.terms.state, one.price)).collect()
    }

    #[test]
    fn run_time_goes_before_the_file_until_that_says_something_new() {
        let (mut book, mut first) = (Book::new(Decisions::new()), network(1));
        assert!(book.read(&mut first, 100).is_empty());
        let ended = withdrawn(&book, &first, "a");
        book.decide("a", ended.clone());
        let offer = offered(Recorded { with: "three".into(), ..withdrawn(&book, &first, "b") });
        book.decide("c", offer.clone());
        // What it is made of in a later run, of the same file.
        let text = serde_json::to_string(book.decisions()).expect("JSON");
        let (mut later, mut second) =
            (Book::new(serde_json::from_str(&text).expect("decisions")), network(1));
        assert!(later.read(&mut second, 100).is_empty());
        let [a, b, c] = states(&later)[..] else { panic!("three agreements") };
        assert_eq!((a.1, b.1, c.1), (Consent::Withdrawn, Consent::Accepted, Consent::Offered));
        assert!(later.is_decided("a") && !later.is_decided("b"));
        let written = later.written(&second);
        assert_eq!((written.len(), written[0].terms.state), (2, Consent::Accepted), "the file alone");
        let targets: Vec<usize> = (0..3).flat_map(|one| second.peering.agreement_targets(one)).collect();
        let behind = second.peering.written_targets;
        assert_eq!(targets, [behind, behind + 1, behind + 2], "each has its target");
        assert_eq!(second.targets.len(), behind + 3);
        // Another price in the file: it decides about that agreement again, and about no other.
        let mut third = network(2);
        assert_eq!(later.read(&mut third, 100), ["a"]);
        let [a, _, c] = states(&later)[..] else { panic!("three agreements") };
        assert_eq!((a, c.1), (("a", Consent::Accepted, 2_000_000), Consent::Offered));
        // To decide what the file says is to decide nothing.
        let same = Recorded::of(&third, &later.agreements()[0]);
        later.decide("a", same);
        assert!(!later.is_decided("a"));
    }

    #[test]
    fn a_change_of_terms_alone_needs_no_new_tables() {
        let (mut book, mut network) = (Book::new(Decisions::new()), network(1));
        book.read(&mut network, 100);
        let held = Recorded::of(&network, &book.agreements()[0]);
        assert!(held.is_alike_but_for_terms(&withdrawn(&book, &network, "a")));
        assert!(!held.is_alike_but_for_terms(&Recorded { price: 7, ..held.clone() }));
    }

    #[test]
    fn reports_of_edges_count_for_a_while_and_for_this_boxs_quota() {
        let (mut book, mut network) = (Book::new(Decisions::new()), network(1));
        book.read(&mut network, 50);
        let (began, now) = (Instant::now(), unix_now());
        let factor = |book: &Book| book.standing(&book.agreements()[1], now).factor;
        book.report(began, "b", 500_000_000).expect("an agreement");
        assert_eq!(factor(&book), 256, "half of a gigabit is this box's");
        book.report(began, "b", 1_000_000_000).expect("an agreement");
        assert_eq!(factor(&book), 128);
        book.sample(began + REPORT_AGE, &[0, 0]);
        assert_eq!(factor(&book), 128);
        book.sample(began + REPORT_AGE + Duration::from_millis(1), &[0, 0]);
        assert_eq!(factor(&book), 256);
        assert!(book.report(began, "d", 1).is_err());
    }
}
