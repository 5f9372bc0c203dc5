//! Other people's DNS clients and players against a box in the lab.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use redirector_tests::{
    lab::{
        AnswerPath, Client, Daemon, DnsReport, Lab, Protocol, Risen,
        config::{SERVER_NAME, VIP_NAME, configuration},
        topology::{BOX, Family, Node, RTSP_PATH, RTSP_PORT, Role, node, with_role},
        wait_for,
    },
    program, require_lab,
};

const LIMIT: Duration = Duration::from_secs(20);

fn start<'a>(lab: &'a Lab, configuration: &str) -> Daemon<'a> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), configuration, &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn vip(family: Family) -> IpAddr {
    node(BOX).vip.unwrap().of(family)
}

/// The server that is nearest to a client.
fn nearest(client: &str) -> &'static Node {
    node(if client == "c-fr" { "s-fr" } else { "s-de" })
}

/// Every client of the lab, once for each family.
fn clients(lab: &Lab) -> impl Iterator<Item = (Client<'_>, &'static Node)> {
    let each = |client: &'static Node| {
        Family::ALL.map(|family| (lab.client(client.name, family), nearest(client.name)))
    };
    with_role(Role::Client).flat_map(each)
}

/// A question with its answer: owner's TTL, type and data of each record.
struct Case {
    name: &'static str,
    kind: &'static str,
    status: &'static str,
    answers: Vec<(u32, &'static str, String)>,
    path: AnswerPath,
}

const SOA: &str = "ns1.cdn.acme.net. hostmaster.cdn.acme.net. 1 3600 600 86400 60";

/// What a client is to be told whose nearest server is `server`.
fn cases(server: &Node) -> Vec<Case> {
    let fast = |name, kind, status, answers| Case { name, kind, status, answers, path: AnswerPath::Fast };
    let slow =
        |name, kind, status, answers| Case { path: AnswerPath::Slow, ..fast(name, kind, status, answers) };
    let (v4, v6) = (server.own.v4.to_string(), server.own.v6.to_string());
    let [vip4, vip6] = Family::ALL.map(|family| vip(family).to_string());
    let ns = (3600, "NS", "ns1.cdn.acme.net.".to_owned());
    vec![
        fast(SERVER_NAME, "A", "NOERROR", vec![(0, "A", v4.clone())]),
        fast(SERVER_NAME, "AAAA", "NOERROR", vec![(0, "AAAA", v6.clone())]),
        fast("iNdEx.wEB.abC.CdN.aCmE.Net", "A", "NOERROR", vec![(0, "A", v4.clone())]),
        fast("NEVER-SEEN.web.nobody.cdn.acme.net", "AAAA", "NOERROR", vec![(0, "AAAA", v6)]),
        fast(VIP_NAME, "A", "NOERROR", vec![(3600, "A", vip4.clone())]),
        fast(VIP_NAME, "AAAA", "NOERROR", vec![(3600, "AAAA", vip6)]),
        // No record of the type, none at a name between others, none at the apex.
        fast(SERVER_NAME, "HTTPS", "NOERROR", vec![]),
        fast(VIP_NAME, "MX", "NOERROR", vec![]),
        fast("web.abc.cdn.acme.net", "A", "NOERROR", vec![]),
        fast("cdn.acme.net", "A", "NOERROR", vec![]),
        fast("TV.abc.cdn.acme.net", "A", "NXDOMAIN", vec![]),
        fast("x.index.web.abc.cdn.acme.net", "AAAA", "NXDOMAIN", vec![]),
        slow("cdn.acme.net", "SOA", "NOERROR", vec![(60, "SOA", SOA.to_owned())]),
        slow("cdn.acme.net", "NS", "NOERROR", vec![ns]),
        fast("ns1.cdn.acme.net", "A", "NOERROR", vec![(3600, "A", vip4)]),
        slow(
            "_cdsr.abc.cdn.acme.net",
            "TXT",
            "NOERROR",
            vec![(3600, "TXT", "\"v=cdsr1 port=2554\"".to_owned())],
        ),
        // One RRset is enough (RFC 8482).
        slow(SERVER_NAME, "ANY", "NOERROR", vec![(0, "A", v4)]),
        slow("www.acme.org", "A", "REFUSED", vec![]),
    ]
}

/// The report is what the case says, and its header what an authoritative server's is.
fn judge(case: &Case, report: &DnsReport, recursion: bool) {
    let what = format!("{} {}: {report:?}", case.name, case.kind);
    let answers = report.answers.iter().map(|record| (record.ttl, &*record.kind, record.data.clone()));
    assert_eq!((&*report.status, answers.collect::<Vec<_>>()), (case.status, case.answers.clone()), "{what}");
    assert_eq!(report.question, Some((format!("{}.", case.name), case.kind.to_owned())), "{what}");
    assert!(report.answers.iter().all(|record| record.name == format!("{}.", case.name)), "{what}");
    assert_eq!(report.flag("aa"), case.status != "REFUSED", "{what}");
    assert!(report.flag("qr") && !report.flag("ra") && !report.flag("tc") && !report.flag("ad"), "{what}");
    assert_eq!(report.flag("rd"), recursion, "{what}");
    let negative = case.answers.is_empty() && case.status != "REFUSED";
    let soa = report.authority.iter().map(|record| (&*record.name, record.ttl, &*record.kind, &*record.data));
    let expected: &[_] = if negative { &[("cdn.acme.net.", 60, "SOA", SOA)] } else { &[] };
    assert_eq!(
        soa.map(|(name, ttl, kind, data)| (name.to_lowercase(), ttl, kind, data)).collect::<Vec<_>>(),
        expected
            .iter()
            .map(|(name, ttl, kind, data)| ((*name).to_owned(), *ttl, *kind, *data))
            .collect::<Vec<_>>(),
        "{what}"
    );
    let glue = report.additional.iter().map(|record| record.data.clone());
    let expected =
        if case.kind == "NS" { Family::ALL.map(|family| vip(family).to_string()).into() } else { vec![] };
    assert_eq!(glue.collect::<Vec<_>>(), expected, "{what}");
}

/// Questions over UDP for the fast path, `asked` of them in `action`. It answers each unless the frame has no room
/// for the answer, as a veth's may not; then the slow path does.
#[track_caller]
fn by_fast_path(daemon: &Daemon<'_>, asked: u64, action: impl FnOnce()) {
    let ((), risen) = daemon.counted(action).unwrap();
    let sum = |path, reasons: &dyn Fn(&Risen) -> bool| -> u64 {
        risen.iter().filter(|risen| risen.path == path && reasons(risen)).map(|risen| risen.count).sum()
    };
    let (fast, slow) = (sum(AnswerPath::Fast, &Risen::is_answer), sum(AnswerPath::Slow, &Risen::is_answer));
    let roomless = sum(AnswerPath::Fast, &|risen| risen.reason == "punt-resize");
    assert_eq!((fast + slow, slow), (asked, roomless), "{risen:?}");
    assert!(fast > 0, "{risen:?}");
}

/// Questions for the slow path, `asked` of them in `action`.
#[track_caller]
fn by_slow_path(daemon: &Daemon<'_>, asked: u64, action: impl FnOnce()) {
    let ((), risen) = daemon.counted(action).unwrap();
    assert!(risen.iter().all(|risen| risen.path == AnswerPath::Slow || !risen.is_answer()), "{risen:?}");
    let answers = risen.iter().filter(|risen| risen.path == AnswerPath::Slow);
    assert_eq!(answers.map(|risen| risen.count).sum::<u64>(), asked, "{risen:?}");
}

#[test]
fn dig_and_kdig_get_the_same_from_both_paths_over_udp_and_tcp() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &configuration(BOX));
    for (client, server) in clients(&lab) {
        let at = vip(client.family());
        let (fast, slow): (Vec<_>, Vec<_>) =
            cases(server).into_iter().partition(|case| case.path == AnswerPath::Fast);
        let mut reports = Vec::new();
        let mut ask = |case: &Case| {
            let kdig = client.kdig(at, &[case.name, case.kind]).unwrap();
            judge(case, &kdig, true);
            assert_eq!(kdig.edns, None, "none was asked for");
            let dig = client.dig(at, &["+norecurse", case.name, case.kind]).unwrap();
            judge(case, &dig, false);
            assert_eq!(dig.edns, Some(0), "dig asks with EDNS and a cookie");
            reports.push((kdig, dig));
        };
        by_fast_path(&daemon, 2 * fast.len() as u64, || fast.iter().for_each(&mut ask));
        by_slow_path(&daemon, 2 * slow.len() as u64, || slow.iter().for_each(&mut ask));
        by_slow_path(&daemon, 2 * reports.len() as u64, || {
            for (case, (kdig, dig)) in fast.iter().chain(&slow).zip(reports) {
                assert_eq!(client.kdig(at, &["+tcp", case.name, case.kind]).unwrap(), kdig);
                assert_eq!(client.dig(at, &["+tcp", "+norecurse", case.name, case.kind]).unwrap(), dig);
            }
        });
    }
}

