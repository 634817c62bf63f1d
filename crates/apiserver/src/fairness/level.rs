//! A priority level: its seats, and who waits for them.
//!
//! Invariants: a request that is let in without waiting costs a few atomic operations; a seat that was
//! taken is given back, whatever becomes of the request; a level is never kept from its own seats by
//! what others have borrowed.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::queues::{Next, Queues, Queuing};

/// How long a request waits at most.
const WAIT_LIMIT: Duration = Duration::from_secs(15);

/// What a level is by its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    /// Whether it has no limit.
    pub(super) exempt: bool,
    /// Its own seats.
    pub(super) nominal: u32,
    /// Those that others may borrow while they are free.
    pub(super) lendable: u32,
    /// How many it may borrow.
    pub(super) borrowable: u32,
    /// How it queues; not at all when missing.
    pub(super) queuing: Option<Queuing>,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
}

impl Rejection {
    /// Its name in the metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
        }
    }
}

type Waiter = oneshot::Sender<Permit>;

/// A priority level, for as long as one of its name exists.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) name: String,
    exempt: AtomicBool,
    nominal: AtomicU32,
    lendable: AtomicU32,
    borrowable: AtomicU32,
    in_use: AtomicU32,
    pub(super) executing: AtomicI64,
    waiting: AtomicU32,
    queues: Mutex<Option<Queues<Waiter>>>,
    pub(super) borrowed: AtomicU64,
}

/// All levels, which lend each other seats.
pub(super) type Levels = Arc<[Arc<Level>]>;

impl Level {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            exempt: AtomicBool::new(false),
            nominal: AtomicU32::new(0),
            lendable: AtomicU32::new(0),
            borrowable: AtomicU32::new(0),
            in_use: AtomicU32::new(0),
            executing: AtomicI64::new(0),
            waiting: AtomicU32::new(0),
            queues: Mutex::default(),
            borrowed: AtomicU64::new(0),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Option<Queues<Waiter>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes on what the level's object says now. Who waits goes on in the new queues.
    pub(super) fn configure(&self, limits: Limits) {
        self.exempt.store(limits.exempt, SeqCst);
        self.nominal.store(limits.nominal, SeqCst);
        self.lendable
            .store(limits.lendable.min(limits.nominal), SeqCst);
        self.borrowable.store(limits.borrowable, SeqCst);
        let mut queues = self.queues();
        if queues.as_ref().map(Queues::config) == limits.queuing {
            return;
        }
        let waiting = queues.as_mut().map(Queues::drain).unwrap_or_default();
        *queues = limits.queuing.map(Queues::new);
        if let Some(queues) = queues.as_mut() {
            for (hash, waiter) in (0..).zip(waiting) {
                // Who finds no place is told by the waiter's end.
                let _ = queues.push(hash, 1, waiter, |waiter| !waiter.is_closed());
            }
        }
        self.note_waiting(&queues);
    }

    fn note_waiting(&self, queues: &Option<Queues<Waiter>>) {
        let waiting = queues.as_ref().map_or(0, Queues::len);
        self.waiting
            .store(u32::try_from(waiting).unwrap_or(u32::MAX), SeqCst);
    }

    pub(super) fn nominal(&self) -> u32 {
        self.nominal.load(SeqCst)
    }

