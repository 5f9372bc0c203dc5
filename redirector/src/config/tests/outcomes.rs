//! Targets that are names or delegations, and what mistakes in them are answered with.

use super::{SMALL, findings, parse_text};
use redirector_plan::model::{NameServer, Outcome};

/// The server `par-web-1` of the small configuration, replaced by something else.
const SERVER: &str = "addresses = [\"198.51.100.10\", \"2001:db8:1::10\"]\ncheck = { http = \"/healthz\" }\n";

fn outcome(text: &str) -> Outcome {
    let config = parse_text(&SMALL.replacen(SERVER, text, 1)).unwrap();
    config.network.targets[1].outcome.clone()
}

#[test]
fn a_target_is_a_server_a_name_or_a_delegation() {
    assert_eq!(outcome(SERVER), Outcome::Server);
    assert_eq!(outcome("cname = \"Edge.Partner.example.\"\n"), Outcome::Name("edge.partner.example".into()));
    let servers = outcome("ns = [{ name = \"ns1.partner.example\", addresses = [\"192.0.2.99\"] }]\n");
    let server =
        NameServer { name: "ns1.partner.example".into(), ipv4: Some([192, 0, 2, 99].into()), ipv6: None };
    assert_eq!(servers, Outcome::Delegation(vec![server]));
}

#[test]
fn a_target_is_one_of_them() {
    let found = findings(&[(SERVER, "")]);
    assert!(
        found[0].contains("this `target` has no `addresses`") && found[0].contains("`cname`"),
        "{found:?}"
    );
    let found = findings(&[(SERVER, "addresses = [\"192.0.2.10\"]\ncname = \"edge.partner.example\"\n")]);
    assert!(found[0].contains("a target has `addresses` or `cname`, not both"), "{found:?}");
}

#[test]
fn what_belongs_to_servers_is_refused_elsewhere() {
    for key in ["check = { tcp = 80 }", "host = \"www.example.net\""] {
        let found = findings(&[(SERVER, &format!("cname = \"edge.partner.example\"\n{key}\n"))]);
        assert!(found.len() == 1 && found[0].contains("this belongs to servers"), "{found:?}");
    }
    let found = findings(&[(SERVER, "ns = [{ name = \"ns1.partner.example\" }]\nports = { http = 80 }\n")]);
    assert!(found.len() == 1 && found[0].contains("this belongs to servers"), "{found:?}");
}

#[test]
fn delegations_have_one_to_four_name_servers_each_once() {
    let servers = |names: &[&str]| {
        let list: Vec<String> =
            names.iter().map(|name| format!("{{ name = \"{name}.partner.example\" }}")).collect();
        findings(&[(SERVER, &format!("ns = [{}]\n", list.join(", ")))])
    };
    assert!(servers(&["a", "b", "c", "d"]).is_empty());
    assert!(servers(&["a", "b", "c", "d", "e"])[0].contains("(name at most 4)"));
    assert!(servers(&["a", "A"])[0].contains("name server `a.partner.example` is listed twice"));
    assert!(!servers(&[]).is_empty());
}

#[test]
fn a_delegation_never_leads_to_a_vip_and_names_here_need_addresses() {
    let found =
        findings(&[(SERVER, "ns = [{ name = \"ns1.partner.example\", addresses = [\"203.0.113.1\"] }]\n")]);
    assert!(found[0].contains("203.0.113.1 is an address of VIP `acme`"), "{found:?}");
    let found = findings(&[(SERVER, "ns = [{ name = \"ns1.partner.cdn.acme.net\" }]\n")]);
    assert!(
        found[0].contains("resolvers learn its addresses here alone (give its `addresses`)"),
        "{found:?}"
    );
}

#[test]
fn a_name_that_leads_nowhere_or_back_is_refused() {
    let found = findings(&[(SERVER, "cname = \"no.such.cdn.acme.net\"\n")]);
    assert!(found[0].contains("no pattern matches it"), "{found:?}");
    // A name of the very service that this target serves.
    let found = findings(&[(SERVER, "cname = \"x.web.abc.cdn.acme.net\"\n")]);
    assert!(found[0].contains("this name leads back here: service `web`"), "{found:?}");
}

/// From `a` to a name of `b`, and from there to a name of `a`.
#[test]
fn names_that_lead_in_a_circle_are_refused() {
    let more = r#"
[[target]]
name = "to-b"
cname = "x.b.cdn.acme.net"
[[target]]
name = "to-a"
cname = "x.a.cdn.acme.net"
[[pool]]
name = "to-b"
targets = ["to-b"]
[[coverage]]
name = "to-b"
tiers = [{ region = "*", pools = ["to-b"] }]
[[service]]
name = "a"
coverage = "to-b"
[[service]]
name = "b"
coverage = "web-eu"
fallback = ["to-a"]
"#;
    let names = "names = [{ labels = \"{x}.a\", service = \"a\" }, { labels = \"{x}.b\", service = \"b\" }, ";
    let found = findings(&[("names = [", names), ("", more)]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|line| line.contains("this name leads back here")), "{found:?}");
    // Without the way back there is no circle.
    let straight = more.replace("fallback = [\"to-a\"]\n", "");
    assert!(findings(&[("names = [", names), ("", &straight)]).is_empty());
}

#[test]
fn an_apex_has_neither_names_nor_delegations() {
    let names = "names = [{ labels = \"@\", service = \"web\" }, ";
    let found = findings(&[("names = [", names), (SERVER, "cname = \"edge.partner.example\"\n")]);
    assert!(found[0].contains("a zone's apex cannot (give `@` a service"), "{found:?}");
}
