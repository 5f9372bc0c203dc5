//! Services that keep their last good state because what is written now has errors.

use super::index::Index;
use super::network::References;
use super::read::Section;
use redirector_plan::model::{Network, Service, UrlRule};

/// The last good state of a service and its URL rules, in terms of the network that is being read. `None` if there is
/// none; what it needs and the network no longer has is reported.
pub(super) fn last_good(
    last: &Network,
    name: &str,
    section: &Section<'_>,
    references: &References<'_>,
) -> Option<(Service, Vec<UrlRule>)> {
    let number = last.services.iter().position(|service| service.name == name)?;
    let service = &last.services[number];
    // Some may be those of a provider's part of it.
    let of = |rule: &&UrlRule| match last.peering.provided(rule.service) {
        Some(provided) => provided.written == number,
        None => rule.service == number,
    };
    let urls = last.urls.iter().filter(of).cloned().collect();
    let need = |kind: &str, needed: &str, found: Option<usize>| {
        if found.is_none() {
            let message =
                format!("`{name}` has errors and cannot stay as it was: it needs {kind} `{needed}`");
            section.place.error(message, format!("mend the service, or keep the {kind} until it is mended"));
        }
        found
    };
    let find = |kind: &str, needed: &str, index: &Index| need(kind, needed, index.find(needed));
    let cdn = &last.cdns[service.cdn];
    let cdn = need("network", cdn, references.cdns.iter().position(|known| known == cdn));
    let coverage = find("coverage", &last.coverages[service.coverage].name, references.coverages);
    let fallback: Vec<Option<usize>> = (service.fallback.iter())
        .map(|target| find("target", &last.targets[*target].name, references.targets))
        .collect();
    let fallback = fallback.into_iter().collect::<Option<Vec<_>>>();
    Some((Service { cdn: cdn?, coverage: coverage?, fallback: fallback?, ..service.clone() }, urls))
}
