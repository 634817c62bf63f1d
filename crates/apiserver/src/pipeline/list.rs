//! GET of a collection.
//!
//! Invariant: the list's resourceVersion is the revision of which it is the state.

use std::sync::Arc;
use std::time::Duration;

use api::status::ApiError;
use http::Response;
use store::{ListOptions as StoreList, Revision, StoreError};

use super::form::{Form, ListMeta};
use super::token::Token;
use super::{Call, write};
use crate::cache::filter::Filter;
use crate::cache::{Cache, Object, Snapshot};
use crate::conversion;
use crate::http::Body;
use crate::negotiate;
use crate::query::{ListOptions, Match};
use crate::storage;

/// How long a read waits for a revision that is not there yet.
const FRESH_LIMIT: Duration = Duration::from_secs(3);
/// How many entries of a past revision are read at a time.
const STORE_PAGE: usize = 500;
/// How many objects of a page are brought to their version at a time.
const SIFT_PAGE: usize = 500;

/// A page of a list.
pub(crate) struct Page {
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) meta: ListMeta,
}

/// Serves the request.
pub(crate) async fn serve(call: &Call) -> Result<Response<Body>, ApiError> {
    let accepted = negotiate::accept_for(&call.resource, &call.headers, true)?;
    let form = Form::new(&call.resource, accepted, &call.query)?;
    let options = ListOptions::parse(&call.query, &call.resource, false)?;
    let page = page(call, options).await?;
    Ok(form.list(page.objects, &page.meta))
}

/// The filter of a list or a watch.
pub(crate) fn filter(call: &Call, options: &mut ListOptions) -> Filter {
    let namespace =
        (call.resource.namespaced && !call.namespace.is_empty()).then(|| call.namespace.clone());
    let labels = std::mem::take(&mut options.labels);
    let mut fields = std::mem::take(&mut options.fields);
    // The old watch paths may end in a name.
    if !call.name.is_empty() && fields.required("metadata.name").is_none() {
        fields
            .terms
            .push(("metadata.name".to_owned(), true, call.name.clone()));
    }
    Filter::new(&call.resource, namespace, labels, fields)
}

/// Waits until the cache is at a revision.
pub(crate) async fn fresh(cache: &Cache, revision: u64) -> Result<(), ApiError> {
    if cache.wait(Revision(revision), FRESH_LIMIT).await {
        Ok(())
    } else {
        Err(ApiError::too_new(revision, cache.applied().0))
    }
}

