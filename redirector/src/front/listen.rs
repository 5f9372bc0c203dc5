//! Sockets on VIP addresses.

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use redirector_plan::model::{Network, Vip};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpListener, UdpSocket};

/// Largest TCP segment: fits the smallest IPv6 MTU, so that no answer depends on path MTU discovery, whose ICMP messages
/// anycast may bring to another box (P-4).
const MAX_SEGMENT: u32 = 1220;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Bytes of datagrams that may wait to be read. The kernel allows twice as many, and counts a page for each that the fast
/// path has handed on: 512.
const WAITING: usize = 1 << 20;

/// Where each protocol is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// DNS, UDP and TCP.
    pub dns: u16,
    /// CDSR, UDP.
    pub cdsr: u16,
    /// HTTP, TCP.
    pub http: u16,
    /// RTSP, TCP.
    pub rtsp: u16,
}

impl Default for Ports {
    /// The registered ports.
    fn default() -> Self {
        Self { dns: 53, cdsr: redirector_core::wire::cdsr::PORT, http: 80, rtsp: 554 }
    }
}

/// What is asked in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Datagram {
    /// RFC 1035 section 4.2.1.
    Dns,
    /// docs/cdsr-protocol.md.
    Cdsr,
}

/// What is asked over connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// RFC 7766.
    Dns,
    /// RFC 9112.
    Http,
    /// RFC 2326.
    Rtsp,
}

/// A listener's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    /// Over UDP.
    Datagram(Datagram),
    /// Over TCP.
    Stream(Stream),
}

impl Protocol {
    fn transport(self) -> &'static str {
        match self {
            Self::Datagram(_) => "UDP",
            Self::Stream(_) => "TCP",
        }
    }
    fn port(self, ports: Ports) -> u16 {
        match self {
            Self::Datagram(Datagram::Dns) | Self::Stream(Stream::Dns) => ports.dns,
            Self::Datagram(Datagram::Cdsr) => ports.cdsr,
            Self::Stream(Stream::Http) => ports.http,
            Self::Stream(Stream::Rtsp) => ports.rtsp,
        }
    }
}

/// What a listener listens at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    /// VIP address.
    pub(super) address: IpAddr,
    /// Protocol, which has its port.
    pub(super) protocol: Protocol,
}

/// Everything a network's VIPs answer at.
pub(super) fn endpoints(network: &Network) -> BTreeSet<Endpoint> {
    let protocols = |vip: &Vip| {
        let speaks = vip.speaks;
        [
            (speaks.dns, Protocol::Datagram(Datagram::Dns)),
            (speaks.dns, Protocol::Stream(Stream::Dns)),
            (speaks.cdsr, Protocol::Datagram(Datagram::Cdsr)),
            (speaks.http, Protocol::Stream(Stream::Http)),
            (speaks.rtsp, Protocol::Stream(Stream::Rtsp)),
        ]
    };
    let mut endpoints = BTreeSet::new();
    for vip in &network.vips {
        let v4 = vip.ipv4.iter().copied().map(IpAddr::V4);
        for address in v4.chain(vip.ipv6.iter().copied().map(IpAddr::V6)) {
            let spoken = protocols(vip).into_iter().filter(|(speaks, _)| *speaks);
            endpoints.extend(spoken.map(|(_, protocol)| Endpoint { address, protocol }));
        }
    }
    endpoints
}

/// A listener that could not be made.
#[derive(Debug)]
pub struct BindError {
    /// `"UDP"` or `"TCP"`.
    pub transport: &'static str,
    /// Address and port.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, address, error } = self;
        write!(f, "cannot listen at {transport} {address}: {error}")?;
        f.write_str(match error.kind() {
            io::ErrorKind::AddrInUse => "; stop the program that listens there (ss -lnptu shows it)",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "",
        })
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A UDP socket bound to the endpoint's address, so that answers leave from it.
pub(super) fn udp(endpoint: Endpoint, ports: Ports) -> Result<UdpSocket, BindError> {
    // No SO_REUSEADDR: with it, two boxes on one machine would take each other's datagrams.
    let open = |address| {
        let socket = socket(address, Type::DGRAM)?;
        // Who may not configure networks gets what the system allows everybody.
        if setsockopt(&socket, RcvBufForce, &WAITING).is_err() {
            socket.set_recv_buffer_size(WAITING)?;
        }
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    named(endpoint, ports, open)
}

/// A TCP listener bound to the endpoint's address.
pub(super) fn tcp(endpoint: Endpoint, ports: Ports) -> Result<TcpListener, BindError> {
    let open = |address| {
        let socket = socket(address, Type::STREAM)?;
        // A box that starts anew must not wait for the old connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_tcp_mss(MAX_SEGMENT)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    named(endpoint, ports, open)
}

fn named<S>(
    endpoint: Endpoint,
    ports: Ports,
    open: impl FnOnce(SocketAddr) -> io::Result<S>,
) -> Result<S, BindError> {
    let address = SocketAddr::new(endpoint.address, endpoint.protocol.port(ports));
    let transport = endpoint.protocol.transport();
    open(address).map_err(|error| BindError { transport, address, error })
}

/// A socket that may be bound to an address before some interface has it: the VIP comes when the box is announced.
fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}
