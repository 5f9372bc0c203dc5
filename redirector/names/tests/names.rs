//! What holds of any name: what was made is taken, and nothing else is.

use proptest::prelude::*;
use redirector_names::{
    Key, NameError, Purpose, Rejected, Scope, Tag, is_part, open, seal, sign_name, sign_url, verify_name,
    verify_url,
};
use std::net::IpAddr;

const SUFFIX: &str = "cdn.acme.net";

fn key(id: u8) -> Key {
    Key::new(id, &[id; 32])
}

fn codepoint() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..4)
}

fn verify(key: &Key, name: &str, place: usize, now: u64) -> Result<Tag, Rejected> {
    let labels: Vec<&str> = name.split('.').collect();
    verify_name(|id| (id == key.id()).then_some(key), Purpose::Grade, &labels, place, now)
}

proptest! {
    #[test]
    fn a_signed_name_is_good_in_any_case_until_it_ends(labels in codepoint(), place in 0usize..4, end in 1u32..) {
        let place = place.min(labels.len());
        let mut pattern = labels;
        pattern.insert(place, "*".to_owned());
        let pattern = format!("{}.{SUFFIX}", pattern.join("."));
        let name = sign_name(&key(1), Purpose::Grade, &pattern, Some(end)).unwrap();
        for name in [name.clone(), name.to_uppercase()] {
            prop_assert!(verify(&key(1), &name, place, u64::from(end) - 1).is_ok());
            prop_assert_eq!(verify(&key(1), &name, place, end.into()), Err(Rejected::Expired(end)));
        }
        prop_assert_eq!(verify(&key(2), &name, place, 0), Err(Rejected::UnknownKey(1)));
    }

    #[test]
    fn a_name_with_any_character_changed_is_bad(labels in codepoint(), at in any::<prop::sample::Index>(), to in "[a-z0-9.]") {
        let name = sign_name(&key(1), Purpose::Grade, &format!("*.{}.{SUFFIX}", labels.join(".")), None).unwrap();
        let at = at.index(name.len());
        prop_assume!(!name[at..=at].eq_ignore_ascii_case(&to));
        let mut other = name.clone();
        other.replace_range(at..=at, &to);
        prop_assert!(verify(&key(1), &other, 0, 0).is_err(), "{name} and {other}");
    }

    #[test]
    fn a_tag_does_not_move_to_another_place(labels in codepoint()) {
        let name = sign_name(&key(1), Purpose::Grade, &format!("*.{}.{SUFFIX}", labels.join(".")), None).unwrap();
        let mut moved: Vec<&str> = name.split('.').collect();
        moved.swap(0, 1);
        prop_assert_eq!(verify(&key(1), &moved.join("."), 1, 0), Err(Rejected::Forged));
    }

    #[test]
    fn what_is_sealed_is_opened_in_any_case_and_under_its_own_suffix_alone(labels in codepoint()) {
        let text = labels.join(".").to_ascii_lowercase();
        let name = seal(&key(3), &text, &format!("x.{SUFFIX}")).unwrap();
        prop_assert!(name.len() <= 253 && name.split('.').all(|label| label.len() <= 63));
        let capitals = name.to_uppercase();
        let all: Vec<&str> = capitals.split('.').collect();
        let sealed = &all[..all.len() - 4];
        prop_assert!(!is_part(sealed[0]) && sealed[1..].iter().all(|label| is_part(label)));
        let with = key(3);
        let opened = open(|_| Some(&with), sealed, &format!("X.{SUFFIX}")).unwrap();
        prop_assert_eq!(opened.codepoint, text);
        prop_assert_eq!(open(|_| Some(&with), sealed, "y.cdn.acme.net"), Err(Rejected::Forged));
        let other = key(4);
        prop_assert_eq!(open(|_| Some(&other), sealed, "x.cdn.acme.net"), Err(Rejected::Forged));
    }

    #[test]
    fn a_token_is_good_beneath_its_path_for_its_network_alone(segments in 0u8..3, last in any::<u8>(), other in any::<u8>()) {
        let scope = Scope { segments, client: Some(("198.51.100.0".parse().unwrap(), 24)), expires: None };
        let token = sign_url(&key(1), "TV.acme.net", "/live/hd/1.ts", &scope).unwrap();
        let with = key(1);
        let check = |path: &str, client: [u8; 4]| {
            verify_url(|_| Some(&with), &token, ("tv.acme.net", path), IpAddr::from(client), 0).is_ok()
        };
        let inside = [198, 51, 100, last];
        prop_assert!(check("/live/hd/2.ts", inside) && check("/live/hd/2.ts?q=1", inside));
        prop_assert_eq!(check("/live/sd/2.ts", inside), segments < 2);
        prop_assert_eq!(check("/vod/hd/1.ts", inside), segments < 1);
        prop_assert_eq!(check("/live/hd/1.ts", [198, 51, other, last]), other == 100);
    }

    #[test]
    fn any_text_as_tag_or_sealed_name_is_refused(text in "\\PC{0,70}") {
        let with = key(1);
        let refused = verify(&with, &format!("{text}.{SUFFIX}"), 0, 0).is_err();
        prop_assert!(refused);
        prop_assert!(open(|_| Some(&with), &[&text], SUFFIX).is_err());
    }
}

#[test]
fn what_cannot_be_a_name_is_not_made() {
    let sign = |name: &str| sign_name(&key(1), Purpose::Grade, name, None);
    assert_eq!(sign("a.b.net"), Err(NameError::Place));
    assert_eq!(sign("*.*.net"), Err(NameError::Place));
    for name in ["*..net", "*.a b.net", "*.é.net"] {
        assert!(matches!(sign(name), Err(NameError::Name(_))), "{name}");
    }
    assert!(matches!(sign(&format!("*.{}", ["abcdefghi"; 24].join("."))), Err(NameError::Name(_))));
    assert_eq!(seal(&key(1), "a.".repeat(50).trim_end_matches('.'), SUFFIX).map(|_| ()), Ok(()));
    assert_eq!(
        seal(&key(1), &["abcdefghi"; 10].join("."), &["abcdefghi"; 8].join(".")),
        Err(NameError::TooLong { bytes: 99, room: 60 })
    );
}

/// A label may hold any byte on the wire: one with a dot in it must not pass for two.
#[test]
fn labels_with_dots_are_not_covered_as_two() {
    let name = sign_name(&key(1), Purpose::Grade, "*.a.b.net", None).unwrap();
    let tag = name.split('.').next().unwrap();
    let with = key(1);
    assert!(verify_name(|_| Some(&with), Purpose::Grade, &[tag, "a", "b", "net"], 0, 0).is_ok());
    assert_eq!(
        verify_name(|_| Some(&with), Purpose::Grade, &[tag, "a.b", "net"], 0, 0),
        Err(Rejected::Malformed)
    );
}
