//! What clients say of servers that failed them, counted in bounded memory so that few of them, and whoever forges
//! addresses, cannot take a server from others (P-18; ADR 22).
//!
//! A failed list of a CDSR request counts for that request alone. Beside that it is a *claim* about a server and a region,
//! by the client's prefix. Claims make the box look for itself: a probe, at most one in two seconds for each server. They
//! shed clients only where they are *verified*, by a connection from the same prefix, and many.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;

/// Servers and regions that are counted at one time; what was claimed of one more replaces the one longest silent.
const CASES: usize = 1024;
/// Prefixes that are held of each.
const CLAIMS: usize = 64;
/// Milliseconds that a claim counts.
const COUNTS: u64 = 60_000;
/// Milliseconds within which a connection verifies a claim of its prefix, and coming back for the same thing is one.
const RETURNS: u64 = 6_000;
/// Places for prefixes that claimed something, and for clients that were sent somewhere.
const PLACES: usize = 1 << 13;
/// Bits by which prefixes are counted that were sent to a server, and whom it failed: enough for 30 000 of them.
const BITS: usize = 4096;
/// Prefixes whose verified claims are needed,
const ENOUGH: usize = 8;
/// of which no network counts for more than these;
const PER_NETWORK: usize = 2;
/// and of all prefixes that were sent there it must have failed one in so many.
const PART: f64 = 2.0;
/// Milliseconds between two probes of one server for clients' sake.
const PROBES: u64 = 2_000;

/// A server and a region, by their counter slots.
pub type Case = (u32, u32);

/// Counts what clients say.
#[derive(Debug)]
pub struct Failures {
    // Keyed at random: nobody can choose addresses that share a place.
    hasher: RandomState,
    cases: HashMap<Case, Record>,
    /// By prefix: who claimed something lately, and of what.
    claimants: Box<[Place<Case>]>,
    /// By client and what it asked for: where it was sent lately.
    sent: Box<[Place<Case>]>,
    /// When each server was last probed for clients' sake.
    probed: HashMap<u32, u64>,
    wanted: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place<T> {
    tag: u64,
    at: u64,
    what: T,
}

/// What is said of one server by clients of one region.
#[derive(Debug, Default)]
struct Record {
    claims: Vec<Claim>,
    /// Prefixes that were sent there: in this minute, and in the one before.
    served: [Bits; 2],
    /// Prefixes that it failed, by verified claims.
    failed: [Bits; 2],
    /// When this minute began.
    since: u64,
    /// When something was last said or done.
    at: u64,
}

/// A set of prefixes, by their hashes, of which the number alone is wanted.
#[derive(Debug)]
struct Bits([u64; BITS / 64]);

impl Bits {
    fn add(&mut self, hash: u64) {
        let bit = hash as usize % BITS;
        self.0[bit / 64] |= 1 << (bit % 64);
    }
}

/// About how many are in two sets together, by how many bits they left free.
fn count([now, before]: &[Bits; 2]) -> f64 {
    let set: u32 = now.0.iter().zip(&before.0).map(|(now, before)| (now | before).count_ones()).sum();
    let free = (BITS - set as usize).max(1) as f64 / BITS as f64;
    -free.ln() * BITS as f64
}

impl Default for Bits {
    fn default() -> Self {
        Self([0; BITS / 64])
    }
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    prefix: u64,
    network: u64,
    at: u64,
    verified: bool,
}

/// What follows from what clients say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Counter slots of servers to be probed now.
    pub probe: Vec<u32>,
    /// Servers that are to shed clients, the region that says so, and how many of its prefixes.
    pub shed: Vec<(Case, usize)>,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            cases: HashMap::new(),
            claimants: vec![Place::default(); PLACES].into(),
            sent: vec![Place::default(); PLACES].into(),
            probed: HashMap::new(),
            wanted: Vec::new(),
        }
    }
}

/// The prefix that counts as one client, and the network that it is of.
fn prefixes(client: IpAddr) -> (u64, u64) {
    match client.to_canonical() {
        IpAddr::V4(v4) => (u64::from(v4.to_bits() >> 8) | 1 << 63, u64::from(v4.to_bits() >> 16)),
        IpAddr::V6(v6) => ((v6.to_bits() >> 72) as u64 & !(1 << 63), (v6.to_bits() >> 96) as u64),
    }
}

