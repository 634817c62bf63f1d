//! `cargo xtask bench`: builds what is measured and what measures, and starts it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{needs, release, shell};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Which benchmark: boot.
    name: String,
    /// Write the figures to this file as well.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Passed on to the benchmark: --rounds N, --peer KUBECONFIG.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the release binary and the benchmark, then runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::BUILD, needs::RUN, needs::TEST])?;
    let knarr = release::build(release::Profile::Release)?;
    let mut command = shell::cargo();
    command
        .args([
            "run",
            "--locked",
            "--profile",
            "fast",
            "--package",
            "bench",
            "--",
            &options.name,
        ])
        .env("KNARR_BIN", knarr)
        .args(&options.rest);
    if let Some(path) = &options.json {
        command.arg("--json").arg(path);
    }
    shell::step(&format!("measuring {}", options.name), &mut command)
}
