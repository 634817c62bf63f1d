//! The whole of it at work: one thread that writes queues, one task an output that empties its
//! own.
//!
//! Invariant: [`Forwarder::send`] does no more than pass a pointer on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::alert::{Alert, Priority};
use super::config::Config;
use super::delivery::{Log, Patience, Shared, Worker};
use super::enrich::Enrichment;
use super::http::HttpPublisher;
use super::metrics::{self, Counters, Inputs, add};
use super::outputs::policyreport::{ObjectStore, ReportPublisher};
use super::outputs::{Destination, Sink};
use super::publish::Publisher;
use super::queue::{Queue, QueueError};
use super::tls::TlsError;

/// How to run, besides what Falcosidekick's configuration says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the queues are: a directory an output.
    pub directory: PathBuf,
    /// How long the files of one output's queue may be together, in bytes.
    pub queue_bytes: u64,
    /// How many alerts may wait in memory for the thread that writes them.
    pub pending_alerts: usize,
    /// The delay after a first failure.
    pub first_retry: Duration,
    /// The longest delay between attempts.
    pub longest_retry: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
}

impl Options {
    /// The defaults, with queues below a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Options {
        Options {
            directory: directory.into(),
            queue_bytes: 64 * 1024 * 1024,
            pending_alerts: 1024,
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(120),
            attempt_timeout: Duration::from_secs(30),
        }
    }
}

/// Why forwarding cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A queue cannot be used.
    #[error("the queue of output {output} cannot be used")]
    Queue {
        /// The output.
        output: String,
        /// Why.
        source: QueueError,
    },
    /// TLS cannot be set up.
    #[error("TLS of output {output} cannot be set up")]
    Tls {
        /// The output.
        output: String,
        /// Why.
        source: TlsError,
    },
    /// `policyreport` is enabled where there are no objects to write.
    #[error("output policyreport needs a Kubernetes API to write its objects to")]
    NoObjects,
    /// No thread can be had.
    #[error("cannot start the thread that queues alerts")]
    Thread(#[source] std::io::Error),
}

/// Takes alerts, and brings them to every output that is configured.
pub struct Forwarder {
    alerts: SyncSender<Arc<Alert>>,
    writer: JoinHandle<()>,
    workers: JoinSet<()>,
    draining: watch::Sender<bool>,
    inputs: Arc<Inputs>,
    outputs: Arc<[Sorted]>,
}

/// An output, and which alerts it wants.
struct Sorted {
    shared: Arc<Shared>,
    minimum: Option<Priority>,
    sources: Option<&'static [&'static str]>,
}

impl Sorted {
    fn wants(&self, alert: &Alert) -> bool {
        self.minimum.is_none_or(|minimum| alert.priority >= minimum)
            && self
                .sources
                .is_none_or(|sources| sources.contains(&alert.source.as_str()))
    }
}

impl Forwarder {
    /// Starts. What a former run left in the queues is sent first. Must be called within a Tokio
    /// runtime. `objects` is where `policyreport` writes.
    pub fn start(
        config: Config,
        options: &Options,
        objects: Option<Arc<dyn ObjectStore>>,
    ) -> Result<Forwarder, StartError> {
        let (draining, watched) = watch::channel(false);
        let mut workers = Vec::new();
        let mut outputs = Vec::new();
        for destination in config.destinations {
            let Destination {
                name,
                minimum,
                sources,
                limits,
                sink,
            } = destination;
            let publisher = publisher(&name, sink, objects.as_ref())?;
            let directory = options.directory.join(&name);
            let queue = Queue::open(&directory, options.queue_bytes).map_err(|source| {
                StartError::Queue {
                    output: name.clone(),
                    source,
                }
            })?;
            let shared = Arc::new(Shared {
                name,
                queue: queue.into(),
                wake: Notify::new(),
                counters: Counters::default(),
            });
            shared.measure(&mut shared.queue());
            outputs.push(Sorted {
                shared: shared.clone(),
                minimum,
                sources,
            });
            workers.push(Worker {
                shared,
                publisher,
                limits,
                patience: Patience {
                    first: options.first_retry,
                    longest: options.longest_retry,
                    attempt: options.attempt_timeout,
                },
                draining: watched.clone(),
                log: Log::default(),
            });
        }
        let outputs: Arc<[Sorted]> = outputs.into();
        let inputs = Arc::new(Inputs::default());
        let (alerts, receiver) = sync_channel(options.pending_alerts);
        let writer = std::thread::Builder::new()
            .name("alert-queues".into())
            .spawn({
                let (outputs, inputs) = (outputs.clone(), inputs.clone());
                let enrichment = config.enrichment;
                move || write(&receiver, &enrichment, &outputs, &inputs)
            })
            .map_err(StartError::Thread)?;
        let mut set = JoinSet::new();
        for worker in workers {
            set.spawn(worker.run());
        }
        Ok(Forwarder {
            alerts,
            writer,
            workers: set,
            draining,
            inputs,
            outputs,
        })
    }

