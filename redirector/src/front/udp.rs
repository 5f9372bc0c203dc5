//! DNS and CDSR over UDP.

use super::Shared;
use super::listen::Datagram;
use super::message::by_datagram;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use redirector_core::wire::Scratch;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Longest datagram taken whole: no request is as long. What is cut off is malformed then, and answered so.
const MAX_DATAGRAM: usize = 4096;
/// Wait after a receive error, which concerns no client.
const PAUSE: Duration = Duration::from_millis(10);
/// Congestion bits of a traffic class, which tell of one packet's way alone (RFC 3168).
const ECN: u8 = 3;

/// A datagram that came in.
struct Received {
    len: usize,
    client: SocketAddr,
    /// Its traffic class.
    class: u8,
}

/// Answers datagrams until it is aborted.
pub(super) async fn serve(socket: UdpSocket, kind: Datagram, vip: IpAddr, shared: Arc<Shared>) {
    let mut bytes = vec![0; MAX_DATAGRAM];
    let mut scratch = Box::<Scratch>::default();
    loop {
        let received = socket.async_io(Interest::READABLE, || receive(&socket, &mut bytes)).await;
        let Received { len, client, class } = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%vip, ?kind, %error, "cannot receive");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let answered = by_datagram(&shared, kind, (vip, client), &mut scratch, &mut bytes, len);
        let Some(len) = answered else { continue };
        // If one is configured, the socket has it.
        let kept = shared.current.load().config.box_.dscp.is_none().then_some(class & !ECN);
        let sent = socket.async_io(Interest::WRITABLE, || send(&socket, &bytes[..len], client, kept)).await;
        if let Err(error) = sent {
            tracing::debug!(%vip, %client, ?kind, %error, "cannot send an answer");
        }
    }
}

fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let from = message.address.as_ref().and_then(address);
    let client = from.ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    let class = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Tos(class) => Some(class),
        ControlMessageOwned::Ipv6TClass(class) => u8::try_from(class).ok(),
        _ => None,
    });
    Ok(Received { len: message.bytes, client, class: class.unwrap_or_default() })
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

/// Sends an answer, with this traffic class or with the socket's own.
fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr, class: Option<u8>) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let (class, wide) = (class.filter(|class| *class != 0), i32::from(class.unwrap_or_default()));
    let to = SockaddrStorage::from(client);
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_DONTWAIT, Some(&to))
    };
    match (class, client) {
        (None, _) => send(&[]),
        (Some(class), SocketAddr::V4(_)) => send(&[ControlMessage::Ipv4Tos(&class)]),
        (Some(_), SocketAddr::V6(_)) => send(&[ControlMessage::Ipv6TClass(&wide)]),
    }?;
    Ok(())
}
