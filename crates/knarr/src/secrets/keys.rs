//! The keys of a store that is open: taken up at start, rotated and dropped while it runs.
//!
//! Invariants: a key is in the file before it seals anything, and leaves the file only when no value,
//! live or past, needs it; no new key is made for a store that has values of one that is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use store::{Seal, Store};
use tokio::sync::Mutex;

use super::key_file::{self, KeyFile, shown};

/// The keys of one store.
#[derive(Debug)]
pub(crate) struct Keys {
    seal: Arc<Seal>,
    path: PathBuf,
    /// Whoever changes the file or seals anew holds this.
    file: Mutex<Option<KeyFile>>,
}

/// The keys with what each is used for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Id, creation time and number of values; the first one seals.
    pub(crate) keys: Vec<(u32, jiff::Timestamp, u64)>,
    /// Values that are not sealed yet.
    pub(crate) plain: u64,
}

impl Keys {
    /// Reads the key file, when there is one.
    ///
    /// # Errors
    /// The file is not whole.
    pub(crate) fn load(data_dir: &Path) -> Result<Arc<Keys>> {
        let path = key_file::path(data_dir);
        let file = KeyFile::load(&path)?;
        let keys = file.as_ref().map(KeyFile::seal_keys).unwrap_or_default();
        let prefixes = apiserver::SEALED_PREFIXES;
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        Ok(Arc::new(Keys {
            seal: Arc::new(Seal::new(prefixes, &keys)),
            path,
            file: Mutex::new(file),
        }))
    }

    /// What the store is to be opened with.
    pub(crate) fn seal(&self) -> Arc<Seal> {
        self.seal.clone()
    }

    /// Where the key file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the keys are those of the store, and makes the first one for a store without.
    /// Returns whether [`Keys::complete`] has anything to do.
    ///
    /// # Errors
    /// The store has values of a key that is not here.
    pub(crate) async fn take_up(&self, store: &Store) -> Result<bool> {
        let mut file = self.file.lock().await;
        let usage = store
            .seal_usage()
            .await
            .context("the Secrets in the store")?;
        self.refuse_missing(file.as_ref(), &usage.sealed)?;
        let file = match &mut *file {
            Some(file) => file,
            None => {
                // A new store has nothing in it, and nothing behind it.
                let is_new = store.current() <= store::Revision(1);
                let fresh = KeyFile::fresh(self.path.clone(), !is_new)?;
                fresh.write()?;
                self.seal.replace(&fresh.seal_keys());
                tracing::info!(
                    path = %fresh.path().display(),
                    "made a key for Secrets; keep a copy of the file with your backups"
                );
                file.insert(fresh)
            }
        };
        let newest = file.keys.first().map(|key| key.key.id);
        let stale = usage.plain > 0 || usage.sealed.keys().any(|id| Some(*id) != newest);
        Ok(stale || file.plain_may_remain)
    }

    /// Seals what is not sealed with the newest key. Where the store is from before sealing, makes sure
    /// that the plain values cannot be read from its file either.
    ///
    /// # Errors
    /// The store failed; calling it again goes on.
    pub(crate) async fn complete(&self, store: &Store) -> Result<()> {
        let mut file = self.file.lock().await;
        let count = store.reseal().await.context("sealing Secrets")?;
        if count > 0 {
            tracing::info!(count, "sealed Secrets with the newest key");
        }
        let Some(file) = file.as_mut().filter(|file| file.plain_may_remain) else {
            return Ok(());
        };
        store
            .scrub()
            .await
            .context("removing plain Secrets from the database file")?;
        file.plain_may_remain = false;
        file.write()?;
        tracing::info!("no plain Secret is left in the database file");
        Ok(())
    }

    /// Makes a new key and seals all with it. Returns the key's id and how many values were written.
    ///
    /// # Errors
    /// The file cannot be written, in which case nothing has happened; or the store failed, in which
    /// case the new key is in use and the rest is sealed at the next start or rotation.
    pub(crate) async fn rotate(&self, store: &Store) -> Result<(u32, u64)> {
        let mut file = self.file.lock().await;
        let old = file.as_ref().context("there is no key file yet")?;
        let next = old.with_new_key()?;
        next.write()?;
        self.seal.replace(&next.seal_keys());
        let id = next.keys.first().map_or(0, |key| key.key.id);
        *file = Some(next);
        tracing::info!(key = shown(id), "a new key seals Secrets");
        let count = store.reseal().await.with_context(|| {
            format!(
                "the new key {} is in use; sealing the rest goes on at the next start or rotation",
                shown(id)
            )
        })?;
        Ok((id, count))
    }

