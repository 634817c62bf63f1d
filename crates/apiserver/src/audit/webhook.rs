//! The audit log to an HTTP server: batches of events as an `EventList`.
//!
//! Invariants: no request waits for the server; what waits is bounded in number and in bytes; what
//! is dropped is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use stdx::backoff::Backoff;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Event, Sink};
use crate::remote::Webhook;

/// What may wait, in bytes.
const BUFFER_BYTES: usize = 64 << 20;
/// How often a batch is tried.
const ATTEMPTS: usize = 5;
/// How long the rest may take at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How events are gathered and sent.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookOptions {
    /// How many events wait at most.
    pub buffer_events: usize,
    /// How many go in one call.
    pub batch_events: usize,
    /// How long a batch is gathered.
    pub batch_wait: Duration,
    /// How many calls a second; `None` for no limit.
    pub throttle_qps: Option<f64>,
    /// How many calls at once before the limit holds.
    pub throttle_burst: u32,
    /// The wait after the first failure; it grows by half each time.
    pub initial_backoff: Duration,
    /// Larger events lose their objects.
    pub max_event_bytes: Option<usize>,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            buffer_events: 10_000,
            batch_events: 400,
            batch_wait: Duration::from_secs(30),
            throttle_qps: Some(10.0),
            throttle_burst: 15,
            initial_backoff: Duration::from_secs(10),
            max_event_bytes: None,
        }
    }
}

/// Sends events to a webhook.
pub struct WebhookSink {
    options: WebhookOptions,
    events: Mutex<Option<mpsc::Sender<String>>>,
    sender: mpsc::WeakSender<String>,
    waiting_bytes: Arc<AtomicUsize>,
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    lost: Arc<AtomicU64>,
}

impl WebhookSink {
    /// Starts the task that sends.
    pub(crate) fn start(webhook: Webhook, options: WebhookOptions) -> Arc<Self> {
        let (sender, events) = mpsc::channel(options.buffer_events.max(1));
        let (waiting_bytes, stop) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
        let lost = Arc::<AtomicU64>::default();
        let worker = Worker {
            webhook,
            options: options.clone(),
            waiting_bytes: waiting_bytes.clone(),
            stop: stop.clone(),
            lost: lost.clone(),
            tokens: f64::from(options.throttle_burst),
            refilled: Instant::now(),
        };
        Arc::new(Self {
            options,
            sender: sender.downgrade(),
            events: Mutex::new(Some(sender)),
            waiting_bytes,
            task: Mutex::new(Some(tokio::spawn(worker.run(events)))),
            stop,
            lost,
        })
    }
}

impl Sink for WebhookSink {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn lost_later(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn take(&self, event: Arc<Event>) -> BoxFuture<'_, bool> {
        let Ok(text) = event.to_json(self.options.max_event_bytes) else {
            return Box::pin(async { false });
        };
        let size = text.len();
        let kept = self.waiting_bytes.load(Ordering::Relaxed) + size <= BUFFER_BYTES
            && self.sender.upgrade().is_some_and(|sender| {
                self.waiting_bytes.fetch_add(size, Ordering::Relaxed);
                let sent = sender.try_send(text).is_ok();
                if !sent {
                    self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
                }
                sent
            });
        Box::pin(async move { kept })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.events.lock().await.take();
            self.stop.cancel();
            if let Some(mut task) = self.task.lock().await.take()
                && tokio::time::timeout(CLOSE_LIMIT, &mut task).await.is_err()
            {
                tracing::warn!("audit events were left unsent");
                task.abort();
            }
        })
    }
}

struct Worker {
    webhook: Webhook,
    options: WebhookOptions,
    waiting_bytes: Arc<AtomicUsize>,
    stop: CancellationToken,
    lost: Arc<AtomicU64>,
    tokens: f64,
    refilled: Instant,
}

impl Worker {
    async fn run(mut self, mut events: mpsc::Receiver<String>) {
        loop {
            let mut batch = Vec::new();
            let most = self.options.batch_events.max(1);
            let Some(first) = events.recv().await else {
                return;
            };
            batch.push(first);
            let deadline = Instant::now() + self.options.batch_wait;
            while batch.len() < most {
                let next = tokio::select! {
                    next = events.recv() => next,
                    () = tokio::time::sleep_until(deadline) => break,
                };
                match next {
                    Some(event) => batch.push(event),
                    None => break,
                }
            }
            self.throttle().await;
            self.send(batch).await;
        }
    }

    /// Waits until another call is allowed.
    async fn throttle(&mut self) {
        let Some(qps) = self.options.throttle_qps.filter(|qps| *qps > 0.0) else {
            return;
        };
        let now = Instant::now();
        let gained = now.duration_since(self.refilled).as_secs_f64() * qps;
        self.tokens = (self.tokens + gained).min(f64::from(self.options.throttle_burst.max(1)));
        self.refilled = now;
        if self.tokens < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.tokens) / qps);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
            self.tokens = 1.0;
            self.refilled = Instant::now();
        }
        self.tokens -= 1.0;
    }

    async fn send(&self, batch: Vec<String>) {
        let size: usize = batch.iter().map(String::len).sum();
        let body = format!(
            "{{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{{}},\"items\":[{}]}}",
            batch.join(",")
        );
        let mut pause = Backoff::new(self.options.initial_backoff, Duration::from_secs(120))
            .with_factor(1.5)
            .with_jitter(0.2);
        for attempt in 1..=ATTEMPTS {
            match self.webhook.post(body.clone(), CALL_LIMIT).await {
                Ok(_) => break,
                Err(error) if attempt == ATTEMPTS || self.stop.is_cancelled() => {
                    tracing::error!(
                        events = batch.len(),
                        "audit events are lost: {}",
                        stdx::chain::chain(&error)
                    );
                    self.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    break;
                }
                Err(error) => {
                    tracing::warn!("sending audit events: {}", stdx::chain::chain(&error));
                    tokio::select! {
                        () = tokio::time::sleep(pause.next()) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
            }
        }
        self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
    }
}
