//! Frames on the wire.
//!
//! Invariant: what cannot be understood is skipped by its length, not guessed at.

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    SpdyError,
    headers::{Decoder, Encoder, Headers},
};

/// The largest frame that is taken.
const MAX_FRAME: usize = 1 << 20;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Opens a stream.
    Open {
        /// Its id.
        id: u32,
        /// Its headers.
        headers: Headers,
        /// The opener sends nothing.
        fin: bool,
    },
    /// Accepts a stream.
    Reply {
        /// Its id.
        id: u32,
        /// Headers.
        headers: Headers,
    },
    /// Bytes of a stream.
    Data {
        /// Its id.
        id: u32,
        /// The bytes.
        data: Bytes,
        /// The last ones.
        fin: bool,
    },
    /// Ends a stream in both directions.
    Reset {
        /// Its id.
        id: u32,
    },
    /// To be sent back.
    Ping {
        /// Odd from clients.
        id: u32,
    },
    /// No more streams.
    GoAway,
    /// Anything else.
    Other,
}

/// Reads the next frame; `None` at the end of the connection.
///
/// # Errors
/// When the connection fails or the frame is malformed.
pub(crate) async fn read<R: AsyncRead + Unpin>(
    from: &mut R,
    decoder: &mut Decoder,
) -> Result<Option<Frame>, SpdyError> {
    let mut head = [0; 8];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    let len = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if len > MAX_FRAME {
        return Err(SpdyError::Frame);
    }
    let mut body = BytesMut::zeroed(len);
    from.read_exact(&mut body).await?;
    let body = body.freeze();
    let fin = flags & FLAG_FIN != 0;
    if first >> 31 == 0 {
        return Ok(Some(Frame::Data {
            id: first,
            data: body,
            fin,
        }));
    }
    let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
    if version != VERSION {
        return Err(SpdyError::Frame);
    }
    let id = || {
        let bytes = body.first_chunk::<4>().ok_or(SpdyError::Frame)?;
        Ok::<u32, SpdyError>(u32::from_be_bytes(*bytes) & 0x7fff_ffff)
    };
    Ok(Some(match u16::from_be_bytes([head[2], head[3]]) {
        SYN_STREAM => {
            let block = body.get(10..).ok_or(SpdyError::Frame)?;
            Frame::Open {
                id: id()?,
                headers: decoder.decode(block)?,
                fin,
            }
        }
        SYN_REPLY => {
            let block = body.get(4..).ok_or(SpdyError::Frame)?;
            Frame::Reply {
                id: id()?,
                headers: decoder.decode(block)?,
            }
        }
        RST_STREAM => Frame::Reset { id: id()? },
        PING => Frame::Ping {
            id: body
                .first_chunk::<4>()
                .map_or(0, |b| u32::from_be_bytes(*b)),
        },
        GOAWAY => Frame::GoAway,
        // HEADERS advance the compression context even if nobody reads them.
        8 => {
            decoder.decode(body.get(4..).ok_or(SpdyError::Frame)?)?;
            Frame::Other
        }
        _ => Frame::Other,
    }))
}

/// Appends a frame.
///
/// # Errors
/// When its headers cannot be compressed.
pub(crate) fn write(
    frame: &Frame,
    encoder: &mut Encoder,
    out: &mut BytesMut,
) -> Result<(), SpdyError> {
    match frame {
        Frame::Data { id, data, fin } => {
            out.put_u32(id & 0x7fff_ffff);
            length(out, u8::from(*fin), data.len());
            out.put_slice(data);
        }
        Frame::Open { id, headers, fin } => {
            let block = encoder.encode(headers)?;
            control(out, SYN_STREAM, u8::from(*fin), 10 + block.len());
            out.put_u32(*id);
            out.put_u32(0);
            out.put_u16(0);
            out.put_slice(&block);
        }
        Frame::Reply { id, headers } => {
            let block = encoder.encode(headers)?;
            control(out, SYN_REPLY, 0, 4 + block.len());
            out.put_u32(*id);
            out.put_slice(&block);
        }
        Frame::Reset { id } => {
            control(out, RST_STREAM, 0, 8);
            out.put_u32(*id);
            // CANCEL
            out.put_u32(5);
        }
        Frame::Ping { id } => {
            control(out, PING, 0, 4);
            out.put_u32(*id);
        }
        Frame::GoAway => {
            control(out, GOAWAY, 0, 8);
            out.put_u64(0);
        }
        Frame::Other => {}
    }
    Ok(())
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, len: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    length(out, flags, len);
}

fn length(out: &mut BytesMut, flags: u8, len: usize) {
    let bytes = u32::try_from(len).unwrap_or(0).to_be_bytes();
    out.put_u8(flags);
    out.put_slice(&bytes[1..]);
}
