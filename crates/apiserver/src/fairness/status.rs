//! Says on every FlowSchema whether the priority level that it names exists.

use std::sync::Arc;

use api::resource;
use serde_json::{Value, json};

use super::GROUP;
use crate::cache::KindCache;
use crate::pipeline::{Call, meta as system, update};
use crate::state::State;

const KIND: &str = "Dangling";

/// Says it where it is not said, or no longer true.
pub(crate) async fn refresh(state: &Arc<State>) {
    let [schemas, levels] = kinds(state);
    for schema in schemas.list(None) {
        let object = schema.value();
        let level = object["spec"]["priorityLevelConfiguration"]["name"].as_str();
        let level = level.unwrap_or_default();
        let wanted = condition(level, levels.get("", level).is_some());
        if !is_said(&object, &wanted)
            && let Err(error) = say(state, schema.name(), &wanted).await
        {
            tracing::warn!(schema = schema.name(), "its status: {error}");
        }
    }
}

fn kinds(state: &State) -> [Arc<KindCache>; 2] {
    ["flowschemas", "prioritylevelconfigurations"].map(|plural| state.cache.kind(GROUP, plural))
}

/// Runs until the drain.
pub(crate) async fn run(state: Arc<State>) {
    let [mut schemas, mut levels] = kinds(&state).map(|kind| kind.subscribe());
    loop {
        refresh(&state).await;
        tokio::select! {
            () = state.drain.cancelled() => return,
            changed = schemas.changed() => if changed.is_err() { return },
            changed = levels.changed() => if changed.is_err() { return },
        }
    }
}

fn condition(level: &str, exists: bool) -> Value {
    let (status, reason, words) = if exists {
        ("False", "Found", "it exists")
    } else {
        ("True", "NotFound", "there is no such object")
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and {words}"
    );
    json!({"type": KIND, "status": status, "reason": reason, "message": message})
}

fn of(object: &Value) -> Option<&Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == KIND)
}

fn is_said(object: &Value, wanted: &Value) -> bool {
    of(object).is_some_and(|said| {
        ["status", "reason", "message"]
            .iter()
            .all(|field| said[*field] == wanted[*field])
    })
}

async fn say(state: &Arc<State>, name: &str, wanted: &Value) -> Result<(), api::status::ApiError> {
    let schemas = resource::find(GROUP, "v1", "flowschemas");
    let schemas = schemas.ok_or_else(api::status::ApiError::no_such_path)?;
    let mut call = Call::internal(state, schemas, "", name);
    call.subresource = "status".to_owned();
    let said = |old: &Value| {
        let mut new = old.clone();
        let mut wanted = wanted.clone();
        let since = of(old).filter(|said| said["status"] == wanted["status"]);
        let since = since.map(|said| said["lastTransitionTime"].clone());
        wanted["lastTransitionTime"] = since.unwrap_or_else(|| json!(system::now()));
        let conditions = old.pointer("/status/conditions").and_then(Value::as_array);
        let mut conditions = conditions.cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != KIND);
        conditions.push(wanted);
        new["status"] = json!({"conditions": conditions});
        Ok(new)
    };
    match update::change(&call, said).await {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}
