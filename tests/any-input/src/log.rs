//! The decision log: files that may be cut off, damaged, or something else.

use redirector::journal::{
    Asked, Cause, Chosen, Damage, Decision, Entry, Kind, PathTaken, Reader, Shown, Spoken, written,
};
use redirector_core::table::NONE;
use redirector_core::verdict::Reason;

/// What a file holds, with the names that were told, up to its end or the first damage.
fn read(bytes: &[u8]) -> (Vec<Entry>, Option<Damage>) {
    let (mut reader, mut entries) = (Reader::new(bytes), Vec::new());
    loop {
        match reader.next().expect("bytes can be read") {
            None => return (entries, None),
            Some(Err(damage)) => return (entries, Some(damage)),
            Some(Ok(entry)) => {
                if let Entry::Decision(decision) = &entry {
                    let shown = Shown::of(decision, reader.names());
                    let line = shown.to_string();
                    assert!(
                        !line.contains(['\n', '\x1b']),
                        "one line, that does nothing to a terminal: {line:?}"
                    );
                    serde_json::to_string(&shown).expect("JSON");
                }
                entries.push(entry);
            }
        }
    }
}

/// Any bytes as a file of the decision log: read up to the first damage, which lies within the file; what was read is
/// the same when it is written and read again.
///
/// # Panics
/// If not.
pub fn decision_log(bytes: &[u8]) {
    let (entries, damage) = read(bytes);
    if let Some(damage) = &damage {
        assert!(damage.offset <= bytes.len() as u64 && !damage.what.is_empty(), "{damage}");
        // What stands before it is a whole file, unless there is nothing.
        let before = &bytes[..damage.offset as usize];
        assert!(before.is_empty() || read(before) == (entries.clone(), None));
    }
    assert_eq!(read(&written(&entries)), (entries, None));
}

pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    read(bytes).1.is_none()
}

/// Files of some entries of each kind.
pub(crate) fn seeds(messages: impl Iterator<Item = (Spoken, Vec<u8>)>) -> Vec<Vec<u8>> {
    let client = "[2001:db8::7]:40000".parse().expect("an address");
    let vip = "203.0.113.1".parse().expect("an address");
    let mut chosen = Chosen { vip: 1, service: 2, region: 3, account: NONE, ..Chosen::default() };
    (chosen.count, chosen.targets[0]) = (1, 4);
    let decision = |(spoken, bytes): (Spoken, Vec<u8>)| Decision {
        time: 1_900_000_000_000_000,
        generation: 7,
        epoch: 3,
        one_in: 1000,
        path: PathTaken::Fast,
        spoken,
        reason: Reason::FirstTier,
        client,
        vip,
        asked: Asked::Message { length: bytes.len() as u32, bytes: bytes.into() },
        chosen,
    };
    let begin = Entry::Begin { time: 1_900_000_000_000_000, box_name: "fra1-r1".into() };
    let name = |kind, slot, name: &str| Entry::Name { kind, slot, name: name.into() };
    let mut files = vec![written(&[
        begin.clone(),
        name(Kind::Target, 4, "fra-web-1"),
        Entry::Health { time: 1_900_000_000_000_001, target: 4, up: false, factor: 128 },
        Entry::Lost { time: 1_900_000_000_000_002, cause: Cause::Ring, count: 12 },
    ])];
    for message in messages {
        let fast = decision(message);
        let url = Asked::Url("http://abc.cdn.acme.net/a?b".into());
        let slow = Decision { path: PathTaken::Slow, spoken: Spoken::Http, asked: url, ..fast.clone() };
        let nothing = Decision { asked: Asked::Nothing, chosen: Chosen::default(), ..slow.clone() };
        files.push(written(&[
            begin.clone(),
            name(Kind::Vip, 1, "acme"),
            name(Kind::Service, 2, "web"),
            Entry::Decision(fast),
            Entry::Decision(slow),
            Entry::Decision(nothing),
        ]));
    }
    files
}
