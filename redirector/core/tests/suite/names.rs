//! Names as labels on the wire, as text and as hashes.

use proptest::prelude::*;
use redirector_core::decide::Client;
use redirector_core::hash::{Keys, Slot, fold_case};
use redirector_core::lookup::{FAST_LABELS, Labels, MAX_LABELS};
use redirector_core::verdict::Reason;
use redirector_core::wire::{Action, Asked, Buffer, Scratch, dns, text};
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::questions::{DnsQuery, rr};
use redirector_tests::slow;

/// What reading a query leaves behind, by the slow or fast path.
fn scratch<const FULL: bool>(message: &[u8]) -> (Action, Scratch) {
    let flow = flow(false, slow::DNS_PORT);
    let vip = slow::vip(&*IMAGE, flow.vip.ip()).expect("a VIP");
    let asked = Asked { vip: &vip, client: Client::new(flow.client.ip()), port: 1, room: 512 };
    let mut bytes = [message, &[0; 512]].concat();
    let mut scratch = Scratch::default();
    let mut buffer = Buffer::new(&mut bytes, message.len());
    (dns::respond::<_, _, FULL>(&mut buffer, &asked, &*IMAGE, &mut scratch), scratch)
}

fn labels_of_wire<const FULL: bool>(name: &str) -> Labels {
    scratch::<FULL>(&DnsQuery::new(name, rr::A).encode()).1.labels
}

fn any_name() -> impl Strategy<Value = String> {
    let label = prop_oneof![4 => "[a-zA-Z0-9_-]{1,20}", 1 => "[!-\\-/-~]{1,63}"];
    prop::collection::vec(label, 1..FAST_LABELS)
        .prop_map(|labels| labels.join("."))
        .prop_filter("255 octets", |name| name.len() <= 253)
}

proptest! {
    #[test]
    fn wire_and_text_of_a_name_have_equal_hashes_and_places(name in any_name()) {
        let keys = IMAGE.meta.keys;
        for labels in [labels_of_wire::<true>(&name), labels_of_wire::<false>(&name)] {
            let mut at = dns::HEADER;
            for (number, label) in name.split('.').enumerate() {
                prop_assert_eq!(labels.hash(number), keys.text(label.as_bytes(), true));
                prop_assert_eq!(usize::from(labels.offsets[number]), at);
                at += 1 + label.len();
            }
        }
    }

    #[test]
    fn host_text_and_wire_of_a_name_have_equal_hashes(name in any_name()) {
        prop_assume!(!name.contains(['/', '?', '@']));
        let mut bytes = [b"http:///", name.as_bytes()].concat();
        let end = bytes.len();
        let mut hashes = Vec::new();
        let cut = text::Cut { start: 8, end, limit: MAX_LABELS };
        let note = |_, _, hash| hashes.push(hash);
        let message = Buffer::new(&mut bytes, end);
        let scan = text::host::<_, 256>(&message, &IMAGE.meta.keys, cut, note).expect("within the message");
        prop_assert!(!scan.bad && !scan.more);
        prop_assert_eq!(&hashes[..], &labels_of_wire::<true>(&name).hashes[..scan.count]);
    }

    #[test]
    fn hashes_ignore_the_case_of_ascii_letters_and_nothing_else(text: Vec<u8>, place: usize, bit in 0u32..8) {
        let keys = Keys::new(*b"0123456789abcdef");
        prop_assert_eq!(keys.text(&text, true), keys.text(&text.to_ascii_uppercase(), true));
        prop_assert_eq!(keys.text(&text.to_ascii_lowercase(), false), keys.text(&text, true));
        if !text.is_empty() {
            let mut other = text.clone();
            other[place % text.len()] ^= 1 << bit;
            let equal = other.eq_ignore_ascii_case(&text);
            prop_assert_eq!(keys.text(&other, true) == keys.text(&text, true), equal);
        }
    }

    #[test]
    fn eight_bytes_are_folded_like_each_of_them(bytes: [u8; 8]) {
        prop_assert_eq!(fold_case(u64::from_le_bytes(bytes)).to_le_bytes().to_vec(), bytes.to_ascii_lowercase());
    }

    #[test]
    fn slots_depend_on_order_space_and_owner(a: u64, b: u64, space in 0u32..9, owner: u32) {
        prop_assume!(a != b);
        let keys = Keys::new(*b"0123456789abcdef");
        let start = Slot::start(&keys, space, owner);
        let slot = start.push(&keys, a).push(&keys, b);
        prop_assert_ne!(slot, start.push(&keys, b).push(&keys, a));
        prop_assert_ne!(slot, Slot::start(&keys, space + 1, owner).push(&keys, a).push(&keys, b));
        prop_assert_ne!(slot, Slot::start(&keys, space, owner ^ 1).push(&keys, a).push(&keys, b));
        prop_assert_ne!(slot.fingerprint, 0);
    }
}

