//! Lists a collection and follows its changes: a state machine with one `step`.
//!
//! Invariants: the resource version only comes from the server; after 410 the collection is
//! listed again, never guessed; a failure waits for its backoff, with jitter.

use crate::{Client, Object, Selector};
use bytes::Bytes;
use http::header::ACCEPT;
use http_body_util::{BodyExt, Limited};
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::{Status, WatchEvent};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Longest accepted line of a watch and page of a list, in bytes.
const LINE_LIMIT_BYTES: usize = 16 << 20;
const PAGE_LIMIT_BYTES: usize = 1 << 30;
/// A watch is asked to end after this many seconds, plus up to as many again.
const WATCH_SECS: u32 = 290;
/// How long after that a silent watch is given up.
const WATCH_GRACE: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(30);

const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// What happened to a collection.
pub(crate) enum Change<K> {
    /// The whole collection.
    Replaced(Vec<K>),
    /// An object was created or changed.
    Applied(K),
    /// An object went away; its last state.
    Deleted(K),
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("request to the API server failed")]
    Client(#[from] kube::Error),
    #[error("cannot build the request")]
    Request(#[source] kube::core::request::Error),
    #[error("the API server answered {}: {}", .0.code, .0.message)]
    Status(Box<Status>),
    #[error("cannot read the answer")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot decode the answer")]
    Decode(#[source] serde_json::Error),
    #[error("a line of the watch is longer than {limit_bytes} bytes")]
    LineTooLong { limit_bytes: usize },
    #[error("the watch was silent for {seconds} s")]
    Silent { seconds: u64 },
    #[error("the watch ended at once")]
    Short,
}

impl WatchError {
    fn is_gone(&self) -> bool {
        match self {
            Self::Status(status) => status.code == 410,
            Self::Client(kube::Error::Api(status)) => status.code == 410,
            _ => false,
        }
    }
}

enum State {
    /// Nothing is known.
    Empty,
    /// Everything up to `version` is known.
    Listed { version: String },
    /// `lines` brings what comes after `version`.
    Watching {
        lines: Lines,
        version: String,
        opened: Instant,
        heard: bool,
    },
}

pub(crate) struct Reflector {
    client: Client,
    path: String,
    selector: Selector,
    paged: bool,
}

impl Reflector {
    pub(crate) fn new(client: Client, path: String, selector: Selector) -> Self {
        Self {
            client,
            path,
            selector,
            paged: true,
        }
    }

    /// Follows the collection for ever.
    pub(crate) async fn run<K: Object>(mut self, mut emit: impl FnMut(Change<K>)) {
        let mut state = State::Empty;
        let mut backoff = stdx::backoff::Backoff::new(FIRST_RETRY, LAST_RETRY).with_jitter(0.5);
        loop {
            let (next, result) = self.step(state, &mut emit).await;
            state = next;
            match result {
                Ok(true) => backoff.reset(),
                Ok(false) => {}
                Err(error) => {
                    // Told after the pause: who stops meanwhile interrupts every watch, as it should be.
                    sleep(backoff.next()).await;
                    tracing::warn!(path = %self.path, error = %stdx::chain(&error), "watch interrupted");
                }
            }
        }
    }

    /// One move of the machine; answers whether it made progress.
    async fn step<K: Object>(
        &mut self,
        state: State,
        emit: &mut impl FnMut(Change<K>),
    ) -> (State, Result<bool, WatchError>) {
        match state {
            State::Empty => match self.list().await {
                Ok((objects, version)) => {
                    emit(Change::Replaced(objects));
                    (State::Listed { version }, Ok(true))
                }
                Err(error) => {
                    // A token that expired between two pages: the next list comes in one piece.
                    self.paged = !error.is_gone();
                    (State::Empty, Err(error))
                }
            },
            State::Listed { version } => match self.watch::<K>(&version).await {
                Ok(lines) => {
                    let opened = Instant::now();
                    (
                        State::Watching {
                            lines,
                            version,
                            opened,
                            heard: false,
                        },
                        Ok(false),
                    )
                }
                Err(error) if error.is_gone() => (State::Empty, Ok(false)),
                Err(error) => (State::Listed { version }, Err(error)),
            },
            State::Watching {
                mut lines,
                mut version,
                opened,
                mut heard,
            } => {
                let result = lines
                    .each(|line| {
                        heard = true;
                        event(line, &mut version, emit)
                    })
                    .await;
                match result {
                    Ok(true) => (
                        State::Watching {
                            lines,
                            version,
                            opened,
                            heard,
                        },
                        Ok(true),
                    ),
                    Ok(false) if heard || opened.elapsed() > Duration::from_secs(1) => {
                        (State::Listed { version }, Ok(true))
                    }
                    Ok(false) => (State::Listed { version }, Err(WatchError::Short)),
                    Err(error) if error.is_gone() => (State::Empty, Ok(false)),
                    Err(error) => (State::Listed { version }, Err(error)),
                }
            }
        }
    }

    async fn list<K: Object>(&self) -> Result<(Vec<K>, String), WatchError> {
        let mut params = ListParams {
            label_selector: self.selector.labels.clone(),
            field_selector: self.selector.fields.clone(),
            limit: self.paged.then_some(PAGE),
            ..ListParams::default()
        };
        let mut objects = Vec::new();
        loop {
            let request = kube::core::Request::new(self.path.as_str())
                .list(&params)
                .map_err(WatchError::Request)?;
            let body = self.send::<K>(request, METADATA_LIST).await?;
            let bytes = Limited::new(body, PAGE_LIMIT_BYTES)
                .collect()
                .await
                .map_err(WatchError::Read)?
                .to_bytes();
            let page: Page<'_> = serde_json::from_slice(&bytes).map_err(WatchError::Decode)?;
            for item in page.items.unwrap_or_default() {
                match serde_json::from_str(item.get()) {
                    Ok(object) => objects.push(object),
                    Err(error) => {
                        tracing::warn!(path = %self.path, %error, "skipping an object that cannot be decoded");
                    }
                }
            }
            if page.metadata.next.is_empty() {
                return Ok((objects, page.metadata.resource_version));
            }
            params.continue_token = Some(page.metadata.next);
        }
    }

    async fn watch<K: Object>(&self, version: &str) -> Result<Lines, WatchError> {
        let seconds = WATCH_SECS + rand::random_range(0..WATCH_SECS);
        let params = WatchParams {
            label_selector: self.selector.labels.clone(),
            field_selector: self.selector.fields.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: false,
        };
        let request = kube::core::Request::new(self.path.as_str())
            .watch(&params, version)
            .map_err(WatchError::Request)?;
        let body = self.send::<K>(request, METADATA).await?;
        let deadline = Instant::now() + Duration::from_secs(u64::from(seconds)) + WATCH_GRACE;
        Ok(Lines {
            body,
            partial: Vec::new(),
            deadline,
        })
    }

    async fn send<K: Object>(
        &self,
        request: http::Request<Vec<u8>>,
        metadata: &'static str,
    ) -> Result<Body, WatchError> {
        let mut request = request.map(Body::from);
        let accept = if K::METADATA_ONLY {
            metadata
        } else {
            "application/json"
        };
        request
            .headers_mut()
            .insert(ACCEPT, http::HeaderValue::from_static(accept));
        let response = self.client.send(request).await?;
        let code = response.status();
        if code.is_success() {
            return Ok(response.into_body());
        }
        let bytes = Limited::new(response.into_body(), LINE_LIMIT_BYTES)
            .collect()
            .await
            .map_err(WatchError::Read)?
            .to_bytes();
        let status = serde_json::from_slice::<Status>(&bytes).unwrap_or_else(|_| {
            Status::failure(&String::from_utf8_lossy(&bytes), "").with_code(code.as_u16())
        });
        Err(WatchError::Status(Box::new(status)))
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

/// The lines of a watch.
struct Lines {
    body: Body,
    partial: Vec<u8>,
    deadline: Instant,
}

impl Lines {
    /// Waits for more bytes and hands every complete line to `f`; `false` at the end.
    async fn each(
        &mut self,
        mut f: impl FnMut(&[u8]) -> Result<(), WatchError>,
    ) -> Result<bool, WatchError> {
        let wait = self.deadline.saturating_duration_since(Instant::now());
        let frame = timeout(wait, self.body.frame())
            .await
            .map_err(|_| WatchError::Silent {
                seconds: wait.as_secs(),
            })?;
        let Some(frame) = frame else { return Ok(false) };
        let Ok(data) = frame
            .map_err(|e| WatchError::Read(Box::new(e)))?
            .into_data()
        else {
            return Ok(true);
        };
        self.split(&data, &mut f)?;
        Ok(true)
    }

    fn split(
        &mut self,
        data: &Bytes,
        f: &mut impl FnMut(&[u8]) -> Result<(), WatchError>,
    ) -> Result<(), WatchError> {
        let mut rest: &[u8] = data;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if self.partial.is_empty() {
                f(line)?;
            } else {
                self.partial.extend_from_slice(line);
                let whole = std::mem::take(&mut self.partial);
                f(&whole)?;
            }
        }
        if self.partial.len() + rest.len() > LINE_LIMIT_BYTES {
            return Err(WatchError::LineTooLong {
                limit_bytes: LINE_LIMIT_BYTES,
            });
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }
}

/// Hands on the event of one line.
fn event<K: Object>(
    line: &[u8],
    version: &mut String,
    emit: &mut impl FnMut(Change<K>),
) -> Result<(), WatchError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let event = match serde_json::from_slice::<WatchEvent<K>>(line) {
        Ok(event) => event,
        Err(error) => {
            // One bad object must not stop the others; a line that is no event at all does.
            let skipped: WatchEvent<crate::Meta> =
                serde_json::from_slice(line).map_err(WatchError::Decode)?;
            if let WatchEvent::Added(meta)
            | WatchEvent::Modified(meta)
            | WatchEvent::Deleted(meta) = skipped
            {
                tracing::warn!(key = %meta.key(), %error, "skipping an object that cannot be decoded");
                meta.resource_version().clone_into(version);
            }
            return Ok(());
        }
    };
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            object.resource_version().clone_into(version);
            emit(Change::Applied(object));
        }
        WatchEvent::Deleted(object) => {
            object.resource_version().clone_into(version);
            emit(Change::Deleted(object));
        }
        WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
        WatchEvent::Error(status) => return Err(WatchError::Status(status)),
    }
    Ok(())
}
