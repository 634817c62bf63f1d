//! Reading keys: linearizable, lists in pages that all show the revision of the first.

use futures::{StreamExt as _, stream};

use super::barrier::settle;
use super::connection::{Failure, Repeat};
use super::proto::{KeyValue, RangeRequest, RangeResponse};
use super::{Shared, lease};
use crate::{Entry, ListOptions, Page, Revision, StoreError};

/// The first page of a list has at most so many keys,
const FIRST_PAGE: usize = 500;
/// the others what makes about so many bytes,
const PAGE_BYTES: usize = 4 << 20;
/// within these bounds.
const PAGE_KEYS: (usize, usize) = (10, 1000);
/// How many leases are asked after at a time.
const LEASE_QUESTIONS: usize = 16;

pub(super) async fn get(shared: &Shared, key: &str) -> Result<Option<Entry>, StoreError> {
    shared.check_open()?;
    let question = RangeRequest {
        key: shared.keys.data(key),
        ..RangeRequest::default()
    };
    let answer = shared
        .connection
        .run(Repeat::Freely, |member| member.range(question.clone()))
        .await
        .map_err(|failure| shared.connection.error("get", failure))?;
    let entries = entries(shared, answer.kvs).await?;
    let Some(entry) = entries.into_iter().next() else {
        return Ok(None);
    };
    shared.published(entry.modified).await?;
    Ok(Some(entry))
}

pub(super) async fn list(shared: &Shared, options: ListOptions<'_>) -> Result<Page, StoreError> {
    shared.check_open()?;
    let (mut low, high) = shared.keys.range(options.prefix, options.after);
    let mut revision = match options.at {
        Some(at) => pinned(shared, at)?,
        None => 0,
    };
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut page_keys = FIRST_PAGE;
    let remaining = loop {
        let left = match options.limit {
            0 => usize::MAX,
            limit => limit - kvs.len(),
        };
        let question = RangeRequest {
            key: low,
            range_end: high.clone(),
            limit: i64::try_from(page_keys.min(left)).unwrap_or(i64::MAX),
            revision,
            count_only: false,
        };
        let page = read_page(shared, &question, options.at).await?;
        if revision == 0 {
            let header = page.header.unwrap_or_default();
            revision = header.revision;
        }
        let count = usize::try_from(page.count).unwrap_or(0);
        let remaining = count.saturating_sub(page.kvs.len());
        page_keys = next_page_keys(&page.kvs);
        kvs.extend(page.kvs);
        let enough = options.limit != 0 && kvs.len() >= options.limit;
        let Some(last) = kvs.last().filter(|_| page.more && !enough) else {
            break remaining;
        };
        low = last.key.clone();
        low.push(0);
    };
    let revision = options.at.unwrap_or(shared.offset.ours(revision));
    settle(shared, revision).await?;
    Ok(Page {
        revision,
        entries: entries(shared, kvs).await?,
        more: remaining > 0,
        remaining: remaining as u64,
    })
}

/// etcd's revision for one that is asked for.
fn pinned(shared: &Shared, at: Revision) -> Result<i64, StoreError> {
    let oldest = shared.hub.compacted();
    if at < oldest {
        return Err(StoreError::Compacted { oldest });
    }
    // Before the first change everything is as at it: there is nothing.
    Ok(shared.offset.etcds(at).max(1))
}

async fn read_page(
    shared: &Shared,
    question: &RangeRequest,
    at: Option<Revision>,
) -> Result<RangeResponse, StoreError> {
    let answer = shared
        .connection
        .run(Repeat::Freely, |member| member.range(question.clone()))
        .await;
    match answer {
        Ok(page) if page.header.is_some() => Ok(page),
        Ok(_) => {
            let failure = Failure::lost("an answer without a header");
            Err(shared.connection.error("list", failure))
        }
        Err(failure) => {
            let asked = at.unwrap_or(shared.offset.ours(question.revision));
            Err(shared.read_error("list", asked, failure).await)
        }
    }
}

/// How many keys to ask for after this page, so that the next one is of a good size.
fn next_page_keys(page: &[KeyValue]) -> usize {
    let bytes: usize = page.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    let each = (bytes / page.len().max(1)).max(1);
    (PAGE_BYTES / each).clamp(PAGE_KEYS.0, PAGE_KEYS.1)
}

/// What etcd has, in our words. Keys that are not text are nobody's of ours and left out.
pub(super) async fn entries(shared: &Shared, kvs: Vec<KeyValue>) -> Result<Vec<Entry>, StoreError> {
    let mut unknown: Vec<i64> = kvs
        .iter()
        .map(|kv| kv.lease)
        .filter(|id| *id != 0)
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown.retain(|id| shared.leases.end(*id).is_none());
    let mut questions = stream::iter(unknown)
        .map(|id| lease::learn(shared, id))
        .buffer_unordered(LEASE_QUESTIONS);
    while let Some(learnt) = questions.next().await {
        learnt.map_err(|failure| shared.connection.error("ask after a lease", failure))?;
    }
    let entry = |kv: KeyValue| {
        let key = shared.keys.strip(&kv.key)?.into();
        Some(Entry {
            key,
            value: kv.value.into(),
            created: shared.offset.ours(kv.create_revision),
            modified: shared.offset.ours(kv.mod_revision),
            expires: shared.leases.end(kv.lease),
        })
    };
    Ok(kvs.into_iter().filter_map(entry).collect())
}
