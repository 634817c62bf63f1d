//! Compaction: forgetting history, in steps that are small enough not to hold up a write. A step is
//! one transaction that moves the compacted revision on, so history is always whole from there.
//! Pages that come free beyond a reserve are given back to the file system, a few at a time.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior, params};

use super::Reply;
use crate::hub::{Hub, Position};
use crate::sqlite::schema::classify;
use crate::{Retention, Revision, StoreError};

/// How many revisions one step forgets.
const STEP_REVISIONS: u64 = 500;
/// With more than this to forget, a step follows every batch.
const BEHIND_REVISIONS: u64 = 20_000;
/// How much one step gives back, in bytes; and what is kept for the next writes at least.
const STEP_BYTES: u32 = 1 << 20;
/// How many marks divide the age to keep: its resolution.
const MARKS: u32 = 10;

/// What there is to compact.
#[derive(Debug)]
pub(super) struct Compaction {
    retention: Option<Retention>,
    compacted: Revision,
    target: Revision,
    vacuum: bool,
    /// Which revision was current when, the oldest first.
    marks: VecDeque<(Instant, Revision)>,
    waiting: Vec<(Revision, Reply<()>)>,
}

impl Compaction {
    pub(super) fn new(position: Position, retention: Option<Retention>) -> Compaction {
        let marks = VecDeque::from([(Instant::now(), position.current)]);
        let (compacted, target) = (position.compacted, position.compacted);
        Compaction {
            retention,
            compacted,
            target,
            vacuum: false,
            marks,
            waiting: Vec::new(),
        }
    }

    pub(super) fn request(&mut self, up_to: Revision, reply: Reply<()>) {
        self.target = self.target.max(up_to);
        self.waiting.push((up_to, reply));
        self.answer();
    }

    /// Applies the retention. Called after a commit: where nothing is written nothing grows old
    /// enough to matter, so no timer is needed.
    pub(super) fn observe(&mut self, current: Revision) {
        let Some(retention) = self.retention else {
            return;
        };
        let now = Instant::now();
        let is_new =
            |(at, _): &(Instant, Revision)| now.duration_since(*at) < retention.age / MARKS;
        if !self.marks.back().is_some_and(is_new) {
            self.marks.push_back((now, current));
        }
        let mut old = Revision(0);
        while let Some((at, revision)) = self.marks.front()
            && now.duration_since(*at) >= retention.age
        {
            old = *revision;
            self.marks.pop_front();
        }
        let keep = Revision(current.0.saturating_sub(retention.revisions));
        self.target = self.target.max(old.min(keep));
    }

    pub(super) fn is_due(&self) -> bool {
        self.target > self.compacted || self.vacuum
    }

    pub(super) fn is_behind(&self) -> bool {
        self.target.0 > self.compacted.0.saturating_add(BEHIND_REVISIONS)
    }

    /// Does a bit of what is due.
    pub(super) fn step(&mut self, path: &Path, connection: &mut Connection, hub: &Hub) {
        if self.target > self.compacted {
            let up_to = Revision(self.target.0.min(self.compacted.0 + STEP_REVISIONS));
            match forget(connection, self.compacted, up_to) {
                Ok(()) => {
                    self.compacted = up_to;
                    self.vacuum = self.target == up_to;
                    hub.set_compacted(up_to);
                    self.answer();
                }
                Err(error) => self.give_up(&classify(path, "compact", error)),
            }
        } else if self.vacuum {
            match give_back(connection) {
                Ok(more) => self.vacuum = more,
                Err(error) => self.give_up(&classify(path, "give back free pages", error)),
            }
        }
    }

    /// Leaves the rest for the next target. Those who wait are told why.
    fn give_up(&mut self, error: &StoreError) {
        tracing::warn!(
            error = stdx::chain(error),
            "compaction failed; it goes on later"
        );
        self.target = self.compacted;
        self.vacuum = false;
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    pub(super) fn abandon(&mut self) {
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Err(StoreError::Closed));
        }
    }

    fn answer(&mut self) {
        let compacted = self.compacted;
        for (_, reply) in self
            .waiting
            .extract_if(.., |(up_to, _)| *up_to <= compacted)
        {
            // A caller that is gone needs no answer.
            let _ = reply.send(Ok(()));
        }
    }
}

/// Forgets what was superseded between two revisions. A row that a later one replaces is named by
/// that one's `previous`, so this takes time by the number of revisions, not of keys.
fn forget(
    connection: &mut Connection,
    compacted: Revision,
    up_to: Revision,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let range = params![compacted.0.cast_signed(), up_to.0.cast_signed()];
    transaction
        .prepare_cached(
            "DELETE FROM log WHERE revision IN (
               SELECT previous FROM log WHERE revision > ?1 AND revision <= ?2 AND previous != 0)",
        )?
        .execute(range)?;
    transaction
        .prepare_cached("DELETE FROM log WHERE revision > ?1 AND revision <= ?2 AND value IS NULL")?
        .execute(range)?;
    transaction
        .prepare_cached("UPDATE meta SET compacted = ?1 WHERE id = 1")?
        .execute([up_to.0.cast_signed()])?;
    transaction.commit()
}

/// Gives some free pages back; whether there are more to give.
fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let (total, free) = (pages("page_count")?, pages("freelist_count")?);
    let step = STEP_BYTES / pages("page_size")?.max(1);
    // The next writes will want some of them.
    let reserve = (total / 8).max(step);
    let count = free.saturating_sub(reserve).min(step);
    if count == 0 {
        return Ok(false);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({count})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(free - count > reserve)
}
