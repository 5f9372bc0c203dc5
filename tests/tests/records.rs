//! Names, delegations, SRV and HTTPS records as `dig`, `kdig` and recursive resolvers see them (A-1, M-7 to M-9, M-11).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use redirector_tests::{
    lab::{
        AnswerPath, Daemon, DnsReport, Lab, PARTNER_NAME, PARTNER_SERVER, PartnerServer, Resolver,
        RootServer, Software,
        config::configuration,
        topology::{BOX, Family, Role, node, with_role},
    },
    program, require_commands, require_lab,
};

/// The delegated name.
const DELEGATED: &str = "x.ref.cdn.acme.net";

/// The lab's configuration, and services that answer with a name, with a delegation to `s-fr`, and with sites.
fn policy() -> String {
    let partner = node("s-fr").own;
    let names = r#"names = [
  { labels = "{x}.alias", service = "alias" },
  { labels = "{x}.ref", service = "referral" },
  { labels = "{bucket}._tcp.srv", service = "sites" },
  { labels = "{bucket}.y1q", service = "site-1" },
  { labels = "{bucket}.y2q", service = "site-2" },
  { labels = "{bucket}.y3q", service = "site-3" },
"#;
    let more = format!(
        r#"
[[target]]
name = "partner"
cname = "{PARTNER_NAME}"
[[target]]
name = "partner-servers"
ns = [{{ name = "{PARTNER_SERVER}", addresses = ["{}", "{}"] }}]
[[pool]]
name = "partner"
targets = ["partner"]
[[pool]]
name = "partner-servers"
targets = ["partner-servers"]
[[coverage]]
name = "partner"
tiers = [{{ region = "*", pools = ["partner"] }}]
[[coverage]]
name = "partner-servers"
tiers = [{{ region = "*", pools = ["partner-servers"] }}]
[[service]]
name = "alias"
coverage = "partner"
ttl = "5s"
[[service]]
name = "referral"
coverage = "partner-servers"
ttl = "5s"
[[service]]
name = "sites"
coverage = "nearest"
srv = {{ domain = "cdn.acme.net", sites = {{ fr = 1, de = 2, deep = 3 }} }}
"#,
        partner.v4, partner.v6
    );
    let sites: String = ["fr", "de", "deep"]
        .iter()
        .zip(1..)
        .map(|(site, number)| {
            format!(
                "[[coverage]]\nname = \"at-{site}\"\ntiers = [{{ region = \"*\", pools = [\"{site}\"] }}]\n\
                 [[service]]\nname = \"site-{number}\"\ncoverage = \"at-{site}\"\nchoose_by = \"content\"\n"
            )
        })
        .collect();
    let web = "dns = \"server\"\n";
    configuration(BOX).replace("names = [\n", names).replacen(web, &format!("{web}https = true\n"), 1)
        + &more
        + &sites
}

fn start(lab: &Lab) -> Daemon<'_> {
    let daemon = Daemon::start(lab, BOX, &program("redirector"), &policy(), &[]).unwrap();
    assert_ne!(daemon.stats().unwrap()["xdp"], "off", "{}", daemon.log());
    daemon
}

fn data<'r>(report: &'r DnsReport, kind: &str) -> Vec<&'r str> {
    report.answers.iter().filter(|record| record.kind == kind).map(|record| &*record.data).collect()
}

/// Asks the box itself, by `dig`: the fast path answers unless the frame has no room.
fn ask(lab: &Lab, daemon: &Daemon<'_>, client: &str, query: &[&str]) -> DnsReport {
    let client = lab.client(client, Family::V4);
    let at = node(BOX).vip.unwrap().v4.into();
    let (report, risen) = daemon.counted(|| client.dig(at, query).unwrap()).unwrap();
    let roomless = risen.iter().any(|risen| risen.reason == "punt-resize");
    let fast = risen.iter().any(|risen| risen.path == AnswerPath::Fast && risen.is_answer());
    assert!(fast || roomless, "{query:?}: {risen:?}");
    report
}

#[test]
fn dig_gets_names_delegations_sites_and_bindings_from_the_fast_path() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab);
    for kind in ["A", "AAAA", "TXT", "CNAME"] {
        let report = ask(&lab, &daemon, "c-fr", &["x.alias.cdn.acme.net", kind]);
        assert_eq!(data(&report, "CNAME"), [format!("{PARTNER_NAME}.")], "{report:?}");
        assert!(report.flag("aa") && report.answers.len() == 1, "{report:?}");
    }
    for kind in ["A", "MX", "NS"] {
        let report = ask(&lab, &daemon, "c-fr", &[DELEGATED, kind]);
        assert!(report.answers.is_empty() && !report.flag("aa"), "{report:?}");
        let [ns] = &report.authority[..] else { panic!("{report:?}") };
        assert_eq!(
            (&*ns.name, &*ns.kind, &*ns.data),
            (&*format!("{DELEGATED}."), "NS", &*format!("{PARTNER_SERVER}."))
        );
        let glue: Vec<String> = report.additional.iter().map(|record| record.data.clone()).collect();
        assert_eq!(glue, [node("s-fr").own.v4.to_string(), node("s-fr").own.v6.to_string()], "{report:?}");
    }
    let nearest = node("s-de").own;
    let report = ask(&lab, &daemon, "c-de", &["index.web.abc.cdn.acme.net", "HTTPS"]);
    let [binding] = &data(&report, "HTTPS")[..] else { panic!("{report:?}") };
    assert!(binding.starts_with("1 . ") && binding.contains("h2"), "{binding}");
    assert!(
        binding.contains(&nearest.v4.to_string()) && binding.contains(&nearest.v6.to_string()),
        "{binding}"
    );
}

