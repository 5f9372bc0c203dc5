//! Frames with VLAN tags over a real link to a box: written and read by a packet socket at the router's end.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{libc, net::if_::if_nametoindex};
use redirector_core::wire::cdsr;
use redirector_tests::{
    frames::{BOX_MAC, CLIENT_MAC, Datagram, Flow, Form},
    lab::{
        Daemon, Lab,
        config::{SERVER_NAME, VIP_NAME, configuration},
        topology::{BOX, Family, ROUTER, node},
    },
    program,
    questions::{CdsrRequest, DnsQuery, Edns, PADDING, rr},
    require_lab,
};

const CLIENT: &str = "c-fr";
const SERVER: &str = "s-fr";
/// Longest wait for a reply.
const LIMIT: Duration = Duration::from_secs(5);

/// A socket that sends and receives whole frames on one interface.
struct Link(OwnedFd);

impl Link {
    /// Within the interface's namespace.
    fn open(interface: &str) -> Self {
        let everything = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(everything)) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: just opened, and nobody else's.
        let link = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: integers and an array of them, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = everything;
        address.sll_ifindex = if_nametoindex(interface).unwrap() as i32;
        // SAFETY: an address of this size, which outlives the call.
        let bound = unsafe {
            libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
        };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        // The kernel takes a frame's outer tag out of its bytes, and tells it beside them.
        link.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32);
        link.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &libc::timeval { tv_sec: 0, tv_usec: 100_000 });
        link
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel reads as many bytes of a value that outlives the call.
        let set =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, (&raw const *value).cast(), length) };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: the kernel reads as many bytes as the frame has.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame with its tags, ours and others'; `None` when none came for a while.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = [0u8; 2048];
        // Aligned as control messages are.
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: pointers, for which null is a value, and integers.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
        (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
        // SAFETY: everything that the header points at outlives the call, and is as long as it says.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, 0) };
        let mut frame = bytes[..usize::try_from(length).ok()?].to_vec();
        // SAFETY: the kernel filled the header and the control messages it points at.
        let tag = unsafe {
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            assert!(!message.is_null(), "no word about tags");
            assert_eq!(
                ((*message).cmsg_level, (*message).cmsg_type),
                (libc::SOL_PACKET, libc::PACKET_AUXDATA)
            );
            libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned()
        };
        if tag.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
            let words = [tag.tp_vlan_tpid, tag.tp_vlan_tci].map(u16::to_be_bytes);
            frame.splice(12..12, words.into_iter().flatten());
        }
        Some(frame)
    }

    /// Waits for a frame from the VIP.
    fn reply(&self, flow: &Flow) -> Option<Datagram> {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            let datagram = self.receive().and_then(|frame| Datagram::read(&frame));
            if let Some(datagram) = datagram.filter(|datagram| datagram.source == flow.vip) {
                return Some(datagram);
            }
        }
        None
    }
}

fn started(lab: &Lab) -> Daemon<'_> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), &configuration(BOX), &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn flow(family: Family, vip: IpAddr, port: u16) -> Flow {
    let client = SocketAddr::new(node(CLIENT).own.of(family), 40_000);
    Flow { client, vip: SocketAddr::new(vip, port) }
}

