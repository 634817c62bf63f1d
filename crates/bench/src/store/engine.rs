//! The two engines behind the few verbs that a Kubernetes API server uses.

use std::path::Path;

use anyhow::{Context, Result};
use store::{Expect, ListOptions, Store, StoreError, Write};

use super::etcd::Etcd;
use super::rpc::{Range, Txn};

/// What is measured.
pub(crate) enum Engine {
    Ours(Store),
    Etcd(Etcd),
}

/// What a compare-and-swap came to: the key's revision, new or of somebody else.
pub(crate) enum Swap {
    Done(u64),
    Conflict(u64),
}

impl Engine {
    /// Our SQLite store with its default settings.
    pub(crate) async fn ours(path: &Path) -> Result<Engine> {
        Ok(Engine::Ours(
            Store::open(path, store::Options::default()).await?,
        ))
    }

    pub(crate) async fn etcd(folder: &Path) -> Result<Engine> {
        Ok(Engine::Etcd(Etcd::start(folder).await?))
    }

    pub(crate) async fn stop(self) -> Result<()> {
        if let Engine::Ours(store) = self {
            store.close().await;
        }
        Ok(())
    }

    /// Writes a key that was last modified at `at`; at 0 it must not exist.
    pub(crate) async fn swap(&self, key: &str, at: u64, value: Vec<u8>) -> Result<Swap> {
        match self {
            Engine::Ours(store) => {
                let expect = match at {
                    0 => Expect::Absent,
                    at => Expect::At(store::Revision(at)),
                };
                match store.write(Write::put(key, expect, value)).await {
                    Ok(revision) => Ok(Swap::Done(revision.0)),
                    Err(StoreError::Conflict { current, .. }) => {
                        Ok(Swap::Conflict(current.map_or(0, |entry| entry.modified.0)))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Engine::Etcd(etcd) => {
                let txn = Txn::swap(key, i64::try_from(at)?, value);
                let answer = etcd.connection.txn(txn).await?;
                if answer.succeeded {
                    let header = answer.header.context("etcd answers with a header")?;
                    return Ok(Swap::Done(u64::try_from(header.revision)?));
                }
                let found = answer.answers.into_iter().find_map(|answer| answer.range);
                let found = found.context("etcd answers what was asked")?;
                let current = found.kvs.first().map_or(0, |kv| kv.mod_revision);
                Ok(Swap::Conflict(u64::try_from(current)?))
            }
        }
    }

    /// Makes many keys, as many at a time as a transaction takes.
    pub(crate) async fn create(&self, entries: Vec<(String, Vec<u8>)>) -> Result<()> {
        match self {
            Engine::Ours(store) => {
                let writes = entries
                    .into_iter()
                    .map(|(key, value)| Write::put(key, Expect::Absent, value));
                store.transact(writes.collect()).await?;
            }
            Engine::Etcd(etcd) => {
                etcd.connection.txn(Txn::puts(entries)).await?;
            }
        }
        Ok(())
    }

    /// Reads all of a prefix with its values; how many there are.
    pub(crate) async fn list(&self, prefix: &str) -> Result<usize> {
        match self {
            Engine::Ours(store) => {
                let options = ListOptions {
                    prefix,
                    ..ListOptions::default()
                };
                Ok(store.list(options).await?.entries.len())
            }
            Engine::Etcd(etcd) => {
                let answer = etcd.connection.range(Range::prefix(prefix)).await?;
                Ok(answer.kvs.len())
            }
        }
    }
}
