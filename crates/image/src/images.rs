//! The door: [`Images`], the store with all that can be done to it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use oci_spec::image::ImageConfiguration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::index::{self, Index, Record};
use crate::registry::Clients;
use crate::store::{Store, lock};
use crate::{
    Auth, Collected, Config, Digest, DiskUsage, ImageError, LayerStatus, Progress, PullError,
    PullFailure, Reference, Snapshot, SnapshotUsage, archive, builtin, collect, pull, push,
    snapshot,
};

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration: what Kubernetes calls the image id.
    pub id: Digest,
    /// Its names with tags, `docker.io/library/nginx:1.29`.
    pub tags: Vec<String>,
    /// Its names with digests, `docker.io/library/nginx@sha256:…`.
    pub digests: Vec<String>,
    /// What it takes on disk, unpacked layers and blobs.
    pub size_bytes: u64,
    /// Its configuration: entrypoint, environment, user.
    pub config: Arc<ImageConfiguration>,
    /// Digests of its uncompressed layers, lowest first.
    pub layers: Vec<Digest>,
    /// Never collected.
    pub pinned: bool,
}

/// The image store. Clones share one store.
///
/// A folder is open in one process at a time. Methods that are not `async` block on the disk or
/// on mounts for milliseconds, [`Images::release`], [`Images::remove`] and [`Images::collect`] for
/// as long as deleting takes: call these from a blocking thread.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

type Flight = Shared<BoxFuture<'static, Result<Image, PullError>>>;
type FlightKey = (String, Vec<Auth>);

pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) config: Config,
    pub(crate) clients: Arc<Clients>,
    /// One for each layer that may be in the works.
    pub(crate) permits: Arc<Semaphore>,
    index: Mutex<Index>,
    /// Held while the index is written, so that versions reach the disk in order.
    saving: Mutex<()>,
    flights: Mutex<HashMap<FlightKey, Running>>,
    syncs: Mutex<Vec<JoinHandle<()>>>,
}

struct Running {
    flight: WeakShared<BoxFuture<'static, Result<Image, PullError>>>,
    statuses: watch::Receiver<Vec<LayerStatus>>,
}

impl Images {
    /// Opens or creates the store in `dir`, and cleans up what a crash has left.
    pub fn open(dir: &Path, config: Config) -> Result<Images, ImageError> {
        let store = Arc::new(Store::open(dir)?);
        let index = Index::open(&store)?;
        let inner = Inner {
            clients: Arc::new(Clients::new(&config.ca_files)),
            permits: Arc::new(Semaphore::new(config.max_parallel.clamp(1, 64))),
            index: Mutex::new(index),
            saving: Mutex::new(()),
            flights: Mutex::default(),
            syncs: Mutex::default(),
            store: store.clone(),
            config,
        };
        if store.boot_changed() {
            // What was being written when the machine went down may be full of holes.
            collect::sweep(&inner)?;
        }
        Ok(Images {
            inner: Arc::new(inner),
        })
    }

