//! Events are kept for an hour after their last change.
//!
//! Invariant: nothing is polled: the task sleeps until something changes or something is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use store::{Expect, Op, Revision, StoreError, Write};
use tokio::time::Instant;

use crate::cache::{KindCache, Object};
use crate::state::State;
use crate::storage;

/// How long an Event is kept.
const KEPT: Duration = Duration::from_secs(3600);

/// What is due: when and which, and at which revision it was seen.
type Due = BTreeMap<(Instant, Arc<str>), Revision>;

/// Removes old Events until the drain.
pub(crate) async fn expire_events(state: Arc<State>) {
    let events = state.core("events");
    let mut changed = events.subscribe();
    let (mut due, mut cursor) = load(&events);
    loop {
        changed.borrow_and_update();
        match events.since(cursor, usize::MAX) {
            Some(changes) => {
                let at = Instant::now() + KEPT;
                for change in changes {
                    cursor = change.revision;
                    if !change.deleted {
                        due.insert((at, change.object.key.clone()), change.revision);
                    }
                }
            }
            None => (due, cursor) = load(&events),
        }
        let now = Instant::now();
        while let Some(entry) = due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, key), revision) = entry.remove_entry();
            remove(&state, &key, revision).await;
        }
        let next = due.first_key_value().map(|((at, _), _)| *at);
        tokio::select! {
            () = state.drain.cancelled() => return,
            () = sleep(next) => {}
            alive = changed.changed() => if alive.is_err() { return },
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What is there, due by its own times.
fn load(events: &KindCache) -> (Due, Revision) {
    // Taken first: a change in between is then seen twice, which does no harm.
    let cursor = events.last();
    let (now, clock) = (Timestamp::now(), Instant::now());
    let due = events
        .list(None)
        .iter()
        .map(|event| {
            let age = now.duration_since(last_seen(event)).unsigned_abs();
            (
                (clock + KEPT.saturating_sub(age), event.key.clone()),
                event.revision,
            )
        })
        .collect();
    (due, cursor)
}

fn last_seen(event: &Object) -> Timestamp {
    let value = event.value();
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .filter_map(|pointer| value.pointer(pointer).and_then(Value::as_str))
    .find_map(|text| text.parse().ok())
    .unwrap_or(Timestamp::UNIX_EPOCH)
}

async fn remove(state: &State, key: &str, revision: Revision) {
    let key = format!("{}{key}", storage::prefix("", "events"));
    match state
        .store
        .write(Write {
            key,
            expect: Expect::At(revision),
            op: Op::Delete,
        })
        .await
    {
        // Changed since, so due later; or gone.
        Ok(_) | Err(StoreError::Conflict { .. } | StoreError::Closed) => {}
        Err(error) => tracing::warn!("removing an old event: {}", stdx::chain::chain(&error)),
    }
}
