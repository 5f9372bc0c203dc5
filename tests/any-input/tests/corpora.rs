//! Every fuzz target over the inputs that it begins with, and over mutants of these: what the fuzzers find is looked for
//! here in a few seconds, and the same on every run.

use any_input::mutants::Mutants;
use any_input::{TARGETS, Target, seeds};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"))
}

/// Runs a target, and tells on a panic for which input.
fn run(target: &Target, what: &str, input: &[u8]) {
    let result = std::panic::catch_unwind(|| (target.run)(input));
    assert!(result.is_ok(), "{} broke on {what}: {}", target.name, input.escape_ascii());
}

fn replay(name: &str) {
    let target = target(name);
    let seeds = seeds::kept(name).expect("a corpus");
    let (words, all) =
        (seeds::dictionary(name), seeds.iter().map(|(_, seed)| seed.clone()).collect::<Vec<_>>());
    for (number, (name, seed)) in (0..).zip(&seeds) {
        run(&target, name, seed);
        for mutant in Mutants::new(seed, &all, &words, number).take(target.mutants) {
            run(&target, &format!("a mutant of {name}"), &mutant);
        }
    }
}

macro_rules! replayed {
    ($($(#[$doc:meta])* $test:ident: $target:literal,)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $test() {
                replay($target);
            }
        )*

        #[test]
        fn every_target_is_a_test_here_and_a_fuzz_target() {
            let here = BTreeSet::from([$($target),*]);
            let targets: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(here, targets);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
            let files = fs::read_dir(folder).expect("fuzz targets").map(|entry| entry.expect("an entry").path());
            let stems: BTreeSet<String> =
                files.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
            assert!(stems.iter().map(String::as_str).eq(targets));
        }
    };
}

replayed! {
    any_dns_message_is_answered_within_limits_or_ignored: "dns_message",
    any_dns_question_of_known_words_is_answered_within_limits_or_ignored: "dns_message_made",
    any_dns_stream_is_answered_message_by_message: "dns_stream",
    any_cdsr_request_is_answered_by_no_more_bytes_or_ignored: "cdsr_request",
    any_cdsr_request_of_known_words_is_answered_by_no_more_bytes_or_ignored: "cdsr_request_made",
    any_frame_is_answered_right_or_untouched: "frame",
    any_text_as_proof_is_refused_or_what_is_made_of_what_it_says: "proof",
    any_url_text_is_cut_and_hashed_as_by_splitting: "url_text",
    any_url_of_a_client_is_refused_by_itself_or_answered_alike_by_all_protocols: "client_url",
    any_http_request_leads_to_servers_of_the_network_or_nowhere: "http_request",
    any_rtsp_request_leads_to_servers_of_the_network_or_nowhere: "rtsp_request",
    any_cdsr_reply_is_ignored_or_harmless: "cdsr_reply",
    any_dns_answer_is_ignored_or_read_as_by_another_library: "client_dns",
    any_configuration_is_taken_or_refused_with_places_and_remedies: "configuration",
    any_configuration_of_known_words_is_taken_or_refused_with_places_and_remedies: "configuration_made",
    any_prefix_file_is_taken_by_box_and_client_or_refused_with_its_line: "prefix_file",
    any_control_request_is_answered_or_refused: "control_socket",
    any_question_of_known_words_is_explained_or_refused: "control_socket_made",
    any_state_file_is_ignored_or_compiled: "state_file",
    any_probe_answer_has_the_status_of_its_first_line_or_none: "probe_answer",
}

#[test]
fn of_every_targets_seeds_a_fifth_is_taken_by_its_parser() {
    for target in TARGETS {
        let seeds = seeds::kept(target.name).expect("a corpus");
        let taken = seeds.iter().filter(|(_, seed)| (target.takes)(seed)).count();
        let figures = format!("{}: {taken} of {}", target.name, seeds.len());
        println!("{figures}");
        assert!(
            taken > 0 && taken * 5 >= seeds.len(),
            "{figures}; is it time for `cargo xtask fuzz --seeds`?"
        );
    }
}
