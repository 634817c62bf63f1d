//! Many clients, each with one compare-and-swap under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::stream::{FuturesUnordered, StreamExt as _};

use super::VALUE_BYTES;
use super::engine::{Engine, Swap};

/// How many keys all clients share.
const OVERLAPPING_KEYS: u64 = 8;
/// As many writes as both take in one transaction.
const TRANSACTION: usize = 100;

/// Which keys the clients write.
#[derive(Clone, Copy)]
pub(crate) enum Pattern {
    /// A key each.
    Distinct,
    /// Few keys, so that most swaps fail and are tried again at the revision that was there.
    Overlapping,
}

/// What came out.
pub(crate) struct Run {
    took: Duration,
    /// Of each acknowledged write, in milliseconds.
    pub(crate) latencies_ms: Vec<f64>,
}

impl Run {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies_ms.len() as f64 / self.took.as_secs_f64()
    }
}

/// A value that does not repeat and cannot be compressed.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = Vec::with_capacity(VALUE_BYTES);
    while value.len() < VALUE_BYTES {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value
}

/// Writes for a while, after a second to warm up.
pub(crate) async fn run(
    engine: &Engine,
    pattern: Pattern,
    clients: usize,
    time: Duration,
) -> Result<Run> {
    let numbers = Arc::new(AtomicU64::new(0));
    let begin = Instant::now() + (time / 4).min(Duration::from_secs(1));
    let end = begin + time;
    let mut tasks: FuturesUnordered<_> = (0..clients as u64)
        .map(|number| client(engine, pattern, number, &numbers, begin..end))
        .collect();
    let mut latencies_ms = Vec::new();
    while let Some(latencies) = tasks.next().await {
        latencies_ms.extend(latencies?);
    }
    Ok(Run {
        took: time,
        latencies_ms,
    })
}

async fn client(
    engine: &Engine,
    pattern: Pattern,
    client: u64,
    numbers: &AtomicU64,
    window: std::ops::Range<Instant>,
) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    let mut at = std::collections::HashMap::new();
    for turn in 0.. {
        let key = match pattern {
            Pattern::Distinct => client,
            Pattern::Overlapping => (client + turn) % OVERLAPPING_KEYS,
        };
        let name = format!("/bench/writes/{key:08}");
        let value = value(numbers.fetch_add(1, Ordering::Relaxed));
        let start = Instant::now();
        loop {
            let revision = at.entry(key).or_insert(0);
            match engine.swap(&name, *revision, value.clone()).await? {
                Swap::Done(new) => {
                    *revision = new;
                    break;
                }
                Swap::Conflict(current) => *revision = current,
            }
        }
        let now = Instant::now();
        if now >= window.end {
            break;
        }
        if now >= window.start {
            latencies.push((now - start).as_secs_f64() * 1000.0);
        }
    }
    Ok(latencies)
}

/// Makes keys under a prefix.
pub(crate) async fn fill(engine: &Engine, prefix: &str, count: usize) -> Result<()> {
    let keys: Vec<usize> = (0..count).collect();
    let mut tasks = futures::stream::iter(keys.chunks(TRANSACTION).map(|keys| {
        let entry = |key: &usize| (format!("{prefix}{key:08}"), value(*key as u64));
        engine.create(keys.iter().map(entry).collect())
    }))
    .buffer_unordered(8);
    while let Some(done) = tasks.next().await {
        done?;
    }
    Ok(())
}
