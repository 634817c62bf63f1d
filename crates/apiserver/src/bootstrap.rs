//! What every cluster has from its first moment: namespaces, default roles, priority classes, and
//! the Service by which pods reach this server.
//!
//! Invariant: only what is missing is written, many at a time (the store commits them together).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::resource;
use api::status::ApiError;
use api::{meta, schema};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::aggregation;
use crate::auth::defaults;
use crate::error::StartError;
use crate::fairness::bootstrap as fairness;
use crate::pipeline::{Call, create, update};
use crate::servers::{self, Servers};
use crate::state::State;

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// How many objects are written at the same time.
const PARALLEL: usize = 256;

/// What to do with an object that is there already.
#[derive(Clone, Copy)]
enum Existing {
    /// It is left alone.
    Keep,
    /// Missing rules are added.
    Rbac,
    /// Its content is made what it should be.
    Replace,
    /// Its spec is, if nobody has made it his own.
    Fairness {
        /// Nobody may.
        mandatory: bool,
    },
}

/// Makes what is missing.
pub(crate) async fn run(state: &Arc<State>, ca_pem: &str) -> Result<(), StartError> {
    let namespaces = NAMESPACES
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    ensure_all(state, namespaces.map(|n| (n, Existing::Keep)).collect()).await?;
    let mut rest: Vec<(Value, Existing)> = defaults::objects()
        .into_iter()
        .map(|o| (o, Existing::Rbac))
        .collect();
    let servers = servers::all(state).await.map_err(StartError::Load)?;
    rest.extend(own_service(state, &servers));
    rest.extend(priority_classes());
    rest.extend(fairness::objects().into_iter().map(|wanted| {
        let existing = Existing::Fairness {
            mandatory: wanted.mandatory,
        };
        (wanted.object, existing)
    }));
    rest.push((
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": extension_authentication(state, ca_pem)}),
        Existing::Replace,
    ));
    rest.push((
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [state.addresses.network().to_string()]}}),
        Existing::Keep,
    ));
    ensure_all(state, rest).await?;
    aggregation::at_start(state)
        .await
        .map_err(|error| StartError::Bootstrap {
            what: "the APIServices".to_owned(),
            message: error.message,
        })
}

/// What extension servers need to know whom to believe.
fn extension_authentication(state: &State, ca_pem: &str) -> Value {
    let mut data = json!({"client-ca-file": ca_pem});
    if let Some(front) = state.aggregation.front_proxy() {
        data["requestheader-client-ca-file"] = front.ca_pem.as_str().into();
        for (name, list) in [
            ("allowed-names", front.name.as_str()),
            ("username-headers", "X-Remote-User"),
            ("uid-headers", "X-Remote-Uid"),
            ("group-headers", "X-Remote-Group"),
            ("extra-headers-prefix", "X-Remote-Extra-"),
        ] {
            data[format!("requestheader-{name}")] = json!([list]).to_string().into();
        }
    }
    data
}

/// Makes `default/kubernetes` lead to these servers.
pub(crate) async fn lead_to(state: &Arc<State>, servers: &Servers) -> Result<(), StartError> {
    ensure_all(state, own_service(state, servers)).await
}

async fn ensure_all(state: &Arc<State>, objects: Vec<(Value, Existing)>) -> Result<(), StartError> {
    futures::stream::iter(objects.into_iter().map(|(object, existing)| async move {
        let what = format!(
            "{} {}/{}",
            object["kind"].as_str().unwrap_or_default(),
            meta::namespace(&object),
            meta::name(&object)
        );
        ensure(state, object, existing)
            .await
            .map_err(|error| StartError::Bootstrap {
                what,
                message: error.message,
            })
    }))
    .buffer_unordered(PARALLEL)
    .try_collect::<Vec<()>>()
    .await
    .map(|_| ())
}

async fn ensure(state: &Arc<State>, mut object: Value, existing: Existing) -> Result<(), ApiError> {
    let text = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (group, version) = resource::split_api_version(text("apiVersion"));
    let res = resource::by_kind(group, version, text("kind")).ok_or_else(ApiError::no_such_path)?;
    let call = Call::internal(state, res, meta::namespace(&object), meta::name(&object));
    schema::apply_defaults(res, &mut object);
    if state.kind(res).get_key(&call.local()).is_none() {
        return match create::create(&call, object).await {
            Err(error) if error.reason != "AlreadyExists" => Err(error),
            _ => Ok(()),
        };
    }
    match existing {
        Existing::Keep => Ok(()),
        Existing::Rbac => {
            let Some(there) = state.kind(res).get_key(&call.local()) else {
                return Ok(());
            };
            if defaults::reconcile(&there.value(), &object).is_none() {
                return Ok(());
            }
            let reconciled =
                |old: &Value| Ok(defaults::reconcile(old, &object).unwrap_or_else(|| old.clone()));
            update::change(&call, reconciled).await.map(|_| ())
        }
        Existing::Fairness { mandatory } => {
            let wanted = fairness::Wanted { object, mandatory };
            let reconciled =
                |old: &Value| Ok(fairness::reconcile(old, &wanted).unwrap_or_else(|| old.clone()));
            update::change(&call, reconciled).await.map(|_| ())
        }
        Existing::Replace => {
            let replaced = |old: &Value| {
                let mut new = old.clone();
                for (name, value) in object.as_object().into_iter().flatten() {
                    match (name.as_str(), value) {
                        ("metadata", _) => {}
                        // Server-made members of a spec stay.
                        ("spec", Value::Object(members)) => {
                            for (name, value) in members {
                                new["spec"][name.as_str()] = value.clone();
                            }
                        }
                        (name, value) => new[name] = value.clone(),
                    }
                }
                Ok(new)
            };
            update::change(&call, replaced).await.map(|_| ())
        }
    }
}

fn priority_classes() -> Vec<(Value, Existing)> {
    [
        ("system-cluster-critical", 2_000_000_000_i64, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
        ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
    ]
    .into_iter()
    .map(|(name, value, description)| {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description});
        (class, Existing::Keep)
    })
    .collect()
}

/// `default/kubernetes`, and where it leads. A slice has one port for all of its endpoints: it shows
/// the servers with the port that most of them have.
fn own_service(state: &State, servers: &Servers) -> Vec<(Value, Existing)> {
    let first = state.addresses.first().to_string();
    let mut ports: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for server in servers {
        let same = ports.entry(server.port()).or_default();
        same.push(server.ip().to_string());
    }
    let most = ports.iter().rev().max_by_key(|(_, ips)| ips.len());
    let (main_port, main) = most.map_or((state.advertise.port(), &[][..]), |(port, ips)| {
        (*port, ips.as_slice())
    });
    let family = if state.advertise.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    let port = |number: u16| json!({"name": "https", "port": number, "protocol": "TCP"});
    let subsets: Vec<Value> = ports
        .iter()
        .map(|(number, ips)| {
            let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"addresses": addresses, "ports": [port(*number)]})
        })
        .collect();
    let endpoints: Vec<Value> = main
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": first, "clusterIPs": [first],
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": main_port}]},
    });
    let old = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets,
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": endpoints,
        "ports": [port(main_port)],
    });
    [service, old, slice]
        .map(|object| (object, Existing::Replace))
        .into()
}
