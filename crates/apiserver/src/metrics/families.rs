//! Counters and histograms that a module names for itself, with labels of its own.
//!
//! Invariant: a family has at most [`SERIES`] series, since names in labels may come from users.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stdx::Histogram;

use super::{buckets, head};

/// How many series of a family are told apart.
const SERIES: usize = 1000;

/// A family of counters.
#[derive(Debug)]
pub(crate) struct Counter {
    /// Upstream's name.
    pub(crate) name: &'static str,
    /// What it counts.
    pub(crate) help: &'static str,
}

/// A family of histograms of seconds.
#[derive(Debug)]
pub(crate) struct Timer {
    /// Upstream's name.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) help: &'static str,
    /// Upper bounds, in seconds.
    pub(crate) bounds: &'static [f64],
}

type Series<T> = BTreeMap<&'static str, (&'static str, BTreeMap<String, T>)>;

/// All families of a server.
#[derive(Default)]
pub(super) struct Families {
    counters: Mutex<Series<u64>>,
    timers: Mutex<Series<Histogram>>,
}

/// A label's value as the text format has it.
pub(crate) fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

impl Families {
    /// Counts one; `labels` are in the text format, without braces.
    pub(super) fn count(&self, counter: &Counter, labels: String) {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, series) = all
            .entry(counter.name)
            .or_insert((counter.help, BTreeMap::new()));
        if series.len() < SERIES || series.contains_key(&labels) {
            *series.entry(labels).or_default() += 1;
        }
    }

    /// Notes how long something took.
    pub(super) fn time(&self, timer: &Timer, labels: String, took: Duration) {
        let mut all = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, series) = all
            .entry(timer.name)
            .or_insert((timer.help, BTreeMap::new()));
        if series.len() < SERIES || series.contains_key(&labels) {
            let histogram = series.entry(labels);
            histogram
                .or_insert_with(|| Histogram::new(timer.bounds))
                .observe(took.as_secs_f64());
        }
    }

    /// The text.
    pub(super) fn render(&self, out: &mut String) {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, (help, series)) in &*counters {
            head(out, name, "counter", help);
            for (labels, count) in series {
                // Writing to a string does not fail.
                let _ = match labels.as_str() {
                    "" => writeln!(out, "{name} {count}"),
                    labels => writeln!(out, "{name}{{{labels}}} {count}"),
                };
            }
        }
        drop(counters);
        let timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, (help, series)) in &*timers {
            head(out, name, "histogram", help);
            for (labels, histogram) in series {
                buckets(out, name, labels, &histogram.snapshot());
            }
        }
    }
}
