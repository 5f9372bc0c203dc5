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
mod affinity;
mod aliases;
mod checks;
mod error;
mod index;
mod keys;
mod limits;
mod log;
mod names;
mod network;
mod parts;
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

pub use accounts::{AccountTerms, Clients, CollectorTerms, CollectorUrl};
pub use addresses::{BoxSettings, XdpMode};
pub use checks::{Check, Probe};
pub use error::{ConfigError, ConfigErrors, Severity};
pub use keys::key_file;
pub use limits::{Limits, RateLimits};
pub use log::DecisionLog;
pub use network::{is_pattern, name_fits};
pub use parts::{Fate, LastGood, Part, Parts};
pub use suggest::help;
pub use units::duration_of as duration;

use error::Source;
use names::Labels;
use parts::{Places, Texts};
use read::{Document, Section};
use redirector_plan::model::{Network, Origin};
use redirector_plan::outcomes::{coverages_with_outcomes, has_outcomes};
use std::collections::BTreeMap;
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
    /// What is written down of decisions.
    pub log: Option<DecisionLog>,
    /// What is allowed and probably not meant, by place.
    pub warnings: Vec<ConfigError>,
    /// Errors in parts that stay as they were, or are left out if they are new; none from [`load`].
    pub refused: Vec<ConfigError>,
    /// These parts.
    pub kept: BTreeMap<Part, Fate>,
    /// Each part as it is in effect, for the next configuration.
    pub parts: Parts,
    /// First and last line of each part that is written.
    lines: Vec<(Origin, u32, Part)>,
}

impl Config {
    /// What is in effect of a state that was kept, which has no file any more.
    pub fn of_last_good(
        box_: BoxSettings,
        network: Network,
        checks: Vec<Option<Check>>,
        limits: Limits,
        accounts: AccountTerms,
        log: Option<DecisionLog>,
        parts: Parts,
    ) -> Self {
        let (warnings, refused, lines) = (Vec::new(), Vec::new(), Vec::new());
        let kept = BTreeMap::new();
        Self { box_, network, checks, limits, accounts, log, warnings, refused, kept, parts, lines }
    }

    /// What the next configuration can fall back on.
    pub fn last_good(&self) -> LastGood<'_> {
        LastGood { parts: &self.parts, network: &self.network }
    }

    /// The part that is written at a place.
    pub fn part_at(&self, place: &Origin) -> Option<&Part> {
        let holds = |(first, last, _): &&(Origin, u32, Part)| {
            first.file == place.file && (first.line..=*last).contains(&place.line)
        };
        self.lines.iter().rfind(holds).map(|(.., part)| part)
    }

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

/// Like [`load`], but parts with errors do not keep the rest from being used: each stays as it was in the `last`
/// good configuration, or is left out if it was not there. So do the `more` parts, for what was found in them elsewhere.
/// [`Config::refused`] tells.
///
/// # Errors
/// Everything that is wrong, if the rest cannot be used without: what stands in no part, or in one that cannot stay as it
/// was because it contradicts what is new. Without a last good configuration, nothing but services and agreements is left
/// out.
pub fn load_keeping(
    path: &Path,
    last: Option<LastGood<'_>>,
    more: &[ConfigError],
) -> Result<Config, ConfigErrors> {
    let (name, bytes) = read_file(path)?;
    parse(&name, bytes, directory(path), Errors::Keep { last, more })
}

/// What errors lead to.
#[derive(Debug, Clone, Copy)]
pub enum Errors<'l> {
    /// Nothing is taken, as by [`load`].
    Refuse,
    /// The rest is taken, as by [`load_keeping`].
    Keep {
        /// What parts with errors stay like.
        last: Option<LastGood<'l>>,
        /// Errors that were found in parts elsewhere.
        more: &'l [ConfigError],
    },
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
    let (last, more) = match mode {
        Errors::Refuse => (None, &[][..]),
        Errors::Keep { last, more } => (last, more),
    };
    let mut isolation = Isolation::new(last, matches!(mode, Errors::Keep { .. }));
    if !more.is_empty() {
        isolation.take(more.to_vec())?;
    }
    loop {
        let texts = Texts::new(name, &text, &isolation.fates, last);
        let (config, findings) = read_round(&texts, directory, &isolation.fates, last)?;
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        match config {
            Some(config) if errors.is_empty() => {
                let Isolation { told, fates, .. } = isolation;
                let refused = ConfigErrors::new(told).into_list();
                let warnings = ConfigErrors::new(warnings).into_list();
                return Ok(Config { warnings, refused, kept: fates, ..config });
            }
            _ => isolation.take_with(errors, warnings)?,
        }
    }
}

