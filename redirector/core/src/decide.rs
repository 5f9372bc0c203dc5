//! The decision: which targets a client gets for a service. Both paths run this and nothing else.

use crate::hash::Keys;
use crate::table::{
    CHOOSE_CLIENT_PREFIX, CHOOSE_CONTENT, CHOOSE_SPREAD, GroupPointer, IPV6_ROOT_BITS, NONE, REGION_LINK,
    SHARE_ENTRIES, SHARE_LEVELS, Service, ShareRecord, TIER_FALLBACK, Tables,
};
use crate::verdict::{MAX_ENDPOINTS, Pick, Reason, Verdict};
use crate::verifier::{equal, less, phase};

/// Endpoints the fast path chooses at most; requests for more are punted.
pub const FAST_ENDPOINTS: u32 = 4;
/// Failed servers the fast path compares; longer lists are punted.
pub const FAST_EXCLUDED: u32 = 4;
/// How often a choice is drawn before those who are left share it out.
const DRAWS: usize = 3;
/// Failed and preferred servers a request can name.
pub const MAX_EXCLUDED: usize = 8;

/// A client's address, in host order so that shifts find its prefixes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Client {
    /// Upper 64 bits of an IPv6 address; 0 for IPv4.
    pub high: u64,
    /// Lower 64 bits, or the IPv4 address.
    pub low: u64,
    /// 1 for IPv6, 0 for IPv4. A whole word: what fills a shorter one up would be copied byte by byte.
    pub v6: u64,
}

impl Client {
    /// From an address; IPv4-mapped IPv6 counts as IPv4.
    pub fn new(address: core::net::IpAddr) -> Self {
        match address.to_canonical() {
            core::net::IpAddr::V4(v4) => Self { high: 0, low: v4.to_bits() as u64, v6: 0 },
            core::net::IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Self { high: (bits >> 64) as u64, low: bits as u64, v6: 1 }
            }
        }
    }
}

/// Everything a choice depends on beside the tables (P-22).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Query {
    /// Who the answer is for.
    pub client: Client,
    /// The client's region, which the fast path looked up before it read the message (`look_ahead`).
    pub region: u32,
    /// Service number.
    pub service: u32,
    /// Hash of what is asked for.
    pub content: u64,
    /// Query ID and source port, for services that spread.
    pub spread: u64,
    /// Family of the addresses wanted: 0 IPv4, 1 IPv6. A number, because the verifier knows no range of a `bool`.
    pub family: u32,
    /// Endpoints wanted, 1..=8.
    pub want: u32,
    /// Digests ([`Keys::address`]) of servers the client reports as failed; 0 is unused.
    pub excluded: [u64; MAX_EXCLUDED],
    /// Digest of the server the client would like to keep; 0 is none.
    pub preferred: u64,
}

/// Looks the client's region up for a choice that comes later. Loads take long and the CPU can go on meanwhile: called
/// before the message is read. The slow path leaves it to [`decide`].
#[inline(always)]
pub(crate) fn look_ahead<T: Tables, const FULL: bool>(
    client: &Client,
    tables: &T,
    query: &mut Query,
) -> Option<()> {
    if !FULL {
        query.region = region(client, tables)?;
    }
    phase();
    Some(())
}

/// Region number of a client: longest match, 0 if no prefix covers it. `None` means the tables are inconsistent.
#[inline(always)]
pub fn region<T: Tables>(client: &Client, tables: &T) -> Option<u32> {
    Some(region_entry(client, tables)? & 0xffff)
}

/// The entry of the region tables that holds for a client: see [`REGION_LINK`].
#[inline(always)]
pub fn region_entry<T: Tables>(client: &Client, tables: &T) -> Option<u32> {
    if client.v6 != 0 { region_v6(client, tables) } else { region_v4(client.low as u32, tables) }
}

#[inline(always)]
fn region_v4<T: Tables>(address: u32, tables: &T) -> Option<u32> {
    let root = tables.ipv4_root(address >> 20)?;
    let mut entry = root.words[(address >> 16 & 15) as usize];
    if entry & REGION_LINK != 0 {
        entry = tables.ipv4_page(entry & !REGION_LINK)?.words[(address >> 8 & 255) as usize];
        if entry & REGION_LINK != 0 {
            entry = tables.ipv4_page(entry & !REGION_LINK)?.words[(address & 255) as usize];
        }
    }
    Some(entry)
}