#[test]
fn kdigs_options_change_neither_answer_nor_path() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &configuration(BOX));
    let options: [(&[&str], bool); 7] = [
        (&["+noedns"], false),
        (&["+edns"], true),
        (&["+edns", "+cookie"], true),
        (&["+edns", "+cookie=0123456789abcdef0011223344556677"], true),
        (&["+dnssec"], true),
        (&["+bufsize=512"], true),
        (&["+norec", "+adflag", "+cdflag", "+edns", "+nsid"], true),
    ];
    for (client, server) in clients(&lab) {
        let at = vip(client.family());
        let mut cases = cases(server);
        cases.retain(|case| case.path == AnswerPath::Fast);
        by_fast_path(&daemon, (cases.len() * options.len()) as u64, || {
            for case in &cases {
                for (options, edns) in options {
                    let report = client.kdig(at, &[options, &[case.name, case.kind]].concat()).unwrap();
                    judge(case, &report, !options.contains(&"+norec"));
                    assert_eq!(report.edns.is_some(), edns, "{options:?}: {report:?}");
                }
            }
        });
        let report = client.kdig(at, &["+edns=1", SERVER_NAME, "A"]).unwrap();
        assert_eq!((&*report.status, report.edns), ("BADVERS", Some(0)), "{report:?}");
    }
}

