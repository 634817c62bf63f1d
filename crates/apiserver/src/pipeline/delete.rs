//! DELETE of an object: at once, after a grace period, or after its finalizers.

use std::sync::Arc;

use api::meta;
use api::resource::Resource;
use api::status::{self, ApiError};
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::Expect;

use super::update::{ATTEMPTS, current};
use super::write::{self, Failed};
use super::{Call, claims, meta as system, stages};
use crate::admission::chain;
use crate::cache::Object;
use crate::conversion;
use crate::hooks;
use crate::http::Body;
use crate::negotiate::body_syntax;
use crate::query::{Query, dry_run};

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_secs: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

/// What happens to the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They stay.
    Orphan,
    /// They are collected afterwards.
    Background,
    /// They go first.
    Foreground,
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

impl DeleteOptions {
    /// Reads the options from the body, else from the query.
    pub(crate) fn parse(call: &Call, body: &Bytes) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Self::from_query(&call.query);
        }
        let value = stages::parse(body_syntax(&call.headers)?, body)?;
        let kind = value
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or("DeleteOptions");
        if kind != "DeleteOptions" {
            return Err(ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type DeleteOptions): {kind}"
            )));
        }
        Self::from_value(&value)
    }

    pub(crate) fn from_value(value: &Value) -> Result<Self, ApiError> {
        let runs = value
            .get("dryRun")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let text = |path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Ok(Self {
            grace_period_secs: value.get("gracePeriodSeconds").and_then(Value::as_i64),
            propagation: propagation(
                value.get("propagationPolicy").and_then(Value::as_str),
                value.get("orphanDependents").and_then(Value::as_bool),
            )?,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: dry_run(runs.filter_map(Value::as_str))?,
        })
    }

    /// The options as admission is shown them.
    fn to_value(&self) -> Value {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(secs) = self.grace_period_secs {
            value["gracePeriodSeconds"] = secs.into();
        }
        if let Some(propagation) = self.propagation {
            value["propagationPolicy"] = match propagation {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            }
            .into();
        }
        if let Some(uid) = &self.uid {
            value["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(revision) = &self.resource_version {
            value["preconditions"]["resourceVersion"] = revision.as_str().into();
        }
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        value
    }

    fn from_query(query: &Query) -> Result<Self, ApiError> {
        let orphan = query
            .text("orphanDependents")
            .map(|_| query.flag("orphanDependents"));
        Ok(Self {
            grace_period_secs: query.int("gracePeriodSeconds")?,
            propagation: propagation(query.text("propagationPolicy"), orphan)?,
            uid: None,
            resource_version: None,
            dry_run: query.dry_run()?,
        })
    }
}

fn propagation(
    policy: Option<&str>,
    orphan: Option<bool>,
) -> Result<Option<Propagation>, ApiError> {
    let invalid = |error| ApiError::invalid_kind("meta.k8s.io", "DeleteOptions", "", &[error]);
    match (policy.filter(|p| !p.is_empty()), orphan) {
        (Some(policy), Some(_)) => Err(invalid(api::validate::FieldError::invalid(
            "propagationPolicy",
            policy,
            "orphanDependents and deletionPropagation cannot be both set",
        ))),
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some(other), None) => Err(invalid(api::validate::FieldError::not_supported(
            "propagationPolicy",
            other,
            &["Foreground", "Background", "Orphan"],
        ))),
        (None, None) => Ok(None),
    }
}

/// What a delete does to an object.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    /// It goes now.
    Remove,
    /// It stays, marked as being deleted.
    Mark(Box<Value>),
    /// It is being deleted already, and this request changes nothing.
    Nothing,
}

/// What a deleted object's outcome was.
pub(crate) struct Deleted {
    /// Its last state.
    pub(crate) object: Arc<Object>,
    /// Whether it is gone.
    pub(crate) gone: bool,
}

/// Plans a delete. `grace` is the period that the kind grants, `None` for kinds without.
pub(crate) fn plan(
    object: &Value,
    options: &DeleteOptions,
    grace: Option<i64>,
    may_vanish: bool,
    now: Timestamp,
) -> Plan {
    let mut new = object.clone();
    let mut grace_left = false;
    if let Some(grace) = grace {
        match (
            meta::deletion_timestamp(object),
            meta::deletion_grace_period_seconds(object),
        ) {
            (Some(_), None | Some(0)) => {}
            (Some(at), Some(granted)) => match options.grace_period_secs {
                Some(asked) if asked.max(0) < granted => {
                    let asked = asked.max(0);
                    let at: Timestamp = at.parse().unwrap_or(now);
                    meta::set(
                        &mut new,
                        "deletionTimestamp",
                        system::later(at, asked - granted),
                    );
                    meta::set(&mut new, "deletionGracePeriodSeconds", asked);
                    grace_left = asked > 0;
                }
                _ => return Plan::Nothing,
            },
            (None, _) => {
                meta::set(&mut new, "deletionTimestamp", system::later(now, grace));
                meta::set(&mut new, "deletionGracePeriodSeconds", grace);
                bump_generation(&mut new);
                grace_left = grace > 0;
            }
        }
    }
    let finalizers = finalizers(object, options.propagation);
    let stays = grace_left || !finalizers.is_empty() || !may_vanish;
    if !stays {
        return Plan::Remove;
    }
    if finalizers.is_empty() {
        meta::remove(&mut new, "finalizers");
    } else {
        meta::set(&mut new, "finalizers", finalizers);
    }
    if meta::deletion_timestamp(&new).is_none() {
        meta::set(&mut new, "deletionTimestamp", system::later(now, 0));
        bump_generation(&mut new);
    }
    if meta::deletion_grace_period_seconds(&new).is_none() {
        meta::set(&mut new, "deletionGracePeriodSeconds", 0);
    }
    if &new == object {
        Plan::Nothing
    } else {
        Plan::Mark(Box::new(new))
    }
}

