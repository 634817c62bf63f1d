//! Bodies and answers.

use api::status::ApiError;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _, TryFutureExt as _};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use serde_json::Value;

use crate::negotiate::Syntax;

/// An error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of requests and answers.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The largest request body.
pub(crate) const BODY_LIMIT_BYTES: usize = 3 << 20;

/// A body of these bytes.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body without bytes.
pub fn empty_body() -> Body {
    full_body(Bytes::new())
}

/// A body that streams chunks.
pub(crate) fn stream_body(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))))
}

/// Reads a request body, at most [`BODY_LIMIT_BYTES`].
pub(crate) async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    match collect(body).await {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(format!("limit is {BODY_LIMIT_BYTES}")))
        }
        Err(error) => Err(ApiError::bad_request(format!(
            "unable to read the request body: {error}"
        ))),
    }
}

/// Boxed, as the compiler cannot see that the body's own future may move between threads.
fn collect(body: Body) -> BoxFuture<'static, Result<Bytes, BoxError>> {
    let limited = Limited::new(body, BODY_LIMIT_BYTES);
    limited
        .collect()
        .map_ok(|collected| collected.to_bytes())
        .boxed()
}

/// An answer of a content type.
pub(crate) fn respond(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    with_body(status, content_type, full_body(bytes))
}

/// An answer with any body.
pub(crate) fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    respond(status, "application/json", value.to_string())
}

/// A plain text answer.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", text.into())
}

/// An answer in a syntax; in JSON too what has no protobuf form, as its content type says.
pub(crate) fn value(syntax: Syntax, status: StatusCode, value: &Value) -> Response<Body> {
    match syntax {
        Syntax::Json => {}
        Syntax::Yaml => {
            let text = crate::pipeline::yaml::write(value);
            return respond(status, syntax.content_type(), text);
        }
        Syntax::Protobuf => match api::proto::encode(value) {
            Ok(bytes) => return respond(status, syntax.content_type(), bytes),
            Err(error) => tracing::debug!("answering in JSON: {error}"),
        },
    }
    json(status, value)
}

/// An error as a `Status` in JSON.
pub(crate) fn error(error: &ApiError) -> Response<Body> {
    error_in(Syntax::Json, error)
}

/// An error as a `Status`.
pub(crate) fn error_in(syntax: Syntax, error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(syntax, status, &error.to_value());
    let retry = error
        .details
        .as_ref()
        .and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = retry {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
