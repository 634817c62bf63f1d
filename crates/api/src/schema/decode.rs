//! Decoding: unknown fields are found and pruned, types are checked, values brought to their one form.
//!
//! `null` means absent, as it does to upstream's decoder; quantities and times become canonical.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::MAX_DEPTH;
use crate::quantity::{Quantity, QuantityError};
use crate::resource::Resource;
use crate::schema::{Schema, Shape, Type, TypeRef};

/// No more problems than this are told of one document, as upstream does.
pub(crate) const MAX_PROBLEMS: usize = 100;

/// Something that a strict decoder refuses and a lenient one warns of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A field that the type does not have; the path is upstream's (`spec.containers[0].foo`).
    Unknown(String),
    /// A field that the document holds twice.
    Duplicate(String),
    /// A key that a map in YAML holds twice, and the line of the second.
    Repeated {
        /// The key.
        key: String,
        /// Its line, from 1.
        line: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(path) => write!(f, "unknown field {path:?}"),
            Self::Duplicate(path) => write!(f, "duplicate field {path:?}"),
            // The words of the YAML library that upstream reads with.
            Self::Repeated { key, line } => write!(
                f,
                "yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map"
            ),
        }
    }
}

/// `strict decoding error: unknown field "a", duplicate field "b"`.
#[must_use]
pub fn strict_error(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("strict decoding error: {}", texts.join(", "))
}

/// What a client reads whose body does not decode:
/// `Pod in version "v1" cannot be handled as a Pod: why`.
#[must_use]
pub fn cannot_be_handled(
    kind: &str,
    version: &str,
    wanted: &str,
    why: impl fmt::Display,
) -> String {
    format!("{kind} in version {version:?} cannot be handled as a {wanted}: {why}")
}

/// Why an object cannot be decoded at all; the words are upstream's decoder's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A value of the wrong type.
    #[error("json: cannot unmarshal {found} into Go struct field {field} of type {wanted}")]
    Type {
        /// `DeploymentSpec.spec.replicas`.
        field: String,
        /// What was found: `string`, `number 1.5`, ...
        found: String,
        /// Go type that was wanted.
        wanted: String,
    },
    /// The document itself is no object.
    #[error("json: cannot unmarshal {found} into Go value of type {wanted}")]
    Document {
        /// What was found.
        found: String,
        /// Go type that was wanted.
        wanted: String,
    },
    /// A string that is no quantity.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    /// A string that is no RFC 3339 time.
    #[error("parsing time {0:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0:?} as \"2006\"")]
    Time(String),
    /// A string that is no base64.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("exceeded max depth")]
    TooDeep,
}

/// Checks `value` against the type of `res`, prunes what the type does not know and says so.
///
/// # Errors
/// When a value has the wrong type.
pub fn decode(res: &Resource, value: &mut Value) -> Result<Vec<Problem>, DecodeError> {
    decode_schema(&res.schema, value)
}

/// As [`decode`], for an object of a schema.
///
/// # Errors
/// When a value has the wrong type.
pub fn decode_schema(schema: &Schema, value: &mut Value) -> Result<Vec<Problem>, DecodeError> {
    match schema {
        Schema::Table(ty) => decode_type(*ty, value),
        Schema::Custom(custom) => custom.decode(value),
    }
}

/// As [`decode`], for a body that is no resource of its own (`Scale`, `DeleteOptions`, ...).
///
/// # Errors
/// When a value has the wrong type.
pub fn decode_type(ty: TypeRef, value: &mut Value) -> Result<Vec<Problem>, DecodeError> {
    let mut decoder = Decoder {
        path: String::new(),
        problems: Vec::new(),
        owner: "",
    };
    let ty = ty.get();
    match value {
        Value::Object(map) => decoder.object(ty, map, 0)?,
        other => {
            return Err(DecodeError::Document {
                found: found(other),
                wanted: go_name(ty),
            });
        }
    }
    Ok(decoder.problems)
}

struct Decoder {
    path: String,
    problems: Vec<Problem>,
    /// Name of the struct that holds the current field.
    owner: &'static str,
}

