//! What an explanation lists: who could serve and what became of each, on whose account, what operators say, and who won.

use super::explain::{AccountReport, CandidateReport, Question, Winner};
use super::load::LoadReport;
use super::view::View;
use crate::state::agreements::RUN_TIME;
use crate::state::facts::FULL;
use crate::state::forces::{self, Force};
use redirector_core::table::{NONE, SERVICE_DNS_VIP, Tables};
use redirector_core::verdict::{Reason, Verdict};
use redirector_core::wire::Trace;
use redirector_plan::explain::{Account, AccountRemoval, Removal, accounts, candidates, fallback_candidates};
use redirector_plan::model::{Outcome, Region};
use redirector_plan::shares::Kind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What operators say of the client's region, the VIP and the box.
pub(super) fn states(
    view: &View,
    region: Option<&Region>,
    vip: Option<&redirector_plan::model::Vip>,
) -> Vec<String> {
    let name = view.generation.config.network.box_name.as_str();
    let parts = [
        (forces::Kind::Region, region.map(|region| region.name.as_str())),
        (forces::Kind::Vip, vip.map(|vip| vip.name.as_str())),
        (forces::Kind::Box, Some(name)),
    ];
    let said = |(kind, name): (forces::Kind, Option<&str>)| {
        Some(format!("{kind} {} is {}", name?, view.forces.over(kind, name?)?))
    };
    parts.into_iter().filter_map(said).collect()
}

/// The region number as whose clients those of another one are served; `None`: no tier serves them.
fn served_as(view: &View, region: u32) -> Option<u32> {
    let name = view.generation.region(region).map(|region| region.name.as_str());
    match name.and_then(|name| view.forces.over(forces::Kind::Region, name)).map(|said| said.force) {
        Some(Force::Drained) => Some(view.generation.compiled.elsewhere(region).unwrap_or(0)),
        Some(Force::Down) => None,
        Some(Force::Up) | None => Some(region),
    }
}

/// Whom the answer is for: the first address of the network that is asked for, else who asks.
pub(super) fn served(question: &Question) -> IpAddr {
    let network = question.ecs.filter(|network| network.prefix_len() > 0);
    network.map_or(question.client, |network| network.network())
}

/// The longest prefix of a region that covers the client.
pub(super) fn prefix(region: &Region, client: IpAddr) -> Option<String> {
    let covering = region.prefixes.iter().filter(|prefix| prefix.contains(&client));
    covering.max_by_key(|prefix| prefix.prefix_len()).map(ToString::to_string)
}

/// On whose account a provider's content can be served; `first` is the target that was answered with.
pub(super) fn account_reports(
    view: &View,
    trace: &Trace,
    first: Option<u32>,
    region: u32,
) -> Vec<AccountReport> {
    let generation = &view.generation;
    let network = &generation.config.network;
    let region = served_as(view, region).unwrap_or(region);
    let found = accounts(&generation.compiled, trace.service as usize, region, &view.states());
    let report = |account: Account| {
        let target = network.targets.get(account.target)?;
        let fact = view.facts.get(account.target);
        let lapse = fact.and_then(|fact| fact.last_error.clone());
        let part = fact.filter(|fact| fact.up && (1..FULL).contains(&fact.factor));
        let note = match (account.removed, part) {
            (Some(AccountRemoval::Lapsed), _) => lapse,
            (Some(removed), _) => Some(removed.to_string()),
            (None, Some(fact)) => Some(format!("full: takes {}/256", fact.factor)),
            (None, None) => None,
        };
        let number = account.target as u32;
        Some(AccountReport {
            target: target.name.clone(),
            origin: target.origin.clone(),
            share: account.share,
            note,
            chosen: trace.account == number || first == Some(number),
        })
    };
    found.into_iter().filter_map(report).collect()
}

