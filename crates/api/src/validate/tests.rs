//! Tests of `validate`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::Value;

use super::*;
use crate::resource::{by_kind, split_api_version};
use crate::{meta, schema, yaml};

/// The object of a manifest as validation gets it.
fn object(manifest: &str) -> (&'static Resource, Value) {
    let mut object = yaml::parse_documents(manifest).unwrap().remove(0);
    let (group, version) = split_api_version(object["apiVersion"].as_str().unwrap());
    let res = by_kind(group, version, object["kind"].as_str().unwrap()).unwrap();
    assert_eq!(schema::decode(res, &mut object).unwrap(), []);
    schema::apply_defaults(res, &mut object);
    if res.namespaced && meta::namespace(&object).is_empty() {
        meta::set(&mut object, "namespace", "default");
    }
    (res, object)
}

fn lines(errors: &[FieldError]) -> String {
    errors.iter().fold(String::new(), |mut text, error| {
        writeln!(text, "{error}").unwrap();
        text
    })
}

fn check(manifest: &str, wanted: Expect) {
    let (res, object) = object(manifest);
    wanted.assert_eq(&lines(&create(res, &object)));
}

fn check_update(old: &str, new: &str, wanted: Expect) {
    let ((res, old), (_, new)) = (object(old), object(new));
    assert_eq!(lines(&create(res, &old)), "", "the old object is fine");
    wanted.assert_eq(&lines(&update(res, &new, &old)));
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  initContainers:
  - {name: side, image: 'x:1', restartPolicy: Always, readinessProbe: {tcpSocket: {port: 80}}}
  containers:
  - name: web
    image: nginx:1.29
    command: [sh]
    ports: [{name: http, containerPort: 80, hostPort: 8080}, {containerPort: 80, protocol: UDP}]
    env: [{name: A, value: b}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
      {name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}]
    envFrom: [{secretRef: {name: s}}]
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: '1', memory: 128Mi, example.com/gpu: 1}}
    volumeMounts: [{name: data, mountPath: /data}, {name: conf, mountPath: /etc/x, subPath: x}]
    livenessProbe: {httpGet: {path: /, port: http}}
    lifecycle: {preStop: {sleep: {seconds: 5}}}
    securityContext: {runAsUser: 0, capabilities: {add: [NET_ADMIN]}, seccompProfile: {type: RuntimeDefault}}
  volumes:
  - {name: data}
  - {name: conf, configMap: {name: c, items: [{key: a, path: x}]}}
  - name: token
    projected: {sources: [{serviceAccountToken: {path: token}}, {configMap: {name: kube-root-ca.crt}},
      {downwardAPI: {items: [{path: ns, fieldRef: {fieldPath: metadata.namespace}}]}}]}
  tolerations: [{operator: Exists}, {key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 300}]
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway}]
";

#[test]
fn a_good_pod_passes() {
    check(POD, expect![""]);
}

