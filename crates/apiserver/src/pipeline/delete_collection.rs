//! DELETE of a collection: each object that the selectors choose, by the rules of a single delete.

use api::status::ApiError;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::Response;

use super::delete::{self, DeleteOptions};
use super::form::Form;
use super::{Call, list};
use crate::http::Body;
use crate::negotiate;
use crate::query::ListOptions;

/// How many objects are deleted at the same time.
const PARALLEL: usize = 16;

/// Serves the request; answers the list of what it was about.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let accepted = negotiate::accept_for(&call.resource, &call.headers, true)?;
    let form = Form::new(&call.resource, accepted, &call.query)?;
    let options = DeleteOptions::parse(call, body)?;
    let page = list::page(
        call,
        ListOptions::parse(&call.query, &call.resource, false)?,
    )
    .await?;
    let deletes: Vec<_> = page
        .objects
        .iter()
        .map(|object| {
            let one = call.part(object.namespace(), object.name());
            let mut options = options.clone();
            // Never a later object of the same name.
            options.uid.get_or_insert_with(|| object.uid.to_string());
            delete_one(one, options)
        })
        .collect();
    let mut running = futures::stream::iter(deletes).buffer_unordered(PARALLEL);
    while running.try_next().await?.is_some() {}
    Ok(form.list(page.objects, &page.meta))
}

async fn delete_one(call: Call, options: DeleteOptions) -> Result<(), ApiError> {
    match delete::delete(&call, &options).await {
        Ok(_) => Ok(()),
        // Gone meanwhile, or replaced by another of its name.
        Err(error) if matches!(error.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
