//! Sealing what is stored already: with a new key, or at all.
//!
//! Invariant: a value is replaced only by itself, sealed anew, and only as long as nobody else has
//! changed it; so this can be killed at any point and called again.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::StreamExt as _;

use crate::seal::{Seal, sealed_with};
use crate::{Entry, Expect, ListOptions, Store, StoreError, Write};

/// How many entries are looked at in one go.
const PAGE: usize = 500;
/// How many are written at the same time.
const AT_A_TIME: usize = 32;

/// How the values that are to be sealed are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealUsage {
    /// How many are not sealed.
    pub plain: u64,
    /// How many each key seals.
    pub sealed: BTreeMap<u32, u64>,
}

impl Store {
    /// Counts the live values that are to be sealed by the key that seals them. No key is needed.
    ///
    /// # Errors
    /// As of [`Store::list`].
    pub async fn seal_usage(&self) -> Result<SealUsage, StoreError> {
        let mut usage = SealUsage::default();
        let Some(seal) = self.seal() else {
            return Ok(usage);
        };
        seal.settled().await;
        let mut walk = Walk::new(seal);
        while let Some(entries) = walk.next(self).await? {
            for entry in entries {
                match sealed_with(&entry.value) {
                    Some(id) => *usage.sealed.entry(id).or_default() += 1,
                    None => usage.plain += 1,
                }
            }
        }
        Ok(usage)
    }

    /// Writes again what is not sealed with the newest key, and returns how much that was. Values that
    /// others change meanwhile are sealed by that change. Killed in the middle, it goes on when it is
    /// called again.
    ///
    /// # Errors
    /// As of [`Store::list`] and [`Store::write`].
    pub async fn reseal(&self) -> Result<u64, StoreError> {
        let Some(seal) = self.seal() else {
            return Ok(0);
        };
        seal.settled().await;
        let mut count = 0;
        let mut walk = Walk::new(seal);
        while let Some(entries) = walk.next(self).await? {
            let stale = entries
                .into_iter()
                .filter(|entry| seal.is_stale(&entry.key, &entry.value));
            // Some at a time, so that they share commits.
            let mut writes = futures::stream::iter(stale)
                .map(|entry| self.write_again(seal, entry))
                .buffer_unordered(AT_A_TIME);
            while let Some(written) = writes.next().await {
                count += u64::from(written?);
            }
        }
        Ok(count)
    }

    /// Whether it was written, rather than changed by somebody else meanwhile.
    async fn write_again(&self, seal: &Seal, entry: Entry) -> Result<bool, StoreError> {
        let value = seal.open(&entry.key, entry.value)?;
        let mut write = Write::put(&*entry.key, Expect::At(entry.modified), value);
        if let Some(expires) = entry.expires {
            let left = expires.duration_since(SystemTime::now());
            write = write.with_ttl(left.unwrap_or_default());
        }
        match self.write(write).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Goes through all entries that are to be sealed, a page at a time.
struct Walk<'a> {
    prefixes: std::slice::Iter<'a, String>,
    prefix: Option<&'a str>,
    after: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(seal: &'a Seal) -> Walk<'a> {
        let mut prefixes = seal.prefixes().iter();
        let prefix = prefixes.next().map(String::as_str);
        Walk {
            prefixes,
            prefix,
            after: None,
        }
    }

    async fn next(&mut self, store: &Store) -> Result<Option<Vec<Entry>>, StoreError> {
        let Some(prefix) = self.prefix else {
            return Ok(None);
        };
        let options = ListOptions {
            prefix,
            after: self.after.as_deref(),
            limit: PAGE,
            at: None,
        };
        let page = store.scan(options).await?;
        self.after = page.entries.last().map(|entry| entry.key.to_string());
        if !page.more {
            self.prefix = self.prefixes.next().map(String::as_str);
            self.after = None;
        }
        Ok(Some(page.entries))
    }
}