fn bump_generation(object: &mut Value) {
    let generation = meta::generation(object);
    if generation > 0 {
        meta::set(object, "generation", generation + 1);
    }
}

fn finalizers(object: &Value, propagation: Option<Propagation>) -> Vec<String> {
    let all: Vec<&str> = meta::finalizers(object).collect();
    let (orphan, foreground) = match propagation {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        None => (all.contains(&ORPHAN), all.contains(&FOREGROUND)),
    };
    let others = all.into_iter().filter(|f| *f != ORPHAN && *f != FOREGROUND);
    let mut finalizers: Vec<String> = others.map(str::to_owned).collect();
    if orphan {
        finalizers.push(ORPHAN.to_owned());
    }
    if foreground {
        finalizers.push(FOREGROUND.to_owned());
    }
    finalizers
}

/// Serves the request.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let form = call.form()?;
    let options = DeleteOptions::parse(call, body)?;
    let deleted = delete(call, &options).await?;
    if !deleted.gone || hooks::of(&call.resource).returns_deleted() {
        return call.respond(&form, StatusCode::OK, deleted.object).await;
    }
    let status = status::success(&call.resource, &call.name, &deleted.object.uid);
    Ok(call.answer(StatusCode::OK, &status))
}

/// Deletes the call's object.
pub(crate) async fn delete(call: &Call, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    let mut told = None;
    for _ in 0..ATTEMPTS {
        let object = current(call, told.take())?;
        match attempt(call, &object, options).await {
            Ok(deleted) => return Ok(deleted),
            Err(Failed::Api(error)) => return Err(error),
            Err(Failed::Conflict(entry)) => told = Some(entry),
            Err(Failed::Claimed) => claims::learn(call).await,
        }
    }
    Err(ApiError::conflict(
        &call.resource,
        &call.name,
        status::MODIFIED,
    ))
}

async fn attempt(
    call: &Call,
    object: &Arc<Object>,
    options: &DeleteOptions,
) -> Result<Deleted, Failed> {
    preconditions(&call.resource, object, options)?;
    let hook = hooks::of(&call.resource);
    let read = conversion::bring_one(&call.state, &call.resource, object.clone()).await?;
    let value = read.value();
    hooks::node_restriction::delete(call, &value)?;
    hook.admit_delete(call, &value)?;
    chain::delete(
        call,
        &value,
        options.to_value(),
        call.dry_run || options.dry_run,
    )
    .await?;
    let grace = hook.grace_period(&value, options.grace_period_secs);
    let local = &object.key;
    let dry = call.dry_run || options.dry_run;
    match plan(
        &value,
        options,
        grace,
        hook.may_vanish(&value),
        Timestamp::now(),
    ) {
        Plan::Nothing => Ok(Deleted {
            object: object.clone(),
            gone: false,
        }),
        Plan::Remove if dry => Ok(Deleted {
            object: object.clone(),
            gone: true,
        }),
        Plan::Remove => {
            let revision = write::remove(call, local, object.revision, &value).await?;
            let stored = bytes::Bytes::from(object.stored());
            let object = write::loose(call, local, &stored, revision)?;
            Ok(Deleted { object, gone: true })
        }
        Plan::Mark(mut new) => {
            hook.on_mark(&mut new);
            let object = if dry {
                let stored = crate::codec::encode(&new);
                write::loose(call, local, &stored, object.revision)?
            } else {
                let expect = Expect::At(object.revision);
                write::put(call, local, expect, Some(&value), &new).await?
            };
            Ok(Deleted {
                object,
                gone: false,
            })
        }
    }
}

fn preconditions(
    resource: &Resource,
    object: &Object,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let conflict = |why: String| Err(ApiError::conflict(resource, object.name(), &why));
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != &*object.uid) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object.uid
        ));
    }
    let current = object.revision.to_string();
    if let Some(wanted) = options
        .resource_version
        .as_deref()
        .filter(|rv| *rv != current)
    {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {current}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plans() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap_or_default();
        let plain = json!({"metadata": {"name": "a", "generation": 1}});
        let kept = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
        let dying = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:30Z",
            "deletionGracePeriodSeconds": 30}});
        let run = |object: &Value, secs: Option<i64>, grace, propagation| {
            let options = DeleteOptions {
                grace_period_secs: secs,
                propagation,
                ..DeleteOptions::default()
            };
            plan(object, &options, grace, true, now)
        };
        assert_eq!(run(&plain, None, None, None), Plan::Remove);
        assert_eq!(run(&plain, Some(0), Some(0), None), Plan::Remove);
        assert_eq!(run(&dying, None, Some(30), None), Plan::Nothing);
        assert_eq!(run(&dying, Some(0), Some(0), None), Plan::Remove);
        let marked = |plan| match plan {
            Plan::Mark(object) => object["metadata"].clone(),
            other => json!(format!("{other:?}")),
        };
        assert_eq!(
            marked(run(&plain, None, Some(30), None)),
            json!({"name": "a", "generation": 2, "deletionTimestamp": "2026-01-01T00:00:30Z",
                "deletionGracePeriodSeconds": 30})
        );
        assert_eq!(
            marked(run(&dying, Some(5), Some(5), None)),
            json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:05Z",
                "deletionGracePeriodSeconds": 5})
        );
        assert_eq!(
            marked(run(&kept, None, None, Some(Propagation::Foreground))),
            json!({"name": "a", "finalizers": ["x/y", "foregroundDeletion"],
                "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0})
        );
    }
}
