//! What mistakes of form, in the box's own tables and in health checks are answered with.

use super::{SMALL, findings, parse_text};
use crate::config::RateLimits;

#[test]
fn unknown_tables_are_told() {
    let found = findings(&[("", "[[origin]]\nwith = \"bcast\"\n")]);
    assert_eq!(
        found,
        [
            "test.toml:50:3: `origin` is not a table of this configuration (it can be `accounts`, `box`, `broker`, `coverage`, `fleet`, `key`, `labels`, `limits`, `network`, `partner`, `peering`, `pool`, `provider`, `region`, `service`, `target`, `vip` or `zone`)"
        ]
    );
}

#[test]
fn misspelt_tables_get_a_suggestion() {
    let found = findings(&[("[[coverage]]", "[[coverge]]")]);
    assert_eq!(
        found,
        [
            "test.toml:35:3: `coverge` is not a table of this configuration (did you mean `coverage`?)",
            "test.toml:48:12: there is no coverage `web-eu` (there is no [[coverage]] yet: add it)"
        ]
    );
}

#[test]
fn misspelt_keys_get_a_suggestion() {
    let found = findings(&[(r#"prefixes = ["192"#, r#"prefxies = ["192"#)]);
    assert_eq!(
        found,
        [
            r#"test.toml:14:1: this `region` has no `prefixes` (add prefixes = ["192.0.2.0/24"], or { file = "prefixes/fr.txt" })"#,
            "test.toml:16:1: `prefxies` is not a key of `region` (did you mean `prefixes`?)"
        ]
    );
}

#[test]
fn keys_of_later_releases_are_unknown() {
    let found = findings(&[(
        "name = \"web\"\ncov",
        "name = \"web\"\nclasses = { premium = { coverage = \"x\" } }\ncov",
    )]);
    assert_eq!(found, ["test.toml:48:1: `classes` is not a key of `service` (did you mean `class`?)"]);
}

#[test]
fn a_table_for_a_list_of_tables() {
    let found = findings(&[("[[region]]", "[region]")]);
    assert_eq!(found, ["test.toml:14:1: `region` is a list of tables (write [[region]])"]);
}

#[test]
fn a_list_of_tables_for_a_table() {
    let found = findings(&[("[fleet]", "[[fleet]]")]);
    assert_eq!(found, ["test.toml:7:1: `fleet` is one table (write [fleet], once)"]);
}

#[test]
fn syntax_errors_are_told_with_their_place() {
    let found = findings(&[(r#"cdn = "acme""#, r#"cdn = "acme"#)]);
    assert_eq!(
        found,
        [
            r#"test.toml:11:12: invalid basic string, expected `"` (TOML: [[table]] headers, key = value, strings in quotes; see https://toml.io)"#
        ]
    );
}

#[test]
fn repeated_keys_are_told() {
    let found = findings(&[(r#"cdn = "acme""#, "cdn = \"acme\"\ncdn = \"acme\"")]);
    assert_eq!(
        found,
        [
            "test.toml:12:1: duplicate key (TOML: [[table]] headers, key = value, strings in quotes; see https://toml.io)"
        ]
    );
}

#[test]
fn duplicate_names_are_told() {
    let found = findings(&[(r#"name = "fra-web-1""#, r#"name = "par-web-1""#)]);
    assert_eq!(
        found,
        [
            "test.toml:24:8: `par-web-1` is already the name of the target on line 19 (give every target a `name` of its own)",
            "test.toml:33:12: no target's name matches `fra-web-*` (`*` is any text, `?` any one character)"
        ]
    );
}

#[test]
fn missing_names_are_told() {
    let found = findings(&[("name = \"fra-web-1\"\n", "")]);
    assert_eq!(
        found,
        [
            r#"test.toml:23:1: this `target` has no `name` (add name = "…")"#,
            "test.toml:32:12: no target's name matches `fra-web-*` (`*` is any text, `?` any one character)"
        ]
    );
}

#[test]
fn names_have_safe_characters() {
    let found = findings(&[(r#"name = "fra-web-1""#, r#"name = "fra web""#)]);
    assert_eq!(
        found,
        [
            "test.toml:24:12: ' ' cannot stand in a name (letters a-z, digits, `-`, `_` and `.` can)",
            "test.toml:33:12: no target's name matches `fra-web-*` (`*` is any text, `?` any one character)"
        ]
    );
}

#[test]
fn names_are_short() {
    let found = findings(&[(
        r#"name = "fra-web-1""#,
        r#"name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx""#,
    )]);
    assert_eq!(
        found,
        [
            "test.toml:24:8: this name has 64 characters (names have at most 63)",
            "test.toml:33:12: no target's name matches `fra-web-*` (`*` is any text, `?` any one character)"
        ]
    );
}

#[test]
fn every_error_is_told_in_one_run() {
    let found = findings(&[
        (r#"name = "fra1-r1""#, r#"nmae = "fra1-r1""#),
        (r#""192.0.2.0/24""#, r#""192.0.2.1/24""#),
        ("share = 3", r#"share = "3""#),
    ]);
    assert_eq!(
        found,
        [
            r#"test.toml:2:1: this `box` has no `name` (add name = "fra1-r1")"#,
            "test.toml:3:1: `nmae` is not a key of `box` (did you mean `name`?)",
            "test.toml:16:13: `192.0.2.1/24` has bits set behind its /24 (the prefix is 192.0.2.0/24)",
            "test.toml:38:57: `share` must be an integer, this is a string (for example: share = 1)"
        ]
    );
}

#[test]
fn box_is_required() {
    let found = findings(&[(
        "[box]\nname = \"fra1-r1\"\nmanagement = \"198.18.0.5\"\ninterfaces = [\"eth1\"]\n",
        "",
    )]);
    assert_eq!(
        found,
        ["test.toml:1:1: there is no [box] (add [box] with `name`, `management` and `interfaces`)"]
    );
}

#[test]
fn interfaces_are_required_unless_xdp_is_off() {
    let found = findings(&[("interfaces = [\"eth1\"]\n", "")]);
    assert_eq!(
        found,
        [r#"test.toml:2:1: this `box` has no `interfaces` (add interfaces = ["eth1"], or xdp = "off")"#]
    );
}

#[test]
fn xdp_modes_are_known_words() {
    let found = findings(&[("interfaces = [\"eth1\"]\n", "interfaces = [\"eth1\"]\nxdp = \"natve\"\n")]);
    assert_eq!(found, ["test.toml:6:7: `natve` is not known here (did you mean `native`?)"]);
}

#[test]
fn interface_names_are_short() {
    let found = findings(&[(r#""eth1""#, r#""eth1/with-a-long-name""#)]);
    assert_eq!(
        found,
        [
            "test.toml:5:15: `eth1/with-a-long-name` cannot be the name of an interface (at most 15 characters, no blank and no `/`)"
        ]
    );
}

#[test]
fn interfaces_are_listed_once() {
    let found = findings(&[(r#""eth1""#, r#""eth1", "eth1""#)]);
    assert_eq!(found, ["test.toml:5:23: interface `eth1` is listed twice (leave one out)"]);
}

#[test]
fn management_is_an_address() {
    let found = findings(&[(r#""198.18.0.5""#, r#""198.18.0.5/24""#)]);
    assert_eq!(
        found,
        ["test.toml:4:14: `198.18.0.5/24` is not an IP address (write the address alone: 198.18.0.5)"]
    );
}

#[test]
fn management_is_not_a_group() {
    let found = findings(&[(r#""198.18.0.5""#, r#""224.0.0.1""#)]);
    assert_eq!(found, ["test.toml:4:14: 224.0.0.1 is not the address of one host (write a unicast address)"]);
}

#[test]
fn key_is_required() {
    let found = findings(&[("[fleet]\nkey = \"000102030405060708090a0b0c0d0e0f\"\n", "")]);
    assert_eq!(
        found,
        [
            "test.toml:1:1: there is no [fleet] (add [fleet] with a `key` of 32 hexadecimal digits: openssl rand -hex 16)"
        ]
    );
}

#[test]
fn key_is_32_hex_digits() {
    let found = findings(&[(r#"0d0e0f""#, r#"0d0e0""#)]);
    assert_eq!(
        found,
        [
            "test.toml:8:7: the key has 31 characters, or some that are not hexadecimal (write 32 hexadecimal digits, the same on all boxes: openssl rand -hex 16)"
        ]
    );
}

#[test]
fn types_are_told() {
    let found = findings(&[(r#"name = "fra1-r1""#, "name = 7")]);
    assert_eq!(
        found,
        [r#"test.toml:3:8: `name` must be a string, this is an integer (for example: name = "fra1-r1")"#]
    );
}

#[test]
fn empty_names_are_told() {
    let found = findings(&[(r#"name = "fra1-r1""#, r#"name = " ""#)]);
    assert_eq!(found, [r#"test.toml:3:8: `name` is empty (for example: name = "fra1-r1")"#]);
}

#[test]
fn limits_are_in_range() {
    let found = findings(&[("", "[limits]\nhttp_connections = 0\nidle_timeout = \"1ms\"\n")]);
    assert_eq!(
        found,
        [
            "test.toml:51:20: 0 is out of range for `http_connections` (it can be 1 to 1000000)",
            "test.toml:52:16: `1ms` is out of range (it can be 100ms to 10m)"
        ]
    );
}

#[test]
fn rate_limits_are_read_and_in_range() {
    let rates =
        parse_text(&format!("{SMALL}[limits]\nanswers_per_second = 10\npunts_total_per_second = 0\n"))
            .unwrap()
            .limits
            .rates;
    let default = RateLimits::default();
    assert_eq!(rates, RateLimits { answers_per_second: 10, punts_total_per_second: 0, ..default });
    let table = rates.rates();
    assert_eq!((table.of[0].interval, table.of[0].tolerance), (100_000_000, 900_000_000));
    assert_eq!((table.all_punts.interval, table.slip), (0, default.slip));
    // All punts together: what comes in two steps of the clock at once, or 256, or the burst, if that is less.
    for (punts_total_per_second, interval, at_once) in
        [(20_000, 50_000, 400), (1000, 1_000_000, 256), (100, 10_000_000, 100)]
    {
        let all = RateLimits { punts_total_per_second, ..default }.rates().all_punts;
        assert_eq!((all.interval, all.tolerance), (interval, interval * (at_once - 1)));
    }
    let wrong =
        "[limits]\nerrors_per_second = 10_000_001\nslip = -1\nburst = \"5s\"\ncdsr_per_second = \"1\"\n";
    assert_eq!(
        findings(&[("", wrong)]),
        [
            "test.toml:51:21: 10000001 is out of range for `errors_per_second` (it can be 0 to 10000000)",
            "test.toml:52:8: -1 is out of range for `slip` (it can be 0 to 1000)",
            "test.toml:53:9: `5s` is out of range (it can be 50ms to 4s)",
            "test.toml:54:19: `cdsr_per_second` must be an integer, this is a string (for example: cdsr_per_second = 0)"
        ]
    );
}

#[test]
fn a_check_asks_something() {
    let found = findings(&[(r#"{ http = "/healthz" }"#, r#"{ every = "2s" }"#)]);
    assert_eq!(
        found,
        [
            r#"test.toml:21:9: this check says neither `http` nor `tcp` (for example: check = { http = "/healthz", every = "2s" }, or { tcp = 80 })"#
        ]
    );
}

#[test]
fn a_check_asks_one_thing() {
    let found = findings(&[(r#"{ http = "/healthz" }"#, r#"{ http = "/healthz", tcp = 80 }"#)]);
    assert_eq!(
        found,
        [
            "test.toml:21:36: a check has `http` or `tcp`, not both (leave one out; for the port of an http check write `port`)"
        ]
    );
}

#[test]
fn tcp_checks_have_no_http_keys() {
    let found = findings(&[(r#"{ http = "/healthz" }"#, "{ tcp = 80, status = 200 }")]);
    assert_eq!(
        found,
        [
            r#"test.toml:21:30: this belongs to http checks (leave it out, or write http = "/…" instead of tcp)"#
        ]
    );
}

#[test]
fn check_paths_begin_with_a_slash() {
    let found = findings(&[(r#""/healthz""#, r#""healthz""#)]);
    assert_eq!(
        found,
        [
            "test.toml:21:18: `healthz` is not the path of a request (it begins with `/` and has no blanks; other characters are written as %XX)"
        ]
    );
}

#[test]
fn check_times_are_durations() {
    let found = findings(&[(r#""/healthz""#, r#""/healthz", every = "2 seconds""#)]);
    assert_eq!(
        found,
        [
            r#"test.toml:21:38: `2 seconds` is not a duration (write a whole number and a unit (ms, s, m, h or d), for example "500ms" or "2s")"#
        ]
    );
}

#[test]
fn check_times_need_a_unit() {
    let found = findings(&[(r#""/healthz""#, r#""/healthz", every = 2"#)]);
    assert_eq!(
        found,
        [r#"test.toml:21:38: `every` must be a string, this is an integer (for example: every = "2s")"#]
    );
}

#[test]
fn check_times_are_in_range() {
    let found = findings(&[(r#""/healthz""#, r#""/healthz", every = "1ms""#)]);
    assert_eq!(found, ["test.toml:21:38: `1ms` is out of range (it can be 100ms to 1h)"]);
}

#[test]
fn a_probe_ends_before_the_next() {
    let found = findings(&[(r#""/healthz""#, r#""/healthz", every = "1s", timeout = "2s""#)]);
    assert_eq!(
        found,
        ["test.toml:21:54: a probe may take longer than `every`, 1s (make `timeout` at most `every`)"]
    );
}

#[test]
fn check_counts_and_statuses_are_in_range() {
    let found = findings(&[(r#""/healthz""#, r#""/healthz", rise = 0, fall = 101, status = 99"#)]);
    assert_eq!(
        found,
        [
            "test.toml:21:37: 0 is out of range for `rise` (it can be 1 to 100)",
            "test.toml:21:47: 101 is out of range for `fall` (it can be 1 to 100)",
            "test.toml:21:61: 99 is out of range for `status` (it can be 100 to 599)"
        ]
    );
}

#[test]
fn integers_have_any_form_of_toml() {
    let text =
        format!("{SMALL}[limits]\nhttp_connections = 1_000\nheader_bytes = 0x4000\nrtsp_connections = +5\n");
    let limits = parse_text(&text).unwrap().limits;
    assert_eq!((limits.http_connections, limits.header_bytes, limits.rtsp_connections), (1000, 16_384, 5));
    let found = findings(&[("", "[limits]\nhttp_connections = -1\n")]);
    assert_eq!(
        found,
        ["test.toml:51:20: -1 is out of range for `http_connections` (it can be 1 to 1000000)"]
    );
}
