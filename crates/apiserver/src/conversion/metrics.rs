//! What `/metrics` shows of conversion webhooks, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stdx::Histogram;

/// Bounds of the latency histogram, in seconds.
const BUCKETS: &[f64] = &[
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0,
];

/// Why a webhook did not convert; nothing where it did.
pub(super) type FailureType = &'static str;

/// The latencies of all reviews, by what came of them.
#[derive(Default)]
pub(crate) struct ConversionMetrics(Mutex<BTreeMap<FailureType, Histogram>>);

impl ConversionMetrics {
    /// Counts a review that has ended.
    pub(super) fn asked(&self, took: Duration, failure: FailureType) {
        let mut latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latencies
            .entry(failure)
            .or_insert_with(|| Histogram::new(BUCKETS))
            .observe(took.as_secs_f64());
    }

    /// The text.
    pub(crate) fn render(&self, out: &mut String) {
        use crate::metrics::{buckets, head};
        let latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = |failure: FailureType| {
            let result = match failure {
                "" => "success",
                _ => "failure",
            };
            format!("failure_type=\"{failure}\",result=\"{result}\"")
        };
        let name = "apiserver_conversion_webhook_duration_seconds";
        head(out, name, "histogram", "Conversion webhook request latency");
        for (failure, latency) in &*latencies {
            buckets(out, name, &labels(failure), &latency.snapshot());
        }
        let name = "apiserver_conversion_webhook_request_total";
        let help =
            "Counter for conversion webhook requests with success/failure and failure error type";
        head(out, name, "counter", help);
        for (failure, latency) in &*latencies {
            let count = latency.snapshot().count;
            let _ = writeln!(out, "{name}{{{}}} {count}", labels(failure));
        }
    }
}
