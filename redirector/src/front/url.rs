//! The decision for a URL, exactly as CDSR makes it: the same reader, the same rules, the same choice (P-25).

use redirector_core::decide::{Client, Query, decide};
use redirector_core::lookup::{Labels, Scheme};
use redirector_core::outcome;
use redirector_core::table::{
    NONE, OUTCOME_ADDRESS, OUTCOME_NAME, SERVICE_HAS_IPV4, SERVICE_HAS_IPV6, SERVICE_OUTCOMES, SERVICE_PROOF,
    SERVICE_PROVIDED, Tables, VipEntry,
};
use redirector_core::verdict::{Reason, Verdict};
use redirector_core::wire::cdsr::{Located, MAX_URL, Status, Stop, UrlPlace, locate, url_hash};
use redirector_core::wire::{ADMITTED, Buffer, Proof, REFUSED, Trace};
use std::net::SocketAddr;

/// Place of the URL in the buffer that is searched: readers load whole words, also before its first byte.
const START: usize = 8;

/// A request's URL in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'u> {
    /// What is asked for by.
    pub scheme: Scheme,
    /// Name, IPv4 address, or IPv6 address in brackets.
    pub host: &'u str,
    /// Port, if one is written and is not the scheme's own.
    pub port: Option<u16>,
    /// Path and query; may be empty.
    pub path: &'u str,
}

impl<'u> Url<'u> {
    /// From scheme, authority (`host[:port]`) and path. A dot at the end of a host name is left out: the name is the
    /// same without it. `None` if the authority has another form: user information among others.
    pub fn new(scheme: Scheme, authority: &'u str, path: &'u str) -> Option<Self> {
        let (host, port) = match authority.rfind([':', ']']) {
            Some(colon) if authority[colon..].starts_with(':') => {
                (&authority[..colon], Some(&authority[colon + 1..]))
            }
            _ => (authority, None),
        };
        let literal = host.starts_with('[') && host.ends_with(']');
        let allowed = |byte: u8| match byte {
            b':' | b'[' | b']' => literal,
            b'@' | b'/' | b'?' | b'#' | b'\\' => false,
            _ => byte.is_ascii_graphic(),
        };
        if host.is_empty() || !host.bytes().all(allowed) {
            return None;
        }
        let port = match port {
            // RFC 3986 section 3.2.3: an empty port is none.
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        let port = port.filter(|port| *port != scheme.default_port());
        let host = host.strip_suffix('.').unwrap_or(host);
        Some(Self { scheme, host, port, path })
    }

    /// The whole URL.
    pub fn text(&self) -> String {
        let Self { scheme, host, port, path } = self;
        match port {
            None => format!("{}://{host}{path}", scheme.name()),
            Some(port) => format!("{}://{host}:{port}{path}", scheme.name()),
        }
    }
}

/// What was decided for a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlDecision {
    /// Service number.
    pub service: u32,
    /// Whether the targets' IPv6 addresses are meant: the family of the client's connection, if the service has it.
    pub v6: bool,
    /// The choice. Without targets, its reason tells why.
    pub verdict: Verdict,
    /// The target that tells on whose account a provider's content is served, or [`NONE`].
    pub account: u32,
    /// Nothing was chosen, because of what the URL is or lacks.
    pub denied: Option<Denied>,
}

impl UrlDecision {
    fn denied(service: u32, reason: Reason, refused: bool) -> Self {
        let denied = Some(if refused { Denied::Refused } else { Denied::Empty });
        Self { service, v6: false, verdict: Verdict::of(reason), account: NONE, denied }
    }
}

/// What a client gets that gets no server, because of what its URL is or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It is told so.
    Refused,
    /// It is told that there is nothing.
    Empty,
}

/// Why nothing was decided for a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// Longer than [`MAX_URL`].
    TooLong,
    /// Not a URL: host or characters that cannot be.
    Malformed,
    /// No rule of the VIP's content network holds for it.
    NotOurs,
    /// The tables contradict themselves.
    Tables,
}

impl UrlError {
    /// Its reason code.
    pub fn reason(self) -> Reason {
        match self {
            Self::TooLong | Self::Malformed => Reason::BadUrl,
            Self::NotOurs => Reason::NotOurUrl,
            Self::Tables => Reason::PuntTable,
        }
    }
}

/// Decides for a URL that `client` asks for at `vip`. At most `want` (1 to 8) targets are chosen. If the URL leads to a
/// service that asks for a proof, `examine` is asked what that came to.
///
/// # Errors
/// See [`UrlError`].
pub fn decide_url<T: Tables>(
    tables: &T,
    vip: &VipEntry,
    client: SocketAddr,
    url: &Url<'_>,
    want: u32,
    examine: impl FnOnce(u32) -> Proof,
) -> Result<UrlDecision, UrlError> {
    let mut located = match find(tables, vip, url)? {
        Ok(located) => located,
        Err(stop) if stop.reason == Reason::IllFormed => {
            let refused = stop.status == Some(Status::Denied);
            return Ok(UrlDecision::denied(NONE, Reason::IllFormed, refused));
        }
        Err(stop) => {
            return Err(match stop.reason {
                Reason::NotOurUrl => UrlError::NotOurs,
                Reason::PuntTable => UrlError::Tables,
                _ => UrlError::Malformed,
            });
        }
    };
    if tables.service(located.service).ok_or(UrlError::Tables)?.flags & SERVICE_PROOF != 0 {
        let proof = examine(located.service);
        if proof.outcome != ADMITTED {
            return Ok(UrlDecision::denied(located.service, Reason::Denied, proof.outcome == REFUSED));
        }
        (located.service, located.content) = (proof.service, proof.content);
    }
    choose(tables, client, &located, want).ok_or(UrlError::Tables)
}

