//! How long a write takes to all who watch, and what a watch costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::load::config_map;
use super::target::Target;
use super::{Options, PEER, pair};
use crate::footprint;
use crate::report::{Goal, Report};

/// How many watch, each on a connection of its own.
const WATCHERS: [usize; 2] = [100, 1000];
/// How many watches of one resource are opened to see what one costs.
const OPEN: usize = 5000;
/// Connections that are opened at the same time.
const AT_ONCE: usize = 32;
const LIMIT: Duration = Duration::from_secs(30);
const WATCHED: &str = "/api/v1/namespaces/bench-watch/configmaps";
const OBJECT: &str = "/api/v1/namespaces/bench-watch/configmaps/watched";

/// Delays from the write's answer to the last watcher.
pub(super) async fn measure(
    options: &Options,
    targets: &[Target],
    report: &mut Report,
) -> Result<()> {
    let writes = if options.quick { 20 } else { 60 };
    prepare(targets).await?;
    for count in WATCHERS {
        let mut delays = vec![Vec::new(); targets.len()];
        let mut whole = vec![Vec::new(); targets.len()];
        for round in 1..=options.rounds().min(3) {
            eprintln!("{count} watchers: round {round}");
            for (at, target) in targets.iter().enumerate() {
                match round_of(target, count, round as u64, writes).await {
                    Ok(seen) => {
                        for Seen {
                            begun,
                            answered,
                            last,
                        } in seen
                        {
                            delays[at].push(millis(last.saturating_duration_since(answered)));
                            whole[at].push(millis(last - begun));
                        }
                    }
                    Err(error) if at > 0 => {
                        eprintln!("NOT MEASURED: {count} watchers of {PEER}: {error:#}");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        // A peer that loses watchers in every round is not in the table.
        if delays.last().is_some_and(Vec::is_empty) {
            delays.pop();
            whole.pop();
        }
        let five_times = |peer: &[f64], share| match share {
            // A shorter delay is the better one, so the goal is put in what the peer takes.
            50 => Goal::Under(peer[peer.len() / 2] / 5.0),
            _ => Goal::None,
        };
        let what = format!("a write's answer to the last of {count} watchers");
        tell(report, &what, &mut delays, five_times);
        // An answer that comes late would make the delay after it short.
        let what = format!("a write's beginning to the last of {count} watchers");
        tell(report, &what, &mut whole, |_, _| Goal::None);
    }
    Ok(())
}

async fn round_of(target: &Target, count: usize, round: u64, writes: usize) -> Result<Vec<Seen>> {
    let mut watchers = Watchers::open(target, count, round).await?;
    watchers.writes(target, writes).await
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn tell(
    report: &mut Report,
    what: &str,
    times: &mut [Vec<f64>],
    goal: impl Fn(&[f64], usize) -> Goal,
) {
    for millis in times.iter_mut() {
        millis.sort_by(f64::total_cmp);
    }
    let (ours, peer) = pair(times);
    for share in [50, 99] {
        let goal = peer.map_or(Goal::None, |peer| goal(peer, share));
        let peer = peer.map(|times| (PEER, times));
        report.percentile(&format!("{what}, p{share}"), ours, share, goal, peer);
    }
}

async fn prepare(targets: &[Target]) -> Result<()> {
    for target in targets {
        target.namespace("bench-watch").await?;
        let mut connection = Connection::open(target).await?;
        connection.post(WATCHED, config_map("watched", 0)).await?;
    }
    Ok(())
}

/// Open watches; each tells when something came.
struct Watchers {
    /// Ends them when dropped.
    _tasks: JoinSet<()>,
    seen: mpsc::UnboundedReceiver<Instant>,
    count: usize,
    round: u64,
}

impl Watchers {
    async fn open(target: &Target, count: usize, round: u64) -> Result<Self> {
        let (sender, mut seen) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let mut left = count;
        while left > 0 {
            let now = left.min(AT_ONCE);
            let opened = try_join_all((0..now).map(|_| async {
                let mut connection = Connection::open(target).await?;
                // By its name: a namespace of ours has a configmap more.
                let path = format!("{WATCHED}?watch=true&fieldSelector=metadata.name%3Dwatched");
                let request = connection.send(http::Method::GET, &path, bytes::Bytes::new());
                let response = request.await?;
                anyhow::ensure!(response.status() == 200, "{}", response.status());
                Ok((connection, response))
            }))
            .await?;
            for (connection, response) in opened {
                let sender = sender.clone();
                tasks.spawn(async move {
                    let _open = connection;
                    let mut body = response.into_body();
                    while let Some(Ok(frame)) = body.frame().await {
                        let ends = frame.data_ref().is_some_and(|data| data.ends_with(b"\n"));
                        if ends && sender.send(Instant::now()).is_err() {
                            return;
                        }
                    }
                });
            }
            left -= now;
        }
        // Each begins with the object that is there.
        for _ in 0..count {
            next(&mut seen).await?;
        }
        Ok(Self {
            _tasks: tasks,
            seen,
            count,
            round,
        })
    }

    /// Writes, one after the other.
    async fn writes(&mut self, target: &Target, writes: usize) -> Result<Vec<Seen>> {
        let mut connection = Connection::open(target).await?;
        let mut all = Vec::new();
        for number in 1..=writes {
            // Never what is there already: a write that changes nothing is no event.
            let body = config_map("watched", (number as u64) << 16 | self.round);
            let begun = Instant::now();
            connection.put(OBJECT, body).await?;
            let answered = Instant::now();
            let mut last = next(&mut self.seen).await?;
            for _ in 1..self.count {
                last = last.max(next(&mut self.seen).await?);
            }
            all.push(Seen {
                begun,
                answered,
                last,
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(all)
    }
}

/// A write, and when the last watcher saw it.
struct Seen {
    begun: Instant,
    answered: Instant,
    last: Instant,
}

async fn next(seen: &mut mpsc::UnboundedReceiver<Instant>) -> Result<Instant> {
    let seen = tokio::time::timeout(LIMIT, seen.recv()).await;
    seen.context("a watcher saw nothing in time")?
        .context("the watchers have ended")
}

/// What an open watch costs the server, connection and TLS included.
pub(super) async fn open(options: &Options, targets: &[Target], report: &mut Report) -> Result<()> {
    let count = if options.quick { 500 } else { OPEN };
    if !options.does("fanout") {
        prepare(targets).await?;
    }
    let mut costs = Vec::new();
    for target in targets.iter().filter(|target| !target.pids.is_empty()) {
        let before = resident(target)?;
        let watchers = Watchers::open(target, count, 0).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        costs.push((resident(target)? - before) * 1024.0 / count as f64);
        drop(watchers);
    }
    let Some(ours) = costs.first() else {
        return Ok(());
    };
    let what = format!("memory of one of {count} open watches, with its connection and TLS");
    report.add(
        &what,
        "KiB",
        *ours,
        Goal::None,
        "resident, after minus before",
    );
    if let Some(theirs) = costs.get(1) {
        report.peer(PEER, *theirs);
    }
    Ok(())
}

/// MiB of all processes of a target.
pub(super) fn resident(target: &Target) -> Result<f64> {
    let mut mib = 0.0;
    for pid in &target.pids {
        mib += footprint::memory_mib(*pid)?.0;
    }
    Ok(mib)
}
