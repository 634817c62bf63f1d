//! From a stream of compressed bytes to a blob and an unpacked layer, in one pass.
//!
//! Every byte is written to the ingest file, hashed, decompressed, hashed again and unpacked as it
//! comes. Invariants: blob and layer get their names only after both digests were verified; a
//! broken stream leaves the ingest file for the next attempt, a wrong one leaves nothing.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::Path;

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use crate::digest::Hasher;
use crate::layer::{self, LayerError, remove_tree};
use crate::store::{LayerRecord, Store};
use crate::{Digest, ImageError, Limits};

/// What the downloading side hands over.
pub(crate) enum Piece {
    Data(Bytes),
    /// All bytes were sent. A channel that closes without it means that the download was given up.
    End,
}

/// Why a layer did not arrive.
pub(crate) enum IngestError {
    /// The sending side gave up; it knows why.
    Aborted,
    /// The bytes are not those that were asked for.
    Digest { actual: Digest },
    /// The bytes are right but cannot be unpacked.
    Layer(LayerError),
    /// Our disk failed.
    Store(ImageError),
}

impl From<ImageError> for IngestError {
    fn from(error: ImageError) -> IngestError {
        IngestError::Store(error)
    }
}

/// Which layer, and what it is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) blob: Digest,
    pub(crate) diff_id: Digest,
}

/// The ingest file of a blob, and how much of it is there from an earlier attempt.
pub(crate) fn open_partial(
    store: &Store,
    blob: Digest,
    size: u64,
) -> Result<(File, u64), ImageError> {
    let path = store.ingest_path(blob);
    let mut options = File::options();
    options.create(true).read(true).append(true);
    let file = options.open(&path).map_err(ImageError::io("open", &path))?;
    let length = file
        .metadata()
        .map_err(ImageError::io("look at", &path))?
        .len();
    if length > size {
        file.set_len(0).map_err(ImageError::io("truncate", &path))?;
        return Ok((file, 0));
    }
    Ok((file, length))
}

/// Takes a layer from `receiver`, after the `start` bytes that the ingest file holds. Blocks.
pub(crate) fn from_stream(
    store: &Store,
    layer: Layer,
    limits: &Limits,
    partial: (File, u64),
    receiver: mpsc::Receiver<Piece>,
) -> Result<(), IngestError> {
    let (file, start) = partial;
    let mut intake = Intake {
        file,
        replay_left: start,
        receiver,
        current: Bytes::new(),
        hasher: Hasher::default(),
        state: State::Open,
    };
    let temp = store.temp_path();
    let unpacked = unpack_to(store, &temp, layer.diff_id, limits, &mut intake);
    // Bytes that cannot be unpacked may simply be the wrong ones: see all of them before judging.
    if unpacked.is_err() && matches!(intake.state, State::Open) {
        let _ = io::copy(&mut intake, &mut io::sink());
    }
    let arrived = intake.finish().and_then(|actual| {
        if actual == layer.blob {
            Ok(())
        } else {
            Err(IngestError::Digest { actual })
        }
    });
    let result = arrived.and_then(|()| {
        store.place_blob(&store.ingest_path(layer.blob), layer.blob)?;
        store.place_layer(&temp, layer.diff_id, &unpacked?)?;
        Ok(())
    });
    match &result {
        Ok(()) => {}
        Err(error) => {
            if matches!(error, IngestError::Digest { .. }) {
                let _ = fs::remove_file(store.ingest_path(layer.blob));
            }
            clear(&temp);
        }
    }
    result
}

/// Unpacks a layer whose blob is here. Blocks.
pub(crate) fn from_blob(store: &Store, layer: Layer, limits: &Limits) -> Result<(), IngestError> {
    let path = store.blob_path(layer.blob);
    let file = File::open(&path).map_err(ImageError::io("open", &path))?;
    let temp = store.temp_path();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let result = unpack_to(store, &temp, layer.diff_id, limits, &mut reader)
        .and_then(|record| Ok(store.place_layer(&temp, layer.diff_id, &record)?));
    if result.is_err() {
        clear(&temp);
    }
    result
}

/// Whether the blob on disk is what its name says.
pub(crate) fn verify_blob(store: &Store, digest: Digest) -> bool {
    let Ok(mut file) = File::open(store.blob_path(digest)) else {
        return false;
    };
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hasher.finish() == digest,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(_) => return false,
        }
    }
}

fn unpack_to(
    store: &Store,
    temp: &Path,
    expected: Digest,
    limits: &Limits,
    blob: &mut dyn BufRead,
) -> Result<LayerRecord, IngestError> {
    let folder = temp.join("fs");
    fs::create_dir_all(&folder).map_err(ImageError::io("create folder", &folder))?;
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::chmod(&folder, mode)
        .map_err(|e| ImageError::io("set mode of", &folder)(e.into()))?;
    let unpacked = layer::unpack(blob, &folder, limits).map_err(IngestError::Layer)?;
    if unpacked.diff_id != expected {
        let actual = unpacked.diff_id;
        return Err(IngestError::Layer(LayerError::DiffId { expected, actual }));
    }
    tracing::debug!(root = %store.root().display(), %expected, entries = unpacked.entries, "layer unpacked");
    Ok(LayerRecord {
        bytes: unpacked.bytes,
        entries: unpacked.entries,
        implicit: unpacked.implicit,
    })
}

fn clear(temp: &Path) {
    if let Err(error) = remove_tree(temp) {
        tracing::warn!(path = %temp.display(), %error, "cannot remove an unfinished layer");
    }
}

/// The reading end: first what the ingest file holds, then what comes, which is appended to it.
struct Intake {
    file: File,
    replay_left: u64,
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    hasher: Hasher,
    state: State,
}

enum State {
    Open,
    Complete,
    Aborted,
    Failed(io::Error),
}

impl Intake {
    fn next_piece(&mut self) -> io::Result<()> {
        if self.replay_left > 0 {
            let limit = usize::try_from(self.replay_left)
                .unwrap_or(usize::MAX)
                .min(256 << 10);
            let mut buffer = vec![0; limit];
            // Reads go from the start; appending does not move with them.
            self.file.read_exact(&mut buffer)?;
            self.replay_left -= limit as u64;
            self.hasher.update(&buffer);
            self.current = buffer.into();
            return Ok(());
        }
        match self.receiver.blocking_recv() {
            Some(Piece::Data(bytes)) => {
                self.file.write_all(&bytes)?;
                self.hasher.update(&bytes);
                self.current = bytes;
            }
            Some(Piece::End) => self.state = State::Complete,
            None => self.state = State::Aborted,
        }
        Ok(())
    }

    fn finish(self) -> Result<Digest, IngestError> {
        match self.state {
            State::Complete => Ok(self.hasher.finish()),
            State::Open | State::Aborted => Err(IngestError::Aborted),
            State::Failed(error) => {
                Err(ImageError::io("write", Path::new("the downloaded blob"))(error).into())
            }
        }
    }
}

impl BufRead for Intake {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.state {
                State::Open => {
                    if let Err(error) = self.next_piece() {
                        self.state = State::Failed(error);
                    }
                }
                State::Complete => break,
                State::Aborted | State::Failed(_) => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
