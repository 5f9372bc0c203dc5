//! The tables of one generation in plain memory: what the compiler writes, and what BPF maps are filled from.

use redirector_core::table::{
    GroupPointer, Meta, NameBucket, Node64, Page256, Pod, Service, ShareRecord, Tables, Target, VipBucket,
    VipInfo, WireName, Words16, Zone,
};

/// One generation's tables. Every list has at least one element, because a BPF array cannot be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableImage {
    /// The generation's constants.
    pub meta: Meta,
    /// VIP addresses: [`redirector_core::table::VIP_BUCKETS`] buckets.
    pub vips: Vec<VipBucket>,
    /// Addresses of each VIP, in the order of the network's VIPs.
    pub vip_info: Vec<VipInfo>,
    /// Suffix table: a power of two of buckets.
    pub suffixes: Vec<NameBucket>,
    /// DNS zones in the order of the network's, then URL host suffixes.
    pub zones: Vec<Zone>,
    /// Name table: a power of two of buckets.
    pub names: Vec<NameBucket>,
    /// Services in the order of the network's.
    pub services: Vec<Service>,
    /// IPv4 root: 65536 entries.
    pub ipv4_root: Vec<Words16>,
    /// IPv4 pages.
    pub ipv4_pages: Vec<Page256>,
    /// IPv6 root: 2^20 entries.
    pub ipv6_root: Vec<Words16>,
    /// IPv6 nodes.
    pub ipv6_nodes: Vec<Node64>,
    /// Counter slots by region number.
    pub region_counters: Vec<Words16>,
    /// Share groups by coverage, family and region.
    pub cells: Vec<Words16>,
    /// Current record of each share group.
    pub groups: Vec<GroupPointer>,
    /// Share records, with room for later ones (see [`crate::compile::record_capacity`]).
    pub records: Vec<ShareRecord>,
    /// Targets in the order of the network's.
    pub targets: Vec<Target>,
    /// Names of targets that are no servers, and of their name servers.
    pub wire_names: Vec<WireName>,
}

