//! GET of a collection with `watch=true`.

use std::time::Duration;

use api::status::ApiError;
use futures::StreamExt as _;
use http::{Response, StatusCode};
use rand::RngExt as _;
use store::Revision;

use super::Call;
use super::form::Form;
use super::list::{filter, fresh, read};
use super::socket::Asked;
use crate::cache::watcher::{Options, Watcher};
use crate::http::{Body, stream_body, with_body};
use crate::negotiate;
use crate::query::ListOptions;

/// The shortest time after which the server ends a watch whose client set none; at most twice
/// that.
const MIN_TIMEOUT_SECS: u64 = 1800;

/// Serves the request, over the WebSocket that it asks for.
pub(super) async fn serve(call: &Call, socket: Option<Asked>) -> Result<Response<Body>, ApiError> {
    let accepted = negotiate::accept_stream(&call.resource, &call.headers)?;
    let form = Form::new(&call.resource, accepted, &call.query)?;
    let mut options = ListOptions::parse(&call.query, &call.resource, true)?;
    let filter = filter(call, &mut options);
    let state = &call.state;
    let kind = state.kind(&call.resource);
    let wanted = options.resource_version.unwrap_or(0);
    if wanted > 0 {
        fresh(&state.cache, wanted).await?;
    }
    // The current state comes first when no revision is named, or when it is asked for.
    let initial = match options.send_initial {
        Some(send) => send,
        None => wanted == 0,
    };
    let (objects, after) = if initial {
        let (snapshot, _) = read(call, &filter, None, usize::MAX).await?;
        (snapshot.objects, snapshot.revision)
    } else if wanted == 0 {
        (Vec::new(), state.cache.applied())
    } else {
        (Vec::new(), Revision(wanted))
    };
    let timeout = options
        .timeout_secs
        .unwrap_or_else(|| rand::rng().random_range(MIN_TIMEOUT_SECS..2 * MIN_TIMEOUT_SECS));
    let watcher = Watcher::new(
        state,
        kind,
        Options {
            filter,
            form,
            initial: objects,
            after,
            bookmarks: options.bookmarks,
            // A watch from nowhere in particular is one that asks for the initial state.
            mark_initial: initial && options.bookmarks,
            timeout: Duration::from_secs(timeout),
        },
    );
    let guard = state.metrics.watch_started(&call.resource);
    let frames = watcher.into_stream().map(move |frame| {
        let _counted = &guard;
        frame
    });
    if let Some(socket) = socket {
        return Ok(socket.answer(accepted.syntax, frames));
    }
    Ok(with_body(
        StatusCode::OK,
        accepted.syntax.stream_content_type(),
        stream_body(frames),
    ))
}
