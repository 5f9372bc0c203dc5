//! What the slow path alone does with requests: proofs that were examined, URLs that fit no rule, extensions.

use super::{Located, SCOPE_URL, Status, Step, Stop, UrlPlace, content};
use crate::table::{
    CHOOSE_CONTENT, ILL_FORMED_ABSENT, ILL_FORMED_EMPTY, ILL_FORMED_REFUSED, ILL_FORMED_SERVICE,
    SERVICE_PROOF, Tables, Zone,
};
use crate::verdict::Reason;
use crate::wire::{ADMITTED, EMPTY, Message, PARTIAL, Proof, REFUSED, Trace};

/// Puts into the place of a service that asks for a proof what that came to. The answer holds for this URL alone then, and
/// tells of no others. Slow path only.
pub(super) fn admit<T: Tables>(
    tables: &T,
    proof: &Proof,
    located: &mut Located,
    trace: &mut Trace,
) -> Step<()> {
    if tables.service(located.service).ok_or(Stop::TABLE)?.flags & SERVICE_PROOF == 0 {
        return Ok(());
    }
    trace.service = located.service;
    match proof.outcome {
        ADMITTED => {}
        REFUSED => {
            return Err(Stop { reason: Reason::Denied, status: Some(Status::Denied), ..Stop::PROOF });
        }
        EMPTY | PARTIAL => return Err(Stop { reason: Reason::Denied, ..Stop::NOT_MINE }),
        _ => return Err(Stop::PROOF),
    }
    (located.service, located.content) = (proof.service, proof.content);
    (located.scope, located.prefix, located.suffix) = (SCOPE_URL, 0, 0);
    Ok(())
}

/// A URL that fits no rule beneath its host's suffix. Slow path only.
pub(super) fn ill_formed<M: Message, T: Tables>(
    zone: &Zone,
    message: &M,
    place: &UrlPlace,
    tables: &T,
    located: &mut Located,
) -> Step<()> {
    match zone.ill_formed {
        ILL_FORMED_ABSENT => return Err(Stop::NOT_MINE),
        ILL_FORMED_REFUSED => {
            return Err(Stop { reason: Reason::IllFormed, status: Some(Status::Denied), ..Stop::NOT_MINE });
        }
        ILL_FORMED_EMPTY => return Err(Stop { reason: Reason::IllFormed, ..Stop::NOT_MINE }),
        number => located.service = number - ILL_FORMED_SERVICE,
    }
    (located.scope, located.prefix, located.suffix, located.content) = (SCOPE_URL, 0, 0, 0);
    if tables.service(located.service).ok_or(Stop::TABLE)?.choose_by == CHOOSE_CONTENT {
        located.content = url_hash(message, place, tables).ok_or(Stop::LONG)?;
    }
    Ok(())
}

/// Type and value of each extension of a request that has been read, whose URL ends at `end`.
pub fn extensions(request: &[u8], end: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let length = request.get(20..22).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes);
    let mut rest = request.get(end..end + length as usize).unwrap_or_default();
    core::iter::from_fn(move || {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let length = u16::from_be_bytes([head[2], head[3]]);
        let (value, tail) = tail.split_at_checked(length.into())?;
        rest = tail;
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    })
}

/// Hash of a URL that lies in a message, as services know it that choose by content; `None` if it is none.
pub fn url_hash<M: Message, T: Tables>(message: &M, place: &UrlPlace, tables: &T) -> Option<u64> {
    content::<M, true>(message, &tables.meta()?.keys, place).ok()
}
