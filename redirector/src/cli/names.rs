//! `redirector names`: signed and sealed names and tokens, made and checked on the command line.

use crate::config::{self, key_file};
use crate::front::proof::without_token;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use redirector_names::{
    Key, Purpose, Rejected, Scope, Tag, open, seal, sign_name, sign_url, verify_name, verify_url,
};
use redirector_plan::model::{NameKey, Zone};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is done with a name.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Signs a name, in which a label `*` stands where the tag is to be: index.*.web.abc.cdn.acme.net
    Sign {
        /// The name.
        name: String,
        /// For access to a service that is for those who are authorised, instead of the name's grade.
        #[arg(long)]
        access: bool,
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        keys: Keys,
    },
    /// Makes a token for the URLs of a host, or for those beneath a path: http://tv.cdn.acme.net/live/
    Token {
        /// URL; its path, up to the last slash, is covered.
        url: String,
        /// Clients that it is for, as 198.51.100.0/24; unless written, everybody who has it.
        #[arg(long, value_name = "PREFIX")]
        client: Option<IpNet>,
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        keys: Keys,
    },
    /// Seals the codepoint of a name: index.web.abc.cdn.acme.net becomes one that reveals nothing of it
    Seal {
        /// The name; with --under, the codepoint alone.
        name: String,
        #[command(flatten)]
        zone: Under,
        #[command(flatten)]
        keys: Keys,
    },
    /// Tells what a sealed name says. Exit status 1: nothing.
    Open {
        /// The name.
        name: String,
        #[command(flatten)]
        zone: Under,
        #[command(flatten)]
        keys: Keys,
    },
    /// Tells whether the tag in a name, or the token that is given with a URL, is good. Exit status 1: it is not.
    Verify {
        /// The name, or the URL.
        name: String,
        /// The token, if it does not stand in the URL as token=…
        #[arg(long)]
        token: Option<String>,
        /// The client that asks, for tokens that are not for everybody.
        #[arg(long, value_name = "IP", default_value = "::")]
        client: IpAddr,
        #[command(flatten)]
        keys: Keys,
    },
}

/// When something that is made ends.
#[derive(Debug, Args)]
pub(super) struct Ends {
    /// How long it is good for: 90s, 10m, 12h, 30d. Unless written, for ever.
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    expires: Option<Duration>,
}

/// What stands behind sealed labels.
#[derive(Debug, Args)]
pub(super) struct Under {
    /// Label for sealed names and suffix, as x.cdn.acme.net; unless written, those of the configuration's zone.
    #[arg(long, value_name = "NAME", required_unless_present = "config")]
    under: Option<String>,
}

/// Where keys come from: a configuration, or one file.
#[derive(Debug, Args)]
pub(super) struct Keys {
    /// Configuration with the keys.
    #[arg(long, value_name = "FILE", required_unless_present = "key_file")]
    config: Option<PathBuf>,
    /// Which of its keys; to sign, unless written, the one for that which began last.
    #[arg(long, value_name = "NAME", requires = "config")]
    key: Option<String>,
    /// File with the secret of one key, on machines without the configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "config", requires = "key_id")]
    key_file: Option<PathBuf>,
    /// Number of that key.
    #[arg(long, value_name = "NUMBER", requires = "key_file")]
    key_id: Option<u8>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A key, and the moments between which it counts.
struct Held {
    name: String,
    key: Key,
    signs: bool,
    counts: std::ops::Range<u64>,
}

impl Held {
    fn new(key: NameKey) -> Self {
        let NameKey { name, id, secret, signs, from, until, .. } = key;
        Self { name, key: Key::new(id, &secret), signs, counts: from..until }
    }
}

impl Keys {
    /// All keys that may be meant.
    fn load(&self) -> Result<Vec<Held>> {
        if let (Some(file), Some(id)) = (&self.key_file, self.key_id) {
            let secret = key_file(file).map_err(|(message, help)| anyhow!("{message} ({help})"))?;
            let name = file.display().to_string();
            return Ok(vec![Held { name, key: Key::new(id, &secret), signs: true, counts: 0..u64::MAX }]);
        }
        let path = self.config.as_deref().context("which keys? write --config or --key-file")?;
        let keys = config::load(path)?.network.keys.into_iter().map(Held::new);
        let meant: Vec<Held> =
            keys.filter(|key| self.key.as_ref().is_none_or(|name| *name == key.name)).collect();
        if meant.is_empty() {
            bail!("there is no such key in {}", path.display());
        }
        Ok(meant)
    }