/// who answers at an address that many boxes have (RFC 4892).
#[test]
fn dig_and_kdig_are_told_which_box_answers() {
    let Some(lab) = require_lab() else { return };
    let _daemon = start(&lab, &configuration(BOX));
    for (client, _) in clients(&lab) {
        let at = vip(client.family());
        for protocol in ["+notcp", "+tcp"] {
            let query = [protocol, "id.server", "TXT", "CH"];
            for report in [client.dig(at, &query).unwrap(), client.kdig(at, &query).unwrap()] {
                let [record] = &report.answers[..] else { panic!("{report:?}") };
                assert_eq!((&*record.kind, &*record.data), ("TXT", &*format!("\"{BOX}\"")), "{report:?}");
            }
        }
    }
}

/// what real clients understand of the options in answers, over UDP by the fast path, and over TCP.
#[test]
fn dig_and_kdig_understand_subnets_cookies_and_nsid() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &configuration(BOX));
    for (client, own) in clients(&lab) {
        let at = vip(client.family());
        let ask = |options: &[&str]| -> Vec<DnsReport> {
            let query = [&["+cookie", "+nsid"], options, &[SERVER_NAME, "A"]].concat();
            vec![client.dig(at, &query).unwrap(), client.kdig(at, &query).unwrap()]
        };
        let judge = |reports: Vec<DnsReport>, server: &Node, subnet: Option<&str>| {
            for report in reports {
                assert_eq!(report.addresses(), [server.own.of(Family::V4)], "{report:?}");
                assert_eq!(
                    (report.subnet.as_deref(), report.nsid.as_deref()),
                    (subnet, Some(BOX)),
                    "{report:?}"
                );
                assert_eq!(report.cookie, Some(24), "no server cookie: {report:?}");
            }
        };
        let networks: Vec<_> = with_role(Role::Client)
            .flat_map(|network| network.region().map(|prefix| (nearest(network.name), prefix)))
            .collect();
        let ask_for_networks = |protocol: &str| {
            for (server, prefix) in &networks {
                let length = prefix.split('/').nth(1).unwrap();
                let (option, told) = (format!("+subnet={prefix}"), format!("{prefix}/{length}"));
                judge(ask(&[protocol, &option]), server, Some(&told));
            }
        };
        // A cookie that is none of ours changes nothing.
        let foreign = "+cookie=0123456789abcdef00112233445566778899aabbccddeeff";
        by_fast_path(&daemon, 4 + 2 * networks.len() as u64, || {
            ask_for_networks("+notcp");
            judge(ask(&[]), own, None);
            judge(ask(&[foreign]), own, None);
        });
        by_slow_path(&daemon, 2 * networks.len() as u64, || ask_for_networks("+tcp"));
        // Hidden by dig: length 0.
        let hidden = client.dig(at, &["+subnet=0", SERVER_NAME, "A"]).unwrap();
        assert_eq!(
            (hidden.addresses(), hidden.subnet.as_deref()),
            (vec![own.own.v4.into()], Some("0.0.0.0/0/0"))
        );
    }
}