#[inline(always)]
fn region_v6<T: Tables>(client: &Client, tables: &T) -> Option<u32> {
    let top = (client.high >> (64 - IPV6_ROOT_BITS)) as u32;
    let mut entry = tables.ipv6_root(top >> 4)?.words[(top & 15) as usize];
    let mut rest =
        [client.high << IPV6_ROOT_BITS | client.low >> (64 - IPV6_ROOT_BITS), client.low << IPV6_ROOT_BITS];
    for _ in 0..(128 - IPV6_ROOT_BITS) / 6 {
        if entry & REGION_LINK == 0 {
            break;
        }
        entry = tables.ipv6_node(entry & !REGION_LINK)?.words[(rest[0] >> 58) as usize];
        rest = [rest[0] << 6 | rest[1] >> 58, rest[1] << 6];
    }
    Some(entry)
}

/// Chooses targets. `FULL` is the slow path; without it, choices that need unbounded work come back as
/// [`Reason::PuntChoice`]. Both give the same verdict otherwise.
#[inline(always)]
pub fn decide<T: Tables, const FULL: bool>(
    query: &Query,
    service: &Service,
    tables: &T,
    verdict: &mut Verdict,
) {
    verdict.begin(service.ttl);
    if !FULL && (query.want > FAST_ENDPOINTS || query.preferred != 0) {
        verdict.reason = Reason::PuntChoice;
        return;
    }
    if choose::<T, FULL>(query, service, tables, verdict).is_none() {
        verdict.reason = Reason::PuntTable;
        verdict.count = 0;
    }
}

#[inline(always)]
fn choose<T: Tables, const FULL: bool>(
    query: &Query,
    service: &Service,
    tables: &T,
    verdict: &mut Verdict,
) -> Option<()> {
    let meta = tables.meta()?;
    verdict.region = if FULL { region(&query.client, tables)? } else { query.region };
    let row = service.coverage.wrapping_mul(2).wrapping_add(query.family & 1);
    let cell = row.wrapping_mul(meta.regions).wrapping_add(verdict.region);
    let mut group = tables.cell(cell)?;
    let mut pointer = if group == NONE { GroupPointer::new(NONE, 0) } else { tables.group(group)? };
    if pointer.record() == NONE {
        let fallback = service.fallback[query.family as usize & 1];
        if fallback != NONE {
            group = fallback;
            pointer = tables.group(fallback)?;
        }
    }
    verdict.group = group;
    verdict.epoch = pointer.epoch();
    if pointer.record() == NONE {
        verdict.reason = Reason::NothingUsable;
        return Some(());
    }
    let root = tables.record(pointer.record())?;
    let hash = choice_key(query, service, &meta.keys);
    enter_tier(root, service, hash, verdict);
    phase();
    if FULL {
        pick_tree(root, query, &meta.keys, tables, verdict, 1)?;
        pick_further(root, hash, query, service, tables, verdict)?;
    } else {
        let leaf = fast_leaf(root, &meta.keys, tables, verdict)?;
        phase();
        if leaf.branch == 0 {
            pick_leaf::<T, false>(leaf, query, &meta.keys, tables, verdict)?;
        }
        if verdict.count == 0 {
            // A third level; or all excluded: siblings, later tiers or the fallback may have somebody.
            verdict.reason = Reason::PuntChoice;
        }
    }
    Some(())
}

/// Notes the tier that is chosen from now.
#[inline(always)]
pub(crate) fn enter_tier(root: &ShareRecord, service: &Service, hash: u64, verdict: &mut Verdict) {
    verdict.ttl = if root.ttl == NONE { service.ttl } else { root.ttl };
    verdict.reason = match root.tier {
        0 => Reason::FirstTier,
        TIER_FALLBACK => Reason::Fallback,
        _ => Reason::LaterTier,
    };
    verdict.pick.hash = hash;
}

