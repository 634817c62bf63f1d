//! One watch: a cursor into a kind's ring, or into the store's history until it meets the ring.
//!
//! Invariants: each change is delivered once, in the order of revisions; a bookmark's revision is
//! one up to which everything was delivered.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::resource::{Resource, ResourceRef};
use api::status::ApiError;
use bytes::Bytes;
use futures::Stream;
use serde_json::json;
use store::{Event, EventKind, Revision, StoreError, Subscription};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::filter::Filter;
use super::kind::{Change, KindCache};
use super::object::{EventType, Object};
use crate::conversion;
use crate::pipeline::form::Form;
use crate::state::State;
use crate::storage;

/// How many changes are rendered at a time.
const BATCH: usize = 128;
/// How often a bookmark is sent.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What a watch is made of.
pub(crate) struct Options {
    pub(crate) filter: Filter,
    pub(crate) form: Form,
    /// The state to begin with, as ADDED events.
    pub(crate) initial: Vec<Arc<Object>>,
    /// Changes after this revision follow.
    pub(crate) after: Revision,
    /// Whether bookmarks are wanted.
    pub(crate) bookmarks: bool,
    /// Whether the initial state ends with an annotated bookmark.
    pub(crate) mark_initial: bool,
    pub(crate) timeout: Duration,
}

enum Source {
    Ring,
    History(Box<Subscription>),
}

