//! Requests whose body is no object of the resource: scale, binding, eviction, tokens, reviews,
//! and those that a node or a pod answers.

mod binding;
mod eviction;
mod review;
mod scale;
mod token;

use std::sync::Arc;

use api::resource::Resource;
use api::status::ApiError;
use http::{Request, Response};

use crate::http::{Body, read_body};
use crate::negotiate;
use crate::pipeline::Call;
use crate::proxy;

/// Whether a subresource has a body of its own; the others are the object itself, in part.
pub(crate) fn has_own_body(resource: &Resource, subresource: &str) -> bool {
    matches!(
        (&*resource.plural, subresource),
        (_, "scale")
            | (
                "pods",
                "binding" | "eviction" | "log" | "exec" | "attach" | "portforward" | "proxy"
            )
            | ("services" | "nodes", "proxy")
            | ("serviceaccounts", "token")
    )
}

/// Whether a resource has no objects that are kept: it is a question or an order.
pub(crate) fn is_virtual(resource: &Resource) -> bool {
    matches!(
        (&*resource.group, &*resource.plural),
        ("", "bindings") | ("authentication.k8s.io" | "authorization.k8s.io", _)
    )
}

/// Serves the call.
pub(crate) async fn serve(
    call: Call,
    verb: &str,
    rest: &str,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    if let ("pods" | "nodes" | "services", "log" | "exec" | "attach" | "portforward" | "proxy") =
        (&*call.resource.plural, call.subresource.as_str())
    {
        return proxy::serve(call, rest, request).await;
    }
    let allowed = match call.resource.subresource(&call.subresource) {
        Some(sub) => sub.verbs.contains(&verb),
        None => call.resource.has_verb(verb),
    };
    if !allowed {
        return Err(ApiError::method_not_allowed());
    }
    // None of them has a Table or metadata alone.
    negotiate::accept(&call.headers, false, false)?;
    let body = read_body(request.into_body()).await?;
    let call = Arc::new(call);
    let (task, verb) = (call.clone(), verb.to_owned());
    // A write is never torn by a client that goes away.
    let work = tokio::spawn(async move {
        match (&*task.resource.plural, task.subresource.as_str()) {
            (_, "scale") => scale::serve(&task, &verb, &body).await,
            ("pods", "binding") | ("bindings", "") => binding::serve(&task, &body).await,
            ("pods", "eviction") => eviction::serve(&task, &body).await,
            ("serviceaccounts", "token") => token::serve(&task, &body).await,
            _ => review::serve(&task, &body).await,
        }
    });
    let mut response = crate::pipeline::joined(work.await)?;
    crate::pipeline::add_warnings(&call, &mut response);
    Ok(response)
}
