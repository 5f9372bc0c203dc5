//! What is asked, in terms that other servers' configurations need, and whether they answer it rightly.

use crate::wire::Wire;
use crate::{ring, workload};
use anyhow::{Context as _, Result, bail, ensure};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::RData;
use ipnet::{IpNet, Ipv4Net};
use redirector_core::table::Tables;
use redirector_plan::model::Network;
use redirector_tests::frames::{Datagram, Flow};
use redirector_tests::lab::wait_for;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;
use workload::{CASES, Case, Keys, Workload};

/// Frames of a ring.
const FRAMES: usize = 1024;
/// Frames whose replies are waited for at a time, each with a socket of its own.
const AT_A_TIME: usize = 256;
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a server may take to answer for the first time.
const START: Duration = Duration::from_secs(30);

/// A query, by whom and to whom.
pub(crate) struct Question {
    pub(crate) flow: Flow,
    pub(crate) payload: Vec<u8>,
}

/// A ring of frames, and what they ask.
pub(crate) struct Ring {
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) questions: Vec<Question>,
}

impl Ring {
    /// Frames of these kinds to one VIP, taking turns.
    pub(crate) fn new<T: Tables>(network: &Network, cases: &[&str], tables: &T) -> Result<Self> {
        let mut workload = Workload::new(network, Keys::Hot);
        let mut kinds = Vec::new();
        for name in cases {
            let case: &Case =
                CASES.iter().find(|case| case.name == *name).with_context(|| (*name).to_owned())?;
            kinds.push(to_first_vip(network, workload.ring(case, tables)?)?.into_iter());
        }
        let mut ring = Self { frames: Vec::new(), questions: Vec::new() };
        for kind in (0..kinds.len()).cycle().take(FRAMES) {
            let (frame, question) = kinds[kind].next().context("too few frames to the first VIP")?;
            ring.frames.push(frame);
            ring.questions.push(question);
        }
        Ok(ring)
    }
}

fn to_first_vip(network: &Network, frames: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, Question)>> {
    let vip = &network.vips[0];
    let own = [IpAddr::from(vip.ipv4[0]), IpAddr::from(vip.ipv6[0])];
    let mut kept = Vec::new();
    for frame in frames {
        let read = Datagram::read(&frame).context("a frame that is no datagram")?;
        if own.contains(&read.destination.ip()) && frame.len() <= ring::LONGEST {
            kept.push((frame, Question { flow: read.flow(), payload: read.payload }));
        }
    }
    Ok(kept)
}

/// The names, and the clients with their regions.
pub(crate) struct Asked {
    pub(crate) vip: Ipv4Addr,
    pub(crate) zone: String,
    pub(crate) names: BTreeSet<String>,
    /// The /24 of each client.
    pub(crate) clients: BTreeMap<Ipv4Net, usize>,
    pub(crate) regions: usize,
}

impl Asked {
    /// Reads them from questions over IPv4.
    pub(crate) fn of(network: &Network, questions: &[Question]) -> Result<Self> {
        let zone = network.zones[0].suffix.join(".");
        let (mut names, mut clients) = (BTreeSet::new(), BTreeMap::new());
        for question in questions {
            let name = name_of(&Message::from_vec(&question.payload)?)?;
            ensure!(name.ends_with(&format!(".{zone}")), "{name} is not in {zone}");
            names.insert(name);
            let IpAddr::V4(client) = question.flow.client.ip() else { bail!("a client with IPv6") };
            clients.entry(net_of(client)?).or_insert(region(network, client)?);
        }
        Ok(Self { vip: network.vips[0].ipv4[0], zone, names, clients, regions: network.regions.len() })
    }

    /// The region that a client of the questions belongs to, as the other servers are told.
    pub(crate) fn region(&self, client: IpAddr) -> Result<usize> {
        let IpAddr::V4(client) = client else { bail!("a client with IPv6") };
        self.clients.get(&net_of(client)?).copied().with_context(|| format!("{client} is unknown"))
    }
}

fn net_of(client: Ipv4Addr) -> Result<Ipv4Net> {
    Ok(Ipv4Net::new(client, 24)?.trunc())
}

fn name_of(message: &Message) -> Result<String> {
    let query = message.queries.first().context("no question")?;
    Ok(query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase())
}

/// By the longest of the network's prefixes.
fn region(network: &Network, client: Ipv4Addr) -> Result<usize> {
    let prefixes = network.regions.iter().enumerate();
    let all = prefixes.flat_map(|(region, own)| own.prefixes.iter().map(move |prefix| (prefix, region)));
    let matching = all.filter(|(prefix, _)| matches!(prefix, IpNet::V4(net) if net.contains(&client)));
    let longest = matching.max_by_key(|(prefix, _)| prefix.prefix_len());
    Ok(longest.with_context(|| format!("{client} is in no region"))?.1)
}

/// Waits until a server answers a question, unless its end, which `alive` reports, comes first.
pub(crate) fn wait_for_answer(
    wire: &mut Wire<'_>,
    question: &Question,
    mut alive: impl FnMut() -> Result<()> + Send,
) -> Result<()> {
    wire.listening(|wire| {
        wire.among_clients(|| {
            wait_for("the first answer", START, || match (ask(question), alive()) {
                (Ok(_), _) => Some(Ok(())),
                (Err(_), Err(ended)) => Some(Err(ended)),
                _ => None,
            })?
        })
    })
}

fn ask(question: &Question) -> Result<()> {
    let socket = socket(question)?;
    socket.send(&question.payload)?;
    Ok(socket.recv(&mut [0; 512]).map(drop)?)
}

/// The client's end.
fn socket(question: &Question) -> Result<UdpSocket> {
    let client = question.flow.client;
    let socket = UdpSocket::bind(client).with_context(|| client.to_string())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(question.flow.vip)?;
    Ok(socket)
}

/// Sends each of the ring's frames once, and has `judge` look at the reply.
pub(crate) fn verify(
    wire: &mut Wire<'_>,
    questions: &[Question],
    judge: impl Fn(&Question, &[u8]) -> Result<()>,
) -> Result<()> {
    for (chunk, first) in questions.chunks(AT_A_TIME).zip((0..).step_by(AT_A_TIME)) {
        wire.listening(|wire| {
            let sockets: Vec<UdpSocket> = wire.among_clients(|| chunk.iter().map(socket).collect())?;
            wire.send_once(first, chunk.len() as u32)?;
            for (question, socket) in chunk.iter().zip(sockets) {
                let about = || format!("{:?}: {:02x?}", question.flow, question.payload);
                let mut reply = vec![0; 4096];
                let length = socket.recv(&mut reply).with_context(about)?;
                judge(question, &reply[..length])
                    .with_context(|| format!("{} is answered by {:02x?}", about(), &reply[..length]))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether a reply gives this address alone to who asked.
pub(crate) fn gives(question: &Question, reply: &[u8], address: Ipv4Addr) -> Result<()> {
    let (asked, reply) = (Message::from_vec(&question.payload)?, Message::from_vec(reply)?);
    ensure!(
        reply.metadata.message_type == MessageType::Response && reply.metadata.id == asked.metadata.id,
        "no reply to that"
    );
    ensure!(reply.metadata.response_code == ResponseCode::NoError, "{}", reply.metadata.response_code);
    ensure!(name_of(&reply)? == name_of(&asked)?, "another question");
    let addresses: Vec<Ipv4Addr> = reply
        .answers
        .iter()
        .filter_map(|record| if let RData::A(a) = &record.data { Some(a.0) } else { None })
        .collect();
    ensure!(addresses == [address], "{addresses:?} instead of {address}");
    Ok(())
}
