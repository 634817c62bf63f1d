//! `bench api`: one load generator at our API server and at kube-apiserver, in turns.
//!
//! Both are asked over mutual TLS, in JSON, on connections that are kept. Ours is the whole of
//! `knarr up`, with its controllers and node at work; the peer is the API server and etcd alone. While
//! requests are measured the other one is stopped.

mod connection;
mod fanout;
mod load;
mod memory;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use self::load::{Operation, Timed};
use self::target::Target;
use crate::report::{Goal, Report};

/// What the peer is called in the table.
const PEER: &str = "kube-apiserver + etcd";
/// How many connections the load comes over.
const CONNECTIONS: usize = 16;
/// How many objects a listed namespace has.
const LISTED: usize = 5000;

/// How much, and beside whom.
#[derive(Args)]
pub(crate) struct Options {
    /// A few seconds each, for a first look.
    #[arg(long)]
    quick: bool,
    /// A Kubernetes to measure in the same run.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// A folder with kube-apiserver, which is started in the same run over Debian's etcd.
    #[arg(long, conflicts_with = "peer")]
    peer_bin: Option<PathBuf>,
    /// Only these parts: requests, fanout, watches, memory.
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
        Duration::from_millis(if self.quick { 1500 } else { 3000 })
    }
}

/// Measures all of it.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let mut targets = vec![Target::ours().await?];
    if let Some(kubeconfig) = &options.peer {
        targets.push(Target::given(kubeconfig).await?);
    } else if let Some(folder) = &options.peer_bin {
        targets.push(Target::kube(folder, &targets[0]).await?);
    } else {
        eprintln!("SKIPPED: a peer (give --peer KUBECONFIG or --peer-bin FOLDER)");
    }
    if options.does("requests") {
        requests(options, &targets, &mut report).await?;
    }
    if options.does("fanout") {
        fanout::measure(options, &targets, &mut report).await?;
    }
    if options.does("watches") {
        fanout::open(options, &targets, &mut report).await?;
    }
    if options.does("memory") {
        memory::measure(options, &targets, &mut report).await?;
    }
    Ok(report)
}

/// A figure of ours beside the peer's, where there is one.
fn pair<T>(figures: &[Vec<T>]) -> (&[T], Option<&[T]>) {
    (&figures[0], figures.get(1).map(Vec::as_slice))
}

/// Requests a second, and what each takes.
async fn requests(options: &Options, targets: &[Target], report: &mut Report) -> Result<()> {
    for target in targets {
        target.namespace("bench-list").await?;
        load::fill(target, "bench-list", LISTED).await?;
    }
    let mut rates = vec![vec![Vec::new(); targets.len()]; Operation::ALL.len()];
    let mut times = vec![vec![Vec::new(); targets.len()]; Operation::ALL.len()];
    for round in 1..=options.rounds() {
        eprintln!("requests: round {round} of {}", options.rounds());
        for (at, target) in targets.iter().enumerate() {
            let _alone = target.alone(targets).await;
            let namespace = format!("bench-{round}");
            target.namespace(&namespace).await?;
            let mut made = Vec::new();
            for (op, operation) in Operation::ALL.into_iter().enumerate() {
                let run = load::run(target, &namespace, operation, &mut made, options.seconds());
                let Timed { per_second, millis } = run.await?;
                rates[op][at].push(per_second);
                times[op][at].extend(millis);
            }
        }
    }
    for (op, operation) in Operation::ALL.into_iter().enumerate() {
        let (ours, peer) = pair(&rates[op]);
        report.rates(
            &format!("{}, {CONNECTIONS} connections", operation.words()),
            "/s",
            ours,
            Goal::Times(5.0),
            peer.map(|rates| (PEER, rates)),
        );
        for millis in &mut times[op] {
            millis.sort_by(f64::total_cmp);
        }
        for (share, goal) in [(50, Goal::None), (99, Goal::NoWorse)] {
            let (ours, peer) = pair(&times[op]);
            let peer = peer.map(|times| (PEER, times));
            report.percentile(&format!("… p{share}"), ours, share, goal, peer);
        }
    }
    Ok(())
}
