//! A streaming reader of tar archives that trusts nothing.
//!
//! It knows ustar, GNU long names and pax records, and bounds what one entry's metadata may take
//! in memory: the `tar` crate reads such records whole, whatever their size. That crate's header
//! type decodes the fixed fields.

use std::io::{self, Read};

/// Long names and pax records beyond this are refused; Go's reader has the same bound.
const MAX_METADATA_BYTES: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// Why an archive cannot be read.
#[derive(Debug)]
pub(crate) enum TarError {
    /// The stream below failed or ended too early.
    Read(io::Error),
    /// The archive is malformed or of an unknown dialect.
    Format(&'static str),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        TarError::Read(error)
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// The metadata of one entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_secs: i64,
    pub(crate) mtime_nanos: u32,
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads entries one after the other; between two calls of `next` it is a reader of the data of
/// the current entry.
pub(crate) struct TarReader<R> {
    inner: R,
    data_left: u64,
    padding: u64,
}

/// What the records before an entry say about it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> TarReader<R> {
        TarReader {
            inner,
            data_left: 0,
            padding: 0,
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size =
                number(&header.as_old().size).ok_or(TarError::Format("invalid size field"))?;
            match header.entry_type().as_byte() {
                b'x' => parse_pax(&self.metadata(size)?, &mut extended)?,
                b'L' => extended.path = Some(text(self.metadata(size)?)),
                b'K' => extended.link = Some(text(self.metadata(size)?)),
                // Global records and volume labels describe the archive, not an entry.
                b'g' | b'V' => self.begin_data(size),
                b'S' => return Err(TarError::Format("GNU sparse files are not supported")),
                kind => {
                    let size = extended.size.unwrap_or(size);
                    if let Some(entry) = entry(&header, kind, size, &mut extended)? {
                        self.begin_data(if entry.kind == Kind::File {
                            entry.size
                        } else {
                            0
                        });
                        return Ok(Some(entry));
                    }
                    tracing::debug!(kind, "skipping a tar entry of unknown type");
                    self.begin_data(size);
                    extended = Extended::default();
                }
            }
        }
    }

    fn begin_data(&mut self, size: u64) {
        self.data_left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let skip = u128::from(self.data_left) + u128::from(self.padding);
        (self.data_left, self.padding) = (0, 0);
        let skip = u64::try_from(skip).map_err(|_| TarError::Format("invalid size field"))?;
        let skipped = io::copy(&mut (&mut self.inner).take(skip), &mut io::sink())?;
        if skipped < skip {
            Err(unexpected_end())
        } else {
            Ok(())
        }
    }

    fn metadata(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_METADATA_BYTES {
            return Err(TarError::Format("metadata record too large"));
        }
        self.begin_data(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a header block. The end is two zero blocks, or the end of the stream.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        let mut header = tar::Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|b| *b == 0) {
            if self.block(header.as_mut_bytes())? && header.as_bytes().iter().any(|b| *b != 0) {
                return Err(TarError::Format("invalid tar header"));
            }
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148]
            .iter()
            .chain(&bytes[156..])
            .map(|b| u32::from(*b))
            .sum::<u32>()
            + 8 * 32;
        if number(&header.as_old().cksum) != Some(sum.into()) {
            return Err(TarError::Format("invalid tar header"));
        }
        Ok(Some(header))
    }

    /// Fills `block`; `false` when the stream ends before its first byte.
    fn block(&mut self, block: &mut [u8; 512]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(unexpected_end()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.data_left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let limit = usize::try_from(self.data_left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..limit])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data_left -= count as u64;
        Ok(count)
    }
}

fn unexpected_end() -> TarError {
    TarError::Read(io::ErrorKind::UnexpectedEof.into())
}