impl Decoder {
    fn object(
        &mut self,
        ty: &'static Type,
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let length = self.path.len();
        let mut dropped = Vec::new();
        for (name, value) in map.iter_mut() {
            self.owner = ty.short_name();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            match ty.field(name) {
                None => {
                    if self.problems.len() < MAX_PROBLEMS {
                        self.problems.push(Problem::Unknown(self.path.clone()));
                    }
                    dropped.push(name.clone());
                }
                Some(_) if value.is_null() => dropped.push(name.clone()),
                Some(field) => self.value(&field.shape, value, depth + 1)?,
            }
            self.path.truncate(length);
        }
        for name in dropped {
            map.remove(&name);
        }
        Ok(())
    }

    fn value(&mut self, shape: &Shape, value: &mut Value, depth: usize) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match (shape, &mut *value) {
            (Shape::Object(ty), Value::Object(map)) => self.object(ty.get(), map, depth),
            (Shape::List(item), Value::Array(items)) => {
                let (length, owner) = (self.path.len(), self.owner);
                for (index, item_value) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    self.item(item, item_value, depth + 1)?;
                    self.path.truncate(length);
                    self.owner = owner;
                }
                Ok(())
            }
            (Shape::Map(item), Value::Object(map)) => {
                let (length, owner) = (self.path.len(), self.owner);
                for (key, item_value) in map.iter_mut() {
                    self.path.push('.');
                    self.path.push_str(key);
                    self.item(item, item_value, depth + 1)?;
                    self.path.truncate(length);
                    self.owner = owner;
                }
                Ok(())
            }
            (Shape::Any(_), any) if too_deep(any, depth) => Err(DecodeError::TooDeep),
            (Shape::Any(_), _)
            | (Shape::String, Value::String(_))
            | (Shape::Bool, Value::Bool(_)) => Ok(()),
            (Shape::Int32, Value::Number(n))
                if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
            {
                Ok(())
            }
            (Shape::Int64, Value::Number(n)) if n.is_i64() => Ok(()),
            (Shape::Double, Value::Number(_)) => Ok(()),
            (Shape::IntOrString, Value::String(_)) => Ok(()),
            (Shape::IntOrString, Value::Number(n))
                if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
            {
                Ok(())
            }
            (Shape::IntOrString, other) => Err(DecodeError::Document {
                found: found(other),
                wanted: "int32".to_owned(),
            }),
            (Shape::Quantity, Value::String(text)) => {
                let canonical = Quantity::parse(text.trim())?.to_string();
                *text = canonical;
                Ok(())
            }
            (Shape::Quantity, Value::Number(number)) => {
                *value = Quantity::parse(&number.to_string())?.to_string().into();
                Ok(())
            }
            (Shape::Quantity, _) => Err(QuantityError::Format.into()),
            (Shape::Time, Value::String(text)) => time(text, "%Y-%m-%dT%H:%M:%SZ"),
            (Shape::MicroTime, Value::String(text)) => time(text, "%Y-%m-%dT%H:%M:%S.%6fZ"),
            (Shape::Bytes, Value::String(text)) => base64(text),
            (shape, other) => Err(DecodeError::Type {
                field: format!("{}.{}", self.owner, without_indices(&self.path)),
                found: match (shape, &*other) {
                    (Shape::Int32 | Shape::Int64, Value::Number(_)) => found(other),
                    (_, Value::Number(_)) => "number".to_owned(),
                    _ => found(other),
                },
                wanted: go_type(shape),
            }),
        }
    }

    /// An item of a list or map: `null` is the zero value of its type.
    fn item(&mut self, shape: &Shape, value: &mut Value, depth: usize) -> Result<(), DecodeError> {
        if value.is_null() {
            *value = match shape {
                Shape::String | Shape::Bytes => Value::String(String::new()),
                Shape::Quantity => Value::String("0".to_owned()),
                Shape::Bool => Value::Bool(false),
                Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => 0.into(),
                Shape::List(_) => Value::Array(Vec::new()),
                Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
                Shape::Time | Shape::MicroTime | Shape::Any(_) => return Ok(()),
            };
        }
        self.value(shape, value, depth)
    }
}

