//! The audit log in a file, one line an event; the file is put aside when it is full, and old ones
//! are removed.
//!
//! Invariants: files are readable by their owner alone; writing happens on a thread of its own, many
//! lines at a time; in blocking mode an event is written before its request is answered.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Event, Sink};

/// How many events wait to be written.
const BUFFER_EVENTS: usize = 10_000;
/// How many are written at once.
const BATCH_EVENTS: usize = 512;

/// How an event becomes a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The event in JSON.
    #[default]
    Json,
    /// The old text format.
    Legacy,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// For nothing; what does not fit into the buffer is lost.
    Batch,
    /// Until its events are written.
    #[default]
    Blocking,
    /// As blocking, and a request whose first event is lost is refused.
    BlockingStrict,
}

/// Where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The file; `None` for standard output.
    pub path: Option<PathBuf>,
    /// How an event becomes a line.
    pub format: Format,
    /// What a request waits for.
    pub mode: Mode,
    /// The size at which a file is put aside.
    pub max_size_bytes: u64,
    /// How long files that were put aside are kept; 0 for ever.
    pub max_age_days: u32,
    /// How many of them are kept; 0 for all.
    pub max_backups: usize,
    /// Larger events lose their objects.
    pub max_event_bytes: Option<usize>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            path: None,
            format: Format::Json,
            mode: Mode::Blocking,
            max_size_bytes: 100 << 20,
            max_age_days: 366,
            max_backups: 100,
            max_event_bytes: None,
        }
    }
}

struct Line {
    text: String,
    written: Option<oneshot::Sender<bool>>,
}

/// Writes events to a file.
pub struct LogSink {
    options: LogOptions,
    lines: Mutex<Option<mpsc::Sender<Line>>>,
    sender: mpsc::WeakSender<Line>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl LogSink {
    /// Opens the file and starts its thread.
    ///
    /// # Errors
    /// The file cannot be opened, or there can be no further thread.
    pub fn open(options: LogOptions) -> io::Result<Arc<Self>> {
        let mut out = Output::open(&options)?;
        let (sender, mut lines) = mpsc::channel(BUFFER_EVENTS);
        let writer = std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || {
                let mut batch: Vec<Line> = Vec::new();
                while lines.blocking_recv_many(&mut batch, BATCH_EVENTS) > 0 {
                    let written = out.write(&batch);
                    if let Err(error) = &written {
                        tracing::error!("writing the audit log: {error}");
                    }
                    for line in batch.drain(..) {
                        if let Some(waiting) = line.written {
                            // Who waited may have gone.
                            let _ = waiting.send(written.is_ok());
                        }
                    }
                }
            })?;
        Ok(Arc::new(Self {
            options,
            sender: sender.downgrade(),
            lines: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
        }))
    }
}

impl Sink for LogSink {
    fn name(&self) -> &'static str {
        "log"
    }

    fn strict(&self) -> bool {
        self.options.mode == Mode::BlockingStrict
    }

    fn take(&self, event: Arc<Event>) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let Some(sender) = self.sender.upgrade() else {
                return false;
            };
            let text = match self.options.format {
                Format::Legacy => Ok(event.to_legacy()),
                Format::Json => event.to_json(self.options.max_event_bytes),
            };
            let Ok(mut text) = text else {
                return false;
            };
            text.push('\n');
            if self.options.mode == Mode::Batch {
                let line = Line {
                    text,
                    written: None,
                };
                return sender.try_send(line).is_ok();
            }
            let (written, waiting) = oneshot::channel();
            let line = Line {
                text,
                written: Some(written),
            };
            sender.send(line).await.is_ok() && waiting.await.unwrap_or(false)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.lines.lock().await.take();
            if let Some(writer) = self.writer.lock().await.take() {
                let joined = tokio::task::spawn_blocking(move || writer.join()).await;
                if !matches!(joined, Ok(Ok(()))) {
                    tracing::error!("the audit log's thread has died");
                }
            }
        })
    }
}

enum Output {
    Standard,
    File(Rotated),
}

impl Output {
    fn open(options: &LogOptions) -> io::Result<Self> {
        Ok(match &options.path {
            None => Self::Standard,
            Some(path) => Self::File(Rotated::open(path, options)?),
        })
    }

    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        match self {
            Self::Standard => {
                let mut out = io::stdout().lock();
                for line in lines {
                    out.write_all(line.text.as_bytes())?;
                }
                out.flush()
            }
            Self::File(file) => file.write(lines),
        }
    }
}

