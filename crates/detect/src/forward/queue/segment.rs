//! One segment file: a mark, then records. See [`super`] for the form.
//!
//! Invariant: a reader gives a record only if its checksum, which covers its number, agrees; no
//! length read from a file is trusted beyond [`LONGEST_RECORD_BYTES`].

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{LONGEST_RECORD_BYTES, QueueError, io_error};

const MAGIC: &[u8; 8] = b"KNALERT1";
pub(super) const MAGIC_BYTES: u64 = MAGIC.len() as u64;
/// No queue gets that far; a name beyond it is not ours.
const LAST_FIRST: u64 = u64::MAX / 2;
/// Length and checksum, four bytes each, little-endian.
const HEADER_BYTES: usize = 8;

/// The bytes that a record of this length takes in a file.
pub(super) fn record_bytes(content: usize) -> u64 {
    (content + HEADER_BYTES) as u64
}

/// A segment that is known: which records it holds.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Segment {
    /// A segment that is to be written.
    pub(super) fn new(directory: &Path, first: u64) -> Segment {
        let path = path(directory, first);
        Segment {
            path,
            first,
            count: 0,
            bytes: MAGIC_BYTES,
        }
    }

    /// The number after its last record.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }

    pub(super) fn reader(&self) -> Result<Reader, QueueError> {
        Reader::open(&self.path, self.first)
    }

    pub(super) fn remove(&self) -> Result<(), QueueError> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&self.path, source))
            }
            _ => Ok(()),
        }
    }
}

/// The segments of a directory in order, each read through once. Files of other names are left.
pub(super) fn list(directory: &Path) -> Result<VecDeque<Segment>, QueueError> {
    let fail = |source| io_error(directory, source);
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let first = name
            .to_str()
            .and_then(|name| name.strip_suffix(".seg"))
            .filter(|digits| digits.len() == 20)
            .and_then(|digits| digits.parse().ok())
            .filter(|first| *first <= LAST_FIRST);
        let Some(first) = first else { continue };
        let mut segment = Segment::new(directory, first);
        segment.bytes = fs::metadata(&segment.path)
            .map_err(|source| io_error(&segment.path, source))?
            .len();
        let mut reader = segment.reader()?;
        while reader.read()?.is_some() {
            segment.count += 1;
        }
        segments.push(segment);
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments.into())
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its segment's first record.
    pub(super) first: u64,
    /// The number of the record.
    pub(super) seq: u64,
    offset: u64,
}

/// Reads the records of a segment one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Whether the file is a segment at all.
    whole: bool,
    /// The record that comes next.
    pub(super) place: Place,
}

impl Reader {
    fn open(path: &Path, first: u64) -> Result<Reader, QueueError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        let mut reader = Reader {
            path: path.into(),
            file: BufReader::new(file),
            whole: true,
            place: Place {
                first,
                seq: first,
                offset: MAGIC_BYTES,
            },
        };
        let mut magic = [0; MAGIC.len()];
        reader.whole = reader.fill(&mut magic)? && magic == *MAGIC;
        Ok(reader)
    }

    /// Goes to a place that an earlier reader of the segment was at.
    pub(super) fn seek(&mut self, place: Place) -> Result<(), QueueError> {
        self.file
            .seek(SeekFrom::Start(place.offset))
            .map_err(|source| io_error(&self.path, source))?;
        self.place = place;
        Ok(())
    }

    /// The next record, or nothing at the end or where the file is damaged.
    pub(super) fn read(&mut self) -> Result<Option<Vec<u8>>, QueueError> {
        let mut header = [0; HEADER_BYTES];
        if !self.whole || !self.fill(&mut header)? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let sum = u32::from_le_bytes([e, f, g, h]);
        if length > LONGEST_RECORD_BYTES {
            return Ok(None);
        }
        let mut content = vec![0; length];
        if !self.fill(&mut content)? || checksum(self.place.seq, &content) != sum {
            return Ok(None);
        }
        self.place.offset += record_bytes(length);
        self.place.seq += 1;
        Ok(Some(content))
    }

    /// Whether all of it could be read.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, QueueError> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(io_error(&self.path, source)),
        }
    }
}

/// Appends to one segment.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    pub(super) fn create(directory: &Path, first: u64) -> Result<Writer, QueueError> {
        let path = path(directory, first);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io_error(&path, source))?;
        file.write_all(MAGIC)
            .map_err(|source| io_error(&path, source))?;
        Ok(Writer {
            path,
            file,
            bytes: MAGIC_BYTES,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn append(&mut self, seq: u64, content: &[u8]) -> Result<(), QueueError> {
        let length = u32::try_from(content.len()).map_err(|_| QueueError::TooLong {
            bytes: content.len(),
        })?;
        let mut record = Vec::with_capacity(content.len() + HEADER_BYTES);
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&checksum(seq, content).to_le_bytes());
        record.extend_from_slice(content);
        if let Err(source) = self.file.write_all(&record) {
            // Best effort: a reader stops at half a record anyway.
            let _ = self.file.set_len(self.bytes);
            return Err(io_error(&self.path, source));
        }
        self.bytes += record.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), QueueError> {
        self.file
            .sync_data()
            .map_err(|source| io_error(&self.path, source))
    }
}

fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.seg"))
}

fn checksum(seq: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}
