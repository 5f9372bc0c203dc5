//! Targets: servers, and what clients get instead of one.

use super::addresses::{Holders, addresses};
use super::checks::{self, Check};
use super::index::{Index, read_named, written_name};
use super::names;
use super::read::{Section, Text, Value};
use redirector_core::table::MAX_NAME_SERVERS;
use redirector_plan::model::{NameServer, Outcome, Target};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What [`read_targets`] found.
pub(super) struct Targets<'a> {
    pub(super) list: Vec<Target>,
    pub(super) index: Index,
    /// The health check of each target, by index; `None` is not checked and taken to be up.
    pub(super) checks: Vec<Option<Check>>,
    /// Host names of targets, as written.
    pub(super) hosts: Vec<Text<'a>>,
    /// Other names that targets are, as written, by the target's name.
    pub(super) aliases: Vec<(String, Text<'a>)>,
    /// Names of name servers without addresses, as written.
    pub(super) unaddressed: Vec<Text<'a>>,
}

const KEYS: &[&str] = &["name", "site", "addresses", "cname", "ns", "host", "ports", "network", "check"];
/// Keys of which each target has one.
const OUTCOMES: [&str; 3] = ["addresses", "cname", "ns"];
const ADDRESSES: &str = "[\"192.0.2.10\", \"2001:db8:1::10\"]";
const SERVERS: &str = "[{ name = \"ns1.partner.example\" }]";

/// Reads the `[[target]]` tables; `holders` are the box's own anycast addresses, which no answer may name (P-4).
pub(super) fn read_targets<'a>(root: &Section<'a>, holders: &Holders<'_>) -> Targets<'a> {
    let (mut hosts, mut aliases, mut unaddressed) = (Vec::new(), Vec::new(), Vec::new());
    let (read, index) = read_named("target", root.tables("target", KEYS), written_name, |section, name| {
        let ports = read_ports(section);
        let site =
            section.get("site").map(|value| value.text("\"par\"")).map_or(Some(""), |site| Some(site?.text));
        let host = match section.get("host") {
            None => Some(None),
            Some(value) => value.word("\"web-1.example.net\"").and_then(|text| {
                let host = names::host_name(&text)?;
                hosts.push(text);
                Some(Some(host))
            }),
        };
        let check = match section.get("check") {
            None => Some(None),
            Some(value) => checks::read_check(&value, ports.map_or(80, |[http, ..]| http)).map(Some),
        };
        let network = section.get("network").map_or(Some(0), |value| value.integer(0..=u64::from(u16::MAX)));
        let (mut addresses, mut outcome) = ((None, None), Outcome::Server);
        match written_outcome(section)? {
            ("cname", value) => {
                let text = value.word("\"edge.partner.example\"")?;
                outcome = Outcome::Name(names::host_name(&text)?);
                aliases.push((name.to_owned(), text));
            }
            ("ns", value) => outcome = read_servers(&value, holders, &mut unaddressed)?,
            _ => addresses = read_addresses(section, holders)?,
        }
        let [http_port, https_port, rtsp_port] = ports?;
        let target = Target {
            name: name.to_owned(),
            site: site?.to_owned(),
            ipv4: addresses.0,
            ipv6: addresses.1,
            host: host?,
            outcome,
            http_port,
            https_port,
            rtsp_port,
            network: network.and_then(|number| u16::try_from(number).ok())?,
            origin: section.place.origin(),
        };
        Some((target, check?))
    });
    let (list, checks) = read.into_iter().unzip();
    Targets { list, index, checks, hosts, aliases, unaddressed }
}

/// The one of [`OUTCOMES`] that is written. What else would mean nothing beside it is reported.
fn written_outcome<'a>(section: &Section<'a>) -> Option<(&'static str, Value<'a>)> {
    let mut written = OUTCOMES.into_iter().filter_map(|key| Some((key, section.get(key)?)));
    let Some((key, value)) = written.next() else {
        section.require("addresses", &format!("{ADDRESSES}, or `cname`, or `ns`"));
        return None;
    };
    let mut sound = true;
    for (other, value) in written {
        let message = format!("a target has `{key}` or `{other}`, not both");
        value.place.error(message, "make two targets of it, and give each its share in a pool");
        sound = false;
    }
    let foreign: &[&'static str] = match key {
        "addresses" => &[],
        "cname" => &["host", "check"],
        _ => &["host", "check", "ports"],
    };
    for value in foreign.iter().filter_map(|key| section.get(key)) {
        value.place.error(
            format!("this belongs to servers: a target with `{key}` is somebody else's to look after"),
            "leave it out",
        );
        sound = false;
    }
    sound.then_some((key, value))
}

/// Ports for http, https and rtsp URLs.
fn read_ports(section: &Section<'_>) -> Option<[u16; 3]> {
    let mut ports = [80, 443, 554];
    let Some(value) = section.get("ports") else { return Some(ports) };
    const KEYS: [&str; 3] = ["http", "https", "rtsp"];
    let written = value.section(&KEYS, "{ http = 8080 }")?;
    for (port, key) in ports.iter_mut().zip(KEYS) {
        if let Some(value) = written.get(key) {
            *port = value.port()?;
        }
    }
    Some(ports)
}

/// At most one address of each family.
fn read_addresses(
    section: &Section<'_>,
    holders: &Holders<'_>,
) -> Option<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let (mut ipv4, mut ipv6) = (None, None);
    for (address, text) in addresses(section, ADDRESSES)? {
        if let Some((vip, place)) = holders.get(&address) {
            let message = format!(
                "{address} is an address of VIP `{vip}` on line {}: clients sent there come back here",
                place.line()
            );
            text.place.error(message, "give the server's own unicast address");
        }
        let taken = match address {
            IpAddr::V4(v4) => ipv4.replace(v4).is_some(),
            IpAddr::V6(v6) => ipv6.replace(v6).is_some(),
        };
        if taken {
            let message = "a target has at most one address of each family";
            text.place.error(message, "make it a target of its own, in the same pool");
        }
    }
    Some((ipv4, ipv6))
}

/// The name servers of a delegation.
fn read_servers<'a>(
    value: &Value<'a>,
    holders: &Holders<'_>,
    unaddressed: &mut Vec<Text<'a>>,
) -> Option<Outcome> {
    let list = value.nonempty_list(SERVERS)?;
    if list.len() > MAX_NAME_SERVERS {
        let message = format!("{} name servers", list.len());
        value.place.error(message, format!("name at most {MAX_NAME_SERVERS}"));
        return None;
    }
    let mut servers: Vec<NameServer> = Vec::with_capacity(list.len());
    for element in &list {
        let section = element.section(&["name", "addresses"], SERVERS)?;
        let text = section.require("name", "\"ns1.partner.example\"")?.word("\"ns1.partner.example\"")?;
        let name = names::host_name(&text)?;
        let (ipv4, ipv6) = match section.get("addresses") {
            None => (None, None),
            Some(_) => read_addresses(&section, holders)?,
        };
        if servers.iter().any(|known| known.name == name) {
            text.place.error(format!("name server `{name}` is listed twice"), "leave one out");
            return None;
        }
        if ipv4.is_none() && ipv6.is_none() {
            unaddressed.push(text);
        }
        servers.push(NameServer { name, ipv4, ipv6 });
    }
    Some(Outcome::Delegation(servers))
}