impl Failures {
    /// A datagram of `client` says that a server failed it. Anybody can have sent that.
    pub fn claim(&mut self, now: u64, client: IpAddr, case: Case) {
        let (prefix, _) = prefixes(client);
        self.add(now, client, case, false);
        let tag = self.hasher.hash_one(prefix);
        self.claimants[tag as usize % PLACES] = Place { tag, at: now, what: case };
        self.ask_for_probe(now, case.0);
    }

    /// `client` was sent to a server in a connection of its own, for what `asked` stands for. If it had been sent to one for the
    /// same thing a moment before, that one failed it.
    pub fn sent(&mut self, now: u64, client: IpAddr, asked: &impl Hash, case: Case) {
        let (prefix, _) = prefixes(client);
        let tag = self.hasher.hash_one(prefix);
        let claimed = self.claimants[tag as usize % PLACES];
        if claimed.tag == tag && now.saturating_sub(claimed.at) <= RETURNS {
            self.add(now, client, claimed.what, true);
        }
        let tag = self.hasher.hash_one((client, asked));
        let place = &mut self.sent[tag as usize % PLACES];
        let before = std::mem::replace(place, Place { tag, at: now, what: case });
        if before.tag == tag && now.saturating_sub(before.at) <= RETURNS {
            self.add(now, client, before.what, true);
            self.ask_for_probe(now, before.what.0);
        }
        let hash = self.hasher.hash_one(prefix);
        self.record(now, case).served[0].add(hash);
    }

    fn ask_for_probe(&mut self, now: u64, target: u32) {
        let due = self.probed.get(&target).is_none_or(|at| now.saturating_sub(*at) >= PROBES);
        if due && (self.probed.len() < CASES || self.probed.contains_key(&target)) {
            self.probed.insert(target, now);
            self.wanted.push(target);
        }
    }

    fn record(&mut self, now: u64, case: Case) -> &mut Record {
        if self.cases.len() >= CASES && !self.cases.contains_key(&case) {
            let silent = self.cases.iter().min_by_key(|(_, record)| record.at).map(|(case, _)| *case);
            if let Some(case) = silent {
                self.cases.remove(&case);
            }
        }
        let record = self.cases.entry(case).or_default();
        record.at = now;
        if now.saturating_sub(record.since) >= COUNTS {
            let recent = now.saturating_sub(record.since) < 2 * COUNTS;
            for [this, last] in [&mut record.served, &mut record.failed] {
                let before = std::mem::take(this);
                *last = if recent { before } else { Bits::default() };
            }
            record.since = now;
        }
        record
    }

    fn add(&mut self, now: u64, client: IpAddr, case: Case, verified: bool) {
        let (prefix, network) = prefixes(client);
        let hash = self.hasher.hash_one(prefix);
        let record = self.record(now, case);
        if verified {
            record.failed[0].add(hash);
        }
        let claims = &mut record.claims;
        claims.retain(|claim| now.saturating_sub(claim.at) < COUNTS);
        if let Some(known) = claims.iter_mut().find(|claim| claim.prefix == prefix) {
            (known.at, known.verified) = (now, known.verified | verified);
            return;
        }
        let of_network = claims.iter().filter(|claim| claim.network == network && claim.verified == verified);
        if of_network.count() >= PER_NETWORK {
            return;
        }
        if claims.len() >= CLAIMS {
            // Claims that anybody can have made never push out verified ones.
            let unverified = claims.iter().position(|claim| !claim.verified);
            let Some(place) = unverified else { return };
            claims.remove(place);
        }
        claims.push(Claim { prefix, network, at: now, verified });
    }

    /// What is to be done now.
    pub fn orders(&mut self, now: u64) -> Orders {
        let mut shed = Vec::new();
        for (case, record) in &mut self.cases {
            record.claims.retain(|claim| now.saturating_sub(claim.at) < COUNTS);
            let verified = record.claims.iter().filter(|claim| claim.verified).count();
            let failed = count(&record.failed);
            if verified >= ENOUGH && PART * failed >= count(&record.served) {
                // It takes as many again to go on.
                (record.claims, record.failed) = Default::default();
                shed.push((*case, failed.round() as usize));
            }
        }
        self.cases.retain(|_, record| now.saturating_sub(record.at) < 2 * COUNTS);
        self.probed.retain(|_, at| now.saturating_sub(*at) < PROBES);
        shed.sort_unstable();
        Orders { probe: std::mem::take(&mut self.wanted), shed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const CASE: Case = (7, 3);
    const SECOND: u64 = 1000;

    /// A client in prefix `n` of network `network`.
    fn client(network: u8, n: u8) -> IpAddr {
        Ipv4Addr::new(10, network, n, 9).into()
    }

    #[test]
    fn forged_datagrams_alone_ask_for_probes_and_do_nothing_else() {
        let mut failures = Failures::default();
        let mut probes = 0;
        for n in 0..60_000u32 {
            let now = 1000 + u64::from(n);
            failures.claim(now, Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b9)).into(), CASE);
            if n % 500 == 0 {
                let orders = failures.orders(now);
                assert_eq!(orders.shed, []);
                probes += orders.probe.len();
            }
        }
        assert!((28..=31).contains(&probes), "one in two seconds of sixty: {probes}");
    }

