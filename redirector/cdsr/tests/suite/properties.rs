//! What holds of every message.

use crate::common::ReplyBuilder;
use cdsr::wire::{FailureKind, MAX_DATAGRAM, Opinion, Request, ServerEntry};
use cdsr::{Families, Reply, Scope, Status, Url};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

fn url() -> Url {
    "http://any.cdn.example/live/1.m3u8".parse().expect("a URL")
}

fn request(url: &Url) -> Request<'_> {
    Request {
        nonce: 7,
        families: Families::Both,
        max_endpoints: 8,
        url,
        servers: &[],
        token: None,
        min_len: 0,
    }
}

/// Servers that a client may connect to.
fn server() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<u8>().prop_map(|n| IpAddr::from([192, 0, 2, n]));
    let v6 = any::<u16>().prop_map(|n| IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, n]));
    (prop_oneof![v4, v6], 1..=u16::MAX).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), len in 0usize..2000) {
        let url = url();
        let _ = Reply::decode(&bytes, &request(&url), len, VIP);
    }

    #[test]
    fn decode_never_panics_on_changed_replies(
        servers in prop::collection::vec(server(), 0..=8),
        changes in prop::collection::vec((12usize..228, any::<u8>()), 0..6),
        cut in 0usize..300,
    ) {
        let endpoints = servers.into_iter().map(|server| (server, 0, 1, 0, 0)).collect();
        let reply = ReplyBuilder { endpoints, ..ReplyBuilder::status(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], 0, 60) };
        let mut bytes = reply.encode();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let url = url();
        if let Ok(reply) = Reply::decode(&bytes, &request(&url), 1232, VIP) {
            prop_assert!(bytes.len() >= 28 + 24 * reply.endpoints.len());
            if let Scope::Prefix(len) = reply.scope {
                prop_assert!(usize::from(len) > url.origin().len());
                prop_assert!(url.as_str().get(..usize::from(len)).is_some());
            }
            if let Some(suffix) = reply.handled_suffix {
                prop_assert!(url.host_str().ends_with(&suffix) && suffix.contains('.'));
            }
        }
    }

    #[test]
    fn replies_survive_encoding(
        parts in prop::collection::vec((server(), any::<u8>(), 1u8.., any::<u16>(), any::<u8>()), 0..=8),
        reason: u16, lifetime: u32, more: bool, prefix in 23u16..=34,
    ) {
        let built = ReplyBuilder {
            nonce: 7, status: 0, reason, value: lifetime, scope: 2, flags: u8::from(more), prefix, suffix: 11,
            endpoints: parts.clone(),
        };
        let url = url();
        let read = Reply::decode(&built.encode(), &request(&url), 1232, VIP).expect("a reply");
        prop_assert_eq!(read.status, Status::Handled);
        prop_assert_eq!((read.reason, read.more), (reason, more));
        prop_assert_eq!(read.lifetime, Duration::from_secs(u64::from(lifetime)));
        prop_assert_eq!(read.scope, Scope::Prefix(prefix));
        prop_assert_eq!(read.handled_suffix.as_deref(), Some("cdn.example"));
        let endpoints: Vec<_> =
            read.endpoints.iter().map(|e| (e.server, e.order, e.share, e.network, e.class)).collect();
        prop_assert_eq!(endpoints, parts);
    }

    #[test]
    fn requests_keep_their_limits_and_make_room(
        path in "[!-~&&[^#]]{0,1001}", count in any::<u8>(), pad in 0usize..3000,
        servers in prop::collection::vec(server(), 0..12),
    ) {
        let url: Url = format!("http://any.cdn.example/{path}").parse().expect("a URL");
        let servers: Vec<ServerEntry> = servers
            .into_iter()
            .map(|server| ServerEntry { server, opinion: Opinion::Failed(FailureKind::Refused) })
            .collect();
        let request = Request {
            nonce: 1, families: Families::Both, max_endpoints: count, url: &url, servers: &servers, token: None, min_len: pad,
        };
        let bytes = request.encode();
        prop_assert!(bytes.len() <= MAX_DATAGRAM);
        prop_assert!(bytes.len() >= pad.min(MAX_DATAGRAM));
        let wanted = if count == 0 { 4 } else { usize::from(count.min(8)) };
        prop_assert!(bytes.len() >= 28 + 24 * wanted);
        let at = 24 + 20 * usize::from(bytes[18]);
        prop_assert_eq!(usize::from(bytes[18]), servers.len().min(8));
        prop_assert_eq!(&bytes[at..at + url.as_str().len()], url.as_str().as_bytes());
        let host = at + usize::from(bytes[16]);
        prop_assert_eq!(&bytes[host..host + usize::from(bytes[17])], b"any.cdn.example");
    }

    #[test]
    fn any_text_is_a_url_or_a_clear_error(text in "\\PC{0,40}") {
        match text.parse::<Url>() {
            Ok(url) => prop_assert!(url.as_str()[url.host_range()].len() == url.host_str().len()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn urls_are_parsed_alike_twice(text in "(http|rtsp|x)://(a\\.b|\\[::1\\]|1\\.2\\.3\\.4)(:[0-9]{0,5})?[/?#]?[a-z/?#:@]{0,8}") {
        if let Ok(url) = text.parse::<Url>() {
            prop_assert_eq!(url.as_str().parse::<Url>(), Ok(url.clone()));
            let before = &url.as_str()[..url.host_range().start];
            prop_assert!(before.ends_with("://"));
            let after = url.as_str()[url.host_range().end..].chars().next();
            prop_assert!(matches!(after, None | Some('/' | ':' | '?')));
        }
    }
}
