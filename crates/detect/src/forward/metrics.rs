//! What was sent, refused and dropped, by output, in Prometheus' text format.
//!
//! `inputs_total` and `outputs_total` with their labels are Falcosidekick's; the other names are
//! ours, under its prefix.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "falcosecurity_falcosidekick";

/// What is counted of one output.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Alerts that the service took.
    pub(crate) sent: AtomicU64,
    /// Alerts that it will never take.
    pub(crate) refused: AtomicU64,
    /// Alerts that were lost before they could be sent: the queue was full, or damaged.
    pub(crate) dropped: AtomicU64,
    /// Attempts that failed and were, or will be, made again.
    pub(crate) retries: AtomicU64,
    /// Alerts that wait.
    pub(crate) queued: AtomicU64,
    /// The length of the queue's files in bytes.
    pub(crate) queue_bytes: AtomicU64,
}

/// What is counted of the alerts that come in.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Alerts that were queued for whoever wants them.
    pub(crate) accepted: AtomicU64,
    /// Alerts that came faster than they could be written.
    pub(crate) rejected: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

pub(crate) fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The metrics as text.
pub(crate) fn render<'a>(
    inputs: &Inputs,
    outputs: impl Iterator<Item = (&'a str, &'a Counters)> + Clone,
) -> String {
    let mut text = String::new();
    head(&mut text, "inputs_total", "counter", "Alerts that came in.");
    for (status, counter) in [
        ("accepted", &inputs.accepted),
        ("rejected", &inputs.rejected),
    ] {
        let value = get(counter);
        let _ = writeln!(
            text,
            "{PREFIX}_inputs_total{{source=\"engine\",status=\"{status}\"}} {value}"
        );
    }
    head(
        &mut text,
        "outputs_total",
        "counter",
        "Alerts that a service took or refused.",
    );
    for (name, counters) in outputs.clone() {
        for (status, counter) in [("ok", &counters.sent), ("error", &counters.refused)] {
            let value = get(counter);
            let _ = writeln!(
                text,
                "{PREFIX}_outputs_total{{destination=\"{name}\",status=\"{status}\"}} {value}"
            );
        }
    }
    type Pick = fn(&Counters) -> &AtomicU64;
    let rest: [(&str, &str, &str, Pick); 4] = [
        (
            "outputs_dropped_total",
            "counter",
            "Alerts lost unsent, because the queue was full or damaged.",
            |counters| &counters.dropped,
        ),
        (
            "outputs_retries_total",
            "counter",
            "Attempts that failed and are made again.",
            |counters| &counters.retries,
        ),
        (
            "outputs_queue_alerts",
            "gauge",
            "Alerts that wait.",
            |counters| &counters.queued,
        ),
        (
            "outputs_queue_bytes",
            "gauge",
            "The length of the queue's files.",
            |counters| &counters.queue_bytes,
        ),
    ];
    for (metric, kind, help, pick) in rest {
        head(&mut text, metric, kind, help);
        for (name, counters) in outputs.clone() {
            let value = get(pick(counters));
            let _ = writeln!(text, "{PREFIX}_{metric}{{destination=\"{name}\"}} {value}");
        }
    }
    text
}

fn head(text: &mut String, metric: &str, kind: &str, help: &str) {
    let _ = writeln!(
        text,
        "# HELP {PREFIX}_{metric} {help}\n# TYPE {PREFIX}_{metric} {kind}"
    );
}
