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
use crate::cache::{Cache, Object};
use crate::http::Body;
use crate::negotiate;
use crate::query::{ListOptions, Match};
use crate::storage;

/// How long a read waits for a revision that is not there yet.
const FRESH_LIMIT: Duration = Duration::from_secs(3);
/// How many entries of a past revision are read at a time.
const STORE_PAGE: usize = 500;

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
    let keep = |object: &Object| filter.matches(object);
    let applied = state.cache.applied();
    let (snapshot, remaining) =
        kind.range(filter.namespace.as_deref(), after, keep, limit, applied);
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
        let mut seen = 0;
        for entry in &page.entries {
            if objects.len() >= limit {
                break;
            }
            seen += 1;
            let Some((_, _, local)) = storage::split(&entry.key) else {
                continue;
            };
            let object = write::loose(call, local, &entry.value, entry.modified)?;
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
