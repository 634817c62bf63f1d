//! One connection: a reader that hands out streams and their bytes, a writer that
//! sends what streams give it.
//!
//! Invariant: the connection ends when the client ends it, or when the caller has
//! dropped its streams and everything they sent is on the wire.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{
    SpdyError,
    frame::{self, Frame},
    headers::{Decoder, Encoder, Headers},
};

/// Frames that may wait to be written.
const QUEUE: usize = 32;
/// Pieces of one stream that may wait to be read.
const STREAM_QUEUE: usize = 16;
/// Streams that a client may have open.
const MAX_STREAMS: usize = 1024;
/// The largest piece sent in one frame.
const MAX_DATA: usize = 32 * 1024;

/// The sending half of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    id: u32,
    out: mpsc::Sender<Frame>,
}

impl Sender {
    /// Sends bytes; false if the connection is gone.
    pub(crate) async fn send(&self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MAX_DATA));
            let frame = Frame::Data {
                id: self.id,
                data: piece,
                fin: false,
            };
            if self.out.send(frame).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that nothing more is sent.
    pub(crate) async fn finish(&self) {
        let frame = Frame::Data {
            id: self.id,
            data: Bytes::new(),
            fin: true,
        };
        // A connection that is gone has finished as well.
        let _ = self.out.send(frame).await;
    }

    /// Ends the stream in both directions.
    pub(crate) async fn reset(&self) {
        let _ = self.out.send(Frame::Reset { id: self.id }).await;
    }
}

/// A stream that the client has opened.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Its headers, names in lower case.
    pub headers: Headers,
    /// What the client sends; ends with its half of the stream.
    pub incoming: mpsc::Receiver<Bytes>,
    /// What is sent to it.
    pub sender: Sender,
}

impl Stream {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// When a connection ends from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// With its last stream: a session of one command.
    Streams,
    /// Not before the client ends it.
    Client,
}

/// Serves a connection: every stream that the client opens is accepted and given to `streams`.
///
/// # Errors
/// When the connection fails or the client does not keep to the protocol.
pub(crate) async fn serve<S>(
    io: S,
    lifetime: Lifetime,
    streams: mpsc::Sender<Stream>,
) -> Result<(), SpdyError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(io);
    let (out, frames) = mpsc::channel(QUEUE);
    // The reader's own hold on the queue must not keep the writer alive.
    let weak = out.downgrade();
    let write = write_all(writer, frames);
    let read = read_all(reader, weak, out, lifetime, streams);
    tokio::pin!(write);
    tokio::select! {
        result = &mut write => result,
        result = read => {
            // The client is gone or wants no more; what is queued still goes out.
            let flushed = write.await;
            result.and(flushed)
        }
    }
}

async fn write_all<W: AsyncWrite + Unpin>(
    mut to: W,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), SpdyError> {
    let mut encoder = Encoder::new();
    let mut buf = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        frame::write(&frame, &mut encoder, &mut buf)?;
        while buf.len() < MAX_DATA
            && let Ok(frame) = frames.try_recv()
        {
            frame::write(&frame, &mut encoder, &mut buf)?;
        }
        to.write_all(&buf).await?;
        to.flush().await?;
        buf.clear();
    }
    to.shutdown().await?;
    Ok(())
}

async fn read_all<R: AsyncRead + Unpin>(
    mut from: R,
    weak: mpsc::WeakSender<Frame>,
    first: mpsc::Sender<Frame>,
    lifetime: Lifetime,
    streams: mpsc::Sender<Stream>,
) -> Result<(), SpdyError> {
    let mut decoder = Decoder::new();
    let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    // Held until the first stream holds the queue open itself.
    let mut first = Some(first);
    while let Some(frame) = frame::read(&mut from, &mut decoder).await? {
        match frame {
            Frame::Open { id, headers, fin } => {
                open.retain(|_, s| !s.is_closed());
                let Some(out) = weak.upgrade() else {
                    return Ok(());
                };
                if open.len() >= MAX_STREAMS || id == 0 {
                    let _ = out.send(Frame::Reset { id }).await;
                    continue;
                }
                let (to, incoming) = mpsc::channel(STREAM_QUEUE);
                if !fin {
                    open.insert(id, to);
                }
                let _ = out
                    .send(Frame::Reply {
                        id,
                        headers: Headers::new(),
                    })
                    .await;
                let stream = Stream {
                    headers,
                    incoming,
                    sender: Sender { id, out },
                };
                if streams.send(stream).await.is_err() {
                    return Ok(());
                }
                if lifetime == Lifetime::Streams {
                    first = None;
                }
            }
            Frame::Data { id, data, fin } => {
                if let Some(to) = open.get(&id)
                    && !data.is_empty()
                    && to.send(data).await.is_err()
                {
                    open.remove(&id);
                }
                if fin {
                    open.remove(&id);
                }
            }
            Frame::Reset { id } => {
                open.remove(&id);
            }
            Frame::Ping { id } if id % 2 == 1 => {
                let out = first.clone().or_else(|| weak.upgrade());
                let Some(out) = out else { return Ok(()) };
                let _ = out.send(Frame::Ping { id }).await;
            }
            Frame::GoAway => return Ok(()),
            Frame::Ping { .. } | Frame::Reply { .. } | Frame::Other => {}
        }
    }
    Ok(())
}
