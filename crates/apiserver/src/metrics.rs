//! What `/metrics` shows, in Prometheus' text format.

mod families;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::resource::Resource;
use stdx::Histogram;
use stdx::histogram::Snapshot;

use self::families::Families;
pub(crate) use self::families::{Counter, Timer, quoted};
use crate::admission::webhook::metrics::WebhookMetrics;

/// Bounds of the latency histogram, in seconds.
const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// What a request is counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) scope: &'static str,
}

#[derive(Default)]
struct Counts {
    requests: BTreeMap<(Labels, u16), u64>,
    latencies: BTreeMap<Labels, Histogram>,
    watches: BTreeMap<(String, String), Arc<AtomicI64>>,
}

/// The counters of this server.
#[derive(Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
    inflight: AtomicI64,
    families: Families,
}

/// Counts a watch while it lives.
pub(crate) struct WatchGuard(Arc<AtomicI64>);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a finished request; a watch or an upgraded one has no latency.
    pub(crate) fn finished(&self, labels: Labels, code: u16, took: Duration) {
        let long = matches!(labels.verb, "WATCH" | "CONNECT");
        let mut counts = self.lock();
        if !long {
            let latency = counts.latencies.entry(labels.clone());
            latency
                .or_insert_with(|| Histogram::new(BUCKETS))
                .observe(took.as_secs_f64());
        }
        *counts.requests.entry((labels, code)).or_default() += 1;
    }

    /// Counts one in a family; `labels` are in the text format, without braces.
    pub(crate) fn count(&self, counter: &Counter, labels: String) {
        self.families.count(counter, labels);
    }

    /// Notes in a family how long something took.
    pub(crate) fn time(&self, timer: &Timer, labels: String, took: Duration) {
        self.families.time(timer, labels, took);
    }

    pub(crate) fn inflight(&self, change: i64) {
        self.inflight.fetch_add(change, Ordering::Relaxed);
    }

    /// Counts a watch until the guard is dropped.
    pub(crate) fn watch_started(&self, resource: &Resource) -> WatchGuard {
        let key = (resource.group.to_string(), resource.plural.to_string());
        let count = self.lock().watches.entry(key).or_default().clone();
        count.fetch_add(1, Ordering::Relaxed);
        WatchGuard(count)
    }

    /// The text; `objects` are the numbers of stored objects by `group/plural`.
    pub(crate) fn render(
        &self,
        objects: &[(String, usize)],
        store: &store::Metrics,
        webhooks: &WebhookMetrics,
    ) -> String {
        let mut out = String::new();
        let counts = self.lock();
        head(
            &mut out,
            "apiserver_request_total",
            "counter",
            "Counter of apiserver requests.",
        );
        for ((labels, code), count) in &counts.requests {
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",{}}} {count}",
                names(labels)
            );
        }
        let name = "apiserver_request_duration_seconds";
        head(
            &mut out,
            name,
            "histogram",
            "Response latency distribution in seconds.",
        );
        for (labels, latency) in &counts.latencies {
            let labels = format!("component=\"apiserver\",dry_run=\"\",{}", names(labels));
            buckets(&mut out, name, &labels, &latency.snapshot());
        }
        let name = "apiserver_longrunning_requests";
        head(&mut out, name, "gauge", "Number of watches that are open.");
        for ((group, resource), count) in &counts.watches {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "{name}{{component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",verb=\"WATCH\"}} {count}"
            );
        }
        let name = "apiserver_current_inflight_requests";
        head(
            &mut out,
            name,
            "gauge",
            "Requests being served, watches apart.",
        );
        let _ = writeln!(out, "{name} {}", self.inflight.load(Ordering::Relaxed));
        let name = "apiserver_storage_objects";
        head(&mut out, name, "gauge", "Number of stored objects by kind.");
        for (resource, count) in objects {
            let _ = writeln!(out, "{name}{{resource=\"{resource}\"}} {count}");
        }
        render_store(&mut out, store);
        webhooks.render(&mut out);
        self.families.render(&mut out);
        out
    }
}

/// The store's figures: the size under upstream's name, the rest under names of ours.
fn render_store(out: &mut String, store: &store::Metrics) {
    let name = "apiserver_storage_size_bytes";
    head(
        out,
        name,
        "gauge",
        "Size of the storage database file physically allocated in bytes.",
    );
    let _ = writeln!(
        out,
        "{name}{{storage_cluster_id=\"{}\"}} {}",
        store.backend, store.database_bytes
    );
    for (name, help, histogram) in [
        (
            "knarr_store_queue_duration_seconds",
            "How long transactions waited for the store's writer.",
            &store.queue_seconds,
        ),
        (
            "knarr_store_commit_duration_seconds",
            "How long commits of the store took.",
            &store.commit_seconds,
        ),
        (
            "knarr_store_commit_transactions",
            "How many transactions shared a commit.",
            &store.batch,
        ),
    ] {
        head(out, name, "histogram", help);
        buckets(out, name, "", histogram);
    }
    for (name, kind, help, value) in [
        (
            "wal_bytes",
            "gauge",
            "Size of the write-ahead log.",
            store.wal_bytes,
        ),
        ("revision", "gauge", "The visible revision.", store.current),
        (
            "history_revisions",
            "gauge",
            "Revisions of history that are kept.",
            store.history,
        ),
        (
            "subscriptions",
            "gauge",
            "Subscriptions that are open.",
            store.subscriptions,
        ),
        (
            "subscriptions_lagged_total",
            "counter",
            "Subscriptions that were cut off because their reader was too slow or events were lost.",
            store.lagged,
        ),
        (
            "transactions_failed_total",
            "counter",
            "Transactions that failed for another reason than their preconditions.",
            store.failed,
        ),
        (
            "keys_expired_total",
            "counter",
            "Keys that were removed at the end of their time to live.",
            store.expired,
        ),
        (
            "watch_reconnects_total",
            "counter",
            "How often the watch of etcd had to begin again.",
            store.reconnects,
        ),
    ] {
        let name = format!("knarr_store_{name}");
        head(out, &name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
}

/// The lines of one histogram; `labels` may be empty.
pub(crate) fn buckets(out: &mut String, name: &str, labels: &str, histogram: &Snapshot) {
    let (comma, braced) = if labels.is_empty() {
        ("", String::new())
    } else {
        (",", format!("{{{labels}}}"))
    };
    for (bound, count) in &histogram.buckets {
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
        );
    }
    let Snapshot { count, sum, .. } = histogram;
    let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{name}_sum{braced} {sum}");
    let _ = writeln!(out, "{name}_count{braced} {count}");
}

/// The lines before a metric's values.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn names(labels: &Labels) -> String {
    let Labels {
        verb,
        group,
        version,
        resource,
        subresource,
        scope,
    } = labels;
    format!(
        "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
    )
}
