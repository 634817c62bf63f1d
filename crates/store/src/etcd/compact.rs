//! Compaction, by us. Of several servers one does it at a time: the one that moves a note from the
//! version that it has seen, as upstream's compactor does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shared;
use super::connection::{Failure, Kind, Repeat};
use super::proto::{
    CompactionRequest, Compare, Holds, Operand, PutRequest, RangeRequest, Request, Response,
    StatusRequest, TxnRequest,
};
use crate::{Retention, Revision, StoreError};

const COMPACT_NOTE: &str = "compact";
/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(100);

/// Forgets the history before a revision of ours. What is before it cannot be read any more when this
/// returns; etcd frees its space in the background, and gives it back when it is defragmented.
pub(super) async fn compact(shared: &Shared, up_to: Revision) -> Result<(), StoreError> {
    shared.check_open()?;
    if up_to <= shared.hub.compacted() {
        return Ok(());
    }
    let revision = shared.offset.etcds(up_to);
    if revision > 0 {
        let asked = CompactionRequest { revision };
        let answer = shared
            .connection
            .run(Repeat::Freely, |member| member.compact(asked))
            .await;
        match answer {
            Ok(_) => {}
            // Somebody was there before.
            Err(failure) if failure.kind == Kind::Compacted => {}
            Err(failure) => return Err(shared.connection.error("compact", failure)),
        }
    }
    shared.hub.set_compacted(up_to);
    Ok(())
}

/// Applies the retention and looks at etcd's size, as often as history grows old. Ends when it is
/// aborted.
pub(super) async fn keep_small(shared: Arc<Shared>, retention: Option<Retention>) {
    let mut round = Round::default();
    loop {
        measure(&shared).await;
        let Some(retention) = retention else { return };
        tokio::time::sleep(retention.age.max(SHORTEST)).await;
        if let Err(failure) = round.step(&shared, retention.revisions).await {
            tracing::warn!(%failure, "compaction failed; it is tried again");
        }
    }
}

async fn measure(shared: &Shared) {
    let answer = shared
        .connection
        .run(Repeat::Freely, |member| member.status(StatusRequest {}))
        .await;
    match answer {
        Ok(status) => {
            let bytes = u64::try_from(status.db_size).unwrap_or(0);
            shared.database_bytes.store(bytes, Ordering::Relaxed);
            tracing::debug!(version = status.version, bytes, "etcd");
        }
        Err(failure) => tracing::debug!(%failure, "etcd's size is not known"),
    }
}

/// What is known since the round before.
#[derive(Debug, Default)]
struct Round {
    /// The version of the note.
    version: i64,
    /// etcd's revision then; 0 before the first round.
    recorded: i64,
}

impl Round {
    async fn step(&mut self, shared: &Shared, keep_revisions: u64) -> Result<(), Failure> {
        if shared.hub.current() <= shared.offset.ours(self.recorded) {
            // Nothing has happened, so nothing has grown old.
            return Ok(());
        }
        let key = shared.keys.note(COMPACT_NOTE);
        let put = Request::Put(PutRequest {
            key: key.clone(),
            value: self.recorded.to_string().into_bytes(),
            lease: 0,
        });
        let read = Request::Range(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        });
        let message = TxnRequest {
            compare: vec![Compare::new(
                key,
                Holds::Equal,
                Operand::Version(self.version),
            )],
            success: vec![put.into()],
            failure: vec![read.into()],
        };
        let answer = shared
            .connection
            .run(Repeat::IfUnsent, |member| member.txn(message.clone()))
            .await?;
        let now = answer.header.unwrap_or_default().revision;
        let due = self.recorded;
        self.recorded = now;
        if !answer.succeeded {
            // Another server has done it since.
            let response = answer.responses.into_iter().next();
            if let Some(Response::Range(range)) = response.and_then(|response| response.response) {
                self.version = range.kvs.first().map_or(0, |kv| kv.version);
            }
            return Ok(());
        }
        self.version += 1;
        let keep = i64::try_from(keep_revisions).unwrap_or(i64::MAX);
        let target = shared.offset.ours(due.min(now.saturating_sub(keep)).max(0));
        if due > 0
            && let Err(error) = compact(shared, target).await
        {
            tracing::warn!(
                error = stdx::chain(&error),
                "compaction failed; it is tried again"
            );
        }
        Ok(())
    }
}
