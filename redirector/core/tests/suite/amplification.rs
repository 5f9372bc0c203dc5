//! How much longer than their questions replies are (A-5): each class of answers is asked for in the fewest bytes.

use hickory_proto::rr::RecordType;
use redirector_core::wire::cdsr;
use redirector_plan::image::TableImage;
use redirector_plan::model::{Binding, Grammar, LabelRule, NameServer, Network, Outcome, Zone};
use redirector_tests::agreement::{Action, FastPath as _, Native};
use redirector_tests::frames::Datagram;
use redirector_tests::generate::Generator;
use redirector_tests::invariants::{decode, flow};
use redirector_tests::networks::{image, rich};
use redirector_tests::questions::{COOKIE, CdsrRequest, DnsQuery, Edns, NSID, dns_header, rr};
use redirector_tests::slow::{self, DNS_PORT};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Docs state it (docs/dns.md): no reply to a query in UDP is longer by more than this factor.
const WORST: f64 = 36.3;

/// The rich network with a zone of the shortest names that there can be, four addresses of both families behind HTTPS,
/// and a referral that takes all that UDP carries.
fn tables() -> (Network, TableImage) {
    let (mut network, states) = rich();
    let template = network.zones[0].clone();
    let service = |name: &str| network.services.iter().position(|known| known.name == name).expect("known");
    let rule = |letter: &str, name: &str| Grammar {
        labels: vec![LabelRule::Fixed(letter.into())],
        service: service(name),
        signed: None,
        origin: template.origin.clone(),
    };
    let mut grammars: Vec<_> = [
        ("a", "vast"),
        ("c", "long-alias"),
        ("r", "referral"),
        ("w", "long-referral"),
        ("n", "nothing"),
        ("v", "vip"),
    ]
    .map(|(letter, name)| rule(letter, name))
    .into();
    let mut sites = rule("s", "sites");
    sites.labels.insert(0, LabelRule::Free("bucket".into()));
    sites.labels.insert(1, LabelRule::Fixed("_tcp".into()));
    grammars.push(sites);
    let zone = Zone { suffix: vec!["z".into(), "z".into()], grammars, ..template.clone() };
    let vast = service("vast");
    network.services[vast].https = Some(Binding { alpn: vec!["h2".into(), "h3".into()], port: 8443 });
    network.zones.push(zone);
    let server = |number: u8| NameServer {
        name: format!("{number}.{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(47)),
        ipv4: Some(Ipv4Addr::new(192, 0, 2, number)),
        ipv6: Some(Ipv4Addr::new(192, 0, 2, number).to_ipv6_mapped()),
    };
    network.targets[137].outcome = Outcome::Delegation((1..=4).map(server).collect());
    let image = image(&network, &states);
    (network, image)
}

/// What EDNS a query can have, of every length that changes its answer.
fn additions() -> Vec<Option<Edns>> {
    let plain = Edns::new(false);
    let hidden = |edns: Edns| edns.subnet(Ipv4Addr::UNSPECIFIED.into(), 0);
    let near = |edns: Edns| edns.subnet(Ipv4Addr::new(10, 1, 2, 0).into(), 24);
    let cookie = |edns: Edns| edns.option(COOKIE, b"a client");
    let nsid = |edns: Edns| edns.option(NSID, b"");
    let shapes = [
        plain.clone(),
        nsid(plain.clone()),
        cookie(plain.clone()),
        hidden(plain.clone()),
        near(plain.clone()),
        nsid(cookie(plain.clone())),
        nsid(cookie(hidden(plain.clone()))),
        nsid(cookie(near(plain))),
    ];
    let small = shapes.clone().map(|edns| Edns { size: 512, ..edns });
    [None].into_iter().chain(shapes.into_iter().chain(small).map(Some)).collect()
}

/// Questions without EDNS; what they are for is seen by their answers.
fn questions() -> Vec<DnsQuery<'static>> {
    const NAMES: [&str; 13] = [
        "",
        "z",
        "z.z",
        "a.z.z",
        "c.z.z",
        "r.z.z",
        "w.z.z",
        "n.z.z",
        "v.z.z",
        "q.z.z",
        "_a._tcp.s.z.z",
        "_cdsr.z.z",
        "ns1.z.z",
    ];
    const TYPES: [u16; 10] =
        [rr::A, rr::AAAA, rr::HTTPS, rr::SRV, rr::NS, rr::SOA, rr::TXT, rr::MX, rr::ANY, rr::AXFR];
    let all = NAMES.iter().flat_map(|name| TYPES.map(|qtype| DnsQuery::new(name, qtype)));
    let odd = [
        DnsQuery { class: 3, ..DnsQuery::new("", rr::A) },
        DnsQuery { flags: 0x2800, ..DnsQuery::new("", rr::A) },
    ];
    all.chain(odd).collect()
}

/// What a reply is, by what another library reads in it.
fn class(reply: &[u8]) -> String {
    let reply = decode(reply);
    let code = u16::from(reply.metadata.response_code);
    let kinds = |records: &[hickory_proto::rr::Record]| records.first().map(|record| record.record_type());
    match (kinds(&reply.answers), kinds(&reply.authorities)) {
        _ if reply.metadata.truncation => "TC".to_owned(),
        (Some(kind), _) if [RecordType::A, RecordType::AAAA].contains(&kind) => {
            format!("{} {kind}", reply.answers.len())
        }
        (Some(kind), _) => kind.to_string(),
        (None, Some(RecordType::NS)) => format!("referral to {}", reply.authorities.len()),
        (None, Some(_)) => "NODATA, NXDOMAIN".to_owned(),
        (None, None) if code == 0 => "nothing".to_owned(),
        (None, None) => "errors".to_owned(),
    }
}

