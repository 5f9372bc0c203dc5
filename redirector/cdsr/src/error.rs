//! What can come instead of endpoints, and what an application can do about it.

use crate::prefixes::PrefixListError;
use crate::url::UrlError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why there are no endpoints for a URL.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The URL cannot be carried.
    Url(UrlError),
    /// The prefix list cannot be used.
    PrefixList(PrefixListError),
    /// The host has no address.
    NoAddress {
        /// The host.
        host: String,
        /// What name resolution said.
        source: io::Error,
    },
    /// Nothing says that the host's addresses speak CDSR: no prefix of the list, no TXT record.
    NotCdsr {
        /// Addresses of the host.
        addresses: Vec<IpAddr>,
    },
    /// The redirector does not know the URL.
    NotMine {
        /// Who said so; `None` if it said so a while ago.
        redirector: Option<SocketAddr>,
        /// Its reason code.
        reason: u16,
        /// Addresses of the host.
        addresses: Vec<IpAddr>,
    },
    /// The redirector wants the client to use the URL's own protocol.
    UseLegacy {
        /// Its reason code.
        reason: u16,
        /// Addresses of the host.
        addresses: Vec<IpAddr>,
    },
    /// The redirector handles the URL and named no endpoint that this client can use.
    NoEndpoint {
        /// Its reason code.
        reason: u16,
        /// Addresses of the host.
        addresses: Vec<IpAddr>,
    },
    /// No redirector answered.
    NoAnswer {
        /// Who was asked.
        redirectors: Vec<SocketAddr>,
        /// Addresses of the host.
        addresses: Vec<IpAddr>,
    },
    /// The redirector could not make sense of the request, or speaks another version only.
    Refused {
        /// Who said so.
        redirector: SocketAddr,
        /// Whether it is for the version.
        version: bool,
        /// Its reason code.
        reason: u16,
        /// Addresses of the host.
        addresses: Vec<IpAddr>,
    },
    /// Not now; do not ask before this time has passed.
    RetryLater {
        /// From now.
        after: Duration,
    },
    /// The client may not have it.
    Denied {
        /// The redirector's reason code.
        reason: u16,
    },
    /// Every endpoint that the redirector knows was reported as failed.
    Exhausted {
        /// The servers that failed.
        failed: Vec<IpAddr>,
    },
    /// The system gave no randomness.
    Random(io::Error),
}

impl Error {
    /// Addresses at which the application may go on with the URL's own protocol. `None` where that would be wrong: the
    /// request was denied or put off, or there is nowhere to go. Empty if a redirector was given and the host not looked up.
    pub fn legacy_addresses(&self) -> Option<&[IpAddr]> {
        match self {
            Self::NotCdsr { addresses }
            | Self::NotMine { addresses, .. }
            | Self::UseLegacy { addresses, .. }
            | Self::NoEndpoint { addresses, .. }
            | Self::NoAnswer { addresses, .. }
            | Self::Refused { addresses, .. } => Some(addresses),
            Self::Url(_)
            | Self::PrefixList(_)
            | Self::NoAddress { .. }
            | Self::RetryLater { .. }
            | Self::Denied { .. }
            | Self::Exhausted { .. }
            | Self::Random(_) => None,
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Url(e) => Some(e),
            Self::PrefixList(e) => Some(e),
            Self::NoAddress { source, .. } | Self::Random(source) => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => write!(f, "not a URL that CDSR can carry"),
            Self::PrefixList(_) => write!(f, "the prefix list cannot be used"),
            Self::NoAddress { host, .. } => write!(f, "no address for {host}"),
            Self::NotCdsr { .. } => write!(f, "nothing says that the host speaks CDSR"),
            Self::NotMine { reason, .. } => {
                write!(f, "the redirector does not handle this URL (reason {reason})")
            }
            Self::UseLegacy { reason, .. } => {
                write!(f, "the redirector says: use the URL's own protocol (reason {reason})")
            }
            Self::NoEndpoint { reason, .. } => {
                write!(f, "the redirector named no endpoint of a wanted address family (reason {reason})")
            }
            Self::NoAnswer { redirectors, .. } => {
                write!(f, "no answer from ")?;
                list(f, redirectors)
            }
            Self::Refused { redirector, version: true, .. } => {
                write!(f, "{redirector} does not speak CDSR version {}", crate::wire::VERSION)
            }
            Self::Refused { redirector, reason, .. } => {
                write!(f, "{redirector} calls the request malformed (reason {reason})")
            }
            Self::RetryLater { after } => write!(f, "not now: ask again in {after:?}"),
            Self::Denied { reason } => write!(f, "denied (reason {reason})"),
            Self::Exhausted { failed } => {
                write!(f, "every server failed: ")?;
                list(f, failed)
            }
            Self::Random(_) => write!(f, "the system gave no randomness"),
        }
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl From<UrlError> for Error {
    fn from(error: UrlError) -> Self {
        Self::Url(error)
    }
}

impl From<PrefixListError> for Error {
    fn from(error: PrefixListError) -> Self {
        Self::PrefixList(error)
    }
}

impl From<getrandom::Error> for Error {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error.into())
    }
}
