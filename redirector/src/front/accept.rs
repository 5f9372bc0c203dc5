//! Accepting connections, within their bounds.

use super::gate::Ticket;
use super::listen::Stream;
use super::{Shared, dns_tcp, http, rtsp};
use crate::config::Limits;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
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

impl Connection {
    /// A place for a client's connection to a VIP address, with the limits of now; `None` if too many are open.
    pub(super) fn admit(
        shared: &Arc<Shared>,
        kind: Stream,
        (vip, client): (IpAddr, SocketAddr),
        stop: watch::Receiver<bool>,
    ) -> Option<Self> {
        let limits = shared.current.load().config.limits.clone();
        let (gate, most) = match kind {
            Stream::Dns => (&shared.dns, limits.dns_connections),
            Stream::Http => (&shared.http, limits.http_connections),
            Stream::Rtsp => (&shared.rtsp, limits.rtsp_connections),
        };
        let ticket = gate.enter(client.ip(), most)?;
        Some(Self { client, vip, shared: shared.clone(), limits, stop, _ticket: ticket })
    }
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
        let Some(connection) = Connection::admit(&shared, kind, (vip, client), stop.clone()) else {
            tracing::debug!(%vip, %client, ?kind, "too many connections");
            continue;
        };
        // Answers are written whole.
        let _ = stream.set_nodelay(true);
        tokio::spawn(answer(connection, kind, stream));
    }
}

/// Answers one connection until it ends.
pub(super) async fn answer(
    connection: Connection,
    kind: Stream,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) {
    match kind {
        Stream::Dns => dns_tcp::serve(connection, stream).await,
        Stream::Http => http::serve(connection, stream).await,
        Stream::Rtsp => rtsp::serve(connection, stream).await,
    }
}
