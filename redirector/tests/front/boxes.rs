//! A box on loopback addresses, with all listeners of the slow path and tables in memory.

use arc_swap::ArcSwap;
use redirector::config::{self, Config};
use redirector::dataplane::{Dataplane, MemoryDataplane};
use redirector::front::{Front, Ports, Shared};
use redirector::state::Generation;
use redirector_core::verdict::Reason;
use redirector_plan::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::TargetState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest a step of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Ports that need no privilege.
pub(crate) const PORTS: Ports = Ports { dns: 20053, cdsr: 22554, http: 20080, rtsp: 20554 };

/// A loopback address that no other test of this machine uses.
pub(crate) fn fresh_address() -> IpAddr {
    static USED: AtomicU32 = AtomicU32::new(1);
    let process = std::process::id();
    let [.., high, low] = process.to_be_bytes();
    let number = USED.fetch_add(1, Ordering::Relaxed);
    IpAddr::V4(Ipv4Addr::new(127, 64 | high & 63, low, u8::try_from(number).expect("few boxes")))
}

/// What a test's box does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) speaks: &'static str,
    pub(crate) ports: Ports,
    /// Lines for `[limits]`.
    pub(crate) limits: String,
    /// Further tables.
    pub(crate) more: String,
    /// Address of the target of service `near`.
    pub(crate) near: String,
    /// Ports of that target.
    pub(crate) near_ports: String,
}

impl Plan {
    pub(crate) fn new(vip: IpAddr) -> Self {
        Self {
            vips: vec![vip],
            speaks: r#"["dns", "cdsr", "http", "rtsp"]"#,
            ports: PORTS,
            limits: String::new(),
            more: String::new(),
            near: "192.0.2.10\", \"2001:db8::10".to_owned(),
            near_ports: "http = 8080, rtsp = 8554".to_owned(),
        }
    }

    fn text(&self) -> String {
        let vips: Vec<String> = self.vips.iter().map(|vip| format!("\"{vip}\"")).collect();
        let first = match self.vips[0] {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let words = [
            ("@vips@", &*vips.join(", ")),
            ("@first@", &first),
            ("@speaks@", self.speaks),
            ("@limits@", &self.limits),
            ("@near@", &self.near),
            ("@near_ports@", &self.near_ports),
            ("@more@", &self.more),
        ];
        let network = include_str!("network.toml").to_owned();
        words.into_iter().fold(network, |text, (word, value)| text.replace(word, value))
    }

    fn config(&self) -> Config {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), self.text()).expect("written");
        config::load(file.path()).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    /// Everything is up but targets named `dead-…`.
    pub(crate) fn generation(&self, number: u64) -> Generation {
        let config = self.config();
        let state = |target: &redirector_plan::model::Target| TargetState {
            up: !target.name.starts_with("dead-"),
            ..TargetState::default()
        };
        let states: Vec<_> = config.network.targets.iter().map(state).collect();
        let mut slots = CounterSlots::new(64, 64, 64);
        let compiled = compile(&config.network, &states, number, &mut slots).expect("compiles");
        let tables = MemoryDataplane::new("test").publish(&compiled.image).expect("memory");
        Generation::new(config, compiled, tables)
    }

    /// Starts the box.
    pub(crate) async fn start(&self) -> TestBox {
        let (front, errors) = self.try_start().await;
        assert!(errors.is_empty(), "{errors:?}");
        front
    }

    pub(crate) async fn try_start(&self) -> (TestBox, Vec<redirector::front::BindError>) {
        let current = Arc::new(ArcSwap::from_pointee(self.generation(1)));
        let shared = Shared::new(current, self.ports);
        let (front, errors) = Front::start(shared.clone()).await;
        (TestBox { vip: self.vips[0], ports: self.ports, shared, front }, errors)
    }
}

/// A running box.
#[derive(Debug)]
pub(crate) struct TestBox {
    pub(crate) vip: IpAddr,
    pub(crate) ports: Ports,
    pub(crate) shared: Arc<Shared>,
    pub(crate) front: Front,
}

/// A box with one VIP address of its own.
pub(crate) async fn start() -> TestBox {
    Plan::new(fresh_address()).start().await
}

impl TestBox {
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip, port)
    }

    /// How often something was answered for a reason.
    pub(crate) fn counted(&self, reason: Reason) -> u64 {
        self.shared.counters.snapshot().reasons.get(&(reason as u16)).copied().unwrap_or_default()
    }

    /// Sends bytes over a new connection, ends the sending side, and gives all that comes back.
    pub(crate) async fn exchange(&self, port: u16, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.at(port)).await.expect("connects");
        stream.write_all(bytes).await.expect("sends");
        stream.shutdown().await.expect("ends");
        read_all(&mut stream).await
    }
}

/// Everything until the other side ends.
pub(crate) async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "the connection stays open; so far: {:?}", String::from_utf8_lossy(&bytes));
    bytes
}

/// Reads one answer's header.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await;
        let byte =
            byte.unwrap_or_else(|_| panic!("no answer; so far: {:?}", String::from_utf8_lossy(&bytes)));
        bytes.push(
            byte.unwrap_or_else(|error| panic!("{error}; so far: {:?}", String::from_utf8_lossy(&bytes))),
        );
    }
    String::from_utf8(bytes).expect("text")
}

/// Ports of `::1` that nothing listens at.
pub(crate) fn free_ports_v6() -> Ports {
    let listeners: Vec<_> =
        (0..3).map(|_| std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port")).collect();
    let port = |n: usize| listeners[n].local_addr().expect("bound").port();
    let cdsr = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    Ports { dns: port(0), http: port(1), rtsp: port(2), cdsr: cdsr.local_addr().expect("bound").port() }
}