/// The worst of a class: bytes of the query and of its reply.
#[derive(Debug, Clone, Copy, Default)]
struct Worst {
    asked: usize,
    told: usize,
}

impl Worst {
    fn factor(self) -> f64 {
        self.told as f64 / self.asked as f64
    }
}

/// The slow path's reply, which is the fast path's where that has one.
fn reply(native: &mut Native<'_, TableImage>, image: &TableImage, v6: bool, query: &[u8]) -> Vec<u8> {
    let flow = flow(v6, DNS_PORT);
    let reply = slow::answer(image, &flow, query).expect("DNS is spoken").reply().expect("a reply").to_vec();
    let (action, after) = native.run(&flow.frame(query));
    if action == Action::Transmit {
        assert_eq!(Datagram::read(&after).expect("UDP").payload, reply);
    }
    reply
}

/// The worst of each class, without EDNS and with.
fn measured() -> BTreeMap<String, [Worst; 2]> {
    let (_, image) = tables();
    let mut native = Native::new(&image);
    let mut queries: Vec<(bool, Vec<u8>)> = Vec::new();
    for question in questions() {
        for edns in additions() {
            queries.push((edns.is_some(), DnsQuery { edns, ..question.clone() }.encode()));
        }
        let none = Edns { version: 1, ..Edns::new(false) };
        queries.push((true, question.edns(none).encode()));
    }
    queries.push((false, dns_header(7, 0, [0; 4])));
    queries.push((
        true,
        [dns_header(7, 0, [0, 0, 0, 1]), Edns::new(false).option(COOKIE, b"a client").encode()].concat(),
    ));
    let mut worst: BTreeMap<String, [Worst; 2]> = BTreeMap::new();
    for (edns, query) in queries {
        for v6 in [false, true] {
            let reply = reply(&mut native, &image, v6, &query);
            let class = if reply.len() == 12 { "errors".to_owned() } else { class(&reply) };
            let known = &mut worst.entry(class).or_default()[usize::from(edns)];
            let now = Worst { asked: query.len(), told: reply.len() };
            if known.asked == 0 || now.factor() > known.factor() {
                *known = now;
            }
        }
    }
    worst
}

#[test]
fn no_dns_answer_is_longer_by_more_than_docs_state_for_its_class() {
    let docs = include_str!("../../../../docs/dns.md");
    let worst = measured();
    let cell = |worst: &Worst| match worst.asked {
        0 => "—".to_owned(),
        asked => format!("{asked} → {}: {:.1}", worst.told, worst.factor()),
    };
    let row = |(class, [plain, edns]): (&String, &[Worst; 2])| {
        format!("| {class} | {} | {} |", cell(plain), cell(edns))
    };
    let missing: Vec<String> = worst.iter().map(row).filter(|row| !docs.contains(row)).collect();
    assert!(missing.is_empty(), "docs/dns.md lacks:\n{}", missing.join("\n"));
    let most = worst.values().flatten().map(|worst| worst.factor()).fold(0.0, f64::max);
    assert!((WORST - 0.5..=WORST).contains(&most), "the worst is {most}");
    assert!(docs.contains(&format!("**{WORST}**")), "docs/dns.md lacks the worst factor");
    let [cut_off, _] = worst["TC"];
    assert!(cut_off.factor() <= 1.0, "{cut_off:?}");
}

/// Questions of every other kind, and forms that nobody should send; CDSR never gets more than it sent.
#[test]
fn generated_queries_get_no_more_than_the_worst_factor() {
    let (network, image) = tables();
    let mut asked = [0; 2];
    for case in Generator::new(&network, &image, 21).take(40_000) {
        let Some(outcome) = slow::answer(&image, &case.flow, &case.payload) else { continue };
        let Some(reply) = outcome.reply() else { continue };
        let is_cdsr = case.flow.vip.port() == cdsr::PORT;
        let most = if is_cdsr { 1.0 } else { WORST };
        assert!(reply.len() as f64 <= case.payload.len() as f64 * most, "{:?}", case.kind);
        asked[usize::from(is_cdsr)] += 1;
    }
    assert!(asked.iter().all(|count| *count > 5_000), "{asked:?}");
}

/// Requests of every length, for as many servers as there can be.
#[test]
fn cdsr_replies_are_never_longer_than_the_shortest_requests_for_them() {
    let (_, image) = tables();
    let mut endpoints = BTreeMap::<u8, usize>::new();
    for url in ["http://vast.acme.net/", "http://one.acme.net/", "http://mixed.acme.net/", "x"] {
        for (length, families, most) in (28..=300)
            .flat_map(|length| [0, 3].into_iter().flat_map(move |f| [0, 8].map(|most| (length, f, most))))
        {
            let request =
                CdsrRequest { length, families, max_endpoints: most, ..CdsrRequest::new(url) }.encode();
            for v6 in [false, true] {
                let outcome = slow::answer(&image, &flow(v6, cdsr::PORT), &request).expect("CDSR is spoken");
                let Some(reply) = outcome.reply() else { continue };
                assert!(reply.len() <= request.len(), "{} bytes for {}", reply.len(), request.len());
                let shortest = endpoints.entry(reply[13]).or_insert(usize::MAX);
                *shortest = request.len().min(*shortest);
            }
        }
    }
    println!("servers and the shortest request that gets them: {endpoints:?}");
    assert!(endpoints.keys().max() >= Some(&5), "{endpoints:?}");
    assert!(endpoints.iter().all(|(count, shortest)| *shortest >= 28 + 24 * usize::from(*count)));
}
