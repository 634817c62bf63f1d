//! Tests of `rbac`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::json;

use super::super::escalation::BindRefusal;
use super::super::testing::World;
use super::super::{defaults, review};
use super::*;

fn role(namespace: &str, name: &str, rules: Value) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRole"
    } else {
        "Role"
    };
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "rules": rules,
    });
    if !namespace.is_empty() {
        role["metadata"]["namespace"] = json!(namespace);
    }
    role
}

fn bind(namespace: &str, name: &str, of: &str, subjects: Value) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    let (role_kind, role) = of.split_once('/').unwrap();
    let mut binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
        "subjects": subjects,
    });
    if !namespace.is_empty() {
        binding["metadata"]["namespace"] = json!(namespace);
    }
    binding
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    User {
        name: name.to_owned(),
        groups,
        ..User::default()
    }
}

/// `verb /path`, or `verb group/resource/subresource namespace/name` where a part may be `-`.
fn ask(authorizer: &Authorizer, user: &User, question: &str) -> (Decision, String) {
    let words: Vec<&str> = question.split(' ').collect();
    let part = |text: &'static str| if text == "-" { "" } else { text };
    let leak = |text: &str| -> &'static str { part(String::leak(text.to_owned())) };
    let mut attributes = Attributes {
        verb: leak(words[0]),
        version: "v1",
        ..Attributes::of(user)
    };
    if words[1].starts_with('/') {
        attributes.path = leak(words[1]);
    } else {
        let of: Vec<&str> = words[1].split('/').collect();
        (
            attributes.group,
            attributes.resource,
            attributes.subresource,
        ) = (leak(of[0]), leak(of[1]), leak(of[2]));
        let (namespace, name) = words[2].split_once('/').unwrap();
        (attributes.namespace, attributes.name) = (leak(namespace), leak(name));
    }
    let decision = authorizer.authorize(&attributes);
    let (Decision::Allow(reason) | Decision::NoOpinion(reason)) = &decision;
    let words = attributes.forbidden(reason).message;
    (decision, words)
}

