//! Many clients with one cached answer: the VIP. HTTP spreads them at the moment of their requests (P-23).

use crate::boxes::{PATIENCE, Plan, TestBox, fresh_address, read_head};
use redirector::state::live::Live;
use redirector_plan::model::TargetState;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many clients each server takes, in all ten per cent more than there are.
const CAPACITIES: [usize; 4] = [500, 1000, 1500, 2500];
const CLIENTS: u16 = 5000;
/// Connections under way at one time.
const AT_ONCE: usize = 100;

fn name(server: usize) -> String {
    format!("big-{server}")
}

/// Servers whose weights are their capacities.
fn servers() -> String {
    let target =
        |n: usize| format!("[[target]]\nname = \"{}\"\naddresses = [\"192.0.2.{}\"]\n", name(n), 100 + n);
    let member = |n: usize| format!("{{ target = \"{}\", weight = {} }}", name(n), CAPACITIES[n]);
    let targets: String = (0..CAPACITIES.len()).map(target).collect();
    let members: Vec<String> = (0..CAPACITIES.len()).map(member).collect();
    format!(
        "{targets}[[pool]]\nname = \"big\"\ntargets = [{}]\n\
         [[coverage]]\nname = \"big\"\ntiers = [{{ region = \"*\", pools = [\"big\"] }}]\n\
         [[service]]\nname = \"big\"\ncoverage = \"big\"\nchoose_by = \"client\"\nurls = [\"http://big.cdn.test/*\"]\n",
        members.join(", ")
    )
}

/// Where one client is sent.
async fn ask(vip: SocketAddr, client: IpAddr) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    // The port is chosen when it connects: else the clients would need ports that differ.
    socket.bind(SocketAddr::new(client, 0)).expect("an address");
    let connected = timeout(PATIENCE, socket.connect(vip)).await.expect("in time");
    let mut stream = connected.expect("connects");
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: big.cdn.test\r\n\r\n").await.expect("sends");
    let head = read_head(&mut stream).await;
    let location = head.lines().find_map(|line| line.strip_prefix("location: ")).expect("a redirect");
    location.to_owned()
}

/// Counts where clients of numbers in `range` are sent.
async fn spread(vip: SocketAddr, range: std::ops::Range<u16>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut under_way = JoinSet::new();
    for number in range {
        let [high, low] = number.to_be_bytes();
        under_way.spawn(ask(vip, Ipv4Addr::new(127, 1 + high, low, 7).into()));
        if under_way.len() == AT_ONCE {
            let location = under_way.join_next().await.expect("one").expect("no panic");
            *found.entry(location).or_default() += 1;
        }
    }
    while let Some(location) = under_way.join_next().await {
        *found.entry(location.expect("no panic")).or_default() += 1;
    }
    found
}

async fn start() -> TestBox {
    Plan { more: servers(), limits: "http_connections = 8192".into(), ..Plan::new(fresh_address()) }
        .start()
        .await
}

/// Prints what each server got, and gives it.
fn table(found: &BTreeMap<String, usize>, capacities: [usize; 4]) -> [usize; 4] {
    let got = std::array::from_fn(|n| *found.get(&format!("http://192.0.2.{}/x", 100 + n)).unwrap_or(&0));
    for (server, (got, capacity)) in got.iter().zip(capacities).enumerate() {
        println!("{}: {got} clients, capacity {capacity}", name(server));
    }
    assert_eq!(got.iter().sum::<usize>(), found.values().sum::<usize>(), "{found:?}");
    got
}

#[tokio::test]
async fn five_thousand_clients_of_one_cached_answer_overload_no_server() {
    let front = start().await;
    let vip = front.at(front.ports.http);
    let got = table(&spread(vip, 0..CLIENTS).await, CAPACITIES);
    for (got, capacity) in got.into_iter().zip(CAPACITIES) {
        assert!(got * 100 <= capacity * 105 && got > capacity * 80 / 100, "{got} of {capacity}");
    }
}

#[tokio::test]
async fn clients_that_come_after_a_server_is_loaded_are_spread_by_the_load_then() {
    let front = start().await;
    let vip = front.at(front.ports.http);
    let half = CLIENTS / 2;
    let before = table(&spread(vip, 0..half).await, CAPACITIES);
    // The greatest server is full, the smallest dies; who cached the VIP knows nothing of it.
    let generation = front.shared.current.load_full();
    let network = &generation.config.network;
    let mut states = vec![TargetState::default(); network.targets.len()];
    let place =
        |n: usize| network.targets.iter().position(|target| target.name == name(n)).expect("a target");
    states[place(3)].factor = 0;
    states[place(0)].up = false;
    let mut live = Live::new(&generation.compiled, &generation.tables).expect("a thread");
    let changed = [place(3), place(0)];
    live.follow(&generation.compiled, &generation.tables, &changed, &states).expect("room");
    let after = table(&spread(vip, half..CLIENTS).await, [0, 1000, 1500, 0]);
    assert!(before.iter().all(|got| *got > 0), "{before:?}");
    assert_eq!([after[0], after[3]], [0, 0], "nobody is sent to the dead or the full one");
    // 1000 to 1500, of as many as there are.
    let part = after[1] as f64 / f64::from(CLIENTS - half);
    assert!((0.37..0.43).contains(&part), "{after:?}");
}
