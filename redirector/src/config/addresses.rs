//! The box and its VIPs.

use super::index::{read_named, written_name};
use super::read::{Place, Section, Text, Value};
use super::suggest;
use super::units;
use redirector_plan::model::{Speaks, Vip};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// An address that packets can be sent to.
fn address(text: &Text<'_>) -> Option<IpAddr> {
    let Ok(address) = text.text.parse::<IpAddr>() else {
        let bare = text.text.split('/').next().unwrap_or_default();
        let help = if bare.parse::<IpAddr>().is_ok() {
            format!("write the address alone: {bare}")
        } else if let Ok(socket) = text.text.parse::<std::net::SocketAddr>() {
            format!("write the address without a port: {}", socket.ip())
        } else {
            "for example 192.0.2.10 or 2001:db8::10".to_owned()
        };
        text.place.error(format!("`{}` is not an IP address", text.text), help);
        return None;
    };
    let refuse = |what: &str, help: String| {
        text.place.error(format!("{address} is {what}"), help);
        None
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return refuse("an IPv4 address in IPv6 form", format!("write {v4}"));
    }
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return refuse("not the address of one host", "write a unicast address".to_owned());
    }
    Some(address)
}

/// The elements of an `addresses` list.
pub(super) fn addresses<'a>(section: &Section<'a>, example: &str) -> Option<Vec<(IpAddr, Text<'a>)>> {
    let list = section.require("addresses", example)?.nonempty_list(example)?;
    let read: Vec<_> = list
        .iter()
        .filter_map(|value| {
            let text = value.text(example)?;
            Some((address(&text)?, text))
        })
        .collect();
    (read.len() == list.len()).then_some(read)
}

/// How the fast path is attached to the interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver where it can, else in the kernel's generic hook, else sockets alone.
    Auto,
    /// In the driver, or the box does not start.
    Native,
    /// In the kernel's generic hook, or the box does not start.
    Generic,
    /// Sockets alone.
    Off,
}

/// This box: the part of the configuration that differs from box to box.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BoxSettings {
    /// Name in logs, reports and metrics.
    pub name: String,
    /// The box's own unicast address; conversations that the box begins have it as source (P-1).
    pub management: IpAddr,
    /// Interfaces that the fast path is attached to, sorted; empty only if `xdp` is off.
    pub interfaces: Vec<String>,
    /// How it is attached.
    pub xdp: XdpMode,
    /// How long the fast path goes on answering when the daemon has ended or hangs.
    #[serde(default = "max_age")]
    pub max_age: Duration,
    /// Percent of every agreement's capacity that this box may use (P-29).
    #[serde(default = "whole")]
    pub quota: u8,
}

/// Unless written: a box alone.
fn whole() -> u8 {
    100
}

/// Unless written: long enough for a restart or an upgrade, short enough that nobody answers from the past.
fn max_age() -> Duration {
    Duration::from_secs(60)
}

/// Longest interface name that Linux takes (IFNAMSIZ without the final zero).
const INTERFACE_LENGTH: usize = 15;

/// Reads `[box]`.
pub(super) fn read_box(root: &Section<'_>) -> Option<BoxSettings> {
    const KEYS: &[&str] = &["name", "management", "interfaces", "xdp", "max_age", "quota"];
    let section = root.table("box", KEYS, "`name`, `management` and `interfaces`")?;
    let name = section.require("name", "\"fra1-r1\"").and_then(|value| value.word("\"fra1-r1\""));
    let management =
        section.require("management", "\"198.18.0.5\"").and_then(|value| value.text("\"198.18.0.5\""));
    let management = management.and_then(|text| address(&text));
    let xdp = match section.get("xdp") {
        None => Some(XdpMode::Auto),
        Some(value) => choice(
            &value,
            &[
                ("auto", XdpMode::Auto),
                ("native", XdpMode::Native),
                ("generic", XdpMode::Generic),
                ("off", XdpMode::Off),
            ],
        ),
    };
    let interfaces = match (section.get("interfaces"), xdp) {
        (None, Some(XdpMode::Off) | None) => Some(Vec::new()),
        _ => {
            section.require("interfaces", "[\"eth1\"], or xdp = \"off\"").and_then(|value| interfaces(&value))
        }
    };
    let age = match section.get("max_age") {
        None => Some(max_age()),
        Some(value) => units::duration(&value, Duration::from_secs(3)..=Duration::from_secs(86_400)),
    };
    let quota = section.get("quota").map_or(Some(u64::from(whole())), |value| value.integer(1..=100));
    Some(BoxSettings {
        name: name?.text.to_owned(),
        management: management?,
        interfaces: interfaces?,
        xdp: xdp?,
        max_age: age?,
        quota: quota.and_then(|quota| u8::try_from(quota).ok())?,
    })
}

