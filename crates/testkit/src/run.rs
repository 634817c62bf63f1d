//! Running programs and waiting for what they bring about.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a program said.
#[derive(Debug)]
pub struct Output {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// One call of a program.
pub struct Run(Command);

impl Run {
    /// A program by its name or path.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self(command)
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Feeds standard input from a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn stdin(mut self, path: &Path) -> Result<Self> {
        self.0.stdin(std::fs::File::open(path)?);
        Ok(self)
    }

    /// The command, to be started by the caller.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.0
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn output(mut self) -> Result<Output> {
        let output = self
            .0
            .output()
            .with_context(|| format!("cannot run {:?}", self.0))?;
        Ok(Output {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs to the end and returns standard output.
    ///
    /// # Errors
    /// When the program cannot be started or does not exit with 0; with what it said.
    pub fn ok(self) -> Result<String> {
        let what = format!("{:?}", self.0);
        let output = self.output()?;
        if !output.success {
            bail!(
                "{what} exited with {:?}:\n{}{}",
                output.code,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout)
    }
}

/// Tries until it works; the last error when it never does.
///
/// For what has no event to wait for. The pause grows from 10 ms to 250 ms.
///
/// # Errors
/// The last error, after `limit`.
pub async fn eventually<T, F>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > limit => {
                return Err(error.context(format!("{what}: not within {limit:?}")));
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// Says loudly that a test could not run, and why.
pub fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
    eprintln!("SKIPPED: {reason}");
}
