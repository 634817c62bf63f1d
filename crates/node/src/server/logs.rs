//! `/containerLogs/{namespace}/{pod}/{container}`.
//!
//! Invariant: only logs of containers that the pod has are found.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use super::{
    Body, Found, Query, Server, text,
    upgrade::{self, Upgrade},
    websocket,
};
use crate::{
    container,
    logs::{follow, select::Options},
    worker::View,
};

/// Pieces of a log that may wait for the client.
const QUEUE: usize = 4;
/// The subprotocols of a log over a WebSocket (upstream's `wsstream` package): bytes as they are, or in
/// base64.
const WEB_SOCKET: [&str; 2] = ["binary.k8s.io", BASE64];
const BASE64: &str = "base64.binary.k8s.io";

impl Server {
    pub(super) async fn logs(
        &self,
        request: &mut Request<Incoming>,
        found: Found,
        name: &str,
    ) -> Response<Body> {
        let query = Query::of(request);
        let options = match options(&query) {
            Ok(options) => options,
            Err(problem) => return text(StatusCode::UNPROCESSABLE_ENTITY, problem),
        };
        let pod_name = found.pod.metadata.name.clone().unwrap_or_default();
        if container::find(&found.pod, name).is_none() {
            let problem = format!("container {name} is not valid for pod {pod_name}\n");
            return text(StatusCode::BAD_REQUEST, problem);
        }
        let Some(mut attempt) = attempt(&found, name) else {
            let problem = format!(
                "container \"{name}\" in pod \"{pod_name}\" is waiting to start: {}\n",
                waiting_reason(&found, name)
            );
            return text(StatusCode::BAD_REQUEST, problem);
        };
        let mut running = watch::channel(false).1;
        if query.flag("previous") {
            let Some(before) = attempt.checked_sub(1) else {
                let problem = format!(
                    "previous terminated container \"{name}\" in pod \"{pod_name}\" not found\n"
                );
                return text(StatusCode::BAD_REQUEST, problem);
            };
            attempt = before;
        } else if options.follow
            && let Some(view) = found.view.clone()
        {
            running = watch_run(view, name, attempt);
        }
        let dir = container::log_dir(&self.shared.config.log_dir, &found.pod, name);
        let path = dir.join(format!("{attempt}.log"));
        if let Err(error) = tokio::fs::metadata(&path).await {
            let problem = format!("failed to open log of container \"{name}\": {error}\n");
            return text(StatusCode::NOT_FOUND, problem);
        }
        let upgrade = match upgrade::wants_web_socket(request) {
            true => match upgrade::accept(request, &WEB_SOCKET, &[]) {
                Ok(upgrade) => Some(upgrade),
                Err(refusal) => return *refusal,
            },
            false => None,
        };
        let (out, chunks) = mpsc::channel::<Bytes>(QUEUE);
        let drain = self.shared.config.drain.clone();
        tokio::spawn(async move {
            let stream = follow::stream(path, options, running, out);
            if let Some(Err(error)) = drain.run_until_cancelled(stream).await {
                tracing::debug!(%error, "log stream ended");
            }
        });
        match upgrade {
            Some(upgrade) => over_web_socket(upgrade, chunks),
            None => plain(chunks),
        }
    }
}

/// The log as the body of an answer.
fn plain(mut chunks: mpsc::Receiver<Bytes>) -> Response<Body> {
    let stream = futures::stream::poll_fn(move |cx| {
        chunks
            .poll_recv(cx)
            .map(|chunk| chunk.map(|c| Ok::<_, Infallible>(Frame::data(c))))
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    let plain = http::HeaderValue::from_static("text/plain");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    response
}

/// The log as messages of a WebSocket. Ends with the log, or when the client leaves.
fn over_web_socket(upgrade: Upgrade, chunks: mpsc::Receiver<Bytes>) -> Response<Body> {
    let base64 = upgrade.protocol == BASE64;
    tokio::spawn(async move {
        match upgrade.on.await {
            Ok(upgraded) => {
                websocket::send(websocket::open(upgraded).await, base64, chunks).await;
            }
            Err(error) => tracing::debug!(error = stdx::chain(&error), "upgrade failed"),
        }
    });
    upgrade.response
}

/// Says whether a run goes on, for as long as somebody listens.
fn watch_run(
    mut view: watch::Receiver<Arc<View>>,
    name: &str,
    attempt: u32,
) -> watch::Receiver<bool> {
    let name = name.to_owned();
    let now = |view: &View| {
        view.containers
            .get(&name)
            .is_some_and(|c| c.running && c.attempt == attempt)
    };
    let (publish, running) = watch::channel(now(&view.borrow_and_update()));
    let name = name.clone();
    tokio::spawn(async move {
        let now = |view: &View| {
            view.containers
                .get(&name)
                .is_some_and(|c| c.running && c.attempt == attempt)
        };
        while *publish.borrow() {
            tokio::select! {
                changed = view.changed() => {
                    let alive = changed.is_ok() && now(&view.borrow_and_update());
                    publish.send_if_modified(|r| std::mem::replace(r, alive) != alive);
                }
                () = publish.closed() => return,
            }
        }
    });
    running
}

/// The number of the present or last run; `None` if there was none.
fn attempt(found: &Found, name: &str) -> Option<u32> {
    if let Some(view) = &found.view
        && let Some(c) = view.borrow().containers.get(name)
    {
        return Some(c.attempt);
    }
    let status = found.pod.status.as_ref()?;
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let s = all
        .into_iter()
        .flat_map(|l| l.iter().flatten())
        .find(|s| s.name == name)?;
    s.container_id.as_ref().filter(|id| !id.is_empty())?;
    u32::try_from(s.restart_count).ok()
}

fn waiting_reason(found: &Found, name: &str) -> String {
    let status = found.pod.status.clone().unwrap_or_default();
    let mut all = status
        .container_statuses
        .into_iter()
        .flatten()
        .chain(status.init_container_statuses.into_iter().flatten());
    all.find(|s| s.name == name)
        .and_then(|s| s.state?.waiting?.reason)
        .unwrap_or_else(|| "ContainerCreating".into())
}

fn options(query: &Query) -> Result<Options, String> {
    let number = |name: &str| -> Result<Option<i64>, String> {
        query
            .get(name)
            .filter(|v| !v.is_empty())
            .map(|v| {
                v.parse::<i64>()
                    .map_err(|_| format!("{name}: Invalid value: \"{v}\"\n"))
            })
            .transpose()
    };
    let since_secs = number("sinceSeconds")?;
    let since = match query.get("sinceTime").filter(|t| !t.is_empty()) {
        Some(time) => Some(
            time.parse()
                .map_err(|_| format!("sinceTime: Invalid value: \"{time}\"\n"))?,
        ),
        None => since_secs.and_then(|secs| {
            Timestamp::now()
                .checked_sub(SignedDuration::from_secs(secs))
                .ok()
        }),
    };
    let unsigned = |v: Option<i64>| v.and_then(|v| u64::try_from(v).ok());
    Ok(Options {
        // Negative means everything, as upstream has it.
        tail_lines: unsigned(number("tailLines")?),
        since,
        timestamps: query.flag("timestamps"),
        limit_bytes: unsigned(number("limitBytes")?),
        stream: query
            .get("stream")
            .filter(|s| !s.is_empty())
            .map(str::to_owned),
        follow: query.flag("follow"),
    })
}
