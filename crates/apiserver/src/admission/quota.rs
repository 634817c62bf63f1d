//! ResourceQuota: what a write uses is charged to the quotas of its namespace.
//!
//! Invariants: an object and what the quotas say of it are written in one transaction, so that a
//! write that fails leaves nothing charged, and that no two writes, by whichever servers, are both
//! granted what is there once. What is given back (deletes, ended pods) is the controller's to count.
//!
//! Writes of one namespace take turns within a server, because each needs to see what the one before
//! has used; between servers the transaction decides, and the loser is tried again.

mod plan;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use api::quota::{Measure, to_value};
use api::status::ApiError;
use jiff::Timestamp;
use serde_json::Value;
use store::{Expect, Write};
use tokio::sync::{Mutex, MutexGuard};

pub use plan::LimitedResource;

use crate::cache::Object;
use crate::pipeline::write::Failed;
use crate::pipeline::{self, Call};
use crate::{codec, storage};
use plan::{Change, Refused};

/// How many namespaces' writes can be charged at once; more share a turn.
const TURNS: usize = 64;

/// Whose turn it is to be charged, by namespace.
pub(crate) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    async fn take(&self, namespace: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let turns = u64::try_from(TURNS).unwrap_or(1);
        let at = usize::try_from(hasher.finish() % turns).unwrap_or(0);
        self.0[at].lock().await
    }
}

/// Adds to a write of an object what it is charged for; the turn is to be held until the cache shows
/// the write. A dry run may drop both.
pub(crate) async fn charge<'a>(
    call: &'a Call,
    writes: &mut Vec<Write>,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<MutexGuard<'a, ()>>, Failed> {
    let Some(change) = change(call, old, new) else {
        return Ok(None);
    };
    let limited = &call.state.admission.limited_resources;
    let quotas = call.state.core("resourcequotas");
    if limited.is_empty() && !quotas.any_in(&call.namespace) {
        return Ok(None);
    }
    let turn = call.state.turns.take(&call.namespace).await;
    let charged = match charges(call, &change) {
        // Another server may have given something back a moment ago.
        Err(_) => {
            pipeline::fresh(&call.state).await?;
            charges(call, &change)
        }
        charged => charged,
    };
    writes.extend(charged.map_err(|refused| refusal(call, new, &refused))?);
    Ok(Some(turn))
}

/// What the write is to quotas; `None` when it cannot use anything.
fn change<'a>(call: &'a Call, old: Option<&'a Value>, new: &'a Value) -> Option<Change<'a>> {
    let resource = call.resource.hub();
    if !resource.namespaced {
        return None;
    }
    let change = Change {
        group: &resource.group,
        plural: &resource.plural,
        subresource: &call.subresource,
        measure: Measure::of(&resource.group, &resource.plural)?,
        old,
        new,
        now: Timestamp::now(),
    };
    change.can_use().then_some(change)
}

/// The quotas of the call's namespace with what they are charged, as writes.
fn charges(call: &Call, change: &Change<'_>) -> Result<Vec<Write>, Refused> {
    let objects: Vec<Arc<Object>> = call
        .state
        .core("resourcequotas")
        .list(Some(&call.namespace));
    let mut quotas: Vec<Value> = objects.iter().map(|object| object.value()).collect();
    let used = plan::charge(change, &quotas, &call.state.admission.limited_resources)?;
    let prefix = storage::prefix("", "resourcequotas");
    let writes = used.into_iter().map(|(at, used)| {
        let (object, quota) = (&objects[at], &mut quotas[at]);
        quota["status"]["used"] = to_value(&used);
        let key = format!("{prefix}{}", object.key);
        Write::put(key, Expect::At(object.revision), codec::encode(quota))
    });
    Ok(writes.collect())
}

fn refusal(call: &Call, new: &Value, refused: &Refused) -> ApiError {
    let resource = &*call.resource;
    let name = api::meta::name(new);
    ApiError::forbidden(&resource.group, &resource.plural, name, refused)
}
