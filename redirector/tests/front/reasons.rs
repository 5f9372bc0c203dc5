//! Every answer is counted under one reason, by whichever protocol it was asked for.

use crate::boxes::{PATIENCE, Plan, TestBox, fresh_address, read_all};
use redirector_core::verdict::Reason;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// What the box has counted so far, by reason code.
fn counts(front: &TestBox) -> Vec<(u16, u64)> {
    front.shared.counters.snapshot().reasons.into_iter().collect()
}

/// The one reason whose count has risen, by one. What cannot be read is counted just after it was answered.
async fn risen(front: &TestBox, before: &[(u16, u64)]) -> Reason {
    let counted = async {
        while counts(front) == before {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("is counted");
    let after = counts(front);
    let was = |code| before.iter().find(|known| known.0 == code).map_or(0, |known| known.1);
    let risen: Vec<(u16, u64)> =
        after.iter().map(|(code, count)| (*code, count - was(*code))).filter(|rise| rise.1 > 0).collect();
    let [(code, 1)] = risen[..] else { panic!("{risen:?}") };
    Reason::from_code(code).expect("a reason")
}

/// Sends a request over TCP and reads the answer to its end.
async fn by_tcp(front: &TestBox, port: u16, request: &[u8]) -> Reason {
    let before = counts(front);
    let mut stream = TcpStream::connect(front.at(port)).await.expect("connects");
    stream.write_all(request).await.expect("sends");
    stream.shutdown().await.expect("ends");
    assert!(!read_all(&mut stream).await.is_empty(), "no answer");
    risen(front, &before).await
}

async fn by_udp(front: &TestBox, port: u16, request: &[u8]) -> Reason {
    let before = counts(front);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    socket.connect(front.at(port)).await.expect("connects");
    socket.send(request).await.expect("sends");
    timeout(PATIENCE, socket.recv(&mut [0; 2048])).await.expect("answers").expect("receives");
    risen(front, &before).await
}

#[tokio::test]
async fn every_answer_by_http_has_one_reason() {
    let front = Plan::new(fresh_address()).start().await;
    for (request, reason) in [
        ("GET /x HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n", Reason::FirstTier),
        ("HEAD /x?format=json HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n", Reason::FirstTier),
        ("POST / HTTP/1.1\r\nHost: dead.cdn.test\r\nContent-Length: 0\r\n\r\n", Reason::NothingUsable),
        ("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", Reason::NotOurUrl),
        ("GET / HTTP/1.1\r\n\r\n", Reason::BadUrl),
        ("garbage\r\n\r\n", Reason::BadUrl),
        ("OPTIONS /x HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n", Reason::Protocol),
        ("TRACE /x HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n", Reason::Protocol),
    ] {
        assert_eq!(by_tcp(&front, front.ports.http, request.as_bytes()).await, reason, "{request}");
    }
}

#[tokio::test]
async fn every_answer_by_rtsp_has_one_reason() {
    let front = Plan::new(fresh_address()).start().await;
    for (request, reason) in [
        ("DESCRIBE rtsp://near.cdn.test/x", Reason::FirstTier),
        ("SETUP rtsp://dead.cdn.test/x", Reason::NothingUsable),
        ("DESCRIBE rtsp://other.test/x", Reason::NotOurUrl),
        ("DESCRIBE http://near.cdn.test/x", Reason::BadUrl),
        ("OPTIONS *", Reason::Protocol),
        ("PLAY rtsp://near.cdn.test/x", Reason::Protocol),
        ("DANCE rtsp://near.cdn.test/x", Reason::Protocol),
    ] {
        let request = format!("{request} RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        assert_eq!(by_tcp(&front, front.ports.rtsp, request.as_bytes()).await, reason, "{request}");
    }
    let later = b"OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n";
    assert_eq!(by_tcp(&front, front.ports.rtsp, later).await, Reason::Protocol);
    let garbage = b"garbage\r\n\r\n";
    assert_eq!(by_tcp(&front, front.ports.rtsp, garbage).await, Reason::BadUrl);
}

#[tokio::test]
async fn every_answer_by_datagram_has_one_reason() {
    let front = Plan::new(fresh_address()).start().await;
    let header = b"\xab\xcd\0\0\0\x01\0\0\0\0\0\0";
    let near = [&header[..], b"\x04near\x03cdn\x04test\0\0\x01\0\x01"].concat();
    assert_eq!(by_udp(&front, front.ports.dns, &near).await, Reason::FirstTier);
    assert_eq!(by_udp(&front, front.ports.dns, header).await, Reason::DnsFormErr);
    let framed = [&[0, near.len() as u8], &near[..]].concat();
    assert_eq!(by_tcp(&front, front.ports.dns, &framed).await, Reason::FirstTier);
    let mut request = [0; 28];
    request[..4].copy_from_slice(b"CD\x01\x01");
    assert_eq!(by_udp(&front, front.ports.cdsr, &request).await, Reason::CdsrBadRequest);
    request[2] = 9;
    assert_eq!(by_udp(&front, front.ports.cdsr, &request).await, Reason::CdsrBadVersion);
}