    /// Hands an alert over, without waiting. If alerts come faster than they can be written, they
    /// are dropped and counted.
    pub fn send(&self, alert: Arc<Alert>) {
        match self.alerts.try_send(alert) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                add(&self.inputs.rejected, 1);
            }
        }
    }

    /// The metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let outputs = self
            .outputs
            .iter()
            .map(|output| (output.shared.name.as_str(), &output.shared.counters));
        metrics::render(&self.inputs, outputs)
    }

    /// Stops: queues what was handed over, and gives the outputs so much time to empty their
    /// queues. What is left stays on disk for the next start. Gives the number of alerts left.
    pub async fn stop(mut self, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        drop(self.alerts);
        let writer = self.writer;
        let written = tokio::task::spawn_blocking(move || writer.join());
        if !matches!(written.await, Ok(Ok(()))) {
            tracing::error!("the thread that queues alerts failed");
        }
        // Who waits for its queue looks at it once more.
        let _ = self.draining.send(true);
        while let Ok(Some(_)) = timeout_at(deadline, self.workers.join_next()).await {}
        self.workers.shutdown().await;
        let outputs = self.outputs;
        let left = tokio::task::spawn_blocking(move || {
            let mut left = 0;
            for output in outputs.iter() {
                // Work on files that was under way ends by itself; only then is the queue free.
                while Arc::strong_count(&output.shared) > 1 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let queue = output.shared.queue();
                left += queue.len();
                if let Err(error) = queue.sync() {
                    let reason = stdx::chain::chain(&error);
                    tracing::warn!(output = output.shared.name, reason, "queue not synced");
                }
            }
            left
        });
        left.await.unwrap_or_default()
    }
}

fn publisher(
    name: &str,
    sink: Sink,
    objects: Option<&Arc<dyn ObjectStore>>,
) -> Result<Box<dyn Publisher>, StartError> {
    let tls = |source| StartError::Tls {
        output: name.into(),
        source,
    };
    Ok(match sink {
        Sink::Http(output, options) => Box::new(HttpPublisher::new(output, &options).map_err(tls)?),
        Sink::Own(publisher) => publisher,
        Sink::Objects(reports) => {
            let objects = objects.ok_or(StartError::NoObjects)?;
            Box::new(ReportPublisher::new(reports, objects.clone()))
        }
    })
}

/// The thread that queues: ends when nobody can send any more.
fn write(
    alerts: &Receiver<Arc<Alert>>,
    enrichment: &Enrichment,
    outputs: &[Sorted],
    inputs: &Inputs,
) {
    let mut logs: Vec<Log> = outputs.iter().map(|_| Log::default()).collect();
    while let Ok(alert) = alerts.recv() {
        add(&inputs.accepted, 1);
        let mut alert = Arc::unwrap_or_clone(alert);
        enrichment.apply(&mut alert);
        let mut json = None;
        let wanting = outputs
            .iter()
            .zip(&mut logs)
            .filter(|(output, _)| output.wants(&alert));
        for (output, log) in wanting {
            let json = json.get_or_insert_with(|| alert.to_json());
            let shared = &output.shared;
            let mut queue = shared.queue();
            if let Err(error) = queue.push(json) {
                add(&shared.counters.dropped, 1);
                log.failed(&shared.name, &stdx::chain::chain(&error));
            }
            shared.measure(&mut queue);
            drop(queue);
            shared.wake.notify_one();
        }
    }
}
