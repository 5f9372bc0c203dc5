//! What kind of answer a client gets from a service that has others than servers: chosen once, before the type or
//! family that is asked for, so that all questions about a name lead the same way (ADR 13).

use crate::decide::{Query, decide as choose};
use crate::table::{SERVICE_PROVIDED, Service, Tables, Target};
use crate::verdict::Verdict;
use crate::wire::Trace;

/// Chooses one target of any kind for a service with [`crate::table::SERVICE_OUTCOMES`]. `None`: the tables contradict
/// themselves. A server says that the choice among servers follows, which is independent of this one.
#[inline(always)]
pub fn decide<T: Tables, const FULL: bool>(
    query: &mut Query,
    service: &Service,
    tables: &T,
    verdict: &mut Verdict,
) -> Option<()> {
    // What clients report of servers says nothing about this choice. The list ends at its first empty place.
    let (excluded, preferred) = (query.excluded[0], query.preferred);
    (query.excluded[0], query.preferred) = (0, 0);
    (query.family, query.want) = (0, 1);
    choose::<T, FULL>(query, tables.service(service.outcomes)?, tables, verdict);
    (query.excluded[0], query.preferred) = (excluded, preferred);
    Some(())
}

/// Number of the service that chooses among servers when `target` was chosen for service `number`: the same, or that of
/// a provider's own servers. Notes on whose account, if the content is a provider's (ADR 16).
#[inline(always)]
pub fn servers(number: u32, service: &Service, target: &Target, verdict: &Verdict, trace: &mut Trace) -> u32 {
    if service.flags & SERVICE_PROVIDED == 0 {
        return number;
    }
    // What stands for agreements and networks has no address.
    if target.ipv4 as u64 | target.ipv6[0] | target.ipv6[1] != 0 {
        return service.outside;
    }
    trace.account = verdict.targets[0];
    number
}