/// The rule of a URL, or why there is none.
fn find<T: Tables>(tables: &T, vip: &VipEntry, url: &Url<'_>) -> Result<Result<Located, Stop>, UrlError> {
    let mut bytes = [0; START + MAX_URL];
    let place = put(url, &mut bytes)?;
    let message = Buffer::new(&mut bytes, place.end);
    let mut located = Located::default();
    let mut labels = Labels::default();
    let found = locate::<_, _, true>(&message, &place, vip, tables, &mut labels, &mut located);
    Ok(found.map(|()| located))
}

/// The service number that a URL leads to at first.
pub(super) fn service<T: Tables>(tables: &T, vip: &VipEntry, url: &Url<'_>) -> Option<u32> {
    Some(find(tables, vip, url).ok()?.ok()?.service)
}

/// Writes a URL into a buffer, and gives its place there.
fn put(url: &Url<'_>, bytes: &mut [u8; START + MAX_URL]) -> Result<UrlPlace, UrlError> {
    let text = url.text();
    if text.len() > MAX_URL {
        return Err(UrlError::TooLong);
    }
    let host = START + url.scheme.name().len() + "://".len();
    let place = UrlPlace {
        start: START,
        end: START + text.len(),
        host,
        host_end: host + url.host.len(),
        scheme: url.scheme as u32,
    };
    if !text.bytes().all(|byte| byte.is_ascii_graphic())
        || !matches!(url.path.as_bytes(), [] | [b'/' | b'?', ..])
    {
        return Err(UrlError::Malformed);
    }
    bytes[place.start..place.end].copy_from_slice(text.as_bytes());
    Ok(place)
}

/// Hash of a URL, for services that choose by content.
pub(super) fn content<T: Tables>(tables: &T, url: &Url<'_>) -> Option<u64> {
    let mut bytes = [0; START + MAX_URL];
    let place = put(url, &mut bytes).ok()?;
    url_hash(&Buffer::new(&mut bytes, place.end), &place, tables)
}

fn choose<T: Tables>(tables: &T, client: SocketAddr, located: &Located, want: u32) -> Option<UrlDecision> {
    let mut service = tables.service(located.service)?;
    let address = Client::new(client.ip());
    let mut verdict = Verdict::of(Reason::NoDataFamily);
    let mut query = Query {
        client: address,
        service: located.service,
        content: located.content,
        spread: client.port() as u64,
        ..Query::default()
    };
    let (mut trace, mut outside) = (Trace::default(), false);
    let decision =
        |v6, verdict, account| UrlDecision { service: located.service, v6, verdict, account, denied: None };
    if service.flags & SERVICE_OUTCOMES != 0 {
        outcome::decide::<_, true>(&mut query, service, tables, &mut verdict)?;
        let chosen = if verdict.count > 0 { tables.target(verdict.targets[0]) } else { None };
        match chosen {
            Some(target) if target.outcome == OUTCOME_NAME => {
                if service.flags & SERVICE_PROVIDED != 0 {
                    verdict.become_foreign();
                }
                return Some(decision(address.v6 != 0, verdict, NONE));
            }
            Some(target) if target.outcome == OUTCOME_ADDRESS => {
                let servers = outcome::servers(located.service, service, target, &verdict, &mut trace);
                outside = servers != located.service;
                service = tables.service(servers)?;
            }
            // A delegation is an answer to a question about a name. Whoever has come here already gets a server.
            _ => {}
        }
        verdict = Verdict::of(Reason::NoDataFamily);
    }
    let (has_v4, has_v6) = (service.flags & SERVICE_HAS_IPV4 != 0, service.flags & SERVICE_HAS_IPV6 != 0);
    let v6 = if address.v6 != 0 { has_v6 } else { !has_v4 };
    if has_v4 || has_v6 {
        (query.family, query.want) = (v6 as u32, want);
        decide::<_, true>(&query, service, tables, &mut verdict);
    }
    if outside {
        verdict.become_foreign();
    }
    (verdict.reason != Reason::PuntTable).then(|| decision(v6, verdict, trace.account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_taken_apart() {
        let parts = |authority| Url::new(Scheme::Http, authority, "/").map(|url| (url.host, url.port));
        assert_eq!(parts("a.net"), Some(("a.net", None)));
        assert_eq!(parts("a.net:80"), Some(("a.net", None)), "the scheme's own port is none");
        assert_eq!(parts("a.net.:8080"), Some(("a.net", Some(8080))));
        assert_eq!(parts("a.net:"), Some(("a.net", None)));
        assert_eq!(parts("[2001:db8::1]"), Some(("[2001:db8::1]", None)));
        assert_eq!(parts("[2001:db8::1]:81"), Some(("[2001:db8::1]", Some(81))));
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        let bad = [
            "",
            ":80",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a:-1",
            "user@a.net",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "2001:db8::1",
            "[2001:db8::1",
            "2001:db8::1]",
            "[a]b",
            "a\\b",
            "å.net",
        ];
        for authority in bad {
            assert_eq!(Url::new(Scheme::Http, authority, "/"), None, "{authority:?}");
        }
    }
}
