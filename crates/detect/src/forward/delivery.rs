//! The task of one output: takes alerts from its queue to its service, in order, until they are
//! taken, refused or dropped.
//!
//! Invariant: an alert is acknowledged only after the service took it or will never take it; one
//! that may be taken later is tried again for as long as it takes, and everything behind it waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stdx::backoff::Backoff;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::alert::Alert;
use super::metrics::{Counters, add, set};
use super::publish::{BatchLimits, Delivery, Failure, Publisher};
use super::queue::{Batch, Queue, QueueError};

/// A service that asks for more patience than this is asked again after it.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How often and how long to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The delay after the first failure.
    pub(crate) first: Duration,
    /// The longest delay.
    pub(crate) longest: Duration,
    /// How long one attempt may take.
    pub(crate) attempt: Duration,
}

/// What the writer of a queue and its reader share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) wake: Notify,
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic between two statements leaves a queue that a kill could leave as well.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self, queue: &mut Queue) {
        add(&self.counters.dropped, queue.take_dropped());
        set(&self.counters.queued, queue.len());
        set(&self.counters.queue_bytes, queue.bytes());
    }
}

/// The task of one output.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) publisher: Box<dyn Publisher>,
    pub(crate) limits: BatchLimits,
    pub(crate) patience: Patience,
    /// True once the queue gets nothing more and is to be emptied.
    pub(crate) draining: watch::Receiver<bool>,
    pub(crate) log: Log,
}

impl Worker {
    /// Works until the queue is empty and nothing more comes.
    pub(crate) async fn run(mut self) {
        let mut unreadable = self.backoff();
        loop {
            let last = *self.draining.borrow();
            let batch = match self.next_batch().await {
                Ok(batch) => batch,
                Err(error) => {
                    self.log
                        .failed(&self.shared.name, &stdx::chain::chain(&error));
                    if last {
                        return;
                    }
                    sleep(unreadable.next()).await;
                    continue;
                }
            };
            unreadable.reset();
            if batch.records.is_empty() {
                if last {
                    return;
                }
                tokio::select! {
                    () = self.shared.wake.notified() => {}
                    changed = self.draining.changed() => if changed.is_err() { return },
                }
                continue;
            }
            self.deliver(&batch).await;
            let next = batch.next;
            let acknowledged = with_queue(&self.shared, move |queue| queue.acknowledge(next)).await;
            if let Err(error) = acknowledged {
                self.log
                    .failed(&self.shared.name, &stdx::chain::chain(&error));
            }
        }
    }

    async fn next_batch(&mut self) -> Result<Batch, QueueError> {
        let BatchLimits {
            alerts,
            bytes,
            linger,
        } = self.limits;
        let batch = with_queue(&self.shared, move |queue| queue.peek(alerts, bytes)).await?;
        let held: usize = batch.records.iter().map(Vec::len).sum();
        let full = batch.records.len() >= alerts || held >= bytes;
        if batch.records.is_empty() || full || linger.is_zero() || *self.draining.borrow() {
            return Ok(batch);
        }
        tokio::select! {
            () = sleep(linger) => {}
            _ = self.draining.changed() => {}
        }
        with_queue(&self.shared, move |queue| queue.peek(alerts, bytes)).await
    }

    /// Sends a batch until nothing of it is left to send.
    async fn deliver(&mut self, batch: &Batch) {
        let mut left = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            match Alert::from_json(record) {
                Ok(alert) => left.push(Arc::new(alert)),
                Err(error) => {
                    add(&self.shared.counters.refused, 1);
                    self.log
                        .failed(&self.shared.name, &stdx::chain::chain(&error));
                }
            }
        }
        // What a batch was refused for may be one alert's fault: then each goes alone.
        let mut alone = false;
        let mut backoff = self.backoff();
        while !left.is_empty() {
            let count = if alone { 1 } else { left.len() };
            let attempt = self.publisher.publish(&left[..count]);
            let outcome = timeout(self.patience.attempt, attempt)
                .await
                .unwrap_or_else(|_| Err(Failure::later("no answer in time")));
            match outcome {
                Ok(delivery) => {
                    let wait = self.delivered(count, &delivery);
                    let mut place = 0..;
                    left.retain(|_| {
                        let place = place.next().unwrap_or(usize::MAX);
                        place >= count || delivery.again.contains(&place)
                    });
                    if wait {
                        sleep(backoff.next()).await;
                    } else {
                        backoff.reset();
                    }
                }
                Err(Failure::Later { reason, after }) => {
                    add(&self.shared.counters.retries, 1);
                    self.log.failed(&self.shared.name, &reason);
                    let wait = backoff.next();
                    sleep(after.map_or(wait, |after| after.max(wait).min(LONGEST_WAIT))).await;
                }
                Err(Failure::Never {
                    of_content: true, ..
                }) if count > 1 => alone = true,
                Err(Failure::Never { reason, .. }) => {
                    add(&self.shared.counters.refused, count as u64);
                    self.log
                        .failed(&self.shared.name, &format!("refused for good: {reason}"));
                    left.drain(..count);
                }
            }
        }
    }

    /// Counts an answer; true if some of it has to be sent again.
    fn delivered(&mut self, count: usize, delivery: &Delivery) -> bool {
        let counters = &self.shared.counters;
        let again = delivery.again.len();
        let sent = count.saturating_sub(delivery.refused + again);
        add(&counters.sent, sent as u64);
        add(&counters.refused, delivery.refused as u64);
        if again > 0 {
            add(&counters.retries, 1);
        }
        match &delivery.reason {
            Some(reason) => self.log.failed(&self.shared.name, reason),
            None => self.log.worked(&self.shared.name),
        }
        again > 0
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.patience.first, self.patience.longest).with_jitter(0.5)
    }
}

/// Reads or writes a queue's files where that may block.
async fn with_queue<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&mut Queue) -> Result<T, QueueError> + Send + 'static,
) -> Result<T, QueueError> {
    let shared = shared.clone();
    let task = tokio::task::spawn_blocking(move || {
        let mut queue = shared.queue();
        let result = work(&mut queue);
        shared.measure(&mut queue);
        result
    });
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Says once what keeps failing, and once that it works again.
#[derive(Debug, Default)]
pub(crate) struct Log {
    told: Option<String>,
}

impl Log {
    pub(crate) fn failed(&mut self, output: &str, reason: &str) {
        if self.told.as_deref() == Some(reason) {
            tracing::debug!(output, reason, "alerts are still not delivered");
            return;
        }
        tracing::warn!(output, reason, "alerts are not delivered");
        self.told = Some(reason.into());
    }

    fn worked(&mut self, output: &str) {
        if self.told.take().is_some() {
            tracing::info!(output, "alerts are delivered again");
        }
    }
}