macro_rules! table_kinds {
    ($( $(#[doc = $doc:literal])+ $kind:ident: $name:literal, $value:ty, $slice:expr; )+) => {
        /// Each table of an image, in the order in which maps are created and filled.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum TableKind { $( $(#[doc = $doc])+ $kind, )+ }

        impl TableKind {
            /// Every kind, in order.
            pub const ALL: &'static [TableKind] = &[ $( TableKind::$kind, )+ ];

            /// Name of its BPF map, at most 15 characters.
            pub fn name(self) -> &'static str {
                match self { $( TableKind::$kind => $name, )+ }
            }

            /// Bytes of one value.
            pub fn value_size(self) -> usize {
                match self { $( TableKind::$kind => size_of::<$value>(), )+ }
            }
        }

        impl TableImage {
            /// A table's values as they lie in a BPF map.
            pub fn bytes(&self, kind: TableKind) -> &[u8] {
                match kind {
                    $( TableKind::$kind => {
                        let slice: fn(&TableImage) -> &[$value] = $slice;
                        bytes_of(slice(self))
                    } )+
                }
            }
        }
    };
}

table_kinds! {
    /// [`TableImage::meta`], one value.
    Meta: "META", Meta, |image| std::slice::from_ref(&image.meta);
    /// [`TableImage::vips`]
    Vips: "VIPS", VipBucket, |image| &image.vips;
    /// [`TableImage::vip_info`]
    VipInfo: "VIP_INFO", VipInfo, |image| &image.vip_info;
    /// [`TableImage::suffixes`]
    Suffixes: "SUFFIXES", NameBucket, |image| &image.suffixes;
    /// [`TableImage::zones`]
    Zones: "ZONES", Zone, |image| &image.zones;
    /// [`TableImage::names`]
    Names: "NAMES", NameBucket, |image| &image.names;
    /// [`TableImage::services`]
    Services: "SERVICES", Service, |image| &image.services;
    /// [`TableImage::ipv4_root`]
    Ipv4Root: "IPV4_ROOT", Words16, |image| &image.ipv4_root;
    /// [`TableImage::ipv4_pages`]
    Ipv4Pages: "IPV4_PAGES", Page256, |image| &image.ipv4_pages;
    /// [`TableImage::ipv6_root`]
    Ipv6Root: "IPV6_ROOT", Words16, |image| &image.ipv6_root;
    /// [`TableImage::ipv6_nodes`]
    Ipv6Nodes: "IPV6_NODES", Node64, |image| &image.ipv6_nodes;
    /// [`TableImage::region_counters`]
    RegionCounters: "REGION_COUNTERS", Words16, |image| &image.region_counters;
    /// [`TableImage::cells`]
    Cells: "CELLS", Words16, |image| &image.cells;
    /// [`TableImage::groups`]
    Groups: "GROUPS", GroupPointer, |image| &image.groups;
    /// [`TableImage::records`]
    Records: "RECORDS", ShareRecord, |image| &image.records;
    /// [`TableImage::targets`]
    Targets: "TARGETS", Target, |image| &image.targets;
    /// [`TableImage::wire_names`]
    WireNames: "WIRE_NAMES", WireName, |image| &image.wire_names;
}

impl TableImage {
    /// Number of values in a table.
    pub fn len(&self, kind: TableKind) -> usize {
        self.bytes(kind).len() / kind.value_size()
    }
}

fn bytes_of<T: Pod>(values: &[T]) -> &[u8] {
    // SAFETY: `Pod` types have no padding, so every byte of the slice is initialised; u8 needs no alignment; the
    // result borrows `values`, and its length is that of the slice.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

impl Tables for TableImage {
    /// An image is at rest: its clock stands.
    fn unix_seconds(&self) -> u32 {
        0
    }
    fn meta(&self) -> Option<&Meta> {
        Some(&self.meta)
    }
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket> {
        self.vips.get(index as usize)
    }
    fn vip_info(&self, index: u32) -> Option<&VipInfo> {
        self.vip_info.get(index as usize)
    }
    fn suffix_bucket(&self, index: u32) -> Option<&NameBucket> {
        self.suffixes.get(index as usize)
    }
    fn zone(&self, index: u32) -> Option<&Zone> {
        self.zones.get(index as usize)
    }
    fn name_bucket(&self, index: u32) -> Option<&NameBucket> {
        self.names.get(index as usize)
    }
    fn service(&self, index: u32) -> Option<&Service> {
        self.services.get(index as usize)
    }
    fn ipv4_root(&self, index: u32) -> Option<&Words16> {
        self.ipv4_root.get(index as usize)
    }
    fn ipv4_page(&self, index: u32) -> Option<&Page256> {
        self.ipv4_pages.get(index as usize)
    }
    fn ipv6_root(&self, index: u32) -> Option<&Words16> {
        self.ipv6_root.get(index as usize)
    }
    fn ipv6_node(&self, index: u32) -> Option<&Node64> {
        self.ipv6_nodes.get(index as usize)
    }
    fn region_counters(&self, index: u32) -> Option<&Words16> {
        self.region_counters.get(index as usize)
    }
    fn cell(&self, number: u32) -> Option<u32> {
        Some(self.cells.get(number as usize >> 4)?.words[number as usize & 15])
    }
    fn group(&self, index: u32) -> Option<GroupPointer> {
        self.groups.get(index as usize).copied()
    }
    fn record(&self, index: u32) -> Option<&ShareRecord> {
        self.records.get(index as usize)
    }
    fn target(&self, index: u32) -> Option<&Target> {
        self.targets.get(index as usize)
    }
    fn wire_name(&self, index: u32) -> Option<&WireName> {
        self.wire_names.get(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_names_are_upper_case_unique_and_fit_the_kernel() {
        for (i, kind) in TableKind::ALL.iter().enumerate() {
            let name = kind.name();
            assert!(name.len() <= 15, "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert!(TableKind::ALL[i + 1..].iter().all(|other| other.name() != name));
            assert_eq!(kind.value_size() % 8, 0, "{name}: BPF arrays round values up to 8 bytes");
        }
    }
}
