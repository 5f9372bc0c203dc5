//! Keys: one secret, and a key of its own for each purpose.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;

/// Bytes of a secret.
pub const SECRET: usize = 32;

/// What a tag is made for. One that was made for another purpose is forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The name's grade: what its labels say is true (P-10).
    Grade,
    /// Access to a service (P-15).
    Access,
}

/// A key with its number, which tags and sealed names carry.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: u8,
    grade: [u8; 32],
    access: [u8; 32],
    pub(crate) seal: [u8; 32],
}

/// Without what is secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    /// Number `id` with a secret of random bytes.
    pub fn new(id: u8, secret: &[u8; SECRET]) -> Self {
        let derive = |purpose: &str| hash(secret, &[purpose.as_bytes()]).finalize().into_bytes().into();
        Self {
            id,
            grade: derive("redirector-names 1 grade"),
            access: derive("redirector-names 1 access"),
            seal: derive("redirector-names 1 seal"),
        }
    }

    /// A secret as key files have it: 64 hexadecimal digits, blanks around them.
    pub fn parse_secret(text: &str) -> Option<[u8; SECRET]> {
        let text = text.trim_ascii();
        let digits = text.len() == 2 * SECRET && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
        let mut secret = [0; SECRET];
        for (at, place) in secret.iter_mut().enumerate().filter(|_| digits) {
            *place = byte(at)?;
        }
        digits.then_some(secret)
    }

    /// Its number.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// HMAC-SHA256 (RFC 2104, FIPS 180-4) of the parts one behind the other.
    pub(crate) fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> Hmac<Sha256> {
        match purpose {
            Purpose::Grade => hash(&self.grade, parts),
            Purpose::Access => hash(&self.access, parts),
        }
    }
}

fn hash(key: &[u8; 32], parts: &[&[u8]]) -> Hmac<Sha256> {
    // A key is filled up to a block with zeros.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut hash = Hmac::<Sha256>::new(&block.into());
    parts.iter().for_each(|part| hash.update(part));
    hash
}
