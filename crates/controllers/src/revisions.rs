//! ControllerRevisions: the history of a pod template, for kinds that keep no ReplicaSets.

use crate::claim;
use crate::context::{by_owner, orphans};
use crate::pods::controlled_by;
use crate::write::{self, WriteError, Written};
use client::{Client, Index, Informer, Informers, Key};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::DeleteParams;
use serde_json::Value;
use std::sync::Arc;

/// The label of a pod that names the revision it was made from.
pub(crate) const HASH: &str = "controller-revision-hash";

/// A cache of revisions with their owners.
pub(crate) struct Revisions {
    pub(crate) cache: Informer<ControllerRevision>,
    owned: Index<ControllerRevision>,
}

/// The history of one owner.
pub(crate) struct History {
    /// Every revision, oldest first.
    pub(crate) all: Vec<Arc<ControllerRevision>>,
    /// The one of the current template.
    pub(crate) current: Arc<ControllerRevision>,
}

/// What a revision is about: who owns it, and what it looks like.
pub(crate) struct Subject<'a, O> {
    pub(crate) owner: &'a O,
    pub(crate) selector: &'a LabelSelector,
    /// Labels of the template, which the revision carries as well.
    pub(crate) labels: Option<&'a std::collections::BTreeMap<String, String>>,
    /// The state to remember.
    pub(crate) data: Value,
    pub(crate) collisions: Option<i32>,
    /// How many old revisions to keep.
    pub(crate) limit: usize,
}

impl Revisions {
    pub(crate) fn new(informers: &Informers) -> Self {
        let cache = informers.get::<ControllerRevision>();
        Self {
            owned: cache.index(by_owner),
            cache,
        }
    }

    /// Brings the history up to date; `None` if the name of a new revision is taken by another.
    pub(crate) async fn sync<O: Written>(
        &self,
        client: &Client,
        subject: &Subject<'_, O>,
    ) -> Result<Option<History>, WriteError> {
        let meta = subject.owner.meta();
        let uid = meta.uid.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let claim = claim::claim(
            meta.deletion_timestamp.is_some(),
            claim::selector(subject.selector).as_ref(),
            self.owned.get(uid),
            self.owned.get(&orphans(namespace)),
        );
        let mut all = claim::execute(client, subject.owner, claim).await?;
        all.sort_by(|a, b| {
            a.revision
                .cmp(&b.revision)
                .then(a.metadata.name.cmp(&b.metadata.name))
        });
        let newest = all.last().map_or(0, |r| r.revision);
        let same = all
            .iter()
            .rposition(|r| r.data.as_ref().is_some_and(|d| d.0 == subject.data));
        let current = match same {
            Some(at) if all[at].revision == newest => all[at].clone(),
            Some(at) => {
                // Rolled back: an old revision is the newest again.
                let mut renewed = ControllerRevision::clone(&all[at]);
                renewed.revision = newest + 1;
                let written = write::updated(client, &*all[at], &renewed).await?;
                let current = Arc::new(written.unwrap_or(renewed));
                all.remove(at);
                all.push(current.clone());
                current
            }
            None => {
                let new = revision(subject, newest + 1);
                let created = match write::create(client, namespace, &new).await {
                    Err(error) if client::is_already_exists(&error) => {
                        let key =
                            Key::new(namespace, new.metadata.name.clone().unwrap_or_default());
                        let live: Option<ControllerRevision> = write::read(client, &key).await?;
                        match live.filter(|l| client::owner_uid(l) == Some(uid)) {
                            Some(live) if live.data == new.data => live,
                            _ => return Ok(None),
                        }
                    }
                    result => result?,
                };
                let created = Arc::new(created);
                all.push(created.clone());
                created
            }
        };
        Ok(Some(History { all, current }))
    }

    /// Deletes the oldest revisions that are not in use and beyond the limit.
    pub(crate) async fn prune<O>(
        &self,
        client: &Client,
        subject: &Subject<'_, O>,
        history: &History,
        in_use: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<(), WriteError> {
        let name = |r: &ControllerRevision| r.metadata.name.clone().unwrap_or_default();
        let old: Vec<&Arc<ControllerRevision>> = history
            .all
            .iter()
            .filter(|r| name(r) != name(&history.current) && !in_use(&name(r)) && !in_use(hash(r)))
            .collect();
        for revision in old.iter().take(old.len().saturating_sub(subject.limit)) {
            let (key, uid) = (Key::of(&***revision), revision.metadata.uid.as_deref());
            let params = DeleteParams::default();
            write::delete::<ControllerRevision>(client, &key, uid, params).await?;
        }
        Ok(())
    }
}

/// The hash in a revision's labels.
pub(crate) fn hash(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(HASH))
        .map(String::as_str)
        .unwrap_or_default()
}

fn revision<O: Written>(subject: &Subject<'_, O>, number: i64) -> ControllerRevision {
    let meta = subject.owner.meta();
    let hash = short_hash(&subject.data, subject.collisions);
    let mut labels = subject.labels.cloned().unwrap_or_default();
    labels.insert(HASH.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}-{hash}",
                meta.name.as_deref().unwrap_or_default()
            )),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations.clone(),
            owner_references: Some(vec![controlled_by(subject.owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(subject.data.clone())),
        revision: number,
    }
}

/// A short name for a value: equal values have equal hashes, and `collisions` makes another.
pub(crate) fn short_hash<T: serde::Serialize>(value: &T, collisions: Option<i32>) -> String {
    // Vowels and look-alikes are left out, so that no word comes about.
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    // Maps are ordered and absent fields are left out: equal values are equal bytes.
    feed(&serde_json::to_vec(value).unwrap_or_default());
    if let Some(collisions) = collisions {
        feed(&collisions.to_le_bytes());
    }
    hash.to_string()
        .bytes()
        .map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()]))
        .collect()
}
