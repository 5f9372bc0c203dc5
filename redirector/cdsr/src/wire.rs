//! The client's half of the wire format, `docs/cdsr-protocol.md` sections 4 to 9: requests are written, replies are read.
//!
//! The redirector's half is `redirector-core`. The two are separate on purpose: a program that links the stub takes
//! none of the appliance along, and both are held to the same vectors in `tests/vectors/cdsr`.

use crate::url::Url;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// UDP port of CDSR.
pub const PORT: u16 = 2554;
/// First two bytes of every message: "CD".
pub const MAGIC: [u8; 2] = *b"CD";
/// The version written and read here.
pub const VERSION: u8 = 1;
/// Shortest URL, in bytes.
pub const MIN_URL: usize = 8;
/// Longest URL, in bytes.
pub const MAX_URL: usize = 1024;
/// Longest message in bytes: what IPv6's least MTU leaves for UDP.
pub const MAX_DATAGRAM: usize = 1232;
/// Most entries of a request's server list.
pub const MAX_SERVERS: usize = 8;
/// Most endpoints of a reply.
pub const MAX_ENDPOINTS: u8 = 8;
/// Longest token in a request, in bytes.
pub const MAX_TOKEN: usize = 128;
/// Endpoints that a request without a number of its own asks for.
pub const DEFAULT_ENDPOINTS: u8 = 4;

const KIND_RESOLVE: u8 = 0x01;
const KIND_REPLY: u8 = 0x81;
const REQUEST_HEADER: usize = 24;
const SERVER_ENTRY: usize = 20;
const EXTENSION_HEADER: usize = 4;
const EXTENSION_TOKEN: u16 = 1;
const REPLY_HEADER: usize = 28;
const ENDPOINT: usize = 24;
const FLAG_MORE: u8 = 1;

/// Address families of the endpoints that a client can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// The family that the request travels by.
    #[default]
    SameAsRequest,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Either.
    Both,
}

impl Families {
    fn bits(self) -> u8 {
        match self {
            Self::SameAsRequest => 0,
            Self::V4 => 1,
            Self::V6 => 2,
            Self::Both => 3,
        }
    }

    /// Whether a client that sent this to `redirector` wants an endpoint at `address`.
    pub fn admit(self, redirector: IpAddr, address: IpAddr) -> bool {
        match self {
            Self::SameAsRequest => redirector.is_ipv4() == address.is_ipv4(),
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Both => true,
        }
    }
}

/// How a server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Not told.
    Unspecified,
    /// It did not answer in time.
    TimedOut,
    /// It refused the connection.
    Refused,
    /// It answered with an error.
    ErrorAnswer,
    /// It was too slow to go on with.
    TooSlow,
}

/// What a request says about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// Do not name it again.
    Failed(FailureKind),
    /// Name it if policy allows.
    Preferred,
}

/// An entry of a request's server list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerEntry {
    /// The server; the port is for information and may be 0.
    pub server: SocketAddr,
    /// What the client says about it.
    pub opinion: Opinion,
}

/// A resolve request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Unpredictable number that the reply must repeat.
    pub nonce: u64,
    /// Which endpoints are of use.
    pub families: Families,
    /// How many endpoints are wanted, up to [`MAX_ENDPOINTS`]; 0 asks for [`DEFAULT_ENDPOINTS`].
    pub max_endpoints: u8,
    /// What is asked for.
    pub url: &'a Url,
    /// At most [`MAX_SERVERS`], and what fits; further ones are left out.
    pub servers: &'a [ServerEntry],
    /// Shows that the client may have what is asked for; at most [`MAX_TOKEN`] bytes of it are sent.
    pub token: Option<&'a str>,
    /// Least length of the datagram in bytes. It is raised as far as the endpoints asked for need room in the reply,
    /// and cut to [`MAX_DATAGRAM`].
    pub min_len: usize,
}

