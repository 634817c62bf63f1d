//! Writing: each transaction of ours is one of etcd's.

use std::time::Instant;

use super::connection::{Failure, Kind, Repeat};
use super::keys::{Keys, Offset};
use super::proto::{
    Compare, DeleteRangeRequest, Holds, KeyValue, Operand, PutRequest, RangeRequest, Request,
    Response, TxnRequest, TxnResponse,
};
use super::{Shared, lease, read};
use crate::{Expect, Op, Revision, StoreError, Write};

/// Carries out writes. They are published when this returns.
pub(super) async fn transact(
    shared: &Shared,
    writes: Vec<Write>,
) -> Result<Vec<Revision>, StoreError> {
    shared.check_open()?;
    let mut answer = attempt(shared, &writes).await;
    if matches!(&answer, Err(failure) if failure.kind == Kind::LeaseGone) {
        // etcd has lost a lease that we meant to share; it changed nothing.
        shared.leases.forget().await;
        answer = attempt(shared, &writes).await;
    }
    let answer = answer.map_err(|failure| shared.connection.error("write", failure))?;
    if !answer.succeeded {
        return Err(conflict(shared, &writes, answer).await);
    }
    let revisions = revisions(shared, &writes, &answer);
    if let Some(last) = revisions.iter().max() {
        shared.published(*last).await?;
    }
    Ok(revisions)
}

async fn attempt(shared: &Shared, writes: &[Write]) -> Result<TxnResponse, Failure> {
    let mut leases = Vec::with_capacity(writes.len());
    for write in writes {
        leases.push(match write.op {
            Op::Put { ttl: Some(ttl), .. } => lease::lease(shared, ttl).await?,
            _ => 0,
        });
    }
    let message = request(&shared.keys, shared.offset, writes, &leases);
    let started = Instant::now();
    let answer = shared
        .connection
        .run(Repeat::IfUnsent, |member| member.txn(message.clone()))
        .await?;
    let counters = shared.hub.counters();
    counters
        .commit_seconds
        .observe(started.elapsed().as_secs_f64());
    counters.batch.observe(1.0);
    Ok(answer)
}

/// The transaction: if every precondition holds, each change; else what is there. A put over a value is
/// a transaction in it, "if the value is another", so that the same bytes make no revision.
fn request(keys: &Keys, offset: Offset, writes: &[Write], leases: &[i64]) -> TxnRequest {
    let mut txn = TxnRequest::default();
    for (write, lease) in writes.iter().zip(leases) {
        let key = keys.data(&write.key);
        txn.compare.push(match write.expect {
            Expect::Absent => Compare::absent(key.clone()),
            Expect::At(revision) => {
                let modified = match offset.etcds(revision) {
                    // 0 would mean "absent", and -1 never holds.
                    0 => -1,
                    modified => modified,
                };
                Compare::new(key.clone(), Holds::Equal, Operand::Modified(modified))
            }
        });
        let read = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        txn.failure.push(Request::Range(read).into());
        let change = match (&write.op, write.expect) {
            (Op::Delete, Expect::Absent) => continue,
            (Op::Delete, Expect::At(_)) => Request::Delete(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
            (Op::Put { value, .. }, expect) => {
                let put = Request::Put(PutRequest {
                    key: key.clone(),
                    value: value.to_vec(),
                    lease: *lease,
                });
                if expect == Expect::Absent {
                    put
                } else {
                    let other = Operand::Value(value.to_vec());
                    Request::Txn(TxnRequest {
                        compare: vec![Compare::new(key, Holds::NotEqual, other)],
                        success: vec![put.into()],
                        failure: Vec::new(),
                    })
                }
            }
        };
        txn.success.push(change.into());
    }
    txn
}

/// The revision of each write of a transaction that happened. All changes share the transaction's.
fn revisions(shared: &Shared, writes: &[Write], answer: &TxnResponse) -> Vec<Revision> {
    let changed = shared
        .offset
        .ours(answer.header.unwrap_or_default().revision);
    let mut responses = answer.responses.iter();
    let outcome = |write: &Write| {
        if let (Op::Delete, Expect::Absent) = (&write.op, write.expect) {
            return None;
        }
        match (responses.next()?.response.as_ref()?, write.expect) {
            (Response::Txn(inner), Expect::At(revision)) if !inner.succeeded => Some(revision),
            _ => Some(changed),
        }
    };
    let outcomes: Vec<Option<Revision>> = writes.iter().map(outcome).collect();
    // Where nothing changed, the revision in the header may be of a foreign key.
    let current = if outcomes.contains(&Some(changed)) {
        changed
    } else {
        shared.hub.current()
    };
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or(current))
        .collect()
}

/// Which precondition did not hold, and what is there.
async fn conflict(shared: &Shared, writes: &[Write], answer: TxnResponse) -> StoreError {
    let found = |response: Option<Response>| match response {
        Some(Response::Range(range)) => range.kvs.into_iter().next(),
        _ => None,
    };
    let there = answer
        .responses
        .into_iter()
        .map(|response| found(response.response));
    let broken = |write: &Write, kv: Option<&KeyValue>| match write.expect {
        Expect::Absent => kv.is_some(),
        Expect::At(revision) => kv.is_none_or(|kv| shared.offset.ours(kv.mod_revision) != revision),
    };
    for (write, kv) in writes.iter().zip(there) {
        if !broken(write, kv.as_ref()) {
            continue;
        }
        let entries = match read::entries(shared, kv.into_iter().collect()).await {
            Ok(entries) => entries,
            Err(error) => return error,
        };
        let current = entries.into_iter().next();
        if let Some(entry) = &current
            && let Err(error) = shared.published(entry.modified).await
        {
            return error;
        }
        return StoreError::Conflict {
            key: write.key.as_str().into(),
            current,
        };
    }
    let failure = Failure::lost("etcd refused a transaction whose preconditions hold");
    shared.connection.error("write", failure)
}
