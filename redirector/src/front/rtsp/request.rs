//! Finding whole requests in what came.

use rtsp_types::{Message, Method, ParseError, Version, headers};

/// First byte of interleaved binary data (RFC 2326 section 10.12).
const INTERLEAVED: u8 = b'$';
/// Most digits of a CSeq number.
const MAX_CSEQ: usize = 19;

/// A request, as far as it matters.
#[derive(Debug)]
pub(super) struct Request {
    /// Method.
    pub(super) method: Method,
    /// Request URI as it was sent.
    pub(super) uri: String,
    /// Protocol version.
    pub(super) version: Version,
    /// CSeq as it was sent; `None` if it is missing or not a number.
    pub(super) cseq: Option<String>,
}

/// What stands first.
#[derive(Debug)]
pub(super) enum Next {
    /// Not whole yet.
    More,
    /// A request and its length.
    Request(Request, usize),
    /// So many bytes that need no answer: interleaved data, or a response.
    Skip(usize),
    /// Not RTSP, or longer than `limit`.
    Garbage,
}

/// Reads what stands first in `bytes`; no message may be longer than `limit`.
pub(super) fn next(bytes: &[u8], limit: usize) -> Next {
    // Empty lines may stand between messages.
    let start = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if start > 0 {
        return Next::Skip(start);
    }
    let more = if bytes.len() < limit { Next::More } else { Next::Garbage };
    match bytes.first() {
        None => return Next::More,
        Some(&INTERLEAVED) => {}
        Some(_) if !begins_well(bytes) => return Next::Garbage,
        // Read once, and not with every byte that comes.
        Some(_) if !bytes.windows(4).any(|end| end == b"\r\n\r\n") => return more,
        Some(_) => {}
    }
    // The parser takes only URIs that it can normalise, and redirects must not change what the client asked for: it gets
    // the message without URI.
    let (uri, message) = match request_line(bytes) {
        Some((method, uri)) => {
            (uri, [method.as_bytes(), b" *", &bytes[method.len() + 1 + uri.len()..]].concat())
        }
        None => ("*", bytes.to_vec()),
    };
    let left_out = bytes.len() - message.len();
    match Message::<&[u8]>::parse(&message) {
        Ok((_, len)) if len + left_out > limit => Next::Garbage,
        Ok((Message::Request(request), len)) => {
            let (method, version) = (request.method().clone(), request.version());
            let request = Request { method, uri: uri.to_owned(), version, cseq: cseq(&request) };
            Next::Request(request, len + left_out)
        }
        Ok((Message::Response(_) | Message::Data(_), len)) => Next::Skip(len + left_out),
        Err(ParseError::Incomplete(_)) => more,
        Err(ParseError::Error) => Next::Garbage,
    }
}

/// Whether the first line can be one of RTSP, as far as it is there.
fn begins_well(bytes: &[u8]) -> bool {
    let text = |line: &[u8]| line.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match bytes.iter().position(|byte| *byte == b'\r' || *byte == b'\n') {
        None => text(bytes),
        Some(end) => {
            let line = &bytes[..end];
            text(line) && line.windows(5).any(|part| part == b"RTSP/")
        }
    }
}

/// Method and URI of a request's first line; `None` if it has another form, or is interleaved data.
fn request_line(bytes: &[u8]) -> Option<(&str, &str)> {
    if bytes.first() == Some(&INTERLEAVED) {
        return None;
    }
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
    (version.starts_with("RTSP/") && words.next().is_none() && !uri.is_empty()).then_some((method, uri))
}

fn cseq(request: &rtsp_types::Request<&[u8]>) -> Option<String> {
    let cseq = request.header(&headers::CSEQ)?.as_str().trim();
    let number = (1..=MAX_CSEQ).contains(&cseq.len()) && cseq.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| cseq.to_owned())
}
