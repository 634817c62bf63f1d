//! Compressed answers, where a client takes them and the size is worth it.
//!
//! Invariant: a body is compressed piece by piece as it is read; nothing is gathered.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::http::{Body, BoxError};

/// Bodies up to this size stay as they are; upstream's number.
const THRESHOLD_BYTES: u64 = 128 << 10;
/// Upstream's level: least work, nearly the same size.
const LEVEL: u32 = 1;
/// How much is compressed at a time, so that no other task waits long.
const PIECE_BYTES: usize = 64 << 10;

/// Whether a client takes gzip.
pub(crate) fn accepted(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim() == "gzip")
}

/// Compresses an answer that is large enough.
pub(crate) fn compress(response: Response<Body>) -> Response<Body> {
    // A body of unknown size is a large list.
    let size = response.body().size_hint().exact();
    let encoded = response.headers().contains_key(header::CONTENT_ENCODING);
    if encoded || size.is_some_and(|size| size <= THRESHOLD_BYTES) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let gzip = HeaderValue::from_static("gzip");
    parts.headers.insert(header::CONTENT_ENCODING, gzip);
    let vary = HeaderValue::from_static("Accept-Encoding");
    parts.headers.append(header::VARY, vary);
    let frames = pieces(body).map(|piece| piece.map(Frame::data));
    Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}

/// What is left to compress, and with what.
struct State {
    body: Body,
    /// Read, not compressed yet.
    rest: Bytes,
    /// Gone at the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
    let encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    let state = State {
        body,
        rest: Bytes::new(),
        encoder: Some(encoder),
    };
    futures::stream::try_unfold(state, |mut state| async move {
        loop {
            let Some(encoder) = &mut state.encoder else {
                return Ok(None);
            };
            if state.rest.is_empty() {
                match state.body.frame().await {
                    Some(frame) => state.rest = frame?.into_data().unwrap_or_default(),
                    None => {
                        let last = state.encoder.take().map(GzEncoder::finish).transpose()?;
                        return Ok(last.map(|last| (Bytes::from(last), state)));
                    }
                }
                continue;
            }
            let piece = state.rest.split_to(state.rest.len().min(PIECE_BYTES));
            encoder.write_all(&piece)?;
            let out = std::mem::take(encoder.get_mut());
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), state)));
            }
        }
    })
}
