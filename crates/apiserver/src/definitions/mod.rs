//! Custom resources: what definitions add to the served resources, and the definitions' own life.
//!
//! Invariant: everything follows from the objects in the cache, so that servers on one store agree;
//! what they write is the same, and is written by compare-and-swap.

mod names;
mod serve;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use api::meta;
use api::resource::{self, Resource};
use api::status::ApiError;
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::cache::Object;
use crate::pipeline::{Call, delete, meta as system, update};
use crate::resources::Served;
use crate::state::State;

/// The API group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// Their plural.
pub(crate) const PLURAL: &str = "customresourcedefinitions";
/// Keeps a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How many objects of a definition are deleted at the same time.
const PARALLEL: usize = 16;

/// A condition of a definition.
pub(crate) fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    let all = definition.pointer("/status/conditions")?.as_array()?;
    all.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition of a definition is true.
pub(crate) fn is_true(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Sets a condition; its time changes with its status only.
pub(crate) fn set_condition(
    definition: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) {
    let before = condition(definition, kind).filter(|old| old["status"] == status);
    let time = before.map_or_else(
        || system::now().into(),
        |old| old["lastTransitionTime"].clone(),
    );
    let new = json!({"type": kind, "status": status, "lastTransitionTime": time,
        "reason": reason, "message": message});
    if !definition["status"]["conditions"].is_array() {
        definition["status"]["conditions"] = json!([]);
    }
    if let Some(all) = definition["status"]["conditions"].as_array_mut() {
        match all.iter_mut().find(|old| old["type"] == kind) {
            Some(old) => *old = new,
            None => all.push(new),
        }
    }
}

pub(crate) use serve::deprecation;

/// Lets the registry follow the cache; before the cache follows the store.
pub(crate) fn set_up(state: &Arc<State>) {
    let kind = state.cache.kind(GROUP, PLURAL);
    let follow = |state: &State, definition: &Object| {
        let before = state.resources.served(definition.name());
        if let Some(served) = serve::served(&definition.value(), before.as_deref()) {
            state.resources.set(definition.name(), served);
        }
    };
    for object in kind.list(None) {
        follow(state, &object);
    }
    let weak = Arc::downgrade(state);
    kind.observe(Box::new(move |before, after| {
        let Some(state) = weak.upgrade() else { return };
        match (before, after) {
            (_, Some(after)) => follow(&state, after),
            (Some(before), None) => state.resources.set(before.name(), Served::default()),
            (None, None) => {}
        }
    }));
}

/// Keeps the status of definitions, and empties those that are deleted, until the drain.
pub(crate) async fn run(state: Arc<State>) {
    let Some(resource) = resource::find(GROUP, "v1", PLURAL) else {
        return;
    };
    let kind = state.cache.kind(GROUP, PLURAL);
    let mut changed = kind.subscribe();
    let ending: Arc<Mutex<HashSet<String>>> = Arc::default();
    let mut retry = stdx::Backoff::new(
        std::time::Duration::from_millis(50),
        std::time::Duration::from_secs(5),
    );
    loop {
        changed.borrow_and_update();
        let mut failed = false;
        for object in kind.list(None) {
            let name = object.name().to_owned();
            if object.deleting {
                let lock = || ending.lock().unwrap_or_else(PoisonError::into_inner);
                if lock().insert(name.clone()) {
                    let (state, ending) = (state.clone(), ending.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = state.drain.cancelled() => {}
                            () = end(&state, resource, &name) => {}
                        }
                        ending
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .remove(&name);
                    });
                }
                continue;
            }
            if names::plan(&state, &object.value()).is_some()
                && let Err(error) = settle(&state, resource, &name).await
            {
                tracing::warn!(name, "the status of a definition: {error}");
                failed = true;
            }
        }
        let pause = async {
            match failed {
                true => tokio::time::sleep(retry.next()).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = state.drain.cancelled() => return,
            more = changed.changed() => if more.is_err() { return },
            () = pause => {}
        }
    }
}

fn status_call(state: &Arc<State>, resource: &'static Resource, name: &str) -> Call {
    let mut call = Call::internal(state, resource, "", name);
    call.subresource = "status".to_owned();
    call
}

async fn settle(
    state: &Arc<State>,
    resource: &'static Resource,
    name: &str,
) -> Result<(), ApiError> {
    let call = status_call(state, resource, name);
    let planned = |old: &Value| Ok(names::plan(state, old).unwrap_or_else(|| old.clone()));
    match update::change(&call, planned).await {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

/// Deletes the objects of a definition, waits until they are gone, and lets it go.
async fn end(state: &Arc<State>, resource: &'static Resource, name: &str) {
    let mut retry = stdx::Backoff::new(
        std::time::Duration::from_millis(50),
        std::time::Duration::from_secs(5),
    );
    while let Some(object) = state.cache.kind(GROUP, PLURAL).get("", name) {
        let definition = object.value();
        if !meta::finalizers(&definition).any(|finalizer| finalizer == FINALIZER) {
            return;
        }
        match empty(state, resource, name, &definition).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(name, "ending a definition: {error}");
                tokio::time::sleep(retry.next()).await;
            }
        }
    }
}

async fn say(
    state: &Arc<State>,
    resource: &'static Resource,
    name: &str,
    (status, reason, message): (&str, &str, &str),
) -> Result<(), ApiError> {
    let call = status_call(state, resource, name);
    let said = |old: &Value| {
        let mut new = old.clone();
        set_condition(&mut new, "Terminating", status, reason, message);
        Ok(new)
    };
    update::change(&call, said).await.map(|_| ())
}

async fn empty(
    state: &Arc<State>,
    resource: &'static Resource,
    name: &str,
    definition: &Value,
) -> Result<(), ApiError> {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
    let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
    let (group, plural) = (group.unwrap_or_default(), plural.unwrap_or_default());
    let versions = serve::all(definition);
    if !versions.is_empty() {
        let progress = "CustomResource deletion is in progress";
        say(
            state,
            resource,
            name,
            ("True", "InstanceDeletionInProgress", progress),
        )
        .await?;
        let kind = state.cache.kind(group, plural);
        let mut changed = kind.subscribe();
        let pending: Vec<_> = kind.list(None);
        let deletes: Vec<_> = pending
            .into_iter()
            .filter(|object| !object.deleting)
            .filter_map(|object| {
                // In the version that it is stored in, so that no webhook has to be there.
                let own = versions.iter().find(|v| object.is_in(&v.api_version));
                let version = own.or(versions.first())?;
                let call = Call::internal(state, version, object.namespace(), object.name());
                Some(async move {
                    let options = delete::DeleteOptions::default();
                    match delete::delete(&call, &options).await {
                        Err(error) if error.code != 404 => Err(error),
                        _ => Ok(()),
                    }
                })
            })
            .collect();
        let mut running = futures::stream::iter(deletes).buffer_unordered(PARALLEL);
        while let Some(done) = running.next().await {
            done?;
        }
        while !kind.is_empty() {
            if changed.changed().await.is_err() {
                return Ok(());
            }
        }
    }
    say(
        state,
        resource,
        name,
        (
            "False",
            "InstanceDeletionCompleted",
            "removed all instances",
        ),
    )
    .await?;
    let call = Call::internal(state, resource, "", name);
    let freed = |old: &Value| {
        let mut new = old.clone();
        let left: Vec<&str> = meta::finalizers(old).filter(|f| *f != FINALIZER).collect();
        meta::set(&mut new, "finalizers", left);
        Ok(new)
    };
    update::change(&call, freed).await.map(|_| ())
}