/// Reads the file's text once, with some parts replaced: what it comes to, and what was found.
fn read_round(
    texts: &Texts,
    directory: &Path,
    fates: &BTreeMap<Part, Fate>,
    last: Option<LastGood<'_>>,
) -> Result<(Option<Config>, Vec<ConfigError>), ConfigErrors> {
    let doc = Document::new(texts, fates);
    let written = doc.source.text().get(..texts.written).unwrap_or_default();
    let (mut table, errors) = DeTable::parse_recoverable(written);
    if !errors.is_empty() {
        let findings = errors.iter().map(|error| syntax_error(&doc.source, error)).collect();
        return Err(ConfigErrors::new(findings));
    }
    parts::replace(table.get_mut(), fates, texts.kept());
    const TABLES: &[&str] = &[
        "box",
        "fleet",
        "limits",
        "log",
        "labels",
        "key",
        "vip",
        "region",
        "target",
        "pool",
        "coverage",
        "service",
        "zone",
        "network",
        "partner",
        "provider",
        "broker",
        "peering",
        "accounts",
        "collector",
    ];
    let root = Section::root(&doc, &table, TABLES);
    let config = read_all(&doc, &root, directory, last.map(|last| last.network));
    let places = Places::new(table.get_ref());
    let config = config.map(|config| Config {
        parts: parts::all(table.get_ref(), &doc.source),
        lines: places.lines(&doc.source),
        ..config
    });
    drop(table);
    let source = Arc::clone(&doc.source);
    let mut findings = doc.findings.into_list();
    for finding in findings.iter_mut().filter(|finding| finding.part.is_none()) {
        let place = finding.offset_in(&source);
        finding.part = place.and_then(|place| places.find(place)).cloned();
    }
    Ok((config, findings))
}

/// Errors so far, and what they lead to.
struct Isolation<'l> {
    last: Option<LastGood<'l>>,
    /// Whether parts with errors can be replaced at all.
    keeps: bool,
    fates: BTreeMap<Part, Fate>,
    /// Errors in parts that have a fate.
    told: Vec<ConfigError>,
}

impl<'l> Isolation<'l> {
    fn new(last: Option<LastGood<'l>>, keeps: bool) -> Self {
        Self { last, keeps, fates: BTreeMap::new(), told: Vec::new() }
    }

    /// Decides what becomes of the parts that errors stand in.
    ///
    /// # Errors
    /// If the whole must be refused: why.
    fn take(&mut self, errors: Vec<ConfigError>) -> Result<(), ConfigErrors> {
        self.take_with(errors, Vec::new())
    }

    /// The same; with a refusal go warnings.
    fn take_with(
        &mut self,
        errors: Vec<ConfigError>,
        warnings: Vec<ConfigError>,
    ) -> Result<(), ConfigErrors> {
        let fates: Vec<_> = errors.iter().map(|error| self.fate(error)).collect();
        if errors.is_empty() || fates.iter().any(Option::is_none) {
            let again = |(mut error, fate): (ConfigError, Option<(Part, Fate)>)| match &error.part {
                Some(part) if fate.is_none() && self.fates.get(part) == Some(&Fate::AsItWas) => {
                    error.message = format!("{part} has errors and cannot stay as it was: {}", error.message);
                    error
                }
                _ => error,
            };
            let errors = errors.into_iter().zip(fates).map(again);
            return Err(ConfigErrors::new(self.told.iter().cloned().chain(errors).chain(warnings).collect()));
        }
        self.fates.extend(fates.into_iter().flatten());
        self.told.extend(errors);
        Ok(())
    }

    /// What becomes of the part that an error stands in; `None`: that cannot be helped.
    fn fate(&self, error: &ConfigError) -> Option<(Part, Fate)> {
        let part = error.part.as_ref().filter(|part| self.keeps && !self.fates.contains_key(*part))?;
        let fate = match self.last {
            Some(last) if last.parts.has(part) => Fate::AsItWas,
            // There is nothing that would miss it.
            _ if ["service", "peering", "collector"].contains(&&*part.kind) => Fate::LeftOut,
            Some(_) if !part.name.is_empty() => Fate::LeftOut,
            _ => return None,
        };
        Some((part.clone(), fate))
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
    let log = log::read_log(root);
    let (labels, keys) = (Labels::read(root), keys::read_keys(root, directory, last));
    let vips = addresses::read_vips(root, box_.as_ref().map(|settings| settings.management));
    let regions = prefixes::read_regions(doc, directory, root, last);
    let targets = targets::read_targets(root, &vips.holders);
    let (pools, pool_index) = network::read_pools(root, &targets.index);
    let servers = network::Servers {
        regions: &regions.index,
        pools: &pool_index,
        pool_list: &pools,
        checks: &targets.checks,
        targets: &targets.list,
    };
    let (coverages, coverage_index) = network::read_coverages(root, &servers);
    let references = network::References {
        cdns: &vips.cdns,
        coverages: &coverage_index,
        targets: &targets.index,
        labels: &labels,
        keys: &keys.index,
    };
    let services = network::read_services(root, &references);
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
    let accounts = accounts::with_collectors(accounts?, root, &network.peering);
    let (checks, limits, log) = (targets.checks, limits?, log?);
    let config = Config::of_last_good(box_, network, checks, limits, accounts, log, Parts::default());
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
