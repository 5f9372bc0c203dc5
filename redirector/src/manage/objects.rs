//! Publications at run time: through the control socket, kept on disk before they hold, and let go when their time is
//! over (P-11).

use super::agent::{Agent, Inner};
use super::forces::end;
use super::packet;
use crate::config;
use crate::front::url::{Url, located};
use crate::state::agreements::unix_now;
use crate::state::heat::Widths;
use crate::state::objects::{Publication, Publications};
use redirector_core::decide::object_hash;
use redirector_core::lookup::{self, Labels, MAX_LABELS, is_partial};
use redirector_core::table::{NONE, OBJECT_MARK, OBJECT_WIDTH, SERVICE_OBJECTS, SPACE_DNS, Tables, VipEntry};
use redirector_core::wire::dns::codepoint_hash;
use redirector_plan::model::{Network, Outcome};
use redirector_plan::objects::{MAX_WIDTH, Object};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// How often it is looked what has ended.
const TICK: Duration = Duration::from_millis(200);

/// What is to be done about publications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// Shows all.
    List,
    /// Says where objects are.
    Publish {
        /// Names and URLs.
        objects: Vec<String>,
        /// Names of servers.
        at: Vec<String>,
        /// For how long, as `2h`.
        #[serde(default, rename = "for")]
        duration: Option<String>,
        /// Until when: a date, or a date and time.
        #[serde(default)]
        until: Option<String>,
    },
    /// Takes back what was said of objects.
    Withdraw {
        /// Names and URLs.
        objects: Vec<String>,
    },
}

/// A publication, for reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// What was said.
    #[serde(flatten)]
    pub publication: Publication,
    /// Why it is not in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.publication.object, self.publication)?;
        self.idle.iter().try_for_each(|why| write!(f, "; not in effect: {why}"))
    }
}

/// Service number and hash of a published name or URL.
///
/// # Errors
/// Why it has none.
pub(super) fn resolve<T: Tables>(tables: &T, network: &Network, object: &str) -> Result<(u32, u64), String> {
    let vips = network.vips.iter().flat_map(|vip| {
        let v4 = vip.ipv4.iter().map(|address| (*address).into());
        v4.chain(vip.ipv6.iter().map(|address| (*address).into()))
    });
    let entries = vips.filter_map(|address| super::explain::vip_entry(tables, address));
    let find = |entry: VipEntry| match object.contains("://") {
        true => Url::parse(object).and_then(|url| Ok(located(tables, &entry, &url))),
        false => packet::labels(object).map(|labels| named(tables, &entry, &labels)),
    };
    let mut found = None;
    for entry in entries {
        found = found.or(find(entry)?);
    }
    let (service, content) = found.ok_or_else(|| format!("no rule of this box holds for `{object}`"))?;
    let written = network.services.get(service as usize);
    let record = tables.service(service);
    match (written, record) {
        (Some(_), Some(record)) if record.flags & SERVICE_OBJECTS != 0 => {
            let keys = &tables.meta().ok_or("the tables have no keys")?.keys;
            Ok((service, object_hash(keys, record.salt, content)))
        }
        (Some(written), _) => Err(format!(
            "service `{}` does not keep objects together: write choose_by = \"content\" and affinity = {{}}",
            written.name
        )),
        (None, _) => Err(format!("`{object}` needs a proof: such objects cannot be published")),
    }
}

/// Service and content of a name.
fn named<T: Tables>(tables: &T, vip: &VipEntry, names: &[&str]) -> Option<(u32, u64)> {
    let keys = &tables.meta()?.keys;
    let mut labels = Box::<Labels>::default();
    for (place, name) in names.iter().enumerate().take(MAX_LABELS) {
        labels.hashes[place] = keys.text(name.as_bytes(), true);
    }
    let (count, depths) = (names.len(), vip.dns_depths);
    let number = lookup::suffix::<_, MAX_LABELS>(tables, &labels, count, SPACE_DNS, vip.cdn, depths);
    let zone = tables.zone(number).filter(|_| number != NONE)?;
    let codepoint = count.checked_sub(zone.suffix_labels as usize)?;
    let entry = lookup::rule(tables, &labels, codepoint, SPACE_DNS, number, zone);
    let is_rule = entry.fingerprint != 0 && !is_partial(&entry);
    is_rule.then(|| (entry.value, codepoint_hash(keys, &labels, codepoint)))
}