pub(super) fn candidate_reports(view: &View, trace: &Trace, region: u32, kind: Kind) -> Vec<CandidateReport> {
    let generation = &view.generation;
    let (network, compiled) = (&generation.config.network, &generation.compiled);
    let (number, Some(service)) = (trace.service as usize, network.services.get(trace.service as usize))
    else {
        return Vec::new();
    };
    let answered_with_vip =
        compiled.image.services.get(number).is_some_and(|record| record.flags & SERVICE_DNS_VIP != 0);
    if answered_with_vip && !trace.decided || trace.reason == Reason::Foreign {
        return Vec::new();
    }
    let states = view.states();
    let region = served_as(view, region);
    let tiers = region.map(|region| candidates(compiled, network, service.coverage, region, kind, &states));
    let tiers = tiers.unwrap_or_default();
    let region = region.unwrap_or(NONE);
    let fallback = fallback_candidates(compiled, network, number, region, kind, &states);
    let forced = |target: usize| Some(view.facts.get(target)?.force.as_ref()?.to_string());
    let load_of = |target: usize, terms: Option<u8>| {
        let terms = terms.and_then(|terms| compiled.terms.get(terms as usize));
        LoadReport::new(view.facts.get(target)?, terms)
    };
    let report = |candidate: redirector_plan::explain::Candidate, tier: Option<u8>| CandidateReport {
        tier,
        origin: candidate.tier_origin,
        target: candidate.name,
        pools: candidate.pools,
        share: candidate.share,
        up: candidate.up,
        factor: candidate.factor,
        round_trip_ms: candidate.round_trip.map(|micros| f64::from(micros) / 1000.0),
        removed: candidate.removed.map(|removal| match forced(candidate.target) {
            Some(said) if removal == Removal::Down => said,
            _ => removal.to_string(),
        }),
        load: load_of(candidate.target, candidate.terms),
        doubted: view.facts.get(candidate.target).and_then(|fact| Some(fact.doubt.as_ref()?.to_string())),
        tier_part: candidate.tier_part,
        forced: forced(candidate.target),
    };
    let tiers = tiers.into_iter().map(|candidate| {
        let tier = candidate.tier;
        report(candidate, Some(tier))
    });
    tiers.chain(fallback.into_iter().map(|candidate| report(candidate, None))).collect()
}

pub(super) fn winners(view: &View, verdict: &Verdict, v6: bool) -> Vec<Winner> {
    let (network, tables) = (&view.generation.config.network, view.generation.tables.read());
    let chosen = verdict.targets.iter().take(verdict.count as usize);
    chosen
        .filter_map(|number| Some((network.targets.get(*number as usize)?, tables.target(*number)?)))
        .map(|(target, record)| {
            // Of the tables, because that is what is answered.
            let v4 = IpAddr::V4(Ipv4Addr::from(record.ipv4.to_ne_bytes()));
            let [high, low] = record.ipv6.map(u64::to_ne_bytes);
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&high);
            octets[8..].copy_from_slice(&low);
            let address = if v6 { IpAddr::V6(Ipv6Addr::from(octets)) } else { v4 };
            let address = Some(address).filter(|address| !address.is_unspecified());
            let outcome = (target.outcome != Outcome::Server).then(|| target.outcome.to_string());
            Winner { target: target.name.clone(), site: target.site.clone(), address, outcome }
        })
        .collect()
}

/// Which input won over another one, for everything that the answer depends on: API over file, and what operators say over
/// all (P-35).
pub(super) fn inputs(view: &View, candidates: &[CandidateReport], accounts: &[AccountReport]) -> Vec<String> {
    let mut inputs = Vec::new();
    for fact in &view.facts {
        if !candidates.iter().any(|candidate| candidate.target == fact.name) {
            continue;
        }
        if let Some(said) = &fact.force {
            let checks = match (&fact.subject, fact.up) {
                (None, _) => "it has no check",
                (Some(_), true) => "its checks say up",
                (Some(_), false) => "its checks say down",
            };
            inputs.push(format!("target {} is {said}, over everything else ({checks})", fact.name));
        } else if fact.factor != FULL {
            inputs.push(format!(
                "target {} has load factor {}/256 of run time, over the file until its next reload",
                fact.name, fact.factor
            ));
        }
    }
    for account in accounts {
        // The account of one provider under an agreement.
        let named = account.target.strip_prefix("agreement:").and_then(|rest| rest.rsplit_once('@'));
        let Some((name, _)) = named.filter(|(name, _)| view.book.is_decided(name)) else { continue };
        inputs.push(match account.origin.file.as_str() {
            RUN_TIME => format!("agreement {name} was made at run time"),
            _ => format!("agreement {name} is as decided at run time, over the file ({})", account.origin),
        });
    }
    inputs
}
