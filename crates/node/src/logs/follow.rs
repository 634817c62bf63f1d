//! Streams a log file, and follows it while the container runs.
//!
//! Invariant: a rotation loses nothing: the old file is read to its end before the
//! new one is begun.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{
        fd::{AsFd as _, AsRawFd, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use bytes::Bytes;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, watch},
};

use super::select::{Filter, Options, tail_offset};

/// Read this much at a time.
const CHUNK: usize = 32 * 1024;
/// A line longer than this is cut: the shim never writes one.
const MAX_LINE: usize = 1 << 20;

/// Sends the selected part of the log at `path` to `out` until it ends, the client
/// leaves, or (when following) `running` says false and everything was sent.
///
/// # Errors
/// When the log cannot be read.
pub(crate) async fn stream(
    path: PathBuf,
    options: Options,
    mut running: watch::Receiver<bool>,
    out: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut filter = Filter::new(&options);
    let watcher = if options.follow {
        Some(watch_dir(&path)?)
    } else {
        None
    };
    let tail = options.tail_lines;
    // Rotated files hold older lines; they count when everything is asked for.
    if tail.is_none() {
        for old in rotated(&path) {
            let mut reader = Reader::open(&old, None).await?;
            if !reader.pump(&mut filter, &out).await? {
                return Ok(());
            }
        }
    }
    let mut reader = Reader::open(&path, tail).await?;
    loop {
        let alive = *running.borrow_and_update();
        if !reader.pump(&mut filter, &out).await? {
            return Ok(());
        }
        let Some(watcher) = &watcher else {
            return Ok(());
        };
        if reader.replaced(&path) {
            // What was written between the last read and the rotation.
            if !reader.pump(&mut filter, &out).await? {
                return Ok(());
            }
            reader = Reader::open(&path, None).await?;
            continue;
        }
        if !alive {
            return Ok(());
        }
        tokio::select! {
            ready = watcher.readable() => {
                let mut guard = ready?;
                // Only that something happened counts.
                match guard.get_inner().0.read_events() {
                    Ok(_) => {}
                    Err(nix::Error::EAGAIN) => guard.clear_ready(),
                    Err(errno) => return Err(errno.into()),
                }
            }
            changed = running.changed() => if changed.is_err() {
                running = watch::channel(false).1;
            },
            () = out.closed() => return Ok(()),
        }
    }
}

/// Makes the inotify descriptor fit for `AsyncFd`.
struct Notify(Inotify);

impl AsRawFd for Notify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn watch_dir(path: &Path) -> io::Result<AsyncFd<Notify>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(path.parent().unwrap_or(Path::new("/")), flags)?;
    #[allow(
        deprecated,
        reason = "an Inotify owns its descriptor and never changes it"
    )]
    AsyncFd::new(Notify(inotify))
}

/// The rotated files of a log, oldest first: `0.log.20260102-030405` or `0.log.1`.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| {
            let name = e.file_name();
            let text = name.to_str().unwrap_or_default();
            text.starts_with(&prefix) && !text.ends_with(".gz") && !text.ends_with(".tmp")
        })
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, p)| p).collect()
}

struct Reader {
    file: Option<File>,
    inode: u64,
    partial: Vec<u8>,
}

impl Reader {
    async fn open(path: &Path, tail: Option<u64>) -> io::Result<Self> {
        let path = path.to_path_buf();
        tokio::task::spawn_blocking(move || {
            let mut file = File::open(&path)?;
            let offset = match tail {
                Some(lines) => tail_offset(&mut file, lines)?,
                None => 0,
            };
            file.seek(SeekFrom::Start(offset))?;
            let inode = file.metadata()?.ino();
            Ok(Self {
                file: Some(file),
                inode,
                partial: Vec::new(),
            })
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Whether another file has taken the path.
    fn replaced(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| m.ino() != self.inode)
    }

    /// Sends everything up to the present end; false when the client wants no more.
    async fn pump(&mut self, filter: &mut Filter, out: &mpsc::Sender<Bytes>) -> io::Result<bool> {
        loop {
            let Some(mut file) = self.file.take() else {
                return Ok(false);
            };
            let (file, chunk) = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; CHUNK];
                let read = file.read(&mut chunk);
                (
                    file,
                    read.map(|n| {
                        chunk.truncate(n);
                        chunk
                    }),
                )
            })
            .await
            .map_err(io::Error::other)?;
            self.file = Some(file);
            let chunk = chunk?;
            if chunk.is_empty() {
                return Ok(true);
            }
            let mut sent = Vec::new();
            let more = self.lines(&chunk, filter, &mut sent);
            if !sent.is_empty() && out.send(sent.into()).await.is_err() {
                return Ok(false);
            }
            if !more {
                return Ok(false);
            }
        }
    }

    fn lines(&mut self, chunk: &[u8], filter: &mut Filter, sent: &mut Vec<u8>) -> bool {
        for piece in chunk.split_inclusive(|b| *b == b'\n') {
            if self.partial.len() + piece.len() <= MAX_LINE {
                self.partial.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                let more = filter.push(&self.partial, sent);
                self.partial.clear();
                if !more {
                    return false;
                }
            }
        }
        true
    }
}
