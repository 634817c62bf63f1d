//! The accounts of the control plane, and the tokens of anybody's: each controller does its work as
//! itself, by the rights that it has, and nothing is refused.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use testkit::{Cluster, Options, eventually};

use crate::support::{BUSYBOX, LIMIT, import_busybox};

const SYSTEM: &str = "system:serviceaccount:kube-system:";
const CORE: &str = "/api/v1/namespaces/work";
const APPS: &str = "/apis/apps/v1/namespaces/work";
const BATCH: &str = "/apis/batch/v1/namespaces/work";

/// Who must have done what, `account verb resource`; only what each needs its own rights for.
const DONE: &[&str] = &[
    "certificate-controller update certificatesigningrequests/status",
    "cronjob-controller create jobs",
    "cronjob-controller update cronjobs/status",
    "daemon-set-controller create controllerrevisions",
    "daemon-set-controller create pods",
    "daemon-set-controller update daemonsets/status",
    "deployment-controller create events",
    "deployment-controller create replicasets",
    "deployment-controller update deployments",
    "deployment-controller update deployments/status",
    "deployment-controller update replicasets",
    "endpoint-controller create endpoints",
    "endpointslice-controller create endpointslices",
    "endpointslicemirroring-controller create endpointslices",
    "generic-garbage-collector delete replicasets",
    "generic-garbage-collector patch replicasets",
    "job-controller create pods",
    "job-controller patch pods",
    "job-controller update jobs/status",
    "legacy-service-account-token-cleaner get configmaps",
    "namespace-controller deletecollection pods",
    "namespace-controller update namespaces/finalize",
    "node-controller delete pods",
    "node-controller patch pods/status",
    "node-controller update nodes",
    "pod-garbage-collector delete pods",
    "pod-garbage-collector patch pods/status",
    "pv-protection-controller update persistentvolumes",
    "pvc-protection-controller update persistentvolumeclaims",
    "replicaset-controller create pods",
    "replicaset-controller delete pods",
    "replicaset-controller patch pods",
    "replicaset-controller update replicasets/status",
    "replication-controller create pods",
    "replication-controller update replicationcontrollers/status",
    "resourcequota-controller list resourcequotas",
    "resourcequota-controller update resourcequotas/status",
    "root-ca-cert-publisher create configmaps",
    "service-account-controller create serviceaccounts",
    "statefulset-controller create controllerrevisions",
    "statefulset-controller create persistentvolumeclaims",
    "statefulset-controller create pods",
    "statefulset-controller update statefulsets/status",
    "token-cleaner delete secrets",
    "ttl-after-finished-controller delete jobs",
];

/// The API, by paths and JSON.
struct Api(Client);

impl Api {
    async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", format!("application/{kind}json"))
            .body(body.to_string().into_bytes())?;
        let sent = self.0.request(request).await;
        sent.with_context(|| format!("{path} with {body}"))
    }

    async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.0.request(Request::get(path).body(Vec::new())?).await?)
    }

    async fn make(&self, path: &str, name: &str, mut body: Value) -> Result<Value> {
        body["metadata"]["name"] = name.into();
        self.send(Method::POST, path, "", &body).await
    }

    async fn change(&self, path: &str, change: Value) -> Result<Value> {
        self.send(Method::PATCH, path, "merge-patch+", &change)
            .await
    }

    async fn delete(&self, path: &str, policy: &str) -> Result<Value> {
        let options = json!({"propagationPolicy": policy});
        self.send(Method::DELETE, path, "", &options).await
    }

    async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually(path, LIMIT * 2, async || {
            let object = self.get(path).await?;
            ensure!(holds(&object), "it is {object}");
            Ok(object)
        })
        .await
    }

    async fn gone(&self, path: &str) -> Result<()> {
        eventually(&format!("the end of {path}"), LIMIT * 2, async || {
            let there = self.get(path).await;
            let object = match there {
                Err(error) if error.to_string().contains("not found") => return Ok(()),
                there => there?,
            };
            anyhow::bail!("it is {object}")
        })
        .await
    }
}

