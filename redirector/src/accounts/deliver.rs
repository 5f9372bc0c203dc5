//! Sends batches to collectors: one after the other, each until it is taken.

use super::keeper::Keeper;
use super::query::{Answer, Question};
use crate::config::CollectorTerms;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How long a collector may take for one batch.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is left alone when it did not take one; it doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How often it is looked whether there is something to be sent.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read.
const ANSWER: usize = 65_536;

/// What collectors need of the box.
pub trait Office: Send + Sync + 'static {
    /// Who keeps the accounts.
    fn keeper(&self) -> Option<&Keeper>;
    /// Collectors, and the address from which they are talked to.
    fn collectors(&self) -> (Vec<CollectorTerms>, IpAddr);
}

/// Sends what waits for a collector until it has none any more, or is no collector any more.
pub async fn serve(office: &impl Office, name: &str) {
    let mut wait = RETRY.0;
    loop {
        let (collectors, source) = office.collectors();
        let (Some(terms), Some(keeper)) = (collectors.iter().find(|one| one.name == name), office.keeper())
        else {
            return;
        };
        let waiting = keeper.ask(Question::Batch { collector: name.to_owned() }).await;
        let Ok(Answer::Batch { sequence, key, text }) = waiting else {
            sleep(LOOK).await;
            continue;
        };
        let sent = timeout(PATIENCE, send(terms, source, &key, text)).await;
        let sent = sent.unwrap_or_else(|_| Err(format!("no answer in {} s", PATIENCE.as_secs())));
        match sent {
            Ok(()) => {
                if wait > RETRY.0 {
                    info!("collector {name} takes accounts again");
                }
                wait = RETRY.0;
                keeper.note_delivery(name, None);
                // If that cannot be noted the batch is sent once more, with the same key.
                let _ = keeper.ask(Question::Delivered { collector: name.to_owned(), sequence }).await;
            }
            Err(problem) => {
                if wait == RETRY.0 {
                    warn!("collector {name}, {}: {problem}; it is tried again and again", terms.url);
                }
                keeper.note_delivery(name, Some(problem));
                // Boxes that saw the same end do not come back at the same time.
                let spread = rand::random_range(0.8..1.2);
                sleep(wait.mul_f64(spread)).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

/// Sends one batch.
async fn send(terms: &CollectorTerms, source: IpAddr, key: &str, text: Vec<u8>) -> Result<(), String> {
    let stream = connect(terms, source).await.map_err(|error| error.to_string())?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    // It ends when the sender is dropped; what goes wrong in it, the exchange tells.
    tokio::spawn(async { drop(connection.await) });
    let request = Request::builder()
        .method(Method::POST)
        .uri(&terms.url.path)
        .header(HOST, terms.url.authority())
        .header(USER_AGENT, concat!("redirector/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", format!("\"{key}\""))
        .body(Full::new(Bytes::from(text)))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        // To its end, so that the collector has not to see a reset.
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let said =
            body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
        if status.is_success() {
            return Ok(());
        }
        let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
        Err(if said.is_empty() { format!("status {status}") } else { format!("status {status}: {said}") })
    };
    exchange.await
}

async fn connect(terms: &CollectorTerms, source: IpAddr) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address");
    for address in lookup_host((terms.url.host.as_str(), terms.url.port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if source.is_ipv4() == address.is_ipv4() {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
