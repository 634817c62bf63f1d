//! The file: a head, the compressed entries in the order of their keys, a tail, a checksum, an end mark.
//!
//! ```text
//! "KNARRSNP"  format u32  head length u32  head (JSON)
//! one zstd frame of records:
//!     1  key length u32  value length u32  created u64  modified u64  expires u64  key  value
//!     0
//! tail (JSON)  tail length u32  SHA-256 of all before  "KNARREND"
//! ```
//!
//! Numbers are big endian; `expires` is in milliseconds since 1970, 0 for never. The marks at both
//! ends and the checksum before the last one stay where they are in every format to come, so that any
//! version can tell a foreign file from one that is cut short, damaged, or too new.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Take, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};

use super::error::io_error;
use super::{Progress, Snapshot, SnapshotError, Step};
use crate::{Entry, Revision};

const MARK: &[u8; 8] = b"KNARRSNP";
const END_MARK: &[u8; 8] = b"KNARREND";
const FORMAT: u32 = 1;
/// What is before the head, in bytes.
const BEFORE_HEAD: u64 = 16;
/// What is after the tail, in bytes: its length, the checksum, the end mark.
const AFTER_TAIL: u64 = 4 + SUM_AND_MARK;
const SUM_AND_MARK: u64 = SHA256_OUTPUT_LEN as u64 + 8;
/// The longest head or tail, in bytes.
const JSON_LIMIT_BYTES: u32 = 1 << 20;
/// The longest key and value that are believed, in bytes: far above what a store accepts.
const KEY_LIMIT_BYTES: u32 = 1 << 16;
const VALUE_LIMIT_BYTES: u32 = 1 << 28;
/// How much is read in one go for the checksum.
const CHUNK_BYTES: usize = 1 << 18;
/// The compression: the library's default, faster than a disk and a sixth of the size for JSON.
const LEVEL: i32 = 3;

/// What is known when the file is begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    /// In milliseconds since 1970.
    pub(super) created: u64,
    pub(super) revision: u64,
    pub(super) engine: String,
    pub(super) label: String,
}

/// What is known when all entries are written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tail {
    entries: u64,
    content_bytes: u64,
    seal_keys: Vec<u32>,
}

/// Milliseconds since 1970, rounded up.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH)
}

/// Counts and sums what goes through it.
struct Summing<W> {
    inner: W,
    sum: Context,
    bytes: u64,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.sum.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file that is being written. Unless it is finished it goes when this is dropped.
pub(super) struct Writer {
    path: PathBuf,
    partial: PathBuf,
    head: Head,
    tail: Tail,
    frame: Option<zstd::Encoder<'static, Summing<BufWriter<File>>>>,
}

impl Writer {
    /// Begins a file. It has another name until it is finished.
    pub(super) fn create(path: &Path, head: Head) -> Result<Writer, SnapshotError> {
        let partial = partial(path);
        // What a killed process has left is of no use.
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &partial)(error));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .map_err(io_error("make", &partial))?;
        let mut writer = Writer {
            path: path.to_owned(),
            partial,
            head,
            tail: Tail::default(),
            frame: None,
        };
        let begun = writer.begin(file);
        begun.map_err(io_error("write", &writer.partial))?;
        Ok(writer)
    }

    fn begin(&mut self, file: File) -> io::Result<()> {
        let mut out = Summing {
            inner: BufWriter::new(file),
            sum: Context::new(&SHA256),
            bytes: 0,
        };
        let head = serde_json::to_vec(&self.head)?;
        out.write_all(MARK)?;
        out.write_all(&FORMAT.to_be_bytes())?;
        out.write_all(&length(&head)?.to_be_bytes())?;
        out.write_all(&head)?;
        self.frame = Some(zstd::Encoder::new(out, LEVEL)?);
        Ok(())
    }

    /// Adds an entry. The order is the caller's business.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        let written = match &mut self.frame {
            Some(frame) => write_record(frame, entry),
            None => Ok(()),
        };
        written.map_err(io_error("write", &self.partial))?;
        self.tail.entries += 1;
        self.tail.content_bytes += (entry.key.len() + entry.value.len()) as u64;
        if let Some(id) = crate::sealed_with(&entry.value)
            && !self.tail.seal_keys.contains(&id)
        {
            self.tail.seal_keys.push(id);
        }
        Ok(())
    }

    /// Completes the file, and gives it its name.
    pub(super) fn finish(mut self) -> Result<Snapshot, SnapshotError> {
        let size_bytes = self.complete().map_err(io_error("write", &self.partial))?;
        std::fs::rename(&self.partial, &self.path).map_err(io_error("make", &self.path))?;
        sync_folder(&self.path).map_err(io_error("sync the folder of", &self.path))?;
        let (head, tail) = (self.head.clone(), std::mem::take(&mut self.tail));
        Ok(snapshot(&self.path, size_bytes, head, tail))
    }

    fn complete(&mut self) -> io::Result<u64> {
        let Some(mut frame) = self.frame.take() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        frame.write_all(&[0])?;
        let mut out = frame.finish()?;
        let tail = serde_json::to_vec(&self.tail)?;
        out.write_all(&tail)?;
        out.write_all(&length(&tail)?.to_be_bytes())?;
        let Summing {
            mut inner,
            sum,
            bytes,
        } = out;
        inner.write_all(sum.finish().as_ref())?;
        inner.write_all(END_MARK)?;
        let file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(bytes + SUM_AND_MARK)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After the end it is not there any more.
        let _gone = std::fs::remove_file(&self.partial);
    }
}

