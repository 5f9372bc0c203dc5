//! Reading many counters of the fast path at once.

use super::bpf::told;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Commands of bpf(2).
const LOOKUP_ELEM: libc::c_long = 1;
const LOOKUP_BATCH: libc::c_long = 24;
/// Counters in one call.
const BATCH: u32 = 4096;

/// Counters of targets, by slot. They go on for as long as this is held, whatever becomes of programs and pins.
#[derive(Debug)]
pub struct TargetCounters {
    map: OwnedFd,
    /// The kernel's number of the map: no other one in this run of the kernel has had it.
    pub id: u32,
    /// Counters in it.
    pub length: u32,
    /// This process made it: everything in it was counted since.
    pub is_made_here: bool,
    cpus: usize,
}

/// The part of `union bpf_attr` that look-ups of many elements use (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that a look-up of one element uses.
#[repr(C)]
#[derive(Default)]
struct ElemAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// bpf(2).
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: the kernel reads and writes within `attr`, and where its pointers lead, as the callers below provide.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl TargetCounters {
    pub(super) fn new(map: BorrowedFd<'_>, id: u32, length: u32, is_made_here: bool) -> io::Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(path, err)| told(path, err))?;
        Ok(Self { map: map.try_clone_to_owned()?, id, length, is_made_here, cpus })
    }

    /// Counts of the first `length` slots, of all CPUs together.
    ///
    /// # Errors
    /// If the kernel does not give them.
    pub fn read(&self, length: u32) -> io::Result<Vec<u64>> {
        let length = length.min(self.length);
        let mut counts = Vec::with_capacity(length as usize);
        let mut keys = vec![0u32; BATCH as usize];
        let mut values = vec![0u64; BATCH as usize * self.cpus];
        let mut next = 0u32;
        while (counts.len() as u32) < length {
            let first = counts.is_empty();
            let mut after = 0u32;
            let mut attr = BatchAttr {
                in_batch: if first { 0 } else { (&raw const next).addr() as u64 },
                out_batch: (&raw mut after).addr() as u64,
                keys: keys.as_mut_ptr().addr() as u64,
                values: values.as_mut_ptr().addr() as u64,
                count: BATCH.min(length - counts.len() as u32),
                map_fd: self.map.as_raw_fd().cast_unsigned(),
                ..BatchAttr::default()
            };
            match bpf(LOOKUP_BATCH, &mut attr) {
                Ok(()) => {}
                // The end of the map, after the last ones.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) && attr.count > 0 => {}
                // Kernels before 5.13 do not have it for counters of each CPU.
                Err(_) if first => return self.read_each(length),
                Err(error) => return Err(told("counters of targets", error)),
            }
            if attr.count == 0 {
                return Err(io::Error::other("the kernel gives no counters of targets"));
            }
            let given = values.chunks_exact(self.cpus).take(attr.count as usize);
            counts.extend(given.map(|each| each.iter().sum::<u64>()));
            next = after;
        }
        Ok(counts)
    }

    fn read_each(&self, length: u32) -> io::Result<Vec<u64>> {
        let mut values = vec![0u64; self.cpus];
        let read = |slot: u32| {
            let mut attr = ElemAttr {
                map_fd: self.map.as_raw_fd().cast_unsigned(),
                key: (&raw const slot).addr() as u64,
                value: values.as_mut_ptr().addr() as u64,
                ..ElemAttr::default()
            };
            bpf(LOOKUP_ELEM, &mut attr).map_err(|error| told("counters of targets", error))?;
            Ok(values.iter().sum())
        };
        (0..length).map(read).collect()
    }
}
