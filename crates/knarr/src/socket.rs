//! The way to a running cluster's process: a socket that only root may open, a line of JSON for the
//! work, lines of JSON for what is said.
//!
//! Invariant: what belongs to one process at a time, the images and the store, is worked on in the
//! process that has it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use image::Images;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::storage::Storage;
use crate::{images, secrets, snapshot};

/// Longest request or message.
const MAX_LINE_BYTES: u64 = 4 << 20;
/// Progress that waits for a slow reader; more is dropped, later progress says it all again.
const WAITING: usize = 256;

/// A piece of work. Paths in it are absolute: the process that does it may be elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Work {
    /// With images.
    Image(images::Work),
    /// With the keys of Secrets.
    Secrets(secrets::Work),
    /// With snapshots.
    Snapshot(snapshot::Work),
}

/// What is told while work goes on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Said {
    /// Where each layer of an image is.
    Layers(Vec<images::Layer>),
    /// Images that came or are there.
    Images(Vec<images::Row>),
    /// How many objects were written.
    Progress(u64),
    /// A line for the user.
    Line(String),
    /// The work is done.
    Done,
    /// It failed, and why.
    Failed(String),
}

/// Hears what is told.
pub(crate) type Say<'a> = &'a (dyn Fn(Said) + Send + Sync);

/// What work is done on.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) images: Images,
    pub(crate) storage: Storage,
}

impl Served {
    async fn run(&self, work: Work, say: Say<'_>) -> Result<()> {
        match work {
            Work::Image(work) => images::work(&self.images, work, say).await,
            Work::Secrets(work) => work.run(&self.storage, true, say).await,
            Work::Snapshot(work) => {
                let Storage { store, keys, .. } = &self.storage;
                work.run(store, keys, say).await
            }
        }
    }
}

/// The socket of an instance.
pub(crate) fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("knarr.sock")
}

/// Serves until drained.
///
/// # Errors
/// The socket cannot be made.
pub(crate) fn serve(
    served: Served,
    run_dir: &Path,
    drain: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    let path = path(run_dir);
    // Left by a process that was killed: the instance's lock says that it is ours.
    if path.exists() {
        std::fs::remove_file(&path)
            .with_context(|| format!("cannot replace {}", path.display()))?;
    }
    // The folder is 0700 already: nobody else gets here in between.
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot make {}", path.display()))?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    Ok(async move {
        let callers = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.cancelled() => break,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (served, drain) = (served.clone(), drain.clone());
            callers.spawn(async move {
                tokio::select! {
                    answered = answer(stream, served) => if let Err(error) = answered {
                        tracing::debug!(error = format!("{error:#}"), "socket");
                    },
                    () = drain.cancelled() => {}
                }
            });
        }
        callers.close();
        callers.wait().await;
        // The next start replaces it if this fails.
        let _left = std::fs::remove_file(&path);
    })
}

async fn answer(stream: UnixStream, served: Served) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_LINE_BYTES))
        .read_line(&mut line)
        .await?;
    let (sender, mut said) = mpsc::channel(WAITING);
    let work = async move {
        let say = |said: Said| {
            let progress = matches!(said, Said::Layers(_) | Said::Progress(_));
            if sender.try_send(said).is_err() && !progress {
                tracing::debug!("the caller does not read");
            }
        };
        let outcome = match serde_json::from_str::<Work>(&line) {
            Ok(work) => served.run(work, &say).await,
            Err(error) => Err(anyhow::Error::new(error).context("this version knows no such work")),
        };
        let last = outcome.map_or_else(|error| Said::Failed(format!("{error:#}")), |()| Said::Done);
        // A caller that is gone needs no answer.
        let _gone = sender.send(last).await;
    };
    let tell = async {
        while let Some(said) = said.recv().await {
            let mut bytes = serde_json::to_vec(&said)?;
            bytes.push(b'\n');
            write.write_all(&bytes).await?;
        }
        anyhow::Ok(())
    };
    let ((), told) = tokio::join!(work, tell);
    told
}

/// Sends work to the process behind the socket, and passes on what it says.
///
/// # Errors
/// The process is gone, or the work failed.
pub(crate) async fn send(socket: &Path, work: &Work, say: Say<'_>) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("cannot reach the running knarr at {}", socket.display()))?;
    let (read, mut write) = stream.into_split();
    let mut bytes = serde_json::to_vec(work)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Said::Done => return Ok(()),
            Said::Failed(why) => bail!("{why}"),
            said => say(said),
        }
    }
    bail!("the running knarr ended before the work did")
}
