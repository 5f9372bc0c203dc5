//! Client-driven service rendezvous (CDSR): a program presents a URL to the stub, the stub asks the nearest redirector over
//! anycast with one datagram, and the program gets servers to use, in order (P-16 to P-20). The protocol is
//! `docs/cdsr-protocol.md`.
//!
//! ```no_run
//! use cdsr::{Config, FailureKind, Stub};
//! use std::net::TcpStream;
//!
//! let stub = Stub::new(Config { prefixes: Some("/etc/cdsr/prefixes".into()), ..Config::default() })?;
//! match stub.resolve("rtsp://any.cdn.acme.net/news.rm") {
//!     Ok(mut resolution) => loop {
//!         let server = resolution.current().server;
//!         match TcpStream::connect(server) {
//!             Ok(_stream) => break, // speak the URL's protocol
//!             Err(_) => resolution.report_failure(server, FailureKind::Refused),
//!         }
//!         resolution.next_endpoint()?;
//!     },
//!     Err(e) => match e.legacy_addresses() {
//!         Some(_addresses) => {} // go on as a program without CDSR does
//!         None => return Err(e.into()),
//!     },
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From URL to servers: [`Url`] checks what is asked for, memory answers what an earlier reply covers, DNS and the
//! [`PrefixList`] tell whom to ask, an exchange of datagrams brings the [`Reply`], and [`Preferences`] and shares put its
//! endpoints in order.

mod dns;
mod error;
mod exchange;
mod memory;
mod order;
mod prefixes;
mod random;
mod stub;
mod url;
pub mod wire;

/// Not for programs: public so that fuzzers reach it.
#[doc(hidden)]
pub use dns::answer;

pub use error::Error;
pub use exchange::Timers;
pub use order::{Family, Preferences};
pub use prefixes::{PrefixList, PrefixListError, Problem};
pub use stub::{Config, Learned, Resolution, Stub};
pub use url::{Host, Url, UrlError};
pub use wire::{Endpoint, FailureKind, Families, Reply, Scope, Status};
