//! Capture files: events with what has to be known to make sense of them, as Falco and sysdig write
//! and read them (`userspace/libscap/scap_savefile.h`, format version 1.2).
//!
//! A file is blocks: type and length (u32 each), content padded to four bytes, and the length once
//! more. All numbers are little-endian. The whole may be compressed with gzip.
//!
//! Invariant: a reader holds one block at a time, believes no length in it, and never panics.

mod accounts;
mod cursor;
mod fds;
mod interfaces;
mod machine;
mod reader;
#[cfg(test)]
mod tests;
mod threads;
mod writer;

pub use accounts::{Accounts, Group, User};
pub use fds::FdList;
pub use interfaces::Interface;
pub use machine::Machine;
pub use reader::{CapturedEvent, Reader, Record};
pub use threads::ThreadList;
pub use writer::Writer;

use crate::event::Malformed;

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file itself.
    #[error("cannot read the capture")]
    Io(#[from] std::io::Error),
    /// It does not begin like one.
    #[error("this is no capture file: it does not begin with a section header")]
    NotACapture,
    /// Big-endian.
    #[error("the capture is of a machine with the other byte order")]
    ByteOrder,
    /// Of a later format.
    #[error("the capture is of format {major}.{minor}; up to 1.x can be read")]
    Version {
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// It ends in the midst of something.
    #[error("the capture ends in the midst of a block of type {kind:#x}")]
    Truncated {
        /// Which block it is.
        kind: u32,
    },
    /// A block contradicts itself.
    #[error("a block of type {kind:#x} is corrupt: {what}")]
    Corrupt {
        /// Which block it is.
        kind: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// A block is longer than is read.
    #[error("a block of type {kind:#x} has {bytes} bytes, more than {most}")]
    Large {
        /// Which block it is.
        kind: u32,
        /// Its length.
        bytes: u32,
        /// The most that is read.
        most: u32,
    },
    /// An event contradicts itself.
    #[error("an event in the capture is corrupt")]
    Event(#[source] Malformed),
}

/// The most bytes of a block that are read: lists of processes of large machines have some.
const MOST_BLOCK_BYTES: u32 = 64 << 20;
/// Longest path that upstream's reader takes (`SCAP_MAX_PATH_SIZE`), with room for a zero byte.
const MOST_PATH_BYTES: usize = 1023;
/// Longest list of arguments, environment or control groups that upstream's reader takes.
const MOST_LIST_BYTES: usize = 4096;

/// Types of blocks, with the numbers that they had before the format was published.
mod block {
    pub(super) const SECTION: u32 = 0x0A0D_0D0A;
    pub(super) const MAGIC: u32 = 0x1A2B_3C4D;
    pub(super) const MACHINE: u32 = 0x201;
    pub(super) const MACHINE_OLD: u32 = 0x8002_ABCD;
    pub(super) const FDS: u32 = 0x203;
    pub(super) const FDS_OLD: u32 = 0x8001_ABCD;
    pub(super) const FDS_V2: u32 = 0x218;
    pub(super) const EVENT: u32 = 0x204;
    pub(super) const EVENT_OLD: u32 = 0x8010_ABCD;
    pub(super) const EVENT_V2: u32 = 0x216;
    pub(super) const EVENT_LARGE: u32 = 0x221;
    pub(super) const FLAGGED: u32 = 0x208;
    pub(super) const FLAGGED_V2: u32 = 0x217;
    pub(super) const FLAGGED_LARGE: u32 = 0x222;
    pub(super) const INTERFACES: u32 = 0x205;
    pub(super) const INTERFACES_OLD: u32 = 0x8011_ABCD;
    pub(super) const INTERFACES_V2: u32 = 0x219;
    pub(super) const ACCOUNTS: u32 = 0x206;
    pub(super) const ACCOUNTS_OLD: u32 = 0x8012_ABCD;
    pub(super) const ACCOUNTS_V2: u32 = 0x220;
    pub(super) const THREADS_V9: u32 = 0x215;

    /// The version of a list of threads.
    pub(super) fn threads_version(kind: u32) -> Option<u8> {
        Some(match kind {
            0x202 | 0x8000_ABCD => 1,
            0x207 | 0x8013_ABCD => 2,
            0x209 | 0x8014_ABCD => 3,
            0x210 => 4,
            0x211 => 5,
            0x212 => 6,
            0x213 => 7,
            0x214 => 8,
            THREADS_V9 => 9,
            _ => return None,
        })
    }
}
