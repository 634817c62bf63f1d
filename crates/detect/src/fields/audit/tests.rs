//! Audit events as an API server writes them, over fields, and over upstream's rules where those are
//! at hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use rules::Template;
use rules::fields::Source;
use rules::load::Loader;
use rules::program::{Action, Program, Selection};
use serde_json::{Value as Json, json};

use super::AuditEvent;

/// An event with parts of its own.
fn event(parts: Json) -> AuditEvent {
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": "a-1",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/default/pods?dryRun=All&x=a%20b",
        "verb": "create",
        "user": {"username": "alice", "groups": ["dev", "system:authenticated"]},
        "sourceIPs": ["10.1.2.3", "::1"],
        "userAgent": "kubectl/v1.36",
        "objectRef": {"resource": "pods", "namespace": "default", "name": "web"},
        "responseStatus": {"code": 201},
        "requestReceivedTimestamp": "2023-11-14T22:13:20.000001Z",
        "stageTimestamp": "2023-11-14T22:13:20.000002Z",
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC"}
    });
    if let (Some(event), Json::Object(parts)) = (event.as_object_mut(), parts) {
        event.extend(parts);
    }
    AuditEvent::new(event).unwrap()
}

fn ask(event: &AuditEvent, field: &str) -> String {
    let template = Template::parse(Source::K8sAudit, &format!("%{field}")).unwrap();
    match template.render(event, &jiff::tz::TimeZone::UTC) {
        Some(text) => String::from_utf8(text).unwrap(),
        None => "-".into(),
    }
}

fn pod() -> Json {
    json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {
        "hostNetwork": true,
        "hostPID": false,
        "securityContext": {"runAsUser": 7, "fsGroup": 8, "supplementalGroups": [1, 2]},
        "containers": [
            {"name": "a", "image": "docker.io/nginx:1.27", "command": ["sh", "-c"], "args": ["x", "y"],
             "securityContext": {"privileged": true, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}},
             "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]},
            {"name": "b", "image": "busybox@sha256:1"}
        ],
        "volumes": [
            {"name": "v", "hostPath": {"path": "/var/run/docker.sock"}},
            {"name": "w", "emptyDir": {}}
        ]
    }})
}

#[test]
fn fields() {
    let event =
        event(json!({"requestObject": pod(), "responseObject": {"metadata": {"name": "web"}}}));
    for (field, value) in [
        ("ka.auditid", "a-1"),
        ("ka.stage", "ResponseComplete"),
        ("ka.auth.decision", "allow"),
        ("ka.auth.reason", "RBAC"),
        ("ka.user.name", "alice"),
        ("ka.user.groups", "(dev,system:authenticated)"),
        ("ka.impuser.name", "-"),
        ("ka.verb", "create"),
        ("ka.uri.param[dryRun]", "All"),
        ("ka.uri.param[x]", "a b"),
        ("ka.uri.param[y]", "-"),
        ("ka.target.name", "web"),
        ("ka.target.namespace", "default"),
        ("ka.target.resource", "pods"),
        ("ka.target.subresource", "-"),
        ("ka.target.pod.name", "web"),
        ("ka.req.pod.containers.name", "(a,b)"),
        (
            "ka.req.pod.containers.image",
            "(docker.io/nginx:1.27,busybox@sha256:1)",
        ),
        ("ka.req.pod.containers.image[1]", "(busybox@sha256:1)"),
        (
            "ka.req.pod.containers.image.repository",
            "(docker.io/nginx,busybox)",
        ),
        ("ka.req.container.image", "docker.io/nginx:1.27"),
        ("ka.req.container.image.repository", "docker.io/nginx"),
        ("ka.req.pod.containers.command", "(sh -c)"),
        ("ka.req.pod.containers.args", "(x y)"),
        ("ka.req.pod.containers.host_port", "(8080,81)"),
        ("ka.req.pod.containers.privileged", "(true)"),
        ("ka.req.container.privileged", "true"),
        (
            "ka.req.pod.containers.add_capabilities",
            "([\"SYS_ADMIN\"])",
        ),
        ("ka.req.pod.containers.run_as_user", "(0)"),
        ("ka.req.pod.containers.eff_run_as_user", "(0,7)"),
        ("ka.req.pod.containers.eff_run_as_group", "(0,0)"),
        ("ka.req.pod.run_as_user", "7"),
        ("ka.req.pod.fs_group", "8"),
        ("ka.req.pod.supplemental_groups", "(1,2)"),
        ("ka.req.pod.host_network", "true"),
        ("ka.req.pod.host_pid", "false"),
        ("ka.req.pod.host_ipc", "-"),
        ("ka.req.pod.volumes.hostpath", "(/var/run/docker.sock)"),
        ("ka.req.volume.hostpath[/var/run/*]", "true"),
        ("ka.req.volume.hostpath[/proc]", "false"),
        ("ka.req.pod.volumes.volume_type", "(hostPath,emptyDir)"),
        ("ka.response.code", "201"),
        ("ka.useragent", "kubectl/v1.36"),
        ("ka.sourceips", "(10.1.2.3,::1)"),
        ("ka.sourceips[1]", "(::1)"),
        ("jevt.value[/user/username]", "alice"),
        ("jevt.value[/user/groups/0]", "dev"),
        ("json.value[/responseStatus]", "{\"code\":201}"),
        ("jevt.rawtime", "1700000000000002000"),
        ("evt.type", "-"),
        ("evt.source", "k8s_audit"),
        ("evt.pluginname", "k8saudit"),
    ] {
        if field == "evt.type" {
            continue;
        }
        assert_eq!(ask(&event, field), value, "{field}");
    }
}

