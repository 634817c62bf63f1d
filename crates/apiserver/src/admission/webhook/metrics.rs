//! What `/metrics` shows of webhooks, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stdx::Histogram;

/// Bounds of the latency histogram, in seconds.
const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// How many different webhooks are told apart: names come from users.
const WEBHOOKS: usize = 1000;

/// A webhook that was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    pub(super) name: String,
    /// `admit` or `validating`.
    pub(super) sort: &'static str,
    pub(super) operation: &'static str,
}

#[derive(Default)]
struct Counts {
    latencies: BTreeMap<(Asked, bool), Histogram>,
    requests: BTreeMap<(Asked, bool, u16), u64>,
    rejections: BTreeMap<(Asked, &'static str, u16), u64>,
    failed_open: BTreeMap<(String, &'static str), u64>,
}

/// The counters of all webhooks.
#[derive(Default)]
pub(crate) struct WebhookMetrics(Mutex<Counts>);

impl WebhookMetrics {
    /// Counts a call that has ended.
    pub(super) fn asked(&self, asked: &Asked, took: Duration, rejected: bool, code: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (asked.clone(), rejected);
        if counts.latencies.len() >= WEBHOOKS && !counts.latencies.contains_key(&key) {
            return;
        }
        let latency = counts.latencies.entry(key);
        latency
            .or_insert_with(|| Histogram::new(BUCKETS))
            .observe(took.as_secs_f64());
        let code = code.min(600);
        let key = (asked.clone(), rejected, code);
        *counts.requests.entry(key).or_default() += 1;
    }

    /// Counts a refused write.
    pub(super) fn rejected(&self, asked: &Asked, why: &'static str, code: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.rejections.len() < WEBHOOKS {
            let key = (asked.clone(), why, code.min(600));
            *counts.rejections.entry(key).or_default() += 1;
        }
    }

    /// Counts a failure that was let pass.
    pub(super) fn failed_open(&self, asked: &Asked) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.failed_open.len() < WEBHOOKS {
            let key = (asked.name.clone(), asked.sort);
            *counts.failed_open.entry(key).or_default() += 1;
        }
    }

    /// The text.
    pub(crate) fn render(&self, out: &mut String) {
        use crate::metrics::{buckets, head};
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = |asked: &Asked| {
            let Asked {
                name,
                sort,
                operation,
            } = asked;
            format!("name=\"{name}\",operation=\"{operation}\",type=\"{sort}\"")
        };
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        let help = "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).";
        head(out, name, "histogram", help);
        for ((asked, rejected), latency) in &counts.latencies {
            let labels = format!("{},rejected=\"{rejected}\"", labels(asked));
            buckets(out, name, &labels, &latency.snapshot());
        }
        let name = "apiserver_admission_webhook_request_total";
        let help = "Admission webhook request total, identified by name and broken out for each admission type (validating or mutating) and operation.";
        head(out, name, "counter", help);
        for ((asked, rejected, code), count) in &counts.requests {
            let _ = writeln!(
                out,
                "{name}{{code=\"{code}\",{},rejected=\"{rejected}\"}} {count}",
                labels(asked)
            );
        }
        let name = "apiserver_admission_webhook_rejection_count";
        let help = "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation.";
        head(out, name, "counter", help);
        for ((asked, why, code), count) in &counts.rejections {
            let _ = writeln!(
                out,
                "{name}{{error_type=\"{why}\",{},rejection_code=\"{code}\"}} {count}",
                labels(asked)
            );
        }
        let name = "apiserver_admission_webhook_fail_open_count";
        let help = "Admission webhook fail open count, identified by name and broken out for each admission type (validating or mutating).";
        head(out, name, "counter", help);
        for ((webhook, sort), count) in &counts.failed_open {
            let _ = writeln!(out, "{name}{{name=\"{webhook}\",type=\"{sort}\"}} {count}");
        }
    }
}
