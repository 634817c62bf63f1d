//! How a reader learns that it has seen everything: the newest revision, and a way to make the watch
//! come past it.
//!
//! The watch sees our keys only. When the newest revision of a shared etcd is of a foreign key, no event
//! brings the hub there; then a note is written, whose event does. This is sound on every version of
//! etcd, other than asking the watch for its progress (etcd issue 15220).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::Shared;
use super::connection::{Failure, Repeat};
use super::proto::{PutRequest, RangeRequest, ResponseHeader};
use crate::{Revision, StoreError};

/// How long the watch has to come to a revision by itself before it is helped.
const GRACE: Duration = Duration::from_millis(20);
const BARRIER_NOTE: &str = "barrier";

/// Calls of one question, of which those that wait together share an answer. Invariant: an answer goes
/// only to those who asked before it was fetched.
#[derive(Debug, Default)]
pub(super) struct Flights {
    asked: AtomicU64,
    last: Mutex<Flight>,
}

#[derive(Debug, Default)]
struct Flight {
    /// How many had asked when it began.
    covers: u64,
    answer: Option<Result<Revision, StoreError>>,
}

impl Flights {
    async fn ask<F>(&self, fetch: impl FnOnce() -> F) -> Result<Revision, StoreError>
    where
        F: Future<Output = Result<Revision, StoreError>>,
    {
        let ticket = self.asked.fetch_add(1, Ordering::AcqRel);
        let mut last = self.last.lock().await;
        if last.covers > ticket
            && let Some(answer) = &last.answer
        {
            return answer.clone();
        }
        let covers = self.asked.load(Ordering::Acquire);
        let answer = fetch().await;
        *last = Flight {
            covers,
            answer: Some(answer.clone()),
        };
        answer
    }
}

/// The newest revision of the store, by a linearizable read; published when this returns.
pub(super) async fn newest(shared: &Shared) -> Result<Revision, StoreError> {
    shared.check_open()?;
    let newest = shared.newest.ask(|| read_revision(shared)).await?;
    settle(shared, newest).await?;
    Ok(newest)
}

async fn read_revision(shared: &Shared) -> Result<Revision, StoreError> {
    let question = RangeRequest {
        key: shared.keys.note(BARRIER_NOTE),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = shared
        .connection
        .run(Repeat::Freely, |member| member.range(question.clone()))
        .await;
    revision(
        shared,
        "read the revision",
        answer.map(|answer| answer.header),
    )
}

/// Waits until the watch has come to a revision that etcd has answered with, whoever's it is.
pub(super) async fn settle(shared: &Shared, revision: Revision) -> Result<(), StoreError> {
    if let Ok(published) = tokio::time::timeout(GRACE, shared.hub.published(revision)).await {
        return published;
    }
    write_barrier(shared).await?;
    shared.published(revision).await
}

/// Makes an event that is newer than everything before this call; its revision.
pub(super) async fn write_barrier(shared: &Shared) -> Result<Revision, StoreError> {
    shared
        .barriers
        .ask(async || {
            let put = PutRequest {
                key: shared.keys.note(BARRIER_NOTE),
                ..PutRequest::default()
            };
            let answer = shared
                .connection
                .run(Repeat::Freely, |member| member.put(put.clone()))
                .await;
            revision(shared, "write a note", answer.map(|answer| answer.header))
        })
        .await
}

fn revision(
    shared: &Shared,
    action: &'static str,
    answer: Result<Option<ResponseHeader>, Failure>,
) -> Result<Revision, StoreError> {
    let header =
        answer.and_then(|header| header.ok_or_else(|| Failure::lost("an answer without a header")));
    match header {
        Ok(header) => Ok(shared.offset.ours(header.revision)),
        Err(failure) => Err(shared.connection.error(action, failure)),
    }
}