    /// Pulls an image for this machine's platform, and unpacks it.
    ///
    /// The `auth`s are tried in turn, none means anonymous. Pulls of the same name with the same
    /// credentials at the same time are one pull, which goes on while anybody waits for it. A
    /// dropped or failed pull leaves its partial downloads for the next.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: &[Auth],
        progress: Option<&dyn Progress>,
    ) -> Result<Image, PullError> {
        let (flight, mut statuses) = self.join_flight(reference, auth);
        let Some(progress) = progress else {
            return flight.await;
        };
        let mut done = flight.fuse();
        loop {
            tokio::select! {
                biased;
                result = &mut done => {
                    progress.update(&statuses.borrow_and_update());
                    return result;
                }
                Ok(()) = statuses.changed() => {
                    let now = statuses.borrow_and_update().clone();
                    progress.update(&now);
                }
            }
        }
    }

    fn join_flight(
        &self,
        reference: &Reference,
        auth: &[Auth],
    ) -> (Flight, watch::Receiver<Vec<LayerStatus>>) {
        let key = (reference.to_string(), auth.to_vec());
        let mut flights = lock(&self.inner.flights);
        flights.retain(|_, running| {
            running
                .flight
                .upgrade()
                .is_some_and(|flight| flight.peek().is_none())
        });
        if let Some(running) = flights.get(&key)
            && let Some(flight) = running.flight.upgrade()
        {
            return (flight, running.statuses.clone());
        }
        let (sender, statuses) = watch::channel(Vec::new());
        let inner = self.inner.clone();
        let (reference, auth) = (reference.clone(), auth.to_vec());
        let flight = async move {
            let name = reference.to_string();
            let fail = |failure| PullError {
                image: name.clone(),
                push: false,
                failure,
            };
            let id = pull::run(inner.clone(), reference.clone(), auth, sender)
                .await
                .map_err(fail)?;
            let missing = || {
                fail(PullFailure::Store(ImageError::NotFound {
                    name: name.clone(),
                }))
            };
            inner.image(id).ok_or_else(missing)
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(
                key,
                Running {
                    flight: weak,
                    statuses: statuses.clone(),
                },
            );
        }
        (flight, statuses)
    }

    /// Pushes `image` under the name `reference`. Returns the digest of its manifest.
    pub async fn push(
        &self,
        image: &Image,
        reference: &Reference,
        auth: &[Auth],
        progress: Option<&dyn Progress>,
    ) -> Result<Digest, PullError> {
        push::run(&self.inner, image, reference, auth, progress)
            .await
            .map_err(|failure| PullError {
                image: reference.to_string(),
                push: true,
                failure,
            })
    }

    /// Finds an image by name (short ones too), by name with digest, or by id or its beginning.
    pub fn get(&self, name_or_id: &str) -> Option<Image> {
        let index = lock(&self.inner.index);
        index.image(index.find(name_or_id)?)
    }

    /// All images.
    pub fn list(&self) -> Vec<Image> {
        let index = lock(&self.inner.index);
        index
            .records()
            .filter_map(|record| index.image(record.id))
            .collect()
    }

    /// Gives an image another name.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<Image, ImageError> {
        let not_found = || ImageError::NotFound {
            name: image.id.to_string(),
        };
        let (mut record, config) = {
            let index = lock(&self.inner.index);
            let record = index.record(image.id).cloned().ok_or_else(not_found)?;
            (record, image.config.as_ref().clone())
        };
        record.tags = BTreeSet::from([reference.to_string()]);
        self.inner.enter(record, config)?;
        self.inner.image(image.id).ok_or_else(not_found)
    }

    /// Keeps an image from being collected, or allows it again.
    pub fn pin(&self, image: &Image, pinned: bool) -> Result<(), ImageError> {
        lock(&self.inner.index).pin(image.id, pinned);
        self.inner.save()
    }

    /// Removes a name, and the image with its last one; by id, the image with all its names.
    ///
    /// Containers that run from it are not disturbed: their layers stay until they are released.
    pub fn remove(&self, name_or_id: &str) -> Result<(), ImageError> {
        let not_found = || ImageError::NotFound {
            name: name_or_id.into(),
        };
        {
            let mut index = lock(&self.inner.index);
            let id = index.find(name_or_id).ok_or_else(not_found)?;
            match Reference::parse(name_or_id).map(|reference| reference.to_string()) {
                Ok(name) if index.has_name(id, &name) => drop(index.remove_name(&name, id)),
                _ => drop(index.remove(id)),
            }
        }
        self.inner.save()?;
        collect::sweep(&self.inner).map(|_| ())
    }

    /// Reads an archive of `docker save` or of an OCI layout, plain or compressed.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let ids = archive::import(&self.inner, path).await?;
        Ok(ids
            .into_iter()
            .filter_map(|id| self.inner.image(id))
            .collect())
    }

    /// Writes images into one archive that is an OCI layout and can be loaded by Docker.
    pub async fn export(&self, names: &[&str], path: &Path) -> Result<(), ImageError> {
        archive::export(&self.inner, names, path).await
    }

    /// When the disk is fuller than `high_percent`, removes the images that were not used for
    /// longest until it is not fuller than `low_percent`. Images in `in_use`, pinned ones, those
    /// that a snapshot stands on and those of the last minutes stay.
    pub fn collect(
        &self,
        in_use: &HashSet<Digest>,
        high_percent: u8,
        low_percent: u8,
    ) -> Result<Collected, ImageError> {
        collect::run(&self.inner, in_use, high_percent, low_percent)
    }

    /// How full the disk is.
    pub fn disk(&self) -> Result<DiskUsage, ImageError> {
        collect::disk(&self.inner)
    }

    /// Mounts a writable root file system of `image` for the container `id`.
    ///
    /// What is there already under this id is given back when it is mounted, and made anew
    /// otherwise.
    pub fn prepare(&self, image: &Image, id: &str) -> Result<Snapshot, ImageError> {
        let _lease = self.inner.store.lease(image.layers.clone());
        builtin::provide(&self.inner, image)?;
        let snapshot = snapshot::prepare(&self.inner.store, image, id)?;
        lock(&self.inner.index).touch(image.id);
        Ok(snapshot)
    }

    /// Unmounts and deletes the root file system of `id`; it is no error when there is none.
    pub fn release(&self, id: &str) -> Result<(), ImageError> {
        snapshot::release(&self.inner.store, id)
    }

    /// Releases all root file systems but those of `ids`. Returns what was released.
    pub fn retain(&self, ids: &HashSet<String>) -> Result<Vec<String>, ImageError> {
        snapshot::retain(&self.inner.store, ids)
    }

    /// What a container has written into its root file system.
    pub fn snapshot_usage(&self, id: &str) -> Result<SnapshotUsage, ImageError> {
        snapshot::usage(&self.inner.store, id)
    }

    /// Offers the file `exe` as an image under `name`: its entrypoint is `/knarr` with `args`, it
    /// exposes port 8080, and its id depends on the file's size and time of change.
    ///
    /// Takes no more than a hard link; on another file system the copy is left to the first
    /// [`Images::prepare`]. It is to be called at every start, since it is not remembered.
    pub fn add_builtin(&self, name: &str, exe: &Path, args: &[&str]) -> Result<Image, ImageError> {
        builtin::add(&self.inner, name, exe, args)
    }

    /// Waits until everything is written to disk. Call it before the process ends; without it,
    /// the newest images are only lost when the machine goes down as well.
    pub async fn close(&self) {
        let syncs = std::mem::take(&mut *lock(&self.inner.syncs));
        for sync in syncs {
            let _ = sync.await;
        }
    }
}