/// How many servers share the clients of an object; `None`: its service's choice is all that is known of it.
pub(super) fn width<T: Tables>(tables: &T, hash: u64) -> Option<u8> {
    let word = tables.object(hash as u32 & tables.meta()?.object_mask, hash & OBJECT_MARK)?;
    (word != 0).then_some((word >> OBJECT_WIDTH) as u8 % MAX_WIDTH as u8 + 1)
}

/// What was published and what is hot, as the tables are to have it: the word of an agent goes first.
pub(super) fn wanted<T: Tables>(
    all: &Publications,
    widths: &Widths,
    tables: &T,
    network: &Network,
) -> Vec<Object> {
    let number = |name: &str| {
        let place = network.targets.iter().position(|target| target.name == name)?;
        (network.targets[place].outcome == Outcome::Server).then_some(place as u16)
    };
    let mut objects =
        all.objects(|object| resolve(tables, network, object).ok().map(|(_, hash)| hash), number);
    let known: BTreeSet<u64> = objects.iter().map(|object| object.hash).collect();
    objects.extend(widths.objects().filter(|object| !known.contains(&object.hash)));
    objects
}

/// Names of the servers that a service can ever lead to.
fn servers<'n>(network: &'n Network, service: u32) -> Vec<&'n str> {
    let Some(service) = network.services.get(service as usize) else { return Vec::new() };
    let tiers = network.coverages.get(service.coverage).map_or(&[][..], |coverage| &coverage.tiers);
    let pools = tiers.iter().flat_map(|tier| &tier.pools);
    let members = pools.flat_map(|(pool, _)| network.pools[*pool].members.iter().map(|(target, _)| *target));
    let all = members.chain(service.fallback.iter().copied());
    let servers = all.filter(|target| network.targets[*target].outcome == Outcome::Server);
    let mut names: Vec<&str> = servers.map(|target| network.targets[target].name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The names of servers that an object is said to be at, each once.
fn checked_servers(network: &Network, service: u32, at: &[String]) -> Result<Vec<String>, String> {
    let known = servers(network, service);
    let mut named = at.to_vec();
    named.sort_unstable();
    named.dedup();
    if named.is_empty() || named.len() > MAX_WIDTH {
        return Err(format!("name 1 to {MAX_WIDTH} servers that the object is at"));
    }
    for name in &named {
        if !known.contains(&&**name) {
            let service = network.services.get(service as usize).map_or("?", |service| &service.name);
            let help = config::help(name, known.iter().copied(), "its coverage has no servers");
            return Err(format!("service `{service}` has no server `{name}` for any region; {help}"));
        }
    }
    Ok(named)
}

/// What was published in earlier runs and has not ended; or nothing.
pub(super) fn load(disk: &crate::state::disk::StateDir) -> Publications {
    let mut publications = disk.load_publications().unwrap_or_else(|problem| {
        error!("what was published of objects in earlier runs is not known: {problem}");
        Publications::default()
    });
    publications.expire(unix_now());
    publications
}

impl Agent {
    /// Shows or changes publications. What changes is on disk and in effect when this returns. `by` is the user who asks.
    ///
    /// # Errors
    /// What is wrong with it; nothing changes then.
    pub fn objects(&self, action: &Action, by: u32) -> Result<Vec<Published>, String> {
        match action {
            Action::List => {
                let publications = self.inner().publications.clone();
                Ok(publications.list().map(|one| self.published(one)).collect())
            }
            Action::Publish { objects, at, duration, until } => {
                let now = unix_now();
                let until = end(now, duration.as_deref(), until.as_deref())?;
                let current = self.current.load_full();
                let network = &current.config.network;
                let mut made = Vec::new();
                for object in objects {
                    let (service, _) = resolve(&current.tables.read(), network, object)?;
                    let at = checked_servers(network, service, at)?;
                    let object = object.trim_end_matches('.').to_owned();
                    made.push(Publication { object, at, by, since: now, until });
                }
                self.change_publications(|all| {
                    made.iter().try_for_each(|one| all.publish(one.clone()))?;
                    Ok(made)
                })
            }
            Action::Withdraw { objects } => self.change_publications(|all| {
                let taken = objects.iter().map(|object| {
                    let object = object.trim_end_matches('.');
                    let none =
                        || format!("`{object}` is not published; `redirector object list` shows what is");
                    all.withdraw(object).ok_or_else(none)
                });
                taken.collect()
            }),
        }
    }

    fn published(&self, publication: &Publication) -> Published {
        let current = self.current.load();
        let network = &current.config.network;
        let idle = match resolve(&current.tables.read(), network, &publication.object) {
            Err(why) => Some(why),
            Ok((_, hash)) => {
                let placed = self.inner().live.has_object(hash);
                let is_known = |name: &String| network.targets.iter().any(|target| target.name == *name);
                let unknown = !publication.at.iter().any(is_known);
                unknown
                    .then(|| "the configuration has none of its servers".to_owned())
                    .or_else(|| (!placed).then(|| "the tables have no room for it".to_owned()))
            }
        };
        Published { publication: publication.clone(), idle }
    }

    /// Changes what is published: on disk first, then in the tables. What finds no place in them is refused.
    fn change_publications(
        &self,
        change: impl FnOnce(&mut Publications) -> Result<Vec<Publication>, String>,
    ) -> Result<Vec<Published>, String> {
        let _one_at_a_time = self.saying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut publications = self.inner().publications.clone();
        let changed = change(&mut publications)?;
        let current = self.current.load_full();
        let wanted = wanted(
            &publications,
            &self.inner().warmth.widths.clone(),
            &current.tables.read(),
            &current.config.network,
        );
        if let Some(full) = self.inner().live.refuses(&wanted) {
            return Err(full.to_string());
        }
        let kept = self.disk.save_publications(&publications);
        kept.map_err(|problem| format!("it cannot be kept, so nothing is changed: {problem}"))?;
        for one in &changed {
            let is_in = publications.of(&one.object).is_some();
            info!("object {} is {} {one}", one.object, if is_in { "published" } else { "withdrawn; it was" });
        }
        let mut inner = self.inner();
        inner.publications = publications;
        self.settle_objects(&mut inner);
        drop(inner);
        Ok(changed.iter().map(|one| self.published(one)).collect())
    }

    /// Makes the tables follow what is published now.
    pub(super) fn settle_objects(&self, inner: &mut Inner) {
        let current = self.current.load();
        let wanted = wanted(
            &inner.publications,
            &inner.warmth.widths,
            &current.tables.read(),
            &current.config.network,
        );
        let states = crate::state::facts::states(&inner.facts);
        let settled = inner.live.settle_objects(&current.compiled, &current.tables, &wanted, &states);
        if let Ok(left) = &settled {
            for (object, full) in left {
                warn!("the object with hash {:016x} keeps its service's servers: {full}", object.hash);
            }
        }
        self.note_follow(settled.map(|left| left.len()));
    }

    /// Watches the clock.
    pub(super) async fn keep_objects(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = unix_now();
            let ends = |one: &Publication| one.until.is_some_and(|until| until <= now);
            if !self.inner().publications.list().any(ends) {
                continue;
            }
            let agent = Arc::clone(&self);
            if let Err(panic) = spawn_blocking(move || agent.let_objects_go()).await {
                error!("publications do not end: {panic}");
            }
        }
    }

    /// Lets go what has ended, whether or not that can be kept: it will have ended for the next run, too.
    fn let_objects_go(&self) {
        let _one_at_a_time = self.saying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut publications = self.inner().publications.clone();
        for one in publications.expire(unix_now()) {
            info!("object {} is withdrawn, its time is over; it was {one}", one.object);
        }
        if let Err(problem) = self.disk.save_publications(&publications) {
            warn!("that publications have ended is not kept: {problem}");
        }
        let mut inner = self.inner();
        inner.publications = publications;
        self.settle_objects(&mut inner);
    }
}
