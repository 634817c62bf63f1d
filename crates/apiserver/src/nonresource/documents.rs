//! Documents that are built once and handed out as bytes: discovery and OpenAPI.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use api::resource::Resource;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use crate::resources::Resources;

/// A document and its entity tag.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    pub(crate) tag: String,
}

impl Document {
    pub(super) fn new(value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        let tag = hex::encode_upper(Sha512::digest(&bytes));
        Self { bytes, tag }
    }

    /// An OpenAPI v2 document in protobuf; with the tag of the JSON, as upstream has it.
    pub(super) fn in_protobuf(&self) -> Self {
        let document = serde_json::from_slice(&self.bytes).unwrap_or_default();
        Self {
            bytes: api::openapi::gnostic::encode(&document).into(),
            tag: self.tag.clone(),
        }
    }
}

/// The documents, each made when it is first asked for, and anew when what is served has changed.
#[derive(Default)]
pub(crate) struct Documents {
    current: RwLock<Arc<Set>>,
}

impl Documents {
    /// The documents of what is served now.
    pub(crate) fn of(&self, resources: &Resources) -> Arc<Set> {
        let generation = resources.generation();
        let known = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation {
            return known.clone();
        }
        drop(known);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation != generation {
            *current = Arc::new(Set {
                generation,
                custom: resources.custom(),
                ..Set::default()
            });
        }
        current.clone()
    }
}

/// The documents of one moment.
#[derive(Default)]
pub(crate) struct Set {
    generation: u64,
    custom: Vec<Arc<Resource>>,
    aggregated: OnceLock<Document>,
    aggregated_core: OnceLock<Document>,
    groups: OnceLock<Document>,
    openapi_v2: OnceLock<Document>,
    openapi_v2_protobuf: OnceLock<Document>,
    openapi_v3: OnceLock<Document>,
    by_path: Mutex<HashMap<String, Document>>,
}

impl Set {
    /// The custom resources of that moment.
    pub(crate) fn custom(&self) -> &[Arc<Resource>] {
        &self.custom
    }

    pub(crate) fn aggregated(&self) -> Document {
        self.aggregated
            .get_or_init(|| Document::new(&api::discovery::aggregated_v2(&self.custom)))
            .clone()
    }

    pub(crate) fn aggregated_core(&self) -> Document {
        self.aggregated_core
            .get_or_init(|| Document::new(&api::discovery::aggregated_v2_core()))
            .clone()
    }

    pub(crate) fn groups(&self) -> Document {
        self.groups
            .get_or_init(|| Document::new(&api::discovery::api_group_list(&self.custom)))
            .clone()
    }

    pub(crate) fn openapi_v2(&self) -> Document {
        self.openapi_v2
            .get_or_init(|| Document::new(&api::openapi::v2(&self.custom)))
            .clone()
    }

    /// The same in protobuf.
    pub(crate) fn openapi_v2_protobuf(&self) -> Document {
        let encode = || self.openapi_v2().in_protobuf();
        self.openapi_v2_protobuf.get_or_init(encode).clone()
    }

    pub(crate) fn openapi_v3(&self) -> Document {
        self.openapi_v3
            .get_or_init(|| Document::new(&api::openapi::v3_index(&self.custom)))
            .clone()
    }

    /// A document of one group (version); `make` says whether there is one. Only paths that exist
    /// are remembered.
    pub(crate) fn at(&self, path: &str, make: impl FnOnce() -> Option<Value>) -> Option<Document> {
        let lock = || self.by_path.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(path) {
            return Some(known.clone());
        }
        let made = make().map(|value| Document::new(&value))?;
        lock().insert(path.to_owned(), made.clone());
        Some(made)
    }
}
