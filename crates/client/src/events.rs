//! Records events about objects, as `kubectl describe` shows them.
//!
//! Invariants: recording never blocks and never fails its caller; a flood about one object is
//! held back by a token bucket; repeats become a count, and many alike become one.

use crate::{Client, Key};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Events that wait to be written.
const QUEUE_LENGTH: usize = 1000;
/// Objects and events that are remembered for counting.
const MEMORY: usize = 4096;
/// How long a repeat counts as one.
const SIMILAR_FOR: Duration = Duration::from_secs(600);
/// Different messages with the same reason before they are written as one.
const SIMILAR_LIMIT: usize = 10;
/// Events about one object at once, and the time in which it earns one more.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);

/// The weight of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Information.
    Normal,
    /// Something that may need attention.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The component, for example `kubelet`.
    pub component: String,
    /// The node it runs on, if that matters.
    pub host: Option<String>,
}

/// Records events; never blocks its callers. Cloning shares it.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

struct Record {
    object: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

impl Events {
    /// A recorder for `source` whose writer task ends with `drain`.
    pub fn start(client: Client, source: Source, drain: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(async move {
            drain
                .run_until_cancelled(write_all(client, source, receiver))
                .await;
        });
        Self {
            sender,
            dropped: Arc::default(),
        }
    }

    /// Records that something happened to `object` (see [`crate::reference`]).
    pub fn record(
        &self,
        object: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut message = message.into();
        // The API takes 1024 characters; upstream cuts by bytes, so does this.
        if message.len() > 1024 {
            let mut end = 1020;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push_str(" ...");
        }
        let record = Record {
            object: object.clone(),
            kind,
            reason: reason.to_owned(),
            message,
            at: Timestamp::now(),
        };
        if self.sender.try_send(record).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(
                    dropped,
                    "events are recorded faster than they can be written"
                );
            }
        }
    }
}

async fn write_all(client: Client, source: Source, mut receiver: mpsc::Receiver<Record>) {
    let mut correlator = Correlator::new();
    while let Some(record) = receiver.recv().await {
        let (object, reason) = (record.object.clone(), record.reason.clone());
        let Some(write) = correlator.correlate(record, Instant::now()) else {
            continue;
        };
        if let Err(error) = put(&client, &source, &mut correlator, write).await {
            let error = stdx::chain(&error);
            tracing::debug!(
                namespace = object.namespace,
                name = object.name,
                reason,
                error,
                "event not written"
            );
        }
    }
}

async fn put(
    client: &Client,
    source: &Source,
    correlator: &mut Correlator,
    write: Write,
) -> Result<(), kube::Error> {
    let namespace = match write.record.object.namespace.as_deref() {
        None | Some("") => "default",
        Some(namespace) => namespace,
    };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Some(name) = &write.name {
        let patch = serde_json::json!({
            "count": write.count,
            "message": write.record.message,
            "lastTimestamp": Time(write.record.at),
        });
        match events
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(error) if crate::is_not_found(&error) => {}
            result => return result.map(drop),
        }
    }
    let event = event(source, namespace, &write);
    let created = events.create(&PostParams::default(), &event).await?;
    correlator.written(write.similar, created.metadata.name.unwrap_or_default());
    Ok(())
}

fn event(source: &Source, namespace: &str, write: &Write) -> Event {
    let record = &write.record;
    let object = record.object.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{:x}", record.at.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: record.object.clone(),
        type_: Some(record.kind.as_str().to_owned()),
        reason: Some(record.reason.clone()),
        message: Some(record.message.clone()),
        source: Some(EventSource {
            component: Some(source.component.clone()),
            host: source.host.clone(),
        }),
        first_timestamp: Some(Time(write.first)),
        last_timestamp: Some(Time(record.at)),
        count: Some(write.count),
        reporting_component: Some(source.component.clone()),
        reporting_instance: Some(source.host.clone().unwrap_or_default()),
        ..Event::default()
    }
}

