//! Agreements at run time: offered, accepted, changed and ended through the control socket (P-31), and kept in force by
//! the clock (P-29).

use super::agent::{Agent, Inner, Loaded};
use crate::config::terms::{self, Capacity};
use crate::state::agreements::{Book, Recorded, Standing, offered, unix_now};
use redirector_plan::model::{Network, Origin};
use redirector_plan::peering::{Carries, Consent, Terms};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

/// How often it is looked what holds and how full it is: much less than the second within which it must be in effect.
const TICK: Duration = Duration::from_millis(100);

/// What is to be done about agreements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// Shows all.
    List,
    /// Proposes one.
    Offer {
        /// Its name: a new one, or that of one that was withdrawn.
        name: String,
        /// What is proposed.
        #[serde(flatten)]
        wish: Wish,
        /// Through which broker.
        #[serde(default)]
        broker: Option<String>,
    },
    /// Takes one that was offered.
    Accept {
        /// Its name.
        name: String,
        /// Through which broker.
        #[serde(default)]
        broker: Option<String>,
    },
    /// Changes one; what is not told stays.
    Change {
        /// Its name.
        name: String,
        /// What is to be otherwise.
        #[serde(flatten)]
        wish: Wish,
        /// Through which broker.
        #[serde(default)]
        broker: Option<String>,
    },
    /// Withdraws one.
    End {
        /// Its name.
        name: String,
        /// Through which broker.
        #[serde(default)]
        broker: Option<String>,
    },
    /// Tells what edges serve for one.
    Report {
        /// Its name.
        name: String,
        /// Such as `1500 Mbit/s`.
        rate: String,
    },
}

/// What an agreement is to be, as the configuration would have it; what is not told stays or is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(default)]
pub struct Wish {
    /// The CDN that it is made with.
    #[arg(long, value_name = "CDN")]
    pub with: Option<String>,
    /// Network whose clients its servers may serve by this; the box's own unless told.
    #[arg(long)]
    pub network: Option<String>,
    /// Providers that it covers, with commas between them; all unless told.
    #[arg(long, value_delimiter = ',')]
    pub providers: Option<Vec<String>>,
    /// Services that it covers; all unless told.
    #[arg(long, value_delimiter = ',')]
    pub services: Option<Vec<String>>,
    /// Classes of services that it covers; all unless told.
    #[arg(long, value_delimiter = ',')]
    pub classes: Option<Vec<String>>,
    /// "500 requests/s" or "2 Gbit/s", or both with a comma between them; "none" is without limit.
    #[arg(long, value_delimiter = ',')]
    pub capacity: Option<Vec<String>>,
    /// Times of day in UTC, as 18:00-24:00, with commas between them; "always" is every time.
    #[arg(long, value_delimiter = ',')]
    pub hours: Option<Vec<String>>,
    /// Date or time from which it holds; "always" is every time.
    #[arg(long, value_name = "DATE")]
    pub from: Option<String>,
    /// Date or time at which it ends; "always" is never.
    #[arg(long, value_name = "DATE")]
    pub until: Option<String>,
    /// Price: of several agreements of one order, the lowest is used first.
    #[arg(long)]
    pub price: Option<String>,
    /// Place among several that cover the same thing, the lowest first.
    #[arg(long)]
    pub order: Option<u32>,
}

/// One agreement, for reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgreementReport {
    /// Its name.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
    /// Whether something decided at run time goes before what the file says.
    pub decided_at_run_time: bool,
    /// What it is.
    #[serde(flatten)]
    pub recorded: Recorded,
    /// How it is.
    #[serde(flatten)]
    pub standing: Standing,
}

impl AgreementReport {
    /// Of all agreements at one moment.
    pub fn all(network: &Network, book: &Book) -> Vec<Self> {
        let now = unix_now();
        let report = |one: &redirector_plan::peering::Agreement| Self {
            name: one.name.clone(),
            origin: one.origin.clone(),
            decided_at_run_time: book.is_decided(&one.name),
            recorded: Recorded::of(network, one),
            standing: book.standing(one, now),
        };
        book.agreements().iter().map(report).collect()
    }

