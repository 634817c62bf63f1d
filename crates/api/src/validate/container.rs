//! Containers: regular ones, init containers and ephemeral ones.

use std::collections::HashSet;

use super::at::{At, Errors};
use super::{names, probe, resources, security, volume};

/// Where a pod spec stands and what its containers refer to.
pub(super) struct Pod<'a> {
    /// A pod, not the template of one.
    pub(super) is_pod: bool,
    pub(super) volumes: volume::Volumes<'a>,
    pub(super) restart_policy: &'a str,
    pub(super) grace_period_secs: Option<i64>,
    pub(super) host_network: bool,
}

const INIT_ONLY: &str = "may not be set for init containers without restartPolicy=Always";
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// All containers of a pod spec.
pub(super) fn all(spec: &At<'_, '_>, pod: &Pod<'_>, out: &mut Errors) {
    let containers = spec.field("containers");
    let mut seen = HashSet::new();
    if containers.is_empty() {
        out.required(&containers, "");
    } else {
        let mut ports = HashSet::new();
        for container in containers.items() {
            common(&container, pod, out);
            unique_name(&container, &mut seen, out);
            probe::lifecycle(&container.field("lifecycle"), pod, out);
            probe::all(&container, out);
            host_ports(&container, &mut ports, out);
            out.any_of(
                &container.field("restartPolicy"),
                &["Always", "Never", "OnFailure"],
            );
        }
    }
    let list = spec.field("initContainers");
    for container in list.items() {
        init(&container, pod, &mut seen, out);
    }
    let targets: HashSet<&str> = seen.clone();
    let list = spec.field("ephemeralContainers");
    for container in list.items() {
        ephemeral(&container, pod, &mut seen, &targets, out);
    }
}

fn init<'a>(container: &At<'a, '_>, pod: &Pod<'_>, seen: &mut HashSet<&'a str>, out: &mut Errors) {
    common(container, pod, out);
    unique_name(container, seen, out);
    host_ports(container, &mut HashSet::new(), out);
    let policy = container.field("restartPolicy");
    out.any_of(&policy, &["Always", "Never", "OnFailure"]);
    if policy.text() == "Always" {
        probe::lifecycle(&container.field("lifecycle"), pod, out);
        probe::all(container, out);
        return;
    }
    for name in [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        let field = container.field(name);
        if field.is_set() {
            out.forbidden(&field, INIT_ONLY);
        }
    }
}

fn ephemeral<'a>(
    container: &At<'a, '_>,
    pod: &Pod<'_>,
    seen: &mut HashSet<&'a str>,
    targets: &HashSet<&str>,
    out: &mut Errors,
) {
    common(container, pod, out);
    unique_name(container, seen, out);
    let target = container.field("targetContainerName");
    if !target.is_empty() && !targets.contains(target.text()) {
        out.not_found(&target);
    }
    for name in [
        "ports",
        "resources",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
        "restartPolicy",
    ] {
        let field = container.field(name);
        if !field.is_empty() {
            out.forbidden(&field, NOT_EPHEMERAL);
        }
    }
    let mounts = container.field("volumeMounts");
    for mount in mounts.items() {
        for name in ["subPath", "subPathExpr"] {
            let field = mount.field(name);
            if !field.is_empty() {
                out.forbidden(&field, NOT_EPHEMERAL);
            }
        }
    }
}

fn unique_name<'a>(container: &At<'a, '_>, seen: &mut HashSet<&'a str>, out: &mut Errors) {
    let text = container
        .value
        .get("name")
        .and_then(|v| v.as_str())
        .unwrap_or_default();
    if !text.is_empty() && !seen.insert(text) {
        out.duplicate(&container.field("name"));
    }
}

fn host_ports(container: &At<'_, '_>, seen: &mut HashSet<String>, out: &mut Errors) {
    let ports = container.field("ports");
    for port in ports.items() {
        let host = port.field("hostPort");
        let Some(number) = host.int().filter(|n| *n != 0) else {
            continue;
        };
        let key = format!(
            "{}/{}/{number}",
            port.field("protocol").text(),
            port.field("hostIP").text()
        );
        if seen.contains(&key) {
            out.duplicate_value(&host, key);
        } else {
            seen.insert(key);
        }
    }
}

