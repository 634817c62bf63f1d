//! Whether aggregated servers can be reached: looked at when something about them changes, and every
//! half minute, because nobody tells when a server or the way to it is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use serde_json::Value;
use stdx::Backoff;
use tokio::time::Instant;

use super::conditions::{self, Availability};
use super::{ApiService, GROUP, Learned, Remote, local, proxy, remotes};
use crate::auth::user::{AUTHENTICATED, MASTERS, User};
use crate::http::empty_body;
use crate::outbound::{self, CallError, Endpoint, Limits};
use crate::state::State;

/// How often a server is asked that answers.
const PERIOD: Duration = Duration::from_secs(30);
/// The largest document that is taken from a server.
const DOCUMENT_LIMIT_BYTES: usize = 16 << 20;
/// How long a server may take to show its discovery document.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// The least time between two looks: changes come in bunches.
const PAUSE: Duration = Duration::from_millis(100);

/// When a server was looked at.
struct Looked {
    /// Of which state of the objects.
    inputs: Vec<u64>,
    due: Instant,
    backoff: Backoff,
}

/// Keeps the conditions of remote APIServices until the drain.
pub(crate) async fn run(state: Arc<State>) {
    let kinds = [
        state.cache.kind(GROUP, super::PLURAL),
        state.core("services"),
        state.cache.kind("discovery.k8s.io", "endpointslices"),
    ];
    let mut changes = kinds.each_ref().map(|kind| kind.subscribe());
    let mut looked: BTreeMap<String, Looked> = BTreeMap::new();
    loop {
        let services = remotes(&state);
        state.aggregation.forget_others(&services);
        looked.retain(|name, _| services.iter().any(|service| service.name == *name));
        for service in services.iter() {
            look(&state, service, &mut looked).await;
        }
        let next = looked.values().map(|looked| looked.due).min();
        let next = next.unwrap_or_else(|| Instant::now() + PERIOD);
        let [services, ports, slices] = &mut changes;
        tokio::select! {
            () = state.drain.cancelled() => return,
            changed = services.changed() => if changed.is_err() { return },
            changed = ports.changed(), if !looked.is_empty() => if changed.is_err() { return },
            changed = slices.changed(), if !looked.is_empty() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(state: &Arc<State>, service: &ApiService, looked: &mut BTreeMap<String, Looked>) {
    let Some(remote) = &service.remote else {
        return;
    };
    let Some(object) = state
        .cache
        .kind(GROUP, super::PLURAL)
        .get("", &service.name)
    else {
        return;
    };
    let object = object.value();
    let (target, slices, mut inputs) = observe(state, remote);
    inputs.push(hash(&object["spec"]));
    let now = Instant::now();
    let entry = looked
        .entry(service.name.clone())
        .or_insert_with(|| Looked {
            inputs: Vec::new(),
            due: now,
            backoff: Backoff::new(Duration::from_millis(200), PERIOD),
        });
    if entry.inputs == inputs && now < entry.due {
        return;
    }
    if entry.inputs != inputs {
        entry.backoff.reset();
    }
    entry.inputs = inputs;
    let (namespace, name) = (&remote.namespace, &remote.service);
    let found = conditions::objections(namespace, name, remote.port, target.as_ref(), &slices);
    let availability = match found {
        Some(lacking) => lacking,
        None => ask(state, service, remote).await,
    };
    entry.due = Instant::now()
        + if availability.available {
            entry.backoff.reset();
            PERIOD
        } else {
            entry.backoff.next()
        };
    if let Err(error) = local::say(state, &service.name, &object, &availability).await {
        tracing::warn!(name = service.name, "the status of an APIService: {error}");
    }
}

/// The objects that a remote server's way leads through, and what tells one state of them from
/// another.
fn observe(state: &State, remote: &Remote) -> (Option<Value>, Vec<Value>, Vec<u64>) {
    let service = state
        .core("services")
        .get(&remote.namespace, &remote.service);
    let mut inputs = vec![service.as_ref().map_or(0, |service| service.revision.0)];
    let kind = state.cache.kind("discovery.k8s.io", "endpointslices");
    let mut slices = Vec::new();
    for slice in kind.list(Some(&remote.namespace)) {
        let labels = slice.labels.as_ref();
        let of = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        if of.and_then(Value::as_str) == Some(&remote.service) {
            inputs.push(slice.revision.0);
            slices.push(slice.value());
        }
    }
    (service.map(|service| service.value()), slices, inputs)
}

fn hash(value: &Value) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Asks a server for its discovery document, and learns what it serves.
async fn ask(state: &State, service: &ApiService, remote: &Remote) -> Availability {
    let failed = |message: String| Availability::lacking("FailedDiscoveryCheck", message);
    let endpoint = match &remote.endpoint {
        Ok(endpoint) => endpoint,
        Err(why) => return failed(why.clone()),
    };
    let path = format!("/apis/{}/{}", service.group, service.version);
    let url = format!("https://{}{path}", endpoint.authority);
    let resources = match get(state, endpoint, &path).await {
        Ok((200..=299, document)) => document,
        Ok((code, _)) => {
            let why =
                format!("failing or missing response from {url}: bad status from {url}: {code}");
            return failed(why);
        }
        Err(error) => {
            let why = format!("failing or missing response from {url}: Get {url:?}: {error}");
            return failed(why);
        }
    };
    let mut learned = Learned {
        uid: service.uid.clone(),
        resources,
        ..Learned::default()
    };
    if let Ok((200, index)) = get(state, endpoint, "/openapi/v3").await {
        let key = path.trim_start_matches('/');
        learned.openapi_v3 = index.get("paths").and_then(|paths| paths.get(key)).cloned();
    }
    if let Ok((200, document)) = get(state, endpoint, "/openapi/v2").await {
        learned.openapi_v2 = document;
    }
    state.aggregation.learn(service, learned);
    Availability::passed()
}

/// A JSON document of a server, as this server itself; null where it is none.
async fn get(state: &State, to: &Endpoint, path: &str) -> Result<(u16, Value), CallError> {
    let user = User {
        name: "system:kube-aggregator".to_owned(),
        groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()],
        ..User::default()
    };
    let mut request = Request::new(empty_body());
    *request.uri_mut() = outbound::uri(to, path)?;
    let json = http::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    proxy::put_user(request.headers_mut(), &user);
    let limits = Limits {
        time: CHECK_LIMIT,
        answer_bytes: DOCUMENT_LIMIT_BYTES,
    };
    let identity = state.aggregation.identity();
    let (status, bytes) = state
        .outbound
        .fetch(to, identity.as_ref(), request, limits)
        .await?;
    let document = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok((status.as_u16(), document))
}
