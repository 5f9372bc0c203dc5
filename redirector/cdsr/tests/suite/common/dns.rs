//! A name server with a few records, over UDP and TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;

/// Owner, type, data.
type Record = (String, u16, Vec<u8>);

/// A running name server.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Serves addresses and texts. A forger is always faster. `truncate`: over UDP it says only that there is more.
    pub(crate) fn new(addresses: &[(&str, &str)], texts: &[(&str, &str)], truncate: bool) -> Self {
        let mut records: Vec<Record> = Vec::new();
        for (name, address) in addresses {
            records.push(match address.parse().expect(address) {
                IpAddr::V4(v4) => (name.to_string(), TYPE_A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (name.to_string(), TYPE_AAAA, v6.octets().to_vec()),
            });
        }
        for (name, text) in texts {
            let len = u8::try_from(text.len()).expect("a short text");
            records.push((name.to_string(), TYPE_TXT, [&[len], text.as_bytes()].concat()));
        }
        // The same port for both; UDP ports are chosen from the same range, so a clash is a matter of trying again.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("an address")) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("an address");
        udp.set_read_timeout(Some(Duration::from_millis(5))).expect("a time-out");
        tcp.set_nonblocking(true).expect("a listener that does not block");
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let over_udp = thread::spawn({
            let (asked, stop, records) = (Arc::clone(&asked), Arc::clone(&stop), records.clone());
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((len, client)) = udp.recv_from(&mut buffer) {
                        let answer = answer(&buffer[..len], &records, truncate, &asked);
                        // The forgery has another ID and the code NXDOMAIN. The client may be gone.
                        let forged = [
                            &[!answer[0], answer[1], answer[2], 3, 0, 1, 0, 0, 0, 0, 0, 0],
                            &buffer[12..len],
                        ]
                        .concat();
                        let _ = udp.send_to(&forged, client);
                        let _ = udp.send_to(&answer, client);
                    }
                }
            }
        });
        let over_tcp = thread::spawn({
            let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        Ok((mut stream, _)) => {
                            stream.set_nonblocking(false).expect("a stream that blocks");
                            let mut len = [0; 2];
                            stream.read_exact(&mut len).expect("a length");
                            let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
                            stream.read_exact(&mut query).expect("a query");
                            let answer = answer(&query, &records, false, &asked);
                            let len = u16::try_from(answer.len()).expect("a short answer").to_be_bytes();
                            stream.write_all(&[&len, answer.as_slice()].concat()).expect("an answer sent");
                        }
                        Err(e) if e.kind() == ErrorKind::WouldBlock => {
                            thread::sleep(Duration::from_millis(2))
                        }
                        Err(e) => panic!("accept: {e}"),
                    }
                }
            }
        });
        Self { address, asked, stop, threads: vec![over_udp, over_tcp] }
    }

    /// Queries for TXT records so far.
    pub(crate) fn txt_queries(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("the log");
        asked.iter().filter(|(_, rtype)| *rtype == TYPE_TXT).map(|(name, _)| name.clone()).collect()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking(), "the name server panicked");
        }
    }
}

/// RFC 1035 section 4: the question repeated, and the records that fit it.
fn answer(query: &[u8], records: &[Record], truncate: bool, asked: &Mutex<Vec<(String, u16)>>) -> Vec<u8> {
    let mut name = String::new();
    let mut at = 12;
    while query[at] != 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        name.push_str(std::str::from_utf8(label).expect("a label"));
        name.push('.');
        at += 1 + label.len();
    }
    let name = name.trim_end_matches('.').to_owned();
    let rtype = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    asked.lock().expect("the log").push((name.clone(), rtype));
    let known = records.iter().any(|(owner, ..)| *owner == name);
    let matching = records.iter().filter(|(owner, t, _)| *owner == name && *t == rtype && !truncate);
    let matching: Vec<&Record> = matching.collect();
    let mut out = query[..2].to_vec();
    out.push(if truncate { 0x87 } else { 0x85 }); // QR, AA, RD; TC
    out.push(if known { 0 } else { 3 }); // NXDOMAIN
    for count in [1, matching.len(), 0, 0] {
        out.extend(u16::try_from(count).expect("few records").to_be_bytes());
    }
    out.extend(question);
    for (_, rtype, data) in matching {
        out.extend([0xc0, 12]);
        out.extend(rtype.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]); // IN, 60 s
        out.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
        out.extend(data);
    }
    out
}
