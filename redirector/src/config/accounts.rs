//! How accounts are kept, `[accounts]`, and who is sent them, `[[collector]]`.

use super::addresses::choice;
use super::index::{Named, written_name};
use super::read::{Section, Text};
use super::{suggest, units};
use redirector_plan::peering::Peering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// How accounts are kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccountTerms {
    /// Length of the parts of time that are booked apart.
    pub every: Duration,
    /// How long they are kept.
    pub keep: Duration,
    /// Most bytes of them.
    pub size: u64,
    /// How often collectors are told.
    #[serde(default = "minute")]
    pub tell: Duration,
    /// Of what the fast path answers, collectors are told the clients of one in so many; 0: of none.
    #[serde(default = "one_in")]
    pub one_in: u32,
    /// Most bytes of what waits for one collector.
    #[serde(default = "outbox")]
    pub outbox: u64,
    /// By name.
    #[serde(default)]
    pub collectors: Vec<CollectorTerms>,
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn one_in() -> u32 {
    1000
}

fn outbox() -> u64 {
    64 << 20
}

/// Who is sent accounts, and which.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CollectorTerms {
    /// Operator's name.
    pub name: String,
    /// Where it listens.
    pub url: CollectorUrl,
    /// It gets what concerns this primary CDN.
    pub cdn: Option<String>,
    /// It gets what concerns this provider.
    pub provider: Option<String>,
    /// What it is told of clients.
    pub clients: Clients,
}

/// A URL of HTTP.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CollectorUrl {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl CollectorUrl {
    /// Reads `http://host:port/path`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(match text.starts_with("https://") {
                true => "TLS is not built yet: send by http through a tunnel, or to a relay beside the box",
                false => "write \"http://host:port/path\"",
            });
        };
        let wrong = "write \"http://host:port/path\"";
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => {
                (host, port.strip_prefix(':').or(port.is_empty().then_some("80")))
            }
            Some(_) => return Err(wrong),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("80")),
            },
        };
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0).ok_or(wrong)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(allowed) || !path.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(wrong);
        }
        Ok(Self { host: host.to_owned(), port, path })
    }

    /// Host and port, as in `Host` of a request.
    pub fn authority(&self) -> String {
        match (self.host.contains(':'), self.port) {
            (false, 80) => self.host.clone(),
            (false, port) => format!("{}:{port}", self.host),
            (true, 80) => format!("[{}]", self.host),
            (true, port) => format!("[{}]:{port}", self.host),
        }
    }
}

impl std::fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

/// What a collector is told of clients that are served outside of their provider's primary CDN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    /// Nothing.
    None,
    /// Their network: /24 or /48.
    #[default]
    Prefix,
    /// Their address.
    Address,
}

impl Clients {
    /// Nothing is told.
    pub fn is_none(self) -> bool {
        self == Self::None
    }

    /// A client as it is told.
    pub fn show(self, client: IpAddr) -> String {
        match (self, client) {
            (Self::Address, client) => client.to_string(),
            (_, IpAddr::V4(client)) => format!("{}/24", Ipv4Addr::from_bits(client.to_bits() & !0xff)),
            (_, IpAddr::V6(client)) => {
                format!("{}/48", Ipv6Addr::from_bits(client.to_bits() >> 80 << 80))
            }
        }
    }
}

impl Default for AccountTerms {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(3600),
            keep: 400 * DAY,
            size: 1 << 30,
            tell: minute(),
            one_in: one_in(),
            outbox: outbox(),
            collectors: Vec::new(),
        }
    }
}

const KEYS: &[&str] = &["every", "keep", "megabytes", "tell_every", "clients_one_in", "outbox_megabytes"];

