//! The form in which objects leave: as they are (shared bytes), in another version, as a Table, as
//! metadata only; JSON, YAML or protobuf.
//!
//! Invariant: custom resources come here in the version that was asked for
//! ([`crate::conversion::bring`]); built-in kinds are brought to it here.

use std::borrow::Cow;
use std::sync::Arc;

use api::proto;
use api::resource::ResourceRef;
use api::status::ApiError;
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::{EventType, Object, frame};
use crate::http::{Body, respond, stream_body, value, with_body};
use crate::negotiate::{Accepted, Shape, Syntax};
use crate::query::Query;

/// How large an answer may be to be sent in one piece.
const ONE_PIECE_BYTES: usize = 1 << 20;
/// How large the pieces of a streamed list are.
const PIECE_BYTES: usize = 128 << 10;

/// What a Table's rows carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

/// A form for the objects of one request.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    resource: ResourceRef,
    accepted: Accepted,
    include: Include,
    /// Whether objects are of another version than the one that was asked for.
    converts: bool,
    heading_sent: bool,
}

/// `metadata` of a list.
#[derive(Debug, Default)]
pub(crate) struct ListMeta {
    pub(crate) revision: u64,
    pub(crate) token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    fn value(&self) -> Value {
        let mut value = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.token {
            value["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            value["remainingItemCount"] = remaining.into();
        }
        value
    }
}

impl Form {
    pub(crate) fn new(
        resource: &ResourceRef,
        accepted: Accepted,
        query: &Query,
    ) -> Result<Self, ApiError> {
        let include = match query.text("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "includeObject: Unsupported value: {other:?}: supported values: \"None\", \"Metadata\", \"Object\""
                )));
            }
        };
        Ok(Self {
            resource: resource.clone(),
            accepted,
            include,
            converts: resource.api_version != resource.hub().api_version,
            heading_sent: false,
        })
    }

    /// The resource as it was asked for.
    pub(crate) fn resource(&self) -> &ResourceRef {
        &self.resource
    }

    /// An object, in the version that was asked for.
    fn value(&self, object: &Object) -> Value {
        let mut value = object.value();
        if self.converts {
            api::convert::convert(self.resource.hub(), &self.resource, &mut value);
        }
        value
    }

    /// Whether objects leave as they are.
    fn shares(&self) -> bool {
        self.accepted.shape == Shape::Object && !self.converts
    }

    fn object_json<'a>(&self, object: &'a Object) -> Cow<'a, [u8]> {
        if self.converts {
            Cow::Owned(self.value(object).to_string().into_bytes())
        } else {
            Cow::Borrowed(object.json())
        }
    }

    fn metadata_json(&self, object: &Object) -> Vec<u8> {
        let version = self.accepted.meta_version;
        let mut out = format!(
            "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":"
        )
        .into_bytes();
        out.extend_from_slice(object.metadata_json());
        out.push(b'}');
        out
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<u8> {
        let value = self.value(object);
        let cells = Value::Array(api::table::cells(&self.resource, &value, now));
        let mut out = format!("{{\"cells\":{cells}").into_bytes();
        match self.include {
            Include::None => {}
            Include::Metadata => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&self.metadata_json(object));
            }
            Include::Object => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&self.object_json(object));
            }
        }
        out.push(b'}');
        out
    }

    fn table(&self, metadata: &Value, heading: bool, objects: &[&Object]) -> Vec<u8> {
        let columns = if heading {
            api::table::column_definitions(&self.resource)
        } else {
            Value::Array(Vec::new())
        };
        let now = Timestamp::now();
        let version = self.accepted.meta_version;
        let mut out = format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"columnDefinitions\":{columns},\"rows\":["
        )
        .into_bytes();
        for (i, object) in objects.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&self.row(object, now));
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// One object as JSON in this form.
    fn one<'a>(&self, object: &'a Object, heading: bool) -> Cow<'a, [u8]> {
        match self.accepted.shape {
            Shape::Object => self.object_json(object),
            Shape::Metadata => Cow::Owned(self.metadata_json(object)),
            Shape::Table => {
                let metadata = json!({"resourceVersion": object.revision.to_string()});
                Cow::Owned(self.table(&metadata, heading, &[object]))
            }
        }
    }

    /// A watch frame.
    pub(crate) fn frame(&mut self, event: EventType, object: &Object) -> Bytes {
        if self.accepted.syntax == Syntax::Protobuf {
            return self.event(event.name(), &self.one_value(object));
        }
        if self.shares() {
            return object.frame(event);
        }
        let heading = !std::mem::replace(&mut self.heading_sent, true);
        frame(event, &self.one(object, heading))
    }

    /// A watch frame of an event that is no change: a bookmark, an error.
    pub(crate) fn event(&self, kind: &str, object: &Value) -> Bytes {
        if self.accepted.syntax == Syntax::Protobuf {
            let frame = proto::watch_event(kind, object).or_else(|error| {
                let error = ApiError::internal(error).to_value();
                proto::watch_event("ERROR", &error)
            });
            return Bytes::from(frame.unwrap_or_default());
        }
        let mut out = format!("{{\"type\":\"{kind}\",\"object\":{object}}}");
        out.push('\n');
        Bytes::from(out)
    }

    /// One object as a value in this form; for protobuf, which has no tables.
    fn one_value(&self, object: &Object) -> Value {
        match self.accepted.shape {
            Shape::Metadata => {
                serde_json::from_slice(&self.metadata_json(object)).unwrap_or_default()
            }
            Shape::Object | Shape::Table => self.value(object),
        }
    }

    /// The object of a bookmark in this form.
    pub(crate) fn bookmark(&self, object: Value) -> Value {
        match self.accepted.shape {
            Shape::Object => object,
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": self.accepted.meta_version,
                "metadata": object["metadata"],
            }),
            Shape::Table => json!({
                "kind": "Table", "apiVersion": self.accepted.meta_version,
                "metadata": {"resourceVersion": object["metadata"]["resourceVersion"]},
                "columnDefinitions": [],
                "rows": [{"cells": [], "object": object}],
            }),
        }
    }

    /// An answer of one object.
    pub(crate) fn object(&self, status: StatusCode, object: &Object) -> Response<Body> {
        if self.accepted.syntax == Syntax::Protobuf {
            return value(Syntax::Protobuf, status, &self.one_value(object));
        }
        if self.shares() && self.accepted.syntax == Syntax::Json {
            return respond(status, Syntax::Json.content_type(), object.bytes());
        }
        self.encoded(status, self.one(object, true).into_owned())
    }

    /// JSON in the syntax that was asked for.
    fn encoded(&self, status: StatusCode, json: Vec<u8>) -> Response<Body> {
        match self.accepted.syntax {
            Syntax::Json => respond(status, Syntax::Json.content_type(), json),
            Syntax::Protobuf => {
                let object: Value = serde_json::from_slice(&json).unwrap_or_default();
                value(Syntax::Protobuf, status, &object)
            }
            Syntax::Yaml => {
                let value: Value = serde_json::from_slice(&json).unwrap_or_default();
                respond(
                    status,
                    Syntax::Yaml.content_type(),
                    crate::pipeline::yaml::write(&value),
                )
            }
        }
    }

    /// A list in protobuf; nothing when it has no such form.
    fn list_in_protobuf(
        &self,
        kind: &str,
        version: &str,
        objects: &[Arc<Object>],
        meta: &ListMeta,
    ) -> Option<Response<Body>> {
        let items = objects.iter().map(|object| self.one_value(object));
        match proto::encode_list(version, kind, &meta.value(), items) {
            Ok(bytes) => {
                let content_type = Syntax::Protobuf.content_type();
                Some(respond(StatusCode::OK, content_type, bytes))
            }
            Err(error) => {
                tracing::debug!("answering a list in JSON: {error}");
                None
            }
        }
    }

    /// An answer of a list.
    pub(crate) fn list(&self, objects: Vec<Arc<Object>>, meta: &ListMeta) -> Response<Body> {
        if self.accepted.shape == Shape::Table {
            let borrowed: Vec<&Object> = objects.iter().map(AsRef::as_ref).collect();
            return self.encoded(StatusCode::OK, self.table(&meta.value(), true, &borrowed));
        }
        let (kind, version) = match self.accepted.shape {
            Shape::Metadata => ("PartialObjectMetadataList", self.accepted.meta_version),
            _ => (&*self.resource.list_kind, &*self.resource.api_version),
        };
        if self.accepted.syntax == Syntax::Protobuf
            && let Some(response) = self.list_in_protobuf(kind, version, &objects, meta)
        {
            return response;
        }
        let head = format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{},\"items\":[",
            meta.value()
        );
        let size: usize = objects.iter().map(|o| o.json().len() + 1).sum();
        if size <= ONE_PIECE_BYTES || self.accepted.syntax == Syntax::Yaml {
            let mut out = Vec::with_capacity(head.len() + size + 2);
            out.extend_from_slice(head.as_bytes());
            for (i, object) in objects.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&self.one(object, false));
            }
            out.extend_from_slice(b"]}");
            return self.encoded(StatusCode::OK, out);
        }
        let body = stream_body(futures::stream::iter(Pieces {
            form: self.clone(),
            head: Some(head),
            objects: objects.into_iter(),
            first: true,
        }));
        with_body(StatusCode::OK, Syntax::Json.content_type(), body)
    }
}

/// A large list in pieces; only the piece at hand is copied.
struct Pieces {
    form: Form,
    head: Option<String>,
    objects: std::vec::IntoIter<Arc<Object>>,
    first: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = match self.head.take() {
            Some(head) => head.into_bytes(),
            None if self.objects.as_slice().is_empty() => return None,
            None => Vec::with_capacity(PIECE_BYTES + 4096),
        };
        for object in self.objects.by_ref() {
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            out.extend_from_slice(&self.form.one(&object, false));
            if out.len() >= PIECE_BYTES {
                break;
            }
        }
        if self.objects.as_slice().is_empty() {
            out.extend_from_slice(b"]}");
        }
        Some(Bytes::from(out))
    }
}
