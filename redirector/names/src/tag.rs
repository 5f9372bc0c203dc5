//! Tags: the text of a proof that somebody with the key has said something.

use crate::error::Rejected;
use crate::key::{Key, Purpose};
use data_encoding::BASE32_DNSSEC;
use hmac::Mac as _;

/// First character of every tag.
pub const MARK: char = 't';
/// Bytes of the authentication code. A forger has no way but to ask: 2^80 names of which one is good, while a box takes
/// some ten thousand a second from the whole world.
pub const MAC: usize = 10;

const VERSION: u8 = 0x10;
const HAS_EXPIRY: u8 = 1;
const HAS_PATH: u8 = 2;
const HAS_CLIENT: u8 = 4;

/// A tag, taken apart. Nothing of it is true before it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Number of the key.
    pub key: u8,
    /// Unix time from which on it is good for nothing.
    pub expires: Option<u32>,
    /// Of a token for URLs: how many leading path segments it covers.
    pub path: Option<u8>,
    /// Of a token for URLs: how many leading bits of the client's IPv6 or IPv4-mapped address it covers.
    pub client: Option<u8>,
    mac: Vec<u8>,
}

impl Tag {
    /// Makes a tag over a text.
    pub(crate) fn make(
        key: &Key,
        purpose: Purpose,
        (expires, path, client): (Option<u32>, Option<u8>, Option<u8>),
        parts: &[&[u8]],
    ) -> String {
        let mut tag = Self { key: key.id(), expires, path, client, mac: Vec::new() };
        let code = tag.code(key, purpose, parts).finalize().into_bytes();
        tag.mac = code[..MAC].to_vec();
        let bytes = [tag.header(), tag.mac].concat();
        format!("{MARK}{}", BASE32_DNSSEC.encode(&bytes))
    }

    /// Reads a tag, in whatever case it came; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix([MARK, MARK.to_ascii_uppercase()])?;
        let bytes = BASE32_DNSSEC.decode(text.as_bytes()).ok()?;
        let (form, rest) = bytes.split_first()?;
        let (key, mut rest) = rest.split_first()?;
        if form & !(HAS_EXPIRY | HAS_PATH | HAS_CLIENT) != VERSION {
            return None;
        }
        let has = |bit: u8| form & bit != 0;
        let mut take = |wanted: bool, len: usize| -> Option<Option<&[u8]>> {
            if !wanted {
                return Some(None);
            }
            let (taken, left) = rest.split_at_checked(len)?;
            rest = left;
            Some(Some(taken))
        };
        let expires = take(has(HAS_EXPIRY), 4)?.and_then(|bytes| bytes.try_into().ok());
        let path = take(has(HAS_PATH), 1)?.map(|bytes| bytes[0]);
        let client = take(has(HAS_CLIENT), 1)?.map(|bytes| bytes[0]);
        (rest.len() == MAC && client.is_none_or(|bits| bits <= 128)).then(|| Self {
            key: *key,
            expires: expires.map(u32::from_be_bytes),
            path,
            client,
            mac: rest.to_vec(),
        })
    }

    /// Whether a key that counts made this tag over the text, and it is not over at Unix time `now`.
    pub(crate) fn check<'k>(
        &self,
        key: impl FnOnce(u8) -> Option<&'k Key>,
        purpose: Purpose,
        parts: &[&[u8]],
        now: u64,
    ) -> Result<(), Rejected> {
        let key = key(self.key).ok_or(Rejected::UnknownKey(self.key))?;
        self.code(key, purpose, parts).verify_truncated_left(&self.mac).map_err(|_| Rejected::Forged)?;
        match self.expires {
            Some(at) if u64::from(at) <= now => Err(Rejected::Expired(at)),
            _ => Ok(()),
        }
    }

    /// Everything before the code. The code covers it, too.
    fn header(&self) -> Vec<u8> {
        let bit = |has: bool, bit: u8| if has { bit } else { 0 };
        let form = VERSION
            | bit(self.expires.is_some(), HAS_EXPIRY)
            | bit(self.path.is_some(), HAS_PATH)
            | bit(self.client.is_some(), HAS_CLIENT);
        let mut header = vec![form, self.key];
        header.extend(self.expires.iter().flat_map(|at| at.to_be_bytes()));
        header.extend(self.path);
        header.extend(self.client);
        header
    }

    fn code(&self, key: &Key, purpose: Purpose, parts: &[&[u8]]) -> hmac::Hmac<sha2::Sha256> {
        let header = self.header();
        let mut all = vec![&header[..]];
        all.extend(parts);
        key.mac(purpose, &all)
    }
}