    /// Whether it is in force, in words.
    pub fn state(&self) -> String {
        match self.standing {
            Standing { lapse: Some(lapse), .. } => lapse.to_string(),
            Standing { factor: 0, .. } => "full: takes nobody".to_owned(),
            Standing { factor, .. } if factor < 256 => {
                format!("full: takes {:.1} % of its clients", f64::from(factor) / 2.56)
            }
            _ => "in force".to_owned(),
        }
    }
}

impl std::fmt::Display for AgreementReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Recorded { network, with, owner, carries, order, price, terms } = &self.recorded;
        write!(f, "agreement {:<20} {network} with {with}: {}", self.name, self.state())?;
        let Standing { booked, rate, .. } = self.standing;
        write!(f, ", {booked} requests booked, {rate:.0} a second")?;
        terms.requests.iter().try_for_each(|limit| write!(f, " of {limit}"))?;
        let bits = |bits: f64| terms::show_bits(bits as u64);
        terms.bits.iter().try_for_each(|limit| {
            write!(f, ", {} of {} reported", bits(self.standing.bits), terms::show_bits(*limit))
        })?;
        let lists = [
            ("providers", &carries.providers),
            ("services", &carries.services),
            ("classes", &carries.classes),
        ];
        for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            write!(f, "; {what} {}", list.join(", "))?;
        }
        terms.hours.iter().try_for_each(|hours| write!(f, "; {hours}"))?;
        terms.from.iter().try_for_each(|from| write!(f, "; from {}", terms::show_instant(*from)))?;
        terms.until.iter().try_for_each(|until| write!(f, "; until {}", terms::show_instant(*until)))?;
        if *price > 0 {
            write!(f, "; price {}", terms::show_price(*price))?;
        }
        if *order > 0 {
            write!(f, "; order {order}")?;
        }
        owner.iter().try_for_each(|owner| write!(f, "; owner {owner}"))?;
        match self.decided_at_run_time {
            true => f.write_str("; decided at run time"),
            false => write!(f, "  ({})", self.origin),
        }
    }
}

/// What is decided: about which agreement, and what it is now.
struct Decided {
    name: String,
    now: Recorded,
    /// New tables are needed.
    structural: bool,
}

impl Agent {
    /// Shows or changes agreements. What changes is in effect when this returns, and is kept for later runs.
    ///
    /// # Errors
    /// What is wrong with it; nothing changes then.
    pub async fn agreement(&self, action: Action) -> Result<Value, String> {
        match &action {
            Action::List => return self.agreements(),
            Action::Report { name, rate } => {
                let Capacity::Bits(bits) = terms::capacity(rate)? else {
                    return Err(format!("`{rate}` is not a rate in bit/s"));
                };
                let mut inner = self.inner();
                inner.book.report(Instant::now(), name, bits)?;
                self.settle_agreements(&mut inner);
                return Ok(json!({ "agreement": name, "bits": bits }));
            }
            _ => {}
        }
        // One change of generation at a time, and none between reading an agreement and changing it.
        let mut front = self.front.lock().await;
        let generation = self.current.load_full();
        let before = self.inner().book.clone();
        let Decided { name, now, structural } = decide(&before, &generation.config.network, action)?;
        let (with, state) = (now.with.clone(), now.terms.state);
        {
            let mut inner = self.inner();
            inner.book.decide(&name, now);
            self.settle_agreements(&mut inner);
        }
        if structural {
            let mut config = generation.config.clone();
            let mut book = self.inner().book.clone();
            book.put_again(&mut config.network);
            let config = config.with_stand_ins();
            let loaded = Loaded { config, read: Duration::ZERO, book };
            if let Err(refused) = self.adopt(loaded, true, &mut front).await {
                let mut inner = self.inner();
                inner.book.go_back(before);
                self.settle_agreements(&mut inner);
                return Err(refused.to_string());
            }
            self.save().await;
        }
        self.save_decisions().await;
        info!("agreement {name} with {with} is {state} now");
        Ok(json!({ "agreement": name, "state": state, "generation": self.current.load().number }))
    }

