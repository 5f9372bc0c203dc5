//! HTTP/1.1: a redirect to the chosen server at the moment of the request (P-23; RFC 9110, 9112).

mod answer;
mod patience;

use super::accept::Connection;
use super::redirect::{Asked, Refusal, count_protocol, redirect};
use super::url::Url;
use answer::Answer;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{EXPECT, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use patience::{Patience, Watched};
use redirector_core::lookup::Scheme;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Most header fields of a request.
const MAX_FIELDS: usize = 100;
/// Smallest read buffer that hyper allows.
const LEAST_BUFFER: usize = 8192;
/// Longest request body that is read and thrown away, so that the connection can go on.
const MAX_BODY: usize = 65_536;

/// Answers requests until the client ends or waits too long.
pub(super) async fn serve(connection: Connection, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stop = connection.stop.clone();
    let limits = connection.limits.clone();
    // The server below has one timer for idling and for slow headers; ours tells them apart.
    let patience = Arc::new(Patience::new(limits.idle_timeout, limits.header_timeout));
    let io = TokioIo::new(Watched::new(stream, patience.clone()));
    let connection = &connection;
    let service = service_fn(|request: Request<Incoming>| {
        let patience = patience.clone();
        async move {
            patience.asked();
            let response = respond(connection, request).await;
            patience.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(true)
        .max_headers(MAX_FIELDS)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(LEAST_BUFFER))
        .serve_connection(io, service);
    let mut served = pin!(served);
    let mut stopping = false;
    loop {
        tokio::select! {
            // An error is the client's: what it sent was answered as far as it could be.
            ended = served.as_mut() => {
                if ended.is_err_and(|error| error.is_parse()) {
                    count_malformed(connection);
                }
                return;
            }
            () = patience.ends() => return,
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Answers one request.
async fn respond(connection: &Connection, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if !head.headers.contains_key(EXPECT) {
        drain(body).await;
    }
    let answer = match head.method {
        Method::OPTIONS => Answer::Options,
        Method::CONNECT | Method::TRACE => Answer::NotAllowed,
        _ => decided(connection, &head),
    };
    if matches!(answer, Answer::Options | Answer::NotAllowed) {
        count_protocol(&connection.shared, connection.vip);
    }
    answer.log(connection, &head);
    answer.into_response(&head.method)
}

/// Reads a body to its end, unless that is far. What is not read closes the connection after the answer.
async fn drain(mut body: Incoming) {
    let mut left = MAX_BODY;
    while !body.is_end_stream() {
        let Some(Ok(frame)) = body.frame().await else { return };
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}

fn decided(connection: &Connection, head: &hyper::http::request::Parts) -> Answer {
    let authority = match authority(head) {
        Ok(authority) => authority,
        Err(text) => {
            count_malformed(connection);
            return Answer::BadRequest(text);
        }
    };
    let (path, json) = without_format(&head.uri);
    let asked = Asked { vip: connection.vip, client: connection.client, sent: !json };
    let url = Url::new(Scheme::Http, authority, &path);
    match redirect(&connection.shared, asked, url.as_ref().ok_or(Refusal::Malformed)) {
        Ok(redirect) if json => Answer::Told(redirect),
        Ok(redirect) => Answer::Redirected(redirect),
        Err(Refusal::Malformed) => Answer::BadRequest(Refusal::Malformed.text()),
        Err(refusal) => Answer::Refused { refusal, json },
    }
}

/// Counts a request that cannot be read like a URL that is none.
fn count_malformed(connection: &Connection) {
    let asked = Asked { vip: connection.vip, client: connection.client, sent: false };
    let _ = redirect(&connection.shared, asked, Err(Refusal::Malformed));
}

/// Host and port that a request is for (RFC 9112 section 3.2 and 3.3), or what is wrong.
fn authority(head: &hyper::http::request::Parts) -> Result<&str, &'static str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map(Some).map_err(|_| "the Host header is not a host name")?,
        (None, _) => None,
        (Some(_), Some(_)) => return Err("more than one Host header"),
    };
    if host.is_none() && head.version != Version::HTTP_10 {
        return Err("the Host header is missing");
    }
    match (head.uri.scheme_str(), head.uri.authority()) {
        // The target's authority counts, not the header.
        (Some("http"), Some(authority)) => Ok(authority.as_str()),
        (Some(_), _) => Err("the request target has a scheme other than http"),
        (None, Some(_)) => Err("the request target is neither a path nor an absolute URL"),
        (None, None) => host.ok_or("the Host header is missing"),
    }
}

/// Path and query without `format=json`, and whether it was there.
fn without_format(uri: &Uri) -> (String, bool) {
    const FORMAT: &str = "format=json";
    let path = uri.path().to_owned();
    match uri.query() {
        None => (path, false),
        Some(query) if query.split('&').all(|parameter| parameter != FORMAT) => {
            (format!("{path}?{query}"), false)
        }
        Some(query) => {
            let rest: Vec<&str> = query.split('&').filter(|parameter| *parameter != FORMAT).collect();
            let mark = if rest.is_empty() { "" } else { "?" };
            (format!("{path}{mark}{}", rest.join("&")), true)
        }
    }
}
