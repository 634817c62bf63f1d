//! What is gathered of one request until its events are made.
//!
//! Invariant: bodies are kept by reference as they pass, and read only when an event needs them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use api::status::ApiError;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::{HeaderMap, Request, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Audit;
use super::event::{Event, EventUser, Level, ObjectRef, Stage};
use super::policy::Verdict;
use crate::admission::annotations::Annotation;
use crate::auth::rbac::Attributes;
use crate::auth::user::User;
use crate::config::PeerAddress;
use crate::http::{BODY_LIMIT_BYTES, Body, BoxError, full_body};
use crate::negotiate;
use crate::pipeline::stages;
use crate::route::Info;

const USER_AGENT_LIMIT_BYTES: usize = 1024;
/// No answer is kept beyond this; one that is larger is noted as truncated.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;
const AUDIT_ID: &str = "audit-id";
const ID_LIMIT_BYTES: usize = 256;

/// The id of a request: its own, or a fresh one.
pub(crate) fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(AUDIT_ID).and_then(|id| id.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= ID_LIMIT_BYTES => id.to_owned(),
        _ => uuid::Uuid::new_v4().to_string(),
    }
}

/// Tells the client the request's id.
pub(crate) fn echo(id: &str, response: &mut Response<Body>) {
    if let Ok(value) = header::HeaderValue::from_str(id) {
        response.headers_mut().entry(AUDIT_ID).or_insert(value);
    }
}

/// Whether a request's answer may take as long as its client likes.
pub(crate) fn is_long_running(info: &Info) -> bool {
    info.is_resource
        && (info.verb == "watch"
            || matches!(
                info.subresource.as_str(),
                "attach" | "exec" | "proxy" | "log" | "portforward"
            ))
}

/// One request that is written down.
pub(crate) struct Record {
    audit: Arc<Audit>,
    verdict: Verdict,
    is_long_running: bool,
    /// Upstream writes the objects of resource requests only.
    is_resource: bool,
    is_patch: bool,
    request_headers: HeaderMap,
    event: Mutex<Event>,
    request_body: Mutex<BytesMut>,
}

/// What a record is made of.
pub(crate) struct Begun<'a> {
    pub(crate) id: &'a str,
    pub(crate) info: &'a Info,
    pub(crate) attributes: &'a Attributes<'a>,
    /// Whether the attributes' user has shown credentials.
    pub(crate) known: bool,
    pub(crate) received: Timestamp,
}

