//! Accepting connections, within their bounds.

use super::gate::Ticket;
use super::listen::Stream;
use super::{Shared, dns_tcp, http, rtsp};
use crate::config::Limits;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Wait after an error that will not go away at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The client's address.
    pub(super) client: SocketAddr,
    /// The VIP address it came to.
    pub(super) vip: IpAddr,
    /// Everything else.
    pub(super) shared: Arc<Shared>,
    /// Bounds, as they were when it was accepted.
    pub(super) limits: Limits,
    /// Becomes true when it is to end.
    pub(super) stop: watch::Receiver<bool>,
    /// Its place.
    _ticket: Ticket,
}

/// Accepts connections until it is aborted.
pub(super) async fn serve(
    listener: TcpListener,
    kind: Stream,
    vip: IpAddr,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%vip, %error, "cannot accept a connection");
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let limits = shared.current.load().config.limits.clone();
        let (gate, most) = match kind {
            Stream::Dns => (&shared.dns, limits.dns_connections),
            Stream::Http => (&shared.http, limits.http_connections),
            Stream::Rtsp => (&shared.rtsp, limits.rtsp_connections),
        };
        let Some(ticket) = gate.enter(client.ip(), most) else {
            tracing::debug!(%vip, %client, ?kind, "too many connections");
            continue;
        };
        let (shared, stop) = (shared.clone(), stop.clone());
        let connection = Connection { client, vip, shared, limits, stop, _ticket: ticket };
        tokio::spawn(answer(connection, kind, stream));
    }
}

async fn answer(connection: Connection, kind: Stream, stream: TcpStream) {
    // Answers are written whole.
    let _ = stream.set_nodelay(true);
    match kind {
        Stream::Dns => dns_tcp::serve(connection, stream).await,
        Stream::Http => http::serve(connection, stream).await,
        Stream::Rtsp => rtsp::serve(connection, stream).await,
    }
}
