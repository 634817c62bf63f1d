//! What `cargo xtask bench` runs: real clusters, measured from outside, peers in the same run.

mod api;
mod boot;
mod containerd;
mod footprint;
mod machine;
mod pods;
mod report;
mod store;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The product's own: the store is measured in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure Knarr.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Write the figures to this file as well.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// The API server: requests, fan-out to watchers, memory, beside kube-apiserver.
    Api(api::Options),
    /// Start, first pods, pod latency, footprint.
    Boot(boot::Options),
    /// The store: writes, lists, watches, opening and growth, beside etcd.
    Store(store::Options),
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Api(_) | Command::Boot(_)) {
        testkit::isolate()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = match cli.command {
        Command::Api(options) => runtime.block_on(api::run(&options))?,
        Command::Boot(options) => runtime.block_on(boot::run(&options))?,
        Command::Store(options) => runtime.block_on(store::run(&options))?,
    };
    print!("{}", report.table());
    if let Some(path) = cli.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&report.json())?)?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}
