//! What mistakes in addresses, regions, pools and coverages are answered with.

use super::{SMALL, findings, parse_text};

#[test]
fn a_vip_is_required() {
    let found =
        findings(&[("[[vip]]\ncdn = \"acme\"\naddresses = [\"203.0.113.1\", \"2001:db8:a::1\"]\n", "")]);
    assert_eq!(found, ["test.toml:1:1: no VIP is configured (add a [[vip]] with `cdn` and `addresses`)"]);
}

#[test]
fn a_vip_address_is_used_once() {
    let found =
        findings(&[("", "[[vip]]\nname = \"second\"\ncdn = \"acme\"\naddresses = [\"203.0.113.1\"]\n")]);
    assert_eq!(
        found,
        [
            "test.toml:53:14: 203.0.113.1 is listed twice, for VIPs `acme` and `second`; first on line 12 (an address belongs to one VIP: leave it out here or there)"
        ]
    );
}

#[test]
fn a_vip_address_is_listed_once() {
    let found = findings(&[(r#""203.0.113.1", "2001"#, r#""203.0.113.1", "203.0.113.1", "2001"#)]);
    assert_eq!(
        found,
        [
            "test.toml:12:29: 203.0.113.1 is listed twice, for VIP `acme`; first on line 12 (an address belongs to one VIP: leave it out here or there)"
        ]
    );
}

#[test]
fn a_vip_is_not_the_management_address() {
    let found = findings(&[(r#"management = "198.18.0.5""#, r#"management = "203.0.113.1""#)]);
    assert_eq!(
        found,
        [
            "test.toml:12:14: 203.0.113.1 is the box's management address (management never answers on a VIP: use another address for one of them)"
        ]
    );
}

#[test]
fn a_second_vip_of_a_network_needs_a_name() {
    let found = findings(&[("", "[[vip]]\ncdn = \"acme\"\naddresses = [\"203.0.113.2\"]\n")]);
    assert_eq!(
        found,
        [
            "test.toml:51:7: `acme` is already the name of the VIP on line 11 (give every VIP a `name` of its own)"
        ]
    );
}

#[test]
fn protocols_are_known_words() {
    let found = findings(&[(r#"cdn = "acme""#, "cdn = \"acme\"\nspeaks = [\"dns\", \"htttp\"]")]);
    assert_eq!(found, ["test.toml:12:18: `htttp` is not known here (did you mean `http`?)"]);
}

#[test]
fn a_vip_speaks_something() {
    let found = findings(&[(r#"cdn = "acme""#, "cdn = \"acme\"\nspeaks = []")]);
    assert_eq!(
        found,
        [r#"test.toml:12:10: `speaks` is empty (for example: speaks = ["dns", "cdsr", "http", "rtsp"])"#]
    );
}

#[test]
fn a_target_is_not_one_of_our_vips() {
    let found = findings(&[(r#""198.51.100.20""#, r#""203.0.113.1""#)]);
    assert_eq!(
        found,
        [
            "test.toml:25:14: 203.0.113.1 is an address of VIP `acme` on line 12: clients sent there come back here (give the server's own unicast address)"
        ]
    );
}

#[test]
fn a_target_has_one_address_of_a_family() {
    let found = findings(&[(r#""198.51.100.20""#, r#""198.51.100.20", "198.51.100.21""#)]);
    assert_eq!(
        found,
        [
            "test.toml:25:31: a target has at most one address of each family (make it a target of its own, in the same pool)"
        ]
    );
}

#[test]
fn a_target_has_an_address() {
    let found = findings(&[("addresses = [\"198.51.100.20\"]\n", "")]);
    assert_eq!(
        found,
        [
            r#"test.toml:23:1: this `target` has no `addresses` (add addresses = ["192.0.2.10", "2001:db8:1::10"], or `cname`, or `ns`)"#
        ]
    );
}

#[test]
fn addresses_have_no_port() {
    let found = findings(&[(r#""198.51.100.20""#, r#""198.51.100.20:80""#)]);
    assert_eq!(
        found,
        [
            "test.toml:25:14: `198.51.100.20:80` is not an IP address (write the address without a port: 198.51.100.20)"
        ]
    );
}

#[test]
fn addresses_are_not_mapped() {
    let found = findings(&[(r#""198.51.100.20""#, r#""::ffff:198.51.100.20""#)]);
    assert_eq!(
        found,
        ["test.toml:25:14: ::ffff:198.51.100.20 is an IPv4 address in IPv6 form (write 198.51.100.20)"]
    );
}

#[test]
fn ports_are_not_zero() {
    let found =
        findings(&[(r#""198.51.100.20"]"#, "\"198.51.100.20\"]\nports = { http = 0, rtsp = 65536 }")]);
    assert_eq!(found, ["test.toml:26:18: 0 is out of range for `http` (it can be 1 to 65535)"]);
}

#[test]
fn unknown_ports_are_told() {
    let found = findings(&[(r#""198.51.100.20"]"#, "\"198.51.100.20\"]\nports = { htp = 80 }")]);
    assert_eq!(found, ["test.toml:26:11: `htp` is not a key of `ports` (did you mean `http`?)"]);
}

#[test]
fn target_hosts_are_names() {
    let found = findings(&[(r#""198.51.100.20"]"#, "\"198.51.100.20\"]\nhost = \"web 1.example.net\"")]);
    assert_eq!(
        found,
        [
            "test.toml:26:9: ' ' cannot stand in the label `web 1` (letters, digits, `-` and `_` can; a variable is a whole label, for example {object})"
        ]
    );
}

#[test]
fn a_target_host_does_not_lead_to_a_vip() {
    let found = findings(&[
        (r#""198.51.100.20"]"#, "\"198.51.100.20\"]\nhost = \"x.web.abc.CDN.acme.net\""),
        ("coverage = \"web-eu\"\nurls", "coverage = \"web-eu\"\ndns = \"vip\"\nurls"),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:26:8: service `web` answers this name with the VIP: clients would come back here (give the server a name outside the zones answered here, or leave `host` out)"
        ]
    );
}

#[test]
fn a_target_host_in_a_zone_exists() {
    let found = findings(&[(r#""198.51.100.20"]"#, "\"198.51.100.20\"]\nhost = \"origin.cdn.acme.net\"")]);
    assert_eq!(
        found,
        [
            "test.toml:26:8: this name is in a zone answered here, and no pattern matches it (give the server a name outside the zones answered here, or leave `host` out)"
        ]
    );
}

#[test]
fn host_bits_are_told_with_the_right_prefix() {
    let found = findings(&[(r#""192.0.2.0/24""#, r#""192.0.2.7/24""#)]);
    assert_eq!(
        found,
        ["test.toml:16:13: `192.0.2.7/24` has bits set behind its /24 (the prefix is 192.0.2.0/24)"]
    );
}

#[test]
fn an_address_is_not_a_prefix() {
    let found = findings(&[(r#""192.0.2.0/24""#, r#""192.0.2.7""#)]);
    assert_eq!(
        found,
        ["test.toml:16:13: `192.0.2.7` is an address, not a prefix (write 192.0.2.7/32 for this host alone)"]
    );
}

#[test]
fn prefix_lengths_fit_the_family() {
    let found = findings(&[(r#""192.0.2.0/24""#, r#""192.0.2.0/33", "2001:db8::/129""#)]);
    assert_eq!(
        found,
        [
            "test.toml:16:13: `192.0.2.0/33` is not a prefix (IPv4 prefix lengths are 0 to 32)",
            "test.toml:16:29: `2001:db8::/129` is not a prefix (IPv6 prefix lengths are 0 to 128)"
        ]
    );
}

#[test]
fn garbage_is_not_a_prefix() {
    let found = findings(&[(r#""192.0.2.0/24""#, r#""france""#)]);
    assert_eq!(
        found,
        ["test.toml:16:13: `france` is not a prefix (for example 192.0.2.0/24 or 2001:db8::/32)"]
    );
}

#[test]
fn a_prefix_is_in_one_region() {
    let found = findings(&[("", "[[region]]\nname = \"de\"\nprefixes = [\"192.0.2.0/24\"]\n")]);
    assert_eq!(
        found,
        [
            "test.toml:52:13: 192.0.2.0/24 is in region `fr` and in region `de` (it is also at test.toml:16; leave it in one place)"
        ]
    );
}

#[test]
fn a_region_has_prefixes() {
    let found = findings(&[("prefixes = [\"192.0.2.0/24\", \"2001:db8:f::/48\"]\n", "")]);
    assert_eq!(
        found,
        [
            r#"test.toml:14:1: this `region` has no `prefixes` (add prefixes = ["192.0.2.0/24"], or { file = "prefixes/fr.txt" })"#
        ]
    );
}

#[test]
fn a_region_has_some_prefixes() {
    let found = findings(&[(r#"["192.0.2.0/24", "2001:db8:f::/48"]"#, "[]")]);
    assert_eq!(
        found,
        [
            r#"test.toml:16:12: `prefixes` is empty (for example: prefixes = ["192.0.2.0/24"], or { file = "prefixes/fr.txt" })"#
        ]
    );
}

#[test]
fn one_region_is_the_default() {
    let found = findings(&[
        (r#"name = "fr""#, "name = \"fr\"\ndefault = true"),
        ("", "[[region]]\nname = \"de\"\ndefault = true\n"),
    ]);
    assert_eq!(
        found,
        [
            "test.toml:53:11: the region on line 16 is the default already (one region can have `default = true`)"
        ]
    );
}

#[test]
fn a_missing_prefix_file_is_told() {
    let found = findings(&[(r#"["192.0.2.0/24", "2001:db8:f::/48"]"#, r#"{ file = "no/such/file.txt" }"#)]);
    assert_eq!(
        found,
        [
            "test.toml:16:21: cannot read no/such/file.txt: No such file or directory (os error 2) (the path is relative to the directory of the configuration)"
        ]
    );
}

#[test]
fn a_prefix_file_has_a_name() {
    let found = findings(&[(r#"["192.0.2.0/24", "2001:db8:f::/48"]"#, r#"{ path = "x" }"#)]);
    assert_eq!(
        found,
        [
            r#"test.toml:16:12: this `prefixes` has no `file` (add file = "prefixes/fr.txt")"#,
            "test.toml:16:14: `path` is not a key of `prefixes` (it can be `file`)"
        ]
    );
}

#[test]
fn a_pool_has_members() {
    let found = findings(&[(r#"targets = ["fra-web-*"]"#, "targets = []")]);
    assert_eq!(
        found,
        [
            r#"test.toml:33:11: `targets` is empty (for example: targets = ["par-web-*"], or [{ target = "par-web-1", weight = 3 }])"#
        ]
    );
}

#[test]
fn a_pool_pattern_matches_something() {
    let found = findings(&[(r#"targets = ["fra-web-*"]"#, r#"targets = ["fra-wbe-*"]"#)]);
    assert_eq!(
        found,
        ["test.toml:33:12: no target's name matches `fra-wbe-*` (`*` is any text, `?` any one character)"]
    );
}

#[test]
fn unknown_targets_get_a_suggestion() {
    let found = findings(&[(r#"targets = ["fra-web-*"]"#, r#"targets = ["fra-wbe-1"]"#)]);
    assert_eq!(found, ["test.toml:33:12: there is no target `fra-wbe-1` (did you mean `fra-web-1`?)"]);
}

#[test]
fn weights_are_in_range() {
    let found =
        findings(&[(r#"targets = ["fra-web-*"]"#, r#"targets = [{ target = "fra-web-1", weight = 0 }]"#)]);
    assert_eq!(found, ["test.toml:33:45: 0 is out of range for `weight` (it can be 1 to 65535)"]);
}

#[test]
fn weights_of_patterns_do_not_contradict() {
    let found = findings(&[(
        r#"targets = ["fra-web-*"]"#,
        r#"targets = ["fra-*", { target = "*-web-1", weight = 2 }]"#,
    )]);
    assert_eq!(
        found,
        [
            "test.toml:33:32: this gives `fra-web-1` another weight than line 33 does (write the weight once, beside the target's own name)"
        ]
    );
}

#[test]
fn unknown_regions_get_a_suggestion() {
    let found = findings(&[(r#"region = "fr""#, r#"region = "fx""#)]);
    assert_eq!(found, ["test.toml:38:14: there is no region `fx` (did you mean `fr`?)"]);
}

#[test]
fn unknown_pools_get_a_suggestion() {
    let found = findings(&[(r#"pool = "par-web", share"#, r#"pool = "par-wbe", share"#)]);
    assert_eq!(found, ["test.toml:38:38: there is no pool `par-wbe` (did you mean `par-web`?)"]);
}

#[test]
fn shares_are_in_range() {
    let found = findings(&[("share = 3", "share = 0")]);
    assert_eq!(found, ["test.toml:38:57: 0 is out of range for `share` (it can be 1 to 65535)"]);
}

#[test]
fn a_tier_has_pools() {
    let found = findings(&[(r#"pools = ["fra-web"]"#, "pools = []")]);
    assert_eq!(found, [r#"test.toml:39:27: `pools` is empty (for example: pools = ["par-web"])"#]);
}

#[test]
fn a_pool_is_in_a_tier_once() {
    let found = findings(&[(r#"pools = ["fra-web"]"#, r#"pools = ["fra-web", "fra-web"]"#)]);
    assert_eq!(
        found,
        ["test.toml:39:39: this pool is in the tier already (write it once, with the sum of the shares)"]
    );
}

#[test]
fn tier_ttls_are_whole_seconds() {
    let found = findings(&[(r#"pools = ["fra-web"] }"#, r#"pools = ["fra-web"], ttl = "1500ms" }"#)]);
    assert_eq!(found, [r#"test.toml:39:46: lifetimes are whole seconds (for example "2s")"#]);
}

#[test]
fn a_coverage_without_a_tier_for_all_is_a_warning() {
    let found = findings(&[
        ("  { region = \"*\", pools = [\"fra-web\"] },\n", ""),
        (r#"name = "fra1-r1""#, "name = 7"),
    ]);
    assert_eq!(
        found,
        [
            r#"test.toml:3:8: `name` must be a string, this is an integer (for example: name = "fra1-r1")"#,
            r#"test.toml:35:1: warning: coverage `web-eu` has no tier for every region: other clients get the fallback or an error (add { region = "*", pools = […] } as its last tier)"#
        ]
    );
}

#[test]
fn a_tier_has_a_region() {
    let found = findings(&[(r#"region = "*", "#, "")]);
    assert_eq!(
        found,
        [r#"test.toml:39:3: this `tiers` has no `region` (add region = "fr", or "*" for every region)"#]
    );
}

#[test]
fn members_are_names_or_tables() {
    let found = findings(&[(r#"targets = ["fra-web-*"]"#, r#"targets = [["fra-web-1"]]"#)]);
    assert_eq!(
        found,
        [
            r#"test.toml:33:12: `targets` must be a string, this is an array (for example: targets = ["par-web-*"])"#
        ]
    );
}

#[test]
fn a_targets_own_name_gives_its_weight_whatever_the_order() {
    let elements =
        [r#""*-web-*""#, r#"{ target = "par-web-1", weight = 3 }"#, r#"{ target = "fra*", weight = 1 }"#];
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
        let written = format!("targets = [{}]", order.map(|n| elements[n]).join(", "));
        let config = parse_text(&SMALL.replace(r#"targets = ["fra-web-*"]"#, &written)).unwrap();
        assert_eq!(config.network.pools[0].members, [(0, 1), (1, 3)], "{written}");
    }
}

#[test]
fn distance_is_a_duration_and_wants_checked_targets() {
    let tier = r#"{ region = "*", pools = ["fra-web"]"#;
    let with = |within: &str| format!(r#"{{ region = "*", within = {within}, pools = ["fra-web"]"#);
    for (within, expected) in [
        ("\"61s\"", "`61s` is out of range"),
        ("10", "`within` must be a string"),
        ("\"x\"", "`x` is not a duration"),
    ] {
        let found = findings(&[(tier, &with(within))]);
        assert!(found[0].contains(expected), "{found:?}");
    }
    let parsed = |changes: &[(&str, &str)]| {
        let text = changes.iter().fold(SMALL.to_owned(), |text, (old, new)| text.replacen(old, new, 1));
        let config = parse_text(&text).unwrap_or_else(|errors| panic!("{errors:?}"));
        let within = config.network.coverages[0].tiers.last().expect("a tier").within;
        (within, config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let (within, warnings) = parsed(&[(tier, &with("\"10ms\""))]);
    assert_eq!(within, Some(10_000), "microseconds");
    assert!(warnings.len() == 1 && warnings[0].contains("no health check"), "{warnings:?}");
    let checked = with("\"10ms\"").replace("fra-web", "par-web");
    assert_eq!(parsed(&[(tier, &checked)]), (Some(10_000), vec![]));
}
