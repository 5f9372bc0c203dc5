//! Prefix files, and configurations that are not what they should be.

use super::*;
use proptest::prelude::*;
use std::fs;
use tempfile::TempDir;

/// A directory with the small configuration, whose region takes its prefixes from `fr.txt`.
fn with_prefix_file(content: &[u8]) -> (TempDir, Result<Config, ConfigErrors>) {
    let directory = TempDir::new().unwrap();
    let inline = r#"["192.0.2.0/24", "2001:db8:f::/48"]"#;
    assert!(SMALL.contains(inline));
    fs::write(directory.path().join("box.toml"), SMALL.replace(inline, r#"{ file = "fr.txt" }"#)).unwrap();
    fs::write(directory.path().join("fr.txt"), content).unwrap();
    let result = load(&directory.path().join("box.toml"));
    (directory, result)
}

/// The findings, with the directory taken out.
fn findings_in(directory: &TempDir, result: Result<Config, ConfigErrors>) -> Vec<String> {
    let prefix = format!("{}/", directory.path().display());
    let text = |finding: &ConfigError| finding.to_string().replace(&prefix, "");
    match result {
        Ok(config) => config.warnings.iter().map(text).collect(),
        Err(errors) => errors.iter().map(text).collect(),
    }
}

#[test]
fn prefix_files_have_comments_blank_lines_and_both_families() {
    let (_directory, result) = with_prefix_file(
        b"# France\r\n\n  192.0.2.0/24 # Paris\r\n2001:db8:f::/48#Lyon\n\t\n198.51.100.0/25",
    );
    let prefixes = &result.unwrap().network.regions[0].prefixes;
    let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["192.0.2.0/24", "198.51.100.0/25", "2001:db8:f::/48"]);
}

#[test]
fn mistakes_in_prefix_files_are_told_with_file_and_line() {
    let (directory, result) = with_prefix_file(b"192.0.2.0/24\n  192.0.2.9/25 # x\nfoo bar\n192.0.2.0/24\n");
    assert_eq!(
        findings_in(&directory, result),
        [
            "fr.txt:2:3: `192.0.2.9/25` has bits set behind its /25 (the prefix is 192.0.2.0/25)",
            "fr.txt:3:1: `foo bar` is not a prefix (for example 192.0.2.0/24 or 2001:db8::/32)",
            "fr.txt:4:1: warning: 192.0.2.0/24 stands twice in region `fr` (it is also at fr.txt:1; leave it in one place)",
        ]
    );
}

#[test]
fn a_wrong_prefix_file_gives_twenty_lines_and_a_count() {
    let (directory, result) = with_prefix_file("x\n".repeat(1000).as_bytes());
    let findings = findings_in(&directory, result);
    assert_eq!(findings.len(), 21);
    assert!(
        findings[20].starts_with("fr.txt:20:1: `x` is not a prefix (and 980 more like this)"),
        "{findings:?}"
    );
}

#[test]
fn an_empty_prefix_file_is_told() {
    let (directory, result) = with_prefix_file(b"# nothing yet\n");
    assert_eq!(
        findings_in(&directory, result),
        ["box.toml:16:21: fr.txt has no prefix (write one prefix a line, or leave the region out)"]
    );
}

#[test]
fn a_prefix_file_that_is_not_text_is_told() {
    let (directory, result) = with_prefix_file(b"192.0.2.0/24\n\xff\xfe\n");
    let help = "the path is relative to the directory of the configuration";
    assert_eq!(
        findings_in(&directory, result),
        [format!("box.toml:16:21: cannot read fr.txt: line 2 is not UTF-8 text ({help})")]
    );
}

#[test]
fn a_directory_is_not_a_prefix_file() {
    let (directory, _) = with_prefix_file(b"");
    fs::remove_file(directory.path().join("fr.txt")).unwrap();
    fs::create_dir(directory.path().join("fr.txt")).unwrap();
    let findings = findings_in(&directory, load(&directory.path().join("box.toml")));
    assert!(
        findings[0].starts_with("box.toml:16:21: cannot read fr.txt: it is not a regular file"),
        "{findings:?}"
    );
}

#[test]
fn a_prefix_in_the_files_of_two_regions_is_told_with_both_places() {
    let directory = TempDir::new().unwrap();
    let second = "\n[[region]]\nname = \"de\"\nprefixes = { file = \"de.txt\" }\n";
    fs::write(directory.path().join("box.toml"), format!("{SMALL}{second}")).unwrap();
    fs::write(directory.path().join("de.txt"), "203.0.113.0/24\n192.0.2.0/24\n192.0.2.0/25\n").unwrap();
    let findings = findings_in(&directory, load(&directory.path().join("box.toml")));
    assert_eq!(
        findings,
        [
            "de.txt:2:1: 192.0.2.0/24 is in region `fr` and in region `de` (it is also at box.toml:16; leave it in one place)"
        ]
    );
}

#[test]
fn many_repeats_in_one_region_do_not_hide_a_prefix_in_two() {
    let directory = TempDir::new().unwrap();
    let second = "\n[[region]]\nname = \"de\"\nprefixes = { file = \"de.txt\" }\n";
    fs::write(directory.path().join("box.toml"), format!("{SMALL}{second}")).unwrap();
    let repeats = "10.0.0.0/24\n".repeat(100);
    fs::write(directory.path().join("de.txt"), format!("{repeats}192.0.2.0/24\n")).unwrap();
    let errors = load(&directory.path().join("box.toml")).unwrap_err();
    let errors: Vec<_> = errors.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].message, "192.0.2.0/24 is in region `fr` and in region `de`");
}

