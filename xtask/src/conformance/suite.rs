//! Upstream's binary: its flags, its progress, its report.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Options;
use super::results::{self, Verdict};
use crate::shell;

/// The names of the suite's conformance tests, one a line.
pub(super) fn list(suite: &Path) -> Result<String> {
    let output = Command::new(suite)
        .arg("--list-tests")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", suite.display()))?;
    if !output.status.success() {
        bail!(
            "{} --list-tests ended with {}",
            suite.display(),
            output.status
        );
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("[Conformance]"))
        .map(|line| {
            // `path/file.go:12: name` in the suite's own list.
            let name = line.find("[sig-").map_or(line, |at| &line[at..]);
            format!("{name}\n")
        })
        .collect())
}

/// Runs what is asked for; several at a time first those that may, then the rest alone.
pub(super) fn run(
    options: &Options,
    suite: &Path,
    kubeconfig: &Path,
    folder: &Path,
) -> Result<Vec<Verdict>> {
    if options.parallel < 2 {
        return once(options, suite, kubeconfig, &folder.join("suite"), Part::All);
    }
    let mut verdicts = once(
        options,
        suite,
        kubeconfig,
        &folder.join("parallel"),
        Part::Parallel,
    )?;
    verdicts.extend(once(
        options,
        suite,
        kubeconfig,
        &folder.join("serial"),
        Part::Serial,
    )?);
    Ok(verdicts)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Parallel,
    Serial,
}

/// The labels that ginkgo selects by; names are matched by `--focus` and `--skip`.
fn labels(part: Part) -> &'static str {
    match part {
        Part::All => "Conformance",
        Part::Parallel => "Conformance && !Serial",
        Part::Serial => "Conformance && Serial",
    }
}

fn once(
    options: &Options,
    suite: &Path,
    kubeconfig: &Path,
    folder: &Path,
    part: Part,
) -> Result<Vec<Verdict>> {
    std::fs::create_dir_all(folder)?;
    let report = folder.join("report.json");
    // What an earlier run left would pass for this one's.
    let _gone = std::fs::remove_file(&report);
    let mut command = match part {
        Part::Parallel => parallel(options, suite, folder)?,
        Part::All | Part::Serial => {
            let mut command = Command::new(suite);
            command
                .arg(format!("--ginkgo.json-report={}", report.display()))
                .arg(format!(
                    "--ginkgo.junit-report={}",
                    folder.join("junit.xml").display()
                ))
                .arg(format!("--ginkgo.label-filter={}", labels(part)))
                .arg(format!("--ginkgo.timeout={}", options.timeout))
                .args(["--ginkgo.v", "--ginkgo.no-color", "--ginkgo.silence-skips"]);
            for (flag, value) in [("focus", &options.focus), ("skip", &options.skip)] {
                if let Some(value) = value {
                    command.arg(format!("--ginkgo.{flag}={value}"));
                }
            }
            command
        }
    };
    command.args(suite_flags(options, suite, kubeconfig, folder));
    let status = follow(&mut command, &folder.join("log"))?;
    if !report.is_file() {
        bail!("the suite ended with {status} and wrote no report");
    }
    results::report(&report)
}

/// ginkgo, which starts the suite several times.
fn parallel(options: &Options, suite: &Path, folder: &Path) -> Result<Command> {
    let ginkgo = suite.with_file_name("ginkgo");
    let ginkgo = if ginkgo.is_file() {
        ginkgo
    } else if shell::on_path("ginkgo") {
        PathBuf::from("ginkgo")
    } else {
        bail!(
            "--parallel needs upstream's ginkgo beside {}",
            suite.display()
        );
    };
    let mut command = Command::new(ginkgo);
    command
        .arg(format!("--procs={}", options.parallel))
        .arg(format!("--output-dir={}", folder.display()))
        .args(["--json-report=report.json", "--junit-report=junit.xml"])
        .arg(format!("--label-filter={}", labels(Part::Parallel)))
        .arg(format!("--timeout={}", options.timeout))
        .args(["-v", "--no-color", "--silence-skips", "--keep-going"]);
    for (flag, value) in [("focus", &options.focus), ("skip", &options.skip)] {
        if let Some(value) = value {
            command.arg(format!("--{flag}={value}"));
        }
    }
    command.arg(suite).arg("--");
    Ok(command)
}

fn suite_flags(options: &Options, suite: &Path, kubeconfig: &Path, folder: &Path) -> Vec<String> {
    let beside = suite.with_file_name("kubectl");
    let kubectl = match &options.kubectl {
        Some(path) => path.clone(),
        None if beside.is_file() => beside,
        None => "kubectl".into(),
    };
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--kubectl-path={}", kubectl.display()),
        format!("--kube-api-content-type={}", options.content.media_type()),
        format!("--e2e-output-dir={}", folder.display()),
        "--provider=skeleton".to_owned(),
        "--disable-log-dump".to_owned(),
        "--dump-logs-on-failure=false".to_owned(),
    ]
}

/// Runs it, keeps what it says, and shows each verdict as it comes.
fn follow(command: &mut Command, log: &Path) -> Result<std::process::ExitStatus> {
    eprintln!("==> {}", shell::line(command));
    let mut kept = std::fs::File::create(log)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(kept.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let stdout = child.stdout.take().context("the suite's output is piped")?;
    let (mut done, mut failed) = (0_usize, 0_usize);
    // The name of a test comes in the line after its verdict.
    let mut verdict: Option<bool> = None;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        kept.write_all(&line)?;
        kept.write_all(b"\n")?;
        let text = String::from_utf8_lossy(&line);
        if let Some(passed) = verdict.take() {
            done += 1;
            failed += usize::from(!passed);
            let word = if passed { "ok    " } else { "FAILED" };
            eprintln!("    {done}  {word}  {}", text.trim());
        }
        verdict = passed(&text);
    }
    let status = child.wait()?;
    eprintln!("    {done} done, {failed} failed");
    Ok(status)
}

/// Whether a test passed, where a line of ginkgo's verbose output is a verdict.
fn passed(line: &str) -> Option<bool> {
    let rest = line.strip_prefix("• [")?;
    let bad = [
        "FAILED]",
        "PANICKED]",
        "TIMEDOUT]",
        "INTERRUPTED]",
        "ABORTED]",
    ];
    Some(!bad.iter().any(|word| rest.starts_with(word)))
}

#[cfg(test)]
mod tests {
    use super::passed;

    #[test]
    fn lines_of_ginkgo() {
        for (line, wanted) in [
            (
                "[sig-auth] ServiceAccounts should mount [Conformance]",
                None,
            ),
            ("• [0.120 seconds]", Some(true)),
            ("• [FAILED] [300.1 seconds]", Some(false)),
            ("• [TIMEDOUT] [300.1 seconds]", Some(false)),
            ("  STEP: Creating a kubernetes client", None),
        ] {
            assert_eq!(passed(line), wanted, "{line}");
        }
    }
}
