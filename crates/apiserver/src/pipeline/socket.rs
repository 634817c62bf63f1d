//! Watches over a WebSocket, as browsers and some Java clients open them: a message for each event.
//! (Upstream's are those of `apiserver/pkg/endpoints/handlers/watch.go`.)

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes, protocol::frame::coding::CloseCode};

use api::status::ApiError;

use crate::http::{Body, empty_body};
use crate::negotiate::Syntax;
use crate::proxy;

/// The largest message that is taken of a client, which has nothing to say.
const MESSAGE_LIMIT_BYTES: usize = 4096;
/// How long a client has to answer a farewell.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// The length before each frame of protobuf, which a message needs not.
const LENGTH_BYTES: usize = 4;

/// A WebSocket that a request asks for.
pub(super) struct Asked {
    on: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Asked {
    /// `None` when the request asks for no WebSocket.
    pub(super) fn of(request: &mut Request<Body>) -> Result<Option<Self>, ApiError> {
        let headers = request.headers();
        let wanted = proxy::upgrade(headers);
        if !wanted.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Ok(None);
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
            return Err(ApiError::bad_request(
                "missing or bad WebSocket version, must be 13",
            ));
        }
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .ok_or_else(|| ApiError::bad_request("missing Sec-WebSocket-Key"))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map_err(ApiError::internal)?;
        let protocol = proxy::subprotocols(headers).into_iter().next();
        Ok(Some(Self {
            accept,
            protocol: protocol.and_then(|protocol| HeaderValue::from_str(&protocol).ok()),
            on: hyper::upgrade::on(request),
        }))
    }

    /// Accepts it, and sends the frames of a watch until they or the client end.
    pub(super) fn answer(
        self,
        syntax: Syntax,
        frames: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Response<Body> {
        let mut response = Response::new(empty_body());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let on = self.on;
        tokio::spawn(async move {
            if let Err(error) = send(on, syntax, frames).await {
                tracing::debug!("watch over a WebSocket: {}", stdx::chain::chain(&error));
            }
        });
        response
    }
}

#[derive(Debug, thiserror::Error)]
enum SocketError {
    #[error("the connection was not handed over")]
    Upgrade(#[from] hyper::Error),
    #[error("cannot send")]
    Send(#[from] tokio_tungstenite::tungstenite::Error),
    #[error("cannot close")]
    Close(#[from] std::io::Error),
}

async fn send(
    on: OnUpgrade,
    syntax: Syntax,
    frames: impl Stream<Item = Bytes> + Send,
) -> Result<(), SocketError> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT_BYTES))
        .max_frame_size(Some(MESSAGE_LIMIT_BYTES));
    let stream = TokioIo::new(on.await?);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut to, mut from) = socket.split();
    let send = async {
        let mut frames = std::pin::pin!(frames);
        while let Some(frame) = frames.next().await {
            to.send(message(syntax, frame)).await?;
        }
        let farewell = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        };
        to.send(Message::Close(Some(farewell))).await
    };
    // What it says means nothing, but its leaving ends the watch.
    let leave = async { while let Some(Ok(_)) = from.next().await {} };
    let sent = tokio::select! {
        sent = send => sent,
        () = leave => Ok(()),
    };
    if let Ok(mut socket) = to.reunite(from) {
        // It has a moment to close its end; then TLS says that nothing more comes.
        let rest = async { while let Some(Ok(_)) = socket.next().await {} };
        let _left = tokio::time::timeout(FAREWELL_LIMIT, rest).await;
        socket.get_mut().shutdown().await?;
    }
    Ok(sent?)
}

/// Text, or bytes where events are protobuf.
fn message(syntax: Syntax, frame: Bytes) -> Message {
    if syntax == Syntax::Protobuf {
        return Message::Binary(frame.slice(LENGTH_BYTES.min(frame.len())..));
    }
    match Utf8Bytes::try_from(frame) {
        Ok(text) => Message::Text(text),
        // Nothing that is JSON gets here.
        Err(_) => Message::Text(Utf8Bytes::default()),
    }
}