    fn agreements(&self) -> Result<Value, String> {
        let inner = self.inner();
        let network = &self.current.load_full().config.network;
        serde_json::to_value(AgreementReport::all(network, &inner.book)).map_err(|error| error.to_string())
    }

    /// Makes the tables follow what holds now.
    fn settle_agreements(&self, inner: &mut Inner) {
        let current = self.current.load();
        let network = &current.config.network;
        let changed = inner.book.apply(network, &mut inner.facts, unix_now());
        for target in &changed {
            let (fact, name) = (&inner.facts[*target], &network.targets[*target].name);
            match &fact.last_error {
                Some(lapse) => info!("{name}: {lapse}"),
                None => info!("{name}: in force, takes {}/256 of its clients", fact.factor),
            }
        }
        if !changed.is_empty() {
            self.follow(inner, &changed);
        }
    }

    /// Watches the clock and what is booked.
    pub(super) async fn keep_agreements(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.current.load().config.network.peering.agreements.is_empty() {
                continue;
            }
            let agent = Arc::clone(&self);
            if let Err(panic) = spawn_blocking(move || agent.look_at_agreements()).await {
                error!("agreements are not looked at: {panic}");
            }
        }
    }

    fn look_at_agreements(&self) {
        let mut inner = self.inner();
        let current = self.current.load();
        let network = &current.config.network;
        let targets: Vec<_> =
            (0..inner.book.agreements().len()).map(|one| network.peering.agreement_targets(one)).collect();
        let of_accounts = network.targets.get(network.peering.written_targets..).unwrap_or_default();
        let slots: Vec<u32> =
            of_accounts.iter().map(|target| inner.slots.target_slot(&target.name)).collect();
        match inner.dataplane.target_counts(&slots) {
            Ok(mut counts) => {
                for (count, slot) in counts.iter_mut().zip(&slots) {
                    *count += self.shared.counters.target(*slot);
                }
                let first = network.peering.written_targets;
                let booked = |targets: &Range<usize>| -> u64 {
                    targets.clone().filter_map(|target| counts.get(target - first)).sum()
                };
                let booked: Vec<u64> = targets.iter().map(booked).collect();
                inner.book.sample(Instant::now(), &booked);
            }
            Err(problem) => error!("what is booked to agreements cannot be read: {problem}"),
        }
        self.settle_agreements(&mut inner);
    }
}

/// What an action makes of which agreement.
fn decide(book: &Book, network: &Network, action: Action) -> Result<Decided, String> {
    if network.peering.networks.is_empty() {
        return Err("there is no [network] in the configuration: agreements need its name".to_owned());
    }
    let known = |name: &str| {
        let found = book.agreements().iter().find(|one| one.name == name);
        found.map(|one| Recorded::of(network, one))
    };
    let find = |name: &str, broker: &Option<String>| {
        let held = known(name).ok_or_else(|| {
            format!("there is no agreement `{name}`; `redirector agreement list` shows all")
        })?;
        match (&held.owner, broker) {
            (owner, broker) if owner == broker => Ok(held),
            (Some(owner), _) => Err(format!("broker `{owner}` owns `{name}`: add --as {owner}")),
            (None, _) => Err(format!("no broker owns `{name}`: leave --as out")),
        }
    };
    let with_state = |name: String, held: Recorded, state| {
        let terms = Terms { state, ..held.terms.clone() };
        Decided { name, now: Recorded { terms, ..held }, structural: false }
    };
    match action {
        Action::Offer { name, wish, broker } => {
            let held = known(&name);
            if let Some(held) = held.as_ref().filter(|held| held.terms.state != Consent::Withdrawn) {
                return Err(format!("`{name}` is {} already: change it, or end it first", held.terms.state));
            }
            let now = offered(wish.recorded(&name, network, broker)?);
            let structural = held.is_none_or(|held| !held.is_alike_but_for_terms(&now));
            Ok(Decided { name, now, structural })
        }
        Action::Accept { name, broker } => {
            let held = find(&name, &broker)?;
            if held.terms.state != Consent::Offered {
                return Err(format!("`{name}` is {}, not offered", held.terms.state));
            }
            Ok(with_state(name, held, Consent::Accepted))
        }
        Action::End { name, broker } => {
            let held = find(&name, &broker)?;
            Ok(with_state(name, held, Consent::Withdrawn))
        }
        Action::Change { name, wish, broker } => {
            let held = find(&name, &broker)?;
            let now = wish.applied(held.clone(), network)?;
            let structural = !held.is_alike_but_for_terms(&now);
            Ok(Decided { name, now, structural })
        }
        Action::List | Action::Report { .. } => Err("this decides nothing".to_owned()),
    }
}

