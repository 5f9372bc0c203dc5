//! Text to validated types, with precise errors.
//!
//! [`load`] reads the operator's file and the prefix files that it names. It tells everything that is wrong in one
//! run, each finding with file, line, column and what would be right, and gives a [`Config`] only if nothing is.
//!
//! Things are read in the order of their references (keys, VIPs, regions, targets, pools, coverages, services, zones), and
//! each kind is sorted by name before the next one refers to it by index: so the result does not depend on the order
//! in the file (invariant 8). `docs/configuration.md` describes every key.

mod accounts;
mod addresses;
mod aliases;
mod checks;
mod error;
mod index;
mod kept;
mod keys;
mod limits;
mod names;
mod network;
mod patterns;
mod peering;
mod prefixes;
mod proofs;
mod read;
mod suggest;
mod targets;
pub mod terms;
mod units;
mod urls;
mod zones;

#[cfg(test)]
mod tests;

pub use accounts::AccountTerms;
pub use addresses::{BoxSettings, XdpMode};
pub use checks::{Check, Probe};
pub use error::{ConfigError, ConfigErrors, Severity};
pub use keys::key_file;
pub use limits::{Limits, RateLimits};
pub use network::{is_pattern, name_fits};
pub use suggest::help;
pub use units::duration_of as duration;

use error::Source;
use names::Labels;
use read::{Document, Section};
use redirector_plan::model::Network;
use redirector_plan::outcomes::{coverages_with_outcomes, has_outcomes};
use std::path::Path;
use std::sync::Arc;
use toml::de::DeTable;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of this box.
    pub box_: BoxSettings,
    /// Everything decisions are made from.
    pub network: Network,
    /// The health check of each target, by index into [`Network::targets`]; a target without one is taken to be up.
    pub checks: Vec<Option<Check>>,
    /// Bounds of the slow path.
    pub limits: Limits,
    /// How accounts are kept.
    pub accounts: AccountTerms,
    /// What is allowed and probably not meant, by place.
    pub warnings: Vec<ConfigError>,
    /// Errors in services and agreements that stay as they were, or are left out if they are new; none from [`load`].
    pub refused: Vec<ConfigError>,
}

impl Config {
    /// With checks for its network's present targets: what stands for agreements and networks has none.
    pub fn with_stand_ins(mut self) -> Self {
        if !self.network.peering.networks.is_empty() {
            self.checks.truncate(self.network.peering.written_targets);
            self.checks.resize(self.network.targets.len(), None);
        }
        self
    }
}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong in the file and in the prefix files that it names.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let (name, bytes) = read_file(path)?;
    parse(&name, bytes, directory(path), Errors::Refuse)
}

/// Like [`load`], but a service or agreement with errors does not keep the rest from being used: it stays as it was in the
/// `last` network, and is left out if it was not there. [`Config::refused`] tells.
///
/// # Errors
/// Everything that is wrong, if any of it stands outside of services.
pub fn load_keeping(path: &Path, last: Option<&Network>) -> Result<Config, ConfigErrors> {
    let (name, bytes) = read_file(path)?;
    parse(&name, bytes, directory(path), Errors::KeepServices(last))
}

/// What errors in services lead to.
#[derive(Debug, Clone, Copy)]
pub enum Errors<'l> {
    /// Nothing is taken, as by [`load`].
    Refuse,
    /// The rest is taken, as by [`load_keeping`].
    KeepServices(Option<&'l Network>),
}

/// The configuration's name for messages, and what is in it.
fn read_file(path: &Path) -> Result<(String, Vec<u8>), ConfigErrors> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => {
            let message = format!("cannot read the configuration: {error}");
            Err(unreadable(&name, message, "check the path and its permissions"))
        }
    }
}

fn unreadable(name: &str, message: String, help: &str) -> ConfigErrors {
    ConfigErrors::new(vec![ConfigError::unreadable(name, message, help.to_owned())])
}