/// A cluster that writes down who does what.
async fn audited() -> Result<(Cluster, Api)> {
    let mut cluster = Cluster::prepare(Options::default())?;
    let policy = cluster.scratch().join("policy.yaml");
    let rules = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
                 rules: [{level: Metadata}]\n";
    std::fs::write(&policy, rules)?;
    let (policy, log) = (policy.display().to_string(), log_of(&cluster));
    let log = log.display().to_string();
    let flags = ["--audit-policy-file", &policy, "--audit-log-path", &log];
    cluster.up_with(&flags).await?;
    let api = Api(cluster.client().await?);
    Ok((cluster, api))
}

fn log_of(cluster: &Cluster) -> std::path::PathBuf {
    cluster.scratch().join("audit.log")
}

/// What the audit log tells so far.
fn told(log: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log)?;
    // The last line may be in the making.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

fn field<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// `user verb resource` of an event.
fn what(event: &Value) -> String {
    let (verb, resource) = (field(event, "/verb"), field(event, "/objectRef/resource"));
    let user = field(event, "/user/username");
    match field(event, "/objectRef/subresource") {
        "" => format!("{user} {verb} {resource}"),
        sub => format!("{user} {verb} {resource}/{sub}"),
    }
}

/// Everybody could do what they tried, as who they are.
fn nobody_was_refused(events: &[Value]) -> Result<()> {
    for event in events {
        let decision = field(event, "/annotations/authorization.k8s.io~1decision");
        let user = field(event, "/user/username");
        ensure!(
            !user.starts_with("system:") || decision == "allow",
            "{event}"
        );
        let groups = event["user"]["groups"].as_array();
        let is_master = groups.is_some_and(|groups| groups.contains(&json!("system:masters")));
        let manager = field(event, "/userAgent") == "kube-controller-manager";
        ensure!(!(manager && is_master), "{event}");
    }
    Ok(())
}

fn template(labels: Value, script: &str) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": BUSYBOX, "command": ["sh", "-c", script]}]}})
}

fn workload(app: &str, spec: Value) -> Value {
    let labels = json!({"app": app});
    let mut body = json!({"metadata": {}, "spec": spec});
    body["spec"]["selector"] = json!({"matchLabels": labels});
    body["spec"]["template"] = template(labels, "sleep 1000");
    body
}

fn job() -> Value {
    let mut template = template(json!({}), "true");
    template["spec"]["restartPolicy"] = "Never".into();
    json!({"template": template})
}

