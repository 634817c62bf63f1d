//! Leader election by a Lease, as client-go does it: of several processes one works, and another takes
//! over when it is gone.
//!
//! Invariants: a Lease is taken only when it was given up, or has not changed for its whole duration
//! by our own clock (clocks of other machines are never compared); who cannot renew in time stops
//! working before anybody else may begin; every write names the resource version that it was made from.

use crate::{Client, is_already_exists, is_conflict, is_not_found};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use rand::RngExt as _;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a Lease must have been left alone before another takes it
/// (`--leader-elect-lease-duration`).
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it stops (`--leader-elect-renew-deadline`).
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a leader renews and the others look (`--leader-elect-retry-period`).
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What is run for, and who runs.
#[derive(Clone)]
pub struct Election {
    /// Reads and writes the Lease.
    pub client: Client,
    /// The Lease's namespace, such as `kube-system`.
    pub namespace: String,
    /// The Lease's name, such as `kube-scheduler`.
    pub name: String,
    /// Who runs. No two processes that live at the same time have the same one; one that comes back
    /// under its old identity goes on at once.
    pub identity: String,
}

/// Works whenever this process leads, until `drain` is cancelled. What `work` returns is run with a
/// token of its own, which is cancelled when the lead is lost; it must end soon after that, and is run
/// again the next time.
pub async fn lead<W, F>(election: Election, drain: CancellationToken, mut work: W)
where
    W: FnMut(CancellationToken) -> F,
    F: Future<Output = ()>,
{
    let api: Api<Lease> = Api::namespaced(election.client.clone(), &election.namespace);
    let (name, identity) = (&election.name, &election.identity);
    while let Some(mut held) = drain
        .run_until_cancelled(acquire(&api, name, identity))
        .await
    {
        tracing::info!(lease = name, identity, "became leader");
        let term = drain.child_token();
        let mut working = std::pin::pin!(work(term.clone()));
        tokio::select! {
            () = &mut working => {}
            () = keep(&api, &mut held, &term) => {
                if !drain.is_cancelled() {
                    tracing::warn!(lease = name, identity, "lost the lead");
                }
                term.cancel();
                working.await;
            }
        }
        term.cancel();
        if drain.is_cancelled() {
            release(&api, held).await;
            return;
        }
    }
}

/// Waits for the Lease and takes it.
async fn acquire(api: &Api<Lease>, name: &str, identity: &str) -> Lease {
    let mut seen: Option<Seen> = None;
    loop {
        match attempt(api, name, identity, &mut seen).await {
            Ok(Some(held)) => return held,
            Ok(None) => {}
            Err(error) if is_conflict(&error) || is_already_exists(&error) => {}
            Err(error) => {
                tracing::warn!(lease = name, error = stdx::chain(&error), "cannot take it");
            }
        }
        tokio::time::sleep(jittered(RETRY_PERIOD)).await;
    }
}

async fn attempt(
    api: &Api<Lease>,
    name: &str,
    identity: &str,
    seen: &mut Option<Seen>,
) -> Result<Option<Lease>, kube::Error> {
    let lease = match api.get(name).await {
        Ok(lease) => lease,
        Err(error) if is_not_found(&error) => {
            let lease = first(name, identity, Timestamp::now());
            return api.create(&PostParams::default(), &lease).await.map(Some);
        }
        Err(error) => return Err(error),
    };
    let now = Instant::now();
    let version = lease.metadata.resource_version.clone();
    if seen.as_ref().is_none_or(|seen| seen.version != version) {
        *seen = Some(Seen { version, at: now });
    }
    let unchanged = seen.as_ref().map_or(Duration::ZERO, |seen| now - seen.at);
    match take(&lease, identity, unchanged, Timestamp::now()) {
        Some(taken) => api
            .replace(name, &PostParams::default(), &taken)
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// Renews until that fails for too long, somebody else has the Lease, or the term is over.
async fn keep(api: &Api<Lease>, held: &mut Lease, term: &CancellationToken) {
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            () = term.cancelled() => return,
            () = tokio::time::sleep(RETRY_PERIOD) => {}
        }
        let next = renewal(held, Timestamp::now());
        let name = next.metadata.name.clone().unwrap_or_default();
        let deadline = renewed + RENEW_DEADLINE;
        let began = Instant::now();
        let params = PostParams::default();
        let write = tokio::time::timeout_at(deadline, api.replace(&name, &params, &next));
        match write.await {
            Ok(Ok(lease)) => {
                *held = lease;
                renewed = began;
            }
            Ok(Err(error)) if is_conflict(&error) => match api.get(&name).await {
                // Our own write whose answer was lost, or a label that somebody set.
                Ok(lease) if holder(&lease) == holder(held) => *held = lease,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(lease = name, error = stdx::chain(&error), "cannot read it");
                }
            },
            Ok(Err(error)) if is_not_found(&error) => return,
            Ok(Err(error)) => {
                tracing::warn!(lease = name, error = stdx::chain(&error), "cannot renew it");
            }
            Err(_late) => return,
        }
        if Instant::now() >= deadline {
            return;
        }
    }
}