#[test]
fn what_pods_must_have() {
    check(
        "{apiVersion: v1, kind: Pod, metadata: {name: Web_1, labels: {a b: c}}, spec: {}}",
        expect![[r#"
        metadata.name: Invalid value: "Web_1": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.containers: Required value
    "#]],
    );
    check(
        "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Sometimes
  hostNetwork: true
  containers:
  - name: a
    image: ''
    ports: [{containerPort: 70000, hostPort: 1, protocol: ICMP, name: toolongportname16}]
    env: [{name: 'a=b'}, {name: X, valueFrom: {}}]
    envFrom: [{}]
    volumeMounts: [{name: nope, mountPath: /a}, {name: v, mountPath: /a}]
    livenessProbe: {successThreshold: 2, failureThreshold: -1}
    resources: {requests: {cpu: '2', memory: '-1'}, limits: {cpu: '1', foo: 1}}
  - {name: a, image: x}
  initContainers: [{name: A, image: x, livenessProbe: {exec: {command: [a]}}}]
  volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}, {name: v, secret: {}}]
  tolerations: [{key: a, operator: Is}]
",
        expect![[r#"
            spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].name: Duplicate value: "v"
            spec.volumes[1].secret.secretName: Required value
            spec.containers[0].image: Required value
            spec.containers[0].ports[0].name: Invalid value: "toolongportname16": must be no more than 15 bytes
            spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[0].ports[0].hostPort: Invalid value: 1: must match `containerPort` when `hostNetwork` is true
            spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[1].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
            spec.containers[0].volumeMounts[0].name: Not found: "nope"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
            spec.containers[0].resources.limits[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits[foo]: Invalid value: "foo": must be a standard resource for containers
            spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].livenessProbe: Required value: must specify a handler type
            spec.containers[0].livenessProbe.failureThreshold: Invalid value: -1: must be greater than or equal to 0
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[1].name: Duplicate value: "a"
            spec.initContainers[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
            spec.tolerations[0].operator: Unsupported value: "Is": supported values: "Equal", "Exists"
        "#]],
    );
}

#[test]
fn pods_change_little() {
    check_update(POD, &POD.replace("nginx:1.29", "nginx:1.30"), expect![""]);
    check_update(
        POD,
        &POD.replace("[sh]", "[bash]"),
        expect![[r#"
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        -	containers[0].command[0]: "sh"
        +	containers[0].command[0]: "bash"

    "#]],
    );
    check_update(
        POD,
        &POD.replace("{operator: Exists}, ", ""),
        expect![[r#"
        spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
    "#]],
    );
}

#[test]
fn the_examples_pass() {
    let mut seen = 0;
    for folder in ["guestbook", "hello"] {
        for file in std::fs::read_dir(format!("../../examples/{folder}")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            for document in yaml::parse_documents(&std::fs::read_to_string(&path).unwrap()).unwrap()
            {
                let (res, object) = object(&document.to_string());
                assert_eq!(lines(&create(res, &object)), "", "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 2, "{seen}");
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: x}]}
";

#[test]
fn workloads() {
    check(DEPLOYMENT, expect![""]);
    check(
        &DEPLOYMENT.replace("labels: {app: web}", "labels: {app: other}"),
        expect![[r#"
        spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`
    "#]],
    );
    check(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {}}",
        expect![[r#"
        spec.selector: Required value
        spec.template: Required value
    "#]],
    );
    let wrong = DEPLOYMENT.replace(
        "spec: {containers",
        "spec: {restartPolicy: Never, containers",
    );
    check(
        &wrong,
        expect![[r#"
        spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
    "#]],
    );
    check_update(
        DEPLOYMENT,
        &DEPLOYMENT.replace("app: web", "app: w"),
        expect![[r#"
        spec.selector: Invalid value: {"matchLabels":{"app":"w"}}: field is immutable
    "#]],
    );
    let set = DEPLOYMENT.replace("kind: Deployment", "kind: StatefulSet");
    check_update(
        &set,
        &set.replace("  selector", "  serviceName: x\n  selector"),
        expect![[r#"
        spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
    "#]],
    );
    check(
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: '* * * 13 mon-fri', jobTemplate: \
         {spec: {template: {spec: {containers: [{name: a, image: x}]}}}}}}",
        expect![[r#"
            spec.schedule: Invalid value: "* * * 13 mon-fri": end of range (13) above maximum (12): 13
            spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]],
    );
}

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.0.0.1, \
    clusterIPs: [10.0.0.1], selector: {a: b}, ports: [{port: 80, targetPort: http}]}}";

#[test]
fn services_and_endpoints() {
    check(SERVICE, expect![""]);
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: 1s}, spec: {ports: [{port: 0}, {port: 80}]}}",
        expect![[r#"
        metadata.name: Invalid value: "1s": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.ports[0].name: Required value
        spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[1].name: Required value
    "#]],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: ExternalName}}",
        expect![[r#"
        spec.externalName: Required value
    "#]],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: None, clusterIPs: [None]}}",
        expect![""],
    );
    let moved = SERVICE.replace("clusterIP: 10.0.0.1", "clusterIP: 10.0.0.3");
    check_update(
        SERVICE,
        &moved,
        expect![[r#"
        spec.clusterIPs[0]: Invalid value: ["10.0.0.3"]: may not change once set
    "#]],
    );
    let open = SERVICE.replace(
        "selector",
        "externalTrafficPolicy: Cluster, type: NodePort, selector",
    );
    check_update(&open, &open.replace("NodePort", "ClusterIP"), expect![[""]]);
    check_update(
        SERVICE,
        &SERVICE.replace("10.0.0.1", "10.0.0.2"),
        expect![[r#"
        spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set
    "#]],
    );
    check(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s}, addressType: IPv4, endpoints: \
         [{addresses: [10.0.0.1, '::1', 127.0.0.1]}, {addresses: []}], ports: [{name: a, port: 1}, {name: a, port: 2}]}",
        expect![[r#"
            endpoints[0].addresses[1]: Invalid value: "::1": must be a valid IPv4 address
            endpoints[0].addresses[2]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            endpoints[1].addresses: Required value: must contain at least 1 address
            ports[1].name: Duplicate value: "a"
        "#]],
    );
}

#[test]
fn configuration() {
    let map =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, immutable: true, data: {a: b}}";
    check_update(
        map,
        &map.replace("a: b", "a: b, x: ''"),
        expect![[r#"
        data: Forbidden: field is immutable when `immutable` is set
    "#]],
    );
    let big = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, data: {{a/b: {}}}}}",
        "x".repeat(1 << 20 | 1)
    );
    check(
        &big,
        expect![[r#"
        data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        []: Too long: may not be more than 1048576 bytes
    "#]],
    );
    check(
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/tls, data: {tls.crt: ''}}",
        expect![[r#"
        data[tls.key]: Required value
    "#]],
    );
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: s}, type: Opaque}";
    check_update(
        secret,
        &secret.replace("Opaque", "other"),
        expect![[r#"
        type: Invalid value: "other": field is immutable
    "#]],
    );
}

#[test]
fn roles() {
    let binding = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: 'a:b'}, \
        roleRef: {kind: ClusterRole, name: view}, subjects: [{kind: ServiceAccount, name: x, namespace: ns}]}";
    check_update(
        binding,
        &binding.replace("view", "edit"),
        expect![[r#"
        roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"edit"}: cannot change roleRef
    "#]],
    );
    check(
        &binding
            .replace(", namespace: ns", "")
            .replace("ClusterRole,", "Role,"),
        expect![[r#"
        roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
        subjects[0].namespace: Required value
    "#]],
    );
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r}, \
         rules: [{verbs: [], apiGroups: [''], resources: [pods]}, {verbs: [get], nonResourceURLs: [/x]}, {verbs: [get]}]}",
        expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
            rules[2].apiGroups: Required value: resource rules must supply at least one api group
            rules[2].resources: Required value: resource rules must supply at least one resource
        "#]],
    );
}

#[test]
fn metadata() {
    check(
        "{apiVersion: v1, kind: Namespace, metadata: {name: a.b, annotations: {'x y': ''}, finalizers: [mine, orphan], \
         ownerReferences: [{apiVersion: v1, kind: '', name: a, uid: u}]}}",
        expect![[r#"
            metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            metadata.annotations: Invalid value: "x y": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.ownerReferences[0].kind: Invalid value: "": must not be empty
            metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
        "#]],
    );
    let deleted = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}}";
    check_update(
        deleted,
        &deleted.replace("{name: a", "{finalizers: [a/b], name: a"),
        expect![[r#"
        metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"a/b"}
    "#]],
    );
}
