//! Tests of `node`: what a node may read, by which objects there are.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};

use super::super::rbac::{Authorizer, Decision};
use super::super::selectors::Selectors;
use super::super::testing::World;
use super::super::{defaults, review};
use super::*;

const NO_RELATION: &str = "no relationship found between node 'n1' and this object";

fn node(name: &str) -> User {
    User {
        name: format!("system:node:{name}"),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    }
}

fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    let version = match kind {
        "VolumeAttachment" => "storage.k8s.io/v1",
        "ResourceSlice" => "resource.k8s.io/v1",
        _ => "v1",
    };
    let mut metadata = json!({"name": name, "uid": name});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

/// A pod that names something in every way there is.
fn rich_pod() -> Value {
    let named = |name: &str| json!({"name": name});
    let mut pod = object(
        "Pod",
        "ns",
        "rich",
        json!({
            "nodeName": "n1",
            "serviceAccountName": "account",
            "imagePullSecrets": [named("pull")],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": named("init-from")}]}],
            "containers": [{"name": "c",
                "envFrom": [{"secretRef": named("from")}, {"configMapRef": named("map-from")}],
                "env": [{"name": "A", "value": "x"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}},
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "map-env", "key": "k"}}}]}],
            "ephemeralContainers": [{"name": "e", "env": [
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "debug", "key": "k"}}}]}],
            "volumes": [
                {"name": "none", "emptyDir": {}},
                {"name": "a", "secret": {"secretName": "volume"}},
                {"name": "b", "configMap": named("map-volume")},
                {"name": "c", "projected": {"sources": [{"secret": named("projected")},
                    {"configMap": named("map-projected")}, {"serviceAccountToken": {"path": "t"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
                {"name": "f", "azureFile": {"secretName": "azure", "shareName": "s"}},
                {"name": "g", "cephfs": {"secretRef": named("ceph")}},
                {"name": "h", "cinder": {"secretRef": named("cinder")}},
                {"name": "i", "flexVolume": {"secretRef": named("flex")}},
                {"name": "j", "rbd": {"secretRef": named("rbd")}},
                {"name": "k", "scaleIO": {"secretRef": named("scale")}},
                {"name": "l", "iscsi": {"secretRef": named("iscsi")}},
                {"name": "m", "storageos": {"secretRef": named("storageos")}},
                {"name": "n", "csi": {"driver": "d", "nodePublishSecretRef": named("csi")}},
            ],
            "resourceClaims": [{"name": "x", "resourceClaimName": "device"},
                {"name": "y", "resourceClaimTemplateName": "t"},
                {"name": "z", "resourceClaimTemplateName": "t"}],
        }),
    );
    pod["status"] = json!({
        "resourceClaimStatuses": [{"name": "y", "resourceClaimName": "made"}, {"name": "z"}],
        "extendedResourceClaimStatus": {"resourceClaimName": "extended"},
    });
    pod
}

/// `verb group/resource/subresource namespace/name [field selector]`, with `-` for nothing; the
/// reason where it is refused.
fn ask(authorizer: &Authorizer, user: &User, question: &str) -> Result<(), String> {
    let words: Vec<&str> = question.split(' ').collect();
    let part = |text: &'static str| if text == "-" { "" } else { text };
    let leak = |text: &str| -> &'static str { part(String::leak(text.to_owned())) };
    let selectors = Selectors::parse(words.get(3).copied().unwrap_or_default(), "");
    let of: Vec<&str> = words[1].split('/').collect();
    let (namespace, name) = words[2].split_once('/').unwrap();
    let attributes = Attributes {
        verb: leak(words[0]),
        group: leak(of[0]),
        version: "v1",
        resource: leak(of[1]),
        subresource: leak(of[2]),
        namespace: leak(namespace),
        name: leak(name),
        selectors: &selectors,
        ..Attributes::of(user)
    };
    match authorizer.authorize(&attributes) {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(reason),
    }
}

#[tokio::test]
async fn a_node_reads_what_its_pods_name_and_nothing_else() {
    let world = World::new(&[rich_pod()]).await;
    let authorizer = Authorizer::new(&world.cache);
    let (n1, n2) = (node("n1"), node("n2"));
    let secrets = [
        "pull",
        "init-from",
        "from",
        "env",
        "debug",
        "volume",
        "projected",
        "azure",
        "ceph",
        "cinder",
        "flex",
        "rbd",
        "scale",
        "iscsi",
        "storageos",
        "csi",
    ];
    let maps = ["map-from", "map-env", "map-volume", "map-projected"];
    let of = |resource: &str, names: &[&str]| -> Vec<String> {
        names
            .iter()
            .map(|name| format!("get {resource} ns/{name}"))
            .collect()
    };
    let questions = [
        of("-/secrets/-", &secrets),
        of("-/configmaps/-", &maps),
        of("-/persistentvolumeclaims/-", &["claim", "rich-scratch"]),
        of(
            "resource.k8s.io/resourceclaims/-",
            &["device", "made", "extended"],
        ),
        of("-/serviceaccounts/-", &["account"]),
        of("-/pods/-", &["rich"]),
    ]
    .concat();
    for question in &questions {
        assert_eq!(ask(&authorizer, &n1, question), Ok(()), "{question}");
        let elsewhere = question.replace(" ns/", " other/");
        let refused = ask(&authorizer, &n1, &elsewhere).unwrap_err();
        assert_eq!(refused, NO_RELATION, "{elsewhere}");
        let refused = ask(&authorizer, &n2, question).unwrap_err();
        assert_eq!(refused, NO_RELATION.replace("n1", "n2"), "{question}");
    }
    for question in [
        "get -/secrets/- ns/account",
        "get -/configmaps/- ns/pull",
        "get -/persistentvolumeclaims/- ns/rich-none",
        "get resource.k8s.io/resourceclaims/- ns/t",
    ] {
        assert_eq!(ask(&authorizer, &n1, question).unwrap_err(), NO_RELATION);
    }
    world.delete(&rich_pod()).await;
    for question in &questions {
        assert_eq!(ask(&authorizer, &n1, question).unwrap_err(), NO_RELATION);
    }
}

#[tokio::test]
async fn each_kind_has_rules_of_its_own() {
    let world = World::new(&[
        object(
            "Pod",
            "ns",
            "p",
            json!({"nodeName": "n1", "serviceAccountName": "sa", "volumes": [
                {"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "s", "secret": {"secretName": "s"}}]}),
        ),
        object(
            "Pod",
            "ns",
            "unscheduled",
            json!({"serviceAccountName": "b"}),
        ),
        object("VolumeAttachment", "", "va", json!({"nodeName": "n1"})),
        object("ResourceSlice", "", "slice", json!({"nodeName": "n1"})),
        object("ResourceSlice", "", "network", json!({"allNodes": true})),
    ])
    .await;
    let authorizer = Authorizer::new(&world.cache);
    let n1 = node("n1");
    let read = "can only read resources of this type";
    let get = "can only get individual resources of this type";
    let keep_lease = "can only get, create, update, patch, or delete a node lease";
    let own_lease = "can only access node lease with the same name as the requesting node";
    let tokens = "can only create tokens for individual service accounts";
    let slices = "can only list/watch/deletecollection resourceslices with nodeName field selector";
    let pods = "can only list/watch pods with spec.nodeName field selector";
    let table = [
        ("get -/secrets/- ns/s", "ok"),
        ("list -/secrets/- ns/s", "ok"),
        ("watch -/secrets/- ns/s", "ok"),
        ("list -/secrets/- ns/-", "No Object name found"),
        (
            "list -/secrets/- -/s",
            "can only read namespaced object of this type",
        ),
        ("update -/secrets/- ns/s", read),
        ("create -/secrets/- ns/-", read),
        ("get -/secrets/x ns/s", "cannot read subresource"),
        ("delete -/configmaps/- ns/s", read),
        ("list -/persistentvolumeclaims/- ns/c", get),
        ("get -/persistentvolumeclaims/- ns/c", "ok"),
        ("update -/persistentvolumeclaims/status ns/c", "ok"),
        (
            "patch -/persistentvolumeclaims/status ns/other",
            NO_RELATION,
        ),
        (
            "get -/persistentvolumeclaims/status ns/c",
            "can only get/update/patch this type",
        ),
        (
            "get -/persistentvolumeclaims/x ns/c",
            "cannot get subresource",
        ),
        ("get -/persistentvolumes/- -/pv", NO_RELATION),
        ("get storage.k8s.io/volumeattachments/- -/va", "ok"),
        (
            "get storage.k8s.io/volumeattachments/- -/other",
            NO_RELATION,
        ),
        ("list storage.k8s.io/volumeattachments/- -/-", get),
        ("create -/serviceaccounts/token ns/sa", "ok"),
        ("create -/serviceaccounts/token ns/b", NO_RELATION),
        ("create -/serviceaccounts/token ns/-", tokens),
        (
            "create -/serviceaccounts/other ns/sa",
            "can only create token subresource of serviceaccount",
        ),
        ("get -/serviceaccounts/token ns/sa", tokens),
        ("get -/serviceaccounts/- ns/sa", "ok"),
        ("list -/serviceaccounts/- ns/sa", tokens),
        ("get coordination.k8s.io/leases/- kube-node-lease/n1", "ok"),
        (
            "create coordination.k8s.io/leases/- kube-node-lease/-",
            "ok",
        ),
        (
            "list coordination.k8s.io/leases/- kube-node-lease/-",
            keep_lease,
        ),
        (
            "update coordination.k8s.io/leases/- kube-node-lease/n2",
            own_lease,
        ),
        (
            "get coordination.k8s.io/leases/- kube-system/n1",
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        ("patch storage.k8s.io/csinodes/- -/n1", "ok"),
        (
            "patch storage.k8s.io/csinodes/- -/n2",
            "can only access CSINode with the same name as the requesting node",
        ),
        (
            "list storage.k8s.io/csinodes/- -/-",
            "can only get, create, update, patch, or delete a CSINode",
        ),
        (
            "get storage.k8s.io/csinodes/x -/n1",
            "cannot authorize CSINode subresources",
        ),
        ("get resource.k8s.io/resourceslices/- -/slice", "ok"),
        (
            "delete resource.k8s.io/resourceslices/- -/network",
            NO_RELATION,
        ),
        ("create resource.k8s.io/resourceslices/- -/-", "ok"),
        (
            "list resource.k8s.io/resourceslices/- -/- spec.nodeName=n1",
            "ok",
        ),
        (
            "deletecollection resource.k8s.io/resourceslices/- -/- spec.nodeName==n1,spec.driver=d",
            "ok",
        ),
        (
            "list resource.k8s.io/resourceslices/- -/- spec.nodeName=n2",
            slices,
        ),
        (
            "list resource.k8s.io/resourceslices/- -/- spec.nodeName!=n1",
            slices,
        ),
        (
            "get resource.k8s.io/resourceslices/x -/slice",
            "cannot authorize ResourceSlice subresources",
        ),
        (
            "bind resource.k8s.io/resourceslices/- -/slice",
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
        ),
        ("get -/nodes/- -/n1", "ok"),
        ("watch -/nodes/- -/n1", "ok"),
        (
            "list -/nodes/- -/-",
            "node 'n1' cannot read all nodes, only its own Node object",
        ),
        (
            "get -/nodes/- -/n2",
            "node 'n1' cannot read 'n2', only its own Node object",
        ),
        ("create -/nodes/- -/-", "ok"),
        ("patch -/nodes/status -/n1", "ok"),
        ("get -/nodes/proxy -/n1", ""),
        ("delete -/nodes/- -/n1", ""),
        ("get -/pods/- ns/p", "ok"),
        ("get -/pods/- ns/unscheduled", NO_RELATION),
        ("get -/pods/log ns/p", ""),
        ("list -/pods/- -/- spec.nodeName=n1", "ok"),
        (
            "watch -/pods/- -/- status.phase=Running,spec.nodeName=n1",
            "ok",
        ),
        ("watch -/pods/- ns/p", "ok"),
        ("list -/pods/- -/-", pods),
        ("list -/pods/- -/- spec.nodeName=n2", pods),
        ("watch -/pods/- ns/unscheduled", NO_RELATION),
        ("create -/pods/- ns/-", "ok"),
        ("delete -/pods/- ns/p", "ok"),
        ("update -/pods/- ns/p", ""),
        ("deletecollection -/pods/- ns/-", ""),
        ("patch -/pods/status ns/p", "ok"),
        ("create -/pods/eviction ns/p", "ok"),
        ("create -/pods/exec ns/p", ""),
        (
            "create certificates.k8s.io/podcertificaterequests/- ns/-",
            "",
        ),
        (
            "create certificates.k8s.io/certificatesigningrequests/- -/-",
            "ok",
        ),
        ("list -/services/- -/-", "ok"),
        ("update -/services/- ns/s", ""),
        ("list apps/deployments/- -/-", ""),
    ];
    for (question, wanted) in table {
        let answer = match ask(&authorizer, &n1, question) {
            Ok(()) => "ok".to_owned(),
            Err(reason) => reason,
        };
        assert_eq!(answer, wanted, "{question}");
    }
    let nobody = node("");
    let refused = ask(&authorizer, &nobody, "list -/services/- -/-").unwrap_err();
    assert_eq!(refused, r#"unknown node for user "system:node:""#);
    let mut stranger = node("n1");
    stranger.groups.clear();
    assert_eq!(
        ask(&authorizer, &stranger, "get -/nodes/- -/n1"),
        Err(String::new())
    );
}

#[tokio::test]
async fn volumes_lead_on_to_their_secrets() {
    let secret = |namespace: &str, name: &str| json!({"namespace": namespace, "name": name});
    let claim = secret("ns", "claim");
    let volume = json!({"claimRef": claim, "csi": {"driver": "d",
        "controllerPublishSecretRef": secret("csi", "controller"),
        "nodePublishSecretRef": secret("csi", "publish"),
        "nodeStageSecretRef": secret("csi", "stage"),
        "nodeExpandSecretRef": secret("csi", "expand")}});
    let pod = |name: &str, node: &str| {
        object(
            "Pod",
            "ns",
            name,
            json!({"nodeName": node, "volumes": [
                {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}}]}),
        )
    };
    let world = World::new(&[
        object("PersistentVolume", "", "pv", volume),
        object(
            "PersistentVolume",
            "",
            "ceph",
            json!({"claimRef": claim, "cephfs": {"secretRef": {"name": "here"}}}),
        ),
        object(
            "PersistentVolume",
            "",
            "free",
            json!({"azureFile": {"secretName": "free", "secretNamespace": "ns"}}),
        ),
    ])
    .await;
    let authorizer = Authorizer::new(&world.cache);
    let may = |who: &str, question: &str| ask(&authorizer, &node(who), question).is_ok();
    assert!(!may("n1", "get -/persistentvolumes/- -/pv"));
    world.put(&pod("a", "n1")).await;
    world.put(&pod("b", "n1")).await;
    world.put(&pod("c", "n2")).await;
    for question in [
        "get -/persistentvolumes/- -/pv",
        "get -/persistentvolumes/- -/ceph",
        "get -/secrets/- csi/publish",
        "get -/secrets/- csi/stage",
        "get -/secrets/- csi/expand",
        "get -/secrets/- ns/here",
    ] {
        assert!(may("n1", question) && may("n2", question), "{question}");
        assert!(!may("n3", question), "{question}");
    }
    for question in [
        "get -/secrets/- csi/controller",
        "get -/secrets/- ns/free",
        "get -/persistentvolumes/- -/free",
    ] {
        assert!(!may("n1", question), "{question}");
    }
    // As long as one pod needs it.
    world.delete(&pod("a", "n1")).await;
    assert!(may("n1", "get -/secrets/- csi/publish"));
    world.delete(&pod("b", "n1")).await;
    assert!(!may("n1", "get -/secrets/- csi/publish"));
    assert!(may("n2", "get -/secrets/- csi/publish"));
    // The volume is bound elsewhere, then gone.
    let moved = json!({"claimRef": secret("ns", "other"), "csi": {"driver": "d",
        "nodePublishSecretRef": secret("csi", "publish")}});
    world
        .put(&object("PersistentVolume", "", "pv", moved))
        .await;
    assert!(!may("n2", "get -/secrets/- csi/publish"));
    assert!(may("n2", "get -/secrets/- ns/here"));
    world
        .delete(&object("PersistentVolume", "", "ceph", json!({})))
        .await;
    assert!(!may("n2", "get -/secrets/- ns/here"));
}

#[tokio::test]
async fn mirror_pods_give_nothing_but_themselves() {
    let mut mirror = rich_pod();
    mirror["metadata"]["annotations"] = json!({MIRROR_KEY: "x", "other": "y"});
    let world = World::new(&[mirror]).await;
    let authorizer = Authorizer::new(&world.cache);
    let n1 = node("n1");
    assert_eq!(ask(&authorizer, &n1, "get -/pods/- ns/rich"), Ok(()));
    for question in [
        "get -/secrets/- ns/volume",
        "create -/serviceaccounts/token ns/account",
    ] {
        assert_eq!(ask(&authorizer, &n1, question).unwrap_err(), NO_RELATION);
    }
}

const MIRROR_KEY: &str = "kubernetes.io/config.mirror";

#[tokio::test]
async fn the_graph_holds_no_more_than_what_there_is() {
    let world = World::new(&[]).await;
    let graph = Graph::follow(&world.cache);
    let mut pod = rich_pod();
    for round in 0..3 {
        pod["spec"]["nodeName"] = json!(format!("n{round}"));
        world.put(&pod).await;
        pod["spec"]["containers"][0]["image"] = json!(format!("image{round}"));
        world.put(&pod).await;
        let volume = json!({"claimRef": {"namespace": "ns", "name": format!("c{round}")},
            "rbd": {"secretRef": {"name": "s"}}});
        world
            .put(&object("PersistentVolume", "", "pv", volume))
            .await;
        let (nodes, things, volumes, claims) = graph.size();
        assert_eq!((nodes, things, volumes, claims), (1, 27, 1, 1));
    }
    // What an ephemeral container names comes later.
    let later = json!({"name": "f", "envFrom": [{"configMapRef": {"name": "later"}}]});
    pod["spec"]["ephemeralContainers"]
        .as_array_mut()
        .unwrap()
        .push(later);
    world.put(&pod).await;
    assert!(graph.relates("n2", Thing::ConfigMap, "ns/later"));
    world.delete(&pod).await;
    world
        .delete(&object("PersistentVolume", "", "pv", json!({})))
        .await;
    assert_eq!(graph.size(), (0, 0, 0, 0));
}

#[tokio::test]
async fn bindings_add_to_what_a_node_may_and_reviews_tell() {
    let mut objects = defaults::objects();
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "more"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "none"},
        "subjects": [{"kind": "User", "name": "system:node:n1"}],
    }));
    let bound = objects
        .iter()
        .find(|o| o["kind"] == "ClusterRoleBinding" && o["metadata"]["name"] == "system:node")
        .unwrap();
    assert!(bound["subjects"].is_null(), "nodes have no role by default");
    let world = World::new(&objects).await;
    let authorizer = Authorizer::new(&world.cache);
    // Reasons of both authorizers.
    let refused = ask(&authorizer, &node("n1"), "get -/secrets/- ns/s").unwrap_err();
    assert_eq!(
        refused,
        format!("{NO_RELATION}\nRBAC: clusterrole.rbac.authorization.k8s.io \"none\" not found")
    );
    let spec = |selector: Value| {
        json!({"spec": {"user": "system:node:n2", "groups": ["system:nodes"],
            "resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": selector}}})
    };
    let status = |selector: Value| {
        review::subject_access(&authorizer, spec(selector)).map(|answer| answer["status"].clone())
    };
    let own = json!({"key": "spec.nodeName", "operator": "In", "values": ["n2"]});
    let allowed = json!({"allowed": true});
    assert_eq!(
        status(json!({"rawSelector": "spec.nodeName=n2"})).unwrap(),
        allowed
    );
    assert_eq!(status(json!({"requirements": [own]})).unwrap(), allowed);
    let partly = status(json!({"requirements": [own, {"key": "x", "operator": "Like"}]})).unwrap();
    assert_eq!(partly["allowed"], true);
    assert_eq!(
        partly["evaluationError"],
        "spec.resourceAttributes.fieldSelector partially ignored due to parse error"
    );
    let unread = status(json!({"rawSelector": "???"})).unwrap();
    assert_eq!(unread["allowed"], false);
    assert_eq!(
        unread["reason"],
        "can only list/watch pods with spec.nodeName field selector"
    );
    for wrong in [
        json!({}),
        json!({"rawSelector": "a=b", "requirements": [own]}),
        json!({"requirements": [{"key": "", "operator": "In", "values": ["n2"]}]}),
        json!({"requirements": [{"key": "a", "operator": "Exists", "values": ["n2"]}]}),
    ] {
        assert_eq!(status(wrong.clone()).unwrap_err().code, 422, "{wrong}");
    }
    let rules = json!({"spec": {"namespace": "ns"}});
    let rules = review::self_subject_rules(&authorizer, &node("n2"), rules).unwrap();
    assert_eq!(rules["status"]["incomplete"], true);
}
