//! An explanation as text for people.

use super::explain::{AccountReport, CandidateReport, Explanation, FastPath, Part, Winner};
use std::fmt;

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin.file.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}  ({})", self.name, self.origin),
        }
    }
}

impl fmt::Display for CandidateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, pools, share, up, factor, round_trip_ms, removed, forced, .. } = self;
        let state = if *up { "up" } else { "down" };
        write!(f, "{target:<20} {share:>6.2} %  {state:<4}  load factor {factor}/256")?;
        round_trip_ms.iter().try_for_each(|millis| write!(f, "  {millis:.1} ms away"))?;
        if !pools.is_empty() {
            write!(f, "  pool {}", pools.join(", "))?;
        }
        match removed {
            Some(why) => write!(f, "  removed: {why}"),
            None => match forced {
                Some(said) => write!(f, "  usable: {said}"),
                None => f.write_str("  usable"),
            },
        }
    }
}

impl fmt::Display for AccountReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, origin, share, note, chosen } = self;
        write!(f, "{target:<28} {share:>6.2} %")?;
        note.iter().try_for_each(|note| write!(f, "  {note}"))?;
        write!(f, "{}  ({origin})", if *chosen { "  chosen" } else { "" })
    }
}

impl fmt::Display for Winner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target)?;
        if let Some(address) = self.address {
            write!(f, "  {address}")?;
        }
        self.outcome.iter().try_for_each(|outcome| write!(f, "  {outcome}"))?;
        if self.site.is_empty() { Ok(()) } else { write!(f, "  site {}", self.site) }
    }
}

impl fmt::Display for FastPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers => f.write_str("answers the same, byte for byte"),
            Self::Punts { reason } => write!(f, "punts to the slow path: {reason}"),
            Self::Differs => f.write_str("ANSWERS OTHERWISE than the slow path: a defect, please report it"),
            Self::Off { reason } => write!(f, "off: {reason}"),
            Self::Never => f.write_str("not for connections: the slow path answers"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = |f: &mut fmt::Formatter<'_>, what: &str, part: &Option<Part>| match part {
            Some(part) => writeln!(f, "{what:<11}{part}"),
            None => writeln!(f, "{what:<11}none"),
        };
        writeln!(f, "client     {} asks by {} for {}", self.client, self.protocol, self.asked)?;
        if let Some(network) = self.ecs {
            write!(f, "ecs        on behalf of {network}")?;
            self.scope
                .iter()
                .try_for_each(|scope| write!(f, "; the answer holds in the /{scope} around it"))?;
            writeln!(f)?;
        }
        writeln!(f, "vip        {}  {}", self.vip, self.vip_part)?;
        none(f, "rule", &self.rule)?;
        self.proofs.iter().try_for_each(|proof| writeln!(f, "{:<11}{proof}", "proof"))?;
        none(f, "service", &self.service)?;
        none(f, "region", &self.region)?;
        if self.region.is_some() {
            let prefix = self.prefix.as_deref().unwrap_or("no prefix covers the client: the default region");
            writeln!(f, "{:<11}{prefix}", "prefix")?;
        }
        if self.provider.is_some() {
            none(f, "provider", &self.provider)?;
            none(f, "network", &self.network)?;
            self.accounts.iter().try_for_each(|account| writeln!(f, "account    {account}"))?;
        }
        self.states.iter().try_for_each(|said| writeln!(f, "{:<11}{said}", "state"))?;
        none(f, "coverage", &self.coverage)?;
        let mut last = None;
        for candidate in &self.candidates {
            let place = (candidate.tier, &candidate.origin);
            if last.replace(place) != Some(place) {
                match candidate.tier {
                    Some(tier) => writeln!(f, "tier {tier}     ({})", candidate.origin)?,
                    None => writeln!(f, "fallback   ({})", candidate.origin)?,
                }
            }
            writeln!(f, "           {candidate}")?;
        }
        for (place, winner) in self.winners.iter().enumerate() {
            writeln!(f, "{:<11}{winner}", if place == 0 { "winner" } else { "then" })?;
        }
        write!(f, "answer     {}", self.answer)?;
        self.ttl.iter().try_for_each(|ttl| write!(f, ", for {ttl} s"))?;
        writeln!(f, "\nreason     {} ({})", self.reason, self.code)?;
        write!(f, "tables     generation {}", self.generation)?;
        self.epoch.iter().try_for_each(|epoch| write!(f, ", epoch {epoch}"))?;
        writeln!(f, "\nfast path  {}", self.fast_path)?;
        if self.spread {
            writeln!(f, "note       the service spreads: another query ID or port can get another target")?;
        }
        Ok(())
    }
}
