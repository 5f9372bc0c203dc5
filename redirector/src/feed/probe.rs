//! One probe of one address of a target.

use crate::config::Probe;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of an answer that are read to find the status; a status line is shorter (RFC 9112 section 4).
const MAX_STATUS_LINE: u64 = 1024;

/// Probes `address`; `source` is where the connection comes from if it is of the same family. Gives the path's round
/// trip: how long the connection took to be accepted. The error tells operators what was wrong with the target.
pub(super) async fn probe(probe: &Probe, address: IpAddr, source: IpAddr) -> Result<Duration, String> {
    match probe {
        Probe::Tcp { port } => {
            let address = SocketAddr::new(address, *port);
            let connected = connect(address, source).await.map_err(|error| format!("{address}: {error}"));
            connected.map(|(_, round_trip)| round_trip)
        }
        Probe::Http { port, path, host, status } => {
            let address = SocketAddr::new(address, *port);
            let host = host.clone().unwrap_or_else(|| authority(address));
            let found = get(address, source, path, &host).await;
            let (found, round_trip) = found.map_err(|error| format!("http://{address}{path}: {error}"))?;
            let expected = status.map_or((200..300).contains(&found), |status| status == found);
            let wanted = || status.map_or("2xx".to_owned(), |status| status.to_string());
            expected
                .then_some(round_trip)
                .ok_or_else(|| format!("http://{address}{path}: status {found} instead of {}", wanted()))
        }
    }
}

/// A connection, and the time until the target accepted it: a round trip, the kernel alone answers a SYN.
async fn connect(address: SocketAddr, source: IpAddr) -> io::Result<(TcpStream, Duration)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if source.is_ipv4() == address.is_ipv4() {
        socket.bind(SocketAddr::new(source, 0)).map_err(|error| {
            io::Error::new(error.kind(), format!("the box's management address {source}: {error}"))
        })?;
    }
    let begun = Instant::now();
    let stream = socket.connect(address).await?;
    Ok((stream, begun.elapsed()))
}

/// `Host` of a URL with this address (RFC 9110 section 7.2): without the port if it is http's own.
fn authority(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.port() == 80 => v4.ip().to_string(),
        SocketAddr::V6(v6) if v6.port() == 80 => format!("[{}]", v6.ip()),
        other => other.to_string(),
    }
}

/// Status of `GET path`, and the connection's round trip.
async fn get(address: SocketAddr, source: IpAddr, path: &str, host: &str) -> io::Result<(u16, Duration)> {
    let (mut stream, round_trip) = connect(address, source).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: redirector\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut limited = stream.take(MAX_STATUS_LINE);
    while !answer.contains(&b'\n') && limited.read_buf(&mut answer).await? > 0 {}
    status(&answer).map(|status| (status, round_trip)).ok_or_else(|| {
        let problem = if answer.is_empty() { "closed without an answer" } else { "the answer is not HTTP/1" };
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

/// Status of an HTTP/1 answer that begins with a whole status line.
pub fn status(answer: &[u8]) -> Option<u16> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let line = answer[..end].strip_suffix(b"\r").unwrap_or(&answer[..end]);
    let rest = line.strip_prefix(b"HTTP/1.0 ").or_else(|| line.strip_prefix(b"HTTP/1.1 "))?;
    let (code, after) = rest.split_at_checked(3)?;
    let digits = code.iter().all(u8::is_ascii_digit) && (after.is_empty() || after[0] == b' ');
    if digits { std::str::from_utf8(code).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_status_lines_of_http_1_have_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nServer: x\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\n"), Some(503));
        for bad in
            [&b"HTTP/1.1 200 OK"[..], b"HTTP/2 200\r\n", b"HTTP/1.1 20\r\n", b"HTTP/1.1 2000\r\n", b"\n", b""]
        {
            assert_eq!(status(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_host_header_names_the_address_as_urls_do() {
        let authority = |text: &str| authority(text.parse().expect("socket address"));
        assert_eq!(authority("192.0.2.1:80"), "192.0.2.1");
        assert_eq!(authority("192.0.2.1:8080"), "192.0.2.1:8080");
        assert_eq!(authority("[2001:db8::1]:80"), "[2001:db8::1]");
        assert_eq!(authority("[2001:db8::1]:81"), "[2001:db8::1]:81");
    }
}
