//! `field.Error`: a path, what is wrong with it, and upstream's words for that.

use std::fmt;

use serde_json::{Value, json};

/// What is wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldErrorKind {
    /// A value that refers to something that is not there.
    NotFound(Value),
    /// A required value is not there.
    Required,
    /// A value that must be unique occurs twice.
    Duplicate(Value),
    /// A value that is malformed.
    Invalid(Value),
    /// A malformed value that is shown as this text; an empty one shows nothing.
    InvalidAs(String),
    /// A value that is none of the allowed ones.
    NotSupported(Value, Vec<String>),
    /// A value that is not allowed here.
    Forbidden,
    /// A value that is longer than this many bytes.
    TooLong(usize),
    /// A list of more items than allowed: found, allowed.
    TooMany(usize, usize),
    /// A value of the wrong type.
    TypeInvalid(Value),
    /// Something went wrong on our side.
    Internal,
}

/// An error of one field; renders as upstream's `field.Error` does.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Path, for example `spec.containers[0].name`.
    pub path: String,
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// More words; may be empty.
    pub detail: String,
}

impl FieldError {
    /// `path: Required value: detail`.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::Required,
            detail: detail.into(),
        }
    }

    /// `path: Invalid value: "value": detail`.
    pub fn invalid(
        path: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::Invalid(value.into()),
            detail: detail.into(),
        }
    }

    /// `path: Forbidden: detail`.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::Forbidden,
            detail: detail.into(),
        }
    }

    /// `path: Duplicate value: "value"`.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::Duplicate(value.into()),
            detail: String::new(),
        }
    }

    /// `path: Not found: "value"`.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::NotFound(value.into()),
            detail: String::new(),
        }
    }

    /// `path: Unsupported value: "value": supported values: "A", "B"`.
    pub fn not_supported(
        path: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> Self {
        let supported = supported.iter().map(|s| (*s).to_owned()).collect();
        Self {
            path: path.into(),
            kind: FieldErrorKind::NotSupported(value.into(), supported),
            detail: String::new(),
        }
    }

    /// `path: Too long: may not be more than N bytes`.
    pub fn too_long(path: impl Into<String>, limit_bytes: usize) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::TooLong(limit_bytes),
            detail: String::new(),
        }
    }

    /// `path: Too many: N: must have at most M items`.
    pub fn too_many(path: impl Into<String>, found: usize, limit: usize) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::TooMany(found, limit),
            detail: String::new(),
        }
    }

    /// The `reason` of a Status cause.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            FieldErrorKind::NotFound(_) => "FieldValueNotFound",
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Duplicate(_) => "FieldValueDuplicate",
            FieldErrorKind::Invalid(_) | FieldErrorKind::InvalidAs(_) => "FieldValueInvalid",
            FieldErrorKind::NotSupported(..) => "FieldValueNotSupported",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong(_) => "FieldValueTooLong",
            FieldErrorKind::TooMany(..) => "FieldValueTooMany",
            FieldErrorKind::TypeInvalid(_) => "FieldValueTypeInvalid",
            FieldErrorKind::Internal => "InternalError",
        }
    }

    /// The error without its path: `Invalid value: "x": detail`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut text = match &self.kind {
            FieldErrorKind::NotFound(v) => format!("Not found: {}", Shown(v)),
            FieldErrorKind::Required => "Required value".to_owned(),
            FieldErrorKind::Duplicate(v) => format!("Duplicate value: {}", Shown(v)),
            FieldErrorKind::Invalid(v) => format!("Invalid value: {}", Shown(v)),
            FieldErrorKind::InvalidAs(text) if text.is_empty() => "Invalid value".to_owned(),
            FieldErrorKind::InvalidAs(text) => format!("Invalid value: {text}"),
            FieldErrorKind::NotSupported(v, supported) => {
                let mut text = format!("Unsupported value: {}", Shown(v));
                if !supported.is_empty() {
                    let quoted: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
                    text.push_str(": supported values: ");
                    text.push_str(&quoted.join(", "));
                }
                text
            }
            FieldErrorKind::Forbidden => "Forbidden".to_owned(),
            FieldErrorKind::TooLong(limit) => {
                format!("Too long: may not be more than {limit} bytes")
            }
            FieldErrorKind::TooMany(found, limit) => {
                let items = if *limit == 1 { "item" } else { "items" };
                format!("Too many: {found}: must have at most {limit} {items}")
            }
            FieldErrorKind::TypeInvalid(v) => format!("Invalid value: {}", Shown(v)),
            FieldErrorKind::Internal => "Internal error".to_owned(),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// A cause of a Status.
    #[must_use]
    pub fn to_cause(&self) -> Value {
        json!({"reason": self.reason(), "message": self.body(), "field": self.path})
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A value as upstream prints it: strings in quotes, objects as JSON.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(s) => write!(f, "{s:?}"),
            other => write!(f, "{other}"),
        }
    }
}
