//! DNS over UDP and TCP (RFC 1035, 7766), its answers read by an independent library.

use crate::boxes::{PATIENCE, Plan, TestBox, free_ports_v6, fresh_address, read_all, start};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use redirector_core::verdict::Reason;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

fn query(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).expect("name"), kind));
    message.to_vec().expect("encodes")
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// All messages of a TCP stream.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let (message, rest) = rest.split_at(u16::from_be_bytes(*len) as usize);
        messages.push(Message::from_vec(message).expect("decodes"));
        bytes = rest;
    }
    messages
}

async fn udp(front: &TestBox, query: &[u8]) -> Message {
    let local: IpAddr = if front.vip.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() };
    let socket = UdpSocket::bind((local, 0)).await.expect("socket");
    // Connected: answers from another address than the VIP would not be received.
    socket.connect(front.at(front.ports.dns)).await.expect("connects");
    socket.send(query).await.expect("sends");
    let mut bytes = [0; 4096];
    let len = timeout(PATIENCE, socket.recv(&mut bytes)).await.expect("answers").expect("receives");
    Message::from_vec(&bytes[..len]).expect("decodes")
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}

#[tokio::test]
async fn udp_answers_a_name_with_its_servers_address() {
    let front = start().await;
    let answer = udp(&front, &query(7, "near.cdn.test.", RecordType::A)).await;
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::NoError));
    assert!(answer.metadata.authoritative);
    assert_eq!(addresses(&answer), ["192.0.2.10".parse::<IpAddr>().expect("address")]);
    let answer = udp(&front, &query(8, "NEAR.cdn.TEST.", RecordType::AAAA)).await;
    assert_eq!(addresses(&answer), ["2001:db8::10".parse::<IpAddr>().expect("address")]);
    assert_eq!(front.counted(Reason::FirstTier), 2);
}

#[tokio::test]
async fn udp_answers_over_ipv6_from_the_vip() {
    let vip = Ipv6Addr::LOCALHOST.into();
    let front = Plan { ports: free_ports_v6(), ..Plan::new(vip) }.start().await;
    let answer = udp(&front, &query(7, "near.cdn.test.", RecordType::AAAA)).await;
    assert_eq!(addresses(&answer), ["2001:db8::10".parse::<IpAddr>().expect("address")]);
}

#[tokio::test]
async fn udp_refuses_what_it_is_not_asked_for_here() {
    let front = start().await;
    let code = async |name: &str, kind| udp(&front, &query(1, name, kind)).await.metadata.response_code;
    assert_eq!(code("www.example.org.", RecordType::A).await, ResponseCode::Refused);
    assert_eq!(code("nothing.cdn.test.", RecordType::A).await, ResponseCode::NXDomain);
    assert_eq!(code("near.cdn.test.", RecordType::MX).await, ResponseCode::NoError);
    assert_eq!(code("dead.cdn.test.", RecordType::A).await, ResponseCode::ServFail);
}

#[tokio::test]
async fn udp_answers_garbage_with_formerr_and_replies_not_at_all() {
    let front = start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    socket.connect(front.at(front.ports.dns)).await.expect("connects");
    let mut reply = query(1, "near.cdn.test.", RecordType::A);
    reply[2] |= 0x80;
    for silent in [&b""[..], b"x", &reply] {
        socket.send(silent).await.expect("sends");
    }
    // A question is promised and is not there.
    socket.send(b"\xab\xcd\0\0\0\x01\0\0\0\0\0\0").await.expect("sends");
    let mut bytes = [0; 512];
    let len = timeout(PATIENCE, socket.recv(&mut bytes)).await.expect("answers").expect("receives");
    let answer = Message::from_vec(&bytes[..len]).expect("decodes");
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (0xabcd, ResponseCode::FormErr));
    assert_eq!(front.counted(Reason::NotARequest), 3, "the others came first, and were not answered");
}

#[tokio::test]
async fn tcp_answers_as_udp_does() {
    let front = start().await;
    for (name, kind) in [
        ("near.cdn.test.", RecordType::A),
        ("cdn.test.", RecordType::SOA),
        ("x.pair.cdn.test.", RecordType::A),
        ("nothing.cdn.test.", RecordType::A),
        ("example.org.", RecordType::A),
    ] {
        let query = query(9, name, kind);
        let answer = front.exchange(front.ports.dns, &framed(&query)).await;
        assert_eq!(messages(&answer), [udp(&front, &query).await], "{name} {kind}");
    }
}

