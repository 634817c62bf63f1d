//! WebSocket connections: channels by a leading byte, and bytes alone for tunnels.
//!
//! Invariant: a connection is closed with a close frame after everything that was
//! accepted for sending is on the wire.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::Engine as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// The largest message that is taken.
const MAX_MESSAGE: usize = 1 << 20;
/// The channel whose messages close others (protocol version 5).
const CLOSE_CHANNEL: u8 = 255;

/// The stream below.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Takes over an upgraded connection.
pub(super) async fn open(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// Moves messages between a socket and channels until nobody sends any more, or the client leaves.
/// Dropping an entry of `incoming` is how the client's end of a channel is told.
pub(super) async fn pump(
    socket: Socket,
    base64: bool,
    mut incoming: Vec<Option<mpsc::Sender<Bytes>>>,
    mut outgoing: mpsc::Receiver<(u8, Bytes)>,
) {
    let (mut to, mut from) = socket.split();
    let send = async {
        while let Some((channel, data)) = outgoing.recv().await {
            if to.feed(encode(base64, channel, &data)).await.is_err() {
                return;
            }
            // Flush when there is nothing else to send.
            if outgoing.is_empty() && to.flush().await.is_err() {
                return;
            }
        }
        let _ = to.send(farewell()).await;
        let _ = to.close().await;
    };
    let receive = async {
        while let Some(Ok(message)) = from.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
                Message::Close(_) => break,
                _ => continue,
            };
            let Some((channel, data)) = decode(base64, data) else {
                continue;
            };
            if channel == CLOSE_CHANNEL {
                if let Some(slot) = data.first().and_then(|c| incoming.get_mut(usize::from(*c))) {
                    *slot = None;
                }
                continue;
            }
            if let Some(slot) = incoming.get_mut(usize::from(channel))
                && let Some(to) = slot
                && !data.is_empty()
                && to.send(data).await.is_err()
            {
                *slot = None;
            }
        }
        // The client is gone: so is all its input.
        incoming.clear();
    };
    tokio::pin!(send);
    tokio::select! {
        () = &mut send => {}
        () = receive => {
            // Output may still be on its way, or fail at once.
            send.await;
        }
    }
}

/// Sends one stream of bytes, after an empty message that says that it begins, and closes. What the
/// client sends means nothing, but its leaving ends the stream.
pub(super) async fn send(socket: Socket, base64: bool, mut chunks: mpsc::Receiver<Bytes>) {
    let (mut to, mut from) = socket.split();
    let message = |data: Bytes| match base64 {
        true => Message::text(base64::engine::general_purpose::STANDARD.encode(&data)),
        false => Message::Binary(data),
    };
    let send = async {
        if to.send(message(Bytes::new())).await.is_err() {
            return;
        }
        while let Some(data) = chunks.recv().await {
            if to.send(message(data)).await.is_err() {
                return;
            }
        }
        let _ = to.send(farewell()).await;
        let _ = to.close().await;
    };
    let leave = async { while let Some(Ok(_)) = from.next().await {} };
    tokio::select! {
        () = send => {}
        () = leave => {}
    }
}

fn encode(base64: bool, channel: u8, data: &[u8]) -> Message {
    if base64 {
        let mut text = String::new();
        text.push(char::from(b'0'.saturating_add(channel)));
        base64::engine::general_purpose::STANDARD.encode_string(data, &mut text);
        return Message::text(text);
    }
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

fn decode(base64: bool, mut message: Bytes) -> Option<(u8, Bytes)> {
    if message.is_empty() {
        return None;
    }
    let first = message.get_u8();
    if !base64 {
        return Some((first, message));
    }
    let data = base64::engine::general_purpose::STANDARD
        .decode(&message)
        .ok()?;
    Some((first.checked_sub(b'0')?, data.into()))
}

/// A close frame that clients take for a good end.
fn farewell() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    }))
}

/// A socket as a stream of bytes: the messages' borders mean nothing.
pub(super) struct Tunnel {
    socket: Socket,
    rest: Bytes,
    closing: bool,
}

impl Tunnel {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            rest: Bytes::new(),
            closing: false,
        }
    }
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::other(error),
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.rest.is_empty() {
                let n = self.rest.len().min(buf.remaining());
                buf.put_slice(&self.rest.split_to(n));
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(Message::Binary(data))) => self.rest = data,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(failed)?;
        let message = Message::Binary(Bytes::copy_from_slice(data));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(failed)?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(failed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            let ready = ready!(Pin::new(&mut self.socket).poll_ready(cx));
            self.closing = true;
            if ready.is_ok() {
                // A client that has closed already wants no farewell.
                let _ = Pin::new(&mut self.socket).start_send(farewell());
            }
        }
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }
}
