//! Where alerts go. Each output has a thread and a bounded queue of its own: one that is slow or gone
//! holds up neither the engine nor the other outputs. What its queue cannot take is counted and said.
//!
//! A new output is a file here: an implementation of [`Output`], and a line where the configuration
//! makes it.
//!
//! Invariant: handing out an alert never waits.

mod file;
mod forward;
mod http;
mod program;
mod stdout;
mod syslog;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rules::Priority;

pub use file::FileOutput;
pub use forward::{ForwardOptions, ForwardOutput};
pub use http::{HttpOptions, HttpOutput};
pub use program::ProgramOutput;
pub use stdout::StdoutOutput;
pub use syslog::SyslogOutput;

/// How many alerts wait for an output at most, where the configuration says nothing.
pub const DEFAULT_CAPACITY: usize = 8192;

/// How long an output that has nothing to do waits before it writes out what it holds back.
const IDLE: Duration = Duration::from_millis(200);

/// An alert, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When it happened, in nanoseconds since 1970.
    pub time_ns: u64,
    /// How grave it is.
    pub priority: Priority,
    /// The rule's name.
    pub rule: String,
    /// Where the event came from.
    pub source: &'static str,
    /// The rule's tags.
    pub tags: Vec<String>,
    /// The line that is written: text, or JSON where that is wanted.
    pub line: String,
    /// The alert as JSON, for outputs that want its fields; empty if no output does.
    pub json: String,
}

