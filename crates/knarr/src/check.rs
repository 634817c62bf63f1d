//! `knarr check`: what this kernel and host offer and lack, one line each.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use sys::probe::{Finding, Verdict};

use crate::config::DEFAULT_DATA_DIR;

/// What this kernel and host offer and lack.
#[derive(Args)]
pub(crate) struct Check {
    /// The data directory whose disk is looked at.
    #[arg(long, env = "KNARR_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

impl Check {
    /// Runs the command; exits with 1 when a cluster could not run here.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let findings = sys::probe::host(&self.data_dir);
        let colour = std::io::stdout().is_terminal();
        for finding in &findings {
            println!("{}", line(finding, colour));
        }
        let lacking = findings
            .iter()
            .filter(|f| f.verdict == Verdict::Fail)
            .count();
        if lacking > 0 {
            println!("\n{lacking} things that a cluster needs are missing.");
            return Ok(ExitCode::FAILURE);
        }
        println!("\nA cluster can run here.");
        Ok(ExitCode::SUCCESS)
    }
}

fn line(finding: &Finding, colour: bool) -> String {
    let (word, code) = match finding.verdict {
        Verdict::Ok => ("ok  ", "32"),
        Verdict::Warn => ("warn", "33"),
        Verdict::Fail => ("FAIL", "31"),
    };
    let word = if colour {
        format!("\x1b[{code}m{word}\x1b[0m")
    } else {
        word.to_owned()
    };
    format!("{word}  {:<16} {}", finding.name, finding.meaning)
}