/// Waits until DNS answers of every client name the server that `expected` gives for it.
fn settle(lab: &Lab, daemon: &Daemon<'_>, expected: impl Fn(&'static Node) -> &'static Node) {
    for (client, nearest) in clients(lab) {
        let (at, expected) = (vip(client.family()), expected(nearest).own.of(client.family()));
        let question = [SERVER_NAME, client.family().record_type()];
        let moved = || (client.dig(at, &question).ok()?.addresses() == [expected]).then_some(());
        wait_for("answers", LIMIT, moved).unwrap_or_else(|error| panic!("{error:#}; {}", daemon.log()));
    }
}

#[test]
fn gstreamer_follows_to_the_nearest_server_and_to_another_when_it_dies() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &configuration(BOX));
    let url = format!("rtsp://{VIP_NAME}{RTSP_PATH}");
    let play = |expected: &dyn Fn(&'static Node) -> &'static Node| {
        for (client, nearest) in clients(&lab) {
            // Media over UDP, as it is where nothing else is said, and within the connection.
            for protocols in ["udp", "tcp"] {
                let (playback, risen) = daemon.counted(|| client.gstreamer(&url, protocols, 3)).unwrap();
                let playback = playback.unwrap();
                assert_eq!(playback.server(), Some(expected(nearest)), "{playback:?}");
                assert!(playback.buffers >= 3, "{playback:?}");
                let tier = |risen: &Risen| risen.path == AnswerPath::Slow && risen.reason.ends_with("-tier");
                assert!(risen.iter().any(tier), "not redirected here: {risen:?}");
            }
        }
    };
    settle(&lab, &daemon, |nearest| nearest);
    play(&|nearest| nearest);
    lab.stop_servers("s-fr").unwrap();
    settle(&lab, &daemon, |_| node("s-de"));
    play(&|_| node("s-de"));
}