/// Where relative file names start.
fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Checks a configuration that was read from somewhere. `name` is for messages, and the names of prefix files are
/// relative to `directory`.
///
/// # Errors
/// As [`load`] or [`load_keeping`].
pub fn parse(
    name: &str,
    bytes: impl Into<Vec<u8>>,
    directory: &Path,
    mode: Errors<'_>,
) -> Result<Config, ConfigErrors> {
    let text =
        error::utf8(bytes.into()).map_err(|message| unreadable(name, message, "save the file as UTF-8"))?;
    let doc = Document::new(name, text);
    let (table, errors) = DeTable::parse_recoverable(doc.source.text());
    if !errors.is_empty() {
        let findings = errors.iter().map(|error| syntax_error(&doc.source, error)).collect();
        return Err(ConfigErrors::new(findings));
    }
    const TABLES: &[&str] = &[
        "box", "fleet", "limits", "labels", "key", "vip", "region", "target", "pool", "coverage", "service",
        "zone", "network", "partner", "provider", "broker", "peering", "accounts",
    ];
    let root = Section::root(&doc, &table, TABLES);
    let last = match mode {
        Errors::Refuse => None,
        Errors::KeepServices(last) => last,
    };
    let read = read_all(&doc, &root, directory, last);
    drop(table);
    let findings = ConfigErrors::new(doc.findings.into_list());
    let bearable = |finding: &ConfigError| match mode {
        _ if finding.severity == Severity::Warning => true,
        Errors::Refuse => false,
        Errors::KeepServices(_) => finding.service.is_some() || finding.agreement.is_some(),
    };
    match read {
        Some(config) if findings.iter().all(bearable) => {
            let warning = |finding: &ConfigError| finding.severity == Severity::Warning;
            let (warnings, refused) = findings.iter().cloned().partition(warning);
            Ok(Config { warnings, refused, ..config })
        }
        _ => Err(findings),
    }
}

/// What the TOML parser could not read.
fn syntax_error(source: &Arc<Source>, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or_default();
    let help = "TOML: [[table]] headers, key = value, strings in quotes; see https://toml.io".to_owned();
    ConfigError::at(Severity::Error, source, span, error.message().to_owned(), Some(help))
}

/// Reads every table, in the order of references; `None` if the configuration cannot be used. Findings may make a
/// result unusable, too.
fn read_all(doc: &Document, root: &Section<'_>, directory: &Path, last: Option<&Network>) -> Option<Config> {
    let box_ = addresses::read_box(root);
    let key = read_key(root);
    let (limits, accounts) = (limits::read_limits(root), accounts::read_accounts(root));
    let labels = Labels::read(root);
    let keys = keys::read_keys(root, directory);
    let vips = addresses::read_vips(root, box_.as_ref().map(|settings| settings.management));
    let regions = prefixes::read_regions(doc, directory, root);
    let targets = targets::read_targets(root, &vips.holders);
    let (pools, pool_index) = network::read_pools(root, &targets.index);
    let servers = network::Servers {
        regions: &regions.index,
        pools: &pool_index,
        pool_list: &pools,
        checks: &targets.checks,
    };
    let (coverages, coverage_index) = network::read_coverages(root, &servers);
    let references = network::References {
        cdns: &vips.cdns,
        coverages: &coverage_index,
        targets: &targets.index,
        labels: &labels,
        keys: &keys.index,
    };
    let services = network::read_services(doc, root, &references, last);
    let by_coverage = coverages_with_outcomes(&targets.list, &pools, &coverages);
    let outcomes: Vec<bool> =
        services.list.iter().map(|service| has_outcomes(service, &targets.list, &by_coverage)).collect();
    let references = zones::References {
        cdns: &vips.cdns,
        services: &services.list,
        index: &services.index,
        outcomes: &outcomes,
        labels: &labels,
        proofs: proofs::References { keys: &keys.index, services: &services.names },
    };
    let zones = zones::read_zones(root, &references);
    let known = aliases::Known {
        zones: &zones,
        services: &services.list,
        coverages: &coverages,
        pools: &pools,
        targets: &targets.list,
    };
    known.check(&targets.hosts, &targets.aliases, &targets.unaddressed);
    let references =
        peering::References { targets: &targets.index, services: &services.index, known: &known };
    let peering = peering::read_peering(doc, directory, root, &references, last);
    let urls = urls::rules(&services.list, services.urls, &zones);
    let box_ = box_?;
    let mut network = Network {
        key: key?,
        box_name: box_.name.clone(),
        cdns: vips.cdns,
        vips: vips.list,
        regions: regions.list,
        default_region: regions.default,
        targets: targets.list,
        pools,
        coverages,
        services: services.list,
        zones,
        urls,
        peering: peering?,
        keys: keys.list,
    };
    peering::settle(root, &mut network);
    let (checks, limits, accounts) = (targets.checks, limits?, accounts?);
    let config =
        Config { box_, network, checks, limits, accounts, warnings: Vec::new(), refused: Vec::new() };
    Some(config.with_stand_ins())
}

/// The fleet's secret, `key` of `[fleet]`.
fn read_key(root: &Section<'_>) -> Option<[u8; 16]> {
    let section = root.table("fleet", &["key"], "a `key` of 32 hexadecimal digits: openssl rand -hex 16")?;
    let text =
        section.require("key", "\"…\" with 32 hexadecimal digits: openssl rand -hex 16")?.text("\"…\"")?;
    let key = units::parse_key(text.text);
    if key.is_none() {
        let message =
            format!("the key has {} characters, or some that are not hexadecimal", text.text.chars().count());
        text.place.error(message, "write 32 hexadecimal digits, the same on all boxes: openssl rand -hex 16");
    }
    key
}
