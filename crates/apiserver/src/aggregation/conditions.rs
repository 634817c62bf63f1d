//! The Available condition of an APIService. Pure.

use serde_json::{Value, json};

use crate::hooks::text;

const AVAILABLE: &str = "Available";

/// How available an APIService is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Availability {
    pub(super) available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Availability {
    /// What this server serves itself.
    pub(super) fn local() -> Self {
        Self {
            available: true,
            reason: "Local",
            message: "Local APIServices are always available".to_owned(),
        }
    }

    /// What has answered.
    pub(super) fn passed() -> Self {
        Self {
            available: true,
            reason: "Passed",
            message: "all checks passed".to_owned(),
        }
    }

    /// What cannot be asked.
    pub(super) fn lacking(reason: &'static str, message: String) -> Self {
        Self {
            available: false,
            reason,
            message,
        }
    }
}

fn conditions(object: &Value) -> &[Value] {
    let list = object.pointer("/status/conditions");
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether an APIService says that it is available.
pub(super) fn is_available(object: &Value) -> bool {
    conditions(object)
        .iter()
        .any(|c| text(c, "/type") == AVAILABLE && text(c, "/status") == "True")
}

/// Whether an APIService says so already.
pub(super) fn says(object: &Value, wanted: &Availability) -> bool {
    let status = if wanted.available { "True" } else { "False" };
    conditions(object).iter().any(|c| {
        text(c, "/type") == AVAILABLE
            && text(c, "/status") == status
            && text(c, "/reason") == wanted.reason
            && text(c, "/message") == wanted.message
    })
}

/// The APIService with its condition; the time of the last transition stays while the status does.
pub(super) fn with(object: &Value, wanted: &Availability, now: &str) -> Value {
    let status = if wanted.available { "True" } else { "False" };
    let mut all = conditions(object).to_vec();
    let mut condition = json!({"type": AVAILABLE, "status": status, "lastTransitionTime": now,
        "reason": wanted.reason, "message": wanted.message});
    match all.iter_mut().find(|c| text(c, "/type") == AVAILABLE) {
        Some(found) => {
            if text(found, "/status") == status
                && let Some(time) = found.get("lastTransitionTime")
            {
                condition["lastTransitionTime"] = time.clone();
            }
            *found = condition;
        }
        None => all.push(condition),
    }
    let mut new = object.clone();
    new["status"]["conditions"] = all.into();
    new
}

/// What the objects say against a remote APIService, before anybody is asked.
pub(super) fn objections(
    namespace: &str,
    name: &str,
    port: u16,
    service: Option<&Value>,
    slices: &[Value],
) -> Option<Availability> {
    let place = format!("service/{name} in {namespace:?}");
    let Some(service) = service else {
        let message = format!("{place} is not present");
        return Some(Availability::lacking("ServiceNotFound", message));
    };
    if !matches!(text(service, "/spec/type"), "" | "ClusterIP") {
        return None;
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let found = ports
        .into_iter()
        .flatten()
        .find(|p| p.get("port").and_then(Value::as_u64) == Some(u64::from(port)));
    let Some(found) = found else {
        let message = format!("{place} is not listening on port {port}");
        return Some(Availability::lacking("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for {place}");
        return Some(Availability::lacking("EndpointsNotFound", message));
    }
    let port_name = text(found, "/name");
    if slices.iter().any(|slice| has_endpoint(slice, port_name)) {
        return None;
    }
    let message =
        format!("endpointslices for {place} have no addresses with port name {port_name:?}");
    Some(Availability::lacking("MissingEndpoints", message))
}

fn has_endpoint(slice: &Value, port_name: &str) -> bool {
    let items = |name: &str| {
        let list = slice.get(name).and_then(Value::as_array);
        list.into_iter().flatten()
    };
    items("endpoints")
        .any(|e| e.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false))
        && items("ports").any(|p| text(p, "/name") == port_name && p.get("port").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_objects_say() {
        let service = |kind: &str, port: u16| json!({"spec": {"type": kind, "ports": [{"name": "https", "port": port}]}});
        let slice = |ready: bool, port: &str| {
            json!({"endpoints": [{"conditions": {"ready": ready}}],
                "ports": [{"name": port, "port": 1}]})
        };
        let reason = |service: Option<Value>, slices: &[Value]| {
            objections("ns", "api", 443, service.as_ref(), slices).map_or("", |o| o.reason)
        };
        let good = || Some(service("ClusterIP", 443));
        assert_eq!(reason(None, &[]), "ServiceNotFound");
        assert_eq!(reason(Some(service("ExternalName", 1)), &[]), "");
        assert_eq!(
            reason(Some(service("ClusterIP", 1)), &[]),
            "ServicePortError"
        );
        assert_eq!(reason(good(), &[]), "EndpointsNotFound");
        assert_eq!(reason(good(), &[slice(false, "https")]), "MissingEndpoints");
        assert_eq!(reason(good(), &[slice(true, "other")]), "MissingEndpoints");
        assert_eq!(reason(good(), &[slice(true, "https")]), "");
    }

    #[test]
    fn transitions_keep_their_time() {
        let object = json!({"status": {"conditions": [{"type": "Other"}]}});
        let one = with(&object, &Availability::passed(), "t1");
        assert!(is_available(&one) && says(&one, &Availability::passed()));
        let two = with(&one, &Availability::local(), "t2");
        assert_eq!(two["status"]["conditions"][1]["lastTransitionTime"], "t1");
        let lost = Availability::lacking("ServiceNotFound", String::new());
        let three = with(&two, &lost, "t3");
        assert_eq!(three["status"]["conditions"][1]["lastTransitionTime"], "t3");
        assert!(!is_available(&three));
    }
}
