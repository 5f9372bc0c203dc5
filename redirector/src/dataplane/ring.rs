//! The ring by which the fast path tells of its decisions.

use super::bpf::{chain, told};
use aya::maps::{Map, MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// The reading end. There must be one reader.
pub struct Ring {
    ring: RingBuf<MapData>,
    id: u32,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ring {
    /// Of a pinned map: goes on where its last reader has stopped.
    ///
    /// # Errors
    /// If there is no ring.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let failed = |error: &dyn std::error::Error| told(path.display(), chain(error));
        let data = MapData::from_pin(path).map_err(|error| failed(&error))?;
        let id = data.info().map_err(|error| failed(&error))?.id();
        let ring = Map::from_map_data(data).and_then(RingBuf::try_from).map_err(|error| failed(&error))?;
        Ok(Self { ring, id })
    }

    /// Which ring this is: the kernel's number of the map.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Takes what is there, at most so many records.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) {
        for _ in 0..most {
            let Some(record) = self.ring.next() else { return };
            each(&record);
        }
    }

    /// Waits until something is there, at most for `patience`.
    ///
    /// # Errors
    /// As poll(2), but for interruptions.
    pub fn wait(&self, patience: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