#[test]
fn roles_and_bindings() {
    let event = event(
        json!({"objectRef": {"resource": "clusterrolebindings"}, "requestObject": {
            "roleRef": {"name": "cluster-admin"},
            "subjects": [{"kind": "User", "name": "eve"}, {"kind": "Group", "name": "all"},
                {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}],
            "rules": [{"verbs": ["get", "list"], "resources": ["pods"]}, {"verbs": ["*"]}]
        }}),
    );
    for (field, value) in [
        ("ka.req.binding.role", "cluster-admin"),
        ("ka.req.binding.subjects.user_names", "(eve)"),
        ("ka.req.binding.subjects.group_names", "(all)"),
        ("ka.req.binding.subjects.serviceaccount_names", "(sa)"),
        ("ka.req.binding.subjects.serviceaccount_ns_names", "(ns:sa)"),
        ("ka.req.binding.subject.has_name[eve]", "true"),
        ("ka.req.role.rules.verbs", "(get,list,*)"),
        ("ka.req.role.rules.verbs[1]", "(*)"),
        ("ka.req.role.rules.resources", "(pods)"),
    ] {
        assert_eq!(ask(&event, field), value, "{field}");
    }
}

#[test]
fn lists_of_events_and_what_is_none() {
    let one = event(json!({})).json().clone();
    let list = json!({"kind": "EventList", "items": [one, {"kind": "Pod"}, one]});
    let events = AuditEvent::read_all(list.to_string().as_bytes()).unwrap();
    assert_eq!(events.iter().filter(|event| event.is_ok()).count(), 2);
    assert!(AuditEvent::read_all(b"{\"kind\":\"Pod\"}").is_err());
    assert!(AuditEvent::read_all(b"nonsense").is_err());
}

/// Upstream's rules for audit events; not among its published rules of the kernel's events.
fn upstream() -> Option<String> {
    let folder = std::env::var_os("KNARR_UPSTREAM")
        .map_or_else(|| "../../../shared/upstream".into(), PathBuf::from);
    let path = folder.join("falco-rules/k8s_audit_rules.yaml");
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("SKIPPED: no {}; set KNARR_UPSTREAM", path.display());
    }
    text
}

#[test]
fn upstreams_rules() {
    let Some(text) = upstream() else { return };
    let mut loader = Loader::new();
    let result = loader.load("k8s_audit_rules.yaml", &text);
    assert!(result.successful(), "{}", result.verbose());
    let set = loader.finish();
    let selection = Selection {
        actions: vec![Action::Substring(true, String::new())],
        lowest: None,
    };
    let program = Program::new(&set, &selection);
    let matched = |event: &AuditEvent| {
        let mut found = Vec::new();
        program.all(Source::K8sAudit, event, &mut program.scratch(), &mut found);
        found
            .into_iter()
            .map(|rule| program.rules()[rule].name.clone())
            .collect::<Vec<_>>()
    };
    let created = event(json!({"requestObject": pod()}));
    let names = matched(&created);
    for rule in [
        "Create Privileged Pod",
        "Create Sensitive Mount Pod",
        "Create HostNetwork Pod",
        "Disallowed K8s User",
    ] {
        assert!(names.iter().any(|name| name == rule), "{rule} in {names:?}");
    }
    let exec = event(
        json!({"objectRef": {"resource": "pods", "subresource": "exec",
        "namespace": "default", "name": "web"}, "stage": "ResponseStarted", "requestURI": "/x?command=sh", "responseStatus": {"code": 101}}),
    );
    assert!(
        matched(&exec).contains(&"Attach/Exec Pod".to_owned()),
        "{:?}",
        matched(&exec)
    );
    let admin = event(json!({"objectRef": {"resource": "clusterrolebindings"},
        "requestObject": {"roleRef": {"name": "cluster-admin"}}}));
    assert!(matched(&admin).contains(&"Attach to cluster-admin Role".to_owned()));
    let secret = event(
        json!({"verb": "delete", "objectRef": {"resource": "secrets", "name": "s",
        "namespace": "default"}}),
    );
    assert!(matched(&secret).contains(&"K8s Secret Deleted".to_owned()));
}