/// The time so long from now, as the API writes it.
fn time(seconds: i64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Nobody owns the object.
fn unowned(object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_none_or(Vec::is_empty)
}

/// Deployments, and what they own.
async fn deployments(api: &Api) -> Result<()> {
    let path = format!("{APPS}/deployments/web");
    api.make(
        &format!("{APPS}/deployments"),
        "web",
        workload("web", json!({"replicas": 2})),
    )
    .await?;
    let available = |wanted: i64| {
        move |d: &Value| {
            d["status"]["updatedReplicas"] == wanted && d["status"]["availableReplicas"] == wanted
        }
    };
    api.until(&path, available(2)).await?;
    // A pod that no longer matches is let go; another takes its place.
    let pods = api
        .get(&format!("{CORE}/pods?labelSelector=app%3Dweb"))
        .await?;
    let pod = pods["items"][0]["metadata"]["name"]
        .as_str()
        .context("a pod")?;
    let labels = json!({"metadata": {"labels": {"app": "other"}}});
    api.change(&format!("{CORE}/pods/{pod}"), labels).await?;
    api.until(&format!("{CORE}/pods/{pod}"), unowned).await?;
    let change = json!({"spec": {"replicas": 1, "template": {"spec": {
        "terminationGracePeriodSeconds": 2}}}});
    api.change(&path, change).await?;
    let done = api
        .until(&path, |d| {
            available(1)(d) && d["status"]["observedGeneration"] == d["metadata"]["generation"]
        })
        .await?;
    // Who asked keeps what they asked for; the controller has what it told.
    let managers = done["metadata"]["managedFields"].as_array();
    let manager = |field: &str| {
        managers.into_iter().flatten().find_map(|entry| {
            let has = entry.pointer(&format!("/fieldsV1/f:{field}")).is_some();
            has.then(|| entry["manager"].as_str().unwrap_or_default())
        })
    };
    ensure!(
        manager("status") == Some("kube-controller-manager"),
        "{done}"
    );
    ensure!(
        !matches!(manager("spec"), None | Some("kube-controller-manager")),
        "{done}"
    );
    // What it owned is kept once, and goes with it the other time.
    let sets = format!("{APPS}/replicasets?labelSelector=app%3Dweb");
    api.delete(&path, "Orphan").await?;
    api.gone(&path).await?;
    let orphans = |sets: &Value| {
        let sets = sets["items"].as_array();
        sets.is_some_and(|sets| sets.len() == 2 && sets.iter().all(unowned))
    };
    api.until(&sets, orphans).await?;
    api.make(
        &format!("{APPS}/deployments"),
        "web",
        workload("web", json!({"replicas": 1})),
    )
    .await?;
    api.until(&path, |d| d["status"]["observedGeneration"] == 1)
        .await?;
    api.delete(&path, "Background").await?;
    api.gone(&path).await?;
    let none = |sets: &Value| sets["items"].as_array().is_some_and(Vec::is_empty);
    api.until(&sets, none).await?;
    Ok(())
}

async fn other_workloads(api: &Api) -> Result<()> {
    let set = workload("set", json!({"replicas": 1, "serviceName": "set"}));
    api.make(&format!("{APPS}/statefulsets"), "set", set)
        .await?;
    let claims = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}});
    let spec = json!({"replicas": 1, "serviceName": "set", "volumeClaimTemplates": [claims]});
    api.make(
        &format!("{APPS}/statefulsets"),
        "claims",
        workload("claims", spec),
    )
    .await?;
    api.make(
        &format!("{APPS}/daemonsets"),
        "every",
        workload("every", json!({})),
    )
    .await?;
    let mut controller = workload("older", json!({"replicas": 1}));
    controller["spec"]["selector"] = json!({"app": "older"});
    api.make(
        &format!("{CORE}/replicationcontrollers"),
        "older",
        controller,
    )
    .await?;
    let mut short = job();
    short["ttlSecondsAfterFinished"] = 0.into();
    api.make(&format!("{BATCH}/jobs"), "short", json!({"spec": short}))
        .await?;
    api.make(
        &format!("{BATCH}/cronjobs"),
        "often",
        json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job()}}}),
    )
    .await?;
    let since = json!({"status": {"lastScheduleTime": time(-120)}});
    api.change(&format!("{BATCH}/cronjobs/often/status"), since)
        .await?;

    let ready = |field: &'static str| move |object: &Value| object["status"][field] == 1;
    api.until(&format!("{APPS}/statefulsets/set"), ready("readyReplicas"))
        .await?;
    api.until(&format!("{APPS}/daemonsets/every"), ready("numberReady"))
        .await?;
    let older = format!("{CORE}/replicationcontrollers/older");
    api.until(&older, ready("readyReplicas")).await?;
    api.gone(&format!("{BATCH}/jobs/short")).await?;
    let succeeded = |jobs: &Value| {
        let jobs = jobs["items"].as_array();
        jobs.is_some_and(|jobs| jobs.iter().any(|job| job["status"]["succeeded"] == 1))
    };
    api.until(&format!("{BATCH}/jobs"), succeeded).await?;
    let protected = |object: &Value| object["metadata"]["finalizers"].is_array();
    let claim = format!("{CORE}/persistentvolumeclaims/data-claims-0");
    api.until(&claim, protected).await?;
    // Let go again: nobody mounts it.
    api.delete(&format!("{APPS}/statefulsets/claims"), "Foreground")
        .await?;
    api.gone(&format!("{APPS}/statefulsets/claims")).await?;
    api.delete(&claim, "Background").await?;
    api.gone(&claim).await?;
    let volume = json!({"spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/tmp"}}});
    let volumes = "/api/v1/persistentvolumes";
    api.make(volumes, "v", volume).await?;
    api.until(&format!("{volumes}/v"), protected).await?;
    api.delete(&format!("{volumes}/v"), "Background").await?;
    api.gone(&format!("{volumes}/v")).await
}

