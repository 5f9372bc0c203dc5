//! Listeners follow the configuration, and leave alone what did not change.

use crate::boxes::{PATIENCE, PORTS, Plan, fresh_address, read_all, read_head, start};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n";

#[tokio::test]
async fn a_reload_adds_and_removes_addresses_and_keeps_open_connections() {
    let (first, second) = (fresh_address(), fresh_address());
    let mut front = Plan::new(first).start().await;
    let mut kept = TcpStream::connect((first, PORTS.http)).await.expect("connects");
    kept.write_all(GET).await.expect("sends");
    read_head(&mut kept).await;

    let both = Plan { vips: vec![first, second], ..Plan::new(first) };
    front.shared.current.store(Arc::new(both.generation(2)));
    let generation = front.shared.current.load_full();
    assert!(front.front.rebind(&generation).await.is_empty());
    kept.write_all(GET).await.expect("sends");
    assert!(read_head(&mut kept).await.starts_with("HTTP/1.1 302 "));
    let mut added = TcpStream::connect((second, PORTS.http)).await.expect("connects");
    added.write_all(GET).await.expect("sends");
    assert!(read_head(&mut added).await.starts_with("HTTP/1.1 302 "));

    front.shared.current.store(Arc::new(Plan::new(second).generation(3)));
    let generation = front.shared.current.load_full();
    assert!(front.front.rebind(&generation).await.is_empty());
    assert!(TcpStream::connect((first, PORTS.http)).await.is_err(), "nothing listens there any more");
    kept.write_all(GET).await.expect("sends");
    assert!(read_head(&mut kept).await.starts_with("HTTP/1.1 503 "), "the VIP is gone");
    TcpListener::bind((first, PORTS.dns)).await.expect("the port is free at once");
}

#[tokio::test]
async fn a_vip_listens_for_what_it_speaks_and_nothing_else() {
    let front = Plan { speaks: r#"["http"]"#, ..Plan::new(fresh_address()) }.start().await;
    assert!(TcpStream::connect(front.at(PORTS.http)).await.is_ok());
    for port in [PORTS.dns, PORTS.rtsp] {
        assert!(TcpStream::connect(front.at(port)).await.is_err(), "{port}");
    }
    for port in [PORTS.dns, PORTS.cdsr] {
        std::net::UdpSocket::bind(front.at(port)).expect("is free");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_and_does_not_hinder_the_others() {
    let address = fresh_address();
    let taken = TcpListener::bind((address, PORTS.http)).await.expect("binds");
    let (mut front, errors) = Plan::new(address).try_start().await;
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    assert!(text.starts_with(&format!("cannot listen at TCP {address}:{}: ", PORTS.http)), "{text}");
    assert!(TcpStream::connect(front.at(PORTS.rtsp)).await.is_ok());
    drop(taken);
    let generation = front.shared.current.load_full();
    assert!(front.front.rebind(&generation).await.is_empty(), "it is tried again");
    assert!(TcpStream::connect(front.at(PORTS.http)).await.is_ok());
}

#[tokio::test]
async fn an_address_that_no_interface_has_yet_can_be_listened_at() {
    Plan::new("198.51.100.77".parse().expect("address")).start().await;
    Plan::new("2001:db8:ffff::77".parse().expect("address")).start().await;
}

#[tokio::test]
async fn answers_come_in_segments_that_fit_every_path() {
    let front = start().await;
    let stream = TcpStream::connect(front.at(PORTS.http)).await.expect("connects");
    let segment = socket2::SockRef::from(&stream).tcp_mss().expect("option");
    assert!(segment <= 1280, "{segment} bytes");
}

#[tokio::test]
async fn stopping_ends_connections_in_order() {
    let front = start().await;
    let mut idle = TcpStream::connect(front.at(PORTS.http)).await.expect("connects");
    idle.write_all(GET).await.expect("sends");
    read_head(&mut idle).await;
    let mut rtsp = TcpStream::connect(front.at(PORTS.rtsp)).await.expect("connects");
    rtsp.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").await.expect("sends");
    read_head(&mut rtsp).await;
    let begun = std::time::Instant::now();
    front.front.stop(PATIENCE).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "nothing was left to wait for");
    assert_eq!(read_all(&mut idle).await, b"");
    assert_eq!(read_all(&mut rtsp).await, b"");
}
