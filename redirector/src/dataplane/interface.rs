//! What an operator should know of an interface for the fast path: what the kernel tells of it, as advice.

use aya::programs::xdp::XdpMode;
use std::ffi::c_char;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::{fs, io, net, thread};

/// Largest MTU at which veth, and drivers that keep a frame in one page of 4096 bytes, take a program.
const LINEAR_MTU: u32 = 3498;
/// `linux/ethtool.h`: reads the flags of an interface's offloads, and those of them that are of interest here.
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// What the kernel tells of an interface; what it does not tell is as for an ordinary one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Interface {
    mtu: u32,
    is_bond: bool,
    /// The interface of which this is a VLAN.
    vlan_of: Option<String>,
    /// The bond that this is a member of.
    bond: Option<String>,
    /// Interfaces that are VLANs of this one.
    vlans: Vec<String>,
    /// The bridge that this is a port of.
    bridge: Option<String>,
    /// VLAN tags are taken off before a program sees a frame.
    strips_tags: bool,
    /// Frames are merged before a program sees them.
    merges: bool,
    /// Receive queues; 0 if they are not told.
    queues: usize,
}

/// What should be done for the fast path at an interface where a program was attached to the `mode` hook; nothing if all
/// is well.
pub(super) fn advice(interface: &str, mode: XdpMode) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Interface::observe(interface).advice(interface, mode, cores)
}

/// Why an interface's driver may have refused a program, to follow the kernel's message; empty if nothing is known.
pub(super) fn likely_cause(interface: &str) -> String {
    Interface::observe(interface).likely_cause(interface)
}

impl Interface {
    fn observe(name: &str) -> Self {
        let directory = Path::new("/sys/class/net").join(name);
        let mtu = fs::read_to_string(directory.join("mtu")).ok();
        let flags = offloads(name).unwrap_or_default();
        let queues = fs::read_dir(directory.join("queues")).into_iter().flatten().flatten();
        let bridge = fs::read_link(directory.join("brport/bridge")).ok();
        let bond =
            fs::read_link(directory.join("master")).ok().filter(|_| is_bond(&directory.join("master")));
        let linked = |prefix: &str| -> Vec<(String, PathBuf)> {
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            let found = entries.filter_map(|entry| {
                let name = entry.file_name().to_str()?.strip_prefix(prefix)?.to_owned();
                Some((name, entry.path()))
            });
            found.collect()
        };
        let is_vlan = is_vlan(&directory);
        let vlans = linked("upper_").into_iter().filter(|(_, path)| self::is_vlan(path));
        Self {
            mtu: mtu.and_then(|text| text.trim().parse().ok()).unwrap_or_default(),
            is_bond: is_bond(&directory),
            vlan_of: linked("lower_").into_iter().map(|(name, _)| name).next().filter(|_| is_vlan),
            bond: bond.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
            vlans: vlans.map(|(name, _)| name).collect(),
            bridge: bridge.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
            strips_tags: flags & ETH_FLAG_RXVLAN != 0,
            merges: flags & ETH_FLAG_LRO != 0,
            queues: queues.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"rx-")).count(),
        }
    }

    fn advice(&self, name: &str, mode: XdpMode, cores: usize) -> Vec<String> {
        let mut advice = Vec::new();
        if let Some(device) = &self.vlan_of {
            advice.push(format!(
                "{name} is a VLAN of {device} and has no driver of its own; with {device} in its place in \
                 `interfaces`, queries in any of its VLANs are answered in the driver"
            ));
        } else if matches!(mode, XdpMode::Skb) {
            advice.push(format!(
                "{name} has the program in the kernel's generic hook, slower than in a driver"
            ));
        }
        if self.strips_tags && self.vlan_of.is_none() {
            let vlans =
                if self.vlans.is_empty() { "if it carries VLANs".into() } else { self.vlans.join(", ") };
            advice.push(format!(
                "{name} takes VLAN tags off before the program sees a frame ({vlans}): queries in a VLAN would be \
                 answered without its tag; `ethtool -K {name} rxvlan off` leaves them on"
            ));
        }
        if self.merges {
            advice.push(format!(
                "{name} merges frames before the program sees them (LRO), and what is merged is left to the kernel: \
                 `ethtool -K {name} lro off`"
            ));
        }
        if let Some(bridge) = &self.bridge {
            advice.push(format!(
                "{name} is a port of the bridge {bridge}: queries are answered here before the bridge sees them, and \
                 those that come by its other ports are not"
            ));
        }
        if self.queues == 1 && cores > 1 {
            advice.push(format!(
                "{name} has one receive queue, so one of {cores} cores answers: `ethtool -L {name} combined {cores}` \
                 if its driver has more (with veth, `numrxqueues` when it is made)"
            ));
        }
        advice
    }

    fn likely_cause(&self, name: &str) -> String {
        if let Some(bond) = &self.bond {
            format!("; {name} is a member of the bond {bond}: name {bond} in `interfaces` instead")
        } else if let Some(device) = &self.vlan_of {
            format!("; {name} is a VLAN and has no driver: name {device} in `interfaces` instead")
        } else if self.merges {
            format!(
                "; it merges frames (LRO), with which drivers refuse programs: `ethtool -K {name} lro off`"
            )
        } else if self.mtu > LINEAR_MTU {
            format!(
                "; its MTU is {}, and many drivers take a program up to {LINEAR_MTU} only: \
                 `ip link set dev {name} mtu 1500`",
                self.mtu
            )
        } else if self.is_bond {
            format!(
                "; {name} is a bond: its mode has to be active-backup, balance-rr, balance-xor or 802.3ad, and the \
                 drivers of all members have to take programs"
            )
        } else {
            String::new()
        }
    }
}

