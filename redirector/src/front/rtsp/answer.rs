//! The forms of RTSP answers, as real players take them.

use super::super::accept::Connection;
use super::super::redirect::{Redirect, Refusal};
use super::super::url::Denied;
use super::request::Request;

/// Methods that the servers behind a redirect take; players look here before they go on.
const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN";
/// Methods that are answered here.
const ANSWERED: &str = "OPTIONS, DESCRIBE, SETUP";

/// What a request is answered with.
#[derive(Debug)]
pub(super) enum Answer {
    /// The methods.
    Options,
    /// Sent to a server.
    Redirected(Redirect),
    /// Nowhere to send the client to.
    Refused(Refusal),
    /// A URL that this connection's client was sent away to: not here.
    Foreign,
    /// The request breaks the protocol in this way.
    BadRequest(&'static str),
    /// A method that needs a session, and none begins here.
    NotInThisState,
    /// Another method.
    NotImplemented,
    /// Another version.
    Version,
}

impl Answer {
    /// Status code and reason phrase.
    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Options => (200, "OK"),
            Self::Redirected(_) => (302, "Found"),
            Self::Refused(refusal) => match refusal {
                Refusal::Malformed => (400, "Bad Request"),
                Refusal::TooLong => (414, "Request-URI Too Long"),
                Refusal::NotOurs | Refusal::Denied(Denied::Empty, _) => (404, "Not Found"),
                Refusal::Denied(Denied::Refused, _) => (403, "Forbidden"),
                Refusal::NothingUsable(_) | Refusal::Loop | Refusal::Unavailable => {
                    (503, "Service Unavailable")
                }
            },
            Self::Foreign => (404, "Not Found"),
            Self::BadRequest(_) => (400, "Bad Request"),
            Self::NotInThisState => (455, "Method Not Valid in This State"),
            Self::NotImplemented => (501, "Not Implemented"),
            Self::Version => (505, "RTSP Version Not Supported"),
        }
    }

    /// The whole answer; `cseq` is the request's, if it has one.
    pub(super) fn text(&self, cseq: Option<&str>) -> String {
        let (code, phrase) = self.status();
        let mut text = format!("RTSP/1.0 {code} {phrase}\r\n");
        let mut field = |name: &str, value: &str| {
            text.extend([name, ": ", value, "\r\n"]);
        };
        if let Some(cseq) = cseq {
            field("CSeq", cseq);
        }
        let mut body = String::new();
        match self {
            Self::Options => field("Public", METHODS),
            Self::Redirected(redirect) => field("Location", &redirect.location),
            Self::Refused(refusal) => {
                if matches!(refusal, Refusal::NothingUsable(_) | Refusal::Unavailable) {
                    field("Retry-After", "1");
                }
                body = format!("{} ({})\r\n", refusal.text(), refusal.reason().name());
            }
            Self::Foreign => body = "this URL is not served here: connect to its own server\r\n".to_owned(),
            Self::BadRequest(wrong) => body = format!("{wrong}\r\n"),
            Self::NotInThisState => field("Allow", ANSWERED),
            Self::NotImplemented => field("Public", METHODS),
            Self::Version => {}
        }
        if !body.is_empty() {
            field("Content-Type", "text/plain");
        }
        field("Content-Length", &body.len().to_string());
        text.push_str("\r\n");
        text.push_str(&body);
        text
    }

    /// A line of the access log.
    pub(super) fn log(&self, connection: &Connection, request: &Request) {
        let Connection { client, vip, .. } = connection;
        let Request { method, uri, .. } = request;
        let (status, _) = self.status();
        match self {
            Self::Redirected(redirect) => {
                let Redirect { location, service, reason, .. } = redirect;
                let reason = reason.name();
                tracing::info!(target: "access", %client, %vip, ?method, uri, status, location, service, reason, "rtsp");
            }
            Self::Refused(refusal) => {
                let reason = refusal.reason().name();
                tracing::info!(target: "access", %client, %vip, ?method, uri, status, reason, "rtsp");
            }
            Self::BadRequest(reason) => {
                tracing::info!(target: "access", %client, %vip, ?method, uri, status, reason, "rtsp");
            }
            Self::Options | Self::Foreign | Self::NotInThisState | Self::NotImplemented | Self::Version => {
                tracing::debug!(target: "access", %client, %vip, ?method, uri, status, "rtsp");
            }
        }
    }
}
