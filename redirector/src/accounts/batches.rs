//! What is sent to collectors: closed intervals with a sequence number each, made in the transaction that closes them.

use super::ledger::{Ledger, Live};
use super::{Account, Kind};
use crate::config::CollectorTerms;
use crate::config::terms::show_instant;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Form of a batch.
const VERSION: u32 = 1;

/// How far a collector has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Sequence number of the next batch.
    pub next: u64,
    /// Sequence number of the first that is not delivered.
    pub first: u64,
    /// Bytes of those that are not delivered.
    pub bytes: u64,
    /// Batches that were lost because there was no room for more.
    pub lost: u64,
    /// Begin of the interval at hand: seconds since 1970.
    pub from: u64,
    /// By account: requests, bytes and edges' requests that were told until then. What is not in it was 0.
    base: Vec<(u32, [u64; 3])>,
}

/// A batch that waits for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Which collector's.
    pub collector: String,
    /// Its number.
    pub sequence: u64,
    /// What is sent.
    pub text: Vec<u8>,
}

/// Requests of clients of one network that one server was named to, in one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// A client, or the first address of its network.
    pub client: IpAddr,
    /// Name of the account.
    pub account: String,
    /// Name of the service.
    pub service: String,
    /// Name of the server.
    pub target: String,
    /// When the first was: seconds since 1970.
    pub first: u64,
    /// When the last was.
    pub last: u64,
    /// How many, about.
    pub requests: u64,
    /// How many of these were told; all: the number is exact.
    pub told: u64,
}

/// Everything that a collector gets at once.
#[derive(Debug, Clone, Serialize)]
struct Batch<'b> {
    version: u32,
    #[serde(rename = "box")]
    box_: &'b str,
    key: String,
    collector: &'b str,
    sequence: u64,
    lost: u64,
    from: String,
    until: String,
    accounts: Vec<AccountPart<'b>>,
    connections: Vec<Connection<'b>>,
    connections_left_out: u64,
}

#[derive(Debug, Clone, Serialize)]
struct AccountPart<'b> {
    kind: &'static str,
    account: &'b str,
    agreement: &'b Option<String>,
    provider: &'b Option<String>,
    cdn: &'b Option<String>,
    network: &'b Option<String>,
    requests: u64,
    bytes: u64,
    edge_requests: u64,
    requests_total: u64,
    bytes_total: u64,
    edge_requests_total: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Connection<'b> {
    client: String,
    account: &'b str,
    agreement: &'b Option<String>,
    provider: &'b Option<String>,
    service: &'b str,
    target: &'b str,
    first: String,
    last: String,
    requests: u64,
    told: u64,
}

/// Whose accounts a collector gets.
pub(super) fn concerns(terms: &CollectorTerms, account: &Account) -> bool {
    let same = |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
    account.kind != Kind::Target && same(&terms.cdn, &account.cdn) && same(&terms.provider, &account.provider)
}

fn told(live: &Live) -> [u64; 3] {
    [live.requests, live.bytes, live.edge_requests]
}

impl Standing {
    fn base(&self, account: u32) -> [u64; 3] {
        let place = self.base.binary_search_by_key(&account, |(number, _)| *number);
        place.map_or([0; 3], |place| self.base[place].1)
    }

    /// A collector that begins now: what was booked before is not told.
    fn new(ledger: &Ledger, terms: &CollectorTerms, now: u64) -> Self {
        let mut standing = Self { next: 1, first: 1, from: now, ..Self::default() };
        standing.rebase(ledger, terms);
        standing
    }

    /// What was not delivered lies in a store that is no more.
    pub(super) fn abandon(&mut self) {
        self.lost += self.next - self.first;
        (self.first, self.bytes) = (self.next, 0);
    }

    fn rebase(&mut self, ledger: &Ledger, terms: &CollectorTerms) {
        let accounts = (0u32..).zip(&ledger.accounts).filter(|(_, account)| concerns(terms, account));
        let base = accounts.map(|(number, _)| (number, told(&ledger.live[number as usize])));
        self.base = base.filter(|(_, told)| *told != [0; 3]).collect();
    }
}

impl Ledger {
    /// Ends the interval at hand for all collectors: makes a batch for each that has something to be told.
    pub fn close_interval(
        &mut self,
        box_: &str,
        collectors: &[CollectorTerms],
        served: &[Served],
        left_out: u64,
    ) {
        let now = self.head.read.wall / 1000;
        for terms in collectors {
            let Some(mut standing) = self.standings.get(&terms.name).cloned() else {
                let standing = Standing::new(self, terms, now);
                self.standings.insert(terms.name.clone(), standing);
                self.moved.insert(terms.name.clone());
                continue;
            };
            let Some(batch) = self.batch(box_, terms, &standing, (served, left_out)) else {
                continue;
            };
            let Ok(text) = serde_json::to_vec(&batch) else { continue };
            let made = Made { collector: terms.name.clone(), sequence: standing.next, text };
            (standing.next, standing.from) = (standing.next + 1, now);
            standing.rebase(self, terms);
            self.standings.insert(terms.name.clone(), standing);
            self.moved.insert(terms.name.clone());
            self.batches.push(made);
        }
    }

    fn batch<'b>(
        &'b self,
        box_: &'b str,
        terms: &'b CollectorTerms,
        standing: &Standing,
        (served, left_out): (&'b [Served], u64),
    ) -> Option<Batch<'b>> {
        let mut accounts = Vec::new();
        for (number, account) in (0u32..).zip(&self.accounts).filter(|(_, one)| concerns(terms, one)) {
            let (now, base) = (told(&self.live[number as usize]), standing.base(number));
            if now == base {
                continue;
            }
            accounts.push(AccountPart {
                kind: account.kind.name(),
                account: &account.name,
                agreement: &account.agreement,
                provider: &account.provider,
                cdn: &account.cdn,
                network: &account.network,
                requests: now[0].saturating_sub(base[0]),
                bytes: now[1].saturating_sub(base[1]),
                edge_requests: now[2].saturating_sub(base[2]),
                requests_total: now[0],
                bytes_total: now[1],
                edge_requests_total: now[2],
            });
        }
        let connection = |one: &'b Served| {
            let account = self.accounts.get(self.number(&one.account)? as usize)?;
            // Who is served within the primary CDN is no business of others.
            let wanted = concerns(terms, account) && account.kind == Kind::Agreement;
            wanted.then(|| Connection {
                client: terms.clients.show(one.client),
                account: &account.name,
                agreement: &account.agreement,
                provider: &account.provider,
                service: &one.service,
                target: &one.target,
                first: show_instant(one.first),
                last: show_instant(one.last),
                requests: one.requests,
                told: one.told,
            })
        };
        let connections: Vec<Connection<'b>> =
            if terms.clients.is_none() { Vec::new() } else { served.iter().filter_map(connection).collect() };
        if accounts.is_empty() && connections.is_empty() {
            return None;
        }
        Some(Batch {
            version: VERSION,
            box_,
            key: key(&self.head.store, &terms.name, standing.next),
            collector: &terms.name,
            sequence: standing.next,
            lost: standing.lost,
            from: show_instant(standing.from),
            until: show_instant(self.head.read.wall / 1000),
            accounts,
            connections,
            connections_left_out: if terms.clients.is_none() { 0 } else { left_out },
        })
    }
}

/// What nothing else that was ever sent has: the same whenever a batch is sent again.
pub fn key(store: &str, collector: &str, sequence: u64) -> String {
    format!("{store}-{collector}-{sequence}")
}
