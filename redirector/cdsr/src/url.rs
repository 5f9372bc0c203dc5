//! The URL of a request: checked once, here, so that a redirector never sees one it must refuse.

use crate::wire::{MAX_URL, MIN_URL};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::str::FromStr;

/// Longest scheme and longest host: both are located by one-byte fields of the request header.
const MAX_PART: usize = 255;
/// Longest part of a host name between its dots (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// Ports that need not be written.
const DEFAULT_PORTS: [(&str, u16); 3] = [("http", 80), ("https", 443), ("rtsp", 554)];

/// An absolute URL in the form that CDSR carries: printable ASCII, no userinfo, no fragment, 8 to 1024 bytes. It is
/// written as the URL's own protocol asks for it, since redirectors compare letter by letter: scheme and host in lower
/// case, no port that is the scheme's own, and no HTTP URL without a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    text: String,
    host: Range<usize>,
    authority_end: usize,
}

/// The host of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name to be resolved.
    Name(&'a str),
    /// A literal address.
    Address(IpAddr),
}

impl Url {
    /// The URL as it is sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host as written: a name, an IPv4 literal, or an IPv6 literal with its brackets.
    pub fn host_str(&self) -> &str {
        &self.text[self.host.clone()]
    }

    /// The host, told apart.
    pub fn host(&self) -> Host<'_> {
        let text = self.host_str();
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_or(Host::Name(text), Host::Address)
    }

    /// Scheme, host and port: `rtsp://any.cdn.acme.net:8554`.
    pub fn origin(&self) -> &str {
        &self.text[..self.authority_end]
    }

    /// Where the host stands in [`as_str`](Self::as_str).
    pub fn host_range(&self) -> Range<usize> {
        self.host.clone()
    }
}

impl Url {
    /// The normal form of a URL that was checked (RFC 3986 section 6.2.3).
    fn canonical(text: &str, host: Range<usize>, authority_end: usize) -> Self {
        let (authority, path) = text.split_at(authority_end);
        let mut url = authority[..host.end].to_ascii_lowercase();
        let scheme = &url[..host.start - "://".len()];
        let http = matches!(scheme, "http" | "https");
        let default = DEFAULT_PORTS.iter().find(|(known, _)| *known == scheme).map(|(_, port)| *port);
        let port = authority[host.end..].strip_prefix(':').and_then(|port| port.parse::<u16>().ok());
        if let Some(port) = port.filter(|port| Some(*port) != default) {
            url += &format!(":{port}");
        }
        let authority_end = url.len();
        if http && !path.starts_with('/') {
            url.push('/');
        }
        Self { text: url + path, host, authority_end }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // Fragments are for the client alone (RFC 3986 section 3.5).
        let text = text.split_once('#').map_or(text, |(url, _fragment)| url);
        let scheme_end = scheme_end(text)?;
        let authority_start = scheme_end + "://".len();
        let after = &text[authority_start..];
        let authority_end = authority_start + after.find(['/', '?']).unwrap_or(after.len());
        let host = host_range(text, authority_start, authority_end)?;
        if let Some((at, found)) = text.char_indices().find(|(_, c)| !('\x21'..='\x7e').contains(c)) {
            return Err(UrlError::Character { at, found });
        }
        let url = Self::canonical(text, host, authority_end);
        match url.text.len() {
            MIN_URL..=MAX_URL => Ok(url),
            len if len > MAX_URL => Err(UrlError::TooLong(len)),
            len => Err(UrlError::TooShort(len)),
        }
    }
}

/// Length of the scheme in front of `://` (RFC 3986 section 3.1).
fn scheme_end(text: &str) -> Result<usize, UrlError> {
    let end = text.find("://").ok_or(UrlError::NoScheme)?;
    let scheme = &text[..end];
    let well_formed = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !well_formed {
        return Err(UrlError::NoScheme);
    }
    if end + "://".len() > MAX_PART {
        return Err(UrlError::SchemeTooLong(end));
    }
    Ok(end)
}

/// The host within the authority `text[start..end]`; checks the port on the way.
fn host_range(text: &str, start: usize, end: usize) -> Result<Range<usize>, UrlError> {
    let authority = &text[start..end];
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = if authority.starts_with('[') {
        let close = authority.find(']').ok_or_else(|| UrlError::Ipv6Literal(authority.to_owned()))?;
        let (host, rest) = authority.split_at(close + 1);
        if host[1..close].parse::<Ipv6Addr>().is_err() {
            return Err(UrlError::Ipv6Literal(host.to_owned()));
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => "",
            None => return Err(UrlError::Ipv6Literal(authority.to_owned())),
            Some(port) => port,
        };
        (host, port)
    } else if authority.parse::<Ipv6Addr>().is_ok() {
        return Err(UrlError::Ipv6Literal(authority.to_owned()));
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        check_name(host, start)?;
        (host, port)
    };
    // An empty port is the scheme's own (RFC 3986 section 3.2.3).
    let decimal = port.bytes().all(|b| b.is_ascii_digit());
    if !port.is_empty() && (!decimal || !port.parse::<u16>().is_ok_and(|p| p != 0)) {
        return Err(UrlError::Port(port.to_owned()));
    }
    Ok(start..start + host.len())
}

