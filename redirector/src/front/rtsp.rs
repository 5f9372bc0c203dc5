//! RTSP/1.0: a redirect on DESCRIBE and SETUP, in the forms that real players follow (P-24; RFC 2326).
//!
//! OPTIONS gets 200, because players differ in what they make of a redirect there. Nobody can PLAY here.

mod answer;
mod request;

use super::accept::Connection;
use super::redirect::{Asked, Refusal, count_protocol, redirect};
use super::url::Url;
use answer::Answer;
use redirector_core::lookup::Scheme;
use request::{Next, Request};
use rtsp_types::{Method, Version};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a connection stays open after its first redirect: players that close it themselves do so at once, others
/// fail if it goes under them.
const LINGER: Duration = Duration::from_secs(5);
/// How long, and for how many bytes, a client that is closed upon may go on: a reset would take the answer from it.
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_BYTES: u64 = 65_536;
/// Bytes read at once.
const READ: usize = 4096;

/// A connection's state.
#[derive(Debug)]
struct Session<S> {
    connection: Connection,
    stream: S,
    /// What came and is not answered.
    bytes: Vec<u8>,
    /// When the client was waited for long enough, unless something comes before.
    until: Instant,
    /// Something came since the last answer: `until` is the request's.
    begun: bool,
    /// End in any case; set by the first redirect.
    last: Option<Instant>,
    /// Authorities (host and port) that the client was sent to.
    sent_to: Vec<String>,
}

/// Answers requests until the client ends, waits too long, sends what is not RTSP, or was redirected a while ago.
pub(super) async fn serve(connection: Connection, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let until = Instant::now() + connection.limits.idle_timeout;
    let (bytes, sent_to) = (Vec::new(), Vec::new());
    let mut session = Session { connection, stream, bytes, until, begun: false, last: None, sent_to };
    while session.answer_all().await.is_some() && session.receive().await.is_some() {}
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Answers every whole request; `None` ends the connection.
    async fn answer_all(&mut self) -> Option<()> {
        loop {
            let limit = self.connection.limits.header_bytes;
            let (answer, len) = match request::next(&self.bytes, limit) {
                Next::More => return Some(()),
                Next::Skip(len) => {
                    self.bytes.drain(..len);
                    continue;
                }
                Next::Request(request, len) => (self.answer(&request), len),
                Next::Garbage => {
                    let _ = self.decide(Err(Refusal::Malformed));
                    self.send(Answer::BadRequest("not RTSP").text(None)).await?;
                    self.close().await;
                    return None;
                }
            };
            self.bytes.drain(..len);
            self.send(answer).await?;
            (self.begun, self.until) = (false, Instant::now() + self.connection.limits.idle_timeout);
        }
    }

    /// Waits for bytes; `None` ends the connection.
    async fn receive(&mut self) -> Option<()> {
        let until = self.last.map_or(self.until, |last| last.min(self.until));
        self.bytes.reserve(READ);
        let received = tokio::select! {
            received = timeout_at(until, self.stream.read_buf(&mut self.bytes)) => received,
            _ = self.connection.stop.wait_for(|stop| *stop) => return None,
        };
        match received {
            Ok(Ok(1..)) => {}
            Ok(_) => return None,
            Err(_) => {
                self.close().await;
                return None;
            }
        }
        if !self.begun {
            (self.begun, self.until) = (true, Instant::now() + self.connection.limits.header_timeout);
        }
        Some(())
    }

    async fn send(&mut self, answer: String) -> Option<()> {
        let sent = timeout(self.connection.limits.header_timeout, self.stream.write_all(answer.as_bytes()));
        matches!(sent.await, Ok(Ok(()))).then_some(())
    }

    /// Tells the client that nothing more comes, and takes what it still sends.
    async fn close(&mut self) {
        let _ = self.stream.shutdown().await;
        let mut rest = (&mut self.stream).take(DRAIN_BYTES);
        let _ = timeout(DRAIN, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }

    /// The answer to a request.
    fn answer(&mut self, request: &Request) -> String {
        let answer = match request {
            Request { cseq: None, .. } => {
                let _ = self.decide(Err(Refusal::Malformed));
                Answer::BadRequest("CSeq is missing or not a number")
            }
            Request { version: Version::V2_0, .. } => Answer::Version,
            Request { method: Method::Options, .. } => Answer::Options,
            Request { method: Method::Describe | Method::Setup, uri, .. } => self.redirect(uri),
            Request { method, .. } => match method {
                Method::Play
                | Method::Pause
                | Method::Record
                | Method::Teardown
                | Method::GetParameter
                | Method::SetParameter => Answer::NotInThisState,
                _ => Answer::NotImplemented,
            },
        };
        if let Answer::Options | Answer::Version | Answer::NotInThisState | Answer::NotImplemented = answer {
            count_protocol(&self.connection.shared, self.connection.vip);
        }
        answer.log(&self.connection, request);
        answer.text(request.cseq.as_deref())
    }

    fn redirect(&mut self, uri: &str) -> Answer {
        let url = parse(uri);
        let url = match &url {
            Some(url) if self.sent_to.contains(&authority(&url.text())) => {
                // A player that follows a redirect on this connection: it would be sent on for ever.
                let _ = self.decide(Err(Refusal::Loop));
                return Answer::Foreign;
            }
            Some(url) => Ok(url),
            None => Err(Refusal::Malformed),
        };
        match self.decide(url) {
            Ok(redirect) => {
                let (from, to) = (url.map(|url| authority(&url.text())), authority(&redirect.location));
                if from != Ok(to.clone()) && !self.sent_to.contains(&to) {
                    self.sent_to.push(to);
                }
                self.last = self.last.or(Some(Instant::now() + LINGER));
                Answer::Redirected(redirect)
            }
            Err(Refusal::Malformed) => Answer::BadRequest(Refusal::Malformed.text()),
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    fn decide(&self, url: Result<&Url<'_>, Refusal>) -> Result<super::redirect::Redirect, Refusal> {
        let asked = Asked { vip: self.connection.vip, client: self.connection.client, sent: true };
        redirect(&self.connection.shared, asked, url)
    }
}

/// An absolute RTSP URL, without its fragment.
fn parse(uri: &str) -> Option<Url<'_>> {
    const PREFIX: &str = "rtsp://";
    let (prefix, rest) = uri.split_at_checked(PREFIX.len())?;
    let rest = rest.split('#').next().unwrap_or_default();
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let url = Url::new(Scheme::Rtsp, &rest[..path], &rest[path..])?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(url)
}

/// Host and port of an absolute URL, in lower case.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase()
}
