//! The chain of those who decide, in its order, each stage with what it came to and why (P-35).

use super::explain::{AccountReport, Explanation, Protocol};
use redirector_plan::model::Origin;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One stage of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `authorisation`, `agreement`, `network share`, `site`, `target` or `answer`.
    pub stage: String,
    /// What it came to.
    pub outcome: String,
    /// Why.
    pub why: String,
    /// Where what decided was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14} {}: {}", self.stage, self.outcome, self.why)?;
        self.origin
            .iter()
            .filter(|origin| !origin.file.is_empty())
            .try_for_each(|origin| write!(f, "  ({origin})"))
    }
}

/// What an explanation does not say, and its chain depends on.
pub(super) struct Chain {
    /// The rule asks for a proof.
    pub(super) asks_for_proof: bool,
    /// The answer is the VIP's own address: clients are redirected there.
    pub(super) is_vip: bool,
    /// A choice of targets was made.
    pub(super) decided: bool,
}

/// The stages that an answer went through.
pub(super) fn steps(told: &Explanation, chain: &Chain) -> Vec<Step> {
    let mut steps = vec![authorisation(told, chain)];
    if told.service.is_some() && told.reason != "denied" {
        steps.push(agreement(told));
        steps.push(network_share(told));
        if !chain.is_vip {
            steps.push(site(told));
            steps.push(target(told, chain));
        }
    }
    steps.push(answer(told));
    steps
}

fn step(stage: &str, outcome: impl Into<String>, why: impl Into<String>, origin: Option<&Origin>) -> Step {
    Step { stage: stage.to_owned(), outcome: outcome.into(), why: why.into(), origin: origin.cloned() }
}

/// P-15, P-10.
fn authorisation(told: &Explanation, chain: &Chain) -> Step {
    let rule = told.rule.as_ref().map(|rule| &rule.origin);
    match told.service {
        None => step("authorisation", "not asked for", "no service was found", rule),
        Some(_) if !chain.asks_for_proof => {
            step("authorisation", "not asked for", "the service is for everybody", rule)
        }
        Some(_) => {
            let outcome = if told.reason == "denied" { "refused" } else { "settled" };
            step("authorisation", outcome, told.proofs.join("; "), rule)
        }
    }
}

/// P-29: whose network serves.
fn agreement(told: &Explanation) -> Step {
    let Some(provider) = &told.provider else {
        let origin = told.service.as_ref().map(|service| &service.origin);
        return step("agreement", "none is needed", "the content is of this CDN, not of another one", origin);
    };
    let chosen = told.accounts.iter().find(|account| account.chosen);
    let passed = |account: &&AccountReport| Some(format!("{}: {}", account.target, account.note.as_ref()?));
    let passed: Vec<String> = told.accounts.iter().filter_map(|account| passed(&account)).collect();
    let of = format!("content of provider {}", provider.name);
    let why = if passed.is_empty() { of } else { format!("{of}; {}", passed.join("; ")) };
    match chosen {
        Some(account) => step("agreement", &account.target, why, Some(&account.origin)),
        None => step("agreement", "nobody", why, Some(&provider.origin)),
    }
}

/// B-8: who of several serves, by shares.
fn network_share(told: &Explanation) -> Step {
    let sharing = told.accounts.iter().filter(|account| account.share > 0.0).count();
    let chosen = told.accounts.iter().find(|account| account.chosen);
    let outside = told.winners.first().and_then(|winner| winner.outcome.as_ref().map(|_| winner));
    match (chosen, outside) {
        (Some(account), _) if sharing > 1 => step(
            "network share",
            format!("{:.2} % is {}'s", account.share, account.target),
            "those before it take a part of the clients, by a hash of each client",
            Some(&account.origin),
        ),
        (None, Some(winner)) => {
            let found = told.candidates.iter().find(|candidate| candidate.target == winner.target);
            let share = found.map_or(0.0, |candidate| candidate.share);
            step(
                "network share",
                format!("{share:.2} % is {}'s", winner.target),
                "shares between own servers and what lies outside",
                found.map(|candidate| &candidate.origin),
            )
        }
        _ => step("network share", "all", "the content is not shared among networks for this client", None),
    }
}

/// Which tier, and so which sites.
fn site(told: &Explanation) -> Step {
    let region = told.region.as_ref().map_or("none", |region| region.name.as_str());
    let winner = told.winners.first();
    let found = winner.and_then(|winner| told.candidates.iter().find(|one| one.target == winner.target));
    let origin = found.map(|candidate| &candidate.origin).or(told.coverage.as_ref().map(|part| &part.origin));
    let tier = match found.map(|candidate| candidate.tier) {
        Some(Some(tier)) => format!("tier {tier} of those for region {region}"),
        Some(None) => format!("the fallback: no tier for region {region} has a usable target"),
        None => format!("region {region}"),
    };
    match winner {
        Some(winner) if !winner.site.is_empty() => step("site", &winner.site, tier, origin),
        Some(_) => step("site", "not told", tier, origin),
        None => step("site", "none", tier, origin),
    }
}

/// Health, load, distance, exclusions.
fn target(told: &Explanation, chain: &Chain) -> Step {
    let removed = told.candidates.iter().filter(|candidate| candidate.removed.is_some()).count();
    let (usable, all) = (told.candidates.len() - removed, told.candidates.len());
    let origin = told.coverage.as_ref().map(|coverage| &coverage.origin);
    let why = match (chain.decided, all) {
        (false, _) => "no choice was made".to_owned(),
        (true, 0) => format!("reason {}", told.reason),
        (true, _) => format!("{usable} of {all} candidates usable; reason {}", told.reason),
    };
    match told.winners.first() {
        Some(winner) => step("target", &winner.target, why, origin),
        None => step("target", "nobody", why, origin),
    }
}

fn answer(told: &Explanation) -> Step {
    let form = match told.protocol {
        Protocol::Dns => "DNS",
        Protocol::Cdsr => "CDSR reply",
        Protocol::Http => "HTTP answer",
        Protocol::Rtsp => "RTSP answer",
    };
    let origin = told.rule.as_ref().map(|rule| &rule.origin);
    step(
        "answer",
        format!("{form}, {}", told.answer),
        format!("reason {} ({})", told.reason, told.code),
        origin,
    )
}
