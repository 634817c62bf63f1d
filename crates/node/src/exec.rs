//! Runs a command in a container to its end and collects what it says.
//!
//! Invariant: bounded output; the command dies with the caller.

use std::time::Duration;

use runtime::{Exec, Shim, ShimError};
use tokio::io::AsyncReadExt as _;

use crate::fdio::FdStream;

/// The most output that is kept.
const MAX_OUTPUT: usize = 10 * 1024;

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With a code and output.
    Exited(i32, String),
    /// It was killed for taking too long.
    TimedOut,
}

/// Runs `argv` in the container `id`.
///
/// # Errors
/// When it could not be run.
pub(crate) async fn run(
    shim: &Shim,
    id: &str,
    argv: Vec<String>,
    timeout: Option<Duration>,
) -> Result<Ended, ShimError> {
    let request = Exec {
        argv,
        stdout: true,
        stderr: true,
        kill_on_disconnect: true,
        ..Exec::default()
    };
    let work = async {
        let mut session = shim.exec(id, &request).await?;
        let stdout = collect(session.stdout.take());
        let stderr = collect(session.stderr.take());
        let (mut out, err) = tokio::join!(stdout, stderr);
        out.extend_from_slice(&err);
        out.truncate(MAX_OUTPUT);
        let code = session.wait().await?;
        Ok(Ended::Exited(
            code,
            String::from_utf8_lossy(&out).into_owned(),
        ))
    };
    match timeout {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or(Ok(Ended::TimedOut)),
    }
}

async fn collect(fd: Option<std::os::fd::OwnedFd>) -> Vec<u8> {
    let Some(Ok(mut stream)) = fd.map(FdStream::new) else {
        return Vec::new();
    };
    let mut kept = Vec::new();
    let mut buf = vec![0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buf).await {
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&buf[..n.min(room)]);
    }
    kept
}
