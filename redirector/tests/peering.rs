//! Figures 10 and 11 of the source as configurations: each box, each client, each provider, each protocol (P-29).

use redirector::config::{Errors, parse};
use redirector::manage::explain::{Explanation, Protocol, Question, Wanted, explain};
use redirector::manage::view::View;
use std::net::IpAddr;
use std::path::Path;

/// A client of the box's own network, in either family.
const CLIENTS: [&str; 2] = ["192.0.2.7", "2001:db8:f::7"];
/// Providers by the backbone that is their primary CDN: the first, the second, both, and one that has no part in this.
const PROVIDERS: [(&str, &[&str]); 4] =
    [("abc", &["one"]), ("nbc", &["two"]), ("cnn", &["one", "two"]), ("xyz", &["three"])];

/// A box of a network that has agreements with these CDNs. What it answers with is at each backbone's edge, or at
/// servers of its own.
fn configuration(network: &str, agreements: &[&str]) -> String {
    let mut text = format!(
        r#"
[box]
name = "test"
management = "127.0.0.1"
xdp = "off"
[fleet]
key = "5eed5eed5eed5eed5eed5eed5eed5eed"
[network]
name = "{network}"
[[vip]]
cdn = "a"
addresses = ["203.0.113.1", "2001:db8:a::1"]
[[target]]
name = "own"
addresses = ["198.51.100.1", "2001:db8:1::1"]
[[pool]]
name = "own"
targets = ["own"]
[[coverage]]
name = "own"
tiers = [{{ region = "*", pools = ["own"] }}]
[[service]]
name = "web"
coverage = "own"
urls = ["http|rtsp://{{object}}.web.{{customer}}.cdn.example.net/*"]
[[zone]]
suffix = "cdn.example.net"
names = [{{ labels = "{{object}}.web.{{customer}}", service = "web" }}]
"#
    );
    for (name, primary) in PROVIDERS {
        let edge = format!("edge.{}.example", primary[0]);
        text += &format!(
            "[[target]]\nname = \"{name}-edge\"\ncname = \"{edge}\"\n\
             [[provider]]\nname = \"{name}\"\ncustomers = [\"{name}\"]\nprimary = {primary:?}\noutside = \"{name}-edge\"\n"
        );
    }
    agreements.iter().for_each(|with| text += &format!("[[peering]]\nwith = \"{with}\"\n"));
    text
}

/// Where a provider's own CDN is known by address, all protocols name it.
#[test]
fn a_providers_cdn_can_be_an_address() {
    let text = configuration("as600", &[]).replace(
        "name = \"nbc-edge\"\ncname = \"edge.two.example\"",
        "name = \"nbc-edge\"\naddresses = [\"198.51.100.77\", \"2001:db8:77::1\"]",
    );
    let config = parse("test.toml", text, Path::new(""), Errors::Refuse).expect("a configuration");
    let view = View::alone(config).expect("tables");
    assert_eq!(served(&view, "nbc"), ("nbc-edge".to_owned(), Some("nbc-edge".to_owned())));
    let client: IpAddr = CLIENTS[1].parse().expect("an address");
    let wanted = Wanted::Name { name: "x.web.nbc.cdn.example.net".to_owned(), record_type: None };
    let told =
        explain(&view, &Question { client, ecs: None, wanted, vip: None }, |_| Ok(None)).expect("told");
    assert_eq!(told.winners[0].address, Some("2001:db8:77::1".parse().expect("an address")));
    assert_eq!((told.reason.as_str(), told.answer.as_str()), ("foreign", "NOERROR"));
}

