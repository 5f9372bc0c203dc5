//! What mistakes in services, zones, labels and URL rules are answered with.

use super::{SMALL, findings, parse_text};

#[test]
fn a_service_has_a_coverage() {
    let found = findings(&[("coverage = \"web-eu\"\n", "")]);
    assert_eq!(found, [r#"test.toml:46:1: this `service` has no `coverage` (add coverage = "web-eu")"#]);
}

#[test]
fn unknown_coverages_get_a_suggestion() {
    let found = findings(&[("coverage = \"web-eu\"\n", "coverage = \"web-us\"\n")]);
    assert_eq!(found, ["test.toml:48:12: there is no coverage `web-us` (did you mean `web-eu`?)"]);
}

#[test]
fn answers_are_1_to_4() {
    let found = findings(&[("coverage = \"web-eu\"\n", "coverage = \"web-eu\"\nanswers = 5\n")]);
    assert_eq!(found, ["test.toml:49:11: 5 is out of range for `answers` (it can be 1 to 4)"]);
}

#[test]
fn ttls_are_durations() {
    let found = findings(&[("coverage = \"web-eu\"\n", "coverage = \"web-eu\"\nttl = \"1 day\"\n")]);
    assert_eq!(
        found,
        [
            r#"test.toml:49:7: `1 day` is not a duration (write a whole number and a unit (ms, s, m, h or d), for example "500ms" or "2s")"#
        ]
    );
}

#[test]
fn a_ttl_that_is_not_written_is_0() {
    let network = parse_text(SMALL).unwrap().network;
    assert_eq!(network.services[0].ttl, 0);
    assert!(network.coverages[0].tiers.iter().all(|tier| tier.ttl.is_none()), "the service's");
}

#[test]
fn ttls_are_at_most_a_week() {
    let found = findings(&[("coverage = \"web-eu\"\n", "coverage = \"web-eu\"\nttl = \"8d\"\n")]);
    assert_eq!(found, ["test.toml:49:7: `8d` is out of range (it can be 0s to 7d)"]);
}

#[test]
fn choice_keys_are_known_words() {
    let found = findings(&[(
        "coverage = \"web-eu\"\n",
        "coverage = \"web-eu\"\nchoose_by = \"client_prefix\"\ndns = \"cname\"\n",
    )]);
    assert_eq!(
        found,
        [
            "test.toml:49:13: `client_prefix` is not known here (did you mean `client-prefix`?)",
            "test.toml:50:7: `cname` is not known here (it can be `server` or `vip`)"
        ]
    );
}

#[test]
fn fallback_targets_exist() {
    let found =
        findings(&[("coverage = \"web-eu\"\n", "coverage = \"web-eu\"\nfallback = [\"fra-web-2\"]\n")]);
    assert_eq!(found, ["test.toml:49:13: there is no target `fra-web-2` (did you mean `fra-web-1`?)"]);
}

#[test]
fn locations_lead_to_the_target() {
    let found = findings(&[(
        "coverage = \"web-eu\"\n",
        "coverage = \"web-eu\"\nlocation = \"http://cdn.acme.net{path}\"\n",
    )]);
    assert_eq!(
        found,
        [
            "test.toml:49:12: a location leads to the chosen target (begin it with {scheme}://{target}, http://{target}, …)"
        ]
    );
}

#[test]
fn location_variables_are_known() {
    let found = findings(&[(
        "coverage = \"web-eu\"\n",
        "coverage = \"web-eu\"\nlocation = \"{scheme}://{target}/{url}\"\n",
    )]);
    assert_eq!(
        found,
        [
            "test.toml:49:12: `url` is not a variable of locations (it can be `host`, `path`, `port`, `scheme` or `target`)"
        ]
    );
}

#[test]
fn locations_have_no_blanks() {
    let found = findings(&[(
        "coverage = \"web-eu\"\n",
        "coverage = \"web-eu\"\nlocation = \"{scheme}://{target}/\\r\\n\"\n",
    )]);
    assert_eq!(found, [r#"test.toml:49:12: '\r' cannot stand in a URL (write it as %XX)"#]);
}

#[test]
fn networks_without_vips_are_told() {
    let found = findings(&[("coverage = \"web-eu\"\n", "coverage = \"web-eu\"\ncdn = \"bcast\"\n")]);
    assert_eq!(found, ["test.toml:49:7: `bcast` has no VIP (it can be `acme`)"]);
}

#[test]
fn with_several_networks_a_service_names_its_own() {
    let found = findings(&[("", "[[vip]]\ncdn = \"bcast\"\naddresses = [\"203.0.113.2\"]\n")]);
    assert_eq!(
        found,
        [
            r#"test.toml:42:1: this `zone` has no `cdn` (add cdn = "acme"; the VIPs belong to 2 networks)"#,
            r#"test.toml:46:1: this `service` has no `cdn` (add cdn = "acme"; the VIPs belong to 2 networks)"#
        ]
    );
}

#[test]
fn flags_are_true_or_false() {
    let found = findings(&[(r#"name = "fr""#, "name = \"fr\"\ndefault = \"yes\"")]);
    assert_eq!(
        found,
        ["test.toml:16:11: `default` must be true or false, this is a string (for example: default = true)"]
    );
}

#[test]
fn the_same_url_rule_twice_is_told() {
    let found = findings(&[(r#"net/*""#, r#"net/*", "rtsp|http://{a}.web.{b}.cdn.acme.net/*""#)]);
    assert_eq!(
        found,
        [
            "test.toml:49:58: this covers URLs that the rule on line 49 covers (leave one rule out, or give one a longer path or a more specific host)"
        ]
    );
}

#[test]
fn a_suffix_is_used_once() {
    let found = findings(&[(
        "",
        "[[zone]]\nsuffix = \"CDN.acme.net.\"\nnames = [{ labels = \"@\", service = \"web\" }]\n",
    )]);
    assert_eq!(
        found,
        ["test.toml:50:1: `cdn.acme.net` is already the zone on line 42 (put all its names into one zone)"]
    );
}

#[test]
fn zone_of_a_network_without_a_vip() {
    let found = findings(&[(r#"suffix = "cdn.acme.net""#, "suffix = \"cdn.acme.net\"\ncdn = \"acm\"")]);
    assert_eq!(found, ["test.toml:44:7: `acm` has no VIP (did you mean `acme`?)"]);
}

#[test]
fn a_zone_has_names() {
    let found =
        findings(&[(r#"names = [{ labels = "{object}.web.{customer}", service = "web" }]"#, "names = []")]);
    assert_eq!(
        found,
        [
            r#"test.toml:44:9: `names` is empty (for example: names = [{ labels = "{object}.web.{customer}", service = "web" }])"#
        ]
    );
}

#[test]
fn unknown_services_get_a_suggestion() {
    let found = findings(&[(r#"service = "web" }"#, r#"service = "wbe" }"#)]);
    assert_eq!(found, ["test.toml:44:58: there is no service `wbe` (did you mean `web`?)"]);
}

#[test]
fn identical_patterns_are_told() {
    let found = findings(&[
        (r#"service = "web" }]"#, r#"service = "web" }, { labels = "{x}.web.{y}", service = "tv" }]"#),
        ("", "[[service]]\nname = \"tv\"\ncoverage = \"web-eu\"\n"),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:44:78: no name gets here: the pattern on line 44 takes them for service `web` (leave one of the two out)"
        ]
    );
}

#[test]
fn unreachable_patterns_are_told() {
    let found = findings(&[(
        r#"service = "web" }]"#,
        r#"service = "web" }, { labels = "{x}.web.abc", service = "web" }]"#,
    )]);
    assert_eq!(
        found,
        [
            "test.toml:44:78: no name gets here: the pattern on line 44 takes them for service `web` (put the more specific pattern first)"
        ]
    );
}

#[test]
fn patterns_of_an_inner_zone_belong_there() {
    let found = findings(&[
        ("", "[[zone]]\nsuffix = \"web.cdn.acme.net\"\nnames = [{ labels = \"@\", service = \"web\" }]\n"),
        (r#"{object}.web.{customer}""#, r#"{object}.web""#),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:44:21: these names belong to the zone `web.cdn.acme.net` on line 50 (the longest suffix wins: move the pattern there)"
        ]
    );
}

#[test]
fn a_zone_leads_to_services_of_its_network() {
    let found = findings(&[
        (r#"suffix = "cdn.acme.net""#, "suffix = \"cdn.acme.net\"\ncdn = \"bcast\""),
        ("", "[[vip]]\ncdn = \"bcast\"\naddresses = [\"203.0.113.2\"]\n"),
        ("coverage = \"web-eu\"\n", "coverage = \"web-eu\"\ncdn = \"acme\"\n"),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:45:58: service `web` belongs to `acme` (a zone's names lead to services of the zone's own `cdn`)"
        ]
    );
}

#[test]
fn labels_have_safe_characters() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""{object}.w€b.we b.{customer}""#)]);
    assert_eq!(
        found,
        [
            "test.toml:44:31: `w€b` is not ASCII (write the label in its xn-- form)",
            "test.toml:44:35: ' ' cannot stand in the label `we b` (letters, digits, `-` and `_` can; a variable is a whole label, for example {object})"
        ]
    );
}

#[test]
fn variables_are_whole_labels() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""seg-{object}.web""#)]);
    assert_eq!(
        found,
        [
            "test.toml:44:22: '{' cannot stand in the label `seg-{object}` (letters, digits, `-` and `_` can; a variable is a whole label, for example {object})"
        ]
    );
}

#[test]
fn variables_have_names() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""{}.web.{Customer}""#)]);
    assert_eq!(
        found,
        [
            "test.toml:44:22: `` is not the name of a variable (a variable is a letter a-z, then letters, digits, `-` and `_`: {customer}, or {customer:abc|nbc})",
            "test.toml:44:29: `Customer` is not the name of a variable (a variable is a letter a-z, then letters, digits, `-` and `_`: {customer}, or {customer:abc|nbc})"
        ]
    );
}

#[test]
fn variables_stand_once() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""{object}.web.{object}""#)]);
    assert_eq!(found, ["test.toml:44:35: {object} stands twice (give each label a variable of its own)"]);
}

#[test]
fn labels_are_not_empty() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""{object}..web""#)]);
    assert_eq!(found, ["test.toml:44:31: a label is empty (leave one of the two dots out)"]);
}

#[test]
fn listed_values_are_distinct() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""{object}.web.{customer:abc|nbc|abc}""#)]);
    assert_eq!(found, ["test.toml:44:35: the value `abc` is listed twice (leave one out)"]);
}

#[test]
fn values_are_listed_in_one_place() {
    let found = findings(&[
        ("", "[labels]\ncustomer = [\"abc\"]\n"),
        (r#""{object}.web.{customer}""#, r#""{object}.web.{customer:abc|nbc}""#),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:44:35: the values of {customer} are listed in [labels] already (write {customer}, or use another variable)"
        ]
    );
}

#[test]
fn label_lists_hold_labels() {
    let found = findings(&[("", "[labels]\ncustomer = [\"a.b\"]\nSize = [\"x\"]\n")]);
    assert_eq!(
        found,
        [
            "test.toml:51:13: '.' cannot stand in the label `a.b` (letters, digits, `-` and `_` can; a variable is a whole label, for example {object})",
            "test.toml:52:1: `Size` is not the name of a variable (a variable is a letter a-z, then letters, digits, `-` and `_`: {customer}, or {customer:abc|nbc})"
        ]
    );
}

#[test]
fn labels_are_at_most_63_bytes() {
    let found = findings(&[(
        r#""{object}.web.{customer}""#,
        r#""{object}.wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww""#,
    )]);
    assert_eq!(found, ["test.toml:44:31: this label has 64 characters (labels have at most 63)"]);
}

#[test]
fn patterns_have_at_most_12_labels() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""a.b.c.d.e.f.g.h.i.j.k.l.m""#)]);
    assert_eq!(found, ["test.toml:44:21: this pattern has 13 labels (patterns have at most 12)"]);
}

#[test]
fn names_have_at_most_16_labels() {
    let found = findings(&[
        (r#""{object}.web.{customer}""#, r#""a.b.c.d.e.f.g.h.i.j.k.l""#),
        (r#"suffix = "cdn.acme.net""#, r#"suffix = "v.w.cdn.acme.net""#),
    ]);
    assert_eq!(
        found,
        ["test.toml:44:21: this makes names of 17 labels (names have at most 16, the suffix included)"]
    );
}

#[test]
fn names_have_at_most_255_bytes() {
    let found = findings(&[(
        r#""{object}.web.{customer}""#,
        r#""{object}.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc.ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd""#,
    )]);
    assert_eq!(
        found,
        [
            "test.toml:44:21: this makes names of at least 272 bytes (names have at most 255 bytes, the suffix included)"
        ]
    );
}

#[test]
fn combinations_are_bounded() {
    let found = findings(&[
        (r#""{object}.web.{customer}""#, r#""{a}.{b}.{c}.{d}.{e}.{f}""#),
        (
            "",
            "[labels]\na = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]\nb = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]\nc = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]\nd = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]\ne = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]\nf = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]\n",
        ),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:44:21: the listed values make more than 100000 combinations (leave a variable free, or split the pattern)"
        ]
    );
}

#[test]
fn a_url_rule_has_a_scheme() {
    let found = findings(&[(r#""http://{object}"#, r#""{object}"#)]);
    assert_eq!(
        found,
        [
            r#"test.toml:49:9: `{object}.web.{customer}.cdn.acme.net/*` is not a URL rule (for example "http://{customer}.cdn.acme.net/live/*")"#
        ]
    );
}

#[test]
fn schemes_are_known_words() {
    let found = findings(&[(r#""http://{object}"#, r#""http|ftp://{object}"#)]);
    assert_eq!(
        found,
        [
            "test.toml:49:10: `ftp` is not a scheme of URL rules (write http, https or rtsp, or several: http|https://…)"
        ]
    );
}

#[test]
fn schemes_are_listed_once() {
    let found = findings(&[(r#""http://{object}"#, r#""http|http://{object}"#)]);
    assert_eq!(found, ["test.toml:49:10: `http` is listed twice (leave one out)"]);
}

#[test]
fn a_url_rule_ends_in_a_star() {
    let found = findings(&[(r#"net/*""#, r#"net/live""#)]);
    assert_eq!(
        found,
        ["test.toml:49:53: a URL rule holds for everything beneath a path (end it in /live/*)"]
    );
}

#[test]
fn a_url_rule_has_a_path() {
    let found = findings(&[(r#"net/*""#, r#"net""#)]);
    assert_eq!(found, ["test.toml:49:53: a URL rule holds for everything beneath a path (end it in /*)"]);
}

#[test]
fn paths_have_at_most_4_segments() {
    let found = findings(&[(r#"net/*""#, r#"net/a/b/c/d/e/*""#)]);
    assert_eq!(
        found,
        ["test.toml:49:53: this path has 5 segments (rules can have 4: write the leading ones)"]
    );
}

#[test]
fn paths_have_no_inner_star() {
    let found = findings(&[(r#"net/*""#, r#"net/a*/b/*""#)]);
    assert_eq!(
        found,
        [
            "test.toml:49:53: '*' cannot stand in a path segment of a rule (`*` stands at the end alone; other characters are written as clients send them, as %XX)"
        ]
    );
}

#[test]
fn paths_have_no_empty_segment() {
    let found = findings(&[(r#"net/*""#, r#"net/a//b/*""#)]);
    assert_eq!(found, ["test.toml:49:53: a path segment is empty (for example /live/*)"]);
}

#[test]
fn url_rules_have_no_port() {
    let found = findings(&[(r#"net/*""#, r#"net:8080/*""#)]);
    assert_eq!(
        found,
        [
            "test.toml:49:17: a URL rule has no port: it holds for every port (write {object}.web.{customer}.cdn.acme.net)"
        ]
    );
}

#[test]
fn url_rules_have_no_user() {
    let found = findings(&[(r#""http://{object}"#, r#""http://user@{object}"#)]);
    assert_eq!(
        found,
        ["test.toml:49:17: a URL rule has no user or password (leave out what stands before the host)"]
    );
}

#[test]
fn the_last_label_of_a_host_is_fixed() {
    let found = findings(&[(r#"cdn.acme.net/*""#, r#"{tld}/*""#)]);
    assert_eq!(
        found,
        ["test.toml:49:17: the host's last label must be fixed (for example {customer}.cdn.acme.net)"]
    );
}

#[test]
fn ipv6_literals_stand_in_brackets() {
    let found =
        findings(&[(r#""http://{object}.web.{customer}.cdn.acme.net/*""#, r#""http://2001:db8::1/*""#)]);
    assert_eq!(found, ["test.toml:49:17: an IPv6 address in a URL stands in brackets (write [2001:db8::1])"]);
}

#[test]
fn ipv6_literals_are_addresses() {
    let found =
        findings(&[(r#""http://{object}.web.{customer}.cdn.acme.net/*""#, r#""http://[2001:db8::1]:80/*""#)]);
    assert_eq!(
        found,
        [
            "test.toml:49:17: `[2001:db8::1]:80` is not an IPv6 address in brackets (for example http://[2001:db8::1]/*; rules hold for every port, so write none)"
        ]
    );
}

#[test]
fn equal_url_rules_are_told() {
    let found = findings(&[(
        "",
        "[[service]]\nname = \"tv\"\ncoverage = \"web-eu\"\nurls = [\"http|rtsp://{a}.web.{b}.cdn.acme.net/*\"]\n",
    )]);
    assert_eq!(
        found,
        [
            "test.toml:53:9: services `tv` and `web` both have these URLs, by this rule and the one on line 49 (leave one rule out, or give one a longer path or a more specific host)"
        ]
    );
}

#[test]
fn overlapping_lists_of_url_rules_are_told() {
    let found = findings(&[
        (r#""http://{object}.web.{customer}.cdn"#, r#""http://{object}.web.{customer:abc|nbc}.cdn"#),
        (
            "",
            "[[service]]\nname = \"tv\"\ncoverage = \"web-eu\"\nurls = [\"http://{a}.web.{b:nbc|cbs}.cdn.acme.net/*\"]\n",
        ),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:53:9: services `tv` and `web` both have these URLs, by this rule and the one on line 49 (leave one rule out, or give one a longer path or a more specific host)"
        ]
    );
}

#[test]
fn dots_are_not_path_segments() {
    let found = findings(&[(r#"net/*""#, r#"net/../*""#)]);
    assert_eq!(
        found,
        [
            "test.toml:49:53: `..` is not a segment of rules: clients resolve it before they ask (for example /live/*)"
        ]
    );
}

#[test]
fn reserved_names_have_no_pattern() {
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""_cdsr.{object}""#)]);
    assert_eq!(
        found,
        [
            "test.toml:44:21: `_cdsr` tells clients that an address speaks CDSR, and is answered without a pattern (use another label)"
        ]
    );
    let found = findings(&[(r#""{object}.web.{customer}""#, r#""{host:www|ns1}""#)]);
    assert_eq!(
        found,
        [
            "test.toml:44:21: `ns1` is the name of the zone's name server, and is answered without a pattern (use another label)"
        ]
    );
}

#[test]
fn https_records_say_what_is_written() {
    let https = |written: &str| {
        let text =
            SMALL.replacen("coverage = \"web-eu\"\n", &format!("coverage = \"web-eu\"\n{written}\n"), 1);
        let binding = parse_text(&text).unwrap().network.services[0].https.clone();
        binding.map(|binding| (binding.alpn.join(" "), binding.port))
    };
    assert_eq!(https(""), None);
    assert_eq!(https("https = false"), None);
    assert_eq!(https("https = true"), Some(("h2".into(), 443)));
    assert_eq!(https("https = { alpn = [\"h3\", \"h2\"], port = 8443 }"), Some(("h3 h2".into(), 8443)));
}

#[test]
fn https_records_that_cannot_be_are_refused() {
    let found = |written: &str| {
        findings(&[("coverage = \"web-eu\"\n", &format!("coverage = \"web-eu\"\n{written}\n"))])
    };
    assert!(found("https = { alpn = [\"http/1.1\"] }")[0].contains("`http/1.1` goes without saying"));
    let many: Vec<String> = (0..20).map(|number| format!("\"proto{number}\"")).collect();
    assert!(found(&format!("https = {{ alpn = [{}] }}", many.join(", ")))[0].contains("(name fewer)"));
    assert!(found("https = true\ndns = \"vip\"")[0].contains("answered with the VIP"));
}

const SRV: &str = "srv = { domain = \"cdn.acme.net\", sites = { par = 5, fra = 3 } }";

#[test]
fn sites_of_srv_answers_have_numbers_a_letter_and_a_port() {
    let read = |written: &str| {
        let text =
            SMALL.replacen("coverage = \"web-eu\"\n", &format!("coverage = \"web-eu\"\n{written}\n"), 1);
        let service = parse_text(&text).unwrap().network.services[0].clone();
        (service.answers, service.srv)
    };
    let (answers, srv) = read(SRV);
    let srv = srv.unwrap();
    assert_eq!((answers, srv.media, srv.port), (4, 'q', 554));
    assert_eq!((srv.sites["par"], srv.name(5)), (5, "y5q.cdn.acme.net".to_owned()));
    let (answers, srv) =
        read(&format!("answers = 2\n{}", SRV.replace("sites =", "media = \"m\", port = 80, sites =")));
    assert_eq!((answers, srv.unwrap().port), (2, 80));
}

#[test]
fn sites_of_srv_answers_that_cannot_be_are_refused() {
    let found = |written: &str| {
        findings(&[("coverage = \"web-eu\"\n", &format!("coverage = \"web-eu\"\n{written}\n"))])
    };
    assert!(found("srv = { sites = { par = 5 } }")[0].contains("has no `domain`"));
    assert!(found("srv = { domain = \"cdn.acme.net\" }")[0].contains("has no `sites`"));
    let twice = "srv = { domain = \"cdn.acme.net\", sites = { par = 5, fra = 5 } }";
    assert!(found(twice)[0].contains("two sites have the number 5"));
    let letter = "srv = { domain = \"cdn.acme.net\", media = \"7\", sites = { par = 5 } }";
    assert!(found(letter)[0].contains("`7` is not a letter a-z"));
}