/// A file that is put aside when it is full.
struct Rotated {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    options: LogOptions,
    /// When it was put aside last.
    rotated: Timestamp,
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

impl Rotated {
    fn open(path: &Path, options: &LogOptions) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            size_bytes: file.metadata()?.len(),
            file,
            options: options.clone(),
            rotated: Timestamp::UNIX_EPOCH,
        })
    }

    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut chunk: Vec<u8> = Vec::new();
        for line in lines {
            let (waiting, next) = (chunk.len() as u64, line.text.len() as u64);
            let full = self.size_bytes + waiting + next > self.options.max_size_bytes;
            if full && self.size_bytes + waiting > 0 {
                self.flush(&mut chunk)?;
                self.rotate()?;
            }
            chunk.extend_from_slice(line.text.as_bytes());
        }
        self.flush(&mut chunk)
    }

    fn flush(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.size_bytes += chunk.len() as u64;
        chunk.clear();
        Ok(())
    }

    /// Puts the file aside under the time, begins another, and removes what is too old.
    fn rotate(&mut self) -> io::Result<()> {
        let (stem, extension) = self.parts();
        // Later than the last one, so that names are in order.
        let mut at = Timestamp::now().max(self.rotated + Duration::from_millis(1));
        let aside = loop {
            let time = at.strftime("%Y-%m-%dT%H-%M-%S.%3f");
            let aside = self
                .path
                .with_file_name(format!("{stem}-{time}{extension}"));
            if !aside.exists() {
                break aside;
            }
            at += Duration::from_millis(1);
        };
        self.rotated = at;
        std::fs::rename(&self.path, aside)?;
        self.file = open(&self.path)?;
        self.size_bytes = 0;
        self.remove_old();
        Ok(())
    }

    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let extension = text(self.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (text(self.path.file_stem()), format!("{dot}{extension}"))
    }

    fn remove_old(&self) {
        let (stem, extension) = self.parts();
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        let mut aside: Vec<(String, PathBuf, SystemTime)> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let time = name
                    .strip_prefix(&format!("{stem}-"))?
                    .strip_suffix(&extension)?;
                let is_time = time.len() == 23 && time.starts_with("20") && time.contains('T');
                let modified = entry.metadata().ok()?.modified().ok()?;
                is_time.then(|| (time.to_owned(), entry.path(), modified))
            })
            .collect();
        aside.sort_by(|a, b| b.0.cmp(&a.0));
        let day = Duration::from_secs(24 * 60 * 60);
        let oldest = SystemTime::now().checked_sub(day * self.options.max_age_days);
        for (index, (_, path, modified)) in aside.iter().enumerate() {
            let many = self.options.max_backups > 0 && index >= self.options.max_backups;
            let old =
                self.options.max_age_days > 0 && oldest.is_some_and(|oldest| *modified < oldest);
            if (many || old)
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::warn!("removing the old audit log {}: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Line, LogOptions, Rotated};

    #[test]
    fn full_files_are_put_aside_and_old_ones_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let options = LogOptions {
            max_size_bytes: 10,
            max_backups: 2,
            ..LogOptions::default()
        };
        let mut log = Rotated::open(&path, &options).unwrap();
        let lines: Vec<Line> = (0..5)
            .map(|n| Line {
                text: format!("line {n}\n"),
                written: None,
            })
            .collect();
        log.write(&lines).unwrap();
        log.write(&[Line {
            text: "a line that is longer than a file may be\n".to_owned(),
            written: None,
        }])
        .unwrap();
        let mut files: Vec<(String, String)> = std::fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(
                    entry.metadata().unwrap().permissions().mode() & 0o777,
                    0o600
                );
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        let texts: Vec<&str> = files.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "line 3\n",
                "line 4\n",
                "a line that is longer than a file may be\n"
            ]
        );
        assert!(files[0].0.starts_with("audit-20") && files[0].0.ends_with(".log"));
        // A later start goes on in the same file.
        let again = Rotated::open(&path, &options).unwrap();
        assert_eq!(again.size_bytes, 41);
    }
}
