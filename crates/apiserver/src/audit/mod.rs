//! The audit log: what was asked of the server, by whom, and what came of it.
//!
//! Invariants: without a policy nothing here costs a request anything; a backend that is too slow or
//! fails is counted and said, never silent; memory that waits for a backend is bounded.

pub mod event;
pub mod log;
pub mod policy;
pub(crate) mod record;
pub mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;

pub use event::{Event, EventUser, Level, ObjectRef, Stage};
pub use policy::{Policy, PolicyError};
pub use webhook::WebhookOptions;

use self::webhook::WebhookSink;
use crate::outbound::Outbound;
use crate::remote::{Remote, Webhook};

/// Takes events: a file, a webhook, or a part of the program that watches what happens.
pub trait Sink: Send + Sync {
    /// Its name in the metrics.
    fn name(&self) -> &'static str;

    /// Takes an event; false when it is lost. A sink that blocks answers when it is written.
    fn take(&self, event: Arc<Event>) -> BoxFuture<'_, bool>;

    /// How many events it took and lost after all.
    fn lost_later(&self) -> u64 {
        0
    }

    /// Whether a request must not go on when its first event is lost.
    fn strict(&self) -> bool {
        false
    }

    /// Writes what still waits, at the end.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// How the audit log is set up.
#[derive(Clone, Default)]
pub struct Options {
    /// What is written down; nothing without.
    pub policy: Option<Arc<Policy>>,
    /// Where to.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// A webhook, too.
    pub webhook: Option<(Remote, WebhookOptions)>,
}

/// The audit log of a server.
pub(crate) struct Audit {
    policy: Option<Arc<Policy>>,
    sinks: Vec<Arc<dyn Sink>>,
    counts: Counts,
}

/// What the metrics show.
#[derive(Default)]
struct Counts {
    events: AtomicU64,
    rejected: AtomicU64,
    levels: [AtomicU64; 4],
    errors: Vec<AtomicU64>,
}

impl Audit {
    pub(crate) fn new(mut options: Options, outbound: &Arc<Outbound>) -> Self {
        if let Some((remote, webhook)) = options.webhook.take() {
            let to = Webhook::new(remote, outbound.clone());
            options.sinks.push(WebhookSink::start(to, webhook));
        }
        let counts = Counts {
            errors: options.sinks.iter().map(|_| AtomicU64::new(0)).collect(),
            ..Counts::default()
        };
        Self {
            policy: options.policy.filter(|_| !options.sinks.is_empty()),
            sinks: options.sinks,
            counts,
        }
    }

    /// What holds, if anything can be written at all.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.policy.as_deref()
    }

    fn count_level(&self, level: Level) {
        self.counts.levels[level as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Gives an event to all sinks; false when a strict one has lost it.
    pub(crate) async fn emit(&self, event: Arc<Event>) -> bool {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        let mut kept = true;
        for (sink, errors) in self.sinks.iter().zip(&self.counts.errors) {
            if !sink.take(event.clone()).await {
                errors.fetch_add(1, Ordering::Relaxed);
                kept &= !sink.strict();
            }
        }
        kept
    }

    pub(crate) fn reject(&self) {
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes what still waits.
    pub(crate) async fn close(&self) {
        for sink in &self.sinks {
            sink.close().await;
        }
    }

    /// The figures, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let head = |name: &str, help: &str| {
            format!("# HELP apiserver_audit_{name} {help}\n# TYPE apiserver_audit_{name} counter\n")
        };
        let mut out = head(
            "event_total",
            "Counter of audit events generated and sent to the audit backend.",
        );
        out += &format!(
            "apiserver_audit_event_total {}\n",
            read(&self.counts.events)
        );
        out += &head(
            "requests_rejected_total",
            "Counter of apiserver requests rejected due to an error in audit logging backend.",
        );
        let rejected = read(&self.counts.rejected);
        out += &format!("apiserver_audit_requests_rejected_total {rejected}\n");
        out += &head(
            "level_total",
            "Counter of policy levels for audit events (1 per request).",
        );
        let levels = [
            Level::None,
            Level::Metadata,
            Level::Request,
            Level::RequestResponse,
        ];
        for level in levels {
            let count = read(&self.counts.levels[level as usize]);
            out += &format!(
                "apiserver_audit_level_total{{level=\"{}\"}} {count}\n",
                level.name()
            );
        }
        out += &head(
            "error_total",
            "Counter of audit events that failed to be audited properly.",
        );
        for (sink, errors) in self.sinks.iter().zip(&self.counts.errors) {
            let (name, count) = (sink.name(), read(errors) + sink.lost_later());
            out += &format!("apiserver_audit_error_total{{plugin=\"{name}\"}} {count}\n");
        }
        out
    }
}
