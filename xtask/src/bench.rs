//! `cargo xtask bench`: builds what is measured and what measures, and starts it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{needs, release, shell};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Which benchmark: api, boot, store.
    name: String,
    /// Write the figures to this file as well.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Passed on to the benchmark. boot: --rounds N, --peer KUBECONFIG. store: --quick, --dir FOLDER,
    /// --only writes,list,watch,open,soak. api: --quick, --peer KUBECONFIG or --peer-bin FOLDER (with
    /// kube-apiserver), --only requests,fanout,watches,memory.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds what is measured and the benchmark, then runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = shell::cargo();
    command.args(["run", "--locked", "--package", "bench", "--profile"]);
    if options.name == "store" {
        // The store is measured inside the benchmark's own process.
        needs::ensure(&[needs::BUILD, needs::PEERS])?;
        command.arg("release");
    } else {
        needs::ensure(&[needs::BUILD, needs::RUN, needs::TEST, needs::PEERS])?;
        let knarr = release::build(release::Profile::Release)?;
        command.arg("fast").env("KNARR_BIN", knarr);
    }
    command.args(["--", &options.name]).args(&options.rest);
    if let Some(path) = &options.json {
        command.arg("--json").arg(path);
    }
    shell::step(&format!("measuring {}", options.name), &mut command)
}
