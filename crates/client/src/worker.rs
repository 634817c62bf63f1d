//! Runs a reconcile function over a queue.

use crate::{Queue, is_conflict};
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, error, error_span, warn};

/// A key that failed so often in a row is an error, not a passing trouble.
const FAILURES_TO_ERROR: u32 = 10;

/// Works on `queue` with `workers` at once until `drain` is cancelled; an error is logged once
/// and the key retried after its backoff. Returns when the last reconcile has ended.
pub async fn run<T, F, Fut, E>(
    name: &'static str,
    queue: Queue<T>,
    workers: usize,
    drain: CancellationToken,
    reconcile: F,
) where
    T: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    let reconcile = Arc::new(reconcile);
    let mut tasks = JoinSet::new();
    for _ in 0..workers.max(1) {
        tasks.spawn(work(name, queue.clone(), reconcile.clone()));
    }
    let closer = {
        let (queue, drain) = (queue.clone(), drain.clone());
        async move {
            drain.cancelled().await;
            queue.close();
        }
    };
    let joiner = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended
                && !drain.is_cancelled()
            {
                error!(controller = name, error = %panic, "a reconcile panicked; its worker starts again");
                tasks.spawn(work(name, queue.clone(), reconcile.clone()));
            }
        }
    };
    tokio::join!(closer, joiner);
}

async fn work<T, F, Fut, E>(name: &'static str, queue: Queue<T>, reconcile: Arc<F>)
where
    T: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    while let Some(work) = queue.next().await {
        let key: T = (*work).clone();
        let span = error_span!("reconcile", controller = name, key = %key);
        reconcile_one(&queue, key, reconcile.as_ref(), span).await;
    }
}

async fn reconcile_one<T, F, Fut, E>(queue: &Queue<T>, key: T, reconcile: &F, span: Span)
where
    T: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Error + 'static,
{
    match reconcile(key.clone()).instrument(span.clone()).await {
        Ok(()) => queue.forget(&key),
        Err(failure) => {
            span.in_scope(|| {
                let error = stdx::chain(&failure);
                if is_conflict(&failure) {
                    debug!(%error, "the object changed meanwhile; trying again");
                } else if queue.failures(&key) < FAILURES_TO_ERROR {
                    warn!(%error, "reconcile failed; trying again");
                } else {
                    error!(%error, "reconcile keeps failing; trying again");
                }
            });
            queue.retry(key);
        }
    }
}
