//! Reviews: questions about who somebody is and what they may do. Nothing is kept.

use api::status::ApiError;
use bytes::Bytes;
use http::{Response, StatusCode};

use crate::admission::attributes::{BodyKind, Operation};
use crate::admission::chain;
use crate::auth::legacy_token::Remarks;
use crate::auth::review;
use crate::http::Body;
use crate::legacy_tokens;
use crate::pipeline::{Call, stages};

/// Serves POST.
pub(super) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let res = &*call.resource;
    let asked = stages::decode(call, body, &res.api_version, &res.kind, &res.schema)?;
    let kind = BodyKind::of(&res.group, &res.version, &res.kind);
    let asked = chain::body(call, Operation::Create, kind, asked).await?;
    let state = &call.state;
    let authorizer = &state.authorizer;
    let answer = match &*res.plural {
        "tokenreviews" => {
            let mut remarks = Remarks::default();
            let answer = review::token(&state.authenticator, asked, &mut remarks).await;
            legacy_tokens::heed(state, &remarks).await;
            for warning in remarks.warnings {
                call.warn(warning);
            }
            for (key, value) in &remarks.annotations {
                call.annotate(key, value);
            }
            answer?
        }
        "selfsubjectreviews" => review::self_subject(&call.user, asked),
        "subjectaccessreviews" => review::subject_access(authorizer, asked)?,
        "localsubjectaccessreviews" => {
            review::local_subject_access(authorizer, &call.namespace, asked)?
        }
        "selfsubjectaccessreviews" => review::self_subject_access(authorizer, &call.user, asked)?,
        "selfsubjectrulesreviews" => review::self_subject_rules(authorizer, &call.user, asked)?,
        _ => return Err(ApiError::method_not_allowed()),
    };
    Ok(call.answer(StatusCode::CREATED, &answer))
}