impl Request<'_> {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let url = self.url.as_str().as_bytes();
        let token = self.token.map_or(&[][..], |token| &token.as_bytes()[..token.len().min(MAX_TOKEN)]);
        let extensions = if token.is_empty() { 0 } else { EXTENSION_HEADER + token.len() };
        let room = (MAX_DATAGRAM - REQUEST_HEADER - url.len() - extensions) / SERVER_ENTRY;
        let servers = &self.servers[..self.servers.len().min(MAX_SERVERS).min(room)];
        let host = self.url.host_range();
        let mut out = Vec::with_capacity(MAX_DATAGRAM);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, KIND_RESOLVE]);
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(&[self.families.bits(), self.max_endpoints]);
        // `Url` keeps its length within 1024 and both host fields within 255.
        out.extend_from_slice(&(url.len() as u16).to_be_bytes());
        out.extend_from_slice(&[host.start as u8, host.len() as u8, servers.len() as u8, 0]);
        out.extend_from_slice(&(extensions as u16).to_be_bytes());
        out.extend_from_slice(&[0; 2]); // reserved
        for entry in servers {
            out.extend_from_slice(&entry.encode());
        }
        out.extend_from_slice(url);
        if !token.is_empty() {
            out.extend_from_slice(&EXTENSION_TOKEN.to_be_bytes());
            out.extend_from_slice(&(token.len() as u16).to_be_bytes());
            out.extend_from_slice(token);
        }
        out.resize(out.len().max(self.padded_len()), 0);
        out
    }

    /// Room for the wanted endpoints, since no reply is longer than its request.
    fn padded_len(&self) -> usize {
        let wanted = if self.max_endpoints == 0 { DEFAULT_ENDPOINTS } else { self.max_endpoints };
        let reply = REPLY_HEADER + usize::from(wanted.min(MAX_ENDPOINTS)) * ENDPOINT;
        self.min_len.max(reply).min(MAX_DATAGRAM)
    }
}

impl ServerEntry {
    fn encode(&self) -> [u8; SERVER_ENTRY] {
        let address = match self.server.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let (kind, detail) = match self.opinion {
            Opinion::Failed(FailureKind::Unspecified) => (1, 0),
            Opinion::Failed(FailureKind::TimedOut) => (1, 1),
            Opinion::Failed(FailureKind::Refused) => (1, 2),
            Opinion::Failed(FailureKind::ErrorAnswer) => (1, 3),
            Opinion::Failed(FailureKind::TooSlow) => (1, 4),
            Opinion::Preferred => (2, 0),
        };
        let mut out = [0; SERVER_ENTRY];
        out[..16].copy_from_slice(&address.octets());
        out[16..18].copy_from_slice(&self.server.port().to_be_bytes());
        out[18..].copy_from_slice(&[kind, detail]);
        out
    }
}

/// What a reply says, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The endpoints serve the URL.
    Handled,
    /// This redirector does not know the URL.
    NotMine,
    /// Ask again after the delay.
    RetryLater(Duration),
    /// The client may not have it.
    Denied,
    /// Use the URL's own protocol at the addresses of its host. Also what a status of a later registry counts as.
    UseLegacy,
    /// The request was malformed.
    BadRequest,
    /// The redirector speaks another version.
    VersionNotSupported,
}

/// For which URLs an answer holds, beside the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// No other.
    Url,
    /// Every URL of the same scheme, host and port.
    Host,
    /// Every URL that begins with this many bytes of the URL asked for.
    Prefix(u16),
}

/// A server to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address and port to connect to.
    pub server: SocketAddr,
    /// 0 is to be tried first; endpoints of equal order are alternatives.
    pub order: u8,
    /// Part of the clients that this one should get among those of equal order, 1 to 255.
    pub share: u8,
    /// Number of the network that the server belongs to; 0 is not told.
    pub network: u16,
    /// Policy class that the server was chosen by.
    pub class: u8,
}

/// A reply as it was sent; [`Reply::decode`] has checked that it is one, not that it is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Outcome.
    pub status: Status,
    /// The redirector's stable number of why.
    pub reason: u16,
    /// How long the answer may be used; zero is for this use only.
    pub lifetime: Duration,
    /// What else the answer holds for.
    pub scope: Scope,
    /// Endpoints were left out for lack of room.
    pub more: bool,
    /// Every host that ends in this suffix of the asked host is handled by the redirector. Whole labels, two at least.
    pub handled_suffix: Option<String>,
    /// In the order sent; those that no client may connect to are left out.
    pub endpoints: Vec<Endpoint>,
}

/// Why a datagram is not the reply to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// Fewer bytes than header and endpoints need.
    Truncated,
    /// More bytes than the request had.
    LongerThanRequest,
    /// Not CDSR at all.
    Magic,
    /// A version that was not asked for.
    Version(u8),
    /// Not a reply.
    Kind(u8),
    /// The answer to something else, or a guess.
    Nonce,
}

impl std::error::Error for ReplyError {}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "shorter than its header says"),
            Self::LongerThanRequest => write!(f, "longer than the request"),
            Self::Magic => write!(f, "not a CDSR message"),
            Self::Version(version) => write!(f, "version {version}, {VERSION} expected"),
            Self::Kind(kind) => write!(f, "message kind {kind:#04x}, {KIND_REPLY:#04x} expected"),
            Self::Nonce => write!(f, "not the nonce of the request"),
        }
    }
}

