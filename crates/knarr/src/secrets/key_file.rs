//! `<data-dir>/secrets.key`: the keys that Secrets are sealed with, as JSON.
//!
//! Invariant: the file on disk is whole at any moment, is its owner's alone, and a key is in it before
//! anything is sealed with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::SealKey;
use zeroize::{Zeroize as _, Zeroizing};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "secrets.key";
const VERSION: u32 = 1;
/// No file that we read is larger.
const MAX_BYTES: u64 = 1 << 20;

/// The keys, in memory.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    /// The newest first: that one seals, all open.
    pub(crate) keys: Vec<Key>,
    /// Whether the database is from before sealing, and not all of it has been written anew yet.
    pub(crate) plain_may_remain: bool,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) key: SealKey,
    pub(crate) created: Timestamp,
}

impl Key {
    fn generate() -> Result<Key> {
        Ok(Key {
            key: SealKey::generate()?,
            created: Timestamp::now(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileForm {
    version: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    plain_may_remain: bool,
    keys: Vec<KeyForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyForm {
    id: String,
    created: Timestamp,
    secret: String,
}

impl Drop for KeyForm {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// A key's id as people see it.
pub(crate) fn shown(id: u32) -> String {
    format!("{id:08x}")
}

/// Where the file is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

impl KeyFile {
    /// A file that is not written yet, with one new key.
    pub(crate) fn fresh(path: PathBuf, plain_may_remain: bool) -> Result<KeyFile> {
        Ok(KeyFile {
            path,
            keys: vec![Key::generate()?],
            plain_may_remain,
        })
    }

    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not such a file; nothing of its content is in the error.
    pub(crate) fn load(path: &Path) -> Result<Option<KeyFile>> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(
                path = %path.display(),
                mode = format!("{mode:03o}"),
                "others may read the key file; run: chmod 600 {}", path.display()
            );
        }
        if metadata.len() > MAX_BYTES {
            bail!("{} is far too large for a key file", path.display());
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let text = Zeroizing::new(text);
        let (keys, plain_may_remain) = parse(&text).map_err(|fault| {
            anyhow::anyhow!(
                "{} is not a whole key file: {fault}; put back a copy of it from a backup",
                path.display()
            )
        })?;
        Ok(Some(KeyFile {
            path: path.to_owned(),
            keys,
            plain_may_remain,
        }))
    }

    /// Writes the file: beside it first, then put in its place.
    pub(crate) fn write(&self) -> Result<()> {
        let keys = self.keys.iter().map(|key| KeyForm {
            id: shown(key.key.id),
            created: key.created,
            secret: BASE64_STANDARD.encode(key.key.secret),
        });
        let form = FileForm {
            version: VERSION,
            plain_may_remain: self.plain_may_remain,
            keys: keys.collect(),
        };
        let mut text = Zeroizing::new(serde_json::to_string_pretty(&form)?);
        text.push('\n');
        pki::write_private(&self.path, text.as_bytes())
            .with_context(|| format!("the key file {}", self.path.display()))
    }

    /// The same with a new key in front.
    pub(crate) fn with_new_key(&self) -> Result<KeyFile> {
        let mut next = self.clone();
        next.keys.insert(0, Key::generate()?);
        Ok(next)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a key is in it.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.keys.iter().any(|key| key.key.id == id)
    }

    /// The keys as the store takes them.
    pub(crate) fn seal_keys(&self) -> Vec<SealKey> {
        self.keys.iter().map(|key| key.key.clone()).collect()
    }
}

/// The keys in a file's text, and whether plain values may remain; or what is wrong with it, without
/// a word of its content.
fn parse(text: &str) -> Result<(Vec<Key>, bool), String> {
    // serde's own words may quote a secret.
    let form: FileForm = serde_json::from_str(text)
        .map_err(|error| format!("line {} is not as it should be", error.line()))?;
    if form.version != VERSION {
        return Err(format!(
            "it has version {}, and this knarr knows {VERSION}",
            form.version
        ));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (at, entry) in form.keys.iter().enumerate() {
        let number = at + 1;
        let secret = BASE64_STANDARD.decode(&entry.secret).map(Zeroizing::new);
        let secret = secret
            .ok()
            .and_then(|bytes| bytes.as_slice().try_into().ok());
        let Some(secret) = secret else {
            return Err(format!("key {number} has no secret of 32 bytes"));
        };
        let key = SealKey::new(secret);
        if entry.id != shown(key.id) {
            return Err(format!(
                "key {number} is damaged: its id and its secret differ"
            ));
        }
        if keys.iter().any(|other| other.key.id == key.id) {
            return Err(format!("key {number} is there twice"));
        }
        keys.push(Key {
            key,
            created: entry.created,
        });
    }
    if keys.is_empty() {
        return Err("it has no key".to_owned());
    }
    Ok((keys, form.plain_may_remain))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{KeyFile, parse, path, shown};

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        assert!(KeyFile::load(&path).unwrap().is_none());
        let first = KeyFile::fresh(path.clone(), true).unwrap();
        let second = first.with_new_key().unwrap();
        second.write().unwrap();
        let read = KeyFile::load(&path).unwrap().unwrap();
        let ids = |file: &KeyFile| file.keys.iter().map(|key| key.key.id).collect::<Vec<_>>();
        assert_eq!(ids(&read), ids(&second));
        assert_eq!(read.keys[1].key.secret, first.keys[0].key.secret);
        assert!(read.plain_may_remain && read.has(first.keys[0].key.id));
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn faults_are_named_and_secrets_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::fresh(path(folder.path()), false).unwrap();
        file.write().unwrap();
        let good = std::fs::read_to_string(file.path()).unwrap();
        assert!(parse(&good).is_ok());
        let secret = good.split('"').find(|part| part.len() == 44).unwrap();
        let id = shown(file.keys[0].key.id);
        let other = if id.starts_with('0') { "1" } else { "0" };
        let table = [
            ("cut", good[..good.len() / 2].to_owned(), "line"),
            ("short", good.replace(secret, &secret[..40]), "32 bytes"),
            (
                "swapped",
                good.replace(&id, &format!("{other}{}", &id[1..])),
                "damaged",
            ),
            (
                "newer",
                good.replace("\"version\": 1", "\"version\": 7"),
                "7",
            ),
            ("odd", good.replace("secret", secret), "line"),
            (
                "none",
                "{\"version\": 1, \"keys\": []}".to_owned(),
                "no key",
            ),
        ];
        for (name, text, word) in table {
            let fault = parse(&text).map(drop).unwrap_err();
            assert!(fault.contains(word), "{name}: {fault}");
            assert!(!fault.contains(&secret[..20]), "{name}: {fault}");
        }
    }
}
