//! What tokens are bound to, as it is now.

use jiff::Timestamp;
use serde_json::Value;

use crate::cache::Cache;

/// The kinds that a token can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BoundKind {
    /// The account that the token is for.
    ServiceAccount,
    /// The pod that it was made for.
    Pod,
    /// The secret that it was made for.
    Secret,
    /// The node that it was made for.
    Node,
}

impl BoundKind {
    /// The plural of the resource; all are in the core group.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccounts",
            Self::Pod => "pods",
            Self::Secret => "secrets",
            Self::Node => "nodes",
        }
    }
}

/// An object that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its `metadata.deletionTimestamp`.
    pub deleted: Option<Timestamp>,
}

/// The seam to the objects. Nodes have no namespace (empty).
pub trait LiveLookup: Send + Sync {
    /// Whether an object exists.
    fn live(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<Live>;
    /// The object.
    fn object(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<Value>;
}

impl LiveLookup for Cache {
    fn live(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<Live> {
        let object = self.kind("", kind.plural()).get(namespace, name)?;
        let mut deleted = None;
        if object.deleting {
            let metadata: Value = serde_json::from_slice(object.metadata_json()).ok()?;
            // A time that cannot be read counts as long ago.
            let parsed = metadata["deletionTimestamp"]
                .as_str()
                .and_then(|text| text.parse().ok());
            deleted = Some(parsed.unwrap_or(Timestamp::UNIX_EPOCH));
        }
        Some(Live {
            uid: object.uid.to_string(),
            deleted,
        })
    }

    fn object(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<Value> {
        Some(self.kind("", kind.plural()).get(namespace, name)?.value())
    }
}