pub(crate) struct Watcher {
    state: Arc<State>,
    kind: Arc<KindCache>,
    /// Told when definitions change; of custom resources only.
    definitions: Option<watch::Receiver<u64>>,
    filter: Filter,
    form: Form,
    initial: std::vec::IntoIter<Arc<Object>>,
    mark_initial: bool,
    cursor: Revision,
    source: Source,
    changed: watch::Receiver<Revision>,
    ready: VecDeque<Bytes>,
    deadline: Instant,
    bookmark_at: Option<Instant>,
    /// Until [`Watcher::wake_at`]; kept from step to step, as a timer is dear to set.
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl Watcher {
    pub(crate) fn new(state: &Arc<State>, kind: Arc<KindCache>, options: Options) -> Self {
        let now = Instant::now();
        let custom = options.form.resource().schema.custom().is_some();
        let mut watcher = Self {
            changed: kind.subscribe(),
            state: state.clone(),
            kind,
            definitions: custom.then(|| state.resources.subscribe()),
            filter: options.filter,
            form: options.form,
            initial: options.initial.into_iter(),
            mark_initial: options.mark_initial,
            cursor: options.after,
            source: Source::Ring,
            ready: VecDeque::new(),
            deadline: now + options.timeout,
            bookmark_at: options.bookmarks.then(|| now + BOOKMARK_EVERY),
            timer: Box::pin(tokio::time::sleep_until(now + options.timeout)),
            ended: false,
        };
        if !watcher.kind.reaches(watcher.cursor) {
            // A revision that is gone is told in the stream, where clients expect it.
            if let Err(error) = watcher.read_history() {
                watcher.fail(&error);
            }
        }
        watcher
    }

    /// The frames as a stream for a response body; ends with the watch.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        futures::stream::unfold(self, |mut watcher| async move {
            watcher.next().await.map(|frame| (frame, watcher))
        })
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if let Some(object) = self.initial.next() {
                return Some(self.form.frame(EventType::Added, &object));
            }
            if std::mem::take(&mut self.mark_initial) {
                return Some(self.bookmark(true));
            }
            if self.ended {
                return None;
            }
            match self.source {
                Source::Ring => self.step_ring().await,
                Source::History(_) => self.step_history().await,
            }
        }
    }

    async fn step_ring(&mut self) {
        self.changed.borrow_and_update();
        // Before the changes: those of a definition that has gone are seen still.
        let current = self.is_current();
        match self.kind.since(self.cursor, BATCH) {
            None => {
                if let Err(error) = self.read_history() {
                    self.fail(&error);
                }
                return;
            }
            Some(changes) if !changes.is_empty() => {
                self.deliver_all(changes).await;
                return;
            }
            // The cache wakes all watchers when the drain begins.
            Some(_) if !current || self.state.drain.is_cancelled() => {
                self.ended = true;
                return;
            }
            Some(_) => {}
        }
        self.set_timer();
        tokio::select! {
            changed = self.changed.changed() => if changed.is_err() { self.ended = true },
            () = redefined(&mut self.definitions) => {}
            () = &mut self.timer => self.tick(true).await,
        }
    }

    async fn step_history(&mut self) {
        self.set_timer();
        let Source::History(subscription) = &mut self.source else {
            return;
        };
        let state = self.state.clone();
        let batch = tokio::select! {
            batch = subscription.next() => batch,
            () = &mut self.timer => return self.tick(false).await,
            () = state.drain.cancelled() => {
                self.ended = true;
                return;
            }
        };
        match batch {
            Ok(batch) => {
                let changes = batch.events.iter().filter_map(|event| self.change(event));
                let changes = changes.collect();
                self.deliver_all(changes).await;
                self.ended |= !self.is_current();
                if self.kind.reaches(self.cursor) {
                    self.source = Source::Ring;
                }
            }
            Err(StoreError::Closed) => self.ended = true,
            Err(error) => {
                let error = expired(&error, self.cursor);
                self.fail(&error);
            }
        }
    }

    /// When there is a bookmark to send, or the watch ends.
    fn wake_at(&self) -> Instant {
        self.bookmark_at
            .map_or(self.deadline, |at| at.min(self.deadline))
    }

    fn set_timer(&mut self) {
        let wake = self.wake_at();
        if self.timer.deadline() != wake {
            self.timer.as_mut().reset(wake);
        }
    }

    /// The time of a bookmark or of the end has come.
    async fn tick(&mut self, in_ring: bool) {
        let now = Instant::now();
        if in_ring && self.bookmark_at.is_some() {
            // Read how far the cache is, then what is left below that.
            let applied = self.state.cache.applied();
            while let Some(changes) = self.kind.since(self.cursor, BATCH)
                && !self.ended
            {
                if changes.is_empty() {
                    self.cursor = self.cursor.max(applied);
                    break;
                }
                self.deliver_all(changes).await;
            }
        }
        if self.ended {
            return;
        }
        if self.bookmark_at.is_some() {
            let mark = self.bookmark(false);
            self.ready.push_back(mark);
            self.bookmark_at = Some(now + BOOKMARK_EVERY);
        }
        if now >= self.deadline {
            self.ended = true;
        }
    }

    /// Whether the resource is served as it was when the watch began. Clients go on where it ended.
    fn is_current(&self) -> bool {
        if self.definitions.is_none() {
            return true;
        }
        let own = self.form.resource();
        let found = self
            .state
            .resources
            .find(&own.group, &own.version, &own.plural);
        let id = |resource: &Resource| resource.schema.custom().map(|custom| custom.id());
        found.is_some_and(|found| id(&found) == id(own))
    }

    /// Renders changes, custom resources in the version that is watched.
    async fn deliver_all(&mut self, mut changes: Vec<Change>) {
        if self.definitions.is_some() {
            let last = changes.last().map(|change| change.revision);
            changes.retain(|change| self.filter.may_match(&change.object));
            let state = self.state.clone();
            let brought = tokio::select! {
                brought = brought(&state, self.form.resource(), changes) => brought,
                () = state.drain.cancelled() => {
                    self.ended = true;
                    return;
                }
            };
            changes = match brought {
                Ok(changes) => changes,
                // What cannot be had any more ends with what it was.
                Err(_) if !self.is_current() => {
                    self.ended = true;
                    return;
                }
                Err(error) => return self.fail(&error),
            };
            for change in &changes {
                self.deliver(change);
            }
            self.cursor = self.cursor.max(last.unwrap_or_default());
            return;
        }
        for change in &changes {
            self.deliver(change);
        }
    }

    /// Renders a change for this watcher, if it is about its objects.
    fn deliver(&mut self, change: &Change) {
        self.cursor = self.cursor.max(change.revision);
        let was = change
            .before
            .as_deref()
            .is_some_and(|before| self.filter.matches(before));
        let is = !change.deleted && self.filter.matches(&change.object);
        let frame = match (was, is) {
            (true, true) => self.form.frame(EventType::Modified, &change.object),
            (false, true) => self.form.frame(EventType::Added, &change.object),
            (true, false) => {
                // The old object, at the new revision.
                let gone = if change.deleted {
                    Ok(change.object.clone())
                } else {
                    let before = change.before.as_ref().unwrap_or(&change.object);
                    before.at(change.revision, EventType::Deleted).map(Arc::new)
                };
                let Ok(gone) = gone else { return };
                self.form.frame(EventType::Deleted, &gone)
            }
            (false, false) => return,
        };
        self.ready.push_back(frame);
    }

    /// A change as the store's history has it.
    fn change(&mut self, event: &Event) -> Option<Change> {
        let (_, _, local) = storage::split(&event.key)?;
        let deleted = event.kind == EventKind::Deleted;
        let object = |value: &Bytes, kind| {
            Object::from_stored(
                Arc::from(local),
                value,
                event.revision,
                kind,
                self.kind.schema,
            )
            .ok()
            .map(Arc::new)
        };
        let after = object(
            &event.value,
            if deleted {
                EventType::Deleted
            } else {
                EventType::Modified
            },
        )?;
        let before = match &event.previous {
            Some(previous) => object(previous, EventType::Deleted),
            None if deleted => Some(after.clone()),
            None => None,
        };
        Some(Change {
            revision: event.revision,
            before,
            object: after,
            deleted,
        })
    }

    fn read_history(&mut self) -> Result<(), ApiError> {
        let prefix = storage::prefix(&self.kind.group, &self.kind.plural);
        let subscription = self
            .state
            .store
            .subscribe(&prefix, self.cursor)
            .map_err(|error| expired(&error, self.cursor))?;
        self.source = Source::History(Box::new(subscription));
        Ok(())
    }

    fn bookmark(&self, initial: bool) -> Bytes {
        let resource = self.form.resource();
        let mut metadata = json!({"resourceVersion": self.cursor.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = self.form.bookmark(json!({
            "apiVersion": &resource.api_version, "kind": &resource.kind, "metadata": metadata,
        }));
        self.form.event("BOOKMARK", &object)
    }

    fn fail(&mut self, error: &ApiError) {
        let last = self.form.event("ERROR", &error.to_value());
        self.ready.push_back(last);
        self.ended = true;
    }
}

/// Waits until any definition changes; for ever where that is of no interest.
async fn redefined(definitions: &mut Option<watch::Receiver<u64>>) {
    match definitions {
        // The registry lives as long as the watch; what changed is looked at with the next step.
        Some(definitions) => drop(definitions.changed().await),
        None => std::future::pending().await,
    }
}

/// Changes with their objects as a resource reads them.
async fn brought(
    state: &State,
    resource: &ResourceRef,
    changes: Vec<Change>,
) -> Result<Vec<Change>, ApiError> {
    let objects = changes.iter();
    let objects = objects.flat_map(|change| change.before.iter().chain([&change.object]));
    let objects = objects.cloned().collect();
    let mut objects = conversion::bring(state, resource, objects)
        .await?
        .into_iter();
    let mut brought = changes;
    for change in &mut brought {
        // As many come back as went in.
        if let Some(before) = &mut change.before {
            *before = objects.next().unwrap_or_else(|| before.clone());
        }
        if let Some(object) = objects.next() {
            change.object = object;
        }
    }
    Ok(brought)
}

fn expired(error: &StoreError, requested: Revision) -> ApiError {
    match error {
        StoreError::Compacted { oldest } => ApiError::too_old(requested.0, oldest.0),
        StoreError::Lagged => ApiError::expired(format!(
            "too old resource version: {requested} (the watch fell behind)"
        )),
        error => ApiError::internal(stdx::chain::chain(error)),
    }
}
