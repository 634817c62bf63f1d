//! The probes: BPF programs that tell what happens, as events in the order of time.
//!
//! [`Probes::load`] puts the programs of `bpf/` into the kernel, one ring buffer a CPU, and a recipe
//! for each system call that is wanted; [`Probes::drain`] hands out the events. What nobody wants
//! costs a look into a table; [`Probes::select`] changes what is wanted while they run.
//!
//! Invariant: events come in the order of their times, and whatever is lost is counted
//! ([`Probes::stats`]). Nothing is pinned: the programs are gone with the [`Probes`].

mod load;
mod recipes;
mod ring;
mod stats;
#[cfg(test)]
mod tests;
mod translate;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

pub use load::{LoadError, Options};
pub use stats::{Counter, Stats};

use crate::event::{Event, Selection};

/// The programs in the kernel, and the rings that they write to. Dropped, they are gone.
pub struct Probes {
    kernel: load::Loaded,
    rings: Vec<ring::Ring>,
    wake: nix::sys::epoll::Epoll,
    /// Nanoseconds between 1970 and the machine's boot, as events are stamped.
    boot_ns: u64,
    /// How long an event waits for earlier ones of other CPUs.
    settle_ns: u64,
    /// Whether the last drain left events that had not settled.
    pending: std::cell::Cell<bool>,
    malformed: u64,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes")
            .field("rings", &self.rings.len())
            .finish_non_exhaustive()
    }
}

impl Probes {
    /// Loads the programs and begins to capture the events in `wanted`.
    ///
    /// # Errors
    /// When the kernel lacks something, or does not let us: the error says what, and what to do.
    pub fn load(wanted: &Selection, options: &Options) -> Result<Self, LoadError> {
        load::load(wanted, options)
    }

    /// Captures the events in `wanted` from now on, and no others.
    ///
    /// # Errors
    /// When a map cannot be written or a tracepoint not be attached.
    pub fn select(&mut self, wanted: &Selection) -> Result<(), LoadError> {
        self.kernel.select(wanted)
    }

    /// A descriptor that is readable when there is an event.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }

    /// Hands every event that is there to `take`, in the order of their times, and returns how many.
    ///
    /// An event younger than the settling time stays until the next call, so that an earlier one that
    /// another CPU is still writing comes first.
    pub fn drain(&mut self, mut take: impl FnMut(&Event<'_>)) -> usize {
        let horizon = (self.boot_ns + now_ns()).saturating_sub(self.settle_ns);
        let mut count = 0;
        self.pending.set(false);
        while let Some(oldest) = self.oldest(horizon) {
            let Some(ring) = self.rings.get_mut(oldest) else {
                break;
            };
            if let Some(bytes) = ring.front() {
                match Event::parse(bytes) {
                    Ok(event) => take(&event),
                    Err(_) => self.malformed += 1,
                }
            }
            ring.pop();
            count += 1;
        }
        count
    }

    /// The ring whose front event is the oldest, when that is older than `horizon`.
    fn oldest(&mut self, horizon: u64) -> Option<usize> {
        let mut best: Option<(u64, usize)> = None;
        for (place, ring) in self.rings.iter_mut().enumerate() {
            let Some(stamp) = ring.front().and_then(|bytes| bytes.first_chunk::<8>()) else {
                continue;
            };
            let stamp = u64::from_le_bytes(*stamp);
            if best.is_none_or(|(other, _)| stamp < other) {
                best = Some((stamp, place));
            }
        }
        let (stamp, place) = best?;
        if stamp > horizon {
            self.pending.set(true);
            return None;
        }
        Some(place)
    }

    /// Waits until there is an event, at most `timeout`. Returns whether there may be one. Where the
    /// last drain left events, it waits only until those have settled.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn wait(&self, timeout: Duration) -> std::io::Result<bool> {
        if self.pending.replace(false) {
            std::thread::sleep(Duration::from_nanos(self.settle_ns).min(timeout));
            return Ok(true);
        }
        let mut ready = [nix::sys::epoll::EpollEvent::empty(); 8];
        let millis = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        match self.wake.wait(&mut ready, millis) {
            Ok(count) => Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands events to `take` until `until`. Between drains it rests for `rest`, so that a busy
    /// machine wakes us for many events at once; when there is nothing it sleeps in the kernel.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn run(
        &mut self,
        until: Instant,
        rest: Duration,
        mut take: impl FnMut(&Event<'_>),
    ) -> std::io::Result<()> {
        loop {
            let taken = self.drain(&mut take);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if taken > 0 || self.wait(left)? {
                std::thread::sleep(rest.min(left));
            }
        }
    }

    /// What was captured and what was lost, by event type.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn stats(&self) -> Result<Stats, LoadError> {
        let mut stats = self.kernel.stats()?;
        stats.malformed = self.malformed;
        Ok(stats)
    }

    /// Stamps events by the wall clock as it is now: for after the clock was set.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub fn follow_clock(&mut self) -> Result<(), LoadError> {
        self.boot_ns = load::boot_ns();
        self.kernel.set_clock(self.boot_ns)
    }
}

/// Nanoseconds since boot, as the probes see them.
fn now_ns() -> u64 {
    let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) else {
        return 0;
    };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec()).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Adds the ring `fd` to what wakes us.
fn watch(wake: &nix::sys::epoll::Epoll, fd: BorrowedFd<'_>) -> nix::Result<()> {
    let data = u64::try_from(fd.as_raw_fd()).unwrap_or_default();
    // Edge-triggered: a ring that was not emptied for the settling time must not spin us.
    let flags = nix::sys::epoll::EpollFlags::EPOLLIN | nix::sys::epoll::EpollFlags::EPOLLET;
    wake.add(fd, nix::sys::epoll::EpollEvent::new(flags, data))
}
