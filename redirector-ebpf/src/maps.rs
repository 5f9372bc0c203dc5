//! The maps: tables of the generation this program instance belongs to, counters shared by all instances.
//!
//! `redirector-plan` names the tables as they are named here; the loader sets their real sizes and fills them through
//! memory mappings before the program is attached.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use redirector_core::limit::{Limits, Line, STRIDE};
use redirector_core::table::{
    GroupPointer, Meta, NONE, NameBucket, Node64, Page256, Service, ShareRecord, Tables, Target, VIP_BUCKETS,
    VIP_SLOTS, VipBucket, VipInfo, WireName, Words16, Zone,
};
use redirector_core::verdict::REASON_SLOTS;
use redirector_core::wire::Trace;
use redirector_core::wire::frame::Room;

macro_rules! tables {
    ($($name:ident: $ty:ty;)*) => { $(
        #[map]
        static $name: Array<$ty> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    )* };
}
tables! {
    META: Meta;
    VIP_INFO: VipInfo;
    SUFFIXES: NameBucket;
    ZONES: Zone;
    NAMES: NameBucket;
    SERVICES: Service;
    IPV4_ROOT: Words16;
    IPV4_PAGES: Page256;
    IPV6_ROOT: Words16;
    IPV6_NODES: Node64;
    REGION_COUNTERS: Words16;
    CELLS: Words16;
    GROUPS: GroupPointer;
    RECORDS: ShareRecord;
    TARGETS: Target;
    WIRE_NAMES: WireName;
}
#[map]
static VIPS: Array<VipBucket> = Array::with_max_entries(VIP_BUCKETS, BPF_F_MMAPABLE);

/// Until when this program answers: nanoseconds of the monotonic clock, put off by the daemon while it is well.
#[map]
static ALIVE: Array<u64> = Array::with_max_entries(1, 0);
/// Seconds since 1970 by the daemon's clock, set about once a second while it is well.
#[map]
static CLOCK: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static ROOM: PerCpuArray<Room> = PerCpuArray::with_max_entries(1, 0);
/// Buckets of the rate limits: [`STRIDE`] lines for each possible CPU. An ordinary array, because the values of a per-CPU
/// one lie apart. Without its size, as in test runs, there are no limits.
#[map]
static LIMITS: Array<Line> = Array::with_max_entries(1, 0);
#[map]
static COUNT_REASON: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASON_SLOTS, 0);
#[map]
static COUNT_VIP: PerCpuArray<u64> = PerCpuArray::with_max_entries(VIP_SLOTS, 0);
#[map]
static COUNT_SERVICE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static COUNT_REGION: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static COUNT_TARGET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's working room.
#[inline(always)]
pub fn room() -> Option<&'static mut Room> {
    // SAFETY: the value belongs to this CPU, and a program runs to its end on it before another begins; zero bytes,
    // as maps begin with, are a valid `Room`.
    ROOM.get_ptr_mut(0).map(|room| unsafe { &mut *room })
}

/// The tables of this program instance.
pub struct Maps {
    /// Looked up once for each packet.
    meta: &'static Meta,
}

