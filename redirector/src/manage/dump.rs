//! What is in the tables that answers come from, as text: read back from the tables, with the operator's names.

use super::view::View;
use crate::dataplane::Reading;
use redirector_core::table::{MAX_SHAPES, NONE, SHARE_ENTRIES, ShareRecord, TIER_FALLBACK, Tables};
use redirector_plan::model::Outcome;
use std::fmt::{self, Write};

/// Lines of one kind that are shown unless all are asked for.
const SOME: usize = 200;

/// The tables of a box, as text. Without `all`, long lists are cut, and say so.
pub fn dump(view: &View, all: bool) -> String {
    let mut dump = Dump { view, text: String::new(), limit: if all { usize::MAX } else { SOME } };
    // Writing to a string cannot fail.
    let _: fmt::Result = dump.write();
    dump.text
}

struct Dump<'v> {
    view: &'v View,
    text: String,
    limit: usize,
}

impl Dump<'_> {
    fn write(&mut self) -> fmt::Result {
        let generation = &self.view.generation;
        let network = &generation.config.network;
        if let Some(meta) = generation.tables.read().meta() {
            writeln!(
                self.text,
                "generation {}, layout {}, epoch {}, {} regions, {} suffix and {} name buckets, room for {} share records",
                meta.generation,
                meta.layout,
                self.view.epoch,
                meta.regions.saturating_sub(1),
                meta.suffix_mask as u64 + 1,
                meta.name_mask as u64 + 1,
                generation.tables.record_capacity()
            )?;
        }
        self.list("vips", network.vips.len(), Self::vip)?;
        self.list("zones", network.zones.len(), Self::zone)?;
        self.list("regions", network.regions.len(), Self::region)?;
        self.list("services", network.services.len(), Self::service)?;
        self.list("share groups", generation.compiled.groups.len(), Self::group)?;
        self.list("targets", network.targets.len(), Self::target)
    }

    fn list(
        &mut self,
        what: &str,
        count: usize,
        mut line: impl FnMut(&mut Self, usize) -> fmt::Result,
    ) -> fmt::Result {
        writeln!(self.text, "\n{what}: {count}")?;
        let shown = count.min(self.limit);
        for index in 0..shown {
            line(self, index)?;
        }
        if shown < count {
            writeln!(self.text, "  … and {} more; --all shows them", count - shown)?;
        }
        Ok(())
    }

    fn vip(&mut self, index: usize) -> fmt::Result {
        let network = &self.view.generation.config.network;
        let vip = &network.vips[index];
        write!(self.text, "  {index} {} of {}:", vip.name, network.cdns[vip.cdn])?;
        vip.ipv4.iter().try_for_each(|address| write!(self.text, " {address}"))?;
        vip.ipv6.iter().try_for_each(|address| write!(self.text, " {address}"))?;
        let speaks = vip.speaks;
        let spoken =
            [(speaks.dns, "dns"), (speaks.cdsr, "cdsr"), (speaks.http, "http"), (speaks.rtsp, "rtsp")];
        let spoken: Vec<&str> = spoken.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
        writeln!(self.text, "; speaks {}", spoken.join(", "))
    }

    fn zone(&mut self, index: usize) -> fmt::Result {
        let generation = &self.view.generation;
        let suffix = generation.config.network.zones[index].suffix.join(".");
        let Some(zone) = generation.tables.read().zone(index as u32).copied() else { return Ok(()) };
        let (serial, negative, ns) = (zone.serial, zone.negative_ttl, zone.ns_ttl);
        writeln!(self.text, "  {index} {suffix}: serial {serial}, negative TTL {negative} s, NS TTL {ns} s")?;
        for shape in zone.shapes.iter().take((zone.shape_count as usize).min(MAX_SHAPES)) {
            let label = |place: u16| if shape.keyed >> place & 1 == 1 { "fixed" } else { "{free}" };
            let labels: Vec<&str> = (0..shape.labels).map(label).collect();
            let shown = if labels.is_empty() { "@".to_owned() } else { labels.join(".") };
            writeln!(self.text, "      names of the form {shown}")?;
        }
        Ok(())
    }

    fn region(&mut self, index: usize) -> fmt::Result {
        let region = &self.view.generation.config.network.regions[index];
        writeln!(self.text, "  {} {}: {} prefixes", index + 1, region.name, region.prefixes.len())
    }

    fn service(&mut self, index: usize) -> fmt::Result {
        let generation = &self.view.generation;
        let service = &generation.config.network.services[index];
        let coverage = &generation.config.network.coverages[service.coverage].name;
        let Some(record) = generation.tables.read().service(index as u32).copied() else { return Ok(()) };
        write!(self.text, "  {index} {}: coverage {coverage}, TTL {} s", service.name, record.ttl)?;
        write!(self.text, ", chosen by {:?}, {} a DNS answer", service.choose_by, record.answers)?;
        if let Some(binding) = &service.https {
            write!(self.text, ", HTTPS records with alpn {:?} and port {}", binding.alpn, binding.port)?;
        }
        match record.fallback {
            [NONE, NONE] => writeln!(self.text, ", no fallback"),
            [v4, v6] => {
                let name =
                    |group: u32| if group == NONE { "none".to_owned() } else { format!("group {group}") };
                writeln!(self.text, ", fallback IPv4 {}, IPv6 {}", name(v4), name(v6))
            }
        }
    }

    fn group(&mut self, index: usize) -> fmt::Result {
        let tables = self.view.generation.tables.read();
        let Some(pointer) = tables.group(index as u32) else { return Ok(()) };
        if pointer.record() == NONE {
            return writeln!(self.text, "  {index}: nothing usable, epoch {}", pointer.epoch());
        }
        writeln!(self.text, "  {index}: record {}, epoch {}", pointer.record(), pointer.epoch())?;
        let mut next = pointer.record();
        // A chain has fewer tiers than a byte counts.
        for _ in 0..=TIER_FALLBACK {
            let Some(record) = tables.record(next) else { return Ok(()) };
            match record.tier {
                TIER_FALLBACK => write!(self.text, "      fallback:")?,
                tier => write!(self.text, "      tier {tier}:")?,
            }
            self.record(&tables, record, 0)?;
            writeln!(self.text)?;
            next = record.next;
            if next == NONE {
                break;
            }
        }
        Ok(())
    }

    /// A record's entries, each with its part of those who get clients.
    fn record(&mut self, tables: &Reading<'_>, record: &ShareRecord, depth: usize) -> fmt::Result {
        let entries = (0..SHARE_ENTRIES).filter(|entry| record.used >> entry & 1 == 1);
        let is_down = |entry: usize| record.down >> entry & 1 == 1;
        let up = entries.clone().filter(|entry| !is_down(*entry));
        let total: u64 = up.map(|entry| record.weight(entry)).sum();
        for entry in entries {
            let weight = if is_down(entry) { 0 } else { record.weight(entry) };
            let part = weight as f64 * 100.0 / total.max(1) as f64;
            let down = if is_down(entry) { " (no clients)" } else { "" };
            if record.branch == 0 {
                let target = self.view.generation.config.network.targets.get(record.refs[entry] as usize);
                let name = target.map_or("?", |target| &target.name);
                write!(self.text, " {name} {part:.2} %{down};")?;
            } else if depth < redirector_core::table::SHARE_LEVELS {
                let child = record.base.wrapping_add(record.refs[entry] as u32);
                write!(self.text, " {part:.2} %{down} of [")?;
                if let Some(child) = tables.record(child) {
                    self.record(tables, child, depth + 1)?;
                }
                write!(self.text, "];")?;
            }
        }
        Ok(())
    }

    fn target(&mut self, index: usize) -> fmt::Result {
        let target = &self.view.generation.config.network.targets[index];
        write!(self.text, "  {index} {}:", target.name)?;
        target.ipv4.iter().try_for_each(|address| write!(self.text, " {address}"))?;
        target.ipv6.iter().try_for_each(|address| write!(self.text, " {address}"))?;
        if target.outcome != Outcome::Server {
            write!(self.text, " {}", target.outcome)?;
        }
        let Some(fact) = self.view.facts.get(index) else { return writeln!(self.text) };
        let state = if fact.up { "up" } else { "down" };
        writeln!(self.text, "; {state}, load factor {}/256", fact.factor)
    }
}
