//! What kind of answer a client gets from a service that has others than servers: chosen once, before the type or
//! family that is asked for, so that all questions about a name lead the same way (ADR 13).

use crate::decide::{Query, decide as choose};
use crate::table::{Service, Tables};
use crate::verdict::Verdict;

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
