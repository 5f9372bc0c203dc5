//! One bad service does not freeze the others (A-10).

use super::*;

/// The small configuration with a second service, and a second name and region to see changes by.
fn two_services() -> String {
    let tv = "[[service]]\nname = \"tv\"\ncoverage = \"web-eu\"\nttl = \"7s\"\nfallback = [\"par-web-1\"]\n\
              urls = [\"rtsp://{channel}.tv.cdn.acme.net/*\"]\n";
    let names = r#"service = "web" }, { labels = "{channel}.tv", service = "tv" }]"#;
    format!("{}{tv}", SMALL.replace(r#"service = "web" }]"#, names))
}

fn reload(text: &str, last: Option<&Network>) -> Result<Config, ConfigErrors> {
    parse("test.toml", text.to_owned(), Path::new(""), Errors::KeepServices(last))
}

fn service<'n>(network: &'n Network, name: &str) -> Option<&'n redirector_plan::model::Service> {
    network.services.iter().find(|service| service.name == name)
}

#[test]
fn a_service_with_errors_stays_as_it_was_and_the_rest_is_taken() {
    let last = parse_text(&two_services()).unwrap().network;
    // Another target comes first, so that all indices of the last network are wrong in the new one.
    let target = "[[target]]\nname = \"a-new-one\"\naddresses = [\"198.51.100.30\"]\n";
    let text = format!("{}{target}", two_services().replace("ttl = \"7s\"", "ttl = \"8\""));
    let text = text.replace("coverage = \"web-eu\"\nurls", "coverage = \"web-eu\"\nttl = \"9s\"\nurls");

    assert!(parse_text(&text).is_err());
    let config = reload(&text, Some(&last)).unwrap();
    let tv = service(&config.network, "tv").unwrap();
    assert_eq!(tv.ttl, 7);
    assert_eq!(config.network.targets[tv.fallback[0]].name, "par-web-1");
    assert_eq!(service(&config.network, "web").unwrap().ttl, 9);
    assert_eq!(config.network.zones[0].grammars.len(), 2);
    let urls: Vec<_> =
        config.network.urls.iter().map(|rule| config.network.services[rule.service].name.as_str()).collect();
    assert_eq!(urls, ["tv", "web"]);
    assert_eq!(config.refused.len(), 1);
    assert_eq!(config.refused[0].service.as_deref(), Some("tv"));
}

#[test]
fn an_unknown_key_makes_a_service_stay_as_it_was() {
    let last = parse_text(&two_services()).unwrap().network;
    let text = two_services().replace("ttl = \"7s\"", "ttl = \"8s\"\nclasses = {}");
    let config = reload(&text, Some(&last)).unwrap();
    assert_eq!(service(&config.network, "tv").unwrap().ttl, 7);
}

#[test]
fn a_new_service_with_errors_is_left_out_with_its_names() {
    let last = parse_text(SMALL).unwrap().network;
    let text = two_services().replace("ttl = \"7s\"", "ttl = \"8\"");
    for last in [Some(&last), None] {
        let config = reload(&text, last).unwrap();
        assert_eq!(config.network.services.len(), 1);
        assert_eq!(config.network.zones[0].grammars.len(), 1);
        assert_eq!(config.refused.len(), 1);
    }
}

#[test]
fn a_service_cannot_stay_as_it_was_without_what_it_needs() {
    let last = parse_text(&two_services()).unwrap().network;
    let text = two_services().replace("ttl = \"7s\"", "ttl = \"8\"").replace("web-eu", "web-us");
    let errors = reload(&text, Some(&last)).unwrap_err();
    let found: Vec<_> = errors.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        found,
        ["`tv` has errors and cannot stay as it was: it needs coverage `web-eu`", "`8` is not a duration"]
    );
}

#[test]
fn errors_outside_of_services_refuse_the_whole() {
    let last = parse_text(SMALL).unwrap().network;
    let errors = reload(&SMALL.replace("share = 3", "share = 0"), Some(&last)).unwrap_err();
    assert_eq!(errors.iter().count(), 1);
}

#[test]
fn a_sound_configuration_does_not_depend_on_the_last_one() {
    let last = parse_text(&two_services()).unwrap().network;
    let config = reload(SMALL, Some(&last)).unwrap();
    assert_eq!(config.network, parse_text(SMALL).unwrap().network);
    assert!(config.refused.is_empty());
}
