//! Tables in memory that packets are answered from while it changes: mapped BPF arrays, or plain memory.

use super::readers::{Phase, Readers};
use arc_swap::Guard;
use redirector_core::table::{
    GroupPointer, Meta, NameBucket, Node64, Page256, Pod, Service, ShareRecord, Tables, Target, VipBucket,
    VipInfo, WireName, Words16, Zone,
};
use redirector_plan::image::{TableImage, TableKind};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

/// A shared memory mapping.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory; who may write what is `LiveTables`' business.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Fresh zeroed memory.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// The values of a BPF array made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// As mmap(2); `EINVAL` or `EPERM` if `bytes` is more than the array has.
    pub fn of_array(array: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        Self::map(bytes, libc::MAP_SHARED, array.as_raw_fd())
    }

    fn map(bytes: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        let bytes = bytes.max(1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave no address"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The machine's clock, as cookies take it. Before 1970 it counts as broken, and cookies are good for nothing.
pub(super) fn unix_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}

/// One generation's tables. Only cells, share records that no pointer names, and the pointers themselves ever change. They
/// are read by way of [`LiveTables::read`].
#[derive(Debug)]
pub struct LiveTables {
    tables: Vec<(Memory, u32)>,
    readers: Arc<Readers>,
}

/// Tables while they are read: no share record that can be found by this is written before it is dropped. To be held
/// for one message or request: records that were replaced cannot be used again meanwhile.
#[derive(Debug)]
pub struct Reading<'t> {
    tables: &'t LiveTables,
    _phase: Guard<Arc<Phase>>,
}

impl LiveTables {
    /// Copies an image into memory that `memory` provides for each table (kind, bytes).
    ///
    /// # Errors
    /// What `memory` gives.
    pub fn build(
        image: &TableImage,
        mut memory: impl FnMut(TableKind, usize) -> io::Result<Memory>,
    ) -> io::Result<Self> {
        let mut tables = Vec::with_capacity(TableKind::ALL.len());
        for kind in TableKind::ALL {
            let bytes = image.bytes(*kind);
            let memory = memory(*kind, bytes.len())?;
            assert!(memory.bytes >= bytes.len(), "memory for {} is too small", kind.name());
            // SAFETY: the mapping is at least this long, fresh, and does not overlap the image.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.start.as_ptr(), bytes.len()) };
            tables.push((memory, image.len(*kind) as u32));
        }
        Ok(Self { tables, readers: Arc::default() })
    }

    /// Begins to read.
    pub fn read(&self) -> Reading<'_> {
        Reading { _phase: self.readers.enter(), tables: self }
    }

    /// Who reads, for those who want to write where readers may look.
    pub fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    fn pointer<T: Pod>(&self, kind: TableKind, index: u32) -> Option<*mut T> {
        debug_assert_eq!(size_of::<T>(), kind.value_size());
        let (memory, len) = self.tables.get(kind as usize)?;
        // SAFETY: `len` values of this size lie in the mapping, and the index is below it.
        (index < *len).then(|| unsafe { memory.start.as_ptr().cast::<T>().add(index as usize) })
    }

    /// Number of share records there is room for.
    pub fn record_capacity(&self) -> u32 {
        self.tables[TableKind::Records as usize].1
    }

    /// Writes share records from `first` on. The caller makes sure that no pointer names them, and that every reader is
    /// done who began when one did: [`crate::state::records`]. `None` if they do not fit; then nothing is written.
    pub(crate) fn write_records(&self, first: u32, block: &[ShareRecord]) -> Option<()> {
        let last = first.checked_add(u32::try_from(block.len()).ok()?.checked_sub(1)?)?;
        self.pointer::<ShareRecord>(TableKind::Records, last)?;
        for (index, record) in (first..).zip(block) {
            // SAFETY: within the mapping; nobody reads these records (see above).
            unsafe { self.pointer::<ShareRecord>(TableKind::Records, index)?.write_volatile(*record) };
        }
        Some(())
    }

    /// Publishes a share group's record by one 64-bit store. `None` if there is no such group.
    pub(crate) fn point(&self, group: u32, pointer: GroupPointer) -> Option<()> {
        self.group_word(group)?.store(pointer.word, Ordering::Release);
        Some(())
    }

    /// Publishes the share group of a cell by one 32-bit store. `None` if there is no such cell.
    pub(crate) fn put_cell(&self, number: u32, group: u32) -> Option<()> {
        self.cell_word(number)?.store(group, Ordering::Release);
        Some(())
    }

    fn cell_word(&self, number: u32) -> Option<&AtomicU32> {
        let words = self.pointer::<Words16>(TableKind::Cells, number >> 4)?.cast::<u32>();
        // SAFETY: one of the 16 aligned words of a value in the mapping, and all accesses to this table are atomic.
        Some(unsafe { AtomicU32::from_ptr(words.add(number as usize & 15)) })
    }

    fn group_word(&self, group: u32) -> Option<&AtomicU64> {
        let pointer = self.pointer::<GroupPointer>(TableKind::Groups, group)?;
        // SAFETY: `GroupPointer` is one aligned u64, and all accesses to this table are atomic.
        Some(unsafe { AtomicU64::from_ptr(pointer.cast()) })
    }
}

