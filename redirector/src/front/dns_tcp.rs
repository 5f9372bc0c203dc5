//! DNS over TCP (RFC 7766): messages with their length before them, answered in the order in which they came.

use super::accept::Connection;
use super::message::by_stream;
use redirector_core::wire::{Scratch, dns};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// Bytes of the length before a message.
const PREFIX: usize = 2;
/// Pipelined queries are read together.
const READ_AHEAD: usize = 4096;

/// Answers until the client ends, waits too long, or sends what must not be answered.
pub(super) async fn serve(mut connection: Connection, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stream = BufReader::with_capacity(READ_AHEAD, stream);
    let mut scratch = Box::<Scratch>::default();
    // The length prefix, then the message, which becomes its answer.
    let mut bytes = Vec::new();
    loop {
        let first = tokio::select! {
            first = timeout(connection.limits.idle_timeout, stream.read_u8()) => first,
            _ = connection.stop.wait_for(|stop| *stop) => return,
        };
        let Ok(Ok(first)) = first else { return };
        let patience = connection.limits.header_timeout;
        let Ok(Ok(len)) = timeout(patience, read(&mut stream, first, &mut bytes)).await else { return };
        let ends = (connection.vip, connection.client);
        let message = &mut bytes[PREFIX..];
        let Some(len) = by_stream(&connection.shared, ends, &mut scratch, message, len) else {
            return;
        };
        bytes[..PREFIX].copy_from_slice(&(len as u16).to_be_bytes());
        let sent = timeout(patience, stream.get_mut().write_all(&bytes[..PREFIX + len])).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Reads the rest of a message whose length begins with `first`, and gives its length.
async fn read(stream: &mut (impl AsyncRead + Unpin), first: u8, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let len = u16::from_be_bytes([first, stream.read_u8().await?]) as usize;
    bytes.clear();
    bytes.resize(PREFIX + len.max(dns::MAX_REPLY), 0);
    stream.read_exact(&mut bytes[PREFIX..PREFIX + len]).await?;
    Ok(len)
}
