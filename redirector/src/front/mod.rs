//! The slow path: sockets on the VIP addresses, for what the fast path leaves to userspace (P-23 to P-26, A-9).
//!
//! DNS and CDSR messages go through the same `respond` functions as in the kernel; HTTP and RTSP requests become URLs
//! that are decided as CDSR decides them ([`url`]). Each message and each request reads the current generation once,
//! so an answer never mixes two of them.

mod accept;
mod counters;
mod dns_tcp;
mod gate;
mod guard;
mod http;
mod limits;
mod listen;
mod location;
pub(crate) mod message;
pub(crate) mod proof;
mod redirect;
mod rtsp;
mod udp;
pub mod url;

pub use counters::SlowCounters;
pub(crate) use listen::Datagram;
pub use listen::{BindError, Ports, Stream};

use crate::state::{Current, Generation};
use accept::Connection;
use gate::Gate;
use guard::LoopGuard;
use limits::Buckets;
use listen::{Endpoint, Protocol};
use redirector_core::lookup;
use redirector_core::table::{Tables, VipEntry};
use redirector_plan::{ipv4_word, ipv6_words};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What all listeners and connections share.
#[derive(Debug)]
pub struct Shared {
    /// The generation that answers come from.
    pub current: Current,
    /// What was answered.
    pub counters: SlowCounters,
    ports: Ports,
    buckets: Buckets,
    guard: LoopGuard,
    dns: Arc<Gate>,
    http: Arc<Gate>,
    rtsp: Arc<Gate>,
}

impl Shared {
    /// Answers come from `current`, at `ports`.
    pub fn new(current: Current, ports: Ports) -> Arc<Self> {
        Arc::new(Self {
            current,
            counters: SlowCounters::default(),
            ports,
            buckets: Buckets::default(),
            guard: LoopGuard::default(),
            dns: Arc::default(),
            http: Arc::default(),
            rtsp: Arc::default(),
        })
    }

    /// Answers a client's connection to a VIP address as the listeners do, until it ends, over whatever stream it comes.
    /// One that is too many is closed at once. Must be called within a Tokio runtime with timers.
    pub async fn converse(
        self: &Arc<Self>,
        kind: Stream,
        vip: IpAddr,
        client: SocketAddr,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) {
        let stop = watch::Sender::new(false);
        if let Some(connection) = Connection::admit(self, kind, (vip, client), stop.subscribe()) {
            accept::answer(connection, kind, stream).await;
        }
    }
}

/// The VIP that an address belongs to; `None` once it was removed.
fn vip_entry<T: Tables>(tables: &T, address: IpAddr) -> Option<&VipEntry> {
    let words = match address {
        IpAddr::V4(v4) => lookup::mapped(ipv4_word(v4)),
        IpAddr::V6(v6) => ipv6_words(v6),
    };
    lookup::vip(tables, &tables.meta()?.keys, words)
}

/// The listeners of a running box. When this is dropped, they end at once, and so do connections.
#[derive(Debug)]
pub struct Front {
    shared: Arc<Shared>,
    listeners: BTreeMap<Endpoint, Listener>,
    /// Becomes true when connections are to end; they hold the receivers.
    stop: watch::Sender<bool>,
}

impl Front {
    /// Listens for the current generation. Must be called within a Tokio runtime. Errors as [`Self::rebind`].
    pub async fn start(shared: Arc<Shared>) -> (Self, Vec<BindError>) {
        let generation = shared.current.load_full();
        let mut front = Self { shared, listeners: BTreeMap::new(), stop: watch::Sender::new(false) };
        let errors = front.rebind(&generation).await;
        (front, errors)
    }

    /// Listens at the addresses of a generation, and no longer at others. Listeners of both the old and the new one
    /// stay as they are; so do open connections, whose next request is answered by the current generation.
    ///
    /// Gives every address that could not be bound; the next call tries these again.
    pub async fn rebind(&mut self, generation: &Generation) -> Vec<BindError> {
        let wanted = listen::endpoints(&generation.config.network);
        let gone: Vec<Endpoint> =
            self.listeners.keys().filter(|endpoint| !wanted.contains(endpoint)).copied().collect();
        for listener in gone.iter().filter_map(|endpoint| self.listeners.remove(endpoint)) {
            listener.end().await;
        }
        let mut errors = Vec::new();
        for endpoint in wanted {
            if self.listeners.get(&endpoint).is_some_and(|listener| !listener.task.is_finished()) {
                continue;
            }
            match self.listen(endpoint) {
                Ok(listener) => {
                    self.listeners.insert(endpoint, listener);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    fn listen(&self, endpoint: Endpoint) -> Result<Listener, BindError> {
        let shared = self.shared.clone();
        let task = match endpoint.protocol {
            Protocol::Datagram(kind) => {
                let socket = listen::udp(endpoint, shared.ports)?;
                tokio::spawn(udp::serve(socket, kind, endpoint.address, shared))
            }
            Protocol::Stream(kind) => {
                let listener = listen::tcp(endpoint, shared.ports)?;
                let stop = self.stop.subscribe();
                tokio::spawn(accept::serve(listener, kind, endpoint.address, shared, stop))
            }
        };
        Ok(Listener { task })
    }

    /// Ends: accepts nothing more at once, lets connections finish the request at hand, and waits for that at most
    /// `patience`.
    pub async fn stop(self, patience: Duration) {
        for listener in self.listeners.into_values() {
            listener.end().await;
        }
        self.stop.send_replace(true);
        // A connection that outlasts this is closed with the runtime.
        let _ = tokio::time::timeout(patience, self.stop.closed()).await;
    }
}

/// A task that answers datagrams or accepts connections.
#[derive(Debug)]
struct Listener {
    task: JoinHandle<()>,
}

impl Listener {
    /// Ends it and waits until its socket is closed.
    async fn end(mut self) {
        self.task.abort();
        // The outcome of an aborted task says nothing.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}
