//! The slow path's answers to generated queries, queries and answers read by another library: what was asked comes back,
//! and what it says is what was decided; regions and scopes are told by a plain reading of the configuration.

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::HTTPS;
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use ipnet::IpNet;
use redirector_core::table::SERVICE_OUTCOMES;
use redirector_core::verdict::Reason;
use redirector_core::wire::Trace;
use redirector_plan::model::{ChooseBy, Network};
use redirector_tests::generate::{Case, Generator};
use redirector_tests::invariants::{IMAGE, decode};
use redirector_tests::networks::{BOX_NAME, rich};
use redirector_tests::questions::{COOKIE, NSID, server_cookie};
use redirector_tests::slow::{self, DNS_PORT};
use std::collections::BTreeMap;
use std::net::IpAddr;

#[test]
fn answers_say_to_another_library_what_was_decided() {
    let (network, _) = rich();
    let mut judged = BTreeMap::<&str, u32>::new();
    let cases = Generator::new(&network, &*IMAGE, 12).take(60_000);
    for case in cases.filter(|case| case.flow.vip.port() == DNS_PORT) {
        let mut decoder = BinDecoder::new(&case.payload);
        let Some(query) = Message::read(&mut decoder).ok().filter(|_| decoder.is_empty()) else { continue };
        let outcome = slow::answer(&*IMAGE, &case.flow, &case.payload).expect("DNS is spoken here");
        let Some(reply) = outcome.reply().map(decode) else { continue };
        judge_header(&query, &reply);
        if !reply.queries.is_empty() {
            judge_edns(&network, &case, &query, &reply, &outcome.trace);
            judge_records(&network, &query, &reply, &outcome.trace);
        }
        *judged.entry(outcome.trace.reason.name()).or_default() += 1;
    }
    println!("{judged:?}");
    for reason in
        [Reason::FirstTier, Reason::LaterTier, Reason::Fallback, Reason::NxDomain, Reason::DnsBadVers]
    {
        assert!(judged.get(reason.name()).is_some_and(|count| *count > 100), "{reason:?}: {judged:?}");
    }
}

/// Identity, operation, flags and question are the query's, and the rest an authoritative server's.
fn judge_header(query: &Message, reply: &Message) {
    let (asked, told) = (&query.metadata, &reply.metadata);
    assert_eq!((told.id, told.op_code), (asked.id, asked.op_code));
    assert_eq!(told.recursion_desired, asked.recursion_desired);
    assert_eq!(told.checking_disabled, asked.checking_disabled);
    assert!(!told.recursion_available && !told.authentic_data);
    let text = |message: &Message| -> Vec<String> {
        message
            .queries
            .iter()
            .map(|query| format!("{} {}", query.name().to_ascii(), query.query_type()))
            .collect()
    };
    assert!(reply.queries.is_empty() || text(reply) == text(query), "another question, or case");
    assert!(!reply.queries.is_empty() || told.op_code != OpCode::Query || u16::from(told.response_code) == 1);
}

fn subnet_of(message: &Message) -> Option<ClientSubnet> {
    match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(*subnet),
        _ => None,
    }
}

fn raw(message: &Message, code: u16) -> Option<Vec<u8>> {
    let option = message.edns.as_ref()?.option(EdnsCode::from(code))?;
    Some(Vec::try_from(option).expect("an option that can be written"))
}

fn judge_edns(network: &Network, case: &Case, query: &Message, reply: &Message, trace: &Trace) {
    let (Some(asked), Some(told)) = (&query.edns, &reply.edns) else {
        assert!(query.edns.is_none() && reply.edns.is_none(), "EDNS on one side alone: {reply:?}");
        return;
    };
    assert_eq!((told.version(), told.flags().dnssec_ok), (0, asked.flags().dnssec_ok));
    if asked.version() != 0 || u16::from(reply.metadata.response_code) == 1 {
        assert!(told.options().as_ref().is_empty(), "an error with options: {reply:?}");
        return;
    }
    let name = raw(query, NSID).map(|_| BOX_NAME.as_bytes().to_vec());
    assert_eq!(raw(reply, NSID), name);
    assert_eq!(raw(reply, COOKIE).is_some(), raw(query, COOKIE).is_some());
    if let (Some(sent), Some(got)) = (raw(query, COOKIE), raw(reply, COOKIE)) {
        let client: [u8; 8] = sent[..8].try_into().expect("a client cookie");
        let seconds = u32::from_be_bytes(got[12..16].try_into().expect("a time"));
        let server = server_cookie(network.key, client, seconds, case.flow.client.ip());
        assert_eq!(got, [&client[..], &server].concat());
    }
    let (Some(sent), Some(got)) = (subnet_of(query), subnet_of(reply)) else {
        assert_eq!(subnet_of(query), subnet_of(reply));
        return;
    };
    assert_eq!((got.addr(), got.source_prefix()), (sent.addr(), sent.source_prefix()));
    let decided = matches!(
        trace.reason,
        Reason::FirstTier | Reason::LaterTier | Reason::Fallback | Reason::NothingUsable
    );
    let client = if sent.source_prefix() > 0 { sent.addr() } else { case.flow.client.ip() };
    if decided {
        assert_eq!(trace.region, region(network, client), "region of {client}");
    }
    let service =
        network.services.get(trace.service as usize).filter(|_| decided && sent.source_prefix() > 0);
    // Of two choices, of the kind of answer and of the answer, the narrower counts: another test's business.
    if service.is_some() && IMAGE.services[trace.service as usize].flags & SERVICE_OUTCOMES != 0 {
        return;
    }
    let scope = service.map_or(0, |service| {
        let key = match service.choose_by {
            ChooseBy::ClientPrefix if client.is_ipv6() => 48,
            ChooseBy::ClientPrefix => 24,
            ChooseBy::Client => sent.source_prefix(),
            ChooseBy::Content | ChooseBy::Spread => 0,
        };
        key.max(widest(network, client))
    });
    assert_eq!(got.scope_prefix(), scope, "{sent:?} {:?}", trace.reason);
}

