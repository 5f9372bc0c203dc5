//! DNS and CDSR over UDP.

use super::Shared;
use super::listen::Datagram;
use super::message::by_datagram;
use redirector_core::wire::Scratch;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// Longest datagram taken whole: no request is as long. What is cut off is malformed then, and answered so.
const MAX_DATAGRAM: usize = 4096;
/// Wait after a receive error, which concerns no client.
const PAUSE: Duration = Duration::from_millis(10);

/// Answers datagrams until it is aborted.
pub(super) async fn serve(socket: UdpSocket, kind: Datagram, vip: IpAddr, shared: Arc<Shared>) {
    let mut bytes = vec![0; MAX_DATAGRAM];
    let mut scratch = Box::<Scratch>::default();
    loop {
        let (len, client) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%vip, ?kind, %error, "cannot receive");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let answered = by_datagram(&shared, kind, (vip, client), &mut scratch, &mut bytes, len);
        if let Some(len) = answered
            && let Err(error) = socket.send_to(&bytes[..len], client).await
        {
            tracing::debug!(%vip, %client, ?kind, %error, "cannot send an answer");
        }
    }
}