/// Who serves: `own` or the name of the provider's CDN; and on whose account. All protocols and families agree.
fn served(view: &View, customer: &str) -> (String, Option<String>) {
    let ask = |client: &str, wanted: Wanted| -> Explanation {
        let client: IpAddr = client.parse().expect("an address");
        let question = Question { client, ecs: None, wanted, vip: None };
        explain(view, &question, |_| Ok(None)).expect("an explanation")
    };
    let host = format!("x.web.{customer}.cdn.example.net");
    let mut found: Vec<(String, Option<String>, String)> = Vec::new();
    for client in CLIENTS {
        let by_url = |scheme: &str, protocol| Wanted::Url {
            url: format!("{scheme}://{host}/x"),
            protocol: Some(protocol),
        };
        for wanted in [
            Wanted::Name { name: host.clone(), record_type: None },
            by_url("http", Protocol::Cdsr),
            by_url("http", Protocol::Http),
            by_url("rtsp", Protocol::Rtsp),
        ] {
            let told = ask(client, wanted.clone());
            let winner = told.winners.first().unwrap_or_else(|| panic!("{wanted:?}: {told:?}"));
            let chosen: Vec<String> =
                told.accounts.iter().filter(|one| one.chosen).map(|one| one.target.clone()).collect();
            assert!(chosen.len() < 2, "booked to one: {told:?}");
            if winner.target != "own" {
                assert_eq!((told.reason.as_str(), told.code), ("foreign", 26), "{wanted:?}");
            }
            if let (Protocol::Cdsr, Some(_)) = (told.protocol, &winner.outcome) {
                assert_eq!(told.answer, "use the legacy protocol");
            }
            found.push((
                winner.target.clone(),
                chosen.first().cloned(),
                told.provider.expect("a provider").name,
            ));
        }
    }
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    assert_eq!(found[0].2, customer);
    (found[0].0.clone(), found[0].1.clone())
}

/// What a box's clients get of each provider: by whom they are served, without the account where it goes without saying.
fn matrix(network: &str, agreements: &[&str]) -> [String; 4] {
    let text = configuration(network, agreements);
    let config = parse("test.toml", text, Path::new(""), Errors::Refuse).expect("a configuration");
    let view = View::alone(config).expect("tables");
    PROVIDERS.map(|(customer, _)| match served(&view, customer) {
        (target, Some(account)) if target == "own" => account,
        (target, _) => target,
    })
}

const OUTSIDE: [&str; 4] = ["abc-edge", "nbc-edge", "cnn-edge", "xyz-edge"];

/// Backbone 1 is AS 100, backbone 2 AS 200 and 300. AS 400 is an affiliate of the first, AS 500 of both.
#[test]
fn figure_10_affiliates_serve_the_providers_of_their_backbones() {
    assert_eq!(matrix("one", &[]), ["network:one@abc", OUTSIDE[1], "network:one@cnn", OUTSIDE[3]]);
    assert_eq!(matrix("two", &[]), [OUTSIDE[0], "network:two@nbc", "network:two@cnn", OUTSIDE[3]]);
    let [abc, cnn] = ["agreement:one@abc", "agreement:one@cnn"];
    assert_eq!(matrix("as400", &["one"]), [abc, OUTSIDE[1], cnn, OUTSIDE[3]]);
    // Of two agreements that cover the same, one is booked: those of equal price go by name.
    assert_eq!(matrix("as500", &["one", "two"]), [abc, "agreement:two@nbc", cnn, OUTSIDE[3]]);
    assert_eq!(matrix("as600", &[]), OUTSIDE, "a network without any");
}

/// Each backbone is an affiliate of the other.
#[test]
fn figure_11_backbones_that_peer_serve_each_others_providers() {
    assert_eq!(
        matrix("one", &["two"]),
        ["network:one@abc", "agreement:two@nbc", "network:one@cnn", OUTSIDE[3]]
    );
    assert_eq!(
        matrix("two", &["one"]),
        ["agreement:one@abc", "network:two@nbc", "network:two@cnn", OUTSIDE[3]]
    );
    assert_eq!(matrix("as400", &["one"])[1], OUTSIDE[1], "what backbones agree is nothing to others");
}
