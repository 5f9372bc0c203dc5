//! CDSR over UDP, asked by the client library.

use crate::boxes::{PATIENCE, TestBox, start};
use cdsr::wire::{Opinion, Request, ServerEntry};
use cdsr::{FailureKind, Families, Reply, Scope, Status, Url};
use redirector_core::verdict::Reason;
use std::net::SocketAddr;
use tokio::net::UdpSocket;
use tokio::time::timeout;

async fn ask(front: &TestBox, url: &str, failed: &[&str]) -> Reply {
    let url: Url = url.parse().expect("URL");
    let entry = |server: &&str| ServerEntry {
        server: server.parse::<SocketAddr>().expect("server"),
        opinion: Opinion::Failed(FailureKind::TimedOut),
    };
    let servers: Vec<ServerEntry> = failed.iter().map(entry).collect();
    let request = Request {
        nonce: 0x1122_3344_5566_7788,
        families: Families::SameAsRequest,
        max_endpoints: 0,
        url: &url,
        servers: &servers,
        token: None,
        min_len: 0,
    };
    let bytes = request.encode();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    socket.connect(front.at(front.ports.cdsr)).await.expect("connects");
    socket.send(&bytes).await.expect("sends");
    let mut answer = [0; 2048];
    let len = timeout(PATIENCE, socket.recv(&mut answer)).await.expect("answers").expect("receives");
    Reply::decode(&answer[..len], &request, bytes.len(), front.vip).expect("decodes")
}

fn servers(reply: &Reply) -> Vec<String> {
    reply.endpoints.iter().map(|endpoint| endpoint.server.to_string()).collect()
}

#[tokio::test]
async fn a_url_gets_its_server_and_port() {
    let front = start().await;
    let reply = ask(&front, "http://near.cdn.test/a/b?c", &[]).await;
    assert_eq!((reply.status, reply.scope), (Status::Handled, Scope::Host));
    assert_eq!(servers(&reply), ["192.0.2.10:8080"]);
    assert_eq!(reply.reason, Reason::FirstTier as u16);
    assert_eq!(servers(&ask(&front, "rtsp://near.cdn.test/x", &[]).await), ["192.0.2.10:8554"]);
}

#[tokio::test]
async fn the_vip_itself_may_stand_in_the_url() {
    let front = start().await;
    let reply = ask(&front, &format!("http://{}/x", front.vip), &[]).await;
    assert_eq!(servers(&reply), ["192.0.2.10:8080"]);
}

#[tokio::test]
async fn a_failed_server_is_not_named_again() {
    let front = start().await;
    let first = servers(&ask(&front, "http://pair.cdn.test/", &[]).await);
    assert_eq!(first.len(), 2);
    let second = servers(&ask(&front, "http://pair.cdn.test/", &[&first[0]]).await);
    assert_eq!(second, [first[1].clone()]);
}

#[tokio::test]
async fn what_is_not_handled_is_said() {
    let front = start().await;
    assert_eq!(ask(&front, "http://www.example.org/", &[]).await.status, Status::NotMine);
    assert!(matches!(ask(&front, "http://dead.cdn.test/", &[]).await.status, Status::RetryLater(_)));
    assert_eq!((front.counted(Reason::NotOurUrl), front.counted(Reason::NothingUsable)), (1, 1));
}

#[tokio::test]
async fn noise_and_replies_get_no_answer_and_no_answer_is_longer_than_its_request() {
    let front = start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    socket.connect(front.at(front.ports.cdsr)).await.expect("connects");
    let mut reply = [0; 64];
    reply[..4].copy_from_slice(b"CD\x01\x81");
    for silent in [&b"x"[..], &[0; 1232], &[b'C'; 27], &reply] {
        socket.send(silent).await.expect("sends");
    }
    // Of a later version, and of the least length.
    let mut later = [0; 28];
    later[..4].copy_from_slice(b"CD\x02\x01");
    socket.send(&later).await.expect("sends");
    let mut bytes = [0; 2048];
    let len = timeout(PATIENCE, socket.recv(&mut bytes)).await.expect("answers").expect("receives");
    assert_eq!((len, &bytes[..4], bytes[12]), (28, &b"CD\x01\x81"[..], 6));
    assert_eq!(front.counted(Reason::NotARequest), 4, "the others came first, and were not answered");
}
