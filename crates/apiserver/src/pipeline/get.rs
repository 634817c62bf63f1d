//! GET of one object.

use api::status::ApiError;
use http::{Response, StatusCode};

use super::Call;
use crate::http::Body;

/// Serves the request from the cache.
pub(crate) async fn serve(call: &Call) -> Result<Response<Body>, ApiError> {
    let form = call.form()?;
    let object = call
        .state
        .kind(&call.resource)
        .get_key(&call.local())
        .ok_or_else(|| call.not_found())?;
    if let Some(text) = call.query.text("resourceVersion") {
        let wanted = crate::query::resource_version(text)?;
        let current = call.state.cache.applied().0;
        if wanted > current {
            return Err(ApiError::too_new(wanted, current));
        }
    }
    call.respond(&form, StatusCode::OK, object).await
}