    pub(super) fn in_use(&self) -> u32 {
        self.in_use.load(SeqCst)
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// What of this level's free seats others may have.
    fn to_lend(&self) -> u32 {
        if self.exempt.load(SeqCst) {
            return 0;
        }
        let free = self.nominal().saturating_sub(self.in_use());
        free.min(self.lendable.load(SeqCst))
    }

    /// Takes seats if there are any: own ones, else such as others lend.
    fn take(&self, seats: u32, levels: &[Arc<Level>]) -> bool {
        if self.exempt.load(SeqCst) {
            self.in_use.fetch_add(seats, SeqCst);
            return true;
        }
        if self.take_within(seats, self.nominal()) {
            return true;
        }
        let borrowable = self.borrowable.load(SeqCst);
        if borrowable == 0 {
            return false;
        }
        // Seats that others have borrowed already are not lent again.
        let over = |level: &Arc<Level>| level.in_use().saturating_sub(level.nominal());
        let others = || levels.iter().filter(|level| level.name != self.name);
        let lent: u32 = others().filter(|l| !l.exempt.load(SeqCst)).map(over).sum();
        let offered: u32 = others().map(|level| level.to_lend()).sum();
        let limit = self.nominal() + borrowable.min(offered.saturating_sub(lent));
        let taken = self.take_within(seats, limit);
        if taken {
            self.borrowed.fetch_add(u64::from(seats), SeqCst);
        }
        taken
    }

    fn take_within(&self, seats: u32, limit: u32) -> bool {
        let fits = |used: u32| used.checked_add(seats).filter(|used| *used <= limit);
        self.in_use.fetch_update(SeqCst, SeqCst, fits).is_ok()
    }

    /// Lets a request in, now or when its turn comes.
    pub(super) async fn enter(
        self: &Arc<Self>,
        levels: &Levels,
        flow: u64,
        seats: u32,
    ) -> Result<Permit, Rejection> {
        // More than there is would never come.
        let seats = seats.min(self.nominal().max(1));
        if self.waiting() == 0 && self.take(seats, levels) {
            return Ok(Permit::new(self, levels, seats, None));
        }
        let waiter = {
            let mut queues = self.queues();
            let Some(all) = queues.as_mut() else {
                return match self.take(seats, levels) {
                    true => Ok(Permit::new(self, levels, seats, None)),
                    false => Err(Rejection::ConcurrencyLimit),
                };
            };
            let (sender, waiter) = oneshot::channel();
            let pushed = all.push(flow, seats, sender, |waiter| !waiter.is_closed());
            self.note_waiting(&queues);
            pushed.map_err(|_full| Rejection::QueueFull)?;
            waiter
        };
        // Seats may have become free before this one was seen waiting.
        self.dispatch(levels);
        match tokio::time::timeout(WAIT_LIMIT, waiter).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Rejection::ConcurrencyLimit),
            Err(_) => Err(Rejection::TimeOut),
        }
    }

    /// Gives free seats to those who wait.
    fn dispatch(self: &Arc<Self>, levels: &Levels) {
        if self.waiting() == 0 {
            return;
        }
        // Dropped when the lock is free: they give their seats back.
        let mut unwanted = Vec::new();
        let mut guard = self.queues();
        if let Some(queues) = guard.as_mut() {
            let waits = |waiter: &Waiter| !waiter.is_closed();
            while let Some(Next { queue, seats, item }) =
                queues.pop(waits, |seats| self.take(seats, levels))
            {
                let permit = Permit::new(self, levels, seats, Some(queue));
                if let Err(permit) = item.send(permit) {
                    unwanted.push(permit);
                }
            }
        }
        self.note_waiting(&guard);
        drop(guard);
    }
}

/// Seats of a level, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    level: Arc<Level>,
    levels: Levels,
    seats: u32,
    queue: Option<usize>,
    since: Instant,
}

impl Permit {
    fn new(level: &Arc<Level>, levels: &Levels, seats: u32, queue: Option<usize>) -> Self {
        level.executing.fetch_add(1, SeqCst);
        Self {
            level: level.clone(),
            levels: levels.clone(),
            seats,
            queue,
            since: Instant::now(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.level.executing.fetch_sub(1, SeqCst);
        self.level.in_use.fetch_sub(self.seats, SeqCst);
        if let Some(queue) = self.queue
            && let Some(queues) = self.level.queues().as_mut()
        {
            queues.finished(queue, self.seats, self.since.elapsed().as_secs_f64());
        }
        for level in self.levels.iter() {
            level.dispatch(&self.levels);
        }
    }
}
