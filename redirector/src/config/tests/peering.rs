//! Networks, providers and agreements, and what mistakes in them are answered with.

use super::*;
use redirector_plan::model::Outcome;
use redirector_plan::peering::{Consent, Hours};

const PEERING: &str = r#"
[network]
name = "acme"
clients = ["192.0.2.0/25"]

[[partner]]
name = "isp-b"
clients = ["192.0.2.128/25", "2001:db8:f:8000::/49"]

[[target]]
name = "bcast-edge"
cname = "edge.bcast.example"

[[provider]]
name = "nbc"
customers = ["nbc", "NBC-Sports"]
primary = ["bcast"]
outside = "bcast-edge"

[[broker]]
name = "exchange"

[[peering]]
name = "web"
with = "bcast"
owner = "exchange"
carries = { providers = ["nbc"], services = ["web"], classes = ["page"] }
capacity = ["500 requests/s", "2 Gbit/s"]
hours = ["18:00-24:00", "00:00-02:30"]
price = 0.012
order = 3
valid = { from = 2027-01-01, until = 2027-12-31 }

[[peering]]
with = "bcast"
network = "isp-b"
state = "offered"
"#;

/// The small configuration with this and a class of its service.
fn with_peering(changes: &[(&str, &str)]) -> Vec<String> {
    let classed = ("name = \"web\"\ncov", "name = \"web\"\nclass = \"page\"\ncov");
    findings(&[&[classed, ("", PEERING)], changes].concat())
}

#[test]
fn agreements_are_read_with_all_their_terms() {
    assert!(with_peering(&[]).is_empty(), "{:?}", with_peering(&[]));
    let text = SMALL.replace("name = \"web\"\ncov", "name = \"web\"\nclass = \"page\"\ncov") + PEERING;
    let network = parse_text(&text).unwrap().network;
    let peering = &network.peering;
    let names: Vec<&str> = peering.networks.iter().map(|network| &*network.name).collect();
    assert_eq!((names, peering.networks[1].prefixes.len()), (vec!["acme", "isp-b"], 2));
    assert_eq!(peering.providers[0].customers, ["nbc", "nbc-sports"]);
    let [default, web] = &peering.agreements[..] else { panic!("{:?}", peering.agreements) };
    assert_eq!((&*default.name, default.network, default.terms.state), ("bcast", 1, Consent::Offered));
    assert_eq!((web.owner.as_deref(), web.order, web.price), (Some("exchange"), 3, 12_000));
    let terms = &web.terms;
    assert_eq!((terms.requests, terms.bits), (Some(500), Some(2_000_000_000)));
    assert_eq!(terms.hours, [Hours { from: 64_800, until: 86_400 }, Hours { from: 0, until: 9000 }]);
    assert_eq!((terms.from, terms.until), (Some(1_798_761_600), Some(1_830_297_600)));
    let services: Vec<&str> = network.services.iter().map(|service| &*service.name).collect();
    assert_eq!(services, ["web", "web@nbc"]);
    let targets: Vec<&str> = network.targets.iter().map(|target| &*target.name).collect();
    assert_eq!(targets[3..], ["agreement:bcast@nbc", "agreement:web@nbc"]);
    assert_eq!(network.targets[3].outcome, Outcome::OwnServers);
}

#[test]
fn mistakes_in_agreements_are_told_with_what_would_be_right() {
    let cases = [
        ("with = \"bcast\"\nowner", "owner", "this `peering` has no `with`"),
        (
            "owner = \"exchange\"",
            "owner = \"exchang\"",
            "there is no broker `exchang` (did you mean `exchange`?)",
        ),
        (
            "providers = [\"nbc\"]",
            "providers = [\"nbb\"]",
            "there is no provider `nbb` (did you mean `nbc`?)",
        ),
        ("services = [\"web\"]", "services = [\"wep\"]", "there is no service `wep`"),
        ("classes = [\"page\"]", "classes = [\"film\"]", "there is no service of class `film`"),
        ("\"2 Gbit/s\"", "\"2 GB/s\"", "`2 GB/s` is not a capacity (write \"500 requests/s\", or bit/s"),
        ("18:00-24:00", "18-24", "`18-24` is not a part of a day (write \"18:00-24:00\" (UTC))"),
        ("price = 0.012", "price = -1", "`-1` is not a price (write a number of at least 0"),
        ("until = 2027-12-31", "until = \"soon\"", "`soon` is not a date (write 2027-12-31, or"),
        ("until = 2027-12-31", "until = 2026-12-31", "it ends before it begins"),
        ("network = \"isp-b\"", "network = \"isp-c\"", "there is no network `isp-c` (did you mean `isp-b`?)"),
        ("state = \"offered\"", "state = \"maybe\"", "`maybe`"),
        (
            "with = \"bcast\"\nnetwork",
            "with = \"isp-b\"\nnetwork",
            "`isp-b` cannot have an agreement with itself",
        ),
        (
            "with = \"bcast\"\nnetwork",
            "with = \"bcsat\"\nnetwork",
            "warning: no provider has `bcsat` as a primary CDN",
        ),
    ];
    for (right, wrong, message) in cases {
        let found = with_peering(&[(right, wrong)]);
        assert!(found.iter().any(|line| line.contains(message)), "{wrong}: {found:?}");
    }
}

