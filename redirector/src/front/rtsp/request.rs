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
    match Message::<&[u8]>::parse(bytes) {
        Ok((_, len)) if len > limit => Next::Garbage,
        Ok((Message::Request(request), len)) => match request_line(bytes) {
            Some(uri) => {
                let (method, version) = (request.method().clone(), request.version());
                Next::Request(Request { method, uri: uri.to_owned(), version, cseq: cseq(&request) }, len)
            }
            None => Next::Garbage,
        },
        Ok((Message::Response(_) | Message::Data(_), len)) => Next::Skip(len),
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

/// The URI of the first line. The parser's own is normalised, and redirects must not change what the client asked for.
fn request_line(bytes: &[u8]) -> Option<&str> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)
}

fn cseq(request: &rtsp_types::Request<&[u8]>) -> Option<String> {
    let cseq = request.header(&headers::CSEQ)?.as_str().trim();
    let number = (1..=MAX_CSEQ).contains(&cseq.len()) && cseq.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| cseq.to_owned())
}