/// What holds for all sorts of containers.
fn common(container: &At<'_, '_>, pod: &Pod<'_>, out: &mut Errors) {
    out.required_form(&container.field("name"), names::dns_label);
    let image = container.field("image");
    if image.is_empty() {
        out.required(&image, "");
    } else if pod.is_pod && image.text().trim() != image.text() {
        out.invalid(&image, "must not have leading or trailing whitespace");
    }
    out.one_of(
        &container.field("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    );
    ports(&container.field("ports"), pod, out);
    env(&container.field("env"), out);
    env_from(&container.field("envFrom"), out);
    volume::mounts(container, &pod.volumes, out);
    out.one_of(
        &container.field("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    resources::requirements(&container.field("resources"), out);
    resize_policy(&container.field("resizePolicy"), pod, out);
    security::container(&container.field("securityContext"), out);
}

fn ports(at: &At<'_, '_>, pod: &Pod<'_>, out: &mut Errors) {
    let mut seen = HashSet::new();
    for port in at.items() {
        let name = port.field("name");
        if !name.is_empty() {
            let words = names::port_name(name.text());
            if words.is_empty() && !seen.insert(name.text()) {
                out.duplicate(&name);
            }
            out.form(&name, words);
        }
        let (inside, outside) = (port.field("containerPort"), port.field("hostPort"));
        match inside.int() {
            None | Some(0) => out.required(&inside, ""),
            Some(_) => out.port(&inside),
        }
        let host = outside.int().unwrap_or_default();
        if host != 0 {
            out.port(&outside);
        }
        if pod.host_network && (pod.is_pod || host != 0) && Some(host) != inside.int() {
            out.invalid_value(
                &outside,
                host,
                "must match `containerPort` when `hostNetwork` is true",
            );
        }
        out.one_of(&port.field("protocol"), &["SCTP", "TCP", "UDP"]);
        let ip = port.field("hostIP");
        if !ip.is_empty() && ip.text().parse::<std::net::IpAddr>().is_err() {
            out.invalid(
                &ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }
}

fn env(at: &At<'_, '_>, out: &mut Errors) {
    for variable in at.items() {
        out.required_form(&variable.field("name"), names::env_name);
        let from = variable.field("valueFrom");
        if !from.is_set() {
            continue;
        }
        let mut sources = 0;
        for (source, at) in from
            .value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, _)| (k.as_str(), from.field(k)))
        {
            sources += 1;
            match source {
                "fieldRef" => field_ref(&at, ENV_FIELDS, out),
                "resourceFieldRef" => resource_ref(&at, false, out),
                "configMapKeyRef" | "secretKeyRef" => {
                    let name = at.field("name");
                    out.form(&name, names::dns_subdomain(name.text()));
                    out.required_form(&at.field("key"), names::config_key);
                }
                "fileKeyRef" => {
                    for name in ["volumeName", "path", "key"] {
                        out.present(&at.field(name));
                    }
                }
                _ => {}
            }
        }
        if sources == 0 {
            out.invalid_value(
                &from,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            );
        } else if !variable.field("value").is_empty() {
            out.invalid_value(&from, "", "may not be specified when `value` is not empty");
        } else if sources > 1 {
            out.invalid_value(
                &from,
                "",
                "may not have more than one field specified at a time",
            );
        }
    }
}

/// A field of the pod that a container sees as a variable or a file.
pub(super) fn field_ref(at: &At<'_, '_>, known: &[&str], out: &mut Errors) {
    let path = at.field("fieldPath");
    if !out.present(&at.field("apiVersion")) || !out.present(&path) {
        return;
    }
    let text = path.text();
    match text
        .strip_suffix(']')
        .and_then(|t| t.split_once("['").or_else(|| t.split_once('[')))
    {
        Some(("metadata.annotations", key)) => {
            let key = key.trim_end_matches('\'');
            for detail in names::qualified_name(&key.to_lowercase()) {
                out.invalid_value(at, key, detail);
            }
        }
        Some(("metadata.labels", key)) => {
            let key = key.trim_end_matches('\'');
            for detail in names::qualified_name(key) {
                out.invalid_value(at, key, detail);
            }
        }
        Some((other, _)) => out.invalid_value(at, other, "does not support subscript"),
        None if known.contains(&text) => {}
        None if ["metadata.labels", "metadata.annotations"].contains(&text)
            || ENV_FIELDS.contains(&text) =>
        {
            out.not_supported(&path, known);
        }
        None => out.invalid(
            &path,
            format!("error converting fieldPath: field label not supported: {text}"),
        ),
    }
}

/// A resource of a container that is seen as a variable or a file.
pub(super) fn resource_ref(at: &At<'_, '_>, in_volume: bool, out: &mut Errors) {
    const KNOWN: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let (container, resource) = (at.field("containerName"), at.field("resource"));
    if in_volume && container.is_empty() {
        out.required(&container, "");
    } else if out.present(&resource) {
        let text = resource.text();
        if !text.starts_with("requests.hugepages-") && !text.starts_with("limits.hugepages-") {
            out.any_of(&resource, KNOWN);
        }
    }
}

fn env_from(at: &At<'_, '_>, out: &mut Errors) {
    for source in at.items() {
        let prefix = source.field("prefix");
        if !prefix.is_empty() {
            out.form(&prefix, names::env_name(prefix.text()));
        }
        let mut sources = 0;
        for kind in ["configMapRef", "secretRef"] {
            let from = source.field(kind);
            if from.is_set() {
                sources += 1;
                out.required_form(&from.field("name"), names::dns_subdomain);
            }
        }
        match sources {
            0 => out.invalid_value(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => out.invalid_value(
                at,
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

fn resize_policy(at: &At<'_, '_>, pod: &Pod<'_>, out: &mut Errors) {
    let mut seen = HashSet::new();
    for policy in at.items() {
        let (name, restart) = (policy.field("resourceName"), policy.field("restartPolicy"));
        if !seen.insert(name.text()) {
            out.duplicate_value(&policy, name.text());
        }
        out.one_of(&name, &["cpu", "memory"]);
        out.one_of(&restart, &["NotRequired", "RestartContainer"]);
        if pod.restart_policy == "Never" && restart.text() == "RestartContainer" {
            out.invalid_value(
                at,
                restart.text(),
                "must be 'NotRequired' when `restartPolicy` is 'Never'",
            );
        }
    }
}