impl Record {
    /// The record of a request; `None` when nothing of it is written down.
    pub(crate) fn begin(
        audit: &Arc<Audit>,
        request: &Request<Body>,
        begun: &Begun<'_>,
    ) -> Option<Arc<Self>> {
        let policy = audit.policy()?;
        let Begun {
            info, attributes, ..
        } = *begun;
        let verdict = policy.evaluate(attributes, begun.known);
        audit.count_level(verdict.level);
        if verdict.level == Level::None {
            return None;
        }
        let object_ref = info.is_resource.then(|| ObjectRef {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectRef::default()
        });
        let uri = request.uri();
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: verdict.level,
            audit_id: begun.id.to_owned(),
            stage: Stage::RequestReceived,
            request_uri: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            verb: info.verb.to_owned(),
            user: if begun.known {
                EventUser::from(attributes.user)
            } else {
                EventUser::default()
            },
            impersonated_user: None,
            source_ips: source_ips(request),
            user_agent: user_agent(request.headers()),
            object_ref,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: begun.received,
            stage_timestamp: begun.received,
            annotations: BTreeMap::new(),
        };
        Some(Arc::new(Self {
            audit: audit.clone(),
            verdict,
            is_long_running: is_long_running(info),
            is_resource: info.is_resource,
            is_patch: info.verb == "patch",
            request_headers: request.headers().clone(),
            event: Mutex::new(event),
            request_body: Mutex::default(),
        }))
    }

    fn event(&self) -> MutexGuard<'_, Event> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what authorization or admission has to say; what was said first stays.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        let mut event = self.event();
        match event.annotations.get(key) {
            None => {
                event.annotations.insert(key.to_owned(), value.to_owned());
            }
            Some(there) if there == value => {}
            Some(_) => tracing::warn!(key, "an audit annotation has another value already"),
        }
    }

    /// Adds what admission has to say; what repeats the request's content only where that is written.
    pub(crate) fn admitted(&self, annotations: BTreeMap<String, Annotation>) {
        for (key, Annotation { value, content }) in annotations {
            if !content || self.verdict.level >= Level::Request {
                self.annotate(&key, &value);
            }
        }
    }

    /// Says as whom the request is served.
    pub(crate) fn impersonate(&self, user: &User) {
        self.event().impersonated_user = Some(EventUser::from(user));
    }

    /// The request, with its body noted as it is read.
    pub(crate) fn hear(self: &Arc<Self>, request: Request<Body>) -> Request<Body> {
        if !self.is_resource || self.is_long_running {
            return request;
        }
        let record = self.clone();
        request.map(|body| {
            body.map_frame(move |frame| {
                if let Some(data) = frame.data_ref() {
                    let kept = record.request_body.lock();
                    let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
                    if kept.len() + data.len() <= BODY_LIMIT_BYTES {
                        kept.extend_from_slice(data);
                    }
                }
                frame
            })
            .boxed_unsync()
        })
    }

    /// Makes the event of a stage; false when the request must not go on.
    pub(crate) async fn stage(&self, stage: Stage) -> bool {
        match self.at(stage) {
            Some(event) => self.audit.emit(event).await,
            None => true,
        }
    }

    fn at(&self, stage: Stage) -> Option<Arc<Event>> {
        if self.verdict.omit_stages.contains(stage) {
            return None;
        }
        let mut event = self.event();
        event.stage = stage;
        event.stage_timestamp = match stage {
            Stage::RequestReceived => event.request_received_timestamp,
            _ => Timestamp::now(),
        };
        Some(Arc::new(event.clone()))
    }

    /// The first event; an answer when a strict sink has lost it.
    pub(crate) async fn received(&self) -> Result<(), ApiError> {
        if self.stage(Stage::RequestReceived).await {
            return Ok(());
        }
        self.audit.reject();
        Err(ApiError::internal("failed to store audit event"))
    }

    /// Authentication has failed: this is all there is to say.
    pub(crate) async fn unauthenticated(&self, attempted: &str, error: &ApiError) {
        let mut status = failure(error);
        status["message"] = attempted.into();
        self.event().response_status = Some(status);
        self.stage(Stage::ResponseStarted).await;
    }

    /// The server failed.
    pub(crate) async fn panicked(&self, error: &ApiError) {
        self.event().response_status = Some(failure(error));
        self.stage(Stage::Panic).await;
    }

    /// Completes the record of a request with its answer.
    pub(crate) async fn answered(
        self: &Arc<Self>,
        error: Option<&ApiError>,
        response: Response<Body>,
    ) -> Response<Body> {
        let code = response.status().as_u16();
        let status = error.map_or_else(|| json!({"metadata": {}, "code": code}), failure);
        self.event().response_status = Some(status);
        self.read_request();
        if self.is_long_running {
            self.stage(Stage::ResponseStarted).await;
            return response.map(|body| Watched::new(self.clone(), body).boxed_unsync());
        }
        let deletes = matches!(self.event().verb.as_str(), "delete" | "deletecollection");
        let wants_body = self.is_resource && self.verdict.level == Level::RequestResponse;
        let response = if wants_body || (deletes && error.is_none()) {
            self.read_answer(response, wants_body).await
        } else {
            response
        };
        self.stage(Stage::ResponseComplete).await;
        response
    }

    /// Fills in what the request's object tells.
    fn read_request(&self) {
        let body = {
            let kept = self.request_body.lock();
            let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *kept).freeze()
        };
        if body.is_empty() {
            return;
        }
        let wants_object = self.verdict.level >= Level::Request;
        let unnamed = self
            .event()
            .object_ref
            .as_ref()
            .is_some_and(|o| o.name.is_empty());
        if !wants_object && (self.is_patch || !unnamed) {
            return;
        }
        let Some(mut object) = decode(&self.request_headers, &body) else {
            return;
        };
        let mut event = self.event();
        if let (Some(about), false) = (&mut event.object_ref, self.is_patch) {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            for (own, field) in [
                (&mut about.namespace, "namespace"),
                (&mut about.name, "name"),
                (&mut about.uid, "uid"),
                (&mut about.resource_version, "resourceVersion"),
            ] {
                if own.is_empty() {
                    text(field).clone_into(own);
                }
            }
        }
        if wants_object {
            if self.verdict.omit_managed_fields {
                drop_managed_fields(&mut object);
            }
            event.request_object = Some(Arc::new(object));
        }
    }

    /// Reads the answer's object; a `Status` tells more than its code.
    async fn read_answer(&self, response: Response<Body>, keep: bool) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let collected = collect(body).await;
        let bytes = match collected {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!("reading an answer for the audit log: {error}");
                return Response::from_parts(parts, crate::http::empty_body());
            }
        };
        if bytes.len() > ANSWER_LIMIT_BYTES {
            self.annotate("audit.k8s.io/truncated", "true");
        } else if let Some(mut object) = decode(&parts.headers, &bytes) {
            let mut event = self.event();
            if object["kind"] == "Status" && object["apiVersion"] == "v1" {
                let mut status = object.clone();
                if let Some(status) = status.as_object_mut() {
                    status.remove("kind");
                    status.remove("apiVersion");
                    status.insert("code".to_owned(), parts.status.as_u16().into());
                }
                event.response_status = Some(status);
            }
            if keep {
                if self.verdict.omit_managed_fields {
                    drop_managed_fields(&mut object);
                }
                event.response_object = Some(Arc::new(object));
            }
        }
        Response::from_parts(parts, full_body(bytes))
    }
}

