//! Events of the past: from memory where they are there, else by a watch that begins early.
//!
//! Invariant: what is returned is whole up to the revision that is returned with it.

use tokio::time::{Instant, timeout_at};

use super::connection::{Failure, TIMEOUT};
use super::watch::{self, Translated, translate};
use super::{Shared, barrier};
use crate::hub::lock;
use crate::{Event, Revision, StoreError};

/// How much is read in one go, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// What came of reading.
enum Chunk {
    Read(Vec<Event>, Revision),
    Compacted,
}

pub(super) async fn history(
    shared: &Shared,
    prefix: &str,
    after: Revision,
    up_to: Revision,
) -> Result<(Vec<Event>, Revision), StoreError> {
    shared.check_open()?;
    let (found, last) = {
        let recent = lock(&shared.recent);
        (
            recent.range(prefix, after, up_to, CHUNK_BYTES),
            recent.last(),
        )
    };
    if let Some(found) = found {
        return Ok(found);
    }
    let _permit = shared
        .histories
        .acquire()
        .await
        .map_err(|_closed| StoreError::Closed)?;
    if last < up_to {
        // No event is known at which the watch could be seen to have come to `up_to`.
        barrier::write_barrier(shared).await?;
    }
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let member = shared.connection.member();
        let reading = async {
            let chunk = read(shared, prefix, after, up_to).await?;
            // Looked at when it was read: what is whole now was whole then.
            Ok::<_, Failure>((chunk, watch::is_whole(shared, after).await?))
        };
        let failure = match timeout_at(deadline, reading).await {
            Ok(Ok((Chunk::Read(events, reached), true))) => return Ok((events, reached)),
            Ok(Ok(_)) => return Err(shared.compacted_error().await),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::lost(format!("no answer within {TIMEOUT:?}")),
        };
        shared.connection.leave(member);
        if Instant::now() >= deadline {
            return Err(shared.connection.error("read the history", failure));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The pause before another attempt.
const RETRY: std::time::Duration = std::time::Duration::from_millis(200);

async fn read(
    shared: &Shared,
    prefix: &str,
    after: Revision,
    up_to: Revision,
) -> Result<Chunk, Failure> {
    let mut create = watch::create(&shared.keys, shared.offset.etcds(after) + 1);
    create.progress_notify = false;
    let mut stream = shared.connection.member().watch(create).await?;
    let (mut events, mut bytes) = (Vec::<Event>::new(), 0);
    while let Some(response) = stream.message().await? {
        if response.compact_revision > 0 {
            return Ok(Chunk::Compacted);
        }
        if response.canceled {
            return Err(Failure::lost(response.cancel_reason));
        }
        let newest = response.events.last().map_or(0, watch::revision);
        let newest = shared.offset.ours(newest);
        for raw in response.events {
            match translate(shared, raw) {
                Translated::Ours(event) if event.revision > up_to => {}
                Translated::Ours(event) if !event.key.starts_with(prefix) => {}
                Translated::Ours(event) => {
                    bytes += event.weight_bytes();
                    events.push(event);
                }
                Translated::Note => {}
                Translated::Incomplete => return Ok(Chunk::Compacted),
            }
        }
        // Of a fragment the last revision may be incomplete; the next one has the rest.
        if response.fragment {
            continue;
        }
        if newest >= up_to {
            return Ok(Chunk::Read(events, up_to));
        }
        if bytes >= CHUNK_BYTES {
            return Ok(Chunk::Read(events, newest));
        }
    }
    Err(Failure::lost("etcd ended the watch"))
}
