//! Namespaces, links, addresses and routes of the lab.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    Lab,
    command::Cmd,
    topology::{BOX, Family, LINK_PREFIX_V6, NODES, Node, ROUTER, Role, names, node},
    xdp_pass,
};

/// Kernel settings of every node. Addresses work at once (no duplicate address detection), none come by router
/// advertisement, and a VIP is never offered or used on a link as if it were the link's own address.
const NODE_SETTINGS: [(&str, &str); 8] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
];

/// What makes the router a router.
const ROUTER_SETTINGS: [(&str, &str); 2] = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// Makes all namespaces of the lab and joins them.
pub(super) fn build(lab: &Lab) -> Result<()> {
    for name in names() {
        Cmd::new("ip").args(["netns", "add", &lab.namespace(name)]).run()?;
        configure_kernel(lab, name, &NODE_SETTINGS)?;
        batch(lab, name, "link set lo up\n".into())?;
    }
    configure_kernel(lab, ROUTER, &ROUTER_SETTINGS)?;
    let object = lab.dir().join("xdp_pass.o");
    fs::write(&object, xdp_pass::object_file()?).with_context(|| object.display().to_string())?;
    for node in &NODES {
        connect(lab, node, &object)?;
    }
    Ok(())
}

fn configure_kernel(lab: &Lab, name: &str, settings: &[(&str, &str)]) -> Result<()> {
    // /proc/sys/net shows the namespace of the thread that looks.
    lab.within(name, || {
        for (key, value) in settings {
            let path = Path::new("/proc/sys/net").join(key);
            fs::write(&path, value).with_context(|| path.display().to_string())?;
        }
        Ok(())
    })?
}

/// Joins a node to the router and tells both the way to the other's addresses.
fn connect(lab: &Lab, node: &Node, xdp_pass: &Path) -> Result<()> {
    let (name, own, gateway, length) = (node.name, node.own, node.gateway(), node.link_prefix_v4);
    let router = lab.namespace(ROUTER);
    let mut at_node = format!(
        "link add name eth0 type veth peer name {name} netns {router}\n\
         addr add {}/{length} dev eth0\naddr add {}/{LINK_PREFIX_V6} dev eth0 nodad\nlink set eth0 up\n",
        own.v4, own.v6
    );
    let mut at_router = format!(
        "addr add {}/{length} dev {name}\naddr add {}/{LINK_PREFIX_V6} dev {name} nodad\nlink set {name} up\n",
        gateway.v4, gateway.v6
    );
    for family in Family::ALL {
        at_node += &format!("route add default via {}\n", gateway.of(family));
        if let Some(vip) = node.vip {
            at_node += &format!("addr add {} dev lo\n", vip.of(family));
            at_router += &format!("route add {} via {}\n", vip.of(family), own.of(family));
        }
    }
    batch(lab, name, at_node)?;
    for (namespace, interface) in [(name, "eth0"), (ROUTER, name)] {
        // An XDP program sees packets as the sender left them: with the checksum still to be filled in, and merged
        // into more than a frame, unless the sender's offloads are off.
        let ethtool = ["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        lab.plain_exec(namespace, ethtool).run()?;
    }
    if node.role == Role::Box {
        let link = Cmd::new("ip").args(["-n", &router, "link", "set", "dev", name, "xdpdrv", "object"]);
        link.arg(xdp_pass).args(["section", xdp_pass::SECTION]).run()?;
    }
    batch(lab, ROUTER, at_router)
}

fn batch(lab: &Lab, name: &str, lines: String) -> Result<()> {
    let command = Cmd::new("ip").args(["-n", &lab.namespace(name), "-batch", "-"]);
    command.input(lines.clone()).run().with_context(|| format!("the lines were:\n{lines}"))?;
    Ok(())
}

/// The name servers that clients use: the box's VIP, by the families given.
pub(super) fn resolv_conf(families: &[Family]) -> String {
    let vip = node(BOX).vip;
    let vips = families.iter().filter_map(|family| vip.map(|vip| vip.of(*family)));
    vips.map(|vip| format!("nameserver {vip}\n")).collect::<String>() + "options timeout:2 attempts:2\n"
}