/// Why an alert was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file cannot be written.
    #[error("cannot write to {path}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A program cannot be run, or does not read.
    #[error("cannot give the alert to {program}")]
    Program {
        /// Its command line.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The standard output cannot be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] std::io::Error),
    /// The system log cannot be reached.
    #[error("cannot write to the system log at {path}")]
    Syslog {
        /// Its socket.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use {path}: {problem}")]
    Credentials {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A server cannot be reached.
    #[error("cannot send to {url}")]
    Http {
        /// Where.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// A server does not take it.
    #[error("{url} answers {status}")]
    Status {
        /// Where.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The configuration of services cannot be used, or a queue not be opened.
    #[error("cannot forward alerts as {path} says: {problem}")]
    Forward {
        /// The configuration.
        path: std::path::PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An alert is not what services are told.
    #[error("the alert cannot be forwarded")]
    Alert(#[source] crate::forward::AlertError),
    /// A thread or a runtime cannot be made.
    #[error("cannot start the output")]
    Start(#[source] std::io::Error),
}

/// Somewhere to write alerts.
pub trait Output: Send {
    /// Its name in messages and metrics.
    fn name(&self) -> &'static str;

    /// Writes an alert. It may wait; it should not wait for ever.
    ///
    /// # Errors
    /// When the alert is lost.
    fn deliver(&mut self, message: &Message) -> Result<(), OutputError>;

    /// Writes out what it holds back.
    ///
    /// # Errors
    /// When that is lost.
    fn flush(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    /// Opens anew what it writes to: after files were moved away.
    ///
    /// # Errors
    /// When that fails.
    fn reopen(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
}

/// Counts of an output.
#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// What an output did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputStats {
    /// Its name.
    pub name: &'static str,
    /// Alerts that were written.
    pub delivered: u64,
    /// Alerts that could not be written.
    pub failed: u64,
    /// Alerts for which there was no room.
    pub dropped: u64,
}

struct Lane {
    name: &'static str,
    sender: Option<SyncSender<Arc<Message>>>,
    counts: Arc<Counts>,
    reopen: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// All outputs. Dropped, they have written what was handed to them.
#[derive(Default)]
pub struct Outputs {
    lanes: Vec<Lane>,
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.lanes.iter().map(|lane| lane.name))
            .finish()
    }
}

impl Outputs {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an output that `capacity` alerts may wait for; 0 stands for the default.
    ///
    /// # Errors
    /// When it cannot have a thread.
    pub fn add(&mut self, output: Box<dyn Output>, capacity: usize) -> Result<(), OutputError> {
        let capacity = match capacity {
            0 => DEFAULT_CAPACITY,
            capacity => capacity,
        };
        let (sender, receiver) = sync_channel(capacity);
        let counts = Arc::new(Counts::default());
        let reopen = Arc::new(AtomicBool::new(false));
        let name = output.name();
        let thread = std::thread::Builder::new()
            .name(format!("output-{name}"))
            .spawn({
                let (counts, reopen) = (Arc::clone(&counts), Arc::clone(&reopen));
                move || work(output, &receiver, &counts, &reopen)
            })
            .map_err(OutputError::Start)?;
        self.lanes.push(Lane {
            name,
            sender: Some(sender),
            counts,
            reopen,
            thread: Some(thread),
        });
        Ok(())
    }

    /// Hands an alert to every output. What an output has no room for it loses, and that is counted.
    pub fn send(&self, message: Message) {
        let message = Arc::new(message);
        for lane in &self.lanes {
            let Some(sender) = &lane.sender else { continue };
            match sender.try_send(Arc::clone(&message)) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    let before = lane.counts.dropped.fetch_add(1, Ordering::Relaxed);
                    // The first loss is said, and then each time that there are twice as many.
                    if (before + 1).is_power_of_two() {
                        tracing::error!(
                            output = lane.name,
                            dropped = before + 1,
                            "alerts are lost: the output does not keep up"
                        );
                    }
                }
            }
        }
    }

    /// Has every output open its files anew.
    pub fn reopen(&self) {
        for lane in &self.lanes {
            lane.reopen.store(true, Ordering::Release);
        }
    }

    /// What each output did.
    #[must_use]
    pub fn stats(&self) -> Vec<OutputStats> {
        self.lanes
            .iter()
            .map(|lane| OutputStats {
                name: lane.name,
                delivered: lane.counts.delivered.load(Ordering::Relaxed),
                failed: lane.counts.failed.load(Ordering::Relaxed),
                dropped: lane.counts.dropped.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// Waits until everything is written, and ends the outputs.
    pub fn finish(mut self) -> Vec<OutputStats> {
        self.end();
        self.stats()
    }

    fn end(&mut self) {
        for lane in &mut self.lanes {
            lane.sender = None;
        }
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take()
                && thread.join().is_err()
            {
                tracing::error!(output = lane.name, "the output panicked");
            }
        }
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.end();
    }
}

/// What an output's thread does.
fn work(
    mut output: Box<dyn Output>,
    receiver: &Receiver<Arc<Message>>,
    counts: &Counts,
    reopen: &AtomicBool,
) {
    let mut complaints = Complaints::default();
    loop {
        let received = receiver.recv_timeout(IDLE);
        if reopen.swap(false, Ordering::AcqRel)
            && let Err(error) = output.reopen()
        {
            complaints.say(output.name(), &error);
        }
        let done = match received {
            Ok(message) => match output.deliver(&message) {
                Ok(()) => {
                    counts.delivered.fetch_add(1, Ordering::Relaxed);
                    complaints.forget();
                    Ok(())
                }
                Err(error) => {
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    Err(error)
                }
            },
            Err(RecvTimeoutError::Timeout) => output.flush(),
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(error) = output.flush() {
                    complaints.say(output.name(), &error);
                }
                return;
            }
        };
        if let Err(error) = done {
            complaints.say(output.name(), &error);
        }
    }
}

/// Says what goes wrong again and again only now and then.
#[derive(Default)]
struct Complaints(u64);

impl Complaints {
    fn say(&mut self, output: &str, error: &OutputError) {
        self.0 += 1;
        if self.0.is_power_of_two() {
            let error = stdx::chain(error);
            tracing::error!(output, times = self.0, error, "an alert was not delivered");
        }
    }

    fn forget(&mut self) {
        self.0 = 0;
    }
}