/// Gives the Lease up, so that nobody has to wait for its end.
async fn release(api: &Api<Lease>, held: Lease) {
    let name = held.metadata.name.clone().unwrap_or_default();
    let given_up = released(&held, Timestamp::now());
    let params = PostParams::default();
    let write = api.replace(&name, &params, &given_up);
    // Whoever comes next waits for the Lease's duration instead.
    if let Ok(Err(error)) = tokio::time::timeout(RETRY_PERIOD, write).await {
        tracing::debug!(lease = name, error = stdx::chain(&error), "not given up");
    }
}

/// A version of the Lease, and when we saw it first.
struct Seen {
    version: Option<String>,
    at: Instant,
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

fn seconds(duration: Duration) -> Option<i32> {
    i32::try_from(duration.as_secs()).ok()
}

/// The Lease where there was none.
fn first(name: &str, identity: &str, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: seconds(LEASE_DURATION),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }),
    }
}

/// The Lease as ours, if it may be taken: it was given up, was ours before, or has not changed for
/// its whole duration.
fn take(lease: &Lease, identity: &str, unchanged: Duration, now: Timestamp) -> Option<Lease> {
    let held_by = holder(lease);
    let spec = lease.spec.clone().unwrap_or_default();
    let duration = spec
        .lease_duration_seconds
        .and_then(|secs| u64::try_from(secs).ok())
        .map_or(LEASE_DURATION, Duration::from_secs);
    let ours = held_by == identity;
    if !ours && !held_by.is_empty() && unchanged < duration {
        return None;
    }
    let transitions = spec.lease_transitions.unwrap_or(0);
    Some(Lease {
        metadata: lease.metadata.clone(),
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: seconds(LEASE_DURATION),
            acquire_time: match spec.acquire_time.clone().filter(|_| ours) {
                Some(at) => Some(at),
                None => Some(MicroTime(now)),
            },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..spec
        }),
    })
}

fn renewal(held: &Lease, now: Timestamp) -> Lease {
    let mut lease = held.clone();
    if let Some(spec) = &mut lease.spec {
        spec.renew_time = Some(MicroTime(now));
    }
    lease
}

/// As client-go gives up: no holder, and a duration of a second.
fn released(held: &Lease, now: Timestamp) -> Lease {
    let mut lease = renewal(held, now);
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(MicroTime(now));
    }
    lease
}

/// Up to 1.2 times longer (client-go's `JitterFactor`), so that those who wait do not come at once.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(1.0 + rand::rng().random_range(0.0..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_free_ours_or_left_alone() {
        let now = Timestamp::UNIX_EPOCH;
        let later = Timestamp::from_second(60).unwrap_or(now);
        let a = first("x", "a", now);
        let spec = |lease: Option<Lease>| {
            lease.and_then(|lease| lease.spec).map(|spec| {
                let acquired = spec.acquire_time.map(|at| at.0);
                (spec.holder_identity, spec.lease_transitions, acquired)
            })
        };
        let of =
            |who: &str, transitions, at| Some((Some(who.to_owned()), Some(transitions), Some(at)));
        let secs = Duration::from_secs;
        assert_eq!(spec(take(&a, "b", secs(14), later)), None);
        assert_eq!(spec(take(&a, "b", secs(15), later)), of("b", 1, later));
        assert_eq!(spec(take(&a, "a", secs(0), later)), of("a", 0, now));
        let free = released(&a, later);
        assert_eq!(spec(take(&free, "b", secs(0), later)), of("b", 1, later));
        // A Lease that somebody made without any content.
        let empty = Lease::default();
        assert_eq!(spec(take(&empty, "b", secs(0), later)), of("b", 1, later));
    }
}