#[test]
fn longest_names_are_read_and_longer_ones_refused() {
    let label = "a".repeat(63);
    let longest = [&*label, &label, &label, &"b".repeat(61)].join(".");
    let longer = [&*label, &label, &label, &"b".repeat(62)].join(".");
    let most_labels = ["c"; 127].join(".");
    for (name, want) in [
        (&longest, Reason::NotOurZone),
        (&longer, Reason::DnsFormErr),
        (&most_labels, Reason::NotOurZone),
        (&format!("{most_labels}.c"), Reason::DnsFormErr),
    ] {
        let (action, scratch) = scratch::<true>(&DnsQuery::new(name, rr::A).encode());
        assert_eq!((action, scratch.trace.reason), (Action::Reply, want), "{} bytes", name.len());
    }
}

/// What the slow path makes of a question, once the fast path is found to make the same of it or to leave it.
fn both(message: &[u8]) -> (Reason, bool) {
    let ((slow, all), (fast, some)) = (scratch::<true>(message), scratch::<false>(message));
    if fast != Action::Punt {
        assert_eq!(
            (fast, some.trace.reason, some.verdict),
            (slow, all.trace.reason, all.verdict),
            "{message:02x?}"
        );
    }
    (all.trace.reason, fast != Action::Punt)
}

#[test]
fn a_suffix_is_found_at_a_names_end_and_nowhere_else() {
    let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join(".");
    for (name, reason, fast) in [
        ("x.web.abc.cdn.acme.net", Reason::FirstTier, true),
        ("x.web.abc.CDN.Acme.nEt", Reason::FirstTier, true),
        // The suffix, or its first label, further to the left as well.
        ("cdn.web.cdn.cdn.acme.net", Reason::FirstTier, true),
        ("cdn.acme.net.web.abc.cdn.acme.net", Reason::NxDomain, true),
        ("x.web.abc.cdn.acme.net.org", Reason::NotOurZone, false),
        ("x.web.abc.xcdn.acme.net", Reason::NotOurZone, false),
        ("cdn.acme.net", Reason::FirstTier, true),
        (&format!("{long}.cdn.acme.net"), Reason::NxDomain, true),
    ] {
        assert_eq!(both(&DnsQuery::new(name, rr::A).encode()), (reason, fast), "{name}");
    }
}

#[test]
fn bytes_that_look_like_a_suffix_within_a_label_are_none() {
    let question =
        |name: &[u8]| [&DnsQuery::new("x", rr::A).encode()[..dns::HEADER], name, &[0, 1, 0, 1]].concat();
    // One label of 18 bytes that ends in the suffix as it would stand behind five others; then with what follows it.
    let hidden = question(b"\x12webxx\x03cdn\x04acme\x03net\0");
    assert_eq!(both(&hidden).0, Reason::NotOurZone);
    // A zero within a label, behind which the suffix follows.
    let zero = question(b"\x05ab\0cd\x03web\x03abc\x03cdn\x04acme\x03net\0");
    assert_eq!(both(&zero).0, Reason::FirstTier);
    // The suffix before such a zero, and the name goes on.
    let earlier = question(b"\x12web\x03cdn\x04acme\x03net\0z\x03web\x03abc\x03cdn\x04acme\x03net\0");
    assert_eq!(both(&earlier).0, Reason::FirstTier);
}

#[test]
fn names_of_more_labels_than_the_fast_path_takes_are_punted() {
    // Of the suffix that most names end in, labels do not count.
    for (suffix, most) in [("cdn.acme.net", FAST_LABELS), ("deep.acme.net", FAST_LABELS - 3)] {
        for (labels, want) in
            [(most, (Action::Reply, Reason::NxDomain)), (most + 1, (Action::Punt, Reason::PuntLabels))]
        {
            let name = format!("{}.{suffix}", vec!["x"; labels].join("."));
            let (action, scratch) = scratch::<false>(&DnsQuery::new(&name, rr::A).encode());
            assert_eq!((action, scratch.trace.reason), want, "{labels} labels beneath {suffix}");
        }
    }
}