/// Lists what the options ask for.
pub(crate) async fn page(call: &Call, mut options: ListOptions) -> Result<Page, ApiError> {
    let state = &call.state;
    let kind = state.kind(&call.resource);
    let filter = filter(call, &mut options);
    let token = options.token.as_deref().map(Token::decode).transpose()?;
    if token.is_some() && options.resource_version.is_some_and(|rv| rv != 0) {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    // A read of "any" revision is served whole.
    let whole = options.limit == 0 || (options.resource_version == Some(0) && token.is_none());
    let limit = if whole { usize::MAX } else { options.limit };
    let (at, after) = match &token {
        Some(token) => (token.revision, Some(token.after.as_str())),
        None if options.matching == Match::Exact => (options.resource_version, None),
        None => {
            if let Some(revision) = options.resource_version {
                fresh(&state.cache, revision).await?;
            }
            (None, None)
        }
    };
    if let Some(revision) = at {
        fresh(&state.cache, revision).await?;
        // The cache is that state still when nothing of the kind happened since.
        if kind.last().0 > revision {
            return at_revision(call, &filter, Revision(revision), after, limit).await;
        }
    }
    let (snapshot, remaining) = read(call, &filter, after, limit).await?;
    // Something of the kind may have happened between the two looks.
    if let Some(revision) = at.filter(|revision| snapshot_is_newer(&kind, *revision)) {
        return at_revision(call, &filter, Revision(revision), after, limit).await;
    }
    let revision = at.unwrap_or(snapshot.revision.0);
    let meta = list_meta(&filter, &snapshot.objects, revision, remaining);
    Ok(Page {
        objects: snapshot.objects,
        meta,
    })
}

/// The state of this moment from after a key, what of it a filter lets through, in the version of the
/// call; at most `limit` objects. The second value: how many objects are left after the last one.
pub(crate) async fn read(
    call: &Call,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> Result<(Snapshot, usize), ApiError> {
    let applied = call.state.cache.applied();
    let (kind, namespace) = (call.state.kind(&call.resource), filter.namespace.as_deref());
    // What the filter looks at may be another thing in another version.
    if call.resource.schema.custom().is_some() && filter.selects() {
        let whole = kind
            .range(namespace, after, |_| true, usize::MAX, applied)
            .0;
        return sift(call, filter, whole, limit).await;
    }
    let keep = |object: &Object| filter.matches(object);
    let (mut snapshot, left) = kind.range(namespace, after, keep, limit, applied);
    snapshot.objects = conversion::bring(&call.state, &call.resource, snapshot.objects).await?;
    Ok((snapshot, left))
}

/// What a filter lets through of a state of custom resources, in the version of the call.
async fn sift(
    call: &Call,
    filter: &Filter,
    mut snapshot: Snapshot,
    limit: usize,
) -> Result<(Snapshot, usize), ApiError> {
    let mut rest = std::mem::take(&mut snapshot.objects).into_iter();
    let place = |object: &Arc<Object>| filter.may_match(object);
    while snapshot.objects.len() < limit && rest.len() > 0 {
        let wanted = SIFT_PAGE.min(limit - snapshot.objects.len());
        let some: Vec<_> = rest.by_ref().take(wanted).filter(place).collect();
        let some = conversion::bring(&call.state, &call.resource, some).await?;
        let some = some.into_iter().filter(|object| filter.matches(object));
        snapshot.objects.extend(some);
    }
    let left = if limit == usize::MAX { 0 } else { rest.len() };
    Ok((snapshot, left))
}

fn snapshot_is_newer(kind: &crate::cache::KindCache, revision: u64) -> bool {
    kind.last().0 > revision
}

fn list_meta(
    filter: &Filter,
    objects: &[Arc<Object>],
    revision: u64,
    remaining: usize,
) -> ListMeta {
    let mut meta = ListMeta {
        revision,
        ..ListMeta::default()
    };
    if remaining > 0 {
        if let Some(last) = objects.last() {
            let after = last.key.to_string();
            meta.token = Some(
                Token {
                    revision: Some(revision),
                    after,
                }
                .encode(),
            );
        }
        meta.remaining = (!filter.selects()).then_some(remaining);
    }
    meta
}

/// A list of a past revision, from the store's history.
async fn at_revision(
    call: &Call,
    filter: &Filter,
    revision: Revision,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, ApiError> {
    let base = storage::prefix(&call.resource.storage_group, &call.resource.plural);
    let prefix = match &filter.namespace {
        Some(namespace) => format!("{base}{namespace}/"),
        None => base.clone(),
    };
    let mut cursor = after.map(|after| format!("{base}{after}"));
    let mut objects: Vec<Arc<Object>> = Vec::new();
    let remaining = loop {
        let wanted = if filter.selects() {
            STORE_PAGE
        } else {
            limit - objects.len()
        };
        let options = StoreList {
            prefix: &prefix,
            after: cursor.as_deref(),
            limit: STORE_PAGE.min(wanted),
            at: Some(revision),
        };
        let page = match call.state.store.list(options).await {
            Ok(page) => page,
            Err(StoreError::Compacted { oldest }) => {
                return Err(match after {
                    Some(after) => {
                        let token = Token {
                            revision: None,
                            after: after.to_owned(),
                        };
                        ApiError::continue_expired(token.encode())
                    }
                    None => ApiError::too_old(revision.0, oldest.0),
                });
            }
            Err(error) => return Err(write::store_error(&error)),
        };
        let mut read = Vec::with_capacity(page.entries.len());
        for entry in &page.entries {
            if let Some((_, _, local)) = storage::split(&entry.key) {
                read.push(write::loose(call, local, &entry.value, entry.modified)?);
            }
        }
        let mut seen = 0;
        for object in conversion::bring(&call.state, &call.resource, read).await? {
            if objects.len() >= limit {
                break;
            }
            seen += 1;
            if filter.matches(&object) {
                objects.push(object);
            }
        }
        let unseen = page.entries.len() - seen;
        if objects.len() >= limit {
            break usize::try_from(page.remaining)
                .unwrap_or(usize::MAX)
                .saturating_add(unseen);
        }
        if !page.more {
            break 0;
        }
        cursor = page.entries.last().map(|entry| entry.key.to_string());
    };
    let meta = list_meta(filter, &objects, revision.0, remaining);
    Ok(Page { objects, meta })
}