impl Wish {
    /// An agreement of this alone.
    fn recorded(self, name: &str, network: &Network, owner: Option<String>) -> Result<Recorded, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
            return Err(format!("`{name}` is not a name: 1 to 63 letters a-z, digits, `-`, `_` and `.`"));
        }
        if let Some(owner) = owner.as_ref().filter(|owner| !network.peering.brokers.contains(owner)) {
            return Err(format!("there is no [[broker]] `{owner}` in the configuration"));
        }
        let with = self.with.clone().ok_or("say with which CDN: --with CDN")?;
        let own = network.peering.networks[0].name.clone();
        let (carries, terms) = (Carries::default(), Terms::default());
        let blank = Recorded { network: own, with, owner, carries, order: 0, price: 0, terms };
        self.applied(blank, network)
    }

    /// What an agreement is with this.
    fn applied(self, mut held: Recorded, network: &Network) -> Result<Recorded, String> {
        let peering = &network.peering;
        held.with = self.with.unwrap_or(held.with);
        held.network = self.network.unwrap_or(held.network);
        if !peering.networks.iter().any(|known| known.name == held.network) {
            return Err(format!("there is no network `{}`: it is [network] or a [[partner]]", held.network));
        }
        if held.with == held.network {
            return Err(format!("`{}` cannot have an agreement with itself", held.with));
        }
        let known = |kind: &str, list: &[String], has: &dyn Fn(&str) -> bool| {
            let unknown = list.iter().find(|name| !has(name));
            unknown.map_or(Ok(()), |name| Err(format!("there is no {kind} `{name}` in the configuration")))
        };
        let carries = &mut held.carries;
        carries.providers = self.providers.unwrap_or(std::mem::take(&mut carries.providers));
        carries.services = self.services.unwrap_or(std::mem::take(&mut carries.services));
        carries.classes = self.classes.unwrap_or(std::mem::take(&mut carries.classes));
        known("provider", &carries.providers, &|name| peering.providers.iter().any(|one| one.name == name))?;
        known("service", &carries.services, &|name| network.services.iter().any(|one| one.name == name))?;
        known("class", &carries.classes, &|name| network.services.iter().any(|one| one.class == name))?;
        held.order = self.order.unwrap_or(held.order);
        if let Some(price) = &self.price {
            held.price = terms::price(price)?;
        }
        if let Some(capacity) = self.capacity {
            (held.terms.requests, held.terms.bits) = (None, None);
            for one in capacity.iter().filter(|one| *one != "none") {
                match terms::capacity(one.trim())? {
                    Capacity::Requests(requests) => held.terms.requests = Some(requests),
                    Capacity::Bits(bits) => held.terms.bits = Some(bits),
                }
            }
        }
        if let Some(hours) = self.hours {
            let some = hours.iter().filter(|one| *one != "always");
            held.terms.hours = some.map(|one| terms::hours(one.trim())).collect::<Result<_, _>>()?;
        }
        let instant = |text: String, ends| match text.as_str() {
            "always" => Ok(None),
            text => terms::instant(text, ends).map(Some),
        };
        if let Some(from) = self.from {
            held.terms.from = instant(from, false)?;
        }
        if let Some(until) = self.until {
            held.terms.until = instant(until, true)?;
        }
        if held.terms.from.zip(held.terms.until).is_some_and(|(from, until)| from >= until) {
            return Err("it would end before it begins".to_owned());
        }
        Ok(held)
    }
}
