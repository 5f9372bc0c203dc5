//! The vectors of docs/names.md hold for this crate, in both directions.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use redirector_names::{
    Key, Purpose, Scope, longest_codepoint, open, seal, sign_name, sign_url, verify_name, verify_url,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

const DOCUMENT: &str = include_str!("../../../docs/names.md");
const PARENT: &str = "x.cdn.acme.net";

fn key() -> Key {
    let start = DOCUMENT.find("The secret is `").unwrap() + "The secret is `".len();
    Key::new(7, &Key::parse_secret(&DOCUMENT[start..start + 64]).unwrap())
}

/// Cells of the rows that begin with `kind`, without their quotes.
fn rows(kind: &str) -> Vec<[String; 3]> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let rows = DOCUMENT.lines().map(cells).filter(|cells| cells.len() == 6 && cells[1] == kind);
    rows.map(|cells| [cells[2].clone(), cells[3].clone(), cells[4].clone()]).collect()
}

fn words(how: &str) -> Vec<&str> {
    how.split(", ").collect()
}

#[test]
fn signed_names_of_the_document_are_made_and_taken() {
    let key = key();
    let rows = rows("sign");
    assert_eq!(rows.len(), 3);
    for [pattern, how, name] in rows {
        let words = words(&how);
        let purpose = if words[0] == "grade" { Purpose::Grade } else { Purpose::Access };
        let expires = words.get(1).map(|at| at.parse().unwrap());
        assert_eq!(sign_name(&key, purpose, &pattern, expires).as_ref(), Ok(&name));
        let capitals = name.to_uppercase();
        let labels: Vec<&str> = capitals.split('.').collect();
        let place = pattern.split('.').position(|label| label == "*").unwrap();
        let tag = verify_name(|_| Some(&key), purpose, &labels, place, 1_999_999_999).unwrap();
        assert_eq!((tag.key, tag.expires), (7, expires));
        assert_eq!(labels[place].len(), if expires.is_some() { 27 } else { 21 });
    }
}

#[test]
fn sealed_names_of_the_document_are_made_and_opened() {
    let key = key();
    let rows = rows("seal");
    assert_eq!(rows.len(), 3);
    for ((labels, room), [codepoint, parent, name]) in [(1, 21), (2, 60), (3, 99)].into_iter().zip(rows) {
        assert_eq!(seal(&key, &codepoint, &parent).as_ref(), Ok(&name));
        let capitals = name.to_uppercase();
        let all: Vec<&str> = capitals.split('.').collect();
        let lengths: Vec<usize> = all[..labels].iter().map(|label| label.len()).collect();
        assert_eq!(lengths, [61, 63, 63][..labels]);
        let opened = open(|_| Some(&key), &all[..labels], &parent).unwrap();
        assert_eq!((opened.key, opened.codepoint), (7, codepoint));
        let longest = "a".repeat(59) + "." + &"b".repeat(39);
        assert!(
            seal(&key, longest[..room].trim_end_matches('.'), PARENT).unwrap().matches('.').count()
                == labels + 3
        );
    }
}

#[test]
fn tokens_of_the_document_are_made_and_taken() {
    let key = key();
    let clients: BTreeMap<&str, &str> =
        [("198.51.100.0/24", "198.51.100.77"), ("2001:db8::/48", "2001:db8:0:ffff::1")].into();
    let rows = rows("token");
    assert_eq!(rows.len(), 3);
    for [url, how, token] in rows {
        let words = words(&how);
        let network = words.get(2).map(|text| {
            let (address, bits) = text.split_once('/').unwrap();
            (address.parse::<IpAddr>().unwrap(), bits.parse().unwrap())
        });
        let expires = words.get(1).map(|at| at.parse().unwrap());
        let scope = Scope { segments: words[0].parse().unwrap(), client: network, expires };
        let (host, path) = url.split_at(url.find('/').unwrap());
        assert_eq!(sign_url(&key, host, path, &scope).as_ref(), Ok(&token));
        let client = words.get(2).map_or("192.0.2.1", |network| clients[network]).parse().unwrap();
        let tag = verify_url(|_| Some(&key), &token, (host, path), client, 0).unwrap();
        assert_eq!((tag.key, tag.path, tag.expires), (7, Some(scope.segments), expires));
    }
}

#[test]
fn lengths_of_the_document_are_those_of_the_code() {
    for (behind, room) in [(63, 99), (64, 60), (127, 60), (128, 21), (191, 21), (192, 0)] {
        assert_eq!(longest_codepoint(&"a".repeat(behind)), room, "{behind} bytes behind the sealed labels");
    }
}