async fn services(api: &Api) -> Result<()> {
    let port = json!([{"port": 80}]);
    let services = format!("{CORE}/services");
    let spec = json!({"selector": {"app": "set"}, "ports": port});
    api.make(&services, "chosen", json!({"spec": spec})).await?;
    api.make(&services, "byhand", json!({"spec": {"ports": port}}))
        .await?;
    let subsets = json!([{"addresses": [{"ip": "192.0.2.7"}], "ports": port}]);
    api.make(
        &format!("{CORE}/endpoints"),
        "byhand",
        json!({"subsets": subsets}),
    )
    .await?;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/work/endpointslices";
    let one = |slices: &Value| {
        let slices = slices["items"].as_array();
        slices.is_some_and(|s| s.len() == 1 && !s[0]["endpoints"][0]["addresses"].is_null())
    };
    for name in ["chosen", "byhand"] {
        let of = format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3D{name}");
        api.until(&of, one).await?;
    }
    let addressed = |e: &Value| e["subsets"][0]["addresses"].is_array();
    api.until(&format!("{CORE}/endpoints/chosen"), addressed)
        .await
        .map(drop)
}

/// What is looked after and belongs to no workload.
async fn housekeeping(cluster: &Cluster, api: &Api) -> Result<()> {
    let quota = json!({"spec": {"hard": {"pods": "50", "count/secrets": "50"}}});
    api.make(&format!("{CORE}/resourcequotas"), "q", quota)
        .await?;
    api.until(&format!("{CORE}/resourcequotas/q"), |q| {
        q["status"]["used"]["pods"].is_string()
    })
    .await?;
    let key = rcgen::KeyPair::generate()?;
    let mut asked = rcgen::CertificateParams::default();
    asked.distinguished_name = rcgen::DistinguishedName::new();
    asked
        .distinguished_name
        .push(rcgen::DnType::CommonName, "jane");
    let pem = asked.serialize_request(&key)?.pem()?;
    let csrs = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let spec = json!({"request": STANDARD.encode(pem), "usages": ["client auth"],
        "signerName": "kubernetes.io/kube-apiserver-client"});
    let mut csr = api.make(csrs, "jane", json!({"spec": spec})).await?;
    csr["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "Test"}]);
    let approval = format!("{csrs}/jane/approval");
    api.send(Method::PUT, &approval, "", &csr).await?;
    api.until(&format!("{csrs}/jane"), |csr| {
        csr["status"]["certificate"].is_string()
    })
    .await?;
    let over = json!({"type": "bootstrap.kubernetes.io/token", "stringData": {
        "token-id": "abcdef", "token-secret": "0123456789abcdef", "expiration": time(-60)}});
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    api.make(secrets, "bootstrap-token-abcdef", over).await?;
    api.gone(&format!("{secrets}/bootstrap-token-abcdef"))
        .await?;
    // A pod on a node that is not there, and pods on one that nobody may stay on.
    let mut lost = template(json!({}), "true");
    lost["spec"]["nodeName"] = "ghost".into();
    api.make(&format!("{CORE}/pods"), "lost", lost).await?;
    api.gone(&format!("{CORE}/pods/lost")).await?;
    let node = format!("/api/v1/nodes/{}", cluster.node_name());
    let taint = json!([{"key": "away", "value": "x", "effect": "NoExecute"}]);
    api.change(&node, json!({"spec": {"taints": taint}}))
        .await?;
    let set = format!("{CORE}/pods/set-0");
    let before = api.get(&set).await?["metadata"]["uid"].clone();
    eventually("the eviction", LIMIT, async || {
        let now = api.get(&set).await;
        let is_gone = now.is_err() || now.is_ok_and(|pod| pod["metadata"]["uid"] != before);
        ensure!(is_gone, "the pod is still there");
        Ok(())
    })
    .await?;
    api.change(
        &node,
        json!({"spec": {"taints": [], "unschedulable": true}}),
    )
    .await?;
    let tainted = |node: &Value| node["spec"]["taints"][0]["effect"] == "NoSchedule";
    api.until(&node, tainted).await.map(drop)
}

#[test]
fn each_controller_works_as_itself() {
    testkit::isolated(async || {
        let (cluster, api) = audited().await?;
        import_busybox(&cluster)?;
        api.make("/api/v1/namespaces", "work", json!({})).await?;
        let account = format!("{CORE}/serviceaccounts/default");
        eventually("the account", LIMIT, async || api.get(&account).await).await?;
        deployments(&api).await?;
        other_workloads(&api).await?;
        services(&api).await?;
        housekeeping(&cluster, &api).await?;
        api.delete("/api/v1/namespaces/work", "Background").await?;
        api.gone("/api/v1/namespaces/work").await?;

        // Events are written a moment after what they tell of.
        eventually("all of the work", LIMIT, async || {
            let events = told(&log_of(&cluster))?;
            let done = |line: &str| {
                let wanted = format!("{SYSTEM}{line}");
                events.iter().any(|event| {
                    let code = event["responseStatus"]["code"].as_i64();
                    what(event) == wanted && code.is_some_and(|code| code < 300)
                })
            };
            let missing: Vec<_> = DONE.iter().filter(|line| !done(line)).collect();
            ensure!(missing.is_empty(), "nobody did: {missing:#?}");
            Ok(())
        })
        .await?;
        nobody_was_refused(&told(&log_of(&cluster))?)
    });
}

/// A client that shows a token.
async fn bearer(cluster: &Cluster, token: &str) -> Result<Api> {
    let path = cluster.kubeconfig();
    let config = kube::config::Kubeconfig::read_from(path)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
            .await?;
    config.auth_info = kube::config::AuthInfo {
        token: Some(token.to_owned().into()),
        ..kube::config::AuthInfo::default()
    };
    Ok(Api(Client::try_from(config)?))
}

/// Who a client is, if anybody.
async fn whoami(api: &Api) -> Result<String> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let told = api.send(Method::POST, path, "", &review).await?;
    Ok(field(&told, "/status/userInfo/username").to_owned())
}

