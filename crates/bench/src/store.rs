//! `bench store`: our store in this process beside a real etcd on the same folder, in turns.

mod engine;
mod etcd;
mod load;
mod open;
mod rpc;
mod soak;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use self::engine::Engine;
use self::etcd::Etcd;
use crate::report::{Goal, Report};

/// What the peer is called in the table.
const PEER: &str = "etcd";
/// How many clients write at the same time.
const CLIENTS: [usize; 3] = [1, 16, 64];
/// Size of a value, in bytes.
const VALUE_BYTES: usize = 1024;

/// How much, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// A few seconds each, for a first look.
    #[arg(long)]
    quick: bool,
    /// Where both keep their data: a folder on the disk to measure.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only these parts: writes, list, watch, open, soak.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Options {
    fn does(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }

    fn seconds(&self) -> Duration {
        Duration::from_millis(if self.quick { 1500 } else { 4000 })
    }

    /// A new folder under the chosen one.
    fn folder(&self) -> Result<tempfile::TempDir> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        tempfile::Builder::new()
            .prefix("knarr-bench-store-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))
    }
}

/// Measures all of it.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let folder = options.folder()?;
    disk(folder.path(), &mut report)?;
    if !Etcd::is_installed() {
        eprintln!("SKIPPED: etcd as a peer (package etcd-server is not installed)");
    }
    if options.does("writes") {
        writes(options, &mut report).await?;
    }
    if options.does("list") {
        list(options, &mut report).await?;
    }
    if options.does("watch") {
        watch::measure(options, &mut report).await?;
    }
    if options.does("open") {
        open::measure(options, &mut report).await?;
    }
    if options.does("soak") {
        soak::measure(options, &mut report).await?;
    }
    Ok(report)
}

/// What a durable write costs at least here.
fn disk(folder: &Path, report: &mut Report) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::create(folder.join("probe"))?;
    let mut times = Vec::new();
    for block in 0..200_u64 {
        file.write_all_at(&[7; 4096], block * 4096)?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    report.times("the disk: fdatasync of 4 KiB appended", &times, Goal::None);
    Ok(())
}

/// Ours, and etcd where it is installed, each on a new folder under `folder`.
async fn engines(folder: &Path) -> Result<Vec<Engine>> {
    let mut engines = vec![Engine::ours(&folder.join("ours.db")).await?];
    if Etcd::is_installed() {
        engines.push(Engine::etcd(&folder.join("etcd")).await?);
    }
    Ok(engines)
}

/// A figure of ours beside the peer's, where there is one.
fn pair(figures: &[Vec<f64>]) -> (&[f64], Option<&[f64]>) {
    (&figures[0], figures.get(1).map(Vec::as_slice))
}

async fn writes(options: &Options, report: &mut Report) -> Result<()> {
    for (pattern, what) in [
        (load::Pattern::Distinct, "a key each"),
        (load::Pattern::Overlapping, "all the same 8 keys"),
    ] {
        for clients in CLIENTS {
            let mut rates = vec![Vec::new(); 2];
            let mut times = vec![Vec::new(); 2];
            for round in 1..=options.rounds() {
                eprintln!("{clients} clients, {what}: {round} of {}", options.rounds());
                let folder = options.folder()?;
                for (at, engine) in engines(folder.path()).await?.into_iter().enumerate() {
                    let run = load::run(&engine, pattern, clients, options.seconds()).await?;
                    rates[at].push(run.per_second());
                    times[at].extend(run.latencies_ms);
                    engine.stop().await?;
                }
            }
            times
                .iter_mut()
                .for_each(|times| times.sort_by(f64::total_cmp));
            let goals = match (clients, pattern) {
                (64, load::Pattern::Distinct) => (Goal::Times(3.0), Goal::NoWorse),
                _ => (Goal::None, Goal::None),
            };
            let (ours, peer) = pair(&rates);
            report.rates(
                &format!("durable writes of 1 KiB, {clients} clients, {what}"),
                "/s",
                ours,
                goals.0,
                peer.map(|rates| (PEER, rates)),
            );
            for (share, goal) in [(50, Goal::None), (99, goals.1)] {
                let (ours, peer) = pair(&times);
                report.percentile(
                    &format!("… p{share}"),
                    ours,
                    share,
                    goal,
                    peer.map(|times| (PEER, times)),
                );
            }
        }
    }
    Ok(())
}

async fn list(options: &Options, report: &mut Report) -> Result<()> {
    const KEYS: usize = 10_000;
    let folder = options.folder()?;
    let engines = engines(folder.path()).await?;
    for engine in &engines {
        load::fill(engine, "/list/", KEYS).await?;
        // Both have what they keep in memory by then.
        engine.list("/list/").await?;
    }
    let mut rates = vec![Vec::new(); 2];
    for round in 1..=options.rounds() {
        eprintln!("list: {round} of {}", options.rounds());
        for (at, engine) in engines.iter().enumerate() {
            let (start, mut lists) = (Instant::now(), 0);
            while start.elapsed() < options.seconds() / 2 {
                let count = engine.list("/list/").await?;
                anyhow::ensure!(count == KEYS, "{count} keys instead of {KEYS}");
                lists += 1;
            }
            rates[at].push(f64::from(lists) / start.elapsed().as_secs_f64());
        }
    }
    let (ours, peer) = pair(&rates);
    report.rates(
        "lists of 10,000 keys of 1 KiB, one client",
        "/s",
        ours,
        Goal::Times(5.0),
        peer.map(|rates| (PEER, rates)),
    );
    for engine in engines {
        engine.stop().await?;
    }
    Ok(())
}
