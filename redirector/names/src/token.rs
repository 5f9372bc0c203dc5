//! Tokens in URLs and CDSR requests: a tag over a host, the beginning of a path, and perhaps the client's network.

use crate::error::{NameError, Rejected};
use crate::key::{Key, Purpose};
use crate::tag::Tag;
use std::net::IpAddr;

/// What a token covers beside the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Leading path segments.
    pub segments: u8,
    /// The client's network: an address in it, and its length in bits.
    pub client: Option<(IpAddr, u8)>,
    /// Unix time from which on it is good for nothing.
    pub expires: Option<u32>,
}

/// Makes a token for the URLs of a host (lower-case, without port) that begin with the first `scope.segments` segments of
/// `path`.
///
/// # Errors
/// If host or path cannot be, the path has fewer segments, or the client's prefix is longer than its address.
pub fn sign_url(key: &Key, host: &str, path: &str, scope: &Scope) -> Result<String, NameError> {
    let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !graphic(host) || host.contains('/') || !graphic(path) {
        return Err(NameError::Url(format!("`{host}{path}` cannot be the beginning of a URL")));
    }
    let text = covered(host, path, scope.segments)
        .ok_or_else(|| NameError::Url(format!("`{path}` has fewer than {} segments", scope.segments)))?;
    let client = match scope.client {
        None => None,
        Some((IpAddr::V4(_), bits @ 0..=32)) => Some(96 + bits),
        Some((IpAddr::V6(_), bits @ 0..=128)) => Some(bits),
        Some((_, bits)) => return Err(NameError::Url(format!("a network of {bits} bits is none"))),
    };
    let network = network(scope.client.map(|(address, _)| address), client);
    let form = (scope.expires, Some(scope.segments), client);
    Ok(Tag::make(key, Purpose::Access, form, &[&network, text.as_bytes()]))
}

/// Checks a token that came with a URL from a client; `key` gives the keys that count.
///
/// # Errors
/// Why it is good for nothing.
pub fn verify_url<'k>(
    key: impl FnOnce(u8) -> Option<&'k Key>,
    token: &str,
    (host, path): (&str, &str),
    client: IpAddr,
    now: u64,
) -> Result<Tag, Rejected> {
    let tag = Tag::parse(token).ok_or(Rejected::Malformed)?;
    let segments = tag.path.ok_or(Rejected::Malformed)?;
    let text = covered(host, path, segments).ok_or(Rejected::Forged)?;
    let network = network(Some(client), tag.client);
    let forged = if tag.client.is_some() { Rejected::OtherClient } else { Rejected::Forged };
    match tag.check(key, Purpose::Access, &[&network, text.as_bytes()], now) {
        Err(Rejected::Forged) => Err(forged),
        checked => checked.map(|()| tag),
    }
}

/// The text that is covered: the host, lower-case, and so many segments of the path, each with a slash before it. `None`
/// if the path has fewer.
fn covered(host: &str, path: &str, segments: u8) -> Option<String> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut text = host.to_ascii_lowercase();
    let mut parts = path.split('/').skip(1);
    for _ in 0..segments {
        text.push('/');
        text.push_str(parts.next()?);
    }
    Some(text)
}

/// The first `bits` bits of the address, as IPv6 or IPv4-mapped address; zeros without them.
fn network(address: Option<IpAddr>, bits: Option<u8>) -> [u8; 16] {
    let (Some(address), Some(bits)) = (address, bits) else { return [0; 16] };
    let address = match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    (address.to_bits() & mask).to_be_bytes()
}