fn entry(
    header: &tar::Header,
    kind: u8,
    size: u64,
    extended: &mut Extended,
) -> Result<Option<Entry>, TarError> {
    let path = match extended.path.take() {
        Some(path) => path,
        None => header.path_bytes().into_owned(),
    };
    let kind = match kind {
        b'0' | b'7' | 0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | b'7' | 0 => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => device(header).map(|(major, minor)| Kind::Char { major, minor })?,
        b'4' => device(header).map(|(major, minor)| Kind::Block { major, minor })?,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Ok(None),
    };
    let old = header.as_old();
    let owner = |record: Option<u64>, field: &[u8]| {
        let id = record
            .or_else(|| number(field))
            .and_then(|id| u32::try_from(id).ok());
        id.ok_or(TarError::Format("invalid owner"))
    };
    let mode = number(&old.mode).ok_or(TarError::Format("invalid mode"))? & 0o7777;
    let (mtime_secs, mtime_nanos) = match extended.mtime {
        Some(mtime) => mtime,
        // A time before 1970 in binary reads as none.
        None => (
            number(&old.mtime)
                .and_then(|secs| i64::try_from(secs).ok())
                .unwrap_or(0),
            0,
        ),
    };
    Ok(Some(Entry {
        link: match extended.link.take() {
            Some(link) => link,
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        },
        kind,
        mode: u32::try_from(mode).unwrap_or(0o755),
        uid: owner(extended.uid, &old.uid)?,
        gid: owner(extended.gid, &old.gid)?,
        mtime_secs,
        mtime_nanos,
        size,
        xattrs: std::mem::take(&mut extended.xattrs),
        path,
    }))
}

/// Major and minor number; the oldest dialect has none.
fn device(header: &tar::Header) -> Result<(u32, u32), TarError> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        _ => return Ok((0, 0)),
    };
    let small = |field| number(field).and_then(|number| u32::try_from(number).ok());
    small(major)
        .zip(small(minor))
        .ok_or(TarError::Format("invalid device number"))
}

/// Octal digits between blanks, none at all for zero; or binary where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if let [first @ 0x80..=0xff, rest @ ..] = field {
        if *first & 0x7f != 0 {
            return None; // negative, or beyond all sense
        }
        return rest.iter().try_fold(0_u64, |value, byte| {
            value.checked_mul(256)?.checked_add((*byte).into())
        });
    }
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    field[..end]
        .trim_ascii()
        .iter()
        .try_fold(0_u64, |value, byte| match byte {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add((byte - b'0').into()),
            _ => None,
        })
}

/// A GNU long name ends with a NUL that is not part of it.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Records are `LENGTH KEY=VALUE\n`, where the length counts the whole record.
fn parse_pax(mut records: &[u8], extended: &mut Extended) -> Result<(), TarError> {
    const MALFORMED: TarError = TarError::Format("malformed pax record");
    while !records.is_empty() {
        let space = records
            .iter()
            .take(20)
            .position(|b| *b == b' ')
            .ok_or(MALFORMED)?;
        let length: usize = ascii(&records[..space]).ok_or(MALFORMED)?;
        if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
            return Err(MALFORMED);
        }
        let record = &records[space + 1..length - 1];
        records = &records[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or(MALFORMED)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            extended.xattrs.push((name.to_vec(), value.to_vec()));
            continue;
        }
        match key {
            b"path" => extended.path = Some(value.to_vec()),
            b"linkpath" => extended.link = Some(value.to_vec()),
            b"size" => extended.size = Some(ascii(value).ok_or(MALFORMED)?),
            b"uid" => extended.uid = Some(ascii(value).ok_or(MALFORMED)?),
            b"gid" => extended.gid = Some(ascii(value).ok_or(MALFORMED)?),
            b"mtime" => extended.mtime = Some(time(value).ok_or(MALFORMED)?),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(TarError::Format("GNU sparse files are not supported"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn ascii<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// `SECONDS[.FRACTION]`, possibly negative.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let value = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let secs: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().ok()?;
    // A negative time counts its fraction downwards.
    if value.starts_with('-') && nanos > 0 {
        return Some((secs.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((secs, nanos))
}
