//! One decision, made again by the production code.

use crate::front::Datagram;
use crate::front::message::answer;
use crate::front::proof::{Carried, examine};
use crate::front::url::{Url, decide_url};
use crate::journal::{Asked as AskedFor, Decision, Spoken};
use crate::manage::explain::vip_entry;
use crate::manage::view::View;
use redirector_core::decide::{Client, FAST_ENDPOINTS};
use redirector_core::limit::Unlimited;
use redirector_core::lookup::Scheme;
use redirector_core::table::{NONE, SPEAKS_CDSR, SPEAKS_DNS, SPEAKS_HTTP, SPEAKS_RTSP};
use redirector_core::verdict::Reason;
use redirector_core::wire::{Asked, Scratch, dns};
use std::net::SocketAddr;

/// What a decision came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// Number of the service, or [`NONE`].
    pub service: u32,
    /// Number of the first target, or [`NONE`].
    pub target: u32,
    /// Number of the target that tells on whose account, or [`NONE`].
    pub account: u32,
}

impl Outcome {
    fn nobody(reason: Reason) -> Self {
        Self { reason, service: NONE, target: NONE, account: NONE }
    }
}

/// Room for the work.
#[derive(Debug, Default)]
pub(super) struct Asker {
    scratch: Box<Scratch>,
    bytes: Vec<u8>,
}

impl Asker {
    /// What the decision comes to in this view; `None` if it cannot be made again, because the log does not have all of
    /// the question, or there was none.
    pub(super) fn ask(&mut self, view: &View, decision: &Decision) -> Option<Outcome> {
        match &decision.asked {
            AskedFor::Message { bytes, length } => self.message(view, decision, bytes, *length as usize),
            AskedFor::Url(url) => redirected(view, decision, url),
            AskedFor::Nothing => None,
        }
    }

    fn message(&mut self, view: &View, decision: &Decision, bytes: &[u8], length: usize) -> Option<Outcome> {
        let (kind, room, needed) = match decision.spoken {
            Spoken::Dns => (Datagram::Dns, usize::from(dns::UDP_LIMIT), SPEAKS_DNS),
            Spoken::DnsTcp => (Datagram::Dns, dns::MAX_REPLY, SPEAKS_DNS),
            Spoken::Cdsr => (Datagram::Cdsr, usize::from(dns::UDP_LIMIT), SPEAKS_CDSR),
            Spoken::Http | Spoken::Rtsp => return None,
        };
        // What is cut off a request is padding, unless it has an uncommon length.
        let is_whole = bytes.len() == length || (kind == Datagram::Cdsr && holds_request(bytes));
        if !is_whole {
            return None;
        }
        let tables = &view.generation.tables.read();
        let Some(vip) = vip_entry(tables, decision.vip).filter(|vip| vip.speaks & needed != 0) else {
            return Some(Outcome::nobody(Reason::NotVip));
        };
        self.bytes.clear();
        self.bytes.extend(bytes);
        self.bytes.resize(length.max(dns::MAX_REPLY), 0);
        let client = decision.client;
        let asked = Asked { vip: &vip, client: Client::new(client.ip()), port: client.port(), room };
        let given = (&mut self.bytes[..], length);
        answer(
            &view.generation,
            tables,
            kind,
            (&asked, client.ip()),
            &mut Unlimited,
            &mut self.scratch,
            given,
        );
        let Scratch { trace, verdict, .. } = &*self.scratch;
        let chosen = trace.decided && verdict.count > 0;
        Some(Outcome {
            reason: trace.reason,
            service: trace.service,
            target: if chosen { verdict.targets[0] } else { NONE },
            account: if trace.decided { trace.account } else { NONE },
        })
    }
}

/// Whether everything of a request is there but for what it is padded with.
fn holds_request(bytes: &[u8]) -> bool {
    let word =
        |at: usize| bytes.get(at..at + 2).map(|word| usize::from(u16::from_be_bytes([word[0], word[1]])));
    let (Some(url), Some(servers), Some(extensions)) = (word(14), bytes.get(18), word(20)) else {
        return false;
    };
    let servers = usize::from(*servers);
    let header = redirector_core::wire::cdsr::REQUEST_HEADER;
    header + servers * redirector_core::wire::cdsr::SERVER_ENTRY + url + extensions <= bytes.len()
}

fn redirected(view: &View, decision: &Decision, text: &str) -> Option<Outcome> {
    let needed = if decision.spoken == Spoken::Rtsp { SPEAKS_RTSP } else { SPEAKS_HTTP };
    let (scheme, rest) = text.split_once("://")?;
    let known = [Scheme::Http, Scheme::Https, Scheme::Rtsp];
    let scheme = known.into_iter().find(|known| known.name() == scheme)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let url = Url::new(scheme, authority, path)?;
    let tables = &view.generation.tables.read();
    let Some(vip) = vip_entry(tables, decision.vip).filter(|vip| vip.speaks & needed != 0) else {
        return Some(Outcome::nobody(Reason::NotVip));
    };
    let client: SocketAddr = decision.client;
    let decided = decide_url(tables, &vip, client, &url, FAST_ENDPOINTS, |service| {
        let carried = Carried::by_url(url, None, client.ip());
        examine(&view.generation, tables, &vip, service, carried).proof
    });
    Some(match decided {
        Err(error) => Outcome::nobody(error.reason()),
        Ok(decided) => {
            let chosen = decided.verdict.count > 0;
            Outcome {
                reason: decided.verdict.reason,
                service: decided.service,
                target: if chosen { decided.verdict.targets[0] } else { NONE },
                account: if chosen { decided.account } else { NONE },
            }
        }
    })
}
