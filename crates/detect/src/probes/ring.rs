//! The reading side of a BPF ring buffer, as the kernel shares it with us.
//!
//! A ring is one page with the consumer's position, one with the producer's, and the data, mapped
//! twice in a row so that no record is cut. A record is eight bytes (length with two flags, offset)
//! and the data, rounded up to eight (`kernel/bpf/ringbuf.c`).
//!
//! Invariant: a record is looked at only after the producer's position has passed it and its busy
//! flag is gone, and is not overwritten before the consumer's position has passed it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const RECORD_HEADER_BYTES: usize = 8;

/// A mapping that is unmapped when it is dropped.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(map: BorrowedFd<'_>, bytes: usize, offset: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, made in `new`, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: a mapping is plain memory that belongs to no thread; `Ring` hands out what lies in it by
// its own borrow only.
unsafe impl Send for Mapping {}

/// A ring, read by one reader.
pub(super) struct Ring {
    consumer: Mapping,
    producer: Mapping,
    page_bytes: usize,
    mask: usize,
    /// Our position: what was read and given back.
    position: usize,
    /// The producer's position when it was looked at last.
    seen: usize,
    /// The map, kept open: who waits for events has its descriptor in an epoll.
    map: Option<aya::maps::MapData>,
}

impl Ring {
    /// Maps the ring of `map`, whose size is `bytes`: a power of two, at least a page.
    pub(super) fn map(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        // SAFETY: sysconf with a valid name reads nothing of ours.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page).map_err(io::Error::other)?;
        if !bytes.is_power_of_two() || bytes < page_bytes {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let consumer = Mapping::new(map, page_bytes, 0, true)?;
        let producer = Mapping::new(map, page_bytes + 2 * bytes, page_bytes, false)?;
        let mut ring = Self {
            consumer,
            producer,
            page_bytes,
            mask: bytes - 1,
            position: 0,
            seen: 0,
            map: None,
        };
        ring.position = ring.consumer_position().load(Ordering::Acquire);
        Ok(ring)
    }

    /// Keeps `map` open as long as the ring is used.
    pub(super) fn keep(mut self, map: aya::maps::MapData) -> Self {
        self.map = Some(map);
        self
    }

    fn consumer_position(&self) -> &AtomicUsize {
        // SAFETY: the page begins with the position, aligned, and lives as long as `self`.
        unsafe { self.consumer.start.cast().as_ref() }
    }

    fn producer_position(&self) -> &AtomicUsize {
        // SAFETY: the page begins with the position, aligned, and lives as long as `self`; it is only
        // read.
        unsafe { self.producer.start.cast().as_ref() }
    }

    /// The header of the record at `position`.
    fn header(&self, position: usize) -> &AtomicU32 {
        let at = self.page_bytes + (position & self.mask);
        // SAFETY: `at` is inside the data, which is mapped twice, and records begin at multiples of
        // eight.
        unsafe { self.producer.start.add(at).cast().as_ref() }
    }

    /// The oldest record that was not given back, when it is complete.
    pub(super) fn front(&mut self) -> Option<&[u8]> {
        loop {
            if self.position == self.seen {
                self.seen = self.producer_position().load(Ordering::Acquire);
                if self.position == self.seen {
                    return None;
                }
            }
            let header = self.header(self.position).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            if header & DISCARDED != 0 {
                self.skip(header);
                continue;
            }
            let length = (header & !(BUSY | DISCARDED)) as usize;
            let at = self.page_bytes + (self.position & self.mask) + RECORD_HEADER_BYTES;
            // SAFETY: the record is complete and the kernel does not write to it before our position
            // has passed it, which needs `&mut self`; the data are mapped twice, so that a record
            // that crosses the end lies in one piece. The length is the kernel's own, below the
            // ring's size.
            return Some(unsafe {
                std::slice::from_raw_parts(self.producer.start.add(at).as_ptr(), length)
            });
        }
    }

    /// Gives the front record back to the kernel.
    pub(super) fn pop(&mut self) {
        if self.position != self.seen {
            let header = self.header(self.position).load(Ordering::Acquire);
            self.skip(header);
        }
    }

    fn skip(&mut self, header: u32) {
        let length = (header & !(BUSY | DISCARDED)) as usize + RECORD_HEADER_BYTES;
        self.position = self.position.wrapping_add(length.next_multiple_of(8));
        self.consumer_position()
            .store(self.position, Ordering::Release);
    }
}
