//! Services that answer some clients with another name or a delegation: what kind of answer it is comes before the type.

use super::{
    AA, Body, DELEGATION, FAST_NAME_SERVERS, NAME, NOERROR, Plan, TC, TRUNCATED, TYPE_DS, Work, find,
};
use crate::outcome;
use crate::table::{NONE, OUTCOME_ADDRESS, OUTCOME_DELEGATION, Service, Tables, Target};
use crate::verdict::Reason;
use crate::verifier::phase;
use crate::wire::{Asked, Scratch};

/// Plans the reply if the client gets a name or a delegation. Else it gets addresses, and the number of the service that
/// chooses them is given; [`NONE`]: it does not. `None`: punt, for the reason noted.
#[inline(always)]
pub(super) fn choose<T: Tables, const FULL: bool>(
    asked: &Asked<'_>,
    service: &Service,
    tables: &T,
    scratch: &mut Scratch,
) -> Option<u32> {
    let Scratch {
        labels,
        query,
        verdict,
        trace,
        proof,
        dns: Work { head, options, plan, codepoint, service: number, .. },
        ..
    } = scratch;
    query.service = *number;
    query.content = find::content::<T, FULL>(tables, labels, *codepoint, service, proof);
    find::for_whom(query, head, options, asked, tables, tables.service(service.outcomes)?.choose_by)?;
    phase();
    outcome::decide::<T, FULL>(query, service, tables, verdict)?;
    phase();
    if verdict.reason.is_punt() {
        trace.verdict(*number, verdict);
        return None;
    }
    if verdict.count == 0 {
        return Some(*number);
    }
    let target = tables.target(verdict.targets[0])?;
    if target.outcome == OUTCOME_ADDRESS {
        return Some(outcome::servers(*number, service, target, verdict, trace));
    }
    trace.outcome(*number, service, verdict);
    let room = head.room(asked) - head.end - head.opt_length(options);
    if target.outcome != OUTCOME_DELEGATION {
        plan.name(room, target);
        return Some(NONE);
    }
    // Referrals and negative answers hold for everybody (RFC 7871 section 7.4).
    options.subnet.scope = 0;
    if head.qtype == TYPE_DS {
        // What a zone says of its child's keys is its own (RFC 4035 section 3.1.4.1): there are none.
        plan.body = find::negative(trace, Reason::NoDataType, NOERROR);
    } else if !FULL && target.servers > FAST_NAME_SERVERS {
        trace.reason = Reason::PuntChoice;
        return None;
    } else {
        plan.delegation(room, target);
    }
    Some(NONE)
}

/// `room` is what the records may take.
impl Plan {
    #[inline(always)]
    fn name(&mut self, room: usize, target: &Target) {
        (self.sections, self.length, self.bits) = ([1, 0, 0], target.length as usize, AA);
        self.body = Body::new(NAME, 0);
        self.truncate(room);
    }

    /// Leaves out addresses that resolvers can find elsewhere if there is no room, and no others (RFC 9471 section 3).
    #[inline(always)]
    fn delegation(&mut self, room: usize, target: &Target) {
        let all = target.length + target.glue_length[0];
        let needed = all as usize > room;
        let (glue, length) = if needed {
            (target.glue[1], target.length + target.glue_length[1])
        } else {
            (target.glue[0], all)
        };
        (self.sections, self.length) = ([0, target.servers as u32, glue as u32], length as usize);
        (self.body, self.bits) = (Body::new(DELEGATION, needed as u32), 0);
        self.truncate(room);
    }

    /// Leaves everything out if it is too long.
    #[inline(always)]
    fn truncate(&mut self, room: usize) {
        if self.length > room {
            (self.sections, self.length, self.bits) = ([0; 3], 0, self.bits | TC);
            self.body = Body::new(TRUNCATED, 0);
        }
    }
}
