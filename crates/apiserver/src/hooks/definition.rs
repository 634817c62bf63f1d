//! CustomResourceDefinitions: what they are given when they are written, and what is checked beside
//! their form.

use std::collections::HashSet;

use api::meta;
use api::status::ApiError;
use api::validate::FieldError;
use serde_json::{Value, json};

use super::{Hook, text};
use crate::conversion::has_bad_bundle;
use crate::definitions::{self, FINALIZER};
use crate::pipeline::Call;

const BUNDLE: &str = "/spec/conversion/webhook/clientConfig/caBundle";

pub(super) struct Definitions;

fn versions(object: &Value) -> impl Iterator<Item = &Value> {
    let all = object.pointer("/spec/versions").and_then(Value::as_array);
    all.into_iter().flatten()
}

/// What upstream's defaults fill in.
fn fill(object: &mut Value) {
    let names = object["spec"]["names"].clone();
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        names
            .entry("singular")
            .or_insert_with(|| kind.to_lowercase().into());
        names
            .entry("listKind")
            .or_insert_with(|| format!("{kind}List").into());
    }
    let conversion = spec.entry("conversion");
    let conversion = conversion.or_insert_with(|| json!({"strategy": "None"}));
    let service = conversion.pointer_mut("/webhook/clientConfig/service");
    if let Some(service) = service.and_then(Value::as_object_mut) {
        service.entry("port").or_insert_with(|| 443.into());
    }
}

/// Notes the version in which objects are stored from now on.
fn note_stored(object: &mut Value) {
    let stored = versions(object).find(|version| version["storage"] == true);
    let Some(stored) = stored.map(|version| version["name"].clone()) else {
        return;
    };
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    if !object["status"]["storedVersions"].is_array() {
        object["status"]["storedVersions"] = json!([]);
    }
    if let Some(all) = object["status"]["storedVersions"].as_array_mut()
        && !all.contains(&stored)
    {
        all.push(stored);
    }
}

/// What is wrong with the authorities of a conversion webhook. Upstream lets it pass until the
/// definition is established, and where it was wrong before.
fn bundle(new: &Value, old: Option<&Value>) -> Option<FieldError> {
    let old = old.filter(|old| definitions::is_true(old, "Established"))?;
    if text(new, "/spec/conversion/strategy") != "Webhook"
        || has_bad_bundle(old)
        || !has_bad_bundle(new)
    {
        return None;
    }
    let words = "unable to load root certificates: unable to parse bytes as PEM block";
    let path = "spec.conversion.webhookClientConfig.caBundle";
    Some(FieldError::invalid(path, text(new, BUNDLE), words))
}

impl Hook for Definitions {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        fill(new);
        new["status"] = json!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []});
        note_stored(new);
        let mut finalizers: Vec<String> = meta::finalizers(new).map(str::to_owned).collect();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        meta::set(new, "finalizers", finalizers);
        Ok(())
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, _old: &Value) -> Result<(), ApiError> {
        if call.subresource.is_empty() {
            fill(new);
            note_stored(new);
        }
        Ok(())
    }

    fn validate(&self, call: &Call, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        if !call.subresource.is_empty() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        let before = |name: &Value| {
            let mut all = old.into_iter().flat_map(versions);
            all.find(|version| version["name"] == *name)
        };
        let mut sources = HashSet::new();
        for version in old.into_iter().flat_map(versions) {
            crate::rules::sources(&version["schema"]["openAPIV3Schema"], &mut sources);
        }
        for (index, version) in versions(new).enumerate() {
            // What was accepted once stays accepted.
            if before(&version["name"]).is_some_and(|b| b["schema"] == version["schema"]) {
                continue;
            }
            let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
            let unfit = api::structural::check(version, &path);
            // Rules are checked against a schema that is sound.
            if unfit.is_empty() {
                let schema = &version["schema"]["openAPIV3Schema"];
                let stored = |source: &str| sources.contains(source);
                let unruly = crate::rules::check(schema, &path, &stored);
                if unruly.is_empty() {
                    errors.extend(crate::rules::defaults(schema, &path));
                }
                errors.extend(unruly);
            }
            errors.extend(unfit);
        }
        errors.extend(bundle(new, old));
        let Some(old) = old else { return errors };
        if definitions::is_true(old, "Established") {
            for field in ["scope", "group"] {
                let (is, was) = (&new["spec"][field], &old["spec"][field]);
                if is != was {
                    let path = format!("spec.{field}");
                    errors.push(FieldError::invalid(path, is.clone(), "field is immutable"));
                }
            }
            for field in ["plural", "kind"] {
                let (is, was) = (&new["spec"]["names"][field], &old["spec"]["names"][field]);
                if is != was {
                    let path = format!("spec.names.{field}");
                    errors.push(FieldError::invalid(path, is.clone(), "field is immutable"));
                }
            }
        }
        let stored = old
            .pointer("/status/storedVersions")
            .and_then(Value::as_array);
        for (index, name) in stored.into_iter().flatten().enumerate() {
            if !versions(new).any(|version| version["name"] == *name) {
                let words = "must appear in spec.versions";
                let path = format!("status.storedVersions[{index}]");
                errors.push(FieldError::invalid(path, name.clone(), words));
            }
        }
        errors
    }

    fn on_mark(&self, object: &mut Value) {
        definitions::set_condition(
            object,
            "Terminating",
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        );
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}
