//! DNS cookies (RFC 7873) in the form that all servers of an anycast address can compute (RFC 9018).

use super::Refusal;
use super::edns::{Options, VALID_COOKIE, split};
use crate::decide::Client;
use crate::siphash::SipHash;
use crate::table::Tables;
use crate::wire::Message;

/// Version of server cookies, in the upper eight bits of their first word. Three reserved bytes and the time follow.
const VERSION: u64 = 1;
/// Seconds that a cookie holds, and that it may be ahead of our clock (RFC 9018 section 4.3).
const LIFETIME: u32 = 3600;
const AHEAD: u32 = 300;
/// Seconds after which a client gets a new one.
const RENEWAL: u32 = 1800;

/// A fleet's cookie secret: SipHash-2-4 under the fleet's key of `DNS cookie secret 0` and of the same with `1`.
pub fn secret(fleet_key: [u8; 16]) -> [u64; 2] {
    let half = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&fleet_key[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let hash = SipHash::new([half(0), half(8)])
        .word(u64::from_le_bytes(*b"DNS cook"))
        .word(u64::from_le_bytes(*b"ie secre"));
    [b'0', b'1'].map(|digit| hash.finish(u64::from_le_bytes([b't', b' ', digit, 0, 0, 0, 0, 0]), 19))
}

/// Hash of a server cookie (RFC 9018 section 4.4) whose first eight bytes are `stamp`, as it lies in memory; so does
/// the client cookie. The address is the sender's, whatever network it asks for.
#[inline(always)]
fn hash(secret: [u64; 2], client_cookie: u64, stamp: u64, sender: &Client) -> u64 {
    let mut state = SipHash::new(secret).word(u64::from_le(client_cookie)).word(stamp.swap_bytes());
    let hash = if sender.v6 != 0 {
        state = state.word(sender.high.swap_bytes()).word(sender.low.swap_bytes());
        state.finish(0, 32)
    } else {
        state.finish((sender.low as u32).swap_bytes() as u64, 20)
    };
    hash.to_le()
}

/// Reads a cookie option, notes whether its server cookie is a good one of ours, and what cookie the answer carries.
#[inline(always)]
pub(super) fn read<M: Message, T: Tables>(
    message: &M,
    place: u32,
    sender: &Client,
    tables: &T,
    options: &mut Options,
) -> Result<(), Refusal> {
    let (at, size) = split(place);
    // RFC 7873 section 5.2.2.
    if size != 8 && !(16..=40).contains(&size) {
        return Err(Refusal::OPTION);
    }
    let client_cookie = message.load::<u64>(at).ok_or(Refusal::OPTION)?;
    let (mut stamp, mut sent) = (0, 0);
    if size == 24 {
        stamp = u64::from_be(message.load(at + 8).ok_or(Refusal::OPTION)?);
        sent = message.load(at + 16).ok_or(Refusal::OPTION)?;
    }
    let secret = tables.meta().ok_or(Refusal::OPTION)?.cookie_secret;
    let now = tables.unix_seconds();
    let fresh = VERSION << 56 | now as u64;
    // Seconds modulo 2^32 (RFC 9018 section 4.3): the earliest moment of which a cookie is good is 0.
    let moment = (stamp as u32).wrapping_sub(now.wrapping_sub(LIFETIME));
    let timely = stamp >> 56 == VERSION && moment <= LIFETIME + AHEAD;
    let mut word = if timely { stamp } else { fresh };
    let mut known = hash(secret, client_cookie, word, sender);
    let valid = timely && known == sent;
    if timely && (!valid || moment < LIFETIME - RENEWAL) {
        word = fresh;
        known = hash(secret, client_cookie, word, sender);
    }
    options.has |= VALID_COOKIE * valid as u32;
    options.cookie = [client_cookie, word.to_be(), known];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(hex: &str) -> u64 {
        u64::from_str_radix(hex, 16).expect("hexadecimal")
    }

    /// RFC 9018 appendix A: client, client cookie, first and second half of the server cookie, secret.
    #[test]
    fn hashes_are_those_of_rfc_9018() {
        let secrets = [
            ["e5e973e5a6b2a43f", "48e7dc849e37bfcf"],
            ["dd3bdf9344b678b1", "85a6f5cb60fca715"],
            ["445536bcd2513298", "075a5d379663c962"],
        ];
        let six = "2001:db8:220:1:59de:d0f4:8769:82b8";
        for (client, cookie, stamp, want, key) in [
            ("198.51.100.100", "2464c4abcf10c957", "010000005cf79f11", "1f8130c3eee29480", 0),
            ("198.51.100.100", "2464c4abcf10c957", "010000005cf7a871", "d4a564a1442aca77", 0),
            ("203.0.113.203", "fc93fc62807ddb86", "01abcdef5cf78f71", "a314227b6679ebf5", 0),
            ("203.0.113.203", "fc93fc62807ddb86", "010000005cf7a9ac", "f73a7810aca2381e", 0),
            (six, "22681ab97d52c298", "010000005cf7c579", "26556bd0934c72f8", 1),
            (six, "22681ab97d52c298", "010000005cf7c609", "a6bb79d16625507a", 2),
        ] {
            let secret = secrets[key].map(|half| number(half).swap_bytes());
            let client = Client::new(client.parse().expect("an address"));
            let hash = hash(secret, number(cookie).to_be(), number(stamp), &client);
            assert_eq!(hash, number(want).to_be(), "{cookie} {stamp}");
        }
    }

    #[test]
    fn fleets_with_other_keys_have_other_secrets() {
        let [a, b] = [secret([1; 16]), secret([2; 16])];
        assert!(a[0] != a[1] && a[0] != b[0] && a[1] != b[1]);
    }
}
