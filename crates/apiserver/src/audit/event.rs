//! The audit event of `audit.k8s.io/v1`: who asked for what, and what came of it.
//!
//! Invariant: an event holds no more of a body than the level of its rule asks for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::auth::user::User;

/// How much of a request is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, when, what, and the outcome; no bodies.
    Metadata,
    /// The request's object too.
    Request,
    /// The answer's object too.
    RequestResponse,
}

impl Level {
    /// Its name in policies and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in the life of a request an event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// The head of a long answer was sent, its body is to come.
    ResponseStarted,
    /// All of the answer was sent.
    ResponseComplete,
    /// The server failed in the middle.
    Panic,
}

impl Stage {
    /// Its name in policies and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// A user as events show them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EventUser {
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The unique id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for EventUser {
    fn from(user: &User) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// The object that a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Plural name of the kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace, empty at cluster scope.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name, empty for collections.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// UID, if the request's object told it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// API group, empty for core.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// API version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Revision, if the request's object told it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// One event. Cheap to copy where bodies are large: they are shared.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `Event`.
    pub kind: &'static str,
    /// `audit.k8s.io/v1`.
    pub api_version: &'static str,
    /// The level of the rule that matched.
    pub level: Level,
    /// One for all events of a request.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// When in the request's life.
    pub stage: Stage,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// What was asked for.
    pub verb: String,
    /// Who has shown credentials.
    pub user: EventUser,
    /// As whom they acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<EventUser>,
    /// Where the request came from; all but the last can be made up.
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// What the client calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// What it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
    /// What came of it: code, and of a failure the rest of the `Status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    /// The request's object or patch, from level Request on.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    pub request_object: Option<Arc<Value>>,
    /// The answer's object, at level RequestResponse.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    pub response_object: Option<Arc<Value>>,
    /// When the request came.
    #[serde(serialize_with = "micros")]
    pub request_received_timestamp: Timestamp,
    /// When this stage was.
    #[serde(serialize_with = "micros")]
    pub stage_timestamp: Timestamp,
    /// What authorization and admission had to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn micros<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
}

fn shared<S: Serializer>(object: &Option<Arc<Value>>, serializer: S) -> Result<S::Ok, S::Error> {
    object.as_deref().serialize(serializer)
}

impl Event {
    /// The event as one line of JSON, without the end of the line. Where it is larger than the limit
    /// its objects are left out, and that is noted.
    pub fn to_json(&self, limit_bytes: Option<usize>) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        let has_objects = self.request_object.is_some() || self.response_object.is_some();
        if limit_bytes.is_none_or(|limit| text.len() <= limit) || !has_objects {
            return Ok(text);
        }
        let mut short = self.clone();
        (short.request_object, short.response_object) = (None, None);
        let note = ("audit.k8s.io/truncated".to_owned(), "true".to_owned());
        short.annotations.extend([note]);
        serde_json::to_string(&short)
    }

    /// The event as a line of the old text format.
    pub fn to_legacy(&self) -> String {
        let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
        let groups = |groups: &[String]| {
            let quoted: Vec<String> = groups.iter().map(|group| format!("{group:?}")).collect();
            quoted.join(",")
        };
        let namespace = self.object_ref.as_ref().map_or("", |o| &o.namespace);
        let code = self.response_status.as_ref().map(|s| s["code"].to_string());
        let (as_user, as_groups) = match &self.impersonated_user {
            None => ("<self>".to_owned(), "<lookup>".to_owned()),
            Some(user) => (user.username.clone(), groups(&user.groups)),
        };
        let mut line = format!("{} AUDIT: ", self.request_received_timestamp);
        let fields = [
            ("id", self.audit_id.clone()),
            ("stage", self.stage.name().to_owned()),
            (
                "ip",
                or(self.source_ips.first().map_or("", |ip| ip), "<unknown>"),
            ),
            ("method", self.verb.clone()),
            ("user", or(&self.user.username, "<none>")),
            ("groups", or(&groups(&self.user.groups), "<none>")),
            ("as", as_user),
            ("asgroups", as_groups),
            ("user-agent", self.user_agent.clone()),
            ("namespace", or(namespace, "<none>")),
            ("uri", self.request_uri.clone()),
        ];
        for (name, value) in fields {
            // Writing to a string does not fail.
            let _ = write!(line, "{name}={value:?} ");
        }
        let response = code.unwrap_or_else(|| "<deferred>".to_owned());
        line + &format!("response=\"{response}\"")
    }
}
