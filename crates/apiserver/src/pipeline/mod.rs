//! The one way of a request to a resource:
//! decode → authenticate → authorize → convert/default → mutate → validate → admit →
//! compare-and-swap → publish.
//!
//! Invariant: nothing here knows a kind; kinds are `crate::hooks`, bodies that are no objects of
//! the resource are `crate::subresource`.

pub(crate) mod apply;
pub(crate) mod claims;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod delete_collection;
pub(crate) mod form;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod managed;
pub(crate) mod meta;
pub(crate) mod patch;
mod socket;
pub(crate) mod stages;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod watch;
pub(crate) mod write;
pub(crate) mod yaml;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::resource::ResourceRef;
use api::status::ApiError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::admission::annotations::Annotations;
use crate::auth::user::User;
use crate::cache::Object;
use crate::conversion::{self, Memo};
use crate::http::{Body, read_body};
use crate::negotiate::{self, Accepted};
use crate::query::Query;
use crate::state::State;
use crate::subresource;

use self::socket::Asked;

/// One request to a resource, authenticated and authorized.
pub(crate) struct Call {
    pub(crate) state: Arc<State>,
    pub(crate) user: Arc<User>,
    /// The resource in the version that was asked for.
    pub(crate) resource: ResourceRef,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) dry_run: bool,
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
    /// What admission says of the request to the audit log.
    pub(crate) annotations: Arc<Annotations>,
    /// When the request came.
    pub(crate) started: Instant,
    /// What was converted for the sake of this request.
    pub(crate) conversions: Memo,
    /// Whether built-in admission alone has a say: writes of the server itself, and the second part
    /// of what was admitted as a whole.
    pub(crate) built_in_only: bool,
}

impl Call {
    /// A call of the server itself.
    pub(crate) fn internal(
        state: &Arc<State>,
        resource: impl Into<ResourceRef>,
        namespace: &str,
        name: &str,
    ) -> Self {
        let user = User {
            name: "system:apiserver".to_owned(),
            groups: vec![
                "system:masters".to_owned(),
                "system:authenticated".to_owned(),
            ],
            ..User::default()
        };
        Self {
            state: state.clone(),
            user: Arc::new(user),
            resource: resource.into(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            query: Query::default(),
            headers: HeaderMap::from_iter([(
                header::USER_AGENT,
                HeaderValue::from_static("kube-apiserver"),
            )]),
            dry_run: false,
            warnings: Arc::default(),
            annotations: Arc::default(),
            started: Instant::now(),
            conversions: Memo::default(),
            built_in_only: true,
        }
    }

    /// A part of this call that is about one object.
    pub(crate) fn part(&self, namespace: &str, name: &str) -> Self {
        Self {
            user: self.user.clone(),
            headers: self.headers.clone(),
            dry_run: self.dry_run,
            warnings: self.warnings.clone(),
            annotations: self.annotations.clone(),
            started: self.started,
            built_in_only: self.built_in_only,
            ..Self::internal(&self.state, &self.resource, namespace, name)
        }
    }

    /// Tells the client something beside the answer.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.into());
    }

    /// Adds to the request's audit event, if there is one.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.annotations.add(key, value);
    }

    /// `namespace/name` of the object that the call is about.
    pub(crate) fn local(&self) -> String {
        crate::storage::local(&self.namespace, &self.name)
    }

    /// The form of an answer of one object.
    pub(crate) fn form(&self) -> Result<form::Form, ApiError> {
        let accepted: Accepted = negotiate::accept_for(&self.resource, &self.headers, false)?;
        form::Form::new(&self.resource, accepted, &self.query)
    }

    /// An answer of one object, in the form that was asked for.
    pub(crate) async fn respond(
        &self,
        form: &form::Form,
        status: StatusCode,
        object: Arc<Object>,
    ) -> Result<Response<Body>, ApiError> {
        let object = conversion::bring_one(&self.state, &self.resource, object).await?;
        Ok(form.object(status, &object))
    }

    /// An answer of one shape, in JSON or protobuf.
    pub(crate) fn answer(&self, status: StatusCode, value: &Value) -> Response<Body> {
        crate::http::value(negotiate::preferred(&self.headers), status, value)
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource, &self.name)
    }
}