    /// Removes the keys that neither a live value nor the history needs, and says which. The history is
    /// forgotten first: watches that are behind must list again.
    ///
    /// # Errors
    /// A key is needed by a snapshot that is kept here, or the store failed; no key is removed then.
    pub(crate) async fn drop_old(
        &self,
        store: &Store,
        needed_by: impl Fn(u32) -> Option<PathBuf>,
    ) -> Result<Vec<u32>> {
        let mut file = self.file.lock().await;
        let old = file.as_ref().context("there is no key file yet")?;
        store.reseal().await.context("sealing Secrets")?;
        store
            .compact(store.current())
            .await
            .context("forgetting the history")?;
        let usage = store.seal_usage().await?;
        let mut next = old.clone();
        let mut dropped = Vec::new();
        for key in old.keys.iter().skip(1).map(|key| key.key.id) {
            if usage.sealed.contains_key(&key) {
                continue;
            }
            if let Some(snapshot) = needed_by(key) {
                bail!(
                    "the key {} is needed to restore {}; delete that snapshot first, \
                     or keep a copy of {} for it and use --force",
                    shown(key),
                    snapshot.display(),
                    self.path.display()
                );
            }
            dropped.push(key);
        }
        if dropped.is_empty() {
            return Ok(dropped);
        }
        next.keys.retain(|key| !dropped.contains(&key.key.id));
        next.write()?;
        self.seal.replace(&next.seal_keys());
        *file = Some(next);
        Ok(dropped)
    }