impl Reading<'_> {
    fn value<T: Pod>(&self, kind: TableKind, index: u32) -> Option<&T> {
        // SAFETY: within the mapping, aligned because mappings are and value sizes are multiples of 8, any bit pattern
        // is valid; not written while this reader may look at it (see the types' comments).
        self.tables.pointer(kind, index).map(|pointer| unsafe { &*pointer })
    }
}

impl Tables for Reading<'_> {
    fn unix_seconds(&self) -> u32 {
        unix_seconds()
    }
    fn meta(&self) -> Option<&Meta> {
        self.value(TableKind::Meta, 0)
    }
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket> {
        self.value(TableKind::Vips, index)
    }
    fn vip_info(&self, index: u32) -> Option<&VipInfo> {
        self.value(TableKind::VipInfo, index)
    }
    fn suffix_bucket(&self, index: u32) -> Option<&NameBucket> {
        self.value(TableKind::Suffixes, index)
    }
    fn zone(&self, index: u32) -> Option<&Zone> {
        self.value(TableKind::Zones, index)
    }
    fn name_bucket(&self, index: u32) -> Option<&NameBucket> {
        self.value(TableKind::Names, index)
    }
    fn service(&self, index: u32) -> Option<&Service> {
        self.value(TableKind::Services, index)
    }
    fn ipv4_root(&self, index: u32) -> Option<&Words16> {
        self.value(TableKind::Ipv4Root, index)
    }
    fn ipv4_page(&self, index: u32) -> Option<&Page256> {
        self.value(TableKind::Ipv4Pages, index)
    }
    fn ipv6_root(&self, index: u32) -> Option<&Words16> {
        self.value(TableKind::Ipv6Root, index)
    }
    fn ipv6_node(&self, index: u32) -> Option<&Node64> {
        self.value(TableKind::Ipv6Nodes, index)
    }
    fn region_counters(&self, index: u32) -> Option<&Words16> {
        self.value(TableKind::RegionCounters, index)
    }
    fn cell(&self, number: u32) -> Option<u32> {
        Some(self.tables.cell_word(number)?.load(Ordering::Acquire))
    }
    fn group(&self, index: u32) -> Option<GroupPointer> {
        Some(GroupPointer { word: self.tables.group_word(index)?.load(Ordering::Acquire) })
    }
    fn record(&self, index: u32) -> Option<&ShareRecord> {
        self.value(TableKind::Records, index)
    }
    fn target(&self, index: u32) -> Option<&Target> {
        self.value(TableKind::Targets, index)
    }
    fn wire_name(&self, index: u32) -> Option<&WireName> {
        self.value(TableKind::WireNames, index)
    }
}
