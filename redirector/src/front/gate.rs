//! Bounds on open connections, in all and for each client network.

use redirector_core::decide::Client;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One client network may hold this part of all connections, so that none can shut the others out.
const NETWORK_PART: usize = 4;
/// A client network may always hold that many, as far as there are so many in all.
const NETWORK_LEAST: usize = 16;

/// A client's /24 or /48, and whether it is IPv6.
type Prefix = (bool, u64);

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_prefix: HashMap<Prefix, usize>,
}

/// Counts the open connections of one protocol.
#[derive(Debug, Default)]
pub(super) struct Gate {
    held: Mutex<Held>,
}

impl Gate {
    /// Lets a connection in, unless `most` are open or its network has its part of them.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, most: usize) -> Option<Ticket> {
        let prefix = prefix(client);
        let most_of_prefix = (most / NETWORK_PART).max(NETWORK_LEAST);
        let mut held = self.held();
        let of_prefix = held.by_prefix.get(&prefix).copied().unwrap_or_default();
        if held.all >= most || of_prefix >= most_of_prefix {
            return None;
        }
        held.all += 1;
        held.by_prefix.insert(prefix, of_prefix + 1);
        drop(held);
        Some(Ticket { gate: self.clone(), prefix })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing panics between two changes that belong together.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prefix(client: IpAddr) -> Prefix {
    let client = Client::new(client);
    if client.v6 != 0 { (true, client.high >> 16) } else { (false, client.low >> 8) }
}

/// A connection's place; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Arc<Gate>,
    prefix: Prefix,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut held = self.gate.held();
        held.all -= 1;
        match held.by_prefix.get_mut(&self.prefix) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                held.by_prefix.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn a_network_holds_its_part_and_leaves_room_for_others() {
        let gate = Arc::new(Gate::default());
        let first: Vec<_> = (0..100).map_while(|_| gate.enter(address("192.0.2.1"), 100)).collect();
        assert_eq!(first.len(), 25);
        assert!(gate.enter(address("192.0.2.255"), 100).is_none(), "same /24");
        assert!(gate.enter(address("192.0.3.1"), 100).is_some());
        assert!(gate.enter(address("2001:db8::1"), 100).is_some());
    }

    #[test]
    fn all_together_hold_no_more_than_allowed_and_places_come_back() {
        let gate = Arc::new(Gate::default());
        let mut held: Vec<_> = (0..8).map_while(|_| gate.enter(address("2001:db8::1"), 3)).collect();
        assert_eq!(held.len(), 3);
        assert!(gate.enter(address("192.0.2.1"), 3).is_none());
        held.pop();
        assert!(gate.enter(address("192.0.2.1"), 3).is_some());
        held.clear();
        assert!(gate.held().by_prefix.is_empty(), "nothing is kept of those who left");
        assert_eq!(gate.held().all, 0);
    }
}