fn interfaces(value: &Value<'_>) -> Option<Vec<String>> {
    let list = value.nonempty_list("[\"eth1\"]")?;
    let mut names: Vec<String> = Vec::with_capacity(list.len());
    for element in &list {
        let name = element.word("\"eth1\"")?;
        if name.text.len() > INTERFACE_LENGTH || name.text.contains(|c: char| c == '/' || c.is_whitespace()) {
            let message = format!("`{}` cannot be the name of an interface", name.text);
            name.place.error(message, format!("at most {INTERFACE_LENGTH} characters, no blank and no `/`"));
        } else if names.iter().any(|known| known == name.text) {
            name.place.error(format!("interface `{}` is listed twice", name.text), "leave one out");
        } else {
            names.push(name.text.to_owned());
        }
    }
    names.sort_unstable();
    (names.len() == list.len()).then_some(names)
}

/// A word out of a fixed set.
pub(super) fn choice<T: Clone>(value: &Value<'_>, words: &[(&str, T)]) -> Option<T> {
    let text = value.text(&format!("\"{}\"", words[0].0))?;
    let found = words.iter().find(|(word, _)| *word == text.text).map(|(_, meaning)| meaning.clone());
    if found.is_none() {
        let help = suggest::help(text.text, words.iter().map(|(word, _)| *word), "");
        text.place.error(format!("`{}` is not known here", text.text), help);
    }
    found
}

/// Who holds each anycast address: the VIP's name, and where the address stands.
pub(super) type Holders<'a> = BTreeMap<IpAddr, (String, Place<'a>)>;

/// What [`read_vips`] found.
pub(super) struct Vips<'a> {
    pub(super) list: Vec<Vip>,
    /// Content networks, sorted.
    pub(super) cdns: Vec<String>,
    pub(super) holders: Holders<'a>,
}

/// Reads the `[[vip]]` tables.
pub(super) fn read_vips<'a>(root: &Section<'a>, management: Option<IpAddr>) -> Vips<'a> {
    let sections = root.tables("vip", &["name", "cdn", "addresses", "speaks"]);
    if root.get("vip").is_none() {
        root.place.error("no VIP is configured", "add a [[vip]] with `cdn` and `addresses`");
    }
    // A network that is named stays known although its VIP has another error.
    let mut cdns: Vec<String> = sections.iter().filter_map(|section| section.get("cdn")?.string()).collect();
    cdns.sort_unstable();
    cdns.dedup();
    let mut holders = BTreeMap::new();
    let (list, _) = read_named("VIP", sections, vip_name, |section, name| {
        let cdn = section.require("cdn", "\"acme\"").and_then(|value| value.word("\"acme\""));
        let speaks = match section.get("speaks") {
            None => Some(Speaks { dns: true, cdsr: true, http: true, rtsp: true }),
            Some(value) => speaks(&value),
        };
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for (address, text) in addresses(section, "[\"203.0.113.1\"]")? {
            claim(&mut holders, address, text, name, management);
            match address {
                IpAddr::V4(v4) => ipv4.push(v4),
                IpAddr::V6(v6) => ipv6.push(v6),
            }
        }
        ipv4.sort_unstable();
        ipv6.sort_unstable();
        let cdn = cdn?;
        let cdn = cdns.iter().position(|known| known == cdn.text)?;
        Some(Vip { name: name.to_owned(), cdn, ipv4, ipv6, speaks: speaks?, origin: section.place.origin() })
    });
    Vips { list, cdns, holders }
}

/// A VIP's name; its network's unless written.
fn vip_name<'a>(section: &Section<'a>) -> Option<Text<'a>> {
    match section.get("name") {
        Some(_) => written_name(section),
        None => section.get("cdn")?.word("\"acme\""),
    }
}

/// Notes who holds an anycast address, and reports a second holder.
fn claim<'a>(
    holders: &mut Holders<'a>,
    address: IpAddr,
    text: Text<'a>,
    vip: &str,
    management: Option<IpAddr>,
) {
    if management == Some(address) {
        text.place.error(
            format!("{address} is the box's management address"),
            "management never answers on a VIP: use another address for one of them",
        );
    }
    let Some((holder, place)) = holders.get(&address) else {
        holders.insert(address, (vip.to_owned(), text.place));
        return;
    };
    let (first, second) = place.clone().in_order(text.place);
    let owners = if holder == vip { format!("VIP `{vip}`") } else { format!("VIPs `{holder}` and `{vip}`") };
    second.error(
        format!("{address} is listed twice, for {owners}; first on line {}", first.line()),
        "an address belongs to one VIP: leave it out here or there",
    );
}

fn speaks(value: &Value<'_>) -> Option<Speaks> {
    let list = value.nonempty_list("[\"dns\", \"cdsr\", \"http\", \"rtsp\"]")?;
    let mut speaks = Speaks { dns: false, cdsr: false, http: false, rtsp: false };
    let mut all_known = true;
    for element in &list {
        match choice(element, &[("dns", 'd'), ("cdsr", 'c'), ("http", 'h'), ("rtsp", 'r')]) {
            Some('d') => speaks.dns = true,
            Some('c') => speaks.cdsr = true,
            Some('h') => speaks.http = true,
            Some(_) => speaks.rtsp = true,
            None => all_known = false,
        }
    }
    all_known.then_some(speaks)
}