impl Inner {
    pub(crate) fn image(&self, id: Digest) -> Option<Image> {
        lock(&self.index).image(id)
    }

    pub(crate) fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Whether there is an image of this complete name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        lock(&self.index).find(name).is_some()
    }

    /// Adds an image to the index, in memory and on disk.
    pub(crate) fn enter(
        &self,
        record: Record,
        config: ImageConfiguration,
    ) -> Result<(), ImageError> {
        lock(&self.index).add(record, config);
        self.save()
    }

    pub(crate) fn save(&self) -> Result<(), ImageError> {
        let _saving = lock(&self.saving);
        let bytes = lock(&self.index).encode()?;
        index::write(self.store.root(), &bytes)
    }

    /// What these layers and blobs take on disk.
    pub(crate) fn content_bytes(&self, layers: &[Digest], blobs: &BTreeSet<Digest>) -> u64 {
        let layers: BTreeSet<&Digest> = layers.iter().collect();
        let unpacked = layers
            .into_iter()
            .filter_map(|layer| Some(self.store.layer_record(*layer)?.bytes));
        let packed = blobs
            .iter()
            .filter_map(|blob| Some(fs::metadata(self.store.blob_path(*blob)).ok()?.len()));
        unpacked.chain(packed).sum()
    }

    /// Runs blocking work on a thread for it.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: Arc<Inner>,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, ImageError> {
        tokio::task::spawn_blocking(move || work(&self))
            .await
            .map_err(|_| ImageError::Interrupted)
    }

    /// Begins to bring new images to disk; nobody waits for it but [`Images::close`].
    pub(crate) fn sync_soon(self: &Arc<Inner>) {
        let inner = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let ids = lock(&inner.index).unsynced();
            let result = inner.store.sync().and_then(|()| {
                lock(&inner.index).mark_synced(&ids);
                inner.save()
            });
            if let Err(error) = result {
                tracing::warn!(error = %stdx::chain(&error), "cannot bring new images to disk");
            }
        });
        let mut syncs = lock(&self.syncs);
        syncs.retain(|task| !task.is_finished());
        syncs.push(task);
    }
}
