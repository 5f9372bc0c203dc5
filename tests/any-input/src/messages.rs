//! Messages and frames that clients send to the box.

use crate::made;
use redirector_core::verdict::Reason;
use redirector_core::wire::cdsr;
use redirector_tests::agreement::{Action, FastPath as _, Native};
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::slow::{self, DNS_PORT, Outcome};

pub use redirector_tests::invariants::{cdsr_request, dns_message, frame, url_text};

/// A question put together from the names, types and options of the test network, and then damaged: as any message.
///
/// # Panics
/// As [`dns_message`].
pub fn dns_message_made(choices: &[u8]) {
    dns_message(&made::dns_query(choices));
}

/// A request put together from the URLs and servers of the test network, and then damaged: as any message.
///
/// # Panics
/// As [`cdsr_request`].
pub fn cdsr_request_made(choices: &[u8]) {
    cdsr_request(&made::cdsr_request(choices));
}

fn outcome(message: &[u8], port: u16) -> Option<Outcome> {
    slow::answer(&*IMAGE, &flow(message.len() % 2 == 1, port), message)
}

pub(crate) fn dns_is_answered(message: &[u8]) -> bool {
    // NOERROR and NXDOMAIN, and not errors about the message.
    outcome(message, DNS_PORT)
        .is_some_and(|outcome| outcome.reply().is_some_and(|reply| matches!(reply[3] & 15, 0 | 3)))
}

pub(crate) fn made_dns_is_answered(choices: &[u8]) -> bool {
    dns_is_answered(&made::dns_query(choices))
}

pub(crate) fn cdsr_is_answered(message: &[u8]) -> bool {
    outcome(message, cdsr::PORT).is_some_and(|outcome| {
        outcome.reply().is_some()
            && !matches!(outcome.trace.reason, Reason::CdsrBadRequest | Reason::CdsrBadVersion)
    })
}

pub(crate) fn made_cdsr_is_answered(choices: &[u8]) -> bool {
    cdsr_is_answered(&made::cdsr_request(choices))
}

pub(crate) fn frame_is_answered(bytes: &[u8]) -> bool {
    Native::new(&*IMAGE).run(bytes).0 == Action::Transmit
}