/// Reads `[accounts]`, which may be left out.
pub(super) fn read_accounts(root: &Section<'_>) -> Option<AccountTerms> {
    let mut terms = AccountTerms::default();
    if root.get("accounts").is_none() {
        return Some(terms);
    }
    let section = root.table("accounts", KEYS, "")?;
    if let Some(value) = section.get("every") {
        terms.every = units::duration(&value, Duration::from_secs(60)..=DAY)?;
        let seconds = terms.every.as_secs();
        if terms.every.subsec_nanos() > 0 || seconds % 60 != 0 || !DAY.as_secs().is_multiple_of(seconds) {
            value.place.error(
                "it is no whole minutes, or a day is no multiple of it",
                "for example \"5m\", \"1h\" or \"1d\"",
            );
        }
    }
    if let Some(value) = section.get("keep") {
        terms.keep = units::duration(&value, DAY..=3660 * DAY)?;
    }
    if let Some(value) = section.get("megabytes") {
        terms.size = value.integer(1..=1 << 20)? << 20;
    }
    if let Some(value) = section.get("tell_every") {
        terms.tell = units::duration(&value, Duration::from_secs(1)..=DAY)?;
    }
    if let Some(value) = section.get("clients_one_in") {
        terms.one_in = u32::try_from(value.integer(0..=1_000_000)?).ok()?;
    }
    if let Some(value) = section.get("outbox_megabytes") {
        terms.outbox = value.integer(1..=1 << 16)? << 20;
    }
    Some(terms)
}

/// Reads `[[collector]]`. What it refers to is in `peering`.
pub(super) fn with_collectors(terms: AccountTerms, root: &Section<'_>, peering: &Peering) -> AccountTerms {
    const COLLECTOR: &[&str] = &["name", "url", "cdn", "provider", "clients"];
    let named = Named::sort("collector", root.tables("collector", COLLECTOR), written_name);
    let (collectors, _) = named.read(|section, name| section.read(|| read_collector(section, name, peering)));
    AccountTerms { collectors, ..terms }
}

fn read_collector(section: &Section<'_>, name: &str, peering: &Peering) -> Option<CollectorTerms> {
    let url = section.require("url", "\"http://collector.bcast.example/accounts\"")?;
    let url = url.text("\"http://collector.bcast.example/accounts\"")?;
    let parsed = CollectorUrl::parse(url.text);
    if let Err(help) = &parsed {
        url.place.error(format!("`{}` is not the URL of a collector", url.text), *help);
    }
    let cdns: Vec<&str> = peering.providers.iter().flat_map(|one| &one.primary).map(String::as_str).collect();
    let providers: Vec<&str> = peering.providers.iter().map(|one| &*one.name).collect();
    let known = |key, kind: &str, names: &[&str]| match section.get(key) {
        None => Some(None),
        Some(value) => {
            let text: Text<'_> = value.word("\"bcast\"")?;
            if !names.contains(&text.text) {
                let help = suggest::help(text.text, names.iter().copied(), "see [[provider]]");
                text.place.error(format!("there is no {kind} `{}`", text.text), help);
                return None;
            }
            Some(Some(text.text.to_owned()))
        }
    };
    let (cdn, provider) = (known("cdn", "primary CDN", &cdns)?, known("provider", "provider", &providers)?);
    if cdn.is_none() && provider.is_none() {
        section.place.error("nothing says whose accounts it gets", "add cdn = \"…\" or provider = \"…\"");
    }
    let forms = [("none", Clients::None), ("prefix", Clients::Prefix), ("address", Clients::Address)];
    let clients = section.get("clients").map_or(Some(Clients::default()), |value| choice(&value, &forms))?;
    Some(CollectorTerms { name: name.to_owned(), url: parsed.ok()?, cdn, provider, clients })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_collectors_are_read_and_shown() {
        for text in [
            "http://a.example/",
            "http://a.example:8080/x?y=1",
            "http://[2001:db8::1]:81/",
            "http://192.0.2.1/",
        ] {
            assert_eq!(CollectorUrl::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(CollectorUrl::parse("http://a").expect("without path").to_string(), "http://a/");
        for wrong in [
            "",
            "a.example",
            "http://",
            "http://a:0/",
            "http://a:x/",
            "http://[a]/",
            "http://a b/",
            "http://a/ b",
            "ftp://a/",
        ] {
            assert!(CollectorUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert!(CollectorUrl::parse("https://a/").expect_err("TLS").starts_with("TLS"));
    }

    #[test]
    fn clients_are_told_as_networks_unless_more_is_wanted() {
        let clients: [IpAddr; 2] =
            ["198.51.100.77".parse(), "2001:db8:1:2::3".parse()].map(|one| one.expect("address"));
        assert_eq!(clients.map(|one| Clients::Prefix.show(one)), ["198.51.100.0/24", "2001:db8:1::/48"]);
        assert_eq!(Clients::Address.show(clients[0]), "198.51.100.77");
    }
}
