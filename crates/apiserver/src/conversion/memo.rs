//! Conversions that the decisions about one request need in their midst: whose fields another version
//! has, and what admission in another version is shown.
//!
//! Invariant: decisions stay synchronous functions of values. What they miss is noted, asked for, and
//! then they are taken once more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::fields::Converter;
use api::status::ApiError;
use serde_json::Value;

use super::convert_all;
use crate::pipeline::Call;

/// How often decisions are taken once more: a write that needs as much is not sound.
const ROUNDS: usize = 64;

#[derive(Debug)]
struct Known {
    object: Value,
    to: String,
    outcome: Result<Value, String>,
}

#[derive(Debug, Default)]
struct Inner {
    known: Vec<Known>,
    wanted: Vec<(Value, String)>,
    rounds: usize,
}

impl Inner {
    fn find(&self, object: &Value, to: &str) -> Option<&Result<Value, String>> {
        let mut known = self.known.iter();
        let known = known.find(|known| known.to == to && known.object == *object)?;
        Some(&known.outcome)
    }
}

/// The conversions of one request.
#[derive(Debug, Default)]
pub(crate) struct Memo(Mutex<Inner>);

impl Memo {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the conversions that were missed; whether there were any.
    ///
    /// # Errors
    /// When there is no end to it. A conversion that fails is known as that.
    pub(crate) async fn settle(&self, call: &Call) -> Result<bool, ApiError> {
        let wanted = {
            let mut inner = self.lock();
            if inner.wanted.is_empty() {
                return Ok(false);
            }
            inner.rounds += 1;
            if inner.rounds > ROUNDS {
                return Err(ApiError::internal("too many conversions for one request"));
            }
            std::mem::take(&mut inner.wanted)
        };
        let mut by_version: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (object, to) in wanted {
            by_version.entry(to).or_default().push(object);
        }
        for (to, objects) in by_version {
            let asking = convert_all(&call.state, &call.resource, objects.clone(), &to);
            let answered = Box::pin(asking).await;
            let mut inner = self.lock();
            for (at, object) in objects.into_iter().enumerate() {
                let outcome = match &answered {
                    // As many come back as went in.
                    Ok(converted) => converted.get(at).cloned().ok_or_else(String::new),
                    Err(error) => Err(error.message.clone()),
                };
                let to = to.clone();
                inner.known.push(Known {
                    object,
                    to,
                    outcome,
                });
            }
        }
        Ok(true)
    }
}

impl Converter for Memo {
    fn convert(&self, object: &Value, to: &str) -> Result<Value, String> {
        let mut inner = self.lock();
        if let Some(outcome) = inner.find(object, to) {
            return outcome.clone();
        }
        let wanted = (object.clone(), to.to_owned());
        if !inner.wanted.contains(&wanted) {
            inner.wanted.push(wanted);
        }
        Err("not converted yet".to_owned())
    }
}