    #[test]
    fn memory_is_bounded_whatever_is_claimed() {
        let mut failures = Failures::default();
        for n in 0..20_000u32 {
            failures.claim(u64::from(n), Ipv4Addr::from_bits(n << 8).into(), (n, n % 100));
            failures.sent(u64::from(n), Ipv4Addr::from_bits(n << 8).into(), &n, (n, 1));
        }
        assert!(failures.cases.len() <= CASES && failures.probed.len() <= CASES);
        assert!(failures.wanted.len() <= CASES, "{}", failures.wanted.len());
        assert!(failures.cases.values().all(|record| record.claims.len() <= CLAIMS));
    }

    fn told(shed: &[(Case, usize)]) -> Vec<Case> {
        shed.iter().map(|(case, _)| *case).collect()
    }

    /// So many prefixes of each of so many networks are sent to the server, and come back at once.
    fn come_back(failures: &mut Failures, networks: u8, each: u8) {
        for network in 0..networks {
            for n in 0..each {
                failures.sent(SECOND, client(network, n), &"url", CASE);
                failures.sent(2 * SECOND, client(network, n), &"url", (8, 3));
            }
        }
    }

    #[test]
    fn many_clients_that_come_back_shed_clients_and_a_few_do_not() {
        let mut failures = Failures::default();
        come_back(&mut failures, 3, 50);
        assert_eq!(failures.orders(3 * SECOND).shed, [], "three networks, however many prefixes");
        let mut failures = Failures::default();
        come_back(&mut failures, 8, 1);
        let Orders { probe, shed } = failures.orders(3 * SECOND);
        assert_eq!((probe, told(&shed)), (vec![7], vec![CASE]));
        assert_eq!(failures.orders(4 * SECOND).shed, [], "it takes as many again");
    }

    #[test]
    fn a_minority_of_those_who_are_served_changes_nothing() {
        let mut failures = Failures::default();
        for network in 0..40 {
            failures.sent(SECOND, client(100 + network, 1), &"url", CASE);
        }
        come_back(&mut failures, 12, 1);
        assert_eq!(failures.orders(3 * SECOND).shed, [], "12 of 52");
        come_back(&mut failures, 60, 1);
        assert_eq!(failures.orders(3 * SECOND).shed.len(), 1, "60 of 100");
    }

    #[test]
    fn a_claim_by_datagram_is_verified_by_a_connection_of_its_prefix_alone() {
        let mut failures = Failures::default();
        for network in 0..10 {
            failures.claim(SECOND, client(network, 1), CASE);
            // Somebody else comes, and the claimant far too late.
            failures.sent(2 * SECOND, client(network, 2), &"url", (8, 3));
            failures.sent(20 * SECOND, client(network, 1), &"url", (8, 3));
        }
        assert_eq!(failures.orders(21 * SECOND).shed, []);
        for network in 0..10 {
            failures.claim(30 * SECOND, client(network, 1), CASE);
            failures.sent(31 * SECOND, client(network, 1), &network, (8, 3));
        }
        assert_eq!(told(&failures.orders(32 * SECOND).shed), [CASE]);
    }

    #[test]
    fn a_flood_of_forged_claims_pushes_out_no_verified_one() {
        let mut failures = Failures::default();
        come_back(&mut failures, 8, 1);
        for n in 0..10_000u32 {
            failures.claim(2 * SECOND, Ipv4Addr::from_bits(0xc000_0000 | n << 12).into(), CASE);
        }
        assert_eq!(told(&failures.orders(3 * SECOND).shed), [CASE]);
    }

    #[test]
    fn what_was_said_is_forgotten_after_a_minute() {
        let mut failures = Failures::default();
        come_back(&mut failures, 8, 1);
        assert_eq!(failures.orders(2 * SECOND + COUNTS).shed, []);
        failures.orders(3 * COUNTS);
        assert!(failures.cases.is_empty());
    }
}