/// The name of a file until it is whole.
pub(super) fn partial(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    path.with_file_name(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_too_long| io::ErrorKind::InvalidData.into())
}

fn write_record(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let expires = entry.expires.map_or(0, millis);
    out.write_all(&[1])?;
    out.write_all(&length(entry.key.as_bytes())?.to_be_bytes())?;
    out.write_all(&length(&entry.value)?.to_be_bytes())?;
    out.write_all(&entry.created.0.to_be_bytes())?;
    out.write_all(&entry.modified.0.to_be_bytes())?;
    out.write_all(&expires.to_be_bytes())?;
    out.write_all(entry.key.as_bytes())?;
    out.write_all(&entry.value)
}

fn snapshot(path: &Path, size_bytes: u64, head: Head, tail: Tail) -> Snapshot {
    Snapshot {
        path: path.to_owned(),
        size_bytes,
        created: time(head.created),
        revision: Revision(head.revision),
        engine: head.engine,
        label: head.label,
        entries: tail.entries,
        content_bytes: tail.content_bytes,
        seal_keys: tail.seal_keys,
    }
}

/// A file with both of its marks.
struct Outline {
    file: File,
    size_bytes: u64,
}

/// Opens a file and looks at its ends.
fn outline(path: &Path) -> Result<Outline, SnapshotError> {
    let read = |error| io_error("read", path)(error);
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let metadata = file.metadata().map_err(read)?;
    let foreign = || SnapshotError::Foreign {
        path: path.to_owned(),
    };
    if !metadata.is_file() {
        return Err(foreign());
    }
    let size_bytes = metadata.len();
    let short = usize::try_from(size_bytes.min(8)).unwrap_or(8);
    let (mut mark, mut end_mark) = (vec![0; short], vec![0; short]);
    file.read_exact(&mut mark).map_err(read)?;
    file.seek(SeekFrom::Start(size_bytes - short as u64))
        .and_then(|_| file.read_exact(&mut end_mark))
        .map_err(read)?;
    let ends = end_mark == END_MARK;
    if !MARK.starts_with(&mark) && !ends {
        return Err(foreign());
    }
    if !ends || size_bytes < BEFORE_HEAD + AFTER_TAIL {
        return Err(SnapshotError::CutShort {
            path: path.to_owned(),
            size_bytes,
        });
    }
    if mark != MARK {
        return Err(damaged(path, "it does not begin as it should"));
    }
    Ok(Outline { file, size_bytes })
}

fn damaged(path: &Path, detail: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged {
        path: path.to_owned(),
        detail: detail.into(),
    }
}