    /// The key that new names are made with.
    fn signing(&self) -> Result<Held> {
        let now = now();
        let able = self.load()?.into_iter().filter(|key| key.signs && key.counts.contains(&now));
        able.max_by_key(|key| key.counts.start)
            .context("none of the keys is for signing at this time: see `use`, `from` and `until`")
    }

    /// Prints a result: a line for people, or JSON.
    fn print(&self, line: &str, value: &Value) {
        if self.json { println!("{value}") } else { println!("{line}") }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Runs a command.
pub(super) fn names(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Sign { name, access, ends, keys } => sign(name, *access, ends, keys),
        Command::Token { url, client, ends, keys } => token(url, *client, ends, keys),
        Command::Seal { name, zone, keys } => seal_name(name, zone, keys),
        Command::Open { name, zone, keys } => open_name(name, zone, keys),
        Command::Verify { name, token, client, keys } => verify(name, token.as_deref(), *client, keys),
    }
}

impl Ends {
    /// Unix time.
    fn at(&self) -> Result<Option<u32>> {
        let end =
            |after: Duration| u32::try_from(now() + after.as_secs()).context("tags end before the year 2106");
        self.expires.map(end).transpose()
    }
}

fn sign(name: &str, access: bool, ends: &Ends, keys: &Keys) -> Result<ExitCode> {
    let (held, expires) = (keys.signing()?, ends.at()?);
    let purpose = if access { Purpose::Access } else { Purpose::Grade };
    let signed = sign_name(&held.key, purpose, name, expires)?;
    keys.print(
        &signed,
        &json!({ "name": signed, "key": held.name, "id": held.key.id(), "expires": expires }),
    );
    Ok(ExitCode::SUCCESS)
}

/// Host without port, and path, of a URL.
fn parts(url: &str) -> Result<(&str, &str)> {
    let (_, rest) = url.split_once("://").with_context(|| format!("`{url}` has no `://`"))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = match authority.rfind([':', ']']) {
        Some(at) if authority[at..].starts_with(':') => &authority[..at],
        _ => authority,
    };
    Ok((host, path.split('#').next().unwrap_or_default()))
}

fn token(url: &str, client: Option<IpNet>, ends: &Ends, keys: &Keys) -> Result<ExitCode> {
    let (held, expires) = (keys.signing()?, ends.at()?);
    let (host, path) = parts(url)?;
    let covered =
        path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(leading, _)| leading);
    let segments = u8::try_from(covered.matches('/').count()).context("the path has too many segments")?;
    let client = client.map(|network| (network.network(), network.prefix_len()));
    let token = sign_url(&held.key, host, path, &Scope { segments, client, expires })?;
    let covers = format!("{}{covered}/", host.to_ascii_lowercase());
    keys.print(
        &token,
        &json!({ "token": token, "covers": covers, "key": held.name, "id": held.key.id(), "expires": expires }),
    );
    Ok(ExitCode::SUCCESS)
}

impl Under {
    /// The codepoint, or the sealed labels, of a name, and what stands behind them in sealed names.
    fn split<'n>(&self, name: &'n str, keys: &Keys, sealed: bool) -> Result<(&'n str, String)> {
        let name = name.trim_end_matches('.');
        if let Some(under) = &self.under {
            let tail = format!(".{under}");
            let cut =
                name.len().checked_sub(tail.len()).filter(|cut| name[*cut..].eq_ignore_ascii_case(&tail));
            return match (cut, sealed) {
                (Some(cut), true) => Ok((&name[..cut], under.clone())),
                (None, true) => bail!("`{name}` does not end in `{tail}`"),
                (_, false) => Ok((name, under.clone())),
            };
        }
        let path = keys.config.as_deref().context("which zone? write --config or --under")?;
        let zones = config::load(path)?.network.zones;
        let of = |zone: &Zone| {
            let label = &zone.sealed.as_ref()?.label;
            let suffix = zone.suffix.join(".");
            let under = format!("{label}.{suffix}");
            let tail = if sealed { format!(".{under}") } else { format!(".{suffix}") };
            let cut = name.len().checked_sub(tail.len()).filter(|cut| name.is_char_boundary(*cut))?;
            name[cut..].eq_ignore_ascii_case(&tail).then_some((cut, under))
        };
        let longest = zones.iter().filter_map(of).min_by_key(|(cut, _)| *cut);
        let (cut, under) = longest.with_context(|| format!("`{name}` is in no zone with sealed names"))?;
        Ok((&name[..cut], under))
    }
}

