//! Whose clients were led to which server on whose account, for those who are owed that information (P-30).
//!
//! Heard of by the hub that the decision log hears of: all of what the daemon answers, and one in so many of what the fast
//! path answers, each with how many it stands for.

use crate::journal::{Hub, Subscription, Told, Wanted};
use redirector_core::table::NONE;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Most connections of one interval; those beyond are counted together.
const MOST: usize = 65_536;
/// Decisions that wait for half a second: what a box answers by sockets in that time, and more.
const ROOM: usize = 65_536;

/// A client, and what it was led to: counter slots, which mean the same in every generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Led {
    /// Its address, or the first of its network.
    pub client: IpAddr,
    /// Slot of the service.
    pub service: u32,
    /// Slot of the server.
    pub target: u32,
    /// Slot of the account.
    pub account: u32,
}

/// How often, and when first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How often, about.
    pub requests: u64,
    /// How many of these were told; all: the number is exact.
    pub told: u64,
    /// When first: seconds since 1970.
    pub first: u64,
    /// When last.
    pub last: u64,
}

/// What collectors want to know of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// One in so many of the fast path.
    pub one_in: u32,
    /// Whole addresses.
    pub whole: bool,
}

/// Clients that were served since this was last read.
#[derive(Debug, Default)]
pub struct Heard {
    subscription: Option<(Wish, Subscription)>,
    known: HashMap<Led, Times>,
    left_out: u64,
    /// What found no room in the queue before this interval.
    lost: u64,
}

impl Heard {
    /// Whether anybody wants to know, and how much.
    pub fn want(&mut self, hub: &Arc<Hub>, wish: Option<Wish>) {
        if self.subscription.as_ref().map(|(wish, _)| *wish) == wish {
            return;
        }
        self.listen();
        self.subscription = wish.map(|wish| {
            let wanted = Wanted { fast: wish.one_in, slow: 1 };
            (wish, hub.subscribe("accounts", wanted, ROOM))
        });
        self.lost = 0;
    }

    /// Takes in what was decided until now.
    pub fn listen(&mut self) {
        let Some((wish, mut subscription)) = self.subscription.take() else { return };
        // Not more than there was room for: who answers does not wait, and neither does the caller.
        for _ in 0..ROOM {
            let Some(told) = subscription.try_next() else { break };
            self.note(&told, wish.whole);
        }
        self.subscription = Some((wish, subscription));
    }

    fn note(&mut self, Told { decision, one_in }: &Told, whole: bool) {
        let chosen = &decision.chosen;
        let (account, Some(target)) = (chosen.account, chosen.targets().first()) else { return };
        if account == NONE {
            return;
        }
        let client = decision.client.ip().to_canonical();
        let client = if whole { client } else { network(client) };
        let led = Led { client, service: chosen.service, target: *target, account };
        let (second, requests) = (decision.time / 1_000_000, u64::from((*one_in).max(1)));
        if self.known.len() >= MOST && !self.known.contains_key(&led) {
            self.left_out += requests;
            return;
        }
        let new = Times { requests: 0, told: 0, first: second, last: second };
        let times = self.known.entry(led).or_insert(new);
        (times.requests, times.told) = (times.requests + requests, times.told + 1);
        (times.first, times.last) = (times.first.min(second), times.last.max(second));
    }

    /// What was heard since this was asked last, and of how many requests that is not known.
    pub fn take(&mut self) -> (HashMap<Led, Times>, u64) {
        self.listen();
        let lost = self.subscription.as_ref().map_or(0, |(_, subscription)| subscription.lost());
        let left_out = std::mem::take(&mut self.left_out) + lost.saturating_sub(self.lost);
        self.lost = lost;
        (std::mem::take(&mut self.known), left_out)
    }
}

/// First address of the network that a client is told as.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(client) => Ipv4Addr::from_bits(client.to_bits() & !0xff).into(),
        IpAddr::V6(client) => Ipv6Addr::from_bits(client.to_bits() >> 80 << 80).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Asked, Chosen, Decision, PathTaken, Spoken};
    use redirector_core::verdict::Reason;
    use std::net::SocketAddr;

    fn decision(client: &str, path: PathTaken, one_in: u32, account: u32) -> Decision {
        let mut chosen = Chosen { service: 4, account, count: 1, ..Chosen::default() };
        chosen.targets[0] = 5;
        Decision {
            time: 1_800_000_000_999_999,
            generation: 1,
            epoch: 0,
            one_in,
            path,
            spoken: Spoken::Dns,
            reason: Reason::FirstTier,
            client: SocketAddr::new(client.parse().expect("an address"), 1),
            vip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            asked: Asked::Nothing,
            chosen,
        }
    }

    #[test]
    fn clients_are_counted_by_network_each_with_what_it_stands_for() {
        let (hub, mut heard) = (Arc::new(Hub::default()), Heard::default());
        hub.tell(decision("192.0.2.7", PathTaken::Slow, 1, 9));
        let wish = Wish { one_in: 100, whole: false };
        heard.want(&hub, Some(wish));
        assert_eq!((hub.fast(), hub.takes_slow()), (100, Some(1)));
        for client in ["192.0.2.7", "192.0.2.9"] {
            hub.tell(decision(client, PathTaken::Slow, 1, 9));
        }
        hub.tell(decision("192.0.2.8", PathTaken::Fast, 100, 9));
        hub.tell(decision("2001:db8:1:2::3", PathTaken::Fast, 100, 9));
        // On nobody's account.
        hub.tell(decision("192.0.2.7", PathTaken::Slow, 1, NONE));
        let (known, left_out) = heard.take();
        let led = |client: &str| Led {
            client: client.parse().expect("an address"),
            service: 4,
            target: 5,
            account: 9,
        };
        let times = |requests, told| Times { requests, told, first: 1_800_000_000, last: 1_800_000_000 };
        let expected = [(led("192.0.2.0"), times(102, 3)), (led("2001:db8:1::"), times(100, 1))];
        assert_eq!((known, left_out), (HashMap::from(expected), 0));
        assert!(heard.take().0.is_empty(), "each is told once");
        // Whole addresses, and then nothing.
        heard.want(&hub, Some(Wish { whole: true, ..wish }));
        hub.tell(decision("192.0.2.7", PathTaken::Slow, 1, 9));
        assert_eq!(heard.take().0, HashMap::from([(led("192.0.2.7"), times(1, 1))]));
        heard.want(&hub, None);
        assert_eq!((hub.fast(), hub.takes_slow()), (0, None));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (hub, mut heard) = (Arc::new(Hub::default()), Heard::default());
        heard.want(&hub, Some(Wish { one_in: 1, whole: true }));
        for number in 0..MOST as u32 + 5 {
            let client = Ipv4Addr::from_bits(number).to_string();
            hub.tell(decision(&client, PathTaken::Slow, 1, 9));
            if number % 1000 == 0 {
                heard.listen();
            }
        }
        let (known, left_out) = heard.take();
        assert_eq!((known.len(), left_out), (MOST, 5));
    }
}
