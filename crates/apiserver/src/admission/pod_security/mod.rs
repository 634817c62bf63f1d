//! PodSecurity: the pod security standards, by the labels of namespaces.
//!
//! Invariants: what a pod may do is decided by its spec, its namespace's labels and the
//! configuration alone; pods are refused, what makes pods is only warned of; labels that cannot be
//! read enforce `restricted`.

mod baseline;
mod checks;
mod metrics;
mod namespace;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

use api::meta;
use api::status::ApiError;
use serde_json::Value;

pub use policy::{Level, LevelVersion, Policy, PolicyError, Version};

use crate::hooks::text;
use crate::pipeline::Call;
use checks::{Pod, Violations};
use metrics::Request;

/// The plugin's configuration, as upstream's `PodSecurityConfiguration`.
#[derive(Debug, Clone, Default)]
pub struct PodSecurity {
    /// What holds where a namespace's labels say nothing.
    pub defaults: Policy,
    /// Users whose pods are not looked at.
    pub exempt_users: Vec<String>,
    /// Namespaces whose pods are not looked at.
    pub exempt_namespaces: Vec<String>,
    /// Runtime classes whose pods are not looked at.
    pub exempt_runtime_classes: Vec<String>,
}

impl PodSecurity {
    fn exempts_namespace(&self, name: &str) -> bool {
        self.exempt_namespaces.iter().any(|exempt| exempt == name)
    }

    fn exempts_class_of(&self, spec: &Value) -> bool {
        let class = text(spec, "/runtimeClassName");
        self.exempt_runtime_classes
            .iter()
            .any(|exempt| exempt == class)
    }
}

/// Admits a write.
pub(crate) fn admit(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    match (&*call.resource.group, &*call.resource.plural) {
        ("", "namespaces") => namespace::admit(call, new, old),
        ("", "pods") => pod(call, new, old),
        _ => {
            if let Some(template) = template(call) {
                let is_update = old.is_some();
                controller(Request { call, is_update }, new, template);
            }
            Ok(())
        }
    }
}

/// Where the pod template of a kind that makes pods is.
fn template(call: &Call) -> Option<&'static str> {
    match (&*call.resource.group, &*call.resource.plural) {
        ("", "podtemplates") => Some("/template"),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "daemonsets" | "statefulsets")
        | ("batch", "jobs") => Some("/spec/template"),
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Whether the request is not looked at, whatever it writes.
fn exempt(request: Request<'_>) -> bool {
    let call = request.call;
    let config = &call.state.admission.pod_security;
    let why = if config.exempts_namespace(&call.namespace) {
        "namespace"
    } else if config.exempt_users.contains(&call.user.name) {
        "user"
    } else {
        return false;
    };
    annotate(call, "exempt", why);
    request.exempted();
    true
}

fn exempts_class(request: Request<'_>, spec: &Value) -> bool {
    let config = &request.call.state.admission.pod_security;
    let exempt = config.exempts_class_of(spec);
    if exempt {
        annotate(request.call, "exempt", "runtimeClass");
        request.exempted();
    }
    exempt
}

fn annotate(call: &Call, key: &str, value: &str) {
    call.annotate(&format!("pod-security.kubernetes.io/{key}"), value);
}

/// What the call's namespace asks for, and whether that can be read.
fn policy(request: Request<'_>) -> Option<(Policy, bool)> {
    let call = request.call;
    let Some(namespace) = call.state.core("namespaces").get("", &call.namespace) else {
        request.failed(true);
        return None;
    };
    let defaults = &call.state.admission.pod_security.defaults;
    let (policy, errors) = Policy::of(namespace.labels.as_deref(), defaults);
    Some((policy, errors.is_empty()))
}