impl Reply {
    /// Reads the reply to `request`, a datagram of `request_len` bytes that was sent to `redirector`.
    ///
    /// Fields that could lead a client astray are defused rather than trusted: a scope that does not hold the asked URL's
    /// whole origin becomes [`Scope::Url`], a suffix of less than two whole labels is dropped, and so are endpoints that no
    /// server can have (section 13 of the protocol).
    ///
    /// # Errors
    /// The datagram is not a reply to this request and is to be ignored.
    pub fn decode(
        datagram: &[u8],
        request: &Request<'_>,
        request_len: usize,
        redirector: IpAddr,
    ) -> Result<Self, ReplyError> {
        if datagram.len() > request_len {
            return Err(ReplyError::LongerThanRequest);
        }
        let (header, body) = datagram.split_first_chunk::<REPLY_HEADER>().ok_or(ReplyError::Truncated)?;
        if header[..2] != MAGIC {
            return Err(ReplyError::Magic);
        }
        if header[3] != KIND_REPLY {
            return Err(ReplyError::Kind(header[3]));
        }
        if header[2] != VERSION {
            return Err(ReplyError::Version(header[2]));
        }
        if header[4..12] != request.nonce.to_be_bytes() {
            return Err(ReplyError::Nonce);
        }
        let count = usize::from(header[13]);
        let endpoints = body.get(..count * ENDPOINT).ok_or(ReplyError::Truncated)?;
        let value = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
        let status = status(header[12], value);
        let lasting = matches!(header[12], 0 | 1 | 4);
        Ok(Self {
            status,
            reason: u16::from_be_bytes([header[14], header[15]]),
            lifetime: if lasting { Duration::from_secs(u64::from(value)) } else { Duration::ZERO },
            scope: scope(header[20], u16::from_be_bytes([header[22], header[23]]), request.url),
            more: header[21] & FLAG_MORE != 0,
            handled_suffix: handled_suffix(usize::from(header[24]), request.url)
                .filter(|_| status == Status::Handled),
            endpoints: endpoints
                .chunks_exact(ENDPOINT)
                .filter_map(endpoint)
                .filter(|e| believable(e, redirector) && request.families.admit(redirector, e.server.ip()))
                .collect(),
        })
    }
}

fn status(code: u8, value: u32) -> Status {
    match code {
        0 => Status::Handled,
        1 => Status::NotMine,
        2 => Status::RetryLater(Duration::from_millis(u64::from(value))),
        3 => Status::Denied,
        5 => Status::BadRequest,
        6 => Status::VersionNotSupported,
        _ => Status::UseLegacy,
    }
}

/// A prefix that ends within the origin would cover other hosts, so it must reach past it.
fn scope(code: u8, prefix_len: u16, url: &Url) -> Scope {
    let len = usize::from(prefix_len);
    match code {
        1 => Scope::Host,
        2 if len > url.origin().len() && len <= url.as_str().len() => Scope::Prefix(prefix_len),
        _ => Scope::Url,
    }
}

fn handled_suffix(len: usize, url: &Url) -> Option<String> {
    let crate::url::Host::Name(host) = url.host() else { return None };
    let (before, suffix) = host.split_at_checked(host.len().checked_sub(len)?)?;
    let whole_labels = before.is_empty() || before.ends_with('.');
    (whole_labels && suffix.trim_end_matches('.').contains('.')).then(|| suffix.to_owned())
}

fn endpoint(bytes: &[u8]) -> Option<Endpoint> {
    let (address, rest) = bytes.split_first_chunk::<16>()?;
    let &[port_high, port_low, order, share, network_high, network_low, class, _reserved] = rest else {
        return None;
    };
    let port = u16::from_be_bytes([port_high, port_low]);
    Some(Endpoint {
        server: SocketAddr::new(Ipv6Addr::from(*address).to_canonical(), port),
        order,
        share: share.max(1),
        network: u16::from_be_bytes([network_high, network_low]),
        class,
    })
}

/// Whether a server may stand there: a forged or faulty reply must not aim the client at itself or at a group.
fn believable(endpoint: &Endpoint, redirector: IpAddr) -> bool {
    let address = endpoint.server.ip();
    let impossible = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    let reachable = !address.is_loopback() || redirector.is_loopback();
    endpoint.server.port() != 0 && !impossible && !address.is_multicast() && reachable
}