/// Head, tail, and where the frame begins and ends.
fn facts(path: &Path, outline: &mut Outline) -> Result<(Snapshot, u64, u64), SnapshotError> {
    let Outline { file, size_bytes } = outline;
    let mut u32_at = |at: u64| -> Result<u32, SnapshotError> {
        let mut bytes = [0; 4];
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(io_error("read", path))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = u32_at(8)?;
    if found > FORMAT {
        return Err(SnapshotError::TooNew {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    let (head_length, tail_length) = (u32_at(12)?, u32_at(*size_bytes - AFTER_TAIL)?);
    let begin = BEFORE_HEAD + u64::from(head_length);
    let end = (*size_bytes - AFTER_TAIL).checked_sub(u64::from(tail_length));
    let Some(end) = end.filter(|end| {
        head_length <= JSON_LIMIT_BYTES && tail_length <= JSON_LIMIT_BYTES && begin <= *end
    }) else {
        return Err(damaged(path, "its lengths do not add up"));
    };
    let mut json_at = |at: u64, length: u32| -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(io_error("read", path))?;
        Ok(bytes)
    };
    let (head, tail) = (
        json_at(BEFORE_HEAD, head_length)?,
        json_at(end, tail_length)?,
    );
    let odd = |error: serde_json::Error| damaged(path, error.to_string());
    let head: Head = serde_json::from_slice(&head).map_err(odd)?;
    let tail: Tail = serde_json::from_slice(&tail).map_err(odd)?;
    Ok((snapshot(path, *size_bytes, head, tail), begin, end))
}

pub(super) fn inspect(path: &Path) -> Result<Snapshot, SnapshotError> {
    let (snapshot, ..) = facts(path, &mut outline(path)?)?;
    Ok(snapshot)
}

/// Reads the entries of a file that was found whole.
pub(crate) struct Reader {
    snapshot: Snapshot,
    frame: zstd::Decoder<'static, BufReader<Take<File>>>,
    entries: u64,
    ended: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("snapshot", &self.snapshot)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file and checks all of it against its checksum.
    pub(crate) fn open(path: &Path, progress: Progress<'_>) -> Result<Reader, SnapshotError> {
        let mut outline = outline(path)?;
        check_sum(path, &mut outline, progress)?;
        let (snapshot, begin, end) = facts(path, &mut outline)?;
        let mut file = outline.file;
        let frame = file
            .seek(SeekFrom::Start(begin))
            .and_then(|_| zstd::Decoder::with_buffer(BufReader::new(file.take(end - begin))))
            .map_err(io_error("read", path))?;
        Ok(Reader {
            snapshot,
            frame: frame.single_frame(),
            entries: 0,
            ended: false,
        })
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// The next entry; `None` when all were read.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let record = read_record(&mut self.frame);
        // The checksum was right, so what is odd here was written so.
        let record = record.map_err(|error| damaged(&self.snapshot.path, error.to_string()))?;
        match record {
            Some(entry) => {
                self.entries += 1;
                Ok(Some(entry))
            }
            None if self.entries == self.snapshot.entries => {
                self.ended = true;
                Ok(None)
            }
            None => Err(damaged(
                &self.snapshot.path,
                format!(
                    "it has {} of {} entries",
                    self.entries, self.snapshot.entries
                ),
            )),
        }
    }
}

fn check_sum(
    path: &Path,
    outline: &mut Outline,
    progress: Progress<'_>,
) -> Result<(), SnapshotError> {
    let read = |error| io_error("read", path)(error);
    let file = &mut outline.file;
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    let (mut left, mut sum) = (outline.size_bytes - SUM_AND_MARK, Context::new(&SHA256));
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let most = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let count = file.read(&mut chunk[..most]).map_err(read)?;
        if count == 0 {
            return Err(read(io::ErrorKind::UnexpectedEof.into()));
        }
        sum.update(&chunk[..count]);
        left -= count as u64;
        progress(Step::Checked(outline.size_bytes - SUM_AND_MARK - left));
    }
    let mut stored = [0; SHA256_OUTPUT_LEN];
    file.read_exact(&mut stored).map_err(read)?;
    if sum.finish().as_ref() == stored {
        return Ok(());
    }
    Err(damaged(path, "its checksum is wrong"))
}

fn read_record(frame: &mut impl Read) -> io::Result<Option<Entry>> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut tag = [0];
    frame.read_exact(&mut tag)?;
    match tag {
        [0] => return Ok(None),
        [1] => {}
        _ => return Err(invalid("an unknown record")),
    }
    let mut lengths = [[0; 4]; 2];
    for length in &mut lengths {
        frame.read_exact(length)?;
    }
    let [key_length, value_length] = lengths.map(u32::from_be_bytes);
    let mut numbers = [[0; 8]; 3];
    for number in &mut numbers {
        frame.read_exact(number)?;
    }
    let [created, modified, expires] = numbers.map(u64::from_be_bytes);
    if key_length > KEY_LIMIT_BYTES || value_length > VALUE_LIMIT_BYTES {
        return Err(invalid("an entry that is far too long"));
    }
    let mut key = vec![0; key_length as usize];
    frame.read_exact(&mut key)?;
    let mut value = vec![0; value_length as usize];
    frame.read_exact(&mut value)?;
    let key = String::from_utf8(key).map_err(|_| invalid("a key that is not text"))?;
    Ok(Some(Entry {
        key: key.into(),
        value: Bytes::from(value),
        created: Revision(created),
        modified: Revision(modified),
        expires: (expires != 0).then(|| time(expires)),
    }))
}