/// The kind of a device by its directory in sysfs: only some devices say.
fn is_vlan(directory: &Path) -> bool {
    let event = fs::read_to_string(directory.join("uevent")).unwrap_or_default();
    event.lines().any(|line| line == "DEVTYPE=vlan")
}

fn is_bond(directory: &Path) -> bool {
    directory.join("bonding").is_dir()
}

/// Argument of the ioctl.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// What an interface does with frames before anybody sees them: bits of `linux/ethtool.h`.
fn offloads(interface: &str) -> io::Result<u32> {
    let socket = net::UdpSocket::bind((net::Ipv4Addr::LOCALHOST, 0))?;
    let mut value = EthtoolValue { command: ETHTOOL_GFLAGS, data: 0 };
    // SAFETY: integers, and a pointer that is set below.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The name ends with a zero, so its last byte stays one.
    for (place, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(interface.bytes()) {
        *place = byte as c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request points at a value of the command's type; both outlive the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if done == 0 { Ok(value.data) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_interface_in_the_driver_needs_nothing() {
        let ordinary = Interface { mtu: 1500, ..Interface::default() };
        assert_eq!(ordinary.advice("eth1", XdpMode::Driver, 2), Vec::<String>::new());
        assert_eq!(ordinary.likely_cause("eth1"), "");
    }

    #[test]
    fn stripped_tags_are_told_with_the_vlans_that_they_are_of() {
        let stripping = Interface { strips_tags: true, ..Interface::default() };
        let [advice] = &stripping.advice("eth1", XdpMode::Driver, 2)[..] else { panic!("one") };
        assert!(advice.contains("`ethtool -K eth1 rxvlan off`") && advice.contains("if it carries VLANs"));
        let carrying = Interface { vlans: vec!["eth1.5".into(), "eth1.6".into()], ..stripping };
        assert!(carrying.advice("eth1", XdpMode::Driver, 2)[0].contains("(eth1.5, eth1.6)"));
    }

    #[test]
    fn slow_hooks_and_devices_without_driver_are_told() {
        let vlan = Interface { vlan_of: Some("eth1".into()), strips_tags: true, ..Interface::default() };
        let [advice] = &vlan.advice("eth1.5", XdpMode::Skb, 2)[..] else { panic!("one") };
        assert!(advice.contains("with eth1 in its place"));
        assert!(vlan.likely_cause("eth1.5").contains("name eth1 in"));
        assert!(Interface::default().advice("tap0", XdpMode::Skb, 2)[0].contains("generic"));
    }

    #[test]
    fn one_queue_for_many_cores_merged_frames_and_bridge_ports_are_told() {
        let one = Interface { queues: 1, ..Interface::default() };
        let [advice] = &one.advice("eth1", XdpMode::Driver, 8)[..] else { panic!("one") };
        assert!(advice.contains("one of 8 cores") && advice.contains("`ethtool -L eth1 combined 8`"));
        assert_eq!(one.advice("eth1", XdpMode::Driver, 1), Vec::<String>::new());
        let merging = Interface { queues: 8, merges: true, ..Interface::default() };
        let [advice] = &merging.advice("eth1", XdpMode::Driver, 8)[..] else { panic!("one") };
        assert!(advice.contains("`ethtool -K eth1 lro off`"));
        let port = Interface { queues: 8, bridge: Some("br0".into()), ..Interface::default() };
        let [advice] = &port.advice("eth1", XdpMode::Driver, 8)[..] else { panic!("one") };
        assert!(advice.contains("a port of the bridge br0"));
    }

    #[test]
    fn refusals_of_drivers_are_explained() {
        let jumbo = Interface { mtu: 9000, ..Interface::default() };
        assert!(jumbo.likely_cause("eth1").contains("its MTU is 9000"));
        let largest = Interface { mtu: LINEAR_MTU, ..Interface::default() };
        assert_eq!(largest.likely_cause("eth1"), "");
        let merging = Interface { mtu: 9000, merges: true, ..Interface::default() };
        assert!(merging.likely_cause("eth1").contains("`ethtool -K eth1 lro off`"));
        let bond = Interface { mtu: 1500, is_bond: true, ..Interface::default() };
        assert!(bond.likely_cause("bond0").contains("802.3ad"));
        let member = Interface { bond: Some("bond0".into()), ..Interface::default() };
        assert!(member.likely_cause("eth1").contains("name bond0 in `interfaces`"));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_as_for_an_ordinary_interface() {
        assert_eq!(Interface::observe("no-such-one"), Interface::default());
        let loopback = Interface::observe("lo");
        assert!(loopback.mtu > 0 && !loopback.strips_tags, "{loopback:?}");
    }
}