/// Serves a call by its verb.
pub(crate) async fn serve(
    call: Call,
    verb: &str,
    rest: &str,
    mut request: http::Request<Body>,
) -> Result<Response<Body>, ApiError> {
    if subresource::is_virtual(&call.resource)
        || subresource::has_own_body(&call.resource, &call.subresource)
    {
        return subresource::serve(call, verb, rest, request).await;
    }
    check_verb(&call, verb)?;
    if verb != "create" && call.query.text("resourceVersion").is_none_or(str::is_empty) {
        fresh(&call.state).await?;
    }
    let call = Arc::new(call);
    let mut response = match verb {
        "get" => get::serve(&call).await,
        "list" => list::serve(&call).await,
        "watch" => watch::serve(&call, Asked::of(&mut request)?).await,
        _ => {
            // A form that cannot be produced is refused before anything is written.
            call.form()?;
            let body: Bytes = read_body(request.into_body()).await?;
            // A write is never torn by a client that goes away.
            let (task, verb) = (call.clone(), verb.to_owned());
            let write = tokio::spawn(async move {
                match verb.as_str() {
                    "create" => create::serve(&task, &body).await,
                    "update" => update::serve(&task, &body).await,
                    "patch" => patch::serve(&task, &body).await,
                    "delete" => delete::serve(&task, &body).await,
                    "deletecollection" => delete_collection::serve(&task, &body).await,
                    _ => Err(ApiError::method_not_allowed()),
                }
            });
            joined(write.await)
        }
    }?;
    add_warnings(&call, &mut response);
    Ok(response)
}

/// What a task of a request came to; its panic is the request's.
pub(crate) fn joined<T>(
    result: Result<Result<T, ApiError>, tokio::task::JoinError>,
) -> Result<T, ApiError> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// How long a request waits for the cache to show what was acknowledged before it came.
const FRESH_LIMIT: Duration = Duration::from_secs(3);

/// Waits until the cache shows everything that had been acknowledged by any server when the request
/// came. Where this server is the only one that takes no time.
pub(crate) async fn fresh(state: &State) -> Result<(), ApiError> {
    let newest = state.store.sync().await;
    let newest = newest.map_err(|error| write::store_error(&error))?;
    if state.cache.wait(newest, FRESH_LIMIT).await {
        Ok(())
    } else {
        Err(ApiError::too_new(newest.0, state.cache.applied().0))
    }
}

fn check_verb(call: &Call, verb: &str) -> Result<(), ApiError> {
    let verbs = if call.subresource.is_empty() {
        call.resource.verbs
    } else {
        call.resource
            .subresource(&call.subresource)
            .map_or(&[][..], |sub| sub.verbs)
    };
    if verbs.contains(&verb) {
        Ok(())
    } else if verb == "create" && call.resource.schema.custom().is_some() {
        Err(ApiError::new(
            405,
            "MethodNotAllowed",
            "create not allowed while custom resource definition is terminating",
        ))
    } else {
        Err(ApiError::method_not_allowed())
    }
}

/// How many letters the warnings of one answer have before they are shortened, and how many each
/// has then.
const WARNINGS_LETTERS: usize = 4 * 1024;
const WARNING_LETTERS: usize = 256;

/// Adds what the call has to say beside its answer.
pub(crate) fn add_warnings(call: &Call, response: &mut Response<Body>) {
    let warnings = call.warnings.lock().unwrap_or_else(PoisonError::into_inner);
    let mut seen: Vec<&String> = Vec::new();
    for text in warnings.iter().filter(|text| !text.is_empty()) {
        if !seen.contains(&text) && !text.contains(char::is_control) {
            seen.push(text);
        }
    }
    let letters = |text: &str| text.chars().count();
    let all: usize = seen.iter().map(|text| letters(text)).sum();
    let mut written = 0;
    for text in seen {
        let mut text = text.clone();
        if all > WARNINGS_LETTERS {
            text = text.chars().take(WARNING_LETTERS).collect();
        }
        if written >= WARNINGS_LETTERS {
            break;
        }
        written += letters(&text);
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let header = format!("299 - \"{quoted}\"");
        if let Ok(value) = HeaderValue::from_bytes(header.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