/// Boxed, as the compiler cannot see that the body's own future may move between threads.
fn collect(body: Body) -> futures::future::BoxFuture<'static, Result<Bytes, BoxError>> {
    body.collect()
        .map(|all| all.map(|all| all.to_bytes()))
        .boxed()
}

/// A failure as an event has it: the `Status` without its type.
fn failure(error: &ApiError) -> Value {
    let mut status = error.to_value();
    if let Some(status) = status.as_object_mut() {
        status.remove("kind");
        status.remove("apiVersion");
    }
    status
}

/// A body as JSON, if it is an object of a kind that is known here.
fn decode(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    let syntax = negotiate::body_syntax(headers).ok();
    let patch = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let syntax = match (syntax, patch) {
        (Some(syntax), _) => syntax,
        (None, Some(media)) if media.contains("yaml") => negotiate::Syntax::Yaml,
        (None, Some(media)) if media.contains("json") => negotiate::Syntax::Json,
        _ => return None,
    };
    stages::parse(syntax, body).ok()
}

/// Takes the managed fields out of an object, a list or a table.
fn drop_managed_fields(value: &mut Value) {
    let drop = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    drop(value);
    for list in ["items", "rows"] {
        let items = value.get_mut(list).and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            drop(item);
            if let Some(object) = item.get_mut("object") {
                drop(object);
            }
        }
    }
}

fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut agent = agent.unwrap_or_default().into_owned();
    if agent.len() > USER_AGENT_LIMIT_BYTES {
        let end = (0..=USER_AGENT_LIMIT_BYTES)
            .rev()
            .find(|at| agent.is_char_boundary(*at));
        agent.truncate(end.unwrap_or_default());
        agent += "...TRUNCATED";
    }
    agent
}

/// Where a request came from: what proxies say, then the connection.
fn source_ips(request: &Request<Body>) -> Vec<String> {
    const FORWARDED_LIMIT: usize = 64;
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let mut ips: Vec<IpAddr> = text("x-forwarded-for")
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|ip| ip.trim().parse().ok())
        .take(FORWARDED_LIMIT)
        .collect();
    if let Some(real) = text("x-real-ip").and_then(|ip| ip.trim().parse().ok())
        && !ips.contains(&real)
    {
        ips.push(real);
    }
    if let Some(PeerAddress(remote)) = request.extensions().get::<PeerAddress>()
        && ips.last() != Some(remote)
    {
        ips.push(*remote);
    }
    ips.iter().map(IpAddr::to_string).collect()
}

/// The ways in which a request tried to say who it is from.
pub(crate) fn attempted(headers: &HeaderMap, has_certificate: bool) -> String {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok());
    let scheme = value
        .and_then(|value| value.trim().split_once(' '))
        .map(|(scheme, _)| scheme);
    let is = |name: &str| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
    let methods: Vec<&str> = [
        is("basic").then_some("basic"),
        is("bearer").then_some("bearer"),
        has_certificate.then_some("x509"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if methods.is_empty() {
        "Authentication failed, no credentials provided".to_owned()
    } else {
        format!("Authentication failed, attempted: {}", methods.join(", "))
    }
}

/// The body of a long answer; the record is complete when it ends or nobody wants it any more.
struct Watched {
    body: Body,
    record: Option<Arc<Record>>,
}

impl Watched {
    fn new(record: Arc<Record>, body: Body) -> Self {
        Self {
            body,
            record: Some(record),
        }
    }

    fn end(&mut self) {
        let Some(record) = self.record.take() else {
            return;
        };
        // The event is of now; that it is written may take longer than the body lives.
        if let (Some(event), Ok(runtime)) = (
            record.at(Stage::ResponseComplete),
            tokio::runtime::Handle::try_current(),
        ) {
            let audit = record.audit.clone();
            runtime.spawn(async move { audit.emit(event).await });
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}
