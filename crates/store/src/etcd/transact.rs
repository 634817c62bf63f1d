//! Writing: each transaction of ours is one of etcd's.
//!
//! The same bytes shall make no revision. A single small put says so itself: "if the value is another".
//! Otherwise the values are read before; that is no race, since a put over a value expects the key at a
//! revision, and so what it holds. There are no transactions in the transaction, "if the value is another
//! then put": etcd does not count puts in there against its quota, nor stop them when it is used up.

use std::time::Instant;

use super::connection::{Failure, Kind, Repeat};
use super::keys::{Keys, Offset};
use super::proto::{
    Compare, DeleteRangeRequest, Holds, KeyValue, Operand, PutRequest, RangeRequest, Request,
    RequestOp, Response, ResponseOp, TxnRequest, TxnResponse,
};
use super::{Shared, lease, read};
use crate::{Expect, Op, Revision, StoreError, Write};

/// Up to here, in bytes, a value is sent twice in one request rather than read before.
const SMALL_BYTES: usize = 64 << 10;

/// What becomes of a write, as far as is known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It changes the key if its precondition holds.
    Change,
    /// It changes the key if, besides, the value is another.
    ChangeIfOther,
    /// The value is there already, if its precondition holds.
    Nothing,
}

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
    let (plans, answer) = answer.map_err(|failure| shared.connection.error("write", failure))?;
    let revisions = if answer.succeeded {
        revisions(shared, &writes, &plans, &answer)
    } else {
        match refused(shared, &writes, answer).await? {
            Some(unchanged) => vec![unchanged],
            None => return Err(unexplained(shared)),
        }
    };
    if let Some(last) = revisions.iter().max() {
        shared.published(*last).await?;
    }
    Ok(revisions)
}

async fn attempt(shared: &Shared, writes: &[Write]) -> Result<(Vec<Plan>, TxnResponse), Failure> {
    let mut leases = Vec::with_capacity(writes.len());
    for write in writes {
        leases.push(match write.op {
            Op::Put { ttl: Some(ttl), .. } => lease::lease(shared, ttl).await?,
            _ => 0,
        });
    }
    let started = Instant::now();
    let plans = plan(shared, writes).await?;
    let message = request(&shared.keys, shared.offset, writes, &plans, &leases);
    let answer = shared
        .connection
        .run(Repeat::IfUnsent, |member| member.txn(message.clone()))
        .await?;
    let counters = shared.hub.counters();
    counters
        .commit_seconds
        .observe(started.elapsed().as_secs_f64());
    counters.batch.observe(1.0);
    Ok((plans, answer))
}

/// Finds out which writes are of what is there already.
async fn plan(shared: &Shared, writes: &[Write]) -> Result<Vec<Plan>, Failure> {
    let over = |write: &Write| match (&write.op, write.expect) {
        (Op::Put { value, .. }, Expect::At(revision)) => Some((value.clone(), revision)),
        _ => None,
    };
    if let [write] = writes
        && over(write).is_some_and(|(value, _)| value.len() <= SMALL_BYTES)
    {
        return Ok(vec![Plan::ChangeIfOther]);
    }
    let reads = writes.iter().filter(|write| over(write).is_some());
    let reads = reads.map(|write| read(shared.keys.data(&write.key)));
    let question = TxnRequest {
        success: reads.collect(),
        ..TxnRequest::default()
    };
    if question.success.is_empty() {
        return Ok(vec![Plan::Change; writes.len()]);
    }
    let answer = shared
        .connection
        .run(Repeat::Freely, |member| member.txn(question.clone()))
        .await?;
    let mut found = answer.responses.into_iter().map(first);
    let plan = |write: &Write| {
        let Some((value, revision)) = over(write) else {
            return Plan::Change;
        };
        match found.next().flatten() {
            Some(kv) if shared.offset.ours(kv.mod_revision) == revision && kv.value == value => {
                Plan::Nothing
            }
            _ => Plan::Change,
        }
    };
    Ok(writes.iter().map(plan).collect())
}