fn seal_name(name: &str, zone: &Under, keys: &Keys) -> Result<ExitCode> {
    let held = keys.signing()?;
    let (codepoint, under) = zone.split(name, keys, false)?;
    let sealed = seal(&held.key, codepoint, &under)?;
    keys.print(&sealed, &json!({ "name": sealed, "key": held.name, "id": held.key.id() }));
    Ok(ExitCode::SUCCESS)
}

fn open_name(name: &str, zone: &Under, keys: &Keys) -> Result<ExitCode> {
    let (held, now) = (keys.load()?, now());
    let (sealed, under) = zone.split(name, keys, true)?;
    let labels: Vec<&str> = sealed.split('.').collect();
    match open(|id| counting(&held, id, now), &labels, &under) {
        Ok(opened) => {
            let key = name_of(&held, opened.key);
            let value = json!({ "codepoint": opened.codepoint, "key": key, "id": opened.key });
            keys.print(&opened.codepoint, &value);
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Ok(rejected("seal", why, keys)),
    }
}

/// The key of a number, if it counts now.
fn counting(held: &[Held], id: u8, now: u64) -> Option<&Key> {
    let found = held.iter().find(|held| held.key.id() == id && held.counts.contains(&now));
    found.map(|held| &held.key)
}

fn name_of(held: &[Held], id: u8) -> &str {
    held.iter().find(|held| held.key.id() == id).map_or("", |held| held.name.as_str())
}

fn rejected(what: &str, why: Rejected, keys: &Keys) -> ExitCode {
    keys.print(&format!("{what}: {why}"), &json!({ "good": false, "why": why.to_string() }));
    ExitCode::FAILURE
}

fn verify(name: &str, token: Option<&str>, client: IpAddr, keys: &Keys) -> Result<ExitCode> {
    let (held, now) = (keys.load()?, now());
    let (what, checked) = match name.contains("://") {
        true => ("token", verify_token(name, token, client, &held, now)?),
        false => ("tag", verify_tag(name, &held, now)),
    };
    match checked {
        Ok(tag) => {
            let until = tag.expires.map_or("for ever".to_owned(), |at| format!("until Unix time {at}"));
            let key = name_of(&held, tag.key);
            let line = format!("good {until}, by key {key} ({})", tag.key);
            keys.print(&line, &json!({ "good": true, "key": key, "id": tag.key, "expires": tag.expires }));
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Ok(rejected(what, why, keys)),
    }
}

/// A name's tag is good for whatever it was made for.
fn verify_tag(name: &str, held: &[Held], now: u64) -> Result<Tag, Rejected> {
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    let place = labels.iter().position(|label| Tag::parse(label).is_some()).ok_or(Rejected::Missing)?;
    let check = |purpose| verify_name(|id| counting(held, id, now), purpose, &labels, place, now);
    check(Purpose::Grade).or_else(|why| check(Purpose::Access).map_err(|_| why))
}

fn verify_token(
    url: &str,
    token: Option<&str>,
    client: IpAddr,
    held: &[Held],
    now: u64,
) -> Result<Result<Tag, Rejected>> {
    let (host, path) = parts(url)?;
    let (path, found) = without_token(path, "token");
    let Some(token) = token.map(str::to_owned).or(found) else { return Ok(Err(Rejected::Missing)) };
    Ok(verify_url(|id| counting(held, id, now), &token, (host, &path), client, now))
}
