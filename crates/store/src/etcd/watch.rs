//! The watch that feeds the hub, over broken connections, changes of leader and compaction.
//!
//! Invariant: events come to the hub in whole revisions, in order, each once. Where etcd cannot give the
//! next one any more, the hub is told that events were lost; where etcd has gone back, the store closes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use stdx::Backoff;
use tokio::time::timeout;

use super::Shared;
use super::connection::{Connection, Failure, Kind, Member, Repeat};
use super::keys::Keys;
use super::proto::{RangeRequest, WatchCreateRequest, WatchEvent, WatchEventKind, WatchResponse};
use super::recent::Recent;
use crate::hub::{Position, lock};
use crate::metrics::count;
use crate::{Event, EventKind, Revision};

/// The pauses between attempts to take the watch up again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long etcd may take to say that a watch begins too early: it looks every 100 ms.
const VERDICT: Duration = Duration::from_secs(3);

/// Why a watch ended.
#[derive(Debug)]
enum End {
    /// The connection or the member failed.
    Broken(Failure),
    /// What comes next is compacted.
    Compacted,
    /// This is not the data that was followed until now.
    Other(String),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Broken(failure)
    }
}

/// What etcd still has of what follows a revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// All of it.
    Whole,
    /// Not all.
    Compacted,
}

/// Follows everything after a revision of etcd's. Ends when it is aborted, or the store closes.
pub(super) async fn follow(shared: Arc<Shared>, last: i64) {
    let mut follower = Follower {
        shared: &shared,
        last,
        pending: Vec::new(),
    };
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let member = shared.connection.member();
        let before = follower.last;
        let end = follower.follow(member, &mut backoff).await;
        match end {
            End::Broken(failure) => {
                if backoff.attempts() == 0 {
                    tracing::warn!(%failure, at = before, "the watch of etcd broke off; it is taken up again");
                } else {
                    tracing::debug!(%failure, "the watch of etcd cannot be taken up yet");
                }
                shared.connection.leave(member);
                tokio::time::sleep(backoff.next()).await;
            }
            End::Compacted => match follower.lose().await {
                Ok(()) => {}
                Err(failure) => {
                    tracing::debug!(%failure, "etcd cannot be asked where its history begins");
                    shared.connection.leave(member);
                    tokio::time::sleep(backoff.next()).await;
                }
            },
            End::Other(detail) => {
                tracing::error!(
                    detail,
                    "etcd's data is not what it was; the store closes. If it was restored from a backup, \
                     stop every server of this cluster before they are started again"
                );
                shared.closed.store(true, Ordering::Release);
                shared.hub.close();
                return;
            }
        }
    }
}

struct Follower<'a> {
    shared: &'a Shared,
    /// Everything up to this revision of etcd's is published.
    last: i64,
    /// Events of a revision of which more is to come.
    pending: Vec<WatchEvent>,
}

impl Follower<'_> {
    /// One watch, from its beginning to its end.
    async fn follow(&mut self, member: &Member, backoff: &mut Backoff) -> End {
        match self.run(member, backoff).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn run(&mut self, member: &Member, backoff: &mut Backoff) -> Result<End, End> {
        let shared = self.shared;
        self.pending.clear();
        let mut stream = member.watch(create(&shared.keys, self.last + 1)).await?;
        if standing(shared, self.last).await? == Standing::Compacted {
            return Ok(End::Compacted);
        }
        if backoff.attempts() > 0 {
            tracing::info!(at = self.last, "the watch of etcd goes on");
            count(&shared.hub.counters().reconnects);
        }
        backoff.reset();
        let mut looked = false;
        loop {
            let message = stream.message().await.map_err(Failure::from)?;
            let Some(response) = message else {
                return Ok(End::Broken(Failure::lost("etcd ended the watch")));
            };
            if response.canceled {
                return Ok(canceled(response));
            }
            if response.created {
                continue;
            }
            // A watch that begins exactly at the compacted revision is not refused, though what was
            // deleted there is gone (etcd issue 19179). So it is looked at after the first events
            // have come: what is whole then was whole when they were sent.
            if !looked && standing(shared, self.last).await? == Standing::Compacted {
                return Ok(End::Compacted);
            }
            looked = true;
            if !self.take(response) {
                return Ok(End::Compacted);
            }
        }
    }

    /// Publishes what a response brings, as far as its revisions are whole. False when a value is
    /// missing, which happens only to what is compacted.
    fn take(&mut self, response: WatchResponse) -> bool {
        let header = response.header.unwrap_or_default();
        let progress = response.events.is_empty() && self.pending.is_empty() && !response.fragment;
        if progress {
            if header.revision > self.last {
                self.last = header.revision;
                self.shared.hub.advance(self.shared.offset.ours(self.last));
            }
            return true;
        }
        self.pending.extend(response.events);
        let whole = if response.fragment {
            let newest = self.pending.last().map_or(0, revision);
            self.pending
                .partition_point(|event| revision(event) < newest)
        } else {
            self.pending.len()
        };
        let (mut events, mut last) = (Vec::new(), self.last);
        for raw in self.pending.drain(..whole) {
            let at = revision(&raw);
            if at <= self.last {
                continue;
            }
            last = at;
            match translate(self.shared, raw) {
                Translated::Ours(event) => events.push(event),
                Translated::Note => {}
                Translated::Incomplete => return false,
            }
        }
        if last > self.last {
            let newest = self.shared.offset.ours(last);
            lock(&self.shared.recent).push(&events, newest);
            self.shared.hub.publish(events);
            self.shared.hub.advance(newest);
            self.last = last;
        }
        true
    }

    /// Goes on at the present, and tells every subscriber that events were lost.
    async fn lose(&mut self) -> Result<(), Failure> {
        let shared = self.shared;
        let now = position(&shared.connection, &shared.keys).await?;
        let compacted = find_compacted(&shared.connection, &shared.keys).await?;
        let position = Position {
            current: shared.offset.ours(now),
            compacted: shared.offset.ours(compacted),
        };
        tracing::warn!(
            from = self.last,
            to = now,
            compacted,
            "etcd was compacted beyond what was read; subscribers list again"
        );
        self.last = now;
        *lock(&shared.recent) = Recent::new(position.current);
        shared.hub.lose(position);
        Ok(())
    }
}

