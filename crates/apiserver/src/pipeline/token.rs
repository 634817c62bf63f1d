//! Continue tokens: where a list goes on, and at which revision.

use api::status::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The version of the token.
const VERSION: &str = "meta.k8s.io/v1";

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: i64,
    start: String,
}

/// A position in a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of the list; `None` when the rest may be of any.
    pub(crate) revision: Option<u64>,
    /// The key (`namespace/name`) after which it goes on.
    pub(crate) after: String,
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        let wire = Wire {
            version: VERSION.to_owned(),
            revision: self.revision.map_or(-1, |r| i64::try_from(r).unwrap_or(-1)),
            start: format!("{}\0", self.after),
        };
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    }

    pub(crate) fn decode(text: &str) -> Result<Self, ApiError> {
        let invalid =
            |why: &str| ApiError::bad_request(format!("continue key is not valid: {why}"));
        let json = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|error| invalid(&error.to_string()))?;
        let wire: Wire =
            serde_json::from_slice(&json).map_err(|error| invalid(&error.to_string()))?;
        if wire.version != VERSION {
            return Err(invalid("server does not recognize this encoded version"));
        }
        if wire.start.is_empty() || wire.revision == 0 {
            return Err(invalid("encoded start key and version must be set"));
        }
        let after = wire
            .start
            .strip_suffix('\0')
            .unwrap_or(&wire.start)
            .to_owned();
        Ok(Self {
            revision: u64::try_from(wire.revision).ok(),
            after,
        })
    }
}