#[tokio::test]
async fn tcp_answers_pipelined_queries_in_order_and_after_the_client_has_ended() {
    let front = start().await;
    let queries: Vec<u8> =
        (0..100).flat_map(|id| framed(&query(id, "near.cdn.test.", RecordType::A))).collect();
    let answers = messages(&front.exchange(front.ports.dns, &queries).await);
    let ids: Vec<u16> = answers.iter().map(|answer| answer.metadata.id).collect();
    assert_eq!(ids, (0..100).collect::<Vec<u16>>());
    assert!(answers.iter().all(|answer| addresses(answer).len() == 1));
}

#[tokio::test]
async fn tcp_takes_a_query_in_pieces() {
    let front = start().await;
    let mut stream = TcpStream::connect(front.at(front.ports.dns)).await.expect("connects");
    stream.set_nodelay(true).expect("option");
    for byte in framed(&query(3, "near.cdn.test.", RecordType::A)) {
        stream.write_all(&[byte]).await.expect("sends");
        tokio::task::yield_now().await;
    }
    let len = timeout(PATIENCE, stream.read_u16()).await.expect("answers").expect("reads");
    let mut bytes = vec![0; len as usize];
    stream.read_exact(&mut bytes).await.expect("reads");
    assert_eq!(addresses(&Message::from_vec(&bytes).expect("decodes")).len(), 1);
}

#[tokio::test]
async fn tcp_ends_on_lengths_that_lie() {
    let front = start().await;
    let good = framed(&query(1, "near.cdn.test.", RecordType::A));
    let cases: [(&[u8], usize); 4] = [
        (b"\0\0", 0),           // no message
        (b"\0\x03abc", 0),      // too short for a header
        (b"\xff\xff short", 0), // more is promised than comes
        (b"\0", 0),             // not even a length
    ];
    for (bytes, answers) in cases {
        assert_eq!(messages(&front.exchange(front.ports.dns, bytes).await).len(), answers, "{bytes:?}");
        let before = [&good, bytes].concat();
        assert_eq!(messages(&front.exchange(front.ports.dns, &before).await).len(), answers + 1, "{bytes:?}");
    }
    // The longest message there can be: garbage behind the question.
    let mut long = query(5, "near.cdn.test.", RecordType::A);
    long.resize(65_535, 0xee);
    let answers = messages(&front.exchange(front.ports.dns, &framed(&long)).await);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].metadata.response_code, ResponseCode::FormErr);
}

#[tokio::test]
async fn tcp_ends_idle_and_slow_connections() {
    let limits = "idle_timeout = \"300ms\"\nheader_timeout = \"300ms\"".to_owned();
    let front = Plan { limits, ..Plan::new(fresh_address()) }.start().await;
    let mut idle = TcpStream::connect(front.at(front.ports.dns)).await.expect("connects");
    let mut slow = TcpStream::connect(front.at(front.ports.dns)).await.expect("connects");
    slow.write_all(b"\0\x20half").await.expect("sends");
    assert_eq!(read_all(&mut idle).await, b"");
    assert_eq!(read_all(&mut slow).await, b"");
}

#[tokio::test]
async fn tcp_connections_are_bounded_and_room_comes_back() {
    let limits = "dns_connections = 2".to_owned();
    let front = Plan { limits, ..Plan::new(fresh_address()) }.start().await;
    let query = framed(&query(1, "near.cdn.test.", RecordType::A));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(front.at(front.ports.dns)).await.expect("connects");
        stream.write_all(&query).await.expect("sends");
        timeout(PATIENCE, stream.read_u16()).await.expect("answers").expect("reads");
        held.push(stream);
    }
    let mut refused = TcpStream::connect(front.at(front.ports.dns)).await.expect("connects");
    // Closed unread: an end or a reset.
    let mut byte = [0];
    let read = timeout(PATIENCE, refused.read(&mut byte)).await.expect("is closed");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    held.clear();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(front.at(front.ports.dns)).await.expect("connects");
        let sent = stream.write_all(&query).await;
        if sent.is_ok() && matches!(timeout(PATIENCE, stream.read_u16()).await, Ok(Ok(_))) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "no room came back");
    }
}
