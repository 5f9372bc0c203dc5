//! HTTP/1.1 redirects, by raw sockets (RFC 9110, 9112; P-23).

use crate::boxes::{PATIENCE, Plan, TestBox, fresh_address, read_all, read_head, start};
use redirector_core::verdict::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends a request and gives the whole answer as text.
async fn ask(front: &TestBox, request: &str) -> String {
    let bytes = front.exchange(front.ports.http, request.as_bytes()).await;
    String::from_utf8(bytes).expect("text")
}

async fn get(front: &TestBox, host: &str, path: &str) -> String {
    ask(front, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

/// All values of a header field.
fn fields<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn get_is_sent_to_the_server_and_nothing_may_be_cached() {
    let front = start().await;
    let answer = get(&front, "near.cdn.test", "/a/b?c=d&e").await;
    assert_eq!(status(&answer), "302");
    assert_eq!(fields(&answer, "location"), ["http://192.0.2.10:8080/a/b?c=d&e"]);
    assert_eq!(fields(&answer, "cache-control"), ["no-store"]);
    assert_eq!(fields(&answer, "access-control-allow-origin"), ["*"]);
    assert_eq!(fields(&answer, "content-length"), ["0"]);
    assert_eq!(front.counted(Reason::FirstTier), 1);
    let counts = front.shared.counters.snapshot();
    assert_eq!(
        (counts.vips.len(), counts.services.len(), counts.regions.len(), counts.targets.len()),
        (1, 1, 1, 1)
    );
}

#[tokio::test]
async fn hosts_are_found_in_any_case_with_port_or_dot() {
    let front = start().await;
    for host in ["NEAR.cdn.Test", "near.cdn.test:80", "near.cdn.test:20080", "near.cdn.test."] {
        assert_eq!(
            fields(&get(&front, host, "/x").await, "location"),
            ["http://192.0.2.10:8080/x"],
            "{host}"
        );
    }
    let literal = front.vip.to_string();
    assert_eq!(fields(&get(&front, &literal, "/x").await, "location"), ["http://192.0.2.10:8080/x"]);
}

#[tokio::test]
async fn servers_with_a_name_are_named_and_templates_are_followed() {
    let front = start().await;
    let location = async |host| fields(&get(&front, host, "/a?b").await, "location").join(" ");
    assert_eq!(location("named.cdn.test").await, "http://named-1.example.net/a?b");
    assert_eq!(location("moved.cdn.test").await, "rtsp://named-1.example.net/moved.cdn.test/a?b");
}

#[tokio::test]
async fn further_servers_are_linked() {
    let front = start().await;
    let answer = get(&front, "pair.cdn.test", "/x").await;
    let (location, links) = (fields(&answer, "location"), fields(&answer, "link"));
    let other =
        if location == ["http://192.0.2.31/x"] { "http://192.0.2.32/x" } else { "http://192.0.2.31/x" };
    assert_eq!(links, [format!("<{other}>; rel=duplicate; pri=1")]);
}

#[tokio::test]
async fn format_json_tells_instead_of_redirecting() {
    let front = start().await;
    let cases = [
        ("/x?format=json", "/x"),
        ("/x?a=b&format=json&c", "/x?a=b&c"),
        ("/x?format=json&format=json", "/x"),
    ];
    for (asked, told) in cases {
        let answer = get(&front, "near.cdn.test", asked).await;
        assert_eq!((status(&answer), fields(&answer, "content-type")), ("200", vec!["application/json"]));
        assert_eq!(fields(&answer, "location"), [""; 0]);
        let json: serde_json::Value = serde_json::from_str(body(&answer)).expect("JSON");
        let expected = serde_json::json!({
            "location": format!("http://192.0.2.10:8080{told}"), "alternates": [],
            "service": "near", "region": "here", "reason": "first-tier",
        });
        assert_eq!(json, expected);
    }
    let answer = get(&front, "near.cdn.test", "/x?format=jsonp").await;
    assert_eq!(fields(&answer, "location"), ["http://192.0.2.10:8080/x?format=jsonp"]);
    let answer = get(&front, "other.test", "/x?format=json").await;
    let json: serde_json::Value = serde_json::from_str(body(&answer)).expect("JSON");
    assert_eq!((status(&answer), &json["reason"]), ("404", &serde_json::json!("not-our-url")));
}

#[tokio::test]
async fn head_is_answered_like_get_without_body() {
    let front = start().await;
    let head = async |host| ask(&front, &format!("HEAD /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let answer = head("near.cdn.test").await;
    assert_eq!((status(&answer), fields(&answer, "location")), ("302", vec!["http://192.0.2.10:8080/x"]));
    let (answer, of_get) = (head("other.test").await, get(&front, "other.test", "/x").await);
    assert_eq!((status(&answer), body(&answer)), ("404", ""));
    assert_eq!(fields(&answer, "content-length"), [body(&of_get).len().to_string()]);
}

#[tokio::test]
async fn other_methods_are_repeated_at_the_server_and_their_bodies_are_skipped() {
    let front = start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"] {
        let request = format!(
            "{method} /up HTTP/1.1\r\nHost: near.cdn.test\r\nContent-Length: 5\r\n\r\nhello\
             GET /next HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n"
        );
        let answer = ask(&front, &request).await;
        assert_eq!(status(&answer), "307", "{method}");
        assert_eq!(fields(&answer, "cache-control"), ["no-store"], "{method}");
        assert!(answer.contains("location: http://192.0.2.10:8080/up\r\n"), "{answer}");
        assert!(answer.contains("location: http://192.0.2.10:8080/next\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn methods_that_no_server_could_be_chosen_for_are_not_allowed() {
    let front = start().await;
    for request in
        ["TRACE /x HTTP/1.1\r\nHost: near.cdn.test", "CONNECT near.cdn.test:80 HTTP/1.1\r\nHost: x"]
    {
        let answer = ask(&front, &format!("{request}\r\n\r\n")).await;
        assert_eq!(status(&answer), "405", "{request}");
        let allowed: Vec<&str> = fields(&answer, "allow")[0].split(", ").collect();
        assert_eq!(allowed, ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]);
        assert_eq!(fields(&answer, "location"), [""; 0]);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_redirected_before_it_sends() {
    let front = start().await;
    let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
    let request =
        "PUT /big HTTP/1.1\r\nHost: near.cdn.test\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sends");
    assert_eq!(status(&read_head(&mut stream).await), "307");
}

#[tokio::test]
async fn a_long_body_does_not_keep_the_client_from_its_redirect() {
    let front = start().await;
    let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
    let head = "POST /big HTTP/1.1\r\nHost: near.cdn.test\r\nContent-Length: 300000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sends");
    stream.write_all(&[b'x'; 300_000]).await.expect("sends");
    assert_eq!(status(&read_head(&mut stream).await), "307");
}

#[tokio::test]
async fn browsers_preflights_are_granted() {
    let front = start().await;
    let request = "OPTIONS /x HTTP/1.1\r\nHost: near.cdn.test\r\nOrigin: https://player.test\r\n\
                   Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: range\r\n\r\n";
    let answer = ask(&front, request).await;
    assert_eq!(status(&answer), "204");
    assert_eq!(fields(&answer, "access-control-allow-origin"), ["*"]);
    assert!(fields(&answer, "access-control-allow-methods")[0].contains("GET"));
    assert!(fields(&answer, "access-control-allow-headers")[0].contains('*'));
    assert_eq!(status(&ask(&front, "OPTIONS * HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n").await), "204");
}

#[tokio::test]
async fn absolute_request_targets_count_more_than_the_host() {
    let front = start().await;
    let answer = ask(&front, "GET http://near.cdn.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert_eq!(fields(&answer, "location"), ["http://192.0.2.10:8080/x"]);
    let answer = ask(&front, "GET https://near.cdn.test/x HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n").await;
    assert_eq!(status(&answer), "400");
}

#[tokio::test]
async fn hosts_that_are_none_are_bad_requests() {
    let front = start().await;
    let bad = [
        "",
        "Host: near.cdn.test\r\nHost: near.cdn.test\r\n",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@near.cdn.test\r\n",
        "Host: near.cdn.test:x\r\n",
        "Host: near.cdn.test:99999\r\n",
        "Host: 2001:db8::1\r\n",
        "Host: near..cdn.test\r\n",
        "Host: \u{fc}.cdn.test\r\n",
    ];
    for host in bad {
        let answer = ask(&front, &format!("GET / HTTP/1.1\r\n{host}\r\n")).await;
        assert_eq!(status(&answer), "400", "{host:?}");
        assert_eq!(fields(&answer, "access-control-allow-origin"), ["*"], "{host:?}");
        assert!(!body(&answer).is_empty(), "{host:?}");
    }
    assert_eq!(front.counted(Reason::FirstTier), 0);
    let answer = ask(&front, "GET /x HTTP/1.0\r\nHost: near.cdn.test\r\n\r\n").await;
    assert_eq!(status(&answer), "302", "of an old client");
}

#[tokio::test]
async fn urls_without_service_are_not_found_and_say_why() {
    let front = start().await;
    for (host, path) in [("other.test", "/"), ("paths.cdn.test", "/vod/x"), ("cdn.test", "/")] {
        let answer = get(&front, host, path).await;
        assert_eq!(status(&answer), "404", "{host}{path}");
        assert_eq!(body(&answer), "no service for this URL here (not-our-url)\n");
    }
    assert_eq!(status(&get(&front, "paths.cdn.test", "/live/x").await), "302");
}

/// P-26: the host names the CDN's service, the first path segment the origin, and servers get both.
#[tokio::test]
async fn the_origin_is_found_in_the_first_path_segment() {
    let service = |name: &str, coverage: &str, origin: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\ncoverage = \"{coverage}\"\n\
             urls = [\"http|rtsp://foo.cdn.test/{origin}/*\"]\n"
        )
    };
    let more = service("foo", "near", "www.foo.com") + &service("bar", "named", "www.bar.org");
    let front = Plan { more, ..Plan::new(fresh_address()) }.start().await;
    for (path, location) in [
        ("/www.foo.com/index.html", "http://192.0.2.10:8080/www.foo.com/index.html"),
        ("/www.foo.com?x", "http://192.0.2.10:8080/www.foo.com?x"),
        (
            "/www.bar.org/index.html?a=/www.foo.com/",
            "http://named-1.example.net/www.bar.org/index.html?a=/www.foo.com/",
        ),
    ] {
        assert_eq!(fields(&get(&front, "foo.cdn.test", path).await, "location"), [location]);
    }
    for path in ["/", "/index.html", "/www.other.net/index.html", "/x/www.foo.com/index.html"] {
        assert_eq!(status(&get(&front, "foo.cdn.test", path).await), "404", "{path}");
    }
}

#[tokio::test]
async fn without_usable_server_clients_are_told_to_come_back() {
    let front = start().await;
    let answer = get(&front, "dead.cdn.test", "/").await;
    assert_eq!((status(&answer), fields(&answer, "retry-after")), ("503", vec!["1"]));
    assert!(body(&answer).contains("nothing-usable"));
    assert_eq!(fields(&answer, "access-control-allow-origin"), ["*"]);
}

#[tokio::test]
async fn long_urls_and_headers_are_refused() {
    let front = start().await;
    let room = 1024 - "http://near.cdn.test".len();
    assert_eq!(status(&get(&front, "near.cdn.test", &format!("/{}", "x".repeat(room - 1))).await), "302");
    assert_eq!(status(&get(&front, "near.cdn.test", &format!("/{}", "x".repeat(room))).await), "414");
    let request = format!("GET / HTTP/1.1\r\nHost: near.cdn.test\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
    // The box may close before it has all of it.
    let _ = stream.write_all(request.as_bytes()).await;
    assert_eq!(status(&read_head(&mut stream).await), "431");
    let many: String = (0..1000).map(|n| format!("X{n}: y\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: near.cdn.test\r\n{many}\r\n");
    let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
    let _ = stream.write_all(request.as_bytes()).await;
    assert_eq!(status(&read_head(&mut stream).await), "431");
}

#[tokio::test]
async fn characters_that_no_url_has_are_refused_and_odd_ones_survive() {
    let front = start().await;
    let answer = get(&front, "near.cdn.test", "/a//b/../%0d%0aX:%20y?z=%22{}|").await;
    assert_eq!(fields(&answer, "location"), ["http://192.0.2.10:8080/a//b/../%0d%0aX:%20y?z=%22{}|"]);
    let bytes = b"GET /\xff HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n";
    let answer = front.exchange(front.ports.http, bytes).await;
    assert_eq!(status(&String::from_utf8_lossy(&answer)), "400");
}

#[tokio::test]
async fn garbage_is_a_bad_request_and_ends() {
    let front = start().await;
    let cases: [&[u8]; 4] = [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a TLS client\r\n\r\n",
        b"DESCRIBE rtsp://near.cdn.test/ RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost near.cdn.test\r\n\r\n",
    ];
    for bytes in cases {
        let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
        stream.write_all(bytes).await.expect("sends");
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let front = start().await;
    let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
    for round in 0..3 {
        let requests: String =
            (0..10).map(|n| format!("GET /{round}/{n} HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n")).collect();
        stream.write_all(requests.as_bytes()).await.expect("sends");
        for n in 0..10 {
            let answer = read_head(&mut stream).await;
            assert_eq!(fields(&answer, "location"), [format!("http://192.0.2.10:8080/{round}/{n}")]);
        }
    }
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: near.cdn.test\r\nConnection: close\r\n\r\n")
        .await
        .expect("sends");
    assert!(read_all(&mut stream).await.starts_with(b"HTTP/1.1 302"));
}

#[tokio::test]
async fn slow_headers_slow_bodies_and_idle_connections_are_ended() {
    let limits = "idle_timeout = \"1s\"\nheader_timeout = \"300ms\"".to_owned();
    let front = Plan { limits, ..Plan::new(fresh_address()) }.start().await;
    let starts: [&[u8]; 3] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: near",
        b"POST / HTTP/1.1\r\nHost: near.cdn.test\r\nContent-Length: 9\r\n\r\nhalf",
    ];
    for start in starts {
        let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
        stream.write_all(start).await.expect("sends");
        assert_eq!(read_all(&mut stream).await, b"", "{:?}", String::from_utf8_lossy(start));
    }
    // One byte at a time does not buy more time.
    let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
    let mut sent = 0;
    let begun = tokio::time::Instant::now();
    while stream.write_all(b"G").await.is_ok() {
        sent += 1;
        assert!(begun.elapsed() < PATIENCE, "open after {sent} bytes");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let limits = "http_connections = 3".to_owned();
    let front = Plan { limits, ..Plan::new(fresh_address()) }.start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: near.cdn.test\r\n\r\n").await.expect("sends");
        read_head(&mut stream).await;
        held.push(stream);
    }
    let mut refused = TcpStream::connect(front.at(front.ports.http)).await.expect("connects");
    let read = timeout(PATIENCE, refused.read(&mut [0])).await.expect("is closed");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}