#[tokio::test]
async fn rules_allow_what_they_name() {
    let people = json!([{"kind": "User", "name": "jane", "apiGroup": GROUP}]);
    let crew = json!([{"kind": "Group", "name": "crew", "apiGroup": GROUP}]);
    let robot = json!([{"kind": "ServiceAccount", "name": "robot", "namespace": "bots"}]);
    let local_robot = json!([{"kind": "ServiceAccount", "name": "robot"}]);
    let world = World::new(&[
        role("", "reader", json!([
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
            {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]},
        ])),
        role("dev", "writer", json!([
            {"verbs": ["update"], "apiGroups": ["*"], "resources": ["configmaps"], "resourceNames": ["one", "two"]},
            {"verbs": ["create"], "apiGroups": [""], "resources": ["*"]},
        ])),
        role("", "broken", json!([{"verbs": "get", "apiGroups": 7}, null])),
        bind("", "readers", "ClusterRole/reader", people.clone()),
        bind("dev", "writers", "Role/writer", crew),
        bind("dev", "robots", "Role/writer", local_robot),
        bind("ops", "robots", "ClusterRole/reader", robot),
        bind("ops", "lost", "Role/writer", people.clone()),
        bind("", "broken", "ClusterRole/broken", people),
    ])
    .await;
    let authorizer = Authorizer::new(&world.cache);
    let jane = user("jane", &["system:authenticated"]);
    let tom = user("tom", &["crew"]);
    let bot = user("system:serviceaccount:bots:robot", &[]);
    let dev_bot = user("system:serviceaccount:dev:robot", &[]);
    let master = user("x", &["system:masters"]);
    let node = user("system:node:a", &["system:nodes"]);
    let half_node = user("a", &["system:nodes"]);
    let table = [
        (&jane, "get -/pods/- dev/web", true),
        (&jane, "list -/pods/- -/-", true),
        (&jane, "get -/pods/log dev/web", true),
        (&jane, "get -/pods/exec dev/web", false),
        (&jane, "watch -/pods/- dev/-", false),
        (&jane, "get apps/pods/- dev/web", false),
        (&jane, "patch apps/deployments/scale dev/web", true),
        (&jane, "patch apps/deployments/- dev/web", false),
        (&jane, "get /metrics", true),
        (&jane, "get /metrics/x", false),
        (&jane, "get /logs/a/b", true),
        (&jane, "post /metrics", false),
        (&tom, "update -/configmaps/- dev/one", true),
        (&tom, "update -/configmaps/- dev/three", false),
        (&tom, "update -/configmaps/- ops/one", false),
        (&tom, "create -/pods/exec dev/web", true),
        (&tom, "create apps/deployments/- dev/-", false),
        (&tom, "get -/pods/- dev/web", false),
        (&bot, "get -/pods/- ops/web", true),
        (&bot, "get -/pods/- -/-", false),
        (&bot, "create -/pods/- dev/-", false),
        (&dev_bot, "create -/pods/- dev/-", true),
        (&master, "escalate x/y/z a/b", true),
        (&node, "patch -/nodes/status -/a", true),
        (&node, "list -/deployments/- -/-", false),
        (&half_node, "patch -/nodes/status -/a", false),
    ];
    for (user, question, expected) in table {
        let (decision, words) = ask(&authorizer, user, question);
        assert_eq!(
            decision.is_allowed(),
            expected,
            "{}: {question}: {words}",
            user.name
        );
    }

    let words = |user, question| ask(&authorizer, user, question).1;
    assert_eq!(
        words(&tom, "list -/pods/- default/-"),
        r#"pods is forbidden: User "tom" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    assert_eq!(
        words(&tom, "get apps/deployments/scale -/web"),
        r#"deployments.apps "web" is forbidden: User "tom" cannot get resource "deployments/scale" in API group "apps" at the cluster scope"#
    );
    assert_eq!(
        words(&tom, "get /metrics"),
        r#"forbidden: User "tom" cannot get path "/metrics""#
    );
    assert_eq!(
        words(&jane, "delete -/pods/- ops/web"),
        r#"pods "web" is forbidden: User "jane" cannot delete resource "pods" in API group "" in the namespace "ops": RBAC: role.rbac.authorization.k8s.io "writer" not found"#
    );
    let allowed = [
        (
            &jane,
            "get -/pods/- a/b",
            r#"RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to User "jane""#,
        ),
        (
            &dev_bot,
            "create -/pods/- dev/-",
            r#"RBAC: allowed by RoleBinding "robots/dev" of Role "writer" to ServiceAccount "robot/dev""#,
        ),
    ];
    for (user, question, reason) in allowed {
        assert_eq!(
            ask(&authorizer, user, question).0,
            Decision::Allow(reason.to_owned())
        );
    }
}