fn pod(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let is_update = old.is_some();
    let request = Request { call, is_update };
    // Every other subresource may change the spec.
    if matches!(call.subresource.as_str(), "binding" | "eviction" | "status") || exempt(request) {
        return Ok(());
    }
    let Some((policy, is_read)) = policy(request) else {
        let why = format!("failed to lookup namespace {:?}", call.namespace);
        return Err(ApiError::internal(why));
    };
    if is_read && policy.is_privileged() {
        annotate(call, "enforce-policy", &policy.enforce.to_string());
        request.evaluated(true, policy.enforce, "enforce");
        return Ok(());
    }
    if old.is_some_and(|old| !changes_images(new, old)) {
        return Ok(());
    }
    let Some(pod) = Pod::of(new) else {
        return Ok(());
    };
    if exempts_class(request, pod.spec) {
        return Ok(());
    }
    if !is_read {
        request.failed(false);
    }
    annotate(call, "enforce-policy", &policy.enforce.to_string());
    let found = checks::evaluate(policy.enforce, &pod);
    request.evaluated(found.is_none(), policy.enforce, "enforce");
    if let Some(found) = &found {
        audit(request, &policy, &pod, meta::name(new));
        let why = format!(
            "violates PodSecurity \"{}\": {}",
            policy.enforce,
            found.details()
        );
        return Err(ApiError::forbidden("", "pods", meta::name(new), why));
    }
    report(request, &policy, &pod, meta::name(new));
    Ok(())
}

fn controller(request: Request<'_>, new: &Value, template: &str) {
    if !request.call.subresource.is_empty() || exempt(request) {
        return;
    }
    let Some((policy, is_read)) = policy(request) else {
        return;
    };
    let Some(pod) = new.pointer(template).and_then(Pod::of) else {
        return;
    };
    if exempts_class(request, pod.spec) {
        return;
    }
    if !is_read {
        request.failed(false);
    }
    report(request, &policy, &pod, meta::name(new));
}

/// Says what would be refused under the levels that are only audited and warned of.
fn report(request: Request<'_>, policy: &Policy, pod: &Pod<'_>, name: &str) {
    let words = |level: LevelVersion, found: &Violations| {
        format!("would violate PodSecurity \"{level}\": {}", found.details())
    };
    if let Some(found) = checks::evaluate(policy.warn, pod) {
        request.call.warn(words(policy.warn, &found));
        request.evaluated(false, policy.warn, "warn");
    }
    audit(request, policy, pod, name);
}

/// Notes in the audit log, or in the server's own where there is none, what `audit` finds.
fn audit(request: Request<'_>, policy: &Policy, pod: &Pod<'_>, name: &str) {
    let Some(found) = checks::evaluate(policy.audit, pod) else {
        return;
    };
    let call = request.call;
    request.evaluated(false, policy.audit, "audit");
    let words = format!(
        "would violate PodSecurity \"{}\": {}",
        policy.audit,
        found.details()
    );
    annotate(call, "audit-violations", &words);
    if call.state.audit.policy().is_none() {
        tracing::info!(
            user = call.user.name,
            resource = &*call.resource.plural,
            namespace = call.namespace,
            name,
            "{words}"
        );
    }
}

/// Whether a change of a pod can matter: containers come or get other images.
fn changes_images(new: &Value, old: &Value) -> bool {
    fn list<'a>(pod: &'a Value, name: &str) -> &'a [Value] {
        let list = pod.get("spec").and_then(|spec| spec.get(name));
        list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
    let image = |container: &Value| text(container, "/image").to_owned();
    let other = |name: &str| {
        let (new, old) = (list(new, name), list(old, name));
        new.len() != old.len() || new.iter().zip(old).any(|(n, o)| image(n) != image(o))
    };
    let ephemeral = list(new, "ephemeralContainers").iter().any(|container| {
        let before = list(old, "ephemeralContainers");
        let before = before
            .iter()
            .find(|b| b.get("name") == container.get("name"));
        before.is_none_or(|before| image(before) != image(container))
    });
    other("containers") || other("initContainers") || ephemeral
}