/// A watch over all our keys and notes from a revision on.
pub(super) fn create(keys: &Keys, start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = keys.all();
    WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: true,
        prev_kv: true,
        fragment: true,
    }
}

/// Why etcd ended a watch.
fn canceled(response: WatchResponse) -> End {
    if response.compact_revision > 0 {
        return End::Compacted;
    }
    let reason = match response.cancel_reason {
        reason if reason.is_empty() => "etcd ended the watch".to_owned(),
        reason => reason,
    };
    End::Broken(Failure::lost(reason))
}

/// The revision of an event.
pub(super) fn revision(event: &WatchEvent) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// What an event of etcd's is to us.
pub(super) enum Translated {
    /// A change of one of our keys.
    Ours(Event),
    /// A change of a note.
    Note,
    /// A value that should be there is not.
    Incomplete,
}

pub(super) fn translate(shared: &Shared, raw: WatchEvent) -> Translated {
    let kind = raw.kind();
    let Some(kv) = raw.kv else {
        return Translated::Note;
    };
    let Some(key) = shared.keys.strip(&kv.key) else {
        return Translated::Note;
    };
    let previous = raw.prev_kv.map(|kv| Bytes::from(kv.value));
    let created = kv.create_revision == kv.mod_revision;
    let (kind, value) = match (kind, &previous) {
        (WatchEventKind::Put, None) if created => (EventKind::Created, kv.value.into()),
        (WatchEventKind::Put, Some(_)) => (EventKind::Updated, kv.value.into()),
        (WatchEventKind::Delete, Some(value)) => (EventKind::Deleted, value.clone()),
        (_, None) => return Translated::Incomplete,
    };
    Translated::Ours(Event {
        kind,
        key: key.into(),
        revision: shared.offset.ours(kv.mod_revision),
        value,
        previous,
    })
}

/// Whether everything after a revision is still there. Ends the watch when etcd is at an earlier one, or
/// is another: then it was made anew, and what was published never happened in it.
async fn standing(shared: &Shared, last: i64) -> Result<Standing, End> {
    let question = |revision| RangeRequest {
        key: shared.keys.note("format"),
        revision,
        count_only: true,
        ..RangeRequest::default()
    };
    let ask = async |revision| {
        shared
            .connection
            .run(Repeat::Freely, |member| member.range(question(revision)))
            .await
    };
    match ask(last.max(1)).await {
        Ok(answer) => {
            let cluster = answer.header.unwrap_or_default().cluster_id;
            if shared.connection.is_same_cluster(cluster) {
                Ok(Standing::Whole)
            } else {
                Err(End::Other("a member is of another cluster".to_owned()))
            }
        }
        Err(failure) if failure.kind == Kind::Compacted => Ok(Standing::Compacted),
        Err(failure) if failure.kind == Kind::Future => Err(End::Other(format!(
            "its revision went back, to before {last}"
        ))),
        Err(failure) => Err(End::Broken(failure)),
    }
}

/// Whether the history after a revision of ours is whole.
pub(super) async fn is_whole(shared: &Shared, after: Revision) -> Result<bool, Failure> {
    match standing(shared, shared.offset.etcds(after)).await {
        Ok(standing) => Ok(standing == Standing::Whole),
        Err(End::Broken(failure)) => Err(failure),
        Err(End::Compacted) => Ok(false),
        Err(End::Other(detail)) => Err(Failure::lost(detail)),
    }
}

/// etcd's revision now.
async fn position(connection: &Connection, keys: &Keys) -> Result<i64, Failure> {
    let question = RangeRequest {
        key: keys.note("format"),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = connection
        .run(Repeat::Freely, |member| member.range(question.clone()))
        .await?;
    Ok(answer.header.unwrap_or_default().revision)
}

/// The revision that etcd is compacted to, if it is.
pub(super) async fn compacted_now(
    connection: &Connection,
    keys: &Keys,
) -> Result<Option<i64>, Failure> {
    let first = RangeRequest {
        key: keys.note("format"),
        revision: 1,
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = connection
        .run(Repeat::Freely, |member| member.range(first.clone()))
        .await;
    match answer {
        Ok(_) => Ok(None),
        Err(failure) if failure.kind == Kind::Compacted => {
            find_compacted(connection, keys).await.map(Some)
        }
        Err(failure) => Err(failure),
    }
}

/// The revision that etcd is compacted to, where it is known to be: etcd tells it to a watch that
/// begins too early, and to nobody else.
pub(super) async fn find_compacted(connection: &Connection, keys: &Keys) -> Result<i64, Failure> {
    let create = WatchCreateRequest {
        key: keys.note("format"),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let mut failure = Failure::lost("etcd does not say where its history begins");
    for _ in 0..3 {
        let member = connection.member();
        let ask = async {
            let mut stream = member.watch(create.clone()).await?;
            while let Some(response) = stream.message().await? {
                if response.compact_revision > 0 {
                    return Ok(response.compact_revision);
                }
            }
            Err(Failure::lost("etcd ended the watch"))
        };
        match timeout(VERDICT, ask).await {
            Ok(Ok(revision)) => return Ok(revision),
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
        connection.leave(member);
    }
    Err(failure)
}
