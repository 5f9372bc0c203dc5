//! Redirects that would go round in circles end (P-4).

use crate::boxes::{PORTS, Plan, TestBox, fresh_address, read_head, start};
use redirector_core::verdict::Reason;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Redirects that a client follows before the test gives up.
const ENOUGH: usize = 200;

/// Two boxes; each sends clients to the other, and both take each other's addresses in URLs.
async fn two_boxes() -> [TestBox; 2] {
    let addresses = [fresh_address(), fresh_address()];
    let plan = |own: usize| {
        let other = addresses[1 - own];
        Plan {
            near: other.to_string(),
            near_ports: format!("http = {}, rtsp = {}", PORTS.http, PORTS.rtsp),
            ..Plan::new(addresses[own])
        }
    };
    [plan(0).start().await, plan(1).start().await]
}

/// Follows redirects as a player does, on a new connection each; gives the number of redirects and the last answer.
async fn follow(mut url: String, request: impl Fn(&str, &str) -> String) -> (usize, String) {
    for count in 0..ENOUGH {
        let rest = url.split_once("://").expect("absolute").1;
        let (authority, path) = rest.split_once('/').expect("path");
        let server: SocketAddr = authority.parse().expect("address");
        let mut stream = TcpStream::connect(server).await.expect("connects");
        stream.write_all(request(authority, &format!("/{path}")).as_bytes()).await.expect("sends");
        let answer = read_head(&mut stream).await;
        let location = answer.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(name, _)| name.eq_ignore_ascii_case("location"))
                .map(|(_, url)| url)
        });
        match location {
            Some(location) => url = location.to_owned(),
            None => return (count, answer),
        }
    }
    panic!("still redirected after {ENOUGH} times");
}

#[tokio::test]
async fn two_boxes_that_send_http_clients_to_each_other_end_it() {
    let [first, second] = two_boxes().await;
    let url = format!("http://{}/x", first.at(PORTS.http));
    let get = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let (count, last) = follow(url, get).await;
    assert!(last.starts_with("HTTP/1.1 508 Loop Detected\r\n"), "after {count}: {last}");
    assert!((2..=60).contains(&count), "{count} redirects");
    assert_eq!(first.counted(Reason::Loop) + second.counted(Reason::Loop), 1);
}

#[tokio::test]
async fn two_boxes_that_send_rtsp_clients_to_each_other_end_it() {
    let [first, second] = two_boxes().await;
    let url = format!("rtsp://{}/x", first.at(PORTS.rtsp));
    let describe =
        |host: &str, path: &str| format!("DESCRIBE rtsp://{host}{path} RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    let (count, last) = follow(url, describe).await;
    assert!(last.starts_with("RTSP/1.0 503 "), "after {count}: {last}");
    assert!((2..=60).contains(&count), "{count} redirects");
    assert_eq!(first.counted(Reason::Loop) + second.counted(Reason::Loop), 1);
}

#[tokio::test]
async fn another_client_is_redirected_meanwhile() {
    let front = start().await;
    let get = "GET /x HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n";
    for _ in 0..50 {
        front.exchange(front.ports.http, get.as_bytes()).await;
    }
    assert!(front.exchange(front.ports.http, get.as_bytes()).await.starts_with(b"HTTP/1.1 508 "));
    let socket = tokio::net::TcpSocket::new_v4().expect("socket");
    socket.bind("127.0.0.77:0".parse().expect("address")).expect("binds");
    let mut other = socket.connect(front.at(front.ports.http)).await.expect("connects");
    other.write_all(get.as_bytes()).await.expect("sends");
    assert!(read_head(&mut other).await.starts_with("HTTP/1.1 302 "));
}

#[tokio::test]
async fn being_told_is_not_being_redirected() {
    let front = start().await;
    let get = "GET /x?format=json HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n";
    for _ in 0..50 {
        assert!(front.exchange(front.ports.http, get.as_bytes()).await.starts_with(b"HTTP/1.1 200 "));
    }
}