#[tokio::test]
async fn a_change_counts_at_once_and_aggregation_follows_labels() {
    let world = World::new(&defaults::objects()).await;
    let authorizer = Authorizer::new(&world.cache);
    let jane = user("jane", &["system:authenticated"]);
    let may = |question| ask(&authorizer, &jane, question).0.is_allowed();
    assert!(
        may("get /version") && may("create authorization.k8s.io/selfsubjectaccessreviews/- -/-")
    );
    assert!(!may("list -/pods/- dev/-"));
    let binding = bind(
        "dev",
        "jane",
        "ClusterRole/admin",
        json!([{"kind": "User", "name": "jane"}]),
    );
    world.put(&binding).await;
    assert!(may("list -/pods/- dev/-") && may("create -/secrets/- dev/-"));
    assert!(may("create rbac.authorization.k8s.io/roles/- dev/-"));
    assert!(!may("list -/pods/- ops/-") && !may("list example.com/boats/- dev/-"));

    // What is labelled for `view` reaches `edit` and through it `admin`.
    let mut boats = role(
        "",
        "boats",
        json!([{"verbs": ["list"], "apiGroups": ["example.com"], "resources": ["boats"]}]),
    );
    boats["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    world.put(&boats).await;
    assert!(may("list example.com/boats/- dev/-"));
    boats["metadata"]["labels"] = json!({});
    world.put(&boats).await;
    assert!(!may("list example.com/boats/- dev/-"));
    world.delete(&binding).await;
    assert!(!may("list -/pods/- dev/-"));

    // Roles that gather each other end.
    let circle = |name: &str, gathers: &str| {
        let mut role = role("", name, json!([]));
        role["metadata"]["labels"] = json!({ name: "true" });
        role["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {gathers: "true"}}]});
        role
    };
    world.put(&circle("one", "two")).await;
    world.put(&circle("two", "one")).await;
    assert!(!may("list -/pods/- dev/-"));
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_have() {
    let mut objects = defaults::objects();
    objects.push(bind(
        "dev",
        "jane",
        "ClusterRole/edit",
        json!([{"kind": "User", "name": "jane"}]),
    ));
    objects.push(role("dev", "grants", json!([
        {"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["admin"]},
    ])));
    objects.push(bind(
        "dev",
        "grants",
        "Role/grants",
        json!([{"kind": "User", "name": "jane"}]),
    ));
    objects.push(role(
        "",
        "escalates",
        json!([
            {"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["clusterroles"]},
        ]),
    ));
    objects.push(bind(
        "",
        "escalates",
        "ClusterRole/escalates",
        json!([{"kind": "User", "name": "root"}]),
    ));
    let world = World::new(&objects).await;
    let authorizer = Authorizer::new(&world.cache);
    let (jane, root) = (user("jane", &["a", "b"]), user("root", &[]));
    let master = user("m", &["system:masters"]);

    let has = role(
        "dev",
        "r",
        json!([{"verbs": ["create", "delete"], "apiGroups": ["", "apps"], "resources": ["deployments"]}]),
    );
    assert!(
        authorizer.may_write_role(&jane, "dev", &has).is_err(),
        "core has no deployments"
    );
    let has = role(
        "dev",
        "r",
        json!([
            {"verbs": ["create", "delete"], "apiGroups": ["apps"], "resources": ["deployments", "statefulsets/scale"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["only"]},
        ]),
    );
    assert_eq!(authorizer.may_write_role(&jane, "dev", &has), Ok(()));
    assert!(
        authorizer.may_write_role(&jane, "ops", &has).is_err(),
        "another namespace"
    );
    let more = role(
        "dev",
        "r",
        json!([
            {"verbs": ["get", "list", "bind"], "apiGroups": [""], "resources": ["pods", "nodes"]},
            {"verbs": ["*"], "nonResourceURLs": ["/x"]},
        ]),
    );
    assert_eq!(
        authorizer.may_write_role(&jane, "dev", &more).unwrap_err(),
        "user \"jane\" (groups=[\"a\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\" \"bind\"]}\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"bind\"]}\n\
         {NonResourceURLs:[\"/x\"], Verbs:[\"*\"]}"
    );
    assert_eq!(authorizer.may_write_role(&master, "dev", &more), Ok(()));
    let cluster = role("", "r", more["rules"].clone());
    assert_eq!(
        authorizer.may_write_role(&root, "", &cluster),
        Ok(()),
        "may escalate"
    );
    let huge: Vec<String> = (0..300).map(|n| format!("r{n}")).collect();
    let huge = role(
        "dev",
        "r",
        json!([{"verbs": huge, "apiGroups": huge, "resources": huge}]),
    );
    assert!(authorizer.may_write_role(&jane, "dev", &huge).is_err());
    let mut gathers = role("", "r", json!([]));
    gathers["aggregationRule"] = json!({"clusterRoleSelectors": [{}]});
    let words = authorizer.may_write_role(&jane, "", &gathers).unwrap_err();
    assert!(words.contains("aggregationRule"), "{words}");

    let to = json!([{"kind": "User", "name": "tom"}]);
    let binds = |of: &str| authorizer.may_bind(&jane, "dev", &bind("dev", "b", of, to.clone()));
    assert_eq!(binds("ClusterRole/admin"), Ok(()), "may bind");
    assert_eq!(binds("ClusterRole/view"), Ok(()), "has it all");
    assert!(matches!(
        binds("ClusterRole/cluster-admin"),
        Err(BindRefusal::Escalation(_))
    ));
    let none = binds("Role/none").unwrap_err();
    assert_eq!(
        none.to_string(),
        r#"role.rbac.authorization.k8s.io "none" not found"#
    );
    let everywhere = bind("", "b", "ClusterRole/view", to.clone());
    assert!(authorizer.may_bind(&jane, "", &everywhere).is_err());
}

#[tokio::test]
async fn reviews_answer_like_requests() {
    let mut objects = defaults::objects();
    objects.push(bind(
        "dev",
        "jane",
        "ClusterRole/view",
        json!([{"kind": "User", "name": "jane"}]),
    ));
    let world = World::new(&objects).await;
    let authorizer = Authorizer::new(&world.cache);
    let jane = user("jane", &["system:authenticated"]);
    let list = json!({"verb": "list", "resource": "pods", "namespace": "dev"});
    let post = |spec: Value| json!({"kind": "R", "metadata": {}, "spec": spec});
    let status = |answer: Result<Value, api::status::ApiError>| answer.unwrap()["status"].clone();
    let reason = r#"RBAC: allowed by RoleBinding "jane/dev" of ClusterRole "view" to User "jane""#;

    let own = review::self_subject_access(
        &authorizer,
        &jane,
        post(json!({"resourceAttributes": list})),
    );
    assert_eq!(status(own), json!({"allowed": true, "reason": reason}));
    let path = post(json!({"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}));
    assert_eq!(
        status(review::self_subject_access(&authorizer, &jane, path)),
        json!({"allowed": false})
    );
    let theirs =
        post(json!({"user": "tom", "groups": ["system:masters"], "resourceAttributes": list}));
    assert_eq!(
        status(review::subject_access(&authorizer, theirs)),
        json!({"allowed": true})
    );
    let local = post(json!({"user": "jane", "resourceAttributes": list}));
    let here = review::local_subject_access(&authorizer, "dev", local.clone());
    assert_eq!(status(here)["allowed"], true);

    let refused = [
        review::local_subject_access(&authorizer, "ops", local),
        review::subject_access(&authorizer, post(json!({"resourceAttributes": list}))),
        review::subject_access(&authorizer, post(json!({"user": "x"}))),
        review::subject_access(&authorizer, Value::Null),
    ];
    for answer in refused {
        assert_eq!(answer.unwrap_err().code, 422);
    }

    let rules = review::self_subject_rules(&authorizer, &jane, post(json!({"namespace": "dev"})));
    let rules = status(rules);
    assert_eq!(rules["incomplete"], false);
    let named = |list: &Value, field: &str, wanted: &str| {
        list.as_array()
            .unwrap()
            .iter()
            .any(|rule| rule[field].as_array().unwrap().contains(&json!(wanted)))
    };
    assert!(named(&rules["resourceRules"], "resources", "pods"));
    assert!(named(
        &rules["nonResourceRules"],
        "nonResourceURLs",
        "/version"
    ));
    let nowhere = review::self_subject_rules(&authorizer, &jane, post(json!({})));
    assert_eq!(nowhere.unwrap_err().code, 400);
    assert_eq!(
        review::self_subject(&jane, Value::Null)["status"]["userInfo"],
        json!({"username": "jane", "groups": ["system:authenticated"]})
    );
}
