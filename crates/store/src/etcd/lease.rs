//! Time to live by etcd's leases. A lease is shared by the keys that are put within a while, as
//! upstream does, so that many Events do not make many leases.
//!
//! Invariant: a key's lease ends no sooner than its time to live, and at most a minute later (and the
//! half second in which etcd looks for leases that are over).

use std::collections::HashMap;
use std::sync::Mutex as BlockingMutex;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;

use super::Shared;
use super::connection::{Failure, Repeat};
use super::proto::{LeaseGrantRequest, LeaseTimeToLiveRequest};
use crate::hub::lock;

/// A lease lives longer than what it is asked for by a twentieth, within these bounds.
const SPARE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// What must be left of that for another key.
const MARGIN: Duration = Duration::from_secs(1);
/// How many keys share a lease: etcd ends them in one transaction.
const KEYS: u32 = 1000;
/// How many ends of leases are remembered.
const KNOWN: usize = 4096;

/// The leases that can be shared, and the ends of those that were seen.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// By the time to live in seconds.
    shared: Mutex<HashMap<u64, Lease>>,
    ends: BlockingMutex<HashMap<i64, SystemTime>>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    id: i64,
    end: Instant,
    keys: u32,
}

impl Leases {
    /// When a lease ends; `None` for no lease, and for one that nobody has asked after.
    pub(super) fn end(&self, id: i64) -> Option<SystemTime> {
        lock(&self.ends).get(&id).copied()
    }

    /// Forgets the leases that could be shared: etcd does not know one of them.
    pub(super) async fn forget(&self) {
        self.shared.lock().await.clear();
    }

    fn remember(&self, id: i64, left: Duration) {
        let mut ends = lock(&self.ends);
        if ends.len() >= KNOWN {
            let now = SystemTime::now();
            ends.retain(|_, end| *end > now);
            if ends.len() >= KNOWN {
                ends.clear();
            }
        }
        ends.insert(id, SystemTime::now() + left);
    }
}

/// A lease for a key with a time to live.
pub(super) async fn lease(shared: &Shared, ttl: Duration) -> Result<i64, Failure> {
    let secs = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let mut leases = shared.leases.shared.lock().await;
    let now = Instant::now();
    if let Some(lease) = leases.get_mut(&secs)
        && lease.keys < KEYS
        && lease.end >= now + ttl + MARGIN
    {
        lease.keys += 1;
        return Ok(lease.id);
    }
    let spare = (ttl / 20).clamp(SPARE.0, SPARE.1);
    let question = LeaseGrantRequest {
        ttl: i64::try_from(secs.saturating_add(spare.as_secs())).unwrap_or(i64::MAX),
    };
    // One that was granted in vain ends by itself.
    let granted = shared
        .connection
        .run(Repeat::Freely, |member| member.grant(question))
        .await?;
    let left = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0));
    shared.leases.remember(granted.id, left);
    leases.retain(|_, lease| lease.end > now);
    let lease = Lease {
        id: granted.id,
        end: now + left,
        keys: 1,
    };
    leases.insert(secs, lease);
    Ok(granted.id)
}

/// Asks when a lease ends.
pub(super) async fn learn(shared: &Shared, id: i64) -> Result<(), Failure> {
    let question = LeaseTimeToLiveRequest { id };
    let answer = shared
        .connection
        .run(Repeat::Freely, |member| member.time_to_live(question))
        .await?;
    // One that is over has -1: its keys go at any moment.
    let left = Duration::from_secs(u64::try_from(answer.ttl).unwrap_or(0));
    shared.leases.remember(id, left);
    Ok(())
}
