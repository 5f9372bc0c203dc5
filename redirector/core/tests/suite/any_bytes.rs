//! Random and damaged bytes against what must hold of any; the fuzz targets ask the same with more time.

use proptest::prelude::*;
use redirector_core::wire::cdsr;
use redirector_tests::generate::{Generator, Random};
use redirector_tests::invariants;
use redirector_tests::networks::rich;
use redirector_tests::slow::DNS_PORT;

fn any_bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    // Small numbers are lengths and counts.
    let byte =
        prop_oneof![3 => any::<u8>(), 2 => 0u8..4, 1 => prop::sample::select(vec![b'.', b'/', 0xc0, 63])];
    prop::collection::vec(byte, 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_dns_message_is_answered_within_limits_or_ignored(bytes in any_bytes(300)) {
        invariants::dns_message(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_sound_dns_header_are_answered_within_limits(tail in any_bytes(300), more in 0u8..3) {
        invariants::dns_message(&[&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, more], &tail[..]].concat());
    }

    #[test]
    fn any_cdsr_request_is_answered_by_no_more_bytes_or_ignored(bytes in any_bytes(300)) {
        invariants::cdsr_request(&[b"CD\x01\x01", &bytes[..]].concat());
        invariants::cdsr_request(&bytes);
    }

    #[test]
    fn any_frame_is_answered_right_or_untouched(bytes in any_bytes(200)) {
        invariants::frame(&bytes);
    }

    #[test]
    fn any_text_is_cut_and_hashed_as_by_splitting(bytes in any_bytes(400)) {
        invariants::url_text(&bytes);
    }

    #[test]
    fn text_of_names_and_paths_is_cut_and_hashed_as_by_splitting(text in "[a-c.]{0,120}|([a-z]{1,9}[./]){0,40}|([a-z]{0,12}[/?#]){0,6}[a-z]{0,9}") {
        invariants::url_text(text.as_bytes());
    }
}

/// Random bytes seldom come far; these begin as sound messages.
#[test]
fn damaged_messages_are_answered_within_limits_or_ignored() {
    let (network, _) = rich();
    let mut random = Random::new(11);
    for case in Generator::new(&network, &*invariants::IMAGE, 10).take(20_000) {
        let mut message = case.payload;
        for _ in 0..random.below(4) {
            let place = random.below(message.len());
            match random.below(3) {
                0 => message[place] = random.bits() as u8,
                1 => message.truncate(place.max(1)),
                _ => message.insert(place, *b"\0\x01.\xc0".get(random.below(5)).unwrap_or(&b'x')),
            }
        }
        match case.flow.vip.port() {
            DNS_PORT => invariants::dns_message(&message),
            cdsr::PORT => invariants::cdsr_request(&message),
            other => panic!("a question at port {other}"),
        }
    }
}
