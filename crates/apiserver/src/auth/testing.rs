//! A cache with objects in it, for the tests of this module.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use serde_json::Value;
use store::{Expect, Options, Store, Write};
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::{codec, storage};

/// A store with a cache that follows it.
pub(super) struct World {
    pub(super) cache: Arc<Cache>,
    store: Store,
    drain: CancellationToken,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn new(objects: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            retention: None,
            ..Options::default()
        };
        let store = Store::open(&folder.path().join("db"), options)
            .await
            .unwrap();
        let (cache, subscription) = Cache::load(&store).await.unwrap();
        let drain = CancellationToken::new();
        // It ends with the drain, or with the test's runtime.
        tokio::spawn(
            cache
                .clone()
                .follow(store.clone(), subscription, drain.clone()),
        );
        let world = Self {
            cache,
            store,
            drain,
            _folder: folder,
        };
        for object in objects {
            world.put(object).await;
        }
        world
    }

    /// Writes an object and waits until the cache has it.
    pub(super) async fn put(&self, object: &Value) {
        let key = Self::key(object);
        let current = self.store.get(&key).await.unwrap();
        let expect = current.map_or(Expect::Absent, |entry| Expect::At(entry.modified));
        self.write(Write::put(key, expect, codec::encode(object)))
            .await;
    }

    pub(super) async fn delete(&self, object: &Value) {
        let key = Self::key(object);
        let entry = self.store.get(&key).await.unwrap().unwrap();
        self.write(Write::delete(key, Expect::At(entry.modified)))
            .await;
    }

    async fn write(&self, write: Write) {
        let revision = self.store.write(write).await.unwrap();
        assert!(
            self.cache
                .wait(revision, std::time::Duration::from_secs(20))
                .await
        );
    }

    fn key(object: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&object["apiVersion"]);
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let plural = format!("{}s", text(&object["kind"]).to_lowercase());
        let metadata = &object["metadata"];
        let local = storage::local(&text(&metadata["namespace"]), &text(&metadata["name"]));
        storage::prefix(group, &plural) + &local
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}
