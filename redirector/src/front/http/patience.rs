//! How long a connection may take: to begin a request, and to end it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// What is waited for.
#[derive(Debug, Clone, Copy)]
struct Wait {
    /// No byte of a request has come since the last answer.
    idle: bool,
    until: Instant,
}

/// The end of a connection's current wait.
#[derive(Debug)]
pub(super) struct Patience {
    idle: Duration,
    request: Duration,
    wait: Mutex<Wait>,
}

impl Patience {
    /// `idle` from one request to the next, `request` from a request's first byte to its last.
    pub(super) fn new(idle: Duration, request: Duration) -> Self {
        Self { idle, request, wait: Mutex::new(Wait { idle: true, until: Instant::now() + idle }) }
    }

    /// A header is complete; a body may follow.
    pub(super) fn asked(&self) {
        *self.wait() = Wait { idle: false, until: Instant::now() + self.request };
    }

    /// The answer is made.
    pub(super) fn answered(&self) {
        *self.wait() = Wait { idle: true, until: Instant::now() + self.idle };
    }

    /// Bytes came.
    fn received(&self) {
        let mut wait = self.wait();
        if wait.idle {
            *wait = Wait { idle: false, until: Instant::now() + self.request };
        }
    }

    /// Comes back when the client was waited for long enough.
    pub(super) async fn ends(&self) {
        loop {
            let until = self.wait().until;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn wait(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long, and for how many bytes, a client that still sends may go on after its last answer: a reset would take the
/// answer from it (RFC 9112 section 9.6).
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_BYTES: usize = 1 << 20;

/// A stream that tells when bytes come, and that closes in stages.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    patience: Arc<Patience>,
    /// Set when the sending side is closed.
    drain: Option<Drain>,
}

/// What a client sends that nobody reads.
#[derive(Debug)]
struct Drain {
    until: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<S> Watched<S> {
    /// Tells `patience`.
    pub(super) fn new(stream: S, patience: Arc<Patience>) -> Self {
        Self { stream, patience, drain: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.patience.received();
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, drain, .. } = &mut *self;
        if drain.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let drain = drain.get_or_insert_with(|| Drain { until: Box::pin(sleep(DRAIN)), bytes: 0 });
        loop {
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return drain.until.as_mut().poll(cx).map(Ok),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && drain.bytes < DRAIN_BYTES => {
                    drain.bytes += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
