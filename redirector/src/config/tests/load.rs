//! Capacities of targets, and when tiers are left.

use super::{SMALL, findings, parse_text};
use redirector_plan::overflow::{Capacity, Terms, Unless};

const TARGET: &str = "addresses = [\"198.51.100.20\"]";
const TIER: &str = "{ region = \"*\", pools = [\"fra-web\"] }";

/// The findings with this in the target `fra-web-1` and in the last tier.
fn found(target: &str, tier: &str) -> Vec<String> {
    let tier = format!("{{ region = \"*\", pools = [\"fra-web\"]{tier} }}");
    findings(&[(TARGET, &format!("{TARGET}\n{target}")), (TIER, &tier)])
}

/// Texts that the only finding must have.
fn expect(found: Vec<String>, parts: &[&str]) {
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert!(parts.iter().all(|part| finding.contains(part)), "{finding} lacks one of {parts:?}");
}

#[test]
fn capacities_and_terms_are_what_is_written() {
    let text = SMALL
        .replace(
            TARGET,
            "addresses = [\"198.51.100.20\"]\ncapacity = { bandwidth = \"10 Gbit/s\", connections = 20_000, \
             requests = \"5000 requests/s\" }\ncheck = { tcp = 80 }",
        )
        .replace(
            TIER,
            "{ region = \"*\", pools = [\"fra-web\"], overflow = { above = 80, full = 95 }, \
             unless = { rtt = \"80ms\", loss = 5, load = 90 } }",
        );
    let config = parse_text(&text).expect("a configuration");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let capacity = Capacity { bits: Some(10_000_000_000), connections: Some(20_000), requests: Some(5000) };
    assert_eq!(config.network.targets[0].capacity, capacity);
    let [first, last] = &config.network.coverages[0].tiers[..] else { panic!("two tiers") };
    assert_eq!(first.terms, Terms::default());
    let unless = Unless { round_trip: Some(80_000), loss: Some(5), load: Some(90) };
    assert_eq!(last.terms, Terms { above: 80, full: 95, strict: true, unless: Some(unless) });
}

#[test]
fn a_capacity_has_a_number_and_a_unit() {
    for (capacity, parts) in [
        ("{ }", &["`capacity` is empty", "20_000"][..]),
        ("{ bandwidth = \"10\" }", &["`10` is no bandwidth", "10 Gbit/s"]),
        ("{ bandwidth = \"10 requests/s\" }", &["`10 requests/s` is no bandwidth", "10 Gbit/s"]),
        ("{ requests = \"1 Gbit/s\" }", &["`1 Gbit/s` is no requests", "5000 requests/s"]),
        ("{ bandwidth = \"0 Gbit/s\" }", &["a capacity of nothing", "drain"]),
        ("{ connections = 0 }", &["out of range", "it can be 1 to"]),
        ("{ conections = 1 }", &["`conections` is not a key", "did you mean `connections`"]),
    ] {
        let all = found(&format!("capacity = {capacity}"), "");
        assert!(
            all.iter().any(|one| parts.iter().all(|part| one.contains(part))),
            "{capacity}: {all:?} lacks {parts:?}"
        );
    }
}

#[test]
fn thresholds_are_percent_and_in_order() {
    let capacity = "capacity = { connections = 10 }";
    expect(
        found(capacity, ", overflow = { above = 95, full = 80 }"),
        &["test.toml:", "`above` is 95 and `full` 80", "little by little"],
    );
    expect(found(capacity, ", overflow = { full = 101 }"), &["101 is out of range", "1 to 100"]);
    expect(found(capacity, ", unless = { }"), &["`unless` is empty", "80ms"]);
    let checked = "check = { tcp = 80 }";
    expect(found(checked, ", unless = { rtt = \"0s\" }"), &["out of range", "1ms to 1m"]);
}

#[test]
fn thresholds_of_what_is_never_known_are_warned_of() {
    expect(found("", ", overflow = { above = 80, full = 95 }"), &["never full", "give them a `capacity`"]);
    expect(found("", ", unless = { loss = 5 }"), &["quality is never measured", "give them a `check`"]);
    expect(found("", ", unless = { load = 90 }"), &["load is never known", "give them a `capacity`"]);
}
