//! What a webhook or policy has to do with: rules, selectors, and versions that stand for each other.
//!
//! Invariant: what cannot be decided is an error only of those whose rules match.

use api::selector::LabelSelector;
use api::status::ApiError;
use serde_json::{Map, Value};

use super::attributes::{Attributes, GroupVersionKind, GroupVersionResource, Operation};
use crate::hooks::text;

/// What is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    /// Names of objects; all when empty.
    names: Vec<String>,
    scope: Scope,
}

/// Where the objects of a rule live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Namespaced,
    Cluster,
}

/// What somebody has to do with.
#[derive(Debug, Clone)]
pub(crate) struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether no rules mean everything.
    all_without_rules: bool,
    namespace_selector: Result<LabelSelector, String>,
    object_selector: Result<LabelSelector, String>,
    /// Whether rules speak for all versions of what they name.
    equivalent: bool,
}

impl Constraints {
    /// Those of a webhook, from its object.
    pub(crate) fn of_webhook(hook: &Value) -> Self {
        Self::read(hook, "rules", false)
    }

    /// Those of a policy, from its `matchConstraints`.
    pub(crate) fn of_policy(constraints: &Value) -> Self {
        Self::read(constraints, "resourceRules", false)
    }

    /// Those of a policy's binding, from its `matchResources`.
    pub(crate) fn of_binding(resources: &Value) -> Self {
        Self::read(resources, "resourceRules", true)
    }

    fn read(object: &Value, rules: &str, all_without_rules: bool) -> Self {
        let selector = |name: &str| {
            LabelSelector::from_object(object.get(name).unwrap_or(&Value::Null))
                .map_err(|error| error.to_string())
        };
        let list = |name: &str| {
            let list = object.get(name).and_then(Value::as_array);
            list.into_iter().flatten().map(rule).collect()
        };
        Self {
            rules: list(rules),
            excluded: list("excludeResourceRules"),
            all_without_rules,
            namespace_selector: selector("namespaceSelector"),
            object_selector: selector("objectSelector"),
            equivalent: text(object, "/matchPolicy") != "Exact",
        }
    }

    /// Whether a write is meant, and as which version of what.
    pub(crate) fn matches(
        &self,
        attributes: &Attributes<'_>,
    ) -> Result<Option<(GroupVersionResource, GroupVersionKind)>, ApiError> {
        let in_namespace = self.namespace_matches(attributes);
        if matches!(in_namespace, Ok(false)) {
            return Ok(None);
        }
        let has_labels = self.object_matches(attributes);
        if matches!(has_labels, Ok(false)) {
            return Ok(None);
        }
        if !self.excluded.is_empty() && self.found(&self.excluded, attributes).is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() && self.all_without_rules {
            Some((attributes.resource.clone(), attributes.kind.clone()))
        } else {
            self.found(&self.rules, attributes)
        };
        let Some(found) = found else {
            return Ok(None);
        };
        in_namespace?;
        has_labels?;
        Ok(Some(found))
    }

    fn found(
        &self,
        rules: &[Rule],
        attributes: &Attributes<'_>,
    ) -> Option<(GroupVersionResource, GroupVersionKind)> {
        if rules
            .iter()
            .any(|rule| rule.matches(attributes, &attributes.resource))
        {
            return Some((attributes.resource.clone(), attributes.kind.clone()));
        }
        if !self.equivalent {
            return None;
        }
        let others: Vec<_> = attributes.equivalents().into_iter().skip(1).collect();
        // An earlier rule counts before an earlier version.
        rules.iter().find_map(|rule| {
            let found = others
                .iter()
                .find(|(other, _)| rule.matches(attributes, other));
            found.cloned()
        })
    }

    fn namespace_matches(&self, attributes: &Attributes<'_>) -> Result<bool, ApiError> {
        let is_namespace = attributes.resource.resource == "namespaces";
        if attributes.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selector = selector(&self.namespace_selector)?;
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

    fn object_matches(&self, attributes: &Attributes<'_>) -> Result<bool, ApiError> {
        let selector = selector(&self.object_selector)?;
        let matches = |object: &Value| !object.is_null() && selector.matches(labels(object));
        Ok(selector.is_everything()
            || matches(&attributes.object)
            || matches(&attributes.old_object))
    }
}

fn rule(rule: &Value) -> Rule {
    let strings = |name: &str| {
        let list = rule.get(name).and_then(Value::as_array);
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        list.map(str::to_owned).collect()
    };
    Rule {
        operations: strings("operations"),
        groups: strings("apiGroups"),
        versions: strings("apiVersions"),
        resources: strings("resources"),
        names: strings("resourceNames"),
        scope: match text(rule, "/scope") {
            "Namespaced" => Scope::Namespaced,
            "Cluster" => Scope::Cluster,
            _ => Scope::All,
        },
    }
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
            && (self.names.is_empty() || self.names.contains(&attributes.name))
    }

    fn scope_matches(&self, attributes: &Attributes<'_>, resource: &GroupVersionResource) -> bool {
        let is_namespaces = resource.group.is_empty() && resource.resource == "namespaces";
        let namespaced = !is_namespaces && !attributes.namespace.is_empty();
        match self.scope {
            Scope::All => true,
            Scope::Namespaced => namespaced,
            Scope::Cluster => !namespaced,
        }
    }
}

fn selector(selector: &Result<LabelSelector, String>) -> Result<&LabelSelector, ApiError> {
    selector.as_ref().map_err(ApiError::internal)
}

fn labels(object: &Value) -> Option<&Map<String, Value>> {
    api::meta::labels(object)
}
