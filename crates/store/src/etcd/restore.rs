//! Filling a prefix out of a snapshot.
//!
//! Invariant: from the first key that is written to the last one a note says that this is under way, and
//! no store opens the prefix. The offset is written in the transaction that removes it: so our revisions
//! begin above those of the snapshot, and everything before that transaction is not history.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::config::EtcdConfig;
use super::connection::{Connection, Failure, Repeat};
use super::keys::{Keys, Offset};
use super::open::{FORMAT, FORMAT_NOTE, Notes, OFFSET_NOTE, RESTORING_NOTE, notes};
use super::proto::{
    Compare, DeleteRangeRequest, Holds, LeaseGrantRequest, Operand, PutRequest, RangeRequest,
    Request, TxnRequest, TxnResponse,
};
use crate::snapshot::{Progress, Reader, RestoreOptions, Restored, Returning, SnapshotError};
use crate::{Entry, Revision, StoreError};

/// The most keys, and about the most bytes, of one transaction: etcd's own bounds are 128 and 1.5 MiB.
const BATCH_KEYS: usize = 100;
const BATCH_BYTES: usize = 512 << 10;
/// Keys whose times end within the same so many seconds share a lease.
const LEASE_SECS: u64 = 60;

/// Fills the prefix out of a snapshot.
pub(crate) fn restore(
    snapshot: &Path,
    config: &EtcdConfig,
    options: &RestoreOptions,
    progress: Progress<'_>,
) -> Result<Restored, SnapshotError> {
    let reader = Reader::open(snapshot, progress)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SnapshotError::Io {
            action: "make a runtime to restore",
            path: snapshot.to_owned(),
            source,
        })?;
    // Reading the file blocks this thread, which nobody else uses.
    runtime.block_on(async {
        let mut filling = Filling::begin(config).await?;
        let mut returning = Returning::new(reader, options, Some(filling.seen), progress)?;
        filling.mark(config).await?;
        let mut batch = Batch::default();
        while let Some(entry) = returning.next()? {
            batch.bytes += entry.key.len() + entry.value.len();
            batch.entries.push(entry);
            if batch.entries.len() >= BATCH_KEYS || batch.bytes >= BATCH_BYTES {
                filling.put(std::mem::take(&mut batch)).await?;
            }
        }
        filling.put(batch).await?;
        let revision = filling.finish(returning.floor()).await?;
        Ok(returning.finish(revision, None, false))
    })
}

/// Entries that are written together.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

/// A prefix that is being filled.
struct Filling {
    connection: Connection,
    keys: Keys,
    /// The newest revision that a client can have seen of a store that was under the prefix before.
    seen: Revision,
    /// Whether an earlier attempt has left its mark.
    interrupted: bool,
    /// etcd's revision of the mark.
    mark: i64,
    /// By the end of the time to live, in units of [`LEASE_SECS`] since 1970.
    leases: HashMap<u64, i64>,
    written: i64,
}

impl Filling {
    /// Looks at what is there. Changes nothing but the note of the format.
    async fn begin(config: &EtcdConfig) -> Result<Filling, StoreError> {
        let connection = Connection::new(config)?;
        let keys = Keys::new(&config.prefix);
        let answer = connection
            .run(Repeat::Freely, |member| member.txn(notes(&keys)))
            .await
            .map_err(|failure| connection.error("connect", failure))?;
        let found = Notes::read(&answer);
        if found.format > FORMAT {
            return Err(StoreError::TooNew {
                path: config.prefix.clone().into(),
                found: found.format,
                known: FORMAT,
            });
        }
        let newest = answer.header.unwrap_or_default().revision;
        Ok(Filling {
            connection,
            keys,
            seen: Offset(found.offset).ours(newest),
            interrupted: found.restoring,
            mark: 0,
            leases: HashMap::new(),
            written: 0,
        })
    }

