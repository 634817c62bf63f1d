//! Tests of `endpoints`.

use super::*;
use serde_json::{Value, json};

fn service(spec: Value) -> Service {
    let mut service = json!({"metadata": {"name": "web", "namespace": "a", "uid": "svc",
        "labels": {"team": "x"}}, "spec": {"selector": {"app": "x"}, "clusterIP": "10.0.0.1",
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
    for (name, value) in spec.as_object().unwrap() {
        service["spec"][name] = value.clone();
    }
    serde_json::from_value(service).unwrap()
}

fn pod(n: usize, ready: bool, port: i32) -> Arc<Pod> {
    let ready = if ready { "True" } else { "False" };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("p{n}"), "namespace": "a", "uid": format!("u{n}"),
                "labels": {"app": "x"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c",
                "ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", n / 200, n % 200),
                "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap(),
    )
}

fn terminating(pod: &Arc<Pod>) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        jiff::Timestamp::UNIX_EPOCH,
    ));
    Arc::new(pod)
}

fn zone(_: &str) -> Option<String> {
    Some("z".to_owned())
}

/// Writes a plan into a list of slices, as the server would.
fn apply(known: &mut Vec<Arc<EndpointSlice>>, plan: slices::Plan) -> (usize, usize, usize) {
    let counts = (plan.create.len(), plan.update.len(), plan.delete.len());
    known.retain(|s| !plan.delete.iter().any(|d| Arc::ptr_eq(d, s)));
    for (old, new) in plan.update {
        let at = known.iter().position(|s| Arc::ptr_eq(s, &old)).unwrap();
        known[at] = Arc::new(new);
    }
    known.extend(plan.create.into_iter().map(Arc::new));
    counts
}

fn sizes(known: &[Arc<EndpointSlice>]) -> Vec<usize> {
    let mut sizes: Vec<usize> = known
        .iter()
        .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
        .collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn slices_follow_the_pods_with_few_writes() {
    let (service, mut known) = (service(json!({})), Vec::new());
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    let step = |pods: &[Arc<Pod>], known: &mut Vec<Arc<EndpointSlice>>| {
        let plan = slices::plan(&service, pods, known, &zone);
        let counts = apply(known, plan);
        let again = slices::plan(&service, pods, known, &zone);
        assert_eq!(
            (again.create.len(), again.update.len(), again.delete.len()),
            (0, 0, 0)
        );
        counts
    };
    assert_eq!(step(&pods, &mut known), (1, 0, 0), "a placeholder");
    pods.extend((0..250).map(|n| pod(n, true, 8080)));
    assert_eq!(step(&pods, &mut known), (3, 0, 1));
    assert_eq!(sizes(&known), [50, 100, 100]);
    pods[3] = pod(3, false, 8080);
    pods.push(pod(250, true, 8080));
    let (created, updated, deleted) = step(&pods, &mut known);
    assert_eq!((created, deleted), (0, 0));
    assert!(updated <= 2, "{updated}");
    pods.push(pod(251, true, 9090));
    assert_eq!(
        step(&pods, &mut known),
        (1, 0, 0),
        "other ports, another slice"
    );
    pods.truncate(1);
    step(&pods, &mut known);
    assert_eq!(sizes(&known), [1]);
    pods.clear();
    step(&pods, &mut known);
    assert_eq!(sizes(&known), [0]);
}

#[test]
fn an_endpoint_says_how_its_pod_is() {
    let (ready, unready) = (pod(1, true, 8080), pod(2, false, 8080));
    let ending = terminating(&pod(3, true, 8080));
    let pods = [ready, unready, ending];
    let show = |service: &Service| {
        let plan = slices::plan(service, &pods, &[], &zone);
        let slice = serde_json::to_value(&plan.create[0]).unwrap();
        let mut told: Vec<String> = slice["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| format!("{} {}", e["targetRef"]["name"], e["conditions"]))
            .collect();
        told.sort();
        (slice, told.join("\n").replace('"', ""))
    };
    let (slice, told) = show(&service(json!({})));
    assert_eq!(
        told,
        "p1 {ready:true,serving:true,terminating:false}\n\
         p2 {ready:false,serving:false,terminating:false}\n\
         p3 {ready:false,serving:true,terminating:true}"
    );
    assert_eq!(
        slice["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"team": "x", SERVICE_NAME: "web", MANAGED_BY: OURS})
    );
    assert_eq!(slice["endpoints"][0]["zone"], "z");
    let (_, told) = show(&service(json!({"publishNotReadyAddresses": true})));
    assert_eq!(told.matches("ready:true").count(), 3);
    let headless = service(json!({"clusterIP": "None", "ports": []}));
    let (slice, _) = show(&headless);
    assert_eq!(slice["metadata"]["labels"][HEADLESS], "");
    assert_eq!(slice["endpoints"].as_array().unwrap().len(), 3);

    let legacy = legacy::endpoints(&service(json!({})), &pods, None);
    let shown = serde_json::to_value(&legacy.subsets).unwrap();
    let address = |n: u32| {
        json!({"ip": format!("10.1.0.{n}"), "nodeName": "n", "targetRef":
        {"kind": "Pod", "namespace": "a", "name": format!("p{n}"), "uid": format!("u{n}")}})
    };
    assert_eq!(
        shown,
        json!([{"addresses": [address(1)], "notReadyAddresses": [address(2)],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}])
    );
}