/// Later tiers and the fallback, for a client that excludes everybody in the tier it would get (P-18).
fn pick_further<T: Tables>(
    root: &ShareRecord,
    hash: u64,
    query: &Query,
    service: &Service,
    tables: &T,
    verdict: &mut Verdict,
) -> Option<()> {
    let keys = &tables.meta()?.keys;
    let mut tier = *root;
    // Chains end by themselves; the bound is for tables that contradict themselves.
    for _ in 0..=TIER_FALLBACK {
        if verdict.count > 0 || query.want == 0 {
            return Some(());
        }
        if tier.next != NONE {
            tier = *tables.record(tier.next)?;
        } else {
            let fallback = service.fallback[query.family as usize & 1];
            let pointer = if fallback == NONE { None } else { tables.group(fallback) };
            match pointer {
                Some(pointer) if tier.tier != TIER_FALLBACK && pointer.record() != NONE => {
                    (verdict.group, verdict.epoch) = (fallback, pointer.epoch());
                    tier = *tables.record(pointer.record())?;
                }
                _ => {
                    verdict.reason = Reason::AllExcluded;
                    return Some(());
                }
            }
        }
        enter_tier(&tier, service, hash, verdict);
        pick_tree(&tier, query, keys, tables, verdict, 1)?;
    }
    (verdict.count > 0).then_some(())
}

/// Equal keys get equal targets; see `ChooseBy` in the planner for what each kind depends on.
#[inline(always)]
pub(crate) fn choice_key(query: &Query, service: &Service, keys: &Keys) -> u64 {
    let (high, low) = (query.client.high, query.client.low);
    let by = |kind: u8| equal(service.choose_by as u64, kind as u64);
    let (prefix, content, spread) = (by(CHOOSE_CLIENT_PREFIX), by(CHOOSE_CONTENT), by(CHOOSE_SPREAD));
    let v6 = query.client.v6.wrapping_neg();
    // What does not count of the address.
    let (cut_high, cut_low) = (content | (prefix & v6 & 0xffff), content | (prefix & (v6 | 0xff)));
    let high = (high & !cut_high) ^ (query.spread & spread);
    let low = (low & !cut_low) ^ (query.content & content);
    keys.step(keys.step(keys.step(keys.seed, service.salt), high), low)
}

/// Finds the entry that the hash leads to: 1 if it keeps it, else 0. Each split takes 16 bits of the hash.
#[inline(always)]
pub(crate) fn stand(record: &ShareRecord, pick: &mut Pick) -> u64 {
    let hash = pick.hash;
    let mut node = 1;
    for shift in [48, 32, 16] {
        let split = record.thresholds[node as usize & (SHARE_ENTRIES - 1)] >> 16;
        node = 2 * node + 1 - less(hash >> shift & 0xffff, split as u64);
    }
    pick.entry = node as u32 & (SHARE_ENTRIES as u32 - 1);
    let keep = record.thresholds[node as usize & (SHARE_ENTRIES - 1)] & 0xffff;
    less(keep as u64, hash & 0xffff) ^ 1
}

/// Whether the entry that was found can be chosen.
#[inline(always)]
fn is_free(pick: &Pick) -> u64 {
    (pick.free >> (pick.entry & (SHARE_ENTRIES as u32 - 1)) & 1) as u64
}

/// Mixes the hash for another draw.
#[inline(always)]
fn draw_anew(keys: &Keys, pick: &mut Pick) {
    pick.hash = keys.step(keys.seed_fp, pick.hash);
    phase();
}

/// Chooses the first free entry that keeps the hash, or the hash mixed anew, and so on: whoever sheds clients or goes
/// down moves these and no others. After [`DRAWS`] in vain, the free entries share by what they keep. `false` if no free
/// entry keeps anything.
#[inline(always)]
fn pick_entry(record: &ShareRecord, keys: &Keys, pick: &mut Pick) -> bool {
    for _ in 0..DRAWS {
        if stand(record, pick) & is_free(pick) == 1 {
            return true;
        }
        draw_anew(keys, pick);
    }
    share_out(record, pick);
    phase();
    is_free(pick) == 1
}

/// The choice among the free entries alone. Apart, because it is rare and needs stack.
#[inline(always)]
fn share_out(record: &ShareRecord, pick: &mut Pick) {
    let mut sums = [0u64; SHARE_ENTRIES];
    let mut total = 0u64;
    for (entry, sum) in sums.iter_mut().enumerate() {
        total += if pick.free >> entry & 1 == 1 { record.weight(entry) } else { 0 };
        *sum = total;
    }
    // The weights make 2^41 at most.
    let point = ((pick.hash >> 41) * total) >> 23;
    let mut entry = 0;
    for sum in &sums[..SHARE_ENTRIES - 1] {
        entry += (point >= *sum) as u32;
    }
    pick.entry = entry;
}

