//! `metav1.Status`: every error that the API answers, in upstream's words.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::resource::{Resource, qualify};
use crate::validate::FieldError;

/// What clients are told when a write meets a newer object.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// What a list is told whose continue token is older than the history.
pub const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, for example `NotFound`; may be empty.
    pub reason: Cow<'static, str>,
    /// What a user reads.
    pub message: String,
    /// Details for programs.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`, for an expired list.
    pub continue_token: Option<String>,
}

/// `StatusDetails`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// Group of the resource or kind.
    pub group: String,
    /// Plural of the resource; the kind for invalid objects (as upstream has it).
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// Causes: `{reason, message, field}`.
    pub causes: Vec<Value>,
    /// Seconds after which a client may try again.
    pub retry_after_seconds: Option<u32>,
}

impl ApiError {
    /// An error without details.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    /// A Status that somebody else made, such as a webhook, under another message and code.
    #[must_use]
    pub fn of_status(code: u16, message: impl Into<String>, status: &Value) -> Self {
        let text = |pointer: &str| {
            let text = status.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let mut error = Self::new(code, "", message);
        error.reason = Cow::Owned(text("/reason"));
        if let Some(details) = status.get("details").filter(|d| d.is_object()) {
            let causes = details.get("causes").and_then(Value::as_array);
            let retry = details.get("retryAfterSeconds").and_then(Value::as_u64);
            error.details = Some(Box::new(Details {
                name: text("/details/name"),
                group: text("/details/group"),
                kind: text("/details/kind"),
                uid: text("/details/uid"),
                causes: causes.cloned().unwrap_or_default(),
                retry_after_seconds: retry.and_then(|secs| u32::try_from(secs).ok()),
            }));
        }
        error
    }

    fn on(mut self, name: &str, group: &str, kind: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            ..Default::default()
        }));
        self
    }

    /// The details, made when there are none.
    pub fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// 404: `pods "x" not found`.
    #[must_use]
    pub fn not_found(res: &Resource, name: &str) -> Self {
        Self::not_found_named(&res.group, &res.plural, name)
    }

    /// 404 by group and plural.
    #[must_use]
    pub fn not_found_named(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualify(plural, group), quote(name));
        Self::new(404, "NotFound", message).on(name, group, plural)
    }

    /// 404 for a path that nothing serves.
    #[must_use]
    pub fn no_such_path() -> Self {
        let mut error = Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        error.details_mut();
        error
    }

    /// 409: `pods "x" already exists`.
    #[must_use]
    pub fn already_exists(res: &Resource, name: &str) -> Self {
        let message = format!("{} {} already exists", res.qualified(), quote(name));
        Self::new(409, "AlreadyExists", message).on(name, &res.group, &res.plural)
    }

    /// 409 when no unique name could be generated.
    #[must_use]
    pub fn generate_name_conflict(res: &Resource, name: &str) -> Self {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            res.qualified(),
            quote(name)
        );
        let mut error = Self::new(409, "AlreadyExists", message).on(name, &res.group, &res.plural);
        error.details_mut().retry_after_seconds = Some(1);
        error
    }

    /// 409: `Operation cannot be fulfilled on pods "x": why`; [`MODIFIED`] is the usual why.
    #[must_use]
    pub fn conflict(res: &Resource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {why}",
            res.qualified(),
            quote(name)
        );
        Self::new(409, "Conflict", message).on(name, &res.group, &res.plural)
    }

    /// 409 of server-side apply; causes carry `FieldManagerConflict`.
    #[must_use]
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Value>) -> Self {
        let mut error = Self::new(409, "Conflict", message);
        error.details_mut().causes = causes;
        error
    }

    /// 422: `Pod "x" is invalid: spec.containers: Required value`.
    #[must_use]
    pub fn invalid(res: &Resource, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_kind(&res.group, &res.kind, name, errors)
    }

    /// 422 by group and kind.
    #[must_use]
    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut seen: Vec<String> = Vec::with_capacity(errors.len());
        for error in errors {
            let text = error.to_string();
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        let subject = format!("{} {} is invalid", qualify(kind, group), quote(name));
        let message = match seen.as_slice() {
            [] => subject,
            [one] => format!("{subject}: {one}"),
            many => format!("{subject}: [{}]", many.join(", ")),
        };
        let mut error = Self::new(422, "Invalid", message).on(name, group, kind);
        error.details_mut().causes = errors.iter().map(FieldError::to_cause).collect();
        error
    }

    /// 403: `pods "x" is forbidden: why`; an empty name is left out.
    #[must_use]
    pub fn forbidden(group: &str, plural: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = match (plural, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", qualify(plural, group)),
            _ => format!(
                "{} {} is forbidden: {why}",
                qualify(plural, group),
                quote(name)
            ),
        };
        Self::new(403, "Forbidden", message).on(name, group, plural)
    }

    /// 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 405: `create is not supported on resources of kind "pods"`.
    #[must_use]
    pub fn method_not_supported(group: &str, plural: &str, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            quote(&qualify(plural, group))
        );
        Self::new(405, "MethodNotAllowed", message).on("", group, plural)
    }

    /// 405 for a verb that the path does not take at all.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let mut error = Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        error.details_mut();
        error
    }

    /// 406.
    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::new(
            406,
            "NotAcceptable",
            format!(
                "only the following media types are accepted: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413.
    #[must_use]
    pub fn too_large(message: impl fmt::Display) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {message}"),
        )
    }

    /// 410 with reason Expired: the revision (or token) is older than the history.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410 Expired of a watch or list: `too old resource version: 3 (17)`.
    #[must_use]
    pub fn too_old(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 410 with a token from which the client may go on with an inconsistent list.
    #[must_use]
    pub fn continue_expired(token: String) -> Self {
        let mut error = Self::expired(CONTINUE_EXPIRED);
        error.continue_token = Some(token);
        error
    }

    /// 410 with reason Gone.
    #[must_use]
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// 429; clients wait `retry_after_seconds`.
    #[must_use]
    pub fn too_many(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message);
        error.details_mut().retry_after_seconds = Some(retry_after_seconds);
        error
    }

    /// 504 with reason Timeout; also what a too-new resourceVersion gets.
    #[must_use]
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(504, "Timeout", format!("Timeout: {message}"));
        error.details_mut().retry_after_seconds = Some(retry_after_seconds);
        error
    }

    /// 504 for a resourceVersion that is not reached yet: `Too large resource version: 9, current: 7`.
    #[must_use]
    pub fn too_new(requested: u64, current: u64) -> Self {
        let mut error = Self::timeout(
            format!("Too large resource version: {requested}, current: {current}"),
            1,
        );
        error.details_mut().causes = vec![
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}),
        ];
        error
    }

    /// 503.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500: `Internal error occurred: why`.
    #[must_use]
    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        let mut error = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {why}"),
        );
        error.details_mut().causes = vec![json!({"message": why})];
        error
    }

    /// The `Status` object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        let mut status = Map::new();
        status.insert("kind".into(), "Status".into());
        status.insert("apiVersion".into(), "v1".into());
        status.insert("metadata".into(), Value::Object(metadata));
        status.insert("status".into(), "Failure".into());
        insert_text(&mut status, "message", &self.message);
        insert_text(&mut status, "reason", &self.reason);
        if let Some(details) = &self.details {
            status.insert("details".into(), details.to_value());
        }
        status.insert("code".into(), self.code.into());
        Value::Object(status)
    }
}

impl Details {
    /// The `details` of a Status.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut details = Map::new();
        insert_text(&mut details, "name", &self.name);
        insert_text(&mut details, "group", &self.group);
        insert_text(&mut details, "kind", &self.kind);
        insert_text(&mut details, "uid", &self.uid);
        if !self.causes.is_empty() {
            details.insert("causes".into(), self.causes.clone().into());
        }
        if let Some(seconds) = self.retry_after_seconds {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        Value::Object(details)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// The `Status` that a finished delete answers.
#[must_use]
pub fn success(res: &Resource, name: &str, uid: &str) -> Value {
    let details = Details {
        name: name.into(),
        group: (&res.group).into(),
        kind: (&res.plural).into(),
        uid: uid.into(),
        ..Default::default()
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value()})
}

fn insert_text(map: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        map.insert(key.into(), text.into());
    }
}

pub(crate) fn quote(text: &str) -> String {
    format!("{text:?}")
}
