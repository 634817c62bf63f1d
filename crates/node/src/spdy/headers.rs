//! Header blocks: length-prefixed names and values, compressed with one zlib
//! context a direction for the life of the connection.
//!
//! Invariant: a block never grows beyond a bound when it is decompressed.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{SpdyError, dictionary::dictionary};

/// The largest decompressed block.
const MAX_BLOCK: usize = 64 * 1024;

/// Names and values.
pub(crate) type Headers = Vec<(String, String)>;

/// Compresses the blocks of one direction.
pub(crate) struct Encoder(Compress);

impl Encoder {
    /// A fresh context.
    pub(crate) fn new() -> Self {
        let mut zlib = Compress::new(Compression::default(), true);
        // Only fails on a used context.
        let _ = zlib.set_dictionary(&dictionary());
        Self(zlib)
    }

    /// Compresses a block.
    ///
    /// # Errors
    /// When zlib fails.
    pub(crate) fn encode(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::new();
        let put = |plain: &mut Vec<u8>, n: usize| {
            plain.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes());
        };
        put(&mut plain, headers.len());
        for (name, value) in headers {
            for text in [name, value] {
                put(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let begun = self.0.total_in();
        loop {
            out.reserve(256);
            let done = usize::try_from(self.0.total_in() - begun).unwrap_or(usize::MAX);
            let before = out.len();
            self.0
                .compress_vec(
                    plain.get(done..).unwrap_or_default(),
                    &mut out,
                    FlushCompress::Sync,
                )
                .map_err(|_| SpdyError::Headers)?;
            // Flushed once everything is in and room was left.
            let all = self.0.total_in() - begun == plain.len() as u64;
            if all && (out.len() < out.capacity() || out.len() == before) {
                return Ok(out);
            }
        }
    }
}

/// Decompresses the blocks of one direction.
pub(crate) struct Decoder(Decompress);

impl Decoder {
    /// A fresh context.
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Decompresses and parses a block. Names come out in lower case.
    ///
    /// # Errors
    /// When the block is malformed or too large.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let plain = self.inflate(block)?;
        let mut rest = plain.as_slice();
        let count = number(&mut rest)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            let mut text = || -> Result<String, SpdyError> {
                let len = number(&mut rest)? as usize;
                let bytes = rest.get(..len).ok_or(SpdyError::Headers)?;
                rest = &rest[len..];
                Ok(String::from_utf8_lossy(bytes).into_owned())
            };
            let (name, value) = (text()?, text()?);
            headers.push((name.to_ascii_lowercase(), value));
        }
        Ok(headers)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::new();
        let mut rest = block;
        loop {
            if out.len() >= MAX_BLOCK {
                return Err(SpdyError::Headers);
            }
            out.reserve(4096);
            let (before_in, before_out) = (self.0.total_in(), out.len());
            let status = match self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(status) => status,
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| SpdyError::Headers)?;
                    Status::Ok
                }
                Err(_) => return Err(SpdyError::Headers),
            };
            let used = usize::try_from(self.0.total_in() - before_in).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            let stuck = used == 0 && out.len() == before_out && status != Status::Ok;
            if stuck || (rest.is_empty() && out.len() < out.capacity()) {
                return Ok(out);
            }
        }
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, SpdyError> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(SpdyError::Headers)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head))
}
