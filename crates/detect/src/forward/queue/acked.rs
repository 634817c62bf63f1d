//! The acknowledged position: two slots in one file, written in turn.
//!
//! Invariant: one slot is whole at any time, and it is at most one acknowledgement old.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{QueueError, io_error};

/// Number (8 bytes), checksum of it (4), nothing (4).
const SLOT_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Acked {
    path: PathBuf,
    file: File,
    slot: u64,
}

impl Acked {
    /// Opens the file, locks it against other processes, and gives what was acknowledged.
    pub(super) fn open(path: &Path) -> Result<(Acked, Option<u64>), QueueError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| io_error(path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(QueueError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(io_error(path, source)),
        }
        let slots = [read(&file, 0), read(&file, 1)];
        // The next write goes to the older slot, or to one that is no good.
        let slot = u64::from(slots[0] > slots[1]);
        let acked = slots[0].max(slots[1]);
        let path = path.into();
        Ok((Acked { path, file, slot }, acked))
    }

    pub(super) fn write(&mut self, seq: u64) -> Result<(), QueueError> {
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&seq.to_le_bytes());
        slot[8..12].copy_from_slice(&checksum(seq).to_le_bytes());
        self.file
            .write_all_at(&slot, self.slot * SLOT_BYTES as u64)
            .map_err(|source| io_error(&self.path, source))?;
        self.slot = 1 - self.slot;
        Ok(())
    }
}

fn read(file: &File, slot: u64) -> Option<u64> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64)
        .ok()?;
    let seq = u64::from_le_bytes(bytes[..8].try_into().ok()?);
    let sum = u32::from_le_bytes(bytes[8..12].try_into().ok()?);
    (checksum(seq) == sum).then_some(seq)
}

fn checksum(seq: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"acked");
    hasher.update(&seq.to_le_bytes());
    hasher.finalize()
}
