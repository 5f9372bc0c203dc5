//! RTSP redirects in the forms that players follow (P-24; RFC 2326), by raw sockets.

use crate::boxes::{PATIENCE, Plan, TestBox, fresh_address, read_all, read_head, start};
use redirector_core::verdict::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

async fn connect(front: &TestBox) -> TcpStream {
    TcpStream::connect(front.at(front.ports.rtsp)).await.expect("connects")
}

/// Sends a request on a connection and reads the answer, whose body is thrown away.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("sends");
    let head = read_head(stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("has a length");
    let mut body = vec![0; length.parse().expect("number")];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.expect("a body").expect("reads");
    head
}

async fn describe(stream: &mut TcpStream, url: &str) -> String {
    ask(stream, &format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 2\r\nAccept: application/sdp\r\n\r\n")).await
}

#[tokio::test]
async fn options_tells_the_methods() {
    let front = start().await;
    let mut stream = connect(&front).await;
    let expected = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\nContent-Length: 0\r\n\r\n";
    for uri in ["*", "rtsp://near.cdn.test/x", "rtsp://near.cdn.test:554/x"] {
        let answer =
            ask(&mut stream, &format!("OPTIONS {uri} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: test\r\n\r\n")).await;
        assert_eq!(answer, expected, "{uri}");
    }
}

#[tokio::test]
async fn describe_is_sent_to_the_server_in_the_form_that_players_follow() {
    let front = start().await;
    let answer = describe(&mut connect(&front).await, "rtsp://near.cdn.test/live/News.sdp?a=b").await;
    let expected = "RTSP/1.0 302 Found\r\nCSeq: 2\r\nLocation: rtsp://192.0.2.10:8554/live/News.sdp?a=b\r\n\
                    Content-Length: 0\r\n\r\n";
    assert_eq!(answer, expected);
    assert_eq!(front.counted(Reason::FirstTier), 1);
}

#[tokio::test]
async fn setup_is_sent_to_the_server_and_cseq_is_echoed_as_it_was_sent() {
    let front = start().await;
    let request = "SETUP RTSP://NAMED.cdn.test:554/x/trackID=1 RTSP/1.0\r\ncseq:   00042\r\n\
                   Transport: RTP/AVP;unicast;client_port=5000-5001\r\n\r\n";
    let answer = ask(&mut connect(&front).await, request).await;
    assert!(answer.starts_with("RTSP/1.0 302 Found\r\nCSeq: 00042\r\n"), "{answer}");
    assert!(answer.contains("Location: rtsp://named-1.example.net/x/trackID=1\r\n"), "{answer}");
}

#[tokio::test]
async fn what_needs_a_session_is_not_valid_here() {
    let front = start().await;
    let mut stream = connect(&front).await;
    for method in ["PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "RECORD"] {
        let request = format!("{method} rtsp://near.cdn.test/x RTSP/1.0\r\nCSeq: 9\r\nSession: 1\r\n\r\n");
        let answer = ask(&mut stream, &request).await;
        assert!(answer.starts_with("RTSP/1.0 455 "), "{method}: {answer}");
        assert!(
            answer.contains("\r\nCSeq: 9\r\n") && answer.contains("\r\nAllow: OPTIONS, DESCRIBE, SETUP\r\n")
        );
    }
    for (request, code) in [
        ("ANNOUNCE rtsp://near.cdn.test/x RTSP/1.0\r\nCSeq: 3\r\nContent-Length: 4\r\n\r\nv=0\n", "501"),
        ("DANCE rtsp://near.cdn.test/x RTSP/1.0\r\nCSeq: 4\r\n\r\n", "501"),
        ("DESCRIBE rtsp://near.cdn.test/x RTSP/2.0\r\nCSeq: 5\r\n\r\n", "505"),
    ] {
        let answer = ask(&mut stream, request).await;
        assert!(answer.starts_with(&format!("RTSP/1.0 {code} ")), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_player_that_follows_on_the_same_connection_is_never_sent_on() {
    let front = start().await;
    let mut stream = connect(&front).await;
    assert!(
        describe(&mut stream, "rtsp://named.cdn.test/x").await.contains("rtsp://named-1.example.net/x\r\n")
    );
    let answer = describe(&mut stream, "rtsp://named-1.example.net/x").await;
    assert!(answer.starts_with("RTSP/1.0 404 Not Found\r\nCSeq: 2\r\n"), "{answer}");
    assert!(!answer.contains("Location"));
    let options = ask(&mut stream, "OPTIONS rtsp://named-1.example.net/x RTSP/1.0\r\nCSeq: 7\r\n\r\n").await;
    assert!(options.starts_with("RTSP/1.0 200 "));
    assert!(
        describe(&mut stream, "rtsp://named.cdn.test/y").await.contains(" 302 "),
        "ours is still answered"
    );
}

#[tokio::test]
async fn a_foreign_url_that_a_rule_of_ours_covers_is_not_sent_on_either() {
    let more = "[[service]]\nname = \"all\"\ncoverage = \"pair\"\nurls = [\"rtsp://{any}.example.net/*\"]"
        .to_owned();
    let front = Plan { more, ..Plan::new(fresh_address()) }.start().await;
    let mut stream = connect(&front).await;
    assert!(
        describe(&mut stream, "rtsp://named-1.example.net/x").await.contains(" 302 "),
        "asked for at first"
    );
    let mut stream = connect(&front).await;
    assert!(
        describe(&mut stream, "rtsp://named.cdn.test/x").await.contains("rtsp://named-1.example.net/x\r\n")
    );
    assert!(describe(&mut stream, "RTSP://Named-1.example.net/x").await.contains(" 404 "));
    assert_eq!(front.counted(Reason::Loop), 1);
}

#[tokio::test]
async fn refusals_have_their_status_and_no_location() {
    let front = start().await;
    let long = format!("rtsp://near.cdn.test/{}", "x".repeat(1024));
    for (url, code) in [
        ("rtsp://other.test/x", 404),
        ("rtsp://dead.cdn.test/x", 503),
        ("http://near.cdn.test/x", 400),
        ("rtsp://user:password@near.cdn.test/x", 400),
        ("rtsp://near.cdn.test:99999/x", 400),
        ("rtsp://[::/x", 400),
        ("/x", 400),
        ("*", 400),
        (&long, 414),
    ] {
        let answer = describe(&mut connect(&front).await, url).await;
        assert!(answer.starts_with(&format!("RTSP/1.0 {code} ")), "{url}: {answer}");
        assert!(answer.contains("\r\nCSeq: 2\r\n") && !answer.contains("Location"), "{url}: {answer}");
    }
}

#[tokio::test]
async fn cseq_must_be_there_and_a_number() {
    let front = start().await;
    let mut stream = connect(&front).await;
    for cseq in
        ["", "CSeq: x\r\n", "CSeq:\r\n", "CSeq: 1 2\r\n", "CSeq: -1\r\n", "CSeq: 123456789012345678901\r\n"]
    {
        let answer =
            ask(&mut stream, &format!("DESCRIBE rtsp://near.cdn.test/x RTSP/1.0\r\n{cseq}\r\n")).await;
        assert!(answer.starts_with("RTSP/1.0 400 Bad Request\r\n"), "{cseq:?}: {answer}");
        assert!(!answer.contains("CSeq"), "{cseq:?}: {answer}");
    }
    assert!(
        describe(&mut stream, "rtsp://near.cdn.test/x").await.contains(" 302 "),
        "and the connection goes on"
    );
}

#[tokio::test]
async fn garbage_is_a_bad_request_and_ends() {
    let front = start().await;
    let long_header = format!("OPTIONS * RTSP/1.0\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let cases: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
        b"DESCRIBE rtsp://near.cdn.test/x\r\n\r\n",
        b"DESCRIBE rtsp://near.cdn.test/a b RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"DESCRIBE rtsp://near.cdn.test/x RTSP/1.0\r\nno field\r\n\r\n",
        long_header.as_bytes(),
    ];
    for bytes in cases {
        let mut stream = connect(&front).await;
        stream.write_all(bytes).await.expect("sends");
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with(b"RTSP/1.0 400 Bad Request\r\n"), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn interleaved_data_and_responses_are_skipped() {
    let front = start().await;
    let mut stream = connect(&front).await;
    let data = b"\r\n$A\0\x0e bc RTSP/1.0\r\n$\x00\0\x00RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n";
    stream.write_all(data).await.expect("sends");
    assert!(describe(&mut stream, "rtsp://near.cdn.test/x").await.contains("\r\nCSeq: 2\r\n"));
    // More than fits is not waited for.
    let mut stream = connect(&front).await;
    let frame = [b"$\x00\xff\xff".as_slice(), &[0; 30_000]].concat();
    let _ = stream.write_all(&frame).await;
    assert!(read_all(&mut stream).await.starts_with(b"RTSP/1.0 400 "));
}

#[tokio::test]
async fn requests_come_in_pieces_and_pipelined() {
    let front = start().await;
    let mut stream = connect(&front).await;
    stream.set_nodelay(true).expect("option");
    for byte in b"DESCRIBE rtsp://near.cdn.test/x RTSP/1.0\r\nCSeq: 77\r\n\r\n" {
        stream.write_all(&[*byte]).await.expect("sends");
        tokio::task::yield_now().await;
    }
    assert!(read_head(&mut stream).await.contains("\r\nCSeq: 77\r\n"));
    let requests: String = (0..5).map(|n| format!("OPTIONS * RTSP/1.0\r\nCSeq: {n}\r\n\r\n")).collect();
    stream.write_all(requests.as_bytes()).await.expect("sends");
    for n in 0..5 {
        assert!(read_head(&mut stream).await.contains(&format!("\r\nCSeq: {n}\r\n")));
    }
}

#[tokio::test]
async fn a_truncated_request_gets_nothing_and_slow_and_idle_ones_are_ended() {
    let limits = "idle_timeout = \"300ms\"\nheader_timeout = \"300ms\"".to_owned();
    let front = Plan { limits, ..Plan::new(fresh_address()) }.start().await;
    let half = b"DESCRIBE rtsp://near.cdn.test/x RTSP/1.0\r\nCSe";
    assert_eq!(front.exchange(front.ports.rtsp, half).await, b"");
    for start in [&b""[..], half] {
        let mut stream = connect(&front).await;
        stream.write_all(start).await.expect("sends");
        assert_eq!(read_all(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn the_connection_stays_open_a_few_seconds_after_a_redirect() {
    let front = start().await;
    let mut stream = connect(&front).await;
    describe(&mut stream, "rtsp://near.cdn.test/x").await;
    let begun = Instant::now();
    assert_eq!(read_all(&mut stream).await, b"");
    let open = begun.elapsed().as_secs_f32();
    assert!((3.0..9.0).contains(&open), "open for {open} s");
}
