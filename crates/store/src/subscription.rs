//! A subscriber's end of the hub: the history after a revision, then what is published.

use std::sync::Arc;

use crate::backend::Backend;
use crate::hub::{Hub, Seat};
use crate::{Batch, Revision, StoreError};

/// The events of a prefix: first the history after a revision, then live, in order and without gap.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    queue: Arc<crate::hub::Queue>,
    hub: Arc<Hub>,
    backend: Arc<dyn Backend>,
    /// What is still to be read from the past: after `start`, up to and with `end`.
    history: std::ops::Range<Revision>,
    handed_out: Revision,
}

impl Subscription {
    pub(crate) fn new(
        seat: Seat,
        after: Revision,
        hub: Arc<Hub>,
        backend: Arc<dyn Backend>,
    ) -> Subscription {
        Subscription {
            id: seat.id,
            queue: seat.queue,
            hub,
            backend,
            history: after..seat.live_after,
            handed_out: after,
        }
    }

    /// The next events, in the order of their revisions: at least one, unless progress was asked for.
    ///
    /// Cancelling the future loses nothing. After an error the subscription is of no more use.
    ///
    /// # Errors
    /// [`StoreError::Lagged`] when this subscriber was too slow for its queue or the store lost events,
    /// [`StoreError::Compacted`] when the history it was still to read was compacted,
    /// [`StoreError::Sealed`] when an event cannot be decrypted,
    /// [`StoreError::Closed`] when the store closed and everything was read.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        while self.history.start < self.history.end {
            if self.queue.lagged() {
                return Err(StoreError::Lagged);
            }
            let (mut events, reached) = self
                .backend
                .history(self.queue.prefix(), self.history.start, self.history.end)
                .await?;
            self.hub.open_events(&mut events)?;
            self.history.start = reached;
            self.handed_out = reached;
            // One who asked for progress hears of the end of the past even when nothing was there.
            let is_told = self.queue.tells_progress() && self.history.is_empty();
            if !events.is_empty() || is_told {
                return Ok(Batch {
                    events,
                    through: reached,
                });
            }
        }
        let (events, through) = self.queue.take(&self.hub, self.handed_out).await?;
        self.handed_out = self.handed_out.max(through);
        Ok(Batch {
            events,
            through: self.handed_out,
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}