/// A read in a transaction.
fn read(key: Vec<u8>) -> RequestOp {
    let range = RangeRequest {
        key,
        ..RangeRequest::default()
    };
    Request::Range(range).into()
}

/// What a read in a transaction has found.
fn first(response: ResponseOp) -> Option<KeyValue> {
    match response.response {
        Some(Response::Range(range)) => range.kvs.into_iter().next(),
        _ => None,
    }
}

/// The transaction: if every precondition holds, each change; else what is there.
fn request(
    keys: &Keys,
    offset: Offset,
    writes: &[Write],
    plans: &[Plan],
    leases: &[i64],
) -> TxnRequest {
    let mut txn = TxnRequest::default();
    for ((write, plan), lease) in writes.iter().zip(plans).zip(leases) {
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
        txn.failure.push(read(key.clone()));
        match (&write.op, write.expect) {
            (Op::Delete, Expect::Absent) => {}
            (Op::Delete, Expect::At(_)) => {
                let delete = DeleteRangeRequest {
                    key,
                    ..DeleteRangeRequest::default()
                };
                txn.success.push(Request::Delete(delete).into());
            }
            (Op::Put { .. }, _) if *plan == Plan::Nothing => {}
            (Op::Put { value, .. }, _) => {
                if *plan == Plan::ChangeIfOther {
                    let other = Operand::Value(value.to_vec());
                    txn.compare
                        .push(Compare::new(key.clone(), Holds::NotEqual, other));
                }
                let put = PutRequest {
                    key,
                    value: value.to_vec(),
                    lease: *lease,
                };
                txn.success.push(Request::Put(put).into());
            }
        }
    }
    txn
}

/// The revision of each write of a transaction that happened. All changes share the transaction's.
fn revisions(
    shared: &Shared,
    writes: &[Write],
    plans: &[Plan],
    answer: &TxnResponse,
) -> Vec<Revision> {
    let changed = shared
        .offset
        .ours(answer.header.unwrap_or_default().revision);
    // Where nothing changed, the revision in the header may be of a foreign key.
    let current = if answer.responses.is_empty() {
        shared.hub.current()
    } else {
        changed
    };
    let revision = |(write, plan): (&Write, &Plan)| match (&write.op, write.expect, plan) {
        (Op::Delete, Expect::Absent, _) => current,
        (Op::Put { .. }, Expect::At(revision), Plan::Nothing) => revision,
        _ => changed,
    };
    writes.iter().zip(plans).map(revision).collect()
}

/// Which precondition did not hold, and what is there; or the revision of the one value that is there
/// already.
async fn refused(
    shared: &Shared,
    writes: &[Write],
    answer: TxnResponse,
) -> Result<Option<Revision>, StoreError> {
    let there = answer.responses.into_iter().map(first);
    for (write, kv) in writes.iter().zip(there) {
        let holds = match write.expect {
            Expect::Absent => kv.is_none(),
            Expect::At(revision) => kv
                .as_ref()
                .is_some_and(|kv| shared.offset.ours(kv.mod_revision) == revision),
        };
        match (&write.op, &kv) {
            (Op::Put { value, .. }, Some(kv)) if holds && kv.value == *value => {
                return Ok(Some(shared.offset.ours(kv.mod_revision)));
            }
            _ if holds => continue,
            _ => {}
        }
        let entries = read::entries(shared, kv.into_iter().collect()).await?;
        let current = entries.into_iter().next();
        if let Some(entry) = &current {
            shared.published(entry.modified).await?;
        }
        return Err(StoreError::Conflict {
            key: write.key.as_str().into(),
            current,
        });
    }
    Ok(None)
}

fn unexplained(shared: &Shared) -> StoreError {
    let failure = Failure::lost("etcd refused a transaction whose preconditions hold");
    shared.connection.error("write", failure)
}
