//! `serviceaccounts/token`: a TokenRequest.

use api::status::ApiError;
use api::{resource, schema};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use crate::admission::attributes::{BodyKind, Operation};
use crate::admission::chain;
use crate::auth::token::Issuer;
use crate::hooks;
use crate::http::Body;
use crate::pipeline::{Call, stages};

/// Serves POST.
pub(super) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let group = "authentication.k8s.io";
    let ty = schema::type_of(group, "v1", "TokenRequest").ok_or_else(ApiError::no_such_path)?;
    let request = stages::decode(
        call,
        body,
        "authentication.k8s.io/v1",
        "TokenRequest",
        &ty.into(),
    )?;
    let accounts =
        resource::find("", "v1", "serviceaccounts").ok_or_else(ApiError::no_such_path)?;
    if call
        .state
        .kind(accounts)
        .get(&call.namespace, &call.name)
        .is_none()
    {
        return Err(ApiError::not_found(accounts, &call.name));
    }
    let kind = BodyKind::of(group, "v1", "TokenRequest");
    let request = chain::body(call, Operation::Create, kind, request).await?;
    hooks::node_restriction::token(call, &request)?;
    let issuer = Issuer {
        keys: &call.state.tokens,
        issuer: &call.state.issuer,
        audiences: call.state.authenticator.audiences(),
        lookup: &*call.state.cache,
    };
    let issued = issuer.issue(&call.namespace, &call.name, request, Timestamp::now())?;
    if let Some(id) = id_of(&issued) {
        let key = "authentication.kubernetes.io/issued-credential-id";
        call.annotate(key, &format!("JTI={id}"));
    }
    Ok(call.answer(StatusCode::CREATED, &issued))
}

/// The id of a token that was issued.
fn id_of(issued: &Value) -> Option<String> {
    let token = issued["status"]["token"].as_str()?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["jti"].as_str()?.to_owned())
}
