//! One object as the cache holds it: its wire bytes, and what selectors need of it.
//!
//! Invariant: the body is a slice of a ready-made watch frame, so that a watch, a list and a get
//! share one allocation.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use store::Revision;

use super::fields::{Selectable, pick};
use crate::codec;
use crate::error::Broken;

/// The type of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// The object came into view.
    Added,
    /// It changed.
    Modified,
    /// It left.
    Deleted,
}

impl EventType {
    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// The frame up to the object.
    fn head(self) -> &'static [u8] {
        match self {
            Self::Added => b"{\"type\":\"ADDED\",\"object\":",
            Self::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
            Self::Deleted => b"{\"type\":\"DELETED\",\"object\":",
        }
    }
}

/// How many forms of an object are kept: more than a definition's versions in use.
const FORMS: usize = 4;

/// How an object reads, by the ids of custom schemas; nothing where it reads as it is stored.
type Forms = Vec<(u64, Option<Arc<Object>>)>;

const TAIL: &[u8] = b"}\n";

/// A watch frame around a body.
pub(crate) fn frame(kind: EventType, body: &[u8]) -> Bytes {
    let head = kind.head();
    let mut out = Vec::with_capacity(head.len() + body.len() + TAIL.len());
    out.extend_from_slice(head);
    out.extend_from_slice(body);
    out.extend_from_slice(TAIL);
    Bytes::from(out)
}

/// An object of the cache.
#[derive(Debug)]
pub struct Object {
    frame: Bytes,
    event: EventType,
    body: Range<usize>,
    metadata: Range<usize>,
    /// The revision of this state (of the deletion, in a DELETED event).
    pub revision: Revision,
    /// `namespace/name`, or `name`.
    pub key: Arc<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.labels`.
    pub labels: Option<Box<Map<String, Value>>>,
    /// Whether it has a deletionTimestamp.
    pub deleting: bool,
    fields: Box<[Box<str>]>,
    schema: &'static [Selectable],
    forms: Mutex<Forms>,
}

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(default)]
    labels: Option<Box<Map<String, Value>>>,
    #[serde(default, rename = "deletionTimestamp")]
    deletion_timestamp: Option<Cow<'a, str>>,
}

impl Object {
    /// An object from the store's bytes; `event` is what its ready-made frame says.
    pub fn from_stored(
        key: Arc<str>,
        stored: &[u8],
        revision: Revision,
        event: EventType,
        schema: &'static [Selectable],
    ) -> Result<Self, Broken> {
        let head = event.head();
        let mut out = Vec::with_capacity(head.len() + stored.len() + 48);
        out.extend_from_slice(head);
        let open = codec::splice(&mut out, stored, revision)?;
        let body = head.len()..out.len();
        out.extend_from_slice(TAIL);
        let wire = &out[body.clone()];
        let broken = |source| Broken::Json {
            key: key.to_string(),
            revision,
            source,
        };
        let top: Top<'_> = serde_json::from_slice(wire).map_err(broken)?;
        let metadata = open..open + top.metadata.get().len();
        let picked: Metadata<'_> = serde_json::from_str(top.metadata.get()).map_err(broken)?;
        let fields = pick(wire, schema);
        let (uid, labels) = (picked.uid.as_ref().into(), picked.labels);
        let deleting = picked.deletion_timestamp.is_some();
        let frame = Bytes::from(out);
        Ok(Self {
            frame,
            event,
            body,
            metadata,
            revision,
            key,
            uid,
            labels,
            deleting,
            fields,
            schema,
            forms: Mutex::default(),
        })
    }

    /// The object's JSON, as it goes on the wire.
    pub fn bytes(&self) -> Bytes {
        self.frame.slice(self.body.clone())
    }

    /// The object's JSON, borrowed.
    pub fn json(&self) -> &[u8] {
        &self.frame[self.body.clone()]
    }

    /// Whether it is stored in this version: a custom resource's objects keep the version that
    /// was the stored one when they were written.
    pub(crate) fn is_in(&self, api_version: &str) -> bool {
        // The stored form begins so.
        let rest = self.json().strip_prefix(b"{\"apiVersion\":\"");
        let rest = rest.and_then(|rest| rest.strip_prefix(api_version.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"\""))
    }

    /// How it reads by a custom schema, by the schema's id: `Some(None)` as it is stored, `None` where
    /// nobody has found out yet.
    pub(crate) fn form(&self, schema: u64) -> Option<Option<Arc<Self>>> {
        let forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, form) = forms.iter().find(|(of, _)| *of == schema)?;
        Some(form.clone())
    }

    /// Remembers how it reads by a custom schema.
    pub(crate) fn keep_form(&self, schema: u64, form: Option<Arc<Self>>) {
        let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        forms.retain(|(of, _)| *of != schema);
        if forms.len() == FORMS {
            forms.remove(0);
        }
        forms.push((schema, form));
    }

    /// The JSON of its `metadata`.
    pub fn metadata_json(&self) -> &[u8] {
        self.json().get(self.metadata.clone()).unwrap_or(b"{}")
    }

    /// The object, parsed.
    pub fn value(&self) -> Value {
        // The bytes were parsed when the object was made.
        serde_json::from_slice(self.json()).unwrap_or(Value::Null)
    }

    /// Its namespace, empty at cluster scope.
    pub fn namespace(&self) -> &str {
        self.key
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.key
            .split_once('/')
            .map_or(&*self.key, |(_, name)| name)
    }

    /// A selectable field's value, if it is one that was picked.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => {
                let at = self.schema.iter().position(|f| f.path == path)?;
                self.fields.get(at).map(|value| &**value)
            }
        }
    }

    /// A watch frame of this object: the shared one where the type fits.
    pub fn frame(&self, event: EventType) -> Bytes {
        if event == self.event {
            self.frame.clone()
        } else {
            frame(event, self.json())
        }
    }

    /// This object as of another revision (a DELETED event shows the old state at the new one).
    pub(crate) fn at(&self, revision: Revision, event: EventType) -> Result<Self, Broken> {
        Self::from_stored(
            self.key.clone(),
            &self.stored(),
            revision,
            event,
            self.schema,
        )
    }

    /// This state with other content, stored bytes as well.
    pub(crate) fn with_content(&self, stored: &[u8]) -> Result<Self, Broken> {
        Self::from_stored(
            self.key.clone(),
            stored,
            self.revision,
            self.event,
            self.schema,
        )
    }

    /// The bytes as the store has them.
    pub(crate) fn stored(&self) -> Vec<u8> {
        let mut stored = Vec::with_capacity(self.body.len());
        codec::unsplice(&mut stored, self.json(), self.metadata.start);
        stored
    }

    /// What this object is counted as in memory.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.frame.len() + 256
    }
}
