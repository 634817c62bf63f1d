//! Whether a webhook is asked of a write, and in which version.

use api::selector::LabelSelector;
use api::status::ApiError;
use serde_json::{Map, Value};

use super::config::{Rule, Scope, Webhook};
use crate::admission::attributes::{Attributes, GroupVersionKind, GroupVersionResource, Operation};

/// A webhook that is to be asked, and of what.
pub(super) struct Invocation<'w> {
    pub(super) webhook: &'w Webhook,
    pub(super) kind: GroupVersionKind,
    pub(super) resource: GroupVersionResource,
}

/// Decides; `None` when the webhook has nothing to do with the write.
pub(super) fn invocation<'w>(
    webhook: &'w Webhook,
    attributes: &Attributes<'_>,
) -> Result<Option<Invocation<'w>>, ApiError> {
    // What cannot be decided is only an error of webhooks whose rules match.
    let in_namespace = namespace_matches(webhook, attributes);
    if matches!(in_namespace, Ok(false)) {
        return Ok(None);
    }
    let has_labels = object_matches(webhook, attributes);
    if matches!(has_labels, Ok(false)) {
        return Ok(None);
    }
    let Some((resource, kind)) = rule_matches(webhook, attributes) else {
        return Ok(None);
    };
    in_namespace?;
    has_labels?;
    let invocation = Invocation {
        webhook,
        kind,
        resource,
    };
    Ok(conditions_match(&invocation, attributes)?.then_some(invocation))
}

/// Whether the webhook's conditions hold. Their evaluation comes here.
fn conditions_match(
    _invocation: &Invocation<'_>,
    _attributes: &Attributes<'_>,
) -> Result<bool, ApiError> {
    Ok(true)
}

fn rule_matches(
    webhook: &Webhook,
    attributes: &Attributes<'_>,
) -> Option<(GroupVersionResource, GroupVersionKind)> {
    let rule = |resource: &GroupVersionResource| {
        let matches = |rule: &&Rule| rule.matches(attributes, resource);
        webhook.rules.iter().find(matches).is_some()
    };
    if rule(&attributes.resource) {
        return Some((attributes.resource.clone(), attributes.kind.clone()));
    }
    if !webhook.equivalent {
        return None;
    }
    let others: Vec<_> = attributes.equivalents().into_iter().skip(1).collect();
    // An earlier rule counts before an earlier version.
    webhook.rules.iter().find_map(|rule| {
        let found = others
            .iter()
            .find(|(other, _)| rule.matches(attributes, other));
        found.cloned()
    })
}

impl Rule {
    fn matches(&self, attributes: &Attributes<'_>, resource: &GroupVersionResource) -> bool {
        let is = |list: &[String], wanted: &str| list.iter().any(|i| i == "*" || i == wanted);
        let named = |entry: &String| {
            let (name, sub) = entry.split_once('/').unwrap_or((entry, ""));
            (name == "*" || name == resource.resource)
                && (sub == "*" || sub == attributes.subresource())
        };
        self.scope_matches(attributes, resource)
            && is(&self.operations, attributes.operation.name())
            && is(&self.groups, &resource.group)
            && is(&self.versions, &resource.version)
            && self.resources.iter().any(named)
    }

    fn scope_matches(&self, attributes: &Attributes<'_>, resource: &GroupVersionResource) -> bool {
        let namespaced = !is_namespaces(resource) && !attributes.namespace.is_empty();
        match self.scope {
            Scope::All => true,
            Scope::Namespaced => namespaced,
            Scope::Cluster => !namespaced,
        }
    }
}

fn is_namespaces(resource: &GroupVersionResource) -> bool {
    resource.group.is_empty() && resource.resource == "namespaces"
}

fn selector(selector: &Result<LabelSelector, String>) -> Result<&LabelSelector, ApiError> {
    selector.as_ref().map_err(ApiError::internal)
}

fn namespace_matches(webhook: &Webhook, attributes: &Attributes<'_>) -> Result<bool, ApiError> {
    let is_namespace = attributes.resource.resource == "namespaces";
    if attributes.namespace.is_empty() && !is_namespace {
        return Ok(true);
    }
    let selector = selector(&webhook.namespace_selector)?;
    if selector.is_everything() {
        return Ok(true);
    }
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if is_namespace && attributes.subresource().is_empty() && written {
        return Ok(selector.matches(labels(&attributes.object)));
    }
    let namespaces = attributes.call.state.core("namespaces");
    match namespaces.get("", &attributes.namespace) {
        Some(namespace) => Ok(selector.matches(namespace.labels.as_deref())),
        None => Err(ApiError::not_found_named(
            "",
            "namespaces",
            &attributes.namespace,
        )),
    }
}

fn object_matches(webhook: &Webhook, attributes: &Attributes<'_>) -> Result<bool, ApiError> {
    let selector = selector(&webhook.object_selector)?;
    let matches = |object: &Value| !object.is_null() && selector.matches(labels(object));
    Ok(selector.is_everything() || matches(&attributes.object) || matches(&attributes.old_object))
}

fn labels(object: &Value) -> Option<&Map<String, Value>> {
    api::meta::labels(object)
}