/// the reply comes back over the link in the VLAN that the query came in, and is the one that it gets without.
#[test]
fn queries_in_vlans_are_answered_in_the_same_vlans() {
    let Some(lab) = require_lab() else { return };
    let daemon = started(&lab);
    let mut asked = 0;
    for family in Family::ALL {
        let vip = node(BOX).vip.unwrap().of(family);
        let near = match node(SERVER).own.of(family) {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let record = if family == Family::V4 { rr::A } else { rr::AAAA };
        // Longer than the reply: behind a frame on a veth there may be no room to grow.
        let edns = Edns::new(false).option(PADDING, &[0; 40]);
        let query = DnsQuery::new(SERVER_NAME, record).edns(edns).encode();
        let url = format!("http://{VIP_NAME}/x");
        let request = CdsrRequest { length: 150, ..CdsrRequest::new(&url) }.encode();
        for (port, message) in [(53, query), (cdsr::PORT, request)] {
            let flow = flow(family, vip, port);
            let replies: Vec<Datagram> =
                [&[][..], &[[0x8100, 0x6005]], &[[0x88a8, 0x0fff]], &[[0x88a8, 0x3001], [0x8100, 0x0002]]]
                    .into_iter()
                    .map(|tags| {
                        let frame = Form { tags, ..Form::default() }.of(&flow.frame(&message));
                        let link = lab.within(ROUTER, || Link::open(BOX)).unwrap();
                        link.send(&frame);
                        let reply =
                            link.reply(&flow).unwrap_or_else(|| panic!("{tags:x?}: {}", daemon.log()));
                        assert_eq!((&reply.tags[..], &reply.fault, reply.ttl), (tags, &None, 64));
                        assert_eq!((reply.macs, reply.destination), ([CLIENT_MAC, BOX_MAC], flow.client));
                        Datagram { tags: Vec::new(), ..reply }
                    })
                    .collect();
            asked += replies.len() as u64;
            assert!(replies[0].payload.windows(near.len()).any(|bytes| bytes == near), "{replies:?}");
            assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
        }
    }
    let stats = daemon.stats().unwrap();
    assert_eq!(stats["fast"]["reasons"]["first-tier"].as_u64(), Some(asked), "{stats}");
    assert_eq!(stats["slow"]["reasons"]["first-tier"].as_u64().unwrap_or(0), 0, "{stats}");
}

/// What hinders the fast path at an interface, or makes it slow, is told when the program is attached.
#[test]
fn advice_about_the_interface_is_in_the_log() {
    let Some(lab) = require_lab() else { return };
    let stripping = "takes VLAN tags off";
    // The program at the other end allows only small MTUs here.
    lab.exec(ROUTER, ["ip", "link", "set", BOX, "xdpdrv", "off"]).run().unwrap();
    let [strip, jumbo, jumbo_there] = [
        (BOX, &["ethtool", "-K", "eth0", "rxvlan", "off"][..]),
        (BOX, &["ip", "link", "set", "eth0", "mtu", "9000"]),
        (ROUTER, &["ip", "link", "set", BOX, "mtu", "9000"]),
    ];
    let mut logged = 0;
    for (changes, said, unsaid) in [
        (&[][..], &[stripping, "ethtool -K eth0 rxvlan off"][..], "generic hook"),
        (&[strip], &["ready"], stripping),
        (&[jumbo, jumbo_there], &["its MTU is 9000", "generic hook"], stripping),
    ] {
        for (node, command) in changes {
            lab.exec(node, command.iter().copied()).run().unwrap();
        }
        let daemon = started(&lab);
        // The daemons of one box write to one file.
        let log = daemon.log().split_off(logged);
        logged += log.len();
        drop(daemon);
        // Else the program would stay where it is, and the next daemon find it there.
        lab.exec(BOX, [program("redirector").as_os_str(), "detach".as_ref()]).run().unwrap();
        assert!(said.iter().all(|said| log.contains(said)), "{log}");
        assert!(!log.contains(unsaid), "{log}");
    }
}

/// tagged frames for others pass, as do frames of more tags than two; none is answered or dropped.
#[test]
fn frames_in_vlans_that_are_not_for_the_fast_path_are_passed_on() {
    let Some(lab) = require_lab() else { return };
    let daemon = started(&lab);
    let vip = node(BOX).vip.unwrap().v4;
    let query = DnsQuery::new(SERVER_NAME, rr::A).encode();
    let [service, customer] = [[0x88a8, 3], [0x8100, 5]];
    for (vip, tags, reason) in [
        ("198.51.100.1".parse().unwrap(), &[customer][..], "not-vip"),
        ("198.51.100.1".parse().unwrap(), &[service, customer], "not-vip"),
        (IpAddr::from(vip), &[service, customer, customer], "pass-ethertype"),
    ] {
        let flow = flow(Family::V4, vip, 53);
        let frame = Form { tags, ..Form::default() }.of(&flow.frame(&query));
        let count = || {
            let stats = daemon.stats().unwrap();
            assert_eq!(stats["fast"]["reasons"]["first-tier"].as_u64().unwrap_or(0), 0, "{stats}");
            stats["fast"]["reasons"][reason].as_u64().unwrap_or(0)
        };
        let before = count();
        lab.within(ROUTER, || Link::open(BOX)).unwrap().send(&frame);
        redirector_tests::lab::wait_for("the frame", LIMIT, || (count() > before).then_some(())).unwrap();
    }
}