#[test]
fn a_missing_configuration_is_told() {
    let directory = TempDir::new().unwrap();
    let findings = findings_in(&directory, load(&directory.path().join("box.toml")));
    let help = "check the path and its permissions";
    assert_eq!(
        findings,
        [format!("box.toml: cannot read the configuration: No such file or directory (os error 2) ({help})")]
    );
}

#[test]
fn a_configuration_that_is_not_text_is_told() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("box.toml"), b"[box]\nname = \"\xe9\"\n").unwrap();
    let findings = findings_in(&directory, load(&directory.path().join("box.toml")));
    assert_eq!(findings, ["box.toml: line 2 is not UTF-8 text (save the file as UTF-8)"]);
}

#[test]
fn an_empty_configuration_says_what_it_needs() {
    let errors = parse_text("").unwrap_err();
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["no VIP is configured", "there is no [box]", "there is no [fleet]"]);
}

#[test]
fn reports_show_the_line_and_a_caret() {
    let errors = parse_text(&SMALL.replace("share = 3", "share = 0")).unwrap_err();
    let expected = r#"  × 0 is out of range for `share`
    ╭─[test.toml:38:57]
 37 │ tiers = [
 38 │   { region = "fr", pools = [{ pool = "par-web", share = 0 }, "fra-web"] },
    ·                                                         ─
 39 │   { region = "*", pools = ["fra-web"] },
    ╰────
  help: it can be 1 to 65535
"#;
    assert_eq!(errors.report(false), expected);
}

#[test]
fn findings_serialise_for_programs() {
    let errors = parse_text(&SMALL.replace("share = 3", "share = 0")).unwrap_err();
    let expected = serde_json::json!([{
        "severity": "error",
        "file": "test.toml",
        "line": 38,
        "column": 57,
        "message": "0 is out of range for `share`",
        "help": "it can be 1 to 65535",
    }]);
    assert_eq!(serde_json::to_value(&errors).unwrap(), expected);
}

#[test]
fn columns_count_characters() {
    let errors = parse_text("[box]\nname = \"é\", x\n").unwrap_err();
    assert_eq!(
        (errors.iter().next().unwrap().origin.line, errors.iter().next().unwrap().origin.column),
        (2, 11)
    );
}

/// Reads a text that may be anything: whatever comes of it, reports of it can be written.
fn digest(text: String) {
    match parse("fuzz.toml", text, directory(&example()), Errors::Refuse) {
        Ok(config) => config.warnings.iter().for_each(|finding| drop(finding.report(false))),
        Err(errors) => {
            assert!(errors.iter().any(|finding| finding.severity == Severity::Error));
            drop((errors.report(true), errors.to_string()));
        }
    }
}

fn example_text() -> String {
    fs::read_to_string(example()).unwrap()
}

/// Fragments that mean something in a configuration.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\\[\\]{}=\"\"'#,.:/|@*?\\\\ \n-]{1,3}",
        "\\PC{0,6}",
        Just("[[zone]]\n".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("= { file = \"/dev/zero\" }".to_owned()),
        Just("99999999999999999999999".to_owned()),
        Just("-1".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("{{{".to_owned()),
    ]
}

proptest! {
    #[test]
    fn a_truncated_example_is_refused_or_read(cut in any::<prop::sample::Index>()) {
        let text = example_text();
        let cut = text.floor_char_boundary(cut.index(text.len()));
        digest(text[..cut].to_owned());
    }

    #[test]
    fn a_mutilated_example_is_refused_or_read(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, fragment()), 1..6)
    ) {
        let mut text = example_text();
        for (place, removed, inserted) in edits {
            let start = text.floor_char_boundary(place.index(text.len()));
            let end = text.ceil_char_boundary((start + removed).min(text.len()));
            text.replace_range(start..end, &inserted);
        }
        digest(text);
    }

    #[test]
    fn garbage_is_refused(text in "\\PC{0,200}") {
        digest(text);
    }
}