/// Region number by longest match.
fn region(network: &Network, address: IpAddr) -> u32 {
    let all = network.regions.iter().zip(1..);
    let covering = all.flat_map(|(region, number)| {
        let around = region.prefixes.iter().filter(move |prefix| prefix.contains(&address));
        around.map(move |prefix| (prefix.prefix_len(), number))
    });
    covering.max().map_or(0, |(_, number)| number)
}

/// Length of the widest prefix around an address in which all have one region: regions change only where a prefix
/// begins, and behind its end.
fn widest(network: &Network, address: IpAddr) -> u8 {
    let prefixes = || network.regions.iter().flat_map(|region| &region.prefixes);
    let here = region(network, address);
    let uniform = |length: &u8| {
        let block = IpNet::new(address, *length).expect("a length").trunc();
        let inside = prefixes().filter(|prefix| block.contains(*prefix));
        let starts = inside.clone().map(IpNet::network);
        let ends = inside.filter_map(|prefix| after(prefix.broadcast())).filter(|next| block.contains(next));
        starts.chain(ends).chain([block.network()]).all(|each| region(network, each) == here)
    };
    let longest = if address.is_ipv6() { 128 } else { 32 };
    (0..=longest).find(uniform).expect("an address alone is uniform")
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// Codes and records are those that the reason promises.
fn judge_records(network: &Network, query: &Message, reply: &Message, trace: &Trace) {
    let code = u16::from(reply.metadata.response_code);
    let (answers, authorities) = (&reply.answers, &reply.authorities);
    let negative =
        answers.is_empty() && matches!(&authorities[..], [record] if record.record_type() == RecordType::SOA);
    match trace.reason {
        Reason::FirstTier | Reason::LaterTier | Reason::Fallback => {
            assert_eq!(code, 0);
            let target = &network.targets[trace.target as usize];
            let address = answers.iter().find_map(|record| match &record.data {
                RData::A(a) => Some(Some(IpAddr::V4(a.0)) == target.ipv4.map(IpAddr::V4)),
                RData::AAAA(aaaa) => Some(Some(IpAddr::V6(aaaa.0)) == target.ipv6.map(IpAddr::V6)),
                RData::HTTPS(HTTPS(svcb)) | RData::SVCB(svcb) if !svcb.target_name.is_root() => Some(true),
                // Hints of a service record, which the library shows as addresses.
                RData::HTTPS(_) | RData::SVCB(_) => {
                    let own = target.ipv4.map(IpAddr::V4).or(target.ipv6.map(IpAddr::V6));
                    Some(own.is_some_and(|own| format!("{:?}", record.data).contains(&format!("({own})"))))
                }
                // Ranks of sites, whose names other tests resolve.
                RData::SRV(_) => Some(true),
                _ => None,
            });
            // Otherwise a target that is a name, or a delegation, which may not fit.
            assert!(
                address.unwrap_or(target.ipv4.is_none() && target.ipv6.is_none()),
                "{target:?}: {reply:?}"
            );
        }
        Reason::NxDomain => assert!(code == 3 && negative, "{reply:?}"),
        Reason::NoDataType | Reason::NoDataPartial | Reason::NoDataFamily => {
            assert!(code == 0 && negative, "{reply:?}");
        }
        Reason::NothingUsable => assert!(code == 2 && answers.is_empty() && authorities.is_empty()),
        Reason::NotOurZone | Reason::DnsRefused => assert!(code == 5 && answers.is_empty()),
        Reason::DnsFormErr => assert!(code == 1 && answers.is_empty()),
        Reason::DnsBadVers => assert!(code == 16 && answers.is_empty()),
        _ => assert_eq!(code, 0, "{:?}", trace.reason),
    }
    let served = answers.iter().all(|record| record.name == query.queries[0].name().clone());
    assert!(served, "records of another name: {reply:?}");
}
