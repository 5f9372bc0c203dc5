//! VIP addresses to the VIP table (P-1).

use crate::buckets;
use crate::model::{Network, Speaks};
use crate::names::NameTables;
use crate::refusal::Refusal;
use redirector_core::hash::Keys;
use redirector_core::lookup::mapped;
use redirector_core::table::{
    SPEAKS_CDSR, SPEAKS_DNS, SPEAKS_HTTP, SPEAKS_RTSP, VIP_BUCKETS, VipBucket, VipEntry, VipInfo,
};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most VIP addresses of one box. The table has twice the places, so that each finds one.
pub const MAX_VIP_ADDRESSES: usize = VIP_BUCKETS as usize;
const BUCKET_ENTRIES: usize = 2;

/// Buckets, and each VIP's addresses with what names at it end in.
pub(crate) fn build(
    network: &Network,
    keys: &Keys,
    names: &NameTables,
    refusals: &mut Vec<Refusal>,
) -> (Vec<VipBucket>, Vec<VipInfo>) {
    let mut entries: Vec<VipEntry> = Vec::new();
    let mut owner: HashMap<[u64; 2], usize> = HashMap::new();
    for (index, vip) in network.vips.iter().enumerate() {
        let v4 = vip.ipv4.iter().copied().map(IpAddr::V4);
        for address in v4.chain(vip.ipv6.iter().copied().map(IpAddr::V6)) {
            let key = match address {
                IpAddr::V4(v4) => mapped(ipv4_word(v4)),
                IpAddr::V6(v6) => ipv6_words(v6),
            };
            if let Some(other) = owner.insert(key, index) {
                refusals.push(Refusal::new(
                    format!("vip {:?}", vip.name),
                    &vip.origin,
                    format!("{address} is also an address of vip {:?}", network.vips[other].name),
                    "give each address to one VIP, once",
                ));
                continue;
            }
            entries.push(VipEntry {
                address: key,
                dns_depths: names.dns_depths[vip.cdn],
                url_depths: names.url_depths[vip.cdn],
                vip: index as u16,
                cdn: vip.cdn as u16,
                speaks: speaks_bits(vip.speaks),
                counter: 0,
            });
        }
    }
    let info = |vip: &crate::model::Vip| VipInfo {
        ipv6: vip.ipv6.first().map_or([0; 2], |address| ipv6_words(*address)),
        ipv4: vip.ipv4.first().map_or(0, |address| ipv4_word(*address)),
        names: names.name_tails[vip.cdn],
        hosts: names.host_tails[vip.cdn],
        ..VipInfo::default()
    };
    let mut infos: Vec<VipInfo> = network.vips.iter().map(info).collect();
    if infos.is_empty() {
        infos.push(VipInfo::default());
    }
    (place(&entries, keys, refusals), infos)
}

/// Notes each VIP's counter slot, by VIP number.
pub(crate) fn count(buckets: &mut [VipBucket], slots: &[u32]) {
    for entry in buckets.iter_mut().flat_map(|bucket| &mut bucket.entries) {
        // Empty places have no protocol. Slots are below `VIP_SLOTS`.
        if entry.speaks != 0 {
            entry.counter = slots[entry.vip as usize] as u16;
        }
    }
}

fn place(entries: &[VipEntry], keys: &Keys, refusals: &mut Vec<Refusal>) -> Vec<VipBucket> {
    let halves = |digest: u64| [digest as u32, (digest >> 32) as u32].map(|half| half & (VIP_BUCKETS - 1));
    let choices: Vec<[u32; 2]> = entries.iter().map(|entry| halves(keys.address(entry.address))).collect();
    let held = buckets::place(&choices, VIP_BUCKETS as usize, BUCKET_ENTRIES);
    let Some(held) = held.filter(|_| entries.len() <= MAX_VIP_ADDRESSES) else {
        let why = format!("{} addresses do not fit", entries.len());
        let remedy =
            format!("use at most {MAX_VIP_ADDRESSES} addresses; if they are fewer, change the fleet's key");
        refusals.push(Refusal::of_network("VIP addresses", why, remedy));
        return vec![VipBucket::default(); VIP_BUCKETS as usize];
    };
    let entry = |item: Option<usize>| item.map_or_else(VipEntry::default, |item| entries[item]);
    held.chunks_exact(BUCKET_ENTRIES)
        .map(|places| VipBucket { entries: std::array::from_fn(|n| entry(places[n])) })
        .collect()
}

fn speaks_bits(speaks: Speaks) -> u16 {
    let Speaks { dns, cdsr, http, rtsp } = speaks;
    [(dns, SPEAKS_DNS), (cdsr, SPEAKS_CDSR), (http, SPEAKS_HTTP), (rtsp, SPEAKS_RTSP)]
        .into_iter()
        .map(|(has, bit)| if has { bit } else { 0 })
        .sum()
}

/// An address as tables hold it: its bytes in network order, read as one word.
pub fn ipv4_word(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// An address as tables hold it: its bytes in network order, read as two words.
pub fn ipv6_words(address: Ipv6Addr) -> [u64; 2] {
    let octets = address.octets();
    [0, 8].map(|at| u64::from_ne_bytes(std::array::from_fn(|n| octets[at + n])))
}
