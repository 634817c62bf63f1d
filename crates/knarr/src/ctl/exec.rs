//! `knarr exec`: a command in a container, over kubectl's WebSocket protocol.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, TerminalSize};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};

use super::Target;
use super::connect::connect;
use super::get::words;

/// Run a command in a container.
#[derive(Args)]
#[command(after_help = "Examples:\n  knarr exec web -- date\n  knarr exec -it web -c app -- sh")]
pub(crate) struct Exec {
    /// The pod.
    pod: String,
    /// The container, where there are several.
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal.
    #[arg(short, long)]
    tty: bool,
    /// The command, after --.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    /// Runs the command; its exit code becomes ours.
    pub(crate) async fn run(self, target: &Target) -> Result<ExitCode> {
        let connection = connect(target).await?;
        let pods = kube::Api::<Pod>::namespaced(connection.client, &connection.namespace);
        let name = self.pod.strip_prefix("pod/").unwrap_or(&self.pod);
        let params = AttachParams {
            container: self.container,
            stdin: self.stdin,
            stdout: true,
            stderr: !self.tty,
            tty: self.tty,
            ..AttachParams::default()
        };
        let mut process = pods
            .exec(name, self.command, &params)
            .await
            .map_err(words)?;
        let _raw = if self.tty && self.stdin {
            RawTerminal::enter()?
        } else {
            None
        };

        let mut remote_out = process
            .stdout()
            .context("the server sends standard output")?;
        let stdout = tokio::spawn(async move {
            tokio::io::copy(&mut remote_out, &mut tokio::io::stdout()).await
        });
        let stderr = process.stderr().map(|mut remote| {
            tokio::spawn(
                async move { tokio::io::copy(&mut remote, &mut tokio::io::stderr()).await },
            )
        });
        if let Some(mut remote) = process.stdin() {
            // Not awaited: a blocked read of our own input must not hold the end up.
            tokio::spawn(async move {
                let _closed = tokio::io::copy(&mut tokio::io::stdin(), &mut remote).await;
                let _closed = remote.shutdown().await;
            });
        }
        if self.tty
            && let Some(mut sizes) = process.terminal_size()
        {
            let mut changes = signal(SignalKind::window_change())?;
            tokio::spawn(async move {
                use futures::SinkExt;
                while let Some(size) = terminal_size() {
                    if sizes.send(size).await.is_err() || changes.recv().await.is_none() {
                        break;
                    }
                }
            });
        }
        let status = process
            .take_status()
            .context("the server sends a status")?
            .await;
        stdout.await??;
        if let Some(stderr) = stderr {
            stderr.await??;
        }
        let Some(status) = status else {
            bail!("the connection ended before the command did")
        };
        if status.status.as_deref() == Some("Success") {
            return Ok(ExitCode::SUCCESS);
        }
        let code = status
            .details
            .as_ref()
            .and_then(|details| {
                details
                    .causes
                    .as_ref()?
                    .iter()
                    .find(|c| c.reason.as_deref() == Some("ExitCode"))
            })
            .and_then(|cause| cause.message.as_deref()?.parse::<u8>().ok());
        match code {
            Some(code) => Ok(ExitCode::from(code)),
            None => bail!("{}", status.message.unwrap_or_default()),
        }
    }
}

fn terminal_size() -> Option<TerminalSize> {
    let (height, width) = console::Term::stdout().size_checked()?;
    Some(TerminalSize { height, width })
}

/// Puts the terminal back when it is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Result<Option<Self>> {
        let stdin = std::io::stdin();
        let Ok(before) = termios::tcgetattr(&stdin) else {
            return Ok(None);
        };
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _restored = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
