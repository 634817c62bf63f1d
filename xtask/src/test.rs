//! `cargo xtask test`: set-up, every test, one closing line.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{needs, release, shell};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Also run the tests that take long (marked `#[ignore = "long: …"]`).
    #[arg(long)]
    long: bool,
    /// Passed on to nextest: a name filter, `-p CRATE`, ….
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the tests under nextest: each in a process of its own, which lets a test enter
/// namespaces of its own.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "the tests make namespaces, mounts and cgroups; please type: sudo -E cargo xtask test"
        );
    }
    needs::ensure(&[needs::BUILD, needs::RUN, needs::TEST])?;
    needs::ensure_cargo_tool("cargo-nextest")?;
    let clients = needs::ensure_clients()?;
    let knarr = release::build(release::Profile::Fast)?;

    eprintln!("==> running the tests");
    let mut command = shell::cargo();
    command
        .args([
            "nextest",
            "run",
            "--locked",
            "--no-fail-fast",
            "--workspace",
        ])
        .env("KNARR_BIN", &knarr)
        .env("KNARR_CLIENTS", &clients);
    if options.long {
        command.args(["--run-ignored", "all"]);
    }
    command.args(&options.rest).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo nextest")?;
    let stderr = child.stderr.take().context("nextest's stderr is piped")?;
    let mut summary = None;
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        if let Some(counts) = Counts::parse(&line) {
            summary = Some(counts);
        }
        eprintln!("{line}");
    }
    let status = child.wait()?;
    match summary {
        Some(Counts {
            passed,
            failed,
            skipped,
        }) => {
            println!("{passed} passed, {failed} failed, {skipped} skipped");
        }
        None => bail!("no test ran"),
    }
    if !status.success() {
        bail!("tests failed");
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Counts {
    /// Reads nextest's line `Summary [ 1.2s] 5 tests run: 4 passed (1 slow), 1 failed, 2 skipped`.
    fn parse(line: &str) -> Option<Self> {
        let line: String = strip_colour(line);
        let (_, counts) = line
            .trim_start()
            .strip_prefix("Summary [")?
            .split_once("run:")?;
        let count = |word: &str| {
            counts.split(',').find_map(|part| {
                let mut words = part.split_whitespace();
                let number = words.next()?.parse().ok()?;
                words.next()?.starts_with(word).then_some(number)
            })
        };
        Some(Self {
            passed: count("passed").unwrap_or(0),
            failed: count("failed").unwrap_or(0) + count("timed").unwrap_or(0),
            skipped: count("skipped").unwrap_or(0),
        })
    }
}

fn strip_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut escape = false;
    for c in line.chars() {
        match (escape, c) {
            (false, '\u{1b}') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, c) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn reads_nextest_summaries() {
        let counts = |line| Counts::parse(line).map(|c| (c.passed, c.failed, c.skipped));
        assert_eq!(
            counts("     Summary [   1.2s] 5 tests run: 4 passed (1 slow), 1 failed, 2 skipped"),
            Some((4, 1, 2))
        );
        assert_eq!(
            counts(
                "\u{1b}[32;1m     Summary\u{1b}[0m [   9.1s] \u{1b}[1m3\u{1b}[0m tests run: 3 passed, 0 skipped"
            ),
            Some((3, 0, 0))
        );
        assert_eq!(counts("     Running tests"), None);
    }
}
