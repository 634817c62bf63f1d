//! The checks as a table, the policies of labels.

use api::meta;
use serde_json::{Value, json};

use super::checks::{Pod, evaluate};
use super::policy::{LevelVersion, Policy};

/// A pod that `restricted` allows, changed by merge patches of its container and its spec.
fn pod(container: &Value, spec: &Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    }});
    for (target, patch) in [("/spec/containers/0", container), ("/spec", spec)] {
        if let Some(target) = pod.pointer_mut(target) {
            let merged = api::patch::merge(target, patch.clone());
            assert!(merged.is_ok());
        }
    }
    pod
}

fn found(level: &str, pod: &Value) -> String {
    let level: Result<LevelVersion, _> = level.parse();
    match (level, Pod::of(pod)) {
        (Ok(level), Some(pod)) => evaluate(level, &pod).map_or(String::new(), |f| f.details()),
        _ => "no level or pod".to_owned(),
    }
}

#[test]
fn each_check_in_its_words() {
    let context = |context: Value| json!({"securityContext": context});
    let none = json!({});
    for (level, container, spec, wanted) in [
        ("restricted", none.clone(), none.clone(), ""),
        (
            "privileged",
            context(json!({"privileged": true})),
            json!({"hostPID": true}),
            "",
        ),
        (
            "baseline",
            context(json!({"privileged": true})),
            json!({"hostNetwork": true, "hostIPC": true}),
            r#"host namespaces (hostNetwork=true, hostIPC=true), privileged (container "a" must not set securityContext.privileged=true)"#,
        ),
        (
            "baseline",
            context(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}})),
            none.clone(),
            r#"non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)"#,
        ),
        (
            "restricted",
            context(json!({"capabilities": {"drop": null, "add": ["CHOWN"]}})),
            none.clone(),
            r#"unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; container "a" must not include "CHOWN" in securityContext.capabilities.add)"#,
        ),
        (
            "restricted:v1.21",
            context(json!({"capabilities": {"drop": null, "add": ["NET_RAW"]}})),
            none.clone(),
            r#"non-default capabilities (container "a" must not include "NET_RAW" in securityContext.capabilities.add)"#,
        ),
        (
            "baseline",
            json!({"ports": [{"hostPort": 80}, {"hostPort": 443}, {"hostPort": 0}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            r#"hostPath volumes (volume "v"), hostPort (container "a" uses hostPorts 443, 80)"#,
        ),
        (
            "restricted",
            none.clone(),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {}}, {"name": "x", "emptyDir": {}}]}),
            r#"restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")"#,
        ),
        (
            "baseline",
            json!({"livenessProbe": {"httpGet": {"host": "8.8.8.8"}}}),
            none.clone(),
            r#"probe or lifecycle host (container "a" uses probe or lifecycle host "8.8.8.8")"#,
        ),
        (
            "baseline:v1.33",
            json!({"livenessProbe": {"httpGet": {"host": "8.8.8.8"}}}),
            none.clone(),
            "",
        ),
        (
            "baseline",
            context(json!({"procMount": "Unmasked"})),
            none.clone(),
            r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
        ),
        (
            "baseline",
            context(json!({"procMount": "Unmasked"})),
            json!({"hostUsers": false}),
            "",
        ),
        (
            "baseline:v1.34",
            context(json!({"procMount": "Unmasked"})),
            json!({"hostUsers": false}),
            r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
        ),
        (
            "baseline",
            context(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            json!({"securityContext": {"seLinuxOptions": {"type": "container_engine_t", "role": "r"}}}),
            r#"seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set)"#,
        ),
        (
            "baseline",
            context(
                json!({"seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "Unconfined"}}),
            ),
            none.clone(),
            r#"forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined"), seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")"#,
        ),
        (
            "restricted",
            none.clone(),
            json!({"securityContext": {"seccompProfile": null}}),
            r#"seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
        ),
        (
            "restricted",
            none.clone(),
            json!({"securityContext": {"seccompProfile": null}, "os": {"name": "windows"}}),
            "",
        ),
        (
            "baseline",
            none.clone(),
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            "baseline:v1.31",
            none.clone(),
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctls (kernel.msgmax, net.ipv4.tcp_rmem)",
        ),
        (
            "baseline",
            none.clone(),
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            "restricted",
            context(json!({"allowPrivilegeEscalation": null, "runAsUser": 0})),
            json!({"securityContext": {"runAsNonRoot": null}}),
            r#"allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), runAsUser=0 (container "a" must not set runAsUser=0)"#,
        ),
        (
            "restricted",
            context(json!({"runAsNonRoot": false})),
            json!({"securityContext": {"runAsNonRoot": false}}),
            r#"runAsNonRoot != true (pod and container "a" must not set securityContext.runAsNonRoot=false)"#,
        ),
        (
            "restricted",
            context(json!({"runAsUser": 0})),
            json!({"securityContext": {"runAsNonRoot": null}, "hostUsers": false}),
            "",
        ),
    ] {
        let pod = pod(&container, &spec);
        assert_eq!(found(level, &pod), wanted, "{level} {pod}");
    }
}

#[test]
fn no_container_and_no_annotation_slips_past() {
    for list in ["initContainers", "ephemeralContainers"] {
        let other = json!({"name": "b", "securityContext": {"privileged": true}});
        let pod = pod(&json!({}), &json!({list: [other]}));
        let words = found("baseline", &pod);
        assert!(words.starts_with("privileged (container \"b\" "), "{words}");
    }
    let mut annotated = pod(&json!({}), &json!({}));
    annotated["metadata"]["annotations"] = json!({
        "container.apparmor.security.beta.kubernetes.io/a": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/a": "unconfined",
    });
    assert_eq!(
        found("baseline", &annotated),
        r#"forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/a="unconfined"")"#
    );
    assert!(found("baseline:v1.18", &annotated).ends_with(
        r#"seccompProfile (forbidden annotation container.seccomp.security.alpha.kubernetes.io/a="unconfined")"#
    ));
}

#[test]
fn policies_of_labels() {
    let of = |labels: Value| {
        let labels: serde_json::Map<String, Value> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), value.clone()))
            .collect();
        let namespace = json!({"metadata": {"labels": labels}});
        let (policy, errors) = Policy::of(meta::labels(&namespace), &Policy::default());
        let Policy {
            enforce,
            audit,
            warn,
        } = policy;
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("{enforce} {audit} {warn} {}", errors.join("; "))
    };
    for (labels, wanted) in [
        (
            json!({}),
            "privileged:latest privileged:latest baseline:latest ",
        ),
        (
            json!({"enforce": "restricted", "enforce-version": "v1.30"}),
            "restricted:v1.30 privileged:latest restricted:v1.30 ",
        ),
        (
            json!({"enforce": "restricted", "warn": "privileged"}),
            "restricted:latest privileged:latest privileged:latest ",
        ),
        (
            json!({"enforce": "harsh", "audit": "x", "warn-version": "1.2"}),
            "restricted:latest privileged:latest baseline:latest \
             metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"harsh\": must be one of privileged, baseline, restricted; \
             metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": must be one of privileged, baseline, restricted; \
             metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \"v1.x\"",
        ),
        (
            json!({"enforce-version": "v1.01"}),
            "privileged:latest privileged:latest baseline:latest \
             metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
        ),
    ] {
        assert_eq!(of(labels.clone()), wanted, "{labels}");
    }
}
