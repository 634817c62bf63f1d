//! The node's side of a shim.
//!
//! Invariant: nothing here blocks an async worker, and a shim that is gone is noticed at once: every
//! request in flight and every later one fails with [`ShimError::Gone`].

mod connection;
mod launch;
mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::error::ShimError;
use crate::spec::{ContainerSpec, Exec, SandboxSpec};
use crate::state::{ContainerState, Started, Usage};
use crate::wire::{Reply, Request};

use connection::{Answer, Connection};
pub use session::Session;

/// How long processes may take to die on clean-up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to one living shim. Clones share it; the last one to go closes it. The shim and its
/// containers live on without.
#[derive(Debug, Clone)]
pub struct Shim {
    connection: Arc<Connection>,
    dir: Arc<Path>,
    pid: u32,
}

impl Shim {
    /// Starts the shim of a new sandbox: `exe shim --dir dir`. `dir` is made where missing; it
    /// belongs to the shim alone.
    pub async fn launch(exe: &Path, dir: &Path, spec: &SandboxSpec) -> Result<Shim, ShimError> {
        let (exe, owned, spec) = (exe.to_owned(), dir.to_owned(), spec.clone());
        blocking(move || launch::launch(&exe, &owned, &spec)).await?;
        Shim::connect(dir).await
    }

    /// Connects to the shim of an existing sandbox, for example after a restart of the node.
    pub async fn connect(dir: &Path) -> Result<Shim, ShimError> {
        let connection = Connection::open(dir)?;
        let answer = connection.call(Request::Hello).await?;
        let Reply::Hello { pid } = answer.reply else {
            return Err(unexpected());
        };
        Ok(Shim {
            connection: Arc::new(connection),
            dir: dir.into(),
            pid,
        })
    }

    /// Kills and removes what a dead shim left: processes, cgroup, mounts, and the folder itself.
    /// Idempotent. A shim that still lives is killed too.
    pub async fn cleanup(dir: &Path) -> Result<(), ShimError> {
        if let Ok(shim) = Shim::connect(dir).await {
            // It can do everything itself; should it fail, it is killed.
            let process = sys::process::PidFd::open(shim.pid);
            let _ = tokio::time::timeout(PATIENCE, shim.shutdown()).await;
            drop(shim);
            if let Ok(process) = process {
                blocking(move || {
                    launch::kill(&process);
                    Ok(())
                })
                .await?;
            }
        }
        let dir = dir.to_owned();
        blocking(move || {
            crate::shim::main::clean_up(&dir, PATIENCE)
                .map_err(|source| ShimError::Cleanup { dir, source })
        })
        .await
    }

    /// Process id of the shim.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The sandbox's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The pod's network namespace. Valid while the shim lives.
    pub fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid).into()
    }

    /// Resolves when the shim is gone (or has been shut down).
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Makes and starts a container. When it returns, the program runs.
    pub async fn start(&self, spec: &ContainerSpec) -> Result<Started, ShimError> {
        match self
            .call(Request::Start(Box::new(spec.clone())))
            .await?
            .reply
        {
            Reply::Started(started) => Ok(started),
            _ => Err(unexpected()),
        }
    }

    /// All containers that were started and not removed.
    pub async fn states(&self) -> Result<Vec<ContainerState>, ShimError> {
        match self.call(Request::States).await?.reply {
            Reply::States(states) => Ok(states),
            _ => Err(unexpected()),
        }
    }

    /// Changes of state from now on. Whoever lags behind reads [`Shim::states`].
    pub fn events(&self) -> broadcast::Receiver<ContainerState> {
        self.connection.events()
    }

    /// Sends a signal to a container's first process. One that has ended takes no notice.
    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), ShimError> {
        self.done(Request::Signal {
            id: id.into(),
            signal,
        })
        .await
    }

    /// Removes an ended container: its cgroup and folder, not its log. Idempotent.
    pub async fn remove(&self, id: &str) -> Result<(), ShimError> {
        self.done(Request::Remove { id: id.into() }).await
    }

    /// What a container uses.
    pub async fn stats(&self, id: &str) -> Result<Usage, ShimError> {
        self.usage(Some(id.into())).await
    }

    /// What the pod's cgroup uses as a whole.
    pub async fn pod_stats(&self) -> Result<Usage, ShimError> {
        self.usage(None).await
    }

    /// Runs a process in a running container. When it returns, the program runs.
    pub async fn exec(&self, id: &str, exec: &Exec) -> Result<Session, ShimError> {
        let request = Request::Exec {
            id: id.into(),
            exec: Box::new(exec.clone()),
        };
        Session::new(
            Arc::clone(&self.connection),
            self.call(request).await?,
            exec.kill_on_disconnect,
        )
    }

    /// Connects to the streams of a running container. With a terminal, standard error is part of
    /// standard output. What the container wrote before is in its log only.
    pub async fn attach(
        &self,
        id: &str,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> Result<Session, ShimError> {
        let answer = self
            .call(Request::Attach {
                id: id.into(),
                stdin,
                stdout,
                stderr,
            })
            .await?;
        Session::new(Arc::clone(&self.connection), answer, false)
    }

    /// Opens a container's log file anew, after somebody has moved it.
    pub async fn reopen_log(&self, id: &str) -> Result<(), ShimError> {
        self.done(Request::ReopenLog { id: id.into() }).await
    }

    /// Kills what is left, removes cgroups, mounts and the folder, and ends the shim.
    pub async fn shutdown(&self) -> Result<(), ShimError> {
        self.done(Request::Shutdown).await
    }

    async fn call(&self, request: Request) -> Result<Answer, ShimError> {
        self.connection.call(request).await
    }

    async fn done(&self, request: Request) -> Result<(), ShimError> {
        match self.call(request).await?.reply {
            Reply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn usage(&self, id: Option<String>) -> Result<Usage, ShimError> {
        match self.call(Request::Stats { id }).await?.reply {
            Reply::Usage(usage) => Ok(usage),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> ShimError {
    ShimError::Connection(std::io::Error::from(std::io::ErrorKind::InvalidData))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ShimError> + Send + 'static,
) -> Result<T, ShimError> {
    let interrupted =
        |_| ShimError::Connection(std::io::Error::from(std::io::ErrorKind::Interrupted));
    tokio::task::spawn_blocking(work)
        .await
        .map_err(interrupted)?
}