    /// The keys and their use.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn status(&self, store: &Store) -> Result<Status> {
        let file = self.file.lock().await;
        let usage = store.seal_usage().await?;
        let count = |id: u32| usage.sealed.get(&id).copied().unwrap_or(0);
        let keys = file.iter().flat_map(|file| &file.keys);
        Ok(Status {
            keys: keys
                .map(|key| (key.key.id, key.created, count(key.key.id)))
                .collect(),
            plain: usage.plain,
        })
    }

    fn refuse_missing(&self, file: Option<&KeyFile>, used: &BTreeMap<u32, u64>) -> Result<()> {
        let missing = |id: &u32| !file.is_some_and(|file| file.has(*id));
        let Some((id, count)) = used.iter().find(|(id, _)| missing(id)) else {
            return Ok(());
        };
        let (path, key) = (self.path.display(), shown(*id));
        let fault = match file {
            Some(_) => "does not have that key",
            None => "is not there",
        };
        bail!(
            "{count} Secrets are sealed with the key {key}, and {path} {fault}: put back the key file \
             from your backup (docs/operations.md). If it is lost for good, so are these Secrets: \
             `knarr snapshot save`, then `knarr snapshot restore --replace --drop-unreadable FILE` \
             keeps everything else"
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use store::{Expect, Options, Store, Write};

    use super::Keys;
    use crate::secrets::key_file;

    /// The store and keys of a data directory, as at a start.
    async fn open(folder: &Path) -> (Store, Arc<Keys>) {
        let keys = Keys::load(folder).unwrap();
        let options = Options {
            seal: Some(keys.seal()),
            ..Options::default()
        };
        let store = Store::open(&folder.join("state.db"), options)
            .await
            .unwrap();
        (store, keys)
    }

    async fn put(store: &Store, name: &str) {
        let key = format!("/registry/core/secrets/default/{name}");
        store
            .write(Write::put(key, Expect::Absent, "hush hush"))
            .await
            .unwrap();
    }

    async fn readable(store: &Store) -> usize {
        let page = store.list(store::ListOptions::default()).await.unwrap();
        assert!(page.entries.iter().all(|entry| entry.value == "hush hush"));
        page.entries.len()
    }

    #[tokio::test]
    async fn a_lost_or_foreign_key_file_is_refused_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keys) = open(folder.path()).await;
        assert!(
            !keys.take_up(&store).await.unwrap(),
            "a new store has nothing to seal"
        );
        put(&store, "a").await;
        let id = keys.status(&store).await.unwrap().keys[0].0;
        store.close().await;

        let path = key_file::path(folder.path());
        let good = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = |error: anyhow::Error| {
            let text = error.to_string();
            assert!(text.contains(&format!("{id:08x}")), "{text}");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        };
        let (store, keys) = open(folder.path()).await;
        refused(keys.take_up(&store).await.unwrap_err());
        assert!(!path.exists(), "no new key is made");
        store.close().await;

        let foreign = key_file::KeyFile::fresh(path.clone(), false).unwrap();
        foreign.write().unwrap();
        let (store, keys) = open(folder.path()).await;
        refused(keys.take_up(&store).await.unwrap_err());
        store.close().await;

        std::fs::write(&path, good).unwrap();
        let (store, keys) = open(folder.path()).await;
        assert!(!keys.take_up(&store).await.unwrap());
        assert_eq!(readable(&store).await, 1);
    }

    #[tokio::test]
    async fn a_rotation_that_was_cut_short_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keys) = open(folder.path()).await;
        keys.take_up(&store).await.unwrap();
        for name in ["a", "b", "c"] {
            put(&store, name).await;
        }
        store.close().await;

        // Killed when the file was written and nothing was sealed yet.
        let path = key_file::path(folder.path());
        let file = key_file::KeyFile::load(&path).unwrap().unwrap();
        file.with_new_key().unwrap().write().unwrap();
        let (store, keys) = open(folder.path()).await;
        assert!(
            keys.take_up(&store).await.unwrap(),
            "there is something to complete"
        );
        // Killed when a part was sealed: a later write is sealed with the new key, the rest is not.
        put(&store, "d").await;
        store.close().await;
        let (store, keys) = open(folder.path()).await;
        assert!(keys.take_up(&store).await.unwrap());
        assert_eq!(readable(&store).await, 4);
        // The user runs it again instead.
        let (id, count) = keys.rotate(&store).await.unwrap();
        assert_eq!(count, 4);
        let status = keys.status(&store).await.unwrap();
        let counts: Vec<u64> = status.keys.iter().map(|key| key.2).collect();
        assert_eq!(
            (status.keys[0].0, counts, status.plain),
            (id, vec![4, 0, 0], 0)
        );
        store.close().await;
        let (store, keys) = open(folder.path()).await;
        assert!(!keys.take_up(&store).await.unwrap());
        assert_eq!(readable(&store).await, 4);
    }

    #[tokio::test]
    async fn a_store_from_before_sealing_is_sealed_also_when_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), Options::default())
            .await
            .unwrap();
        for name in ["a", "b"] {
            put(&store, name).await;
        }
        store.close().await;
        let (store, keys) = open(folder.path()).await;
        assert!(keys.take_up(&store).await.unwrap());
        // Sealed, and killed before the file was written anew.
        assert_eq!(store.reseal().await.unwrap(), 2);
        store.close().await;
        let (store, keys) = open(folder.path()).await;
        assert!(
            keys.take_up(&store).await.unwrap(),
            "the plain bytes are still in the file"
        );
        keys.complete(&store).await.unwrap();
        store.close().await;
        let bytes = std::fs::read(folder.path().join("state.db")).unwrap();
        assert!(!bytes.windows(9).any(|part| part == b"hush hush"));
        let (store, keys) = open(folder.path()).await;
        assert!(!keys.take_up(&store).await.unwrap());
        assert_eq!(readable(&store).await, 2);
    }

    #[tokio::test]
    async fn only_keys_that_nothing_needs_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keys) = open(folder.path()).await;
        keys.take_up(&store).await.unwrap();
        put(&store, "a").await;
        let first = keys.status(&store).await.unwrap().keys[0].0;
        assert!(keys.drop_old(&store, |_| None).await.unwrap().is_empty());
        let (second, _) = keys.rotate(&store).await.unwrap();
        // A value of the older key that nobody was told about, as another server would write it.
        let file = key_file::KeyFile::load(&key_file::path(folder.path()))
            .unwrap()
            .unwrap();
        let mut reversed = file.seal_keys();
        reversed.reverse();
        keys.seal().replace(&reversed);
        put(&store, "b").await;
        keys.seal().replace(&file.seal_keys());

        let needed = |id| (id == first).then(|| "/x/old.knarrsnap".into());
        let error = keys.drop_old(&store, needed).await.unwrap_err().to_string();
        assert!(
            error.contains("old.knarrsnap") && error.contains("--force"),
            "{error}"
        );
        assert_eq!(keys.drop_old(&store, |_| None).await.unwrap(), [first]);
        let status = keys.status(&store).await.unwrap();
        assert_eq!(
            (status.keys.len(), status.keys[0].0, status.keys[0].2),
            (1, second, 2)
        );
        assert_eq!(
            store.compacted(),
            store.current(),
            "the history needed it too"
        );
        store.close().await;
        let (store, keys) = open(folder.path()).await;
        assert!(!keys.take_up(&store).await.unwrap());
        assert_eq!(readable(&store).await, 2);
    }
}
