//! Proofs that come with names and URLs: tags, sealed names, tokens.

use redirector_names::{Key, Purpose, Scope, open, seal, sign_name, sign_url, verify_name, verify_url};
use std::net::IpAddr;
use std::sync::LazyLock;

static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(7, &[7; 32]));
/// What stands behind sealed labels.
const PARENT: &str = "x.cdn.acme.net";
/// Who asks with a token.
const CLIENT: [u8; 4] = [198, 51, 100, 7];
/// Unix time.
const NOW: u64 = 1_700_000_000;

/// Any text as a name with a tag, as a sealed name, and as a token and its URL with a blank between them: what is taken is,
/// but for its case, what is made of what it says.
///
/// # Panics
/// If not.
pub fn proof(text: &[u8]) {
    let _ = taken(text);
}

/// Whether any of it is taken.
pub(crate) fn is_taken(text: &[u8]) -> bool {
    taken(text)
}

fn taken(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let tagged = [Purpose::Grade, Purpose::Access].into_iter().any(|purpose| is_signed(text, purpose));
    tagged | is_sealed(text) | is_token(text)
}

fn is_signed(name: &str, purpose: Purpose) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    let good = |place: &usize| verify_name(|_| Some(&KEY), purpose, &labels, *place, NOW).ok();
    let Some((place, tag)) = (0..labels.len()).find_map(|place| Some((place, good(&place)?))) else {
        return false;
    };
    let mut pattern = labels;
    pattern[place] = "*";
    let again = sign_name(&KEY, purpose, &pattern.join("."), tag.expires);
    assert_eq!(again.as_deref(), Ok(&*name.to_ascii_lowercase()), "another name with this tag");
    true
}

fn is_sealed(name: &str) -> bool {
    let Some(sealed) = name
        .to_ascii_lowercase()
        .strip_suffix(PARENT)
        .and_then(|rest| rest.strip_suffix('.').map(str::to_owned))
    else {
        return false;
    };
    let labels: Vec<&str> = sealed.split('.').collect();
    let Ok(opened) = open(|_| Some(&KEY), &labels, PARENT) else { return false };
    let again = seal(&KEY, &opened.codepoint, PARENT).expect("what was opened");
    assert_eq!(again, name.to_ascii_lowercase(), "another name with this codepoint");
    true
}

fn is_token(text: &str) -> bool {
    let Some((token, url)) = text.split_once(' ') else { return false };
    let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    let client = IpAddr::from(CLIENT);
    let Ok(tag) = verify_url(|_| Some(&KEY), token, (host, path), client, NOW) else { return false };
    // What is not covered may hold anything, and requests with such URLs are refused before.
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return true;
    }
    let network = tag.client.map(|bits| (client, bits.saturating_sub(96)));
    let segments = tag.path.expect("tokens say what they cover");
    let again = sign_url(&KEY, host, path, &Scope { segments, client: network, expires: tag.expires });
    assert_eq!(again.as_deref(), Ok(&*token.to_ascii_lowercase()), "another token with this code");
    true
}

/// What begins the search.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let signed = [
        (Purpose::Grade, "index.*.web.abc.cdn.acme.net", None),
        (Purpose::Access, "*.tv.cdn.acme.net", Some(u32::MAX)),
    ];
    let signed = signed.map(|(purpose, pattern, expires)| sign_name(&KEY, purpose, pattern, expires));
    let sealed = ["index.web.abc", "object-of-many-words.web.a-customer-with-a-name"];
    let sealed = sealed.map(|codepoint| seal(&KEY, codepoint, PARENT));
    let scopes =
        [Scope::default(), Scope { segments: 2, client: Some((CLIENT.into(), 24)), expires: Some(u32::MAX) }];
    let url = ("a.film.cdn.acme.net", "/hd/live/1.ts?q=1");
    let tokens = scopes
        .map(|scope| sign_url(&KEY, url.0, url.1, &scope).map(|token| format!("{token} {}{}", url.0, url.1)));
    let all = signed.into_iter().chain(sealed).chain(tokens);
    all.map(|text| text.expect("can be made").into_bytes()).collect()
}
