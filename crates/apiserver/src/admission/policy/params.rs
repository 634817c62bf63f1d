//! The objects that a binding gives a policy for params, read from the cache.

use api::resource::{self, Resource, ResourceRef};
use api::selector::LabelSelector;
use serde_json::Value;

use super::config::{Binding, Policy};
use crate::admission::attributes::Attributes;
use crate::conversion;
use crate::hooks::text;

/// All of them; a single null where the policy is evaluated without.
///
/// # Errors
/// What is wrong with the configuration, in upstream's words.
pub(super) async fn collect(
    policy: &Policy,
    binding: &Binding,
    attributes: &Attributes<'_>,
) -> Result<Vec<Value>, String> {
    let Some((api_version, kind)) = &policy.param_kind else {
        return Ok(vec![Value::Null]);
    };
    if binding.param_ref.is_null() {
        return Ok(vec![Value::Null]);
    }
    let (group, version) = resource::split_api_version(api_version);
    let resource = by_kind(attributes, group, version, kind).ok_or_else(|| {
        format!("paramKind kind `&ParamKind{{APIVersion:{api_version},Kind:{kind},}}` not known")
    })?;
    let reference = &binding.param_ref;
    let namespace = namespace(&resource, reference, attributes)?;
    let params = find(&resource, reference, namespace, attributes).await?;
    if params.is_empty() && text(reference, "/parameterNotFoundAction") == "Deny" {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
        );
    }
    Ok(params)
}

/// A kind of the table, or a custom one.
fn by_kind(
    attributes: &Attributes<'_>,
    group: &str,
    version: &str,
    kind: &str,
) -> Option<ResourceRef> {
    if let Some(fixed) = resource::by_kind(group, version, kind) {
        return Some(fixed.into());
    }
    let mut custom = attributes.call.state.resources.custom().into_iter();
    custom
        .find(|it| it.kind == kind && it.version == version && it.group == group)
        .map(ResourceRef::from)
}

async fn find(
    resource: &Resource,
    reference: &Value,
    namespace: &str,
    attributes: &Attributes<'_>,
) -> Result<Vec<Value>, String> {
    let state = &attributes.call.state;
    let kind = state.kind(resource);
    let name = text(reference, "/name");
    let selector = match (name, reference.get("selector")) {
        ("", None) => return Err("one of name or selector must be provided".to_owned()),
        ("", Some(selector)) => LabelSelector::from_object(selector).map_err(|e| e.to_string())?,
        _ => LabelSelector::default(),
    };
    let found = match name {
        "" => kind.list(resource.namespaced.then_some(namespace)),
        name => kind.get(namespace, name).into_iter().collect(),
    };
    let found = conversion::bring(state, resource, found).await;
    let found = found.map_err(|error| error.message)?.into_iter();
    let selected = found.filter(|object| selector.matches(object.labels.as_deref()));
    let shown = selected.map(|object| {
        let mut value = object.value();
        if resource.hub().api_version != resource.api_version {
            api::convert::convert(resource.hub(), resource, &mut value);
        }
        value
    });
    Ok(shown.collect())
}

fn namespace<'a>(
    resource: &Resource,
    reference: &'a Value,
    attributes: &'a Attributes<'_>,
) -> Result<&'a str, String> {
    let asked = text(reference, "/namespace");
    match (resource.namespaced, asked, attributes.namespace.as_str()) {
        (false, "", _) => Ok(""),
        (false, ..) => Err(
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned(),
        ),
        (true, "", "") => Err(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                .to_owned(),
        ),
        (true, "", own) => Ok(own),
        (true, asked, _) => Ok(asked),
    }
}