    /// Takes the prefix, if it is empty or of an attempt that was cut short.
    async fn mark(&mut self, config: &EtcdConfig) -> Result<(), SnapshotError> {
        if self.count().await? > 0 && !self.interrupted {
            return Err(SnapshotError::NotEmpty {
                place: format!("{} in etcd", config.prefix),
            });
        }
        let (low, high) = self.keys.range("", None);
        let put = PutRequest {
            key: self.keys.note(RESTORING_NOTE),
            value: b"1".to_vec(),
            lease: 0,
        };
        let wipe = DeleteRangeRequest {
            key: low,
            range_end: high,
        };
        let message = TxnRequest {
            success: vec![Request::Put(put).into(), Request::Delete(wipe).into()],
            ..TxnRequest::default()
        };
        let answer = self.txn("begin to restore", message).await?;
        self.mark = answer.header.unwrap_or_default().revision;
        Ok(())
    }

    async fn count(&self) -> Result<i64, StoreError> {
        let (key, range_end) = self.keys.range("", None);
        let question = RangeRequest {
            key,
            range_end,
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = self
            .connection
            .run(Repeat::Freely, |member| member.range(question.clone()))
            .await;
        match answer {
            Ok(answer) => Ok(answer.count),
            Err(failure) => Err(self.connection.error("count", failure)),
        }
    }

    async fn put(&mut self, batch: Batch) -> Result<(), StoreError> {
        if batch.entries.is_empty() {
            return Ok(());
        }
        let mut message = TxnRequest::default();
        for entry in &batch.entries {
            let lease = match entry.expires {
                Some(expires) => self.lease(expires).await?,
                None => 0,
            };
            let put = PutRequest {
                key: self.keys.data(&entry.key),
                value: entry.value.to_vec(),
                lease,
            };
            message.success.push(Request::Put(put).into());
        }
        self.txn("restore", message).await?;
        self.written += i64::try_from(batch.entries.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// A lease that ends not before a time, and at most [`LEASE_SECS`] after it.
    async fn lease(&mut self, expires: SystemTime) -> Result<i64, StoreError> {
        let since = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs()
        };
        let slot = since(expires) / LEASE_SECS + 1;
        if let Some(id) = self.leases.get(&slot) {
            return Ok(*id);
        }
        let left = (slot * LEASE_SECS).saturating_sub(since(SystemTime::now()));
        let question = LeaseGrantRequest {
            ttl: i64::try_from(left.max(1)).unwrap_or(i64::MAX),
        };
        let granted = self
            .connection
            .run(Repeat::Freely, |member| member.grant(question))
            .await
            .map_err(|failure| self.connection.error("grant a lease", failure))?;
        self.leases.insert(slot, granted.id);
        Ok(granted.id)
    }

    /// Makes the prefix a store whose revisions are above `floor`. Returns the newest.
    async fn finish(&self, floor: Revision) -> Result<Revision, StoreError> {
        let found = self.count().await?;
        if found != self.written {
            let detail = format!("{found} of {} entries are under the prefix", self.written);
            return Err(self.connection.error("check", Failure::lost(detail)));
        }
        let mark = self.keys.note(RESTORING_NOTE);
        let put = |name: &str, value: String| {
            Request::Put(PutRequest {
                key: self.keys.note(name),
                value: value.into_bytes(),
                lease: 0,
            })
        };
        let unmark = DeleteRangeRequest {
            key: mark.clone(),
            ..DeleteRangeRequest::default()
        };
        let message = TxnRequest {
            compare: vec![Compare::new(
                mark,
                Holds::Equal,
                Operand::Modified(self.mark),
            )],
            success: vec![
                put(FORMAT_NOTE, FORMAT.to_string()).into(),
                put(OFFSET_NOTE, floor.0.to_string()).into(),
                Request::Delete(unmark).into(),
            ],
            failure: Vec::new(),
        };
        // Sent once: whether it was carried out decides.
        let answer = self
            .connection
            .run(Repeat::IfUnsent, |member| member.txn(message.clone()))
            .await
            .map_err(|failure| self.connection.error("end the restore", failure))?;
        if !answer.succeeded {
            let failure = Failure::lost("another restore has begun under this prefix");
            return Err(self.connection.error("end the restore", failure));
        }
        let revision = answer.header.unwrap_or_default().revision;
        Ok(Offset(floor.0).ours(revision))
    }

    /// The same again makes the same, so it may be sent again.
    async fn txn(
        &self,
        action: &'static str,
        message: TxnRequest,
    ) -> Result<TxnResponse, StoreError> {
        self.connection
            .run(Repeat::Freely, |member| member.txn(message.clone()))
            .await
            .map_err(|failure| self.connection.error(action, failure))
    }
}