#[test]
fn a_secret_gets_a_token_and_goes_with_its_account() {
    testkit::isolated(async || {
        let (cluster, api) = audited().await?;
        let space = "/api/v1/namespaces/default";
        let (accounts, secrets) = (
            format!("{space}/serviceaccounts"),
            format!("{space}/secrets"),
        );
        let listed = json!({"secrets": [{"name": "first"}, {"name": "elsewhere"}]});
        api.make(&accounts, "robot", listed).await?;
        let of = json!({"kubernetes.io/service-account.name": "robot"});
        let empty = json!({"metadata": {"annotations": of},
            "type": "kubernetes.io/service-account-token"});
        for name in ["first", "second"] {
            api.make(&secrets, name, empty.clone()).await?;
        }
        let filled = async |name: &str| {
            let path = format!("{secrets}/{name}");
            let has_token = |secret: &Value| secret["data"]["token"].is_string();
            api.until(&path, has_token).await
        };
        let secret = filled("first").await?;
        let data = |name: &str| -> Result<String> {
            let text = secret["data"][name].as_str().context("a value")?;
            Ok(String::from_utf8(STANDARD.decode(text)?)?)
        };
        ensure!(data("namespace")? == "default", "{secret}");
        let published = api
            .until(&format!("{space}/configmaps/kube-root-ca.crt"), |_| true)
            .await?;
        ensure!(
            published["data"]["ca.crt"] == data("ca.crt")?,
            "{published}"
        );
        let account = api.get(&format!("{accounts}/robot")).await?;
        let uid = &secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"];
        ensure!(account["metadata"]["uid"] == *uid, "{secret}");
        let robot = bearer(&cluster, &data("token")?).await?;
        let who = whoami(&robot).await?;
        ensure!(who == "system:serviceaccount:default:robot", "{who}");

        // What is taken away comes back; who removes the Secret frees the account of it.
        let change = json!({"data": {"namespace": null, "ca.crt": "b2xk"}});
        api.change(&format!("{secrets}/first"), change).await?;
        api.until(&format!("{secrets}/first"), |now| {
            now["data"] == secret["data"]
        })
        .await?;
        api.delete(&format!("{secrets}/first"), "Background")
            .await?;
        api.until(&format!("{accounts}/robot"), |account| {
            account["secrets"] == json!([{"name": "elsewhere"}])
        })
        .await?;
        ensure!(whoami(&robot).await.is_err(), "its Secret is gone");

        let second = filled("second").await?;
        let token = second["data"]["token"].as_str().context("a token")?;
        let robot = bearer(&cluster, &String::from_utf8(STANDARD.decode(token)?)?).await?;
        whoami(&robot).await?;
        api.delete(&format!("{accounts}/robot"), "Background")
            .await?;
        api.gone(&format!("{secrets}/second")).await?;
        ensure!(whoami(&robot).await.is_err(), "its account is gone");
        // One that names nobody does not stay.
        api.make(&secrets, "third", empty).await?;
        api.gone(&format!("{secrets}/third")).await?;
        nobody_was_refused(&told(&log_of(&cluster))?)
    });
}