/// M-7 to M-9: ask for sites, then for the servers of the best one.
#[test]
fn a_player_asks_for_sites_and_then_for_the_best_ones_servers() {
    let Some(lab) = require_lab() else { return };
    let daemon = start(&lab);
    let order = |client: &str, label: &str| -> Vec<String> {
        let report = ask(&lab, &daemon, client, &[&format!("{label}._tcp.srv.cdn.acme.net"), "SRV"]);
        data(&report, "SRV").into_iter().map(str::to_owned).collect()
    };
    let of = |sites: [u32; 3]| -> Vec<String> {
        let one = |(rank, site): (usize, &u32)| format!("{} 0 554 a40.y{site}q.cdn.acme.net.", rank + 1);
        sites.iter().enumerate().map(one).collect()
    };
    let (fr, de) = (of([1, 2, 3]), of([2, 1, 3]));
    // Today's records say the same (M-11), to another program, too. They are the slow path's.
    let client = lab.client("c-de", Family::V4);
    let at = node(BOX).vip.unwrap().v4.into();
    for kind in ["HTTPS", "SVCB"] {
        let query = ["_a40._tcp.srv.cdn.acme.net", kind];
        for report in [client.dig(at, &query).unwrap(), client.kdig(at, &query).unwrap()] {
            let one = |(rank, site)| format!("{} a40.y{site}q.cdn.acme.net. port=554", rank + 1);
            let wanted: Vec<String> = [2, 1, 3].into_iter().enumerate().map(one).collect();
            assert_eq!(data(&report, kind), wanted, "{report:?}");
        }
    }
    assert_eq!((order("c-fr", "_a40"), order("c-de", "_a40")), (fr.clone(), de.clone()));
    // The player's address in the name counts, whoever asks.
    let player: u32 =
        lab.client("c-de", Family::V4).address().to_string().parse::<std::net::Ipv4Addr>().unwrap().into();
    assert_eq!(order("c-fr", &format!("_a40-{player}")), de);
    assert_eq!(order("c-fr", "_a40-x"), fr, "a malformed number does not matter");
    let server = ask(&lab, &daemon, "c-fr", &["a40.y2q.cdn.acme.net", "A"]);
    assert_eq!(data(&server, "A"), [node("s-de").own.v4.to_string()]);
    let partial = ask(&lab, &daemon, "c-fr", &["_tcp.srv.cdn.acme.net", "SRV"]);
    assert_eq!((&*partial.status, partial.answers.len()), ("NOERROR", 0));
}

#[test]
fn resolvers_follow_names_and_delegations() {
    let programs = Software::ALL.map(Software::program);
    let Some(lab) = require_commands(&programs).then(require_lab).flatten() else { return };
    let _daemon = start(&lab);
    let root = RootServer::start(&lab, "s-deep").unwrap();
    let records = format!("{DELEGATED}. 60 IN A 192.0.2.77\n{DELEGATED}. 60 IN TXT \"theirs\"\n");
    let _partner = PartnerServer::start(&lab, "s-fr", DELEGATED, &records).unwrap();
    let partner = node("s-deep").own;
    for client in with_role(Role::Client) {
        for (family, software) in
            Family::ALL.into_iter().flat_map(|family| Software::ALL.map(|one| (family, one)))
        {
            let resolver = Resolver::start(&root, client.name, software, family).unwrap();
            let asker = lab.client(client.name, family);
            let ask = |query: &[&str]| {
                let report = resolver.ask(&asker, query).unwrap();
                assert_eq!(report.status, "NOERROR", "{software:?} {query:?}: {report:?}");
                report
            };
            let a = ask(&["x.Alias.cdn.acme.net", "A"]);
            assert_eq!(
                (data(&a, "CNAME"), data(&a, "A")),
                (vec![&*format!("{PARTNER_NAME}.")], vec![&*partner.v4.to_string()])
            );
            let aaaa = ask(&["x.alias.cdn.acme.net", "AAAA"]);
            assert_eq!(data(&aaaa, "AAAA"), [partner.v6.to_string()]);
            assert_eq!(data(&ask(&[DELEGATED, "A"]), "A"), ["192.0.2.77"], "{software:?}");
            assert_eq!(data(&ask(&[DELEGATED, "TXT"]), "TXT"), ["\"theirs\""], "{software:?}");
        }
    }
}