#[test]
fn mistakes_in_networks_and_providers_are_told() {
    let cases = [
        (
            "[network]\nname = \"acme\"\nclients = [\"192.0.2.0/25\"]\n",
            "",
            "there is no [network] (add [network]",
        ),
        ("name = \"isp-b\"", "name = \"acme\"", "`acme` is the box's own network"),
        ("192.0.2.128/25", "192.0.2.0/25", "192.0.2.0/25 is in network `acme` and in network `isp-b`"),
        ("customers = [\"nbc\", \"NBC-Sports\"]\n", "", "nothing says what this provider's content is"),
        ("primary = [\"bcast\"]\n", "", "this `provider` has no `primary`"),
        (
            "outside = \"bcast-edge\"\n",
            "",
            "`acme` is none of this provider's primary CDNs, and it has no `outside`",
        ),
        ("outside = \"bcast-edge\"", "outside = \"bcast-edg\"", "there is no target `bcast-edg`"),
        (
            "cname = \"edge.bcast.example\"",
            "ns = [{ name = \"ns.bcast.example\" }]",
            "target `bcast-edge` is a delegation, where nobody can be redirected to",
        ),
        ("outside = \"bcast-edge\"", "outside = \"fra-web-1\"", ""),
        (
            "cname = \"edge.bcast.example\"",
            "cname = \"x.web.abc.cdn.acme.net\"",
            "target `bcast-edge` is `x.web.abc.cdn.acme.net`, in a zone that is answered here",
        ),
        (
            "[[broker]]",
            "[[provider]]\nname = \"other\"\ncustomers = [\"nbc\"]\nprimary = [\"acme\"]\noutside = \"bcast-edge\"\n[[broker]]",
            "customer `nbc` is provider `nbc`'s already",
        ),
        (
            "{object}.web.{customer}\", s",
            "{object}.web.{who}\", s",
            "no name has `nbc` where its pattern says {customer}",
        ),
        (
            "{ labels = \"{object}.web.{customer}\", service = \"web\" }",
            "{ labels = \"{object}.web.{customer}\", service = \"web\" }, { labels = \"@\", service = \"web\" }",
            "",
        ),
        (
            "pool = \"par-web\", share = 3 }, \"fra-web\"",
            "pool = \"par-web\", share = 3 }, \"edge\"",
            "is no pool `edge`",
        ),
    ];
    for (right, wrong, message) in cases {
        let found = with_peering(&[(right, wrong)]);
        let told = if message.is_empty() {
            found.is_empty()
        } else {
            found.iter().any(|line| line.contains(message))
        };
        assert!(told, "{wrong}: {found:?}");
    }
}

/// A name of a provider at the apex could only be another name, which an apex cannot be; and a provider's service has
/// servers alone.
#[test]
fn an_apex_or_other_outcomes_are_no_content_of_a_provider() {
    let whole = ("customers = [\"nbc\", \"NBC-Sports\"]", "services = [\"web\"]");
    assert!(with_peering(&[whole]).is_empty());
    let apex = ("names = [", "names = [{ labels = \"@\", service = \"web\" }, ");
    let found = with_peering(&[whole, apex]);
    assert!(
        found[0].contains("`@` of zone `cdn.acme.net` is this provider's, and an apex cannot be a `cname`"),
        "{found:?}"
    );
    let addressed = ("cname = \"edge.bcast.example\"", "addresses = [\"198.51.100.99\"]");
    assert!(with_peering(&[whole, apex, addressed]).is_empty(), "addresses can stand there");
    let other = ("addresses = [\"198.51.100.20\"]", "cname = \"edge.other.example\"");
    let found = with_peering(&[whole, other]);
    assert!(
        found[0].contains("service `web` can answer with a `cname` or `ns` target by its own coverage"),
        "{found:?}"
    );
}

/// A-10: one bad agreement keeps its last good state, in terms of the new configuration.
#[test]
fn an_agreement_with_errors_stays_as_it_was() {
    let text = SMALL.replace("name = \"web\"\ncov", "name = \"web\"\nclass = \"page\"\ncov") + PEERING;
    let last = parse_text(&text).unwrap().network;
    let reload =
        |text: &str| parse("test.toml", text.to_owned(), Path::new(""), Errors::KeepServices(Some(&last)));
    let bad = text.replace("price = 0.012", "price = \"dear\"").replace("state = \"offered\"", "price = 7");
    // Another network comes before the agreement's own.
    let bad = bad.replace(
        "[[partner]]",
        "[[partner]]\nname = \"isp-a\"\nclients = [\"198.51.100.0/24\"]\n[[partner]]",
    );
    let config = reload(&bad).unwrap();
    let [default, web] = &config.network.peering.agreements[..] else { panic!("two agreements") };
    assert_eq!((web.price, web.terms.requests), (12_000, Some(500)), "as it was");
    assert_eq!((default.price, default.network), (7_000_000, 2), "as it is written now");
    assert_eq!(config.refused.len(), 1);
    assert_eq!(config.refused[0].agreement.as_deref(), Some("web"));
    assert!(parse_text(&bad).is_err(), "and a check tells of it");
    // What it covered is gone.
    let gone = bad.replace("name = \"nbc\"\n", "name = \"cnn\"\n");
    let found: Vec<String> = reload(&gone).unwrap().refused.iter().map(ToString::to_string).collect();
    assert!(
        found.iter().any(|line| line.contains("`web` has errors and cannot stay as it was")),
        "{found:?}"
    );
}
