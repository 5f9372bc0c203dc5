//! The forms of HTTP answers.

use super::super::accept::Connection;
use super::super::redirect::{Redirect, Refusal};
use super::super::url::Denied;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName,
    HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

/// Methods that are answered.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// Seconds after which to try again, and for which a preflight's answer holds.
const SOON: HeaderValue = HeaderValue::from_static("1");
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");

/// What a request is answered with.
#[derive(Debug)]
pub(super) enum Answer {
    /// Sent to a server.
    Redirected(Redirect),
    /// Told of servers.
    Told(Redirect),
    /// Neither; `json` tells in which form that is said.
    Refused { refusal: Refusal, json: bool },
    /// The request breaks the protocol in this way.
    BadRequest(&'static str),
    /// Which methods and headers other origins may use (Fetch standard, CORS preflight).
    Options,
    /// A method that cannot be redirected.
    NotAllowed,
}

/// Servers for a URL, as JSON.
#[derive(Debug, Serialize)]
struct Told<'r> {
    location: &'r str,
    alternates: &'r [String],
    service: &'r str,
    region: Option<&'r str>,
    reason: &'static str,
}

/// No servers for a URL, as JSON.
#[derive(Debug, Serialize)]
struct Untold {
    error: &'static str,
    reason: &'static str,
}

impl Answer {
    /// Status; redirects that may repeat a request's body are 307 (RFC 9110 section 15.4).
    fn status(&self, method: &Method) -> StatusCode {
        match self {
            Self::Redirected(_) if method == Method::GET || method == Method::HEAD => StatusCode::FOUND,
            Self::Redirected(_) => StatusCode::TEMPORARY_REDIRECT,
            Self::Told(_) => StatusCode::OK,
            Self::Refused { refusal, .. } => match refusal {
                Refusal::Malformed => StatusCode::BAD_REQUEST,
                Refusal::TooLong => StatusCode::URI_TOO_LONG,
                Refusal::NotOurs | Refusal::Denied(Denied::Empty, _) => StatusCode::NOT_FOUND,
                Refusal::Denied(Denied::Refused, _) => StatusCode::FORBIDDEN,
                Refusal::NothingUsable(_) | Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Loop => StatusCode::LOOP_DETECTED,
            },
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Options => StatusCode::NO_CONTENT,
            Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Body and its type.
    fn body(&self) -> Option<(HeaderValue, String)> {
        match self {
            Self::Redirected(_) | Self::Options => None,
            Self::Told(redirect) => {
                let Redirect { location, alternates, service, region, reason } = redirect;
                let (region, reason) = (region.as_deref(), reason.name());
                json(&Told { location, alternates, service, region, reason })
            }
            Self::Refused { refusal, json: true } => {
                json(&Untold { error: refusal.text(), reason: refusal.reason().name() })
            }
            Self::Refused { refusal, json: false } => {
                Some((TEXT, format!("{} ({})\n", refusal.text(), refusal.reason().name())))
            }
            Self::BadRequest(text) => Some((TEXT, format!("{text}\n"))),
            Self::NotAllowed => Some((TEXT, "this method is not redirected\n".to_owned())),
        }
    }

    /// Fields that only some answers have.
    fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = Vec::new();
        match self {
            Self::Redirected(redirect) => {
                fields.extend(value(&redirect.location).map(|location| (LOCATION, location)));
                fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Link")));
                for (place, url) in (1..).zip(&redirect.alternates) {
                    let link = value(&format!("<{url}>; rel=duplicate; pri={place}"));
                    fields.extend(link.map(|link| (LINK, link)));
                }
            }
            Self::Refused { refusal: Refusal::NothingUsable(_) | Refusal::Unavailable, .. } => {
                fields.push((RETRY_AFTER, SOON));
            }
            Self::Options => {
                fields.push((ALLOW, METHODS));
                fields.push((ACCESS_CONTROL_ALLOW_METHODS, METHODS));
                // The wildcard does not cover Authorization.
                let headers = HeaderValue::from_static("*, Authorization");
                fields.push((ACCESS_CONTROL_ALLOW_HEADERS, headers));
                fields.push((ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE));
            }
            Self::NotAllowed => fields.push((ALLOW, METHODS)),
            Self::Told(_) | Self::Refused { .. } | Self::BadRequest(_) => {}
        }
        fields
    }

    /// The response to a request of this method.
    pub(super) fn into_response(self, method: &Method) -> Response<Full<Bytes>> {
        let (kind, body) = self.body().unzip();
        let mut response = Response::new(Full::new(Bytes::from(body.unwrap_or_default())));
        *response.status_mut() = self.status(method);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Players in browsers fail without it, on redirects and errors, too.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        for (name, value) in self.fields() {
            headers.append(name, value);
        }
        response
    }

    /// A line of the access log.
    pub(super) fn log(&self, connection: &Connection, head: &Parts) {
        let Connection { client, vip, .. } = connection;
        let (method, uri) = (&head.method, &head.uri);
        let status = self.status(method).as_u16();
        match self {
            Self::Redirected(redirect) | Self::Told(redirect) => {
                let Redirect { location, service, reason, .. } = redirect;
                let reason = reason.name();
                tracing::info!(target: "access", %client, %vip, %method, %uri, status, location, service, reason, "http");
            }
            Self::Refused { refusal, .. } => {
                let reason = refusal.reason().name();
                tracing::info!(target: "access", %client, %vip, %method, %uri, status, reason, "http");
            }
            Self::BadRequest(reason) => {
                tracing::info!(target: "access", %client, %vip, %method, %uri, status, reason, "http");
            }
            Self::Options | Self::NotAllowed => {
                tracing::debug!(target: "access", %client, %vip, %method, %uri, status, "http");
            }
        }
    }
}

/// A field's value; `None` if it cannot stand in one, which no decided URL can be.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

fn json(value: &impl Serialize) -> Option<(HeaderValue, String)> {
    let mut text = serde_json::to_string(value).ok()?;
    text.push('\n');
    Some((JSON, text))
}