impl Maps {
    /// `None` cannot be: the map is never empty.
    #[inline(always)]
    pub fn new() -> Option<Self> {
        META.get(0).map(|meta| Self { meta })
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn now_and_end(&self) -> (u64, u64) {
        // SAFETY: userspace writes the value by a syscall, which stores it whole.
        let end = ALIVE.get_ptr(0).map_or(0, |end| unsafe { core::ptr::read_volatile(end) });
        // SAFETY: reads a clock.
        (unsafe { bpf_ktime_get_coarse_ns() }, end)
    }
    #[inline(always)]
    fn unix_seconds(&self) -> u32 {
        // SAFETY: as for `ALIVE`.
        CLOCK.get_ptr(0).map_or(0, |now| unsafe { core::ptr::read_volatile(now) }) as u32
    }
    #[inline(always)]
    fn meta(&self) -> Option<&Meta> {
        Some(self.meta)
    }
    #[inline(always)]
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket> {
        VIPS.get(index)
    }
    #[inline(always)]
    fn vip_info(&self, index: u32) -> Option<&VipInfo> {
        VIP_INFO.get(index)
    }
    #[inline(always)]
    fn suffix_bucket(&self, index: u32) -> Option<&NameBucket> {
        SUFFIXES.get(index)
    }
    #[inline(always)]
    fn zone(&self, index: u32) -> Option<&Zone> {
        ZONES.get(index)
    }
    #[inline(always)]
    fn name_bucket(&self, index: u32) -> Option<&NameBucket> {
        NAMES.get(index)
    }
    #[inline(always)]
    fn service(&self, index: u32) -> Option<&Service> {
        SERVICES.get(index)
    }
    #[inline(always)]
    fn ipv4_root(&self, index: u32) -> Option<&Words16> {
        IPV4_ROOT.get(index)
    }
    #[inline(always)]
    fn ipv4_page(&self, index: u32) -> Option<&Page256> {
        IPV4_PAGES.get(index)
    }
    #[inline(always)]
    fn ipv6_root(&self, index: u32) -> Option<&Words16> {
        IPV6_ROOT.get(index)
    }
    #[inline(always)]
    fn ipv6_node(&self, index: u32) -> Option<&Node64> {
        IPV6_NODES.get(index)
    }
    #[inline(always)]
    fn region_counters(&self, index: u32) -> Option<&Words16> {
        REGION_COUNTERS.get(index)
    }
    #[inline(always)]
    fn cell(&self, number: u32) -> Option<u32> {
        // Userspace changes a cell by one 32-bit store; this is one load.
        Some(CELLS.get(number >> 4)?.words[(number & 15) as usize])
    }
    #[inline(always)]
    fn group(&self, index: u32) -> Option<GroupPointer> {
        // SAFETY: userspace publishes a record by one aligned 64-bit store to this word; one load sees all of it.
        GROUPS.get_ptr(index).map(|pointer| unsafe { core::ptr::read_volatile(pointer) })
    }
    #[inline(always)]
    fn record(&self, index: u32) -> Option<&ShareRecord> {
        RECORDS.get(index)
    }
    #[inline(always)]
    fn target(&self, index: u32) -> Option<&Target> {
        TARGETS.get(index)
    }
    #[inline(always)]
    fn wire_name(&self, index: u32) -> Option<&WireName> {
        WIRE_NAMES.get(index)
    }
}

/// The rate limits of the CPU at hand.
pub struct CpuLimits;

impl Limits for CpuLimits {
    #[inline(always)]
    fn line(&mut self, index: u32) -> Option<&mut Line> {
        // SAFETY: reads the number of this CPU; newer kernels put one load in the call's place.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        // SAFETY: the line is this CPU's own, see `room`; any bytes are a valid `Line`.
        LIMITS.get_ptr_mut(cpu * STRIDE + index).map(|line| unsafe { &mut *line })
    }
    #[inline(always)]
    fn random(&mut self) -> u32 {
        // SAFETY: draws a number.
        unsafe { bpf_get_prandom_u32() }
    }
}

#[inline(always)]
fn add(counters: &PerCpuArray<u64>, slot: u32) {
    if let Some(counter) = counters.get_ptr_mut(slot) {
        // SAFETY: the value is this CPU's own, see `room`.
        unsafe { *counter += 1 };
    }
}

/// Counts by reason, VIP, service, region and target, never by their product.
#[inline(always)]
pub fn count(trace: &Trace) {
    add(&COUNT_REASON, trace.reason as u32);
    if trace.vip == NONE {
        return;
    }
    add(&COUNT_VIP, trace.vip);
    if trace.service == NONE {
        return;
    }
    if let Some(service) = SERVICES.get(trace.service) {
        add(&COUNT_SERVICE, service.counter);
    }
    if trace.decided {
        if let Some(counters) = REGION_COUNTERS.get(trace.region >> 4) {
            add(&COUNT_REGION, counters.words[(trace.region & 15) as usize]);
        }
        if let Some(target) = TARGETS.get(trace.target) {
            add(&COUNT_TARGET, target.counter);
            if trace.account != NONE
                && let Some(account) = TARGETS.get(trace.account)
            {
                add(&COUNT_TARGET, account.counter);
            }
        }
    }
}