/// What events have in common that may be counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Alike {
    uid: String,
    key: Key,
    field: Option<String>,
    kind: EventType,
    reason: String,
}

/// The same event again: also the message is equal.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Similar {
    alike: Alike,
    message: String,
}

struct Write {
    record: Record,
    similar: Similar,
    count: i32,
    first: Timestamp,
    /// The event to count up, if there is one.
    name: Option<String>,
}

struct Messages {
    seen: HashSet<String>,
    last: Instant,
}

struct Written {
    count: i32,
    first: Timestamp,
    name: Option<String>,
    last: Instant,
}

struct Bucket {
    tokens: f64,
    last: Instant,
}

/// Decides what becomes of a record: pure but for its memory.
struct Correlator {
    messages: HashMap<Alike, Messages>,
    written: HashMap<Similar, Written>,
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    fn new() -> Self {
        Self {
            messages: HashMap::new(),
            written: HashMap::new(),
            buckets: HashMap::new(),
        }
    }

    fn correlate(&mut self, mut record: Record, now: Instant) -> Option<Write> {
        let object = &record.object;
        let alike = Alike {
            uid: object.uid.clone().unwrap_or_default(),
            key: Key::new(
                object.namespace.as_deref().unwrap_or_default(),
                object.name.as_deref().unwrap_or_default(),
            ),
            field: object.field_path.clone(),
            kind: record.kind,
            reason: record.reason.clone(),
        };
        let combined = self.is_one_of_many(&alike, &record.message, now);
        let message = if combined {
            String::new()
        } else {
            record.message.clone()
        };
        if combined {
            record.message = format!("(combined from similar events): {}", record.message);
        }
        if !self.take_token(format!("{} {}", alike.uid, alike.key), now) {
            return None;
        }
        let similar = Similar { alike, message };
        make_room(&mut self.written, |w| w.last, now);
        let written = self
            .written
            .entry(similar.clone())
            .or_insert_with(|| Written {
                count: 0,
                first: record.at,
                name: None,
                last: now,
            });
        written.count = written.count.saturating_add(1);
        written.last = now;
        let (count, first, name) = (written.count, written.first, written.name.clone());
        Some(Write {
            record,
            similar,
            count,
            first,
            name,
        })
    }

    fn is_one_of_many(&mut self, alike: &Alike, message: &str, now: Instant) -> bool {
        make_room(&mut self.messages, |m| m.last, now);
        let messages = self
            .messages
            .entry(alike.clone())
            .or_insert_with(|| Messages {
                seen: HashSet::new(),
                last: now,
            });
        if now.duration_since(messages.last) > SIMILAR_FOR {
            messages.seen.clear();
        }
        messages.last = now;
        if messages.seen.len() < SIMILAR_LIMIT {
            messages.seen.insert(message.to_owned());
        }
        messages.seen.len() >= SIMILAR_LIMIT && !messages.seen.contains(message)
    }

    fn take_token(&mut self, object: String, now: Instant) -> bool {
        make_room(&mut self.buckets, |b| b.last, now);
        let bucket = self.buckets.entry(object).or_insert(Bucket {
            tokens: BURST,
            last: now,
        });
        let earned = now.duration_since(bucket.last).as_secs_f64() / REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        bucket.last = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn written(&mut self, similar: Similar, name: String) {
        if let Some(written) = self.written.get_mut(&similar) {
            written.name = Some(name);
        }
    }
}

/// Keeps a memory bounded: forgets what is old, and if that is not enough, everything.
fn make_room<K: Eq + Hash, V>(
    memory: &mut HashMap<K, V>,
    last: impl Fn(&V) -> Instant,
    now: Instant,
) {
    if memory.len() >= MEMORY {
        memory.retain(|_, v| now.duration_since(last(v)) < SIMILAR_FOR);
        if memory.len() >= MEMORY {
            memory.clear();
        }
    }
}
