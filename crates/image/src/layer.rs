//! Unpacking one layer into a folder, in the form that overlayfs understands.
//!
//! Invariants: nothing is created, changed or removed outside the folder, whatever names, links
//! and archives say; a layer that breaks a rule fails as a whole.

mod implicit;
mod target;
mod tree;

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use crate::digest::Hasher;
use crate::tarball::{TarError, TarReader};
use crate::{Digest, Limits, PullErrorKind};

pub(crate) use implicit::{copy_metadata, settle_implicit};
pub(crate) use target::Target;
pub(crate) use tree::{remove_tree, tree_usage};

/// The xattr that makes overlayfs hide what is below a folder.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Why a layer could not be unpacked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LayerError {
    /// A file operation on this host failed.
    #[error("{operation} \"{path}\"")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which path within the layer.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The bytes cannot be decompressed, or end too early.
    #[error("failed to read the layer's archive")]
    Read {
        /// What the decoder said.
        source: Arc<io::Error>,
    },
    /// The archive is no tar archive that we can read.
    #[error("archive/tar: {problem}")]
    Tar {
        /// What is wrong.
        problem: &'static str,
    },
    /// A name or a link leads out of the layer.
    #[error("\"{path}\" is outside of the layer's root: invalid argument")]
    Escape {
        /// The name as it stands in the archive.
        path: String,
    },
    /// A name cannot be a file name.
    #[error("invalid name \"{path}\" in the layer")]
    Name {
        /// The name as it stands in the archive.
        path: String,
    },
    /// A hard link to something that this layer does not hold.
    #[error("hard link \"{path}\" to \"{target}\", which the layer does not hold")]
    LinkTarget {
        /// The link.
        path: String,
        /// What it should be linked to.
        target: String,
    },
    /// The layer holds more than is allowed.
    #[error("the layer exceeds the limit of {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The unpacked bytes are not what the image's configuration promises.
    #[error("wrong diff id calculated on extraction \"{actual}\", expected \"{expected}\"")]
    DiffId {
        /// From the configuration.
        expected: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// The blob is compressed in a way that we do not know.
    #[error("unsupported compression {name}")]
    Compression {
        /// Its name.
        name: &'static str,
    },
}

impl LayerError {
    pub(crate) fn kind(&self) -> PullErrorKind {
        match self {
            LayerError::Io { .. } => PullErrorKind::Host,
            _ => PullErrorKind::InvalidImage,
        }
    }
}

/// What unpacking has found out.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) diff_id: Digest,
    /// Bytes of regular files.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Folders that exist only because something lies in them, shallow first; the empty path is
    /// the root. Their metadata is to be taken from the layers below.
    pub(crate) implicit: Vec<Vec<u8>>,
}

/// Unpacks the (compressed) archive `blob` into the empty folder `folder`, and reads the blob to
/// its end.
pub(crate) fn unpack(
    blob: &mut dyn BufRead,
    folder: &Path,
    limits: &Limits,
) -> Result<Unpacked, LayerError> {
    let (result, hasher) = {
        let mut counted = Counted {
            inner: decoder(blob)?,
            hasher: Hasher::default(),
            left: limits.max_unpacked_bytes,
            exceeded: false,
        };
        let result = unpack_tar(&mut counted, folder, limits);
        if counted.exceeded {
            return Err(LayerError::Limit {
                what: "bytes",
                limit: limits.max_unpacked_bytes,
            });
        }
        (result, counted.hasher)
    };
    let (entries, bytes, implicit) = result?;
    let diff_id = hasher.finish();
    io::copy(blob, &mut io::sink()).map_err(read_error)?;
    Ok(Unpacked {
        diff_id,
        bytes,
        entries,
        implicit,
    })
}