fn too_deep(value: &Value, depth: usize) -> bool {
    depth > MAX_DEPTH
        || match value {
            Value::Array(items) => items.iter().any(|v| too_deep(v, depth + 1)),
            Value::Object(map) => map.values().any(|v| too_deep(v, depth + 1)),
            _ => false,
        }
}

fn time(text: &mut String, form: &str) -> Result<(), DecodeError> {
    let parsed: Timestamp = text.parse().map_err(|_| DecodeError::Time(text.clone()))?;
    *text = parsed.strftime(form).to_string();
    Ok(())
}

/// Checks standard base64 with padding; line breaks are allowed, as upstream's decoder does.
fn base64(text: &mut String) -> Result<(), DecodeError> {
    if text.contains(['\r', '\n']) {
        text.retain(|c| c != '\r' && c != '\n');
    }
    let data = text.trim_end_matches('=');
    if let Some(bad) = data
        .bytes()
        .position(|b| !(b.is_ascii_alphanumeric() || b == b'+' || b == b'/'))
    {
        return Err(DecodeError::Base64(bad));
    }
    if !text.len().is_multiple_of(4) || text.len() - data.len() > 2 {
        return Err(DecodeError::Base64(text.len()));
    }
    Ok(())
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(n) => format!("number {n}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// `v1.PodSpec`.
fn go_name(ty: &Type) -> String {
    let mut parts = ty.name.rsplit('.');
    let (name, package) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    format!("{package}.{name}")
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::String => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Double => "float64".to_owned(),
        Shape::Time => "v1.Time".to_owned(),
        Shape::MicroTime => "v1.MicroTime".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::Any(ty) | Shape::Object(ty) => go_name(ty.get()),
        Shape::List(item) => format!("[]{}", go_type(item)),
        Shape::Map(item) => format!("map[string]{}", go_type(item)),
    }
}

fn without_indices(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|c| {
            let kept = !inside && *c != '[';
            inside = (inside || *c == '[') && *c != ']';
            kept
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::resource::find;
    use serde_json::json;

    fn pod() -> &'static Resource {
        find("", "v1", "pods").unwrap()
    }

    #[test]
    fn prunes_and_says_so() {
        let mut object = json!({
            "kind": "Pod", "apiVersion": "v1", "foo": 1,
            "metadata": {"name": "a", "creationTimestamp": null, "labels": {"x": "y"}, "bar": {}},
            "spec": {"containers": [{"name": "c", "imagee": "x", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}],
                     "nodeSelector": null}
        });
        let problems = decode(pod(), &mut object).unwrap();
        assert_eq!(
            strict_error(&problems),
            r#"strict decoding error: unknown field "foo", unknown field "metadata.bar", unknown field "spec.containers[0].imagee""#
        );
        assert_eq!(
            object,
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "labels": {"x": "y"}},
                   "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}})
        );
    }

    #[test]
    fn type_errors_in_upstreams_words() {
        let cases = [
            (
                json!({"spec": {"containers": {}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                json!({"spec": {"containers": [{"env": [{"value": 1}]}]}}),
                "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
            ),
            (
                json!({"spec": {"priority": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
            ),
            (
                json!({"metadata": {"labels": {"a": true}}}),
                "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels.a of type string",
            ),
            (
                json!({"metadata": {"creationTimestamp": "yesterday"}}),
                "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
            (
                json!([]),
                "json: cannot unmarshal array into Go value of type v1.Pod",
            ),
        ];
        for (mut object, wanted) in cases {
            assert_eq!(decode(pod(), &mut object).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn values_become_canonical() {
        let mut object = json!({"metadata": {"creationTimestamp": "2024-01-01T01:00:00.5+01:00"}});
        decode(pod(), &mut object).unwrap();
        assert_eq!(
            object["metadata"]["creationTimestamp"],
            "2024-01-01T00:00:00Z"
        );
        let mut lease = json!({"spec": {"renewTime": "2024-01-01T01:00:00+01:00"}});
        decode(
            find("coordination.k8s.io", "v1", "leases").unwrap(),
            &mut lease,
        )
        .unwrap();
        assert_eq!(lease["spec"]["renewTime"], "2024-01-01T00:00:00.000000Z");
    }
}
