//! How long an event takes to its subscriber, with nothing else going on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use super::engine::{Engine, Swap};
use super::rpc::Range;
use super::{Options, PEER, engines, load};
use crate::report::{Goal, Report};

/// What was seen of each write, in microseconds.
#[derive(Default)]
struct Times {
    /// From the acknowledgement to the event; less than nothing when the event was first.
    after_ack: Vec<f64>,
    /// From the commit to the event: everything from the beginning of the write but the wait for the
    /// writer and the commit itself, as the store has measured them.
    after_commit: Vec<f64>,
}

/// Measures both.
pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let writes = if options.quick { 300 } else { 2000 };
    let folder = options.folder()?;
    let mut figures = Vec::new();
    for engine in engines(folder.path()).await? {
        figures.push(one(&engine, writes).await?);
        engine.stop().await?;
    }
    for times in &mut figures {
        times.after_ack.sort_by(f64::total_cmp);
        times.after_commit.sort_by(f64::total_cmp);
    }
    for (share, goal) in [(50, Goal::Under(100.0)), (99, Goal::None)] {
        report.percentile_in(
            "µs",
            &format!("commit to subscriber, p{share}"),
            &figures[0].after_commit,
            share,
            goal,
            None,
        );
    }
    for share in [50, 99] {
        report.percentile_in(
            "µs",
            &format!("the writer's answer to the subscriber's event, p{share}; below 0: the event is first"),
            &figures[0].after_ack,
            share,
            Goal::None,
            figures.get(1).map(|times| (PEER, times.after_ack.as_slice())),
        );
    }
    Ok(())
}

async fn one(engine: &Engine, writes: usize) -> Result<Times> {
    let mut seen = subscribe(engine).await?;
    let (mut times, mut at) = (Times::default(), 0);
    for number in 0..writes as u64 {
        let before = store_seconds(engine);
        let value = load::value(number);
        let start = Instant::now();
        let Swap::Done(revision) = engine.swap("/watch/key", at, value).await? else {
            anyhow::bail!("nobody else writes this key");
        };
        let answered = Instant::now();
        at = revision;
        let event = seen.recv().await.context("the watch ended")?;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        times
            .after_ack
            .push(match event.checked_duration_since(answered) {
                Some(after) => micros(after),
                None => -micros(answered - event),
            });
        let inside = (store_seconds(engine) - before) * 1e6;
        times.after_commit.push(micros(event - start) - inside);
    }
    Ok(times)
}

/// The sum of all commits and of the waiting for them; 0 of etcd, which does not say.
fn store_seconds(engine: &Engine) -> f64 {
    match engine {
        Engine::Ours(store) => {
            let metrics = store.metrics();
            metrics.queue_seconds.sum + metrics.commit_seconds.sum
        }
        Engine::Etcd(_) => 0.0,
    }
}

/// When each event came.
async fn subscribe(engine: &Engine) -> Result<mpsc::UnboundedReceiver<Instant>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    match engine {
        Engine::Ours(store) => {
            let mut subscription = store.subscribe("/watch/", store.current())?;
            tokio::spawn(async move {
                while let Ok(batch) = subscription.next().await {
                    let now = Instant::now();
                    for _ in batch.events {
                        let _ = sender.send(now);
                    }
                }
            });
        }
        Engine::Etcd(etcd) => {
            let mut stream = etcd.connection.watch(Range::prefix("/watch/")).await?;
            tokio::spawn(async move {
                while let Ok(Some(message)) = stream.message().await {
                    let now = Instant::now();
                    for _ in message.events {
                        let _ = sender.send(now);
                    }
                }
            });
        }
    }
    Ok(receiver)
}