/// Checks a host that is not an IPv6 literal; `at` is its place in the URL.
fn check_name(host: &str, at: usize) -> Result<(), UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    if host.len() > MAX_PART {
        return Err(UrlError::HostTooLong(host.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some((i, found)) = host.char_indices().find(|(_, c)| !allowed(*c)) {
        return Err(UrlError::HostCharacter { at: at + i, found });
    }
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if let Some(label) = labels.find(|label| !(1..=MAX_LABEL).contains(&label.len())) {
        return Err(UrlError::HostLabel(label.to_owned()));
    }
    // `1.2.3` or `300.1.1.1` would be resolved as a name, or as something else, depending on the system.
    let numeric = host.rsplit('.').find(|label| !label.is_empty()).unwrap_or("");
    if numeric.bytes().all(|b| b.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err(UrlError::Ipv4Literal(host.to_owned()));
    }
    Ok(())
}

/// Why a text is not a URL that CDSR can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// No `scheme://` in front.
    NoScheme,
    /// The scheme has this many bytes, too many for the header's offset of the host.
    SchemeTooLong(usize),
    /// `user:password@`: credentials do not travel in a request.
    UserInfo,
    /// Nothing between `://` and the path.
    NoHost,
    /// The host has this many bytes; 255 is the most.
    HostTooLong(usize),
    /// A character that no host name has.
    HostCharacter {
        /// Byte offset in the URL.
        at: usize,
        /// The character.
        found: char,
    },
    /// Between two dots of the host there is nothing, or more than 63 bytes.
    HostLabel(String),
    /// Looks like an IPv4 address and is none.
    Ipv4Literal(String),
    /// An IPv6 literal that is malformed or lacks its brackets.
    Ipv6Literal(String),
    /// The port is not a number from 1 to 65535.
    Port(String),
    /// Not printable ASCII.
    Character {
        /// Byte offset in the URL.
        at: usize,
        /// The character.
        found: char,
    },
    /// This many bytes; 1024 is the most.
    TooLong(usize),
    /// This many bytes; 8 is the least.
    TooShort(usize),
}

impl std::error::Error for UrlError {}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => {
                write!(f, "no scheme: write the whole URL, for example http://any.cdn.acme.net/index.html")
            }
            Self::SchemeTooLong(len) => write!(f, "the scheme has {len} bytes; 252 is the most"),
            Self::UserInfo => write!(f, "it holds a user name or password; remove what is before the '@'"),
            Self::NoHost => write!(f, "no host after \"://\""),
            Self::HostTooLong(len) => write!(f, "the host has {len} bytes; {MAX_PART} is the most"),
            Self::HostCharacter { at, found } if !found.is_ascii() => {
                write!(f, "{found:?} at byte {at} of the host is not ASCII; write the name in its xn-- form")
            }
            Self::HostCharacter { at, found } => {
                write!(
                    f,
                    "{found:?} at byte {at} cannot stand in a host; letters, digits, '-', '_' and '.' can"
                )
            }
            Self::HostLabel(label) if label.is_empty() => {
                write!(f, "the host has nothing between two dots; write one dot between its parts")
            }
            Self::HostLabel(label) => {
                write!(f, "{label:?} in the host has {} bytes; {MAX_LABEL} is the most", label.len())
            }
            Self::Ipv4Literal(host) => {
                write!(f, "{host:?} is not an IPv4 address; write four numbers from 0 to 255")
            }
            Self::Ipv6Literal(host) => {
                write!(
                    f,
                    "{host:?} is not an IPv6 host; write the address in brackets, as in http://[2001:db8::1]/"
                )
            }
            Self::Port(port) => write!(f, "{port:?} is not a port; write a number from 1 to 65535"),
            Self::Character { at, found } => {
                let mut utf8 = [0; 4];
                write!(f, "{found:?} at byte {at} is not printable ASCII; percent-encode it as ")?;
                found.encode_utf8(&mut utf8).bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))
            }
            Self::TooLong(len) => write!(f, "{len} bytes; the longest URL that CDSR carries has {MAX_URL}"),
            Self::TooShort(len) => write!(f, "{len} bytes; the shortest URL that CDSR carries has {MIN_URL}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> UrlError {
        text.parse::<Url>().expect_err(text)
    }

    #[test]
    fn host_is_located_with_and_without_port_and_path() {
        for (text, host, origin) in [
            ("rtsp://any.cdn.acme.net/news.rm", "any.cdn.acme.net", "rtsp://any.cdn.acme.net"),
            ("http://a.example:8080/?x=1", "a.example", "http://a.example:8080"),
            ("http://[2001:db8::1]:81/x", "[2001:db8::1]", "http://[2001:db8::1]:81"),
            ("https://192.0.2.1/", "192.0.2.1", "https://192.0.2.1"),
            ("rtsp://a.example", "a.example", "rtsp://a.example"),
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!((url.as_str(), url.host_str(), url.origin()), (text, host, origin));
        }
    }

    #[test]
    fn scheme_and_host_are_lowered_and_the_path_is_not() {
        let url: Url = "HTTP://Any.CDN.example/Path?Q".parse().expect("a URL");
        assert_eq!(url.as_str(), "http://any.cdn.example/Path?Q");
    }

    #[test]
    fn a_url_is_written_as_its_own_protocol_asks_for_it() {
        for (text, written) in [
            ("http://a.example:80/x", "http://a.example/x"),
            ("HTTPS://a.example:0443/x", "https://a.example/x"),
            ("rtsp://a.example:554/x", "rtsp://a.example/x"),
            ("rtsp://a.example:554", "rtsp://a.example"),
            ("http://a.example:/x", "http://a.example/x"),
            ("http://a.example:443/x", "http://a.example:443/x"),
            ("http://[::1]:08080", "http://[::1]:8080/"),
            ("http://a.example", "http://a.example/"),
            ("https://a.example?x", "https://a.example/?x"),
            ("other://a.example:80?x", "other://a.example:80?x"),
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!((url.as_str(), url.as_str().parse()), (written, Ok(url.clone())));
        }
    }

    #[test]
    fn fragment_never_leaves_the_client() {
        let url: Url = "http://a.example/x#secret".parse().expect("a URL");
        assert_eq!(url.as_str(), "http://a.example/x");
    }

    #[test]
    fn literal_addresses_are_told_from_names() {
        let v6: Url = "http://[2001:db8::1]/".parse().expect("a URL");
        assert_eq!(v6.host(), Host::Address("2001:db8::1".parse().expect("an address")));
        let v4: Url = "http://192.0.2.1/".parse().expect("a URL");
        assert_eq!(v4.host(), Host::Address("192.0.2.1".parse().expect("an address")));
        let name: Url = "http://192.0.2.1.example/".parse().expect("a URL");
        assert_eq!(name.host(), Host::Name("192.0.2.1.example"));
    }

    #[test]
    fn malformed_urls_are_refused_with_the_reason() {
        assert_eq!(error("any.cdn.acme.net/x"), UrlError::NoScheme);
        assert_eq!(error("ht tp://a.example/"), UrlError::NoScheme);
        assert_eq!(error("http://u:p@a.example/"), UrlError::UserInfo);
        assert_eq!(error("http:///index.html"), UrlError::NoHost);
        assert_eq!(error("http://:80/"), UrlError::NoHost);
        assert_eq!(error("http://a.example:0/"), UrlError::Port("0".into()));
        assert_eq!(error("http://a.example:65536/"), UrlError::Port("65536".into()));
        assert_eq!(error("http://a.example:+80/"), UrlError::Port("+80".into()));
        assert_eq!(error("http://[2001:db8::1/"), UrlError::Ipv6Literal("[2001:db8::1".into()));
        assert_eq!(error("http://[::1]x/"), UrlError::Ipv6Literal("[::1]x".into()));
        assert_eq!(error("http://2001:db8::1/"), UrlError::Ipv6Literal("2001:db8::1".into()));
        assert_eq!(error("http://300.1.1.1/"), UrlError::Ipv4Literal("300.1.1.1".into()));
        for empty in ["http://a..example/", "http://.example/", "http://./", "http://a.example../"] {
            assert_eq!(error(empty), UrlError::HostLabel(String::new()));
        }
        let label = "a".repeat(64);
        assert_eq!(error(&format!("http://{label}.example/")), UrlError::HostLabel(label.clone()));
        assert!(format!("http://{}.example./", &label[1..]).parse::<Url>().is_ok());
        assert_eq!(error("http://a.example/é"), UrlError::Character { at: 17, found: 'é' });
        assert_eq!(error("http://bücher.example/"), UrlError::HostCharacter { at: 8, found: 'ü' });
        assert_eq!(error("http://a b/"), UrlError::HostCharacter { at: 8, found: ' ' });
        assert_eq!(error("ws://a"), UrlError::TooShort(6));
    }

    #[test]
    fn length_limits_are_exact() {
        let longest = format!("http://a.example/{}", "x".repeat(MAX_URL - 17));
        assert!(longest.parse::<Url>().is_ok());
        assert_eq!(error(&format!("{longest}x")), UrlError::TooLong(MAX_URL + 1));
        assert!("http://a".parse::<Url>().is_ok());
        let host = "h.".repeat(128);
        assert_eq!(error(&format!("http://{host}/")), UrlError::HostTooLong(256));
        assert!(format!("http://{}/", &host[..255]).parse::<Url>().is_ok());
        assert_eq!(error(&format!("{}://a/", "s".repeat(253))), UrlError::SchemeTooLong(253));
        assert!(format!("{}://a/", "s".repeat(252)).parse::<Url>().is_ok());
    }

    #[test]
    fn messages_say_what_would_be_right() {
        assert!(error("http://a.example/é").to_string().contains("percent-encode it as %C3%A9"));
        assert!(error("http://u@a.example/").to_string().contains("remove what is before the '@'"));
    }
}
