//! Values as JSON, for what expressions make to be stored.

use serde_json::{Map as JsonMap, Value as Json};

use crate::error::EvalError;
use crate::functions::convert::shown;
use crate::value::{Object, Value};

impl Value<'_> {
    /// The JSON that it stands for.
    ///
    /// # Errors
    /// It is of a kind that JSON has not, or too deep.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        self.json_within(0)
    }

    fn json_within(&self, depth: usize) -> Result<Json, EvalError> {
        if depth > api::MAX_DEPTH {
            return Err(EvalError::failed("the value is nested too deeply"));
        }
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Uint(value) => (*value).into(),
            Self::Double(value) => serde_json::Number::from_f64(*value)
                .map(Json::Number)
                .ok_or_else(|| EvalError::failed("the number has no JSON"))?,
            Self::String(text) => Json::String((**text).to_owned()),
            Self::Bytes(bytes) => {
                use base64::Engine as _;
                Json::String(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Duration(_) | Self::Timestamp(_) => Json::String(shown(self)),
            Self::List(list) => Json::Array(
                list.iter()
                    .map(|item| item?.json_within(depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Map(map) => {
                let mut object = JsonMap::new();
                for entry in map.iter() {
                    let (key, value) = entry?;
                    object.insert(shown(&key), value.json_within(depth + 1)?);
                }
                Json::Object(object)
            }
            Self::Object(Object::Json { data, .. }) => Json::Object((*data).clone()),
            Self::Object(Object::Built(built)) => {
                let mut object = JsonMap::new();
                for (name, value) in &built.fields {
                    object.insert(name.clone(), value.json_within(depth + 1)?);
                }
                Json::Object(object)
            }
            Self::Optional(Some(value)) => value.json_within(depth + 1)?,
            other => {
                let message = format!("a value of type {} has no JSON", other.ty());
                return Err(EvalError::failed(message));
            }
        })
    }
}
