//! A box with tables in memory, as connections and reports see it.

use redirector::config::{self, Config, Errors};
use redirector::front::{Ports, Shared};
use redirector::manage::view::View;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// The configuration.
pub(crate) const TEXT: &str = include_str!("network.toml");

/// Address that clients ask.
pub(crate) const VIP: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));

/// What was read of it.
pub(crate) fn configuration() -> Config {
    config::parse("network.toml", TEXT, Path::new(""), Errors::Refuse)
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// The box as reports see it.
pub(crate) static VIEW: LazyLock<View> =
    LazyLock::new(|| View::alone(configuration()).unwrap_or_else(|refused| panic!("{refused}")));

/// The box as connections see it.
pub(crate) static SHARED: LazyLock<Arc<Shared>> =
    LazyLock::new(|| Shared::new(Arc::new(VIEW.generation.clone().into()), Ports::default()));
