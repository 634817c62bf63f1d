//! The APIServices of what this server serves itself: one for each built-in group version, made when
//! it starts, and one for each version of a custom resource, kept as long as that is served.
//!
//! Invariant: an APIService that somebody else manages is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::meta;
use api::resource;
use api::status::ApiError;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::conditions::{self, Availability};
use super::{GROUP, PLURAL};
use crate::hooks::text;
use crate::pipeline::{Call, create, delete, meta as system, update};
use crate::state::State;

/// Says who keeps an APIService.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";
/// How many are made at the same time.
const PARALLEL: usize = 64;

/// The priorities of a group and of a version in it, by upstream's lists; larger ones come first.
fn priorities(group: &str, version: &str) -> (i64, i64) {
    let of_group = match group {
        "" => return (18_000, 1),
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" | "resource.k8s.io" => 16_200,
        "flowcontrol.apiserver.k8s.io" => 16_100,
        "internal.apiserver.k8s.io" => 16_000,
        "storagemigration.k8s.io" => 15_800,
        _ => 15_700,
    };
    let of_version = match (group, version) {
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", "v1") => 21,
        (_, "v1") => 15,
        (_, "v1beta2") => 15,
        _ => 9,
    };
    (of_group, of_version)
}

fn desired(group: &str, version: &str, managed: &str, priorities: (i64, i64)) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
        "spec": {"group": group, "version": version,
            "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1},
    })
}

fn built_in() -> Vec<Value> {
    let mut all = vec![desired("", "v1", ON_START, priorities("", "v1"))];
    for (group, versions) in api::discovery::groups(&[]) {
        // The registry of servers is no server's.
        for version in versions.into_iter().filter(|_| group != GROUP) {
            all.push(desired(
                group,
                version,
                ON_START,
                priorities(group, version),
            ));
        }
    }
    all
}

/// Those of custom resources, by name.
fn custom(state: &State) -> BTreeMap<String, Value> {
    let definitions = state
        .cache
        .kind("apiextensions.k8s.io", "customresourcedefinitions");
    let mut all = BTreeMap::new();
    for definition in definitions.list(None) {
        let definition = definition.value();
        let group = text(&definition, "/spec/group");
        let versions = definition
            .pointer("/spec/versions")
            .and_then(Value::as_array);
        for version in versions.into_iter().flatten() {
            if version.get("served").and_then(Value::as_bool) != Some(true) {
                continue;
            }
            let service = desired(group, text(version, "/name"), ALWAYS, (1000, 100));
            all.insert(meta::name(&service).to_owned(), service);
        }
    }
    all
}

/// Makes those of built-in groups.
pub(crate) async fn at_start(state: &Arc<State>) -> Result<(), ApiError> {
    let making = built_in().into_iter().map(|service| async move {
        ensure(state, &service).await?;
        let name = meta::name(&service);
        match state.cache.kind(GROUP, PLURAL).get("", name) {
            Some(there) if meta::label(&there.value(), MANAGED).is_some() => {
                say(state, name, &there.value(), &Availability::local()).await
            }
            _ => Ok(()),
        }
    });
    let making = futures::stream::iter(making).buffer_unordered(PARALLEL);
    making.try_collect::<Vec<()>>().await.map(|_| ())
}

/// Keeps those of custom resources until the drain.
pub(crate) async fn run(state: Arc<State>) {
    let definitions = state
        .cache
        .kind("apiextensions.k8s.io", "customresourcedefinitions");
    let services = state.cache.kind(GROUP, PLURAL);
    let (mut of_definitions, mut of_services) = (definitions.subscribe(), services.subscribe());
    loop {
        if let Err(error) = reconcile(&state).await {
            tracing::warn!("APIServices of custom resources: {error}");
        }
        tokio::select! {
            () = state.drain.cancelled() => return,
            changed = of_definitions.changed() => if changed.is_err() { return },
            changed = of_services.changed() => if changed.is_err() { return },
        }
    }
}

async fn reconcile(state: &Arc<State>) -> Result<(), ApiError> {
    let wanted = custom(state);
    for service in wanted.values() {
        ensure(state, service).await?;
    }
    for object in state.cache.kind(GROUP, PLURAL).list(None) {
        // No write is answered any more.
        if state.drain.is_cancelled() {
            return Ok(());
        }
        let value = object.value();
        let managed = meta::label(&value, MANAGED);
        let remote = value.pointer("/spec/service").is_some_and(Value::is_object);
        if managed == Some(ALWAYS) && !remote && !wanted.contains_key(object.name()) {
            let call = call(state, object.name())?;
            let options = delete::DeleteOptions {
                uid: Some(object.uid.to_string()),
                ..delete::DeleteOptions::default()
            };
            match delete::delete(&call, &options).await {
                Err(error) if !matches!(error.code, 404 | 409) => return Err(error),
                _ => {}
            }
        } else if !remote {
            say(state, object.name(), &value, &Availability::local()).await?;
        }
    }
    Ok(())
}

fn call(state: &Arc<State>, name: &str) -> Result<Call, ApiError> {
    let res = resource::find(GROUP, "v1", PLURAL).ok_or_else(ApiError::no_such_path)?;
    Ok(Call::internal(state, res, "", name))
}

/// Makes an APIService, or makes it what it should be where it is ours.
async fn ensure(state: &Arc<State>, wanted: &Value) -> Result<(), ApiError> {
    let name = meta::name(wanted);
    let call = call(state, name)?;
    let there = state.cache.kind(GROUP, PLURAL).get("", name);
    let Some(there) = there else {
        return match create::create(&call, wanted.clone()).await {
            Err(error) if error.reason != "AlreadyExists" => Err(error),
            _ => Ok(()),
        };
    };
    let value = there.value();
    if meta::label(&value, MANAGED).is_none() || value.get("spec") == wanted.get("spec") {
        return Ok(());
    }
    let replaced = |old: &Value| {
        let mut new = old.clone();
        new["spec"] = wanted["spec"].clone();
        Ok(new)
    };
    update::change(&call, replaced).await.map(|_| ())
}

/// Writes how available an APIService is, where it does not say so.
pub(super) async fn say(
    state: &Arc<State>,
    name: &str,
    object: &Value,
    availability: &Availability,
) -> Result<(), ApiError> {
    if conditions::says(object, availability) {
        return Ok(());
    }
    let mut call = call(state, name)?;
    call.subresource = "status".to_owned();
    let uid = meta::uid(object).to_owned();
    let said = |old: &Value| {
        if meta::uid(old) == uid {
            Ok(conditions::with(old, availability, &system::now()))
        } else {
            Ok(old.clone())
        }
    };
    match update::change(&call, said).await {
        Err(error) if !matches!(error.code, 404 | 409) => Err(error),
        _ => Ok(()),
    }
}
