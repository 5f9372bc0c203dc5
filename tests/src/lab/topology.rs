//! What the lab consists of: its nodes, their addresses and who serves whom.
//!
//! Every node hangs on the router, [`ROUTER`], by one interface, `eth0`. Servers and the VIPs have documentation addresses
//! (RFC 5737, RFC 3849); clients and the boxes' management take theirs from the benchmarking range of RFC 2544, since
//! a region should hold more than a piece of a /24.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Internet Protocol version 4.
    V4,
    /// Internet Protocol version 6.
    V6,
}

impl Family {
    /// Both, in the order of reports.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `IPv4` or `IPv6`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The DNS type of its addresses.
    #[must_use]
    pub fn record_type(self) -> &'static str {
        match self {
            Self::V4 => "A",
            Self::V6 => "AAAA",
        }
    }
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asks for content.
    Client,
    /// Runs the redirector and owns VIPs.
    Box,
    /// Serves content by HTTP and RTSP.
    Server,
}

/// Addresses of one node or VIP, one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// The address of one family.
    #[must_use]
    pub fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

/// A namespace of the lab, other than the router's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Name; the namespace is the lab's prefix and this.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// Its addresses on `eth0`.
    pub own: Addresses,
    /// IPv4 prefix length of its link to the router; the IPv6 one is [`LINK_PREFIX_V6`].
    pub link_prefix_v4: u8,
    /// VIP of a box.
    pub vip: Option<Addresses>,
    /// Size in pixels of a server's video, by which a client's report tells who served it.
    pub picture: Option<(u32, u32)>,
}

/// IPv6 prefix length of every link.
pub const LINK_PREFIX_V6: u8 = 64;
/// TCP port of the servers' web sites.
pub const WEB_PORT: u16 = 80;
/// TCP port of the servers' RTSP; not the standard one, so that a redirect has to carry it.
pub const RTSP_PORT: u16 = 8554;
/// Path of the servers' video.
pub const RTSP_PATH: &str = "/live";
/// The box that clients use as their name server.
pub const BOX: &str = "box";
/// The router between all nodes; its addresses are the nodes' [gateways](Node::gateway).
pub const ROUTER: &str = "rt";

/// All nodes but the router.
pub static NODES: [Node; 7] = [
    client("c-fr", [198, 18, 33, 2], 24, [0x33, 0, 0, 2]),
    client("c-de", [198, 18, 49, 2], 24, [0x49, 0, 0, 2]),
    redirector(BOX, [198, 18, 0, 5], 0x5, 1),
    redirector("box2", [198, 18, 1, 5], 0x15, 2),
    server("s-fr", 10, 0x33, (160, 120)),
    server("s-de", 42, 0x49, (176, 144)),
    server("s-deep", 74, 0x99, (192, 144)),
];

/// The node of that name.
///
/// # Panics
/// If the lab has no such node.
#[must_use]
pub fn node(name: &str) -> &'static Node {
    let found = NODES.iter().find(|node| node.name == name);
    found.unwrap_or_else(|| panic!("the lab has no node `{name}`"))
}

/// The names of all namespaces, without the lab's prefix.
pub fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(ROUTER).chain(NODES.iter().map(|node| node.name))
}

/// The nodes of one role, in the order of [`NODES`].
pub fn with_role(role: Role) -> impl Iterator<Item = &'static Node> {
    NODES.iter().filter(move |node| node.role == role)
}

/// A client; of the IPv6 address the third, fourth, seventh and eighth group are given, after 2001:db8.
const fn client(name: &'static str, v4: [u8; 4], link_prefix_v4: u8, v6: [u16; 4]) -> Node {
    let own = Addresses {
        v4: Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3]),
        v6: Ipv6Addr::new(0x2001, 0xdb8, v6[0], v6[1], 0, 0, v6[2], v6[3]),
    };
    Node { name, role: Role::Client, own, link_prefix_v4, vip: None, picture: None }
}

/// A box with the `n`th VIP: 203.0.113.n and 2001:db8:a::n.
const fn redirector(name: &'static str, v4: [u8; 4], v6: u16, n: u8) -> Node {
    let vip = Addresses {
        v4: Ipv4Addr::new(203, 0, 113, n),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, n as u16),
    };
    Node { role: Role::Box, vip: Some(vip), ..client(name, v4, 24, [0, v6, 0, 5]) }
}

/// A server: 192.0.2.n and 2001:db8:f:site::10.
const fn server(name: &'static str, n: u8, site: u16, picture: (u32, u32)) -> Node {
    Node {
        role: Role::Server,
        picture: Some(picture),
        ..client(name, [192, 0, 2, n], 27, [0xf, site, 0, 0x10])
    }
}

impl Node {
    /// The router's addresses on the link to this node: the first of the link's prefixes.
    #[must_use]
    pub fn gateway(&self) -> Addresses {
        let mask_v4 = u32::MAX.checked_shl(32 - u32::from(self.link_prefix_v4)).unwrap_or(0);
        let mask_v6 = u128::MAX << (128 - u32::from(LINK_PREFIX_V6));
        Addresses {
            v4: Ipv4Addr::from_bits(self.own.v4.to_bits() & mask_v4 | 1),
            v6: Ipv6Addr::from_bits(self.own.v6.to_bits() & mask_v6 | 1),
        }
    }

    /// The region of a client: its prefixes, as configuration writes them.
    #[must_use]
    pub fn region(&self) -> [String; 2] {
        let v4 = self.own.v4.octets();
        let v6 = self.own.v6.segments();
        [format!("{}.{}.{}.0/24", v4[0], v4[1], v4[2]), format!("{:x}:{:x}:{:x}::/48", v6[0], v6[1], v6[2])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_link_has_prefixes_of_its_own_and_a_free_gateway() {
        let mut links = HashSet::new();
        for node in &NODES {
            let gateway = node.gateway();
            assert!(links.insert(gateway.v4.to_string()) && links.insert(gateway.v6.to_string()), "{node:?}");
            assert!(gateway.v4 != node.own.v4 && gateway.v6 != node.own.v6, "{node:?}");
        }
    }
}