/// Sends a request and reads the answer, which has no body.
fn rtsp(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn rtsp_requests_sent_straight_at_the_vip_are_redirected_in_the_form_that_players_follow() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab, &configuration(BOX));
    settle(&lab, &daemon, |nearest| nearest);
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            let server = SocketAddr::new(nearest(client.name).own.of(family), RTSP_PORT);
            let redirected = |cseq: u32, path: &str| {
                format!(
                    "RTSP/1.0 302 Found\r\nCSeq: {cseq}\r\nLocation: rtsp://{server}{path}\r\nContent-Length: 0\r\n\r\n"
                )
            };
            let talk = || {
                let mut stream = TcpStream::connect((vip(family), 554)).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let mut ask = |method: &str, path: &str, cseq: u32, fields: &str| {
                    let line =
                        format!("{method} rtsp://{VIP_NAME}{path} RTSP/1.0\r\nCSeq: {cseq}\r\n{fields}\r\n");
                    rtsp(&mut stream, &line)
                };
                assert!(
                    ask("OPTIONS", "/live", 1, "")
                        .starts_with("RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, DESCRIBE, SETUP")
                );
                assert_eq!(
                    ask("DESCRIBE", "/live", 2, "Accept: application/sdp\r\n"),
                    redirected(2, "/live")
                );
                let transport = "Transport: RTP/AVP;unicast;client_port=5000-5001\r\n";
                assert_eq!(ask("SETUP", "/live/stream=0", 3, transport), redirected(3, "/live/stream=0"));
                // No session can have begun here.
                let play = ask("PLAY", "/live", 4, "Session: 1\r\nRange: npt=0-\r\n");
                assert!(play.starts_with("RTSP/1.0 455 ") && play.contains("\r\nCSeq: 4\r\n"), "{play}");
            };
            lab.within(client.name, talk).unwrap();
        }
    }
}

/// What one client found by one protocol.
fn find(client: &Client<'_>, protocol: Option<Protocol>) -> IpAddr {
    let family = client.family();
    let found = match protocol {
        Some(protocol) => client.find(protocol, &program("cdsr"), vip(family), SERVER_NAME).unwrap(),
        None => {
            let url = format!("rtsp://{SERVER_NAME}{RTSP_PATH}");
            vec![client.gstreamer(&url, "tcp", 1).unwrap().server().unwrap().own.of(family)]
        }
    };
    // CDSR names further servers, too, behind the one to take.
    assert!(protocol == Some(Protocol::Cdsr) || found.len() == 1, "{protocol:?}: {found:?}");
    found[0]
}

/// P-25: one name on one VIP. Clients that know no more than DNS get the server; HTTP and RTSP clients that hold the
/// VIP for the same name, and CDSR clients, are sent to the same one, all at the same time.
#[test]
fn clients_of_all_protocols_on_one_name_at_once_are_sent_to_the_same_server() {
    let Some(lab) = require_lab() else { return };
    let legacy = configuration(BOX).replace("\"http://{object}.web", "\"http|rtsp://{object}.web");
    assert_ne!(legacy, configuration(BOX));
    // Every server for everybody, so that a choice has to be made.
    let shared = "pools = [\"fr\", \"de\", \"deep\"] }";
    let shared = ["fr", "de"].iter().fold(legacy.clone(), |text, region| {
        text.replace(
            &format!("{{ region = \"{region}\", pools = [\"{region}\"] }}"),
            &format!("{{ region = \"{region}\", {shared}"),
        )
    });
    assert_ne!(shared, legacy);
    let daemon = start(&lab, &legacy);
    settle(&lab, &daemon, |nearest| nearest);
    let all: Vec<(Client<'_>, &Node)> = clients(&lab)
        .map(|(client, nearest)| {
            let family = client.family();
            (client.holding(SERVER_NAME, vip(family)).unwrap(), nearest)
        })
        .collect();
    let protocols = || Protocol::ALL.into_iter().map(Some).chain([None]);
    let find_all = || -> Vec<Vec<IpAddr>> {
        thread::scope(|scope| {
            let of_client = |(client, _)| {
                protocols().map(|protocol| scope.spawn(move || find(client, protocol))).collect()
            };
            let threads: Vec<Vec<_>> =
                all.iter().map(|(client, nearest)| (client, nearest)).map(of_client).collect();
            threads
                .into_iter()
                .map(|each| each.into_iter().map(|one| one.join().unwrap()).collect())
                .collect()
        })
    };
    for ((client, nearest), found) in all.iter().zip(find_all()) {
        assert_eq!(found, [nearest.own.of(client.family()); 5]);
    }
    daemon.write_configuration(&shared).unwrap();
    daemon.reload().unwrap();
    let found = find_all();
    println!("with every server for everybody: {found:?}");
    for each in found {
        assert_eq!(each, [each[0]; 5]);
    }
}