/// Entries that take clients.
#[inline(always)]
pub(crate) fn usable(record: &ShareRecord) -> u32 {
    record.used as u32 & !(record.down as u32)
}

/// Whether the client asked not to be sent to a target: either of its addresses is on the failed list.
#[inline(always)]
fn is_excluded<const FULL: bool>(query: &Query, digests: [u64; 2]) -> bool {
    let listed = if FULL { MAX_EXCLUDED } else { FAST_EXCLUDED as usize };
    let mut found = false;
    for digest in &query.excluded[..listed] {
        found |= *digest != 0 && (*digest == digests[0] || *digest == digests[1]);
    }
    found
}

/// Takes targets from a leaf record, best first, until enough are found or none is left.
#[inline(always)]
fn pick_leaf<T: Tables, const FULL: bool>(
    record: &ShareRecord,
    query: &Query,
    keys: &Keys,
    tables: &T,
    verdict: &mut Verdict,
) -> Option<()> {
    verdict.pick.free = usable(record);
    if FULL && query.preferred != 0 {
        for entry in 0..SHARE_ENTRIES {
            if verdict.pick.free >> entry & 1 == 1 && is_preferred(query, record.refs[entry], tables)? {
                push(verdict, record, entry);
                verdict.pick.free &= !(1 << entry);
            }
        }
    }
    for _ in 0..SHARE_ENTRIES {
        phase();
        if verdict.pick.free == 0
            || verdict.count >= query.want
            || !pick_entry(record, keys, &mut verdict.pick)
        {
            break;
        }
        let entry = take_entry(keys, &mut verdict.pick);
        if query.excluded[0] != 0
            && is_excluded::<FULL>(query, tables.target(record.refs[entry] as u32)?.digests)
        {
            continue;
        }
        push(verdict, record, entry);
    }
    Some(())
}

/// Takes the chosen entry out of the free ones and mixes the hash for the next choice.
#[inline(always)]
fn take_entry(keys: &Keys, pick: &mut Pick) -> usize {
    let entry = pick.entry & (SHARE_ENTRIES as u32 - 1);
    pick.free &= !(1 << entry);
    pick.hash = keys.step(pick.hash, entry as u64 + 1);
    entry as usize
}

#[inline(always)]
fn push(verdict: &mut Verdict, record: &ShareRecord, entry: usize) {
    let place = verdict.count as usize & (MAX_ENDPOINTS - 1);
    verdict.targets[place] = record.refs[entry] as u32;
    verdict.shares[place] = (record.weight(entry) >> 32).clamp(1, 255) as u8;
    verdict.count += 1;
}

fn is_preferred<T: Tables>(query: &Query, target: u16, tables: &T) -> Option<bool> {
    let digests = tables.target(target as u32)?.digests;
    Some(digests.contains(&query.preferred) && !is_excluded::<true>(query, digests))
}

/// Start hash within a child record: independent of the choice among its siblings.
#[inline(always)]
fn child_hash(hash: u64, keys: &Keys) -> u64 {
    keys.step(keys.seed_fp ^ keys.seed, hash)
}

/// The record the fast path chooses targets from if it is a leaf: the root, or the child of a branch.
#[inline(always)]
fn fast_leaf<'t, T: Tables>(
    root: &'t ShareRecord,
    keys: &Keys,
    tables: &'t T,
    verdict: &mut Verdict,
) -> Option<&'t ShareRecord> {
    if root.branch == 0 {
        return Some(root);
    }
    let free = usable(root);
    for _ in 0..DRAWS {
        verdict.pick.free = free;
        stand(root, &mut verdict.pick);
        let is_open = is_free(&verdict.pick);
        let leaf = child(root, &verdict.pick, tables)?;
        let hash = verdict.pick.hash;
        (verdict.pick.hash, verdict.pick.free) = (child_hash(hash, keys), usable(leaf));
        phase();
        if leaf.branch != 0 || stand(leaf, &mut verdict.pick) & is_free(&verdict.pick) & is_open == 1 {
            return Some(leaf);
        }
        verdict.pick.hash = hash;
        draw_anew(keys, &mut verdict.pick);
    }
    verdict.pick.free = free;
    share_out(root, &mut verdict.pick);
    phase();
    let leaf = child(root, &verdict.pick, tables)?;
    verdict.pick.hash = child_hash(verdict.pick.hash, keys);
    (is_free(&verdict.pick) == 1).then_some(leaf)
}

