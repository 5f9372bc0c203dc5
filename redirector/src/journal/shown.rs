//! A decision with the names of a log, for people and programs.

use super::decision::{Decision, PathTaken, Spoken};
use super::format::Kind;
use super::question::{Question, subnet};
use super::reader::Names;
use crate::config::terms::show_instant;
use ipnet::IpNet;
use redirector_core::table::NONE;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// A decision in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// When, in microseconds since 1970.
    pub time: u64,
    /// Generation that decided.
    pub generation: u64,
    /// Load epoch of the share group that was used.
    pub epoch: u32,
    /// This stands for so many decisions, on average.
    pub one_in: u32,
    /// Who decided.
    pub path: PathTaken,
    /// How it was asked.
    pub protocol: Spoken,
    /// Who asked.
    pub client: IpAddr,
    /// From which port.
    pub port: u16,
    /// On whose behalf (EDNS client subnet).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs: Option<IpNet>,
    /// Which VIP address.
    pub address: IpAddr,
    /// Name of the VIP.
    pub vip: Option<String>,
    /// What for.
    pub asked: Question,
    /// Servers that the client has failed to use (CDSR).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<IpAddr>,
    /// Why the answer is what it is.
    pub reason: &'static str,
    /// The client's region.
    pub region: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// On whose account it was served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whom the client was sent to, best first.
    pub targets: Vec<String>,
}

impl Shown {
    /// In the words of the file that the decision stands in.
    pub fn of(decision: &Decision, names: &Names) -> Self {
        let chosen = &decision.chosen;
        let name = |kind, slot| match slot {
            NONE => None,
            slot => Some(names.get(kind, slot).map_or_else(|| format!("slot {slot}"), str::to_owned)),
        };
        // Slot 0 of regions counts clients of none.
        let region = Some(chosen.region).filter(|slot| *slot != 0);
        Self {
            time: decision.time,
            generation: decision.generation,
            epoch: decision.epoch,
            one_in: decision.one_in,
            path: decision.path,
            protocol: decision.spoken,
            client: decision.client.ip(),
            port: decision.client.port(),
            ecs: subnet(decision),
            address: decision.vip,
            vip: name(Kind::Vip, chosen.vip),
            asked: Question::of(decision),
            failed: decision.failed().into_iter().map(|(address, _)| address).collect(),
            reason: decision.reason.name(),
            region: region.and_then(|slot| name(Kind::Region, slot)),
            service: name(Kind::Service, chosen.service),
            account: name(Kind::Target, chosen.account),
            targets: chosen.targets().iter().filter_map(|slot| name(Kind::Target, *slot)).collect(),
        }
    }
}

/// Microseconds since 1970 as date and time.
pub fn moment(micros: u64) -> String {
    let seconds = show_instant(micros / 1_000_000);
    format!("{}.{:06}Z", seconds.trim_end_matches('Z'), micros % 1_000_000)
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path {
            PathTaken::Fast => "fast",
            PathTaken::Slow => "slow",
        };
        write!(f, "{} {path} {:<7} {}", moment(self.time), self.protocol.to_string(), self.client)?;
        self.ecs.iter().try_for_each(|network| write!(f, " for {network}"))?;
        write!(f, " at {} asks {}", self.address, self.asked)?;
        let failed: Vec<String> = self.failed.iter().map(ToString::to_string).collect();
        if !failed.is_empty() {
            write!(f, " (failed: {})", failed.join(", "))?;
        }
        let targets = if self.targets.is_empty() { "nobody".to_owned() } else { self.targets.join(", ") };
        write!(f, ": {targets}  {}", self.reason)?;
        self.region.iter().try_for_each(|region| write!(f, "  region {region}"))?;
        self.service.iter().try_for_each(|service| write!(f, "  service {service}"))?;
        self.account.iter().try_for_each(|account| write!(f, "  account {account}"))?;
        write!(f, "  generation {} epoch {}", self.generation, self.epoch)?;
        if self.one_in > 1 { write!(f, "  1 in {}", self.one_in) } else { Ok(()) }
    }
}