fn unpack_tar(
    stream: &mut Counted<'_>,
    folder: &Path,
    limits: &Limits,
) -> Result<(u64, u64, Vec<Vec<u8>>), LayerError> {
    let mut target = Target::open(folder)?;
    let mut archive = TarReader::new(BufReader::with_capacity(128 << 10, stream));
    let (mut entries, mut bytes) = (0, 0_u64);
    while let Some(entry) = archive.next().map_err(tar_error)? {
        entries += 1;
        if entries > limits.max_entries {
            return Err(LayerError::Limit {
                what: "entries",
                limit: limits.max_entries,
            });
        }
        bytes = bytes.saturating_add(target.put(&entry, &mut archive)?);
    }
    let implicit = target.finish()?;
    // The padding behind the archive's end belongs to its digest.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(read_error)?;
    Ok((entries, bytes, implicit))
}

fn tar_error(error: TarError) -> LayerError {
    match error {
        TarError::Read(source) => read_error(source),
        TarError::Format(problem) => LayerError::Tar { problem },
    }
}

fn read_error(source: io::Error) -> LayerError {
    LayerError::Read {
        source: Arc::new(source),
    }
}

/// Chooses the decoder by the first bytes: media types lie.
pub(crate) fn decoder<'a>(blob: &'a mut dyn BufRead) -> Result<Box<dyn Read + 'a>, LayerError> {
    let mut magic = Vec::new();
    blob.take(6).read_to_end(&mut magic).map_err(read_error)?;
    let kind = match magic.as_slice() {
        [0x1f, 0x8b, ..] => b'g',
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => b'z',
        [b'B', b'Z', b'h', ..] => return Err(LayerError::Compression { name: "bzip2" }),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(LayerError::Compression { name: "xz" }),
        _ => b'n',
    };
    let whole = Cursor::new(magic).chain(blob);
    Ok(match kind {
        b'g' => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        b'z' => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(whole).map_err(read_error)?;
            decoder.window_log_max(27).map_err(read_error)?;
            Box::new(decoder)
        }
        _ => Box::new(whole),
    })
}

/// Hashes what passes, and stops at a limit.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    hasher: Hasher,
    left: u64,
    exceeded: bool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// A small archive with one of everything.
    fn sample() -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType, link: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(data.len() as u64);
            header.set_mode(0o755);
            if link.is_empty() {
                archive.append_data(&mut header, name, data).unwrap();
            } else {
                archive.append_link(&mut header, name, link).unwrap();
            }
        };
        add("d", tar::EntryType::Directory, "", b"");
        add("d/f", tar::EntryType::Regular, "", b"content");
        add(&"long/".repeat(40), tar::EntryType::Directory, "", b"");
        add("h", tar::EntryType::Link, "d/f", b"");
        add("s", tar::EntryType::Symlink, "d", b"");
        add("s/g", tar::EntryType::Regular, "", b"through");
        add("d/.wh.gone", tar::EntryType::Regular, "", b"");
        archive
            .append_pax_extensions([("mtime", b"1.5".as_slice()), ("SCHILY.xattr.user.a", b"b")])
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        archive.append_data(&mut header, "x", &b"y"[..]).unwrap();
        archive.into_inner().unwrap()
    }

    /// Flips bytes, and makes the checksums right again, so that the damage is not found early.
    #[test]
    fn damaged_archives_never_panic_nor_leave_their_folder() {
        let whole = sample();
        // In memory: disk file systems are slow at reusing what was just deleted.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let limits = Limits {
            max_entries: 100,
            max_unpacked_bytes: 1 << 20,
            ..Limits::default()
        };
        let mut seed = 42_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut unpacked = 0;
        for round in 0..2000 {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = [0, b'/', b'.', b'0', b'7', 0x80, 0xff, b'x', b'L', b'2'][random(10)];
            }
            if round % 4 == 0 {
                bytes.truncate(random(bytes.len()));
            }
            for header in bytes.chunks_exact_mut(512) {
                if &header[257..262] == b"ustar" {
                    header[148..156].fill(b' ');
                    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
                    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
            let folder = dir.path().join("fs");
            std::fs::create_dir(&folder).unwrap();
            unpacked += usize::from(unpack(&mut &bytes[..], &folder, &limits).is_ok());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
            remove_tree(&folder).unwrap();
        }
        assert!(unpacked > 100 && unpacked < 1900, "{unpacked}");
    }
}
