//! The store of an instance with the keys that its Secrets are sealed with: opened the same way by
//! `knarr up` and by the commands that work without it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use store::{EtcdConfig, Store};
use tokio_util::sync::CancellationToken;

use crate::instance::Instance;
use crate::secrets::Keys;

/// An open store. The process that has it is the only one that does.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) store: Store,
    pub(crate) keys: Arc<Keys>,
    /// Whether some values are still to be sealed with the newest key.
    incomplete: bool,
}

/// The database file of an instance.
pub(crate) fn database(instance: &Instance) -> PathBuf {
    instance.data_dir.join("db/state.db")
}

/// Whether an instance has a store already.
pub(crate) fn exists(instance: &Instance) -> bool {
    database(instance).exists()
}

impl Storage {
    /// Opens the store, or makes one, with its keys: in an etcd if one is given.
    ///
    /// # Errors
    /// The store cannot be opened, or its keys are not those in the key file.
    pub(crate) async fn open(instance: &Instance, etcd: Option<&EtcdConfig>) -> Result<Storage> {
        let keys = Keys::load(&instance.data_dir)?;
        let store = open_store(instance, etcd, &keys).await?;
        match keys.take_up(&store).await {
            Ok(incomplete) => Ok(Storage {
                store,
                keys,
                incomplete,
            }),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Seals what an earlier start or rotation has left, then waits until drained.
    pub(crate) async fn complete(self, drain: CancellationToken) {
        if self.incomplete {
            tokio::select! {
                outcome = self.keys.complete(&self.store) => if let Err(error) = outcome {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "not all Secrets are sealed; the next start or rotation goes on"
                    );
                },
                () = drain.cancelled() => return,
            }
        }
        drain.cancelled().await;
    }
}

/// Opens the store as it is: what is sealed with a key that is not here cannot be read.
pub(crate) async fn open_store(
    instance: &Instance,
    etcd: Option<&EtcdConfig>,
    keys: &Keys,
) -> Result<Store> {
    let options = store::Options {
        seal: Some(keys.seal()),
        ..store::Options::default()
    };
    if let Some(etcd) = etcd {
        return Store::connect(etcd, options).await.context("the store");
    }
    let path = database(instance);
    if let Some(folder) = path.parent() {
        crate::instance::private_dir(folder)?;
    }
    Store::open(&path, options).await.context("the store")
}