/// The record that the chosen entry of a branch stands for.
#[inline(always)]
fn child<'t, T: Tables>(branch: &ShareRecord, pick: &Pick, tables: &'t T) -> Option<&'t ShareRecord> {
    let entry = pick.entry as usize & (SHARE_ENTRIES - 1);
    tables.record(branch.base.wrapping_add(branch.refs[entry] as u32))
}

/// A leaf's targets, or those of a branch's children in order of preference until one has somebody left.
fn pick_tree<T: Tables>(
    record: &ShareRecord,
    query: &Query,
    keys: &Keys,
    tables: &T,
    verdict: &mut Verdict,
    level: usize,
) -> Option<()> {
    if record.branch == 0 {
        return pick_leaf::<T, true>(record, query, keys, tables, verdict);
    }
    let mut turn = Pick { hash: verdict.pick.hash, free: usable(record), entry: 0 };
    let mut preferred = preferred_child(record, query, tables, level);
    while turn.free != 0 && verdict.count == 0 && level < SHARE_LEVELS {
        match preferred.take() {
            Some(entry) => turn.entry = entry as u32,
            None if !pick_child(record, keys, tables, &mut turn, level)? => break,
            None => {}
        }
        let child = child(record, &turn, tables)?;
        verdict.pick.hash = child_hash(turn.hash, keys);
        take_entry(keys, &mut turn);
        pick_tree(child, query, keys, tables, verdict, level + 1)?;
    }
    Some(())
}

/// Chooses a branch's entry as [`pick_entry`] chooses a leaf's. Whether the hash is kept is for the target to say that
/// it leads to: so one that sheds clients moves them alone, wherever it stands.
fn pick_child<T: Tables>(
    branch: &ShareRecord,
    keys: &Keys,
    tables: &T,
    turn: &mut Pick,
    level: usize,
) -> Option<bool> {
    for _ in 0..DRAWS {
        stand(branch, turn);
        if is_free(turn) == 1 && leads_on(branch, keys, tables, turn, level)? {
            return Some(true);
        }
        draw_anew(keys, turn);
    }
    share_out(branch, turn);
    Some(is_free(turn) == 1)
}

/// Whether the hash, drawn on through the records beneath, comes to a target that keeps it.
fn leads_on<T: Tables>(
    branch: &ShareRecord,
    keys: &Keys,
    tables: &T,
    turn: &Pick,
    level: usize,
) -> Option<bool> {
    let record = child(branch, turn, tables)?;
    let mut pick = Pick { hash: child_hash(turn.hash, keys), free: usable(record), entry: 0 };
    let is_kept = stand(record, &mut pick) & is_free(&pick) == 1;
    if record.branch == 0 {
        return Some(is_kept);
    }
    Some(is_free(&pick) == 1 && level < SHARE_LEVELS && leads_on(record, keys, tables, &pick, level + 1)?)
}

/// Entry of a branch beneath which the client's preferred server stands.
fn preferred_child<T: Tables>(
    record: &ShareRecord,
    query: &Query,
    tables: &T,
    level: usize,
) -> Option<usize> {
    if query.preferred == 0 {
        return None;
    }
    (0..SHARE_ENTRIES).find(|entry| {
        if usable(record) >> entry & 1 == 0 {
            return false;
        }
        let Some(child) = tables.record(record.base.wrapping_add(record.refs[*entry] as u32)) else {
            return false;
        };
        if child.branch == 1 {
            return level < SHARE_LEVELS && preferred_child(child, query, tables, level + 1).is_some();
        }
        (0..SHARE_ENTRIES).any(|leaf| {
            usable(child) >> leaf & 1 == 1 && is_preferred(query, child.refs[leaf], tables) == Some(true)
        })
    })
}
