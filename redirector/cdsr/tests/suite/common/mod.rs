//! A redirector and a name server that do what a test tells them to.

pub(crate) mod dns;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Servers that replies name.
pub(crate) const SERVER_1: &str = "192.0.2.10:8554";
pub(crate) const SERVER_2: &str = "192.0.2.11:8554";
pub(crate) const SERVER_3: &str = "198.51.100.10:554";

/// A loopback address by its last number, in a network of this process's own: the protocol's port is the same for all
/// that run these tests on a machine.
pub(crate) fn own(number: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{number}", 1 + high % 63)
}

/// A reply in the making; section 7 of the protocol.
#[derive(Debug, Clone)]
pub(crate) struct ReplyBuilder {
    pub(crate) nonce: u64,
    pub(crate) status: u8,
    pub(crate) reason: u16,
    pub(crate) value: u32,
    pub(crate) scope: u8,
    pub(crate) flags: u8,
    pub(crate) prefix: u16,
    pub(crate) suffix: u8,
    pub(crate) endpoints: Vec<(SocketAddr, u8, u8, u16, u8)>,
}

impl ReplyBuilder {
    /// The reply to `request` that says only this.
    pub(crate) fn status(request: &[u8], status: u8, value: u32) -> Self {
        let nonce = u64::from_be_bytes(*request[4..].first_chunk().expect("a request"));
        Self {
            nonce,
            status,
            reason: 1,
            value,
            scope: 0,
            flags: 0,
            prefix: 0,
            suffix: 0,
            endpoints: Vec::new(),
        }
    }

    /// The reply that names `servers` in this order, good for a minute and the URL.
    pub(crate) fn handled(request: &[u8], servers: &[&str]) -> Self {
        let endpoints = (0..).zip(servers).map(|(order, text)| (text.parse().expect(text), order, 1, 7, 0));
        Self { endpoints: endpoints.collect(), ..Self::status(request, 0, 60) }
    }

    /// The same, good for every URL of the origin.
    pub(crate) fn host_scope(self) -> Self {
        Self { scope: 1, ..self }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![b'C', b'D', 1, 0x81];
        out.extend(self.nonce.to_be_bytes());
        out.extend([self.status, u8::try_from(self.endpoints.len()).expect("few endpoints")]);
        out.extend(self.reason.to_be_bytes());
        out.extend(self.value.to_be_bytes());
        out.extend([self.scope, self.flags]);
        out.extend(self.prefix.to_be_bytes());
        out.extend([self.suffix, 0, 0, 0]);
        for (server, order, share, network, class) in &self.endpoints {
            out.extend(match server.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            });
            out.extend(server.port().to_be_bytes());
            out.extend([*order, *share]);
            out.extend(network.to_be_bytes());
            out.extend([*class, 0]);
        }
        out
    }
}

/// What a mock redirector sends.
pub(crate) enum Send {
    /// From where the request went to.
    Reply(Vec<u8>),
    /// The same, so much later.
    Late(Duration, Vec<u8>),
    /// From another port.
    Spoofed(Vec<u8>),
}

/// Requests and when they came.
type Log = Vec<(Instant, Vec<u8>)>;

/// A redirector in a thread of its own.
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mock {
    /// Listens at `address` and does to the n-th request, from 0, what `act` says.
    pub(crate) fn at(
        address: &str,
        mut act: impl FnMut(usize, &[u8]) -> Vec<Send> + std::marker::Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        let spoofer = UdpSocket::bind(SocketAddr::new(socket.local_addr().expect("an address").ip(), 0));
        let spoofer = spoofer.expect("another socket");
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a time-out");
        let address = socket.local_addr().expect("an address");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            move || {
                let mut late: Vec<(Instant, Vec<u8>, SocketAddr)> = Vec::new();
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((len, client)) = socket.recv_from(&mut buffer) {
                        let now = Instant::now();
                        let number = {
                            let mut log = log.lock().expect("the log");
                            log.push((now, buffer[..len].to_vec()));
                            log.len() - 1
                        };
                        for send in act(number, &buffer[..len]) {
                            match send {
                                Send::Reply(bytes) => drop(socket.send_to(&bytes, client)),
                                Send::Spoofed(bytes) => drop(spoofer.send_to(&bytes, client)),
                                Send::Late(delay, bytes) => late.push((now + delay, bytes, client)),
                            }
                        }
                    }
                    late.retain(|(due, bytes, client)| {
                        let wait = *due > Instant::now();
                        if !wait {
                            // The client may be gone.
                            let _ = socket.send_to(bytes, client);
                        }
                        wait
                    });
                }
            }
        });
        Self { address, log, stop, thread: Some(thread) }
    }

    /// At any port of 127.0.0.1.
    pub(crate) fn new(act: impl FnMut(usize, &[u8]) -> Vec<Send> + std::marker::Send + 'static) -> Self {
        Self::at("127.0.0.1:0", act)
    }

    /// Answers every request by `make`.
    pub(crate) fn replying(make: impl Fn(&[u8]) -> ReplyBuilder + std::marker::Send + 'static) -> Self {
        Self::new(move |_, request| vec![Send::Reply(make(request).encode())])
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        self.log.lock().expect("the log").iter().map(|(_, request)| request.clone()).collect()
    }

    /// When they came.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.log.lock().expect("the log").iter().map(|(time, _)| *time).collect()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking(), "the mock redirector panicked");
        }
    }
}

/// The server list of a request: address, kind, detail.
pub(crate) fn server_list(request: &[u8]) -> Vec<(IpAddr, u8, u8)> {
    let entries = request[24..].chunks_exact(20).take(usize::from(request[18]));
    entries
        .map(|entry| {
            let address: [u8; 16] = *entry.first_chunk().expect("an address");
            (IpAddr::from(address).to_canonical(), entry[18], entry[19])
        })
        .collect()
}

/// Address of a server text.
pub(crate) fn ip(server: &str) -> IpAddr {
    server.parse::<SocketAddr>().expect(server).ip()
}
